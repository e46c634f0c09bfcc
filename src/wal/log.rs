//! What a shard has to write, how far that has got, and which replies have to wait for it.

use super::{
    At, Lsn, Record,
    frame::{FRAME_HEADER_BYTES, FileId, FrameHeader, FrameKind, PAYLOAD_BYTES_MAX, frame_bytes},
    record::together_header,
};
use crate::slot::Slot;
use hashbrown::HashTable;
use std::collections::VecDeque;

/// Where a frame ends that is as full as it may be.
#[derive(Clone, Copy, Debug)]
struct Cut {
    at: Lsn,
    /// A record goes on behind it.
    is_inside: bool,
}

/// A value on its way to the disk, of which its entry will want to know where it is. With `--values disk` only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    /// The key's hash and slot, and what its entry says of the value until then.
    pub value: Value,
    /// The position of the value's first byte.
    at: Lsn,
    length: usize,
    /// Its command takes several frames.
    spans: bool,
}

/// A value of the store, as whoever writes or reads it needs to name it: what its entry says of it is said of no other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Value {
    /// The key's hash.
    pub hash: u64,
    /// The key's slot.
    pub slot: Slot,
    /// Where it is, or a promise of that.
    pub at: At,
}

/// A shard's changes on their way to the disk.
///
/// The store appends a record per effect; the shard marks where each command ends; the driver takes a frame at a time, and
/// says when it is on disk.
#[derive(Debug)]
pub struct Log {
    /// Records; those before `taken` have been handed over.
    pending: Vec<u8>,
    taken: usize,
    /// The end of what has been handed over.
    handed_over: Lsn,
    persisted: Lsn,
    /// The end of the last command of which all is on disk.
    persisted_whole: Lsn,
    /// Where the command that is being executed began, and how many records it has made.
    command_at: usize,
    command_records: usize,
    /// Commands end with [`end_together`](Self::end_together) alone.
    is_together: bool,
    /// The keys that it has changed, by their hash; or all of them.
    changed: Vec<u64>,
    clears: bool,
    /// Where full frames end, in order. What is behind the last is the last frame.
    cuts: VecDeque<Cut>,
    /// The next frame goes on with a record.
    is_inside: bool,
    /// Whether replies wait until what they tell is on disk.
    holds: bool,
    /// The keys of records that are not on disk, by their hash, with the last such record's end; two generations, since one
    /// write is in flight while the records of the next pile up.
    fresh: Keys,
    flying: Keys,
    /// When every key changed at once.
    cleared: Lsn,
    /// Values whose places are wanted, in order, and how many of them are the present command's.
    notes: VecDeque<Note>,
    command_notes: usize,
    /// The position and the kind of the frame that was taken last.
    frame: (Lsn, FrameKind),
    /// The file of the last frame that began with a record: that of a record that spans frames.
    began_in: u32,
    /// Bytes of records that are no effects: of values that were appended again, and of statements.
    moved_bytes: u64,
}

#[derive(Debug, Default)]
struct Keys {
    table: HashTable<(u64, Lsn)>,
    end: Lsn,
}

impl Keys {
    #[inline]
    fn insert(&mut self, hash: u64, end: Lsn) {
        self.end = end;
        let entry = self.table.entry(hash, |&(other, _)| other == hash, |&(hash, _)| hash);
        entry.and_modify(|found| found.1 = end).or_insert((hash, end));
    }

    #[inline]
    fn find(&self, hash: u64) -> Option<Lsn> {
        self.table.find(hash, |&(other, _)| other == hash).map(|&(_, end)| end)
    }

    fn clear(&mut self) {
        // A burst must not leave a table behind that takes long to clear each time.
        if KEYS_KEPT_MAX < self.table.capacity() && self.table.len() * 8 < self.table.capacity() {
            self.table = HashTable::new();
        } else {
            self.table.clear();
        }
    }
}

/// Room for so many keys is kept from write to write: 256 KiB.
const KEYS_KEPT_MAX: usize = 16_384;
/// Room for so many bytes of records is kept.
const PENDING_KEPT_MAX: usize = 4 * PAYLOAD_BYTES_MAX;

impl Log {
    /// A log that goes on at `end`, all of which is on disk. `holds`: replies wait until what they tell is on disk.
    pub fn new(end: Lsn, holds: bool) -> Self {
        Self {
            pending: Vec::new(),
            taken: 0,
            handed_over: end,
            persisted: end,
            persisted_whole: end,
            command_at: 0,
            command_records: 0,
            is_together: false,
            changed: Vec::new(),
            clears: false,
            cuts: VecDeque::new(),
            is_inside: false,
            holds,
            fresh: Keys::default(),
            flying: Keys::default(),
            cleared: Lsn(0),
            notes: VecDeque::new(),
            command_notes: 0,
            frame: (end, FrameKind::Records),
            began_in: 0,
            moved_bytes: 0,
        }
    }

    /// Appends an effect on a key, whose hash names it.
    #[inline]
    pub fn append(&mut self, hash: u64, record: Record<'_>) {
        record.encode(&mut self.pending);
        self.command_records += 1;
        if self.holds {
            self.changed.push(hash);
        }
    }

    /// Notes that the record which was appended last ends with this value, of this many bytes:
    /// [`next_placed`](Self::next_placed) says where it is once it is on disk.
    #[inline]
    pub fn note(&mut self, value: Value, length: usize) {
        let at = Lsn(self.end().0 - length as u64);
        self.notes.push_back(Note { value, at, length, spans: false });
        self.command_notes += 1;
    }

    /// Appends a value once more that is in the log already, as a command of its own; no reply waits for it.
    ///
    /// # Panics
    /// Inside a command.
    pub fn append_again(&mut self, value: Value, record: Record<'_>, length: usize) {
        assert!(self.command_records == 0, "what is moved is moved between commands");
        let before = self.pending.len();
        record.encode(&mut self.pending);
        self.moved_bytes += (self.pending.len() - before) as u64;
        self.command_records = 1;
        self.note(value, length);
        self.end_command();
    }

    /// Appends a statement that is no effect, such as the versions of slots, as a command of its own; no reply waits for it.
    ///
    /// # Panics
    /// Inside a command.
    pub fn append_statement(&mut self, record: Record<'_>) {
        assert!(self.command_records == 0, "a statement stands between commands");
        let before = self.pending.len();
        record.encode(&mut self.pending);
        self.moved_bytes += (self.pending.len() - before) as u64;
        self.command_records = 1;
        self.end_command();
    }

    /// Returns the bytes of records that were appended and are effects.
    pub fn changed_bytes(&self) -> u64 {
        self.end().0 - self.moved_bytes
    }

    /// Whether values are on their way whose places are wanted.
    pub fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    /// Where the next value of the frame that has just become durable is: call until there is none. `segment`, `offset`: the
    /// frame's own. A value whose command took several frames is only said to be in the segment where that began.
    pub fn next_placed(&mut self, segment: u32, offset: u64) -> Option<(Value, At)> {
        let (begin, kind) = self.frame;
        if kind == FrameKind::Records {
            self.began_in = segment;
        }
        let persisted = self.persisted;
        let note = self.notes.pop_front_if(|note| note.at.after(note.length) <= persisted)?;
        if note.spans {
            return Some((note.value, At::kept(self.began_in, note.at)));
        }
        assert!(begin <= note.at, "a command that fits into a frame is in one");
        let offset = offset + FRAME_HEADER_BYTES as u64 + (note.at.0 - begin.0);
        Some((note.value, At::stored(segment, u32::try_from(offset).expect("a segment is at most 4 GiB"))))
    }

    /// Appends the removal of all keys, or of those of some slots. Until it is on disk a reply about any key waits.
    pub fn append_clear(&mut self, record: Record<'_>) {
        record.encode(&mut self.pending);
        self.command_records += 1;
        self.clears = self.holds;
    }

    /// Ends a command: its records become one, and a frame may end here.
    #[inline]
    pub fn end_command(&mut self) {
        if self.command_records != 0 {
            self.end_changes();
        }
    }

    /// Has the records of all commands until [`end_together`](Self::end_together) become one, as if one command had made them.
    ///
    /// # Panics
    /// Inside a command.
    pub fn begin_together(&mut self) {
        assert!(self.command_records == 0 && !self.is_together, "a transaction begins between commands");
        self.is_together = true;
    }

    /// Ends what [`begin_together`](Self::begin_together) began.
    pub fn end_together(&mut self) {
        self.is_together = false;
        self.end_command();
    }

    fn end_changes(&mut self) {
        if self.is_together {
            return;
        }
        let mut shift = 0;
        if 1 < self.command_records {
            let header = together_header(self.pending.len() - self.command_at);
            self.pending.splice(self.command_at..self.command_at, header);
            shift = header.len();
        }
        if 0 < self.command_notes {
            let spans = PAYLOAD_BYTES_MAX < self.pending.len() - self.command_at;
            let first = self.notes.len() - self.command_notes;
            self.notes.range_mut(first..).for_each(|note| {
                note.at = note.at.after(shift);
                note.spans = spans;
            });
            self.command_notes = 0;
        }
        let end = self.end();
        self.changed.drain(..).for_each(|hash| self.fresh.insert(hash, end));
        if self.clears {
            self.clears = false;
            self.cleared = end;
        }
        self.command_records = 0;
        self.cut();
        self.command_at = self.pending.len();
    }

    /// Ends a frame before the last command where that did not fit into it, and within it where it is larger than a frame.
    fn cut(&mut self) {
        let position = |at: usize| Lsn(self.handed_over.0 + (at - self.taken) as u64);
        let (command, end) = (position(self.command_at), position(self.pending.len()));
        let begin = self.cuts.back().map_or(self.handed_over, |cut| cut.at);
        if end.0 - begin.0 <= PAYLOAD_BYTES_MAX as u64 {
            return;
        }
        if begin < command {
            self.cuts.push_back(Cut { at: command, is_inside: false });
        }
        let mut at = command.after(PAYLOAD_BYTES_MAX);
        if at < end {
            while at < end {
                self.cuts.push_back(Cut { at, is_inside: true });
                at = at.after(PAYLOAD_BYTES_MAX);
            }
            self.cuts.push_back(Cut { at: end, is_inside: false });
        }
    }

    /// The end of the stream: the position of the next record.
    #[inline]
    pub fn end(&self) -> Lsn {
        self.handed_over.after(self.pending.len() - self.taken)
    }

    /// How far the log is on disk, in whole commands: where it goes on should the process end now. A larger command than a
    /// frame holds is not there before its last frame is.
    #[inline]
    pub fn persisted_end(&self) -> Lsn {
        self.persisted_whole
    }

    /// How far replies may tell of it: on every disk that the configuration asks for. With one copy, that is this disk.
    #[inline]
    pub fn committed(&self) -> Lsn {
        self.persisted
    }

    /// Bytes of records that have not been handed over.
    #[inline]
    pub fn pending_bytes(&self) -> usize {
        self.pending.len() - self.taken
    }

    /// Whether a frame has been handed over that is not on disk.
    #[inline]
    pub fn is_in_flight(&self) -> bool {
        self.persisted < self.handed_over
    }

    /// Whether replies wait for the disk at all.
    #[inline]
    pub fn holds(&self) -> bool {
        self.holds
    }

    /// Whether any reply might have to wait: records are on their way, and replies wait for them.
    #[inline]
    pub fn has_uncommitted(&self) -> bool {
        self.holds && self.persisted < self.end()
    }

    /// What a reply that tells of this key has to wait for, if anything.
    #[inline]
    pub fn uncommitted(&self, hash: u64) -> Option<Lsn> {
        let found = self.fresh.find(hash).or_else(|| self.flying.find(hash));
        let lsn = found.unwrap_or_default().max(self.cleared);
        (self.persisted < lsn).then_some(lsn)
    }

    /// The bytes that the next frame will take in its file; `None` where there is nothing to write.
    pub fn next_frame_bytes(&self) -> Option<usize> {
        (0 < self.pending_bytes()).then(|| frame_bytes(self.next_length()))
    }

    fn next_length(&self) -> usize {
        self.cuts.front().map_or(self.pending_bytes(), |cut| (cut.at.0 - self.handed_over.0) as usize)
    }

    /// Takes the next frame, which begins at [`frame::FRAME_HEADER_BYTES`](super::frame::FRAME_HEADER_BYTES) less than its
    /// records in `buffer`. Returns its bytes, a whole number of blocks.
    ///
    /// Write them to `file`, have them synced, and call [`persisted`](Self::persisted).
    ///
    /// # Panics
    /// Where a frame is in flight, there is nothing to write, or the buffer is shorter than
    /// [`next_frame_bytes`](Self::next_frame_bytes).
    pub fn take(&mut self, file: FileId, buffer: &mut [u8]) -> usize {
        assert!(!self.is_in_flight(), "one write in flight: what arrives meanwhile is the next");
        let length = self.next_length();
        assert!(0 < length, "a frame has records");
        let records = &self.pending[self.taken..self.taken + length];
        buffer[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + length].copy_from_slice(records);
        let kind = if self.is_inside { FrameKind::Continued } else { FrameKind::Records };
        let header =
            FrameHeader { kind, file, lsn: self.handed_over, synced: self.persisted_whole, length: length as u32 };
        let total = header.seal(buffer);
        self.frame = (header.lsn, kind);
        self.is_inside = self.cuts.pop_front().is_some_and(|cut| cut.is_inside);
        self.taken += length;
        self.handed_over = self.handed_over.after(length);
        self.shift();
        // The older generation is empty where all of it is on disk.
        if self.flying.table.is_empty() {
            std::mem::swap(&mut self.fresh, &mut self.flying);
        }
        total
    }

    /// Gives back the room of what has been taken.
    fn shift(&mut self) {
        if self.taken == self.pending.len() {
            self.command_at = 0;
            self.taken = 0;
            self.pending.clear();
            if PENDING_KEPT_MAX < self.pending.capacity() {
                self.pending = Vec::new();
            }
        } else if self.pending.len() < self.taken * 2 {
            self.pending.drain(..self.taken);
            self.command_at -= self.taken;
            self.taken = 0;
        }
    }

    /// Makes a frame without records that says how far the log is on disk, so that from then on damage before it is told from
    /// a write that was cut off. Returns its bytes. `synced`: of a log, its own end; of a snapshot, that of the log that it
    /// was taken from.
    pub fn seal(&self, file: FileId, synced: Lsn, buffer: &mut [u8]) -> usize {
        assert!(!self.is_in_flight(), "a seal tells of what is on disk");
        let lsn = self.handed_over;
        FrameHeader { kind: FrameKind::Seal, file, lsn, synced, length: 0 }.seal(buffer)
    }

    /// The frame that was taken is on disk. Replies that wait for no more than [`committed`](Self::committed) may leave.
    ///
    /// # Panics
    /// Where none is in flight.
    pub fn persisted(&mut self) {
        assert!(self.is_in_flight(), "what is on disk was handed over");
        self.persisted = self.handed_over;
        if !self.is_inside {
            self.persisted_whole = self.persisted;
        }
        if self.flying.end <= self.persisted {
            self.flying.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::frame::FRAME_BYTES_MAX;

    const FILE: FileId = FileId(7);

    fn put(log: &mut Log, key: &[u8], length: usize) {
        log.append(hash(key), Record::Put { key, value: &vec![b'v'; length], expires_at: None });
    }

    fn hash(key: &[u8]) -> u64 {
        key.iter().fold(1, |hash, &byte| hash * 31 + u64::from(byte))
    }

    /// A reply to a write, and to a read of that write, waits until the log is on disk; replies about other keys don't.
    #[test]
    fn replies_wait_for_their_own_keys() {
        let mut log = Log::new(Lsn(100), true);
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        put(&mut log, b"a", 1);
        log.end_command();
        let first = log.end();
        assert_eq!((log.uncommitted(hash(b"a")), log.uncommitted(hash(b"b"))), (Some(first), None));
        assert_eq!(log.take(FILE, &mut buffer), 4096);
        put(&mut log, b"b", 1);
        log.end_command();
        let second = log.end();
        assert_eq!((log.uncommitted(hash(b"a")), log.uncommitted(hash(b"b"))), (Some(first), Some(second)));
        log.persisted();
        assert_eq!(log.committed(), first);
        assert_eq!((log.uncommitted(hash(b"a")), log.uncommitted(hash(b"b"))), (None, Some(second)));
        log.take(FILE, &mut buffer);
        log.persisted();
        assert!(!log.has_uncommitted() && log.uncommitted(hash(b"b")).is_none());
        log.append_clear(Record::Clear);
        log.end_command();
        assert_eq!(log.uncommitted(hash(b"c")), Some(log.end()));
    }

    /// The records of a command are one record: whoever reads the log finds all of them or none.
    #[test]
    fn a_commands_records_stay_together() {
        let mut log = Log::new(Lsn(0), true);
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        put(&mut log, b"before", 3);
        log.end_command();
        put(&mut log, b"a", 1);
        log.append(hash(b"b"), Record::Remove { key: b"b" });
        log.end_command();
        assert_eq!(log.uncommitted(hash(b"a")), Some(log.end()));
        assert!(log.uncommitted(hash(b"before")) < Some(log.end()));
        log.take(FILE, &mut buffer);
        let (_, records) = FrameHeader::decode(&buffer, FILE).unwrap();
        let (_, length) = Record::decode(records).unwrap().unwrap();
        let Some((Record::Together(together), _)) = Record::decode(&records[length..]).unwrap() else { panic!() };
        let each: Vec<_> = together.each().map(Result::unwrap).collect();
        assert_eq!(each, [Record::Put { key: b"a", value: b"v", expires_at: None }, Record::Remove { key: b"b" }]);
    }

    /// A command that takes several frames is on disk when the last of them is. What says how far the log was on disk may not
    /// claim the first of them: if the others never come, the log ends before it.
    #[test]
    fn a_command_is_on_disk_as_a_whole() {
        let mut log = Log::new(Lsn(0), true);
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        put(&mut log, b"small", 1);
        log.end_command();
        let whole = log.end();
        put(&mut log, b"large", 2 * FRAME_BYTES_MAX);
        log.end_command();
        let mut synced = Vec::new();
        while log.next_frame_bytes().is_some() {
            log.take(FILE, &mut buffer);
            synced.push(FrameHeader::decode(&buffer, FILE).unwrap().0.synced);
            log.persisted();
            assert_eq!(log.persisted_end(), if log.pending_bytes() == 0 { log.end() } else { whole });
        }
        assert_eq!(synced, [Lsn(0), whole, whole, whole]);
    }

    /// However large the commands are, frames are cut between them where they fit into one, and the stream is whole.
    #[test]
    fn frames_end_between_commands() {
        let mut log = Log::new(Lsn(0), true);
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        let lengths = [10, 600_000, 600_000, 5, 3_000_000, 7, 1_048_400, 900_000, 1];
        for (index, &length) in lengths.iter().enumerate() {
            put(&mut log, &[index as u8], length);
            log.end_command();
        }
        let (mut stream, mut kinds, mut boundaries) = (Vec::new(), Vec::new(), 0);
        while let Some(bytes) = log.next_frame_bytes() {
            assert_eq!(log.take(FILE, &mut buffer), bytes);
            let (header, records) = FrameHeader::decode(&buffer, FILE).unwrap();
            assert_eq!(header.lsn, Lsn(stream.len() as u64));
            if header.kind == FrameKind::Records {
                assert!(Record::decode(records).is_ok(), "a record begins here");
                boundaries += 1;
            }
            stream.extend_from_slice(records);
            kinds.push(header.kind);
            log.persisted();
        }
        let mut rest = &stream[..];
        for (index, &length) in lengths.iter().enumerate() {
            let Some((Record::Put { key, value, .. }, used)) = Record::decode(rest).unwrap() else { panic!() };
            assert_eq!((key, value.len()), (&[index as u8][..], length));
            rest = &rest[used..];
        }
        assert!(rest.is_empty());
        assert_eq!((boundaries, kinds.len()), (5, 7), "{kinds:?}");
    }
}
