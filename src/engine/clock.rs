//! The clock of a core, as the driver gives it.

use std::time::Duration;

/// A clock that never goes back. The engine looks at it where it has to know how long something takes; what time it is it is
/// told once a turn.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    read_us: fn() -> u64,
    sleep: fn(Duration),
}

impl Clock {
    /// A clock of these two functions: microseconds since the server began, and a pause of this thread.
    pub const fn new(read_us: fn() -> u64, sleep: fn(Duration)) -> Self {
        Self { read_us, sleep }
    }

    /// Returns the microseconds since the server began.
    #[inline]
    pub fn monotonic_us(self) -> u64 {
        (self.read_us)()
    }

    /// Stops the core for this long (`DEBUG SLEEP`).
    pub fn sleep(self, time: Duration) {
        (self.sleep)(time);
    }
}
