use super::*;
use crate::{
    config::Eviction,
    slot::Version,
    store::{OutOfMemory, Policy, Store},
    wal::{
        FileInfo, Found, Hinting, Log, Lsn, Recovery, Step as Next, each_value,
        frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileId, FileKind, FrameHeader, FrameKind, VERSION},
    },
};
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeMap;

const NOW: UnixMillis = UnixMillis(1_000_000_000_000);
const FAR_AHEAD: UnixMillis = UnixMillis(u64::MAX);

/// A segment's bytes, its identity, and the position of its first frame.
struct Segment {
    id: FileId,
    bytes: Vec<u8>,
    first: Option<Lsn>,
}

/// A shard's files in memory, and the shard's store over them.
struct Disk {
    store: Store,
    segments: BTreeMap<u32, Segment>,
    next: u32,
    /// The position at which the log begins.
    base: Option<Lsn>,
    buffer: Vec<u8>,
    /// Decides which hints a start finds, and in which state.
    random: fastrand::Rng,
    /// The number of segments that starts did not read, because of their hints.
    hinted: usize,
}

type Model = BTreeMap<u8, (Vec<u8>, Option<u64>)>;

fn name(number: u8) -> Vec<u8> {
    format!("key-{number}").into_bytes()
}

impl Disk {
    fn new(memory_max: usize) -> Self {
        let policy = Policy { memory_max, counts_uses: true, ..Policy::default() };
        let mut store = Store::new(7, policy);
        store.keep_values_on_disk();
        store.log = Some(Box::new(Log::new(Lsn(0), true)));
        let buffer = vec![0; FRAME_BYTES_MAX];
        let mut disk = Self {
            store,
            segments: BTreeMap::new(),
            next: 1,
            base: None,
            buffer,
            random: fastrand::Rng::with_seed(1),
            hinted: 0,
        };
        disk.turn_over();
        disk
    }

    fn log(&mut self) -> &mut Log {
        self.store.log.as_mut().expect("there is a log")
    }

    fn turn_over(&mut self) {
        let (number, id, lsn) = (self.next, FileId(u64::from(self.next) + 100), self.log().persisted_end());
        let header = FileHeader {
            version: VERSION,
            kind: FileKind::Segment,
            shard: 0,
            directory: 5,
            id,
            number: u64::from(number),
            lsn,
            bytes: 0,
        };
        self.segments.insert(number, Segment { id, bytes: header.encode().to_vec(), first: None });
        self.next += 1;
    }

    /// Writes the next frame, if there is one, and sets the places of its values.
    fn write(&mut self) -> bool {
        let (&number, segment) = self.segments.last_key_value().expect("one is written to");
        let (id, offset) = (segment.id, segment.bytes.len() as u64);
        let log = self.store.log.as_mut().expect("there is a log");
        if log.next_frame_bytes().is_none() {
            return false;
        }
        let length = log.take(id, &mut self.buffer);
        let (header, _) = FrameHeader::decode(&self.buffer, id).expect("it was just made");
        let segment = self.segments.get_mut(&number).expect("it is there");
        segment.first.get_or_insert(header.lsn);
        segment.bytes.extend_from_slice(&self.buffer[..length]);
        self.log().persisted();
        while let Some((value, at)) = self.log().next_placed(number, offset) {
            self.store.place(value, at);
        }
        true
    }

    /// Moves what is live in the oldest segment to the log's end.
    fn move_oldest(&mut self) {
        let (&number, segment) = self.segments.first_key_value().expect("there is one");
        if self.segments.len() == 1 {
            return;
        }
        let mut found = Vec::new();
        each_value(&segment.bytes, segment.id, |key, value| found.push((key, value)));
        for (key, value) in found {
            let at = At::stored(number, value.start as u32);
            self.store.move_value(&segment.bytes[key], &segment.bytes[value], at);
        }
        while self.store.move_kept(number) {}
    }

    /// Releases the oldest segment, if nothing of it is needed once all is on disk.
    fn give_up_oldest(&mut self) {
        self.store.state_versions();
        while self.write() {}
        let (&number, _) = self.segments.first_key_value().expect("there is one");
        let live = self.store.places.as_ref().expect("values are on disk").live(number);
        if self.segments.len() == 1 || live != 0 {
            return;
        }
        self.segments.remove(&number);
        self.store.forget_segment(number);
        let end = self.log().persisted_end();
        self.base = Some(self.segments.values().find_map(|segment| segment.first).unwrap_or(end));
    }

    /// Returns the hint of a segment that is not written to any more, if there can be one.
    fn hint(&self, number: u32) -> Option<Vec<u8>> {
        let segment = &self.segments[&number];
        let end = self.segments.range(number + 1..).find_map(|(_, later)| later.first)?;
        let header = FileHeader::decode(&segment.bytes).expect("it was just made");
        let (mut hinting, block) = Hinting::new(header, segment.first?, end);
        let (mut out, at) = (block.to_vec(), BLOCK_BYTES);
        hinting.take(&segment.bytes[at..], at as u64, &mut out).ok()?;
        assert!(hinting.is_done(), "a segment that was left is whole");
        Some(out)
    }

    /// Returns hints as a start may find them: whole, missing, cut off, changed, or of another segment.
    fn hints(&mut self) -> Vec<(u32, Vec<u8>)> {
        let whole: Vec<_> = self.segments.keys().filter_map(|&number| Some((number, self.hint(number)?))).collect();
        let mut found = Vec::new();
        for (number, mut bytes) in whole.clone() {
            match self.random.u8(..8) {
                0 => continue,
                1 => bytes.truncate(self.random.usize(..bytes.len())),
                2 => {
                    let at = self.random.usize(..bytes.len());
                    bytes[at] ^= 1 << self.random.u8(..8);
                }
                3 => bytes = whole[self.random.usize(..whole.len())].1.clone(),
                _ => {}
            }
            found.push((number, bytes));
        }
        found
    }

    /// Starts again, with random hints beside the segments.
    fn restart(&mut self) {
        let hints = self.hints();
        self.start_with(&hints);
    }

    /// Starts again, with these hints beside the segments.
    fn start_with(&mut self, hints: &[(u32, Vec<u8>)]) {
        let mut files: Vec<(FileInfo, Vec<u8>)> = Vec::new();
        let info = |kind, number: u64, bytes: &[u8]| FileInfo {
            name: format!("{number}"),
            kind,
            number,
            bytes: bytes.len() as u64,
        };
        let mut end = Lsn(0);
        for (&number, segment) in &self.segments {
            files.push((info(FileKind::Segment, number.into(), &segment.bytes), segment.bytes.clone()));
            end = segment.first.unwrap_or(end);
        }
        for (number, bytes) in hints {
            files.push((info(FileKind::Hint, u64::from(*number), bytes), bytes.clone()));
        }
        if let Some(base) = self.base {
            let id = FileId(9);
            let header = FileHeader {
                version: VERSION,
                kind: FileKind::Snapshot,
                shard: 0,
                directory: 5,
                id,
                number: 0,
                lsn: base,
                bytes: 0,
            };
            let mut bytes = header.encode().to_vec();
            let length = Log::new(Lsn(0), false).seal(id, base, &mut self.buffer);
            bytes.extend_from_slice(&self.buffer[..length]);
            files.push((info(FileKind::Snapshot, base.0, &bytes), bytes));
        }
        let infos = files.iter().map(|(info, _)| info.clone()).collect();
        let mut recovery = Recovery::new(5, 0, infos, false).believing_hints();
        let mut store = Store::new(8, self.store.policy);
        store.keep_values_on_disk();
        loop {
            match recovery.step().expect("nothing is damaged") {
                Next::Done => break,
                Next::Read { file, offset, length } => {
                    let bytes = &files[file].1;
                    let end = (offset as usize + length).min(bytes.len());
                    let mut apply = |found: Found<'_>| store.apply_in_place(found, NOW);
                    recovery.give_in_place(&bytes[offset as usize..end], &mut apply).expect("nothing is damaged");
                    assert_eq!(
                        store.sweep(usize::MAX, FAR_AHEAD),
                        0,
                        "nothing expires before the last record is applied"
                    );
                }
            }
        }
        store.end_loading();
        while store.bury(1000) {}
        store.log = Some(Box::new(Log::new(recovery.report().end, true)));
        self.hinted += recovery.report().hinted.len();
        self.store = store;
        self.turn_over();
    }

    /// Reads a value that is away.
    fn read(&self, cold: &Cold) -> Vec<u8> {
        let bytes = &self.segments[&cold.segment].bytes[cold.offset as usize..][..cold.length];
        assert_eq!(crc32c::crc32c(bytes), cold.checksum);
        bytes.to_vec()
    }

    /// Returns the value that a client would get.
    fn get(&self, number: u8, now: UnixMillis) -> Option<(Vec<u8>, Option<u64>)> {
        let name = name(number);
        let entry = self.store.peek(Key::of(&name), now)?;
        let expires_at = entry.expires_at().map(|at| at.0);
        let value = match self.store.cold(Key::of(&name), now) {
            Some(cold) => self.read(&cold),
            None => entry.value().to_vec(),
        };
        Some((value, expires_at))
    }

    fn versions(&self) -> Vec<Version> {
        (0..12).map(|number| self.store.version(Key::of(&name(number)).slot)).collect()
    }

    /// Checks the counts of places against a recount.
    fn check_books(&self) {
        let places = self.store.places.as_ref().expect("values are on disk");
        let mut live: BTreeMap<u32, u64> = BTreeMap::new();
        let (mut away, mut away_bytes) = (0, 0);
        for entry in self.store.tables.iter().flat_map(|table| table.entries.iter()) {
            let place = entry.place().expect("every entry has one");
            if let Some(segment) = place.at.segment() {
                *live.entry(segment).or_default() += weight(entry);
            }
            away += u64::from(entry.is_away());
            away_bytes += if entry.is_away() { entry.value_len() as u64 } else { 0 };
        }
        assert_eq!((places.counts.away, places.counts.away_bytes), (away, away_bytes));
        let entries = self.store.tables.iter().flat_map(|table| table.entries.iter());
        assert_eq!(places.savings, entries.map(savings).sum::<usize>());
        assert_eq!(places.live_total(), live.values().sum::<u64>());
        assert_eq!(places.joined, places.segments.values().map(|needed| needed.joined.len()).sum::<usize>());
        for (&segment, needed) in &places.segments {
            assert_eq!(needed.live, live.remove(&segment).unwrap_or_default(), "segment {segment}");
        }
        assert!(live.is_empty(), "segments that nobody knows of: {live:?}");
        crate::store::tests::check_books(&self.store);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, usize, Option<u64>),
    /// Several values in one command.
    PutTogether(u8, Vec<usize>),
    Append(u8, usize),
    Remove(u8),
    SetExpiry(u8, Option<u64>),
    Clear,
    Write,
    TurnOver,
    Demote,
    Recall(u8),
    Move,
    /// Values that a command of several frames has written are written alone.
    Part,
    GiveUp,
    Restart,
    /// A restart that finds only what was written.
    Crash,
    Wait(u64),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let number = || 0..12_u8;
    // Now and then one that takes several frames.
    let length = || prop_oneof![30 => 0..200_usize, 15 => 1000..9000_usize, 1 => 1_000_000..1_200_000_usize];
    let expiry = || prop::option::weighted(0.2, 1..50_u64);
    prop_oneof![
        8 => (number(), length(), expiry()).prop_map(|(number, length, expiry)| Step::Put(number, length, expiry)),
        2 => (number(), vec(length(), 1..4)).prop_map(|(number, lengths)| Step::PutTogether(number, lengths)),
        2 => (number(), 0..3000_usize).prop_map(|(number, length)| Step::Append(number, length)),
        2 => number().prop_map(Step::Remove),
        2 => (number(), expiry()).prop_map(|(number, expiry)| Step::SetExpiry(number, expiry)),
        1 => Just(Step::Clear),
        8 => Just(Step::Write),
        3 => Just(Step::TurnOver),
        6 => Just(Step::Demote),
        4 => number().prop_map(Step::Recall),
        5 => Just(Step::Move),
        3 => Just(Step::Part),
        4 => Just(Step::GiveUp),
        2 => Just(Step::Restart),
        2 => Just(Step::Crash),
        1 => (1..30_u64).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
    ]
}

/// The expected state of the store now, and after a crash.
#[derive(Default)]
struct Expected {
    now: u64,
    live: Model,
    /// The state that a crash leaves, by the position at which the log on disk ends.
    by_end: BTreeMap<u64, (Model, Vec<Version>)>,
    writes: u8,
}

fn take(step: &Step, disk: &mut Disk, expected: &mut Expected) {
    let now = UnixMillis(NOW.0 + expected.now);
    let at = |expiry: &Option<u64>| expiry.map(|after| now.0 + after);
    expected.writes = expected.writes.wrapping_add(1);
    let byte = expected.writes;
    match step {
        Step::Put(number, length, expiry) => {
            let value = vec![byte; *length];
            disk.store.put(Key::of(&name(*number)), &value, at(expiry).map(UnixMillis), now);
            expected.live.insert(*number, (value, at(expiry)));
        }
        Step::PutTogether(number, lengths) => {
            for (index, length) in lengths.iter().enumerate() {
                // The last one may be the first one's key again.
                let number = (number + (index as u8 % 2)) % 12;
                let value = vec![byte.wrapping_add(index as u8); *length];
                disk.store.put(Key::of(&name(number)), &value, None, now);
                expected.live.insert(number, (value, None));
            }
        }
        Step::Append(number, length) => {
            let name = name(*number);
            if let Some(cold) = disk.store.cold(Key::of(&name), now) {
                let bytes = disk.read(&cold);
                assert!(disk.store.recall(&cold, &bytes, now));
                disk.store.release(cold.value);
            }
            let old = expected.live.get(number).map_or(0, |(value, _)| value.len());
            disk.store.resize(Key::of(&name), old + length, now, |value| value[old..].fill(byte));
            let value = &mut expected.live.entry(*number).or_default().0;
            value.resize(old + length, byte);
        }
        Step::Remove(number) => {
            disk.store.remove(Key::of(&name(*number)), now);
            expected.live.remove(number);
        }
        Step::SetExpiry(number, expiry) => {
            disk.store.set_expiry(Key::of(&name(*number)), at(expiry).map(UnixMillis), now);
            expected.live.entry(*number).and_modify(|(_, expires_at)| *expires_at = at(expiry));
        }
        Step::Clear => {
            disk.store.clear();
            expected.live.clear();
        }
        Step::Write => drop(disk.write()),
        Step::TurnOver => disk.turn_over(),
        Step::Demote => disk.store.demote(1000, now),
        Step::Recall(number) => {
            if let Some(cold) = disk.store.cold(Key::of(&name(*number)), now) {
                let bytes = disk.read(&cold);
                assert!(disk.store.is_cold(&cold) && disk.store.recall(&cold, &bytes, now));
                assert!(!disk.store.recall(&cold, &bytes, now), "once");
                disk.store.release(cold.value);
            }
        }
        Step::Move => disk.move_oldest(),
        Step::Part => disk.store.part_value(),
        Step::GiveUp => disk.give_up_oldest(),
        Step::Restart => {
            while disk.write() {}
            let versions = disk.versions();
            disk.restart();
            assert_eq!(disk.versions(), versions, "slots have the versions that they had");
        }
        Step::Crash => {
            disk.restart();
            let end = disk.log().end().0;
            let left = expected.by_end.range(..=end).next_back().map(|(_, left)| left.clone());
            let (live, versions) = left.unwrap_or_else(|| (Model::new(), vec![Version::default(); 12]));
            assert_eq!(disk.versions(), versions, "slots have the versions that they had");
            expected.live = live;
            expected.by_end.retain(|&at, _| at <= end);
        }
        Step::Wait(time) => expected.now += time,
        Step::Sweep => drop(disk.store.sweep(1000, now)),
    }
    disk.log().end_command();
    let now = NOW.0 + expected.now;
    expected.live.retain(|_, (_, expires_at)| expires_at.is_none_or(|at| now < at));
    let end = disk.log().end().0;
    expected.by_end.insert(end, (expected.live.clone(), disk.versions()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 60 }))]
    /// After any sequence of writes, moves, releases, restarts and crashes every key has the value that it was set to last;
    /// after a crash, the last one that was on disk.
    #[test]
    fn a_store_with_its_values_on_disk_is_a_map(
            memory_max in 1..2_000_000_usize,
            steps in vec(step(), 1..80),
            seed: u64,
        ) {
        // A table of all slots comes first.
        let mut disk = Disk::new(Store::new(7, Policy::default()).memory() + memory_max);
        disk.random.seed(seed);
        let mut expected = Expected::default();
        for (index, step) in steps.iter().enumerate() {
            take(step, &mut disk, &mut expected);
            let now = UnixMillis(NOW.0 + expected.now);
            for number in 0..12 {
                let (found, wanted) = (disk.get(number, now), expected.live.get(&number).cloned());
                let shown = |value: &Option<(Vec<u8>, Option<u64>)>| {
                    value.as_ref().map(|(value, at)| (value.len(), value.first().copied(), *at))
                };
                prop_assert!(found == wanted, "step {index}: {number} is {:?}, not {:?}", shown(&found), shown(&wanted));
            }
            disk.check_books();
        }
    }
}

/// Values that can't go away count against the limit: those that take several frames are refused at the limit, or others are
/// evicted for them, even while none of them is on disk yet. Values that will go away are accepted meanwhile.
#[test]
fn values_that_stay_in_memory_count_against_its_limit() {
    const LARGE: usize = 3 << 20;
    let limit = 16 << 20;
    let put = |disk: &mut Disk, number: u32, length: usize| {
        disk.store.make_room(NOW)?;
        disk.store.put(Key::of(format!("key{number}").as_bytes()), &vec![7; length], None, NOW);
        disk.log().end_command();
        disk.store.demote_excess(NOW);
        Ok::<_, OutOfMemory>(())
    };
    // Nothing is written meanwhile.
    let mut disk = Disk::new(limit);
    let taken = (0..60).take_while(|&number| put(&mut disk, number, LARGE).is_ok()).count();
    assert!((4..=6).contains(&taken), "{taken} values of 3 MiB in 16 MiB");
    let mut disk = Disk::new(limit);
    disk.store.policy.eviction = Eviction::Lfu;
    for number in 0..60 {
        assert_eq!(put(&mut disk, number, LARGE), Ok(()));
        assert!(disk.store.memory() <= limit + 2 * LARGE, "{} bytes after {number}", disk.store.memory());
    }
    while disk.write() {}
    assert_eq!(put(&mut disk, 60, LARGE), Ok(()));
    disk.check_books();
    // Values that will be on disk soon are accepted. The log's backlog is limited elsewhere.
    let mut disk = Disk::new(limit);
    (0..60).for_each(|number| assert_eq!(put(&mut disk, number, LARGE / 6), Ok(())));
    while disk.write() {}
    (60..70).for_each(|number| assert_eq!(put(&mut disk, number, LARGE / 6), Ok(())));
    let in_flight = 10 * LARGE / 6;
    assert!(disk.store.memory() <= limit + in_flight, "a write sends away what can go: {} bytes", disk.store.memory());
    disk.check_books();
}

/// Making room for a command sends no value away that it may need: values go away after the command.
#[test]
fn no_value_goes_away_between_the_look_for_it_and_the_command() {
    let mut disk = Disk::new(Store::new(7, Policy::default()).memory() + 50_000);
    for number in 0..12 {
        disk.store.put(Key::of(&name(number)), &[7; 9000], None, NOW);
        disk.log().end_command();
    }
    while disk.write() {}
    assert!(disk.store.policy.memory_max < disk.store.memory());
    assert!((0..12).all(|number| disk.store.cold(Key::of(&name(number)), NOW).is_none()), "all are in memory");
    assert_eq!(disk.store.make_room(NOW), Ok(()));
    assert!((0..12).all(|number| disk.store.cold(Key::of(&name(number)), NOW).is_none()), "and they still are");
    disk.store.demote_excess(NOW);
    assert!(disk.store.memory() <= disk.store.policy.memory_max);
    disk.check_books();
}

/// Values in a snapshot of the other mode are moved to the log and go away then: nothing is evicted or refused for them
/// meanwhile.
#[test]
fn values_from_a_snapshot_are_not_evicted_before_they_can_go_away() {
    let mut disk = Disk::new(2 << 20);
    disk.store.policy.eviction = Eviction::Lfu;
    let log = disk.store.log.take();
    for number in 0..4000 {
        let (key, value) = (format!("key{number}"), [7; 1000]);
        let record = Record::Put { key: key.as_bytes(), value: &value, expires_at: None };
        disk.store.apply_in_place(Found::Record(record, Spot { segment: SNAPSHOT, offset: None }), NOW);
    }
    disk.store.log = log;
    assert!(disk.store.policy.memory_max < disk.store.memory() / 2);
    assert_eq!(disk.store.make_room(NOW), Ok(()));
    assert!(!disk.store.wants_eviction() && !disk.store.is_full() && disk.store.len() == 4000);
    while disk.store.move_kept(SNAPSHOT) {}
    while disk.write() {}
    assert_eq!(disk.store.make_room(NOW), Ok(()));
    disk.store.demote(100_000, NOW);
    assert!(disk.store.memory() <= disk.store.policy.memory_max && disk.store.len() == 4000);
    disk.check_books();
}

/// The values of commands that take several frames are written once more, each alone, and go away then: no command is refused
/// because of earlier ones.
#[test]
fn values_of_large_commands_go_away() {
    let limit = 16 << 20;
    let mut disk = Disk::new(limit);
    for round in 0..60 {
        assert_eq!(disk.store.make_room(NOW), Ok(()), "round {round}");
        for number in 0..20 {
            disk.store.put(Key::of(format!("key{round}:{number}").as_bytes()), &[7; 100_000], None, NOW);
        }
        disk.log().end_command();
        while disk.write() {}
        while disk.store.wants_parting() {
            disk.store.part_value();
        }
        while disk.write() {}
        disk.store.demote(1000, NOW);
        disk.check_books();
        assert!(disk.store.memory() < limit + (3 << 20), "{} bytes in round {round}", disk.store.memory());
    }
    assert_eq!(disk.store.len(), 1200);
}

/// Memory stays within its limit once values can go away, however much is written; all values can be read, and the log's files
/// stay within some twice the live bytes.
#[test]
fn memory_and_disk_stay_within_their_limits() {
    let empty = Store::new(7, Policy::default()).memory();
    let mut disk = Disk::new(empty + 400_000);
    for round in 0..10_u32 {
        for number in 0..2000_u32 {
            let (key, value) = (format!("key{number}"), vec![(round + number) as u8; 1000]);
            disk.store.put(Key::of(key.as_bytes()), &value, None, NOW);
            disk.log().end_command();
            if number % 50 == 49 {
                while disk.write() {}
                disk.store.demote(10_000, NOW);
                assert!(disk.store.memory() <= empty + 400_000, "{} bytes", disk.store.memory() - empty);
            }
            if number % 500 == 499 {
                disk.turn_over();
            }
        }
        while 8 < disk.segments.len() {
            disk.move_oldest();
            disk.give_up_oldest();
        }
    }
    disk.check_books();
    let size: usize = disk.segments.values().map(|segment| segment.bytes.len()).sum();
    assert!(size < 5_000_000, "{size} bytes of segments for 2 MB of values");
    disk.restart();
    disk.store.demote(10_000, NOW);
    assert!(disk.store.memory() <= empty + 400_000);
    for number in 0..2000_u32 {
        let key = format!("key{number}");
        let key = Key::of(key.as_bytes());
        let value = match disk.store.cold(key, NOW) {
            Some(cold) => disk.read(&cold),
            None => disk.store.peek(key, NOW).expect("it is there").value().to_vec(),
        };
        assert_eq!(value, vec![(9 + number) as u8; 1000]);
    }
}

/// A start that finds whole hints reads none of the segments that have one, and has all keys and values nevertheless. Of
/// 2,000 bits that are flipped in hints each is noticed or has no effect: the start finds the same keys.
#[test]
fn a_start_by_hints_finds_what_one_by_segments_does() {
    let mut disk = Disk::new(0);
    for number in 0..200_u8 {
        let length = if number % 3 == 0 { 20 } else { 500 };
        disk.store.put(Key::of(&name(number % 150)), &vec![number; length], None, NOW);
        if number % 7 == 0 {
            disk.store.remove(Key::of(&name(number / 2)), NOW);
        }
        disk.log().end_command();
        disk.write();
        if number % 50 == 49 {
            disk.turn_over();
        }
    }
    // With a frame: without one, nothing says where the segment before it ends.
    disk.store.put(Key::of(b"last"), b"1", None, NOW);
    disk.log().end_command();
    disk.write();
    let whole: Vec<_> = disk.segments.keys().filter_map(|&number| Some((number, disk.hint(number)?))).collect();
    assert_eq!(whole.len(), 4);
    let keys = |disk: &Disk| -> Vec<_> { (0..=255).map(|number| disk.get(number, NOW)).collect() };
    let wanted = keys(&disk);
    let start = |hints: &[(u32, Vec<u8>)]| {
        let mut again = Disk::new(0);
        let copy = |segment: &Segment| Segment { bytes: segment.bytes.clone(), ..*segment };
        again.segments = disk.segments.iter().map(|(&number, segment)| (number, copy(segment))).collect();
        again.next = disk.next;
        again.start_with(hints);
        assert!(keys(&again) == wanted, "other keys");
        again.hinted
    };
    assert_eq!((start(&[]), start(&whole)), (0, 4));
    let (mut random, mut noticed) = (fastrand::Rng::with_seed(5), 0);
    for flip in 0..2_000 {
        let mut hints = vec![whole[flip % whole.len()].clone()];
        let bytes = &mut hints[0].1;
        // Every other time in the beginning of a block, where headers are.
        let at = random.usize(..bytes.len());
        let at = if flip % 2 == 0 { at } else { at / BLOCK_BYTES * BLOCK_BYTES + at % 60 };
        bytes[at] ^= 1 << random.u8(..8);
        noticed += 1 - start(&hints);
    }
    // The others are in the padding, which nobody reads.
    assert!(1_000 < noticed, "{noticed} of 2,000 were noticed");
}

/// Values that are used stay in memory, and others go away.
#[test]
fn what_is_used_stays_in_memory() {
    let empty = Store::new(7, Policy::default()).memory();
    let mut disk = Disk::new(empty + 1_500_000);
    for number in 0..4000_u32 {
        disk.store.put(Key::of(format!("key{number}").as_bytes()), &[1; 1000], None, NOW);
        disk.log().end_command();
        // One in ten is read again and again.
        for hot in (0..number).step_by(10).take(200) {
            if number % 20 == 0 && disk.store.cold(Key::of(format!("key{hot}").as_bytes()), NOW).is_none() {
                disk.store.get(Key::of(format!("key{hot}").as_bytes()), NOW);
            }
        }
        if number % 50 == 49 {
            while disk.write() {}
            disk.store.demote(10_000, NOW);
        }
    }
    let is_away = |number: usize| disk.store.cold(Key::of(format!("key{number}").as_bytes()), NOW).is_some();
    let away = (0..2000).step_by(10).filter(|&number| is_away(number)).count();
    assert!(away <= 20, "{away} of 200 values that are used are away");
    let counts = disk.store.places.as_ref().expect("values are on disk").counts;
    assert!(2000 < counts.away && counts.away < 4000, "{counts:?}");
}

/// A search for values in a segment continues behind a damaged frame, as recovery does: it misses no whole frame.
#[test]
fn values_are_found_behind_what_is_damaged() {
    let mut disk = Disk::new(0);
    for number in 0..30 {
        disk.store.put(Key::of(&name(number)), &[number; 5000], None, NOW);
        disk.log().end_command();
        disk.write();
    }
    let segment = &disk.segments[&1];
    let found = |bytes: &[u8]| {
        let mut keys = Vec::new();
        each_value(bytes, segment.id, |key, value| keys.push((bytes[key].to_vec(), bytes[value].to_vec())));
        keys
    };
    assert_eq!(found(&segment.bytes).len(), 30);
    let mut damaged = segment.bytes.clone();
    damaged[BLOCK_BYTES + 2 * 8192 + 100] ^= 1;
    let keys = found(&damaged);
    assert_eq!(keys.len(), 29);
    assert!(keys.iter().all(|(key, value)| *key != name(2) && value.len() == 5000));
    assert_eq!(
        FrameHeader::decode(&segment.bytes[BLOCK_BYTES..], segment.id).expect("a frame").0.kind,
        FrameKind::Records
    );
}
