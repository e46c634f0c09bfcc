//! Writes a snapshot of a shard while the shard goes on: no fork, no copy of the store, no pause longer than a slice.
//!
//! The store is walked in slices, and what was walked is framed as records, as in the log, and written by the core's blocking
//! thread. Changes meanwhile are in the log; whoever reads the snapshot reads the log from where it ended when the walk began,
//! and since records are effects it does not matter which of them the walk has seen.

use super::{blocking::Blocking, clock::Clock, files::OsFiles, ring::Bell};
use crate::{
    store::{Cursor, Store, UnixMillis, put},
    wal::{
        Log, Lsn,
        aligned::Aligned,
        files::{Files, Layout},
        frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileId},
    },
};
use std::{io, sync::Arc};

/// Bytes that are written at once: so many that a disk is kept busy, so few that the log's own writes wait little for them.
const WRITE_BYTES: usize = 32 * 1024;
/// Bytes a microsecond while the log is being written, so that its syncs find the disk free most of the time; where it is not,
/// as fast as the disk goes.
const PACE_BYTES_PER_US: u64 = 40;
/// Entries between two looks at the clock: some 10 µs.
const ENTRIES_PER_LOOK: usize = 64;

/// What the blocking thread has done.
enum Job<T> {
    Opened(T),
    Written(Aligned),
    Finished(u64),
    /// Nothing is left of it.
    Dropped,
}

/// How a snapshot is coming along.
pub enum Progress {
    /// There is more to walk: call again soon.
    Walking,
    /// The blocking thread is at it, or the log has to catch up.
    Waiting,
    /// It is there, of this many bytes.
    Done(u64),
    /// It is not; nothing is left of it.
    Failed(io::Error),
}

/// A snapshot that is being written.
pub struct Snapshot<F: Files = OsFiles> {
    layout: Layout<F>,
    id: FileId,
    /// Where the log ended when the walk began: from here on it is needed.
    pub since: Lsn,
    /// Where it ended when the walk did. The snapshot counts once the log is on disk up to here: what it shows may not be
    /// newer than what the log can bring back.
    walked_at: Option<Lsn>,
    /// The frames to come. A snapshot is a log that begins with every live key.
    stream: Log,
    cursor: Cursor,
    file: Option<Arc<F::File>>,
    offset: u64,
    buffer: Option<Aligned>,
    is_sealed: bool,
    /// Why it is given up.
    failure: Option<io::Error>,
    /// When the next write may begin.
    next_us: u64,
    job: Blocking<io::Result<Job<F::File>>>,
}

impl<F: Files> Snapshot<F> {
    /// Begins one. `since`: where the log ends now. `is_full`: the disk is, so the reserve may be used.
    pub fn begin(layout: Layout<F>, since: Lsn, is_full: bool, bell: Arc<Bell>) -> Self {
        let mut snapshot = Self {
            id: FileId(fastrand::u64(..)),
            since,
            walked_at: None,
            stream: Log::new(Lsn(0), false),
            cursor: Cursor::START,
            file: None,
            offset: BLOCK_BYTES as u64,
            buffer: Some(Aligned::new(FRAME_BYTES_MAX)),
            is_sealed: false,
            failure: None,
            next_us: 0,
            job: Blocking::new(bell),
            layout,
        };
        let (layout, id) = (snapshot.layout.clone(), snapshot.id);
        snapshot.job.begin(move || layout.begin_snapshot(id, since, is_full).map(Job::Opened));
        snapshot
    }

    /// Goes on for a moment. `end`, `persisted`: where the log ends, and how far it is on disk.
    pub fn advance(&mut self, store: &Store, (end, persisted): (Lsn, Lsn), clock: Clock, budget_us: u64) -> Progress {
        match self.job.take() {
            Some(Ok(Job::Opened(file))) => self.file = Some(Arc::new(file)),
            Some(Ok(Job::Written(buffer))) => self.buffer = Some(buffer),
            Some(Ok(Job::Finished(bytes))) => return Progress::Done(bytes),
            Some(Ok(Job::Dropped)) => {
                let error = self.failure.take().expect("a snapshot is dropped for a reason");
                return Progress::Failed(error);
            }
            Some(Err(error)) => self.give_up(error),
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
        self.hand_over(end, persisted, clock.monotonic_us());
        let can_walk = self.walked_at.is_none() && self.stream.pending_bytes() < 2 * WRITE_BYTES;
        if can_walk { Progress::Walking } else { Progress::Waiting }
    }

    /// Gives the snapshot up, and with it the room that it has taken: it has failed once that is done. Does nothing while the
    /// blocking thread is at it.
    pub fn give_up(&mut self, why: io::Error) {
        if self.job.is_running() {
            return;
        }
        self.failure = Some(why);
        // Closed first, so that its blocks are free at once.
        self.file = None;
        let (layout, since) = (self.layout.clone(), self.since);
        self.job.begin(move || {
            layout.drop_snapshot(since);
            Ok(Job::Dropped)
        });
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

    /// Gives the blocking thread its next job, if it is free and there is one.
    fn hand_over(&mut self, end: Lsn, persisted: Lsn, now_us: u64) {
        let is_early = persisted < end && now_us < self.next_us;
        let Some(file) = self.file.clone().filter(|_| !self.job.is_running() && !is_early) else { return };
        let pending = self.stream.pending_bytes();
        if WRITE_BYTES <= pending || (0 < pending && self.walked_at.is_some()) {
            let Some(mut buffer) = self.buffer.take() else { return };
            let length = self.stream.take(self.id, buffer.bytes_mut());
            self.stream.persisted();
            self.next_us = now_us + length as u64 / PACE_BYTES_PER_US;
            self.write(file, buffer, length);
        } else if let Some(walked_at) = self.walked_at.filter(|&lsn| pending == 0 && lsn <= persisted) {
            if self.is_sealed {
                let (layout, since, bytes) = (self.layout.clone(), self.since, self.offset);
                self.job.begin(move || layout.finish_snapshot(&file, since, bytes).map(Job::Finished));
            } else if let Some(mut buffer) = self.buffer.take() {
                self.is_sealed = true;
                let length = self.stream.seal(self.id, walked_at, buffer.bytes_mut());
                self.write(file, buffer, length);
            }
        }
    }

    fn write(&mut self, file: Arc<F::File>, buffer: Aligned, length: usize) {
        let (layout, offset) = (self.layout.clone(), self.offset);
        self.offset += length as u64;
        self.job.begin(move || {
            layout.files.write_at(&file, &buffer.bytes()[..length], offset)?;
            Ok(Job::Written(buffer))
        });
    }
}
