//! A row of the table: a node, a server with several, or all of them together.

use super::{
    cluster::{Cluster, Health, Node},
    rates::{HotSlot, Rates, percentile_us},
};
use serde::Serialize;
use std::time::Duration;

/// The order of rows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sort {
    /// The order in which the nodes were found: that of their slots.
    #[default]
    Found,
    /// Commands a second.
    Operations,
    /// Time that a command takes.
    Execution,
    /// The 99th percentile.
    P99,
    /// The load of its cores.
    Busy,
    /// Bytes.
    Memory,
    /// Keys.
    Keys,
    /// Clients.
    Connections,
    /// The share of reads that find their key.
    Hits,
}

/// The grouping of nodes into rows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Shape {
    /// Servers, and below each its cores.
    #[default]
    Tree,
    /// Servers only.
    Servers,
    /// Nodes only.
    Nodes,
}

/// The kind of a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Everything that is watched.
    Total,
    /// A server with several nodes.
    Server,
    /// A node: a core of a server, or a server that has no such thing.
    Node,
}

/// A row's condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Not heard yet.
    Unknown,
    /// It answers.
    Up,
    /// It answers, and still reads its files.
    Loading,
    /// Some of its nodes don't answer.
    Partly,
    /// It doesn't answer.
    Down,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The kind of the row.
    pub kind: Kind,
    /// The server's name; empty where it has none.
    pub server: String,
    /// The node's address; empty for what has several.
    pub address: String,
    /// The first text of its line.
    #[serde(skip)]
    pub label: String,
    /// Its condition.
    pub state: Condition,
    /// Since how many seconds, and why, it does not answer; or how many of its nodes don't.
    pub note: String,
    /// `trine 0.1.0`, of a node that was heard.
    pub program: String,
    /// True if it copies another node.
    pub is_replica: bool,
    /// The number of slots that it owns.
    pub slots: u32,
    /// Its figures; `None` where they are not known.
    #[serde(flatten)]
    pub figures: Option<Figures>,
    /// Commands a second, an interval each.
    #[serde(skip)]
    pub history: Vec<f64>,
}

/// The figures of the last interval, and the totals.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Commands a second.
    pub operations_per_second: f64,
    /// The mean execution time of a command, in microseconds.
    pub execution_us: Option<f64>,
    /// The 99th percentile of the time that a command was executed.
    pub p99_us: Option<f64>,
    /// The share of time that its cores worked.
    pub busy_share: f64,
    /// Bytes in use.
    pub memory_bytes: u64,
    /// Keys.
    pub keys: u64,
    /// Clients.
    pub connections: u64,
    /// The share of reads that found their key.
    pub hit_share: Option<f64>,
    /// Bytes received in a second.
    pub input_bytes_per_second: f64,
    /// Bytes sent in a second.
    pub output_bytes_per_second: f64,
    /// Keys given up in a second.
    pub evicted_per_second: f64,
    /// By command, the commonest first.
    pub commands: Vec<Command>,
    /// The slots that most was done for.
    pub hot_slots: Vec<HotSlot>,
}

/// A command's figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Command {
    /// Its name.
    pub name: String,
    /// Calls a second.
    pub calls_per_second: f64,
    /// The mean execution time, in microseconds.
    pub execution_us: f64,
    /// The median.
    pub p50_us: Option<f64>,
    /// The 99th percentile.
    pub p99_us: Option<f64>,
    /// The 99.9th percentile.
    pub p999_us: Option<f64>,
}

/// All rows in their order. `now` is the time in which nodes were heard.
pub fn rows(cluster: &Cluster, shape: Shape, sort: Sort, is_reversed: bool, now: Duration) -> Vec<Row> {
    let mut groups: Vec<Vec<&Node>> = Vec::new();
    for node in &cluster.nodes {
        let is_mate = |group: &&mut Vec<&Node>| !node.server().is_empty() && group[0].server() == node.server();
        match groups.iter_mut().find(is_mate).filter(|_| shape != Shape::Nodes) {
            Some(group) => group.push(node),
            None => groups.push(vec![node]),
        }
    }
    let mut trees: Vec<(Row, Vec<Row>)> = groups.iter().map(|group| tree(group, shape, now)).collect();
    let key = |row: &Row| key(row, sort);
    if sort != Sort::Found {
        trees.sort_by(|a, b| key(&b.0).total_cmp(&key(&a.0)));
        trees.iter_mut().for_each(|(_, nodes)| nodes.sort_by(|a, b| key(b).total_cmp(&key(a))));
    }
    if is_reversed {
        trees.reverse();
        trees.iter_mut().for_each(|(_, nodes)| nodes.reverse());
    }
    trees.into_iter().flat_map(|(first, others)| std::iter::once(first).chain(others)).collect()
}

/// The row of all nodes together.
pub fn total(cluster: &Cluster, now: Duration) -> Row {
    let nodes: Vec<&Node> = cluster.nodes.iter().collect();
    Row {
        kind: Kind::Total,
        label: "all".into(),
        server: String::new(),
        history: cluster.history.iter().copied().collect(),
        ..several(&nodes, now)
    }
}

fn tree(nodes: &[&Node], shape: Shape, now: Duration) -> (Row, Vec<Row>) {
    let [only] = nodes else {
        let mates = if shape == Shape::Tree { nodes } else { &[] };
        let below = |node: &&Node| {
            let core = node.last.as_ref().and_then(|(_, reading)| reading.core);
            let core = core.map_or("?".into(), |core| core.to_string());
            Row { label: format!("  {core} {}", node.address), ..one(node, now) }
        };
        return (several(nodes, now), mates.iter().map(below).collect());
    };
    let row = one(only, now);
    let label = if row.server.is_empty() { row.address.clone() } else { format!("{} {}", row.server, row.address) };
    (Row { label, ..row }, Vec::new())
}

fn one(node: &Node, now: Duration) -> Row {
    let reading = node.last.as_ref().map(|(_, reading)| reading);
    let (state, note) = match &node.health {
        Health::Unknown => (Condition::Unknown, "asking".to_owned()),
        Health::Up if reading.is_some_and(|reading| reading.is_loading) => {
            (Condition::Loading, "reads its files".into())
        }
        Health::Up => (Condition::Up, String::new()),
        Health::Down { since, reason } => {
            (Condition::Down, format!("down for {} s: {reason}", now.saturating_sub(*since).as_secs()))
        }
    };
    Row {
        kind: Kind::Node,
        server: node.server().to_owned(),
        address: node.address.clone(),
        label: node.address.clone(),
        state,
        note,
        program: reading.map(|reading| reading.program.clone()).unwrap_or_default(),
        is_replica: reading.is_some_and(|reading| reading.is_replica),
        slots: node.slots,
        figures: figures(&[node]),
        history: node.history.iter().copied().collect(),
    }
}

fn several(nodes: &[&Node], now: Duration) -> Row {
    let down = nodes.iter().filter(|node| matches!(node.health, Health::Down { .. })).count();
    let figures = figures(nodes);
    let (state, note) = match down {
        0 if figures.is_none() => (Condition::Unknown, "asking".to_owned()),
        0 => (Condition::Up, String::new()),
        down if down == nodes.len() => {
            (Condition::Down, nodes.first().map(|node| one(node, now).note).unwrap_or_default())
        }
        down => (Condition::Partly, format!("{down} of {} down", nodes.len())),
    };
    let server = nodes.first().map(|node| node.server().to_owned()).unwrap_or_default();
    let length = nodes.iter().map(|node| node.history.len()).max().unwrap_or(0);
    // The latest intervals are the same ones on all nodes.
    let at = |position: usize| {
        let of = |node: &&Node| {
            (position + node.history.len()).checked_sub(length).and_then(|at| node.history.get(at).copied())
        };
        nodes.iter().filter_map(of).sum()
    };
    Row {
        kind: Kind::Server,
        label: match state {
            Condition::Partly => format!("{server} ({note})"),
            _ => format!("{server} ({} cores)", nodes.len()),
        },
        server,
        address: String::new(),
        state,
        note,
        program: nodes
            .iter()
            .find_map(|node| node.last.as_ref())
            .map(|(_, reading)| reading.program.clone())
            .unwrap_or_default(),
        is_replica: false,
        slots: nodes.iter().map(|node| node.slots).sum(),
        figures,
        history: (0..length).map(at).collect(),
    }
}

/// Returns the sums of the nodes that answer; `None` where none is known to have done anything.
fn figures(nodes: &[&Node]) -> Option<Figures> {
    let (mut rates, mut figures) = (Rates::default(), Figures::default());
    let mut is_known = false;
    for node in nodes {
        let (Health::Up, Some((_, reading)), Some(more)) = (&node.health, &node.last, &node.rates) else { continue };
        is_known = true;
        rates.add(more);
        figures.memory_bytes += reading.memory_bytes;
        figures.keys += reading.keys;
        figures.connections += reading.connections;
    }
    let command = |(name, rate): (&String, &super::rates::CommandRate)| Command {
        name: name.clone(),
        calls_per_second: rate.calls,
        execution_us: rate.us / rate.calls,
        p50_us: percentile_us(&rate.times, 50.0),
        p99_us: percentile_us(&rate.times, 99.0),
        p999_us: percentile_us(&rate.times, 99.9),
    };
    let mut commands: Vec<_> = rates.commands.iter().map(command).collect();
    commands.sort_by(|a, b| b.calls_per_second.total_cmp(&a.calls_per_second).then_with(|| a.name.cmp(&b.name)));
    is_known.then(|| Figures {
        operations_per_second: rates.operations,
        execution_us: rates.us_per_call(),
        p99_us: rates.p99_us(),
        busy_share: rates.busy_share(),
        hit_share: rates.hit_share(),
        input_bytes_per_second: rates.input_bytes,
        output_bytes_per_second: rates.output_bytes,
        evicted_per_second: rates.evicted,
        commands,
        hot_slots: rates.slots,
        ..figures
    })
}

/// Returns the sort key of a row. A row of which nothing is known comes last.
fn key(row: &Row, sort: Sort) -> f64 {
    let Some(figures) = &row.figures else { return -1.0 };
    match sort {
        Sort::Found => 0.0,
        Sort::Operations => figures.operations_per_second,
        Sort::Execution => figures.execution_us.unwrap_or(0.0),
        Sort::P99 => figures.p99_us.unwrap_or(0.0),
        Sort::Busy => figures.busy_share,
        Sort::Memory => figures.memory_bytes as f64,
        Sort::Keys => figures.keys as f64,
        Sort::Connections => figures.connections as f64,
        Sort::Hits => figures.hit_share.unwrap_or(0.0),
    }
}
