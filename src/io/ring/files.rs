//! The log's files on a core's ring: writes that are on disk when they have ended, and reads.

use super::{ConnectionId, Event, Operation, Ring, SUBMISSIONS};
use crate::wal::Aligned;
use io_uring::{opcode, squeue, types};
use std::{fs::File, io, os::fd::AsRawFd, sync::Arc};

/// What it takes for a write to be on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Syncing {
    /// The file was opened so that a write ends when it is on disk.
    Itself,
    /// An `fdatasync` behind the write.
    Behind,
}

/// A write to a file: neither its bytes nor its descriptor may go before it has completed.
pub(super) struct Writing {
    file: Arc<File>,
    buffer: Aligned,
    length: usize,
    pub(super) how: Syncing,
    /// What the kernel said of the write itself, while the sync behind it is under way.
    pub(super) written: Option<i32>,
}

/// A read from a file: as a write.
pub(super) struct Reading {
    file: Arc<File>,
    buffer: Aligned,
    token: u64,
}

impl Ring {
    /// Queues the first `length` bytes of a buffer to be written to a file at `offset`, with the next turn, and to be on disk
    /// when [`Event::Written`] gives the buffer back. `how`: what that takes; whether the write is direct is the file's own.
    ///
    /// # Panics
    /// Where a write is in flight.
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
                // The kernel links what it is given in one call.
                let queued = self.uring.submission().len();
                if (SUBMISSIONS as usize) < queued + 2 {
                    self.enter().expect("a ring whose submissions the kernel refuses can't go on");
                }
                // By a worker of the kernel's: a file's times are changed before it is written to, and where the file system's
                // journal stands still at that moment, this core would stand still with it, reads and all.
                self.push(&write.flags(squeue::Flags::IO_LINK | squeue::Flags::ASYNC));
                self.push(&sync.user_data(Operation::Sync.tag(nobody)));
            }
        }
    }

    /// Whether a write is in flight.
    pub fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Queues a read of `length` bytes at `offset` of a file, with the next turn. Any number may be in flight; [`Event::Read`]
    /// gives each buffer back, under its token.
    ///
    /// # Panics
    /// Where the buffer is shorter.
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

    /// A write has come to its end, and the sync behind it; that is cancelled where the write failed.
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
