//! Recovery of a shard from its files: which to read, in which order, what to trust, and where the log ends.
//!
//! The newest snapshot is read, then the log from the position in the snapshot. A frame at the very end of the log that is not
//! whole was never acknowledged: it is cut off. A frame that is not whole, though others say that it was on disk, may have been
//! acknowledged: that is damage, and a shard does not start on it unless the operator accepts the loss.
//!
//! [`Recovery`] reads nothing itself: [`step`](Recovery::step) says what to read, [`give`](Recovery::give) takes it.

mod damage;
mod hints;
mod survey;

pub use self::damage::{Damage, Lost, Problem};
use super::{
    Lsn, Malformed, Placed, Record, SEGMENT_NUMBERS_END,
    frame::{
        BLOCK_BYTES, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FileId, FileKind, FrameHeader, FrameKind, Invalid,
        frame_bytes,
    },
};

/// One of a shard's files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileInfo {
    /// Its name, for messages.
    pub name: String,
    /// Its kind, from its name.
    pub kind: FileKind,
    /// The number of the segment, also of a hint's, or the snapshot's [`Lsn`]; from its name.
    pub number: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The next step of a recovery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Read up to `length` bytes of the file (a position in what [`Recovery::new`] was given) from `offset` on, fewer only at
    /// its end, and [`give`](Recovery::give) them.
    Read {
        /// The file's position.
        file: usize,
        /// The offset in bytes.
        offset: u64,
        /// The length in bytes.
        length: usize,
    },
    /// All has been read; [`Recovery::report`] says what was found.
    Done,
}

/// The place where a record was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spot {
    /// The segment's number: of a record in several pieces, that of the first. In a snapshot, 0.
    pub segment: u32,
    /// The offset in the segment of the record's value, if it has one in one piece.
    pub offset: Option<u32>,
}

/// An item that recovery has found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found<'a> {
    /// A record, and the place where it was read.
    Record(Record<'a>, Spot),
    /// A key of the segment with this number, whose value was not read.
    Placed(Placed<'a>, u32),
    /// A mark: the items that follow may be found again. Save the versions of slots.
    Mark,
    /// The items since the last [`Mark`](Self::Mark) are about to be found again, and count once. Restore the versions of
    /// slots.
    Rewind,
}

/// The result of a recovery.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// The position of the snapshot that was read.
    pub snapshot: Option<Lsn>,
    /// The end of the log, where it continues.
    pub end: Lsn,
    /// The segments, by number, in order, and the position of the first frame of each; `None` if it has no frame that counts.
    /// These positions never decrease.
    pub segments: Vec<(u64, Option<Lsn>)>,
    /// The number that the next segment takes.
    pub next_segment: u64,
    /// The numbers of the segments whose hints were read in their place.
    pub hinted: Vec<u64>,
    /// The number of records that were applied.
    pub records: u64,
    /// The file and the offset at which the log was cut: a frame was being written there when the server ended.
    pub cut: Option<(String, u64)>,
    /// The records that were lost, if loss is accepted.
    pub lost: Vec<Lost>,
}

/// A segment, as its first blocks describe it.
#[derive(Clone, Copy, Debug)]
struct Segment {
    file: usize,
    id: FileId,
    /// The end of the log when it was made ready.
    made_ready_at: Lsn,
    /// The position of its first frame, if that is whole.
    first: Option<Lsn>,
}

/// A file whose frames are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    Snapshot,
    /// A segment, by its position in [`Recovery::segments`].
    Segment(usize),
}

/// The phase of a recovery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Reading the beginning of the snapshot.
    SurveySnapshot,
    /// Reading the beginning of the segment at this position in [`Recovery::numbered`].
    SurveySegment(usize),
    /// Reading frames.
    Frames(Source),
    /// Reading a hint in place of the frames of the segment at this position in [`Recovery::segments`].
    Hint(usize),
    /// Searching for a whole frame behind an invalid one: the reason, and its offset.
    Search(Source, Invalid, u64),
    Done,
}

/// The state of a shard's recovery.
#[derive(Debug)]
pub struct Recovery {
    directory: u64,
    shard: u16,
    files: Vec<FileInfo>,
    accepts_loss: bool,
    believes_hints: bool,
    /// The position up to which the current hint has been read, in its own stream, and the number of its lines so far.
    hint: (Lsn, u64),
    /// The newest snapshot's position in `files`, and its id.
    snapshot: Option<(usize, FileId)>,
    /// The positions of the segments in `files`, in the order of their numbers.
    numbered: Vec<usize>,
    /// The segments with a valid header, in the order of their numbers.
    segments: Vec<Segment>,
    phase: Phase,
    /// The offset of the next read in the current file.
    offset: u64,
    /// The position of the next frame's records.
    expected: Lsn,
    /// The beginning of a record whose end has not been read. Its bytes come before `expected`.
    partial: Vec<u8>,
    /// The segment in which that record begins.
    partial_in: u32,
    /// The position up to which the snapshot has everything.
    start: Lsn,
    /// The position up to which the log was on disk, as the files themselves say.
    known_end: Lsn,
    /// True if records were lost, and the next frame may continue one whose beginning was among them.
    is_lost: bool,
    /// The bytes of all files to read.
    total_bytes: u64,
    /// The bytes of the files that have been read.
    passed_bytes: u64,
    report: Report,
}

/// The bytes that are read at once: several of the largest frames.
const READ_BYTES: usize = 4 * FRAME_BYTES_MAX;
/// The bytes of a segment's beginning: its header and its first frame.
const SURVEY_BYTES: usize = BLOCK_BYTES + FRAME_BYTES_MAX;

const MALFORMED: Problem = Problem::Changed(Invalid::Malformed);

impl Recovery {
    /// Begins the recovery of a shard from its files. `accepts_loss`: continue behind damage, and report what was lost.
    pub fn new(directory: u64, shard: u16, files: Vec<FileInfo>, accepts_loss: bool) -> Self {
        let of_kind = |kind| files.iter().enumerate().filter(move |(_, file)| file.kind == kind);
        let snapshot = of_kind(FileKind::Snapshot).max_by_key(|(_, file)| file.number);
        let snapshot = snapshot.map(|(position, _)| (position, FileId::default()));
        let mut numbered: Vec<_> = of_kind(FileKind::Segment).map(|(position, _)| position).collect();
        numbered.sort_unstable_by_key(|&position| files[position].number);
        // A foreign file must not use the numbers up.
        let numbers = numbered.iter().map(|&position| files[position].number);
        let next_segment = numbers.filter(|&number| number < SEGMENT_NUMBERS_END).max().map_or(1, |last| last + 1);
        Self {
            directory,
            shard,
            accepts_loss,
            believes_hints: false,
            hint: (Lsn(0), 0),
            phase: if snapshot.is_some() { Phase::SurveySnapshot } else { Phase::SurveySegment(0) },
            snapshot,
            numbered,
            files,
            segments: Vec::new(),
            offset: 0,
            expected: Lsn(0),
            partial: Vec::new(),
            partial_in: 0,
            start: Lsn(0),
            known_end: Lsn(0),
            is_lost: false,
            total_bytes: 0,
            passed_bytes: 0,
            report: Report { next_segment, ..Report::default() },
        }
    }

    /// Allows hints to be read in place of segments, for a shard whose values stay on disk. Not if loss is accepted, since all
    /// damage has to be found then.
    #[must_use]
    pub fn believing_hints(mut self) -> Self {
        self.believes_hints = !self.accepts_loss;
        self
    }

    /// Returns what to read next.
    ///
    /// # Errors
    /// [`Damage`]: the shard must not start on these files.
    pub fn step(&mut self) -> Result<Step, Damage> {
        if self.phase == Phase::SurveySegment(self.numbered.len()) {
            self.end_survey()?;
        }
        let (file, length) = match self.phase {
            Phase::SurveySnapshot => (self.snapshot_file().0, BLOCK_BYTES),
            Phase::SurveySegment(index) => (self.numbered[index], SURVEY_BYTES),
            Phase::Frames(source) | Phase::Search(source, ..) => (self.file_of(source).0, READ_BYTES),
            Phase::Hint(index) => (self.hint_of(index).expect("it is read because it is there"), READ_BYTES),
            Phase::Done => return Ok(Step::Done),
        };
        Ok(Step::Read { file, offset: self.offset, length })
    }

    /// Takes the bytes that [`step`](Self::step) asked for, and calls `apply` with their records, in order.
    ///
    /// # Errors
    /// [`Damage`]: the shard must not start on these files.
    pub fn give(&mut self, bytes: &[u8], apply: &mut impl FnMut(Record<'_>)) -> Result<(), Damage> {
        self.give_in_place(bytes, &mut |found| match found {
            Found::Record(record, _) => apply(record),
            Found::Placed(..) | Found::Mark | Found::Rewind => unreachable!("no hint is read"),
        })
    }

    /// Takes bytes like [`give`](Self::give), and calls `apply` with the place of each record, too; also with the lines of
    /// hints.
    ///
    /// If a hint turns out not to be whole, its first lines may have been applied already; its segment is then read from the
    /// beginning, to the same effect.
    ///
    /// # Errors
    /// [`Damage`]: the shard must not start on these files.
    pub fn give_in_place(&mut self, bytes: &[u8], apply: &mut impl FnMut(Found<'_>)) -> Result<(), Damage> {
        match self.phase {
            Phase::SurveySnapshot => self.survey_snapshot(bytes),
            Phase::SurveySegment(index) => self.survey_segment(index, bytes),
            Phase::Frames(source) => self.read(source, bytes, apply),
            Phase::Hint(index) => self.read_hint(index, bytes, apply),
            Phase::Search(source, why, since) => self.search(source, why, since, bytes),
            Phase::Done => unreachable!("nothing was asked for"),
        }
    }

    /// Returns the fraction of all bytes that has been read, from 0 to 1.
    pub fn progress(&self) -> f64 {
        match (self.phase, self.total_bytes) {
            (Phase::SurveySnapshot | Phase::SurveySegment(_), _) => 0.0,
            (Phase::Done, _) | (_, 0) => 1.0,
            (Phase::Hint(_), total) => self.passed_bytes as f64 / total as f64,
            (Phase::Frames(source) | Phase::Search(source, ..), total) => {
                let offset = self.offset.min(self.files[self.file_of(source).0].bytes);
                (self.passed_bytes + offset) as f64 / total as f64
            }
        }
    }

    /// Returns the result so far; it is complete once [`step`](Self::step) has returned [`Step::Done`].
    pub fn report(&self) -> &Report {
        &self.report
    }

    fn snapshot_file(&self) -> (usize, FileId) {
        self.snapshot.expect("there is a snapshot in this phase")
    }

    fn file_of(&self, source: Source) -> (usize, FileId) {
        match source {
            Source::Snapshot => self.snapshot_file(),
            Source::Segment(index) => (self.segments[index].file, self.segments[index].id),
        }
    }
}

/// The order of the files.
impl Recovery {
    /// Ends the survey: begins to read the snapshot, or the log if there is none.
    fn end_survey(&mut self) -> Result<(), Damage> {
        // Segments that have not been written to say up to where the log before them was on disk, which nothing else may say.
        // Earlier ones say nothing new, and what they say may have been cut off since.
        let unused = self.segments.iter().rev().take_while(|segment| segment.first.is_none());
        self.known_end = unused.map(|segment| segment.made_ready_at).fold(self.known_end, Lsn::max);
        self.offset = BLOCK_BYTES as u64;
        self.is_lost = false;
        match self.snapshot {
            Some((file, _)) => {
                let bytes = |file: usize| self.files[file].bytes;
                self.total_bytes = bytes(file) + self.segments.iter().map(|segment| bytes(segment.file)).sum::<u64>();
                self.phase = Phase::Frames(Source::Snapshot);
                Ok(())
            }
            None => self.begin_log(),
        }
    }

    /// Begins to read the log, after the snapshot if there is one: in the segment with the record where the snapshot was begun.
    fn begin_log(&mut self) -> Result<(), Damage> {
        self.start = self.report.snapshot.unwrap_or_default();
        // Segments before the last one that begins at or before that position are not needed.
        let begins_before = |segment: &Segment| segment.first.is_some_and(|first| first <= self.start);
        let index = self.segments.iter().rposition(begins_before);
        self.expected = index.and_then(|index| self.segments[index].first).unwrap_or(self.start);
        let index = index.unwrap_or(0);
        self.partial.clear();
        self.is_lost = false;
        let bytes = self.segments[index..].iter().map(|segment| self.files[segment.file].bytes);
        self.total_bytes = self.passed_bytes + bytes.sum::<u64>();
        self.begin_segment(index)
    }

    fn begin_segment(&mut self, index: usize) -> Result<(), Damage> {
        self.offset = BLOCK_BYTES as u64;
        self.phase = if index < self.segments.len() { Phase::Frames(Source::Segment(index)) } else { Phase::Done };
        if self.phase != Phase::Done && self.would_believe_hint(index) {
            self.begin_hint(index);
        }
        if self.phase == Phase::Done { self.end_log() } else { Ok(()) }
    }

    /// Returns the lowest position at which a later segment begins, if there is one: a later start has cut the log there, and
    /// records from there on are not read from this file.
    fn limit(&self, source: Source) -> Option<Lsn> {
        match source {
            Source::Snapshot => None,
            Source::Segment(index) => self.segments[index + 1..].iter().filter_map(|segment| segment.first).min(),
        }
    }

    /// Ends the log: checks that all of it was found that was on disk, and completes the report.
    fn end_log(&mut self) -> Result<(), Damage> {
        if self.expected < self.known_end {
            let (reached, known_end) = (self.expected, self.known_end);
            let from = self.record_at();
            let last = self.segments.last().map(|segment| segment.file).or(self.snapshot.map(|(file, _)| file));
            let file = last.expect("some file has said so");
            self.lose(file, self.files[file].bytes, Problem::Missing(reached, known_end), from, known_end)?;
            self.expected = known_end;
        }
        // A log that ends inside a record ends before it.
        self.report.end = self.record_at();
        let counts = |index: usize| {
            // The rest of a command that was cut off may fill whole segments, whose positions were used again since: none of
            // them counts.
            let end = self.report.end;
            let limit = self.limit(Source::Segment(index)).map_or(end, |limit| limit.min(end));
            (self.files[self.segments[index].file].number, self.segments[index].first.filter(|&first| first <= limit))
        };
        self.report.segments = (0..self.segments.len()).map(counts).collect();
        Ok(())
    }
}

/// The frames.
impl Recovery {
    /// Reads the frames at the beginning of `bytes`.
    fn read(&mut self, source: Source, bytes: &[u8], apply: &mut impl FnMut(Found<'_>)) -> Result<(), Damage> {
        let (file, id) = self.file_of(source);
        let limit = self.limit(source);
        let is_end = self.is_end(file, bytes);
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match FrameHeader::decode(rest, id) {
                Ok((header, _)) if limit.is_some_and(|limit| limit <= header.lsn) => return self.end_file(source),
                Ok((header, records)) => {
                    if let Source::Segment(index) = source {
                        // Behind damage, this may not be the first frame that was written.
                        self.segments[index].first.get_or_insert(header.lsn);
                    }
                    self.frame(file, header, records, self.offset + at as u64, apply)?;
                    at += frame_bytes(records.len());
                    if source == Source::Snapshot && header.kind == FrameKind::Seal {
                        // The log was on disk up to here before the snapshot counted.
                        self.known_end = self.known_end.max(header.synced);
                        let (bytes, made) = (self.files[file].bytes, self.offset + at as u64);
                        if bytes != made {
                            let (from, problem) = (self.record_at(), Problem::Resized { bytes, made });
                            self.lose(file, made, problem, from, self.expected)?;
                        }
                        return self.end_file(source);
                    }
                }
                Err(Invalid::Short(_)) if !is_end => {
                    assert!(0 < at || READ_BYTES <= bytes.len(), "a read holds a frame");
                    self.offset += at as u64;
                    return Ok(());
                }
                // The invalid frame was cut off, and the log continues in a later segment.
                Err(_) if limit.is_some_and(|limit| limit <= self.expected) => return self.end_file(source),
                Err(Invalid::Short(_)) if rest.is_empty() && source != Source::Snapshot => {
                    return self.end_file(source);
                }
                Err(invalid) => {
                    // Blocks that were never written are zeros or, in a segment, from an earlier use of the file: perhaps the
                    // middle of a frame. Only a block that begins like a frame of this use is a write that was cut off.
                    let is_blank = rest.iter().take(BLOCK_BYTES).all(|&byte| byte == 0);
                    let is_ours = FrameHeader::begins(rest, id) || source == Source::Snapshot;
                    let invalid = match invalid {
                        Invalid::Magic if !is_blank && is_ours => Invalid::Checksum,
                        _ if !is_ours => Invalid::Magic,
                        other => other,
                    };
                    self.offset += at as u64;
                    self.phase = Phase::Search(source, invalid, self.offset);
                    self.offset += BLOCK_BYTES as u64;
                    return Ok(());
                }
            }
        }
    }

    /// Returns the position of the next record that has not been applied.
    fn record_at(&self) -> Lsn {
        Lsn(self.expected.0 - self.partial.len() as u64)
    }

    /// Returns true if these bytes reach the end of the file.
    fn is_end(&self, file: usize, bytes: &[u8]) -> bool {
        self.files[file].bytes <= self.offset + bytes.len() as u64
    }

    /// Applies the records of a whole frame.
    fn frame(
        &mut self,
        file: usize,
        header: FrameHeader,
        records: &[u8],
        offset: u64,
        apply: &mut impl FnMut(Found<'_>),
    ) -> Result<(), Damage> {
        if header.lsn != self.expected {
            let problem = Problem::Missing(self.expected, header.lsn);
            self.lose(file, offset, problem, self.record_at(), header.lsn)?;
            self.expected = header.lsn;
        }
        let (begin, from) = (header.lsn, self.record_at());
        self.expected = begin.after(records.len());
        if self.expected <= self.start {
            // The snapshot has these records. Applying them again could do harm: it also has changes that were made without a
            // log.
            self.partial.clear();
            return Ok(());
        }
        match header.kind {
            // It continues a record that is not needed: the beginning is lost, in the snapshot, or in a segment that was
            // released.
            FrameKind::Continued if self.partial.is_empty() && (self.is_lost || begin <= self.start) => {
                self.is_lost = true;
                return Ok(());
            }
            FrameKind::Seal if self.partial.is_empty() => return Ok(()),
            FrameKind::Records if self.partial.is_empty() => {}
            FrameKind::Continued if !self.partial.is_empty() => {}
            _ => return self.lose(file, offset, MALFORMED, from, self.expected),
        }
        self.is_lost = false;
        let (mut count, start) = (0, self.start);
        let info = &self.files[file];
        let segment = if info.kind == FileKind::Segment { u32::try_from(info.number).unwrap_or(u32::MAX) } else { 0 };
        let read = if self.partial.is_empty() {
            self.partial_in = segment;
            let mut visit = |record: Record<'_>| {
                count += 1;
                let offset = offset_of(record, records, offset).filter(|_| segment != 0);
                apply(Found::Record(record, Spot { segment, offset }));
            };
            each_record(records, (begin, start), &mut visit)
                .inspect(|&used| self.partial.extend_from_slice(&records[used..]))
        } else {
            self.partial.extend_from_slice(records);
            let spot = Spot { segment: self.partial_in, offset: None };
            let mut visit = |record: Record<'_>| {
                count += 1;
                apply(Found::Record(record, spot));
            };
            each_record(&self.partial, (from, start), &mut visit).inspect(|&used| drop(self.partial.drain(..used)))
        };
        self.report.records += count;
        match read {
            Ok(_) => Ok(()),
            Err(Malformed) => self.lose(file, offset, MALFORMED, from, self.expected),
        }
    }

    /// Searches for a whole frame behind an invalid one. If there is one, the invalid one was on disk.
    fn search(&mut self, source: Source, why: Invalid, since: u64, bytes: &[u8]) -> Result<(), Damage> {
        let (file, id) = self.file_of(source);
        let is_end = self.is_end(file, bytes);
        let mut at = 0;
        while at < bytes.len() {
            match FrameHeader::decode(&bytes[at..], id) {
                Ok((header, _)) => {
                    // Writes are done one at a time: this one was begun when the one before it was on disk.
                    self.offset += at as u64;
                    self.phase = Phase::Frames(source);
                    let from = self.record_at();
                    self.expected = header.lsn;
                    return self.lose(file, since, Problem::Changed(why), from, header.lsn);
                }
                Err(Invalid::Short(_)) if !is_end && 0 < at => break,
                _ => at += BLOCK_BYTES,
            }
        }
        self.offset += at.min(bytes.len()) as u64;
        if !is_end || at < bytes.len() {
            return Ok(());
        }
        match source {
            Source::Snapshot => {
                // A snapshot ends with a seal, and this one has none.
                let is_short = matches!(why, Invalid::Magic | Invalid::Short(_));
                let problem = if is_short { Problem::Short } else { Problem::Changed(why) };
                self.lose(file, since, problem, self.record_at(), self.expected)?;
            }
            // Zeros, or frames of an earlier use of the file: the end of this one.
            Source::Segment(_) if matches!(why, Invalid::Magic | Invalid::File) => {}
            Source::Segment(_) => self.report.cut = Some((self.files[file].name.clone(), since)),
        }
        self.end_file(source)
    }

    /// Ends a file, which has been read as far as it counts: continues with the next one.
    fn end_file(&mut self, source: Source) -> Result<(), Damage> {
        self.passed_bytes += self.files[self.file_of(source).0].bytes;
        match source {
            Source::Snapshot => self.begin_log(),
            Source::Segment(index) => self.begin_segment(index + 1),
        }
    }

    /// Returns the damage as an error or, if loss is accepted, adds it to the report.
    fn lose(&mut self, file: usize, offset: u64, problem: Problem, from: Lsn, to: Lsn) -> Result<(), Damage> {
        let damage = Damage { file: self.files[file].name.clone(), offset, problem };
        if !self.accepts_loss || matches!(problem, Problem::Version(_)) {
            return Err(damage);
        }
        self.partial.clear();
        self.is_lost = true;
        self.report.lost.push(Lost { damage, from, to });
        Ok(())
    }
}

/// Returns the offset in its file of a record's value, of a frame at `offset` with these records.
fn offset_of(record: Record<'_>, records: &[u8], offset: u64) -> Option<u32> {
    let (Record::Put { value, .. } | Record::Again { value, .. }) = record else { return None };
    let within = value.as_ptr().addr() - records.as_ptr().addr();
    u32::try_from(offset + (FRAME_HEADER_BYTES + within) as u64).ok()
}

/// Calls `visit` with the whole records in `bytes`, which begin at position `begin`, except those that end at or before
/// `start`: the snapshot has them, and has counted them. Returns the bytes that the records take.
fn each_record(
    bytes: &[u8],
    (begin, start): (Lsn, Lsn),
    visit: &mut impl FnMut(Record<'_>),
) -> Result<usize, Malformed> {
    let mut used = 0;
    while used < bytes.len() {
        let Some((record, length)) = Record::decode(&bytes[used..])? else { break };
        match record {
            _ if begin.after(used + length) <= start => {}
            Record::Together(together) => {
                // Decoded before any of them is applied: all of them or none.
                together.each().try_for_each(|record| record.map(drop))?;
                together.each().flatten().for_each(&mut *visit);
            }
            record => visit(record),
        }
        used += length;
    }
    Ok(used)
}

#[cfg(test)]
mod tests;
