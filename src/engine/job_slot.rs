//! A duty's jobs: one at a time.

use super::{Action, Actions};
use crate::wal::{Desk, Done, Job};
use std::{io, mem};

/// A place for one job at a time, and for its outcome.
#[derive(Debug)]
pub(super) struct JobSlot {
    desk: Desk,
    state: State,
}

#[derive(Debug)]
enum State {
    Free,
    Running,
    Ended(io::Result<Done>),
}

impl JobSlot {
    /// A free place.
    pub(super) fn new(desk: Desk) -> Self {
        Self { desk, state: State::Free }
    }

    /// Begins a job.
    ///
    /// # Panics
    /// If one is running, or the outcome of the last has not been taken.
    pub(super) fn begin(&mut self, job: Job, actions: &mut Actions) {
        assert!(matches!(self.state, State::Free), "one job at a time");
        self.state = State::Running;
        actions.push(Action::Start(self.desk, job));
    }

    /// Notes the outcome of the job.
    ///
    /// # Panics
    /// If none is running.
    pub(super) fn end(&mut self, outcome: io::Result<Done>) {
        assert!(matches!(self.state, State::Running), "what ends was begun");
        self.state = State::Ended(outcome);
    }

    /// Takes the outcome of the job, once it has ended.
    pub(super) fn take(&mut self) -> Option<io::Result<Done>> {
        match mem::replace(&mut self.state, State::Free) {
            State::Ended(outcome) => Some(outcome),
            state => {
                self.state = state;
                None
            }
        }
    }

    /// Returns true if a job is running, or its outcome has not been taken.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.state, State::Free)
    }
}
