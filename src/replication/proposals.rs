//! A core's part in changing the document: what it asks for, what it must know to be true before a change is proposed, and what it
//! does until the outcome is known.

use std::sync::Arc;

use super::{
    commit::{Gate, Obstacle},
    core::{Replication, Side},
    data::Data,
    message::CloseReason,
    rules::{Rule, holds},
    slots::{first, pieces, slots},
};
use crate::{
    time::Now,
    topology::{
        document::{Copies, CopyId, Document, SlotRange},
        steps::Step,
    },
};

/// The time for which an effect may wait for a copy that answers otherwise, in leases, before the copy is taken out of sync.
const STALLED_LEASES: u64 = 4;

/// A core's answer to a change that its server is about to propose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Readiness {
    /// It may be proposed: until the outcome is known the core needs the copies of both documents, and takes nothing of a primary
    /// that is deposed.
    Ready,
    /// Not before this time. The core acts as if it were proposed already; ask again then.
    Wait(u64),
    /// It is not true here, or not of the newest document: do not propose it.
    Refused,
}

impl Replication {
    /// Prepares for a change. Every core of the server is asked, before the compare-and-set is sent. Asked again for the same, it
    /// looks again.
    pub fn prepare(&mut self, proposal: &Arc<Document>, now: Now, data: &impl Data) -> Readiness {
        let Some(document) = self.document.clone() else { return Readiness::Refused };
        if document.revision().next() != proposal.revision() {
            return Readiness::Refused;
        }
        if self.pending.as_ref().is_some_and(|pending| pending != proposal) {
            return Readiness::Refused;
        }
        if self.pending.is_none() {
            let mut deposed = None;
            for piece in pieces(&document, proposal) {
                let (before, after) = (document.copies_of(first(piece)), proposal.copies_of(first(piece)));
                if before.primary.core == self.me.core && !self.may_change(piece, before, after, now) {
                    return Readiness::Refused;
                }
                let is_deposed = before.primary.core.server != after.primary.core.server && !after.handed_over;
                if is_deposed && after.primary.core.server == self.me.core.server {
                    deposed = Some(before.primary.core.server.clone());
                }
            }
            (self.pending, self.deposed) = (Some(proposal.clone()), deposed);
            self.settle_roles(data);
            self.freeze_deposed(now);
        }
        match &self.deposed {
            Some(server) => {
                let expected = self.expected_us.iter().filter(|((copy, _), _)| copy.core.server == *server);
                let silent =
                    expected.map(|((copy, _), &since)| self.grants.silent_from_us(&copy.core, copy.incarnation, since));
                let from_us = silent.max().unwrap_or(0).max(self.grants.free_from_us(server));
                if from_us <= now.monotonic_us { Readiness::Ready } else { Readiness::Wait(from_us) }
            }
            None => Readiness::Ready,
        }
    }

    /// Gives up a change that was prepared, and was never proposed.
    pub fn abandon(&mut self, data: &impl Data) {
        self.abandon_pending();
        self.settle_roles(data);
        self.note_progress();
    }

    /// Takes nothing more of the server that is about to be deposed.
    fn freeze_deposed(&mut self, now: Now) {
        let Some(server) = self.deposed.clone().filter(|_| holds(Rule::FreezeDeposed)) else { return };
        let is_of = |core: &&crate::topology::document::CoreId| core.server == server;
        let cores: Vec<_> = self.incoming.keys().filter(is_of).cloned().collect();
        for core in cores {
            if self.incoming[&core].is_up {
                self.close(&core, Side::Copy, CloseReason::Frozen, now);
            }
        }
    }

    /// Returns true if a change of slots of which this core is primary is true: a copy that becomes one in sync has everything, and
    /// a copy that is handed the slots has acknowledged everything.
    fn may_change(&self, piece: SlotRange, before: &Copies, after: &Copies, now: Now) -> bool {
        let is_handed_over = before.primary != after.primary;
        if is_handed_over {
            let has_all = slots(piece).all(|slot| self.is_drained(slot, &after.primary, now));
            if !has_all && holds(Rule::Drain) {
                return false;
            }
        }
        let added = after.backups.iter().filter(|copy| !before.in_sync().any(|other| other == *copy));
        added.into_iter().all(|copy| self.is_complete(piece, copy, now) || !holds(Rule::JoinComplete))
    }

    /// Returns true if a copy has everything of these slots, and this core's reign has begun in earnest.
    fn is_complete(&self, piece: SlotRange, copy: &CopyId, now: Now) -> bool {
        let Some(link) = self.outgoing.iter().find(|link| *link.to() == copy.core) else { return false };
        link.incarnation() == copy.incarnation
            && slots(piece).all(|slot| {
                let is_serving =
                    matches!(self.gate(slot, now), Gate::Open | Gate::NotNow(Obstacle::Frozen | Obstacle::Backlog));
                is_serving && link.is_based(slot) && self.committed(slot).min(self.persisted) <= link.acknowledged()
            })
    }

    /// Stops executing for slots that are to be handed over. Requests that arrive wait in their sessions.
    pub fn freeze(&mut self, range: SlotRange, data: &impl Data) {
        let is_new = slots(range).any(|slot| self.is_primary(slot) && !self.seats[slot.index()].is_frozen);
        for seat in &mut self.seats[usize::from(range.first())..=usize::from(range.last())] {
            seat.is_frozen = seat.reign.is_some();
        }
        if is_new {
            self.frozen_at = self.frozen_at.max(data.end());
        }
    }

    /// Goes on executing: nothing is handed over.
    pub fn thaw(&mut self) {
        self.seats.iter_mut().for_each(|seat| seat.is_frozen = false);
        self.note_progress();
    }

    /// Returns true if a slot has been frozen and a copy has acknowledged all its effects.
    fn is_drained(&self, slot: crate::slot::Slot, copy: &CopyId, now: Now) -> bool {
        let link = self.outgoing.iter().find(|link| *link.to() == copy.core && link.incarnation() == copy.incarnation);
        let is_frozen = self.seats[slot.index()].is_frozen || !holds(Rule::FreezeHandedOver);
        is_frozen
            && matches!(self.gate(slot, now), Gate::NotNow(Obstacle::Frozen | Obstacle::Backlog) | Gate::Open)
            && link.is_some_and(|link| link.is_based(slot) && self.frozen_at <= link.acknowledged())
            && self.frozen_at <= self.committed(slot)
    }

    /// Returns the changes that this core asks its server to propose, as the primary of slots: copies that do not answer are taken
    /// out of sync, copies whose data is lost are dropped, and copies that have everything become backups.
    pub fn wishes(&self, now: Now) -> Vec<Step> {
        let Some(document) = self.document.as_ref().filter(|_| self.is_awake) else { return Vec::new() };
        let mut wishes = Vec::new();
        for range in document.ranges() {
            if !self.is_primary(first(range.slots)) || range.copies.primary.core != self.me.core {
                continue;
            }
            let slots = range.slots;
            for copy in &range.copies.backups {
                let core = copy.core.clone();
                if copy.incarnation.is_some() && !document.is_current(copy) {
                    wishes.push(Step::DropCopy { slots, core });
                } else if self.is_away(slots, copy, now) {
                    wishes.push(Step::Demote { slots, core });
                }
            }
            for copy in range.copies.joining.iter().filter(|copy| document.is_current(copy)) {
                if copy.incarnation.is_some() && self.is_complete(slots, copy, now) {
                    wishes.push(Step::MakeBackup { slots, core: copy.core.clone() });
                }
            }
        }
        wishes
    }

    /// Returns true if a copy in sync does not answer: its promise has run out, or an effect has waited for too long.
    fn is_away(&self, slots: SlotRange, copy: &CopyId, now: Now) -> bool {
        let link = self.outgoing.iter().find(|link| *link.to() == copy.core);
        let Some((link, reign)) = link.zip(self.reign(first(slots))) else { return false };
        let since_us = reign.since_us + 2 * self.timing.lease_us;
        let leased_us = link.lease.until_us(copy.incarnation, self.timing).max(since_us);
        let stalled_us = link.waiting_since_us().map(|us| us + STALLED_LEASES * self.timing.lease_us);
        leased_us <= now.monotonic_us || stalled_us.is_some_and(|us| us <= now.monotonic_us)
    }
}
