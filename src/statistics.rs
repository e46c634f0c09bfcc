//! What a shard counts of its work, for INFO and for whoever measures it.

use crate::slow_log::SlowLog;

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
    pub errors: Errors,
    /// Requests that this core passed on to another (gateway).
    pub passed_on: u64,
    /// The most bytes that the store had, as seen when what had arrived together was executed.
    pub memory_peak: usize,
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
    /// The slowest of them.
    pub slow_log: SlowLog,
}

impl Statistics {
    /// Notes that a command, by the number of its row, took so many microseconds for so many calls.
    #[inline]
    pub fn note(&mut self, index: u16, us: u64, calls: u64) {
        let counted = &mut self.commands[usize::from(index)];
        counted.us += us;
        counted.times.note(us, calls);
    }

    /// Notes how many bytes the store has.
    #[inline]
    pub fn note_memory(&mut self, bytes: usize) {
        self.memory_peak = self.memory_peak.max(bytes);
    }

    /// Notes that a request was refused with this text before its command, by the number of its row, ran.
    #[cold]
    pub fn reject(&mut self, index: u16, text: &str) {
        self.commands[usize::from(index)].rejected += 1;
        self.errors.note(text.as_bytes());
    }

    /// Begins anew (`CONFIG RESETSTAT`). The slow log has a reset of its own, and the peak of memory none, as in Redis.
    pub fn reset(&mut self) {
        *self = Self {
            commands: vec![CommandStatistics::default(); self.commands.len()],
            rate: self.rate,
            memory_peak: self.memory_peak,
            slow_log: std::mem::take(&mut self.slow_log),
            ..Self::default()
        };
        self.rate.requests = 0;
    }
}

/// Error replies, in all and by code.
#[derive(Clone, Debug, Default)]
pub struct Errors {
    /// All of them.
    pub total: u64,
    /// By code, in the order of the codes.
    codes: Vec<(Box<str>, u64)>,
}

/// Codes that are told apart. They are words of ours, some twenty, so that the others would be a defect; it is not to cost
/// memory.
const ERROR_CODES_MAX: usize = 64;

impl Errors {
    /// Notes an error reply, which begins with its code.
    #[cold]
    pub fn note(&mut self, text: &[u8]) {
        self.total += 1;
        let code = text.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        match self.codes.binary_search_by(|(known, _)| known.as_bytes().cmp(code)) {
            Ok(position) => self.codes[position].1 += 1,
            Err(position) if self.codes.len() < ERROR_CODES_MAX => {
                self.codes.insert(position, (String::from_utf8_lossy(code).into(), 1));
            }
            Err(_) => {}
        }
    }

    /// The codes in their order, and how often each was answered.
    pub fn by_code(&self) -> impl Iterator<Item = (&str, u64)> {
        self.codes.iter().map(|(code, count)| (&**code, *count))
    }
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
    /// How these are spread.
    pub times: Times,
}

/// How long calls took: a count for each power of two, from a sixteenth of a microsecond to two minutes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Of each bucket the calls that took at most 2^position sixteenths, and more than half of that.
    buckets: [u32; 32],
}

impl Times {
    /// Notes calls that together took so many microseconds.
    #[inline]
    pub fn note(&mut self, us: u64, calls: u64) {
        let Some(sixteenths) = us.saturating_mul(16).checked_div(calls) else { return };
        let position = u64::BITS - sixteenths.saturating_sub(1).leading_zeros();
        let bucket = &mut self.buckets[(position as usize).min(31)];
        *bucket = bucket.saturating_add(u32::try_from(calls).unwrap_or(u32::MAX));
    }

    /// For each bucket that has calls, what they took at most, in microseconds, and how many calls took no more.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let counted = self.buckets.iter().zip(0..32).filter(|(calls, _)| 0 < **calls);
        counted.scan(0, |sum, (&calls, position)| {
            *sum += u64::from(calls);
            Some((2f64.powi(position) / 16.0, *sum))
        })
    }

    /// What that part of the calls took at most, in microseconds: at most twice the truth.
    pub fn percentile(&self, percent: f64) -> f64 {
        let Some((_, count)) = self.cumulative().last() else { return 0.0 };
        let needed = count as f64 * percent / 100.0;
        self.cumulative().find(|&(_, sum)| needed <= sum as f64).map_or(0.0, |(us, _)| us)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// All are counted, and by code those whose code is one of the first.
    #[test]
    fn error_codes_have_a_bound() {
        let mut errors = Errors::default();
        errors.note(b"OOM no\r\n-more");
        errors.note(b"ERR\r\n");
        (0..1000).for_each(|number| errors.note(format!("E{number} a b").as_bytes()));
        errors.note(b"OOM");
        assert_eq!(errors.total, 1003);
        assert_eq!(errors.by_code().count(), ERROR_CODES_MAX);
        assert!(errors.by_code().is_sorted());
        assert_eq!(errors.by_code().find(|(code, _)| *code == "OOM"), Some(("OOM", 2)));
        assert_eq!(errors.by_code().find(|(code, _)| *code == "ERR"), Some(("ERR", 1)));
    }

    /// A percentile is never below the truth, and less than twice as much.
    #[test]
    fn percentiles_are_powers_of_two() {
        let mut times = Times::default();
        assert_eq!(times.percentile(50.0), 0.0);
        for (us, calls) in [(0, 10), (3, 3), (30, 10), (1000, 1), (u64::MAX, 1), (1, 0)] {
            times.note(us, calls);
        }
        let counts: Vec<_> = times.cumulative().collect();
        assert_eq!(counts, [(0.0625, 10), (1.0, 13), (4.0, 23), (1024.0, 24), (134_217_728.0, 25)]);
        for (percent, us) in [(1.0, 0.0625), (40.0, 0.0625), (50.0, 1.0), (92.0, 4.0), (96.0, 1024.0)] {
            assert_eq!(times.percentile(percent), us, "{percent}");
        }
    }
}
