//! Diagnoses of machines that are data.

use super::{
    readings::{Disk, Load, Owner, Port, Process, Turbo},
    ring::Facts,
    *,
};
use expect_test::expect;

/// A lab's host as it should be, with a core left to the kernel.
fn tuned() -> Readings {
    Readings {
        kernel: "6.8.0-45-generic".into(),
        may_lock: false,
        open_files_max: Some(1 << 20),
        cpus: (1..8).collect(),
        cpus_online: 8,
        cores: (1..8).map(|cpu| vec![cpu]).collect(),
        governors: vec!["performance".into()],
        turbo: Some(Turbo::Off),
        clock_source: Some("tsc".into()),
        clock_sources: vec!["tsc".into(), "hpet".into()],
        load: Some(Load { busy: 0.01, ..Load::default() }),
        memory_bytes: 64 << 30,
        huge_pages: Some("madvise".into()),
        connections_waiting_max: Some(4096),
        ports: (7000..7003).map(|number| Port { number, refused: None, owner: None }).collect(),
        outgoing_ports: Some((32_768, 60_999)),
        disk: Some(Disk {
            path: "/var/lib/trine".into(),
            file_system: "xfs".into(),
            is_direct: true,
            has_fua: true,
            sync_us: (20..84).collect(),
            free_bytes: 100 << 30,
            total_bytes: 200 << 30,
            ..Disk::default()
        }),
        ..Readings::default()
    }
}

/// A container with an engine's default profile, on a laptop that nobody prepared.
fn untuned() -> Readings {
    Readings {
        ring_refused: Some(Facts {
            code: 1,
            kernel: "6.8.0-45-generic".into(),
            sysctl: Some("0".into()),
            seccomp: Some("2".into()),
            memlock: Some(64 << 10),
        }),
        pinning_refused: Some("Operation not permitted".into()),
        locked_bytes_max: Some(64 << 10),
        open_files_max: Some(1024),
        cpus: (0..8).collect(),
        cpu_quota: Some(1.5),
        cores: (0..4).map(|cpu| vec![cpu, cpu + 4]).collect(),
        governors: vec!["powersave".into()],
        turbo: Some(Turbo::OnByPstate),
        clock_source: Some("hpet".into()),
        hypervisor: Some("QEMU".into()),
        steal: Some(0.034),
        load: Some(Load {
            busy: 0.55,
            stolen: 0.02,
            waited: Some(0.34),
            processes: vec![
                Process { pid: 4711, name: "rustc".into(), share: 2.5 },
                Process { pid: 4712, name: "trine serve".into(), share: 0.06 },
                Process { pid: 1, name: "init".into(), share: 0.01 },
            ],
        }),
        memory_limit_bytes: Some(1 << 30),
        swap_bytes: 2 << 30,
        swap_used_bytes: 1 << 20,
        connections_waiting_max: Some(128),
        ports: vec![Port { number: 7000, refused: Some("Address already in use".into()), owner: None }],
        ports_were_named: true,
        disk: Some(Disk {
            path: "/data".into(),
            file_system: "overlay".into(),
            sync_us: vec![900; 63].into_iter().chain([25_000]).collect(),
            free_bytes: 100 << 20,
            total_bytes: 200 << 30,
            ..Disk::default()
        }),
        ..tuned()
    }
}

fn found<'a>(diagnosis: &'a Diagnosis, name: &str) -> &'a Finding {
    diagnosis.findings.iter().find(|finding| finding.name == name).expect("it is always looked at")
}

/// Nothing to do, and nothing is asked to be done.
#[test]
fn a_tuned_host_is_well() {
    let diagnosis = examine(&tuned());
    expect![[r#"
        ok    kernel            6.8.0-45-generic
        ok    io-uring          a ring like the server's can be made
        ok    pinning           threads can choose their CPU
        ok    locked-memory     unlimited
        ok    open-files        1048576
        ok    cpus              1-7 (7 of 8 online)
        ok    cpu-quota         none
        ok    spare-cpu         1 for the kernel and others
        ok    cpu-load          1 % of 8 CPUs busy in a second
        ok    hardware-threads  one CPU a physical core, as far as can be seen
        ok    governor          performance
        ok    turbo             off
        ok    clock-source      tsc
        ok    virtual-machine   no
        ok    memory            64.00G
        ok    huge-pages        madvise
        ok    swap              none
        ok    backlog           4096
        ok    ports             7000, 7001, 7002 free
        ok    file-system       xfs at /var/lib/trine
        ok    disk-space        100.00G of 200.00G free
        ok    direct-io         yes
        ok    fua               yes
        ok    sync-latency      p50 52 µs, p99 83 µs, slowest 83 µs (of 64 writes of 4 KiB)
        all is well
    "#]]
    .assert_eq(&table(&diagnosis, 100, false));
    assert!(diagnosis.findings.iter().all(|finding| finding.fix.is_empty()));
}

/// Each thing that is in the way is told, with the reason and the way out.
#[test]
fn an_untuned_container_is_told_all_that_is_in_its_way() {
    expect![[r#"
        ok    kernel            6.8.0-45-generic
        fail  io-uring          refused
                                io_uring is filtered by seccomp (Operation not permitted (os error 1)), as
                                container engines do by default
                                fix: allow io_uring_setup, io_uring_enter and io_uring_register in the
                                     container's seccomp profile
        fail  pinning           sched_setaffinity: Operation not permitted
                                each core's thread is pinned to its CPU, and here that is forbidden
                                fix: allow sched_setaffinity: in a systemd unit, SystemCallFilter must not
                                     deny @resources; or trine serve --cpus any
        warn  locked-memory     64.00K
                                buffers for direct I/O are locked, some 2.00M a core: not every core may
                                start
                                fix: ulimit -l unlimited; in a systemd unit LimitMEMLOCK=infinity; with
                                     Docker --ulimit memlock=-1
        warn  open-files        1024
                                a connection is an open file, and a cluster's client has one to every core
                                fix: ulimit -Hn 1048576; in a systemd unit LimitNOFILE=1048576; with Docker
                                     --ulimit nofile=1048576
        ok    cpus              0-7 (8 of 8 online)
        warn  cpu-quota         1.50 CPUs
                                8 shards would use up the control group's time together, and then all stand
                                still until the next period, up to 100 ms
                                fix: trine serve --cores 1, or a cpuset in place of the quota: docker run
                                     --cpuset-cpus …
        warn  spare-cpu         none, unless trine serve leaves one free
                                trine serve takes every CPU that it may; interrupts and the disk's syncs
                                then wait for shards, or shards for them
                                fix: trine serve --cpus 1-7
        warn  cpu-load          55 % of 8 CPUs busy in a second; for 34 % of it something waited for a CPU; 2 % was stolen by the host
                                process 4711 (rustc) uses 2.50 CPUs, process 4712 (trine serve) uses 0.06
                                CPUs, 1.83 CPUs are used by processes that have ended or are not visible
                                here; requests wait while others have the CPU of their core
                                fix: stop these before measuring, or give trine serve other CPUs: --cpus
        ok    hardware-threads  4 of 4 physical cores are two or more CPUs
                                two shards on one physical core share its caches and its arithmetic; for
                                steady figures use one of each
                                hint: trine serve --cpus 0,1,2,3
        warn  governor          powersave
                                a CPU that slows down when it is idle is slow again for the next request
                                fix: cpupower frequency-set -g performance
        ok    turbo             on
                                frequency then depends on heat and on neighbours; to compare runs, switch it
                                off
                                hint: echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo
        warn  clock-source      hpet
                                time is read every turn, and from this clock it takes a system call, or a
                                microsecond
                                fix: echo tsc >
                                     /sys/devices/system/clocksource/clocksource0/current_clocksource
        warn  virtual-machine   yes (QEMU); 3.40 % of time stolen since the start
                                the host gives this machine's CPUs to others while it wants them: the tail
                                of latency is theirs
                                fix: measure on bare metal, or on a host with dedicated CPUs
        ok    memory            1.00G of the host's 64.00G, by the control group
                                a server that grows past that is killed; it does not know of the limit by
                                itself
                                hint: trine serve --max-memory 805306368
        ok    huge-pages        madvise
        warn  swap              2.00G, of which 1.00M in use
                                a key whose page was swapped out stops its whole core until the disk has
                                read it back
                                fix: swapoff -a, or at least sysctl -w vm.swappiness=1
        warn  backlog           128
                                net.core.somaxconn cuts the 4096 connections that may wait to be accepted;
                                when many clients come at once, some are refused or wait a second
                                fix: sysctl -w net.core.somaxconn=4096
        fail  ports             7000 can't be had
                                port 7000: Address already in use
                                fix: ss -ltnp 'sport = :7000' says who has it; trine serve --port takes
                                     others
        warn  file-system       overlay at /data
                                a container's own layer goes when the container is removed, and its data
                                with it
                                fix: a volume: docker run -v trine-data:/data … --dir /data
        warn  disk-space        100.00M of 200.00G free
                                the log's segments and a snapshot stand side by side; without room, writes
                                are refused
                                fix: make room, or a --dir elsewhere
        warn  direct-io         no
                                this file system has no O_DIRECT: the log goes through the kernel's cache,
                                which costs memory and time
                                fix: a --dir on ext4 or xfs
        ok    fua               no, or not visible
                                each write is followed by a flush of the device's whole cache, which a
                                worker of the kernel waits for
        warn  sync-latency      p50 900 µs, p99 25000 µs, slowest 25000 µs (of 64 writes of 4 KiB)
                                with --durability always a write is acknowledged when it is synced; this
                                disk makes it wait
                                fix: a faster disk, or --durability interval where the last two seconds may
                                     be lost
        3 things in the way, 14 warnings
    "#]]
    .assert_eq(&table(&examine(&untuned()), 100, false));
}

/// Every finding that is not well has a reason and, if anything can be done, a fix.
#[test]
fn what_is_not_well_has_a_reason_and_a_fix() {
    let diagnosis = examine(&untuned());
    assert_eq!(diagnosis.state, State::Fail);
    for finding in diagnosis.findings.iter().filter(|finding| finding.state != State::Ok) {
        assert!(!finding.reason.is_empty() && !finding.fix.is_empty(), "{finding:?}");
    }
    let names: Vec<_> = diagnosis.findings.iter().map(|finding| finding.name).collect();
    assert!(names.iter().enumerate().all(|(position, name)| !names[..position].contains(name)), "{names:?}");
}

/// One reading that changes, and the finding that it changes.
#[test]
fn each_reading_has_its_finding() {
    let disk = |change: fn(&mut Disk)| {
        let mut disk = tuned().disk.unwrap();
        change(&mut disk);
        Some(disk)
    };
    let table: [(&str, State, &str, Readings); 16] = [
        ("kernel", State::Fail, "6.1 or newer", Readings { kernel: "5.15.0-91-generic".into(), ..tuned() }),
        ("kernel", State::Ok, "", Readings { kernel: "6.1.0-28-amd64".into(), ..tuned() }),
        ("cpus", State::Fail, "", Readings { cpus: vec![], ..tuned() }),
        ("pinning", State::Ok, "", Readings { is_unpinned: true, ..untuned() }),
        ("cpu-quota", State::Ok, "", Readings { cpu_quota: Some(7.0), ..tuned() }),
        ("cpu-quota", State::Warn, "--cores 2", Readings { cpu_quota: Some(2.9), ..tuned() }),
        ("spare-cpu", State::Warn, "--cpus 2-7", Readings { cpus_online: 7, ..tuned() }),
        ("hardware-threads", State::Ok, "--cpus 1,3", Readings { cores: vec![vec![1, 2], vec![3, 4]], ..tuned() }),
        ("clock-source", State::Warn, "echo tsc", Readings { clock_source: Some("hpet".into()), ..tuned() }),
        ("locked-memory", State::Ok, "", Readings { locked_bytes_max: Some(14 << 20), ..tuned() }),
        ("locked-memory", State::Warn, "memlock", Readings { locked_bytes_max: Some(13 << 20), ..tuned() }),
        ("locked-memory", State::Ok, "", Readings { locked_bytes_max: Some(0), may_lock: true, ..tuned() }),
        ("ports", State::Warn, "reserve", Readings { outgoing_ports: Some((1024, 65_535)), ..tuned() }),
        (
            "file-system",
            State::Warn,
            "on a disk",
            Readings { disk: disk(|disk| disk.file_system = "tmpfs".into()), ..tuned() },
        ),
        ("sync-latency", State::Warn, "cache", Readings { disk: disk(|disk| disk.sync_us = vec![2; 64]), ..tuned() }),
        (
            "file-system",
            State::Fail,
            "install -d",
            Readings { disk: disk(|disk| disk.refused = Some("no".into())), ..tuned() },
        ),
    ];
    for (name, state, fix, readings) in table {
        let diagnosis = examine(&readings);
        let finding = found(&diagnosis, name);
        assert_eq!(finding.state, state, "{finding:?}");
        assert!(finding.fix.contains(fix), "{fix}: {finding:?}");
    }
}

/// Ports that processes have are told with these, each once.
#[test]
fn the_owner_of_a_port_is_told() {
    let port = |number, owner| Port { number, refused: Some("Address already in use (os error 98)".into()), owner };
    let trine = Some(Owner { pid: 4711, name: "trine serve".into() });
    let ports = vec![port(7000, trine.clone()), port(7001, trine), port(7002, None)];
    let diagnosis = examine(&Readings { ports, ..tuned() });
    let finding = found(&diagnosis, "ports");
    assert_eq!(finding.value, "7000, 7001, 7002 can't be had");
    assert_eq!(finding.reason, "process 4711 (trine serve) listens on 7000, 7001");
    assert!(finding.fix.starts_with("stop process 4711,"), "{finding:?}");
}

/// A machine that tells nothing is examined all the same.
#[test]
fn nothing_read_is_no_reason_to_fall() {
    let diagnosis = examine(&Readings::default());
    assert_eq!(diagnosis.state, State::Fail, "no CPU is known");
}

/// Colours only where they were asked for, and each line is as wide as it may be.
#[test]
fn a_terminal_gets_colours_and_narrow_lines() {
    let text = table(&examine(&untuned()), 100, true);
    assert!(text.contains("\u{1b}[31mfail\u{1b}[0m") && text.contains("\u{1b}[33mwarn\u{1b}[0m"));
    let reasons = text.lines().filter(|line| line.starts_with("     "));
    assert!(reasons.map(|line| line.chars().count()).all(|length| length <= 100), "{text}");
}
