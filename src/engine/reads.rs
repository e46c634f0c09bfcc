//! Reads of values from the log's files (`--values disk`): many at once, each value once however many want it.

use super::{Action, Actions, connection::ConnectionId};
use crate::{
    store::{At, Cold},
    wal::{
        Aligned,
        frame::{BLOCK_BYTES, FileKind},
        names,
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    ops::Range,
};

/// Bytes that are read at once at most, or one value: what waits behind them would not come sooner.
const RUNNING_BYTES_MAX: usize = 8 << 20;
/// Buffers that are kept, and the largest of them.
const SPARE_MAX: usize = 128;
const SPARE_BYTES_MAX: usize = 16 << 10;

/// One that waits for a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Waiter {
    /// A client of this core.
    Client(ConnectionId),
    /// Requests of another core.
    Core(usize),
}

struct Wanted {
    cold: Cold,
    waiters: Vec<Waiter>,
}

/// A value that was read, or could not be.
pub(super) struct Fetched {
    /// The value.
    pub(super) cold: Cold,
    /// Those that wait for it.
    pub(super) waiters: Vec<Waiter>,
    /// Its place in the buffer; or the reason for which it could not be read, with the file.
    pub(super) outcome: Result<Range<usize>, String>,
    /// The bytes that were read.
    pub(super) buffer: Aligned,
}

/// Segments that are open for reading at once: a log may have any number of them, and a process only so many descriptors.
pub const FILES_MAX: usize = 32;

/// A core's reads of values.
pub(super) struct Reads {
    /// The core's directory, for messages.
    path: String,
    /// Segments that are open for reading, and how many reads of each are under way.
    open: BTreeMap<u32, usize>,
    wanted: BTreeMap<At, Wanted>,
    /// Those of them that have not begun.
    queue: VecDeque<At>,
    running: usize,
    running_bytes: usize,
    running_max: usize,
    spare: Vec<Aligned>,
}

/// The blocks that hold a value, and where it begins in them.
fn blocks(cold: &Cold) -> (u64, usize, usize) {
    let skipped = cold.offset as usize % BLOCK_BYTES;
    (u64::from(cold.offset) - skipped as u64, (skipped + cold.length).next_multiple_of(BLOCK_BYTES), skipped)
}

impl Reads {
    /// Reads from a shard's segments, `running_max` values at once.
    pub(super) fn new(path: String, running_max: usize) -> Self {
        Self {
            path,
            open: BTreeMap::new(),
            wanted: BTreeMap::new(),
            queue: VecDeque::new(),
            running: 0,
            running_bytes: 0,
            running_max,
            spare: Vec::new(),
        }
    }

    /// Has a value read, if it is not being read already.
    pub(super) fn want(&mut self, cold: Cold, waiter: Option<Waiter>) {
        let queue = &mut self.queue;
        let wanted = self.wanted.entry(cold.value.at).or_insert_with(|| {
            queue.push_back(cold.value.at);
            Wanted { cold, waiters: Vec::new() }
        });
        wanted.waiters.extend(waiter);
    }

    /// Begins as many reads as may be under way.
    pub(super) fn submit(&mut self, actions: &mut Actions) {
        while self.running < self.running_max {
            let Some(&at) = self.queue.front() else { return };
            let Some(cold) = self.wanted.get(&at).map(|wanted| wanted.cold) else {
                self.queue.pop_front();
                continue;
            };
            let (offset, length, _) = blocks(&cold);
            if 0 < self.running && RUNNING_BYTES_MAX < self.running_bytes + length {
                return;
            }
            if !self.open(cold.segment, actions) {
                return;
            }
            self.queue.pop_front();
            self.running += 1;
            self.running_bytes += length;
            let buffer = self.buffer(length);
            actions.push(Action::Read { segment: cold.segment, offset, buffer, length, token: at.to_bits() });
        }
    }

    /// Notes a read of a segment, which is opened for it in the place of one that nothing is read from if there are
    /// [`FILES_MAX`]. Returns false if there is no place until a read that is under way has ended.
    fn open(&mut self, segment: u32, actions: &mut Actions) -> bool {
        if let Some(reads) = self.open.get_mut(&segment) {
            *reads += 1;
            return true;
        }
        if FILES_MAX <= self.open.len() {
            let unused = self.open.iter().find(|(_, reads)| **reads == 0).map(|(&segment, _)| segment);
            let Some(unused) = unused else { return false };
            self.forget(unused, actions);
        }
        self.open.insert(segment, 1);
        true
    }

    fn buffer(&mut self, length: usize) -> Aligned {
        match self.spare.pop() {
            Some(buffer) if length <= buffer.bytes().len() => buffer,
            _ => Aligned::new(length.max(SPARE_BYTES_MAX)),
        }
    }

    /// Takes a buffer back.
    pub(super) fn recycle(&mut self, buffer: Aligned) {
        if self.spare.len() < SPARE_MAX && buffer.bytes().len() == SPARE_BYTES_MAX {
            self.spare.push(buffer);
        }
    }

    /// Takes the outcome of a read.
    pub(super) fn finish(&mut self, token: u64, buffer: Aligned, outcome: io::Result<usize>) -> Option<Fetched> {
        let Wanted { cold, waiters } = self.wanted.remove(&At::from_bits(token))?;
        let (_, length, skipped) = blocks(&cold);
        self.running -= 1;
        if let Some(reads) = self.open.get_mut(&cold.segment) {
            *reads -= 1;
        }
        self.running_bytes -= length;
        let place = skipped..skipped + cold.length;
        let outcome = match outcome {
            Ok(read) if read < place.end => Err(self.told(&cold, &"the file is too short")),
            Ok(_) if crc32c::crc32c(&buffer.bytes()[place.clone()]) != cold.checksum => {
                Err(self.told(&cold, &"bytes that were on disk have changed"))
            }
            Ok(_) => Ok(place),
            Err(error) => Err(self.told(&cold, &error)),
        };
        Some(Fetched { cold, waiters, outcome, buffer })
    }

    fn told(&self, cold: &Cold, problem: &dyn std::fmt::Display) -> String {
        let name = names::name_of(FileKind::Segment, cold.segment.into());
        format!("{}/{name} at offset {}: {problem}", self.path, cold.offset)
    }

    /// Closes a segment that is given up, or that nothing is read from.
    pub(super) fn forget(&mut self, segment: u32, actions: &mut Actions) {
        if self.open.remove(&segment).is_some() {
            actions.push(Action::CloseSegment(segment));
        }
    }
}
