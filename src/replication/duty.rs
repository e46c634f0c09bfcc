//! A server's part in replication, once for all its cores: it starts, takes over from servers that are silent, hands over,
//! and takes copies in and out of sync. Each is one change of the document, proposed by compare-and-set.
//!
//! A change goes through three stages. **Prepare**: every core is asked ([`Order::Prepare`]) and acts as if the change were
//! proposed already. **Propose**: the store is asked. **Pending**: until a document with its revision or a later one has been read,
//! nobody knows the outcome, an error and a missing answer mean nothing, and the same is proposed again. One change at a time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    proposals::Readiness,
    rules::{Rule, holds},
};
use crate::topology::{
    document::{CoreId, Document, Incarnation, Revision, SlotRange},
    steps::Step,
};

/// The time for which suspicions are gathered: the cores of a server that died fall silent within moments of each other.
const GATHER_US: u64 = 20_000;

/// The time between two reads of the store while something is pending.
const PENDING_READ_US: u64 = 100_000;

/// The time between two reads of the store at rest, for what a watch has missed.
const IDLE_READ_US: u64 = 1_000_000;

/// The time that a hand-over may take before its slots execute again: its clients wait.
const HAND_OVER_US: u64 = 1_000_000;

/// The most changes that wait to be made; more are refused, and asked for again by who wants them.
const ASKED_MAX: usize = 64;

/// An order to every core of the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// [`Replication::adopt`](super::Replication::adopt).
    Adopt(Arc<Document>),
    /// [`Replication::prepare`](super::Replication::prepare); each answers with [`Duty::prepared`].
    Prepare(Arc<Document>),
    /// [`Replication::abandon`](super::Replication::abandon).
    Abandon,
    /// [`Replication::freeze`](super::Replication::freeze).
    Freeze(SlotRange),
    /// [`Replication::thaw`](super::Replication::thaw).
    Thaw,
}

/// An instruction to the driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read the store, and say [`Duty::read`] or [`Duty::no_answer`].
    Read,
    /// Put this document in place of the one before it, if the store has that one. Then as for [`Action::Read`]: the document that
    /// the store has then is what counts.
    CompareAndSet(Arc<Document>),
    /// Keep this incarnation in the data directory, synced, and say [`Duty::kept`].
    Keep(Incarnation),
    /// Tell every core.
    Tell(Order),
}

/// A change that is under way.
#[derive(Debug)]
struct Change {
    document: Arc<Document>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// These cores are not ready yet.
    Preparing(BTreeSet<u16>),
    Pending,
}

/// A hand-over that is under way.
#[derive(Debug)]
struct HandOver {
    slots: SlotRange,
    core: CoreId,
    ends_us: u64,
}

/// A server's part in replication.
#[derive(Debug)]
pub struct Duty {
    server: Arc<str>,
    cores: u16,
    /// The life of the data that the server has.
    incarnation: Option<Incarnation>,
    /// For a life that begins now.
    drawn: Incarnation,
    is_keeping: bool,
    document: Option<Arc<Document>>,
    /// The revision that the store had when the server began: epochs of its ranges must be later.
    began: Option<Revision>,
    is_serving: bool,
    change: Option<Change>,
    suspected_us: BTreeMap<Arc<str>, u64>,
    asked: VecDeque<Step>,
    hand_over: Option<HandOver>,
    read_us: u64,
    /// The time at which the store last answered.
    answered_us: Option<u64>,
    ask_again_us: u64,
    actions: VecDeque<Action>,
}

impl Duty {
    /// Returns the part of a server that starts. `kept`: the incarnation in its directory, if **everything** is there that was
    /// acknowledged in it: after a crash only where every acknowledgement was synced. `drawn`: 64 random bits from the operating
    /// system, for a life that begins now.
    pub fn new(server: &str, cores: u16, kept: Option<Incarnation>, drawn: Incarnation) -> Self {
        Self {
            server: server.into(),
            cores,
            incarnation: kept,
            drawn,
            is_keeping: false,
            document: None,
            began: None,
            is_serving: false,
            change: None,
            suspected_us: BTreeMap::new(),
            asked: VecDeque::new(),
            hand_over: None,
            read_us: 0,
            answered_us: None,
            ask_again_us: 0,
            actions: VecDeque::new(),
        }
    }

    /// Returns the next instruction to the driver.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns the life of the data that the server has: cores need it before they are told of the first document.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.incarnation
    }

    /// Returns true once the cores act by a document.
    pub fn is_serving(&self) -> bool {
        self.is_serving
    }

    /// Returns true if a hand-over is under way.
    pub fn is_handing_over(&self) -> bool {
        self.hand_over.is_some()
    }

    /// Asks for a change that people or placement want. [`Step::NamePrimary`] is a hand-over. Returns false if too many wait.
    pub fn ask(&mut self, step: Step) -> bool {
        let has_room = self.asked.len() < ASKED_MAX;
        if has_room {
            self.asked.push_back(step);
        }
        has_room
    }

    /// Notes that the incarnation is in the directory.
    pub fn kept(&mut self, now_us: u64) {
        if std::mem::take(&mut self.is_keeping) {
            self.incarnation = Some(self.drawn);
            self.start(now_us);
        }
    }

    /// Takes the document that the store has.
    pub fn read(&mut self, document: &Arc<Document>, now_us: u64) {
        self.answered_us = Some(now_us);
        self.learned(document, now_us);
    }

    /// Takes a document that a core has learned of.
    pub fn learned(&mut self, document: &Arc<Document>, now_us: u64) {
        if self.document.as_ref().is_some_and(|known| document.revision() <= known.revision()) {
            return self.repeat(document);
        }
        if self.change.as_ref().is_some_and(|change| change.document.revision() <= document.revision()) {
            self.change = None;
            if self.hand_over.take().is_some() {
                self.tell(Order::Thaw);
            }
        }
        self.document = Some(document.clone());
        self.began.get_or_insert(document.revision());
        self.start(now_us);
        if self.is_serving {
            self.tell(Order::Adopt(document.clone()));
        }
    }

    /// Proposes again what is pending, if the store still has the document before it.
    fn repeat(&mut self, document: &Arc<Document>) {
        let Some(change) = self.change.as_ref().filter(|change| matches!(change.stage, Stage::Pending)) else { return };
        if document.revision() < change.document.revision() && document.revision().next() == change.document.revision()
        {
            self.actions.push_back(Action::CompareAndSet(change.document.clone()));
        }
    }

    /// Notes that the store did not answer. What was proposed may have been done, may be done later, or never.
    pub fn no_answer(&mut self) {
        if !holds(Rule::PendingUntilKnown) && self.change.take().is_some() {
            self.tell(Order::Abandon);
        }
    }

    fn tell(&mut self, order: Order) {
        self.actions.push_back(Action::Tell(order));
    }

    /// Goes on with the start: takes the server's seat as somebody new, if its data is not the one that the document names; takes
    /// a new epoch for what it is primary of; then serves.
    fn start(&mut self, now_us: u64) {
        let Some(document) = self.document.clone().filter(|_| !self.is_serving && !self.is_keeping) else { return };
        let (Some(member), Some(began)) = (document.member(&self.server), self.began) else { return };
        let is_known = |of: &Incarnation| member.incarnation == Some(*of) || member.former.contains(of);
        let mut steps = Vec::new();
        match self.incarnation {
            Some(mine) if member.incarnation == Some(mine) => {}
            // It was kept, and the change that says so was not made.
            Some(mine) if mine == self.drawn && !is_known(&mine) => {
                steps.push(Step::Start { server: self.server.clone(), incarnation: mine });
            }
            _ => {
                self.is_keeping = true;
                return self.actions.push_back(Action::Keep(self.drawn));
            }
        }
        let resume = Step::Resume { server: self.server.clone() };
        let is_old = document.ranges().iter().any(|range| {
            let copies = &range.copies;
            let is_mine = copies.primary.core.server == self.server && copies.primary.incarnation == self.incarnation;
            is_mine && copies.epoch <= began.epoch()
        });
        let with_resume: Vec<&Step> = steps.iter().chain([&resume]).collect();
        let next = match document.with_all(with_resume) {
            Ok(next) if (is_old || !steps.is_empty()) && holds(Rule::NewEpochAtBoot) => Some(next),
            _ if steps.is_empty() => None,
            _ => document.with_all(&steps).ok(),
        };
        match next {
            // No core takes part yet: there is nothing to prepare.
            Some(next) if self.change.is_none() => self.propose(Arc::new(next), now_us),
            Some(_) => {}
            None => self.is_serving = true,
        }
    }

    fn propose(&mut self, document: Arc<Document>, now_us: u64) {
        self.actions.push_back(Action::CompareAndSet(document.clone()));
        self.change = Some(Change { document, stage: Stage::Pending });
        self.read_us = now_us + PENDING_READ_US;
    }

    /// Takes a core's answer to [`Order::Prepare`].
    pub fn prepared(&mut self, core: u16, revision: Revision, readiness: Readiness, now_us: u64) {
        let Some(change) = self.change.as_mut().filter(|change| change.document.revision() == revision) else { return };
        let Stage::Preparing(waiting) = &mut change.stage else { return };
        match readiness {
            Readiness::Ready => _ = waiting.remove(&core),
            Readiness::Wait(until_us) => self.ask_again_us = self.ask_again_us.max(until_us),
            Readiness::Refused => {
                self.change = None;
                return self.tell(Order::Abandon);
            }
        }
        if waiting.is_empty() {
            let document = change.document.clone();
            self.propose(document, now_us);
        }
    }

    /// Does what is due. `suspects`: the servers that any core has heard nothing of ([`Replication::suspects`]). `wishes`: the
    /// changes that cores ask for ([`Replication::wishes`]).
    ///
    /// [`Replication::suspects`]: super::Replication::suspects
    /// [`Replication::wishes`]: super::Replication::wishes
    pub fn tick(&mut self, now_us: u64, suspects: &[Arc<str>], wishes: Vec<Step>) {
        if self.read_us <= now_us {
            self.actions.push_back(Action::Read);
            let is_waiting = self.change.is_some() || !self.is_serving;
            self.read_us = now_us + if is_waiting { PENDING_READ_US } else { IDLE_READ_US };
        }
        self.suspected_us.retain(|server, _| suspects.contains(server));
        for server in suspects {
            self.suspected_us.entry(server.clone()).or_insert(now_us);
        }
        if let Some(change) = &self.change {
            if matches!(change.stage, Stage::Preparing(_)) && self.ask_again_us <= now_us {
                self.tell(Order::Prepare(change.document.clone()));
            }
            return;
        }
        if self.hand_over.as_ref().is_some_and(|hand_over| hand_over.ends_us <= now_us) {
            self.hand_over = None;
            self.tell(Order::Thaw);
        }
        if let Some(next) = self.next_change(now_us, wishes) {
            let document = Arc::new(next);
            self.tell(Order::Prepare(document.clone()));
            self.ask_again_us = 0;
            self.change = Some(Change { document, stage: Stage::Preparing((0..self.cores).collect()) });
        }
    }

    /// Returns the next document to be proposed: first what keeps slots from being served.
    fn next_change(&mut self, now_us: u64, wishes: Vec<Step>) -> Option<Document> {
        let document = self.document.clone().filter(|_| self.is_serving)?;
        let gathered = self.suspected_us.iter().filter(|(_, since_us)| **since_us + GATHER_US <= now_us);
        let depose = |server: &Arc<str>| {
            let depose = Step::Depose { server: server.clone(), by: self.server.clone() };
            document.with(&depose).ok()
        };
        if let Some(next) = gathered.map(|(server, _)| server).find_map(depose) {
            // To depose is to take nothing more of the other server until the outcome is known. While the store is away that would
            // be for long, for a server that may be well: the store is asked first whether it is there.
            if self.answered_us.is_some_and(|us| now_us <= us + PENDING_READ_US) {
                return Some(next);
            }
            self.read_us = self.read_us.min(now_us + GATHER_US);
        }
        if let Some(next) = together(&document, wishes) {
            return Some(next);
        }
        if self.hand_over.is_none() {
            while let Some(step) = self.asked.pop_front() {
                if let Step::NamePrimary { slots, core } = step {
                    self.hand_over = Some(HandOver { slots, core, ends_us: now_us + HAND_OVER_US });
                    break;
                }
                if let Ok(next) = document.with(&step) {
                    return Some(next);
                }
            }
        }
        let HandOver { slots, core, .. } = self.hand_over.as_ref()?;
        let (slots, core) = (*slots, core.clone());
        let Ok(next) = document.with(&Step::NamePrimary { slots, core }) else {
            self.hand_over = None;
            self.tell(Order::Thaw);
            return None;
        };
        self.tell(Order::Freeze(slots));
        Some(next)
    }
}

/// Returns the document in which all these steps are made that can be; `None` if none can.
fn together(document: &Document, steps: Vec<Step>) -> Option<Document> {
    let mut possible: Vec<Step> = Vec::new();
    for step in steps {
        if document.with_all(possible.iter().chain([&step])).is_ok() {
            possible.push(step);
        }
    }
    (!possible.is_empty()).then(|| document.with_all(&possible).ok()).flatten()
}

#[cfg(test)]
mod tests;
