//! The kernel, what it lets a process have, and memory.

use super::{
    Finding, Readings,
    ring::{diagnose, too_old},
};
use crate::commands::info::human;

/// The memory that a core locks: a mebibyte for glommio's direct I/O, and its rings.
const LOCKED_BYTES_PER_CORE: u64 = 2 << 20;
/// A cluster client connects to every core; below this, a lab's load generators run into the limit.
const OPEN_FILES_MIN: u64 = 65_536;

pub(super) fn kernel(readings: &Readings) -> Finding {
    match too_old(&readings.kernel) {
        Some(cause) => Finding::fail("kernel", &readings.kernel).because(cause.reason).fix(cause.fix),
        None => Finding::ok("kernel", &readings.kernel),
    }
}

pub(super) fn io_uring(readings: &Readings) -> Finding {
    let Some(facts) = &readings.ring_refused else {
        return Finding::ok("io-uring", "a ring like the server's can be made");
    };
    let cause = diagnose(facts);
    Finding::fail("io-uring", "refused").because(cause.reason).fix(cause.fix)
}

pub(super) fn pinning(readings: &Readings) -> Finding {
    match &readings.pinning_refused {
        _ if readings.is_unpinned => Finding::ok("pinning", "not wanted: cores run on any CPU (TRINE_CPUS=any)"),
        None => Finding::ok("pinning", "threads can choose their CPU"),
        Some(error) => Finding::fail("pinning", format!("sched_setaffinity: {error}"))
            .because("each core's thread is pinned to its CPU, and here that is forbidden")
            .fix("allow sched_setaffinity: in a systemd unit, SystemCallFilter must not deny @resources; or trine serve --cpus any"),
    }
}

pub(super) fn locked_memory(readings: &Readings) -> Finding {
    let name = "locked-memory";
    let Some(limit) = readings.locked_bytes_max else { return Finding::ok(name, "unlimited") };
    let value = human(limit);
    if readings.may_lock {
        return Finding::ok(name, format!("{value}, which does not count here (CAP_IPC_LOCK)"));
    }
    let needed = LOCKED_BYTES_PER_CORE * readings.cpus.len().max(1) as u64;
    if needed <= limit {
        return Finding::ok(name, value);
    }
    Finding::warn(name, value)
        .because(format!("buffers for direct I/O are locked, some {} a core: not every core may start", human(2 << 20)))
        .fix("ulimit -l unlimited; in a systemd unit LimitMEMLOCK=infinity; with Docker --ulimit memlock=-1")
}

pub(super) fn open_files(readings: &Readings) -> Finding {
    match readings.open_files_max {
        Some(limit) if limit < OPEN_FILES_MIN => Finding::warn("open-files", limit.to_string())
            .because("a connection is an open file, and a cluster's client has one to every core")
            .fix("ulimit -Hn 1048576; in a systemd unit LimitNOFILE=1048576; with Docker --ulimit nofile=1048576"),
        Some(limit) => Finding::ok("open-files", limit.to_string()),
        None => Finding::ok("open-files", "unlimited"),
    }
}

pub(super) fn memory(readings: &Readings) -> Finding {
    let total = human(readings.memory_bytes);
    match readings.memory_limit_bytes {
        Some(limit) if limit < readings.memory_bytes => {
            let share = limit / 4 * 3;
            Finding::ok("memory", format!("{} of the host's {total}, by the control group", human(limit)))
                .because("a server that grows past that is killed; it does not know of the limit by itself")
                .fix(format!("trine serve --max-memory {}", share >> 20 << 20))
        }
        _ => Finding::ok("memory", total),
    }
}

pub(super) fn huge_pages(readings: &Readings) -> Finding {
    match readings.huge_pages.as_deref() {
        Some("always") => Finding::ok("huge-pages", "always; trine serve does without them unless told --huge-pages"),
        Some(setting) => Finding::ok("huge-pages", setting),
        None => Finding::ok("huge-pages", "the kernel has none"),
    }
}

pub(super) fn swap(readings: &Readings) -> Finding {
    if readings.swap_bytes == 0 {
        return Finding::ok("swap", "none");
    }
    let value = format!("{}, of which {} in use", human(readings.swap_bytes), human(readings.swap_used_bytes));
    Finding::warn("swap", value)
        .because("a key whose page was swapped out stops its whole core until the disk has read it back")
        .fix("swapoff -a, or at least sysctl -w vm.swappiness=1")
}
