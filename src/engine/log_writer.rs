//! Decides what is written to a shard's log: one frame at a time to the segment at hand, the next segment made ready meanwhile.

use super::{Action, Actions, next_segment::NextSegment};
use crate::{
    commands::Persistence,
    config::Durability,
    wal::{
        Aligned, Desk, Job, Left, Log, LogBegun, Lsn, Segment,
        frame::{BLOCK_BYTES, FRAME_BYTES_MAX},
        room::{Admission, Grow, Room},
    },
};
use std::{collections::VecDeque, io, mem};

/// The time between two writes of a log that need not be synced at once: what `interval` can lose.
const INTERVAL_US: u64 = 1_000_000;
/// Bytes of records that are written at once, whatever the time.
const INTERVAL_BYTES: usize = FRAME_BYTES_MAX / 2;
/// A log that has been silent for so long is sealed.
const SILENCE_US: u64 = 500_000;
/// The bytes that each segment keeps free behind its last frame, so that a log can be sealed wherever it ends.
const SEAL_BYTES: u64 = BLOCK_BYTES as u64;

/// Bytes of records: if the disk is full and fewer have room, all writes are refused, and not only those that are
/// too large.
const ROOM_MIN: u64 = FRAME_BYTES_MAX as u64 / 4;

const DISK_FULL: &str = "MISCONF the disk is full, so the log can't grow: writes are refused until there is room, reads are \
                         answered, and keys can be deleted";
const RESERVE_USED: &str = "MISCONF the disk is full, and the room that is kept back for deletions is used up: make room on the \
                            disk, or FLUSHALL; reads are answered";
const NO_SEGMENT: &str = "MISCONF the log can't grow (the server's own log says why): writes are refused until it can, reads \
                          are answered";

/// A segment that has been written to, or is.
#[derive(Clone, Copy, Debug)]
struct Used {
    number: u64,
    /// The position of its first frame.
    first: Lsn,
}

/// The things that a write works on.
pub(super) struct Writing<'a> {
    pub(super) log: &'a mut Log,
    pub(super) state: &'a mut Persistence,
    pub(super) reserve: &'a mut dyn Grow,
    pub(super) random: &'a mut fastrand::Rng,
    pub(super) actions: &'a mut Actions,
    pub(super) now_us: u64,
    /// Records that are there are written now.
    pub(super) hurries: bool,
}

/// The writer of a shard's log.
pub(super) struct LogWriter {
    segment_bytes: u64,
    durability: Durability,
    active: Segment,
    /// The place of the next frame.
    offset: u64,
    /// The segment of the frame that was handed over last, and its offset there.
    frame_at: (u32, u64),
    next: NextSegment,
    /// Bytes of records that are to be moved yet, on a full disk.
    set_aside: u64,
    /// The jobs under way on files that nobody needs any more: the segments that each sets aside.
    releases: VecDeque<Vec<u64>>,
    /// Segments that could not be set aside, to be tried again with the next.
    unreleased: Vec<u64>,
    /// The position at which the log went on when the server started: that of the first segment that it has written to.
    start: Lsn,
    /// Segments in use, in order; the active one is the last once it has a frame.
    used: Vec<Used>,
    flight: Flight,
    began_us: u64,
    /// The time at which records came that have not been written, for `interval`.
    waiting_since_us: Option<u64>,
    written_us: u64,
    /// A seal is behind everything that is on disk.
    is_sealed: bool,
}

/// The frame that is being written.
enum Flight {
    /// None; memory for the next.
    None(Aligned),
    /// One with records.
    Records,
    /// A seal.
    Seal,
}

impl Flight {
    fn is_none(&self) -> bool {
        matches!(self, Self::None(_))
    }
}

impl LogWriter {
    /// Goes on with a log: the active segment is the last of those that are needed if it has a frame.
    pub(super) fn new(segment_bytes: u64, durability: Durability, begun: &LogBegun, now_us: u64) -> Self {
        let LogBegun { report, active, offset, is_sealed, next_number, is_fresh: _ } = begun;
        let used = report.segments.iter().filter_map(|&(number, first)| Some(Used { number, first: first? }));
        Self {
            segment_bytes,
            durability,
            active: *active,
            offset: *offset,
            frame_at: (0, 0),
            next: NextSegment::new(*next_number),
            set_aside: 0,
            releases: VecDeque::new(),
            unreleased: Vec::new(),
            start: report.end,
            used: used.collect(),
            flight: Flight::None(Aligned::new(FRAME_BYTES_MAX)),
            began_us: now_us,
            waiting_since_us: None,
            written_us: now_us,
            is_sealed: *is_sealed,
        }
    }

    /// Returns the writes that the log's files have room for.
    pub(super) fn admission(&self, log: &Log, allocated: u64) -> Admission {
        let room = Room {
            active: self.active.bytes.saturating_sub(self.offset),
            segments: u64::from(self.next.is_ready()) + allocated,
            segment_bytes: self.segment_bytes,
        };
        Admission::new(Lsn(log.end().0 - log.pending_bytes() as u64), room).setting_aside(self.set_aside)
    }

    /// Keeps room for what is still to be moved of a segment that is given up.
    pub(super) fn set_aside(&mut self, bytes: u64, log: &Log, allocated: u64, state: &mut Persistence) {
        if mem::replace(&mut self.set_aside, bytes) != bytes {
            state.admission = Some(self.admission(log, allocated));
        }
    }

    /// The segment that comes next.
    pub(super) fn next(&mut self) -> &mut NextSegment {
        &mut self.next
    }

    /// Returns true if the last try to make the next segment ready has failed.
    pub(super) fn is_full(&self) -> bool {
        self.next.failure().is_some()
    }

    /// The segment that is written to.
    pub(super) fn active(&self) -> u64 {
        self.active.number
    }

    /// Hands over the next frame, if there is one and its time has come.
    pub(super) fn write(&mut self, writing: &mut Writing<'_>) {
        let is_needed = writing.log.next_frame_bytes().is_some_and(|frame| !self.has_room(frame));
        self.next.look_after(writing, is_needed);
        self.write_frame(writing);
        self.note_room(writing);
    }

    fn write_frame(&mut self, writing: &mut Writing<'_>) {
        if !self.flight.is_none() {
            return;
        }
        let (now_us, hurries) = (writing.now_us, writing.hurries);
        let Some(frame) = writing.log.next_frame_bytes() else {
            if !self.is_sealed && (hurries || self.written_us + SILENCE_US <= now_us) {
                self.seal(writing);
            }
            return;
        };
        if !self.is_due(writing.log, now_us) && !hurries {
            return;
        }
        if !self.has_room(frame) && !self.turn_over() {
            return;
        }
        let Flight::None(mut buffer) = mem::replace(&mut self.flight, Flight::Records) else { return };
        if !self.is_active_used() {
            let first = Lsn(writing.log.end().0 - writing.log.pending_bytes() as u64);
            self.used.push(Used { number: self.active.number, first });
            writing.state.log_bytes = self.used_bytes();
        }
        let length = writing.log.take(self.active.id, buffer.bytes_mut());
        self.is_sealed = false;
        self.waiting_since_us = None;
        self.submit(writing, buffer, length);
    }

    fn submit(&mut self, writing: &mut Writing<'_>, buffer: Aligned, length: usize) {
        self.began_us = writing.now_us;
        self.frame_at = (u32::try_from(self.active.number).unwrap_or(u32::MAX), self.offset);
        let (segment, offset) = (self.active.number, self.offset);
        writing.actions.push(Action::Write { segment, offset, buffer, length });
        self.offset += length as u64;
    }

    /// Returns true if the records at hand are to be written now.
    fn is_due(&mut self, log: &Log, now_us: u64) -> bool {
        match self.durability {
            Durability::None | Durability::Always => true,
            Durability::Interval => {
                let since = *self.waiting_since_us.get_or_insert(now_us);
                since + INTERVAL_US <= now_us || INTERVAL_BYTES <= log.pending_bytes()
            }
        }
    }

    /// Says, in a frame of its own, that all is on disk: from then on damage is told from a write that was cut off.
    fn seal(&mut self, writing: &mut Writing<'_>) {
        assert!(self.offset + SEAL_BYTES <= self.active.bytes, "a frame leaves room for the seal");
        let Flight::None(mut buffer) = mem::replace(&mut self.flight, Flight::Seal) else { return };
        let length = writing.log.seal(self.active.id, writing.log.persisted_end(), buffer.bytes_mut());
        self.submit(writing, buffer, length);
    }

    /// Notes that the frame is on disk, and its records with it. Returns the microseconds that that took.
    ///
    /// # Errors
    /// What is on disk is not known any more: the server must end, without another try. A second sync that succeeds proves
    /// nothing (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
    pub(super) fn written(
        &mut self,
        buffer: Aligned,
        outcome: io::Result<()>,
        log: &mut Log,
        state: &mut Persistence,
        now_us: u64,
    ) -> io::Result<u64> {
        outcome?;
        let flight = mem::replace(&mut self.flight, Flight::None(buffer));
        self.written_us = now_us;
        let us = now_us.saturating_sub(self.began_us);
        state.syncs.note_each(us, 1);
        state.sync_us_max = state.sync_us_max.max(us);
        match flight {
            Flight::Records => log.persisted(),
            Flight::Seal => self.is_sealed = true,
            Flight::None(_) => unreachable!("a frame that is on disk was handed over"),
        }
        Ok(us)
    }

    /// Bytes of the segments in use.
    pub(super) fn used_bytes(&self) -> u64 {
        self.used.len() as u64 * self.segment_bytes
    }

    /// The segment of the frame that was handed over last, and the frame's offset there.
    pub(super) fn frame_at(&self) -> (u32, u64) {
        self.frame_at
    }

    /// The oldest segment that is in use and not written to any more, and the position that the next one begins at.
    pub(super) fn oldest(&self) -> Option<(u64, Lsn)> {
        self.ended().next()
    }

    /// The segments in use that are not written to any more, with the positions where they end. Nothing may have been written to
    /// the active one yet.
    fn ended(&self) -> impl Iterator<Item = (u64, Lsn)> {
        let ends = self.used.iter().skip(1).map(|next| next.first).chain([self.start]);
        let numbers = self.used.iter().map(|used| used.number).take_while(|&number| number != self.active.number);
        numbers.zip(ends)
    }

    /// Returns the position at which the log went on when the server started.
    pub(super) fn start(&self) -> Lsn {
        self.start
    }

    /// The segments that are in use and not written to any more, in order.
    pub(super) fn left(&self) -> impl Iterator<Item = Left> + Clone {
        self.used.windows(2).map(|pair| Left { number: pair[0].number, first: pair[0].first, end: pair[1].first })
    }

    /// Bytes of the segments in use, without what the active one has left.
    pub(super) fn written_bytes(&self) -> u64 {
        let left = if self.is_active_used() { self.active.bytes.saturating_sub(self.offset) } else { 0 };
        self.used_bytes() - left
    }

    /// Returns true if the active segment has a frame.
    fn is_active_used(&self) -> bool {
        self.used.last().is_some_and(|used| used.number == self.active.number)
    }

    /// Returns the number of segments in use.
    pub(super) fn used_count(&self) -> usize {
        self.used.len()
    }

    /// Returns true if everything is on disk and sealed.
    pub(super) fn is_quiet(&self, log: &Log) -> bool {
        self.flight.is_none() && self.is_sealed && log.pending_bytes() == 0
    }

    /// Returns true if the next frame fits into no file that is allocated or is being prepared.
    pub(super) fn is_stuck(&self, log: &Log, spares: u64) -> bool {
        let has_nothing = self.next.is_missing() && spares == 0 && !self.is_releasing();
        self.flight.is_none() && has_nothing && log.next_frame_bytes().is_some_and(|frame| !self.has_room(frame))
    }

    /// Returns true if a frame of so many bytes fits into the active segment, and the seal behind it.
    fn has_room(&self, frame: usize) -> bool {
        self.offset + frame as u64 + SEAL_BYTES <= self.active.bytes
    }

    /// Goes on to the next segment; `false` where it is not ready.
    fn turn_over(&mut self) -> bool {
        let Some(segment) = self.next.take() else { return false };
        self.active = segment;
        self.offset = BLOCK_BYTES as u64;
        true
    }

    /// Notes which writes there is room for, and whether there is for any.
    fn note_room(&self, writing: &mut Writing<'_>) {
        let Writing { log, state, reserve, .. } = writing;
        let admission = self.admission(log, reserve.allocated());
        let left = admission.left(log.end());
        match self.next.failure() {
            Some(error) if left < ROOM_MIN => {
                if state.refusal.is_none() {
                    tracing::error!(%error, "the log can't grow: writes are refused");
                }
                let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
                let has_reserve = BLOCK_BYTES as u64 <= admission.left_with_reserve(log.end());
                state.refusal = Some(match (is_full, has_reserve) {
                    (true, true) => DISK_FULL,
                    (true, false) => RESERVE_USED,
                    (false, _) => NO_SEGMENT,
                });
            }
            _ => {
                if state.refusal.take().is_some() {
                    tracing::info!("there is room for the log again: writes are taken");
                }
            }
        }
        state.admission = Some(admission);
    }

    /// Gives up the segments all of whose records come before `lsn`, since nobody needs them.
    pub(super) fn release_before(&mut self, lsn: Lsn, state: &mut Persistence, actions: &mut Actions) {
        let count = self.ended().take_while(|(_, end)| *end <= lsn).count();
        let mut numbers = mem::take(&mut self.unreleased);
        numbers.extend(self.used.drain(..count).map(|used| used.number));
        state.log_bytes = self.used_bytes();
        // The next try comes behind that, and finds what has become free.
        self.next.try_soon();
        self.release(Job::Release { numbers, is_full: self.is_full() }, actions);
    }

    /// Begins a job for files that nobody needs any more.
    pub(super) fn release(&mut self, job: Job, actions: &mut Actions) {
        let numbers = if let Job::Release { numbers, .. } = &job { numbers.clone() } else { Vec::new() };
        self.releases.push_back(numbers);
        actions.push(Action::Start(Desk::Release, job));
    }

    /// Returns true while segments are being set aside: that makes room.
    pub(super) fn is_releasing(&self) -> bool {
        !self.releases.is_empty()
    }

    /// Notes the end of the first job on files that nobody needs any more. `has_failed`: its segments are to be tried again.
    pub(super) fn released(&mut self, has_failed: bool) {
        let numbers = self.releases.pop_front().expect("what ends was begun");
        if has_failed {
            self.unreleased.extend(numbers);
        }
    }
}
