//! Counts of one executor in one second. Whole tallies travel to the main thread, which adds them up; no counter is shared.

use super::workload::Kind;
use hdrhistogram::Histogram;
use std::{collections::BTreeMap, time::Duration};
use trine_client::pipeline::Nanos;

/// The longest latency that is told from longer ones.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Three digits: 123 µs and 124 µs differ, 123.4 µs and 123.5 µs do not.
const DIGITS: u8 = 3;
/// So many kinds of errors are told apart.
const ERROR_KINDS_MAX: usize = 20;
/// An error's text is cut here: what follows are keys and numbers.
const ERROR_BYTES_MAX: usize = 100;

/// Latencies, in nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS).expect("the bounds are sound")
}

/// Wrong values that were read, by kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Wrong {
    /// Not what anybody wrote for this key.
    pub(crate) damaged: u64,
    /// Values that a run in the other protocol wrote for this key.
    pub(crate) foreign: u64,
    /// Older than a write that was acknowledged before the read was sent; or, where the first value of a key stays,
    /// another one, or a second write that was acknowledged.
    pub(crate) stale: u64,
    /// Not there, though it had been written.
    pub(crate) missing: u64,
}

impl Wrong {
    pub(crate) fn total(self) -> u64 {
        self.damaged + self.foreign + self.stale + self.missing
    }
}

/// From when the first of some requests was due to when the last was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span {
    first: Nanos,
    last: Nanos,
}

impl Span {
    const EMPTY: Self = Self { first: Nanos(u64::MAX), last: Nanos(0) };

    /// Both, and what lies between.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    /// Returns the time between the two ends.
    pub(crate) fn length(self) -> Duration {
        Duration::from_nanos(self.last.since(self.first))
    }
}

/// Counts of one executor, or sums of several.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// The second of the measure phase that replies were counted in.
    pub(crate) second: u64,
    /// Replies, by [`Kind`].
    pub(crate) operations: [u64; 2],
    /// Time since requests were due, by [`Kind`].
    pub(crate) since_due: [Histogram<u64>; 2],
    /// Time since requests were handed to the kernel, by [`Kind`].
    pub(crate) since_sent: [Histogram<u64>; 2],
    /// The times at which answered requests were due and answered, by [`Kind`].
    pub(crate) spans: [Span; 2],
    /// Writes of keys that had a value, which they kept.
    pub(crate) conflicts: u64,
    /// Reads that found nothing.
    pub(crate) misses: u64,
    pub(crate) wrong: Wrong,
    /// By text, or by what happened.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            second: 0,
            operations: [0; 2],
            since_due: [histogram(), histogram()],
            since_sent: [histogram(), histogram()],
            spans: [Span::EMPTY; 2],
            conflicts: 0,
            misses: 0,
            wrong: Wrong::default(),
            errors: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// Records one latency of each sort.
    #[inline]
    pub(crate) fn latency(&mut self, kind: Kind, due: Nanos, sent: Nanos, now: Nanos) {
        self.since_due[kind as usize].saturating_record(now.since(due));
        self.since_sent[kind as usize].saturating_record(now.since(sent));
        let span = &mut self.spans[kind as usize];
        *span = span.and(Span { first: due, last: now });
    }

    /// Counts errors of one kind. What tells kinds apart is the text up to the first quote, without an address.
    #[cold]
    pub(crate) fn error(&mut self, text: &str, count: u64) {
        let kind = match text.split_once(' ') {
            Some(("MOVED" | "ASK", _)) => text.split(' ').next().unwrap_or_default(),
            _ => text.split(['\'', '`', '"']).next().unwrap_or_default().trim_end(),
        };
        let end = (0..=kind.len().min(ERROR_BYTES_MAX)).rev().find(|&end| kind.is_char_boundary(end)).unwrap_or(0);
        let kind = &kind[..end];
        if let Some(counted) = self.errors.get_mut(kind) {
            *counted += count;
        } else {
            let kind = if self.errors.len() < ERROR_KINDS_MAX { kind } else { "others" };
            *self.errors.entry(kind.into()).or_default() += count;
        }
    }

    /// All errors.
    pub(crate) fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Adds what another has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        const SAME: &str = "all histograms have the same bounds";
        for kind in 0..2 {
            self.operations[kind] += other.operations[kind];
            self.since_due[kind].add(&other.since_due[kind]).expect(SAME);
            self.since_sent[kind].add(&other.since_sent[kind]).expect(SAME);
            self.spans[kind] = self.spans[kind].and(other.spans[kind]);
        }
        self.conflicts += other.conflicts;
        self.misses += other.misses;
        self.wrong.damaged += other.wrong.damaged;
        self.wrong.foreign += other.wrong.foreign;
        self.wrong.stale += other.wrong.stale;
        self.wrong.missing += other.wrong.missing;
        for (kind, count) in &other.errors {
            self.error(kind, *count);
        }
    }

    /// Is as new, and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.second = 0;
        self.operations = [0; 2];
        self.since_due.iter_mut().chain(&mut self.since_sent).for_each(Histogram::reset);
        self.spans = [Span::EMPTY; 2];
        self.conflicts = 0;
        self.misses = 0;
        self.wrong = Wrong::default();
        self.errors.clear();
    }
}

/// Reads and writes together.
pub(crate) fn both(histograms: &[Histogram<u64>; 2]) -> Histogram<u64> {
    let mut both = histograms[0].clone();
    both.add(&histograms[1]).expect("all histograms have the same bounds");
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors are told apart by what they say, not by the key or address in them, and their kinds are bounded.
    #[test]
    fn errors_are_counted_by_kind() {
        let mut tally = Tally::default();
        tally.error("ERR unknown command 'A', with args", 1);
        tally.error("ERR unknown command 'B', with args", 2);
        tally.error("MOVED 1 a:1", 1);
        tally.error("MOVED 2 b:1", 1);
        assert_eq!(tally.errors, BTreeMap::from([("ERR unknown command".into(), 3), ("MOVED".into(), 2)]));
        (0..100).for_each(|number| tally.error(&format!("ERR {number}"), 1));
        assert_eq!(tally.errors.len(), ERROR_KINDS_MAX + 1);
        assert_eq!(tally.errors_total(), 105);
        tally.error(&"ä".repeat(200), 1);
    }

    /// A sum has what its parts have; a cleared tally has nothing.
    #[test]
    fn tallies_add_up() {
        let mut one = Tally::default();
        one.latency(Kind::Get, Nanos(0), Nanos(500), Nanos(1000));
        one.operations = [1, 0];
        one.error("timeout", 1);
        let mut sum = Tally::default();
        sum.add(&one);
        sum.add(&one);
        assert_eq!((sum.operations, sum.errors_total(), sum.since_due[0].len()), ([2, 0], 2, 2));
        assert_eq!((sum.since_due[0].max(), sum.since_sent[0].max()), (1000, 500));
        one.latency(Kind::Get, Nanos(4000), Nanos(4000), Nanos(5000));
        sum.add(&one);
        assert_eq!(sum.spans[0].length(), Duration::from_nanos(5000), "from the first due to the last answered");
        assert_eq!(sum.spans[0].and(sum.spans[1]), sum.spans[0], "nothing adds nothing");
        assert_eq!(sum.spans[1].length(), Duration::ZERO);
        sum.clear();
        assert_eq!((sum.operations, sum.errors_total(), sum.since_due[0].len()), ([0, 0], 0, 0));
        assert_eq!(sum.spans, [Span::EMPTY; 2]);
    }
}
