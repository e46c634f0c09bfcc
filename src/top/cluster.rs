//! All nodes that are watched: what each said last, and whether it still says anything.

use super::{Address, members::Member, rates::Rates, reading::Reading};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// The number of intervals of throughput that are remembered: as many as the widest terminal shows.
const HISTORY_MAX: usize = 400;

/// A node, as far as it is known.
#[derive(Clone, Debug)]
pub struct Node {
    /// The node's address.
    pub address: Address,
    /// The number of slots that it owns.
    pub slots: u32,
    /// The state of its answers.
    pub health: Health,
    /// The last reading, and its time.
    pub last: Option<(Duration, Reading)>,
    /// The rates between its last two readings.
    pub rates: Option<Rates>,
    /// Commands a second, an interval each, the latest last.
    pub history: VecDeque<f64>,
}

/// The state of a node's answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Health {
    /// It has not been heard yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down {
        /// Since then, in the time of who watches.
        since: Duration,
        /// The last error.
        reason: String,
    },
}

/// The nodes, by the address that led to them.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// The nodes behind each of the addresses that were asked for.
    groups: BTreeMap<Address, Vec<Address>>,
    /// All of them, in the order in which they were found.
    pub nodes: Vec<Node>,
    /// Commands a second of all nodes, an interval each, the latest last.
    pub history: VecDeque<f64>,
}

impl Node {
    fn new(address: &str) -> Self {
        let (address, health) = (address.to_owned(), Health::Unknown);
        Self { address, slots: 0, health, last: None, rates: None, history: VecDeque::new() }
    }

    /// The server that it is a core of; empty where that is not known, or there is no such thing.
    pub fn server(&self) -> &str {
        self.last.as_ref().map_or("", |(_, reading)| reading.server.as_str())
    }
}

impl Cluster {
    /// Watches these addresses, each by itself until it is known what stands behind it.
    pub fn new(addresses: &[Address]) -> Self {
        let mut cluster = Self::default();
        for address in addresses {
            cluster.found(address, &[Member { address: address.clone(), slots: 0 }]);
        }
        cluster
    }

    /// An address led to these nodes. Who is not among those of any address any more is forgotten.
    pub fn found(&mut self, asked: &str, members: &[Member]) {
        self.groups.insert(asked.to_owned(), members.iter().map(|member| member.address.clone()).collect());
        for member in members {
            match self.nodes.iter_mut().find(|node| node.address == member.address) {
                Some(node) => node.slots = member.slots,
                None => self.nodes.push(Node { slots: member.slots, ..Node::new(&member.address) }),
            }
        }
        let groups = &self.groups;
        self.nodes.retain(|node| groups.values().flatten().any(|address| *address == node.address));
    }

    /// A node answered at `at`, or what kept it from that.
    pub fn heard(&mut self, address: &str, at: Duration, answer: Result<Reading, String>) {
        let Some(node) = self.nodes.iter_mut().find(|node| node.address == address) else { return };
        match answer {
            Ok(reading) => {
                let seconds = |before: Duration| at.saturating_sub(before).as_secs_f64();
                let last = node.last.as_ref().filter(|_| node.health == Health::Up);
                node.rates = last.and_then(|(before, last)| Rates::between(last, &reading, seconds(*before)));
                node.health = Health::Up;
                node.last = Some((at, reading));
            }
            Err(reason) => {
                let since = match node.health {
                    Health::Down { since, .. } => since,
                    _ => at,
                };
                node.health = Health::Down { since, reason };
                node.rates = None;
            }
        }
    }

    /// An interval is over: remembers what each node did in it.
    pub fn note_interval(&mut self) {
        let remember = |history: &mut VecDeque<f64>, operations: f64| {
            if history.len() == HISTORY_MAX {
                history.pop_front();
            }
            history.push_back(operations);
        };
        let mut total = 0.0;
        for node in &mut self.nodes {
            let operations = node.rates.as_ref().map_or(0.0, |rates| rates.operations);
            total += operations;
            remember(&mut node.history, operations);
        }
        if self.nodes.iter().any(|node| node.rates.is_some()) || !self.history.is_empty() {
            remember(&mut self.history, total);
        }
    }

    /// Returns true if each node has given two answers, or cannot give any.
    pub fn is_settled(&self) -> bool {
        let is_settled = |node: &Node| node.rates.is_some() || matches!(node.health, Health::Down { .. });
        !self.nodes.is_empty() && self.nodes.iter().all(is_settled)
    }
}
