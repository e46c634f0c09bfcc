//! The gateway of a server that stands alone: several cores that look like one Redis.

use crate::{
    harness::{Server, eventually, random},
    wire::{Reply, Wire, encode},
};
use std::{
    collections::HashMap,
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

/// Requests that touch keys of all cores are spread over them, and their replies are one.
#[test]
fn requests_for_keys_of_all_cores_have_one_reply() {
    let server = Server::start(3, &[]);
    let mut wire = server.connect();
    wire.check(
        "MSET a 1 b 2 c 3 d 4 e 5 f 6 -> +OK
         MGET f e missing d c b a a -> [6 5 nil 4 3 2 1 1]
         EXISTS a b c d e f missing a -> :7
         TOUCH a b c missing -> :3
         DEL a c missing -> :2
         UNLINK b -> :1
         MGET a b c d e f -> [nil nil nil 4 5 6]
         MSET a 1 b -> -ERR wrong number of arguments for 'mset' command
         MGET -> -ERR wrong number of arguments for 'mget' command
         RENAME d {d}2 -> +OK
         FLUSHALL -> +OK
         EXISTS a b c d e f {d}2 -> :0",
    );
}

/// Commands about all keys see those of all cores.
#[test]
fn commands_about_the_whole_server_ask_every_core() {
    let server = Server::start(3, &[]);
    let mut wire = server.connect();
    let mut keys: Vec<_> = (0..500).map(|number| format!("key:{number}")).collect();
    for key in &keys {
        assert_eq!(wire.ask(&format!("SET {key} value EX 1000")), "+OK");
    }
    keys.sort();
    assert_eq!(wire.ask("DBSIZE"), ":500");
    let Reply::Array(found) = wire.request(&[b"KEYS", b"key:*"]) else { panic!("an array") };
    let mut found: Vec<_> = found.iter().map(ToString::to_string).collect();
    found.sort();
    assert_eq!(found, keys);
    assert_eq!(scan(&mut wire), keys);
    assert!(keys.contains(&wire.ask("RANDOMKEY")));
    let info = wire.ask("INFO");
    assert!(info.contains("db0:keys=500,expires=500"), "{info}");
    assert!(info.contains("cluster_enabled:0"), "{info}");
    let _others: Vec<_> = (0..5).map(|_| server.connect()).map(|mut other| (other.ask("PING"), other)).collect();
    let clients = wire.ask("CLIENT LIST");
    assert_eq!(clients.lines().filter(|line| line.starts_with("id=")).count(), 6, "{clients}");
    for core in 0..3 {
        let own = Wire::connect(server.core(core)).ask("DBSIZE");
        let own: usize = own.trim_start_matches(':').parse().unwrap();
        assert!((100..250).contains(&own), "core {core} has its share: {own}");
    }
    assert_eq!(wire.ask("FLUSHALL"), "+OK");
    assert_eq!(wire.ask("DBSIZE"), ":0");
}

/// All keys that a scan finds, sorted.
fn scan(wire: &mut Wire) -> Vec<String> {
    let (mut cursor, mut found) = (b"0".to_vec(), Vec::new());
    loop {
        let Reply::Array(reply) = wire.request(&[b"SCAN", &cursor, b"COUNT", b"17"]) else { panic!("an array") };
        let [Reply::Bulk(next), Reply::Array(keys)] = &reply[..] else { panic!("a cursor and keys: {reply:?}") };
        found.extend(keys.iter().map(ToString::to_string));
        cursor.clone_from(next);
        if cursor == b"0" {
            found.sort();
            found.dedup();
            return found;
        }
    }
}

/// A request of a random mix, and the reply that a single Redis would give.
fn random_request(random: &mut fastrand::Rng, model: &mut HashMap<String, String>) -> (Vec<String>, String) {
    let key = |random: &mut fastrand::Rng| format!("k{}", random.u32(..50));
    let shown = |value: Option<&String>| value.cloned().unwrap_or_else(|| "nil".into());
    let name = key(random);
    match random.u32(..8) {
        0..2 => {
            let value = format!("v{}", random.u32(..));
            model.insert(name.clone(), value.clone());
            (vec!["SET".into(), name, value], "+OK".into())
        }
        2..4 => (vec!["GET".into(), name.clone()], shown(model.get(&name))),
        4 => {
            let names: Vec<_> = (0..random.usize(1..6)).map(|_| key(random)).collect();
            let values: Vec<_> = names.iter().map(|name| shown(model.get(name))).collect();
            ([vec!["MGET".into()], names].concat(), format!("[{}]", values.join(" ")))
        }
        5 => {
            let mut words = vec!["MSET".to_owned()];
            for _ in 0..random.usize(1..4) {
                let (name, value) = (key(random), format!("m{}", random.u32(..)));
                model.insert(name.clone(), value.clone());
                words.extend([name, value]);
            }
            (words, "+OK".into())
        }
        6 => (vec!["DEL".into(), name.clone()], format!(":{}", usize::from(model.remove(&name).is_some()))),
        _ => {
            let text = format!("e{}", random.u32(..));
            (vec!["ECHO".into(), text.clone()], text)
        }
    }
}

/// However requests for several cores are mixed in a pipeline, and however the network cuts it, each gets its own reply,
/// in the order of the requests, and sees what those before it did.
#[test]
fn pipelined_requests_for_several_cores_come_back_in_order() {
    let server = Server::start(3, &[]);
    let mut random = random();
    let mut wire = server.connect();
    let mut model = HashMap::new();
    for _ in 0..5 {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..4000 {
            let (words, reply) = random_request(&mut random, &mut model);
            encode(&mut bytes, &words.iter().map(String::as_bytes).collect::<Vec<_>>());
            expected.push((words, reply));
        }
        let mut socket = wire.socket().try_clone().unwrap();
        let mut cuts = random.fork();
        let sender = thread::spawn(move || {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(cuts.usize(1..=rest.len().min(20_000)));
                socket.write_all(piece).unwrap();
                rest = behind;
            }
        });
        for (words, reply) in expected {
            assert_eq!(wire.reply().to_string(), reply, "{}", words.join(" "));
        }
        sender.join().unwrap();
    }
}

/// A pipeline whose replies are larger than what a client may be owed is answered to its end.
#[test]
fn a_pipeline_of_large_replies_is_answered_to_its_end() {
    let server = Server::start(2, &[]);
    let value = vec![b'x'; 100_000];
    for port in [server.port, server.core(0)] {
        let mut wire = Wire::connect(port);
        assert_eq!(wire.request(&[b"SET", b"{b}", &value]).to_string(), "+OK"); // on core 0
        let mut bytes = Vec::new();
        (0..200).for_each(|_| encode(&mut bytes, &[b"GET", b"{b}"]));
        wire.send(&bytes);
        wire.finish();
        for number in 0..200 {
            assert!(wire.reply() == Reply::Bulk(value.clone()), "reply {number}");
        }
        assert!(wire.is_closed());
    }
}

/// One slow core keeps waiting who asks it, and nobody else; order stays.
#[test]
fn a_slow_core_delays_its_own_requests_only() {
    let server = Server::start(2, &["--debug-commands"]);
    let stall = Duration::from_millis(1500);
    assert_eq!(server.connect().ask("MSET {b} slow foo fast"), "+OK"); // core 0 and core 1
    // A client on core 1, which stays awake.
    let mut fast = Wire::connect(server.core(1));
    assert_eq!(fast.ask("GET foo"), "fast");
    let mut sleeper = Wire::connect(server.core(0));
    // Several on the gateway: they are on both cores.
    let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("GET foo"), "fast");
    }
    let began = Instant::now();
    sleeper.send(format!("DEBUG SLEEP {}\r\n", stall.as_secs_f64()).as_bytes());
    let mut bytes = Vec::new();
    (0..1000).for_each(|_| {
        encode(&mut bytes, &[b"GET", b"{b}"]);
        encode(&mut bytes, &[b"GET", b"foo"]);
    });
    for client in &mut clients {
        client.send(&bytes);
    }
    let mut answered = 0;
    while began.elapsed() < stall / 2 {
        assert_eq!(fast.ask("GET foo"), "fast");
        answered += 1;
    }
    assert!(100 < answered, "core 1 answers while core 0 sleeps: {answered} replies");
    for client in &mut clients {
        for _ in 0..1000 {
            assert_eq!((client.reply().to_string(), client.reply().to_string()), ("slow".into(), "fast".into()));
        }
    }
    assert!(stall <= began.elapsed(), "core 0 did sleep");
    assert_eq!(sleeper.reply().to_string(), "+OK");
}

/// Requests to a slow core do not pile up in memory: a connection has a limited number of requests under way, and is then not
/// read from.
#[test]
fn requests_for_a_slow_core_do_not_pile_up() {
    let server = Server::start(2, &["--debug-commands"]);
    let value = vec![b'v'; 1000];
    let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
    let mut bytes = Vec::new();
    (0..2000).for_each(|_| encode(&mut bytes, &[b"SET", b"{b}", &value]));
    let mut sleeper = Wire::connect(server.core(0));
    let before = server.process.resident_bytes();
    sleeper.send(b"DEBUG SLEEP 2\r\n");
    let senders: Vec<_> = clients
        .iter()
        .map(|client| {
            let (mut socket, bytes) = (client.socket().try_clone().unwrap(), bytes.clone());
            // 80 MB from each, were they taken.
            thread::spawn(move || (0..40).for_each(|_| socket.write_all(&bytes).unwrap()))
        })
        .collect();
    let readers: Vec<_> = clients
        .drain(..)
        .map(|mut client| {
            thread::spawn(move || (0..80_000).for_each(|_| assert_eq!(client.reply().to_string(), "+OK")))
        })
        .collect();
    let mut most = 0;
    eventually("all is answered", || {
        most = most.max(server.process.resident_bytes());
        readers.iter().all(thread::JoinHandle::is_finished).then_some(())
    });
    senders.into_iter().chain(readers).for_each(|thread| thread.join().unwrap());
    assert!(most < before + (64 << 20), "{before} bytes before, {most} at most");
}

/// Replies that are ready, and wait behind one of a slow core, do not pile up either.
#[test]
fn replies_behind_one_of_a_slow_core_do_not_pile_up() {
    let server = Server::start(2, &["--debug-commands"]);
    let value = vec![b'v'; 10_000];
    let mut clients: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.request(&[b"MSET", b"{b}", b"slow", b"foo", &value]).to_string(), "+OK");
    }
    let mut sleeper = Wire::connect(server.core(0));
    let before = server.process.resident_bytes();
    sleeper.send(b"DEBUG SLEEP 2\r\n");
    let mut bytes = Vec::new();
    encode(&mut bytes, &[b"GET", b"{b}"]);
    (0..30_000).for_each(|_| encode(&mut bytes, &[b"GET", b"foo"])); // 300 MB
    let readers = clients.into_iter().map(|mut client| {
        let (mut socket, bytes) = (client.socket().try_clone().unwrap(), bytes.clone());
        thread::spawn(move || socket.write_all(&bytes).unwrap());
        let value = value.clone();
        thread::spawn(move || {
            assert_eq!(client.reply().to_string(), "slow");
            (0..30_000).for_each(|number| assert!(client.reply() == Reply::Bulk(value.clone()), "reply {number}"));
        })
    });
    let readers: Vec<_> = readers.collect();
    let mut most = 0;
    eventually("all is answered", || {
        most = most.max(server.process.resident_bytes());
        readers.iter().all(thread::JoinHandle::is_finished).then_some(())
    });
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert!(most < before + (128 << 20), "{before} bytes before, {most} at most");
}

/// Requests for all cores that this core can answer alone are answered at once; what is pipelined behind them is not
/// forgotten.
#[test]
fn spread_requests_that_end_here_are_all_answered() {
    let server = Server::start(2, &[]);
    // One connection for each core, at least.
    for _ in 0..4 {
        let mut client = server.connect();
        client.send(&b"SCAN 0\r\n".repeat(3000));
        for number in 0..3000 {
            assert!(matches!(client.reply(), Reply::Array(_)), "reply {number}");
        }
    }
}

/// A client that kills itself gets the answer, and nothing that it sent behind that is executed, whichever form it chose.
#[test]
fn nothing_runs_behind_a_clients_kill_of_itself() {
    let server = Server::start(2, &[]);
    let mut other = server.connect();
    let filters =
        ["ID {id} SKIPME no", "{address}", "ADDR {address} SKIPME no", "LADDR {local} ADDR {address} SKIPME no"];
    for filter in filters.into_iter().chain(["USER default ID {id} SKIPME no", "TYPE normal ID {id} SKIPME no"]) {
        let mut wire = server.connect();
        let id = wire.ask("CLIENT ID").trim_start_matches(':').to_owned();
        let address = wire.socket().local_addr().unwrap().to_string();
        let local = wire.socket().peer_addr().unwrap().to_string();
        let filter = filter.replace("{id}", &id).replace("{address}", &address).replace("{local}", &local);
        // Some keys of each core.
        let sets: String = (0..20).map(|key| format!("SET key{key} v\r\n")).collect();
        wire.send(format!("CLIENT KILL {filter}\r\n{sets}").as_bytes());
        let reply = wire.reply().to_string();
        assert!(reply == ":1" || reply == "+OK", "{filter}: {reply}");
        assert!(wire.is_closed(), "{filter}");
        assert_eq!(other.ask("DBSIZE"), ":0", "{filter}");
    }
}

/// A client that asks for large values of another core and reads none costs a bounded amount, in any order of requests.
#[test]
fn large_values_of_another_core_are_not_fetched_ahead_of_who_reads_them() {
    let server = Server::start(2, &[]);
    let mut witness = server.connect();
    let value = vec![b'v'; 1_000_000];
    for name in [&b"foo"[..], b"{b}"] {
        assert_eq!(witness.request(&[b"SET", name, &value]).to_string(), "+OK");
    }
    let before = server.process.resident_bytes();
    let _idle: Vec<_> = (0..4)
        .map(|_| {
            let mut client = server.connect();
            client.send(&b"GET foo\r\nGET {b}\r\n".repeat(600));
            assert!(client.reply() == Reply::Bulk(value.clone()));
            client
        })
        .collect();
    assert_eq!(witness.ask("PING"), "+PONG");
    let after = server.process.resident_bytes();
    assert!(after < before + (512 << 20), "{before} bytes before, {after} after 2.4 GB were asked for");
}
