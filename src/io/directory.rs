//! The data directory: its owner, its lock and its files.
//!
//! ```text
//! DIR/trine.toml                        the identity: the server that the data belongs to
//! DIR/lock                              locked by the server that uses the directory; holds its process id
//! DIR/shard-0/log-0000000000000001      a segment of the log, by its number
//! DIR/shard-0/snapshot-00000000000a3f00 every key, with the log up to that position
//! DIR/shard-0/spare-0000000000000001    a file that a segment will be made of
//! DIR/shard-0/damaged-…                 a file that a start with --accept-loss could not read; no longer needed
//! DIR/shard-0/….tmp                     unfinished; removed at the next start
//! ```
//!
//! All of it blocks on the disk: it is meant for the time before the cores start, and for `trine dump` and
//! `trine check`. A process may end at any point, also within these functions: the next start can use the directory.

mod identity;

use std::{
    fmt::Display,
    fs::{self, File},
    io::{self, ErrorKind, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use self::identity::Identity;
pub use self::identity::Owner;
use crate::wal::{FileInfo, frame::FileKind, names};

const IDENTITY: &str = "trine.toml";
const LOCK: &str = "lock";

/// A data directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    identity: Identity,
    /// The lock file, locked for as long as it is open; `None` if the directory was opened only to be read.
    _lock: Option<File>,
}

impl Directory {
    /// Opens a directory to serve from it, and holds its lock from then on. Creates the directory if it does not exist.
    /// Removes unfinished files of an earlier process.
    ///
    /// # Errors
    /// A line that names the directory, the problem and the way out.
    pub fn open(path: &Path, owner: &Owner) -> Result<Self, String> {
        let refused = |problem: String| refusal(path, problem);
        fs::create_dir_all(path).map_err(|error| unusable(path, &error))?;
        let lock = lock(path)?;
        let identity = match read_identity(path).map_err(refused)? {
            Some(identity) => {
                if identity.admits(owner).map_err(refused)? {
                    let moved = identity.moved_to(owner);
                    write_identity(path, &moved).map_err(|error| unusable(path, &error))?;
                    moved
                } else {
                    identity
                }
            }
            None => create(path, owner)?,
        };
        let directory = Self { path: path.to_owned(), identity, _lock: Some(lock) };
        for shard in 0..directory.shards() {
            let shard = directory.shard_path(shard);
            remove_unfinished(&shard).map_err(|error| match error.kind() {
                ErrorKind::NotFound => {
                    refusal(path, format!("{} is missing: restore it from a backup", shard.display()))
                }
                _ => unusable(&shard, &error),
            })?;
        }
        Ok(directory)
    }

    /// Opens a directory only to read it: takes no lock and changes nothing.
    ///
    /// # Errors
    /// A line that names the directory and the problem.
    pub fn look(path: &Path) -> Result<Self, String> {
        let metadata = fs::metadata(path).map_err(|error| refusal(path, error))?;
        if !metadata.is_dir() {
            return Err(refusal(path, "this is a file, and a directory is needed"));
        }
        let identity = read_identity(path).map_err(|problem| refusal(path, problem))?;
        let identity = identity.ok_or_else(|| {
            let inside = directories_in(path);
            let hint =
                if inside.is_empty() { String::new() } else { format!("; there is some in {}", inside.join(", ")) };
            refusal(path, format!("there is no {IDENTITY}: no data of Trine{hint}"))
        })?;
        Ok(Self { path: path.to_owned(), identity, _lock: None })
    }

    /// Returns a description of the process that has the directory open; `None` if there is none, or if that can't be
    /// found out.
    pub fn used_by(&self) -> Option<String> {
        let mut lock = File::open(self.path.join(LOCK)).ok()?;
        // Shared, so that several processes can ask at once; released as soon as `lock` is closed.
        let is_used = flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK);
        is_used.then(|| holder(&mut lock))
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's id, which no other directory has. It stands in the header of each file.
    pub fn id(&self) -> u64 {
        self.identity.id()
    }

    /// The number of shards.
    pub fn shards(&self) -> u16 {
        self.identity.shards()
    }

    /// The name of the server that owns the directory.
    pub fn server(&self) -> &str {
        self.identity.server()
    }

    /// The files of a shard.
    pub fn shard(&self, shard: u16) -> ShardFiles {
        assert!(shard < self.shards(), "a directory has files of its own shards");
        ShardFiles { path: self.shard_path(shard), directory: self.id(), shard, is_served: self._lock.is_some() }
    }

    /// Records new slots or a new cluster for the same server: its topology has changed while it runs.
    ///
    /// # Errors
    /// A line that names the directory and the problem. The next start reads the old identity or the new one.
    pub fn change_owner(&self, owner: &Owner) -> Result<(), String> {
        assert_eq!(usize::from(self.shards()), owner.slots.len(), "a server's number of cores stays while it runs");
        write_identity(&self.path, &self.identity.moved_to(owner)).map_err(|error| unusable(&self.path, &error))
    }

    fn shard_path(&self, shard: u16) -> PathBuf {
        shard_path(&self.path, shard)
    }
}

/// The files of one shard, in the shard's own directory.
#[derive(Clone, Debug)]
pub struct ShardFiles {
    path: PathBuf,
    directory: u64,
    shard: u16,
    is_served: bool,
}

impl ShardFiles {
    /// The id of the data directory.
    pub fn directory(&self) -> u64 {
        self.directory
    }

    /// The shard's number.
    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// Returns true if this process serves from the files; false if it only reads them.
    pub fn are_served(&self) -> bool {
        self.is_served
    }

    /// The shard's own directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its segments, their hints and its snapshots, in the order of their names. Files with other names are
    /// left out.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn list(&self) -> io::Result<Vec<FileInfo>> {
        let mut files = Vec::new();
        for name in names_in(&self.path)? {
            if let Some((kind, number)) = names::read(&name) {
                let path = self.path.join(&name);
                let bytes = fs::metadata(&path)?.len();
                files.push(FileInfo { name: path.display().to_string(), kind, number, bytes });
            }
        }
        Ok(files)
    }

    /// Returns the path of a segment with this number, or of its hint, or of a snapshot of this position.
    pub fn path_of(&self, kind: FileKind, number: u64) -> PathBuf {
        self.path.join(names::name_of(kind, number))
    }

    /// Returns the names of all files in the shard's directory, in order.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        names_in(&self.path)
    }

    /// Returns a line that says why the files can't be written, and what to do.
    pub fn unusable(&self, error: &io::Error) -> String {
        unusable(&self.path, error)
    }

    /// Syncs the directory: its files and their names survive a power failure.
    ///
    /// # Errors
    /// The state on disk is not known; stop.
    pub fn sync(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }
}

/// Locks a file that will be written to by io_uring, for as long as it is open. A server that is killed may leave a
/// write behind that its disk has not completed; the kernel keeps the file open, and so locked, until it has.
///
/// # Errors
/// The file system has no locks.
pub fn claim(file: &File) -> io::Result<()> {
    Ok(flock(file, FlockOperation::LockExclusive)?)
}

/// Waits until no process has [claimed](claim) a file: a write of a server that has ended must not reach a part of the
/// file that has been read already, or change the file once it is used for something else.
///
/// # Errors
/// The file system has no locks.
pub fn wait_for_claims(file: &File) -> io::Result<()> {
    flock(file, FlockOperation::LockShared)?;
    Ok(flock(file, FlockOperation::Unlock)?)
}

fn shard_path(directory: &Path, shard: u16) -> PathBuf {
    directory.join(format!("shard-{shard}"))
}

/// Takes the directory's lock. The kernel releases it when this process ends, in any way.
fn lock(path: &Path) -> Result<File, String> {
    let failed = |error: io::Error| unusable(path, &error);
    let mut options = File::options();
    let mut lock = options.read(true).write(true).create(true).truncate(false).open(path.join(LOCK)).map_err(failed)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let holder = holder(&mut lock);
            return Err(refusal(path, format!("in use by {holder}: stop that one first, or choose another directory")));
        }
        Err(error) => return Err(refusal(path, format!("it can't be locked: {error}"))),
    }
    // For the message to a second process; nothing depends on it.
    let host = rustix::system::uname();
    let holder = format!("{} {}\n", std::process::id(), host.nodename().to_string_lossy());
    // Truncated last: on a full disk a block that is freed may not be had again.
    lock.rewind().and_then(|()| lock.write_all(holder.as_bytes())).map_err(failed)?;
    lock.set_len(holder.len() as u64).map_err(failed)?;
    Ok(lock)
}

/// Returns a description of the process whose id stands in the lock file.
fn holder(lock: &mut File) -> String {
    let mut holder = String::new();
    let _unknown = lock.read_to_string(&mut holder);
    match holder.trim().split_once(' ') {
        Some((pid, host)) => format!("process {pid} on {host}"),
        None => "another process".into(),
    }
}

/// Creates a new directory: the shards' first and the identity last, so that a directory with an identity has all
/// shards.
fn create(path: &Path, owner: &Owner) -> Result<Identity, String> {
    let failed = |error: io::Error| unusable(path, &error);
    for name in names_in(path).map_err(failed)? {
        // An earlier start may have ended before it wrote the identity, but it has written nothing into a shard before
        // that.
        if name.starts_with("shard-") && !names_in(&path.join(&name)).map_err(failed)?.is_empty() {
            let problem = format!("there is data in {name} and no {IDENTITY}: restore that from a backup");
            return Err(refusal(path, problem));
        }
    }
    let identity = Identity::new(fastrand::u64(..), owner);
    for shard in 0..identity.shards() {
        match fs::create_dir(shard_path(path, shard)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
    }
    sync_ancestors(path).map_err(failed)?;
    write_identity(path, &identity).map_err(failed)?;
    Ok(identity)
}

fn read_identity(path: &Path) -> Result<Option<Identity>, String> {
    match fs::read_to_string(path.join(IDENTITY)) {
        Ok(text) => Identity::from_toml(&text).map(Some).map_err(|problem| format!("{IDENTITY}: {problem}")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{IDENTITY}: {error}")),
    }
}

/// Writes the identity so that a reader sees either the old one or the new one, also after a power failure.
fn write_identity(path: &Path, identity: &Identity) -> io::Result<()> {
    let beside = path.join(names::unfinished(IDENTITY));
    let mut file = File::create(&beside)?;
    file.write_all(identity.to_toml().as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path.join(IDENTITY))?;
    sync_directory(path)
}

/// Returns the paths of the data directories in a directory: `trine up --dir` creates one for each server.
fn directories_in(path: &Path) -> Vec<String> {
    let names = names_in(path).unwrap_or_default();
    let paths = names.iter().map(|name| path.join(name)).filter(|inside| inside.join(IDENTITY).is_file());
    paths.map(|inside| inside.display().to_string()).collect()
}

fn remove_unfinished(path: &Path) -> io::Result<()> {
    names_in(path)?
        .iter()
        .filter(|name| names::is_unfinished(name))
        .try_for_each(|name| fs::remove_file(path.join(name)))
}

/// Returns the names in a directory, in order. Names that are not UTF-8 are left out: Trine writes none.
fn names_in(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Syncs the directories above this one, so that it survives a power failure: any of them may be as new.
fn sync_ancestors(path: &Path) -> io::Result<()> {
    for ancestor in std::path::absolute(path)?.ancestors().skip(1) {
        match sync_directory(ancestor) {
            // This process can't have created a directory there.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {}
            other => other?,
        }
    }
    Ok(())
}

fn refusal(path: &Path, problem: impl Display) -> String {
    format!("data directory {}: {problem}", path.display())
}

/// Returns a line that says why a directory can't be written to, and what to do.
fn unusable(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
            refusal(path, "a file is in the way: choose another directory")
        }
        ErrorKind::PermissionDenied => {
            refusal(path, "this process may not write there: give its user the directory, or choose another")
        }
        ErrorKind::ReadOnlyFilesystem => {
            refusal(path, "the file system is read-only: mount it for writing, or choose another directory")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            refusal(path, "the disk is full: make room, or choose another directory")
        }
        _ => refusal(path, error),
    }
}

#[cfg(test)]
mod tests;
