//! Measures how long commands take, and how long they waited.
//!
//! A look at the clock for each would be a good part of their half a microsecond. So those that take about the same share what
//! their batch took, and those whose time depends on their data are measured one by one: commands that are not fast by
//! themselves, and whatever is large, as a request or as a reply.

use super::clock::Clock;
use crate::{
    client::Client,
    commands::{Flags, Keys, Now},
    resp::Request,
    shard::{Shard, Share},
};

/// A request or a reply of so many bytes is measured by itself: to copy them takes as long as some looks at the clock.
const LARGE_BYTES: usize = 4096;
/// Microseconds: if the slow log takes what lasts less, every command is measured by itself: one that shares a lap is known to
/// take less only as long as its work is bounded and the core is not taken from it.
const SHARED_US_MAX: u64 = 10_000;
/// Commands that share a lap; with another, the next lap begins.
const KINDS_MAX: usize = 4;

/// Measures the commands of a batch: what came together by one connection or from one core.
pub(super) struct Stopwatch {
    clock: Clock,
    began_us: u64,
    /// The end of what has been accounted for.
    lap_us: u64,
    /// Of the commands since then that share, the last one's row, and how many of these came in a row.
    row: u16,
    run: u64,
    /// Those before: their rows and how many of each there were.
    kinds: [(u16, u64); KINDS_MAX],
    kind_count: usize,
    /// Commands in all.
    requests: u64,
    /// The request at hand is measured by itself.
    is_large: bool,
    /// Every request is.
    measures_each: bool,
    /// Bytes of the store and of the log after the last request.
    before: (usize, u64),
}

/// Returns the bytes of the store and of the log: a command that changes them by much takes as long as that takes.
#[inline]
fn bytes_of(shard: &Shard) -> (usize, u64) {
    (shard.store.memory(), shard.store.log.as_ref().map_or(0, |log| log.end().0))
}

impl Stopwatch {
    pub(super) fn new(clock: Clock, shard: &Shard) -> Self {
        let now_us = clock.monotonic_us();
        Self {
            clock,
            began_us: now_us,
            lap_us: now_us,
            row: 0,
            run: 0,
            kinds: [(0, 0); KINDS_MAX],
            kind_count: 0,
            requests: 0,
            is_large: false,
            measures_each: shard
                .core
                .config
                .slowlog_log_slower_than
                .is_some_and(|limit| (limit.as_micros() as u64) < SHARED_US_MAX),
            before: bytes_of(shard),
        }
    }

    /// Sees a request before it is executed: what came before a large one is accounted for, so that its time is its own.
    #[inline]
    pub(super) fn prepare(&mut self, shard: &mut Shard, request: Request<'_>) {
        self.is_large = LARGE_BYTES <= request.encoded_bytes() || self.measures_each;
        if self.is_large {
            self.end_run(shard);
            self.share(shard);
        }
    }

    /// Accounts for a command that has just run.
    #[inline]
    pub(super) fn note(
        &mut self,
        shard: &mut Shard,
        request: Request<'_>,
        client: &Client,
        now: Now,
        output_bytes: usize,
    ) {
        let Some(ran) = &shard.ran else { return };
        self.requests += 1;
        let command = ran.found.command;
        let is_alike = (command.flags.has(Flags::FAST) || command.keys == Keys::ONE)
            && ran.share == Share::Whole
            && !self.is_large;
        let row = ran.found.index;
        let has_moved_much = self.has_moved_much(shard);
        if is_alike && output_bytes < LARGE_BYTES && !has_moved_much {
            shard.ran = None;
            if row != self.row {
                self.end_run(shard);
                self.row = row;
            }
            self.run += 1;
        } else {
            self.measure(shard, request, client, now);
        }
    }

    /// Returns true if the command that has just run made the store or the log larger or smaller by much: a small request may
    /// copy, free or evict many bytes.
    #[inline]
    fn has_moved_much(&mut self, shard: &Shard) -> bool {
        let after = bytes_of(shard);
        let ((memory, log), (memory_before, log_before)) = (after, std::mem::replace(&mut self.before, after));
        LARGE_BYTES <= memory.abs_diff(memory_before) || LARGE_BYTES as u64 <= log.saturating_sub(log_before)
    }

    /// Puts the last run to its kind.
    #[inline(never)]
    fn end_run(&mut self, shard: &mut Shard) {
        let (row, run) = (self.row, std::mem::take(&mut self.run));
        if run == 0 {
            return;
        }
        if let Some(kind) = self.kinds[..self.kind_count].iter_mut().find(|(other, _)| *other == row) {
            kind.1 += run;
            return;
        }
        self.kinds[self.kind_count] = (row, run);
        self.kind_count += 1;
        if self.kind_count == KINDS_MAX {
            self.share(shard);
        }
    }

    /// Accounts for one that is measured by itself. What shared a lap before it, if anything, did so for next to nothing.
    #[cold]
    fn measure(&mut self, shard: &mut Shard, request: Request<'_>, client: &Client, now: Now) {
        let Some(ran) = shard.ran.take() else { return };
        let us = self.lap();
        shard.account(ran, us, request, client, now);
    }

    fn lap(&mut self) -> u64 {
        let (before, now) = (self.lap_us, self.clock.monotonic_us());
        self.lap_us = now;
        now - before
    }

    /// Accounts for those that share, each with the mean.
    #[inline(never)]
    fn share(&mut self, shard: &mut Shard) {
        let us = self.lap();
        let kinds = &self.kinds[..std::mem::take(&mut self.kind_count)];
        let count: u64 = kinds.iter().map(|(_, count)| count).sum();
        if count == 0 {
            return;
        }
        let (mut left_us, mut left) = (us, count);
        for &(row, calls) in kinds {
            // What rounding takes from one it gives to the next.
            let share = left_us * calls / left;
            shard.core.statistics.note(row, share, calls);
            (left_us, left) = (left_us - share, left - calls);
        }
        shard.core.statistics.slots.shared(us, count);
    }

    /// Accounts for the rest, and for how long they all had waited.
    pub(super) fn finish(mut self, shard: &mut Shard, turn: Now) {
        self.end_run(shard);
        if 0 < self.kind_count {
            self.share(shard);
        }
        let statistics = &mut shard.core.statistics;
        statistics.batch_us_max = statistics.batch_us_max.max(self.lap_us - self.began_us);
        if 0 < self.requests {
            statistics.queue_delay.note_each(self.began_us.saturating_sub(turn.monotonic_us), self.requests);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        commands::tests::Bench,
        resp::{Decoder, Limits},
    };
    use std::time::Duration;

    const LIMITS: Limits = Limits { arguments_max: 99, argument_bytes_max: 1 << 20, is_authenticated: true };

    /// Executes lines as a batch; returns how many of them were measured by themselves.
    fn run(bench: &mut Bench, lines: &[&str]) -> u64 {
        let mut stopwatch = Stopwatch::new(Clock::new(|| 0, |_| ()), &bench.shard);
        let noted =
            |bench: &Bench| bench.shard.core.statistics.commands.iter().map(|row| row.times.count()).sum::<u64>();
        let before = noted(bench);
        for line in lines {
            let bytes = format!("{line}\r\n");
            let (mut decoder, mut output) = (Decoder::default(), Vec::new());
            decoder.decode(bytes.as_bytes(), &LIMITS).expect("a request");
            let request = decoder.request(bytes.as_bytes());
            stopwatch.prepare(&mut bench.shard, request);
            bench.shard.execute(request, &mut bench.client, bench.now, &mut output);
            stopwatch.note(&mut bench.shard, request, &bench.client, bench.now, output.len());
        }
        let measured = noted(bench) - before;
        stopwatch.finish(&mut bench.shard, bench.now);
        assert_eq!(noted(bench) - before, lines.len() as u64, "each is accounted for once");
        measured
    }

    /// A slow log that takes everything has everything, pipelined or not; as in Redis with a threshold of 0.
    #[test]
    fn a_threshold_of_zero_leaves_nothing_out() {
        let mut bench = Bench::new();
        bench.line("CONFIG SET slowlog-log-slower-than 0");
        run(&mut bench, &["SLOWLOG RESET"]);
        run(&mut bench, &["PING"; 100]);
        assert_eq!(bench.line("SLOWLOG LEN"), ":101");
        bench.line("CONFIG SET slowlog-log-slower-than -1");
        run(&mut bench, &["PING"; 100]);
        assert_eq!(bench.line("SLOWLOG LEN"), ":101");
    }

    /// Small requests of commands that are usually fast share a lap, but for those that move many bytes.
    #[test]
    fn what_moves_many_bytes_is_measured_by_itself() {
        let mut bench = Bench::new();
        assert_eq!(bench.shard.core.config.slowlog_log_slower_than, Some(Duration::from_millis(10)));
        assert_eq!(run(&mut bench, &["SET a 1", "GET a", "APPEND a 2", "INCR a"]), 0);
        for line in
            ["SETRANGE b 500000 x", "APPEND b yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", "GETRANGE b 0 9000", "GETDEL b"]
        {
            let grows = if line.starts_with("APPEND") { "SETRANGE b 700000 x" } else { line };
            assert_eq!(run(&mut bench, &["PING", grows, "PING"]), 1, "{grows}");
        }
    }
}
