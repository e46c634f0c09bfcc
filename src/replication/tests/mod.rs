//! A simulation of three servers of one core: these very types, over connections that break, a store that answers late, twice or
//! never, disks that lose what was not synced, pauses, and clocks that run apart.
//!
//! `TRINE_SEED=N` runs one seed, `TRINE_RUNS=N` so many; `TRINE_RULE=NAME` without a rule.

mod data;
mod directed;
mod node;
mod world;

pub(super) use data::MapData;

use super::rules::{self, Rule};
use world::{Mix, World};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs a seed, and returns what is wrong.
fn run(seed: u64, rule: Option<Rule>) -> (World, Option<String>) {
    rules::remove(rule);
    let mut world = World::new(seed, Mix::drawn(seed));
    // What shows that a rule is needed shows before anything heals.
    world.run(rule.is_none());
    rules::remove(None);
    let wrong = world.wrong.clone();
    (world, wrong)
}

/// Nothing acknowledged is lost, nothing stale or uncommitted is read, and once faults have ended every slot is served with all its
/// copies.
#[test]
fn nothing_acknowledged_is_lost() {
    let (first, count) = match variable("TRINE_SEED") {
        Some(seed) => (seed, 1),
        None => (1, variable("TRINE_RUNS").unwrap_or(12)),
    };
    let rule = std::env::var("TRINE_RULE").ok().map(|name| rules::named(&name).expect("a rule of this name"));
    let mut total = world::Tally::default();
    for seed in first..first + count {
        let (world, wrong) = run(seed, rule);
        total.add(&world.tally);
        if let Some(wrong) = wrong {
            panic!("TRINE_SEED={seed}: {wrong} after {total:?}");
        }
    }
    println!("{total:?}");
    if rule.is_none() && 12 <= count {
        assert!(total.is_any_zero().is_none(), "nothing of a kind has happened: {total:?}");
    }
}
