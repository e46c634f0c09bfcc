//! CPUs: how many, whose, how fast, and what reads the time.

use super::{
    Finding, Readings,
    readings::{Process, Turbo},
};
use crate::config::list;

/// Above this share of stolen time, figures say more of the neighbours than of Trine.
const STEAL_MAX: f64 = 0.01;
/// Below this share of a CPU a process is in nobody's way; the load generator has the same limit.
const SHARE_MAX: f64 = 0.05;
/// CPU time that no visible process used: less may be the kernel's, or of processes that have ended.
const UNSEEN_MAX: f64 = 0.25;
/// The number of processes that are named.
const NAMES_MAX: usize = 4;
/// Clocks that are read without leaving the program.
const FAST_CLOCKS: [&str; 4] = ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];

pub(super) fn cpus(readings: &Readings) -> Finding {
    let (allowed, online) = (readings.cpus.len(), readings.cpus_online);
    let value = format!("{} ({allowed} of {online} online)", ranges(&readings.cpus));
    if allowed == 0 {
        return Finding::fail("cpus", "none known").because("the kernel does not say where this process may run");
    }
    Finding::ok("cpus", value)
}

pub(super) fn quota(readings: &Readings) -> Finding {
    let name = "cpu-quota";
    let Some(quota) = readings.cpu_quota else { return Finding::ok(name, "none") };
    let value = format!("{quota:.2} CPUs");
    let allowed = readings.cpus.len();
    if allowed as f64 <= quota {
        return Finding::ok(name, value);
    }
    let whole = (quota as usize).max(1);
    Finding::warn(name, value)
        .because(format!(
            "{allowed} shards would use up the control group's time together, and then all stand still until the next \
             period, up to 100 ms"
        ))
        .fix(format!("trine serve --cores {whole}, or a cpuset in place of the quota: docker run --cpuset-cpus …"))
}

pub(super) fn spare_cpu(readings: &Readings) -> Finding {
    let (name, allowed) = ("spare-cpu", readings.cpus.len());
    match readings.cpus_online.saturating_sub(allowed) {
        0 if allowed < 2 => Finding::warn(name, "none").because(
            "the only CPU also serves the kernel's interrupts and the disk's syncs; its figures are not steady",
        ),
        0 => Finding::warn(name, "none, unless trine serve leaves one free")
            .because(
                "trine serve takes every CPU that it may; interrupts and the disk's syncs then wait for shards, or \
                 shards for them",
            )
            .fix(format!("trine serve --cpus {}", ranges(&readings.cpus[1..]))),
        spare => Finding::ok(name, format!("{spare} for the kernel and others")),
    }
}

pub(super) fn load(readings: &Readings) -> Finding {
    let name = "cpu-load";
    let Some(load) = &readings.load else { return Finding::ok(name, "not visible") };
    let mut value = format!("{:.0} % of {} CPUs busy in a second", load.busy * 100.0, readings.cpus_online);
    if let Some(waited) = load.waited.filter(|&waited| 0.01 <= waited) {
        value += &format!("; for {:.0} % of it something waited for a CPU", waited * 100.0);
    }
    if STEAL_MAX < load.stolen {
        value += &format!("; {:.0} % was stolen by the host", load.stolen * 100.0);
    }
    let say = |process: &Process| format!("process {} ({}) uses {:.2} CPUs", process.pid, process.name, process.share);
    let heavy: Vec<String> =
        load.processes.iter().filter(|process| SHARE_MAX < process.share).take(NAMES_MAX).map(say).collect();
    let seen: f64 = load.processes.iter().map(|process| process.share).sum();
    let unseen = load.busy * readings.cpus_online as f64 - seen;
    let hidden = format!("{unseen:.2} CPUs are used by processes that have ended or are not visible here");
    let said: Vec<String> = heavy.into_iter().chain((UNSEEN_MAX < unseen).then_some(hidden)).collect();
    if said.is_empty() {
        return Finding::ok(name, value);
    }
    Finding::warn(name, value)
        .because(format!("{}; requests wait while others have the CPU of their core", said.join(", ")))
        .fix("stop these before measuring, or give trine serve other CPUs: --cpus")
}

pub(super) fn threads(readings: &Readings) -> Finding {
    let shared = readings.cores.iter().filter(|core| 1 < core.len()).count();
    if shared == 0 {
        return Finding::ok("hardware-threads", "one CPU a physical core, as far as can be seen");
    }
    let first: Vec<usize> = readings.cores.iter().filter_map(|core| core.first().copied()).collect();
    Finding::ok("hardware-threads", format!("{shared} of {} physical cores are two or more CPUs", readings.cores.len()))
        .because(
            "two shards on one physical core share its caches and its arithmetic; for steady figures use one of each",
        )
        .fix(format!("trine serve --cpus {}", list(&first)))
}

pub(super) fn governor(readings: &Readings) -> Finding {
    let governors = readings.governors.join(", ");
    match readings.governors.as_slice() {
        [] => Finding::ok("governor", "none visible: the host decides, or frequency is fixed"),
        [only] if only == "performance" => Finding::ok("governor", governors),
        _ => Finding::warn("governor", governors)
            .because("a CPU that slows down when it is idle is slow again for the next request")
            .fix("cpupower frequency-set -g performance"),
    }
}

pub(super) fn turbo(readings: &Readings) -> Finding {
    let on = |file: &str, word: &str| {
        Finding::ok("turbo", "on")
            .because("frequency then depends on heat and on neighbours; to compare runs, switch it off")
            .fix(format!("echo {word} > /sys/devices/system/cpu/{file}"))
    };
    match readings.turbo {
        None => Finding::ok("turbo", "not visible"),
        Some(Turbo::Off) => Finding::ok("turbo", "off"),
        Some(Turbo::OnByPstate) => on("intel_pstate/no_turbo", "1"),
        Some(Turbo::OnByBoost) => on("cpufreq/boost", "0"),
    }
}

pub(super) fn clock_source(readings: &Readings) -> Finding {
    let name = "clock-source";
    let Some(source) = &readings.clock_source else { return Finding::ok(name, "not visible") };
    if FAST_CLOCKS.contains(&source.as_str()) {
        return Finding::ok(name, source);
    }
    let better = FAST_CLOCKS.iter().find(|&&fast| readings.clock_sources.iter().any(|source| source == fast));
    let finding = Finding::warn(name, source)
        .because("time is read every turn, and from this clock it takes a system call, or a microsecond");
    match better {
        Some(better) => {
            finding.fix(format!("echo {better} > /sys/devices/system/clocksource/clocksource0/current_clocksource"))
        }
        None => finding.fix("start the kernel with tsc=reliable, if the host's clock can be relied on"),
    }
}

pub(super) fn virtual_machine(readings: &Readings) -> Finding {
    let steal = readings.steal.unwrap_or(0.0);
    let share = format!("{:.2} % of time stolen since the start", steal * 100.0);
    match &readings.hypervisor {
        None if steal == 0.0 => Finding::ok("virtual-machine", "no"),
        name => {
            let value = format!("yes ({}); {share}", name.as_deref().unwrap_or("steal shows it"));
            if steal <= STEAL_MAX {
                return Finding::ok("virtual-machine", value)
                    .because("figures move with the host's other guests; ratios within a run hold better");
            }
            Finding::warn("virtual-machine", value)
                .because(
                    "the host gives this machine's CPUs to others while it wants them: the tail of latency is theirs",
                )
                .fix("measure on bare metal, or on a host with dedicated CPUs")
        }
    }
}

/// CPUs as people write them: `0-3,6`.
fn ranges(cpus: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let write =
        |&(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.iter().map(write).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_written_in_ranges() {
        for (cpus, text) in [(&[][..], ""), (&[3], "3"), (&[0, 1, 2, 5, 7, 8], "0-2,5,7-8")] {
            assert_eq!(ranges(cpus), text);
        }
    }
}
