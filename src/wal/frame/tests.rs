//! The bytes on disk: they stay as they are, or the version changes.

use super::*;
use crate::{
    slot::{Slot, Version},
    time::UnixMillis,
    wal::{Log, Record, SLOT_SET_BYTES, SlotSet, each_run},
};
use expect_test::expect;
use std::fmt::Write as _;

const ID: FileId = FileId(0x0102_0304_0506_0708);

/// Returns a hex dump with sixteen bytes a line, without lines of zeros.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, line) in bytes.chunks(16).enumerate() {
        if line.iter().any(|&byte| byte != 0) {
            let hex: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            let shown: String =
                line.iter().map(|&byte| if (b' '..=b'~').contains(&byte) { byte.into() } else { '.' }).collect();
            writeln!(text, "{:04x}  {:47}  {}", index * 16, hex.join(" "), shown.trim_end()).unwrap();
        }
    }
    text
}

fn file_header() -> FileHeader {
    FileHeader {
        version: VERSION,
        kind: FileKind::Segment,
        shard: 3,
        directory: 0xd1d2_d3d4_d5d6_d7d8,
        id: ID,
        number: 9,
        lsn: Lsn(0x1122),
        bytes: 64 << 20,
    }
}

#[test]
fn the_bytes_of_a_files_header() {
    let header = file_header();
    let block = header.encode();
    assert_eq!(FileHeader::decode(&block), Ok(header));
    expect![[r#"
        0000  54 52 49 4e 45 4c 4f 47 02 00 00 00 03 00 00 00  TRINELOG........
        0010  d8 d7 d6 d5 d4 d3 d2 d1 08 07 06 05 04 03 02 01  ................
        0020  09 00 00 00 00 00 00 00 22 11 00 00 00 00 00 00  ........".......
        0030  00 00 00 04 00 00 00 00 00 00 00 00 00 00 00 00  ................
        0070  00 00 00 00 00 00 00 00 00 00 00 00 ee 5d b6 c3  .............]..
    "#]]
    .assert_eq(&dump(&block));
    let snapshot = FileHeader { kind: FileKind::Snapshot, number: 0, bytes: 0, ..header };
    assert_eq!(FileHeader::decode(&snapshot.encode()), Ok(snapshot));
    expect![[r#"
        0000  54 52 49 4e 45 4c 4f 47 02 00 01 00 03 00 00 00  TRINELOG........
        0010  d8 d7 d6 d5 d4 d3 d2 d1 08 07 06 05 04 03 02 01  ................
        0020  00 00 00 00 00 00 00 00 22 11 00 00 00 00 00 00  ........".......
        0070  00 00 00 00 00 00 00 00 00 00 00 00 16 40 5e a8  .............@^.
    "#]]
    .assert_eq(&dump(&snapshot.encode()));
}

/// Files of version 1 are read, and hints of its segments are the ones that it would have written.
#[test]
fn the_bytes_of_a_files_header_in_version_1() {
    let header = FileHeader { version: 1, ..file_header() };
    let block = header.encode();
    expect![[r#"
        0000  54 52 49 4e 45 4c 4f 47 01 00 00 00 03 00 00 00  TRINELOG........
        0010  d8 d7 d6 d5 d4 d3 d2 d1 08 07 06 05 04 03 02 01  ................
        0020  09 00 00 00 00 00 00 00 22 11 00 00 00 00 00 00  ........".......
        0030  00 00 00 04 00 00 00 00 00 00 00 00 9e 93 32 e8  ..............2.
    "#]]
    .assert_eq(&dump(&block));
    assert_eq!(FileHeader::decode(&block), Ok(header));
}

#[test]
fn the_bytes_of_a_frame_with_every_kind_of_record() {
    let (key, value, expires_at) = (&b"key"[..], &b"value"[..], Some(UnixMillis(0x1234)));
    let mut log = Log::new(Lsn(0x1000), true);
    let each = [
        Record::Put { key, value, expires_at: None },
        Record::Put { key, value, expires_at },
        Record::Remove { key },
        Record::Expire { key, expires_at },
        Record::Expire { key, expires_at: None },
    ];
    for record in each {
        log.append(1, record);
        log.end_command();
    }
    let mut bits = [0; SLOT_SET_BYTES];
    (bits[0], bits[SLOT_SET_BYTES - 1]) = (0b11, 0x80);
    log.append_clear(Record::ClearSlots(SlotSet::new(&bits)));
    log.end_command();
    log.append(1, Record::Again { key, value, expires_at: None });
    log.end_command();
    log.append(1, Record::Again { key, value, expires_at });
    log.end_command();
    let versions = [(1, Version { epoch: 5, effects: 0x1234 }), (2, Version { epoch: 5, effects: 7 })];
    let each = versions.into_iter().map(|(slot, version)| (Slot::new(slot).unwrap(), version));
    each_run(each, |versions| log.append_statement(Record::Versions(versions)));
    log.append(1, Record::Remove { key });
    log.append(1, Record::Put { key, value, expires_at: None });
    log.end_command();
    let mut buffer = vec![0xee; FRAME_BYTES_MAX];
    let length = log.take(ID, &mut buffer);
    assert_eq!(length, BLOCK_BYTES);
    expect![[r#"
        0000  54 52 4e 46 02 00 00 00 08 07 06 05 04 03 02 01  TRNF............
        0010  00 10 00 00 00 00 00 00 00 10 00 00 00 00 00 00  ................
        0020  ab 08 00 00 3e 92 db a1 00 00 00 00 00 00 00 00  ....>...........
        0030  01 03 00 00 00 05 00 00 00 6b 65 79 76 61 6c 75  .........keyvalu
        0040  65 02 03 00 00 00 05 00 00 00 34 12 00 00 00 00  e.........4.....
        0050  00 00 6b 65 79 76 61 6c 75 65 03 03 00 00 00 6b  ..keyvalue.....k
        0060  65 79 04 03 00 00 00 34 12 00 00 00 00 00 00 6b  ey.....4.......k
        0070  65 79 05 03 00 00 00 6b 65 79 12 03 00 00 00 00  ey.....key......
        0870  00 00 00 00 00 00 00 00 00 00 80 10 03 00 00 00  ................
        0880  05 00 00 00 6b 65 79 76 61 6c 75 65 11 03 00 00  ....keyvalue....
        0890  00 05 00 00 00 34 12 00 00 00 00 00 00 6b 65 79  .....4.......key
        08a0  76 61 6c 75 65 13 01 00 02 00 05 00 00 00 00 00  value...........
        08b0  00 00 03 00 00 00 b4 24 07 07 19 00 00 00 00 00  .......$........
        08c0  00 00 03 03 00 00 00 6b 65 79 01 03 00 00 00 05  .......key......
        08d0  00 00 00 6b 65 79 76 61 6c 75 65 00 00 00 00 00  ...keyvalue.....
    "#]]
    .assert_eq(&dump(&buffer[..length]));
}

#[test]
fn the_bytes_of_a_snapshots_end() {
    let mut log = Log::new(Lsn(0), false);
    let mut buffer = vec![0xee; FRAME_BYTES_MAX];
    log.append(1, Record::Put { key: b"key", value: b"value", expires_at: None });
    log.end_command();
    log.take(ID, &mut buffer);
    log.persisted();
    let length = log.seal(ID, Lsn(0x1133), &mut buffer);
    assert_eq!(length, BLOCK_BYTES);
    expect![[r#"
        0000  54 52 4e 46 02 00 02 00 08 07 06 05 04 03 02 01  TRNF............
        0010  11 00 00 00 00 00 00 00 33 11 00 00 00 00 00 00  ........3.......
        0020  00 00 00 00 a3 66 34 cd 00 00 00 00 00 00 00 00  .....f4.........
    "#]]
    .assert_eq(&dump(&buffer[..length]));
}

/// A file of a newer version is recognized by its first ten bytes alone, whatever the others are.
#[test]
fn the_version_is_looked_at_before_anything_else_is_believed() {
    let mut block = file_header().encode();
    block[8] = 3;
    block[10..].fill(0xff);
    assert_eq!(FileHeader::decode(&block), Err(Invalid::Version(3)));
    block[0] = b'X';
    assert_eq!(FileHeader::decode(&block), Err(Invalid::Magic));
    assert_eq!(FileHeader::decode(&[0; BLOCK_BYTES]), Err(Invalid::Magic));
    assert_eq!(FileHeader::decode(&block[..127]), Err(Invalid::Short(BLOCK_BYTES)));
}

/// Each problem of a frame has an error of its own, as far as they can be told apart.
#[test]
fn a_frame_that_is_not_whole_is_refused() {
    let frame = |change: &dyn Fn(&mut [u8])| {
        let mut buffer = vec![b'r'; 2 * BLOCK_BYTES];
        let header = FrameHeader { kind: FrameKind::Records, file: ID, lsn: Lsn(5), synced: Lsn(4), length: 5000 };
        assert_eq!(header.seal(&mut buffer), 2 * BLOCK_BYTES);
        change(&mut buffer);
        FrameHeader::decode(&buffer, ID).map(|(found, records)| assert_eq!((found, records.len()), (header, 5000)))
    };
    assert_eq!(frame(&|_| {}), Ok(()));
    assert_eq!(frame(&|bytes| bytes[BLOCK_BYTES..].fill(0)), Err(Invalid::Checksum));
    assert_eq!(frame(&|bytes| bytes[..BLOCK_BYTES].fill(0)), Err(Invalid::Magic));
    assert_eq!(frame(&|bytes| bytes[8] ^= 1), Err(Invalid::File));
    assert_eq!(frame(&|bytes| bytes[4] = 3), Err(Invalid::Checksum));
    assert_eq!(frame(&|bytes| bytes[34] = 0xff), Err(Invalid::Checksum));
    assert_eq!(frame(&|bytes| bytes[33] = 0x50), Err(Invalid::Short(6 * BLOCK_BYTES)));
    assert_eq!(frame(&|bytes| *bytes.last_mut().unwrap() = 1), Ok(()), "padding is nothing");
    assert_eq!(FrameHeader::decode(&[], ID), Err(Invalid::Short(BLOCK_BYTES)));
}
