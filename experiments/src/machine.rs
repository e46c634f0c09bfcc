//! The machine that measures: what it is, and how busy its CPUs and the measured processes are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What a reader must know to judge or repeat a result.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Environment {
    pub started: String,
    pub system: String,
    pub kernel: String,
    pub cpu: String,
    pub cpus: usize,
    pub governor: String,
    pub memory_gib: f64,
    pub virtualisation: String,
    pub commit: String,
    /// What each program says its version is.
    pub versions: BTreeMap<String, String>,
}

impl Environment {
    /// Looks at this machine; `programs` are asked for their versions.
    pub fn here(programs: &[&Path]) -> Self {
        let rustc = Path::new("rustc");
        let versions = programs.iter().copied().chain([rustc]).map(|program| {
            let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
            (name, first_line(program, &["--version"]).unwrap_or_else(|| "not known".to_owned()))
        });
        Self {
            started: now(),
            system: field("/etc/os-release", "PRETTY_NAME", '=').unwrap_or_else(|| "Linux".to_owned()),
            kernel: line_of("/proc/sys/kernel/osrelease").unwrap_or_default(),
            cpu: field("/proc/cpuinfo", "model name", ':').unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpus: available_cpus().len(),
            governor: line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
                .unwrap_or_else(|| "none visible".to_owned()),
            memory_gib: memory_gib(),
            virtualisation: virtualisation(),
            commit: commit(),
            versions: versions.collect(),
        }
    }

    /// Returns what to show, as names and values.
    pub fn rows(&self) -> Vec<(String, String)> {
        let row = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut rows = vec![
            row("started", &self.started),
            row("commit", if self.commit.is_empty() { "not known" } else { &self.commit }),
            row("CPU", &format!("{}, {} usable", self.cpu, self.cpus)),
            row("memory", &format!("{:.1} GiB", self.memory_gib)),
            row("system", &format!("{}, kernel {}", self.system, self.kernel)),
            row("frequency governor", &self.governor),
            row("virtualisation", &self.virtualisation),
        ];
        rows.extend(self.versions.iter().map(|(name, version)| row(name, version)));
        rows
    }
}

/// The time as RFC 3339 in UTC.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}

/// Returns the commit of the working directory, with a mark where files differ from it; empty outside a repository.
pub fn commit() -> String {
    let git = Path::new("git");
    let Some(commit) = first_line(git, &["rev-parse", "HEAD"]) else { return String::new() };
    match first_line(git, &["status", "--porcelain", "--untracked-files=no"]) {
        Some(_) => format!("{commit} with local changes"),
        None => commit,
    }
}

/// Returns the CPUs this program may run on.
pub fn available_cpus() -> Vec<usize> {
    let allowed = rustix::thread::sched_getaffinity(None);
    match allowed {
        Ok(allowed) => (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect(),
        Err(_) => (0..std::thread::available_parallelism().map_or(1, usize::from)).collect(),
    }
}

fn memory_gib() -> f64 {
    let total = field("/proc/meminfo", "MemTotal", ':').unwrap_or_default();
    total.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / f64::from(1 << 20)
}

/// Returns what stands between this program and the hardware. Guests that hide their hypervisor's name still carry the
/// CPU flag.
fn virtualisation() -> String {
    let detect = |what| first_line(Path::new("systemd-detect-virt"), &[what]).filter(|found| found != "none");
    let flagged = || {
        let flags = field("/proc/cpuinfo", "flags", ':').unwrap_or_default();
        flags.split(' ').any(|flag| flag == "hypervisor").then(|| "a hypervisor".to_owned())
    };
    let found: Vec<String> = [detect("--vm").or_else(flagged), detect("--container")].into_iter().flatten().collect();
    if found.is_empty() { "none visible".to_owned() } else { found.join(", ") }
}

fn line_of(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()?.lines().next().map(|line| line.trim().to_owned())
}

/// Returns the first value that a file of names and values has for a name.
fn field(path: &str, name: &str, separator: char) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(separator));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().trim_matches('"').to_owned())
}

fn first_line(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

/// How busy CPUs and processes were while a point was measured.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Utilisation {
    /// Every CPU of the machine, by number: the share of time it was not idle.
    pub cpus: Vec<CpuBusy>,
    /// The processes of the target: CPU time over time, so a process on two cores reaches 2.
    pub target: Vec<ProcessBusy>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CpuBusy {
    pub cpu: usize,
    pub busy: f64,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ProcessBusy {
    pub pid: u32,
    pub name: String,
    pub busy: f64,
}

/// Watches counters while a load generator runs. Only when it has ended is it known which part was the measurement,
/// so all samples are kept until then; a minute of them is 600.
pub struct Watch {
    roots: Vec<u32>,
    samples: Vec<Sample>,
}

struct Sample {
    at: Instant,
    /// Ticks busy and in total, by CPU.
    cpus: BTreeMap<usize, (u64, u64)>,
    /// Name and ticks, by process.
    processes: BTreeMap<u32, (String, u64)>,
}

/// Short against a measurement, long against the 10 ms in which the kernel counts.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Of a shorter time, little more than rounding would be seen.
const SHORTEST_WINDOW: Duration = Duration::from_millis(200);
/// The unit of /proc/PID/stat and /proc/stat: USER_HZ, which Linux fixes at 100 for all programs (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

impl Watch {
    /// Watches all CPUs, and the processes `roots` with all that descend from them.
    pub fn new(roots: Vec<u32>) -> Self {
        Self { roots, samples: Vec::new() }
    }

    /// Takes a sample when it is time for one.
    pub fn poll(&mut self) {
        if self.samples.last().is_none_or(|last| SAMPLE_EVERY <= last.at.elapsed()) {
            self.sample();
        }
    }

    fn sample(&mut self) {
        let processes = processes_under(&self.roots);
        self.samples.push(Sample { at: Instant::now(), cpus: cpu_ticks(), processes });
    }

    /// Returns what was busy in the last `length` before now, which is when the load generator measured.
    pub fn last(mut self, length: Duration) -> Utilisation {
        self.sample();
        let Some(end) = self.samples.last() else { return Utilisation::default() };
        let begin = self.samples.iter().find(|sample| end.at.duration_since(sample.at) <= length);
        match begin {
            Some(begin) if SHORTEST_WINDOW <= end.at.duration_since(begin.at) => between(begin, end),
            _ => Utilisation::default(),
        }
    }
}

fn between(begin: &Sample, end: &Sample) -> Utilisation {
    let seconds = end.at.duration_since(begin.at).as_secs_f64();
    let cpus = end.cpus.iter().filter_map(|(&cpu, &(busy, total))| {
        let &(busy_before, total_before) = begin.cpus.get(&cpu)?;
        let passed = total.saturating_sub(total_before).max(1) as f64;
        Some(CpuBusy { cpu, busy: (busy.saturating_sub(busy_before) as f64 / passed).min(1.0) })
    });
    let target = end.processes.iter().filter_map(|(&pid, (name, ticks))| {
        let (_, ticks_before) = begin.processes.get(&pid)?;
        let busy = ticks.saturating_sub(*ticks_before) as f64 / TICKS_PER_SECOND / seconds;
        Some(ProcessBusy { pid, name: name.clone(), busy })
    });
    Utilisation { cpus: cpus.collect(), target: target.collect() }
}

fn cpu_ticks() -> BTreeMap<usize, (u64, u64)> {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    text.lines().filter_map(parse_cpu).collect()
}

/// Reads a line such as `cpu1 user nice system idle iowait irq softirq steal guest guest_nice` (proc(5)). What was
/// stolen by the hypervisor counts as busy: it was wanted and not to be had. Guest time is part of user time already.
fn parse_cpu(line: &str) -> Option<(usize, (u64, u64))> {
    let mut words = line.split_whitespace();
    let cpu = words.next()?.strip_prefix("cpu")?.parse().ok()?;
    let ticks: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
    let total: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((cpu, (total - idle, total)))
}

/// Returns the name and ticks of processes and of all that descend from them.
fn processes_under(roots: &[u32]) -> BTreeMap<u32, (String, u64)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(process) = parse_process(&text) {
            all.insert(pid, process);
        }
    }
    let descends = |mut pid: u32| {
        // A parent is always there unless it has just ended; then this process is not counted in this sample.
        while !roots.contains(&pid) {
            match all.get(&pid) {
                Some(process) if process.parent != pid && process.parent != 0 => pid = process.parent,
                _ => return false,
            }
        }
        true
    };
    let pids: Vec<u32> = all.keys().copied().filter(|&pid| descends(pid)).collect();
    pids.iter().filter_map(|&pid| all.get(&pid).map(|process| (pid, (process.name.clone(), process.ticks)))).collect()
}

struct Process {
    name: String,
    parent: u32,
    ticks: u64,
}

/// Reads /proc/PID/stat. The name stands in parentheses and may itself hold any character.
fn parse_process(text: &str) -> Option<Process> {
    let (before, rest) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // proc(5) counts from pid = 1; `rest` begins with the third, the state.
    let number = |field: usize| fields.get(field - 3).and_then(|word| word.parse::<u64>().ok());
    Some(Process { name: name.to_owned(), parent: u32::try_from(number(4)?).ok()?, ticks: number(14)? + number(15)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of proc(5), also for a process whose name is meant to confuse.
    #[test]
    fn ticks_are_read_from_proc() {
        assert_eq!(parse_cpu("cpu3 100 10 50 800 40 1 2 7 0 0"), Some((3, (170, 1010))));
        assert_eq!(parse_cpu("cpu  100 10 50 800 40 1 2 7 0 0"), None, "the sum of all is no CPU");
        assert_eq!(parse_cpu("intr 1 2 3"), None);
        let process = parse_process("42 (a) b (c) S 7 42 42 0 -1 4194560 1 0 0 0 31 11 0 0 20 0 1 0 5 6 7").unwrap();
        assert_eq!((process.name.as_str(), process.parent, process.ticks), ("a) b (c", 7, 42));
    }

    /// This process is busy, is found under itself, and CPUs stay between idle and busy.
    #[test]
    fn work_shows_as_utilisation() {
        let mut watch = Watch::new(vec![std::process::id()]);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(300) {
            watch.poll();
        }
        let utilisation = watch.last(Duration::from_secs(1));
        let this = utilisation.target.iter().find(|process| process.pid == std::process::id()).unwrap();
        assert!(0.1 < this.busy, "{utilisation:?}");
        assert!(!utilisation.cpus.is_empty());
        assert!(utilisation.cpus.iter().all(|cpu| (0.0..=1.0).contains(&cpu.busy)), "{utilisation:?}");
    }
}
