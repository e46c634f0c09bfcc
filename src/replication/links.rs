//! Messages of links, and what is due on them.

use std::sync::Arc;

use super::{
    core::{Output, Replication, Side},
    data::Data,
    incoming::{Incoming, View},
    message::{CloseReason, Message, Peer},
    outgoing::{BACKLOG_BYTES, Connection},
    rules::{Rule, holds},
    slots::first,
};
use crate::{
    time::Now,
    topology::document::{CoreId, Document, Revision},
};

/// The time until a link that has broken is connected again.
const RETRY_US: u64 = 50_000;

/// The time without a word from a copy's core after which it is connected to anew, in leases.
const SILENT_LEASES: u64 = 3;

/// The time for which a core's disk may leave what was written unsynced, before the core sends no more heartbeats: its disk is
/// stuck, and another server is to take over.
const STUCK_DISK_US: u64 = 2_000_000;

impl Replication {
    fn peer(&self) -> Option<Peer<'_>> {
        let revision = self.document.as_ref().map_or(Revision::new(0), |document| document.revision());
        Some(Peer {
            server: &self.me.core.server,
            core: self.me.core.core,
            incarnation: self.me.incarnation?,
            revision,
        })
    }

    fn revision(&self) -> u64 {
        self.document.as_ref().map_or(0, |document| document.revision().number())
    }

    fn link(&self, to: &CoreId) -> Option<usize> {
        self.outgoing.iter().position(|link| link.to() == to)
    }

    /// Notes that a core has been connected to, as [`Output::Connect`] asked for, and that both ends have proved the secret.
    pub fn connected(&mut self, to: &CoreId, now: Now) {
        let Some(link) = self.link(to) else { return };
        self.outgoing[link].heard_us = now.monotonic_us;
        self.outgoing[link].connection = Connection::Greeting;
        let stream = self.outgoing[link].stream();
        let Some(peer) = self.peer() else { return };
        let mut bytes = Vec::new();
        Message::Hello { peer, stream }.encode(&mut bytes);
        self.outputs.push_back(Output::Send(to.clone(), Side::Primary, bytes));
    }

    /// Notes that the connection of a link has broken, or could not be made.
    pub fn broken(&mut self, core: &CoreId, side: Side, now: Now) {
        match side {
            Side::Primary => {
                if let Some(link) = self.link(core) {
                    self.outgoing[link].broken(now.monotonic_us + RETRY_US);
                }
            }
            Side::Copy => {
                if let Some(link) = self.incoming.get_mut(core) {
                    link.broken();
                }
            }
        }
    }

    /// Takes a message of a core that has proved the secret.
    pub fn received(&mut self, from: &CoreId, side: Side, message: &Message<'_>, now: Now, data: &mut impl Data) {
        let outcome = match (side, message) {
            (_, Message::Document(text)) => self.learn(text, now, data),
            (_, Message::Close(_)) => {
                self.outputs.push_back(Output::Close(from.clone(), side));
                self.broken(from, side, now);
                Ok(())
            }
            (Side::Copy, _) => self.copy_received(from, message, now, data),
            (Side::Primary, _) => self.primary_received(from, message, now, data),
        };
        if let Err(reason) = outcome {
            if reason == CloseReason::Refused {
                self.send_document(from, side);
            }
            self.close(from, side, reason, now);
        }
    }

    /// Takes the text of a document that a peer knows.
    fn learn(&mut self, text: &str, now: Now, data: &mut impl Data) -> Result<(), CloseReason> {
        let revision = Document::revision_of(text).map_err(|_| CloseReason::Protocol)?;
        // Nothing is learned before the server has read the store itself: it has to take a new epoch first.
        if self.document.is_some() && self.revision() < revision.number() {
            let document = Arc::new(Document::from_toml(text).map_err(|_| CloseReason::Protocol)?);
            self.outputs.push_back(Output::Learned(document.clone()));
            // The slots that are lost by it are told to the sessions with the next adoption that the server asks for.
            self.lost = self.adopt(&document, now, data);
        }
        Ok(())
    }

    fn send_document(&mut self, to: &CoreId, side: Side) {
        if let Some(document) = self.document.clone() {
            self.send(to, side, &Message::Document(&document.to_toml()));
        }
    }

    /// Sends the newest document to every peer that may not know it.
    pub(super) fn tell_document(&mut self) {
        let revision = self.revision();
        for link in 0..self.outgoing.len() {
            if self.outgoing[link].connection == Connection::Up && self.outgoing[link].told < revision {
                self.outgoing[link].told = revision;
                let to = self.outgoing[link].to().clone();
                self.send_document(&to, Side::Primary);
            }
        }
    }

    fn copy_received(
        &mut self,
        from: &CoreId,
        message: &Message<'_>,
        now: Now,
        data: &mut impl Data,
    ) -> Result<(), CloseReason> {
        let Some(document) = self.document.clone() else { return Err(CloseReason::Stranger) };
        if self.deposed.as_ref() == Some(&from.server) && holds(Rule::FreezeDeposed) {
            return Err(CloseReason::Frozen);
        }
        if let Message::Hello { peer, stream } = message {
            return self.hello(from, peer, *stream);
        }
        let revision = self.revision();
        let link = self.incoming.get_mut(from).filter(|link| link.is_up).ok_or(CloseReason::Protocol)?;
        let incarnation = link.incarnation;
        match message {
            Message::Start { stream, next } => link.start(*stream, *next)?,
            Message::Items(items) => {
                let mut answers = Vec::new();
                let view = View { document: &document, me: &self.me };
                let outcome = link.items(*items, &view, data, &mut |message| message.encode(&mut answers));
                if !answers.is_empty() {
                    self.outputs.push_back(Output::Send(from.clone(), Side::Copy, answers));
                }
                outcome?;
                self.grants.note_heard(from, incarnation, now.monotonic_us);
            }
            Message::Heartbeat { sent_us, revision: theirs, unix_millis } => {
                link.clock_millis = link.clock_millis.max(*unix_millis);
                let position = link.acknowledged();
                if theirs.number() == revision || !holds(Rule::GrantToNewest) {
                    self.grants.note_heard(from, incarnation, now.monotonic_us);
                    self.grants.note_granted(from, incarnation, now.monotonic_us);
                    if let Some(incarnation) = self.me.incarnation {
                        let grant_us = Some(*sent_us);
                        self.send(from, Side::Copy, &Message::Acknowledge { incarnation, position, grant_us });
                    }
                } else if link.told < revision {
                    link.told = revision;
                    self.send_document(from, Side::Copy);
                }
            }
            _ => return Err(CloseReason::Protocol),
        }
        self.acknowledge();
        Ok(())
    }

    fn hello(&mut self, from: &CoreId, peer: &Peer<'_>, stream: u64) -> Result<(), CloseReason> {
        if (peer.server, peer.core) != (&*from.server, from.core) {
            return Err(CloseReason::Stranger);
        }
        let revision = self.revision();
        if peer.revision.number() < revision {
            self.send_document(from, Side::Copy);
        }
        let link = self.incoming.entry(from.clone()).or_insert_with(|| Incoming::new(from, peer.incarnation));
        let received = link.hello(peer.incarnation, stream);
        link.told = revision;
        let Some(peer) = self.peer() else { return Err(CloseReason::Stranger) };
        let mut bytes = Vec::new();
        Message::Welcome { peer, received }.encode(&mut bytes);
        self.outputs.push_back(Output::Send(from.clone(), Side::Copy, bytes));
        Ok(())
    }

    /// Acknowledges what has become durable.
    pub(super) fn acknowledge(&mut self) {
        let Some(incarnation) = self.me.incarnation else { return };
        let mut messages = Vec::new();
        for (core, link) in &mut self.incoming {
            let is_frozen = self.deposed.as_ref() == Some(&core.server) && holds(Rule::FreezeDeposed);
            if link.is_up && !is_frozen {
                messages.extend(link.acknowledge(self.persisted).map(|position| (core.clone(), position)));
            }
        }
        for (core, position) in messages {
            self.send(&core, Side::Copy, &Message::Acknowledge { incarnation, position, grant_us: None });
        }
    }

    fn primary_received(
        &mut self,
        from: &CoreId,
        message: &Message<'_>,
        now: Now,
        data: &mut impl Data,
    ) -> Result<(), CloseReason> {
        let number = self.link(from).ok_or(CloseReason::Protocol)?;
        let connection = self.outgoing[number].connection;
        self.outgoing[number].heard_us = now.monotonic_us;
        match message {
            Message::Welcome { peer, received } if connection == Connection::Greeting => {
                if (peer.server, peer.core) != (&*from.server, from.core) {
                    return Err(CloseReason::Stranger);
                }
                let stream = self.random.u64(..);
                if !self.outgoing[number].welcome(peer, *received) {
                    self.outgoing[number].reset(stream);
                }
                self.tell_document();
                let start = self.outgoing[number].start();
                self.send(from, Side::Primary, &start);
                self.outgoing[number].heartbeat_us = 0;
                self.settle_link(number, data);
            }
            Message::Compared { position, slots, comparison } if connection == Connection::Up => {
                let range = *slots;
                let is_waited_for = self.waited(first(range)).any(|(link, _)| link.to() == from);
                self.outgoing[number].compared(*position, range, *comparison, |_| is_waited_for);
            }
            Message::Acknowledge { incarnation, position, grant_us } if connection == Connection::Up => {
                let link = &mut self.outgoing[number];
                if link.incarnation() != Some(*incarnation) {
                    return Err(CloseReason::Stranger);
                }
                link.acknowledge(*position, now.monotonic_us);
                if let Some(sent_us) = grant_us {
                    let from_us = if holds(Rule::LeaseFromSent) { *sent_us } else { now.monotonic_us };
                    // A peer cannot have heard what was not said yet.
                    link.lease.renew(*incarnation, from_us.min(now.monotonic_us));
                }
                self.note_progress();
            }
            _ => return Err(CloseReason::Protocol),
        }
        Ok(())
    }

    /// Does what is due, at the end of a turn: heartbeats, repairs, and what is to be sent. Returns true if there is more to do at
    /// once. `unsynced_since_us`: since when something waits to be on disk; `None`: nothing does.
    pub fn turn(&mut self, unsynced_since_us: Option<u64>, now: Now, data: &impl Data) -> bool {
        self.is_awake = self.grants.look(now.monotonic_us);
        let is_disk_alive = unsynced_since_us.is_none_or(|us| now.monotonic_us < us + STUCK_DISK_US);
        let mut has_more = false;
        for number in 0..self.outgoing.len() {
            let to = self.outgoing[number].to().clone();
            let link = &mut self.outgoing[number];
            if 2 * BACKLOG_BYTES < link.kept_bytes() && link.connection == Connection::Down {
                link.reset(self.random.u64(..));
            }
            match self.outgoing[number].connection {
                Connection::Down => self.connect(number, &to, now),
                // A connection can be dead for minutes before anybody is told.
                _ if self.is_awake
                    && self.outgoing[number].heard_us + SILENT_LEASES * self.timing.lease_us <= now.monotonic_us =>
                {
                    self.outputs.push_back(Output::Close(to.clone(), Side::Primary));
                    self.broken(&to, Side::Primary, now);
                }
                Connection::Greeting => {}
                Connection::Up => {
                    if self.outgoing[number].was_refused {
                        self.settle_link(number, data);
                    }
                    let seed = self.random.u64(..);
                    has_more |= self.outgoing[number].repair(data, seed);
                    self.flush(number, &to, is_disk_alive, now);
                }
            }
        }
        has_more
    }

    fn connect(&mut self, number: usize, to: &CoreId, now: Now) {
        if self.outgoing[number].retry_us <= now.monotonic_us && self.is_needed(to) {
            self.outgoing[number].retry_us = now.monotonic_us + RETRY_US;
            self.outputs.push_back(Output::Connect(to.clone()));
        }
    }

    fn flush(&mut self, number: usize, to: &CoreId, is_disk_alive: bool, now: Now) {
        let revision = Revision::new(self.revision());
        let link = &mut self.outgoing[number];
        let mut bytes = Vec::new();
        if link.heartbeat_us <= now.monotonic_us && is_disk_alive {
            link.heartbeat_us = now.monotonic_us + self.timing.heartbeat_us();
            let (sent_us, unix_millis) = (now.monotonic_us, now.unix_millis().0);
            Message::Heartbeat { sent_us, revision, unix_millis }.encode(&mut bytes);
        }
        link.flush(|message| message.encode(&mut bytes));
        if !bytes.is_empty() {
            self.outputs.push_back(Output::Send(to.clone(), Side::Primary, bytes));
        }
    }

    /// Returns the servers of which this core has heard nothing for the grace, of those that are primaries of slots which this
    /// core has in sync. None after a pause of this core: what has arrived meanwhile is read first.
    pub fn suspects(&self, now: Now) -> Vec<Arc<str>> {
        let is_silent = |((copy, _), since): &(&(crate::topology::document::CopyId, u64), &u64)| {
            self.grants.silent_from_us(&copy.core, copy.incarnation, **since) <= now.monotonic_us
        };
        let silent = self.expected_us.iter().filter(|_| self.is_awake).filter(is_silent);
        let mut servers: Vec<Arc<str>> = silent.map(|((copy, _), _)| copy.core.server.clone()).collect();
        servers.retain(|server| *server != self.me.core.server);
        servers.dedup();
        servers
    }
}
