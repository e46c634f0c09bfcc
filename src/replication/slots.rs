//! Sets and ranges of slots.

use crate::{
    slot::{SLOT_COUNT, Slot},
    topology::document::{Document, SlotRange},
};

/// A set of slots: one bit each.
#[derive(Clone, Debug)]
pub(super) struct SlotSet(Box<[u64]>);

impl Default for SlotSet {
    fn default() -> Self {
        Self(vec![0; usize::from(SLOT_COUNT) / 64].into())
    }
}

impl SlotSet {
    pub(super) fn contains(&self, slot: Slot) -> bool {
        self.0[slot.index() / 64] >> (slot.index() % 64) & 1 == 1
    }

    pub(super) fn set(&mut self, slot: Slot, is_in: bool) {
        let (word, bit) = (&mut self.0[slot.index() / 64], 1 << (slot.index() % 64));
        *word = if is_in { *word | bit } else { *word & !bit };
    }

    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Returns the slots that are here and not there, and those that are there and not here.
    pub(super) fn differences(&self, other: &Self) -> (Vec<Slot>, Vec<Slot>) {
        let (mut fewer, mut more) = (Vec::new(), Vec::new());
        for (number, (here, there)) in self.0.iter().zip(&other.0).enumerate() {
            let mut left = here ^ there;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                let slot = u16::try_from(number * 64).expect("slots fit") + bit as u16;
                let slot = Slot::new(slot).expect("the set has no other bits");
                if here >> bit & 1 == 1 { fewer.push(slot) } else { more.push(slot) }
            }
        }
        (fewer, more)
    }
}

/// Returns the slots of a range, in order.
pub(super) fn slots(range: SlotRange) -> impl Iterator<Item = Slot> {
    (range.first()..=range.last()).map(|number| Slot::new(number).expect("a range has slots"))
}

/// Returns the first slot of a range.
pub(super) fn first(range: SlotRange) -> Slot {
    Slot::new(range.first()).expect("a range has slots")
}

/// Returns the range of one slot.
pub(super) fn single(slot: Slot) -> SlotRange {
    SlotRange::new(slot.number(), slot.number()).expect("it is a slot")
}

/// Returns all slots as ranges that are alike in both documents.
pub(super) fn pieces(one: &Document, other: &Document) -> Vec<SlotRange> {
    let firsts = one.ranges().iter().chain(other.ranges()).map(|range| range.slots.first());
    let mut firsts: Vec<u16> = firsts.collect();
    firsts.sort_unstable();
    firsts.dedup();
    let ends = firsts.iter().skip(1).copied().chain([SLOT_COUNT]);
    firsts.iter().zip(ends).filter_map(|(&first, end)| SlotRange::new(first, end - 1)).collect()
}
