//! A store of the simulation: maps, with a log that can be torn.

use std::collections::BTreeMap;

use super::super::{
    data::{BadRecord, Change, Data},
    rules::{Rule, holds},
    version::Version,
};
use crate::{
    slot::Slot,
    wal::{Lsn, Record},
};

#[derive(Clone, Debug)]
enum Op {
    Apply(Vec<(Slot, Vec<u8>, Option<Version>)>),
    Repair(Slot, Vec<u8>),
    SetVersion(Slot, Option<Version>),
}

#[derive(Clone, Debug)]
pub(super) struct Copy {
    version: Option<Version>,
    /// Of each key, its value and the end of its last change.
    keys: BTreeMap<Vec<u8>, (Option<Vec<u8>>, Lsn)>,
}

impl Default for Copy {
    fn default() -> Self {
        Self { version: Some(Version::FIRST), keys: BTreeMap::new() }
    }
}

/// Keys and their log. A position is the number of operations before it.
#[derive(Clone, Debug, Default)]
pub(in crate::replication) struct MapData {
    log: Vec<Op>,
    pub(super) synced: usize,
    slots: BTreeMap<Slot, Copy>,
}

impl MapData {
    /// Returns what is there after a crash: what was synced, and some of what was not.
    pub(in crate::replication) fn after_crash(&self, kept: usize) -> Self {
        let mut after = Self::default();
        for op in &self.log[..self.synced + kept] {
            after.log.push(op.clone());
            after.replay(op.clone());
        }
        after.synced = after.log.len();
        let end = after.end();
        after.slots.values_mut().flat_map(|copy| copy.keys.values_mut()).for_each(|(_, last)| *last = end);
        after
    }

    pub(in crate::replication) fn unsynced(&self) -> usize {
        self.log.len() - self.synced
    }

    pub(in crate::replication) fn get(&self, slot: Slot, key: &[u8]) -> (Option<Vec<u8>>, Lsn) {
        self.slots.get(&slot).and_then(|copy| copy.keys.get(key)).cloned().unwrap_or_default()
    }

    fn log(&mut self, op: Op) {
        self.log.push(op.clone());
        self.replay(op);
    }

    fn replay(&mut self, op: Op) {
        match op {
            Op::Apply(changes) => {
                for (slot, record, version) in changes {
                    self.put(slot, &record);
                    self.slots.entry(slot).or_default().version = version;
                }
            }
            Op::Repair(slot, record) => self.put(slot, &record),
            Op::SetVersion(slot, version) => self.slots.entry(slot).or_default().version = version,
        }
    }

    fn put(&mut self, slot: Slot, record: &[u8]) {
        let end = self.end();
        let (key, value) = match Record::decode(record) {
            Ok(Some((Record::Put { key, value, .. }, _))) => (key, Some(value.to_vec())),
            Ok(Some((Record::Remove { key }, _))) => (key, None),
            other => panic!("{other:?}"),
        };
        self.slots.entry(slot).or_default().keys.insert(key.to_vec(), (value, end));
    }
}

fn encode(record: Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

impl Data for MapData {
    fn version(&self, slot: Slot) -> Option<Version> {
        self.slots.get(&slot).map_or(Some(Version::FIRST), |copy| copy.version)
    }

    fn set_version(&mut self, slot: Slot, version: Option<Version>) {
        if version.is_none() && !holds(Rule::UnknownIsLogged) {
            self.slots.entry(slot).or_default().version = None;
            return;
        }
        self.log(Op::SetVersion(slot, version));
    }

    fn apply(&mut self, changes: &[Change<'_>]) -> Result<(), BadRecord> {
        let owned = changes.iter().map(|change| (change.slot, change.record.to_vec(), change.version));
        self.log(Op::Apply(owned.collect()));
        Ok(())
    }

    fn repair(&mut self, slot: Slot, record: &[u8]) -> Result<(), BadRecord> {
        self.log(Op::Repair(slot, record.to_vec()));
        Ok(())
    }

    fn each_key(&self, slot: Slot, record: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), BadRecord> {
        match Record::decode(record) {
            Ok(Some((Record::Put { key, .. } | Record::Remove { key }, _))) if Slot::of(key) == slot => {
                each(key);
                Ok(())
            }
            _ => Err(BadRecord),
        }
    }

    fn walk(&self, slot: Slot, cursor: u64, each: &mut dyn FnMut(&[u8], &[u8])) -> Option<u64> {
        let copy = self.slots.get(&slot)?;
        let (key, (value, _)) = copy.keys.iter().nth(cursor as usize)?;
        if let Some(value) = value {
            each(key, &encode(Record::Put { key, value, expires_at: None }));
        }
        Some(cursor + 1)
    }

    fn keys(&self, slot: Slot) -> u64 {
        self.slots.get(&slot).map_or(0, |copy| copy.keys.values().filter(|(value, _)| value.is_some()).count() as u64)
    }

    fn retain(&mut self, slot: Slot, is_kept: &mut dyn FnMut(&[u8]) -> bool) {
        let keys: Vec<Vec<u8>> = self.slots.get(&slot).map_or(Vec::new(), |copy| {
            copy.keys.iter().filter(|(_, (value, _))| value.is_some()).map(|(key, _)| key.clone()).collect()
        });
        for key in keys.iter().filter(|key| !is_kept(key)) {
            self.log(Op::Repair(slot, encode(Record::Remove { key })));
        }
    }

    fn end(&self) -> Lsn {
        Lsn(self.log.len() as u64)
    }
}
