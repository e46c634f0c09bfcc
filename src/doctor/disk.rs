//! The data directory, and how long a write takes until it is on disk.

use super::{Finding, readings::Disk};
use crate::commands::info::human;

/// Above this at the 99th percentile, writes wait for the disk more than for anything else.
const SYNC_US_MAX: u64 = 10_000;
/// Under this a write can't have reached a disk: something below says that it is there before it is. The fastest devices
/// with a cache that survives take some 10 µs.
const SYNC_US_MIN: u64 = 5;
/// The log's segments and a snapshot want room side by side.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// File systems whose files are in memory.
const IN_MEMORY: [&str; 2] = ["tmpfs", "ramfs"];
/// File systems over a network.
const REMOTE: [&str; 5] = ["nfs", "nfs4", "cifs", "9p", "fuse.sshfs"];

pub(super) fn findings(disk: &Disk) -> Vec<Finding> {
    if let Some(error) = &disk.refused {
        return vec![
            Finding::fail("file-system", format!("{}: {error}", disk.path))
                .because("nothing can be written there, so a server would not start with this --dir")
                .fix(format!("install -d -o \"$(id -un)\" {}", disk.path)),
        ];
    }
    let mut findings = vec![file_system(disk), space(disk)];
    // What follows says nothing of memory.
    if !IN_MEMORY.contains(&disk.file_system.as_str()) {
        findings.extend([direct(disk), fua(disk), sync(disk)]);
    }
    findings
}

fn file_system(disk: &Disk) -> Finding {
    let (name, kind) = ("file-system", disk.file_system.as_str());
    let value = format!("{kind} at {}", disk.path);
    if IN_MEMORY.contains(&kind) {
        return Finding::warn(name, value)
            .because("it is in memory: what a server acknowledges as being on disk is gone with the machine's power")
            .fix("a --dir on a disk");
    }
    if REMOTE.contains(&kind) {
        return Finding::warn(name, value)
            .because(
                "every write waits for another machine, and whether a sync reaches its disk is that machine's affair",
            )
            .fix("a --dir on a local disk");
    }
    if kind == "overlay" {
        return Finding::warn(name, value)
            .because("a container's own layer goes when the container is removed, and its data with it")
            .fix("a volume: docker run -v trine-data:/data … --dir /data");
    }
    Finding::ok(name, value)
}

fn space(disk: &Disk) -> Finding {
    let value = format!("{} of {} free", human(disk.free_bytes), human(disk.total_bytes));
    if FREE_BYTES_MIN <= disk.free_bytes {
        return Finding::ok("disk-space", value);
    }
    Finding::warn("disk-space", value)
        .because("the log's segments and a snapshot stand side by side; without room, writes are refused")
        .fix("make room, or a --dir elsewhere")
}

fn direct(disk: &Disk) -> Finding {
    if disk.is_direct {
        return Finding::ok("direct-io", "yes");
    }
    Finding::warn("direct-io", "no")
        .because(
            "this file system has no O_DIRECT: the log goes through the kernel's cache, which costs memory and time",
        )
        .fix("a --dir on ext4 or xfs")
}

fn fua(disk: &Disk) -> Finding {
    if disk.has_fua {
        return Finding::ok("fua", "yes");
    }
    Finding::ok("fua", "no, or not visible").because(
        "each write is followed by a flush of the device's whole cache, which a worker of the kernel waits for",
    )
}

fn sync(disk: &Disk) -> Finding {
    let name = "sync-latency";
    let times = &disk.sync_us;
    let at = |percent: usize| times.get(times.len() * percent / 100).or(times.last());
    let (Some(p50), Some(p99), Some(max)) = (at(50), at(99), times.last()) else {
        return Finding::warn(name, "not measured").because("no write came back in time");
    };
    let (p50, p99) = (*p50, *p99);
    let value = format!("p50 {p50} µs, p99 {p99} µs, slowest {max} µs (of {} writes of 4 KiB)", disk.sync_us.len());
    if SYNC_US_MAX < p99 {
        return Finding::warn(name, value)
            .because("with --durability always a write is acknowledged when it is synced; this disk makes it wait")
            .fix("a faster disk, or --durability interval where the last two seconds may be lost");
    }
    if p50 < SYNC_US_MIN {
        return Finding::warn(name, value)
            .because("no disk is that fast: something below may say that a block is on disk before it is")
            .fix("see whether the host's cache for this disk survives a loss of power");
    }
    Finding::ok(name, value)
}
