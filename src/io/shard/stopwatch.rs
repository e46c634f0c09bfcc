//! Measures how long commands take, and how long they waited.
//!
//! A look at the clock for each would be a good part of their half a microsecond. So those that take about the same share what
//! their batch took, and those whose time depends on their data are measured one by one: commands that are not fast by
//! themselves, and whatever is large, as a request or as a reply.

use crate::{
    client::Client,
    commands::{Flags, Keys, Now},
    io::clock::Clock,
    resp::Request,
    shard::Shard,
    statistics::Delay,
};

/// A request or a reply of so many bytes is measured by itself: to copy them takes as long as some looks at the clock.
const LARGE_BYTES: usize = 4096;
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
}

impl Stopwatch {
    pub(super) fn new(clock: Clock) -> Self {
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
        }
    }

    /// Sees a request before it is executed: what came before a large one is accounted for, so that its time is its own.
    #[inline]
    pub(super) fn prepare(&mut self, shard: &mut Shard, request: Request<'_>) {
        self.is_large = LARGE_BYTES <= request.encoded_bytes();
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
        let is_alike = command.flags.has(Flags::FAST) || command.keys == Keys::ONE;
        if is_alike && !self.is_large && output_bytes < LARGE_BYTES {
            let row = ran.found.index;
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
        let core = &mut shard.core;
        core.statistics.note(ran.found.index, us, 1);
        if ran.found.command.keys != Keys::NONE {
            core.statistics.slots.measured(ran.slot, us, ran.was_picked);
        }
        core.note_delay(Delay::Command, us, now.unix_us);
        if core.config.slowlog_log_slower_than.is_some_and(|limit| limit.as_micros() as u64 <= us) {
            let length_max = core.config.slowlog_max_len;
            core.statistics.slow_log.note(request, client, us, now, length_max);
        }
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
