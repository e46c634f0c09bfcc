//! The start: a core's files are read, and then its log goes on.

use super::{
    Action, End, Engine, durability::Durability, hints::Hints, holds::Holds, job_slot::JobSlot, log_writer::LogWriter,
    saving::Saving, values::Values,
};
use crate::{
    config,
    wal::{
        Desk, Done, FileInfo, Found, Job, Log, LogBegun, Recovery, Step,
        frame::{FileId, FileKind},
        room::Grow,
    },
};
use std::{collections::VecDeque, io, mem};

/// The time for which a core reads its files before it looks at its clients again, who are told to wait.
const LOAD_SLICE_US: u64 = 5_000;

/// The files that a core comes back from.
pub struct CoreFiles {
    /// The core's directory, for messages.
    pub path: String,
    /// The identity of the data directory.
    pub directory: u64,
    /// The number of the shard in it.
    pub shard: u16,
    /// The segments, snapshots and hints that there are.
    pub listed: Vec<FileInfo>,
    /// The spare segments.
    pub reserve: Box<dyn Grow>,
}

/// The stages of the start.
pub(super) enum Start {
    /// The files are being read.
    Loading(Box<Loading>),
    /// They have been read: the log is about to go on.
    Opening(Opening),
    Over,
}

/// Files that are being read.
pub(super) struct Loading {
    listed: Vec<FileInfo>,
    recovery: Recovery,
    buffer: Vec<u8>,
}

/// A log that is about to go on.
pub(super) struct Opening {
    /// Jobs that have not begun, in order.
    jobs: VecDeque<Job>,
    slot: JobSlot,
}

impl Opening {
    /// Notes the outcome of a job.
    pub(super) fn job_done(&mut self, outcome: io::Result<Done>) {
        self.slot.end(outcome);
    }
}

impl Engine {
    /// Begins with the core's files: until they are read, clients are told to wait.
    pub(super) fn open(&mut self, files: CoreFiles) {
        let CoreFiles { path, directory, shard, listed, reserve } = files;
        let (config, persistence) = (&self.shard.core.config, &mut self.shard.core.persistence);
        persistence.has_directory = true;
        persistence.has_log = config.durability() != config::Durability::None;
        persistence.is_loading = true;
        let is_on_disk = config.values == config::Values::Disk;
        let mut recovery = Recovery::new(directory, shard, listed.clone(), config.accept_loss);
        if is_on_disk {
            recovery = recovery.believing_hints();
            self.shard.store.keep_values_on_disk();
        }
        let segment_bytes = config.log_segment_bytes as u64;
        self.shard.grow = Some(reserve);
        self.durability = Some(Durability {
            values: is_on_disk.then(|| Values::new(path.clone(), segment_bytes, config.cold_reads)),
            path,
            segment_bytes,
            start: Start::Loading(Box::new(Loading { listed, recovery, buffer: Vec::new() })),
            writer: None,
            saving: Saving::default(),
            holds: Holds::default(),
        });
    }

    /// Reads on in the core's files, for a moment: `read` fills a buffer from a file, which it is given with its position among
    /// those that were listed, from an offset on, and returns how many bytes it has read; fewer only at the file's end. To be
    /// called once a turn; does nothing once all is read.
    #[inline]
    pub fn load(&mut self, read: impl FnMut(usize, &FileInfo, u64, &mut [u8]) -> io::Result<usize>) {
        let is_loading =
            |durability: &Durability| matches!(durability.start, Start::Loading(_)) && !self.stopping.has_ended();
        if self.durability.as_ref().is_some_and(is_loading) {
            self.load_for_a_moment(read);
        }
    }

    fn load_for_a_moment(&mut self, mut read: impl FnMut(usize, &FileInfo, u64, &mut [u8]) -> io::Result<usize>) {
        let Some(durability) = &mut self.durability else { return };
        let Start::Loading(loading) = &mut durability.start else { return };
        let (until, now) = (self.clock.monotonic_us() + LOAD_SLICE_US, self.now.unix_millis());
        let store = &mut self.shard.store;
        while self.clock.monotonic_us() < until {
            let Loading { listed, recovery, buffer } = &mut **loading;
            let (file, offset, length) = match recovery.step() {
                Ok(Step::Read { file, offset, length }) => (file, offset, length),
                Ok(Step::Done) => return self.end_loading(),
                Err(damage) => return self.end(End::Damaged(damage)),
            };
            if buffer.len() < length {
                *buffer = vec![0; length];
            }
            let length = match read(file, &listed[file], offset, &mut buffer[..length]) {
                Ok(length) => length,
                Err(error) => {
                    let file = listed[file].clone();
                    return self.end(End::Unreadable(file, error));
                }
            };
            let mut apply = |found: Found<'_>| store.apply_in_place(found, now);
            if let Err(damage) = recovery.give_in_place(&buffer[..length], &mut apply) {
                return self.end(End::Damaged(damage));
            }
        }
        self.shard.core.persistence.loaded = loading.recovery.progress();
    }

    /// All is read: notes what was found, and what is to be done before the log goes on.
    fn end_loading(&mut self) {
        let Some(durability) = &mut self.durability else { return };
        let Start::Loading(loading) = mem::replace(&mut durability.start, Start::Over) else { return };
        let Loading { listed, recovery, .. } = *loading;
        let (report, seconds) = (recovery.report().clone(), self.now.monotonic_us as f64 / 1e6);
        let mut jobs = VecDeque::new();
        if !report.lost.is_empty() {
            let unix_seconds = self.now.unix_us / 1_000_000;
            jobs.push_back(Job::WriteLost { lost: report.lost.clone(), unix_seconds });
        }
        if let Some((file, offset)) = &report.cut {
            tracing::warn!(file, offset, "the log was cut where a write had not come to its end");
        }
        let persistence = &mut self.shard.core.persistence;
        let (records, keys, hinted) = (report.records, self.shard.store.len(), report.hinted.len());
        tracing::info!(records, keys, hinted, seconds, "the log has been read");
        persistence.segments_hinted = hinted as u64;
        self.shard.store.end_loading();
        if !report.lost.is_empty() {
            self.shard.store.forget_versions();
        }
        self.shard.store.counters = Default::default();
        durability.saving.found_end = report.end;
        persistence.saved_lsn = report.snapshot.unwrap_or_default();
        // So that the next start finds nothing damaged.
        persistence.wants_snapshot = !report.lost.is_empty();
        if !report.lost.is_empty() {
            match &mut durability.values {
                Some(values) => values.give_up_before(report.next_segment, listed.clone()),
                None => durability.saving.leftovers = listed.clone(),
            }
        }
        if let Some(file) = listed.iter().rfind(|file| file.kind == FileKind::Snapshot) {
            persistence.snapshot_bytes = file.bytes;
            jobs.push_back(Job::SnapshotTime(file.number));
        }
        // Those of segments that were given up, should the last start have ended in between.
        let is_there = |hint: &FileInfo| report.segments.iter().any(|(number, _)| *number == hint.number);
        let hints = listed.iter().filter(|file| file.kind == FileKind::Hint && !is_there(file));
        jobs.extend(hints.map(|hint| Job::RemoveHint(hint.number)));
        if self.shard.core.config.durability() != config::Durability::None {
            let id = FileId(self.random.u64(..));
            jobs.push_back(Job::BeginLog { report: Box::new(report), saved: persistence.saved_lsn, id });
        }
        durability.start = Start::Opening(Opening { jobs, slot: JobSlot::new(Desk::Opening) });
    }

    /// Goes on with the log. Returns true if there is more to do at once.
    pub(super) fn open_log(&mut self) -> bool {
        let Some(durability) = &mut self.durability else { return false };
        let Start::Opening(opening) = &mut durability.start else { return false };
        match opening.slot.take() {
            Some(Ok(Done::LogBegun(begun))) => {
                self.begin_log(&begun);
                return true;
            }
            Some(Ok(Done::Lost(path))) => {
                tracing::warn!(path, "started without what was damaged; what was lost is written down");
            }
            Some(Ok(Done::Time(time))) => self.shard.core.persistence.saved_at = time,
            Some(Ok(_)) | None => {}
            Some(Err(error)) => {
                self.end(End::Unusable(error));
                return false;
            }
        }
        if opening.slot.is_busy() {
            return false;
        }
        let Some(job) = opening.jobs.pop_front() else {
            // There is no log.
            durability.start = Start::Over;
            self.note_loaded();
            return true;
        };
        opening.slot.begin(job, &mut self.actions);
        false
    }

    /// The log goes on.
    fn begin_log(&mut self, begun: &LogBegun) {
        let Some(durability) = &mut self.durability else { return };
        durability.start = Start::Over;
        if !begun.is_fresh {
            tracing::warn!("the disk has no room for a new segment of the log: it goes on in the last one");
        }
        let (durable, now_us) = (self.shard.core.config.durability(), self.clock.monotonic_us());
        let mut writer = LogWriter::new(durability.segment_bytes, durable, begun, now_us);
        if let Some(values) = &mut durability.values {
            let hinted = begun.report.hinted.iter().copied().filter(|&number| number != begun.active.number);
            values.hints = Some(Hints::new(hinted));
        }
        writer.release(Job::KeepBeginning, &mut self.actions);
        let log = Log::new(begun.report.end, durable == config::Durability::Always);
        let allocated = self.shard.grow.as_ref().map_or(0, |reserve| reserve.allocated());
        let persistence = &mut self.shard.core.persistence;
        persistence.log_bytes = writer.used_bytes();
        let admission = writer.admission(&log, allocated);
        let writer_end = admission.expiry_end();
        persistence.admission = Some(admission);
        durability.writer = Some(writer);
        self.shard.store.removes_until = writer_end;
        self.shard.store.log = Some(Box::new(log));
        self.note_loaded();
    }

    /// Tells the server that this core has read its files; it begins to serve once every core has.
    fn note_loaded(&mut self) {
        self.shard.core.persistence.loaded = 1.0;
        self.actions.push(Action::Loaded);
    }
}
