//! One seed: servers with their disks, clients, the network between them, and what happens to all of it.

use super::{
    calendar::Calendar,
    client::{self, Client},
    clock,
    core::Arrival,
    plan::{Kind, Plan},
    server::{Server, State},
    tally::Tally,
    trace::trace,
};
use crate::{
    engine::Message,
    wal::{Desk, files::disk::Fault},
};

/// Events within which a seed is over.
const PATIENCE: usize = 2_000_000;
/// The time within which everyone is answered once nobody asks any more.
const ANSWER_US: u64 = 120_000_000;

/// Everything that is there whether servers run or not.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) servers: Vec<Server>,
    pub(super) clients: Vec<Client>,
    pub(super) calendar: Calendar<(Origin, Event)>,
    pub(super) random: fastrand::Rng,
    pub(super) tally: Tally,
}

/// The server that an event is about, and the life that it belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) server: usize,
    pub(super) life: usize,
}

/// An event to come.
pub(super) enum Event {
    /// A server's process begins.
    Start,
    /// A server's process ends by a signal, or all of it by the power.
    Crash,
    /// Nobody asks any more; and then: is everyone answered?
    Quiet(u64),
    /// A disk changes its mind about whether it works.
    Fault,
    /// A core has a turn.
    Turn(usize),
    /// A frame of a core is on disk.
    Frame(usize),
    /// A core's next job is done, and its outcome is told.
    Job(usize),
    /// Something arrives at a core.
    Arrive(usize, Arrival),
    /// A client thinks of something.
    Ask(usize),
    /// Bytes of a client arrive.
    Readable(usize, u32),
}

/// Runs a seed.
pub(super) fn run(kind: Kind, seed: u64) -> Tally {
    let mut random = fastrand::Rng::with_seed(seed);
    let plan = Plan::new(kind, seed, &mut random);
    clock::reset(plan.look_us);
    crate::witness::begin();
    trace!("the plan of seed {seed}: {}", plan.summary());
    let count = plan.topology.servers().len();
    let servers: Vec<_> = (0..count).map(|server| Server::new(server as u16, &plan, &mut random)).collect();
    let clients = (0..count * plan.clients).map(|number| Client::new(number % count)).collect();
    let mut world = World { plan, servers, clients, calendar: Calendar::new(), random, tally: Tally::default() };
    for server in 0..count {
        world.after(server, 1, Event::Start);
    }
    for client in 0..world.clients.len() {
        let server = world.clients[client].target.server;
        world.after(server, 1, Event::Ask(client));
    }
    world.go_on();
    world.count();
    world.tally
}

impl World {
    fn go_on(&mut self) {
        for _ in 0..PATIENCE {
            if self.servers.iter().all(|server| server.state == State::Over) {
                return;
            }
            let (at_us, (origin, event)) = self.calendar.take().expect("something is to happen until all is over");
            clock::move_to(at_us);
            self.happen(origin, event);
        }
        panic!("all servers come to their end");
    }

    /// Has something happen to a server's life, so much later.
    pub(super) fn after(&mut self, server: usize, us: u64, event: Event) {
        let origin = Origin { server, life: self.servers[server].life };
        self.calendar.put(clock::now_us() + us, (origin, event));
    }

    /// A time up to this, and sometimes far more.
    pub(super) fn delay(&mut self, max_us: u64) -> u64 {
        let max_us = if self.random.u8(..) == 0 { 20 * max_us } else { max_us };
        1 + self.random.u64(..max_us)
    }

    fn happen(&mut self, origin: Origin, event: Event) {
        let Origin { server, life } = origin;
        if let Event::Ask(client) = event {
            return self.ask(client);
        }
        if life != self.servers[server].life {
            return;
        }
        match event {
            Event::Start => self.start(server),
            Event::Crash => self.crash(server, "at some time"),
            Event::Quiet(since_us) => self.quiet(server, since_us),
            Event::Fault => self.change_fault(server),
            Event::Turn(core) => self.turn(server, core),
            Event::Frame(core) => self.frame_done(server, core),
            Event::Job(core) => self.do_job(server, core),
            Event::Arrive(core, arrival) => self.arrive(server, core, arrival),
            Event::Readable(client, connection) => self.readable(client, connection),
            Event::Ask(_) => {}
        }
    }

    fn start(&mut self, server: usize) {
        let is_stopped = self.servers[server].state == State::Stopped;
        let one = &mut self.servers[server];
        one.life += 1;
        one.lives += 1;
        (one.loaded, one.drained, one.has_failed, one.doom) = (0, 0, false, None);
        let (life, lives, cores) = (one.lives, self.plan.lives, one.cores.len());
        trace!("server {server}: life {life} of {lives}");
        self.tally.note("starts");
        let (ends_by_operations, core) = (self.random.bool(), self.random.usize(..cores));
        if life < lives {
            let us = self.random.u64(1..self.plan.life_us);
            self.after(server, us, Event::Crash);
            if ends_by_operations {
                let operations = [5, 30, 200][self.random.usize(..3)];
                let operations = self.random.u32(..operations);
                self.servers[server].cores[core].files.end_after(Some(operations));
            }
            let desks = [Desk::Release, Desk::Snapshot, Desk::Segment, Desk::Opening, Desk::Compaction, Desk::Hints];
            let doom = (desks[self.random.usize(..desks.len())], self.random.u32(..4));
            self.servers[server].doom = Some(doom).filter(|_| self.random.bool());
            self.after(server, us / 3, Event::Fault);
        } else if !is_stopped {
            let us = self.random.u64(1..self.plan.life_us);
            self.after(server, us, Event::Quiet(0));
        }
        if !is_stopped {
            self.servers[server].state = State::Up;
        }
        for client in 0..self.clients.len() {
            if self.clients[client].target.server == server && std::mem::take(&mut self.clients[client].is_parked) {
                self.after(server, 1, Event::Ask(client));
            }
        }
        self.servers[server].began_us = clock::now_us();
        for core in 0..cores {
            if self.plan.is_small() && !is_stopped && self.random.bool() {
                self.servers[server].cores[core].files.fill(true);
            }
            let Self { servers, plan, random, .. } = self;
            let started = servers[server].cores[core].start(plan, random);
            if let Err(error) = started {
                let may_fail = servers[server].cores[core].files.has_ended() || plan.has_faults;
                assert!(may_fail, "a start is refused: {error}");
                return self.crash(server, "at its start");
            }
            self.wake(server, core, 1);
        }
    }

    /// The process ends.
    pub(super) fn crash(&mut self, server: usize, when: &str) {
        let is_power = self.random.u8(..3) != 0;
        trace!("server {server}: {} {when}", if is_power { "the power fails" } else { "the process is killed" });
        self.tally.note(if is_power { "power failures" } else { "processes killed" });
        for core in &mut self.servers[server].cores {
            core.life = None;
            if is_power { core.files.lose_power() } else { core.files.end_process() }
        }
        self.end_life(server);
        // Most servers are back in a moment, and some much later than most keys live.
        let away_us = [100_000, 3_000_000, 30_000_000][self.random.usize(..3)];
        let away_us = self.random.u64(1..away_us);
        self.after(server, away_us, Event::Start);
    }

    fn end_life(&mut self, server: usize) {
        let one = &mut self.servers[server];
        self.tally.add("virtual milliseconds of servers", (clock::now_us() - one.began_us) / 1000);
        one.life += 1;
        one.state = State::Down;
        for core in &mut one.cores {
            core.files.end_after(None);
            core.files.fail(Fault::None);
            core.files.fill(false);
        }
        for client in self.clients.iter_mut().filter(|client| client.target.server == server) {
            client.disconnect();
        }
    }

    /// Nobody asks any more: once everyone is answered, the server is told to stop.
    fn quiet(&mut self, server: usize, since_us: u64) {
        if self.servers[server].state == State::Up {
            trace!("server {server}: nobody asks any more");
            self.servers[server].state = State::Quiet;
            for core in &self.servers[server].cores {
                core.files.fail(Fault::None);
                core.files.fill(false);
            }
            return self.after(server, 1, Event::Quiet(clock::now_us()));
        }
        let mut clients = self.clients.iter().filter(|client| client.target.server == server);
        let is_served = |client: &Client| client.state == client::State::Away || client.conversation.unanswered() == 0;
        if !clients.all(is_served) || !self.servers[server].is_ready() {
            assert!(clock::now_us() < since_us + ANSWER_US, "everyone is answered");
            return self.after(server, 50_000, Event::Quiet(since_us));
        }
        self.stop(server);
    }

    /// The server is told to stop.
    pub(super) fn stop(&mut self, server: usize) {
        trace!("server {server}: is told to stop");
        self.servers[server].state = State::Stopping;
        for core in 0..self.servers[server].cores.len() {
            self.wake(server, core, 1);
        }
    }

    /// A core has come to its end in good order.
    pub(super) fn core_is_over(&mut self, server: usize, core: usize) {
        let one = &mut self.servers[server];
        assert_eq!(one.state, State::Stopping, "a core ends when it is told to");
        let life = one.cores[core].life();
        one.models[core].is_over();
        one.models[core].compare(&life.engine.shard().store, clock::now(life.began_us).unix_millis());
        life.has_ended = true;
        assert!(life.is_sealed, "a log that ends in good order ends with a seal");
        if one.cores.iter_mut().all(|core| core.life().has_ended) {
            trace!("server {server}: has stopped");
            one.cores.iter_mut().for_each(|core| core.life = None);
            self.end_life(server);
            self.servers[server].state = State::Stopped;
            self.after(server, 1_000_000, Event::Start);
        }
    }

    /// Every core has read its files.
    pub(super) fn server_is_ready(&mut self, server: usize) {
        trace!("server {server}: is ready");
        if self.servers[server].state == State::Stopped {
            self.servers[server].state = State::Over;
            self.servers[server].cores.iter_mut().for_each(|core| core.life = None);
        }
    }

    fn change_fault(&mut self, server: usize) {
        if self.servers[server].state != State::Up {
            return;
        }
        let core = self.random.usize(..self.servers[server].cores.len());
        let files = &self.servers[server].cores[core].files;
        if self.plan.has_faults {
            let faults = [Fault::None, Fault::Reads, Fault::Changes(40), Fault::Changes(255)];
            let fault = faults[self.random.usize(..faults.len())];
            trace!("server {server}: disk {core}: {fault:?}");
            files.fail(fault);
        } else if self.plan.is_small() {
            let is_full = self.random.bool();
            trace!("server {server}: disk {core} is full: {is_full}");
            files.fill(is_full);
        } else {
            return;
        }
        let us = self.random.u64(1..self.plan.life_us / 4);
        self.after(server, us, Event::Fault);
    }

    /// A message goes to another core: in order, for each pair.
    pub(super) fn post(&mut self, server: usize, from: usize, to: usize, message: Message) {
        self.put_arrival(server, from, to, Arrival::Message(from, message));
    }

    /// Does the same for whatever goes from core to core.
    pub(super) fn put_arrival(&mut self, server: usize, from: usize, to: usize, arrival: Arrival) {
        let delay = [20, 20, 2_000][self.random.usize(..3)];
        let at_us = clock::now_us() + self.delay(delay);
        let last_us = &mut self.servers[server].cores[from].life().last_message_us[to];
        let at_us = at_us.max(*last_us);
        *last_us = at_us;
        let origin = Origin { server, life: self.servers[server].life };
        self.calendar.put(at_us, (origin, Event::Arrive(to, arrival)));
    }

    fn count(&mut self) {
        self.tally.note("seeds");
        for server in &self.servers {
            for (core, model) in server.cores.iter().zip(&server.models) {
                let counts = core.files.counts();
                self.tally.add("frames torn", counts.torn);
                self.tally.add("segments used again", counts.used_again);
                self.tally.add("operations that found the disk full", counts.full);
                self.tally.add("operations that failed", counts.failed);
                self.tally.add("commands", model.count());
            }
        }
    }
}
