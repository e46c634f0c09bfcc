//! Reads values from the log's files (`--values disk`): many at once, each value once however many want it.

use super::{
    files::Layout,
    ring::{ConnectionId, Ring},
};
use crate::{
    store::{At, Cold},
    wal::{
        aligned::Aligned,
        frame::{BLOCK_BYTES, FileKind},
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io,
    ops::Range,
    sync::Arc,
};

/// Bytes that are read at once at most, or one value: what waits behind them would not come sooner.
const RUNNING_BYTES_MAX: usize = 8 << 20;
/// Buffers that are kept, and the largest of them.
const SPARE_MAX: usize = 128;
const SPARE_BYTES_MAX: usize = 16 << 10;

/// Who waits for a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waiter {
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
pub struct Fetched {
    /// Which.
    pub cold: Cold,
    /// Who waits for it.
    pub waiters: Vec<Waiter>,
    /// Where it is in the buffer; or why it could not be read, with the file.
    pub outcome: Result<Range<usize>, String>,
    /// What was read.
    pub buffer: Aligned,
}

/// Segments that are open for reading at once: a log may have any number of them, and a process only so many descriptors.
pub const FILES_MAX: usize = 32;

/// A core's reads of values.
pub struct Reads {
    layout: Layout,
    /// Segments that were read from.
    files: BTreeMap<u32, Arc<File>>,
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
    pub fn new(layout: Layout, running_max: usize) -> Self {
        Self {
            layout,
            files: BTreeMap::new(),
            wanted: BTreeMap::new(),
            queue: VecDeque::new(),
            running: 0,
            running_bytes: 0,
            running_max,
            spare: Vec::new(),
        }
    }

    /// Has a value read, if it is not being read already.
    pub fn want(&mut self, cold: Cold, waiter: Option<Waiter>) {
        let queue = &mut self.queue;
        let wanted = self.wanted.entry(cold.value.at).or_insert_with(|| {
            queue.push_back(cold.value.at);
            Wanted { cold, waiters: Vec::new() }
        });
        wanted.waiters.extend(waiter);
    }

    /// Hands the ring as many reads as may be under way.
    pub fn submit(&mut self, ring: &mut Ring, mut failed: impl FnMut(Fetched)) {
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
            let file = match self.file(cold.segment) {
                Ok(None) => return,
                Ok(Some(file)) => Ok(file),
                Err(error) => Err(error),
            };
            self.queue.pop_front();
            match file {
                Ok(file) => {
                    self.running += 1;
                    self.running_bytes += length;
                    let buffer = self.buffer(length);
                    ring.read(&file, buffer, length, offset, at.to_bits());
                }
                Err(error) => {
                    let Some(Wanted { cold, waiters }) = self.wanted.remove(&at) else { continue };
                    let outcome = Err(self.told(&cold, &error));
                    failed(Fetched { cold, waiters, outcome, buffer: Aligned::new(0) });
                }
            }
        }
    }

    /// Opens a segment, in the place of one that nothing is read from if there are [`FILES_MAX`]. None: no place until a read that
    /// is under way has ended.
    fn file(&mut self, segment: u32) -> io::Result<Option<Arc<File>>> {
        if let Some(file) = self.files.get(&segment) {
            return Ok(Some(Arc::clone(file)));
        }
        if FILES_MAX <= self.files.len() {
            let is_unused = |file: &Arc<File>| Arc::strong_count(file) == 1;
            let unused = self.files.iter().find(|(_, file)| is_unused(file)).map(|(&segment, _)| segment);
            let Some(unused) = unused else { return Ok(None) };
            self.files.remove(&unused);
        }
        let files = &self.layout.files;
        let path = files.shard.path_of(FileKind::Segment, segment.into());
        let file = Arc::new(files.options(0).write(false).open(path)?);
        self.files.insert(segment, Arc::clone(&file));
        Ok(Some(file))
    }

    fn buffer(&mut self, length: usize) -> Aligned {
        match self.spare.pop() {
            Some(buffer) if length <= buffer.bytes().len() => buffer,
            _ => Aligned::new(length.max(SPARE_BYTES_MAX)),
        }
    }

    /// Takes a buffer back.
    pub fn recycle(&mut self, buffer: Aligned) {
        if self.spare.len() < SPARE_MAX && buffer.bytes().len() == SPARE_BYTES_MAX {
            self.spare.push(buffer);
        }
    }

    /// Takes what the ring says of a read.
    pub fn finish(&mut self, token: u64, buffer: Aligned, outcome: io::Result<usize>) -> Option<Fetched> {
        let Wanted { cold, waiters } = self.wanted.remove(&At::from_bits(token))?;
        let (_, length, skipped) = blocks(&cold);
        self.running -= 1;
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
        let path = self.layout.path_of(FileKind::Segment, cold.segment.into());
        format!("{path} at offset {}: {problem}", cold.offset)
    }

    /// Forgets a segment that is given up.
    pub fn forget(&mut self, segment: u32) {
        self.files.remove(&segment);
    }

    /// Whether a value is being read, or waits for that.
    pub fn is_busy(&self) -> bool {
        !self.wanted.is_empty()
    }
}
