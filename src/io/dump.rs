//! `trine dump`: prints a segment or a snapshot in words.

use std::{
    io::{self, BufWriter, StdoutLock, Write},
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::{
    cli::Failure,
    frames::{Frames, Part},
    output,
};
use crate::{
    time::UnixMillis,
    wal::{
        Line, Lsn, Malformed, Placed, Record, Versions, each_line,
        frame::{FileHeader, FileKind, FrameHeader, FrameKind, Invalid, VERSION, frame_bytes},
    },
};

/// Returns the command line of `trine dump`.
pub(super) fn command() -> Command {
    Command::new("dump")
        .about("Print a segment of the log, a hint, or a snapshot, in words")
        .long_about(
            "Print a segment of the log, the hint of one, or a snapshot, in words: its header, each frame with its offset, and each record. \
             A damaged file is read as far as that can be done. Nothing is changed.",
        )
        .arg(Arg::new("file").value_name("FILE").required(true).value_parser(value_parser!(PathBuf)).help("The file"))
        .arg(Arg::new("frames").long("frames").action(ArgAction::SetTrue).help("Print no records"))
        .arg(
            Arg::new("width")
                .long("width")
                .value_name("CHARACTERS")
                .default_value("60")
                .value_parser(value_parser!(usize))
                .help("Cut keys and values that are longer"),
        )
        .after_help(
            "Examples:\n  \
             trine dump data/shard-0/log-0000000000000001\n  \
             trine dump --frames data/shard-0/snapshot-00000000000a3f00\n  \
             trine dump --width 1000 data/shard-0/log-0000000000000001 | grep user:17\n\n\
             Exit status: 0 the file is whole, 1 it is damaged, 2 it can't be read, or what is in it can't be printed. A write that was cut off when a server \
             ended is no damage.",
        )
}

/// Prints the file that the command line names.
pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let path: &PathBuf = matches.get_one("file").expect("clap insists on it");
    let width = if matches.get_flag("frames") { None } else { matches.get_one("width").copied() };
    let unreadable = |error: io::Error| Failure::Usage(format!("{}: {error}", path.display()));
    let (frames, header) = Frames::open(path).map_err(unreadable)?;
    if let Err(Invalid::Version(version)) = header {
        let problem = format!("written in format {version}; this version knows {VERSION}: use a newer one");
        return Err(Failure::Usage(format!("{}: {problem}", path.display())));
    }
    if header.is_err() && !frames.have_identity() {
        return Err(Failure::Usage(format!("{} is no segment and no snapshot of Trine", path.display())));
    }
    let output = Output { stdout: io::stdout().lock(), has_failed: false };
    let mut dump = Dump::new(BufWriter::new(output), width);
    let outcome = dump.header(path, header).and_then(|()| dump.frames(frames)).and_then(|()| dump.out.flush());
    let has_failed = dump.out.get_ref().has_failed;
    match output::unless_gone(outcome) {
        // Whoever reads has seen enough; what was damaged until then still counts.
        Ok(_) => {}
        Err(error) if has_failed => return Err(Failure::Usage(format!("standard output: {error}"))),
        Err(error) => return Err(unreadable(error)),
    }
    match dump.damaged {
        0 => Ok(()),
        1 => Err(Failure::Failed(format!("{} is damaged in one place, marked DAMAGED above", path.display()))),
        places => {
            Err(Failure::Failed(format!("{} is damaged in {places} places, marked DAMAGED above", path.display())))
        }
    }
}

/// Returns the text of a file, and the number of damaged places in it.
#[cfg(test)]
pub(super) fn to_text(path: &Path, width: Option<usize>) -> io::Result<(String, usize)> {
    let (frames, header) = Frames::open(path)?;
    let mut dump = Dump::new(Vec::new(), width);
    dump.header(path, header)?;
    dump.frames(frames)?;
    Ok((String::from_utf8(dump.out).expect("words are UTF-8"), dump.damaged))
}

/// Standard output, which may fail otherwise than the file does.
struct Output {
    stdout: StdoutLock<'static>,
    has_failed: bool,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stdout.write(bytes).inspect_err(|_| self.has_failed = true)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush().inspect_err(|_| self.has_failed = true)
    }
}

/// Prints one file.
struct Dump<W> {
    out: W,
    /// The width that keys and values are cut to; `None`: no records at all.
    width: Option<usize>,
    kind: FileKind,
    /// The size that the file was made with; 0 where it does not say.
    made: u64,
    /// The position of the next record, once one was seen.
    expected: Option<Lsn>,
    /// The beginning of a record that the next frame goes on with.
    partial: Vec<u8>,
    is_sealed: bool,
    /// The number of places that are damaged.
    damaged: usize,
}

impl<W: Write> Dump<W> {
    fn new(out: W, width: Option<usize>) -> Self {
        let kind = FileKind::Segment;
        Self { out, width, kind, made: 0, expected: None, partial: Vec::new(), is_sealed: false, damaged: 0 }
    }

    fn header(&mut self, path: &Path, header: Result<FileHeader, Invalid>) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match header {
            Ok(FileHeader { version, kind, shard, directory, id, number, lsn, bytes }) => {
                self.kind = kind;
                self.made = bytes;
                let what = match kind {
                    FileKind::Segment => format!("segment {number}, made ready when the log ended at {}", lsn.0),
                    FileKind::Hint => format!("hint of segment {number}, whose records begin at {}", lsn.0),
                    FileKind::Snapshot => format!("snapshot; with the log from {} on it is everything", lsn.0),
                };
                let (directory, id) = (format!("{directory:016x}"), format!("{:016x}", id.0));
                writeln!(self.out, "{name}: {what}; format {version}, shard {shard}, directory {directory}, use {id}")
            }
            Err(invalid) => {
                writeln!(self.out, "{name}: read by what its first frame says, since there is no header")?;
                let is_gone = invalid == Invalid::Magic;
                let problem = if is_gone { "no header begins here" } else { "the header's checksum is wrong" };
                self.damaged_at(0, problem)
            }
        }
    }

    fn frames(&mut self, mut frames: Frames) -> io::Result<()> {
        while let Some(part) = frames.next()? {
            match part {
                Part::Frame(offset, header, records) => self.frame(offset, header, records)?,
                Part::Gap(gap) => {
                    let (what, is_damaged) = gap.describe();
                    self.damaged += usize::from(is_damaged);
                    writeln!(self.out, "{:>12}  {what} ({} bytes)", gap.from, gap.to - gap.from)?;
                    self.partial.clear();
                    if is_damaged {
                        self.expected = None;
                    }
                }
            }
        }
        if self.made != 0 && self.made != frames.bytes() {
            let (bytes, made) = (frames.bytes(), self.made);
            self.damaged_at(bytes.min(made), &format!("the file has {bytes} bytes, and was made with {made}"))?;
        }
        if self.kind != FileKind::Segment && !self.is_sealed {
            self.damaged += 1;
            let what = if self.kind == FileKind::Hint { "hint" } else { "snapshot" };
            writeln!(self.out, "DAMAGED: a {what} ends with a seal, and this one does not")?;
        }
        if !self.partial.is_empty() && self.width.is_some() {
            writeln!(self.out, "{:>14}… goes on in the next segment, or was cut off", "")?;
        }
        Ok(())
    }

    fn damaged_at(&mut self, offset: u64, problem: &str) -> io::Result<()> {
        self.damaged += 1;
        writeln!(self.out, "{offset:>12}  DAMAGED: {problem}")
    }

    fn frame(&mut self, offset: u64, header: FrameHeader, records: &[u8]) -> io::Result<()> {
        if let Some(expected) = self.expected.filter(|&expected| expected != header.lsn) {
            self.damaged_at(offset, &format!("records {} to {} are missing", expected.0, header.lsn.0))?;
            self.partial.clear();
        }
        let end = header.lsn.after(records.len());
        self.expected = Some(end);
        let kind = match header.kind {
            FrameKind::Records => "records  ",
            FrameKind::Continued => "continued",
            FrameKind::Seal => "seal     ",
        };
        let (begin, end, synced) = (header.lsn.0, end.0, header.synced.0);
        let (length, padded) = (records.len(), frame_bytes(records.len()));
        writeln!(
            self.out,
            "{offset:>12}  {kind}  lsn {begin} to {end}, {length} bytes in {padded}, synced {synced}, checksum right"
        )?;
        self.is_sealed = header.kind == FrameKind::Seal;
        let Some(width) = self.width else { return Ok(()) };
        if self.kind == FileKind::Hint {
            return self.lines(offset, records, width);
        }
        if header.kind == FrameKind::Continued && self.partial.is_empty() {
            return writeln!(self.out, "{:>14}… of a record that began before", "");
        }
        self.partial.extend_from_slice(records);
        match print_records(&mut self.out, &self.partial, width)? {
            Ok(used) => drop(self.partial.drain(..used)),
            Err(Malformed) => {
                self.partial.clear();
                self.damaged_at(offset, "the checksum is right, but this is no record")?;
            }
        }
        Ok(())
    }
}

impl<W: Write> Dump<W> {
    fn lines(&mut self, offset: u64, lines: &[u8], width: usize) -> io::Result<()> {
        let mut written = Ok(());
        let all = each_line(lines, |line| {
            if written.is_ok() {
                written = writeln!(self.out, "{:>14}{}", "", line_in_words(line, width));
            }
        });
        written?;
        all.or_else(|Malformed| self.damaged_at(offset, "the checksum is right, but this is no line of a hint"))
    }
}

fn line_in_words(line: Line<'_>, width: usize) -> String {
    match line {
        Line::Record(record) => in_words(record, width),
        Line::Placed(Placed { key, length, offset, checksum, expires_at, value, is_again }) => {
            let value = value.map(|value| format!(" = {}", cut(value, width))).unwrap_or_default();
            let (verb, until) = (if is_again { "put again" } else { "put" }, until(expires_at));
            format!("{verb} {}{value}, {length} bytes at {offset}, checksum {checksum:08x}{until}", cut(key, width))
        }
    }
}

/// Prints the whole records at the beginning of `bytes`; returns how many bytes they take.
fn print_records(out: &mut impl Write, bytes: &[u8], width: usize) -> io::Result<Result<usize, Malformed>> {
    let mut used = 0;
    loop {
        match Record::decode(&bytes[used..]) {
            Ok(None) => return Ok(Ok(used)),
            Err(malformed) => return Ok(Err(malformed)),
            Ok(Some((Record::Together(together), length))) => {
                writeln!(out, "{:>14}together:", "")?;
                for record in together.each() {
                    match record {
                        Ok(record) => writeln!(out, "{:>16}{}", "", in_words(record, width))?,
                        Err(malformed) => return Ok(Err(malformed)),
                    }
                }
                used += length;
            }
            Ok(Some((record, length))) => {
                writeln!(out, "{:>14}{}", "", in_words(record, width))?;
                used += length;
            }
        }
    }
}

fn in_words(record: Record<'_>, width: usize) -> String {
    let cut = |bytes| cut(bytes, width);
    match record {
        Record::Put { key, value, expires_at } | Record::Again { key, value, expires_at } => {
            let verb = if matches!(record, Record::Put { .. }) { "put" } else { "put again" };
            format!("{verb} {} = {}{}", cut(key), cut(value), until(expires_at))
        }
        Record::Expire { key, expires_at: Some(at) } => format!("expire {} at {}", cut(key), time(at)),
        Record::Expire { key, expires_at: None } => format!("persist {}", cut(key)),
        Record::Remove { key } => format!("remove {}", cut(key)),
        Record::Clear => "clear".into(),
        Record::ClearSlots(slots) => format!("clear {} slots", slots.each().count()),
        Record::Versions(versions) => versions_in_words(versions),
        Record::Together(_) => unreachable!("it is printed record by record"),
    }
}

/// The first of the versions, and how many there are.
fn versions_in_words(versions: Versions<'_>) -> String {
    let Some((slot, version)) = versions.each().next() else { return "versions of no slot".into() };
    let (slot, others) = (slot.number(), versions.each().count() - 1);
    let version = if version.is_known() {
        format!("({}, {})", version.epoch, version.effects)
    } else {
        format!("unknown, {}", version.effects)
    };
    let others = if others == 0 { String::new() } else { format!(", and of {others} slots behind it in this epoch") };
    format!("version of slot {slot} is {version}{others}")
}

fn until(expires_at: Option<UnixMillis>) -> String {
    expires_at.map(|at| format!(" until {}", time(at))).unwrap_or_default()
}

/// Bytes as text in quotes, with escapes; what is longer than `width` is cut, and its length told.
fn cut(bytes: &[u8], width: usize) -> String {
    match bytes.get(..width) {
        Some(shown) if width < bytes.len() => format!("\"{}…\" ({} bytes)", shown.escape_ascii(), bytes.len()),
        _ => format!("\"{}\"", bytes.escape_ascii()),
    }
}

/// A time as people and `PEXPIRETIME` write it.
fn time(at: UnixMillis) -> String {
    let (days, millis) = (at.0 / 86_400_000, at.0 % 86_400_000);
    // Years that begin in March, in eras of 400 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (year + era * 400 + u64::from(10 <= month), if month < 10 { month + 3 } else { month - 9 });
    let (hours, minutes, seconds) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60);
    format!("{} ({year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02} UTC)", at.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (millis, text) in [
            (0, "0 (1970-01-01 00:00:00 UTC)"),
            (951_782_399_999, "951782399999 (2000-02-28 23:59:59 UTC)"),
            (951_782_400_000, "951782400000 (2000-02-29 00:00:00 UTC)"),
            (1_700_000_000_000, "1700000000000 (2023-11-14 22:13:20 UTC)"),
            (4_107_542_400_000, "4107542400000 (2100-03-01 00:00:00 UTC)"),
        ] {
            assert_eq!(time(UnixMillis(millis)), text);
        }
        // Whatever a client asked for.
        time(UnixMillis(u64::MAX));
    }

    #[test]
    fn bytes_are_shown_as_text_and_cut() {
        assert_eq!(cut(b"a\0\"\n", 60), r#""a\x00\"\n""#);
        assert_eq!(cut(b"abcdef", 6), "\"abcdef\"");
        assert_eq!(cut(b"abcdef", 5), "\"abcde…\" (6 bytes)");
    }
}
