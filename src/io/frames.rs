//! Walks along the frames of one file, whatever it looks like: for `trine dump` and `trine check`.
//!
//! What a server may believe of its files [`Recovery`](crate::wal::Recovery) decides; this shows what there is.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use crate::wal::frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileId, FrameHeader, Invalid, frame_bytes};

/// Bytes that are read at once.
const READ_BYTES: usize = 4 * FRAME_BYTES_MAX;

/// The next part of a file.
#[derive(Debug)]
pub(super) enum Part<'a> {
    /// A whole frame at this offset, with its records.
    Frame(u64, FrameHeader, &'a [u8]),
    /// Blocks in which no whole frame begins.
    Gap(Gap),
}

/// Blocks in which no whole frame begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    /// The position of the first.
    pub(super) from: u64,
    /// The position of their end: a whole frame, or the end of the file.
    pub(super) to: u64,
    /// The reason why the first is invalid.
    pub(super) why: Invalid,
    /// Nothing was ever written there.
    pub(super) is_blank: bool,
    /// There is nothing behind them.
    pub(super) is_end: bool,
}

impl Gap {
    /// Returns a description of the contents, and true if it was on disk once.
    pub(super) fn describe(&self) -> (&'static str, bool) {
        match (self.is_end, self.is_blank, self.why) {
            (true, true, _) => ("zeros to the end of the file", false),
            (true, false, Invalid::File) => ("what an earlier use of the file has left, to its end", false),
            (true, false, _) => {
                ("no whole frame, and none behind it: a write that was cut off, or the last one, damaged", false)
            }
            (false, true, _) => ("DAMAGED: zeros, and a whole frame behind them", true),
            (false, false, Invalid::Malformed) => ("DAMAGED: the checksum is right, but this is no frame", true),
            (false, false, _) => ("DAMAGED: no whole frame, and one behind it", true),
        }
    }
}

/// One file, from its beginning to its end.
#[derive(Debug)]
pub(super) struct Frames {
    file: File,
    id: FileId,
    length: u64,
    /// The part of the file that is in memory, from there on.
    buffer: Vec<u8>,
    buffer_at: u64,
    /// The position at which the next frame is looked for.
    offset: u64,
    /// A whole frame is there, this long.
    found: Option<usize>,
}

impl Frames {
    /// Opens a file. Its header is what it says, or what is wrong with it; frames are looked for all the same.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Result<FileHeader, Invalid>)> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut frames = Self {
            file,
            id: FileId::default(),
            length,
            buffer: Vec::new(),
            buffer_at: 0,
            offset: BLOCK_BYTES as u64,
            found: None,
        };
        frames.fill(0)?;
        let header = FileHeader::decode(&frames.buffer);
        frames.id = match header {
            Ok(header) => header.id,
            Err(_) => frames.buffer.get(BLOCK_BYTES..).and_then(FrameHeader::claimed_file).unwrap_or_default(),
        };
        Ok((frames, header))
    }

    /// The file's size, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.length
    }

    /// Returns true if the header or the first frame says which frames belong to the file.
    pub(super) fn have_identity(&self) -> bool {
        self.id != FileId::default()
    }

    /// Returns what comes next; `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<Part<'_>>> {
        let from = self.offset;
        let mut first: Option<Invalid> = None;
        let mut is_blank = true;
        while self.found.is_none() && self.offset < self.length {
            match self.decode()? {
                Ok(length) => self.found = Some(length),
                Err(invalid) => {
                    first.get_or_insert(invalid);
                    let block = &self.rest()[..BLOCK_BYTES.min(self.rest().len())];
                    is_blank &= block.iter().all(|&byte| byte == 0);
                    self.offset += block.len() as u64;
                }
            }
        }
        if let Some(why) = first {
            let (to, is_end) = (self.offset, self.found.is_none());
            return Ok(Some(Part::Gap(Gap { from, to, why, is_blank, is_end })));
        }
        let Some(length) = self.found.take() else { return Ok(None) };
        self.offset = from + length as u64;
        let frame = &self.buffer[(from - self.buffer_at) as usize..];
        let (header, records) = FrameHeader::decode(frame, self.id).expect("it was found whole");
        Ok(Some(Part::Frame(from, header, records)))
    }

    /// The bytes of the whole frame that begins here, if one does.
    fn decode(&mut self) -> io::Result<Result<usize, Invalid>> {
        let decode = |frames: &Self| FrameHeader::decode(frames.rest(), frames.id).map(|(_, records)| records.len());
        let mut decoded = decode(self);
        if let Err(Invalid::Short(_)) = decoded {
            self.fill(self.offset)?;
            decoded = decode(self);
        }
        Ok(decoded.map(frame_bytes))
    }

    /// Returns the bytes in memory from the offset on; not empty before the end of the file.
    fn rest(&self) -> &[u8] {
        usize::try_from(self.offset - self.buffer_at).ok().and_then(|at| self.buffer.get(at..)).unwrap_or_default()
    }

    /// Reads on from there.
    fn fill(&mut self, offset: u64) -> io::Result<()> {
        let length = (self.length.saturating_sub(offset)).min(READ_BYTES as u64) as usize;
        self.buffer.resize(length, 0);
        self.buffer_at = offset;
        self.file.read_exact_at(&mut self.buffer, offset)
    }
}
