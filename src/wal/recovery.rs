//! What a shard may believe of its files when it starts: which to read, in which order, and where its log ends.
//!
//! The newest snapshot, then the log from where the snapshot says. A frame at the very end of the log that is not whole was
//! never acknowledged: it is cut off. A frame that is not whole with frames behind it was on disk once, and its records may
//! have been acknowledged: that is damage, and nobody starts on it unasked.
//!
//! [`Recovery`] reads nothing itself: [`step`](Recovery::step) says what to read, [`give`](Recovery::give) takes it.

use super::{
    Lsn, Malformed, Record,
    frame::{BLOCK_BYTES, FRAME_BYTES_MAX, FileHeader, FileId, FileKind, FrameHeader, FrameKind, Invalid},
};
use std::fmt;

/// One of a shard's files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileInfo {
    /// Its name, for messages.
    pub name: String,
    /// What its name says that it holds.
    pub kind: FileKind,
    /// A segment's number, or a snapshot's [`Lsn`]; from its name.
    pub number: u64,
    /// Its size.
    pub bytes: u64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Read up to `length` bytes of the file (a position in what [`Recovery::new`] was given) from `offset` on, fewer only at
    /// its end, and [`give`](Recovery::give) them.
    Read {
        /// The file's position.
        file: usize,
        /// In bytes.
        offset: u64,
        /// In bytes.
        length: usize,
    },
    /// All has been read; [`Recovery::report`] says what was found.
    Done,
}

/// Why a shard can't start on its files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Problem {
    /// Bytes that were on disk have changed: there are whole frames behind them.
    Changed(Invalid),
    /// A newer version wrote it: start that one.
    Version(u16),
    /// It belongs to another directory or shard.
    Foreign,
    /// Records between these positions are in no file.
    Missing(Lsn, Lsn),
    /// It ends too early.
    Short,
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} at offset {}: ", self.file, self.offset)?;
        match self.problem {
            Problem::Changed(Invalid::Malformed) => out.write_str("the checksum is right, but this is no record"),
            Problem::Changed(_) => out.write_str("bytes that were on disk have changed or are missing"),
            Problem::Version(version) => {
                write!(
                    out,
                    "written in format {version}; this version knows {}: start a newer one",
                    super::frame::VERSION
                )
            }
            Problem::Foreign => out.write_str("the file belongs to another directory or shard"),
            Problem::Missing(from, to) => write!(out, "records {} to {} are missing", from.0, to.0),
            Problem::Short => out.write_str("the file ends too early"),
        }
    }
}

impl std::error::Error for Damage {}

/// Records that could not be read, and that the operator has accepted to lose.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lost {
    /// Where.
    pub damage: Damage,
    /// The position of the first record that could not be read. In a snapshot, positions are the file's own.
    pub from: Lsn,
    /// The position of the first that could be again, or the end of what was read.
    pub to: Lsn,
}

/// What was found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// The position of the snapshot that was read.
    pub snapshot: Option<Lsn>,
    /// The end of the log: where it goes on.
    pub end: Lsn,
    /// The segments, by number, in order, and the position of the first frame of each; `None` where nothing was written to it.
    pub segments: Vec<(u64, Option<Lsn>)>,
    /// The number that the next segment takes.
    pub next_segment: u64,
    /// Records that were applied.
    pub records: u64,
    /// Where the log was cut: a frame that was being written when the server ended.
    pub cut: Option<(String, u64)>,
    /// What was lost, where that was accepted.
    pub lost: Vec<Lost>,
}

/// A segment, as its first two blocks tell.
#[derive(Clone, Copy, Debug)]
struct Segment {
    file: usize,
    id: FileId,
    /// The position of its first frame, which is not checked yet; `None` where there is none.
    first: Option<Lsn>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Looking at the beginning of the snapshot, or of this segment.
    SurveySnapshot,
    SurveySegment(usize),
    /// Reading frames.
    Snapshot,
    Segment(usize),
    /// Looking for a whole frame behind one that is not.
    Search(Option<usize>, Invalid, u64),
    Done,
}

/// Reads a shard's files, or rather says how.
#[derive(Debug)]
pub struct Recovery {
    directory: u64,
    shard: u16,
    files: Vec<FileInfo>,
    accepts_loss: bool,
    /// The newest snapshot's position in `files`, and the positions of the segments, in order.
    snapshot: Option<(usize, FileId)>,
    numbered: Vec<usize>,
    segments: Vec<Segment>,
    phase: Phase,
    /// Where to read on in the file at hand.
    offset: u64,
    /// The position of the next record.
    expected: Lsn,
    /// The beginning of a record whose end has not come.
    partial: Vec<u8>,
    /// How far the files themselves say that the log was on disk.
    known_end: Lsn,
    /// Records were lost or are not needed, and what comes next may begin inside another.
    is_lost: bool,
    read_bytes: u64,
    report: Report,
}

/// Bytes that are read at once: several frames of the largest kind.
const READ_BYTES: usize = 4 * FRAME_BYTES_MAX;

impl Recovery {
    /// Begins with a shard's files. `accepts_loss`: goes on behind damage, and reports what was lost.
    pub fn new(directory: u64, shard: u16, files: Vec<FileInfo>, accepts_loss: bool) -> Self {
        let of_kind = |kind| files.iter().enumerate().filter(move |(_, file)| file.kind == kind);
        let snapshot = of_kind(FileKind::Snapshot).max_by_key(|(_, file)| file.number);
        let snapshot = snapshot.map(|(position, _)| (position, FileId::default()));
        let mut numbered: Vec<_> = of_kind(FileKind::Segment).map(|(position, _)| position).collect();
        numbered.sort_unstable_by_key(|&position| files[position].number);
        let next_segment = numbered.last().map_or(1, |&position| files[position].number + 1);
        Self {
            directory,
            shard,
            accepts_loss,
            phase: if snapshot.is_some() { Phase::SurveySnapshot } else { Phase::SurveySegment(0) },
            snapshot,
            numbered,
            files,
            segments: Vec::new(),
            offset: 0,
            expected: Lsn(0),
            partial: Vec::new(),
            known_end: Lsn(0),
            is_lost: false,
            read_bytes: 0,
            report: Report { next_segment, ..Report::default() },
        }
    }

    /// Says what to read next.
    ///
    /// # Errors
    /// [`Damage`]: the shard must not start on these files.
    pub fn step(&mut self) -> Result<Step, Damage> {
        if let Phase::SurveySegment(index) = self.phase
            && index == self.numbered.len()
        {
            self.begin_reading()?;
        }
        let (file, length) = match self.phase {
            Phase::SurveySnapshot => (self.snapshot_file(), BLOCK_BYTES),
            Phase::SurveySegment(index) => (self.numbered[index], 2 * BLOCK_BYTES),
            Phase::Snapshot | Phase::Search(None, ..) => (self.snapshot_file(), READ_BYTES),
            Phase::Segment(index) | Phase::Search(Some(index), ..) => (self.segments[index].file, READ_BYTES),
            Phase::Done => return Ok(Step::Done),
        };
        Ok(Step::Read { file, offset: self.offset, length })
    }

    /// The part of all bytes that has been read, of 1.
    pub fn progress(&self) -> f64 {
        let total: u64 = self.files.iter().map(|file| file.bytes).sum();
        if total == 0 { 1.0 } else { (self.read_bytes as f64 / total as f64).min(1.0) }
    }

    /// What was found so far; all of it once [`step`](Self::step) has said so.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Takes what [`step`](Self::step) asked for; shows the records in it to `apply`, in order.
    ///
    /// # Errors
    /// [`Damage`]: the shard must not start on these files.
    pub fn give(&mut self, bytes: &[u8], apply: &mut impl FnMut(Record<'_>)) -> Result<(), Damage> {
        match self.phase {
            Phase::SurveySnapshot => self.survey_snapshot(bytes),
            Phase::SurveySegment(index) => self.survey_segment(index, bytes),
            Phase::Snapshot => self.read(None, bytes, apply),
            Phase::Segment(index) => self.read(Some(index), bytes, apply),
            Phase::Search(index, why, since) => self.search(index, why, since, bytes),
            Phase::Done => unreachable!("nothing was asked for"),
        }
    }

    fn snapshot_file(&self) -> usize {
        self.snapshot.expect("there is a snapshot in this phase").0
    }

    fn survey_snapshot(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        let file = self.snapshot_file();
        self.phase = Phase::SurveySegment(0);
        match self.header(file, bytes) {
            Ok(header) => {
                self.snapshot = Some((file, header.id));
                self.report.snapshot = Some(header.lsn);
                self.known_end = header.lsn;
                Ok(())
            }
            Err(problem) => {
                self.snapshot = None;
                self.lose(file, 0, problem, Lsn(0), Lsn(0))
            }
        }
    }

    fn survey_segment(&mut self, index: usize, bytes: &[u8]) -> Result<(), Damage> {
        let file = self.numbered[index];
        self.phase = Phase::SurveySegment(index + 1);
        match self.header(file, bytes) {
            Ok(header) => {
                let first = FrameHeader::claimed_lsn(bytes.get(BLOCK_BYTES..).unwrap_or_default(), header.id);
                self.known_end = self.known_end.max(header.lsn);
                self.segments.push(Segment { file, id: header.id, first });
                Ok(())
            }
            Err(problem) => self.lose(file, 0, problem, Lsn(0), Lsn(0)),
        }
    }

    /// Reads a file's header and checks that it is the file that its name says, of this shard.
    fn header(&self, file: usize, bytes: &[u8]) -> Result<FileHeader, Problem> {
        let info = &self.files[file];
        let header = FileHeader::decode(bytes).map_err(|invalid| match invalid {
            Invalid::Version(version) => Problem::Version(version),
            Invalid::Short(_) => Problem::Short,
            other => Problem::Changed(other),
        })?;
        let number = if header.kind == FileKind::Segment { header.number } else { header.lsn.0 };
        let is_ours = header.directory == self.directory && header.shard == self.shard;
        if !is_ours || header.kind != info.kind || number != info.number {
            return Err(Problem::Foreign);
        }
        Ok(header)
    }

    /// Knows all files: begins with the first that counts.
    fn begin_reading(&mut self) -> Result<(), Damage> {
        self.offset = BLOCK_BYTES as u64;
        if self.snapshot.is_some() {
            self.expected = Lsn(0);
            self.phase = Phase::Snapshot;
        } else {
            return self.begin_log(Lsn(0));
        }
        Ok(())
    }

    /// Has read the snapshot, or there is none: goes on with the segment that holds the record at `start`.
    fn begin_log(&mut self, start: Lsn) -> Result<(), Damage> {
        // Those before the last one that begins at or before it hold nothing that is needed.
        let first = self.segments.iter().rposition(|segment| segment.first.is_some_and(|first| first <= start));
        self.expected = start;
        // Records before the start are in the snapshot; applying them again changes nothing, since all behind them follow.
        if let Some(position) = first {
            self.expected = self.segments[position].first.unwrap_or(start);
            // A segment may begin inside a record. The snapshot has that whole, and the segment before may be gone.
            self.is_lost = self.expected < start;
        }
        self.begin_segment(first.unwrap_or(0))
    }

    fn begin_segment(&mut self, index: usize) -> Result<(), Damage> {
        self.offset = BLOCK_BYTES as u64;
        if index < self.segments.len() {
            self.phase = Phase::Segment(index);
            return Ok(());
        }
        self.phase = Phase::Done;
        let number = |segment: &Segment| (self.files[segment.file].number, segment.first);
        self.report.segments = self.segments.iter().map(number).collect();
        // A log that ends inside a record ends before it.
        let end = Lsn(self.expected.0 - self.partial.len() as u64);
        self.report.end = end.max(self.known_end);
        match self.files.len().checked_sub(1) {
            Some(last) if end < self.known_end => {
                let file = self.segments.last().map_or(last, |segment| segment.file);
                self.lose(file, self.files[file].bytes, Problem::Missing(end, self.known_end), end, self.known_end)
            }
            _ => Ok(()),
        }
    }

    /// Reads the frames at the beginning of `bytes`.
    fn read(&mut self, index: Option<usize>, bytes: &[u8], apply: &mut impl FnMut(Record<'_>)) -> Result<(), Damage> {
        let (file, id) = match index {
            Some(index) => (self.segments[index].file, self.segments[index].id),
            None => self.snapshot.expect("there is a snapshot in this phase"),
        };
        // A later start may have cut the log: what a later segment begins with is not taken from here.
        let limit = index.and_then(|index| self.segments[index + 1..].iter().find_map(|segment| segment.first));
        let is_end = self.files[file].bytes <= self.offset + bytes.len() as u64;
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match FrameHeader::decode(rest, id) {
                Ok((header, _)) if limit.is_some_and(|limit| limit <= header.lsn) => {
                    return self.end_segment(index.expect("limits are of segments"), None);
                }
                Ok((header, records)) => {
                    self.frame(file, header, records, at as u64, apply)?;
                    at += super::frame::frame_bytes(records.len());
                    if index.is_none() && header.kind == FrameKind::Seal {
                        self.read_bytes += at as u64;
                        return self.begin_log(self.report.snapshot.unwrap_or_default());
                    }
                }
                Err(Invalid::Short(_)) if !is_end => {
                    assert!(0 < at || READ_BYTES <= bytes.len(), "a read holds a frame");
                    self.advance(at);
                    return Ok(());
                }
                Err(Invalid::Short(_)) if rest.is_empty() && index.is_some() => {
                    self.advance(at);
                    return self.end_segment(index.expect("just looked at"), None);
                }
                Err(invalid) => {
                    // What was never written is zeros; what is neither zeros nor a frame has changed.
                    let is_blank = rest.iter().take(BLOCK_BYTES).all(|&byte| byte == 0);
                    let invalid = if invalid == Invalid::Magic && !is_blank { Invalid::Checksum } else { invalid };
                    self.advance(at);
                    self.phase = Phase::Search(index, invalid, self.offset);
                    self.offset += BLOCK_BYTES as u64;
                    return Ok(());
                }
            }
        }
    }

    fn advance(&mut self, bytes: usize) {
        self.offset += bytes as u64;
        self.read_bytes += bytes as u64;
    }

    /// Takes a whole frame.
    fn frame(
        &mut self,
        file: usize,
        header: FrameHeader,
        records: &[u8],
        at: u64,
        apply: &mut impl FnMut(Record<'_>),
    ) -> Result<(), Damage> {
        let offset = self.offset + at;
        if header.lsn != self.expected && header.lsn.after(self.partial.len()) == self.expected {
            // An earlier start has cut off a record whose end never came.
            self.partial.clear();
            self.expected = header.lsn;
        }
        if header.lsn != self.expected {
            let problem = Problem::Missing(self.expected, header.lsn);
            self.lose(file, offset, problem, self.expected, header.lsn)?;
        }
        self.expected = header.lsn.after(records.len());
        let continues = header.kind == FrameKind::Continued;
        if self.is_lost && continues {
            return Ok(());
        }
        if header.kind == FrameKind::Seal {
            self.known_end = self.known_end.max(header.synced);
            return if self.partial.is_empty() { Ok(()) } else { Err(self.damage(file, offset, MALFORMED)) };
        }
        if continues == self.partial.is_empty() {
            return Err(self.damage(file, offset, MALFORMED));
        }
        self.is_lost = false;
        let mut whole = std::mem::take(&mut self.partial);
        let mut count = 0;
        let mut visit = |record: Record<'_>| {
            count += 1;
            apply(record);
        };
        let used = if whole.is_empty() {
            each_record(records, &mut visit).inspect(|&used| whole.extend_from_slice(&records[used..]))
        } else {
            whole.extend_from_slice(records);
            each_record(&whole, &mut visit).inspect(|&used| drop(whole.drain(..used)))
        };
        self.partial = whole;
        self.report.records += count;
        used.map(drop).map_err(|problem| self.damage(file, offset, problem))
    }

    /// Has read a segment to its end, or to where `cut` says that it was cut off.
    fn end_segment(&mut self, index: usize, cut: Option<u64>) -> Result<(), Damage> {
        if let Some(offset) = cut {
            self.report.cut = Some((self.files[self.segments[index].file].name.clone(), offset));
        }
        self.begin_segment(index + 1)
    }

    /// Looks for a whole frame behind one that is not: it tells whether that one was on disk.
    fn search(&mut self, index: Option<usize>, why: Invalid, since: u64, bytes: &[u8]) -> Result<(), Damage> {
        let (file, id) = match index {
            Some(index) => (self.segments[index].file, self.segments[index].id),
            None => self.snapshot.expect("there is a snapshot in this phase"),
        };
        let is_end = self.files[file].bytes <= self.offset + bytes.len() as u64;
        let mut at = 0;
        while at < bytes.len() {
            match FrameHeader::decode(&bytes[at..], id) {
                Ok((header, _)) => {
                    self.offset += at as u64;
                    self.lose(file, since, Problem::Changed(why), self.expected, header.lsn)?;
                    self.expected = header.lsn;
                    self.phase = index.map_or(Phase::Snapshot, Phase::Segment);
                    return Ok(());
                }
                Err(Invalid::Short(_)) if !is_end && 0 < at => break,
                _ => at += BLOCK_BYTES,
            }
        }
        self.offset += at.min(bytes.len()) as u64;
        self.read_bytes += at.min(bytes.len()) as u64;
        if !is_end || at < bytes.len() {
            return Ok(());
        }
        let Some(index) = index else {
            // A snapshot has an end, and this one has not been reached.
            self.lose(
                file,
                since,
                if why == Invalid::Magic { Problem::Short } else { Problem::Changed(why) },
                self.expected,
                self.expected,
            )?;
            return self.begin_log(self.report.snapshot.unwrap_or_default());
        };
        // Nothing behind it. Where zeros begin is simply the end.
        self.end_segment(index, (why != Invalid::Magic && why != Invalid::File).then_some(since))
    }

    fn damage(&self, file: usize, offset: u64, problem: Problem) -> Damage {
        Damage { file: self.files[file].name.clone(), offset, problem }
    }

    /// Refuses, or notes what is lost.
    fn lose(&mut self, file: usize, offset: u64, problem: Problem, from: Lsn, to: Lsn) -> Result<(), Damage> {
        let damage = self.damage(file, offset, problem);
        if !self.accepts_loss || matches!(problem, Problem::Version(_)) {
            return Err(damage);
        }
        self.partial.clear();
        self.is_lost = true;
        self.report.lost.push(Lost { damage, from, to });
        Ok(())
    }
}

const MALFORMED: Problem = Problem::Changed(Invalid::Malformed);

/// Shows the whole records in `bytes`; returns how many bytes they take.
fn each_record(bytes: &[u8], visit: &mut impl FnMut(Record<'_>)) -> Result<usize, Problem> {
    let mut used = 0;
    while used < bytes.len() {
        let Some((record, length)) = Record::decode(&bytes[used..]).map_err(|Malformed| MALFORMED)? else { break };
        match record {
            Record::Together(together) => {
                // Looked at before any is applied: all of them or none.
                together.each().try_for_each(|record| record.map(drop)).map_err(|Malformed| MALFORMED)?;
                together.each().flatten().for_each(&mut *visit);
            }
            record => visit(record),
        }
        used += length;
    }
    Ok(used)
}
