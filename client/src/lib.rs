//! Clients for Trine and every server that speaks the Redis protocol.
//!
//! What decides has no socket and no clock: [`reply`] (the server's library has it, beside [`trine::resp`]) cuts replies out of
//! bytes, [`routing`] knows who owns which slot, [`pipeline`] what is in flight on a connection, [`consistent`] which of several
//! plain servers a key belongs to. What does: [`blocking`], on std's sockets, and with the feature `ring`
//! `client`, on the server's network ring.

#[cfg(feature = "ring")]
pub mod beat;
pub mod blocking;
#[cfg(feature = "ring")]
pub mod client;
pub mod consistent;
mod error;
pub mod pipeline;
pub mod routing;

pub use error::Error;
pub use trine::reply;

use std::time::Duration;

/// The number of MOVED redirections that a command follows. Two would do where servers agree; more is allowed for, as slots may
/// be on the move.
pub const REDIRECTIONS_MAX: usize = 5;

/// Options of a connection.
#[derive(Clone, Debug)]
pub struct Options {
    /// The password that AUTH is sent with, on every connection: any bytes. `None` for no AUTH.
    pub password: Option<Vec<u8>>,
    /// The longest time for a connection to be made, and for a reply to come.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { password: None, timeout: Duration::from_secs(5) }
    }
}
