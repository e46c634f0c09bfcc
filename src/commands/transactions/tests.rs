#![expect(clippy::disallowed_methods, reason = "Redis has a clock")]

use crate::{
    commands::tests::{
        Bench, check, check_on,
        redis::{Redis, Shown, Word, Words, cases, is_same, string_commands},
    },
    commands::value_len_max,
    resp::{Decoded, Decoder, Limits, Version, encode_request},
    store::{Policy, UnixMillis},
    wait::Wait,
    wal::{
        Log, Lsn, Record,
        frame::{FRAME_BYTES_MAX, FileId, FrameHeader},
        room::{Admission, Room},
    },
};
use proptest::{collection::vec, prelude::*, sample::select, strategy::Union, test_runner::TestRunner};

const PREVIOUS: &str = "-EXECABORT Transaction discarded because of previous errors.";

/// Queued commands run at EXEC, in order; each has a reply of its own, which may be an error.
#[test]
fn a_transaction_runs_at_exec() {
    check(
        "MULTI -> +OK
         SET a 1 -> +QUEUED
         INCR a -> +QUEUED
         APPEND a x -> +QUEUED
         INCR a -> +QUEUED
         MGET a b -> +QUEUED
         UNWATCH -> +QUEUED
         EXEC -> *6 +OK :2 :2 -ERR value is not an integer or out of range *2 $2 2x $-1 +OK
         GET a -> $2 2x
         EXEC -> -ERR EXEC without MULTI
         MULTI -> +OK
         EXEC -> *0
         MULTI -> +OK
         HELLO 3
         GET b -> +QUEUED
         EXEC -> *1 _",
    );
}

/// DISCARD, RESET and QUIT drop the queue.
#[test]
fn what_is_discarded_does_not_run() {
    let mut bench = Bench::new();
    check_on(
        &mut bench,
        "DISCARD -> -ERR DISCARD without MULTI
         MULTI -> +OK
         SET a 1 -> +QUEUED
         DISCARD -> +OK
         EXEC -> -ERR EXEC without MULTI
         MULTI -> +OK
         SET a 1 -> +QUEUED
         RESET -> +RESET
         EXEC -> -ERR EXEC without MULTI
         MULTI -> +OK
         SET a 1 -> +QUEUED
         GET a -> +QUEUED
         QUIT -> +OK",
    );
    assert!(bench.client.closing);
    bench.client = crate::client::Client::new(2, "", "", crate::client::Port::Gateway, true, 0);
    check_on(&mut bench, "EXISTS a -> :0");
}

/// After an error while a command is queued, EXEC discards all of them; a nested MULTI or WATCH has no such effect.
#[test]
fn an_error_while_queueing_discards_the_transaction() {
    for (line, error) in [
        ("NOSUCH a", "-ERR unknown command 'NOSUCH', with args beginning with: 'a'"),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        ("CLIENT NOSUCH", "-ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP."),
        ("SHUTDOWN", "-ERR Command not allowed inside a transaction"),
        ("CLIENT REPLY OFF", "-ERR Command not allowed inside a transaction"),
        ("MULTI x", "-ERR wrong number of arguments for 'multi' command"),
        ("DISCARD x", "-ERR wrong number of arguments for 'discard' command"),
    ] {
        check(&format!(
            "MULTI -> +OK
             SET a 1 -> +QUEUED
             {line} -> {error}
             SET a 2 -> +QUEUED
             EXEC -> {PREVIOUS}
             EXISTS a -> :0"
        ));
    }
    check(
        "MULTI -> +OK
         MULTI -> -ERR MULTI calls can not be nested
         WATCH a -> -ERR WATCH inside MULTI is not allowed
         SET a 1 -> +QUEUED
         EXEC -> *1 +OK
         MULTI -> +OK
         SET a 2 -> +QUEUED
         EXEC x -> -EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command
         EXEC -> -ERR EXEC without MULTI
         GET a -> $1 1",
    );
}

/// EXEC does nothing if a watched key was changed by any client, by expiry or by FLUSHALL.
#[test]
fn a_watched_key_that_has_changed_stops_exec() {
    for change in
        ["SET a 2", "INCR a", "APPEND a x", "SETRANGE a 0 x", "DEL a", "EXPIRE a 9", "FLUSHALL", "RENAME a {a}b"]
    {
        check(&format!(
            "SET a 1 -> +OK
             WATCH b a -> +OK
             {change} -> {}
             MULTI -> +OK
             SET c 3 -> +QUEUED
             EXEC -> *-1
             EXISTS c -> :0
             MULTI -> +OK
             SET c 3 -> +QUEUED
             EXEC -> *1 +OK",
            match change {
                "INCR a" | "APPEND a x" => ":2",
                "SETRANGE a 0 x" | "DEL a" | "EXPIRE a 9" => ":1",
                _ => "+OK",
            }
        ));
    }
    // A key that did not exist, and one that expires without being read.
    check(
        "WATCH a -> +OK
         SET a 1 PX 10 -> +OK
         MULTI -> +OK
         EXEC -> *-1
         WATCH a -> +OK
         wait 10
         MULTI -> +OK
         PING -> +QUEUED
         EXEC -> *-1
         HELLO 3
         WATCH a -> +OK
         SET a 1 -> +OK
         MULTI -> +OK
         EXEC -> _",
    );
}

/// Reads, writes to other slots, and the removal of keys that had expired before do not stop EXEC.
#[test]
fn a_watched_key_that_has_not_changed_does_not() {
    check(
        "SET a 1 PX 10 -> +OK
         SET b 1 -> +OK
         wait 10
         WATCH a b c -> +OK
         GET a -> $-1
         GET b -> $1 1
         SET d 1 -> +OK
         DEL c -> :0
         FLUSHALL -> +OK
         WATCH b -> +OK
         UNWATCH -> +OK
         SET b 2 -> +OK
         WATCH a b c -> +OK
         DEL d -> :0
         SETNX b 3 -> :0
         MULTI -> +OK
         SET a 2 -> +QUEUED
         EXEC -> *1 +OK
         SET a 3 -> +OK
         MULTI -> +OK
         GET a -> +QUEUED
         EXEC -> *1 $1 3
         WATCH a -> +OK
         SET a 4 -> +OK
         MULTI -> +OK
         DISCARD -> +OK
         MULTI -> +OK
         EXEC -> *0
         FLUSHALL -> +OK
         WATCH a -> +OK
         FLUSHALL -> +OK
         MULTI -> +OK
         EXEC -> *0",
    );
}

/// Changes by another client stop EXEC, and so does an eviction.
#[test]
fn changes_by_others_count() {
    let mut bench = Bench::new();
    check_on(&mut bench, "SET a 1 -> +OK\nWATCH a -> +OK");
    let other = crate::client::Client::new(2, "", "", crate::client::Port::Gateway, true, 0);
    let first = std::mem::replace(&mut bench.client, other);
    check_on(&mut bench, "SET a 1 -> +OK");
    bench.client = first;
    check_on(&mut bench, "MULTI -> +OK\nGET a -> +QUEUED\nEXEC -> *-1\nWATCH a -> +OK");
    let eviction = crate::config::Eviction::Lfu;
    bench.shard.store.set_policy(Policy { memory_max: 1, eviction, ..Policy::default() });
    bench.shard.store.evict_some(1, UnixMillis(0));
    check_on(&mut bench, "MULTI -> +OK\nPING -> +QUEUED\nEXEC -> *-1\nEXISTS a -> :0");
}

/// A client that has not sent the password queues nothing; after RESET the transaction of an authenticated one is gone.
#[test]
fn a_stranger_queues_nothing() {
    let mut bench = Bench::new();
    bench.shard.core.config.requirepass.0 = "secret".into();
    bench.client.authenticated = false;
    let noauth = "NOAUTH Authentication required.";
    check_on(
        &mut bench,
        &format!(
            "MULTI -> -{noauth}
             WATCH a -> -{noauth}
             SET a 1 -> -{noauth}
             EXEC -> -EXECABORT Transaction discarded because of: {noauth}
             AUTH secret -> +OK
             EXEC -> -ERR EXEC without MULTI"
        ),
    );
}

/// The queue has the bounds of a request, and CLIENT LIST counts its bytes.
#[test]
fn the_queue_is_bounded_and_shown() {
    let mut bench = Bench::new();
    bench.shard.core.config.max_request_args = 16;
    check_on(
        &mut bench,
        "WATCH x -> +OK\nMULTI -> +OK\nSET a 1 -> +QUEUED\nSET b 2 -> +QUEUED\nMGET a b c d e f g -> +QUEUED",
    );
    let info = |bench: &mut Bench| {
        bench.shard.core.clients.put(5, Box::new(bench.client.clone()));
        let other = crate::client::Client::new(2, "", "", crate::client::Port::Gateway, true, 0);
        let first = std::mem::replace(&mut bench.client, other);
        let line = bench.line("CLIENT LIST ID 1");
        bench.client = first;
        bench.shard.core.clients.take(5);
        let field =
            |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name)).expect("a field").to_owned();
        (field("multi="), field("watch="), field("flags="), field("multi-mem=").parse::<usize>().expect("bytes"))
    };
    let (multi, watch, flags, bytes) = info(&mut bench);
    assert_eq!((&*multi, &*watch, &*flags), ("3", "1", "x"));
    assert!(100 < bytes, "{bytes}");
    let too_many = "ERR the transaction has more than 16 arguments (max-request-args)";
    check_on(&mut bench, &format!("SET c 3 -> -{too_many}\nPING -> +QUEUED\nEXEC -> {PREVIOUS}\nEXISTS a -> :0"));
    assert_eq!(info(&mut bench), ("-1".into(), "0".into(), "N".into(), 0));
}

/// Commands that need memory are refused when they are queued, and when they are executed, before any of them has run.
#[test]
fn a_full_shard_refuses_transactions() {
    let oom = "OOM command not allowed when used memory > 'maxmemory'.";
    let full = Policy { memory_max: 1, ..Policy::default() };
    let mut bench = Bench::new();
    check_on(&mut bench, "SET a 1 -> +OK");
    bench.shard.store.policy = full;
    check_on(&mut bench, &format!("MULTI -> +OK\nSET a 2 -> -{oom}\nPING -> -{oom}\nEXEC -> {PREVIOUS}"));
    bench.shard.store.policy = Policy::default();
    check_on(&mut bench, "MULTI -> +OK\nDEL a -> +QUEUED\nSET a 2 -> +QUEUED");
    bench.shard.store.policy = full;
    check_on(
        &mut bench,
        &format!("EXEC -> -EXECABORT Transaction discarded because of: {oom}\nGET a -> $1 1\nMULTI -> +OK"),
    );
    bench.shard.store.policy = Policy::default();
    check_on(&mut bench, "DEL a -> +QUEUED");
    bench.shard.store.policy = full;
    check_on(&mut bench, "EXEC -> *1 :1");
}

/// A transaction is admitted as a whole before any of it runs, by the bytes of all its records; one that only removes
/// keys may use the reserve.
#[test]
fn what_has_no_room_on_disk_is_refused_as_a_whole() {
    const MIB: u64 = 1 << 20;
    let no_room = "-EXECABORT Transaction discarded because of: MISCONF the disk has no room for this write: \
                   make room on the disk, or delete keys";
    let mut bench = Bench::new();
    bench.shard.store.log = Some(Box::new(Log::new(Lsn(0), false)));
    let admission = |active: u64| Admission::new(Lsn(0), Room { active, segments: 1, segment_bytes: 4 * MIB });
    bench.shard.core.persistence.admission = Some(admission(4 * MIB));
    let end = |bench: &Bench| bench.shard.store.log.as_ref().map(|log| log.end());
    // Lines are at most 64 KiB long.
    let ask = |bench: &mut Bench, line: &str| {
        let words: Words = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        String::from_utf8_lossy(&bench.execute(&words)).trim_end().to_owned()
    };
    assert_eq!(ask(&mut bench, &format!("SET a {}", "x".repeat(500_000))), "+OK");
    let before = end(&bench);
    // There is room for each of these, but not for all; the last of them write values that those before have made.
    for lines in [
        vec![format!("SET b {}", "x".repeat(900_000)); 3],
        vec!["APPEND a x".to_owned(); 6],
        vec!["COPY a {a}b REPLACE".to_owned(); 6],
        vec!["SETRANGE b 900000 x".to_owned(), "APPEND b x".into(), "APPEND b x".into()],
        vec![
            "RENAME a {a}b".to_owned(),
            "APPEND {a}b x".into(),
            "COPY {a}b {a}c".into(),
            "APPEND {a}c x".into(),
            "APPEND {a}c x".into(),
            "APPEND {a}c x".into(),
        ],
    ] {
        check_on(&mut bench, "MULTI -> +OK");
        lines.iter().for_each(|line| assert_eq!(ask(&mut bench, line), "+QUEUED"));
        assert_eq!(ask(&mut bench, "EXEC"), no_room, "{:?}", lines.last());
        assert_eq!(end(&bench), before, "nothing has run");
    }
    check_on(&mut bench, "MULTI -> +OK\nAPPEND a x -> +QUEUED\nAPPEND a x -> +QUEUED\nEXEC -> *2 :500001 :500002");
    bench.shard.core.persistence.admission =
        Some(Admission::new(Lsn(0), Room { active: 0, segments: 1, segment_bytes: 4 * MIB }));
    bench.shard.store.log = Some(Box::new(Log::new(Lsn(0), false)));
    check_on(
        &mut bench,
        &format!(
            "MULTI -> +OK
             DEL a -> +QUEUED
             SET b 1 -> +QUEUED
             EXEC -> {no_room}
             MULTI -> +OK
             DEL a -> +QUEUED
             GET a -> +QUEUED
             EXEC -> *2 :1 $-1"
        ),
    );
}

/// A short queue can ask for one large value many times: its writes run, and its client gets an error and is closed.
#[test]
fn the_reply_to_exec_is_bounded() {
    let mut bench = Bench::new();
    bench.shard.core.config.output_hard_limit = 1000;
    let value = "x".repeat(300);
    check_on(
        &mut bench,
        &format!(
            "SET a {value} -> +OK
             MULTI -> +OK
             GET a -> +QUEUED
             GET a -> +QUEUED
             GET a -> +QUEUED
             EXEC -> *3 $300 {value} $300 {value} $300 {value}"
        ),
    );
    assert!(!bench.client.closing);
    check_on(
        &mut bench,
        "MULTI -> +OK
         GET a -> +QUEUED
         GET a -> +QUEUED
         GET a -> +QUEUED
         GET a -> +QUEUED
         SET b 1 -> +QUEUED
         EXEC -> -ERR the transaction was executed, and its reply is larger than output-hard-limit: ask for fewer values at a time
         GET b -> $1 1",
    );
    assert!(bench.client.closing);
}

/// The records of a transaction have the bound of a request, since they are kept in memory until they are on disk: a
/// few short commands can make long values.
#[test]
fn the_records_of_a_transaction_are_bounded() {
    let mut bench = Bench::new();
    bench.shard.store.log = Some(Box::new(Log::new(Lsn(0), false)));
    bench.shard.core.config.max_request_bytes = 100_000;
    let error = "-EXECABORT Transaction discarded because of: the values that the transaction would write are longer than \
                 max-request-bytes together: send it in parts";
    check_on(
        &mut bench,
        &format!(
            "MULTI -> +OK
             SETRANGE a 60000 x -> +QUEUED
             EXEC -> *1 :60001
             MULTI -> +OK
             SETRANGE b 60000 x -> +QUEUED
             SETRANGE c 60000 x -> +QUEUED
             EXEC -> {error}
             EXISTS b c -> :0"
        ),
    );
    // Changes of one value, again and again: each record has all of it, and no more.
    bench.shard.core.config.max_request_bytes = 1_000_000;
    for line in ["SETRANGE k 0 x", "APPEND k x", "RENAME k k", "COPY k {k}b REPLACE", "SETEX k 100 x"] {
        check_on(&mut bench, "SET k x -> +OK\nMULTI -> +OK");
        (0..1000).for_each(|_| assert_eq!(bench.line(line), "+QUEUED"));
        assert!(bench.line("EXEC").starts_with("*1000 "), "{line}");
    }
}

/// The bounds of the lengths of values hold for whatever a queue makes of them.
#[test]
fn values_are_no_longer_than_their_bounds() {
    let mut bench = Bench::new();
    for line in [
        "SET a 12345",
        "APPEND a 678",
        "SETRANGE a 20 xyz",
        "SETRANGE a 0 y",
        "COPY a {a}b",
        "RENAME {a}b {a}c",
        "INCR {a}n",
        "DECRBY {a}n 9223372036854775807",
        "INCRBYFLOAT {a}n 0.1",
        "MSET {a}d 1234 {a}e 1",
        "GETSET a 99999999999999999999999",
        "SETEX a 100 123",
        "PSETEX a 100 1234567",
        "SET a 5 KEEPTTL GET",
        "GETDEL a",
        "MSETNX {a}f 12 {a}g 123",
    ] {
        let words: Words = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let mut bytes = Vec::new();
        encode_request(&mut bytes, words.iter().map(Vec::as_slice));
        let limits = Limits { arguments_max: 100, argument_bytes_max: 1000, is_authenticated: true };
        let mut decoder = Decoder::default();
        assert!(matches!(decoder.decode(&bytes, &limits), Ok(Decoded::Request(_))));
        let found = crate::commands::Table::default().find_for(decoder.request(&bytes)).expect("a command").command;
        let length = |bench: &Bench, key: &[u8]| bench.shard.store.value_len(crate::store::Key::of(key));
        let bound = value_len_max(found, decoder.request(&bytes), 1000, |key| length(&bench, key));
        let reply = bench.execute(&words);
        assert!(!reply.starts_with(b"-"), "{line}: {}", reply.escape_ascii());
        for index in found.keys.indices(words.len()) {
            assert!(
                length(&bench, &words[index]) <= bound,
                "{line}: {} is longer than {bound}",
                words[index].escape_ascii()
            );
        }
    }
}

/// All effects are one record in the log's bytes, and the reply waits for it. The reply to a read waits for the record
/// that wrote the value.
#[test]
fn the_effects_of_a_transaction_are_one_record() {
    let mut bench = Bench::new();
    bench.shard.store.log = Some(Box::new(Log::new(Lsn(0), true)));
    check_on(
        &mut bench,
        "SET b 1 -> +OK
         MULTI -> +OK
         SET a 1 -> +QUEUED
         MSET {a}b 2 {a}c 3 -> +QUEUED
         FLUSHALL -> +QUEUED
         INCR a -> +QUEUED
         EXEC -> *4 +OK +OK +OK :1",
    );
    let log = bench.shard.store.log.as_mut().expect("a log");
    assert_eq!(bench.shard.told, Wait::persisted(log.end()));
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    log.take(FileId(7), &mut buffer);
    let (_, records) = FrameHeader::decode(&buffer, FileId(7)).expect("a frame");
    let (_, length) = Record::decode(records).expect("a record").expect("a whole one");
    let rest = &records[length..];
    let Ok(Some((Record::Together(together), length))) = Record::decode(rest) else { panic!("records together") };
    assert_eq!(length, rest.len(), "there is no other record");
    let each: Vec<_> = together.each().map(Result::unwrap).collect();
    let put = |key, value| Record::Put { key, value, expires_at: None };
    let Record::ClearSlots(slots) = each[3] else { panic!("{:?}", each[3]) };
    assert_eq!(
        slots.each().collect::<Vec<_>>(),
        [b"b", b"a"].map(|key| crate::slot::Slot::of(key)),
        "those that had keys"
    );
    assert_eq!(each[..3], [put(b"a", b"1"), put(b"{a}b", b"2"), put(b"{a}c", b"3")]);
    assert_eq!(each[4..], [put(b"a", b"1")]);
    log.persisted();
    check_on(&mut bench, "SET b 1 -> +OK");
    let end = bench.shard.told;
    for (line, told) in [("GET b", end), ("GET x", Wait::NONE), ("PING", Wait::NONE)] {
        check_on(&mut bench, "MULTI -> +OK");
        assert_eq!(bench.line(line), "+QUEUED");
        bench.line("EXEC");
        assert_eq!(bench.shard.told, told, "{line}");
    }
}

/// A key that a transaction finds expired is removed by the transaction's record, also where nothing is written; its reply waits.
#[test]
fn what_a_transaction_finds_expired_goes_with_its_record() {
    let mut bench = Bench::new();
    bench.shard.store.log = Some(Box::new(Log::new(Lsn(0), true)));
    check_on(&mut bench, "SET a 1 PX 10 -> +OK\nSET {a}b 1 PX 10 -> +OK");
    let before = bench.shard.store.log.as_ref().expect("a log").end();
    bench.now.unix_us += 20_000;
    check_on(
        &mut bench,
        "MULTI -> +OK
         GET a -> +QUEUED
         EXISTS {a}b -> +QUEUED
         EXEC -> *2 $-1 :0",
    );
    let log = bench.shard.store.log.as_mut().expect("a log");
    assert_eq!(bench.shard.told, Wait::persisted(log.end()));
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    log.take(FileId(7), &mut buffer);
    let (_, records) = FrameHeader::decode(&buffer, FileId(7)).expect("a frame");
    let rest = &records[before.0 as usize..];
    let Ok(Some((Record::Together(together), length))) = Record::decode(rest) else { panic!("records together") };
    assert_eq!(length, rest.len(), "there is no other record");
    let each: Vec<_> = together.each().map(Result::unwrap).collect();
    assert_eq!(each, [Record::Remove { key: b"a" }, Record::Remove { key: b"{a}b" }]);
}

/// Every command that has run is counted and timed; one that was only queued is not.
#[test]
fn commands_of_a_transaction_are_counted() {
    let mut bench = Bench::new();
    let clock = std::cell::Cell::new(0);
    bench.shard.clock = Some(Box::new(move || clock.replace(clock.get() + 20_000)));
    check_on(
        &mut bench,
        "MULTI -> +OK
         SET a x -> +QUEUED
         INCR a -> +QUEUED
         EXEC -> *2 +OK -ERR value is not an integer or out of range
         MULTI -> +OK
         SET a 2 -> +QUEUED
         DISCARD -> +OK
         MULTI -> +OK
         GET -> -ERR wrong number of arguments for 'get' command
         EXEC -> -EXECABORT Transaction discarded because of previous errors.
         SLOWLOG LEN -> :2",
    );
    let core = &bench.shard.core;
    for (name, expected) in
        [("multi", [3, 0, 0]), ("exec", [2, 1, 0]), ("set", [1, 0, 0]), ("incr", [1, 1, 0]), ("get", [0, 0, 1])]
    {
        let index = core.statistics.commands.iter().position(|row| row.name == name).expect("a command");
        let counted = &core.statistics.commands[index];
        assert_eq!([counted.calls, counted.failed, counted.rejected], expected, "{name}");
    }
    let index = core.statistics.commands.iter().position(|row| row.name == "set").expect("a command");
    assert_eq!(core.statistics.commands[index].times.sum_us, 20_000);
    let errors: Vec<_> = core.statistics.errors.by_code().collect();
    assert_eq!(errors, [("ERR", 2), ("EXECABORT", 1)]);
}

/// Generates a script of transactions: some well formed, and any of these commands at any position.
fn scripts() -> impl Strategy<Value = Vec<Shown>> {
    let words = |line: &str| -> Words { line.split(' ').map(|word| word.as_bytes().to_vec()).collect() };
    // Keys of different slots: WATCH does not distinguish keys of one slot here.
    let any_key = || select(&["a", "b", "{a}c", "n"][..]);
    let frame = select(
        &[
            "MULTI",
            "MULTI",
            "EXEC",
            "EXEC",
            "EXEC",
            "DISCARD",
            "UNWATCH",
            "MULTI x",
            "EXEC x",
            "DISCARD x",
            "WATCH",
            "NOSUCH x",
        ][..],
    )
    .prop_map(words);
    let keyed = (select(&["WATCH", "WATCH", "GET", "INCR", "DEL", "TYPE", "PERSIST", "TTL"][..]), any_key())
        .prop_map(|(name, key)| vec![name.into(), key.into()]);
    let other =
        select(&["PING", "ECHO hi", "FLUSHALL", "HELLO 2", "HELLO 3", "GET", "SELECT 0", "CLIENT NOSUCH", "RESET"][..])
            .prop_map(words);
    let any = Union::new(vec![frame.boxed(), keyed.boxed(), other.boxed()]);
    // Redis sets a key that has expired already and then removes it; here it is not set at all.
    let is_past = |word: &Word| word.eq_ignore_ascii_case(b"EXAT") || word.eq_ignore_ascii_case(b"PXAT");
    let between = Union::new(string_commands()).prop_filter("no times in the past", move |words| {
        !words[0].eq_ignore_ascii_case(b"SET") || !words.iter().any(is_past)
    });
    let queued = vec(Union::new(string_commands()), 0..6);
    let whole =
        (vec(any_key(), 0..3), vec(between, 0..2), queued).prop_map(move |(watched, between, queued)| -> Vec<Words> {
            let watch = |key: &str| vec![b"WATCH".to_vec(), key.into()];
            let mut script: Vec<Words> = watched.into_iter().map(watch).collect();
            script.extend(between);
            script.push(words("MULTI"));
            script.extend(queued);
            script.push(words("EXEC"));
            script
        });
    let piece = prop_oneof![3 => whole, 2 => vec(any, 1..12)];
    vec(piece, 1..6).prop_map(|pieces| pieces.into_iter().flatten().map(Shown).collect())
}

/// Returns a reply without the parts that differ by design: the description of the server, and ids.
fn comparable(command: &[Word], reply: &[u8]) -> Vec<u8> {
    let is_hello = reply.windows(6).any(|window| window == b"server");
    if is_hello || command[0] == b"HELLO" { reply.len().min(1).to_string().into_bytes() } else { reply.to_vec() }
}

/// Random scripts of transactions get the replies of Redis.
#[test]
fn random_transactions_get_the_replies_of_redis() {
    let Some(redis) = Redis::start() else { return };
    let redis = std::cell::RefCell::new(redis);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: cases(1000), failure_persistence: None, ..ProptestConfig::default() });
    let (committed, conflicts) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let result = runner.run(&scripts(), |script| {
        let words = |line: &str| -> Words { line.split(' ').map(|word| word.as_bytes().to_vec()).collect() };
        redis.borrow_mut().answers(&["RESET", "FLUSHALL"].map(words));
        let commands: Vec<Words> = script.into_iter().map(|Shown(words)| words).collect();
        let now =
            std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).expect("it is after 1970");
        let theirs = redis.borrow_mut().answers(&commands);
        let mut bench = Bench::at(UnixMillis(now.as_millis() as u64), Policy::default());
        for (command, theirs) in commands.iter().zip(theirs) {
            let ours = bench.execute(command);
            committed
                .set(committed.get() + usize::from(command[0] == b"EXEC" && ours.starts_with(b"*") && ours.len() > 5));
            conflicts.set(conflicts.get() + usize::from(command[0] == b"EXEC" && ours == b"*-1\r\n"));
            // Here, a change of one of these keys counts as a change of the other.
            let share_slot = commands.iter().flatten().any(|word| word == b"{a}c");
            if command[0] == b"EXEC" && share_slot && matches!(&*ours, b"*-1\r\n" | b"_\r\n") && ours != theirs {
                return Ok(());
            }
            let (ours, theirs) = (comparable(command, &ours), comparable(command, &theirs));
            prop_assert!(
                is_same(command, &ours, &theirs),
                "{:?} in {:?}\n  ours:  {}\n  Redis: {}",
                Shown(command.clone()),
                commands.iter().cloned().map(Shown).collect::<Vec<_>>(),
                ours.escape_ascii(),
                theirs.escape_ascii()
            );
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let counts = (committed.get(), conflicts.get());
    assert!(100 < counts.0 && 20 < counts.1, "transactions that ran, and that did not: {counts:?}");
}

/// EXEC's null is that of the client's version of the protocol.
#[test]
fn nulls_are_those_of_the_version() {
    let mut bench = Bench::new();
    for (version, null) in [(Version::Two, "*-1"), (Version::Three, "_")] {
        bench.client.version = version;
        check_on(&mut bench, &format!("WATCH a -> +OK\nSET a 1 -> +OK\nMULTI -> +OK\nEXEC -> {null}"));
    }
}
