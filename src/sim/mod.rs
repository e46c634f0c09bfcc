//! Servers with their engines, clients, the network between them, and disks that lose what was not synced: in one thread and from
//! one seed.
//!
//! Everything that decides is the real thing: the [`Engine`](crate::engine::Engine) of each core, and the jobs on its files. The
//! simulator does what `io` does for a real one. `README.md` says what is checked and which mistakes it has found.

mod calendar;
mod client;
mod clock;
mod conversation;
mod core;
mod merge;
mod model;
mod network;
mod plan;
mod server;
mod tally;
mod trace;
mod turn;
mod world;

use plan::Kind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tally::Tally;

/// Seeds of a test run, of each kind: some ten seconds of each, and of three servers more, which share a test run's time with the
/// copies to come.
const SEEDS_OF_ONE_CORE: u64 = 200;
const SEEDS_OF_CORES: u64 = 150;
const SEEDS_OF_SERVERS: u64 = 1000;

/// Runs seeds of a kind, or the one that is asked for.
fn run_all(kind: Kind, name: &str, seeds: u64) {
    if let Some(seed) = number("TRINE_SIM_SEED") {
        trace::begin(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| world::run(kind, seed)));
        eprint!("{}", trace::end());
        return eprint!("{}", outcome.expect("the seed passes").lines());
    }
    #[expect(clippy::disallowed_methods, reason = "how fast this is, and nothing that depends on it")]
    let began = std::time::Instant::now();
    let mut tally = Tally::default();
    let first = number("TRINE_SIM_FIRST").unwrap_or(0);
    let wanted = seeds;
    let seeds = number("TRINE_SIM_SEEDS").unwrap_or(seeds);
    for seed in first..first + seeds {
        match catch_unwind(AssertUnwindSafe(|| world::run(kind, seed))) {
            Ok(of_seed) => tally.add_all(&of_seed),
            Err(why) => {
                trace::begin(false);
                let again = catch_unwind(AssertUnwindSafe(|| world::run(kind, seed)));
                eprint!("{}", trace::end());
                assert!(again.is_err(), "seed {seed} fails each time");
                panic!(
                    "seed {seed}: {}; to repeat it: TRINE_SIM_SEED={seed} cargo test -p trine --no-default-features --lib \
                     sim::{name} -- --nocapture",
                    text(&*why)
                );
            }
        }
    }
    eprintln!("{}{:>9} real milliseconds", tally.lines(), began.elapsed().as_millis());
    let missing = if seeds < wanted { Vec::new() } else { tally.missing(kind) };
    assert!(missing.is_empty(), "what was to happen and never did: {missing:?}");
}

/// A client is told nothing that is not there in a server's next life, wherever the one before it ends, by signal or by power: every
/// write that was acknowledged, and every value that was read. Commands come back whole, in their order, and without a gap.
#[test]
fn one_core_loses_nothing_acknowledged() {
    run_all(Kind::OneCore, "one_core", SEEDS_OF_ONE_CORE);
}

/// The same of servers of some cores, asked by their gateways and by their cores' ports.
#[test]
fn several_cores_lose_nothing_acknowledged() {
    run_all(Kind::Cores, "several_cores", SEEDS_OF_CORES);
}

/// The same of three servers of two cores.
#[test]
fn three_servers_lose_nothing_acknowledged() {
    run_all(Kind::Servers, "three_servers", SEEDS_OF_SERVERS);
}

/// A seed says everything: what else has run before it does not matter.
#[test]
fn a_seed_repeats_itself() {
    let lines = |seed| {
        trace::begin(true);
        world::run(Kind::Servers, seed);
        trace::end()
    };
    let first = lines(7);
    assert_ne!(first, lines(8));
    assert!(first == lines(7), "the same events in the same order");
}

/// The words of a panic.
fn text(why: &(dyn std::any::Any + Send)) -> &str {
    let text = why.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| why.downcast_ref::<&str>().copied()).unwrap_or("no words")
}

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect("a number"))
}
