//! Resident memory: flat, whatever path requests take.

use crate::{
    harness::{Server, eventually},
    http::Http,
    wire::{Reply, Wire, encode},
};
use std::{
    io::{self, Write as _},
    net::{Shutdown, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

/// Requests of one pipeline.
const PIPELINE: usize = 16;
/// Keys, of 4 kB each: 2 MB of data.
const KEYS: usize = 512;
/// Rounds after which every pool is as full as it gets, and those in which memory must not grow.
const ROUNDS_BEFORE: usize = 150;
const ROUNDS: usize = 350;
/// The growth that allocators and hash tables may cause in [`ROUNDS`]. A buffer that is lost in each round makes three times as
/// much.
const GROWTH_MAX: usize = 12 << 20;

/// Writes or reads the keys of a round in one pipeline.
trait Rounds {
    fn round(&mut self, keys: &[String], value: &[u8]);
}

impl Rounds for Wire {
    fn round(&mut self, keys: &[String], value: &[u8]) {
        let mut bytes = Vec::new();
        keys.iter().for_each(|key| encode(&mut bytes, &[b"SET", key.as_bytes(), value]));
        self.send(&bytes);
        keys.iter().for_each(|key| assert_eq!(self.reply().to_string(), "+OK", "{key}"));
        bytes.clear();
        keys.iter().for_each(|key| encode(&mut bytes, &[b"GET", key.as_bytes()]));
        self.send(&bytes);
        keys.iter().for_each(|key| assert!(self.reply() == Reply::Bulk(value.to_vec()), "{key}"));
    }
}

impl Rounds for Http {
    fn round(&mut self, keys: &[String], _: &[u8]) {
        let bytes: String = keys.iter().map(|key| crate::http::request(&format!("GET /get/{key}"))).collect();
        self.send(bytes);
        keys.iter().for_each(|key| assert_eq!(self.response().status, 200, "{key}"));
    }
}

/// Takes each of the connections through its rounds, and checks that memory does not grow in the later ones.
#[track_caller]
fn check_flat(path: &str, server: &Server, connections: &mut [&mut dyn Rounds], key: impl Fn(usize) -> String) {
    let value = [b'v'; 4000];
    let mut before = 0;
    for round in 0..ROUNDS_BEFORE + ROUNDS {
        if round == ROUNDS_BEFORE {
            before = server.process.resident_bytes();
        }
        let keys: Vec<_> = (0..PIPELINE).map(|number| key((round * PIPELINE + number) % KEYS)).collect();
        connections.iter_mut().for_each(|connection| connection.round(&keys, &value));
    }
    let after = server.process.resident_bytes();
    eprintln!("{path}: {} KiB before, {} KiB after", before >> 10, after >> 10);
    assert!(after < before + GROWTH_MAX, "{path}: {before} bytes before, {after} after");
}

fn spread(number: usize) -> String {
    format!("key:{number}")
}

/// By the gateway, half of all replies come from the other core: in memory of that core's, which goes to the kernel from this one.
#[test]
fn memory_is_flat_by_the_gateway_and_by_a_core() {
    let server = Server::start(2, &[]);
    // The gateway deals connections out: one for each core.
    let (mut one, mut two) = (server.connect(), server.connect());
    check_flat("the gateway", &server, &mut [&mut one, &mut two], spread);
    let (mut one, mut two) = (Http::connect(server.port), Http::connect(server.port));
    check_flat("HTTP", &server, &mut [&mut one, &mut two], spread);
    let mut core = Wire::connect(server.core(0));
    check_flat("a core", &server, &mut [&mut core], |number| format!("{{b}}{number}"));
}

/// Replies that wait for the disk leave in parts, each in a buffer of its own.
#[test]
fn memory_is_flat_where_replies_wait_for_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &[]);
    let (mut one, mut two, mut core) = (server.connect(), server.connect(), Wire::connect(server.core(0)));
    check_flat("held replies by the gateway", &server, &mut [&mut one, &mut two], spread);
    check_flat("held replies by a core", &server, &mut [&mut core], |number| format!("{{b}}{number}"));
}

/// Values come from the disk into buffers of their own, and into memory, and go again.
#[test]
fn memory_is_flat_with_values_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), &["--values", "disk", "--max-memory", "2mb"]);
    let (mut one, mut two) = (server.connect(), server.connect());
    check_flat("values on disk", &server, &mut [&mut one, &mut two], spread);
}

/// Memory stays within `max-memory`, but for the write that crosses it, whatever the sizes of what comes in one pipeline; and gets
/// there in the background when that is lowered.
#[test]
fn max_memory_holds_for_large_values_and_when_it_is_lowered() {
    const MIB: u64 = 1 << 20;
    let server = Server::start(2, &["--max-memory", "16mib", "--eviction", "lfu"]);
    let mut wire = server.connect();
    let fill = |wire: &mut Wire, count: usize, length: usize| {
        let mut bytes = Vec::new();
        let value = vec![b'v'; length];
        (0..count).for_each(|number| encode(&mut bytes, &[b"SET", format!("{length}:{number}").as_bytes(), &value]));
        wire.send(&bytes);
        (0..count).for_each(|_| assert_eq!(wire.reply().to_string(), "+OK"));
    };
    (0..16).for_each(|round| fill(&mut wire, 1000, 1000 + round));
    fill(&mut wire, 40, 2 << 20);
    let used = figure(&mut wire, "used_memory");
    assert!(
        used < 16 * MIB + 2 * (2 * MIB + MIB / 2),
        "{used} bytes, two of two megabytes above the limits of two cores"
    );
    wire.check("CONFIG SET maxmemory 8mb -> +OK");
    eventually("what is above the new limit is evicted", || {
        (figure(&mut wire, "used_memory") <= 8 * MIB).then_some(())
    });
    assert_ne!(wire.ask("DBSIZE"), ":0");
}

/// A figure of INFO.
fn figure(wire: &mut Wire, name: &str) -> u64 {
    let info = wire.ask("INFO memory");
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("INFO has it").trim().parse().expect("a number")
}

fn start(folder: &Path, settings: &[&str]) -> Server {
    let folder = folder.to_str().expect("a path of letters");
    Server::start(2, &[&["--dir", folder, "--log-segment-bytes", "4mb"], settings].concat())
}

/// A client that sends faster than its requests are executed is paused, or closed where it is a stranger: what it has sent does not
/// pile up, whether it reads its replies or not.
#[test]
fn requests_do_not_pile_up_ahead_of_their_replies() {
    const SENT: usize = 24 << 20;
    for (settings, reads) in [
        (["--requirepass", "secret"], true),
        (["--requirepass", "secret"], false),
        (["--output-soft-limit", "4kib"], true),
    ] {
        let server = Server::start(1, &settings);
        let before = server.process.resident_bytes();
        let mut socket = TcpStream::connect(("127.0.0.1", server.core(0))).expect("it listens");
        socket.set_write_timeout(Some(Duration::from_secs(1))).expect("a socket");
        let mut replies = socket.try_clone().expect("a descriptor");
        let reader = thread::spawn(move || reads && io::copy(&mut replies, &mut io::sink()).is_ok());
        let (pings, mut sent, mut most) = (b"PING\r\n".repeat(10_000), 0, 0);
        // One that does not read is not read from either, so that its sends time out; a stranger may have been closed.
        while sent < SENT && socket.write_all(&pings).is_ok() {
            sent += pings.len();
            most = server.process.resident_bytes().max(most);
        }
        most = server.process.resident_bytes().max(most);
        assert!(
            most < before + (10 << 20),
            "{settings:?}, {reads}: {before} bytes before, {most} after {sent} were sent"
        );
        let _ = socket.shutdown(Shutdown::Both);
        reader.join().expect("it ends with the connection");
    }
}
