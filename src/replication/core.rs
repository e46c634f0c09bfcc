//! One core's part in replication: its roles, by the newest document that it knows.

mod replies;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{
    data::Data,
    incoming::Incoming,
    lease::{Grants, Timing},
    message::{CloseReason, Message},
    outgoing::{Connection, Outgoing},
    rules::{Rule, holds},
    slots::{SlotSet, first, pieces, single, slots},
    version::Version,
};
use crate::{
    slot::{SLOT_COUNT, Slot},
    time::Now,
    topology::document::{Copies, CopyId, CoreId, Document, Incarnation, SlotRange},
    wal::Lsn,
};

/// The ends of links that a core has.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Side {
    /// This core is primary, and has connected.
    Primary,
    /// This core has copies, and was connected to.
    Copy,
}

/// An instruction to the driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Connect to this core, prove the secret, and say [`Replication::connected`].
    Connect(CoreId),
    /// Send these bytes on the connection of this link.
    Send(CoreId, Side, Vec<u8>),
    /// Close the connection of this link, after what was to be sent.
    Close(CoreId, Side),
    /// A peer knows a newer document, which this core acts by from now on: tell the server's other cores.
    Learned(Arc<Document>),
}

/// An effect of this core on a slot of which it is primary.
#[derive(Clone, Copy, Debug)]
pub struct Effect<'a> {
    /// The slot.
    pub slot: Slot,
    /// The version before it. The one after it has the slot's epoch, and one more in its count.
    pub before: Version,
    /// The record's bytes.
    pub record: &'a [u8],
    /// The end of the record in this core's log.
    pub end: Lsn,
}

/// A reign: slots of which this core became primary at the same moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reign {
    pub(super) epoch: u64,
    /// The end of the log when it began: everything before it is to be committed first.
    pub(super) barrier: Lsn,
    /// The time at which promises to earlier primaries end.
    pub(super) serves_from_us: u64,
    /// The time at which it began.
    pub(super) since_us: u64,
}

/// Of a slot: the reign, if this core is primary, and which copies its writes wait for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seat {
    pub(super) reign: Option<u32>,
    /// A position in `Replication::waited`.
    class: u16,
    pub(super) is_frozen: bool,
}

/// One core's part in replication.
#[derive(Debug)]
pub struct Replication {
    pub(super) me: CopyId,
    pub(super) timing: Timing,
    /// The newest document that is known.
    pub(super) document: Option<Arc<Document>>,
    /// The document that this server has proposed, or is about to: its outcome is not known.
    pub(super) pending: Option<Arc<Document>>,
    /// The server that the pending document deposes: nothing of it is taken.
    pub(super) deposed: Option<Arc<str>>,
    pub(super) seats: Box<[Seat]>,
    reigns: BTreeMap<u32, Reign>,
    next_reign: u32,
    /// Sets of links and incarnations that writes of a slot wait for.
    waited: Vec<Vec<(usize, CopyId)>>,
    /// Links to cores with copies. None is ever taken out, so that their positions stay.
    pub(super) outgoing: Vec<Outgoing>,
    pub(super) incoming: BTreeMap<CoreId, Incoming>,
    pub(super) grants: Grants,
    /// The time since which a primary is expected to be heard of, by its range's epoch and name.
    pub(super) expected_us: BTreeMap<(CopyId, u64), u64>,
    pub(super) persisted: Lsn,
    pub(super) random: fastrand::Rng,
    pub(super) outputs: VecDeque<Output>,
    /// The slots that were lost by documents that peers told of.
    pub(super) lost: Vec<Slot>,
    /// The end of the log when slots were last frozen.
    pub(super) frozen_at: Lsn,
    /// True if the last turn but one was not long ago.
    pub(super) is_awake: bool,
    progress: u64,
}

impl Replication {
    /// Returns the part of a core that begins now. It takes part once it has a document. `seed`: from the operating system, so that
    /// no two streams have the same name.
    pub fn new(me: CopyId, timing: Timing, now: Now, seed: u64) -> Self {
        Self {
            me,
            timing,
            document: None,
            pending: None,
            deposed: None,
            seats: vec![Seat::default(); usize::from(SLOT_COUNT)].into(),
            reigns: BTreeMap::new(),
            next_reign: 1,
            waited: vec![Vec::new()],
            outgoing: Vec::new(),
            incoming: BTreeMap::new(),
            grants: Grants::new(timing, now.monotonic_us),
            expected_us: BTreeMap::new(),
            persisted: Lsn(0),
            random: fastrand::Rng::with_seed(seed),
            outputs: VecDeque::new(),
            lost: Vec::new(),
            frozen_at: Lsn(0),
            is_awake: false,
            progress: 0,
        }
    }

    /// Takes the life of its server's data, which is known once the server has read the store.
    ///
    /// # Panics
    /// If the core acts by a document already.
    pub fn begin(&mut self, incarnation: Incarnation) {
        assert!(self.document.is_none(), "a life does not change while it is lived");
        self.me.incarnation = Some(incarnation);
    }

    /// Returns the next instruction to the driver.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns the newest document that is known.
    pub fn document(&self) -> Option<&Arc<Document>> {
        self.document.as_ref()
    }

    /// Returns a number that changes whenever replies may have become free to leave.
    pub fn progress(&self) -> u64 {
        self.progress
    }

    pub(super) fn note_progress(&mut self) {
        self.progress += 1;
    }

    /// Returns the links to cores with copies of this core's slots.
    pub fn links(&self) -> &[Outgoing] {
        &self.outgoing
    }

    /// Returns the highest wall clock, in milliseconds, that a primary has shown on a link: a new primary goes on from there, so
    /// that nothing that had expired comes back.
    pub fn clock_millis(&self) -> u64 {
        self.incoming.values().map(|link| link.clock_millis).max().unwrap_or(0)
    }

    #[inline]
    pub(super) fn reign(&self, slot: Slot) -> Option<&Reign> {
        self.seats[slot.index()].reign.map(|number| &self.reigns[&number])
    }

    /// Returns true if this core is primary of a slot.
    #[inline]
    pub fn is_primary(&self, slot: Slot) -> bool {
        self.seats[slot.index()].reign.is_some()
    }

    /// Returns the epoch that this core's effects on a slot are made in, if it is primary.
    pub fn epoch(&self, slot: Slot) -> Option<u64> {
        self.reign(slot).map(|reign| reign.epoch)
    }

    /// Notes that this core's log is on disk up to a position.
    pub fn persisted(&mut self, lsn: Lsn) {
        if self.persisted < lsn {
            self.persisted = lsn;
            self.note_progress();
            self.acknowledge();
        }
    }

    /// Streams the effects of one command, which this core has applied and logged.
    ///
    /// # Panics
    /// If this core is not primary of one of the slots.
    pub fn effects(&mut self, effects: &[Effect<'_>], now: Now) {
        for link in &mut self.outgoing {
            let mut told = effects.iter().filter(|effect| link.is_covered(effect.slot)).peekable();
            let mut chosen = Vec::new();
            while let Some(effect) = told.next() {
                chosen.push((effect, told.peek().is_some()));
            }
            for (effect, continues) in chosen {
                let seat = self.seats[effect.slot.index()].reign.expect("only a primary has effects");
                let what = (effect.slot, effect.before, self.reigns[&seat].epoch, effect.record);
                link.effect(what, effect.end, continues, now.monotonic_us);
            }
        }
    }

    /// Acts by a newer document from now on. Older ones and the same are ignored. Returns the slots of which this core is no longer
    /// primary: their requests that wait are answered with MOVED.
    pub fn adopt(&mut self, document: &Arc<Document>, now: Now, data: &mut impl Data) -> Vec<Slot> {
        let before = self.document.take();
        if before.as_ref().is_some_and(|before| document.revision() <= before.revision()) {
            self.document = before;
            return Vec::new();
        }
        if self.pending.as_ref().is_some_and(|pending| pending.revision() <= document.revision()) {
            self.abandon_pending();
            self.thaw();
        }
        let mut lost = std::mem::take(&mut self.lost);
        let mut begun: BTreeMap<(u64, bool, u64), u32> = BTreeMap::new();
        for piece in pieces(document, before.as_deref().unwrap_or(document)) {
            let copies = document.copies_of(first(piece));
            let is_mine = copies.primary.core == self.me.core
                && (copies.primary.incarnation == self.me.incarnation || !holds(Rule::Incarnations));
            let epoch = copies.epoch.number();
            let from = if is_mine { self.serves_from_us(before.as_deref(), first(piece), copies) } else { 0 };
            for slot in slots(piece) {
                let was = self.seats[slot.index()].reign.map(|number| self.reigns[&number].epoch);
                if was.is_some() && !(is_mine && was == Some(epoch)) {
                    lost.push(slot);
                    self.seats[slot.index()] = Seat::default();
                    self.outgoing.iter_mut().for_each(|link| link.uncover(slot));
                }
                if is_mine && was != Some(epoch) {
                    let number = *begun.entry((epoch, copies.handed_over, from)).or_insert_with(|| {
                        self.next_reign += 1;
                        self.next_reign
                    });
                    self.seats[slot.index()].reign = Some(number);
                    if data.version(slot).is_none() && holds(Rule::ReignHasVersion) {
                        data.set_version(slot, Some(Version::of_reign(copies.epoch)));
                    }
                }
            }
        }
        for ((epoch, _, serves_from_us), number) in begun {
            let (barrier, since_us) = (data.end(), now.monotonic_us);
            self.reigns.insert(number, Reign { epoch, barrier, serves_from_us, since_us });
        }
        self.document = Some(document.clone());
        self.forget_reigns();
        self.forget_streams(before.as_deref(), document);
        self.expect_primaries(document, now);
        self.settle_roles(data);
        self.tell_document();
        self.note_progress();
        lost
    }

    /// Returns the time from which this core may serve a slot of which it becomes primary: promises to the last primary have
    /// ended. After a hand-over it has stopped by itself.
    fn serves_from_us(&self, before: Option<&Document>, slot: Slot, copies: &Copies) -> u64 {
        if copies.handed_over {
            return 0;
        }
        match before {
            // Nothing was skipped: nobody else can have been primary since.
            Some(before) if before.revision().number() + 1 == copies.epoch.number() => {
                self.grants.free_from_us(&before.copies_of(slot).primary.core.server)
            }
            _ => self.grants.all_free_from_us(),
        }
    }

    fn forget_reigns(&mut self) {
        let mut used: Vec<u32> = self.seats.iter().filter_map(|seat| seat.reign).collect();
        used.dedup();
        self.reigns.retain(|number, _| used.contains(number));
    }

    /// Streams do not go on over a change of primary or of this core's copy.
    fn forget_streams(&mut self, before: Option<&Document>, document: &Document) {
        let Some(before) = before else { return };
        let role = |document: &Document, slot: Slot| {
            let copies = document.copies_of(slot);
            let copy = copies.all().find(|copy| copy.core == self.me.core).cloned();
            (copies.primary.clone(), copies.epoch, copy)
        };
        let is_changed = |piece: &SlotRange| role(before, first(*piece)) != role(document, first(*piece));
        let changed: Vec<SlotRange> = pieces(before, document).into_iter().filter(is_changed).collect();
        for link in self.incoming.values_mut() {
            if changed.iter().flat_map(|&range| slots(range)).any(|slot| link.is_covered(slot)) && !link.is_up {
                link.forget();
            }
        }
    }

    /// Notes when this core began to expect to hear of each primary of which it has a copy in sync.
    fn expect_primaries(&mut self, document: &Document, now: Now) {
        let mut expected = BTreeMap::new();
        for range in document.ranges() {
            if range.copies.backups.contains(&self.me) {
                let key = (range.copies.primary.clone(), range.copies.epoch.number());
                let since = self.expected_us.get(&key).copied().unwrap_or(now.monotonic_us);
                expected.insert(key, since);
            }
        }
        self.expected_us = expected;
    }

    /// Gives up what was pending.
    pub(super) fn abandon_pending(&mut self) {
        (self.pending, self.deposed) = (None, None);
    }

    /// Works out which copies writes of each slot wait for, and what is streamed to whom.
    pub(super) fn settle_roles(&mut self, data: &impl Data) {
        let Some(document) = self.document.clone() else { return };
        let mut classes: BTreeMap<Vec<CopyId>, u16> = BTreeMap::from([(Vec::new(), 0)]);
        self.waited = vec![Vec::new()];
        let pending = self.pending.clone();
        for piece in pieces(&document, pending.as_deref().unwrap_or(&document)) {
            let copies = document.copies_of(first(piece));
            if copies.primary.core != self.me.core {
                continue;
            }
            let waited = self.waited_copies(copies, first(piece));
            let class = classes.get(&waited).copied().unwrap_or_else(|| {
                let class = u16::try_from(self.waited.len()).expect("there are no more sets of copies than slots");
                let links = waited.iter().map(|copy| (self.link_to(&copy.core), copy.clone())).collect();
                self.waited.push(links);
                classes.insert(waited, class);
                class
            });
            for slot in slots(piece) {
                self.seats[slot.index()].class = class;
            }
        }
        for copies in document.ranges().iter().map(|range| &range.copies) {
            if copies.primary.core == self.me.core {
                copies.joining.iter().for_each(|copy| _ = self.link_to(&copy.core));
            }
        }
        for link in 0..self.outgoing.len() {
            self.settle_link(link, data);
        }
    }

    /// Returns the copies that writes of a slot wait for: those in sync by the document, and by the one that is pending.
    fn waited_copies(&self, copies: &Copies, slot: Slot) -> Vec<CopyId> {
        let mut waited = copies.backups.clone();
        if let Some(pending) = &self.pending {
            waited.extend(pending.copies_of(slot).in_sync().filter(|copy| copy.core != self.me.core).cloned());
        }
        waited.sort_unstable();
        waited.dedup();
        waited
    }

    fn link_to(&mut self, core: &CoreId) -> usize {
        if let Some(link) = self.outgoing.iter().position(|link| link.to() == core) {
            return link;
        }
        let stream = self.random.u64(..);
        self.outgoing.push(Outgoing::new(core, stream));
        self.outgoing.len() - 1
    }

    /// Returns the slots whose effects are streamed to a core: it has a copy, or is to have one in sync by what is pending.
    fn told(&self, to: &CoreId) -> SlotSet {
        let mut told = SlotSet::default();
        let documents = [self.document.as_deref(), self.pending.as_deref()];
        for (number, document) in documents.into_iter().enumerate().filter_map(|(n, d)| Some((n, d?))) {
            for range in document.ranges() {
                let mut copies =
                    range.copies.all().take(if number == 0 { usize::MAX } else { 1 + range.copies.backups.len() });
                if copies.any(|copy| copy.core == *to) {
                    slots(range.slots).filter(|&slot| self.is_primary(slot)).for_each(|slot| told.set(slot, true));
                }
            }
        }
        told
    }

    /// Covers the slots that are to be streamed to a core, and ceases to stream the others.
    pub(super) fn settle_link(&mut self, link: usize, data: &impl Data) {
        let told = self.told(self.outgoing[link].to());
        let link = &mut self.outgoing[link];
        link.was_refused = false;
        let (fewer, more) = link.covered().differences(&told);
        fewer.into_iter().for_each(|slot| link.uncover(slot));
        if link.connection != Connection::Up {
            return;
        }
        let mut run: Option<(SlotRange, Version)> = None;
        for slot in more {
            // Only a rule's removal leaves a primary without a version.
            let version = data.version(slot).unwrap_or(Version { epoch: u64::MAX, count: 0 });
            match &mut run {
                Some((range, of)) if *of == version && range.last() + 1 == slot.number() => {
                    *range = SlotRange::new(range.first(), slot.number()).expect("it only grows");
                }
                _ => {
                    if let Some((range, version)) = run.replace((single(slot), version)) {
                        link.cover(range, version);
                    }
                }
            }
        }
        if let Some((range, version)) = run {
            link.cover(range, version);
        }
    }

    /// Returns true if anything is to be streamed to a core.
    pub(super) fn is_needed(&self, to: &CoreId) -> bool {
        let Some(document) = &self.document else { return false };
        let has_copy = |copies: &Copies| copies.all().any(|copy| copy.core == *to);
        let mut ranges = document.ranges().iter();
        ranges.any(|range| self.is_primary(first(range.slots)) && has_copy(&range.copies))
            || self.waited.iter().flatten().any(|(link, _)| self.outgoing[*link].to() == to)
    }

    pub(super) fn send(&mut self, to: &CoreId, side: Side, message: &Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.outputs.push_back(Output::Send(to.clone(), side, bytes));
    }

    pub(super) fn close(&mut self, to: &CoreId, side: Side, reason: CloseReason, now: Now) {
        self.send(to, side, &Message::Close(reason));
        self.outputs.push_back(Output::Close(to.clone(), side));
        self.broken(to, side, now);
    }
}
