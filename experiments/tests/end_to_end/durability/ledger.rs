//! Clients that remember what they were told, to ask for it again when the server has come back.

use crate::{
    harness::Server,
    wire::{Reply, Wire, encode},
};
use std::{
    collections::VecDeque,
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// The port that a writer connects to.
#[derive(Clone, Copy, Debug)]
pub enum Door {
    Gateway,
    Core(u16),
}

impl Door {
    pub fn port(self, server: &Server) -> u16 {
        match self {
            Self::Gateway => server.port,
            Self::Core(core) => server.core(core),
        }
    }
}

/// The kind of a cell, which decides how it is written to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// `SET`, with a number that grows with each.
    Number,
    /// `INCR`.
    Counter,
    /// `APPEND`, and now and then `DEL`.
    Text,
    /// `MSET` of two keys of one slot: both, or none.
    Pair,
}

/// A key, or a pair of keys with one value, that a single writer writes to.
#[derive(Debug)]
struct Cell {
    kind: Kind,
    keys: Vec<String>,
    /// The values that it may hold: the last that was acknowledged, and those sent since, in order.
    states: VecDeque<Option<Vec<u8>>>,
    /// The highest number that anybody was shown of it.
    seen: Arc<AtomicU64>,
}

/// A request that awaits its reply.
struct Sent {
    cell: usize,
    expected: Reply,
    is_change: bool,
}

/// A writer's keys and what they must hold.
#[derive(Debug)]
pub struct Ledger {
    pub door: Door,
    cells: Vec<Cell>,
    random: fastrand::Rng,
    next: u64,
    pub habits: Habits,
    /// Changes that were acknowledged.
    pub acknowledged: u64,
    /// The number of writes that were refused with `MISCONF`.
    pub refused: u64,
}

/// The behaviour of a writer.
#[derive(Clone, Debug)]
pub struct Habits {
    /// Requests that are sent together.
    pub pipeline: Range<usize>,
    /// Bytes of most values.
    pub value_bytes: Range<usize>,
    /// One value in so many is larger than a frame of the log, or even than a segment. 0: none is.
    pub large_in: usize,
}

pub const HABITS: Habits = Habits { pipeline: 1..33, value_bytes: 0..2000, large_in: 700 };
const LARGE_BYTES: Range<usize> = 500_000..5_000_000;
const TEXT_BYTES_MAX: usize = 400;

impl Ledger {
    /// A ledger of `count` cells, all of which can be written to by this door of the server.
    pub fn new(name: &str, count: usize, door: Door, server: &Server, habits: Habits, seed: u64) -> Self {
        Self { door, ..Self::by(name, count, door.port(server), habits, seed) }
    }

    /// A ledger of `count` cells, all of which can be written to by this port.
    pub fn by(name: &str, count: usize, port: u16, habits: Habits, seed: u64) -> Self {
        let mut wire = Wire::connect(port);
        let mut cells = Vec::new();
        for number in 0.. {
            if cells.len() == count {
                break;
            }
            let tag = format!("{{{name}:{number}}}");
            if wire.ask(&format!("EXISTS {tag}")).starts_with("-MOVED") {
                continue;
            }
            let kind = [Kind::Number, Kind::Counter, Kind::Text, Kind::Pair][cells.len() % 4];
            let keys = if kind == Kind::Pair { vec![format!("{tag}a"), format!("{tag}b")] } else { vec![tag] };
            cells.push(Cell { kind, keys, states: VecDeque::from([None]), seen: Arc::default() });
        }
        let random = fastrand::Rng::with_seed(seed);
        let door = Door::Gateway;
        Self { door, cells, random, next: 0, habits, acknowledged: 0, refused: 0 }
    }

    /// Writes and reads until told to stop or the connection ends, and notes what was acknowledged.
    pub fn write(&mut self, port: u16, stop: &AtomicBool) -> io::Result<()> {
        let mut wire = Wire::try_connect(port)?;
        while !stop.load(Ordering::Relaxed) {
            self.write_batch(&mut wire)?;
        }
        Ok(())
    }

    /// Sends some requests together, and takes their replies.
    pub fn write_batch(&mut self, wire: &mut Wire) -> io::Result<()> {
        let mut bytes = Vec::new();
        let count = self.random.usize(self.habits.pipeline.clone());
        let sent: Vec<_> = (0..count).map(|_| self.send(&mut bytes)).collect();
        wire.try_send(&bytes)?;
        for Sent { cell, expected, is_change } in sent {
            let reply = wire.try_reply()?;
            let cell = &mut self.cells[cell];
            match &reply {
                Reply::Error(text) if is_change && text.starts_with("MISCONF") => {
                    // Those before it were acknowledged or refused as well.
                    cell.states.remove(1).expect("it was sent");
                    self.refused += 1;
                }
                _ => {
                    assert_eq!(short(&reply), short(&expected), "{cell:?}");
                    assert!(reply == expected, "{:?} differs", cell.keys);
                    if is_change {
                        cell.states.pop_front().expect("one was acknowledged");
                        self.acknowledged += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Appends the next request.
    fn send(&mut self, bytes: &mut Vec<u8>) -> Sent {
        let random = &mut self.random;
        let index = random.usize(..self.cells.len());
        let cell = &mut self.cells[index];
        let state = cell.states.back().expect("it holds something").clone();
        let keys: Vec<_> = cell.keys.iter().map(String::as_bytes).collect();
        let bulk = |state: &Option<Vec<u8>>| state.clone().map_or(Reply::Null, Reply::Bulk);
        if random.u8(..8) == 0 {
            let mut words = vec![if cell.kind == Kind::Pair { &b"MGET"[..] } else { b"GET" }];
            words.extend(&keys);
            encode(bytes, &words);
            let expected = match cell.kind {
                Kind::Pair => Reply::Array(keys.iter().map(|_| bulk(&state)).collect()),
                _ => bulk(&state),
            };
            return Sent { cell: index, expected, is_change: false };
        }
        self.next += 1;
        let value = || {
            let is_large = self.habits.large_in != 0 && random.usize(..self.habits.large_in) == 0;
            let length = random.usize(if is_large { LARGE_BYTES } else { self.habits.value_bytes.clone() });
            let mut value = format!("{}:", self.next).into_bytes();
            value.resize(value.len() + length, b'a' + (self.next % 26) as u8);
            value
        };
        let (after, expected) = match cell.kind {
            Kind::Number => {
                let value = { value }();
                encode(bytes, &[b"SET", keys[0], &value]);
                (Some(value), Reply::Simple("OK".into()))
            }
            Kind::Pair => {
                let value = { value }();
                encode(bytes, &[b"MSET", keys[0], &value, keys[1], &value]);
                (Some(value), Reply::Simple("OK".into()))
            }
            Kind::Counter => {
                let before = state.map_or(0, |digits| String::from_utf8(digits).unwrap().parse().unwrap());
                encode(bytes, &[b"INCR", keys[0]]);
                (Some((before + 1).to_string().into_bytes()), Reply::Integer(before + 1))
            }
            Kind::Text => match state {
                Some(text) if TEXT_BYTES_MAX < text.len() => {
                    encode(bytes, &[b"DEL", keys[0]]);
                    (None, Reply::Integer(1))
                }
                text => {
                    let piece = format!("<{}>", self.next);
                    encode(bytes, &[b"APPEND", keys[0], piece.as_bytes()]);
                    let text = [text.unwrap_or_default(), piece.into_bytes()].concat();
                    let length = text.len() as i64;
                    (Some(text), Reply::Integer(length))
                }
            },
        };
        cell.states.push_back(after);
        Sent { cell: index, expected, is_change: true }
    }

    /// A stranger who reads what this writer writes.
    pub fn watcher(&self) -> Watcher {
        let numbers = self.cells.iter().filter(|cell| cell.kind == Kind::Number);
        Watcher(numbers.map(|cell| (cell.keys[0].clone(), Arc::clone(&cell.seen))).collect())
    }

    /// Checks that everything is there that was acknowledged or shown, and goes on from what is.
    #[track_caller]
    pub fn check(&mut self, server: &Server) {
        self.check_by(server.port);
    }

    /// Checks like [`Ledger::check`], by this port.
    #[track_caller]
    pub fn check_by(&mut self, port: u16) {
        let mut wire = Wire::connect(port);
        for cells in self.cells.chunks_mut(50) {
            let mut bytes = Vec::new();
            for cell in &*cells {
                let mut words = vec![&b"MGET"[..]];
                words.extend(cell.keys.iter().map(String::as_bytes));
                encode(&mut bytes, &words);
            }
            wire.send(&bytes);
            for cell in cells {
                let Reply::Array(values) = wire.reply() else { panic!("an array") };
                assert!(values.iter().all(|value| *value == values[0]), "half of it: {:?}", cell.keys);
                let found = match &values[0] {
                    Reply::Bulk(bytes) => Some(bytes),
                    _ => None,
                };
                let place = cell.states.iter().position(|state| state.as_ref() == found);
                assert!(
                    place.is_some(),
                    "{:?} {:?}: found {}, and acknowledged was {:?}, of {} that were sent",
                    self.door,
                    cell.keys,
                    short(&values[0]),
                    cell.states[0].as_ref().map(|value| short(&Reply::Bulk(value.clone()))),
                    cell.states.len() - 1
                );
                let seen = cell.seen.load(Ordering::Relaxed);
                assert!(cell.kind != Kind::Number || seen <= number(&values[0]), "{:?}: {seen} was seen", cell.keys);
                cell.states = VecDeque::from([found.cloned()]);
            }
        }
    }
}

/// Reads numbers that another writes, and notes what it was shown: that must not be taken back.
pub struct Watcher(Vec<(String, Arc<AtomicU64>)>);

impl Watcher {
    /// Reads until told to stop or the connection ends.
    pub fn watch(&self, port: u16, stop: &AtomicBool, mut random: fastrand::Rng) -> io::Result<()> {
        let mut wire = Wire::try_connect(port)?;
        while !stop.load(Ordering::Relaxed) {
            let (key, seen) = &self.0[random.usize(..self.0.len())];
            let value = wire.try_request(&[b"GET", key.as_bytes()])?;
            seen.fetch_max(number(&value), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The number that a value begins with.
fn number(reply: &Reply) -> u64 {
    match reply {
        Reply::Bulk(value) => {
            let digits = value.split(|&byte| byte == b':').next().unwrap_or_default();
            String::from_utf8_lossy(digits).parse().expect("a number")
        }
        _ => 0,
    }
}

/// A reply's beginning, for messages.
fn short(reply: &Reply) -> String {
    let text = reply.to_string();
    if text.len() < 60 { text } else { format!("{}… ({} bytes)", &text[..40], text.len()) }
}
