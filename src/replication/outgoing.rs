//! The primary's side of a link: the stream of items to one other core, what is kept of it, and what has been acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    data::Data,
    items::{Item, Items, Part},
    lease::Lease,
    message::{Comparison, Message, Peer},
    slots::{SlotSet, single, slots},
    version::Version,
};
use crate::{
    slot::{SLOT_COUNT, Slot},
    topology::document::{CoreId, Incarnation, SlotRange},
    wal::Lsn,
};

/// The bytes of items in a frame, from which on no more are added: large enough that headers cost nothing, small enough that
/// heartbeats are not stuck behind it.
const FRAME_BYTES: usize = 256 << 10;

/// The keys of a slot that are repaired at once, about: the copy remembers each of them.
pub(super) const PART_KEYS: u64 = 1 << 16;

/// The bytes of repairs that are under way on a link before the next step is taken: effects queue behind them.
const REPAIR_BYTES: usize = 1 << 20;

/// The bytes of items that are kept on a link before its slots execute nothing more. A copy that does not answer for longer is
/// taken out of sync.
pub const BACKLOG_BYTES: usize = 16 << 20;

/// The connection of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Connection {
    Down,
    /// Hello has been sent.
    Greeting,
    Up,
}

/// The state of a slot on a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cover {
    /// It is not streamed.
    No,
    /// The copy has been asked to compare.
    Asked,
    /// The copy has the same version: it counts once the item at this position is acknowledged.
    Equal,
    /// It is to be repaired.
    Differs,
    /// It has been repaired up to here, once that is acknowledged.
    Repaired(u64),
    /// It has everything that is acknowledged.
    Based,
}

/// An item that has not been acknowledged.
#[derive(Debug)]
struct Kept {
    slot: Option<Slot>,
    /// The position of the item that covered the slot then.
    cover: u64,
    length: usize,
    continues: bool,
}

/// A repair that is under way.
#[derive(Debug)]
struct Walk {
    slot: Slot,
    part: Part,
    cursor: u64,
}

/// A link to a core that has copies of this core's slots. Outlives its connections.
#[derive(Debug)]
pub struct Outgoing {
    to: CoreId,
    /// The life of the peer's data that the stream goes to, once it has introduced itself.
    incarnation: Option<Incarnation>,
    pub(super) connection: Connection,
    stream: u64,
    /// The position of the next item to be made.
    next: u64,
    /// The position of the next item to be sent over this connection.
    unsent: u64,
    /// The items that are not acknowledged, oldest first, and their bytes.
    kept: VecDeque<Kept>,
    bytes: VecDeque<u8>,
    unsent_bytes: usize,
    /// The effects that are not acknowledged: position, and the end of its record in this core's log.
    marks: VecDeque<(u64, Lsn)>,
    covers: Box<[(Cover, u64)]>,
    /// The slots that are streamed.
    covered: SlotSet,
    /// The slots that have everything once a position is acknowledged.
    bases: BTreeMap<u64, Vec<SlotRange>>,
    /// True if the peer has refused slots that this core believes it to have.
    pub(super) was_refused: bool,
    /// Slots to be repaired: those first that writes wait for.
    to_repair: BTreeSet<(bool, Slot)>,
    walk: Option<Walk>,
    pub(super) lease: Lease,
    /// The newest document that the peer is known to know.
    pub(super) told: u64,
    pub(super) heartbeat_us: u64,
    /// The time at which the peer was last heard of, or connected to.
    pub(super) heard_us: u64,
    /// The time at which to connect again.
    pub(super) retry_us: u64,
    /// The time since which the oldest effect that is not acknowledged is the oldest.
    pub(super) waiting_since_us: u64,
}

impl Outgoing {
    /// Returns a link that was never connected. `stream`: drawn at random.
    pub(super) fn new(to: &CoreId, stream: u64) -> Self {
        Self {
            to: to.clone(),
            incarnation: None,
            connection: Connection::Down,
            stream,
            next: 1,
            unsent: 1,
            kept: VecDeque::new(),
            bytes: VecDeque::new(),
            unsent_bytes: 0,
            marks: VecDeque::new(),
            covers: vec![(Cover::No, 0); usize::from(SLOT_COUNT)].into(),
            covered: SlotSet::default(),
            bases: BTreeMap::new(),
            was_refused: false,
            to_repair: BTreeSet::new(),
            walk: None,
            lease: Lease::default(),
            told: 0,
            heartbeat_us: 0,
            heard_us: 0,
            retry_us: 0,
            waiting_since_us: 0,
        }
    }

    /// Returns the core at the other end.
    pub fn to(&self) -> &CoreId {
        &self.to
    }

    /// Returns the life of the peer's data, once it has introduced itself.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    pub(super) fn stream(&self) -> u64 {
        self.stream
    }

    /// Returns true if effects of a slot are streamed.
    pub(super) fn is_covered(&self, slot: Slot) -> bool {
        self.covered.contains(slot)
    }

    /// Returns the slots that are streamed.
    pub(super) fn covered(&self) -> &SlotSet {
        &self.covered
    }

    /// Returns true if the copy has everything of a slot that it has acknowledged, and everything that was before.
    #[inline]
    pub fn is_based(&self, slot: Slot) -> bool {
        self.covers[slot.index()].0 == Cover::Based
    }

    /// Returns the position in this core's log up to which the copy has acknowledged all effects of based slots.
    #[inline]
    pub fn acknowledged(&self) -> Lsn {
        self.marks.front().map_or(Lsn(u64::MAX), |&(_, end)| Lsn(end.0 - 1))
    }

    /// Returns true if so much is kept that this link's slots are to execute nothing more.
    #[inline]
    pub fn is_behind(&self) -> bool {
        BACKLOG_BYTES < self.bytes.len()
    }

    /// Returns the bytes of items that are not acknowledged.
    pub fn kept_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the number of slots that are still to be repaired.
    pub fn repairs_left(&self) -> usize {
        self.to_repair.len() + usize::from(self.walk.is_some())
    }

    fn push(&mut self, item: &Item<'_>, slot: Option<Slot>) -> u64 {
        let mut bytes = Vec::new();
        item.encode(&mut bytes);
        let cover = slot.map_or(0, |slot| self.covers[slot.index()].1);
        self.kept.push_back(Kept { slot, cover, length: bytes.len(), continues: item.continues() == Some(true) });
        self.bytes.extend(&bytes);
        self.unsent_bytes += bytes.len();
        self.next += 1;
        self.next - 1
    }

    /// Begins to stream slots, which all have this version here. Effects that follow are sent, whatever the copy has.
    pub(super) fn cover(&mut self, slots: SlotRange, version: Version) {
        let position = self.push(&Item::Cover { slots, version }, None);
        for slot in self::slots(slots) {
            self.covers[slot.index()] = (Cover::Asked, position);
            self.covered.set(slot, true);
        }
    }

    /// Ceases to stream a slot.
    pub(super) fn uncover(&mut self, slot: Slot) {
        self.covers[slot.index()] = (Cover::No, 0);
        self.covered.set(slot, false);
        self.to_repair.remove(&(false, slot));
        self.to_repair.remove(&(true, slot));
        if self.walk.as_ref().is_some_and(|walk| walk.slot == slot) {
            self.walk = None;
        }
    }

    /// Streams an effect on a slot that is covered, which ends here in this core's log. `continues`: the next one is of the same
    /// command.
    pub(super) fn effect(
        &mut self,
        (slot, before, epoch, record): (Slot, Version, u64, &[u8]),
        end: Lsn,
        continues: bool,
        now_us: u64,
    ) {
        let position = self.push(&Item::Effect { slot, before, epoch, continues, record }, Some(slot));
        if self.marks.is_empty() {
            self.waiting_since_us = now_us;
        }
        self.marks.push_back((position, end));
    }

    /// Begins another stream: the copy does not know this one, or too little of it is kept. Nothing is covered.
    pub(super) fn reset(&mut self, stream: u64) {
        (self.stream, self.unsent, self.unsent_bytes) = (stream, self.next, 0);
        self.kept.clear();
        self.bytes.clear();
        self.marks.clear();
        self.covers.fill((Cover::No, 0));
        self.covered.clear();
        self.bases.clear();
        self.to_repair.clear();
        self.walk = None;
    }

    /// Notes that the connection has broken.
    pub(super) fn broken(&mut self, retry_us: u64) {
        (self.connection, self.retry_us) = (Connection::Down, retry_us);
    }

    /// Takes the introduction of the peer, and what it has of the stream. Returns true if the stream can go on from there; if not,
    /// the caller begins another one.
    pub(super) fn welcome(&mut self, peer: &Peer<'_>, received: Option<u64>) -> bool {
        let is_same = self.incarnation == Some(peer.incarnation);
        (self.incarnation, self.told) = (Some(peer.incarnation), peer.revision.number());
        self.connection = Connection::Up;
        let first = self.next - self.kept.len() as u64;
        match received {
            Some(received)
                if is_same && first <= received + 1 && received < self.next && !self.lacks_answers(received) =>
            {
                self.skip_stale(received);
                true
            }
            _ => false,
        }
    }

    /// Returns true if the copy has compared versions, and its answer was lost.
    fn lacks_answers(&self, received: u64) -> bool {
        self.covers.iter().any(|&(cover, at)| cover == Cover::Asked && at <= received)
    }

    /// Returns the message that announces what is sent next.
    pub(super) fn start(&self) -> Message<'static> {
        Message::Start { stream: self.stream, next: self.unsent }
    }

    /// Prepares to send what follows a position again, without the items whose slots are not streamed any more.
    fn skip_stale(&mut self, received: u64) {
        let first = self.next - self.kept.len() as u64;
        let mut old = std::mem::take(&mut self.bytes);
        (self.unsent, self.unsent_bytes) = (received + 1, 0);
        for (position, kept) in (first..).zip(&mut self.kept) {
            let item: Vec<u8> = old.drain(..kept.length).collect();
            let is_stale = kept.slot.is_some_and(|slot| self.covers[slot.index()].1 != kept.cover);
            let mut bytes = item;
            if is_stale {
                bytes.clear();
                Item::Skip { continues: kept.continues }.encode(&mut bytes);
                (kept.slot, kept.length) = (None, bytes.len());
            }
            if received < position {
                self.unsent_bytes += bytes.len();
            }
            self.bytes.extend(&bytes);
        }
    }

    /// Calls `send` with frames of what has not been sent.
    pub(super) fn flush(&mut self, mut send: impl FnMut(&Message<'_>)) {
        while self.unsent < self.next {
            let first = self.unsent;
            let at = self.kept.len() - (self.next - first) as usize;
            let (mut length, mut count) = (0, 0);
            for kept in self.kept.range(at..) {
                (length, count) = (length + kept.length, count + 1);
                if FRAME_BYTES <= length && !kept.continues {
                    break;
                }
            }
            let start = self.bytes.len() - self.unsent_bytes;
            let (front, back) = self.bytes.as_slices();
            let (left, right) = (start.min(front.len()), (start + length).min(front.len()));
            let mut bytes = front[left..right].to_vec();
            let (left, right) = (start.max(front.len()), (start + length).max(front.len()));
            bytes.extend_from_slice(&back[left - front.len()..right - front.len()]);
            send(&Message::Items(Items::new(first, &bytes)));
            self.unsent += count;
            self.unsent_bytes -= length;
        }
    }

    /// Takes an acknowledgement. Returns true if anything is acknowledged by it that was not before.
    pub(super) fn acknowledge(&mut self, position: u64, now_us: u64) -> bool {
        let first = self.next - self.kept.len() as u64;
        if position < first || self.unsent <= position {
            return false;
        }
        for kept in self.kept.drain(..(position + 1 - first) as usize) {
            self.bytes.drain(..kept.length);
        }
        while self.marks.front().is_some_and(|&(at, _)| at <= position) {
            self.marks.pop_front();
            self.waiting_since_us = now_us;
        }
        while let Some(entry) = self.bases.first_entry().filter(|entry| *entry.key() <= position) {
            let (at, ranges) = entry.remove_entry();
            for slot in ranges.into_iter().flat_map(slots) {
                let cover = &mut self.covers[slot.index()];
                if *cover == (Cover::Equal, at) || cover.0 == Cover::Repaired(at) {
                    cover.0 = Cover::Based;
                }
            }
        }
        true
    }

    /// Returns the time since which an effect waits to be acknowledged.
    pub(super) fn waiting_since_us(&self) -> Option<u64> {
        (!self.marks.is_empty()).then_some(self.waiting_since_us)
    }

    /// Takes the result of comparing versions. `is_waited_for`: returns true if writes of a slot wait for this copy.
    pub(super) fn compared(
        &mut self,
        position: u64,
        slots: SlotRange,
        comparison: Comparison,
        is_waited_for: impl Fn(Slot) -> bool,
    ) {
        if comparison == Comparison::Equal {
            self.bases.entry(position).or_default().push(slots);
        }
        for slot in self::slots(slots) {
            if self.covers[slot.index()] != (Cover::Asked, position) {
                continue;
            }
            match comparison {
                Comparison::Equal => self.covers[slot.index()].0 = Cover::Equal,
                Comparison::Differs => {
                    self.covers[slot.index()].0 = Cover::Differs;
                    self.to_repair.insert((!is_waited_for(slot), slot));
                }
                Comparison::Refused => {
                    self.uncover(slot);
                    self.was_refused = true;
                }
            }
        }
    }

    /// Goes on with repairs, as far as the link has room. Returns true if there is more to do. `seed`: drawn at random.
    pub(super) fn repair(&mut self, data: &impl Data, seed: u64) -> bool {
        while self.connection == Connection::Up && self.bytes.len() < REPAIR_BYTES {
            let Some(walk) = &self.walk else {
                let Some((_, slot)) = self.to_repair.pop_first() else { return false };
                let count = data.keys(slot).div_ceil(PART_KEYS).clamp(1, u64::from(u16::MAX)) as u16;
                self.begin(Walk { slot, part: Part { number: 0, count, seed }, cursor: 0 });
                continue;
            };
            let (slot, part, cursor) = (walk.slot, walk.part, walk.cursor);
            let mut records: Vec<Vec<u8>> = Vec::new();
            let next = data.walk(slot, cursor, &mut |key, record| {
                if part.contains(key) {
                    records.push(record.to_vec());
                }
            });
            for record in &records {
                self.push(&Item::Key { slot, record }, Some(slot));
            }
            match next {
                Some(cursor) => self.walk = Some(Walk { slot, part, cursor }),
                None if part.number + 1 < part.count => {
                    self.push(&Item::End { slot, version: None }, Some(slot));
                    self.begin(Walk { slot, part: Part { number: part.number + 1, ..part }, cursor: 0 });
                }
                None => {
                    let version = data.version(slot).expect("a primary's copy has a version");
                    let end = self.push(&Item::End { slot, version: Some(version) }, Some(slot));
                    self.covers[slot.index()].0 = Cover::Repaired(end);
                    self.bases.entry(end).or_default().push(single(slot));
                    self.walk = None;
                }
            }
        }
        self.walk.is_some() || !self.to_repair.is_empty()
    }

    fn begin(&mut self, walk: Walk) {
        self.push(&Item::Begin { slot: walk.slot, part: walk.part }, Some(walk.slot));
        self.walk = Some(walk);
    }

    /// Returns the state of the link in words, for tests.
    #[cfg(test)]
    pub(super) fn describe(&self) -> String {
        let mut covers: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
        for (cover, at) in &self.covers {
            *covers
                .entry(if *cover == Cover::Asked { format!("Asked {at}") } else { format!("{cover:?}") })
                .or_default() += 1;
        }
        let Self { to, connection, next, unsent, kept, marks, walk, .. } = self;
        let kept = kept.len();
        format!(
            "{to} {connection:?} next {next} unsent {unsent} kept {kept} marks {} {covers:?} {:?} {walk:?} told {} {:?}",
            marks.len(),
            self.to_repair,
            self.told,
            self.lease
        )
    }
}
