//! Segments as files: allocated and made ready ahead of need, used once, and used again under another identity.
//!
//! All of this blocks, and runs on the core's blocking thread. Blocks that were written before are written without a commit of
//! the file system's journal, so a segment is filled with zeros before it is used.

use crate::{
    io::{
        directory::{ShardFiles, claim},
        ring::Syncing,
    },
    wal::{
        Aligned, FileInfo, Lsn,
        frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileId, FileKind},
        room::Grow,
    },
};
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
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
    spares: Arc<Spares>,
    /// The names of files that could not be read, of which the loss was accepted.
    damaged: Arc<OnceLock<Vec<String>>>,
}

/// What is known of the spare segments, by the core and by its blocking thread.
#[derive(Debug)]
struct Spares {
    /// Held by whoever makes or takes one.
    changing: Mutex<()>,
    count: AtomicU64,
    /// The disk has had no room for so many, the last time that it was tried.
    refused: AtomicU64,
}

/// How writes get to the disk: what the file system and the device offer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Way {
    /// Past the kernel's cache.
    pub is_direct: bool,
    /// With the write itself, or with a sync behind it.
    pub syncing: Syncing,
}

/// Spare segments that are kept: what a burst between two snapshots is glad of.
const SPARES_MAX: u64 = 4;
/// ... and on a full disk: the next segment and the reserve. The rest is for other cores.
const SPARES_MAX_FULL: u64 = 2;
/// Numbers from here on are those of spare segments that were never written to.
const UNWRITTEN: u64 = 1 << 63;

impl Layout {
    /// A shard's files, with the spare segments that there are. Those of another size are removed.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(files: ShardFiles, segment_bytes: u64, way: Way) -> io::Result<Self> {
        let mut count = 0;
        for number in files.spares()? {
            let spare = files.spare_path(number);
            if fs::metadata(&spare)?.len() == segment_bytes {
                count += 1;
            } else {
                fs::remove_file(&spare)?;
            }
        }
        let spares =
            Spares { changing: Mutex::default(), count: AtomicU64::new(count), refused: AtomicU64::new(u64::MAX) };
        Ok(Self { files, segment_bytes, way, spares: Arc::new(spares), damaged: Arc::default() })
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

    /// The number of spare segments.
    pub fn spares(&self) -> u64 {
        self.spares.count.load(Ordering::Relaxed)
    }

    /// Forgets that the disk had no room.
    pub fn try_again(&self) {
        self.spares.refused.store(u64::MAX, Ordering::Relaxed);
    }

    /// Allocates so many spare segments, or none.
    ///
    /// # Errors
    /// What the file system says.
    pub fn allocate(&self, count: u64) -> io::Result<()> {
        if self.spares.refused.load(Ordering::Relaxed) <= count {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let _changing = self.spares.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut made = Vec::new();
        let outcome = (0..count).try_for_each(|_| {
            let number = UNWRITTEN | fastrand::u64(..);
            let (unfinished, spare) = (self.files.unfinished_spare_path(number), self.files.spare_path(number));
            self.allocate_file(&unfinished)?;
            made.push(spare.clone());
            fs::rename(unfinished, spare)
        });
        match outcome {
            Ok(()) => drop(self.spares.count.fetch_add(count, Ordering::Relaxed)),
            Err(_) => {
                self.spares.refused.store(count, Ordering::Relaxed);
                made.iter().for_each(|spare| drop(fs::remove_file(spare)));
            }
        }
        outcome
    }

    fn allocate_file(&self, path: &Path) -> io::Result<()> {
        let allocate = || {
            let file = self.options(0).create(true).truncate(true).open(path)?;
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.segment_bytes) {
                Ok(()) => Ok(()),
                Err(rustix::io::Errno::OPNOTSUPP) => self.fill(&file, &mut Aligned::new(FRAME_BYTES_MAX)),
                Err(error) => Err(error.into()),
            }
        };
        allocate().inspect_err(|_| drop(fs::remove_file(path)))
    }

    pub(in crate::io) fn options(&self, flags: i32) -> OpenOptions {
        let direct = if self.way.is_direct { libc::O_DIRECT } else { 0 };
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags | direct);
        options
    }

    /// Makes a segment ready, of a spare one, and opens it as [`way`](Self::way) says. `end` is how far the log is on disk. `spares_left`: so many spare segments are to
    /// be there afterwards.
    ///
    /// # Errors
    /// What the file system says; no segment is used up then.
    pub fn prepare(&self, number: u64, id: FileId, end: Lsn, spares_left: u64) -> io::Result<Arc<File>> {
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
        // One by one: each that there is room for is of use.
        while self.spares() <= spares_left {
            self.allocate(1)?;
        }
        let mut buffer = Aligned::new(FRAME_BYTES_MAX);
        let unfinished = self.files.unfinished_path_of(FileKind::Segment, number);
        let is_unwritten = self.take_spare(&unfinished)?;
        let mut finish = || {
            if is_unwritten {
                self.fill(&self.options(0).open(&unfinished)?, &mut buffer)?;
            }
            buffer.bytes_mut()[..BLOCK_BYTES].copy_from_slice(&header.encode());
            let flags = if self.way.syncing == Syncing::Itself { libc::O_DSYNC } else { 0 };
            let file = self.options(flags).open(&unfinished)?;
            claim(&file)?;
            file.write_all_at(&buffer.bytes()[..BLOCK_BYTES], 0)?;
            file.sync_data()?;
            fs::rename(&unfinished, &path)?;
            self.files.sync()?;
            Ok(Arc::new(file))
        };
        finish().inspect_err(|_| self.take_back(&unfinished))
    }

    /// Fills a segment with zeros, and syncs it.
    fn fill(&self, file: &File, zeros: &mut Aligned) -> io::Result<()> {
        zeros.bytes_mut().fill(0);
        let mut at = 0;
        while at < self.segment_bytes {
            let length = (self.segment_bytes - at).min(zeros.bytes().len() as u64);
            file.write_all_at(&zeros.bytes()[..length as usize], at)?;
            at += length;
        }
        file.sync_all()
    }

    /// Gives a spare segment another name, one that was written to if there is any. Returns whether it never was.
    fn take_spare(&self, unfinished: &Path) -> io::Result<bool> {
        let _changing = self.spares.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.files.spares()?.into_iter().next();
        let number = number.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))?;
        fs::rename(self.files.spare_path(number), unfinished)?;
        self.spares.count.fetch_sub(1, Ordering::Relaxed);
        Ok(UNWRITTEN <= number)
    }

    /// Makes an unfinished file of a spare segment, to be written from its beginning on, for what must be written on a full
    /// disk. Returns false where there is none.
    pub(in crate::io) fn lend_spare(&self, unfinished: &Path) -> io::Result<bool> {
        if self.spares() == 0 {
            return Ok(false);
        }
        self.take_spare(unfinished).map(|_| true)
    }

    /// Removes an unfinished file, or makes a spare segment of it again.
    pub(in crate::io) fn take_back(&self, unfinished: &Path) {
        let _changing = self.spares.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let restore = || {
            let file = self.options(0).open(unfinished)?;
            if file.metadata()?.len() < self.segment_bytes {
                return Ok(false);
            }
            file.set_len(self.segment_bytes)?;
            fs::rename(unfinished, self.files.spare_path(UNWRITTEN | fastrand::u64(..)))?;
            self.spares.count.fetch_add(1, Ordering::Relaxed);
            io::Result::Ok(true)
        };
        if !restore().unwrap_or(false) {
            let _ = fs::remove_file(unfinished);
        }
    }

    /// Sets segments aside that hold nothing any more which a snapshot does not: for the next use, or for good. `is_full`: as
    /// few as can be are kept.
    ///
    /// # Errors
    /// What the file system says. What is left is read again by the next recovery, to no effect.
    pub fn release(&self, numbers: &[u64], is_full: bool) -> io::Result<()> {
        let max = if is_full { SPARES_MAX_FULL } else { SPARES_MAX };
        let changing = self.spares.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let released = numbers.iter().try_for_each(|&number| {
            self.remove_hint(number)?;
            let (path, spare) = (self.files.path_of(FileKind::Segment, number), self.files.spare_path(number));
            if fs::metadata(&path)?.len() == self.segment_bytes && self.spares() < max && !spare.exists() {
                fs::rename(&path, spare)?;
                self.spares.count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            } else {
                fs::remove_file(&path)
            }
        });
        drop(changing);
        self.try_again();
        // Whatever came of the others: a spare's new name must be on disk before the file is used again.
        self.files.sync()?;
        released
    }
}

impl Layout {
    /// Removes files that a start which accepted a loss has found and that a snapshot of `since` has made superfluous. Segments
    /// and snapshots among them that could not be read are kept under another name.
    ///
    /// # Errors
    /// What the file system says. What is left is found by the next start.
    pub fn clear_away(&self, found: &[FileInfo], since: Lsn) -> io::Result<()> {
        for file in found.iter().filter(|file| (file.kind, file.number) != (FileKind::Snapshot, since.0)) {
            let path = self.files.path_of(file.kind, file.number);
            let cleared = match file.kind {
                FileKind::Segment | FileKind::Snapshot if self.is_damaged(file) => {
                    fs::rename(path, self.files.damaged_path_of(file.kind, file.number))
                }
                FileKind::Segment | FileKind::Snapshot | FileKind::Hint => fs::remove_file(path),
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
            // That is looked at before room is.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => true,
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

/// Allocates segments while a core waits, for a write that is larger than those that are ready: milliseconds, where the file
/// system can allocate without writing.
pub struct Growth(pub Layout);

impl Grow for Growth {
    fn spares(&self) -> u64 {
        self.0.spares()
    }

    fn try_again(&mut self) {
        self.0.try_again();
    }

    fn grow(&mut self, segments: u64) -> bool {
        self.0.allocate(segments).is_ok()
    }
}
