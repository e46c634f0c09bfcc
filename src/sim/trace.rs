//! The trace of a seed, a line an event: nothing is written down until a seed is run again because it failed.

use std::{cell::RefCell, collections::VecDeque, fmt};

/// Lines that are printed of a seed that failed.
const LINES_MAX: usize = 300;
/// Characters of a line.
const LINE_MAX: usize = 200;

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

struct Trace {
    lines: VecDeque<String>,
    lines_max: usize,
}

/// Begins to write down what happens. `is_all`: all of it.
pub(super) fn begin(is_all: bool) {
    TRACE.set(Some(Trace { lines: VecDeque::new(), lines_max: if is_all { usize::MAX } else { LINES_MAX } }));
}

/// Ends that, and returns the last of what has happened.
pub(super) fn end() -> String {
    let trace = TRACE.take();
    trace.map_or_else(String::new, |trace| trace.lines.iter().map(|line| format!("{line}\n")).collect())
}

pub(super) fn is_on() -> bool {
    TRACE.with_borrow(Option::is_some)
}

/// Writes a line down, if anybody wants to read it.
pub(super) fn line(text: fmt::Arguments<'_>) {
    TRACE.with_borrow_mut(|trace| {
        let Some(trace) = trace else { return };
        if trace.lines.len() == trace.lines_max {
            trace.lines.pop_front();
        }
        let mut line = format!("{:>11} {text}", super::clock::now_us());
        if let Some((end, _)) = line.char_indices().nth(LINE_MAX) {
            line.truncate(end);
            line.push('…');
        }
        trace.lines.push_back(line);
    });
}

/// Writes a line down: server and core, and what happens there.
macro_rules! trace {
    ($($text:tt)*) => {
        if $crate::sim::trace::is_on() {
            $crate::sim::trace::line(format_args!($($text)*));
        }
    };
}
pub(super) use trace;

/// A request or a reply, as a reader likes it.
pub(super) fn words(words: &[Vec<u8>]) -> String {
    words.iter().map(|word| short(word)).collect::<Vec<_>>().join(" ")
}

/// Bytes, or their beginning.
pub(super) fn short(bytes: &[u8]) -> String {
    match bytes.len() {
        0..60 => bytes.escape_ascii().to_string(),
        length => format!("{}…({length})", bytes[..40].escape_ascii()),
    }
}
