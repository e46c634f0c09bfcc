//! The command line.

use super::{
    http::Api,
    schedule::Arrivals,
    slo::Objective,
    target::Protocol,
    units::parse_duration,
    workload::{Batch, Distribution, ValueSize},
};
use clap::{ArgGroup, Parser};
use std::{ffi::OsString, path::PathBuf, time::Duration};
use trine::top::members;

const EXAMPLES: &str = "\
Examples:
  trine-load                                         50 clients, half reads, to 127.0.0.1:7000
  trine-load --concurrency 200 --pipeline 16 --read-share 0.9 --distribution zipf:0.99
  trine-load --pipeline 16 --batch node              a node each, as redis-benchmark --cluster
  trine-load --rate 20000 --arrivals poisson         open loop: latency at 20,000 requests/s
  trine-load --slo 'p99<1ms' --duration 3s           the highest rate with a p99 below 1 ms
  trine-load 10.0.0.1:6379 --single --json out.json  any server of the Redis protocol
  trine-load http://a:7000 http://b:7100             HTTP; keys placed by consistent hashing
  trine-load --operations 800 --concurrency 10       ten clients: 800 SETs, then 800 GETs each
  trine-load --no-load --duration 0s                 only check all values written before

Closed loop (without --rate): each of --concurrency clients sends --pipeline requests together, and the next ones when all \
have their replies, as redis-benchmark does. Open loop (--rate): requests are due at their times however fast the server \
is; one that can't be sent waits, and its latency counts from its due time. In a cluster each client has a connection to \
every node and asks the owner of each key; at most --concurrency times --pipeline requests are in flight altogether. So a \
pipeline of 16 goes to three nodes as some five requests each, as a cluster client would split it; with --batch node all of \
its keys are of one node, another one each time. --operations N measures a number of requests in place of a time: each \
client SETs N new keys of its own, and then GETs each of them.

Over HTTP a SET is PUT /set/{key} and does not overwrite: 409 is an answer like 200, and the check is that the first value \
stays. --api store overwrites. Several addresses are servers that do not know each other, and keys are placed on them by \
consistent hashing (a ring of 120 points a server); one address may answer with 307, which is followed and remembered.

Phases: load writes every key once, verify reads every key back, then warm-up and measurement. Every value is checked on \
every read, all of its bytes: a value that was not written for this key, is incomplete, missing, or older than a write that \
was acknowledged before, is a wrong value.

Ctrl-C ends the measurement, and the summary shows the part that was measured, marked so.

Exit status: 0 OK; 3 SUSPECT (the generator was the bottleneck, or other processes had more than a twentieth of its CPU); \
4 INVALID (errors, wrong values, the rate was missed, or too few requests to tell); 130 interrupted; 1 nothing could be \
measured; 2 usage.";

/// Measures throughput and latency of a server that speaks the Redis protocol, or of a cluster of them.
#[derive(Clone, Debug, Parser)]
#[command(name = "trine-load", version = trine::built::VERSION, after_help = EXAMPLES, max_term_width = 120)]
#[command(group(ArgGroup::new("open").args(["rate", "slo"])))]
pub(crate) struct Arguments {
    /// Server, as PORT, HOST, HOST:PORT or http://HOST:PORT; a cluster's other nodes are learned from it. Several: servers
    /// that do not know each other
    #[arg(value_name = "ADDRESS", default_value = "127.0.0.1:7000", value_parser = parse_address)]
    addresses: Vec<Address>,
    /// Protocol of the servers [default: resp, or http where an address says so]
    #[arg(long)]
    protocol: Option<Protocol>,
    /// Requests of the HTTP API to use
    #[arg(long, default_value = "set")]
    pub(crate) api: Api,
    /// Treat the server as a node of a cluster [default: ask the server]
    #[arg(long, conflicts_with = "single")]
    pub(crate) cluster: bool,
    /// Treat it as a server of its own: all requests go to this address
    #[arg(long)]
    pub(crate) single: bool,
    /// Number of clients
    #[arg(long, short = 'c', default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) concurrency: u32,
    /// Number of requests that each client sends together
    #[arg(long, short = 'P', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) pipeline: u32,
    /// Keys of a client's pipeline
    #[arg(long, default_value = "any", conflicts_with_all = ["rate", "slo", "operations"])]
    pub(crate) batch: Batch,
    /// Requests a second, in an open loop; without it, a closed loop
    #[arg(long, short = 'r', value_name = "OPS", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// Distribution of requests over time in an open loop [default: poisson]
    #[arg(long, requires = "open")]
    pub(crate) arrivals: Option<Arrivals>,
    /// Share of reads, from 0 to 1
    #[arg(long, default_value_t = 0.5, value_parser = parse_share)]
    pub(crate) read_share: f64,
    /// Number of keys
    #[arg(long, short = 'k', default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    pub(crate) keys: u64,
    /// Length of keys in bytes
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(5..=65_536))]
    pub(crate) key_size: u32,
    /// Popularity of keys: uniform, zipf[:0.99], sequential, hotspot[:0.2:0.8] or latest
    #[arg(long, default_value = "uniform")]
    pub(crate) distribution: Distribution,
    /// Length of values in bytes: 64, 10..1000, 64,128,256 or lognormal:5.0:0.5 (logarithm of the median, deviation)
    #[arg(long, short = 'd', default_value = "64")]
    pub(crate) value_size: ValueSize,
    /// Length of the warm-up before the measurement
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub(crate) warmup: Duration,
    /// Number of new keys that each client SETs and then GETs, in place of a warm-up and a duration
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    #[arg(conflicts_with_all = ["rate", "slo", "warmup", "duration", "read_share", "keys", "distribution", "no_load", "no_verify"])]
    pub(crate) operations: Option<u64>,
    /// Length of the measurement; 0s for none
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// Don't write the keys first: an earlier run has written the same keys
    #[arg(long)]
    pub(crate) no_load: bool,
    /// Don't read all keys back first
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Don't count a missing key as a wrong value: the server evicts
    #[arg(long)]
    pub(crate) allow_misses: bool,
    /// CPUs of the load generator, one thread each, as in 1,2 or 4-7 [default: the last that is allowed]
    #[arg(long)]
    pub(crate) cpus: Option<String>,
    /// Seed of keys, sizes and arrivals
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write the results as JSON; - for standard output, in place of the summary
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write latencies since due, second by second, as an HdrHistogram log (in nanoseconds)
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
    /// Search for the highest rate that meets this objective, as in 'p99<1ms' (mean, p50, p90, p95, p99, p999, p9999 or max). A try
    /// takes at least 100 requests for p99, 1,000 for p999
    #[arg(long, value_name = "OBJECTIVE")]
    pub(crate) slo: Option<Objective>,
    /// Password for AUTH, or HTTP's Basic authentication
    #[arg(long, env = "TRINE_PASSWORD", hide_env_values = true)]
    pub(crate) password: Option<OsString>,
    /// Longest time to wait for a connection or a reply
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Show no progress and no summary
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print a script that completes this command line in a shell, and do nothing else
    #[arg(long, value_name = "SHELL", exclusive = true)]
    pub(crate) completions: Option<clap_complete::Shell>,
    /// Print this program's page of the manual, and do nothing else: trine-load --man | man -l -
    #[arg(long, exclusive = true)]
    pub(crate) man: bool,
}

/// A server's address, and whether it said http://.
#[derive(Clone, Debug, PartialEq)]
struct Address {
    host_port: String,
    is_url: bool,
}

impl Arguments {
    /// Returns the addresses to measure and their protocol.
    ///
    /// # Errors
    /// Where one argument contradicts another, for people.
    pub(crate) fn whom(&self) -> Result<(Vec<String>, Protocol), String> {
        let urls = self.addresses.iter().filter(|address| address.is_url).count();
        let protocol = match self.protocol {
            Some(Protocol::Resp) if 0 < urls => {
                return Err("--protocol resp does not go with an address of http://".into());
            }
            Some(protocol) => protocol,
            None if urls == 0 => Protocol::Resp,
            None if urls == self.addresses.len() => Protocol::Http,
            None => return Err("write http:// before every address, or before none".into()),
        };
        if self.cluster && (protocol == Protocol::Http || 1 < self.addresses.len()) {
            return Err("--cluster is for one address and the Redis protocol".into());
        }
        if self.api == Api::Store && protocol == Protocol::Resp {
            return Err("--api is for HTTP: write http:// before the address".into());
        }
        let addresses: Vec<String> = self.addresses.iter().map(|address| address.host_port.clone()).collect();
        if self.batch == Batch::Node && !self.distribution.is_drawn() {
            return Err("--batch node is for keys that are drawn: uniform, zipf or hotspot".into());
        }
        match addresses.iter().enumerate().find(|(index, address)| addresses[..*index].contains(address)) {
            Some((_, twice)) => Err(format!("{twice} is given twice")),
            None => Ok((addresses, protocol)),
        }
    }
}

fn parse_address(text: &str) -> Result<Address, String> {
    const URL: &str = "such an address is http://HOST:PORT, as in http://127.0.0.1:7000 or http://[::1]:7000";
    if text.starts_with("https://") {
        return Err("TLS is not supported: write http://".into());
    }
    let Some(url) = text.strip_prefix("http://") else {
        return Ok(Address { host_port: members::completed(text)?, is_url: false });
    };
    let host_port = url.strip_suffix('/').unwrap_or(url);
    // A URL without a port means port 80 to everybody else: it has to be written.
    let (host, port) = host_port.rsplit_once(':').ok_or(URL)?;
    if host.is_empty() || host.contains('/') || port.parse::<u16>().is_err() {
        return Err(URL.into());
    }
    Ok(Address { host_port: host_port.into(), is_url: true })
}

fn parse_rate(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|rate| (0.001..=1e9).contains(rate)).ok_or_else(|| "requests a second, above 0".into())
}

fn parse_share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "a share is between 0 and 1".into())
}

/// Reads `1,2` and `4-7`.
pub(crate) fn parse_cpus(text: &str, allowed: &[usize]) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let parse = |text: &str| text.trim().parse::<usize>().map_err(|_| format!("--cpus: {part:?} is no CPU"));
        let (first, last) = (parse(first)?, parse(last)?);
        cpus.extend(first..=last.min(first.saturating_add(4096)));
    }
    if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(format!("--cpus: this process may not run on CPU {cpu}; it may on {allowed:?}"));
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// clap finds no contradiction in the definition.
    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        for arguments in
            [&["--slo", "p99<1ms", "--arrivals", "constant"][..], &["--rate", "5", "--arrivals", "poisson"]]
        {
            Arguments::try_parse_from([&["trine-load"], arguments].concat()).unwrap();
        }
        for arguments in [
            &["--cluster", "--single"][..],
            &["--arrivals", "poisson"],
            &["--rate", "0"],
            &["--read-share", "1.1"],
            &["http://localhost"],
            &["70000"],
            &["0"],
            &["a b"],
            &["--slo", "p98<1ms"],
            &["--duration", "5h"],
            &["https://a:1"],
            &["http://a:1/path"],
            &["--operations", "8", "--duration", "1s"],
            &["--operations", "8", "--rate", "5"],
            &["--batch", "node", "--rate", "5"],
            &["--slo", "p99<1ms", "--rate", "5"],
            &["--batch", "node", "--operations", "5"],
        ] {
            assert!(Arguments::try_parse_from([&["trine-load"], arguments].concat()).is_err(), "{arguments:?}");
        }
    }

    /// Addresses say which protocol they speak, and contradictions are named.
    #[test]
    fn addresses_have_a_protocol() {
        let whom =
            |arguments: &[&str]| Arguments::try_parse_from([&["trine-load"], arguments].concat()).unwrap().whom();
        let owned = |addresses: &[&str]| addresses.iter().map(|address| (*address).to_owned()).collect::<Vec<_>>();
        for (arguments, addresses, protocol) in [
            (&[][..], &["127.0.0.1:7000"][..], Protocol::Resp),
            (&["a:1", "b:2"], &["a:1", "b:2"], Protocol::Resp),
            (&["7001", "localhost", "::1"], &["127.0.0.1:7001", "localhost:7000", "[::1]:7000"], Protocol::Resp),
            (&["http://a:1/", "http://[::1]:2"], &["a:1", "[::1]:2"], Protocol::Http),
            (&["a:1", "--protocol", "http"], &["a:1"], Protocol::Http),
        ] {
            assert_eq!(whom(arguments), Ok((owned(addresses), protocol)), "{arguments:?}");
        }
        for (arguments, complaint) in [
            (&["http://a:1", "b:2"][..], "every address"),
            (&["http://a:1", "--protocol", "resp"], "http://"),
            (&["http://a:1", "--cluster"], "--cluster"),
            (&["a:1", "b:1", "--cluster"], "--cluster"),
            (&["a:1", "--api", "store"], "--api"),
            (&["a:1", "a:1"], "twice"),
            (&["7000", "127.0.0.1:7000"], "twice"),
            (&["a:1", "--batch", "node", "--distribution", "latest"], "--batch"),
        ] {
            let error = whom(arguments).unwrap_err();
            assert!(error.contains(complaint), "{arguments:?}: {error}");
        }
    }

    /// CPUs are a list of numbers and ranges, all of them allowed.
    #[test]
    fn cpus_are_numbers_and_ranges() {
        assert_eq!(parse_cpus("1,3-4", &[0, 1, 3, 4]), Ok(vec![1, 3, 4]));
        assert!(parse_cpus("2", &[0, 1]).is_err());
        assert!(parse_cpus("x", &[0, 1]).is_err());
    }
}
