//! Results: one JSON line for each run, written once and never changed, from which charts can always be redrawn.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::machine::{Environment, Taken, Utilisation};
use crate::point::Point;
use crate::statistics::Steadiness;

/// One measurement of one point, or the failure to measure it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Run {
    pub schema: u32,
    pub point: Point,
    /// From 1.
    pub repeat: u32,
    /// RFC 3339, UTC.
    pub started: String,
    /// Of the code that was measured, by what that says itself; empty where it does not.
    pub commit: String,
    /// The command line of the target; empty for a target that already ran.
    pub target_command: Vec<String>,
    pub load_command: Vec<String>,
    pub utilisation: Utilisation,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    Measured {
        steadiness: Steadiness,
        /// The number of times that the point was measured until it was steady, or given up.
        attempts: u32,
        load: Box<LoadReport>,
    },
    Failed {
        kind: Failure,
        message: String,
    },
}

/// The reason why a point was not measured.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The target did not start, or ended.
    Target,
    /// The load generator could not measure.
    Load,
    /// The load generator did not end in time.
    Timeout,
    /// The load generator's report could not be understood.
    Report,
}

/// The report of `trine-load`, in full, with the figures that charts need picked out.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct LoadReport {
    pub figures: Figures,
    full: Value,
}

impl TryFrom<Value> for LoadReport {
    type Error = serde_json::Error;

    fn try_from(full: Value) -> Result<Self, Self::Error> {
        Ok(Self { figures: Figures::deserialize(&full)?, full })
    }
}

impl From<LoadReport> for Value {
    fn from(report: LoadReport) -> Self {
        report.full
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Figures {
    #[serde(default)]
    pub target: Measured,
    pub ops_per_s: f64,
    pub errors: Errors,
    #[serde(default)]
    pub wrong_values: u64,
    pub latency_since_due_us: Latencies,
    pub phases: Phases,
    /// SETs and GETs by themselves, if a number of operations was measured.
    #[serde(default)]
    pub parts: Option<Parts>,
    #[serde(default)]
    pub series: Vec<Second>,
    pub verdict: Verdict,
    #[serde(default)]
    pub reasons: Vec<String>,
}

/// The target as the load generator saw it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Measured {
    /// The commit that the server says it was built from.
    #[serde(default)]
    pub commit: Option<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Errors {
    pub total: u64,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Phases {
    pub measure_s: f64,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Second {
    pub ops: f64,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Latencies {
    pub all: Latency,
    #[serde(default)]
    pub set: Option<Latency>,
    #[serde(default)]
    pub get: Option<Latency>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Parts {
    pub set: Part,
    pub get: Part,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Part {
    pub ops_per_s: f64,
}

/// Latencies in microseconds; `None` where no request was answered.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Latency {
    pub count: u64,
    #[serde(default)]
    pub mean: Option<f64>,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    /// Percentile and latency, rising.
    #[serde(default)]
    pub percentiles: Vec<(f64, f64)>,
}

/// The degree to which a measurement can be trusted, from best to worst.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    Ok,
    Suspect,
    Invalid,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ok => "OK",
            Self::Suspect => "SUSPECT",
            Self::Invalid => "INVALID",
        })
    }
}

impl Run {
    /// Returns the figures of a run that was measured.
    pub fn figures(&self) -> Option<&Figures> {
        match &self.outcome {
            Outcome::Measured { load, .. } => Some(&load.figures),
            Outcome::Failed { .. } => None,
        }
    }

    /// Returns the load generator's verdict, made worse where throughput was not steady or others had the target's CPUs.
    pub fn verdict(&self) -> Option<Verdict> {
        match &self.outcome {
            Outcome::Measured { steadiness, load, .. } => {
                let is_doubtful = !steadiness.is_steady() || self.taken().next().is_some();
                Some(if is_doubtful { load.figures.verdict.max(Verdict::Suspect) } else { load.figures.verdict })
            }
            Outcome::Failed { .. } => None,
        }
    }

    /// Why the target did not have its CPUs for itself.
    fn taken(&self) -> impl Iterator<Item = String> {
        self.utilisation.taken.iter().filter_map(Taken::reason)
    }

    /// Returns why the run is not beyond doubt, or why it failed.
    pub fn reasons(&self) -> Vec<String> {
        match &self.outcome {
            Outcome::Measured { steadiness, load, .. } => {
                load.figures.reasons.iter().cloned().chain(steadiness.reason()).chain(self.taken()).collect()
            }
            Outcome::Failed { message, .. } => vec![message.clone()],
        }
    }
}

/// The folder that an experiment leaves.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

/// The contents of a folder of results.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// One run for each point and repeat, in the order they were first measured. Where a failed run was repeated, the
    /// later one; the lines keep both.
    pub runs: Vec<Run>,
}

impl Folder {
    pub fn experiment_file(&self) -> PathBuf {
        self.0.join("experiment.toml")
    }

    pub fn runs_file(&self) -> PathBuf {
        self.0.join("runs.jsonl")
    }

    pub fn environment_file(&self) -> PathBuf {
        self.0.join("environment.jsonl")
    }

    /// Returns the file for the latencies of one run, second by second, when several load hosts measured it.
    pub fn hlog_file(&self, point: &Point, repeat: u32) -> PathBuf {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
        let name: String = point.id().chars().map(plain).collect();
        self.0.join("logs").join(format!("{name}-repeat-{repeat}.hlog"))
    }

    pub fn page_file(&self) -> PathBuf {
        self.0.join("index.html")
    }

    /// Reads all runs. A last line that was torn by a crash is left out.
    pub fn read(&self) -> Result<Results, ResultError> {
        let path = self.runs_file();
        match std::fs::read(&path) {
            Ok(bytes) => parse(&bytes, &path).map(|(results, _)| results),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(ResultError::Missing { path }),
            Err(error) => Err(ResultError::Io { path, error }),
        }
    }

    /// Reads the environments of all invocations, oldest first. A line that cannot be read says nothing and is left
    /// out: charts do not depend on it.
    pub fn environments(&self) -> Vec<Environment> {
        let text = std::fs::read_to_string(self.environment_file()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Returns the runs, and how many bytes of the file are whole lines.
fn parse(bytes: &[u8], path: &Path) -> Result<(Results, u64), ResultError> {
    let (mut results, mut whole_bytes) = (Results::default(), 0);
    let mut place_of = BTreeMap::new();
    for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        if line.last() != Some(&b'\n') {
            break;
        }
        whole_bytes += line.len() as u64;
        let run: Run = serde_json::from_slice(line).map_err(|error| ResultError::Corrupt {
            path: path.to_owned(),
            line: number + 1,
            error,
        })?;
        match place_of.get(&(run.point.id(), run.repeat)) {
            Some(&place) => results.runs[place] = run,
            None => {
                place_of.insert((run.point.id(), run.repeat), results.runs.len());
                results.runs.push(run);
            }
        }
    }
    Ok((results, whole_bytes))
}

impl Results {
    /// Returns whether this point was measured in this repeat. A failure is no measurement, so resuming tries again.
    pub fn measured(&self, point: &Point, repeat: u32) -> bool {
        let id = point.id();
        self.runs.iter().any(|run| run.repeat == repeat && run.figures().is_some() && run.point.id() == id)
    }
}

/// The end of `runs.jsonl`, where new runs go. At most one program holds it.
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Opens the file, takes its lock, and returns it with what it holds. A torn last line is cut off.
    pub fn open(folder: &Folder) -> Result<(Self, Results), ResultError> {
        let path = folder.runs_file();
        let failed = |error| ResultError::Io { path: path.clone(), error };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(ResultError::InUse { path }),
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes)).map_err(failed)?;
        let (results, whole_bytes) = parse(&bytes, &path)?;
        file.set_len(whole_bytes).map_err(failed)?;
        Ok((Self { file, path }, results))
    }

    /// Appends a run and waits until it is on disk.
    pub fn append(&mut self, run: &Run) -> Result<(), ResultError> {
        append_line(&mut self.file, run).map_err(|error| ResultError::Io { path: self.path.clone(), error })
    }
}

/// Appends a value as one JSON line, and waits until it is on disk.
pub fn append_line(file: &mut File, value: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_data()
}

/// Why a folder's results cannot be used.
#[derive(Debug)]
pub enum ResultError {
    /// Nothing was measured here. Run an experiment, or give another folder.
    Missing { path: PathBuf },
    /// A line that was once whole no longer is. Remove it by hand, or measure afresh.
    Corrupt { path: PathBuf, line: usize, error: serde_json::Error },
    /// Another trine-lab writes here. Wait for it.
    InUse { path: PathBuf },
    /// The disk or the rights on it.
    Io { path: PathBuf, error: std::io::Error },
}

impl std::error::Error for ResultError {}

impl fmt::Display for ResultError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => write!(
                formatter,
                "there is no {}: measure first with `trine-lab run FILE --out DIR`, or name the folder it wrote",
                path.display()
            ),
            Self::Corrupt { path, line, error } => write!(
                formatter,
                "{}, line {line} is not a run ({error}): remove the line, or measure again with --fresh",
                path.display()
            ),
            Self::InUse { path } => write!(
                formatter,
                "another trine-lab is writing {}: wait until it has ended, or choose another folder with --out",
                path.display()
            ),
            Self::Io { path, error } => write!(formatter, "{}: {error}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder(directory.path().to_owned());
        (directory, folder)
    }

    /// A report of an overload in which no request was answered has no latencies, and is read all the same.
    #[test]
    fn no_request_has_no_latency() {
        let text = r#"{"count": 0, "mean": null, "p50": null, "p99": null, "p999": null, "percentiles": []}"#;
        let latency: Latency = serde_json::from_str(text).unwrap();
        assert_eq!((latency.mean, latency.p50, latency.p99, latency.p999), (None, None, None, None));
    }

    /// A run is read back as it was appended, with everything that the load generator reported.
    #[test]
    fn runs_come_back_whole() {
        let (_directory, folder) = folder();
        let runs = vec![sample::run(sample::point(1, 0.0), 1, 1.0), sample::failed(sample::point(4, 1.0), 2)];
        let (mut journal, before) = Journal::open(&folder).unwrap();
        assert!(before.runs.is_empty());
        runs.iter().for_each(|run| journal.append(run).unwrap());
        assert_eq!(folder.read().unwrap().runs, runs);
        let text = std::fs::read_to_string(folder.runs_file()).unwrap();
        assert!(text.contains("something_newer"), "{text}");
    }

    /// A failed run is tried again, and the later line counts; a measured one is not.
    #[test]
    fn resuming_repeats_failures_only() {
        let (_directory, folder) = folder();
        let point = sample::point(1, 0.0);
        let (mut journal, _) = Journal::open(&folder).unwrap();
        journal.append(&sample::failed(point.clone(), 1)).unwrap();
        assert!(!folder.read().unwrap().measured(&point, 1));
        journal.append(&sample::run(point.clone(), 1, 1.0)).unwrap();
        let results = folder.read().unwrap();
        assert!(results.measured(&point, 1) && !results.measured(&point, 2));
        assert!(!results.measured(&sample::point(2, 0.0), 1));
        assert_eq!(results.runs.len(), 1);
    }

    /// A run that was not steady is in doubt, with the reason, however sure the load generator was; one that was not
    /// valid does not become better.
    #[test]
    fn unsteady_runs_are_in_doubt() {
        for (said, drift, expected) in [
            ("OK", None, Verdict::Ok),
            ("OK", Some(0.2), Verdict::Suspect),
            ("SUSPECT", None, Verdict::Suspect),
            ("INVALID", Some(0.2), Verdict::Invalid),
        ] {
            let mut run = sample::measured(sample::point(1, 0.0), 1, 1000.0, said);
            if let (Outcome::Measured { steadiness, .. }, Some(drift)) = (&mut run.outcome, drift) {
                *steadiness = Steadiness::Drifted(drift);
            }
            assert_eq!(run.verdict(), Some(expected), "{said}, {drift:?}");
            assert_eq!(run.reasons().iter().any(|reason| reason.contains("drifted by +20 %")), drift.is_some());
        }
    }

    /// A run whose target's CPU others had for more than a twentieth of the time is in doubt, and says who they were.
    #[test]
    fn a_machine_with_others_is_in_doubt() {
        for (share, expected) in [(0.04, Verdict::Ok), (0.2, Verdict::Suspect)] {
            let mut run = sample::measured(sample::point(1, 0.0), 1, 1000.0, "OK");
            run.utilisation.taken = vec![Taken { cpu: Some(1), share, by: vec!["rustc".to_owned()] }];
            assert_eq!(run.verdict(), Some(expected));
            assert_eq!(
                run.reasons().iter().any(|reason| reason.contains("CPU 1") && reason.contains("rustc")),
                0.1 < share
            );
        }
    }

    /// Two programs never write to the same file.
    #[test]
    fn a_folder_has_one_writer() {
        let (_directory, folder) = folder();
        let (_journal, _) = Journal::open(&folder).unwrap();
        assert!(matches!(Journal::open(&folder), Err(ResultError::InUse { .. })));
    }

    /// A line in the middle that is no run is an error that names it: nothing measured is dropped in silence.
    #[test]
    fn a_broken_line_is_named() {
        let (_directory, folder) = folder();
        let (mut journal, _) = Journal::open(&folder).unwrap();
        journal.append(&sample::run(sample::point(1, 0.0), 1, 1.0)).unwrap();
        let text = std::fs::read_to_string(folder.runs_file()).unwrap();
        std::fs::write(folder.runs_file(), format!("{text}{{}}\n{text}")).unwrap();
        let error = folder.read().unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("--fresh"), "{error}");
    }

    /// Without runs there is an error with the command that makes some.
    #[test]
    fn an_empty_folder_says_what_to_do() {
        let (_directory, folder) = folder();
        assert!(folder.read().unwrap_err().to_string().contains("trine-lab run"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// A crash may cut the file anywhere: the whole lines before it count, and what is appended next is readable.
        #[test]
        fn a_torn_line_is_cut_off(cut in 0.0..1.0f64) {
            let (_directory, folder) = folder();
            let runs: Vec<Run> = (1..=3).map(|repeat| sample::run(sample::point(1, 0.0), repeat, 1.0)).collect();
            let (mut journal, _) = Journal::open(&folder).unwrap();
            runs.iter().for_each(|run| journal.append(run).unwrap());
            drop(journal);
            let bytes = std::fs::read(folder.runs_file()).unwrap();
            let cut = (bytes.len() as f64 * cut) as usize;
            std::fs::write(folder.runs_file(), &bytes[..cut]).unwrap();
            let whole = bytes[..cut].iter().filter(|byte| **byte == b'\n').count();
            let (mut journal, results) = Journal::open(&folder).unwrap();
            prop_assert_eq!(&results.runs, &runs[..whole]);
            journal.append(&runs[2]).unwrap();
            let again = folder.read().unwrap().runs;
            prop_assert_eq!(again.last(), Some(&runs[2]));
            prop_assert_eq!(again.len(), if whole == 3 { 3 } else { whole + 1 });
        }
    }
}
