//! The keys of a shard: one hash table per slot, expiry, memory accounting, eviction, and scans that can be resumed.
//!
//! A table per slot grows in steps of a slot, not of the whole keyspace, and makes counting, clearing and moving a slot an
//! operation on one table. All changes go through a few verbs ([`Store::put`], [`Store::remove`],
//! [`Store::set_expiry`], [`Store::resize`], [`Store::clear`]), each of which is one effect and, where there is a log, one
//! record of it. Expiry and eviction are effects, too: an expired entry is removed by a record as soon as a lookup or a sweep
//! finds it, and is hidden while the log has no room for that record. So replay of the log needs no clock. Each effect counts
//! in its slot's [`Version`].

mod ahead;
mod census;
mod cursor;
mod entry;
mod eviction;
mod expiry;
mod places;
mod slots;
mod usage;
mod versions;

pub use crate::time::UnixMillis;
pub use crate::wal::At;
pub use cursor::Cursor;
pub use entry::{Access, Entry, Place};
pub use eviction::OutOfMemory;
pub use places::{Cold, Counts, Places};
pub use usage::{frequency, idle_seconds};

use crate::{
    config::{Config, Eviction, Values},
    slot::{SLOT_COUNT, Slot, Version},
    transaction::Watch,
    wal::{Log, Lsn, REMOVAL_BYTES, Record, SLOT_SET_BYTES, SlotSet, Value},
};
use census::Census;
use cursor::LAYOUT_BITS;
use expiry::is_expired;
use foldhash::fast::FixedState;
use hashbrown::{HashTable, hash_table};
use std::hash::BuildHasher;
use usage::{LFU_INITIAL, fresh_access, minutes, touch};

/// A key, with the slot that it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The key as the client wrote it.
    pub bytes: &'a [u8],
    /// The slot that [`Slot::of`] returns for these bytes.
    pub slot: Slot,
}

impl<'a> Key<'a> {
    /// Computes the slot of a key.
    #[inline]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, slot: Slot::of(bytes) }
    }
}

/// The settings of a store. They may change while it runs.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The most bytes of [`Store::memory`]; 0 for no limit.
    pub memory_max: usize,
    /// The eviction policy: what happens at that limit.
    pub eviction: Eviction,
    /// True if an entry's uses are counted; false if the time of its last use is noted.
    pub counts_uses: bool,
    /// The growth of use counters: the larger it is, the more uses it takes to raise one (Redis: `lfu-log-factor`).
    pub lfu_log_factor: u32,
    /// Minutes without use that lower an entry's counter by one; 0 for never (Redis: `lfu-decay-time`).
    pub lfu_decay_minutes: u32,
}

impl Policy {
    /// Returns the policy of one shard of a server with these settings and `cores` shards.
    pub fn new(config: &Config, cores: u16) -> Self {
        Self {
            // Rounded up: 0 would be no limit.
            memory_max: usize::try_from(config.max_memory.div_ceil(u64::from(cores))).unwrap_or(usize::MAX),
            eviction: config.eviction,
            counts_uses: config.eviction == Eviction::Lfu || config.values == Values::Disk,
            lfu_log_factor: config.lfu_log_factor,
            lfu_decay_minutes: config.lfu_decay_time,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self { memory_max: 0, eviction: Eviction::None, counts_uses: false, lfu_log_factor: 10, lfu_decay_minutes: 1 }
    }
}

/// Counts of events in a store since it was made, or since they were reset.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Entries that were removed because they had expired.
    pub expired: u64,
    /// Entries that were removed to make room.
    pub evicted: u64,
}

/// The entries of one slot.
#[derive(Default)]
struct Table {
    entries: HashTable<Entry>,
    /// The number of entries with an expiry.
    expiring: u32,
    /// A number that changes when buckets may have moved; cursors remember it. Below 2^[`LAYOUT_BITS`].
    layout: u16,
    /// The slot's version: the number of its effects, and the epoch.
    version: Version,
    /// The address behind bucket 0, where the table's control bytes begin, for prefetching; 0 if it is not known. Never
    /// dereferenced.
    buckets_end: usize,
}

impl Table {
    /// Returns a key's entry, if it is there and has not expired.
    #[inline]
    fn find_live(&mut self, hash: u64, key: Key<'_>, now: UnixMillis) -> Option<&mut Entry> {
        self.entries.find_mut(hash, |entry| entry.key() == key.bytes).filter(|entry| !is_expired(entry, now))
    }

    /// Changes the layout number: buckets may have moved.
    fn moved(&mut self) {
        self.layout = (self.layout + 1) % (1 << LAYOUT_BITS);
    }
}

/// The keys of a shard.
pub struct Store {
    /// One table per slot, also for slots that this shard does not own.
    tables: Box<[Table]>,
    hasher: FixedState,
    random: fastrand::Rng,
    /// The position at which [`sweep`](Self::sweep) continues.
    sweep_at: Cursor,
    /// Bytes of entries and of tables.
    memory: usize,
    /// The position that a record of an expiry or an eviction must not end behind, or the entry stays: the log's files have no
    /// room for more, or the room is kept for other records.
    pub removes_until: Lsn,
    /// The limit of memory from which `allowed` was computed.
    known_limit: usize,
    /// The bytes above which a write evicts as many entries as it takes: the limit or, after that was lowered, the memory that
    /// was used then, less what has been freed since.
    allowed: usize,
    /// The number of entries in all tables.
    length: usize,
    /// The number of entries per group of slots, for drawing one of them.
    census: Box<Census>,
    /// The number of entries with an expiry in all tables.
    expiring: usize,
    /// The mean time to live of entries with an expiry, as recent sweeps have seen it.
    average_ttl_ms: u64,
    /// Entries that were cleared with all others. Their memory is not counted, since [`bury`](Self::bury) frees it soon.
    graveyard: Vec<hash_table::IntoIter<Entry>>,
    /// Entries of slots that were cleared one by one. Their memory is counted until it is freed.
    cleared_slots: Vec<hash_table::IntoIter<Entry>>,
    /// The keys that will be looked up soon, by slot and hash.
    foreseen: Vec<(Slot, u64)>,
    /// The log that its changes are recorded in, if they are recorded.
    pub log: Option<Box<Log>>,
    /// The places of its values on disk (`--values disk`).
    pub places: Option<Box<Places>>,
    /// The settings.
    pub policy: Policy,
    /// Counts of events.
    pub counters: Counters,
    /// True while records of a log or a snapshot are applied: see [`apply`](Self::apply).
    is_loading: bool,
    /// The versions of all slots when [`Found::Mark`](crate::wal::Found::Mark) was applied.
    marked: Option<Box<[Version]>>,
    /// True if [`sweep`](Self::sweep) removes anything (`DEBUG SET-ACTIVE-EXPIRE`). Entries expire either way.
    pub sweeps: bool,
}

/// The number of expired entries that [`Store::random_key`] removes one at a time. After that, each one that it draws has all
/// expired entries of its slot removed.
const RANDOM_KEY_TRIES: usize = 100;
/// Bytes of all tables without an entry, as [`Store::memory`] counts them: without the versions, which slots have even when
/// they have no keys.
const TABLES_BYTES: usize = SLOT_COUNT as usize * (size_of::<Table>() - size_of::<Version>());
/// The most buckets that a table has for each of its entries, so that a walk over its buckets costs about as much as one over
/// its entries. Fewer would do for that, but a table must not grow and shrink in turn.
const BUCKETS_PER_ENTRY_MAX: usize = 8;
/// The size in buckets up to which a table is not shrunk: that would save 600 bytes.
const BUCKETS_KEPT: usize = 64;

impl Store {
    /// Makes an empty store. `seed` keys the hash, so that clients, who do not know it, cannot choose keys that collide.
    pub fn new(seed: u64, policy: Policy) -> Self {
        let tables: Box<[Table]> = Slot::all().map(|_| Table::default()).collect();
        let memory = TABLES_BYTES;
        Self {
            tables,
            hasher: FixedState::with_seed(seed),
            random: fastrand::Rng::with_seed(seed),
            sweep_at: Cursor::START,
            memory,
            removes_until: Lsn(u64::MAX),
            marked: None,
            known_limit: policy.memory_max,
            allowed: policy.memory_max,
            length: 0,
            census: Box::new(Census::new()),
            expiring: 0,
            average_ttl_ms: 0,
            graveyard: Vec::new(),
            cleared_slots: Vec::new(),
            foreseen: Vec::new(),
            log: None,
            places: None,
            policy,
            counters: Counters::default(),
            is_loading: false,
            sweeps: true,
        }
    }

    #[inline]
    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Returns the number of keys, including expired ones that have not been removed yet.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Returns true if there is no key.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns the number of keys with an expiry.
    pub fn expiring(&self) -> usize {
        self.expiring
    }

    /// Returns the bytes of memory for tables. They are part of [`memory`](Self::memory), whose rest is for keys and values.
    pub fn table_memory(&self) -> usize {
        let tables: usize = self.tables.iter().map(|table| table.entries.allocation_size()).sum();
        tables + TABLES_BYTES
    }

    /// Returns the bytes of memory for keys, values and tables, as requested from the allocator.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Returns the number of keys in a slot.
    pub fn slot_len(&self, slot: Slot) -> usize {
        self.tables[slot.index()].entries.len()
    }

    /// Returns the state of a key for WATCH, without noting a use. An expired entry is removed first, so that its removal does
    /// not count as a change later.
    pub fn watch(&mut self, key: Key<'_>, now: UnixMillis) -> Watch {
        let (hash, now) = (self.hasher.hash_one(key.bytes), self.expiry_time(now));
        let entries = &self.tables[key.slot.index()].entries;
        let bucket = entries.find_bucket_index(hash, |entry| entry.key() == key.bytes);
        let mut expires_at = None;
        if let Some((bucket, entry)) = bucket.and_then(|bucket| Some((bucket, entries.get_bucket(bucket)?))) {
            expires_at = entry.expires_at().filter(|&at| now < at);
            if is_expired(entry, now) {
                self.expire(key.slot, bucket);
            }
        }
        Watch { slot: key.slot, version: self.version(key.slot), expires_at }
    }

    /// Returns up to `count` live keys of a slot.
    pub fn slot_keys(&mut self, slot: Slot, now: UnixMillis, count: usize) -> Vec<&[u8]> {
        let now = self.expiry_time(now);
        let (mut alive, mut gone) = (0, Vec::new());
        for entry in &self.tables[slot.index()].entries {
            if alive == count {
                break;
            }
            if is_expired(entry, now) {
                gone.push(entry.key().to_vec());
            } else {
                alive += 1;
            }
        }
        self.expire_all(&gone, now);
        let entries = self.tables[slot.index()].entries.iter().filter(|entry| !is_expired(entry, now));
        entries.map(Entry::key).take(count).collect()
    }

    /// Returns a live entry for a read: notes a use, and counts a hit or a miss.
    #[inline]
    pub fn get(&mut self, key: Key<'_>, now: UnixMillis) -> Option<&Entry> {
        let bucket = self.find(key, now)?;
        let entry = self.tables[key.slot.index()].entries.get_bucket_mut(bucket)?;
        touch(entry, &self.policy, &mut self.random, now);
        Some(entry)
    }

    /// Returns a live entry like [`get`](Self::get), but notes no use: for commands about a key (`TTL`), and for reads by
    /// clients with `CLIENT NO-TOUCH`.
    #[inline]
    pub fn look(&mut self, key: Key<'_>, now: UnixMillis) -> Option<&Entry> {
        let bucket = self.find(key, now)?;
        self.tables[key.slot.index()].entries.get_bucket(bucket)
    }

    /// Returns the length of a key's value; 0 if there is no such key. An expired entry that has not been removed counts.
    pub fn value_len(&self, key: Key<'_>) -> usize {
        let hash = self.hasher.hash_one(key.bytes);
        let entry = self.tables[key.slot.index()].entries.find(hash, |entry| entry.key() == key.bytes);
        entry.map_or(0, Entry::value_len)
    }

    /// Returns the bucket of a live entry, and counts a hit or a miss. An expired entry is removed.
    #[inline]
    fn find(&mut self, key: Key<'_>, now: UnixMillis) -> Option<usize> {
        let (hash, now) = (self.hasher.hash_one(key.bytes), self.expiry_time(now));
        let entries = &self.tables[key.slot.index()].entries;
        let Some(bucket) = entries.find_bucket_index(hash, |entry| entry.key() == key.bytes) else {
            self.counters.misses += 1;
            return None;
        };
        if entries.get_bucket(bucket).is_some_and(|entry| is_expired(entry, now)) {
            self.expire(key.slot, bucket);
            self.counters.misses += 1;
            return None;
        }
        self.counters.hits += 1;
        Some(bucket)
    }

    /// Returns a live entry and changes nothing: notes no use, and counts neither a hit nor a miss. An expired entry stays; a
    /// caller that reports the key as missing has it removed with [`probe`](Self::probe) or [`note_use`](Self::note_use).
    #[inline]
    pub fn peek(&self, key: Key<'_>, now: UnixMillis) -> Option<&Entry> {
        let (hash, now) = (self.hasher.hash_one(key.bytes), self.expiry_time(now));
        let table = &self.tables[key.slot.index()];
        table.entries.find(hash, |entry| entry.key() == key.bytes).filter(|entry| !is_expired(entry, now))
    }

    /// Returns a live entry like [`peek`](Self::peek), but removes an expired one.
    pub fn probe(&mut self, key: Key<'_>, now: UnixMillis) -> Option<&Entry> {
        let bucket = self.find_bucket(key, now)?;
        self.tables[key.slot.index()].entries.get_bucket(bucket)
    }

    /// Returns the bucket of a live entry. An expired entry is removed.
    fn find_bucket(&mut self, key: Key<'_>, now: UnixMillis) -> Option<usize> {
        let (hash, now) = (self.hasher.hash_one(key.bytes), self.expiry_time(now));
        let entries = &self.tables[key.slot.index()].entries;
        let bucket = entries.find_bucket_index(hash, |entry| entry.key() == key.bytes)?;
        if entries.get_bucket(bucket).is_some_and(|entry| is_expired(entry, now)) {
            self.expire(key.slot, bucket);
            return None;
        }
        Some(bucket)
    }

    /// Notes a use of a live key, and counts neither a hit nor a miss: for a write that finds a key and leaves it as it is.
    /// Returns false if there is no such key.
    pub fn note_use(&mut self, key: Key<'_>, now: UnixMillis) -> bool {
        let Some(bucket) = self.find_bucket(key, now) else { return false };
        let Some(entry) = self.tables[key.slot.index()].entries.get_bucket_mut(bucket) else { return false };
        touch(entry, &self.policy, &mut self.random, now);
        true
    }

    /// Sets a live key's access data: when and how often it was used. `None` stands for the access data of a new key.
    pub fn set_access(&mut self, key: Key<'_>, access: Option<Access>, now: UnixMillis) {
        let hash = self.hasher.hash_one(key.bytes);
        let access = access.unwrap_or_else(|| fresh_access(&self.policy, now));
        if let Some(entry) = self.tables[key.slot.index()].find_live(hash, key, now) {
            entry.set_access(access);
        }
    }

    /// Marks a live key's value as edited in place, if the key is there.
    pub fn note_edit(&mut self, key: Key<'_>, now: UnixMillis) {
        let hash = self.hasher.hash_one(key.bytes);
        if let Some(entry) = self.tables[key.slot.index()].find_live(hash, key, now) {
            entry.set_edited(true);
        }
    }

    /// Applies a record of a log. From the first record until [`end_loading`](Self::end_loading), nothing is recorded, and
    /// nothing expires or is evicted: a later record may extend a key's life, and the removal of an expired key is a record
    /// itself. The record counts in the versions of slots as it did when it was made.
    pub fn apply(&mut self, record: Record<'_>, now: UnixMillis) {
        self.begin_loading();
        match record {
            Record::Put { key, value, expires_at } => {
                self.counting(Key::of(key), true, |store, key| store.put(key, value, expires_at, now));
            }
            Record::Again { key, value, expires_at } => {
                self.counting(Key::of(key), false, |store, key| store.put(key, value, expires_at, now));
            }
            Record::Expire { key, expires_at } => {
                self.counting(Key::of(key), true, |store, key| {
                    store.set_expiry(key, expires_at, now);
                });
            }
            Record::Remove { key } => self.counting(Key::of(key), true, |store, key| drop(store.remove(key, now))),
            Record::Clear => self.clear(),
            Record::ClearSlots(slots) => self.apply_clear_slots(slots),
            Record::Versions(versions) => versions.each().for_each(|(slot, version)| self.set_table(slot, version)),
            Record::Together(together) => together.each().flatten().for_each(|record| self.apply(record, now)),
        }
    }

    fn begin_loading(&mut self) {
        assert!(self.log.is_none(), "what is applied has been recorded already");
        self.is_loading = true;
    }

    /// Ends the replay: keys expire again.
    pub fn end_loading(&mut self) {
        self.is_loading = false;
        self.marked = None;
        // More than `max-memory` may have been loaded; it is evicted in steps, as if the limit had been lowered.
        self.note_limit();
    }

    /// Returns the LSN that must be committed before a reply about this key may be sent; `None`: send at once.
    #[inline]
    pub fn uncommitted(&self, key: &[u8]) -> Option<Lsn> {
        self.log.as_ref().and_then(|log| log.uncommitted(self.hasher.hash_one(key)))
    }

    /// Sets a key's value and expiry, and replaces those that it had.
    #[inline]
    pub fn put(&mut self, key: Key<'_>, value: &[u8], expires_at: Option<UnixMillis>, now: UnixMillis) {
        let hash = self.hasher.hash_one(key.bytes);
        if let Some(log) = &mut self.log {
            log.append(hash, Record::Put { key: key.bytes, value, expires_at });
        }
        let place = if self.places.is_some() { self.promise(hash, key.slot, value) } else { None };
        let expiry_time = self.expiry_time(now);
        let table = &mut self.tables[key.slot.index()];
        table.version = table.version.next();
        if let Some(entry) = table.entries.find_mut(hash, |entry| entry.key() == key.bytes) {
            self.counters.expired += u64::from(is_expired(entry, expiry_time));
            let (memory, had_expiry) = (entry.memory(), entry.expires_at().is_some());
            if let Some(places) = &mut self.places {
                places.leave(entry);
            }
            entry.replace(value, expires_at, place);
            if let Some(places) = &mut self.places {
                places.count_savings(entry);
            }
            touch(entry, &self.policy, &mut self.random, now);
            self.memory = self.memory + entry.memory() - memory;
            self.note_expiry(key.slot, had_expiry, expires_at.is_some());
            return;
        }
        let entry = Entry::new(key.bytes, value, expires_at, fresh_access(&self.policy, now), place);
        self.insert(key.slot, hash, entry);
    }

    /// Assigns a provisional place to the value whose record was appended last; the log reports the final one.
    fn promise(&mut self, hash: u64, slot: Slot, value: &[u8]) -> Option<Place> {
        let place = self.places.as_mut()?.promise(value);
        if let Some(log) = &mut self.log {
            log.note(Value { hash, slot, at: place.at }, value.len());
        }
        Some(place)
    }

    /// Inserts a new entry into its table, and counts it.
    fn insert(&mut self, slot: Slot, hash: u64, entry: Entry) {
        let expires = entry.expires_at().is_some();
        if let Some(places) = &mut self.places {
            places.count_savings(&entry);
        }
        self.memory += entry.memory();
        self.length += 1;
        self.census.add(slot);
        let hash_of = |entry: &Entry| self.hasher.hash_one(entry.key());
        let table = &mut self.tables[slot.index()];
        if table.entries.len() == table.entries.capacity() {
            self.memory -= table.entries.allocation_size();
            table.entries.reserve(1, hash_of);
            self.memory += table.entries.allocation_size();
            table.moved();
        }
        let inserted = table.entries.insert_unique(hash, entry, hash_of);
        let (bucket, address) = (inserted.bucket_index(), std::ptr::from_ref(inserted.get()).addr());
        table.buckets_end = address + (bucket + 1) * size_of::<Entry>();
        self.note_expiry(slot, false, expires);
    }

    /// Removes a key. Returns its entry, or `None` if there was none or it had expired.
    pub fn remove(&mut self, key: Key<'_>, now: UnixMillis) -> Option<Entry> {
        let hash = self.hasher.hash_one(key.bytes);
        let table = &mut self.tables[key.slot.index()];
        let found = table.entries.find_entry(hash, |entry| entry.key() == key.bytes).ok()?;
        let (entry, _) = found.remove();
        if let Some(log) = &mut self.log {
            log.append(hash, Record::Remove { key: key.bytes });
        }
        self.count_effect(key.slot);
        self.forget(key.slot, &entry);
        if is_expired(&entry, self.expiry_time(now)) {
            self.counters.expired += 1;
            return None;
        }
        Some(entry)
    }

    /// Sets or removes a live key's expiry. Returns true if the key was there.
    pub fn set_expiry(&mut self, key: Key<'_>, expires_at: Option<UnixMillis>, now: UnixMillis) -> bool {
        let hash = self.hasher.hash_one(key.bytes);
        let Some(bucket) = self.find_bucket(key, now) else { return false };
        let Some(entry) = self.tables[key.slot.index()].entries.get_bucket_mut(bucket) else { return false };
        let (memory, had_expiry) = (entry.memory(), entry.expires_at().is_some());
        if let Some(log) = &mut self.log {
            log.append(hash, Record::Expire { key: key.bytes, expires_at });
        }
        if let Some(places) = &mut self.places {
            places.discount_savings(entry);
        }
        entry.set_expiry(expires_at);
        if let Some(places) = &mut self.places {
            places.count_savings(entry);
            places.count_expiry(entry, had_expiry);
        }
        touch(entry, &self.policy, &mut self.random, now);
        self.memory = self.memory + entry.memory() - memory;
        self.count_effect(key.slot);
        self.note_expiry(key.slot, had_expiry, expires_at.is_some());
        true
    }

    /// Resizes a key's value to `length` bytes (new ones are zeros) and has `change` edit it. The expiry stays. A key that is
    /// not there is created, without an expiry.
    pub fn resize(&mut self, key: Key<'_>, length: usize, now: UnixMillis, change: impl FnOnce(&mut [u8])) {
        let (hash, expiry_time) = (self.hasher.hash_one(key.bytes), self.expiry_time(now));
        let table = &mut self.tables[key.slot.index()];
        table.version = table.version.next();
        if let Some(entry) = table.find_live(hash, key, expiry_time) {
            let memory = entry.memory();
            if let Some(places) = &mut self.places {
                places.leave(entry);
            }
            entry.resize_value(length);
            entry.set_edited(true);
            change(entry.value_mut());
            touch(entry, &self.policy, &mut self.random, now);
            record_change(&mut self.log, &mut self.places, hash, key.slot, entry);
            if let Some(places) = &mut self.places {
                places.count_savings(entry);
            }
            self.memory = self.memory + entry.memory() - memory;
            return;
        }
        // The new entry replaces the expired one: one effect, and one record.
        if let Ok(found) = table.entries.find_entry(hash, |entry| entry.key() == key.bytes) {
            let (entry, _) = found.remove();
            self.forget(key.slot, &entry);
            self.counters.expired += 1;
        }
        let place = self.places.as_mut().map(|places| places.promise(b""));
        let mut entry = Entry::zeroed(key.bytes, length, fresh_access(&self.policy, now), place);
        change(entry.value_mut());
        record_change(&mut self.log, &mut self.places, hash, key.slot, &mut entry);
        self.insert(key.slot, hash, entry);
    }

    /// Removes all keys: an effect on each slot that has one. Their memory is freed in slices, by [`bury`](Self::bury): a
    /// million keys at once would take a tenth of a second.
    pub fn clear(&mut self) {
        let mut bits = [0; SLOT_SET_BYTES];
        for slot in Slot::all() {
            let is_empty = self.tables[slot.index()].entries.is_empty();
            bits[slot.index() / 8] |= u8::from(!is_empty) << (slot.index() % 8);
            if !is_empty {
                self.count_effect(slot);
            }
        }
        if let Some(log) = &mut self.log {
            // Also if there is no key: the reply says so, and the last removal may not be on disk.
            log.append_clear(Record::ClearSlots(SlotSet::new(&bits)));
        }
        self.bury_all();
    }

    /// Empties all tables, and leaves their entries to [`bury`](Self::bury).
    fn bury_all(&mut self) {
        for slot in Slot::all() {
            let table = &mut self.tables[slot.index()];
            let entries = std::mem::take(&mut table.entries);
            table.expiring = 0;
            table.moved();
            if !entries.is_empty() {
                self.graveyard.push(entries.into_iter());
            }
        }
        self.length = 0;
        *self.census = Census::new();
        self.expiring = 0;
        self.graveyard.append(&mut self.cleared_slots);
        self.memory = TABLES_BYTES;
        if let Some(places) = &mut self.places {
            places.clear();
        }
    }

    /// Returns true if there are cleared entries whose memory has not been freed.
    pub fn has_buried(&self) -> bool {
        !self.graveyard.is_empty() || !self.cleared_slots.is_empty()
    }

    /// Frees the memory of up to `budget` cleared entries. Returns true if there are more.
    pub fn bury(&mut self, budget: usize) -> bool {
        let mut left = budget;
        while let Some(entries) = self.graveyard.last_mut()
            && 0 < left
        {
            let buried = entries.take(left).count();
            if buried < left {
                self.graveyard.pop();
            }
            left -= buried;
        }
        self.give_back_slots(left);
        self.has_buried()
    }

    /// Looks at up to `count` entries from `cursor` on, and calls `visit` with those that are live. Returns the cursor to
    /// continue from. A walk over all 16,384 slots takes some 30 µs if they are empty, so that a scan of few keys ends at once.
    pub fn scan<'a>(
        &'a self,
        cursor: Cursor,
        count: usize,
        now: UnixMillis,
        mut visit: impl FnMut(&'a Entry),
    ) -> Cursor {
        self.walk(cursor, count, now, |entry, is_expired| {
            if !is_expired {
                visit(entry);
            }
        })
    }

    /// Calls `visit` like [`scan`](Self::scan), and adds the keys of expired entries to `gone`. A caller that shows clients the
    /// result passes them to [`expire_all`](Self::expire_all).
    pub fn scan_all<'a>(
        &'a self,
        cursor: Cursor,
        count: usize,
        now: UnixMillis,
        gone: &mut Vec<Vec<u8>>,
        mut visit: impl FnMut(&'a Entry),
    ) -> Cursor {
        self.walk(
            cursor,
            count,
            now,
            |entry, is_expired| {
                if is_expired { gone.push(entry.key().to_vec()) } else { visit(entry) }
            },
        )
    }

    /// Calls `visit` with up to `count` entries from `cursor` on, and with true for those that have expired. Returns the cursor
    /// to continue from.
    fn walk<'a>(
        &'a self,
        cursor: Cursor,
        count: usize,
        now: UnixMillis,
        mut visit: impl FnMut(&'a Entry, bool),
    ) -> Cursor {
        let (mut at, mut seen, now) = (cursor, 0, self.expiry_time(now));
        loop {
            let table = &self.tables[usize::from(at.slot)];
            if at.bucket != 0 && at.layout != table.layout {
                at.bucket = 0;
            }
            at.layout = table.layout;
            let buckets = table.entries.num_buckets() as u32;
            while at.bucket < buckets && seen < count {
                if let Some(entry) = table.entries.get_bucket(at.bucket as usize) {
                    seen += 1;
                    visit(entry, is_expired(entry, now));
                }
                at.bucket += 1;
            }
            if at.bucket < buckets {
                return at;
            }
            if at.slot + 1 == SLOT_COUNT {
                return Cursor::START;
            }
            at = Cursor { slot: at.slot + 1, layout: 0, bucket: 0 };
            if count <= seen {
                return at;
            }
        }
    }

    /// Returns a random live key, each with equal probability; `None` if there is none. Expired keys that are drawn are
    /// removed, as a sweep would have done later. If the log has no room for that, it returns the first live key behind one
    /// that was drawn.
    pub fn random_key(&mut self, now: UnixMillis) -> Option<&[u8]> {
        let now = self.expiry_time(now);
        for tries in 0.. {
            let (slot, bucket) = self.sample()?;
            if self.tables[slot.index()].entries.get_bucket(bucket).is_some_and(|entry| !is_expired(entry, now)) {
                return self.tables[slot.index()].entries.get_bucket(bucket).map(Entry::key);
            }
            let is_gone =
                if tries < RANDOM_KEY_TRIES { self.expire(slot, bucket) } else { self.expire_slot(slot, now) };
            if !is_gone && RANDOM_KEY_TRIES <= tries {
                return self.first_live_from(slot, now);
            }
        }
        None
    }

    /// Returns the first live key of this slot or of those behind it, wrapping around.
    #[cold]
    fn first_live_from(&self, slot: Slot, now: UnixMillis) -> Option<&[u8]> {
        let (before, behind) = self.tables.split_at(slot.index());
        let mut entries = behind.iter().chain(before).flat_map(|table| &table.entries);
        entries.find(|entry| !is_expired(entry, now)).map(Entry::key)
    }

    /// Removes an entry that has expired or is evicted. Returns false, and leaves the entry, if the log has no room for its
    /// record.
    fn remove_found(&mut self, slot: Slot, bucket: usize) -> bool {
        let Ok(found) = self.tables[slot.index()].entries.get_bucket_entry(bucket) else { return false };
        if !may_record(&self.log, self.removes_until, found.get().key()) {
            return false;
        }
        let (entry, _) = found.remove();
        if let Some(log) = &mut self.log {
            log.append(self.hasher.hash_one(entry.key()), Record::Remove { key: entry.key() });
        }
        self.count_effect(slot);
        self.forget(slot, &entry);
        true
    }

    /// Subtracts a removed entry from all counts, and shrinks its table if that has become too large for the entries left.
    fn forget(&mut self, slot: Slot, entry: &Entry) {
        if let Some(places) = &mut self.places {
            places.leave(entry);
        }
        self.length -= 1;
        self.census.subtract(slot);
        self.memory -= entry.memory();
        self.note_expiry(slot, entry.expires_at().is_some(), false);
        let table = &mut self.tables[slot.index()];
        let (length, buckets) = (table.entries.len(), table.entries.num_buckets());
        if length == 0 || (BUCKETS_KEPT < buckets && length * BUCKETS_PER_ENTRY_MAX < buckets) {
            self.memory -= table.entries.allocation_size();
            table.entries.shrink_to(length * 2, |entry| self.hasher.hash_one(entry.key()));
            table.buckets_end = 0;
            self.memory += table.entries.allocation_size();
            table.moved();
        }
    }

    /// Counts an entry that had an expiry `before` a change, and has one `after` it.
    #[inline]
    fn note_expiry(&mut self, slot: Slot, before: bool, after: bool) {
        if before != after {
            let change = if after { 1 } else { -1 };
            let table = &mut self.tables[slot.index()];
            table.expiring = table.expiring.wrapping_add_signed(change);
            self.expiring = self.expiring.wrapping_add_signed(change as isize);
        }
    }
}

/// Appends the record of an entry whose value has changed, and assigns it a new provisional place.
fn record_change(
    log: &mut Option<Box<Log>>,
    places: &mut Option<Box<Places>>,
    hash: u64,
    slot: Slot,
    entry: &mut Entry,
) {
    let place = places.as_mut().map(|places| places.promise(entry.value()));
    if let Some(place) = place {
        entry.set_place(place);
    }
    let Some(log) = log else { return };
    log.append(hash, put(entry));
    if let Some(place) = place {
        log.note(Value { hash, slot, at: place.at }, entry.value_len());
    }
}

/// Returns true if there is no log, or if the record of this key's removal would end at or before `until`.
fn may_record(log: &Option<Box<Log>>, until: Lsn, key: &[u8]) -> bool {
    log.as_ref().is_none_or(|log| log.end().after(REMOVAL_BYTES + key.len()) <= until)
}

/// Returns the record that recreates an entry.
pub fn put(entry: &Entry) -> Record<'_> {
    Record::Put { key: entry.key(), value: entry.value(), expires_at: entry.expires_at() }
}

#[cfg(test)]
mod tests;
