//! Slots that come and go.

use super::Store;
use crate::slot::Slot;

impl Store {
    /// Removes every key of these ranges of slots, one effect for all; in the log, if it is to be recorded. Their memory is given back
    /// in slices, by [`bury`](Self::bury), and counted until then. Returns the number of keys.
    pub fn clear_slots(&mut self, ranges: &[(Slot, Slot)], is_recorded: bool) -> usize {
        if let Some(log) = self.log.as_mut().filter(|_| is_recorded) {
            ranges.iter().for_each(|&(first, last)| log.append_clear_slots(first, last));
            log.end_command();
        }
        let before = self.length;
        for slot in ranges
            .iter()
            .flat_map(|&(first, last)| Slot::all().skip(first.index()).take_while(move |&slot| slot <= last))
        {
            self.clear_slot(slot);
        }
        before - self.length
    }

    fn clear_slot(&mut self, slot: Slot) {
        let table = &mut self.tables[slot.index()];
        if table.entries.is_empty() {
            return;
        }
        table.changes += 1;
        table.moved();
        table.buckets_end = 0;
        self.memory -= table.entries.allocation_size();
        let (entries, expiring) = (std::mem::take(&mut table.entries), std::mem::take(&mut table.expiring));
        self.length -= entries.len();
        self.expiring -= expiring as usize;
        self.census.subtract_keys(slot, entries.len() as u32);
        if let Some(places) = &mut self.places {
            // A segment that is given up must hold nothing that is counted: this can't wait.
            entries.iter().for_each(|entry| places.leave(entry));
        }
        self.cleared_slots.push(entries.into_iter());
    }

    /// Gives back the memory of up to `budget` entries of slots that were cleared.
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

    /// Has a slot count as changed that has come from elsewhere: nothing that was seen of it before, here or there, says anything of
    /// what it is now. What is counted from here on begins at a number that nobody has seen.
    pub fn renew_slot(&mut self, slot: Slot) {
        self.tables[slot.index()].changes = self.random.u64(..) >> 1;
    }

    /// Returns the ranges of slots with keys, of those that `is_meant`.
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

    /// A slot that is cleared is empty at once, by every count; its memory is counted until it has been given back.
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
            let (memory, changes) = (store.memory(), store.slot_changes(b));
            assert_eq!(store.slots_with_keys(|slot| slot != c), [(b, b)]);
            assert_eq!(store.clear_slots(&[(b, b)], true), 100);
            assert_eq!((store.len(), store.slot_len(b), store.expiring()), (100, 0, 0));
            assert_ne!(store.slot_changes(b), changes);
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

    /// A slot that has come from elsewhere has no number of changes that was seen before.
    #[test]
    fn a_slot_that_has_come_is_not_taken_for_what_it_was() {
        let (mut store, slot) = (Store::new(1, Policy::default()), Slot::of(b"b"));
        let mut seen = vec![store.slot_changes(slot)];
        for _ in 0..10 {
            store.renew_slot(slot);
            assert!(!seen.contains(&store.slot_changes(slot)));
            seen.push(store.slot_changes(slot));
        }
    }
}
