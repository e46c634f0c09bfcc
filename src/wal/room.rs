//! Decisions about a shard's room on disk: which writes fit, when a snapshot is due, when the log's oldest segment is worth
//! giving up, and when a hint may be written.
//!
//! A write is accepted only if its records fit into files that are allocated already, so that no other process can take their
//! room. One segment of these is kept back, the **reserve**: for commands that free, for compaction, and for a snapshot that
//! makes room.

use super::{
    Lsn,
    frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, PAYLOAD_BYTES_MAX},
};

/// The allocated files that the log can go on in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Room {
    /// Bytes left in the segment that is written to.
    pub active: u64,
    /// The number of allocated segments without a frame.
    pub segments: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
}

/// Frames in a frame's bytes of records, at most: a command of one byte more than a frame makes two, and the small one before
/// it a third.
const FRAMES_PER_PAYLOAD: u64 = 3;
/// Bytes that a frame takes besides its records, at most: its header, and padding to a whole block.
const FRAME_OVERHEAD_MAX: u64 = (FRAME_HEADER_BYTES + BLOCK_BYTES - 1) as u64;

impl Room {
    /// Returns how many bytes of records fit for certain, however they are cut into frames.
    pub fn record_bytes(self) -> u64 {
        // What is left of a segment may be too short for the next frame, and a block of it is the seal's.
        let tail = (FRAME_BYTES_MAX + BLOCK_BYTES) as u64;
        let usable = self.segment_bytes.saturating_sub(BLOCK_BYTES as u64 + tail);
        let file_bytes = self.active.saturating_sub(tail) + self.segments * usable;
        let payload = PAYLOAD_BYTES_MAX as u128;
        let frames = u128::from(file_bytes.saturating_sub(FRAMES_PER_PAYLOAD * FRAME_OVERHEAD_MAX));
        let in_several = (frames * payload / (payload + u128::from(FRAMES_PER_PAYLOAD * FRAME_OVERHEAD_MAX))) as u64;
        // What waits to be written is one frame if it fits into one.
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
    /// Bytes of records that are kept from all but moves: what a segment that is being given up still needs.
    set_aside: u64,
}

/// Bytes that only what removes all keys may use: a server on a full disk can always be emptied.
const EMPTYING_BYTES: u64 = 4 * BLOCK_BYTES as u64;

impl Admission {
    /// Derives the positions from the log's room. `begin`: the position of the first record that has no place in a file.
    pub fn new(begin: Lsn, room: Room) -> Self {
        let all = room.record_bytes();
        let reserve = Room { active: 0, segments: 1, ..room }.record_bytes();
        let at = |bytes: u64| Lsn(begin.0.saturating_add(bytes));
        let freeing = at(all.saturating_sub(EMPTYING_BYTES));
        let regular = at(all.saturating_sub(reserve)).min(freeing);
        Self { begin, room, regular, freeing, emptying: at(all), set_aside: 0 }
    }

    /// Keeps so many bytes of records from all but moves, and from what removes all keys.
    #[must_use]
    pub fn setting_aside(self, bytes: u64) -> Self {
        let less = |position: Lsn| Lsn(position.0.saturating_sub(bytes).max(self.begin.0));
        Self { regular: less(self.regular), freeing: less(self.freeing), set_aside: bytes, ..self }
    }

    /// Returns the bytes of records that moves may append behind `end`.
    pub fn left_for_moves(&self, end: Lsn) -> u64 {
        self.emptying.0.saturating_sub(EMPTYING_BYTES).saturating_sub(end.0)
    }

    /// Returns true if a write of so many bytes of records fits, the reserve left alone. `end`: the end of the log.
    #[inline]
    pub fn admits(&self, end: Lsn, bytes: u64) -> bool {
        end.0.saturating_add(bytes) <= self.regular.0
    }

    /// Returns true if it fits with the reserve.
    pub fn admits_with_reserve(&self, end: Lsn, bytes: u64) -> bool {
        end.0.saturating_add(bytes) <= self.freeing.0
    }

    /// Returns true if it fits with the reserve, to its last block.
    pub fn admits_to_the_last(&self, end: Lsn, bytes: u64) -> bool {
        end.0.saturating_add(bytes) <= self.emptying.0
    }

    /// Returns the position up to which the log can grow, the reserve left alone.
    pub fn end(&self) -> Lsn {
        self.regular
    }

    /// Returns the position up to which the log can grow by what has expired: half of the reserve, so that a full disk keeps
    /// nothing from expiring at once, and leaves the other half to clients who delete.
    pub fn expiry_end(&self) -> Lsn {
        Lsn(self.regular.0 + self.freeing.0.saturating_sub(self.regular.0) / 2)
    }

    /// Returns the bytes of records that fit behind `end`, the reserve left alone.
    pub fn left(&self, end: Lsn) -> u64 {
        self.regular.0.saturating_sub(end.0)
    }

    /// Returns the bytes of records that fit behind `end`, the reserve included.
    pub fn left_with_reserve(&self, end: Lsn) -> u64 {
        self.freeing.0.saturating_sub(end.0)
    }

    /// Returns what the room is with so many segments more.
    #[must_use]
    pub fn grown(&self, segments: u64) -> Self {
        let room = Room { segments: self.room.segments + segments, ..self.room };
        Self::new(self.begin, room).setting_aside(self.set_aside)
    }

    /// Returns how many segments have to be added for a write of so many bytes of records to fit.
    pub fn missing_segments(&self, end: Lsn, bytes: u64) -> u64 {
        (0..).find(|&segments| self.grown(segments).admits(end, bytes)).unwrap_or(u64::MAX)
    }
}

/// Spare segments: the core counts them and adds to them, and the jobs for its files take them.
pub trait Grow {
    /// Returns the number of spare segments.
    fn spares(&self) -> u64;
    /// Returns the number of files that are allocated and are no segments yet: spare segments, the one that is being made into the
    /// next segment, and those that a snapshot is written into.
    fn allocated(&self) -> u64;
    /// Notes that the core has the segment that was made ready: it counts for itself from now on.
    fn note_delivered(&mut self);
    /// Forgets that the disk had no room.
    fn try_again(&mut self);
    /// Allocates so many segments. Returns false, and leaves none, if the disk has no room for them.
    fn grow(&mut self, segments: u64) -> bool;
}

/// What decides whether a snapshot is due.
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

/// What decides whether a snapshot is taken to make room.
#[derive(Clone, Copy, Debug)]
pub struct FullFacts {
    /// Whether the log can't grow.
    pub is_full: bool,
    /// How many segments a snapshot would make free.
    pub segments_freed: usize,
    /// The end of the log, and the memory that the store takes.
    pub now: (Lsn, usize),
    /// The same when the last snapshot failed, if none has succeeded since.
    pub failed: Option<(Lsn, usize)>,
    /// The size of the last snapshot in bytes.
    pub snapshot_bytes: u64,
    /// The setting `snapshot-log-bytes`; 0 for never.
    pub after_bytes: u64,
}

/// A snapshot that would be smaller than the last one by less than this makes no room.
const SMALLER_BYTES: u64 = FRAME_BYTES_MAX as u64 / 4;

/// Returns true if a snapshot should be taken because the log can't grow: it lets go of the segments that it covers, and takes
/// the place of one that is much larger.
///
/// One that did not fit is not tried again before keys have gone.
pub fn is_snapshot_needed_for_room(facts: FullFacts) -> bool {
    let FullFacts { is_full, segments_freed, now: (end, memory), failed, snapshot_bytes, after_bytes } = facts;
    let has_shrunk = failed.is_none_or(|(failed_end, failed_memory)| end != failed_end || memory < failed_memory);
    let is_smaller = 2 * memory as u64 + SMALLER_BYTES <= snapshot_bytes;
    is_full && (0 < segments_freed || is_smaller) && after_bytes != 0 && has_shrunk
}

/// What decides whether the log's oldest segment is given up, with `--values disk`.
#[derive(Clone, Copy, Debug)]
pub struct SegmentFacts {
    /// The oldest segment's number.
    pub oldest: u64,
    /// Bytes of its records that are live.
    pub oldest_live: u64,
    /// Live bytes of all segments.
    pub live: u64,
    /// Bytes of all segments, without what the active one has left.
    pub written: u64,
    /// How many segments are in use.
    pub count: usize,
    /// The active segment's number when a record was last written that is no move, or one died.
    pub changed_in: u64,
    /// The setting `log-live-percent`.
    pub live_percent: u32,
    /// Whether the log can't grow.
    pub is_full: bool,
    /// Bytes of records that fit into the log, the reserve included.
    pub left_with_reserve: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
}

/// What to do with the log's oldest segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Oldest {
    /// Keep it.
    Keep,
    /// Let go of it: nothing in it is live.
    Release,
    /// Move what is live in it to the log's end, and let go of it then.
    Move,
}

/// A log of so few segments is not compacted.
const SEGMENTS_MIN: usize = 4;

/// Decides what to do with the log's oldest segment.
///
/// A segment is moved if too little of the log is live; on a full disk, if all garbage together takes a segment and what is to
/// be moved fits. What was moved is not moved again before something has changed: it is as dense as it gets.
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

/// Returns the bytes of records to set aside for so many that are to be moved: frames are padded to whole blocks.
pub fn moves_take(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 2)
}

/// Returns true if so many bytes of live records may be moved to the log's end, where so many have room there: deletions that
/// come meanwhile must have room, too.
pub fn can_move(bytes: u64, left_with_reserve: u64, segment_bytes: u64) -> bool {
    const DELETIONS: u64 = 16;
    moves_take(bytes).saturating_add(segment_bytes / DELETIONS) <= left_with_reserve
}

/// Returns true if a hint may be written with so many bytes free on the disk: a hint only saves time at the next start, and
/// must not take the room that the log grows into. `segment_bytes`: more than any hint takes.
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
        /// What is admitted is written into the files that there are: whatever the lengths, and however often the disk takes
        /// a frame between two commands.
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

    /// One segment is kept back from all but what frees; a write that does not fit says how many segments it lacks.
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

    /// On a full disk a snapshot is taken where it lets go of a segment; one that did not fit is tried again when keys have
    /// gone, by a command or by their time.
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

    /// A segment is moved while too little of the log is live, and never twice for the same change; what nothing live is in
    /// goes at once. On a full disk a segment's worth of garbage is enough, if what is moved fits.
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
