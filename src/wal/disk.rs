//! For tests: a shard's files in memory, written as the engine has them written, and torn as a disk tears writes.

use super::{
    Damage, FileInfo, Log, Lsn, Record, Recovery, Report, Step,
    frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileId, FileKind, VERSION, frame_bytes},
};
use crate::{slot::Slot, time::UnixMillis};
use std::collections::BTreeMap;

pub(crate) const DIRECTORY: u64 = 0xd1d2_d3d4_d5d6_d7d8;
pub(crate) const SHARD: u16 = 3;

/// A file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) kind: FileKind,
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A shard's files.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) directory: u64,
    pub(crate) shard: u16,
    pub(crate) files: Vec<File>,
    /// The bytes of released segments, of which the next segments are made.
    pub(crate) spares: Vec<Vec<u8>>,
}

impl Default for Disk {
    fn default() -> Self {
        Self { directory: DIRECTORY, shard: SHARD, files: Vec::new(), spares: Vec::new() }
    }
}

/// Keys, values and expiries.
pub(crate) type Keys = BTreeMap<Vec<u8>, (Vec<u8>, Option<UnixMillis>)>;

/// Applies a record to the keys.
pub(crate) fn apply(keys: &mut Keys, record: Record<'_>) {
    match record {
        Record::Put { key, value, expires_at } => drop(keys.insert(key.to_vec(), (value.to_vec(), expires_at))),
        Record::Expire { key, expires_at } => {
            if let Some(entry) = keys.get_mut(key) {
                entry.1 = expires_at;
            }
        }
        Record::Remove { key } => drop(keys.remove(key)),
        Record::Again { key, value, expires_at } => drop(keys.insert(key.to_vec(), (value.to_vec(), expires_at))),
        Record::Clear => keys.clear(),
        Record::ClearSlots(slots) => keys.retain(|key, _| !slots.has(Slot::of(key))),
        Record::Versions(_) => {}
        Record::Together(_) => unreachable!("recovery shows each record"),
    }
}

impl Disk {
    pub(crate) fn infos(&self) -> Vec<FileInfo> {
        let name = |file: &File| match file.kind {
            FileKind::Segment => format!("log-{}", file.number),
            FileKind::Snapshot => format!("snapshot-{}", file.number),
            FileKind::Hint => format!("hint-{}", file.number),
        };
        let info = |file: &File| FileInfo {
            name: name(file),
            kind: file.kind,
            number: file.number,
            bytes: file.bytes.len() as u64,
        };
        self.files.iter().map(info).collect()
    }

    pub(crate) fn file(&mut self, kind: FileKind, number: u64) -> &mut File {
        let file = self.files.iter_mut().find(|file| (file.kind, file.number) == (kind, number));
        file.expect("the file is there")
    }

    /// Recovers the keys. If loss is accepted, what was lost is in the report.
    pub(crate) fn recover(&self, accepts_loss: bool) -> Result<(Keys, Report), Damage> {
        let mut keys = Keys::new();
        let mut recovery = Recovery::new(self.directory, self.shard, self.infos(), accepts_loss);
        let (mut steps, mut progress) = (0, 0.0);
        while let Step::Read { file, offset, length } = recovery.step()? {
            let bytes = &self.files[file].bytes;
            let offset = usize::try_from(offset).unwrap().min(bytes.len());
            let end = (offset + length).min(bytes.len());
            recovery.give(&bytes[offset..end], &mut |record| apply(&mut keys, record))?;
            steps += 1;
            assert!(steps < 10_000, "recovery ends");
            assert!(progress <= recovery.progress(), "it gets on");
            progress = recovery.progress();
        }
        assert_eq!(recovery.progress(), 1.0);
        Ok((keys, recovery.report().clone()))
    }

    fn header(&self, kind: FileKind, id: FileId, number: u64, lsn: Lsn) -> [u8; BLOCK_BYTES] {
        FileHeader { version: VERSION, kind, shard: self.shard, directory: self.directory, id, number, lsn, bytes: 0 }
            .encode()
    }

    /// Makes a segment ready: of a spare one if there is one, else of zeros.
    fn prepare(&mut self, id: FileId, number: u64, blocks: usize, end: Lsn) {
        let mut bytes = self.spares.pop().unwrap_or_default();
        bytes.resize(blocks * BLOCK_BYTES, 0);
        bytes[..BLOCK_BYTES].copy_from_slice(&self.header(FileKind::Segment, id, number, end));
        self.files.push(File { kind: FileKind::Segment, number, bytes });
    }

    fn release(&mut self, number: u64) {
        let is_it = |file: &File| file.kind == FileKind::Segment && file.number == number;
        let position = self.files.iter().position(is_it).expect("what is released is there");
        self.spares.push(self.files.remove(position).bytes);
    }

    /// Writes a snapshot. `since`: the end of the log when it was begun; `walked_at`: the end when all keys had been seen.
    pub(crate) fn write_snapshot(&mut self, id: FileId, keys: &Keys, since: Lsn, walked_at: Lsn) {
        let (mut log, mut buffer) = (Log::new(Lsn(0), false), vec![0; FRAME_BYTES_MAX]);
        let mut bytes = self.header(FileKind::Snapshot, id, 0, since).to_vec();
        for (index, (key, (value, expires_at))) in keys.iter().enumerate() {
            log.append(0, Record::Put { key, value, expires_at: *expires_at });
            log.end_command();
            while log.next_frame_bytes().is_some() && (index % 4 == 3 || index + 1 == keys.len()) {
                let length = log.take(id, &mut buffer);
                bytes.extend_from_slice(&buffer[..length]);
                log.persisted();
            }
        }
        let length = log.seal(id, walked_at, &mut buffer);
        bytes.extend_from_slice(&buffer[..length]);
        self.files.retain(|file| file.kind != FileKind::Snapshot);
        self.files.push(File { kind: FileKind::Snapshot, number: since.0, bytes });
    }
}

/// A write that was in flight when the server ended.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    number: u64,
    offset: usize,
    frame: Vec<u8>,
}

impl InFlight {
    /// Writes those of its blocks for which `is_written` returns true.
    pub(crate) fn land(&self, disk: &mut Disk, mut is_written: impl FnMut() -> bool) {
        let Some(file) =
            disk.files.iter_mut().find(|file| file.kind == FileKind::Segment && file.number == self.number)
        else {
            return;
        };
        for (index, block) in self.frame.chunks(BLOCK_BYTES).enumerate() {
            if is_written() {
                let at = self.offset + index * BLOCK_BYTES;
                file.bytes[at..at + block.len()].copy_from_slice(block);
            }
        }
    }
}

/// One life of a server: writes its log to a new segment, and to those after it.
pub(crate) struct Writer {
    pub(crate) log: Log,
    random: fastrand::Rng,
    id: FileId,
    number: u64,
    offset: usize,
    next_id: FileId,
    /// Segments with frames, or from earlier lives, with the positions they begin at.
    used: Vec<(u64, Lsn)>,
    buffer: Vec<u8>,
}

impl Writer {
    /// Begins a life at the end of the log that recovery has found.
    pub(crate) fn start(disk: &mut Disk, report: &Report, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let ids = [FileId(random.u64(..)), FileId(random.u64(..))];
        let mut writer = Self {
            log: Log::new(report.end, true),
            id: ids[0],
            number: report.next_segment,
            offset: BLOCK_BYTES,
            next_id: ids[1],
            used: report.segments.iter().filter_map(|&(number, first)| Some((number, first?))).collect(),
            buffer: vec![0; FRAME_BYTES_MAX],
            random,
        };
        // Segments that the last start had made ready and not used are used first, unless this start ends before that.
        let unused: Vec<_> = report.segments.iter().filter(|(_, first)| first.is_none()).collect();
        if !unused.is_empty() && writer.random.bool() {
            unused.iter().for_each(|(number, _)| disk.release(*number));
        }
        let blocks = writer.random.usize(2..12);
        disk.prepare(writer.id, writer.number, blocks, report.end);
        writer
    }

    /// Takes the next frame, of which nothing is on disk yet.
    pub(crate) fn take(&mut self, disk: &mut Disk) -> Option<InFlight> {
        let bytes = self.log.next_frame_bytes()?;
        self.make_room(disk, bytes);
        if self.used.last().is_none_or(|&(number, _)| number != self.number) {
            let first = Lsn(self.log.end().0 - self.log.pending_bytes() as u64);
            self.used.push((self.number, first));
        }
        let length = self.log.take(self.id, &mut self.buffer);
        assert_eq!(length, bytes);
        let in_flight = InFlight { number: self.number, offset: self.offset, frame: self.buffer[..length].to_vec() };
        self.offset += length;
        Some(in_flight)
    }

    /// Writes the next frame. Returns false if there is none.
    pub(crate) fn write(&mut self, disk: &mut Disk) -> bool {
        let Some(in_flight) = self.take(disk) else { return false };
        in_flight.land(disk, || true);
        self.log.persisted();
        // The next segment is made ready while the first frames go into this one.
        if disk.files.iter().all(|file| file.kind != FileKind::Segment || file.number <= self.number) {
            let blocks = self.random.usize(2..12);
            disk.prepare(self.next_id, self.number + 1, blocks, self.log.persisted_end());
        }
        true
    }

    /// Writes a seal: all before it is on disk.
    pub(crate) fn seal(&mut self, disk: &mut Disk) {
        self.make_room(disk, frame_bytes(0));
        let length = self.log.seal(self.id, self.log.end(), &mut self.buffer);
        let frame = self.buffer[..length].to_vec();
        InFlight { number: self.number, offset: self.offset, frame }.land(disk, || true);
        self.offset += length;
    }

    fn make_room(&mut self, disk: &mut Disk, bytes: usize) {
        if self.offset + bytes <= disk.file(FileKind::Segment, self.number).bytes.len() {
            return;
        }
        if self.offset != BLOCK_BYTES {
            let is_ready =
                disk.files.iter().any(|file| file.kind == FileKind::Segment && file.number == self.number + 1);
            if !is_ready {
                disk.prepare(self.next_id, self.number + 1, 2, self.log.persisted_end());
            }
            self.number += 1;
            self.id = self.next_id;
            self.next_id = FileId(self.random.u64(..));
            self.offset = BLOCK_BYTES;
        }
        // Segments are small here, so that tests have several.
        let segment = &mut disk.file(FileKind::Segment, self.number).bytes;
        let length = segment.len().max(self.offset + bytes);
        segment.resize(length, 0);
    }

    /// Releases the segments that a snapshot begun at `lsn` makes superfluous.
    pub(crate) fn release_before(&mut self, disk: &mut Disk, lsn: Lsn) {
        let count = self.used.windows(2).take_while(|pair| pair[1].1 <= lsn).count();
        for (number, _) in self.used.drain(..count) {
            disk.release(number);
        }
    }
}
