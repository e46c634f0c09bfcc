//! Rules, each in the schedule that shows it: true as things are, and not without the rule.

use std::{collections::BTreeSet, sync::Arc};

use super::super::{
    Output, Readiness, Side,
    commit::{Fate, Gate, Obstacle, Point},
    data::Data,
    lease::Timing,
    message::{Decoder, Message},
    rules::{self, Rule},
};
use super::node::{Node, core};
use crate::{
    slot::Slot,
    time::Now,
    topology::{
        document::{Document, SlotRange, strategies::started},
        steps::Step,
    },
    wal::Lsn,
};

/// Three servers whose messages arrive at once, unless they are cut off.
struct Lab {
    nodes: Vec<Node>,
    document: Arc<Document>,
    cut: BTreeSet<usize>,
    us: u64,
}

impl Lab {
    /// Three servers with two copies, connected and based. `s0` is primary of slot 0, and `s1` its backup.
    fn new() -> Self {
        let timing = Timing::default();
        let document = Arc::new(started(&[1, 1, 1], 2));
        let mut lab = Self { nodes: Vec::new(), document: document.clone(), cut: BTreeSet::new(), us: 0 };
        for number in 0..3 {
            let mut node = Node::new(number, (0, 100), timing, 7 + number as u64);
            node.start(0, timing, 7);
            let incarnation = document.member(&node.name).unwrap().incarnation.unwrap();
            node.replication.begin(incarnation);
            lab.nodes.push(node);
        }
        lab.adopt_all(&document);
        lab.wait(1_000_000);
        assert_eq!(lab.nodes[0].replication.gate(slot(), lab.now()), Gate::Open);
        lab
    }

    fn now(&self) -> Now {
        Now { unix_us: self.us, monotonic_us: self.us }
    }

    fn adopt(&mut self, number: usize, document: &Arc<Document>) {
        let (now, node) = (self.now(), &mut self.nodes[number]);
        node.replication.adopt(document, now, &mut node.data);
    }

    fn adopt_all(&mut self, document: &Arc<Document>) {
        (0..3).for_each(|number| self.adopt(number, document));
    }

    /// Returns the next document, with these changes.
    fn with(&self, steps: &[Step]) -> Arc<Document> {
        Arc::new(self.document.with_all(steps).unwrap())
    }

    fn sync(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.data.synced += node.data.unsynced();
        node.replication.persisted(Lsn(node.data.synced as u64));
    }

    /// Lets time pass, syncs and delivers.
    fn wait(&mut self, us: u64) {
        let end = self.us + us;
        while self.us < end {
            self.us += 10_000;
            (0..3).for_each(|number| self.sync(number));
            self.turn();
        }
    }

    /// Delivers all there is to deliver, with no sync.
    fn turn(&mut self) {
        let now = self.now();
        for node in &mut self.nodes {
            node.replication.turn(None, now, &node.data);
        }
        while let Some((from, output)) =
            (0..3).find_map(|number| Some((number, self.nodes[number].replication.next_output()?)))
        {
            let number_of = |server: &str| server[1..].parse::<usize>().unwrap();
            match output {
                Output::Connect(to) if !self.cut.contains(&from) && !self.cut.contains(&number_of(&to.server)) => {
                    self.nodes[from].replication.connected(&to, now);
                }
                Output::Send(to, side, bytes) => self.deliver(from, number_of(&to.server), side, &bytes),
                Output::Close(to, side) => self.broken(from, number_of(&to.server), side),
                Output::Connect(_) | Output::Learned(_) => {}
            }
        }
    }

    fn broken(&mut self, from: usize, to: usize, side: Side) {
        let (now, name) = (self.now(), core(&self.nodes[from].name));
        let other = if side == Side::Primary { Side::Copy } else { Side::Primary };
        self.nodes[to].replication.broken(&name, other, now);
    }

    fn deliver(&mut self, from: usize, to: usize, side: Side, bytes: &[u8]) {
        if self.cut.contains(&from) || self.cut.contains(&to) {
            return;
        }
        let (now, name) = (self.now(), core(&self.nodes[from].name));
        let side = if side == Side::Primary { Side::Copy } else { Side::Primary };
        let mut decoder = Decoder::default();
        decoder.trust();
        decoder.push(bytes);
        while let Some(message) = decoder.next_message().unwrap() {
            let node = &mut self.nodes[to];
            node.replication.received(&name, side, &message, now, &mut node.data);
        }
    }

    fn write(&mut self, number: usize, value: u32) -> Option<Point> {
        let now = self.now();
        let points = self.nodes[number].write(&[slot()], &[key()], Some(value), now);
        points.map(|points| points[0])
    }

    fn fate(&self, number: usize, point: Point) -> Fate {
        self.nodes[number].replication.fate(point, self.us)
    }

    fn value(&self, number: usize) -> Option<Vec<u8>> {
        self.nodes[number].data.get(slot(), &key()).0
    }
}

fn slot() -> Slot {
    Slot::new(0).unwrap()
}

/// A key of slot 0.
fn key() -> Vec<u8> {
    (0..).map(|n: u32| n.to_string().into_bytes()).find(|key| Slot::of(key) == slot()).unwrap()
}

/// The range of slot 0.
fn range(document: &Document) -> SlotRange {
    document.ranges()[0].slots
}

/// Asserts that a scenario is as it should be, and is not without the rule.
fn needed(rule: Rule, scenario: impl Fn() -> bool) {
    assert!(scenario(), "{rule:?}");
    rules::remove(Some(rule));
    let is_right = scenario();
    rules::remove(None);
    assert!(!is_right, "{rule:?} changes nothing here");
}

/// A write is committed once it is on both disks.
#[test]
fn a_write_waits_for_both_disks() {
    let after = |synced: usize| {
        let mut lab = Lab::new();
        let point = lab.write(0, 1).unwrap();
        lab.turn();
        lab.sync(synced);
        lab.turn();
        let before = lab.fate(0, point);
        (0..3).for_each(|number| lab.sync(number));
        lab.turn();
        (before, lab.fate(0, point)) == (Fate::Waits, Fate::Leaves)
    };
    needed(Rule::AcknowledgeDurable, || after(0));
    needed(Rule::LocalSync, || after(1));
}

/// A primary that is cut off answers what had arrived while it was leased, and nothing that arrives later.
#[test]
fn nothing_leaves_without_a_lease() {
    needed(Rule::Lease, || {
        let mut lab = Lab::new();
        let point = lab.nodes[0].replication.point(slot(), Lsn(0));
        let early_us = lab.us;
        lab.cut.insert(0);
        lab.wait(600_000);
        let early = lab.nodes[0].replication.fate(point, early_us);
        (early, lab.fate(0, point)) == (Fate::Leaves, Fate::Waits)
    });
}

/// A backup calls a primary silent only after the lease that it gave has run out, by clocks that differ by a tenth each way.
#[test]
fn a_backup_waits_for_longer_than_a_lease() {
    needed(Rule::LongGrace, || {
        let mut lab = Lab::new();
        lab.cut.insert(0);
        lab.wait(500_000);
        lab.nodes[1].replication.suspects(lab.now()).is_empty() && {
            lab.wait(200_000);
            lab.nodes[1].replication.suspects(lab.now()) == ["s0".into()]
        }
    });
}

/// A backup that knows a newer document does not promise anything to a primary that does not: it sends the document.
#[test]
fn promises_are_for_the_newest_document() {
    needed(Rule::GrantToNewest, || {
        let mut lab = Lab::new();
        let next = lab.with(&[Step::SetCopies(1)]);
        lab.adopt(1, &next);
        let heartbeat = Message::Heartbeat { sent_us: 1, revision: lab.document.revision(), unix_millis: 0 };
        let (now, node) = (lab.now(), &mut lab.nodes[1]);
        while node.replication.next_output().is_some() {}
        node.replication.received(&core("s0"), Side::Copy, &heartbeat, now, &mut node.data);
        let mut decoder = Decoder::default();
        decoder.trust();
        while let Some(output) = node.replication.next_output() {
            if let Output::Send(to, _, bytes) = output
                && to == core("s0")
            {
                decoder.push(&bytes);
            }
        }
        matches!(decoder.next_message(), Ok(Some(Message::Document(_))))
    });
}

/// A backup that is about to depose a primary acknowledges nothing of it.
#[test]
fn a_backup_that_deposes_is_frozen() {
    needed(Rule::FreezeDeposed, || {
        let mut lab = Lab::new();
        let depose = lab.with(&[Step::Depose { server: "s0".into(), by: "s1".into() }]);
        let (now, node) = (lab.now(), &mut lab.nodes[1]);
        let readiness = node.replication.prepare(&depose, now, &node.data);
        assert!(matches!(readiness, Readiness::Wait(_)), "it was heard just now: {readiness:?}");
        let point = lab.write(0, 1).unwrap();
        lab.wait(100_000);
        let is_held = lab.fate(0, point) == Fate::Waits;
        let (now, node) = (lab.now(), &mut lab.nodes[1]);
        node.replication.abandon(&node.data);
        assert!(node.replication.prepare(&lab.document, now, &node.data) == Readiness::Refused);
        lab.wait(300_000);
        is_held && lab.fate(0, point) == Fate::Leaves
    });
}

/// While it is not known whether a copy has become one in sync, writes wait for it; and it becomes one only if it has everything.
#[test]
fn a_pending_change_needs_the_copies_of_both_documents() {
    let scenario = || {
        let mut lab = Lab::new();
        let slots = range(&lab.document);
        let joining = lab.with(&[Step::AddJoining { slots, core: core("s2") }]);
        lab.document = joining.clone();
        lab.adopt_all(&joining);
        lab.wait(300_000);
        let backup = lab.with(&[Step::MakeBackup { slots, core: core("s2") }]);
        let (now, node) = (lab.now(), &mut lab.nodes[0]);
        assert_eq!(node.replication.prepare(&backup, now, &node.data), Readiness::Ready);
        let point = lab.write(0, 1).unwrap();
        lab.turn();
        (0..2).for_each(|number| lab.sync(number));
        lab.turn();
        let before = lab.fate(0, point);
        lab.sync(2);
        lab.turn();
        (before, lab.fate(0, point)) == (Fate::Waits, Fate::Leaves)
    };
    needed(Rule::UnionCommit, scenario);
}

/// A joining copy that has not been filled is no backup.
#[test]
fn a_copy_becomes_a_backup_once_it_has_everything() {
    needed(Rule::JoinComplete, || {
        let mut lab = Lab::new();
        let slots = range(&lab.document);
        let joining = lab.with(&[Step::AddJoining { slots, core: core("s2") }]);
        lab.document = joining.clone();
        lab.cut.insert(2);
        lab.adopt_all(&joining);
        lab.wait(100_000);
        let backup = lab.with(&[Step::MakeBackup { slots, core: core("s2") }]);
        let (now, node) = (lab.now(), &mut lab.nodes[0]);
        node.replication.prepare(&backup, now, &node.data) == Readiness::Refused
    });
}

/// Slots that are handed over execute nothing, and are handed over once the target has everything.
#[test]
fn a_hand_over_drains_first() {
    let scenario = || {
        let mut lab = Lab::new();
        let slots = range(&lab.document);
        let named = lab.with(&[Step::NamePrimary { slots, core: core("s1") }]);
        let point = lab.write(0, 1).unwrap();
        let now = lab.now();
        let node = &mut lab.nodes[0];
        node.replication.freeze(slots, &node.data);
        let is_frozen = node.replication.gate(slot(), now) == Gate::NotNow(Obstacle::Frozen);
        let early = node.replication.prepare(&named, now, &node.data);
        lab.wait(50_000);
        let (now, node) = (lab.now(), &mut lab.nodes[0]);
        let late = node.replication.prepare(&named, now, &node.data);
        let is_told = lab.fate(0, point) == Fate::Leaves;
        lab.adopt(1, &named);
        let is_open = lab.nodes[1].replication.is_primary(slot());
        is_frozen && is_told && is_open && (early, late) == (Readiness::Refused, Readiness::Ready)
    };
    needed(Rule::Drain, scenario);
    needed(Rule::FreezeHandedOver, scenario);
}

/// A key that a copy has and the primary has not is removed by a repair; what is written meanwhile stays; and until then nothing is
/// executed that waits for it.
#[test]
fn a_copy_that_differs_is_repaired_where_it_stands() {
    needed(Rule::Compare, || {
        let mut lab = Lab::new();
        let node = &mut lab.nodes[1];
        let mut record = Vec::new();
        crate::wal::Record::Put { key: &key(), value: b"of nobody", expires_at: None }.encode(&mut record);
        node.data.repair(slot(), &record).unwrap();
        node.data.set_version(slot(), None);
        node.replication.broken(&core("s0"), Side::Copy, Now::default());
        let again = lab.with(&[Step::Resume { server: "s0".into() }]);
        lab.document = again.clone();
        lab.adopt_all(&again);
        let barrier = lab.nodes[0].replication.gate(slot(), lab.now());
        lab.wait(1_500_000);
        assert_eq!(barrier, Gate::NotNow(Obstacle::Barrier));
        lab.value(1).is_none() && lab.nodes[1].data.version(slot()) == lab.nodes[0].data.version(slot())
    });
}

/// After a short break the stream goes on: nothing is compared, nothing repaired, and what was not acknowledged arrives.
#[test]
fn a_short_break_costs_nothing() {
    let mut lab = Lab::new();
    let point = lab.write(0, 1).unwrap();
    lab.cut.insert(1);
    lab.turn();
    lab.broken(0, 1, Side::Primary);
    lab.broken(1, 0, Side::Copy);
    lab.cut.clear();
    lab.us += 60_000;
    (0..3).for_each(|number| lab.sync(number));
    lab.turn();
    assert_eq!(lab.nodes[0].replication.gate(slot(), lab.now()), Gate::Open, "based as before");
    lab.turn();
    (0..3).for_each(|number| lab.sync(number));
    lab.turn();
    assert_eq!((lab.fate(0, point), lab.value(1)), (Fate::Leaves, Some(b"1".to_vec())));
}

/// A reply of a reign that has ended never leaves.
#[test]
fn replies_of_an_earlier_reign_fail() {
    let mut lab = Lab::new();
    let point = lab.write(0, 1).unwrap();
    let deposed = lab.with(&[Step::Depose { server: "s0".into(), by: "s1".into() }]);
    lab.adopt_all(&deposed);
    assert_eq!(lab.fate(0, point), Fate::Fails);
    assert_eq!(lab.nodes[0].replication.gate(slot(), lab.now()), Gate::Elsewhere);
}

/// A promise counts from when the heartbeat that it answers was sent, however late the answer comes.
#[test]
fn a_late_grant_is_worth_less() {
    needed(Rule::LeaseFromSent, || {
        let mut lab = Lab::new();
        let sent_us = lab.us;
        lab.cut.insert(0);
        lab.wait(600_000);
        let incarnation = lab.document.member("s1").unwrap().incarnation.unwrap();
        let late = Message::Acknowledge { incarnation, position: 0, grant_us: Some(sent_us) };
        let (now, node) = (lab.now(), &mut lab.nodes[0]);
        node.replication.received(&core("s1"), Side::Primary, &late, now, &mut node.data);
        let point = lab.nodes[0].replication.point(slot(), Lsn(0));
        lab.fate(0, point) == Fate::Waits
    });
}

/// An effect of a core that is no longer primary is neither taken nor acknowledged.
#[test]
fn effects_are_taken_from_the_primary_alone() {
    let scenario = || {
        let mut lab = Lab::new();
        let deposed = lab.with(&[Step::Depose { server: "s0".into(), by: "s1".into() }]);
        lab.adopt(1, &deposed);
        // The old primary is not told yet.
        while lab.nodes[1].replication.next_output().is_some() {}
        let point = lab.write(0, 1).unwrap();
        lab.turn();
        (0..3).for_each(|number| lab.sync(number));
        lab.turn();
        lab.value(1).is_none() && lab.fate(0, point) != Fate::Leaves
    };
    needed(Rule::FromPrimaryOnly, scenario);
    needed(Rule::RefuseAndClose, scenario);
}

/// While it is not known whether a copy has become one in sync, its promise is needed too.
#[test]
fn a_pending_change_needs_the_promises_of_both_documents() {
    needed(Rule::UnionLease, || {
        let mut lab = Lab::new();
        let slots = range(&lab.document);
        let joining = lab.with(&[Step::AddJoining { slots, core: core("s2") }]);
        lab.document = joining.clone();
        lab.adopt_all(&joining);
        lab.wait(300_000);
        let backup = lab.with(&[Step::MakeBackup { slots, core: core("s2") }]);
        let (now, node) = (lab.now(), &mut lab.nodes[0]);
        assert_eq!(node.replication.prepare(&backup, now, &node.data), Readiness::Ready);
        lab.cut.insert(2);
        lab.wait(600_000);
        let point = lab.nodes[0].replication.point(slot(), Lsn(0));
        lab.fate(0, point) == Fate::Waits
    });
}

/// Versions of two reigns may count alike.
#[test]
fn versions_are_compared_with_their_epochs() {
    needed(Rule::VersionHasEpoch, || {
        let mut lab = Lab::new();
        lab.write(0, 1).unwrap();
        lab.wait(50_000);
        let mine = lab.nodes[1].data.version(slot()).unwrap();
        lab.nodes[1].data.set_version(slot(), Some(crate::replication::version::Version { epoch: 0, ..mine }));
        let again = lab.with(&[Step::Resume { server: "s0".into() }]);
        lab.document = again.clone();
        lab.adopt_all(&again);
        lab.wait(500_000);
        lab.nodes[1].data.version(slot()) == lab.nodes[0].data.version(slot())
    });
}

/// A copy of unknown version that becomes primary begins a version that no other copy has.
#[test]
fn a_reign_begins_with_a_version() {
    needed(Rule::ReignHasVersion, || {
        let mut lab = Lab::new();
        lab.nodes[1].data.set_version(slot(), None);
        let deposed = lab.with(&[Step::Depose { server: "s0".into(), by: "s1".into() }]);
        lab.adopt(1, &deposed);
        lab.nodes[1].data.version(slot()).is_some_and(|version| version.epoch == deposed.revision().number())
    });
}

/// A server that was started again may have promised anything just before: it deposes nobody until that has ended.
#[test]
fn promises_outlive_a_restart() {
    needed(Rule::BootWait, || {
        let mut lab = Lab::new();
        let timing = Timing::default();
        lab.us += 10_000_000;
        let incarnation = lab.document.member("s1").unwrap().incarnation.unwrap();
        lab.nodes[1].start(lab.us, timing, 9);
        lab.nodes[1].replication.begin(incarnation);
        let document = lab.document.clone();
        lab.adopt(1, &document);
        // It resumes what it is primary of.
        let resumed = lab.with(&[Step::Resume { server: "s1".into() }]);
        lab.adopt(1, &resumed);
        let own = Slot::new(6000).unwrap();
        lab.nodes[1].replication.gate(own, lab.now()) == Gate::NotNow(Obstacle::Promises)
    });
}
