//! Expiry: removal of expired entries, when a lookup finds one and by a sweep.

use super::{Cursor, Entry, Key, Store, UnixMillis, may_record};
use crate::{
    slot::{SLOT_COUNT, Slot},
    wal::Record,
};
use std::hash::BuildHasher;

/// Returns true if an entry has expired at this time.
#[inline]
pub(super) fn is_expired(entry: &Entry, now: UnixMillis) -> bool {
    entry.expires_at().is_some_and(|at| at <= now)
}

impl Store {
    /// Returns the time that expiries are compared with. While records are applied nothing has expired: a later record may
    /// change or remove the expiry.
    #[inline]
    pub(super) fn expiry_time(&self, now: UnixMillis) -> UnixMillis {
        if self.is_loading { UnixMillis(0) } else { now }
    }

    /// Returns the mean time to live of keys with an expiry, in milliseconds; 0 if it is not known.
    pub fn average_ttl_ms(&self) -> u64 {
        if self.expiring == 0 { 0 } else { self.average_ttl_ms }
    }

    /// Removes an expired entry; its record belongs to the current command. Returns false, and leaves the entry, if the log has
    /// no room for that: lookups hide it then.
    #[cold]
    pub(super) fn expire(&mut self, slot: Slot, bucket: usize) -> bool {
        let is_gone = self.remove_found(slot, bucket);
        self.counters.expired += u64::from(is_gone);
        is_gone
    }

    /// Removes all expired entries of a slot. Returns false if the log has no room for all of their records.
    #[cold]
    pub(super) fn expire_slot(&mut self, slot: Slot, now: UnixMillis) -> bool {
        let entries = self.tables[slot.index()].entries.iter().filter(|entry| is_expired(entry, now));
        let gone: Vec<_> = entries.map(|entry| entry.key().to_vec()).collect();
        self.expire_all(&gone, now)
    }

    /// Removes those of these keys that have expired. Returns false if the log has no room for all of their records.
    pub fn expire_all(&mut self, keys: &[Vec<u8>], now: UnixMillis) -> bool {
        keys.iter().fold(true, |is_gone, key| {
            let key = Key::of(key);
            let hash = self.hasher.hash_one(key.bytes);
            let entries = &self.tables[key.slot.index()].entries;
            let bucket = entries.find_bucket_index(hash, |entry| entry.key() == key.bytes && is_expired(entry, now));
            bucket.is_none_or(|bucket| self.expire(key.slot, bucket)) && is_gone
        })
    }

    /// Looks at up to `budget` entries and removes those that have expired. Returns the number removed; call again sooner if
    /// that is a good part of the budget.
    pub fn sweep(&mut self, budget: usize, now: UnixMillis) -> usize {
        if self.expiring == 0 || !self.sweeps || self.is_loading {
            return 0;
        }
        let (mut looked_at, mut slots, mut removed) = (0, 0, 0);
        let (mut alive, mut ttl_ms) = (0, 0_u128);
        while looked_at < budget && slots < SLOT_COUNT {
            let slot = Slot::new(self.sweep_at.slot).expect("a cursor's slot is a slot");
            let table = &mut self.tables[slot.index()];
            let (mut bucket, buckets) = (self.sweep_at.bucket as usize, table.entries.num_buckets());
            if table.expiring == 0 {
                bucket = buckets;
            }
            let mut gone = Vec::new();
            while bucket < buckets && looked_at < budget {
                if let Ok(entry) = table.entries.get_bucket_entry(bucket) {
                    looked_at += 1;
                    if is_expired(entry.get(), now) {
                        let key = entry.get().key();
                        if may_record(&self.log, self.removes_until, key) {
                            if let Some(log) = &mut self.log {
                                // The sweep runs between two commands, so each removal is a command of its own.
                                log.append(self.hasher.hash_one(key), Record::Remove { key });
                                log.end_command();
                            }
                            #[cfg(test)]
                            crate::witness::note(|| {
                                let end = self.log.as_ref().map_or(0, |log| log.end().0);
                                crate::witness::Note::Swept(key.to_vec(), end)
                            });
                            gone.push(entry.remove().0);
                        }
                    } else if let Some(at) = entry.get().expires_at() {
                        alive += 1;
                        ttl_ms += u128::from(at.0 - now.0);
                    }
                }
                bucket += 1;
            }
            removed += gone.len();
            for entry in &gone {
                self.count_effect(slot);
                self.forget(slot, entry);
            }
            if bucket < buckets {
                self.sweep_at.bucket = bucket as u32;
            } else {
                self.sweep_at = Cursor { slot: (slot.number() + 1) % SLOT_COUNT, layout: 0, bucket: 0 };
                slots += 1;
                // A look at sixteen tables without an expiry costs as much as one at an entry.
                looked_at += usize::from(slots % 16 == 0);
            }
        }
        if let Some(mean) = ttl_ms.checked_div(alive) {
            let mean = u64::try_from(mean).unwrap_or(u64::MAX);
            // Smoothed as in Redis, so that no sweep's sample moves it by much.
            let is_first = self.average_ttl_ms == 0;
            self.average_ttl_ms = if is_first { mean } else { self.average_ttl_ms / 50 * 49 + mean / 50 };
        }
        self.counters.expired += removed as u64;
        removed
    }
}
