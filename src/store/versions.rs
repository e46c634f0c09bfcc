//! The versions of a store's slots, and the effects that they count.

use super::{Key, Store};
use crate::{
    slot::{Slot, Version},
    wal::{Record, Versions, each_run},
};

impl Store {
    /// Returns the version of a slot. If it is the same at two times, no key of the slot has changed in between, for any
    /// reason. An expiry counts when the key is removed.
    pub fn version(&self, slot: Slot) -> Version {
        self.tables[slot.index()].version
    }

    /// Sets the version of a slot, and records it; the record is not an effect.
    ///
    /// # Panics
    /// If the current command has records already.
    pub fn set_version(&mut self, slot: Slot, version: Version) {
        if let Some(log) = &mut self.log {
            Versions::of_one(slot, version, |versions| log.append_statement(Record::Versions(versions)));
        }
        self.set_table(slot, version);
    }

    /// Sets the version of a slot, without a record.
    pub(super) fn set_table(&mut self, slot: Slot, version: Version) {
        self.tables[slot.index()].version = version;
    }

    /// Marks the versions of all slots as unknown: records were lost.
    pub fn forget_versions(&mut self) {
        self.tables.iter_mut().for_each(|table| table.version.epoch = Version::UNKNOWN);
    }

    /// Calls `visit` with records of the current versions of all slots. Slots in none of the records have the default version.
    pub fn each_version(&self, mut visit: impl FnMut(Record<'_>)) {
        let each = Slot::all().map(|slot| (slot, self.version(slot)));
        each_run(each, |versions| visit(Record::Versions(versions)));
    }

    /// Appends the current versions of all slots to the log, so that they can be recovered without the log before this point.
    ///
    /// # Panics
    /// If the current command has records already.
    pub fn state_versions(&mut self) {
        let Some(mut log) = self.log.take() else { return };
        self.each_version(|record| log.append_statement(record));
        self.log = Some(log);
    }

    /// Counts an effect on a slot in its version.
    #[inline]
    pub(super) fn count_effect(&mut self, slot: Slot) {
        let table = &mut self.tables[slot.index()];
        table.version = table.version.next();
    }

    /// Runs `apply`, which applies a record about a key, and counts one effect if `is_effect`, else none, whatever it does.
    #[inline]
    pub(super) fn counting<'k>(&mut self, key: Key<'k>, is_effect: bool, apply: impl FnOnce(&mut Self, Key<'k>)) {
        let before = self.version(key.slot);
        apply(self, key);
        self.set_table(key.slot, if is_effect { before.next() } else { before });
    }

    /// Saves the versions of all slots, in case the records that follow are replayed from here again.
    pub(super) fn mark_versions(&mut self) {
        self.marked = Some(self.tables.iter().map(|table| table.version).collect());
    }

    /// Restores the versions that were saved.
    pub(super) fn rewind_versions(&mut self) {
        let marked = self.marked.iter().flatten();
        self.tables.iter_mut().zip(marked).for_each(|(table, &version)| table.version = version);
    }
}
