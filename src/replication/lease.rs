//! Leases and grants: a backup's promise not to take over, as its primary and as the backup itself count it.
//!
//! A lease runs from when the primary *sent* the heartbeat that the backup answered; a grant, which is the same promise, from when
//! the backup last *heard* of the primary, which is later, and for longer. So the lease has ended whenever the grant has, whatever
//! the two clocks show: only their rates matter, which differ by less than a tenth. Clocks that a pause does not stop
//! (CLOCK_BOOTTIME), never wall time.

use std::{collections::BTreeMap, sync::Arc};

use super::rules::{Rule, holds};
use crate::topology::document::{CoreId, Incarnation};

/// The time that promises last, and the time between renewals.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// The time for which a primary may rely on a heartbeat that was answered.
    pub lease_us: u64,
}

impl Default for Timing {
    /// Half a second: a server that dies is replaced within a second, and a pause of the scheduler is no death.
    fn default() -> Self {
        Self { lease_us: 500_000 }
    }
}

impl Timing {
    /// Returns the time for which a backup waits after it has last heard of a primary, or granted it anything, before it takes
    /// over: a quarter longer than the lease, for clocks that differ, and 25 ms for what is shorter than a timer's tick.
    pub fn grace_us(self) -> u64 {
        if holds(Rule::LongGrace) { self.lease_us + self.lease_us / 4 + 25_000 } else { self.lease_us / 2 }
    }

    /// Returns the time between heartbeats: a fifth of the lease, so that some may be late.
    pub fn heartbeat_us(self) -> u64 {
        self.lease_us / 5
    }
}

/// A promise of one copy's core, as the primary counts it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lease {
    /// The incarnation that gave it, and when the heartbeat was sent that it answers, by this core's clock.
    granted: Option<(Incarnation, u64)>,
}

impl Lease {
    /// Takes a grant that answers the heartbeat of this time.
    pub fn renew(&mut self, incarnation: Incarnation, sent_us: u64) {
        match &mut self.granted {
            Some((of, newest)) if *of == incarnation => *newest = sent_us.max(*newest),
            granted => *granted = Some((incarnation, sent_us)),
        }
    }

    /// Returns the time until which this incarnation has promised not to take over; 0 if it never did.
    pub fn until_us(&self, incarnation: Option<Incarnation>, timing: Timing) -> u64 {
        match self.granted {
            Some((of, sent_us)) if Some(of) == incarnation || !holds(Rule::Incarnations) => sent_us + timing.lease_us,
            _ => 0,
        }
    }
}

/// A core's promises to the cores that are primaries, and when it last heard of each.
#[derive(Debug)]
pub struct Grants {
    timing: Timing,
    /// The time at which the server began: before that it may have promised anything.
    began_us: u64,
    /// The time at which a core was last heard of, by incarnation: a server that comes back empty is not who was waited for.
    heard_us: BTreeMap<(CoreId, Incarnation), u64>,
    /// The time at which a core was last granted anything, likewise.
    granted_us: BTreeMap<(CoreId, Incarnation), u64>,
    /// The time at which this core last looked. Time in which it did not is no time in which it could have heard.
    looked_us: u64,
}

impl Grants {
    /// Returns the grants of a core that begins now, and may have promised something just before.
    pub fn new(timing: Timing, now_us: u64) -> Self {
        let (heard_us, granted_us) = Default::default();
        Self { timing, began_us: now_us, heard_us, granted_us, looked_us: now_us }
    }

    /// Notes that a core has been heard of.
    pub fn note_heard(&mut self, core: &CoreId, incarnation: Incarnation, now_us: u64) {
        self.heard_us.insert((core.clone(), incarnation), now_us);
    }

    /// Notes that a core has been promised something.
    pub fn note_granted(&mut self, core: &CoreId, incarnation: Incarnation, now_us: u64) {
        self.granted_us.insert((core.clone(), incarnation), now_us);
    }

    /// Returns the time at which promises end that were made before the server began.
    pub fn boot_us(&self) -> u64 {
        if holds(Rule::BootWait) { self.began_us + self.timing.grace_us() } else { 0 }
    }

    /// Returns the time from which a primary may be deposed that was first expected at `since_us`: nothing was heard of it for the
    /// grace, and no promise to it is left.
    pub fn silent_from_us(&self, core: &CoreId, incarnation: Option<Incarnation>, since_us: u64) -> u64 {
        let of = incarnation.map(|of| (core.clone(), of));
        let last_in = |times: &BTreeMap<_, u64>| of.as_ref().and_then(|of| times.get(of).copied()).unwrap_or(0);
        let last = since_us.max(last_in(&self.heard_us)).max(last_in(&self.granted_us));
        (last + self.timing.grace_us()).max(self.boot_us())
    }

    /// Returns the time at which the last promise ends that was made to any core of a server.
    pub fn free_from_us(&self, server: &Arc<str>) -> u64 {
        let of_server = self.granted_us.iter().filter(|((core, _), _)| core.server == *server).map(|(_, &us)| us);
        of_server.max().map_or(0, |us| us + self.timing.grace_us()).max(self.boot_us())
    }

    /// Returns the time at which the last promise ends that was made to anybody.
    pub fn all_free_from_us(&self) -> u64 {
        self.granted_us.values().max().map_or(0, |us| us + self.timing.grace_us()).max(self.boot_us())
    }

    /// Notes that the core has looked at what had arrived. Returns true if it did so before too, not long ago: after a pause what
    /// has arrived meanwhile is to be read first, before anybody is called silent.
    pub fn look(&mut self, now_us: u64) -> bool {
        let was_us = std::mem::replace(&mut self.looked_us, now_us);
        now_us < was_us + self.timing.heartbeat_us()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing { lease_us: 500_000 };
    fn one_incarnation() -> Incarnation {
        Incarnation::new(1)
    }

    fn one() -> CoreId {
        CoreId::new("one", 0)
    }

    /// Whenever a heartbeat is answered, and however far clocks run apart, the lease ends before the backup may take over.
    #[test]
    fn a_lease_ends_before_the_grace() {
        let mut lease = Lease::default();
        lease.renew(one_incarnation(), 1_000_000);
        let mut grants = Grants::new(TIMING, 0);
        // The backup's clock runs 10 % fast, the primary's 10 % slow, and the heartbeat took no time at all.
        grants.note_heard(&one(), one_incarnation(), 1_000_000);
        grants.note_granted(&one(), one_incarnation(), 1_000_000);
        let lease_real = (lease.until_us(Some(one_incarnation()), TIMING) - 1_000_000) as f64 / 0.9;
        let grace_real = (grants.silent_from_us(&one(), Some(one_incarnation()), 0) - 1_000_000) as f64 / 1.1;
        assert!(lease_real < grace_real, "{lease_real} {grace_real}");
    }

    /// A late grant of an older heartbeat shortens nothing, and another life of the server's data has promised nothing.
    #[test]
    fn leases_are_an_incarnations_and_never_go_back() {
        let two = Incarnation::new(2);
        let mut lease = Lease::default();
        assert_eq!(lease.until_us(Some(one_incarnation()), TIMING), 0);
        lease.renew(one_incarnation(), 3_000_000);
        lease.renew(one_incarnation(), 2_000_000);
        assert_eq!(lease.until_us(Some(one_incarnation()), TIMING), 3_500_000);
        assert_eq!((lease.until_us(Some(two), TIMING), lease.until_us(None, TIMING)), (0, 0));
        lease.renew(two, 1_000_000);
        assert_eq!(
            (lease.until_us(Some(one_incarnation()), TIMING), lease.until_us(Some(two), TIMING)),
            (0, 1_500_000)
        );
    }

    /// Silence counts from the last word, the last promise, or when the primary was first expected; and never before what was
    /// promised before a restart has ended.
    #[test]
    fn silence_counts_from_the_last_of_all() {
        let grace = TIMING.grace_us();
        let mut grants = Grants::new(TIMING, 100);
        assert_eq!(grants.silent_from_us(&one(), Some(one_incarnation()), 0), 100 + grace);
        assert_eq!(grants.silent_from_us(&one(), Some(one_incarnation()), 200), 200 + grace);
        grants.note_heard(&one(), one_incarnation(), 300);
        assert_eq!(grants.silent_from_us(&one(), Some(one_incarnation()), 200), 300 + grace);
        assert_eq!(
            grants.silent_from_us(&one(), Some(Incarnation::new(2)), 200),
            200 + grace,
            "another life is not heard"
        );
        grants.note_granted(&one(), one_incarnation(), 400);
        assert_eq!(grants.silent_from_us(&one(), Some(one_incarnation()), 200), 400 + grace);
        assert_eq!(
            (grants.free_from_us(&"one".into()), grants.free_from_us(&"two".into())),
            (400 + grace, 100 + grace)
        );
        assert_eq!(grants.all_free_from_us(), 400 + grace);
    }

    /// A core that was away itself calls nobody silent before it has read what came meanwhile.
    #[test]
    fn a_pause_of_ones_own_is_nobodys_silence() {
        let mut grants = Grants::new(TIMING, 0);
        assert!(grants.look(50_000));
        assert!(!grants.look(1_000_000));
        assert!(grants.look(1_001_000));
    }
}
