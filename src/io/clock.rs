//! The one clock of a core: read once a turn, and handed to everything that decides.

use crate::commands::{CpuTimes, Now};
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

/// Returns the processor time that this process has used, in the kernel's hundredths of a second; nothing where it does not
/// say.
pub fn cpu_times() -> CpuTimes {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let [user_us, system_us] = parse_cpu_times(&text).unwrap_or_default();
    CpuTimes { user_us, system_us }
}

/// Microseconds in user and in system mode, from what `proc_pid_stat(5)` describes.
fn parse_cpu_times(text: &str) -> Option<[u64; 2]> {
    // The name in parentheses, the second field, may have anything in it. What follows it is the third.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut ticks = rest.split(' ').skip(14 - 3);
    let us_per_tick = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let mut next = || Some(ticks.next()?.parse::<u64>().ok()? * us_per_tick);
    Some([next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_behind_a_name_of_any_kind() {
        let us_per_tick = 1_000_000 / rustix::param::clock_ticks_per_second();
        let text = "7 (a) R 1 (b) S 1 2 3 4 -1 4194304 99 0 0 0 150 3 9 9 20 0 1 0\n";
        assert_eq!(parse_cpu_times(text), Some([150 * us_per_tick, 3 * us_per_tick]));
        assert_eq!(parse_cpu_times("7 (a) R 1"), None);
        assert_eq!(parse_cpu_times(""), None);
    }
}
