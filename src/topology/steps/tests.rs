use proptest::prelude::*;

use super::*;
use crate::{
    slot::Slot,
    topology::document::{
        Revision,
        strategies::{self, names, seed, started, step},
    },
};

fn slots(text: &str) -> SlotRange {
    SlotRange::parse(text).unwrap()
}

fn core(text: &str) -> CoreId {
    CoreId::parse(text).unwrap()
}

/// The roles of a slot's copies in a line: primary | backups | joining @ epoch.
fn roles(document: &Document, slot: u16) -> String {
    let copies = document.copies_of(Slot::new(slot).unwrap());
    let list = |copies: &[CopyId]| copies.iter().map(|copy| document.written(copy)).collect::<Vec<_>>().join(" ");
    let handed_over = if copies.handed_over { ", handed over" } else { "" };
    let (primary, epoch) = (document.written(&copies.primary), copies.epoch.number());
    format!("{primary} | {} | {} @ {epoch}{handed_over}", list(&copies.backups), list(&copies.joining))
}

/// A slot moves without a moment in which it is not covered: join, backup, primary, drop.
#[test]
fn a_slot_moves_step_by_step() {
    let mut document = started(&[1, 1, 1], 2);
    let (here, to) = (slots("100-199"), core("s2/0"));
    let mut story = vec![roles(&document, 100)];
    for step in [
        Step::AddJoining { slots: here, core: to.clone() },
        Step::MakeBackup { slots: here, core: to.clone() },
        Step::NamePrimary { slots: here, core: to.clone() },
        Step::DropCopy { slots: here, core: core("s0/0") },
    ] {
        document = document.with(&step).unwrap();
        story.push(roles(&document, 100));
    }
    assert_eq!(
        story,
        [
            "s0/0 | s1/0 |  @ 1",
            "s0/0 | s1/0 | s2/0 @ 1",
            "s0/0 | s1/0 s2/0 |  @ 1",
            "s2/0 | s0/0 s1/0 |  @ 7, handed over",
            "s2/0 | s1/0 |  @ 7, handed over",
        ]
    );
    for beside in [99, 200] {
        assert_eq!(roles(&document, beside), "s0/0 | s1/0 |  @ 1", "only the range moves");
    }
}

/// One change takes over all that one server backs of another, and what the other has is not waited for any more.
#[test]
fn a_failover_is_one_change_per_server() {
    let document = started(&[2, 2, 2], 2);
    let next = document.with(&Step::Depose { server: "s0".into(), by: "s1".into() }).unwrap();
    for (before, after) in Slot::all().map(|slot| (document.copies_of(slot), next.copies_of(slot))) {
        let is_taken =
            &*before.primary.core.server == "s0" && before.backups.iter().any(|copy| &*copy.core.server == "s1");
        if is_taken {
            assert_eq!((&*after.primary.core.server, after.epoch), ("s1", next.revision().epoch()));
            assert_eq!((after.backups.len(), &after.joining[0]), (0, &before.primary));
        } else {
            assert_eq!(before, after);
        }
    }
    let again = next.with(&Step::Depose { server: "s0".into(), by: "s1".into() });
    assert!(matches!(again, Err(StepError::NothingToDepose { .. })), "{again:?}");
}

/// A server that lost its data is somebody new: what it was primary or backup of is lost with it, what joined joins anew.
#[test]
fn a_new_incarnation_has_no_seat_but_to_join() {
    let document = started(&[1, 1], 2);
    assert_eq!(document.servers_in_sync(&document.ranges()[0].copies), 2);
    let demoted = document.with(&Step::Demote { slots: slots("0-10"), core: core("s1/0") }).unwrap();
    let next = demoted.with(&Step::Start { server: "s1".into(), incarnation: Incarnation::new(255) }).unwrap();
    assert_eq!(roles(&next, 0), "s0/0 |  | s1/0 @ 1");
    assert_eq!(roles(&next, 11), "s0/0 | s1/0@0000000000000002 |  @ 1");
    assert_eq!(roles(&next, 16383), "s1/0@0000000000000002 | s0/0 |  @ 1");
    let lost = next.with(&Step::NamePrimary { slots: slots("11-20"), core: core("s1/0") });
    assert!(matches!(lost, Err(StepError::LostCopy { .. })), "{lost:?}");
    let used = next.with(&Step::Start { server: "s1".into(), incarnation: Incarnation::new(2) });
    assert!(matches!(used, Err(StepError::IncarnationUsed { .. })), "{used:?}");
    // The other takes over, and nobody names the old incarnation any more.
    let drop = Step::DropCopy { slots: slots("11-8191"), core: core("s1/0") };
    let next = next.with_all([&Step::Depose { server: "s1".into(), by: "s0".into() }, &drop]).unwrap();
    assert_eq!(roles(&next, 16383), "s0/0 |  |  @ 6");
    assert_eq!(next.member("s1").unwrap().former, []);
}

/// In the order of their start, servers take the seats that were planned for them; a server added later has none.
#[test]
fn a_first_start_takes_the_planned_seats() {
    let document = Document::plan(vec![strategies::server(0, 1), strategies::server(1, 1)], 2).unwrap();
    let unstarted = document.with(&Step::AddServer(strategies::server(2, 1))).unwrap();
    let join = Step::AddJoining { slots: slots("0-9"), core: core("s2/0") };
    assert!(matches!(unstarted.with(&join), Err(StepError::NotStarted { .. })));
    let next = unstarted.with(&Step::Start { server: "s1".into(), incarnation: Incarnation::new(7) }).unwrap();
    assert_eq!(next.copies_of(Slot::new(16383).unwrap()).primary.incarnation, Some(Incarnation::new(7)));
    assert_eq!(next.copies_of(Slot::new(0).unwrap()).backups[0].incarnation, Some(Incarnation::new(7)));
    assert_eq!(next.copies_of(Slot::new(0).unwrap()).primary.incarnation, None);
}

/// A loss is accepted for what cannot come back, and for nothing else; the document says for good what was given up.
#[test]
fn a_loss_is_accepted_and_noted() {
    let document = started(&[1, 1, 1], 2);
    let accept = |slots_: &str, lost: &[&str], to: &str| Step::AcceptLoss {
        slots: slots(slots_),
        lost: lost.iter().map(|&name| name.into()).collect(),
        core: core(to),
    };
    let refused = document.with(&accept("0-100", &["s0"], "s2/0")).unwrap_err().to_string();
    assert!(refused.contains("s1/0@0000000000000002 is in sync"), "{refused}");
    assert!(
        document.with(&accept("0-100", &["s0", "s1"], "s1/0")).is_err(),
        "a server that is given up takes nothing over"
    );
    let next = document.with(&accept("0-100", &["s0", "s1"], "s2/0")).unwrap();
    assert_eq!(roles(&next, 100), "s2/0 |  |  @ 5");
    let loss = &next.losses()[0];
    assert_eq!((loss.revision, loss.slots), (Revision::new(5), slots("0-100")));
    assert_eq!(loss.copies, ["s0/0@0000000000000001", "s1/0@0000000000000002"]);
}

/// A server is removed when nobody has a copy on it.
#[test]
fn a_server_with_copies_stays() {
    let document = started(&[1, 1], 1).with(&Step::AddServer(strategies::server(2, 1))).unwrap();
    let remove = |name: &str| Step::RemoveServer { server: name.into() };
    assert!(matches!(document.with(&remove("s0")), Err(StepError::StillNamed { .. })));
    assert!(matches!(document.with(&remove("s9")), Err(StepError::Unknown { .. })));
    assert_eq!(document.with(&remove("s2")).unwrap().members().len(), 2);
    let same_port = Server { name: "s3".into(), ..strategies::server(0, 1) };
    assert!(matches!(document.with(&Step::AddServer(same_port)), Err(StepError::Document(_))));
    let fewer_cores = Step::ChangeServer(Server { cores: 0, ..strategies::server(0, 1) });
    assert!(document.with(&fewer_cores).is_err());
}

/// Returns true if the step may leave a slot without a copy of its own server's present data that it had before: only these
/// are meant to.
fn gives_up(step: &Step) -> bool {
    matches!(
        step,
        Step::Start { .. }
            | Step::AcceptLoss { .. }
            | Step::Demote { .. }
            | Step::DropCopy { .. }
            | Step::Depose { .. }
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any step that is allowed leads to the next revision of a whole document; a primary's epoch is that revision if and only
    /// if it was named; and no slot's primary comes from anywhere but its copies in sync, unless a loss is accepted.
    #[test]
    fn steps_keep_a_document_whole(document in strategies::document(), seeds in prop::collection::vec(seed(), 1..20)) {
        for seed in seeds {
            let step = step(&document, seed);
            let Ok(next) = document.with(&step) else { continue };
            prop_assert_eq!(next.revision(), document.revision().next());
            prop_assert_eq!(next.validate(), Ok(()));
            for slot in Slot::all().step_by(151) {
                let (before, after) = (document.copies_of(slot), next.copies_of(slot));
                let is_named = before.primary != after.primary && !matches!(step, Step::Start { .. });
                if is_named || matches!(step, Step::Resume { .. }) && before.epoch != after.epoch {
                    prop_assert_eq!(after.epoch, next.revision().epoch());
                } else {
                    prop_assert_eq!(after.epoch, before.epoch);
                }
                if is_named && !matches!(step, Step::AcceptLoss { .. }) {
                    prop_assert!(before.in_sync().any(|copy| *copy == after.primary), "{} {:?}", step, after);
                }
                if !gives_up(&step) {
                    prop_assert!(document.servers_in_sync(before) <= next.servers_in_sync(after), "{}", step);
                }
                if !matches!(step, Step::AcceptLoss { .. } | Step::Start { .. }) {
                    let was_in_sync = |copy: &CopyId| before.in_sync().any(|other| other == copy);
                    let is_made = matches!(step, Step::MakeBackup { .. });
                    prop_assert!(after.in_sync().all(|copy| was_in_sync(copy) || is_made), "{}", step);
                }
            }
        }
    }

    /// A failover does the same whatever else the document holds: nothing of the deposed server that the other has in
    /// sync stays with it, and nobody else loses a primary.
    #[test]
    fn a_failover_takes_all_and_nothing_else(document in strategies::document()) {
        for (server, by) in names(&document).iter().flat_map(|server| names(&document).into_iter().map(move |by| (server.clone(), by))) {
            let Ok(next) = document.with(&Step::Depose { server: server.clone(), by: by.clone() }) else { continue };
            for slot in Slot::all().step_by(151) {
                let (before, after) = (document.copies_of(slot), next.copies_of(slot));
                if before.primary.core.server != server {
                    prop_assert_eq!(before, after);
                } else {
                    let backs = before.backups.iter().any(|copy| copy.core.server == by && document.is_current(copy));
                    prop_assert_eq!(backs, after.primary.core.server == by);
                }
            }
        }
    }
}
