//! The state of a core besides its keys: settings, clients, statistics, the topology, the process, and the state of its
//! log and snapshots.

use crate::{
    client::Clients,
    config::Config,
    statistics::{Delay, Statistics, Times},
    time::UnixMillis,
    topology::{Rendered, ShardId, Topology},
    wal::{Lsn, room::Admission},
};

/// A shard's state besides its keys.
pub struct Core {
    /// The operator's settings.
    pub config: Config,
    /// The clients, except the one whose request is being executed.
    pub clients: Clients,
    /// The shard's statistics.
    pub statistics: Statistics,
    /// The owners of all slots.
    pub topology: Topology,
    /// The replies that are made from the topology alone.
    pub rendered: Rendered,
    /// The id of this shard.
    pub me: ShardId,
    /// True if the operator has given a topology. Without one the server owns every slot, and its gateway looks like a
    /// plain Redis.
    pub has_topology: bool,
    /// The process that the shard runs in.
    pub process: Process,
    /// The state of its log and snapshots.
    pub persistence: Persistence,
}

/// The state of a shard's log and snapshots, and the requests to them. The code that writes them keeps it up to date.
#[derive(Clone, Debug, Default)]
pub struct Persistence {
    /// True while the shard reads its files. Few commands are executed meanwhile (`Flags::LOADING`).
    pub is_loading: bool,
    /// The part of the files that has been read, from 0 to 1.
    pub loaded: f64,
    /// True if there is a data directory.
    pub has_directory: bool,
    /// True if there is a log in the data directory.
    pub has_log: bool,
    /// The error reply that writes get while they are refused.
    pub refusal: Option<&'static str>,
    /// The positions of the log up to which there is room in its files. Without a log, every write is admitted.
    pub admission: Option<Admission>,
    /// True if a snapshot has been requested and has not begun: by `BGSAVE` or `SAVE`, or by a recovery that has lost
    /// records.
    pub wants_snapshot: bool,
    /// The time at which the snapshot that is being written began, in microseconds since the server began.
    pub snapshot_since: Option<u64>,
    /// The time at which the last snapshot was finished; 0 before the first.
    pub saved_at: UnixMillis,
    /// The seconds that the last snapshot took.
    pub save_seconds: Option<u64>,
    /// True if the last attempt at a snapshot failed.
    pub save_failed: bool,
    /// The end of the log when the last snapshot began: records behind it are in the log alone.
    pub saved_lsn: Lsn,
    /// The bytes of the log's files.
    pub log_bytes: u64,
    /// The bytes of the last snapshot.
    pub snapshot_bytes: u64,
    /// The durations of the log's writes, each from when it was handed to the kernel until it was on disk.
    pub syncs: Times,
    /// The longest of these durations, in microseconds.
    pub sync_us_max: u64,
    /// The number of values that were read from the log's files for requests.
    pub value_reads: u64,
    /// The bytes of these values.
    pub value_read_bytes: u64,
    /// The number of values that could not be read.
    pub value_read_errors: u64,
    /// The number of segments that compaction has released, after it had moved their live records.
    pub segments_released: u64,
    /// The number of segment hints written.
    pub hints_written: u64,
    /// The number of segments that were not read at the start, because each had a hint.
    pub segments_hinted: u64,
}

/// The process, as INFO shows it.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The process id.
    pub id: u32,
    /// Forty random hexadecimal digits, chosen at the start.
    pub run_id: String,
    /// The kernel's name and version, and the processor's architecture.
    pub os: String,
    /// The name of the machine or container.
    pub host_name: String,
    /// The path of the executable file.
    pub executable: String,
    /// The time at which it started.
    pub started_at: UnixMillis,
    /// The bytes of resident memory, as of the last tick.
    pub resident_bytes: u64,
    /// The bytes of the machine's memory.
    pub total_memory_bytes: u64,
    /// The CPU time that it has used.
    pub cpu: CpuTimes,
}

/// The CPU time of all threads of a process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CpuTimes {
    /// Microseconds in the process's own code.
    pub user_us: u64,
    /// Microseconds in the kernel, on its behalf.
    pub system_us: u64,
}

impl Core {
    /// Returns the number of cores of this server.
    #[inline]
    pub fn cores(&self) -> u16 {
        self.topology.servers()[usize::from(self.me.server)].cores
    }

    /// Returns the time of the last snapshot; before the first, that of the server's start.
    pub fn last_save(&self) -> UnixMillis {
        if self.persistence.saved_at.0 == 0 { self.process.started_at } else { self.persistence.saved_at }
    }

    /// Notes an event that took `us` microseconds, if that is at least `latency-monitor-threshold`.
    #[inline]
    pub fn note_delay(&mut self, event: Delay, us: u64, unix_us: u64) {
        if self.config.latency_monitor_threshold.is_some_and(|limit| limit.as_micros() as u64 <= us) {
            self.statistics.delays.note(event, us, unix_us);
        }
    }
}
