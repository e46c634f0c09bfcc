//! Faults, and changes that people ask for.

use super::*;

impl World {
    /// Asks for what placement wants.
    pub(super) fn place(&mut self) {
        let alive = self.store.members().iter().map(|member| member.server.name.as_str().into()).collect();
        let steps = placement::next_steps(&self.store, &placement::wanted(&self.store, &alive));
        for step in steps {
            if let Step::AddJoining { slots, .. } | Step::DropCopy { slots, .. } | Step::NamePrimary { slots, .. } =
                step
            {
                let primary = &self.store.copies_of(Slot::new(slots.first()).unwrap()).primary.core.server;
                if let Some(node) = self.nodes.iter_mut().find(|node| *node.name == **primary) {
                    node.duty.ask(step);
                }
            }
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        if !self.nodes[node].is_up {
            return;
        }
        let unsynced = self.nodes[node].data.unsynced();
        let kept = self.random.below(unsynced + 1);
        self.nodes[node].crash(kept);
        self.tally.crashes += 1;
        for other in 0..NODES {
            self.break_wire(node, other);
            self.break_wire(other, node);
        }
    }

    pub(super) fn break_wire(&mut self, from: usize, to: usize) {
        let Some(wire) = self.wires.remove(&(from, to)) else { return };
        self.tally.breaks += 1;
        for (end, node, peer, side) in [(0, from, to, Side::Primary), (1, to, from, Side::Copy)] {
            if wire.is_open[end] && self.nodes[node].is_up {
                let (now, peer) = (self.nodes[node].now(self.time * STEP_US), core(&self.nodes[peer].name));
                self.nodes[node].replication.broken(&peer, side, now);
            }
        }
    }

    /// Something goes wrong.
    pub(super) fn trouble(&mut self) {
        let mix = self.mix;
        let (one, other) = (self.random.below(NODES), self.random.below(NODES));
        if self.random.one_in(mix.crash) {
            self.crash(one);
        }
        if self.random.one_in(mix.pause) {
            self.nodes[one].paused_until = self.time + 5 + self.random.below(2 * mix.lease as usize) as u64;
        }
        if self.random.one_in(mix.breaks) {
            self.break_wire(one, other);
        }
        if self.random.one_in(mix.cut) {
            self.change_cuts();
        }
        let down = (0..NODES).find(|&node| !self.nodes[node].is_up).filter(|_| self.random.one_in(60));
        if let Some(down) = down {
            self.start(down);
        }
        if self.random.one_in(mix.lost_disk) {
            self.lose_disk(one);
        }
        if self.random.one_in(mix.moves) {
            self.ask_for_a_move(one);
        }
    }

    pub(super) fn change_cuts(&mut self) {
        match self.random.below(6) {
            0 | 1 => self.cut = Default::default(),
            2 | 3 => {
                let node = self.random.below(NODES);
                for other in (0..=NODES).filter(|&other| other != node) {
                    (self.cut[node][other], self.cut[other][node]) = (true, true);
                }
            }
            _ => {
                let (one, other) = (self.random.below(NODES + 1), self.random.below(NODES + 1));
                self.cut[one][other] = true;
                self.cut[other][one] = self.random.one_in(2);
            }
        }
    }

    /// A disk is lost while another copy of everything on it is in sync.
    pub(super) fn lose_disk(&mut self, node: usize) {
        if self.nodes[node].is_up || !self.proposals.is_empty() {
            return;
        }
        let is_elsewhere = self.store.ranges().iter().all(|range| {
            let has_it = |server: &str, of: &Node| *of.name == *server;
            let mut in_sync = range.copies.in_sync();
            let is_here = range.copies.in_sync().any(|copy| has_it(&copy.core.server, &self.nodes[node]));
            !is_here
                || in_sync.any(|copy| {
                    let other = self.nodes.iter().find(|other| has_it(&copy.core.server, other)).unwrap();
                    other.name != self.nodes[node].name
                        && copy.incarnation.is_some()
                        && copy.incarnation == other.directory
                })
        });
        if is_elsewhere {
            self.nodes[node].data = super::super::data::MapData::default();
            self.nodes[node].directory = None;
            self.tally.disks_lost += 1;
        }
    }

    pub(super) fn ask_for_a_move(&mut self, node: usize) {
        let range = self.store.ranges()[self.random.below(self.store.ranges().len())].clone();
        let cut = range.slots.first() + self.random.below(usize::from(range.slots.len())) as u16;
        let slots = if self.random.one_in(3) { SlotRange::new(cut, range.slots.last()).unwrap() } else { range.slots };
        let core = core(&self.nodes[self.random.below(NODES)].name.clone());
        let step = match self.random.below(6) {
            0 | 1 => Step::NamePrimary { slots, core },
            2 if 1 < range.copies.backups.len() => Step::DropCopy { slots, core },
            _ => Step::AddJoining { slots, core },
        };
        if *range.copies.primary.core.server == *self.nodes[node].name {
            self.nodes[node].duty.ask(step);
        }
    }
}
