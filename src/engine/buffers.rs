//! Empty buffers that are kept for the next replies.

/// Buffers that are kept at most.
const BUFFERS_MAX: usize = 256;
/// Bytes of all of them: as much as a ring has for receiving. To allocate what a busier turn needs costs little.
const BYTES_MAX: usize = 4 << 20;
/// A buffer that has grown beyond this is given back: one big reply shall not cost memory for ever.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Empty buffers with room from earlier replies: 4 MiB of it at most, whoever brings them.
#[derive(Debug, Default)]
pub struct Spare {
    buffers: Vec<Vec<u8>>,
    /// The sum of their capacities.
    bytes: usize,
}

impl Spare {
    /// Takes a buffer; one without room where there is none.
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps a buffer's room, or gives it back where there is enough.
    #[inline]
    pub fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.has_room_for(&buffer) {
            buffer.clear();
            self.bytes += buffer.capacity();
            self.buffers.push(buffer);
        }
    }

    /// Takes over as many of another's buffers as there is room for.
    #[inline]
    pub fn take_from(&mut self, other: &mut Self) {
        while let Some(buffer) = other.buffers.pop_if(|buffer| self.has_room_for(buffer)) {
            other.bytes -= buffer.capacity();
            self.keep(buffer);
        }
    }

    /// Bytes of room.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    fn has_room_for(&self, buffer: &Vec<u8>) -> bool {
        let bytes = buffer.capacity();
        let is_of_use = 0 < bytes && bytes <= BUFFER_BYTES_MAX;
        is_of_use && self.buffers.len() < BUFFERS_MAX && self.bytes + bytes <= BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buffers are brought and never taken: two pools that pass them on hold no more than they may.
    #[test]
    fn the_bound_holds_for_buffers_that_come_from_elsewhere() {
        for bytes in [1, 4096, BUFFER_BYTES_MAX, BUFFER_BYTES_MAX + 1] {
            let (mut ring, mut stock) = (Spare::default(), Spare::default());
            for _ in 0..10_000 {
                ring.keep(Vec::with_capacity(bytes));
                stock.take_from(&mut ring);
            }
            for pool in [&ring, &stock] {
                assert!(pool.bytes() <= BYTES_MAX && pool.buffers.len() <= BUFFERS_MAX, "{} bytes", pool.bytes());
                assert_eq!(pool.bytes(), pool.buffers.iter().map(Vec::capacity).sum::<usize>());
            }
            assert_eq!(stock.bytes() == 0, BUFFER_BYTES_MAX < bytes);
        }
    }

    /// A buffer that is kept is used again, empty.
    #[test]
    fn a_buffer_that_is_kept_is_taken_again() {
        let mut pool = Spare::default();
        pool.keep(b"reply".to_vec());
        let room = pool.bytes();
        let buffer = pool.take();
        assert!(buffer.is_empty() && buffer.capacity() == room && 5 <= room);
        assert_eq!((pool.bytes(), pool.take().capacity()), (0, 0));
    }
}
