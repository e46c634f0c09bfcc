//! Runs an experiment: starts each target in turn, measures its points, and writes every run down before the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{self, Cluster, ClusterError, Site};
use crate::compose::Images;
use crate::experiment::{Experiment, ExperimentError, Group, Means, Target};
use crate::load::{Ask, Task};
use crate::machine::{self, Environment, Utilisation, Watch};
use crate::party::{Meeting, MeetingError, Member};
use crate::point::{Dimension, Point, varying};
use crate::process::{self, Interrupt, Invocation, LOOK_EVERY, find_program};
use crate::programs::{Programs, ProgramsError};
use crate::progress::Progress;
use crate::result::{Failure, Folder, Journal, LoadReport, Outcome, ResultError, Results, Run, Verdict, append_line};
use crate::settings::Span;
use crate::statistics::{Steadiness, steadiness};

/// What the command line says about a run.
pub struct Options<'a> {
    pub experiment: &'a Path,
    pub folder: Folder,
    /// Set earlier results aside instead of adding to them.
    pub fresh: bool,
    /// Where `trine` and `trine-load` are, if not where they are looked for.
    pub programs: Option<&'a Path>,
    /// Something that runs already, to be measured in place of the file's targets.
    pub address: Option<&'a str>,
    /// Which of several load hosts this is, and what they call their meeting.
    pub party: Option<(Member, &'a str)>,
    /// How what is started here is started, where it is not the file that says so.
    pub cluster: Option<Means>,
}

/// Measures what has not been measured yet. When this returns, the folder has a run for every point and repeat, some
/// of which may have failed.
pub fn run(options: &Options<'_>) -> Result<(), RunError> {
    let mut experiment = Experiment::read(options.experiment).map_err(RunError::Experiment)?;
    if let Some(address) = options.address {
        experiment = experiment.of_address(address).map_err(RunError::Experiment)?;
    }
    if let Some(means) = options.cluster {
        experiment = experiment.by(means, options.experiment).map_err(RunError::Experiment)?;
    }
    let interrupt = Interrupt::install().map_err(|error| RunError::Io { path: PathBuf::from("signals"), error })?;
    let folder = &options.folder;
    if options.fresh {
        set_aside(folder)?;
    }
    match (options.address, options.cluster) {
        (None, None) => claim(folder, options.experiment, &experiment)?,
        // Not what the file says.
        _ => {
            let text = toml::to_string(&experiment).map_err(|error| RunError::NotWritten { error })?;
            claim_text(folder, options.experiment, &experiment, text.as_bytes())?;
        }
    }
    let (journal, earlier) = Journal::open(folder).map_err(RunError::Result)?;
    let missing = missing_programs(&experiment);
    let mut planned = experiment.schedule();
    planned.retain(|group| !missing.contains(group.deployment.target.name()));
    let groups = remaining(&planned, &earlier);
    let (planned, left) = (count(&planned), count(&groups));
    if left < planned {
        eprintln!("trine-lab: {} of {planned} runs are in {} already", planned - left, folder.0.display());
    }
    if left == 0 {
        return Ok(());
    }
    for group in &groups {
        cluster::check_ports(&group.deployment, experiment.port).map_err(RunError::Cluster)?;
    }
    let programs = Programs::find(options.programs).map_err(RunError::Programs)?;
    let built = programs.build_for(&groups, options.experiment, options.programs).map_err(RunError::Programs)?;
    let environment = note_environment(folder, &programs)?;
    let all: Vec<Point> = groups.iter().flat_map(|group| group.points.iter().cloned()).collect();
    let (server_cpus, load_cpus) = experiment.cpus.on(&machine::available_cpus());
    let party = options.party.map(|(member, name)| Party::new(member, name, &experiment)).transpose()?;
    let mut runner = Runner {
        party,
        progress: Progress::new(left),
        dimensions: varying(all.iter()),
        commit: environment.commit,
        experiment: &experiment,
        folder,
        programs,
        built,
        images: Images::default(),
        interrupt,
        journal,
        server_cpus,
        load_cpus,
    };
    groups.iter().try_for_each(|group| runner.group(group))
}

/// Returns what has not been measured yet, in the order planned.
fn remaining(planned: &[Group], earlier: &Results) -> Vec<Group> {
    let mut groups = planned.to_vec();
    for group in &mut groups {
        group.points.retain(|point| !earlier.measured(point, group.repeat));
    }
    groups.retain(|group| !group.points.is_empty());
    groups
}

fn count(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.points.len()).sum()
}

/// Renames the folder to the first of `DIR.1`, `DIR.2`, ... that is free. Measurements are never deleted.
fn set_aside(folder: &Folder) -> Result<(), RunError> {
    if !folder.runs_file().exists() && !folder.experiment_file().exists() {
        return Ok(());
    }
    // Not from under another trine-lab.
    if let Err(error @ ResultError::InUse { .. }) = Journal::open(folder) {
        return Err(RunError::Result(error));
    }
    let name = folder.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let free = (1..).map(|number| folder.0.with_file_name(format!("{name}.{number}"))).find(|path| !path.exists());
    let aside = free.expect("numbers do not run out");
    eprintln!("trine-lab: earlier results are now in {}", aside.display());
    std::fs::rename(&folder.0, &aside).map_err(|error| RunError::Io { path: aside, error })
}

/// Makes the folder this experiment's: leaves a copy of its file there, or finds the same experiment there already.
fn claim(folder: &Folder, file: &Path, experiment: &Experiment) -> Result<(), RunError> {
    let text = std::fs::read(file).map_err(|error| RunError::Io { path: file.to_owned(), error })?;
    claim_text(folder, file, experiment, &text)
}

/// As [`claim`], with the text that is left there.
fn claim_text(folder: &Folder, file: &Path, experiment: &Experiment, text: &[u8]) -> Result<(), RunError> {
    let copy = folder.experiment_file();
    let failed = |path: &Path, error| RunError::Io { path: path.to_owned(), error };
    std::fs::create_dir_all(folder.0.join("logs")).map_err(|error| failed(&folder.0, error))?;
    if copy.exists() {
        let earlier = Experiment::read(&copy).map_err(RunError::Experiment)?;
        return match earlier == *experiment {
            true => Ok(()),
            false => Err(RunError::OtherExperiment { folder: folder.0.clone(), file: file.to_owned() }),
        };
    }
    std::fs::write(&copy, text).map_err(|error| failed(&copy, error))
}

/// Returns the names of targets whose program is not installed, and says so.
fn missing_programs(experiment: &Experiment) -> BTreeSet<String> {
    let mut missing = BTreeSet::new();
    for target in &experiment.targets {
        if let Target::Command { name, requires: Some(program), .. } = target
            && find_program(program).is_none()
        {
            eprintln!("trine-lab: leaving out target `{name}`: {program} is not installed");
            missing.insert(name.clone());
        }
    }
    missing
}

fn note_environment(folder: &Folder, programs: &Programs) -> Result<Environment, RunError> {
    let path = folder.environment_file();
    let redis = find_program("redis-server");
    let (trine, load) = (programs.trine(), programs.load());
    let asked: Vec<&Path> =
        [Some(&trine), Some(&load), redis.as_ref()].into_iter().flatten().map(PathBuf::as_path).collect();
    let environment = Environment::here(&asked, &trine, &folder.0);
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut file| append_line(&mut file, &environment))
        .map_err(|error| RunError::Io { path, error })?;
    Ok(environment)
}

struct Runner<'a> {
    party: Option<Party>,
    experiment: &'a Experiment,
    folder: &'a Folder,
    programs: Programs,
    /// Where the programs are that targets had built, by target.
    built: BTreeMap<String, PathBuf>,
    /// What containers are made of, if there are any.
    images: Images,
    interrupt: Interrupt,
    journal: Journal,
    progress: Progress,
    /// What tells points apart in the progress line.
    dimensions: Vec<Dimension>,
    commit: String,
    server_cpus: Option<Vec<usize>>,
    load_cpus: Option<Vec<usize>>,
}

/// What came of one attempt to measure.
struct Attempt {
    command: Vec<String>,
    utilisation: Utilisation,
    report: Result<LoadReport, (Failure, String)>,
}

impl Runner<'_> {
    /// Measures the points of a group, all with the same processes unless these end.
    fn group(&mut self, group: &Group) -> Result<(), RunError> {
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
                commit: self.commit.clone(),
                target_command: cluster.as_ref().map(|cluster| cluster.command.clone()).unwrap_or_default(),
                load_command,
                utilisation,
                outcome,
            };
            self.journal.append(&run).map_err(RunError::Result)?;
            self.progress.end(&name, &run);
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
        let mut watch = Watch::new(cluster.roots());
        let mut load = match process::Group::start(&invocation, &self.folder.0.join("logs").join("load.log")) {
            Ok(load) => load,
            Err(error) => return Ok(Attempt::failed(command, Failure::Load, error.to_string())),
        };
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
struct Party {
    member: Member,
    meeting: Meeting,
}

impl Party {
    fn new(member: Member, name: &str, experiment: &Experiment) -> Result<Self, RunError> {
        let [Target::Address { address, .. }] = experiment.targets.as_slice() else {
            return Err(RunError::NothingInCommon);
        };
        if experiment.workload.operations.is_some() || !experiment.vary.operations.is_empty() {
            return Err(RunError::Counted);
        }
        let meeting = Meeting::connect(member, name.to_owned(), address).map_err(RunError::Meeting)?;
        Ok(Self { member, meeting })
    }

    /// What the load hosts meet for.
    fn occasion(point: &Point, repeat: u32) -> String {
        format!("{} repeat={repeat}", point.id())
    }
}

/// How long a load host waits for the others: they measure the point before this one, and write keys.
fn patience(experiment: &Experiment, warmup: Span) -> Duration {
    (warmup.0 + experiment.duration.0 + LOAD_ALLOWANCE) * 2
}

/// Returns whether a point is to be measured again because its throughput was not steady. With a fixed rate another
/// throughput would be awaited in vain.
fn again(steadiness: Steadiness, point: &Point, attempts: u32, retries: u32) -> bool {
    !steadiness.is_steady() && point.rate.is_none() && point.operations.is_none() && attempts <= retries
}

/// What `trine-load` may take beside warm-up and measurement: to load and verify its keys, and to give up on a server.
const LOAD_ALLOWANCE: Duration = Duration::from_secs(120);
/// What is slower than this over a number of operations is given up.
const OPERATIONS_PER_S_MIN: u64 = 1000;
/// `trine-load` measured, and wrote its report, also with these.
const EXIT_SUSPECT: i32 = 3;
const EXIT_INVALID: i32 = 4;

/// Why an experiment did not run to its end. A point that failed is no such reason.
#[derive(Debug)]
pub enum RunError {
    Experiment(ExperimentError),
    Result(ResultError),
    Programs(ProgramsError),
    Cluster(ClusterError),
    /// The folder has results of another experiment. Measure into another folder, or afresh.
    OtherExperiment {
        folder: PathBuf,
        file: PathBuf,
    },
    /// Ctrl-C. The same command goes on from here.
    Interrupted,
    /// Several load hosts measure one target that runs already. Say which with --address.
    NothingInCommon,
    Meeting(MeetingError),
    /// A number of operations has no moment at which it ends. Measure from one load host, or for a time.
    Counted,
    /// The experiment cannot be written as TOML.
    NotWritten {
        error: toml::ser::Error,
    },
    Io {
        path: PathBuf,
        error: std::io::Error,
    },
}

impl std::error::Error for RunError {}

impl fmt::Display for RunError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Experiment(error) => error.fmt(formatter),
            Self::Result(error) => error.fmt(formatter),
            Self::Programs(error) => error.fmt(formatter),
            Self::Cluster(error) => error.fmt(formatter),
            Self::OtherExperiment { folder, file } => write!(
                formatter,
                "{} has changed since {} was measured: choose another folder with --out, or set the earlier results \
                 aside with --fresh",
                file.display(),
                folder.display()
            ),
            Self::Interrupted => {
                formatter.write_str("interrupted; what was measured is kept, and the same command goes on from there")
            }
            Self::NothingInCommon => formatter.write_str(
                "several load hosts measure one target that runs already: name it with --address, or in a file with \
                 one target of kind \"address\"",
            ),
            Self::Meeting(error) => error.fmt(formatter),
            Self::Counted => formatter.write_str(
                "several load hosts measure for a `duration`, not a number of `operations`: use one load host for this file",
            ),
            Self::NotWritten { error } => write!(formatter, "the experiment cannot be written down: {error}"),
            Self::Io { path, error } => write!(formatter, "{}: {error}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn experiment() -> Experiment {
        let text = "title = \"t\"\nquestion = \"q\"\nrepeats = 2\n[vary]\nconcurrency = [1, 2, 4]\nread_share = [0, 0.1]\n\
                    [[targets]]\nname = \"trine\"\nkind = \"trine\"\nservers = 3\n";
        Experiment::parse(text, Path::new("some.toml")).unwrap()
    }

    /// What was measured is not measured again, wherever the experiment was interrupted; what failed is.
    #[test]
    fn an_interrupted_experiment_goes_on() {
        let planned = experiment().schedule();
        let all: Vec<(Point, u32)> = planned
            .iter()
            .flat_map(|group| group.points.iter().map(move |point| (point.clone(), group.repeat)))
            .collect();
        assert_eq!(all.len(), 12);
        for done in 0..=all.len() {
            let runs = all[..done].iter().enumerate().map(|(index, (point, repeat))| match index {
                3 => sample::failed(point.clone(), *repeat),
                _ => sample::run(point.clone(), *repeat, 1.0),
            });
            let earlier = Results { runs: runs.collect() };
            let left = remaining(&planned, &earlier);
            assert_eq!(count(&left), all.len() - done + usize::from(3 < done), "after {done}");
            assert!(left.iter().all(|group| !group.points.is_empty()), "a target is not started for nothing");
        }
    }

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

    /// A folder takes the experiment it has, and refuses another with the way out; setting aside loses nothing.
    #[test]
    fn a_folder_belongs_to_one_experiment() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("some.toml");
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("quick.toml")).unwrap();
        std::fs::write(&file, &text).unwrap();
        let folder = Folder(directory.path().join("out"));
        let quick = Experiment::read(&file).unwrap();
        claim(&folder, &file, &quick).unwrap();
        claim(&folder, &file, &quick).unwrap();
        let changed = Experiment { repeats: quick.repeats + 1, ..quick.clone() };
        let error = claim(&folder, &file, &changed).unwrap_err().to_string();
        assert!(error.contains("--out") && error.contains("--fresh"), "{error}");
        let (mut journal, _) = Journal::open(&folder).unwrap();
        journal.append(&sample::run(sample::point(1, 0.0), 1, 1.0)).unwrap();
        assert!(matches!(set_aside(&folder), Err(RunError::Result(ResultError::InUse { .. }))));
        drop(journal);
        set_aside(&folder).unwrap();
        claim(&folder, &file, &changed).unwrap();
        let aside = Folder(directory.path().join("out.1"));
        assert_eq!(aside.read().unwrap().runs.len(), 1);
    }
}
