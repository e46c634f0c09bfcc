//! Why an experiment did not run to its end.

use std::fmt;
use std::path::PathBuf;

use crate::cluster_error::ClusterError;
use crate::experiment::ExperimentError;
use crate::party::MeetingError;
use crate::programs::ProgramsError;
use crate::result::ResultError;

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
        /// The title of the experiment in the folder, if it is another one than the file's.
        title: Option<String>,
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
            Self::OtherExperiment { folder, file, title: Some(title) } => write!(
                formatter,
                "{} holds results of another experiment than {} (\"{title}\"): choose another folder with --out, or set \
                 these results aside with --fresh",
                folder.display(),
                file.display()
            ),
            Self::OtherExperiment { folder, file, title: None } => write!(
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
