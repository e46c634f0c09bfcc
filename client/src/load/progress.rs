//! The progress line on a terminal; silence anywhere else.

use super::units::time;
use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

/// One second of a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Second {
    pub(crate) ops: u64,
    /// `None` where no request was answered.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
}

/// Draws one line over and over.
#[derive(Debug)]
pub(crate) struct Progress {
    is_shown: bool,
    is_drawn: bool,
    last: (u64, Duration),
}

impl Progress {
    /// Shows progress if standard error is a terminal and nobody wants quiet.
    pub(crate) fn new(is_quiet: bool) -> Self {
        Self { is_shown: !is_quiet && io::stderr().is_terminal(), is_drawn: false, last: (0, Duration::ZERO) }
    }

    pub(crate) fn show(
        &mut self,
        label: &str,
        answered: u64,
        expected: Option<u64>,
        elapsed: Duration,
        second: Option<Second>,
    ) {
        if !self.is_shown {
            return;
        }
        let (before, then) = if self.last.1 < elapsed { self.last } else { (0, Duration::ZERO) };
        let rate = answered.saturating_sub(before) as f64 / (elapsed - then).as_secs_f64().max(1e-3);
        self.last = (answered, elapsed);
        let seconds = elapsed.as_secs_f64();
        let mut line = format!("{label} {seconds:5.1} s  {rate:>9.0} ops/s");
        if let Some(expected) = expected {
            line += &format!("  {:3.0} %", 100.0 * answered as f64 / expected.max(1) as f64);
        }
        if let Some(Second { p50_us: Some(p50), p99_us: Some(p99), .. }) = second {
            line += &format!("  p50 {}  p99 {}", time(p50 * 1e3), time(p99 * 1e3));
        }
        self.is_drawn = true;
        // A terminal that has gone is no reason to stop.
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        self.last = (0, Duration::ZERO);
    }
}
