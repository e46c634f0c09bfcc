use super::*;
use crate::{
    commands::Keys,
    resp::{Decoded, Decoder, Limits},
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const LIMITS: Limits = Limits { arguments_max: 1 << 20, argument_bytes_max: 1 << 20 };

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
    Away { route: Route::Everywhere(merge), core: 0, keys: Keys::NONE }
}

/// What replies of three cores become.
fn join(merge: Merge, replies: [&str; 3]) -> String {
    let mut gather = spread_line("INFO", everywhere(merge), 3, |_| Some(0)).gather;
    // The last comes first.
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
        // The random number is 7, so core 1 comes first.
        (Merge::First, ["$1\r\na\r\n", "$-1\r\n", "$1\r\nc\r\n"], "$1\r\nc\r\n"),
        (Merge::First, ["_\r\n", "_\r\n", "_\r\n"], "_\r\n"),
        (Merge::Here, ["+mine\r\n", "-ERR other\r\n", "+other\r\n"], "+mine\r\n"),
    ] {
        assert_eq!(join(merge, replies), joined, "{merge:?} {replies:?}");
    }
}

/// Counts are added, also within a field; what is the same everywhere is said once.
#[test]
fn info_of_the_server_is_the_sum_of_its_cores() {
    let text = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let cores = [
        "# Clients\r\nconnected_clients:1\r\n\r\n# Memory\r\nused_memory:1024\r\nused_memory_human:1.00K\r\nmaxmemory:5\r\n\
         \r\n# Commandstats\r\ncmdstat_get:calls=1,usec=3,usec_per_call=3.00,rejected_calls=0,failed_calls=0\r\n\
         \r\n# Keyspace\r\n",
        "# Clients\r\nconnected_clients:2\r\n\r\n# Memory\r\nused_memory:1024\r\nused_memory_human:1.00K\r\nmaxmemory:5\r\n\
         \r\n# Commandstats\r\ncmdstat_get:calls=3,usec=4,usec_per_call=1.33,rejected_calls=1,failed_calls=0\r\n\
         cmdstat_set:calls=1,usec=1,usec_per_call=1.00,rejected_calls=0,failed_calls=0\r\n\
         \r\n# Keyspace\r\ndb0:keys=2,expires=1,avg_ttl=0\r\n",
        "# Clients\r\nconnected_clients:3\r\n\r\n# Keyspace\r\ndb0:keys=5,expires=1,avg_ttl=0\r\n",
    ];
    let sum = "# Clients\r\nconnected_clients:6\r\n\r\n# Memory\r\nused_memory:2048\r\nused_memory_human:2.00K\r\n\
        maxmemory:5\r\n\r\n# Commandstats\r\n\
        cmdstat_get:calls=4,usec=7,usec_per_call=1.75,rejected_calls=1,failed_calls=0\r\n\
        cmdstat_set:calls=1,usec=1,usec_per_call=1.00,rejected_calls=0,failed_calls=0\r\n\
        \r\n# Keyspace\r\ndb0:keys=7,expires=2,avg_ttl=0\r\n";
    let cores = cores.map(text);
    assert_eq!(join(Merge::Info, [&cores[0], &cores[1], &cores[2]]), text(sum));
}

/// No core does its part of a request that is wrong as a whole.
#[test]
fn a_key_without_a_value_is_one_cores_error() {
    let away = Away { route: Route::Split(Merge::Ok), core: 1, keys: Keys::PAIRS };
    let spread = spread_line("MSET a 1 b", away, 3, |slot| Some(slot.number() % 3));
    assert_eq!(spread.parts.len(), 1);
    assert_eq!(words(&spread.parts[0].bytes).len(), 4);
}

/// A core of the property tests: keys, and the commands that are split.
#[derive(Default)]
struct Core(BTreeMap<Vec<u8>, Vec<u8>>);

impl Core {
    fn run(&mut self, request: &[u8]) -> Vec<u8> {
        let words = words(request);
        let (name, args) = (String::from_utf8(words[0].clone()).expect("a name"), &words[1..]);
        match name.as_str() {
            "MSET" => {
                args.chunks(2).for_each(|pair| drop(self.0.insert(pair[0].clone(), pair[1].clone())));
                b"+OK\r\n".to_vec()
            }
            "MGET" => {
                let mut reply = format!("*{}\r\n", args.len()).into_bytes();
                for key in args {
                    match self.0.get(key) {
                        None => reply.extend(b"$-1\r\n"),
                        Some(value) => {
                            reply.extend(format!("${}\r\n", value.len()).bytes());
                            reply.extend(value);
                            reply.extend(b"\r\n");
                        }
                    }
                }
                reply
            }
            _ => format!(":{}\r\n", args.iter().filter(|key| self.0.remove(*key).is_some()).count()).into_bytes(),
        }
    }
}

/// Which command, and its keys and values.
type Asked = (usize, Vec<(u8, Vec<u8>)>);

fn requests() -> impl Strategy<Value = Vec<Asked>> {
    let pair = (0u8..12, prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..6));
    prop::collection::vec((0usize..3, prop::collection::vec(pair, 1..9)), 1..12)
}

proptest! {
    /// Split over any owners and put together in any order, the answer is that of one shard with all keys.
    #[test]
    fn several_cores_answer_as_one(requests in requests(), cores in 1u16..6, seed in any::<u16>(), reversed in any::<bool>()) {
        let owner = |slot: Slot| Some((slot.number() ^ seed) % cores);
        let mut alone = Core::default();
        let mut several: Vec<Core> = (0..cores).map(|_| Core::default()).collect();
        for (kind, pairs) in requests {
            let (name, keys, merge) = [
                ("MSET", Keys::PAIRS, Merge::Ok), ("MGET", Keys::ALL, Merge::Elements), ("DEL", Keys::ALL, Merge::Sum),
            ][kind];
            let mut args = vec![name.as_bytes().to_vec()];
            for (key, value) in pairs {
                args.push(format!("key{key}").into_bytes());
                if name == "MSET" {
                    args.push(value);
                }
            }
            let bytes = encode(args.iter().map(Vec::as_slice));
            let mut decoder = Decoder::default();
            prop_assert_eq!(decoder.decode(&bytes, &LIMITS), Ok(Decoded::Request(bytes.len())));
            let away = Away { route: Route::Split(merge), core: 0, keys };
            let Spread { parts, mut gather } = spread(decoder.request(&bytes), away, cores, owner, 0);
            let mut positions: Vec<_> = (0..parts.len()).collect();
            if reversed {
                positions.reverse();
            }
            let mut answer = None;
            for position in positions {
                prop_assert!(answer.is_none());
                let part = &parts[position];
                answer = gather.put(position, several[usize::from(part.core)].run(&part.bytes));
            }
            prop_assert_eq!(answer, Some(alone.run(&bytes)));
        }
    }

    /// A scan meets every slot of every core once and in the end has cursor 0, whoever owns which slots.
    #[test]
    fn a_scan_walks_every_core_once(cuts in prop::collection::vec(0u16..crate::slot::SLOT_COUNT, 0..9), cores in 1u16..6, step in 400u16..9000) {
        // Ranges of several owners, some of another server.
        let owner = |slot: Slot| {
            let range = cuts.iter().filter(|&&cut| cut <= slot.number()).count() as u16;
            Some(range % (cores + 1)).filter(|&core| core < cores)
        };
        let away = Away { route: Route::CursorAt(1), core: 0, keys: Keys::NONE };
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

/// The walk over a reply's bytes knows every kind of reply.
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
