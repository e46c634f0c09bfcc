use super::*;
use crate::{
    commands::{
        Flags, Keys,
        introspection::key_specs,
        tests::{
            Bench, check,
            redis::{Redis, Words},
        },
    },
    reply::{self, Decoder, Value},
    resp::Version,
};

fn rows() -> Vec<&'static Command> {
    crate::commands::table::rows().filter(|row| !row.flags.has(Flags::REFUSED)).collect()
}

/// Every listed row has its documentation once, and nothing else is documented.
#[test]
fn every_command_is_documented_once() {
    let mut names: Vec<_> = rows().iter().map(|row| row.name).collect();
    names.sort_unstable();
    let documented: Vec<_> = TABLE.iter().map(|doc| doc.name).collect();
    assert_eq!(documented, names);
    assert!(TABLE.iter().all(|doc| !doc.complexity.is_empty()));
}

/// Returns the fewest and the most words of an argument; `None` if there is no limit.
fn words_of(argument: &Argument) -> (usize, Option<usize>) {
    let own = usize::from(argument.token.is_some());
    let parts = argument.parts.iter().map(|part| words_of(&Argument { is_optional: false, ..*part }));
    let (least, most) = match argument.kind {
        Kind::PureToken => (0, Some(0)),
        Kind::OneOf => parts.reduce(|a, b| (a.0.min(b.0), a.1.zip(b.1).map(|(a, b)| a.max(b)))).expect("it has parts"),
        Kind::Block => {
            let parts = argument.parts.iter().map(words_of);
            parts.fold((0, Some(0)), |a, b| (a.0 + b.0, a.1.zip(b.1).map(|(a, b)| a + b)))
        }
        _ => (1, Some(1)),
    };
    let most = if argument.is_multiple { None } else { most.map(|most| most + own) };
    (if argument.is_optional { 0 } else { least + own }, most)
}

/// The number of arguments agrees with the arity.
#[test]
fn arguments_fit_the_arity() {
    for row in rows().into_iter().filter(|row| row.subcommands.is_empty() && row.name != "debug") {
        let doc = TABLE.iter().find(|doc| doc.name == row.name).expect("it is documented");
        let name_words = 1 + usize::from(row.name.contains('|'));
        let words = doc.arguments.iter().map(words_of);
        let (least, most) =
            words.fold((name_words, Some(name_words)), |a, b| (a.0 + b.0, a.1.zip(b.1).map(|(a, b)| a + b)));
        assert_eq!(least, usize::from(row.arity.unsigned_abs()), "{}", row.name);
        // QUIT takes any arguments, as in Redis, and means nothing by them.
        assert_eq!(most == Some(least), 0 < row.arity || row.name == "quit", "{}: {most:?}", row.name);
    }
}

/// The key arguments are those that the key specifications find.
#[test]
fn keys_are_those_of_the_row() {
    fn keys(arguments: &[Argument]) -> Vec<i64> {
        arguments.iter().flat_map(|argument| argument.key_spec.into_iter().chain(keys(argument.parts))).collect()
    }
    for row in rows() {
        let doc = TABLE.iter().find(|doc| doc.name == row.name).expect("it is documented");
        let (keys, specs) = (keys(doc.arguments), key_specs(row).len() as i64);
        assert!(keys.iter().all(|key| (0..specs).contains(key)), "{}", row.name);
        assert_eq!(keys.is_empty(), row.keys == Keys::NONE, "{}", row.name);
        assert!((0..specs).all(|spec| keys.contains(&spec)), "{}", row.name);
    }
}

/// The form is that of Redis 7.2, to the byte.
#[test]
fn documentation_has_the_form_of_redis() {
    check(
        "COMMAND DOCS getset -> *2 $6 getset *16 $7 summary $75 Returns the previous string value of a key after setting it to a new value. $5 since $5 1.0.0 $5 group $6 string $10 complexity $4 O(1) $9 doc_flags *1 +deprecated $16 deprecated_since $5 6.2.0 $11 replaced_by $30 `SET` with the `!GET` argument $9 arguments *2 *8 $4 name $3 key $4 type $3 key $12 display_text $3 key $14 key_spec_index :0 *6 $4 name $5 value $4 type $6 string $12 display_text $5 value
         HELLO 3
         COMMAND DOCS ttl -> %1 $3 ttl %6 $7 summary $48 Returns the expiration time in seconds of a key. $5 since $5 1.0.0 $5 group $7 generic $10 complexity $4 O(1) $7 history ~1 *2 $5 2.8.0 $34 -2 says that there is no such key. $9 arguments *1 %4 $4 name $3 key $4 type $3 key $12 display_text $3 key $14 key_spec_index :0
         COMMAND DOCS exists -> %1 $6 exists %6 $7 summary $42 Determines whether one or more keys exist. $5 since $5 1.0.0 $5 group $7 generic $10 complexity $33 O(N), N being the number of keys. $7 history ~1 *2 $5 3.0.3 $21 Several keys at once. $9 arguments *1 %5 $4 name $3 key $4 type $3 key $12 display_text $3 key $14 key_spec_index :0 $5 flags ~1 +multiple",
    );
}

/// The commands that Redis 7.2 documents otherwise than 7.0, which may be the one installed: with other names of
/// arguments, additions, or deprecations since; and SET, for its IFEQ.
const ARGUMENTS_DIFFER: &[&str] = &[
    "client|kill",
    "client|list",
    "client|reply",
    "command|getkeys",
    "command|getkeysandflags",
    "config|get",
    "config|set",
    "flushall",
    "flushdb",
    "function|flush",
    "hello",
    "lcs",
    "mset",
    "msetnx",
    "set",
    "shutdown",
];
const DEPRECATED_SINCE: &[&str] = &["psetex", "quit", "setex", "setnx"];

/// Returns the value of a map's key.
fn of<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Map(pairs) = map else { return None };
    pairs.iter().find(|(key, _)| *key == Value::Bulk(name.as_bytes().to_vec())).map(|(_, value)| value)
}

/// Returns the arguments of a document without the fields that only 7.2 has.
fn arguments_of(map: &Value) -> Value {
    fn strip(value: &Value) -> Value {
        match value {
            Value::Map(pairs) => {
                let kept = pairs.iter().filter(|(name, _)| *name != Value::Bulk(b"display_text".to_vec()));
                Value::Map(kept.map(|(name, value)| (name.clone(), strip(value))).collect())
            }
            Value::Array(values) => Value::Array(values.iter().map(strip).collect()),
            value => value.clone(),
        }
    }
    of(map, "arguments").map_or(Value::Null, strip)
}

fn versions_of(map: &Value) -> Vec<Value> {
    let Some(Value::Array(changes)) = of(map, "history") else { return Vec::new() };
    changes
        .iter()
        .filter_map(|change| if let Value::Array(parts) = change { parts.first().cloned() } else { None })
        .collect()
}

/// Arguments, the versions of changes, and deprecations are those of a real server, for every command that it has.
#[test]
fn documentation_is_that_of_a_real_redis_server() {
    let Some(mut redis) = Redis::start() else { return };
    redis.replies(&[vec![b"HELLO".to_vec(), b"3".to_vec()]]);
    let mut bench = Bench::new();
    bench.client.version = Version::Three;
    let rows: Vec<_> = rows().into_iter().filter(|row| row.subcommands.is_empty()).collect();
    let question = |name: &str| ["COMMAND", "DOCS", name].map(|word| word.as_bytes().to_vec()).to_vec();
    let questions: Vec<Words> = rows.iter().map(|row| question(row.name)).collect();
    let read = |bytes: &[u8]| -> Value {
        let (reply, _) = Decoder::default().decode(bytes).expect("a reply").expect("a whole one");
        reply::Reply::to_value(reply)
    };
    let (mut compared, mut differing) = (0, Vec::new());
    for ((row, question), theirs) in rows.iter().zip(&questions).zip(redis.replies(&questions)) {
        let (ours, theirs) = (read(&bench.execute(question)), read(&theirs));
        let (Some(ours), Some(theirs)) = (of(&ours, row.name), of(&theirs, row.name)) else { continue };
        compared += 1;
        if !ARGUMENTS_DIFFER.contains(&row.name) && arguments_of(ours) != arguments_of(theirs) {
            differing.push(format!("{}\n  {:?}\n  {:?}", row.name, arguments_of(ours), arguments_of(theirs)));
        }
        if row.name != "client|list" && versions_of(ours) != versions_of(theirs) {
            differing.push(format!("{} history\n  {:?}\n  {:?}", row.name, versions_of(ours), versions_of(theirs)));
        }
        for name in ["since", "group", "deprecated_since", "replaced_by", "doc_flags"] {
            if !DEPRECATED_SINCE.contains(&row.name) && of(ours, name) != of(theirs, name) {
                differing.push(format!("{} {name}\n  {:?}\n  {:?}", row.name, of(ours, name), of(theirs, name)));
            }
        }
    }
    assert!(differing.is_empty(), "ours, Redis's:\n{}", differing.join("\n"));
    assert!(100 < compared, "Redis has nearly all: {compared}");
}
