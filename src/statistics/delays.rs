//! The events that took long (`LATENCY`).

use std::collections::VecDeque;

/// A kind of event that can take long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delay {
    /// A command that was measured by itself.
    Command,
    /// A turn of the main loop: every client of the core waited for its end.
    Turn,
    /// A write of the log and its sync.
    LogSync,
}

/// The events of one kind that took long.
#[derive(Clone, Debug, Default)]
pub struct Delayed {
    /// The number of events.
    pub count: u64,
    /// The sum of their durations, in milliseconds.
    pub ms_sum: u64,
    /// The longest duration, in milliseconds.
    pub ms_max: u64,
    /// The last events: the time of each, in seconds since 1970-01-01 UTC, and its duration in milliseconds. Of each
    /// second only the longest is kept.
    pub recent: VecDeque<(u64, u64)>,
}

/// The events of all kinds that took long.
#[derive(Clone, Debug, Default)]
pub struct Delays([Delayed; Delay::ALL.len()]);

/// The most recent events kept of a kind: as many as Redis keeps (`LATENCY_TS_LEN`).
const RECENT_MAX: usize = 160;

impl Delay {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Command, Self::Turn, Self::LogSync];

    /// Returns the name that clients see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Turn => "turn",
            Self::LogSync => "log-sync",
        }
    }

    /// Returns advice for the operator (`LATENCY DOCTOR`).
    pub fn advice(self) -> &'static str {
        match self {
            Self::Command => "SLOWLOG GET lists the slow commands",
            Self::Turn => {
                "the core had more work than fits that time, or others used its CPU: give it a CPU of its own"
            }
            Self::LogSync => "the disk is slow or busy: with --durability interval replies do not wait for it",
        }
    }
}

impl Delays {
    /// Adds an event that took `us` microseconds and ended at `unix_us`.
    #[cold]
    pub fn note(&mut self, event: Delay, us: u64, unix_us: u64) {
        let (delays, ms, unix_seconds) = (&mut self.0[event as usize], us / 1000, unix_us / 1_000_000);
        delays.count += 1;
        delays.ms_sum += ms;
        delays.ms_max = delays.ms_max.max(ms);
        match delays.recent.back_mut() {
            Some((second, longest)) if *second == unix_seconds => *longest = ms.max(*longest),
            _ => delays.recent.push_back((unix_seconds, ms)),
        }
        if RECENT_MAX < delays.recent.len() {
            delays.recent.pop_front();
        }
    }

    /// Returns the events of a kind.
    pub fn of(&self, event: Delay) -> &Delayed {
        &self.0[event as usize]
    }

    /// Removes the events of a kind. Returns true if there were any.
    pub fn forget(&mut self, event: Delay) -> bool {
        0 < std::mem::take(&mut self.0[event as usize]).count
    }
}
