//! Clients: what they ask, in pipelines, and what they make of the replies.

use super::{
    model::{Model, Told, Watched},
    plan::Plan,
    tally::Tally,
    world::World,
};
use crate::{
    client::{Client, Port},
    commands::{Now, Outcome},
    resp::{Decoder, Limits, Request, encode_request},
    session::{Answer, Backpressure, Executor, Session, Ticket},
    shard::{Execution, Resolved, Shard},
    wal::Lsn,
};
use std::collections::VecDeque;

/// Requests that a client has under way at most.
const PIPELINE_MAX: usize = 16;

/// A reply that a client is owed.
struct Owed {
    reply: Vec<u8>,
    /// The last command whose effects it shows.
    tells: u64,
}

/// A client, its connection, and its session.
pub(super) struct Connection {
    pub(super) session: Session,
    client: Client,
    plan: Plan,
    pub(super) backpressure: Backpressure,
    /// Sent by the client and not received yet.
    on_the_way: Vec<u8>,
    asked: usize,
    owed: VecDeque<Owed>,
    transaction: Transaction,
    pub(super) is_sending: bool,
    pub(super) is_touched: bool,
    pub(super) is_paused: bool,
    pub(super) held_until: Lsn,
}

impl Connection {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            session: Session::default(),
            client: Client::new(1, "127.0.0.1:50000", "127.0.0.1:7000", Port::Gateway, true, 0),
            plan: plan.clone(),
            backpressure: Backpressure { output_bytes_max: plan.output_bytes_max, waiting_max: 64 },
            on_the_way: Vec::new(),
            asked: 0,
            owed: VecDeque::new(),
            transaction: Transaction::default(),
            is_sending: false,
            is_touched: false,
            is_paused: false,
            held_until: Lsn(0),
        }
    }

    /// Sends a few requests, or thinks about it.
    pub(super) fn ask(&mut self, world: &mut World) {
        if PIPELINE_MAX <= self.asked || world.random.u8(..) < 180 {
            return;
        }
        for _ in 0..world.random.usize(1..=5) {
            for words in self.plan.requests(&mut world.random) {
                encode_request(&mut self.on_the_way, words.iter().map(Vec::as_slice));
                self.asked += 1;
            }
        }
    }

    pub(super) fn has_sent_something(&self) -> bool {
        !self.on_the_way.is_empty()
    }

    /// What arrives next: all that is on its way, or a part.
    pub(super) fn arrived(&mut self, random: &mut fastrand::Rng) -> Vec<u8> {
        let whole = self.on_the_way.len();
        let length = if random.bool() { whole } else { random.usize(1..=whole) };
        let rest = self.on_the_way.split_off(length);
        std::mem::replace(&mut self.on_the_way, rest)
    }

    /// Executes what has arrived.
    pub(super) fn receive(&mut self, world: &mut World, shard: &mut Shard, decoder: &mut Decoder, bytes: &[u8]) {
        let World { model, tally, now, .. } = world;
        let mut turn = Turn {
            shard,
            client: &mut self.client,
            now: *now,
            model,
            tally,
            owed: &mut self.owed,
            transaction: &mut self.transaction,
        };
        let received = self.session.receive(bytes, decoder, &self.backpressure, &mut turn);
        received.expect("clients send requests");
    }

    /// Takes replies that have left: from here on, the client knows.
    pub(super) fn take(&mut self, world: &mut World, mut output: &[u8]) {
        while !output.is_empty() {
            let Owed { reply, tells } = self.owed.pop_front().expect("a request has one reply");
            output = output.strip_prefix(&reply[..]).expect("replies leave whole and in the order of their requests");
            self.asked -= 1;
            world.model.acknowledged(tells);
            world.tally.note("replies");
        }
    }

    /// Whether nothing is left to be answered.
    pub(super) fn is_served(&self) -> bool {
        self.asked == 0 && self.session.output.is_empty()
    }
}

/// Executes the requests of one connection, and says what the replies must be.
struct Turn<'a> {
    shard: &'a mut Shard,
    client: &'a mut Client,
    now: Now,
    model: &'a mut Model,
    tally: &'a mut Tally,
    owed: &'a mut VecDeque<Owed>,
    transaction: &'a mut Transaction,
}

/// A transaction as its client knows it.
#[derive(Default)]
struct Transaction {
    watched: Vec<Watched>,
    queued: Option<Vec<Vec<Vec<u8>>>>,
}

impl Executor for Turn<'_> {
    type Resolved = Resolved;

    fn limits(&self) -> Limits {
        Limits { arguments_max: 1000, argument_bytes_max: 64 << 20, is_authenticated: true }
    }

    fn fetch_foreseen(&mut self) {
        self.shard.store.fetch_foreseen();
    }

    fn resolve(&self, request: Request<'_>) -> Resolved {
        self.shard.resolve(request)
    }

    fn foresee(&mut self, request: Request<'_>, resolved: &Resolved) {
        self.shard.foresee(request, resolved);
    }

    fn is_stalled(&self) -> bool {
        self.shard.is_stalled()
    }

    fn execute(&mut self, request: Request<'_>, resolved: Resolved, output: &mut Vec<u8>, _: Ticket) -> Answer {
        let start = output.len();
        let before = self.end();
        let execution = self.shard.execute_resolved(request, resolved, self.client, self.now, output);
        assert_eq!(execution, Execution::Done(Outcome::Done), "a shard that is alone answers everything there");
        let words: Vec<_> = request.args_from(0).collect();
        let (end, name) = (self.end(), words[0].escape_ascii());
        let told = self.tell(&words, &output[start..], (before < end).then_some(end));
        self.model.note_expiries(end);
        assert!(output[start..] == told.reply, "{name} was answered with {}", output[start..].escape_ascii());
        self.owed.push_back(Owed { reply: told.reply, tells: told.tells });
        if self.shard.told.is_none() {
            return Answer::Here;
        }
        self.tally.note(if before < end { "replies to writes that waited" } else { "replies to reads that waited" });
        Answer::Held(self.shard.told)
    }
}

impl Turn<'_> {
    /// What a request is to be answered. `reply`: what it was answered, which tells whether a transaction was executed.
    fn tell(&mut self, words: &[&[u8]], reply: &[u8], end: Option<Lsn>) -> Told {
        let now = self.now.unix_millis();
        let known = |reply: &[u8]| Told { reply: reply.to_vec(), tells: 0 };
        match (words, &mut self.transaction.queued) {
            ([b"EXEC"], queued) => {
                let queued = queued.take().expect("MULTI comes first");
                let watched = std::mem::take(&mut self.transaction.watched);
                if reply == b"*-1\r\n" {
                    assert!(!watched.is_empty(), "a transaction without WATCH is executed");
                    self.tally.note("transactions that a watched key stopped");
                    return known(reply);
                }
                let is_stopped = watched.iter().any(|watched| self.model.has_changed(watched, now));
                assert!(!is_stopped, "a transaction was executed though a watched key has changed");
                self.tally.note_if(!watched.is_empty(), "transactions that no watched key stopped");
                self.tally.note_if(end.is_some(), "transactions that wrote");
                self.model.execute_all(&queued, now, end)
            }
            (words, Some(queued)) => {
                queued.push(words.iter().map(|word| word.to_vec()).collect());
                known(b"+QUEUED\r\n")
            }
            ([b"MULTI"], queued) => {
                *queued = Some(Vec::new());
                known(b"+OK\r\n")
            }
            ([b"WATCH", key], _) => {
                self.transaction.watched.push(self.model.watch(key, now));
                known(b"+OK\r\n")
            }
            (words, _) => self.model.execute(words, now, end),
        }
    }

    fn end(&self) -> Lsn {
        self.shard.store.log.as_ref().expect("a process has a log").end()
    }
}
