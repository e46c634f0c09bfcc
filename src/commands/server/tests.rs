use crate::{
    commands::{
        Outcome,
        tests::{Bench, check, check_on},
    },
    resp::{Decoder, Limits, encode_request},
    shard::Execution,
    statistics::Delay,
};
use std::time::Duration;

/// Replies and errors are those of redis-server 7.
#[test]
fn the_server_is_talked_about_in_the_words_of_redis() {
    check(
        "DBSIZE -> :0
         SET a 1 -> +OK
         SET b 1 -> +OK
         DBSIZE -> :2
         FLUSHALL foo -> -ERR syntax error
         FLUSHDB ASYNC -> +OK
         FLUSHALL SYNC x -> -ERR syntax error
         DBSIZE -> :0
         FLUSHALL -> +OK
         TIME -> *2 $10 1000000000 $1 0
         ROLE -> *3 $6 master :0 *0
         WAIT 1 1 -> :0
         WAIT x 1 -> -ERR value is not an integer or out of range
         WAIT 1 x -> -ERR timeout is not an integer or out of range
         WAIT 1 -1 -> -ERR timeout is negative
         FUNCTION FLUSH -> +OK
         FUNCTION FLUSH x -> -ERR FUNCTION FLUSH only supports SYNC|ASYNC option
         FUNCTION LIST -> -ERR unknown subcommand 'LIST'. Try FUNCTION HELP.
         SHUTDOWN foo -> -ERR syntax error
         SHUTDOWN ABORT -> -ERR No shutdown in progress.
         LATENCY LATEST -> *0
         LATENCY HISTORY a -> *0
         LATENCY RESET -> :0
         LATENCY HISTOGRAM -> *0
         SLOWLOG GET -> *0
         SLOWLOG GET -1 -> *0
         SLOWLOG get 1 2 -> -ERR unknown subcommand or wrong number of arguments for 'get'. Try SLOWLOG HELP.
         CONFIG SET maxmemory -> -ERR wrong number of arguments for 'config|set' command
         CONFIG SET maxmemory 0 timeout -> -ERR syntax error
         SLOWLOG GET -2 -> -ERR count should be greater than or equal to -1
         SLOWLOG LEN -> :0
         SLOWLOG FOO -> -ERR unknown subcommand 'FOO'. Try SLOWLOG HELP.
         DEBUG SLEEP 0 -> -ERR DEBUG command not allowed. If the enable-debug-command option is set to \\\"local\\\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
    );
}

/// A setting that was set is in effect, for the store too; after an error nothing has changed.
#[test]
fn configuration_can_be_read_and_changed() {
    let mut bench = Bench::new();
    check_on(
        &mut bench,
        "CONFIG GET maxmemory -> *2 $9 maxmemory $1 0
         CONFIG GET MAXMEM* foo -> *8 $9 maxmemory $1 0 $16 maxmemory-policy $10 noeviction $17 maxmemory-clients $1 0 $17 maxmemory-samples $2 12
         CONFIG GET foo -> *0
         CONFIG GET -> -ERR wrong number of arguments for 'config|get' command
         CONFIG SET maxmemory 100mb maxmemory-policy allkeys-lfu -> +OK
         CONFIG SET maxmemory -> -ERR wrong number of arguments for 'config|set' command
         CONFIG SET maxmemory 1 lfu-decay-time -> -ERR syntax error
         CONFIG SET port 1 -> -ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config
         CONFIG SET foo 1 -> -ERR Unknown option or number of arguments for CONFIG SET - 'foo'
         CONFIG REWRITE -> -ERR The server is running without a config file
         CONFIG FOO -> -ERR unknown subcommand 'FOO'. Try CONFIG HELP.
         HELLO 3
         CONFIG GET maxmemory -> %1 $9 maxmemory $9 104857600",
    );
    assert_eq!(bench.shard.store.policy.memory_max, 100 << 20);
    assert_eq!(bench.shard.store.policy.eviction, crate::config::Eviction::Lfu);
}

#[test]
fn counts_begin_anew_on_demand() {
    let mut bench = Bench::new();
    check_on(&mut bench, "GET a -> $-1\nCONFIG RESETSTAT -> +OK");
    assert_eq!(bench.shard.store.counters.misses, 0);
    // CONFIG RESETSTAT itself is counted once it is over.
    assert_eq!(bench.shard.core.statistics.requests, 1);
    check_on(&mut bench, "PING -> +PONG");
}

/// The reply can be sent at once; the driver of the shard then blocks for the given time.
#[test]
fn a_core_can_be_put_to_sleep_by_tests() {
    let mut bench = Bench::new();
    bench.shard.core.config.debug_commands = true;
    check_on(
        &mut bench,
        "DEBUG SET-ACTIVE-EXPIRE 0 -> +OK
         DEBUG FOO -> -ERR unknown subcommand or wrong number of arguments for 'FOO'. Try DEBUG HELP.",
    );
    assert!(!bench.shard.store.sweeps);
    assert_eq!(outcome(&mut bench, &["DEBUG", "SLEEP", "0.5"]), Outcome::Stall(Duration::from_millis(500)));
    assert_eq!(outcome(&mut bench, &["DEBUG", "SLEEP", "-1"]), Outcome::Stall(Duration::ZERO));
    assert_eq!(outcome(&mut bench, &["SHUTDOWN", "NOSAVE"]), Outcome::Shutdown);
}

fn outcome(bench: &mut Bench, words: &[&str]) -> Outcome {
    let (mut bytes, mut decoder) = (Vec::new(), Decoder::default());
    encode_request(&mut bytes, words.iter().map(|word| word.as_bytes()));
    decoder.decode(&bytes, &Limits::UNAUTHENTICATED).expect("a request");
    let request = decoder.request(&bytes);
    match bench.shard.execute(request, &mut bench.client, bench.now, &mut Vec::new()) {
        Execution::Done(outcome) => outcome,
        Execution::Away(_) | Execution::Wait => panic!("there is one core"),
    }
}

/// Arguments are cut off as in Redis, and the oldest entries are removed.
#[test]
fn slow_commands_are_kept() {
    let mut bench = Bench::new();
    for (us, words) in [(1, vec!["GET"; 2]), (20, vec!["MGET"; 33]), (300, vec!["GET", &"x".repeat(130)])] {
        let (mut bytes, mut decoder) = (Vec::new(), Decoder::default());
        encode_request(&mut bytes, words.iter().map(|word| word.as_bytes()));
        let limits = Limits { arguments_max: 99, argument_bytes_max: 999, is_authenticated: true };
        decoder.decode(&bytes, &limits).expect("a request");
        bench.shard.core.statistics.slow_log.note(decoder.request(&bytes), &bench.client, us, bench.now, 2);
    }
    let (x, many) = ("x".repeat(128), "$4 MGET ".repeat(31));
    check_on(
        &mut bench,
        &format!(
            "SLOWLOG LEN -> :2
             SLOWLOG GET 1 -> *1 *6 :2 :1000000000 :300 *2 $3 GET $146 {x}... (2 more bytes) $15 127.0.0.1:50000 $0
             SLOWLOG GET -> *2 *6 :2 :1000000000 :300 *2 $3 GET $146 {x}... (2 more bytes) $15 127.0.0.1:50000 $0  *6 :1 :1000000000 :20 *32 {many}$22 ... (2 more arguments) $15 127.0.0.1:50000 $0
             SLOWLOG RESET -> +OK
             SLOWLOG LEN -> :0"
        ),
    );
}

/// Each step has the number of calls that took no longer.
#[test]
fn times_are_shown_as_a_histogram() {
    let mut bench = Bench::new();
    let get =
        bench.shard.core.statistics.commands.iter().position(|row| row.name == "get").expect("it is there") as u16;
    check_on(&mut bench, "GET a -> $-1\nGET a -> $-1\nGET a -> $-1");
    for (us, calls) in [(0, 1), (1, 1), (100, 1)] {
        bench.shard.core.statistics.note(get, us, calls);
    }
    check_on(
        &mut bench,
        "LATENCY HISTOGRAM ping -> *0
         LATENCY HISTOGRAM ping GET -> *2 $3 get *4 $5 calls :3 $14 histogram_usec *4 :1 :2 :128 :3
         HELLO 3
         LATENCY HISTOGRAM -> %1 $3 get %2 $5 calls :3 $14 histogram_usec %2 :1 :2 :128 :3",
    );
}

/// Events that reach the threshold are shown by kind: the last one, the longest one, and of each second the longest;
/// until they are reset.
#[test]
fn what_took_long_is_told_by_kind() {
    let mut bench = Bench::new();
    let core = &mut bench.shard.core;
    for (event, us, second) in [
        (Delay::Turn, 9_999, 1),
        (Delay::Turn, 30_000, 2),
        (Delay::Turn, 12_999, 2),
        (Delay::Turn, 11_000, 3),
        (Delay::LogSync, 80_000, 3),
    ] {
        core.note_delay(event, us, second * 1_000_000);
    }
    check_on(
        &mut bench,
        "LATENCY LATEST -> *2 *4 $4 turn :3 :11 :30 *4 $8 log-sync :3 :80 :80
         LATENCY HISTORY TURN -> *2 *2 :2 :30 *2 :3 :11
         LATENCY HISTORY command -> *0
         LATENCY DOCTOR -> $287 core 0: turn 3 times, 17 ms on average, 30 ms at most: the core had more work than fits that time, or others used its CPU: give it a CPU of its own\\ncore 0: log-sync 1 times, 80 ms on average, 80 ms at most: the disk is slow or busy: with --durability interval replies do not wait for it\\n
         LATENCY RESET turn nope -> :1
         LATENCY LATEST -> *1 *4 $8 log-sync :3 :80 :80
         LATENCY RESET -> :1
         LATENCY DOCTOR -> $26 core 0: nothing took long\\n
         CONFIG SET latency-monitor-threshold 0 -> +OK",
    );
    bench.shard.core.note_delay(Delay::Turn, u64::MAX, 0);
    check_on(&mut bench, "LATENCY LATEST -> *0");
    assert!(bench.line("LATENCY DOCTOR").contains("events are not recorded"));
}
