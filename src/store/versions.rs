//! The versions of the slots of a store, and what counts in them.

use super::{Key, Store};
use crate::{
    slot::{Slot, Version},
    wal::{Record, Versions, each_run},
};

impl Store {
    /// Returns the version of a slot. Two equal versions say that no key of the slot has changed in between, by whatever cause; an
    /// expiry counts when the key is removed.
    pub fn version(&self, slot: Slot) -> Version {
        self.tables[slot.index()].version
    }

    /// Gives a slot a version, by a record that is no effect.
    ///
    /// # Panics
    /// Inside a command.
    pub fn set_version(&mut self, slot: Slot, version: Version) {
        if let Some(log) = &mut self.log {
            Versions::of_one(slot, version, |versions| log.append_statement(Record::Versions(versions)));
        }
        self.set_table(slot, version);
    }

    pub(super) fn set_table(&mut self, slot: Slot, version: Version) {
        self.tables[slot.index()].version = version;
    }

    /// Notes that nobody knows what the slots have: something was lost.
    pub fn forget_versions(&mut self) {
        self.tables.iter_mut().for_each(|table| table.version.epoch = Version::UNKNOWN);
    }

    /// Shows records of the versions that all slots have now; those of which none tells have the default.
    pub fn each_version(&self, mut visit: impl FnMut(Record<'_>)) {
        let each = Slot::all().map(|slot| (slot, self.version(slot)));
        each_run(each, |versions| visit(Record::Versions(versions)));
    }

    /// Appends the versions that all slots have now to the log, so that what is before it is not needed to know them.
    ///
    /// # Panics
    /// Inside a command.
    pub fn state_versions(&mut self) {
        let Some(mut log) = self.log.take() else { return };
        self.each_version(|record| log.append_statement(record));
        self.log = Some(log);
    }

    /// Counts an effect on a slot.
    #[inline]
    pub(super) fn count_effect(&mut self, slot: Slot) {
        let table = &mut self.tables[slot.index()];
        table.version = table.version.next();
    }

    /// Applies what a record says of a key: one effect, whatever it does here, or none.
    #[inline]
    pub(super) fn counting<'k>(&mut self, key: Key<'k>, is_effect: bool, apply: impl FnOnce(&mut Self, Key<'k>)) {
        let before = self.version(key.slot);
        apply(self, key);
        self.set_table(key.slot, if is_effect { before.next() } else { before });
    }

    /// Notes the versions, should what follows be shown once more.
    pub(super) fn mark_versions(&mut self) {
        self.marked = Some(self.tables.iter().map(|table| table.version).collect());
    }

    /// Goes back to the versions that were noted.
    pub(super) fn rewind_versions(&mut self) {
        let marked = self.marked.iter().flatten();
        self.tables.iter_mut().zip(marked).for_each(|(table, &version)| table.version = version);
    }
}
