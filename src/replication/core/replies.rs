//! Decisions about requests and replies: execute now or later, hold or let leave.

use super::{Reign, Replication};
use crate::{
    replication::{
        commit::{Fate, Gate, Obstacle, Point},
        outgoing::Outgoing,
        rules::{Rule, holds},
    },
    slot::Slot,
    time::Now,
    topology::document::CopyId,
    wal::Lsn,
};

impl Replication {
    #[inline]
    pub(in crate::replication) fn waited(&self, slot: Slot) -> impl Iterator<Item = (&Outgoing, &CopyId)> {
        let class = &self.waited[usize::from(self.seats[slot.index()].class)];
        class.iter().map(|(link, copy)| (&self.outgoing[*link], copy))
    }

    /// Returns true if a link's peer is this copy, in the same life of its data, and has everything of the slot.
    fn is_based(link: &Outgoing, copy: &CopyId, slot: Slot) -> bool {
        let is_same = copy.incarnation.is_some() && link.incarnation() == copy.incarnation;
        (is_same || !holds(Rule::Incarnations)) && link.is_based(slot)
    }

    /// Returns the answer to whether a request for a slot may be executed.
    #[inline]
    pub fn gate(&self, slot: Slot, now: Now) -> Gate {
        let Some(reign) = self.reign(slot) else { return Gate::Elsewhere };
        if self.seats[slot.index()].is_frozen && holds(Rule::FreezeHandedOver) {
            return Gate::NotNow(Obstacle::Frozen);
        }
        if now.monotonic_us < reign.serves_from_us {
            return Gate::NotNow(Obstacle::Promises);
        }
        if !self.is_barrier_passed(reign, slot) && holds(Rule::Barrier) {
            return Gate::NotNow(Obstacle::Barrier);
        }
        if self.waited(slot).any(|(link, _)| link.is_behind()) {
            return Gate::NotNow(Obstacle::Backlog);
        }
        Gate::Open
    }

    /// Returns true if what this core had when its reign began is committed, and every copy in sync has been compared.
    fn is_barrier_passed(&self, reign: &Reign, slot: Slot) -> bool {
        reign.barrier <= self.persisted && self.waited(slot).all(|(link, copy)| Self::is_based(link, copy, slot))
    }

    /// Returns the slots of which this core has ceased to be primary by documents that peers told of: their requests that wait are
    /// answered with MOVED.
    pub fn take_lost(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.lost)
    }

    /// Returns what a reply waits for that tells of effects on a slot up to this position. The slot's gate must be open.
    ///
    /// # Panics
    /// If this core is not the slot's primary.
    #[inline]
    pub fn point(&self, slot: Slot, lsn: Lsn) -> Point {
        let reign = self.seats[slot.index()].reign.expect("only a primary executes");
        Point { lsn, reign, slot }
    }

    /// Returns the position up to which effects on a slot are committed.
    #[inline]
    pub fn committed(&self, slot: Slot) -> Lsn {
        let here = if holds(Rule::LocalSync) { self.persisted } else { Lsn(u64::MAX) };
        self.waited(slot).fold(here, |least, (link, copy)| {
            let is_pending = self.pending.is_some() && !holds(Rule::UnionCommit);
            if is_pending && self.is_only_pending(slot, copy) {
                return least;
            }
            least.min(if Self::is_based(link, copy, slot) { link.acknowledged() } else { Lsn(0) })
        })
    }

    fn is_only_pending(&self, slot: Slot, copy: &CopyId) -> bool {
        self.document.as_ref().is_some_and(|document| !document.copies_of(slot).backups.contains(copy))
    }

    /// Returns the time until which no copy in sync can have taken a slot over.
    fn leased_until_us(&self, slot: Slot) -> u64 {
        let needed = self.waited(slot).filter(|(_, copy)| holds(Rule::UnionLease) || !self.is_only_pending(slot, copy));
        needed.map(|(link, copy)| link.lease.until_us(copy.incarnation, self.timing)).min().unwrap_or(u64::MAX)
    }

    /// Returns what becomes of a reply. `arrived_us`: a time by which the request had arrived, read *after* its bytes were.
    ///
    /// That every lease ends after the request has arrived is enough: each says that its copy has not taken over before then, so
    /// at the moment of arrival none had. The reply may leave much later.
    #[inline]
    pub fn fate(&self, point: Point, arrived_us: u64) -> Fate {
        if self.seats[point.slot.index()].reign != Some(point.reign) {
            return Fate::Fails;
        }
        let is_committed = point.lsn <= self.committed(point.slot) || !holds(Rule::CommitBeforeReply);
        let is_leased = arrived_us < self.leased_until_us(point.slot) || !holds(Rule::Lease);
        if is_committed && is_leased { Fate::Leaves } else { Fate::Waits }
    }
}
