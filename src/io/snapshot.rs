//! The file of a snapshot.

use super::wal::segment::Layout;
use crate::wal::{
    Aligned, Lsn,
    frame::{BLOCK_BYTES, FileHeader, FileId, FileKind},
};
use std::{fs, fs::File, io, os::unix::fs::FileExt, path::Path};

impl Layout {
    /// Makes the file that a snapshot is written to until it is whole: where `is_full`, of the reserve if there is one.
    pub(super) fn begin_snapshot(&self, id: FileId, since: Lsn, is_full: bool) -> io::Result<File> {
        let path = self.files.unfinished_path_of(FileKind::Snapshot, since.0);
        let is_lent = is_full && self.lend_spare(&path)?;
        self.begin_snapshot_in(&path, !is_lent, id, since)
    }

    /// Makes that file at a path: an empty one, or what is there already.
    pub(super) fn begin_snapshot_in(&self, path: &Path, is_new: bool, id: FileId, since: Lsn) -> io::Result<File> {
        let file = self.options(0).create(true).truncate(is_new).open(path)?;
        let header = FileHeader {
            kind: FileKind::Snapshot,
            shard: self.files.shard(),
            directory: self.files.directory(),
            id,
            number: 0,
            lsn: since,
            bytes: 0,
        };
        let mut block = Aligned::new(BLOCK_BYTES);
        block.bytes_mut().copy_from_slice(&header.encode());
        file.write_all_at(block.bytes(), 0)?;
        Ok(file)
    }

    /// Opens the file that a snapshot is written to.
    pub(super) fn open_snapshot(&self, since: Lsn) -> io::Result<File> {
        self.options(0).open(self.files.unfinished_path_of(FileKind::Snapshot, since.0))
    }

    /// Makes a whole snapshot of so many bytes count, and removes those before it, but for damaged ones. Returns its size.
    pub(super) fn finish_snapshot(&self, file: &File, since: Lsn, bytes: u64) -> io::Result<u64> {
        file.set_len(bytes)?;
        file.sync_all()?;
        let unfinished = self.files.unfinished_path_of(FileKind::Snapshot, since.0);
        fs::rename(unfinished, self.files.path_of(FileKind::Snapshot, since.0))?;
        self.files.sync()?;
        for file in self.files.list()? {
            if file.kind == FileKind::Snapshot && file.number < since.0 && !self.is_damaged(&file) {
                fs::remove_file(self.files.path_of(FileKind::Snapshot, file.number))?;
            }
        }
        Ok(file.metadata()?.len())
    }
}
