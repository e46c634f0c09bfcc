//! The experiment file: what is asked, of which targets, and what varies. From it follow the points to measure and
//! the order to measure them in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::compose;
use crate::point::{Point, ValueSize};
use crate::settings::{CpuChoice, Cpus, Protocol, Reference, Span, Vary, Workload};

/// An experiment as its file states it. [`Experiment::read`] has checked what one field cannot know of another.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// The heading of the page of charts.
    pub title: String,
    /// What the experiment is to find out: one sentence, above the charts.
    pub question: String,
    /// How often each point is measured. Intervals need two, comparisons three.
    #[serde(default = "three")]
    pub repeats: u32,
    /// Decides the order of the points, and goes to the load generator.
    #[serde(default = "one")]
    pub seed: u64,
    #[serde(default = "Span::one_second")]
    pub warmup: Span,
    #[serde(default = "Span::five_seconds")]
    pub duration: Span,
    /// How often a point is measured again, each time with twice the warm-up, while its throughput was not steady.
    #[serde(default = "one_retry")]
    pub steady_retries: u32,
    /// The first port of what is started here.
    #[serde(default = "first_port")]
    pub port: u16,
    #[serde(default)]
    pub cpus: Cpus,
    /// What somebody else has measured elsewhere, to set the results beside.
    #[serde(default)]
    pub reference: Option<Reference>,
    #[serde(default)]
    pub workload: Workload,
    #[serde(default)]
    pub vary: Vary,
    pub targets: Vec<Target>,
}

fn three() -> u32 {
    3
}

fn one() -> u64 {
    1
}

fn one_retry() -> u32 {
    1
}

fn one_server() -> u16 {
    1
}

fn yes() -> bool {
    true
}

/// Far from 7000, where people keep servers they care about.
fn first_port() -> u16 {
    17_000
}

/// What is measured.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Target {
    /// A cluster of ours on this machine. Its size may vary.
    Trine {
        name: String,
        #[serde(default)]
        cluster: Means,
        #[serde(default)]
        servers: Option<u16>,
        #[serde(default)]
        cores: Option<u16>,
        /// Whether its servers keep their data, in a directory that is made for each start and removed after it.
        #[serde(default)]
        directory: bool,
        /// Whether its servers know of each other. Without a topology each takes every key, and the load generator decides
        /// whose a key is.
        #[serde(default = "yes")]
        topology: bool,
        #[serde(default)]
        protocol: Protocol,
        /// Flags for every server, as `trine serve --help` lists them.
        #[serde(default)]
        settings: Vec<String>,
    },
    /// Any server that a command line starts; `{port}` in it becomes the port, `{host}` the address to listen on, `{dir}` a
    /// directory that is made for each start and removed after it, and `{build}` the folder that `build` left its programs in.
    Command {
        name: String,
        command: String,
        /// How many are started, each with a port of its own. The load generator decides which of several has a key.
        #[serde(default = "one_server")]
        servers: u16,
        /// A crate beside the experiment's file that cargo builds before this is started.
        #[serde(default)]
        build: Option<String>,
        #[serde(default)]
        protocol: Protocol,
        /// Whether to speak to it as a cluster.
        #[serde(default)]
        cluster: bool,
        /// Whether each runs in a container, on a network like that of `compose.yaml`.
        #[serde(default)]
        containers: bool,
        /// A program without which this target is left out, with a note.
        #[serde(default)]
        requires: Option<String>,
    },
    /// Something that already runs, and goes on running.
    Address {
        name: String,
        address: String,
        /// Whether to speak to it as a cluster; the server is asked where this is left out.
        #[serde(default)]
        cluster: Option<bool>,
        #[serde(default)]
        protocol: Protocol,
    },
}

/// How a cluster of ours is started.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// As processes, with `trine up`.
    #[default]
    Processes,
    /// As three containers, with compose.yaml.
    Compose,
}

impl Target {
    pub fn name(&self) -> &str {
        match self {
            Self::Trine { name, .. } | Self::Command { name, .. } | Self::Address { name, .. } => name,
        }
    }

    /// What the load generator speaks to it.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Trine { protocol, .. } | Self::Command { protocol, .. } | Self::Address { protocol, .. } => *protocol,
        }
    }
}

/// A target at one size: what is started once and serves a group of points.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    pub target: Target,
    /// For a target of kind `trine`, and for no other.
    pub size: Option<Size>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    pub servers: u16,
    /// Of each server.
    pub cores: u16,
}

/// The points that one deployment serves within one repeat, in the order they are measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub repeat: u32,
    pub deployment: Deployment,
    pub points: Vec<Point>,
}

impl Experiment {
    /// Reads and checks an experiment file.
    pub fn read(path: &Path) -> Result<Self, ExperimentError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ExperimentError::Unreadable { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    /// As [`Experiment::read`], from text; `path` is for errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ExperimentError> {
        let experiment: Self = toml::from_str(text)
            .map_err(|error| ExperimentError::NotAnExperiment { path: path.to_owned(), error: Box::new(error) })?;
        experiment.check().map_err(|(word, what)| ExperimentError::Inconsistent {
            path: path.to_owned(),
            line: 1 + text.lines().position(|line| line.contains(word.as_str())).unwrap_or(0),
            what,
        })?;
        Ok(experiment)
    }

    /// Returns the experiment with one target, which runs already, in place of all the targets it has. Its size is what it
    /// is and cannot vary. CPUs are left to the load generator where the file divides a machine that it now has for itself.
    pub fn of_address(mut self, address: &str) -> Result<Self, ExperimentError> {
        if !self.vary.servers.is_empty() || !self.vary.cores.is_empty() {
            return Err(ExperimentError::SizeIsGiven { address: address.to_owned() });
        }
        let (name, cluster, protocol) = match self.targets.first() {
            Some(Target::Command { name, cluster, protocol, .. }) => (name.clone(), Some(*cluster), *protocol),
            Some(Target::Address { name, cluster, protocol, .. }) => (name.clone(), *cluster, *protocol),
            // Ours, however they are started. Where the file's have no topology, the load generator sees what these have.
            Some(Target::Trine { name, topology, protocol, .. }) => (name.clone(), topology.then_some(true), *protocol),
            None => ("lab".to_owned(), None, Protocol::default()),
        };
        self.targets = vec![Target::Address { name, address: address.to_owned(), cluster, protocol }];
        self.cpus = Cpus { servers: CpuChoice::Any, load: self.cpus.load.unless_auto() };
        Ok(self)
    }

    /// Has all that is started here started by these means; `path` is for errors.
    pub fn by(mut self, means: Means, path: &Path) -> Result<Self, ExperimentError> {
        for target in &mut self.targets {
            match target {
                Target::Trine { cluster, .. } => *cluster = means,
                Target::Command { containers, .. } => *containers = means == Means::Compose,
                Target::Address { .. } => {}
            }
        }
        let inconsistent = |(_, what)| ExperimentError::Inconsistent { path: path.to_owned(), line: 1, what };
        self.check().map(|()| self).map_err(inconsistent)
    }

    /// Checks what spans several fields. An error comes with a word from the line that is to blame.
    fn check(&self) -> Result<(), (String, String)> {
        let complain = |word: &str, what: String| Err((word.to_owned(), what));
        if self.repeats == 0 {
            return complain("repeats", "`repeats` is 0, so nothing would be measured; say at least 1".to_owned());
        }
        if self.targets.is_empty() {
            return complain(
                "targets",
                "there is no target; add a [[targets]] table with a name and a kind".to_owned(),
            );
        }
        for (index, target) in self.targets.iter().enumerate() {
            let name = target.name();
            if self.targets[..index].iter().any(|earlier| earlier.name() == name) {
                return complain(name, format!("two targets are called `{name}`; give each its own name"));
            }
            if let Target::Command { command, servers, build, cluster, containers, .. } = target {
                if *servers == 0 {
                    return complain("servers", format!("`servers` of target `{name}` is at least 1"));
                }
                if *cluster && 1 < *servers {
                    let what = format!("`servers` of target `{name}` know nothing of each other: leave out `cluster`");
                    return complain("cluster", what);
                }
                if build.is_some() != command.contains("{build}") {
                    let what = format!("target `{name}` needs both: `build`, and {{build}} in the command, or neither");
                    return complain(command, what);
                }
                if shlex::split(command).is_none_or(|words| words.is_empty()) {
                    return complain(command, format!("the command of target `{name}` is empty, or a quote is open"));
                }
                if *containers && !command.contains("{host}") {
                    let what = format!(
                        "target `{name}` runs in containers, whose addresses are their own: write {{host}} in its command, \
                         where the address to listen on goes"
                    );
                    return complain(command, what);
                }
                if !command.contains("{port}") {
                    let what = format!("the command of target `{name}` has no {{port}}; write it where the port goes");
                    return complain(command, what);
                }
            }
            if let Target::Trine { servers, cores, cluster, .. } = target {
                let sizes = self.vary.servers.or(servers.as_slice());
                if *cluster == Means::Compose && sizes != [compose::SERVERS] {
                    let what = format!(
                        "target `{name}` runs in the containers of compose.yaml, which are {0}: write servers = {0}",
                        compose::SERVERS
                    );
                    return complain(name, what);
                }
                if *servers == Some(0) || *cores == Some(0) {
                    let word = if *servers == Some(0) { "servers" } else { "cores" };
                    return complain(word, format!("`{word}` of target `{name}` is at least 1"));
                }
                let twice = (servers.is_some() && !self.vary.servers.is_empty(), "servers");
                let twice = if twice.0 { twice } else { (cores.is_some() && !self.vary.cores.is_empty(), "cores") };
                if twice.0 {
                    let word = twice.1;
                    return complain(word, format!("`{word}` is fixed for target `{name}` and varied too; keep one"));
                }
            }
        }
        let ours = self.targets.iter().any(|target| matches!(target, Target::Trine { .. }));
        if !ours && (!self.vary.servers.is_empty() || !self.vary.cores.is_empty()) {
            let what = "`servers` and `cores` vary, but no target is of kind \"trine\"".to_owned();
            return complain("[vary]", what);
        }
        self.workload.check_against(&self.vary)
    }

    /// Returns every target at every size it is to have, in the order of the file.
    pub fn deployments(&self) -> Vec<Deployment> {
        let mut deployments = Vec::new();
        for target in &self.targets {
            let Target::Trine { servers, cores, .. } = target else {
                deployments.push(Deployment { target: target.clone(), size: None });
                continue;
            };
            for &servers in self.vary.servers.or(&[servers.unwrap_or(1)]) {
                for &cores in self.vary.cores.or(&[cores.unwrap_or(1)]) {
                    deployments.push(Deployment { target: target.clone(), size: Some(Size { servers, cores }) });
                }
            }
        }
        deployments
    }

    /// Returns the points of a deployment, in the order of the file.
    pub fn points(&self, deployment: &Deployment) -> Vec<Point> {
        let (workload, vary) = (&self.workload, &self.vary);
        let rates: Vec<Option<f64>> = match vary.rate.or(&[]) {
            [] => vec![workload.rate],
            rates => rates.iter().copied().map(Some).collect(),
        };
        let operations: Vec<Option<u64>> = match vary.operations.or(&[]) {
            [] => vec![workload.operations],
            operations => operations.iter().copied().map(Some).collect(),
        };
        let mut points = Vec::new();
        for value_size in vary.value_size.or(&[workload.value_size.clone().unwrap_or_else(ValueSize::usual)]) {
            for &read_share in vary.read_share.or(&[workload.read_share.unwrap_or(0.5)]) {
                for &pipeline in vary.pipeline.or(&[workload.pipeline.unwrap_or(1)]) {
                    for (&rate, &operations) in
                        rates.iter().flat_map(|rate| operations.iter().map(move |operations| (rate, operations)))
                    {
                        for &concurrency in vary.concurrency.or(&[workload.concurrency.unwrap_or(50)]) {
                            points.push(Point {
                                target: deployment.target.name().to_owned(),
                                servers: deployment.size.map(|size| size.servers),
                                cores: deployment.size.map(|size| size.cores),
                                concurrency,
                                pipeline,
                                value_size: value_size.clone(),
                                read_share,
                                rate,
                                operations,
                            });
                        }
                    }
                }
            }
        }
        points
    }

    /// Returns how long the load generator runs in all, if every run is steady at once. How long a number of operations
    /// takes is not known.
    pub fn least_time(&self) -> Duration {
        let timed = |deployment| self.points(deployment).iter().filter(|point| point.operations.is_none()).count();
        let points: usize = self.deployments().iter().map(timed).sum();
        let each = self.warmup.0 + self.duration.0;
        each * self.repeats * u32::try_from(points).unwrap_or(u32::MAX)
    }

    /// Returns what to measure, in order: each repeat visits every deployment once, and each deployment all of its
    /// points. Both orders are shuffled from the seed, so that what drifts over time (heat, neighbours) falls on all
    /// points alike. The same seed gives the same order, also after an interruption.
    pub fn schedule(&self) -> Vec<Group> {
        let mut shuffle = Shuffle(self.seed);
        let mut groups = Vec::new();
        for repeat in 1..=self.repeats {
            let mut deployments = self.deployments();
            shuffle.apply(&mut deployments);
            for deployment in deployments {
                let mut points = self.points(&deployment);
                shuffle.apply(&mut points);
                groups.push(Group { repeat, deployment, points });
            }
        }
        groups
    }
}

/// A Fisher-Yates shuffle from a seed. Written out here so that a file gives the same order with every version
/// of this program, also when a crate of random numbers changes its mind.
struct Shuffle(u64);

impl Shuffle {
    fn apply<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            // The bias of a remainder is below 2⁻⁵⁰ for lists of points.
            let other = (self.next() % (end as u64 + 1)) as usize;
            items.swap(end, other);
        }
    }

    /// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Why a file is no experiment that can be run.
#[derive(Debug)]
pub enum ExperimentError {
    /// Give the path of a file that can be read.
    Unreadable { path: PathBuf, error: std::io::Error },
    /// Correct the line that the error points to.
    NotAnExperiment { path: PathBuf, error: Box<toml::de::Error> },
    /// The file varies the size of what it starts, but is to measure something that runs already. Take another file.
    SizeIsGiven { address: String },
    /// Each line is right, but they contradict each other.
    Inconsistent { path: PathBuf, line: usize, what: String },
}

impl std::error::Error for ExperimentError {}

impl fmt::Display for ExperimentError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(formatter, "cannot read {}: {error}", path.display()),
            Self::NotAnExperiment { path, error } => {
                write!(formatter, "{} is not an experiment: {}", path.display(), error.to_string().trim_end())
            }
            Self::SizeIsGiven { address } => write!(
                formatter,
                "`servers` and `cores` vary in this experiment, but {address} has the size it has: remove them from [vary]"
            ),
            Self::Inconsistent { path, line, what } => write!(formatter, "{}, line {line}: {what}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TARGET: &str = "[[targets]]\nname = \"trine\"\nkind = \"trine\"\n";

    fn parse(text: &str) -> Result<Experiment, ExperimentError> {
        Experiment::parse(text, Path::new("some.toml"))
    }

    fn experiment(middle: &str) -> Experiment {
        parse(&format!("title = \"t\"\nquestion = \"q\"\n{middle}\n{TARGET}")).unwrap()
    }

    /// Every combination is a point, sizes of our clusters are deployments, and other targets have one size.
    #[test]
    fn points_are_all_combinations() {
        let experiment = experiment(
            "repeats = 2\n[vary]\nservers = [1, 3]\ncores = [1, 2]\nconcurrency = [1, 2, 3]\nvalue_size = [64, \"10..20\"]\n\
             [[targets]]\nname = \"redis\"\nkind = \"command\"\ncommand = \"redis-server --port {port} --save ''\"",
        );
        assert_eq!(experiment.deployments().len(), 1 + 4);
        let points: Vec<String> = experiment
            .deployments()
            .iter()
            .flat_map(|deployment| experiment.points(deployment))
            .map(|point| point.id())
            .collect();
        assert_eq!(points.len(), 5 * 6);
        assert_eq!(points[0], "redis read_share=0.5 value_size=64 pipeline=1 concurrency=1");
        assert!(
            points.contains(
                &"trine servers=3 cores=2 read_share=0.5 value_size=10..20 pipeline=1 concurrency=3".to_owned()
            )
        );
    }

    /// Containers are three; the command line can ask for them too, of a file that says nothing of them.
    #[test]
    fn containers_are_three() {
        let text = |line: &str| format!("title = \"t\"\nquestion = \"q\"\n{TARGET}{line}\n");
        for line in ["cluster = \"compose\"", "cluster = \"compose\"\nservers = 2"] {
            let error = parse(&text(line)).unwrap_err().to_string();
            assert!(error.contains("write servers = 3"), "{error}");
        }
        let said = parse(&text("cluster = \"compose\"\nservers = 3")).unwrap();
        let silent = parse(&text("servers = 3")).unwrap();
        assert_ne!(said, silent);
        assert_eq!(silent.by(Means::Compose, Path::new("some.toml")).unwrap(), said);
        assert!(parse(&text("servers = 2")).unwrap().by(Means::Compose, Path::new("some.toml")).is_err());
    }

    /// Asked for on the command line, containers are for commands too; these have to say where they listen.
    #[test]
    fn commands_go_into_containers_too() {
        let text = |command: &str| {
            let target = format!("[[targets]]\nname = \"other\"\nkind = \"command\"\ncommand = \"{command}\"\n");
            format!("title = \"t\"\nquestion = \"q\"\n{target}")
        };
        let by_compose = |command: &str| parse(&text(command)).unwrap().by(Means::Compose, Path::new("some.toml"));
        let said = parse(&(text("other {host} {port}") + "containers = true\n")).unwrap();
        assert_eq!(by_compose("other {host} {port}").unwrap(), said);
        let error = by_compose("other {port}").unwrap_err().to_string();
        assert!(error.contains("`other`") && error.contains("write {host}"), "{error}");
    }

    /// An error names the file, the line, and what to do instead.
    #[test]
    fn errors_name_the_line_and_the_way_out() {
        let head = "title = \"t\"\nquestion = \"q\"\n";
        for (text, line, way_out) in [
            (format!("{head}repeat = 3\n{TARGET}"), "line 3", "expected one of"),
            (format!("{head}repeats = 0\n{TARGET}"), "line 3", "at least 1"),
            (format!("{head}warmup = \"fast\"\n{TARGET}"), "line 3", "\"5s\""),
            (format!("{head}[vary]\nconcurrency = []\n{TARGET}"), "line 4", "remove the line"),
            (format!("{head}[vary]\nconcurrency = [1, 2, 1]\n{TARGET}"), "line 4", "`repeats` says"),
            (format!("{head}[vary]\nread_share = [1.5]\n{TARGET}"), "line 4", "from 0"),
            (format!("{head}[vary]\ncores = [0]\n{TARGET}"), "line 4", "at least 1"),
            (format!("{head}[cpus]\nload = \"3-1\"\n{TARGET}"), "line 4", "\"0-2,5\""),
            (format!("{head}[workload]\npipeline = 1\n[vary]\npipeline = [1]\n{TARGET}"), "line 4", "keep one"),
            (format!("{head}[vary]\ncores = [1]\n{TARGET}cores = 2\n"), "line 4", "keep one"),
            (format!("{head}{TARGET}{TARGET}"), "line 4", "its own name"),
            (format!("{head}{TARGET}servers = 0\n"), "line 6", "at least 1"),
            (format!("{head}{TARGET}servers = \"many\"\n"), "line 3", "invalid type"),
            (format!("{head}{TARGET}sever = 3\n"), "line 3", "expected"),
            (
                format!("{head}[[targets]]\nname = \"r\"\nkind = \"command\"\ncommand = \"redis-server\"\n"),
                "line 6",
                "{port}",
            ),
            (
                format!("{head}[[targets]]\nname = \"r\"\nkind = \"command\"\ncommand = \"{{build}}/x {{port}}\"\n"),
                "line 6",
                "or neither",
            ),
            (format!("{head}[workload]\noperations = 5\nread_share = 1\n{TARGET}"), "line 5", "as many GETs"),
            (format!("{head}[workload]\nbatch = \"node\"\nrate = 1\n{TARGET}"), "line 4", "remove `rate`"),
            (format!("{head}[workload]\nbatch = \"node\"\noperations = 1\n{TARGET}"), "line 4", "remove `batch`"),
            (format!("{head}[vary]\noperations = [5]\nrate = [1]\n{TARGET}"), "line 5", "as many GETs"),
            (format!("{head}{TARGET}protocol = \"https\"\n"), "line 3", "expected"),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains("some.toml"), "{error}");
            assert!(error.contains(line) && error.contains(way_out), "wanted {line} and {way_out} in: {error}");
        }
    }

    /// Any experiment can be asked of a cluster that runs already, and what is kept of it is the same experiment; one that
    /// varies the cluster's size cannot.
    #[test]
    fn an_experiment_can_have_another_target() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["quick", "fixed-three", "pipeline", "peers", "durability"] {
            let file = Experiment::read(&folder.join(format!("{name}.toml"))).unwrap();
            let there = file.clone().of_address("10.0.0.1:7000").unwrap();
            assert_eq!(parse(&toml::to_string(&there).unwrap()).unwrap(), there, "{name}");
            assert_eq!(there.deployments().len(), 1);
            assert_eq!(there.points(&there.deployments()[0]).len(), file.points(&file.deployments()[0]).len());
        }
        let error = experiment("[vary]\nservers = [1, 3]").of_address("10.0.0.1:7000").unwrap_err().to_string();
        assert!(error.contains("10.0.0.1:7000") && error.contains("[vary]"), "{error}");
    }

    /// The experiments that come with the program are right, and the quick one is quick.
    #[test]
    fn the_experiments_here_can_be_run() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in
            ["quick", "fixed-three", "pipeline", "peers", "three-peers", "whole-pipelines", "http-peers", "leaderboard"]
        {
            let experiment = Experiment::read(&folder.join(format!("{name}.toml"))).unwrap();
            if name == "quick" {
                // Loading keys and starting take what is left of 90 s.
                assert!(experiment.least_time() < Duration::from_secs(60), "{:?}", experiment.least_time());
            }
            assert!(3 <= experiment.repeats, "{name}: too few repeats to compare");
        }
    }

    /// The file in the README is one that can be run.
    #[test]
    fn the_readme_shows_an_experiment() {
        let readme = include_str!("../README.md");
        let (_, rest) = readme.split_once("```toml\n").unwrap();
        let experiment = parse(rest.split_once("```").unwrap().0).unwrap();
        assert_eq!(experiment.targets.len(), 3);
    }

    /// A number of bytes and CPU lists come back from the copy in the folder as they went in.
    #[test]
    fn a_copied_experiment_is_the_same() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let experiment = parse(&text).unwrap();
        assert_eq!(experiment, parse(&format!("# another comment\n{text}")).unwrap());
        assert_ne!(experiment, parse(&text.replace("repeats = 5", "repeats = 4")).unwrap());
    }

    /// The generator is SplitMix64 as published (its reference code from seed 0), and the order it gives is for good.
    #[test]
    fn the_shuffle_never_changes() {
        let mut shuffle = Shuffle(0);
        assert_eq!([shuffle.next(), shuffle.next()], [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
        let mut items: Vec<u32> = (0..8).collect();
        Shuffle(1).apply(&mut items);
        assert_eq!(items, [4, 3, 2, 7, 5, 6, 0, 1]);
    }

    proptest! {
        /// Whatever the seed, each repeat measures each point exactly once, and a seed always gives the same order.
        #[test]
        fn each_repeat_measures_each_point_once(seed: u64, repeats in 1..4u32) {
            let mut experiment = experiment("[vary]\nservers = [1, 2, 3]\nconcurrency = [1, 2, 4, 8]\nread_share = [0, 1]");
            (experiment.seed, experiment.repeats) = (seed, repeats);
            let schedule = experiment.schedule();
            prop_assert_eq!(&schedule, &experiment.schedule());
            let mut expected: Vec<String> = experiment
                .deployments().iter().flat_map(|deployment| experiment.points(deployment)).map(|point| point.id()).collect();
            expected.sort();
            for repeat in 1..=repeats {
                let groups = schedule.iter().filter(|group| group.repeat == repeat);
                let mut ids: Vec<String> = groups.flat_map(|group| &group.points).map(Point::id).collect();
                ids.sort();
                prop_assert_eq!(&ids, &expected);
            }
        }

        /// Order does depend on the seed, and on the repeat.
        #[test]
        fn seeds_and_repeats_change_the_order(seed: u64) {
            let order = |seed| {
                let mut shuffle = Shuffle(seed);
                let mut items: Vec<u32> = (0..40).collect();
                shuffle.apply(&mut items);
                let first = items.clone();
                shuffle.apply(&mut items);
                (first, items)
            };
            let (first, second) = order(seed);
            prop_assert_ne!(&first, &second);
            prop_assert_ne!(&first, &(0..40).collect::<Vec<_>>());
            prop_assert_ne!(&first, &order(seed.wrapping_add(1)).0);
        }
    }
}
