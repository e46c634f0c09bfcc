//! Points in time, as data: what decides has no clock.

/// The time, read once for everything that arrived together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Microseconds since 1970-01-01 UTC.
    pub unix_us: u64,
    /// Microseconds of a clock that never goes back, since the server began.
    pub monotonic_us: u64,
}

impl Now {
    /// The time that entries expire by.
    #[inline]
    pub fn unix_millis(self) -> UnixMillis {
        UnixMillis(self.unix_us / 1000)
    }
}

/// Milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct UnixMillis(pub u64);
