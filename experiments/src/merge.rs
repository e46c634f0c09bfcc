//! Makes one folder of those that several load hosts wrote: counts are added up, and latencies come from the histograms
//! of all of their requests. A percentile of percentiles would be none.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::{Map, Value, json};

use crate::experiment::{Experiment, ExperimentError};
use crate::machine::Utilisation;
use crate::party::Member;
use crate::point::Point;
use crate::result::{Failure, Folder, Journal, LoadReport, Outcome, ResultError, Results, Run, Verdict, append_line};
use crate::statistics::{Steadiness, steadiness};

/// Load hosts that began further apart than this share of the measurement did not measure the same thing.
const APART_MAX: f64 = 0.1;
/// Points of a curve of latency by percentile, for each halving of the distance to 100 %: as many as the load generator's.
const PERCENTILE_TICKS: u32 = 4;

/// Writes to `out` what the load hosts of `folders`, in the order of their numbers, measured together.
pub fn merge(out: &Folder, folders: &[Folder]) -> Result<(), MergeError> {
    let first = folders.first().ok_or(MergeError::Nothing)?;
    let experiment = Experiment::read(&first.experiment_file()).map_err(MergeError::Experiment)?;
    let mut members = Vec::new();
    for (folder, number) in folders.iter().zip(1..) {
        if Experiment::read(&folder.experiment_file()).map_err(MergeError::Experiment)? != experiment {
            return Err(MergeError::OtherExperiment { one: first.0.clone(), other: folder.0.clone() });
        }
        let name = folder.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let member = Member { number, of: u32::try_from(folders.len()).unwrap_or(u32::MAX) };
        let results = folder.read().map_err(MergeError::Result)?;
        members.push(Measured { name, member, folder: folder.clone(), results });
    }
    begin(out, first, folders)?;
    let (mut journal, _) = Journal::open(out).map_err(MergeError::Result)?;
    for group in experiment.schedule() {
        for point in &group.points {
            let run = combine(point, group.repeat, &members)?;
            journal.append(&run).map_err(MergeError::Result)?;
        }
    }
    Ok(())
}

/// Makes the folder, with the experiment and the environments of all.
fn begin(out: &Folder, first: &Folder, folders: &[Folder]) -> Result<(), MergeError> {
    let failed = |path: PathBuf| |error| MergeError::Io { path, error };
    if out.runs_file().exists() {
        return Err(MergeError::Taken { folder: out.0.clone() });
    }
    std::fs::create_dir_all(&out.0).map_err(failed(out.0.clone()))?;
    std::fs::copy(first.experiment_file(), out.experiment_file()).map_err(failed(out.experiment_file()))?;
    let path = out.environment_file();
    let mut file = std::fs::File::create(&path).map_err(failed(path.clone()))?;
    for environment in folders.iter().flat_map(Folder::environments) {
        append_line(&mut file, &environment).map_err(failed(path.clone()))?;
    }
    Ok(())
}

/// The measurement of one load host.
struct Measured {
    name: String,
    member: Member,
    folder: Folder,
    results: Results,
}

/// One load host's part of a run.
struct Part<'a> {
    name: &'a str,
    run: &'a Run,
    report: Value,
    log: Log,
}

/// Returns what all load hosts measured of a point in one repeat; a failure, where one of them has none.
fn combine(point: &Point, repeat: u32, members: &[Measured]) -> Result<Run, MergeError> {
    let mut parts = Vec::new();
    let mut missing = Vec::new();
    for Measured { name, member, folder, results } in members {
        if member.part(point).is_none() {
            continue;
        }
        let id = point.id();
        let run = results.runs.iter().find(|run| run.repeat == repeat && run.point.id() == id);
        match run.map(|run| (run, &run.outcome)) {
            Some((run, Outcome::Measured { load, .. })) => {
                let log = Log::read(&folder.hlog_file(point, repeat))?;
                parts.push(Part { name, run, report: Value::from(load.as_ref().clone()), log });
            }
            Some((_, Outcome::Failed { message, .. })) => missing.push(format!("{name}: {message}")),
            None => missing.push(format!("{name}: did not measure it")),
        }
    }
    let outcome = match (parts.as_slice(), missing.as_slice()) {
        ([_, ..], []) => add_up(point, &parts)?,
        _ => Outcome::Failed { kind: Failure::Load, message: missing.join("; ") },
    };
    let of_all = |field: fn(&Run) -> &String| {
        let mut all: Vec<&str> = parts.iter().map(|part| field(part.run).as_str()).collect();
        all.sort_unstable();
        all.dedup();
        all.join(" and ")
    };
    Ok(Run {
        schema: 1,
        point: point.clone(),
        repeat,
        started: parts.iter().map(|part| part.run.started.clone()).min().unwrap_or_default(),
        commit: of_all(|run| &run.commit),
        target_command: Vec::new(),
        load_command: parts.first().map(|part| part.run.load_command.clone()).unwrap_or_default(),
        // Of several machines; each report has its own load CPUs.
        utilisation: Utilisation::default(),
        outcome,
    })
}

/// Adds up what was measured. There is at least one part.
fn add_up(point: &Point, parts: &[Part<'_>]) -> Result<Outcome, MergeError> {
    let mut sum = Log::default();
    parts.iter().try_for_each(|part| sum.add(&part.log))?;
    let count = |field: &str| parts.iter().map(|part| whole(&part.report, field)).sum::<u64>();
    let rate = parts.iter().map(|part| number(&part.report, "/ops_per_s")).sum::<f64>();
    let seconds = sum.seconds()?;
    let (verdict, reasons) = judge(parts);
    let mut report = parts[0].report.clone();
    let steadiness = steadiness(&seconds.iter().map(|second| second.count as f64).collect::<Vec<_>>());
    let merged = json!({
        "tool": concat!("trine-lab merge ", env!("CARGO_PKG_VERSION")),
        "operations": count("/operations"),
        "ops_per_s": rate,
        "reads": count("/reads"),
        "writes": count("/writes"),
        "misses": count("/misses"),
        "errors": { "total": count("/errors/total"), "by_kind": by_kind(parts, "/errors/by_kind") },
        "wrong_values": count("/wrong_values"),
        "wrong_values_by_kind": by_kind(parts, "/wrong_values_by_kind"),
        "latency_since_due_us": {
            "all": latency(&sum.total(&["GET", "SET"])?),
            "get": latency(&sum.total(&["GET"])?),
            "set": latency(&sum.total(&["SET"])?),
        },
        "series": seconds.iter().map(Second::json).collect::<Vec<_>>(),
        "load_cpus": parts.iter().flat_map(load_cpus).collect::<Vec<_>>(),
        "members": parts.iter().map(member).collect::<Vec<_>>(),
        "verdict": verdict,
        "reasons": reasons,
    });
    if let (Some(report), Value::Object(merged)) = (report.as_object_mut(), merged) {
        report.extend(merged);
        // Logs have no histogram of it, so there is nothing to add up.
        report.remove("latency_since_sent_us");
        report.remove("command_line");
        if let Some(workload) = report.get_mut("workload").and_then(Value::as_object_mut) {
            workload.insert("concurrency".to_owned(), json!(point.concurrency));
            workload.insert("rate".to_owned(), json!(point.rate));
        }
    }
    let load = LoadReport::try_from(report).map_err(|error| MergeError::Report { error })?;
    let steadiness = if point.rate.is_some() { Steadiness::Steady } else { steadiness };
    Ok(Outcome::Measured { steadiness, attempts: 1, load: Box::new(load) })
}

/// Returns the worst verdict, and every reason with the name of who has it.
fn judge(parts: &[Part<'_>]) -> (Verdict, Vec<String>) {
    let figures = parts.iter().filter_map(|part| Some((part.name, part.run.figures()?)));
    let mut verdict = figures.clone().map(|(_, figures)| figures.verdict).max().unwrap_or(Verdict::Invalid);
    let mut reasons: Vec<String> = figures
        .flat_map(|(name, figures)| figures.reasons.iter().map(move |reason| format!("{name}: {reason}")))
        .collect();
    let begins = || parts.iter().map(|part| part.log.began_s);
    let apart = begins().fold(f64::MIN, f64::max) - begins().fold(f64::MAX, f64::min);
    let measured = number(&parts[0].report, "/phases/measure_s");
    if measured * APART_MAX < apart {
        verdict = verdict.max(Verdict::Suspect);
        reasons.push(format!("by their clocks the load hosts began {apart:.3} s apart, of {measured} s"));
    }
    (verdict, reasons)
}

fn member(part: &Part<'_>) -> Value {
    json!({
        "host": part.name,
        "operations": whole(&part.report, "/operations"),
        "ops_per_s": number(&part.report, "/ops_per_s"),
        "concurrency": whole(&part.report, "/workload/concurrency"),
        "began_s": part.log.began_s,
        "verdict": part.report.get("verdict"),
        "load_command": part.run.load_command,
    })
}

fn load_cpus(part: &Part<'_>) -> Vec<Value> {
    let cpus = part.report.get("load_cpus").and_then(Value::as_array).cloned().unwrap_or_default();
    let named = |mut cpu: Value| {
        if let Some(fields) = cpu.as_object_mut() {
            fields.insert("host".to_owned(), json!(part.name));
        }
        cpu
    };
    cpus.into_iter().map(named).collect()
}

fn whole(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0)
}

/// Adds up counts that have names.
fn by_kind(parts: &[Part<'_>], pointer: &str) -> Value {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for counts in parts.iter().filter_map(|part| part.report.pointer(pointer)?.as_object()) {
        for (kind, count) in counts {
            *sums.entry(kind).or_default() += count.as_u64().unwrap_or(0);
        }
    }
    Value::Object(sums.into_iter().map(|(kind, count)| (kind.to_owned(), json!(count))).collect::<Map<_, _>>())
}

/// Returns a latency as the load generator writes it, from nanoseconds.
fn latency(histogram: &Histogram<u64>) -> Value {
    let us = |ns: u64| ns as f64 / 1e3;
    let at = |quantile| us(histogram.value_at_quantile(quantile));
    let points = histogram.iter_quantiles(PERCENTILE_TICKS);
    let points = points.map(|point| (point.quantile_iterated_to() * 100.0, us(point.value_iterated_to())));
    let percentiles: Vec<(f64, f64)> = points.collect();
    if histogram.is_empty() {
        return Value::Null;
    }
    json!({
        "count": histogram.len(),
        "mean": histogram.mean() / 1e3,
        "min": us(histogram.min()),
        "p50": at(0.5),
        "p90": at(0.9),
        "p95": at(0.95),
        "p99": at(0.99),
        "p999": at(0.999),
        "p9999": at(0.9999),
        "max": us(histogram.max()),
        "percentiles": percentiles,
    })
}

/// Latencies since requests were due, in nanoseconds, by second and kind: a HdrHistogram log.
#[derive(Debug, Default)]
struct Log {
    /// The time at which the measurement began, in seconds since 1970 by the clock of its host.
    began_s: f64,
    intervals: BTreeMap<(u64, String), Histogram<u64>>,
}

/// The replies of one second.
struct Second {
    second: u64,
    count: u64,
    p50_us: f64,
    p99_us: f64,
}

impl Second {
    fn json(&self) -> Value {
        json!({ "second": self.second, "ops": self.count, "p50_us": self.p50_us, "p99_us": self.p99_us })
    }
}

impl Log {
    fn read(path: &Path) -> Result<Self, MergeError> {
        let bytes = std::fs::read(path).map_err(|error| MergeError::Io { path: path.to_owned(), error })?;
        Self::parse(&bytes).map_err(|what| MergeError::Log { path: path.to_owned(), what })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut log = Self::default();
        for entry in IntervalLogIterator::new(bytes) {
            match entry.map_err(|error| format!("{error:?}"))? {
                LogEntry::BaseTime(since) => log.began_s = since.as_secs_f64(),
                LogEntry::StartTime(_) => {}
                LogEntry::Interval(interval) => {
                    let tag = interval.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default();
                    let encoded = interval.encoded_histogram();
                    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded);
                    let bytes = bytes.map_err(|error| error.to_string())?;
                    let histogram = Deserializer::new().deserialize(&mut bytes.as_slice());
                    let histogram: Histogram<u64> = histogram.map_err(|error| error.to_string())?;
                    log.insert((interval.start_timestamp().as_secs(), tag), &histogram)?;
                }
            }
        }
        Ok(log)
    }

    fn insert(&mut self, key: (u64, String), histogram: &Histogram<u64>) -> Result<(), String> {
        match self.intervals.get_mut(&key) {
            Some(sum) => sum.add(histogram).map_err(|error| error.to_string()),
            None => {
                self.intervals.insert(key, histogram.clone());
                Ok(())
            }
        }
    }

    fn add(&mut self, other: &Self) -> Result<(), MergeError> {
        let mut all = other.intervals.iter();
        let added = all.try_for_each(|(key, histogram)| self.insert(key.clone(), histogram));
        added.map_err(|what| MergeError::Log { path: PathBuf::from("histograms"), what })
    }

    /// Returns all latencies of some kinds.
    fn total(&self, tags: &[&str]) -> Result<Histogram<u64>, MergeError> {
        sum(self.intervals.iter().filter(|((_, tag), _)| tags.contains(&tag.as_str())).map(|(_, histogram)| histogram))
    }

    /// Returns what was answered in each second, in order.
    fn seconds(&self) -> Result<Vec<Second>, MergeError> {
        let mut by_second: BTreeMap<u64, Vec<&Histogram<u64>>> = BTreeMap::new();
        self.intervals
            .iter()
            .for_each(|((second, _), histogram)| by_second.entry(*second).or_default().push(histogram));
        let summed = by_second.into_iter().map(|(second, histograms)| {
            let all = sum(histograms.into_iter())?;
            let at = |quantile| all.value_at_quantile(quantile) as f64 / 1e3;
            Ok(Second { second, count: all.len(), p50_us: at(0.5), p99_us: at(0.99) })
        });
        summed.collect()
    }
}

fn sum<'a>(histograms: impl Iterator<Item = &'a Histogram<u64>>) -> Result<Histogram<u64>, MergeError> {
    let failed = |what: String| MergeError::Log { path: PathBuf::from("histograms"), what };
    let mut sum = Histogram::new(3).map_err(|error| failed(error.to_string()))?;
    for histogram in histograms {
        sum.add(histogram).map_err(|error| failed(error.to_string()))?;
    }
    Ok(sum)
}

/// Why folders cannot become one.
#[derive(Debug)]
pub enum MergeError {
    Nothing,
    Experiment(ExperimentError),
    Result(ResultError),
    /// They did not measure the same. Name folders that belong together.
    OtherExperiment {
        one: PathBuf,
        other: PathBuf,
    },
    /// There are results already. Choose another folder.
    Taken {
        folder: PathBuf,
    },
    /// A log of latencies can't be read. Measure again.
    Log {
        path: PathBuf,
        what: String,
    },
    Report {
        error: serde_json::Error,
    },
    Io {
        path: PathBuf,
        error: std::io::Error,
    },
}

impl std::error::Error for MergeError {}

impl fmt::Display for MergeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("name the folders of the load hosts"),
            Self::Experiment(error) => error.fmt(formatter),
            Self::Result(error) => error.fmt(formatter),
            Self::OtherExperiment { one, other } => write!(
                formatter,
                "{} and {} are of different experiments: name the folders that were measured together",
                one.display(),
                other.display()
            ),
            Self::Taken { folder } => {
                write!(formatter, "{} has results already: choose another folder with --out", folder.display())
            }
            Self::Log { path, what } => write!(
                formatter,
                "{}: no log of latencies that can be added up ({what}); measure again, with --member",
                path.display()
            ),
            Self::Report { error } => write!(formatter, "the merged report makes no sense: {error}"),
            Self::Io { path, error } => write!(formatter, "{}: {error}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests;
