//! Work on a core's files that may block, as data: the engine gives it out, the driver has it done beside the core.
//!
//! Files are named by their numbers; whoever does the work knows their names and keeps open what has to stay so.

use super::{Aligned, FileInfo, Hinting, Lost, Lsn, NoHint, frame::FileId};
use crate::time::UnixMillis;
use std::{ops::Range, path::PathBuf};

/// A duty that gives out jobs, one at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Desk {
    /// The start, once all files have been read.
    Opening,
    /// The log's next segment.
    Segment,
    /// A snapshot.
    Snapshot,
    /// The log's oldest segment, with values on disk.
    Compaction,
    /// Hints of segments.
    Hints,
    /// Files that nobody needs any more: nobody waits for it, and any number of jobs may be under way.
    Release,
}

/// A piece of work.
#[derive(Debug)]
pub enum Job {
    /// Write down what a start lost that accepted a loss; [`Done::Lost`].
    WriteLost {
        /// What was lost.
        lost: Vec<Lost>,
        /// When.
        unix_seconds: u64,
    },
    /// Find out when the snapshot of this position was finished; [`Done::Time`].
    SnapshotTime(u64),
    /// Sync a segment that an earlier process has written; [`Done::Nothing`].
    SyncSegment(u64),
    /// Make the segment with this number ready, of a spare one; [`Done::Segment`].
    Prepare {
        /// The segment's number.
        number: u64,
        /// This use of it.
        id: FileId,
        /// How far the log is on disk.
        end: Lsn,
        /// The number of spare segments that have to be there afterwards.
        spares_left: u64,
    },
    /// Set segments aside that nobody needs; [`Done::Nothing`].
    Release {
        /// The segments' numbers.
        numbers: Vec<u64>,
        /// True on a full disk: as few as can be are kept.
        is_full: bool,
    },
    /// Remove files that a start which accepted a loss has found and that a snapshot of `since` has made superfluous;
    /// [`Done::Nothing`].
    ClearAway {
        /// The files.
        found: Vec<FileInfo>,
        /// The position of the snapshot.
        since: Lsn,
    },
    /// Begin the file of a snapshot; [`Done::Nothing`].
    BeginSnapshot {
        /// This file's own number.
        id: FileId,
        /// The position of the snapshot.
        since: Lsn,
        /// True if it may take the reserve.
        takes_reserve: bool,
    },
    /// Write a frame of the snapshot; [`Done::Written`].
    WriteSnapshot {
        /// The position of the snapshot.
        since: Lsn,
        /// The frame's place in the file.
        offset: u64,
        /// The frame is at its beginning.
        buffer: Aligned,
        /// Bytes of the frame.
        length: usize,
    },
    /// Make the snapshot count, and remove those before it; [`Done::Finished`].
    FinishSnapshot {
        /// The position of the snapshot.
        since: Lsn,
        /// Bytes of the snapshot.
        bytes: u64,
    },
    /// Give the unfinished snapshot up; [`Done::Nothing`].
    DropSnapshot(Lsn),
    /// Read a piece of a segment; [`Done::Values`].
    ReadValues {
        /// The segment's number.
        segment: u32,
        /// The identity of its frames; read from the segment where it is not known yet.
        id: Option<FileId>,
        /// The place of the piece.
        offset: u64,
    },
    /// Write down that the log begins at `begin`: a snapshot without keys; [`Done::Nothing`].
    WriteBeginning {
        /// The new snapshot's own number.
        id: FileId,
        /// The position.
        begin: Lsn,
        /// How far the log is on disk.
        persisted: Lsn,
    },
    /// Keep room on disk for the next beginning that is written; [`Done::Nothing`].
    KeepBeginning,
    /// Begin a hint of a segment; [`Done::Hint`] or [`Done::NoHint`].
    BeginHint(Left),
    /// Go on with a hint; [`Done::Hint`], [`Done::HintWritten`] or [`Done::NoHint`].
    ExtendHint(Box<HintWriting>),
    /// Remove the hint of a segment, if there is one; [`Done::Nothing`].
    RemoveHint(u64),
}

/// The outcome of a job that has not failed.
#[derive(Debug)]
pub enum Done {
    /// It is done.
    Nothing,
    /// The segment is ready to be written to.
    Segment(Segment),
    /// The frame is written; its buffer.
    Written(Aligned),
    /// The snapshot is there, of so many bytes.
    Finished(u64),
    /// A piece of a segment.
    Values(Chunk),
    /// There is more of the segment to read.
    Hint(Box<HintWriting>),
    /// The hint is there.
    HintWritten,
    /// There can be none.
    NoHint(NoHint),
    /// What was lost is written down here.
    Lost(PathBuf),
    /// A time.
    Time(UnixMillis),
}

/// A segment that can be written to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segment {
    /// This use of it.
    pub id: FileId,
    /// Its place in the sequence.
    pub number: u64,
    /// Its size.
    pub bytes: u64,
}

/// A segment that is needed and not written to any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Left {
    /// Its number.
    pub number: u64,
    /// The position of its first frame.
    pub first: Lsn,
    /// The position of the next segment's.
    pub end: Lsn,
}

/// A piece of a segment, and the keys and values in it.
#[derive(Debug)]
pub struct Chunk {
    /// The bytes.
    pub buffer: Aligned,
    /// The places of keys and values in them.
    pub found: Vec<(Range<usize>, Range<usize>)>,
    /// The identity of the segment's frames.
    pub id: FileId,
    /// The piece's place in the segment.
    pub offset: u64,
    /// The place of the next piece.
    pub next: u64,
    /// True if there is none.
    pub is_last: bool,
}

/// A hint in the making.
#[derive(Debug)]
pub struct HintWriting {
    /// The segment.
    pub left: Left,
    /// What was read of it.
    pub hinting: Hinting,
    /// The place of the next piece.
    pub offset: u64,
    /// Memory for it.
    pub buffer: Aligned,
}
