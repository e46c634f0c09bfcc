//! The keys that a core must have: a map, the commands that changed it, in order, and how far clients know of them.

use crate::{
    resp::{Reply, Version, parse_i64},
    store::{Key, Store, UnixMillis},
    wal::Lsn,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// Not yet: what an entry is compared at whose time may have come.
const LONG_AGO: UnixMillis = UnixMillis(0);

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Value {
    bytes: Rc<[u8]>,
    expires_at: Option<UnixMillis>,
}

type Keys = BTreeMap<Vec<u8>, Value>;

#[derive(Debug)]
enum Effect {
    Set(Vec<u8>, Value),
    Remove(Vec<u8>),
    Clear,
}

/// A command that was recorded, or should have been.
#[derive(Debug)]
struct Command {
    effects: Vec<Effect>,
    /// The end of the log behind it.
    end: Lsn,
}

/// The reply to a request.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) reply: Vec<u8>,
    /// The number of the last command whose effects the reply shows; 0 where it shows none that could be lost.
    pub(super) tells: u64,
}

/// A key as WATCH saw it.
#[derive(Debug)]
pub(super) struct Watched {
    key: Vec<u8>,
    value: Option<Value>,
    changed: u64,
}

/// The promise of a core about its keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Promise {
    /// Everything that a client was told of is on disk.
    Told,
    /// A beginning of what was executed is on disk.
    Beginning,
    /// A key has a value that it once had, if any.
    Nothing,
}

/// The keys of a core, over all its lives.
pub(super) struct Model {
    promise: Promise,
    /// The log also has records that are no commands.
    has_moves: bool,
    /// All values that there ever were, where nothing is promised.
    history: BTreeSet<(Vec<u8>, Value)>,
    value_bytes_max: usize,
    keys: Keys,
    /// All keys that there ever were.
    names: BTreeSet<Vec<u8>>,
    /// The keys that were recovered, up to which command, and where the log ended then.
    base: Keys,
    base_count: u64,
    base_end: Lsn,
    /// The commands since.
    commands: Vec<Command>,
    /// The last command that changed a key, and the last that changed all of them; of those since the base.
    changed: BTreeMap<Vec<u8>, u64>,
    cleared: u64,
    /// The last command that is on disk, and the last that a client has been told of.
    persisted: u64,
    acknowledged: u64,
}

impl Model {
    pub(super) fn new(value_bytes_max: usize, promise: Promise, has_moves: bool) -> Self {
        Self {
            promise,
            has_moves,
            history: BTreeSet::new(),
            value_bytes_max,
            keys: Keys::new(),
            names: BTreeSet::new(),
            base: Keys::new(),
            base_count: 0,
            base_end: Lsn(0),
            commands: Vec::new(),
            changed: BTreeMap::new(),
            cleared: 0,
            persisted: 0,
            acknowledged: 0,
        }
    }

    /// The number of commands that were recorded and count.
    pub(super) fn count(&self) -> u64 {
        self.base_count + self.commands.len() as u64
    }

    /// The end of the log behind the last command.
    pub(super) fn end(&self) -> Lsn {
        self.commands.last().map_or(self.base_end, |command| command.end)
    }

    /// Checks that a log ends where it must: nothing is in it that nobody has asked for.
    pub(super) fn check_end(&self, end: Option<Lsn>) {
        if let Some(end) = end.filter(|_| !self.has_moves) {
            assert_eq!(end, self.end(), "the log ends behind the last command");
        }
    }

    /// Executes a request, or a transaction if there are several: its effects are there as a whole, or not at all. `end`: the end
    /// of the log behind it, if it was recorded.
    pub(super) fn execute(
        &mut self,
        queue: &[Vec<Vec<u8>>],
        is_transaction: bool,
        now: UnixMillis,
        end: Option<Lsn>,
    ) -> Told {
        let mut told = Told { reply: Vec::new(), tells: 0 };
        if is_transaction {
            told.reply = format!("*{}\r\n", queue.len()).into_bytes();
        }
        let mut all = Vec::new();
        for words in queue {
            let words: Vec<_> = words.iter().map(Vec::as_slice).collect();
            let (of_one, effects) = self.call(&words, now, end.is_some());
            told.reply.extend(of_one.reply);
            told.tells = told.tells.max(of_one.tells);
            all.extend(effects);
        }
        if let Some(end) = end {
            self.commands.push(Command { effects: all, end });
        }
        told
    }

    /// Notes that a key was evicted, or records without an effect. `end`: the end of the log behind its record.
    pub(super) fn evict(&mut self, key: &[u8], end: Lsn) {
        assert!(self.keys.contains_key(key), "{} is evicted, and is not there", key.escape_ascii());
        self.keys.remove(key);
        self.changed.insert(key.to_vec(), self.count() + 1);
        self.commands.push(Command { effects: vec![Effect::Remove(key.to_vec())], end });
    }

    /// Notes that the log ends here behind a request: what it has besides the request's effects says that keys were found expired,
    /// which is no news.
    pub(super) fn note_expiries(&mut self, end: Lsn) {
        if self.end() < end {
            self.commands.push(Command { effects: Vec::new(), end });
        }
    }

    /// Notes how a key is.
    pub(super) fn watch(&self, key: &[u8], now: UnixMillis) -> Watched {
        let value = self.keys.get(key).filter(|value| value.expires_at.is_none_or(|at| now < at)).cloned();
        Watched { key: key.to_vec(), value, changed: self.changed.get(key).copied().unwrap_or_default() }
    }

    /// Returns true if a key has changed since: by a command, or by its expiry.
    pub(super) fn has_changed(&self, watched: &Watched, now: UnixMillis) -> bool {
        let is = self.watch(&watched.key, now);
        is.changed != watched.changed || is.value != watched.value
    }

    /// Executes a request, and returns what it is answered and its effects.
    fn call(&mut self, words: &[&[u8]], now: UnixMillis, is_recorded: bool) -> (Told, Vec<Effect>) {
        let mut output = Vec::new();
        let mut call = Call { keys: &self.keys, now, effects: Vec::new(), value_bytes_max: self.value_bytes_max };
        call.execute(words, Reply { output: &mut output, version: Version::Two });
        let effects = call.effects;
        let is_noted = is_recorded || self.promise == Promise::Nothing;
        assert!(effects.is_empty() || is_noted, "what changes keys is recorded: {}", words[0].escape_ascii());
        let (number, changes) = (self.count() + 1, !effects.is_empty());
        for effect in &effects {
            match effect {
                Effect::Set(key, value) if self.promise == Promise::Nothing => {
                    self.names.insert(key.clone());
                    self.history.insert((key.clone(), value.clone()));
                }
                Effect::Set(key, _) | Effect::Remove(key) => {
                    self.names.insert(key.clone());
                    self.changed.insert(key.clone(), number);
                }
                Effect::Clear => self.cleared = number,
            }
            effect.apply(&mut self.keys);
        }
        // What was recorded to no effect (a key that had expired is removed) need not come back.
        (Told { reply: output, tells: if changes { number } else { self.shown(words) } }, effects)
    }

    /// The last command that changed any of a request's keys. No other word is a key's name.
    fn shown(&self, words: &[&[u8]]) -> u64 {
        if words.len() == 1 {
            return 0;
        }
        words.iter().filter_map(|word| self.changed.get(*word)).copied().max().unwrap_or_default().max(self.cleared)
    }

    /// The log is on disk up to here.
    pub(super) fn persisted(&mut self, lsn: Lsn) {
        let commands = self.commands.partition_point(|command| command.end <= lsn);
        self.persisted = self.base_count + commands as u64;
    }

    /// A client knows of this command.
    pub(super) fn acknowledged(&mut self, number: u64) {
        if self.promise != Promise::Told {
            return;
        }
        assert!(number <= self.persisted, "a client was told of command {number}, {} are on disk", self.persisted);
        self.acknowledged = self.acknowledged.max(number);
    }

    /// Checks what a start found on disk, and goes on from there. Returns how many commands were lost.
    pub(super) fn recover(&mut self, end: Lsn, store: &Store, now: UnixMillis) -> usize {
        let kept = self.commands.partition_point(|command| command.end <= end);
        let lost = self.commands.split_off(kept);
        let count = self.count();
        assert!(self.acknowledged <= count, "a client was told of command {}, {count} are left", self.acknowledged);
        assert!(self.persisted <= count, "command {} was on disk, {count} are left", self.persisted);
        assert!(end == self.end() || self.has_moves, "the log ends behind a command: {end:?}, not {:?}", self.end());
        self.commands.iter().flat_map(|command| &command.effects).for_each(|effect| effect.apply(&mut self.base));
        self.commands.clear();
        self.changed.clear();
        self.keys.clone_from(&self.base);
        (self.base_count, self.base_end, self.cleared, self.persisted) = (count, end, 0, count);
        self.compare(store, now);
        lost.len()
    }

    /// Goes on with the keys of a store that has come back without a log.
    pub(super) fn adopt_without_log(&mut self, store: &Store) {
        if self.promise == Promise::Nothing {
            self.adopt(store);
        }
    }

    /// Checks that each key of a store has had its value once, and goes on with these.
    fn adopt(&mut self, store: &Store) -> usize {
        let before = self.keys.len();
        self.keys.clear();
        for name in &self.names {
            let Some(entry) = store.peek(Key::of(name), LONG_AGO) else { continue };
            let value = Value { bytes: entry.value().into(), expires_at: entry.expires_at() };
            let pair = (name.clone(), value);
            assert!(self.history.contains(&pair), "{} has never had this value", name.escape_ascii());
            self.keys.insert(pair.0, pair.1);
        }
        assert_eq!(store.len(), self.keys.len(), "the store has no other keys");
        self.changed.clear();
        before.saturating_sub(self.keys.len())
    }

    /// Checks that a store has these keys.
    pub(super) fn compare(&self, store: &Store, now: UnixMillis) {
        let mut count = 0;
        for (key, value) in &self.keys {
            let is_live = value.expires_at.is_none_or(|at| now < at);
            let found = store.peek(Key::of(key), now);
            assert_eq!(found.is_some(), is_live, "{} is there or not", key.escape_ascii());
            count += usize::from(store.peek(Key::of(key), LONG_AGO).is_some());
            let Some(entry) = found else { continue };
            assert_eq!(entry.value_len(), value.bytes.len(), "{} has another value", key.escape_ascii());
            assert!(entry.is_away() || *entry.value() == *value.bytes, "{} has another value", key.escape_ascii());
            assert_eq!(entry.expires_at(), value.expires_at, "{} expires then", key.escape_ascii());
        }
        assert_eq!(store.len(), count, "the store has no other keys");
    }

    /// Checks that nothing is left that could be lost.
    pub(super) fn is_over(&self) {
        let is_all = self.promise == Promise::Nothing || self.persisted == self.count();
        assert!(is_all, "of {} commands {} are on disk", self.count(), self.persisted);
    }
}

impl Effect {
    fn apply(&self, keys: &mut Keys) {
        match self {
            Self::Set(key, value) => drop(keys.insert(key.clone(), value.clone())),
            Self::Remove(key) => drop(keys.remove(key)),
            Self::Clear => keys.clear(),
        }
    }
}

/// One call of a command, as its documentation has it.
struct Call<'a> {
    keys: &'a Keys,
    now: UnixMillis,
    effects: Vec<Effect>,
    value_bytes_max: usize,
}

impl<'a> Call<'a> {
    fn get(&self, key: &[u8]) -> Option<&'a Value> {
        self.keys.get(key).filter(|value| value.expires_at.is_none_or(|at| self.now < at))
    }

    fn set(&mut self, key: &[u8], bytes: &[u8], expires_at: Option<UnixMillis>) {
        self.effects.push(Effect::Set(key.to_vec(), Value { bytes: bytes.into(), expires_at }));
    }

    fn after(&self, milliseconds: &[u8]) -> Option<UnixMillis> {
        parse_i64(milliseconds).map(|time| UnixMillis(self.now.0 + time as u64))
    }

    fn execute(&mut self, words: &[&[u8]], mut reply: Reply<'_>) {
        match *words {
            [b"PING"] => reply.simple("PONG"),
            [b"GET", key] => bulk(&mut reply, self.get(key)),
            [b"MGET", ref keys @ ..] => {
                reply.array(keys.len());
                keys.iter().for_each(|key| bulk(&mut reply, self.get(key)));
            }
            [b"KEYS", key] => {
                let found = self.get(key);
                reply.array(usize::from(found.is_some()));
                found.iter().for_each(|_| reply.bulk(key));
            }
            [b"SET", key, _, b"NX"] if self.get(key).is_some() => reply.null(),
            [b"SET", key, value, ref options @ ..] => {
                let expires_at = options.get(1).and_then(|time| self.after(time));
                self.set(key, value, expires_at);
                reply.ok();
            }
            [b"MSET", ref pairs @ ..] => {
                pairs.chunks_exact(2).for_each(|pair| self.set(pair[0], pair[1], None));
                reply.ok();
            }
            [b"INCR", key] => self.increment(key, reply),
            [b"APPEND", key, tail] => self.append(key, tail, reply),
            [b"DEL", ref keys @ ..] => {
                // One that is named twice is gone the second time.
                let named_before = |at: usize| keys[..at].contains(&keys[at]);
                let removed = (0..keys.len()).filter(|&at| !named_before(at) && self.remove(keys[at]));
                reply.integer(removed.count() as i64);
            }
            [b"PEXPIRE", key, b"0"] => reply.integer(i64::from(self.remove(key))),
            [b"PEXPIRE", key, time] => self.expire(key, self.after(time), reply),
            [b"EXPIRE", key, seconds] => {
                self.expire(
                    key,
                    parse_i64(seconds).map(|seconds| UnixMillis(self.now.0 + 1000 * seconds as u64)),
                    reply,
                );
            }
            [b"PEXPIREAT", key, time] => self.expire(key, parse_i64(time).map(|time| UnixMillis(time as u64)), reply),
            [b"GETEX", key, ref time @ ..] => {
                let (found, at) = (self.get(key), time.get(1).and_then(|time| self.after(time)));
                let changes = found.filter(|value| at.is_some() || value.expires_at.is_some());
                changes.iter().for_each(|value| self.set(key, &value.bytes, at));
                bulk(&mut reply, found);
            }
            [b"PERSIST", key] => {
                let found = self.get(key).filter(|value| value.expires_at.is_some());
                found.iter().for_each(|value| self.set(key, &value.bytes, None));
                reply.integer(i64::from(found.is_some()));
            }
            [b"RENAME", from, to] => self.rename(from, to, reply),
            [b"FLUSHALL"] => {
                self.effects.push(Effect::Clear);
                reply.ok();
            }
            _ => unreachable!("no plan has such a command"),
        }
    }

    fn expire(&mut self, key: &[u8], at: Option<UnixMillis>, mut reply: Reply<'_>) {
        let found = self.get(key);
        found.iter().for_each(|value| self.set(key, &value.bytes, at));
        reply.integer(i64::from(found.is_some()));
    }

    fn increment(&mut self, key: &[u8], mut reply: Reply<'_>) {
        let found = self.get(key);
        let number = found.map_or(Some(0), |value| parse_i64(&value.bytes));
        let Some(sum) = number.and_then(|number| number.checked_add(1)) else {
            return reply.error("ERR value is not an integer or out of range");
        };
        self.set(key, sum.to_string().as_bytes(), found.and_then(|value| value.expires_at));
        reply.integer(sum);
    }

    fn append(&mut self, key: &[u8], tail: &[u8], mut reply: Reply<'_>) {
        let found = self.get(key);
        let expires_at = found.and_then(|value| value.expires_at);
        let mut bytes = found.map_or_else(Vec::new, |value| value.bytes.to_vec());
        bytes.extend_from_slice(tail);
        if self.value_bytes_max < bytes.len() {
            return reply.error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        }
        self.set(key, &bytes, expires_at);
        reply.integer(bytes.len() as i64);
    }

    fn rename(&mut self, from: &[u8], to: &[u8], mut reply: Reply<'_>) {
        let Some(value) = self.get(from) else { return reply.error("ERR no such key") };
        if from != to {
            self.remove(from);
            self.set(to, &value.bytes, value.expires_at);
        }
        reply.ok();
    }

    /// Returns whether the key was there.
    fn remove(&mut self, key: &[u8]) -> bool {
        let is_there = self.get(key).is_some();
        if is_there {
            self.effects.push(Effect::Remove(key.to_vec()));
        }
        is_there
    }
}

fn bulk(reply: &mut Reply<'_>, found: Option<&Value>) {
    match found {
        Some(value) => reply.bulk(&value.bytes),
        None => reply.null(),
    }
}
