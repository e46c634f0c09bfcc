//! Standard output and standard error that may be gone, full or slow: writing to them never panics.
//!
//! The standard library's `println!` and `eprintln!` panic where a write fails: `trine check DIR | head -1` would end as if
//! the directory were damaged. `eprintln!` of this module shadows the library's in all of `io`; results go out by [`result`].

use std::{
    fmt,
    io::{self, ErrorKind, Write as _},
};

/// Writes to standard error, in one piece, as far as that can be done: nobody is left to be told of a failure.
macro_rules! eprint {
    ($($text:tt)*) => { $crate::io::output::say(format_args!($($text)*)) };
}

/// Prints like `eprint!`, with a line's end.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::io::output::say(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints for the `eprintln!` of this module.
pub fn say(text: fmt::Arguments<'_>) {
    let mut error = io::stderr().lock();
    let _ = error.write_all(text.to_string().as_bytes()).and_then(|()| error.flush());
}

/// Writes a result to standard output. Returns false if its reader has gone, as `head` does when it has seen enough; that is
/// no failure.
///
/// # Errors
/// What the system says where the result is lost: a full disk.
pub fn result(text: &[u8]) -> io::Result<bool> {
    let mut output = io::stdout().lock();
    unless_gone(output.write_all(text).and_then(|()| output.flush()))
}

/// Returns false for a write that failed because its reader has gone.
///
/// # Errors
/// What else it failed for.
pub fn unless_gone(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}
