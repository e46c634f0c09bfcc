//! Acceptance of losses: the steps that let slots be served again whose copies in sync will not return.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{
    document::{CopyId, CoreId, Document, Range, ServerState, SlotRange},
    steps::Step,
};

/// Slots that nobody can serve, and the core that would serve what is left of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Loss {
    /// The slots.
    pub slots: SlotRange,
    /// The copies in sync that are given up, as they are written.
    pub copies: Vec<String>,
    /// The core that becomes primary.
    pub primary: CoreId,
    /// The part of the slots' keys that the core has.
    pub left: Left,
}

/// The part that a core has of slots of which no copy in sync is left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Left {
    /// A copy that was being filled: some of the keys, some of them old.
    Part,
    /// Nothing: the slots begin empty.
    Nothing,
}

/// Why a loss can't be accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LossError {
    /// The document has no such server.
    Unknown {
        /// The name.
        name: Arc<str>,
        /// The servers there are.
        names: Vec<String>,
    },
    /// Every range has a copy in sync on a server that is not given up.
    Nothing {
        /// Servers that, were they lost too, would leave slots without a copy in sync. Empty: each slot has more than one.
        last: Vec<String>,
    },
    /// No server is left that was started and serves.
    NobodyLeft,
}

/// Returns the losses that are accepted by giving up these servers, in the order of slots: those of all ranges without a copy
/// in sync on another server. Copies of earlier lives of a server's data are lost whether their servers are named or not.
///
/// # Errors
/// There is nothing to accept, or nobody to serve what is left.
pub fn losses(document: &Document, lost: &BTreeSet<Arc<str>>, within: SlotRange) -> Result<Vec<Loss>, LossError> {
    if let Some(name) = lost.iter().find(|name| document.member(name).is_none()) {
        let names = document.members().iter().map(|member| member.server.name.clone()).collect();
        return Err(LossError::Unknown { name: name.clone(), names });
    }
    let is_there = |copy: &&CopyId| document.is_current(copy) && !lost.contains(&copy.core.server);
    let affected: Vec<(&Range, SlotRange)> = document
        .ranges()
        .iter()
        .filter(|range| !range.copies.in_sync().any(|copy| is_there(&copy)))
        .filter_map(|range| Some((range, range.slots.intersection(within)?)))
        .collect();
    if affected.is_empty() {
        return Err(LossError::Nothing { last: last_in_sync(document, lost, within) });
    }
    let mut cores = Vec::new();
    for member in document.members() {
        let name = &*member.server.name;
        if member.state == ServerState::Serving && member.incarnation.is_some() && !lost.contains(name) {
            cores.extend((0..member.server.cores).map(|core| CoreId::new(name, core)));
        }
    }
    let is_primary = |core: &CoreId, range: &Range| range.copies.primary.core == *core;
    let slots_of = |core: &CoreId| -> u32 {
        let own = document.ranges().iter().filter(|range| is_primary(core, range));
        own.map(|range| u32::from(range.slots.len())).sum()
    };
    let mut loads: Vec<u32> = cores.iter().map(slots_of).collect();
    let mut losses = Vec::new();
    for (range, slots) in affected {
        let joining = range.copies.joining.iter().find(is_there);
        // A core that was primary goes on being so, where its server lives again: nobody's topology changes.
        let before = cores.iter().find(|core| is_primary(core, range));
        let least = (0..cores.len()).min_by_key(|&core| loads[core]);
        let (primary, left) = match (joining, before, least) {
            (Some(copy), _, _) => (copy.core.clone(), Left::Part),
            (None, Some(core), _) => (core.clone(), Left::Nothing),
            (None, None, Some(core)) => {
                loads[core] += u32::from(slots.len());
                (cores[core].clone(), Left::Nothing)
            }
            (None, None, None) => return Err(LossError::NobodyLeft),
        };
        let copies = range.copies.in_sync().map(|copy| document.written(copy)).collect();
        losses.push(Loss { slots, copies, primary, left });
    }
    Ok(losses)
}

/// Returns the step that accepts a loss.
pub fn step(loss: &Loss, lost: &BTreeSet<Arc<str>>) -> Step {
    Step::AcceptLoss { slots: loss.slots, lost: lost.clone(), core: loss.primary.clone() }
}

/// Returns the servers that have the only copy in sync of some slots.
fn last_in_sync(document: &Document, lost: &BTreeSet<Arc<str>>, within: SlotRange) -> Vec<String> {
    let mut names = BTreeSet::new();
    for range in document.ranges().iter().filter(|range| range.slots.intersection(within).is_some()) {
        let is_there = |copy: &&CopyId| document.is_current(copy) && !lost.contains(&copy.core.server);
        let servers: BTreeSet<&str> = range.copies.in_sync().filter(is_there).map(|copy| &*copy.core.server).collect();
        if servers.len() == 1 {
            names.extend(servers.into_iter().map(str::to_owned));
        }
    }
    names.into_iter().collect()
}

impl std::error::Error for LossError {}

impl fmt::Display for LossError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, names } => {
                write!(out, "there is no server {name:?}: the cluster has {}", names.join(", "))
            }
            Self::Nothing { last } => {
                write!(out, "there is nothing to give up: every slot has a copy in sync on a server that is not lost")?;
                if last.is_empty() {
                    return Ok(());
                }
                write!(
                    out,
                    ". If a server will not return with its data, name it: --lost NAME (the only copy in sync "
                )?;
                write!(out, "of some slots is on {})", last.join(", "))
            }
            Self::NobodyLeft => {
                write!(out, "no server is left that could serve these slots: start one, or add one, first")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::document::{Incarnation, strategies::started};

    fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|&name| name.into()).collect()
    }

    /// Slots whose copies in sync are all on lost servers go to those that are left, as evenly as their ranges allow; all others
    /// stay as they are.
    #[test]
    fn only_what_nobody_has_is_given_up() {
        let document = started(&[1, 1, 1, 1], 2);
        let lost = names(&["s0", "s1"]);
        let losses = losses(&document, &lost, SlotRange::ALL).unwrap();
        for range in document.ranges() {
            let is_gone = range.copies.in_sync().all(|copy| lost.contains(&copy.core.server));
            assert_eq!(losses.iter().any(|loss| loss.slots == range.slots), is_gone, "{range:?}");
        }
        let cores: BTreeSet<String> = losses.iter().map(|loss| loss.primary.to_string()).collect();
        assert_eq!(cores, ["s2/0".to_owned(), "s3/0".to_owned()].into());
        let steps: Vec<Step> = losses.iter().map(|loss| step(loss, &lost)).collect();
        let next = document.with_all(&steps).unwrap();
        assert_eq!(next.losses().len(), losses.len(), "each is written down");
        assert_eq!(next.lost().count(), 0);
    }

    /// A copy that was being filled is better than none, and a server that lost its data better than another.
    #[test]
    fn what_is_left_is_kept() {
        let document = started(&[1, 1, 1], 1);
        let slots = SlotRange::parse("0-99").unwrap();
        let document = document.with(&Step::AddJoining { slots, core: CoreId::new("s2", 0) }).unwrap();
        let start = Step::Start { server: "s0".into(), incarnation: Incarnation::new(77) };
        let document = document.with(&start).unwrap();
        let losses = losses(&document, &names(&[]), SlotRange::ALL).unwrap();
        let told: Vec<_> =
            losses.iter().map(|loss| (loss.slots.to_string(), loss.primary.to_string(), loss.left)).collect();
        let expected = [("0-99", "s2/0", Left::Part), ("100-5460", "s0/0", Left::Nothing)];
        assert_eq!(told, expected.map(|(slots, core, left)| (slots.to_owned(), core.to_owned(), left)));
        assert_eq!(losses[0].copies, ["s0/0@0000000000000001"]);
        let steps: Vec<Step> = losses.iter().map(|loss| step(loss, &names(&[]))).collect();
        document.with_all(&steps).unwrap();
    }

    /// Nothing is given up that a server may still have.
    #[test]
    fn a_server_that_may_return_is_waited_for() {
        let document = started(&[1, 1], 2);
        let losses = |lost: &[&str]| losses(&document, &names(lost), SlotRange::ALL);
        assert_eq!(losses(&[]), Err(LossError::Nothing { last: Vec::new() }));
        assert_eq!(losses(&["s0"]), Err(LossError::Nothing { last: vec!["s1".into()] }));
        assert_eq!(losses(&["s0", "s1"]), Err(LossError::NobodyLeft));
        assert!(matches!(losses(&["s9"]), Err(LossError::Unknown { .. })));
    }
}
