use super::*;
use crate::{
    client::Clients,
    commands::{Persistence, Process, tests::Bench, tests::check_on},
    config::Config,
    statistics::Statistics,
    store::Policy,
    topology::{Server, ShardId, Topology},
    wal::{
        Log,
        room::{Admission, Room},
    },
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

fn plan(servers: u16, cores: u16) -> Topology {
    let server = |number: u16| Server {
        name: format!("s{number}"),
        host: "127.0.0.1".into(),
        port: 7000 + 100 * number,
        core_port: 7001 + 100 * number,
        cores,
    };
    Topology::plan((0..servers).map(server).collect()).expect("these servers fit together")
}

/// Returns core 0 of the first of these servers, and a client that came in by this kind of port.
fn bench(servers: u16, cores: u16, port: Port) -> Bench {
    let topology = plan(servers, cores);
    let me = ShardId { server: 0, core: 0 };
    let mut bench = Bench::new();
    let core = Core {
        config: Config::default(),
        clients: Clients::default(),
        statistics: Statistics::default(),
        rendered: topology.render(me),
        topology,
        me,
        has_topology: 1 < servers,
        process: Process::default(),
        persistence: Persistence::default(),
    };
    bench.shard = Shard::new(Store::new(1, Policy::default()), core);
    bench.client.port = port;
    bench
}

/// Returns the outcome of a request: `here` and the reply, or its route and core.
fn away(bench: &mut Bench, line: &str) -> String {
    let line = format!("{line}\n");
    let mut decoder = crate::resp::Decoder::default();
    let limits = crate::resp::Limits { arguments_max: 100, argument_bytes_max: 1000, is_authenticated: true };
    decoder.decode(line.as_bytes(), &limits).expect("a request");
    let mut output = Vec::new();
    match bench.shard.execute(decoder.request(line.as_bytes()), &mut bench.client, bench.now, &mut output) {
        Execution::Done(_) => format!("here: {}", String::from_utf8_lossy(&output).trim_end()),
        Execution::Away(away) => {
            assert!(output.is_empty(), "a request that is forwarded has no reply here");
            format!("{:?} to core {}", away.route, away.core)
        }
        Execution::Wait => "wait".into(),
    }
}

/// A core answers for its own slots and redirects clients to the owners of the others. Keys of several slots are
/// refused instead of redirected. `{b}` is slot 3300, `{c}` 7365, `foo` 12182.
#[test]
fn a_core_sends_clients_to_the_owners_of_other_slots() {
    let crossslot = "-CROSSSLOT Keys in request don't hash to the same slot";
    check_on(
        &mut bench(2, 2, Port::Core),
        &format!(
            "SET {{b}} 1 -> +OK
             SET {{c}} 1 -> -MOVED 7365 127.0.0.1:7002
             GET foo -> -MOVED 12182 127.0.0.1:7101
             MGET {{b}} {{b}}2 -> *2 $1 1 $-1
             MGET {{b}} foo -> {crossslot}
             MGET foo {{b}} -> {crossslot}
             MSET foo 1 foo{{}} 2 -> {crossslot}
             DEL {{c}}1 {{c}}2 -> -MOVED 7365 127.0.0.1:7002
             RENAME {{b}} foo -> {crossslot}
             PING -> +PONG
             DBSIZE -> :1"
        ),
    );
}

/// A gateway with a topology forwards to all cores of its server, and follows the rules of a cluster for the rest.
#[test]
fn a_gateway_passes_requests_to_the_cores_of_its_server() {
    let mut cluster = bench(2, 2, Port::Gateway);
    let mut alone = bench(1, 2, Port::Gateway);
    let crossslot = "here: -CROSSSLOT Keys in request don't hash to the same slot";
    // Alone, the second core begins with slot 8192; in the cluster with 4096, and the other server with 8192.
    for (line, in_cluster, on_its_own) in [
        ("SET {b} 1", "here: +OK", "here: +OK"),
        ("GET {c}", "Keys to core 1", "here: $-1"),
        ("GET foo", "here: -MOVED 12182 127.0.0.1:7101", "Keys to core 1"),
        ("MGET {b} {b}2", "here: *2\r\n$1\r\n1\r\n$-1", "here: *2\r\n$1\r\n1\r\n$-1"),
        ("MGET {b} foo", crossslot, "Split(Elements) to core 0"),
        ("MGET foo foo", "here: -MOVED 12182 127.0.0.1:7101", "Keys to core 1"),
        ("RENAME {b} foo", crossslot, crossslot),
        ("DBSIZE", "Everywhere(Sum) to core 0", "Everywhere(Sum) to core 0"),
        ("SCAN 0", "CursorAt(1) to core 0", "CursorAt(1) to core 0"),
        ("PING", "here: +PONG", "here: +PONG"),
        (
            "GET",
            "here: -ERR wrong number of arguments for 'get' command",
            "here: -ERR wrong number of arguments for 'get' command",
        ),
    ] {
        assert_eq!(away(&mut cluster, line), in_cluster, "{line}");
        assert_eq!(away(&mut alone, line), on_its_own, "{line}");
    }
}

/// Executes a line that was resolved before `change`, as a request that another core has forwarded if `is_passed`.
fn late(bench: &mut Bench, line: &str, is_passed: bool, change: impl FnOnce(&mut Shard)) -> String {
    let line = format!("{line}\n");
    let mut decoder = crate::resp::Decoder::default();
    let limits = crate::resp::Limits { arguments_max: 100, argument_bytes_max: 1000, is_authenticated: true };
    decoder.decode(line.as_bytes(), &limits).expect("a request");
    let (request, mut output) = (decoder.request(line.as_bytes()), Vec::new());
    let Bench { shard, client, now } = bench;
    let resolved = shard.resolve(request);
    change(shard);
    if is_passed {
        shard.execute_passed(request, &resolved, Share::Whole, client, *now, &mut output);
    } else if let Execution::Away(away) = shard.execute_resolved(request, resolved, client, *now, &mut output) {
        return format!("{:?} to core {}", away.route, away.core);
    }
    String::from_utf8_lossy(&output).trim_end().to_owned()
}

/// From the instant at which a slot has another owner, no path executes anything for it: a core's port, the gateway, a
/// forwarded request, HTTP; nor a request that was resolved before. `{b}` stays, `{c}` goes to the second core, `foo`
/// to the other server.
#[test]
fn a_slot_that_is_given_away_is_asked_for_elsewhere_by_every_path() {
    let (at_core_1, at_server_1) = ("-MOVED 7365 127.0.0.1:7002", "-MOVED 12182 127.0.0.1:7101");
    let crossslot = "-CROSSSLOT Keys in request don't hash to the same slot";
    for (port, is_passed, replies) in [
        (Port::Core, false, [at_core_1, at_server_1, crossslot]),
        (Port::Gateway, false, ["Keys to core 1", at_server_1, crossslot]),
        (Port::Core, true, [at_core_1, at_server_1, at_server_1]),
    ] {
        let mut bench = bench(1, 1, port);
        check_on(&mut bench, "SET {b} 1 -> +OK\nSET {c} 1 -> +OK\nSET foo 1 -> +OK");
        let change = |shard: &mut Shard| assert_eq!(shard.set_topology(plan(2, 2)).keys_lost, 2);
        assert_eq!(late(&mut bench, "SET {c} 2", is_passed, change), replies[0]);
        let mut reply = |line: &str| late(&mut bench, line, is_passed, |_| ());
        assert_eq!([reply("SET {c} 2"), reply("DEL foo"), reply("MSET {b} 2 foo 2")], replies);
        assert_eq!([reply("GET {b}"), reply("MGET {b} {b}2")], ["$1\r\n1", "*2\r\n$1\r\n1\r\n$-1"]);
        for key in ["{c}", "foo"] {
            let entry = bench.shard.store.peek(Key::of(key.as_bytes()), bench.now.unix_millis());
            assert!(entry.is_none(), "{key} has gone with its slot");
        }
        let elsewhere = |key: &[u8]| bench.shard.elsewhere(key);
        assert_eq!([elsewhere(b"{b}"), elsewhere(b"{c}")], [None, None]);
        assert_eq!(elsewhere(b"foo"), Some(("127.0.0.1", 7100)));
    }
}

/// While a slot has no owner, nothing is executed for it either; the client gets TRYAGAIN.
#[test]
fn a_slot_without_an_owner_is_asked_for_again() {
    for (port, is_passed) in [(Port::Core, false), (Port::Gateway, false), (Port::Core, true)] {
        let mut bench = bench(2, 2, port);
        let slot = Slot::of(b"{b}");
        let reply = late(&mut bench, "SET {b} 1", is_passed, |shard| shard.roles.set(slot, Owner::NotNow));
        assert_eq!(reply, "-TRYAGAIN slot 3300 is changing hands: ask again");
        let reply = late(&mut bench, "SET {b} 1", is_passed, |shard| shard.roles.set(slot, Owner::Here));
        assert_eq!(reply, "+OK");
    }
}

/// A command that changes the server's settings goes to all its cores, also if it came in by a core's port.
#[test]
fn a_cores_port_changes_the_settings_of_the_whole_server() {
    let mut bench = bench(1, 2, Port::Core);
    assert_eq!(away(&mut bench, "CONFIG SET requirepass secret"), "Everywhere(Here) to core 0");
    assert_eq!(away(&mut bench, "CONFIG RESETSTAT"), "here: +OK");
    let mut alone = self::bench(1, 1, Port::Core);
    assert_eq!(away(&mut alone, "CONFIG SET requirepass secret"), "here: +OK");
}

/// Errors have this order: the command is not known, the number of arguments is wrong, the client is not authenticated.
#[test]
fn what_a_stranger_is_told() {
    let mut bench = bench(1, 1, Port::Core);
    bench.client.authenticated = false;
    bench.shard.core.config.requirepass.0 = "secret".into();
    check_on(
        &mut bench,
        "NOSUCH a b -> -ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b'
         GET -> -ERR wrong number of arguments for 'get' command
         GET a b -> -ERR wrong number of arguments for 'get' command
         GET a -> -NOAUTH Authentication required.
         CLIENT NOSUCH -> -ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP.
         AUTH nonsense -> -WRONGPASS invalid username-password pair or user is disabled.
         GET a -> -NOAUTH Authentication required.
         AUTH secret -> +OK
         GET a -> $-1",
    );
    let statistics = &bench.shard.core.statistics;
    let errors: Vec<_> = statistics.errors.by_code().collect();
    assert_eq!((statistics.errors.total, errors), (7, vec![("ERR", 4), ("NOAUTH", 2), ("WRONGPASS", 1)]));
    assert_eq!(counts(&bench, "get"), [1, 0, 4], "unknown names are nobody's");
    assert_eq!(counts(&bench, "auth"), [2, 1, 0], "it ran, and failed once");
}

/// Calls of a command, those that failed, and requests that were refused before it ran.
fn counts(bench: &Bench, name: &str) -> [u64; 3] {
    let core = &bench.shard.core;
    let index = core.statistics.commands.iter().position(|row| row.name == name).expect("a command");
    let counted = &core.statistics.commands[index];
    [counted.calls, counted.failed, counted.rejected]
}

/// A full shard refuses what needs memory, and executes the rest.
#[test]
fn a_full_shard_refuses_what_needs_memory() {
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.";
    let mut bench = bench(1, 1, Port::Core);
    check_on(&mut bench, "SET a 1 -> +OK\nSET b 2 EX 10 -> +OK");
    bench.shard.store.policy = Policy { memory_max: 1, ..Policy::default() };
    check_on(
        &mut bench,
        &format!(
            "SET c 3 -> {oom}
             APPEND a x -> {oom}
             INCR a -> {oom}
             GET a -> $1 1
             EXPIRE a 100 -> :1
             DEL a b -> -CROSSSLOT Keys in request don't hash to the same slot
             DEL b -> :1"
        ),
    );
    assert_eq!(counts(&bench, "append"), [0, 0, 1]);
    assert_eq!(counts(&bench, "del"), [1, 0, 1]);
    let errors: Vec<_> = bench.shard.core.statistics.errors.by_code().collect();
    assert_eq!(errors, [("CROSSSLOT", 1), ("OOM", 3)]);
}

/// A write whose records have no room in the log's files, by their size, is refused before it is applied; commands that
/// free have the reserve. The bytes that a command writes count, not those of its request: APPEND, SETRANGE, COPY and
/// RENAME write whole values.
#[test]
fn what_has_no_room_on_disk_is_refused_before_it_is_applied() {
    const MIB: u64 = 1 << 20;
    let no_room = "-MISCONF the disk has no room for this write: make room on the disk, or delete keys";
    let mut bench = bench(1, 1, Port::Gateway);
    bench.shard.store.log = Some(Box::new(Log::new(Lsn(0), false)));
    let admission = |active: u64| Admission::new(Lsn(0), Room { active, segments: 1, segment_bytes: 4 * MIB });
    bench.shard.core.persistence.admission = Some(admission(4 * MIB));
    let long = "x".repeat(1 << 20);
    let check = |bench: &mut Bench, lines: &[(&str, &str)]| {
        for (line, reply) in lines {
            assert_eq!(ask(bench, &line.replace("LONG", &long)), *reply, "{line}");
        }
    };
    check(&mut bench, &[("SET a LONG", "+OK"), ("SET {a}b 1", "+OK")]);
    let end = bench.shard.store.log.as_ref().map(|log| log.end());
    bench.shard.core.persistence.admission = Some(admission(2 * MIB + 600_000));
    for line in [
        "SET c LONG",
        "SETEX c 9 LONG",
        "MSET {a}b 2 {a}c LONG",
        "APPEND a x",
        "SETRANGE a 0 y",
        "SETRANGE {a}c 1000000 y",
        "COPY a {a}c",
        "RENAME a {a}c",
    ] {
        check(&mut bench, &[(line, no_room)]);
    }
    assert_eq!(bench.shard.store.log.as_ref().map(|log| log.end()), end, "nothing was applied");
    check(
        &mut bench,
        &[
            ("STRLEN a", ":1048576"),
            ("GET {a}b", "$1 1"),
            ("EXISTS c {a}c", ":0"),
            ("SET {a}b 3", "+OK"),
            ("DEL {a}b", ":1"),
        ],
    );
    bench.shard.core.persistence.admission = Some(admission(0));
    let refused = [("SET d 1", no_room), ("INCR d", no_room), ("EXPIRE a 9", no_room)];
    check(&mut bench, &refused);
    check(&mut bench, &[("DEL a", ":1"), ("FLUSHALL", "+OK")]);
    bench.shard.core.persistence.refusal = Some("MISCONF full");
    check(&mut bench, &[("SET d 1", "-MISCONF full"), ("DEL d", ":0"), ("FLUSHDB", "+OK")]);
    // The reserve is used up, too.
    bench.shard.core.persistence.admission = Some(Admission::new(Lsn(0), Room::default()));
    check(&mut bench, &[("SET d 1", "-MISCONF full"), ("DEL d", "-MISCONF full"), ("GET d", "$-1")]);
}

/// Returns the reply to a request of any length.
fn ask(bench: &mut Bench, line: &str) -> String {
    let words: Vec<_> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    String::from_utf8_lossy(&bench.execute(&words)).trim_end().replace("\r\n", " ")
}

/// A disk with room for this many segments.
struct Disk(Arc<AtomicU64>);

impl Grow for Disk {
    fn spares(&self) -> u64 {
        0
    }

    fn allocated(&self) -> u64 {
        0
    }

    fn note_delivered(&mut self) {}

    fn try_again(&mut self) {}

    fn grow(&mut self, segments: u64) -> bool {
        let take = |left: u64| left.checked_sub(segments);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// A write that has no room in the log's files gets new ones, as many as it needs and no more.
#[test]
fn a_large_write_takes_the_room_that_it_needs() {
    let mut bench = bench(1, 1, Port::Gateway);
    let left = Arc::new(AtomicU64::new(3));
    bench.shard.grow = Some(Box::new(Disk(Arc::clone(&left))));
    bench.shard.store.log = Some(Box::new(Log::new(Lsn(0), false)));
    bench.shard.core.persistence.admission =
        Some(Admission::new(Lsn(0), Room { active: 4 << 20, segments: 1, segment_bytes: 4 << 20 }));
    let mut reply = |mib: usize| ask(&mut bench, &format!("SET a {}", "x".repeat(mib << 20)));
    let no_room = "-MISCONF the disk has no room for this write: make room on the disk, or delete keys";
    assert_eq!([reply(1), reply(4), reply(20), reply(3)], ["+OK", "+OK", no_room, "+OK"]);
    assert_eq!(left.load(Ordering::Relaxed), 1);
}

/// A reply that the client does not want is removed, also an error; the command is executed all the same.
#[test]
fn unwanted_replies_are_taken_back() {
    let mut bench = bench(1, 1, Port::Core);
    let mut replies = |line: &str| away(&mut bench, line);
    assert_eq!(replies("CLIENT REPLY OFF"), "here: ");
    assert_eq!(replies("SET a 1"), "here: ");
    assert_eq!(replies("NOSUCH"), "here: ");
    assert_eq!(replies("CLIENT REPLY ON"), "here: +OK");
    assert_eq!(replies("CLIENT REPLY SKIP"), "here: ");
    assert_eq!(replies("INCR a"), "here: ");
    assert_eq!(replies("INCR a"), "here: :3");
}
