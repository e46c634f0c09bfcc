//! Segments: allocated and made ready before they are needed, released after use, and reused under another identity.
//!
//! A write to blocks that were written before needs no commit of the file system's journal, so a segment is filled with zeros
//! before it is used.

use super::{Files, Layout, SPARES_MAX, SPARES_MAX_FULL, is_full};
use crate::wal::{
    Lsn, Report,
    aligned::Aligned,
    frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileId, FileKind, FrameHeader, FrameKind, Invalid, frame_bytes},
    names,
    room::Grow,
};
use std::{
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
};

/// A segment that can be written to.
#[derive(Debug)]
pub struct Segment<T> {
    /// Its file, opened for the log's frames.
    pub file: Arc<T>,
    /// The identity of this use of it.
    pub id: FileId,
    /// Its number in the sequence of segments.
    pub number: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The position at which a log continues after a start.
#[derive(Debug)]
pub struct Beginning<T> {
    /// The segment that is written to.
    pub active: Segment<T>,
    /// The offset of its next frame.
    pub offset: u64,
    /// True if its last frame is a seal, or it has no frame.
    pub is_sealed: bool,
    /// The position of the next record.
    pub start: Lsn,
    /// The number that the next segment takes.
    pub next_number: u64,
    /// True if the segment was made ready for this start; false if it is the last one of the log that was found.
    pub is_fresh: bool,
}

/// A segment that is needed and not written to any more.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// Its number.
    pub number: u64,
    /// The position of its first frame.
    pub first: Lsn,
    /// The position of the next segment's first frame.
    pub end: Lsn,
}

impl<F: Files> Layout<F> {
    /// Creates a file with the size of a segment and allocates its blocks. Removes it if that fails.
    pub(super) fn allocate_file(&self, name: &str) -> io::Result<()> {
        let allocate = || {
            let file = self.files.create(name)?;
            if self.files.reserve(&file, self.segment_bytes)? {
                return Ok(());
            }
            self.fill(&file, &mut Aligned::new(FRAME_BYTES_MAX))
        };
        allocate().inspect_err(|_| drop(self.files.remove(name)))
    }

    /// Makes a segment ready, from a spare one. `end`: the position up to which the log is on disk. `spares_left`: the number
    /// of spare segments that there have to be afterwards. Call [`delivered`](Self::delivered) when the segment is taken.
    ///
    /// # Errors
    /// Those of the file system; no segment is used up then.
    pub fn prepare(&self, number: u64, id: FileId, end: Lsn, spares_left: u64) -> io::Result<Segment<F::File>> {
        // One by one, since each of them is useful even if there is no room for the others.
        while self.spares() <= spares_left {
            self.allocate(1)?;
        }
        let name = names::name_of(FileKind::Segment, number);
        let unfinished = names::unfinished(&name);
        let header = self.header(FileKind::Segment, id, number, end, self.segment_bytes);
        let mut buffer = Aligned::new(FRAME_BYTES_MAX);
        self.spares.held.fetch_add(1, Ordering::Relaxed);
        let is_unwritten = self.take_spare(&unfinished).inspect_err(|_| {
            self.spares.held.fetch_sub(1, Ordering::Relaxed);
        })?;
        let mut finish = || {
            if is_unwritten {
                self.fill(&self.files.open(&unfinished)?, &mut buffer)?;
            }
            buffer.bytes_mut()[..BLOCK_BYTES].copy_from_slice(&header);
            let file = self.files.open_segment(&unfinished)?;
            self.files.write_at(&file, &buffer.bytes()[..BLOCK_BYTES], 0)?;
            self.files.sync(&file)?;
            self.files.rename(&unfinished, &name)?;
            // Its name may not be on disk, so it must not be used as a segment.
            self.files.sync_directory().inspect_err(|_| drop(self.files.rename(&name, &unfinished)))?;
            Ok(Segment { file: Arc::new(file), id, number, bytes: self.segment_bytes })
        };
        finish().inspect_err(|_| {
            if !self.set_aside(&unfinished) {
                self.spares.discount(1);
            }
            self.spares.held.fetch_sub(1, Ordering::Relaxed);
        })
    }

    /// Fills a segment with zeros, and syncs it.
    fn fill(&self, file: &F::File, zeros: &mut Aligned) -> io::Result<()> {
        zeros.bytes_mut().fill(0);
        let mut at = 0;
        while at < self.segment_bytes {
            let length = (self.segment_bytes - at).min(zeros.bytes().len() as u64);
            self.files.write_at(file, &zeros.bytes()[..length as usize], at)?;
            at += length;
        }
        self.files.sync(file)
    }

    /// Releases segments that are not needed any more: makes spare ones of them, or removes them. `is_full`: as few spare ones
    /// as possible are kept. Segments that do not exist are skipped, so that a failed release can be repeated.
    ///
    /// # Errors
    /// Those of the file system. The segments from the one that failed on are left, so that there is never a gap in the log;
    /// the next recovery reads them again, to no effect.
    pub fn release(&self, numbers: &[u64], is_full: bool) -> io::Result<()> {
        let max = if is_full { SPARES_MAX_FULL } else { SPARES_MAX };
        let changing = self.spares.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let released = numbers.iter().try_for_each(|&number| {
            self.remove_hint(number)?;
            let (name, spare) = (names::name_of(FileKind::Segment, number), names::spare_name(number));
            let bytes = match self.files.size_of(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                bytes => bytes?,
            };
            let is_of_use = bytes == self.segment_bytes && self.spares() < max;
            if is_of_use && !self.files.names()?.contains(&spare) && self.files.rename(&name, &spare).is_ok() {
                self.spares.count(1);
                return Ok(());
            }
            self.files.remove(&name)
        });
        drop(changing);
        self.end_loan(false);
        self.try_again();
        // Also after an error: the new name of a spare segment must be on disk before the file is used again.
        self.files.sync_directory()?;
        released
    }

    /// Decides where the log continues that a start has read: in a fresh segment if the disk has room for one beside the
    /// reserve, else in the last one, so that a start takes no room. `saved`: the position of the snapshot. `id`: the identity
    /// of a fresh segment. Removes segments from the report that are not needed any more.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn begin_log(&self, report: &mut Report, saved: Lsn, id: FileId) -> io::Result<Beginning<F::File>> {
        // The last write of a server that was killed may have been written and not synced. Clients are shown it from now on, so
        // it must survive, and so must the log before the records that follow.
        if let Some((number, _)) = report.segments.iter().rfind(|(_, first)| first.is_some()) {
            self.files.sync(&self.files.open(&names::name_of(FileKind::Segment, *number))?)?;
        }
        // Segments that the last start had made ready and not used are used first. Those with the rest of a command that was
        // cut off are released from the last on, so that there is never a gap in it.
        let unused: Vec<_> = report.segments.extract_if(.., |(_, first)| first.is_none()).collect();
        unused.iter().rev().try_for_each(|(number, _)| self.release(&[*number], false))?;
        match self.begin_fresh(report, id, 1) {
            Err(error) if is_full(&error) => {}
            other => return other,
        }
        let covered = covered(report, saved);
        if !covered.is_empty() {
            self.release(&covered, true)?;
            report.segments.retain(|(number, _)| !covered.contains(number));
            match self.begin_fresh(report, id, 1) {
                Err(error) if is_full(&error) => {}
                other => return other,
            }
        }
        // Not after a loss: what is written behind damage could not be told from it.
        if let Some((number, _)) = report.segments.last().filter(|_| report.lost.is_empty())
            && let Some(beginning) = self.go_on(*number, report)?
        {
            return Ok(beginning);
        }
        self.begin_fresh(report, id, 0)
    }

    /// Continues the log in a fresh segment. `spares_left`: the number of spare segments that there have to be afterwards.
    fn begin_fresh(&self, report: &Report, id: FileId, spares_left: u64) -> io::Result<Beginning<F::File>> {
        let active = self.prepare(report.next_segment, id, report.end, spares_left)?;
        self.delivered();
        let (offset, next_number) = (BLOCK_BYTES as u64, active.number + 1);
        Ok(Beginning { active, offset, is_sealed: true, start: report.end, next_number, is_fresh: true })
    }

    /// Continues the log in its last segment, which takes no room on disk.
    ///
    /// Frames behind the last whole command are overwritten with zeros, so that none of them can be taken for a part of what is
    /// written there next. Returns `None` if the segment is not in a state that allows this.
    fn go_on(&self, number: u64, report: &Report) -> io::Result<Option<Beginning<F::File>>> {
        let end = report.end;
        let name = names::name_of(FileKind::Segment, number);
        let file = self.files.open(&name)?;
        let bytes = self.files.size(&file)?;
        let mut frames =
            Frames { files: &self.files, file: &file, bytes, buffer: Aligned::new(READ_BYTES), read: 0..0 };
        let Some(header) =
            frames.header()?.filter(|header| header.wrong_size(bytes).is_none() && header.number == number)
        else {
            return Ok(None);
        };
        let (mut offset, mut reached, mut is_sealed) = (BLOCK_BYTES as u64, None, false);
        while let Some((frame, length)) = frames.at(offset, header.id)? {
            if frame.lsn == end && frame.kind != FrameKind::Seal {
                reached = Some(end);
                break;
            }
            offset += length as u64;
            is_sealed = frame.kind == FrameKind::Seal;
            reached = Some(frame.lsn.after(frame.length as usize));
        }
        let has_room = is_sealed || offset + BLOCK_BYTES as u64 <= bytes;
        if reached != Some(end) || !has_room {
            return Ok(None);
        }
        // Frames of a command whose last frame was never written.
        let (mut void, mut at) = (Vec::new(), offset);
        while let Some((_, length)) = frames.at(at, header.id)? {
            void.push((at, length as u64));
            at += length as u64;
        }
        // The hint has the segment's end, which is about to change.
        if self.remove_hint(number)? {
            self.files.sync_directory()?;
        }
        // First the frame that was being written, then the others from the last on, so that none is ever behind a gap.
        let zeros = Aligned::new(FRAME_BYTES_MAX);
        let torn = (at, (bytes - at).min(FRAME_BYTES_MAX as u64));
        for (at, length) in std::iter::once(torn).chain(void.into_iter().rev()).filter(|(_, length)| 0 < *length) {
            self.files.write_at(&file, &zeros.bytes()[..length as usize], at)?;
            self.files.sync(&file)?;
        }
        drop(file);
        let active = Segment { file: Arc::new(self.files.open_segment(&name)?), id: header.id, number, bytes };
        let next_number = report.next_segment;
        Ok(Some(Beginning { active, offset, is_sealed, start: end, next_number, is_fresh: false }))
    }
}

/// Returns the segments that end at or before `saved`, the position of the snapshot, and so are not needed.
fn covered(report: &Report, saved: Lsn) -> Vec<u64> {
    if !report.lost.is_empty() {
        return Vec::new();
    }
    let ends = report.segments.iter().skip(1).map(|(_, first)| first.unwrap_or(report.end)).chain([report.end]);
    let segments = report.segments.iter().map(|(number, _)| *number).zip(ends);
    segments.take_while(|(_, end)| *end <= saved).map(|(number, _)| number).collect()
}

/// The bytes of a segment that are read at once: more than the largest frame.
const READ_BYTES: usize = 2 * FRAME_BYTES_MAX;

/// A reader of the frames of a segment, one after the other.
struct Frames<'a, F: Files> {
    files: &'a F,
    file: &'a F::File,
    bytes: u64,
    buffer: Aligned,
    /// The part of the file that is in the buffer.
    read: std::ops::Range<u64>,
}

impl<F: Files> Frames<'_, F> {
    /// Returns the segment's header, if it is valid.
    fn header(&mut self) -> io::Result<Option<FileHeader>> {
        self.load(0)?;
        Ok(FileHeader::decode(self.loaded(0)).ok())
    }

    /// Returns the header of the frame at an offset, if that is whole, and the frame's bytes.
    fn at(&mut self, offset: u64, id: FileId) -> io::Result<Option<(FrameHeader, usize)>> {
        if !self.read.contains(&offset) {
            self.load(offset)?;
        }
        let is_short = matches!(FrameHeader::decode(self.loaded(offset), id), Err(Invalid::Short(_)));
        if is_short && offset != self.read.start && self.read.end < self.bytes {
            self.load(offset)?;
        }
        let frame = FrameHeader::decode(self.loaded(offset), id).ok();
        Ok(frame.map(|(header, records)| (header, frame_bytes(records.len()))))
    }

    fn loaded(&self, offset: u64) -> &[u8] {
        let length = (self.read.end - self.read.start) as usize;
        &self.buffer.bytes()[(offset - self.read.start) as usize..length]
    }

    fn load(&mut self, offset: u64) -> io::Result<()> {
        let length = whole_blocks(self.bytes.saturating_sub(offset)).min(READ_BYTES);
        self.files.read_at(self.file, &mut self.buffer.bytes_mut()[..length], offset)?;
        self.read = offset..offset + length as u64;
        Ok(())
    }
}

/// Returns the bytes of the whole blocks in `bytes`: direct reads read whole blocks only, and a file that was cut short may end
/// inside one.
pub(super) fn whole_blocks(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX) / BLOCK_BYTES * BLOCK_BYTES
}

/// The allocation of segments while the core waits, for a write that does not fit into those that are ready. It takes
/// milliseconds if the file system can allocate without writing.
#[derive(Debug)]
pub struct Growth<F>(pub Layout<F>);

impl<F: Files> Grow for Growth<F> {
    fn spares(&self) -> u64 {
        self.0.spares()
    }

    fn allocated(&self) -> u64 {
        self.0.allocated()
    }

    fn note_delivered(&mut self) {
        self.0.delivered();
    }

    fn try_again(&mut self) {
        self.0.try_again();
    }

    fn grow(&mut self, segments: u64) -> bool {
        self.0.allocate(segments).is_ok()
    }
}
