//! Damage of a shard's files, and its error messages.

use crate::wal::{
    Lsn,
    frame::{Invalid, VERSION},
};
use std::fmt;

/// Damage of a file, on which a shard does not start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damage {
    /// The file's name.
    pub file: String,
    /// The offset in the file.
    pub offset: u64,
    /// The problem there.
    pub problem: Problem,
}

/// A problem of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Problem {
    /// Bytes that were on disk have changed: there are whole frames behind them.
    Changed(Invalid),
    /// A newer version wrote it: start that one.
    Version(u16),
    /// The file belongs to another directory or shard, or has the wrong name.
    Foreign,
    /// Records between these positions are in no file.
    Missing(Lsn, Lsn),
    /// The file ends too early.
    Short,
    /// The file has another size than it was made with.
    Resized {
        /// Its size, in bytes.
        bytes: u64,
        /// The size that it should have.
        made: u64,
    },
}

/// Records that could not be read, and that the operator has accepted to lose.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lost {
    /// The damage that they were lost by.
    pub damage: Damage,
    /// The position of the first record that could not be read. Snapshots have positions of their own.
    pub from: Lsn,
    /// The position of the first record that could be read again, or the end of what was read.
    pub to: Lsn,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(Invalid::Malformed) => out.write_str("the checksum is right, but this is no record"),
            Self::Changed(_) => out.write_str("bytes that were on disk have changed or are missing"),
            Self::Version(version) => {
                write!(out, "written in format {version}; this version knows {VERSION}: start a newer one")
            }
            Self::Foreign => out.write_str("the file belongs to another directory or shard, or under another name"),
            Self::Missing(from, to) => {
                write!(out, "records {} to {} are in no file", from.0, to.0)
            }
            Self::Short => out.write_str("the file ends too early"),
            Self::Resized { bytes, made } if bytes < made => {
                write!(out, "the file was cut short: it has {bytes} bytes, and was made with {made}")
            }
            Self::Resized { bytes, made } => {
                write!(out, "something was appended to the file: it has {bytes} bytes, and was made with {made}")
            }
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} at offset {}: {}", self.file, self.offset, self.problem)
    }
}

impl std::error::Error for Damage {}
