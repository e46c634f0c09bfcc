//! Ownership of slots, as one core knows it.

use crate::{
    slot::Slot,
    topology::{ShardId, Topology},
};

/// The owner of a slot, from the point of view of one core.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owner {
    /// This core.
    Here,
    /// Another core of this server.
    Core(u16),
    /// A core of another server.
    Server,
    /// Nobody for the time being: the slot is changing hands.
    NotNow,
}

/// The owner of each slot. Asked when a request is executed, never before: owners change.
pub struct Roles {
    me: u16,
    /// By slot: a core of this server, [`SERVER`] or [`NOT_NOW`].
    owners: Box<[u16]>,
}

/// Marks a slot that another server owns.
const SERVER: u16 = u16::MAX;
/// Marks a slot without an owner.
const NOT_NOW: u16 = u16::MAX - 1;

impl Roles {
    /// Derives the owners from a topology.
    pub fn new(topology: &Topology, me: ShardId) -> Self {
        let owners = Slot::all().map(|slot| {
            let owner = topology.owner(slot);
            if owner.server == me.server { owner.core } else { SERVER }
        });
        Self { me: me.core, owners: owners.collect() }
    }

    /// Keeps slots without an owner so that the others say are so, and that are this server's: whoever has taken them out of service
    /// puts them back.
    #[must_use]
    pub(super) fn keeping(mut self, others: &Self) -> Self {
        for (owner, other) in self.owners.iter_mut().zip(&others.owners) {
            if *other == NOT_NOW && *owner != SERVER {
                *owner = NOT_NOW;
            }
        }
        self
    }

    /// Returns the owner of a slot.
    #[inline]
    pub fn of(&self, slot: Slot) -> Owner {
        match self.owners[slot.index()] {
            core if core == self.me => Owner::Here,
            SERVER => Owner::Server,
            NOT_NOW => Owner::NotNow,
            core => Owner::Core(core),
        }
    }

    /// Gives a slot another owner.
    pub fn set(&mut self, slot: Slot, owner: Owner) {
        self.owners[slot.index()] = match owner {
            Owner::Here => self.me,
            Owner::Core(core) => core,
            Owner::Server => SERVER,
            Owner::NotNow => NOT_NOW,
        };
    }

    /// Returns the core of this server that owns a slot; `None` if none does.
    #[inline]
    pub fn local(&self, slot: Slot) -> Option<u16> {
        match self.of(slot) {
            Owner::Here => Some(self.me),
            Owner::Core(core) => Some(core),
            Owner::Server | Owner::NotNow => None,
        }
    }
}
