//! The use of each slot (`CLUSTER SLOT-STATS`).

use crate::slot::{SLOT_COUNT, Slot};

/// The use of one slot. The numbers are estimates from the requests that [`Sampler`](super::Sampler) picks: exact where
/// there are few requests, and within about `1/√n` of the truth after `n` samples.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SlotUse {
    /// The execution time of commands on its keys, in nanoseconds.
    pub cpu_ns: u64,
    /// The bytes of requests.
    pub input_bytes: u64,
    /// The bytes of replies.
    pub output_bytes: u64,
}

/// The use of all slots.
#[derive(Clone, Debug)]
pub struct SlotUses {
    /// One element for each slot. Memory for slots of other cores is never touched, so the kernel never provides it.
    slots: Box<[SlotUse]>,
    /// The samples whose time is not known yet: the slot of each, and the number of requests that it stands for.
    waiting: Vec<(Slot, u32)>,
}

/// The most samples that wait for their time. More are dropped: they come only where nobody measures the time.
const WAITING_MAX: usize = 1024;

impl Default for SlotUses {
    fn default() -> Self {
        Self { slots: vec![SlotUse::default(); SLOT_COUNT.into()].into(), waiting: Vec::new() }
    }
}

impl SlotUses {
    /// Returns the use of a slot.
    pub fn of(&self, slot: Slot) -> SlotUse {
        self.slots[slot.index()]
    }

    /// Adds a sample that stands for `weight` requests. Its time follows by [`shared`](Self::shared) or
    /// [`measured`](Self::measured).
    pub fn note(&mut self, slot: Slot, weight: u32, input_bytes: u64, output_bytes: u64) {
        let counted = &mut self.slots[slot.index()];
        counted.input_bytes += input_bytes * u64::from(weight);
        counted.output_bytes += output_bytes * u64::from(weight);
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push((slot, weight));
        }
    }

    /// Adds the time of the `requests` requests since the last call, `us` microseconds together: each sample among them
    /// is given the mean.
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

    /// Adds the time of the last request, which was measured by itself: if it was sampled too, the sample gets no time
    /// of its own.
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

    /// The time of requests that ran together is divided among the slots of the samples, by the requests that each
    /// stands for; time that was measured by itself is exact.
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

    /// Memory does not grow where nobody measures the time.
    #[test]
    fn unmeasured_requests_have_a_bound() {
        let mut uses = SlotUses::default();
        (0..10 * WAITING_MAX).for_each(|_| uses.note(Slot::default(), 1, 1, 1));
        assert_eq!(uses.waiting.len(), WAITING_MAX);
    }
}
