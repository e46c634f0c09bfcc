//! Steps: the changes of a document that are safe, each from one revision to the next.
//!
//! A [`Step`] is checked against the document that it changes. Steps have no time: that a copy has been repaired, or that a
//! server has been silent for long enough, is for the proposer to know. The document only refuses changes that can never be
//! right.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{
    Server,
    document::{
        Copies, CopyId, CoreId, Document, DocumentError, Incarnation, Loss, Member, Range, ServerState, SlotRange,
    },
};

/// A change of a document. Copies are named by their core, since a core has at most one copy of a slot, and a
/// compare-and-set finds the document as the proposer has seen it, or fails.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// A core gets a copy that is filled from the primary. Nobody waits for it.
    AddJoining {
        /// The slots.
        slots: SlotRange,
        /// The core.
        core: CoreId,
    },
    /// A joining copy is in sync from now on. The proposer is the primary, which waits for the copy already.
    MakeBackup {
        /// The slots.
        slots: SlotRange,
        /// The core that has the copy.
        core: CoreId,
    },
    /// A backup that does not answer is taken out of sync; it joins again when it does. The proposer is the primary, which
    /// waits for the copy until this is known to have happened.
    Demote {
        /// The slots.
        slots: SlotRange,
        /// The core that has the copy.
        core: CoreId,
    },
    /// A backup becomes primary, and the primary its backup: a hand-over. The proposer is the primary, which has stopped.
    NamePrimary {
        /// The slots.
        slots: SlotRange,
        /// The core that has the copy.
        core: CoreId,
    },
    /// A backup or a joining copy is given up. The proposer is the primary.
    DropCopy {
        /// The slots.
        slots: SlotRange,
        /// The core that has the copy.
        core: CoreId,
    },
    /// A server becomes primary of all slots of another one that it has in sync: a failover. The proposer is that server,
    /// which has stopped to acknowledge anything of the other. What the other has is joining afterwards.
    Depose {
        /// The server that is silent.
        server: Arc<str>,
        /// The server that takes over.
        by: Arc<str>,
    },
    /// A server that was started again takes a new epoch for all slots of which it is primary, before it serves them.
    Resume {
        /// The server.
        server: Arc<str>,
    },
    /// A server is started without the data that it had, or for the first time. At the first time it takes the seats that were
    /// planned for it: nothing was written to them ever.
    Start {
        /// The server.
        server: Arc<str>,
        /// Drawn by the server at random.
        incarnation: Incarnation,
    },
    /// A server is added. It gets its share once it has been started.
    AddServer(Server),
    /// A server has other addresses, or another number of cores.
    ChangeServer(Server),
    /// A server is to be emptied, or to have its share again.
    SetState {
        /// The server.
        server: Arc<str>,
        /// The state.
        state: ServerState,
    },
    /// A server's cores are to have another share.
    SetWeight {
        /// The server.
        server: Arc<str>,
        /// The weight.
        weight: u16,
    },
    /// Slots are to have another number of copies.
    SetCopies(u16),
    /// A server that has no copies is removed.
    RemoveServer {
        /// The server.
        server: Arc<str>,
    },
    /// Acknowledged writes are given up: a core becomes primary that is not in sync, because those that are will not return.
    /// It keeps what it has, which may be nothing. The document keeps a note.
    AcceptLoss {
        /// The slots.
        slots: SlotRange,
        /// The servers that will not return with their data.
        lost: BTreeSet<Arc<str>>,
        /// The core that becomes primary.
        core: CoreId,
    },
}

/// Why a document does not allow a step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StepError {
    /// The document has no such server, or the server no such core.
    Unknown {
        /// The server or core.
        name: String,
        /// The servers there are.
        names: Vec<String>,
    },
    /// The server was never started: it cannot be filled. Start it first.
    NotStarted {
        /// The server.
        name: Arc<str>,
    },
    /// The core has a copy of these slots already.
    HasCopy {
        /// The slots.
        slots: SlotRange,
        /// The core.
        core: CoreId,
    },
    /// The core's copy does not have the role that the step is for.
    NotInRole {
        /// The slots.
        slots: SlotRange,
        /// The core.
        core: CoreId,
        /// The role.
        role: &'static str,
    },
    /// The copy belongs to an earlier life of its server's data: it is lost. Drop it, and add a new one.
    LostCopy {
        /// The slots.
        slots: SlotRange,
        /// The copy.
        copy: CopyId,
    },
    /// There is nothing that one server could take over from the other.
    NothingToDepose {
        /// The server that would be deposed.
        server: Arc<str>,
        /// The server that would take over.
        by: Arc<str>,
    },
    /// The server is primary of nothing.
    NothingToResume {
        /// The server.
        server: Arc<str>,
    },
    /// The server has had this incarnation. Draw another.
    IncarnationUsed {
        /// The server.
        server: Arc<str>,
        /// The incarnation.
        incarnation: Incarnation,
    },
    /// A server of this name is there already.
    Exists {
        /// The server.
        name: String,
    },
    /// The server still has copies. Let it leave first.
    StillNamed {
        /// The server.
        server: Arc<str>,
        /// The first slots that it has copies of.
        slots: SlotRange,
    },
    /// A copy in sync is on a server that is not given up: no write need be lost.
    InSync {
        /// The slots.
        slots: SlotRange,
        /// The copy.
        copy: CopyId,
    },
    /// The result would be no document.
    Document(DocumentError),
}

impl Document {
    /// Returns the next revision of the document, in which this step has been made.
    ///
    /// # Errors
    /// The document does not allow it.
    pub fn with(&self, step: &Step) -> Result<Self, StepError> {
        self.with_all([step])
    }

    /// Returns the next revision of the document, in which all these steps have been made, one after another. Nobody sees
    /// the documents in between.
    ///
    /// # Errors
    /// The document does not allow one of them.
    pub fn with_all<'a>(&self, steps: impl IntoIterator<Item = &'a Step>) -> Result<Self, StepError> {
        let mut next = self.clone();
        next.revision = self.revision.next();
        for step in steps {
            next.make(step)?;
        }
        next.tidy();
        next.validate().map_err(StepError::Document)?;
        Ok(next)
    }

    fn make(&mut self, step: &Step) -> Result<(), StepError> {
        match step {
            Step::AddJoining { slots, core } => self.add_joining(*slots, core),
            Step::MakeBackup { slots, core } => self.make_backup(*slots, core),
            Step::Demote { slots, core } => self.demote(*slots, core),
            Step::NamePrimary { slots, core } => self.name_primary(*slots, core),
            Step::DropCopy { slots, core } => self.drop_copy(*slots, core),
            Step::Depose { server, by } => self.depose(server, by),
            Step::Resume { server } => self.resume(server),
            Step::Start { server, incarnation } => self.start(server, *incarnation),
            Step::AddServer(server) => self.add_server(server),
            Step::ChangeServer(server) => {
                self.member_mut(&server.name)?.server = server.clone();
                Ok(())
            }
            Step::SetState { server, state } => {
                self.member_mut(server)?.state = *state;
                Ok(())
            }
            Step::SetWeight { server, weight } => {
                self.member_mut(server)?.weight = *weight;
                Ok(())
            }
            Step::SetCopies(copies) => {
                self.copies = *copies;
                Ok(())
            }
            Step::RemoveServer { server } => self.remove_server(server),
            Step::AcceptLoss { slots, lost, core } => self.accept_loss(*slots, lost, core),
        }
    }

    fn add_joining(&mut self, slots: SlotRange, core: &CoreId) -> Result<(), StepError> {
        let copy = self.present_copy(core)?;
        self.edit(slots, |slots, copies| {
            if copies.of_core(core).is_some() {
                return Err(StepError::HasCopy { slots, core: core.clone() });
            }
            copies.joining.push(copy.clone());
            Ok(())
        })
    }

    fn make_backup(&mut self, slots: SlotRange, core: &CoreId) -> Result<(), StepError> {
        let copy = self.present_copy(core)?;
        self.edit(slots, |slots, copies| {
            let joined = take(&mut copies.joining, core).ok_or_else(|| not_in_role(slots, core, "a joining copy"))?;
            copies.backups.push(current(slots, joined, &copy)?);
            Ok(())
        })
    }

    fn demote(&mut self, slots: SlotRange, core: &CoreId) -> Result<(), StepError> {
        let copy = self.present_copy_of_any(core)?;
        self.edit(slots, |slots, copies| {
            let demoted = take(&mut copies.backups, core).ok_or_else(|| not_in_role(slots, core, "a backup"))?;
            copies.joining.push(current(slots, demoted, &copy)?);
            Ok(())
        })
    }

    fn name_primary(&mut self, slots: SlotRange, core: &CoreId) -> Result<(), StepError> {
        let (copy, epoch) = (self.present_copy_of_any(core)?, self.revision.epoch());
        self.edit(slots, |slots, copies| {
            let named = take(&mut copies.backups, core).ok_or_else(|| not_in_role(slots, core, "a backup"))?;
            let before = std::mem::replace(&mut copies.primary, current(slots, named, &copy)?);
            copies.backups.push(before);
            (copies.epoch, copies.handed_over) = (epoch, true);
            Ok(())
        })
    }

    fn drop_copy(&mut self, slots: SlotRange, core: &CoreId) -> Result<(), StepError> {
        self.edit(slots, |slots, copies| {
            let dropped = take(&mut copies.backups, core).or_else(|| take(&mut copies.joining, core));
            dropped.map(|_| ()).ok_or_else(|| not_in_role(slots, core, "a backup or a joining copy"))
        })
    }

    fn depose(&mut self, server: &Arc<str>, by: &Arc<str>) -> Result<(), StepError> {
        let incarnation = self.member_mut(by)?.incarnation;
        let deposed = self.member_mut(server)?.incarnation;
        let epoch = self.revision.epoch();
        let mut is_any = false;
        self.edit(SlotRange::ALL, |_, copies| {
            let can_take_over = |copy: &CopyId| copy.core.server == *by && copy.incarnation == incarnation;
            let backup = copies.backups.iter().position(can_take_over);
            if let Some(backup) = backup.filter(|_| copies.primary.core.server == *server && server != by) {
                let before = std::mem::replace(&mut copies.primary, copies.backups.remove(backup));
                // It is not waited for any more. Should it return with its data, it is repaired where it stands.
                if before.incarnation == deposed {
                    copies.joining.push(before);
                }
                (copies.epoch, copies.handed_over, is_any) = (epoch, false, true);
            }
            Ok(())
        })?;
        let nothing = || StepError::NothingToDepose { server: server.clone(), by: by.clone() };
        is_any.then_some(()).ok_or_else(nothing)
    }

    fn resume(&mut self, server: &Arc<str>) -> Result<(), StepError> {
        let incarnation = self.member_mut(server)?.incarnation;
        let epoch = self.revision.epoch();
        let mut is_any = false;
        self.edit(SlotRange::ALL, |_, copies| {
            if copies.primary.core.server == *server && copies.primary.incarnation == incarnation {
                (copies.epoch, copies.handed_over, is_any) = (epoch, false, true);
            }
            Ok(())
        })?;
        is_any.then_some(()).ok_or_else(|| StepError::NothingToResume { server: server.clone() })
    }

    fn start(&mut self, server: &Arc<str>, incarnation: Incarnation) -> Result<(), StepError> {
        let member = self.member_mut(server)?;
        let before = member.incarnation;
        if before == Some(incarnation) || member.former.contains(&incarnation) {
            return Err(StepError::IncarnationUsed { server: server.clone(), incarnation });
        }
        member.former.extend(before);
        member.incarnation = Some(incarnation);
        self.edit(SlotRange::ALL, |_, copies| {
            let Copies { primary, backups, joining, .. } = copies;
            let is_first_start = before.is_none();
            // Of a joining copy nobody expects any data: what was lost is filled again. Those in sync stay what they were,
            // since writes that were acknowledged may be in them alone.
            let renewed = [primary].into_iter().chain(backups).filter(|_| is_first_start).chain(joining);
            for copy in renewed.filter(|copy| copy.core.server == *server) {
                copy.incarnation = Some(incarnation);
            }
            Ok(())
        })
    }

    fn add_server(&mut self, server: &Server) -> Result<(), StepError> {
        if self.member(&server.name).is_some() {
            return Err(StepError::Exists { name: server.name.clone() });
        }
        self.members.push(Member::new(server.clone()));
        Ok(())
    }

    fn remove_server(&mut self, server: &Arc<str>) -> Result<(), StepError> {
        self.member_mut(server)?;
        let is_named = |range: &&Range| range.copies.all().any(|copy| copy.core.server == *server);
        if let Some(range) = self.ranges.iter().find(is_named) {
            return Err(StepError::StillNamed { server: server.clone(), slots: range.slots });
        }
        self.members.retain(|member| *member.server.name != **server);
        Ok(())
    }

    fn accept_loss(&mut self, slots: SlotRange, lost: &BTreeSet<Arc<str>>, core: &CoreId) -> Result<(), StepError> {
        for name in lost {
            self.member_mut(name)?;
        }
        let copy = self.present_copy(core)?;
        if lost.contains(&core.server) {
            return Err(not_in_role(slots, core, "on a server that is left"));
        }
        let before = self.clone();
        let (revision, epoch) = (self.revision, self.revision.epoch());
        let mut losses = Vec::new();
        self.edit(slots, |slots, copies| {
            let is_there = |copy: &&CopyId| before.is_current(copy) && !lost.contains(&copy.core.server);
            if let Some(copy) = copies.in_sync().find(is_there) {
                return Err(StepError::InSync { slots, copy: copy.clone() });
            }
            losses.push(Loss { revision, slots, copies: copies.in_sync().map(ToString::to_string).collect() });
            copies.joining.retain(|other| other.core != *core && is_there(&other));
            copies.backups.clear();
            copies.primary = copy.clone();
            (copies.epoch, copies.handed_over) = (epoch, false);
            Ok(())
        })?;
        self.losses.append(&mut losses);
        Ok(())
    }

    /// Changes the copies of these slots, and of these alone.
    fn edit(
        &mut self,
        slots: SlotRange,
        mut change: impl FnMut(SlotRange, &mut Copies) -> Result<(), StepError>,
    ) -> Result<(), StepError> {
        let mut ranges = Vec::with_capacity(self.ranges.len() + 2);
        for range in &self.ranges {
            let parts = [
                slots.first().checked_sub(1).and_then(|last| SlotRange::new(0, last)),
                Some(slots),
                SlotRange::new(slots.last() + 1, SlotRange::ALL.last()),
            ];
            for (number, part) in parts.iter().enumerate() {
                let Some(slots) = part.and_then(|part| part.intersection(range.slots)) else { continue };
                let mut copies = range.copies.clone();
                if number == 1 {
                    change(slots, &mut copies)?;
                }
                ranges.push(Range { slots, copies });
            }
        }
        self.ranges = ranges;
        Ok(())
    }

    fn member_mut(&mut self, name: &str) -> Result<&mut Member, StepError> {
        let names = self.members.iter().map(|member| member.server.name.clone()).collect();
        let found = self.members.iter_mut().find(|member| member.server.name == name);
        found.ok_or_else(|| StepError::Unknown { name: name.into(), names })
    }

    /// Returns the copy that a core has in its server's present life.
    fn present_copy_of_any(&mut self, core: &CoreId) -> Result<CopyId, StepError> {
        let member = self.member_mut(&core.server)?;
        Ok(CopyId { core: core.clone(), incarnation: member.incarnation })
    }

    /// Returns the same for a core that is to get data: its server must have been started.
    fn present_copy(&mut self, core: &CoreId) -> Result<CopyId, StepError> {
        let copy = self.present_copy_of_any(core)?;
        if copy.incarnation.is_none() {
            return Err(StepError::NotStarted { name: core.server.clone() });
        }
        Ok(copy)
    }
}

fn take(copies: &mut Vec<CopyId>, core: &CoreId) -> Option<CopyId> {
    let position = copies.iter().position(|copy| copy.core == *core)?;
    Some(copies.remove(position))
}

/// Returns the copy if it is the core's present one.
fn current(slots: SlotRange, copy: CopyId, present: &CopyId) -> Result<CopyId, StepError> {
    if copy == *present { Ok(copy) } else { Err(StepError::LostCopy { slots, copy }) }
}

fn not_in_role(slots: SlotRange, core: &CoreId, role: &'static str) -> StepError {
    StepError::NotInRole { slots, core: core.clone(), role }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddJoining { slots, core } => write!(out, "slots {slots}: {core} joins"),
            Self::MakeBackup { slots, core } => write!(out, "slots {slots}: {core}, which joins, becomes a backup"),
            Self::Demote { slots, core } => write!(out, "slots {slots}: backup {core} is taken out of sync"),
            Self::NamePrimary { slots, core } => write!(out, "slots {slots}: backup {core} becomes primary"),
            Self::DropCopy { slots, core } => write!(out, "slots {slots}: {core} gives up its copy"),
            Self::Depose { server, by } => write!(out, "{by} becomes primary of what it backs of {server}"),
            Self::Resume { server } => write!(out, "{server} goes on as primary in a new epoch"),
            Self::Start { server, incarnation } => write!(out, "{server} starts as incarnation {incarnation}"),
            Self::AddServer(server) => write!(out, "server {} is added", server.name),
            Self::ChangeServer(server) => write!(out, "server {} has other addresses or cores", server.name),
            Self::SetState { server, state: ServerState::Leaving } => write!(out, "server {server} is leaving"),
            Self::SetState { server, state: ServerState::Serving } => write!(out, "server {server} serves"),
            Self::SetWeight { server, weight } => write!(out, "server {server} has weight {weight}"),
            Self::SetCopies(copies) => write!(out, "slots ought to have {copies} copies"),
            Self::RemoveServer { server } => write!(out, "server {server} is removed"),
            Self::AcceptLoss { slots, core, .. } => {
                write!(out, "slots {slots}: {core} becomes primary of what is left")
            }
        }
    }
}

impl std::error::Error for StepError {}

impl fmt::Display for StepError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, names } => {
                write!(out, "there is no server {name:?}: the cluster has {}", names.join(", "))
            }
            Self::NotStarted { name } => write!(out, "server {name:?} was never started: start it first"),
            Self::HasCopy { slots, core } => write!(out, "slots {slots}: {core} has a copy already"),
            Self::NotInRole { slots, core, role } => write!(out, "slots {slots}: {core} is not {role}"),
            Self::LostCopy { slots, copy } => {
                write!(out, "slots {slots}: {copy} belongs to data that its server has lost: drop it and add a new one")
            }
            Self::NothingToDepose { server, by } => {
                write!(out, "server {by:?} has nothing in sync of which {server:?} is primary")
            }
            Self::NothingToResume { server } => write!(out, "server {server:?} is primary of nothing that it has"),
            Self::IncarnationUsed { server, incarnation } => {
                write!(out, "server {server:?} has had incarnation {incarnation}: draw another")
            }
            Self::Exists { name } => write!(out, "there is a server {name:?} already: choose another name"),
            Self::StillNamed { server, slots } => {
                write!(out, "server {server:?} still has copies, of slots {slots} first: let it leave, and wait")
            }
            Self::InSync { slots, copy } => {
                write!(
                    out,
                    "slots {slots}: {copy} is in sync: its server need only run for nothing to be lost; if it "
                )?;
                write!(out, "will never return, name it as lost too")
            }
            Self::Document(error) => error.fmt(out),
        }
    }
}

#[cfg(test)]
mod tests;
