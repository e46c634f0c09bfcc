use crate::{
    commands::{
        Command, Flags, Route,
        table::rows,
        tests::{
            Bench, check,
            redis::{Redis, Words},
        },
    },
    resp::Version,
};

/// Replies are those of Redis 7, to the byte, in both versions of the protocol.
#[test]
fn commands_are_described_as_redis_describes_them() {
    check(
        "COMMAND INFO get -> *1 *10 $3 get :2 *2 +readonly +fast :1 :1 :1 *3 +@read +@string +@fast *0 *1 *6 $5 flags *2 +RO +access $12 begin_search *4 $4 type $5 index $4 spec *2 $5 index :1 $9 find_keys *4 $4 type $5 range $4 spec *6 $7 lastkey :0 $7 keystep :1 $5 limit :0 *0
         COMMAND INFO nope echo -> *2 $-1 *10 $4 echo :2 *3 +loading +stale +fast :0 :0 :0 *2 +@fast +@connection *0 *0 *0
         COMMAND INFO client|id -> *1 *10 $9 client|id :2 *3 +noscript +loading +stale :0 :0 :0 *2 +@slow +@connection *0 *0 *0
         COMMAND GETKEYS mset a b c d -> *2 $1 a $1 c
         COMMAND GETKEYS object freq a -> *1 $1 a
         COMMAND GETKEYS get -> -ERR Invalid number of arguments specified for command
         COMMAND GETKEYS get a b -> -ERR Invalid number of arguments specified for command
         COMMAND GETKEYS nope a -> -ERR Invalid command specified
         COMMAND GETKEYS ping a -> -ERR The command has no key arguments
         COMMAND GETKEYSANDFLAGS get a -> *1 *2 $1 a *2 +RO +access
         COMMAND GETKEYSANDFLAGS rename a b -> *2 *2 $1 a *3 +RW +access +delete *2 $1 b *2 +OW +update
         COMMAND GETKEYSANDFLAGS set a b -> *1 *2 $1 a *2 +OW +update
         COMMAND GETKEYSANDFLAGS set a get -> *1 *2 $1 a *2 +OW +update
         COMMAND GETKEYSANDFLAGS set a b EX 1 get -> *1 *2 $1 a *3 +RW +access +update
         COMMAND LIST FILTERBY PATTERN pex*at -> *1 $9 pexpireat
         COMMAND LIST FILTERBY MODULE a -> *0
         COMMAND LIST FILTERBY ACLCAT dangerous FOO -> -ERR syntax error
         COMMAND LIST foo -> -ERR syntax error
         COMMAND DOCS nope -> *0
         COMMAND DOCS client|id -> *2 $9 client|id *8 $7 summary $47 Returns the unique client ID of the connection. $5 since $5 5.0.0 $5 group $10 connection $10 complexity $4 O(1)
         COMMAND COUNT x -> -ERR wrong number of arguments for 'command|count' command
         COMMAND FOO -> -ERR unknown subcommand 'FOO'. Try COMMAND HELP.
         HELLO 3
         COMMAND INFO echo nope -> *2 *10 $4 echo :2 ~3 +loading +stale +fast :0 :0 :0 ~2 +@fast +@connection ~0 ~0 ~0 _
         COMMAND DOCS echo -> %1 $4 echo %5 $7 summary $25 Returns the given string. $5 since $5 1.0.0 $5 group $10 connection $10 complexity $4 O(1) $9 arguments *1 %3 $4 name $7 message $4 type $6 string $12 display_text $7 message",
    );
}

/// Every command is listed, counted and documented.
#[test]
fn no_command_is_left_out() {
    let mut bench = Bench::new();
    let rows: Vec<_> = rows().collect();
    for row in &rows {
        assert!(!row.summary.is_empty() && !row.since.is_empty() && !row.group.is_empty(), "{}", row.name);
        let container = row.name.split('|').next().expect("there is a first part");
        assert!(rows.iter().any(|row| row.name == container), "{} belongs to a container", row.name);
    }
    let rows: Vec<_> = rows.iter().filter(|row| !row.flags.has(Flags::REFUSED)).collect();
    let count = rows.iter().filter(|row| !row.name.contains('|')).count();
    assert_eq!(bench.line("COMMAND COUNT"), format!(":{count}"));
    assert!(bench.line("COMMAND").starts_with(&format!("*{count} *10 ")));
    assert!(bench.line("COMMAND DOCS").starts_with(&format!("*{} ", 2 * count)));
    assert!(bench.line("COMMAND LIST").starts_with(&format!("*{} ", rows.len())));
}

/// The tips follow from the route on the gateway: clients are not told to split a command that the gateway does not
/// split.
#[test]
fn tips_follow_from_the_route() {
    let tips = |name: &str| super::tips(rows().find(|row| row.name == name).expect("a row")).join(" ");
    let to_all_nodes = "request_policy:all_nodes response_policy:all_succeeded";
    for (name, expected) in [
        ("msetnx", ""),
        ("mset", "request_policy:multi_shard response_policy:all_succeeded"),
        ("client|setname", to_all_nodes),
        ("client|setinfo", to_all_nodes),
        ("config|resetstat", to_all_nodes),
        ("config|rewrite", to_all_nodes),
        ("config|set", to_all_nodes),
        ("cluster|slot-stats", "nondeterministic_output request_policy:all_shards"),
        ("cluster|myshardid", "nondeterministic_output"),
        ("scan", "nondeterministic_output request_policy:special response_policy:special"),
        ("latency|reset", "request_policy:all_nodes response_policy:agg_sum"),
    ] {
        assert_eq!(tips(name), expected, "{name}");
    }
    for row in rows().filter(|row| !row.flags.has(Flags::REFUSED)) {
        let is_split = super::tips(row).contains(&"request_policy:multi_shard");
        assert_eq!(is_split, matches!(row.route, Route::Split(_)), "{}", row.name);
    }
}

/// The commands that Redis 7.0, which may be the one installed, describes otherwise than 7.2; and SET, whose keys have
/// a note in Redis.
const DIFFERENT: &[&str] = &[
    "client|setname",
    "config|resetstat",
    "config|rewrite",
    "latency|reset",
    "command|getkeys",
    "command|getkeysandflags",
    "getex",
    "keys",
    "msetnx",
    "pttl",
    "randomkey",
    "scan",
    "set",
    "ttl",
];

/// Every row that Redis has too has the same description.
#[test]
fn descriptions_are_those_of_a_real_redis_server() {
    let Some(mut redis) = Redis::start() else { return };
    let mut bench = Bench::new();
    let is_asked = |row: &&Command| row.subcommands.is_empty() && !row.flags.has(Flags::REFUSED);
    let rows: Vec<_> = rows().filter(is_asked).collect();
    let question = |name: &str| ["COMMAND", "INFO", name].map(|word| word.into()).to_vec();
    let questions: Vec<Words> = rows.iter().map(|row| question(row.name)).collect();
    let mut differing = Vec::new();
    for (version, hello) in [(Version::Two, "2"), (Version::Three, "3")] {
        redis.replies(&[vec![b"HELLO".to_vec(), hello.into()]]);
        bench.client.version = version;
        for (question, theirs) in questions.iter().zip(redis.replies(&questions)) {
            let name = String::from_utf8_lossy(&question[2]).into_owned();
            let ours = bench.execute(question);
            let is_known = theirs != b"*1\r\n$-1\r\n" && theirs != b"*1\r\n_\r\n";
            if is_known && ours != theirs && !DIFFERENT.contains(&name.as_str()) {
                differing.push(format!("{name}\n  {}\n  {}", ours.escape_ascii(), theirs.escape_ascii()));
            }
        }
    }
    assert!(differing.is_empty(), "ours, Redis's:\n{}", differing.join("\n"));
}
