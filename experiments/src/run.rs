//! Runs an experiment: starts each target in turn, measures its points, and writes every run down before the next.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cluster;
use crate::compose::Images;
use crate::experiment::Experiment;
use crate::machine::{self, Environment};
use crate::party::Member;
use crate::point::{Point, varying};
use crate::process::{Interrupt, find_program};
use crate::programs::Programs;
use crate::progress::Progress;
use crate::result::{Folder, Journal, ResultError, Results, append_line};
use crate::schedule::Group;
use crate::target::{Means, Target};

mod error;
mod runner;

pub use error::RunError;
use runner::{Party, Runner};

/// The command line's options for a run.
pub struct Options<'a> {
    pub experiment: &'a Path,
    pub folder: Folder,
    /// Set earlier results aside instead of adding to them.
    pub fresh: bool,
    /// The folder with `trine` and `trine-load`, in place of the usual one.
    pub programs: Option<&'a Path>,
    /// Something that runs already, to be measured in place of the file's targets.
    pub address: Option<&'a str>,
    /// The number of this load host among several, and the name of their meeting.
    pub party: Option<(Member, &'a str)>,
    /// The way to start targets, in place of the file's.
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
    if folder_lacks_runs(&experiment, options) {
        // Before anything else: each of the points would fail with the same error.
        experiment.targets.iter().try_for_each(cluster::check_reachable).map_err(RunError::Cluster)?;
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
    if let Some(difference) = experiment.pinned_differently(&machine::available_cpus()) {
        eprintln!("trine-lab: {difference}");
    }
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

/// Returns whether there is anything left to measure. What cannot be read is judged when the folder is claimed.
fn folder_lacks_runs(experiment: &Experiment, options: &Options<'_>) -> bool {
    let earlier = if options.fresh { Results::default() } else { options.folder.read().unwrap_or_default() };
    !remaining(&experiment.schedule(), &earlier).is_empty()
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

/// Claims a folder like [`claim`], with the text that is stored there.
fn claim_text(folder: &Folder, file: &Path, experiment: &Experiment, text: &[u8]) -> Result<(), RunError> {
    let copy = folder.experiment_file();
    let failed = |path: &Path, error| RunError::Io { path: path.to_owned(), error };
    std::fs::create_dir_all(folder.0.join("logs")).map_err(|error| failed(&folder.0, error))?;
    if copy.exists() {
        let earlier = Experiment::read(&copy).map_err(RunError::Experiment)?;
        return match earlier == *experiment {
            true => Ok(()),
            false => Err(RunError::OtherExperiment {
                folder: folder.0.clone(),
                file: file.to_owned(),
                title: (earlier.title != experiment.title).then_some(earlier.title),
            }),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn experiment() -> Experiment {
        let text = "title = \"t\"\nquestion = \"q\"\nrepeats = 2\n[vary]\nconcurrency = [1, 2, 4]\nread_share = [0, 0.1]\n\
                    [[targets]]\nname = \"trine\"\nkind = \"trine\"\nservers = 3\n";
        Experiment::parse(text, Path::new("some.toml")).unwrap()
    }

    /// A measured point is not measured again, wherever the experiment was interrupted; a failed one is.
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
        let other = Experiment { title: "Another".to_owned(), ..quick.clone() };
        let error = claim(&folder, &file, &other).unwrap_err().to_string();
        assert!(error.contains("another experiment") && error.contains(&quick.title), "{error}");
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
