//! `trine-load` over HTTP against a server as difficult as HTTP allows: it closes its connections, sends its values in
//! chunks, and sends requests to somebody else. (Trine does none of the first two; the tests of the whole project run it.)
#![expect(clippy::unwrap_used, reason = "the lint knows tests by their attribute, and these helpers are tests too")]

use serde_json::Value as Json;
use std::{
    collections::{HashMap, hash_map::Entry},
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// The framing of a value: in two chunks, or whole.
#[derive(Clone, Copy, PartialEq)]
enum Bodies {
    Whole,
    Chunked,
}

/// The behaviour of a server.
struct Habits {
    /// Requests that it answers on one connection before it closes it.
    per_connection: usize,
    bodies: Bodies,
    /// The address that it redirects to.
    owner: Option<String>,
}

#[derive(Default)]
struct Seen {
    values: Mutex<HashMap<String, String>>,
    connections: AtomicUsize,
    requests: AtomicUsize,
}

/// A server on a port of its own, for as long as the test runs.
struct Server {
    address: String,
    seen: Arc<Seen>,
}

impl Server {
    fn start(habits: Habits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (seen, habits) = (Arc::new(Seen::default()), Arc::new(habits));
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (seen, habits) = (Arc::clone(&shared), Arc::clone(&habits));
                seen.connections.fetch_add(1, Ordering::Relaxed);
                thread::spawn(move || serve(&socket, &seen, &habits));
            }
        });
        Self { address, seen }
    }

    fn keys(&self) -> usize {
        self.seen.values.lock().unwrap().len()
    }
}

/// Serves a connection until its habit or its client ends it.
fn serve(socket: &TcpStream, seen: &Seen, habits: &Habits) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let mut input = BufReader::new(socket);
    for number in 1..=habits.per_connection {
        let (path, body) = request(&mut input)?;
        seen.requests.fetch_add(1, Ordering::Relaxed);
        let last = if number == habits.per_connection { "Connection: close\r\n" } else { "" };
        let response = match &habits.owner {
            Some(owner) => format!(
                "HTTP/1.1 307 Temporary Redirect\r\n{last}Location: http://{owner}{path}\r\nContent-Length: 0\r\n\r\n"
            ),
            None => answer(&path, &body, seen, habits.bodies, last),
        };
        (&*socket).write_all(response.as_bytes()).ok()?;
    }
    Some(())
}

/// Reads a request: its path and its body.
fn request(input: &mut impl BufRead) -> Option<(String, String)> {
    let (mut path, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if path.is_empty() {
            path = line.split(' ').nth(1)?.to_owned();
        } else if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().ok()?;
        } else if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).ok()?;
    Some((path, String::from_utf8(body).ok()?))
}

fn answer(path: &str, body: &str, seen: &Seen, bodies: Bodies, last: &str) -> String {
    let mut values = seen.values.lock().unwrap();
    let whole =
        |status: &str, body: &str| format!("HTTP/1.1 {status}\r\n{last}Content-Length: {}\r\n\r\n{body}", body.len());
    if let Some(key) = path.strip_prefix("/set/") {
        let value = body.strip_prefix("value=").unwrap();
        return match values.entry(key.to_owned()) {
            Entry::Occupied(_) => whole("409 Conflict", "it exists"),
            Entry::Vacant(place) => {
                place.insert(value.to_owned());
                whole("200 OK", "")
            }
        };
    }
    match values.get(path.strip_prefix("/get/").unwrap()) {
        None => whole("404 Not Found", "no such key"),
        Some(value) if bodies == Bodies::Whole => whole("200 OK", value),
        Some(value) => {
            let (one, two) = value.split_at(value.len() / 3);
            let chunks = [one, two, ""].map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).concat();
            format!("HTTP/1.1 200 OK\r\n{last}Transfer-Encoding: chunked\r\n\r\n{chunks}")
        }
    }
}

/// Runs `trine-load`, which must find nothing wrong. A busy machine is no fault.
fn load(arguments: &[&str]) -> Json {
    let output = Command::new(env!("CARGO_BIN_EXE_trine-load"))
        .args(arguments)
        .args(["--quiet", "--json", "-"])
        .output()
        .unwrap();
    let json: Json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert!(matches!(output.status.code(), Some(0 | 3)), "{json:#}");
    assert_eq!((&json["errors"]["total"], &json["wrong_values"]), (&0.into(), &0.into()), "{json:#}");
    json
}

/// A server that closes its connection after every fifth response loses no request, with pipelining and without.
#[test]
fn closed_connections_are_made_again() {
    for pipeline in ["1", "8"] {
        let server = Server::start(Habits { per_connection: 5, bodies: Bodies::Chunked, owner: None });
        let url = format!("http://{}", server.address);
        let json = load(&[&url, "--operations", "100", "-c", "3", "-P", pipeline, "--value-size", "100"]);
        assert_eq!((&json["operations"], &json["target"]["protocol"]), (&600.into(), &"http".into()));
        assert_eq!(server.keys(), 300);
        assert!(100 < server.seen.connections.load(Ordering::Relaxed), "600 requests, five on a connection");
    }
}

/// A server that sends everybody to another is left alone as soon as it has said so of every slot.
#[test]
fn a_redirect_is_remembered() {
    let usual = |owner| Habits { per_connection: usize::MAX, bodies: Bodies::Whole, owner };
    let owner = Server::start(usual(None));
    let other = Server::start(usual(Some(owner.address.clone())));
    let url = format!("http://{}", other.address);
    let json = load(&[&url, "--keys", "20", "--warmup", "0s", "--duration", "300ms", "-c", "2"]);
    assert!(100 < json["operations"].as_u64().unwrap(), "{json:#}");
    assert_eq!((owner.keys(), other.keys()), (20, 0));
    // One probe; and of each key, as long as its first answer was on its way, whatever was sent meanwhile.
    let asked = other.seen.requests.load(Ordering::Relaxed);
    assert!((21..=1 + 20 * 2).contains(&asked), "{asked}");
    assert!(0 < json["conflicts"].as_u64().unwrap(), "the keys were written before: {json:#}");
}

/// Several servers that know nothing of each other share the keys.
#[test]
fn several_servers_share_the_keys() {
    let servers =
        [(); 3].map(|()| Server::start(Habits { per_connection: usize::MAX, bodies: Bodies::Whole, owner: None }));
    let urls: Vec<String> = servers.iter().map(|server| format!("http://{}", server.address)).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let json = load(&[&urls[..], &["--operations", "100", "-c", "10"]].concat());
    assert_eq!((&json["operations"], &json["target"]["mode"]), (&2000.into(), &"ring".into()));
    let keys: Vec<usize> = servers.iter().map(Server::keys).collect();
    assert_eq!(keys.iter().sum::<usize>(), 1000);
    assert!(keys.iter().all(|&keys| 150 < keys), "{keys:?}");
}

/// A damaged value is a wrong value, and the exit status says so.
#[test]
fn a_damaged_value_is_wrong() {
    let server = Server::start(Habits { per_connection: usize::MAX, bodies: Bodies::Whole, owner: None });
    let url = format!("http://{}", server.address);
    let arguments = ["--keys", "50", "--warmup", "0s", "--duration", "0s"];
    load(&[&[url.as_str()], &arguments[..]].concat());
    server.seen.values.lock().unwrap().get_mut("key:000000000007").unwrap().replace_range(30..31, "A");
    let output = Command::new(env!("CARGO_BIN_EXE_trine-load"))
        .arg(&url)
        .args(arguments)
        .args(["--no-load", "--quiet", "--json", "-"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["wrong_values_by_kind"]["damaged"], 1, "{json:#}");
}
