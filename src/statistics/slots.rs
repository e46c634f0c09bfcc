//! What each slot costs (`CLUSTER SLOT-STATS`).

use crate::slot::{SLOT_COUNT, Slot};

/// What was counted of one slot. Estimates, from the requests that [`Sampler`](super::Sampler) picks: exact where there are
/// few, and of `n` picked ones within about `1/√n`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SlotUse {
    /// Nanoseconds in which commands on its keys ran.
    pub cpu_ns: u64,
    /// Bytes of requests.
    pub input_bytes: u64,
    /// Bytes of replies.
    pub output_bytes: u64,
}

/// What was counted of all slots.
#[derive(Clone, Debug)]
pub struct SlotUses {
    /// Untouched memory of slots that are others' is never taken from the kernel.
    slots: Box<[SlotUse]>,
    /// Those picked whose time is not known yet, and how many requests each stands for.
    waiting: Vec<(Slot, u32)>,
}

/// More of them are forgotten: nobody measures the time then.
const WAITING_MAX: usize = 1024;

impl Default for SlotUses {
    fn default() -> Self {
        Self { slots: vec![SlotUse::default(); SLOT_COUNT.into()].into(), waiting: Vec::new() }
    }
}

impl SlotUses {
    /// What was counted of a slot.
    pub fn of(&self, slot: Slot) -> SlotUse {
        self.slots[slot.index()]
    }

    /// Notes a request that stands for `weight` of them, and whose time [`shared`](Self::shared) will tell.
    pub fn note(&mut self, slot: Slot, weight: u32, input_bytes: u64, output_bytes: u64) {
        let counted = &mut self.slots[slot.index()];
        counted.input_bytes += input_bytes * u64::from(weight);
        counted.output_bytes += output_bytes * u64::from(weight);
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push((slot, weight));
        }
    }

    /// The requests since the last call took so many microseconds together: those that were picked among them took their
    /// share.
    #[inline]
    pub fn shared(&mut self, us: u64, requests: u64) {
        if !self.waiting.is_empty() {
            self.divide(us * 1000 / requests.max(1));
        }
    }

    fn divide(&mut self, mean_ns: u64) {
        for (slot, weight) in self.waiting.drain(..) {
            self.slots[slot.index()].cpu_ns += mean_ns * u64::from(weight);
        }
    }

    /// The last request was measured by itself: no sample stands for it.
    pub fn measured(&mut self, slot: Slot, us: u64, was_picked: bool) {
        if was_picked {
            self.waiting.pop();
        }
        self.slots[slot.index()].cpu_ns += us * 1000;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time of requests that ran together is divided among the slots of those that were picked, by what each stands for;
    /// what was measured by itself is exact.
    #[test]
    fn slots_have_their_share_of_the_time() {
        let slot = |number| Slot::new(number).expect("a slot");
        let mut uses = SlotUses::default();
        uses.shared(7, 0);
        uses.note(slot(1), 4, 10, 5);
        uses.note(slot(2), 8, 20, 7);
        uses.shared(6, 12);
        uses.note(slot(2), 8, 1, 1);
        uses.measured(slot(2), 100, true);
        uses.measured(slot(3), 50, false);
        uses.shared(1000, 1);
        let used = |number| uses.of(slot(number));
        assert_eq!(used(0), SlotUse::default());
        assert_eq!(used(1), SlotUse { cpu_ns: 2_000, input_bytes: 40, output_bytes: 20 });
        assert_eq!(used(2), SlotUse { cpu_ns: 104_000, input_bytes: 168, output_bytes: 64 });
        assert_eq!(used(3).cpu_ns, 50_000);
    }

    /// Where nobody measures, memory does not grow.
    #[test]
    fn unmeasured_requests_have_a_bound() {
        let mut uses = SlotUses::default();
        (0..10 * WAITING_MAX).for_each(|_| uses.note(Slot::default(), 1, 1, 1));
        assert_eq!(uses.waiting.len(), WAITING_MAX);
    }
}
