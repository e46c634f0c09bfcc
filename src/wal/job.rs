//! Jobs: work on a core's files that may block, as data. The engine starts them; the driver has them done on the core's
//! blocking thread.
//!
//! Jobs name files by their numbers. The code that does them knows the files' names and which have to stay open.

use super::{
    Aligned, FileInfo, Lost, Lsn, Report,
    files::{self, Beginning, Chunk, Files, HintStep, HintWriting, Layout, Left},
    frame::{FileId, FileKind},
    names,
};
use crate::time::UnixMillis;
use std::{io, sync::Arc};

/// A part of the engine that starts jobs, one at a time.
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
    /// Release of files that are not needed any more. Nothing waits for it, and any number of its jobs may be under way.
    Release,
}

/// Work that may block.
#[derive(Debug)]
pub enum Job {
    /// Write the report of what a start lost that accepted loss; [`Done::Lost`].
    WriteLost {
        /// The losses.
        lost: Vec<Lost>,
        /// The time.
        unix_seconds: u64,
    },
    /// Return the time at which the snapshot of this position was finished; [`Done::Time`].
    SnapshotTime(u64),
    /// Decide where the log continues that a start has read, and open that segment; [`Done::LogBegun`].
    BeginLog {
        /// The log, as it was found.
        report: Box<Report>,
        /// The position of the snapshot.
        saved: Lsn,
        /// The identity of a fresh segment.
        id: FileId,
    },
    /// Make the segment with this number ready, from a spare one; [`Done::Segment`].
    Prepare {
        /// The segment's number.
        number: u64,
        /// This use of it.
        id: FileId,
        /// The position up to which the log is on disk.
        end: Lsn,
        /// The number of spare segments that have to be there afterwards.
        spares_left: u64,
    },
    /// Release segments that are not needed: make spare ones of them, or remove them; [`Done::Nothing`].
    Release {
        /// The segments' numbers.
        numbers: Vec<u64>,
        /// True on a full disk: as few spare segments as possible are kept.
        is_full: bool,
    },
    /// Remove files that were found by a start that accepted loss, and that a snapshot of `since` has made superfluous;
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
        /// The frame's offset in the file.
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
    /// Abandon the unfinished snapshot; [`Done::Nothing`].
    DropSnapshot(Lsn),
    /// Read a piece of a segment; [`Done::Values`].
    ReadValues {
        /// The segment's number.
        segment: u32,
        /// The identity of its frames; `None`: read it from the segment.
        id: Option<FileId>,
        /// The offset of the piece.
        offset: u64,
    },
    /// Write a snapshot without keys, which says that the log begins at `begin`; [`Done::Nothing`].
    WriteBeginning {
        /// The new snapshot's own number.
        id: FileId,
        /// The position.
        begin: Lsn,
        /// The position up to which the log is on disk.
        persisted: Lsn,
    },
    /// Allocate room on disk for the next such snapshot; [`Done::Nothing`].
    KeepBeginning,
    /// Begin a hint of a segment; [`Done::Hint`].
    BeginHint(Left),
    /// Write the next part of a hint; [`Done::Hint`].
    ExtendHint(Box<HintWriting>),
    /// Remove the hint of a segment, if there is one; [`Done::Nothing`].
    RemoveHint(u64),
}

/// The result of a job that has not failed.
#[derive(Debug)]
pub enum Done {
    /// No result: it is done.
    Nothing,
    /// The segment is ready to be written to.
    Segment(Segment),
    /// The buffer of a frame that has been written.
    Written(Aligned),
    /// The size in bytes of a snapshot that counts now.
    Finished(u64),
    /// A piece of a segment.
    Values(Chunk),
    /// The state of a hint after a step in writing it.
    Hint(HintStep),
    /// The log, which can be written to.
    LogBegun(Box<LogBegun>),
    /// The path of the report of losses.
    Lost(String),
    /// The time that was asked for.
    Time(UnixMillis),
}

/// A segment that can be written to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Segment {
    /// The identity of this use of it.
    pub id: FileId,
    /// Its number in the sequence of segments.
    pub number: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A log that continues after a start.
#[derive(Debug)]
pub struct LogBegun {
    /// The log, as it was found, without the segments that are not needed any more.
    pub report: Report,
    /// The segment that is written to.
    pub active: Segment,
    /// The offset of its next frame.
    pub offset: u64,
    /// True if its last frame is a seal, or it has no frame.
    pub is_sealed: bool,
    /// The number that the next segment takes.
    pub next_number: u64,
    /// True if the segment was made ready for this start; false if it is the last one of the log that was found.
    pub is_fresh: bool,
}

/// A file that the log's frames are written to.
type File<F> = Arc<<F as Files>::File>;

impl Job {
    /// Does the job. Returns its result and, if it has opened a segment for the log, that segment's file.
    pub fn perform<F: Files>(self, layout: &Layout<F>) -> (io::Result<Done>, Option<File<F>>) {
        match self {
            Self::Prepare { number, id, end, spares_left } => {
                layout.try_again();
                split(layout.prepare(number, id, end, spares_left).map(|segment| (segment.split(), Done::Segment)))
            }
            Self::BeginLog { mut report, saved, id } => {
                let begun = layout.begin_log(&mut report, saved, id);
                split(begun.map(|beginning| {
                    let Beginning { active, offset, is_sealed, next_number, is_fresh, .. } = beginning;
                    let done = move |active| {
                        let begun = LogBegun { report: *report, active, offset, is_sealed, next_number, is_fresh };
                        Done::LogBegun(Box::new(begun))
                    };
                    (active.split(), done)
                }))
            }
            other => (other.perform_on(layout), None),
        }
    }

    fn perform_on<F: Files>(self, layout: &Layout<F>) -> io::Result<Done> {
        let files = &layout.files;
        match self {
            Self::Prepare { .. } | Self::BeginLog { .. } => unreachable!("they have a file to return"),
            Self::WriteLost { lost, unix_seconds } => {
                let path = files.write_lost(&lost, unix_seconds)?;
                layout.keep_damaged(lost.into_iter().map(|lost| lost.damage.file).collect());
                return Ok(Done::Lost(path));
            }
            Self::SnapshotTime(number) => {
                return files.modified_at(&names::name_of(FileKind::Snapshot, number)).map(Done::Time);
            }
            Self::Release { numbers, is_full } => layout.release(&numbers, is_full)?,
            Self::ClearAway { found, since } => layout.clear_away(&found, since)?,
            Self::BeginSnapshot { id, since, takes_reserve } => {
                drop(layout.begin_snapshot(id, since, takes_reserve)?)
            }
            Self::WriteSnapshot { since, offset, buffer, length } => {
                files.write_at(&layout.open_snapshot(since)?, &buffer.bytes()[..length], offset)?;
                return Ok(Done::Written(buffer));
            }
            Self::FinishSnapshot { since, bytes } => {
                return layout.finish_snapshot(&layout.open_snapshot(since)?, since, bytes).map(Done::Finished);
            }
            Self::DropSnapshot(since) => layout.drop_snapshot(since),
            Self::ReadValues { segment, id, offset } => {
                return layout.read_values(segment, id, offset).map(Done::Values);
            }
            Self::WriteBeginning { id, begin, persisted } => layout.write_beginning(id, begin, persisted)?,
            Self::KeepBeginning => layout.keep_beginning(),
            Self::BeginHint(left) => return layout.begin_hint(left).map(Done::Hint),
            Self::ExtendHint(writing) => return layout.go_on_with_hint(writing).map(Done::Hint),
            Self::RemoveHint(segment) => drop(layout.remove_hint(segment)?),
        }
        Ok(Done::Nothing)
    }
}

impl<T> files::Segment<T> {
    fn split(self) -> (Segment, Arc<T>) {
        let Self { file, id, number, bytes } = self;
        (Segment { id, number, bytes }, file)
    }
}

/// Splits the result of a job that opens a segment into its outcome and the file.
fn split<T>(
    outcome: io::Result<((Segment, Arc<T>), impl FnOnce(Segment) -> Done)>,
) -> (io::Result<Done>, Option<Arc<T>>) {
    match outcome {
        Ok(((segment, file), done)) => (Ok(done(segment)), Some(file)),
        Err(error) => (Err(error), None),
    }
}
