//! The log: the records that a shard writes so that it can be recovered, and their recovery.
//!
//! A shard's changes are a stream of [records](Record). A position in that stream, in bytes, is an [`Lsn`]. The stream is
//! cut into [frames](frame), each written and synced in one operation, one at a time; frames fill files of a fixed size, the
//! **segments**. A **snapshot** is a file of the same frames whose records are every key that was live. `README.md` beside
//! this file draws the bytes.
//!
//! This module decides and does no I/O: [`Log`] says what to write and which replies have to wait for it, [`Recovery`] says
//! what to read and what to trust. [`crate::engine`] decides when; [`Files`](files::Files) do the reads and writes.

pub mod aligned;
#[cfg(test)]
pub(crate) mod disk;
pub mod files;
pub mod frame;
mod hint;
mod job;
mod log;
pub(crate) mod names;
mod place;
mod record;
mod recovery;
pub mod room;
mod slots;

pub use aligned::Aligned;
pub use files::Left;
pub use hint::{Hinting, Line, NoHint, Placed, each_line};
pub use job::{Desk, Done, Job, LogBegun, Segment};
pub use log::{Log, Value};
pub use place::{At, SEGMENT_NUMBERS_END, Where, each_value};
pub use record::{Malformed, REMOVAL_BYTES, Record};
pub use recovery::{Damage, FileInfo, Found, Lost, Problem, Recovery, Report, Spot, Step};
pub use slots::{SLOT_SET_BYTES, SlotSet, Versions, each_run};

/// A position in a shard's stream of records: the number of bytes of records before it.
///
/// Positions never decrease, survive restarts, and are the same in every copy of the stream.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Returns the position `bytes` further on.
    #[must_use]
    pub fn after(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}
