//! Reads a shard's files at the start, a bounded piece at a time, so that whoever asks meanwhile can be answered.
//!
//! What to read, and what to believe of it, [`Recovery`] decides.

use std::{
    fmt::{self, Write as _},
    fs::File,
    io::{self, ErrorKind, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::Advice;

use super::directory::{ShardFiles, wait_for_claims};
use crate::wal::{Damage, FileInfo, Found, Lost, Problem, Record, Recovery, Report, Step};

/// Why a shard can't start on its files.
#[derive(Debug)]
pub enum RecoverError {
    /// This file, or the shard's directory, can't be read.
    Io(PathBuf, io::Error),
    /// They can be read, and can't be believed.
    Damage(Damage),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(out, "{}: {error}", path.display()),
            // Nothing is damaged there.
            Self::Damage(damage) if matches!(damage.problem, Problem::Version(_)) => write!(out, "{damage}"),
            Self::Damage(damage) => write!(
                out,
                "{damage}. Restore this server from a replica or a backup; or start once with --accept-loss, which goes on \
                 without what is damaged and writes down what was dropped"
            ),
        }
    }
}

impl std::error::Error for RecoverError {}

/// Reads a shard's files, one after the other.
#[derive(Debug)]
pub struct Reader {
    files: ShardFiles,
    /// The file at hand, by its position.
    open: Option<(usize, File)>,
}

/// A shard that is coming back.
#[derive(Debug)]
pub struct Recover {
    reader: Reader,
    listed: Vec<FileInfo>,
    recovery: Recovery,
    buffer: Vec<u8>,
}

impl Recover {
    /// Begins with the files that there are. `accepts_loss`: goes on behind damage, and reports what was lost.
    ///
    /// # Errors
    /// [`RecoverError::Io`].
    pub fn new(files: ShardFiles, accepts_loss: bool) -> Result<Self, RecoverError> {
        let listed = files.list().map_err(|error| RecoverError::Io(files.path().to_owned(), error))?;
        let recovery = Recovery::new(files.directory(), files.shard(), listed.clone(), accepts_loss);
        Ok(Self { reader: Reader::new(files), listed, recovery, buffer: Vec::new() })
    }

    /// Reads hints in place of segments where it can: for [`step_in_place`](Self::step_in_place) alone.
    #[must_use]
    pub fn believing_hints(mut self) -> Self {
        self.recovery = self.recovery.believing_hints();
        self
    }

    /// Reads the next piece, of a few megabytes at most, and shows the records in it to `apply`. Returns whether there is more
    /// to come.
    ///
    /// # Errors
    /// The shard must not start on these files.
    pub fn step(&mut self, apply: &mut impl FnMut(Record<'_>)) -> Result<bool, RecoverError> {
        self.step_in_place(&mut |found| match found {
            Found::Record(record, _) => apply(record),
            Found::Placed(..) | Found::Mark | Found::Rewind => unreachable!("no hint is read"),
        })
    }

    /// Does a [`step`](Self::step), and says where each record is.
    ///
    /// # Errors
    /// The shard must not start on these files.
    pub fn step_in_place(&mut self, apply: &mut impl FnMut(Found<'_>)) -> Result<bool, RecoverError> {
        match self.recovery.step().map_err(RecoverError::Damage)? {
            Step::Done => Ok(false),
            Step::Read { file, offset, length } => {
                if self.buffer.len() < length {
                    self.buffer.resize(length, 0);
                }
                let info = &self.listed[file];
                let read = self.reader.read((file, info), offset, &mut self.buffer[..length]);
                let read = read.map_err(|error| RecoverError::Io(info.name.clone().into(), error))?;
                self.recovery.give_in_place(&self.buffer[..read], apply).map_err(RecoverError::Damage)?;
                Ok(true)
            }
        }
    }

    /// The part of all bytes that has been read, of 1.
    pub fn progress(&self) -> f64 {
        self.recovery.progress()
    }

    /// Returns what was found so far; all of it once [`step`](Self::step) has said that there is no more to come.
    pub fn report(&self) -> &Report {
        self.recovery.report()
    }

    /// The files that there were when it began.
    pub fn files(&self) -> &[FileInfo] {
        &self.listed
    }
}

impl Reader {
    /// Reads the files of this shard.
    pub fn new(files: ShardFiles) -> Self {
        Self { files, open: None }
    }

    /// Fills the buffer from a file, which is given with its position among those that were listed. Returns how many bytes were
    /// read; fewer than asked for only at its end.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(&mut self, (position, info): (usize, &FileInfo), offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = match &mut self.open {
            Some((open, file)) if *open == position => file,
            open => {
                let file = File::open(self.files.path_of(info.kind, info.number))?;
                if self.files.are_served() {
                    wait_for_claims(&file)?;
                }
                // Only a hint.
                let _unheard = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
                &mut open.insert((position, file)).1
            }
        };
        let mut read = 0;
        while read < buffer.len() {
            match file.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if read < buffer.len() && offset + (read as u64) < info.bytes {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        // Nor longer: what is read is what was listed.
        Ok(read.min(usize::try_from(info.bytes.saturating_sub(offset)).unwrap_or(usize::MAX)))
    }
}

/// Writes down what was lost, in a file of its own in `directory`; returns its path.
///
/// # Errors
/// It can't be written, or made durable.
pub fn write_lost(directory: &Path, shard: u16, lost: &[Lost], unix_seconds: u64) -> io::Result<PathBuf> {
    let mut number = 1;
    let (path, mut file) = loop {
        let path = directory.join(match number {
            1 => format!("lost-{unix_seconds}.txt"),
            _ => format!("lost-{unix_seconds}-{number}.txt"),
        });
        match File::create_new(&path) {
            Ok(file) => break (path, file),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    };
    file.write_all(lost_as_text(shard, lost).as_bytes())?;
    file.sync_all()?;
    File::open(directory)?.sync_all()?;
    Ok(path)
}

fn lost_as_text(shard: u16, lost: &[Lost]) -> String {
    let mut text =
        format!("Shard {shard} was started with --accept-loss, without what could not be read of its files:\n\n");
    for Lost { damage, from, to } in lost {
        let range = if from < to { format!("; records {} to {} were dropped", from.0, to.0) } else { String::new() };
        writeln!(text, "{damage}{range}").expect("strings take any text");
    }
    text += "\nPositions are bytes of records from the beginning of the log, or of that snapshot. Later records were applied:\n\
             a key may have an older value than it had, or be back, or gone.\n";
    text
}

#[cfg(test)]
mod tests;
