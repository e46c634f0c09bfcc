//! Writes a hint of each segment that is not written to any more, with `--values disk`, so that the next start need not read all
//! values.
//!
//! Nothing depends on a hint: one that is missing costs the next start the reading of its segment. So it is made when there is
//! time, a piece of a segment after the other, by a job each.

use super::{Actions, job_slot::JobSlot};
use crate::wal::{
    Desk, Done, Job, Left, NoHint,
    files::{HintStep, HintWriting},
    frame::FRAME_BYTES_MAX,
};
use std::{collections::BTreeSet, io};

/// Bytes of a segment that are read at once: more than the largest frame.
const READ_BYTES: usize = 2 * FRAME_BYTES_MAX;
/// Bytes a microsecond while the log is being written, so that its syncs find the disk free most of the time.
const PACE_BYTES_PER_US: u64 = 40;
/// The time for which nothing is tried after the disk has refused one.
const RETRY_US: u64 = 60_000_000;

/// Hints of the segments, so that the next start is quick.
pub(super) struct Hints {
    /// Segments that have one, or can have none.
    settled: BTreeSet<u64>,
    /// The segment at hand, and what is to be gone on with.
    segment: u64,
    writing: Option<Box<HintWriting>>,
    /// Not before then.
    next_us: u64,
    job: JobSlot,
}

impl Hints {
    /// Begins. `hinted`: the segments that have one.
    pub(super) fn new(hinted: impl IntoIterator<Item = u64>) -> Self {
        let settled = hinted.into_iter().collect();
        Self { settled, segment: 0, writing: None, next_us: 0, job: JobSlot::new(Desk::Hints) }
    }

    /// Returns true if a job is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.job.is_busy()
    }

    /// Notes the outcome of its job.
    pub(super) fn job_done(&mut self, outcome: io::Result<Done>) {
        self.job.end(outcome);
    }

    /// Ends what is under way, of a core that stops: the hint that was being written is left to the next start.
    pub(super) fn wind_up(&mut self) {
        self.job.take();
    }

    /// Goes on for a moment, if its time has come. `left`: the segments that are needed and not written to any more, in order.
    /// `is_log_busy`: the log's own writes go first. `is_full`: the log can't grow, and a hint would take its room. Returns how
    /// many hints were written.
    pub(super) fn advance(
        &mut self,
        left: impl Iterator<Item = Left> + Clone,
        (is_log_busy, is_full): (bool, bool),
        now_us: u64,
        actions: &mut Actions,
    ) -> u64 {
        let mut written = 0;
        let is_needed = left.clone().any(|left| left.number == self.segment);
        match self.job.take() {
            Some(Ok(Done::Hint(HintStep::Begun(writing)))) => self.writing = Some(writing),
            Some(Ok(Done::Hint(HintStep::Written))) if is_needed => {
                written = 1;
                self.settled.insert(self.segment);
            }
            // Its segment was given up meanwhile.
            Some(Ok(Done::Hint(HintStep::Written))) => self.remove(actions),
            Some(Ok(Done::Hint(HintStep::Impossible(why)))) if is_needed => {
                if let NoHint::Damaged(offset) = why {
                    let segment = self.segment;
                    tracing::error!(segment, offset, "a segment of the log has changed on disk: trine check");
                }
                self.settled.insert(self.segment);
            }
            Some(Err(error)) if is_needed => {
                tracing::warn!(%error, segment = self.segment, "a hint can't be written: the next start takes longer");
                self.next_us = now_us + RETRY_US;
            }
            // What is read of a segment that was given up means nothing: it may have been used again.
            Some(Ok(_) | Err(_)) | None => {}
        }
        // While the disk has nothing else to do, as fast as it goes; unless it has just refused one.
        let is_early = now_us < self.next_us && (is_log_busy || now_us + RETRY_US / 2 < self.next_us);
        if self.job.is_busy() || is_early {
            return written;
        }
        match self.writing.take() {
            Some(writing) if is_needed && !is_full => {
                self.next_us = now_us + READ_BYTES as u64 / PACE_BYTES_PER_US;
                self.job.begin(Job::ExtendHint(writing), actions);
            }
            Some(_) => self.remove(actions),
            None if is_full => {}
            None => self.begin_next(left, actions),
        }
        written
    }

    fn remove(&mut self, actions: &mut Actions) {
        self.job.begin(Job::RemoveHint(self.segment), actions);
    }

    fn begin_next(&mut self, left: impl Iterator<Item = Left> + Clone, actions: &mut Actions) {
        let Some(next) = left.clone().find(|left| !self.settled.contains(&left.number)) else { return };
        if let Some(first) = left.clone().next() {
            self.settled = self.settled.split_off(&first.number);
        }
        self.segment = next.number;
        self.job.begin(Job::BeginHint(next), actions);
    }
}
