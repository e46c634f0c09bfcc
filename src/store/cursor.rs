//! The cursor of a scan of the store.

use crate::slot::{SLOT_COUNT, Slot};

/// The position at which a scan continues; [`Cursor::START`] at its beginning and at its end.
///
/// A scan returns every key that is there from its beginning to its end at least once. Within a slot it walks the
/// buckets; if the layout of the table has changed since the last call, it starts that slot again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cursor {
    /// The slot to continue in.
    pub slot: u16,
    pub(super) layout: u16,
    pub(super) bucket: u32,
}

/// The bits of a cursor's number for the bucket: a slot of 2^28 buckets is some 20 GiB of the smallest entries.
const BUCKET_BITS: u32 = 28;
/// The bits above them for the table's layout number: a scan misses a change of layout only if there were 4,096 of them
/// between two calls.
pub(super) const LAYOUT_BITS: u32 = 12;

impl Cursor {
    /// The beginning of a scan; returned at its end.
    pub const START: Self = Self { slot: 0, layout: 0, bucket: 0 };

    /// Returns the cursor at the first bucket of a slot.
    pub fn at_slot(slot: Slot) -> Self {
        Self { slot: slot.number(), layout: 0, bucket: 0 }
    }

    /// Returns the number that clients see: below 2^54, so that clients which parse it as a signed number are right, too.
    pub fn to_number(self) -> u64 {
        (u64::from(self.slot) << (BUCKET_BITS + LAYOUT_BITS))
            | (u64::from(self.layout) << BUCKET_BITS)
            | u64::from(self.bucket)
    }

    /// Parses a client's number. A number that no scan returned is some position, as in Redis.
    pub fn from_number(number: u64) -> Self {
        Self {
            slot: ((number >> (BUCKET_BITS + LAYOUT_BITS)) % u64::from(SLOT_COUNT)) as u16,
            layout: ((number >> BUCKET_BITS) % (1 << LAYOUT_BITS)) as u16,
            bucket: (number % (1 << BUCKET_BITS)) as u32,
        }
    }
}
