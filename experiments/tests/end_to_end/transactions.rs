//! Transactions on every kind of port, by the wire and by a stock client, and what is left of them after a kill.

use crate::{
    harness::{Cluster, Server, eventually, random},
    wire::{Reply, Wire, encode},
};
use redis::Client;
use rustix::process::Signal;
use std::{io, thread};

/// Keys of slots that the first and the second of two cores own.
const FIRST: &str = "{b}";
const SECOND: &str = "{foo}";

/// The gateway executes a transaction on the core that has its keys, whichever has the connection, and keeps the replies in order.
#[test]
fn a_gateway_executes_transactions_of_one_core() {
    let server = Server::start(2, &[]);
    // One connection on each core.
    for mut wire in [server.connect(), server.connect()] {
        for key in [FIRST, SECOND] {
            wire.check(&format!(
                "MULTI -> +OK
                 PING -> +QUEUED
                 SET {key} 1 -> +QUEUED
                 INCR {key} -> +QUEUED
                 APPEND {key} x -> +QUEUED
                 INCR {key} -> +QUEUED
                 MGET {key} {key}none -> +QUEUED
                 EXEC -> [+PONG +OK :2 :2 -ERR value is not an integer or out of range [2x nil]]
                 GET {key} -> 2x
                 DEL {key} -> :1
                 MULTI -> +OK
                 ECHO hi -> +QUEUED
                 EXEC -> [hi]"
            ));
        }
    }
    let mut wire = server.connect();
    wire.check(
        "MULTI -> +OK
         SET {b} 1 -> +QUEUED
         SET foo 1 -> -CROSSSLOT the keys of a transaction must be on one core of this server: give them one hash tag, such as {user7}, or start the server with --cores 1
         EXEC -> -EXECABORT Transaction discarded because of previous errors.
         EXISTS {b} foo -> :0
         MULTI -> +OK
         MSET {b} 1 foo 1 -> -CROSSSLOT the keys of a transaction must be on one core of this server: give them one hash tag, such as {user7}, or start the server with --cores 1
         EXEC -> -EXECABORT Transaction discarded because of previous errors.
         MULTI -> +OK
         FLUSHALL -> -ERR FLUSHALL asks several cores of this server and can't be part of a transaction
         DISCARD -> +OK
         MULTI -> +OK
         CLIENT ID -> -ERR CLIENT ID is about the connection and can't be part of a transaction that another core may execute: send it before MULTI
         EXEC -> -EXECABORT Transaction discarded because of previous errors.",
    );
}

/// WATCH sees changes of keys on any core, also where the client sends all at once and waits for no reply.
#[test]
fn watched_keys_may_be_on_another_core() {
    let server = Server::start(2, &[]);
    let mut other = server.connect();
    for mut wire in [server.connect(), server.connect()] {
        for key in [FIRST, SECOND] {
            wire.check(&format!("WATCH {key} -> +OK"));
            assert_eq!(other.ask(&format!("SET {key} 1")), "+OK");
            wire.check(&format!(
                "MULTI -> +OK
                 SET {key} 2 -> +QUEUED
                 EXEC -> nil
                 GET {key} -> 1
                 WATCH {key} -> +OK
                 GET {key} -> 1
                 MULTI -> +OK
                 SET {key} 2 -> +QUEUED
                 EXEC -> [+OK]
                 WATCH {key} -> +OK
                 SET {key} 3 -> +OK
                 UNWATCH -> +OK
                 MULTI -> +OK
                 GET {key} -> +QUEUED
                 EXEC -> [3]
                 CLIENT REPLY ON -> +OK"
            ));
            let mut pipeline = Vec::new();
            for line in
                ["WATCH K", "SET K 4", "MULTI", "SET K 5", "EXEC", "WATCH K", "MULTI", "SET K 6", "EXEC", "GET K"]
            {
                let line = line.replace('K', key);
                encode(&mut pipeline, &line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
            }
            wire.send(&pipeline);
            let replies: Vec<_> = (0..10).map(|_| wire.reply().to_string()).collect();
            let expected = ["+OK", "+OK", "+OK", "+QUEUED", "nil", "+OK", "+OK", "+QUEUED", "[+OK]", "6"];
            assert_eq!(replies, expected, "{key}");
        }
    }
}

/// On a core's port and on a gateway of a cluster, a transaction has one slot.
#[test]
fn a_transaction_in_a_cluster_has_one_slot() {
    let cluster = Cluster::start(2, 2, &[]);
    let crossslot = "-CROSSSLOT Keys in request don't hash to the same slot";
    let aborted = "-EXECABORT Transaction discarded because of previous errors.";
    let ports = cluster.core_ports();
    // {b} is slot 3300, {c} is 7365, foo is 12182.
    let (second, third) = (ports[1], ports[2]);
    for port in [cluster.gateway(0), ports[0]] {
        let of_second_core = match port == ports[0] {
            true => format!("-MOVED 7365 127.0.0.1:{second}"),
            false => crossslot.to_owned(),
        };
        let mut wire = Wire::connect(port);
        wire.check(&format!(
            "WATCH {{b}}1 -> +OK
             MULTI -> +OK
             SET {{b}}1 1 -> +QUEUED
             MGET {{b}}1 {{b}}2 -> +QUEUED
             EXEC -> [+OK [1 nil]]
             MULTI -> +OK
             DEL {{b}}1 {{b}}2 -> +QUEUED
             GET foo -> -MOVED 12182 127.0.0.1:{third}
             EXEC -> {aborted}
             MULTI -> +OK
             DEL {{b}}1 {{c}}2 -> {crossslot}
             EXEC -> {aborted}
             MULTI -> +OK
             DEL {{b}}1 -> +QUEUED
             SET {{c}}1 1 -> {of_second_core}
             EXEC -> {aborted}
             WATCH {{b}}1 -> +OK
             WATCH {{c}}1 -> {of_second_core}
             MULTI -> +OK
             DEL {{b}}1 -> +QUEUED
             EXEC -> [:1]"
        ));
    }
    // All of a transaction's keys may be on the other core.
    Wire::connect(cluster.gateway(0)).check(
        "WATCH {c} -> +OK
         MULTI -> +OK
         SET {c} 1 -> +QUEUED
         EXEC -> [+OK]",
    );
}

/// The `redis` crate's transactions: a pipeline in MULTI and EXEC, and its loop of WATCH, in both versions of the protocol.
#[test]
fn a_stock_client_runs_transactions() {
    let server = Server::start(2, &[]);
    for protocol in ["resp2", "resp3"] {
        let client = Client::open(format!("redis://127.0.0.1:{}/?protocol={protocol}", server.port)).unwrap();
        let counter = format!("{protocol}:counter");
        let (first, second) = (format!("{{{counter}}}1"), format!("{{{counter}}}2"));
        let mut redis = client.get_connection().unwrap();
        let (left, right): (i64, String) = redis::pipe()
            .atomic()
            .set(&first, 7)
            .ignore()
            .incr(&first, 1)
            .set(&second, "x")
            .ignore()
            .get(&second)
            .query(&mut redis)
            .unwrap();
        assert_eq!((left, &*right), (8, "x"));
        // Ten clients count to a hundred with a GET and a SET.
        let counters: Vec<_> = (0..10)
            .map(|_| {
                let (client, counter) = (client.clone(), counter.clone());
                thread::spawn(move || {
                    let mut redis = client.get_connection().unwrap();
                    for _ in 0..10 {
                        let (_,): (i64,) = redis::transaction(&mut redis, &[&counter], |redis, pipe| {
                            let count: Option<i64> = redis::cmd("GET").arg(&counter).query(redis)?;
                            pipe.set(&counter, count.unwrap_or(0) + 1).ignore().strlen(&counter).query(redis)
                        })
                        .unwrap();
                    }
                })
            })
            .collect();
        counters.into_iter().for_each(|counter| counter.join().unwrap());
        let count: i64 = redis::cmd("GET").arg(&counter).query(&mut redis).unwrap();
        assert_eq!(count, 100);
    }
}

/// A transaction is there as a whole or not at all, whenever the server is killed; with `always`, each is that was acknowledged.
#[test]
fn a_kill_leaves_whole_transactions() {
    for durability in ["always", "interval"] {
        let folder = tempfile::tempdir().unwrap();
        let settings = ["--dir", folder.path().to_str().unwrap(), "--durability", durability];
        let mut server = Server::start(2, &settings);
        let port = server.port;
        let mut random = random();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                // Some of the values are longer than a frame of the log.
                let long = random.usize(1..200_000);
                thread::spawn(move || {
                    let mut wire = Wire::connect(port);
                    let mut acknowledged = 0;
                    // Until the server is gone.
                    while let Ok(reply) = transaction(&mut wire, writer, acknowledged + 1, long) {
                        assert_eq!(reply.to_string(), "[+OK +OK +OK :1 +OK]");
                        acknowledged += 1;
                    }
                    acknowledged
                })
            })
            .collect();
        let mut wire = server.connect();
        eventually("some are written", || {
            let counts = (0..4).map(|writer| wire.ask(&format!("GET {{w{writer}}}a")).parse().unwrap_or(0));
            (50 < counts.min().unwrap()).then_some(())
        });
        server.process.signal(Signal::KILL);
        server.process.end();
        let counts: Vec<i64> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        let server = Server::start(2, &settings);
        let mut wire = server.connect();
        for (writer, acknowledged) in counts.into_iter().enumerate() {
            let [a, b, c, gone] = ["a", "b", "c", "gone"].map(|name| {
                match wire.request(&[b"GETRANGE", format!("{{w{writer}}}{name}").as_bytes(), b"0", b"20"]) {
                    Reply::Bulk(text) => String::from_utf8(text).unwrap().trim_end_matches('.').to_owned(),
                    other => panic!("{other}"),
                }
            });
            assert!(a == b && b == c && gone.is_empty(), "writer {writer}: {a}, {b}, {c}, {gone}");
            let found: i64 = a.parse().unwrap_or(0);
            assert!(found <= acknowledged + 1, "{found} of {acknowledged}");
            assert!(durability == "interval" || acknowledged <= found, "{found} of {acknowledged} acknowledged");
        }
    }
}

/// Gives several keys of a writer this number, sets one and deletes it.
fn transaction(wire: &mut Wire, writer: usize, number: i64, long: usize) -> io::Result<Reply> {
    let key = |name: &str| format!("{{w{writer}}}{name}").into_bytes();
    let short = number.to_string().into_bytes();
    let mut padded = short.clone();
    padded.resize(21 + if number % 16 == 0 { 8 * long } else { 0 }, b'.');
    let mut bytes = Vec::new();
    encode(&mut bytes, &[b"MULTI"]);
    encode(&mut bytes, &[b"SET", &key("a"), &short]);
    encode(&mut bytes, &[b"SET", &key("gone"), b"1"]);
    encode(&mut bytes, &[b"SET", &key("b"), &padded]);
    encode(&mut bytes, &[b"DEL", &key("gone")]);
    encode(&mut bytes, &[b"SET", &key("c"), &short]);
    encode(&mut bytes, &[b"EXEC"]);
    wire.try_send(&bytes)?;
    (0..6).try_for_each(|_| wire.try_reply().map(drop))?;
    wire.try_reply()
}

/// All values of a transaction are fetched before any of it runs, on this core or on another.
#[test]
fn a_transaction_on_values_on_disk_runs_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        "--dir",
        folder.path().to_str().unwrap(),
        "--values",
        "disk",
        "--max-memory",
        "8MiB",
        "--durability",
        "always",
    ];
    let server = Server::start(2, &settings);
    let mut wire = server.connect();
    let value = |number: usize, key: usize| format!("{number}-{key}-{}", "v".repeat(1000));
    for number in 0..4000 {
        for key in 0..4 {
            let mut bytes = Vec::new();
            encode(&mut bytes, &[b"SET", format!("{{{number}}}{key}").as_bytes(), value(number, key).as_bytes()]);
            wire.send(&bytes);
        }
        (0..4).for_each(|_| assert_eq!(wire.reply().to_string(), "+OK"));
    }
    let away = |wire: &mut Wire| {
        let info = wire.ask("INFO");
        let line = info.lines().find_map(|line| line.strip_prefix("trine_values_away:"));
        line.expect("INFO has it").trim().parse::<u64>().expect("a number")
    };
    eventually("values go away", || (8000 < away(&mut wire)).then_some(()));
    for number in (0..4000).step_by(7) {
        wire.check(&format!(
            "MULTI -> +OK
             GET {{{number}}}0 -> +QUEUED
             APPEND {{{number}}}1 x -> +QUEUED
             RENAME {{{number}}}1 {{{number}}}5 -> +QUEUED
             GET {{{number}}}5 -> +QUEUED
             MGET {{{number}}}2 {{{number}}}3 -> +QUEUED
             EXEC -> [{} :{} +OK {}x [{} {}]]",
            value(number, 0),
            value(number, 1).len() + 1,
            value(number, 1),
            value(number, 2),
            value(number, 3),
        ));
    }
}
