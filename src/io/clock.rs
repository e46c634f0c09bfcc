//! The one clock of a core: read once a turn, and handed to everything that decides.

use crate::commands::Now;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads wall time and time since the server began.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins at `began`.
    pub fn new(began: Instant) -> Self {
        Self { began }
    }

    /// The time.
    #[inline]
    pub fn now(self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { unix_us: unix.as_micros() as u64, monotonic_us: self.began.elapsed().as_micros() as u64 }
    }
}
