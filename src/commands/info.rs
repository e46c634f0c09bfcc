//! `INFO`: the state of a core, in the fields that people and tools know from Redis. On the gateway [`crate::gateway`]
//! adds up the fields of all cores.

use super::{Call, Command, Flags, Keys, Merge, Outcome, Route};
use crate::{
    built::{self, REDIS_VERSION},
    client::Port,
};
use std::fmt::{Display, Write};

/// The family's rows.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    Command::new("info", -1, Flags::LOADING.and(Flags::STALE), Keys::NONE, Route::Everywhere(Merge::Info), info)
        .doc("server", "1.0.0", "Returns information and statistics about the server."),
];

/// A section: its name, true if `INFO` without arguments includes it, and the function that writes its fields.
type Section = (&'static str, bool, fn(&mut Fields, &Call<'_>));

/// The sections in Redis's order, and Trine's own.
const SECTIONS: &[Section] = &[
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Replication", true, replication),
    ("CPU", true, cpu),
    ("Modules", true, |_, _| {}),
    ("Commandstats", false, command_stats),
    ("Errorstats", true, error_stats),
    ("Latencystats", false, latency_stats),
    ("Cluster", true, cluster),
    ("Keyspace", true, keyspace),
    ("Trine", true, trine),
];

/// The text of the reply: lines of `name:value`.
#[derive(Default)]
struct Fields(String);

impl Fields {
    fn add(&mut self, name: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    fn add_bytes(&mut self, name: &str, bytes: u64) {
        self.add(name, bytes);
        self.add(&format!("{name}_human"), human(bytes));
    }
}

fn info(call: &mut Call<'_>) -> Outcome {
    let is_asked = |name: &str, is_default: bool| {
        let asked = |word: &[u8]| match word.to_ascii_lowercase().as_slice() {
            b"all" | b"everything" => true,
            b"default" => is_default,
            word => word.eq_ignore_ascii_case(name.as_bytes()),
        };
        if call.request.len() == 1 { is_default } else { call.request.args_from(1).any(asked) }
    };
    let mut fields = Fields::default();
    for (name, is_default, write) in SECTIONS {
        if is_asked(name, *is_default) {
            if !fields.0.is_empty() {
                fields.0 += "\r\n";
            }
            fields.0 += &format!("# {name}\r\n");
            write(&mut fields, call);
        }
    }
    call.reply.verbatim(fields.0.as_bytes());
    Outcome::Done
}

fn server(fields: &mut Fields, call: &Call<'_>) {
    let core = &*call.core;
    let uptime = call.now.monotonic_us / 1_000_000;
    let port = match call.client.port {
        Port::Core => core.topology.address(core.me).1,
        Port::Gateway => core.topology.servers()[usize::from(core.me.server)].port,
    };
    fields.add("redis_version", REDIS_VERSION);
    fields.add("trine_version", env!("CARGO_PKG_VERSION"));
    fields.add("trine_git_sha1", built::git_sha1());
    fields.add("trine_git_dirty", u8::from(built::IS_DIRTY));
    fields.add("redis_git_sha1", "00000000");
    fields.add("redis_git_dirty", 0);
    fields.add("redis_build_id", 0);
    fields.add("redis_mode", if call.is_cluster() { "cluster" } else { "standalone" });
    fields.add("os", &core.process.os);
    fields.add("arch_bits", usize::BITS);
    fields.add("multiplexing_api", "io_uring");
    fields.add("trine_cpus", (crate::config::setting_named("cpus").get)(&core.config));
    fields.add("process_id", core.process.id);
    fields.add("process_supervised", "no");
    fields.add("run_id", &core.process.run_id);
    fields.add("tcp_port", port);
    fields.add("server_time_usec", call.now.unix_us);
    fields.add("uptime_in_seconds", uptime);
    fields.add("uptime_in_days", uptime / 86_400);
    fields.add("hz", 10);
    fields.add("configured_hz", 10);
    fields.add("executable", &core.process.executable);
    fields.add("config_file", core.config.config.as_ref().map_or(String::new(), |path| path.display().to_string()));
}

fn clients(fields: &mut Fields, call: &Call<'_>) {
    fields.add("connected_clients", call.core.clients.len() + usize::from(call.is_local_client()));
    fields.add("cluster_connections", 0);
    fields.add("maxclients", call.core.config.maxclients);
    for name in ["client_recent_max_input_buffer", "client_recent_max_output_buffer", "blocked_clients"] {
        fields.add(name, 0);
    }
    fields.add("tracking_clients", 0);
    fields.add("clients_in_timeout_table", 0);
}

fn memory(fields: &mut Fields, call: &Call<'_>) {
    let (process, used) = (&call.core.process, call.store.memory());
    let peak = call.core.statistics.memory_peak.max(used);
    let used = used as u64;
    let max = match call.client.port {
        Port::Core => call.store.policy.memory_max as u64,
        Port::Gateway => call.core.config.max_memory,
    };
    let policy = call.core.config.matching(&[b"maxmemory-policy"]);
    let policy = policy.first().map(|(_, value)| String::from_utf8_lossy(value));
    fields.add_bytes("used_memory", used);
    fields.add_bytes("used_memory_rss", process.resident_bytes);
    fields.add_bytes("used_memory_peak", peak as u64);
    let overhead = call.store.table_memory() as u64;
    fields.add("used_memory_overhead", overhead);
    fields.add("used_memory_dataset", used - overhead.min(used));
    fields.add_bytes("total_system_memory", process.total_memory_bytes);
    fields.add_bytes("maxmemory", max);
    fields.add("maxmemory_policy", policy.as_deref().unwrap_or_default());
    fields.add("mem_fragmentation_ratio", ratio(process.resident_bytes, used));
    fields.add("mem_allocator", "mimalloc");
    fields.add("active_defrag_running", 0);
    fields.add("lazyfree_pending_objects", 0);
}

/// Writes the fields that tools read, and then Trine's own.
fn persistence(fields: &mut Fields, call: &Call<'_>) {
    let (persistence, log) = (&call.core.persistence, call.store.log.as_deref());
    let (end, persisted) =
        log.map_or((persistence.saved_lsn, persistence.saved_lsn), |log| (log.end(), log.persisted_end()));
    let status = |failed: bool| if failed { "err" } else { "ok" };
    fields.add("loading", u8::from(persistence.is_loading));
    fields.add("async_loading", 0);
    if persistence.is_loading {
        fields.add("loading_start_time", call.core.process.started_at.0 / 1000);
        fields.add("loading_loaded_perc", format!("{:.2}", persistence.loaded * 100.0));
    }
    // In bytes of the log: changes that write no record are not counted.
    fields.add("rdb_changes_since_last_save", end.0 - persistence.saved_lsn.0.min(end.0));
    fields.add("rdb_bgsave_in_progress", u8::from(persistence.snapshot_since.is_some()));
    fields.add("rdb_last_save_time", call.core.last_save().0 / 1000);
    fields.add("rdb_last_bgsave_status", status(persistence.save_failed));
    fields.add("rdb_last_bgsave_time_sec", persistence.save_seconds.map_or(-1, |seconds| seconds as i64));
    let since =
        persistence.snapshot_since.map(|since_us| (call.now.monotonic_us.saturating_sub(since_us) / 1_000_000) as i64);
    fields.add("rdb_current_bgsave_time_sec", since.unwrap_or(-1));
    fields.add("aof_enabled", u8::from(persistence.has_log));
    fields.add("aof_rewrite_in_progress", 0);
    fields.add("aof_last_bgrewrite_status", "ok");
    fields.add("aof_last_write_status", status(persistence.refusal.is_some()));
    if persistence.has_log {
        fields.add("aof_current_size", persistence.log_bytes);
        fields.add("aof_pending_bio_fsync", u8::from(log.is_some_and(|log| log.is_in_flight())));
        fields.add("aof_buffer_length", log.map_or(0, |log| log.pending_bytes()));
        fields.add("trine_log_end", end.0);
        fields.add("trine_log_persisted", persisted.0);
        fields.add("trine_snapshot_lsn", persistence.saved_lsn.0);
        fields.add("trine_snapshot_bytes", persistence.snapshot_bytes);
        let (syncs, us) = (persistence.syncs.count(), persistence.syncs.sum_us);
        fields.add("trine_syncs", syncs);
        fields.add("trine_sync_usec", us);
        fields.add("trine_sync_usec_mean", us.checked_div(syncs).unwrap_or_default());
        fields.add("trine_sync_usec_max", persistence.sync_us_max);
        for (name, percent) in [("p50", 50.0), ("p99", 99.0)] {
            fields.add(&format!("trine_sync_usec_{name}_max"), persistence.syncs.percentile(percent).ceil());
        }
    }
    if let Some(places) = &call.store.places {
        let counts = places.counts;
        fields.add("trine_values_away", counts.away);
        fields.add("trine_values_away_bytes", counts.away_bytes);
        fields.add("trine_values_sent_away", counts.demoted);
        fields.add("trine_values_fetched", counts.recalled);
        fields.add("trine_value_reads", persistence.value_reads);
        fields.add("trine_value_read_bytes", persistence.value_read_bytes);
        fields.add("trine_value_read_errors", persistence.value_read_errors);
        fields.add("trine_values_moved_bytes", counts.moved_bytes);
        fields.add("trine_log_live_bytes", places.live_total());
        fields.add("trine_log_dead_bytes", persistence.log_bytes.saturating_sub(places.live_total()));
        fields.add("trine_segments_released", persistence.segments_released);
        fields.add("trine_hints_written", persistence.hints_written);
        fields.add("trine_segments_hinted", persistence.segments_hinted);
    }
}

fn stats(fields: &mut Fields, call: &Call<'_>) {
    let (statistics, counters) = (&call.core.statistics, &call.store.counters);
    fields.add("total_connections_received", statistics.connections_received);
    fields.add("total_commands_processed", statistics.requests);
    fields.add("instantaneous_ops_per_sec", statistics.rate.per_second());
    fields.add("total_net_input_bytes", statistics.input_bytes);
    fields.add("total_net_output_bytes", statistics.output_bytes);
    for (name, rate) in [("input", &statistics.input_rate), ("output", &statistics.output_rate)] {
        fields.add(&format!("instantaneous_{name}_kbps"), ratio(rate.per_second(), 1024));
    }
    fields.add("rejected_connections", statistics.connections_rejected);
    fields.add("expired_keys", counters.expired);
    fields.add("evicted_keys", counters.evicted);
    fields.add("keyspace_hits", counters.hits);
    fields.add("keyspace_misses", counters.misses);
    fields.add("pubsub_channels", 0);
    fields.add("pubsub_patterns", 0);
    fields.add("latest_fork_usec", 0);
    fields.add("total_error_replies", statistics.errors.total);
    fields.add("slowlog_len", statistics.slow_log.iter().len());
}

fn replication(fields: &mut Fields, call: &Call<'_>) {
    fields.add("role", "master");
    fields.add("connected_slaves", 0);
    fields.add("master_failover_state", "no-failover");
    fields.add("master_replid", &call.core.process.run_id);
    fields.add("master_replid2", "0".repeat(40));
    fields.add("master_repl_offset", 0);
    fields.add("second_repl_offset", -1);
    fields.add("repl_backlog_active", 0);
}

/// Writes the CPU time of the process: the same on every core.
fn cpu(fields: &mut Fields, call: &Call<'_>) {
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    let times = call.core.process.cpu;
    fields.add("used_cpu_sys", seconds(times.system_us));
    fields.add("used_cpu_user", seconds(times.user_us));
}

fn command_stats(fields: &mut Fields, call: &Call<'_>) {
    let core = &*call.core;
    for counted in &core.statistics.commands {
        let (calls, us, rejected, failed) = (counted.calls, counted.times.sum_us, counted.rejected, counted.failed);
        if calls + rejected + failed + us == 0 {
            continue;
        }
        let name = format!("cmdstat_{}", counted.name);
        let each = ratio(us, calls);
        let value =
            format!("calls={calls},usec={us},usec_per_call={each},rejected_calls={rejected},failed_calls={failed}");
        fields.add(&name, value);
    }
}

fn error_stats(fields: &mut Fields, call: &Call<'_>) {
    for (code, count) in call.core.statistics.errors.by_code() {
        fields.add(&format!("errorstat_{code}"), format!("count={count}"));
    }
}

fn latency_stats(fields: &mut Fields, call: &Call<'_>) {
    let core = &*call.core;
    for counted in &core.statistics.commands {
        if 0 < counted.times.count() {
            let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|percent| counted.times.percentile(percent));
            let name = format!("latency_percentiles_usec_{}", counted.name);
            fields.add(&name, format!("p50={p50:.3},p99={p99:.3},p99.9={p999:.3}"));
        }
    }
}

fn cluster(fields: &mut Fields, call: &Call<'_>) {
    fields.add("cluster_enabled", u8::from(call.is_cluster()));
}

fn keyspace(fields: &mut Fields, call: &Call<'_>) {
    if !call.store.is_empty() {
        let (keys, expiring, average_ttl) = (call.store.len(), call.store.expiring(), call.store.average_ttl_ms());
        fields.add("db0", format!("keys={keys},expires={expiring},avg_ttl={average_ttl}"));
    }
}

fn trine(fields: &mut Fields, call: &Call<'_>) {
    let core = &*call.core;
    let server = &core.topology.servers()[usize::from(core.me.server)];
    fields.add("trine_server", &server.name);
    fields.add("trine_core", core.me.core);
    fields.add("trine_cores", server.cores);
    fields.add("trine_epoch", core.topology.epoch.number());
    fields.add("trine_busy_usec", core.statistics.busy_us);
    fields.add("trine_turns", core.statistics.turns.count());
    fields.add("trine_passed_on", core.statistics.passed_on);
    fields.add("trine_batch_usec_max", core.statistics.batch_us_max);
    // The gateway shows the slowest core's.
    for (name, percent) in [("p50", 50.0), ("p99", 99.0)] {
        fields.add(&format!("trine_queue_usec_{name}_max"), core.statistics.queue_delay.percentile(percent).ceil());
    }
}

/// Returns bytes as Redis writes them for people: `512B`, `1.50K`, `3.00M`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["K", "M", "G", "T"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let power = (bytes.ilog2() / 10).min(UNITS.len() as u32);
    format!("{:.2}{}", bytes as f64 / f64::from(1 << 10).powi(power as i32), UNITS[power as usize - 1])
}

/// Returns a quotient with two decimals; 0 if the divisor is 0.
pub fn ratio(dividend: u64, divisor: u64) -> String {
    format!("{:.2}", if divisor == 0 { 0.0 } else { dividend as f64 / divisor as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        commands::{CpuTimes, tests::Bench},
        statistics::CommandStatistics,
    };

    /// The average time to live is the mean that sweeps have seen; memory is divided into that of tables and that of
    /// data.
    #[test]
    fn keys_and_memory_are_told_in_the_fields_of_redis() {
        let mut bench = Bench::new();
        bench.line("MSET x 1 y 2");
        bench.line("SET a 1 EX 100");
        bench.line("SET b 1 EX 200");
        assert!(bench.line("INFO keyspace").contains("db0:keys=4,expires=2,avg_ttl=0 "));
        let now = bench.now.unix_millis();
        bench.shard.store.sweep(10_000, now);
        assert!(bench.line("INFO keyspace").contains("db0:keys=4,expires=2,avg_ttl=150000 "));
        bench.line("DEL a b");
        assert!(bench.line("INFO keyspace").contains("db0:keys=2,expires=0,avg_ttl=0 "));
        let info = bench.line("INFO memory");
        let number = |name: &str| -> usize {
            let (_, rest) = info.split_once(&format!("{name}:")).expect("a field");
            rest.split(' ').next().and_then(|text| text.parse().ok()).expect("a number")
        };
        assert_eq!(number("used_memory_overhead") + number("used_memory_dataset"), number("used_memory"));
        let keys = 2 * crate::store::Entry::new(b"x", b"1", None, crate::store::Access::default(), None).memory();
        assert_eq!(number("used_memory_dataset"), keys);
        bench.shard.core.statistics.input_bytes = 1 << 20;
        bench.shard.core.statistics.input_rate.note(1 << 20, 1_000_000);
        assert!(bench.line("INFO stats").contains("instantaneous_input_kbps:64.00 "), "a sixteenth of 1024");
    }

    /// The fields that exporters and the test suites of clients read are present.
    #[test]
    fn info_has_the_fields_that_tools_read() {
        let mut bench = Bench::new();
        bench.line("SET a 1 EX 100");
        bench.line("GET b");
        let text = bench.line("INFO").replace("\\r\\n", "\r\n");
        for field in [
            "redis_version:7.2.4",
            "redis_mode:standalone",
            "os:",
            "arch_bits:64",
            "process_id:",
            "run_id:",
            "tcp_port:7000",
            "uptime_in_seconds:",
            "loading:0",
            "connected_clients:1",
            "maxclients:",
            "used_memory:",
            "used_memory_rss:",
            "maxmemory:0",
            "maxmemory_policy:noeviction",
            "role:master",
            "master_repl_offset:0",
            "total_connections_received:",
            "total_commands_processed:2",
            "instantaneous_ops_per_sec:",
            "keyspace_hits:0",
            "keyspace_misses:1",
            "expired_keys:0",
            "evicted_keys:0",
            "cluster_enabled:0",
            "db0:keys=1,expires=1,avg_ttl=0",
            "trine_version:",
            "trine_git_sha1:",
            "trine_git_dirty:",
        ] {
            assert!(text.contains(&format!(" {field}")), "{field}: {text}");
        }
        assert!(!text.contains("cmdstat_"));
    }

    /// Sections can be chosen by name, in any case, one, several or all.
    #[test]
    fn sections_can_be_asked_for() {
        let mut bench = Bench::new();
        bench.line("GET a");
        bench.shard.core.statistics.note(
            bench.shard.core.statistics.commands.iter().position(|row| row.name == "get").unwrap() as u16,
            3,
            1,
        );
        let stats = "cmdstat_get:calls=1,usec=3,usec_per_call=3.00,rejected_calls=0,failed_calls=0";
        let latency = "latency_percentiles_usec_get:p50=4.000,p99=4.000,p99.9=4.000";
        for (line, reply) in [
            ("INFO cluster", "$30 # Cluster cluster_enabled:0".to_owned()),
            ("INFO CLUSTER keyspace", "$44 # Cluster cluster_enabled:0  # Keyspace".to_owned()),
            ("INFO nope", "$0".to_owned()),
            ("INFO commandstats", format!("${} # Commandstats {stats}", stats.len() + 18)),
            ("INFO latencystats", format!("${} # Latencystats {latency}", latency.len() + 18)),
        ] {
            let got = bench.line(line);
            assert_eq!(got.trim_end(), reply, "{line}");
            // Keeps the counts of INFO itself out of the next reply.
            let info = bench.shard.core.statistics.commands.iter().position(|row| row.name == "info").unwrap();
            bench.shard.core.statistics.commands[info] = CommandStatistics::of("info");
        }
        for word in ["all", "everything"] {
            let text = bench.line(&format!("INFO {word}"));
            assert!(text.contains("# Server") && text.contains("# Commandstats") && text.contains("# Trine"));
        }
    }

    /// CPU time is shown in seconds, as in Redis.
    #[test]
    fn the_time_of_processors_is_shown() {
        let mut bench = Bench::new();
        bench.shard.core.process.cpu = CpuTimes { user_us: 61_000_000, system_us: 20_450 };
        let text = bench.line("INFO cpu");
        assert_eq!(text.trim_end(), "$55 # CPU used_cpu_sys:0.020450 used_cpu_user:61.000000");
    }

    /// The peak is never below the present use, and stays when memory is freed.
    #[test]
    fn the_peak_of_memory_stays() {
        let mut bench = Bench::new();
        let field = |bench: &mut Bench, name: &str| -> usize {
            let text = bench.line("INFO memory");
            let value = text.split(' ').find_map(|field| field.strip_prefix(&format!("{name}:")).map(str::to_owned));
            value.expect("a field").parse().expect("a number")
        };
        bench.line(&format!("SET k {}", "x".repeat(10_000)));
        let full = bench.shard.store.memory();
        assert_eq!(field(&mut bench, "used_memory_peak"), full, "nobody has noted it yet");
        bench.shard.core.statistics.note_memory(full);
        bench.line("DEL k");
        bench.shard.core.statistics.note_memory(bench.shard.store.memory());
        bench.line("CONFIG RESETSTAT");
        assert_eq!(field(&mut bench, "used_memory_peak"), full);
        assert!(field(&mut bench, "used_memory") < full);
    }

    /// A request that is refused before it runs is not a call of its command, but its error is counted like any other.
    #[test]
    fn errors_are_counted_by_their_code() {
        let mut bench = Bench::new();
        for line in ["SET a b", "INCR a", "INCR", "GET", "NOSUCH", "HELLO 9"] {
            bench.line(line);
        }
        let text = bench.line("INFO all").replace("\\r\\n", "\r\n");
        for field in [
            "total_error_replies:5",
            "errorstat_ERR:count=4 errorstat_NOPROTO:count=1",
            "cmdstat_incr:calls=1,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=1",
            "cmdstat_get:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0",
        ] {
            assert!(text.contains(&format!(" {field}")), "{field}: {text}");
        }
        bench.line("CONFIG RESETSTAT");
        assert_eq!(bench.line("INFO errorstats").trim_end(), "$14 # Errorstats");
    }

    /// Bytes are written like by `bytesToHuman` of Redis.
    #[test]
    fn bytes_are_written_for_people() {
        for (bytes, text) in [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1536, "1.50K"), (25_276_510_208, "23.54G")]
        {
            assert_eq!(human(bytes), text);
        }
    }
}
