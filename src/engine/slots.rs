//! Slots that are changing hands, and what waits for them.
//!
//! A request for such a slot is not executed: a client's session is suspended in front of it, and what comes behind waits, as for a
//! value on disk. Of another core's requests those wait that need the slot, and what their connections have asked behind them; the
//! rest goes on. All of it goes on in the turn in which the slot has an owner again, is another server's, or is given up.

use super::{
    Engine,
    connection::ConnectionId,
    message::{Batch, Item},
};
use crate::{resp::Request, shard::Owner, shard::Resolved, slot::Slot};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

/// The slots of a core that are changing hands, and what waits for them.
#[derive(Default)]
pub(super) struct Slots {
    /// The slots, and the time since which each is without an owner.
    since_us: BTreeMap<Slot, u64>,
    /// Connections whose next request waits, in the order in which they began to.
    connections: Vec<ConnectionId>,
    /// Requests of other cores that wait, in order: the core, and the request's bytes.
    requests: Vec<(usize, Item, Vec<u8>)>,
    /// The connections that have asked for these.
    askers: BTreeSet<(usize, u32, u32)>,
}

impl Slots {
    /// Returns true if no slot is changing hands, and nothing waits.
    pub(super) fn is_quiet(&self) -> bool {
        self.since_us.is_empty() && self.connections.is_empty() && self.requests.is_empty()
    }

    /// Notes that a connection's next request waits.
    pub(super) fn suspend(&mut self, id: ConnectionId) {
        self.connections.push(id);
    }

    fn asker(from: usize, item: &Item) -> (usize, u32, u32) {
        (from, item.connection.place, item.connection.generation)
    }
}

impl Engine {
    /// Gives slots another owner. Those that are [`Owner::NotNow`] are given up after `slot-timeout`.
    pub fn set_owner(&mut self, slots: impl IntoIterator<Item = Slot>, owner: Owner) {
        for slot in slots {
            let was = self.shard.roles.of(slot);
            self.shard.roles.set(slot, owner);
            if owner == Owner::NotNow {
                if was != Owner::NotNow {
                    self.slots.since_us.insert(slot, self.now.monotonic_us);
                }
            } else {
                self.slots.since_us.remove(&slot);
            }
        }
        if owner != Owner::NotNow {
            self.resume_waiting();
        }
    }

    /// Goes on with what waits after the topology has changed.
    pub(super) fn slots_changed(&mut self) {
        let roles = &self.shard.roles;
        self.slots.since_us.retain(|&slot, _| roles.of(slot) == Owner::NotNow);
        self.resume_waiting();
    }

    /// Gives up slots that have been without an owner for too long: what waits for them is refused.
    pub(super) fn give_up_slots(&mut self) {
        if self.slots.since_us.is_empty() {
            return;
        }
        let timeout_us = self.shard.core.config.slot_timeout.as_micros() as u64;
        let now_us = self.now.monotonic_us;
        let is_over = |_: &Slot, since_us: &mut u64| *since_us + timeout_us <= now_us;
        let given_up: Vec<_> = self.slots.since_us.extract_if(.., is_over).map(|(slot, _)| slot).collect();
        if !given_up.is_empty() {
            let (slots, first) = (given_up.len(), given_up[0].number());
            tracing::warn!(slots, first, "slots have been changing hands for too long: requests for them are refused");
            self.set_owner(given_up, Owner::Down);
        }
    }

    /// Tries again what waits, in its order. What still has to wait does so where it was.
    fn resume_waiting(&mut self) {
        for id in mem::take(&mut self.slots.connections) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.session.resume();
            self.receive(id, &[]);
        }
        self.slots.askers.clear();
        let mut batches = BTreeMap::<usize, Box<Batch>>::new();
        for (from, item, bytes) in mem::take(&mut self.slots.requests) {
            let batch = batches.entry(from).or_default();
            batch.items.push(item);
            batch.requests.extend(bytes);
        }
        for (from, batch) in batches {
            // What is parked came later.
            if let Some(rest) = self.execute_batch(from, batch, None) {
                self.remote.parked[from].push_front(rest);
            }
        }
    }

    /// Returns true if a request of another core has to wait for a slot, itself or behind one of the same connection.
    #[inline]
    pub(super) fn awaits_slot(&self, from: usize, item: &Item, request: Request<'_>, resolved: &Resolved) -> bool {
        (!self.slots.askers.is_empty() && self.slots.askers.contains(&Slots::asker(from, item)))
            || self.shard.awaits_slot(request, resolved, &self.remote.client)
    }

    /// Has a request of another core wait for a slot.
    #[cold]
    pub(super) fn await_slot(&mut self, from: usize, item: Item, bytes: &[u8]) {
        self.slots.askers.insert(Slots::asker(from, &item));
        self.slots.requests.push((from, item, bytes.to_vec()));
    }
}
