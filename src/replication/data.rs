//! The store and the log, as far as copies need them.

use super::version::Version;
use crate::{slot::Slot, wal::Lsn};

/// A record that makes no sense, or is for a key of another slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadRecord;

/// An effect of another core, to be applied and logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Change<'a> {
    /// The slot.
    pub slot: Slot,
    /// The record's bytes.
    pub record: &'a [u8],
    /// The version that the copy has then; `None`: it stays unknown.
    pub version: Option<Version>,
}

/// A core's keys with the log behind them. All changes are logged before the call returns; none is on disk yet.
pub trait Data {
    /// Returns the version of a slot's copy; `None`: it is unknown.
    fn version(&self, slot: Slot) -> Option<Version>;

    /// Gives a slot's copy a version, or marks it as unknown.
    fn set_version(&mut self, slot: Slot, version: Option<Version>);

    /// Applies the effects of one command, all of them or none.
    ///
    /// # Errors
    /// [`BadRecord`]: nothing has changed.
    fn apply(&mut self, changes: &[Change<'_>]) -> Result<(), BadRecord>;

    /// Puts a key that a primary has sent to repair the slot. Its version does not change.
    ///
    /// # Errors
    /// [`BadRecord`]: nothing has changed.
    fn repair(&mut self, slot: Slot, record: &[u8]) -> Result<(), BadRecord>;

    /// Calls `each` with the keys that a record is about, which are all of this slot.
    ///
    /// # Errors
    /// [`BadRecord`].
    fn each_key(&self, slot: Slot, record: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), BadRecord>;

    /// Calls `each` with keys of a slot and the records that put them, from a cursor on; 0 begins. Returns the cursor to go on
    /// with, or `None` at the end. A key that is there from begin to end is met, at least once. One call takes little time.
    fn walk(&self, slot: Slot, cursor: u64, each: &mut dyn FnMut(&[u8], &[u8])) -> Option<u64>;

    /// Returns the number of keys in a slot.
    fn keys(&self, slot: Slot) -> u64;

    /// Removes the keys of a slot that this returns false for.
    fn retain(&mut self, slot: Slot, is_kept: &mut dyn FnMut(&[u8]) -> bool);

    /// Returns the end of the log: the position behind the last change.
    fn end(&self) -> Lsn;
}
