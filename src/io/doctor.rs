//! `trine doctor`: what stands between this machine and a fast Trine, and what to do about it.

mod disk;
mod groups;
mod load;
mod ports;
mod read;

use std::{
    env,
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use ratatui::crossterm::terminal;

use super::cli::{Failure, print_coloured, print_result};
use crate::doctor::{State, examine, table};

/// Lines are broken here where there is no terminal that has a width.
const WIDTH: usize = 100;

/// Returns the command line of `trine doctor`.
pub(super) fn command() -> Command {
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue);
    Command::new("doctor")
        .about("Say what on this machine is in Trine's way, and what to do about it")
        .long_about(
            "Look at the kernel, io_uring, limits, CPUs, clock, memory, ports and, with --dir, the disk, and say of each how \
             it is, why that matters and what to do. CPUs are watched for a second, to name the processes that use them. \
             Nothing is changed, except that with --dir a file of 256 KiB is written there, which takes a second at most, \
             and removed again.",
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Look at the disk under this directory too, and measure how long a write takes until it is there"),
        )
        .arg(
            Arg::new("port")
                .long("port")
                .value_name("N")
                .action(ArgAction::Append)
                .value_delimiter(',')
                .value_parser(value_parser!(u16).range(1..))
                .help("Try this port [default: those that trine serve would take here]"),
        )
        .arg(json.help("Write JSON: version, state and findings, each with name, state, value, reason and fix"))
        .after_help(
            "Examples:\n  \
             trine doctor\n  \
             trine doctor --dir /var/lib/trine --port 7000,7001,7002\n  \
             trine doctor --json | jq '.findings[] | select(.state != \"ok\")'\n  \
             docker run --rm trine doctor                 what a container allows\n\n\
             Exit status: 0 Trine runs here, perhaps with warnings; 1 something is in its way; 2 what was asked makes no sense.",
        )
}

/// Reads, examines and prints.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let ports: Vec<u16> = matches.get_many("port").unwrap_or_default().copied().collect();
    let readings = read::readings(&ports, matches.get_one::<PathBuf>("dir").map(PathBuf::as_path));
    let diagnosis = examine(&readings);
    if matches.get_flag("json") {
        let json = serde_json::to_string_pretty(&diagnosis).map_err(|error| Failure::Failed(error.to_string()))?;
        print_result(&format!("{json}\n")).map_err(Failure::into_usage)?;
    } else {
        let is_terminal = io::stdout().is_terminal();
        // Asked without a terminal it would start tput.
        let size = is_terminal.then(terminal::size).and_then(Result::ok);
        let width = size.map_or(WIDTH, |(width, _)| usize::from(width));
        let is_coloured = is_terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        print_coloured(&table(&diagnosis, width, is_coloured)).map_err(Failure::into_usage)?;
    }
    let failed = diagnosis.findings.iter().filter(|finding| finding.state == State::Fail);
    match failed.map(|finding| finding.name).collect::<Vec<_>>().as_slice() {
        [] => Ok(()),
        names => Err(Failure::Failed(format!("in the way: {}", names.join(", ")))),
    }
}
