//! Measures groups of points, and writes every run down before the next.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::RunError;
use crate::cluster::{self, Cluster, Site};
use crate::cluster_error::ClusterError;
use crate::compose::Images;
use crate::experiment::Experiment;
use crate::load::{Ask, Task};
use crate::machine::{self, Utilisation, Watch};
use crate::party::{Meeting, MeetingError, Member};
use crate::point::{Dimension, Point};
use crate::process::{self, Interrupt, Invocation, LOOK_EVERY};
use crate::programs::Programs;
use crate::progress::Progress;
use crate::result::{Failure, Folder, Journal, LoadReport, Outcome, Run, Verdict};
use crate::schedule::Group;
use crate::settings::Span;
use crate::statistics::{Steadiness, steadiness};
use crate::target::Target;

/// The time that `trine-load` may take beside warm-up and measurement: to load and verify its keys, and to give up on a server.
const LOAD_ALLOWANCE: Duration = Duration::from_secs(120);
/// The throughput below which a measurement over a number of operations is given up.
const OPERATIONS_PER_S_MIN: u64 = 1000;
/// `trine-load` measured, and wrote its report, also with these.
const EXIT_SUSPECT: i32 = 3;
const EXIT_INVALID: i32 = 4;

/// Measures one group of points after the other.
pub(super) struct Runner<'a> {
    pub(super) party: Option<Party>,
    pub(super) experiment: &'a Experiment,
    pub(super) folder: &'a Folder,
    pub(super) programs: Programs,
    /// The folders with the programs that targets had built, by target.
    pub(super) built: BTreeMap<String, PathBuf>,
    /// The images of containers, if there are any.
    pub(super) images: Images,
    pub(super) interrupt: Interrupt,
    pub(super) journal: Journal,
    pub(super) progress: Progress,
    /// The dimensions that tell points apart in the progress line.
    pub(super) dimensions: Vec<Dimension>,
    /// Of `trine`, as it says itself.
    pub(super) commit: String,
    pub(super) server_cpus: Option<Vec<usize>>,
    pub(super) load_cpus: Option<Vec<usize>>,
}

/// The outcome of one attempt to measure.
struct Attempt {
    command: Vec<String>,
    utilisation: Utilisation,
    report: Result<LoadReport, (Failure, String)>,
}

impl Runner<'_> {
    /// Measures the points of a group, all with the same processes unless these end.
    pub(super) fn group(&mut self, group: &Group) -> Result<(), RunError> {
        let mut cluster: Option<Cluster> = None;
        let mut refused: Option<String> = None;
        for point in &group.points {
            if self.sits_out(point, group.repeat)? {
                continue;
            }
            let name = format!("{}, repeat {}", point.describe(&self.dimensions), group.repeat);
            self.progress.begin(&name);
            let started = machine::now();
            if cluster.as_mut().is_none_or(|cluster| !cluster.is_alive()) && refused.is_none() {
                drop(cluster.take());
                match self.start(group) {
                    Ok(started) => cluster = Some(started),
                    Err(ClusterError::Interrupted) => return Err(RunError::Interrupted),
                    // It would refuse the other points as well, each after a long wait.
                    Err(error) => refused = Some(error.to_string()),
                }
            }
            let (attempt, outcome) = match (&mut cluster, &refused) {
                (Some(cluster), None) => self.measure(cluster, point, group.repeat)?,
                (_, refused) => {
                    let message = refused.clone().unwrap_or_default();
                    (None, Outcome::Failed { kind: Failure::Target, message })
                }
            };
            let (load_command, utilisation) =
                attempt.map(|attempt| (attempt.command, attempt.utilisation)).unwrap_or_default();
            let run = Run {
                schema: 1,
                point: point.clone(),
                repeat: group.repeat,
                started,
                commit: self.commit_of(&group.deployment.target, &outcome),
                target_command: cluster.as_ref().map(|cluster| cluster.command.clone()).unwrap_or_default(),
                load_command,
                utilisation,
                outcome,
            };
            self.journal.append(&run).map_err(RunError::Result)?;
            self.progress.end(&name, &run);
            if run.figures().is_none() {
                // What ran already and is gone is not started again by us: the points to come would fail alike.
                cluster::check_reachable(&group.deployment.target).map_err(RunError::Cluster)?;
            }
        }
        Ok(())
    }

    /// Lets the others measure a point that has no connection left for this load host. Returns whether it is such a one.
    fn sits_out(&mut self, point: &Point, repeat: u32) -> Result<bool, RunError> {
        let Some(party) = self.party.as_mut().filter(|party| party.member.part(point).is_none()) else {
            return Ok(false);
        };
        let patience = patience(self.experiment, self.experiment.warmup);
        match party.meeting.arrive(&Party::occasion(point, repeat), patience, &self.interrupt) {
            Err(MeetingError::Interrupted) => Err(RunError::Interrupted),
            // Who measures writes down what happened.
            _ => Ok(true),
        }
    }

    /// The commit of what was measured: what it says itself, or what the program says that was started.
    fn commit_of(&self, target: &Target, outcome: &Outcome) -> String {
        let said = match outcome {
            Outcome::Measured { load, .. } => load.figures.target.commit.clone(),
            Outcome::Failed { .. } => None,
        };
        let started = || matches!(target, Target::Trine { .. }).then(|| self.commit.clone());
        said.or_else(started).unwrap_or_default()
    }

    fn start(&self, group: &Group) -> Result<Cluster, ClusterError> {
        let log = self.folder.0.join("logs").join("target.log");
        let trine = self.programs.trine();
        let data = self.folder.0.join("data");
        let cpus = self.server_cpus.clone();
        let build = self.built.get(group.deployment.target.name()).map_or(Path::new(""), PathBuf::as_path);
        let (port, images) = (self.experiment.port, &self.images);
        let site = Site { trine: &trine, port, cpus, log: &log, data: &data, build, images };
        Cluster::start(&group.deployment, &site, &self.interrupt)
    }

    /// Measures a point; again, with twice the warm-up, while it was not steady and retries are left.
    fn measure(
        &mut self,
        cluster: &mut Cluster,
        point: &Point,
        repeat: u32,
    ) -> Result<(Option<Attempt>, Outcome), RunError> {
        let mut warmup = self.experiment.warmup.0;
        let mut attempts = 1;
        loop {
            let attempt = self.attempt(cluster, point, repeat, Span(warmup))?;
            let load = match &attempt.report {
                Ok(load) => load.clone(),
                Err((kind, message)) => {
                    let outcome = if cluster.is_alive() {
                        Outcome::Failed { kind: *kind, message: message.clone() }
                    } else {
                        let message = format!("the target ended: {}", cluster.last_words());
                        Outcome::Failed { kind: Failure::Target, message }
                    };
                    return Ok((Some(attempt), outcome));
                }
            };
            let seconds: Vec<f64> = load.figures.series.iter().map(|second| second.ops).collect();
            let steadiness = steadiness(&seconds);
            // Several load hosts would have to agree on it; whether they were steady together is seen when they are merged.
            let retries = if self.party.is_some() { 0 } else { self.experiment.steady_retries };
            if !again(steadiness, point, attempts, retries) {
                // An open loop has its throughput prescribed: a drift is the schedule's. A number of operations has two
                // parts, of different speeds.
                let is_judged = point.rate.is_none() && point.operations.is_none();
                let steadiness = if is_judged { steadiness } else { Steadiness::Steady };
                return Ok((Some(attempt), Outcome::Measured { steadiness, attempts, load: Box::new(load) }));
            }
            attempts += 1;
            warmup *= 2;
        }
    }

    /// Measures once, alone or together with other load hosts.
    fn attempt(&mut self, cluster: &Cluster, point: &Point, repeat: u32, warmup: Span) -> Result<Attempt, RunError> {
        let Some(mut party) = self.party.take() else {
            return self.load(cluster, point, repeat, warmup, Task::Whole);
        };
        let attempt = self.attempt_together(&mut party, cluster, point, repeat, warmup);
        self.party = Some(party);
        attempt
    }

    /// Measures this load host's part of a point, from when all are ready.
    fn attempt_together(
        &self,
        party: &mut Party,
        cluster: &Cluster,
        point: &Point,
        repeat: u32,
        warmup: Span,
    ) -> Result<Attempt, RunError> {
        let occasion = Party::occasion(point, repeat);
        if party.member.writes_keys() {
            let keys = self.load(cluster, point, repeat, warmup, Task::Keys);
            let keys = keys.map(|attempt| attempt.and_is_sound());
            if !matches!(&keys, Ok(attempt) if attempt.report.is_ok()) {
                // Where the target can't be told that either, the others' patience ends.
                let _ = party.meeting.abandon(&occasion);
                return keys;
            }
        }
        match party.meeting.arrive(&occasion, patience(self.experiment, warmup), &self.interrupt) {
            Ok(()) => {}
            Err(MeetingError::Interrupted) => return Err(RunError::Interrupted),
            Err(error) => return Ok(Attempt::failed(Vec::new(), Failure::Load, error.to_string())),
        }
        let hlog = self.folder.hlog_file(point, repeat);
        let part = party.member.part(point).expect("who has no part sits out");
        self.load(cluster, &part, repeat, warmup, Task::Part { member: party.member, hlog: &hlog })
    }

    /// Runs the load generator once and watches the machine while it runs.
    fn load(
        &self,
        cluster: &Cluster,
        point: &Point,
        repeat: u32,
        warmup: Span,
        task: Task<'_>,
    ) -> Result<Attempt, RunError> {
        let report = self.folder.0.join("logs").join("load.json");
        // What an earlier run left must not be taken for this one's.
        let _ = std::fs::remove_file(&report);
        let program = self.programs.load();
        let ask = Ask { program: &program, cluster, point, repeat, warmup, cpus: self.load_cpus.as_deref(), task };
        let invocation = Invocation { words: ask.words(self.experiment, &report), cpus: None };
        let command = invocation.command_line();
        let mut watch = Watch::new(cluster.roots(), self.server_cpus.clone());
        let mut load = match process::Group::start(&invocation, &self.folder.0.join("logs").join("load.log")) {
            Ok(load) => load,
            Err(error) => return Ok(Attempt::failed(command, Failure::Load, error.to_string())),
        };
        watch.load_is(load.pid());
        let began = Instant::now();
        let limit = match point.operations {
            None => warmup.0 + self.experiment.duration.0 + LOAD_ALLOWANCE,
            Some(operations) => {
                let all = 2 * operations * u64::from(point.concurrency);
                Duration::from_secs(all / OPERATIONS_PER_S_MIN) + LOAD_ALLOWANCE
            }
        };
        let status = loop {
            watch.poll();
            if let Some(status) = load.ended() {
                break status;
            }
            if self.interrupt.is_set() {
                return Err(RunError::Interrupted);
            }
            if limit < began.elapsed() {
                let message = format!("trine-load did not end within {} s", limit.as_secs());
                return Ok(Attempt::failed(command, Failure::Timeout, message));
            }
            std::thread::sleep(LOOK_EVERY);
        };
        if !matches!(status.code(), Some(0 | EXIT_SUSPECT | EXIT_INVALID)) {
            let message = format!("trine-load: {status}: {}", load.last_words());
            return Ok(Attempt::failed(command, Failure::Load, message));
        }
        let parsed = std::fs::read(&report)
            .map_err(|error| error.to_string())
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).map_err(|error| error.to_string()))
            .and_then(|value| LoadReport::try_from(value).map_err(|error| error.to_string()));
        match parsed {
            Ok(report) => {
                let measured = Duration::try_from_secs_f64(report.figures.phases.measure_s).unwrap_or_default();
                Ok(Attempt { command, utilisation: watch.last(measured), report: Ok(report) })
            }
            Err(error) => Ok(Attempt::failed(command, Failure::Report, format!("trine-load's report: {error}"))),
        }
    }
}

impl Attempt {
    fn failed(command: Vec<String>, kind: Failure, message: String) -> Self {
        Self { command, utilisation: Utilisation::default(), report: Err((kind, message)) }
    }

    /// Takes a report that is not beyond doubt for a failure: of keys that were written and read back.
    fn and_is_sound(self) -> Self {
        match &self.report {
            Ok(report) if report.figures.verdict == Verdict::Invalid => {
                let message = format!("the keys: {}", report.figures.reasons.join("; "));
                Self::failed(self.command, Failure::Load, message)
            }
            _ => self,
        }
    }
}

/// This load host among several.
pub(super) struct Party {
    member: Member,
    meeting: Meeting,
}

impl Party {
    pub(super) fn new(member: Member, name: &str, experiment: &Experiment) -> Result<Self, RunError> {
        let [Target::Address { address, .. }] = experiment.targets.as_slice() else {
            return Err(RunError::NothingInCommon);
        };
        if experiment.workload.operations.is_some() || !experiment.vary.operations.is_empty() {
            return Err(RunError::Counted);
        }
        let meeting = Meeting::connect(member, name.to_owned(), address).map_err(RunError::Meeting)?;
        Ok(Self { member, meeting })
    }

    /// Returns the name of a meeting of the load hosts.
    fn occasion(point: &Point, repeat: u32) -> String {
        format!("{} repeat={repeat}", point.id())
    }
}

/// Returns the longest time that a load host waits for the others: they measure the point before this one, and write keys.
fn patience(experiment: &Experiment, warmup: Span) -> Duration {
    (warmup.0 + experiment.duration.0 + LOAD_ALLOWANCE) * 2
}

/// Returns whether a point is to be measured again because its throughput was not steady. With a fixed rate another
/// throughput would be awaited in vain.
fn again(steadiness: Steadiness, point: &Point, attempts: u32, retries: u32) -> bool {
    !steadiness.is_steady() && point.rate.is_none() && point.operations.is_none() && attempts <= retries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    /// An unsteady point is measured again as often as the file says, and a fixed rate never.
    #[test]
    fn unsteady_points_are_measured_again() {
        let closed = sample::point(16, 0.5);
        let open = Point { rate: Some(1000.0), ..closed.clone() };
        let rounds = Point { operations: Some(800), ..closed.clone() };
        for (steadiness, point, attempts, expected) in [
            (Steadiness::Steady, &closed, 1, false),
            (Steadiness::TooShortToJudge, &closed, 1, false),
            (Steadiness::Drifted(0.2), &closed, 1, true),
            (Steadiness::Unsteady(0.2), &closed, 2, true),
            (Steadiness::Unsteady(0.2), &closed, 3, false),
            (Steadiness::Drifted(0.2), &open, 1, false),
            (Steadiness::Drifted(0.2), &rounds, 1, false),
        ] {
            assert_eq!(again(steadiness, point, attempts, 2), expected, "{steadiness:?}, attempt {attempts}");
        }
    }
}
