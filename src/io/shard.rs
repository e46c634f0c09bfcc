//! The main loop of a core: ring events in, session and shard, bytes out.

mod durable;
mod refusing;
mod serve;
mod stopwatch;
mod values;

use super::{
    clock::{self, Clock},
    directory::Directory,
    executor,
    mesh::{Batch, Mesh, Parcel},
    ring::{ConnectionId, Event, Ring, Spare},
    server::Control,
};
use crate::{
    client::{Client, Port},
    commands::Now,
    refusals::Refusals,
    resp::Decoder,
    session::{Backpressure, Session},
    shard::Shard,
    statistics::Delay,
    wal::Lsn,
};
use durable::Durable;
pub use refusing::REFUSED_MAX;
use refusing::Refusing;
use rustix::net::sockopt;
use serve::Gathering;
use std::{
    cell::Cell,
    collections::VecDeque,
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use values::Fetching;

/// How often a core that does not sleep looks after what glommio's blocking thread has done for its files.
const VISIT: Duration = Duration::from_millis(2);
/// ... and where it has none, after timers and signals alone: each visit is some eight system calls.
const VISIT_WITHOUT_FILES: Duration = TICK;
/// Time between two ticks of a core that sleeps: how late it notices that entries have expired.
const TICK: Duration = Duration::from_millis(10);
/// ... of a core that is idle: nothing has come to it for [`IDLE_AFTER_US`], and nothing that it has expires or is being written.
/// With its executor's heartbeat these are eight wake-ups a second, where there were 300. What wakes it has it look around first.
const IDLE_TICK: Duration = Duration::from_millis(250);
const IDLE_AFTER_US: u64 = 1_000_000;
/// Entries that a tick looks at for expired ones: some 50 µs, half a percent of the core.
const SWEEP_ENTRIES: usize = 500;
/// ... and where a quarter of them had expired, so that a mass expiry is over soon: some 10 % of the core.
const SWEEP_ENTRIES_BUSY: usize = 10_000;
/// How long a tick evicts where the limit of memory was lowered: a tenth of the core, some 50,000 entries a second.
const EVICT_US: u64 = 1_000;
/// Entries between two looks at the clock: some 100 µs.
const EVICTIONS_PER_LOOK: usize = 64;
/// Entries of a FLUSHALL that a tick gives back: some 0.5 ms.
const BURIED_ENTRIES: usize = 5_000;
/// How long a connection waits that has told its client, in the middle of a request, why it ends. Closed at once while more is
/// coming, it would be reset, and the client might never see the reason.
const LINGER_US: u64 = 2_000_000;
/// How long a core that stops waits for its log, once its clients have gone: a disk that takes longer has failed.
const WRITE_PATIENCE_US: u64 = 30_000_000;
/// The position of the gateway's listener; the core's own is 0.
const GATEWAY: usize = 1;

/// A core's sessions and what they work on. The ring is beside it, since it lends out the bytes that the state works on.
struct State {
    shard: Shard,
    mesh: Mesh,
    clock: Clock,
    now: Now,
    connections: Vec<Option<Box<Connection>>>,
    count: usize,
    /// Connections that have something to be sent, closed or resumed at the end of this turn.
    touched: Vec<ConnectionId>,
    /// Connections that were accepted in this turn, and the port that they came in by.
    accepted: Vec<(Port, TcpStream)>,
    /// Listeners that had no descriptor for a connection, to be tried again with the next tick.
    refused: Vec<usize>,
    decoder: Decoder,
    /// Empty buffers for replies.
    buffers: Spare,
    /// The client in whose name requests of other cores are executed.
    passed: Client,
    /// What the other cores were told that this one refuses.
    told_refusals: Refusals,
    next_client_id: u64,
    next_tick_us: u64,
    next_visit_us: u64,
    next_second_us: u64,
    /// When it was last told that connections can't be accepted.
    warned_us: u64,
    /// When an HTTP request is warned of again that came where the Redis protocol is spoken.
    warned_of_http_us: u64,
    sweep_entries: usize,
    /// Connections whose passwords wait, and until when: see [`crate::brake`].
    braked: Vec<(ConnectionId, u64)>,
    /// `output-hard-limit` as it was a second ago.
    output_limit: usize,
    /// Connections that wait for their peers to end, and since when: see [`LINGER_US`].
    lingering: Vec<(ConnectionId, u64)>,
    /// Clients over `maxclients`.
    refusing: Refusing,
    /// On core 0: how many of the gateway's connections each core has.
    gateway_connections: Vec<usize>,
    control: Arc<Control>,
    /// Requests of other cores, by core, that wait for values or for the disk, in their order.
    parked: Vec<VecDeque<Box<Batch>>>,
    /// What it does for its keys to survive; nothing without a data directory.
    durable: Option<Durable>,
    /// When the core began to stop.
    stopping_since: Option<u64>,
    /// Its last client has gone since.
    is_drained: bool,
    /// The last turn found something to do.
    has_worked: bool,
    /// When it last did.
    worked_us: u64,
}

struct Connection {
    id: ConnectionId,
    session: Session,
    /// Replies that several cores give, by ticket.
    gathers: Vec<Gathering>,
    backpressure: Backpressure,
    is_touched: bool,
    is_paused: bool,
    has_failed: bool,
    is_lingering: bool,
    port: Port,
    /// What its last reply waits for, as far as that was noted.
    held_until: Lsn,
    /// The values that its next request waits for.
    fetching: Fetching,
    /// When its next password is looked at, where it waits after wrong ones.
    password_at: Option<u64>,
}

/// Runs a core until it is told to stop.
///
/// # Errors
/// Where the ring breaks, the shard's files can't be read, or its log can't be written to its end.
pub async fn run(
    mut ring: Ring,
    shard: Shard,
    mesh: Mesh,
    clock: Clock,
    control: Arc<Control>,
    directory: Option<&Directory>,
) -> io::Result<()> {
    let bell = ring.bell();
    let pace = Rc::new(Cell::new(TICK));
    let ticks = Rc::clone(&pace);
    let ticker = glommio::spawn_local(async move {
        loop {
            glommio::timer::sleep(ticks.get()).await;
            bell.ring();
        }
    });
    let mut state = State::new(shard, mesh, clock, control);
    if let Some(directory) = directory {
        state.open(directory, ring.bell())?;
    } else {
        state.control.core_is_loaded();
    }
    while !state.is_over()? {
        // Everything that has arrived, executed; replies pile up in their sessions.
        state.begin_turn();
        ring.stock_up(&mut state.buffers);
        let completions = ring.turn(|event| state.handle(event))?;
        let parcels = state.take_parcels();
        if state.next_tick_us <= state.now.monotonic_us {
            state.tick(&mut ring);
        }
        // What all that has made is handed over, to be submitted with the next turn.
        state.settle(&mut ring);
        let is_idle = completions + parcels == 0;
        let has_more = state.write_log(&mut ring, is_idle) | state.load().map_err(io::Error::other)?;
        state.tell_refusals();
        state.mesh.flush();
        state.has_worked = !is_idle || has_more;
        if !state.has_worked {
            // Nothing to do: sleep, and let glommio's files and timers have the core.
            // A moment in the ring itself, where under load the next request comes.
            // While its blocking thread is busy, only glommio hears of it.
            let is_idle = state.is_idle();
            pace.set(if is_idle { IDLE_TICK } else { TICK });
            executor::set_idle(is_idle);
            if is_idle {
                state.next_tick_us = 0;
            }
            if is_idle || state.is_saving() || !ring.nap(|| state.mesh.has_arrivals())? {
                ring.wait(|| state.mesh.has_arrivals()).await?;
            }
        }
        if state.next_visit_us <= state.now.monotonic_us {
            // Busy or not, glommio's files and timers get their turn.
            ring.visit_reactor().await?;
            let until_next = if state.durable.is_some() { VISIT } else { VISIT_WITHOUT_FILES };
            state.next_visit_us = state.clock.monotonic_us() + until_next.as_micros() as u64;
        }
    }
    ticker.cancel().await;
    Ok(())
}

impl State {
    fn new(mut shard: Shard, mut mesh: Mesh, clock: Clock, control: Arc<Control>) -> Self {
        shard.clock = Some(Box::new(move || clock.monotonic_us()));
        mesh.unanswered_bytes_max = shard.core.config.log_backlog_bytes;
        let now = clock.now();
        let cores = usize::from(shard.core.cores());
        let told_refusals = Refusals::default();
        let passed = Client::new(0, "", "", Port::Gateway, true, now.monotonic_us);
        // Unique in the server, in the order of connecting on each core.
        let next_client_id = 1 + u64::from(shard.core.me.core);
        Self {
            shard,
            mesh,
            clock,
            now,
            connections: Vec::new(),
            count: 0,
            touched: Vec::new(),
            accepted: Vec::new(),
            refused: Vec::new(),
            decoder: Decoder::default(),
            buffers: Spare::default(),
            passed,
            told_refusals,
            next_client_id,
            next_tick_us: 0,
            next_visit_us: 0,
            next_second_us: 0,
            warned_us: 0,
            warned_of_http_us: 0,
            sweep_entries: SWEEP_ENTRIES,
            braked: Vec::new(),
            output_limit: 0,
            lingering: Vec::new(),
            refusing: Refusing::default(),
            gateway_connections: vec![0; cores],
            control,
            parked: (0..cores).map(|_| VecDeque::new()).collect(),
            durable: None,
            stopping_since: None,
            is_drained: false,
            has_worked: false,
            worked_us: 0,
        }
    }

    #[inline]
    fn handle(&mut self, event: Event<'_>) {
        match event {
            Event::Coming(bytes) => self.shard.foresee_arrival(bytes),
            Event::Received(id, bytes) => {
                self.shard.store.fetch_foreseen();
                self.receive(id, bytes);
            }
            Event::Sent(id) => {
                let Some(connection) = self.connections[id.place()].as_ref() else { return };
                let session = &connection.session;
                if !session.output.is_empty() || session.has_unread() || session.closing || session.ended {
                    self.touch(id);
                }
            }
            Event::Accepted(GATEWAY, socket) => self.accepted.push((Port::Gateway, socket)),
            Event::Accepted(_, socket) => self.accepted.push((Port::Core, socket)),
            Event::AcceptFailed(listener, error) => {
                // Tried again with every tick, told once a second.
                if self.warned_us + 1_000_000 <= self.now.monotonic_us {
                    self.warned_us = self.now.monotonic_us;
                    tracing::warn!(%error, "connections can't be accepted: raise the limit of open files (ulimit -n)");
                }
                self.refused.push(listener);
            }
            Event::Written(buffer, outcome) => self.log_written(buffer, outcome),
            Event::Read(token, buffer, outcome) => self.value_read(token, buffer, outcome),
            Event::Ended(id) => {
                let Some(connection) = self.connections[id.place()].as_mut() else { return };
                connection.session.ended = true;
                self.touch(id);
            }
            Event::Failed(id, _) => {
                let Some(connection) = self.connections[id.place()].as_mut() else { return };
                connection.has_failed = true;
                self.touch(id);
            }
        }
    }

    #[inline]
    fn touch(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections[id.place()].as_mut()
            && !connection.is_touched
        {
            connection.is_touched = true;
            self.touched.push(id);
        }
    }

    /// Whether no request of a client that came in by this port may be executed for the time being.
    #[inline]
    fn is_stalled_for(&self, port: Port) -> bool {
        self.is_stalled() || (port == Port::Gateway && self.mesh.is_behind())
    }

    /// Has every connection looked at that had to wait and may not have to any more.
    fn touch_waiting(&mut self) {
        let connections = self.connections.iter().flatten();
        let waiting: Vec<_> = connections.filter(|c| c.is_paused || c.session.has_waited).map(|c| c.id).collect();
        waiting.into_iter().for_each(|id| self.touch(id));
    }

    fn adopt(&mut self, ring: &mut Ring, port: Port, socket: TcpStream) {
        let config = &self.shard.core.config;
        self.shard.core.statistics.connections_received += 1;
        if config.maxclients as usize <= self.count {
            self.shard.core.statistics.connections_rejected += 1;
            self.refusing.add(port, socket, self.now);
            self.left(port);
            return;
        }
        let waiting_max = config.gateway_in_flight;
        let authenticated = config.requirepass.0.is_empty();
        let address = |address: io::Result<SocketAddr>| address.map_or_else(|_| "?:0".into(), |a| a.to_string());
        let (peer, local) = (address(socket.peer_addr()), address(socket.local_addr()));
        if !config.tcp_keepalive.is_zero() {
            let _ = sockopt::set_socket_keepalive(&socket, true);
            let _ = sockopt::set_tcp_keepidle(&socket, config.tcp_keepalive);
        }
        let id = ring.adopt(socket);
        let client = Client::new(self.next_client_id, &peer, &local, port, authenticated, self.now.monotonic_us);
        self.next_client_id += u64::from(self.shard.core.cores());
        self.shard.core.clients.put(id.place(), Box::new(client));
        if self.connections.len() <= id.place() {
            self.connections.resize_with(id.place() + 1, || None);
        }
        self.connections[id.place()] = Some(Box::new(Connection::new(id, port, waiting_max)));
        self.count += 1;
    }

    /// Hands a connection of the gateway's to the core with the fewest.
    fn place(&mut self, ring: &mut Ring, socket: TcpStream) {
        let fewest = (0..self.gateway_connections.len()).min_by_key(|&core| self.gateway_connections[core]);
        let core = fewest.expect("a server has a core");
        self.gateway_connections[core] += 1;
        if core == self.me() {
            self.adopt(ring, Port::Gateway, socket)
        } else {
            self.mesh.post(core, Parcel::Connection(socket))
        }
    }

    /// Tells core 0 that one of the gateway's connections is no more.
    fn left(&mut self, port: Port) {
        match (port, self.me()) {
            (Port::Core, _) => {}
            (Port::Gateway, 0) => self.gateway_connections[0] -= 1,
            (Port::Gateway, _) => self.mesh.post(0, Parcel::Left),
        }
    }

    fn me(&self) -> usize {
        self.shard.core.me.core.into()
    }

    /// Hands over what this turn has made: replies to the ring, connections to their places or their end.
    fn settle(&mut self, ring: &mut Ring) {
        self.close_killed(ring);
        for (port, socket) in std::mem::take(&mut self.accepted) {
            match port {
                Port::Gateway if self.me() == 0 => self.place(ring, socket),
                _ => self.adopt(ring, port, socket),
            }
        }
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            self.settle_one(ring, id);
        }
        // Executing what had waited may have touched others.
        touched.append(&mut self.touched);
        self.touched = touched;
    }

    #[inline]
    fn settle_one(&mut self, ring: &mut Ring, id: ConnectionId) {
        let Some(connection) = self.connections[id.place()].as_mut() else { return };
        if connection.id != id {
            return;
        }
        connection.is_touched = false;
        if connection.has_failed || self.shard.core.config.output_hard_limit < connection.session.owed_bytes() {
            // With a reset, so that who is still sending learns of it at once. Where it fails the peer has gone.
            let _ = ring.socket(id).map(|socket| sockopt::set_socket_linger(socket, Some(Duration::ZERO)));
            self.drop_connection(ring, id);
            return;
        }
        if !ring.is_sending(id)
            && let Some(output) = connection.session.take_output(self.shard.committed())
        {
            self.shard.core.statistics.output_bytes += output.len() as u64;
            ring.send(id, output);
        }
        let port = connection.port;
        if let Some(lsn) = connection.session.held_until().filter(|&lsn| lsn != connection.held_until) {
            connection.held_until = lsn;
            self.hold(id, lsn);
        }
        let is_stalled = self.is_stalled_for(port);
        let Some(connection) = self.connections[id.place()].as_mut() else { return };
        let is_blocked = is_stalled || connection.session.is_blocked(&connection.backpressure);
        // Values are fetched in a moment: to stop receiving until then would cost more than what comes meanwhile.
        let is_paused = is_stalled || connection.session.has_enough(&connection.backpressure);
        if is_paused != connection.is_paused {
            connection.is_paused = is_paused;
            if is_paused { ring.pause(id) } else { ring.resume(id) }
        }
        if !is_blocked && connection.session.has_unread() && connection.session.has_waited {
            // It was blocked and is not any more: what it sent meanwhile gets its turn, and the next.
            connection.session.has_waited = false;
            self.receive(id, &[]);
            return;
        }
        if connection.session.ended && !is_blocked {
            // What is left is the beginning of a request whose end will never come.
            connection.session.closing = true;
        }
        if connection.session.is_finished() && !ring.is_sending(id) {
            let lingers = connection.session.lingers() && self.stopping_since.is_none();
            if lingers { self.linger(ring, id) } else { self.drop_connection(ring, id) }
        }
    }

    /// Tells a peer that nothing more will come, and waits a while for it to say the same. What it sends meanwhile is lost.
    #[cold]
    fn linger(&mut self, ring: &mut Ring, id: ConnectionId) {
        let Some(connection) = self.connections[id.place()].as_mut().filter(|connection| !connection.is_lingering)
        else {
            return;
        };
        connection.is_lingering = true;
        self.lingering.push((id, self.now.monotonic_us));
        // Where it fails the peer has gone.
        let _ = ring.socket(id).map(|socket| socket.shutdown(Shutdown::Write));
    }

    /// Closes connections that have waited for long enough.
    fn close_lingering(&mut self, ring: &mut Ring) {
        let (now, is_stopping) = (self.now.monotonic_us, self.stopping_since.is_some());
        let is_over = |(_, since): &mut (ConnectionId, u64)| is_stopping || *since + LINGER_US <= now;
        for (id, _) in self.lingering.extract_if(.., is_over).collect::<Vec<_>>() {
            if self.connections[id.place()].as_ref().is_some_and(|connection| connection.id == id) {
                self.drop_connection(ring, id);
            }
        }
    }

    fn drop_connection(&mut self, ring: &mut Ring, id: ConnectionId) {
        ring.close(id);
        self.shard.core.clients.take(id.place());
        let connection = self.connections[id.place()].take();
        self.count -= 1;
        if let Some(connection) = connection {
            self.release_values(connection.fetching);
            self.left(connection.port);
        }
    }

    /// What is due now and then: expired entries, sampled figures, idle clients, the end.
    fn tick(&mut self, ring: &mut Ring) {
        let (now, tick_us) = (self.now, TICK.as_micros() as u64);
        self.next_tick_us = now.monotonic_us + tick_us;
        let removed = self.shard.store.sweep(self.sweep_entries, now.unix_millis());
        self.sweep_entries = if self.sweep_entries / 4 < removed { SWEEP_ENTRIES_BUSY } else { SWEEP_ENTRIES };
        self.shard.store.bury(BURIED_ENTRIES);
        self.evict();
        for listener in std::mem::take(&mut self.refused) {
            if self.stopping_since.is_none() {
                ring.accept_again(listener);
            }
        }
        if self.next_second_us <= now.monotonic_us {
            self.next_second_us = now.monotonic_us + 1_000_000;
            self.shard.core.process.resident_bytes = clock::resident_bytes();
            self.shard.core.process.cpu = clock::cpu_times();
            self.shard.core.statistics.hot_keys.fade(now.monotonic_us);
            self.close_idle(ring);
            self.close_owed();
        }
        self.close_lingering(ring);
        self.refusing.tend(now);
        self.resume_braked();
        let statistics = &mut self.shard.core.statistics;
        statistics.rate.note(statistics.requests, now.monotonic_us);
        statistics.input_rate.note(statistics.input_bytes, now.monotonic_us);
        statistics.output_rate.note(statistics.output_bytes, now.monotonic_us);
        statistics.sampler.tick();
        if self.control.stopping.load(Ordering::Relaxed) {
            self.stop(ring);
        }
    }

    /// Goes on to evict what is above the limit of memory, whoever writes. Not while the log could not take it.
    fn evict(&mut self) {
        let until = self.clock.monotonic_us() + EVICT_US;
        let persistence = &self.shard.core.persistence;
        let may_evict = !persistence.is_loading && persistence.refusal.is_none();
        self.shard.store.evicts_until = persistence.admission.map_or(Lsn(u64::MAX), |admission| admission.end());
        while may_evict && self.shard.store.wants_eviction() && !self.is_stalled() && self.clock.monotonic_us() < until
        {
            self.shard.store.evict_some(EVICTIONS_PER_LOOK, self.now.unix_millis());
        }
    }

    /// Closes clients that are owed more than may be since the limit was lowered: of those who don't read nothing else tells.
    fn close_owed(&mut self) {
        let limit = self.shard.core.config.output_hard_limit;
        if std::mem::replace(&mut self.output_limit, limit) <= limit {
            return;
        }
        let connections = self.connections.iter().flatten();
        let owed: Vec<_> = connections.filter(|c| limit < c.session.owed_bytes()).map(|c| c.id).collect();
        owed.into_iter().for_each(|id| self.touch(id));
    }

    /// Cuts off clients that others have killed, whatever they are owed: they may be killed because they don't read it.
    fn close_killed(&mut self, ring: &mut Ring) {
        for place in std::mem::take(&mut self.shard.core.clients.closed) {
            if self.shard.core.clients.is_closing(place)
                && let Some(connection) = self.connections[place].as_ref()
            {
                let id = connection.id;
                self.drop_connection(ring, id);
            }
        }
    }

    /// Closes clients that have been silent for as long as `timeout` says.
    fn close_idle(&mut self, ring: &mut Ring) {
        let timeout_us = self.shard.core.config.timeout.as_micros() as u64;
        if timeout_us == 0 {
            return;
        }
        let now_us = self.now.monotonic_us;
        let is_idle = |client: &Client| timeout_us <= now_us.saturating_sub(client.active_us);
        let clients = self.shard.core.clients.iter();
        let idle: Vec<_> = clients.filter(|(_, client)| is_idle(client)).map(|(place, _)| place).collect();
        for place in idle {
            let Some(connection) = self.connections[place].as_ref() else { continue };
            // A client whose password waits is not silent: this server is.
            if connection.password_at.is_none() {
                let id = connection.id;
                self.drop_connection(ring, id);
            }
        }
    }

    /// Accepts no more, executes no more than what was read, and closes whoever has got what they are owed; all, once time is up.
    fn stop(&mut self, ring: &mut Ring) {
        if self.stopping_since.is_none() {
            self.stopping_since = Some(self.now.monotonic_us);
            ring.stop_listening();
        }
        for place in 0..self.connections.len() {
            let is_out_of_patience = self.is_out_of_patience();
            let Some(connection) = self.connections[place].as_mut() else { continue };
            let id = connection.id;
            if is_out_of_patience {
                self.drop_connection(ring, id);
                continue;
            }
            let has_waited = connection.session.has_waited && connection.session.has_unread();
            let waits =
                has_waited || self.shard.is_stalled() || connection.session.is_blocked(&connection.backpressure);
            // A password that waits would hold up the end.
            if waits && connection.password_at.is_none() {
                continue;
            }
            connection.session.closing = true;
            self.settle_one(ring, id);
        }
        if self.count == 0 && !self.is_drained {
            self.is_drained = true;
            self.control.core_is_drained(self.gateway_connections.len());
        }
    }

    /// Returns whether the core has nothing left to do: it was told to stop, every core has let its last client go or time is
    /// up, and its log is on disk and sealed.
    ///
    /// # Errors
    /// The disk does not take the log: what it lacks was lost.
    fn is_over(&self) -> io::Result<bool> {
        let Some(since) = self.stopping_since else { return Ok(false) };
        let all = self.gateway_connections.len();
        let is_drained = self.control.drained.load(Ordering::SeqCst) == all;
        if !is_drained && !self.is_out_of_patience() {
            return Ok(false);
        }
        if self.is_written() {
            return Ok(true);
        }
        let until = since + self.patience_us() + WRITE_PATIENCE_US;
        if self.now.monotonic_us < until && !self.is_stuck() {
            return Ok(false);
        }
        Err(io::Error::other("the log could not be written to its end: what was not on disk yet is lost"))
    }

    /// How long clients have to take what they are owed. Somewhat less than was promised: ending takes a moment too.
    fn patience_us(&self) -> u64 {
        (self.shard.core.config.shutdown_timeout.as_micros() as u64).saturating_sub(500_000)
    }

    fn is_out_of_patience(&self) -> bool {
        self.stopping_since.is_some_and(|since| since + self.patience_us() <= self.now.monotonic_us)
    }

    /// Returns true if nothing has come for a while and nothing is due at a moment of its own.
    fn is_idle(&self) -> bool {
        let store = &self.shard.store;
        self.worked_us + IDLE_AFTER_US <= self.now.monotonic_us
            && store.expiring() == 0
            && !store.has_buried()
            && !store.wants_eviction()
            && !store.has_values_on_disk()
            && !self.shard.core.persistence.is_loading
            && self.stopping_since.is_none()
            && self.refused.is_empty()
            && self.touched.is_empty()
            && !self.mesh.has_backlog()
            && self.lingering.is_empty()
            && self.braked.is_empty()
            && self.parked.iter().all(VecDeque::is_empty)
            && self.refusing.is_empty()
            && self.is_written()
            && !self.is_saving()
    }

    /// Looks at the clock, for all that happens in this turn, and notes how long the last one took if it was of use.
    fn begin_turn(&mut self) {
        let began_us = self.now.monotonic_us;
        self.now = self.clock.now();
        if self.has_worked {
            self.worked_us = self.now.monotonic_us;
            let us = self.now.monotonic_us - began_us;
            self.shard.core.statistics.note_turn(us);
            self.shard.core.note_delay(Delay::Turn, us, self.now.unix_us);
        }
    }
}

impl Connection {
    fn new(id: ConnectionId, port: Port, waiting_max: usize) -> Self {
        Self {
            id,
            session: match port {
                Port::Gateway => Session::undecided(),
                Port::Core => Session::default(),
            },
            gathers: Vec::new(),
            backpressure: Backpressure { output_bytes_max: usize::MAX, waiting_max },
            is_touched: false,
            is_paused: false,
            has_failed: false,
            is_lingering: false,
            port,
            held_until: Lsn(0),
            fetching: Fetching::default(),
            password_at: None,
        }
    }
}
