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
        Now { unix_us: unix.as_micros() as u64, monotonic_us: self.monotonic_us() }
    }

    /// Microseconds since the server began.
    #[inline]
    pub fn monotonic_us(self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }
}

/// Bytes of this process in memory; 0 where the kernel does not say.
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * rustix::param::page_size() as u64
}
