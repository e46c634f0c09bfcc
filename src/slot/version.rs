//! The version of a copy of a slot: its epoch, and the number of effects.

/// The state of a copy of a slot, in two numbers. Two copies of a slot whose versions are known and equal have the same keys, if
/// the epoch is not 0: that is the epoch of a slot that no topology has given one, and its count says nothing to others.
///
/// The number of effects grows by one with each, also where the version is unknown: so an unequal version tells, on one core, that
/// a slot has changed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Version {
    /// The revision of the topology at which the slot's primary was named last; [`UNKNOWN`](Self::UNKNOWN) where the version is
    /// not known.
    pub epoch: u64,
    /// The number of effects since.
    pub effects: u64,
}

impl Version {
    /// The epoch of a copy of which nobody knows what it has.
    pub const UNKNOWN: u64 = u64::MAX;

    /// Returns true if it says what the copy has.
    pub fn is_known(self) -> bool {
        self.epoch != Self::UNKNOWN
    }

    /// Returns the version with an effect more.
    #[inline]
    #[must_use]
    pub fn next(self) -> Self {
        Self { effects: self.effects.wrapping_add(1), ..self }
    }
}
