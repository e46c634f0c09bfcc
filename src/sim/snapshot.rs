//! Writes a snapshot of a shard as `io::snapshot` does.

use super::{
    disk::Handle,
    files::{Done, Job},
    world::World,
};
use crate::{
    store::{Cursor, Store, UnixMillis, put},
    wal::{
        Log, Lsn,
        frame::{BLOCK_BYTES, FileId},
    },
};
use std::collections::VecDeque;

const WRITE_BYTES: usize = 2048;
const ENTRIES_PER_LOOK: usize = 2;
/// Looks of a slice at most.
const LOOKS_MAX: usize = 3;

/// A snapshot that is being written.
pub(super) struct Snapshot {
    id: FileId,
    pub(super) since: Lsn,
    walked_at: Option<Lsn>,
    stream: Log,
    cursor: Cursor,
    file: Option<Handle>,
    offset: usize,
    is_sealed: bool,
    is_running: bool,
    /// What the blocking thread has done.
    pub(super) outcome: Option<Done>,
}

impl Snapshot {
    pub(super) fn begin(since: Lsn, id: FileId, jobs: &mut VecDeque<Job>) -> Self {
        jobs.push_back(Job::BeginSnapshot { id, since });
        Self {
            id,
            since,
            walked_at: None,
            stream: Log::new(Lsn(0), false),
            cursor: Cursor::START,
            file: None,
            offset: BLOCK_BYTES,
            is_sealed: false,
            is_running: true,
            outcome: None,
        }
    }

    /// Goes on for a moment; returns the file's size once it counts.
    pub(super) fn advance(
        &mut self,
        world: &mut World,
        store: &Store,
        (end, persisted): (Lsn, Lsn),
        jobs: &mut VecDeque<Job>,
    ) -> Option<usize> {
        let outcome = self.outcome.take();
        self.is_running &= outcome.is_none();
        match outcome {
            Some(Done::SnapshotBegun(file)) => self.file = Some(file),
            Some(Done::SnapshotFinished(bytes)) => return Some(bytes),
            _ => {}
        }
        if self.walked_at.is_none() && self.stream.pending_bytes() < 2 * WRITE_BYTES {
            self.walk(world, store);
            if self.cursor == Cursor::START {
                self.walked_at = Some(end);
                world.tally.note_if(self.since < end, "snapshots that were walked while keys changed");
                world.tally.note_if(persisted < end, "walks that ended ahead of the log");
            }
        }
        self.hand_over(persisted, jobs);
        None
    }

    fn walk(&mut self, world: &mut World, store: &Store) {
        let stream = &mut self.stream;
        for _ in 0..world.random.usize(1..=LOOKS_MAX) {
            self.cursor = store.scan(self.cursor, ENTRIES_PER_LOOK, UnixMillis(0), |entry| {
                stream.append(0, put(entry));
                stream.end_command();
            });
            if self.cursor == Cursor::START || 2 * WRITE_BYTES <= stream.pending_bytes() {
                return;
            }
        }
    }

    fn hand_over(&mut self, persisted: Lsn, jobs: &mut VecDeque<Job>) {
        let Some(file) = self.file.filter(|_| !self.is_running) else { return };
        let pending = self.stream.pending_bytes();
        if WRITE_BYTES <= pending || (0 < pending && self.walked_at.is_some()) {
            let mut buffer = vec![0; self.stream.next_frame_bytes().unwrap_or_default()];
            self.stream.take(self.id, &mut buffer);
            self.stream.persisted();
            self.write(file, buffer, jobs);
        } else if let Some(walked_at) = self.walked_at.filter(|&lsn| pending == 0 && lsn <= persisted) {
            if self.is_sealed {
                self.run(Job::FinishSnapshot { file, since: self.since }, jobs);
            } else {
                self.is_sealed = true;
                let mut block = vec![0; BLOCK_BYTES];
                self.stream.seal(self.id, walked_at, &mut block);
                self.write(file, block, jobs);
            }
        }
    }

    fn write(&mut self, file: Handle, bytes: Vec<u8>, jobs: &mut VecDeque<Job>) {
        let offset = self.offset;
        self.offset += bytes.len();
        self.run(Job::WriteSnapshot { file, offset, bytes }, jobs);
    }

    fn run(&mut self, job: Job, jobs: &mut VecDeque<Job>) {
        self.is_running = true;
        jobs.push_back(job);
    }
}
