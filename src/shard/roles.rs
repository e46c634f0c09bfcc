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
    /// No core for the time being: the slot is changing hands. Requests wait.
    NotNow,
    /// No core, for longer than requests wait: they are refused.
    Down,
}

/// The owner of each slot. Look it up when a request is executed, never before: owners change.
pub struct Roles {
    me: u16,
    /// By slot: a core of this server, [`SERVER`], [`NOT_NOW`] or [`DOWN`].
    owners: Box<[u16]>,
    /// The number of slots that are [`NOT_NOW`].
    not_now: usize,
    /// The number of slots that are [`DOWN`].
    down: usize,
}

/// Marks a slot that another server owns.
const SERVER: u16 = u16::MAX;
/// Marks a slot without an owner.
const NOT_NOW: u16 = u16::MAX - 1;
/// Marks a slot that has been without an owner for too long.
const DOWN: u16 = u16::MAX - 2;

impl Roles {
    /// Derives the owners from a topology.
    pub fn new(topology: &Topology, me: ShardId) -> Self {
        let owners = Slot::all().map(|slot| {
            let owner = topology.owner(slot);
            if owner.server == me.server { owner.core } else { SERVER }
        });
        Self { me: me.core, owners: owners.collect(), not_now: 0, down: 0 }
    }

    /// Returns these owners, but with no owner for the slots that have none in `others`, unless another server owns
    /// them now. The code that took a slot out of service puts it back.
    #[must_use]
    pub(super) fn keeping(mut self, others: &Self) -> Self {
        for slot in Slot::all() {
            let owner = others.of(slot);
            if matches!(owner, Owner::NotNow | Owner::Down) && self.of(slot) != Owner::Server {
                self.set(slot, owner);
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
            DOWN => Owner::Down,
            core => Owner::Core(core),
        }
    }

    /// Gives a slot another owner.
    pub fn set(&mut self, slot: Slot, owner: Owner) {
        match self.of(slot) {
            Owner::NotNow => self.not_now -= 1,
            Owner::Down => self.down -= 1,
            Owner::Here | Owner::Core(_) | Owner::Server => {}
        }
        self.owners[slot.index()] = match owner {
            Owner::Here => self.me,
            Owner::Core(core) => core,
            Owner::Server => SERVER,
            Owner::NotNow => NOT_NOW,
            Owner::Down => DOWN,
        };
        match owner {
            Owner::NotNow => self.not_now += 1,
            Owner::Down => self.down += 1,
            Owner::Here | Owner::Core(_) | Owner::Server => {}
        }
    }

    /// Returns true if some slot is [`Owner::NotNow`].
    #[inline]
    pub fn has_not_now(&self) -> bool {
        self.not_now != 0
    }

    /// Returns the first slot that is [`Owner::NotNow`] or [`Owner::Down`].
    #[inline]
    pub fn first_without_owner(&self) -> Option<Slot> {
        if self.not_now + self.down == 0 {
            return None;
        }
        Slot::all().find(|&slot| matches!(self.of(slot), Owner::NotNow | Owner::Down))
    }

    /// Returns the core of this server that owns a slot; `None` if none does.
    #[inline]
    pub fn local(&self, slot: Slot) -> Option<u16> {
        match self.of(slot) {
            Owner::Here => Some(self.me),
            Owner::Core(core) => Some(core),
            Owner::Server | Owner::NotNow | Owner::Down => None,
        }
    }
}
