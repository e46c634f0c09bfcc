//! The files of one core: their names, and the order in which they are written, synced and renamed.
//!
//! All operations are done through [`Files`], a directory on a disk: `io::files` implements it on a file system, `files::disk`
//! (in tests) on a disk of a limited number of blocks that loses what was not synced. Each operation blocks, and runs on the
//! core's blocking thread.

#[cfg(test)]
pub(crate) mod disk;
mod hints;
mod segments;
mod snapshots;
#[cfg(test)]
mod tests;

pub use self::{
    hints::{HintStep, HintWriting, hint_bytes},
    segments::{Beginning, Growth, Left, Segment},
    snapshots::Chunk,
};
use super::{
    FileInfo, Lost, Lsn,
    frame::{BLOCK_BYTES, FileHeader, FileId, FileKind, VERSION},
    names,
};
use crate::time::UnixMillis;
#[expect(
    clippy::disallowed_types,
    reason = "shared by a core and its own blocking thread, which both make spare segments"
)]
use std::sync::Mutex;
use std::{
    fmt, io,
    sync::{
        Arc, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The directory of one core on a disk. Names are relative to it.
///
/// Errors are those of the file system; [`io::ErrorKind::StorageFull`] means that there is no room.
pub trait Files: Clone + fmt::Debug + Send + 'static {
    /// An open file.
    type File: fmt::Debug + Send + Sync + 'static;

    /// Returns the names of all files, in order.
    ///
    /// # Errors
    /// Those of the file system, here and below.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Returns the size of the file with this name, in bytes.
    fn size_of(&self, name: &str) -> io::Result<u64>;
    /// Returns the path of a file, for messages.
    fn path(&self, name: &str) -> String;
    /// Creates an empty file, and replaces any of that name.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file for reading and writing whole blocks.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a segment for the log's frames, and claims it until it is closed and no write to it is under way.
    fn open_segment(&self, name: &str) -> io::Result<Self::File>;
    /// Allocates the blocks of an empty file. Returns false if the file system can only allocate by writing.
    fn reserve(&self, file: &Self::File, bytes: u64) -> io::Result<bool>;
    /// Returns the size of an open file, in bytes.
    fn size(&self, file: &Self::File) -> io::Result<u64>;
    /// Truncates or extends a file to this size.
    fn resize(&self, file: &Self::File, bytes: u64) -> io::Result<()>;
    /// Writes whole blocks, from memory of [`Aligned`](super::aligned::Aligned).
    fn write_at(&self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads whole blocks, into memory of [`Aligned`](super::aligned::Aligned).
    fn read_at(&self, file: &Self::File, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Makes a file's bytes and size durable.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Renames a file, and replaces any of the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes the file with this name.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names of all files durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Returns the bytes that are free on the disk.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Returns the time of the last change of a file.
    fn modified_at(&self, name: &str) -> io::Result<UnixMillis>;
    /// Writes a report, beside the core's directory, of what a start lost that accepted loss. Returns its path.
    fn write_lost(&self, lost: &[Lost], unix_seconds: u64) -> io::Result<String>;
}

/// The files of one core, shared by the core and its blocking thread.
#[derive(Clone, Debug)]
pub struct Layout<F> {
    /// The directory that they are in.
    pub files: F,
    /// The data directory and the shard that they belong to.
    pub owner: FileOwner,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    spares: Arc<Spares>,
    /// The names of files that could not be read, of which the loss was accepted.
    damaged: Arc<OnceLock<Vec<String>>>,
}

/// The owner of a file, which its header names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileOwner {
    /// The id of the data directory.
    pub directory: u64,
    /// The shard.
    pub shard: u16,
}

/// Counts of the files that are allocated and not segments yet.
#[derive(Debug)]
struct Spares {
    /// Locked while a spare segment is made or taken.
    #[expect(clippy::disallowed_types, reason = "see the import")]
    changing: Mutex<()>,
    /// The number of all of them: spare segments, and the one that is being made into the next segment. That one is included so
    /// that deletions, which need its room, are not refused meanwhile.
    allocated: AtomicU64,
    /// The number of allocated files that are not spare: the one that is being made into a segment, or was and has not been
    /// taken by the core; and those that are lent.
    held: AtomicU64,
    /// The number of spare segments that a snapshot is written into. If it succeeds, segments that it covers replace them; if
    /// not, they become spare again. So deletions may count on their room all the while.
    lent: AtomicU64,
    /// The number of spare segments for which the disk had no room at the last attempt.
    refused: AtomicU64,
}

impl Spares {
    /// Counts files that were allocated.
    fn count(&self, files: u64) {
        self.allocated.fetch_add(files, Ordering::Relaxed);
    }

    /// Counts files that are not allocated any more.
    fn discount(&self, files: u64) {
        self.allocated.fetch_sub(files, Ordering::Relaxed);
    }
}

/// The name of the file that keeps room for the next snapshot without keys, which says where the log begins.
const KEPT: &str = "beginning";

/// Returns the error of a disk that has no room.
fn storage_full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

/// Returns true if an error says that the disk has no room.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl<F: Files> Layout<F> {
    /// Takes a core's files, and counts the spare segments. Spare segments of another size are removed.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(files: F, owner: FileOwner, segment_bytes: u64) -> io::Result<Self> {
        let mut count = 0;
        for name in files.names()?.iter().filter(|name| names::read_spare(name).is_some()) {
            if files.size_of(name)? == segment_bytes {
                count += 1;
            } else {
                files.remove(name)?;
            }
        }
        let spares = Spares {
            changing: Default::default(),
            allocated: AtomicU64::new(count),
            held: AtomicU64::new(0),
            lent: AtomicU64::new(0),
            refused: AtomicU64::new(u64::MAX),
        };
        Ok(Self { files, owner, segment_bytes, spares: Arc::new(spares), damaged: Arc::default() })
    }

    /// Notes the names of files that could not be read: they are kept, under another name.
    pub fn keep_damaged(&self, names: Vec<String>) {
        // A start notes them once.
        let _ = self.damaged.set(names);
    }

    /// Returns true if a file could not be read by the start.
    pub fn is_damaged(&self, file: &FileInfo) -> bool {
        self.damaged.get().is_some_and(|names| names.contains(&file.name))
    }

    /// Returns segments, their hints and snapshots, in the order of their names. Files with other names are ignored.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn list(&self) -> io::Result<Vec<FileInfo>> {
        let mut files = Vec::new();
        for name in self.files.names()? {
            if let Some((kind, number)) = names::read(&name) {
                files.push(FileInfo { bytes: self.files.size_of(&name)?, name: self.files.path(&name), kind, number });
            }
        }
        Ok(files)
    }

    /// Returns the path of a file, for messages.
    pub fn path_of(&self, kind: FileKind, number: u64) -> String {
        self.files.path(&names::name_of(kind, number))
    }

    fn header(&self, kind: FileKind, id: FileId, number: u64, lsn: Lsn, bytes: u64) -> [u8; BLOCK_BYTES] {
        let FileOwner { directory, shard } = self.owner;
        FileHeader { version: VERSION, kind, shard, directory, id, number, lsn, bytes }.encode()
    }

    /// Removes a file if it exists. Returns true if it did.
    fn remove_if_there(&self, name: &str) -> io::Result<bool> {
        match self.files.remove(name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes files that were found by a start that accepted loss, and that a snapshot of `since` has made superfluous.
    /// Segments and snapshots among them that could not be read are kept under another name.
    ///
    /// # Errors
    /// Those of the file system. The next start finds the files that are left.
    pub fn clear_away(&self, found: &[FileInfo], since: Lsn) -> io::Result<()> {
        for file in found.iter().filter(|file| (file.kind, file.number) != (FileKind::Snapshot, since.0)) {
            let name = names::name_of(file.kind, file.number);
            let cleared = match file.kind {
                FileKind::Segment | FileKind::Snapshot if self.is_damaged(file) => {
                    self.files.rename(&name, &names::damaged(&name))
                }
                FileKind::Segment | FileKind::Snapshot | FileKind::Hint => self.files.remove(&name),
            };
            match cleared {
                // Most have been released already.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.end_loan(false);
        self.files.sync_directory()
    }

    /// Removes files that an earlier process has not finished.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_unfinished(files: &F) -> io::Result<()> {
        let names = files.names()?;
        names.iter().filter(|name| names::is_unfinished(name)).try_for_each(|name| files.remove(name))
    }
}

/// Spare segments.
impl<F: Files> Layout<F> {
    /// Returns the number of spare segments.
    pub fn spares(&self) -> u64 {
        let allocated = self.allocated();
        allocated.saturating_sub(self.spares.held.load(Ordering::Relaxed))
    }

    /// Returns the number of files that are allocated and not segments yet: spare segments, the one that is being made into the
    /// next segment, and those that are lent to a snapshot.
    pub fn allocated(&self) -> u64 {
        self.spares.allocated.load(Ordering::Relaxed)
    }

    /// Notes that the core has the segment that was [prepared](Self::prepare): it counts as a segment from now on, and not as
    /// allocated.
    pub fn delivered(&self) {
        self.spares.discount(1);
        self.spares.held.fetch_sub(1, Ordering::Relaxed);
    }

    /// Forgets that the disk had no room, so that [`allocate`](Self::allocate) tries again.
    pub fn try_again(&self) {
        self.spares.refused.store(u64::MAX, Ordering::Relaxed);
    }

    /// Allocates `count` spare segments, or none.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn allocate(&self, count: u64) -> io::Result<()> {
        if self.spares.refused.load(Ordering::Relaxed) <= count {
            return Err(storage_full());
        }
        let _changing = self.spares.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut made = Vec::new();
        let outcome = (0..count).try_for_each(|_| {
            let spare = self.unwritten_name()?;
            let unfinished = names::unfinished(&spare);
            self.allocate_file(&unfinished)?;
            self.files.rename(&unfinished, &spare)?;
            made.push(spare);
            Ok(())
        });
        match outcome {
            Ok(()) => self.spares.count(count),
            Err(_) => {
                self.spares.refused.store(count, Ordering::Relaxed);
                made.iter().for_each(|spare| drop(self.files.remove(spare)));
            }
        }
        outcome
    }

    /// Returns an unused name for a spare segment that was never written to.
    fn unwritten_name(&self) -> io::Result<String> {
        let spares = self.files.names()?.into_iter().filter_map(|name| names::read_spare(&name));
        let last = spares.filter(|&number| UNWRITTEN <= number).max();
        Ok(names::spare_name(last.map_or(UNWRITTEN, |last| UNWRITTEN | last.wrapping_add(1))))
    }

    /// Renames a spare segment to `unfinished`, one that was written to before if there is any. Returns true if it never was.
    fn take_spare(&self, unfinished: &str) -> io::Result<bool> {
        let _changing = self.spares.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.files.names()?.iter().find_map(|name| names::read_spare(name)).ok_or_else(storage_full)?;
        self.files.rename(&names::spare_name(number), unfinished)?;
        Ok(UNWRITTEN <= number)
    }

    /// Makes an unfinished file of a spare segment, for a snapshot that must be written on a full disk. Returns false if there
    /// is no spare segment.
    fn lend_spare(&self, unfinished: &str) -> io::Result<bool> {
        if self.spares() == 0 {
            return Ok(false);
        }
        self.take_spare(unfinished)?;
        self.spares.held.fetch_add(1, Ordering::Relaxed);
        self.spares.lent.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }

    /// Ends the loan of spare segments. `is_spare`: the unfinished file has become a spare segment; if not, it is used up.
    fn end_loan(&self, is_spare: bool) {
        let lent = self.spares.lent.swap(0, Ordering::Relaxed);
        match (is_spare, lent) {
            // The file was not lent: a snapshot as large as a segment has become a spare one.
            (true, 0) => self.spares.count(1),
            (true, _) => {}
            (false, _) => self.spares.discount(lent),
        }
        self.spares.held.fetch_sub(lent, Ordering::Relaxed);
    }

    /// Makes a spare segment of an unfinished file that is large enough, or removes it. Returns true if it is spare.
    fn set_aside(&self, unfinished: &str) -> bool {
        let _changing = self.spares.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let restore = || {
            let file = self.files.open(unfinished)?;
            if self.files.size(&file)? < self.segment_bytes {
                return Ok(false);
            }
            self.files.resize(&file, self.segment_bytes)?;
            self.files.rename(unfinished, &self.unwritten_name()?)?;
            io::Result::Ok(true)
        };
        let is_spare = restore().unwrap_or(false);
        if !is_spare {
            let _ = self.files.remove(unfinished);
        }
        is_spare
    }
}

/// The most spare segments that are kept, for a burst of writes between two snapshots.
const SPARES_MAX: u64 = 4;
/// The most spare segments that are kept on a full disk: the next segment and the reserve. The rest is for other cores.
const SPARES_MAX_FULL: u64 = 2;
/// The first number of spare segments that were never written to.
const UNWRITTEN: u64 = 1 << 63;
