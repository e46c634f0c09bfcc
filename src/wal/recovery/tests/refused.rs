//! Damage on which a shard refuses to start, and the error messages.

use super::*;
use crate::wal::{disk::File, frame::FileHeader};
use expect_test::{Expect, expect};

/// Returns a disk with keys `0` to `count`, one write each.
fn counted(count: usize) -> (Disk, Writer) {
    let mut disk = Disk::default();
    let mut writer = Writer::start(&mut disk, &Report { next_segment: 1, ..Report::default() }, 7);
    (0..count).for_each(|key| put(&mut disk, &mut writer, key));
    (disk, writer)
}

fn put(disk: &mut Disk, writer: &mut Writer, key: usize) {
    writer.log.append(0, Record::Put { key: format!("{key:03}").as_bytes(), value: b"value", expires_at: None });
    writer.log.end_command();
    writer.write(disk);
}

/// Returns the keys `0` to `count`.
fn keys(count: usize) -> Keys {
    (0..count).map(|key| (format!("{key:03}").into_bytes(), (b"value".to_vec(), None))).collect()
}

fn snapshot(disk: &mut Disk, writer: &Writer, count: usize, since: Lsn) {
    disk.write_snapshot(FileId(99), &keys(count), since, writer.log.end());
}

fn check(disk: &Disk, message: &Expect) {
    message.assert_eq(&disk.recover(false).unwrap_err().to_string());
}

fn segments(disk: &Disk) -> Vec<(u64, usize)> {
    let segments = disk.files.iter().filter(|file| file.kind == FileKind::Segment);
    segments.map(|file| (file.number, file.bytes.len() / BLOCK_BYTES)).collect()
}

#[test]
fn a_part_of_the_log_that_is_gone_is_missed() {
    let (mut disk, mut writer) = counted(30);
    assert_eq!(segments(&disk), [(1, 9), (2, 6), (3, 3), (4, 2), (5, 6), (6, 2), (7, 10), (8, 6)]);
    let whole = disk.clone();
    disk.files.remove(2);
    check(&disk, &expect!["log-4 at offset 4096: records 221 to 255 are in no file"]);
    let (found, report) = disk.recover(true).unwrap();
    assert_eq!((found.len(), report.lost.len(), report.end), (28, 1, writer.log.end()));
    disk.files.remove(0);
    check(&disk, &expect!["log-2 at offset 4096: records 0 to 136 are in no file"]);

    // The last segment says that there were some before it.
    let last = whole.files.last().unwrap().clone();
    check(
        &Disk { files: vec![last], ..Disk::default() },
        &expect!["log-8 at offset 24576: records 0 to 391 are in no file"],
    );

    let since = writer.log.end();
    let mut disk = whole;
    snapshot(&mut disk, &writer, 30, since);
    put(&mut disk, &mut writer, 30);
    writer.release_before(&mut disk, since);
    assert_eq!(disk.recover(false).unwrap().0, keys(31));
    disk.files.retain(|file| file.kind != FileKind::Snapshot);
    check(&disk, &expect!["log-7 at offset 4096: records 0 to 374 are in no file"]);
}

/// A snapshot is whole, and its log reaches as far as it has seen.
#[test]
fn a_snapshot_that_does_not_add_up_is_refused() {
    let (mut disk, mut writer) = counted(20);
    let since = writer.log.end();
    put(&mut disk, &mut writer, 20);
    snapshot(&mut disk, &writer, 21, since);
    let whole = disk.clone();
    assert_eq!(whole.recover(false).unwrap().0, keys(21));
    let bytes = &mut disk.file(FileKind::Snapshot, since.0).bytes;
    bytes.truncate(bytes.len() - BLOCK_BYTES);
    check(&disk, &expect!["snapshot-340 at offset 28672: the file ends too early"]);
    disk.file(FileKind::Snapshot, since.0).bytes.truncate(3 * BLOCK_BYTES + 100);
    check(&disk, &expect!["snapshot-340 at offset 12288: the file ends too early"]);
    disk.file(FileKind::Snapshot, since.0).bytes.clear();
    check(&disk, &expect!["snapshot-340 at offset 0: the file ends too early"]);

    let mut disk = whole;
    disk.files.retain(|file| file.kind == FileKind::Snapshot);
    check(&disk, &expect!["snapshot-340 at offset 32768: records 340 to 357 are in no file"]);
}

/// Gives a segment's file the size that its header says, or another.
fn resize(disk: &mut Disk, number: u64, made: usize, bytes: usize) {
    let file = &mut disk.file(FileKind::Segment, number).bytes;
    let header = FileHeader { bytes: made as u64, ..FileHeader::decode(file).unwrap() };
    file[..BLOCK_BYTES].copy_from_slice(&header.encode());
    file.resize(bytes, 0);
}

/// A segment that is shorter or longer than it was made is damaged, whatever its position and its contents; one whose size is
/// not known, or that was made with another size than its neighbours, is not.
#[test]
fn a_file_of_another_size_than_it_was_made_with_is_refused() {
    let (mut disk, mut writer) = counted(20);
    writer.seal(&mut disk);
    let whole = disk.clone();
    assert_eq!(segments(&disk), [(1, 9), (2, 6), (3, 3), (4, 2), (5, 6), (6, 2)]);
    (1..7).for_each(|number| {
        let bytes = whole.clone().file(FileKind::Segment, number).bytes.len();
        resize(&mut disk, number, bytes, bytes);
    });
    assert_eq!(disk.recover(false).unwrap().0, keys(20), "each has a size of its own");
    let cut = |number, blocks: usize| {
        let mut disk = disk.clone();
        disk.file(FileKind::Segment, number).bytes.resize(blocks * BLOCK_BYTES, 0);
        disk
    };
    check(
        &cut(1, 3),
        &expect!["log-1 at offset 12288: the file was cut short: it has 12288 bytes, and was made with 36864"],
    );
    check(
        &cut(1, 10),
        &expect![
            "log-1 at offset 36864: something was appended to the file: it has 40960 bytes, and was made with 36864"
        ],
    );
    // The last segment that was written to: the last acknowledged write and the seal may be missing.
    check(
        &cut(5, 2),
        &expect!["log-5 at offset 8192: the file was cut short: it has 8192 bytes, and was made with 24576"],
    );
    // The segment that was only made ready.
    check(
        &cut(6, 1),
        &expect!["log-6 at offset 4096: the file was cut short: it has 4096 bytes, and was made with 8192"],
    );
    // If loss is accepted, the rest of it is read, and the log ends at the last position that is known to have been on disk.
    let (found, report) = cut(1, 3).recover(true).unwrap();
    assert_eq!((found.len(), report.end), (14, writer.log.end()));
    let (found, report) = cut(1, 10).recover(true).unwrap();
    assert_eq!((found, report.lost.len()), (keys(20), 1));
}

/// A snapshot ends with its seal.
#[test]
fn a_snapshot_with_something_behind_its_end_is_refused() {
    let (mut disk, writer) = counted(20);
    let since = writer.log.end();
    snapshot(&mut disk, &writer, 20, since);
    disk.file(FileKind::Snapshot, since.0).bytes.extend([0; 100]);
    check(
        &disk,
        &expect![
            "snapshot-340 at offset 28672: something was appended to the file: it has 28772 bytes, and was made with 28672"
        ],
    );
    assert_eq!(disk.recover(true).unwrap().0, keys(20));
}

/// An older snapshot is read if the newest is invalid and loss is accepted.
#[test]
fn a_file_that_is_called_a_snapshot_hides_no_older_one() {
    let (mut disk, mut writer) = counted(10);
    snapshot(&mut disk, &writer, 10, writer.log.end());
    writer.release_before(&mut disk, writer.log.end());
    disk.files.push(File { kind: FileKind::Snapshot, number: u64::MAX, bytes: b"none".to_vec() });
    check(&disk, &expect!["snapshot-18446744073709551615 at offset 0: the file ends too early"]);
    let (found, report) = disk.recover(true).unwrap();
    assert_eq!((found, report.lost.len()), (keys(10), 1));
}

/// A file name with a number that no segment reaches does not use the numbers up.
#[test]
fn a_segment_with_a_number_near_the_top_is_refused() {
    let (whole, _) = counted(5);
    let next = whole.recover(false).unwrap().1.next_segment;
    for number in [u64::MAX, u64::MAX - 1, 1 << 32, u64::from(u32::MAX), (1 << 30) - 1, SEGMENT_NUMBERS_END] {
        for is_like_ours in [false, true] {
            let mut disk = whole.clone();
            let mut bytes = whole.files[0].bytes.clone();
            if is_like_ours {
                let header = FileHeader { number, ..FileHeader::decode(&bytes).unwrap() };
                bytes[..BLOCK_BYTES].copy_from_slice(&header.encode());
            }
            disk.files.push(File { kind: FileKind::Segment, number, bytes });
            assert_eq!(disk.recover(false).unwrap_err().problem, Problem::Foreign);
            let (found, report) = disk.recover(true).unwrap();
            assert_eq!((found, report.next_segment), (keys(5), next));
        }
    }
}

#[test]
fn a_file_that_belongs_elsewhere_is_refused() {
    let (disk, _) = counted(20);
    let header = FileHeader::decode(&disk.files[1].bytes).unwrap();
    let with = |header: FileHeader| {
        let mut disk = disk.clone();
        disk.files[1].bytes[..BLOCK_BYTES].copy_from_slice(&header.encode());
        disk
    };
    let message = expect!["log-2 at offset 0: the file belongs to another directory or shard, or under another name"];
    check(&with(FileHeader { shard: 4, ..header }), &message);
    check(&with(FileHeader { directory: 1, ..header }), &message);
    check(&with(FileHeader { number: 3, ..header }), &message);
    check(&with(FileHeader { kind: FileKind::Snapshot, ..header }), &message);
}

/// A file of a newer version is always refused, also if loss is accepted and the rest of the file is invalid.
#[test]
fn a_newer_version_is_refused() {
    let (mut disk, _) = counted(20);
    disk.files[1].bytes[8] = 3;
    disk.files[1].bytes[20..].fill(0xff);
    let message = expect!["log-2 at offset 0: written in format 3; this version knows 2: start a newer one"];
    check(&disk, &message);
    message.assert_eq(&disk.recover(true).unwrap_err().to_string());
}

/// Zeros in place of the last frame are not taken for the end of the log if a segment was made ready after that frame.
#[test]
fn a_segment_that_was_made_ready_knows_where_the_log_was() {
    let (mut disk, writer) = counted(9);
    assert_eq!(segments(&disk), [(1, 9), (2, 6), (3, 3)]);
    let end = disk.file(FileKind::Segment, 2).bytes.len();
    disk.file(FileKind::Segment, 2).bytes[BLOCK_BYTES..end].fill(0);
    check(&disk, &expect!["log-3 at offset 12288: records 136 to 153 are in no file"]);
    assert_eq!(disk.recover(true).unwrap().1.end, writer.log.end());
}

/// The last write of a log is at risk until the next one; a changed position in its header must not affect other frames.
#[test]
fn a_frame_that_is_not_whole_is_not_believed_to_be_a_beginning() {
    let (mut disk, mut writer) = counted(5);
    let since = writer.log.end();
    snapshot(&mut disk, &writer, 5, since);
    (5..9).for_each(|key| put(&mut disk, &mut writer, key));
    // No third segment was made ready, which would say that the frame was on disk.
    disk.files.retain(|file| file.kind == FileKind::Snapshot || file.number < 3);
    disk.file(FileKind::Segment, 2).bytes[BLOCK_BYTES + 16..BLOCK_BYTES + 24].copy_from_slice(&since.0.to_le_bytes());
    let (found, report) = disk.recover(false).unwrap();
    assert_eq!((found, report.cut), (keys(8), Some(("log-2".into(), BLOCK_BYTES as u64))));
}

/// The newest snapshot is read, and the part of the log that it does not have.
#[test]
fn the_newest_snapshot_counts() {
    let (mut disk, mut writer) = counted(10);
    snapshot(&mut disk, &writer, 10, writer.log.end());
    let older = disk.files.last().unwrap().clone();
    (10..20).for_each(|key| put(&mut disk, &mut writer, key));
    snapshot(&mut disk, &writer, 20, writer.log.end());
    writer.release_before(&mut disk, writer.log.end());
    disk.files.push(File { ..older });
    let (found, report) = disk.recover(false).unwrap();
    assert_eq!((found, report.snapshot), (keys(20), Some(writer.log.end())));
}
