//! A core's files on a file system: [`Files`] as the deciding code asks for it.
//!
//! All of this blocks, and runs on the core's blocking thread.

use super::{
    directory::{ShardFiles, claim},
    recover::write_lost,
    ring::Syncing,
};
use crate::{
    time::UnixMillis,
    wal::{
        Aligned, Lost,
        files::{self, FileOwner, Files},
        frame::BLOCK_BYTES,
    },
};
use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// The directory of one core, on a file system.
#[derive(Clone, Debug)]
pub struct OsFiles {
    /// Their directory, and their owner.
    pub shard: ShardFiles,
    /// The way of writes to the disk.
    pub way: Way,
}

/// The files of one core.
pub type Layout = files::Layout<OsFiles>;

/// The way of writes to the disk: the best that the file system and the device offer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Way {
    /// Past the kernel's cache.
    pub is_direct: bool,
    /// With the write itself, or with a sync behind it.
    pub syncing: Syncing,
}

impl OsFiles {
    /// The files' layout, with segments of so many bytes.
    ///
    /// # Errors
    /// As the file system says.
    pub fn layout(self, segment_bytes: u64) -> io::Result<Layout> {
        let owner = FileOwner { directory: self.shard.directory(), shard: self.shard.shard() };
        Layout::new(self, owner, segment_bytes)
    }

    /// Returns the options that the log's files are opened with, these flags included.
    pub fn options(&self, flags: i32) -> OpenOptions {
        let direct = if self.way.is_direct { libc::O_DIRECT } else { 0 };
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags | direct);
        options
    }

    fn place(&self, name: &str) -> PathBuf {
        self.shard.path().join(name)
    }
}

impl Files for OsFiles {
    type File = File;

    fn names(&self) -> io::Result<Vec<String>> {
        self.shard.names()
    }

    fn size_of(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.place(name))?.len())
    }

    fn path(&self, name: &str) -> String {
        self.place(name).display().to_string()
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.options(0).create(true).truncate(true).open(self.place(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        self.options(0).open(self.place(name))
    }

    fn open_segment(&self, name: &str) -> io::Result<File> {
        let flags = if self.way.syncing == Syncing::Itself { libc::O_DSYNC } else { 0 };
        let file = self.options(flags).open(self.place(name))?;
        claim(&file)?;
        Ok(file)
    }

    fn reserve(&self, file: &File, bytes: u64) -> io::Result<bool> {
        match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn size(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn resize(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn read_at(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        file.read_exact_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.place(from), self.place(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.place(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.shard.sync()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(self.shard.path())?;
        Ok(disk.f_bavail * disk.f_frsize)
    }

    fn modified_at(&self, name: &str) -> io::Result<UnixMillis> {
        let modified = fs::metadata(self.place(name))?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(UnixMillis(modified.as_millis() as u64))
    }

    fn write_lost(&self, lost: &[Lost], unix_seconds: u64) -> io::Result<String> {
        let directory = self.shard.path().parent().unwrap_or(self.shard.path());
        let path = write_lost(directory, self.shard.shard(), lost, unix_seconds)?;
        Ok(path.display().to_string())
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

/// Returns true if the device under this directory writes through its cache when it is told to; false if nobody knows.
pub(crate) fn has_fua(directory: &Path) -> bool {
    let Ok(metadata) = fs::metadata(directory) else { return false };
    let device = metadata.dev();
    let device = PathBuf::from(format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device)));
    // A partition has its queue at the disk that it is a part of.
    let queues = [device.join("queue/fua"), device.join("../queue/fua")];
    queues.iter().any(|path| fs::read_to_string(path).is_ok_and(|text| text.trim() == "1"))
}
