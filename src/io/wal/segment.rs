//! Segments as files: made ready ahead of need, used once, and used again under another identity.
//!
//! All of this blocks, and runs on the core's blocking thread. Blocks that were written before are written without a commit of
//! the file system's journal, so a segment is filled with zeros before it is used.

use crate::{
    io::{aligned::Aligned, directory::ShardFiles},
    wal::{
        Lsn,
        frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileId, FileKind},
    },
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// How a shard's files are written.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Where they are, and whose.
    pub files: ShardFiles,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Whether the file system takes direct I/O.
    pub is_direct: bool,
}

/// A segment that can be written to.
#[derive(Debug)]
pub struct Segment {
    /// Every write to it is on disk when it completes.
    pub file: Arc<File>,
    /// This use of it.
    pub id: FileId,
    /// Its place in the sequence.
    pub number: u64,
    /// Its size.
    pub bytes: u64,
}

/// Spare segments that are kept: what a burst between two snapshots is glad of.
const SPARES_MAX: usize = 4;

impl Layout {
    pub(in crate::io) fn options(&self, flags: i32) -> OpenOptions {
        let direct = if self.is_direct { libc::O_DIRECT } else { 0 };
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags | direct);
        options
    }

    /// Makes a segment ready: of a spare one where there is one, else of zeros. `end` is how far the log is on disk.
    ///
    /// # Errors
    /// What the file system says; nothing is left behind then.
    pub fn prepare(&self, number: u64, id: FileId, end: Lsn) -> io::Result<Segment> {
        let path = self.files.path_of(FileKind::Segment, number);
        let header = FileHeader {
            kind: FileKind::Segment,
            shard: self.files.shard(),
            directory: self.files.directory(),
            id,
            number,
            lsn: end,
        };
        let mut buffer = Aligned::new(FRAME_BYTES_MAX);
        let unfinished = match self.take_spare()? {
            Some(spare) => spare,
            None => self.fill(self.files.unfinished_path_of(FileKind::Segment, number), &mut buffer)?,
        };
        buffer.bytes_mut()[..BLOCK_BYTES].copy_from_slice(&header.encode());
        let finish = || {
            let file = self.options(libc::O_DSYNC).open(&unfinished)?;
            file.write_all_at(&buffer.bytes()[..BLOCK_BYTES], 0)?;
            fs::rename(&unfinished, &path)?;
            self.files.sync()?;
            Ok(Segment { file: Arc::new(file), id, number, bytes: self.segment_bytes })
        };
        finish().inspect_err(|_| drop(fs::remove_file(&unfinished)))
    }

    fn fill(&self, path: PathBuf, zeros: &mut Aligned) -> io::Result<PathBuf> {
        let fill = || {
            let file = self.options(0).create(true).truncate(true).open(&path)?;
            // In one piece where that can be had; where it can't, the zeros take the room all the same.
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.segment_bytes) {
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
            let mut at = 0;
            while at < self.segment_bytes {
                let length = (self.segment_bytes - at).min(zeros.bytes().len() as u64);
                file.write_all_at(&zeros.bytes()[..length as usize], at)?;
                at += length;
            }
            file.sync_all()
        };
        match fill() {
            Ok(()) => Ok(path),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// A spare segment of the right size; those of another are removed.
    fn take_spare(&self) -> io::Result<Option<PathBuf>> {
        for number in self.files.spares()? {
            let spare = self.files.spare_path(number);
            if fs::metadata(&spare)?.len() == self.segment_bytes {
                return Ok(Some(spare));
            }
            fs::remove_file(&spare)?;
        }
        Ok(None)
    }

    /// Sets segments aside that hold nothing any more which a snapshot does not: for the next use, or for good.
    ///
    /// # Errors
    /// What the file system says. What is left is read again by the next recovery, to no effect.
    pub fn release(&self, numbers: &[u64]) -> io::Result<()> {
        let mut spares = self.files.spares()?.len();
        for &number in numbers {
            let path = self.files.path_of(FileKind::Segment, number);
            if fs::metadata(&path)?.len() == self.segment_bytes && spares < SPARES_MAX {
                fs::rename(&path, self.files.spare_path(number))?;
                spares += 1;
            } else {
                fs::remove_file(&path)?;
            }
        }
        self.files.sync()
    }
}

/// Whether files in this directory can be written directly, past the kernel's cache.
pub fn probe_direct(directory: &Path) -> io::Result<bool> {
    let path = directory.join("probe.tmp");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC);
    let written = options.open(&path).and_then(|file| file.write_all_at(Aligned::new(BLOCK_BYTES).bytes(), 0));
    let _ = fs::remove_file(&path);
    match written {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(false),
        Err(error) => Err(error),
    }
}
