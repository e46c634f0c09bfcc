use super::*;
use crate::{
    replication::{rules, tests::MapData},
    topology::document::strategies::started,
    wal::Record,
};

/// The copy of slot 0 on `s1`, of which `s0` is primary.
struct Copy {
    document: Document,
    me: CopyId,
    link: Incoming,
    data: MapData,
    next: u64,
}

impl Copy {
    fn new() -> Self {
        let document = started(&[1, 1, 1], 2);
        let copies = document.copies_of(slot()).clone();
        let mut link = Incoming::new(&copies.primary.core, copies.primary.incarnation.unwrap());
        link.hello(copies.primary.incarnation.unwrap(), 1);
        link.start(1, 1).unwrap();
        Self { me: copies.backups[0].clone(), document, link, data: MapData::default(), next: 1 }
    }

    fn take(&mut self, items: &[Item<'_>]) -> Result<(), CloseReason> {
        let mut bytes = Vec::new();
        items.iter().for_each(|item| item.encode(&mut bytes));
        let view = View { document: &self.document, me: &self.me };
        self.link.items(Items::new(self.next, &bytes), &view, &mut self.data, &mut |_| {})?;
        self.next += items.len() as u64;
        Ok(())
    }

    fn has(&self, number: usize) -> bool {
        self.data.get(slot(), &key(number)).0.is_some()
    }
}

fn slot() -> Slot {
    Slot::new(0).unwrap()
}

/// Keys of slot 0.
fn key(number: usize) -> Vec<u8> {
    (0..).map(|n: u32| n.to_string().into_bytes()).filter(|key| Slot::of(key) == slot()).nth(number).unwrap()
}

fn put(number: usize) -> Vec<u8> {
    let mut record = Vec::new();
    Record::Put { key: &key(number), value: b"value", expires_at: None }.encode(&mut record);
    record
}

/// A repair leaves what the primary has: what was sent, and what was written meanwhile. Until its end nothing is missing that the
/// copy had.
#[test]
fn a_repair_removes_what_the_primary_has_not() {
    let version = Version { epoch: 1, count: 5 };
    let scenario = || {
        let mut copy = Copy::new();
        copy.data.repair(slot(), &put(0)).unwrap();
        copy.data.repair(slot(), &put(1)).unwrap();
        let (sent, live) = (put(0), put(2));
        copy.take(&[Item::Cover { slots: single(slot()), version }]).unwrap();
        assert_eq!(copy.data.version(slot()), None, "it differs, and is unknown until the end");
        copy.take(&[Item::Begin { slot: slot(), part: Part::whole(3) }]).unwrap();
        let is_there = copy.has(0) && copy.has(1);
        copy.take(&[
            Item::Effect { slot: slot(), before: version, epoch: 1, continues: false, record: &live },
            Item::Key { slot: slot(), record: &sent },
            Item::End { slot: slot(), version: Some(version.after(crate::topology::Epoch::new(1))) },
        ])
        .unwrap();
        let after = (copy.has(0), copy.has(1), copy.has(2), copy.data.version(slot()));
        is_there && after == (true, false, true, Some(Version { epoch: 1, count: 6 }))
    };
    assert!(scenario());
    for rule in [Rule::RepairInPlace, Rule::SeenLive] {
        rules::remove(Some(rule));
        let is_right = scenario();
        rules::remove(None);
        assert!(!is_right, "{rule:?} changes nothing here");
    }
}

/// A command's effects are taken all at once, and only if all of them may be.
#[test]
fn a_command_is_taken_whole_or_not_at_all() {
    let version = Version::FIRST;
    let mut copy = Copy::new();
    let foreign = Slot::new(16_000).unwrap();
    copy.take(&[Item::Cover { slots: single(slot()), version }]).unwrap();
    let (one, two) = (put(0), put(1));
    let effect = |slot, continues, record| Item::Effect { slot, before: version, epoch: 1, continues, record };
    let refused = copy.take(&[effect(slot(), true, &one), effect(foreign, false, &two)]);
    assert_eq!((refused, copy.has(0), copy.link.received), (Err(CloseReason::Refused), false, 1));
    copy.take(&[effect(slot(), false, &one)]).unwrap();
    assert_eq!((copy.has(0), copy.data.version(slot())), (true, Some(Version { epoch: 1, count: 1 })));
}

/// A stream goes on where it was, and nowhere else; and nothing is acknowledged before it is on disk.
#[test]
fn positions_have_no_gaps() {
    let mut copy = Copy::new();
    copy.take(&[Item::Cover { slots: single(slot()), version: Version { epoch: 9, count: 9 } }]).unwrap();
    assert_eq!(copy.link.acknowledge(Lsn(0)), None, "that it differs is not on disk");
    assert_eq!(copy.link.acknowledge(copy.data.end()), Some(1));
    let of = copy.link.incarnation;
    assert_eq!((copy.link.hello(of, 1), copy.link.start(1, 3)), (Some(1), Err(CloseReason::Protocol)));
    assert_eq!(copy.link.start(1, 2), Ok(()));
    copy.next = 4;
    assert_eq!(copy.take(&[Item::Skip { continues: false }]), Err(CloseReason::Protocol));
    assert_eq!(copy.link.hello(of, 2), None, "another stream");
    assert_eq!(copy.link.hello(Incarnation::new(77), 1), None, "of another life");
}
