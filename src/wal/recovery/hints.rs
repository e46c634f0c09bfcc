//! Reading of hints in place of segments.
//!
//! A hint has the same contents as its segment, or it is rejected and the segment is read: it only makes a start faster.

use super::{Damage, Found, Phase, READ_BYTES, Recovery, Source, Spot};
use crate::wal::{
    Line, Lsn, Placed, Record, each_line,
    frame::{BLOCK_BYTES, FileHeader, FileKind, FrameHeader, FrameKind, Invalid, frame_bytes},
};

/// The reason why a hint is rejected: it is not whole, or of another segment.
struct Unbelievable;

impl Recovery {
    /// Returns the position in `files` of a segment's hint, if it has one.
    pub(super) fn hint_of(&self, index: usize) -> Option<usize> {
        let number = self.files[self.segments[index].file].number;
        self.files.iter().position(|file| file.kind == FileKind::Hint && file.number == number)
    }

    /// Returns true if the hint of this segment is to be read: there is one, and the segment begins where the log continues.
    pub(super) fn would_believe_hint(&self, index: usize) -> bool {
        let goes_on = self.segments[index].first == Some(self.expected) && self.start <= self.expected;
        self.believes_hints && goes_on && self.partial.is_empty() && !self.is_lost && self.hint_of(index).is_some()
    }

    /// Begins to read the hint of a segment.
    pub(super) fn begin_hint(&mut self, index: usize) {
        self.phase = Phase::Hint(index);
        self.offset = 0;
        self.hint = (Lsn(0), 0);
    }

    /// Reads the next bytes of a hint. If it is rejected, its segment is read from the beginning.
    pub(super) fn read_hint(
        &mut self,
        index: usize,
        bytes: &[u8],
        apply: &mut impl FnMut(Found<'_>),
    ) -> Result<(), Damage> {
        match self.hint_frames(index, bytes, apply) {
            Ok(None) => Ok(()),
            Ok(Some(end)) => {
                self.expected = end;
                self.report.records += self.hint.1;
                self.report.hinted.push(self.files[self.segments[index].file].number);
                self.end_file(Source::Segment(index))
            }
            Err(Unbelievable) => {
                apply(Found::Rewind);
                self.phase = Phase::Frames(Source::Segment(index));
                self.offset = BLOCK_BYTES as u64;
                Ok(())
            }
        }
    }

    /// Reads the frames at the beginning of `bytes`. Returns the position of the segment's end with the hint's last frame.
    fn hint_frames(
        &mut self,
        index: usize,
        bytes: &[u8],
        apply: &mut impl FnMut(Found<'_>),
    ) -> Result<Option<Lsn>, Unbelievable> {
        let segment = self.segments[index];
        let number = self.files[segment.file].number;
        let mut at = 0;
        if self.offset == 0 {
            apply(Found::Mark);
            let header = FileHeader::decode(bytes).map_err(|_| Unbelievable)?;
            let wanted = FileHeader {
                version: header.version,
                kind: FileKind::Hint,
                shard: self.shard,
                directory: self.directory,
                id: segment.id,
                number,
                lsn: self.expected,
                bytes: 0,
            };
            if header != wanted {
                return Err(Unbelievable);
            }
            at = BLOCK_BYTES;
        }
        let segment_number = u32::try_from(number).map_err(|_| Unbelievable)?;
        loop {
            let (header, lines) = match FrameHeader::decode(bytes.get(at..).unwrap_or_default(), segment.id) {
                Ok(frame) => frame,
                Err(Invalid::Short(_)) if READ_BYTES <= bytes.len() => {
                    self.offset += at as u64;
                    return Ok(None);
                }
                Err(_) => return Err(Unbelievable),
            };
            if header.lsn != self.hint.0 {
                return Err(Unbelievable);
            }
            if header.kind == FrameKind::Seal {
                // The segment's end must be where the log continues in a later segment, or the hint is out of date.
                let goes_on = self.limit(Source::Segment(index)).is_none_or(|limit| limit == header.synced);
                let hint = self.hint_of(index).ok_or(Unbelievable)?;
                let is_end = self.files[hint].bytes == self.offset + (at + frame_bytes(0)) as u64;
                return if goes_on && is_end && self.expected <= header.synced {
                    Ok(Some(header.synced))
                } else {
                    Err(Unbelievable)
                };
            }
            let mut count = 0;
            let shown = each_line(lines, |line| {
                count += 1;
                apply(found(line, segment_number));
            });
            shown.map_err(|_| Unbelievable)?;
            self.hint = (self.hint.0.after(lines.len()), self.hint.1 + count);
            at += frame_bytes(lines.len());
        }
    }
}

/// Returns the item for a line of a segment's hint.
fn found(line: Line<'_>, segment: u32) -> Found<'_> {
    match line {
        Line::Placed(Placed { key, value: Some(value), expires_at, offset, is_again, .. }) => {
            let record = if is_again {
                Record::Again { key, value, expires_at }
            } else {
                Record::Put { key, value, expires_at }
            };
            Found::Record(record, Spot { segment, offset: Some(offset) })
        }
        Line::Placed(placed) => Found::Placed(placed, segment),
        Line::Record(record) => Found::Record(record, Spot { segment, offset: None }),
    }
}
