//! Connections, and the store.

use super::*;

impl World {
    /// Does what a server wants done.
    pub(super) fn pump(&mut self, node: usize) {
        let now = self.nodes[node].now(self.time_us());
        loop {
            let output = self.nodes[node].replication.next_output();
            let action = self.nodes[node].duty.next_action();
            if output.is_none() && action.is_none() {
                return;
            }
            match output {
                None => {}
                Some(Output::Connect(to)) => self.connect(node, &to.server),
                Some(Output::Send(to, side, bytes)) => self.send(node, &to.server, side, Some(bytes)),
                Some(Output::Close(to, side)) => self.send(node, &to.server, side, None),
                Some(Output::Learned(document)) => self.nodes[node].duty.learned(&document, now.monotonic_us),
            }
            match action {
                None => {}
                Some(Action::Read) => {
                    let boot = self.nodes[node].boot;
                    if !self.cut[node][NODES] {
                        self.answers.push((node, boot, None));
                    }
                }
                Some(Action::CompareAndSet(document)) => {
                    self.proposals.push((node, document));
                    if self.random.one_in(if self.mix.is_store_slow { 8 } else { 400 }) && self.is_trouble {
                        self.crash(node);
                        return;
                    }
                }
                Some(Action::Keep(incarnation)) => {
                    self.nodes[node].directory = Some(incarnation);
                    self.nodes[node].duty.kept(now.monotonic_us);
                }
                Some(Action::Tell(order)) => self.obey(node, order),
            }
        }
    }

    pub(super) fn obey(&mut self, number: usize, order: Told) {
        let node = &mut self.nodes[number];
        let now = node.now(self.time * STEP_US);
        match order {
            Told::Adopt(document) => node.document_changed(&document, now),
            Told::Prepare(document) => {
                let readiness = node.replication.prepare(&document, now, &node.data);
                node.duty.prepared(0, document.revision(), readiness, now.monotonic_us);
            }
            Told::Abandon => node.replication.abandon(&node.data),
            Told::Freeze(slots) => node.replication.freeze(slots, &node.data),
            Told::Thaw => node.replication.thaw(),
        }
    }

    pub(super) fn number_of(&self, server: &str) -> usize {
        self.nodes.iter().position(|node| *node.name == *server).unwrap()
    }

    pub(super) fn connect(&mut self, from: usize, server: &str) {
        let to = self.number_of(server);
        if !self.nodes[to].is_up || self.cut[from][to] || self.cut[to][from] {
            return;
        }
        // What is left of an earlier connection ends when the peer is connected to anew.
        self.break_wire(from, to);
        let mut wire = Wire { is_open: [true; 2], ..Wire::default() };
        wire.decoder.iter_mut().for_each(Decoder::trust);
        self.wires.insert((from, to), wire);
        let peer = core(server);
        let now = self.nodes[from].now(self.time * STEP_US);
        self.nodes[from].replication.connected(&peer, now);
    }

    pub(super) fn send(&mut self, node: usize, server: &str, side: Side, bytes: Option<Vec<u8>>) {
        let other = self.number_of(server);
        let (key, end) = if side == Side::Primary { ((node, other), 0) } else { ((other, node), 1) };
        if let Some(wire) = self.wires.get_mut(&key).filter(|wire| wire.is_open[end]) {
            wire.is_open[end] = bytes.is_some();
            wire.to[1 - end].push_back(bytes);
        }
    }

    /// Delivers some bytes to one end of a connection.
    pub(super) fn deliver(&mut self, from: usize, to: usize, end: usize) {
        let (sender, receiver, side) = if end == 1 { (from, to, Side::Copy) } else { (to, from, Side::Primary) };
        if self.cut[sender][receiver] || !self.nodes[receiver].is_live(self.time) {
            return;
        }
        let Some(wire) = self.wires.get_mut(&(from, to)) else { return };
        let Some(chunk) = wire.to[end].pop_front() else { return };
        if !wire.is_open[end] {
            return;
        }
        let now = self.nodes[receiver].now(self.time * STEP_US);
        let peer = core(&self.nodes[sender].name);
        let Some(mut bytes) = chunk else {
            self.break_wire(from, to);
            return;
        };
        // Bytes come in pieces of any size.
        if 1 < bytes.len() && self.random.one_in(8) {
            let rest = bytes.split_off(1 + self.random.below(bytes.len() - 1));
            wire.to[end].push_front(Some(rest));
        }
        let mut decoder = std::mem::take(&mut wire.decoder[end]);
        decoder.push(&bytes);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => {
                    let Node { replication, data, .. } = &mut self.nodes[receiver];
                    replication.received(&peer, side, &message, now, data);
                }
                Ok(None) => break,
                Err(error) => return self.fail(format!("{error}")),
            }
        }
        if let Some(wire) = self.wires.get_mut(&(from, to)) {
            wire.decoder[end] = decoder;
        }
        self.pump(receiver);
    }

    pub(super) fn store_step(&mut self) {
        if self.proposals.is_empty() {
            return;
        }
        let at = self.random.below(self.proposals.len());
        let (from, document) = self.proposals[at].clone();
        if self.cut[from][NODES] {
            return;
        }
        // Some are done twice.
        if !self.random.one_in(10) {
            self.proposals.swap_remove(at);
        }
        if self.store.revision().next() == document.revision() {
            self.tally_change(&document);
            self.store = document;
        }
        if !self.random.one_in(4) {
            self.answers.push((from, self.nodes[from].boot, Some(self.store.clone())));
        }
    }

    pub(super) fn tally_change(&mut self, after: &Document) {
        self.tally.revisions += 1;
        for &slot in &self.slots {
            let (before, after) = (self.store.copies_of(slot), after.copies_of(slot));
            if before.primary != after.primary {
                *(if after.handed_over { &mut self.tally.hand_overs } else { &mut self.tally.takeovers }) += 1;
            } else {
                self.tally.promotions += u64::from(before.backups.len() < after.backups.len());
                self.tally.demotions += u64::from(after.backups.len() < before.backups.len());
            }
        }
    }

    pub(super) fn answer_step(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let at = self.random.below(self.answers.len());
        let (to, boot, document) = self.answers[at].clone();
        if self.cut[NODES][to] || self.nodes[to].is_up && !self.nodes[to].is_live(self.time) {
            return;
        }
        self.answers.swap_remove(at);
        if !self.nodes[to].is_up || self.nodes[to].boot != boot {
            return;
        }
        let now = self.nodes[to].now(self.time_us());
        // A read is answered with what the store has when it does.
        let document = document.unwrap_or_else(|| self.store.clone());
        if self.random.one_in(10) {
            self.nodes[to].duty.no_answer();
        } else {
            self.nodes[to].duty.read(&document, now.monotonic_us);
        }
        self.pump(to);
    }
}
