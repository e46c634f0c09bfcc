//! What a shard may believe of its files when it starts: which to read, in which order, and where its log ends.
//!
//! The newest snapshot, then the log from where the snapshot says. A frame at the very end of the log that is not whole was
//! never acknowledged: it is cut off. A frame that is not whole though others say that it was on disk may have been
//! acknowledged: that is damage, and nobody starts on it unasked.
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
    /// What its name says that it holds.
    pub kind: FileKind,
    /// A segment's number, also of a hint's, or a snapshot's [`Lsn`]; from its name.
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

/// Where a record was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spot {
    /// The segment's number: of a record in several pieces, that of the first. In a snapshot, 0.
    pub segment: u32,
    /// Of a value in one piece, its offset in the segment.
    pub offset: Option<u32>,
}

/// What is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found<'a> {
    /// A record, and where.
    Record(Record<'a>, Spot),
    /// A key of the segment with this number, whose value was not read.
    Placed(Placed<'a>, u32),
    /// What follows may have to be counted again.
    Mark,
    /// What has been shown since the last [`Mark`](Self::Mark) is shown again: it counts once.
    Rewind,
}

/// What was found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// The position of the snapshot that was read.
    pub snapshot: Option<Lsn>,
    /// The end of the log: where it goes on.
    pub end: Lsn,
    /// The segments, by number, in order, and the position of the first frame of each; `None` where nothing was written to it
    /// that counts. These positions never go back.
    pub segments: Vec<(u64, Option<Lsn>)>,
    /// The number that the next segment takes.
    pub next_segment: u64,
    /// The numbers of the segments that were not read, since a hint was.
    pub hinted: Vec<u64>,
    /// Records that were applied.
    pub records: u64,
    /// Where the log was cut: a frame that was being written when the server ended.
    pub cut: Option<(String, u64)>,
    /// What was lost, where that was accepted.
    pub lost: Vec<Lost>,
}

/// A segment, as its beginning tells.
#[derive(Clone, Copy, Debug)]
struct Segment {
    file: usize,
    id: FileId,
    /// The end of the log when it was made ready.
    made_ready_at: Lsn,
    /// The position of its first frame, where that is whole.
    first: Option<Lsn>,
}

/// A file whose frames are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    Snapshot,
    /// Of the log, by its position in [`Recovery::segments`].
    Segment(usize),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Looking at the beginning of the snapshot, or of the segment at this position in [`Recovery::numbered`].
    SurveySnapshot,
    SurveySegment(usize),
    /// Reading frames.
    Frames(Source),
    /// Reading a hint in place of the frames of the segment at this position in [`Recovery::segments`].
    Hint(usize),
    /// Looking for a whole frame behind one that is not, for this reason, at this offset.
    Search(Source, Invalid, u64),
    Done,
}

/// Reads a shard's files, or rather says how.
#[derive(Debug)]
pub struct Recovery {
    directory: u64,
    shard: u16,
    files: Vec<FileInfo>,
    accepts_loss: bool,
    believes_hints: bool,
    /// How far the hint at hand has been read, in its own positions, and how many of its lines were shown.
    hint: (Lsn, u64),
    /// The newest snapshot's position in `files`, and the positions of the segments, in order.
    snapshot: Option<(usize, FileId)>,
    numbered: Vec<usize>,
    segments: Vec<Segment>,
    phase: Phase,
    /// Where to read on in the file at hand.
    offset: u64,
    /// The position of the next record.
    expected: Lsn,
    /// The beginning of a record whose end has not come. Its bytes come before `expected`.
    partial: Vec<u8>,
    /// The segment where that begins.
    partial_in: u32,
    /// The snapshot holds all that comes before.
    start: Lsn,
    /// How far the files themselves say that the log was on disk.
    known_end: Lsn,
    /// Records were lost, and what comes next may go on with one whose beginning was among them.
    is_lost: bool,
    /// Bytes to read in all, and of files that have been.
    total_bytes: u64,
    passed_bytes: u64,
    report: Report,
}

/// Bytes that are read at once: several frames of the largest kind.
const READ_BYTES: usize = 4 * FRAME_BYTES_MAX;
/// Bytes of a segment's beginning: its header and its first frame.
const SURVEY_BYTES: usize = BLOCK_BYTES + FRAME_BYTES_MAX;

const MALFORMED: Problem = Problem::Changed(Invalid::Malformed);

impl Recovery {
    /// Begins with a shard's files. `accepts_loss`: goes on behind damage, and reports what was lost.
    pub fn new(directory: u64, shard: u16, files: Vec<FileInfo>, accepts_loss: bool) -> Self {
        let of_kind = |kind| files.iter().enumerate().filter(move |(_, file)| file.kind == kind);
        let snapshot = of_kind(FileKind::Snapshot).max_by_key(|(_, file)| file.number);
        let snapshot = snapshot.map(|(position, _)| (position, FileId::default()));
        let mut numbered: Vec<_> = of_kind(FileKind::Segment).map(|(position, _)| position).collect();
        numbered.sort_unstable_by_key(|&position| files[position].number);
        // A name that is none of ours must not use the numbers up.
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

    /// Reads hints in place of segments where it can: for a shard whose values stay where they are. Not where loss is accepted,
    /// since then all that is damaged is to be found.
    #[must_use]
    pub fn believing_hints(mut self) -> Self {
        self.believes_hints = !self.accepts_loss;
        self
    }

    /// Says what to read next.
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

    /// Takes what [`step`](Self::step) asked for; shows the records in it to `apply`, in order.
    ///
    /// # Errors
    /// [`Damage`]: the shard must not start on these files.
    pub fn give(&mut self, bytes: &[u8], apply: &mut impl FnMut(Record<'_>)) -> Result<(), Damage> {
        self.give_in_place(bytes, &mut |found| match found {
            Found::Record(record, _) => apply(record),
            Found::Placed(..) | Found::Mark | Found::Rewind => unreachable!("no hint is read"),
        })
    }

    /// As [`give`](Self::give), and says where each record is.
    ///
    /// A hint that turns out not to be whole may have shown the beginning of its segment; the segment is then read from its
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

    /// The part of all bytes that has been read, of 1.
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

    /// What was found so far; all of it once [`step`](Self::step) has said so.
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
    /// Knows all files: begins with the first that counts.
    fn end_survey(&mut self) -> Result<(), Damage> {
        // Segments that have not been written to say where the log before them was on disk, which nothing else may say. Those
        // before the last that was say nothing new, and what they say may have been cut off since.
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

    /// Has read the snapshot, or there is none: goes on with the segment that holds the record where the snapshot was begun.
    fn begin_log(&mut self) -> Result<(), Damage> {
        self.start = self.report.snapshot.unwrap_or_default();
        // Those before the last one that begins at or before it hold nothing that is needed.
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

    /// Where a later start has cut the log: what a later segment begins with, or what comes behind, is not taken from before.
    fn limit(&self, source: Source) -> Option<Lsn> {
        match source {
            Source::Snapshot => None,
            Source::Segment(index) => self.segments[index + 1..].iter().filter_map(|segment| segment.first).min(),
        }
    }

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
            // What was cut off may fill whole segments, whose positions were given out again since: nothing of them counts.
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
                        // Behind damage, it may not be the first that was written.
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
                // What is not whole here has been cut off, and the log has gone on elsewhere.
                Err(_) if limit.is_some_and(|limit| limit <= self.expected) => return self.end_file(source),
                Err(Invalid::Short(_)) if rest.is_empty() && source != Source::Snapshot => {
                    return self.end_file(source);
                }
                Err(invalid) => {
                    // What was never written is zeros, or in a segment what an earlier use of the file has left: the middle of
                    // a frame, perhaps. Only what begins as a frame of this use is a write that was cut off.
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

    /// The position of the next record that has not been shown.
    fn record_at(&self) -> Lsn {
        Lsn(self.expected.0 - self.partial.len() as u64)
    }

    fn is_end(&self, file: usize, bytes: &[u8]) -> bool {
        self.files[file].bytes <= self.offset + bytes.len() as u64
    }

    /// Takes a whole frame.
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
            // The snapshot has it. Applying it again could even do harm: what changed while there was no log is in there alone.
            self.partial.clear();
            return Ok(());
        }
        match header.kind {
            // It goes on with a record that nobody needs: it is lost, or in the snapshot, or in a segment that was given up.
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

    /// Looks for a whole frame behind one that is not: it tells that that one was on disk.
    fn search(&mut self, source: Source, why: Invalid, since: u64, bytes: &[u8]) -> Result<(), Damage> {
        let (file, id) = self.file_of(source);
        let is_end = self.is_end(file, bytes);
        let mut at = 0;
        while at < bytes.len() {
            match FrameHeader::decode(&bytes[at..], id) {
                Ok((header, _)) => {
                    // One write at a time: it was not begun before the one in front of it was on disk.
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
                // A snapshot has an end, and this one has not been reached.
                let is_short = matches!(why, Invalid::Magic | Invalid::Short(_));
                let problem = if is_short { Problem::Short } else { Problem::Changed(why) };
                self.lose(file, since, problem, self.record_at(), self.expected)?;
            }
            // Where zeros begin, or an earlier use of the file, is simply the end.
            Source::Segment(_) if matches!(why, Invalid::Magic | Invalid::File) => {}
            Source::Segment(_) => self.report.cut = Some((self.files[file].name.clone(), since)),
        }
        self.end_file(source)
    }

    /// Has read a file as far as it counts.
    fn end_file(&mut self, source: Source) -> Result<(), Damage> {
        self.passed_bytes += self.files[self.file_of(source).0].bytes;
        match source {
            Source::Snapshot => self.begin_log(),
            Source::Segment(index) => self.begin_segment(index + 1),
        }
    }

    /// Refuses, or notes what is lost.
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

/// Where in its file a record's value is, of a frame at `offset` with these records.
fn offset_of(record: Record<'_>, records: &[u8], offset: u64) -> Option<u32> {
    let (Record::Put { value, .. } | Record::Again { value, .. }) = record else { return None };
    let within = value.as_ptr().addr() - records.as_ptr().addr();
    u32::try_from(offset + (FRAME_HEADER_BYTES + within) as u64).ok()
}

/// Shows the whole records in `bytes`, which begin at `begin`, but for those that end before `start`: the snapshot has them, and
/// has counted them. Returns how many bytes they take.
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
                // Looked at before any is applied: all of them or none.
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
