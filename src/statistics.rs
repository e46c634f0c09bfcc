//! What a shard counts of its work, for INFO and for whoever measures it.

/// What a shard counted since it began, or since `CONFIG RESETSTAT`.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// Connections that were accepted.
    pub connections_received: u64,
    /// Connections that were refused, or closed at a limit.
    pub connections_rejected: u64,
    /// Requests that were executed here, a part of one for a gateway included.
    pub requests: u64,
    /// Bytes of requests.
    pub input_bytes: u64,
    /// Bytes of replies.
    pub output_bytes: u64,
    /// Error replies.
    pub errors: u64,
    /// Requests that this core passed on to another (gateway).
    pub passed_on: u64,
    /// By command, in the order of the table's rows.
    pub commands: Vec<CommandStatistics>,
    /// Microseconds in which the core worked; the rest it slept.
    pub busy_us: u64,
    /// Turns of the main loop that found work.
    pub turns: u64,
    /// The longest that the requests of one connection, as they arrived together, kept the core.
    pub batch_us_max: u64,
    /// Requests a second, lately.
    pub rate: Rate,
}

/// What is counted of one command.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommandStatistics {
    /// How often it ran.
    pub calls: u64,
    /// How often it answered with an error.
    pub failed: u64,
    /// How often it was refused before it ran.
    pub rejected: u64,
    /// Microseconds that it took: measured for commands whose time depends on their data, and for the others their share
    /// of the batch that they came in.
    pub us: u64,
}

/// Requests a second over the last sixteen ticks, as Redis's `instantaneous_ops_per_sec`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    samples: [u64; 16],
    position: usize,
    requests: u64,
    at_us: u64,
}

impl Rate {
    /// Notes the number of requests so far, and the time.
    pub fn note(&mut self, requests: u64, monotonic_us: u64) {
        let elapsed = monotonic_us.saturating_sub(self.at_us).max(1);
        let per_second = requests.saturating_sub(self.requests) * 1_000_000 / elapsed;
        self.samples[self.position % self.samples.len()] = per_second;
        *self = Self { position: self.position.wrapping_add(1), requests, at_us: monotonic_us, ..*self };
    }

    /// The mean of the last samples.
    pub fn per_second(&self) -> u64 {
        self.samples.iter().sum::<u64>() / self.samples.len() as u64
    }
}
