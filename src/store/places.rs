//! Values on disk (`--values disk`): which values are in memory, which are away (on disk only), and how much of each segment of
//! the log is still needed.
//!
//! Every entry has a [`Place`]: a provisional one when it is written, the final one when its record is on disk. From then on
//! its value may go away; a command that needs it has it fetched first. Each value that is brought into memory is also appended
//! to a queue, from whose front [`Store::demote`] takes candidates for going away. The algorithm is CLOCK, with the entry's use
//! counter in place of the reference bit, so that a value may survive several rounds.

use super::{Entry, Key, LFU_INITIAL, Place, Store, UnixMillis, frequency, is_expired, minutes};
use crate::wal::frame::PAYLOAD_BYTES_MAX;
use crate::wal::{At, Found, Placed, Record, Spot, Value, Where};
use std::collections::{BTreeMap, VecDeque};

/// The places of a store's values, and what is needed of each segment.
#[derive(Debug, Default)]
pub struct Places {
    /// The number of the last provisional place.
    next: u64,
    /// The needed part of each segment, by its number.
    segments: BTreeMap<u32, Needed>,
    /// Live bytes of all segments.
    live: u64,
    /// Values that are in memory and could go away, in the order in which they came; some have changed since. 32 bytes each.
    hot: VecDeque<Value>,
    /// The number of values in all [`Needed::joined`]; some have changed since.
    joined: usize,
    /// Bytes of memory that would be freed if all values in memory went away that can, or can once they are on disk.
    savings: usize,
    /// Counts of values that are away, and of their moves.
    pub counts: Counts,
}

/// Counts of values that are away, and of values that were sent away, brought back and moved.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Values that are on disk only.
    pub away: u64,
    /// Bytes of values that are on disk only.
    pub away_bytes: u64,
    /// Values that were sent away since the start.
    pub demoted: u64,
    /// Values that were brought back into memory since the start.
    pub recalled: u64,
    /// Bytes of values that were appended to the log again, so that a segment could be released or the values could go away.
    pub moved_bytes: u64,
}

/// The part of a segment that is needed.
#[derive(Debug, Default)]
struct Needed {
    /// Bytes of records that are live: their entries have this place.
    live: u64,
    /// Values that begin here and are too large for a frame: they stay in memory.
    kept: Vec<Value>,
    /// Values that begin here and are in several pieces, because the command that wrote them takes several frames. They stay in
    /// memory until they are written once more, each alone.
    joined: Vec<Value>,
}

/// A value that a command needs and that is away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cold {
    /// The value.
    pub value: Value,
    /// The segment that it is in.
    pub segment: u32,
    /// Its offset in the segment.
    pub offset: u32,
    /// Its length in bytes.
    pub length: usize,
    /// Its CRC-32C.
    pub checksum: u32,
}

/// The segment number that stands for a snapshot.
const SNAPSHOT: u32 = 0;
/// Bytes of a record without its key, value and expiry.
const RECORD_BYTES: u64 = 9;
/// Bytes of a record's expiry.
const EXPIRY_BYTES: u64 = 8;
/// The queue of hot values is tidied when its length exceeds twice the number of values in memory by more than this.
const STALE_KEPT: usize = 1024;

/// Returns the bytes of memory that will be freed when an entry's value goes away; 0 if it can't. A value that is too large for
/// a frame of the log stays in memory; one from a snapshot, or from a command of several frames, is written alone first.
fn savings(entry: &Entry) -> usize {
    if entry.place().is_some() && fits_a_frame(entry) { entry.savings() } else { 0 }
}

/// Returns true if an entry's record fits into a frame.
fn fits_a_frame(entry: &Entry) -> bool {
    weight(entry) <= PAYLOAD_BYTES_MAX as u64
}

/// Returns the bytes of the log that an entry needs: those of its record if it was written again.
fn weight(entry: &Entry) -> u64 {
    let expiry = if entry.expires_at().is_some() { EXPIRY_BYTES } else { 0 };
    RECORD_BYTES + expiry + (entry.key().len() + entry.value_len()) as u64
}

impl Places {
    /// Returns a provisional place, for a value that is not on disk yet.
    #[inline]
    pub(super) fn promise(&mut self, value: &[u8]) -> Place {
        self.next += 1;
        Place { at: At::coming(self.next), checksum: crc32c::crc32c(value) }
    }

    /// Returns the bytes of memory that would be freed if every value went away that can, or can once it is on disk.
    pub(super) fn savings(&self) -> usize {
        self.savings
    }

    /// Adds the savings of an entry that is new or has changed.
    #[inline]
    pub(super) fn count_savings(&mut self, entry: &Entry) {
        self.savings += savings(entry);
    }

    /// Subtracts the savings of an entry that is about to change.
    #[inline]
    pub(super) fn discount_savings(&mut self, entry: &Entry) {
        self.savings -= savings(entry);
    }

    /// Subtracts from all counts an entry that was removed or is about to change its value.
    pub(super) fn leave(&mut self, entry: &Entry) {
        self.discount_savings(entry);
        let Some(place) = entry.place() else { return };
        if entry.is_away() {
            self.counts.away -= 1;
            self.counts.away_bytes -= entry.value_len() as u64;
        }
        self.leave_segment(place.at, weight(entry));
    }

    /// Subtracts live bytes of the segment of a place, if it has one.
    fn leave_segment(&mut self, at: At, weight: u64) {
        if let Some(needed) = at.segment().and_then(|segment| self.segments.get_mut(&segment)) {
            needed.live -= weight;
            self.live -= weight;
        }
    }

    /// Adjusts the live bytes for an entry whose expiry was set or removed since they were counted.
    pub(super) fn count_expiry(&mut self, entry: &Entry, had_expiry: bool) {
        let has_expiry = entry.expires_at().is_some();
        let segment = entry.place().and_then(|place| place.at.segment());
        if let Some(needed) =
            segment.and_then(|segment| self.segments.get_mut(&segment)).filter(|_| has_expiry != had_expiry)
        {
            for live in [&mut needed.live, &mut self.live] {
                *live = if has_expiry { *live + EXPIRY_BYTES } else { *live - EXPIRY_BYTES };
            }
        }
    }

    /// Adds an entry's value to the counts of its segment, and to the queue if it can go away.
    fn enter(&mut self, value: Value, entry: &Entry) {
        if let Some(segment) = value.at.segment() {
            let needed = self.segments.entry(segment).or_default();
            needed.live += weight(entry);
            self.live += weight(entry);
            match value.at.place() {
                Where::Kept { .. } if fits_a_frame(entry) => {
                    needed.joined.push(value);
                    self.joined += 1;
                }
                Where::Kept { .. } => needed.kept.push(value),
                Where::Coming(_) | Where::Stored { .. } => {}
            }
        }
        if entry.is_away() {
            self.counts.away += 1;
            self.counts.away_bytes += entry.value_len() as u64;
        } else if let Where::Stored { .. } = value.at.place() {
            self.hot.push_back(value);
        }
    }

    /// Resets all counts: all keys were removed.
    pub(super) fn clear(&mut self) {
        self.counts.away = 0;
        self.counts.away_bytes = 0;
        self.savings = 0;
        self.segments.clear();
        self.joined = 0;
        self.live = 0;
        self.hot.clear();
    }

    /// Returns true if values begin in this segment that are in several pieces, and therefore in memory.
    pub fn has_kept(&self, segment: u32) -> bool {
        self.segments.get(&segment).is_some_and(|needed| !needed.kept.is_empty() || !needed.joined.is_empty())
    }

    /// Returns the live bytes of a segment.
    pub fn live(&self, segment: u32) -> u64 {
        self.segments.get(&segment).map_or(0, |needed| needed.live)
    }

    /// Returns the live bytes of all segments.
    pub fn live_total(&self) -> u64 {
        self.live
    }

    /// Returns true if there may be a value that could go away.
    pub(super) fn has_hot(&self) -> bool {
        !self.hot.is_empty()
    }
}

impl Store {
    /// Switches to values on disk: every entry has a place from now on.
    ///
    /// # Panics
    /// If there are entries.
    pub fn keep_values_on_disk(&mut self) {
        assert!(self.is_empty(), "where values live is settled before there are any");
        self.places = Some(Box::default());
    }

    /// Returns true if values live on disk.
    #[inline]
    pub fn has_values_on_disk(&self) -> bool {
        self.places.is_some()
    }

    /// Returns the entry that has this value, if there still is one.
    fn find_value(&self, value: Value) -> Option<&Entry> {
        let is_it = |entry: &Entry| entry.place().is_some_and(|place| place.at == value.at);
        self.tables[value.slot.index()].entries.find(value.hash, is_it)
    }

    /// Returns the entry that has this value, if there still is one.
    fn find_value_mut(&mut self, value: Value) -> Option<&mut Entry> {
        let is_it = |entry: &Entry| entry.place().is_some_and(|place| place.at == value.at);
        self.tables[value.slot.index()].entries.find_mut(value.hash, is_it)
    }

    /// Returns the value of a key if it is away, and has to be fetched before a command that needs it; `None` if not.
    #[inline]
    pub fn cold(&self, key: Key<'_>, now: UnixMillis) -> Option<Cold> {
        self.places.as_ref()?;
        let hash = self.hash(key.bytes);
        let table = &self.tables[key.slot.index()];
        let entry = table.entries.find(hash, |entry| entry.key() == key.bytes).filter(|entry| entry.is_away())?;
        if is_expired(entry, self.expiry_time(now)) {
            return None;
        }
        let place = entry.place()?;
        let Where::Stored { segment, offset } = place.at.place() else {
            unreachable!("only what is in one piece on disk goes away")
        };
        let value = Value { hash, slot: key.slot, at: place.at };
        Some(Cold { value, segment, offset, length: entry.value_len(), checksum: place.checksum })
    }

    /// Sets the place of a value that has just become durable, if its entry still has it.
    pub fn place(&mut self, value: Value, at: At) {
        let Some(entry) = self.find_value_mut(value) else { return };
        let Some(place) = entry.place() else { return };
        let before = savings(entry);
        entry.set_place(Place { at, ..place });
        let after = savings(entry);
        let (value, Some(places)) = (Value { at, ..value }, self.places.as_deref_mut()) else { return };
        places.savings = places.savings - before + after;
        let found = |entry: &Entry| entry.place().is_some_and(|place| place.at == at);
        let Some(entry) = self.tables[value.slot.index()].entries.find(value.hash, found) else { return };
        places.leave_segment(place.at, weight(entry));
        if entry.is_away() {
            // `enter` counts it again: it stays away, in another place.
            places.counts.away -= 1;
            places.counts.away_bytes -= entry.value_len() as u64;
        }
        places.enter(value, entry);
    }

    /// Returns true if the entry still has this value, and it is away.
    pub fn is_cold(&self, cold: &Cold) -> bool {
        self.find_value(cold.value).is_some_and(Entry::is_away)
    }

    /// Brings a value back into its entry, if that still has it and it is away; returns true if so. The value is pinned in
    /// memory until [`release`](Self::release) is called.
    pub fn recall(&mut self, cold: &Cold, bytes: &[u8], now: UnixMillis) -> bool {
        let policy = self.policy;
        let Some(entry) = self.find_value_mut(cold.value).filter(|entry| entry.is_away()) else { return false };
        let before = entry.memory();
        entry.bring_back(bytes);
        // Raised to one below the counter of a new entry: the command's use then makes it as cold as a value just written.
        let uses = frequency(entry.access(), &policy, now);
        entry.set_access(minutes(now, uses.max(LFU_INITIAL - 1)));
        let (after, saved) = (entry.memory(), savings(entry));
        self.memory = self.memory + after - before;
        if let Some(places) = &mut self.places {
            places.counts.away -= 1;
            places.counts.away_bytes -= bytes.len() as u64;
            places.counts.recalled += 1;
            places.savings += saved;
        }
        true
    }

    /// Unpins a value that was brought back: it may go away again.
    pub fn release(&mut self, value: Value) {
        if let Some(places) = &mut self.places {
            places.hot.push_back(value);
        }
    }

    /// Returns true if more memory is used than `max-memory` and values could go away, or if the queue is due to be tidied.
    #[inline]
    pub fn wants_demotion(&self) -> bool {
        let Some(places) = &self.places else { return false };
        let is_over = self.policy.memory_max != 0 && self.policy.memory_max < self.memory;
        let in_memory = self.length as u64 - places.counts.away;
        (is_over && places.has_hot()) || in_memory * 2 + (STALE_KEPT as u64) < places.hot.len() as u64
    }

    /// Looks at up to `count` values and sends away those that are seldom used, while more memory is used than `max-memory`.
    pub fn demote(&mut self, count: usize, now: UnixMillis) {
        for _ in 0..count {
            if !self.wants_demotion() {
                return;
            }
            let (is_over, policy) = (self.policy.memory_max < self.memory && self.policy.memory_max != 0, self.policy);
            let Some(value) = self.places.as_mut().and_then(|places| places.hot.pop_front()) else { return };
            let Some(entry) = self.find_value_mut(value).filter(|entry| !entry.is_away() && 0 < entry.savings()) else {
                continue;
            };
            let uses = frequency(entry.access(), &policy, now);
            if !is_over || LFU_INITIAL < uses {
                if is_over {
                    entry.set_access(minutes(now, LFU_INITIAL + (uses - LFU_INITIAL) / 2));
                }
                if let Some(places) = &mut self.places {
                    places.hot.push_back(value);
                }
                continue;
            }
            let (before, saved, length) = (entry.memory(), savings(entry), entry.value_len());
            entry.send_away();
            let after = entry.memory();
            self.memory = self.memory + after - before;
            if let Some(places) = &mut self.places {
                places.savings -= saved;
                places.counts.away += 1;
                places.counts.away_bytes += length as u64;
                places.counts.demoted += 1;
            }
        }
    }

    /// Applies what was read of a log or of a snapshot, whose segment is 0. Values may stay on disk.
    pub fn apply_in_place(&mut self, found: Found<'_>, now: UnixMillis) {
        self.begin_loading();
        match found {
            Found::Record(record, spot) => self.apply_record(record, spot, now),
            Found::Placed(placed, segment) => {
                let key = Key::of(placed.key);
                self.counting(key, !placed.is_again, |store, _| store.apply_placed(placed, segment, now));
            }
            Found::Mark => self.mark_versions(),
            Found::Rewind => self.rewind_versions(),
        }
    }

    /// Inserts a key of a hint, with its value away.
    fn apply_placed(&mut self, placed: Placed<'_>, segment: u32, now: UnixMillis) {
        let Placed { key, length, offset, checksum, expires_at, .. } = placed;
        let place = Place { at: At::stored(segment, offset), checksum };
        let (key, hash) = (Key::of(key), self.hash(key));
        self.remove(key, now);
        self.enter(key, hash, Entry::new_away(key.bytes, length, expires_at, minutes(now, LFU_INITIAL), place), place);
    }

    /// Inserts a new entry, and counts its place.
    fn enter(&mut self, key: Key<'_>, hash: u64, entry: Entry, place: Place) {
        if let Some(places) = &mut self.places {
            places.enter(Value { hash, slot: key.slot, at: place.at }, &entry);
        }
        self.insert(key.slot, hash, entry);
    }

    /// Applies a record that was read at this spot.
    fn apply_record(&mut self, record: Record<'_>, spot: Spot, now: UnixMillis) {
        let (Record::Put { key, value, expires_at } | Record::Again { key, value, expires_at }) = record else {
            return self.apply(record, now);
        };
        // A snapshot's keys are no effects: it has records of the versions.
        let is_effect = matches!(record, Record::Put { .. }) && spot.segment != SNAPSHOT;
        self.counting(Key::of(key), is_effect, |store, key| store.apply_value(key, value, expires_at, spot, now));
    }

    /// Sets a key's value as a record that was read at this spot says. If memory is full, a value in one piece stays on disk.
    fn apply_value(
        &mut self,
        key: Key<'_>,
        value: &[u8],
        expires_at: Option<UnixMillis>,
        Spot { segment, offset }: Spot,
        now: UnixMillis,
    ) {
        let hash = self.hash(key.bytes);
        let Some(places) = &mut self.places else { return self.put(key, value, expires_at, now) };
        let mut place = places.promise(value);
        place.at = match offset {
            Some(offset) => At::stored(segment, offset),
            None => At::kept(segment, crate::wal::Lsn(places.next)),
        };
        let is_full = self.policy.memory_max != 0 && self.policy.memory_max <= self.memory + value.len();
        self.remove(key, now);
        let access = minutes(now, LFU_INITIAL);
        let entry = if offset.is_some() && is_full {
            Entry::new_away(key.bytes, value.len(), expires_at, access, place)
        } else {
            Entry::new(key.bytes, value, expires_at, access, Some(place))
        };
        self.enter(key, hash, entry, place);
    }

    /// Appends a value that was read at this position to the log again, if its entry still has it there. Returns the bytes of
    /// the key and the value; 0 if it was not appended.
    pub fn move_value(&mut self, key: &[u8], bytes: &[u8], at: At) -> usize {
        let value = Value { hash: self.hash(key), slot: Key::of(key).slot, at };
        let Some(entry) = self.find_value(value) else { return 0 };
        if entry.place().is_none_or(|place| place.checksum != crc32c::crc32c(bytes)) {
            return 0;
        }
        let record = Record::Again { key, value: bytes, expires_at: entry.expires_at() };
        let Some(log) = &mut self.log else { return 0 };
        log.append_again(value, record, bytes.len());
        if let Some(places) = &mut self.places {
            places.counts.moved_bytes += bytes.len() as u64;
        }
        key.len() + bytes.len()
    }

    /// Appends the next value that begins in this segment and is in several pieces to the log again. Returns true if there may
    /// be more.
    pub fn move_kept(&mut self, segment: u32) -> bool {
        let Some(places) = &mut self.places else { return false };
        let Some(needed) = places.segments.get_mut(&segment) else { return false };
        let joined = needed.joined.pop();
        places.joined -= usize::from(joined.is_some());
        let Some(value) = joined.or_else(|| needed.kept.pop()) else { return false };
        let is_it = |entry: &Entry| entry.place().is_some_and(|place| place.at == value.at);
        let entries = &self.tables[value.slot.index()].entries;
        if let (Some(entry), Some(log)) = (entries.find(value.hash, is_it), &mut self.log) {
            let (length, expires_at) = (entry.value_len(), entry.expires_at());
            let record = Record::Again { key: entry.key(), value: entry.value(), expires_at };
            log.append_again(value, record, length);
            if let Some(places) = &mut self.places {
                places.counts.moved_bytes += entry.value_len() as u64;
            }
        }
        true
    }

    /// Returns true if more memory is used than `max-memory`, and values could go away once they are written alone.
    #[inline]
    pub fn wants_parting(&self) -> bool {
        self.is_over() && self.places.as_ref().is_some_and(|places| places.joined != 0)
    }

    /// Appends the next value that a command of several frames has written to the log again: it is in one piece then, and can
    /// go away. Those of the oldest segment come first.
    pub fn part_value(&mut self) {
        let segments = self.places.iter().flat_map(|places| &places.segments);
        let first = segments.into_iter().find_map(|(&segment, needed)| (!needed.joined.is_empty()).then_some(segment));
        if let Some(segment) = first {
            self.move_kept(segment);
        }
    }

    /// Forgets a segment that was released.
    ///
    /// # Panics
    /// If it is still needed.
    pub fn forget_segment(&mut self, segment: u32) {
        let Some(places) = &mut self.places else { return };
        let needed = places.segments.remove(&segment).unwrap_or_default();
        places.joined -= needed.joined.len();
        assert!(needed.live == 0, "what is given up holds nothing that is needed");
    }
}

#[cfg(test)]
mod tests;
