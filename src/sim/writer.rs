//! Writes a shard's log as `io::wal` does, without its settings for fewer syncs.

use super::{
    files::{Job, Layout, Segment},
    world::World,
};
use crate::wal::{
    Log, Lsn,
    frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileId, FrameHeader, FrameKind, frame_bytes},
};
use std::collections::VecDeque;

/// A log that has been silent for so long is sealed.
const SILENCE_MS: u64 = 500;

#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    None,
    Coming,
    Ready(Segment),
}

/// A segment that has been written to, or is.
#[derive(Clone, Copy, Debug)]
struct Used {
    number: u64,
    first: Lsn,
}

/// Writes a shard's log.
pub(super) struct Writer {
    layout: Layout,
    active: Segment,
    offset: usize,
    pub(super) next: Next,
    next_number: u64,
    /// Where the log went on when the process started.
    start: Lsn,
    used: Vec<Used>,
    is_in_flight: bool,
    written_ms: u64,
    is_sealed: bool,
    is_sealing: bool,
}

impl Writer {
    pub(super) fn new(
        layout: Layout,
        (active, start): (Segment, Lsn),
        older: impl IntoIterator<Item = (u64, Lsn)>,
        now: u64,
    ) -> Self {
        Self {
            layout,
            active,
            offset: BLOCK_BYTES,
            next: Next::None,
            next_number: active.number + 1,
            start,
            used: older.into_iter().map(|(number, first)| Used { number, first }).collect(),
            is_in_flight: false,
            written_ms: now,
            is_sealed: true,
            is_sealing: false,
        }
    }

    /// Hands the disk the next frame, if there is one.
    pub(super) fn write(&mut self, world: &mut World, log: &mut Log, jobs: &mut VecDeque<Job>, hurries: bool) {
        self.look_after_next(world, log, jobs);
        if self.is_in_flight {
            return;
        }
        let Some(frame) = log.next_frame_bytes() else {
            if !self.is_sealed && (hurries || self.written_ms + SILENCE_MS <= world.millis().0) {
                self.seal(world, log);
            }
            return;
        };
        if self.active.bytes < self.offset + frame + BLOCK_BYTES && !self.turn_over(world) {
            return;
        }
        if self.offset == BLOCK_BYTES {
            let first = Lsn(log.end().0 - log.pending_bytes() as u64);
            self.used.push(Used { number: self.active.number, first });
        }
        let mut buffer = vec![0; frame];
        log.take(self.active.id, &mut buffer);
        world.tally.note_if(FRAME_BYTES_MAX == frame, "frames as large as they may be");
        world.handed_over(&buffer, self.active.id);
        self.is_sealed = false;
        self.submit(world, buffer);
    }

    fn submit(&mut self, world: &mut World, frame: Vec<u8>) {
        self.is_in_flight = true;
        let offset = self.offset;
        self.offset += frame.len();
        world.disk.submit(self.active.file, offset, frame);
    }

    fn seal(&mut self, world: &mut World, log: &Log) {
        assert!(self.offset + BLOCK_BYTES <= self.active.bytes, "a frame leaves room for the seal");
        let mut block = vec![0; BLOCK_BYTES];
        log.seal(self.active.id, log.persisted_end(), &mut block);
        self.is_sealing = true;
        world.tally.note("seals of a silent log");
        self.submit(world, block);
    }

    /// The frame is on disk.
    pub(super) fn written(&mut self, world: &mut World, log: &mut Log) {
        self.is_in_flight = false;
        self.written_ms = world.millis().0;
        if std::mem::take(&mut self.is_sealing) {
            self.is_sealed = true;
        } else {
            log.persisted();
            world.persisted();
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        (self.used.len() * self.layout.segment_bytes) as u64
    }

    pub(super) fn is_quiet(&self, log: &Log) -> bool {
        !self.is_in_flight && self.is_sealed && log.pending_bytes() == 0
    }

    /// Whether the last frame of the segment at hand is a seal; also where it has none yet.
    pub(super) fn ends_with_seal(&self, world: &World) -> bool {
        let (mut offset, mut is_sealed) = (BLOCK_BYTES, true);
        while offset < self.offset {
            let bytes = world.disk.read(self.active.file, offset, self.offset - offset);
            let (header, records) = FrameHeader::decode(bytes, self.active.id).expect("frames follow one another");
            is_sealed = header.kind == FrameKind::Seal;
            offset += frame_bytes(records.len());
        }
        is_sealed
    }

    fn turn_over(&mut self, world: &mut World) -> bool {
        let Next::Ready(segment) = self.next else { return false };
        self.next = Next::None;
        self.active = segment;
        self.offset = BLOCK_BYTES;
        world.tally.note("segments turned over");
        true
    }

    fn look_after_next(&mut self, world: &mut World, log: &Log, jobs: &mut VecDeque<Job>) {
        if matches!(self.next, Next::None) {
            self.next = Next::Coming;
            let (number, id) = (self.next_number, FileId(world.random.u64(..)));
            self.next_number += 1;
            jobs.push_back(Job::Prepare { number, id, end: log.persisted_end() });
        }
    }

    /// Gives up the segments all of whose records come before `lsn`, since a snapshot has them.
    pub(super) fn release_before(&mut self, lsn: Lsn) -> Job {
        let ends = self.used.iter().skip(1).map(|next| next.first).chain([self.start]);
        let numbers = self.used.iter().map(|used| used.number).take_while(|&number| number != self.active.number);
        let count = numbers.zip(ends).take_while(|(_, end)| *end <= lsn).count();
        Job::Release(self.used.drain(..count).map(|used| used.number).collect())
    }
}
