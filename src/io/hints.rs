//! The files of hints.

use super::{compaction::whole_blocks, directory::ShardFiles, wal::segment::Layout};
use crate::wal::{
    Aligned, Done, HintWriting, Hinting, Left, NoHint,
    frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileKind},
    room::has_room_for_hint,
};
use std::{fs, fs::File, io, io::Write as _, os::unix::fs::FileExt};

/// Bytes of a segment that are read at once: more than the largest frame.
const READ_BYTES: usize = 2 * FRAME_BYTES_MAX;

impl Layout {
    pub(super) fn begin_hint(&self, left: Left) -> io::Result<Done> {
        let disk = rustix::fs::statvfs(self.files.path())?;
        if !has_room_for_hint(disk.f_bavail * disk.f_frsize, self.segment_bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let path = self.files.path_of(FileKind::Segment, left.number);
        let segment = self.options(0).write(false).open(path)?;
        let mut buffer = Aligned::new(READ_BYTES);
        segment.read_exact_at(&mut buffer.bytes_mut()[..BLOCK_BYTES], 0)?;
        let header = match FileHeader::decode(buffer.bytes()) {
            Ok(header) if header.number == left.number => header,
            _ => return Ok(Done::NoHint(NoHint::Damaged(0))),
        };
        let (hinting, block) = Hinting::new(header, left.first, left.end);
        let mut file = File::create(self.files.unfinished_path_of(FileKind::Hint, left.number))?;
        file.write_all(&block)?;
        let offset = BLOCK_BYTES as u64;
        Ok(Done::Hint(Box::new(HintWriting { left, hinting, offset, buffer })))
    }

    pub(super) fn extend_hint(&self, mut writing: Box<HintWriting>) -> io::Result<Done> {
        let number = writing.left.number;
        let outcome = self.read_for_hint(&mut writing);
        let unfinished = self.files.unfinished_path_of(FileKind::Hint, number);
        match outcome {
            Ok(None) => Ok(Done::Hint(writing)),
            Ok(Some(Ok(()))) => {
                fs::rename(unfinished, self.files.path_of(FileKind::Hint, number))?;
                Ok(Done::HintWritten)
            }
            Ok(Some(Err(why))) => {
                fs::remove_file(unfinished)?;
                Ok(Done::NoHint(why))
            }
            Err(error) => {
                let _ = fs::remove_file(unfinished);
                Err(error)
            }
        }
    }

    /// Takes the next piece of the segment. Says how it ended, once it has.
    fn read_for_hint(&self, writing: &mut HintWriting) -> io::Result<Option<Result<(), NoHint>>> {
        let HintWriting { left, hinting, offset, buffer } = writing;
        let segment = self.options(0).write(false).open(self.files.path_of(FileKind::Segment, left.number))?;
        let unfinished = self.files.unfinished_path_of(FileKind::Hint, left.number);
        let mut file = File::options().append(true).open(unfinished)?;
        let size = segment.metadata()?.len();
        let length = whole_blocks(size.saturating_sub(*offset)).min(READ_BYTES);
        segment.read_exact_at(&mut buffer.bytes_mut()[..length], *offset)?;
        let mut out = Vec::new();
        let used = match hinting.take(&buffer.bytes()[..length], *offset, &mut out) {
            Ok(used) => used,
            Err(why) => return Ok(Some(Err(why))),
        };
        file.write_all(&out)?;
        if hinting.is_done() {
            // Before it gets its name: a hint without its bytes would only be in the way.
            file.sync_data()?;
            return Ok(Some(Ok(())));
        }
        if used == 0 {
            return Ok(Some(Err(NoHint::Damaged(*offset))));
        }
        *offset += used as u64;
        Ok(None)
    }

    /// Removes a segment's hint, if there is one.
    ///
    /// # Errors
    /// What the file system says.
    pub(in crate::io) fn remove_hint(&self, segment: u64) -> io::Result<()> {
        let paths =
            [self.files.path_of(FileKind::Hint, segment), self.files.unfinished_path_of(FileKind::Hint, segment)];
        for path in paths {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The bytes that a segment's hint has to have, for who checks it.
///
/// # Errors
/// The segment can't be read.
pub(super) fn hint_of(files: &ShardFiles, left: Left) -> io::Result<Result<Vec<u8>, NoHint>> {
    let segment = File::open(files.path_of(FileKind::Segment, left.number))?;
    let size = segment.metadata()?.len();
    let mut buffer = vec![0; READ_BYTES];
    segment.read_exact_at(&mut buffer[..BLOCK_BYTES], 0)?;
    let Ok(header) = FileHeader::decode(&buffer) else { return Ok(Err(NoHint::Damaged(0))) };
    let (mut hinting, block) = Hinting::new(header, left.first, left.end);
    let (mut out, mut offset) = (block.to_vec(), BLOCK_BYTES as u64);
    while !hinting.is_done() {
        let length = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(READ_BYTES);
        segment.read_exact_at(&mut buffer[..length], offset)?;
        match hinting.take(&buffer[..length], offset, &mut out) {
            Ok(0) if !hinting.is_done() => return Ok(Err(NoHint::Damaged(offset))),
            Ok(used) => offset += used as u64,
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(out))
}
