//! Any bytes as what a client sends: whatever is a request is executed and answered with whole replies, and never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trine::{
    client::{Client, Clients, Port},
    commands::{Core, Now, Persistence, Process},
    config::Config,
    resp::{Decoded, Decoder, Limits},
    shard::{Execution, Shard},
    statistics::Statistics,
    store::{Policy, Store},
    topology::{Rendered, Server, ShardId, Topology},
};

/// 2001-09-09 01:46:40 UTC.
const START_US: u64 = 1_000_000_000_000_000;

const ME: ShardId = ShardId { server: 0, core: 0 };

thread_local! {
    /// Rendered once: that takes longer than all that an input asks for.
    static TOPOLOGY: (Topology, Rendered) = {
        let server = Server { name: "a".into(), host: "127.0.0.1".into(), port: 7000, core_port: 7001, cores: 1 };
        let topology = Topology::single(server).expect("one server is a topology");
        let rendered = topology.render(ME);
        (topology, rendered)
    };
}

/// A server of one core.
fn shard() -> Shard {
    let (topology, rendered) = TOPOLOGY.with(Clone::clone);
    let mut config = Config::default();
    config.max_memory = 1 << 20;
    let policy = Policy::new(&config, 1);
    let core = Core {
        config,
        clients: Clients::default(),
        statistics: Statistics::default(),
        rendered,
        topology,
        me: ME,
        has_topology: false,
        process: Process::default(),
        persistence: Persistence::default(),
    };
    Shard::new(Store::new(1, policy), core)
}

fuzz_target!(|input: &[u8]| {
    let Some((&port, bytes)) = input.split_first() else { return };
    let port = if port % 2 == 0 { Port::Gateway } else { Port::Core };
    let (mut shard, mut decoder, mut output) = (shard(), Decoder::default(), Vec::new());
    let mut client = Client::new(1, "127.0.0.1:50000", "127.0.0.1:7000", port, true, 0);
    let limits = Limits { arguments_max: 1 << 10, argument_bytes_max: 1 << 16, is_authenticated: true };
    let (mut start, mut now) = (0, Now { unix_us: START_US, monotonic_us: 0 });
    while !client.closing {
        let rest = &bytes[start..];
        match decoder.decode(rest, &limits) {
            Err(_) | Ok(Decoded::Incomplete) => break,
            Ok(Decoded::Empty(used)) => start += used,
            Ok(Decoded::Request(used)) => {
                output.clear();
                let execution = shard.execute(decoder.request(rest), &mut client, now, &mut output);
                assert!(matches!(execution, Execution::Done(_)), "a server of one core answers everything there");
                assert!(output.is_empty() || output.ends_with(b"\r\n"), "replies are whole");
                start += used;
            }
        }
        now.unix_us += 1000;
        now.monotonic_us += 1000;
    }
    shard.store.sweep(100, now.unix_millis());
});
