//! What a core does for its keys to survive: reads them at the start, writes the log, takes snapshots, and lets replies leave
//! when what they tell is on disk.

use super::{ConnectionId, State, values::Values};
use crate::{
    config::Durability,
    io::{
        directory::{Directory, ShardFiles},
        files::{Layout, OsFiles, Way},
        hints::Hints,
        logging,
        mesh::{Batch, Parcel},
        recover::{Recover, RecoverError, write_lost},
        ring::{Bell, Ring},
        snapshot::{Progress, Snapshot},
        wal::Writer,
    },
    resp::{Reply, Version},
    session::Ticket,
    statistics::Delay,
    store::UnixMillis,
    wal::{
        FileInfo, Found, Log, Lsn, Report,
        aligned::Aligned,
        files::Growth,
        frame::{FileId, FileKind},
        room::{FullFacts, SnapshotFacts, is_snapshot_due, is_snapshot_needed_for_room},
    },
};
use std::{
    collections::VecDeque,
    fs, io,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::UNIX_EPOCH,
};

/// How long a core reads its files before it looks at its clients again, who are told to wait.
const LOAD_SLICE_US: u64 = 5_000;
/// How long a busy core walks its keys for a snapshot in each turn, and one that has nothing else to do.
const WALK_US_BUSY: u64 = 50;
const WALK_US_IDLE: u64 = 500;
/// How long no snapshot is taken after one that failed.
const RETRY_US: u64 = 10_000_000;

/// What a core has to do with its files.
pub(super) struct Durable {
    pub(super) layout: Layout,
    bell: Arc<Bell>,
    loading: Option<Recover>,
    /// What was read, until the log goes on.
    opening: Option<Report>,
    /// Where the log ended when it was read: the position of any snapshot that is taken without one.
    found_end: Lsn,
    /// After a loss that was accepted: the files that were found, of which none is needed once the next snapshot is there.
    leftovers: Vec<FileInfo>,
    /// There is none without a log.
    pub(super) writer: Option<Writer>,
    snapshot: Option<(Snapshot, u64)>,
    retry_us: u64,
    /// The end of the log and the store's memory when the last snapshot failed.
    failed_at: Option<(Lsn, usize)>,
    /// The next snapshot is written into the reserve: the disk had no other room for the last one.
    takes_reserve: bool,
    /// Clients and cores that wait for a snapshot (`SAVE`).
    savers: Vec<Saver>,
    /// Connections with replies that wait, by what they wait for.
    held: VecDeque<(Lsn, ConnectionId)>,
    /// Replies for other cores that wait.
    held_batches: VecDeque<(Lsn, usize, Box<Batch>)>,
    was_stalled: bool,
    /// With values on disk.
    pub(super) values: Option<Values>,
    /// With values on disk there are no snapshots: who asks for one waits until the log is on disk up to here.
    save_at: Option<Lsn>,
}

/// Who waits for a snapshot.
pub(super) enum Saver {
    /// A client of this core.
    Client(ConnectionId, Ticket),
    /// This core's part in what a client of it asked of all cores.
    Part(ConnectionId, Ticket, usize),
    /// Another core, for a client of its.
    Core(usize, Box<Batch>),
}

impl Durable {
    /// Begins with a shard's files.
    ///
    /// # Errors
    /// The directory can't be read or written.
    pub(super) fn new(
        directory: &Directory,
        shard: u16,
        config: &crate::config::Config,
        bell: Arc<Bell>,
    ) -> io::Result<Self> {
        let files: ShardFiles = directory.shard(shard);
        let way = Way::probe(files.path()).map_err(|error| io::Error::other(files.unusable(&error)))?;
        if shard == 0 {
            tracing::info!("the log is written with {way}");
        }
        let failed = |error: RecoverError| io::Error::other(error.to_string());
        let mut loading = Recover::new(files.clone(), config.accept_loss).map_err(failed)?;
        let layout = OsFiles { shard: files, way }.layout(config.log_segment_bytes as u64)?;
        let is_on_disk = config.values == crate::config::Values::Disk;
        if is_on_disk {
            loading = loading.believing_hints();
        }
        Ok(Self {
            values: is_on_disk.then(|| Values::new(layout.clone(), Arc::clone(&bell), config.cold_reads)),
            save_at: None,
            layout,
            bell,
            loading: Some(loading),
            opening: None,
            found_end: Lsn(0),
            leftovers: Vec::new(),
            writer: None,
            snapshot: None,
            retry_us: 0,
            failed_at: None,
            takes_reserve: false,
            savers: Vec::new(),
            held: VecDeque::new(),
            held_batches: VecDeque::new(),
            was_stalled: false,
        })
    }
}

/// Removes what a start found that accepted a loss, of a server that writes no log.
fn clear_away(layout: Layout, leftovers: Vec<FileInfo>, since: Lsn) {
    glommio::spawn_local(async move {
        let cleared = glommio::executor().spawn_blocking(move || layout.clear_away(&leftovers, since)).await;
        if let Err(error) = cleared {
            tracing::warn!(%error, "files that a snapshot covers could not be set aside");
        }
    })
    .detach();
}

fn modified_at(path: &Path) -> io::Result<UnixMillis> {
    let modified = fs::metadata(path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(UnixMillis(modified.as_millis() as u64))
}

impl State {
    /// Begins with the shard's files: until they are read, clients are told to wait.
    ///
    /// # Errors
    /// The directory can't be read or written.
    pub(super) fn open(&mut self, directory: &Directory, bell: Arc<Bell>) -> io::Result<()> {
        let (core, persistence) = (self.shard.core.me.core, &mut self.shard.core.persistence);
        persistence.has_directory = true;
        persistence.has_log = self.shard.core.config.durability() != Durability::None;
        persistence.is_loading = true;
        if self.shard.core.config.values == crate::config::Values::Disk {
            self.shard.store.keep_values_on_disk();
        }
        self.durable = Some(Durable::new(directory, core, &self.shard.core.config, bell)?);
        Ok(())
    }

    /// Whether a snapshot is being taken or a segment given up: only glommio hears when the blocking thread has done its part.
    pub(super) fn is_saving(&self) -> bool {
        let is_at_work = |durable: &Durable| durable.values.as_ref().is_some_and(Values::is_at_work);
        let is_releasing = |durable: &Durable| durable.writer.as_ref().is_some_and(Writer::is_releasing);
        let is_saving = |durable: &Durable| durable.snapshot.is_some() || is_at_work(durable) || is_releasing(durable);
        self.durable.as_ref().is_some_and(is_saving)
    }

    /// Reads on in the shard's files, for a moment. Returns whether there is more.
    ///
    /// # Errors
    /// They can't be read or are damaged: the server must not start on them.
    pub(super) fn load(&mut self) -> Result<bool, String> {
        let Some(durable) = &mut self.durable else { return Ok(false) };
        let files = durable.layout.files.shard.clone();
        if durable.opening.is_some() {
            self.open_log().map_err(|error| files.unusable(&error))?;
            return Ok(false);
        }
        let Some(loading) = &mut durable.loading else {
            self.note_ready();
            return Ok(false);
        };
        let (until, now) = (self.clock.monotonic_us() + LOAD_SLICE_US, self.now.unix_millis());
        let store = &mut self.shard.store;
        while self.clock.monotonic_us() < until {
            let mut apply = |found: Found<'_>| store.apply_in_place(found, now);
            if !loading.step_in_place(&mut apply).map_err(|error| error.to_string())? {
                self.end_loading().map_err(|error| files.unusable(&error))?;
                return Ok(true);
            }
        }
        self.shard.core.persistence.loaded = loading.progress();
        Ok(true)
    }

    /// Tells the server that this core has read its files, and begins to serve if it is the last.
    fn note_loaded(&mut self) {
        let persistence = &mut self.shard.core.persistence;
        (persistence.loaded, persistence.is_loading) = (1.0, !self.control.core_is_loaded());
    }

    /// Begins to serve, once every core of the server has read its files. To be called before a request is executed: whoever has
    /// heard from another core that the server is ready finds it so on this one.
    #[inline]
    pub(super) fn note_ready(&mut self) {
        let persistence = &mut self.shard.core.persistence;
        if persistence.is_loading && self.control.is_ready(self.gateway_connections.len()) {
            persistence.is_loading = false;
        }
    }

    /// All is read: notes what was found.
    fn end_loading(&mut self) -> io::Result<()> {
        let Some(durable) = &mut self.durable else { return Ok(()) };
        let Some(loading) = durable.loading.take() else { return Ok(()) };
        let (report, seconds) = (loading.report(), self.now.monotonic_us as f64 / 1e6);
        let files = &durable.layout.files.shard;
        if !report.lost.is_empty() {
            let directory = files.path().parent().unwrap_or(files.path());
            let path = write_lost(directory, files.shard(), &report.lost, self.now.unix_us / 1_000_000)?;
            tracing::warn!(path = %path.display(), "started without what was damaged; what was lost is written down");
        }
        if let Some((file, offset)) = &report.cut {
            tracing::warn!(file, offset, "the log was cut where a write had not come to its end");
        }
        let persistence = &mut self.shard.core.persistence;
        let hinted = report.hinted.len();
        tracing::info!(
            records = report.records,
            keys = self.shard.store.len(),
            hinted,
            seconds,
            "the log has been read"
        );
        persistence.segments_hinted = hinted as u64;
        self.shard.store.end_loading();
        self.shard.store.counters = Default::default();
        durable.found_end = report.end;
        persistence.saved_lsn = report.snapshot.unwrap_or_default();
        // So that the next start finds nothing damaged.
        persistence.wants_snapshot = !report.lost.is_empty();
        if !report.lost.is_empty() {
            let found = loading.files().to_vec();
            durable.layout.keep_damaged(report.lost.iter().map(|lost| lost.damage.file.clone()).collect());
            match &mut durable.values {
                Some(values) => values.give_up_before(report.next_segment, found),
                None => durable.leftovers = found,
            }
        }
        if let Some(file) = loading.files().iter().rfind(|file| file.kind == FileKind::Snapshot) {
            persistence.snapshot_bytes = file.bytes;
            persistence.saved_at = modified_at(&files.path_of(file.kind, file.number))?;
        }
        // Those of segments that were given up, should the last start have ended in between.
        let is_there = |hint: &FileInfo| report.segments.iter().any(|(number, _)| *number == hint.number);
        for hint in loading.files().iter().filter(|file| file.kind == FileKind::Hint && !is_there(file)) {
            durable.layout.remove_hint(hint.number)?;
        }
        durable.opening = Some(report.clone());
        Ok(())
    }

    /// Goes on with a log.
    fn open_log(&mut self) -> io::Result<()> {
        let Some(durable) = &mut self.durable else { return Ok(()) };
        let Some(mut report) = durable.opening.take() else { return Ok(()) };
        let (layout, durability) = (&durable.layout, self.shard.core.config.durability());
        if durability == Durability::None {
            self.note_loaded();
            return Ok(());
        }
        let persistence = &mut self.shard.core.persistence;
        let beginning = layout.begin_log(&mut report, persistence.saved_lsn, FileId(fastrand::u64(..)))?;
        if !beginning.is_fresh {
            tracing::warn!("the disk has no room for a new segment of the log: it goes on in the last one");
        }
        let (bell, now_us) = (Arc::clone(&durable.bell), self.clock.monotonic_us());
        if let Some(values) = &mut durable.values {
            let hinted = report.hinted.iter().copied().filter(|&number| number != beginning.active.number);
            values.hints = Some(Hints::new(layout.clone(), hinted, Arc::clone(&bell)));
        }
        let used = report.segments.iter().filter_map(|&(number, first)| Some((number, first?)));
        let writer = Writer::new(layout.clone(), durability, bell, beginning, used, now_us);
        let log = Log::new(report.end, durability == Durability::Always);
        persistence.log_bytes = writer.used_bytes();
        persistence.admission = Some(writer.admission(&log));
        self.shard.grow = Some(Box::new(Growth(layout.clone())));
        layout.keep_beginning();
        durable.writer = Some(writer);
        self.shard.store.log = Some(Box::new(log));
        self.note_loaded();
        Ok(())
    }

    /// Whether so much of the log waits for the disk that no request may be executed.
    #[inline]
    pub(super) fn is_stalled(&self) -> bool {
        self.shard.is_stalled()
    }

    /// Hands the log's next frame to the ring, and goes on with a snapshot.
    #[inline]
    pub(super) fn write_log(&mut self, ring: &mut Ring, is_idle: bool) -> bool {
        if self.durable.is_some() { self.write_to_files(ring, is_idle) } else { false }
    }

    fn write_to_files(&mut self, ring: &mut Ring, is_idle: bool) -> bool {
        let (now_us, hurries) = (self.now.monotonic_us, self.stopping_since.is_some());
        let Some(durable) = &mut self.durable else { return false };
        // Looked at before a frame is taken, which may end it: who was paused meanwhile must still be resumed.
        durable.was_stalled |= self.shard.is_stalled();
        if let (Some(writer), Some(log)) = (&mut durable.writer, &mut self.shard.store.log) {
            writer.write(ring, log, &mut self.shard.core.persistence, now_us, hurries);
        }
        if durable.values.is_some() {
            return self.look_after_values(ring, is_idle) | self.confirm_saves();
        }
        self.save(is_idle)
    }

    /// Answers those who asked for a snapshot once what there was then is on disk.
    fn confirm_saves(&mut self) -> bool {
        let (Some(durable), Some(log)) = (&mut self.durable, &self.shard.store.log) else { return false };
        let persistence = &mut self.shard.core.persistence;
        if std::mem::take(&mut persistence.wants_snapshot) {
            durable.save_at = Some(log.end());
        }
        if durable.save_at.is_none_or(|lsn| log.persisted_end() < lsn) {
            return false;
        }
        durable.save_at = None;
        persistence.saved_at = self.now.unix_millis();
        persistence.save_seconds = Some(0);
        self.answer_savers(None);
        // Their replies leave with the next turn.
        true
    }

    /// A frame is on disk, or the server must end: what else is, is not known.
    pub(super) fn log_written(&mut self, buffer: Aligned, outcome: io::Result<()>) {
        if self.control.failed.load(Ordering::SeqCst) {
            // What the disk says of this frame is not believed any more.
            return;
        }
        let Some(durable) = &mut self.durable else { return };
        let (Some(writer), Some(log)) = (&mut durable.writer, &mut self.shard.store.log) else { return };
        let now_us = self.clock.monotonic_us();
        match writer.written(buffer, outcome, log, &mut self.shard.core.persistence, now_us) {
            Ok(us) => self.shard.core.note_delay(Delay::LogSync, us, self.now.unix_us),
            Err(error) => {
                let path = durable.layout.files.shard.path().display();
                self.control.failed.store(true, Ordering::SeqCst);
                tracing::error!(%error, %path, "the log can't be written: the server ends, and acknowledges nothing more");
                logging::flush();
                std::process::exit(1);
            }
        }
        if durable.values.is_some() && log.has_notes() {
            let (segment, offset) = writer.frame_at();
            let store = &mut self.shard.store;
            while let Some((value, at)) = store.log.as_mut().and_then(|log| log.next_placed(segment, offset)) {
                store.place(value, at);
            }
        }
        let Some(log) = &self.shard.store.log else { return };
        let committed = log.committed();
        while let Some((_, id)) = durable.held.pop_front_if(|(lsn, _)| *lsn <= committed) {
            if let Some(connection) = self.connections[id.place()].as_mut()
                && connection.id == id
                && !connection.is_touched
            {
                connection.is_touched = true;
                self.touched.push(id);
            }
        }
        while let Some((_, core, batch)) = durable.held_batches.pop_front_if(|(lsn, ..)| *lsn <= committed) {
            self.mesh.post(core, Parcel::Replies(batch));
        }
        if durable.was_stalled && !self.shard.is_stalled() {
            durable.was_stalled = false;
            self.touch_waiting();
            self.resume_cores();
        }
    }

    /// Notes that a connection has replies which wait for the log.
    pub(super) fn hold(&mut self, id: ConnectionId, lsn: Lsn) {
        if let Some(durable) = &mut self.durable {
            // Nearly always the last: a read may wait for an earlier write than those that came before it.
            let position = durable.held.iter().rposition(|(other, _)| *other <= lsn).map_or(0, |before| before + 1);
            durable.held.insert(position, (lsn, id));
        }
    }

    /// Sends replies to another core when the log is on disk up to here.
    pub(super) fn post_replies(&mut self, lsn: Lsn, core: usize, batch: Box<Batch>) {
        match &mut self.durable {
            Some(durable) if lsn != Lsn(0) => {
                let earlier = |(other, ..): &(Lsn, usize, Box<Batch>)| *other <= lsn;
                let position = durable.held_batches.iter().rposition(earlier).map_or(0, |before| before + 1);
                durable.held_batches.insert(position, (lsn, core, batch));
            }
            _ => self.mesh.post(core, Parcel::Replies(batch)),
        }
    }

    /// Notes that somebody waits for a snapshot.
    pub(super) fn wait_for_snapshot(&mut self, saver: Saver) {
        if let Some(durable) = &mut self.durable {
            durable.savers.push(saver);
        }
    }

    /// Whether nothing is left to be written.
    pub(super) fn is_written(&self) -> bool {
        let Some(durable) = &self.durable else { return true };
        let (Some(writer), Some(log)) = (&durable.writer, &self.shard.store.log) else { return true };
        writer.is_quiet(log)
    }

    /// Returns whether the log has records that there is no room for, and none can be made.
    pub(super) fn is_stuck(&self) -> bool {
        let (Some(durable), Some(log)) = (&self.durable, &self.shard.store.log) else { return false };
        // What is being done for the files may hold the reserve, and gives it back.
        !self.is_saving() && durable.writer.as_ref().is_some_and(|writer| writer.is_stuck(log))
    }

    /// Begins a snapshot where one is wanted or due, and goes on with the one at hand. Returns whether the core has more to do
    /// for it at once.
    fn save(&mut self, is_idle: bool) -> bool {
        let now_us = self.now.monotonic_us;
        let Some(durable) = &mut self.durable else { return false };
        let persistence = &mut self.shard.core.persistence;
        if persistence.is_loading {
            return false;
        }
        let log = self.shard.store.log.as_ref();
        let (end, persisted) = match log {
            Some(log) => (log.end(), log.persisted_end()),
            None => (durable.found_end, durable.found_end),
        };
        let Some((snapshot, since_us)) = &mut durable.snapshot else {
            let facts = SnapshotFacts {
                end,
                saved: persistence.saved_lsn,
                snapshot_bytes: persistence.snapshot_bytes,
                after_bytes: self.shard.core.config.snapshot_log_bytes,
            };
            let is_full = durable.writer.as_ref().is_some_and(Writer::is_full);
            let full_facts = FullFacts {
                is_full,
                segments_freed: durable.writer.as_ref().map_or(0, |writer| writer.left().count()),
                now: (end, self.shard.store.memory()),
                failed: durable.failed_at,
                snapshot_bytes: facts.snapshot_bytes,
                after_bytes: facts.after_bytes,
            };
            let is_overdue = !durable.leftovers.is_empty() && durable.retry_us <= now_us;
            let is_due = (!is_full && is_snapshot_due(facts)) || is_snapshot_needed_for_room(full_facts);
            if persistence.wants_snapshot || is_overdue || (log.is_some() && durable.retry_us <= now_us && is_due) {
                persistence.wants_snapshot = false;
                persistence.snapshot_since = Some(now_us);
                let takes_reserve = is_full && durable.takes_reserve;
                let snapshot = Snapshot::begin(durable.layout.clone(), end, takes_reserve, Arc::clone(&durable.bell));
                durable.snapshot = Some((snapshot, now_us));
            }
            return false;
        };
        let (budget, now) = (if is_idle { WALK_US_IDLE } else { WALK_US_BUSY }, self.now.unix_millis());
        let outcome = match snapshot.advance(&self.shard.store, (end, persisted), self.clock, budget) {
            Progress::Walking => return true,
            Progress::Waiting => {
                let is_stuck = |log| durable.writer.as_ref().is_some_and(|writer| writer.is_stuck(log));
                if self.shard.store.log.as_deref().is_some_and(is_stuck) {
                    // The log waits for the reserve that the snapshot has, and the snapshot for the log.
                    snapshot.give_up(io::Error::from_raw_os_error(libc::ENOSPC));
                }
                return false;
            }
            Progress::Done(bytes) => Ok(bytes),
            Progress::Failed(error) => Err(error),
        };
        let (since, seconds) = (snapshot.since, (now_us - *since_us) / 1_000_000);
        durable.snapshot = None;
        persistence.snapshot_since = None;
        persistence.save_failed = outcome.is_err();
        let text = match outcome {
            Ok(bytes) => {
                durable.failed_at = None;
                durable.takes_reserve = false;
                persistence.saved_at = now;
                persistence.save_seconds = Some(seconds);
                persistence.saved_lsn = since;
                persistence.snapshot_bytes = bytes;
                tracing::info!(bytes, seconds, "a snapshot was taken");
                let leftovers = std::mem::take(&mut durable.leftovers);
                match &mut durable.writer {
                    Some(writer) => writer.release_before(since, leftovers, persistence),
                    None if leftovers.is_empty() => {}
                    None => clear_away(durable.layout.clone(), leftovers, since),
                }
                None
            }
            Err(error) => {
                tracing::error!(%error, "a snapshot could not be taken; the log is kept");
                let is_full = durable.writer.as_ref().is_some_and(Writer::is_full);
                let had_no_room = is_full && error.kind() == io::ErrorKind::StorageFull;
                durable.takes_reserve = !durable.takes_reserve && had_no_room;
                if !durable.takes_reserve {
                    durable.retry_us = now_us + RETRY_US;
                    durable.failed_at = Some((end, self.shard.store.memory()));
                }
                Some(format!("ERR the snapshot could not be written: {error}"))
            }
        };
        self.answer_savers(text.as_deref());
        // Their replies leave with the next turn.
        true
    }

    fn answer_savers(&mut self, error: Option<&str>) {
        let Some(durable) = &mut self.durable else { return };
        let mut text = Vec::new();
        let mut reply = Reply { output: &mut text, version: Version::Two };
        match error {
            Some(error) => reply.error(error),
            None => reply.ok(),
        }
        for saver in std::mem::take(&mut durable.savers) {
            match saver {
                Saver::Core(core, mut batch) => {
                    for item in &mut batch.items {
                        batch.replies.extend_from_slice(&text);
                        item.reply_end = batch.replies.len();
                    }
                    self.mesh.post(core, Parcel::Replies(batch));
                }
                Saver::Client(id, ticket) => self.complete(id, ticket, text.clone(), Lsn(0)),
                Saver::Part(id, ticket, part) => self.complete_part(id, ticket, part, text.clone(), Lsn(0)),
            }
        }
    }
}
