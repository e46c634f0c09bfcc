//! An executor's main loop: ring events to the crew, the crew's requests to the ring.
//!
//! The clock is read twice a turn, not per request: once when the turn's replies are taken from the kernel, which is when
//! they count as received, and once when its requests are handed over, which is when they count as sent. A reply that came
//! while an earlier turn was being worked on counts from the later moment: the client could not have used it before.

use super::{
    connector::{Connector, connect},
    crew::{Crew, Due, Orders},
    schedule::Schedule,
    source::Source,
    tally::Tally,
    target::Protocol,
    wire::Wire,
};
use futures_lite::future::or;
use glommio::timer::sleep;
use std::{
    fs, io,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use trine::io::{
    probe,
    ring::{ConnectionId, Event, Ring},
};
use trine_client::{Options, beat::beat, pipeline::Nanos, routing::Routing};

/// Receive buffers of the ring: enough for every connection to have something in one turn, and small enough to stay in
/// the cache.
const RECEIVE_BUFFERS: u16 = 512;
const RECEIVE_BYTES: usize = 16 * 1024;
/// Advice to add to the error if the ring cannot be made.
const NEEDS: &str =
    ". trine-load needs kernel 6.1 or newer, and no seccomp filter or sysctl in the way (kernel.io_uring_disabled)";
/// The time between two rounds of work that is not urgent; a sleeping executor wakes at least this often.
const CHORES: Duration = Duration::from_millis(5);
/// A request that is due sooner than this is waited for awake: a sleep may take this much longer than it should.
const AWAKE_NS: u64 = 60_000;
/// The time between two runs of glommio's timers.
const VISIT_NS: u64 = 2_000_000;
/// A request that is due sooner than this is waited for in the ring: glommio's timers are so late at most.
const NAP: Duration = Duration::from_micros(500);
/// The time before a request is due at which a sleep ends.
const EARLY_NS: u64 = 50_000;

/// The time since the program began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(pub(crate) Instant);

impl Clock {
    #[inline]
    pub(crate) fn now(self) -> Nanos {
        Nanos(self.0.elapsed().as_nanos() as u64)
    }
}

/// A phase, for one executor.
pub(crate) struct Phase {
    pub(crate) source: Source,
    /// Requests in flight per worker.
    pub(crate) depth: usize,
    pub(crate) schedule: Option<Schedule>,
    /// The time at which it begins. All executors begin together.
    pub(crate) begin: Nanos,
    /// The part of it that is measured, which may have no end but the source's. A phase without such a part ends when its
    /// source does, or with the first error.
    pub(crate) window: Option<(Nanos, Nanos)>,
}

/// Messages from an executor to the main thread.
pub(crate) enum News {
    /// It is connected.
    Ready,
    /// It can't go on.
    Failed(String),
    /// A second of the measure phase is over.
    Second(Box<Tally>),
    /// A phase is over.
    Done(Box<Done>),
}

/// The end of a phase.
pub(crate) struct Done {
    /// The counts that no [`News::Second`] has reported.
    pub(crate) tally: Box<Tally>,
    pub(crate) cpu: usize,
    /// Of the measured part: what share the executor's thread worked, without the time it only waited awake.
    pub(crate) busy: f64,
    /// The share that it could have worked, had nothing else used its CPU.
    pub(crate) starved: f64,
    /// Requests of an open loop that were due.
    pub(crate) due: Due,
    /// The time at which it was cut short, if it was.
    pub(crate) cut: Option<Nanos>,
}

/// Settings of an executor, given when it starts.
pub(crate) struct Setup {
    pub(crate) cpu: usize,
    pub(crate) clock: Clock,
    pub(crate) orders: Orders,
    pub(crate) options: Options,
    pub(crate) protocol: Protocol,
    pub(crate) routing: Routing,
    pub(crate) wire: Wire,
    pub(crate) keys: u64,
    pub(crate) phases: mpsc::Receiver<Phase>,
    /// Tallies that the main thread has added up, to be used again.
    pub(crate) spares: mpsc::Receiver<Box<Tally>>,
    /// Replies so far, for the progress line.
    pub(crate) answered: Arc<AtomicU64>,
    /// Set where phases are to be cut short.
    pub(crate) interrupt: Arc<AtomicBool>,
}

/// An executor's life: connects, and carries out phases until there are no more.
/// `tell` returns whether anybody still listens.
pub(crate) async fn run(setup: Setup, tell: impl Fn(News) -> bool) {
    if let Err(error) = try_run(setup, &tell).await {
        tell(News::Failed(error));
    }
}

async fn try_run(setup: Setup, tell: &dyn Fn(News) -> bool) -> Result<(), String> {
    let mut engine = Engine::connect(&setup)?;
    let ticker = glommio::spawn_local(beat(engine.ring.bell(), CHORES));
    tell(News::Ready);
    // Blocks the executor between phases, when it has nothing else to do.
    for phase in &setup.phases {
        let done = engine.carry_out(phase, &setup, tell).await;
        if !tell(News::Done(Box::new(done.map_err(|error| format!("the network ring failed: {error}"))?))) {
            break;
        }
    }
    ticker.cancel().await;
    Ok(())
}

struct Engine {
    ring: Ring,
    crew: Crew,
    clock: Clock,
    connector: Connector,
    /// By link: its connection, where it has one.
    connections: Vec<Option<ConnectionId>>,
    /// By place of a connection: its link.
    links: Vec<u32>,
    /// Links whose connections have ended, and how.
    broken: Vec<(usize, String)>,
    /// Links whose servers have said that they close the connection now.
    over: Vec<usize>,
    sending: Vec<u32>,
    /// CPU time that this thread spent waiting awake. Not the time that passed: others may have had the CPU.
    awake_ns: u64,
    /// The thread's CPU time when it last waited awake, if it has done nothing since.
    awake_at: Option<u64>,
    chores: Nanos,
    /// The time at which glommio last ran.
    visited: Nanos,
}

impl Engine {
    fn connect(setup: &Setup) -> Result<Self, String> {
        let ring = Ring::new(RECEIVE_BUFFERS, RECEIVE_BYTES).map_err(|error| {
            let way_out = match probe::way_out(&error) {
                text if text.is_empty() => NEEDS.into(),
                text => text,
            };
            format!("io_uring can't be had: {error}{way_out}")
        })?;
        let crew = Crew::new(setup.orders.clone(), setup.routing.clone(), setup.wire.clone(), setup.keys);
        let connector =
            Connector::start(setup.options.clone(), setup.protocol, ring.bell()).map_err(|error| error.to_string())?;
        let mut engine = Self {
            ring,
            crew,
            clock: setup.clock,
            connector,
            connections: Vec::new(),
            links: Vec::new(),
            broken: Vec::new(),
            over: Vec::new(),
            sending: Vec::new(),
            awake_ns: 0,
            awake_at: None,
            chores: Nanos(0),
            visited: Nanos(0),
        };
        for link in 0..engine.crew.len() {
            let socket = connect(engine.crew.address(link), &setup.options, setup.protocol);
            engine.adopt(link, socket.map_err(|error| error.to_string())?);
        }
        Ok(engine)
    }

    fn adopt(&mut self, link: usize, socket: TcpStream) {
        let id = self.ring.adopt(socket);
        self.connections.resize(self.crew.len().max(link + 1), None);
        self.connections[link] = Some(id);
        self.links.resize(self.links.len().max(id.place() + 1), 0);
        self.links[id.place()] = u32::try_from(link).expect("fewer links than 2^32");
        self.crew.can_send(link);
    }

    async fn carry_out(&mut self, phase: Phase, setup: &Setup, tell: &dyn Fn(News) -> bool) -> io::Result<Done> {
        let everything = (Nanos(0), Nanos(u64::MAX));
        let (start, end) = phase.window.unwrap_or(everything);
        let mut meter = Meter::default();
        let mut second_end = start.after(Duration::from_secs(1));
        let (mut due, mut cut) = (Due::default(), None);
        while self.clock.now() < phase.begin {
            sleep(Duration::from_micros(100)).await;
        }
        self.chores = Nanos(0);
        self.crew.begin(phase.source, phase.depth, phase.schedule, (start, end), self.clock.now());
        while !self.crew.is_done() {
            let now = self.round().await?;
            if now < self.chores {
                continue;
            }
            self.chores = now.after(CHORES);
            self.do_chores(now);
            setup.answered.store(self.crew.answered, Ordering::Relaxed);
            if cut.is_none() && setup.interrupt.load(Ordering::Relaxed) {
                cut = Some(now);
                let left = self.crew.cut(now);
                if !meter.has_ended() {
                    due = left;
                    meter.end(now, self.awake_ns);
                }
            }
            if phase.window.is_none() {
                if 0 < self.crew.tally.errors_total() {
                    self.crew.end(now);
                }
                continue;
            }
            if start <= now {
                meter.begin(now, self.awake_ns);
            }
            if end <= now && !meter.has_ended() {
                due = self.crew.end(end);
                meter.end(now, self.awake_ns);
            }
            if second_end <= now && now < end {
                let page = self.turn_page(second_end.since(start) / 1_000_000_000 - 1, setup);
                tell(News::Second(page));
                second_end = second_end.after(Duration::from_secs(1));
            }
            self.chores = [second_end, start, end].into_iter().filter(|&at| now < at).fold(self.chores, Nanos::min);
        }
        if !meter.has_ended() {
            meter.end(self.clock.now(), self.awake_ns);
        }
        let mut tally = std::mem::take(&mut self.crew.tally);
        tally.second = (second_end.since(start) / 1_000_000_000).saturating_sub(1);
        let (busy, starved) = meter.shares();
        Ok(Done { tally, cpu: setup.cpu, busy, starved, due, cut })
    }

    /// Returns a second's tally, and goes on with an empty one.
    fn turn_page(&mut self, second: u64, setup: &Setup) -> Box<Tally> {
        let empty = setup.spares.try_recv().unwrap_or_default();
        let mut full = std::mem::replace(&mut self.crew.tally, empty);
        full.second = second;
        full
    }

    /// Once around: takes what has arrived, asks for more, sends, and rests where there was nothing to do. Returns the time.
    async fn round(&mut self) -> io::Result<Nanos> {
        let (clock, crew, connections, links, broken, over) =
            (self.clock, &mut self.crew, &self.connections, &self.links, &mut self.broken, &mut self.over);
        let mut taken = None;
        let count = self.ring.turn(|event| {
            let now = *taken.get_or_insert_with(|| clock.now());
            let link_of = |id: ConnectionId| {
                let link = links[id.place()] as usize;
                (connections[link] == Some(id)).then_some(link)
            };
            match event {
                Event::Received(id, bytes) => match link_of(id).map(|link| (link, crew.arrived(link, bytes, now))) {
                    Some((link, Err(error))) => broken.push((link, error)),
                    Some((link, Ok(true))) => over.push(link),
                    _ => {}
                },
                Event::Sent(id) => {
                    if let Some(link) = link_of(id) {
                        crew.can_send(link);
                    }
                }
                Event::Ended(id) => broken.extend(link_of(id).map(|link| (link, "connection closed".into()))),
                Event::Failed(id, error) => broken.extend(link_of(id).map(|link| (link, kind_of(&error)))),
                Event::Coming(_)
                | Event::Connected(_)
                | Event::Accepted(..)
                | Event::AcceptFailed(..)
                | Event::Written(..)
                | Event::Read(..) => {}
            }
        })?;
        let now = clock.now();
        if !self.broken.is_empty() || !self.over.is_empty() {
            self.mend(now);
        }
        let due = self.crew.send_due(now);
        let has_sent = self.send(now);
        if count == 0 && !has_sent {
            self.rest(now, due).await?;
        } else {
            self.awake_at = None;
        }
        if VISIT_NS < now.since(self.visited) {
            self.visited = now;
            self.ring.visit_reactor().await?;
        }
        Ok(now)
    }

    /// Hands to the ring what can be sent. Returns whether there was anything.
    #[inline]
    fn send(&mut self, now: Nanos) -> bool {
        let mut sending = std::mem::take(&mut self.sending);
        self.crew.take_listed(&mut sending);
        let mut has_sent = false;
        for &link in &sending {
            let link = link as usize;
            let Some(id) = self.connections.get(link).copied().flatten() else {
                self.connector.want(link, self.crew.address(link));
                continue;
            };
            // Where a send is in flight its end puts the link on the list again.
            if !self.ring.is_sending(id) && self.crew.pipeline(link).has_output() {
                let empty = self.ring.buffer();
                let bytes = self.crew.pipeline(link).output(now, empty);
                self.ring.send(id, bytes);
                has_sent = true;
            }
        }
        self.sending = sending;
        has_sent
    }

    /// There is nothing to do until something arrives or the next request is due.
    async fn rest(&mut self, now: Nanos, due: Option<Nanos>) -> io::Result<()> {
        let awake_at = self.awake_at.take();
        match due.map(|due| due.since(now)) {
            None if self.ring.nap(|| false)? => Ok(()),
            None => self.ring.wait(|| false).await,
            // Woken in time, and by what arrives, without glommio's detour.
            Some(left) if AWAKE_NS < left && left < NAP.as_nanos() as u64 => {
                self.ring.nap_for(Duration::from_nanos(left - EARLY_NS))
            }
            Some(left) if AWAKE_NS < left => {
                let timer = async {
                    sleep(Duration::from_nanos(left - EARLY_NS)).await;
                    Ok(())
                };
                or(self.ring.wait(|| false), timer).await
            }
            Some(_) => {
                // Whoever else wants this CPU may have it: a server on a small machine, perhaps.
                let before = awake_at.unwrap_or_else(cpu_time);
                thread::yield_now();
                let after = cpu_time();
                self.awake_ns += after.saturating_sub(before);
                self.awake_at = Some(after);
                Ok(())
            }
        }
    }

    /// Does what is done now and then: takes over connections that were made, and finds requests that wait too long.
    fn do_chores(&mut self, now: Nanos) {
        while let Some((link, socket)) = self.connector.next() {
            match socket {
                Some(socket) => self.adopt(link, socket),
                None => self.connector.want(link, self.crew.address(link)),
            }
        }
        while let Some(link) = self.crew.overdue(now) {
            let kind =
                if self.connections.get(link).copied().flatten().is_some() { "timeout" } else { "not connected" };
            self.lose(link, kind, now);
        }
    }

    #[cold]
    fn mend(&mut self, now: Nanos) {
        for link in std::mem::take(&mut self.over) {
            if let Some(id) = self.connections[link].take() {
                self.ring.close(id);
                self.crew.ask_again(link, now);
            }
        }
        for (link, kind) in std::mem::take(&mut self.broken) {
            // What one turn told of a connection twice has been heard once: what was asked since is another connection's.
            if self.connections[link].is_some() {
                self.lose(link, &kind, now);
            }
        }
    }

    /// Gives a connection up. What it owed has failed; another is made when there is something to send.
    fn lose(&mut self, link: usize, kind: &str, now: Nanos) {
        if let Some(id) = self.connections.get_mut(link).and_then(Option::take) {
            self.ring.close(id);
        }
        self.crew.fail(link, kind, now);
    }
}

fn kind_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection closed".into(),
        _ => format!("connection failed: {error}"),
    }
}

/// A meter of the share of a time that this thread worked.
#[derive(Default)]
struct Meter {
    begun: Option<(Nanos, u64, [u64; 2])>,
    ended: Option<(Nanos, u64, [u64; 2])>,
}

impl Meter {
    fn begin(&mut self, now: Nanos, awake_ns: u64) {
        if self.begun.is_none() {
            self.begun = Some((now, awake_ns, thread_time()));
        }
    }

    fn end(&mut self, now: Nanos, awake_ns: u64) {
        self.ended = Some((now, awake_ns, thread_time()));
    }

    fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The share worked, and the share for which the thread wanted a CPU and had none.
    fn shares(&self) -> (f64, f64) {
        let (Some((begin, awake_before, before)), Some((end, awake_after, after))) = (self.begun, self.ended) else {
            return (0.0, 0.0);
        };
        let wall = end.since(begin).max(1) as f64;
        let awake = (awake_after - awake_before) as f64;
        // Both are CPU time of this thread, so the difference is what it worked, however often it was preempted.
        let [ran, waited] = [0, 1].map(|index| after[index].saturating_sub(before[index]) as f64);
        (((ran - awake) / wall).clamp(0.0, 1.0), (waited / wall).clamp(0.0, 1.0))
    }
}

/// Nanoseconds that this thread has run.
fn cpu_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}

/// Nanoseconds that this thread has run, and that it waited for a CPU. Zero where the kernel does not say.
fn thread_time() -> [u64; 2] {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited = text.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok());
    [cpu_time(), waited.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waiting awake is counted in CPU time, as work is: if others had the CPU meanwhile, work remains work.
    #[test]
    fn preemption_while_waiting_awake_hides_no_work() {
        let shares = |ran, awake, waited| {
            let meter = Meter { begun: Some((Nanos(0), 0, [0, 0])), ended: Some((Nanos(1000), awake, [ran, waited])) };
            meter.shares()
        };
        assert_eq!(shares(600, 400, 400), (0.2, 0.4));
        assert_eq!(shares(1000, 0, 0), (1.0, 0.0));
        // A thread that sleeps runs for no CPU time, however long it takes.
        let before = cpu_time();
        thread::sleep(Duration::from_millis(20));
        let slept = cpu_time() - before;
        assert!(slept < 20_000_000, "{slept}");
        while cpu_time() < before + slept + 1_000_000 {}
    }
}
