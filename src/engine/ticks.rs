//! Ticks: what is due now and then.

use super::{Action, Engine, connection::ConnectionId};
use crate::{client::Client, wal::Lsn};
use std::io;

/// Time between two ticks, in microseconds: how late a core notices that entries have expired.
const TICK_US: u64 = 10_000;
/// A core is idle to which nothing has come for so long, if nothing that it has expires or is being written.
const IDLE_AFTER_US: u64 = 1_000_000;
/// Entries that a tick looks at for expired ones: some 50 µs, half a percent of the core.
const SWEEP_ENTRIES: usize = 500;
/// Entries that the next tick looks at if a quarter of them had expired, so that a mass expiry is over soon: some 10 % of the core.
const SWEEP_ENTRIES_BUSY: usize = 10_000;
/// The time for which a tick evicts where the limit of memory was lowered: a tenth of the core, some 50,000 entries a second.
const EVICT_US: u64 = 1_000;
/// Entries between two looks at the clock: some 100 µs.
const EVICTIONS_PER_LOOK: usize = 64;
/// Entries of a FLUSHALL that a tick gives back: some 0.5 ms.
const BURIED_ENTRIES: usize = 5_000;
/// The time that a connection waits which has told its client, in the middle of a request, why it ends. Closed at once while more is
/// coming, it would be reset, and the client might never see the reason.
const LINGER_US: u64 = 2_000_000;

/// The times at which something is due, and figures from one tick to the next.
pub(super) struct Ticks {
    /// The time of the next tick.
    pub(super) next_us: u64,
    next_second_us: u64,
    /// The time at which it was last told that connections can't be accepted.
    warned_us: u64,
    /// The time from which an HTTP request is warned of again that came where the Redis protocol is spoken.
    pub(super) warned_of_http_us: u64,
    sweep_entries: usize,
    /// `output-hard-limit` as it was a second ago.
    output_limit: usize,
    /// Listeners that had no descriptor for a connection, to be tried again with the next tick.
    refused: Vec<usize>,
    /// The last turn found something to do.
    pub(super) has_worked: bool,
    /// The time at which a turn last did.
    pub(super) worked_us: u64,
}

impl Default for Ticks {
    fn default() -> Self {
        Self {
            next_us: 0,
            next_second_us: 0,
            warned_us: 0,
            warned_of_http_us: 0,
            sweep_entries: SWEEP_ENTRIES,
            output_limit: 0,
            refused: Vec::new(),
            has_worked: false,
            worked_us: 0,
        }
    }
}

impl Engine {
    /// Does what is due now and then: expired entries, sampled figures, idle clients, the end.
    pub(super) fn tick(&mut self) {
        let now = self.now;
        self.ticks.next_us = now.monotonic_us + TICK_US;
        // What it removes is recorded: not before there is a log, nor while that waits for the disk, nor when it is to end.
        let is_loading = self.shard.core.persistence.is_loading;
        let must_wait = is_loading || self.shard.is_stalled() || self.stopping.is_begun();
        let removed = if must_wait { 0 } else { self.shard.store.sweep(self.ticks.sweep_entries, now.unix_millis()) };
        let is_busy = self.ticks.sweep_entries / 4 < removed;
        self.ticks.sweep_entries = if is_busy { SWEEP_ENTRIES_BUSY } else { SWEEP_ENTRIES };
        self.shard.store.bury(BURIED_ENTRIES);
        self.evict();
        for listener in std::mem::take(&mut self.ticks.refused) {
            if !self.stopping.is_begun() {
                self.actions.push(Action::AcceptAgain(listener));
            }
        }
        if self.ticks.next_second_us <= now.monotonic_us {
            self.ticks.next_second_us = now.monotonic_us + 1_000_000;
            self.actions.push(Action::MeasureProcess);
            self.shard.core.statistics.hot_keys.fade(now.monotonic_us);
            self.close_idle();
            self.close_owed();
        }
        self.close_lingering();
        self.give_up_slots();
        self.resume_braked();
        let statistics = &mut self.shard.core.statistics;
        statistics.rate.note(statistics.requests, now.monotonic_us);
        statistics.input_rate.note(statistics.input_bytes, now.monotonic_us);
        statistics.output_rate.note(statistics.output_bytes, now.monotonic_us);
        statistics.sampler.tick();
        self.stop();
    }

    /// Notes that a listener can't accept: tried again with every tick, told once a second.
    pub(super) fn note_accept_failure(&mut self, listener: usize, error: &io::Error) {
        if self.ticks.warned_us + 1_000_000 <= self.now.monotonic_us {
            self.ticks.warned_us = self.now.monotonic_us;
            tracing::warn!(%error, "connections can't be accepted: raise the limit of open files (ulimit -n)");
        }
        self.ticks.refused.push(listener);
    }

    /// Goes on to evict what is above the limit of memory, whoever writes. Not while the log could not take it.
    fn evict(&mut self) {
        let until = self.clock.monotonic_us() + EVICT_US;
        let persistence = &self.shard.core.persistence;
        let may_evict = !persistence.is_loading && persistence.refusal.is_none();
        self.shard.store.removes_until = persistence.admission.map_or(Lsn(u64::MAX), |admission| admission.end());
        while may_evict
            && self.shard.store.wants_eviction()
            && !self.shard.is_stalled()
            && self.clock.monotonic_us() < until
        {
            self.shard.store.evict_some(EVICTIONS_PER_LOOK, self.now.unix_millis());
        }
    }

    /// Closes clients that are owed more than may be since the limit was lowered: of those who don't read nothing else tells.
    fn close_owed(&mut self) {
        let limit = self.shard.core.config.output_hard_limit;
        if std::mem::replace(&mut self.ticks.output_limit, limit) <= limit {
            return;
        }
        self.connections.touch_if(|connection| limit < connection.session.owed_bytes());
    }

    /// Closes clients that have been silent for as long as `timeout` says.
    fn close_idle(&mut self) {
        let timeout_us = self.shard.core.config.timeout.as_micros() as u64;
        if timeout_us == 0 {
            return;
        }
        let now_us = self.now.monotonic_us;
        let is_idle = |client: &Client| timeout_us <= now_us.saturating_sub(client.active_us);
        let clients = self.shard.core.clients.iter();
        let idle: Vec<_> = clients.filter(|(_, client)| is_idle(client)).map(|(place, _)| place).collect();
        for place in idle {
            // A client whose request waits is not silent: this server is.
            let connection = self.connections.at(place).filter(|connection| !connection.session.is_suspended());
            if let Some(id) = connection.map(|connection| connection.id) {
                self.drop_connection(id, Action::Close(id));
            }
        }
    }

    /// Closes connections that have waited for long enough.
    fn close_lingering(&mut self) {
        let (now, is_stopping) = (self.now.monotonic_us, self.stopping.is_begun());
        let is_over = |(_, since): &mut (ConnectionId, u64)| is_stopping || *since + LINGER_US <= now;
        for (id, _) in self.connections.lingering.extract_if(.., is_over).collect::<Vec<_>>() {
            if self.connections.get(id).is_some() {
                self.drop_connection(id, Action::Close(id));
            }
        }
    }

    /// Returns true if nothing has come for a while and nothing is due at a moment of its own.
    pub(super) fn is_idle(&self) -> bool {
        let store = &self.shard.store;
        self.ticks.worked_us + IDLE_AFTER_US <= self.now.monotonic_us
            && store.expiring() == 0
            && !store.has_buried()
            && !store.wants_eviction()
            && !store.has_values_on_disk()
            && !self.is_loading()
            && !self.is_stopping()
            && self.ticks.refused.is_empty()
            && self.connections.touched.is_empty()
            && self.connections.lingering.is_empty()
            && self.connections.braked.is_empty()
            && !self.remote.has_parked()
            && self.slots.is_quiet()
            && self.is_written()
            && !self.is_saving()
    }
}
