//! Real servers, real sockets, our client and stock clients.
//!
//! Every test starts its own processes on ports of their own and waits for what it expects, with a deadline; none sleeps
//! and hopes. Random input comes from a seed that a failure prints, and `TRINE_TEST_SEED` repeats.
#![expect(unreachable_pub, reason = "a test program exports nothing: `pub` means for the other files of it")]

mod harness;
#[path = "../../../src/skip.rs"]
mod skip;
mod wire;

mod abuse;
mod clients;
mod cluster;
mod containers;
mod documents;
mod durability;
mod gateway;
mod histories;
mod http;
mod language;
mod lifecycle;
mod load;
mod memory;
mod metrics;
mod modules;
mod output;
mod replacing;
mod seeing;
mod settings;
mod topology;
mod transactions;
mod values;
