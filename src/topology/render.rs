//! Replies to CLUSTER SLOTS, SHARDS, NODES, INFO, MYID and MYSHARDID, rendered once per epoch.
//!
//! Thousands of clients ask at the same moment, when an experiment begins or the topology changes; each then gets bytes
//! that are already there. The form is that of Redis 7.2, where every shard is a master without replicas.

use std::ops::RangeInclusive;

use super::{ShardId, Topology, file::written};
use crate::{
    resp::{Reply, Version},
    slot::SLOT_COUNT,
};

/// A complete reply in both versions of the protocol.
#[derive(Clone, Debug)]
pub struct Both([Vec<u8>; 2]);

impl Both {
    fn new(render: impl Fn(&mut Reply<'_>)) -> Self {
        Self([Version::Two, Version::Three].map(|version| {
            let mut output = Vec::new();
            render(&mut Reply { output: &mut output, version });
            output
        }))
    }

    /// Returns the reply's bytes in this version.
    pub fn bytes(&self, version: Version) -> &[u8] {
        match version {
            Version::Two => &self.0[0],
            Version::Three => &self.0[1],
        }
    }
}

/// Complete replies to the subcommands of CLUSTER that depend on nothing but the topology and the shard that is asked.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// CLUSTER SLOTS.
    pub slots: Both,
    /// CLUSTER SHARDS.
    pub shards: Both,
    /// CLUSTER NODES, with the shard that is asked marked as `myself`.
    pub nodes: Both,
    /// CLUSTER INFO. The state is always `ok`: clients give up on anything else.
    pub info: Both,
    /// CLUSTER MYID.
    pub my_id: Vec<u8>,
    /// CLUSTER MYSHARDID.
    pub my_shard_id: Vec<u8>,
}

impl Topology {
    /// Renders the replies that `myself` gives in this epoch.
    pub fn render(&self, myself: ShardId) -> Rendered {
        let bulk = |text: [u8; 40]| [b"$40\r\n".as_slice(), &text, b"\r\n"].concat();
        Rendered {
            slots: Both::new(|reply| self.render_slots(reply)),
            shards: Both::new(|reply| self.render_shards(reply)),
            nodes: Both::new(|reply| reply.verbatim(self.nodes_text(myself).as_bytes())),
            info: Both::new(|reply| reply.verbatim(self.info_text().as_bytes())),
            my_id: bulk(self.node_id(myself)),
            my_shard_id: bulk(self.shard_id(myself)),
        }
    }

    /// Per range: its first and last slot, and its one node with no metadata. A hostname there would be preferred to
    /// the address by some clients.
    fn render_slots(&self, reply: &mut Reply<'_>) {
        let ranges = self.owned_ranges();
        reply.array(ranges.len());
        for (shard, range) in ranges {
            let (host, port) = self.address(shard);
            reply.array(3);
            reply.integer((*range.start()).into());
            reply.integer((*range.end()).into());
            reply.array(4);
            reply.bulk(host.as_bytes());
            reply.integer(port.into());
            reply.bulk(&self.node_id(shard));
            reply.map(0);
        }
    }

    fn render_shards(&self, reply: &mut Reply<'_>) {
        reply.array(self.shards.len());
        for (shard, ranges) in self.ranges_by_shard() {
            let (host, port) = self.address(shard);
            reply.map(2);
            reply.bulk(b"slots");
            reply.array(2 * ranges.len());
            for range in ranges {
                reply.integer((*range.start()).into());
                reply.integer((*range.end()).into());
            }
            reply.bulk(b"nodes");
            reply.array(1);
            reply.map(7);
            reply.bulk(b"id");
            reply.bulk(&self.node_id(shard));
            reply.bulk(b"port");
            reply.integer(port.into());
            for (name, value) in [("ip", host), ("endpoint", host), ("role", "master")] {
                reply.bulk(name.as_bytes());
                reply.bulk(value.as_bytes());
            }
            reply.bulk(b"replication-offset");
            reply.integer(0);
            reply.bulk(b"health");
            reply.bulk(b"online");
        }
    }

    /// One line per node: id, address, flags, master, ping sent, pong received, epoch, link state, slots.
    fn nodes_text(&self, myself: ShardId) -> String {
        let line = |(shard, ranges): (ShardId, Vec<RangeInclusive<u16>>)| {
            let (host, port) = self.address(shard);
            let id = self.node_id(shard);
            let id = std::str::from_utf8(&id).expect("hexadecimal digits are ASCII");
            let flags = if shard == myself { "myself,master" } else { "master" };
            let (bus, epoch) = (u32::from(port) + 10_000, self.epoch.number());
            let mut line = format!("{id} {host}:{port}@{bus} {flags} - 0 0 {epoch} connected");
            for range in ranges {
                line.push(' ');
                line.push_str(&written(*range.start(), *range.end()));
            }
            line + "\n"
        };
        self.ranges_by_shard().into_iter().map(line).collect()
    }

    fn info_text(&self) -> String {
        let size = self.ranges_by_shard().iter().filter(|(_, ranges)| !ranges.is_empty()).count();
        let (known, epoch) = (self.shards.len(), self.epoch.number());
        [
            "cluster_state:ok".into(),
            format!("cluster_slots_assigned:{SLOT_COUNT}"),
            format!("cluster_slots_ok:{SLOT_COUNT}"),
            "cluster_slots_pfail:0".into(),
            "cluster_slots_fail:0".into(),
            format!("cluster_known_nodes:{known}"),
            format!("cluster_size:{size}"),
            format!("cluster_current_epoch:{epoch}"),
            format!("cluster_my_epoch:{epoch}"),
            "cluster_stats_messages_sent:0".into(),
            "cluster_stats_messages_received:0".into(),
            "total_cluster_links_buffer_limit_exceeded:0".into(),
            String::new(),
        ]
        .join("\r\n")
    }
}
