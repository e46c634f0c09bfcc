//! The programs `trine` and `trine-load`: found, or built first.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::schedule::Group;
use crate::target::Target;

/// The programs to measure with.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Finds both programs: in the given folder; else, if this program was built by cargo and its workspace is at hand, in
    /// cargo's folder, after cargo has built what is older than the code (a result that names the wrong commit is worse than
    /// none); else beside this program.
    pub fn find(given: Option<&Path>) -> Result<Self, ProgramsError> {
        let found = match given {
            Some(folder) => Self { folder: folder.to_owned() },
            None => {
                let this = std::env::current_exe().map_err(|error| ProgramsError::NoSelf { error })?;
                let beside = this.parent().unwrap_or(Path::new("/")).to_owned();
                match (cargo_target(&beside), workspace(&beside)) {
                    (Some(target), Some(workspace)) => build(&workspace, &target)?,
                    _ => Self { folder: beside },
                }
            }
        };
        for program in [found.trine(), found.load()] {
            if !program.is_file() {
                return Err(ProgramsError::Missing { program });
            }
        }
        Ok(found)
    }

    /// Builds the crates that targets want, which lie beside the experiment's file. Returns, by target, the folder with its
    /// programs; the given folder, where there is one, is taken to have them.
    pub fn build_for(
        &self,
        groups: &[Group],
        experiment: &Path,
        given: Option<&Path>,
    ) -> Result<BTreeMap<String, PathBuf>, ProgramsError> {
        let mut built = BTreeMap::new();
        for group in groups {
            let Target::Command { name, build: Some(crate_name), .. } = &group.deployment.target else { continue };
            if !built.contains_key(name) {
                let folder = experiment.parent().unwrap_or(Path::new("")).join(crate_name);
                built.insert(name.clone(), given.map_or_else(|| build_crate(&folder), |given| Ok(given.to_owned()))?);
            }
        }
        Ok(built)
    }

    pub fn trine(&self) -> PathBuf {
        self.folder.join("trine")
    }

    pub fn load(&self) -> PathBuf {
        self.folder.join("trine-load")
    }
}

/// Returns the target folder of cargo that `folder` is a profile of: cargo leaves a file there that says so.
fn cargo_target(folder: &Path) -> Option<PathBuf> {
    let target = folder.parent()?;
    target.join("CACHEDIR.TAG").is_file().then(|| target.to_owned())
}

/// Returns the workspace around the working directory or else around `folder`.
fn workspace(folder: &Path) -> Option<PathBuf> {
    let here = std::env::current_dir().ok();
    let around = here.iter().flat_map(|here| here.ancestors()).chain(folder.ancestors());
    let is_ours = |folder: &&Path| {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        manifest.contains("[workspace]") && manifest.contains("name = \"trine\"")
    };
    around.into_iter().find(is_ours).map(Path::to_owned)
}

/// Has cargo build what is older than the code, which is nothing right after `cargo build --release --workspace`: both commands
/// give dependencies the same features. What cargo does is shown, since a first build takes minutes.
fn build(workspace: &Path, target: &Path) -> Result<Programs, ProgramsError> {
    let arguments = ["build", "--release", "-p", "trine", "-p", "trine-client", "--bins"];
    let built = Programs { folder: target.join("release") };
    eprintln!(
        "trine-lab: measures {} and trine-load beside it, once cargo has built what is older than the code: cargo {}",
        built.trine().display(),
        arguments.join(" ")
    );
    let mut command = Command::new(cargo());
    command.args(arguments).arg("--target-dir").arg(target).current_dir(workspace).stdin(Stdio::null());
    match command.stdout(Stdio::from(std::io::stderr())).status() {
        Ok(status) if status.success() => Ok(built),
        Ok(_) => Err(ProgramsError::NotBuilt { workspace: workspace.to_owned() }),
        // Without cargo nothing can be built, but it may be up to date, as in a folder that was copied here.
        Err(error) if built.trine().is_file() && built.load().is_file() => {
            eprintln!("trine-lab: cannot run cargo ({error}): the programs may be older than the code");
            Ok(built)
        }
        Err(error) => Err(ProgramsError::NoCargo { error }),
    }
}

fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Builds a crate that is no member of the workspace. Returns the folder with its programs.
fn build_crate(folder: &Path) -> Result<PathBuf, ProgramsError> {
    let manifest = folder.join("Cargo.toml");
    eprintln!(
        "trine-lab: building what is compared with: cargo build --release --manifest-path {}",
        manifest.display()
    );
    let target = folder.join("target");
    let mut command = Command::new(cargo());
    command.args(["build", "--release", "--locked", "--manifest-path"]).arg(&manifest);
    command.arg("--target-dir").arg(&target).stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr()));
    match command.status() {
        Ok(status) if status.success() => Ok(target.join("release")),
        Ok(_) => Err(ProgramsError::NotBuilt { workspace: folder.to_owned() }),
        Err(error) => Err(ProgramsError::NoCargo { error }),
    }
}

/// Why there is nothing to measure with.
#[derive(Debug)]
pub enum ProgramsError {
    /// Install both programs in one folder, or name the folder.
    Missing { program: PathBuf },
    /// The compiler has said why.
    NotBuilt { workspace: PathBuf },
    /// Install cargo, or name a folder with the programs.
    NoCargo { error: std::io::Error },
    /// The kernel does not say where this program is.
    NoSelf { error: std::io::Error },
}

impl std::error::Error for ProgramsError {}

impl fmt::Display for ProgramsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way_out = "name the folder that has `trine` and `trine-load` with --programs DIR";
        match self {
            Self::Missing { program } => write!(
                formatter,
                "there is no {}: build both with `cargo build --release --workspace` in the workspace, or {way_out}",
                program.display()
            ),
            Self::NotBuilt { workspace } => write!(
                formatter,
                "`cargo build --release` failed in {}: mend what it says above, or {way_out}",
                workspace.display()
            ),
            Self::NoCargo { error } => write!(formatter, "cannot run cargo ({error}): install it, or {way_out}"),
            Self::NoSelf { error } => write!(formatter, "cannot tell where this program is ({error}): {way_out}"),
        }
    }
}
