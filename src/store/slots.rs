//! Changes of whole slots: clearing them, and new versions for slots that this shard takes over.

use super::Store;
use crate::{
    slot::{Slot, Version},
    wal::{Record, SLOT_SET_BYTES, SlotSet, each_run},
};

impl Store {
    /// Removes every key of these ranges of slots: an effect on each slot, and one record if `is_recorded`. Their memory is
    /// freed in slices, by [`bury`](Self::bury), and counted until then. Returns the number of keys removed.
    pub fn clear_slots(&mut self, ranges: &[(Slot, Slot)], is_recorded: bool) -> usize {
        let mut bits = [0; SLOT_SET_BYTES];
        for &(first, last) in ranges {
            let slots = Slot::all().skip(first.index()).take_while(|&slot| slot <= last);
            slots.for_each(|slot| bits[slot.index() / 8] |= 1 << (slot.index() % 8));
        }
        if let Some(log) = self.log.as_mut().filter(|_| is_recorded) {
            log.append_clear(Record::ClearSlots(SlotSet::new(&bits)));
            log.end_command();
        }
        let before = self.length;
        self.apply_clear_slots(SlotSet::new(&bits));
        before - self.length
    }

    /// Applies a record that clears slots: removes their keys, which is an effect on each of them.
    pub(super) fn apply_clear_slots(&mut self, slots: SlotSet<'_>) {
        let is_all = Slot::all().all(|slot| slots.has(slot) || self.tables[slot.index()].entries.is_empty());
        if is_all {
            self.bury_all();
        }
        for slot in slots.each() {
            self.count_effect(slot);
            self.clear_slot(slot);
        }
    }

    /// Removes the keys of a slot, without a record. Their memory is counted until it is freed.
    fn clear_slot(&mut self, slot: Slot) {
        let table = &mut self.tables[slot.index()];
        if table.entries.is_empty() {
            return;
        }
        table.moved();
        table.buckets_end = 0;
        self.memory -= table.entries.allocation_size();
        let (entries, expiring) = (std::mem::take(&mut table.entries), std::mem::take(&mut table.expiring));
        self.length -= entries.len();
        self.expiring -= expiring as usize;
        self.census.subtract_keys(slot, entries.len() as u32);
        if let Some(places) = &mut self.places {
            // A segment that is released must hold nothing that is counted, so this cannot wait.
            entries.iter().for_each(|entry| places.leave(entry));
        }
        self.cleared_slots.push(entries.into_iter());
    }

    /// Frees the memory of up to `budget` entries of cleared slots.
    pub(super) fn give_back_slots(&mut self, mut budget: usize) {
        while let Some(entries) = self.cleared_slots.last_mut()
            && 0 < budget
        {
            let (mut count, mut memory) = (0, 0);
            for entry in entries.by_ref().take(budget) {
                count += 1;
                memory += entry.memory();
            }
            if entries.len() == 0 {
                self.cleared_slots.pop();
            }
            self.memory -= memory;
            budget -= count;
        }
    }

    /// Sets slots that this shard takes over to a version that they never had, since versions seen before, here or elsewhere,
    /// say nothing about their keys now. `epoch`: the epoch of the topology that assigned them to this shard.
    pub fn renew_slots(&mut self, slots: &[Slot], epoch: u64, is_recorded: bool) {
        let version = Version { epoch, effects: 0 };
        slots.iter().for_each(|&slot| self.set_table(slot, version));
        if let Some(log) = self.log.as_mut().filter(|_| is_recorded) {
            let each = slots.iter().map(|&slot| (slot, version));
            each_run(each, |versions| log.append_statement(Record::Versions(versions)));
        }
    }

    /// Returns the ranges of slots that have keys and for which `is_meant` returns true.
    pub fn slots_with_keys(&self, is_meant: impl Fn(Slot) -> bool) -> Vec<(Slot, Slot)> {
        let mut ranges: Vec<(Slot, Slot)> = Vec::new();
        for slot in Slot::all().filter(|&slot| self.slot_len(slot) != 0 && is_meant(slot)) {
            match ranges.last_mut() {
                Some((_, last)) if last.number() + 1 == slot.number() => *last = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Key, Policy, UnixMillis};

    const NOW: UnixMillis = UnixMillis(1_000);

    fn put(store: &mut Store, key: &str, expires_at: Option<UnixMillis>) {
        store.put(Key::of(key.as_bytes()), b"value", expires_at, NOW);
    }

    /// A slot that is cleared is empty at once, by every count; its memory is counted until it has been freed.
    #[test]
    fn a_slot_that_is_cleared_is_empty_at_once() {
        for is_on_disk in [false, true] {
            let mut store = Store::new(1, Policy::default());
            if is_on_disk {
                store.keep_values_on_disk();
            }
            let empty = store.memory();
            for number in 0..100 {
                put(&mut store, &format!("{{b}}{number}"), Some(UnixMillis(9_000)));
                put(&mut store, &format!("{{c}}{number}"), None);
            }
            let (b, c) = (Slot::of(b"b"), Slot::of(b"c"));
            let (memory, version) = (store.memory(), store.version(b));
            assert_eq!(store.slots_with_keys(|slot| slot != c), [(b, b)]);
            assert_eq!(store.clear_slots(&[(b, b)], true), 100);
            assert_eq!((store.len(), store.slot_len(b), store.expiring()), (100, 0, 0));
            assert_ne!(store.version(b), version);
            assert!(store.has_buried() && empty < store.memory());
            let drawn = (0..100).all(|_| store.random_key(NOW).is_some_and(|key| key.starts_with(b"{c}")));
            assert!(drawn, "nothing is drawn that was cleared");
            assert!(store.bury(60) && store.memory() < memory);
            assert!(!store.bury(60));
            assert_eq!(store.clear_slots(&[(Slot::of(b"c"), Slot::of(b"c"))], true), 100);
            store.bury(1_000);
            assert_eq!((store.memory(), store.len()), (empty, 0));
        }
    }

    /// A slot that is taken over has no version that was seen before.
    #[test]
    fn a_slot_that_has_come_is_not_taken_for_what_it_was() {
        let (mut store, slot) = (Store::new(1, Policy::default()), Slot::of(b"b"));
        let mut seen = vec![store.version(slot)];
        for epoch in 1..10 {
            store.renew_slots(&[slot], epoch, true);
            assert!(!seen.contains(&store.version(slot)));
            seen.push(store.version(slot));
            put(&mut store, "b", None);
            assert!(!seen.contains(&store.version(slot)));
            seen.push(store.version(slot));
            store.clear_slots(&[(slot, slot)], true);
        }
    }
}
