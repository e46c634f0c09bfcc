//! Hints, for who checks them.

use super::directory::ShardFiles;
use crate::wal::{Left, NoHint, files::hint_bytes, frame::FileKind};
use std::{fs::File, io, os::unix::fs::FileExt};

/// The bytes that a segment's hint has to have, for who checks it.
///
/// # Errors
/// The segment can't be read.
pub(super) fn hint_of(files: &ShardFiles, left: Left) -> io::Result<Result<Vec<u8>, NoHint>> {
    let segment = File::open(files.path_of(FileKind::Segment, left.number))?;
    let size = segment.metadata()?.len();
    hint_bytes(left, size, |buffer, offset| segment.read_exact_at(buffer, offset))
}
