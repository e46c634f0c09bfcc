use super::{eviction::EVICTIONS_PER_WRITE, *};
use crate::wal::{
    Found, Placed, Spot,
    frame::{FileId, FrameHeader},
};
use proptest::{collection::vec, prelude::*};
use std::collections::{BTreeMap, BTreeSet};

/// The name of a key, in one of three slots, so that tables have some length.
fn name(number: u16) -> String {
    format!("{{{}}}{number}", number % 3)
}

fn key(name: &str) -> Key<'_> {
    Key::of(name.as_bytes())
}

/// An operation on a store, with times relative to the present.
#[derive(Clone, Debug)]
enum Step {
    Put(u16, usize, Option<u64>),
    /// Many keys at once, so that tables grow.
    PutMany(u16),
    Get(u16),
    Look(u16),
    Remove(u16),
    /// All keys from this on, so that tables shrink.
    RemoveFrom(u16),
    SetExpiry(u16, Option<u64>),
    Resize(u16, usize),
    Sweep(usize),
    RandomKey,
    Wait(u64),
    Clear,
    /// One call of the scan that runs through all steps.
    Scan(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let number = || prop_oneof![0..8_u16, 0..600_u16];
    let length = || prop_oneof![0..20_usize, 200..300_usize];
    let expiry = || prop::option::of(1..50_u64);
    prop_oneof![
        4 => (number(), length(), expiry()).prop_map(|(number, length, expiry)| Step::Put(number, length, expiry)),
        2 => (1..600_u16).prop_map(Step::PutMany),
        2 => number().prop_map(Step::Get),
        1 => number().prop_map(Step::Look),
        2 => number().prop_map(Step::Remove),
        2 => (0..600_u16).prop_map(Step::RemoveFrom),
        2 => (number(), expiry()).prop_map(|(number, expiry)| Step::SetExpiry(number, expiry)),
        2 => (number(), length()).prop_map(|(number, length)| Step::Resize(number, length)),
        1 => (0..2000_usize).prop_map(Step::Sweep),
        1 => Just(Step::RandomKey),
        3 => (0..20_u64).prop_map(Step::Wait),
        1 => Just(Step::Clear),
        4 => (1..100_usize).prop_map(Step::Scan),
    ]
}

/// The expected state of a store: keys in order, each with its value and expiry, and the time.
#[derive(Default)]
struct Model {
    now: u64,
    live: BTreeMap<String, (Vec<u8>, Option<u64>)>,
    /// Keys that have been there since the scan began.
    steady: BTreeSet<String>,
    /// Keys that the scan has shown.
    shown: BTreeSet<String>,
}

impl Model {
    fn forget_expired(&mut self) {
        let now = self.now;
        self.live.retain(|_, (_, expires_at)| expires_at.is_none_or(|at| now < at));
        self.steady.retain(|name| self.live.contains_key(name));
    }

    fn remove(&mut self, gone: impl Fn(&str) -> bool) {
        self.live.retain(|name, _| !gone(name));
        self.steady.retain(|name| !gone(name));
    }
}

/// Takes a step on both. Returns an error if the store's answer is wrong.
fn take(step: &Step, store: &mut Store, model: &mut Model, cursor: &mut Cursor) -> Result<(), TestCaseError> {
    let now = UnixMillis(model.now);
    let at = |expiry: &Option<u64>| expiry.map(|after| model.now + after);
    match step {
        Step::Put(number, length, expiry) => {
            let (name, value, expires_at) = (name(*number), vec![b'v'; *length], at(expiry));
            store.put(key(&name), &value, expires_at.map(UnixMillis), now);
            model.live.insert(name, (value, expires_at));
        }
        Step::PutMany(count) => {
            for name in (0..*count).map(name) {
                store.put(key(&name), b"many", None, now);
                model.live.insert(name, (b"many".to_vec(), None));
            }
        }
        Step::Get(number) | Step::Look(number) => {
            let (name, before) = (name(*number), store.counters);
            let read = if matches!(step, Step::Get(_)) { Store::get } else { Store::look };
            let found = read(store, key(&name), now).map(|entry| entry.value().to_vec());
            let expected = model.live.get(&name).map(|(value, _)| value.clone());
            let (hit, miss) = (u64::from(expected.is_some()), u64::from(expected.is_none()));
            prop_assert_eq!(found, expected);
            prop_assert_eq!((store.counters.hits, store.counters.misses), (before.hits + hit, before.misses + miss));
        }
        Step::Remove(number) => {
            let name = name(*number);
            let removed = store.remove(key(&name), now).map(|entry| entry.value().to_vec());
            prop_assert_eq!(removed, model.live.get(&name).map(|(value, _)| value.clone()));
            model.remove(|other| other == name);
        }
        Step::RemoveFrom(first) => {
            for name in (*first..600).map(name) {
                store.remove(key(&name), now);
                model.live.remove(&name);
                model.steady.remove(&name);
            }
        }
        Step::SetExpiry(number, expiry) => {
            let (name, expires_at) = (name(*number), at(expiry));
            let was_there = store.set_expiry(key(&name), expires_at.map(UnixMillis), now);
            prop_assert_eq!(was_there, model.live.contains_key(&name));
            model.live.entry(name).and_modify(|entry| entry.1 = expires_at);
        }
        Step::Resize(number, length) => {
            let name = name(*number);
            store.resize(key(&name), *length, now, |value| value.iter_mut().take(3).for_each(|byte| *byte = b'r'));
            let value = &mut model.live.entry(name).or_default().0;
            value.resize(*length, 0);
            value.iter_mut().take(3).for_each(|byte| *byte = b'r');
        }
        Step::Sweep(budget) => {
            let length = store.len();
            let removed = store.sweep(*budget, now);
            prop_assert!(removed <= *budget);
            prop_assert_eq!(store.len(), length - removed);
        }
        Step::RandomKey => match store.random_key(now) {
            Some(found) => prop_assert!(model.live.contains_key(std::str::from_utf8(found).expect("an ASCII name"))),
            None => prop_assert!(model.live.is_empty(), "only of an empty store no key is drawn"),
        },
        Step::Wait(time) => model.now += time,
        Step::Clear => {
            store.clear();
            // Cleared keys are not there, though their entries may still be in memory.
            store.bury(3);
            model.remove(|_| true);
        }
        Step::Scan(count) => {
            if *cursor == Cursor::START {
                model.shown.clear();
                model.steady = model.live.keys().cloned().collect();
            }
            let mut shown = Vec::new();
            // As a client passes it.
            *cursor = Cursor::from_number(cursor.to_number());
            *cursor = store.scan(*cursor, *count, now, |entry| shown.push(entry.key().to_vec()));
            prop_assert!(shown.len() <= *count);
            for name in shown.into_iter().map(|name| String::from_utf8(name).expect("an ASCII name")) {
                prop_assert!(model.live.contains_key(&name));
                model.shown.insert(name);
            }
            if *cursor == Cursor::START {
                prop_assert!(model.steady.is_subset(&model.shown), "{:?}", model.steady.difference(&model.shown));
            }
        }
    }
    model.forget_expired();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    /// After any operations a store holds what a map would, and its counts are right. A scan returns every key that is there
    /// from its beginning to its end, however the tables grow and shrink meanwhile.
    #[test]
    fn a_store_is_a_map_with_a_clock(steps in vec(step(), 1..60)) {
        let mut store = Store::new(7, Policy::default());
        let empty = store.memory();
        let (mut model, mut cursor) = (Model::default(), Cursor::START);
        for (index, step) in steps.iter().enumerate() {
            take(step, &mut store, &mut model, &mut cursor)?;
            let now = UnixMillis(model.now);
            for number in 0..8 {
                let name = name(number);
                let found = store.peek(key(&name), now).map(|entry| (entry.value().to_vec(), entry.expires_at()));
                let expected = model.live.get(&name).map(|(value, at)| (value.clone(), at.map(UnixMillis)));
                prop_assert_eq!(found, expected, "{}", name);
            }
            if index % 16 == 0 {
                check_books(&store);
            }
        }
        check_books(&store);
        // Everything that has expired goes in the end, and is known to have gone.
        for _ in 0..20 {
            store.sweep(100_000, UnixMillis(model.now));
        }
        prop_assert_eq!(store.len(), model.live.len());
        prop_assert_eq!(store.expiring(), model.live.values().filter(|(_, at)| at.is_some()).count());
        store.clear();
        prop_assert_eq!((store.len(), store.expiring(), store.memory()), (0, 0, empty));
    }

    /// A cursor survives its way to the client and back, and any number is a cursor.
    #[test]
    fn cursors_are_numbers(number in any::<u64>()) {
        let cursor = Cursor::from_number(number);
        prop_assert!(cursor.to_number() < 1 << 54);
        prop_assert_eq!(Cursor::from_number(cursor.to_number()), cursor);
        Store::new(7, Policy::default()).scan(cursor, 10, UnixMillis(0), |_| {});
    }
}

/// Checks the store's counts against a recount.
#[track_caller]
pub(super) fn check_books(store: &Store) {
    let entries = || store.tables.iter().flat_map(|table| table.entries.iter());
    let tables: usize = store.tables.iter().map(|table| table.entries.allocation_size()).sum();
    let memory = TABLES_BYTES + tables + entries().map(Entry::memory).sum::<usize>();
    let expiring = |entries: &HashTable<Entry>| entries.iter().filter(|entry| entry.expires_at().is_some()).count();
    assert_eq!(store.memory(), memory);
    assert_eq!(store.len(), entries().count());
    let mut census = Census::new();
    store.tables.iter().zip(Slot::all()).for_each(|(table, slot)| table.entries.iter().for_each(|_| census.add(slot)));
    assert!(*store.census == census);
    assert_eq!(store.expiring(), store.tables.iter().map(|table| expiring(&table.entries)).sum::<usize>());
    for table in &store.tables {
        assert_eq!(table.expiring as usize, expiring(&table.entries));
        let buckets = table.entries.num_buckets();
        assert!(buckets <= BUCKETS_KEPT || buckets <= table.entries.len() * BUCKETS_PER_ENTRY_MAX);
    }
}

fn filled(policy: Policy, count: u32, now: UnixMillis) -> Store {
    let mut store = Store::new(7, policy);
    for number in 0..count {
        store.put(key(&format!("key{number}")), &[b'v'; 50], None, now);
    }
    store
}

/// The limit holds whatever is written, and the keys that are read often outlive those that are not.
#[test]
fn under_lfu_the_limit_holds_and_what_is_used_stays() {
    let policy = Policy { memory_max: 3_000_000, eviction: Eviction::Lfu, counts_uses: true, ..Policy::default() };
    let mut store = Store::new(7, policy);
    let mut now = UnixMillis(1_000_000_000_000);
    let hot: Vec<String> = (0..100).map(|number| format!("hot{number}")).collect();
    for name in &hot {
        store.put(key(name), &[b'v'; 50], None, now);
    }
    for number in 0..100_000_u32 {
        now.0 += 1;
        assert_eq!(store.make_room(now), Ok(()));
        store.put(key(&format!("cold{number}")), &[b'v'; 50], None, now);
        store.get(key(&hot[number as usize % hot.len()]), now);
        assert!(store.memory() <= policy.memory_max + 1000, "{} bytes after {number}", store.memory());
    }
    assert!(50_000 < store.counters.evicted);
    let survivors = hot.iter().filter(|name| store.peek(key(name), now).is_some()).count();
    assert!(95 <= survivors, "{survivors} of 100 hot keys are left");
    check_books(&store);
}

/// If nothing may be evicted, writes are refused at the limit until there is room again.
#[test]
fn without_eviction_the_store_refuses_at_its_limit() {
    let now = UnixMillis(1_000_000_000_000);
    let mut store = filled(Policy::default(), 1000, now);
    assert_eq!(store.make_room(now), Ok(()), "no limit");
    store.policy.memory_max = store.memory() - 1;
    assert_eq!(store.make_room(now), Err(OutOfMemory));
    assert_eq!((store.len(), store.counters.evicted), (1000, 0));
    store.remove(key("key7"), now);
    assert_eq!(store.make_room(now), Ok(()));
}

/// A limit that is lowered by a lot is reached in steps, none of which takes long.
#[test]
fn one_write_evicts_a_bounded_number_of_keys() {
    let now = UnixMillis(1_000_000_000_000);
    let mut store = filled(Policy { eviction: Eviction::Lfu, counts_uses: true, ..Policy::default() }, 1000, now);
    store.policy.memory_max = 1;
    assert_eq!(store.make_room(now), Ok(()));
    assert_eq!(store.len(), 1000 - EVICTIONS_PER_WRITE);
    let writes = (0..1000).find(|_| store.make_room(now) == Err(OutOfMemory));
    assert_eq!(writes, Some(1000 / EVICTIONS_PER_WRITE - 1), "the tables themselves are over the limit");
    assert!(store.is_empty());
}

/// A few large values push out as many small keys as it takes: each write finds as much room as the one before it took.
#[test]
fn the_limit_holds_where_large_values_follow_many_small_ones() {
    const LARGE: usize = 512 << 10;
    let now = UnixMillis(1_000_000_000_000);
    let policy = Policy { memory_max: 4 << 20, eviction: Eviction::Lfu, counts_uses: true, ..Policy::default() };
    let mut store = filled(policy, 30_000, now);
    for number in 0..20_000 {
        store.make_room(now).expect("there is enough to evict");
        store.put(key(&format!("more{number}")), &[b'v'; 50], None, now);
    }
    for number in 0..40 {
        store.make_room(now).expect("there is enough to evict");
        assert!(store.memory() <= policy.memory_max, "{} bytes before the value {number}", store.memory());
        store.put(key(&format!("large{number}")), &vec![b'v'; LARGE], None, now);
    }
    check_books(&store);
}

/// A limit that was lowered is reached without any write, in slices; writes meanwhile do not wait for all of it, and take no more
/// than was used.
#[test]
fn a_lowered_limit_is_reached_without_a_write() {
    let now = UnixMillis(1_000_000_000_000);
    let mut store = filled(Policy { eviction: Eviction::Lfu, counts_uses: true, ..Policy::default() }, 50_000, now);
    store.log = Some(Box::new(Log::new(Lsn(0), true)));
    let before = store.memory();
    store.policy.memory_max = before / 2;
    for number in 0..100 {
        store.make_room(now).expect("there is enough to evict");
        store.put(key(&format!("new{number}")), &[b'v'; 5000], None, now);
        store.log.as_mut().expect("there is a log").end_command();
        assert!(store.memory() <= before + 6000, "{} bytes of {before}", store.memory());
    }
    assert!(before / 2 + before / 4 < store.memory(), "a write evicts for itself, and little more");
    while store.wants_eviction() {
        let (length, end) = (store.len(), store.log.as_ref().expect("there is a log").end());
        store.evict_some(100, now);
        assert!((1..=100).contains(&(length - store.len())));
        let log = store.log.as_ref().expect("there is a log");
        assert!(end < log.end(), "what was evicted is gone after a restart, too");
    }
    assert!(store.memory() <= before / 2 && !store.is_empty());
    store.policy.eviction = Eviction::None;
    store.policy.memory_max = 1;
    assert!(!store.wants_eviction(), "only what may be evicted is");
    check_books(&store);
}

/// A key whose old expiry has passed is there when the record that gives it a longer life is applied: whatever is done to a
/// store between two records, by the clock or by clients, takes no key away.
#[test]
fn nothing_expires_before_the_last_record_is_applied() {
    let (now, late) = (UnixMillis(1_000_000_000_000), Some(UnixMillis(1_000_000_000_001)));
    let put = |key: &'static str| Record::Put { key: key.as_bytes(), value: b"v", expires_at: Some(UnixMillis(1)) };
    let expire = |key: &'static str, expires_at| Record::Expire { key: key.as_bytes(), expires_at };
    for on_disk in [false, true] {
        let policy = Policy { memory_max: 1, eviction: Eviction::Lfu, counts_uses: true, ..Policy::default() };
        let mut store = Store::new(7, policy);
        if on_disk {
            store.keep_values_on_disk();
        }
        let spot = Spot { segment: 1, offset: Some(8192) };
        let placed = Placed {
            key: b"away",
            length: 9,
            offset: 9,
            checksum: 9,
            expires_at: Some(UnixMillis(1)),
            value: None,
            is_again: false,
        };
        let mut count = 0;
        for record in
            [put("persisted"), put("extended"), put("gone"), expire("persisted", None), expire("extended", late)]
        {
            if on_disk {
                store.apply_in_place(Found::Placed(placed, 1), now);
                store.apply_in_place(Found::Record(record, spot), now);
            } else {
                store.apply(record, now);
            }
            store.sweep(usize::MAX, now);
            for name in ["persisted", "extended", "gone", "away"] {
                store.get(key(name), now);
                store.look(key(name), now);
                store.cold(key(name), now);
            }
            assert!(store.random_key(now).is_some());
            assert!(on_disk || store.make_room(now) == Err(OutOfMemory));
            count = count.max(store.len());
            assert_eq!(store.len(), count, "no key goes");
        }
        store.end_loading();
        let mut found = Vec::new();
        store.scan(Cursor::START, usize::MAX, now, |entry| found.push(entry.key().to_vec()));
        found.sort_unstable();
        assert_eq!(found, [b"extended".to_vec(), b"persisted".to_vec()]);
        assert_eq!(store.sweep(usize::MAX, now), 1 + usize::from(on_disk), "the others expire now");
        check_books(&store);
    }
}

/// A limit that is raised and lowered again lets a write evict no more than one that was lowered once; and a limit that nobody has
/// changed is kept by the write that finds it crossed.
#[test]
fn a_limit_that_comes_back_was_lowered_too() {
    let now = UnixMillis(1_000_000_000_000);
    let policy = |memory_max| Policy { memory_max, eviction: Eviction::Lfu, counts_uses: true, ..Policy::default() };
    let mut store = filled(policy(0), 20_000, now);
    let low = store.memory() / 4;
    for limit in [low, 0, low, usize::MAX, low] {
        store.set_policy(policy(limit));
    }
    let length = store.len();
    store.make_room(now).expect("there is enough to evict");
    assert!((1..=EVICTIONS_PER_WRITE).contains(&(length - store.len())), "{} were evicted", length - store.len());
    let mut store = Store::new(1, policy(1 << 20));
    store.put(key("large"), &vec![b'v'; 2 << 20], None, now);
    store.put(key("other"), b"v", None, now);
    store.make_room(now).expect("there is enough to evict");
    assert!(store.memory() <= 1 << 20, "what crossed the limit is gone at once");
}

/// A store that is loaded with more than `max-memory` is evicted in steps: no write waits for all of them.
#[test]
fn what_was_loaded_over_the_limit_goes_bit_by_bit() {
    let now = UnixMillis(1_000_000_000_000);
    let memory_max = 64 << 10;
    let mut store =
        Store::new(1, Policy { memory_max, eviction: Eviction::Lfu, counts_uses: true, ..Policy::default() });
    for n in 0..20_000 {
        store.apply(Record::Put { key: format!("key:{n}").as_bytes(), value: b"v", expires_at: None }, now);
    }
    store.end_loading();
    let length = store.len();
    assert!(length == 20_000 && store.memory() > memory_max, "{length} came back, in {} bytes", store.memory());
    store.make_room(now).expect("there is enough to evict");
    assert!((1..=EVICTIONS_PER_WRITE).contains(&(length - store.len())), "{} were evicted", length - store.len());
}

/// Evictions end where the log has no room for them, and leave the write that needs them its own.
#[test]
fn evictions_do_not_outgrow_the_log() {
    let now = UnixMillis(1_000_000_000_000);
    let policy = Policy { eviction: Eviction::Lfu, counts_uses: true, ..Policy::default() };
    let mut store = filled(policy, 10_000, now);
    store.log = Some(Box::new(Log::new(Lsn(0), true)));
    store.removes_until = Lsn(1000);
    store.policy.memory_max = 1;
    store.allowed = 1;
    store.known_limit = 1;
    let length = store.len();
    assert_eq!(store.make_room(now), Err(OutOfMemory));
    assert!(store.len() < length && store.log.as_ref().is_some_and(|log| log.end() < Lsn(1100)));
    store.evict_some(1000, now);
    assert!(store.log.as_ref().is_some_and(|log| log.end() < Lsn(1100)));
    check_books(&store);
}

/// One sweep looks at no more entries than its budget, however many have expired, and all are removed after enough sweeps.
#[test]
fn sweeping_is_bounded_and_gets_everything() {
    let now = UnixMillis(1_000_000_000_000);
    let mut store = filled(Policy::default(), 1000, now);
    for number in 0..5000 {
        store.put(key(&format!("short{number}")), b"v", Some(UnixMillis(now.0 + 10)), now);
    }
    assert_eq!(store.sweep(10_000, now), 0, "nothing has expired yet");
    let later = UnixMillis(now.0 + 10);
    store.sweeps = false;
    assert_eq!(store.sweep(10_000, later), 0, "it is switched off");
    store.sweeps = true;
    let mut calls = 0;
    while 0 < store.expiring() {
        assert!(store.sweep(100, later) <= 100);
        calls += 1;
        assert!(calls < 1000, "{} are left after {calls} calls", store.expiring());
    }
    assert_eq!((store.len(), store.counters.expired), (1000, 5000));
    assert_eq!(store.sweep(100, later), 0);
    check_books(&store);
}

/// A scan of all keys costs one visit each, and one call where there are few.
#[test]
fn a_scan_of_a_quiet_store_shows_every_key_once() {
    let now = UnixMillis(0);
    for (keys, count, calls_max) in [(0, 10, 1), (5, 10, 1), (5000, 10, 501), (5000, 5001, 1)] {
        let store = filled(Policy::default(), keys, now);
        let (mut cursor, mut calls, mut shown) = (Cursor::START, 0, Vec::new());
        loop {
            cursor = store.scan(cursor, count, now, |entry| shown.push(entry.key()));
            calls += 1;
            if cursor == Cursor::START {
                break;
            }
        }
        shown.sort_unstable();
        shown.dedup();
        assert_eq!(shown.len(), keys as usize);
        assert!(calls <= calls_max, "{calls} calls for {keys} keys");
    }
}

/// A counter begins at 5, grows more slowly the larger it is, and falls by one for each minute without use.
#[test]
fn lfu_counters_grow_on_a_logarithmic_scale_and_decay() {
    let policy = Policy { eviction: Eviction::Lfu, counts_uses: true, ..Policy::default() };
    let mut store = Store::new(7, policy);
    let now = UnixMillis(1_000_000_000_000);
    let count = |store: &Store, now| frequency(store.peek(key("k"), now).expect("it is there").access(), &policy, now);
    store.put(key("k"), b"v", None, now);
    assert_eq!(count(&store, now), 5);
    // Redis documents about 10 after a hundred uses, and 18 after a thousand, for a log factor of 10.
    for (uses, expected) in [(100, 8..=13), (900, 15..=22)] {
        for _ in 0..uses {
            store.get(key("k"), now);
        }
        assert!(expected.contains(&count(&store, now)), "{} after {uses} more uses", count(&store, now));
    }
    let before = count(&store, now);
    store.look(key("k"), now);
    assert_eq!(count(&store, now), before, "a look leaves no trace");
    for (minutes, expected) in [(1, before - 1), (3, before - 3), (200, 0)] {
        assert_eq!(count(&store, UnixMillis(now.0 + minutes * 60_000)), expected);
    }
    let never = Policy { lfu_decay_minutes: 0, ..policy };
    let access = store.peek(key("k"), now).expect("it is there").access();
    assert_eq!(frequency(access, &never, UnixMillis(now.0 + 60_000_000)), before);
}

/// Without LFU an entry remembers when it was used.
#[test]
fn idle_time_runs_from_the_last_use() {
    let mut store = filled(Policy::default(), 1, UnixMillis(1_000_000_000_000));
    let idle = |store: &Store, now| idle_seconds(store.peek(key("key0"), now).expect("it is there").access(), now);
    let later = UnixMillis(1_000_000_007_000);
    store.look(key("key0"), later);
    assert_eq!(idle(&store, later), 7);
    store.get(key("key0"), later);
    assert_eq!(idle(&store, later), 0);
}

/// Every key is drawn as often as any other, whatever slots they are in: many in one and few in others, one far from all, and
/// whatever holes removals have left in the tables.
#[test]
fn every_key_is_drawn_as_often_as_any_other() {
    let (mut store, now) = (Store::new(7, Policy::default()), UnixMillis(1));
    (0..800).for_each(|number| store.put(key(&format!("{{a}}{number}")), b"v", None, now));
    (0..600).for_each(|number| drop(store.remove(key(&format!("{{a}}{number}")), now)));
    (0..200).for_each(|number| store.put(key(&format!("key{number}")), b"v", None, now));
    store.put(key("alone"), b"v", None, now);
    let (draws, mut drawn) = (100 * store.len(), BTreeMap::<Vec<u8>, usize>::new());
    for _ in 0..draws {
        *drawn.entry(store.random_key(now).expect("there are keys").to_vec()).or_default() += 1;
    }
    assert_eq!(drawn.len(), 401);
    // A count is 100 with a deviation of 10; of 401, the farthest is some 3.5 deviations away.
    for (name, count) in &drawn {
        assert!((50..=150).contains(count), "{} was drawn {count} times of {draws}", name.escape_ascii());
    }
    let of_slot: usize = drawn.iter().filter(|(name, _)| name.starts_with(b"{a}")).map(|(_, count)| count).sum();
    assert!((19_500..=20_500).contains(&of_slot), "half of all keys were drawn {of_slot} times of {draws}");
    // The sum over all keys of (count - 100)^2 / 100 has a mean of 400 and a deviation of 28.
    let chi_squared: f64 = drawn.values().map(|&count| (count as f64 - 100.0).powi(2) / 100.0).sum();
    assert!((290.0..=510.0).contains(&chi_squared), "{chi_squared}");
}

/// A random key is a live one even if most keys have expired and none were swept.
#[test]
fn a_random_key_is_found_among_any_number_that_have_expired() {
    let now = UnixMillis(1_000_000_000_000);
    let later = UnixMillis(now.0 + 10);
    let expiring = || {
        let mut store = Store::new(7, Policy::default());
        for number in 0..3000 {
            store.put(key(&format!("{{{}}}short{number}", number % 7)), b"v", Some(later), now);
        }
        store
    };
    let mut store = expiring();
    assert!(store.random_key(now).is_some(), "none has expired yet");
    assert_eq!(store.random_key(later), None);
    assert_eq!((store.len(), store.counters.expired), (0, 3000));
    let mut store = expiring();
    store.put(key("alive"), b"v", None, now);
    assert_eq!(store.random_key(later), Some(&b"alive"[..]));
    check_books(&store);
}

/// Keys that are read often are not evicted for those that are not, though the latter are all in one slot.
#[test]
fn keys_in_use_outlive_a_flood_into_one_slot() {
    let policy = Policy { memory_max: 2_000_000, eviction: Eviction::Lfu, counts_uses: true, ..Policy::default() };
    let (mut store, mut now) = (Store::new(7, policy), UnixMillis(1_000_000_000_000));
    let hot: Vec<String> = (0..200).map(|number| format!("hot{number}")).collect();
    hot.iter().for_each(|name| store.put(key(name), &[b'v'; 50], None, now));
    for number in 0..40_000_usize {
        now.0 += 1;
        assert_eq!(store.make_room(now), Ok(()));
        store.put(key(&format!("{{t}}cold{number}")), &[b'v'; 50], None, now);
        store.get(key(&hot[number % hot.len()]), now);
    }
    assert!(20_000 < store.counters.evicted);
    let lost: Vec<_> = hot.iter().filter(|name| store.peek(key(name), now).is_none()).collect();
    assert!(lost.is_empty(), "{lost:?} were evicted");
}

/// An expired key is removed with a record by any lookup that finds it, and is hidden if the log has no room for the record: no
/// key is removed without one.
#[test]
fn what_has_expired_is_removed_by_a_record() {
    let (now, later) = (UnixMillis(1_000_000_000_000), UnixMillis(1_000_000_001_000));
    type Look = fn(&mut Store, UnixMillis) -> bool;
    let looks: [(&str, Look); 12] = [
        ("get", |store, now| store.get(key("k"), now).is_some()),
        ("look", |store, now| store.look(key("k"), now).is_some()),
        ("probe", |store, now| store.probe(key("k"), now).is_some()),
        ("note_use", |store, now| store.note_use(key("k"), now)),
        ("set_expiry", |store, now| store.set_expiry(key("k"), None, now)),
        ("watch", |store, now| store.watch(key("k"), now).expires_at.is_some()),
        ("slot_keys", |store, now| !store.slot_keys(key("k").slot, now, 9).is_empty()),
        ("random_key", |store, now| store.random_key(now).is_some()),
        ("scan_all", |store, now| {
            let (mut gone, mut count) = (Vec::new(), 0);
            store.scan_all(Cursor::START, usize::MAX, now, &mut gone, |_| count += 1);
            store.expire_all(&gone, now);
            count != 0
        }),
        ("sweep", |store, now| {
            store.sweep(100_000, now);
            false
        }),
        ("remove", |store, now| store.remove(key("k"), now).is_some()),
        ("evict", |store, now| {
            store.policy = Policy { memory_max: 1, eviction: Eviction::Lfu, ..store.policy };
            store.evict_some(1, now);
            false
        }),
    ];
    for (name, look) in looks {
        let mut store = Store::new(7, Policy::default());
        store.log = Some(Box::new(Log::new(Lsn(0), true)));
        store.put(key("k"), b"v", Some(UnixMillis(now.0 + 500)), now);
        store.log.as_mut().expect("a log").end_command();
        let (end, version) = (store.log.as_ref().expect("a log").end(), store.version(key("k").slot));
        let state = |store: &Store| (store.len(), store.log.as_ref().expect("a log").end());
        if name != "remove" {
            store.removes_until = end.after(5);
            assert!(!look(&mut store, later), "{name}: it is hidden");
            assert_eq!(state(&store), (1, end), "{name}: nothing goes without a record");
            assert_eq!(store.version(key("k").slot), version, "{name}");
            store.removes_until = Lsn(u64::MAX);
        }
        assert!(!look(&mut store, later), "{name}: it is gone");
        let log = store.log.as_mut().expect("a log");
        log.end_command();
        assert_eq!(log.end(), end.after(5 + 1), "{name}: the record of its removal");
        let mut buffer = vec![0; 1 << 20];
        log.take(FileId(1), &mut buffer);
        let (_, records) = FrameHeader::decode(&buffer, FileId(1)).expect("a frame");
        let removal = Record::decode(&records[end.0 as usize..]).expect("a record").expect("a whole one").0;
        assert_eq!(removal, Record::Remove { key: b"k" }, "{name}");
        assert_eq!(store.len(), 0, "{name}");
        assert_eq!(store.version(key("k").slot), version.next(), "{name}: one effect");
        let Counters { expired, evicted, .. } = store.counters;
        assert_eq!((expired, evicted), if name == "evict" { (0, 1) } else { (1, 0) }, "{name}");
    }
}

/// A random key is a live one even if expired ones can't be removed, and there is none if no key is live.
#[test]
fn a_random_key_is_found_among_those_that_cannot_be_removed() {
    let (now, later) = (UnixMillis(1_000_000_000_000), UnixMillis(1_000_000_001_000));
    let mut store = Store::new(7, Policy::default());
    store.log = Some(Box::new(Log::new(Lsn(0), true)));
    for n in 0..1000 {
        store.put(Key::of(format!("key:{n}").as_bytes()), b"v", Some(UnixMillis(now.0 + 500)), now);
    }
    store.removes_until = Lsn(0);
    assert_eq!(store.random_key(later), None);
    store.put(key("alive"), b"v", None, now);
    assert_eq!(store.random_key(later), Some(&b"alive"[..]));
    assert_eq!(store.len(), 1001);
}

/// A write that replaces an expired key is one effect and one record, by `put` and by `resize`.
#[test]
fn what_takes_the_place_of_an_expired_key_is_one_effect() {
    let (now, later) = (UnixMillis(1_000_000_000_000), UnixMillis(1_000_000_001_000));
    for change in [(|store, now| store.put(key("k"), b"w", None, now)) as fn(&mut Store, UnixMillis), |store, now| {
        store.resize(key("k"), 1, now, |value| value[0] = b'w')
    }] {
        let mut store = Store::new(7, Policy::default());
        store.put(key("k"), b"v", Some(UnixMillis(now.0 + 500)), now);
        store.log = Some(Box::new(Log::new(Lsn(0), true)));
        let version = store.version(key("k").slot);
        change(&mut store, later);
        store.log.as_mut().expect("a log").end_command();
        assert_eq!(store.log.as_ref().expect("a log").end(), Lsn(9 + 2), "a put, and nothing else");
        assert_eq!((store.version(key("k").slot), store.counters.expired), (version.next(), 1));
    }
}

/// A slot's version can be set, also to one that is unknown. The record of that is no effect, and replay restores the version.
#[test]
fn a_slot_is_given_a_version() {
    let now = UnixMillis(1_000_000_000_000);
    let mut store = Store::new(7, Policy::default());
    store.log = Some(Box::new(Log::new(Lsn(0), true)));
    let mut versions = Vec::new();
    for version in
        [Version { epoch: 4, effects: 17 }, Version { epoch: Version::UNKNOWN, effects: 2 }, Version::default()]
    {
        store.set_version(key("k").slot, version);
        assert_eq!(store.version(key("k").slot), version);
        store.put(key("k"), b"v", None, now);
        store.log.as_mut().expect("a log").end_command();
        assert_eq!(store.version(key("k").slot), version.next());
        assert_eq!(store.version(key("k").slot).is_known(), version.is_known());
        versions.push((store.log.as_ref().expect("a log").end(), version.next()));
    }
    let mut buffer = vec![0; 1 << 20];
    store.log.as_mut().expect("a log").take(FileId(1), &mut buffer);
    let (_, mut records) = FrameHeader::decode(&buffer, FileId(1)).expect("a frame");
    let (mut other, mut at) = (Store::new(8, Policy::default()), Lsn(0));
    while let Some((record, length)) = Record::decode(records).expect("records").filter(|_| !records.is_empty()) {
        other.apply(record, now);
        (records, at) = (&records[length..], at.after(length));
        if let Some((_, version)) = versions.iter().find(|(end, _)| *end == at) {
            assert_eq!(other.version(key("k").slot), *version);
        }
    }
    assert_eq!(Some(at), versions.last().map(|(end, _)| *end));
}
