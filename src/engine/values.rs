//! Values that live on disk: those that requests wait for are fetched, those that are seldom used are sent away, and the log's
//! oldest segments are given up.
//!
//! A request whose values are away is not executed; its session is suspended until they are there, and is resumed in the very
//! turn in which the last of them has come. Values that were fetched for a request can't go away before it was executed.

use super::{
    Engine,
    compaction::{Compaction, Work},
    connection::ConnectionId,
    hints::Hints,
    message::Batch,
    reads::{Fetched, Reads, Waiter},
};
use crate::{
    store::Cold,
    wal::{Aligned, FileInfo, Value, frame::FRAME_BYTES_MAX},
};
use std::{collections::BTreeMap, io};

/// The time for which a core sends values away in each turn; and where an eighth more memory is used than may be.
const DEMOTE_US: u64 = 100;
const DEMOTE_US_OVERDUE: u64 = 1_000;
/// Values between two looks at the clock: some 10 µs.
const VALUES_PER_LOOK: usize = 32;
/// The time for which a core moves values in each turn for a segment to be given up; and where it has nothing else to do.
const MOVE_US_BUSY: u64 = 50;
const MOVE_US_IDLE: u64 = 500;
/// Bytes of values that are written once more in each turn, each alone: about a frame's.
const PARTED_BYTES_PER_TURN: u64 = FRAME_BYTES_MAX as u64;
/// The number of times that a request's values are fetched before it is given up: each time, another write or move has come between.
const FETCHES_MAX: u32 = 1000;

/// A core's values on disk.
pub(super) struct Values {
    reads: Reads,
    pub(super) compaction: Compaction,
    /// Once the log has been read.
    pub(super) hints: Option<Hints>,
    /// The values that the first of another core's requests waits for, by core.
    fetching: BTreeMap<usize, Fetching>,
}

/// The values that a request waits for.
#[derive(Default)]
pub(super) struct Fetching {
    /// The number of those that have not come.
    missing: usize,
    /// Those that have come, and may not go away before the request is executed.
    kept: Vec<Value>,
    /// The reason for which one of them can't be had, if so.
    pub(super) failure: Option<String>,
    /// The number of times that this request's values were fetched.
    tries: u32,
}

impl Values {
    pub(super) fn new(path: String, segment_bytes: u64, reads_max: usize) -> Self {
        let compaction = Compaction::new(segment_bytes);
        Self { reads: Reads::new(path, reads_max), compaction, hints: None, fetching: BTreeMap::new() }
    }

    /// Has every segment before this one given up, and all files that were `found` cleared away.
    pub(super) fn give_up_before(&mut self, segment: u64, found: Vec<FileInfo>) {
        self.compaction.give_up_before(segment, found);
    }

    /// Returns true if a job is under way for a segment that is to be given up, or for a hint of one.
    pub(super) fn is_busy(&self) -> bool {
        self.compaction.is_busy() || self.hints.as_ref().is_some_and(Hints::is_busy)
    }
}

impl Fetching {
    /// Notes that these are waited for; `false` where that was tried too often.
    fn begin(&mut self, count: usize) -> bool {
        self.missing += count;
        self.tries += 1;
        self.tries <= FETCHES_MAX
    }

    /// Takes what has come of a value. Returns whether it was the last.
    fn take(&mut self, kept: Option<Value>, failure: Option<&str>) -> bool {
        self.kept.extend(kept);
        if let Some(text) = failure {
            self.failure = Some(format!("ERR the value can't be read: {text}"));
        }
        self.missing -= 1;
        self.missing == 0
    }
}

impl Engine {
    pub(super) fn values(&mut self) -> Option<&mut Values> {
        self.durability.as_mut()?.values.as_mut()
    }

    /// Has the values fetched that a client's requests need; the next of them waits for those that are `awaited`.
    pub(super) fn fetch_for_client(&mut self, id: ConnectionId, foreseen: Vec<Cold>, awaited: Vec<Cold>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if awaited.is_empty() {
            connection.fetching.tries = 0;
        } else if !connection.fetching.begin(awaited.len()) {
            connection.fetching.failure = Some("ERR the value can't be read: it has moved too often meanwhile".into());
        }
        let Some(values) = self.values() else { return };
        awaited.into_iter().for_each(|cold| values.reads.want(cold, Some(Waiter::Client(id))));
        foreseen.into_iter().for_each(|cold| values.reads.want(cold, None));
    }

    /// Has the values fetched that the first request of another core waits for.
    pub(super) fn fetch_for_core(&mut self, from: usize, awaited: Vec<Cold>) {
        let Some(values) = self.values() else { return };
        let fetching = values.fetching.entry(from).or_default();
        if !fetching.begin(awaited.len()) {
            fetching.failure = Some("ERR the value can't be read: it has moved too often meanwhile".into());
        }
        awaited.into_iter().for_each(|cold| values.reads.want(cold, Some(Waiter::Core(from))));
    }

    /// Takes requests of another core: executes them, or puts them behind those that wait.
    pub(super) fn take_batch(&mut self, from: usize, batch: Box<Batch>) {
        let foresees = self.shard.store.has_values_on_disk() && !self.shard.is_stalled();
        let foreseen = if foresees { self.cold_values_of(&batch) } else { Vec::new() };
        if !self.remote.parked[from].is_empty() {
            self.remote.parked[from].push_back(batch);
        } else if let Some(rest) = self.execute_batch(from, batch, None) {
            self.remote.parked[from].push_front(rest);
        }
        if let Some(values) = self.values() {
            foreseen.into_iter().for_each(|cold| values.reads.want(cold, None));
        }
    }

    /// Goes on with the requests of other cores that waited for the log to catch up.
    pub(super) fn resume_cores(&mut self) {
        for from in 0..self.remote.parked.len() {
            let fetching = self.values().and_then(|values| values.fetching.get(&from));
            let is_fetching = fetching.is_some_and(|fetching| 0 < fetching.missing);
            if !is_fetching && !self.remote.parked[from].is_empty() {
                self.resume_core(from);
            }
        }
    }

    /// Goes on with the requests of another core: the values have come that the first of them waited for, or the log has caught
    /// up.
    fn resume_core(&mut self, from: usize) {
        let fetching = self.values().and_then(|values| values.fetching.get_mut(&from));
        let (mut kept, mut failure) = fetching
            .map_or_else(Default::default, |fetching| (std::mem::take(&mut fetching.kept), fetching.failure.take()));
        while let Some(batch) = self.remote.parked[from].pop_front() {
            let count = batch.items.len();
            let rest = self.execute_batch(from, batch, failure.take());
            let is_stuck = rest.as_ref().is_some_and(|rest| rest.items.len() == count);
            if let Some(fetching) = self.values().and_then(|values| values.fetching.get_mut(&from)) {
                if is_stuck {
                    fetching.kept.append(&mut kept);
                } else {
                    // Another request than the one before: its first try, if it waits.
                    fetching.tries = u32::from(rest.is_some());
                }
            }
            if let Some(rest) = rest {
                self.remote.parked[from].push_front(rest);
                break;
            }
        }
        kept.into_iter().for_each(|value| self.shard.store.release(value));
    }

    /// Goes on with a client's requests, whose values have come.
    fn resume_client(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut kept = std::mem::take(&mut connection.fetching.kept);
        let unread = connection.session.unread_bytes();
        connection.session.resume();
        self.receive(id, &[]);
        if let Some(connection) = self.connections.get_mut(id) {
            let session = &connection.session;
            if session.unread_bytes() < unread {
                connection.fetching.tries = u32::from(session.is_suspended());
            } else if session.is_suspended() {
                // Another of its values has gone away meanwhile: those that are there stay until that one is, too.
                connection.fetching.kept.append(&mut kept);
            }
        }
        kept.into_iter().for_each(|value| self.shard.store.release(value));
    }

    /// Lets values go away again that were fetched for a connection which is no more.
    pub(super) fn release_values(&mut self, fetching: Fetching) {
        fetching.kept.into_iter().for_each(|value| self.shard.store.release(value));
    }

    /// A value was read: brings it back, and goes on with those who waited for it.
    pub(super) fn value_read(&mut self, token: u64, buffer: Aligned, outcome: io::Result<usize>) {
        if let Some(fetched) = self.values().and_then(|values| values.reads.finish(token, buffer, outcome)) {
            self.take_value(fetched);
        }
    }

    fn take_value(&mut self, fetched: Fetched) {
        let Fetched { cold, waiters, outcome, buffer } = fetched;
        let now = self.now.unix_millis();
        let persistence = &mut self.shard.core.persistence;
        persistence.value_reads += 1;
        persistence.value_read_bytes += cold.length as u64;
        let (mut kept, mut failure) = (None, None);
        match outcome {
            Ok(place) => kept = self.shard.store.recall(&cold, &buffer.bytes()[place], now).then_some(cold.value),
            // Where it has been overwritten or moved meanwhile, nobody needs what is there.
            Err(problem) if self.shard.store.is_cold(&cold) => {
                persistence.value_read_errors += 1;
                tracing::error!(problem, "a value can't be read");
                failure = Some(problem);
            }
            Err(_) => {}
        }
        if let Some(values) = self.values() {
            values.reads.recycle(buffer);
        }
        for waiter in waiters {
            match waiter {
                Waiter::Client(id) => {
                    let Some(connection) = self.connections.get_mut(id) else { continue };
                    if connection.fetching.take(kept.take(), failure.as_deref()) {
                        self.resume_client(id);
                    }
                }
                Waiter::Core(from) => {
                    let fetching = self.values().and_then(|values| values.fetching.get_mut(&from));
                    if fetching.is_some_and(|fetching| fetching.take(kept.take(), failure.as_deref())) {
                        self.resume_core(from);
                    }
                }
            }
        }
        // Nobody keeps it.
        kept.into_iter().for_each(|value| self.shard.store.release(value));
    }

    /// At the end of a turn: begins reads, sends values away, and goes on with the segment that is to be given up. Returns
    /// whether there is more to do at once.
    pub(super) fn look_after_values(&mut self, is_idle: bool) -> bool {
        if let Some(values) = self.durability.as_mut().and_then(|durability| durability.values.as_mut()) {
            values.reads.submit(&mut self.actions);
        }
        self.demote();
        self.write_hints();
        self.compact(is_idle) | self.shard.store.wants_demotion()
    }

    fn write_hints(&mut self) {
        let (Some(durability), Some(log)) = (&mut self.durability, &self.shard.store.log) else { return };
        let (Some(values), Some(writer)) = (&mut durability.values, &durability.writer) else { return };
        let Some(hints) = &mut values.hints else { return };
        if self.stopping.is_begun() {
            hints.wind_up();
        } else {
            let state = (log.persisted_end() < log.end(), writer.is_full());
            let written = hints.advance(writer.left(), state, self.now.monotonic_us, &mut self.actions);
            self.shard.core.persistence.hints_written += written;
        }
    }

    fn demote(&mut self) {
        self.part_values();
        let store = &mut self.shard.store;
        if !store.wants_demotion() {
            return;
        }
        let limit = store.policy.memory_max;
        let is_overdue = limit != 0 && limit + limit / 8 < store.memory();
        let budget = if is_overdue { DEMOTE_US_OVERDUE } else { DEMOTE_US };
        let until = self.clock.monotonic_us() + budget;
        while store.wants_demotion() && self.clock.monotonic_us() < until {
            store.demote(VALUES_PER_LOOK, self.now.unix_millis());
        }
    }

    /// Has values written alone that a command of several frames has written, so that they can go away. Clients are stalled long
    /// before the log is as far behind as this goes, so that they do not write faster than their values go away.
    fn part_values(&mut self) {
        let (store, core) = (&mut self.shard.store, &self.shard.core);
        let pending_max = 2 * core.config.log_backlog_bytes;
        let mut parted = 0;
        while parted < PARTED_BYTES_PER_TURN && !self.stopping.is_begun() && store.wants_parting() {
            let Some(log) = &store.log else { return };
            let (before, admission) = (log.end(), core.persistence.admission);
            let left = admission.map_or(u64::MAX, |admission| admission.left_for_moves(before));
            if pending_max <= log.pending_bytes() || left < FRAME_BYTES_MAX as u64 {
                return;
            }
            store.part_value();
            parted += store.log.as_ref().map_or(0, |log| log.end().0 - before.0);
        }
    }

    fn compact(&mut self, is_idle: bool) -> bool {
        let Some(durability) = &mut self.durability else { return false };
        let (Some(values), Some(writer)) = (&mut durability.values, &mut durability.writer) else { return false };
        let is_stopping = self.stopping.is_begun();
        let live_percent = self.shard.core.config.log_live_percent;
        let (store, state) = (&mut self.shard.store, &mut self.shard.core.persistence);
        let (random, actions) = (&mut self.random, &mut self.actions);
        let allocated = self.shard.grow.as_ref().map_or(0, |reserve| reserve.allocated());
        let mut work = Work { store, writer, state, live_percent, allocated, random, actions };
        let budget = if is_idle { MOVE_US_IDLE } else { MOVE_US_BUSY };
        let (has_more, released) = if is_stopping {
            (false, values.compaction.wind_up(&mut work))
        } else {
            values.compaction.advance(&mut work, self.clock, budget)
        };
        if let Some(segment) = released {
            values.reads.forget(segment, &mut self.actions);
        }
        has_more
    }
}
