//! The contents of `trine top`: servers that speak the Redis protocol, from what INFO says of each, twice.
//!
//! ```text
//! INFO, CLUSTER SLOT-STATS ─▶ reading ─▶ rates (of two readings) ─▶ cluster ─▶ row ─▶ table
//!                                                   CLUSTER SLOTS ─▶ members ┘     keys ─▶ screen
//! ```
//!
//! `io/top` asks the servers, and draws.

pub mod cluster;
pub mod members;
pub mod rates;
pub mod reading;
pub mod row;
pub mod screen;
pub mod table;

/// A node as it is reached: `host:port`; an IPv6 host stands in brackets.
pub type Address = String;

#[cfg(test)]
mod tests;
