//! What happened over all seeds: a simulation that gets nowhere passes every check.

use std::collections::BTreeMap;

/// What some seed must come to.
const WANTED: &[&str] = &[
    "commands",
    "frames as large as they may be",
    "frames that go on with a record",
    "frames torn",
    "power failures",
    "replies",
    "replies to reads that waited",
    "replies to writes that waited",
    "seals of a silent log",
    "segments turned over",
    "segments used again",
    "sessions that were blocked",
    "snapshots taken",
    "snapshots that were walked while keys changed",
    "stalls for the log",
    "starts",
    "starts from a snapshot",
    "starts that cut the log",
    "starts without commands that were not on disk",
    "sweeps of expired keys",
    "transactions that a watched key stopped",
    "transactions that no watched key stopped",
    "transactions that wrote",
    "walks that ended ahead of the log",
];

/// How often what happened.
#[derive(Default)]
pub(super) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub(super) fn note(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    pub(super) fn note_if(&mut self, has_happened: bool, what: &'static str) {
        self.add(what, u64::from(has_happened));
    }

    pub(super) fn add(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, count)| self.add(what, *count));
    }

    /// What must happen and never did.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        WANTED.iter().filter(|what| self.0.get(*what).is_none_or(|&count| count == 0)).copied().collect()
    }

    pub(super) fn lines(&self) -> String {
        self.0.iter().map(|(what, count)| format!("{count:>9} {what}\n")).collect()
    }
}
