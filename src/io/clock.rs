//! The one clock of a server, which its engines are given.

use crate::{
    commands::{CpuTimes, Now},
    engine::Clock,
};
use std::{
    sync::LazyLock,
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// The clock as an engine reads it.
pub const CLOCK: Clock = Clock::new(monotonic_us, thread::sleep);

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Returns the time.
#[inline]
pub fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { unix_us: unix.as_micros() as u64, monotonic_us: monotonic_us() }
}

/// Returns the microseconds since the first look at the clock.
#[inline]
pub fn monotonic_us() -> u64 {
    BEGAN.elapsed().as_micros() as u64
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
