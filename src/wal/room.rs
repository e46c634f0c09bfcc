//! Decisions about a shard's room on disk: which writes fit, when a snapshot is due, when the log's oldest segment is released,
//! and when a hint may be written.
//!
//! A write is accepted only if its records fit into files that are allocated already, so that no other process can take their
//! room. One segment of these is kept back, the **reserve**: for commands that free memory, for compaction, and for a snapshot
//! that makes room.

use super::{
    Lsn,
    frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, PAYLOAD_BYTES_MAX},
};

/// The allocated files that the log can grow into.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Room {
    /// Bytes left in the segment that is written to.
    pub active: u64,
    /// The number of allocated segments without a frame.
    pub segments: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
}

/// The most frames per [`PAYLOAD_BYTES_MAX`] bytes of records: a command of one byte more than a frame makes two, and the small
/// one before it a third.
const FRAMES_PER_PAYLOAD: u64 = 3;
/// The most bytes that a frame takes besides its records: its header, and padding to a whole block.
const FRAME_OVERHEAD_MAX: u64 = (FRAME_HEADER_BYTES + BLOCK_BYTES - 1) as u64;

impl Room {
    /// Returns the bytes of records that fit for certain, however they are cut into frames.
    pub fn record_bytes(self) -> u64 {
        // The rest of a segment may be too short for the next frame, and one block of it is for the seal.
        let tail = (FRAME_BYTES_MAX + BLOCK_BYTES) as u64;
        let usable = self.segment_bytes.saturating_sub(BLOCK_BYTES as u64 + tail);
        let file_bytes = self.active.saturating_sub(tail) + self.segments * usable;
        let payload = PAYLOAD_BYTES_MAX as u128;
        let frames = u128::from(file_bytes.saturating_sub(FRAMES_PER_PAYLOAD * FRAME_OVERHEAD_MAX));
        let in_several = (frames * payload / (payload + u128::from(FRAMES_PER_PAYLOAD * FRAME_OVERHEAD_MAX))) as u64;
        // Records that wait to be written are one frame if they fit into one.
        let in_one = self.active.saturating_sub(BLOCK_BYTES as u64 + FRAME_OVERHEAD_MAX).min(PAYLOAD_BYTES_MAX as u64);
        in_several.max(in_one)
    }
}

/// The positions up to which the log can grow in its [`Room`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Admission {
    begin: Lsn,
    room: Room,
    regular: Lsn,
    freeing: Lsn,
    emptying: Lsn,
    /// Bytes of records that are kept for moves alone: the values that are still to be moved from a segment.
    set_aside: u64,
}

/// Bytes that only removals of all keys may use, so that a server on a full disk can always be emptied.
const EMPTYING_BYTES: u64 = 4 * BLOCK_BYTES as u64;

impl Admission {
    /// Derives the positions from the log's room. `begin`: the position of the first record that is not in a file yet.
    pub fn new(begin: Lsn, room: Room) -> Self {
        let all = room.record_bytes();
        let reserve = Room { active: 0, segments: 1, ..room }.record_bytes();
        let at = |bytes: u64| Lsn(begin.0.saturating_add(bytes));
        let freeing = at(all.saturating_sub(EMPTYING_BYTES));
        let regular = at(all.saturating_sub(reserve)).min(freeing);
        Self { begin, room, regular, freeing, emptying: at(all), set_aside: 0 }
    }

    /// Sets bytes of records aside for moves and for removals of all keys.
    #[must_use]
    pub fn setting_aside(self, bytes: u64) -> Self {
        let less = |position: Lsn| Lsn(position.0.saturating_sub(bytes).max(self.begin.0));
        Self { regular: less(self.regular), freeing: less(self.freeing), set_aside: bytes, ..self }
    }

    /// Returns the bytes of records that moves may append behind `end`.
    pub fn left_for_moves(&self, end: Lsn) -> u64 {
        self.emptying.0.saturating_sub(EMPTYING_BYTES).saturating_sub(end.0)
    }

    /// Returns true if a write of so many bytes of records fits without the reserve. `end`: the end of the log.
    #[inline]
    pub fn admits(&self, end: Lsn, bytes: u64) -> bool {
        end.0.saturating_add(bytes) <= self.regular.0
    }

    /// Returns true if a write of so many bytes of records fits with the reserve.
    pub fn admits_with_reserve(&self, end: Lsn, bytes: u64) -> bool {
        end.0.saturating_add(bytes) <= self.freeing.0
    }

    /// Returns true if a write of so many bytes of records fits with the reserve and with the bytes for removals of all keys.
    pub fn admits_to_the_last(&self, end: Lsn, bytes: u64) -> bool {
        end.0.saturating_add(bytes) <= self.emptying.0
    }

    /// Returns the position up to which the log can grow without the reserve.
    pub fn end(&self) -> Lsn {
        self.regular
    }

    /// Returns the position up to which the log can grow by expiries: into half of the reserve, so that keys still expire when
    /// the disk becomes full, and the other half is left for clients that delete.
    pub fn expiry_end(&self) -> Lsn {
        Lsn(self.regular.0 + self.freeing.0.saturating_sub(self.regular.0) / 2)
    }

    /// Returns the bytes of records that fit behind `end` without the reserve.
    pub fn left(&self, end: Lsn) -> u64 {
        self.regular.0.saturating_sub(end.0)
    }

    /// Returns the bytes of records that fit behind `end` with the reserve.
    pub fn left_with_reserve(&self, end: Lsn) -> u64 {
        self.freeing.0.saturating_sub(end.0)
    }

    /// Returns the positions for a room with so many more segments.
    #[must_use]
    pub fn grown(&self, segments: u64) -> Self {
        let room = Room { segments: self.room.segments + segments, ..self.room };
        Self::new(self.begin, room).setting_aside(self.set_aside)
    }

    /// Returns the number of segments that have to be added so that a write of so many bytes of records fits.
    pub fn missing_segments(&self, end: Lsn, bytes: u64) -> u64 {
        (0..).find(|&segments| self.grown(segments).admits(end, bytes)).unwrap_or(u64::MAX)
    }
}

/// The spare segments, as the core sees them: it counts and allocates them, and jobs take them.
pub trait Grow {
    /// Returns the number of spare segments.
    fn spares(&self) -> u64;
    /// Returns the number of files that are allocated and not segments yet: spare segments, the one that is being made into the
    /// next segment, and those that a snapshot is written into.
    fn allocated(&self) -> u64;
    /// Notes that the core has the segment that was made ready: it counts as a segment from now on, and not as allocated.
    fn note_delivered(&mut self);
    /// Forgets that the disk had no room, so that [`grow`](Self::grow) tries again.
    fn try_again(&mut self);
    /// Allocates so many segments. Returns false, and allocates none, if the disk has no room for all of them.
    fn grow(&mut self, segments: u64) -> bool;
}

/// The inputs of [`is_snapshot_due`].
#[derive(Clone, Copy, Debug)]
pub struct SnapshotFacts {
    /// The end of the log.
    pub end: Lsn,
    /// The end of the log when the last snapshot began.
    pub saved: Lsn,
    /// The size of the last snapshot in bytes.
    pub snapshot_bytes: u64,
    /// The setting `snapshot-log-bytes`; 0 for never.
    pub after_bytes: u64,
}

/// Returns true if a snapshot is due: the records since the last one take as many bytes as the setting says, and as many as
/// that snapshot.
///
/// Records are counted, not files: a log of few large files is large without a record, and each new snapshot would be due at
/// once. Without a record since the last snapshot none is due, whatever the setting.
pub fn is_snapshot_due(facts: SnapshotFacts) -> bool {
    let SnapshotFacts { end, saved, snapshot_bytes, after_bytes } = facts;
    let grown = end.0.saturating_sub(saved.0);
    after_bytes != 0 && 0 < grown && after_bytes.max(snapshot_bytes) <= grown
}

/// The inputs of [`is_snapshot_needed_for_room`].
#[derive(Clone, Copy, Debug)]
pub struct FullFacts {
    /// True if the log can't grow.
    pub is_full: bool,
    /// The number of segments that a snapshot would free.
    pub segments_freed: usize,
    /// The end of the log, and the memory that the store takes.
    pub now: (Lsn, usize),
    /// The end of the log and the memory when the last snapshot failed, if none has succeeded since.
    pub failed: Option<(Lsn, usize)>,
    /// The size of the last snapshot in bytes.
    pub snapshot_bytes: u64,
    /// The setting `snapshot-log-bytes`; 0 for never.
    pub after_bytes: u64,
}

/// The bytes by which a snapshot has to be smaller than the last one to make room.
const SMALLER_BYTES: u64 = FRAME_BYTES_MAX as u64 / 4;

/// Returns true if a snapshot should be taken because the log can't grow: the segments that it covers are released, and it may
/// replace one that is much larger.
///
/// After a snapshot that did not fit, none is tried before something was written or memory has shrunk.
pub fn is_snapshot_needed_for_room(facts: FullFacts) -> bool {
    let FullFacts { is_full, segments_freed, now: (end, memory), failed, snapshot_bytes, after_bytes } = facts;
    let has_shrunk = failed.is_none_or(|(failed_end, failed_memory)| end != failed_end || memory < failed_memory);
    let is_smaller = 2 * memory as u64 + SMALLER_BYTES <= snapshot_bytes;
    is_full && (0 < segments_freed || is_smaller) && after_bytes != 0 && has_shrunk
}

/// The inputs of [`judge_oldest`], with `--values disk`.
#[derive(Clone, Copy, Debug)]
pub struct SegmentFacts {
    /// The oldest segment's number.
    pub oldest: u64,
    /// Bytes of its records that are live.
    pub oldest_live: u64,
    /// Live bytes of all segments.
    pub live: u64,
    /// Bytes of all segments, without the unwritten rest of the active one.
    pub written: u64,
    /// The number of segments in use.
    pub count: usize,
    /// The active segment's number when an effect was last written or a record last ceased to be live.
    pub changed_in: u64,
    /// The setting `log-live-percent`.
    pub live_percent: u32,
    /// True if the log can't grow.
    pub is_full: bool,
    /// Bytes of records that fit into the log with the reserve.
    pub left_with_reserve: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
}

/// The decision about the log's oldest segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Oldest {
    /// Keep it.
    Keep,
    /// Release it: nothing in it is live.
    Release,
    /// Append its live values to the log again, and release it then.
    Move,
}

/// The number of segments below which a log is not compacted.
const SEGMENTS_MIN: usize = 4;

/// Decides what to do with the log's oldest segment.
///
/// A segment is moved if too little of the log is live; on a full disk, if all garbage together takes a segment and the live
/// values fit. Values are not moved twice without a change in between: they are as dense as they can be.
pub fn judge_oldest(facts: SegmentFacts) -> Oldest {
    if facts.oldest_live == 0 {
        return Oldest::Release;
    }
    let is_sparse = SEGMENTS_MIN <= facts.count
        && u128::from(facts.live) * 100 < u128::from(facts.written) * u128::from(facts.live_percent);
    let has_garbage = facts.live.saturating_add(facts.segment_bytes) <= facts.written && facts.live_percent != 0;
    let fits = can_move(facts.oldest_live, facts.left_with_reserve, facts.segment_bytes);
    let is_wanted = if facts.is_full { has_garbage && fits } else { is_sparse };
    if is_wanted && facts.oldest <= facts.changed_in { Oldest::Move } else { Oldest::Keep }
}

/// Returns the bytes of records to set aside for `bytes` that are to be moved: frames are padded to whole blocks.
pub fn moves_take(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 2)
}

/// Returns true if `bytes` of live records may be moved to the log's end, where `left_with_reserve` fit: deletions that come
/// meanwhile must have room, too.
pub fn can_move(bytes: u64, left_with_reserve: u64, segment_bytes: u64) -> bool {
    const DELETIONS: u64 = 16;
    moves_take(bytes).saturating_add(segment_bytes / DELETIONS) <= left_with_reserve
}

/// Returns true if a hint may be written with `free_bytes` on the disk. A hint only saves time at the next start, and must not
/// take the room that the log grows into. `segment_bytes`: more than any hint takes.
pub fn has_room_for_hint(free_bytes: u64, segment_bytes: u64) -> bool {
    // The hint, and the next segments of some cores that share the disk.
    const SEGMENTS_LEFT: u64 = 4;
    (1 + SEGMENTS_LEFT) * segment_bytes <= free_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::{Log, Record, frame::FileId};
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    proptest! {
        /// Admitted records fit into the allocated files, whatever their lengths, and however often a frame is written between
        /// two commands.
        #[test]
        fn what_is_admitted_fits(
            commands in prop::collection::vec((0_usize..3_000_000, 0_usize..3), 1..40),
            segments in 0_u64..6,
            used in 0_u64..1024,
        ) {
            let segment_bytes = 4 * MIB;
            let mut room = Room { active: segment_bytes - (1 + used) * BLOCK_BYTES as u64, segments, segment_bytes };
            let (mut log, mut buffer, mut admitted) = (Log::new(Lsn(0), true), vec![0; FRAME_BYTES_MAX], 0);
            let mut write = |log: &mut Log, room: &mut Room| {
                let Some(frame) = log.next_frame_bytes() else { return };
                if room.active < (frame + BLOCK_BYTES) as u64 {
                    assert!(0 < room.segments, "a frame that was admitted has no place");
                    *room = Room { active: segment_bytes - BLOCK_BYTES as u64, segments: room.segments - 1, ..*room };
                }
                room.active -= log.take(FileId(1), &mut buffer) as u64;
                log.persisted();
            };
            for (length, frames) in commands {
                let begin = Lsn(log.end().0 - log.pending_bytes() as u64);
                if Admission::new(begin, room).admits_with_reserve(log.end(), length as u64 + 10) {
                    admitted += 1;
                    log.append(1, Record::Put { key: b"k", value: &vec![b'v'; length], expires_at: None });
                    log.end_command();
                }
                (0..frames).for_each(|_| write(&mut log, &mut room));
            }
            while log.next_frame_bytes().is_some() {
                write(&mut log, &mut room);
            }
            prop_assert!(segments < 4 || 0 < admitted, "some of it fits");
        }
    }

    /// One segment is kept back for commands that free memory; for a write that does not fit, the number of missing segments is
    /// known.
    #[test]
    fn a_segment_is_kept_back_for_what_frees() {
        let room = Room { active: 4 * MIB, segments: 1, segment_bytes: 64 * MIB };
        let (begin, small) = (Lsn(1000), MIB);
        let admission = Admission::new(begin, room);
        assert!(admission.admits(begin, 2 * MIB) && !admission.admits(begin, 3 * MIB + 1));
        assert!(admission.admits_with_reserve(begin, 60 * MIB) && !admission.admits_with_reserve(begin, 66 * MIB));
        let [last, block] = [
            Room { active: 6 * BLOCK_BYTES as u64, segments: 0, ..room },
            Room { active: 3 * BLOCK_BYTES as u64, segments: 0, ..room },
        ]
        .map(|room| Admission::new(begin, room));
        assert!(!last.admits(begin, 1) && !last.admits_with_reserve(begin, 100) && last.admits_to_the_last(begin, 100));
        assert!(block.admits_to_the_last(begin, 100), "a block, and one for the seal");
        let full = Admission::new(begin, Room { active: 0, ..room });
        assert!(!full.admits(begin, 1) && full.admits_with_reserve(begin, small));
        assert!(full.grown(1).admits(begin, small));
        assert_eq!([0, small, 64 * MIB, 512 * MIB].map(|bytes| full.missing_segments(begin, bytes)), [0, 1, 2, 9]);
        assert!(!Admission::new(begin, Room::default()).admits_with_reserve(begin, 1));
        assert!(!full.admits(begin, u64::MAX), "no sum overflows");
    }

    /// On a full disk a snapshot is taken if it frees a segment; after one that did not fit, the next is tried when keys have
    /// been removed, by a command or by expiry.
    #[test]
    fn a_full_disk_makes_a_snapshot_due() {
        let full = FullFacts {
            is_full: true,
            segments_freed: 1,
            now: (Lsn(100), 1000),
            failed: None,
            snapshot_bytes: 0,
            after_bytes: 1 << 30,
        };
        for (facts, is_needed) in [
            (full, true),
            (FullFacts { is_full: false, ..full }, false),
            (FullFacts { segments_freed: 0, ..full }, false),
            (FullFacts { segments_freed: 0, snapshot_bytes: MIB, ..full }, true),
            (FullFacts { segments_freed: 0, snapshot_bytes: MIB, now: (Lsn(100), 1 << 20), ..full }, false),
            (FullFacts { after_bytes: 0, ..full }, false),
            (FullFacts { failed: Some((Lsn(100), 1000)), ..full }, false),
            (FullFacts { failed: Some((Lsn(90), 1000)), ..full }, true),
            (FullFacts { failed: Some((Lsn(100), 1001)), ..full }, true),
        ] {
            assert_eq!(is_snapshot_needed_for_room(facts), is_needed, "{facts:?}");
        }
    }

    /// A segment is moved while too little of the log is live, and never twice for the same change; one without live values is
    /// released at once. On a full disk a segment's worth of garbage is enough, if the live values fit.
    #[test]
    fn garbage_is_given_up_and_nothing_is_moved_in_vain() {
        let sparse = SegmentFacts {
            oldest: 1,
            oldest_live: MIB,
            live: 100 * MIB,
            written: 640 * MIB,
            count: 10,
            changed_in: 11,
            live_percent: 50,
            is_full: false,
            left_with_reserve: 60 * MIB,
            segment_bytes: 64 * MIB,
        };
        let full = SegmentFacts { is_full: true, live: 500 * MIB, ..sparse };
        for (facts, verdict) in [
            (sparse, Oldest::Move),
            (SegmentFacts { oldest_live: 0, ..sparse }, Oldest::Release),
            (SegmentFacts { oldest_live: 0, live: 0, count: 2, changed_in: 0, ..full }, Oldest::Release),
            (SegmentFacts { live: 320 * MIB, ..sparse }, Oldest::Keep),
            (SegmentFacts { count: 3, ..sparse }, Oldest::Keep),
            // All that is left was moved since the last change.
            (SegmentFacts { oldest: 12, changed_in: 11, live_percent: 90, ..sparse }, Oldest::Keep),
            (full, Oldest::Move),
            (SegmentFacts { count: 2, ..full }, Oldest::Move),
            (SegmentFacts { live_percent: 0, ..full }, Oldest::Keep),
            (SegmentFacts { live: 577 * MIB, ..full }, Oldest::Keep),
            (SegmentFacts { oldest_live: 61 * MIB, ..full }, Oldest::Keep),
            (SegmentFacts { oldest: 12, ..full }, Oldest::Keep),
        ] {
            assert_eq!(judge_oldest(facts), verdict, "{facts:?}");
        }
    }

    #[test]
    fn a_hint_leaves_room_for_the_log() {
        assert!(has_room_for_hint(320 * MIB, 64 * MIB) && !has_room_for_hint(319 * MIB, 64 * MIB));
    }

    /// Only records make a snapshot due: an idle server takes none, however small the setting and however large the files.
    #[test]
    fn a_snapshot_is_due_by_records_alone() {
        for (end, saved, snapshot_bytes, after_bytes, is_due) in [
            (0, 0, 0, 1, false),
            (5000, 5000, 0, 1, false),
            (5000, 5000, 8192, 1, false),
            // The snapshot that a restart found, of a log that was lost since.
            (5000, 6000, 8192, 1, false),
            (13_191, 5000, 8192, 1, false),
            (13_192, 5000, 8192, 1, true),
            (999, 0, 0, 1000, false),
            (1000, 0, 0, 1000, true),
            (u64::MAX, 0, 0, 0, false),
        ] {
            let facts = SnapshotFacts { end: Lsn(end), saved: Lsn(saved), snapshot_bytes, after_bytes };
            assert_eq!(is_snapshot_due(facts), is_due, "{facts:?}");
        }
    }
}
