//! Three servers, a store and a network, from one seed.

mod clients;
mod network;
mod trouble;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::super::{
    Output, Side,
    commit::Fate,
    duty::{Action, Order as Told},
    lease::Timing,
    message::Decoder,
};
use super::node::{Node, Order, Read, Write, core};
use crate::{
    slot::Slot,
    topology::{
        Server,
        document::{Document, SlotRange},
        placement,
        steps::Step,
    },
    wal::Lsn,
};

const NODES: usize = 3;
const KEYS: usize = 3;
/// A step of the world takes so long, by the world's own clock.
const STEP_US: u64 = 1000;

pub(super) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// The kinds of trouble of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix {
    steps: usize,
    lease: u64,
    /// A crash in so many steps, and so on.
    crash: usize,
    pause: usize,
    cut: usize,
    breaks: usize,
    lost_disk: usize,
    moves: usize,
    /// Pieces of bytes that are delivered in a step, at most.
    deliveries: usize,
    is_store_slow: bool,
    copies: u16,
}

impl Mix {
    pub(super) fn drawn(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0xd134_2543_de82_ef95) | 1);
        (0..8).for_each(|_| _ = random.next());
        let mut one = |choices: [usize; 3]| choices[random.below(3)];
        Self {
            steps: 4000,
            lease: one([60, 150, 400]) as u64,
            crash: one([150, 500, 3000]),
            pause: one([120, 400, 3000]),
            cut: one([250, 800, 4000]),
            breaks: one([60, 300, 3000]),
            lost_disk: one([40, 200, 1_000_000]),
            moves: one([20, 100, 1000]),
            deliveries: one([5, 12, 30]),
            is_store_slow: one([0, 0, 1]) == 1,
            copies: one([2, 2, 3]) as u16,
        }
    }
}

/// A connection from a primary's core to a copy's.
#[derive(Default)]
struct Wire {
    /// Both ends: the primary's and the copy's.
    is_open: [bool; 2],
    /// Bytes on their way to each end; `None`: the sender has closed.
    to: [VecDeque<Option<Vec<u8>>>; 2],
    decoder: [Decoder; 2],
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) writes: u64,
    pub(super) reads: u64,
    pub(super) crashes: u64,
    pub(super) disks_lost: u64,
    pub(super) takeovers: u64,
    pub(super) hand_overs: u64,
    pub(super) promotions: u64,
    pub(super) demotions: u64,
    pub(super) breaks: u64,
    pub(super) revisions: u64,
}

impl Tally {
    fn all(&mut self) -> [(&'static str, &mut u64); 10] {
        [
            ("writes", &mut self.writes),
            ("reads", &mut self.reads),
            ("crashes", &mut self.crashes),
            ("disks lost", &mut self.disks_lost),
            ("takeovers", &mut self.takeovers),
            ("hand-overs", &mut self.hand_overs),
            ("promotions", &mut self.promotions),
            ("demotions", &mut self.demotions),
            ("breaks", &mut self.breaks),
            ("revisions", &mut self.revisions),
        ]
    }

    pub(super) fn add(&mut self, other: &Self) {
        let mut other = *other;
        for ((_, sum), (_, more)) in self.all().into_iter().zip(other.all()) {
            *sum += *more;
        }
    }

    pub(super) fn is_any_zero(mut self) -> Option<&'static str> {
        self.all().into_iter().find(|(_, count)| **count == 0).map(|(name, _)| name)
    }
}

pub(super) struct World {
    time: u64,
    nodes: Vec<Node>,
    wires: BTreeMap<(usize, usize), Wire>,
    store: Arc<Document>,
    proposals: Vec<(usize, Arc<Document>)>,
    answers: Vec<(usize, u32, Option<Arc<Document>>)>,
    /// No bytes go from one to another; the last is the store.
    cut: [[bool; NODES + 1]; NODES + 1],
    slots: Vec<Slot>,
    tags: BTreeMap<Slot, String>,
    /// Of each key, the last place that anybody has been told of, and its removals.
    seen: BTreeMap<(Slot, usize), Order>,
    removals: BTreeMap<(Slot, usize), BTreeSet<Order>>,
    made: BTreeMap<(u32, Slot), Order>,
    next_id: u32,
    /// Slots that were read or written lately.
    served: BTreeSet<(Slot, bool)>,
    is_trouble: bool,
    mix: Mix,
    timing: Timing,
    random: Random,
    pub(super) tally: Tally,
    pub(super) wrong: Option<String>,
}

impl World {
    pub(super) fn new(seed: u64, mix: Mix) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..8).for_each(|_| _ = random.next());
        let server = |number: usize| {
            let port = 7000 + 100 * u16::try_from(number).unwrap();
            Server { name: format!("s{number}"), host: "127.0.0.1".into(), port, core_port: port + 1, cores: 1 }
        };
        let document = Document::plan((0..NODES).map(server).collect(), mix.copies).unwrap();
        let mut slots: Vec<Slot> =
            document.ranges().iter().map(|range| Slot::new(range.slots.first()).unwrap()).collect();
        slots.extend(document.ranges().iter().map(|range| Slot::new(range.slots.last()).unwrap()).take(2));
        let tag =
            |slot: Slot| (0..).map(|n: u32| format!("{{{n}}}")).find(|tag| Slot::of(tag.as_bytes()) == slot).unwrap();
        let tags = slots.iter().map(|&slot| (slot, tag(slot))).collect();
        let timing = Timing { lease_us: mix.lease * STEP_US };
        let rates = [90, 100, 110];
        let clock = |random: &mut Random| (random.below(1_000_000) as u64, rates[random.below(3)]);
        let nodes = (0..NODES).map(|number| Node::new(number, clock(&mut random), timing, random.next())).collect();
        Self {
            time: 0,
            nodes,
            wires: BTreeMap::new(),
            store: Arc::new(document),
            proposals: Vec::new(),
            answers: Vec::new(),
            cut: Default::default(),
            slots,
            tags,
            seen: BTreeMap::new(),
            removals: BTreeMap::new(),
            made: BTreeMap::new(),
            next_id: 1,
            served: BTreeSet::new(),
            is_trouble: false,
            mix,
            timing,
            random,
            tally: Tally::default(),
            wrong: None,
        }
    }

    fn time_us(&self) -> u64 {
        self.time * STEP_US
    }

    fn fail(&mut self, text: String) {
        if self.wrong.is_none() {
            self.wrong = Some(format!("step {}: {text}", self.time));
        }
    }

    /// Lets the cluster form, gives it trouble, ends the trouble, and sees whether it heals.
    pub(super) fn run(&mut self, is_healed: bool) {
        for node in 0..NODES {
            self.start(node);
        }
        for step in 0..self.mix.steps {
            self.is_trouble = 300 < step;
            if self.is_trouble {
                self.trouble();
            }
            self.step();
            if self.wrong.is_some() {
                return;
            }
        }
        if is_healed {
            self.heal();
        }
    }

    fn heal(&mut self) {
        self.is_trouble = false;
        self.cut = Default::default();
        for node in 0..NODES {
            self.nodes[node].paused_until = 0;
            if !self.nodes[node].is_up {
                self.start(node);
            }
        }
        let mut unserved: BTreeSet<(Slot, bool)> =
            self.slots.iter().flat_map(|&slot| [(slot, false), (slot, true)]).collect();
        for step in 0..20_000 {
            self.step();
            if self.wrong.is_some() {
                return;
            }
            if step % 100 == 0 {
                self.place();
                if step < 1000 {
                    self.served.clear();
                }
                self.served.iter().for_each(|what| _ = unserved.remove(what));
                let is_whole = self.store.ranges().iter().all(|range| {
                    let wanted = usize::from(self.store.copies());
                    self.store.servers_in_sync(&range.copies) == wanted && range.copies.joining.is_empty()
                });
                if unserved.is_empty() && is_whole {
                    return;
                }
            }
        }
        let document = self.store.to_toml();
        if std::env::var("TRINE_TRACE").is_ok() {
            for node in &self.nodes {
                println!("{}", node.describe(node.now(self.time_us()), &self.slots));
            }
        }
        self.fail(format!("it does not heal: {unserved:?}\n{document}"));
    }

    fn start(&mut self, node: usize) {
        let (time, timing, seed) = (self.time_us(), self.timing, self.random.next());
        self.nodes[node].start(time, timing, seed);
    }

    /// One step of everything.
    fn step(&mut self) {
        self.time += 1;
        if self.random.one_in(40) {
            self.time += self.random.below(12) as u64;
        }
        for _ in 0..if self.is_trouble { self.mix.deliveries } else { 30 } {
            let (from, to, end) = (self.random.below(NODES), self.random.below(NODES), self.random.below(2));
            self.deliver(from, to, end);
        }
        for _ in 0..2 {
            if !self.mix.is_store_slow || self.random.one_in(20) {
                self.store_step();
            }
            self.answer_step();
        }
        for node in 0..NODES {
            if self.nodes[node].is_live(self.time) {
                self.turn(node);
            }
        }
    }

    fn turn(&mut self, node: usize) {
        let now = self.nodes[node].now(self.time_us());
        let actor = self.random.below(10);
        match actor {
            0..=2 => self.client_write(node),
            3 | 4 => self.client_read(node),
            5 => {
                let tags = self.tags.clone();
                self.nodes[node].execute_read(now, |slot, key| key_of(&tags, slot, key));
            }
            6 => {
                let end = self.nodes[node].data.synced + self.nodes[node].data.unsynced();
                self.nodes[node].data.synced = end;
                self.nodes[node].replication.persisted(Lsn(end as u64));
            }
            _ => self.reply(node),
        }
        if self.random.one_in(2) {
            let Node { replication, data, duty, .. } = &mut self.nodes[node];
            replication.turn(None, now, data);
            let (suspects, wishes) = (replication.suspects(now), replication.wishes(now));
            let revision = replication.document().map_or(0, |document| document.revision().number());
            let wishes = if revision == 0 { Vec::new() } else { wishes };
            duty.tick(now.monotonic_us, &suspects, wishes);
        }
        self.pump(node);
    }
}

fn key_of(tags: &BTreeMap<Slot, String>, slot: Slot, key: usize) -> Vec<u8> {
    format!("{}{key}", tags[&slot]).into_bytes()
}
