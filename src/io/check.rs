//! `trine check`: verifies a data directory, and changes nothing.

use std::{
    io::{self, ErrorKind, IsTerminal as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Arg, ArgMatches, Command, value_parser};

use super::{
    cli::{Failure, print_result},
    clock,
    directory::{Directory, ShardFiles},
    frames::{Frames, Part},
    hints::hint_of,
    recover::{Recover, RecoverError},
};
use crate::{
    store::{Cursor, Policy, Store, UnixMillis},
    wal::{FileInfo, Left, Lsn, Report, frame::FileKind},
};

/// The time between two updates of the progress.
const SHOW_EVERY: Duration = Duration::from_millis(100);

/// Returns the command line of `trine check`.
pub(super) fn command() -> Command {
    let directory = Arg::new("directory").value_name("DIR").required(true).value_parser(value_parser!(PathBuf));
    Command::new("check")
        .about("Verify a data directory")
        .long_about(
            "Verify a data directory: whose it is, and every file of every shard. Each shard's keys are put together as a \
             start would do it, one shard after the other, so that it takes as much memory as the largest. Nothing is \
             changed. Stop the server first, or check a copy: a server that runs changes files while they \
             are read, so that nothing is read of a directory that one has open.",
        )
        .arg(directory.help("The directory that trine serve was given with --dir"))
        .after_help(
            "Examples:\n  \
             trine check /var/lib/trine\n  \
             trine check backup && trine serve --dir backup\n\n\
             Exit status: 0 all is whole, 1 something is damaged, 2 something can't be read, or the verdict can't be printed, 3 a \
             server has the directory open. A write that was cut off when a server ended is no damage.",
        )
}

/// Checks the directory that the command line names.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let path: &PathBuf = matches.get_one("directory").expect("clap insists on it");
    let directory = Directory::look(path).map_err(Failure::Usage)?;
    not_in_use(&directory)?;
    let (id, server) = (directory.id(), directory.server());
    let shards = if directory.shards() == 1 { "1 shard".into() } else { format!("{} shards", directory.shards()) };
    let mut said = print_result(&format!("directory {id:016x} of server {server}, {shards}\n"));
    let mut damaged = 0;
    for shard in 0..directory.shards() {
        let verdict = Check::new(directory.shard(shard)).run()?;
        if verdict.is_damaged {
            // A server may have started meanwhile.
            not_in_use(&directory)?;
        }
        damaged += usize::from(verdict.is_damaged);
        said = said.and(print_result(&format!("shard {shard}: {}\n", verdict.text)));
    }
    match damaged {
        // That the verdict could not be printed is no damage.
        0 => said.map_err(Failure::into_usage),
        _ => Err(Failure::Failed(format!("{}: {damaged} of {shards} damaged", path.display()))),
    }
}

fn not_in_use(directory: &Directory) -> Result<(), Failure> {
    let refuse = |holder: String| {
        let path = directory.path().display();
        Failure::InUse(format!("{path}: a server is running on it ({holder}): stop it first, or check a copy"))
    };
    directory.used_by().map_or(Ok(()), |holder| Err(refuse(holder)))
}

/// The verdict on a shard.
struct Verdict {
    text: String,
    is_damaged: bool,
}

/// One shard's files being read.
struct Check {
    files: ShardFiles,
    store: Store,
    now: UnixMillis,
    shown: Option<Instant>,
}

impl Check {
    fn new(files: ShardFiles) -> Self {
        let now = UnixMillis(clock::now().unix_us / 1000);
        Self { files, store: Store::new(0, Policy::default()), now, shown: None }
    }

    fn run(mut self) -> Result<Verdict, Failure> {
        let verdict = self.recover();
        self.hide();
        verdict
    }

    fn recover(&mut self) -> Result<Verdict, Failure> {
        // Accepted only so that all damage is found, not the first alone.
        let mut recover = Recover::new(self.files.clone(), true).map_err(|error| unreadable(&error))?;
        loop {
            let (store, now) = (&mut self.store, self.now);
            if !recover.step(&mut |record| store.apply(record, now)).map_err(|error| unreadable(&error))? {
                break;
            }
            self.show(recover.progress());
        }
        self.store.end_loading();
        let report = recover.report();
        let mut damaged: Vec<_> = report.lost.iter().map(|lost| lost.damage.to_string()).collect();
        for file in superseded(recover.files(), report) {
            if let Some(offset) = self.first_damage(file)? {
                let name = &file.name;
                damaged.push(format!(
                    "{name} at offset {offset}: changed, but a newer snapshot counts: no start needs it"
                ));
            }
        }
        for hint in recover.files().iter().filter(|file| file.kind == FileKind::Hint) {
            if self.has_changed(hint, report)? {
                let name = &hint.name;
                damaged.push(format!(
                    "{name}: changed, or of another segment: a start does not believe it, and takes longer"
                ));
            }
        }
        if damaged.is_empty() {
            return Ok(Verdict { text: self.in_words(recover.files(), report), is_damaged: false });
        }
        Ok(Verdict { text: format!("DAMAGED\n  {}", damaged.join("\n  ")), is_damaged: true })
    }

    /// Returns true if a hint differs from the one that its segment gives.
    fn has_changed(&self, hint: &FileInfo, report: &Report) -> Result<bool, Failure> {
        let position = report.segments.iter().position(|(number, _)| *number == hint.number);
        let Some(position) = position else { return Ok(false) };
        let (first, next) = (report.segments[position].1, &report.segments[position + 1..]);
        let Some((first, end)) = first.zip(next.iter().find_map(|(_, first)| *first)) else { return Ok(false) };
        let left = Left { number: hint.number, first, end };
        let path = self.files.path_of(hint.kind, hint.number);
        let failed = |error: io::Error| unreadable(&RecoverError::Io(path.clone(), error));
        match hint_of(&self.files, left).map_err(failed)? {
            Ok(bytes) => Ok(std::fs::read(&path).map_err(failed)? != bytes),
            // The segment's own damage was told already.
            Err(_) => Ok(false),
        }
    }

    /// Returns the first damage in a file that no start reads.
    fn first_damage(&mut self, file: &FileInfo) -> Result<Option<u64>, Failure> {
        let path = self.files.path_of(file.kind, file.number);
        let failed = |error: io::Error| unreadable(&RecoverError::Io(path.clone(), error));
        let (mut frames, header) = Frames::open(&path).map_err(failed)?;
        if header.is_err() {
            return Ok(Some(0));
        }
        while let Some(part) = frames.next().map_err(failed)? {
            match part {
                Part::Gap(gap) if gap.describe().1 => return Ok(Some(gap.from)),
                Part::Gap(_) | Part::Frame(..) => {}
            }
        }
        Ok(None)
    }

    fn in_words(&self, files: &[FileInfo], report: &Report) -> String {
        let mut keys = 0;
        let end = self.store.scan(Cursor::START, usize::MAX, self.now, |_| keys += 1);
        assert_eq!(end, Cursor::START, "nothing stops the scan");
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let snapshot = match report.snapshot {
            Some(Lsn(lsn)) => format!("snapshot at {lsn}, "),
            None => String::new(),
        };
        let from = report.snapshot.unwrap_or_default().0;
        let (to, records) = (report.end.0, report.records);
        let segments = match report.segments.len() {
            1 => "1 segment".into(),
            segments => format!("{segments} segments"),
        };
        let expired = match self.store.len() - keys {
            0 => String::new(),
            expired => format!(" and {expired} expired"),
        };
        let cut = match &report.cut {
            Some((file, offset)) => {
                format!("; cut at offset {offset} of {file}, in a write that looks cut off: then nobody was told of it")
            }
            None => String::new(),
        };
        format!(
            "whole, {snapshot}log from {from} to {to}, {segments}, {records} records, {keys} keys{expired}, \
             {bytes} bytes{cut}"
        )
    }

    /// Shows on a terminal how far it has got.
    fn show(&mut self, progress: f64) {
        if self.shown.is_none_or(|shown| SHOW_EVERY <= shown.elapsed()) && io::stderr().is_terminal() {
            self.shown = Some(Instant::now());
            eprint!("\rshard {}: {:3.0} %", self.files.shard(), progress * 100.0);
        }
    }

    fn hide(&self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

/// The files that a start does not read beyond their beginnings: a newer snapshot counts.
fn superseded<'a>(files: &'a [FileInfo], report: &'a Report) -> impl Iterator<Item = &'a FileInfo> {
    let start = report.snapshot.unwrap_or_default();
    let needed = report.segments.iter().rposition(|&(_, first)| first.is_some_and(|first| first <= start)).unwrap_or(0);
    let first_needed = report.segments.get(needed).map_or(0, |&(number, _)| number);
    files.iter().filter(move |file| match file.kind {
        FileKind::Segment => file.number < first_needed,
        FileKind::Snapshot => file.number < start.0,
        FileKind::Hint => false,
    })
}

fn unreadable(error: &RecoverError) -> Failure {
    let is_gone = matches!(error, RecoverError::Io(_, error) if error.kind() == ErrorKind::NotFound);
    let hint = if is_gone { "; is a server at work there?" } else { "" };
    Failure::Usage(format!("{error}{hint}"))
}

#[cfg(test)]
mod tests;
