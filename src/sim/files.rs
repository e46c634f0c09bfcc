//! What the blocking thread does with a shard's files: `io::wal::segment` and the last part of `io::snapshot`, on the
//! simulated disk. Each step in the same order as there.

use super::disk::{Crashed, Disk, Handle};
use crate::wal::{
    FileInfo, Lsn,
    frame::{FileHeader, FileId, FileKind, VERSION},
};

pub(super) const DIRECTORY: u64 = 77;
pub(super) const SHARD: u16 = 0;

const SPARES_MAX: usize = 4;
const UNFINISHED: &str = ".tmp";
const SPARE: &str = "spare-";

/// A segment that can be written to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) file: Handle,
    pub(super) id: FileId,
    pub(super) number: u64,
    pub(super) bytes: usize,
}

/// What a core has the blocking thread do.
#[derive(Debug)]
pub(super) enum Job {
    Prepare { number: u64, id: FileId, end: Lsn },
    Release(Vec<u64>),
    BeginSnapshot { id: FileId, since: Lsn },
    WriteSnapshot { file: Handle, offset: usize, bytes: Vec<u8> },
    FinishSnapshot { file: Handle, since: Lsn },
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Done {
    Prepared(Segment),
    Released,
    SnapshotBegun(Handle),
    SnapshotWritten,
    SnapshotFinished(usize),
}

/// How a shard's files are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) segment_bytes: usize,
}

impl Layout {
    pub(super) fn run(self, job: Job, disk: &mut Disk) -> Result<Done, Crashed> {
        Ok(match job {
            Job::Prepare { number, id, end } => Done::Prepared(self.prepare(disk, number, id, end)?),
            Job::Release(numbers) => {
                self.release(disk, &numbers)?;
                Done::Released
            }
            Job::BeginSnapshot { id, since } => Done::SnapshotBegun(begin_snapshot(disk, id, since)?),
            Job::WriteSnapshot { file, offset, bytes } => {
                disk.write(file, offset, &bytes)?;
                Done::SnapshotWritten
            }
            Job::FinishSnapshot { file, since } => Done::SnapshotFinished(finish_snapshot(disk, file, since)?),
        })
    }

    pub(super) fn prepare(self, disk: &mut Disk, number: u64, id: FileId, end: Lsn) -> Result<Segment, Crashed> {
        let name = name_of(FileKind::Segment, number);
        let (kind, lsn, bytes) = (FileKind::Segment, end, self.segment_bytes as u64);
        let header = FileHeader { version: VERSION, kind, shard: SHARD, directory: DIRECTORY, id, number, lsn, bytes };
        let unfinished = match self.take_spare(disk)? {
            Some(spare) => spare,
            None => self.fill(disk, name.clone() + UNFINISHED)?,
        };
        let file = disk.open(&unfinished);
        disk.write(file, 0, &header.encode())?;
        disk.sync(file)?;
        disk.rename(&unfinished, &name)?;
        disk.sync_directory()?;
        Ok(Segment { file, id, number, bytes: self.segment_bytes })
    }

    fn fill(self, disk: &mut Disk, name: String) -> Result<String, Crashed> {
        let file = disk.create(&name)?;
        disk.write(file, 0, &vec![0; self.segment_bytes])?;
        disk.sync(file)?;
        Ok(name)
    }

    fn take_spare(self, disk: &mut Disk) -> Result<Option<String>, Crashed> {
        for (spare, bytes) in spares(disk) {
            if bytes == self.segment_bytes {
                disk.used_again += 1;
                return Ok(Some(spare));
            }
            disk.remove(&spare)?;
        }
        Ok(None)
    }

    pub(super) fn release(self, disk: &mut Disk, numbers: &[u64]) -> Result<(), Crashed> {
        let mut count = spares(disk).len();
        for &number in numbers {
            let name = name_of(FileKind::Segment, number);
            if disk.length(disk.open(&name)) == self.segment_bytes && count < SPARES_MAX {
                disk.rename(&name, &format!("{SPARE}{number:016x}"))?;
                count += 1;
            } else {
                disk.remove(&name)?;
            }
        }
        disk.sync_directory()
    }
}

fn begin_snapshot(disk: &mut Disk, id: FileId, since: Lsn) -> Result<Handle, Crashed> {
    let (kind, number, lsn) = (FileKind::Snapshot, 0, since);
    let header = FileHeader { version: VERSION, kind, shard: SHARD, directory: DIRECTORY, id, number, lsn, bytes: 0 };
    let file = disk.create(&(name_of(kind, since.0) + UNFINISHED))?;
    disk.write(file, 0, &header.encode())?;
    Ok(file)
}

fn finish_snapshot(disk: &mut Disk, file: Handle, since: Lsn) -> Result<usize, Crashed> {
    disk.sync(file)?;
    let name = name_of(FileKind::Snapshot, since.0);
    disk.rename(&(name.clone() + UNFINISHED), &name)?;
    disk.sync_directory()?;
    for older in list(disk).into_iter().filter(|file| file.kind == FileKind::Snapshot && file.number < since.0) {
        disk.remove(&older.name)?;
    }
    Ok(disk.length(file))
}

/// Removes what an earlier process has not finished.
pub(super) fn remove_unfinished(disk: &mut Disk) -> Result<(), Crashed> {
    let names = disk.list().into_iter().map(|(name, _)| name);
    names.filter(|name| name.ends_with(UNFINISHED)).try_for_each(|name| disk.remove(&name))
}

/// Segments and snapshots, by name.
pub(super) fn list(disk: &Disk) -> Vec<FileInfo> {
    let info = |(name, bytes): (String, usize)| {
        let kinds = [FileKind::Segment, FileKind::Snapshot];
        let (kind, digits) = kinds.iter().find_map(|&kind| Some((kind, name.strip_prefix(prefix(kind))?)))?;
        let number = u64::from_str_radix(digits, 16).ok()?;
        Some(FileInfo { name, kind, number, bytes: bytes as u64 })
    };
    disk.list().into_iter().filter_map(info).collect()
}

fn spares(disk: &Disk) -> Vec<(String, usize)> {
    let mut files = disk.list();
    files.retain(|(name, _)| name.starts_with(SPARE));
    files
}

fn name_of(kind: FileKind, number: u64) -> String {
    format!("{}{number:016x}", prefix(kind))
}

fn prefix(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Segment => "log-",
        FileKind::Snapshot => "snapshot-",
        FileKind::Hint => "hint-",
    }
}
