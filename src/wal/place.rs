//! Places of values in the log's files, for `--values disk`, and the search for the values of a segment.

use super::{
    Lsn, Record,
    frame::{BLOCK_BYTES, FileId, FrameHeader, FrameKind, Invalid, frame_bytes},
};
use std::ops::Range;

/// The place of a value in eight bytes, which no other value of the same key has.
///
/// Two bits are the variant of [`Where`]; then follow 30 bits of a segment's number and 32 of an offset, or 62 of the number of
/// a provisional place.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct At(u64);

/// The place of a value, decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Where {
    /// Not on disk yet: a provisional place, whose number only one value has.
    Coming(u64),
    /// In the segment with this number, in one piece from this offset on.
    Stored {
        /// The segment.
        segment: u32,
        /// The offset in bytes.
        offset: u32,
    },
    /// In several pieces, of which the first is in this segment. The value cannot be read back alone, and stays in memory.
    Kept {
        /// The segment.
        segment: u32,
    },
}

const KIND_SHIFT: u32 = 62;
const STORED: u64 = 1;
const KEPT: u64 = 2;
/// The limit of segment numbers: at the smallest size, 4 MiB each, that many segments are 4 PiB of writes.
const SEGMENTS_MAX: u32 = 1 << 30;
/// The limit of the numbers of segments that a start accepts. It leaves at least a million numbers for new segments.
pub const SEGMENT_NUMBERS_END: u64 = (SEGMENTS_MAX - (1 << 20)) as u64;

impl At {
    /// Returns the provisional place with this number.
    pub fn coming(promise: u64) -> Self {
        assert!(promise < 1 << KIND_SHIFT, "nobody lives to see as many values");
        Self(promise)
    }

    /// Returns the place of a value in one piece.
    ///
    /// # Panics
    /// If the segment's number is too large.
    pub fn stored(segment: u32, offset: u32) -> Self {
        assert!(segment < SEGMENTS_MAX, "a segment's number fits into 30 bits");
        Self((STORED << KIND_SHIFT) | (u64::from(segment) << 32) | u64::from(offset))
    }

    /// Returns the place of a value in several pieces. `lsn` tells it from others of the segment.
    ///
    /// # Panics
    /// If the segment's number is too large.
    pub fn kept(segment: u32, lsn: Lsn) -> Self {
        assert!(segment < SEGMENTS_MAX, "a segment's number fits into 30 bits");
        Self((KEPT << KIND_SHIFT) | (u64::from(segment) << 32) | (lsn.0 & 0xffff_ffff))
    }

    /// Decodes the place.
    #[inline]
    pub fn place(self) -> Where {
        let segment = ((self.0 >> 32) as u32) % SEGMENTS_MAX;
        match self.0 >> KIND_SHIFT {
            STORED => Where::Stored { segment, offset: self.0 as u32 },
            KEPT => Where::Kept { segment },
            _ => Where::Coming(self.0),
        }
    }

    /// Returns the segment that the value is in; `None` if it is not on disk yet.
    #[inline]
    pub fn segment(self) -> Option<u32> {
        match self.place() {
            Where::Coming(_) => None,
            Where::Stored { segment, .. } | Where::Kept { segment } => Some(segment),
        }
    }

    /// Returns the eight bytes.
    #[inline]
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// Returns the place of the eight bytes that [`to_bits`](Self::to_bits) returned.
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// Finds the values in a segment's frames: calls `visit` with the ranges of each key and its value in `bytes`, which begin at
/// the beginning of a block. Returns the number of bytes that were searched; the rest is the beginning of a frame.
///
/// Blocks that do not begin a whole frame are skipped, one at a time, and so are records in several pieces.
pub fn each_value(bytes: &[u8], file: FileId, mut visit: impl FnMut(Range<usize>, Range<usize>)) -> usize {
    let mut at = 0;
    let place = |part: &[u8]| {
        let start = part.as_ptr().addr() - bytes.as_ptr().addr();
        start..start + part.len()
    };
    let mut show = |record: Record<'_>| {
        if let Record::Put { key, value, .. } | Record::Again { key, value, .. } = record {
            visit(place(key), place(value));
        }
    };
    while at < bytes.len() {
        match FrameHeader::decode(&bytes[at..], file) {
            Ok((header, mut records)) => {
                at += frame_bytes(records.len());
                if header.kind != FrameKind::Records {
                    continue;
                }
                while let Ok(Some((record, length))) = Record::decode(records) {
                    match record {
                        Record::Together(together) => together.each().flatten().for_each(&mut show),
                        record => show(record),
                    }
                    records = &records[length..];
                }
            }
            Err(Invalid::Short(_)) => break,
            Err(_) => at += BLOCK_BYTES,
        }
    }
    at.min(bytes.len())
}
