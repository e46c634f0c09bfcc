//! A core's jobs: what has to wait for the disk is done by the core's blocking thread while the core goes on, in order.

use super::{recover::write_lost, ring::Bell, wal::segment::Layout};
use crate::{
    time::UnixMillis,
    wal::{Desk, Done, Job, Segment, frame::FileKind},
};
use std::{
    cell::RefCell,
    collections::VecDeque,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    rc::Rc,
    sync::Arc,
    time::UNIX_EPOCH,
};

/// The jobs of a core.
pub(super) struct Jobs {
    layout: Layout,
    bell: Arc<Bell>,
    queues: Rc<RefCell<Queues>>,
}

#[derive(Default)]
struct Queues {
    waiting: VecDeque<(Desk, Job)>,
    finished: VecDeque<Finished>,
    is_running: bool,
}

impl Queues {
    /// Adds a job. Returns true if jobs are being done already.
    fn push(&mut self, desk: Desk, job: Job) -> bool {
        self.waiting.push_back((desk, job));
        std::mem::replace(&mut self.is_running, true)
    }
}

/// A job that has ended.
pub(super) struct Finished {
    pub(super) desk: Desk,
    pub(super) outcome: io::Result<Done>,
    /// The file of a segment that it has made ready.
    pub(super) file: Option<Arc<File>>,
}

impl Jobs {
    /// `bell`: wakes the core when a job has ended.
    pub(super) fn new(layout: Layout, bell: Arc<Bell>) -> Self {
        Self { layout, bell, queues: Rc::default() }
    }

    /// Has a job done, behind those that were started before.
    pub(super) fn start(&self, desk: Desk, job: Job) {
        if self.queues.borrow_mut().push(desk, job) {
            return;
        }
        // It runs at once, as far as it comes.
        let (layout, bell, queues) = (self.layout.clone(), Arc::clone(&self.bell), Rc::clone(&self.queues));
        glommio::spawn_local(async move {
            loop {
                let next = queues.borrow_mut().waiting.pop_front();
                let Some((desk, job)) = next else { break };
                let layout = layout.clone();
                let (outcome, file) = glommio::executor().spawn_blocking(move || layout.perform(job)).await;
                queues.borrow_mut().finished.push_back(Finished { desk, outcome, file });
                bell.ring();
            }
            queues.borrow_mut().is_running = false;
        })
        .detach();
    }

    /// Takes the next job that has ended.
    pub(super) fn take_finished(&self) -> Option<Finished> {
        self.queues.borrow_mut().finished.pop_front()
    }
}

impl Layout {
    /// Does a job. Returns the file of a segment that it has made ready, too.
    fn perform(&self, job: Job) -> (io::Result<Done>, Option<Arc<File>>) {
        if let Job::Prepare { number, id, end, spares_left } = job {
            self.try_again();
            return match self.prepare(number, id, end, spares_left) {
                Ok(file) => {
                    let segment = Segment { id, number, bytes: self.segment_bytes };
                    (Ok(Done::Segment(segment)), Some(file))
                }
                Err(error) => (Err(error), None),
            };
        }
        (self.perform_other(job), None)
    }

    fn perform_other(&self, job: Job) -> io::Result<Done> {
        let files = &self.files;
        match job {
            Job::Prepare { .. } => unreachable!("it has a file to return"),
            Job::WriteLost { lost, unix_seconds } => {
                let directory = files.path().parent().unwrap_or(files.path());
                let path = write_lost(directory, files.shard(), &lost, unix_seconds)?;
                self.keep_damaged(lost.into_iter().map(|lost| lost.damage.file).collect());
                Ok(Done::Lost(path))
            }
            Job::SnapshotTime(number) => modified_at(&files.path_of(FileKind::Snapshot, number)).map(Done::Time),
            Job::SyncSegment(number) => {
                File::open(files.path_of(FileKind::Segment, number))?.sync_data().map(|()| Done::Nothing)
            }
            Job::Release { numbers, is_full } => self.release(&numbers, is_full).map(|()| Done::Nothing),
            Job::ClearAway { found, since } => self.clear_away(&found, since).map(|()| Done::Nothing),
            Job::BeginSnapshot { id, since, takes_reserve } => {
                self.begin_snapshot(id, since, takes_reserve).map(|_| Done::Nothing)
            }
            Job::WriteSnapshot { since, offset, buffer, length } => {
                self.open_snapshot(since)?.write_all_at(&buffer.bytes()[..length], offset)?;
                Ok(Done::Written(buffer))
            }
            Job::FinishSnapshot { since, bytes } => {
                self.finish_snapshot(&self.open_snapshot(since)?, since, bytes).map(Done::Finished)
            }
            Job::DropSnapshot(since) => {
                self.take_back(&files.unfinished_path_of(FileKind::Snapshot, since.0));
                Ok(Done::Nothing)
            }
            Job::ReadValues { segment, id, offset } => self.read_values(segment, id, offset).map(Done::Values),
            Job::WriteBeginning { id, begin, persisted } => {
                self.write_beginning(id, begin, persisted).map(|()| Done::Nothing)
            }
            Job::KeepBeginning => {
                self.keep_beginning();
                Ok(Done::Nothing)
            }
            Job::BeginHint(left) => self.begin_hint(left),
            Job::ExtendHint(writing) => self.extend_hint(writing),
            Job::RemoveHint(segment) => self.remove_hint(segment).map(|()| Done::Nothing),
        }
    }
}

fn modified_at(path: &Path) -> io::Result<UnixMillis> {
    let modified = fs::metadata(path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(UnixMillis(modified.as_millis() as u64))
}
