//! Clients, and what they may be told.

use super::*;

impl World {
    pub(super) fn client_write(&mut self, node: usize) {
        if 5 <= self.nodes[node].writes.len() {
            return;
        }
        let now = self.nodes[node].now(self.time_us());
        let count = if self.random.one_in(6) { 2 } else { 1 };
        let mut slots: Vec<Slot> = (0..count).map(|_| self.slots[self.random.below(self.slots.len())]).collect();
        slots.dedup();
        let keys: Vec<usize> = slots.iter().map(|_| self.random.below(KEYS)).collect();
        let names: Vec<Vec<u8>> = slots.iter().zip(&keys).map(|(&slot, &key)| key_of(&self.tags, slot, key)).collect();
        let is_removal = self.random.one_in(3);
        let id = self.next_id;
        self.next_id += 1;
        let Some(points) = self.nodes[node].write(&slots, &names, (!is_removal).then_some(id), now) else { return };
        let mut parts = Vec::new();
        for (&slot, &key) in slots.iter().zip(&keys) {
            let version = crate::replication::data::Data::version(&self.nodes[node].data, slot);
            let epoch = self.nodes[node].replication.epoch(slot).unwrap();
            let order = version.map_or((epoch, 0), |version| (version.epoch, version.count));
            self.made.insert((id, slot), order);
            if is_removal {
                self.removals.entry((slot, key)).or_default().insert(order);
            }
            parts.push((slot, key, order, self.seen.get(&(slot, key)).copied().unwrap_or_default()));
        }
        self.nodes[node].writes.push(Write { points, arrived_us: now.monotonic_us, parts });
    }

    pub(super) fn client_read(&mut self, node: usize) {
        let (slot, key) = (self.slots[self.random.below(self.slots.len())], self.random.below(KEYS));
        if self.nodes[node].reads.len() < 3 && self.nodes[node].replication.is_primary(slot) {
            let floor = self.seen.get(&(slot, key)).copied().unwrap_or_default();
            let arrived_us = self.nodes[node].now(self.time_us()).monotonic_us;
            self.nodes[node].reads.push(Read { slot, key, floor, arrived_us, found: None });
        }
    }

    pub(super) fn see(&mut self, slot: Slot, key: usize, order: Order, is_write: bool) {
        let seen = self.seen.entry((slot, key)).or_default();
        *seen = order.max(*seen);
        self.served.insert((slot, is_write));
    }

    /// Replies that may leave do.
    pub(super) fn reply(&mut self, node: usize) {
        let writes = std::mem::take(&mut self.nodes[node].writes);
        for write in writes {
            let fates: Vec<Fate> =
                write.points.iter().map(|&point| self.nodes[node].fate(point, write.arrived_us)).collect();
            if fates.contains(&Fate::Waits) {
                self.nodes[node].writes.push(write);
            } else if fates.iter().all(|fate| *fate == Fate::Leaves) {
                self.tally.writes += 1;
                for (slot, key, order, floor) in write.parts {
                    if order <= floor {
                        self.fail(format!("a write of {slot}/{key} at {order:?}, where {floor:?} had been seen"));
                    }
                    self.see(slot, key, order, true);
                }
            }
        }
        let reads = std::mem::take(&mut self.nodes[node].reads);
        for read in reads {
            let Some((value, point)) = read.found else {
                self.nodes[node].reads.push(read);
                continue;
            };
            match self.nodes[node].fate(point, read.arrived_us) {
                Fate::Waits => self.nodes[node].reads.push(read),
                Fate::Fails => {}
                Fate::Leaves => self.reply_read(&read, value),
            }
        }
    }

    pub(super) fn reply_read(&mut self, read: &Read, value: Option<u32>) {
        let &Read { slot, key, floor, .. } = read;
        self.tally.reads += 1;
        let order = match value {
            Some(id) => self.made[&(id, slot)],
            None => {
                let removals = self.removals.get(&(slot, key));
                removals.and_then(|orders| orders.range(floor..).next().copied()).unwrap_or_default()
            }
        };
        if order < floor {
            self.fail(format!("a read of {slot}/{key} saw {value:?} at {order:?}, where {floor:?} had been seen"));
        }
        self.see(slot, key, order, false);
    }
}
