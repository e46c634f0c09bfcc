//! The table of settings.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{Alias, Bytes, Config, Durability, Eviction, Kind, Password, Setting, Values, units::*};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "trine".into(),
            topology: None,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            announce: None,
            port: 7000,
            core_port: None,
            cores: None,
            cpus: Vec::new(),
            is_pinned: true,
            requirepass: Password::default(),
            http_hosts: Vec::new(),
            allow_wide_bind: false,
            max_memory: 0,
            eviction: Eviction::None,
            values: Values::Memory,
            cold_reads: 128,
            dir: None,
            durability: None,
            accept_loss: false,
            log_segment_bytes: 64 * MIB,
            log_backlog_bytes: 64 * MIB,
            snapshot_log_bytes: GIB as u64,
            log_live_percent: 50,
            lfu_log_factor: 10,
            lfu_decay_time: 1,
            maxclients: 100_000,
            maxclients_limit: u32::MAX,
            timeout: Duration::ZERO,
            tcp_keepalive: Duration::from_secs(300),
            tcp_backlog: 4096,
            shutdown_timeout: Duration::from_secs(5),
            slot_timeout: Duration::from_secs(5),
            max_key_bytes: 64 * KIB,
            proto_max_bulk_len: 512 * MIB,
            max_request_args: 1 << 20,
            max_request_bytes: GIB,
            unauthenticated_max_args: 8,
            unauthenticated_max_arg_bytes: KIB,
            unauthenticated_max_owed_bytes: 4 * KIB,
            output_soft_limit: MIB,
            output_hard_limit: GIB,
            gateway_in_flight: 1024,
            mesh_queue: 1024,
            receive_buffers: 256,
            receive_buffer_bytes: 16 * KIB,
            slowlog_log_slower_than: Some(Duration::from_millis(10)),
            slowlog_max_len: 128,
            latency_monitor_threshold: Some(Duration::from_millis(10)),
            log: "warn".into(),
            huge_pages: false,
            debug_commands: false,
            seed: None,
            config: None,
            given: Vec::new(),
        }
    }
}

type Get = fn(&Config) -> String;
type Set = fn(&mut Config, &str) -> Result<(), String>;

impl Setting {
    const fn new(name: &'static str, kind: Kind, help: &'static str, get: Get, set: Set) -> Self {
        Self { name, redis: None, kind, help, reason: "", at_run_time: false, get, set, bytes: None, is_secret: false }
    }

    /// Redis has the same setting by another name.
    const fn redis(self, name: &'static str) -> Self {
        let get = self.get;
        self.redis_as(name, get)
    }

    /// Redis has such a setting by another name and in other words.
    const fn redis_as(self, name: &'static str, get: Get) -> Self {
        Self { redis: Some(Alias { name, get }), ..self }
    }

    const fn because(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }

    /// Its value is a secret, and may be any bytes.
    const fn secret(self, bytes: Bytes) -> Self {
        Self { bytes: Some(bytes), is_secret: true, ..self }
    }

    const fn at_run_time(self) -> Self {
        Self { at_run_time: true, ..self }
    }
}

/// Sets a field to what was read, or hands on what is wrong with it.
fn put<T>(field: &mut T, value: Result<T, String>) -> Result<(), String> {
    value.map(|value| *field = value)
}

fn text_of<T: ToString>(value: Option<&T>) -> String {
    value.map_or(String::new(), ToString::to_string)
}

fn path_of(path: Option<&std::path::PathBuf>) -> String {
    path.map_or(String::new(), |path| path.display().to_string())
}

/// Every setting, in the order of the documentation.
pub static SETTINGS: &[Setting] = &[
    Setting::new(
        "name",
        Kind::Text("NAME"),
        "The server's name: which server of the topology it is, and what its node ids derive from",
        |config| config.name.clone(),
        |config, text| put(&mut config.name, Ok(text.into())),
    ),
    Setting::new(
        "topology",
        Kind::Text("FILE"),
        "The topology file (trine plan writes one); without it the server owns every slot. Where the server called \
         NAME has ports and cores there, those count. Read anew every second: a text with a higher epoch takes effect \
         while the server runs, and slots that it gives to another core lose their keys",
        |config| path_of(config.topology.as_ref()),
        |config, text| put(&mut config.topology, Ok((!text.is_empty()).then(|| text.into()))),
    ),
    Setting::new(
        "bind",
        Kind::Text("ADDRESS"),
        "The address to listen on. Other than loopback only with a password or with --allow-wide-bind",
        |config| config.bind.to_string(),
        |config, text| {
            let address = if text == "localhost" { "127.0.0.1" } else { text };
            let problem = |_| format!("{text:?} is not one IP address, such as 127.0.0.1 or 0.0.0.0");
            put(&mut config.bind, address.parse().map_err(problem))
        },
    ),
    Setting::new(
        "announce",
        Kind::Text("HOST"),
        "The host that clients are told to connect to, where that is not the bound address",
        |config| text_of(config.announce.as_ref()),
        |config, text| put(&mut config.announce, Ok((!text.is_empty()).then(|| text.into()))),
    )
    .redis("cluster-announce-ip"),
    Setting::new(
        "port",
        Kind::Number,
        "The gateway's port, for any client",
        |config| config.port.to_string(),
        |config, text| put(&mut config.port, number(text, 1, u16::MAX)),
    ),
    Setting::new(
        "core-port",
        Kind::Number,
        "The port of the first core, by default the one after the gateway's; each further core has the next",
        |config| text_of(config.core_port.as_ref()),
        |config, text| put(&mut config.core_port, number(text, 1, super::CORE_PORT_END - 1).map(Some)),
    ),
    Setting::new(
        "cores",
        Kind::Number,
        "The number of cores, by default one on each CPU that the process may run on, and no more than its CPU quota has whole ones",
        |config| text_of(config.cores.as_ref()),
        |config, text| put(&mut config.cores, number(text, 1, 1024).map(Some)),
    )
    .because("1024: the ports from 7001 on, and no machine we know of has more"),
    Setting::new(
        "cpus",
        Kind::Text("LIST"),
        "Which CPUs to run on, such as 0-3,6; without --cores one shard on each. any: no core is pinned, and the kernel moves \
         it to where it likes: better for laptops, and for a few connections from the same machine",
        |config| if config.is_pinned { list(&config.cpus) } else { "any".into() },
        |config, text| {
            let is_any = text.eq_ignore_ascii_case("any");
            put(&mut config.cpus, if is_any { Ok(Vec::new()) } else { cpus(text) })?;
            config.is_pinned = !is_any;
            Ok(())
        },
    ),
    Setting::new(
        "requirepass",
        Kind::Text("PASSWORD"),
        "The password that clients must give with AUTH. A flag shows in ps: prefer the variable or the file",
        |config| String::from_utf8_lossy(&config.requirepass.0).into_owned(),
        |config, text| put(&mut config.requirepass, Ok(Password(text.into()))),
    )
    .secret(Bytes {
        get: |config| config.requirepass.0.clone(),
        set: |config, value| config.requirepass.0 = value,
    })
    .at_run_time(),
    Setting::new(
        "http-hosts",
        Kind::Text("NAMES"),
        "Names besides its own that a server without a password answers HTTP for, such as db.example.org,*.internal; * for any",
        |config| config.http_hosts.join(","),
        |config, text| put(&mut config.http_hosts, hosts(text)),
    )
    .because("A web page whose name is made to point at this server could read and change every key")
    .at_run_time(),
    Setting::new(
        "allow-wide-bind",
        Kind::Switch,
        "Listen beyond loopback without a password, where the network itself is trusted",
        |config| yes_no(config.allow_wide_bind),
        |config, text| put(&mut config.allow_wide_bind, switch(text)),
    ),
    Setting::new(
        "max-memory",
        Kind::Size,
        "The most memory for keys and values, shared evenly by the cores; 0 for no limit. Lowered, it is reached within \
         seconds, or refuses writes",
        |config| config.max_memory.to_string(),
        |config, text| put(&mut config.max_memory, size(text)),
    )
    .redis("maxmemory")
    .because("none by default, as in Redis: what fits is the operator's to know")
    .at_run_time(),
    Setting::new(
        "eviction",
        Kind::Choice("none|lfu"),
        "At max-memory: none answers OOM to commands that need memory, lfu evicts the least frequently used keys",
        |config| if config.eviction == Eviction::Lfu { "lfu".into() } else { "none".into() },
        |config, text| put(&mut config.eviction, eviction(text)),
    )
    .redis_as("maxmemory-policy", |config| match config.eviction {
        Eviction::None => "noeviction".into(),
        Eviction::Lfu => "allkeys-lfu".into(),
    })
    .at_run_time(),
    Setting::new(
        "values",
        Kind::Choice("memory|disk"),
        "Where values live: memory, or disk, where max-memory bounds those that are in memory too, and the rest is read from \
         the log's files when it is asked for. Keys always live in memory",
        |config| if config.values == Values::Disk { "disk".into() } else { "memory".into() },
        |config, text| put(&mut config.values, values(text)),
    ),
    Setting::new(
        "cold-reads",
        Kind::Number,
        "How many values a core reads from its files at once; more wait",
        |config| config.cold_reads.to_string(),
        |config, text| put(&mut config.cold_reads, number(text, 1, 1024)),
    )
    .because("What an NVMe disk can do at the same time; more would only wait there, and hold memory"),
    Setting::new(
        "dir",
        Kind::Text("DIR"),
        "The data directory: what a server comes back with. Made where there is none; one server at a time",
        |config| path_of(config.dir.as_ref()),
        |config, text| put(&mut config.dir, Ok((!text.is_empty()).then(|| text.into()))),
    ),
    Setting::new(
        "durability",
        Kind::Choice("auto|none|interval|always"),
        "When a write is acknowledged: always when it is on disk, interval at once (the last second or two can be lost), none \
         at once, and only snapshots are written; auto is always with a directory, none without",
        |config| config.durability.map_or("auto", durability_name).into(),
        |config, text| put(&mut config.durability, durability(text)),
    )
    .redis_as("appendfsync", |config| match config.durability() {
        Durability::None => "no".into(),
        Durability::Interval => "everysec".into(),
        Durability::Always => "always".into(),
    }),
    Setting::new(
        "accept-loss",
        Kind::Switch,
        "Start on a damaged data directory, without what is damaged; what was lost is written to DIR/lost-….txt",
        |config| yes_no(config.accept_loss),
        |config, text| put(&mut config.accept_loss, switch(text)),
    ),
    Setting::new(
        "log-segment-bytes",
        Kind::Size,
        "The size of the log's files, of which each core has at least three",
        |config| config.log_segment_bytes.to_string(),
        |config, text| put(&mut config.log_segment_bytes, size_within(text, 4 * MIB, 4 * GIB).map(|size: usize| size.next_multiple_of(4096))),
    )
    .because("A few seconds of writes at full speed, in which the next one is made ready; the smallest holds three full frames; the third \
              is allocated for a full disk, on which keys can be deleted and a server can start, once"),
    Setting::new(
        "log-backlog-bytes",
        Kind::Size,
        "How much of the log may wait for the disk in memory; then no more requests are read. Also how many bytes of requests \
         the gateway may have at one other core",
        |config| config.log_backlog_bytes.to_string(),
        |config, text| put(&mut config.log_backlog_bytes, size_within(text, MIB, 4 * GIB)),
    )
    .because("A tenth of a second of a fast disk; a disk that has stalled must not cost all memory"),
    Setting::new(
        "snapshot-log-bytes",
        Kind::Size,
        "Take a snapshot when the log has grown by so many bytes of records since the last one, and by as much as that one is \
         large, or when it lets go of a log that fills the disk; 0 for never",
        |config| config.snapshot_log_bytes.to_string(),
        |config, text| put(&mut config.snapshot_log_bytes, size(text)),
    )
    .because("What a core reads in a second or two when it starts; each snapshot costs as much writing as the log since the last")
    .at_run_time(),
    Setting::new(
        "log-live-percent",
        Kind::Number,
        "With --values disk: move what is live to the log's end, oldest first, while less than this part of the log is; 0 for \
         never",
        |config| config.log_live_percent.to_string(),
        |config, text| put(&mut config.log_live_percent, number(text, 0, 90)),
    )
    .because("At 50 the log takes twice the room of what is live, and each byte is written about twice; at 90, ten times")
    .at_run_time(),
    Setting::new(
        "lfu-log-factor",
        Kind::Number,
        "How slowly the counter of a key's use grows: at 10, a million uses fill it",
        |config| config.lfu_log_factor.to_string(),
        |config, text| put(&mut config.lfu_log_factor, number(text, 0, 255)),
    )
    .at_run_time(),
    Setting::new(
        "lfu-decay-time",
        Kind::Number,
        "After how many minutes without use that counter falls by one; 0 for never",
        |config| config.lfu_decay_time.to_string(),
        |config, text| put(&mut config.lfu_decay_time, number(text, 0, 65_535)),
    )
    .at_run_time(),
    Setting::new(
        "maxclients",
        Kind::Number,
        "The most connections of one core; one more is told so and closed. Lowered at the start to what the limit of open files \
         leaves; lowered later, it closes nobody",
        |config| config.maxclients.to_string(),
        |config, text| put(&mut config.maxclients, number(text, 1, 1_000_000)),
    )
    .because(
        "A cluster client connects to every core, so there are many more than Redis's 10,000; 100,000 idle ones take \
         less than 200 MB of a core",
    )
    .at_run_time(),
    Setting::new(
        "timeout",
        Kind::Seconds,
        "Close a connection that sent nothing for so many seconds; 0 for never",
        |config| config.timeout.as_secs().to_string(),
        |config, text| put(&mut config.timeout, seconds(text)),
    )
    .at_run_time(),
    Setting::new(
        "tcp-keepalive",
        Kind::Seconds,
        "Ask a peer that has been silent for so many seconds whether it is still there; 0 for never. For connections from then on",
        |config| config.tcp_keepalive.as_secs().to_string(),
        |config, text| put(&mut config.tcp_keepalive, seconds(text)),
    )
    .because("As in Redis: a peer that vanished without a word is found out after some minutes")
    .at_run_time(),
    Setting::new(
        "tcp-backlog",
        Kind::Number,
        "How many connections may wait to be accepted on one port",
        |config| config.tcp_backlog.to_string(),
        |config, text| put(&mut config.tcp_backlog, number(text, 1, 65_535)),
    )
    .because("The clients of an experiment connect at the same moment; the kernel caps it at net.core.somaxconn, 4096"),
    Setting::new(
        "shutdown-timeout",
        Kind::Seconds,
        "How long SIGTERM waits for replies to be taken before it closes what is left",
        |config| config.shutdown_timeout.as_secs().to_string(),
        |config, text| put(&mut config.shutdown_timeout, seconds(text)),
    )
    .because("Docker and systemd wait 10 s or more before they kill")
    .at_run_time(),
    Setting::new(
        "slot-timeout",
        Kind::Seconds,
        "How long requests wait for a slot that is changing hands, from when that began; then they are refused with CLUSTERDOWN",
        |config| config.slot_timeout.as_secs().to_string(),
        |config, text| put(&mut config.slot_timeout, seconds(text)),
    )
    .because("A hand-over takes milliseconds, and clients wait no longer than some seconds for a reply")
    .at_run_time(),
    Setting::new(
        "max-key-bytes",
        Kind::Size,
        "The longest key",
        |config| config.max_key_bytes.to_string(),
        |config, text| put(&mut config.max_key_bytes, size_within(text, 1, 64 * KIB)),
    )
    .because("Hashing and comparing a longer one would stall the core for other clients"),
    Setting::new(
        "proto-max-bulk-len",
        Kind::Size,
        "The longest argument, and so the longest value",
        |config| config.proto_max_bulk_len.to_string(),
        |config, text| put(&mut config.proto_max_bulk_len, size_within(text, MIB, 512 * MIB)),
    )
    .because("512 MiB as in Redis; memory is taken as bytes arrive, not because a header promised them")
    .at_run_time(),
    Setting::new(
        "max-request-args",
        Kind::Number,
        "The most arguments of one request",
        |config| config.max_request_args.to_string(),
        |config, text| put(&mut config.max_request_args, number(text, 16, 1 << 20)),
    )
    .because("One request is executed in one go: a million keys are some 100 ms in which the core does nothing else"),
    Setting::new(
        "max-request-bytes",
        Kind::Size,
        "The most bytes of one request before its end has arrived; who sends more is closed",
        |config| config.max_request_bytes.to_string(),
        |config, text| put(&mut config.max_request_bytes, size_within(text, MIB, 4 * GIB)),
    )
    .redis("client-query-buffer-limit")
    .because("Twice the longest value, as in Redis: a million long arguments must not take all memory")
    .at_run_time(),
    Setting::new(
        "unauthenticated-max-args",
        Kind::Number,
        "The most arguments of a request before AUTH",
        |config| config.unauthenticated_max_args.to_string(),
        |config, text| put(&mut config.unauthenticated_max_args, number(text, 7, 1024)),
    )
    .because("HELLO 3 AUTH user password SETNAME name has 7; strangers get no memory for more"),
    Setting::new(
        "unauthenticated-max-arg-bytes",
        Kind::Size,
        "The longest argument before AUTH",
        |config| config.unauthenticated_max_arg_bytes.to_string(),
        |config, text| put(&mut config.unauthenticated_max_arg_bytes, size_within(text, 64, MIB)),
    )
    .because("A password fits; strangers get no memory for more"),
    Setting::new(
        "unauthenticated-max-owed-bytes",
        Kind::Size,
        "The most bytes of replies that a client may leave unread before AUTH; then it is not read from",
        |config| config.unauthenticated_max_owed_bytes.to_string(),
        |config, text| put(&mut config.unauthenticated_max_owed_bytes, size_within(text, KIB, MIB)),
    )
    .because("Some 80 errors; who has not read those is not going to log in"),
    Setting::new(
        "output-soft-limit",
        Kind::Size,
        "A client that owes us reading this many bytes is not read from until it has",
        |config| config.output_soft_limit.to_string(),
        |config, text| put(&mut config.output_soft_limit, size_within(text, 4 * KIB, GIB)),
    )
    .because("Keeps a fast link busy (1 MiB is 8 ms at 1 Gbit/s), and bounds what slow readers can cost")
    .at_run_time(),
    Setting::new(
        "output-hard-limit",
        Kind::Size,
        "A client that is owed this many bytes is closed; within a second where the limit was lowered",
        |config| config.output_hard_limit.to_string(),
        |config, text| put(&mut config.output_hard_limit, size_within(text, 64 * KIB, 4 * GIB)),
    )
    .because("One reply may hold the longest value and then some; a longer one (MGET of many) is not worth the memory")
    .at_run_time(),
    Setting::new(
        "gateway-in-flight",
        Kind::Number,
        "How many requests of one connection on the gateway may be at other cores; then it is not read from",
        |config| config.gateway_in_flight.to_string(),
        |config, text| put(&mut config.gateway_in_flight, number(text, 1, 65_536)),
    )
    .because("More than any pipeline that still gains from its depth, and bounds what one client has in the mesh"),
    Setting::new(
        "mesh-queue",
        Kind::Number,
        "How many messages may wait between two cores; then the sender keeps its own until there is room",
        |config| config.mesh_queue.to_string(),
        |config, text| put(&mut config.mesh_queue, number(text, 16, 65_536)),
    )
    .because("A turn's worth of requests of a busy core; memory is this times the square of cores"),
    Setting::new(
        "receive-buffers",
        Kind::Number,
        "How many buffers a core shares among its connections for receiving; a power of two",
        |config| config.receive_buffers.to_string(),
        |config, text| put(&mut config.receive_buffers, number(text, 8, 32_768)),
    )
    .because("One turn seldom has more than 256 connections with data; 32,768 is io_uring's limit"),
    Setting::new(
        "receive-buffer-bytes",
        Kind::Size,
        "The size of each",
        |config| config.receive_buffer_bytes.to_string(),
        |config, text| put(&mut config.receive_buffer_bytes, size_within(text, KIB, MIB)),
    )
    .because("A pipeline of 64 small requests fits in one; all of them are 4 MiB, the size of a core's cache"),
    Setting::new(
        "slowlog-log-slower-than",
        Kind::Number,
        "Put a command into the slow log from this many microseconds on; -1 for none, 0 for all",
        |config| config.slowlog_log_slower_than.map_or("-1".into(), |time| time.as_micros().to_string()),
        |config, text| {
            let microseconds = number(text, -1, i64::MAX)?;
            config.slowlog_log_slower_than = u64::try_from(microseconds).ok().map(Duration::from_micros);
            Ok(())
        },
    )
    .at_run_time(),
    Setting::new(
        "slowlog-max-len",
        Kind::Number,
        "How many commands the slow log of a core keeps",
        |config| config.slowlog_max_len.to_string(),
        |config, text| put(&mut config.slowlog_max_len, number(text, 0, 100_000)),
    )
    .because("As in Redis; each keeps the command's first arguments")
    .at_run_time(),
    Setting::new(
        "latency-monitor-threshold",
        Kind::Number,
        "Note commands, turns of a core and syncs of the log that take so many milliseconds, for LATENCY; 0 for none",
        |config| config.latency_monitor_threshold.map_or("0".into(), |time| time.as_millis().to_string()),
        |config, text| {
            let milliseconds = number(text, 0, u64::MAX)?;
            config.latency_monitor_threshold = (milliseconds != 0).then(|| Duration::from_millis(milliseconds));
            Ok(())
        },
    )
    .because("As the slow log; it costs nothing, since these are measured anyway")
    .at_run_time(),
    Setting::new(
        "log",
        Kind::Text("FILTER"),
        "What to log on standard error: error, warn, info, debug or trace, or a filter such as warn,trine::io=debug",
        |config| config.log.clone(),
        |config, text| put(&mut config.log, log_filter(text)),
    )
    .redis("loglevel"),
    Setting::new(
        "huge-pages",
        Kind::Switch,
        "Take memory in huge pages where the kernel has them: some 10 % more throughput on a large store, for pauses \
         while it grows, each as long as clearing 2 MiB takes (0.1 ms on bare metal, 10 ms in some virtual machines)",
        |config| yes_no(config.huge_pages),
        |config, text| put(&mut config.huge_pages, switch(text)),
    ),
    Setting::new(
        "debug-commands",
        Kind::Switch,
        "Allow DEBUG SLEEP and DEBUG SET-ACTIVE-EXPIRE, for tests: anyone could stall a core",
        |config| yes_no(config.debug_commands),
        |config, text| put(&mut config.debug_commands, switch(text)),
    )
    .redis("enable-debug-command"),
    Setting::new(
        "seed",
        Kind::Number,
        "Seeds hashing and sampling, to repeat a run; drawn at the start by default, so that nobody can choose keys \
         that collide",
        |config| text_of(config.seed.as_ref()),
        |config, text| put(&mut config.seed, number(text, 0, u64::MAX).map(Some)),
    ),
    Setting::new(
        "config",
        Kind::Text("FILE"),
        "Read settings from this TOML file; flags and variables go before it",
        |config| path_of(config.config.as_ref()),
        |config, text| put(&mut config.config, Ok((!text.is_empty()).then(|| text.into()))),
    ),
];

/// Reads a filter for the log as far as it can be wrong without an error: a word that is no level means a part of the program,
/// and where there is no such part, nothing is logged.
fn log_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    const PARTS: [&str; 2] = ["trine", "glommio"];
    let is_level = |word: &str| LEVELS.contains(&word.to_ascii_lowercase().as_str()) || word.parse::<u8>().is_ok();
    let is_part = |word: &str| PARTS.contains(&word.split([':', '[']).next().unwrap_or_default());
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    match words.filter(|word| !word.contains(['=', '{', '}'])).find(|word| !is_level(word) && !is_part(word)) {
        None => Ok(text.into()),
        Some(word) => Err(format!("{word:?} is no level: write error, warn, info, debug, trace or off, or PART=LEVEL")),
    }
}

/// Reads a durability in our words or in Redis's.
fn durability(text: &str) -> Result<Option<Durability>, String> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(None),
        "none" | "no" => Ok(Some(Durability::None)),
        "interval" | "everysec" => Ok(Some(Durability::Interval)),
        "always" => Ok(Some(Durability::Always)),
        _ => Err("argument(s) must be one of the following: auto, none, interval, always".into()),
    }
}

fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::None => "none",
        Durability::Interval => "interval",
        Durability::Always => "always",
    }
}

fn values(text: &str) -> Result<Values, String> {
    match text.to_ascii_lowercase().as_str() {
        "memory" => Ok(Values::Memory),
        "disk" => Ok(Values::Disk),
        _ => Err("argument(s) must be one of the following: memory, disk".into()),
    }
}

/// Reads a policy in our words or in Redis's.
fn eviction(text: &str) -> Result<Eviction, String> {
    match text.to_ascii_lowercase().as_str() {
        "none" | "noeviction" => Ok(Eviction::None),
        "lfu" | "allkeys-lfu" => Ok(Eviction::Lfu),
        "allkeys-lru" | "allkeys-random" => {
            Err("there is noeviction (none) and allkeys-lfu (lfu), which keeps what is used and lets the rest go"
                .into())
        }
        "volatile-lru" | "volatile-lfu" | "volatile-random" | "volatile-ttl" => {
            Err("there is noeviction (none) and allkeys-lfu (lfu): what may go does not depend on whether it expires"
                .into())
        }
        _ => Err("argument(s) must be one of the following: noeviction (none), allkeys-lfu (lfu)".into()),
    }
}
