//! A core on a disk of so many blocks that is full, and stays so: its log, snapshots, compaction, hints and starts.

use super::*;
use crate::{
    commands::tests::shard,
    config::{Durability, Values},
    resp::encode_request,
    slot::{Slot, Version},
    store::{Key, Policy, Store, UnixMillis},
    wal::{
        Aligned, Desk, Done, Job, Lsn,
        files::{
            FileOwner, Files, Growth, Layout,
            disk::{SimFile, SimFiles},
        },
        frame::BLOCK_BYTES,
        names,
    },
};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

const OWNER: FileOwner = FileOwner { directory: 7, shard: 0 };
const SEGMENT_BYTES: u64 = 2 << 20;
/// Seeds of each mode in a test run.
const SEEDS: u64 = 6;
/// Turns within which whatever is under way has come to its end.
const PATIENCE: usize = 4_000;
const CLIENT: ConnectionId = ConnectionId::new(0, 1);

thread_local! {
    static NOW_US: Cell<u64> = const { Cell::new(0) };
}

/// A clock that goes on with each look at it, so that what takes time comes to an end.
const CLOCK: Clock = Clock::new(|| NOW_US.replace(NOW_US.get() + 1), |_| unreachable!("nobody asks for a pause"));

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
    /// The number of effects on each slot until then.
    effects: BTreeMap<Slot, u64>,
    changes: Vec<(Lsn, Change)>,
    acknowledged: Lsn,
    now: BTreeMap<u32, Value>,
}

impl Change {
    /// Counts the effects of the change on slots, before it is applied to these keys.
    fn count(&self, keys: &BTreeMap<u32, Value>, effects: &mut BTreeMap<Slot, u64>) {
        let slots: BTreeSet<Slot> = match self {
            Self::Set(key, _) | Self::Delete(key) => [slot_of(*key)].into(),
            Self::Flush => keys.keys().map(|&key| slot_of(key)).collect(),
        };
        slots.into_iter().for_each(|slot| *effects.entry(slot).or_default() += 1);
    }

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
        for (_, change) in changes.iter().filter(|(at, _)| *at <= end) {
            change.count(&self.base, &mut self.effects);
            change.apply(&mut self.base);
        }
        for slot in Slot::all() {
            let effects = self.effects.get(&slot).copied().unwrap_or_default();
            assert_eq!(store.version(slot), Version { epoch: 0, effects }, "the version of slot {}", slot.number());
        }
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

fn slot_of(key: u32) -> Slot {
    Slot::of(key.to_string().as_bytes())
}

/// A server's life.
struct Life<'a> {
    engine: Engine,
    model: &'a mut Model,
    random: &'a mut fastrand::Rng,
    files: SimFiles,
    layout: Layout<SimFiles>,
    jobs: VecDeque<(Desk, Job)>,
    /// The segments that are open for frames, the frame that is on its way, and the end of the last one.
    segments: BTreeMap<u64, Arc<SimFile>>,
    in_flight: Option<Aligned>,
    written_to: (u64, u64),
    /// The bytes that the client has been sent.
    replies: Vec<u8>,
    is_ready: bool,
    has_finished: bool,
}

impl<'a> Life<'a> {
    fn start(
        files: &SimFiles,
        model: &'a mut Model,
        random: &'a mut fastrand::Rng,
        is_on_disk: bool,
    ) -> Result<Self, Ended> {
        let or_ended = |error: io::Error| {
            assert!(files.has_ended(), "a start is refused: {error}");
            Ended
        };
        Layout::remove_unfinished(files).map_err(or_ended)?;
        let layout = Layout::new(files.clone(), OWNER, SEGMENT_BYTES).map_err(or_ended)?;
        let mut shard = shard(1, 0, Policy::default());
        let config = &mut shard.core.config;
        config.durability = Some(Durability::Always);
        config.values = if is_on_disk { Values::Disk } else { Values::Memory };
        config.log_segment_bytes = SEGMENT_BYTES as usize;
        config.snapshot_log_bytes = 8 << 20;
        let core_files = CoreFiles {
            path: "core".into(),
            directory: OWNER.directory,
            shard: OWNER.shard,
            listed: layout.list().map_err(or_ended)?,
            reserve: Box::new(Growth(layout.clone())),
        };
        let engine = Engine::new(shard, CLOCK, now(), random.u64(..), Some(core_files));
        let mut life = Self {
            engine,
            model,
            random,
            files: files.clone(),
            layout,
            jobs: VecDeque::new(),
            segments: BTreeMap::new(),
            in_flight: None,
            written_to: (0, 0),
            replies: Vec::new(),
            is_ready: false,
            has_finished: false,
        };
        life.until("a server starts", |life| life.is_ready)?;
        life.engine.accept(Port::Gateway, false);
        life.engine.connected(CLIENT, Port::Gateway, "127.0.0.1:5", "127.0.0.1:6");
        Ok(life)
    }

    fn log_end(&self) -> Lsn {
        self.engine.shard.store.log.as_ref().map_or(Lsn(0), |log| log.end())
    }

    /// One turn of the core, and perhaps something that the disk has done.
    fn turn(&mut self) -> Result<(), Ended> {
        NOW_US.set(NOW_US.get() + [300, 2_000, 60_000][self.random.usize(..3)]);
        self.engine.begin_turn(now());
        let (files, names) = (self.files.clone(), self.files.names().unwrap_or_default());
        self.engine.load(|_, file, offset, buffer| {
            assert!(names.contains(&file.name), "what was listed is there");
            let bytes = files.read(&file.name, offset, buffer.len());
            buffer[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        });
        if self.random.u8(..) < 180
            && let Some(buffer) = self.in_flight.take()
        {
            self.files.complete();
            self.engine.handle(Event::Written(buffer, Ok(())));
        }
        if self.random.u8(..) < 180 {
            self.do_job();
        }
        self.end_turn()
    }

    fn end_turn(&mut self) -> Result<(), Ended> {
        self.engine.end_turn(false);
        for action in std::mem::take(&mut self.engine.actions) {
            self.perform(action)?;
        }
        if self.files.has_ended() { Err(Ended) } else { Ok(()) }
    }

    fn do_job(&mut self) {
        let Some((desk, job)) = self.jobs.pop_front() else { return };
        let (outcome, file) = job.perform(&self.layout);
        let number = match &outcome {
            Ok(Done::Segment(segment)) => Some(segment.number),
            Ok(Done::LogBegun(begun)) => {
                self.model.recover(begun.report.end, &self.engine.shard.store);
                Some(begun.active.number)
            }
            Ok(_) | Err(_) => None,
        };
        self.segments.extend(number.zip(file));
        if !self.files.has_ended() {
            self.engine.handle(Event::JobDone(desk, outcome));
        }
    }

    fn perform(&mut self, action: Action) -> Result<(), Ended> {
        match action {
            Action::Send(id, bytes) => {
                self.replies.extend_from_slice(&bytes);
                self.engine.handle(Event::Sent(id));
            }
            Action::Write { segment, offset, buffer, length } => {
                self.files.submit(&self.segments[&segment], offset, &buffer.bytes()[..length]);
                self.in_flight = Some(buffer);
                self.written_to = (segment, offset + length as u64);
            }
            Action::Start(desk, job) => self.jobs.push_back((desk, job)),
            Action::Loaded => {
                self.is_ready = true;
                self.engine.handle(Event::Ready);
            }
            Action::Drained => self.engine.handle(Event::Drained),
            Action::End(End::Finished) => self.has_finished = true,
            Action::End(end) => {
                assert!(self.files.has_ended(), "the server ends: {end:?}");
                return Err(Ended);
            }
            Action::Read { .. } => unreachable!("no value is asked for"),
            Action::Post(..) => unreachable!("there is one core"),
            _ => {}
        }
        Ok(())
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<(), Ended> {
        for _ in 0..PATIENCE {
            if is_so(self) {
                return Ok(());
            }
            self.turn()?;
        }
        panic!("{what}: not in {PATIENCE} turns");
    }

    /// Executes a request and waits for its reply; returns whether it was taken.
    fn execute(&mut self, words: &[&[u8]], change: Change) -> Result<bool, Ended> {
        let (before, mut bytes) = (self.log_end(), Vec::new());
        encode_request(&mut bytes, words.iter().copied());
        self.replies.clear();
        self.engine.handle(Event::Received(CLIENT, &bytes));
        let end = self.log_end();
        if end != before {
            self.model.change(change, end);
        }
        self.end_turn()?;
        self.until("a request is answered", |life| !life.replies.is_empty())?;
        let is_taken = !self.replies.starts_with(b"-");
        let text = String::from_utf8_lossy(&self.replies);
        assert!(is_taken || text.starts_with("-MISCONF"), "{text}");
        assert!(is_taken || end == before, "what is refused is not recorded");
        if is_taken {
            self.model.acknowledged = self.model.acknowledged.max(end);
        }
        Ok(is_taken)
    }

    fn set(&mut self) -> Result<bool, Ended> {
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
            refused = if self.set()? { 0 } else { refused + 1 };
            self.turn()?;
        }
        Ok(())
    }

    /// Deletes some keys, one by one: none is refused while a block of the log's files is left for it.
    fn delete(&mut self, count: usize) -> Result<(), Ended> {
        for _ in 0..count {
            let Some(&key) = self.model.now.keys().nth(self.random.usize(..self.model.now.len().max(1))) else { break };
            if !self.execute(&[b"DEL", key.to_string().as_bytes()], Change::Delete(key))? {
                let (segment, end) = self.written_to;
                let name = names::name_of(crate::wal::frame::FileKind::Segment, segment);
                let left = self.files.size_of(&name).unwrap_or(end).saturating_sub(end);
                let pending = self.engine.shard.store.log.as_ref().map_or(0, |log| log.pending_bytes());
                let has_room = 10 * (BLOCK_BYTES as u64) + pending as u64 <= left || 0 < self.layout.allocated();
                let admission = self.engine.shard.core.persistence.admission;
                assert!(
                    !has_room,
                    "a deletion is refused with {left} bytes left, {pending} of them taken: {admission:?} at {end:?}",
                    end = self.log_end()
                );
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Ended> {
        assert!(self.execute(&[b"FLUSHALL"], Change::Flush)?, "a full server can be emptied");
        let turns = self.random.usize(..30);
        self.rest(turns)
    }

    fn rest(&mut self, turns: usize) -> Result<(), Ended> {
        (0..turns).try_for_each(|_| self.turn())
    }

    fn takes_writes(&mut self) -> Result<bool, Ended> {
        for _ in 0..PATIENCE {
            if self.set()? {
                return Ok(true);
            }
            self.turn()?;
        }
        Ok(false)
    }

    /// Goes on until writes are taken, or the core has given up all that it can.
    fn until_writes_are_taken(&mut self) -> Result<(), Ended> {
        if self.takes_writes()? {
            return Ok(());
        }
        let names = self.files.names().expect("a list");
        let bytes: u64 = names.iter().map(|name| self.files.size_of(name).expect("it is there")).sum();
        // A segment, the reserve, and what says that there are no keys.
        let least = 2 * SEGMENT_BYTES + 36 * BLOCK_BYTES as u64;
        assert!(bytes <= least, "an empty server takes writes, or has given up all that it can: {names:?}");
        self.files.fill(false);
        assert!(self.takes_writes()?, "an empty server takes writes where there is room");
        Ok(())
    }

    /// Stops in good order: all is written and sealed.
    fn stop(&mut self) -> Result<(), Ended> {
        self.engine.handle(Event::Stop);
        self.until("a server stops", |life| life.has_finished)
    }
}

/// A key that a client was told to be gone is gone, wherever the clock stands at the next start; and what has an expiry that is past
/// comes back from the log as it was, whatever the clock says while that is read, and goes when it is found.
#[test]
fn what_a_client_was_told_is_gone_stays_gone() {
    const ALIVE: u32 = 2;
    for is_on_disk in [false, true] {
        for line in
            ["GET 1", "EXISTS 1", "KEYS *", "SCAN 0", "TTL 1", "SET 1 x XX", "EXPIRE 1 9", "MEMORY USAGE 1", "WATCH 1"]
        {
            NOW_US.set(0);
            let files = SimFiles::new(20 * SEGMENT_BYTES as usize / BLOCK_BYTES, 1);
            let (mut model, mut random) = (Model::default(), fastrand::Rng::with_seed(1));
            let mut life = Life::start(&files, &mut model, &mut random, is_on_disk).expect("a start");
            for (key, ms) in [(1, b"600000"), (ALIVE, b"990000")] {
                let name = key.to_string();
                let words = [b"SET", name.as_bytes(), b"v", b"PX", &ms[..]];
                life.execute(&words, Change::Set(key, (1, b'v'))).expect("a reply");
            }
            NOW_US.set(700_000_000);
            life.engine.begin_turn(now());
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            life.execute(&words, Change::Delete(1)).expect("a reply");
            assert!(life.model.acknowledged == life.log_end() && life.model.now.len() == 1, "{line}: it is recorded");
            drop(life);
            files.lose_power();
            // Both keys have an hour left, by the clock of this start, or none.
            NOW_US.set(if is_on_disk { 0 } else { 5_000_000_000 });
            let mut life = Life::start(&files, &mut model, &mut random, is_on_disk).expect("a start");
            assert!(!life.model.now.contains_key(&1) && life.model.now.contains_key(&ALIVE));
            let alive = life.engine.shard.store.len();
            NOW_US.set(6_000_000_000);
            life.rest(3).expect("nothing ends it");
            assert!(alive <= 1 && life.engine.shard.store.is_empty(), "{line}: what has expired goes");
            files.lose_power();
        }
    }
}

fn now() -> Now {
    Now { unix_us: 1_000_000_000_000_000 + NOW_US.get(), monotonic_us: NOW_US.get() }
}

fn run(seed: u64, is_on_disk: bool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let segments = random.usize(5..12);
    let blocks = segments * SEGMENT_BYTES as usize / BLOCK_BYTES + random.usize(..600);
    let files = SimFiles::new(blocks, random.u64(..));
    let mut model = Model::default();
    let mut is_first = true;
    for _ in 0..random.usize(4..12) {
        if !is_first && random.bool() {
            files.end_after(Some(random.u32(..400)));
        }
        if let Ok(mut life) = Life::start(&files, &mut model, &mut random, is_on_disk) {
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
    let mut life = Life::start(&files, &mut model, &mut random, is_on_disk).expect("nothing ends it");
    let lived = life.flush().and_then(|()| life.until_writes_are_taken()).and_then(|()| life.stop());
    lived.expect("nothing ends it");
}

fn live(life: &mut Life<'_>, files: &SimFiles, is_first: bool) -> Result<(), Ended> {
    if is_first || life.random.u8(..4) == 0 {
        life.fill()?;
        files.fill(true);
    }
    for _ in 0..life.random.usize(..4) {
        match life.random.u8(..9) {
            0 => life.fill()?,
            1 => life.flush()?,
            2 => life.rest(100)?,
            3 => files.fill(life.random.bool()),
            4 => return life.stop(),
            _ => {
                let count = life.random.usize(..30);
                life.delete(count)?;
            }
        }
    }
    Ok(())
}

/// On a disk that is full and stays so, a core that is killed, or whose power goes, starts again however often that happens;
/// it has all that was acknowledged, and each slot the version that it had; no deletion is refused while there is room for it; once all keys have gone it takes writes
/// again; and it can be stopped in good order.
#[test]
fn a_full_disk_is_lived_on() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = number("TRINE_FULL_SEED").map_or(0..number("TRINE_FULL_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    for seed in seeds {
        for is_on_disk in [false, true] {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, is_on_disk)));
            if let Err(panic) = outcome {
                eprintln!("TRINE_FULL_SEED={seed}, values on disk: {is_on_disk}");
                resume_unwind(panic);
            }
        }
    }
}
