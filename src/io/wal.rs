//! Writes a shard's log: one frame at a time to the segment at hand, the next segment made ready meanwhile.
//!
//! The writes themselves go by the core's [ring](super::ring), where replies that wait for them find them soonest. What only
//! has to be done some time, such as making the next segment ready, blocks and is done by the core's blocking thread.

use super::{
    blocking::Blocking,
    files::OsFiles,
    ring::{Bell, Ring},
};
use crate::{
    commands::Persistence,
    config::Durability,
    wal::{
        FileInfo, Log, Lsn,
        aligned::Aligned,
        files::{Beginning, Files, Layout, Left, Segment},
        frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileId},
        room::{Admission, Room},
    },
};
use std::{collections::VecDeque, fs::File, io, sync::Arc};

/// How often a log that need not be synced at once is written: what `interval` can lose.
const INTERVAL_US: u64 = 1_000_000;
/// ... or as soon as there is so much of it.
const INTERVAL_BYTES: usize = FRAME_BYTES_MAX / 2;
/// A log that has been silent for so long is sealed.
const SILENCE_US: u64 = 500_000;
/// What each segment keeps free behind its last frame, so that a log can be sealed wherever it ends.
const SEAL_BYTES: u64 = BLOCK_BYTES as u64;
/// How long to wait before another try to make a segment ready.
const RETRY_US: u64 = 1_000_000;

/// Where the disk is full and fewer bytes of records than these have room, all writes are refused, and not only those that are
/// too large.
const ROOM_MIN: u64 = FRAME_BYTES_MAX as u64 / 4;

const DISK_FULL: &str = "MISCONF the disk is full, so the log can't grow: writes are refused until there is room, reads are \
                         answered, and keys can be deleted";
const RESERVE_USED: &str = "MISCONF the disk is full, and the room that is kept back for deletions is used up: make room on the \
                            disk, or FLUSHALL; reads are answered";
const NO_SEGMENT: &str = "MISCONF the log can't grow (the server's own log says why): writes are refused until it can, reads \
                          are answered";

/// A segment that has been written to, or is.
#[derive(Clone, Copy, Debug)]
struct Used {
    number: u64,
    /// The position of its first frame.
    first: Lsn,
}

/// Segments that are not needed any more, and what goes with them.
struct Release {
    numbers: Vec<u64>,
    is_full: bool,
    /// After a loss that was accepted: the files that were found, and the position behind which none of them is needed.
    leftovers: Option<(Vec<FileInfo>, Lsn)>,
}

/// Writes a shard's log.
pub struct Writer<F: Files = OsFiles> {
    layout: Layout<F>,
    durability: Durability,
    active: Segment<F::File>,
    /// Where the next frame goes.
    offset: u64,
    /// The segment of the frame that was handed over last, and its offset there.
    frame_at: (u32, u64),
    /// The segment that comes next, once it is ready; why there is none, where it could not be made ready.
    next: Option<Segment<F::File>>,
    failure: Option<io::Error>,
    preparing: Blocking<io::Result<Segment<F::File>>>,
    /// Bytes of records that are to be moved yet, on a full disk.
    set_aside: u64,
    to_release: VecDeque<Release>,
    releasing: Blocking<io::Result<()>>,
    next_number: u64,
    retry_us: u64,
    /// Where the log went on when the server started: where the first segment begins that it has written to.
    start: Lsn,
    /// When room that the disk did not have may be asked for again.
    try_again_us: u64,
    /// Segments in use, in order; the active one is the last once it has a frame.
    used: Vec<Used>,
    buffer: Option<Aligned>,
    began_us: u64,
    /// When records came that have not been written, for `interval`.
    waiting_since_us: Option<u64>,
    written_us: u64,
    is_sealed: bool,
    is_sealing: bool,
}

/// What a frame is written by.
pub trait WriteFrames<F: Files> {
    /// Begins to write a frame to a segment, and to have it on disk. At most one is under way.
    fn write_frame(&mut self, files: &F, file: &Arc<F::File>, buffer: Aligned, length: usize, offset: u64);
}

impl WriteFrames<OsFiles> for Ring {
    fn write_frame(&mut self, files: &OsFiles, file: &Arc<File>, buffer: Aligned, length: usize, offset: u64) {
        self.write(file, files.way.syncing, buffer, length, offset);
    }
}

impl<F: Files> Writer<F> {
    /// Goes on with a log. `used` are the segments that are needed, with the positions they begin at; the active one is the last
    /// of them if it has a frame.
    pub fn new(
        layout: Layout<F>,
        durability: Durability,
        bell: Arc<Bell>,
        beginning: Beginning<F::File>,
        used: impl IntoIterator<Item = (u64, Lsn)>,
        now_us: u64,
    ) -> Self {
        let Beginning { active, offset, is_sealed, start, next_number, is_fresh: _ } = beginning;
        Self {
            next_number,
            layout,
            durability,
            active,
            offset,
            frame_at: (0, 0),
            next: None,
            failure: None,
            preparing: Blocking::new(Arc::clone(&bell)),
            set_aside: 0,
            to_release: VecDeque::new(),
            releasing: Blocking::new(bell),
            retry_us: 0,
            start,
            try_again_us: 0,
            used: used.into_iter().map(|(number, first)| Used { number, first }).collect(),
            buffer: Some(Aligned::new(FRAME_BYTES_MAX)),
            began_us: now_us,
            waiting_since_us: None,
            written_us: now_us,
            is_sealed,
            is_sealing: false,
        }
    }

    /// Which writes the log's files have room for.
    pub fn admission(&self, log: &Log) -> Admission {
        let room = Room {
            active: self.active.bytes.saturating_sub(self.offset),
            segments: u64::from(self.next.is_some()) + self.layout.allocated(),
            segment_bytes: self.layout.segment_bytes,
        };
        Admission::new(Lsn(log.end().0 - log.pending_bytes() as u64), room).setting_aside(self.set_aside)
    }

    /// Keeps room for what is still to be moved of a segment that is given up.
    pub fn set_aside(&mut self, bytes: u64, log: &Log, state: &mut Persistence) {
        if std::mem::replace(&mut self.set_aside, bytes) != bytes {
            state.admission = Some(self.admission(log));
        }
    }

    /// Whether the last try to make the next segment ready has failed.
    pub fn is_full(&self) -> bool {
        self.failure.is_some()
    }

    /// The segment that is written to.
    pub fn active(&self) -> u64 {
        self.active.number
    }

    /// Hands the ring the next frame, if there is one and its time has come. `hurries`: it has come.
    pub fn write(
        &mut self,
        ring: &mut impl WriteFrames<F>,
        log: &mut Log,
        state: &mut Persistence,
        now_us: u64,
        hurries: bool,
    ) {
        self.look_after_next(log, now_us);
        self.look_after_releases();
        self.write_frame(ring, log, state, now_us, hurries);
        self.note_room(log, state);
    }

    fn write_frame(
        &mut self,
        ring: &mut impl WriteFrames<F>,
        log: &mut Log,
        state: &mut Persistence,
        now_us: u64,
        hurries: bool,
    ) {
        if self.buffer.is_none() {
            return;
        }
        let Some(frame) = log.next_frame_bytes() else {
            if !self.is_sealed && (hurries || self.written_us + SILENCE_US <= now_us) {
                self.seal(ring, log, now_us);
            }
            return;
        };
        if !self.is_due(log, now_us) && !hurries {
            return;
        }
        if !self.has_room(frame) && !self.turn_over() {
            return;
        }
        let Some(mut buffer) = self.buffer.take() else { return };
        if !self.is_active_used() {
            let first = Lsn(log.end().0 - log.pending_bytes() as u64);
            self.used.push(Used { number: self.active.number, first });
            state.log_bytes = self.used_bytes();
        }
        let length = log.take(self.active.id, buffer.bytes_mut());
        self.is_sealed = false;
        self.waiting_since_us = None;
        self.submit(ring, buffer, length, now_us);
    }

    fn submit(&mut self, ring: &mut impl WriteFrames<F>, buffer: Aligned, length: usize, now_us: u64) {
        self.began_us = now_us;
        self.frame_at = (u32::try_from(self.active.number).unwrap_or(u32::MAX), self.offset);
        ring.write_frame(&self.layout.files, &self.active.file, buffer, length, self.offset);
        self.offset += length as u64;
    }

    /// Whether the records at hand are to be written now.
    fn is_due(&mut self, log: &Log, now_us: u64) -> bool {
        match self.durability {
            Durability::None | Durability::Always => true,
            Durability::Interval => {
                let since = *self.waiting_since_us.get_or_insert(now_us);
                since + INTERVAL_US <= now_us || INTERVAL_BYTES <= log.pending_bytes()
            }
        }
    }

    /// Says, in a frame of its own, that all is on disk: from then on damage is told from a write that was cut off.
    fn seal(&mut self, ring: &mut impl WriteFrames<F>, log: &Log, now_us: u64) {
        assert!(self.offset + SEAL_BYTES <= self.active.bytes, "a frame leaves room for the seal");
        let Some(mut buffer) = self.buffer.take() else { return };
        let length = log.seal(self.active.id, log.persisted_end(), buffer.bytes_mut());
        self.is_sealing = true;
        self.submit(ring, buffer, length, now_us);
    }

    /// Takes what the ring says of the frame. Its records are on disk. Returns how many microseconds that took.
    ///
    /// # Errors
    /// What is on disk is not known any more: the server must end, without another try. A second sync that succeeds proves
    /// nothing (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
    pub fn written(
        &mut self,
        buffer: Aligned,
        outcome: io::Result<()>,
        log: &mut Log,
        state: &mut Persistence,
        now_us: u64,
    ) -> io::Result<u64> {
        outcome?;
        self.buffer = Some(buffer);
        self.written_us = now_us;
        let us = now_us.saturating_sub(self.began_us);
        state.syncs.note_each(us, 1);
        state.sync_us_max = state.sync_us_max.max(us);
        if std::mem::take(&mut self.is_sealing) {
            self.is_sealed = true;
        } else {
            log.persisted();
        }
        Ok(us)
    }

    /// Bytes of the segments in use.
    pub fn used_bytes(&self) -> u64 {
        self.used.len() as u64 * self.layout.segment_bytes
    }

    /// The segment of the frame that was handed over last, and the frame's offset there.
    pub fn frame_at(&self) -> (u32, u64) {
        self.frame_at
    }

    /// The oldest segment that is in use and not written to any more, and the position that the next one begins at.
    pub fn oldest(&self) -> Option<(u64, Lsn)> {
        self.ended().next()
    }

    /// The segments in use that are not written to any more, with the positions where they end. Nothing may have been written to
    /// the active one yet.
    fn ended(&self) -> impl Iterator<Item = (u64, Lsn)> {
        let ends = self.used.iter().skip(1).map(|next| next.first).chain([self.start]);
        let numbers = self.used.iter().map(|used| used.number).take_while(|&number| number != self.active.number);
        numbers.zip(ends)
    }

    /// Where the log went on when the server started.
    pub fn start(&self) -> Lsn {
        self.start
    }

    /// The segments that are in use and not written to any more, in order.
    pub fn left(&self) -> impl Iterator<Item = Left> + Clone {
        self.used.windows(2).map(|pair| Left { number: pair[0].number, first: pair[0].first, end: pair[1].first })
    }

    /// Bytes of the segments in use, without what the active one has left.
    pub fn written_bytes(&self) -> u64 {
        let left = if self.is_active_used() { self.active.bytes.saturating_sub(self.offset) } else { 0 };
        self.used_bytes() - left
    }

    /// Whether the active segment has a frame.
    fn is_active_used(&self) -> bool {
        self.used.last().is_some_and(|used| used.number == self.active.number)
    }

    /// How many segments are in use.
    pub fn used_count(&self) -> usize {
        self.used.len()
    }

    /// Whether everything is on disk and sealed.
    pub fn is_quiet(&self, log: &Log) -> bool {
        self.buffer.is_some() && self.is_sealed && log.pending_bytes() == 0
    }

    /// Returns true if the next frame fits into no file that is allocated or is being prepared.
    pub fn is_stuck(&self, log: &Log) -> bool {
        let is_waiting = self.buffer.is_some() && self.next.is_none() && self.failure.is_some();
        let has_nothing = !self.preparing.is_running() && self.layout.spares() == 0 && !self.is_releasing();
        is_waiting && has_nothing && log.next_frame_bytes().is_some_and(|frame| !self.has_room(frame))
    }

    /// Returns true if a frame of so many bytes fits into the active segment, and the seal behind it.
    fn has_room(&self, frame: usize) -> bool {
        self.offset + frame as u64 + SEAL_BYTES <= self.active.bytes
    }

    /// Goes on to the next segment; `false` where it is not ready.
    fn turn_over(&mut self) -> bool {
        let Some(segment) = self.next.take() else { return false };
        self.active = segment;
        self.offset = BLOCK_BYTES as u64;
        true
    }

    /// Sees to it that the next segment is made ready, and another is kept in reserve.
    fn look_after_next(&mut self, log: &Log, now_us: u64) {
        if self.try_again_us <= now_us {
            self.try_again_us = now_us + RETRY_US;
            self.layout.try_again();
        }
        if self.next.is_some() {
            return;
        }
        // Only what may use the reserve is admitted where the active segment is full and there is no other.
        let needs_reserve = self.failure.is_some()
            && 0 < self.layout.spares()
            && log.next_frame_bytes().is_some_and(|frame| !self.has_room(frame));
        match self.preparing.take() {
            Some(Ok(segment)) => {
                self.layout.delivered();
                self.next = Some(segment);
                // Without the reserve the disk is as full as it was.
                if 0 < self.layout.spares() {
                    self.failure = None;
                }
                return;
            }
            Some(Err(error)) => self.failure = Some(error),
            None => {}
        }
        let is_early = self.failure.is_some() && now_us < self.retry_us;
        if self.preparing.is_running() || (is_early && !needs_reserve) {
            return;
        }
        self.retry_us = now_us + RETRY_US;
        let (layout, number, id) = (self.layout.clone(), self.next_number, FileId(fastrand::u64(..)));
        let (end, spares_left) = (log.persisted_end(), u64::from(!needs_reserve));
        self.next_number += 1;
        self.preparing.begin(move || {
            layout.try_again();
            layout.prepare(number, id, end, spares_left)
        });
    }

    /// Notes which writes there is room for, and whether there is for any.
    fn note_room(&self, log: &Log, state: &mut Persistence) {
        let admission = self.admission(log);
        let left = admission.left(log.end());
        match &self.failure {
            Some(error) if left < ROOM_MIN => {
                if state.refusal.is_none() {
                    tracing::error!(%error, "the log can't grow: writes are refused");
                }
                let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
                let has_reserve = BLOCK_BYTES as u64 <= admission.left_with_reserve(log.end());
                state.refusal = Some(match (is_full, has_reserve) {
                    (true, true) => DISK_FULL,
                    (true, false) => RESERVE_USED,
                    (false, _) => NO_SEGMENT,
                });
            }
            _ => {
                if state.refusal.take().is_some() {
                    tracing::info!("there is room for the log again: writes are taken");
                }
            }
        }
        state.admission = Some(admission);
    }

    /// Gives up the segments all of whose records come before `lsn`, since a snapshot has them; and then what a start found that
    /// accepted a loss.
    pub fn release_before(&mut self, lsn: Lsn, leftovers: Vec<FileInfo>, state: &mut Persistence) {
        let count = self.ended().take_while(|(_, end)| *end <= lsn).count();
        let numbers: Vec<_> = self.used.drain(..count).map(|used| used.number).collect();
        state.log_bytes = self.used_bytes();
        let leftovers = Some((leftovers, lsn)).filter(|(leftovers, _)| !leftovers.is_empty());
        self.to_release.push_back(Release { numbers, is_full: self.is_full(), leftovers });
        self.look_after_releases();
        // The next try comes behind that, and finds what has become free.
        self.retry_us = 0;
    }

    /// Whether segments are being set aside: that makes room.
    pub fn is_releasing(&self) -> bool {
        self.releasing.is_running() || !self.to_release.is_empty()
    }

    fn look_after_releases(&mut self) {
        if let Some(Err(error)) = self.releasing.take() {
            tracing::warn!(%error, "segments of the log that are not needed any more could not be set aside");
        }
        if self.releasing.is_running() {
            return;
        }
        let Some(Release { numbers, is_full, leftovers }) = self.to_release.pop_front() else { return };
        let layout = self.layout.clone();
        self.releasing.begin(move || {
            let released = layout.release(&numbers, is_full);
            released.and(leftovers.map_or(Ok(()), |(files, since)| layout.clear_away(&files, since)))
        });
    }
}

#[cfg(test)]
mod full_disk;
