//! `trine completions` and `trine man`: what a shell and `man` want to know of the command line.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use super::cli::{self, Failure, print_result};
use crate::manual::{self, Page};

/// Returns the command line of `trine completions`.
pub(super) fn completions_command() -> Command {
    let shell = Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell));
    Command::new("completions")
        .about("Print a script that completes trine's command line in a shell")
        .arg(shell.help("The shell"))
        .after_help(
            "Examples:\n  \
             source <(trine completions bash)             for this shell only\n  \
             trine completions bash > /etc/bash_completion.d/trine\n  \
             trine completions zsh > \"${fpath[1]}/_trine\"\n  \
             trine completions fish > ~/.config/fish/completions/trine.fish",
        )
}

/// Returns the command line of `trine man`.
pub(super) fn man_command() -> Command {
    Command::new("man")
        .about("Print a page of the manual, or write all of them as files")
        .arg(
            Arg::new("page")
                .value_name("SUBCOMMAND")
                .conflicts_with("out")
                .help("The page of this subcommand; without it, that of trine itself"),
        )
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Write every page into this folder, as trine.1, trine-serve.1, and so on"),
        )
        .after_help(
            "Examples:\n  \
             trine man serve | man -l -                   read one\n  \
             trine man --out /usr/local/share/man/man1    install all, for man trine-serve",
        )
}

/// Prints the script for a shell.
pub(super) fn run_completions(matches: &ArgMatches) -> Result<(), Failure> {
    let shell = *matches.get_one::<Shell>("shell").expect("clap insists on it");
    let script = manual::completions(cli::command(), shell);
    print_result(&String::from_utf8_lossy(&script))
}

/// Prints a page, or writes all.
pub(super) fn run_man(matches: &ArgMatches) -> Result<(), Failure> {
    let pages = manual::pages(cli::command());
    if let Some(folder) = matches.get_one::<PathBuf>("out") {
        let written = write(&pages, folder);
        let written = written.map_err(|error| Failure::Failed(format!("--out {}: {error}", folder.display())))?;
        return print_result(&format!("{}\n", written.join("\n")));
    }
    let asked = matches.get_one::<String>("page");
    let name = asked.map_or("trine".to_owned(), |page| format!("trine-{page}"));
    let Some(page) = pages.iter().find(|page| page.name == name) else {
        let known: Vec<_> = pages.iter().filter_map(|page| page.name.strip_prefix("trine-")).collect();
        return Err(Failure::Usage(format!("no page {name}; there are those of {}", known.join(", "))));
    };
    print_result(&page.text)
}

/// Writes pages as files into a folder, which is made where it is missing, and returns their names.
///
/// # Errors
/// What the system says.
pub fn write(pages: &[Page], folder: &Path) -> io::Result<Vec<String>> {
    fs::create_dir_all(folder)?;
    let file = |page: &Page| {
        let name = format!("{}.1", page.name);
        fs::write(folder.join(&name), &page.text).map(|()| name)
    };
    pages.iter().map(file).collect()
}
