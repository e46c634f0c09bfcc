//! A reading of a node: its answers at one moment.

use crate::{printable::printable, reply::Reply};
use std::collections::BTreeMap;

/// INFO of a node, as far as it is shown, and its slots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The server that the node is a core of; empty where there is no such thing.
    pub server: String,
    /// The number of the core in its server.
    pub core: Option<u16>,
    /// The number of the server's cores; 1 where it does not say.
    pub cores: u16,
    /// `trine 0.1.0`, `redis 7.0.15`, `valkey 8.0.1`.
    pub program: String,
    /// Another one after a restart.
    pub run_id: String,
    /// True if it copies another node.
    pub is_replica: bool,
    /// True if it still reads its files.
    pub is_loading: bool,
    /// True if it says that it is part of a cluster.
    pub is_cluster: bool,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Commands since its start.
    pub operations: u64,
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that found no key.
    pub misses: u64,
    /// Bytes in use.
    pub memory_bytes: u64,
    /// Keys in all databases.
    pub keys: u64,
    /// Clients that are connected.
    pub connections: u64,
    /// Bytes received.
    pub input_bytes: u64,
    /// Bytes sent.
    pub output_bytes: u64,
    /// Keys that were given up for want of memory.
    pub evicted: u64,
    /// Time that its core spent working, in microseconds: what it counts itself, else the CPU time of its main thread or process.
    pub busy_us: u64,
    /// By command.
    pub commands: BTreeMap<String, Command>,
    /// Its slots of most CPU time, or of most keys.
    pub slots: Vec<Slot>,
}

/// Counters of a command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Command {
    /// The number of calls.
    pub calls: u64,
    /// The time of all calls together, in microseconds.
    pub us: u64,
    /// The execution times since the start; empty if the server does not answer LATENCY HISTOGRAM.
    pub times: Histogram,
}

/// Counts by execution time. The key is the upper bound of a bucket, in microseconds.
pub type Histogram = BTreeMap<u64, u64>;

/// Counters of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slot {
    /// Its number.
    pub number: u16,
    /// Keys in it.
    pub keys: u64,
    /// CPU time spent on it, in microseconds, where that is counted.
    pub cpu_us: Option<u64>,
}

impl Reading {
    /// Reads INFO. What is not there counts as nothing: every server has fields of its own. Its texts may be printed.
    pub fn of(info: &str) -> Self {
        let info = printable(info);
        let fields: BTreeMap<&str, &str> =
            info.lines().filter_map(|line| line.trim_end_matches('\r').split_once(':')).collect();
        let text = |name: &str| fields.get(name).copied().unwrap_or_default();
        let number = |name: &str| text(name).parse::<u64>().unwrap_or_default();
        let seconds = |name: &str| text(name).parse::<f64>().ok().map(|seconds| (seconds * 1e6) as u64);
        let sum = |a: Option<u64>, b: Option<u64>| Some(a? + b?);
        let cpu = sum(seconds("used_cpu_user_main_thread"), seconds("used_cpu_sys_main_thread"))
            .or_else(|| sum(seconds("used_cpu_user"), seconds("used_cpu_sys")));
        let program = ["trine", "valkey", "redis"].iter().find_map(|name| {
            let version = fields.get(format!("{name}_version").as_str())?;
            Some(format!("{name} {version}"))
        });
        let databases = fields.iter().filter(|(name, _)| is_database(name));
        Self {
            server: text("trine_server").to_owned(),
            core: text("trine_core").parse().ok(),
            cores: text("trine_cores").parse().unwrap_or(1).max(1),
            program: program.unwrap_or_else(|| "unknown".into()),
            run_id: text("run_id").to_owned(),
            is_replica: ["slave", "replica"].contains(&text("role")),
            is_loading: text("loading") == "1",
            is_cluster: text("cluster_enabled") == "1",
            uptime_seconds: number("uptime_in_seconds"),
            operations: number("total_commands_processed"),
            hits: number("keyspace_hits"),
            misses: number("keyspace_misses"),
            memory_bytes: number("used_memory"),
            keys: databases.filter_map(|(_, value)| pair(value, "keys")?.parse::<u64>().ok()).sum(),
            connections: number("connected_clients"),
            input_bytes: number("total_net_input_bytes"),
            output_bytes: number("total_net_output_bytes"),
            evicted: number("evicted_keys"),
            busy_us: text("trine_busy_usec").parse().ok().or(cpu).unwrap_or_default(),
            commands: commands(&fields),
            slots: Vec::new(),
        }
    }
}

fn is_database(name: &str) -> bool {
    name.strip_prefix("db").is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The value of a name in `a=1,b=2`.
fn pair<'a>(pairs: &'a str, name: &str) -> Option<&'a str> {
    pairs.split(',').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn commands(fields: &BTreeMap<&str, &str>) -> BTreeMap<String, Command> {
    let mut commands: BTreeMap<String, Command> = BTreeMap::new();
    for (name, value) in fields {
        if let Some(name) = name.strip_prefix("cmdstat_") {
            let number = |name| pair(value, name).and_then(|text| text.parse().ok()).unwrap_or_default();
            let command = commands.entry(name.to_owned()).or_default();
            (command.calls, command.us) = (number("calls"), number("usec"));
        }
    }
    commands
}

/// Reads the reply to LATENCY HISTOGRAM: a histogram for each command; `None` if the reply is an error or has another form.
pub fn histograms(reply: &Reply<'_>) -> Option<BTreeMap<String, Histogram>> {
    let (Reply::Array(mut commands) | Reply::Map(mut commands)) = *reply else { return None };
    let mut histograms = BTreeMap::new();
    while let (Some(name), Some(counted)) = (commands.next(), commands.next()) {
        let (Reply::Bulk(name) | Reply::Simple(name)) = name else { return None };
        histograms.insert(String::from_utf8_lossy(name).into_owned(), histogram(&counted)?);
    }
    Some(histograms)
}

/// Reads one command's part of it. Its numbers are cumulative: calls that took no longer than a bound.
fn histogram(reply: &Reply<'_>) -> Option<Histogram> {
    let (Reply::Array(mut fields) | Reply::Map(mut fields)) = *reply else { return None };
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let (Reply::Bulk(b"histogram_usec") | Reply::Simple(b"histogram_usec")) = name else { continue };
        let (Reply::Array(mut steps) | Reply::Map(mut steps)) = value else { return None };
        let (mut histogram, mut before) = (Histogram::new(), 0);
        while let (Some(Reply::Integer(bound)), Some(Reply::Integer(sum))) = (steps.next(), steps.next()) {
            let (bound, sum) = (u64::try_from(bound).ok()?, u64::try_from(sum).ok()?);
            histogram.insert(bound, sum.saturating_sub(before));
            before = sum;
        }
        return Some(histogram);
    }
    None
}

/// Reads what CLUSTER SLOT-STATS answers: slots, each with names and numbers. Anything else has no slots.
pub fn slots(reply: &Reply<'_>) -> Vec<Slot> {
    let Reply::Array(elements) = reply else { return Vec::new() };
    elements.filter_map(|element| slot(&element)).collect()
}

fn slot(reply: &Reply<'_>) -> Option<Slot> {
    let Reply::Array(mut parts) = *reply else { return None };
    let (Some(Reply::Integer(number)), Some(Reply::Array(mut values) | Reply::Map(mut values))) =
        (parts.next(), parts.next())
    else {
        return None;
    };
    let mut slot = Slot { number: u16::try_from(number).ok()?, ..Slot::default() };
    while let (Some(name), Some(Reply::Integer(value))) = (values.next(), values.next()) {
        let value = u64::try_from(value).unwrap_or_default();
        match name {
            Reply::Bulk(b"key-count") | Reply::Simple(b"key-count") => slot.keys = value,
            Reply::Bulk(b"cpu-usec") | Reply::Simple(b"cpu-usec") => slot.cpu_us = Some(value),
            _ => {}
        }
    }
    Some(slot)
}
