//! Starts on a full disk that end after any operation, each followed by another start.

use super::{
    disk::{SimFile, SimFiles},
    *,
};
use crate::wal::{
    Aligned, Log, Record, Recovery, Report, Step,
    frame::{FRAME_BYTES_MAX, FileId},
};

const OWNER: FileOwner = FileOwner { directory: 7, shard: 0 };
const SEGMENT_BYTES: u64 = 4 << 20;

/// A log whose frames are written to segments.
struct Frames<'a> {
    files: &'a SimFiles,
    log: Log,
    buffer: Aligned,
}

impl Frames<'_> {
    fn put(&mut self, key: &[u8], length: usize) {
        self.log.append(0, Record::Put { key, value: &vec![b'v'; length], expires_at: None });
        self.log.end_command();
    }

    /// Writes the next frame. Returns the offset of its end. `is_whole`: it is on disk; if not, any part of it may be.
    fn write(&mut self, file: &SimFile, id: FileId, offset: u64, is_whole: bool) -> u64 {
        let length = self.log.take(id, self.buffer.bytes_mut());
        self.files.submit(file, offset, &self.buffer.bytes()[..length]);
        if is_whole {
            self.files.complete();
            self.log.persisted();
        }
        offset + length as u64
    }
}

/// Returns what a start reads: the keys, in order, and the report.
fn recover(layout: &Layout<SimFiles>, seed: u64) -> (Vec<Vec<u8>>, Report) {
    let (listed, mut keys) = (layout.list().unwrap(), Vec::new());
    let mut recovery = Recovery::new(OWNER.directory, OWNER.shard, listed.clone(), false);
    while let Step::Read { file, offset, length } =
        recovery.step().unwrap_or_else(|damage| panic!("seed {seed}: {damage}"))
    {
        let bytes = layout.files.read(&listed[file].name, offset, length);
        let mut apply = |record: Record<'_>| match record {
            Record::Put { key, .. } => keys.push(key.to_vec()),
            other => unreachable!("{other:?} was not written"),
        };
        recovery.give(&bytes, &mut apply).unwrap_or_else(|damage| panic!("seed {seed}: {damage}"));
    }
    (keys, recovery.report().clone())
}

fn start(files: &SimFiles) -> io::Result<Layout<SimFiles>> {
    Layout::remove_unfinished(files)?;
    Layout::new(files.clone(), OWNER, SEGMENT_BYTES)
}

/// A log ends in a command of many frames that was cut off, over up to three segments and in a torn frame. A start overwrites
/// the rest of the command. After whichever operation that start ends, the next one finds the same log and can continue it.
#[test]
fn a_start_on_a_full_disk_may_end_anywhere() {
    let mut has_gone_on = 0;
    for seed in 0..60 {
        let files = SimFiles::new(3 * SEGMENT_BYTES as usize / BLOCK_BYTES + 4, seed);
        let layout = start(&files).unwrap();
        let mut frames = Frames { files: &files, log: Log::new(Lsn(0), true), buffer: Aligned::new(FRAME_BYTES_MAX) };
        let (ids, mut offset) = ([FileId(11), FileId(12), FileId(13)], BLOCK_BYTES as u64);
        let spans = seed % 3;
        for (number, id) in (1..).zip(ids).take(1 + spans as usize) {
            let segment = layout.prepare(number, id, frames.log.persisted_end(), 0).unwrap();
            layout.delivered();
            if number == 1 {
                frames.put(b"first", 10);
                offset = frames.write(&segment.file, id, offset, true);
                frames.put(b"second", 10_000);
                offset = frames.write(&segment.file, id, offset, true);
                let length = if spans == 0 { 3_800_000 } else { 11_000_000 };
                frames.put(b"cut off", length);
            } else {
                offset = BLOCK_BYTES as u64;
            }
            // Some whole frames, and in the last segment one that is torn.
            let is_last = number == 1 + spans;
            for frame in 0..3 {
                offset = frames.write(&segment.file, id, offset, !is_last || frame < 2);
            }
        }
        files.fill(true);
        files.lose_power();
        files.end_after(Some((seed / 3) as u32 % 20));
        for _ in 0..2 {
            if let Ok(layout) = start(&files) {
                let (keys, mut report) = recover(&layout, seed);
                assert_eq!(keys, [b"first".to_vec(), b"second".to_vec()], "seed {seed}");
                if layout.begin_log(&mut report, Lsn(0), FileId(20 + seed)).is_ok() {
                    has_gone_on += 1;
                }
            }
            files.lose_power();
            files.end_after(None);
        }
        let layout = start(&files).unwrap();
        let (_, mut report) = recover(&layout, seed);
        let end = report.end;
        let beginning = layout.begin_log(&mut report, Lsn(0), FileId(1000 + seed)).unwrap();
        let mut frames = Frames { files: &files, log: Log::new(end, true), buffer: Aligned::new(FRAME_BYTES_MAX) };
        frames.put(b"third", 9_000);
        frames.write(&beginning.active.file, beginning.active.id, beginning.offset, true);
        files.lose_power();
        let (keys, _) = recover(&start(&files).unwrap(), seed);
        assert_eq!(keys, [b"first".to_vec(), b"second".to_vec(), b"third".to_vec()], "seed {seed}");
    }
    assert!(60 < has_gone_on, "starts come to their end: {has_gone_on}");
}
