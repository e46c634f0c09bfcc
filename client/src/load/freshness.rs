//! Detection of stale reads: an acknowledged write must not be lost or undone.
//!
//! Writes are numbered as they are sent, but two that are in flight together may be executed in either order. So they are
//! counted in epochs, and a value is stale only if its write had been *answered* before another write to its key was
//! *sent*, and that one was answered before the read was sent. Sound, cheap (four bytes a key) and not complete: what
//! happened within an epoch, or was written by another executor, is not compared.

use std::collections::VecDeque;

/// Writes in an epoch.
const EPOCH_WRITES: u64 = 256;
/// With more keys than this nobody keeps count: it would cost more memory and cache than it may.
const KEYS_MAX: u64 = 16 << 20;

/// Some writes of one executor, sent one after the other. 0 is before all of them.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Epoch(u32);

/// The writes of one executor, as far as they matter to its reads.
#[derive(Debug)]
pub(crate) struct Freshness {
    /// By key: a read sent from now on must not see a write of an earlier epoch.
    floors: Vec<Epoch>,
    writes: u64,
    /// The number of unanswered writes of each epoch, from `oldest` on.
    unanswered: VecDeque<u32>,
    /// Every write of an earlier epoch has its answer.
    oldest: u32,
}

impl Freshness {
    pub(crate) fn new(keys: u64) -> Self {
        let kept = if keys <= KEYS_MAX { keys as usize } else { 0 };
        Self { floors: vec![Epoch(0); kept], writes: 0, unanswered: VecDeque::from([0]), oldest: 1 }
    }

    /// Numbers a write that is being sent. Returns its number, and the epoch from which on writes may be unanswered.
    #[inline]
    pub(crate) fn sent(&mut self) -> (u64, Epoch) {
        let number = self.writes;
        self.writes += 1;
        let index = (Self::epoch(number).0 - self.oldest) as usize;
        if self.unanswered.len() <= index {
            self.unanswered.resize(index + 1, 0);
        }
        self.unanswered[index] += 1;
        (number, Epoch(self.oldest))
    }

    /// A write has an answer; where it was executed, reads must not see what is older than `horizon`, which
    /// [`sent`](Self::sent) gave. A write that stays without an answer may be executed at any later time, so it holds
    /// everything up from then on: this never cries wolf.
    #[inline]
    pub(crate) fn answered(&mut self, number: u64, key: u64, horizon: Epoch, was_executed: bool) {
        self.unanswered[(Self::epoch(number).0 - self.oldest) as usize] -= 1;
        while 1 < self.unanswered.len() && self.unanswered[0] == 0 {
            self.unanswered.pop_front();
            self.oldest += 1;
        }
        if was_executed && let Some(floor) = self.floors.get_mut(key as usize) {
            *floor = (*floor).max(horizon);
        }
    }

    /// The earliest epoch that a read of this key, sent now, may see.
    #[inline]
    pub(crate) fn floor(&self, key: u64) -> Epoch {
        self.floors.get(key as usize).copied().unwrap_or_default()
    }

    /// Returns true if the write with this number must not be seen by a read with this floor.
    #[inline]
    pub(crate) fn is_stale(number: u64, floor: Epoch) -> bool {
        Self::epoch(number) < floor
    }

    #[inline]
    fn epoch(number: u64) -> Epoch {
        Epoch((number / EPOCH_WRITES) as u32 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value whose write was answered long before a later acknowledged one was sent is stale; the later one is not.
    #[test]
    fn an_undone_write_is_noticed() {
        let mut freshness = Freshness::new(10);
        let (first, horizon) = freshness.sent();
        freshness.answered(first, 7, horizon, true);
        assert!(!Freshness::is_stale(first, freshness.floor(7)));
        for _ in 0..2 * EPOCH_WRITES {
            let (number, horizon) = freshness.sent();
            freshness.answered(number, 1, horizon, true);
        }
        let (second, horizon) = freshness.sent();
        assert!(!Freshness::is_stale(first, freshness.floor(7)), "the second is not acknowledged yet");
        freshness.answered(second, 7, horizon, true);
        assert!(Freshness::is_stale(first, freshness.floor(7)));
        assert!(!Freshness::is_stale(second, freshness.floor(7)));
        assert!(!Freshness::is_stale(first, freshness.floor(8)), "another key");
    }

    /// Two writes in flight together may be executed in either order, however long the answer to one takes.
    #[test]
    fn writes_in_flight_together_may_be_seen_in_either_order() {
        let mut freshness = Freshness::new(10);
        let (slow, slow_horizon) = freshness.sent();
        for _ in 0..3 * EPOCH_WRITES {
            let (number, horizon) = freshness.sent();
            freshness.answered(number, 7, horizon, true);
        }
        assert!(!Freshness::is_stale(slow, freshness.floor(7)));
        freshness.answered(slow, 7, slow_horizon, true);
        assert!(!Freshness::is_stale(slow, freshness.floor(7)));
    }
}
