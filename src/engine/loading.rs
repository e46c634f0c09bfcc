//! The start: a core's files are read, and then its log goes on in a fresh segment.

use super::{
    Action, Actions, End, Engine,
    durability::Durability,
    hints::Hints,
    holds::Holds,
    job_slot::JobSlot,
    log_writer::LogWriter,
    saving::Saving,
    snapshot::{Progress, Snapshot},
    values::Values,
};
use crate::{
    config,
    store::{Places, Store, UnixMillis},
    wal::{
        Desk, Done, FileInfo, Found, Job, Log, Lsn, Recovery, Report, Segment, Step,
        frame::{FileId, FileKind},
        room::Grow,
    },
};
use std::{collections::VecDeque, io, mem};

/// How long a core reads its files before it looks at its clients again, who are told to wait.
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

/// How far the start has come.
pub(super) enum Start {
    /// The files are being read.
    Loading(Box<Loading>),
    /// They have been read: the log is about to go on.
    Opening(Box<Opening>),
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
    report: Report,
    room: Room,
    /// Jobs that have not begun, in order.
    jobs: VecDeque<Job>,
    slot: JobSlot,
    /// The last job that has begun makes the log's first segment ready.
    is_preparing: bool,
}

/// What has been done for the log to have room to go on.
enum Room {
    /// Nothing.
    AsFound,
    /// The segments that nobody needs were given up.
    WithoutGarbage,
    /// A snapshot is being taken, which makes every segment superfluous.
    ToBeSaved(Box<Snapshot>),
    /// Every segment was given up.
    WithoutSegments,
}

/// The segments of a log that nobody needs any more.
struct Garbage {
    segments: Vec<u64>,
    /// The beginning of the log without them.
    begin: Lsn,
}

/// Finds the segments that are not needed, from the first on: the snapshot has what is in them, or with values on disk nothing
/// in them is live.
fn garbage(report: &Report, store: &mut Store, now: UnixMillis, saved: Lsn) -> Garbage {
    let mut begin = saved;
    if !report.lost.is_empty() {
        return Garbage { segments: Vec::new(), begin };
    }
    store.sweep(usize::MAX, now);
    let mut segments = Vec::new();
    let ends = report.segments.iter().skip(1).map(|(_, first)| first.unwrap_or(report.end)).chain([report.end]);
    for (&(number, _), end) in report.segments.iter().zip(ends) {
        let is_dead =
            |places: &Places| u32::try_from(number).is_ok_and(|number| places.live(number) == 0) && places.live(0) == 0;
        if saved < end && !store.places.as_deref().is_some_and(is_dead) {
            break;
        }
        begin = begin.max(end);
        segments.push(number);
    }
    Garbage { segments, begin }
}

/// Returns true if a snapshot of all keys lets go of the log's segments.
fn can_make_room(report: &Report, store: &Store) -> bool {
    !store.has_values_on_disk() && report.lost.is_empty() && !report.segments.is_empty()
}

impl Opening {
    /// Notes the outcome of a job.
    pub(super) fn job_done(&mut self, desk: Desk, outcome: io::Result<Done>) {
        match &mut self.room {
            Room::ToBeSaved(snapshot) if desk == Desk::Snapshot => snapshot.job_done(outcome),
            _ => self.slot.end(outcome),
        }
    }

    /// Has the log's first segment made ready, once the jobs before it are done.
    fn prepare(&mut self, random: &mut fastrand::Rng) {
        let (number, end, id) = (self.report.next_segment, self.report.end, FileId(random.u64(..)));
        self.jobs.push_back(Job::Prepare { number, id, end, spares_left: 0 });
    }

    /// Begins the next job. Returns false if there is none.
    fn begin_next(&mut self, actions: &mut Actions) -> bool {
        let Some(job) = self.jobs.pop_front() else { return false };
        self.is_preparing = matches!(job, Job::Prepare { .. });
        self.slot.begin(job, actions);
        true
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
                buffer.resize(length, 0);
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
        let (mut report, seconds) = (recovery.report().clone(), self.now.monotonic_us as f64 / 1e6);
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
        let slot = JobSlot::new(Desk::Opening);
        if self.shard.core.config.durability() == config::Durability::None {
            let opening = Opening { report, room: Room::AsFound, jobs, slot, is_preparing: false };
            durability.start = Start::Opening(Box::new(opening));
            return;
        }
        // What a server was killed in the middle of may have been written and not synced. Whoever is shown it must find it again,
        // and what comes behind it needs it.
        if let Some((number, _)) = report.segments.iter().rfind(|(_, first)| first.is_some()) {
            jobs.push_back(Job::SyncSegment(*number));
        }
        // What the last start had made ready and not used is used first.
        let numbers: Vec<_> =
            report.segments.extract_if(.., |(_, first)| first.is_none()).map(|(number, _)| number).collect();
        jobs.push_back(Job::Release { numbers, is_full: false });
        let mut opening = Opening { report, room: Room::AsFound, jobs, slot, is_preparing: false };
        opening.prepare(&mut self.random);
        durability.start = Start::Opening(Box::new(opening));
    }

    /// Goes on with the log in a fresh segment, once there is room for one. Returns true if there is more to do at once.
    pub(super) fn open_log(&mut self) -> bool {
        let Some(durability) = &mut self.durability else { return false };
        let Start::Opening(opening) = &mut durability.start else { return false };
        if matches!(opening.room, Room::ToBeSaved(_)) {
            return self.make_room_by_snapshot();
        }
        match opening.slot.take() {
            Some(Ok(Done::Segment(segment))) => {
                self.begin_log(segment);
                return true;
            }
            Some(Ok(Done::Lost(path))) => {
                tracing::warn!(path = %path.display(), "started without what was damaged; what was lost is written down");
            }
            Some(Ok(Done::Time(time))) => self.shard.core.persistence.saved_at = time,
            Some(Ok(_)) => {}
            Some(Err(error)) if opening.is_preparing && error.kind() == io::ErrorKind::StorageFull => {
                return self.make_room_for_log(error);
            }
            Some(Err(error)) => {
                self.end(End::Unusable(error));
                return false;
            }
            None => {}
        }
        if !opening.slot.is_busy() && !opening.begin_next(&mut self.actions) {
            // There is no log.
            durability.start = Start::Over;
            self.note_loaded();
            return true;
        }
        false
    }

    /// Gives up what is not needed, since the disk has no room for the log to go on. Returns true if there is more to do at once.
    fn make_room_for_log(&mut self, error: io::Error) -> bool {
        let Some(durability) = &mut self.durability else { return false };
        let Start::Opening(opening) = &mut durability.start else { return false };
        let (store, persistence) = (&mut self.shard.store, &mut self.shard.core.persistence);
        match opening.room {
            Room::AsFound => {
                tracing::warn!("the disk has no room for the log to go on: what nobody needs is given up");
                let garbage = garbage(&opening.report, store, self.now.unix_millis(), persistence.saved_lsn);
                if persistence.saved_lsn < garbage.begin {
                    let (id, begin) = (FileId(self.random.u64(..)), garbage.begin);
                    opening.jobs.push_back(Job::WriteBeginning { id, begin, persisted: opening.report.end });
                    persistence.saved_lsn = begin;
                }
                opening.report.segments.retain(|(number, _)| !garbage.segments.contains(number));
                opening.jobs.push_back(Job::Release { numbers: garbage.segments, is_full: true });
                opening.prepare(&mut self.random);
                opening.room = Room::WithoutGarbage;
            }
            Room::WithoutGarbage if can_make_room(&opening.report, store) => {
                let end = opening.report.end;
                let snapshot = Snapshot::begin(end, true, &mut self.random, &mut self.actions);
                opening.room = Room::ToBeSaved(Box::new(snapshot));
            }
            Room::WithoutGarbage | Room::ToBeSaved(_) | Room::WithoutSegments => self.end(End::Unusable(error)),
        }
        true
    }

    /// Goes on with a snapshot that lets go of all segments. Returns true if there is more to do at once.
    fn make_room_by_snapshot(&mut self) -> bool {
        let Some(durability) = &mut self.durability else { return false };
        let Start::Opening(opening) = &mut durability.start else { return false };
        let Room::ToBeSaved(snapshot) = &mut opening.room else { return false };
        let end = opening.report.end;
        match snapshot.advance(&self.shard.store, (end, end), (self.clock, LOAD_SLICE_US), &mut self.actions) {
            Progress::Walking => true,
            Progress::Waiting => false,
            Progress::Failed(error) => {
                self.end(End::Unusable(error));
                false
            }
            Progress::Done(bytes) => {
                tracing::info!(bytes, "a snapshot was taken to make room for the log");
                let persistence = &mut self.shard.core.persistence;
                (persistence.saved_lsn, persistence.snapshot_bytes) = (end, bytes);
                persistence.saved_at = self.now.unix_millis();
                let numbers: Vec<_> = opening.report.segments.drain(..).map(|(number, _)| number).collect();
                opening.room = Room::WithoutSegments;
                opening.jobs.push_back(Job::Release { numbers, is_full: true });
                opening.prepare(&mut self.random);
                true
            }
        }
    }

    /// Goes on with the log in this segment.
    fn begin_log(&mut self, segment: Segment) {
        let Some(durability) = &mut self.durability else { return };
        let Start::Opening(opening) = mem::replace(&mut durability.start, Start::Over) else { return };
        let (report, config) = (opening.report, &self.shard.core.config);
        if let Some(values) = &mut durability.values {
            values.hints = Some(Hints::new(report.hinted.iter().copied()));
            self.actions.push(Action::Start(Desk::Release, Job::KeepBeginning));
        }
        let older = report.segments.iter().filter_map(|&(number, first)| Some((number, first?)));
        let (end, now_us) = (report.end, self.clock.monotonic_us());
        let writer = LogWriter::new(durability.segment_bytes, config.durability(), (segment, end), older, now_us);
        let log = Log::new(end, config.durability() == config::Durability::Always);
        let spares = self.shard.grow.as_ref().map_or(0, |reserve| reserve.spares());
        let persistence = &mut self.shard.core.persistence;
        persistence.log_bytes = writer.used_bytes();
        persistence.admission = Some(writer.admission(&log, spares));
        durability.writer = Some(writer);
        self.shard.store.log = Some(Box::new(log));
        self.note_loaded();
    }

    /// Tells the server that this core has read its files; it begins to serve once every core has.
    fn note_loaded(&mut self) {
        self.shard.core.persistence.loaded = 1.0;
        self.actions.push(Action::Loaded);
    }
}
