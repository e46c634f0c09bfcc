//! Standard output and standard error that may be gone or full: writing to them never panics.
//!
//! The standard library's `println!` and `eprintln!` panic where a write fails: `trine-lab compare A B | head -1` would end as
//! if it had crashed. `eprintln!` of this module shadows the library's in the whole program; results go out by [`result`].

use std::fmt;
use std::io::{self, ErrorKind, Write as _};

/// Writes to standard error, in one piece, as far as that can be done: nobody is left to be told of a failure.
macro_rules! eprint {
    ($($text:tt)*) => { $crate::output::say(format_args!($($text)*)) };
}

/// Prints like `eprint!`, with a line's end.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::output::say(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints for the `eprintln!` of this module.
pub fn say(text: fmt::Arguments<'_>) {
    let mut error = io::stderr().lock();
    let _ = error.write_all(text.to_string().as_bytes()).and_then(|()| error.flush());
}

/// Writes a result to standard output. A reader that has gone, as `head` does when it has seen enough, is no failure.
pub fn result(text: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes a line to standard output, as [`result`] does.
pub fn line(text: impl fmt::Display) -> io::Result<()> {
    result(format!("{text}\n").as_bytes())
}
