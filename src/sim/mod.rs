//! A shard with its log on a disk that loses what was not synced, in one thread and from one seed.
//!
//! The shard, its sessions, the log and the recovery are the real ones. What does, in `io`, has a double here that takes the
//! same steps in the same order: `process` for the main loop, `writer`, `snapshot` and `files`. `README.md` says what is
//! checked and which mistakes it has found.

mod client;
mod disk;
mod files;
mod model;
mod plan;
mod process;
mod snapshot;
mod tally;
mod world;
mod writer;

use crate::{commands::tests::shard, store::Policy};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use tally::Tally;

/// Seeds of a test run: some ten seconds without optimization.
const SEEDS: u64 = 1000;

/// Wherever a server's life ends, by signal or by power, what a client was told is there in the next: every write that was
/// acknowledged, and every value that was read. Commands come back whole, in their order, and without a gap.
#[test]
fn nothing_acknowledged_is_lost() {
    let mut shard = shard(1, 0, Policy::default());
    if let Some(seed) = number("TRINE_SIM_SEED") {
        return eprint!("{}", world::run(seed, &mut shard).lines());
    }
    let mut tally = Tally::default();
    let seeds = number("TRINE_SIM_SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        match catch_unwind(AssertUnwindSafe(|| world::run(seed, &mut shard))) {
            Ok(of_seed) => tally.add_all(&of_seed),
            Err(panic) => {
                let command = "cargo test -p trine --no-default-features --lib sim::";
                eprintln!("seed {seed}; to repeat it: TRINE_SIM_SEED={seed} {command}");
                resume_unwind(panic);
            }
        }
    }
    eprint!("{}", tally.lines());
    let missing = if seeds < SEEDS { Vec::new() } else { tally.missing() };
    assert!(missing.is_empty(), "what was to happen and never did: {missing:?}");
}

/// A seed says everything: what else has run before it does not matter.
#[test]
fn a_seed_repeats_itself() {
    let mut shard = shard(1, 0, Policy::default());
    let mut lines = |seed| world::run(seed, &mut shard).lines();
    let first = lines(7);
    assert_ne!(first, lines(8));
    assert_eq!(first, lines(7));
}

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect("a number"))
}
