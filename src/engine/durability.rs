//! Durability: what a core does for its keys to survive. Recovery, log writes, snapshots, release of held replies.

use super::{
    End, Engine,
    holds::Holds,
    loading::Start,
    log_writer::{LogWriter, Writing},
    saving::Saving,
    values::Values,
};
use crate::{
    statistics::Delay,
    wal::{Aligned, Desk, Done, Lsn},
};
use std::io;

/// A core's files, and what is to be done with them.
pub(super) struct Durability {
    /// The core's directory, for messages.
    pub(super) path: String,
    /// Bytes of a segment.
    pub(super) segment_bytes: u64,
    pub(super) start: Start,
    /// There is none without a log.
    pub(super) writer: Option<LogWriter>,
    pub(super) saving: Saving,
    pub(super) holds: Holds,
    /// With values on disk.
    pub(super) values: Option<Values>,
}

impl Engine {
    /// Hands over the log's next frame, and goes on with a snapshot. Returns true if there is more to do at once.
    #[inline]
    pub(super) fn write_log(&mut self, is_idle: bool) -> bool {
        if self.durability.is_some() { self.write_to_files(is_idle) } else { false }
    }

    fn write_to_files(&mut self, is_idle: bool) -> bool {
        let Some(durability) = &mut self.durability else { return false };
        match durability.start {
            Start::Loading(_) => return true,
            Start::Opening(_) => return self.open_log(),
            Start::Over => {}
        }
        // Looked at before a frame is taken, which may end it: who was paused meanwhile must still be resumed.
        durability.holds.was_stalled |= self.shard.is_stalled();
        let shard = &mut self.shard;
        if let (Some(writer), Some(log), Some(reserve)) =
            (&mut durability.writer, &mut shard.store.log, &mut shard.grow)
        {
            writer.write(&mut Writing {
                log,
                state: &mut shard.core.persistence,
                reserve: &mut **reserve,
                random: &mut self.random,
                actions: &mut self.actions,
                now_us: self.now.monotonic_us,
                hurries: self.stopping.is_begun(),
            });
            let admission = shard.core.persistence.admission;
            shard.store.removes_until = admission.map_or(Lsn(u64::MAX), |admission| admission.expiry_end());
        }
        if durability.values.is_some() {
            return self.look_after_values(is_idle) | self.confirm_saves();
        }
        self.save(is_idle)
    }

    /// A frame is on disk, or the server must end: what else is, is not known.
    pub(super) fn log_written(&mut self, buffer: Aligned, outcome: io::Result<()>) {
        let Some(durability) = &mut self.durability else { return };
        let (Some(writer), Some(log)) = (&mut durability.writer, &mut self.shard.store.log) else { return };
        let now_us = self.clock.monotonic_us();
        let us = match writer.written(buffer, outcome, log, &mut self.shard.core.persistence, now_us) {
            Ok(us) => us,
            Err(error) => {
                let path = &*durability.path;
                tracing::error!(%error, path, "the log can't be written: the server ends, and acknowledges nothing more");
                return self.end(End::LogFailed(error));
            }
        };
        self.shard.core.note_delay(Delay::LogSync, us, self.now.unix_us);
        if durability.values.is_some() && log.has_notes() {
            let (segment, offset) = writer.frame_at();
            let store = &mut self.shard.store;
            while let Some((value, at)) = store.log.as_mut().and_then(|log| log.next_placed(segment, offset)) {
                store.place(value, at);
            }
        }
        self.release_held_replies();
    }

    /// A job has ended.
    pub(super) fn job_done(&mut self, desk: Desk, outcome: io::Result<Done>) {
        let Some(durability) = &mut self.durability else { return };
        let Durability { start, writer, saving, values, .. } = durability;
        match (desk, start) {
            (Desk::Opening, Start::Opening(opening)) => opening.job_done(outcome),
            (Desk::Segment, _) => {
                writer.as_mut().expect("who asks for a segment writes a log").next().job_done(outcome);
            }
            (Desk::Snapshot, _) => saving.job_done(outcome),
            (Desk::Compaction, _) => {
                values.as_mut().expect("values are on disk").compaction.job_done(outcome);
            }
            (Desk::Hints, _) => {
                values.as_mut().and_then(|values| values.hints.as_mut()).expect("values are on disk").job_done(outcome);
            }
            (Desk::Release, _) => {
                writer.iter_mut().for_each(|writer| writer.released(outcome.is_err()));
                if let Err(error) = outcome {
                    tracing::warn!(%error, "files that nobody needs any more could not be set aside");
                }
            }
            (Desk::Opening, _) => unreachable!("the start is over"),
        }
    }

    /// Returns true while a snapshot is being taken or segments are given up: the core sleeps in a way that it notices the end of a job.
    pub(super) fn is_saving(&self) -> bool {
        self.durability.as_ref().is_some_and(|durability| {
            matches!(durability.start, Start::Opening(_))
                || durability.saving.is_busy()
                || durability.writer.as_ref().is_some_and(LogWriter::is_releasing)
                || durability.values.as_ref().is_some_and(Values::is_busy)
        })
    }

    /// Returns true if nothing is left to be written.
    pub(super) fn is_written(&self) -> bool {
        let Some(durability) = &self.durability else { return true };
        let (Some(writer), Some(log)) = (&durability.writer, &self.shard.store.log) else { return true };
        writer.is_quiet(log)
    }

    /// Returns true if the log has records that there is no room for, and none can be made.
    pub(super) fn is_stuck(&self) -> bool {
        let (Some(durability), Some(log)) = (&self.durability, &self.shard.store.log) else { return false };
        let spares = self.shard.grow.as_ref().map_or(0, |reserve| reserve.spares());
        // What is being done for the files may hold the reserve, and gives it back.
        !self.is_saving() && durability.writer.as_ref().is_some_and(|writer| writer.is_stuck(log, spares))
    }
}
