//! Tests of every row of the command table, with keys whose values are on disk.

use super::{Bench, encode_request};
use crate::{
    commands::{Command, Flags, Keys, Outcome, Route, Table, needed_keys, record_bytes_max},
    resp::{Decoder, Limits, Request},
    shard::Execution,
    store::{Key, Policy, UnixMillis},
    wal::{Found, Log, Lsn, Placed},
};

const KEYS: [&str; 2] = ["{k}1", "{k}2"];
const LIMITS: Limits = Limits { arguments_max: 99, argument_bytes_max: 1 << 20, is_authenticated: true };

/// Requests that need other values than the simplest request of their command.
const OTHERS: [&str; 12] = [
    "SET {k}1 1 GET",
    "SET {k}1 1 XX GET",
    "SET {k}1 1 IFEQ 12345",
    "SET {k}1 1 EX 10 KEEPTTL",
    "SET {k}1 1 KEEPTTL",
    "SET {k}1 1 NX",
    "GETEX {k}1 EX 10",
    "DELIFEQ {k}1 12345",
    "COPY {k}1 {k}2 REPLACE",
    "LCS {k}1 {k}2 IDX",
    "SETRANGE {k}1 90000 x",
    "MEMORY USAGE {k}1 SAMPLES 0",
];

/// Returns the simplest request that a row accepts: its keys, and `1` for every other argument.
fn plainest(row: &Command) -> String {
    let length = usize::from(row.arity.unsigned_abs());
    let mut words: Vec<_> = row.name.split('|').map(str::to_owned).collect();
    words.resize(length, "1".into());
    row.keys.indices(length).zip(KEYS).for_each(|(index, key)| words[index] = key.into());
    words.join(" ")
}

/// Creates a bench whose keys have this value, on disk or in memory.
fn bench(value: &str, is_on_disk: bool) -> Bench {
    // A server with values on disk has this policy.
    let policy = Policy { counts_uses: true, ..Policy::default() };
    let mut bench = Bench::at(UnixMillis(1_000_000_000_000), policy);
    let (store, now) = (&mut bench.shard.store, bench.now.unix_millis());
    if is_on_disk {
        store.keep_values_on_disk();
    }
    for (key, offset) in KEYS.iter().map(|key| key.as_bytes()).zip([4096, 100_000]) {
        let (length, checksum) = (value.len(), crc32c::crc32c(value.as_bytes()));
        match is_on_disk {
            true => {
                let placed = Placed { key, length, offset, checksum, expires_at: None, value: None, is_again: false };
                store.apply_in_place(Found::Placed(placed, 1), now);
            }
            false => store.put(Key::of(key), value.as_bytes(), None, now),
        }
    }
    store.end_loading();
    store.log = Some(Box::new(Log::new(Lsn(0), is_on_disk)));
    bench
}

/// Executes a line after reading the values that it needs from disk: `value` for each key.
fn execute(bench: &mut Bench, line: &str, value: &str) -> String {
    let (mut bytes, mut decoder, mut output) = (Vec::new(), Decoder::default(), Vec::new());
    let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
    encode_request(&mut bytes, words.into_iter());
    decoder.decode(&bytes, &LIMITS).expect("a request");
    let request = decoder.request(&bytes);
    let Bench { shard, client, now } = bench;
    let resolved = shard.resolve(request);
    for cold in shard.cold_values(request, &resolved, client, *now).expect("they are few") {
        assert!(shard.store.recall(&cold, value.as_bytes(), now.unix_millis()), "{line}: it is away");
    }
    let (before, bound) = (shard.store.log.as_ref().map_or(Lsn(0), |log| log.end()), bound(bench, request));
    let Bench { shard, client, now } = bench;
    let execution = shard.execute_resolved(request, resolved, client, *now, &mut output);
    assert_eq!(execution, Execution::Done(Outcome::Done), "{line}");
    let written = shard.store.log.as_ref().map_or(0, |log| log.end().0) - before.0;
    assert!(written <= bound, "{line}: {written} bytes of records, and no more than {bound} were expected");
    String::from_utf8_lossy(&output).into_owned()
}

/// Returns the most bytes of records that a request was admitted with.
fn bound(bench: &Bench, request: Request<'_>) -> u64 {
    let Ok(found) = Table::default().find_for(request) else { return 0 };
    let value_len = |key: &[u8]| bench.shard.store.value_len(Key::of(key));
    record_bytes_max(found.command, request, 512 << 20, value_len)
}

/// A command has the same reply, and leaves the same keys, whether their values are in memory or on disk; and it writes
/// no more records than it was admitted with. Every row is tested: one that lacks a flag cannot end the server.
#[test]
fn every_command_can_be_asked_for_keys_whose_values_are_on_disk() {
    let long = "x".repeat(5000);
    let table = Table::default();
    let rows = table.rows().iter().filter(|row| row.keys != Keys::NONE);
    let lines: Vec<_> = rows.map(|row| plainest(row)).chain(OTHERS.map(str::to_owned)).collect();
    assert!(50 <= lines.len(), "{lines:?}");
    for value in ["12345", &long] {
        for line in &lines {
            let [mut in_memory, mut on_disk] = [false, true].map(|is_on_disk| bench(value, is_on_disk));
            let replies = [&mut in_memory, &mut on_disk].map(|bench| execute(bench, line, value));
            // An entry whose value is on disk takes less.
            if !line.to_ascii_lowercase().starts_with("memory") {
                assert_eq!(replies[0], replies[1], "{line}");
            }
            for key in KEYS {
                let left = [&mut in_memory, &mut on_disk].map(|bench| execute(bench, &format!("GET {key}"), value));
                assert_eq!(left[0], left[1], "{key} after {line}");
            }
        }
    }
}

/// The values of a command's keys are read from disk, unless its row says that it does not need them.
#[test]
fn a_command_has_its_values_unless_it_says_otherwise() {
    let row = |flags| Command::new("new", 2, flags, Keys::ONE, Route::Keys, |call| call.fail("ERR"));
    let needs = |flags: Flags| {
        let mut decoder = Decoder::default();
        decoder.decode(b"NEW key\n", &LIMITS).expect("a request");
        needed_keys(&row(flags), decoder.request(b"NEW key\n")).collect::<Vec<_>>()
    };
    assert_eq!((needs(Flags::READONLY), needs(Flags::READONLY.and(Flags::NO_VALUES))), (vec![1], vec![]));
}
