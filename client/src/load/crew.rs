//! The workers of one executor: who asks for what on which connection, and what became of it. No socket, no clock.
//!
//! A *worker* is one client: it has up to `depth` requests in flight and a connection of its own to each node, so that C
//! workers have C × depth requests in flight whatever the number of nodes, as C real clients of the cluster would, and each
//! request goes to the owner of its key. In a closed loop it asks for the next `depth` when all have been answered, as who
//! executes a pipeline does: were each reply followed by a request at once, what goes to a node of several would soon be one
//! request at a time. Where all of a pipeline is to go to one node ([`Batch::Node`]), the first key decides which, and the others
//! are drawn until they are that node's: over time each key is as popular as it would be otherwise. The connections that are
//! idle meanwhile cost nothing on either ring. A *link* is one such connection, or the place where one will be.

use super::{
    first::FirstValues,
    freshness::{Epoch, Freshness},
    owners::Owners,
    reply::{Codec, Reply, authority},
    schedule::Schedule,
    source::Source,
    tally::Tally,
    target::Placement,
    value::{Form, Version},
    wire::Wire,
    workload::{Batch, Kind},
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

/// Instructions to a crew.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) workers: usize,
    /// The placement of keys on nodes, until a server says that slots count.
    pub(crate) placement: Placement,
    /// Follow MOVED, or 307.
    pub(crate) follow: bool,
    /// The keys are new: one that exists already is an error.
    pub(crate) is_fresh: bool,
    pub(crate) timeout: Duration,
    pub(crate) batch: Batch,
    /// A key that is not there is no wrong value: the server may evict.
    pub(crate) allow_misses: bool,
    /// In the upper bits of every version: which run and which executor wrote it.
    pub(crate) writer: u64,
}

/// The bits of a version that number an executor's writes.
pub(crate) const NUMBER_BITS: u32 = 40;

/// Requests of an open loop that were due while measuring.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Due {
    pub(crate) all: u64,
    /// Of these: never sent, because too many others were in flight.
    pub(crate) unsent: u64,
}

/// The workers of one executor.
pub(crate) struct Crew {
    orders: Orders,
    routing: Routing,
    owners: Owners,
    /// By node and then by worker: a node that turns up later is appended.
    links: Vec<Link>,
    /// Links that want to send.
    listed: Vec<u32>,
    wire: Wire,
    source: Source,
    form: Form,
    freshness: Freshness,
    /// The values seen so far, for an API where the first value of a key stays.
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
    /// In an open loop: requests due within the window that were sent.
    sent: u64,
    pub(crate) tally: Box<Tally>,
    /// Replies since the start, for those who watch.
    pub(crate) answered: u64,
    /// Requests that were sent to the wrong node, with where they go next.
    redirected: Vec<(Node, Request)>,
}

impl Crew {
    pub(crate) fn new(orders: Orders, routing: Routing, wire: Wire, keys: u64) -> Self {
        let owners = Owners::new(orders.placement.clone(), keys);
        let (form, first) = (wire.form(), wire.keeps_first().then(|| FirstValues::new(keys)));
        let mut crew = Self {
            orders,
            routing,
            owners,
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
            sent: 0,
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
        (self.source, self.schedule, self.window, self.sent) = (source, schedule, window, 0);
        self.idle.clear();
        self.depth = depth;
        self.room = vec![0; self.orders.workers];
        if self.schedule.is_none() {
            (0..self.orders.workers as u32).for_each(|worker| self.ask_together(worker, depth, now));
            return;
        }
        for _ in 0..depth {
            self.idle.extend(0..self.orders.workers as u32);
        }
    }

    /// Asks nothing more; what is in flight is waited for. Returns the requests of an open loop that were due within the
    /// window and before `now`.
    pub(crate) fn end(&mut self, now: Nanos) -> Due {
        self.source = Source::Nothing;
        let schedule = self.schedule.take();
        let unsent = schedule.map_or(0, |schedule| schedule.backlog(self.window.0, now.min(self.window.1)));
        Due { all: self.sent + unsent, unsent }
    }

    /// Ends the phase like [`end`](Self::end), before its time: replies from now on are not counted.
    pub(crate) fn cut(&mut self, now: Nanos) -> Due {
        self.window.1 = self.window.1.min(now);
        self.end(now)
    }

    /// Returns true if the phase has ended: nothing is in flight, and nothing more will be asked.
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
            self.sent += u64::from(self.is_counted(due));
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
            let count = std::mem::take(room);
            self.ask_together(worker, count, now);
        }
    }

    /// Draws the next `count` requests and sends them.
    #[inline]
    fn ask_together(&mut self, worker: u32, count: usize, now: Nanos) {
        let mut whole = None;
        for _ in 0..count {
            let next = match whole {
                None => self.source.next(worker),
                Some(node) => {
                    let Self { source, routing, owners, wire, .. } = self;
                    source.next_where(worker, |key| owners.owner(key, wire, routing) == node)
                }
            };
            let Some(next) = next else { continue };
            let node = self.send_new(worker, next, now, now);
            if self.orders.batch == Batch::Node {
                whole.get_or_insert(node);
            }
        }
    }

    /// Draws the next request and sends it.
    #[inline]
    fn ask(&mut self, worker: u32, due: Nanos, now: Nanos) {
        if let Some(next) = self.source.next(worker) {
            self.send_new(worker, next, due, now);
        }
    }

    /// Sends what has been drawn to the owner of its key, and returns that.
    #[inline]
    fn send_new(&mut self, worker: u32, (kind, key, length): (Kind, u64, u32), due: Nanos, now: Nanos) -> Node {
        let (number, epoch) = match kind {
            Kind::Set => self.freshness.sent(),
            Kind::Get => (0, self.freshness.floor(key)),
        };
        let request = Request { key, number, due, epoch, length, kind, redirections: 0 };
        let node = self.owners.owner(key, &mut self.wire, &self.routing);
        self.in_flight += 1;
        self.send(node.index() * self.orders.workers + worker as usize, request, now);
        node
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
            let is_others = self.form.is_others(value, request.key);
            *(if is_others { &mut self.tally.wrong.foreign } else { &mut self.tally.wrong.damaged }) += 1;
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
            self.owners.follow_slots();
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
mod tests;
