//! Where a scan of the store goes on.

use crate::slot::{SLOT_COUNT, Slot};

/// The position of a scan: where to go on, or [`Cursor::START`], which is also where it ends.
///
/// A scan returns every key that is there from its beginning to its end at least once. Within a slot it walks the
/// buckets; where the table has been laid out anew since, it starts the slot again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cursor {
    /// The slot to go on in.
    pub slot: u16,
    pub(super) layout: u16,
    pub(super) bucket: u32,
}

/// Bits of a cursor's number that hold the bucket: a slot of 2^28 buckets is some 20 GiB of the smallest entries.
const BUCKET_BITS: u32 = 28;
/// Bits above them that hold the table's layout: a table would have to be laid out anew 4,096 times between two calls
/// for a scan not to notice.
pub(super) const LAYOUT_BITS: u32 = 12;

impl Cursor {
    /// Where a scan begins; returned, where it has ended.
    pub const START: Self = Self { slot: 0, layout: 0, bucket: 0 };

    /// The first bucket of a slot.
    pub fn at_slot(slot: Slot) -> Self {
        Self { slot: slot.number(), layout: 0, bucket: 0 }
    }

    /// The number that a client sees: below 2^54, so that clients which parse it as a double or signed are right too.
    pub fn to_number(self) -> u64 {
        (u64::from(self.slot) << (BUCKET_BITS + LAYOUT_BITS))
            | (u64::from(self.layout) << BUCKET_BITS)
            | u64::from(self.bucket)
    }

    /// Reads a client's number; a number that was never handed out begins somewhere, as in Redis.
    pub fn from_number(number: u64) -> Self {
        Self {
            slot: ((number >> (BUCKET_BITS + LAYOUT_BITS)) % u64::from(SLOT_COUNT)) as u16,
            layout: ((number >> BUCKET_BITS) % (1 << LAYOUT_BITS)) as u16,
            bucket: (number % (1 << BUCKET_BITS)) as u32,
        }
    }
}
