//! Errors in a topology.

use std::fmt;

use super::{CORE_PORT_END, FILE_VERSION};
use crate::slot::SLOT_COUNT;

/// Why there is no topology for these servers, or in this file. Each says what is wrong where, and the way out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TopologyError {
    /// The text is not TOML, or not what a topology file holds. The message has line and column.
    Syntax {
        /// The message of the TOML parser.
        message: String,
    },
    /// The file was written by another version. Use that version, or plan anew.
    Version {
        /// The file's version, if it has one.
        found: Option<i64>,
    },
    /// There is no server. Name at least one.
    NoServers,
    /// There are more cores than slots. Use fewer.
    TooManyCores {
        /// The number of them.
        count: usize,
    },
    /// A server's name is empty, or has other characters than letters, digits, `-`, `_` and `.`.
    BadName {
        /// The name.
        name: String,
    },
    /// Two servers have the same name. Rename one.
    NameTwice {
        /// The name.
        name: String,
    },
    /// A server's host is empty, a wildcard or not a word. Write the address that clients reach it at.
    BadHost {
        /// The server.
        name: String,
        /// The host.
        host: String,
    },
    /// A server has no core. Give it at least one.
    NoCores {
        /// The server.
        name: String,
    },
    /// A server's core ports reach too high, or a port is 0. Choose lower ones.
    BadPorts {
        /// The server.
        name: String,
        /// Its first core port.
        first: u16,
        /// The number of its cores.
        cores: u16,
    },
    /// Two listeners would share a port of one host. Move one.
    PortTwice {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// One server.
        one: String,
        /// The other, or the same again.
        other: String,
    },
    /// A range of slots cannot be read. Write `0-5460` or `77`.
    BadRange {
        /// The server.
        name: String,
        /// The core.
        core: usize,
        /// The range as it stands.
        range: String,
    },
    /// Two cores claim a slot, or one claims it twice. Take it from one.
    SlotTwice {
        /// The slot.
        slot: u16,
        /// One owner's server and core.
        one: (String, usize),
        /// The other's.
        other: (String, usize),
    },
    /// Nobody owns some slots. Give them to someone: clients refuse a cluster with holes.
    SlotsUnowned {
        /// The first of them.
        first: u16,
        /// The number of them.
        count: usize,
    },
    /// There is no server of this name. Use one of those there are.
    NoSuchServer {
        /// The name.
        name: String,
        /// Those there are.
        names: Vec<String>,
    },
}

impl std::error::Error for TopologyError {}

impl fmt::Display for TopologyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { message } => write!(out, "not a topology file: {}", message.trim_end()),
            Self::Version { found: Some(found) } => {
                write!(out, "version {found} of the topology file is not the version known here, {FILE_VERSION}: ")?;
                write!(out, "start the version of trine that wrote it, or write it anew with trine plan")
            }
            Self::Version { found: None } => {
                write!(out, "the topology file does not say its version: begin it with `version = {FILE_VERSION}`")
            }
            Self::NoServers => write!(out, "there is no server: a topology needs at least one"),
            Self::TooManyCores { count } => {
                write!(out, "{count} cores cannot share {SLOT_COUNT} slots: use at most {SLOT_COUNT} cores")
            }
            Self::BadName { name } => {
                write!(out, "server {name:?}: use letters, digits, `-`, `_` and `.` for a server's name")
            }
            Self::NameTwice { name } => write!(out, "two servers are called {name:?}: rename one of them"),
            Self::BadHost { name, host } => {
                write!(out, "server {name:?}: {host:?} is not a host that clients can connect to: ")?;
                write!(out, "write the server's own address or host name, without a port")
            }
            Self::NoCores { name } => write!(out, "server {name:?} has no core: give it at least one"),
            Self::BadPorts { name, first, cores } => {
                write!(
                    out,
                    "server {name:?}: {cores} core ports from {first} on: ports start at 1 and core ports end "
                )?;
                write!(out, "below {CORE_PORT_END} (cluster clients add 10000): choose a lower core port")
            }
            Self::PortTwice { host, port, one, other } => {
                write!(out, "port {port} on {host} is used twice, by server {one:?} and by server {other:?}: ")?;
                write!(out, "move the port or the core port of one of them")
            }
            Self::BadRange { name, core, range } => {
                write!(out, "server {name:?}, core {core}: {range:?} is not a range of slots: ")?;
                write!(out, "write \"0-5460\" or \"77\", below {SLOT_COUNT}")
            }
            Self::SlotTwice { slot, one, other } if one == other => {
                write!(out, "server {:?}, core {}: slot {slot} is listed twice: take it out once", one.0, one.1)
            }
            Self::SlotTwice { slot, one, other } => {
                write!(out, "slot {slot} belongs to server {:?}, core {}, and ", one.0, one.1)?;
                write!(out, "to server {:?}, core {}: take it from one of them", other.0, other.1)
            }
            Self::SlotsUnowned { first, count: 1 } => write!(out, "slot {first} belongs to no core: give it to one"),
            Self::SlotsUnowned { first, count } => {
                write!(out, "{count} slots from {first} on belong to no core: give each of them to one")
            }
            Self::NoSuchServer { name, names } => {
                write!(out, "there is no server {name:?}: the topology has {}", names.join(", "))
            }
        }
    }
}
