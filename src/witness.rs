//! For the simulator: the requests that shards execute, in order, as they were asked and answered, and the keys that go by
//! themselves.

use std::cell::RefCell;

/// The words of a request.
pub(crate) type Words = Vec<Vec<u8>>;

/// A request that was executed, or refused.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) words: Words,
    pub(crate) reply: Vec<u8>,
    pub(crate) unix_millis: u64,
    /// The positions of the end of the log before it and behind it.
    pub(crate) log: (u64, u64),
}

/// An observation.
#[derive(Debug)]
pub(crate) enum Note {
    /// The client of this place was answered by its own core alone.
    Answered(usize, Executed),
    /// The request of the client of this place goes to other cores, or to several, under this ticket.
    Away(usize, u64),
    /// The next observation is for a request of another core: its number, the place and the generation of the client there, the ticket.
    For(usize, (u32, u32), u64),
    /// A request that was passed on was executed here.
    Passed(Executed),
    /// The request of the client of this place, or else one that was passed on, is not executed: its values can't be had.
    Failed(Option<usize>),
    /// A key was evicted; the position of the end of the log behind its record.
    Evicted(Vec<u8>, u64),
    /// A key that had expired was swept away; the position of the end of the log behind its record.
    Swept(Vec<u8>, u64),
}

thread_local! {
    static NOTES: RefCell<Option<Vec<Note>>> = const { RefCell::new(None) };
}

/// Begins to observe, on this thread.
pub(crate) fn begin() {
    NOTES.set(Some(Vec::new()));
}

/// Takes what was observed since the last time.
pub(crate) fn take() -> Vec<Note> {
    NOTES.with_borrow_mut(|notes| notes.as_mut().map(std::mem::take).unwrap_or_default())
}

/// Notes an observation, if somebody observes.
pub(crate) fn note(what: impl FnOnce() -> Note) {
    NOTES.with_borrow_mut(|notes| {
        if let Some(notes) = notes {
            notes.push(what());
        }
    });
}
