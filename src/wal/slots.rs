//! Slots in records: sets of slots, and versions of slots.

use super::{Malformed, record::Cursor};
use crate::slot::{SLOT_COUNT, Slot, Version};

/// Bytes of a set of slots: a bit per slot.
pub const SLOT_SET_BYTES: usize = SLOT_COUNT as usize / 8;

/// A set of slots in a record: bit `slot % 8` of byte `slot / 8`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SlotSet<'a>(&'a [u8; SLOT_SET_BYTES]);

impl<'a> SlotSet<'a> {
    /// Makes a set of its bits.
    pub fn new(bits: &'a [u8; SLOT_SET_BYTES]) -> Self {
        Self(bits)
    }

    /// Returns the bits.
    pub fn bits(self) -> &'a [u8; SLOT_SET_BYTES] {
        self.0
    }

    /// Returns true if the slot is in the set.
    pub fn has(self, slot: Slot) -> bool {
        self.0[slot.index() / 8] & (1 << (slot.index() % 8)) != 0
    }

    /// Returns the slots of the set, in order.
    pub fn each(self) -> impl Iterator<Item = Slot> {
        Slot::all().filter(move |&slot| self.has(slot))
    }
}

/// The versions of consecutive slots of the same epoch in a record: the number of effects of each, seven bits per byte, the
/// lowest first, with the eighth bit set if more follow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Versions<'a> {
    /// The number of the first slot.
    pub(super) first: u16,
    /// The number of slots.
    pub(super) count: u16,
    pub(super) epoch: u64,
    pub(super) effects: &'a [u8],
}

/// Bytes of a record of versions before the numbers of effects.
const RUN_HEADER_BYTES: usize = 17;

impl<'a> Versions<'a> {
    /// Calls `visit` with the version of one slot, even if it is the default.
    pub fn of_one(slot: Slot, version: Version, visit: impl FnOnce(Versions<'_>)) {
        let mut effects = Vec::new();
        put_number(&mut effects, version.effects);
        visit(Versions { first: slot.number(), count: 1, epoch: version.epoch, effects: &effects });
    }

    /// Returns the bytes of the record.
    pub(super) fn bytes(self) -> usize {
        RUN_HEADER_BYTES + self.effects.len()
    }

    /// Returns each slot with its version, in order.
    pub fn each(self) -> impl Iterator<Item = (Slot, Version)> {
        let mut rest = self.effects;
        (self.first..).take(self.count.into()).map_while(move |number| {
            let effects = take_number(&mut rest)?;
            Some((Slot::new(number)?, Version { epoch: self.epoch, effects }))
        })
    }

    /// Decodes the part of the record behind its kind; `None` if the bytes end inside it.
    pub(super) fn decode(rest: &mut Cursor<'a>) -> Option<Result<Self, Malformed>> {
        let (first, count) = (rest.short()?, rest.short()?);
        let (epoch, length) = (rest.number()?, rest.length()?);
        let effects = rest.take(length)?;
        let mut left = effects;
        let is_each_there = (0..count).all(|_| take_number(&mut left).is_some()) && left.is_empty();
        let is_a_run = first.checked_add(count).is_some_and(|end| end <= SLOT_COUNT);
        Some(if is_each_there && is_a_run { Ok(Self { first, count, epoch, effects }) } else { Err(Malformed) })
    }
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while 0x7f < number {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Calls `visit` with versions for records, which together have all versions but those that are the default. They take about as
/// few bytes as possible.
pub fn each_run(versions: impl Iterator<Item = (Slot, Version)>, mut visit: impl FnMut(Versions<'_>)) {
    let (mut first, mut epoch, mut effects, mut ended) = (0, 0, Vec::new(), 0_u16);
    let mut show = |first: u16, ended: u16, epoch, effects: &[u8]| {
        if first < ended {
            visit(Versions { first, count: ended - first, epoch, effects });
        }
    };
    for (slot, version) in versions.filter(|&(_, version)| version != Version::default()) {
        let gap = usize::from(slot.number() - ended);
        // The slots of the gap have the default version: epoch 0 and no effects.
        let goes_on = version.epoch == epoch && (gap == 0 || (epoch == 0 && gap <= RUN_HEADER_BYTES));
        if !goes_on || first == ended {
            show(first, ended, epoch, &effects);
            (first, epoch, ended) = (slot.number(), version.epoch, slot.number());
            effects.clear();
        }
        effects.resize(effects.len() + usize::from(slot.number() - ended), 0);
        put_number(&mut effects, version.effects);
        ended = slot.number() + 1;
    }
    show(first, ended, epoch, &effects);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::Record;
    use proptest::prelude::*;

    proptest! {
        /// Any versions are decoded as they were encoded; slots that are in no record have the default.
        #[test]
        fn versions_are_read_as_they_were_written(
            given in prop::collection::btree_map(
                prop_oneof![0..SLOT_COUNT, 0_u16..40],
                (prop_oneof![Just(0), Just(1), Just(Version::UNKNOWN)], any::<u64>(), 0_u32..64),
                0..60,
            ),
        ) {
            let mut expected = vec![Version::default(); SLOT_COUNT.into()];
            for (slot, (epoch, effects, shift)) in given {
                expected[usize::from(slot)] = Version { epoch, effects: effects >> shift };
            }
            let mut bytes = Vec::new();
            let each = Slot::all().map(|slot| (slot, expected[slot.index()]));
            each_run(each, |versions| Record::Versions(versions).encode(&mut bytes));
            let (mut rest, mut found) = (&bytes[..], vec![Version::default(); SLOT_COUNT.into()]);
            while !rest.is_empty() {
                let Ok(Some((Record::Versions(versions), length))) = Record::decode(rest) else { panic!("{rest:?}") };
                prop_assert_eq!(Record::decode(&rest[..length - 1]), Ok(None));
                versions.each().for_each(|(slot, version)| found[slot.index()] = version);
                rest = &rest[length..];
            }
            prop_assert_eq!(found, expected);
        }
    }

    /// Slots that are all in use take a byte or a few each.
    #[test]
    fn versions_are_small() {
        let bytes = |effects: fn(Slot) -> u64| {
            let mut bytes = Vec::new();
            let each = Slot::all().map(|slot| (slot, Version { epoch: 7, effects: effects(slot) }));
            each_run(each, |versions| Record::Versions(versions).encode(&mut bytes));
            bytes.len()
        };
        assert_eq!(bytes(|_| 100), 17 + 16_384);
        assert!(bytes(|slot| 1_000_000 + u64::from(slot.number())) <= 18 + 3 * 16_384);
    }
}
