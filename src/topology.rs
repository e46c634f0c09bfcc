//! Topology: the servers and shards that own slots, and their addresses.
//!
//! A [`Topology`] is a value: planned ([`Topology::plan`], [`Topology::replan`]), read from and written to a file
//! (`topology/file.rs`) and rendered for clients once per epoch (`topology/render.rs`). It never changes in place; what
//! comes next is a new topology with a higher epoch, which a running server takes if it fits (`topology/succession.rs`).

mod balance;
pub mod document;
mod error;
mod file;
pub mod loss;
pub mod placement;
mod render;
pub mod report;
pub mod steps;
pub mod store;
mod succession;

use std::ops::RangeInclusive;

pub use self::{
    error::TopologyError,
    file::FILE_VERSION,
    render::{Both, Rendered},
    succession::Unfit,
};
use crate::slot::{SLOT_COUNT, Slot};

/// The first port that no core may use. Cluster clients expect a node's bus at its port + 10,000 (`port@cport` in
/// CLUSTER NODES), and that sum must be a port too.
pub const CORE_PORT_END: u16 = 55_536;

/// One shard: a server's position in [`Topology::servers`], and the core's number on it, from 0. Valid within one
/// topology; from one to the next a shard is known by its server's name.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShardId {
    /// The server's position in the topology.
    pub server: u16,
    /// The core's number on its server, from 0.
    pub core: u16,
}

/// The number of a topology. In one epoch a slot has one owner, and a shard's epoch never goes back.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of a topology that was not made from another.
    pub const FIRST: Self = Self(1);

    /// Returns the epoch with this number.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the epoch's number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Returns the epoch that comes after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("nobody makes 2^64 topologies"))
    }
}

/// A server: its name, and where clients reach it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// The server's name: letters, digits, `-`, `_` and `.`; unique in a topology. Node ids derive from it, so it outlives a
    /// change of address.
    pub name: String,
    /// The address or host name that clients connect to. Never empty or a wildcard: ioredis cannot connect to an empty
    /// host, and clients key nodes by `host:port`, so one server has one spelling everywhere.
    pub host: String,
    /// The gateway's port.
    pub port: u16,
    /// The port of core 0. Core `n` listens on `core_port + n`, always below [`CORE_PORT_END`].
    pub core_port: u16,
    /// The number of cores, at least 1.
    pub cores: u16,
}

/// The owner of each slot.
///
/// Always true of it: every slot has exactly one owner; there is at least one server, and each has at least one core;
/// names are unique; hosts are explicit; no two listeners share a port on a host. A shard may own no slot at all, in a
/// topology written by hand or while a server is being emptied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Topology {
    /// The topology's number.
    pub epoch: Epoch,
    servers: Vec<Server>,
    /// Every shard, ordered by server and core.
    shards: Vec<ShardId>,
    /// Of each slot, the position of its owner in `shards`.
    owners: Box<[u16]>,
}

impl Topology {
    /// Gives the slots to the servers' cores in contiguous ranges, in the order given, as evenly as can be: any two
    /// cores' shares differ by at most one.
    pub fn plan(servers: Vec<Server>) -> Result<Self, TopologyError> {
        let shards = check(&servers)?;
        let count = shards.len();
        // The boundary before shard `n`, rounded to the nearest slot as redis-cli does: three servers start at 0, 5461
        // and 10923, where people expect them.
        let start = |shard: usize| (2 * shard * usize::from(SLOT_COUNT) + count) / (2 * count);
        let mut owners = Vec::with_capacity(usize::from(SLOT_COUNT));
        for shard in 0..count {
            owners.resize(start(shard + 1), position(shard));
        }
        Ok(Self::new(Epoch::FIRST, servers, shards, owners))
    }

    /// Returns the topology of a server that stands alone and owns every slot.
    pub fn single(server: Server) -> Result<Self, TopologyError> {
        Self::plan(vec![server])
    }

    /// Returns the topology of the next epoch, for these servers: loads differ by at most one, and no more slots move
    /// than that needs. Servers are the same if their names are; the slots of a server (or a core) that is not among
    /// them go to those that are. Ranges stay as contiguous as the least movement allows. Where nothing changes, the
    /// epoch stays too.
    pub fn replan(&self, servers: Vec<Server>) -> Result<Self, TopologyError> {
        let shards = check(&servers)?;
        let successors: Vec<Option<u16>> = self
            .shards
            .iter()
            .map(|&old| {
                let name = &self.servers[usize::from(old.server)].name;
                let server = servers.iter().position(|server| &server.name == name)?;
                let new = ShardId { server: position(server), core: old.core };
                shards.binary_search(&new).ok().map(position)
            })
            .collect();
        let mut owners: Vec<_> = self.owners.iter().map(|&old| successors[usize::from(old)]).collect();
        let owners = balance::even_out(&mut owners, shards.len());
        let mut next = Self::new(self.epoch.next(), servers, shards, owners);
        if next.servers == self.servers && next.owners == self.owners {
            next.epoch = self.epoch;
        }
        Ok(next)
    }

    /// Returns the topology of the next epoch with one more server, which takes from each shard an even share and
    /// nothing more.
    pub fn extend(&self, server: Server) -> Result<Self, TopologyError> {
        let mut servers = self.servers.clone();
        servers.push(server);
        self.replan(servers)
    }

    /// Returns the topology of the next epoch without the server of this name; its slots, and only those if loads were
    /// even, go to the others.
    pub fn remove(&self, name: &str) -> Result<Self, TopologyError> {
        if self.server_named(name).is_none() {
            return Err(TopologyError::NoSuchServer { name: name.into(), names: self.names() });
        }
        self.replan(self.servers.iter().filter(|server| server.name != name).cloned().collect())
    }

    fn new(epoch: Epoch, servers: Vec<Server>, shards: Vec<ShardId>, owners: Vec<u16>) -> Self {
        assert_eq!(owners.len(), usize::from(SLOT_COUNT), "every slot has exactly one owner");
        assert!(owners.iter().all(|&owner| usize::from(owner) < shards.len()), "every owner is a shard");
        Self { epoch, servers, shards, owners: owners.into() }
    }

    /// Returns the shard that owns a slot.
    #[inline]
    pub fn owner(&self, slot: Slot) -> ShardId {
        self.shards[usize::from(self.owners[slot.index()])]
    }

    /// Returns all shards, ordered by server and core.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = ShardId> {
        self.shards.iter().copied()
    }

    /// Returns all servers; a [`ShardId`]'s `server` is a position here.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Returns the position of the server with this name.
    pub fn server_named(&self, name: &str) -> Option<u16> {
        self.servers.iter().position(|server| server.name == name).map(position)
    }

    /// Returns the host and port that clients reach a shard at. The shard must be one of this topology.
    pub fn address(&self, shard: ShardId) -> (&str, u16) {
        let server = &self.servers[usize::from(shard.server)];
        assert!(shard.core < server.cores, "a shard belongs to the topology it is looked up in");
        (&server.host, server.core_port + shard.core)
    }

    /// Returns the slots that a shard owns, in order, as the fewest ranges.
    pub fn ranges(&self, shard: ShardId) -> Vec<RangeInclusive<u16>> {
        let all = self.owned_ranges();
        all.into_iter().filter(|&(owner, _)| owner == shard).map(|(_, range)| range).collect()
    }

    /// Returns every shard with its ranges, ordered by server and core.
    pub fn ranges_by_shard(&self) -> Vec<(ShardId, Vec<RangeInclusive<u16>>)> {
        let mut all: Vec<_> = self.shards().map(|shard| (shard, Vec::new())).collect();
        for (_, range) in self.owned_ranges() {
            all[usize::from(self.owners[usize::from(*range.start())])].1.push(range);
        }
        all
    }

    /// Returns the slots as ranges of one owner each, in the order of slots.
    pub fn owned_ranges(&self) -> Vec<(ShardId, RangeInclusive<u16>)> {
        let mut first = 0;
        let chunks = self.owners.chunk_by(|left, right| left == right);
        chunks
            .map(|chunk| {
                let last = first + position(chunk.len() - 1);
                let range = first..=last;
                first = last + 1;
                (self.shards[usize::from(chunk[0])], range)
            })
            .collect()
    }

    /// Returns the shard's node id: 40 hexadecimal digits that depend on the server's name and the core alone, so that
    /// they outlive restarts and changes of address.
    pub fn node_id(&self, shard: ShardId) -> [u8; 40] {
        self.identity("node", shard)
    }

    /// Returns the id of what Redis calls a shard, a master with its replicas: as stable as [`Self::node_id`], and
    /// different from it.
    pub fn shard_id(&self, shard: ShardId) -> [u8; 40] {
        self.identity("shard", shard)
    }

    /// Returns the shard with this node id.
    pub fn shard_of_node(&self, node_id: &[u8]) -> Option<ShardId> {
        self.shards().find(|&shard| self.node_id(shard) == node_id)
    }

    /// Returns the error that sends a client to a slot's owner, without the leading `-`: `MOVED 3999 127.0.0.1:7001`.
    pub fn moved(&self, slot: Slot) -> String {
        let (host, port) = self.address(self.owner(slot));
        format!("MOVED {slot} {host}:{port}")
    }

    /// Returns the same for a client that has to go to the gateway of the owner's server.
    pub fn moved_to_gateway(&self, slot: Slot) -> String {
        let server = &self.servers[usize::from(self.owner(slot).server)];
        format!("MOVED {slot} {}:{}", server.host, server.port)
    }

    fn identity(&self, kind: &str, shard: ShardId) -> [u8; 40] {
        let name = &self.servers[usize::from(shard.server)].name;
        digest(format!("{kind}:{name}/{}", shard.core).as_bytes())
    }

    fn names(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.name.clone()).collect()
    }
}

/// Returns the servers' shards, or what is wrong with the servers.
fn check(servers: &[Server]) -> Result<Vec<ShardId>, TopologyError> {
    if servers.is_empty() {
        return Err(TopologyError::NoServers);
    }
    for (position, server) in servers.iter().enumerate() {
        let name = server.name.clone();
        if !is_name(&name) {
            return Err(TopologyError::BadName { name });
        }
        if servers[..position].iter().any(|other| other.name == name) {
            return Err(TopologyError::NameTwice { name });
        }
        if !is_reachable(&server.host) {
            return Err(TopologyError::BadHost { name, host: server.host.clone() });
        }
        if server.cores == 0 {
            return Err(TopologyError::NoCores { name });
        }
        let end = u32::from(server.core_port) + u32::from(server.cores);
        if server.port == 0 || server.core_port == 0 || u32::from(CORE_PORT_END) < end {
            return Err(TopologyError::BadPorts { name, first: server.core_port, cores: server.cores });
        }
    }
    let count: usize = servers.iter().map(|server| usize::from(server.cores)).sum();
    if usize::from(SLOT_COUNT) < count {
        return Err(TopologyError::TooManyCores { count });
    }
    check_ports(servers)?;
    let mut shards = Vec::with_capacity(count);
    for (number, server) in servers.iter().enumerate() {
        shards.extend((0..server.cores).map(|core| ShardId { server: position(number), core }));
    }
    Ok(shards)
}

/// Refuses two listeners on one port of one host.
fn check_ports(servers: &[Server]) -> Result<(), TopologyError> {
    let mut ports: Vec<(&str, u16, &str)> = servers
        .iter()
        .flat_map(|server| {
            let cores = server.core_port..server.core_port + server.cores;
            cores.chain([server.port]).map(|port| (server.host.as_str(), port, server.name.as_str()))
        })
        .collect();
    ports.sort_unstable();
    match ports.windows(2).find(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1)) {
        None => Ok(()),
        Some(pair) => {
            let (host, port, one) = pair[0];
            Err(TopologyError::PortTwice { host: host.into(), port, one: one.into(), other: pair[1].2.into() })
        }
    }
}

/// Names stand in file names, labels of metrics and on command lines.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Clients are told this host as it stands here, so it must name one: no wildcard, and nothing that ends a word in the
/// text of CLUSTER NODES.
fn is_reachable(host: &str) -> bool {
    let ends_a_word =
        |character: char| character.is_whitespace() || character.is_control() || ",@[]".contains(character);
    let wildcard = host.parse().is_ok_and(|address: std::net::IpAddr| address.is_unspecified());
    !host.is_empty() && !wildcard && !host.contains(ends_a_word)
}

fn position(index: usize) -> u16 {
    u16::try_from(index).expect("there are no more servers, shards or slots than slots")
}

/// 160 bits as hexadecimal digits: three lanes of FNV-1a with a final mix. It tells a few thousand shards apart by
/// their names and need not withstand anyone who chooses these.
fn digest(text: &[u8]) -> [u8; 40] {
    let mut digits = [0; 40];
    for (lane, digits) in (1u64..).zip(digits.chunks_mut(16)) {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64.wrapping_mul(2 * lane + 1);
        for &byte in text {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^= hash >> 33;
        for digit in digits {
            hash = hash.rotate_left(4);
            *digit = b"0123456789abcdef"[(hash & 15) as usize];
        }
    }
    digits
}

#[cfg(test)]
mod tests;
