//! Lookups that are known ahead: what they will touch is fetched for all of them at once.
//!
//! A lookup is three misses of the processor's cache, each of which needs what the one before has brought: the slot's table, a
//! group of its control bytes and a bucket, the entry. One lookup after the other, the processor overlaps two or three of them;
//! a step of all at a time, all.

use super::{Entry, Key, Store, entry};
use std::hash::BuildHasher;

impl Store {
    /// Notes that a key will be looked up soon, and has its table fetched into the processor's cache, without waiting for it.
    #[inline]
    pub fn foresee(&mut self, key: Key<'_>) {
        entry::prefetch(std::ptr::from_ref(&self.tables[key.slot.index()]).addr());
        self.foreseen.push((key.slot, self.hasher.hash_one(key.bytes)));
    }

    /// Has what the lookups of the foreseen keys will touch fetched, one step of all of them at a time: each step needs what
    /// the one before has fetched, and the keys' fetches overlap.
    #[inline]
    pub fn fetch_foreseen(&mut self) {
        for &(slot, hash) in &self.foreseen {
            let table = &self.tables[slot.index()];
            if table.buckets_end != 0 {
                // Where hashbrown begins to probe: a group of control bytes, and the buckets that they stand for, which lie
                // before them in the opposite order.
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
