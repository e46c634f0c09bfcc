//! The data directory: whose it is, and what is where in it.
//!
//! ```text
//! DIR/trine.toml                        whose data this is
//! DIR/lock                              held by the server that uses it, which has put its process id there
//! DIR/shard-0/log-0000000000000001      a segment of the log, by its number
//! DIR/shard-0/snapshot-00000000000a3f00 every key, with the log up to that position
//! DIR/shard-0/spare-0000000000000001    a file that a segment will be made of
//! DIR/shard-0/damaged-…                 could not be read, by a start with --accept-loss; nothing needs it any more
//! DIR/shard-0/….tmp                     unfinished; removed at the next start
//! ```
//!
//! All of it waits for the disk: it is meant for before the cores start, and for `trine dump` and `trine check`. Whenever a
//! process ends, even in here, the next start finds a directory that it can use.

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
    /// Locked for as long as it is open; `None` where nothing will be written.
    _lock: Option<File>,
}

impl Directory {
    /// Opens a directory to serve from it, makes it where there is none, and holds its lock from then on. Removes what an
    /// earlier process has not finished.
    ///
    /// # Errors
    /// A line that names the directory and says what is in the way, and the way out.
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

    /// Opens a directory to look at it: takes no lock and changes nothing.
    ///
    /// # Errors
    /// A line that names the directory and says what is in the way.
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

    /// Returns the server that has the directory open, in words; `None` where there is none, or nobody can tell.
    pub fn used_by(&self) -> Option<String> {
        let mut lock = File::open(self.path.join(LOCK)).ok()?;
        // Held for no longer than it takes to ask, and beside others who ask.
        let is_used = flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK);
        is_used.then(|| holder(&mut lock))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What tells it from every other; the header of each file has it.
    pub fn id(&self) -> u64 {
        self.identity.id()
    }

    /// How many shards it is for.
    pub fn shards(&self) -> u16 {
        self.identity.shards()
    }

    /// The name of the server that it belongs to.
    pub fn server(&self) -> &str {
        self.identity.server()
    }

    /// The files of a shard.
    pub fn shard(&self, shard: u16) -> ShardFiles {
        assert!(shard < self.shards(), "a directory has files of its own shards");
        ShardFiles { path: self.shard_path(shard), directory: self.id(), shard, is_served: self._lock.is_some() }
    }

    /// Writes down that the same server has other slots from now on, or is in another cluster: its topology has changed while it
    /// runs.
    ///
    /// # Errors
    /// A line that names the directory and says what is in the way: the next start finds what was written before.
    pub fn change_owner(&self, owner: &Owner) -> Result<(), String> {
        assert_eq!(usize::from(self.shards()), owner.slots.len(), "a server's number of cores stays while it runs");
        write_identity(&self.path, &self.identity.moved_to(owner)).map_err(|error| unusable(&self.path, &error))
    }

    fn shard_path(&self, shard: u16) -> PathBuf {
        shard_path(&self.path, shard)
    }
}

/// Where a shard's files are, and which there are.
#[derive(Clone, Debug)]
pub struct ShardFiles {
    path: PathBuf,
    directory: u64,
    shard: u16,
    is_served: bool,
}

impl ShardFiles {
    /// The id of the directory that they are in.
    pub fn directory(&self) -> u64 {
        self.directory
    }

    /// The shard's number.
    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// Whether they are this process's own, and not only looked at.
    pub fn are_served(&self) -> bool {
        self.is_served
    }

    /// The shard's own directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its segments, their hints and its snapshots, in the order of their names. What is called otherwise is not ours.
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

    /// The path of a segment with this number, or of its hint, or of a snapshot of this position.
    pub fn path_of(&self, kind: FileKind, number: u64) -> PathBuf {
        self.path.join(names::name_of(kind, number))
    }

    /// The names of all files in it, in order.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        names_in(&self.path)
    }

    /// Says why they can't be written, and what to do.
    pub fn unusable(&self, error: &io::Error) -> String {
        unusable(&self.path, error)
    }

    /// Makes durable which files there are and how they are called.
    ///
    /// # Errors
    /// What is on disk is not known; stop.
    pub fn sync(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }
}

/// Claims a file that will be written to by io_uring, for as long as it is open. A server that is killed may leave a write
/// behind that its disk has not answered; the kernel keeps the file open, and so claimed, until it has.
///
/// # Errors
/// The file system has no locks.
pub fn claim(file: &File) -> io::Result<()> {
    Ok(flock(file, FlockOperation::LockExclusive)?)
}

/// Waits until nobody claims a file: a write of a server that is gone must not land where it has been read already, or in
/// another use of the file.
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

/// Takes the directory's lock, which ends with this process however that ends.
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
    // For whoever comes second; nothing depends on it.
    let host = rustix::system::uname();
    let holder = format!("{} {}\n", std::process::id(), host.nodename().to_string_lossy());
    // Shortened last: a full disk may not give back the block that it has been given.
    lock.rewind().and_then(|()| lock.write_all(holder.as_bytes())).map_err(failed)?;
    lock.set_len(holder.len() as u64).map_err(failed)?;
    Ok(lock)
}

/// Who has put a note into the lock, in words.
fn holder(lock: &mut File) -> String {
    let mut holder = String::new();
    let _unknown = lock.read_to_string(&mut holder);
    match holder.trim().split_once(' ') {
        Some((pid, host)) => format!("process {pid} on {host}"),
        None => "another process".into(),
    }
}

/// Makes a new directory: its shards first, so that where there is an identity there are all of them.
fn create(path: &Path, owner: &Owner) -> Result<Identity, String> {
    let failed = |error: io::Error| unusable(path, &error);
    for name in names_in(path).map_err(failed)? {
        // An earlier start may have ended before it wrote the identity, but not with anything in a shard.
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

/// Writes the identity so that whoever reads it sees the old one or the new one, also after a power failure.
fn write_identity(path: &Path, identity: &Identity) -> io::Result<()> {
    let beside = path.join(names::unfinished(IDENTITY));
    let mut file = File::create(&beside)?;
    file.write_all(identity.to_toml().as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path.join(IDENTITY))?;
    sync_directory(path)
}

/// Returns the data directories in a directory: `trine up --dir` makes one for each server.
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

/// The names in a directory, in order; none of ours is anything but UTF-8.
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

/// Makes durable that there is this directory: any of those above it may be as new.
fn sync_ancestors(path: &Path) -> io::Result<()> {
    for ancestor in std::path::absolute(path)?.ancestors().skip(1) {
        match sync_directory(ancestor) {
            // Nor could one have been made there.
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {}
            other => other?,
        }
    }
    Ok(())
}

fn refusal(path: &Path, problem: impl Display) -> String {
    format!("data directory {}: {problem}", path.display())
}

/// Says why a directory can't be written to, and what to do.
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
