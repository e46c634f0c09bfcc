//! Snapshots, and where the log begins; and what compaction reads.

use super::{Files, KEPT, Layout, is_full, segments::whole_blocks};
use crate::wal::{
    Log, Lsn,
    aligned::Aligned,
    each_value,
    frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileId, FileKind},
    names,
};
use std::{io, ops::Range};

/// Bytes of a segment that are read at once: more than the largest frame.
const READ_BYTES: usize = 2 * FRAME_BYTES_MAX;
/// Bytes of a snapshot without keys: its header, its seal, and the versions of all slots, with up to seven bytes each.
const BEGINNING_BYTES: usize = 34 * BLOCK_BYTES;

/// A piece of a segment, and the places of keys and values in it.
#[derive(Debug)]
pub struct Chunk {
    /// The bytes.
    pub buffer: Aligned,
    /// The keys and values in them.
    pub found: Vec<(Range<usize>, Range<usize>)>,
    /// This use of the segment.
    pub id: FileId,
    /// The piece's offset in the segment, and that of the next.
    pub offset: u64,
    /// The offset of the next piece.
    pub next: u64,
    /// Whether there is none.
    pub is_last: bool,
}

/// The name of a snapshot until it is whole.
fn unfinished(since: Lsn) -> String {
    names::unfinished(&names::name_of(FileKind::Snapshot, since.0))
}

impl<F: Files> Layout<F> {
    /// Makes the file that a snapshot is written to until it is whole. `is_full`: the disk is, so it is made of the reserve, or
    /// else of what is kept for the next beginning of the log, in which a snapshot without keys fits.
    ///
    /// # Errors
    /// As the file system says.
    pub fn begin_snapshot(&self, id: FileId, since: Lsn, is_full: bool) -> io::Result<F::File> {
        let name = unfinished(since);
        let is_lent = is_full && (self.lend_spare(&name)? || self.files.rename(KEPT, &name).is_ok());
        self.begin_snapshot_in(&name, !is_lent, id, since)
    }

    /// Makes that file: an empty one, or what is there already.
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
    /// As the file system says.
    pub fn open_snapshot(&self, since: Lsn) -> io::Result<F::File> {
        self.files.open(&unfinished(since))
    }

    /// Makes a whole snapshot of so many bytes count, and removes those before it, but for damaged ones. Returns its size.
    ///
    /// # Errors
    /// As the file system says.
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

    /// Gives up a snapshot that is not finished, and with it the room that it has taken.
    pub fn drop_snapshot(&self, since: Lsn) {
        let is_spare = self.set_aside(&unfinished(since));
        self.end_loan(is_spare);
        self.keep_beginning();
    }

    /// Writes down that the log begins at `begin`: a snapshot without keys. `persisted`: how far the log is on disk.
    ///
    /// # Errors
    /// As the file system says.
    pub fn write_beginning(&self, id: FileId, begin: Lsn, persisted: Lsn) -> io::Result<()> {
        let write = |file: io::Result<F::File>| {
            let file = file?;
            let mut buffer = Aligned::new(BLOCK_BYTES);
            let length = Log::new(Lsn(0), false).seal(id, persisted, buffer.bytes_mut());
            self.files.write_at(&file, &buffer.bytes()[..length], BLOCK_BYTES as u64)?;
            self.finish_snapshot(&file, begin, (BLOCK_BYTES + length) as u64).map(drop)
        };
        let name = unfinished(begin);
        // What is kept for it comes first: the reserve is for those who delete keys at this very moment.
        let mut written = match self.files.rename(KEPT, &name) {
            Ok(()) => write(self.begin_snapshot_in(&name, false, id, begin)),
            Err(_) => write(self.begin_snapshot(id, begin, false)),
        };
        if written.as_ref().is_err_and(is_full) {
            self.drop_snapshot(begin);
            // The segment that is given up then takes the place of the reserve.
            written = write(self.begin_snapshot(id, begin, true));
        }
        if written.is_err() {
            self.drop_snapshot(begin);
        }
        written
    }

    /// Keeps room on disk for the next [`write_beginning`](Self::write_beginning): without it a disk that is full to the last
    /// block could not give up a segment. If there is none now, the next segment that goes makes some.
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

    /// Reads a piece of a segment, from its beginning on where `id` is not known yet.
    ///
    /// # Errors
    /// As the file system says.
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
        // A frame that its file is too short for is none.
        let next = offset + begin as u64 + used.max(BLOCK_BYTES) as u64;
        Ok(Chunk { buffer, found, id, offset, next, is_last: size <= next })
    }
}
