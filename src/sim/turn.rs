//! A core's turn: what has happened goes to its engine, and what that wants done is done, as by the driver of a real core.

use super::{
    clock,
    conversation::{self, At, Excuses},
    core::{Arrival, Life},
    server::State,
    trace::{self, trace},
    world::{Event, World},
};
use crate::{
    engine::{Action, End, Event as Told, Rest},
    store::UnixMillis,
    wal::{Done, Lsn, files::Files, frame::FileKind, names},
    witness::{self, Note},
};
use std::{mem, sync::Arc};

/// The time between two ticks, and for a core that is idle.
const TICK_US: u64 = 10_000;
const IDLE_TICK_US: u64 = 250_000;
/// The time that a core needs to wake up, at most.
const WAKE_US: u64 = 200;
/// The time that the read of a value takes, at most.
const READ_US: u64 = 2_000;

impl World {
    /// Something arrives at a core.
    pub(super) fn arrive(&mut self, server: usize, core: usize, arrival: Arrival) {
        let Some(life) = &mut self.servers[server].cores[core].life else { return };
        life.arrivals.push_back(arrival);
        let us = self.delay(WAKE_US);
        self.wake(server, core, us);
    }

    /// Has a core have a turn so much later, or earlier.
    pub(super) fn wake(&mut self, server: usize, core: usize, us: u64) {
        let Some(life) = &mut self.servers[server].cores[core].life else { return };
        let at_us = clock::now_us() + us;
        if life.turn_at.is_none_or(|other| at_us < other) {
            life.turn_at = Some(at_us);
            self.after(server, us, Event::Turn(core));
        }
    }

    /// A core has a turn.
    pub(super) fn turn(&mut self, server: usize, core: usize) {
        let Some(life) = &mut self.servers[server].cores[core].life else { return };
        // It may have had one earlier.
        if life.has_ended || life.turn_at.is_none_or(|at_us| clock::now_us() < at_us) {
            return;
        }
        life.turn_at = None;
        let number = self.servers[server].life;
        life_of(self, server, core).begin_turn();
        let mut is_idle = true;
        if self.servers[server].state == State::Stopping {
            let is_drained = self.servers[server].drained == self.servers[server].cores.len();
            self.tell(server, core, if is_drained { Told::Drained } else { Told::Stop });
        }
        self.load(server, core);
        let mut arrived = Vec::new();
        while let Some(arrival) = life_of(self, server, core).arrivals.pop_front() {
            is_idle = false;
            self.note_ready(server, core);
            match arrival {
                Arrival::Connection(client, number, is_handed_over) => arrived.push((client, number, is_handed_over)),
                arrival => self.take(server, core, arrival),
            }
        }
        self.note_ready(server, core);
        for (client, number, is_handed_over) in arrived {
            self.accept(server, core, (client, number), is_handed_over);
        }
        let has_more = life_of(self, server, core).engine.end_turn(is_idle);
        self.interpret(server, core);
        if self.has_ended(server, core) {
            return self.crash(server, "in the middle of a turn");
        }
        self.perform(server, core);
        if self.servers[server].life != number || self.servers[server].cores[core].life.is_none() {
            return;
        }
        let life = life_of(self, server, core);
        let us = if has_more || !is_idle {
            1
        } else if life.engine.rest(true) == Rest::Idle {
            IDLE_TICK_US
        } else {
            TICK_US
        };
        self.wake(server, core, us);
    }

    /// Reads on in the core's files.
    fn load(&mut self, server: usize, core: usize) {
        let one = &mut self.servers[server].cores[core];
        let files = one.files.clone();
        let Some(life) = &mut one.life else { return };
        life.engine.load(|_, file, offset, buffer| files.read_to(&file.name, offset, buffer));
    }

    /// Tells an engine that every core of its server has read its files.
    fn note_ready(&mut self, server: usize, core: usize) {
        if self.servers[server].is_ready() && life_of(self, server, core).engine.is_loading() {
            self.tell(server, core, Told::Ready);
        }
    }

    /// Gives an event to an engine, and notes what it has executed.
    fn tell(&mut self, server: usize, core: usize, event: Told<'_>) {
        life_of(self, server, core).engine.handle(event);
        self.interpret(server, core);
    }

    fn take(&mut self, server: usize, core: usize, arrival: Arrival) {
        match arrival {
            Arrival::Received(id, bytes) => {
                trace!("{server}.{core}  received {}.{} {} bytes", id.place, id.generation, bytes.len());
                // Of a connection that was closed meanwhile nothing is shown.
                if life_of(self, server, core).client(id).is_some() {
                    life_of(self, server, core).engine.handle(Told::Coming(&bytes));
                    self.tell(server, core, Told::Received(id, &bytes));
                }
            }
            Arrival::Sent(id) => self.tell(server, core, Told::Sent(id)),
            Arrival::Ended(id) => self.tell(server, core, Told::Ended(id)),
            Arrival::Failed(id) => self.tell(server, core, Told::Failed(id)),
            // Once a log of this server could not be written, what its disks say is not believed any more.
            Arrival::Written(..) if self.servers[server].has_failed => {}
            Arrival::Written(buffer, outcome) => {
                trace!("{server}.{core}  written {outcome:?}");
                self.servers[server].has_failed |= outcome.is_err();
                self.tell(server, core, Told::Written(buffer, outcome));
            }
            Arrival::Read(token, buffer, outcome) => self.tell(server, core, Told::Read(token, buffer, outcome)),
            Arrival::JobDone(desk, outcome) => {
                trace!("{server}.{core}  job of {desk:?} is done: {}", trace::short(format!("{outcome:?}").as_bytes()));
                self.tell(server, core, Told::JobDone(desk, outcome));
            }
            Arrival::Message(from, message) => {
                trace!("{server}.{core}  message of {from}: {}", trace::short(format!("{message:?}").as_bytes()));
                self.tell(server, core, Told::Message(from, message));
            }
            Arrival::Connection(..) => unreachable!("connections are accepted"),
        }
    }

    /// Has the models do what a core has executed.
    fn interpret(&mut self, server: usize, core: usize) {
        let mut owner = None;
        if self.has_ended(server, core) {
            // Nothing of it leaves any more.
            witness::take();
            return;
        }
        for note in witness::take() {
            let mut ends = None;
            match note {
                Note::Answered(place, executed) => {
                    ends = Some(executed.log);
                    let client = life_of(self, server, core).places[place].client;
                    self.with(server, core, client, |conversation, at| match conversation {
                        Some(conversation) => conversation.answered(&executed, at),
                        None => unreachable!("nothing is executed for a client that is gone"),
                    });
                }
                Note::Away(place, ticket) => {
                    let life = life_of(self, server, core);
                    let client = life.places[place].client.expect("somebody has asked");
                    self.clients[client].conversation.passed_on(ticket);
                    owner = Some((Some(client), ticket));
                }
                Note::For(from, (place, generation), ticket) => {
                    let id = crate::engine::ConnectionId::new(place, generation);
                    let life = life_of(self, server, from);
                    let client = life.client(id);
                    owner = Some((client, ticket));
                }
                Note::Passed(executed) => {
                    ends = Some(executed.log);
                    let (client, ticket) = owner.expect("somebody has asked for it");
                    self.with(server, core, client, |conversation, at| match conversation {
                        Some(conversation) => conversation.executed_part(ticket, &executed, at),
                        None => conversation::execute_for_nobody(&executed, at),
                    });
                }
                Note::Failed(Some(place)) => {
                    let client = life_of(self, server, core).places[place].client.expect("somebody has asked");
                    self.clients[client].conversation.failed();
                }
                Note::Failed(None) => {
                    let Some((Some(client), ticket)) = owner else { continue };
                    self.clients[client].conversation.failed_part(ticket);
                }
                Note::Evicted(key, end) => {
                    self.tally.note("keys evicted");
                    self.servers[server].models[core].evict(&key, Lsn(end));
                }
                Note::Swept(key, end) => {
                    self.tally.note("keys swept");
                    self.servers[server].models[core].evict(&key, Lsn(end));
                }
            }
            if let Some((_, end)) = ends.filter(|(before, end)| before < end) {
                self.servers[server].models[core].note_expiries(Lsn(end));
            }
        }
        let one = &mut self.servers[server];
        let log = one.cores[core].life().engine.shard().store.log.as_ref();
        one.models[core].check_end(log.map(|log| log.end()));
    }

    /// Returns true if the process has ended between two operations on a core's disk.
    fn has_ended(&self, server: usize, core: usize) -> bool {
        self.servers[server].cores[core].files.has_ended()
    }

    fn with(
        &mut self,
        server: usize,
        core: usize,
        client: Option<usize>,
        act: impl FnOnce(Option<&mut conversation::Conversation>, &mut At<'_>),
    ) {
        let Self { servers, clients, plan, tally, .. } = self;
        let one = &mut servers[server];
        let excuses = Excuses {
            is_loading: one.cores[core].life().engine.is_loading() || !one.is_ready(),
            may_lack_room: plan.has_faults || plan.is_small(),
            may_lack_memory: plan.policy().memory_max != 0,
        };
        let target = client.map_or(super::plan::Target { server, core: None }, |client| clients[client].target);
        let model = &mut one.models[core];
        let mut at = At { plan, target, core, model, excuses, tally };
        act(client.map(|client| &mut clients[client].conversation), &mut at);
    }

    /// Does what an engine wants done.
    fn perform(&mut self, server: usize, core: usize) {
        let number = self.servers[server].life;
        for action in mem::take(&mut life_of(self, server, core).engine.actions) {
            self.perform_one(server, core, action);
            if self.servers[server].life != number || self.servers[server].cores[core].life.is_none() {
                return;
            }
        }
    }

    fn perform_one(&mut self, server: usize, core: usize, action: Action) {
        match action {
            Action::Send(id, bytes) => {
                trace!("{server}.{core}  send {}.{} {} bytes", id.place, id.generation, bytes.len());
                self.leave(server, core, id, &bytes);
            }
            Action::Pause(id) => {
                trace!("{server}.{core}  pause {}.{}", id.place, id.generation);
                self.tally.note("connections paused");
                life_of(self, server, core).places[id.place()].is_paused = true;
            }
            Action::Resume(id) => {
                trace!("{server}.{core}  resume {}.{}", id.place, id.generation);
                let life = life_of(self, server, core);
                life.places[id.place()].is_paused = false;
                let place = &life.places[id.place()];
                if let Some(client) = place.client {
                    self.send(client);
                }
            }
            Action::Close(id) | Action::Reset(id) => {
                trace!("{server}.{core}  close {}.{}", id.place, id.generation);
                self.closed(server, core, id);
            }
            Action::ShutDownWrites(_) | Action::AcceptAgain(_) | Action::StopListening => {}
            Action::Post(to, message) => self.post(server, core, to, message),
            Action::MeasureProcess => {
                let cpu = crate::commands::CpuTimes::default();
                self.tell(server, core, Told::Measured { resident_bytes: 0, cpu });
            }
            Action::Loaded => {
                let one = &mut self.servers[server];
                let life = one.cores[core].life();
                one.models[core].adopt_without_log(&life.engine.shard().store);
                one.loaded += 1;
                if one.is_ready() {
                    for core in 0..one.cores.len() {
                        self.wake(server, core, 1);
                    }
                    self.server_is_ready(server);
                }
            }
            Action::StopServer => unreachable!("nobody asks for that"),
            Action::Drained => {
                self.servers[server].drained += 1;
                for core in 0..self.servers[server].cores.len() {
                    self.wake(server, core, 1);
                }
            }
            Action::End(end) => self.end(server, core, end),
            action => self.perform_on_files(server, core, action),
        }
    }

    fn end(&mut self, server: usize, core: usize, end: End) {
        trace!("{server}.{core}  ends: {end:?}");
        if let End::Finished = end {
            return self.core_is_over(server, core);
        }
        let has_ended = self.servers[server].cores.iter().any(|core| core.files.has_ended());
        let has_no_log = !self.servers[server].cores[core].has_log;
        let lacks_room = has_no_log && self.plan.is_small() && matches!(end, End::Unusable(_));
        assert!(has_ended || self.plan.has_faults || lacks_room, "a core ends: {end:?}");
        assert!(!matches!(end, End::Damaged(_)), "nothing on disk is damaged: {end:?}");
        self.tally.note("processes that gave up");
        self.crash(server, "since it gave up");
    }

    fn perform_on_files(&mut self, server: usize, core: usize, action: Action) {
        let files = self.servers[server].cores[core].files.clone();
        match action {
            Action::Write { segment, offset, buffer, length } => {
                let life = life_of(self, server, core);
                files.submit(&life.segments[&segment].0, offset, &buffer.bytes()[..length]);
                let is_continued = life.hand_over(segment, buffer, length);
                self.tally.note_if(is_continued, "frames that go on with a record");
                self.tally.note("frames");
                let us = self.delay(self.plan.frame_us);
                self.after(server, us, Event::Frame(core));
            }
            Action::Read { segment, offset, mut buffer, length, token } => {
                self.tally.note("values read");
                let life = life_of(self, server, core);
                let file = match life.open.get(&segment) {
                    Some(file) => Ok(Arc::clone(file)),
                    None => files.open(&names::name_of(FileKind::Segment, segment.into())).map(Arc::new),
                };
                let outcome = file.and_then(|file| {
                    life.open.insert(segment, Arc::clone(&file));
                    files.read_at(&file, &mut buffer.bytes_mut()[..length], offset).map(|()| length)
                });
                let us = self.delay(READ_US);
                self.after(server, us, Event::Arrive(core, Arrival::Read(token, buffer, outcome)));
            }
            Action::CloseSegment(segment) => drop(life_of(self, server, core).open.remove(&segment)),
            Action::Start(desk, job) => {
                trace!("{server}.{core}  start {}", trace::short(format!("{job:?}").as_bytes()));
                let life = life_of(self, server, core);
                life.jobs.push_back((desk, job));
                if !mem::replace(&mut life.is_working, true) {
                    self.work(server, core);
                }
            }
            other => unreachable!("{other:?} has nothing to do with files"),
        }
    }

    /// A core's blocking thread goes on with its next job.
    fn work(&mut self, server: usize, core: usize) {
        let us = self.delay(self.plan.job_us);
        self.after(server, us, Event::Job(core));
    }

    /// A core's next job is done.
    pub(super) fn do_job(&mut self, server: usize, core: usize) {
        let mut ends_soon = false;
        let (desk, outcome) = {
            let Self { servers, tally, random, .. } = self;
            let one = &mut servers[server];
            let (model, doom, one) = (&mut one.models[core], &mut one.doom, &mut one.cores[core]);
            let Some(life) = &mut one.life else { return };
            let Some((desk, job)) = life.jobs.pop_front() else { return };
            match doom {
                // In the middle of it, or soon behind it, while a frame may be under way.
                Some((other, 0)) if *other == desk && random.bool() => one.files.end_after(Some(random.u32(..8))),
                Some((other, 0)) if *other == desk => ends_soon = true,
                Some((other, left)) if *other == desk => *left -= 1,
                _ => {}
            }
            let (outcome, file) = job.perform(life.layout.as_ref().expect("a life has files"));
            let segment = match &outcome {
                Ok(Done::Segment(segment)) => Some(segment),
                Ok(Done::LogBegun(begun)) => {
                    one.has_log = true;
                    let (end, report) = (begun.report.end, &begun.report);
                    life.begin_log(end);
                    life.is_sealed = begun.is_sealed;
                    let now = UnixMillis(clock::now(life.began_us).unix_millis().0);
                    let lost = model.recover(end, &life.engine.shard().store, now);
                    tally.note_if(report.snapshot.is_some(), "starts from a snapshot");
                    tally.note_if(report.cut.is_some(), "starts that cut the log");
                    tally.note_if(0 < lost, "starts without commands that were not on disk");
                    tally.note_if(!report.hinted.is_empty(), "starts from hints");
                    Some(&begun.active)
                }
                Ok(Done::Finished(_)) => {
                    tally.note("snapshots taken");
                    None
                }
                Ok(_) | Err(_) => None,
            };
            if let (Some(segment), Some(file)) = (segment, file) {
                tally.note("segments made ready");
                life.segments.insert(segment.number, (file, segment.id));
            }
            (desk, outcome)
        };
        if self.servers[server].cores[core].files.has_ended() {
            return self.crash(server, "in the middle of a job");
        }
        if ends_soon {
            let us = self.random.u64(1..2 * self.plan.frame_us);
            self.after(server, us, Event::Crash);
        }
        let us = self.delay(WAKE_US);
        self.after(server, us, Event::Arrive(core, Arrival::JobDone(desk, outcome)));
        let life = life_of(self, server, core);
        life.is_working = !life.jobs.is_empty();
        if life.is_working {
            self.work(server, core);
        }
    }

    /// A frame is on disk.
    pub(super) fn frame_done(&mut self, server: usize, core: usize) {
        let one = &mut self.servers[server];
        let (model, one) = (&mut one.models[core], &mut one.cores[core]);
        let Some(life) = &mut one.life else { return };
        let frame = life.frame.take().expect("a frame is being written");
        let outcome = one.files.finish();
        if let (Ok(()), Some(end)) = (&outcome, frame.end) {
            model.persisted(end);
        }
        self.after(server, 1, Event::Arrive(core, Arrival::Written(frame.buffer, outcome)));
    }
}

/// The life of a core that has one.
fn life_of(world: &mut World, server: usize, core: usize) -> &mut Life {
    world.servers[server].cores[core].life()
}

impl Life {
    fn begin_turn(&mut self) {
        self.engine.begin_turn(clock::now(self.began_us));
    }
}
