//! The log's next segment, made ready while the one before it is written to.

use super::{job_slot::JobSlot, log_writer::Writing};
use crate::wal::{Desk, Done, Job, Segment, frame::FileId};
use std::io;

/// The time between two tries to make a segment ready.
const RETRY_US: u64 = 1_000_000;

/// The segment that comes next, or what is in its way.
pub(super) struct NextSegment {
    ready: Option<Segment>,
    /// The reason for which the last try has failed.
    failure: Option<io::Error>,
    job: JobSlot,
    /// The number that it takes.
    number: u64,
    /// The time of the next try.
    retry_us: u64,
    /// The time at which room that the disk did not have may be asked for again.
    try_again_us: u64,
}

impl NextSegment {
    /// None yet; it takes this number.
    pub(super) fn new(number: u64) -> Self {
        Self { ready: None, failure: None, job: JobSlot::new(Desk::Segment), number, retry_us: 0, try_again_us: 0 }
    }

    /// Returns true if it is ready.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// Takes it, if it is ready.
    pub(super) fn take(&mut self) -> Option<Segment> {
        self.ready.take()
    }

    /// The reason for which the last try to make it ready has failed.
    pub(super) fn failure(&self) -> Option<&io::Error> {
        self.failure.as_ref()
    }

    /// Returns true if there is none, the last try has failed, and none is under way.
    pub(super) fn is_missing(&self) -> bool {
        self.ready.is_none() && self.failure.is_some() && !self.job.is_busy()
    }

    /// Has the next try be soon: the disk may have room now.
    pub(super) fn try_soon(&mut self) {
        self.retry_us = 0;
    }

    /// Notes the outcome of a job.
    pub(super) fn job_done(&mut self, outcome: io::Result<Done>) {
        self.job.end(outcome);
    }

    /// Sees to it that it is made ready, and another is kept in reserve. `is_needed`: the next frame does not fit into the active
    /// segment.
    pub(super) fn look_after(&mut self, writing: &mut Writing<'_>, is_needed: bool) {
        let Writing { log, reserve, random, actions, now_us, .. } = writing;
        let now_us = *now_us;
        if self.try_again_us <= now_us {
            self.try_again_us = now_us + RETRY_US;
            reserve.try_again();
        }
        if self.is_ready() {
            return;
        }
        // Only what may use the reserve is admitted where the active segment is full and there is no other.
        let needs_reserve = self.failure.is_some() && 0 < reserve.spares() && is_needed;
        match self.job.take() {
            Some(Ok(Done::Segment(segment))) => {
                reserve.note_delivered();
                self.ready = Some(segment);
                // Without the reserve the disk is as full as it was.
                if 0 < reserve.spares() {
                    self.failure = None;
                }
                return;
            }
            Some(Ok(other)) => unreachable!("a segment was asked for, not {other:?}"),
            Some(Err(error)) => self.failure = Some(error),
            None => {}
        }
        let is_early = self.failure.is_some() && now_us < self.retry_us;
        if self.job.is_busy() || (is_early && !needs_reserve) {
            return;
        }
        self.retry_us = now_us + RETRY_US;
        let (number, id) = (self.number, FileId(random.u64(..)));
        self.number += 1;
        let prepare = Job::Prepare { number, id, end: log.persisted_end(), spares_left: u64::from(!needs_reserve) };
        self.job.begin(prepare, actions);
    }
}
