use super::*;
use crate::{
    io::{directory::Owner, dump},
    wal::{
        Record,
        disk::{Disk, Keys, Writer, apply},
        frame::FileId,
        names,
    },
};
use expect_test::expect;
use std::{fs, path::Path};

/// A directory that goes when the test ends.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// Makes a directory of two shards. The second has a snapshot, records of every kind, a large one among them, and a write that
/// was cut off.
fn place(test: &str) -> (Place, Directory) {
    let path = std::env::temp_dir().join(format!("trine-{}-{test}", std::process::id()));
    let _none = fs::remove_dir_all(&path);
    let slots = vec![vec![0..=8191], vec![8192..=16383]];
    let directory = Directory::open(&path, &Owner { server: "one".into(), cluster: String::new(), slots }).unwrap();
    let files = directory.shard(1);
    let mut disk = Disk { directory: files.directory(), shard: files.shard(), ..Disk::default() };
    write(&mut disk);
    for file in disk.files {
        fs::write(files.path_of(file.kind, file.number), file.bytes).unwrap();
    }
    (Place(path), directory)
}

fn write(disk: &mut Disk) {
    let mut writer = Writer::start(disk, &Report { next_segment: 1, ..Report::default() }, 7);
    let mut keys = Keys::new();
    let (key, until) = (&b"session:1"[..], Some(UnixMillis(4_102_444_800_000)));
    let large = vec![b'x'; 1_200_000];
    for record in [
        Record::Put { key: b"greeting", value: b"hello\r\n", expires_at: None },
        Record::Put { key, value: b"token", expires_at: until },
        Record::Put { key: b"past", value: b"", expires_at: Some(UnixMillis(1)) },
        Record::Expire { key, expires_at: None },
        Record::Put { key: b"large", value: &large, expires_at: None },
    ] {
        apply(&mut keys, record);
        writer.log.append(0, record);
        writer.log.end_command();
        while writer.write(disk) {}
    }
    let since = writer.log.end();
    disk.write_snapshot(FileId(0xabc), &keys, since, since);
    writer.log.append(0, Record::Remove { key });
    writer.log.append(0, Record::Expire { key: b"greeting", expires_at: until });
    writer.log.end_command();
    writer.write(disk);
    writer.seal(disk);
    writer.log.append(0, Record::Put { key: b"torn", value: &[b'y'; 9_000], expires_at: None });
    writer.log.end_command();
    let mut first = true;
    writer.take(disk).unwrap().land(disk, || std::mem::take(&mut first));
}

fn check(directory: &Directory, shard: u16) -> String {
    let verdict = Check::new(directory.shard(shard)).run().unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(verdict.is_damaged, verdict.text.starts_with("DAMAGED"));
    verdict.text.replace(directory.path().to_str().unwrap(), "DIR") + "\n"
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_there_is_told() {
    let (_place, directory) = place("check-whole");
    expect![[r#"
        whole, log from 0 to 0, 0 segments, 0 records, 0 keys, 0 bytes
    "#]]
    .assert_eq(&check(&directory, 0));
    expect![[r#"
        whole, snapshot at 1200104, log from 1200104 to 1200148, 5 segments, 6 records, 2 keys and 1 expired, 2494464 bytes; cut at offset 8192 of DIR/shard-1/log-0000000000000005, in a write that looks cut off: then nobody was told of it
    "#]].assert_eq(&check(&directory, 1));
}

/// All damage is told, also in files that no start would read.
#[test]
fn all_damage_is_told() {
    let (_place, directory) = place("check-damaged");
    let files = directory.shard(1);
    flip(&files.path_of(FileKind::Segment, 1), 2 * 4096 + 60);
    expect![[r#"
        DAMAGED
          DIR/shard-1/log-0000000000000001 at offset 8192: changed, but a newer snapshot counts: no start needs it
    "#]]
    .assert_eq(&check(&directory, 1));
    flip(&files.path_of(FileKind::Snapshot, 1_200_104), 4096 + 60);
    flip(&files.path_of(FileKind::Segment, 5), 20);
    expect![[r#"
        DAMAGED
          DIR/shard-1/log-0000000000000005 at offset 0: bytes that were on disk have changed or are missing
          DIR/shard-1/snapshot-0000000000124fe8 at offset 4096: bytes that were on disk have changed or are missing
          DIR/shard-1/log-0000000000000001 at offset 8192: changed, but a newer snapshot counts: no start needs it
    "#]]
    .assert_eq(&check(&directory, 1));
}

/// A write that a running server has not finished is not taken for damage.
#[test]
fn a_directory_that_a_server_has_open_is_not_checked() {
    let (place, directory) = place("check-in-use");
    let path = directory.path().to_str().unwrap().to_owned();
    let check = || run(&command().get_matches_from(["check", &path]));
    let Err(Failure::InUse(message)) = check() else { panic!("it was checked") };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let process = format!("process {} on {host}", std::process::id());
    expect!["DIR: a server is running on it (PROCESS): stop it first, or check a copy"]
        .assert_eq(&message.replace(&path, "DIR").replace(&process, "PROCESS"));
    drop(directory);
    assert!(check().is_ok());
    drop(place);
}

/// Nothing in the directory is touched.
#[test]
fn checking_changes_nothing() {
    let (_place, directory) = place("check-unchanged");
    let files = directory.shard(1);
    fs::write(files.path().join(names::unfinished(&names::name_of(FileKind::Snapshot, 7))), "half").unwrap();
    let look = || -> Vec<_> {
        let entries = fs::read_dir(files.path()).unwrap().map(Result::unwrap);
        let mut entries: Vec<_> =
            entries.map(|entry| (entry.file_name(), entry.metadata().unwrap().modified().unwrap())).collect();
        entries.sort();
        entries
    };
    let before = look();
    let looked_at = Directory::look(directory.path()).unwrap();
    check(&looked_at, 0);
    check(&looked_at, 1);
    assert_eq!(look(), before);
}

fn dump(path: &Path, width: Option<usize>) -> String {
    let (text, _) = dump::to_text(path, width).unwrap();
    // Drawn at random.
    match text.find("directory ") {
        Some(at) => text[..at].to_owned() + "directory ID" + &text[at + 26..],
        None => text,
    }
}

#[test]
fn files_are_printed_in_words() {
    let (_place, directory) = place("dump");
    let files = directory.shard(1);
    for file in files.list().unwrap() {
        assert_eq!(dump::to_text(&files.path_of(file.kind, file.number), None).unwrap().1, 0, "damaged places");
    }
    expect![[r#"
        log-0000000000000001: segment 1, made ready when the log ended at 0; format 2, shard 1, directory ID, use c5fc598e707e7291
                4096  records    lsn 0 to 24, 24 bytes in 4096, synced 0, checksum right
                      put "greeti…" (8 bytes) = "hello\r…" (7 bytes)
                8192  records    lsn 24 to 55, 31 bytes in 4096, synced 24, checksum right
                      put "sessio…" (9 bytes) = "token" until 4102444800000 (2100-01-01 00:00:00 UTC)
               12288  records    lsn 55 to 76, 21 bytes in 4096, synced 55, checksum right
                      put "past" = "" until 1 (1970-01-01 00:00:00 UTC)
               16384  records    lsn 76 to 90, 14 bytes in 4096, synced 76, checksum right
                      persist "sessio…" (9 bytes)
               20480  zeros to the end of the file (16384 bytes)
    "#]]
    .assert_eq(&dump(&files.path_of(FileKind::Segment, 1), Some(6)));
    expect![[r#"
        log-0000000000000002: segment 2, made ready when the log ended at 24; format 2, shard 1, directory ID, use 38f4d74b451e8c20
                4096  records    lsn 90 to 1048618, 1048528 bytes in 1048576, synced 90, checksum right
                      … goes on in the next segment, or was cut off
    "#]].assert_eq(&dump(&files.path_of(FileKind::Segment, 2), Some(6)));
    expect![[r#"
        log-0000000000000003: segment 3, made ready when the log ended at 90; format 2, shard 1, directory ID, use 1dd1ac08f9cbbd2c
                4096  continued  lsn 1048618 to 1200104, 151486 bytes in 151552, synced 90, checksum right
                      … of a record that began before
    "#]].assert_eq(&dump(&files.path_of(FileKind::Segment, 3), Some(6)));
    expect![[r#"
        log-0000000000000004: segment 4, made ready when the log ended at 1200104; format 2, shard 1, directory ID, use caa83b780331565d
                4096  records    lsn 1200104 to 1200148, 44 bytes in 4096, synced 1200104, checksum right
                      together:
                        remove "sessio…" (9 bytes)
                        expire "greeti…" (8 bytes) at 4102444800000 (2100-01-01 00:00:00 UTC)
    "#]].assert_eq(&dump(&files.path_of(FileKind::Segment, 4), Some(6)));
    expect![[r#"
        log-0000000000000005: segment 5, made ready when the log ended at 1200148; format 2, shard 1, directory ID, use 238317543ae5b3a5
                4096  seal       lsn 1200148 to 1200148, 0 bytes in 4096, synced 1200148, checksum right
                8192  no whole frame, and none behind it: a write that was cut off, or the last one, damaged (16384 bytes)
    "#]].assert_eq(&dump(&files.path_of(FileKind::Segment, 5), Some(6)));
    expect![[r#"
        snapshot-0000000000124fe8: snapshot; with the log from 1200104 on it is everything; format 2, shard 1, directory ID, use 0000000000000abc
                4096  records    lsn 0 to 24, 24 bytes in 4096, synced 0, checksum right
                      put "greeti…" (8 bytes) = "hello\r…" (7 bytes)
                8192  records    lsn 24 to 1048552, 1048528 bytes in 1048576, synced 24, checksum right
             1056768  continued  lsn 1048552 to 1200038, 151486 bytes in 151552, synced 24, checksum right
                      put "large" = "xxxxxx…" (1200000 bytes)
             1208320  records    lsn 1200038 to 1200082, 44 bytes in 4096, synced 1200038, checksum right
                      put "past" = "" until 1 (1970-01-01 00:00:00 UTC)
                      put "sessio…" (9 bytes) = "token"
             1212416  seal       lsn 1200082 to 1200082, 0 bytes in 4096, synced 1200104, checksum right
    "#]].assert_eq(&dump(&files.path_of(FileKind::Snapshot, 1_200_104), Some(6)));
}

/// Frames behind damage are printed too, with their positions.
#[test]
fn a_damaged_file_is_printed_as_far_as_that_goes() {
    let (_place, directory) = place("dump-damaged");
    let files = directory.shard(1);
    let path = files.path_of(FileKind::Segment, 1);
    flip(&path, 2 * 4096 + 60);
    flip(&path, 20);
    expect![[r#"
        log-0000000000000001: read by what its first frame says, since there is no header
                   0  DAMAGED: the header's checksum is wrong
                4096  records    lsn 0 to 24, 24 bytes in 4096, synced 0, checksum right
                8192  DAMAGED: no whole frame, and one behind it (4096 bytes)
               12288  records    lsn 55 to 76, 21 bytes in 4096, synced 55, checksum right
               16384  records    lsn 76 to 90, 14 bytes in 4096, synced 76, checksum right
               20480  zeros to the end of the file (16384 bytes)
    "#]]
    .assert_eq(&dump(&path, None));
    let path = files.path_of(FileKind::Snapshot, 1_200_104);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 4096]).unwrap();
    assert!(dump(&path, None).ends_with("DAMAGED: a snapshot ends with a seal, and this one does not\n"));
}
