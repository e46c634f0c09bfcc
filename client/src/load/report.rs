//! The results: a summary for people, and JSON for programs.

use super::{
    conductor::Measured,
    options::Arguments,
    slo::{Objective, Outcome, Search, Tried},
    tally::both,
    target::{Protocol, Target},
    units::time,
    verdict::{self, LoadCpu, STARVED_MAX, Verdict},
    workload::Batch,
};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write};

/// Changes when a program that reads the JSON has to.
const SCHEMA: u32 = 1;
/// Points of a chart of latency by percentile, for each halving of the distance to 100 %.
const PERCENTILE_TICKS: u32 = 4;

/// A whole run.
pub(crate) struct Report<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) arrivals: &'a str,
    /// The rate of the measurement, in an open loop.
    pub(crate) rate: Option<f64>,
    pub(crate) target: &'a Target,
    pub(crate) load: Option<&'a Measured>,
    pub(crate) verify: Option<&'a Measured>,
    pub(crate) measured: &'a Measured,
    pub(crate) search: Option<&'a Search>,
    /// It was ended before its time.
    pub(crate) is_interrupted: bool,
    pub(crate) verdict: Verdict,
    pub(crate) reasons: &'a [String],
}

impl Report<'_> {
    fn operations(&self) -> u64 {
        self.measured.tally.operations.iter().sum()
    }

    fn ops_per_s(&self) -> f64 {
        let seconds = self.measured.took.as_secs_f64();
        if 0.0 < seconds { self.operations() as f64 / seconds } else { 0.0 }
    }

    /// Misses, wrong values and errors of the measurement and of verifying.
    fn found(&self) -> (u64, u64) {
        let verified = self.verify.map_or((0, 0), |verify| (verify.tally.misses, verify.tally.wrong.total()));
        let tally = &self.measured.tally;
        (tally.misses + verified.0, tally.wrong.total() + verified.1)
    }

    /// The phases that were carried out, each with its name, as in "verify".
    fn phases(&self) -> impl Iterator<Item = (&'static str, &Measured)> {
        let phases = [("load", self.load), ("verify", self.verify), ("measure", Some(self.measured))];
        phases.into_iter().filter_map(|(name, measured)| Some((name, measured?)))
    }

    /// Errors of all phases, by kind.
    fn errors(&self) -> BTreeMap<&str, u64> {
        let mut errors = BTreeMap::new();
        for (kind, count) in self.phases().flat_map(|(_, measured)| &measured.tally.errors) {
            *errors.entry(kind.as_str()).or_default() += count;
        }
        errors
    }

    /// Returns true if a number of operations was measured, in place of a time.
    fn is_rounds(&self) -> bool {
        self.arguments.operations.is_some()
    }

    fn keys(&self) -> u64 {
        let own = |operations: u64| operations * u64::from(self.arguments.concurrency);
        self.arguments.operations.map_or(self.arguments.keys, own)
    }

    fn protocol(&self) -> &'static str {
        match self.target.protocol {
            Protocol::Resp => "resp",
            Protocol::Http => "http",
        }
    }

    /// All SETs, or all GETs, by themselves: from the first that was due to the last that was answered.
    fn part(&self, kind: usize) -> Value {
        let (operations, seconds) = self.part_figures(kind);
        json!({
            "operations": operations,
            "seconds": round(seconds, 6),
            "ops_per_s": round(operations as f64 / seconds.max(1e-9), 1),
        })
    }

    fn part_figures(&self, kind: usize) -> (u64, f64) {
        let tally = &self.measured.tally;
        (tally.operations[kind], tally.spans[kind].length().as_secs_f64())
    }

    /// The report as one JSON object.
    pub(crate) fn to_json(&self) -> Value {
        let (arguments, tally) = (self.arguments, &self.measured.tally);
        let (misses, wrong_values) = self.found();
        let seconds =
            |measured: Option<&Measured>| measured.map_or(0.0, |measured| round(measured.took.as_secs_f64(), 3));
        json!({
            "schema": SCHEMA,
            "tool": concat!("trine-load ", env!("CARGO_PKG_VERSION")),
            "command_line": command_line(),
            "target": {
                "address": self.target.addresses[0],
                "addresses": self.target.addresses,
                "protocol": self.protocol(),
                "mode": self.target.mode(),
                "nodes": self.target.routing.nodes().len(),
                "server": self.target.server,
                "commit": self.target.commit,
            },
            "workload": {
                "concurrency": arguments.concurrency,
                "pipeline": arguments.pipeline,
                "batch": arguments.batch.name(),
                "operations": arguments.operations,
                "read_share": (!self.is_rounds()).then_some(arguments.read_share),
                "keys": self.keys(),
                "key_size": arguments.key_size,
                "distribution": (!self.is_rounds()).then(|| arguments.distribution.to_string()),
                "value_size": arguments.value_size.to_string(),
                "rate": self.rate,
                "arrivals": self.rate.map(|_| self.arrivals),
                "seed": arguments.seed,
            },
            "phases": {
                "load_s": seconds(self.load),
                "verify_s": seconds(self.verify),
                "warmup_s": if self.is_rounds() { 0.0 } else { arguments.warmup.as_secs_f64() },
                "measure_s": round(self.measured.took.as_secs_f64(), 6),
            },
            "operations": self.operations(),
            "ops_per_s": round(self.ops_per_s(), 1),
            "reads": tally.operations[0],
            "writes": tally.operations[1],
            "parts": self.is_rounds().then(|| json!({ "set": self.part(1), "get": self.part(0) })),
            "conflicts": tally.conflicts,
            "misses": misses,
            "errors": {
                "total": self.errors().values().sum::<u64>(),
                "by_kind": self.errors(),
                "by_phase": self.phases().map(|(name, phase)| (name, phase.tally.errors_total())).collect::<BTreeMap<_, _>>(),
            },
            "wrong_values": wrong_values,
            "wrong_values_by_kind": {
                "damaged": self.wrong(|wrong| wrong.damaged),
                "foreign": self.wrong(|wrong| wrong.foreign),
                "stale": self.wrong(|wrong| wrong.stale),
                "missing": self.wrong(|wrong| wrong.missing),
            },
            "latency_since_due_us": latencies(&tally.since_due),
            "latency_since_sent_us": latencies(&tally.since_sent),
            "load_cpus": self.measured.cpus.iter().map(|cpu| json!({
                "cpu": cpu.cpu,
                "busy_fraction": round(cpu.busy, 4),
                "starved_fraction": round(cpu.starved, 4),
                "others": cpu.others,
            })).collect::<Vec<_>>(),
            "series": self.measured.seconds.iter().enumerate().map(|(second, point)| json!({
                "second": second,
                "ops": point.ops,
                "p50_us": point.p50_us.map(|us| round(us, 3)),
                "p99_us": point.p99_us.map(|us| round(us, 3)),
            })).collect::<Vec<_>>(),
            "slo": self.search.map(|search| self.slo(search)),
            "interrupted": self.is_interrupted,
            "verdict": self.verdict.name(),
            "reasons": self.reasons,
        })
    }

    fn wrong(&self, kind: impl Fn(super::tally::Wrong) -> u64) -> u64 {
        kind(self.measured.tally.wrong) + self.verify.map_or(0, |verify| kind(verify.tally.wrong))
    }

    fn slo(&self, search: &Search) -> Value {
        json!({
            "expression": self.arguments.slo.as_ref().map(ToString::to_string),
            "rate": search.found(),
            "met": search.found().is_some(),
            "tried": search.all_tried().iter().map(|tried| json!({
                "rate": tried.rate,
                "requests": tried.requests,
                "value_us": tried.value_us.map(|us| round(us, 3)),
                "met": tried.outcome.met(),
                "reasons": tried.reasons,
            })).collect::<Vec<_>>(),
        })
    }

    /// The report for people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let (arguments, tally) = (self.arguments, &self.measured.tally);
        let nodes = self.target.routing.nodes().len();
        let whom = match self.target.mode() {
            "cluster" => format!("cluster of {}", count(nodes as f64, "node")),
            "ring" => format!("{}, keys placed by us", count(nodes as f64, "server")),
            _ => "one server".into(),
        };
        let protocol = if self.target.protocol == Protocol::Http { ", HTTP" } else { "" };
        if self.is_interrupted {
            writeln!(out, "INTERRUPTED: this is what was measured until then")?;
        }
        writeln!(out, "{} ({}), {whom}{protocol}", self.target.name(), self.target.server)?;
        let batch = if arguments.batch == Batch::Node { " for one node each time" } else { "" };
        let clients = count(arguments.concurrency.into(), "client");
        write!(out, "{clients} x {} in flight{batch}, ", group(arguments.pipeline.into()))?;
        if let Some(operations) = arguments.operations {
            writeln!(
                out,
                "each {} and then as many GETs; {}; values of {} bytes",
                count(operations as f64, "SET"),
                count(self.keys() as f64, "key"),
                arguments.value_size,
            )?;
        } else {
            let rate =
                self.rate.map_or("closed loop".into(), |rate| format!("{} requests/s, {}", group(rate), self.arrivals));
            writeln!(
                out,
                "{rate}; {:.0} % reads; {}, {}; values of {} bytes",
                arguments.read_share * 100.0,
                count(arguments.keys as f64, "key"),
                arguments.distribution,
                arguments.value_size,
            )?;
        }
        self.write_phases(out)?;
        let took = self.measured.took.as_secs_f64();
        if 0.0 < took {
            writeln!(out)?;
            let all = ("", self.operations(), took);
            let [get, set] = [("   GET", 0), ("   SET", 1)].map(|(name, kind)| {
                let (operations, seconds) = self.part_figures(kind);
                (name, operations, seconds)
            });
            for (name, operations, seconds) in [all, set, get].into_iter().take(if self.is_rounds() { 3 } else { 1 }) {
                let rate = group(operations as f64 / seconds.max(1e-9));
                writeln!(out, "{rate:>14} ops/s{name}   ({} in {} s)", group(operations as f64), round(seconds, 3))?;
            }
            writeln!(out)?;
            let titles = ["p50", "p90", "p99", "p99.9", "max", "mean"].map(|title| format!("{title:>10}"));
            writeln!(out, "{:<16}{}", "latency", titles.concat())?;
            for (name, histograms) in [("due", &tally.since_due), ("sent", &tally.since_sent)] {
                let all = [("", both(histograms)), (" GET", histograms[0].clone()), (" SET", histograms[1].clone())];
                let is_mixed = !histograms[0].is_empty() && !histograms[1].is_empty();
                for (kind, latencies) in all.iter().take(if is_mixed { 3 } else { 1 }) {
                    writeln!(out, "{:<16}{}", format!("since {name}{kind}"), row(latencies))?;
                }
            }
        }
        self.write_findings(out)
    }

    /// Writes the phases before the measurement: their errors count as much.
    fn write_phases(&self, out: &mut String) -> std::fmt::Result {
        for (name, phase) in self.phases().filter(|(name, _)| *name != "measure") {
            let (answered, keys) =
                (phase.tally.operations.iter().sum::<u64>() + phase.tally.misses, self.arguments.keys);
            let part = if answered < keys { format!("{} of ", group(answered as f64)) } else { String::new() };
            let errors = match phase.tally.errors_total() {
                0 => String::new(),
                errors => format!(", {}", count(errors as f64, "error")),
            };
            writeln!(
                out,
                "{name}: {part}{} in {} s{errors}",
                count(keys as f64, "key"),
                round(phase.took.as_secs_f64(), 3)
            )?;
        }
        Ok(())
    }

    fn write_findings(&self, out: &mut String) -> std::fmt::Result {
        let tally = &self.measured.tally;
        writeln!(out)?;
        if let (Some(search), Some(objective)) = (self.search, &self.arguments.slo) {
            for tried in search.all_tried() {
                writeln!(out, "{}", tried_row(tried, objective))?;
            }
            match (search.failure(), search.met()) {
                (Some(_), Some(rate)) => writeln!(
                    out,
                    "the search ended with a failure: {objective} was met at {} requests/s, and what is above is not known",
                    group(rate)
                )?,
                (Some(_), None) => writeln!(out, "the search ended with a failure, before any rate met {objective}")?,
                (None, Some(rate)) => writeln!(out, "{objective} is met up to {} requests/s", group(rate))?,
                (None, None) => writeln!(out, "{objective} is met at no rate that was tried")?,
            }
        }
        let (misses, wrong) = self.found();
        let (damaged, stale, missing) =
            (self.wrong(|wrong| wrong.damaged), self.wrong(|wrong| wrong.stale), self.wrong(|wrong| wrong.missing));
        let foreign = match self.wrong(|wrong| wrong.foreign) {
            0 => String::new(),
            foreign => format!(", of another run {foreign}"),
        };
        let errors = self.errors();
        writeln!(
            out,
            "wrong values {wrong} (damaged {damaged}, stale {stale}, missing {missing}{foreign}), misses {misses}, errors {}",
            errors.values().sum::<u64>()
        )?;
        if 0 < tally.conflicts {
            writeln!(out, "{} SETs found their keys there already (409)", group(tally.conflicts as f64))?;
        }
        for (kind, count) in &errors {
            writeln!(out, "{count:>14} x {kind}")?;
        }
        let cpus: Vec<String> = self.measured.cpus.iter().map(load_cpu).collect();
        if !cpus.is_empty() {
            writeln!(out, "load: {}", cpus.join(", "))?;
        }
        writeln!(
            out,
            "{}{}{}",
            self.verdict.name(),
            if self.reasons.is_empty() { "" } else { ": " },
            self.reasons.join("; ")
        )
    }
}

fn load_cpu(load: &LoadCpu) -> String {
    let mut text = format!("CPU {} {:.0} % busy", load.cpu, load.busy * 100.0);
    if STARVED_MAX < load.starved {
        let by = verdict::by(&load.others);
        text += &format!(" and taken for {:.0} % by {by}, which latencies include", load.starved * 100.0);
    }
    text
}

/// The arguments as they were given, without the password.
fn command_line() -> Vec<String> {
    let mut arguments: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    for index in 0..arguments.len() {
        if arguments[index].starts_with("--password=") {
            arguments[index] = "--password=***".into();
        } else if 0 < index && arguments[index - 1] == "--password" {
            arguments[index] = "***".into();
        }
    }
    arguments
}

fn latencies(histograms: &[Histogram<u64>; 2]) -> Value {
    let one = |histogram: &Histogram<u64>| if histogram.is_empty() { Value::Null } else { latency(histogram) };
    json!({ "all": latency(&both(histograms)), "get": one(&histograms[0]), "set": one(&histograms[1]) })
}

fn latency(histogram: &Histogram<u64>) -> Value {
    let known = |number: f64| (!histogram.is_empty()).then_some(number);
    let at = |quantile| known(us(histogram.value_at_quantile(quantile)));
    let percentiles: Vec<Value> = if histogram.is_empty() {
        Vec::new()
    } else {
        let points = histogram.iter_quantiles(PERCENTILE_TICKS);
        let points = points.map(|point| (point.quantile_iterated_to() * 100.0, us(point.value_iterated_to())));
        // Also below the median: whoever merges runs of different speeds needs all requests of each.
        points.map(|(percentile, us)| json!([percentile, us])).collect()
    };
    json!({
        "count": histogram.len(),
        "mean": known(round(histogram.mean() / 1e3, 3)),
        "min": known(us(histogram.min())),
        "p50": at(0.5),
        "p90": at(0.9),
        "p95": at(0.95),
        "p99": at(0.99),
        "p999": at(0.999),
        "p9999": at(0.9999),
        "max": known(us(histogram.max())),
        "percentiles": percentiles,
    })
}

fn row(histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return ["-"; 6].map(|none| format!("{none:>10}")).concat();
    }
    let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|quantile| histogram.value_at_quantile(quantile) as f64);
    let latencies = [p50, p90, p99, p999, histogram.max() as f64, histogram.mean()];
    latencies.map(|ns| format!("{:>10}", time(ns))).concat()
}

/// Returns a number of things, such as `1 client` and `1,000 keys`.
fn count(number: f64, noun: &str) -> String {
    let s = if number == 1.0 { "" } else { "s" };
    format!("{} {noun}{s}", group(number))
}

/// One try of a search, for people.
fn tried_row(tried: &Tried, objective: &Objective) -> String {
    let value = tried.value_us.map_or("-".into(), |us| time(us * 1e3));
    let said = match tried.outcome {
        Outcome::Met => "met".into(),
        Outcome::NotMet if tried.requests == 0 && tried.reasons.is_empty() => "not met: no request was answered".into(),
        Outcome::NotMet if tried.reasons.is_empty() => "not met".into(),
        Outcome::NotMet => format!("not met: {}", tried.reasons.join("; ")),
        Outcome::Failed => format!("failed: {}", tried.reasons.join("; ")),
        Outcome::TooFew => {
            format!("too few requests to tell: {}, and it takes {}", tried.requests, objective.requests_min())
        }
    };
    format!("{:>14} requests/s: {value:>10}  {said}", group(tried.rate))
}

fn us(ns: u64) -> f64 {
    round(ns as f64 / 1e3, 3)
}

fn round(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}

/// A whole number with its thousands apart.
fn group(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if 0 < index && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::{super::tally::histogram, *};

    /// If no request was answered, no latency is shown: not 0, which would be the best there is.
    #[test]
    fn no_request_has_no_latency() {
        let mut latencies = [histogram(), histogram()];
        let all = &super::latencies(&latencies)["all"];
        assert_eq!(all["count"], 0);
        for name in ["mean", "min", "p50", "p90", "p95", "p99", "p999", "p9999", "max"] {
            assert_eq!(all.get(name), Some(&Value::Null), "{name}");
        }
        assert_eq!(row(&latencies[0]).split_whitespace().collect::<Vec<_>>(), ["-"; 6]);
        latencies[1].record(2000).unwrap();
        assert_eq!(super::latencies(&latencies)["all"]["min"], 2.0);
        assert_eq!(row(&latencies[1]).chars().count(), row(&latencies[0]).chars().count());
    }

    /// One thing is no plural.
    #[test]
    fn one_thing_is_no_plural() {
        assert_eq!((count(1.0, "client"), count(1000.0, "key")), ("1 client".into(), "1,000 keys".into()));
    }

    /// A try says in words what its figure can't.
    #[test]
    fn a_try_says_what_came_of_it() {
        let objective: Objective = "p99<2ms".parse().unwrap();
        for (requests, value_us, outcome, reasons, expected) in [
            (0, None, Outcome::NotMet, vec![], " -  not met: no request was answered"),
            (6, Some(900.0), Outcome::TooFew, vec![], "900.0 µs  too few requests to tell: 6, and it takes 100"),
            (100, Some(900.0), Outcome::Met, vec![], "900.0 µs  met"),
            (100, Some(900.0), Outcome::NotMet, vec!["the rate was missed"], "900.0 µs  not met: the rate was missed"),
            (9, None, Outcome::Failed, vec!["9 requests failed"], " -  failed: 9 requests failed"),
        ] {
            let reasons = reasons.into_iter().map(str::to_owned).collect();
            let said = tried_row(&Tried { rate: 1000.0, requests, value_us, outcome, reasons }, &objective);
            assert!(said.contains("1,000 requests/s") && said.ends_with(expected), "{said}");
        }
    }
}
