//! The machine that measures: what it is, and how busy its CPUs and the measured processes are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::doctor::Doctor;

/// The environment of a result: all that a reader must know to judge or repeat it.
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
    /// The commit that `trine` was built from; empty where it does not know.
    pub commit: String,
    /// The version that each program prints.
    pub versions: BTreeMap<String, String>,
    /// The findings of the server's own doctor; `None` where its program has none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doctor: Option<Doctor>,
}

impl Environment {
    /// Looks at this machine; `programs` are asked for their versions, and `trine` for what it makes of the machine and of
    /// the disk under `folder`.
    pub fn here(programs: &[&Path], trine: &Path, folder: &Path) -> Self {
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
            commit: first_line(trine, &["--version"]).map_or_else(String::new, |line| commit_of(&line)),
            versions: versions.collect(),
            doctor: Doctor::ask(trine, folder),
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
        rows.extend(self.doctor.iter().map(|doctor| row("trine doctor", &doctor.summary())));
        rows.extend(self.versions.iter().map(|(name, version)| row(name, version)));
        rows
    }
}

/// The time as RFC 3339 in UTC.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}

/// Returns the commit that a program was built from, by the line it prints for `--version`; empty where it says none. Not
/// the commit of the working directory: what is measured may have been built from another.
fn commit_of(version: &str) -> String {
    let commit = version.split_once("(commit ").and_then(|(_, rest)| rest.strip_suffix(')'));
    commit.filter(|commit| *commit != "unknown").unwrap_or_default().replace(", ", " ")
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

/// The load of CPUs and processes while a point was measured.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Utilisation {
    /// Every CPU of the machine, by number: the share of time it was not idle.
    pub cpus: Vec<CpuBusy>,
    /// The processes of the target: CPU time over time, so a process on two cores reaches 2.
    pub target: Vec<ProcessBusy>,
    /// The CPU time that other processes took of the CPUs that the target may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<Taken>,
}

/// CPU time that neither the target nor the load generator used, though the target could have.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Taken {
    /// The CPU; `None` for the mean over all CPUs, where the target may run on any.
    pub cpu: Option<usize>,
    /// CPU time over time.
    pub share: f64,
    /// The processes that took most of it, with their numbers; "the hypervisor" for stolen time.
    pub by: Vec<String>,
}

impl Taken {
    /// Returns the reason for which a measurement is in doubt, if this is one.
    pub fn reason(&self) -> Option<String> {
        let place = self.cpu.map_or_else(|| "the CPUs were".to_owned(), |cpu| format!("CPU {cpu} of the servers was"));
        let by = if self.by.is_empty() { "others".to_owned() } else { self.by.join(", ") };
        (TAKEN_MAX < self.share).then(|| format!("{place} taken for {:.0} % by {by}", self.share * 100.0))
    }
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
    /// The load generator, once it runs: neither the target nor one of the others.
    load: Option<u32>,
    /// The CPUs that the target is held to; `None`: it may run on any.
    cpus: Option<Vec<usize>>,
    samples: Vec<Sample>,
    /// Every process that was seen, but for what it counted.
    names: BTreeMap<u32, Name>,
}

struct Sample {
    at: Instant,
    /// Ticks by CPU.
    cpus: BTreeMap<usize, Ticks>,
    /// Ticks of each process, and the CPU that it ran on last.
    processes: BTreeMap<u32, (u64, usize)>,
}

/// A process, and whose it is.
struct Name {
    name: String,
    owner: Owner,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Owner {
    Target,
    Load,
    /// The kernel's threads work for whoever asked them to.
    Kernel,
    Other,
}

/// The time of a CPU, in ticks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Ticks {
    busy: u64,
    total: u64,
    /// Of the busy ones: those that the hypervisor gave to somebody else.
    stolen: u64,
}

/// The share of a CPU of the target that other processes may take before a measurement is in doubt.
const TAKEN_MAX: f64 = 0.05;
/// Less than this is not worth a record.
const TAKEN_WORTH_TELLING: f64 = 0.01;
/// Of so many processes the names are told.
const NAMES_MAX: usize = 3;

/// Short against a measurement, long against the 10 ms in which the kernel counts.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Of a shorter time, little more than rounding would be seen.
const SHORTEST_WINDOW: Duration = Duration::from_millis(200);
/// The unit of /proc/PID/stat and /proc/stat: USER_HZ, which Linux fixes at 100 for all programs (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

impl Watch {
    /// Watches all CPUs, and the processes `roots` with all that descend from them, which are held to `cpus`.
    pub fn new(roots: Vec<u32>, cpus: Option<Vec<usize>>) -> Self {
        Self { roots, load: None, cpus, samples: Vec::new(), names: BTreeMap::new() }
    }

    /// Says which process is the load generator.
    pub fn load_is(&mut self, pid: u32) {
        self.load = Some(pid);
    }

    /// Takes a sample when it is time for one.
    pub fn poll(&mut self) {
        if self.samples.last().is_none_or(|last| SAMPLE_EVERY <= last.at.elapsed()) {
            self.sample();
        }
    }

    fn sample(&mut self) {
        let all = processes();
        let processes = all.iter().map(|(&pid, process)| (pid, (process.ticks, process.cpu))).collect();
        for (&pid, process) in &all {
            if !self.names.contains_key(&pid) {
                let owner = self.owner(pid, &all);
                let name = match owner {
                    // The kernel cuts names to 15 bytes, and programs of one name are told apart by their numbers.
                    Owner::Other => format!("process {pid} ({})", full_name(pid, &process.name)),
                    _ => process.name.clone(),
                };
                self.names.insert(pid, Name { name, owner });
            }
        }
        self.samples.push(Sample { at: Instant::now(), cpus: cpu_ticks(), processes });
    }

    /// Returns the owner of a process. A parent is always there unless it has just ended; then nobody knows any more, and it is
    /// another's.
    fn owner(&self, mut pid: u32, all: &BTreeMap<u32, Process>) -> Owner {
        loop {
            match pid {
                pid if self.roots.contains(&pid) => return Owner::Target,
                pid if self.load == Some(pid) => return Owner::Load,
                // Not where the kernel hides it: in a container another process has its number.
                KERNEL_THREADS if all.get(&pid).is_some_and(|process| process.name == "kthreadd") => {
                    return Owner::Kernel;
                }
                _ => {}
            }
            match all.get(&pid) {
                Some(process) if process.parent != pid && process.parent != 0 => pid = process.parent,
                _ => return Owner::Other,
            }
        }
    }

    /// Returns what was busy in the last `length` before now, which is when the load generator measured.
    pub fn last(mut self, length: Duration) -> Utilisation {
        self.sample();
        let Some(end) = self.samples.last() else { return Utilisation::default() };
        let begin = self.samples.iter().position(|sample| end.at.duration_since(sample.at) <= length);
        match begin {
            Some(begin) if SHORTEST_WINDOW <= end.at.duration_since(self.samples[begin].at) => {
                self.during(&self.samples[begin..])
            }
            _ => Utilisation::default(),
        }
    }

    fn during(&self, samples: &[Sample]) -> Utilisation {
        let (Some(begin), Some(end)) = (samples.first(), samples.last()) else { return Utilisation::default() };
        let seconds = end.at.duration_since(begin.at).as_secs_f64();
        let cpus = end.cpus.iter().filter_map(|(&cpu, ticks)| {
            let passed = ticks.since(begin.cpus.get(&cpu)?);
            Some(CpuBusy { cpu, busy: (passed.busy as f64 / passed.total.max(1) as f64).min(1.0) })
        });
        let used = self.used(samples);
        let target = used.iter().filter(|(pid, _)| self.is(**pid, Owner::Target) && end.processes.contains_key(pid));
        let target = target.map(|(&pid, &(ticks, _))| {
            let busy = ticks as f64 / TICKS_PER_SECOND / seconds;
            ProcessBusy { pid, name: self.names[&pid].name.clone(), busy }
        });
        let stolen = |cpu: &usize| Some(end.cpus.get(cpu)?.since(begin.cpus.get(cpu)?).stolen);
        Utilisation {
            cpus: cpus.collect(),
            target: target.collect(),
            taken: self.taken(&used, stolen, end.cpus.keys().copied().collect(), seconds),
        }
    }

    fn is(&self, pid: u32, owner: Owner) -> bool {
        self.names.get(&pid).is_some_and(|name| name.owner == owner)
    }

    /// The ticks that each process used from the first of these samples to the last in which it was seen, and the CPU it
    /// ran on then. What began in between used all that it has.
    fn used(&self, samples: &[Sample]) -> BTreeMap<u32, (u64, usize)> {
        let mut used = BTreeMap::new();
        for sample in samples {
            for (&pid, &(ticks, cpu)) in &sample.processes {
                let before = samples[0].processes.get(&pid).map_or(0, |(ticks, _)| *ticks);
                used.insert(pid, (ticks.saturating_sub(before), cpu));
            }
        }
        used
    }

    /// Returns the CPU time that other processes took of the CPUs that the target may use, by CPU; of all CPUs together where
    /// it may use any. Nothing where the target ran already: it may be one of the others, or on another machine.
    fn taken(
        &self,
        used: &BTreeMap<u32, (u64, usize)>,
        stolen: impl Fn(&usize) -> Option<u64>,
        all: Vec<usize>,
        seconds: f64,
    ) -> Vec<Taken> {
        let places: Vec<(Option<usize>, Vec<usize>)> = match &self.cpus {
            _ if self.roots.is_empty() => Vec::new(),
            Some(cpus) => cpus.iter().map(|&cpu| (Some(cpu), vec![cpu])).collect(),
            None => vec![(None, all)],
        };
        let taken = places.into_iter().map(|(cpu, cpus)| {
            let others = used.iter().filter(|(pid, (_, cpu))| self.is(**pid, Owner::Other) && cpus.contains(cpu));
            let mut by: BTreeMap<&str, u64> = BTreeMap::new();
            for (pid, (ticks, _)) in others {
                *by.entry(self.names[pid].name.as_str()).or_default() += ticks;
            }
            by.insert("the hypervisor", cpus.iter().filter_map(&stolen).sum());
            let ticks: u64 = by.values().sum();
            let mut by: Vec<(&str, u64)> = by.into_iter().filter(|(_, ticks)| 0 < *ticks).collect();
            by.sort_by_key(|(_, ticks)| std::cmp::Reverse(*ticks));
            // Which CPU a process used is known of its first thread alone: more than all of it nobody took.
            let share = (ticks as f64 / TICKS_PER_SECOND / seconds / cpus.len().max(1) as f64).min(1.0);
            Taken { cpu, share, by: by.into_iter().take(NAMES_MAX).map(|(name, _)| name.to_owned()).collect() }
        });
        taken.filter(|taken| TAKEN_WORTH_TELLING < taken.share).collect()
    }
}

/// The kernel's threads descend from this one.
const KERNEL_THREADS: u32 = 2;

impl Ticks {
    fn since(self, before: &Self) -> Self {
        Self {
            busy: self.busy.saturating_sub(before.busy),
            total: self.total.saturating_sub(before.total),
            stolen: self.stolen.saturating_sub(before.stolen),
        }
    }
}

fn cpu_ticks() -> BTreeMap<usize, Ticks> {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    text.lines().filter_map(parse_cpu).collect()
}

/// Reads a line such as `cpu1 user nice system idle iowait irq softirq steal guest guest_nice` (proc(5)). What was
/// stolen by the hypervisor counts as busy: it was wanted and not to be had. Guest time is part of user time already.
fn parse_cpu(line: &str) -> Option<(usize, Ticks)> {
    let mut words = line.split_whitespace();
    let cpu = words.next()?.strip_prefix("cpu")?.parse().ok()?;
    let ticks: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
    let total: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((cpu, Ticks { busy: total - idle, total, stolen: ticks.get(7).copied().unwrap_or(0) }))
}

/// Returns every process that can be seen.
fn processes() -> BTreeMap<u32, Process> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(process) = parse_process(&text) {
            all.insert(pid, process);
        }
    }
    all
}

/// Returns a process's program and subcommand; the kernel's short name if it has ended.
fn full_name(pid: u32, short: &str) -> String {
    let name = trine::io::processes::name(pid);
    if name.is_empty() { short.to_owned() } else { name }
}

struct Process {
    name: String,
    parent: u32,
    ticks: u64,
    /// The CPU that it ran on last.
    cpu: usize,
}

/// Reads /proc/PID/stat. The name stands in parentheses and may itself hold any character.
fn parse_process(text: &str) -> Option<Process> {
    let (before, rest) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // proc(5) counts from pid = 1; `rest` begins with the third, the state.
    let number = |field: usize| fields.get(field - 3).and_then(|word| word.parse::<u64>().ok());
    Some(Process {
        name: name.to_owned(),
        parent: u32::try_from(number(4)?).ok()?,
        ticks: number(14)? + number(15)?,
        cpu: number(39).and_then(|cpu| usize::try_from(cpu).ok()).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of proc(5), also for a process whose name is meant to confuse.
    #[test]
    fn ticks_are_read_from_proc() {
        assert_eq!(
            parse_cpu("cpu3 100 10 50 800 40 1 2 7 0 0"),
            Some((3, Ticks { busy: 170, total: 1010, stolen: 7 }))
        );
        assert_eq!(parse_cpu("cpu  100 10 50 800 40 1 2 7 0 0"), None, "the sum of all is no CPU");
        assert_eq!(parse_cpu("intr 1 2 3"), None);
        let head = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 0 0 0 31 11 0 0 20 0 1 0 5 6 7";
        let process = parse_process(&format!("{head} 8 9 0 0 0 0 0 0 0 0 0 0 0 17 3 0 0")).unwrap();
        assert_eq!((process.name.as_str(), process.parent, process.ticks, process.cpu), ("a) b (c", 7, 42, 3));
    }

    /// The commit is the one that the program was built from, as it says itself.
    #[test]
    fn a_program_knows_its_commit() {
        for (line, commit) in [
            ("trine 0.1.0 (commit 0123456789ab)", "0123456789ab"),
            ("trine 0.1.0 (commit 0123456789ab, with local changes)", "0123456789ab with local changes"),
            ("trine 0.1.0 (commit unknown)", ""),
            ("trine 0.1.0", ""),
            ("", ""),
        ] {
            assert_eq!(commit_of(line), commit, "{line}");
        }
    }

    /// CPU time that another process or the hypervisor took of the target's CPUs is reported with its owner; time of the
    /// target, the load generator and the kernel is not, nor time on CPUs that the target never runs on.
    #[test]
    fn what_others_took_is_told() {
        let name = |name: &str, owner| Name { name: name.to_owned(), owner };
        let names = [
            (10, name("trine", Owner::Target)),
            (20, name("trine-load", Owner::Load)),
            (30, name("kworker", Owner::Kernel)),
            (40, name("rustc", Owner::Other)),
            (50, name("cc1", Owner::Other)),
            (60, name("rustc", Owner::Other)),
        ];
        let begin = Instant::now();
        let sample = |millis, stolen, processes: &[(u32, (u64, usize))]| Sample {
            at: begin + Duration::from_millis(millis),
            cpus: [0, 1].map(|cpu| (cpu, Ticks { busy: millis / 10, total: millis / 10, stolen })).into(),
            processes: processes.iter().copied().collect(),
        };
        let samples = [
            sample(0, 0, &[(10, (500, 0)), (20, (50, 1)), (30, (0, 0)), (40, (70, 0)), (50, (9, 1))]),
            sample(500, 1, &[(10, (530, 0)), (20, (90, 1)), (30, (10, 0)), (40, (72, 0)), (50, (49, 1)), (60, (3, 0))]),
            sample(1000, 2, &[(10, (570, 0)), (20, (140, 1)), (30, (20, 0)), (40, (74, 0)), (50, (89, 1))]),
        ];
        let watch = Watch { names: names.into(), ..Watch::new(vec![10], Some(vec![0])) };
        let pinned = watch.during(&samples);
        assert_eq!(pinned.target, [ProcessBusy { pid: 10, name: "trine".to_owned(), busy: 0.7 }]);
        let by = ["rustc", "the hypervisor"].map(str::to_owned).to_vec();
        let unknown = Watch { roots: Vec::new(), ..watch };
        assert_eq!(unknown.during(&samples).taken, [], "a target that ran already may be any of them");
        assert_eq!(pinned.taken, [Taken { cpu: Some(0), share: 0.09, by }]);
        assert_eq!(
            pinned.taken[0].reason().unwrap(),
            "CPU 0 of the servers was taken for 9 % by rustc, the hypervisor"
        );
    }

    /// A twentieth of a CPU is let pass.
    #[test]
    fn a_little_is_let_pass() {
        let taken = |share| Taken { cpu: None, share, by: vec!["cron".to_owned()] };
        assert_eq!(taken(0.05).reason(), None);
        assert_eq!(taken(0.06).reason().unwrap(), "the CPUs were taken for 6 % by cron");
    }

    /// This process is busy, is found under itself, and CPUs stay between idle and busy.
    #[test]
    fn work_shows_as_utilisation() {
        let mut watch = Watch::new(vec![std::process::id()], None);
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
