//! What happened between two readings of a node, and of several nodes together.

use super::reading::{Reading, Slot};
use serde::Serialize;
use std::collections::BTreeMap;

/// What happened in a second, on average.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// Commands.
    pub operations: f64,
    /// Commands by name.
    pub commands: BTreeMap<String, CommandRate>,
    /// Reads that found their key, and those that did not.
    pub hits: f64,
    /// ... that did not.
    pub misses: f64,
    /// Seconds of work, by each of [`cores`](Self::cores) cores together.
    pub busy: f64,
    /// How many cores that was.
    pub cores: f64,
    /// Bytes received.
    pub input_bytes: f64,
    /// Bytes sent.
    pub output_bytes: f64,
    /// Keys that were given up for want of memory.
    pub evicted: f64,
    /// The slots that most was done for.
    pub slots: Vec<HotSlot>,
}

/// A command, in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CommandRate {
    /// How often.
    pub calls: f64,
    /// How many microseconds were spent on it.
    pub us: f64,
    /// Percentiles since the server's start; of several servers the highest.
    pub percentiles_us: Option<[f64; 3]>,
}

/// A slot that much is done for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct HotSlot {
    /// Its number.
    pub slot: u16,
    /// Keys in it.
    pub keys: u64,
    /// The share of its core's time that was spent on it, where that is counted.
    pub cpu_share: Option<f64>,
}

impl Rates {
    /// What happened between two readings, `seconds` apart. `None` where that can't be known: the server was started again
    /// between them, or its counters were reset.
    pub fn between(before: &Reading, after: &Reading, seconds: f64) -> Option<Self> {
        if before.run_id != after.run_id || seconds <= 0.0 || after.operations < before.operations {
            return None;
        }
        let per_second = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        let commands = after.commands.iter().filter_map(|(name, now)| {
            let then = before.commands.get(name).copied().unwrap_or_default();
            let (calls, us) = (per_second(then.calls, now.calls), per_second(then.us, now.us));
            (0.0 < calls).then(|| (name.clone(), CommandRate { calls, us, percentiles_us: now.percentiles_us }))
        });
        Some(Self {
            operations: per_second(before.operations, after.operations),
            commands: commands.collect(),
            hits: per_second(before.hits, after.hits),
            misses: per_second(before.misses, after.misses),
            busy: per_second(before.busy_us, after.busy_us) / 1e6,
            // A gateway speaks for all cores of its server, a core's port for one.
            cores: if after.is_cluster || after.server.is_empty() { 1.0 } else { f64::from(after.cores) },
            input_bytes: per_second(before.input_bytes, after.input_bytes),
            output_bytes: per_second(before.output_bytes, after.output_bytes),
            evicted: per_second(before.evicted, after.evicted),
            slots: hot(&before.slots, &after.slots, seconds),
        })
    }

    /// Adds what happened on another node.
    pub fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        for (name, more) in &other.commands {
            let command = self.commands.entry(name.clone()).or_default();
            command.calls += more.calls;
            command.us += more.us;
            command.percentiles_us = match (command.percentiles_us, more.percentiles_us) {
                (Some(mine), Some(others)) => Some([0, 1, 2].map(|index| mine[index].max(others[index]))),
                (mine, others) => mine.or(others),
            };
        }
        self.hits += other.hits;
        self.misses += other.misses;
        self.busy += other.busy;
        self.cores += other.cores;
        self.input_bytes += other.input_bytes;
        self.output_bytes += other.output_bytes;
        self.evicted += other.evicted;
        self.slots.extend(&other.slots);
        order(&mut self.slots);
    }

    /// The share of time that a core worked, on average.
    pub fn busy_share(&self) -> f64 {
        if self.cores == 0.0 { 0.0 } else { self.busy / self.cores }
    }

    /// The share of reads that found their key; `None` where nothing was read.
    pub fn hit_share(&self) -> Option<f64> {
        let reads = self.hits + self.misses;
        (0.0 < reads).then(|| self.hits / reads)
    }

    /// How long a command was executed, on average, in microseconds.
    pub fn us_per_call(&self) -> Option<f64> {
        let (calls, us) =
            self.commands.values().fold((0.0, 0.0), |(calls, us), command| (calls + command.calls, us + command.us));
        (0.0 < calls).then(|| us / calls)
    }

    /// The 99th percentile of the command that is executed most often, since its server's start.
    pub fn p99_us(&self) -> Option<f64> {
        let counted = self.commands.values().filter(|command| command.percentiles_us.is_some());
        let most = counted.max_by(|a, b| a.calls.total_cmp(&b.calls))?;
        most.percentiles_us.map(|[_, p99, _]| p99)
    }
}

fn hot(before: &[Slot], after: &[Slot], seconds: f64) -> Vec<HotSlot> {
    let share = |slot: &Slot| {
        let then = before.iter().find(|then| then.number == slot.number)?.cpu_us?;
        Some(slot.cpu_us?.saturating_sub(then) as f64 / 1e6 / seconds)
    };
    let of = |slot: &Slot| HotSlot { slot: slot.number, keys: slot.keys, cpu_share: share(slot) };
    let mut slots: Vec<_> = after.iter().map(of).filter(|slot| 0 < slot.keys || slot.cpu_share.is_some()).collect();
    order(&mut slots);
    slots
}

/// The hottest first; where that isn't counted, the largest.
fn order(slots: &mut [HotSlot]) {
    let heat = |slot: &HotSlot| slot.cpu_share.unwrap_or(0.0);
    slots.sort_by(|a, b| heat(b).total_cmp(&heat(a)).then(b.keys.cmp(&a.keys)).then(a.slot.cmp(&b.slot)));
}
