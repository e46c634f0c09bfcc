//! The bench for tests of commands: a shard that executes lines of text and returns the replies.

mod on_disk;
pub(crate) mod redis;

use super::{Core, Now, Persistence, Process};
use crate::{
    client::{Client, Clients, Port},
    config::Config,
    resp::{Decoded, Decoder, Limits, Version, encode_request},
    shard::{Execution, Shard},
    statistics::Statistics,
    store::{Policy, Store, UnixMillis},
    topology::{Server, ShardId, Topology},
};

/// A server of one core, a client of its gateway, and a clock that only the test moves.
pub(crate) struct Bench {
    pub(crate) shard: Shard,
    pub(crate) client: Client,
    pub(crate) now: Now,
}

impl Bench {
    /// Creates a bench whose time is 2001-09-09 01:46:40 UTC.
    pub(crate) fn new() -> Self {
        Self::at(UnixMillis(1_000_000_000_000), Policy::default())
    }

    pub(crate) fn at(now: UnixMillis, policy: Policy) -> Self {
        let client = Client::new(1, "127.0.0.1:50000", "127.0.0.1:7000", Port::Gateway, true, 0);
        Self { shard: shard(1, 0, policy), client, now: Now { unix_us: now.0 * 1000, monotonic_us: 0 } }
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, milliseconds: u64) {
        self.now.unix_us += milliseconds * 1000;
        self.now.monotonic_us += milliseconds * 1000;
    }

    /// Executes a request and returns the bytes of the reply.
    pub(crate) fn execute(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_request(&mut bytes, words.iter().map(Vec::as_slice));
        self.execute_bytes(&bytes)
    }

    fn execute_bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        let limits = Limits { arguments_max: 1 << 20, argument_bytes_max: 512 << 20, is_authenticated: true };
        let (mut decoder, mut output) = (Decoder::default(), Vec::new());
        let decoded = decoder.decode(bytes, &limits);
        assert!(matches!(decoded, Ok(Decoded::Request(_))), "a request: {}", bytes.escape_ascii());
        let execution = self.shard.execute(decoder.request(bytes), &mut self.client, self.now, &mut output);
        assert!(matches!(execution, Execution::Done(_)), "a server of one core answers everything there");
        output
    }

    /// Executes a line and returns the reply with blanks for its line ends: `SET k v` gives `+OK`.
    pub(crate) fn line(&mut self, line: &str) -> String {
        let reply = self.execute_bytes(format!("{line}\n").as_bytes());
        let reply = reply.strip_suffix(b"\r\n").expect("a reply ends with a line end");
        reply.escape_ascii().to_string().replace("\\r\\n", " ").replace("\\'", "'")
    }
}

/// Creates a core of a server without a topology.
pub(crate) fn shard(cores: u16, core: u16, policy: Policy) -> Shard {
    let server = Server { name: "a".into(), host: "127.0.0.1".into(), port: 7000, core_port: 7001, cores };
    let topology = Topology::single(server).expect("one server is a topology");
    let me = ShardId { server: 0, core };
    let core = Core {
        config: Config::default(),
        clients: Clients::default(),
        statistics: Statistics::default(),
        rendered: topology.render(me),
        topology,
        me,
        has_topology: false,
        process: Process::default(),
        persistence: Persistence::default(),
    };
    Shard::new(Store::new(1, policy), core)
}

/// Checks a transcript: each line is a request, `->`, and the reply as [`Bench::line`] returns it. `wait 10` lets ten
/// milliseconds pass, and `HELLO 3` changes the version of the protocol.
#[track_caller]
pub(crate) fn check(transcript: &str) {
    check_on(&mut Bench::new(), transcript);
}

#[track_caller]
pub(crate) fn check_on(bench: &mut Bench, transcript: &str) {
    for line in transcript.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(milliseconds) = line.strip_prefix("wait ") {
            bench.wait(milliseconds.parse().expect("milliseconds"));
            continue;
        }
        if let Some(version) = line.strip_prefix("HELLO ") {
            bench.client.version = if version == "3" { Version::Three } else { Version::Two };
            continue;
        }
        let (request, expected) = line.split_once(" -> ").expect("a request, an arrow, a reply");
        assert_eq!(bench.line(request).trim_end(), expected, "{request}");
    }
}
