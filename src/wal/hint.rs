//! Hints: what a segment holds but for its values, so that a start need not read these.
//!
//! A hint is a file of frames like any other, made of a segment that is not written to any more: each of its records, but in
//! place of a value that is longer than a few bytes, where in the segment it is and its checksum. It is derived: whoever does
//! not find one, or does not believe it, reads the segment. `README.md` draws the bytes.

use super::{
    Lsn, Malformed, Record, SLOT_SET_BYTES,
    frame::{
        BLOCK_BYTES, FRAME_HEADER_BYTES, FileHeader, FileKind, FrameHeader, FrameKind, Invalid, PAYLOAD_BYTES_MAX,
        frame_bytes,
    },
    record::{Cursor, put_expiry, put_length},
};
use crate::time::UnixMillis;

/// A value of so few bytes stands in the hint itself: to let it go would save nothing.
const INLINE_BYTES_MAX: usize = 32;
/// Bytes of a line before its key, at most.
const LINE_HEADER_BYTES_MAX: usize = 25;

/// A line of a hint begins with this, or with a record's kind.
const PLACED: u8 = 8;
/// ... and these bits say that it has an expiry, that it has the value,
const UNTIL: u8 = 1;
const INLINE: u8 = 2;
/// ... and this one, that it was in the log before: it is no effect of its own.
const AGAIN: u8 = 4;

/// A key whose value is in the segment, in one piece.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Placed<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value's length in bytes.
    pub length: usize,
    /// Its offset in the segment.
    pub offset: u32,
    /// Its CRC-32C.
    pub checksum: u32,
    /// When the key ceases to exist.
    pub expires_at: Option<UnixMillis>,
    /// The value itself, where it is short.
    pub value: Option<&'a [u8]>,
    /// It is a [`Record::Again`].
    pub is_again: bool,
}

/// One line of a hint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Line<'a> {
    /// A [`Record::Put`] or a [`Record::Again`], but for its value.
    Placed(Placed<'a>),
    /// Any other record, as it is. Those of one command stand one after the other: all of them were on disk.
    Record(Record<'a>),
}

/// Why there is no hint of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoHint {
    /// A record is in several pieces. A value of that size stays in memory, so a start has to read it.
    Pieces,
    /// The segment is not what was written: there is no whole frame at this offset, or one that does not belong there.
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

    /// Reads the line that begins here, and how long it is.
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

/// Shows the lines of a hint's frame.
///
/// # Errors
/// [`Malformed`]: these bytes are none.
pub fn each_line(mut payload: &[u8], mut visit: impl FnMut(Line<'_>)) -> Result<(), Malformed> {
    while !payload.is_empty() {
        let (line, length) = Line::decode(payload)?;
        visit(line);
        payload = &payload[length..];
    }
    Ok(())
}

/// A hint in the making: shown a segment's frames in order, it gives the bytes of the hint's file.
#[derive(Debug)]
pub struct Hinting {
    segment: FileHeader,
    /// The position of the segment's next frame, and where the next segment goes on.
    expected: Lsn,
    end: Lsn,
    /// Where in the hint's own stream its next frame is.
    position: Lsn,
    /// The next frame, with room for its header.
    frame: Vec<u8>,
    is_done: bool,
}

impl Hinting {
    /// Begins with a segment's header. `first`: the position of its first frame; `end`: of the next segment's. Also gives the
    /// first block of the hint's file.
    pub fn new(segment: FileHeader, first: Lsn, end: Lsn) -> (Self, [u8; BLOCK_BYTES]) {
        // Of this very use of the segment: another has another id.
        let header = FileHeader { kind: FileKind::Hint, lsn: first, bytes: 0, ..segment };
        let frame = vec![0; FRAME_HEADER_BYTES];
        (Self { segment, expected: first, end, position: Lsn(0), frame, is_done: false }, header.encode())
    }

    /// Whether the hint is whole.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Takes a piece of the segment, which begins with a frame at `offset`; appends what goes into the hint's file to `out`.
    /// Returns how many bytes were used; the rest is the beginning of a frame, unless the hint [is done](Self::is_done).
    ///
    /// # Errors
    /// [`NoHint`]: there can be none.
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
                // The beginning of a command whose end never came: the next life of the server went on before it.
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

    /// Ends with a seal that says where the segment does.
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
        // As the segment: a hint of one that version 1 has written is what that would have made of it.
        header.seal_as(self.segment.version, &mut self.frame);
        out.extend_from_slice(&self.frame);
        self.position = self.position.after(length);
        self.frame.truncate(FRAME_HEADER_BYTES);
    }
}

#[cfg(test)]
mod tests;
