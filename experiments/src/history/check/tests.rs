use super::*;
use crate::history::Reply;
use proptest::prelude::*;

/// Reads operations: called, returned (or `-`), `commands -> replies` (as JSON, apart by blanks), the commands apart by `;`.
fn history(text: &str) -> Vec<Operation> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let operation = |(client, line): (u64, &str)| {
        let (times, rest) = line.split_once(": ").expect("times");
        let (called, returned) = times.split_once(' ').expect("two times");
        let (commands, replies) = rest.split_once(" -> ").unwrap_or((rest, ""));
        let operation = Operation {
            client,
            called_ns: called.parse().expect("a time"),
            returned_ns: returned.parse().ok(),
            commands: commands.split("; ").map(|words| words.split(' ').map(str::to_owned).collect()).collect(),
            replies: replies.split_whitespace().map(|reply| serde_json::from_str(reply).expect("JSON")).collect(),
        };
        operation.parse().expect("an operation");
        operation
    };
    (0..).zip(lines).map(operation).collect()
}

#[track_caller]
fn verdict(text: &str) -> Verdict {
    check(&history(text), SITUATIONS_MAX).0
}

/// Operations at the same time may have happened in any order, and those without a reply at any time or never.
#[test]
fn good_histories_are_accepted() {
    for text in [
        "",
        "0 9: SET a 1 -> \"OK\"
         1 2: GET a -> null
         3 4: GET a -> \"1\"",
        // A write without a reply, seen late.
        "0 -: SET a 1
         1 2: GET a -> null
         8 9: GET a -> \"1\"",
        // ... or never.
        "0 -: INCR a
         1 2: INCR a -> 1
         3 4: GET a -> \"1\"",
        "0 -: INCR a
         1 2: INCR a -> 2
         3 4: DEL a b -> 1
         5 6: EXISTS a -> 0",
        // Three at once; only one order explains the replies.
        "0 9: SET a 1 -> \"OK\"
         0 9: GETSET a 2 -> \"1\"
         0 9: APPEND a 3 -> 2
         10 11: GET a -> \"23\"",
        // Transactions.
        "0 9: SET a 1; INCR b -> \"OK\" 1
         2 4: MGET a b -> [null,null]
         5 6: GET a; GET b -> \"1\" \"1\"
         7 8: INCR a; SETNX b 5 -> 2 0",
        // An error changes nothing.
        "0 1: SET a x -> \"OK\"
         2 3: INCR a -> {\"error\":\"ERR\"}
         4 5: GET a -> \"x\"",
        "0 1: DECRBY a 3 -> -3
         2 3: MSET a 5 b 6 -> \"OK\"
         4 5: DECR a -> 4",
    ] {
        assert_eq!(verdict(text), Verdict::Linearizable, "{text}");
    }
}

/// Each kind of mistake that a replicated store makes is found, with the keys that it is about.
#[test]
fn bad_histories_are_refused() {
    for (mistake, text) in [
        ("a lost write", "0 1: SET a 1 -> \"OK\"\n2 3: GET a -> null"),
        ("an old value", "0 1: SET a 1 -> \"OK\"\n2 3: SET a 2 -> \"OK\"\n4 5: GET a -> \"1\""),
        ("a value that nobody wrote", "0 1: GET a -> \"1\""),
        ("a value from the future", "0 1: GET a -> \"1\"\n2 3: SET a 1 -> \"OK\""),
        ("an increment that ran twice", "0 1: INCR a -> 1\n2 3: INCR a -> 3"),
        ("an increment that was lost", "0 9: INCR a -> 1\n0 9: INCR a -> 1"),
        ("a key that was deleted twice", "0 1: SET a 1 -> \"OK\"\n2 9: DEL a -> 1\n2 9: DEL a -> 1"),
        ("a write that was seen, and then not", "0 -: SET a 1\n1 2: GET a -> \"1\"\n3 4: GET a -> null"),
        (
            "two readers of different orders",
            "0 9: SET a 1 -> \"OK\"\n0 9: SET a 2 -> \"OK\"\n10 11: GET a -> \"1\"\n12 13: GET a -> \"2\"",
        ),
        ("half a transaction", "0 1: SET a 1; SET b 1 -> \"OK\" \"OK\"\n2 3: MGET a b -> [\"1\",null]"),
        ("a transaction with something in between", "0 9: INCR a; INCR a -> 1 3\n0 9: INCR a -> 2"),
        ("a write that was undone", "0 1: SET a 1 -> \"OK\"\n2 -: DEL a\n3 4: GET a -> null\n5 6: GET a -> \"1\""),
        ("an append that came twice", "0 1: APPEND a x -> 1\n2 3: GET a -> \"xx\""),
        ("SETNX of a key that was there", "0 1: SETNX a 1 -> 1\n2 3: SETNX a 2 -> 1"),
        ("an error out of nothing", "0 1: INCR a -> {\"error\":\"ERR\"}"),
    ] {
        let Verdict::Violation(violation) = verdict(text) else { panic!("{mistake} is not found: {text}") };
        assert!(violation.keys.contains(&"a".to_owned()) && !violation.stuck.is_empty(), "{mistake}: {violation}");
    }
}

/// Keys that nobody names together are looked at apart, and a violation of one is not hidden by others.
#[test]
fn keys_are_looked_at_apart() {
    let text = "0 1: SET a 1 -> \"OK\"
                0 1: SET b 1 -> \"OK\"
                2 3: GET b -> null
                2 3: MSET c 1 d 2 -> \"OK\"
                4 5: GET d -> \"2\"";
    let (verdict, counts) = check(&history(text), SITUATIONS_MAX);
    assert_eq!(counts, Counts { operations: 5, open: 0, groups: 3 });
    let Verdict::Violation(violation) = verdict else { panic!("{verdict:?}") };
    assert_eq!((violation.keys, violation.explained), (vec!["b".to_owned()], 1));
    assert_eq!(
        violation.stuck.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["client 2, 0.000002 to 0.000003 ms: GET b -> null"]
    );
}

/// A search that takes too long is no verdict.
#[test]
fn a_search_is_bounded() {
    let mut text: String = (0..20).map(|number| format!("0 -: APPEND a {number}\n")).collect();
    text += "1 2: GET a -> \"zzz\"";
    assert_eq!(check(&history(&text), 1000).0, Verdict::Undecided { keys: vec!["a".into()] });
}

/// Returns true if some order of all closed and any of the open operations fits, by trying all.
fn fits(history: &[Operation], done: &mut Vec<usize>, state: &State) -> bool {
    let is_left = |index: &usize| !done.contains(index);
    let left: Vec<_> = (0..history.len()).filter(is_left).collect();
    let until = left.iter().filter_map(|&index| history[index].returned_ns).min();
    let Some(until) = until else { return true };
    left.into_iter().filter(|&index| history[index].called_ns <= until).any(|index| {
        let mut state = state.clone();
        let commands = history[index].parse().expect("an operation");
        let replies: Vec<_> = commands.iter().map(|command| command.execute(&mut state)).collect();
        let is_told = history[index].returned_ns.is_none() || replies == history[index].replies;
        done.push(index);
        let found = is_told && fits(history, done, &state);
        done.pop();
        found
    })
}

fn words() -> impl Strategy<Value = Vec<String>> {
    let key = || prop::sample::select(vec!["a", "b"]);
    let value = || prop::sample::select(vec!["1", "2"]);
    let own = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    prop_oneof![
        key().prop_map(move |key| own(&["GET", key])),
        (key(), value()).prop_map(move |(key, value)| own(&["SET", key, value])),
        key().prop_map(move |key| own(&["INCR", key])),
        key().prop_map(move |key| own(&["DEL", key])),
        (key(), value()).prop_map(move |(key, value)| own(&["APPEND", key, value])),
    ]
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let reply = prop_oneof![
        Just(Reply::Nil),
        Just(Reply::Text("OK".into())),
        (0..4_i64).prop_map(Reply::Integer),
        prop::sample::select(vec!["1", "2", "11"]).prop_map(|text| Reply::Text(text.into())),
    ];
    let operation = (words(), reply, 0..20_u64, 0..8_u64, 0..5_u8);
    prop::collection::vec(operation, 0..6).prop_map(|all| {
        let operation =
            |(client, (words, reply, called_ns, duration, kind)): (u64, (Vec<String>, Reply, u64, u64, u8))| {
                let is_open = kind == 0;
                Operation {
                    client,
                    called_ns,
                    returned_ns: (!is_open).then_some(called_ns + duration),
                    commands: vec![words],
                    replies: if is_open { Vec::new() } else { vec![reply] },
                }
            };
        (0..).zip(all).map(operation).collect()
    })
}

/// Gives operations the replies of a store that executes each at some instant between its call and its return.
fn told(mut history: Vec<Operation>, instants: &[u64]) -> Vec<Operation> {
    let mut order: Vec<_> = (0..history.len()).collect();
    let instant = |operation: &Operation, index: usize| {
        let until = operation.returned_ns.unwrap_or(operation.called_ns + 9);
        operation.called_ns + instants[index % instants.len()] % (until - operation.called_ns + 1)
    };
    order.sort_by_key(|&index| instant(&history[index], index));
    let mut state = State::new();
    for index in order {
        let commands = history[index].parse().expect("an operation");
        let replies = commands.iter().map(|command| command.execute(&mut state)).collect();
        if history[index].returned_ns.is_some() {
            history[index].replies = replies;
        }
    }
    history
}

proptest! {
    /// Small histories of any kind get the verdict of a search through all orders.
    #[test]
    fn verdicts_are_those_of_trying_everything(history in operations()) {
        let expected = fits(&history, &mut Vec::new(), &State::new());
        prop_assert_eq!(check(&history, SITUATIONS_MAX).0 == Verdict::Linearizable, expected);
    }

    /// A store that does one thing after the other is never accused.
    #[test]
    fn what_one_store_has_told_is_accepted(history in operations(), instants in prop::collection::vec(any::<u64>(), 6)) {
        prop_assert_eq!(check(&told(history, &instants), SITUATIONS_MAX).0, Verdict::Linearizable);
    }
}
