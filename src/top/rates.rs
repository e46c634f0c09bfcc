//! Rates between two readings of a node, and of several nodes together.

use super::reading::{Histogram, Reading, Slot};
use serde::Serialize;
use std::collections::BTreeMap;

/// Counts per second, on average.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// Commands.
    pub operations: f64,
    /// Commands by name.
    pub commands: BTreeMap<String, CommandRate>,
    /// Reads that found their key.
    pub hits: f64,
    /// Reads that found no key.
    pub misses: f64,
    /// Seconds of work, by each of [`cores`](Self::cores) cores together.
    pub busy: f64,
    /// The number of cores that `busy` is of.
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandRate {
    /// Calls per second.
    pub calls: f64,
    /// Microseconds that were spent on it per second.
    pub us: f64,
    /// The execution times of all calls of the interval; empty if they are not known.
    pub times: Histogram,
}

/// The commands by which servers are watched. They are left out of the figures of a row: on a server with little else to do
/// they would be its 99th percentile.
const WATCHING: [&str; 3] = ["cluster|slot-stats", "info", "latency|histogram"];

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
    /// Returns the rates between two readings, `seconds` apart. `None` where they can't be known: the server was started again
    /// between them, or its counters were reset.
    pub fn between(before: &Reading, after: &Reading, seconds: f64) -> Option<Self> {
        if before.run_id != after.run_id || seconds <= 0.0 || after.operations < before.operations {
            return None;
        }
        let per_second = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        let commands = after.commands.iter().filter_map(|(name, now)| {
            let then = before.commands.get(name).cloned().unwrap_or_default();
            let (calls, us) = (per_second(then.calls, now.calls), per_second(then.us, now.us));
            let count_before = |bound| then.times.get(bound).copied().unwrap_or(0);
            let times = now.times.iter().map(|(bound, count)| (*bound, count.saturating_sub(count_before(bound))));
            let times = times.filter(|(_, count)| 0 < *count).collect();
            (0.0 < calls).then(|| (name.clone(), CommandRate { calls, us, times }))
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
            add_times(&mut command.times, &more.times);
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

    /// Returns the mean execution time of a command, in microseconds.
    pub fn us_per_call(&self) -> Option<f64> {
        let (calls, us) =
            self.served().fold((0.0, 0.0), |(calls, us), command| (calls + command.calls, us + command.us));
        (0.0 < calls).then(|| us / calls)
    }

    /// The 99th percentile of the execution times of all commands, in microseconds.
    pub fn p99_us(&self) -> Option<f64> {
        let mut times = Histogram::new();
        self.served().for_each(|command| add_times(&mut times, &command.times));
        percentile_us(&times, 99.0)
    }

    fn served(&self) -> impl Iterator<Item = &CommandRate> {
        self.commands.iter().filter(|(name, _)| !WATCHING.contains(&name.as_str())).map(|(_, command)| command)
    }
}

fn add_times(times: &mut Histogram, more: &Histogram) {
    more.iter().for_each(|(bound, count)| *times.entry(*bound).or_default() += count);
}

/// Returns a percentile in microseconds; `None` if nothing was counted. Servers count in buckets of powers of two, so it is
/// interpolated within one, as if the times in a bucket were spread evenly. A larger percentile is never smaller.
pub fn percentile_us(times: &Histogram, percent: f64) -> Option<f64> {
    let needed = times.values().sum::<u64>() as f64 * percent / 100.0;
    let (mut sum, mut last) = (0.0, 0.0);
    for (&bound, &count) in times.iter().filter(|(_, count)| 0 < **count) {
        let (upper, count) = (bound as f64, count as f64);
        // The first bucket has all that took less than a microsecond. Servers with other bounds may overlap this one's.
        let lower = if bound <= 1 { 0.0 } else { f64::max(upper / 2.0, last) };
        if needed <= sum + count {
            return Some(lower + (upper - lower) * (needed - sum) / count);
        }
        (sum, last) = (sum + count, upper);
    }
    (0.0 < sum).then_some(last)
}

fn hot(before: &[Slot], after: &[Slot], seconds: f64) -> Vec<HotSlot> {
    let share = |slot: &Slot| {
        let then = before.iter().find(|then| then.number == slot.number)?.cpu_us?;
        Some(slot.cpu_us?.saturating_sub(then) as f64 / 1e6 / seconds)
    };
    let of = |slot: &Slot| HotSlot { slot: slot.number, keys: slot.keys, cpu_share: share(slot) };
    let mut slots: Vec<_> =
        after.iter().map(of).filter(|slot| 0 < slot.keys || slot.cpu_share.is_some_and(|share| 0.0 < share)).collect();
    order(&mut slots);
    slots
}

/// The hottest first; where that isn't counted, the largest.
fn order(slots: &mut [HotSlot]) {
    let heat = |slot: &HotSlot| slot.cpu_share.unwrap_or(0.0);
    slots.sort_by(|a, b| heat(b).total_cmp(&heat(a)).then(b.keys.cmp(&a.keys)).then(a.slot.cmp(&b.slot)));
}
