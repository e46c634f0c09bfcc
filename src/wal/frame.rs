//! Frames: what is written to a log's files in one operation, and how it is told from what was never written, or changed since.
//!
//! A file begins with a block that says what it is ([`FileHeader`]); frames follow, each padded to a whole block, so that a
//! block that is on disk is never written again. `README.md` draws the bytes, and a test pins them.

use super::Lsn;

/// The unit of writing: a disk's sectors and a file system's blocks are no larger, and memory's pages are this large.
pub const BLOCK_BYTES: usize = 4096;
/// The largest frame, header and padding included: what io_uring writes in one operation without splitting it.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes of a frame before its records.
pub const FRAME_HEADER_BYTES: usize = 48;
/// The most bytes of records in one frame.
pub const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - FRAME_HEADER_BYTES;
/// The version of the format that is written. That and version 1, which had no versions of slots, are read.
pub const VERSION: u16 = 2;

const FILE_MAGIC: [u8; 8] = *b"TRINELOG";
const FRAME_MAGIC: [u8; 4] = *b"TRNF";
/// Bytes of a file's header, by its version: version 2 has room, which is zeros and is not looked at.
const FILE_HEADER_BYTES: [usize; 2] = [64, 128];

/// Tells one use of a file from every other, so that frames of its earlier use are not believed. Drawn at random, so that no
/// client can write a value that would pass for a frame.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FileId(pub u64);

/// What a file holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileKind {
    /// A part of the log.
    Segment,
    /// Every live key.
    Snapshot,
    /// What a segment holds, but for its values.
    Hint,
}

/// The first block of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileHeader {
    /// The version of the format that it is written in.
    pub version: u16,
    /// What it holds.
    pub kind: FileKind,
    /// Which shard wrote it.
    pub shard: u16,
    /// The directory that it belongs to.
    pub directory: u64,
    /// This use of the file; a hint's is that of its segment.
    pub id: FileId,
    /// A segment's place in the sequence of segments; a hint's is that of its segment.
    pub number: u64,
    /// A snapshot's: with the log from here on it is everything. A segment's: the end of the log when it was made ready,
    /// which comes before its first record. A hint's: the segment's first record.
    pub lsn: Lsn,
    /// The size that a segment's file was made with, in bytes, and has for as long as it is one; 0 where an earlier build made
    /// it and did not say. Snapshots and hints end with a seal, and have 0.
    pub bytes: u64,
}

/// What a frame is in its file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameKind {
    /// Whole records, and perhaps the beginning of one that the next frames continue.
    Records,
    /// More of a record that began in an earlier frame, and nothing else.
    Continued,
    /// No records: all before it is whole. The end of a snapshot, or of a log that fell silent.
    Seal,
}

/// A frame without its records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameHeader {
    /// What it is.
    pub kind: FrameKind,
    /// The file that it was written to.
    pub file: FileId,
    /// The position of its first byte of records. In a snapshot and a hint, positions are the file's own.
    pub lsn: Lsn,
    /// The log was on disk up to here when the frame was written; also in a snapshot's seal. In a hint's seal, the position of
    /// the end of its segment.
    pub synced: Lsn,
    /// Bytes of records.
    pub length: u32,
}

/// Why bytes are not the header or the frame that is looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Invalid {
    /// There are fewer bytes than it takes: this many are needed.
    Short(usize),
    /// It does not begin like one. Zeros: nothing was ever written here.
    Magic,
    /// A newer version wrote it: start that one.
    Version(u16),
    /// Its checksum is wrong: not all of it was written, or it has changed.
    Checksum,
    /// It is one, but of an earlier use of the file.
    File,
    /// Its checksum is right and it makes no sense: we are wrong.
    Malformed,
}

/// The bytes that a frame with so many bytes of records takes in its file.
#[inline]
pub fn frame_bytes(length: usize) -> usize {
    (FRAME_HEADER_BYTES + length).next_multiple_of(BLOCK_BYTES)
}

impl FileHeader {
    /// The file's first block.
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        block[..8].copy_from_slice(&FILE_MAGIC);
        block[8..10].copy_from_slice(&self.version.to_le_bytes());
        let kind: u16 = match self.kind {
            FileKind::Segment => 0,
            FileKind::Snapshot => 1,
            FileKind::Hint => 2,
        };
        block[10..12].copy_from_slice(&kind.to_le_bytes());
        block[12..14].copy_from_slice(&self.shard.to_le_bytes());
        block[16..24].copy_from_slice(&self.directory.to_le_bytes());
        block[24..32].copy_from_slice(&self.id.0.to_le_bytes());
        block[32..40].copy_from_slice(&self.number.to_le_bytes());
        block[40..48].copy_from_slice(&self.lsn.0.to_le_bytes());
        block[48..56].copy_from_slice(&self.bytes.to_le_bytes());
        let end = header_bytes(self.version).expect("a version that is written");
        let sum = crc32c::crc32c(&block[..end - 4]);
        block[end - 4..end].copy_from_slice(&sum.to_le_bytes());
        block
    }

    /// Reads a file's first block.
    ///
    /// # Errors
    /// [`Invalid`]. The version is looked at before anything else is believed.
    pub fn decode(block: &[u8]) -> Result<Self, Invalid> {
        let header = block.get(..FILE_HEADER_BYTES[1]).ok_or(Invalid::Short(BLOCK_BYTES))?;
        if header[..8] != FILE_MAGIC {
            return Err(Invalid::Magic);
        }
        let version = u16_at(header, 8);
        let end = header_bytes(version).ok_or(Invalid::Version(version))?;
        if crc32c::crc32c(&header[..end - 4]) != u32_at(header, end - 4) {
            return Err(Invalid::Checksum);
        }
        let kind = match u16_at(header, 10) {
            0 => FileKind::Segment,
            1 => FileKind::Snapshot,
            2 => FileKind::Hint,
            _ => return Err(Invalid::Malformed),
        };
        Ok(Self {
            version,
            kind,
            shard: u16_at(header, 12),
            directory: u64_at(header, 16),
            id: FileId(u64_at(header, 24)),
            number: u64_at(header, 32),
            lsn: Lsn(u64_at(header, 40)),
            bytes: u64_at(header, 48),
        })
    }

    /// Returns the size that a file of `bytes` bytes should have, where that is known and another.
    pub fn wrong_size(&self, bytes: u64) -> Option<u64> {
        (self.bytes != 0 && self.bytes != bytes).then_some(self.bytes)
    }
}

impl FrameHeader {
    /// Makes a frame of a buffer whose records already stand behind the room for the header: fills in the header and the
    /// padding. Returns the frame's bytes, a whole number of blocks.
    ///
    /// # Panics
    /// Where the buffer is shorter than [`frame_bytes`] of the length.
    #[inline]
    pub fn seal(&self, buffer: &mut [u8]) -> usize {
        self.seal_as(VERSION, buffer)
    }

    /// As [`seal`](Self::seal), in a version of the format.
    #[inline]
    pub fn seal_as(&self, version: u16, buffer: &mut [u8]) -> usize {
        let length = self.length as usize;
        let (end, total) = (FRAME_HEADER_BYTES + length, frame_bytes(length));
        buffer[end..total].fill(0);
        let header = &mut buffer[..FRAME_HEADER_BYTES];
        header.fill(0);
        header[..4].copy_from_slice(&FRAME_MAGIC);
        header[4..6].copy_from_slice(&version.to_le_bytes());
        let kind: u16 = match self.kind {
            FrameKind::Records => 0,
            FrameKind::Continued => 1,
            FrameKind::Seal => 2,
        };
        header[6..8].copy_from_slice(&kind.to_le_bytes());
        header[8..16].copy_from_slice(&self.file.0.to_le_bytes());
        header[16..24].copy_from_slice(&self.lsn.0.to_le_bytes());
        header[24..32].copy_from_slice(&self.synced.0.to_le_bytes());
        header[32..36].copy_from_slice(&self.length.to_le_bytes());
        let sum = checksum(&buffer[..end]);
        buffer[CHECKSUM..CHECKSUM + 4].copy_from_slice(&sum.to_le_bytes());
        total
    }

    /// Reads the frame that begins here, and its records.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn decode(bytes: &[u8], file: FileId) -> Result<(Self, &[u8]), Invalid> {
        let header = bytes.get(..FRAME_HEADER_BYTES).ok_or(Invalid::Short(BLOCK_BYTES))?;
        if header[..4] != FRAME_MAGIC {
            return Err(Invalid::Magic);
        }
        let version = u16_at(header, 4);
        // Of a frame's version nothing can be said where the frame is torn; the file's header was looked at already.
        if header_bytes(version).is_none() {
            return Err(Invalid::Checksum);
        }
        if u64_at(header, 8) != file.0 {
            return Err(Invalid::File);
        }
        let length = u32_at(header, 32) as usize;
        if PAYLOAD_BYTES_MAX < length {
            return Err(Invalid::Checksum);
        }
        let end = FRAME_HEADER_BYTES + length;
        // The padding too: a frame that is not all there must not pass for one that is.
        let whole = bytes.get(..frame_bytes(length)).ok_or(Invalid::Short(frame_bytes(length)))?;
        if checksum(&whole[..end]) != u32_at(header, CHECKSUM) {
            return Err(Invalid::Checksum);
        }
        let kind = match u16_at(header, 6) {
            0 => FrameKind::Records,
            1 => FrameKind::Continued,
            2 if length == 0 => FrameKind::Seal,
            _ => return Err(Invalid::Malformed),
        };
        let header =
            Self { kind, file, lsn: Lsn(u64_at(header, 16)), synced: Lsn(u64_at(header, 24)), length: length as u32 };
        Ok((header, &whole[FRAME_HEADER_BYTES..end]))
    }
}

impl FrameHeader {
    /// The file that the frame at the beginning of these bytes says it was written to, whether it is whole or not: for a file
    /// whose own header is gone.
    pub fn claimed_file(bytes: &[u8]) -> Option<FileId> {
        let header = bytes.get(..FRAME_HEADER_BYTES)?;
        (header[..4] == FRAME_MAGIC).then(|| FileId(u64_at(header, 8)))
    }
}

impl FrameHeader {
    /// Whether these bytes begin as a frame of this file does, be it whole or not.
    pub fn begins(bytes: &[u8], file: FileId) -> bool {
        bytes.get(..FRAME_HEADER_BYTES).is_some_and(|header| header[..4] == FRAME_MAGIC && u64_at(header, 8) == file.0)
    }
}

/// Returns the bytes of a file's header in a version of the format, if that is known.
fn header_bytes(version: u16) -> Option<usize> {
    FILE_HEADER_BYTES.get(usize::from(version.checked_sub(1)?)).copied()
}

/// Where a frame's checksum stands.
const CHECKSUM: usize = 36;

/// CRC-32C of all of a frame but the checksum itself.
#[inline]
fn checksum(frame: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&frame[..CHECKSUM]);
    crc32c::crc32c_append(sum, &frame[CHECKSUM + 4..])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests;
