//! The topology as a document: the servers of a cluster, and the copies of every slot.
//!
//! A [`Document`] is a value. It lives in a topology store and is changed there by compare-and-set alone; each change makes
//! a new document with the next revision (`topology/steps.rs`). Servers are known by their names and cores by their
//! server's name and their number, never by a position, so that documents can be compared across changes.
//! `topology/README.md` draws one.

mod error;
mod place;
#[cfg(test)]
pub(crate) mod strategies;
#[cfg(test)]
mod tests;
mod text;

use std::{fmt, sync::Arc};

pub use self::{error::DocumentError, text::DOCUMENT_VERSION};
use super::{Epoch, Server, ShardId, Topology, TopologyError, check, file::written, position};
use crate::slot::{SLOT_COUNT, Slot};

/// The most copies of a slot that a document may ask for, and the most that a slot may have in each role. Every copy in
/// sync is waited for by every write, so more than a few help nobody.
pub const COPIES_MAX: u16 = 7;

/// The number of a document: one more with each change. A store takes the next one only.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision(u64);

impl Revision {
    /// The revision of a document that was not made from another.
    pub const FIRST: Self = Self(1);

    /// Returns the revision with this number.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the revision's number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Returns the revision that comes after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("nobody makes 2^64 documents"))
    }

    /// Returns the epoch of a range whose primary is named in this revision.
    pub fn epoch(self) -> Epoch {
        Epoch::new(self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// One life of a server's data, drawn at random when the server starts without the data that it had. Copies,
/// acknowledgements and promises are an incarnation's: a server that comes back empty is somebody new.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Incarnation(u64);

impl Incarnation {
    /// Returns the incarnation with this number.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the incarnation's number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Reads 16 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let is_written_so = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        u64::from_str_radix(text, 16).ok().filter(|_| is_written_so).map(Self)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

/// A core, by the name of its server. Stays the same from document to document. Written `one/0`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CoreId {
    /// The server's name.
    pub server: Arc<str>,
    /// The core's number on its server, from 0.
    pub core: u16,
}

impl CoreId {
    /// Returns the core of this number on this server.
    pub fn new(server: &str, core: u16) -> Self {
        Self { server: server.into(), core }
    }

    /// Reads `one/0`.
    pub fn parse(text: &str) -> Option<Self> {
        let (server, core) = text.rsplit_once('/')?;
        let is_number = !core.is_empty() && core.bytes().all(|byte| byte.is_ascii_digit());
        core.parse().ok().filter(|_| is_number && !server.is_empty()).map(|core| Self::new(server, core))
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.server, self.core)
    }
}

/// A copy: a core's data of a slot, in one life of its server's data.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CopyId {
    /// The core that has it.
    pub core: CoreId,
    /// The incarnation of the server that it belongs to. `None`: the server has never been started, and nothing was ever
    /// written to the slot.
    pub incarnation: Option<Incarnation>,
}

impl fmt::Display for CopyId {
    /// Writes `one/0@5f3a09c15f3a09c1`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation {
            None => write!(out, "{}", self.core),
            Some(incarnation) => write!(out, "{}@{incarnation}", self.core),
        }
    }
}

/// A range of slots, never empty. Written as Redis does: `0-5460`, or `77` for a single slot.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SlotRange {
    first: u16,
    last: u16,
}

impl SlotRange {
    /// All slots.
    pub const ALL: Self = Self { first: 0, last: SLOT_COUNT - 1 };

    /// Returns the slots from `first` to `last`, both included; `None` if there are none, or no such slots.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first <= last && last < SLOT_COUNT).then_some(Self { first, last })
    }

    /// Reads `0-5460` or `77`.
    pub fn parse(text: &str) -> Option<Self> {
        super::file::read(text).map(|(first, last)| Self { first, last })
    }

    /// Returns the first slot's number.
    pub fn first(self) -> u16 {
        self.first
    }

    /// Returns the last slot's number.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Returns the number of slots.
    #[expect(clippy::len_without_is_empty, reason = "it never is empty")]
    pub fn len(self) -> u16 {
        self.last - self.first + 1
    }

    /// Returns true if the slot of this number is among them.
    pub fn contains(self, slot: u16) -> bool {
        (self.first..=self.last).contains(&slot)
    }

    /// Returns the slots that are in both ranges.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&written(self.first, self.last))
    }
}

/// The wanted state of a server.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ServerState {
    /// It has copies, and gets its share of them.
    Serving,
    /// It is being emptied: its copies go to the others, and then it may be removed.
    Leaving,
}

/// A server of the cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Its name, its addresses and its number of cores.
    pub server: Server,
    /// The life of its data that it serves with. `None`: it has never been started.
    pub incarnation: Option<Incarnation>,
    /// Earlier incarnations that copies still name, in order.
    pub former: Vec<Incarnation>,
    /// Its wanted state.
    pub state: ServerState,
    /// The share of each of its cores, compared with other servers' cores. At least 1.
    pub weight: u16,
}

impl Member {
    /// The weight of a server of which nothing else is said.
    pub const WEIGHT: u16 = 100;

    /// Returns a member that has never been started.
    pub fn new(server: Server) -> Self {
        Self { server, incarnation: None, former: Vec::new(), state: ServerState::Serving, weight: Self::WEIGHT }
    }
}

/// The copies of each slot of a range, by their roles. Backups and joining copies are in order, so that equal copies are
/// written equally.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Copies {
    /// Serves clients.
    pub primary: CopyId,
    /// In sync: every acknowledged write waits for them.
    pub backups: Vec<CopyId>,
    /// Being filled: nobody waits for them.
    pub joining: Vec<CopyId>,
    /// The revision at which the primary was last named. Fences old primaries.
    pub epoch: Epoch,
    /// True if the primary was named by the one before it, which has stopped serving by itself: it need not wait until
    /// promises to that one have run out.
    pub handed_over: bool,
}

impl Copies {
    /// Returns the copies that have every acknowledged write: the primary and its backups.
    pub fn in_sync(&self) -> impl Iterator<Item = &CopyId> {
        [&self.primary].into_iter().chain(&self.backups)
    }

    /// Returns all copies: the primary, its backups, then those that join.
    pub fn all(&self) -> impl Iterator<Item = &CopyId> {
        self.in_sync().chain(&self.joining)
    }

    /// Returns the copy that this core has.
    pub fn of_core(&self, core: &CoreId) -> Option<&CopyId> {
        self.all().find(|copy| copy.core == *core)
    }
}

/// Slots that have the same copies, in the same roles, since the same revision.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Range {
    /// The slots.
    pub slots: SlotRange,
    /// The copies of each of them.
    pub copies: Copies,
}

/// A note of acknowledged writes that were given up. Kept so that nobody has to guess later.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Loss {
    /// The revision that gave them up.
    pub revision: Revision,
    /// The slots.
    pub slots: SlotRange,
    /// The copies in sync that were given up, as they were written then: the servers may be gone by now.
    pub copies: Vec<String>,
}

/// The most notes of losses that a document keeps; older ones go. A document is read by people, and a store's value is
/// bounded.
pub const LOSSES_MAX: usize = 32;

/// The servers of a cluster, and the copies of every slot.
///
/// Always true of it ([`Document::validate`]): all that is true of a [`Topology`]; every slot has exactly one primary; no
/// core has two copies of a slot, and no server three (two only while a copy moves between its cores); copies name servers
/// and cores of the document, and an incarnation that the server has or had; no epoch is above the revision; neighbouring
/// ranges differ.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Document {
    pub(super) revision: Revision,
    pub(super) copies: u16,
    pub(super) members: Vec<Member>,
    /// In the order of slots, without gaps.
    pub(super) ranges: Vec<Range>,
    pub(super) losses: Vec<Loss>,
}

impl Document {
    /// Returns the document's number.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the number of copies that each slot ought to have in sync, its primary among them, on different servers.
    pub fn copies(&self) -> u16 {
        self.copies
    }

    /// Returns the servers, in the order in which people listed them.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns the ranges in the order of slots: together they are all slots, and neighbours differ.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// Returns the notes of what was given up, the oldest first.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Returns the server of this name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.server.name == name)
    }

    /// Returns the copies of a slot.
    pub fn copies_of(&self, slot: Slot) -> &Copies {
        let after = self.ranges.partition_point(|range| range.slots.first() <= slot.number());
        &self.ranges[after - 1].copies
    }

    /// Returns true if the copy belongs to the present life of its server's data: it may be in sync, if its role says so.
    pub fn is_current(&self, copy: &CopyId) -> bool {
        self.member(&copy.core.server).is_some_and(|member| member.incarnation == copy.incarnation)
    }

    /// Returns the number of different servers that have this range's slots in sync, not counting copies that are lost.
    pub fn servers_in_sync(&self, copies: &Copies) -> usize {
        let mut servers: Vec<&str> =
            copies.in_sync().filter(|copy| self.is_current(copy)).map(|copy| &*copy.core.server).collect();
        servers.sort_unstable();
        servers.dedup();
        servers.len()
    }

    /// Returns the ranges of which no copy in sync belongs to the present life of its server's data. Nobody may serve them
    /// until people accept the loss; nothing that a server can do brings them back.
    pub fn lost(&self) -> impl Iterator<Item = &Range> {
        self.ranges.iter().filter(|range| self.servers_in_sync(&range.copies) == 0)
    }

    /// Returns what clients are told: who has which slots as primary. Backups are no nodes to clients. The topology's epoch
    /// is the document's revision.
    pub fn topology(&self) -> Topology {
        let servers: Vec<Server> = self.members.iter().map(|member| member.server.clone()).collect();
        let shards = check(&servers).expect("a document's servers have been checked");
        let mut owners = Vec::with_capacity(usize::from(SLOT_COUNT));
        for range in &self.ranges {
            let core = &range.copies.primary.core;
            let server = servers.iter().position(|server| *server.name == *core.server);
            let server = position(server.expect("a primary's server is one of the document"));
            let shard = shards.binary_search(&ShardId { server, core: core.core });
            let shard = position(shard.expect("a primary's core is one of its server"));
            owners.resize(usize::from(range.slots.last()) + 1, shard);
        }
        Topology::new(self.revision.epoch(), servers, shards, owners)
    }

    /// Checks all that is promised of a document.
    ///
    /// # Errors
    /// The first thing that is wrong, with the way out.
    pub fn validate(&self) -> Result<(), DocumentError> {
        let servers: Vec<Server> = self.members.iter().map(|member| member.server.clone()).collect();
        check(&servers)?;
        if self.revision < Revision::FIRST {
            return Err(DocumentError::NoRevision);
        }
        if self.copies == 0 || COPIES_MAX < self.copies {
            return Err(DocumentError::BadCopies { copies: self.copies });
        }
        if let Some(member) = self.members.iter().find(|member| member.weight == 0) {
            return Err(DocumentError::NoWeight { name: member.server.name.clone() });
        }
        for member in &self.members {
            let mut all: Vec<_> = member.former.iter().chain(&member.incarnation).collect();
            all.sort_unstable();
            if let Some(pair) = all.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(DocumentError::IncarnationTwice { name: member.server.name.clone(), twice: *pair[0] });
            }
        }
        let mut next = 0;
        for range in &self.ranges {
            if range.slots.first() < next {
                return Err(DocumentError::SlotTwice { slot: range.slots.first() });
            }
            if next < range.slots.first() {
                return Err(
                    TopologyError::SlotsUnowned { first: next, count: (range.slots.first() - next).into() }.into()
                );
            }
            next = range.slots.last() + 1;
            self.validate_range(range)?;
        }
        if next < SLOT_COUNT {
            return Err(TopologyError::SlotsUnowned { first: next, count: (SLOT_COUNT - next).into() }.into());
        }
        Ok(())
    }

    fn validate_range(&self, range: &Range) -> Result<(), DocumentError> {
        let Range { slots, copies } = range;
        let slots = *slots;
        if self.revision.epoch() < copies.epoch {
            return Err(DocumentError::EpochAbove { slots, epoch: copies.epoch, revision: self.revision });
        }
        if usize::from(COPIES_MAX) < copies.backups.len().max(copies.joining.len()) {
            return Err(DocumentError::TooManyCopies { slots });
        }
        let all: Vec<&CopyId> = copies.all().collect();
        for (number, copy) in all.iter().enumerate() {
            let core = copy.core.clone();
            let Some(member) = self.member(&core.server) else {
                let names = self.members.iter().map(|member| member.server.name.clone()).collect();
                return Err(DocumentError::NoSuchServer { slots, core, names });
            };
            if member.server.cores <= core.core {
                return Err(DocumentError::NoSuchCore { slots, core, cores: member.server.cores });
            }
            if member.incarnation != copy.incarnation
                && !copy.incarnation.is_some_and(|old| member.former.contains(&old))
            {
                return Err(DocumentError::NoSuchIncarnation { slots, copy: (*copy).clone() });
            }
            if all[..number].iter().any(|other| other.core == core) {
                return Err(DocumentError::CopyTwice { slots, core });
            }
            if all[..number].iter().filter(|other| other.core.server == core.server).count() == 2 {
                return Err(DocumentError::ThreeOnOneServer { slots, name: member.server.name.clone() });
            }
        }
        Ok(())
    }

    /// Brings ranges, copies and former incarnations into the one form that a document has: neighbours that are alike are
    /// one range, copies are in order, and incarnations that no copy names are forgotten.
    pub(super) fn tidy(&mut self) {
        let mut ranges: Vec<Range> = Vec::with_capacity(self.ranges.len());
        for mut range in std::mem::take(&mut self.ranges) {
            range.copies.backups.sort_unstable();
            range.copies.joining.sort_unstable();
            match ranges.last_mut() {
                Some(last) if last.copies == range.copies && last.slots.last() + 1 == range.slots.first() => {
                    last.slots.last = range.slots.last;
                }
                _ => ranges.push(range),
            }
        }
        self.ranges = ranges;
        for member in &mut self.members {
            let is_named = |old: &Incarnation| {
                let copies = self.ranges.iter().flat_map(|range| range.copies.all());
                copies
                    .into_iter()
                    .any(|copy| copy.incarnation == Some(*old) && *copy.core.server == *member.server.name)
            };
            member.former.retain(is_named);
            member.former.sort_unstable();
        }
        let surplus = self.losses.len().saturating_sub(LOSSES_MAX);
        self.losses.drain(..surplus);
    }
}
