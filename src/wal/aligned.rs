//! Memory for direct I/O: its address is a multiple of a block.

use super::frame::BLOCK_BYTES;
use std::fmt;

/// A buffer of a fixed size whose first byte is aligned as direct I/O requires.
pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// Allocates `length` bytes of zeros. Pages that are never written to take no memory.
    pub fn new(length: usize) -> Self {
        let bytes = vec![0; length + BLOCK_BYTES];
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES);
        assert!(start < BLOCK_BYTES, "an address can be aligned");
        Self { bytes, start, length }
    }

    /// Returns the whole buffer.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    /// Returns the whole buffer, to be filled. It never moves.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

impl fmt::Debug for Aligned {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} aligned bytes", self.length)
    }
}
