//! The end of a core that is told to stop: clients get what they are owed, then the log is written to its end.

use super::{Action, End, Engine};

/// The time that a core which stops waits for its log, once its clients have gone: a disk that takes longer has failed.
const WRITE_PATIENCE_US: u64 = 30_000_000;

/// The stages of a core's end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stopping {
    Running,
    /// It is to stop; the next tick begins with it.
    Asked,
    /// No more connections are accepted, and those that there are are being closed.
    Draining {
        since_us: u64,
    },
    /// Its last connection has gone.
    Drained {
        since_us: u64,
    },
    /// So has that of every core.
    AllDrained {
        since_us: u64,
    },
    Ended,
}

impl Stopping {
    pub(super) fn ask(&mut self) {
        if *self == Self::Running {
            *self = Self::Asked;
        }
    }

    pub(super) fn note_all_drained(&mut self) {
        if let Some(since_us) = self.since_us() {
            *self = Self::AllDrained { since_us };
        }
    }

    pub(super) fn has_ended(self) -> bool {
        self == Self::Ended
    }

    /// Returns true once no more connections are accepted.
    pub(super) fn is_begun(self) -> bool {
        !matches!(self, Self::Running | Self::Asked)
    }

    fn since_us(self) -> Option<u64> {
        match self {
            Self::Draining { since_us } | Self::Drained { since_us } | Self::AllDrained { since_us } => Some(since_us),
            Self::Running | Self::Asked | Self::Ended => None,
        }
    }
}

impl Engine {
    /// Accepts no more, executes no more than what was read, and closes whoever has got what they are owed; all, once time is up.
    pub(super) fn stop(&mut self) {
        match self.stopping {
            Stopping::Running | Stopping::Ended => return,
            Stopping::Asked => {
                self.stopping = Stopping::Draining { since_us: self.now.monotonic_us };
                self.actions.push(Action::StopListening);
            }
            Stopping::Draining { .. } | Stopping::Drained { .. } | Stopping::AllDrained { .. } => {}
        }
        let ids: Vec<_> = self.connections.iter().map(|connection| connection.id).collect();
        for id in ids {
            let is_out_of_patience = self.is_out_of_patience();
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if is_out_of_patience {
                self.drop_connection(id, Action::Close(id));
                continue;
            }
            let has_waited = connection.session.has_waited && connection.session.has_unread();
            let waits =
                has_waited || self.shard.is_stalled() || connection.session.is_blocked(&connection.backpressure);
            // A password that waits would hold up the end.
            if waits && connection.password_at.is_none() {
                continue;
            }
            connection.session.closing = true;
            self.settle_one(id);
        }
        if let Stopping::Draining { since_us } = self.stopping
            && self.connections.len() == 0
        {
            self.stopping = Stopping::Drained { since_us };
            self.actions.push(Action::Drained);
        }
    }

    /// Ends the core that has nothing left to do: it was told to stop, every core has let its last client go or time is up, and
    /// its log is on disk and sealed, or can't be written.
    pub(super) fn end_if_over(&mut self) {
        let Some(since_us) = self.stopping.since_us() else { return };
        let are_all_drained = matches!(self.stopping, Stopping::AllDrained { .. });
        if !are_all_drained && !self.is_out_of_patience() {
            return;
        }
        let until = since_us + self.patience_us() + WRITE_PATIENCE_US;
        if self.is_written() {
            self.end(End::Finished);
        } else if until <= self.now.monotonic_us || self.is_stuck() {
            self.end(End::Unwritten);
        }
    }

    /// Returns how long clients have to take what they are owed. Somewhat less than was promised: ending takes a moment too.
    fn patience_us(&self) -> u64 {
        (self.shard.core.config.shutdown_timeout.as_micros() as u64).saturating_sub(500_000)
    }

    fn is_out_of_patience(&self) -> bool {
        self.stopping.since_us().is_some_and(|since_us| since_us + self.patience_us() <= self.now.monotonic_us)
    }
}
