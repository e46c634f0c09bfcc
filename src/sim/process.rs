//! A server's process from its start to its end: `io::shard` and `io::shard::durable` for one core, turn by turn.

use super::{
    client::Connection,
    disk::Crashed,
    files::{self, DIRECTORY, Done, Job, Layout, SHARD},
    plan::Plan,
    snapshot::Snapshot,
    world::World,
    writer::{Next, Writer},
};
use crate::{
    commands::Persistence,
    resp::Decoder,
    shard::Shard,
    wait::Wait,
    wal::{
        Log, Lsn, Recovery, Report, Step,
        frame::{FileId, FileKind},
    },
};
use std::collections::VecDeque;

const TICK_US: u64 = 10_000;
const SWEEP_ENTRIES: usize = 5;
/// Past all slots and keys: a start that takes long has many ticks.
const SWEEP_ENTRIES_LOADING: usize = 1_100;

/// What happens outside of a process and is seen by its next turn.
#[derive(Clone, Copy)]
enum Event {
    Written,
    Sent(usize),
    Received(usize),
}

/// A process.
pub(super) struct Process<'a> {
    shard: &'a mut Shard,
    plan: Plan,
    layout: Layout,
    writer: Writer,
    snapshot: Option<Snapshot>,
    jobs: VecDeque<Job>,
    pub(super) connections: Vec<Connection>,
    decoder: Decoder,
    /// Connections with replies that wait, by what they wait for.
    held: VecDeque<(Lsn, usize)>,
    touched: Vec<usize>,
    was_stalled: bool,
    is_stopping: bool,
    next_tick_us: u64,
}

impl<'a> Process<'a> {
    /// Starts on what the disk has. The shard is empty.
    pub(super) fn start(world: &mut World, shard: &'a mut Shard, plan: &Plan) -> Result<Self, Crashed> {
        assert!(shard.store.is_empty(), "what survives a restart is on disk");
        shard.core.persistence = Persistence::default();
        files::remove_unfinished(&mut world.disk)?;
        let list = files::list(&world.disk);
        let mut recovery = Recovery::new(DIRECTORY, SHARD, list.clone(), false);
        while let Step::Read { file, offset, length } = recovery.step().expect("nothing on disk is damaged") {
            world.disk.event()?;
            // Between two reads the main loop goes on: clients are told to wait, and what is due now and then is done.
            world.pass_time();
            Self::tick(world, shard, SWEEP_ENTRIES_LOADING);
            let now = world.millis();
            let bytes = world.disk.read(world.disk.open(&list[file].name), offset as usize, length);
            let given = recovery.give(bytes, &mut |record| shard.store.apply(record, now));
            given.expect("nothing on disk is damaged");
        }
        shard.store.end_loading();
        let report = recovery.report().clone();
        world.recovered(&report, &shard.store);
        let bytes = list.iter().rfind(|file| file.kind == FileKind::Snapshot).map_or(0, |file| file.bytes);
        shard.core.persistence.snapshot_bytes = bytes;
        let layout = Layout { segment_bytes: plan.segment_bytes };
        let writer = Self::begin_log(world, shard, layout, &report)?;
        Ok(Self {
            shard,
            plan: plan.clone(),
            layout,
            writer,
            snapshot: None,
            jobs: VecDeque::new(),
            connections: (0..plan.clients).map(|_| Connection::new(plan)).collect(),
            decoder: Decoder::default(),
            held: VecDeque::new(),
            touched: Vec::new(),
            was_stalled: false,
            is_stopping: false,
            next_tick_us: 0,
        })
    }

    fn begin_log(world: &mut World, shard: &mut Shard, layout: Layout, report: &Report) -> Result<Writer, Crashed> {
        let id = FileId(world.random.u64(..));
        let unused = report.segments.iter().filter(|(_, first)| first.is_none());
        layout.release(&mut world.disk, &unused.map(|(number, _)| *number).collect::<Vec<_>>())?;
        let active = layout.prepare(&mut world.disk, report.next_segment, id, report.end)?;
        let older = report.segments.iter().filter_map(|&(number, first)| Some((number, first?)));
        let writer = Writer::new(layout, (active, report.end), older, world.millis().0);
        shard.core.persistence.log_bytes = writer.used_bytes();
        shard.store.log = Some(Box::new(Log::new(report.end, true)));
        Ok(writer)
    }

    /// One round of the main loop, and perhaps a job of the blocking thread.
    pub(super) fn turn(&mut self, world: &mut World) -> Result<(), Crashed> {
        world.disk.event()?;
        world.pass_time();
        self.take_events(world);
        if self.next_tick_us <= world.now.monotonic_us {
            self.next_tick_us = world.now.monotonic_us + TICK_US;
            Self::tick(world, self.shard, SWEEP_ENTRIES);
        }
        self.settle(world);
        self.write_to_files(world);
        if world.random.u8(..) < self.plan.job_odds
            && let Some(job) = self.jobs.pop_front()
        {
            match self.layout.run(job, &mut world.disk)? {
                Done::Prepared(segment) => self.writer.next = Next::Ready(segment),
                Done::Released => {}
                done => self.snapshot.as_mut().expect("there is one at hand").outcome = Some(done),
            }
        }
        Ok(())
    }

    fn tick(world: &mut World, shard: &mut Shard, entries: usize) {
        let removed = shard.store.sweep(entries, world.millis());
        world.tally.note_if(0 < removed, "sweeps of expired keys");
        if let Some(log) = &shard.store.log {
            world.model.note_expiries(log.end());
        }
        shard.store.bury(SWEEP_ENTRIES);
    }

    /// Has no more clients, writes what there is, and seals it.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Whether the last frame of the log is a seal, where there is one.
    pub(super) fn is_sealed(&self, world: &World) -> bool {
        self.writer.ends_with_seal(world)
    }

    /// Whether everything is written and everyone has been answered.
    pub(super) fn is_over(&self) -> bool {
        let log = self.shard.store.log.as_ref().expect("a process has a log");
        self.writer.is_quiet(log) && self.connections.iter().all(Connection::is_served)
    }

    fn take_events(&mut self, world: &mut World) {
        let mut events = Vec::new();
        if world.disk.is_writing() && world.random.u8(..) < self.plan.write_odds {
            events.push(Event::Written);
        }
        for (place, connection) in self.connections.iter_mut().enumerate() {
            if !self.is_stopping {
                connection.ask(world);
            }
            if connection.is_sending && world.random.u8(..) < 200 {
                events.push(Event::Sent(place));
            }
            if !connection.is_paused && connection.has_sent_something() && world.random.u8(..) < 200 {
                events.push(Event::Received(place));
            }
        }
        world.random.shuffle(&mut events);
        for event in events {
            match event {
                Event::Written => self.log_written(world),
                Event::Sent(place) => {
                    let connection = &mut self.connections[place];
                    connection.is_sending = false;
                    if !connection.session.output.is_empty() || connection.session.has_unread() {
                        self.touch(place);
                    }
                }
                Event::Received(place) => {
                    let bytes = self.connections[place].arrived(&mut world.random);
                    self.receive(world, place, &bytes);
                }
            }
        }
    }

    fn receive(&mut self, world: &mut World, place: usize, bytes: &[u8]) {
        self.connections[place].receive(world, self.shard, &mut self.decoder, bytes);
        self.touch(place);
    }

    fn touch(&mut self, place: usize) {
        if !std::mem::replace(&mut self.connections[place].is_touched, true) {
            self.touched.push(place);
        }
    }

    fn settle(&mut self, world: &mut World) {
        for place in std::mem::take(&mut self.touched) {
            self.settle_one(world, place);
        }
    }

    fn settle_one(&mut self, world: &mut World, place: usize) {
        let connection = &mut self.connections[place];
        connection.is_touched = false;
        if !connection.is_sending
            && let Some(output) = connection.session.take_output(self.shard.committed())
        {
            connection.is_sending = true;
            connection.take(world, &output);
        }
        if let Some(lsn) =
            connection.session.held_until().map(Wait::position).filter(|&lsn| lsn != connection.held_until)
        {
            connection.held_until = lsn;
            self.held.push_back((lsn, place));
        }
        let is_stalled = self.shard.is_stalled();
        let is_blocked = is_stalled || connection.session.is_blocked(&connection.backpressure);
        if !is_blocked && connection.session.has_unread() && connection.session.has_waited {
            connection.session.has_waited = false;
            self.receive(world, place, &[]);
            return;
        }
        world.tally.note_if(is_stalled, "stalls for the log");
        world.tally.note_if(is_blocked && !is_stalled, "sessions that were blocked");
        connection.is_paused = is_blocked;
    }

    fn write_to_files(&mut self, world: &mut World) {
        // Before a frame is taken, which may end it: connections have been paused already.
        self.was_stalled |= self.shard.is_stalled();
        let log = self.shard.store.log.as_mut().expect("a process has a log");
        self.writer.write(world, log, &mut self.jobs, self.is_stopping);
        self.shard.core.persistence.log_bytes = self.writer.used_bytes();
        self.save(world);
    }

    fn log_written(&mut self, world: &mut World) {
        world.disk.complete();
        let log = self.shard.store.log.as_mut().expect("a process has a log");
        self.writer.written(world, log);
        let committed = log.committed();
        while let Some((_, place)) = self.held.pop_front_if(|(lsn, _)| *lsn <= committed) {
            self.touch(place);
        }
        if self.was_stalled && !self.shard.is_stalled() {
            self.was_stalled = false;
            for place in 0..self.connections.len() {
                if self.connections[place].is_paused || self.connections[place].session.has_waited {
                    self.touch(place);
                }
            }
        }
    }

    /// Begins a snapshot where one is wanted or due, and goes on with the one at hand.
    fn save(&mut self, world: &mut World) {
        let log = self.shard.store.log.as_ref().expect("a process has a log");
        let (end, persisted) = (log.end(), log.persisted_end());
        let persistence = &mut self.shard.core.persistence;
        let Some(snapshot) = &mut self.snapshot else {
            let (after, grown) = (3 * self.layout.segment_bytes as u64, persistence.log_bytes);
            let is_due = after <= grown && persistence.snapshot_bytes <= grown;
            if is_due || world.random.u8(..) == 0 {
                let id = FileId(world.random.u64(..));
                self.snapshot = Some(Snapshot::begin(end, id, &mut self.jobs));
            }
            return;
        };
        let Some(bytes) = snapshot.advance(world, &self.shard.store, (end, persisted), &mut self.jobs) else { return };
        let since = snapshot.since;
        self.snapshot = None;
        persistence.snapshot_bytes = bytes as u64;
        world.tally.note("snapshots taken");
        let release = self.writer.release_before(since);
        persistence.log_bytes = self.writer.used_bytes();
        self.jobs.push_back(release);
    }
}
