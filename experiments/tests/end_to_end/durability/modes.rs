//! The promise of each durability, and the reports about snapshots.

use super::ledger::{Door, HABITS, Habits, Ledger};
use crate::{
    harness::{Server, eventually, random},
    http::Http,
    wire::{Reply, Wire, encode},
};
use rustix::process::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// The writes that `interval` may lose: those of this time.
const INTERVAL_LOSES: Duration = Duration::from_secs(2);

/// A data directory, and how to start servers on it.
pub struct Home {
    folder: TempDir,
    settings: Vec<String>,
}

impl Home {
    pub fn new(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_str().unwrap().to_owned();
        let given = settings.iter().map(ToString::to_string);
        Self { folder, settings: ["--dir".into(), dir].into_iter().chain(given).collect() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a server of two cores on it.
    pub fn start(&self) -> Server {
        Server::start(2, &self.settings())
    }

    pub fn settings(&self) -> Vec<&str> {
        self.settings.iter().map(String::as_str).collect()
    }

    /// The files of all shards whose names begin so.
    pub fn files(&self, prefix: &str) -> Vec<PathBuf> {
        let shards = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        let files = shards.flat_map(|shard| fs::read_dir(shard).unwrap().map(|entry| entry.unwrap().path()));
        let is_wanted = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(prefix) && !name.ends_with(".tmp")
        };
        let mut files: Vec<_> = files.filter(is_wanted).collect();
        files.sort_unstable();
        files
    }
}

/// Ends a server at once, as a crash does.
pub fn kill(mut server: Server) {
    server.process.signal(Signal::KILL);
    server.process.end();
}

/// Ends a server as an operator does.
#[track_caller]
pub fn stop(mut server: Server) {
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.end().code(), Some(0), "{}", server.process.said());
}

/// A field of `INFO`.
pub fn info(wire: &mut Wire, field: &str) -> Option<String> {
    let text = wire.ask("INFO everything");
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.map(|value| value.trim().to_owned())
}

/// With `interval`, a server that is told to stop loses nothing, and one that is killed no more than two seconds.
#[test]
fn interval_loses_two_seconds_at_most() {
    let home = Home::new(&["--durability", "interval"]);
    let server = home.start();
    let (mut wire, began, mut told) = (server.connect(), Instant::now(), Vec::new());
    let value = [b'v'; 500];
    while began.elapsed() < 2 * INTERVAL_LOSES {
        let number = told.len().to_string();
        assert_eq!(wire.request(&[b"SET", number.as_bytes(), &value]).to_string(), "+OK");
        told.push(Instant::now());
    }
    let killed = Instant::now();
    kill(server);
    let server = home.start();
    let mut wire = server.connect();
    let mut is_there = |number: usize| wire.ask(&format!("EXISTS {number}")) == ":1";
    let old = told.iter().take_while(|&&at| at + INTERVAL_LOSES < killed).count();
    assert!(100 < old, "{old} writes");
    let lost = (0..old).find(|&number| !is_there(number));
    assert_eq!(lost, None, "of {old} that were old enough");
    let count = wire.ask("DBSIZE");
    assert_eq!(wire.ask("SET last word"), "+OK");
    stop(server);
    let server = home.start();
    let mut wire = server.connect();
    assert_eq!(wire.ask("GET last"), "word");
    let count: usize = count[1..].parse().unwrap();
    assert_eq!(wire.ask("DBSIZE"), format!(":{}", count + 1));
}

/// With `none`, a server comes back with the last snapshot that was asked for; changes since are gone. What an earlier server
/// wrote to its log counts until a snapshot is newer.
#[test]
fn none_comes_back_with_the_last_snapshot() {
    let home = Home::new(&[]);
    let server = home.start();
    server.connect().check("MSET foo logged {b} logged -> +OK\nSET removed logged -> +OK");
    kill(server);
    let without_log = [&home.settings()[..], &["--durability", "none"]].concat();
    let server = Server::start(2, &without_log);
    server.connect().check(
        "MGET foo {b} removed -> [logged logged logged]
         MSET foo saved {b} saved -> +OK
         DEL removed -> :1
         SAVE -> +OK
         MSET foo later {b} later -> +OK",
    );
    kill(server);
    let server = Server::start(2, &without_log);
    server.connect().check("MGET foo {b} removed -> [saved saved nil]\nSET foo again -> +OK\nSAVE -> +OK");
    stop(server);
    let server = home.start();
    server.connect().check("MGET foo {b} removed -> [again saved nil]\nSET {b} always -> +OK");
    kill(server);
    home.start().connect().check("MGET foo {b} removed -> [again always nil]");
}

/// Without a directory a restart forgets everything, and the line that says that the server is ready says that too.
#[test]
fn without_a_directory_everything_is_forgotten() {
    let server = Server::start(2, &[]);
    let ready = eventually("the line is there", || {
        server.process.said().lines().find(|line| line.contains("ready")).map(ToOwned::to_owned)
    });
    assert!(ready.contains("a restart forgets everything"), "{ready}");
    for command in ["SAVE", "BGSAVE"] {
        let answer = server.connect().ask(command);
        assert!(answer.starts_with("-ERR there is no data directory"), "{answer}");
    }
}

/// A server that is told to stop under load ends with status 0, has everything that it acknowledged, and its log ends with a
/// seal: whatever is wrong with it later is no write that was cut off.
#[test]
fn a_server_that_is_told_to_stop_seals_its_log() {
    let home = Home::new(&["--log-segment-bytes", "4mb", "--snapshot-log-bytes", "8mb"]);
    let (mut random, mut ledgers) = (random(), Vec::new());
    // Nobody is in the middle of sending megabytes when the connection ends: the kernel may tell such a client a minute later.
    let habits = Habits { large_in: 0, ..HABITS };
    for _life in 0..5 {
        let mut server = home.start();
        for (name, door) in [("a", Door::Gateway), ("b", Door::Core(0)), ("c", Door::Core(1))] {
            if ledgers.len() < 3 {
                ledgers.push(Ledger::new(name, 40, door, &server, habits.clone(), random.u64(..)));
            }
        }
        ledgers.iter_mut().for_each(|ledger| ledger.check(&server));
        let life = Duration::from_millis(random.u64(100..500));
        thread::scope(|scope| {
            for ledger in &mut ledgers {
                let port = ledger.door.port(&server);
                scope.spawn(move || drop(ledger.write(port, &AtomicBool::new(false))));
            }
            thread::sleep(life);
            server.process.signal(Signal::TERM);
        });
        assert_eq!(server.process.end().code(), Some(0), "{}", server.process.said());
        for shard in ["shard-0", "shard-1"] {
            // On a busy machine a life may be over before the shard was written to.
            assert_ne!(last_frame(&home.path().join(shard)), Some(Frame::Records), "{shard}");
        }
    }
    let server = home.start();
    ledgers.iter_mut().for_each(|ledger| ledger.check(&server));
    assert!(!server.process.said().contains("was cut"), "{}", server.process.said());
}

/// So does a log that ends just where its segment has no room for another frame.
#[test]
fn a_log_that_fills_its_segment_is_sealed() {
    const BLOCK: usize = 4096;
    let home = Home::new(&["--log-segment-bytes", "4mb"]);
    let mut server = Server::start(1, &home.settings());
    let mut wire = server.connect();
    // With the file's first block they would fill its 1024: a frame's header takes 48 bytes, a record of this key 10.
    for blocks in [256, 256, 256, 255] {
        let value = vec![b'v'; blocks * BLOCK - 58];
        assert_eq!(wire.request(&[b"SET", b"k", &value]), Reply::Simple("OK".into()));
    }
    drop(wire);
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.end().code(), Some(0), "{}", server.process.said());
    assert_eq!(last_frame(&home.path().join("shard-0")), Some(Frame::Seal));
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Frame {
    Records,
    Seal,
}

/// Returns the last frame of a shard's log; `None` where there is none.
fn last_frame(shard: &Path) -> Option<Frame> {
    const BLOCK: usize = 4096;
    let mut segments: Vec<_> = fs::read_dir(shard).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("log-"));
    segments.sort_unstable();
    let mut last = None;
    for segment in segments {
        let bytes = fs::read(segment).unwrap();
        let mut at = BLOCK;
        // A frame begins with a magic number and names this use of the file, as the file's header does.
        while let Some(frame) = bytes.get(at..at + BLOCK)
            && frame.starts_with(b"TRNF")
            && frame[8..16] == bytes[24..32]
        {
            last = Some(if frame[6] == 2 { Frame::Seal } else { Frame::Records });
            let length = u32::from_le_bytes(frame[32..36].try_into().unwrap()) as usize;
            at += (48 + length).next_multiple_of(BLOCK);
        }
    }
    last
}

/// Fills a server with so many values of a kilobyte.
fn fill(server: &Server, count: usize) {
    let mut wire = server.connect();
    let value = [b'v'; 1000];
    for first in (0..count).step_by(500) {
        let mut bytes = Vec::new();
        (first..first + 500).for_each(|number| encode(&mut bytes, &[b"SET", number.to_string().as_bytes(), &value]));
        wire.send(&bytes);
        (0..500).for_each(|_| assert_eq!(wire.reply(), Reply::Simple("OK".into())));
    }
}

/// One core has nothing to read and the other a lot: no port says that it is ready before both are, nor does the line on
/// standard error; and then nobody is told to wait any more.
#[test]
fn a_server_is_ready_when_all_of_its_cores_are() {
    const COUNT: u32 = 100_000;
    let home = Home::new(&["--durability", "interval"]);
    let server = home.start();
    let mut wire = server.connect();
    for first in (0..COUNT).step_by(1000) {
        let mut bytes = Vec::new();
        (first..first + 1000).for_each(|n| encode(&mut bytes, &[b"SET", format!("{{b}}{n}").as_bytes(), b"value"]));
        wire.send(&bytes);
        (0..1000).for_each(|_| assert_eq!(wire.reply(), Reply::Simple("OK".into())));
    }
    stop(server);
    let get = |server: &Server| server.connect().ask("GET {b}1");
    for fast in [Some(1), None] {
        let server = Server::launch(2, &home.settings());
        if let Some(core) = fast {
            let mut wire = eventually("it accepts", || Wire::try_connect(server.core(core)).ok());
            eventually("its core is ready", || (wire.ask("PING") == "+PONG").then_some(()));
        } else {
            eventually("it says so", || server.process.said().contains("trine: ready on 127.0.0.1:").then_some(()));
        }
        assert_eq!(get(&server), "value");
        let said = eventually("the line", || {
            server.process.said().lines().find(|line| line.contains("ready")).map(ToOwned::to_owned)
        });
        assert!(said.contains("2 cores (ports ") && said.contains(") on CPUs "), "{said}");
        stop(server);
    }
}

/// Clients that come while a server reads its files are told to wait, as by Redis; INFO shows the progress; then it serves.
#[test]
fn clients_that_come_early_are_told_to_wait() {
    const COUNT: usize = 100_000;
    let home = Home::new(&["--durability", "interval"]);
    let server = home.start();
    fill(&server, COUNT);
    stop(server);
    // On a busy machine a start may be over before everything was asked: then there is another.
    let mut seen = [false; 4];
    eventually("all that is told early is seen", || {
        let server = Server::launch(2, &home.settings());
        let mut wire = eventually("it accepts", || Wire::try_connect(server.port).ok());
        let mut http = Http::connect(server.port);
        let mut before = 0.0;
        eventually("it has read its files", || {
            let loading = info(&mut wire, "loading")?;
            if let Some(percentage) = info(&mut wire, "loading_loaded_perc") {
                let percentage: f64 = percentage.parse().unwrap();
                assert!(before <= percentage && percentage <= 100.0, "{before} {percentage}");
                before = percentage;
                seen[0] |= 1.0 < percentage && percentage < 100.0;
            }
            let early = [(wire.ask("PING"), "-LOADING Redis is loading"), (wire.ask("READY"), "-LOADING ")];
            let http = (http.ask("GET /ready"), "503 {\"error\":\"LOADING ");
            for (seen, (answer, early)) in seen[1..].iter_mut().zip(early.into_iter().chain([http])) {
                let is_ready = ["+PONG", "+OK", r#"200 {"status":"ready"}"#].contains(&answer.as_str());
                assert!(is_ready || answer.starts_with(early), "{answer}");
                *seen |= !is_ready;
            }
            (loading == "0").then_some(())
        });
        assert_eq!([wire.ask("READY"), http.ask("GET /ready")], ["+OK", r#"200 {"status":"ready"}"#]);
        assert_eq!(wire.ask("DBSIZE"), format!(":{COUNT}"));
        stop(server);
        eprintln!("a percentage between, PING, READY and /ready: {seen:?}");
        seen.iter().all(|&seen| seen).then_some(())
    });
}

/// `SAVE` answers when the snapshot is there, `BGSAVE` at once, and what is said of snapshots is true of all cores.
#[test]
fn snapshots_are_told_of_truthfully() {
    let home = Home::new(&["--durability", "none"]);
    let server = home.start();
    let mut wire = server.connect();
    assert_eq!(info(&mut wire, "aof_enabled").unwrap(), "0");
    assert_eq!(wire.ask("MSET foo 1 {b} 2"), "+OK");
    assert_eq!((wire.ask("SAVE"), home.files("snapshot-").len()), ("+OK".into(), 2));
    let saved_at: u64 = wire.ask("LASTSAVE")[1..].parse().unwrap();
    fill(&server, 50_000);
    assert_eq!(wire.ask("BGSAVE"), "+Background saving started");
    // No other is begun meanwhile, which the answers of a core that has finished before the other do not hide.
    let mut refusals = 0;
    eventually("the snapshot is there", || {
        let is_running = info(&mut wire, "rdb_bgsave_in_progress").unwrap() == "1";
        if is_running && wire.ask("SAVE") == "-ERR Background save already in progress" {
            refusals += 1;
        }
        (!is_running).then_some(())
    });
    assert!(0 < refusals, "it was over before it was looked at");
    assert_eq!(info(&mut wire, "rdb_last_bgsave_status").unwrap(), "ok");
    assert!(saved_at <= wire.ask("LASTSAVE")[1..].parse().unwrap());
    // A later BGSAVE after SCHEDULE is begun when the one at hand is over.
    assert_eq!(wire.ask("BGSAVE"), "+Background saving started");
    assert_eq!(wire.ask("SET foo scheduled"), "+OK");
    assert_eq!(wire.ask("SET {b} scheduled"), "+OK");
    let answer = wire.ask("BGSAVE SCHEDULE");
    assert!(answer.starts_with("+Background saving"), "{answer}");
    assert!(wire.ask("BGSAVE now").starts_with("-ERR syntax"), "other words are none");
    eventually("all is saved", || (info(&mut wire, "rdb_bgsave_in_progress").unwrap() == "0").then_some(()));
    kill(server);
    home.start().connect().check("MGET foo {b} -> [scheduled scheduled]\nDBSIZE -> :50002");
}

/// Fifty snapshots leave nothing behind: no memory, no descriptor, no file.
#[test]
fn fifty_snapshots_leave_nothing_behind() {
    let home = Home::new(&["--log-segment-bytes", "4mb"]);
    let server = home.start();
    fill(&server, 10_000);
    let mut wire = server.connect();
    let measure = || (server.process.resident_bytes(), server.process.descriptors(), home.files("").len());
    let mut before = None;
    for round in 0..60 {
        assert_eq!(wire.ask(&format!("SET foo {round}")), "+OK");
        assert_eq!(wire.ask("SAVE"), "+OK");
        if round == 9 {
            before = Some(measure());
        }
    }
    let before = before.expect("a look after ten");
    // The reply comes before the last of the old files are closed and removed.
    eventually("what fifty snapshots took is given back", || {
        let after = measure();
        eprintln!("{before:?} -> {after:?} (bytes, descriptors, files)");
        (after.0 < before.0 + (4 << 20) && after.1 <= before.1 + 1 && after.2 <= before.2 + 2).then_some(())
    });
}

/// The effect of every command that writes is there after a crash, expiry times included.
#[test]
fn every_command_that_writes_is_logged() {
    let home = Home::new(&["--log-segment-bytes", "4mb", "--snapshot-log-bytes", "8mb"]);
    let (mut random, mut keys) = (random(), 0);
    for _life in 0..8 {
        let server = home.start();
        let mut wire = server.connect();
        for _ in 0..1500 {
            let line = any_command(&mut random);
            let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
            let reply = wire.request(&words);
            assert!(!reply.to_string().starts_with("-ERR unknown"), "{line}: {reply}");
        }
        if random.bool() {
            assert_eq!(wire.ask("SAVE"), "+OK");
        }
        let before = content(&mut wire);
        kill(server);
        let server = home.start();
        let after = content(&mut server.connect());
        assert_eq!(before, after);
        keys += before.len();
        kill(server);
    }
    assert!(100 < keys, "{keys}");
}

/// A command that writes, on one of a few keys.
fn any_command(random: &mut fastrand::Rng) -> String {
    let key = |random: &mut fastrand::Rng| format!("k{}", random.u8(..60));
    let (one, two, number) = (key(random), key(random), random.u16(..));
    // Far away, so that nothing expires while it is looked at.
    let at = 4_000_000_000_u64 + u64::from(number);
    let commands = [
        format!("SET {one} {number}"),
        format!("SET {one} v{number} EX {at}"),
        format!("SET {one} {number} KEEPTTL"),
        format!("SET {one} {number} NX GET"),
        format!("SET {one} {number} XX PXAT {at}000"),
        format!("SETEX {one} {at} {number}"),
        format!("PSETEX {one} {at} {number}"),
        format!("SETNX {one} {number}"),
        format!("GETSET {one} {number}"),
        format!("GETDEL {one}"),
        format!("GETEX {one} PERSIST"),
        format!("GETEX {one} EXAT {at}"),
        format!("APPEND {one} {number}"),
        format!("SETRANGE {one} {} {number}", number % 100),
        format!("INCR {one}"),
        format!("DECRBY {one} {number}"),
        format!("INCRBYFLOAT {one} {number}.25"),
        format!("MSET {one} {number} {two} {number}"),
        format!("MSETNX {{t}}{one} {number} {{t}}{two} {number}"),
        format!("DEL {one} {two}"),
        format!("UNLINK {one}"),
        format!("EXPIREAT {one} {at}"),
        format!("PEXPIREAT {one} {at}123"),
        format!("EXPIRE {one} -1"),
        format!("PERSIST {one}"),
        format!("RENAME {{t}}{one} {{t}}{two}"),
        format!("RENAMENX {{t}}{one} {{t}}{two}"),
        format!("COPY {{t}}{one} {{t}}{two} REPLACE"),
    ];
    if random.u16(..2000) == 0 {
        return ["FLUSHALL", "FLUSHDB ASYNC"][usize::from(number % 2)].into();
    }
    commands[random.usize(..commands.len())].clone()
}

/// All keys with their values and when they expire.
fn content(wire: &mut Wire) -> Vec<String> {
    let Reply::Array(mut keys) = wire.request(&[b"KEYS", b"*"]) else { panic!("an array") };
    keys.sort_unstable_by_key(ToString::to_string);
    keys.iter()
        .map(|key| {
            format!("{key} = {} until {}", wire.ask(&format!("GET {key}")), wire.ask(&format!("PEXPIRETIME {key}")))
        })
        .collect()
}
