//! A core's writer, snapshots, compaction, hints and starts on a disk of so many blocks that is full, and stays so.

use super::*;
use crate::{
    commands::tests::Bench,
    io::{
        blocking::QUEUE,
        clock::Clock,
        compaction::{Compaction, Work},
        hints::Hints,
        snapshot::{Progress, Snapshot},
    },
    store::{Key, Policy, Store, UnixMillis},
    wal::{
        Recovery, Step,
        files::{FileOwner, Growth, disk::SimFiles},
        frame::FileKind,
        room::{FullFacts, SnapshotFacts, is_snapshot_due, is_snapshot_needed_for_room},
    },
};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

const OWNER: FileOwner = FileOwner { directory: 7, shard: 0 };
const SEGMENT_BYTES: u64 = 2 << 20;
/// Seeds of each mode in a test run.
const SEEDS: u64 = 6;
/// Turns within which whatever is under way has come to its end.
const PATIENCE: usize = 4_000;

/// The process has ended.
#[derive(Debug)]
struct Ended;

/// A key's value: so many bytes of this kind.
type Value = (usize, u8);

#[derive(Clone, Debug)]
enum Change {
    Set(u32, Value),
    Delete(u32),
    Flush,
}

/// The keys that there must be.
#[derive(Default)]
struct Model {
    /// The keys on disk, and the changes behind them that may be.
    base: BTreeMap<u32, Value>,
    changes: Vec<(Lsn, Change)>,
    acknowledged: Lsn,
    now: BTreeMap<u32, Value>,
}

impl Change {
    fn apply(&self, keys: &mut BTreeMap<u32, Value>) {
        match self {
            Self::Set(key, value) => drop(keys.insert(*key, *value)),
            Self::Delete(key) => drop(keys.remove(key)),
            Self::Flush => keys.clear(),
        }
    }
}

impl Model {
    fn change(&mut self, change: Change, end: Lsn) {
        change.apply(&mut self.now);
        self.changes.push((end, change));
    }

    /// A start has found the log to end here.
    fn recover(&mut self, end: Lsn, store: &Store) {
        assert!(self.acknowledged <= end, "the log ends at {end:?}, {:?} was acknowledged", self.acknowledged);
        let changes = std::mem::take(&mut self.changes);
        changes.iter().filter(|(at, _)| *at <= end).for_each(|(_, change)| change.apply(&mut self.base));
        self.now = self.base.clone();
        assert_eq!(store.len(), self.now.len(), "the store has other keys");
        for (&key, &(length, kind)) in &self.now {
            let name = key.to_string();
            let entry = store.peek(Key::of(name.as_bytes()), UnixMillis(0));
            let entry = entry.unwrap_or_else(|| panic!("key {key} is gone"));
            assert_eq!(entry.value_len(), length, "key {key}");
            if !entry.is_away() {
                assert!(entry.value().iter().all(|&byte| byte == kind), "key {key}");
            }
        }
    }
}

/// The ring: frames on their way to the disk.
struct Frames {
    files: SimFiles,
    in_flight: Option<Aligned>,
}

impl WriteFrames<SimFiles> for Frames {
    fn write_frame(
        &mut self,
        files: &SimFiles,
        file: &Arc<<SimFiles as Files>::File>,
        buffer: Aligned,
        length: usize,
        offset: u64,
    ) {
        files.submit(file, offset, &buffer.bytes()[..length]);
        self.in_flight = Some(buffer);
    }
}

/// A server's life.
struct Life<'a> {
    bench: &'a mut Bench,
    model: &'a mut Model,
    random: &'a mut fastrand::Rng,
    is_on_disk: bool,
    layout: Layout<SimFiles>,
    frames: Frames,
    writer: Writer<SimFiles>,
    compaction: Compaction<SimFiles>,
    hints: Hints<SimFiles>,
    snapshot: Option<Snapshot<SimFiles>>,
    retry_us: u64,
    failed_at: Option<(Lsn, usize)>,
    takes_reserve: bool,
    now_us: u64,
    bell: Arc<Bell>,
}

impl<'a> Life<'a> {
    fn start(
        files: &SimFiles,
        bench: &'a mut Bench,
        model: &'a mut Model,
        random: &'a mut fastrand::Rng,
        is_on_disk: bool,
    ) -> Result<Self, Ended> {
        QUEUE.set(Some(VecDeque::new()));
        bench.shard.store = Store::new(1, Policy::default());
        bench.shard.core.persistence = Persistence::default();
        if is_on_disk {
            bench.shard.store.keep_values_on_disk();
        }
        let or_ended = |error: io::Error| {
            assert!(files.has_ended(), "a start is refused: {error}");
            Ended
        };
        Layout::remove_unfinished(files).map_err(or_ended)?;
        let layout = Layout::new(files.clone(), OWNER, SEGMENT_BYTES).map_err(or_ended)?;
        let listed = layout.list().map_err(or_ended)?;
        let mut recovery = Recovery::new(OWNER.directory, OWNER.shard, listed.clone(), false);
        if is_on_disk {
            recovery = recovery.believing_hints();
        }
        let store = &mut bench.shard.store;
        while let Step::Read { file, offset, length } = recovery.step().unwrap_or_else(|damage| panic!("{damage}")) {
            let bytes = files.read(&listed[file].name, offset, length);
            let given = recovery.give_in_place(&bytes, &mut |found| store.apply_in_place(found, UnixMillis(1)));
            given.unwrap_or_else(|damage| panic!("{damage}"));
        }
        store.end_loading();
        let mut report = recovery.report().clone();
        model.recover(report.end, store);
        for hint in listed.iter().filter(|file| file.kind == FileKind::Hint) {
            if report.segments.iter().all(|(number, _)| *number != hint.number) {
                layout.remove_hint(hint.number).map_err(or_ended)?;
            }
        }
        let persistence = &mut bench.shard.core.persistence;
        persistence.saved_lsn = report.snapshot.unwrap_or_default();
        let id = FileId(random.u64(..));
        let beginning = layout.begin_log(&mut report, persistence.saved_lsn, id).map_err(or_ended)?;
        let bell = Bell::unheard();
        let hinted: Vec<_> = report.hinted.iter().copied().filter(|&at| at != beginning.active.number).collect();
        let hints = Hints::new(layout.clone(), hinted, Arc::clone(&bell));
        let compaction = Compaction::new(layout.clone(), Arc::clone(&bell));
        let used: Vec<_> = report.segments.iter().filter_map(|&(number, first)| Some((number, first?))).collect();
        let now_us = 1_000_000;
        let writer = Writer::new(layout.clone(), Durability::Always, Arc::clone(&bell), beginning, used, now_us);
        let log = Log::new(report.end, true);
        persistence.admission = Some(writer.admission(&log));
        bench.shard.grow = Some(Box::new(Growth(layout.clone())));
        bench.shard.store.log = Some(Box::new(log));
        layout.keep_beginning();
        let frames = Frames { files: files.clone(), in_flight: None };
        let mut life = Self {
            bench,
            model,
            random,
            is_on_disk,
            layout,
            frames,
            writer,
            compaction,
            hints,
            snapshot: None,
            retry_us: 0,
            failed_at: None,
            takes_reserve: false,
            now_us,
            bell,
        };
        life.turn()?;
        Ok(life)
    }

    fn log(&self) -> &Log {
        self.bench.shard.store.log.as_deref().expect("a server has a log")
    }

    /// One turn of the main loop, and perhaps something that the disk has done.
    fn turn(&mut self) -> Result<(), Ended> {
        self.now_us += [300, 2_000, 60_000][self.random.usize(..3)];
        let (store, state) = (&mut self.bench.shard.store, &mut self.bench.shard.core.persistence);
        let log = store.log.as_mut().expect("a server has a log");
        self.writer.write(&mut self.frames, log, state, self.now_us, false);
        if self.is_on_disk {
            let (is_busy, is_full) = (log.persisted_end() < log.end(), self.writer.is_full());
            self.hints.advance(self.writer.left(), (is_busy, is_full), self.now_us);
            let mut work = Work { store, writer: &mut self.writer, state, live_percent: 50 };
            let clock = Clock::new(Instant::now() - Duration::from_micros(self.now_us));
            self.compaction.advance(&mut work, clock, 200);
        } else {
            self.save();
        }
        if self.random.u8(..) < 180 {
            self.complete();
        }
        if self.random.u8(..) < 180 {
            self.do_job();
        }
        if self.frames.files.has_ended() { Err(Ended) } else { Ok(()) }
    }

    fn do_job(&mut self) {
        let job = QUEUE.with_borrow_mut(|queue| queue.as_mut().and_then(VecDeque::pop_front));
        job.into_iter().for_each(|job| job());
    }

    /// The frame that is on its way is on disk.
    fn complete(&mut self) {
        let Some(buffer) = self.frames.in_flight.take() else { return };
        self.frames.files.complete();
        let (store, state) = (&mut self.bench.shard.store, &mut self.bench.shard.core.persistence);
        let log = store.log.as_mut().expect("a server has a log");
        self.writer.written(buffer, Ok(()), log, state, self.now_us).expect("the disk has it");
        self.model.acknowledged = log.persisted_end();
        if self.is_on_disk {
            let (segment, offset) = self.writer.frame_at();
            while let Some((value, at)) = store.log.as_mut().and_then(|log| log.next_placed(segment, offset)) {
                store.place(value, at);
            }
        }
    }

    /// As `State::save`.
    fn save(&mut self) {
        let (end, persisted) = (self.log().end(), self.log().persisted_end());
        let (store, persistence) = (&self.bench.shard.store, &mut self.bench.shard.core.persistence);
        let is_full = self.writer.is_full();
        let Some(snapshot) = &mut self.snapshot else {
            let after_bytes = 8 << 20;
            let snapshot_bytes = persistence.snapshot_bytes;
            let facts = SnapshotFacts { end, saved: persistence.saved_lsn, snapshot_bytes, after_bytes };
            let full = FullFacts {
                is_full,
                segments_freed: self.writer.left().count(),
                now: (end, store.memory()),
                failed: self.failed_at,
                snapshot_bytes,
                after_bytes,
            };
            let is_due = (!is_full && is_snapshot_due(facts)) || is_snapshot_needed_for_room(full);
            if is_due && self.retry_us <= self.now_us {
                let takes_reserve = is_full && self.takes_reserve;
                self.snapshot = Some(Snapshot::begin(self.layout.clone(), end, takes_reserve, Arc::clone(&self.bell)));
            }
            return;
        };
        let clock = Clock::new(Instant::now() - Duration::from_micros(self.now_us));
        match snapshot.advance(store, (end, persisted), clock, 200) {
            Progress::Walking => {}
            Progress::Waiting => {
                if store.log.as_deref().is_some_and(|log| self.writer.is_stuck(log)) {
                    snapshot.give_up(io::ErrorKind::StorageFull.into());
                }
            }
            Progress::Done(bytes) => {
                let since = snapshot.since;
                self.snapshot = None;
                (self.failed_at, self.takes_reserve) = (None, false);
                (persistence.saved_lsn, persistence.snapshot_bytes) = (since, bytes);
                self.writer.release_before(since, Vec::new(), persistence);
            }
            Progress::Failed(error) => {
                self.snapshot = None;
                let had_no_room = is_full && error.kind() == io::ErrorKind::StorageFull;
                self.takes_reserve = !self.takes_reserve && had_no_room;
                if !self.takes_reserve {
                    self.retry_us = self.now_us + 10_000_000;
                    self.failed_at = Some((end, store.memory()));
                }
            }
        }
    }

    /// Executes a request; returns whether it was taken.
    fn execute(&mut self, words: &[&[u8]], change: Change) -> bool {
        let before = self.log().end();
        let words: Vec<_> = words.iter().map(|word| word.to_vec()).collect();
        let reply = self.bench.execute(&words);
        let is_taken = !reply.starts_with(b"-");
        let text = String::from_utf8_lossy(&reply);
        assert!(is_taken || text.starts_with("-MISCONF"), "{text}");
        if self.log().end() != before {
            assert!(is_taken, "what is refused is not recorded");
            let end = self.log().end();
            self.model.change(change, end);
        }
        is_taken
    }

    fn set(&mut self) -> bool {
        let (key, kind) = (self.random.u32(..2_000), self.random.u8(..));
        let length = match self.random.u8(..) {
            // Several frames.
            0 => self.random.usize(1_000_000..4_000_000),
            1..32 => self.random.usize(..300_000),
            _ => self.random.usize(..60_000),
        };
        let value = vec![kind; length];
        self.execute(&[b"SET", key.to_string().as_bytes(), &value], Change::Set(key, (length, kind)))
    }

    /// Writes until nothing more is taken.
    fn fill(&mut self) -> Result<(), Ended> {
        let mut refused = 0;
        while refused < 30 {
            refused = if self.set() { 0 } else { refused + 1 };
            self.turn()?;
        }
        Ok(())
    }

    /// Deletes some keys, one by one: none is refused while a block of the log's files is left for it.
    fn delete(&mut self, count: usize) -> Result<(), Ended> {
        for _ in 0..count {
            let Some(&key) = self.model.now.keys().nth(self.random.usize(..self.model.now.len().max(1))) else { break };
            if !self.execute(&[b"DEL", key.to_string().as_bytes()], Change::Delete(key)) {
                let left = self.writer.active.bytes - self.writer.offset;
                let pending = self.log().pending_bytes();
                let has_room = 10 * (BLOCK_BYTES as u64) + pending as u64 <= left || 0 < self.layout.allocated();
                let state = (self.writer.set_aside, self.writer.is_full(), self.layout.allocated());
                assert!(!has_room, "a deletion is refused with {left} bytes left, {pending} of them taken: {state:?}");
            }
            (0..self.random.usize(1..4)).try_for_each(|_| self.turn())?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Ended> {
        assert!(self.execute(&[b"FLUSHALL"], Change::Flush), "a full server can be emptied");
        let turns = self.random.usize(..30);
        self.rest(turns)
    }

    fn rest(&mut self, turns: usize) -> Result<(), Ended> {
        (0..turns).try_for_each(|_| self.turn())
    }

    /// Goes on until writes are taken.
    fn until_writes_are_taken(&mut self) -> Result<(), Ended> {
        for _ in 0..PATIENCE {
            if self.set() {
                return Ok(());
            }
            self.turn()?;
        }
        let names = self.layout.files.names().expect("a list");
        let bytes: u64 = names.iter().map(|name| self.layout.files.size_of(name).expect("it is there")).sum();
        // A segment, the reserve, and what says that there are no keys.
        let least = 2 * SEGMENT_BYTES + 4 * BLOCK_BYTES as u64;
        assert!(bytes <= least, "an empty server takes writes, or has given up all that it can: {names:?}");
        self.layout.files.fill(false);
        for _ in 0..PATIENCE {
            if self.set() {
                return Ok(());
            }
            self.turn()?;
        }
        panic!("there is room, and an empty server takes no writes");
    }
}

fn run(seed: u64, is_on_disk: bool, bench: &mut Bench) {
    let mut random = fastrand::Rng::with_seed(seed);
    fastrand::seed(seed);
    let segments = random.usize(5..12);
    let blocks = segments * SEGMENT_BYTES as usize / BLOCK_BYTES + random.usize(..600);
    let files = SimFiles::new(blocks, random.u64(..));
    let mut model = Model::default();
    let mut is_first = true;
    for _ in 0..random.usize(4..12) {
        if !is_first && random.bool() {
            files.end_after(Some(random.u32(..400)));
        }
        if let Ok(mut life) = Life::start(&files, bench, &mut model, &mut random, is_on_disk) {
            let _ended = live(&mut life, &files, is_first);
        }
        is_first = false;
        if random.u8(..3) == 0 {
            files.lose_power()
        } else {
            files.end_process()
        }
        files.end_after(None);
    }
    let mut life = Life::start(&files, bench, &mut model, &mut random, is_on_disk).expect("nothing ends it");
    let lived = life.flush().and_then(|()| life.until_writes_are_taken());
    lived.expect("nothing ends it");
}

fn live(life: &mut Life<'_>, files: &SimFiles, is_first: bool) -> Result<(), Ended> {
    if is_first || life.random.u8(..4) == 0 {
        life.fill()?;
        files.fill(true);
    }
    for _ in 0..life.random.usize(..4) {
        match life.random.u8(..8) {
            0 => life.fill()?,
            1 => life.flush()?,
            2 => life.rest(100)?,
            3 => files.fill(life.random.bool()),
            _ => {
                let count = life.random.usize(..30);
                life.delete(count)?;
            }
        }
    }
    Ok(())
}

/// On a disk that is full and stays so, a core that is killed, or whose power goes, starts again however often that happens;
/// it has all that was acknowledged; no deletion is refused while there is room for it; and once all keys have gone it takes
/// writes again.
#[test]
fn a_full_disk_is_lived_on() {
    let mut bench = Bench::new();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = number("TRINE_FULL_SEED").map_or(0..number("TRINE_FULL_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    for seed in seeds {
        for is_on_disk in [false, true] {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, is_on_disk, &mut bench)));
            if let Err(panic) = outcome {
                eprintln!("TRINE_FULL_SEED={seed}, values on disk: {is_on_disk}");
                resume_unwind(panic);
            }
        }
    }
}
