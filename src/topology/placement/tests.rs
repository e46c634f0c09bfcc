use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::{
    slot::Slot,
    topology::{
        document::{
            Incarnation,
            strategies::{self, names, server, started},
        },
        steps::Step,
    },
};

/// A line per range of what is there: slots, primary, backups, joining.
fn picture(document: &Document) -> String {
    let line = |range: &crate::topology::document::Range| {
        let list =
            |copies: &[CopyId]| copies.iter().map(|copy| format!(" {}", document.written(copy))).collect::<String>();
        let (slots, copies) = (range.slots, &range.copies);
        format!(
            "{slots}: {} |{} |{}\n",
            document.written(&copies.primary),
            list(&copies.backups),
            list(&copies.joining)
        )
    };
    document.ranges().iter().map(line).collect()
}

/// Each server's slots are backed by all others alike, a core by as few others as can be.
#[test]
fn a_plan_spreads_backups_over_the_other_servers() {
    let plan = |cores: &[u16], copies| {
        let servers = cores.iter().enumerate().map(|(number, &cores)| server(number, cores)).collect();
        picture(&Document::plan(servers, copies).unwrap())
    };
    expect![[r#"
        0-2730: s0/0 | s1/0 |
        2731-5460: s0/0 | s2/0 |
        5461-8191: s1/0 | s0/0 |
        8192-10922: s1/0 | s2/0 |
        10923-13653: s2/0 | s0/0 |
        13654-16383: s2/0 | s1/0 |
    "#]]
    .assert_eq(&plan(&[1, 1, 1], 2));
    expect![[r#"
        0-1365: s0/0 | s1/0 |
        1366-2730: s0/0 | s2/0 |
        2731-4095: s0/1 | s1/1 |
        4096-5460: s0/1 | s2/1 |
        5461-6826: s1/0 | s0/0 |
        6827-8191: s1/0 | s2/0 |
        8192-9557: s1/1 | s0/1 |
        9558-10922: s1/1 | s2/1 |
        10923-12287: s2/0 | s0/0 |
        12288-13652: s2/0 | s1/1 |
        13653-15018: s2/1 | s0/1 |
        15019-16383: s2/1 | s1/0 |
    "#]]
    .assert_eq(&plan(&[2, 2, 2], 2));
    expect![[r#"
        0-1365: s0/0 | s1/0 s2/0 |
        1366-2731: s0/0 | s1/0 s3/0 |
        2732-4095: s0/0 | s2/0 s3/0 |
        4096-5461: s1/0 | s0/0 s2/0 |
        5462-6827: s1/0 | s0/0 s3/0 |
        6828-8191: s1/0 | s2/0 s3/0 |
        8192-9557: s2/0 | s0/0 s1/0 |
        9558-10923: s2/0 | s0/0 s3/0 |
        10924-12287: s2/0 | s1/0 s3/0 |
        12288-13653: s3/0 | s0/0 s1/0 |
        13654-15019: s3/0 | s0/0 s2/0 |
        15020-16383: s3/0 | s1/0 s2/0 |
    "#]]
    .assert_eq(&plan(&[1, 1, 1, 1], 3));
    let error = Document::plan(vec![server(0, 1)], 2).unwrap_err().to_string();
    assert_eq!(
        error,
        "2 copies of a slot are on 2 different servers, and there are 1: add servers, or ask for fewer copies"
    );
}

/// Returns the document after all steps that placement asks for, and the number of copies that were added on the way.
/// Each step is made alone. `choose` says which of so many; what is wanted is asked again where there is nothing left to do,
/// and before, where it chooses the first of 1,000.
fn walk(
    mut document: Document,
    alive: &BTreeSet<Arc<str>>,
    mut choose: impl FnMut(usize) -> usize,
) -> (Document, usize) {
    let mut added = 0;
    let mut goal = wanted(&document, alive);
    for _ in 0..3000 {
        let mut steps = next_steps(&document, &goal);
        if steps.is_empty() || choose(1000) == 0 {
            goal = wanted(&document, alive);
            steps = next_steps(&document, &goal);
        }
        if steps.is_empty() {
            return (document, added);
        }
        let step = &steps[choose(steps.len())];
        let next = document.with(step).unwrap_or_else(|error| panic!("{step}: {error}\n{}", document.to_toml()));
        if let Step::AddJoining { slots, .. } = step {
            added += usize::from(slots.len());
        }
        for slot in Slot::all().step_by(251) {
            let (before, after) = (document.copies_of(slot), next.copies_of(slot));
            let (had, has) = (document.servers_in_sync(before), next.servers_in_sync(after));
            assert!(had.min(usize::from(document.copies())) <= has, "{step}: {had} {has}");
            assert!(next.is_current(&after.primary) || !document.is_current(&before.primary), "{step}");
        }
        document = next;
    }
    panic!("this leads nowhere:\n{}", document.to_toml());
}

/// Makes the steps in their order, toward one goal.
fn first(count: usize) -> usize {
    usize::from(count == 1000)
}

/// A plan is the placement that is wanted: nothing moves.
#[test]
fn a_plan_is_at_rest() {
    for (cores, copies) in
        [(&[1, 1, 1][..], 2), (&[4, 4, 4], 2), (&[1, 2, 3, 4], 3), (&[8; 6], 2), (&[1], 1), (&[5, 1], 2)]
    {
        let document = started(cores, copies);
        let steps = next_steps(&document, &wanted(&document, &names(&document)));
        assert_eq!(steps, [], "{cores:?} {copies}");
    }
}

/// A server dies for good: the others take over its slots alike, and fill what is missing with nothing else moved. It
/// returns empty, and gets its share back: what was its before, and no more than its share.
#[test]
fn a_server_dies_and_returns() {
    for cores in [1, 3] {
        let document = started(&[cores; 4], 2);
        let mut alive = names(&document);
        alive.remove("s1");
        let mut without = document.clone();
        for by in ["s0", "s2", "s3"] {
            without = without.with(&Step::Depose { server: "s1".into(), by: by.into() }).unwrap();
            let demote = |range: &crate::topology::document::Range| {
                let copy = range.copies.backups.iter().find(|copy| &*copy.core.server == "s1")?;
                Some(Step::Demote { slots: range.slots, core: copy.core.clone() })
            };
            let demotions: Vec<Step> = without.ranges().iter().filter_map(demote).collect();
            if !demotions.is_empty() {
                without = without.with_all(&demotions).unwrap();
            }
        }
        let mut loads = Vec::new();
        for by in ["s0", "s2", "s3"] {
            let ranges = without.ranges().iter().filter(|range| &*range.copies.primary.core.server == by);
            loads.push(ranges.map(|range| range.slots.len()).sum::<u16>());
        }
        assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() < 64, "{loads:?}");

        let (rest, added) = walk(without, &alive, first);
        let missing = 2 * usize::from(SLOT_COUNT) / 4;
        assert!((missing..missing + 64).contains(&added), "{added} copies were made where {missing} were missing");
        assert!(rest.ranges().iter().all(|range| rest.servers_in_sync(&range.copies) == 2));

        let back = rest.with(&Step::Start { server: "s1".into(), incarnation: Incarnation::new(99) }).unwrap();
        let (again, added) = walk(back, &names(&document), first);
        let share = 2 * usize::from(SLOT_COUNT) / 4;
        assert!((share * 7 / 8..share * 5 / 4).contains(&added), "{added} copies were made for a share of {share}");
        let line =
            |server: &str| again.ranges().iter().filter(|range| &*range.copies.primary.core.server == server).count();
        assert!(line("s1") < 100, "its slots are in {} ranges", line("s1"));
        assert_balanced(&again);
    }
}

/// A server that leaves is emptied, and none of its slots has fewer copies meanwhile; with nowhere to go its copies stay.
#[test]
fn a_server_leaves() {
    let leave = Step::SetState { server: "s1".into(), state: ServerState::Leaving };
    let document = started(&[2, 2, 2], 2).with(&leave).unwrap();
    let (empty, _) = walk(document.clone(), &names(&document), first);
    assert_eq!(empty.with(&Step::RemoveServer { server: "s1".into() }).unwrap().members().len(), 2);
    let two = started(&[1, 1], 2).with(&leave).unwrap();
    let (stays, _) = walk(two.clone(), &names(&two), first);
    assert!(stays.ranges().iter().all(|range| &*range.copies.primary.core.server == "s0"));
    assert!(stays.ranges().iter().all(|range| stays.servers_in_sync(&range.copies) == 2));
    assert!(stays.with(&Step::RemoveServer { server: "s1".into() }).is_err());
}

/// Slots of a primary that is not alive stay what they are: a backup takes over first.
#[test]
fn nobody_moves_slots_of_a_dead_primary() {
    let document = started(&[1, 1, 1], 2);
    let alive: BTreeSet<Arc<str>> = ["s0".into(), "s2".into()].into();
    let steps = next_steps(&document, &wanted(&document, &alive));
    assert!(!steps.is_empty(), "backups of others are missing");
    for step in &steps {
        let Step::AddJoining { slots, .. } = step else { panic!("{step}") };
        assert_ne!(&*document.copies_of(Slot::new(slots.first()).unwrap()).primary.core.server, "s1", "{step}");
    }
    assert_eq!(wanted(&document, &BTreeSet::new()), []);
}

/// A core with twice the weight gets twice the slots.
#[test]
fn weights_count() {
    let document = started(&[1, 1, 1], 1);
    let heavy = document.with(&Step::SetWeight { server: "s2".into(), weight: 200 }).unwrap();
    let (rest, _) = walk(heavy.clone(), &names(&heavy), first);
    let of = |name: &str| {
        let ranges = rest.ranges().iter().filter(|range| &*range.copies.primary.core.server == name);
        ranges.map(|range| range.slots.len()).sum::<u16>()
    };
    assert_eq!((of("s0"), of("s1"), of("s2")), (4096, 4096, 8192));
}

/// No server is further from its share of primaries, or of any core's backups, than is tolerated twice.
fn assert_balanced(document: &Document) {
    let cores =
        Cores::new(document.members(), |member| member.incarnation.is_some() && member.state == ServerState::Serving);
    let holdings = holdings(document, &cores, &names(document));
    let primaries = holdings.iter().flat_map(|holding| holding.slots.clone().map(|_| holding.primary)).collect();
    let mut spread = Spread::new(&cores, &holdings, primaries, document.copies());
    spread.each_run(|spread, run| spread.keep(run));
    for &primary in &cores.eligible {
        let share = SLOT_COUNT as f64 * cores.weight[primary] as f64 / cores.server_weight.iter().sum::<u64>() as f64;
        let load = spread.primaries[primary] as f64;
        assert!((load - share).abs() <= 1.0 + tolerated(share), "{} {load} {share}", cores.all[primary]);
        for server in 0..cores.server_weight.len() {
            let (target, deficit) = (spread.target(primary, server), spread.deficit(primary, server));
            assert!(deficit.abs() <= 1.0 + 2.0 * tolerated(target), "{} {target} {deficit}", cores.all[primary]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// From any document and any servers alive, steps in any order come to an end, at which nothing is missing that can be had;
    /// on the way no slot is without its primary or has fewer copies in sync than it ought to (`walk` looks at each step).
    #[test]
    fn any_order_of_steps_comes_to_rest(
        document in strategies::document(),
        dead in any::<prop::sample::Index>(),
        is_any_dead in any::<bool>(),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        let mut alive = names(&document);
        if is_any_dead {
            let name = alive.iter().nth(dead.index(alive.len())).unwrap().clone();
            alive.remove(&name);
        }
        let mut choices = choices.iter().cycle();
        let (rest, _) = walk(document, &alive, |count| choices.next().unwrap().index(count));
        let is_eligible = |member: &&Member| {
            member.state == ServerState::Serving && member.incarnation.is_some() && alive.contains(&*member.server.name)
        };
        let servers = rest.members().iter().filter(is_eligible).count();
        for range in wanted(&rest, &alive) {
            let copies = rest.copies_of(Slot::new(range.slots.first()).unwrap());
            prop_assert_eq!(&copies.primary.core, &range.primary);
            prop_assert!(servers.min(usize::from(rest.copies())) <= rest.servers_in_sync(copies));
            prop_assert_eq!(copies.joining.len(), 0);
        }
    }

    /// Servers come, and each gets its share; with all alive the cluster is balanced at rest.
    #[test]
    fn more_servers_share_alike(cores in prop::collection::vec(1u16..4, 2..5), more in 1u16..4, copies in 1u16..3) {
        let document = started(&cores, copies);
        let document = document.with(&Step::AddServer(server(cores.len(), more))).unwrap();
        let name: Arc<str> = format!("s{}", cores.len()).into();
        let document = document.with(&Step::Start { server: name, incarnation: Incarnation::new(77) }).unwrap();
        let (rest, added) = walk(document, &names_of(&cores), first);
        let total: u16 = cores.iter().sum::<u16>() + more;
        let share = usize::from(SLOT_COUNT) * usize::from(copies) * usize::from(more) / usize::from(total);
        prop_assert!(added <= share * 3 / 2 + 64, "{} copies were made for a share of {}", added, share);
        let loads: Vec<u16> = rest.topology().ranges_by_shard().iter().map(|(_, ranges)| ranges.iter().map(|range| range.len() as u16).sum()).collect();
        prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{:?}", loads);
    }
}

fn names_of(cores: &[u16]) -> BTreeSet<Arc<str>> {
    (0..=cores.len()).map(|number| format!("s{number}").into()).collect()
}
