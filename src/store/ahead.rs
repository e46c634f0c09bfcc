//! Prefetching for lookups that are known ahead, for all of them at once.
//!
//! A lookup has three misses of the processor's cache, each of which depends on the one before: the slot's table, a group of
//! its control bytes and a bucket, the entry. If lookups are done one after the other, the processor overlaps the misses of two
//! or three of them; if one step of all lookups is done at a time, it overlaps those of all.

use super::{Entry, Key, Store, entry};
use std::hash::BuildHasher;

impl Store {
    /// Notes that a key will be looked up soon, and prefetches its table.
    #[inline]
    pub fn foresee(&mut self, key: Key<'_>) {
        entry::prefetch(std::ptr::from_ref(&self.tables[key.slot.index()]).addr());
        self.foreseen.push((key.slot, self.hasher.hash_one(key.bytes)));
    }

    /// Prefetches what the lookups of the noted keys will read, one step of all keys at a time: each step needs what the one
    /// before has fetched, and the fetches of different keys overlap.
    #[inline]
    pub fn fetch_foreseen(&mut self) {
        for &(slot, hash) in &self.foreseen {
            let table = &self.tables[slot.index()];
            if table.buckets_end != 0 {
                // hashbrown begins to probe here: at a group of control bytes, and the buckets of that group, which lie before
                // all control bytes in the opposite order.
                let at = hash as usize & (table.entries.num_buckets() - 1);
                let first_bucket = table.buckets_end - (at + 1) * size_of::<Entry>();
                entry::prefetch(table.buckets_end + at);
                entry::prefetch(first_bucket);
                entry::prefetch(first_bucket - 8 * size_of::<Entry>());
            }
        }
        for &(slot, hash) in &self.foreseen {
            if let Some(entry) = self.tables[slot.index()].entries.find(hash, |_| true) {
                entry.prefetch();
            }
        }
        self.foreseen.clear();
    }
}
