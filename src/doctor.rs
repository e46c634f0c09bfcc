//! Diagnosis of a machine for `trine doctor`: from readings, which are data, to findings, each with a reason and a fix.
//!
//! `io/doctor` takes the readings. So what is said of a kernel that is too old, or of a container that filters io_uring, can
//! be tested anywhere.

mod disk;
mod machine;
mod network;
mod processor;
pub mod readings;
pub mod ring;

pub use readings::Readings;

use crate::printable::printable;
use serde::Serialize;
use std::fmt::Write as _;

/// The effect of a finding on Trine.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Well. A fix that is given all the same is a hint for measurements.
    Ok,
    /// It runs, but slower, less steadily or with less room than it could.
    Warn,
    /// It does not run, or not as asked.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// The subject. These names stay: programs look for them.
    pub name: &'static str,
    /// The effect on Trine.
    pub state: State,
    /// The value that was read.
    pub value: String,
    /// Why it matters; empty where nothing needs to be said.
    pub reason: String,
    /// The fix, a command where there is one; empty where nothing is to be done.
    pub fix: String,
}

impl Finding {
    fn new(name: &'static str, state: State, value: impl Into<String>) -> Self {
        Self { name, state, value: value.into(), reason: String::new(), fix: String::new() }
    }

    fn ok(name: &'static str, value: impl Into<String>) -> Self {
        Self::new(name, State::Ok, value)
    }

    fn warn(name: &'static str, value: impl Into<String>) -> Self {
        Self::new(name, State::Warn, value)
    }

    fn fail(name: &'static str, value: impl Into<String>) -> Self {
        Self::new(name, State::Fail, value)
    }

    fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), ..self }
    }
}

/// All that was found, as `--json` has it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The form of this: 1. A later version may add findings and fields; it takes none away.
    pub version: u32,
    /// The worst of the findings.
    pub state: State,
    /// In the order in which a reader wants them: what keeps Trine from running first.
    pub findings: Vec<Finding>,
}

/// Looks at everything that was read.
pub fn examine(readings: &Readings) -> Diagnosis {
    let mut findings = vec![machine::kernel(readings), machine::io_uring(readings)];
    findings.push(machine::pinning(readings));
    findings.push(machine::locked_memory(readings));
    findings.push(machine::open_files(readings));
    findings.push(processor::cpus(readings));
    findings.push(processor::quota(readings));
    findings.push(processor::spare_cpu(readings));
    findings.push(processor::load(readings));
    findings.push(processor::threads(readings));
    findings.push(processor::governor(readings));
    findings.push(processor::turbo(readings));
    findings.push(processor::clock_source(readings));
    findings.push(processor::virtual_machine(readings));
    findings.push(machine::memory(readings));
    findings.push(machine::huge_pages(readings));
    findings.push(machine::swap(readings));
    findings.push(network::backlog(readings));
    findings.push(network::ports(readings));
    findings.extend(readings.disk.iter().flat_map(disk::findings));
    let state = findings.iter().map(|finding| finding.state).max().unwrap_or(State::Ok);
    Diagnosis { version: 1, state, findings }
}

impl State {
    /// `ok`, `warn` or `fail`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }

    /// The colour's code of a terminal: green, yellow, red.
    fn colour(self) -> u8 {
        match self {
            Self::Ok => 32,
            Self::Warn => 33,
            Self::Fail => 31,
        }
    }
}

/// Returns the report for people: a line a finding, and below it the reason and the fix where it is not well, or where there is
/// a hint. Lines are broken at `width`.
pub fn table(diagnosis: &Diagnosis, width: usize, is_coloured: bool) -> String {
    let mut text = String::new();
    let names = diagnosis.findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let indent = "ok".len() + 2 + 2 + names + 2;
    let line = |text: &mut String, label: &str, rest: &str| {
        let begin = format!("{:indent$}{label}", "");
        for (position, part) in
            broken(&printable(rest), width.saturating_sub(begin.len()).max(30)).into_iter().enumerate()
        {
            let begin = if position == 0 { begin.clone() } else { " ".repeat(begin.len()) };
            let _ = writeln!(text, "{begin}{part}");
        }
    };
    for finding in &diagnosis.findings {
        let state = format!("{:<4}", finding.state.name());
        let state = if is_coloured { format!("\x1b[{}m{state}\x1b[0m", finding.state.colour()) } else { state };
        let _ = writeln!(text, "{state}  {:<names$}  {}", finding.name, printable(&finding.value));
        if !finding.reason.is_empty() {
            line(&mut text, "", &finding.reason);
        }
        if !finding.fix.is_empty() {
            line(&mut text, if finding.state == State::Ok { "hint: " } else { "fix: " }, &finding.fix);
        }
    }
    text + &verdict(diagnosis)
}

/// The last line.
fn verdict(diagnosis: &Diagnosis) -> String {
    let count = |state| diagnosis.findings.iter().filter(|finding| finding.state == state).count();
    let (warnings, failures) = (count(State::Warn), count(State::Fail));
    let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    match diagnosis.state {
        State::Ok => "all is well\n".into(),
        State::Warn => format!("Trine runs here; {}\n", plural(warnings, "warning")),
        State::Fail => format!("{} in the way, {}\n", plural(failures, "thing"), plural(warnings, "warning")),
    }
}

/// Breaks a text into lines of at most `width` characters, at spaces.
fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is one from the start");
        if !last.is_empty() && width < last.chars().count() + 1 + word.chars().count() {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests;
