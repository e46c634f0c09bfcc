//! The plan of a seed: servers and cores, how clients ask, how large things are, what the disk does.

use crate::{
    config::{self, Config},
    slot::Slot,
    store::Policy,
    topology::{Server, ShardId, Topology},
    wal::frame::{BLOCK_BYTES, FRAME_BYTES_MAX},
};

/// The longest value of most seeds.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// One seed in so many has values over a frame's size. They take their time.
const BIG_EVERY: u64 = 12;
/// Commands of such a seed that have one.
const BIG_ODDS: u8 = 20;

/// Commands of a transaction at most, and bytes that are sent for them where no value is big.
const QUEUE_MAX: usize = 3;
const QUEUE_BYTES_MAX: usize = 12 << 10;

/// Blocks of a disk that never fills up.
const ROOMY: usize = 1 << 40;

/// A time that no life gets to.
const FAR_AHEAD: &[u8] = b"4000000000000";

/// The seeds that are run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A server of one core.
    OneCore,
    /// A server of some cores.
    Cores,
    /// Three servers of two cores.
    Servers,
}

/// The plan of a seed.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) topology: Topology,
    pub(super) has_topology: bool,
    pub(super) lives: usize,
    /// Clients of each server.
    pub(super) clients: usize,
    pub(super) segment_bytes: usize,
    pub(super) value_bytes_max: usize,
    pub(super) durability: config::Durability,
    pub(super) values: config::Values,
    backlog_bytes: usize,
    output_bytes_max: usize,
    snapshot_bytes: u64,
    memory_max: usize,
    /// Blocks of each core's disk.
    pub(super) blocks: usize,
    /// The disks fail now and then.
    pub(super) has_faults: bool,
    /// Microseconds that a frame takes, and a job, at most: either may be the slower.
    pub(super) frame_us: u64,
    pub(super) job_us: u64,
    /// Microseconds between two requests of a client, on average.
    pub(super) think_us: u64,
    /// Microseconds that pass with each look at the clock.
    pub(super) look_us: u64,
    /// The longest life, in microseconds.
    pub(super) life_us: u64,
    /// All keys.
    keys: Vec<Known>,
    /// Of 256 values, how many have several blocks.
    long_odds: u8,
    has_big_values: bool,
}

/// A key, its slot, and the slot's owner.
#[derive(Clone, Debug)]
struct Known {
    name: Vec<u8>,
    slot: Slot,
    owner: ShardId,
}

/// The other end of a client's connection: a server's gateway, or a core.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) server: usize,
    pub(super) core: Option<usize>,
}

impl Plan {
    pub(super) fn new(kind: Kind, seed: u64, random: &mut fastrand::Rng) -> Self {
        let has_big_values = kind != Kind::Servers && seed % BIG_EVERY == BIG_EVERY - 1;
        let (servers, cores) = match kind {
            Kind::OneCore => (1, 1),
            Kind::Cores => (1, random.u16(2..=3)),
            Kind::Servers => (3, 2),
        };
        let topology = topology(servers, cores);
        // A frame, its seal, the header, and some room for commands.
        let small = FRAME_BYTES_MAX + random.usize(40..100) * BLOCK_BYTES;
        let (mut durability, mut values) = (config::Durability::Always, config::Values::Memory);
        let (mut memory_max, mut blocks, mut has_faults) = (0, ROOMY, false);
        match random.u8(..16) {
            0 => durability = config::Durability::None,
            1..4 => durability = config::Durability::Interval,
            _ => {}
        }
        if durability != config::Durability::None && random.u8(..4) == 0 {
            values = config::Values::Disk;
        }
        match random.u8(..16) {
            0 => memory_max = random.usize(20_000..200_000),
            1..4 => blocks = small / BLOCK_BYTES * random.usize(3..7) + random.usize(..300),
            4..6 => {
                has_faults = true;
                // So that values go away, and reads of them fail.
                memory_max = if random.bool() { random.usize(20_000..200_000) } else { 0 };
            }
            _ => {}
        }
        let names = if random.u8(..4) == 0 { random.usize(100..250) } else { random.usize(4..40) };
        // The longer a life, the longer clients think: as much happens in each.
        let (life_us, events) = match kind {
            Kind::Servers => ([20_000, 100_000, 500_000, 4_000_000][random.usize(..4)], [8, 40][random.usize(..2)]),
            _ => ([100_000, 1_000_000, 10_000_000][random.usize(..3)], [20, 100][random.usize(..2)]),
        };
        let think_us = life_us / events;
        Self {
            lives: if kind == Kind::Servers { random.usize(1..=2) } else { random.usize(2..=6) },
            clients: if kind == Kind::Servers { 2 } else { random.usize(1..=4) },
            segment_bytes: if has_big_values { 2 * FRAME_BYTES_MAX + small } else { small },
            value_bytes_max: if has_big_values { 4 << 20 } else { VALUE_BYTES_MAX },
            durability,
            values,
            backlog_bytes: [12 << 10, 100 << 10][random.usize(..2)],
            output_bytes_max: if random.bool() { 2000 } else { 1 << 20 },
            snapshot_bytes: random.u64(1..6) << 19,
            memory_max,
            blocks,
            has_faults,
            frame_us: [500, 5_000, 30_000, 120_000][random.usize(..4)],
            job_us: [500, 10_000, 100_000, 400_000][random.usize(..4)],
            think_us,
            look_us: [1, 1, 30, 3_000][random.usize(..4)],
            life_us,
            keys: keys(names, &topology),
            has_topology: 1 < servers,
            topology,
            long_odds: [10, 80, 160][random.usize(..3)],
            has_big_values,
        }
    }

    /// Returns what a reader of a trace wants to know.
    pub(super) fn summary(&self) -> String {
        let Self { durability, values, memory_max, lives, clients, frame_us, job_us, think_us, .. } = self;
        let (cores, blocks) = (self.topology.shards().count(), if self.is_small() { self.blocks } else { 0 });
        format!(
            "{cores} cores, {durability:?}, {values:?}, memory {memory_max}, blocks {blocks}, faults {}, big {}, lives {lives}, \
             clients {clients}, frame {frame_us}, job {job_us}, think {think_us}",
            self.has_faults, self.has_big_values
        )
    }

    /// Applies what this is about to a core's settings.
    pub(super) fn configure(&self, config: &mut Config) {
        config.durability = Some(self.durability);
        config.values = self.values;
        config.log_segment_bytes = self.segment_bytes;
        config.proto_max_bulk_len = self.value_bytes_max;
        config.log_backlog_bytes = self.backlog_bytes;
        config.output_soft_limit = self.output_bytes_max;
        config.snapshot_log_bytes = self.snapshot_bytes;
        config.gateway_in_flight = 32;
    }

    /// The limit of a core's memory, and what is done about it.
    pub(super) fn policy(&self) -> Policy {
        let eviction = if self.memory_max == 0 { config::Eviction::None } else { config::Eviction::Lfu };
        let memory_max = match self.values {
            config::Values::Memory => self.memory_max,
            config::Values::Disk => 100_000,
        };
        Policy { memory_max, eviction, counts_uses: memory_max != 0, ..Policy::default() }
    }

    /// Returns true if disks may fill up.
    pub(super) fn is_small(&self) -> bool {
        self.blocks < ROOMY
    }

    pub(super) fn cores(&self) -> usize {
        self.topology.servers()[0].cores.into()
    }

    pub(super) fn owner(&self, key: &[u8]) -> ShardId {
        self.topology.owner(Slot::of(key))
    }

    /// Returns where a client connects next.
    pub(super) fn target(&self, server: usize, random: &mut fastrand::Rng) -> Target {
        Target { server, core: (random.u8(..3) == 0).then(|| random.usize(..self.cores())) }
    }

    /// Random requests: one, or those of a transaction.
    pub(super) fn requests(&self, target: Target, random: &mut fastrand::Rng) -> Vec<Vec<Vec<u8>>> {
        let keys = Keys::new(self, target, random);
        let mut commands: Vec<_> = (0..random.usize(1..=QUEUE_MAX)).map(|_| self.command(keys, random)).collect();
        let bytes: usize = commands.iter().flatten().map(Vec::len).sum();
        if random.u8(..) < 190 || (QUEUE_BYTES_MAX < bytes && !self.has_big_values) {
            commands.truncate(1);
            return commands;
        }
        for command in &mut commands {
            if command[0] == b"BGSAVE" {
                *command = request("PING", []);
            }
        }
        commands.insert(0, request("MULTI", []));
        commands.push(request("EXEC", []));
        if random.bool() {
            commands.insert(0, request("WATCH", [self.key(keys, random)]));
            // Another client's command may come before or behind this one.
            if random.bool() {
                commands.insert(1, self.command(keys, random));
            }
        }
        commands
    }

    fn command(&self, keys: Keys, random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
        if self.has_big_values && random.u8(..) < BIG_ODDS {
            return big_command(random);
        }
        let odds = random.u8(..);
        let (key, other) = (self.key(keys, random), self.key(keys, random));
        let lifetime = ["2", "20", "400", "5000"][random.usize(..4)].as_bytes().to_vec();
        match odds {
            0..50 => request("SET", [key, self.value(random)]),
            50..60 => request("SET", [key, self.value(random), b"PX".to_vec(), lifetime]),
            60..66 => request("SET", [key, self.value(random), b"NX".to_vec()]),
            66..120 => request("GET", [key]),
            120..140 => request("INCR", [number(&key, random)]),
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
            200..214 => request("MSET", [key, self.value(random), other, self.value(random)]),
            214..218 => self.many(keys, random),
            218..232 => request("RENAME", [key, other]),
            232..243 => request("MGET", [key, other, self.key(keys, random)]),
            243..252 => request("BGSAVE", []),
            // These two walk along all slots: rarely.
            252.. if random.u8(..8) == 0 => request("KEYS", [key]),
            252.. if random.u8(..8) == 0 => request("FLUSHALL", []),
            252.. => request("PING", []),
        }
    }

    /// An MSET of many keys.
    fn many(&self, keys: Keys, random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
        let mut words = request("MSET", []);
        for _ in 0..random.usize(2..40) {
            words.push(self.key(keys, random));
            words.push(stamped(random.usize(STAMP_BYTES..100), random));
        }
        words
    }

    fn key(&self, keys: Keys, random: &mut fastrand::Rng) -> Vec<u8> {
        let mut key = &self.keys[random.usize(..self.keys.len())];
        for _ in 0..20 {
            let is_wanted = match keys {
                Keys::Any => true,
                Keys::OfSlot(slot) => key.slot == slot,
                Keys::OfServer(server) => usize::from(key.owner.server) == server,
            };
            if is_wanted {
                break;
            }
            key = &self.keys[random.usize(..self.keys.len())];
        }
        key.name.clone()
    }

    fn value(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let length =
            if random.u8(..) < self.long_odds { random.usize(1000..40_000) } else { random.usize(STAMP_BYTES..100) };
        stamped(length, random)
    }
}

/// The keys that a client asks for next.
#[derive(Clone, Copy, Debug)]
enum Keys {
    Any,
    OfServer(usize),
    OfSlot(Slot),
}

impl Keys {
    fn new(plan: &Plan, target: Target, random: &mut fastrand::Rng) -> Self {
        // Most know where they have to ask, and that keys belong together.
        let is_mine = |owner: ShardId| {
            usize::from(owner.server) == target.server && target.core.is_none_or(|core| usize::from(owner.core) == core)
        };
        let mine: Vec<_> = plan.keys.iter().filter(|key| is_mine(key.owner)).collect();
        match random.u8(..16) {
            0 => Self::Any,
            1..4 if target.core.is_none() => Self::OfServer(target.server),
            _ if mine.is_empty() => Self::Any,
            _ => Self::OfSlot(mine[random.usize(..mine.len())].slot),
        }
    }
}

fn topology(servers: u16, cores: u16) -> Topology {
    let server = |number: u16| Server {
        name: format!("s{number}"),
        host: "127.0.0.1".into(),
        port: 7000 + 100 * number,
        core_port: 7001 + 100 * number,
        cores,
    };
    Topology::plan((0..servers).map(server).collect()).expect("these servers fit together")
}

/// Most keys share their slot with others, so that its table grows and shrinks.
fn keys(count: usize, topology: &Topology) -> Vec<Known> {
    let groups = 2 * topology.shards().count();
    let name = |number: usize| match number % 4 {
        0 => format!("key-{number}"),
        _ => format!("key-{number}{{slot-{}}}", number % groups),
    };
    let known = |name: Vec<u8>| {
        let slot = Slot::of(&name);
        Known { name, slot, owner: topology.owner(slot) }
    };
    (0..count).map(|number| known(name(number).into_bytes())).collect()
}

fn big_command(random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let mut big = || stamped(random.usize(FRAME_BYTES_MAX / 2..FRAME_BYTES_MAX * 5 / 2), random);
    match big() {
        value if value.len() % 2 == 0 => request("SET", [b"big-a{big}".to_vec(), value]),
        value => request("MSET", [b"big-a{big}".to_vec(), value, b"big-b{big}".to_vec(), big()]),
    }
}

/// A number beside a key.
fn number(key: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let tag = key.iter().position(|&byte| byte == b'{').unwrap_or(key.len());
    [format!("number-{}", random.u8(..3)).as_bytes(), &key[tag..]].concat()
}

fn request<const N: usize>(name: &str, words: [Vec<u8>; N]) -> Vec<Vec<u8>> {
    std::iter::once(name.as_bytes().to_vec()).chain(words).collect()
}

/// Bytes that make a value its own.
const STAMP_BYTES: usize = 16;

/// A value that is like no other, in none of its blocks.
fn stamped(length: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut value = vec![b'.'; length];
    for part in value.chunks_mut(4000) {
        let length = part.len().min(STAMP_BYTES);
        part[..length].copy_from_slice(&format!("{:016x}", random.u64(..)).as_bytes()[..length]);
    }
    value
}
