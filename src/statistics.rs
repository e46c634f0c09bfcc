//! What a shard counts of its work, for INFO and for whoever measures it.

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
    /// Microseconds in which the core worked: in turns of the main loop that found something to do. The rest it slept, or
    /// looked in vain.
    pub busy_us: u64,
    /// These turns.
    pub turns: Times,
    /// How long requests waited, from the beginning of the turn in which they were taken from the kernel to when what came
    /// with them on their connection began to be executed.
    pub queue_delay: Times,
    /// The longest that the requests of one connection, as they arrived together, kept the core.
    pub batch_us_max: u64,
    /// Requests a second, lately.
    pub rate: Rate,
    /// Bytes of requests a second, lately.
    pub input_rate: Rate,
    /// Bytes of replies a second, lately.
    pub output_rate: Rate,
    /// The slowest of them.
    pub slow_log: SlowLog,
    /// What else took long.
    pub delays: Delays,
    /// Which requests are looked at more closely.
    pub sampler: Sampler,
    /// From these: what each slot costs.
    pub slots: SlotUses,
    /// From these: which keys are asked for most.
    pub hot_keys: HotKeys,
}

impl Statistics {
    /// Notes that a command, by the number of its row, took so many microseconds for so many calls.
    #[inline]
    pub fn note(&mut self, index: u16, us: u64, calls: u64) {
        self.commands[usize::from(index)].times.note(us, calls);
    }

    /// Notes that another part of a command that is counted already took so many microseconds.
    pub fn note_more(&mut self, index: u16, us: u64) {
        self.commands[usize::from(index)].times.sum_us += us;
    }

    /// Notes a turn of the main loop that found something to do.
    #[inline]
    pub fn note_turn(&mut self, us: u64) {
        self.busy_us += us;
        self.turns.note_each(us, 1);
    }

    /// Notes a request that was picked by the [`sampler`](Self::sampler).
    #[cold]
    ///
    /// `count`: the number of its keys. `slot`: that of the first.
    pub fn note_sample(&mut self, keys: Keys, count: usize, request: Request<'_>, slot: Slot, output_bytes: usize) {
        let weight = self.sampler.take();
        if count == 0 {
            return;
        }
        let (mut key, mut key_slot) = (request.arg(keys.first as usize), slot);
        if 1 < count {
            // One of them stands for all, so that each is as likely to be seen as its own command would make it.
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

    /// Begins anew (`CONFIG RESETSTAT`). The slow log and events have resets of their own, and the peak of memory none, as in Redis.
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
    /// The command's name.
    pub name: &'static str,
    /// How often it ran.
    pub calls: u64,
    /// How often it answered with an error.
    pub failed: u64,
    /// How often it was refused before it ran.
    pub rejected: u64,
    /// Microseconds that it took: measured for commands whose time depends on their data, and for the others their share
    /// of the batch that they came in.
    pub times: Times,
}

impl CommandStatistics {
    /// Returns those of a command that has not run.
    pub fn of(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }
}

/// How many a second over the last sixteen ticks, as Redis's `instantaneous_ops_per_sec`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    samples: [u64; 16],
    position: usize,
    count: u64,
    at_us: u64,
}

impl Rate {
    /// Notes how many there were so far, and the time.
    pub fn note(&mut self, count: u64, monotonic_us: u64) {
        let elapsed = monotonic_us.saturating_sub(self.at_us).max(1);
        let per_second = count.saturating_sub(self.count) * 1_000_000 / elapsed;
        self.samples[self.position % self.samples.len()] = per_second;
        *self = Self { position: self.position.wrapping_add(1), count, at_us: monotonic_us, ..*self };
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
}
