//! A server of the simulation: one core, and what its server does about the document.

use std::sync::Arc;

use super::super::{
    Duty, Effect, Replication,
    commit::{Fate, Gate, Point},
    data::{Change, Data},
    lease::Timing,
    rules::{Rule, holds},
    version::Version,
};
use super::data::MapData;
use crate::{
    slot::Slot,
    time::Now,
    topology::document::{CopyId, CoreId, Incarnation},
    wal::{Lsn, Record},
};

/// The order of writes of a key: where their effects stand.
pub(super) type Order = (u64, u64);

/// A write that has been executed.
pub(super) struct Write {
    pub(super) points: Vec<Point>,
    pub(super) arrived_us: u64,
    /// Of each key: the slot, the key, the write's place, and what had been seen of the key when the write arrived.
    pub(super) parts: Vec<(Slot, usize, Order, Order)>,
}

/// A read, and what it found once it has been executed.
pub(super) struct Read {
    pub(super) slot: Slot,
    pub(super) key: usize,
    pub(super) floor: Order,
    pub(super) arrived_us: u64,
    pub(super) found: Option<(Option<u32>, Point)>,
}

pub(super) struct Node {
    pub(super) name: String,
    pub(super) is_up: bool,
    pub(super) paused_until: u64,
    pub(super) boot: u32,
    /// Its clock: an offset, and a rate in percent.
    pub(super) clock: (u64, u64),
    pub(super) data: MapData,
    /// The incarnation in its directory.
    pub(super) directory: Option<Incarnation>,
    pub(super) replication: Replication,
    pub(super) duty: Duty,
    pub(super) writes: Vec<Write>,
    pub(super) reads: Vec<Read>,
}

pub(super) fn core(name: &str) -> CoreId {
    CoreId::new(name, 0)
}

impl Node {
    pub(super) fn new(number: usize, clock: (u64, u64), timing: Timing, seed: u64) -> Self {
        let name = format!("s{number}");
        let me = CopyId { core: core(&name), incarnation: None };
        let now = Now { unix_us: clock.0, monotonic_us: clock.0 };
        Self {
            replication: Replication::new(me, timing, now, seed),
            duty: Duty::new(&name, 1, None, Incarnation::new(seed | 1)),
            name,
            is_up: false,
            paused_until: 0,
            boot: 0,
            clock,
            data: MapData::default(),
            directory: None,
            writes: Vec::new(),
            reads: Vec::new(),
        }
    }

    pub(super) fn now(&self, time_us: u64) -> Now {
        let us = self.clock.0 + time_us * self.clock.1 / 100;
        Now { unix_us: us, monotonic_us: us }
    }

    pub(super) fn start(&mut self, time_us: u64, timing: Timing, seed: u64) {
        let me = CopyId { core: core(&self.name), incarnation: None };
        self.replication = Replication::new(me, timing, self.now(time_us), seed);
        self.duty = Duty::new(&self.name, 1, self.directory, Incarnation::new(seed | 1));
        self.replication.persisted(Lsn(self.data.synced as u64));
        (self.is_up, self.boot) = (true, self.boot + 1);
    }

    pub(super) fn crash(&mut self, kept: usize) {
        self.data = self.data.after_crash(kept);
        (self.is_up, self.paused_until) = (false, 0);
        self.writes.clear();
        self.reads.clear();
    }

    /// Executes a write of one key of each of these slots, in one command. Returns the places of its effects.
    pub(super) fn write(
        &mut self,
        slots: &[Slot],
        keys: &[Vec<u8>],
        value: Option<u32>,
        now: Now,
    ) -> Option<Vec<Point>> {
        if !slots.iter().all(|&slot| self.replication.gate(slot, now) == Gate::Open) {
            return None;
        }
        let text = value.map(|value| value.to_string());
        let mut records = Vec::new();
        for key in keys {
            let mut record = Vec::new();
            match &text {
                Some(text) => Record::Put { key, value: text.as_bytes(), expires_at: None },
                None => Record::Remove { key },
            }
            .encode(&mut record);
            records.push(record);
        }
        let mut effects: Vec<(Slot, Version, u64)> = Vec::new();
        for &slot in slots {
            let epoch = self.replication.epoch(slot)?;
            // Only the removal of a rule leaves a primary without a version.
            let before = self.data.version(slot).unwrap_or(Version { epoch, count: 0 });
            effects.push((slot, before, epoch));
        }
        let changes: Vec<Change<'_>> = effects
            .iter()
            .zip(&records)
            .map(|(&(slot, before, epoch), record)| {
                let version = self.data.version(slot).map(|_| Version { epoch, count: before.count + 1 });
                Change { slot, record, version }
            })
            .collect();
        self.data.apply(&changes).expect("its own records make sense");
        let end = self.data.end();
        let told: Vec<Effect<'_>> = effects
            .iter()
            .zip(&records)
            .map(|(&(slot, before, _), record)| Effect { slot, before, record, end })
            .collect();
        self.replication.effects(&told, now);
        Some(slots.iter().map(|&slot| self.replication.point(slot, end)).collect())
    }

    /// Executes a read that has arrived.
    pub(super) fn execute_read(&mut self, now: Now, key_of: impl Fn(Slot, usize) -> Vec<u8>) {
        let Some(at) = self.reads.iter().position(|read| read.found.is_none()) else { return };
        let (slot, key) = (self.reads[at].slot, self.reads[at].key);
        match self.replication.gate(slot, now) {
            Gate::Open => {
                let (value, last) = self.data.get(slot, &key_of(slot, key));
                let value = value.map(|text| String::from_utf8(text).unwrap().parse().unwrap());
                self.reads[at].found = Some((value, self.replication.point(slot, last)));
            }
            Gate::Elsewhere => _ = self.reads.remove(at),
            Gate::NotNow(_) => {}
        }
    }

    pub(super) fn fate(&self, point: Point, arrived_us: u64) -> Fate {
        self.replication.fate(point, if holds(Rule::LeaseAfterArrival) { arrived_us } else { 0 })
    }

    pub(super) fn is_live(&self, time: u64) -> bool {
        self.is_up && self.paused_until <= time
    }

    pub(super) fn document_changed(&mut self, document: &Arc<crate::topology::document::Document>, now: Now) {
        if self.replication.document().is_none() {
            self.replication.begin(self.duty.incarnation().expect("it has begun"));
        }
        self.replication.adopt(document, now, &mut self.data);
    }

    pub(super) fn describe(&self, now: Now, slots: &[Slot]) -> String {
        let gates: Vec<_> =
            slots.iter().map(|&slot| (slot, self.replication.gate(slot, now), self.data.version(slot))).collect();
        let links: Vec<String> = self.replication.links().iter().map(|link| link.describe()).collect();
        format!("{} {gates:?}\n  {links:#?}\n  {:?}\n  wishes {:?}", self.name, self.duty, self.replication.wishes(now))
    }
}
