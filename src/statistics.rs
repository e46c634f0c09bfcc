//! A shard's statistics, for INFO, METRICS and the commands that show one of them.

mod delays;
mod hot_keys;
mod sampler;
mod slots;
mod times;

use crate::{keys::Keys, resp::Request, slot::Slot, slow_log::SlowLog};
pub use delays::{Delay, Delayed, Delays};
pub use hot_keys::{Heat, HotKey, HotKeys};
pub use sampler::Sampler;
pub use slots::{SlotUse, SlotUses};
pub use times::Times;

/// A shard's statistics since its start, or since `CONFIG RESETSTAT`.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    /// The number of accepted connections.
    pub connections_received: u64,
    /// The number of connections that were closed at once because `maxclients` was reached.
    pub connections_rejected: u64,
    /// The number of requests executed here. A request that a gateway has split counts once, on the core that executes
    /// its first part.
    pub requests: u64,
    /// The bytes of requests.
    pub input_bytes: u64,
    /// The bytes of replies.
    pub output_bytes: u64,
    /// The error replies.
    pub errors: Errors,
    /// The number of requests that this core has forwarded to another (gateway).
    pub passed_on: u64,
    /// The most bytes that the store has had, seen after each batch of requests.
    pub memory_peak: usize,
    /// The statistics of each command, in the order of the table's rows.
    pub commands: Vec<CommandStatistics>,
    /// Microseconds in which the core worked, in turns of the main loop that found something to do. It spent the rest
    /// asleep or in turns that found nothing.
    pub busy_us: u64,
    /// The durations of the turns that found something to do.
    pub turns: Times,
    /// The time that requests waited, from the beginning of the turn that took them from the kernel until the execution
    /// of their batch began.
    pub queue_delay: Times,
    /// The longest time that a batch took: requests that arrived together on one connection.
    pub batch_us_max: u64,
    /// Recent requests per second.
    pub rate: Rate,
    /// Recent bytes of requests per second.
    pub input_rate: Rate,
    /// Recent bytes of replies per second.
    pub output_rate: Rate,
    /// The slow log.
    pub slow_log: SlowLog,
    /// The events that took long.
    pub delays: Delays,
    /// The choice of the requests that are sampled.
    pub sampler: Sampler,
    /// The use of each slot, from the samples.
    pub slots: SlotUses,
    /// The keys with the most accesses, from the samples.
    pub hot_keys: HotKeys,
}

impl Statistics {
    /// Counts `calls` calls of a command that took `us` microseconds together. `index`: the number of the command's
    /// row.
    #[inline]
    pub fn note(&mut self, index: u16, us: u64, calls: u64) {
        self.commands[usize::from(index)].times.note(us, calls);
    }

    /// Adds `us` microseconds to a command whose call has been counted with another part of it.
    pub fn note_more(&mut self, index: u16, us: u64) {
        self.commands[usize::from(index)].times.sum_us += us;
    }

    /// Counts a turn of the main loop that found something to do.
    #[inline]
    pub fn note_turn(&mut self, us: u64) {
        self.busy_us += us;
        self.turns.note_each(us, 1);
    }

    /// Adds a request that the [`sampler`](Self::sampler) has picked to the use of its slot and to the hot keys.
    ///
    /// `count`: the number of its keys. `slot`: that of the first.
    #[cold]
    pub fn note_sample(&mut self, keys: Keys, count: usize, request: Request<'_>, slot: Slot, output_bytes: usize) {
        let weight = self.sampler.take();
        if count == 0 {
            return;
        }
        let (mut key, mut key_slot) = (request.arg(keys.first as usize), slot);
        if 1 < count {
            // One key, chosen at random, stands for all: each is then counted as often as if it had a command of its
            // own.
            let picked = self.sampler.below(count);
            let index = keys.indices(request.len()).nth(picked).expect("it is below their count");
            key = request.arg(index);
            key_slot = Slot::of(key);
        }
        let (input_bytes, output_bytes) = (request.encoded_bytes() as u64, output_bytes as u64);
        self.slots.note(key_slot, weight, input_bytes, output_bytes);
        let accesses = u64::from(weight) * count as u64;
        self.hot_keys.note(key, accesses, (input_bytes + output_bytes) * u64::from(weight));
    }

    /// Notes the bytes that the store has now.
    #[inline]
    pub fn note_memory(&mut self, bytes: usize) {
        self.memory_peak = self.memory_peak.max(bytes);
    }

    /// Counts a request that was refused with this error before its command ran. `index`: the number of the command's
    /// row.
    #[cold]
    pub fn reject(&mut self, index: u16, text: &str) {
        self.commands[usize::from(index)].rejected += 1;
        self.errors.note(text.as_bytes());
    }

    /// Resets the statistics (`CONFIG RESETSTAT`). As in Redis, the slow log and the events that took long have
    /// commands of their own for that, and the peak of memory has none.
    pub fn reset(&mut self, monotonic_us: u64) {
        self.hot_keys.clear(monotonic_us);
        *self = Self {
            hot_keys: std::mem::take(&mut self.hot_keys),
            sampler: self.sampler.clone(),
            commands: self.commands.iter().map(|command| CommandStatistics::of(command.name)).collect(),
            rate: self.rate,
            input_rate: self.input_rate,
            output_rate: self.output_rate,
            memory_peak: self.memory_peak,
            slow_log: std::mem::take(&mut self.slow_log),
            delays: std::mem::take(&mut self.delays),
            ..Self::default()
        };
        [&mut self.rate, &mut self.input_rate, &mut self.output_rate].into_iter().for_each(|rate| rate.count = 0);
    }
}

/// The numbers of error replies: in total, and by code.
#[derive(Clone, Debug, Default)]
pub struct Errors {
    /// All error replies.
    pub total: u64,
    /// The number of each code, sorted by code.
    codes: Vec<(Box<str>, u64)>,
}

/// The most codes that are counted. The server has some twenty, so that more would be a defect, and that must not cost
/// memory.
const ERROR_CODES_MAX: usize = 64;

impl Errors {
    /// Counts an error reply, which begins with its code.
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

    /// Iterates over the codes in their order, each with its number of replies.
    pub fn by_code(&self) -> impl Iterator<Item = (&str, u64)> {
        self.codes.iter().map(|(code, count)| (&**code, *count))
    }
}

/// The statistics of one command.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommandStatistics {
    /// The command's name.
    pub name: &'static str,
    /// The number of calls.
    pub calls: u64,
    /// The number of calls whose reply was an error.
    pub failed: u64,
    /// The number of requests that were refused before it ran.
    pub rejected: u64,
    /// The durations of its calls: measured for commands whose time depends on their data, and for the others their
    /// share of their batch's time.
    pub times: Times,
}

impl CommandStatistics {
    /// Returns the statistics of a command that has not run.
    pub fn of(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }
}

/// A rate per second over the last sixteen ticks, as Redis's `instantaneous_ops_per_sec`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    samples: [u64; 16],
    position: usize,
    count: u64,
    at_us: u64,
}

impl Rate {
    /// Adds a sample: the count so far, and the time.
    pub fn note(&mut self, count: u64, monotonic_us: u64) {
        let elapsed = monotonic_us.saturating_sub(self.at_us).max(1);
        let per_second = count.saturating_sub(self.count) * 1_000_000 / elapsed;
        self.samples[self.position % self.samples.len()] = per_second;
        *self = Self { position: self.position.wrapping_add(1), count, at_us: monotonic_us, ..*self };
    }

    /// Returns the mean of the last samples.
    pub fn per_second(&self) -> u64 {
        self.samples.iter().sum::<u64>() / self.samples.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All replies are counted, but only the codes that come first get a count of their own.
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
}
