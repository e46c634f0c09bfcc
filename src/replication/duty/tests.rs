use super::*;
use crate::{
    replication::rules,
    topology::document::{CopyId, strategies::started},
};

fn document() -> Arc<Document> {
    Arc::new(started(&[1, 1, 1], 2))
}

fn actions(duty: &mut Duty) -> Vec<Action> {
    std::iter::from_fn(|| duty.next_action()).collect()
}

fn proposed(actions: &[Action]) -> Option<Arc<Document>> {
    actions.iter().find_map(|action| match action {
        Action::CompareAndSet(document) => Some(document.clone()),
        _ => None,
    })
}

/// A server that has kept its data takes a new epoch for what it is primary of, before any core acts by a document.
#[test]
fn a_restart_begins_a_new_epoch() {
    let scenario = || {
        let document = document();
        let mine = document.member("s0").unwrap().incarnation;
        let mut duty = Duty::new("s0", 1, mine, Incarnation::new(99));
        duty.read(&document, 1);
        let before = actions(&mut duty);
        let Some(next) = proposed(&before) else { return false };
        let is_quiet = !duty.is_serving();
        duty.read(&next, 2);
        let own = next.ranges().iter().filter(|range| &*range.copies.primary.core.server == "s0");
        let is_new = own.into_iter().all(|range| range.copies.epoch == next.revision().epoch());
        is_quiet && is_new && actions(&mut duty) == [Action::Tell(Order::Adopt(next))]
    };
    assert!(scenario());
    rules::remove(Some(Rule::NewEpochAtBoot));
    let is_right = scenario();
    rules::remove(None);
    assert!(!is_right);
}

/// A server without its data is somebody new: it keeps its new name first, and has none of its seats in sync.
#[test]
fn a_server_without_its_data_is_somebody_new() {
    let document = document();
    let mut duty = Duty::new("s0", 1, None, Incarnation::new(99));
    duty.read(&document, 1);
    assert_eq!(actions(&mut duty), [Action::Keep(Incarnation::new(99))]);
    duty.kept(2);
    let next = proposed(&actions(&mut duty)).unwrap();
    assert_eq!(next.member("s0").unwrap().incarnation, Some(Incarnation::new(99)));
    let new = CopyId { core: CoreId::new("s0", 0), incarnation: Some(Incarnation::new(99)) };
    assert!(next.ranges().iter().all(|range| range.copies.in_sync().all(|copy| *copy != new)));
    duty.read(&next, 3);
    assert!(duty.is_serving());
}

/// Without an answer the outcome is not known: nothing else is proposed, and the same again while the store has the one before it.
#[test]
fn a_change_without_an_answer_is_pending() {
    let scenario = || {
        let document = document();
        let mut duty = Duty::new("s0", 1, document.member("s0").unwrap().incarnation, Incarnation::new(99));
        duty.read(&document, 1);
        let resumed = proposed(&actions(&mut duty)).unwrap();
        duty.read(&resumed, 2);
        assert!(duty.ask(Step::SetCopies(3)) && duty.ask(Step::SetCopies(1)));
        duty.tick(3, &[], Vec::new());
        let revision = resumed.revision().next();
        duty.prepared(0, revision, Readiness::Ready, 4);
        let first = proposed(&actions(&mut duty)).unwrap();
        duty.no_answer();
        duty.tick(5, &[], Vec::new());
        duty.prepared(0, revision, Readiness::Ready, 6);
        let is_quiet = proposed(&actions(&mut duty)).is_none();
        duty.read(&resumed, 7);
        is_quiet && proposed(&actions(&mut duty)) == Some(first)
    };
    assert!(scenario());
    rules::remove(Some(Rule::PendingUntilKnown));
    let is_right = scenario();
    rules::remove(None);
    assert!(!is_right);
}

/// A server that is silent is deposed once every core is ready, and not while the store is away.
#[test]
fn a_silent_server_is_deposed_if_the_store_is_there() {
    let document = document();
    let mut duty = Duty::new("s0", 2, document.member("s0").unwrap().incarnation, Incarnation::new(99));
    duty.read(&document, 1);
    let resumed = proposed(&actions(&mut duty)).unwrap();
    duty.read(&resumed, 2);
    actions(&mut duty);
    let silent: [Arc<str>; 1] = ["s1".into()];
    duty.tick(10_000_000, &silent, Vec::new());
    duty.tick(10_050_000, &silent, Vec::new());
    assert_eq!(actions(&mut duty).into_iter().filter(|action| *action != Action::Read).count(), 0, "the store is away");
    duty.read(&resumed, 10_060_000);
    duty.tick(10_070_000, &silent, Vec::new());
    let revision = resumed.revision().next();
    assert!(matches!(&actions(&mut duty)[..], [.., Action::Tell(Order::Prepare(next))] if next.revision() == revision));
    duty.prepared(0, revision, Readiness::Ready, 10_070_000);
    duty.prepared(1, revision, Readiness::Wait(10_500_000), 10_070_000);
    duty.tick(10_080_000, &silent, Vec::new());
    assert_eq!(proposed(&actions(&mut duty)), None);
    duty.tick(10_500_000, &silent, Vec::new());
    duty.prepared(1, revision, Readiness::Ready, 10_500_000);
    let next = proposed(&actions(&mut duty)).unwrap();
    assert!(next.ranges().iter().any(|range| {
        let is_mine = &*range.copies.primary.core.server == "s0";
        is_mine && range.copies.epoch == next.revision().epoch()
    }));
}
