//! The CPU time that others use while nobody measures.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use super::super::processes::Snapshot;
use crate::doctor::readings::{Load, Process};

/// The time that CPUs are watched: long against the 10 ms in which the kernel counts.
const WATCHED: Duration = Duration::from_secs(1);

/// Watches all CPUs for a second. `None` where the kernel does not tell.
pub(super) fn watch() -> Option<Load> {
    let (begun, before, pressure) = (ticks()?, Snapshot::take(), waited());
    let start = Instant::now();
    sleep(WATCHED);
    let (ended, seconds) = (ticks()?, start.elapsed().as_secs_f64());
    let passed: Vec<f64> =
        ended.iter().zip(&begun).map(|(after, before)| after.saturating_sub(*before) as f64).collect();
    let total = passed.iter().sum::<f64>().max(1.0);
    let share = |index: usize| passed.get(index).copied().unwrap_or(0.0) / total;
    // Of `user nice system idle iowait irq softirq steal`: a CPU that waits for a disk is free.
    let (idle, stolen) = (share(3) + share(4), share(7));
    let users = Snapshot::take().since(&before, None).into_iter();
    Some(Load {
        busy: (1.0 - idle - stolen).clamp(0.0, 1.0),
        stolen,
        waited: pressure.and_then(|before| Some((waited()?.saturating_sub(before) as f64 / 1e6 / seconds).min(1.0))),
        processes: users.map(|user| Process { pid: user.pid, name: user.name, share: user.share }).collect(),
    })
}

/// The ticks of all CPUs together, by what they were used for.
fn ticks() -> Option<Vec<u64>> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    Some(line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect())
}

/// Microseconds since the start in which something waited for a CPU. `None` on a kernel that does not count it.
fn waited() -> Option<u64> {
    let text = fs::read_to_string("/proc/pressure/cpu").ok()?;
    text.lines().find_map(|line| line.strip_prefix("some "))?.rsplit_once("total=")?.1.trim().parse().ok()
}
