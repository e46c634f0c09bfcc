//! The experiment harness `trine-lab`.
#![expect(unreachable_pub, reason = "the modules of a binary: `pub` says what the other modules may use")]

// What is asked.
mod experiment;
mod point;
mod settings;
// Measuring.
mod cluster;
mod compose;
mod load;
mod machine;
mod process;
mod programs;
mod progress;
mod run;
// What was measured, and what it says.
mod compare;
mod distribution;
mod result;
mod statistics;
mod summary;
// Showing it.
mod chart;
mod figures;
mod page;
mod report;
mod utilisation;

#[cfg(test)]
mod sample;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::compare::{Comparison, Condition};
use crate::experiment::{Experiment, Means};
use crate::result::Folder;
use crate::run::RunError;

/// Measures key-value stores over sweeps of concurrency, pipelines, sizes and cores, and draws what it found.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct CommandLine {
    #[command(subcommand)]
    command: Subcommands,
}

const EXAMPLES: &str = "\
Examples:
  trine-lab run experiments/quick.toml
  trine-lab run experiments/fixed-three.toml --cluster compose
  trine-lab chart results/quick
  trine-lab compare results/before results/after --fail-if 'throughput<-5%' --fail-if 'p99>10%'
  trine-lab list

Exit status:
  0    done; with compare, no condition was met
  1    with compare: a condition was met, or a point that A measured failed in B
  2    the command line, an experiment file or a folder is not right, or there is nothing to compare
  3    with run: the experiment ran to its end, but some runs failed
  130  interrupted; the same command goes on from there

Results go to standard output, everything else to standard error.";

#[derive(Subcommand)]
enum Subcommands {
    /// Run an experiment, or go on with an interrupted one; then draw its charts
    Run {
        /// The experiment file
        file: PathBuf,
        /// Where results go [default: results/NAME, after the file]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Set earlier results in the folder aside (as DIR.1, DIR.2, ...) and begin again
        #[arg(long)]
        fresh: bool,
        /// Where `trine` and `trine-load` are [default: built by cargo within a workspace, else beside this program]
        #[arg(long, value_name = "DIR")]
        programs: Option<PathBuf>,
        /// How targets of kind "trine" are started, whatever the file says
        #[arg(long, value_enum, value_name = "MEANS")]
        cluster: Option<Means>,
    },
    /// Draw the charts and the page of a folder again, from its JSON lines alone
    Chart {
        /// A folder that `run` wrote
        folder: PathBuf,
    },
    /// Say how the results in B differ from those in A, and whether by more than chance
    Compare {
        /// The results to compare with
        a: PathBuf,
        /// The results to judge
        b: PathBuf,
        /// Exit with 1 if this is so, overall or at a point, and significant: throughput, p50, p99 or p999, then < or
        /// >, then a change in percent
        #[arg(long, value_name = "CONDITION", allow_hyphen_values = true)]
        fail_if: Vec<Condition>,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// List the experiments in a folder, with their questions and how many runs each takes
    List {
        #[arg(default_value = "experiments")]
        folder: PathBuf,
    },
}

const EXIT_CONDITION: u8 = 1;
const EXIT_WRONG: u8 = 2;
const EXIT_FAILED_RUNS: u8 = 3;
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let done = match CommandLine::parse().command {
        Subcommands::Run { file, out, fresh, programs, cluster } => {
            let name = file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
            // Other results than those of the file as it is.
            let name = if cluster == Some(Means::Compose) { format!("{name}-compose") } else { name };
            let folder = Folder(out.unwrap_or_else(|| Path::new("results").join(name)));
            run(&run::Options { experiment: &file, folder, fresh, programs: programs.as_deref(), cluster })
        }
        Subcommands::Chart { folder } => show(&Folder(folder)).map(|_| ExitCode::SUCCESS),
        Subcommands::Compare { a, b, fail_if, json } => compare(&Folder(a), &Folder(b), &fail_if, json),
        Subcommands::List { folder } => list(&folder),
    };
    done.unwrap_or_else(|Complaint { what, status }| {
        eprintln!("trine-lab: {what}");
        ExitCode::from(status)
    })
}

/// What to say before the program ends, and with which status.
struct Complaint {
    what: String,
    status: u8,
}

impl<E: std::error::Error> From<E> for Complaint {
    fn from(error: E) -> Self {
        Self { what: error.to_string(), status: EXIT_WRONG }
    }
}

fn run(options: &run::Options<'_>) -> Result<ExitCode, Complaint> {
    run::run(options).map_err(|error| match error {
        RunError::Interrupted => Complaint { what: error.to_string(), status: EXIT_INTERRUPTED },
        error => Complaint::from(error),
    })?;
    let failed = show(&options.folder)?;
    Ok(if failed { ExitCode::from(EXIT_FAILED_RUNS) } else { ExitCode::SUCCESS })
}

/// Draws a folder and prints what stands in it. Returns whether some runs failed.
fn show(folder: &Folder) -> Result<bool, Complaint> {
    let summaries = report::draw(folder)?;
    let (header, rows) = report::table(&summaries);
    print_table(&header, rows.into_iter().map(|(_, cells)| cells));
    println!();
    for finding in report::findings(&figures::facets(&summaries)) {
        println!("{finding}");
    }
    println!("charts: {}", folder.page_file().display());
    Ok(summaries.iter().any(|summary| 0 < summary.failures()))
}

fn compare(a: &Folder, b: &Folder, conditions: &[Condition], json: bool) -> Result<ExitCode, Complaint> {
    let comparison = Comparison::new(&a.read()?, &b.read()?);
    let judgement = comparison.judge(conditions);
    if json {
        println!("{}", serde_json::to_string_pretty(&comparison.json(&judgement))?);
    } else {
        let (header, rows) = comparison.table();
        print_table(&header, rows.into_iter());
        println!();
        comparison.overall_lines().iter().for_each(|line| println!("{line}"));
        judgement.met.iter().for_each(|line| println!("met: {line}"));
    }
    comparison.notes().iter().for_each(|note| eprintln!("trine-lab: {note}"));
    if let Some(what) = judgement.cannot_judge {
        return Err(Complaint { what, status: EXIT_WRONG });
    }
    Ok(if judgement.met.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CONDITION) })
}

fn list(folder: &Path) -> Result<ExitCode, Complaint> {
    let complain = |what: String| Complaint { what, status: EXIT_WRONG };
    let entries = std::fs::read_dir(folder)
        .map_err(|error| complain(format!("cannot list {}: {error}; name a folder", folder.display())))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml") && !path.ends_with("Cargo.toml"));
    files.sort();
    if files.is_empty() {
        return Err(complain(format!("{} has no experiment (*.toml); name another folder", folder.display())));
    }
    for file in files {
        match Experiment::read(&file) {
            Ok(experiment) => {
                let runs: usize = experiment.schedule().iter().map(|group| group.points.len()).sum();
                let time = humantime::format_duration(Duration::from_secs(experiment.least_time().as_secs()));
                println!("{}: {runs} runs, {time} at least\n    {}", file.display(), experiment.question);
            }
            Err(error) => eprintln!("trine-lab: {error}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints rows in columns as wide as they need to be.
fn print_table(header: &[String], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = std::iter::once(header.to_vec()).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
