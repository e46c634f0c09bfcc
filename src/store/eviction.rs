//! Eviction: room for what is written, by removing entries that are seldom used.

use super::{Policy, Store, UnixMillis, expiry::is_expired, frequency};
use crate::{config::Eviction, slot::Slot};

/// The memory limit is reached and nothing can be evicted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutOfMemory;

/// Evictions that a command waits for, some 100 µs, where more memory is used than may be since the limit was lowered. For what
/// commands have written since, it waits for as many as it takes.
pub(super) const EVICTIONS_PER_WRITE: usize = 64;
/// Values that a command looks at to send them away, and another for each so many bytes that have been written beyond the limit.
const DEMOTIONS_PER_WRITE: usize = 64;
const BYTES_PER_DEMOTION: usize = 64;

impl Store {
    /// Sets the policy. If that lowers the limit of memory, what is used above it may stay until it has been evicted bit by bit.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.note_limit();
    }

    /// Allows what is used now, if that is more than the limit says.
    pub(super) fn note_limit(&mut self) {
        self.known_limit = self.policy.memory_max;
        self.allowed = self.memory.max(self.policy.memory_max);
    }

    /// Makes room before a write that may grow the store: afterwards no more is used than `max-memory` says, but for what will go
    /// away by itself and for what was there when that was lowered. So the limit holds but for the one write that crosses it.
    ///
    /// # Errors
    /// [`OutOfMemory`] where the limit is reached and the policy is to refuse, or nothing is left to evict.
    #[inline]
    pub fn make_room(&mut self, now: UnixMillis) -> Result<(), OutOfMemory> {
        if self.is_over() { self.evict(now) } else { Ok(()) }
    }

    /// Returns true if more memory is used than may be.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.policy.memory_max != 0 && self.policy.memory_max < self.memory
    }

    /// Bytes that are used when every value has gone away that can: those of keys, of tables, and of values that stay in memory.
    fn lasting_memory(&self) -> usize {
        self.memory - self.places.as_ref().map_or(0, |places| places.savings())
    }

    /// Whether more memory is used than may be, and will be until something is evicted.
    fn is_over_for_good(&self) -> bool {
        self.is_over() && self.policy.memory_max < self.lasting_memory()
    }

    /// Whether writes that need memory are refused.
    pub fn is_full(&self) -> bool {
        self.policy.eviction == Eviction::None && self.is_over_for_good()
    }

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

    /// Sends values away after a write, as many as it may have taken memory for: not before, when those might be among them that the
    /// command needs.
    #[inline]
    pub fn demote_excess(&mut self, now: UnixMillis) {
        if self.places.is_some() && self.is_over() {
            let excess = self.memory.saturating_sub(self.allowed);
            self.demote(DEMOTIONS_PER_WRITE + excess / BYTES_PER_DEMOTION, now);
        }
    }

    /// Whether [`evict_some`](Self::evict_some) has something to do.
    #[inline]
    pub fn wants_eviction(&self) -> bool {
        self.policy.eviction != Eviction::None && !self.is_loading && self.length != 0 && self.is_over_for_good()
    }

    /// Evicts entries, `count` of them at most, while more memory is used than may be: what a limit asks for that was lowered, also
    /// where nobody writes. No reply waits for it.
    pub fn evict_some(&mut self, count: usize, now: UnixMillis) {
        for _ in 0..count {
            if !self.wants_eviction() || !self.evict_one(now) {
                return;
            }
        }
    }

    /// Evicts the least used entry of a sample: between two commands, and a command of its own in the log, however many there are.
    /// Returns whether there was one that may be evicted.
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

    /// The bucket of a random entry, each as likely as any other; `None` where there is none.
    pub(super) fn sample(&mut self) -> Option<(Slot, usize)> {
        if self.length == 0 {
            return None;
        }
        let (mut index, mut left) = self.census.find(self.random.usize(..self.length));
        while self.tables[index].entries.len() <= left {
            left -= self.tables[index].entries.len();
            index += 1;
        }
        // To walk on from an empty bucket would favour whoever comes after a gap. One in eight is full, or one of few.
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
