//! Trine: a thread-per-core, shared-nothing key-value store that speaks the Redis protocol.
//!
//! What decides is a value with a few verbs and has no socket, file, clock, thread or randomness; what does lives in
//! `io`. `src/README.md` is the map.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod built;
pub mod slot;
pub mod time;

pub mod glob;
pub mod http;
pub mod printable;
pub mod refusals;
pub mod reply;
pub mod resp;

pub mod brake;
pub mod client;
pub mod command;
pub mod commands;
pub mod config;
pub mod core;
pub mod doctor;
pub mod gateway;
pub mod glance;
pub mod keys;
pub mod metrics;
pub mod session;
pub mod shard;
pub mod slow_log;
pub mod statistics;
pub mod store;
pub mod top;
pub mod topology;
pub mod transaction;
pub mod wait;
pub mod wal;

pub mod replication;

pub mod engine;

#[cfg(feature = "manual")]
pub mod manual;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod skip;
#[cfg(test)]
mod witness;

#[cfg(feature = "io")]
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is where clocks, files and threads are")]
pub mod io;
