//! What is wrong with a shard's files, in words.

use crate::wal::{
    Lsn,
    frame::{Invalid, VERSION},
};
use std::fmt;

/// Why a shard can't start on its files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Problem {
    /// Bytes that were on disk have changed: there are whole frames behind them.
    Changed(Invalid),
    /// A newer version wrote it: start that one.
    Version(u16),
    /// It belongs to another directory or shard, or under another name.
    Foreign,
    /// Records between these positions are in no file.
    Missing(Lsn, Lsn),
    /// It ends too early.
    Short,
    /// It has another size than it was made with.
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
    /// Where.
    pub damage: Damage,
    /// The position of the first record that could not be read. In a snapshot, positions are the file's own.
    pub from: Lsn,
    /// The position of the first that could be again, or the end of what was read.
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
