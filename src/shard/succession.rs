//! A change of topology: the new owners of slots, and the removal of keys whose slots have gone.

use super::{Roles, Shard};
use crate::{slot::Slot, topology::Topology, wal::SLOT_SET_BYTES};

/// The slots that a change of topology has given to this core, and those that it has taken from it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Succession {
    /// The number of slots that have come to this core. They are empty.
    pub gained: usize,
    /// The number of slots that have gone from this core.
    pub lost: usize,
    /// The number of keys that were removed, since another core owns their slots.
    pub keys_lost: usize,
}

/// The number of bytes of the record that clears slots.
const CLEAR_BYTES: u64 = 1 + SLOT_SET_BYTES as u64;
/// The most bytes of the record of a new slot's version: as if each slot had a record of its own, joined with no other.
const VERSION_BYTES: u64 = 32;

impl Shard {
    /// Replaces the topology by one that may follow it (see [`Topology::is_succeeded_by`]). From here on no request is
    /// executed for a slot that this core does not own by the new one, also no request that was resolved before.
    ///
    /// Data does not move between cores yet. So the keys of slots that have gone are removed, from memory and in the
    /// log: while another core owns a slot its keys change there, and this core's would be out of date when the slot
    /// comes back. A slot that has come is empty.
    ///
    /// # Panics
    /// If this server is not in the new topology.
    pub fn set_topology(&mut self, topology: Topology) -> Succession {
        let core = &mut self.core;
        let (was, old) = (core.me, &core.topology);
        // From one topology to the next a server is known by its name; its position may change.
        let name = &old.servers()[usize::from(was.server)].name;
        core.me.server = topology.server_named(name).expect("a server takes topologies that it is in");
        let (mut succession, mut gained) = (Succession::default(), Vec::new());
        for slot in Slot::all() {
            match (old.owner(slot) == was, topology.owner(slot) == core.me) {
                (false, true) => {
                    succession.gained += 1;
                    gained.push(slot);
                }
                (true, false) => {
                    succession.lost += 1;
                    if core.persistence.is_loading {
                        // Whatever is read of it, now or later, is older than what becomes of it elsewhere.
                        self.lost_while_loading.insert(slot);
                    }
                }
                (true, true) | (false, false) => {}
            }
        }
        core.rendered = topology.render(core.me);
        self.roles = Roles::new(&topology, core.me).keeping(&self.roles);
        core.topology = topology;
        core.has_topology = true;
        let (epoch, has_room) = (core.topology.epoch.number(), self.has_room(VERSION_BYTES * gained.len() as u64));
        self.store.renew_slots(&gained, epoch, has_room);
        let core = &self.core;
        if !core.persistence.is_loading {
            succession.keys_lost = self.remove_foreign_keys();
        }
        succession
    }

    /// Removes the keys of slots that this core does not own, and returns their number. There are such keys only if the
    /// topology has just changed, or if it has changed since the files were written from which the core has recovered.
    pub fn remove_foreign_keys(&mut self) -> usize {
        let core = &self.core;
        let lost = std::mem::take(&mut self.lost_while_loading);
        let is_foreign = |slot: Slot| core.topology.owner(slot) != core.me;
        let ranges = self.store.slots_with_keys(|slot| is_foreign(slot) || lost.contains(&slot));
        let returned: Vec<_> = lost.into_iter().filter(|&slot| !is_foreign(slot)).collect();
        if !returned.is_empty() {
            let (epoch, has_room) =
                (core.topology.epoch.number(), self.has_room(VERSION_BYTES * returned.len() as u64));
            self.store.renew_slots(&returned, epoch, has_room);
        }
        if ranges.is_empty() {
            return 0;
        }
        let has_room = self.has_room(CLEAR_BYTES);
        if !has_room {
            tracing::error!(
                "the disk has no room to note that slots have gone: their keys are removed, and could come back old should these \
                 slots return and the server then end before the disk has room"
            );
        }
        self.store.clear_slots(&ranges, has_room)
    }

    /// Returns true if records of so many bytes have room in the log, by the reserve too. The last blocks are FLUSHALL's.
    fn has_room(&self, bytes: u64) -> bool {
        let end = self.store.log.as_ref().map(|log| log.end());
        let admission = self.core.persistence.admission.zip(end);
        admission.is_none_or(|(admission, end)| admission.admits_with_reserve(end, bytes))
    }
}
