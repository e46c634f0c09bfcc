//! A crew without sockets: what it asks, and what it makes of replies.

use super::*;
use crate::{
    http::{Api, request::Requests},
    keys::Keys,
    random::Random,
    schedule::Arrivals,
    source::Rounds,
    wire::Commands,
    workload::{Batch, Distribution, ValueSize, Workload},
};

use trine_client::consistent::Circle;

const ALWAYS: (Nanos, Nanos) = (Nanos(0), Nanos(u64::MAX));

fn orders(workers: usize, allow_misses: bool) -> Orders {
    let (timeout, placement) = (Duration::from_secs(1), Placement::Slots);
    Orders { workers, placement, follow: true, is_fresh: false, timeout, batch: Batch::Any, allow_misses, writer: 7 }
}

fn crew(workers: usize, allow_misses: bool) -> Crew {
    let wire = Wire::Resp(Commands::new(Keys::shared(16, 1000).unwrap()));
    Crew::new(orders(workers, allow_misses), Routing::single("a:1"), wire, 1000)
}

/// One worker that speaks HTTP, with servers a and b.
fn http_crew(orders: Orders, api: Api) -> Crew {
    let wire = Wire::Http(Requests::new(api, Keys::shared(16, 1000).unwrap(), None));
    Crew::new(orders, Routing::several(vec!["a:1".into(), "b:1".into()]), wire, 1000)
}

fn response(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The value of the first key that this crew wrote as its how-manieth write.
fn letters(number: u64) -> Vec<u8> {
    let mut value = Vec::new();
    Form::Letters.write(&mut value, 0, Version(7 << NUMBER_BITS | number), 40);
    value
}

fn one_key(kind: Kind) -> Source {
    let share = f64::from(u8::from(kind == Kind::Get));
    let distribution = "sequential".parse().unwrap();
    let workload = crate::workload::Workload::new(1, share, distribution, (0, 1), Random::new(1, 1));
    Source::Draw { workload, sizes: ValueSize::Fixed(40), random: Random::new(1, 2) }
}

fn load(end: u64) -> Source {
    Source::Load { next: 0, end, sizes: ValueSize::Fixed(20), random: Random::new(1, 1) }
}

/// Takes what a link has to send.
fn sent(crew: &mut Crew, link: usize, now: u64) -> Vec<u8> {
    crew.pipeline(link).output(Nanos(now), Vec::new())
}

/// A request that went to the wrong node is sent to the right one, and counts once, from when it was due.
#[test]
fn moved_is_followed() {
    let mut crew = crew(2, false);
    crew.begin(load(1), 1, None, ALWAYS, Nanos(100));
    let request = sent(&mut crew, 0, 110);
    let slot = Slot::of(b"key:000000000000").number();
    crew.arrived(0, format!("-MOVED {slot} b:1\r\n").as_bytes(), Nanos(200)).unwrap();
    assert_eq!((crew.len(), crew.address(2), crew.is_done()), (4, "b:1", false));
    assert_eq!(sent(&mut crew, 2, 210), request);
    crew.arrived(2, b"+OK\r\n", Nanos(400)).unwrap();
    assert!(crew.is_done());
    assert_eq!((crew.tally.operations, crew.tally.errors_total()), ([0, 1], 0));
    assert_eq!((crew.tally.since_due[1].max(), crew.tally.since_sent[1].max()), (300, 190));
}

/// Two nodes that send a request to and fro make an error of it in the end.
#[test]
fn a_circle_of_moved_ends() {
    let mut crew = crew(1, false);
    crew.begin(load(1), 1, None, ALWAYS, Nanos(0));
    for hop in 0..=REDIRECTIONS_MAX {
        let (from, to) = (hop % 2, ["b:1", "a:1"][hop % 2]);
        sent(&mut crew, from, 1);
        crew.arrived(from, format!("-MOVED 1 {to}\r\n").as_bytes(), Nanos(1)).unwrap();
    }
    assert!(crew.is_done());
    assert_eq!(crew.tally.errors.get("MOVED"), Some(&1));
}

/// A request waits while all workers are busy, and its due time stands.
#[test]
fn an_open_loop_keeps_its_due_times() {
    let mut crew = crew(1, false);
    let schedule = Schedule::new(Arrivals::Constant, 1e7, Nanos(1000), 0.0, Random::new(1, 1));
    crew.begin(load(9), 1, Some(schedule), ALWAYS, Nanos(0));
    assert_eq!(crew.send_due(Nanos(999)), Some(Nanos(1000)));
    assert_eq!(crew.send_due(Nanos(1000)), None, "the worker is busy");
    sent(&mut crew, 0, 1000);
    crew.arrived(0, b"+OK\r\n", Nanos(1500)).unwrap();
    crew.send_due(Nanos(1500));
    sent(&mut crew, 0, 1500);
    crew.arrived(0, b"+OK\r\n", Nanos(1600)).unwrap();
    assert_eq!((crew.tally.since_due[1].min(), crew.tally.since_due[1].max()), (500, 500), "due at 1000 and 1100");
    assert_eq!((crew.tally.since_sent[1].min(), crew.tally.since_sent[1].max()), (100, 500));
    assert_eq!(crew.end(Nanos(1650)).unsent, 5, "1200, 1300, 1400, 1500 and 1600 were due");
    assert!(crew.is_done());
}

/// Of an overloaded open loop the same requests count as due and as not sent: those of the window, none of the warm-up.
#[test]
fn requests_of_the_warm_up_are_not_missed() {
    for (answered, due) in [(0, Due { all: 5, unsent: 5 }), (6, Due { all: 5, unsent: 4 })] {
        let mut crew = crew(1, false);
        let schedule = Schedule::new(Arrivals::Constant, 1e7, Nanos(1000), 0.0, Random::new(1, 1));
        crew.begin(load(99), 1, Some(schedule), (Nanos(1600), Nanos(2100)), Nanos(0));
        crew.send_due(Nanos(2050));
        for _ in 0..answered {
            sent(&mut crew, 0, 2050);
            crew.arrived(0, b"+OK\r\n", Nanos(2050)).unwrap();
            crew.send_due(Nanos(2050));
        }
        assert_eq!(crew.end(Nanos(2100)), due, "{answered}");
    }
}

/// Reads are judged: what was written is right, what is missing or of another key is wrong.
#[test]
fn reads_are_judged() {
    let reply = |key: u64| {
        let mut reply = b"$20\r\n".to_vec();
        Form::Bytes.write(&mut reply, key, Version(1), 20);
        [&reply[..], b"\r\n"].concat()
    };
    let mut crew = crew(1, false);
    crew.begin(Source::Verify { next: 0, end: 3 }, 3, None, ALWAYS, Nanos(0));
    sent(&mut crew, 0, 0);
    crew.arrived(0, &[&reply(0)[..], b"$-1\r\n", &reply(3)].concat(), Nanos(1)).unwrap();
    let wrong = crew.tally.wrong;
    assert_eq!((wrong.damaged, wrong.missing, wrong.stale, crew.tally.misses), (1, 1, 0, 1));
    let mut lenient = self::crew(1, true);
    lenient.begin(Source::Verify { next: 0, end: 1 }, 1, None, ALWAYS, Nanos(0));
    sent(&mut lenient, 0, 0);
    lenient.arrived(0, b"$-1\r\n", Nanos(1)).unwrap();
    assert_eq!((lenient.tally.wrong.total(), lenient.tally.misses), (0, 1));
}

/// A key that has kept what a run in the other protocol wrote is told from a damaged one.
#[test]
fn what_another_run_wrote_is_not_damage() {
    let mut value = Vec::new();
    Form::Bytes.write(&mut value, 0, Version(9 << NUMBER_BITS | 1), 64);
    let mut crew = http_crew(Orders { placement: Placement::First, ..orders(1, false) }, Api::Set);
    crew.begin(one_key(Kind::Set), 1, None, ALWAYS, Nanos(0));
    sent(&mut crew, 0, 0);
    crew.end(Nanos(0));
    crew.arrived(0, &response(409, "", b"it exists"), Nanos(1)).unwrap();
    for (value, expected) in [(value.clone(), (1, 0)), ([&value[..63], b"?"].concat(), (1, 1))] {
        crew.begin(one_key(Kind::Get), 1, None, ALWAYS, Nanos(2));
        sent(&mut crew, 0, 2);
        crew.end(Nanos(2));
        crew.arrived(0, &response(200, "", &value), Nanos(3)).unwrap();
        assert_eq!((crew.tally.wrong.foreign, crew.tally.wrong.damaged), expected);
    }
}

/// A phase that is cut counts what was answered before, and nothing after.
#[test]
fn a_phase_can_be_cut() {
    let mut crew = crew(2, false);
    crew.begin(one_key(Kind::Set), 1, None, ALWAYS, Nanos(0));
    sent(&mut crew, 0, 0);
    sent(&mut crew, 1, 0);
    crew.arrived(0, b"+OK\r\n", Nanos(10)).unwrap();
    sent(&mut crew, 0, 10);
    assert_eq!(crew.cut(Nanos(20)).unsent, 0);
    crew.arrived(0, b"+OK\r\n", Nanos(30)).unwrap();
    assert!(!crew.is_done(), "one is in flight");
    crew.arrived(1, b"+OK\r\n", Nanos(30)).unwrap();
    assert!(crew.is_done());
    assert_eq!(crew.tally.operations, [0, 1]);
}

/// A broken connection's requests are errors, and its workers go on.
#[test]
fn what_is_lost_is_counted() {
    let mut crew = crew(1, false);
    crew.begin(load(5), 2, None, ALWAYS, Nanos(0));
    sent(&mut crew, 0, 0);
    assert_eq!(crew.overdue(Nanos(1_000_000_000)), None);
    assert_eq!(crew.overdue(Nanos(1_000_000_001)), Some(0));
    crew.fail(0, "timeout", Nanos(1));
    assert_eq!(crew.tally.errors.get("timeout"), Some(&2));
    assert_eq!(crew.pipeline(0).len(), 2, "the worker asks for the next two");
    assert!(crew.arrived(0, b"HTTP/1.1 400\r\n", Nanos(1)).is_err());
}

/// A worker's requests leave together: the next ones when all have been answered, whichever node was first.
#[test]
fn the_next_requests_wait_for_all_replies() {
    let mut crew = crew(1, false);
    let slot = Slot::of(b"key:000000000000").number();
    crew.begin(one_key(Kind::Set), 3, None, ALWAYS, Nanos(0));
    sent(&mut crew, 0, 0);
    crew.arrived(0, format!("-MOVED {slot} b:1\r\n+OK\r\n+OK\r\n").as_bytes(), Nanos(1)).unwrap();
    sent(&mut crew, 1, 1);
    assert_eq!((crew.pipeline(0).len(), crew.pipeline(1).len()), (0, 1), "one is in flight still");
    crew.arrived(1, b"+OK\r\n", Nanos(2)).unwrap();
    assert_eq!((crew.pipeline(0).len(), crew.pipeline(1).len(), crew.in_flight), (0, 3, 3));
}

/// A 307 is followed to the server that it names, which is remembered for the slot, and counts once.
#[test]
fn a_307_is_followed_and_remembered() {
    let mut crew = http_crew(Orders { placement: Placement::First, ..orders(1, false) }, Api::Set);
    crew.begin(one_key(Kind::Set), 1, None, ALWAYS, Nanos(0));
    let request = String::from_utf8(sent(&mut crew, 0, 1)).unwrap();
    assert!(request.starts_with("PUT /set/key:000000000000 HTTP/1.1\r\nHost: a:1\r\n"), "{request}");
    crew.arrived(0, &response(307, "Location: http://b:1/set/key:000000000000\r\n", b""), Nanos(2)).unwrap();
    let request = String::from_utf8(sent(&mut crew, 1, 3)).unwrap();
    assert!(request.contains("Host: b:1\r\n"), "{request}");
    crew.arrived(1, &response(200, "", b"OK"), Nanos(4)).unwrap();
    assert_eq!((crew.tally.operations, crew.tally.errors_total()), ([0, 1], 0));
    assert_eq!(crew.pipeline(1).len(), 1, "the next goes there at once");
    sent(&mut crew, 1, 5);
    crew.end(Nanos(5));
    crew.arrived(1, &response(308, "Location: /elsewhere\r\n", b""), Nanos(6)).unwrap();
    assert_eq!(crew.tally.errors.get("redirected to nowhere:"), Some(&1), "{:?}", crew.tally.errors);
}

/// A server that closes its connection with a response owes nothing: what stands behind it is asked again, in order.
#[test]
fn a_closed_connection_is_no_error() {
    let mut crew = http_crew(orders(1, false), Api::Set);
    crew.begin(load(3), 3, None, ALWAYS, Nanos(0));
    let requests = sent(&mut crew, 0, 1);
    let first = response(200, "Connection: close\r\n", b"");
    let behind = response(500, "", b"");
    assert_eq!(crew.arrived(0, &[&first[..], &behind].concat(), Nanos(2)), Ok(true), "nothing behind it counts");
    crew.ask_again(0, Nanos(3));
    assert_eq!(crew.pipeline(0).len(), 2);
    let again = sent(&mut crew, 0, 4);
    assert_eq!(again, requests[requests.len() - again.len()..]);
    assert_eq!(crew.arrived(0, &[response(200, "", b""), response(200, "", b"")].concat(), Nanos(5)), Ok(false));
    assert!(crew.is_done());
    assert_eq!((crew.tally.operations, crew.tally.errors_total()), ([0, 3], 0));
}

/// If the first value stays, 409 is as good an answer as 200; another value is wrong, and so is a second 200.
#[test]
fn the_first_value_stays() {
    let mut crew = http_crew(orders(1, false), Api::Set);
    let mut ask = |source: Source, replies: &[Vec<u8>]| {
        crew.begin(source, 1, None, ALWAYS, Nanos(0));
        for (index, reply) in replies.iter().enumerate() {
            sent(&mut crew, 0, 1);
            if index + 1 == replies.len() {
                crew.end(Nanos(1));
            }
            crew.arrived(0, reply, Nanos(2)).unwrap();
        }
        assert!(crew.is_done());
        (crew.tally.wrong.stale, crew.tally.conflicts, crew.tally.errors_total())
    };
    let (ok, exists) = (response(200, "", b""), response(409, "", b"it exists"));
    assert_eq!(ask(one_key(Kind::Set), std::slice::from_ref(&exists)), (0, 1, 0), "an earlier run has written it");
    assert_eq!(ask(one_key(Kind::Set), &[ok.clone(), exists]), (0, 2, 0));
    let value = |number| response(200, "", &letters(number));
    assert_eq!(ask(one_key(Kind::Get), &[value(1), value(1)]), (0, 2, 0));
    assert_eq!(ask(one_key(Kind::Get), &[value(2)]), (1, 2, 0), "a refused write has been executed");
    assert_eq!(ask(one_key(Kind::Set), &[ok]), (2, 2, 0), "the first has been lost");
    assert_eq!(ask(one_key(Kind::Get), &[response(503, "", b"later")]), (2, 2, 1));
    assert_eq!(crew.tally.errors.get("HTTP 503 later"), Some(&1));
}

/// Fresh keys exist nowhere: 409 is an error. With the other pair of requests it always is.
#[test]
fn fresh_keys_are_fresh() {
    for (api, is_fresh) in [(Api::Set, true), (Api::Store, false)] {
        let mut crew = http_crew(Orders { is_fresh, ..orders(1, false) }, api);
        crew.begin(load(1), 1, None, ALWAYS, Nanos(0));
        sent(&mut crew, 0, 1);
        crew.arrived(0, &response(409, "", b""), Nanos(2)).unwrap();
        assert_eq!((crew.tally.operations[1], crew.tally.errors_total()), (0, 1));
    }
}

/// With servers that know nothing of each other every key has its own, as the circle says.
#[test]
fn a_circle_spreads_the_keys() {
    let nodes = ["a:1", "b:1"];
    let circle = trine_client::consistent::Circle::new(&nodes);
    let placement = Placement::Circle(circle.clone());
    let mut crew = http_crew(Orders { placement, ..orders(1, false) }, Api::Set);
    crew.begin(load(50), 50, None, ALWAYS, Nanos(0));
    for (link, node) in nodes.into_iter().enumerate() {
        let requests = String::from_utf8(sent(&mut crew, link, 1)).unwrap();
        let keys: Vec<&str> = requests.split("PUT /set/").skip(1).map(|rest| &rest[..16]).collect();
        assert!(10 < keys.len() && requests.matches(&format!("Host: {node}\r\n")).count() == keys.len());
        assert!(keys.iter().all(|key| circle.node_of(key.as_bytes()).index() == link), "{keys:?}");
    }
}

/// A worker's reads wait for its writes, and a round ends by itself.
#[test]
fn a_round_writes_and_then_reads() {
    let mut crew = crew(1, false);
    let rounds = Rounds::new(3, 0, 1, ValueSize::Fixed(20), Random::new(1, 1));
    crew.begin(Source::Rounds(rounds), 2, None, ALWAYS, Nanos(100));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    assert_eq!(text(sent(&mut crew, 0, 110)).matches("SET").count(), 2);
    crew.arrived(0, b"+OK\r\n+OK\r\n", Nanos(200)).unwrap();
    assert_eq!(text(sent(&mut crew, 0, 210)).matches("ET\r\n").count(), 1, "one write is left");
    crew.arrived(0, b"+OK\r\n", Nanos(300)).unwrap();
    assert_eq!(text(sent(&mut crew, 0, 310)).matches("GET").count(), 2);
    let reply = |key: u64| {
        let mut reply = b"$20\r\n".to_vec();
        Form::Bytes.write(&mut reply, key, Version(1), 20);
        [&reply[..], b"\r\n"].concat()
    };
    crew.arrived(0, &[reply(0), reply(1)].concat(), Nanos(400)).unwrap();
    sent(&mut crew, 0, 410);
    crew.arrived(0, &reply(2), Nanos(500)).unwrap();
    assert!(crew.is_done());
    assert_eq!((crew.tally.operations, crew.tally.wrong.total()), ([3, 3], 0));
    let [reads, writes] = crew.tally.spans.map(|span| span.length().as_nanos());
    assert_eq!((reads, writes), (200, 200), "writes from 100 to 300, reads from 300 to 500");
}

/// The keys of what a link sends.
fn keys(request: &[u8]) -> Vec<u64> {
    let text = String::from_utf8_lossy(request).into_owned();
    text.split("key:").skip(1).map(|rest| rest[..12].parse().unwrap()).collect()
}

/// A pipeline for one node goes to one whole, another one each time, and every key is as popular as it would be otherwise;
/// else it is split over the nodes.
#[test]
fn a_pipeline_for_one_node_is_whole() {
    const KEYS: u64 = 50;
    for batch in [Batch::Node, Batch::Any] {
        let wire = Wire::Resp(Commands::new(Keys::shared(16, KEYS).unwrap()));
        let servers = ["a:1", "b:1", "c:1"];
        let (routing, circle) = (Routing::several(servers.map(Into::into).into()), Circle::new(&servers));
        let placement = Placement::Circle(circle);
        let mut crew = Crew::new(Orders { batch, placement, ..orders(1, true) }, routing, wire, KEYS);
        let random = |stream| Random::new(5, stream);
        let workload = Workload::new(KEYS, 0.0, Distribution::Uniform, (0, 1), random(1));
        let source = Source::Draw { workload, sizes: ValueSize::Fixed(8), random: random(2) };
        crew.begin(source, 16, None, ALWAYS, Nanos(0));
        let (mut counts, mut nodes) = ([0_u32; KEYS as usize], [0_u32; 3]);
        for round in 0..5000 {
            let sent: Vec<Vec<u64>> = (0..3).map(|link| keys(&sent(&mut crew, link, round))).collect();
            assert_eq!(sent.iter().map(Vec::len).sum::<usize>(), 16);
            let asked = sent.iter().filter(|keys| !keys.is_empty()).count();
            assert_eq!(asked == 1, batch == Batch::Node, "{sent:?}");
            sent.iter().flatten().for_each(|&key| counts[key as usize] += 1);
            for (link, keys) in sent.iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
                nodes[link] += 1;
                crew.arrived(link, b"+OK\r\n".repeat(keys.len()).as_slice(), Nanos(round + 1)).unwrap();
            }
        }
        assert!(nodes.iter().all(|&pipelines| 1000 < pipelines), "{nodes:?}");
        // Keys of a pipeline go together, so that counts scatter more: 1600 ± 5 × 57 or so.
        assert!(counts.iter().all(|count| (1300..1900).contains(count)), "{batch:?}: {counts:?}");
    }
}
