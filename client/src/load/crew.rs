//! The workers of one executor: who asks for what on which connection, and what became of it. No socket, no clock.
//!
//! A *worker* is one client: it has `depth` requests in flight and a connection of its own to each node, so that C workers
//! have C × depth requests in flight whatever the number of nodes, as C real clients of the cluster would, and each request
//! goes to the owner of its key. It asks for the next `depth` when all have been answered, as who executes a pipeline does: were
//! each reply followed by a request at once, what goes to a node of several would soon be one request at a time. The connections that are idle meanwhile cost nothing on either ring. A *link* is one such
//! connection, or the place where one will be.

use super::{
    first::FirstValues,
    freshness::{Epoch, Freshness},
    reply::{Codec, Reply, authority},
    schedule::Schedule,
    source::Source,
    tally::Tally,
    target::Placement,
    value::{Form, Version},
    wire::Wire,
    workload::Kind,
};
use std::{collections::VecDeque, time::Duration};
use trine::slot::Slot;
use trine_client::{
    REDIRECTIONS_MAX,
    pipeline::{Nanos, Pending, Pipeline},
    routing::{Node, Routing, moved_address, parse_moved},
};

/// A request, as long as it has no reply: all that it takes to judge the reply, or to ask again elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    key: u64,
    /// Of a write: its number.
    number: u64,
    due: Nanos,
    /// Of a read: the earliest that it may see. Of a write: what reads behind it may see.
    epoch: Epoch,
    length: u32,
    kind: Kind,
    redirections: u8,
}

/// A worker's connection to a node.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) pipeline: Pipeline<Request, Codec>,
    /// It is in the list of those that want to send.
    is_listed: bool,
}

/// What a crew was told.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) workers: usize,
    /// Whose a key is.
    pub(crate) placement: Placement,
    /// Follow MOVED, or 307.
    pub(crate) follow: bool,
    /// The keys are new: one that exists already is an error.
    pub(crate) is_fresh: bool,
    pub(crate) timeout: Duration,
    /// A key that is not there is no wrong value: the server may evict.
    pub(crate) allow_misses: bool,
    /// In the upper bits of every version: which run and which executor wrote it.
    pub(crate) writer: u64,
}

/// The bits of a version that number an executor's writes.
pub(crate) const NUMBER_BITS: u32 = 40;

/// The workers of one executor.
pub(crate) struct Crew {
    orders: Orders,
    routing: Routing,
    /// By node and then by worker: a node that turns up later is appended.
    links: Vec<Link>,
    /// Links that want to send.
    listed: Vec<u32>,
    wire: Wire,
    source: Source,
    form: Form,
    freshness: Freshness,
    /// Where the first value of a key stays: what is known of it.
    first: Option<FirstValues>,
    /// In an open loop: when requests are due, and who is free to send them.
    schedule: Option<Schedule>,
    idle: VecDeque<u32>,
    /// In a closed loop: how many requests a worker sends together, and how many of them each has room for already.
    depth: usize,
    room: Vec<usize>,
    in_flight: usize,
    /// Requests due from here to there count.
    window: (Nanos, Nanos),
    pub(crate) tally: Box<Tally>,
    /// Replies since the start, for those who watch.
    pub(crate) answered: u64,
    /// Requests that were sent to the wrong node, with where they go next.
    redirected: Vec<(Node, Request)>,
}

impl Crew {
    pub(crate) fn new(orders: Orders, routing: Routing, wire: Wire, keys: u64) -> Self {
        let (form, first) = (wire.form(), wire.keeps_first().then(|| FirstValues::new(keys)));
        let mut crew = Self {
            orders,
            routing,
            links: Vec::new(),
            listed: Vec::new(),
            wire,
            source: Source::Nothing,
            form,
            freshness: Freshness::new(keys),
            first,
            schedule: None,
            idle: VecDeque::new(),
            depth: 1,
            room: Vec::new(),
            in_flight: 0,
            window: (Nanos(0), Nanos(0)),
            tally: Box::default(),
            answered: 0,
            redirected: Vec::new(),
        };
        crew.make_links();
        crew
    }

    /// Begins a phase: `depth` requests per worker from `source`, as soon as may be or as a schedule says. Those due
    /// within the window are counted.
    pub(crate) fn begin(
        &mut self,
        source: Source,
        depth: usize,
        schedule: Option<Schedule>,
        window: (Nanos, Nanos),
        now: Nanos,
    ) {
        assert!(self.in_flight == 0, "a phase begins when the last has ended");
        (self.source, self.schedule, self.window) = (source, schedule, window);
        self.idle.clear();
        self.depth = depth;
        self.room = vec![0; self.orders.workers];
        for _ in 0..depth {
            self.idle.extend(0..self.orders.workers as u32);
        }
        if self.schedule.is_none() {
            while let Some(worker) = self.idle.pop_front() {
                self.ask(worker, now, now);
            }
        }
    }

    /// Nothing more is to be asked; what is in flight is waited for. Returns how many requests were due before `now` and
    /// have not been sent.
    pub(crate) fn end(&mut self, now: Nanos) -> u64 {
        self.source = Source::Nothing;
        self.schedule.take().map_or(0, |schedule| schedule.backlog(now))
    }

    /// Whether the phase has ended: nothing is in flight, and nothing more will be asked.
    pub(crate) fn is_done(&self) -> bool {
        self.in_flight == 0 && self.schedule.is_none()
    }

    /// The number of links. Grows where a node turns up.
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// The address that a link goes to.
    pub(crate) fn address(&self, link: usize) -> &str {
        self.routing.address(self.node(link))
    }

    /// A link's pipeline.
    #[inline]
    pub(crate) fn pipeline(&mut self, link: usize) -> &mut Pipeline<Request, Codec> {
        &mut self.links[link].pipeline
    }

    /// Swaps the list of links that want to send for an empty one.
    #[inline]
    pub(crate) fn take_listed(&mut self, list: &mut Vec<u32>) {
        list.clear();
        std::mem::swap(&mut self.listed, list);
        for &link in list.iter() {
            self.links[link as usize].is_listed = false;
        }
    }

    /// A link can send again.
    #[inline]
    pub(crate) fn can_send(&mut self, link: usize) {
        let Link { pipeline, is_listed } = &mut self.links[link];
        if pipeline.has_output() && !*is_listed {
            *is_listed = true;
            self.listed.push(link as u32);
        }
    }

    /// Sends what is due. Returns when the next is, where a worker is free to send it.
    #[inline]
    pub(crate) fn send_due(&mut self, now: Nanos) -> Option<Nanos> {
        loop {
            let schedule = self.schedule.as_mut()?;
            let due = schedule.due();
            if now < due || self.idle.is_empty() {
                return (!self.idle.is_empty()).then_some(due);
            }
            schedule.take();
            let worker = self.idle.pop_front().expect("somebody is idle");
            self.ask(worker, due, now);
        }
    }

    /// Takes what has arrived on a link at `now`, and asks for more in its place. Returns whether the link's connection is
    /// over: what it still owes has to be [asked again](Self::ask_again) on another.
    ///
    /// # Errors
    /// Where it is no reply: the link must be [failed](Self::fail).
    #[inline]
    pub(crate) fn arrived(&mut self, link: usize, bytes: &[u8], now: Nanos) -> Result<bool, String> {
        let mut freed = 0;
        let mut pipeline = std::mem::replace(&mut self.links[link].pipeline, Pipeline::new(Codec::default()));
        let received = pipeline.receive(bytes, |pending, reply| {
            freed += usize::from(self.answer(link, pending, reply, now));
        });
        self.links[link].pipeline = pipeline;
        self.in_flight -= freed;
        self.answered += freed as u64;
        let worker = self.worker(link);
        for _ in 0..freed {
            self.free(worker, now);
        }
        while let Some((node, request)) = self.redirected.pop() {
            self.send(node.index() * self.orders.workers + worker as usize, request, now);
        }
        received.map_err(|error| error.to_string())?;
        Ok(self.links[link].pipeline.is_over())
    }

    /// A link's server has closed its connection in good order: what was not answered has not been looked at, and is asked
    /// again.
    #[cold]
    pub(crate) fn ask_again(&mut self, link: usize, now: Nanos) {
        let waiting: Vec<Request> = self.pipeline(link).fail().map(|pending| pending.tag).collect();
        waiting.into_iter().for_each(|request| self.send(link, request, now));
    }

    /// A link has broken or been stuck: its requests have failed with an error of this kind.
    #[cold]
    pub(crate) fn fail(&mut self, link: usize, kind: &str, now: Nanos) {
        let failed: Vec<Request> = self.pipeline(link).fail().map(|pending| pending.tag).collect();
        self.in_flight -= failed.len();
        let counted = failed.iter().filter(|request| self.is_counted(request.due)).count();
        if 0 < counted {
            self.tally.error(kind, counted as u64);
        }
        let worker = self.worker(link);
        failed.iter().for_each(|_| self.free(worker, now));
    }

    /// A link whose oldest request has waited too long.
    pub(crate) fn overdue(&self, now: Nanos) -> Option<usize> {
        self.links.iter().position(|link| link.pipeline.is_overdue(now, self.orders.timeout))
    }

    /// A worker has room for another request, and asks for the next ones where none is in flight any more.
    #[inline]
    fn free(&mut self, worker: u32, now: Nanos) {
        if self.schedule.is_some() {
            self.idle.push_back(worker);
            return;
        }
        let room = &mut self.room[worker as usize];
        *room += self.source.answered(worker);
        if self.depth <= *room {
            for _ in 0..std::mem::take(room) {
                self.ask(worker, now, now);
            }
        }
    }

    /// Draws the next request and sends it to the owner of its key.
    #[inline]
    fn ask(&mut self, worker: u32, due: Nanos, now: Nanos) {
        let Some((kind, key, length)) = self.source.next(worker) else { return };
        let (number, epoch) = match kind {
            Kind::Set => self.freshness.sent(),
            Kind::Get => (0, self.freshness.floor(key)),
        };
        let request = Request { key, number, due, epoch, length, kind, redirections: 0 };
        let node = match &self.orders.placement {
            Placement::First => Node(0),
            Placement::Slots => self.routing.owner(Slot::of(self.wire.key(key))),
            Placement::Circle(circle) => circle.node_of(self.wire.key(key)),
        };
        self.in_flight += 1;
        self.send(node.index() * self.orders.workers + worker as usize, request, now);
    }

    #[inline]
    fn send(&mut self, link: usize, request: Request, now: Nanos) {
        let version = self.version(&request);
        let node = link / self.orders.workers;
        let output = self.links[link].pipeline.request(request, now);
        match request.kind {
            Kind::Get => self.wire.get(output, node, request.key),
            Kind::Set => self.wire.set(output, node, request.key, version, request.length as usize),
        }
        self.can_send(link);
    }

    /// The version of the value that a write writes.
    #[inline]
    fn version(&self, request: &Request) -> Version {
        Version(self.orders.writer << NUMBER_BITS | request.number)
    }

    /// Judges a reply. Returns whether its request is over and done with.
    #[inline]
    fn answer(&mut self, link: usize, pending: Pending<Request>, reply: Reply<'_>, now: Nanos) -> bool {
        let request = pending.tag;
        match (request.kind, reply) {
            (Kind::Set, Reply::Stored | Reply::Success(_)) => self.stored(&request),
            (Kind::Get, Reply::Value(value) | Reply::Success(value)) => self.judge(&request, value),
            (Kind::Get, Reply::Missing) => {
                self.tally.misses += 1;
                self.tally.wrong.missing += u64::from(!self.orders.allow_misses);
            }
            // The key has a value already, as it may: whose, reads will tell.
            (Kind::Set, Reply::Exists) if self.first.is_some() && !self.orders.is_fresh => {
                self.tally.conflicts += u64::from(self.is_counted(now));
                self.freshness.answered(request.number, request.key, request.epoch, false);
            }
            (_, other) => return self.refused(link, request, other),
        }
        // Throughput counts the replies of the window, whenever they were asked for; latency counts its requests,
        // whenever they were answered. Each is the honest way for itself.
        if self.is_counted(now) {
            self.tally.operations[request.kind as usize] += 1;
        }
        if self.is_counted(request.due) {
            self.tally.latency(request.kind, request.due, pending.sent, now);
        }
        true
    }

    /// A write has been acknowledged.
    #[inline]
    fn stored(&mut self, request: &Request) {
        let Some(first) = &mut self.first else {
            return self.freshness.answered(request.number, request.key, request.epoch, true);
        };
        self.freshness.answered(request.number, request.key, request.epoch, false);
        let version = self.orders.writer << NUMBER_BITS | request.number;
        // A server that evicts may take a key a second time.
        let is_possible = !self.form.has_version(request.length as usize) || first.seen(request.key, version);
        self.tally.wrong.stale += u64::from(!is_possible && !self.orders.allow_misses);
    }

    #[inline]
    fn judge(&mut self, request: &Request, value: &[u8]) {
        let Some(Version(version)) = self.form.check(value, request.key) else {
            self.tally.wrong.damaged += 1;
            return;
        };
        let is_stale = match &mut self.first {
            Some(first) => !first.seen(request.key, version) && !self.orders.allow_misses,
            None => {
                let number = version & ((1 << NUMBER_BITS) - 1);
                let is_ours = version >> NUMBER_BITS == self.orders.writer;
                is_ours && Freshness::is_stale(number, request.epoch)
            }
        };
        self.tally.wrong.stale += u64::from(is_stale);
    }

    /// A reply that nobody wants: an error, or something else altogether. A request that went to the wrong node is sent
    /// to the right one and is not done yet.
    #[cold]
    fn refused(&mut self, link: usize, request: Request, reply: Reply<'_>) -> bool {
        if self.orders.follow
            && usize::from(request.redirections) < REDIRECTIONS_MAX
            && let Some((slot, address)) = self.moved(link, &request, reply)
            && let Some(node) = self.routing.moved(slot, address)
        {
            // Who says so knows of slots: from now on they count.
            self.orders.placement = Placement::Slots;
            self.make_links();
            self.redirected.push((node, Request { redirections: request.redirections + 1, ..request }));
            return false;
        }
        if request.kind == Kind::Set {
            self.freshness.answered(request.number, request.key, request.epoch, false);
        }
        if self.is_counted(request.due) {
            self.tally.error(&reply.complaint(), 1);
        }
        true
    }

    /// The slot and the address that a reply sends us to.
    fn moved(&mut self, link: usize, request: &Request, reply: Reply<'_>) -> Option<(Slot, String)> {
        match reply {
            Reply::Error(text) => {
                let (slot, address) = parse_moved(text)?;
                Some((slot, moved_address(address, self.address(link))?))
            }
            Reply::Elsewhere(location) => Some((Slot::of(self.wire.key(request.key)), authority(location)?.into())),
            _ => None,
        }
    }

    #[inline]
    fn is_counted(&self, moment: Nanos) -> bool {
        self.window.0 <= moment && moment < self.window.1
    }

    /// Gives every worker a link to every node.
    fn make_links(&mut self) {
        self.wire.know(self.routing.nodes());
        let wire = &self.wire;
        let link = || Link { pipeline: Pipeline::new(wire.codec()), is_listed: false };
        self.links.resize_with(self.routing.nodes().len() * self.orders.workers, link);
    }

    fn node(&self, link: usize) -> Node {
        Node(u16::try_from(link / self.orders.workers).expect("a node's index is a u16"))
    }

    #[inline]
    fn worker(&self, link: usize) -> u32 {
        (link % self.orders.workers) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::{Api, request::Requests},
        keys::Keys,
        random::Random,
        schedule::Arrivals,
        source::Rounds,
        wire::Commands,
        workload::ValueSize,
    };

    const ALWAYS: (Nanos, Nanos) = (Nanos(0), Nanos(u64::MAX));

    fn orders(workers: usize, allow_misses: bool) -> Orders {
        let (timeout, placement) = (Duration::from_secs(1), Placement::Slots);
        Orders { workers, placement, follow: true, is_fresh: false, timeout, allow_misses, writer: 7 }
    }

    fn crew(workers: usize, allow_misses: bool) -> Crew {
        let wire = Wire::Resp(Commands::new(Keys::shared(16, 1000).unwrap()));
        Crew::new(orders(workers, allow_misses), Routing::single("a:1"), wire, 1000)
    }

    /// One worker that speaks HTTP, with servers a and b.
    fn http_crew(orders: Orders, api: Api) -> Crew {
        let wire = Wire::Http(Requests::new(api, Keys::shared(16, 1000).unwrap(), None));
        Crew::new(orders, Routing::several(vec!["a:1".into(), "b:1".into()]), wire, 1000)
    }

    fn response(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    /// The value of the first key that this crew wrote as its how-manieth write.
    fn letters(number: u64) -> Vec<u8> {
        let mut value = Vec::new();
        Form::Letters.write(&mut value, 0, Version(7 << NUMBER_BITS | number), 40);
        value
    }

    fn one_key(kind: Kind) -> Source {
        let share = f64::from(u8::from(kind == Kind::Get));
        let distribution = "sequential".parse().unwrap();
        let workload = crate::workload::Workload::new(1, share, distribution, (0, 1), Random::new(1, 1));
        Source::Draw { workload, sizes: ValueSize::Fixed(40), random: Random::new(1, 2) }
    }

    fn load(end: u64) -> Source {
        Source::Load { next: 0, end, sizes: ValueSize::Fixed(20), random: Random::new(1, 1) }
    }

    /// Takes what a link has to send.
    fn sent(crew: &mut Crew, link: usize, now: u64) -> Vec<u8> {
        crew.pipeline(link).output(Nanos(now), Vec::new())
    }

    /// A request that went to the wrong node is sent to the right one, and counts once, from when it was due.
    #[test]
    fn moved_is_followed() {
        let mut crew = crew(2, false);
        crew.begin(load(1), 1, None, ALWAYS, Nanos(100));
        let request = sent(&mut crew, 0, 110);
        let slot = Slot::of(b"key:000000000000").number();
        crew.arrived(0, format!("-MOVED {slot} b:1\r\n").as_bytes(), Nanos(200)).unwrap();
        assert_eq!((crew.len(), crew.address(2), crew.is_done()), (4, "b:1", false));
        assert_eq!(sent(&mut crew, 2, 210), request);
        crew.arrived(2, b"+OK\r\n", Nanos(400)).unwrap();
        assert!(crew.is_done());
        assert_eq!((crew.tally.operations, crew.tally.errors_total()), ([0, 1], 0));
        assert_eq!((crew.tally.since_due[1].max(), crew.tally.since_sent[1].max()), (300, 190));
    }

    /// Two nodes that send a request to and fro make an error of it in the end.
    #[test]
    fn a_circle_of_moved_ends() {
        let mut crew = crew(1, false);
        crew.begin(load(1), 1, None, ALWAYS, Nanos(0));
        for hop in 0..=REDIRECTIONS_MAX {
            let (from, to) = (hop % 2, ["b:1", "a:1"][hop % 2]);
            sent(&mut crew, from, 1);
            crew.arrived(from, format!("-MOVED 1 {to}\r\n").as_bytes(), Nanos(1)).unwrap();
        }
        assert!(crew.is_done());
        assert_eq!(crew.tally.errors.get("MOVED"), Some(&1));
    }

    /// Where all workers are busy a request waits, and its due time stands.
    #[test]
    fn an_open_loop_keeps_its_due_times() {
        let mut crew = crew(1, false);
        let schedule = Schedule::new(Arrivals::Constant, 1e7, Nanos(1000), 0.0, Random::new(1, 1));
        crew.begin(load(9), 1, Some(schedule), ALWAYS, Nanos(0));
        assert_eq!(crew.send_due(Nanos(999)), Some(Nanos(1000)));
        assert_eq!(crew.send_due(Nanos(1000)), None, "the worker is busy");
        sent(&mut crew, 0, 1000);
        crew.arrived(0, b"+OK\r\n", Nanos(1500)).unwrap();
        crew.send_due(Nanos(1500));
        sent(&mut crew, 0, 1500);
        crew.arrived(0, b"+OK\r\n", Nanos(1600)).unwrap();
        assert_eq!((crew.tally.since_due[1].min(), crew.tally.since_due[1].max()), (500, 500), "due at 1000 and 1100");
        assert_eq!((crew.tally.since_sent[1].min(), crew.tally.since_sent[1].max()), (100, 500));
        assert_eq!(crew.end(Nanos(1650)), 5, "1200, 1300, 1400, 1500 and 1600 were due");
        assert!(crew.is_done());
    }

    /// Reads are judged: what was written is right, what is missing or of another key is wrong.
    #[test]
    fn reads_are_judged() {
        let reply = |key: u64| {
            let mut reply = b"$20\r\n".to_vec();
            Form::Bytes.write(&mut reply, key, Version(1), 20);
            [&reply[..], b"\r\n"].concat()
        };
        let mut crew = crew(1, false);
        crew.begin(Source::Verify { next: 0, end: 3 }, 3, None, ALWAYS, Nanos(0));
        sent(&mut crew, 0, 0);
        crew.arrived(0, &[&reply(0)[..], b"$-1\r\n", &reply(3)].concat(), Nanos(1)).unwrap();
        let wrong = crew.tally.wrong;
        assert_eq!((wrong.damaged, wrong.missing, wrong.stale, crew.tally.misses), (1, 1, 0, 1));
        let mut lenient = self::crew(1, true);
        lenient.begin(Source::Verify { next: 0, end: 1 }, 1, None, ALWAYS, Nanos(0));
        sent(&mut lenient, 0, 0);
        lenient.arrived(0, b"$-1\r\n", Nanos(1)).unwrap();
        assert_eq!((lenient.tally.wrong.total(), lenient.tally.misses), (0, 1));
    }

    /// A broken connection's requests are errors, and its workers go on.
    #[test]
    fn what_is_lost_is_counted() {
        let mut crew = crew(1, false);
        crew.begin(load(5), 2, None, ALWAYS, Nanos(0));
        sent(&mut crew, 0, 0);
        assert_eq!(crew.overdue(Nanos(1_000_000_000)), None);
        assert_eq!(crew.overdue(Nanos(1_000_000_001)), Some(0));
        crew.fail(0, "timeout", Nanos(1));
        assert_eq!(crew.tally.errors.get("timeout"), Some(&2));
        assert_eq!(crew.pipeline(0).len(), 2, "the worker asks for the next two");
        assert!(crew.arrived(0, b"HTTP/1.1 400\r\n", Nanos(1)).is_err());
    }

    /// A worker's requests leave together: the next ones when all have been answered, whichever node was first.
    #[test]
    fn the_next_requests_wait_for_all_replies() {
        let mut crew = crew(1, false);
        let slot = Slot::of(b"key:000000000000").number();
        crew.begin(one_key(Kind::Set), 3, None, ALWAYS, Nanos(0));
        sent(&mut crew, 0, 0);
        crew.arrived(0, format!("-MOVED {slot} b:1\r\n+OK\r\n+OK\r\n").as_bytes(), Nanos(1)).unwrap();
        sent(&mut crew, 1, 1);
        assert_eq!((crew.pipeline(0).len(), crew.pipeline(1).len()), (0, 1), "one is in flight still");
        crew.arrived(1, b"+OK\r\n", Nanos(2)).unwrap();
        assert_eq!((crew.pipeline(0).len(), crew.pipeline(1).len(), crew.in_flight), (0, 3, 3));
    }

    /// A 307 is followed to the server that it names, which is remembered for the slot, and counts once.
    #[test]
    fn a_307_is_followed_and_remembered() {
        let mut crew = http_crew(Orders { placement: Placement::First, ..orders(1, false) }, Api::Set);
        crew.begin(one_key(Kind::Set), 1, None, ALWAYS, Nanos(0));
        let request = String::from_utf8(sent(&mut crew, 0, 1)).unwrap();
        assert!(request.starts_with("PUT /set/key:000000000000 HTTP/1.1\r\nHost: a:1\r\n"), "{request}");
        crew.arrived(0, &response(307, "Location: http://b:1/set/key:000000000000\r\n", b""), Nanos(2)).unwrap();
        let request = String::from_utf8(sent(&mut crew, 1, 3)).unwrap();
        assert!(request.contains("Host: b:1\r\n"), "{request}");
        crew.arrived(1, &response(200, "", b"OK"), Nanos(4)).unwrap();
        assert_eq!((crew.tally.operations, crew.tally.errors_total()), ([0, 1], 0));
        assert_eq!(crew.pipeline(1).len(), 1, "the next goes there at once");
        sent(&mut crew, 1, 5);
        crew.end(Nanos(5));
        crew.arrived(1, &response(308, "Location: /elsewhere\r\n", b""), Nanos(6)).unwrap();
        assert_eq!(crew.tally.errors.get("redirected to nowhere:"), Some(&1), "{:?}", crew.tally.errors);
    }

    /// A server that closes its connection with a response owes nothing: what stands behind it is asked again, in order.
    #[test]
    fn a_closed_connection_is_no_error() {
        let mut crew = http_crew(orders(1, false), Api::Set);
        crew.begin(load(3), 3, None, ALWAYS, Nanos(0));
        let requests = sent(&mut crew, 0, 1);
        let first = response(200, "Connection: close\r\n", b"");
        let behind = response(500, "", b"");
        assert_eq!(crew.arrived(0, &[&first[..], &behind].concat(), Nanos(2)), Ok(true), "nothing behind it counts");
        crew.ask_again(0, Nanos(3));
        assert_eq!(crew.pipeline(0).len(), 2);
        let again = sent(&mut crew, 0, 4);
        assert_eq!(again, requests[requests.len() - again.len()..]);
        assert_eq!(crew.arrived(0, &[response(200, "", b""), response(200, "", b"")].concat(), Nanos(5)), Ok(false));
        assert!(crew.is_done());
        assert_eq!((crew.tally.operations, crew.tally.errors_total()), ([0, 3], 0));
    }

    /// Where the first value stays, 409 is as good an answer as 200; another value is wrong, and so is a second 200.
    #[test]
    fn the_first_value_stays() {
        let mut crew = http_crew(orders(1, false), Api::Set);
        let mut ask = |source: Source, replies: &[Vec<u8>]| {
            crew.begin(source, 1, None, ALWAYS, Nanos(0));
            for (index, reply) in replies.iter().enumerate() {
                sent(&mut crew, 0, 1);
                if index + 1 == replies.len() {
                    crew.end(Nanos(1));
                }
                crew.arrived(0, reply, Nanos(2)).unwrap();
            }
            assert!(crew.is_done());
            (crew.tally.wrong.stale, crew.tally.conflicts, crew.tally.errors_total())
        };
        let (ok, exists) = (response(200, "", b""), response(409, "", b"it exists"));
        assert_eq!(ask(one_key(Kind::Set), std::slice::from_ref(&exists)), (0, 1, 0), "an earlier run has written it");
        assert_eq!(ask(one_key(Kind::Set), &[ok.clone(), exists]), (0, 2, 0));
        let value = |number| response(200, "", &letters(number));
        assert_eq!(ask(one_key(Kind::Get), &[value(1), value(1)]), (0, 2, 0));
        assert_eq!(ask(one_key(Kind::Get), &[value(2)]), (1, 2, 0), "a refused write has been executed");
        assert_eq!(ask(one_key(Kind::Set), &[ok]), (2, 2, 0), "the first has been lost");
        assert_eq!(ask(one_key(Kind::Get), &[response(503, "", b"later")]), (2, 2, 1));
        assert_eq!(crew.tally.errors.get("HTTP 503 later"), Some(&1));
    }

    /// Fresh keys exist nowhere: 409 is an error. With the other pair of requests it always is.
    #[test]
    fn fresh_keys_are_fresh() {
        for (api, is_fresh) in [(Api::Set, true), (Api::Store, false)] {
            let mut crew = http_crew(Orders { is_fresh, ..orders(1, false) }, api);
            crew.begin(load(1), 1, None, ALWAYS, Nanos(0));
            sent(&mut crew, 0, 1);
            crew.arrived(0, &response(409, "", b""), Nanos(2)).unwrap();
            assert_eq!((crew.tally.operations[1], crew.tally.errors_total()), (0, 1));
        }
    }

    /// With servers that know nothing of each other every key has its own, as the circle says.
    #[test]
    fn a_circle_spreads_the_keys() {
        let nodes = ["a:1", "b:1"];
        let circle = trine_client::consistent::Circle::new(&nodes);
        let placement = Placement::Circle(circle.clone());
        let mut crew = http_crew(Orders { placement, ..orders(1, false) }, Api::Set);
        crew.begin(load(50), 50, None, ALWAYS, Nanos(0));
        for (link, node) in nodes.into_iter().enumerate() {
            let requests = String::from_utf8(sent(&mut crew, link, 1)).unwrap();
            let keys: Vec<&str> = requests.split("PUT /set/").skip(1).map(|rest| &rest[..16]).collect();
            assert!(10 < keys.len() && requests.matches(&format!("Host: {node}\r\n")).count() == keys.len());
            assert!(keys.iter().all(|key| circle.node_of(key.as_bytes()).index() == link), "{keys:?}");
        }
    }

    /// A worker's reads wait for its writes, and a round ends by itself.
    #[test]
    fn a_round_writes_and_then_reads() {
        let mut crew = crew(1, false);
        let rounds = Rounds::new(3, 0, 1, ValueSize::Fixed(20), Random::new(1, 1));
        crew.begin(Source::Rounds(rounds), 2, None, ALWAYS, Nanos(100));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(text(sent(&mut crew, 0, 110)).matches("SET").count(), 2);
        crew.arrived(0, b"+OK\r\n+OK\r\n", Nanos(200)).unwrap();
        assert_eq!(text(sent(&mut crew, 0, 210)).matches("ET\r\n").count(), 1, "one write is left");
        crew.arrived(0, b"+OK\r\n", Nanos(300)).unwrap();
        assert_eq!(text(sent(&mut crew, 0, 310)).matches("GET").count(), 2);
        let reply = |key: u64| {
            let mut reply = b"$20\r\n".to_vec();
            Form::Bytes.write(&mut reply, key, Version(1), 20);
            [&reply[..], b"\r\n"].concat()
        };
        crew.arrived(0, &[reply(0), reply(1)].concat(), Nanos(400)).unwrap();
        sent(&mut crew, 0, 410);
        crew.arrived(0, &reply(2), Nanos(500)).unwrap();
        assert!(crew.is_done());
        assert_eq!((crew.tally.operations, crew.tally.wrong.total()), ([3, 3], 0));
        let [reads, writes] = crew.tally.spans.map(|span| span.length().as_nanos());
        assert_eq!((reads, writes), (200, 200), "writes from 100 to 300, reads from 300 to 500");
    }
}
