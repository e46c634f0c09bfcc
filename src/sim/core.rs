//! A core: its engine while its server lives, its files, and its ends of everything that the driver of a real one would have.

use super::{clock, plan::Plan, trace::trace};
use crate::{
    client::{Clients, Port},
    commands::{Persistence, Process},
    config::Config,
    core::Core as State,
    engine::{ConnectionId, CoreFiles, Engine, Message},
    shard::Shard,
    statistics::Statistics,
    store::Store,
    topology::{Rendered, ShardId},
    wal::{
        Aligned, Desk, Done, Job, Lsn,
        files::{
            FileOwner, Growth, Layout,
            disk::{SimFile, SimFiles},
        },
        frame::{FileId, FrameHeader, FrameKind},
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
};

/// The data directory of every server.
const DIRECTORY: u64 = 7;

/// A core, from life to life.
pub(super) struct Core {
    pub(super) id: ShardId,
    pub(super) files: SimFiles,
    /// A log has begun on the disk: from then on a start takes no room.
    pub(super) has_log: bool,
    /// The replies that follow from the topology: the same in all lives, and made once, for that takes long.
    rendered: Rendered,
    pub(super) life: Option<Box<Life>>,
}

/// A thing that has happened to a core, which it is told of in its next turn.
pub(super) enum Arrival {
    Received(ConnectionId, Vec<u8>),
    Sent(ConnectionId),
    Ended(ConnectionId),
    Failed(ConnectionId),
    Written(Aligned, io::Result<()>),
    Read(u64, Aligned, io::Result<usize>),
    JobDone(Desk, io::Result<Done>),
    Message(usize, Message),
    /// A connection of this client, by its number; true if another core has handed it over.
    Connection(usize, u32, bool),
}

/// The frame that is being written.
pub(super) struct Frame {
    pub(super) buffer: Aligned,
    /// The end of its records, if it has some.
    pub(super) end: Option<Lsn>,
}

/// A place for a connection.
#[derive(Default)]
pub(super) struct Place {
    generation: u32,
    /// The client, and the number of its connection.
    pub(super) client: Option<usize>,
    pub(super) is_paused: bool,
}

/// A core's engine, and what is under way for it.
pub(super) struct Life {
    pub(super) engine: Engine,
    pub(super) began_us: u64,
    pub(super) layout: Option<Layout<SimFiles>>,
    pub(super) arrivals: VecDeque<Arrival>,
    pub(super) turn_at: Option<u64>,
    pub(super) jobs: VecDeque<(Desk, Job)>,
    pub(super) is_working: bool,
    /// Segments that frames are written to, and those that values are read from.
    pub(super) segments: BTreeMap<u64, (Arc<SimFile>, FileId)>,
    pub(super) open: BTreeMap<u32, Arc<SimFile>>,
    pub(super) frame: Option<Frame>,
    /// The position at which the next frame has to go on.
    next: Lsn,
    pub(super) is_sealed: bool,
    pub(super) places: Vec<Place>,
    pub(super) has_ended: bool,
    /// The time at which the last message arrives, by core that it goes to.
    pub(super) last_message_us: Vec<u64>,
}

impl Core {
    pub(super) fn new(id: ShardId, plan: &Plan, random: &mut fastrand::Rng) -> Self {
        Self {
            id,
            files: SimFiles::new(plan.blocks, random.u64(..)),
            has_log: false,
            rendered: plan.topology.render(id),
            life: None,
        }
    }

    /// Begins a life on what the disk has.
    ///
    /// # Errors
    /// The process has ended, or the disk has failed.
    pub(super) fn start(&mut self, plan: &Plan, random: &mut fastrand::Rng) -> io::Result<()> {
        let began_us = clock::now_us();
        let mut shard = self.shard(plan, random);
        plan.configure(&mut shard.core.config);
        let owner = FileOwner { directory: DIRECTORY, shard: self.id.core };
        Layout::remove_unfinished(&self.files)?;
        let layout = Layout::new(self.files.clone(), owner, plan.segment_bytes as u64)?;
        let files = CoreFiles {
            path: format!("core-{}", self.id.core),
            directory: DIRECTORY,
            shard: self.id.core,
            listed: layout.list()?,
            reserve: Box::new(Growth(layout.clone())),
        };
        let now = clock::now(began_us);
        let engine = Engine::new(shard, clock::CLOCK, now, random.u64(..), Some(files));
        let cores = plan.cores();
        self.life = Some(Box::new(Life {
            engine,
            began_us,
            layout: Some(layout),
            arrivals: VecDeque::new(),
            turn_at: None,
            jobs: VecDeque::new(),
            is_working: false,
            segments: BTreeMap::new(),
            open: BTreeMap::new(),
            frame: None,
            next: Lsn(0),
            is_sealed: true,
            places: Vec::new(),
            has_ended: false,
            last_message_us: vec![0; cores],
        }));
        Ok(())
    }

    fn shard(&self, plan: &Plan, random: &mut fastrand::Rng) -> Shard {
        let state = State {
            config: Config::default(),
            clients: Clients::default(),
            statistics: Statistics::default(),
            rendered: self.rendered.clone(),
            topology: plan.topology.clone(),
            me: self.id,
            has_topology: plan.has_topology,
            process: Process::default(),
            persistence: Persistence::default(),
        };
        let mut store = Store::new(random.u64(..), plan.policy());
        if store.policy.memory_max != 0 {
            // Room for keys, beside what an empty store takes.
            store.policy.memory_max += store.memory();
        }
        Shard::new(store, state)
    }

    /// The core has a life.
    pub(super) fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("the core's server lives")
    }
}

impl Life {
    /// Begins to serve a connection of this client, and returns its id.
    pub(super) fn connect(&mut self, client: usize, port: Port) -> ConnectionId {
        let place = match self.places.iter().position(|place| place.client.is_none()) {
            Some(place) => place,
            None => {
                self.places.push(Place::default());
                self.places.len() - 1
            }
        };
        let Place { generation, client: owner, is_paused } = &mut self.places[place];
        (*owner, *is_paused) = (Some(client), false);
        let id = ConnectionId::new(place as u32, *generation);
        self.engine.connected(id, port, "127.0.0.1:5", "127.0.0.1:6");
        id
    }

    /// The client of a connection that has not been closed.
    pub(super) fn client(&self, id: ConnectionId) -> Option<usize> {
        let place = self.places.get(id.place())?;
        place.client.filter(|_| place.generation == id.generation)
    }

    /// Closes a connection: its place is used again. Returns its client.
    pub(super) fn close(&mut self, id: ConnectionId) -> Option<usize> {
        let client = self.client(id)?;
        let place = &mut self.places[id.place()];
        place.client = None;
        place.generation += 1;
        Some(client)
    }

    /// Notes that a frame is handed over: it goes on where the last one ended. Returns true if it goes on with a record.
    pub(super) fn hand_over(&mut self, segment: u64, buffer: Aligned, length: usize) -> bool {
        let (_, file) = self.segments[&segment];
        let (header, records) = FrameHeader::decode(&buffer.bytes()[..length], file).expect("a frame");
        assert_eq!(header.lsn, self.next, "a frame goes on where the last one ended");
        let is_seal = header.kind == FrameKind::Seal;
        self.next = header.lsn.after(records.len());
        self.is_sealed = is_seal;
        trace!("      frame {:?} {}..{} to segment {segment}", header.kind, header.lsn.0, self.next.0);
        self.frame = Some(Frame { buffer, end: (!is_seal).then_some(self.next) });
        header.kind == FrameKind::Continued
    }

    /// Notes where the log goes on.
    pub(super) fn begin_log(&mut self, end: Lsn) {
        self.next = end;
    }
}
