//! Decides what is written to a snapshot of a shard while the shard goes on: no fork, no copy of the store, no pause longer than a slice.
//!
//! The store is walked in slices, and what was walked is framed as records, as in the log, and written by jobs. Changes meanwhile are in the log; whoever reads the snapshot reads the log from where it ended when the walk began,
//! and since records are effects it does not matter which of them the walk has seen.

use super::{Actions, clock::Clock, job_slot::JobSlot};
use crate::{
    store::{Cursor, Store, UnixMillis, put},
    wal::{
        Aligned, Desk, Done, Job, Log, Lsn,
        frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileId},
    },
};
use std::io;

/// Bytes that are written at once: so many that a disk is kept busy, so few that the log's own writes wait little for them.
const WRITE_BYTES: usize = 32 * 1024;
/// Bytes a microsecond while the log is being written, so that its syncs find the disk free most of the time; where it is not,
/// as fast as the disk goes.
const PACE_BYTES_PER_US: u64 = 40;
/// Entries between two looks at the clock: some 10 µs.
const ENTRIES_PER_LOOK: usize = 64;

/// The state of a snapshot.
pub(super) enum Progress {
    /// There is more to walk: call again soon.
    Walking,
    /// A job is under way, or the log has to catch up.
    Waiting,
    /// It is there, of this many bytes.
    Done(u64),
    /// It is not; nothing is left of it.
    Failed(io::Error),
}

/// A snapshot that is being written.
pub(super) struct Snapshot {
    id: FileId,
    /// The end of the log when the walk began: from here on it is needed.
    pub(super) since: Lsn,
    /// The end of the log when the walk ended. The snapshot counts once the log is on disk up to here: what it shows may not be
    /// newer than what the log can bring back.
    walked_at: Option<Lsn>,
    /// The frames to come. A snapshot is a log that begins with every live key.
    stream: Log,
    cursor: Cursor,
    /// Its file is there.
    is_open: bool,
    offset: u64,
    buffer: Option<Aligned>,
    is_sealed: bool,
    /// The reason for which it is given up.
    failure: Option<io::Error>,
    /// The time at which the next write may begin.
    next_us: u64,
    job: JobSlot,
}

impl Snapshot {
    /// Begins one of `store`. `since`: where the log ends now. `takes_reserve`: it may be written into the reserve.
    pub(super) fn begin(
        store: &Store,
        since: Lsn,
        takes_reserve: bool,
        random: &mut fastrand::Rng,
        actions: &mut Actions,
    ) -> Self {
        let mut stream = Log::new(Lsn(0), false);
        // Now: the log from `since` on has the effects that count in them.
        store.each_version(|record| stream.append_statement(record));
        let mut snapshot = Self {
            id: FileId(random.u64(..)),
            since,
            walked_at: None,
            stream,
            cursor: Cursor::START,
            is_open: false,
            offset: BLOCK_BYTES as u64,
            buffer: Some(Aligned::new(FRAME_BYTES_MAX)),
            is_sealed: false,
            failure: None,
            next_us: 0,
            job: JobSlot::new(Desk::Snapshot),
        };
        snapshot.job.begin(Job::BeginSnapshot { id: snapshot.id, since, takes_reserve }, actions);
        snapshot
    }

    /// Notes the outcome of its job.
    pub(super) fn job_done(&mut self, outcome: io::Result<Done>) {
        self.job.end(outcome);
    }

    /// Goes on for a moment. `end`, `persisted`: where the log ends, and how far it is on disk.
    pub(super) fn advance(
        &mut self,
        store: &Store,
        (end, persisted): (Lsn, Lsn),
        (clock, budget_us): (Clock, u64),
        actions: &mut Actions,
    ) -> Progress {
        match self.job.take() {
            Some(Ok(Done::Written(buffer))) => self.buffer = Some(buffer),
            Some(Ok(Done::Finished(bytes))) => return Progress::Done(bytes),
            Some(Ok(_)) => match self.failure.take() {
                Some(error) => return Progress::Failed(error),
                None => self.is_open = true,
            },
            Some(Err(error)) => self.give_up(error, actions),
            None => {}
        }
        if self.failure.is_some() {
            return Progress::Waiting;
        }
        if self.walked_at.is_none() && self.stream.pending_bytes() < 2 * WRITE_BYTES {
            self.walk(store, clock, budget_us);
            if self.cursor == Cursor::START {
                self.walked_at = Some(end);
            }
        }
        self.hand_over((end, persisted), clock.monotonic_us(), actions);
        let can_walk = self.walked_at.is_none() && self.stream.pending_bytes() < 2 * WRITE_BYTES;
        if can_walk { Progress::Walking } else { Progress::Waiting }
    }

    /// Gives the snapshot up, and with it the room that it has taken: it has failed once that is done. Does nothing while a job is
    /// under way.
    pub(super) fn give_up(&mut self, why: io::Error, actions: &mut Actions) {
        if self.job.is_busy() {
            return;
        }
        self.failure = Some(why);
        self.job.begin(Job::DropSnapshot(self.since), actions);
    }

    /// Frames what is next in the store: also keys whose time has come and which are still there, so that what a later record
    /// changes is in the snapshot, whatever the clock has done in between.
    fn walk(&mut self, store: &Store, clock: Clock, budget_us: u64) {
        let until = clock.monotonic_us() + budget_us;
        let stream = &mut self.stream;
        loop {
            self.cursor = store.scan(self.cursor, ENTRIES_PER_LOOK, UnixMillis(0), |entry| {
                stream.append(0, put(entry));
                stream.end_command();
            });
            let is_over = self.cursor == Cursor::START;
            if is_over || 2 * WRITE_BYTES <= stream.pending_bytes() || until <= clock.monotonic_us() {
                return;
            }
        }
    }

    /// Begins the next job, if there is one and none is under way.
    fn hand_over(&mut self, (end, persisted): (Lsn, Lsn), now_us: u64, actions: &mut Actions) {
        let is_early = persisted < end && now_us < self.next_us;
        if !self.is_open || self.job.is_busy() || is_early {
            return;
        }
        let pending = self.stream.pending_bytes();
        if WRITE_BYTES <= pending || (0 < pending && self.walked_at.is_some()) {
            let Some(mut buffer) = self.buffer.take() else { return };
            let length = self.stream.take(self.id, buffer.bytes_mut());
            self.stream.persisted();
            self.next_us = now_us + length as u64 / PACE_BYTES_PER_US;
            self.write(buffer, length, actions);
        } else if let Some(walked_at) = self.walked_at.filter(|&lsn| pending == 0 && lsn <= persisted) {
            if self.is_sealed {
                self.job.begin(Job::FinishSnapshot { since: self.since, bytes: self.offset }, actions);
            } else if let Some(mut buffer) = self.buffer.take() {
                self.is_sealed = true;
                let length = self.stream.seal(self.id, walked_at, buffer.bytes_mut());
                self.write(buffer, length, actions);
            }
        }
    }

    fn write(&mut self, buffer: Aligned, length: usize, actions: &mut Actions) {
        let write = Job::WriteSnapshot { since: self.since, offset: self.offset, buffer, length };
        self.offset += length as u64;
        self.job.begin(write, actions);
    }
}
