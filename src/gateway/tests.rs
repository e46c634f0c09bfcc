use super::*;
use crate::{
    client::{Client, Port},
    commands::{
        Keys, Now,
        tests::{Bench, shard},
    },
    resp::{Decoded, Decoder, Limits, Version},
    shard::{Execution, Shard, Share},
    store::Policy,
};
use proptest::prelude::*;

const LIMITS: Limits = Limits { arguments_max: 1 << 20, argument_bytes_max: 1 << 20, is_authenticated: true };

fn words(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(bytes, &LIMITS), Ok(Decoded::Request(bytes.len())));
    decoder.request(bytes).args_from(0).map(<[u8]>::to_vec).collect()
}

fn spread_line(line: &str, away: Away, cores: u16, owner: impl Fn(Slot) -> Option<u16>) -> Spread {
    let bytes = encode(line.split(' ').map(str::as_bytes).collect::<Vec<_>>().into_iter());
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(&bytes, &LIMITS), Ok(Decoded::Request(bytes.len())));
    spread(decoder.request(&bytes), away, cores, owner, 7)
}

fn everywhere(merge: Merge) -> Away {
    Away { route: Route::Everywhere(merge), core: 0, keys: Keys::NONE, row: 0 }
}

/// Returns the merged reply of three cores' replies.
fn join(merge: Merge, replies: [&str; 3]) -> String {
    let mut gather = spread_line("INFO", everywhere(merge), 3, |_| Some(0)).gather;
    // The last core's reply comes first.
    assert_eq!(gather.put(2, replies[2].into()), None);
    assert_eq!(gather.put(0, replies[0].into()), None);
    String::from_utf8(gather.put(1, replies[1].into()).expect("it was the last")).expect("text")
}

/// Each kind of merging, on the replies of three cores.
#[test]
fn replies_of_several_cores_become_one() {
    for (merge, replies, joined) in [
        (Merge::Ok, ["+OK\r\n", "+OK\r\n", "+OK\r\n"], "+OK\r\n"),
        (Merge::Ok, ["+OK\r\n", "-OOM no\r\n", "+OK\r\n"], "-OOM no\r\n"),
        (Merge::Sum, [":1\r\n", ":20\r\n", ":0\r\n"], ":21\r\n"),
        (Merge::Sum, [":1\r\n", ":20\r\n", "-ERR a\r\n"], "-ERR a\r\n"),
        (Merge::Least, [":30\r\n", ":4\r\n", ":20\r\n"], ":4\r\n"),
        (
            Merge::Sums,
            ["*4\r\n+a\r\n:9\r\n+b\r\n:1\r\n", "*4\r\n+a\r\n:10\r\n+b\r\n:0\r\n", "*4\r\n+a\r\n:1\r\n+b\r\n:2\r\n"],
            "*4\r\n+a\r\n:20\r\n+b\r\n:3\r\n",
        ),
        (Merge::Sum, ["-ERR No such client\r\n", "+OK\r\n", "-ERR No such client\r\n"], "+OK\r\n"),
        (
            Merge::Elements,
            ["*1\r\n$1\r\na\r\n", "*0\r\n", "*2\r\n:1\r\n*1\r\n:2\r\n"],
            "*3\r\n$1\r\na\r\n:1\r\n*1\r\n:2\r\n",
        ),
        (Merge::Elements, ["~1\r\n+a\r\n", "~0\r\n", "~1\r\n+b\r\n"], "~2\r\n+a\r\n+b\r\n"),
        (Merge::Elements, ["*-1\r\n", "*-1\r\n", "*-1\r\n"], "*-1\r\n"),
        (Merge::Lines, ["$3\r\na\nb\r\n", "$0\r\n\r\n", "$2\r\nc\n\r\n"], "$5\r\na\nbc\n\r\n"),
        (Merge::Lines, ["=6\r\ntxt:a\n\r\n", "=4\r\ntxt:\r\n", "=6\r\ntxt:c\n\r\n"], "=8\r\ntxt:a\nc\n\r\n"),
        // The random number is 7, and the numbers of keys are not known.
        (Merge::First, ["$1\r\na\r\n", "$-1\r\n", "$1\r\nc\r\n"], "$1\r\nc\r\n"),
        (Merge::First, ["_\r\n", "_\r\n", "_\r\n"], "_\r\n"),
        (Merge::Here, ["+mine\r\n", "-ERR other\r\n", "+other\r\n"], "+mine\r\n"),
    ] {
        assert_eq!(join(merge, replies), joined, "{merge:?} {replies:?}");
    }
}

/// A random key comes from each core in proportion to its number of keys, and never from one that has none.
#[test]
fn a_random_key_is_drawn_from_cores_by_their_keys() {
    let drawn = |random: u64| {
        let away = everywhere(Merge::First);
        let mut decoder = Decoder::default();
        let request = b"RANDOMKEY\r\n";
        decoder.decode(request, &LIMITS).expect("a request");
        let mut gather = spread(decoder.request(request), away, 3, |_| Some(0), random).gather;
        for (part, keys, reply) in [(1, 999, "$1\r\nb\r\n"), (2, 0, "$-1\r\n"), (0, 1, "$1\r\na\r\n")] {
            gather.note_keys(part, keys);
            if let Some(reply) = gather.put(part, reply.into()) {
                return reply;
            }
        }
        unreachable!("all have answered")
    };
    let counts = [b"$1\r\na\r\n", b"$1\r\nb\r\n"].map(|reply| (0..2000).filter(|&n| drawn(n) == reply).count());
    assert_eq!(counts, [2, 1998]);
}

/// Counts are added, also within a field; a value that is the same on all cores stands once.
#[test]
fn info_of_the_server_is_the_sum_of_its_cores() {
    let text = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let cores = [
        "# Clients\r\nconnected_clients:1\r\ninstantaneous_input_kbps:1.25\r\n\r\n# CPU\r\nused_cpu_user:2.5\r\n\r\n\
         # Memory\r\nused_memory:1024\r\nused_memory_human:1.00K\r\nmaxmemory:5\r\n\
         used_memory_peak:2048\r\nused_memory_peak_human:2.00K\r\n\
         \r\n# Commandstats\r\ncmdstat_get:calls=1,usec=3,usec_per_call=3.00,rejected_calls=0,failed_calls=0\r\n\
         \r\n# Errorstats\r\nerrorstat_ERR:count=1\r\n\r\n# Keyspace\r\n",
        "# Clients\r\nconnected_clients:2\r\ninstantaneous_input_kbps:0.50\r\n\r\n# CPU\r\nused_cpu_user:2.0\r\n\r\n\
         # Memory\r\nused_memory:1024\r\nused_memory_human:1.00K\r\nmaxmemory:5\r\n\
         used_memory_peak:1024\r\nused_memory_peak_human:1.00K\r\n\
         \r\n# Commandstats\r\ncmdstat_get:calls=3,usec=4,usec_per_call=1.33,rejected_calls=1,failed_calls=0\r\n\
         cmdstat_set:calls=1,usec=1,usec_per_call=1.00,rejected_calls=0,failed_calls=0\r\n\
         \r\n# Errorstats\r\nerrorstat_ERR:count=2\r\nerrorstat_OOM:count=1\r\n\
         \r\n# Keyspace\r\ndb0:keys=2,expires=1,avg_ttl=1000\r\n",
        "# Clients\r\nconnected_clients:3\r\n\r\n# Keyspace\r\ndb0:keys=5,expires=3,avg_ttl=3000\r\n",
    ];
    let sum = "# Clients\r\nconnected_clients:6\r\ninstantaneous_input_kbps:1.75\r\n\r\n# CPU\r\nused_cpu_user:2.5\r\n\r\n\
        # Memory\r\nused_memory:2048\r\nused_memory_human:2.00K\r\n\
        maxmemory:5\r\nused_memory_peak:3072\r\nused_memory_peak_human:3.00K\r\n\r\n# Commandstats\r\n\
        cmdstat_get:calls=4,usec=7,usec_per_call=1.75,rejected_calls=1,failed_calls=0\r\n\
        cmdstat_set:calls=1,usec=1,usec_per_call=1.00,rejected_calls=0,failed_calls=0\r\n\
        \r\n# Errorstats\r\nerrorstat_ERR:count=3\r\nerrorstat_OOM:count=1\r\n\
        \r\n# Keyspace\r\ndb0:keys=7,expires=4,avg_ttl=2500\r\n";
    let cores = cores.map(text);
    assert_eq!(join(Merge::Info, [&cores[0], &cores[1], &cores[2]]), text(sum));
}

/// No core executes its part of a request that is wrong as a whole.
#[test]
fn a_key_without_a_value_is_one_cores_error() {
    let away = Away { route: Route::Split(Merge::Ok), core: 1, keys: Keys::PAIRS, row: 0 };
    let spread = spread_line("MSET a 1 b", away, 3, |slot| Some(slot.number() % 3));
    assert_eq!(spread.parts.len(), 1);
    assert_eq!(words(&spread.parts[0].bytes).len(), 4);
}

/// A server of several cores, driven as the engine drives it, and a client of its gateway, which is on core 1.
struct Server {
    shards: Vec<Shard>,
    client: Client,
    now: Now,
}

impl Server {
    fn new(cores: u16) -> Self {
        let Bench { client, now, .. } = Bench::new();
        Self { shards: (0..cores).map(|core| shard(cores, core, Policy::default())).collect(), client, now }
    }

    fn execute(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        let bytes = encode(words.iter().map(Vec::as_slice));
        let (mut decoder, mut output) = (Decoder::default(), Vec::new());
        assert_eq!(decoder.decode(&bytes, &LIMITS), Ok(Decoded::Request(bytes.len())));
        let me = 1 % self.shards.len();
        let shard = &mut self.shards[me];
        let away = match shard.execute(decoder.request(&bytes), &mut self.client, self.now, &mut output) {
            Execution::Done(_) => return output,
            Execution::Away(away) => away,
            Execution::Wait => panic!("nothing is watched"),
        };
        let (shard, cores) = (&self.shards[me], self.shards.len() as u16);
        let Spread { parts, mut gather } =
            spread(decoder.request(&bytes), away, cores, |slot| shard.local_owner(slot), 3);
        let mut answer = None;
        // The last part's reply comes first.
        for (position, part) in parts.iter().enumerate().rev() {
            assert!(answer.is_none(), "the answer comes with the last part");
            let mut stand_in = Client { id: 0, ..self.client.clone() };
            let client = if usize::from(part.core) == me { &mut self.client } else { &mut stand_in };
            let (mut decoder, mut output) = (Decoder::default(), Vec::new());
            assert_eq!(decoder.decode(&part.bytes, &LIMITS), Ok(Decoded::Request(part.bytes.len())));
            let shard = &mut self.shards[usize::from(part.core)];
            let share = Share::of(away.whole().is_none().then_some(position));
            let request = decoder.request(&part.bytes);
            let resolved = shard.resolve(request);
            shard.execute_passed(request, &resolved, share, client, self.now, &mut output);
            answer = gather.put(position, output);
        }
        let answer = answer.expect("all parts are in");
        if let Some(text) = answer.strip_prefix(b"-").filter(|_| away.whole().is_none()) {
            self.shards[me].note_failure(away.row, text);
        }
        answer
    }

    /// Sends each core's refusals to all cores.
    fn tell_refusals(&mut self) {
        let refusals: Box<[_]> = self.shards.iter().map(Shard::refusals).collect();
        self.shards.iter_mut().for_each(|shard| shard.remote_refusals = refusals.clone());
    }

    /// Returns each core's keys with their values.
    fn state(&self) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
        let entries = |shard: &Shard| {
            let mut entries = Vec::new();
            shard.store.scan(Cursor::START, usize::MAX, self.now.unix_millis(), |entry| {
                entries.push((entry.key().to_vec(), entry.value().to_vec()));
            });
            entries
        };
        self.shards.iter().map(entries).collect()
    }

    fn line(&mut self, line: &str) -> String {
        let words: Vec<_> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        String::from_utf8(self.execute(&words)).expect("text").replace("\r\n", " ").trim_end().to_owned()
    }
}

/// The index of a command in [`COMMANDS`], and its keys and values.
type Asked = (usize, Vec<(u8, Vec<u8>)>);

fn requests() -> impl Strategy<Value = Vec<Asked>> {
    let pair = (0u8..12, prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..6));
    prop::collection::vec((0..COMMANDS.len(), prop::collection::vec(pair, 1..9)), 1..12)
}

/// The commands of the property test: the name, the number of keys at most, and true if each key has a value.
const COMMANDS: &[(&str, usize, bool)] = &[
    ("MSET", 9, true),
    ("MSET", 9, true),
    ("MGET", 9, false),
    ("DEL", 9, false),
    ("UNLINK", 9, false),
    ("EXISTS", 9, false),
    ("TOUCH", 9, false),
    ("SET", 1, true),
    ("GET", 1, false),
    ("APPEND", 1, true),
    ("STRLEN", 1, false),
    ("DBSIZE", 0, false),
    ("FLUSHALL", 0, false),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Spread over cores and merged, a reply is that of one core with all keys.
    #[test]
    fn several_cores_answer_as_one(requests in requests(), cores in 2u16..5, is_three in any::<bool>()) {
        let (mut alone, mut several) = (Bench::new(), Server::new(cores));
        let version = if is_three { Version::Three } else { Version::Two };
        (alone.client.version, several.client.version) = (version, version);
        for (command, pairs) in requests {
            let (name, keys, has_values) = COMMANDS[command];
            let mut words = vec![name.as_bytes().to_vec()];
            for (key, value) in pairs.into_iter().take(keys) {
                words.push(format!("key{key}").into_bytes());
                words.extend(has_values.then_some(value));
            }
            prop_assert_eq!(several.execute(&words), alone.execute(&words), "{:?}", words);
        }
    }
}

/// Commands that walk over all keys find those of every core.
#[test]
fn walks_go_over_every_core() {
    let mut server = Server::new(3);
    for key in 0..50 {
        assert_eq!(server.line(&format!("SET key{key} v")), "+OK");
    }
    assert!(server.shards.iter().all(|shard| 5 < shard.store.len()), "every core has some");
    let keys = |reply: &str| {
        let mut keys: Vec<_> = reply.split(' ').filter(|word| word.starts_with("key")).map(str::to_owned).collect();
        keys.sort();
        keys
    };
    let all = keys(&server.line("KEYS *"));
    assert_eq!(all.len(), 50);
    let (mut cursor, mut seen, mut turns) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let reply = server.line(&format!("SCAN {cursor} COUNT 7"));
        seen.extend(keys(&reply));
        cursor = reply.split(' ').nth(2).expect("a cursor").to_owned();
        turns += 1;
        if cursor == "0" {
            break;
        }
    }
    seen.sort();
    assert_eq!(seen, all);
    assert!(6 < turns, "seven at a time");
    assert_eq!(server.line("SCAN abc"), "-ERR invalid cursor");
    assert!(server.line("RANDOMKEY").contains(" key"));
    assert!(server.line("INFO keyspace").contains("db0:keys=50,expires=0"));
    assert_eq!(server.line("MSET a 1 b"), "-ERR wrong number of arguments for 'mset' command");
    assert_eq!(server.line("DBSIZE"), ":50");
}

/// CLIENT LIST and CLIENT KILL find the clients of all cores; the client that asks is listed once.
#[test]
fn clients_of_every_core_are_listed_and_closed() {
    let mut server = Server::new(3);
    for (core, id) in [(0, 10), (2, 12), (2, 13)] {
        let client = Client::new(id, &format!("h:{id}"), "l", Port::Gateway, true, 0);
        server.shards[core].core.clients.put(id as usize, Box::new(client));
    }
    let ids = |reply: String| -> Vec<u64> {
        reply.split("id=").skip(1).filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
    };
    assert_eq!(ids(server.line("CLIENT LIST")), [10, 1, 12, 13]);
    assert!(server.line("INFO clients").contains("connected_clients:4"));
    assert_eq!(server.line("CLIENT KILL h:12"), "+OK");
    assert_eq!(server.line("CLIENT KILL h:99"), "-ERR No such client");
    assert_eq!(server.line("CLIENT KILL TYPE normal SKIPME no"), ":3");
    assert!(server.client.closing);
    assert_eq!(server.shards[2].core.clients.closed, [12, 13]);
}

/// A request of several parts counts once in every statistic, and once as a failure.
#[test]
fn a_request_over_several_cores_counts_once() {
    let mut server = Server::new(3);
    assert_eq!(server.line("CONFIG RESETSTAT"), "+OK");
    assert_eq!(server.line("MSET a 1 b 2 c 3 d 4"), "+OK");
    assert_eq!(server.line("MGET a b c d"), "*4 $1 1 $1 2 $1 3 $1 4");
    assert_eq!(server.line("KEYS x"), "*0");
    assert_eq!(server.line("CLIENT KILL h:99"), "-ERR No such client");
    assert_eq!(server.line("SCAN x"), "-ERR invalid cursor");
    let info = server.line("INFO everything");
    for name in ["mset", "mget", "keys", "client|kill", "scan"] {
        let line = info.split(' ').find(|line| line.starts_with(&format!("cmdstat_{name}:"))).expect("it was called");
        assert!(line.starts_with(&format!("cmdstat_{name}:calls=1,")), "{line}");
        let failed = u8::from(["client|kill", "scan"].contains(&name));
        assert!(line.ends_with(&format!(",rejected_calls=0,failed_calls={failed}")), "{line}");
    }
    // With CONFIG RESETSTAT itself, which is counted once it is over; INFO is not over.
    assert!(info.contains(" total_commands_processed:6 "), "{info}");
    assert!(info.contains(" total_error_replies:2 ") && info.contains(" errorstat_ERR:count=2 "), "{info}");
}

/// A write of several parts one of which would be refused is refused as a whole: no core executes its part. Reads are
/// executed, and so is DEL where memory is used up.
#[test]
fn a_write_over_several_cores_is_refused_before_any_part_runs() {
    let misconf = "MISCONF the disk is full";
    let oom = "OOM command not allowed when used memory > 'maxmemory'.";
    for core in 0..3 {
        let mut server = Server::new(3);
        assert_eq!(server.line("MSET a 1 b 2 c 3 d 4"), "+OK");
        let state = server.state();
        server.shards[core].core.persistence.refusal = Some(misconf);
        server.tell_refusals();
        assert_eq!(server.line("MSET a 5 b 5 c 5 d 5"), format!("-{misconf}"));
        assert_eq!(server.line("MGET a b c d"), "*4 $1 1 $1 2 $1 3 $1 4");
        server.shards[core].core.persistence.refusal = None;
        server.shards[core].store.policy.memory_max = 1;
        server.tell_refusals();
        assert_eq!(server.line("MSET a 5 b 5 c 5 d 5"), format!("-{oom}"));
        assert_eq!(server.state(), state);
        server.tell_refusals();
        assert_eq!(server.line("DEL a b c d"), ":4", "deleting is possible where memory is used up");
    }
}

/// CONFIG SET by the gateway takes effect on every core; each core gets its share of `maxmemory`.
#[test]
fn settings_reach_every_core() {
    let mut server = Server::new(3);
    assert_eq!(server.line("CONFIG SET maxmemory 300mb"), "+OK");
    assert!(server.shards.iter().all(|shard| shard.store.policy.memory_max == 100 << 20));
    assert!(server.line("CONFIG SET maxmemory x").starts_with("-ERR CONFIG SET failed"));
    assert_eq!(server.line("CONFIG RESETSTAT"), "+OK");
    assert_eq!(server.line("SLOWLOG LEN"), ":0");
    assert_eq!(server.line("SLOWLOG GET"), "*0");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// A scan visits every slot of every core once and ends with cursor 0, whichever core owns which slots.
    #[test]
    fn a_scan_walks_every_core_once(cuts in prop::collection::vec(0u16..crate::slot::SLOT_COUNT, 0..9), cores in 1u16..6, step in 400u16..9000) {
        // Ranges of several owners, some of another server.
        let owner = |slot: Slot| {
            let range = cuts.iter().filter(|&&cut| cut <= slot.number()).count() as u16;
            Some(range % (cores + 1)).filter(|&core| core < cores)
        };
        let away = Away { route: Route::CursorAt(1), core: 0, keys: Keys::NONE, row: 0 };
        let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
        for turn in 0.. {
            prop_assert!(turn < 200_000 / u32::from(step) + 100, "it ends");
            let mut spread = spread_line(&format!("SCAN {cursor} COUNT 5"), away, cores, owner);
            prop_assert_eq!(spread.parts.len(), 1);
            let part = spread.parts.remove(0);
            let words = words(&part.bytes);
            prop_assert_eq!(&words[2..], &[b"COUNT".to_vec(), b"5".to_vec()]);
            let at: u64 = std::str::from_utf8(&words[1]).expect("digits").parse().expect("a number");
            let from = Cursor::from_number(at).slot;
            let to = from.saturating_add(step).min(crate::slot::SLOT_COUNT);
            seen.extend((from..to).filter_map(Slot::new).filter(|&slot| owner(slot) == Some(part.core)));
            let next = Slot::new(to).map_or(Cursor::START, Cursor::at_slot).to_number().to_string();
            let reply = format!("*2\r\n${}\r\n{next}\r\n*1\r\n$1\r\nk\r\n", next.len());
            let reply = spread.gather.put(0, reply.into_bytes()).expect("there is one part");
            let reply = String::from_utf8(reply).expect("text");
            prop_assert!(reply.ends_with("\r\n*1\r\n$1\r\nk\r\n"));
            cursor = reply.lines().nth(2).expect("a cursor").to_owned();
            if cursor == "0" {
                break;
            }
            prop_assert!(cursor.parse::<i64>().is_ok(), "clients may read it as a signed number");
        }
        seen.sort();
        prop_assert_eq!(seen, Slot::all().filter(|&slot| owner(slot).is_some()).collect::<Vec<_>>());
    }
}

/// The length of every kind of reply is found.
#[test]
fn a_replys_length_is_known_whatever_it_holds() {
    for reply in [
        "+OK\r\n",
        "-ERR a\r\n",
        ":-7\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "_\r\n",
        "#t\r\n",
        ",1.5\r\n",
        "(12345678901234567890\r\n",
        "$4\r\n\r\n\r\n\r\n",
        "=6\r\ntxt:hi\r\n",
        "*2\r\n*1\r\n$1\r\na\r\n~1\r\n:1\r\n",
        "%2\r\n+a\r\n:1\r\n+b\r\n*0\r\n",
    ] {
        let bytes = format!("{reply}+more\r\n");
        assert_eq!(length(bytes.as_bytes()), reply.len(), "{reply:?}");
    }
}

/// Returns the metrics of a core that has counted some commands and, if `code` is not empty, an error.
fn metrics_of(core: u16, cores: u16, gets: u64, code: &str) -> String {
    let mut shard = shard(cores, core, Policy::default());
    let row = shard.core.statistics.commands.iter().position(|row| row.name == "get").expect("a row");
    shard.core.statistics.commands[row].calls = gets;
    if !code.is_empty() {
        shard.core.statistics.errors.note(code.as_bytes());
    }
    let source = crate::metrics::Source { core: &shard.core, store: &shard.store, now: Now::default(), clients: 1 };
    crate::metrics::render(&source)
}

fn as_bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

/// The samples of each family stand together; here those of some families of a server of two cores, the second of which
/// has the connection.
#[test]
fn metrics_of_cores_stand_together_by_family() {
    let texts = [metrics_of(0, 2, 3, ""), metrics_of(1, 2, 0, "OOM no")];
    let joined = metrics::join(&texts.map(|text| as_bulk(&text)), 1);
    let joined = String::from_utf8(bulk(&joined).1.to_vec()).expect("text");
    let names = ["trine_commands_total", "trine_error_replies_total", "trine_keys", "trine_cores"];
    let is_shown = |line: &&str| names.iter().any(|name| line.split(['{', ' ']).any(|word| word == *name));
    expect_test::expect![[r#"
        # HELP trine_cores How many cores the server has.
        # TYPE trine_cores gauge
        trine_cores{server="a"} 2
        # HELP trine_commands_total Commands that were executed, by command.
        # TYPE trine_commands_total counter
        trine_commands_total{server="a",core="0",command="get"} 3
        # HELP trine_error_replies_total Error replies, by their first word.
        # TYPE trine_error_replies_total counter
        trine_error_replies_total{server="a",core="1",code="OOM"} 1
        # HELP trine_keys Keys.
        # TYPE trine_keys gauge
        trine_keys{server="a",core="1"} 0
        trine_keys{server="a",core="0"} 0
    "#]]
    .assert_eq(&joined.split_inclusive('\n').filter(is_shown).collect::<String>());
}

proptest! {
    /// Every line of each core's metrics stands in the merged text once, and each sample below the head of its family.
    #[test]
    fn metrics_are_all_told_once(
        counts in prop::collection::vec((0..3u64, prop::sample::select(vec!["", "ERR a", "OOM b"])), 1..5),
        first in any::<prop::sample::Index>(),
    ) {
        let cores = counts.len() as u16;
        let texts: Vec<_> = counts.iter().zip(0..).map(|(&(gets, code), core)| metrics_of(core, cores, gets, code)).collect();
        let replies: Vec<_> = texts.iter().map(|text| as_bulk(text)).collect();
        let joined = metrics::join(&replies, first.index(replies.len()));
        prop_assert_eq!(length(&joined), joined.len());
        let joined = String::from_utf8(bulk(&joined).1.to_vec()).expect("text");
        let sorted = |mut lines: Vec<&str>| { lines.sort_unstable(); lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>() };
        let mut all = sorted(texts.iter().flat_map(|text| text.lines()).collect());
        all.dedup();
        prop_assert_eq!(sorted(joined.lines().collect()), all);
        let mut family = "";
        for line in joined.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split(' ').next().expect("a name");
            } else {
                let line = line.strip_prefix("# TYPE ").unwrap_or(line);
                let rest = line.strip_prefix(family).expect("a line of the family above");
                prop_assert!([" ", "{", "_bucket{", "_sum{", "_count{"].iter().any(|end| rest.starts_with(end)), "{}", line);
            }
        }
    }
}

/// Ranked lists of cores are merged: the first elements of all, in the order and the number that the request asks for.
#[test]
fn what_cores_have_ranked_is_ranked_again() {
    let slots = |slots: &[(u16, i64)]| {
        let elements = slots
            .iter()
            .map(|(slot, keys)| format!("*2\r\n:{slot}\r\n%2\r\n$1\r\nx\r\n:9\r\n$9\r\nkey-count\r\n:{keys}\r\n"));
        format!("*{}\r\n{}", slots.len(), elements.collect::<String>())
    };
    let key = |name: &str, sure: &str| {
        format!(
            "*2\r\n$1\r\n{name}\r\n*4\r\n$4\r\nslot\r\n:1\r\n$15\r\nops-per-sec-min\r\n${}\r\n{sure}\r\n",
            sure.len()
        )
    };
    let rank = |line: &str, replies: &[String]| {
        let spread = spread_line(line, everywhere(Merge::Ranked), replies.len() as u16, |_| Some(0));
        let mut gather = spread.gather;
        let last =
            replies.iter().enumerate().filter_map(|(part, reply)| gather.put(part, reply.clone().into_bytes())).last();
        String::from_utf8(last.expect("all have answered")).expect("text")
    };
    let replies = [slots(&[(5, 7), (1, 2)]), slots(&[]), slots(&[(9, 7), (3, 1)])];
    let line = "CLUSTER SLOT-STATS ORDERBY KEY-COUNT";
    assert_eq!(rank(line, &replies), slots(&[(5, 7), (9, 7), (1, 2), (3, 1)]));
    assert_eq!(rank(&format!("{line} LIMIT 3 DESC"), &replies), slots(&[(5, 7), (9, 7), (1, 2)]));
    assert_eq!(rank(&format!("{line} ASC LIMIT 2"), &replies), slots(&[(3, 1), (1, 2)]));
    assert_eq!(rank("CLUSTER SLOT-STATS SLOTSRANGE 0 9", &replies), slots(&[(1, 2), (3, 1), (5, 7), (9, 7)]));
    let errors = ["-ERR syntax error\r\n".to_owned(), "-ERR syntax error\r\n".to_owned()];
    assert_eq!(rank("CLUSTER SLOT-STATS ORDERBY x", &errors), errors[0]);
    let replies = [format!("*2\r\n{}{}", key("a", "10.5"), key("b", "0.1")), format!("*1\r\n{}", key("c", "9.0"))];
    assert_eq!(rank("HOTKEYS COUNT 2", &replies), format!("*2\r\n{}{}", key("a", "10.5"), key("c", "9.0")));
    assert_eq!(rank("hotkeys", &replies), format!("*3\r\n{}{}{}", key("a", "10.5"), key("c", "9.0"), key("b", "0.1")));
    assert_eq!(rank("HOTKEYS RESET", &["*0\r\n".to_owned(), "*0\r\n".to_owned()]), "*0\r\n");
}

/// The calls of each command are added over all cores: for every bound that some core has, the calls of all cores that
/// took no more.
#[test]
fn histograms_of_cores_are_added() {
    let of = |name: &str, calls: u64, steps: &[(u64, u64)]| {
        let steps_text: String = steps.iter().map(|(us, sum)| format!(":{us}\r\n:{sum}\r\n")).collect();
        let head = format!("${}\r\n{name}\r\n%2\r\n$5\r\ncalls\r\n:{calls}\r\n$14\r\nhistogram_usec\r\n", name.len());
        format!("{head}%{}\r\n{steps_text}", steps.len())
    };
    let replies = [
        format!("%2\r\n{}{}", of("get", 5, &[(1, 2), (4, 5)]), of("set", 1, &[(2, 1)])),
        "%0\r\n".to_owned(),
        format!("%1\r\n{}", of("get", 10, &[(2, 7), (4, 9), (8, 10)])),
    ];
    let sum = format!("%2\r\n{}{}", of("get", 15, &[(1, 2), (2, 9), (4, 14), (8, 15)]), of("set", 1, &[(2, 1)]));
    assert_eq!(join(Merge::Histograms, replies.each_ref().map(String::as_str)), sum);
    let two = "*2\r\n$1\r\na\r\n*4\r\n$5\r\ncalls\r\n:1\r\n$14\r\nhistogram_usec\r\n*2\r\n:1\r\n:1\r\n";
    let twice = "*2\r\n$1\r\na\r\n*4\r\n$5\r\ncalls\r\n:2\r\n$14\r\nhistogram_usec\r\n*2\r\n:1\r\n:2\r\n";
    assert_eq!(join(Merge::Histograms, [two, "*0\r\n", two]), twice);
}
