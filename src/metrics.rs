//! Metrics of a core for Prometheus (`METRICS`): their table, and their text.
//!
//! The text is the [exposition format 0.0.4](https://prometheus.io/docs/instrumenting/exposition_formats/). Names follow
//! Prometheus's conventions: `trine_`, base units, `_total` for what only grows; `process_` for what Prometheus's own client
//! libraries tell of any process. A sample of a core has the labels `server` and `core`, one of the whole process `server`
//! alone, so that a sum over cores is right. On the gateway [`crate::gateway`] puts the samples of all cores together.

mod families;

use crate::{core::Core, statistics::Times, store::Store, time::Now};
pub use families::FAMILIES;
use std::fmt::{self, Display, Write};

/// A metric, and all its samples: a family, in Prometheus's words.
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// The kind of number.
    pub kind: Kind,
    /// A line of help.
    pub help: &'static str,
    /// The labels that its samples have besides `server`: `core`, and what they are told apart by.
    pub labels: &'static [&'static str],
    /// Writes its samples.
    write: fn(&mut Samples<'_>, &Source<'_>),
}

/// The kind of a metric's number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It only grows, until the server starts anew or is told to forget (`CONFIG RESETSTAT`).
    Counter,
    /// It goes up and down.
    Gauge,
    /// Cumulative counts of durations, for several upper bounds.
    Histogram,
}

/// The values that metrics are read from.
pub struct Source<'a> {
    /// State of the core besides its keys.
    pub core: &'a Core,
    /// Its keys.
    pub store: &'a Store,
    /// The time.
    pub now: Now,
    /// Its clients.
    pub clients: usize,
}

/// The samples of one family, as they are written.
struct Samples<'a> {
    text: &'a mut String,
    name: &'static str,
    /// `server="one",core="0"`, or without the core.
    common: &'a str,
}

/// The bounds of histograms: powers of two from an eighth of a microsecond to eight seconds. Longer durations are in the last
/// bucket, which has no bound.
const BOUNDS_US: std::ops::RangeInclusive<f64> = 0.125..=8_388_608.0;

/// The metrics of a core, as text.
pub fn render(source: &Source<'_>) -> String {
    let core = source.core;
    let server = format!("server=\"{}\"", escaped(&core.topology.servers()[usize::from(core.me.server)].name));
    let with_core = format!("{server},core=\"{}\"", core.me.core);
    // A core with some dozen commands has this much to tell.
    let mut text = String::with_capacity(64 * 1024);
    for family in FAMILIES {
        let Family { name, kind, help, .. } = family;
        // Writing to a text can't fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        let common = if family.labels.first() == Some(&"core") { &with_core } else { &server };
        (family.write)(&mut Samples { text: &mut text, name, common }, source);
    }
    text
}

/// All metrics as a Markdown table (`trine serve --metrics`).
pub fn as_markdown() -> String {
    let mut text = "| metric | kind | labels | what it says |\n| --- | --- | --- | --- |\n".to_owned();
    for Family { name, kind, help, labels, .. } in FAMILIES {
        let labels = ["server"].iter().chain(labels.iter()).copied().collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {help} |");
    }
    text
}

impl Samples<'_> {
    fn put(&mut self, value: impl Display) {
        let _ = writeln!(self.text, "{}{{{}}} {value}", self.name, self.common);
    }

    /// A sample that is told apart by one label more.
    fn put_with(&mut self, label: &str, label_value: &str, value: impl Display) {
        let (name, common) = (self.name, self.common);
        let _ = writeln!(self.text, "{name}{{{common},{label}=\"{}\"}} {value}", escaped(label_value));
    }

    /// Microseconds, in seconds.
    fn put_us(&mut self, us: u64) {
        self.put(us as f64 / 1e6);
    }

    fn put_times(&mut self, times: &Times) {
        let common = self.common.to_owned();
        self.put_histogram(&common, times);
    }

    fn put_times_with(&mut self, label: &str, label_value: &str, times: &Times) {
        let labels = format!("{},{label}=\"{}\"", self.common, escaped(label_value));
        self.put_histogram(&labels, times);
    }

    fn put_histogram(&mut self, labels: &str, times: &Times) {
        let name = self.name;
        let mut count = 0;
        for (us, sum) in times.cumulative() {
            if BOUNDS_US.contains(&us) {
                let _ = writeln!(self.text, "{name}_bucket{{{labels},le=\"{}\"}} {sum}", us / 1e6);
            }
            count = sum;
        }
        let _ = writeln!(self.text, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        let _ = writeln!(self.text, "{name}_sum{{{labels}}} {}", times.sum_us as f64 / 1e6);
        let _ = writeln!(self.text, "{name}_count{{{labels}}} {count}");
    }
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

#[cfg(test)]
mod tests;
