//! The commands: one file per family, each with a list of rows and their functions; [`table`] finds a row by its name.

pub mod cluster;
pub mod connection;
pub mod errors;
pub mod hot_keys;
pub mod info;
pub mod introspection;
pub mod keys;
pub mod metrics;
pub mod persistence;
pub mod refused;
pub mod server;
pub mod strings;
pub mod table;
#[cfg(test)]
pub(crate) mod tests;
pub mod transactions;

pub use crate::{
    command::{
        Call, Command, Flags, Keys, Merge, Outcome, Relief, Route, Run, needed_keys, record_bytes_max, relief,
        value_len_max,
    },
    core::{Core, CpuTimes, Persistence, Process},
    time::Now,
};
pub use table::{Found, Table};
