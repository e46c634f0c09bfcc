//! The log of a shard: pending records, the progress of their writes, and which replies have to wait for them.

use super::{
    At, Lsn, Record,
    frame::{FRAME_HEADER_BYTES, FileId, FrameHeader, FrameKind, PAYLOAD_BYTES_MAX, frame_bytes},
    record::together_header,
};
use crate::slot::Slot;
use hashbrown::HashTable;
use std::collections::VecDeque;

/// The end of a frame that is as full as it may be.
#[derive(Clone, Copy, Debug)]
struct Cut {
    at: Lsn,
    /// True if a record continues behind it.
    is_inside: bool,
}

/// A value that is not on disk yet and whose place will be reported. Only with `--values disk`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    /// The key's hash and slot, and the provisional place that its entry has until then.
    pub value: Value,
    /// The position of the value's first byte.
    at: Lsn,
    length: usize,
    /// True if its command takes several frames.
    spans: bool,
}

/// The name of one value of the store, for its writers and readers. The place in its entry tells it from all other values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Value {
    /// The key's hash.
    pub hash: u64,
    /// The key's slot.
    pub slot: Slot,
    /// Its place, final or provisional.
    pub at: At,
}

/// The log of a shard's changes, with those that are not on disk yet.
///
/// The store appends a record per effect; the shard marks the end of each command; the driver takes one frame at a time, and
/// reports when it is on disk.
#[derive(Debug)]
pub struct Log {
    /// Bytes of records. Those before `taken` have been handed over to be written.
    pending: Vec<u8>,
    /// The number of bytes of `pending` that have been handed over.
    taken: usize,
    /// The end of the records that have been handed over.
    handed_over: Lsn,
    /// The end of the records that are on disk.
    persisted: Lsn,
    /// The end of the last command that is on disk as a whole.
    persisted_whole: Lsn,
    /// The offset in `pending` at which the current command begins.
    command_at: usize,
    /// The number of records of the current command.
    command_records: usize,
    /// True from [`begin_together`](Self::begin_together) to [`end_together`](Self::end_together): commands do not end one by
    /// one.
    is_together: bool,
    /// The keys that the current command has changed, by their hash.
    changed: Vec<u64>,
    /// True if the current command has removed all keys, or those of some slots, and replies wait for that.
    clears: bool,
    /// The ends of full frames, in order. The records behind the last of them are the last frame.
    cuts: VecDeque<Cut>,
    /// True if the next frame begins inside a record.
    is_inside: bool,
    /// True if replies wait until the records that they depend on are on disk.
    holds: bool,
    /// The keys of records that are not on disk, by their hash, with the last such record's end: the newer of two generations,
    /// since records of the next write arrive while one write is in flight.
    fresh: Keys,
    /// The older generation of these keys, which is cleared as a whole when all of it is on disk.
    flying: Keys,
    /// The end of the last command that changed all keys at once, or those of some slots.
    cleared: Lsn,
    /// Values whose places will be reported, in order.
    notes: VecDeque<Note>,
    /// The number of them that belong to the current command.
    command_notes: usize,
    /// The position and the kind of the frame that was taken last.
    frame: (Lsn, FrameKind),
    /// The segment of the last frame that began with a record. A record that spans frames began there.
    began_in: u32,
    /// Bytes of records that are not effects: of values that were appended again, and of statements.
    moved_bytes: u64,
}

/// Keys by their hash, each with the end of its last record.
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
        // A burst must not leave a large table behind, which would take long to clear each time.
        if KEYS_KEPT_MAX < self.table.capacity() && self.table.len() * 8 < self.table.capacity() {
            self.table = HashTable::new();
        } else {
            self.table.clear();
        }
    }
}

/// The capacity in keys that is kept from write to write: 256 KiB.
const KEYS_KEPT_MAX: usize = 16_384;
/// The capacity in bytes of records that is kept from write to write.
const PENDING_KEPT_MAX: usize = 4 * PAYLOAD_BYTES_MAX;

impl Log {
    /// Makes a log that continues at `end`; all before it is on disk. `holds`: replies wait until the records that they depend
    /// on are on disk.
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

    /// Appends an effect on the key with this hash.
    #[inline]
    pub fn append(&mut self, hash: u64, record: Record<'_>) {
        record.encode(&mut self.pending);
        self.command_records += 1;
        if self.holds {
            self.changed.push(hash);
        }
    }

    /// Notes that the record appended last ends with this value, of `length` bytes. [`next_placed`](Self::next_placed) returns
    /// its place once it is on disk.
    #[inline]
    pub fn note(&mut self, value: Value, length: usize) {
        let at = Lsn(self.end().0 - length as u64);
        self.notes.push_back(Note { value, at, length, spans: false });
        self.command_notes += 1;
    }

    /// Appends a value that is in the log already once more, as a command of its own. No reply waits for it.
    ///
    /// # Panics
    /// If the current command has records already.
    pub fn append_again(&mut self, value: Value, record: Record<'_>, length: usize) {
        assert!(self.command_records == 0, "what is moved is moved between commands");
        let before = self.pending.len();
        record.encode(&mut self.pending);
        self.moved_bytes += (self.pending.len() - before) as u64;
        self.command_records = 1;
        self.note(value, length);
        self.end_command();
    }

    /// Appends a record that is not an effect, such as the versions of slots, as a command of its own. No reply waits for it.
    ///
    /// # Panics
    /// If the current command has records already.
    pub fn append_statement(&mut self, record: Record<'_>) {
        assert!(self.command_records == 0, "a statement stands between commands");
        let before = self.pending.len();
        record.encode(&mut self.pending);
        self.moved_bytes += (self.pending.len() - before) as u64;
        self.command_records = 1;
        self.end_command();
    }

    /// Returns the end of the stream less the bytes of records appended to this log that are not effects. Its increase is the
    /// bytes of effects.
    pub fn changed_bytes(&self) -> u64 {
        self.end().0 - self.moved_bytes
    }

    /// Returns true if there are values whose places have not been reported yet.
    pub fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    /// Returns the next value that became durable with the last frame, and its place; call until there is none. `segment`,
    /// `offset`: those of the frame. Of a value whose command took several frames, the place is only the segment where that
    /// began.
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

    /// Appends the removal of all keys, or of those of some slots. Replies about any key wait until it is on disk.
    pub fn append_clear(&mut self, record: Record<'_>) {
        record.encode(&mut self.pending);
        self.command_records += 1;
        self.clears = self.holds;
    }

    /// Ends a command: its records are combined into one, and a frame may end here.
    #[inline]
    pub fn end_command(&mut self) {
        if self.command_records != 0 {
            self.end_changes();
        }
    }

    /// Begins a transaction: the records of all commands until [`end_together`](Self::end_together) are combined into one.
    ///
    /// # Panics
    /// If the current command has records already, or a transaction has begun.
    pub fn begin_together(&mut self) {
        assert!(self.command_records == 0 && !self.is_together, "a transaction begins between commands");
        self.is_together = true;
    }

    /// Ends the transaction that [`begin_together`](Self::begin_together) began.
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

    /// Ends a frame before the last command if that does not fit into it, and within the command if it is larger than a frame.
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

    /// Returns the end of the stream: the position of the next record.
    #[inline]
    pub fn end(&self) -> Lsn {
        self.handed_over.after(self.pending.len() - self.taken)
    }

    /// Returns the position up to which the log is on disk, in whole commands: recovery would continue there if the process
    /// ended now. A command larger than a frame counts only when its last frame is on disk.
    #[inline]
    pub fn persisted_end(&self) -> Lsn {
        self.persisted_whole
    }

    /// Returns the position up to which the log is committed: on every disk that the configuration asks for. With one copy,
    /// that is this disk.
    #[inline]
    pub fn committed(&self) -> Lsn {
        self.persisted
    }

    /// Returns the bytes of records that have not been handed over to be written.
    #[inline]
    pub fn pending_bytes(&self) -> usize {
        self.pending.len() - self.taken
    }

    /// Returns true if a frame has been handed over and is not on disk.
    #[inline]
    pub fn is_in_flight(&self) -> bool {
        self.persisted < self.handed_over
    }

    /// Returns true if replies wait for the disk at all.
    #[inline]
    pub fn holds(&self) -> bool {
        self.holds
    }

    /// Returns true if any reply might have to wait: records are not on disk, and replies wait for them.
    #[inline]
    pub fn has_uncommitted(&self) -> bool {
        self.holds && self.persisted < self.end()
    }

    /// Returns the LSN that must be committed before a reply about the key with this hash may be sent; `None`: send at once.
    #[inline]
    pub fn uncommitted(&self, hash: u64) -> Option<Lsn> {
        let found = self.fresh.find(hash).or_else(|| self.flying.find(hash));
        let lsn = found.unwrap_or_default().max(self.cleared);
        (self.persisted < lsn).then_some(lsn)
    }

    /// Returns the bytes that the next frame will take in its file; `None` if there is nothing to write.
    pub fn next_frame_bytes(&self) -> Option<usize> {
        (0 < self.pending_bytes()).then(|| frame_bytes(self.next_length()))
    }

    /// Returns the bytes of records in the next frame.
    fn next_length(&self) -> usize {
        self.cuts.front().map_or(self.pending_bytes(), |cut| (cut.at.0 - self.handed_over.0) as usize)
    }

    /// Takes the next frame, and puts it at the beginning of `buffer`. Returns its bytes, a whole number of blocks.
    ///
    /// Write them to `file`, have them synced, and call [`persisted`](Self::persisted).
    ///
    /// # Panics
    /// If a frame is in flight, there is nothing to write, or the buffer is shorter than
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
        // The older generation is empty if all of it is on disk.
        if self.flying.table.is_empty() {
            std::mem::swap(&mut self.fresh, &mut self.flying);
        }
        total
    }

    /// Discards the bytes of `pending` that have been taken.
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

    /// Makes a seal, a frame without records that says how far the log is on disk, so that recovery can tell damage before it
    /// from a write that was cut off. Returns its bytes. `synced`: of a log, its own end; of a snapshot, the end of the log
    /// that it was taken from.
    pub fn seal(&self, file: FileId, synced: Lsn, buffer: &mut [u8]) -> usize {
        assert!(!self.is_in_flight(), "a seal tells of what is on disk");
        let lsn = self.handed_over;
        FrameHeader { kind: FrameKind::Seal, file, lsn, synced, length: 0 }.seal(buffer)
    }

    /// Notes that the frame taken last is on disk. Replies that wait for no more than [`committed`](Self::committed) may be
    /// sent.
    ///
    /// # Panics
    /// If none is in flight.
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

    /// The records of a command are one record: a reader of the log finds all of them or none.
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

    /// A command that takes several frames is on disk when the last of them is. Until then no frame says that the first of them
    /// are on disk: if the others are never written, the log ends before the command.
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

    /// Frames end between commands if those fit into a frame, and the stream is whole, however large commands are.
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
