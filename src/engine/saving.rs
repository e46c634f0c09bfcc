//! Snapshots: when one is taken, who waits for it, and what it makes superfluous.

use super::{
    Action, Engine,
    connection::ConnectionId,
    log_writer::LogWriter,
    message::{Batch, Message},
    snapshot::{Progress, Snapshot},
};
use crate::{
    resp::{Reply, Version},
    session::Ticket,
    wait::Wait,
    wal::{
        Desk, Done, FileInfo, Job, Lsn,
        room::{FullFacts, SnapshotFacts, is_snapshot_due, is_snapshot_needed_for_room},
    },
};
use std::io;

/// The time for which a busy core walks its keys for a snapshot in each turn, and one that has nothing else to do.
const WALK_US_BUSY: u64 = 50;
const WALK_US_IDLE: u64 = 500;
/// The time for which no snapshot is taken after one that failed.
const RETRY_US: u64 = 10_000_000;

/// The snapshots of a core.
#[derive(Default)]
pub(super) struct Saving {
    /// The one that is being taken, and since when.
    pub(super) snapshot: Option<(Snapshot, u64)>,
    retry_us: u64,
    /// The end of the log and the store's memory when the last snapshot failed.
    failed_at: Option<(Lsn, usize)>,
    /// The next snapshot is written into the reserve: the disk had no other room for the last one.
    takes_reserve: bool,
    /// Those that wait for a snapshot (`SAVE`).
    savers: Vec<Saver>,
    /// With values on disk there are no snapshots: who asks for one waits until the log is on disk up to here.
    save_at: Option<Lsn>,
    /// The end of the log when it was read: the position of any snapshot that is taken without one.
    pub(super) found_end: Lsn,
    /// After a loss that was accepted: the files that were found, of which none is needed once the next snapshot is there.
    pub(super) leftovers: Vec<FileInfo>,
}

/// One that waits for a snapshot.
pub(super) enum Saver {
    /// A client of this core.
    Client(ConnectionId, Ticket),
    /// This core's part in what a client of it asked of all cores.
    Part(ConnectionId, Ticket, usize),
    /// Another core, for a client of its.
    Core(usize, Box<Batch>),
}

impl Saving {
    /// Returns true if a snapshot is being taken.
    pub(super) fn is_busy(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Notes the outcome of a snapshot's job.
    pub(super) fn job_done(&mut self, outcome: io::Result<Done>) {
        let (snapshot, _) = self.snapshot.as_mut().expect("a snapshot with a job under way is not given up");
        snapshot.job_done(outcome);
    }
}

impl Engine {
    /// Notes that somebody waits for a snapshot.
    pub(super) fn wait_for_snapshot(&mut self, saver: Saver) {
        if let Some(durability) = &mut self.durability {
            durability.saving.savers.push(saver);
        }
    }

    /// Answers those who asked for a snapshot once what there was then is on disk.
    pub(super) fn confirm_saves(&mut self) -> bool {
        let (Some(durability), Some(log)) = (&mut self.durability, &self.shard.store.log) else { return false };
        let (saving, persistence) = (&mut durability.saving, &mut self.shard.core.persistence);
        if std::mem::take(&mut persistence.wants_snapshot) {
            saving.save_at = Some(log.end());
        }
        if saving.save_at.is_none_or(|lsn| log.persisted_end() < lsn) {
            return false;
        }
        saving.save_at = None;
        persistence.saved_at = self.now.unix_millis();
        persistence.save_seconds = Some(0);
        self.answer_savers(None);
        // Their replies leave with the next turn.
        true
    }

    /// Begins a snapshot where one is wanted or due, and goes on with the one at hand. Returns true if the core has more to do
    /// for it at once.
    pub(super) fn save(&mut self, is_idle: bool) -> bool {
        if self.is_loading() {
            return false;
        }
        let Some(durability) = &mut self.durability else { return false };
        let saving = &mut durability.saving;
        let log = self.shard.store.log.as_deref();
        let (end, persisted) = match log {
            Some(log) => (log.end(), log.persisted_end()),
            None => (saving.found_end, saving.found_end),
        };
        let Some((snapshot, _)) = &mut saving.snapshot else {
            self.begin_snapshot_if_due(end);
            return false;
        };
        let budget = if is_idle { WALK_US_IDLE } else { WALK_US_BUSY };
        let (store, actions) = (&self.shard.store, &mut self.actions);
        let outcome = match snapshot.advance(store, (end, persisted), (self.clock, budget), actions) {
            Progress::Walking => return true,
            Progress::Waiting => {
                let spares = self.shard.grow.as_ref().map_or(0, |reserve| reserve.spares());
                let is_stuck = |log| durability.writer.as_ref().is_some_and(|writer| writer.is_stuck(log, spares));
                if log.is_some_and(is_stuck) {
                    // The log waits for the reserve that the snapshot has, and the snapshot for the log.
                    snapshot.give_up(io::ErrorKind::StorageFull.into(), actions);
                }
                return false;
            }
            Progress::Done(bytes) => Ok(bytes),
            Progress::Failed(error) => Err(error),
        };
        let text = match outcome {
            Ok(bytes) => {
                self.end_snapshot(bytes);
                None
            }
            Err(error) => Some(self.fail_snapshot(&error, end)),
        };
        self.answer_savers(text.as_deref());
        // Their replies leave with the next turn.
        true
    }

    fn begin_snapshot_if_due(&mut self, end: Lsn) {
        let now_us = self.now.monotonic_us;
        let Some(durability) = &mut self.durability else { return };
        let (saving, writer) = (&mut durability.saving, durability.writer.as_ref());
        let persistence = &mut self.shard.core.persistence;
        let facts = SnapshotFacts {
            end,
            saved: persistence.saved_lsn,
            snapshot_bytes: persistence.snapshot_bytes,
            after_bytes: self.shard.core.config.snapshot_log_bytes,
        };
        let is_full = writer.is_some_and(LogWriter::is_full);
        let full_facts = FullFacts {
            is_full,
            segments_freed: writer.map_or(0, |writer| writer.left().count()),
            now: (end, self.shard.store.memory()),
            failed: saving.failed_at,
            snapshot_bytes: persistence.snapshot_bytes,
            after_bytes: facts.after_bytes,
        };
        let is_overdue = !saving.leftovers.is_empty() && saving.retry_us <= now_us;
        let is_due = (!is_full && is_snapshot_due(facts)) || is_snapshot_needed_for_room(full_facts);
        let has_log = self.shard.store.log.is_some();
        if persistence.wants_snapshot || is_overdue || (has_log && saving.retry_us <= now_us && is_due) {
            persistence.wants_snapshot = false;
            persistence.snapshot_since = Some(now_us);
            let takes_reserve = is_full && saving.takes_reserve;
            let (store, random) = (&self.shard.store, &mut self.random);
            let snapshot = Snapshot::begin(store, end, takes_reserve, random, &mut self.actions);
            saving.snapshot = Some((snapshot, now_us));
        }
    }

    /// Notes that the snapshot is there, and gives up what it makes superfluous.
    fn end_snapshot(&mut self, bytes: u64) {
        let Some(durability) = &mut self.durability else { return };
        let (saving, persistence) = (&mut durability.saving, &mut self.shard.core.persistence);
        let Some((snapshot, since_us)) = saving.snapshot.take() else { return };
        let (since, seconds) = (snapshot.since, (self.now.monotonic_us - since_us) / 1_000_000);
        persistence.snapshot_since = None;
        persistence.save_failed = false;
        saving.failed_at = None;
        saving.takes_reserve = false;
        persistence.saved_at = self.now.unix_millis();
        persistence.save_seconds = Some(seconds);
        persistence.saved_lsn = since;
        persistence.snapshot_bytes = bytes;
        tracing::info!(bytes, seconds, "a snapshot was taken");
        let has_leftovers = !saving.leftovers.is_empty();
        let found = std::mem::take(&mut saving.leftovers);
        let clearing = Some(Job::ClearAway { found, since }).filter(|_| has_leftovers);
        match &mut durability.writer {
            Some(writer) => {
                writer.release_before(since, persistence, &mut self.actions);
                clearing.into_iter().for_each(|job| writer.release(job, &mut self.actions));
            }
            None => self.actions.extend(clearing.map(|job| Action::Start(Desk::Release, job))),
        }
    }

    /// Notes that the snapshot has failed. Returns the error for those who wait for it.
    fn fail_snapshot(&mut self, error: &io::Error, end: Lsn) -> String {
        tracing::error!(%error, "a snapshot could not be taken; the log is kept");
        let persistence = &mut self.shard.core.persistence;
        persistence.snapshot_since = None;
        persistence.save_failed = true;
        if let Some(durability) = &mut self.durability {
            let saving = &mut durability.saving;
            saving.snapshot = None;
            let is_full = durability.writer.as_ref().is_some_and(LogWriter::is_full);
            let had_no_room = is_full && error.kind() == io::ErrorKind::StorageFull;
            saving.takes_reserve = !saving.takes_reserve && had_no_room;
            if !saving.takes_reserve {
                saving.retry_us = self.now.monotonic_us + RETRY_US;
                saving.failed_at = Some((end, self.shard.store.memory()));
            }
        }
        format!("ERR the snapshot could not be written: {error}")
    }

    fn answer_savers(&mut self, error: Option<&str>) {
        let Some(durability) = &mut self.durability else { return };
        let mut text = Vec::new();
        let mut reply = Reply { output: &mut text, version: Version::Two };
        match error {
            Some(error) => reply.error(error),
            None => reply.ok(),
        }
        for saver in std::mem::take(&mut durability.saving.savers) {
            match saver {
                Saver::Core(core, mut batch) => {
                    for item in &mut batch.items {
                        batch.replies.extend_from_slice(&text);
                        item.reply_end = batch.replies.len();
                    }
                    self.actions.push(Action::Post(core, Message::Replies(batch)));
                }
                Saver::Client(id, ticket) => self.complete(id, ticket, text.clone(), Wait::NONE),
                Saver::Part(id, ticket, part) => self.complete_part(id, ticket, part, text.clone(), Wait::NONE),
            }
        }
    }
}
