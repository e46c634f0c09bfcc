//! Reads what the kernel says of this machine.

use std::{fs, path::Path};

use rustix::{
    process::{Resource, getrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use super::{
    super::{cli::configuration_without_flags, executor, probe},
    disk, groups, load, ports,
};
use crate::{
    config::{Config, SETTINGS},
    doctor::readings::{Readings, Turbo},
};

const CPU: &str = "/sys/devices/system/cpu";
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";
/// CAP_IPC_LOCK, by its number in capabilities(7).
const IPC_LOCK: u32 = 14;

/// Reads everything. `ports` are tried; without any, those that `trine serve` would take.
pub(super) fn readings(ports: &[u16], directory: Option<&Path>) -> Readings {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let cpus = executor::allowed_cpus().unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| field(&meminfo, name, ':').and_then(|text| number(&text)).unwrap_or(0) << 10;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = field(&status, "CapEff", ':').and_then(|text| u64::from_str_radix(&text, 16).ok()).unwrap_or(0);
    let outgoing = line_of("/proc/sys/net/ipv4/ip_local_port_range").and_then(|line| {
        let (first, last) = line.split_once(char::is_whitespace)?;
        Some((first.parse().ok()?, last.trim().parse().ok()?))
    });
    let gateway = Config::default().port;
    let usual: Vec<u16> = (gateway..).take(cpus.len() + 1).collect();
    let ports_were_named = !ports.is_empty();
    let tried = if ports_were_named { ports } else { &usual };
    Readings {
        ring_refused: probe::refusal(&kernel),
        is_unpinned: is_unpinned(),
        pinning_refused: pin().err().map(|error| error.to_string()),
        locked_bytes_max: getrlimit(Resource::Memlock).current,
        may_lock: capabilities >> IPC_LOCK & 1 == 1,
        open_files_max: getrlimit(Resource::Nofile).maximum,
        cpus_online: line_of(&format!("{CPU}/online")).map_or(cpus.len(), |line| count(&line)),
        cpu_quota: groups::cpu_quota(),
        cores: cores(&cpus),
        governors: governors(&cpus),
        turbo: turbo(),
        clock_source: line_of(&format!("{CLOCK}/current_clocksource")),
        clock_sources: words(&format!("{CLOCK}/available_clocksource")),
        hypervisor: hypervisor(),
        steal: fs::read_to_string("/proc/stat").ok().and_then(|text| steal(&text)),
        memory_bytes: kib("MemTotal"),
        memory_limit_bytes: groups::memory_limit(),
        huge_pages: line_of("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|line| chosen(&line)),
        swap_bytes: kib("SwapTotal"),
        swap_used_bytes: kib("SwapTotal").saturating_sub(kib("SwapFree")),
        connections_waiting_max: line_of("/proc/sys/net/core/somaxconn").and_then(|line| line.parse().ok()),
        ports: ports::try_ports(tried),
        load: load::watch(),
        ports_were_named,
        outgoing_ports: outgoing,
        disk: directory.map(disk::read),
        kernel,
        cpus,
    }
}

/// Returns true if the environment says that cores run on any CPU. Nothing else that it says is judged here.
fn is_unpinned() -> bool {
    let others: Vec<_> = SETTINGS.iter().map(|setting| setting.name).filter(|&name| name != "cpus").collect();
    configuration_without_flags(&others).is_ok_and(|config| !config.is_pinned)
}

fn line_of(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()?.lines().next().map(|line| line.trim().to_owned())
}

fn words(path: &str) -> Vec<String> {
    line_of(path).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// The first value that a text of names and values has for a name.
fn field(text: &str, name: &str, separator: char) -> Option<String> {
    let mut fields = text.lines().filter_map(|line| line.split_once(separator));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// The number that a text begins with.
fn number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The word in brackets, as in `always [madvise] never`.
fn chosen(line: &str) -> Option<String> {
    Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// The CPUs of a list such as `0-3,6`.
fn list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

fn count(text: &str) -> usize {
    list(text).len()
}

/// Checks that a thread may choose its CPU: it chooses those that it has.
fn pin() -> rustix::io::Result<()> {
    let set: CpuSet = sched_getaffinity(None)?;
    sched_setaffinity(None, &set)
}

/// The allowed CPUs by physical core.
fn cores(cpus: &[usize]) -> Vec<Vec<usize>> {
    let mut cores: Vec<Vec<usize>> = Vec::new();
    for &cpu in cpus {
        let siblings =
            line_of(&format!("{CPU}/cpu{cpu}/topology/thread_siblings_list")).map_or(vec![cpu], |line| list(&line));
        let siblings: Vec<_> = siblings.into_iter().filter(|sibling| cpus.contains(sibling)).collect();
        if !cores.contains(&siblings) {
            cores.push(siblings);
        }
    }
    cores
}

fn governors(cpus: &[usize]) -> Vec<String> {
    let of = |cpu: &usize| line_of(&format!("{CPU}/cpu{cpu}/cpufreq/scaling_governor"));
    let mut governors: Vec<_> = cpus.iter().filter_map(of).collect();
    governors.sort_unstable();
    governors.dedup();
    governors
}

fn turbo() -> Option<Turbo> {
    let pstate = line_of(&format!("{CPU}/intel_pstate/no_turbo"));
    let boost = line_of(&format!("{CPU}/cpufreq/boost"));
    match (pstate.as_deref(), boost.as_deref()) {
        (Some("0"), _) => Some(Turbo::OnByPstate),
        (None, Some("1")) => Some(Turbo::OnByBoost),
        (Some(_), _) | (_, Some(_)) => Some(Turbo::Off),
        (None, None) => None,
    }
}

/// The hypervisor's name where it gives one. Some hide it, but the processor's flag remains.
fn hypervisor() -> Option<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = field(&cpuinfo, "flags", ':').unwrap_or_default();
    if !flags.split(' ').any(|flag| flag == "hypervisor") {
        return None;
    }
    let dmi = |name: &str| line_of(&format!("/sys/class/dmi/id/{name}")).filter(|line| !line.is_empty());
    let names: Vec<_> = [dmi("sys_vendor"), dmi("product_name")].into_iter().flatten().collect();
    Some(if names.is_empty() { "its name is hidden".into() } else { names.join(" ") })
}

/// The share of all time since the start that was stolen, from `cpu user nice system idle iowait irq softirq steal …`.
fn steal(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    Some(*ticks.get(7)? as f64 / ticks.iter().sum::<u64>().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(list("0-3,6"), [0, 1, 2, 3, 6]);
        assert_eq!(count("0-1\n"), 2);
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(steal("cpu  100 0 100 700 0 0 0 100 0 0\ncpu0 1 2"), Some(0.1));
        assert_eq!(field("a: 1\nSwapTotal:   2048 kB\n", "SwapTotal", ':').and_then(|text| number(&text)), Some(2048));
    }

    /// On any machine that runs this test there are CPUs and memory.
    #[test]
    fn this_machine_can_be_read() {
        let readings = readings(&[], None);
        assert!(!readings.cpus.is_empty() && readings.cpus.len() <= readings.cpus_online, "{readings:?}");
        assert!(0 < readings.memory_bytes);
        assert!(!readings.cores.is_empty());
        assert_eq!(readings.ports.len(), readings.cpus.len() + 1);
    }
}
