//! Reads and writes of the log's files on a core's ring. A write has ended when it is on disk.

use super::{ConnectionId, Event, Operation, Ring, SUBMISSIONS};
use crate::wal::Aligned;
use io_uring::{opcode, squeue, types};
use std::{fs::File, io, os::fd::AsRawFd, sync::Arc};

/// The operations after which a write is on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Syncing {
    /// The write alone: the file was opened so that a write ends when it is on disk.
    Itself,
    /// The write, and an `fdatasync` after it.
    Behind,
}

/// A write to a file. Its bytes and its descriptor must stay until it has completed.
pub(super) struct Writing {
    file: Arc<File>,
    buffer: Aligned,
    length: usize,
    pub(super) how: Syncing,
    /// The result of the write itself, while the sync after it is in flight.
    pub(super) written: Option<i32>,
}

/// A read from a file. Its buffer and its descriptor must stay until it has completed.
pub(super) struct Reading {
    file: Arc<File>,
    buffer: Aligned,
    token: u64,
}

impl Ring {
    /// Queues a write of the first `length` bytes of a buffer to a file at `offset`, to be submitted with the next
    /// turn. They are on disk when [`Event::Written`] returns the buffer. `how`: the operations that this takes.
    /// Whether the write is direct depends on how the file was opened.
    ///
    /// # Panics
    /// Panics if a write is in flight.
    pub fn write(&mut self, file: &Arc<File>, how: Syncing, buffer: Aligned, length: usize, offset: u64) {
        assert!(self.writing.is_none(), "one write in flight");
        let writing = Writing { file: Arc::clone(file), buffer, length, how, written: None };
        let writing = self.writing.insert(writing);
        let bytes = &writing.buffer.bytes()[..length];
        let descriptor = types::Fd(writing.file.as_raw_fd());
        let length = u32::try_from(bytes.len()).expect("a frame is far below 4 GiB");
        let nobody = ConnectionId { place: 0, generation: 0 };
        let write = opcode::Write::new(descriptor, bytes.as_ptr(), length).offset(offset).build();
        let write = write.user_data(Operation::Write.tag(nobody));
        match how {
            Syncing::Itself => self.push(&write),
            Syncing::Behind => {
                let sync = opcode::Fsync::new(descriptor).flags(types::FsyncFlags::DATASYNC).build();
                // The kernel links only operations that are submitted in one call.
                let queued = self.uring.submission().len();
                if (SUBMISSIONS as usize) < queued + 2 {
                    self.enter().expect("a ring whose submissions the kernel refuses can't go on");
                }
                // By one of the kernel's workers: a file's times are changed before it is written to, and if the file
                // system's journal is blocked at that moment, this core would be blocked too, its reads included.
                self.push(&write.flags(squeue::Flags::IO_LINK | squeue::Flags::ASYNC));
                self.push(&sync.user_data(Operation::Sync.tag(nobody)));
            }
        }
    }

    /// Returns true if a write is in flight.
    pub fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Queues a read of `length` bytes at `offset` of a file, to be submitted with the next turn. Any number may be in
    /// flight; [`Event::Read`] returns each buffer, with its token.
    ///
    /// # Panics
    /// Panics if the buffer is shorter.
    pub fn read(&mut self, file: &Arc<File>, buffer: Aligned, length: usize, offset: u64, token: u64) {
        let place = self.free_readings.pop().unwrap_or_else(|| {
            self.readings.push(None);
            u32::try_from(self.readings.len() - 1).expect("fewer reads than 2^32")
        });
        let reading = self.readings[place as usize].insert(Reading { file: Arc::clone(file), buffer, token });
        let bytes = &mut reading.buffer.bytes_mut()[..length];
        let length = u32::try_from(bytes.len()).expect("a value is below 4 GiB");
        let descriptor = types::Fd(reading.file.as_raw_fd());
        let read = opcode::Read::new(descriptor, bytes.as_mut_ptr(), length).offset(offset);
        self.push(&read.build().user_data(Operation::Read.tag(ConnectionId { place, generation: 0 })));
    }

    /// Reports the end of a write and of the sync after it. The kernel cancels the sync if the write failed.
    pub(super) fn synced(&mut self, result: i32, on_event: &mut impl FnMut(Event<'_>)) {
        let Some(Writing { buffer, length, written, .. }) = self.writing.take() else { return };
        let written = written.unwrap_or(result);
        let outcome = match usize::try_from(written) {
            Ok(written) if written == length && 0 <= result => Ok(()),
            Ok(written) if written != length => {
                Err(io::Error::other(format!("{written} of {length} bytes were written")))
            }
            Ok(_) => Err(io::Error::from_raw_os_error(-result)),
            Err(_) => Err(io::Error::from_raw_os_error(-written)),
        };
        on_event(Event::Written(buffer, outcome));
    }

    pub(super) fn has_read(&mut self, id: ConnectionId, result: i32, on_event: &mut impl FnMut(Event<'_>)) {
        let Some(Reading { file, buffer, token }) = self.readings[id.place()].take() else { return };
        drop(file);
        self.free_readings.push(id.place);
        let outcome = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        on_event(Event::Read(token, buffer, outcome));
    }
}
