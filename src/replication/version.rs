//! The version of a copy.

use crate::topology::Epoch;

/// The state of a slot's data: the epoch in which the last effect was made, and the number of effects that led here. Two copies
/// of a slot that have the same version are the same. A copy whose version is not known, because it is between two states, has
/// `None` in place of one.
///
/// Counts alone collide: two primaries that nobody could tell apart would count alike.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version {
    /// The epoch of the primary that made the last effect.
    pub epoch: u64,
    /// The number of effects.
    pub count: u64,
}

impl Version {
    /// The version of a slot that nothing was ever written to.
    pub const FIRST: Self = Self { epoch: 0, count: 0 };

    /// Returns the version that a primary begins with whose own copy is of unknown version: no other copy has it.
    pub fn of_reign(epoch: Epoch) -> Self {
        Self { epoch: epoch.number(), count: 0 }
    }

    /// Returns the version after one more effect, made in this epoch.
    #[must_use]
    pub fn after(self, epoch: Epoch) -> Self {
        Self { epoch: epoch.number(), count: self.count.checked_add(1).expect("nobody makes 2^64 effects") }
    }
}
