//! The engine: everything that one core decides. Events in, actions out.
//!
//! A turn, as the driver (`io::core`, or the simulator) drives it:
//!
//! ```text
//! engine.begin_turn(now);          looks at the clock
//! engine.load(read);               while files are read at the start
//! engine.handle(event);            for each event: executes, and notes what has to leave
//! engine.accept(port);             for each connection that has come in
//! engine.end_turn(is_idle);        ticks, lets replies leave, writes the log, goes on with snapshots
//! engine.actions                   what is to be done now, in order; the driver takes them
//! engine.rest(is_idle);            where there was nothing to do: how to wait
//! ```
//!
//! It has no clock, no I/O and no randomness of its own: the same events at the same times make the same actions. Group commit is
//! what piles up while the last frame is being written.

mod action;
mod buffers;
mod clock;
mod compaction;
mod connection;
mod connections;
mod durability;
mod event;
mod forward;
#[cfg(test)]
mod full_disk;
mod hints;
mod holds;
mod job_slot;
mod loading;
mod log_writer;
mod message;
mod next_segment;
mod reads;
mod remote;
mod saving;
mod serve;
mod settle;
mod slots;
mod snapshot;
mod stopping;
mod stopwatch;
mod succession;
mod ticks;
mod values;

pub use self::{
    action::{Action, Actions, End},
    buffers::Spare,
    clock::Clock,
    connection::ConnectionId,
    event::{Admission, Event},
    loading::CoreFiles,
    message::{Batch, Item, Message},
    reads::FILES_MAX,
};

use self::{
    connection::{Connection, State},
    connections::Connections,
    durability::Durability,
    remote::Remote,
    slots::Slots,
    stopping::Stopping,
    ticks::Ticks,
};
use crate::{
    client::{Client, Port},
    commands::Now,
    resp::Decoder,
    shard::Shard,
    statistics::Delay,
};

/// A core: its sessions, its shard, and what it does for its keys to survive.
pub struct Engine {
    shard: Shard,
    clock: Clock,
    now: Now,
    random: fastrand::Rng,
    /// The instructions to the driver, in order; it takes them at the end of each turn.
    pub actions: Actions,
    connections: Connections,
    remote: Remote,
    scratch: Scratch,
    /// Nothing without a data directory.
    durability: Option<Durability>,
    ticks: Ticks,
    slots: Slots,
    stopping: Stopping,
    next_client_id: u64,
}

/// Memory that is used again from request to request.
#[derive(Default)]
struct Scratch {
    decoder: Decoder,
    /// Empty buffers for replies.
    buffers: Spare,
}

/// The ways in which a core waits that has nothing to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rest {
    /// For a moment in the ring, where under load the next request comes; then as [`Sleep`](Self::Sleep).
    Nap,
    /// Until something comes or the next tick, and so that the end of a job is noticed.
    Sleep,
    /// Until something comes: nothing is due for a while. Ticks may be seldom.
    Idle,
}

impl Engine {
    /// Makes the engine of a core. `files`: those that it comes back from, without which it keeps nothing. `seed`: for its random
    /// numbers.
    pub fn new(mut shard: Shard, clock: Clock, now: Now, seed: u64, files: Option<CoreFiles>) -> Self {
        shard.clock = Some(Box::new(move || clock.monotonic_us()));
        let core = &shard.core;
        let (me, cores) = (usize::from(core.me.core), usize::from(core.cores()));
        let remote = Remote::new(me, cores, core.config.log_backlog_bytes, now.monotonic_us);
        // Unique in the server, in the order of connecting on each core.
        let next_client_id = 1 + u64::from(core.me.core);
        let mut engine = Self {
            shard,
            clock,
            now,
            random: fastrand::Rng::with_seed(seed),
            actions: Actions::new(),
            connections: Connections::new(cores),
            remote,
            scratch: Scratch::default(),
            durability: None,
            ticks: Ticks::default(),
            slots: Slots::default(),
            stopping: Stopping::Running,
            next_client_id,
        };
        match files {
            Some(files) => engine.open(files),
            None => engine.actions.push(Action::Loaded),
        }
        engine
    }

    /// The shard: its keys, and what is known besides.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Empty buffers for replies, to be stocked up by the driver with those that have been sent.
    #[inline]
    pub fn buffers(&mut self) -> &mut Spare {
        &mut self.scratch.buffers
    }

    /// Begins a turn: all that happens in it happens now. Notes how long the last one took if it was of use.
    #[inline]
    pub fn begin_turn(&mut self, now: Now) {
        let began_us = self.now.monotonic_us;
        self.now = now;
        if self.ticks.has_worked {
            self.ticks.worked_us = now.monotonic_us;
            let us = now.monotonic_us - began_us;
            self.shard.core.statistics.note_turn(us);
            self.shard.core.note_delay(Delay::Turn, us, now.unix_us);
        }
    }

    /// Takes what has happened.
    #[inline]
    pub fn handle(&mut self, event: Event<'_>) {
        if self.stopping.has_ended() {
            return;
        }
        match event {
            Event::Coming(bytes) => self.shard.foresee_arrival(bytes),
            Event::Received(id, bytes) => {
                self.shard.store.fetch_foreseen();
                self.receive(id, bytes);
            }
            Event::Sent(id) => {
                let Some(connection) = self.connections.get_mut(id) else { return };
                connection.is_sending = false;
                let session = &connection.session;
                if !session.output.is_empty() || session.has_unread() || session.closing || session.ended {
                    self.connections.touch(id);
                }
            }
            Event::Ended(id) => {
                let Some(connection) = self.connections.get_mut(id) else { return };
                connection.session.ended = true;
                self.connections.touch(id);
            }
            Event::Failed(id) => {
                let Some(connection) = self.connections.get_mut(id) else { return };
                connection.state = State::Failed;
                self.connections.touch(id);
            }
            Event::AcceptFailed(listener, error) => self.note_accept_failure(listener, &error),
            Event::Written(buffer, outcome) => self.log_written(buffer, outcome),
            Event::Read(token, buffer, outcome) => self.value_read(token, buffer, outcome),
            Event::JobDone(desk, outcome) => self.job_done(desk, outcome),
            Event::Message(from, message) => self.take_message(from, message),
            Event::Ready => self.begin_to_serve(),
            Event::Topology(topology) => self.take_topology(&topology),
            Event::Stop => self.stopping.ask(),
            Event::Drained => self.stopping.note_all_drained(),
            Event::Measured { resident_bytes, cpu } => {
                self.shard.core.process.resident_bytes = resident_bytes;
                self.shard.core.process.cpu = cpu;
            }
        }
    }

    fn take_message(&mut self, from: usize, message: Message) {
        match message {
            Message::Left => self.connections.by_core[from] -= 1,
            Message::Refusals(refusals) => self.shard.remote_refusals[from] = refusals,
            Message::Requests(batch) => self.take_batch(from, batch),
            Message::Replies(batch) => self.hand_out(from, batch),
        }
    }

    /// Decides about a connection that has come in by a port, or that another core has handed over: it is one of the gateway's
    /// then, and not this core's to hand over.
    pub fn accept(&mut self, port: Port, is_handed_over: bool) -> Admission {
        self.close_killed();
        if port == Port::Gateway && !is_handed_over {
            let core = self.connections.choose_core();
            if core != self.remote.me {
                return Admission::HandOver(core);
            }
        }
        let core = &mut self.shard.core;
        core.statistics.connections_received += 1;
        if core.config.maxclients as usize <= self.connections.len() {
            core.statistics.connections_rejected += 1;
            self.left(port);
            return Admission::Refuse;
        }
        Admission::Serve { keepalive: core.config.tcp_keepalive }
    }

    /// Begins to serve a connection, with the addresses of both ends.
    pub fn connected(&mut self, id: ConnectionId, port: Port, peer: &str, local: &str) {
        let config = &self.shard.core.config;
        let (waiting_max, authenticated) = (config.gateway_in_flight, config.requirepass.0.is_empty());
        let client = Client::new(self.next_client_id, peer, local, port, authenticated, self.now.monotonic_us);
        self.next_client_id += u64::from(self.shard.core.cores());
        self.shard.core.clients.put(id.place(), Box::new(client));
        self.connections.add(Connection::new(id, port, waiting_max));
    }

    /// Tells core 0 that one of the gateway's connections is no more.
    fn left(&mut self, port: Port) {
        match (port, self.remote.me) {
            (Port::Core, _) => {}
            (Port::Gateway, 0) => self.connections.by_core[0] -= 1,
            (Port::Gateway, _) => self.actions.push(Action::Post(0, Message::Left)),
        }
    }

    /// Ends a turn: what is due is done, what may leave leaves. `is_idle`: nothing has happened in it. Returns true if there is
    /// more to do at once.
    pub fn end_turn(&mut self, is_idle: bool) -> bool {
        if self.stopping.has_ended() {
            return false;
        }
        if self.ticks.next_us <= self.now.monotonic_us {
            self.tick();
        }
        self.settle();
        // Executing what had waited may have made replies that leave with the next turn.
        let has_more = self.write_log(is_idle) | !self.connections.touched.is_empty();
        self.tell_refusals();
        self.remote.flush(&mut self.actions);
        self.ticks.has_worked = !is_idle || has_more;
        self.end_if_over();
        has_more
    }

    /// Returns true until every core of the server has read its files: [`Event::Ready`] says that they have.
    #[inline]
    pub fn is_loading(&self) -> bool {
        self.shard.core.persistence.is_loading
    }

    /// Returns true once the core has been told to stop, or has ended.
    pub fn is_stopping(&self) -> bool {
        self.stopping != Stopping::Running
    }

    /// Decides how the core waits that had nothing to do in this turn. `is_idle`: the driver has nothing to do either that it would
    /// have to look after.
    pub fn rest(&mut self, is_idle: bool) -> Rest {
        if is_idle && self.is_idle() {
            // What wakes it has it look around first.
            self.ticks.next_us = 0;
            return Rest::Idle;
        }
        if self.is_saving() { Rest::Sleep } else { Rest::Nap }
    }

    /// Ends the core.
    fn end(&mut self, end: End) {
        self.stopping = Stopping::Ended;
        self.actions.push(Action::End(end));
    }

    /// Returns true if no request of a client that came in by this port may be executed for the time being.
    #[inline]
    fn is_stalled_for(&self, port: Port) -> bool {
        self.shard.is_stalled() || (port == Port::Gateway && self.remote.is_behind())
    }
}

#[cfg(test)]
mod tests;
