//! Files are damaged, and the loss is accepted, once.

use super::modes::stop;
use crate::{
    harness::{Server, eventually, program},
    wire::{Wire, encode},
};
use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

const BLOCK: u64 = 4096;
const KEYS: usize = 1_000;
/// So that there are some four segments of them.
const VALUE_BYTES: usize = 16_000;
const TOP: &str = "ffffffffffffffff";

type Damage = fn(&[PathBuf]);

/// Kinds of damage to the files of a shard, each with the files it applies to: those whose names begin so, in order.
const DAMAGES: &[(&str, &str, Damage)] = &[
    ("the first block of the oldest segment is zeros", "log-", |logs| zero(&logs[0], 0, BLOCK)),
    ("the first block of a segment is zeros", "log-", |logs| zero(&logs[1], 0, BLOCK)),
    ("the first block of the last segment with records is zeros", "log-", |logs| zero(&logs[logs.len() - 2], 0, BLOCK)),
    ("the first block of the segment that was made ready is zeros", "log-", |logs| {
        zero(logs.last().unwrap(), 0, BLOCK)
    }),
    ("the first blocks of all segments are zeros", "log-", |logs| logs.iter().for_each(|log| zero(log, 0, BLOCK))),
    ("the first frame of a segment is zeros", "log-", |logs| zero(&logs[1], BLOCK, BLOCK)),
    ("a frame in a segment's middle has changed", "log-", |logs| zero(&logs[1], 300 * BLOCK, 1)),
    ("a frame of the last segment has changed", "log-", |logs| zero(&logs[logs.len() - 2], BLOCK + 60, 1)),
    ("a segment is missing", "log-", |logs| fs::remove_file(&logs[1]).unwrap()),
    ("a segment was cut short", "log-", |logs| resize(&logs[1], 3 * BLOCK)),
    ("the last segment was cut short, in a block", "log-", |logs| resize(&logs[logs.len() - 2], 500_001)),
    ("a segment is empty", "log-", |logs| resize(&logs[1], 0)),
    ("a segment is longer than it was", "log-", |logs| resize(&logs[1], (4 << 20) + 5_000)),
    ("a file has the name of a segment at the end of all numbers", "log-", |logs| {
        fs::write(logs[0].with_file_name(format!("log-{TOP}")), fs::read(&logs[0]).unwrap()).unwrap();
    }),
    ("a file has the name of a snapshot at the end of all numbers", "log-", |logs| {
        fs::write(logs[0].with_file_name(format!("snapshot-{TOP}")), "none").unwrap();
    }),
    ("the first block of the snapshot is zeros", "snapshot-", |files| zero(&files[0], 0, BLOCK)),
    ("a frame of the snapshot has changed", "snapshot-", |files| zero(&files[0], BLOCK + 48, 1)),
    ("the snapshot was cut short", "snapshot-", |files| resize(&files[0], 2 * BLOCK)),
    ("the snapshot is longer than it was", "snapshot-", |files| {
        File::options().append(true).open(&files[0]).unwrap().write_all(b"more").unwrap();
    }),
    ("the snapshot is missing", "snapshot-", |files| fs::remove_file(&files[0]).unwrap()),
    ("a hint has changed", "hint-", |hints| zero(&hints[0], BLOCK + 60, 1)),
    ("a hint is longer than it was", "hint-", |hints| {
        resize(&hints[0], fs::metadata(&hints[0]).unwrap().len() + BLOCK)
    }),
];

fn zero(path: &Path, offset: u64, length: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0; length as usize], offset).unwrap();
}

fn resize(path: &Path, bytes: u64) {
    File::options().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

/// The first blocks of a file; `None` where there is none.
fn beginning(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(4 * BLOCK).read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

fn start(folder: &Path, values: &str, more: &[&str]) -> Server {
    let settings = ["--dir", folder.to_str().unwrap(), "--values", values, "--log-segment-bytes", "4mb"];
    Server::start(1, &[&settings[..], &["--max-memory", if values == "disk" { "4mb" } else { "1gb" }], more].concat())
}

/// The files of the shard whose names begin so, in order.
fn files(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder.join("shard-0")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    files.retain(|path| name(path).starts_with(prefix) && !name(path).ends_with(".tmp"));
    files.sort_unstable();
    files
}

fn write(wire: &mut Wire, keys: std::ops::Range<usize>) {
    let mut bytes = Vec::new();
    for key in keys.clone() {
        let value = format!("{key} ").into_bytes().into_iter().cycle().take(VALUE_BYTES).collect::<Vec<_>>();
        encode(&mut bytes, &[b"SET", key.to_string().as_bytes(), &value]);
    }
    wire.send(&bytes);
    keys.for_each(|_| assert_eq!(wire.reply().to_string(), "+OK"));
}

/// Reads all keys and returns the beginning of each value.
fn read(server: &Server) -> Vec<String> {
    let mut wire = server.connect();
    let mut bytes = Vec::new();
    encode(&mut bytes, &[b"DBSIZE"]);
    (0..=KEYS).for_each(|key| encode(&mut bytes, &[b"GETRANGE", key.to_string().as_bytes(), b"0", b"20"]));
    wire.send(&bytes);
    (0..KEYS + 2).map(|_| wire.reply().to_string()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to.join("shard-0")).unwrap();
    for name in ["trine.toml", "lock"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    for file in files(from, "") {
        fs::copy(&file, to.join("shard-0").join(file.file_name().unwrap())).unwrap();
    }
}

/// A directory with a snapshot or with hints, four segments with records, and a segment that was made ready.
fn make(folder: &Path, values: &str) {
    let server = start(folder, values, &[]);
    let mut wire = server.connect();
    write(&mut wire, 0..300);
    assert_eq!(wire.ask("SAVE"), "+OK");
    write(&mut wire, 300..KEYS);
    assert_eq!(wire.ask("DEL 7 500"), ":2");
    if values == "disk" {
        eventually("hints are written", || (2 <= files(folder, "hint-").len()).then_some(()));
    }
    stop(server);
}

/// After one start with `--accept-loss`, and what it does then, the next start is a plain one: nothing is damaged, what was dropped
/// stays dropped, and what was there is there. Whatever was damaged, wherever values live, and whether anything was written
/// meanwhile or not.
#[test]
fn a_loss_is_accepted_once() {
    for values in ["memory", "disk"] {
        let whole = tempfile::tempdir().unwrap();
        make(whole.path(), values);
        for (number, (what, prefix, damage)) in DAMAGES.iter().enumerate() {
            if files(whole.path(), prefix).is_empty() {
                continue;
            }
            let what = format!("values in {values}: {what}");
            let folder = tempfile::tempdir().unwrap();
            copy(whole.path(), folder.path());
            damage(&files(folder.path(), prefix));
            let damaged = [files(folder.path(), "log-"), files(folder.path(), "snapshot-")].concat();
            // Enough of each to tell that a new snapshot has taken the place of one at the same position.
            let beginnings: Vec<_> = damaged.iter().map(|path| beginning(path)).collect();

            let server = start(folder.path(), values, &["--accept-loss"]);
            let is_told = fs::read_dir(folder.path())
                .unwrap()
                .any(|entry| entry.unwrap().file_name().to_str().unwrap().starts_with("lost-"));
            assert_eq!(is_told, *prefix != "hint-", "{what}");
            if number % 2 == 0 {
                assert_eq!(server.connect().ask(&format!("SET {KEYS} new")), "+OK");
            }
            let found = read(&server);
            assert!(found.iter().all(|reply| !reply.starts_with('-')), "{what}: {found:?}");
            if is_told {
                let is_gone = || damaged.iter().zip(&beginnings).all(|(path, before)| beginning(path) != *before);
                eventually(&format!("{what}: files are cleared away"), || is_gone().then_some(()));
                if *prefix == "snapshot-" && !what.contains("missing") {
                    // What could not be read is for people to look at.
                    eventually(&format!("{what}: it is kept"), || {
                        (!files(folder.path(), "damaged-snapshot-").is_empty()).then_some(())
                    });
                }
            }
            stop(server);

            let check = Command::new(program("trine")).arg("check").arg(folder.path()).output().unwrap();
            let is_whole = check.status.success() || *prefix == "hint-";
            assert!(is_whole, "{what}: {}", String::from_utf8_lossy(&check.stdout));
            let server = start(folder.path(), values, &[]);
            assert!(read(&server) == found, "{what}: the next start finds something else");
        }
    }
}
