//! The topology file: TOML that people can read and edit.
//!
//! ```toml
//! version = 1
//! epoch = 1
//!
//! [[server]]
//! name = "one"
//! host = "127.0.0.1"
//! port = 7000        # the gateway
//! core-port = 7001   # core 0; core 1 has the next, and so on
//!
//! [[server.core]]
//! slots = ["0-8191"]
//!
//! [[server.core]]
//! slots = ["8192-16382", "16383"]
//! ```

use serde::{Deserialize, Serialize};

use super::{Epoch, Server, Topology, TopologyError, check, position};
use crate::slot::{SLOT_COUNT, Slot};

/// The version of the topology file that is written, and the only one that is read.
pub const FILE_VERSION: i64 = 1;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: i64,
    epoch: u64,
    #[serde(default)]
    server: Vec<FileServer>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileServer {
    name: String,
    host: String,
    port: u16,
    /// The port after the gateway's, if left out.
    core_port: Option<u16>,
    #[serde(default)]
    core: Vec<FileCore>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileCore {
    slots: Vec<String>,
}

impl Topology {
    /// Returns the topology file's text. [`Topology::from_toml`] reads it back as an equal topology.
    pub fn to_toml(&self) -> String {
        let mut shards = self.ranges_by_shard().into_iter().map(|(_, ranges)| FileCore {
            slots: ranges.into_iter().map(|range| written(*range.start(), *range.end())).collect(),
        });
        let servers = self.servers.iter().map(|server| FileServer {
            name: server.name.clone(),
            host: server.host.clone(),
            port: server.port,
            core_port: Some(server.core_port),
            core: shards.by_ref().take(server.cores.into()).collect(),
        });
        let file = File { version: FILE_VERSION, epoch: self.epoch.number(), server: servers.collect() };
        let body = toml::to_string(&file).expect("strings and numbers have a form in TOML");
        format!("# Which core owns which of the {SLOT_COUNT} slots. Written by `trine plan`.\n{body}")
    }

    /// Reads a topology file and checks all that is promised of a [`Topology`].
    pub fn from_toml(text: &str) -> Result<Self, TopologyError> {
        let syntax = |error: toml::de::Error| TopologyError::Syntax { message: error.to_string() };
        // The version first: a later one may have fields that are unknown here.
        let table: toml::Table = toml::from_str(text).map_err(syntax)?;
        let found = table.get("version").and_then(toml::Value::as_integer);
        if found != Some(FILE_VERSION) {
            return Err(TopologyError::Version { found });
        }
        let file: File = toml::from_str(text).map_err(syntax)?;
        let mut servers = Vec::with_capacity(file.server.len());
        for server in &file.server {
            let name = server.name.clone();
            let ports = || TopologyError::BadPorts { name: name.clone(), first: server.port, cores: 1 };
            let core_port = server.core_port.or(server.port.checked_add(1)).ok_or_else(ports)?;
            let cores = u16::try_from(server.core.len());
            let cores = cores.map_err(|_| TopologyError::TooManyCores { count: server.core.len() })?;
            servers.push(Server { name, host: server.host.clone(), port: server.port, core_port, cores });
        }
        let shards = check(&servers)?;
        let owners = owners(&file.server)?;
        Ok(Self::new(Epoch::new(file.epoch), servers, shards, owners))
    }
}

/// Returns each slot's owner, as a position among all cores.
fn owners(servers: &[FileServer]) -> Result<Vec<u16>, TopologyError> {
    let cores = servers.iter().flat_map(|server| server.core.iter().enumerate().map(move |core| (server, core)));
    let mut owners: Vec<Option<(u16, &str, usize)>> = vec![None; usize::from(SLOT_COUNT)];
    for (shard, (server, (number, core))) in cores.enumerate() {
        for range in &core.slots {
            let bad = || TopologyError::BadRange { name: server.name.clone(), core: number, range: range.clone() };
            let (first, last) = read(range).ok_or_else(bad)?;
            for slot in first..=last {
                if let Some((_, name, core)) = owners[usize::from(slot)] {
                    let (one, other) = ((name.to_owned(), core), (server.name.clone(), number));
                    return Err(TopologyError::SlotTwice { slot, one, other });
                }
                owners[usize::from(slot)] = Some((position(shard), &server.name, number));
            }
        }
    }
    if let Some(first) = owners.iter().position(Option::is_none) {
        let count = owners.iter().filter(|owner| owner.is_none()).count();
        return Err(TopologyError::SlotsUnowned { first: position(first), count });
    }
    Ok(owners.into_iter().flatten().map(|(shard, _, _)| shard).collect())
}

/// Returns the first and last slot of `0-5460` or `77`.
pub(super) fn read(range: &str) -> Option<(u16, u16)> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let slot = |text: &str| text.trim().parse().ok().and_then(Slot::new).map(Slot::number);
    let (first, last) = (slot(first)?, slot(last)?);
    (first <= last).then_some((first, last))
}

/// Writes a range as Redis does: `0-5460`, or `77` for a single slot.
pub(super) fn written(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}
