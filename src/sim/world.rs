//! One seed: a shard's lives, one after the other, on one disk.

use super::{
    disk::{Crashed, Disk},
    model::Model,
    plan::Plan,
    process::Process,
    tally::Tally,
};
use crate::{
    commands::Now,
    shard::Shard,
    store::{Key, Policy, Store, UnixMillis},
    wal::{
        Lsn, Report,
        frame::{FileId, FrameHeader, FrameKind},
    },
};

/// Events of a life at most, but for the last.
const EVENTS_MAX: u32 = 120;
/// Turns within which all is answered and written once nobody asks any more.
const PATIENCE: usize = 5_000;

/// What is there whether a process runs or not.
pub(super) struct World {
    pub(super) disk: Disk,
    pub(super) model: Model,
    pub(super) tally: Tally,
    pub(super) random: fastrand::Rng,
    pub(super) now: Now,
    /// Where the next frame must go on.
    next: Lsn,
}

/// Runs a seed. `shard` is any: making one takes long.
pub(super) fn run(seed: u64, shard: &mut Shard) -> Tally {
    let mut random = fastrand::Rng::with_seed(seed);
    let plan = Plan::new(seed, &mut random);
    shard.store = Store::new(seed, Policy::default());
    shard.core.config.proto_max_bulk_len = plan.value_bytes_max;
    shard.core.config.log_backlog_bytes = plan.backlog_bytes;
    let mut world = World {
        disk: Disk::new(random.fork()),
        model: Model::new(plan.value_bytes_max),
        tally: Tally::default(),
        random,
        now: Now { unix_us: 1_000_000_000_000_000, monotonic_us: 0 },
        next: Lsn(0),
    };
    for life in 1..=plan.lives {
        let is_last = life == plan.lives;
        let events = world.random.u32(1..EVENTS_MAX);
        world.disk.end_after((!is_last).then_some(events));
        let crash = live(&mut world, shard, &plan, events);
        assert_eq!(crash.is_err(), !is_last, "the last life ends well");
        world.end_life(shard);
    }
    world.disk.end_after(None);
    Process::start(&mut world, shard, &plan).map(drop).expect("nothing ends it");
    world.tally.add("frames torn", world.disk.torn);
    world.tally.add("segments used again", world.disk.used_again);
    world.tally.add("commands", world.model.count());
    world.tally
}

/// Lives until the end comes, or in good order after so many turns.
fn live(world: &mut World, shard: &mut Shard, plan: &Plan, turns: u32) -> Result<(), Crashed> {
    let mut process = Process::start(world, shard, plan)?;
    for _ in 0..turns {
        process.turn(world)?;
    }
    process.stop();
    for _ in 0..PATIENCE {
        process.turn(world)?;
        if process.is_over() {
            world.model.is_over();
            assert!(process.is_sealed(world), "a log that ends in good order ends with a seal");
            return Ok(());
        }
    }
    panic!("everyone is answered and all is written");
}

impl World {
    pub(super) fn millis(&self) -> UnixMillis {
        self.now.unix_millis()
    }

    /// A moment, or a moment more.
    pub(super) fn pass_time(&mut self) {
        let us = if self.random.u8(..) < 5 { self.random.u64(..700_000) } else { self.random.u64(..2_000) };
        self.now.unix_us += us;
        self.now.monotonic_us += us;
    }

    /// Notes that a frame is on its way to the disk.
    pub(super) fn handed_over(&mut self, frame: &[u8], file: FileId) {
        let (header, records) = FrameHeader::decode(frame, file).expect("a frame");
        assert_eq!(header.lsn, self.next, "a frame goes on where the last one ended");
        self.next = header.lsn.after(records.len());
        self.tally.note_if(header.kind == FrameKind::Continued, "frames that go on with a record");
    }

    /// Notes that it is there.
    pub(super) fn persisted(&mut self) {
        self.model.persisted(self.next);
    }

    /// Checks what a start found.
    pub(super) fn recovered(&mut self, report: &Report, store: &Store) {
        let lost = self.model.recover(report.end, store, self.millis());
        self.next = report.end;
        self.tally.note("starts");
        self.tally.note_if(report.snapshot.is_some(), "starts from a snapshot");
        self.tally.note_if(report.cut.is_some(), "starts that cut the log");
        self.tally.note_if(0 < lost, "starts without commands that were not on disk");
    }

    /// The process has ended, one way or the other.
    fn end_life(&mut self, shard: &mut Shard) {
        if self.random.u8(..3) != 0 {
            self.disk.lose_power();
            self.tally.note("power failures");
        } else {
            self.disk.end_process();
        }
        // Most servers are back in a moment, and some much later than most keys live.
        let away_us = [1_000_000, 30_000_000][self.random.usize(..2)];
        self.now.unix_us += self.random.u64(..away_us);
        empty(&mut shard.store, &self.model);
    }
}

/// Takes all keys out of a store: quicker than a new one.
fn empty(store: &mut Store, model: &Model) {
    store.log = None;
    model.names().for_each(|name| drop(store.remove(Key::of(name), UnixMillis(0))));
}
