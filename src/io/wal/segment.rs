//! Segments as files: made ready ahead of need, used once, and used again under another identity.
//!
//! All of this blocks, and runs on the core's blocking thread. Blocks that were written before are written without a commit of
//! the file system's journal, so a segment is filled with zeros before it is used.

use crate::{
    io::{
        aligned::Aligned,
        directory::{ShardFiles, claim},
        ring::Syncing,
    },
    wal::{
        FileInfo, Lsn,
        frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileId, FileKind},
    },
};
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
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
    /// How writes get to the disk.
    pub way: Way,
}

/// How writes get to the disk: what the file system and the device offer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Way {
    /// Past the kernel's cache.
    pub is_direct: bool,
    /// With the write itself, or with a sync behind it.
    pub syncing: Syncing,
}

/// A segment that can be written to.
#[derive(Debug)]
pub struct Segment {
    /// Opened as [`Layout::way`] says.
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
        let direct = if self.way.is_direct { libc::O_DIRECT } else { 0 };
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
            bytes: self.segment_bytes,
        };
        let mut buffer = Aligned::new(FRAME_BYTES_MAX);
        let unfinished = match self.take_spare()? {
            Some(spare) => spare,
            None => self.fill(self.files.unfinished_path_of(FileKind::Segment, number), &mut buffer)?,
        };
        buffer.bytes_mut()[..BLOCK_BYTES].copy_from_slice(&header.encode());
        let finish = || {
            let flags = if self.way.syncing == Syncing::Itself { libc::O_DSYNC } else { 0 };
            let file = self.options(flags).open(&unfinished)?;
            claim(&file)?;
            file.write_all_at(&buffer.bytes()[..BLOCK_BYTES], 0)?;
            file.sync_data()?;
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
        let released = numbers.iter().try_for_each(|&number| {
            self.remove_hint(number)?;
            let path = self.files.path_of(FileKind::Segment, number);
            if fs::metadata(&path)?.len() == self.segment_bytes && spares < SPARES_MAX {
                spares += 1;
                fs::rename(&path, self.files.spare_path(number))
            } else {
                fs::remove_file(&path)
            }
        });
        // Whatever came of the others: a spare's new name must be on disk before the file is used again.
        self.files.sync()?;
        released
    }
}

impl Layout {
    /// Clears away files that a start which accepted a loss has found and that a snapshot of `since` has made superfluous.
    /// Segments and snapshots among them that could not be read are kept under another name.
    ///
    /// # Errors
    /// What the file system says. What is left is found by the next start.
    pub fn clear_away(&self, found: &[FileInfo], since: Lsn) -> io::Result<()> {
        for file in found.iter().filter(|file| (file.kind, file.number) != (FileKind::Snapshot, since.0)) {
            let path = self.files.path_of(file.kind, file.number);
            let cleared = match file.kind {
                FileKind::Hint => fs::remove_file(path),
                FileKind::Segment | FileKind::Snapshot => {
                    fs::rename(path, self.files.damaged_path_of(file.kind, file.number))
                }
            };
            match cleared {
                // Most have been released already.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.files.sync()
    }
}

impl Way {
    /// Tries out what can be had in this directory.
    ///
    /// A device with FUA takes a write and its sync in one go, so the file is opened with O_DSYNC. Without FUA the kernel would
    /// do the sync in a worker on the CPU that took the disk's interrupt, and where that CPU is busy with something else the
    /// worker waits for its turn: behind a saturating load 1.8 ms were seen for what takes 0.2. There an `fdatasync` of our own
    /// follows the write, which waits for nobody but the disk: 1.2 to 1.6 times the writes a second at 50 connections.
    ///
    /// # Errors
    /// The directory can't be written to.
    pub fn probe(directory: &Path) -> io::Result<Self> {
        let path = directory.join("probe.tmp");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT);
        let written = options.open(&path).and_then(|file| file.write_all_at(Aligned::new(BLOCK_BYTES).bytes(), 0));
        let _ = fs::remove_file(&path);
        let is_direct = match written {
            Ok(()) => true,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => false,
            Err(error) => return Err(error),
        };
        let syncing = if is_direct && has_fua(directory) { Syncing::Itself } else { Syncing::Behind };
        Ok(Self { is_direct, syncing })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.is_direct {
            "direct writes"
        } else {
            "writes through the kernel's cache (no O_DIRECT here)"
        })?;
        out.write_str(match self.syncing {
            Syncing::Itself => ", each synced by itself (the device has FUA)",
            Syncing::Behind => ", each with an fdatasync behind it",
        })
    }
}

/// Whether the device under this directory writes through its cache when it is told to; `false` where nobody knows.
pub(crate) fn has_fua(directory: &Path) -> bool {
    let Ok(metadata) = fs::metadata(directory) else { return false };
    let device = metadata.dev();
    let device = PathBuf::from(format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device)));
    // A partition has its queue at the disk that it is a part of.
    let queues = [device.join("queue/fua"), device.join("../queue/fua")];
    queues.iter().any(|path| fs::read_to_string(path).is_ok_and(|text| text.trim() == "1"))
}
