//! Copies of slots on other servers: links, versions, leases, commit, and what a server does about the document.
//!
//! [`Replication`] is what one core decides, [`Duty`] what a server decides once for all its cores. Both have no clock, socket or
//! store of their own: a driver tells them what has happened and does what they say. `replication/README.md` has the protocol.

pub mod commit;
pub mod data;
pub mod duty;
pub mod incoming;
pub mod items;
pub mod lease;
pub mod message;
pub mod outgoing;
pub mod secret;
pub mod version;

mod core;
mod links;
mod proposals;
mod rules;
mod slots;
#[cfg(test)]
mod tests;

pub use self::{
    core::{Effect, Output, Replication, Side},
    duty::Duty,
    proposals::Readiness,
};
