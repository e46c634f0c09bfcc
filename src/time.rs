//! Points in time, as data: what decides has no clock.

/// Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct UnixMillis(pub u64);
