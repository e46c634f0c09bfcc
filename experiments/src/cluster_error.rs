//! Errors from starting a target.

use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

use crate::process::ProcessError;
use crate::target::Size;

/// Why a target does not run.
#[derive(Debug)]
pub enum ClusterError {
    /// Stop what listens there, or move the experiment's `port`.
    PortTaken {
        port: u16,
        error: std::io::Error,
    },
    /// Lower the experiment's `port`, or start fewer servers.
    NoSuchPort {
        first: u16,
        size: Size,
    },
    /// Start what should run there, or correct the address.
    Unreachable {
        address: String,
        error: io::Error,
    },
    Process(ProcessError),
    /// Install what containers need, or start processes.
    Compose(String),
    /// Make room there, or choose another folder for the results.
    Data {
        path: PathBuf,
        error: io::Error,
    },
    /// It has said why, perhaps.
    Ended {
        status: String,
        last_words: String,
    },
    NotReady {
        limit: Duration,
        last_words: String,
    },
    Interrupted,
}

impl std::error::Error for ClusterError {}

impl fmt::Display for ClusterError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PortTaken { port, error } => write!(
                formatter,
                "port {port} cannot be used ({error}): stop what listens there, or set `port` in the experiment"
            ),
            Self::NoSuchPort { first, size } => write!(
                formatter,
                "{} servers of {} cores from port {first} need ports above 65535: lower `port` in the experiment",
                size.servers, size.cores
            ),
            Self::Unreachable { address, error } => write!(
                formatter,
                "nothing can be measured at {address} ({error}): start a server there, or give the address of one that runs"
            ),
            Self::Process(error) => error.fmt(formatter),
            Self::Compose(what) => write!(formatter, "a cluster of containers can't be had: {what}"),
            Self::Data { path, error } => write!(formatter, "the target's data in {}: {error}", path.display()),
            Self::Ended { status, last_words } => {
                write!(formatter, "the target ended while it started ({status}): {last_words}")
            }
            Self::NotReady { limit, last_words } => {
                write!(formatter, "the target was not ready within {} s; it said: {last_words}", limit.as_secs())
            }
            Self::Interrupted => formatter.write_str("interrupted"),
        }
    }
}
