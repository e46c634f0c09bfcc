//! A tally of what happened over all seeds: a simulation that gets nowhere passes every check.

use super::plan::Kind;
use std::collections::BTreeMap;

/// Things that some seed must come to.
const WANTED: &[&str] = &[
    "commands",
    "connections paused",
    "connections that failed",
    "connections to cores",
    "connections to gateways",
    "frames",
    "frames torn",
    "keys evicted",
    "operations that failed",
    "operations that found the disk full",
    "power failures",
    "processes killed",
    "processes that gave up",
    "refusals",
    "replies",
    "replies that wait for the disk",
    "segments made ready",
    "segments used again",
    "snapshots taken",
    "starts",
    "starts from a snapshot",
    "starts that cut the log",
    "starts without commands that were not on disk",
    "transactions that a watched key stopped",
    "transactions that no watched key stopped",
    "transactions that wrote",
    "values read",
];

/// Things that must come to pass besides, on one core and between several.
const WANTED_OF_ONE_CORE: &[&str] =
    &["frames that go on with a record", "starts from hints", "values that could not be read"];
const WANTED_OF_CORES: &[&str] = &["connections handed over", "replies in parts", "replies of other cores"];

/// The number of times that each thing happened.
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

    /// Returns what must happen and never did.
    pub(super) fn missing(&self, kind: Kind) -> Vec<&'static str> {
        let besides = if kind == Kind::OneCore { WANTED_OF_ONE_CORE } else { WANTED_OF_CORES };
        let wanted = WANTED.iter().chain(besides);
        wanted.filter(|what| self.0.get(*what).is_none_or(|&count| count == 0)).copied().collect()
    }

    pub(super) fn lines(&self) -> String {
        self.0.iter().map(|(what, count)| format!("{count:>9} {what}\n")).collect()
    }
}
