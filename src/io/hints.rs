//! Writes a hint of each segment that is not written to any more, with `--values disk`, so that the next start need not read all
//! values.
//!
//! Nothing depends on a hint: one that is missing costs the next start the reading of its segment. So it is made when there is
//! time, a piece of a segment after the other, by the core's blocking thread.

use super::{blocking::Blocking, directory::ShardFiles, files::OsFiles, ring::Bell};
use crate::wal::{
    NoHint,
    files::{Files, HintStep, HintWriting, Layout, Left, hint_bytes},
    frame::{FRAME_BYTES_MAX, FileKind},
};
use std::{collections::BTreeSet, fs::File, io, os::unix::fs::FileExt, sync::Arc};

/// Bytes of a segment that are read at once.
const READ_BYTES: usize = 2 * FRAME_BYTES_MAX;
/// Bytes a microsecond while the log is being written, so that its syncs find the disk free most of the time.
const PACE_BYTES_PER_US: u64 = 40;
/// How long nothing is tried after the disk has refused one.
const RETRY_US: u64 = 60_000_000;

/// What the blocking thread has done.
enum Job {
    Step(HintStep),
    /// What nobody needs is gone.
    Removed,
}

/// What a core does for its next start to be quick.
pub struct Hints<F: Files = OsFiles> {
    layout: Layout<F>,
    /// Segments that have one, or can have none.
    settled: BTreeSet<u64>,
    /// The segment at hand, and what is to be gone on with.
    segment: u64,
    writing: Option<Box<HintWriting>>,
    /// Not before then.
    next_us: u64,
    job: Blocking<io::Result<Job>>,
}

impl<F: Files> Hints<F> {
    /// Begins. `hinted`: the segments that have one.
    pub fn new(layout: Layout<F>, hinted: impl IntoIterator<Item = u64>, bell: Arc<Bell>) -> Self {
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
            Some(Ok(Job::Step(HintStep::Begun(writing)))) => self.writing = Some(writing),
            Some(Ok(Job::Step(HintStep::Written))) if is_needed => {
                written = 1;
                self.settled.insert(self.segment);
            }
            // Its segment was given up meanwhile.
            Some(Ok(Job::Step(HintStep::Written))) => self.remove(),
            Some(Ok(Job::Step(HintStep::Impossible(why)))) if is_needed => {
                if let NoHint::Damaged(offset) = why {
                    let path = self.layout.path_of(FileKind::Segment, self.segment);
                    tracing::error!(path, offset, "a segment of the log has changed on disk: trine check");
                }
                self.settled.insert(self.segment);
            }
            Some(Err(error)) if is_needed => {
                tracing::warn!(%error, segment = self.segment, "a hint can't be written: the next start takes longer");
                self.next_us = now_us + RETRY_US;
            }
            // What is read of a segment that was given up means nothing: it may have been used again.
            Some(Ok(Job::Step(HintStep::Impossible(_)) | Job::Removed) | Err(_)) | None => {}
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
                self.job.begin(move || layout.go_on_with_hint(writing).map(Job::Step));
            }
            Some(_) => self.remove(),
            None if is_full => {}
            None => self.begin_next(left),
        }
        written
    }

    fn remove(&mut self) {
        let (layout, segment) = (self.layout.clone(), self.segment);
        self.job.begin(move || layout.remove_hint(segment).map(|_| Job::Removed));
    }

    fn begin_next(&mut self, left: impl Iterator<Item = Left> + Clone) {
        let Some(next) = left.clone().find(|left| !self.settled.contains(&left.number)) else { return };
        if let Some(first) = left.clone().next() {
            self.settled = self.settled.split_off(&first.number);
        }
        self.segment = next.number;
        let layout = self.layout.clone();
        self.job.begin(move || layout.begin_hint(next).map(Job::Step));
    }
}

/// The bytes that a segment's hint has to have, for who checks it.
///
/// # Errors
/// The segment can't be read.
pub(super) fn hint_of(files: &ShardFiles, left: Left) -> io::Result<Result<Vec<u8>, NoHint>> {
    let segment = File::open(files.path_of(FileKind::Segment, left.number))?;
    let size = segment.metadata()?.len();
    hint_bytes(left, size, |buffer, offset| segment.read_exact_at(buffer, offset))
}
