use super::{super::HasPassword, *};
use crate::{
    resp::{Limits as RespLimits, Reply, Request, Version},
    wait::{Committed, Wait},
    wal::Lsn,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const LIMIT: Backpressure = Backpressure { output_bytes_max: 4096, waiting_max: 3 };

/// An executor with keys and values. Replies for keys that begin with `far` come when the test completes them; requests
/// for keys that begin with `cold` wait while `is_cold`.
#[derive(Default)]
struct Shelf {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    pending: Vec<(Ticket, Vec<u8>)>,
    executed: Vec<String>,
    is_cold: bool,
    password: Option<&'static str>,
    is_known: bool,
    /// True if passwords may not be checked yet.
    is_braked: bool,
    /// The number of passwords that were checked.
    guesses: usize,
    refusals: usize,
    agent: String,
    /// The position of the log that replies to writes wait for; 0 for none.
    log: u64,
}

impl Shelf {
    fn run(&mut self, request: Request<'_>) -> Vec<u8> {
        let mut output = Vec::new();
        let mut reply = Reply { output: &mut output, version: Version::Two };
        match (request.arg(0), request.get(1)) {
            (_, Some(key)) if key.ends_with(b"moved") => reply.error("MOVED 5 fe80::3:7000"),
            (b"GET", Some(key)) => match self.values.get(key) {
                Some(value) => reply.bulk(value),
                None => reply.null(),
            },
            (b"SETNX", Some(key)) => {
                let is_free = !self.values.contains_key(key);
                if is_free {
                    self.values.insert(key.to_vec(), request.arg(2).to_vec());
                }
                reply.integer(is_free.into());
            }
            (b"MSET", _) => {
                for at in (1..request.len()).step_by(2) {
                    self.values.insert(request.arg(at).to_vec(), request.arg(at + 1).to_vec());
                }
                reply.ok();
            }
            (b"DEL", Some(key)) => reply.integer(self.values.remove(key).is_some().into()),
            (b"READY", _) => reply.error("LOADING not yet"),
            _ => reply.error("ERR unknown command"),
        }
        output
    }
}

impl Executor for Shelf {
    type Resolved = ();

    fn limits(&self) -> RespLimits {
        RespLimits { arguments_max: 100, argument_bytes_max: 1000, is_authenticated: self.is_known }
    }

    fn resolve(&self, _: Request<'_>) {}

    fn foresee(&mut self, _: Request<'_>, (): &()) {}

    fn fetch_foreseen(&mut self) {}

    fn is_stalled(&self) -> bool {
        false
    }

    fn execute(&mut self, request: Request<'_>, (): (), output: &mut Vec<u8>, ticket: Ticket) -> Answer {
        let key = request.get(1).unwrap_or_default();
        if self.is_cold && key.starts_with(b"cold") {
            return Answer::NotYet;
        }
        let words: Vec<_> = request.args_from(0).map(|word| word.escape_ascii().to_string()).collect();
        self.executed.push(words.join(" "));
        let reply = self.run(request);
        if key.starts_with(b"far") {
            self.pending.push((ticket, reply));
            return Answer::Later;
        }
        output.extend_from_slice(&reply);
        if self.log != 0 && request.arg(0) == b"SETNX" {
            Answer::Held(Wait::persisted(Lsn(self.log)))
        } else {
            Answer::Here
        }
    }

    fn http_limits(&self) -> Limits {
        let limits = Limits::new(100, 1000, 100, 4000);
        if self.is_known || self.password.is_none() { limits } else { limits.unauthenticated(500) }
    }

    fn unix_seconds(&self) -> u64 {
        1_000_000_000
    }

    fn must_wait(&mut self) -> bool {
        self.is_braked
    }

    fn authenticate(&mut self, has_password: Option<HasPassword<'_>>) -> bool {
        let is_right = |password: &str| has_password.is_some_and(|has_password| has_password(password.as_bytes()));
        self.is_known = self.password.is_none_or(is_right);
        self.guesses += usize::from(has_password.is_some());
        self.is_known
    }

    fn is_own_host(&self, authority: &[u8]) -> bool {
        !authority.starts_with(b"evil")
    }

    fn elsewhere(&self, key: &[u8]) -> Option<(&str, u16)> {
        match key {
            [b'2', ..] => Some(("10.0.0.2", 7000)),
            [b'3', ..] => Some(("fe80::3", 7000)),
            _ => None,
        }
    }

    fn introduce(&mut self, agent: &[u8]) {
        self.agent = String::from_utf8_lossy(agent).into_owned();
    }

    fn note_refusal(&mut self) {
        self.refusals += 1;
    }
}

struct Bench {
    session: Session,
    scratch: Decoder,
    shelf: Shelf,
}

impl Default for Bench {
    fn default() -> Self {
        Self { session: Session::undecided(), scratch: Decoder::default(), shelf: Shelf::default() }
    }
}

impl Bench {
    fn receive(&mut self, text: impl AsRef<[u8]>) {
        self.session.receive(text.as_ref(), &mut self.scratch, &LIMIT, &mut self.shelf).expect("no error of RESP's");
    }

    /// Completes one of the pending replies.
    fn complete(&mut self, position: usize) {
        let (ticket, reply) = self.shelf.pending.remove(position);
        self.session.complete(ticket, reply, Wait::NONE);
    }

    fn output(&mut self) -> String {
        String::from_utf8(self.session.take_output(Committed { persisted: Lsn(0) }).unwrap_or_default()).expect("text")
    }

    /// Returns the statuses and bodies of the responses that may be sent.
    fn responses(&mut self) -> Vec<String> {
        split(&self.output())
    }

    #[track_caller]
    fn check(&mut self, request: impl AsRef<[u8]>, expected: &[&str]) {
        self.receive(request);
        assert_eq!(self.responses(), expected);
    }
}

/// Returns each response as `status body`, by its Content-Length.
fn split(mut text: &str) -> Vec<String> {
    let mut responses = Vec::new();
    while !text.is_empty() {
        let (head, rest) = text.split_once("\r\n\r\n").expect("a head has an end");
        let status = &head["HTTP/1.1 ".len()..][..3];
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length = length.map_or(0, |length| length.parse().expect("a number"));
        responses.push(format!("{status} {}", &rest[..length]));
        text = &rest[length..];
    }
    responses
}

fn get(key: &str) -> String {
    format!("GET /get/{key} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn set(key: &str, value: &str) -> String {
    with_body(&format!("/set/{key}"), "application/x-www-form-urlencoded", "", &format!("value={value}"))
}

fn store(json: &str) -> String {
    with_body("/store", "application/json", "", json)
}

fn with_body(target: &str, content_type: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "PUT {target} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
}

#[test]
fn requests_are_executed_and_answered() {
    let mut bench = Bench::default();
    bench.check(set("k", "v"), &[r#"200 {"stored":1}"#]);
    bench.check(set("k", "w") + &get("k"), &[r#"409 {"error":"the key exists"}"#, "200 v"]);
    bench.check(store(r#"{"k":"x","l":"y"}"#) + &get("l"), &[r#"200 {"stored":2}"#, "200 y"]);
    bench.check("DELETE /remove?key=k HTTP/1.1\r\nHost: a\r\n\r\n", &[r#"200 {"removed":1}"#]);
    bench.check("GET /health HTTP/1.1\r\nHost: a\r\n\r\n", &[r#"200 {"status":"ok"}"#]);
    bench.check("GET /ready HTTP/1.1\r\nHost: a\r\n\r\n", &[r#"503 {"error":"LOADING not yet"}"#]);
    bench.check("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", &[r#"404 {"error":"this server has no metrics"}"#]);
    assert!(!bench.session.closing && bench.session.unread.is_none());
}

/// A session goes on in the Redis protocol once its first bytes show it, in however many pieces they come.
#[test]
fn the_redis_protocol_stays_what_it_was() {
    for pieces in [
        &["GET k\r\n"][..],
        &["G", "E", "T k\r", "\n"],
        &["*2\r\n$3\r\nGET\r\n$1\r\n", "k\r\n"],
        &["\r\n", "GET /k", "\r\n"],
    ] {
        let mut bench = Bench::default();
        pieces.iter().for_each(|piece| bench.receive(piece));
        assert_eq!(bench.output(), "$-1\r\n", "{pieces:?}");
        bench.receive("GET k\r\n");
        assert_eq!(bench.output(), "$-1\r\n", "{pieces:?}");
    }
}

/// Replies of other cores become responses in the order of the requests, whatever the order in which they come.
#[test]
fn late_replies_become_responses_in_order() {
    let mut bench = Bench::default();
    bench.receive(set("far1", "a") + &set("near", "b") + &set("far2", "c") + &get("far1"));
    assert_eq!(bench.responses(), [""; 0]);
    bench.complete(2);
    bench.complete(1);
    assert_eq!(bench.responses(), [""; 0]);
    bench.complete(0);
    let stored = r#"200 {"stored":1}"#;
    assert_eq!(bench.responses(), [stored, stored, stored, "200 a"]);
    assert_eq!(bench.session.queued, 0);
}

/// A response to a write waits for the log, and so do those behind it.
#[test]
fn responses_wait_for_the_log() {
    let mut bench = Bench::default();
    bench.shelf.log = 7;
    bench.receive(get("k") + &set("k", "v") + &get("k"));
    let leaving = |bench: &mut Bench, lsn| {
        bench.session.take_output(Committed { persisted: Lsn(lsn) }).map(|bytes| String::from_utf8(bytes).unwrap())
    };
    assert_eq!(split(&leaving(&mut bench, 6).expect("the first")), [r#"404 {"error":"there is no such key"}"#]);
    assert_eq!(leaving(&mut bench, 6), None);
    assert_eq!(split(&leaving(&mut bench, 7).expect("the others")), [r#"200 {"stored":1}"#, "200 v"]);
}

/// A request whose value has to be fetched is executed later, and nothing overtakes it.
#[test]
fn a_suspended_session_goes_on_where_it_stopped() {
    let mut bench = Bench::default();
    bench.shelf.is_cold = true;
    bench.receive(set("a", "1") + &get("cold") + &get("a"));
    assert!(bench.session.is_suspended() && bench.session.has_waited);
    assert_eq!(bench.responses(), [r#"200 {"stored":1}"#]);
    bench.receive(get("a"));
    bench.shelf.is_cold = false;
    bench.session.resume();
    bench.check("", &[r#"404 {"error":"there is no such key"}"#, "200 1", "200 1"]);
    assert!(!bench.session.has_unread());
}

/// A client that expects `100 Continue` gets it once, behind the responses that it is owed, or the refusal.
#[test]
fn expectations_are_answered_before_the_body() {
    let mut bench = Bench::default();
    let request = with_body("/set/k", "application/x-www-form-urlencoded", "Expect: 100-continue\r\n", "value=v");
    let (head, body) = request.split_at(request.len() - 7);
    bench.check(get("k") + head, &[r#"404 {"error":"there is no such key"}"#, "100 "]);
    bench.check(&body[..3], &[]);
    bench.check(&body[3..], &[r#"200 {"stored":1}"#]);
    bench.check(&request, &[r#"409 {"error":"the key exists"}"#]);
    let refused = with_body("/nothing", "text/plain", "Expect: 100-continue\r\n", "value=v");
    bench.receive(&refused[..refused.len() - 7]);
    assert!(bench.responses()[0].starts_with("404 "));
    assert!(bench.session.closing && bench.session.lingers());
}

/// A connection ends if the client asks for it, if it speaks HTTP/1.0 and does not ask for `keep-alive`, and if the
/// beginning of the next request is not known; then nothing behind is executed.
#[test]
fn a_connection_ends_when_it_has_to() {
    for (request, status) in [
        ("GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(), "200"),
        ("GET /health HTTP/1.0\r\n\r\n".to_owned(), "200"),
        ("GET /health\u{1} HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("GET /health HTTP/1.1\r\n\r\n".to_owned(), "400"),
        (with_body("/set/k", "text/plain", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), "400"),
        (
            "PUT /store HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 500000\r\n\r\n".into(),
            "413",
        ),
        ("GET /get/k HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n".into(), "413"),
    ] {
        let mut bench = Bench::default();
        bench.receive(request.clone() + &get("k"));
        let text = bench.output();
        assert!(text.contains("Connection: close\r\n"), "{text}");
        assert!(split(&text).len() == 1 && split(&text)[0].starts_with(status), "{request}: {text}");
        bench.check(get("k"), &[]);
        assert!(bench.session.is_finished(), "{request}");
        assert_eq!(bench.shelf.executed, [""; 0], "{request}");
    }
    let mut bench = Bench::default();
    bench.receive("GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n".to_owned() + &get("k"));
    let text = bench.output();
    assert!(text.contains("Connection: keep-alive\r\n") && split(&text).len() == 2, "{text}");
}

/// The short body of a refused request is skipped, and the connection goes on.
#[test]
fn what_is_refused_is_passed_over() {
    let mut bench = Bench::default();
    let refused = with_body("/nothing", "text/plain", "", "GET /get/k HTTP/1.1\r\nHost: a\r\n\r\n");
    bench.receive(&refused[..refused.len() - 3]);
    assert_eq!(bench.responses().len(), 0, "the body has not come");
    bench.receive(refused[refused.len() - 3..].to_owned() + &set("k", "v"));
    let responses = bench.responses();
    assert!(responses.len() == 2 && responses[0].starts_with("404 "), "{responses:?}");
    assert_eq!(bench.shelf.executed, ["SETNX k v"]);
    assert_eq!(bench.shelf.refusals, 1);
}

/// No request for another host is executed, in any form: it may come from a web page of that name.
#[test]
fn requests_for_other_hosts_are_refused() {
    for request in [
        set("k", "v").replace("Host: a", "Host: evil.example:7000"),
        get("k").replace("Host: a", "HOST:evil.example"),
        get("k").replace("/get/k", "http://evil.example/get/k"),
        get("k").replace("/get/k", "/health").replace("Host: a", "Host: evil.example"),
        "GET /get/k HTTP/1.0\r\nHost: evil.example\r\n\r\n".to_owned(),
    ] {
        let mut bench = Bench::default();
        bench.receive(&request);
        let responses = bench.responses();
        assert!(responses.len() == 1 && responses[0].starts_with("421 {\"error\":"), "{request}: {responses:?}");
        assert_eq!(bench.shelf.executed, [""; 0], "{request}");
    }
    let mut bench = Bench::default();
    bench.receive("GET /get/k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    bench.receive(get("k").replace("/get/k", "http://a/get/k").replace("Host: a", "Host: evil.example"));
    assert_eq!(
        bench.shelf.executed,
        ["GET k", "GET k"],
        "no browser sends the first, and of the second the target counts"
    );
}

/// The body of a refused request is read only up to the limit of a head, which is short for a client without a right
/// password.
#[test]
fn strangers_may_send_little() {
    let body = |length: usize| with_body("/set/k", "text/plain", "", &"x".repeat(length));
    for (request, is_read) in [(body(500), true), (body(501), false)] {
        let mut bench = Bench::default();
        bench.shelf.password = Some("secret");
        bench.receive(&request[..request.len() - 1]);
        let responses = bench.responses();
        assert_eq!(responses.len(), usize::from(!is_read), "{responses:?}");
        assert_eq!(bench.session.unread_bytes() != 0, is_read);
    }
}

/// A client that has sent wrong passwords waits before its next one is checked, also the right one; a request without a
/// password is served. Each password is checked once, in however many pieces the request comes.
#[test]
fn passwords_wait_after_wrong_ones() {
    let mut bench = Bench::default();
    bench.shelf.password = Some("secret");
    let text = base64::engine::general_purpose::STANDARD.encode("a:secret");
    let request = set("k", "v").replace("Host", &format!("Authorization: Basic {text}\r\nHost"));
    bench.shelf.is_braked = true;
    bench.receive(get("k").replace("/get/k", "/health") + &request + &get("k"));
    assert_eq!(bench.responses(), [r#"200 {"status":"ok"}"#]);
    assert!(bench.session.is_suspended() && bench.session.has_waited && bench.shelf.guesses == 0);
    bench.shelf.is_braked = false;
    bench.session.resume();
    bench.receive("");
    assert_eq!(bench.shelf.executed, ["SETNX k v"]);
    assert!(bench.responses()[1].starts_with("401 "), "the last request names none");
    let mut bench = Bench::default();
    bench.shelf.password = Some("other");
    request.bytes().for_each(|byte| bench.receive([byte]));
    assert_eq!((bench.shelf.guesses, bench.shelf.refusals), (1, 1));
}

/// Each request needs its own password: that of the request before does not count.
#[test]
fn strangers_are_told_so() {
    let mut bench = Bench::default();
    bench.shelf.password = Some("secret");
    let with = |user: &str| {
        let text = base64::engine::general_purpose::STANDARD.encode(user);
        format!("GET /get/k HTTP/1.1\r\nHost: a\r\nAuthorization: basic {text}\r\n\r\n")
    };
    let (missing, refused) = (
        "404 {\"error\":\"there is no such key\"}",
        "401 {\"error\":\"the password of requirepass is needed, with any user\"}",
    );
    bench.receive(get("k"));
    let text = bench.output();
    assert!(text.contains("WWW-Authenticate: Basic realm=\"trine\"") && text.starts_with("HTTP/1.1 401 "), "{text}");
    for (request, expected) in [
        (with("anybody:secret"), missing),
        (with(":secret"), missing),
        (with("a:secrets"), refused),
        (with("secret"), refused),
        (get("k"), refused),
        (get("k").replace("Host", "Authorization: Bearer secret\r\nHost"), refused),
        (get("k").replace("Host", "Authorization: Basic ???\r\nHost"), refused),
        (get("k").replace("/get/k", "/nothing"), refused),
        (get("k").replace("/get/k", "/health"), r#"200 {"status":"ok"}"#),
        (get("k").replace("/get/k", "/ready"), r#"503 {"error":"LOADING not yet"}"#),
    ] {
        bench.check(&request, &[expected]);
    }
    // A client that is not authenticated has a smaller limit.
    let long = get("k").replace("Host", &format!("X: {}\r\nHost", "x".repeat(500)));
    bench.receive(with("a:secret") + &long);
    assert_eq!(bench.responses(), [missing, refused], "on a connection that was trusted, it is read");
    bench.receive(&long);
    assert!(bench.responses()[0].starts_with("431 ") && bench.session.closing);
}

/// A request for a key of another server is redirected there, with its target.
#[test]
fn clients_are_sent_to_the_owner() {
    let mut bench = Bench::default();
    for (request, location) in [
        (get("2%20%22\"é?x=y"), "http://10.0.0.2:7000/get/2%20%22%22%C3%A9?x=y"),
        (get("3"), "http://[fe80::3]:7000/get/3"),
        (set("2", "v"), "http://10.0.0.2:7000/set/2"),
        ("DELETE http://me/remove?key=2 HTTP/1.1\r\nHost: a\r\n\r\n".into(), "http://10.0.0.2:7000/remove?key=2"),
        (store(r#"{"2a":"v","2b":"v"}"#), "http://10.0.0.2:7000/store"),
    ] {
        bench.receive(&request);
        let text = bench.output();
        assert!(text.starts_with("HTTP/1.1 307 ") && text.contains(&format!("\r\nLocation: {location}\r\n")), "{text}");
    }
    bench.receive(store(r#"{"1":"v","2":"v","1b":"v"}"#));
    let text = bench.output();
    assert!(
        text.starts_with("HTTP/1.1 422 ")
            && text.contains("'1' is this server's (slot 9842), and '2' is http://10.0.0.2:7000's (slot 5649)"),
        "{text}"
    );
    assert!(bench.shelf.executed.is_empty());
    assert_eq!(bench.shelf.agent, "");
}

/// The error of a core that has lost the slot since the request was routed becomes a redirection, too, also if it comes
/// late.
#[test]
fn clients_are_sent_to_an_owner_that_has_just_changed() {
    let mut bench = Bench::default();
    bench.receive(get("moved") + &get("far%20moved?x=y") + &set("moved", "v") + &get("k"));
    bench.complete(0);
    let text = bench.output();
    let seen = |response: &str| {
        let location = response.lines().find_map(|line| line.strip_prefix("Location: "));
        format!("{} {}", &response[..3], location.unwrap_or_default())
    };
    let found: Vec<_> = text.split("HTTP/1.1 ").skip(1).map(seen).collect();
    assert_eq!(
        found,
        [
            "307 http://[fe80::3]:7000/get/moved",
            "307 http://[fe80::3]:7000/get/far%20moved?x=y",
            "307 http://[fe80::3]:7000/set/moved",
            "404 ",
        ]
    );
}

/// An idle session holds no buffer.
#[test]
fn an_idle_session_holds_no_buffer() {
    let mut bench = Bench::default();
    let request = set("k", "v");
    bench.receive(&request[..50]);
    assert_eq!(bench.session.unread_bytes(), 50);
    bench.check(&request[50..], &[r#"200 {"stored":1}"#]);
    assert!(bench.session.unread.is_none());
}

proptest! {
    /// The client gets the same responses for any cuts of its requests and any order of other cores' replies.
    #[test]
    fn any_split_of_the_bytes_gives_the_same_responses(
        kinds in prop::collection::vec((0..7_u8, 0..4_u8, "[a-z]{0,3}|%41|%"), 0..20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        let requests: String = kinds.iter().map(|(kind, key, value)| {
            let key = format!("{}{key}", if key % 2 == 0 { "far" } else { "near" });
            match kind {
                0 | 1 => set(&key, value),
                2 => get(&key),
                3 => store(&format!("{{\"a\":\"{value}\"}}")),
                4 => format!("DELETE /remove?key={key} HTTP/1.1\r\nHost: a\r\n\r\n"),
                5 => "PUT /store HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                      Transfer-Encoding: chunked\r\n\r\n9\r\n{\"b\":\"x\"}\r\n0\r\n\r\n".to_owned(),
                _ => with_body("/nothing", "text/plain", "", value),
            }
        }).collect();
        let run = |cuts: &[prop::sample::Index]| {
            let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(requests.len() + 1)).collect();
            ends.sort_unstable();
            ends.push(requests.len());
            let (mut bench, mut start, mut got, mut order) = (Bench::default(), 0, String::new(), order.iter().cycle());
            for end in ends {
                bench.receive(&requests[start..end]);
                start = end;
                got += &bench.output();
            }
            while bench.session.is_waiting() || bench.session.has_unread() {
                if !bench.shelf.pending.is_empty() {
                    bench.complete(order.next().expect("it is endless").index(bench.shelf.pending.len()));
                }
                got += &bench.output();
                bench.receive("");
                got += &bench.output();
            }
            (split(&got), bench.shelf.executed)
        };
        let whole = run(&[]);
        prop_assert_eq!(whole.0.len(), kinds.len());
        prop_assert_eq!(run(&cuts), whole);
    }

    /// Garbage is a refusal or the beginning of a request, never a panic; in pieces, no more of it is executed than in
    /// one.
    #[test]
    fn any_split_of_garbage_executes_no_more(
        pieces in prop::collection::vec(prop_oneof![
            Just("GET /get/k HTTP/1.1\r\nHost: a\r\n\r\n"), Just("PUT /set/k HTTP/1.1\r\n"), Just("PUT /store HTTP/1.1\r\n"),
            Just("Host: a\r\n"), Just("Content-Length: 7\r\n"), Just("Transfer-Encoding: chunked\r\n"),
            Just("Content-Type: application/x-www-form-urlencoded\r\n"), Just("Content-Type: application/json\r\n"),
            Just("\r\n"), Just("value=v"), Just("{\"a\":\"b\"}"), Just("9\r\n"), Just("0\r\n\r\n"), Just("\0"), Just("%"), Just(":"),
        ], 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let bytes = ["GET /get/first HTTP/1.1\r\nHost: a\r\n\r\n", &pieces.concat()].concat();
        let run = |mut ends: Vec<usize>| {
            ends.sort_unstable();
            ends.push(bytes.len());
            let (mut bench, mut start) = (Bench::default(), 0);
            for end in ends {
                bench.receive(&bytes[start..end]);
                start = end;
            }
            bench.shelf.executed
        };
        let whole = run(Vec::new());
        let cut = run(cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect());
        prop_assert!(whole.starts_with(&cut), "{:?} {:?}", whole, cut);
    }
}
