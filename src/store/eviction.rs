//! Eviction: the limit of memory, and the removal of the least used entries of samples to keep to it.

use super::{Policy, Store, UnixMillis, expiry::is_expired, frequency};
use crate::{config::Eviction, slot::Slot};

/// The error of a write at the memory limit when nothing can be evicted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutOfMemory;

/// The most evictions that a command waits for, some 100 µs, while more memory is used than allowed because the limit was
/// lowered. For what commands have written since, it waits for as many as it takes.
pub(super) const EVICTIONS_PER_WRITE: usize = 64;
/// The number of values that [`Store::demote`] considers after each write.
const DEMOTIONS_PER_WRITE: usize = 64;
/// The bytes of memory used above what is allowed that raise that number by one.
const BYTES_PER_DEMOTION: usize = 64;

impl Store {
    /// Sets the policy. If that lowers the limit of memory, the excess is evicted in steps.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.note_limit();
    }

    /// Recomputes the memory that is allowed: the limit, or the memory used now if that is more.
    pub(super) fn note_limit(&mut self) {
        self.known_limit = self.policy.memory_max;
        self.allowed = self.memory.max(self.policy.memory_max);
    }

    /// Makes room before a write that may grow the store. Afterwards no more memory is used than `max-memory`, except for
    /// values that can go to disk, and for the excess of a limit that was lowered. So only the one write that crosses the limit
    /// exceeds it.
    ///
    /// # Errors
    /// [`OutOfMemory`] if the limit is reached and the policy forbids eviction, or nothing is left to evict.
    #[inline]
    pub fn make_room(&mut self, now: UnixMillis) -> Result<(), OutOfMemory> {
        if self.is_over() { self.evict(now) } else { Ok(()) }
    }

    /// Returns true if more memory is used than `max-memory`.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.policy.memory_max != 0 && self.policy.memory_max < self.memory
    }

    /// Returns the memory that is left when every value that can go to disk has gone there: that of keys, tables, and values
    /// that stay in memory.
    fn lasting_memory(&self) -> usize {
        self.memory - self.places.as_ref().map_or(0, |places| places.savings())
    }

    /// Returns true if more memory is used than `max-memory`, and moving values to disk would not change that.
    fn is_over_for_good(&self) -> bool {
        self.is_over() && self.policy.memory_max < self.lasting_memory()
    }

    /// Returns true if writes that need memory are refused.
    pub fn is_full(&self) -> bool {
        self.policy.eviction == Eviction::None && self.is_over_for_good()
    }

    /// Evicts entries before a write: as many as it takes to use no more than `allowed`, and up to [`EVICTIONS_PER_WRITE`] to
    /// get down to the limit.
    #[cold]
    fn evict(&mut self, now: UnixMillis) -> Result<(), OutOfMemory> {
        let limit = self.policy.memory_max;
        if self.known_limit != limit {
            self.note_limit();
        }
        let mut evicted = 0;
        while self.is_over_for_good() && (evicted < EVICTIONS_PER_WRITE || self.allowed < self.lasting_memory()) {
            if !self.evict_one(now) {
                return Err(OutOfMemory);
            }
            evicted += 1;
        }
        self.allowed = self.memory.clamp(limit, self.allowed.max(limit));
        Ok(())
    }

    /// Moves values to disk after a write, in proportion to the memory that it may have taken. Not before it: they might be
    /// values that the command needs.
    #[inline]
    pub fn demote_excess(&mut self, now: UnixMillis) {
        if self.places.is_some() && self.is_over() {
            let excess = self.memory.saturating_sub(self.allowed);
            self.demote(DEMOTIONS_PER_WRITE + excess / BYTES_PER_DEMOTION, now);
        }
    }

    /// Returns true if [`evict_some`](Self::evict_some) has something to do.
    #[inline]
    pub fn wants_eviction(&self) -> bool {
        self.policy.eviction != Eviction::None && !self.is_loading && self.length != 0 && self.is_over_for_good()
    }

    /// Evicts up to `count` entries while more memory is used than `max-memory`. So a limit that was lowered is reached even if
    /// nothing is written. No reply waits for it.
    pub fn evict_some(&mut self, count: usize, now: UnixMillis) {
        for _ in 0..count {
            if !self.wants_eviction() || !self.evict_one(now) {
                return;
            }
        }
    }

    /// Evicts the least used entry of a sample. It runs between two commands, so each eviction is a command of its own in the
    /// log. Returns false if there is none that may be evicted.
    fn evict_one(&mut self, now: UnixMillis) -> bool {
        if self.policy.eviction == Eviction::None || self.is_loading {
            return false;
        }
        let Some((slot, bucket)) = self.least_used_of_a_sample(now) else { return false };
        #[cfg(test)]
        let key = self.tables[slot.index()].entries.get_bucket(bucket).map_or(Vec::new(), |entry| entry.key().to_vec());
        if !self.remove_found(slot, bucket) {
            return false;
        }
        if let Some(log) = &mut self.log {
            log.end_command();
        }
        #[cfg(test)]
        crate::witness::note(|| {
            let end = self.log.as_ref().map_or(0, |log| log.end().0);
            crate::witness::Note::Evicted(key, end)
        });
        self.counters.evicted += 1;
        true
    }

    /// Returns the slot and the bucket of the least used entry of a sample. Expired entries count as unused.
    fn least_used_of_a_sample(&mut self, now: UnixMillis) -> Option<(Slot, usize)> {
        let mut best: Option<(u8, Slot, usize)> = None;
        for _ in 0..crate::config::EVICTION_SAMPLES {
            let Some((slot, bucket)) = self.sample() else { continue };
            let Some(entry) = self.tables[slot.index()].entries.get_bucket(bucket) else { continue };
            let uses = if is_expired(entry, now) { 0 } else { frequency(entry.access(), &self.policy, now) };
            if best.is_none_or(|(least, ..)| uses < least) {
                best = Some((uses, slot, bucket));
            }
        }
        best.map(|(_, slot, bucket)| (slot, bucket))
    }

    /// Returns the slot and the bucket of a random entry, each with equal probability; `None` if there is none.
    pub(super) fn sample(&mut self) -> Option<(Slot, usize)> {
        if self.length == 0 {
            return None;
        }
        let (mut index, mut left) = self.census.find(self.random.usize(..self.length));
        while self.tables[index].entries.len() <= left {
            left -= self.tables[index].entries.len();
            index += 1;
        }
        // Walking on from an empty bucket would favour entries behind a gap. At least one bucket in eight is full, except in
        // small tables.
        let entries = &self.tables[index].entries;
        let bucket = loop {
            let bucket = self.random.usize(..entries.num_buckets());
            if entries.get_bucket(bucket).is_some() {
                break bucket;
            }
        };
        Some((Slot::new(index as u16).expect("below the count"), bucket))
    }
}
