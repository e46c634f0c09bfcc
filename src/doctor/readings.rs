//! Readings of a machine. `None`, or an empty text, stands for what the machine does not tell.

use super::ring::Facts;

/// Everything that [`examine`](super::examine) looks at.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// `uname -r`.
    pub kernel: String,
    /// The facts about a refused ring like the server's; `None` where it was made.
    pub ring_refused: Option<Facts>,
    /// The environment says `--cpus any`.
    pub is_unpinned: bool,
    /// Why a thread can't choose its CPU; `None` where it can.
    pub pinning_refused: Option<String>,
    /// The limit of locked memory in bytes; `None` for unlimited.
    pub locked_bytes_max: Option<u64>,
    /// True if that limit does not count for this process (CAP_IPC_LOCK).
    pub may_lock: bool,
    /// The hard limit of open files, which a server raises its own to; `None` for unlimited.
    pub open_files_max: Option<u64>,

    /// The CPUs that this process may run on, ascending.
    pub cpus: Vec<usize>,
    /// The number of CPUs online.
    pub cpus_online: usize,
    /// The number of CPUs that the control group's quota allows.
    pub cpu_quota: Option<f64>,
    /// The allowed CPUs by physical core: those that share one are in one list.
    pub cores: Vec<Vec<usize>>,
    /// The frequency governors of the allowed CPUs, each once.
    pub governors: Vec<String>,
    /// The switch of turbo, if the processor may go faster than its rated frequency.
    pub turbo: Option<Turbo>,
    /// The kernel's clock source.
    pub clock_source: Option<String>,
    /// The clock sources that the kernel could use.
    pub clock_sources: Vec<String>,
    /// The hypervisor, if this is a virtual machine.
    pub hypervisor: Option<String>,
    /// The share of time that the host gave to others while this machine wanted it, since it started.
    pub steal: Option<f64>,

    /// The load of all CPUs in a second; `None` where the kernel does not tell.
    pub load: Option<Load>,

    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes that the control group may use.
    pub memory_limit_bytes: Option<u64>,
    /// `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// Bytes of swap.
    pub swap_bytes: u64,
    /// Bytes of swap in use.
    pub swap_used_bytes: u64,

    /// `net.core.somaxconn`.
    pub connections_waiting_max: Option<u64>,
    /// The ports that were tried.
    pub ports: Vec<Port>,
    /// True if they were asked for by number. Otherwise they are those that `trine serve` would take.
    pub ports_were_named: bool,
    /// The range that the kernel takes ports of outgoing connections from.
    pub outgoing_ports: Option<(u16, u16)>,

    /// Of the directory that was asked for.
    pub disk: Option<Disk>,
}

/// The file that switches a processor's turbo off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turbo {
    /// It is off.
    Off,
    /// It is on, and `intel_pstate/no_turbo` would end that.
    OnByPstate,
    /// It is on, and `cpufreq/boost` would end that.
    OnByBoost,
}

/// The load of all CPUs together while they were watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// The share of time that they were busy.
    pub busy: f64,
    /// The share of time that the host gave to others.
    pub stolen: f64,
    /// The share of time in which something waited for a CPU, if the kernel counts it.
    pub waited: Option<f64>,
    /// The processes that used them, the busiest first; without this one.
    pub processes: Vec<Process>,
}

/// A process that uses CPUs.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its program, with the subcommand.
    pub name: String,
    /// CPU time over time: 1 is a whole CPU.
    pub share: f64,
}

/// The process that listens on a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// Its program, with the subcommand.
    pub name: String,
}

/// A port, and why it can't be had.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// The kernel's error; `None` where the port is free.
    pub refused: Option<String>,
    /// The process that has it, if this process may know.
    pub owner: Option<Owner>,
}

/// A directory, and the disk below it.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// The path that was asked for.
    pub path: String,
    /// Why nothing can be written there. The rest then says nothing.
    pub refused: Option<String>,
    /// `ext4`, `xfs`, …
    pub file_system: String,
    /// True if writes can bypass the kernel's cache.
    pub is_direct: bool,
    /// True if the device writes a block through its cache when asked to (FUA).
    pub has_fua: bool,
    /// The time that each of a number of writes of 4 KiB took until it was on disk, in microseconds, ascending.
    pub sync_us: Vec<u64>,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}
