//! The table of metrics.

use super::{
    Family,
    Kind::{self, Counter, Gauge, Histogram},
    Samples, Source,
};
use crate::{built::REDIS_VERSION, statistics::CommandStatistics};

/// Of the process.
const PROCESS: &[&str] = &[];
/// Of a core.
const CORE: &[&str] = &["core"];
const COMMAND: &[&str] = &["core", "command"];

const fn row(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    write: fn(&mut Samples<'_>, &Source<'_>),
) -> Family {
    Family { name, kind, help, labels, write }
}

/// All metrics, in the order in which they are told.
#[rustfmt::skip]
pub static FAMILIES: &[Family] = &[
    row("trine_build_info", Gauge, &["version", "redis_version"],
        "Always 1; the labels say what runs.",
        |out, _| {
            let labels = format!("{},version=\"{}\"", out.common, env!("CARGO_PKG_VERSION"));
            Samples { common: &labels, text: out.text, name: out.name }.put_with("redis_version", REDIS_VERSION, 1);
        }),
    row("process_start_time_seconds", Gauge, PROCESS,
        "When the server started, in seconds since 1970-01-01 UTC.",
        |out, from| out.put(from.core.process.started_at.0 as f64 / 1e3)),
    row("trine_uptime_seconds", Gauge, PROCESS,
        "How long the server has run.",
        |out, from| out.put_us(from.now.monotonic_us)),
    row("process_cpu_seconds_total", Counter, PROCESS,
        "What all threads have had of the processors. A core that polls is never idle: see trine_busy_seconds_total.",
        |out, from| out.put_us(from.core.process.cpu.user_us + from.core.process.cpu.system_us)),
    row("process_resident_memory_bytes", Gauge, PROCESS,
        "Memory of the process that is in RAM, as of the last second.",
        |out, from| out.put(from.core.process.resident_bytes)),
    row("trine_cores", Gauge, PROCESS,
        "How many cores the server has.",
        |out, from| out.put(from.core.cores())),

    row("trine_loading", Gauge, CORE,
        "Whether the core still reads its files, and answers few commands until it has.",
        |out, from| out.put(u8::from(from.core.persistence.is_loading))),
    row("trine_loading_progress_ratio", Gauge, CORE,
        "How much of its files it has read, of 1.",
        |out, from| out.put(if from.core.persistence.is_loading { from.core.persistence.loaded } else { 1.0 })),
    row("trine_busy_seconds_total", Counter, CORE,
        "Time in turns of the main loop that found something to do. Its rate is the busy fraction of the core.",
        |out, from| out.put_us(from.core.statistics.busy_us)),
    row("trine_turn_duration_seconds", Histogram, CORE,
        "How long such turns took: what arrives during one waits for its end.",
        |out, from| out.put_times(&from.core.statistics.turns)),
    row("trine_queue_delay_seconds", Histogram, CORE,
        "How long requests waited, from the beginning of the turn that took them from the kernel to the execution of what came with them.",
        |out, from| out.put_times(&from.core.statistics.queue_delay)),

    row("trine_requests_total", Counter, CORE,
        "Requests that were executed here; of one that is spread over cores each part is one.",
        |out, from| out.put(from.core.statistics.requests)),
    row("trine_requests_passed_on_total", Counter, CORE,
        "Requests that came in by the gateway and were passed on to other cores.",
        |out, from| out.put(from.core.statistics.passed_on)),
    row("trine_command_duration_seconds", Histogram, COMMAND,
        "How long commands took to execute, by command. Fast ones that came together have the mean of all of them.",
        |out, from| each_command(from, |name, counted| {
            if 0 < counted.times.count() {
                out.put_times_with("command", name, &counted.times);
            }
        })),
    row("trine_commands_total", Counter, COMMAND,
        "Commands that were executed, by command.",
        |out, from| each_command(from, |name, counted| out.put_with("command", name, counted.calls))),
    row("trine_commands_failed_total", Counter, COMMAND,
        "Commands that were executed and answered with an error.",
        |out, from| each_command(from, |name, counted| out.put_with("command", name, counted.failed))),
    row("trine_commands_rejected_total", Counter, COMMAND,
        "Commands that were refused before they were executed.",
        |out, from| each_command(from, |name, counted| out.put_with("command", name, counted.rejected))),
    row("trine_error_replies_total", Counter, &["core", "code"],
        "Error replies, by their first word.",
        |out, from| {
            let errors = from.core.statistics.errors.by_code();
            errors.for_each(|(code, count)| out.put_with("code", code, count));
        }),
    row("trine_slow_log_entries", Gauge, CORE,
        "Commands in the slow log (SLOWLOG GET).",
        |out, from| out.put(from.core.statistics.slow_log.iter().len())),

    row("trine_connections", Gauge, CORE,
        "Connections that are open.",
        |out, from| out.put(from.clients)),
    row("trine_connections_max", Gauge, CORE,
        "How many may be open (maxclients).",
        |out, from| out.put(from.core.config.maxclients)),
    row("trine_connections_received_total", Counter, CORE,
        "Connections that were accepted.",
        |out, from| out.put(from.core.statistics.connections_received)),
    row("trine_connections_rejected_total", Counter, CORE,
        "Connections that were refused because there were too many.",
        |out, from| out.put(from.core.statistics.connections_rejected)),
    row("trine_network_receive_bytes_total", Counter, CORE,
        "Bytes of requests.",
        |out, from| out.put(from.core.statistics.input_bytes)),
    row("trine_network_transmit_bytes_total", Counter, CORE,
        "Bytes of replies.",
        |out, from| out.put(from.core.statistics.output_bytes)),

    row("trine_memory_used_bytes", Gauge, CORE,
        "Memory of keys, values and tables, as asked of the allocator.",
        |out, from| out.put(from.store.memory())),
    row("trine_memory_peak_bytes", Gauge, CORE,
        "The most of it so far.",
        |out, from| out.put(from.core.statistics.memory_peak.max(from.store.memory()))),
    row("trine_memory_max_bytes", Gauge, CORE,
        "The core's part of max-memory; 0 for no limit.",
        |out, from| out.put(from.store.policy.memory_max)),
    row("trine_keys", Gauge, CORE,
        "Keys.",
        |out, from| out.put(from.store.len())),
    row("trine_keys_expiring", Gauge, CORE,
        "Keys that have an expiry.",
        |out, from| out.put(from.store.expiring())),
    row("trine_keys_expired_total", Counter, CORE,
        "Keys that were removed because their time had come.",
        |out, from| out.put(from.store.counters.expired)),
    row("trine_keys_evicted_total", Counter, CORE,
        "Keys that were removed to make room.",
        |out, from| out.put(from.store.counters.evicted)),
    row("trine_keyspace_hits_total", Counter, CORE,
        "Reads that found their key.",
        |out, from| out.put(from.store.counters.hits)),
    row("trine_keyspace_misses_total", Counter, CORE,
        "Reads that did not.",
        |out, from| out.put(from.store.counters.misses)),

    row("trine_log_written_bytes_total", Counter, CORE,
        "Bytes of records that were given to the log, from its beginning: they go on where a restart left off.",
        |out, from| out.put(from.store.log.as_ref().map_or(0, |log| log.end().0))),
    row("trine_log_pending_bytes", Gauge, CORE,
        "Bytes of records that are not being written yet.",
        |out, from| out.put(from.store.log.as_ref().map_or(0, |log| log.pending_bytes()))),
    row("trine_log_bytes", Gauge, CORE,
        "Bytes of the log's files.",
        |out, from| out.put(from.core.persistence.log_bytes)),
    row("trine_log_sync_duration_seconds", Histogram, CORE,
        "How long a write of the log and its sync took.",
        |out, from| out.put_times(&from.core.persistence.syncs)),
    row("trine_writes_refused", Gauge, CORE,
        "Whether writes are refused because the log can't grow (MISCONF).",
        |out, from| out.put(u8::from(from.core.persistence.refusal.is_some()))),
    row("trine_snapshot_in_progress", Gauge, CORE,
        "Whether a snapshot is being written.",
        |out, from| out.put(u8::from(from.core.persistence.snapshot_since.is_some()))),
    row("trine_snapshot_failed", Gauge, CORE,
        "Whether the last try to write one failed.",
        |out, from| out.put(u8::from(from.core.persistence.save_failed))),
    row("trine_snapshot_timestamp_seconds", Gauge, CORE,
        "When the last snapshot was finished, in seconds since 1970-01-01 UTC; 0 where there is none.",
        |out, from| out.put(from.core.persistence.saved_at.0 as f64 / 1e3)),
    row("trine_snapshot_duration_seconds", Gauge, CORE,
        "How long it took; 0 where none was taken since the start.",
        |out, from| out.put(from.core.persistence.save_seconds.unwrap_or(0))),
    row("trine_snapshot_bytes", Gauge, CORE,
        "How large it is.",
        |out, from| out.put(from.core.persistence.snapshot_bytes)),

    row("trine_values_away", Gauge, CORE,
        "Values that are on disk alone (values = disk; as all that follow).",
        |out, from| places(out, from, |places| places.counts.away)),
    row("trine_values_away_bytes", Gauge, CORE,
        "Their bytes.",
        |out, from| places(out, from, |places| places.counts.away_bytes)),
    row("trine_values_sent_away_total", Counter, CORE,
        "Values that left memory.",
        |out, from| places(out, from, |places| places.counts.demoted)),
    row("trine_values_fetched_total", Counter, CORE,
        "Values that came back.",
        |out, from| places(out, from, |places| places.counts.recalled)),
    row("trine_values_moved_bytes_total", Counter, CORE,
        "Bytes that were written anew so that an old segment could be given up.",
        |out, from| places(out, from, |places| places.counts.moved_bytes)),
    row("trine_value_reads_total", Counter, CORE,
        "Reads of values from disk.",
        |out, from| places(out, from, |_| from.core.persistence.value_reads)),
    row("trine_value_read_bytes_total", Counter, CORE,
        "Their bytes.",
        |out, from| places(out, from, |_| from.core.persistence.value_read_bytes)),
    row("trine_value_read_errors_total", Counter, CORE,
        "Values that could not be read.",
        |out, from| places(out, from, |_| from.core.persistence.value_read_errors)),
    row("trine_log_live_bytes", Gauge, CORE,
        "Bytes of the log's files that are some key's value.",
        |out, from| places(out, from, |places| places.live_total())),
    row("trine_log_segments_released_total", Counter, CORE,
        "Segments that were given up after what was live in them had been moved.",
        |out, from| places(out, from, |_| from.core.persistence.segments_released)),
];

/// Shows each command that a client has tried.
fn each_command(from: &Source<'_>, mut show: impl FnMut(&'static str, &CommandStatistics)) {
    for counted in &from.core.statistics.commands {
        if 0 < counted.calls + counted.rejected {
            show(counted.name, counted);
        }
    }
}

/// A number of a core whose values live on disk; others have none.
fn places(out: &mut Samples<'_>, from: &Source<'_>, count: impl Fn(&crate::store::Places) -> u64) {
    if let Some(places) = &from.store.places {
        out.put(count(places));
    }
}
