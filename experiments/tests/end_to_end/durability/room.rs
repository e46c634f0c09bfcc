//! A full disk: requests that a server refuses, those it still takes, and the way it gets room again.

use super::{
    disks::try_serve,
    machine::Mount,
    modes::{kill, stop},
};
use crate::{
    harness::{Server, eventually, program, random},
    http::Http,
    wire::{Reply, Wire},
};
use std::{fs, io::Write as _, process::Command};

/// The size of the disk, of a segment, and of a value.
const DISK_MIB: usize = 64;
const SEGMENT: &str = "4mb";
const VALUE_BYTES: usize = 60_000;

/// Runs a test on a small disk, or says why it is skipped.
fn on_a_small_disk(test: impl Fn(&Mount)) {
    match Mount::tmpfs(DISK_MIB) {
        Ok(mount) => {
            test(&mount);
            mount.unmount();
        }
        Err(reason) => reason.report(),
    }
}

/// Sets a key; returns whether that was taken.
fn set(wire: &mut Wire, key: &str, value: &[u8], more: &[&[u8]]) -> bool {
    let words = [&[b"SET", key.as_bytes(), value], more].concat();
    match wire.request(&words) {
        Reply::Error(text) if text.starts_with("MISCONF") => false,
        reply => {
            assert_eq!(reply.to_string(), "+OK");
            true
        }
    }
}

/// Sets keys of their own until several in a row are refused. Returns how many were taken.
fn fill_up(wire: &mut Wire) -> usize {
    let (mut taken, mut refused) = (0, 0);
    eventually("the disk is full", || {
        let is_taken = set(wire, &format!("fill:{taken}"), &vec![b'f'; VALUE_BYTES], &[]);
        taken += usize::from(is_taken);
        refused = if is_taken { 0 } else { refused + 1 };
        (20 < refused).then_some(())
    });
    taken
}

/// A log that is full of old values of one key makes room by a snapshot of its own, however often it is full.
#[test]
fn one_key_overwritten_never_fills_a_disk() {
    on_a_small_disk(|mount| {
        let directory = mount.join("data");
        let settings = ["--dir", &directory, "--log-segment-bytes", SEGMENT];
        let server = Server::start(1, &settings);
        let mut wire = server.connect();
        for number in 0..3_000 {
            let value = format!("{number}").repeat(VALUE_BYTES / 4);
            eventually("it is taken", || set(&mut wire, "k", value.as_bytes(), &[]).then_some(()));
        }
        kill(server);
        let server = Server::start(1, &settings);
        assert_eq!(server.connect().ask("GETRANGE k 0 3"), "2999");
        stop(server);
    });
}

/// On a disk that is full of what is live, keys can be deleted, on core ports, the gateway and by HTTP; a killed server starts
/// on it; and when the keys have gone there is room again.
#[test]
fn a_full_disk_is_emptied_by_deleting_keys() {
    for values in ["memory", "disk"] {
        on_a_small_disk(|mount| {
            let directory = mount.join("data");
            let settings = ["--dir", &directory, "--log-segment-bytes", SEGMENT, "--values", values];
            let mut server = Server::start(2, &settings);
            let taken = fill_up(&mut server.connect());
            for _ in 0..2 {
                kill(server);
                server = Server::start(2, &settings);
                assert_eq!(server.connect().ask("DBSIZE"), format!(":{taken}"), "{values}");
            }
            let mut wire = server.connect();
            assert_eq!(wire.ask("DEL fill:0"), ":1", "{values}");
            assert_eq!(
                Http::connect(server.port).ask("DELETE /remove?key=fill%3A1").split(' ').next(),
                Some("200"),
                "{values}"
            );
            assert_eq!(wire.ask("DBSIZE"), format!(":{}", taken - 2));
            assert_eq!(wire.ask("FLUSHALL"), "+OK");
            eventually("writes are taken again", || {
                (0..2).all(|core| set(&mut wire, ["foo", "{b}"][core], &vec![b'n'; VALUE_BYTES], &[])).then_some(())
            });
            kill(server);
            let server = Server::start(2, &settings);
            assert_eq!(server.connect().ask("DBSIZE"), ":2", "{values}");
            stop(server);
        });
    }
}

/// With values on disk, a disk that is full of values has room again when their time is over, and a killed server starts.
#[test]
fn values_that_expire_make_room_on_a_full_disk() {
    on_a_small_disk(|mount| {
        let directory = mount.join("data");
        let settings = ["--dir", &directory, "--log-segment-bytes", SEGMENT, "--values", "disk"];
        // One core: of two, the one that can still write would make room for the other.
        let server = Server::start(1, &settings);
        let mut wire = server.connect();
        // So long that the disk is full before; on a slow machine, longer.
        let seconds = ["3", "9", "27"].into_iter().find(|seconds| {
            let more: [&[u8]; 2] = [b"EX", seconds.as_bytes()];
            let (mut taken, mut refused) = (0, 0);
            while refused < 20 && taken < 2_000 {
                let is_taken = set(&mut wire, &format!("k:{taken}"), &vec![b'v'; VALUE_BYTES], &more);
                taken += usize::from(is_taken);
                refused = if is_taken { 0 } else { refused + 1 };
            }
            refused == 20
        });
        assert!(seconds.is_some(), "a disk of {DISK_MIB} MiB took 120 MB of live values");
        eventually("writes are taken again", || set(&mut wire, "foo", &vec![b'n'; VALUE_BYTES], &[]).then_some(()));
        kill(server);
        let server = Server::start(1, &settings);
        eventually("all others have expired", || (server.connect().ask("DBSIZE") == ":1").then_some(()));
        stop(server);
    });
}

/// A start that finds no room for its log makes some: it lets go of a log that a snapshot can stand for.
#[test]
fn a_start_makes_room_for_its_log() {
    on_a_small_disk(|mount| {
        let (directory, ballast) = (mount.join("data"), mount.join("ballast"));
        let settings = ["--dir", &directory, "--log-segment-bytes", SEGMENT, "--cores", "1"];
        let server = Server::start(1, &settings[..4]);
        let mut wire = server.connect();
        // Four segments of old values.
        for number in 0..250 {
            assert!(set(&mut wire, "k", format!("{number}").repeat(VALUE_BYTES / 3).as_bytes(), &[]));
        }
        kill(server);
        let shard = mount.path().join("data/shard-0");
        for entry in fs::read_dir(shard).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("spare-") {
                fs::remove_file(path).unwrap();
            }
        }
        let free = rustix::fs::statvfs(mount.path()).unwrap();
        fs::write(&ballast, vec![b'b'; (free.f_bavail * free.f_frsize) as usize - (1 << 20)]).unwrap();
        // What was made ready and not used would do, too: written to by a server that is killed at once.
        let mut server = Server::start(1, &settings[..4]);
        for number in 250..260 {
            let mut wire = server.connect();
            eventually("a write is taken", || set(&mut wire, "k", format!("{number}").as_bytes(), &[]).then_some(()));
            kill(server);
            server = Server::start(1, &settings[..4]);
            assert_eq!(server.connect().ask("GET k"), number.to_string());
        }
        stop(server);
        // Where there is nothing to give up it says so.
        fs::remove_dir_all(&directory).unwrap();
        let free = rustix::fs::statvfs(mount.path()).unwrap();
        fs::write(mount.join("more"), vec![b'b'; (free.f_bavail * free.f_frsize) as usize - (1 << 20)]).unwrap();
        let (mut process, _) = try_serve(&settings);
        assert!(!process.end().success());
        eventually("it says why", || process.said().contains("the disk is full: make room").then_some(()));
    });
}

/// A write that is larger than what the disk has left is refused before it is applied, by every door; nobody waits for it.
#[test]
fn a_write_that_does_not_fit_is_refused() {
    on_a_small_disk(|mount| {
        let directory = mount.join("data");
        let settings = ["--dir", &directory, "--log-segment-bytes", SEGMENT, "--snapshot-log-bytes", "0"];
        let server = Server::start(2, &settings);
        eventually("its segments are ready", || (3 * 2 <= files(mount)).then_some(()));
        let free = rustix::fs::statvfs(mount.path()).unwrap();
        let ballast = (free.f_bavail * free.f_frsize) as usize - (10 << 20);
        fs::write(mount.join("ballast"), vec![b'b'; ballast]).unwrap();
        let large = vec![b'x'; 30 << 20];
        let refused = |reply: Reply| assert!(reply.to_string().starts_with("-MISCONF the disk has no room"), "{reply}");
        // Keys of the first core and of the second.
        for key in ["{b}", "foo"] {
            let owner = (0..2).map(|core| server.core(core)).find(|&port| {
                let reply = Wire::connect(port).ask(&format!("GET {key}"));
                assert!(reply == "nil" || reply.starts_with("-MOVED"), "{reply}");
                reply == "nil"
            });
            for port in [server.port, owner.expect("a core has it")] {
                refused(Wire::connect(port).request(&[b"SET", key.as_bytes(), &large]));
            }
            let reply = Http::connect(server.port).set(key.trim_matches(['{', '}']), &"x".repeat(30 << 20));
            assert!(reply.starts_with("503 {\"error\":\"MISCONF the disk has no room"), "{}", &reply[..80]);
        }
        refused(server.connect().request(&[b"MSET", b"{b}", b"1", b"{b}c", &large]));
        server.connect().check("DBSIZE -> :0\nEXISTS foo -> :0\nSET foo small -> +OK\nSET {b} small -> +OK");
        assert!(set(&mut server.connect(), "foo", &large[..1 << 20], &[]), "what fits is taken");
        server.connect().check("STRLEN foo -> :1048576\nREADY -> +OK");
        fs::remove_file(mount.join("ballast")).unwrap();
        eventually("it is taken when there is room", || {
            set(&mut server.connect(), "foo", &large[..20 << 20], &[]).then_some(())
        });
        stop(server);
    });
}

/// The segments of a directory, spare ones among them.
fn files(mount: &Mount) -> usize {
    let shards = fs::read_dir(mount.path().join("data")).unwrap().map(|entry| entry.unwrap().path());
    let names = shards.filter(|path| path.is_dir()).flat_map(|shard| fs::read_dir(shard).unwrap());
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| (name.starts_with("log-") || name.starts_with("spare-")) && !name.ends_with(".tmp")).count()
}

/// On a full disk deletions that come one by one are all answered, to the last block of the reserve and beyond, and what was
/// acknowledged is there after a stop in good order.
#[test]
fn a_full_disk_answers_one_deletion_after_the_other() {
    on_a_small_disk(|mount| {
        let directory = mount.join("data");
        // No snapshot makes room.
        let settings = ["--dir", &directory, "--log-segment-bytes", SEGMENT, "--snapshot-log-bytes", "0"];
        let server = Server::start(1, &settings);
        let mut wire = server.connect();
        let small = |number: usize| format!("small:{number}");
        for number in 0..1_500 {
            assert!(set(&mut wire, &small(number), b"v", &[]));
        }
        let taken = fill_up(&mut wire) + 1_500;
        let deleted = (0..1_500).take_while(|&number| wire.ask(&format!("DEL {}", small(number))) == ":1").count();
        assert!(900 < deleted && deleted < 1_500, "the reserve takes a block for each: {deleted}");
        assert!(wire.ask(&format!("DEL {}", small(deleted))).starts_with("-MISCONF"));
        stop(server);
        let check = Command::new(program("trine")).args(["check", &directory]).output().expect("it can be run");
        let text = String::from_utf8_lossy(&check.stdout);
        assert!(text.contains(&format!(" {} keys", taken - deleted)), "{text}");
    });
}

/// Values on disk are given up once their keys are deleted, even if not a block is free on the disk.
#[test]
fn a_disk_without_a_free_block_is_emptied() {
    on_a_small_disk(|mount| {
        let (directory, ballast) = (mount.join("data"), mount.join("ballast"));
        let settings = ["--dir", &directory, "--log-segment-bytes", SEGMENT, "--values", "disk"];
        let server = Server::start(1, &settings);
        let mut wire = server.connect();
        let taken = fill_up(&mut wire);
        let mut file = fs::File::create(&ballast).expect("a file");
        for length in [1 << 20, 4096] {
            while file.write_all(&vec![b'b'; length]).is_ok() {}
        }
        for number in 0..taken {
            let delete = format!("DEL fill:{number}");
            eventually("it is deleted", || (wire.ask(&delete) == ":1").then_some(()));
        }
        eventually("writes are taken again", || set(&mut wire, "k", &vec![b'n'; VALUE_BYTES], &[]).then_some(()));
        stop(server);
    });
}

/// Takes the last block of a disk.
fn fill_to_the_last_block(mount: &Mount) {
    let mut file = fs::File::create(mount.join("ballast")).expect("a file");
    for length in [1 << 20, 4096] {
        while file.write_all(&vec![b'b'; length]).is_ok() {}
    }
}

/// A disk stays full to its last block: however often a server is killed there, the next one starts, has every key that was
/// not deleted, and takes deletions; and when all keys have gone it takes writes.
#[test]
fn a_server_starts_again_and_again_on_a_disk_that_stays_full() {
    let seed = random().u64(..);
    for values in ["memory", "disk"] {
        on_a_small_disk(|mount| {
            let directory = mount.join("data");
            let settings = ["--dir", &directory, "--log-segment-bytes", SEGMENT, "--values", values];
            let mut server = Server::start(1, &settings);
            let taken = fill_up(&mut server.connect());
            fill_to_the_last_block(mount);
            let (mut keys, mut random) = ((0..taken).collect::<Vec<_>>(), fastrand::Rng::with_seed(seed));
            for life in 0..12 {
                kill(server);
                server = Server::start(1, &settings);
                let mut wire = server.connect();
                assert_eq!(wire.ask("DBSIZE"), format!(":{}", keys.len()), "{values}, life {life}");
                for _ in 0..random.usize(0..4) {
                    let key = keys.swap_remove(random.usize(..keys.len()));
                    assert_eq!(wire.ask(&format!("DEL fill:{key}")), ":1", "{values}, life {life}");
                }
                let key = keys[random.usize(..keys.len())];
                assert_eq!(wire.ask(&format!("STRLEN fill:{key}")), format!(":{VALUE_BYTES}"), "{values}, life {life}");
                assert_eq!(wire.ask(&format!("GETRANGE fill:{key} 0 2")), "fff", "{values}, life {life}");
            }
            let mut wire = server.connect();
            assert_eq!(wire.ask("FLUSHALL"), "+OK", "{values}");
            eventually("writes are taken again", || set(&mut wire, "k", &vec![b'n'; VALUE_BYTES], &[]).then_some(()));
            kill(server);
            let server = Server::start(1, &settings);
            assert_eq!(server.connect().ask("DBSIZE"), ":1", "{values}");
            stop(server);
        });
    }
}

/// On a disk that is full to its last block no deletion is refused, whichever segments are given up and moved meanwhile.
#[test]
fn no_deletion_is_refused_while_segments_are_given_up() {
    let seed = random().u64(..);
    for values in ["disk", "memory"] {
        on_a_small_disk(|mount| {
            let directory = mount.join("data");
            let settings = ["--dir", &directory, "--log-segment-bytes", SEGMENT, "--values", values];
            let server = Server::start(1, &settings);
            let mut wire = server.connect();
            let taken = fill_up(&mut wire);
            fill_to_the_last_block(mount);
            let mut keys: Vec<_> = (0..taken).collect();
            fastrand::Rng::with_seed(seed).shuffle(&mut keys);
            for (deleted, key) in keys.iter().enumerate() {
                assert_eq!(wire.ask(&format!("DEL fill:{key}")), ":1", "{values}, {deleted} of {taken} were deleted");
            }
            eventually("writes are taken again", || set(&mut wire, "k", &vec![b'n'; VALUE_BYTES], &[]).then_some(()));
            stop(server);
        });
    }
}
