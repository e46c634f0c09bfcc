use super::*;
use crate::{
    io::directory::{Directory, Owner, claim},
    wal::{
        disk::{Disk, Writer},
        frame::{FileKind, Invalid},
    },
};
use expect_test::expect;
use std::fs;

/// A directory that goes when the test ends.
struct Place(PathBuf);

impl Place {
    fn open(test: &str) -> (Self, Directory) {
        let path = std::env::temp_dir().join(format!("trine-{}-{test}", std::process::id()));
        let _none = fs::remove_dir_all(&path);
        let owner = Owner { server: "one".into(), cluster: String::new(), slots: vec![vec![0..=16383]] };
        let directory = Directory::open(&path, &owner).unwrap();
        (Self(path), directory)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// Writes a log with a put of each value, a frame each, under keys that count from 0, and a seal.
fn write_log(files: &ShardFiles, values: &[&[u8]]) {
    let mut disk = Disk { directory: files.directory(), shard: files.shard(), ..Disk::default() };
    let mut writer = Writer::start(&mut disk, &Report { next_segment: 1, ..Report::default() }, 1);
    for (key, value) in values.iter().enumerate() {
        writer.log.append(0, Record::Put { key: key.to_string().as_bytes(), value, expires_at: None });
        writer.log.end_command();
        while writer.write(&mut disk) {}
    }
    writer.seal(&mut disk);
    for file in disk.files {
        fs::write(files.path_of(file.kind, file.number), file.bytes).unwrap();
    }
}

fn recover(files: ShardFiles, accepts_loss: bool) -> Result<(Vec<Vec<u8>>, Report), RecoverError> {
    let mut recover = Recover::new(files, accepts_loss)?;
    let mut values = Vec::new();
    let mut apply = |record: Record<'_>| match record {
        Record::Put { value, .. } => values.push(value.to_vec()),
        other => panic!("{other:?} was not written"),
    };
    while recover.step(&mut apply)? {}
    assert_eq!(recover.progress(), 1.0);
    Ok((values, recover.report().clone()))
}

#[test]
fn what_was_written_comes_back() {
    let (_place, directory) = Place::open("back");
    let large = vec![b'x'; 9_000_000];
    write_log(&directory.shard(0), &[b"one", &large, b"three"]);
    let (values, report) = recover(directory.shard(0), false).unwrap();
    assert_eq!(values, [b"one".to_vec(), large, b"three".to_vec()]);
    assert_eq!(report.records, 3);
}

/// The operator learns which file is damaged, where, and the two ways out; the second writes down what was dropped.
#[test]
fn damage_is_refused_or_accepted_and_written_down() {
    let (place, directory) = Place::open("damage");
    let files = directory.shard(0);
    write_log(&files, &[b"one", b"two", b"three"]);
    let path = files.path_of(FileKind::Segment, 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[2 * 4096 + 50] ^= 1;
    fs::write(&path, bytes).unwrap();
    let without_path = |text: String| text.replace(place.0.to_str().unwrap(), "DIR");

    let error = recover(files.clone(), false).unwrap_err();
    expect!["DIR/shard-0/log-0000000000000001 at offset 8192: bytes that were on disk have changed or are missing. Restore this server from a replica or a backup; or start once with --accept-loss, which goes on without what is damaged and writes down what was dropped"]
        .assert_eq(&without_path(error.to_string()));

    let (values, report) = recover(files, true).unwrap();
    assert_eq!(values, [b"one".to_vec(), b"three".to_vec()]);
    let first = write_lost(&place.0, 0, &report.lost, 1_700_000_000).unwrap();
    let second = write_lost(&place.0, 1, &[], 1_700_000_000).unwrap();
    assert_eq!((first, second), (place.0.join("lost-1700000000.txt"), place.0.join("lost-1700000000-2.txt")));
    expect![[r"
        Shard 0 was started with --accept-loss, without what could not be read of its files:

        DIR/shard-0/log-0000000000000001 at offset 8192: bytes that were on disk have changed or are missing; records 13 to 26 were dropped

        Positions are bytes of records from the beginning of the log, or of that snapshot. Later records were applied:
        a key may have an older value than it had, or be back, or gone.
    "]]
    .assert_eq(&without_path(lost_as_text(0, &report.lost)));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let (place, directory) = Place::open("unreadable");
    let path = directory.shard(0).path_of(FileKind::Segment, 1);
    fs::create_dir(&path).unwrap();
    let error = recover(directory.shard(0), false).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: ", path.display())), "{error}");
    fs::remove_dir(&path).unwrap();
    let newer = Damage { file: "log".into(), offset: 0, problem: Problem::Version(9) };
    assert!(!RecoverError::Damage(newer).to_string().contains("--accept-loss"));
    let changed = Damage { file: "log".into(), offset: 0, problem: Problem::Changed(Invalid::Checksum) };
    assert!(RecoverError::Damage(changed).to_string().contains("--accept-loss"));
    drop(place);
}

/// The last write of a server that was killed may still be on its way to the disk.
#[test]
fn a_file_is_read_when_all_writes_to_it_have_ended() {
    let (_place, directory) = Place::open("claimed");
    write_log(&directory.shard(0), &[b"before"]);
    let claimed = File::open(directory.shard(0).path_of(FileKind::Segment, 1)).unwrap();
    claim(&claimed).unwrap();
    let looked_at = Directory::look(directory.path()).unwrap();
    assert_eq!(recover(looked_at.shard(0), false).unwrap().0, [b"before"], "who only looks does not wait");
    let other = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        write_log(&looked_at.shard(0), &[b"after"]);
        drop(claimed);
    });
    assert_eq!(recover(directory.shard(0), false).unwrap().0, [b"after"]);
    other.join().unwrap();
}
