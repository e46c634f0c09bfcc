//! Snapshots, also those without keys, which say where the log begins; and reads of segments for compaction.

use super::{Files, KEPT, Layout, is_full, segments::whole_blocks};
use crate::wal::{
    Log, Lsn,
    aligned::Aligned,
    each_value,
    frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileId, FileKind},
    names,
};
use std::{io, ops::Range};

/// The bytes of a segment that are read at once: more than the largest frame.
const READ_BYTES: usize = 2 * FRAME_BYTES_MAX;
/// Bytes of a snapshot without keys: its header, its seal, and the versions of all slots, with up to seven bytes each.
const BEGINNING_BYTES: usize = 34 * BLOCK_BYTES;

/// A piece of a segment, and the places of keys and values in it.
#[derive(Debug)]
pub struct Chunk {
    /// The bytes.
    pub buffer: Aligned,
    /// The ranges of the keys and values in them.
    pub found: Vec<(Range<usize>, Range<usize>)>,
    /// The identity of this use of the segment.
    pub id: FileId,
    /// The piece's offset in the segment.
    pub offset: u64,
    /// The offset of the next piece.
    pub next: u64,
    /// True if there is no next piece.
    pub is_last: bool,
}

/// Returns the name of a snapshot until it is whole.
fn unfinished(since: Lsn) -> String {
    names::unfinished(&names::name_of(FileKind::Snapshot, since.0))
}

impl<F: Files> Layout<F> {
    /// Creates the unfinished file of a snapshot. `is_full`: the disk is full, so the file is made from a spare segment (the
    /// reserve), or else from the file that keeps room for a snapshot without keys.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn begin_snapshot(&self, id: FileId, since: Lsn, is_full: bool) -> io::Result<F::File> {
        let name = unfinished(since);
        let is_lent = is_full && (self.lend_spare(&name)? || self.files.rename(KEPT, &name).is_ok());
        self.begin_snapshot_in(&name, !is_lent, id, since)
    }

    /// Begins a snapshot in the file with this name. `is_new`: creates the file; if not, it exists.
    fn begin_snapshot_in(&self, name: &str, is_new: bool, id: FileId, since: Lsn) -> io::Result<F::File> {
        let file = if is_new { self.files.create(name)? } else { self.files.open(name)? };
        let mut block = Aligned::new(BLOCK_BYTES);
        block.bytes_mut().copy_from_slice(&self.header(FileKind::Snapshot, id, 0, since, 0));
        self.files.write_at(&file, block.bytes(), 0)?;
        Ok(file)
    }

    /// Opens the file of a snapshot that is not whole.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open_snapshot(&self, since: Lsn) -> io::Result<F::File> {
        self.files.open(&unfinished(since))
    }

    /// Makes a whole snapshot of this size count, and removes older ones that are not damaged. Returns its size.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn finish_snapshot(&self, file: &F::File, since: Lsn, bytes: u64) -> io::Result<u64> {
        self.files.resize(file, bytes)?;
        self.files.sync(file)?;
        self.files.rename(&unfinished(since), &names::name_of(FileKind::Snapshot, since.0))?;
        self.files.sync_directory()?;
        let is_older = |number: u64| number < since.0;
        for file in self.list()?.iter().filter(|file| file.kind == FileKind::Snapshot && is_older(file.number)) {
            if !self.is_damaged(file) {
                self.files.remove(&names::name_of(FileKind::Snapshot, file.number))?;
            }
        }
        self.keep_beginning();
        Ok(bytes)
    }

    /// Abandons a snapshot that is not finished, and frees the room that it has taken.
    pub fn drop_snapshot(&self, since: Lsn) {
        let is_spare = self.set_aside(&unfinished(since));
        self.end_loan(is_spare);
        self.keep_beginning();
    }

    /// Writes a snapshot without keys, which says that the log begins at `begin`. `persisted`: the position up to which the log
    /// is on disk.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_beginning(&self, id: FileId, begin: Lsn, persisted: Lsn) -> io::Result<()> {
        let write = |file: io::Result<F::File>| {
            let file = file?;
            let mut buffer = Aligned::new(BLOCK_BYTES);
            let length = Log::new(Lsn(0), false).seal(id, persisted, buffer.bytes_mut());
            self.files.write_at(&file, &buffer.bytes()[..length], BLOCK_BYTES as u64)?;
            self.finish_snapshot(&file, begin, (BLOCK_BYTES + length) as u64).map(drop)
        };
        let name = unfinished(begin);
        // Uses the room kept for it first: the reserve is for clients that delete keys at this moment.
        let mut written = match self.files.rename(KEPT, &name) {
            Ok(()) => write(self.begin_snapshot_in(&name, false, id, begin)),
            Err(_) => write(self.begin_snapshot(id, begin, false)),
        };
        if written.as_ref().is_err_and(is_full) {
            self.drop_snapshot(begin);
            // The segment that is released then replaces the reserve.
            written = write(self.begin_snapshot(id, begin, true));
        }
        if written.is_err() {
            self.drop_snapshot(begin);
        }
        written
    }

    /// Keeps room on disk for the next [`write_beginning`](Self::write_beginning): without it, no segment could be released on
    /// a disk that is full to the last block. If there is no room now, the next segment that is released makes some.
    pub fn keep_beginning(&self) {
        let keep = || {
            if self.files.size_of(KEPT).is_ok_and(|bytes| bytes == BEGINNING_BYTES as u64) {
                return Ok(());
            }
            let file = self.files.create(KEPT)?;
            self.files.write_at(&file, Aligned::new(BEGINNING_BYTES).bytes(), 0)?;
            self.files.sync(&file)
        };
        if keep().is_err() {
            let _ = self.files.remove(KEPT);
        }
    }

    /// Reads a piece of a segment; the first one if `id` is not known yet.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read_values(&self, segment: u32, id: Option<FileId>, offset: u64) -> io::Result<Chunk> {
        let file = self.files.open(&names::name_of(FileKind::Segment, segment.into()))?;
        let size = self.files.size(&file)?;
        let mut buffer = Aligned::new(READ_BYTES);
        let length = whole_blocks(size.saturating_sub(offset)).min(READ_BYTES);
        self.files.read_at(&file, &mut buffer.bytes_mut()[..length], offset)?;
        let bytes = &buffer.bytes()[..length];
        let (id, begin) = match id {
            Some(id) => (id, 0),
            None => {
                let header = FileHeader::decode(bytes)
                    .map_err(|invalid| io::Error::other(format!("its first block is none: {invalid:?}")))?;
                (header.id, BLOCK_BYTES.min(length))
            }
        };
        let mut found = Vec::new();
        let used = each_value(&bytes[begin..], id, |key, value| {
            found.push((key.start + begin..key.end + begin, value.start + begin..value.end + begin));
        });
        // A frame that the file is too short for is skipped.
        let next = offset + begin as u64 + used.max(BLOCK_BYTES) as u64;
        Ok(Chunk { buffer, found, id, offset, next, is_last: size <= next })
    }
}
