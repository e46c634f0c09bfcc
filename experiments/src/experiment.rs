//! The experiment file: what is asked, of which targets, and what varies.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::settings::{CpuChoice, Cpus, Protocol, Reference, Span, Vary, Workload, cpu_list};
use crate::target::{Means, Target};

/// An experiment as its file states it. [`Experiment::read`] has checked what one field cannot know of another.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// The heading of the page of charts.
    pub title: String,
    /// The question that the experiment answers: one sentence, above the charts.
    pub question: String,
    /// The number of times that each point is measured. Intervals need two, comparisons three.
    #[serde(default = "three")]
    pub repeats: u32,
    /// Decides the order of the points, and goes to the load generator.
    #[serde(default = "one")]
    pub seed: u64,
    #[serde(default = "Span::one_second")]
    pub warmup: Span,
    #[serde(default = "Span::five_seconds")]
    pub duration: Span,
    /// The number of times that a point is measured again, each time with twice the warm-up, while its throughput was not
    /// steady.
    #[serde(default = "one_retry")]
    pub steady_retries: u32,
    /// The first port of what is started here.
    #[serde(default = "first_port")]
    pub port: u16,
    #[serde(default)]
    pub cpus: Cpus,
    /// A result measured elsewhere by somebody else, to set the results beside.
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

/// Far from 7000, where people keep servers they care about.
fn first_port() -> u16 {
    17_000
}

impl Experiment {
    /// Reads and checks an experiment file.
    pub fn read(path: &Path) -> Result<Self, ExperimentError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ExperimentError::Unreadable { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    /// Parses an experiment like [`Experiment::read`], from text; `path` is for errors.
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

    /// Says which targets keep a CPU and which may move about, where they differ: with few requests in flight that may decide
    /// which is faster. `available` are the CPUs of the machine that starts them.
    pub fn pinned_differently(&self, available: &[usize]) -> Option<String> {
        let (servers, _) = self.cpus.on(available);
        let room = servers.as_deref().unwrap_or(available);
        let placed = self.targets.iter().filter_map(|target| Some((target.name(), target.keeps_its_cpus(room)?)));
        let (kept, loose): (Vec<_>, Vec<_>) = placed.partition(|(_, keeps)| *keeps);
        let names = |targets: &[(&str, bool)]| targets.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        (!kept.is_empty() && !loose.is_empty()).then(|| {
            format!(
                "Not placed alike: each core of {} keeps a CPU of its own, while {} may move among CPUs {}. With few \
                 requests in flight this can outweigh all else, because waking another CPU takes time, on a virtual machine \
                 much of it. Give the servers one CPU ([cpus] servers = \"{}\"), or pin none (settings = [\"--cpus\", \"any\"]).",
                names(&kept),
                names(&loose),
                cpu_list(room),
                room.first().copied().unwrap_or_default(),
            )
        })
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
            target.check(&self.vary)?;
        }
        let ours = self.targets.iter().any(|target| matches!(target, Target::Trine { .. }));
        if !ours && (!self.vary.servers.is_empty() || !self.vary.cores.is_empty()) {
            let what = "`servers` and `cores` vary, but no target is of kind \"trine\"".to_owned();
            return complain("[vary]", what);
        }
        self.workload.check_against(&self.vary)
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
    use std::time::Duration;

    const TARGET: &str = "[[targets]]\nname = \"trine\"\nkind = \"trine\"\n";

    fn parse(text: &str) -> Result<Experiment, ExperimentError> {
        Experiment::parse(text, Path::new("some.toml"))
    }

    fn experiment(middle: &str) -> Experiment {
        parse(&format!("title = \"t\"\nquestion = \"q\"\n{middle}\n{TARGET}")).unwrap()
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
                // 36 runs of 1.25 s took 114 s on two cores: each some 1.9 s beside its load, starting and drawing included.
                let runs: usize = experiment.schedule().iter().map(|group| group.points.len()).sum();
                let time = experiment.least_time() + Duration::from_millis(1920) * u32::try_from(runs).unwrap();
                assert!(time < Duration::from_secs(90), "{time:?}");
            }
            assert!(3 <= experiment.repeats, "{name}: too few repeats to compare");
        }
    }

    /// If Trine is pinned and another server is not, a note names both; if all are placed alike, there is no note.
    #[test]
    fn targets_that_are_not_placed_alike_are_named() {
        let text = |cpus: &str, settings: &str| {
            format!(
                "title = \"t\"\nquestion = \"q\"\n[cpus]\nservers = \"{cpus}\"\n{TARGET}{settings}\n[[targets]]\n\
                 name = \"other\"\nkind = \"command\"\ncommand = \"other {{port}}\"\n"
            )
        };
        let said = |cpus, settings| parse(&text(cpus, settings)).unwrap().pinned_differently(&[0, 1, 2]);
        for cpus in ["any", "auto", "0-1"] {
            let said = said(cpus, "").unwrap();
            assert!(said.contains("each core of trine") && said.contains("other may move among CPUs 0,1"), "{said}");
        }
        assert_eq!(said("1", ""), None);
        assert_eq!(said("any", "settings = [\"--cpus\", \"any\"]"), None);
        assert_eq!(said("any", "settings = [\"--cpus=any\"]"), None);
        assert!(said("1", "settings = [\"--cpus=any\"]").unwrap().contains("each core of other"));
        assert_eq!(
            parse(&text("any", "")).unwrap().of_address("10.0.0.1:7000").unwrap().pinned_differently(&[0, 1]),
            None
        );
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
}
