//! The steps that lead from a document to what is wanted.

use super::Wanted;
use crate::topology::{
    document::{Copies, CoreId, Document, SlotRange},
    steps::Step,
};

/// The order in which steps are made: what is lost makes room, and copies come before copies go.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    DropLost,
    AddJoining,
    MakeBackup,
    NamePrimary,
    Drop,
}

/// Returns the steps that may be made now toward what is wanted, each safe by itself and in any order. None makes a slot
/// have fewer copies in sync than the document asks for, or fewer than it has where that is less. When there are none, the
/// document is what is wanted, or cannot become so for now.
///
/// A step is made by the primary of its slots, once it is true: [`Step::MakeBackup`] when the copy has been filled,
/// [`Step::NamePrimary`] when the primary has stopped and the backup has everything.
pub fn next_steps(document: &Document, wanted: &[Wanted]) -> Vec<Step> {
    let mut found: Vec<(Kind, CoreId, SlotRange)> = Vec::new();
    let mut wanted = wanted.iter().peekable();
    for range in document.ranges() {
        while let Some(next) = wanted.peek() {
            if let Some(slots) = next.slots.intersection(range.slots) {
                for (kind, core) in steps_of(document, &range.copies, next) {
                    found.push((kind, core, slots));
                }
            }
            if range.slots.last() < next.slots.last() {
                break;
            }
            wanted.next();
        }
    }
    found.sort_by(|left, right| (left.0, &left.1, left.2).cmp(&(right.0, &right.1, right.2)));
    let mut steps: Vec<(Kind, CoreId, SlotRange)> = Vec::new();
    for (kind, core, slots) in found {
        match steps.last_mut() {
            Some(last) if (last.0, &last.1) == (kind, &core) && last.2.last() + 1 == slots.first() => {
                last.2 = SlotRange::new(last.2.first(), slots.last()).expect("both have slots");
            }
            _ => steps.push((kind, core, slots)),
        }
    }
    steps.into_iter().map(|(kind, core, slots)| step(kind, slots, core)).collect()
}

fn step(kind: Kind, slots: SlotRange, core: CoreId) -> Step {
    match kind {
        Kind::DropLost | Kind::Drop => Step::DropCopy { slots, core },
        Kind::AddJoining => Step::AddJoining { slots, core },
        Kind::MakeBackup => Step::MakeBackup { slots, core },
        Kind::NamePrimary => Step::NamePrimary { slots, core },
    }
}

/// Returns the steps for slots that have these copies.
fn steps_of(document: &Document, copies: &Copies, wanted: &Wanted) -> Vec<(Kind, CoreId)> {
    let mut steps = Vec::new();
    if !document.is_current(&copies.primary) {
        return steps;
    }
    let is_wanted = |core: &CoreId| *core == wanted.primary || wanted.backups.contains(core);
    let mut left = copies.clone();
    for copy in copies.backups.iter().chain(&copies.joining).filter(|copy| !document.is_current(copy)) {
        steps.push((Kind::DropLost, copy.core.clone()));
    }
    for core in [&wanted.primary].into_iter().chain(&wanted.backups) {
        let on_server = copies.all().filter(|copy| copy.core.server == core.server).count();
        if copies.of_core(core).is_none() && on_server < 2 {
            steps.push((Kind::AddJoining, core.clone()));
        }
    }
    for copy in copies.joining.iter().filter(|copy| document.is_current(copy)) {
        let kind = if is_wanted(&copy.core) { Kind::MakeBackup } else { Kind::Drop };
        steps.push((kind, copy.core.clone()));
    }
    for copy in copies.backups.iter().filter(|copy| document.is_current(copy)) {
        if copy.core == wanted.primary {
            steps.push((Kind::NamePrimary, copy.core.clone()));
        }
        if !is_wanted(&copy.core) {
            let before = document.servers_in_sync(&left);
            left.backups.retain(|other| other != copy);
            let after = document.servers_in_sync(&left);
            if after < before && after < usize::from(document.copies()) {
                left.backups.push(copy.clone());
            } else {
                steps.push((Kind::Drop, copy.core.clone()));
            }
        }
    }
    steps
}
