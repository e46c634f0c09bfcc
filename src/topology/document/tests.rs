use expect_test::expect;
use proptest::prelude::*;

use super::{strategies::started, *};
use crate::topology::steps::Step;

fn slots(text: &str) -> SlotRange {
    SlotRange::parse(text).unwrap()
}

/// Three servers of one core with two copies, of which one was started again without its data while another joins.
fn example() -> Document {
    let document = started(&[1, 1, 1], 2);
    let start = Step::Start { server: "s1".into(), incarnation: Incarnation::new(0x5f3a_09c1_5f3a_09c1) };
    let join = Step::AddJoining { slots: slots("0-2730"), core: CoreId::new("s2", 0) };
    let name = Step::NamePrimary { slots: slots("5461-8191"), core: CoreId::new("s0", 0) };
    document.with_all([&name, &start, &join]).unwrap()
}

/// A document is text that people can read: all that is known of a slot stands in one place.
#[test]
fn the_text_is_what_a_person_can_read() {
    expect![[r##"
        # The servers of a cluster, and the copies of its 16384 slots. Changed while it runs: look at it with `trine topology show`,
        # and do not edit it.
        version = 2
        revision = 5
        copies = 2

        [[server]]
        name = "s0"
        host = "127.0.0.1"
        port = 7000
        core-port = 7001
        cores = 1
        incarnation = "0000000000000001"
        state = "serving"
        weight = 100

        [[server]]
        name = "s1"
        host = "127.0.0.1"
        port = 7100
        core-port = 7101
        cores = 1
        incarnation = "5f3a09c15f3a09c1"
        former = ["0000000000000002"]
        state = "serving"
        weight = 100

        [[server]]
        name = "s2"
        host = "127.0.0.1"
        port = 7200
        core-port = 7201
        cores = 1
        incarnation = "0000000000000003"
        state = "serving"
        weight = 100

        [[range]]
        slots = "0-2730"
        primary = "s0/0"
        backups = ["s1/0@0000000000000002"]
        joining = ["s2/0"]
        epoch = 1

        [[range]]
        slots = "2731-5460"
        primary = "s0/0"
        backups = ["s2/0"]
        epoch = 1

        [[range]]
        slots = "5461-8191"
        primary = "s0/0"
        backups = ["s1/0@0000000000000002"]
        epoch = 5
        handed-over = true

        [[range]]
        slots = "8192-10922"
        primary = "s1/0@0000000000000002"
        backups = ["s2/0"]
        epoch = 1

        [[range]]
        slots = "10923-13653"
        primary = "s2/0"
        backups = ["s0/0"]
        epoch = 1

        [[range]]
        slots = "13654-16383"
        primary = "s2/0"
        backups = ["s1/0@0000000000000002"]
        epoch = 1
    "##]]
    .assert_eq(&example().to_toml());
}

/// Each mistake is told with its place and the way out.
#[test]
fn a_text_with_a_mistake_is_refused() {
    let good = example().to_toml();
    let mut answers = String::new();
    for (from, to) in [
        ("version = 2\n", ""),
        ("version = 2", "version = 3"),
        ("version = 2", "version 2"),
        ("revision = 5", "revision = 0"),
        ("revision = 5", "revision = 4"),
        ("copies = 2", "copies = 0"),
        ("copies = 2", "copies = 8"),
        ("cores = 1", "cores = 0"),
        ("state = \"serving\"", "state = \"dead\""),
        ("weight = 100", "weight = 0"),
        ("port = 7100", "port = 7000"),
        ("incarnation = \"5f3a09c15f3a09c1\"", "incarnation = \"5F3A\""),
        ("incarnation = \"5f3a09c15f3a09c1\"", "incarnation = \"0000000000000002\""),
        ("former = [\"0000000000000002\"]\n", ""),
        ("slots = \"0-2730\"", "slots = \"0-x\""),
        ("slots = \"0-2730\"", "slots = \"0-2731\""),
        ("slots = \"0-2730\"", "slots = \"1-2730\""),
        ("slots = \"0-2730\"", "slots = \"0-2729\""),
        ("slots = \"13654-16383\"", "slots = \"13654-16380\""),
        ("primary = \"s0/0\"", "primary = \"s0\""),
        ("primary = \"s0/0\"", "primary = \"nobody/0\""),
        ("primary = \"s0/0\"", "primary = \"s0/1\""),
        ("joining = [\"s2/0\"]", "joining = [\"s0/0\"]"),
        ("joining = [\"s2/0\"]", "joining = [\"s2/0\", \"s2/0\"]"),
        ("joining = [\"s2/0\"]", "joinning = [\"s2/0\"]"),
        ("epoch = 5", "epoch = 6"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Document::from_toml(&good.replacen(from, to, 1)).unwrap_err();
        answers += &format!("{error}\n");
    }
    expect![[r#"
        the topology document does not say its version: begin it with `version = 2`
        version 3 of the topology document is not the version known here, 2: use the version of trine that wrote it
        not a topology document: TOML parse error at line 3, column 9
          |
        3 | version 2
          |         ^
        key with no value, expected `=`
        revision 0: revisions begin with 1
        slots 5461-8191: epoch 5 is above revision 4: an epoch is the revision at which the primary was named; raise the revision or lower the epoch
        copies = 0: ask for at least 1 and at most 7 copies of each slot
        copies = 8: ask for at least 1 and at most 7 copies of each slot
        server "s0" has no core: give it at least one
        not a topology document: TOML parse error at line 14, column 9
           |
        14 | state = "dead"
           |         ^^^^^^
        unknown variant `dead`, expected `serving` or `leaving`
        server "s0" has weight 0: give it at least 1, or state = "leaving" to empty it
        port 7000 on 127.0.0.1 is used twice, by server "s0" and by server "s1": move the port or the core port of one of them
        server "s1": "5F3A" is not an incarnation: write 16 hexadecimal digits
        server "s1" lists incarnation 0000000000000002 twice: take it out once
        slots 0-2730: s1/0@0000000000000002 names an incarnation that server "s1" never had: take the copy out, or list the incarnation as `former`
        "0-x" is not a range of slots: write "0-5460" or "77", below 16384
        slot 2731 is in two ranges: take it from one of them
        slot 0 belongs to no core: give it to one
        slot 2730 belongs to no core: give it to one
        3 slots from 16381 on belong to no core: give each of them to one
        slots 0-2730: "s0" is not a copy: write "one/0", a server's name and the number of a core, and "one/0@5f3a09c15f3a09c1" for one of an earlier incarnation
        slots 0-2730: nobody/0 is on a server that is not in the document, which has s0, s1, s2: name one of those, or add the server
        slots 0-2730: there is no core s0/1: server "s0" has 1, numbered from 0; name one of those
        slots 0-2730: s0/0 has two copies of them: let it have one, as primary, backup or joining copy
        slots 0-2730: s2/0 has two copies of them: let it have one, as primary, backup or joining copy
        not a topology document: TOML parse error at line 42, column 1
           |
        42 | joinning = ["s2/0"]
           | ^^^^^^^^
        unknown field `joinning`, expected one of `slots`, `primary`, `backups`, `joining`, `epoch`, `handed-over`
        slots 5461-8191: epoch 6 is above revision 5: an epoch is the revision at which the primary was named; raise the revision or lower the epoch
    "#]]
    .assert_eq(&answers);
}

/// Two copies on one server are for moving between its cores; a third has no purpose.
#[test]
fn a_server_has_at_most_two_copies_of_a_slot() {
    let document = started(&[3, 1], 2);
    let join = |core| Step::AddJoining { slots: slots("0-10"), core: CoreId::new("s0", core) };
    let two = document.with(&join(1)).unwrap();
    let error = two.with(&join(2)).unwrap_err().to_string();
    assert!(error.contains("server \"s0\" has three copies"), "{error}");
}

/// Clients see primaries and nobody else, in the epoch that is the document's revision.
#[test]
fn clients_are_told_of_primaries() {
    let document = example();
    let topology = document.topology();
    assert_eq!(topology.epoch, Epoch::new(5));
    assert_eq!(topology.servers().len(), 3);
    for slot in Slot::all() {
        let shard = topology.owner(slot);
        let primary = &document.copies_of(slot).primary.core;
        assert_eq!(
            (&*topology.servers()[usize::from(shard.server)].name, shard.core),
            (&*primary.server, primary.core)
        );
    }
    assert_eq!(Topology::from_toml(&topology.to_toml()).unwrap(), topology);
}

/// A fixed topology is shown as a document with one copy of each slot.
#[test]
fn a_fixed_topology_is_a_document_with_one_copy() {
    let topology = started(&[2, 1], 1).topology();
    let document = Document::of_topology(&topology);
    document.validate().unwrap();
    assert_eq!(document.topology(), topology);
}

#[test]
fn ids_are_read_as_they_are_written() {
    for text in ["one/0", "a-b_c.d/12"] {
        assert_eq!(CoreId::parse(text).unwrap().to_string(), text);
    }
    for text in ["", "one", "one/", "/1", "one/-1", "one/+1", "one/70000", "one/x"] {
        assert_eq!(CoreId::parse(text), None, "{text}");
    }
    assert_eq!(Incarnation::parse("00000000000000ff"), Some(Incarnation::new(255)));
    for text in ["", "ff", "00000000000000FF", "+0000000000000ff", "00000000000000fg"] {
        assert_eq!(Incarnation::parse(text), None, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A document that was written is read back as the same, and its revision is found without reading all of it.
    #[test]
    fn a_document_survives_its_text(document in strategies::document()) {
        let text = document.to_toml();
        let read = Document::from_toml(&text);
        prop_assert_eq!(read.as_ref(), Ok(&document), "{}", text);
        prop_assert_eq!(Document::revision_of(&text), Ok(document.revision()));
    }

    /// Neighbours differ, and every slot is found in its range.
    #[test]
    fn ranges_are_the_fewest_and_complete(document in strategies::document()) {
        let ranges = document.ranges();
        prop_assert!(ranges.windows(2).all(|pair| pair[0].copies != pair[1].copies));
        let slots: u32 = ranges.iter().map(|range| u32::from(range.slots.len())).sum();
        prop_assert_eq!(slots, u32::from(SLOT_COUNT));
        for range in ranges {
            for slot in [range.slots.first(), range.slots.last()] {
                prop_assert_eq!(document.copies_of(Slot::new(slot).unwrap()), &range.copies);
            }
        }
    }
}

/// A mistake is told with its line, also one that only the whole document shows.
#[test]
fn a_mistake_has_its_line() {
    let good = example().to_toml();
    for (from, to, beside) in [
        ("version = 2", "version = 3", 0),
        ("revision = 5", "revision = 0", 0),
        ("copies = 2", "copies = 0", 0),
        ("name = \"s1\"", "name = \"s 1\"", -1),
        ("name = \"s1\"", "name = \"s0\"", -1),
        ("incarnation = \"5f3a09c15f3a09c1\"", "incarnation = \"5F3A\"", 0),
        ("former = [\"0000000000000002\"]", "former = [\"5f3a09c15f3a09c1\"]", -1),
        ("slots = \"0-2730\"", "slots = \"0-99999\"", 0),
        ("slots = \"0-2730\"", "slots = \"0-2731\"", 6),
        ("joining = [\"s2/0\"]", "joining = [\"s2\"]", 0),
        ("joining = [\"s2/0\"]", "joining = [\"s9/0\"]", 0),
        ("joining = [\"s2/0\"]", "joining = [\"s2/7\"]", 0),
        ("epoch = 5", "epoch = 6", -4),
    ] {
        let text = good.replacen(from, to, 1);
        let at = good.lines().position(|line| line == from).expect("it is there") as i64 + 1;
        let error = Document::from_toml(&text).expect_err(to);
        assert_eq!(error.line_in(&text).map(|line| line as i64), Some(at + beside), "{to}: {error}\n{text}");
    }
    let hole = good.replacen("slots = \"2731-5460\"", "slots = \"2732-5460\"", 1);
    let error = Document::from_toml(&hole).unwrap_err();
    let line = hole.lines().nth(error.line_in(&hole).unwrap()).unwrap();
    assert_eq!(line, "slots = \"0-2730\"", "the range in front of the gap");
}
