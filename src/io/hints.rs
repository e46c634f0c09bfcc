//! Writes a hint of each segment that is not written to any more, with `--values disk`, so that the next start need not read all
//! values.
//!
//! Nothing depends on a hint: one that is missing costs the next start the reading of its segment. So it is made when there is
//! time, a piece of a segment after the other, by the core's blocking thread.

use super::{
    aligned::Aligned,
    blocking::Blocking,
    compaction::whole_blocks,
    directory::ShardFiles,
    ring::Bell,
    wal::{Left, segment::Layout},
};
use crate::wal::{
    Hinting, NoHint,
    frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileKind},
    room::has_room_for_hint,
};
use std::{collections::BTreeSet, fs, fs::File, io, io::Write as _, os::unix::fs::FileExt, sync::Arc};

/// Bytes of a segment that are read at once: more than the largest frame.
const READ_BYTES: usize = 2 * FRAME_BYTES_MAX;
/// Bytes a microsecond while the log is being written, so that its syncs find the disk free most of the time.
const PACE_BYTES_PER_US: u64 = 40;
/// How long nothing is tried after the disk has refused one.
const RETRY_US: u64 = 60_000_000;

/// A hint in the making.
struct Writing {
    left: Left,
    segment: File,
    hinting: Hinting,
    offset: u64,
    file: File,
    buffer: Aligned,
}

/// What the blocking thread has done.
enum Job {
    /// There is more of the segment to read.
    Begun(Box<Writing>),
    /// The hint is there.
    Written,
    /// There can be none.
    Impossible(NoHint),
    /// What nobody needs is gone.
    Removed,
}

/// What a core does for its next start to be quick.
pub struct Hints {
    layout: Layout,
    /// Segments that have one, or can have none.
    settled: BTreeSet<u64>,
    /// The segment at hand, and what is to be gone on with.
    segment: u64,
    writing: Option<Box<Writing>>,
    /// Not before then.
    next_us: u64,
    job: Blocking<io::Result<Job>>,
}

impl Hints {
    /// Begins. `hinted`: the segments that have one.
    pub fn new(layout: Layout, hinted: impl IntoIterator<Item = u64>, bell: Arc<Bell>) -> Self {
        let settled = hinted.into_iter().collect();
        Self { layout, settled, segment: 0, writing: None, next_us: 0, job: Blocking::new(bell) }
    }

    /// Whether the blocking thread is at work for it.
    pub fn is_running(&self) -> bool {
        self.job.is_running()
    }

    /// Goes on for a moment, if its time has come. `left`: the segments that are needed and not written to any more, in order.
    /// `is_log_busy`: the log's own writes go first. `is_full`: the log can't grow, and a hint would take its room. Returns how
    /// many hints were written.
    pub fn advance(
        &mut self,
        left: impl Iterator<Item = Left> + Clone,
        (is_log_busy, is_full): (bool, bool),
        now_us: u64,
    ) -> u64 {
        let mut written = 0;
        let is_needed = left.clone().any(|left| left.number == self.segment);
        match self.job.take() {
            Some(Ok(Job::Begun(writing))) => self.writing = Some(writing),
            Some(Ok(Job::Written)) if is_needed => {
                written = 1;
                self.settled.insert(self.segment);
            }
            // Its segment was given up meanwhile.
            Some(Ok(Job::Written)) => self.remove(),
            Some(Ok(Job::Impossible(why))) if is_needed => {
                if let NoHint::Damaged(offset) = why {
                    let path = self.layout.files.path_of(FileKind::Segment, self.segment);
                    tracing::error!(path = %path.display(), offset, "a segment of the log has changed on disk: trine check");
                }
                self.settled.insert(self.segment);
            }
            Some(Err(error)) if is_needed => {
                tracing::warn!(%error, segment = self.segment, "a hint can't be written: the next start takes longer");
                self.next_us = now_us + RETRY_US;
            }
            // What is read of a segment that was given up means nothing: it may have been used again.
            Some(Ok(Job::Impossible(_) | Job::Removed) | Err(_)) | None => {}
        }
        // While the disk has nothing else to do, as fast as it goes; unless it has just refused one.
        let is_early = now_us < self.next_us && (is_log_busy || now_us + RETRY_US / 2 < self.next_us);
        if self.job.is_running() || is_early {
            return written;
        }
        match self.writing.take() {
            Some(writing) if is_needed && !is_full => {
                self.next_us = now_us + READ_BYTES as u64 / PACE_BYTES_PER_US;
                let layout = self.layout.clone();
                self.job.begin(move || layout.go_on_with_hint(writing));
            }
            Some(_) => self.remove(),
            None if is_full => {}
            None => self.begin_next(left),
        }
        written
    }

    fn remove(&mut self) {
        let (layout, segment) = (self.layout.clone(), self.segment);
        self.job.begin(move || layout.remove_hint(segment).map(|()| Job::Removed));
    }

    fn begin_next(&mut self, left: impl Iterator<Item = Left> + Clone) {
        let Some(next) = left.clone().find(|left| !self.settled.contains(&left.number)) else { return };
        if let Some(first) = left.clone().next() {
            self.settled = self.settled.split_off(&first.number);
        }
        self.segment = next.number;
        let layout = self.layout.clone();
        self.job.begin(move || layout.begin_hint(next));
    }
}

impl Layout {
    fn begin_hint(&self, left: Left) -> io::Result<Job> {
        let disk = rustix::fs::statvfs(self.files.path())?;
        if !has_room_for_hint(disk.f_bavail * disk.f_frsize, self.segment_bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let path = self.files.path_of(FileKind::Segment, left.number);
        let segment = self.options(0).write(false).open(path)?;
        let mut buffer = Aligned::new(READ_BYTES);
        segment.read_exact_at(&mut buffer.bytes_mut()[..BLOCK_BYTES], 0)?;
        let header = match FileHeader::decode(buffer.bytes()) {
            Ok(header) if header.number == left.number => header,
            _ => return Ok(Job::Impossible(NoHint::Damaged(0))),
        };
        let (hinting, block) = Hinting::new(header, left.first, left.end);
        let mut file = File::create(self.files.unfinished_path_of(FileKind::Hint, left.number))?;
        file.write_all(&block)?;
        let offset = BLOCK_BYTES as u64;
        Ok(Job::Begun(Box::new(Writing { left, segment, hinting, offset, file, buffer })))
    }

    fn go_on_with_hint(&self, mut writing: Box<Writing>) -> io::Result<Job> {
        let number = writing.left.number;
        let outcome = self.read_for_hint(&mut writing);
        let unfinished = self.files.unfinished_path_of(FileKind::Hint, number);
        match outcome {
            Ok(None) => Ok(Job::Begun(writing)),
            Ok(Some(Ok(()))) => {
                fs::rename(unfinished, self.files.path_of(FileKind::Hint, number))?;
                Ok(Job::Written)
            }
            Ok(Some(Err(why))) => {
                fs::remove_file(unfinished)?;
                Ok(Job::Impossible(why))
            }
            Err(error) => {
                let _ = fs::remove_file(unfinished);
                Err(error)
            }
        }
    }

    /// Takes the next piece of the segment. Says how it ended, once it has.
    fn read_for_hint(&self, writing: &mut Writing) -> io::Result<Option<Result<(), NoHint>>> {
        let Writing { segment, hinting, offset, file, buffer, .. } = writing;
        let size = segment.metadata()?.len();
        let length = whole_blocks(size.saturating_sub(*offset)).min(READ_BYTES);
        segment.read_exact_at(&mut buffer.bytes_mut()[..length], *offset)?;
        let mut out = Vec::new();
        let used = match hinting.take(&buffer.bytes()[..length], *offset, &mut out) {
            Ok(used) => used,
            Err(why) => return Ok(Some(Err(why))),
        };
        file.write_all(&out)?;
        if hinting.is_done() {
            // Before it gets its name: a hint without its bytes would only be in the way.
            file.sync_data()?;
            return Ok(Some(Ok(())));
        }
        if used == 0 {
            return Ok(Some(Err(NoHint::Damaged(*offset))));
        }
        *offset += used as u64;
        Ok(None)
    }

    /// Removes a segment's hint, if there is one.
    ///
    /// # Errors
    /// What the file system says.
    pub(in crate::io) fn remove_hint(&self, segment: u64) -> io::Result<()> {
        let paths =
            [self.files.path_of(FileKind::Hint, segment), self.files.unfinished_path_of(FileKind::Hint, segment)];
        for path in paths {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The bytes that a segment's hint has to have, for who checks it.
///
/// # Errors
/// The segment can't be read.
pub(super) fn hint_of(files: &ShardFiles, left: Left) -> io::Result<Result<Vec<u8>, NoHint>> {
    let segment = File::open(files.path_of(FileKind::Segment, left.number))?;
    let size = segment.metadata()?.len();
    let mut buffer = vec![0; READ_BYTES];
    segment.read_exact_at(&mut buffer[..BLOCK_BYTES], 0)?;
    let Ok(header) = FileHeader::decode(&buffer) else { return Ok(Err(NoHint::Damaged(0))) };
    let (mut hinting, block) = Hinting::new(header, left.first, left.end);
    let (mut out, mut offset) = (block.to_vec(), BLOCK_BYTES as u64);
    while !hinting.is_done() {
        let length = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(READ_BYTES);
        segment.read_exact_at(&mut buffer[..length], offset)?;
        match hinting.take(&buffer[..length], offset, &mut out) {
            Ok(0) if !hinting.is_done() => return Ok(Err(NoHint::Damaged(offset))),
            Ok(used) => offset += used as u64,
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(out))
}
