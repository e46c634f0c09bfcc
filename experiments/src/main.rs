//! The experiment harness `trine-lab`.
#![expect(unreachable_pub, reason = "the modules of a binary: `pub` says what the other modules may use")]

#[macro_use]
mod output;
// What is asked.
mod experiment;
mod point;
mod schedule;
mod settings;
mod target;
// Measuring.
mod cluster;
mod cluster_error;
mod compose;
mod doctor;
mod load;
mod machine;
mod party;
mod process;
mod programs;
mod progress;
mod run;
// What was measured, and what it says.
mod compare;
mod distribution;
mod history;
mod merge;
mod reasons;
mod result;
mod statistics;
mod summary;
// Showing it.
mod chart;
mod figures;
mod page;
mod report;
mod rounds;
mod utilisation;

#[cfg(test)]
mod sample;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};
use trine::manual;
use trine::printable::printable;

use crate::compare::{Comparison, Condition};
use crate::experiment::Experiment;
use crate::output::line;
use crate::party::Member;
use crate::result::{Folder, Verdict};
use crate::run::RunError;
use crate::summary::Summary;
use crate::target::Means;

/// Measures key-value stores over sweeps of concurrency, pipelines, sizes and cores, and draws what it found.
#[derive(Parser)]
#[command(version = trine::built::VERSION, after_help = EXAMPLES)]
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
  trine-lab run experiments/quick.toml --address 10.0.0.1:7001 --member 1/2 --meeting today     and 2/2 elsewhere
  trine-lab merge --out results/both one two
  trine-lab record 127.0.0.1:7001 --out history.jsonl; trine-lab check history.jsonl

Exit status:
  0    done; with compare, no condition was met; with check, every history is linearizable
  1    with compare: a condition was met, or a point that A measured failed in B; with check: a history is not linearizable, or
       could not be decided; with record: nobody answered for some keys in the end
  2    the command line, an experiment file or a folder is not right; with compare also: cannot judge, since
       there is no common point, too few repeats, every point is SUSPECT, or the repeats differ too much
  3    with run and merge: the experiment ran to its end, but some runs failed or are INVALID
  130  interrupted; the same command goes on from there

Results go to standard output, everything else to standard error.";

#[derive(Subcommand)]
enum Subcommands {
    /// Run an experiment, or go on with an interrupted one; then draw its charts
    #[command(
        after_help = "Examples:\n  trine-lab run experiments/quick.toml\n  trine-lab run experiments/quick.toml --fresh --out results/after"
    )]
    Run {
        /// The experiment file
        file: PathBuf,
        /// Folder for results [default: results/NAME, after the file]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Set earlier results in the folder aside (as DIR.1, DIR.2, ...) and begin again
        #[arg(long)]
        fresh: bool,
        /// Folder with `trine` and `trine-load` [default: beside this program; within a workspace cargo first builds what is
        /// older than the code]
        #[arg(long, value_name = "DIR")]
        programs: Option<PathBuf>,
        /// Measure what runs at this address, in place of the file's targets
        #[arg(long, value_name = "HOST:PORT", conflicts_with = "cluster")]
        address: Option<String>,
        /// Way to start targets of kind "trine" and "command", in place of the file's
        #[arg(long, value_enum, value_name = "MEANS")]
        cluster: Option<Means>,
        /// Measure together with other load hosts, as the second of three: each takes its share of the connections and the
        /// rate. Start all of them; `merge` makes one folder of theirs
        #[arg(long, value_name = "2/3", requires = "meeting")]
        member: Option<Member>,
        /// A word that these load hosts, and no others, have in common
        #[arg(long, value_name = "WORD", requires = "member")]
        meeting: Option<String>,
    },
    /// Make one folder of those that several load hosts wrote, with latencies from all of their requests; then draw it
    #[command(after_help = "Examples:\n  trine-lab merge --out results/both results/one results/two")]
    Merge {
        /// The folder to write
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The folders of all load hosts, in the order of their numbers
        #[arg(required = true)]
        folders: Vec<PathBuf>,
    },
    /// Draw the charts and the page of a folder again, from its JSON lines alone
    #[command(after_help = "Examples:\n  trine-lab chart results/quick")]
    Chart {
        /// A folder that `run` wrote
        folder: PathBuf,
    },
    /// Say how the results in B differ from those in A, and whether by more than chance
    #[command(
        after_help = "Examples:\n  trine-lab compare results/before results/after\n  trine-lab compare results/before results/after --fail-if 'throughput<-5%' --fail-if 'p99>10%'"
    )]
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
    #[command(after_help = "Examples:\n  trine-lab list\n  trine-lab list experiments")]
    List {
        #[arg(default_value = "experiments")]
        folder: PathBuf,
    },
    /// Ask a running store for the same few keys by many clients at once, and write down what each was told and when
    #[command(
        after_help = "Examples:\n  trine-lab record 127.0.0.1:7001 --out history.jsonl\n  trine-lab record 10.0.0.1:7001 10.0.0.2:7001 --clients 8 --time 1m --out history.jsonl\n\nServers may be killed meanwhile: requests without a reply stay open. MOVED is followed. Keys are {history:SEED:N}:…; they stay."
    )]
    Record {
        /// Servers to begin with
        #[arg(required = true, value_name = "HOST:PORT")]
        addresses: Vec<String>,
        /// File to write, as JSON lines
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Clients at the same time
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1024))]
        clients: u64,
        /// Groups of three keys: the fewer, the more clients meet
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=65536))]
        groups: u64,
        /// Time to record for
        #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "TIME")]
        time: Duration,
        /// Seed of the random choices [default: another each time]
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Say whether histories are linearizable: whether one store that does one thing after the other could have told all that
    #[command(
        after_help = "Examples:\n  trine-lab check history.jsonl\n\nA line is {\"client\":0,\"called_ns\":5,\"returned_ns\":9,\"commands\":[[\"INCR\",\"a\"]],\"replies\":[1]}; several commands are a transaction, and without returned_ns and replies it is not known whether they were executed."
    )]
    Check {
        /// Files of JSON lines
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print a script that completes this command line in a shell
    #[command(after_help = "Examples:\n  trine-lab completions bash > /etc/bash_completion.d/trine-lab")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the pages of the manual as files
    #[command(after_help = "Examples:\n  trine-lab man --out /usr/local/share/man/man1")]
    Man {
        /// Write them into this folder, as trine-lab.1, trine-lab-run.1, and so on
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

const EXIT_CONDITION: u8 = 1;
const EXIT_WRONG: u8 = 2;
const EXIT_FAILED_RUNS: u8 = 3;
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let done = match CommandLine::parse().command {
        Subcommands::Run { file, out, fresh, programs, address, cluster, member, meeting } => {
            let name = file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
            // Other results than those of the file as it is.
            let name = if cluster == Some(Means::Compose) { format!("{name}-compose") } else { name };
            run(&run::Options {
                folder: Folder(out.unwrap_or_else(|| Path::new("results").join(name))),
                experiment: &file,
                fresh,
                programs: programs.as_deref(),
                address: address.as_deref(),
                cluster,
                party: member.zip(meeting.as_deref()),
            })
        }
        Subcommands::Merge { out, folders } => merge(&Folder(out), folders.into_iter().map(Folder).collect()),
        Subcommands::Chart { folder } => show(&Folder(folder)).map(|_| ExitCode::SUCCESS),
        Subcommands::Compare { a, b, fail_if, json } => compare(&Folder(a), &Folder(b), &fail_if, json),
        Subcommands::List { folder } => list(&folder),
        Subcommands::Record { addresses, out, clients, groups, time, seed } => {
            let seed = seed.unwrap_or_else(|| fastrand::u64(..));
            record(&history::record::Options { addresses, clients, groups, time, seed }, &out)
        }
        Subcommands::Check { files } => check(&files),
        Subcommands::Completions { shell } => print(&manual::completions(CommandLine::command(), shell)),
        Subcommands::Man { out } => write_manual(&out),
    };
    done.unwrap_or_else(|Complaint { what, status }| {
        eprintln!("trine-lab: {}", printable(&what));
        ExitCode::from(status)
    })
}

fn print(text: &[u8]) -> Result<ExitCode, Complaint> {
    output::result(text)?;
    Ok(ExitCode::SUCCESS)
}

fn write_manual(folder: &Path) -> Result<ExitCode, Complaint> {
    let complain = |error| Complaint { what: format!("--out {}: {error}", folder.display()), status: EXIT_WRONG };
    std::fs::create_dir_all(folder).map_err(complain)?;
    for page in manual::pages(CommandLine::command()) {
        let file = folder.join(format!("{}.1", page.name));
        std::fs::write(&file, page.text).map_err(complain)?;
        line(file.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An error message and an exit status.
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
    finish(&options.folder)
}

fn merge(out: &Folder, folders: Vec<Folder>) -> Result<ExitCode, Complaint> {
    merge::merge(out, &folders)?;
    finish(out)
}

/// Draws a folder that has just been written.
fn finish(folder: &Folder) -> Result<ExitCode, Complaint> {
    let is_sound = show(folder)?;
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED_RUNS) })
}

/// Draws a folder and prints what stands in it. Returns whether every run was measured, and none is INVALID.
fn show(folder: &Folder) -> Result<bool, Complaint> {
    let summaries = report::draw(folder)?;
    let reference = Experiment::read(&folder.experiment_file()).ok().and_then(|experiment| experiment.reference);
    if let Some((header, rows)) = rounds::table(&summaries, reference.as_ref()) {
        print_table(&header, rows.into_iter().map(|(_, cells)| cells))?;
        line("")?;
    }
    let (header, rows) = report::table(&summaries);
    print_table(&header, rows.into_iter().map(|(_, cells)| cells))?;
    line("")?;
    for finding in report::findings(&figures::facets(&summaries)) {
        line(finding)?;
    }
    line(format_args!("charts: {}", folder.page_file().display()))?;
    Ok(summaries.iter().all(is_sound))
}

fn is_sound(summary: &Summary) -> bool {
    summary.failures() == 0 && summary.verdict() < Some(Verdict::Invalid)
}

fn compare(a: &Folder, b: &Folder, conditions: &[Condition], json: bool) -> Result<ExitCode, Complaint> {
    let comparison = Comparison::new(&a.read()?, &b.read()?);
    let judgement = comparison.judge(conditions);
    if json {
        line(serde_json::to_string_pretty(&comparison.json(&judgement))?)?;
    } else {
        let (header, rows) = comparison.table();
        print_table(&header, rows.into_iter())?;
        line("")?;
        comparison.overall_lines().iter().try_for_each(line)?;
        comparison.caveats().iter().try_for_each(line)?;
        judgement.met.iter().try_for_each(|met| line(format_args!("met: {met}")))?;
    }
    if matches!((a.0.canonicalize(), b.0.canonicalize()), (Ok(a), Ok(b)) if a == b) {
        eprintln!("trine-lab: A and B are the same folder: every difference is 0");
    }
    comparison.notes().iter().for_each(|note| eprintln!("trine-lab: {note}"));
    if let Some(what) = judgement.cannot_judge {
        return Err(Complaint { what: format!("cannot judge: {what}"), status: EXIT_WRONG });
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
                let time = time_of(&experiment);
                line(format_args!("{}: {runs} runs, {time}\n    {}", file.display(), experiment.question))?;
            }
            Err(error) => eprintln!("trine-lab: {error}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the time that an experiment takes, as far as it is known before: a number of operations takes as long as it takes.
fn time_of(experiment: &Experiment) -> String {
    match Duration::from_secs(experiment.least_time().as_secs()) {
        Duration::ZERO => "which take as long as their operations".to_owned(),
        time => format!("{} at least", humantime::format_duration(time)),
    }
}

/// Makes a history and writes it; also what there is of it when it is interrupted.
fn record(options: &history::record::Options, out: &Path) -> Result<ExitCode, Complaint> {
    let complain = |error: io::Error| Complaint { what: format!("{}: {error}", out.display()), status: EXIT_WRONG };
    // Whether it can be written is known before the work, and a name stands for a whole history.
    let part = out.with_added_extension("part");
    let mut file = io::BufWriter::new(std::fs::File::create(&part).map_err(complain)?);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(
            signal,
            EXIT_INTERRUPTED.into(),
            std::sync::Arc::clone(&stop),
        )?;
        signal_hook::flag::register(signal, std::sync::Arc::clone(&stop))?;
    }
    eprintln!(
        "trine-lab: {} clients for {}, seed {}",
        options.clients,
        humantime::format_duration(options.time),
        options.seed
    );
    let recording = history::record::record(options, &stop).map_err(|error| {
        let _ = std::fs::remove_file(&part);
        Complaint { what: format!("{}: {error}", options.addresses.join(" ")), status: EXIT_WRONG }
    })?;
    for operation in &recording.operations {
        serde_json::to_writer(&mut file, operation)?;
        io::Write::write_all(&mut file, b"\n").map_err(complain)?;
    }
    io::Write::flush(&mut file).map_err(complain)?;
    std::fs::rename(&part, out).map_err(complain)?;
    let open = recording.operations.iter().filter(|operation| operation.returned_ns.is_none()).count();
    let (all, refused) = (recording.operations.len(), recording.refused);
    line(format_args!("{}: {all} operations, {open} of them without a reply; {refused} refused", out.display()))?;
    if !recording.unread.is_empty() {
        let keys = recording.unread.join(" ");
        return Err(Complaint { what: format!("in the end nobody answered for {keys}"), status: EXIT_CONDITION });
    }
    let is_stopped = stop.load(std::sync::atomic::Ordering::Relaxed);
    Ok(if is_stopped { ExitCode::from(EXIT_INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Says of each history whether it is linearizable.
fn check(files: &[PathBuf]) -> Result<ExitCode, Complaint> {
    let mut status = ExitCode::SUCCESS;
    for file in files {
        let operations = history::read(file)
            .map_err(|error| Complaint { what: format!("{}: {error}", file.display()), status: EXIT_WRONG })?;
        if operations.is_empty() {
            let what = format!("{}: no operation, so that there is nothing to judge", file.display());
            return Err(Complaint { what, status: EXIT_WRONG });
        }
        let (verdict, counts) = history::check::check(&operations, history::check::SITUATIONS_MAX);
        let about = format!(
            "{}: {} operations on {} groups of keys, {} without a reply",
            file.display(),
            counts.operations,
            counts.groups,
            counts.open
        );
        if verdict != history::check::Verdict::Linearizable {
            status = ExitCode::from(EXIT_CONDITION);
        }
        match verdict {
            history::check::Verdict::Linearizable => line(format_args!("{about}: linearizable"))?,
            history::check::Verdict::Violation(violation) => {
                line(format_args!("{about}: NOT linearizable"))?;
                line(printable(violation.to_string().trim_end()))?;
            }
            history::check::Verdict::Undecided { keys } => {
                let keys = printable(&keys.join(", ")).into_owned();
                line(format_args!("{about}: undecided for {keys}: too many without a reply, or too many at once"))?;
            }
        }
    }
    Ok(status)
}

/// Prints rows in columns as wide as they need to be.
fn print_table(header: &[String], rows: impl Iterator<Item = Vec<String>>) -> io::Result<()> {
    let rows: Vec<Vec<String>> = std::iter::once(header.to_vec()).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An experiment of a number of operations has no least time, and none is shown.
    #[test]
    fn a_time_that_is_not_known_is_not_shown() {
        let read = |name: &str| Experiment::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
        assert!(time_of(&read("quick.toml")).ends_with(" at least"));
        assert!(time_of(&read("leaderboard.toml")).contains("as long as their operations"));
    }

    /// A point that failed or is INVALID shows in the exit status; one in doubt does not.
    #[test]
    fn what_is_not_valid_shows_in_the_exit_status() {
        for (verdict, expected) in [("OK", true), ("SUSPECT", true), ("INVALID", false)] {
            let runs = [1, 2].map(|repeat| {
                let verdict = if repeat == 1 { "OK" } else { verdict };
                sample::measured(sample::point(1, 0.0), repeat, 1000.0, verdict)
            });
            assert_eq!(summary::summarise(&runs).iter().all(is_sound), expected, "{verdict}");
        }
        assert!(!summary::summarise(&[sample::failed(sample::point(1, 0.0), 1)]).iter().all(is_sound));
    }

    /// The help of every subcommand shows an example.
    #[test]
    fn every_subcommand_has_an_example() {
        CommandLine::command().debug_assert();
        for subcommand in CommandLine::command().get_subcommands() {
            let after = subcommand.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("Examples:\n  trine-lab {}", subcommand.get_name());
            assert!(after.starts_with(&example), "{}: {after}", subcommand.get_name());
        }
    }
}
