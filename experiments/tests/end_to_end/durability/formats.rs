//! Data directories that the first format's build has written.
//!
//! `format_1/*.packed` are two of them, packed: for each file the length of its name, its name, and its bytes in runs. They were
//! made by the last build of format 1, on one core with segments of 4 MiB; files that a start does not need are left out.

use super::modes::{kill, stop};
use crate::{
    harness::{Server, program},
    wire::Wire,
};
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;

const MEMORY: &[u8] = include_bytes!("format_1/memory.packed");
const DISK: &[u8] = include_bytes!("format_1/disk.packed");

fn take<'a>(packed: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = packed.split_at(length);
    *packed = rest;
    taken
}

fn number(packed: &mut &[u8]) -> usize {
    u32::from_le_bytes(take(packed, 4).try_into().unwrap()) as usize
}

/// Unpacks a directory: literal bytes are marked with 0, a byte that repeats itself with 1, and the end of a file with 2.
fn unpack(mut packed: &[u8], into: &Path) {
    while !packed.is_empty() {
        let length = u16::from_le_bytes(take(&mut packed, 2).try_into().unwrap());
        let name = str::from_utf8(take(&mut packed, length.into())).unwrap();
        let mut bytes = Vec::new();
        loop {
            match take(&mut packed, 1)[0] {
                0 => {
                    let length = number(&mut packed);
                    bytes.extend_from_slice(take(&mut packed, length));
                }
                1 => {
                    let length = number(&mut packed);
                    bytes.resize(bytes.len() + length, take(&mut packed, 1)[0]);
                }
                _ => break,
            }
        }
        let path = into.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Runs a command of `trine` about the directory, which must succeed. Returns what it prints.
fn trine(arguments: &[&str]) -> String {
    let output = Command::new(program("trine")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The keys that the fixture has, with their values; of large ones the length.
fn check_keys(wire: &mut Wire, is_on_disk: bool) {
    for number in (1..=20).filter(|&number| number != 3 && (is_on_disk || number != 8)) {
        let expected = match number {
            4 => "value-4-more".into(),
            7 if !is_on_disk => "changed".into(),
            9 if !is_on_disk => "valZZ-9".into(),
            number => format!("value-{number}"),
        };
        assert_eq!(wire.ask(&format!("GET key:{number}")), expected);
    }
    for (line, reply) in [
        ("GET {t}4", "a"),
        ("GET {t}2", "b"),
        ("GET key:3", "nil"),
        ("GET {t}1", "nil"),
        ("GET past", "nil"),
        ("GET gone-with-flush", "nil"),
        ("PEXPIRETIME until", ":4102444800000"),
        ("STRLEN big:3", ":900000"),
        ("STRLEN big:6", ":900000"),
    ] {
        assert_eq!(wire.ask(line), reply, "{line}");
    }
    let others = if is_on_disk {
        [("STRLEN big:1", ":900000"), ("STRLEN key:21", ":100"), ("STRLEN until", ":100"), ("GET last", "yes")]
    } else {
        [("GET {x}a", "1"), ("GET {x}n", "1"), ("GET after-restart", "yes"), ("GET big:1", "nil")]
    };
    others.into_iter().for_each(|(line, reply)| assert_eq!(wire.ask(line), reply, "{line}"));
}

/// A directory of the first format is read by every tool and continued in the second: all keys are found, by a start and by the one
/// after it, with what was written in between, killed or stopped.
#[test]
fn a_directory_of_the_first_format_is_continued() {
    for (packed, is_on_disk) in [(MEMORY, false), (DISK, true)] {
        let folder: TempDir = tempfile::tempdir().unwrap();
        let dir = folder.path().to_str().unwrap();
        unpack(packed, folder.path());
        let verdict = trine(&["check", dir]);
        assert!(verdict.contains("whole"), "{verdict}");
        let segment = folder.path().join("shard-0/log-0000000000000001");
        let dump = trine(&["dump", segment.to_str().unwrap()]);
        assert!(dump.contains("format 1"), "{dump}");
        let on_disk = if is_on_disk { &["--values", "disk", "--max-memory", "64mb"][..] } else { &[] };
        let settings = [&["--dir", dir, "--name", "one", "--log-segment-bytes", "4MiB"], on_disk].concat();
        for round in 0..4 {
            let server = Server::start(1, &settings);
            let mut wire = server.connect();
            check_keys(&mut wire, is_on_disk);
            for earlier in 0..round {
                assert_eq!(wire.ask(&format!("GET round:{earlier}")), earlier.to_string());
            }
            assert_eq!(wire.ask(&format!("SET round:{round} {round}")), "+OK");
            // A log that goes on in several segments, with a snapshot or with what compaction leaves.
            for _ in 0..6 {
                assert_eq!(wire.ask(&format!("SET filler {}", "f".repeat(900_000))), "+OK");
            }
            if round == 1 {
                assert_eq!(wire.ask("SAVE"), "+OK");
            }
            drop(wire);
            if round % 2 == 0 { kill(server) } else { stop(server) }
        }
        let verdict = trine(&["check", dir]);
        assert!(verdict.contains("whole"), "{verdict}");
    }
}
