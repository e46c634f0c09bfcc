//! Items of a stream: versions to compare, effects, and repairs of slots, in order.

use super::{
    message::{Reader, WireError},
    version::Version,
};
use crate::{slot::Slot, topology::document::SlotRange};

/// One item of a stream. Its position is one more than that of the item before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Item<'a> {
    /// Nothing: an item stood here whose slot is not streamed any more.
    Skip {
        /// True if the next item is of the same command.
        continues: bool,
    },
    /// Effects of these slots follow from now on. The copy compares versions.
    Cover {
        /// The slots.
        slots: SlotRange,
        /// The version that the primary's copy of each of them has.
        version: Version,
    },
    /// An effect on a slot.
    Effect {
        /// The slot.
        slot: Slot,
        /// The primary's version before it.
        before: Version,
        /// The epoch of the version after it, whose count is one more.
        epoch: u64,
        /// True if the next item is of the same command: all of its effects are applied, or none.
        continues: bool,
        /// The record's bytes.
        record: &'a [u8],
    },
    /// The repair of a part of a slot begins: its keys follow, and between them effects.
    Begin {
        /// The slot.
        slot: Slot,
        /// The part.
        part: Part,
    },
    /// A key of the slot that is being repaired.
    Key {
        /// The slot.
        slot: Slot,
        /// The bytes of a record that puts it.
        record: &'a [u8],
    },
    /// All keys of the part have been sent.
    End {
        /// The slot.
        slot: Slot,
        /// The primary's version, if this was the last part.
        version: Option<Version>,
    },
}

/// A part of a slot: the keys whose hash leaves this remainder. Slots with many keys are repaired a part at a time, since the copy
/// has to remember which keys it was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    /// The remainder, below `count`.
    pub number: u16,
    /// The number of parts, at least 1.
    pub count: u16,
    /// Drawn by the primary, so that nobody can choose keys that are all in one part.
    pub seed: u64,
}

impl Part {
    /// Returns the only part of a slot.
    pub fn whole(seed: u64) -> Self {
        Self { number: 0, count: 1, seed }
    }

    /// Returns true if a key is in this part.
    pub fn contains(self, key: &[u8]) -> bool {
        self.count == 1 || self.hash(key) % u64::from(self.count) == u64::from(self.number)
    }

    /// Returns the hash by which a copy remembers a key. Two keys of a slot that share one are as rare as two of 2^64.
    pub fn fingerprint(self, key: &[u8]) -> u64 {
        Self { seed: self.seed ^ 0x5bd1_e995_9d1b_54a3, ..self }.hash(key)
    }

    /// Returns a hash that is the same on every machine and in every version of this protocol.
    fn hash(self, key: &[u8]) -> u64 {
        let mix = |hash: u64, word: u64| {
            let product = u128::from(hash ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xf39c_c060_5ced_c835;
            (product as u64) ^ ((product >> 64) as u64)
        };
        let (words, rest) = key.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let hash =
            words.iter().fold(mix(self.seed, key.len() as u64), |hash, word| mix(hash, u64::from_le_bytes(*word)));
        mix(mix(hash, u64::from_le_bytes(last)), self.seed)
    }
}

const SKIP: u8 = 0;
const SKIP_CONTINUES: u8 = 8;
const COVER: u8 = 1;
const EFFECT: u8 = 2;
const EFFECT_CONTINUES: u8 = 3;
const BEGIN: u8 = 4;
const KEY: u8 = 5;
const END_PART: u8 = 6;
const END: u8 = 7;

impl<'a> Item<'a> {
    /// Appends the item's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Skip { continues } => out.push(if continues { SKIP_CONTINUES } else { SKIP }),
            Self::Cover { slots, version } => {
                out.push(COVER);
                out.extend_from_slice(&slots.first().to_le_bytes());
                out.extend_from_slice(&slots.last().to_le_bytes());
                put_version(out, version);
            }
            Self::Effect { slot, before, epoch, continues, record } => {
                put_head(out, if continues { EFFECT_CONTINUES } else { EFFECT }, slot);
                put_version(out, before);
                out.extend_from_slice(&epoch.to_le_bytes());
                put_record(out, record);
            }
            Self::Begin { slot, part } => {
                put_head(out, BEGIN, slot);
                out.extend_from_slice(&part.number.to_le_bytes());
                out.extend_from_slice(&part.count.to_le_bytes());
                out.extend_from_slice(&part.seed.to_le_bytes());
            }
            Self::Key { slot, record } => {
                put_head(out, KEY, slot);
                put_record(out, record);
            }
            Self::End { slot, version } => {
                put_head(out, if version.is_some() { END } else { END_PART }, slot);
                if let Some(version) = version {
                    put_version(out, version);
                }
            }
        }
    }

    fn read(rest: &mut Reader<'a>) -> Result<Self, WireError> {
        let kind = rest.u8()?;
        match kind {
            SKIP => return Ok(Self::Skip { continues: false }),
            SKIP_CONTINUES => return Ok(Self::Skip { continues: true }),
            COVER => return Ok(Self::Cover { slots: rest.slots()?, version: rest.version()? }),
            _ => {}
        }
        let slot = Slot::new(rest.u16()?).ok_or(WireError::Malformed)?;
        Ok(match kind {
            EFFECT | EFFECT_CONTINUES => {
                let (before, epoch, record) = (rest.version()?, rest.u64()?, read_record(rest)?);
                if before.count == u64::MAX {
                    return Err(WireError::Malformed);
                }
                Self::Effect { slot, before, epoch, continues: kind == EFFECT_CONTINUES, record }
            }
            BEGIN => {
                let part = Part { number: rest.u16()?, count: rest.u16()?, seed: rest.u64()? };
                if part.count <= part.number {
                    return Err(WireError::Malformed);
                }
                Self::Begin { slot, part }
            }
            KEY => Self::Key { slot, record: read_record(rest)? },
            END_PART => Self::End { slot, version: None },
            END => Self::End { slot, version: Some(rest.version()?) },
            _ => return Err(WireError::Malformed),
        })
    }

    /// Returns true if the next item is of the same command, and `None` for an item that is of no command.
    pub fn continues(&self) -> Option<bool> {
        match *self {
            Self::Skip { continues } | Self::Effect { continues, .. } => Some(continues),
            _ => None,
        }
    }

    /// Returns the slot of an item that has one slot.
    pub fn slot(&self) -> Option<Slot> {
        match *self {
            Self::Skip { .. } | Self::Cover { .. } => None,
            Self::Effect { slot, .. } | Self::Begin { slot, .. } | Self::Key { slot, .. } | Self::End { slot, .. } => {
                Some(slot)
            }
        }
    }
}

fn put_head(out: &mut Vec<u8>, kind: u8, slot: Slot) {
    out.push(kind);
    out.extend_from_slice(&slot.number().to_le_bytes());
}

fn put_version(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(&version.epoch.to_le_bytes());
    out.extend_from_slice(&version.count.to_le_bytes());
}

fn put_record(out: &mut Vec<u8>, record: &[u8]) {
    let length = u32::try_from(record.len()).expect("a record is shorter than 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(record);
}

fn read_record<'a>(rest: &mut Reader<'a>) -> Result<&'a [u8], WireError> {
    let length = rest.u32()? as usize;
    rest.bytes(length)
}

/// Bytes that are no items, or end inside a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ItemsError;

/// Items one after another, which have been checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Items<'a> {
    /// The position of the first of them.
    pub first: u64,
    bytes: &'a [u8],
}

impl<'a> Items<'a> {
    /// Returns items that this process has encoded itself.
    pub fn new(first: u64, bytes: &'a [u8]) -> Self {
        Self { first, bytes }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(self.bytes);
    }

    pub(super) fn decode(payload: &'a [u8]) -> Result<Self, ItemsError> {
        let (first, bytes) = payload.split_at_checked(8).ok_or(ItemsError)?;
        let first = u64::from_le_bytes(first.try_into().map_err(|_| ItemsError)?);
        let (mut rest, mut count, mut is_open) = (Reader(bytes), 0u64, false);
        while !rest.0.is_empty() {
            let item = Item::read(&mut rest).map_err(|_| ItemsError)?;
            let continues = item.continues();
            if is_open && continues.is_none() {
                return Err(ItemsError);
            }
            is_open = continues.unwrap_or_default();
            count += 1;
        }
        if is_open || first == 0 || first.checked_add(count).is_none() {
            return Err(ItemsError);
        }
        Ok(Self { first, bytes })
    }

    /// Returns the items in order, each with its position.
    pub fn each(self) -> impl Iterator<Item = (u64, Item<'a>)> {
        let mut rest = Reader(self.bytes);
        (self.first..).map_while(move |position| {
            let item = if rest.0.is_empty() { return None } else { Item::read(&mut rest) };
            Some((position, item.ok()?))
        })
    }
}
