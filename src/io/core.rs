//! The loop of a core: what happens goes to its [`Engine`], and what that wants done is done.

mod disk;
mod refusing;

pub use refusing::REFUSED_MAX;

use super::{
    clock,
    control::Control,
    directory::Directory,
    executor, logging,
    mesh::{Mesh, Parcel},
    recover::RecoverError,
    ring::{self, Ring},
};
use crate::{
    client::Port,
    engine::{Action, Admission, ConnectionId, End, Engine, Event, Rest},
    shard::Shard,
    topology::Epoch,
};
use disk::Disk;
use refusing::Refusing;
use rustix::net::sockopt;
use std::{
    cell::Cell,
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// The time after which a core that does not sleep looks after what glommio's blocking thread has done for its files.
const VISIT: Duration = Duration::from_millis(2);
/// The same for a core without files, which looks after timers and signals alone: each visit is some eight system calls.
const VISIT_WITHOUT_FILES: Duration = TICK;
/// The time after which a core that sleeps is woken, so that what is due now and then is done.
const TICK: Duration = Duration::from_millis(10);
/// The same for one that is idle. With its executor's heartbeat these are eight wake-ups a second.
const IDLE_TICK: Duration = Duration::from_millis(250);
/// Parcels of a turn at most, so that connections get theirs.
const PARCELS_PER_TURN: usize = 64;
/// The position of the gateway's listener; the core's own is 0.
const GATEWAY: usize = 1;

/// Runs a core until it ends.
///
/// # Errors
/// Where the ring breaks, the shard's files can't be read, or its log can't be written to its end.
pub async fn run(
    ring: Ring,
    shard: Shard,
    mesh: Mesh,
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
    let mut driver = Driver::new(ring, shard, mesh, control, directory)?;
    let until_next = if directory.is_some() { VISIT } else { VISIT_WITHOUT_FILES }.as_micros() as u64;
    let mut next_visit_us = 0;
    loop {
        // Everything that has arrived is executed; replies pile up in their sessions.
        let now = clock::now();
        driver.engine.begin_turn(now);
        let is_idle = driver.take_events()? == 0;
        driver.refusing.tend(now);
        // What all that has made is handed over, to be submitted with the next turn.
        let has_more = driver.engine.end_turn(is_idle);
        if let Some(end) = driver.perform() {
            ticker.cancel().await;
            return driver.end(end);
        }
        if is_idle && !has_more && !driver.disk.as_ref().is_some_and(Disk::has_events) {
            // Nothing to do: sleep, and let glommio's files and timers have the core. While its blocking thread is busy, only
            // glommio hears of it.
            let rest = driver.engine.rest(driver.refusing.is_empty() && !driver.mesh.has_backlog());
            pace.set(if rest == Rest::Idle { IDLE_TICK } else { TICK });
            executor::set_idle(rest == Rest::Idle);
            let (ring, mesh) = (&mut driver.ring, &driver.mesh);
            if rest != Rest::Nap || !ring.nap(|| mesh.has_arrivals())? {
                ring.wait(|| mesh.has_arrivals()).await?;
            }
        }
        if next_visit_us <= now.monotonic_us {
            // Busy or not, glommio's files and timers get their turn.
            driver.ring.visit_reactor().await?;
            next_visit_us = clock::monotonic_us() + until_next;
        }
    }
}

/// A core's engine, and what moves its bytes.
struct Driver {
    ring: Ring,
    engine: Engine,
    mesh: Mesh,
    control: Arc<Control>,
    /// The epoch of the topology that the engine was told of last.
    epoch: Epoch,
    /// Nothing without a data directory.
    disk: Option<Disk>,
    /// Connections that have come in during this turn: by which port, and whether another core has handed them over.
    arrived: Vec<(Port, bool, TcpStream)>,
    /// Clients over `maxclients`.
    refusing: Refusing,
    cores: usize,
}

impl Driver {
    fn new(
        ring: Ring,
        shard: Shard,
        mesh: Mesh,
        control: Arc<Control>,
        directory: Option<&Directory>,
    ) -> io::Result<Self> {
        let (core, cores) = (shard.core.me.core, usize::from(shard.core.cores()));
        let epoch = shard.core.topology.epoch;
        let disk =
            directory.map(|directory| Disk::open(directory, core, &shard.core.config, ring.bell())).transpose()?;
        let (disk, files) = disk.unzip();
        let engine = Engine::new(shard, clock::CLOCK, clock::now(), fastrand::u64(..), files);
        let (arrived, refusing) = (Vec::new(), Refusing::default());
        Ok(Self { ring, engine, mesh, control, epoch, disk, arrived, refusing, cores })
    }

    /// Gives the engine everything that has happened. Returns how many things did.
    fn take_events(&mut self) -> io::Result<usize> {
        let Self { ring, engine, mesh, control, epoch, disk, arrived, cores, .. } = self;
        let mut jobs = 0;
        if let Some(disk) = disk {
            jobs = disk.take_events(|event| engine.handle(event));
            engine.load(|position, file, offset, buffer| disk.read_at_start(position, file, offset, buffer));
        }
        if control.stopping.load(Ordering::Relaxed) {
            engine.handle(if control.are_drained(*cores) { Event::Drained } else { Event::Stop });
        }
        while let Some(topology) = control.topology.newer_than(*epoch) {
            *epoch = topology.epoch;
            engine.handle(Event::Topology(topology));
        }
        ring.stock_up(engine.buffers());
        let completions = ring.turn(|event| {
            note_ready(engine, control, *cores);
            let event = match event {
                ring::Event::Coming(bytes) => Event::Coming(bytes),
                ring::Event::Connected(_) => unreachable!("this core connects to nobody"),
                ring::Event::Received(id, bytes) => Event::Received(id, bytes),
                ring::Event::Sent(id) => Event::Sent(id),
                ring::Event::Ended(id) => Event::Ended(id),
                ring::Event::Failed(id, _) => Event::Failed(id),
                ring::Event::Accepted(listener, socket) => {
                    let port = if listener == GATEWAY { Port::Gateway } else { Port::Core };
                    return arrived.push((port, false, socket));
                }
                ring::Event::AcceptFailed(listener, error) => Event::AcceptFailed(listener, error),
                ring::Event::Read(token, buffer, outcome) => Event::Read(token, buffer, outcome),
                // Once a log of this server could not be written, what its disks say is not believed any more.
                ring::Event::Written(..) if control.failed.load(Ordering::SeqCst) => return,
                ring::Event::Written(buffer, outcome) => {
                    control.failed.fetch_or(outcome.is_err(), Ordering::SeqCst);
                    Event::Written(buffer, outcome)
                }
            };
            engine.handle(event);
        })?;
        let mut parcels = 0;
        while parcels < PARCELS_PER_TURN
            && let Some((from, parcel)) = mesh.receive()
        {
            parcels += 1;
            note_ready(engine, control, *cores);
            match parcel {
                Parcel::Connection(socket) => arrived.push((Port::Gateway, true, socket)),
                Parcel::Message(message) => engine.handle(Event::Message(from, message)),
            }
        }
        for (port, is_handed_over, socket) in std::mem::take(arrived) {
            self.accept(port, is_handed_over, socket);
        }
        Ok(jobs + completions + parcels)
    }

    fn accept(&mut self, port: Port, is_handed_over: bool, socket: TcpStream) {
        match self.engine.accept(port, is_handed_over) {
            Admission::Refuse => self.refusing.add(port, socket, clock::now()),
            Admission::HandOver(core) => self.mesh.post(core, Parcel::Connection(socket)),
            Admission::Serve { keepalive } => {
                let address =
                    |address: io::Result<SocketAddr>| address.map_or_else(|_| "?:0".into(), |a| a.to_string());
                let (peer, local) = (address(socket.peer_addr()), address(socket.local_addr()));
                if !keepalive.is_zero() {
                    let _ = sockopt::set_socket_keepalive(&socket, true);
                    let _ = sockopt::set_tcp_keepidle(&socket, keepalive);
                }
                self.engine.connected(self.ring.adopt(socket), port, &peer, &local);
            }
        }
    }

    /// Does what the engine wants done. Returns its end, if it has come to it.
    fn perform(&mut self) -> Option<End> {
        let mut actions = std::mem::take(&mut self.engine.actions);
        for action in actions.drain(..) {
            match action {
                Action::Send(id, bytes) => self.ring.send(id, bytes),
                Action::Pause(id) => self.ring.pause(id),
                Action::Resume(id) => self.ring.resume(id),
                Action::ShutDownWrites(id) => self.on_socket(id, |socket| drop(socket.shutdown(Shutdown::Write))),
                Action::Close(id) => self.ring.close(id),
                Action::Reset(id) => {
                    let reset = Some(Duration::ZERO);
                    self.on_socket(id, |socket| {
                        let _ = sockopt::set_socket_linger(socket, reset);
                    });
                    self.ring.close(id);
                }
                Action::AcceptAgain(listener) => self.ring.accept_again(listener),
                Action::StopListening => self.ring.stop_listening(),
                Action::Post(core, message) => self.mesh.post(core, Parcel::Message(message)),
                Action::MeasureProcess => {
                    let (resident_bytes, cpu) = (clock::resident_bytes(), clock::cpu_times());
                    self.engine.handle(Event::Measured { resident_bytes, cpu });
                }
                Action::Loaded => self.control.core_is_loaded(),
                Action::StopServer => self.control.stop(),
                Action::Drained => self.control.core_is_drained(self.cores),
                Action::End(end) => return Some(end),
                action => self.disk.as_mut().expect("files belong to a directory").perform(&mut self.ring, action),
            }
        }
        assert!(self.engine.actions.is_empty(), "nothing that answers an action asks for another");
        self.engine.actions = actions;
        self.mesh.flush();
        None
    }

    /// Does something with a connection's socket. Where that fails the peer has gone.
    fn on_socket(&self, id: ConnectionId, act: impl FnOnce(&TcpStream)) {
        if let Some(socket) = self.ring.socket(id) {
            act(socket);
        }
    }

    /// Ends the core, or the process.
    fn end(&mut self, end: End) -> io::Result<()> {
        match (end, &self.disk) {
            (End::Finished, _) => Ok(()),
            (End::LogFailed(_), _) => {
                logging::flush();
                std::process::exit(1);
            }
            (End::Unusable(error), Some(disk)) => Err(io::Error::other(disk.unusable(&error))),
            (End::Unreadable(file, error), _) => Err(io::Error::other(format!("{}: {error}", file.name))),
            (End::Damaged(damage), _) => Err(io::Error::other(RecoverError::Damage(damage).to_string())),
            (End::Unwritten, _) => {
                Err(io::Error::other("the log could not be written to its end: what was not on disk yet is lost"))
            }
            (End::Unusable(_), None) => unreachable!("files belong to a directory"),
        }
    }
}

/// Tells the engine that every core of the server has read its files, before a request is executed: who has heard from another
/// core that the server is ready finds it so on this one.
#[inline]
fn note_ready(engine: &mut Engine, control: &Control, cores: usize) {
    if engine.is_loading() && control.is_ready(cores) {
        engine.handle(Event::Ready);
    }
}
