use super::*;
use crate::wal::{
    Log,
    frame::{FRAME_BYTES_MAX, FileId, VERSION},
};
use expect_test::expect;
use proptest::prelude::*;

const ID: FileId = FileId(0x1122_3344_5566_7788);

fn header() -> FileHeader {
    FileHeader {
        version: VERSION,
        kind: FileKind::Segment,
        shard: 2,
        directory: 5,
        id: ID,
        number: 7,
        lsn: Lsn(0),
        bytes: 0,
    }
}

/// Returns a segment of frames, each with the records of one command, and the position where it ends.
fn segment(commands: &[&[Record<'_>]]) -> (Vec<u8>, Lsn) {
    let (mut log, mut buffer) = (Log::new(Lsn(100), true), vec![0; FRAME_BYTES_MAX]);
    let mut bytes = header().encode().to_vec();
    for command in commands {
        command.iter().for_each(|record| match record {
            Record::Clear => log.append_clear(*record),
            record => log.append(0, *record),
        });
        log.end_command();
        while log.next_frame_bytes().is_some() {
            let length = log.take(ID, &mut buffer);
            bytes.extend_from_slice(&buffer[..length]);
            log.persisted();
        }
    }
    (bytes, log.end())
}

/// Returns the hint of a segment that is taken in pieces of so many bytes.
fn hint(bytes: &[u8], end: Lsn, piece: usize) -> Result<Vec<u8>, NoHint> {
    let (mut hinting, block) = Hinting::new(header(), Lsn(100), end);
    let (mut out, mut at) = (block.to_vec(), BLOCK_BYTES);
    while !hinting.is_done() {
        let until = bytes.len().min(at + piece);
        let used = hinting.take(&bytes[at..until], at as u64, &mut out)?;
        assert!(0 < used || hinting.is_done(), "it gets on");
        at += used;
    }
    Ok(out)
}

/// Returns the lines of a hint as text, and the position in its seal.
fn lines(hint: &[u8]) -> (Vec<String>, Lsn) {
    let (mut at, mut position, mut shown) = (BLOCK_BYTES, Lsn(0), Vec::new());
    loop {
        let (header, payload) = FrameHeader::decode(&hint[at..], ID).unwrap();
        assert_eq!(header.lsn, position);
        if header.kind == FrameKind::Seal {
            assert_eq!(at + BLOCK_BYTES, hint.len());
            return (shown, header.synced);
        }
        each_line(payload, |line| shown.push(format!("{line:?}"))).unwrap();
        position = position.after(payload.len());
        at += frame_bytes(payload.len());
    }
}

/// Every record is in the hint, in order: with the place of its value, or the value itself if it is short.
#[test]
fn a_hint_says_what_its_segment_does() {
    let until = Some(UnixMillis(17));
    let long = [b'x'; 40];
    let (bytes, end) = segment(&[
        &[Record::Put { key: b"long", value: &long, expires_at: None }],
        &[Record::Put { key: b"short", value: b"ab", expires_at: until }, Record::Remove { key: b"gone" }],
        &[Record::Clear],
        &[Record::Expire { key: b"k", expires_at: until }],
    ]);
    let hint = hint(&bytes, end, 1 << 20).unwrap();
    let (shown, sealed) = lines(&hint);
    assert_eq!(sealed, end);
    expect![[r#"
        Placed(Placed { key: [108, 111, 110, 103], length: 40, offset: 4157, checksum: 3594888487, expires_at: None, value: None, is_again: false })
        Placed(Placed { key: [115, 104, 111, 114, 116], length: 2, offset: 8271, checksum: 3802278198, expires_at: Some(UnixMillis(17)), value: Some([97, 98]), is_again: false })
        Record(Remove { key: [103, 111, 110, 101] })
        Record(Clear)
        Record(Expire { key: [107], expires_at: Some(UnixMillis(17)) })"#]]
    .assert_eq(&shown.join("\n"));
    assert_eq!(&bytes[4157..4197], &long);
    // A change of these bytes is a change of the format.
    expect!["54524e46020000008877665544332211000000000000000000000000000000004d000000293123a200000000000000000804000000280000003d10000027a545d66c6f6e670b05000000020000004f2000003629a2e2110000000000000073686f727461620304000000676f6e6506040100000011000000000000006b"]
    .assert_eq(&hint[BLOCK_BYTES..BLOCK_BYTES + 48 + 77].iter().map(|byte| format!("{byte:02x}")).collect::<String>());
}

/// The hint does not depend on the pieces in which its segment is taken, and has all lines, however many there are.
#[test]
fn pieces_make_no_difference() {
    let key = [b'k'; 3000];
    let put = [Record::Put { key: &key, value: &[b'v'; 100], expires_at: None }];
    let commands = vec![&put[..]; 1000];
    let (bytes, end) = segment(&commands);
    let whole = hint(&bytes, end, bytes.len()).unwrap();
    assert_eq!(lines(&whole).0.len(), 1000);
    assert_eq!(hint(&bytes, end, FRAME_BYTES_MAX), Ok(whole.clone()));
    assert_eq!(hint(&bytes, end, 3 * BLOCK_BYTES), Ok(whole));
}

/// A segment with a record in several pieces has no hint: the value stays in memory, so a start has to read it. Unless the
/// record was cut off, and the log continues before it.
#[test]
fn records_in_pieces_have_none() {
    let small = [Record::Put { key: b"small", value: &[b'v'; 100], expires_at: None }];
    let large = vec![b'v'; 2 << 20];
    let large = [Record::Put { key: b"large", value: &large, expires_at: None }];
    let (bytes, end) = segment(&[&small, &large, &small]);
    assert_eq!(hint(&bytes, end, bytes.len()), Err(NoHint::Pieces));
    let (_, before) = segment(&[&small]);
    assert_eq!(
        lines(&hint(&bytes, before, bytes.len()).unwrap()),
        (lines(&hint(&bytes, before, 1 << 20).unwrap()).0, before)
    );
    // The segment begins with the rest of a record that began in the one before.
    let (mut hinting, _) = Hinting::new(header(), Lsn(100), end);
    let continued = FrameHeader { kind: FrameKind::Continued, file: ID, lsn: Lsn(100), synced: Lsn(0), length: 3 };
    let mut frame = vec![0; BLOCK_BYTES];
    continued.seal(&mut frame);
    assert_eq!(hinting.take(&frame, 4096, &mut Vec::new()), Err(NoHint::Pieces));
}

/// A damaged segment has no hint, and the error has the offset of the damage.
#[test]
fn a_damaged_segment_has_none() {
    let put = [Record::Put { key: b"key", value: &[b'v'; 100], expires_at: None }];
    let (bytes, end) = segment(&[&put, &put, &put]);
    let mut changed = bytes.clone();
    changed[2 * BLOCK_BYTES + 70] ^= 1;
    assert_eq!(hint(&changed, end, bytes.len()), Err(NoHint::Damaged(2 * 4096)));
}

proptest! {
    /// A placed key is decoded as it was encoded, and no part of its bytes passes for the whole.
    #[test]
    fn lines_are_read_as_they_were_written(key: Vec<u8>, value: Vec<u8>, inline: bool, is_again: bool, at: Option<u64>, offset: u32) {
        let value_inline = inline.then_some(&value[..]);
        let expires_at = at.map(UnixMillis);
        let (length, checksum) = (value.len(), crc32c::crc32c(&value));
        let placed = Placed { key: &key, length, offset, checksum, expires_at, value: value_inline, is_again };
        let mut bytes = Vec::new();
        Line::Placed(placed).encode(&mut bytes);
        prop_assert_eq!(Line::decode(&bytes), Ok((Line::Placed(placed), bytes.len())));
        for end in 0..bytes.len() {
            prop_assert_eq!(Line::decode(&bytes[..end]), Err(Malformed));
        }
    }

    /// Decoding any bytes ends.
    #[test]
    fn random_bytes_are_lines_or_not(bytes: Vec<u8>) {
        let mut count = 0;
        let _any = each_line(&bytes, |_| count += 1);
        prop_assert!(count <= bytes.len());
    }
}
