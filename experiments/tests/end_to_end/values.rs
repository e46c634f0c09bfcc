//! Values on disk: more of them than memory may hold, in one server after the other.

use crate::{
    harness::{Server, eventually, program},
    wire::{Reply, Wire, encode},
};
use rustix::process::Signal;
use std::{fs, os::unix::fs::FileExt, path::Path, process::Command};

/// Keys of a kilobyte each: five times what may be in memory.
const KEYS: usize = 20_000;
const REQUESTS: usize = 100;

fn key(number: usize) -> Vec<u8> {
    format!("key:{number}").into_bytes()
}

fn value(number: usize, round: usize) -> Vec<u8> {
    format!("{number}/{round} ").into_bytes().into_iter().cycle().take(1000 + number % 50).collect()
}

fn start(folder: &Path, max_memory: &str) -> Server {
    let folder = folder.to_str().expect("a path of letters");
    let place = ["--dir", folder, "--values", "disk", "--log-segment-bytes", "4MiB"];
    Server::start(2, &[&place[..], &["--max-memory", max_memory]].concat())
}

/// Gives every `step`th key the value of a round.
fn write(wire: &mut Wire, step: usize, round: usize) {
    let numbers: Vec<_> = (0..KEYS).step_by(step).collect();
    for part in numbers.chunks(REQUESTS) {
        let mut bytes = Vec::new();
        part.iter().for_each(|&number| encode(&mut bytes, &[b"SET", &key(number), &value(number, round)]));
        wire.send(&bytes);
        part.iter().for_each(|_| assert_eq!(wire.reply().to_string(), "+OK"));
    }
}

/// Reads every key, several at once; `round` says which value each has.
fn read(wire: &mut Wire, round: impl Fn(usize) -> usize) {
    let numbers: Vec<_> = (0..KEYS).collect();
    for part in numbers.chunks(REQUESTS) {
        let mut bytes = Vec::new();
        let (single, together) = part.split_at(REQUESTS / 2);
        single.iter().for_each(|&number| encode(&mut bytes, &[b"GET", &key(number)]));
        let keys: Vec<_> = together.iter().map(|&number| key(number)).collect();
        let words: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain(keys.iter().map(Vec::as_slice)).collect();
        encode(&mut bytes, &words);
        wire.send(&bytes);
        let wanted = |number: &usize| Reply::Bulk(value(*number, round(*number)));
        single.iter().for_each(|number| assert!(wire.reply() == wanted(number), "key {number}"));
        assert!(wire.reply() == Reply::Array(together.iter().map(wanted).collect()), "keys from {}", together[0]);
    }
}

/// A figure of INFO.
fn figure(wire: &mut Wire, name: &str) -> u64 {
    let info = wire.ask("INFO");
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.expect("INFO has it").trim().parse().expect("a number")
}

/// Every value is right, wherever it is: away or in memory, on this core or the other, after a kill, and after its segment
/// was given up. The log stays within a few times what is live in it.
#[test]
fn values_are_found_wherever_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path(), "8MiB");
    let mut wire = server.connect();
    write(&mut wire, 1, 0);
    eventually("values go away", || (KEYS as u64 / 2 < figure(&mut wire, "trine_values_away")).then_some(()));
    read(&mut wire, |_| 0);
    assert!(figure(&mut wire, "used_memory") < 9 << 20);
    for round in 1..6 {
        write(&mut wire, 3, round);
    }
    let round = |number: usize| if number.is_multiple_of(3) { 5 } else { 0 };
    read(&mut wire, round);
    server.process.signal(Signal::KILL);
    server.process.end();
    let server = start(folder.path(), "8MiB");
    let mut wire = server.connect();
    read(&mut wire, round);
    // Most of a segment's values have been written again, and the others are moved.
    eventually("the log is small", || (figure(&mut wire, "aof_current_size") <= 64 << 20).then_some(()));
    read(&mut wire, round);
    for (request, reply) in [
        ("STRLEN key:7", ":1007"),
        ("APPEND key:7 x", ":1008"),
        ("EXPIRE key:10 1000", ":1"),
        ("RENAME key:10 {key:10}b", "+OK"),
        ("SAVE", "+OK"),
        ("DEL key:13", ":1"),
    ] {
        assert_eq!(wire.ask(request), reply, "{request}");
    }
    assert_eq!(wire.request(&[b"GET", b"{key:10}b"]), Reply::Bulk(value(10, 0)));
    assert_eq!(wire.request(&[b"SET", b"key:14", b"new", b"GET"]), Reply::Bulk(value(14, 0)));
    assert_eq!(figure(&mut wire, "trine_value_read_errors"), 0);
}

/// A value that has rotted on disk is an error that names the file, to who asks for it; every other is right.
#[test]
fn a_rotten_value_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), "8MiB");
    let mut wire = server.connect();
    write(&mut wire, 1, 0);
    eventually("values go away", || (KEYS as u64 / 2 < figure(&mut wire, "trine_values_away")).then_some(()));
    let file = folder.path().join("shard-0/log-0000000000000001");
    let bytes = fs::read(&file).unwrap();
    let open = fs::File::options().write(true).open(&file).unwrap();
    for at in (5000..bytes.len()).step_by(64 * 1024) {
        open.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
    }
    let (mut right, mut refused) = (0, 0);
    for number in 0..KEYS {
        match wire.request(&[b"GET", &key(number)]) {
            Reply::Error(text) => {
                assert!(text.contains("the value can't be read") && text.contains("log-0000000000000001"), "{text}");
                refused += 1;
            }
            reply => {
                assert!(reply == Reply::Bulk(value(number, 0)), "key {number}");
                right += 1;
            }
        }
    }
    assert!(0 < refused && refused <= 64 && refused + right == KEYS, "{refused} refused, {right} right");
    assert_eq!(wire.ask("PING"), "+PONG");
}

/// A start reads the hints of segments in place of the segments themselves, and finds every key and value. A hint that has
/// changed is not believed: its segment is read, to the same effect, and `trine check` tells of it. Hints go with their segments.
#[test]
fn a_start_need_not_read_all_values() {
    let folder = tempfile::tempdir().unwrap();
    let shard = folder.path().join("shard-0");
    let numbers = |prefix: &str| -> Vec<String> {
        let entries = fs::read_dir(&shard).unwrap();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.unwrap().file_name().into_string().ok()).collect();
        names.sort();
        names.into_iter().filter_map(|name| Some(name.strip_prefix(prefix)?.to_owned())).collect()
    };
    let mut server = start(folder.path(), "8MiB");
    let mut wire = server.connect();
    write(&mut wire, 1, 0);
    let complete = || {
        // All but the last that was written to, and the one that is ready.
        let (hints, segments) = (numbers("hint-"), numbers("log-"));
        (2 <= hints.len() && segments.len() - 2 <= hints.len()).then_some(hints)
    };
    let hints = eventually("every segment that was left has a hint", complete);
    server.process.signal(Signal::KILL);
    server.process.end();

    let mut server = start(folder.path(), "8MiB");
    let mut wire = server.connect();
    let hinted = |server: &Server| figure(&mut Wire::connect(server.core(0)), "trine_segments_hinted");
    assert_eq!(hinted(&server), hints.len() as u64);
    read(&mut wire, |_| 0);
    assert_eq!(wire.ask("DBSIZE"), format!(":{KEYS}"));
    server.process.signal(Signal::KILL);
    server.process.end();

    let hint = shard.join(format!("hint-{}", hints[0]));
    let mut bytes = fs::read(&hint).unwrap();
    bytes[4096 + 1000] ^= 1;
    fs::write(&hint, &bytes).unwrap();
    let check = Command::new(program("trine")).arg("check").arg(folder.path()).output().unwrap();
    let (said, code) = (String::from_utf8(check.stdout).unwrap(), check.status.code());
    assert!(code == Some(1) && said.contains(hint.to_str().unwrap()), "{code:?}: {said}");
    let server = start(folder.path(), "8MiB");
    let mut wire = server.connect();
    assert_eq!(hinted(&server), hints.len() as u64 - 1);
    read(&mut wire, |_| 0);
    let is_mended = || (fs::read(&hint).is_ok_and(|now| now != bytes)).then_some(());
    eventually("the hint is written again", is_mended);

    for round in 1..6 {
        write(&mut wire, 1, round);
    }
    let all_belong = || numbers("hint-").iter().all(|number| numbers("log-").contains(number)).then_some(());
    eventually("hints go with their segments", || (!numbers("log-").contains(&hints[0])).then_some(()));
    eventually("no hint is left behind", all_belong);
    read(&mut wire, |_| 5);
}

/// Commands that write more than a frame of the log at once, MSET and transactions, fill no memory for good: their values go away
/// like any others, and none is refused.
#[test]
fn values_of_large_commands_go_away() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), "32MiB");
    let mut wire = server.connect();
    let value = vec![b'x'; 100_000];
    for round in 0..60 {
        let keys: Vec<_> = (0..20).map(|number| format!("{{b}}{round}:{number}").into_bytes()).collect();
        let mut bytes = Vec::new();
        if round % 2 == 0 {
            let pairs = keys.iter().flat_map(|key| [&key[..], &value]);
            encode(&mut bytes, &std::iter::once(&b"MSET"[..]).chain(pairs).collect::<Vec<_>>());
            wire.send(&bytes);
            assert_eq!(wire.reply().to_string(), "+OK", "round {round}");
        } else {
            encode(&mut bytes, &[b"MULTI"]);
            keys.iter().for_each(|key| encode(&mut bytes, &[b"SET", key, &value]));
            encode(&mut bytes, &[b"EXEC"]);
            wire.send(&bytes);
            (0..=keys.len()).for_each(|_| drop(wire.reply()));
            assert!(matches!(wire.reply(), Reply::Array(replies) if replies.len() == 20), "round {round}");
        }
    }
    eventually("values go away", || (figure(&mut wire, "used_memory") < 32 << 20).then_some(()));
    for round in 0..60 {
        wire.send(format!("GET {{b}}{round}:7\r\n").as_bytes());
        assert!(wire.reply() == Reply::Bulk(value.clone()), "round {round}");
    }
}

/// A request that needs more values from the disk than a client may be owed is refused before any is read, on any core; a single
/// value is always fetched.
#[test]
fn what_a_request_needs_from_the_disk_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let place = ["--dir", folder.path().to_str().unwrap(), "--values", "disk", "--log-segment-bytes", "4MiB"];
    let server = Server::start(
        2,
        &[&place[..], &["--max-memory", "8MiB", "--output-hard-limit", "1MiB", "--output-soft-limit", "512KiB"]]
            .concat(),
    );
    let mut wire = server.connect();
    let value = vec![b'x'; 100_000];
    let key = |tag: &str, number: usize| format!("{{{tag}}}{number}");
    for number in 0..200 {
        for tag in ["b", "foo"] {
            wire.send(&{
                let mut bytes = Vec::new();
                encode(&mut bytes, &[b"SET", key(tag, number).as_bytes(), &value]);
                bytes
            });
            assert_eq!(wire.reply().to_string(), "+OK");
        }
    }
    let away = |wire: &mut Wire| figure(wire, "trine_values_away");
    eventually("values go away", || (300 < away(&mut wire)).then_some(()));
    let too_much = "ERR the values that it needs from the disk are larger than output-hard-limit together: ask for fewer at a time";
    // One connection on each core.
    for mut wire in [server.connect(), server.connect()] {
        for tag in ["b", "foo"] {
            let fetched = figure(&mut wire, "trine_values_fetched");
            let keys: Vec<_> = (0..30).map(|number| key(tag, number)).collect();
            assert_eq!(wire.ask(&format!("MGET {}", keys.join(" "))), format!("-{too_much}"));
            assert_eq!(wire.ask("MULTI"), "+OK");
            keys.iter().for_each(|key| assert_eq!(wire.ask(&format!("GETRANGE {key} 0 0")), "+QUEUED"));
            let text = too_much.replacen("ERR", "EXECABORT Transaction discarded because of:", 1);
            assert_eq!(wire.ask("EXEC"), format!("-{text}"));
            assert_eq!(figure(&mut wire, "trine_values_fetched"), fetched);
            assert_eq!(wire.ask("MULTI"), "+OK");
            keys.iter().take(5).for_each(|key| assert_eq!(wire.ask(&format!("GETRANGE {key} 0 0")), "+QUEUED"));
            assert_eq!(wire.ask("EXEC"), "[x x x x x]");
        }
    }
}
