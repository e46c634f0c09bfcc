//! What took long, and when (`LATENCY`).

use std::collections::VecDeque;

/// What can take long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delay {
    /// A command that was measured by itself.
    Command,
    /// A turn of the main loop: everyone on the core waited for its end.
    Turn,
    /// A write of the log and its sync.
    LogSync,
}

/// What was noted of one kind of event.
#[derive(Clone, Debug, Default)]
pub struct Delayed {
    /// How often it happened.
    pub count: u64,
    /// How long all of them took, in milliseconds.
    pub ms_sum: u64,
    /// The longest.
    pub ms_max: u64,
    /// The last: when, in seconds since 1970-01-01 UTC, and how long, in milliseconds. Of one second the longest.
    pub recent: VecDeque<(u64, u64)>,
}

/// What was noted of all kinds.
#[derive(Clone, Debug, Default)]
pub struct Delays([Delayed; Delay::ALL.len()]);

/// As many as Redis keeps of an event (`LATENCY_TS_LEN`).
const RECENT_MAX: usize = 160;

impl Delay {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Command, Self::Turn, Self::LogSync];

    /// Its name, to clients.
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Turn => "turn",
            Self::LogSync => "log-sync",
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Command => "SLOWLOG GET says which",
            Self::Turn => {
                "more was at hand than the core can do in that time, or the CPU was taken from it: give it one of its own"
            }
            Self::LogSync => "the disk is slow or busy: --durability interval does not wait for it",
        }
    }
}

impl Delays {
    /// Notes that something took so long.
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

    /// What was noted of a kind.
    pub fn of(&self, event: Delay) -> &Delayed {
        &self.0[event as usize]
    }

    /// Forgets a kind. Returns whether there was something to forget.
    pub fn forget(&mut self, event: Delay) -> bool {
        0 < std::mem::take(&mut self.0[event as usize]).count
    }
}
