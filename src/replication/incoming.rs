//! The copy's side of a link: what is taken of a primary's stream, and what is answered.

use std::collections::{BTreeSet, VecDeque};

use super::{
    data::{Change, Data},
    items::{Item, Items, Part},
    message::{CloseReason, Comparison, Message},
    rules::{Rule, holds},
    slots::{SlotSet, single, slots},
    version::Version,
};
use crate::{
    slot::Slot,
    topology::document::{CopyId, CoreId, Document, Incarnation, SlotRange},
    wal::Lsn,
};

/// The most keys of a part that a copy remembers: 16 times as many as a primary sends in one part, some of which are written and
/// removed again meanwhile. About 32 MiB, for the one slot that is repaired on a link.
pub const SEEN_MAX: usize = 16 * super::outgoing::PART_KEYS as usize;

/// The stream of one core that is primary of slots of which this core has copies. Outlives its connections.
#[derive(Debug)]
pub struct Incoming {
    from: CoreId,
    /// The life of the sender's data that the stream belongs to.
    pub(super) incarnation: Incarnation,
    /// True while the peer is connected and has introduced itself.
    pub(super) is_up: bool,
    stream: Option<u64>,
    /// The position of the last item that was taken.
    received: u64,
    acknowledged: u64,
    /// The slots that the stream covers: those that were not refused.
    covered: SlotSet,
    repair: Option<Repair>,
    /// The positions that have been taken, and the end of the log then: each may be acknowledged once that is on disk.
    due: VecDeque<(u64, Lsn)>,
    /// The newest document that the peer was sent over this connection.
    pub(super) told: u64,
    /// The highest wall clock that the primary has shown, which entries expire by.
    pub(super) clock_millis: u64,
}

/// The repair of a part of a slot, and hashes of the keys that were sent, or written meanwhile.
#[derive(Debug)]
struct Repair {
    slot: Slot,
    part: Part,
    seen: BTreeSet<u64>,
}

impl Repair {
    /// Notes a key. Returns false if there are too many.
    fn note(&mut self, key: &[u8]) -> bool {
        if self.part.contains(key) {
            self.seen.insert(self.part.fingerprint(key));
        }
        self.seen.len() <= SEEN_MAX
    }
}

/// The knowledge by which an item is taken or refused.
pub(super) struct View<'a> {
    /// The newest document.
    pub(super) document: &'a Document,
    /// This core, in its present life.
    pub(super) me: &'a CopyId,
}

impl View<'_> {
    /// Returns true if effects of a slot are taken from this primary: it is the one that the newest known document names, and this
    /// core has a copy.
    fn takes(&self, slot: Slot, from: &CoreId, incarnation: Incarnation) -> bool {
        let copies = self.document.copies_of(slot);
        let is_primary = copies.primary.core == *from && copies.primary.incarnation == Some(incarnation);
        let has_copy = copies.backups.iter().chain(&copies.joining).any(|copy| {
            copy.core == self.me.core && (copy.incarnation == self.me.incarnation || !holds(Rule::Incarnations))
        });
        is_primary && has_copy || !holds(Rule::FromPrimaryOnly)
    }
}

impl Incoming {
    /// Returns the copy's side of a link that was never connected.
    pub(super) fn new(from: &CoreId, incarnation: Incarnation) -> Self {
        Self {
            from: from.clone(),
            incarnation,
            is_up: false,
            stream: None,
            received: 0,
            acknowledged: 0,
            covered: SlotSet::default(),
            repair: None,
            due: VecDeque::new(),
            told: 0,
            clock_millis: 0,
        }
    }

    /// Takes an introduction. Returns the position up to which the named stream was taken, if it is known.
    pub(super) fn hello(&mut self, incarnation: Incarnation, stream: u64) -> Option<u64> {
        if self.incarnation != incarnation {
            *self = Self::new(&self.from.clone(), incarnation);
        }
        (self.is_up, self.told) = (true, 0);
        (self.stream == Some(stream)).then_some(self.received)
    }

    /// Notes that the connection has broken. What was taken stays taken.
    pub(super) fn broken(&mut self) {
        self.is_up = false;
    }

    /// Forgets the stream: it may not go on where it was. The peer is to begin another one.
    pub(super) fn forget(&mut self) {
        self.stream = None;
        self.covered.clear();
        self.repair = None;
        self.due.clear();
    }

    /// Takes the announcement of where the stream goes on.
    pub(super) fn start(&mut self, stream: u64, next: u64) -> Result<(), CloseReason> {
        if self.stream == Some(stream) {
            return if next == self.received + 1 { Ok(()) } else { Err(CloseReason::Protocol) };
        }
        self.forget();
        let before = next.checked_sub(1).ok_or(CloseReason::Protocol)?;
        (self.stream, self.received, self.acknowledged) = (Some(stream), before, before);
        Ok(())
    }

    /// Takes items of the stream. `answer` is called with messages to be sent.
    ///
    /// # Errors
    /// The reason to close the link. What was taken before stays taken; nothing behind it is.
    pub(super) fn items(
        &mut self,
        items: Items<'_>,
        view: &View<'_>,
        data: &mut impl Data,
        answer: &mut dyn FnMut(&Message<'_>),
    ) -> Result<(), CloseReason> {
        if self.stream.is_none() {
            return Err(CloseReason::Protocol);
        }
        let mut group: Vec<(u64, Item<'_>)> = Vec::new();
        for (position, item) in items.each() {
            if position != self.received + 1 + group.len() as u64 {
                return Err(CloseReason::Protocol);
            }
            group.push((position, item));
            if item.continues() == Some(true) {
                continue;
            }
            self.take(&group, view, data, answer)?;
            self.received = position;
            self.due.push_back((position, data.end()));
            group.clear();
        }
        Ok(())
    }

    /// Takes one item, or all effects of one command.
    fn take(
        &mut self,
        group: &[(u64, Item<'_>)],
        view: &View<'_>,
        data: &mut impl Data,
        answer: &mut dyn FnMut(&Message<'_>),
    ) -> Result<(), CloseReason> {
        for slot in group.iter().filter_map(|(_, item)| item.slot()) {
            if !self.is_covered(slot) || !view.takes(slot, &self.from, self.incarnation) {
                if !holds(Rule::RefuseAndClose) {
                    return Ok(());
                }
                return Err(CloseReason::Refused);
            }
        }
        let (position, first) = group[0];
        match first {
            Item::Skip { .. } | Item::Effect { .. } => return self.apply(group, data),
            Item::Cover { slots, version } => self.cover(position, slots, version, view, data, answer),
            Item::Begin { slot, part } => {
                if !holds(Rule::RepairInPlace) {
                    data.retain(slot, &mut |_| false);
                }
                self.repair = Some(Repair { slot, part, seen: BTreeSet::new() });
            }
            Item::Key { slot, record } => {
                let repair = self.repair.as_mut().filter(|repair| repair.slot == slot).ok_or(CloseReason::Protocol)?;
                let mut has_room = true;
                data.each_key(slot, record, &mut |key| has_room &= repair.note(key))
                    .map_err(|_| CloseReason::Protocol)?;
                data.repair(slot, record).map_err(|_| CloseReason::Protocol)?;
                if !has_room {
                    return Err(CloseReason::Protocol);
                }
            }
            Item::End { slot, version } => {
                let repair = self.repair.take().filter(|repair| repair.slot == slot).ok_or(CloseReason::Protocol)?;
                let is_seen = |key: &[u8]| repair.seen.contains(&repair.part.fingerprint(key));
                data.retain(slot, &mut |key| !repair.part.contains(key) || is_seen(key));
                if version.is_some() {
                    data.set_version(slot, version);
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, group: &[(u64, Item<'_>)], data: &mut impl Data) -> Result<(), CloseReason> {
        let mut changes: Vec<Change<'_>> = Vec::with_capacity(group.len());
        for (_, item) in group {
            let Item::Effect { slot, before, epoch, record, .. } = *item else { continue };
            let in_group = changes.iter().rev().find(|change| change.slot == slot).map(|change| change.version);
            let version = match in_group.unwrap_or_else(|| data.version(slot)) {
                Some(mine) if mine == before || !holds(Rule::Compare) || !holds(Rule::VersionHasEpoch) => {
                    Some(Version { epoch, count: mine.count + 1 })
                }
                // Both sides believed that the copies were the same, and they are not. The next connection repairs it.
                Some(_) => {
                    data.set_version(slot, None);
                    self.forget();
                    return Err(CloseReason::Protocol);
                }
                None => None,
            };
            let mut has_room = true;
            let mut repair = self.repair.as_mut().filter(|repair| repair.slot == slot && holds(Rule::SeenLive));
            data.each_key(slot, record, &mut |key| {
                has_room &= repair.as_mut().is_none_or(|repair| repair.note(key));
            })
            .map_err(|_| CloseReason::Protocol)?;
            if !has_room {
                self.forget();
                return Err(CloseReason::Protocol);
            }
            changes.push(Change { slot, record, version });
        }
        data.apply(&changes).map_err(|_| CloseReason::Protocol)
    }

    /// Compares versions. Slots whose versions differ are of unknown version from now on, also after a restart: the effects that
    /// follow lead from the primary's state, not from this one.
    fn cover(
        &mut self,
        position: u64,
        slots: SlotRange,
        version: Version,
        view: &View<'_>,
        data: &mut impl Data,
        answer: &mut dyn FnMut(&Message<'_>),
    ) {
        let mut run: Option<(SlotRange, Comparison)> = None;
        let mut tell = |run: Option<(SlotRange, Comparison)>| {
            if let Some((slots, comparison)) = run {
                answer(&Message::Compared { position, slots, comparison });
            }
        };
        for slot in self::slots(slots) {
            let mine = data.version(slot);
            let is_same = match mine {
                Some(mine) if !holds(Rule::VersionHasEpoch) => mine.count == version.count,
                mine => mine == Some(version),
            };
            let comparison = if !view.takes(slot, &self.from, self.incarnation) {
                Comparison::Refused
            } else if is_same || !holds(Rule::Compare) {
                Comparison::Equal
            } else {
                Comparison::Differs
            };
            self.covered.set(slot, comparison != Comparison::Refused);
            if comparison == Comparison::Differs && mine.is_some() {
                data.set_version(slot, None);
            }
            match &mut run {
                Some((slots, of)) if *of == comparison => {
                    *slots = SlotRange::new(slots.first(), slot.number()).expect("it only grows");
                }
                _ => tell(run.replace((single(slot), comparison))),
            }
        }
        tell(run);
    }

    /// Returns the position up to which everything is durable, if that is more than was acknowledged already.
    pub(super) fn acknowledge(&mut self, persisted: Lsn) -> Option<u64> {
        let before = self.acknowledged;
        while let Some(&(position, end)) = self.due.front() {
            if persisted < end && holds(Rule::AcknowledgeDurable) {
                break;
            }
            self.due.pop_front();
            self.acknowledged = position;
        }
        (before < self.acknowledged).then_some(self.acknowledged)
    }

    /// Returns the position that was acknowledged last.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(super) fn is_covered(&self, slot: Slot) -> bool {
        self.covered.contains(slot)
    }
}

#[cfg(test)]
mod tests;
