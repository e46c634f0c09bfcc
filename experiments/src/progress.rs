//! Progress of an experiment: one line that changes on a terminal, one line per run in a pipe.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::result::{Outcome, Run};

/// Written to standard error; results go to standard output.
pub struct Progress {
    total: usize,
    done: usize,
    began: Instant,
    on_terminal: bool,
}

impl Progress {
    pub fn new(total: usize) -> Self {
        Self { total, done: 0, began: Instant::now(), on_terminal: std::io::stderr().is_terminal() }
    }

    /// Says what is measured now, and how long the rest will take if it goes on like this.
    pub fn begin(&mut self, name: &str) {
        if self.on_terminal {
            let left = match self.done {
                0 => String::new(),
                done => {
                    let seconds = self.began.elapsed().as_secs_f64() / done as f64 * (self.total - done) as f64;
                    format!(", {} left", humantime::format_duration(Duration::from_secs(seconds.ceil() as u64)))
                }
            };
            eprint!("\r\x1b[K{}/{} {name}{left}", self.done + 1, self.total);
            let _ = std::io::stderr().flush();
        }
    }

    /// Says what came of it.
    pub fn end(&mut self, name: &str, run: &Run) {
        self.done += 1;
        let result = match (&run.outcome, run.figures(), run.verdict()) {
            (Outcome::Failed { message, .. }, ..) => format!("failed: {message}"),
            (_, Some(figures), Some(verdict)) => {
                let p99 = figures.latency_since_due_us.all.p99;
                let p99 = p99.map_or_else(|| "-".to_owned(), |us| format!("{us:.0}"));
                format!("{:.0} ops/s, p99 {p99} µs, {verdict}", figures.ops_per_s)
            }
            _ => unreachable!("a run that did not fail was measured"),
        };
        match (self.on_terminal, &run.outcome) {
            (false, _) => eprintln!("{}/{} {name}: {result}", self.done, self.total),
            // A failure stays on the screen.
            (true, Outcome::Failed { .. }) => eprintln!("\r\x1b[K{}/{} {name}: {result}", self.done, self.total),
            (true, Outcome::Measured { .. }) => {}
        }
        if self.on_terminal && self.done == self.total {
            eprint!("\r\x1b[K");
        }
    }
}
