//! Gives the log's oldest segments up, with `--values disk`: what is live in one is moved to the log's end, and when that is on
//! disk the log begins behind it.
//!
//! Always the oldest: what a record takes back then never lies before the log's beginning, so that no record of a removal has
//! to outlive its segment, and the log stays one piece. Where the log begins is written down as a snapshot without keys.

use super::{aligned::Aligned, blocking::Blocking, clock::Clock, ring::Bell, wal::Writer, wal::segment::Layout};
use crate::{
    commands::Persistence,
    store::{At, Store},
    wal::{
        FileInfo, Log, Lsn, each_value,
        frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileId, FileKind},
        room::{Oldest, SegmentFacts, judge_oldest},
    },
};
use std::{fs, fs::File, io, ops::Range, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

/// Bytes of a segment that are read at once: more than the largest frame.
const READ_BYTES: usize = 2 * FRAME_BYTES_MAX;
/// So much of the log may wait for the disk before more is moved: what clients write shall not wait long behind it.
const PENDING_BYTES_MAX: usize = 256 << 10;
/// Values between two looks at the clock: some 10 µs.
const VALUES_PER_LOOK: usize = 16;
/// How long nothing is tried after it has failed.
const RETRY_US: u64 = 10_000_000;

/// A piece of a segment, and the places of keys and values in it.
struct Chunk {
    buffer: Aligned,
    found: Vec<(Range<usize>, Range<usize>)>,
    id: FileId,
    offset: u64,
    next: u64,
    is_last: bool,
}

/// What the blocking thread has done.
enum Job {
    Read(Chunk),
    /// The log begins here now.
    Begun(Lsn),
    /// It does, and the files that were found at the start are cleared away.
    Cleared(Lsn),
}

/// What of a segment is being done.
enum Phase {
    Idle,
    /// The blocking thread is at it.
    Running,
    /// Its values are moved, from this one on.
    Moving(Chunk, usize),
    /// Its values in several pieces are moved.
    MovingKept,
    /// Nothing needs it once the log is on disk up to here. `bool`: all that needed it was moved.
    Waiting(Lsn, bool),
    /// No segment is left that a start found which accepted a loss. What took their place is on disk once the log is up to here.
    Clearing(Lsn),
}

/// What a core does for its log not to grow for ever.
pub struct Compaction {
    layout: Layout,
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
    job: Blocking<io::Result<Job>>,
}

/// What it works on.
pub struct Work<'a> {
    /// The keys, and their log.
    pub store: &'a mut Store,
    /// Who writes it.
    pub writer: &'a mut Writer,
    /// Its figures.
    pub state: &'a mut Persistence,
    /// The part of the log that is to be live, of 100; 0 to leave it alone.
    pub live_percent: u32,
}

impl Compaction {
    /// Begins with nothing to do.
    pub fn new(layout: Layout, bell: Arc<Bell>) -> Self {
        Self {
            layout,
            phase: Phase::Idle,
            segment: 0,
            unwanted_before: 0,
            leftovers: Vec::new(),
            seen: (0, 0),
            changed_in: 0,
            retry_us: 0,
            job: Blocking::new(bell),
        }
    }

    /// Has every segment before this one given up, and then all that is left of the files that were `found`: what is damaged in
    /// them was accepted as lost, and the next start shall not find it again.
    pub fn give_up_before(&mut self, segment: u64, found: Vec<FileInfo>) {
        self.unwanted_before = u32::try_from(segment).unwrap_or(u32::MAX);
        self.leftovers = found;
    }

    /// Whether the blocking thread is at work for it.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Goes on for a moment. Returns whether there is more to do at once, and the segment that has just been given up.
    pub fn advance(&mut self, work: &mut Work<'_>, clock: Clock, budget_us: u64) -> (bool, Option<u32>) {
        let now_us = clock.monotonic_us();
        match self.job.take() {
            Some(Ok(Job::Read(chunk))) => self.phase = Phase::Moving(chunk, 0),
            Some(Ok(Job::Begun(lsn))) => {
                self.phase = Phase::Idle;
                self.release(work, lsn);
                return (true, Some(self.segment));
            }
            Some(Ok(Job::Cleared(lsn))) => {
                self.phase = Phase::Idle;
                self.leftovers = Vec::new();
                work.state.saved_lsn = work.state.saved_lsn.max(lsn);
            }
            Some(Err(error)) => {
                tracing::error!(%error, segment = self.segment, "a segment of the log can't be given up");
                self.phase = Phase::Idle;
                self.retry_us = now_us + RETRY_US;
            }
            None => {}
        }
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => self.choose(work, now_us),
            Phase::Running => self.phase = Phase::Running,
            Phase::Moving(chunk, from) => self.move_values(work, chunk, from, clock, now_us + budget_us),
            Phase::MovingKept => self.move_kept(work),
            Phase::Waiting(lsn, has_moved) => self.wait(work, (lsn, has_moved), now_us),
            Phase::Clearing(lsn) => self.clear_away(work, lsn),
        }
        let has_room = work.store.log.as_ref().is_some_and(|log| log.pending_bytes() < PENDING_BYTES_MAX);
        let is_moving = matches!(self.phase, Phase::Moving(..) | Phase::MovingKept);
        (is_moving && has_room, None)
    }

    /// Looks whether the oldest segment should go.
    fn choose(&mut self, work: &Work<'_>, now_us: u64) {
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
        if 0 < places.live(0) && (!is_full || places.live(0) <= left_with_reserve) {
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
            segment_bytes: self.layout.segment_bytes,
        };
        match judge_oldest(facts) {
            Oldest::Release => {
                self.segment = segment;
                self.phase = Phase::Waiting(log.end(), false);
            }
            Oldest::Move if places.live(0) == 0 => {
                self.segment = segment;
                self.read(None, 0);
            }
            Oldest::Keep if segment < self.unwanted_before && !is_full => {
                self.segment = segment;
                self.read(None, 0);
            }
            Oldest::Move | Oldest::Keep => {}
        }
    }

    /// Nothing is needed any more of what a start found that accepted a loss: has the log begin behind it.
    fn clear_away(&mut self, work: &Work<'_>, lsn: Lsn) {
        let Some(persisted) = work.store.log.as_ref().map(|log| log.persisted_end()).filter(|&end| lsn <= end) else {
            self.phase = Phase::Clearing(lsn);
            return;
        };
        let (layout, leftovers) = (self.layout.clone(), self.leftovers.clone());
        let (start, saved) = (work.writer.start(), work.state.saved_lsn);
        self.run(move || {
            // Also where the log begins there already, by a snapshot that may be the one that is damaged.
            if saved <= start {
                layout.write_beginning(start, persisted)?;
            }
            let begin = start.max(saved);
            layout.clear_away(&leftovers, begin)?;
            Ok(Job::Cleared(begin))
        });
    }

    fn read(&mut self, id: Option<FileId>, offset: u64) {
        let (layout, segment) = (self.layout.clone(), self.segment);
        self.run(move || layout.read_values(segment, id, offset).map(Job::Read));
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
            let offset = u32::try_from(chunk.offset + value.start as u64).expect("a segment is at most 4 GiB");
            work.store.move_value(&bytes[key], &bytes[value], At::stored(self.segment, offset));
            at += 1;
        }
        if chunk.is_last {
            self.phase = Phase::MovingKept;
        } else {
            self.read(Some(chunk.id), chunk.next);
        }
    }

    /// Moves values that are in memory, one by one: they are large, or came from a snapshot.
    fn move_kept(&mut self, work: &mut Work<'_>) {
        for _ in 0..VALUES_PER_LOOK {
            if work.store.log.as_ref().is_none_or(|log| PENDING_BYTES_MAX <= log.pending_bytes()) {
                self.phase = Phase::MovingKept;
                return;
            }
            if !work.store.move_kept(self.segment) {
                let end = work.store.log.as_ref().map_or(Lsn(0), |log| log.end());
                self.phase = Phase::Waiting(end, true);
                return;
            }
        }
        self.phase = Phase::MovingKept;
    }

    /// Waits until what was moved is on disk. Then nothing needs the segment, and the log may begin behind it.
    fn wait(&mut self, work: &Work<'_>, (lsn, has_moved): (Lsn, bool), now_us: u64) {
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
        let layout = self.layout.clone();
        // What a snapshot holds is needed until the log begins behind it.
        if work.state.saved_lsn < begin {
            self.run(move || layout.write_beginning(begin, persisted).map(|()| Job::Begun(begin)));
        } else {
            self.run(move || Ok(Job::Begun(begin)));
        }
    }

    fn release(&self, work: &mut Work<'_>, begin: Lsn) {
        work.state.saved_lsn = work.state.saved_lsn.max(begin);
        work.state.segments_released += 1;
        work.store.forget_segment(self.segment);
        let release = work.writer.release_before(begin, work.state);
        glommio::spawn_local(async move {
            if let Err(error) = glommio::executor().spawn_blocking(release).await {
                tracing::warn!(%error, "a segment of the log that is not needed any more could not be set aside");
            }
        })
        .detach();
    }

    fn run(&mut self, job: impl FnOnce() -> io::Result<Job> + Send + 'static) {
        self.phase = Phase::Running;
        self.job.begin(job);
    }
}

/// The bytes of the whole blocks among so many: direct reads take no others, and a file that was cut short may end in half of one.
pub(super) fn whole_blocks(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX) / BLOCK_BYTES * BLOCK_BYTES
}

impl Layout {
    /// Reads a piece of a segment, from its beginning on where `id` is not known yet.
    fn read_values(&self, segment: u32, id: Option<FileId>, offset: u64) -> io::Result<Chunk> {
        let path = self.files.path_of(FileKind::Segment, segment.into());
        let file = self.options(0).write(false).open(path)?;
        let size = file.metadata()?.len();
        let mut buffer = Aligned::new(READ_BYTES);
        let length = whole_blocks(size.saturating_sub(offset)).min(READ_BYTES);
        file.read_exact_at(&mut buffer.bytes_mut()[..length], offset)?;
        let bytes = &buffer.bytes()[..length];
        let (id, begin) = match id {
            Some(id) => (id, 0),
            None => {
                let header = FileHeader::decode(bytes)
                    .map_err(|invalid| io::Error::other(format!("its first block is none: {invalid:?}")))?;
                (header.id, BLOCK_BYTES.min(length))
            }
        };
        let mut found = Vec::new();
        let used = each_value(&bytes[begin..], id, |key, value| {
            found.push((key.start + begin..key.end + begin, value.start + begin..value.end + begin));
        });
        // A frame that its file is too short for is none.
        let next = offset + begin as u64 + used.max(BLOCK_BYTES) as u64;
        Ok(Chunk { buffer, found, id, offset, next, is_last: size <= next })
    }

    /// Writes down that the log begins at `begin`: a snapshot without keys. `persisted`: how far the log is on disk.
    pub(super) fn write_beginning(&self, begin: Lsn, persisted: Lsn) -> io::Result<()> {
        let id = FileId(fastrand::u64(..));
        let write = |file: io::Result<File>| {
            let file = file?;
            let mut buffer = Aligned::new(BLOCK_BYTES);
            let length = Log::new(Lsn(0), false).seal(id, persisted, buffer.bytes_mut());
            file.write_all_at(&buffer.bytes()[..length], BLOCK_BYTES as u64)?;
            self.finish_snapshot(&file, begin, (BLOCK_BYTES + length) as u64)
        };
        let path = self.files.unfinished_path_of(FileKind::Snapshot, begin.0);
        let give_up = |_: &io::Error| self.take_back(&path);
        let has_no_room = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
        let mut written = write(self.begin_snapshot(id, begin, false)).inspect_err(give_up);
        if written.as_ref().is_err_and(has_no_room) && fs::rename(self.kept_path(), &path).is_ok() {
            written = write(self.begin_snapshot_in(&path, false, id, begin)).inspect_err(give_up);
        }
        if written.as_ref().is_err_and(has_no_room) {
            // The segment that is given up then takes the place of the reserve.
            written = write(self.begin_snapshot(id, begin, true)).inspect_err(give_up);
        }
        self.keep_beginning();
        written.map(drop)
    }

    /// Keeps room on disk for the next [`write_beginning`](Self::write_beginning): without it a disk that is full to the last
    /// block could not give up a segment. If there is none now, the next segment that goes makes some.
    pub(super) fn keep_beginning(&self) {
        let path = self.kept_path();
        let keep = || {
            if fs::metadata(&path).is_ok_and(|kept| kept.len() == 2 * BLOCK_BYTES as u64) {
                return Ok(());
            }
            let file = self.options(0).create(true).truncate(true).open(&path)?;
            file.write_all_at(Aligned::new(2 * BLOCK_BYTES).bytes(), 0)?;
            file.sync_all()
        };
        if keep().is_err() {
            let _ = fs::remove_file(&path);
        }
    }

    fn kept_path(&self) -> PathBuf {
        self.files.path().join("beginning")
    }
}
