//! The state of a core besides its keys: settings, clients, counts, the topology, the process and how its files do.

use crate::{
    client::Clients,
    config::Config,
    statistics::{Delay, Statistics, Times},
    time::UnixMillis,
    topology::{Rendered, ShardId, Topology},
    wal::{Lsn, room::Admission},
};

/// What a shard knows besides its keys.
pub struct Core {
    /// What its operator set.
    pub config: Config,
    /// Its clients, but for the one that is being served.
    pub clients: Clients,
    /// What it counted.
    pub statistics: Statistics,
    /// Who owns which slots.
    pub topology: Topology,
    /// The replies that follow from it.
    pub rendered: Rendered,
    /// Which shard this is.
    pub me: ShardId,
    /// Whether the topology was given. Without one the server owns every slot, and its gateway looks like a plain Redis.
    pub has_topology: bool,
    /// The process that the shard runs in.
    pub process: Process,
    /// What becomes of its keys when it ends.
    pub persistence: Persistence,
}

/// How a shard's log and snapshots are doing, and what is asked of them. Who does the work keeps it up to date.
#[derive(Clone, Debug, Default)]
pub struct Persistence {
    /// Its files are being read: few commands are answered.
    pub is_loading: bool,
    /// How much of them has been read, of 1.
    pub loaded: f64,
    /// Whether there is a data directory, and a log in it.
    pub has_directory: bool,
    /// Whether there is a log in it.
    pub has_log: bool,
    /// Why writes are refused for the time being, as an error reply says it.
    pub refusal: Option<&'static str>,
    /// Which writes the log's files have room for. Without a log, every write is admitted.
    pub admission: Option<Admission>,
    /// `BGSAVE` has asked for a snapshot.
    pub wants_snapshot: bool,
    /// When the one was begun that is being written, in microseconds since the server began.
    pub snapshot_since: Option<u64>,
    /// When the last one was finished.
    pub saved_at: UnixMillis,
    /// How long it took.
    pub save_seconds: Option<u64>,
    /// Whether the last try failed.
    pub save_failed: bool,
    /// Where the log ended when the last snapshot began: what is behind it is in the log alone.
    pub saved_lsn: Lsn,
    /// Bytes of the log's files.
    pub log_bytes: u64,
    /// Bytes of the last snapshot.
    pub snapshot_bytes: u64,
    /// Writes of the log, in microseconds from when each was handed to the kernel until it was on disk.
    pub syncs: Times,
    /// The longest.
    pub sync_us_max: u64,
    /// Values that were read from the log's files because somebody needed them.
    pub value_reads: u64,
    /// Their bytes.
    pub value_read_bytes: u64,
    /// How many could not be read.
    pub value_read_errors: u64,
    /// Segments that were given up after what was live in them had been moved.
    pub segments_released: u64,
    /// Hints of segments that were written.
    pub hints_written: u64,
    /// Segments that the start did not have to read, since there was a hint.
    pub segments_hinted: u64,
}

/// What INFO tells of the process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// Its number.
    pub id: u32,
    /// Forty hexadecimal digits, drawn when it started.
    pub run_id: String,
    /// The kernel, as `uname` tells it.
    pub os: String,
    /// The machine's name, or the container's.
    pub host_name: String,
    /// Its binary.
    pub executable: String,
    /// When it started.
    pub started_at: UnixMillis,
    /// Bytes of it in memory, as of the last tick.
    pub resident_bytes: u64,
    /// Bytes of memory that the machine has.
    pub total_memory_bytes: u64,
    /// What it has had of the processors.
    pub cpu: CpuTimes,
}

/// How long all threads of a process have run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CpuTimes {
    /// Microseconds in the process's own code.
    pub user_us: u64,
    /// Microseconds in the kernel, on its behalf.
    pub system_us: u64,
}

impl Core {
    /// The number of cores of this server.
    #[inline]
    pub fn cores(&self) -> u16 {
        self.topology.servers()[usize::from(self.me.server)].cores
    }

    /// Returns the time of the last save; before the first, that of the start.
    pub fn last_save(&self) -> UnixMillis {
        if self.persistence.saved_at.0 == 0 { self.process.started_at } else { self.persistence.saved_at }
    }

    /// Notes that something took so many microseconds, if that is long.
    #[inline]
    pub fn note_delay(&mut self, event: Delay, us: u64, unix_us: u64) {
        if self.config.latency_monitor_threshold.is_some_and(|limit| limit.as_micros() as u64 <= us) {
            self.statistics.delays.note(event, us, unix_us);
        }
    }
}
