//! The HTTP API: real servers, raw sockets, and a stock client.

use crate::{
    harness::{Cluster, PATIENCE, Server, eventually, random},
    wire::Wire,
};
use rustix::process::Signal;
use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

const FORM: &str = "application/x-www-form-urlencoded";

/// A response, as far as tests look at it.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The status and the body.
    fn shown(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

/// A connection that speaks HTTP.
pub struct Http {
    stream: BufReader<TcpStream>,
}

impl Http {
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_nodelay(true).expect("a socket has options");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has options");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket has options");
        Self { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).expect("it can be sent");
    }

    pub fn response(&mut self) -> Response {
        self.try_response(true).expect("a response")
    }

    fn try_response(&mut self, has_body: bool) -> io::Result<Response> {
        let mut line = || -> io::Result<String> {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            line.ends_with("\r\n")
                .then(|| line.trim_end().to_owned())
                .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        let first = line()?;
        let status = first.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("a status: {first}"))[..3]
            .parse()
            .expect("three digits");
        let mut fields = Vec::new();
        loop {
            let field = line()?;
            let Some((name, value)) = field.split_once(": ") else { break };
            fields.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut response = Response { status, fields, body: Vec::new() };
        if has_body && let Some(length) = response.field("content-length") {
            response.body = vec![0; length.parse().expect("a number")];
            self.stream.read_exact(&mut response.body)?;
        }
        Ok(response)
    }

    /// Sends a request without a body; returns the status and the body of its response.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(request(line));
        self.response().shown()
    }

    fn put(&mut self, target: &str, content_type: &str, body: &[u8]) -> String {
        self.send(put(target, content_type, body));
        self.response().shown()
    }

    pub fn set(&mut self, key: &str, value: &str) -> String {
        self.put(&format!("/set/{key}"), FORM, format!("value={value}").as_bytes())
    }

    fn is_closed(&mut self) -> bool {
        self.stream.fill_buf().map_or_else(|error| error.kind() == io::ErrorKind::ConnectionReset, <[u8]>::is_empty)
    }
}

pub fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn put(target: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "PUT {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Every row of the table in `src/http/README.md`, on keys of both cores.
#[test]
fn every_row_of_the_table() {
    let server = Server::start(2, &[]);
    let mut http = Http::connect(server.port);
    for key in ["foo", "%7Bb%7D"] {
        assert_eq!(http.ask(&format!("GET /get/{key}")), r#"404 {"error":"there is no such key"}"#);
        assert_eq!(http.set(key, "a+%C3%A9%00"), r#"200 {"stored":1}"#);
        assert_eq!(http.set(key, "other"), r#"409 {"error":"the key exists"}"#);
        assert_eq!(http.ask(&format!("GET /get/{key}")), "200 a \u{e9}\0");
        assert_eq!(http.ask(&format!("GET /retrieve?key={key}")), "200 a \u{e9}\0");
        assert_eq!(http.ask(&format!("DELETE /remove?key={key}")), r#"200 {"removed":1}"#);
        assert_eq!(http.ask(&format!("DELETE /remove?key={key}")), r#"404 {"error":"there is no such key"}"#);
    }
    assert_eq!(http.put("/store", "application/json", br#"{"foo":"1","{b}":"2","c d":"3"}"#), r#"200 {"stored":3}"#);
    assert_eq!(http.put("/store", "application/json", br#"{"foo":"4"}"#), r#"200 {"stored":1}"#);
    assert_eq!(http.ask("GET /get/foo") + &http.ask("GET /retrieve?key=c+d"), "200 4200 3");
    let form = b"--x\r\nContent-Disposition: form-data; name=\"value\"\r\n\r\na\0b\r\n--x--\r\n";
    assert_eq!(http.put("/set/parts", "multipart/form-data; boundary=x", form), r#"200 {"stored":1}"#);
    assert_eq!(http.ask("GET /get/parts"), "200 a\0b");
    assert_eq!(http.ask("GET /health"), r#"200 {"status":"ok"}"#);
    assert_eq!(http.ask("GET /ready"), r#"200 {"status":"ready"}"#);
    let metrics = http.ask("GET /metrics");
    assert!(metrics.starts_with("200 #") && metrics.contains("trine_"), "{metrics}");
    for (line, status) in [
        ("GET /", "404"),
        ("POST /get/foo", "405"),
        ("PUT /set/foo", "411"),
        ("GET /get/", "400"),
        ("GET /get/%zz", "400"),
        ("GET /retrieve", "400"),
        ("TRACE /get/foo", "501"),
        (&format!("GET /get/{}", "k".repeat(65_537)), "414"),
    ] {
        let answer = http.ask(line);
        assert!(answer.starts_with(&format!("{status} {{\"error\":")), "{line}: {answer}");
    }
    for (content_type, body, status) in
        [("text/plain", &b"value=1"[..], "415"), (FORM, b"other=1", "400"), ("multipart/form-data", b"--x--", "400")]
    {
        assert_eq!(http.put("/set/new", content_type, body)[..4], format!("{status} "));
    }
    assert!(http.put("/store", "application/json", br#"{"a":1}"#).contains("a text in double quotes as a value"));
    http.send(request("DELETE /get/foo"));
    assert_eq!(http.response().field("allow"), Some("GET, HEAD"));
    http.send(request("HEAD /get/foo"));
    let head = http.try_response(false).unwrap();
    assert_eq!(
        (head.status, head.field("content-length"), head.field("content-type")),
        (200, Some("1"), Some("application/octet-stream"))
    );
    assert!(head.field("date").is_some_and(|date| date.len() == 29 && date.ends_with(" GMT")), "{head:?}");
    // All of this is the same store that Redis clients see, and the same list of clients.
    let mut wire = server.connect();
    wire.check("GET parts -> a\0b\nSET new x -> +OK");
    assert_eq!(http.ask("GET /get/new"), "200 x");
    let clients = wire.ask("CLIENT LIST");
    assert!(clients.lines().any(|line| line.contains(" lib-name=http ")), "{clients}");
}

/// Pipelined requests for keys of several cores are answered in order, however the network cuts them; chunked bodies too.
#[test]
fn pipelined_requests_over_several_cores_come_back_in_order() {
    let server = Server::start(3, &[]);
    let mut random = random();
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for number in 0..3000 {
        let (key, kind) = (format!("k{}", random.u32(..200)), random.u32(..4));
        match kind {
            0 => bytes.extend(put(&format!("/set/{key}"), FORM, format!("value={number}").as_bytes())),
            1 => {
                let json = format!("{{\"{key}\":\"{number}\",\"x{key}\":\"{number}\"}}");
                let (one, two) = json.split_at(random.usize(1..json.len()));
                let head = "PUT /store HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked";
                bytes.extend(
                    format!("{head}\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len()).bytes(),
                );
            }
            2 => bytes.extend(request(&format!("DELETE /remove?key={key}")).bytes()),
            _ => bytes.extend(request(&format!("GET /get/{key}")).bytes()),
        }
        expected.push((key, kind, number));
    }
    let mut http = Http::connect(server.port);
    let (mut socket, sent) = (http.stream.get_ref().try_clone().unwrap(), bytes);
    let sender = thread::spawn(move || {
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(random.usize(1..=rest.len().min(3000)));
            socket.write_all(piece).unwrap();
            rest = behind;
        }
    });
    // What a single map would have answered.
    let mut model = std::collections::HashMap::new();
    for (key, kind, number) in expected {
        let answer = http.response().shown();
        let value = number.to_string();
        let right = match kind {
            0 if model.contains_key(&key) => "409".into(),
            0 => {
                model.insert(key, value);
                r#"200 {"stored":1}"#.into()
            }
            1 => {
                model.insert(format!("x{key}"), value.clone());
                model.insert(key, value);
                r#"200 {"stored":2}"#.into()
            }
            2 => if model.remove(&key).is_some() { "200" } else { "404" }.into(),
            _ => model.get(&key).map_or("404".into(), |value| format!("200 {value}")),
        };
        assert!(answer.starts_with(&right), "request {number}: {answer}, not {right}");
    }
    sender.join().unwrap();
}

/// On the gateway a person may type Redis's commands, and an HTTP client that sends a byte at a time is understood.
#[test]
fn the_first_line_tells_the_protocols_apart() {
    let server = Server::start(2, &[]);
    let mut wire = server.connect();
    for (typed, reply) in [("SET /k HTTP\r\n", "+OK"), ("GET /k\r\n", "HTTP"), ("get /k\r\n", "HTTP")] {
        wire.send(typed.as_bytes());
        assert_eq!(wire.reply().to_string(), reply);
        // Also as the first of a connection.
        let mut wire = server.connect();
        wire.send(typed.as_bytes());
        assert_eq!(wire.reply().to_string(), reply);
    }
    let mut http = Http::connect(server.port);
    for byte in ["\r\n", &request("GET /get/%2Fk"), &request("GET /health")].concat().bytes() {
        http.send([byte]);
    }
    assert_eq!(
        (http.response().shown(), http.response().shown()),
        ("200 HTTP".into(), r#"200 {"status":"ok"}"#.into())
    );
    // A core's port speaks the Redis protocol alone.
    let mut core = Wire::connect(server.core(0));
    core.send(request("GET /health").as_bytes());
    assert!(core.reply().to_string().starts_with("-ERR Protocol error: an HTTP request"));
    assert!(core.is_closed());
    // After the first request, too, what is no HTTP is refused, and told why.
    let mut http = Http::connect(server.port);
    http.send(request("GET /health") + "\0\u{1}garbage");
    assert_eq!(http.response().status, 200);
    let refused = http.response();
    assert_eq!((refused.status, refused.field("connection")), (400, Some("close")));
    http.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    assert!(http.is_closed());
}

/// Heads and bodies without end cost a bounded amount, and whoever sends them is told why it ends.
#[test]
fn requests_without_end_are_refused() {
    let server = Server::start(1, &["--max-request-bytes", "2mb", "--proto-max-bulk-len", "1mb"]);
    let before = server.process.resident_bytes();
    let endless_chunks =
        format!("PUT /set/k HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (first, more, status) in [
        ("GET /".to_owned(), "a".repeat(1000), 414),
        ("GET / HTTP/1.1\r\n".to_owned(), "X: y\r\n".repeat(100), 431),
        ("GET / HTTP/1.1\r\nX: ".to_owned(), "y".repeat(1000), 431),
        (endless_chunks, format!("3e8\r\n{}\r\n", "y".repeat(1000)), 413),
        (
            "GET /get/k HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "1\r\nx\r\n".repeat(100),
            413,
        ),
    ] {
        let mut http = Http::connect(server.port);
        http.send(&first);
        let mut socket = http.stream.get_ref().try_clone().unwrap();
        let (stop, is_told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let flags = (Arc::clone(&stop), Arc::clone(&is_told));
        let sender = thread::spawn(move || {
            while !flags.0.load(Ordering::SeqCst) && socket.write_all(more.as_bytes()).is_ok() {
                flags.1.store(true, Ordering::SeqCst);
            }
        });
        assert_eq!(http.response().status, status, "{first}");
        stop.store(true, Ordering::SeqCst);
        sender.join().unwrap();
        assert!(is_told.load(Ordering::SeqCst), "{first}");
        // It is closed when the client has no more to say.
        http.stream.get_ref().shutdown(Shutdown::Write).unwrap();
        assert!(http.is_closed(), "{first}");
    }
    let declared = |length: usize| {
        format!("PUT /set/k HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut http = Http::connect(server.port);
    http.send(declared(3 << 20));
    assert_eq!(http.response().status, 413);
    // A promise takes no memory, and a body may be slow.
    let promises: Vec<_> =
        (0..200).map(|_| Http::connect(server.port)).map(|mut http| (http.send(declared(1 << 20)), http)).collect();
    let mut slow = Http::connect(server.port);
    slow.send(declared(9));
    for byte in b"value=abc" {
        assert_eq!(server.connect().ask("PING"), "+PONG");
        slow.send([*byte]);
    }
    assert_eq!(slow.response().shown(), r#"200 {"stored":1}"#);
    let after = server.process.resident_bytes();
    assert!(after < before + (24 << 20), "{before} bytes before, {after} after");
    drop(promises);
}

/// A client that asks before it sends a body is told to go on, or why not.
#[test]
fn expectations_are_answered() {
    let server = Server::start(2, &[]);
    let mut http = Http::connect(server.port);
    let head = |target: &str| {
        format!(
            "PUT {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\nContent-Length: 7\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    http.send(head("/set/k"));
    assert_eq!(http.response().status, 100);
    http.send("value=v");
    assert_eq!(http.response().shown(), r#"200 {"stored":1}"#);
    http.send(head("/sets/k"));
    let refused = http.response();
    assert_eq!((refused.status, refused.field("connection")), (404, Some("close")));
}

/// With a password, each request names it, with any user; who asks for the server's health needs none.
#[test]
fn the_password_is_asked_for() {
    let server = Server::start(2, &["--requirepass", "secret"]);
    let mut http = Http::connect(server.port);
    http.send(request("GET /get/k"));
    let refused = http.response();
    assert_eq!(
        (refused.status, refused.field("www-authenticate")),
        (401, Some("Basic realm=\"trine\", charset=\"UTF-8\""))
    );
    let with = |text: &str| format!("GET /get/k HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {text}\r\n\r\n");
    for (text, status) in [("YTpzZWNyZXQ=", 404), ("YTpzZWNyZXQx", 401), ("OnNlY3JldA==", 404), ("c2VjcmV0", 401)] {
        http.send(with(text)); // a:secret, a:secret1, :secret, secret
        assert_eq!(http.response().status, status, "{text}");
    }
    assert_eq!(http.ask("GET /get/k")[..3], *"401");
    assert_eq!(http.ask("GET /metrics")[..3], *"401");
    assert_eq!(http.ask("GET /health"), r#"200 {"status":"ok"}"#);
    assert_eq!(http.ask("GET /ready"), r#"200 {"status":"ready"}"#);
}

/// A key of another server is answered with its address, which is where the key then is; and a server without a topology
/// takes every key.
#[test]
fn keys_of_other_servers_are_redirected() {
    let cluster = Cluster::start(2, 2, &[]);
    let mut gateways = [0, 1].map(|server| Http::connect(cluster.gateway(server)));
    let mut redirected = 0;
    for number in 0..50 {
        let target = format!("/set/key%20{number}");
        gateways[0].send(put(&target, FORM, b"value=v"));
        let response = gateways[0].response();
        if response.status == 307 {
            redirected += 1;
            let location = format!("http://127.0.0.1:{}{target}", cluster.gateway(1));
            assert_eq!(response.field("location"), Some(location.as_str()));
            assert_eq!(gateways[1].put(&target, FORM, b"value=v"), r#"200 {"stored":1}"#);
        } else {
            assert_eq!(response.shown(), r#"200 {"stored":1}"#);
            assert_eq!(gateways[1].put(&target, FORM, b"value=v")[..3], *"307");
        }
    }
    assert!((5..45).contains(&redirected), "{redirected} of 50");
    // `{b}` and `c` are slots 3300 and 7365 of the first server's two cores, `foo` is slot 12182 of the second server's.
    let mut store = |json: &str| gateways[0].put("/store", "application/json", json.as_bytes());
    assert_eq!(store(r#"{"{b}":"1","{c}":"2"}"#), r#"200 {"stored":2}"#);
    assert_eq!(store(r#"{"foo":"1","{foo}2":"2"}"#)[..3], *"307");
    let mixed = store(r#"{"{b}":"3","foo":"4"}"#);
    assert!(mixed.starts_with("422 ") && mixed.contains("'foo' is http://127.0.0.1:"), "{mixed}");
    assert_eq!(gateways[0].ask("GET /get/%7Bb%7D"), "200 1", "nothing was stored");
    // A stock client follows.
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let base = |server: u16| format!("http://127.0.0.1:{}", cluster.gateway(server));
    for server in [0, 1] {
        for key in ["{b}", "foo", "new/é"] {
            let url =
                format!("{}/get/{key}", base(server)).replace('{', "%7B").replace('}', "%7D").replace('é', "%C3%A9");
            let found = agent.get(&url).call().expect("an answer").status().as_u16();
            assert_eq!(found, if key == "{b}" { 200 } else { 404 }, "{url}");
        }
    }
}

/// A stock client's forms and JSON texts are understood, by a connection that is used again.
#[test]
fn a_stock_client_is_served() {
    let server = Server::start(2, &[]);
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let base = format!("http://127.0.0.1:{}", server.port);
    for (number, value) in ["plain", "a b+c&d=e%", "é\n\0", ""].into_iter().enumerate() {
        let url = format!("{base}/set/key{number}");
        let status =
            agent.put(&url).send_form([("other", "x"), ("value", value)]).expect("an answer").status().as_u16();
        assert_eq!(status, 200, "{value:?}");
        let mut got =
            agent.get(format!("{base}/retrieve")).query("key", format!("key{number}")).call().expect("an answer");
        assert_eq!(got.body_mut().read_to_string().expect("text"), value);
    }
    let stored =
        agent.put(format!("{base}/store")).content_type("application/json").send(r#"{"a b":"1"}"#).expect("an answer");
    assert_eq!(stored.status().as_u16(), 200);
    assert_eq!(server.connect().request(&[b"GET", b"a b"]).to_string(), "1");
    let clients = server.connect().ask("CLIENT LIST");
    assert_eq!(clients.lines().filter(|line| line.contains("lib-name=http lib-ver=ureq/")).count(), 1, "{clients}");
}

/// A write that was answered with 200 is there after a kill, and so is a value that a 409 showed.
#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["--dir", folder.path().to_str().unwrap(), "--durability", "always"];
    let mut server = Server::start(2, &settings);
    let port = server.port;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            thread::spawn(move || {
                let mut http = Http::connect(port);
                let mut acknowledged = 0;
                // Until the server is gone. In pipelines of three, over both cores.
                loop {
                    let keys = (acknowledged..acknowledged + 3).map(|number| format!("/set/{writer}-{number}"));
                    let bytes: Vec<_> =
                        keys.flat_map(|target| put(&target, FORM, format!("value={writer}").as_bytes())).collect();
                    if http.stream.get_mut().write_all(&bytes).is_err() {
                        return acknowledged;
                    }
                    for _ in 0..3 {
                        match http.try_response(true) {
                            Ok(response) => assert_eq!(response.status, 200),
                            Err(_) => return acknowledged,
                        }
                        acknowledged += 1;
                    }
                }
            })
        })
        .collect();
    let mut wire = server.connect();
    eventually("some are written", || {
        let count: usize = wire.ask("DBSIZE").trim_start_matches(':').parse().expect("a number");
        (300 < count).then_some(())
    });
    server.process.signal(Signal::KILL);
    server.process.end();
    let counts: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    let server = Server::start(2, &settings);
    let mut http = Http::connect(server.port);
    for (writer, count) in counts.iter().enumerate() {
        for number in 0..*count {
            assert_eq!(
                http.ask(&format!("GET /get/{writer}-{number}")),
                format!("200 {writer}"),
                "{number} of {count}"
            );
        }
    }
    assert!(200 < counts.iter().sum::<usize>(), "{counts:?}");
}

/// A server that refuses writes for want of memory answers a client with 507, and balancers with 503.
#[test]
fn a_full_server_says_so() {
    let server = Server::start(2, &["--max-memory", "8mb"]);
    let mut http = Http::connect(server.port);
    let value = "v".repeat(100_000);
    let refused =
        (0..400).map(|number| http.set(&format!("k{number}"), &value)).find(|answer| !answer.starts_with("200"));
    let refused = refused.expect("8 MB are not enough for 40");
    assert!(refused.starts_with("507 {\"error\":\"OOM "), "{refused}");
    assert!(http.ask("GET /ready").starts_with("503 {\"error\":\"OOM "));
    assert_eq!(http.ask("GET /health"), r#"200 {"status":"ok"}"#);
    for number in 0..400 {
        http.ask(&format!("DELETE /remove?key=k{number}"));
    }
    assert_eq!(http.ask("GET /ready"), r#"200 {"status":"ready"}"#);
}

/// Values that live on disk are fetched for HTTP clients as for others.
#[test]
fn values_on_disk_are_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let server = Server::start(2, &["--dir", dir, "--values", "disk", "--max-memory", "4mb"]);
    let mut http = Http::connect(server.port);
    let value = |number: u32| format!("{number}-").repeat(2000);
    let mut bytes = Vec::new();
    (0..1000).for_each(|number| {
        bytes.extend(put(&format!("/set/k{number}"), FORM, format!("value={}", value(number)).as_bytes()))
    });
    let mut socket = http.stream.get_ref().try_clone().unwrap();
    let sender = thread::spawn(move || {
        (0..1000).for_each(|number| bytes.extend(request(&format!("GET /get/k{number}")).bytes()));
        socket.write_all(&bytes).unwrap();
    });
    (0..1000).for_each(|number| assert_eq!(http.response().shown(), r#"200 {"stored":1}"#, "{number}"));
    (0..1000).for_each(|number| assert!(http.response().shown() == format!("200 {}", value(number)), "{number}"));
    sender.join().unwrap();
    let reads = server.connect().ask("INFO everything");
    let reads = reads.lines().find(|line| line.contains("reads")).unwrap_or_default().to_owned();
    assert!(!reads.ends_with(":0"), "{reads}");
}

/// Without a password a server answers for its own names and addresses, so that no web page that is made to have its address reads
/// or writes a key; `http-hosts` names others, at run time too, and with a password any will do.
#[test]
fn requests_for_other_hosts_are_refused() {
    let server = Server::start(2, &["--announce", "db.example.org", "--http-hosts", "*.internal"]);
    let status = |host: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
        let request = format!("GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it can be sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it ends");
        text.split(' ').nth(1).expect("a status").to_owned()
    };
    for host in ["localhost", "127.0.0.1:1", "[::1]", "trine", "DB.example.org.:7000", "a.internal"] {
        assert_eq!(status(host), "200", "{host}");
    }
    for host in ["evil.example", "evil.example:7000", "localhost.evil.example", ""] {
        assert_eq!(status(host), "421", "{host}");
    }
    assert_eq!(Wire::connect(server.core(1)).ask("CONFIG SET http-hosts evil.example"), "+OK");
    assert_eq!((status("evil.example").as_str(), status("a.internal").as_str()), ("200", "421"));
    assert_eq!(server.connect().ask("CONFIG SET http-hosts nobody requirepass secret"), "+OK");
    assert_eq!(status("evil.example"), "200");
}
