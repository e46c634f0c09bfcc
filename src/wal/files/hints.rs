//! Writing of hints: each is made from its segment, one piece after the other.

use super::{Files, Layout, Left, segments::whole_blocks, storage_full};
use crate::wal::{
    Hinting, NoHint,
    aligned::Aligned,
    frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileKind},
    names,
    room::has_room_for_hint,
};
use std::io;

/// The bytes of a segment that are read at once: more than the largest frame.
const READ_BYTES: usize = 2 * FRAME_BYTES_MAX;

/// A hint that is being written.
#[derive(Debug)]
pub struct HintWriting {
    left: Left,
    hinting: Hinting,
    /// The offset of the next read in the segment.
    offset: u64,
    /// The offset of the next write in the hint.
    written: u64,
}

/// The result of a step in writing a hint.
#[derive(Debug)]
pub enum HintStep {
    /// The hint is not whole: there is more of the segment to read.
    Begun(Box<HintWriting>),
    /// The hint is written.
    Written,
    /// The segment can have no hint.
    Impossible(NoHint),
}

impl<F: Files> Layout<F> {
    /// Begins the hint of a segment.
    ///
    /// # Errors
    /// Those of the file system; [`io::ErrorKind::StorageFull`] also if the hint would take room that the log may need.
    pub fn begin_hint(&self, left: Left) -> io::Result<HintStep> {
        if !has_room_for_hint(self.files.free_bytes()?, self.segment_bytes) {
            return Err(storage_full());
        }
        let segment = self.files.open(&names::name_of(FileKind::Segment, left.number))?;
        let mut block = Aligned::new(BLOCK_BYTES);
        self.files.read_at(&segment, block.bytes_mut(), 0)?;
        let header = match FileHeader::decode(block.bytes()) {
            Ok(header) if header.number == left.number => header,
            _ => return Ok(HintStep::Impossible(NoHint::Damaged(0))),
        };
        let (hinting, first) = Hinting::new(header, left.first, left.end);
        let file = self.files.create(&unfinished(left.number))?;
        block.bytes_mut().copy_from_slice(&first);
        self.files.write_at(&file, block.bytes(), 0)?;
        let offset = BLOCK_BYTES as u64;
        Ok(HintStep::Begun(Box::new(HintWriting { left, hinting, offset, written: offset })))
    }

    /// Reads the next piece of a hint's segment, and writes the next part of the hint.
    ///
    /// # Errors
    /// Those of the file system; the unfinished hint is removed then.
    pub fn go_on_with_hint(&self, mut writing: Box<HintWriting>) -> io::Result<HintStep> {
        let name = unfinished(writing.left.number);
        match self.read_for_hint(&name, &mut writing) {
            Ok(None) => Ok(HintStep::Begun(writing)),
            Ok(Some(Ok(()))) => {
                self.files.rename(&name, &names::name_of(FileKind::Hint, writing.left.number))?;
                Ok(HintStep::Written)
            }
            Ok(Some(Err(why))) => {
                self.files.remove(&name)?;
                Ok(HintStep::Impossible(why))
            }
            Err(error) => {
                let _ = self.files.remove(&name);
                Err(error)
            }
        }
    }

    /// Reads the next piece of the segment, and writes the next part of the hint. Returns the outcome once the hint has one.
    fn read_for_hint(&self, name: &str, writing: &mut HintWriting) -> io::Result<Option<Result<(), NoHint>>> {
        let HintWriting { left, hinting, offset, written } = writing;
        let segment = self.files.open(&names::name_of(FileKind::Segment, left.number))?;
        let length = whole_blocks(self.files.size(&segment)?.saturating_sub(*offset)).min(READ_BYTES);
        let mut buffer = Aligned::new(READ_BYTES);
        self.files.read_at(&segment, &mut buffer.bytes_mut()[..length], *offset)?;
        let mut out = Vec::new();
        let used = match hinting.take(&buffer.bytes()[..length], *offset, &mut out) {
            Ok(used) => used,
            Err(why) => return Ok(Some(Err(why))),
        };
        let file = self.files.open(name)?;
        let mut aligned = Aligned::new(out.len());
        aligned.bytes_mut().copy_from_slice(&out);
        self.files.write_at(&file, aligned.bytes(), *written)?;
        *written += out.len() as u64;
        if hinting.is_done() {
            // Synced before it is renamed: a hint without its bytes would only cost time.
            self.files.sync(&file)?;
            return Ok(Some(Ok(())));
        }
        if used == 0 {
            return Ok(Some(Err(NoHint::Damaged(*offset))));
        }
        *offset += used as u64;
        Ok(None)
    }

    /// Removes a segment's hint, whole or unfinished. Returns true if there was a whole one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove_hint(&self, segment: u64) -> io::Result<bool> {
        let is_gone = self.remove_if_there(&names::name_of(FileKind::Hint, segment))?;
        self.remove_if_there(&unfinished(segment))?;
        Ok(is_gone)
    }
}

/// Returns the name of a hint until it is whole.
fn unfinished(segment: u64) -> String {
    names::unfinished(&names::name_of(FileKind::Hint, segment))
}

/// Returns the bytes that the hint of a segment must have. `read` fills a buffer from the segment at an offset.
///
/// # Errors
/// If the segment can't be read.
pub fn hint_bytes(
    left: Left,
    size: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<Result<Vec<u8>, NoHint>> {
    let mut buffer = vec![0; READ_BYTES];
    read(&mut buffer[..BLOCK_BYTES], 0)?;
    let Ok(header) = FileHeader::decode(&buffer) else { return Ok(Err(NoHint::Damaged(0))) };
    let (mut hinting, block) = Hinting::new(header, left.first, left.end);
    let (mut out, mut offset) = (block.to_vec(), BLOCK_BYTES as u64);
    while !hinting.is_done() {
        let length = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(READ_BYTES);
        read(&mut buffer[..length], offset)?;
        match hinting.take(&buffer[..length], offset, &mut out) {
            Ok(0) if !hinting.is_done() => return Ok(Err(NoHint::Damaged(offset))),
            Ok(used) => offset += used as u64,
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(out))
}
