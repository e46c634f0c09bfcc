//! Gives the log's oldest segments up, with `--values disk`: what is live in one is moved to the log's end, and when that is on
//! disk the log begins behind it.
//!
//! Always the oldest: what a record takes back then never lies before the log's beginning, so that no record of a removal has
//! to outlive its segment, and the log stays one piece. Where the log begins is written down as a snapshot without keys.

use super::{Actions, clock::Clock, job_slot::JobSlot, log_writer::LogWriter};
use crate::{
    commands::Persistence,
    store::{At, Store},
    wal::{
        Desk, Done, FileInfo, Job, Lsn,
        files::Chunk,
        frame::{FRAME_HEADER_BYTES, FileId, PAYLOAD_BYTES_MAX},
        room::{Oldest, SegmentFacts, can_move, judge_oldest, moves_take},
    },
};
use std::io;

/// So much of the log may wait for the disk before more is moved: what clients write shall not wait long behind it.
const PENDING_BYTES_MAX: usize = 256 << 10;
/// Values between two looks at the clock: some 10 µs.
const VALUES_PER_LOOK: usize = 16;
/// The time for which nothing is tried after it has failed, and after there was no room for it.
const RETRY_US: u64 = 10_000_000;
const ROOM_RETRY_US: u64 = 1_000_000;
/// The time for which values are moved in a turn, at least, while the disk is full: the room that is set aside for that is kept from
/// those who delete keys meanwhile, so it must not take many turns.
const FULL_US: u64 = 5_000;
/// Bytes of a record beside its key and its value.
const RECORD_OVERHEAD_MAX: usize = 32;

/// The state of the segment at hand.
enum Phase {
    Idle,
    /// A piece of it is being read.
    Reading,
    /// Its values are moved, from this one on.
    Moving(Chunk, usize),
    /// Its values in several pieces are moved.
    MovingKept,
    /// Nothing needs it once the log is on disk up to here. `bool`: all that needed it was moved.
    Waiting(Lsn, bool),
    /// It is being written down that the log begins here.
    Beginning(Lsn),
    /// The log begins here now, and nothing needs the segment.
    Begun(Lsn),
    /// No segment is left that a start found which accepted a loss. What took their place is on disk once the log is up to here.
    Clearing(Lsn),
    /// It is being written down that the log begins behind those segments: here.
    BeginningBehind(Lsn),
    /// Their files are being cleared away.
    Removing(Lsn),
}

/// Compaction of the log: the oldest segments are given up, one after the other.
pub(super) struct Compaction {
    segment_bytes: u64,
    phase: Phase,
    /// The segment at hand.
    segment: u32,
    /// Segments before this one go, however much of them is live.
    unwanted_before: u32,
    /// Files that are cleared away once those segments have gone.
    leftovers: Vec<FileInfo>,
    /// The records that are no moves, and what is live, when it was last looked; and the active segment when either changed.
    seen: (u64, u64),
    changed_in: u64,
    retry_us: u64,
    /// Room is set aside for what is moved, on a full disk; and the bytes that are to be moved yet.
    has_room_aside: bool,
    to_move: u64,
    /// The next value has no room yet.
    waits: bool,
    /// The position from which on the log says what the versions of all slots are.
    stated_at: Option<Lsn>,
    /// On a full disk: the bytes of records that say so, with some to spare.
    statement_bytes: Option<u64>,
    job: JobSlot,
}

/// The things that it works on.
pub(super) struct Work<'a> {
    pub(super) store: &'a mut Store,
    pub(super) writer: &'a mut LogWriter,
    pub(super) state: &'a mut Persistence,
    /// The part of the log that is to be live, of 100; 0 to leave it alone.
    pub(super) live_percent: u32,
    /// Files that are allocated and are no segments yet.
    pub(super) allocated: u64,
    pub(super) random: &'a mut fastrand::Rng,
    pub(super) actions: &'a mut Actions,
}

impl Compaction {
    /// Begins with nothing to do.
    pub(super) fn new(segment_bytes: u64) -> Self {
        Self {
            segment_bytes,
            phase: Phase::Idle,
            segment: 0,
            unwanted_before: 0,
            leftovers: Vec::new(),
            seen: (0, 0),
            changed_in: 0,
            retry_us: 0,
            has_room_aside: false,
            to_move: 0,
            waits: false,
            stated_at: None,
            statement_bytes: None,
            job: JobSlot::new(Desk::Compaction),
        }
    }

    /// Has every segment before this one given up, and then all that is left of the files that were `found`: what is damaged in
    /// them was accepted as lost, and the next start shall not find it again.
    pub(super) fn give_up_before(&mut self, segment: u64, found: Vec<FileInfo>) {
        self.unwanted_before = u32::try_from(segment).unwrap_or(u32::MAX);
        self.leftovers = found;
    }

    /// Returns true if a job is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.job.is_busy()
    }

    /// Notes the outcome of its job.
    pub(super) fn job_done(&mut self, outcome: io::Result<Done>) {
        self.job.end(outcome);
    }

    /// Goes on for a moment. Returns whether there is more to do at once, and the segment that has just been given up.
    pub(super) fn advance(&mut self, work: &mut Work<'_>, clock: Clock, budget_us: u64) -> (bool, Option<u32>) {
        let now_us = clock.monotonic_us();
        self.waits = false;
        let budget_us = if work.writer.is_full() { budget_us.max(FULL_US) } else { budget_us };
        match self.job.take() {
            Some(Ok(done)) => self.take(done, work),
            Some(Err(error)) => {
                tracing::error!(%error, segment = self.segment, "a segment of the log can't be given up");
                self.phase = Phase::Idle;
                self.retry_us = now_us + RETRY_US;
            }
            None => {}
        }
        self.look_for_room(work, now_us);
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => self.choose(work, now_us),
            phase @ (Phase::Reading | Phase::Beginning(_) | Phase::BeginningBehind(_) | Phase::Removing(_)) => {
                self.phase = phase;
            }
            Phase::Begun(lsn) => {
                self.release(work, lsn);
                return (true, Some(self.segment));
            }
            Phase::Moving(chunk, from) => self.move_values(work, chunk, from, clock, now_us + budget_us),
            Phase::MovingKept => self.move_kept(work, now_us),
            Phase::Waiting(lsn, has_moved) => self.wait(work, (lsn, has_moved), now_us),
            Phase::Clearing(lsn) => self.clear_away(work, lsn),
        }
        self.set_room_aside(work);
        let has_room = work.store.log.as_ref().is_some_and(|log| log.pending_bytes() < PENDING_BYTES_MAX);
        let is_moving = matches!(self.phase, Phase::Moving(..) | Phase::MovingKept);
        ((is_moving && has_room && !self.waits) || matches!(self.phase, Phase::Begun(_)), None)
    }

    /// Ends what is under way, of a core that stops: begins nothing. Returns the segment that is given up, if the log begins behind
    /// it by now: the log may need its room.
    pub(super) fn wind_up(&mut self, work: &mut Work<'_>) -> Option<u32> {
        match (self.job.take(), std::mem::replace(&mut self.phase, Phase::Idle)) {
            (None, Phase::Begun(begin)) | (Some(Ok(_)), Phase::Beginning(begin)) => {
                self.release(work, begin);
                Some(self.segment)
            }
            (None, phase) => {
                self.phase = phase;
                None
            }
            (Some(_), _) => None,
        }
    }

    /// Takes what a job has done.
    fn take(&mut self, done: Done, work: &mut Work<'_>) {
        self.phase = match (std::mem::replace(&mut self.phase, Phase::Idle), done) {
            (Phase::Reading, Done::Values(chunk)) => Phase::Moving(chunk, 0),
            (Phase::Beginning(begin), _) => Phase::Begun(begin),
            (Phase::BeginningBehind(begin), _) => self.remove_leftovers(begin, work),
            (Phase::Removing(begin), _) => {
                self.leftovers = Vec::new();
                work.state.saved_lsn = work.state.saved_lsn.max(begin);
                Phase::Idle
            }
            (_, done) => unreachable!("nobody has asked for {done:?}"),
        };
    }

    /// Looks whether the oldest segment should go.
    fn choose(&mut self, work: &mut Work<'_>, now_us: u64) {
        let (Some(places), Some(log)) = (&work.store.places, &work.store.log) else { return };
        let seen = (log.changed_bytes(), places.live_total());
        if std::mem::replace(&mut self.seen, seen) != seen {
            self.changed_in = work.writer.active();
        }
        if now_us < self.retry_us {
            return;
        }
        let is_full = work.writer.is_full();
        let left_with_reserve = work.state.admission.map_or(0, |admission| admission.left_with_reserve(log.end()));
        // What an earlier start in the other mode has left in a snapshot: that is moved first, and then what it begins in.
        let fits = can_move(places.live(0), left_with_reserve, self.segment_bytes);
        if 0 < places.live(0) && (!is_full || fits) {
            (self.has_room_aside, self.to_move) = (is_full, places.live(0));
            self.segment = 0;
            self.phase = Phase::MovingKept;
            return;
        }
        let oldest = work.writer.oldest().and_then(|(number, _)| u32::try_from(number).ok());
        let Some(segment) = oldest.filter(|&segment| self.leftovers.is_empty() || segment < self.unwanted_before)
        else {
            if !self.leftovers.is_empty() {
                self.phase = Phase::Clearing(log.end());
            }
            return;
        };
        let facts = SegmentFacts {
            oldest: segment.into(),
            oldest_live: places.live(segment) + places.live(0),
            live: places.live_total(),
            written: work.writer.written_bytes(),
            count: work.writer.used_count(),
            changed_in: self.changed_in,
            live_percent: work.live_percent,
            is_full,
            left_with_reserve,
            segment_bytes: self.segment_bytes,
        };
        match judge_oldest(facts) {
            Oldest::Release => {
                self.segment = segment;
                self.phase = Phase::Waiting(log.end(), false);
            }
            Oldest::Move if places.live(0) == 0 => {
                (self.has_room_aside, self.to_move) = (is_full, places.live(segment));
                self.segment = segment;
                self.read(None, 0, work);
            }
            Oldest::Keep if segment < self.unwanted_before && !is_full => {
                self.segment = segment;
                self.read(None, 0, work);
            }
            Oldest::Move | Oldest::Keep => {}
        }
    }

    /// Nothing is needed any more of what a start found that accepted a loss: has the log begin behind it.
    fn clear_away(&mut self, work: &mut Work<'_>, lsn: Lsn) {
        let Some(persisted) = work.store.log.as_ref().map(|log| log.persisted_end()).filter(|&end| lsn <= end) else {
            self.phase = Phase::Clearing(lsn);
            return;
        };
        if self.stated_at.is_none() {
            self.state_versions(work, 0);
            let end = work.store.log.as_ref().map_or(lsn, |log| log.end());
            self.phase = Phase::Clearing(end);
            return;
        }
        let (start, saved) = (work.writer.start(), work.state.saved_lsn);
        // Also where the log begins there already, by a snapshot that may be the one that is damaged.
        self.phase = if saved <= start {
            self.write_beginning(start, persisted, work);
            Phase::BeginningBehind(start)
        } else {
            self.remove_leftovers(saved, work)
        };
    }

    fn remove_leftovers(&mut self, begin: Lsn, work: &mut Work<'_>) -> Phase {
        self.job.begin(Job::ClearAway { found: self.leftovers.clone(), since: begin }, work.actions);
        Phase::Removing(begin)
    }

    fn write_beginning(&mut self, begin: Lsn, persisted: Lsn, work: &mut Work<'_>) {
        let id = FileId(work.random.u64(..));
        self.job.begin(Job::WriteBeginning { id, begin, persisted }, work.actions);
    }

    fn read(&mut self, id: Option<FileId>, offset: u64, work: &mut Work<'_>) {
        self.phase = Phase::Reading;
        self.job.begin(Job::ReadValues { segment: self.segment, id, offset }, work.actions);
    }

    fn move_values(&mut self, work: &mut Work<'_>, chunk: Chunk, from: usize, clock: Clock, until_us: u64) {
        let mut at = from;
        let bytes = chunk.buffer.bytes();
        while at < chunk.found.len() {
            let is_full = work.store.log.as_ref().is_none_or(|log| PENDING_BYTES_MAX <= log.pending_bytes());
            if is_full || (at - from) % VALUES_PER_LOOK == VALUES_PER_LOOK - 1 && until_us <= clock.monotonic_us() {
                self.phase = Phase::Moving(chunk, at);
                return;
            }
            let (key, value) = chunk.found[at].clone();
            if !self.has_room(work, key.len() + value.len()) {
                self.wait_for_room(work, Phase::Moving(chunk, at), clock.monotonic_us());
                return;
            }
            let offset = u32::try_from(chunk.offset + value.start as u64).expect("a segment is at most 4 GiB");
            let moved = work.store.move_value(&bytes[key], &bytes[value], At::stored(self.segment, offset));
            self.to_move = self.to_move.saturating_sub(moved as u64);
            at += 1;
        }
        if chunk.is_last {
            self.phase = Phase::MovingKept;
        } else {
            self.read(Some(chunk.id), chunk.next, work);
        }
    }

    /// Moves values that are in memory, one by one: they are large, or came from a snapshot.
    fn move_kept(&mut self, work: &mut Work<'_>, now_us: u64) {
        for _ in 0..VALUES_PER_LOOK {
            let has_kept = work.store.places.as_ref().is_some_and(|places| places.has_kept(self.segment));
            if has_kept && !self.has_room(work, PAYLOAD_BYTES_MAX) {
                self.wait_for_room(work, Phase::MovingKept, now_us);
                return;
            }
            if work.store.log.as_ref().is_none_or(|log| PENDING_BYTES_MAX <= log.pending_bytes()) {
                self.phase = Phase::MovingKept;
                return;
            }
            let log_end = |work: &Work<'_>| work.store.log.as_ref().map_or(Lsn(0), |log| log.end());
            let before = log_end(work);
            if !work.store.move_kept(self.segment) {
                self.phase = Phase::Waiting(before, true);
                return;
            }
            self.to_move = self.to_move.saturating_sub(log_end(work).0 - before.0);
        }
        self.phase = Phase::MovingKept;
    }

    /// Returns true if so many bytes can be moved.
    fn has_room(&self, work: &Work<'_>, bytes: usize) -> bool {
        let Some((log, admission)) = work.store.log.as_ref().zip(work.state.admission) else { return true };
        (bytes + RECORD_OVERHEAD_MAX) as u64 <= admission.left_for_moves(log.end())
    }

    /// Gives up a move that was begun when the disk was not full, if it has no room now that it is.
    fn look_for_room(&mut self, work: &Work<'_>, now_us: u64) {
        let is_moving = matches!(self.phase, Phase::Moving(..) | Phase::MovingKept);
        let (Some(places), Some(log)) = (&work.store.places, &work.store.log) else { return };
        if is_moving && work.writer.is_full() && !self.has_room_aside {
            let left = work.state.admission.map_or(0, |admission| admission.left_with_reserve(log.end()));
            self.to_move = places.live(self.segment);
            self.has_room_aside = can_move(self.to_move, left, self.segment_bytes);
            if !self.has_room_aside {
                self.phase = Phase::Idle;
                self.retry_us = now_us + ROOM_RETRY_US;
            }
        }
    }

    /// Sets room aside for what is still to be moved, on a full disk.
    fn set_room_aside(&mut self, work: &mut Work<'_>) {
        let (Some(places), Some(log)) = (&work.store.places, &work.store.log) else { return };
        self.has_room_aside &= !matches!(self.phase, Phase::Idle | Phase::Waiting(..) | Phase::Clearing(_));
        // What is moved counts as live in the segment until it is on disk elsewhere.
        let to_move = self.to_move.min(places.live(self.segment));
        let bytes = if self.has_room_aside { moves_take(to_move) } else { 0 };
        // On a full disk, else there would be none for what lets go of a segment.
        let statement =
            work.writer.is_full().then(|| *self.statement_bytes.get_or_insert_with(|| statement_bytes(work.store)));
        if statement.is_none() {
            self.statement_bytes = None;
        }
        work.writer.set_aside(bytes + statement.unwrap_or_default(), log, work.allocated, work.state);
    }

    /// Goes on when the next segment is there; on a full disk, gives up what it is at.
    fn wait_for_room(&mut self, work: &Work<'_>, phase: Phase, now_us: u64) {
        if work.writer.is_full() {
            self.phase = Phase::Idle;
            self.retry_us = now_us + ROOM_RETRY_US;
        } else {
            self.phase = phase;
            self.waits = true;
        }
    }

    /// Waits until what was moved is on disk. Then nothing needs the segment, and the log may begin behind it.
    fn wait(&mut self, work: &mut Work<'_>, (lsn, has_moved): (Lsn, bool), now_us: u64) {
        let (Some(places), Some(log)) = (&work.store.places, &work.store.log) else { return };
        let persisted = log.persisted_end();
        if persisted < lsn {
            self.phase = Phase::Waiting(lsn, has_moved);
            return;
        }
        let live = places.live(self.segment);
        if 0 < live && !has_moved {
            // A value in several pieces whose last has only just been written.
            return;
        }
        if 0 < live {
            let segment = self.segment;
            tracing::error!(segment, live, "values in a segment of the log can't be read, so it is kept");
            self.retry_us = now_us + 6 * RETRY_US;
            return;
        }
        let Some((_, begin)) = work.writer.oldest().filter(|_| self.segment != 0) else { return };
        if self.stated_at.is_none_or(|stated_at| stated_at < begin) {
            if self.state_versions(work, now_us) {
                let end = work.store.log.as_ref().map_or(lsn, |log| log.end());
                self.phase = Phase::Waiting(end, has_moved);
            }
            return;
        }
        // What a snapshot holds is needed until the log begins behind it.
        self.phase = if work.state.saved_lsn < begin {
            self.write_beginning(begin, persisted, work);
            Phase::Beginning(begin)
        } else {
            Phase::Begun(begin)
        };
    }

    /// States the versions of slots at the log's end, since those that the log begins with are about to go. Returns false if there is
    /// no room for that.
    fn state_versions(&mut self, work: &mut Work<'_>, now_us: u64) -> bool {
        if !self.has_room(work, statement_bytes(work.store) as usize) {
            self.retry_us = now_us + ROOM_RETRY_US;
            return false;
        }
        self.stated_at = work.store.log.as_ref().map(|log| log.end());
        work.store.state_versions();
        true
    }

    fn release(&self, work: &mut Work<'_>, begin: Lsn) {
        work.state.saved_lsn = work.state.saved_lsn.max(begin);
        work.state.segments_released += 1;
        work.store.forget_segment(self.segment);
        work.writer.release_before(begin, work.state, work.actions);
    }
}

/// Returns the bytes of the records that say what the versions of all slots are, and some more: the numbers in them grow.
fn statement_bytes(store: &Store) -> u64 {
    let mut bytes = Vec::new();
    store.each_version(|record| record.encode(&mut bytes));
    (bytes.len() + bytes.len() / 4 + FRAME_HEADER_BYTES) as u64
}
