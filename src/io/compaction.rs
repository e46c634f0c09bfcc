//! The pieces of segments that are given up, and the file that says where the log begins.

use super::wal::segment::Layout;
use crate::wal::{
    Aligned, Chunk, Log, Lsn, each_value,
    frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileId, FileKind},
};
use std::{fs, fs::File, io, os::unix::fs::FileExt, path::PathBuf};

/// Bytes of a segment that are read at once: more than the largest frame.
const READ_BYTES: usize = 2 * FRAME_BYTES_MAX;

/// The bytes of the whole blocks among so many: direct reads take no others, and a file that was cut short may end in half of one.
pub(super) fn whole_blocks(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX) / BLOCK_BYTES * BLOCK_BYTES
}

impl Layout {
    /// Reads a piece of a segment, from its beginning on where `id` is not known yet.
    pub(super) fn read_values(&self, segment: u32, id: Option<FileId>, offset: u64) -> io::Result<Chunk> {
        let path = self.files.path_of(FileKind::Segment, segment.into());
        let file = self.options(0).write(false).open(path)?;
        let size = file.metadata()?.len();
        let mut buffer = Aligned::new(READ_BYTES);
        let length = whole_blocks(size.saturating_sub(offset)).min(READ_BYTES);
        file.read_exact_at(&mut buffer.bytes_mut()[..length], offset)?;
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

    /// Writes down that the log begins at `begin`: a snapshot without keys. `persisted`: how far the log is on disk.
    pub(super) fn write_beginning(&self, id: FileId, begin: Lsn, persisted: Lsn) -> io::Result<()> {
        let write = |file: io::Result<File>| {
            let file = file?;
            let mut buffer = Aligned::new(BLOCK_BYTES);
            let length = Log::new(Lsn(0), false).seal(id, persisted, buffer.bytes_mut());
            file.write_all_at(&buffer.bytes()[..length], BLOCK_BYTES as u64)?;
            self.finish_snapshot(&file, begin, (BLOCK_BYTES + length) as u64)
        };
        let path = self.files.unfinished_path_of(FileKind::Snapshot, begin.0);
        let give_up = |_: &io::Error| self.take_back(&path);
        let has_no_room = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
        let mut written = write(self.begin_snapshot(id, begin, false)).inspect_err(give_up);
        if written.as_ref().is_err_and(has_no_room) && fs::rename(self.kept_path(), &path).is_ok() {
            written = write(self.begin_snapshot_in(&path, false, id, begin)).inspect_err(give_up);
        }
        if written.as_ref().is_err_and(has_no_room) {
            // The segment that is given up then takes the place of the reserve.
            written = write(self.begin_snapshot(id, begin, true)).inspect_err(give_up);
        }
        self.keep_beginning();
        written.map(drop)
    }

    /// Keeps room on disk for the next [`write_beginning`](Self::write_beginning): without it a disk that is full to the last
    /// block could not give up a segment. If there is none now, the next segment that goes makes some.
    pub(super) fn keep_beginning(&self) {
        let path = self.kept_path();
        let keep = || {
            if fs::metadata(&path).is_ok_and(|kept| kept.len() == 2 * BLOCK_BYTES as u64) {
                return Ok(());
            }
            let file = self.options(0).create(true).truncate(true).open(&path)?;
            file.write_all_at(Aligned::new(2 * BLOCK_BYTES).bytes(), 0)?;
            file.sync_all()
        };
        if keep().is_err() {
            let _ = fs::remove_file(&path);
        }
    }

    fn kept_path(&self) -> PathBuf {
        self.files.path().join("beginning")
    }
}
