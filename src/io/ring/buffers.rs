//! Buffers that the kernel fills with bytes from sockets, shared by all connections of a ring.

use io_uring::{IoUring, types};
use std::{
    io,
    sync::atomic::{AtomicU16, Ordering},
};

/// The ring's one group of buffers.
pub(super) const GROUP: u16 = 0;

/// A ring of buffers, in memory that is shared with the kernel.
pub(super) struct Buffers {
    /// `count` entries; the tail lies in the first.
    ring: *mut types::BufRingEntry,
    /// `count` buffers of `size` bytes. Never moves.
    memory: Vec<u8>,
    count: u16,
    size: usize,
    tail: u16,
}

impl Buffers {
    /// Registers `count` buffers (a power of two) of `size` bytes, and gives all of them to the kernel.
    pub(super) fn register(uring: &IoUring, count: u16, size: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15, "the kernel wants a power of two, 32,768 at most");
        let length = usize::from(count) * size_of::<types::BufRingEntry>();
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping, which touches no memory that exists.
        let ring = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if ring == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mut buffers = Self { ring: ring.cast(), memory: vec![0; usize::from(count) * size], count, size, tail: 0 };
        // SAFETY: the mapping is page-aligned, as the kernel demands, and it is unmapped only after the ring has
        // cancelled all operations.
        unsafe { uring.submitter().register_buf_ring_with_flags(ring as u64, count, GROUP, 0) }?;
        (0..count).for_each(|id| buffers.give_back(id));
        Ok(buffers)
    }

    /// Returns the first `length` bytes of a buffer that a completion has just named.
    #[inline]
    pub(super) fn get(&self, id: u16, length: usize) -> &[u8] {
        &self.memory[usize::from(id) * self.size..][..length]
    }

    /// Returns a buffer to the kernel, to be filled again.
    #[inline]
    pub(super) fn give_back(&mut self, id: u16) {
        assert!(id < self.count, "the kernel names buffers that it was given");
        let address = self.memory[usize::from(id) * self.size..].as_mut_ptr() as u64;
        // SAFETY: the index is below `count`; the kernel reads an entry only after the tail has passed it, and the
        // tail is stored last.
        unsafe {
            let entry = &mut *self.ring.add(usize::from(self.tail & (self.count - 1)));
            entry.set_addr(address);
            entry.set_len(self.size as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            AtomicU16::from_ptr(types::BufRingEntry::tail(self.ring).cast_mut()).store(self.tail, Ordering::Release);
        }
    }

    /// Leaks the memory: the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.memory));
        self.ring = std::ptr::null_mut();
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if !self.ring.is_null() {
            let length = usize::from(self.count) * size_of::<types::BufRingEntry>();
            // SAFETY: mapped in `register` with this length. The ring has cancelled all operations in flight before
            // this.
            unsafe { libc::munmap(self.ring.cast(), length) };
        }
    }
}
