//! A core's jobs: what has to wait for the disk is done by the core's blocking thread while the core goes on, in order.

use super::{files::Layout, ring::Bell};
use crate::wal::{Desk, Done, Job};
use std::{cell::RefCell, collections::VecDeque, fs::File, io, rc::Rc, sync::Arc};

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
                let (outcome, file) = glommio::executor().spawn_blocking(move || job.perform(&layout)).await;
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
