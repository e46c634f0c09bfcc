//! Settings of Redis that Trine has not: clients, test suites and operators ask for them, and set them. Each has the value that
//! is true here, and a reason why there is no other.

use super::{Config, Durability, units::yes_no};

/// A setting of Redis's with one value.
pub(super) struct Foreign {
    /// Redis's name.
    pub(super) name: &'static str,
    value: Value,
    /// Why there is no other value, and what to set instead where there is such.
    pub(super) why: &'static str,
}

enum Value {
    Fixed(&'static str),
    /// Follows from other settings.
    Of(fn(&Config) -> String),
}

impl Foreign {
    /// Returns the setting's only value.
    pub(super) fn value(&self, config: &Config) -> String {
        match self.value {
            Value::Fixed(value) => value.into(),
            Value::Of(value) => value(config),
        }
    }
}

/// Finds one by its name in lower case.
pub(super) fn find(name: &str) -> Option<&'static Foreign> {
    FOREIGN.iter().find(|foreign| foreign.name == name)
}

const fn fixed(name: &'static str, value: &'static str, why: &'static str) -> Foreign {
    Foreign { name, value: Value::Fixed(value), why }
}

const fn of(name: &'static str, value: fn(&Config) -> String, why: &'static str) -> Foreign {
    Foreign { name, value: Value::Of(value), why }
}

const NO_REPLICAS: &str = "there are no replicas";
const STRINGS: &str = "there are strings only";
const LOG: &str = "the log is given up as snapshots are taken: see snapshot-log-bytes and log-live-percent";
const AT_ONCE: &str = "keys are removed at once, and what FLUSHALL removes is given back in slices";
const NO_TLS: &str = "there is no TLS: put a proxy in front";

/// All of them, in the order of their names.
#[rustfmt::skip]
pub(super) static FOREIGN: &[Foreign] = &[
    fixed("active-expire-effort", "1", "expired keys are removed as fast as a bounded part of each tick allows"),
    fixed("activedefrag", "no", "the allocator is mimalloc, which is not defragmented"),
    fixed("activerehashing", "yes", "each slot has a table of its own, which grows in one step"),
    fixed("aof-load-truncated", "yes", "a write that was cut off is passed over, and damage stops the start: see accept-loss"),
    fixed("aof-use-rdb-preamble", "yes", LOG),
    of("appendonly", |config| yes_no(config.durability() != Durability::None), "it follows from durability: yes with a log"),
    fixed("auto-aof-rewrite-min-size", "67108864", LOG),
    fixed("auto-aof-rewrite-percentage", "100", LOG),
    fixed("busy-reply-threshold", "5000", "there are no scripts"),
    of("client-output-buffer-limit",
        |config| format!("normal {} 0 0 slave 0 0 0 pubsub 0 0 0", config.output_hard_limit),
        "set output-hard-limit, and output-soft-limit, from which on a client is not read from"),
    of("cluster-enabled", |config| yes_no(config.topology.is_some()), "it follows from topology; cores' ports always speak cluster"),
    fixed("cluster-node-timeout", "15000", "servers do not watch each other"),
    fixed("cluster-require-full-coverage", "yes", "a slot belongs to a server whether that is up or not"),
    fixed("daemonize", "no", "it is systemd or a shell that sends it to the background"),
    fixed("databases", "1", "there is one database: use a prefix, or another server"),
    of("disable-thp", |config| yes_no(!config.huge_pages), "it follows from huge-pages, which is set at the start"),
    fixed("dynamic-hz", "yes", "work in the background is done with every tick"),
    fixed("hash-max-listpack-entries", "512", STRINGS),
    fixed("hash-max-listpack-value", "64", STRINGS),
    fixed("hash-max-ziplist-entries", "512", STRINGS),
    fixed("hash-max-ziplist-value", "64", STRINGS),
    fixed("hz", "10", "work in the background is done with every tick, a hundred times a second where there is any"),
    fixed("io-threads", "1", "cores says how many threads serve"),
    fixed("latency-tracking", "yes", "times are counted anyway"),
    fixed("lazyfree-lazy-eviction", "no", AT_ONCE),
    fixed("lazyfree-lazy-expire", "no", AT_ONCE),
    fixed("lazyfree-lazy-server-del", "no", AT_ONCE),
    fixed("lazyfree-lazy-user-del", "no", AT_ONCE),
    fixed("lazyfree-lazy-user-flush", "yes", AT_ONCE),
    fixed("list-max-listpack-size", "-2", STRINGS),
    fixed("list-max-ziplist-size", "-2", STRINGS),
    fixed("logfile", "", "what is logged goes to standard error"),
    fixed("lua-time-limit", "5000", "there are no scripts"),
    fixed("maxmemory-clients", "0", "each client is bounded: see output-hard-limit and max-request-bytes"),
    of("maxmemory-samples", |_| super::EVICTION_SAMPLES.to_string(),
        "each eviction looks at so many keys, which finds the least used nearly always"),
    fixed("min-replicas-to-write", "0", NO_REPLICAS),
    fixed("min-slaves-to-write", "0", NO_REPLICAS),
    fixed("no-appendfsync-on-rewrite", "no", "the log is synced as durability says, whatever else is written"),
    fixed("notify-keyspace-events", "", "there is no publishing and subscribing"),
    of("protected-mode", |config| yes_no(!config.allow_wide_bind),
        "without a password nothing but loopback is served, unless allow-wide-bind is given at the start"),
    fixed("rdbchecksum", "yes", "snapshots have checksums"),
    fixed("rdbcompression", "no", "snapshots are not compressed"),
    fixed("repl-backlog-size", "1048576", NO_REPLICAS),
    fixed("repl-diskless-sync", "yes", NO_REPLICAS),
    fixed("repl-timeout", "60", NO_REPLICAS),
    fixed("replica-priority", "100", NO_REPLICAS),
    fixed("replica-read-only", "yes", NO_REPLICAS),
    fixed("replica-serve-stale-data", "yes", NO_REPLICAS),
    fixed("save", "", "snapshots are taken as the log grows: see snapshot-log-bytes"),
    fixed("set-max-intset-entries", "512", STRINGS),
    fixed("slave-read-only", "yes", NO_REPLICAS),
    fixed("slave-serve-stale-data", "yes", NO_REPLICAS),
    fixed("stop-writes-on-bgsave-error", "no", "a snapshot that fails leaves the log, which is what writes are safe in"),
    fixed("stream-node-max-bytes", "4096", STRINGS),
    fixed("stream-node-max-entries", "100", STRINGS),
    fixed("supervised", "no", "systemd needs no word from it"),
    fixed("syslog-enabled", "no", "what is logged goes to standard error"),
    fixed("tls-port", "0", NO_TLS),
    fixed("unixsocket", "", "there are no Unix sockets: use loopback"),
    fixed("zset-max-listpack-entries", "128", STRINGS),
    fixed("zset-max-listpack-value", "64", STRINGS),
    fixed("zset-max-ziplist-entries", "128", STRINGS),
    fixed("zset-max-ziplist-value", "64", STRINGS),
];
