//! Random documents for properties: a plan, and any steps from there that are allowed.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;

use super::{CoreId, Document, Incarnation, ServerState, SlotRange};
use crate::topology::{Server, steps::Step};

pub(crate) fn server(number: usize, cores: u16) -> Server {
    let port = 7000 + 100 * u16::try_from(number).unwrap();
    Server { name: format!("s{number}"), host: "127.0.0.1".into(), port, core_port: port + 1, cores }
}

pub(crate) fn names(document: &Document) -> BTreeSet<Arc<str>> {
    document.members().iter().map(|member| member.server.name.as_str().into()).collect()
}

/// Returns a document whose servers have all been started once.
pub(crate) fn started(cores: &[u16], copies: u16) -> Document {
    let servers = cores.iter().enumerate().map(|(number, &cores)| server(number, cores)).collect();
    let mut document = Document::plan(servers, copies).unwrap();
    for (number, name) in (1..).zip(names(&document)) {
        document = document.with(&Step::Start { server: name, incarnation: Incarnation::new(number) }).unwrap();
    }
    document
}

/// Four numbers from which [`step`] makes a step for any document.
pub(crate) type Seed = (u8, u16, u16, u16);

pub(crate) fn seed() -> impl Strategy<Value = Seed> {
    (0u8..16, any::<u16>(), any::<u16>(), any::<u16>())
}

/// Returns a step that the document may allow.
pub(crate) fn step(document: &Document, (kind, one, two, three): Seed) -> Step {
    let members = document.members();
    let member = &members[usize::from(one) % members.len()];
    let name: Arc<str> = member.server.name.as_str().into();
    let other: Arc<str> = members[usize::from(two) % members.len()].server.name.as_str().into();
    let range = &document.ranges()[usize::from(two) % document.ranges().len()];
    let cut = range.slots.first() + three % range.slots.len();
    let slots = if three % 3 == 0 { range.slots } else { SlotRange::new(cut, range.slots.last()).unwrap() };
    let all: Vec<CoreId> = range.copies.all().map(|copy| copy.core.clone()).collect();
    let core = match three % 4 {
        0 => CoreId::new(&name, one % member.server.cores),
        _ => all[usize::from(one) % all.len()].clone(),
    };
    match kind {
        0 | 1 => Step::AddJoining { slots, core: CoreId::new(&name, one % member.server.cores) },
        2 | 3 => Step::MakeBackup { slots, core },
        4 => Step::Demote { slots, core },
        5 | 6 => Step::NamePrimary { slots, core },
        7 => Step::DropCopy { slots, core },
        8 => Step::Depose { server: name, by: other },
        9 => Step::Resume { server: name },
        10 => Step::Start { server: name, incarnation: Incarnation::new(u64::from(two) << 16 | u64::from(three)) },
        11 => {
            let number = (0..).find(|number| document.member(&format!("s{number}")).is_none()).unwrap();
            Step::AddServer(server(number, 1 + two % 3))
        }
        12 if three % 2 == 0 => Step::SetState { server: name, state: ServerState::Leaving },
        12 => Step::SetState { server: name, state: ServerState::Serving },
        13 => Step::SetWeight { server: name, weight: 50 + two % 100 },
        14 => Step::RemoveServer { server: name },
        _ => Step::AcceptLoss { slots, lost: [name].into(), core: CoreId::new(&other, 0) },
    }
}

/// Documents that steps lead to.
pub(crate) fn document() -> impl Strategy<Value = Document> {
    let cores = prop::collection::vec(1u16..4, 1..6);
    (cores, 1u16..4, prop::collection::vec(seed(), 0..40)).prop_map(|(cores, copies, seeds)| {
        let copies = copies.min(u16::try_from(cores.len()).unwrap());
        seeds
            .into_iter()
            .fold(started(&cores, copies), |document, seed| document.with(&step(&document, seed)).unwrap_or(document))
    })
}
