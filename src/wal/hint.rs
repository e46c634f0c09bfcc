//! Hints: the contents of segments without their values, so that a start need not read those.
//!
//! A hint is a file of frames like any other, made from a segment that is not written to any more. It has each record of the
//! segment, but in place of a value that is longer than a few bytes it has the value's offset in the segment and its checksum.
//! A hint is derived data: a start that finds none, or an invalid one, reads the segment. `README.md` draws the bytes.

use super::{
    Lsn, Malformed, Record, SLOT_SET_BYTES,
    frame::{
        BLOCK_BYTES, FRAME_HEADER_BYTES, FileHeader, FileKind, FrameHeader, FrameKind, Invalid, PAYLOAD_BYTES_MAX,
        frame_bytes,
    },
    record::{Cursor, put_expiry, put_length},
};
use crate::time::UnixMillis;

/// The most bytes of a value that is in the hint itself: memory would not shrink if so short a value went away.
const INLINE_BYTES_MAX: usize = 32;
/// The most bytes of a line before its key.
const LINE_HEADER_BYTES_MAX: usize = 25;

/// The first byte of a line with a placed value; other lines begin with a record's kind.
const PLACED: u8 = 8;
/// The bit of that byte that is set if the line has an expiry.
const UNTIL: u8 = 1;
/// The bit of that byte that is set if the line has the value itself.
const INLINE: u8 = 2;
/// The bit of that byte that is set if the record is a [`Record::Again`], which is not an effect.
const AGAIN: u8 = 4;

/// A key whose value is in the segment, in one piece.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Placed<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value's length in bytes.
    pub length: usize,
    /// The value's offset in the segment.
    pub offset: u32,
    /// The value's CRC-32C.
    pub checksum: u32,
    /// The time at which the key expires.
    pub expires_at: Option<UnixMillis>,
    /// The value itself, if it is short.
    pub value: Option<&'a [u8]>,
    /// True if the record is a [`Record::Again`].
    pub is_again: bool,
}

/// One line of a hint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Line<'a> {
    /// A [`Record::Put`] or a [`Record::Again`], without its value.
    Placed(Placed<'a>),
    /// Any other record, unchanged. Those of one command follow each other and are not combined: all of them were on disk.
    Record(Record<'a>),
}

/// The reason why a segment has no hint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoHint {
    /// A record is in several pieces. A value of that size stays in memory, so a start has to read it.
    Pieces,
    /// The segment is damaged: at this offset there is no whole frame, or one that does not belong there.
    Damaged(u64),
}

impl<'a> Line<'a> {
    fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Record(record) => record.encode(out),
            Self::Placed(Placed { key, length, offset, checksum, expires_at, value, is_again }) => {
                let until = if expires_at.is_some() { UNTIL } else { 0 };
                let inline = if value.is_some() { INLINE } else { 0 };
                let again = if is_again { AGAIN } else { 0 };
                out.push(PLACED | until | inline | again);
                put_length(out, key.len());
                put_length(out, length);
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(&checksum.to_le_bytes());
                put_expiry(out, expires_at);
                out.extend_from_slice(key);
                out.extend_from_slice(value.unwrap_or_default());
            }
        }
    }

    /// Decodes the line that `bytes` begin with. Returns it with its length.
    fn decode(bytes: &'a [u8]) -> Result<(Self, usize), Malformed> {
        match bytes.first() {
            Some(&kind) if kind & !(UNTIL | INLINE | AGAIN) == PLACED => {
                let mut rest = Cursor { bytes, at: 1 };
                let placed = Self::placed(kind, &mut rest).ok_or(Malformed)?;
                Ok((Self::Placed(placed), rest.at))
            }
            _ => match Record::decode(bytes)? {
                Some((Record::Put { .. } | Record::Again { .. } | Record::Together(_), _)) | None => Err(Malformed),
                Some((record, length)) => Ok((Self::Record(record), length)),
            },
        }
    }

    fn placed(kind: u8, rest: &mut Cursor<'a>) -> Option<Placed<'a>> {
        let (key, length) = (rest.length()?, rest.length()?);
        let (offset, checksum) = (rest.length()? as u32, rest.length()? as u32);
        let expires_at = rest.expiry(kind & UNTIL != 0)?;
        let key = rest.take(key)?;
        let value = if kind & INLINE == 0 { None } else { Some(rest.take(length)?) };
        Some(Placed { key, length, offset, checksum, expires_at, value, is_again: kind & AGAIN != 0 })
    }
}

/// Calls `visit` with the lines of a hint's frame.
///
/// # Errors
/// [`Malformed`] if the bytes are not lines.
pub fn each_line(mut payload: &[u8], mut visit: impl FnMut(Line<'_>)) -> Result<(), Malformed> {
    while !payload.is_empty() {
        let (line, length) = Line::decode(payload)?;
        visit(line);
        payload = &payload[length..];
    }
    Ok(())
}

/// The writer of a hint: takes a segment's frames in order, and returns the bytes of the hint's file.
#[derive(Debug)]
pub struct Hinting {
    segment: FileHeader,
    /// The position of the segment's next frame.
    expected: Lsn,
    /// The position at which the next segment begins.
    end: Lsn,
    /// The position of the hint's next frame in its own stream.
    position: Lsn,
    /// The next frame, with room for its header.
    frame: Vec<u8>,
    is_done: bool,
}

impl Hinting {
    /// Begins the hint of the segment with this header. `first`: the position of its first frame; `end`: that of the next
    /// segment's. Also returns the first block of the hint's file.
    pub fn new(segment: FileHeader, first: Lsn, end: Lsn) -> (Self, [u8; BLOCK_BYTES]) {
        // With the segment's id, so that it belongs to this use of the segment only.
        let header = FileHeader { kind: FileKind::Hint, lsn: first, bytes: 0, ..segment };
        let frame = vec![0; FRAME_HEADER_BYTES];
        (Self { segment, expected: first, end, position: Lsn(0), frame, is_done: false }, header.encode())
    }

    /// Returns true if the hint is whole.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Takes a piece of the segment, which begins with a frame at `offset`; appends bytes of the hint's file to `out`. Returns
    /// the number of bytes used; the rest is the beginning of a frame, unless the hint [is done](Self::is_done).
    ///
    /// # Errors
    /// [`NoHint`] if the segment can have no hint.
    pub fn take(&mut self, bytes: &[u8], offset: u64, out: &mut Vec<u8>) -> Result<usize, NoHint> {
        let mut at = 0;
        while !self.is_done {
            if self.expected == self.end {
                self.finish(out);
                break;
            }
            let here = offset + at as u64;
            match FrameHeader::decode(&bytes[at..], self.segment.id) {
                Ok((header, _)) if header.lsn != self.expected => return Err(NoHint::Damaged(here)),
                Ok((header, records)) => {
                    match header.kind {
                        FrameKind::Seal => {}
                        FrameKind::Continued => return Err(NoHint::Pieces),
                        FrameKind::Records => self.records(records, here, out)?,
                    }
                    at += frame_bytes(records.len());
                }
                Err(Invalid::Short(_)) => break,
                Err(_) => return Err(NoHint::Damaged(here)),
            }
        }
        Ok(at)
    }

    fn records(&mut self, records: &[u8], offset: u64, out: &mut Vec<u8>) -> Result<(), NoHint> {
        let mut used = 0;
        while used < records.len() {
            match Record::decode(&records[used..]) {
                Ok(Some((record, length))) => {
                    match record {
                        Record::Together(together) => {
                            let each: Result<Vec<_>, _> = together.each().collect();
                            for record in each.map_err(|Malformed| NoHint::Damaged(offset))? {
                                self.record(record, records, offset, out);
                            }
                        }
                        record => self.record(record, records, offset, out),
                    }
                    used += length;
                }
                // The beginning of a command that was cut off: the next life of the server continued before it.
                Ok(None) if self.expected.after(used) == self.end => break,
                Ok(None) => return Err(NoHint::Pieces),
                Err(Malformed) => return Err(NoHint::Damaged(offset)),
            }
        }
        self.expected = self.expected.after(used);
        Ok(())
    }

    fn record(&mut self, record: Record<'_>, records: &[u8], offset: u64, out: &mut Vec<u8>) {
        let (line, bytes) = match record {
            Record::Put { key, value, expires_at } | Record::Again { key, value, expires_at } => {
                let within = value.as_ptr().addr() - records.as_ptr().addr();
                let at = offset + (FRAME_HEADER_BYTES + within) as u64;
                let inline = Some(value).filter(|value| value.len() <= INLINE_BYTES_MAX);
                let placed = Placed {
                    key,
                    length: value.len(),
                    offset: u32::try_from(at).expect("a segment is at most 4 GiB"),
                    checksum: crc32c::crc32c(value),
                    expires_at,
                    value: inline,
                    is_again: matches!(record, Record::Again { .. }),
                };
                (Line::Placed(placed), key.len() + INLINE_BYTES_MAX)
            }
            Record::Expire { key, .. } | Record::Remove { key } => (Line::Record(record), key.len()),
            Record::Clear | Record::Together(_) => (Line::Record(record), 0),
            Record::ClearSlots(_) => (Line::Record(record), SLOT_SET_BYTES),
            Record::Versions(versions) => (Line::Record(record), versions.bytes()),
        };
        if FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX < self.frame.len() + LINE_HEADER_BYTES_MAX + bytes {
            self.cut(FrameKind::Records, Lsn(0), out);
        }
        line.encode(&mut self.frame);
    }

    /// Ends the hint with a seal that has the segment's end.
    fn finish(&mut self, out: &mut Vec<u8>) {
        if FRAME_HEADER_BYTES < self.frame.len() {
            self.cut(FrameKind::Records, Lsn(0), out);
        }
        self.cut(FrameKind::Seal, self.end, out);
        self.is_done = true;
    }

    fn cut(&mut self, kind: FrameKind, synced: Lsn, out: &mut Vec<u8>) {
        let length = self.frame.len() - FRAME_HEADER_BYTES;
        self.frame.resize(frame_bytes(length), 0);
        let header = FrameHeader { kind, file: self.segment.id, lsn: self.position, synced, length: length as u32 };
        // In the segment's version: the hint of a segment of version 1 is the one that version 1 would have written.
        header.seal_as(self.segment.version, &mut self.frame);
        out.extend_from_slice(&self.frame);
        self.position = self.position.after(length);
        self.frame.truncate(FRAME_HEADER_BYTES);
    }
}

#[cfg(test)]
mod tests;
