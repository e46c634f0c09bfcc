//! What a seed is about: how many clients, what they ask for, how large things are.

use crate::wal::frame::{BLOCK_BYTES, FRAME_BYTES_MAX};

/// The longest value of most seeds. With a transaction of such and the log's backlog, a frame fits into a segment.
const VALUE_BYTES_MAX: usize = 12 << 10;
const BACKLOG_BYTES: usize = 12 << 10;
/// One seed in so many has values over a frame's size. They take their time.
const BIG_EVERY: u64 = 50;
/// Commands of such a seed that have one.
const BIG_ODDS: u8 = 20;

/// Commands of a transaction at most, and bytes that are sent for them where no value is big.
const QUEUE_MAX: usize = 3;
const QUEUE_BYTES_MAX: usize = 12 << 10;

/// A time that no life gets to.
const FAR_AHEAD: &[u8] = b"2000000000000";

/// Slow to quick, of 256.
const SPEEDS: [u8; 4] = [20, 80, 140, 240];

/// What a seed is about.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) lives: usize,
    pub(super) clients: usize,
    pub(super) segment_bytes: usize,
    pub(super) value_bytes_max: usize,
    pub(super) backlog_bytes: usize,
    pub(super) output_bytes_max: usize,
    /// Of 256 turns, in how many a frame gets to the disk, and the blocking thread does its next job: either may be the slower.
    pub(super) write_odds: u8,
    pub(super) job_odds: u8,
    keys: usize,
    /// Of 256 values, how many have several blocks.
    long_odds: u8,
    has_big_values: bool,
}

impl Plan {
    pub(super) fn new(seed: u64, random: &mut fastrand::Rng) -> Self {
        let has_big_values = seed % BIG_EVERY == BIG_EVERY - 1;
        let small = random.usize(24..48) * BLOCK_BYTES;
        Self {
            lives: random.usize(2..=6),
            clients: random.usize(1..=4),
            segment_bytes: if has_big_values { FRAME_BYTES_MAX + small } else { small },
            value_bytes_max: if has_big_values { 4 << 20 } else { VALUE_BYTES_MAX },
            backlog_bytes: BACKLOG_BYTES,
            output_bytes_max: if random.bool() { 2000 } else { 1 << 20 },
            write_odds: SPEEDS[random.usize(..SPEEDS.len())],
            job_odds: SPEEDS[random.usize(..SPEEDS.len())],
            keys: random.usize(2..30),
            long_odds: if random.bool() { 10 } else { 80 },
            has_big_values,
        }
    }

    /// One random request, or those of a transaction.
    pub(super) fn requests(&self, random: &mut fastrand::Rng) -> Vec<Vec<Vec<u8>>> {
        let mut commands: Vec<_> = (0..random.usize(1..=QUEUE_MAX)).map(|_| self.command(random)).collect();
        let bytes: usize = commands.iter().flatten().map(Vec::len).sum();
        if random.u8(..) < 190 || (QUEUE_BYTES_MAX < bytes && !self.has_big_values) {
            commands.truncate(1);
            return commands;
        }
        commands.insert(0, request("MULTI", []));
        commands.push(request("EXEC", []));
        if random.bool() {
            commands.insert(0, request("WATCH", [self.key(random)]));
            // Another client's command may come before or behind this one.
            if random.bool() {
                commands.insert(1, self.command(random));
            }
        }
        commands
    }

    /// A random request.
    pub(super) fn command(&self, random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
        if self.has_big_values && random.u8(..) < BIG_ODDS {
            return self.big_command(random);
        }
        let odds = random.u8(..);
        let (key, other) = (self.key(random), self.key(random));
        let lifetime = ["2", "20", "400", "5000"][random.usize(..4)].as_bytes().to_vec();
        match odds {
            0..50 => request("SET", [key, self.value(random)]),
            50..60 => request("SET", [key, self.value(random), b"PX".to_vec(), lifetime]),
            60..66 => request("SET", [key, self.value(random), b"NX".to_vec()]),
            66..120 => request("GET", [key]),
            120..140 => request("INCR", [format!("number-{}", random.u8(..3)).into_bytes()]),
            140..144 => request("INCR", [key]),
            144..164 => request("APPEND", [key, self.value(random)]),
            164..176 => request("DEL", [key, other]),
            176..182 => request("PEXPIRE", [key, lifetime]),
            182..184 => request("EXPIRE", [key, b"3600".to_vec()]),
            184..186 => request("PEXPIREAT", [key, FAR_AHEAD.to_vec()]),
            186..188 => request("GETEX", [key, b"PX".to_vec(), lifetime]),
            188..190 => request("GETEX", [key, b"PERSIST".to_vec()]),
            190..192 => request("PEXPIRE", [key, b"0".to_vec()]),
            192..200 => request("PERSIST", [key]),
            200..218 => request("MSET", [key, self.value(random), other, self.value(random)]),
            218..232 => request("RENAME", [key, other]),
            232..254 => request("MGET", [key, other, self.key(random)]),
            // These two walk along all slots: rarely.
            254.. if random.u8(..8) == 0 => request("KEYS", [key]),
            254.. if random.u8(..8) == 0 => request("FLUSHALL", []),
            254.. => request("PING", []),
        }
    }

    fn big_command(&self, random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
        let mut big = || stamped(random.usize(FRAME_BYTES_MAX / 2..FRAME_BYTES_MAX * 5 / 2), random);
        match big() {
            value if value.len() % 2 == 0 => request("SET", [b"big-a".to_vec(), value]),
            value => request("MSET", [b"big-a".to_vec(), value, b"big-b".to_vec(), big()]),
        }
    }

    /// Half of the keys share a slot, so that its table grows and shrinks.
    fn key(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let number = random.usize(..self.keys);
        if number.is_multiple_of(2) { format!("key-{number}{{slot}}") } else { format!("key-{number}") }.into_bytes()
    }

    fn value(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let length =
            if random.u8(..) < self.long_odds { random.usize(1000..9000) } else { random.usize(STAMP_BYTES..100) };
        stamped(length, random)
    }
}

fn request<const N: usize>(name: &str, words: [Vec<u8>; N]) -> Vec<Vec<u8>> {
    std::iter::once(name.as_bytes().to_vec()).chain(words).collect()
}

/// What makes a value its own.
const STAMP_BYTES: usize = 16;

/// A value that is like no other, in none of its blocks.
fn stamped(length: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut value = vec![b'.'; length];
    for part in value.chunks_mut(1000) {
        let length = part.len().min(STAMP_BYTES);
        part[..length].copy_from_slice(&format!("{:016x}", random.u64(..)).as_bytes()[..length]);
    }
    value
}
