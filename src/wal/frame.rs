//! Frames: the units of writes to a log's files, each with a checksum that tells it from bytes that were never written or have
//! changed since.
//!
//! A file begins with a block that identifies it ([`FileHeader`]); frames follow, each padded to a whole block, so that a
//! block that is on disk is never written again. `README.md` draws the bytes, and a test pins them.

use super::Lsn;

/// The bytes of a block, the unit of writing: a disk's sectors and a file system's blocks are no larger, and memory's pages are
/// this large.
pub const BLOCK_BYTES: usize = 4096;
/// The largest frame, including header and padding: io_uring writes that many bytes in one operation without splitting it.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes of a frame before its records.
pub const FRAME_HEADER_BYTES: usize = 48;
/// The most bytes of records in one frame.
pub const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - FRAME_HEADER_BYTES;
/// The version of the format that is written. It is read, and so is version 1, which has no versions of slots.
pub const VERSION: u16 = 2;

const FILE_MAGIC: [u8; 8] = *b"TRINELOG";
const FRAME_MAGIC: [u8; 4] = *b"TRNF";
/// Bytes of a file's header, by its version. That of version 2 has unused room, which is zeros and ignored.
const FILE_HEADER_BYTES: [usize; 2] = [64, 128];

/// The identity of one use of a file, so that frames of an earlier use are not taken for its own. It is random, so that no
/// client can write a value that would pass for a frame.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FileId(pub u64);

/// The kind of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileKind {
    /// A part of the log.
    Segment,
    /// Every live key.
    Snapshot,
    /// The contents of a segment without its values.
    Hint,
}

/// The first block of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileHeader {
    /// The version of the format that it is written in.
    pub version: u16,
    /// The kind of the file.
    pub kind: FileKind,
    /// The shard that wrote it.
    pub shard: u16,
    /// The id of the data directory that it belongs to.
    pub directory: u64,
    /// This use of the file; a hint has that of its segment.
    pub id: FileId,
    /// A segment's number in the sequence of segments; a hint has that of its segment.
    pub number: u64,
    /// Of a snapshot: together with the log from this position on, it is complete. Of a segment: the end of the log when it was
    /// made ready, which is not behind its first record. Of a hint: the position of the segment's first record.
    pub lsn: Lsn,
    /// The size that a segment's file was made with, in bytes, and keeps as long as it is a segment; 0 if an earlier build made
    /// it, which did not store the size. Snapshots and hints end with a seal, and have 0.
    pub bytes: u64,
}

/// The kind of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameKind {
    /// Whole records, and perhaps the beginning of one that the next frames continue.
    Records,
    /// The continuation of a record that began in an earlier frame, and nothing else.
    Continued,
    /// No records: all before it is whole. The end of a snapshot, or of a log to which nothing was written for a while.
    Seal,
}

/// A frame without its records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameHeader {
    /// The kind of the frame.
    pub kind: FrameKind,
    /// The file that it was written to.
    pub file: FileId,
    /// The position of its first byte of records. Snapshots and hints have positions of their own.
    pub lsn: Lsn,
    /// The position up to which the log was on disk when the frame was written, also in a snapshot's seal. In a hint's seal,
    /// the position of the end of its segment.
    pub synced: Lsn,
    /// Bytes of records.
    pub length: u32,
}

/// The reason why bytes are not the header or the frame that is looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Invalid {
    /// There are too few bytes; this many are needed.
    Short(usize),
    /// The bytes do not begin like one. If they are zeros, nothing was ever written here.
    Magic,
    /// A newer version wrote it: start that one.
    Version(u16),
    /// The checksum is wrong: not all of it was written, or it has changed.
    Checksum,
    /// It is one of an earlier use of the file.
    File,
    /// The checksum is right, but the contents are invalid: a bug.
    Malformed,
}

/// Returns the bytes that a frame with `length` bytes of records takes in its file.
#[inline]
pub fn frame_bytes(length: usize) -> usize {
    (FRAME_HEADER_BYTES + length).next_multiple_of(BLOCK_BYTES)
}

impl FileHeader {
    /// Returns the file's first block.
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

    /// Decodes a file's first block.
    ///
    /// # Errors
    /// [`Invalid`]. The version is checked before all other fields.
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

    /// Returns the size that the file should have, if that is known and is not `bytes`.
    pub fn wrong_size(&self, bytes: u64) -> Option<u64> {
        (self.bytes != 0 && self.bytes != bytes).then_some(self.bytes)
    }
}

impl FrameHeader {
    /// Completes a frame in a buffer that has the records already, behind the room for the header: fills in the header and the
    /// padding. Returns the frame's bytes, a whole number of blocks.
    ///
    /// # Panics
    /// If the buffer is shorter than [`frame_bytes`] of the length.
    #[inline]
    pub fn seal(&self, buffer: &mut [u8]) -> usize {
        self.seal_as(VERSION, buffer)
    }

    /// Completes a frame like [`seal`](Self::seal), in this version of the format.
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

    /// Decodes the frame that `bytes` begin with. Returns its header and its records.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn decode(bytes: &[u8], file: FileId) -> Result<(Self, &[u8]), Invalid> {
        let header = bytes.get(..FRAME_HEADER_BYTES).ok_or(Invalid::Short(BLOCK_BYTES))?;
        if header[..4] != FRAME_MAGIC {
            return Err(Invalid::Magic);
        }
        let version = u16_at(header, 4);
        // The version of a torn frame may be anything, and that of the file's header was checked already.
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
        // Including the padding: a frame that is cut short must not pass for a whole one.
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
    /// Returns the file id in the frame that `bytes` begin with, whole or not: for a file whose own header is gone.
    pub fn claimed_file(bytes: &[u8]) -> Option<FileId> {
        let header = bytes.get(..FRAME_HEADER_BYTES)?;
        (header[..4] == FRAME_MAGIC).then(|| FileId(u64_at(header, 8)))
    }
}

impl FrameHeader {
    /// Returns true if `bytes` begin like a frame of this file, whole or not.
    pub fn begins(bytes: &[u8], file: FileId) -> bool {
        bytes.get(..FRAME_HEADER_BYTES).is_some_and(|header| header[..4] == FRAME_MAGIC && u64_at(header, 8) == file.0)
    }
}

/// Returns the bytes of a file's header in a version of the format, if that is known.
fn header_bytes(version: u16) -> Option<usize> {
    FILE_HEADER_BYTES.get(usize::from(version.checked_sub(1)?)).copied()
}

/// The offset of a frame's checksum.
const CHECKSUM: usize = 36;

/// Returns the CRC-32C of a frame without the checksum itself.
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
