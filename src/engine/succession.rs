//! A topology that takes the place of another in a running core.

use super::Engine;
use crate::topology::{Topology, Unfit};

impl Engine {
    /// Acts by this topology from now on, if it is newer than the present one and fits.
    pub(super) fn take_topology(&mut self, topology: &Topology) {
        let core = &self.shard.core;
        let name = core.topology.servers()[usize::from(core.me.server)].name.clone();
        let (number, epoch) = (core.me.core, topology.epoch.number());
        match core.topology.is_succeeded_by(topology, &name) {
            Ok(true) => {}
            // Cores are told of the newest, and may have missed those before.
            Ok(false) | Err(Unfit::Older { .. }) => return,
            Err(unfit) => return tracing::error!(core = number, "the topology of epoch {epoch} is not taken: {unfit}"),
        }
        let succession = self.shard.set_topology(topology.clone());
        let (gained, lost) = (succession.gained, succession.lost);
        tracing::info!(core = number, epoch, gained, lost, "acts by a new topology");
        self.tell_keys_lost(succession.keys_lost);
        self.slots_changed();
    }

    /// Begins to serve: every core of the server has read its files. These may have keys of slots that went since they were written, or
    /// while they were read.
    pub(super) fn begin_to_serve(&mut self) {
        self.shard.core.persistence.is_loading = false;
        let keys = self.shard.remove_foreign_keys();
        self.tell_keys_lost(keys);
    }

    /// Says loudly that keys were removed, since another core owns their slots.
    pub(super) fn tell_keys_lost(&self, keys: usize) {
        let core = &self.shard.core;
        if keys != 0 {
            let (number, epoch) = (core.me.core, core.topology.epoch.number());
            tracing::warn!(
                core = number,
                epoch,
                keys,
                "keys were removed: the topology gives their slots to another core, and data does not move there"
            );
        }
    }
}
