//! Waits: the commits that a reply waits for.
//!
//! A reply tells of effects, and may not leave before these are committed. Everything between a command and the socket (the
//! shard, sessions, batches of other cores, held replies) carries a [`Wait`] and knows three things of it: two of them merge into
//! one, one covers another, and it is met by what is [`Committed`]. So whose acknowledgements a commit takes is settled here alone.
//!
//! Today that is this core's own disk. The acknowledgements of copies fit as a set of links beside the position, which stays one of
//! this core's log: a link that has acknowledged everything sent to it up to there. Merged, two waits are the larger position and
//! both sets.

use crate::wal::Lsn;

/// The commits that a reply waits for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Wait {
    /// The position up to which this core's log must be on its disk; 0 for nothing.
    persisted: Lsn,
}

/// The effects that are committed: how far, and by whose acknowledgement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Committed {
    /// The position up to which this core's log is on its disk.
    pub persisted: Lsn,
}

impl Wait {
    /// A reply with this may leave at once.
    pub const NONE: Self = Self { persisted: Lsn(0) };

    /// Waits until this core's log is on its disk up to here.
    #[inline]
    pub const fn persisted(lsn: Lsn) -> Self {
        Self { persisted: lsn }
    }

    /// Returns true if there is nothing to wait for.
    #[inline]
    pub fn is_none(self) -> bool {
        self.persisted.0 == 0
    }

    /// Returns the wait for both.
    #[inline]
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self { persisted: self.persisted.max(other.persisted) }
    }

    /// Returns true if the other is met whenever this one is.
    #[inline]
    pub fn covers(self, other: Self) -> bool {
        other.persisted <= self.persisted
    }

    /// Returns true if so much is committed.
    #[inline]
    pub fn is_met(self, committed: Committed) -> bool {
        self.persisted <= committed.persisted
    }

    /// Returns the position in this core's log, by which waits are kept in order.
    #[inline]
    pub fn position(self) -> Lsn {
        self.persisted
    }
}

impl Committed {
    /// Everything: for a core without a log.
    pub const EVERYTHING: Self = Self { persisted: Lsn(u64::MAX) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A merged wait is met when both are, and no sooner.
    #[test]
    fn a_merged_wait_is_met_when_both_are() {
        let [one, two] = [3, 7].map(|lsn| Wait::persisted(Lsn(lsn)));
        for merged in [one.merge(two), two.merge(one), two.merge(Wait::NONE), Wait::NONE.merge(two)] {
            assert!(merged == two && merged.covers(one) && merged.covers(Wait::NONE) && !one.covers(merged));
            assert!(!merged.is_met(Committed { persisted: Lsn(6) }) && merged.is_met(Committed { persisted: Lsn(7) }));
        }
        assert!(Wait::NONE.is_met(Committed { persisted: Lsn(0) }) && Wait::NONE.is_none() && !one.is_none());
        assert!(two.is_met(Committed::EVERYTHING));
    }
}
