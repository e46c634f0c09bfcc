//! The blocking client and `trine-load` against real servers: redis-server, alone and as a cluster of two. Where none is
//! installed the tests say so and pass.
#![expect(clippy::unwrap_used, reason = "the lint knows tests by their attribute, and these helpers are tests too")]

#[path = "../../src/skip.rs"]
mod skip;

use serde_json::Value as Json;
use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};
use trine_client::{
    Error, Options,
    blocking::{Client, Connection},
    reply::Value,
};

/// The longest time for a server to start, and for a cluster to agree.
const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    process: Child,
    folder: PathBuf,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Server {
    /// Starts redis-server on a free port; `None` where there is none.
    fn start(arguments: &[&str]) -> Option<Self> {
        // Somebody else may take the port first.
        for _ in 0..5 {
            let mut server = Self::launch(arguments)?;
            let mut has_ended = false;
            wait_until(|| {
                has_ended = server.process.try_wait().unwrap().is_some();
                has_ended || TcpStream::connect(server.address()).is_ok()
            });
            if !has_ended {
                return Some(server);
            }
        }
        panic!("redis-server does not start");
    }

    fn launch(arguments: &[&str]) -> Option<Self> {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("trine-client-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let started = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"])
            .arg(&folder)
            .args(arguments)
            .stdout(Stdio::null())
            .spawn();
        let Ok(process) = started else {
            skip::skip("redis-server is not installed");
            let _ = fs::remove_dir_all(&folder);
            return None;
        };
        Some(Self { process, folder, port })
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn ask(&self, words: &[&str]) -> Value {
        Connection::connect(&self.address(), &Options::default()).unwrap().command(words).unwrap()
    }
}

/// Two nodes with half the slots each; `None` where there is no redis-server.
fn start_cluster() -> Option<[Server; 2]> {
    let cluster = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"];
    let nodes = [Server::start(&cluster)?, Server::start(&cluster)?];
    for (node, [first, last]) in nodes.iter().zip([["0", "8191"], ["8192", "16383"]]) {
        assert_eq!(node.ask(&["CLUSTER", "ADDSLOTSRANGE", first, last]), Value::Simple("OK".into()));
    }
    nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &nodes[1].port.to_string()]);
    let agrees = |node: &Server| match node.ask(&["CLUSTER", "INFO"]) {
        Value::Bulk(info) => {
            let info = String::from_utf8(info).unwrap();
            info.contains("cluster_state:ok") && info.contains("cluster_slots_assigned:16384")
        }
        _ => false,
    };
    wait_until(|| nodes.iter().all(agrees));
    Some(nodes)
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it took too long");
        sleep(Duration::from_millis(20));
    }
}

/// A port that nobody uses, nor the one 10,000 above it, where a cluster's nodes talk to each other. Both lie below the
/// ports that the system gives to clients.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + (std::process::id() % 250) as u16 * 10;
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut candidates = std::iter::repeat_with(|| base + NEXT.fetch_add(1, Ordering::Relaxed)).take(250);
    candidates.find(|&port| is_free(port) && is_free(port + 10_000)).unwrap()
}

/// Runs `trine-load` briefly. Returns its exit status and its JSON, where it wrote any.
fn load(arguments: &[&str]) -> (i32, Option<Json>) {
    let common = ["--keys", "2000", "--warmup", "100ms", "--duration", "300ms", "--quiet", "--json", "-"];
    let output = run(&[arguments, &common].concat());
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).ok())
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trine-load")).args(arguments).output().unwrap()
}

/// OK, or SUSPECT on a busy machine; either way something was measured.
fn has_measured(status: i32, json: &Json) {
    assert!([0, 3].contains(&status), "{json:#}");
    assert!(0 < json["operations"].as_u64().unwrap(), "{json:#}");
    assert_eq!((&json["errors"]["total"], &json["wrong_values"]), (&0.into(), &0.into()), "{json:#}");
    let expected = if status == 0 { "OK" } else { "SUSPECT" };
    assert_eq!(json["verdict"], expected);
}

/// The blocking client sets, gets, deletes and pipelines, and sorts errors by what to do.
#[test]
fn the_blocking_client_talks_to_a_server() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = Client::connect(&server.address()).unwrap();
    assert_eq!(client.get("k").unwrap(), None);
    client.set("k", "v").unwrap();
    assert_eq!(client.get("k").unwrap().as_deref(), Some(&b"v"[..]));
    assert!(client.del("k").unwrap() && !client.del("k").unwrap());
    assert_eq!(client.command(&["INCR", "n"]).unwrap(), Value::Integer(1));
    assert!(matches!(client.command(&["NONSENSE"]), Err(Error::Refused(text)) if text.starts_with("ERR unknown")));

    let keys: Vec<String> = (0..3000).map(|number| format!("key{number}")).collect();
    let sets: Vec<[&str; 3]> = keys.iter().map(|key| ["SET", key, key]).collect();
    let sets: Vec<&[&str]> = sets.iter().map(|words| &words[..]).collect();
    assert!(client.pipeline(&sets).unwrap().iter().all(|reply| *reply == Value::Simple("OK".into())));
    let gets: Vec<[&str; 2]> = keys.iter().map(|key| ["GET", key]).collect();
    let gets: Vec<&[&str]> = gets.iter().map(|words| &words[..]).collect();
    let expected: Vec<Value> = keys.iter().map(|key| Value::Bulk(key.clone().into_bytes())).collect();
    assert_eq!(client.pipeline(&gets).unwrap(), expected);
    let mixed = client.pipeline(&[&["LPUSH", "l", "x"][..], &["INCR", "l"], &["LRANGE", "l", "0", "9"]]).unwrap();
    assert!(matches!(&mixed[1], Value::Error(text) if text.starts_with("WRONGTYPE")));
    assert_eq!(mixed[2], Value::Array(vec![Value::Bulk(b"x".to_vec())]));
}

/// A connection that the server has closed while it was idle is made again unnoticed; one that breaks under a command is
/// made again for the next.
#[test]
fn the_blocking_client_connects_again() {
    let Some(server) = Server::start(&[]) else { return };
    let mut client = Client::connect(&server.address()).unwrap();
    client.set("k", "v").unwrap();
    let kill = || server.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    kill();
    assert!(matches!(client.get("k"), Err(Error::Lost { .. })));
    assert_eq!(client.get("k").unwrap().as_deref(), Some(&b"v"[..]));
    kill();
    sleep(Duration::from_millis(600));
    assert_eq!(client.get("k").unwrap().as_deref(), Some(&b"v"[..]));
}

/// Passwords: none, the wrong one, the right one.
#[test]
fn passwords_are_asked_for() {
    let Some(server) = Server::start(&["--requirepass", "secret"]) else { return };
    let with = |password: &str| Options { password: Some(password.into()), ..Options::default() };
    assert!(matches!(Client::connect(&server.address()), Err(Error::Denied(_))));
    assert!(matches!(Client::connect_with(&server.address(), with("wrong")), Err(Error::Denied(_))));
    Client::connect_with(&server.address(), with("secret")).unwrap().set("k", "v").unwrap();

    let output = run(&[&server.address()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--password"));
    let (status, json) = load(&[&server.address(), "--password", "secret"]);
    let json = json.unwrap();
    has_measured(status, &json);
    assert!(!json["command_line"].to_string().contains("secret"));
}

/// In a cluster each key goes to its owner, also where the client knows of one node only by MOVED.
#[test]
fn a_cluster_is_learned_and_moved_is_followed() {
    let Some(nodes) = start_cluster() else { return };
    let mut client = Client::connect(&nodes[0].address()).unwrap();
    assert_eq!(client.nodes().len(), 2);
    for key in ["foo", "bar", "hello", "{user}.a"] {
        client.set(key, key).unwrap();
        assert_eq!(client.get(key).unwrap().as_deref(), Some(key.as_bytes()));
    }
    // A second word that is no key sends the client to the wrong node, which says where to go.
    for key in ["foo", "bar"] {
        assert!(matches!(client.command(&["OBJECT", "ENCODING", key]).unwrap(), Value::Bulk(_)));
    }
    let keys = ["a", "b", "c", "d", "e", "f"];
    let commands: Vec<[&str; 3]> = keys.iter().map(|key| ["SET", key, "1"]).collect();
    let commands: Vec<&[&str]> = commands.iter().map(|words| &words[..]).collect();
    assert_eq!(client.pipeline(&commands).unwrap(), vec![Value::Simple("OK".into()); 6]);

    let (status, json) = load(&[&nodes[1].address(), "--concurrency", "8"]);
    let json = json.unwrap();
    has_measured(status, &json);
    assert_eq!((&json["target"]["mode"], &json["target"]["nodes"]), (&"cluster".into(), &2.into()));
    for node in &nodes {
        assert!(matches!(node.ask(&["DBSIZE"]), Value::Integer(keys) if 900 < keys), "the keys are spread over both");
    }
}

/// The asynchronous client does what the blocking one does, for many tasks at once, over a cluster and after a broken
/// connection.
#[test]
fn the_asynchronous_client_talks_to_a_cluster() {
    let Some(nodes) = start_cluster() else { return };
    let address = nodes[0].address();
    let cpu = trine::io::executor::allowed_cpus().unwrap()[0];
    let main = move || async move {
        let client = trine_client::client::Client::connect(&address, Options::default()).await.unwrap();
        let tasks: Vec<_> = (0..200)
            .map(|number| {
                let client = client.clone();
                glommio::spawn_local(async move {
                    let key = format!("key{number}");
                    client.set(&key, &key).await.unwrap();
                    assert_eq!(client.get(&key).await.unwrap(), Some(key.clone().into_bytes()));
                    assert!(matches!(client.command(&["OBJECT", "ENCODING", &key]).await.unwrap(), Value::Bulk(_)));
                    assert!(client.del(&key).await.unwrap());
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        assert!(matches!(client.command(&["NONSENSE"]).await, Err(Error::Refused(_))));
        let _ = client.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"]).await;
        let mut replies = Vec::new();
        for _ in 0..2 {
            replies.push(client.command(&["PING"]).await);
        }
        assert_eq!(replies.pop().unwrap().unwrap(), Value::Simple("PONG".into()));
    };
    trine::io::executor::start("test", cpu, main).unwrap().join().unwrap();
}

/// On a machine where no memory can be locked, so that there is no ring, the program says so and ends, instead of waiting for
/// executors that have ended.
#[test]
fn who_may_lock_no_memory_is_told() {
    let Some(server) = Server::start(&[]) else { return };
    let address = server.address();
    // Root may lock what it likes, as long as it has the capability.
    let drop = ["setpriv", "--bounding-set", "-ipc_lock"];
    let drop = if rustix::process::geteuid().is_root() { &drop[..] } else { &[] };
    let words = [&["30", "prlimit", "--memlock=0"], drop, &[env!("CARGO_BIN_EXE_trine-load"), &address]].concat();
    let output = Command::new("timeout").args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("locked memory is limited to 0 KiB"), "{output:?}");
}

/// Closed and open loops, every distribution and kind of size: values are right, and the JSON says what was done.
#[test]
fn workloads_run_and_report() {
    let Some(server) = Server::start(&[]) else { return };
    let address = server.address();
    for arguments in [
        &["--pipeline", "4", "--read-share", "0.9"][..],
        &["--pipeline", "4", "--batch", "node"],
        &["--distribution", "zipf:0.99", "--value-size", "10..1000"],
        &["--distribution", "latest", "--value-size", "lognormal:5.0:0.5"],
        &["--distribution", "hotspot:0.2:0.8", "--value-size", "1,8,16,4096"],
        &["--distribution", "sequential", "--value-size", "100000", "--concurrency", "3"],
        &["--no-load", "--read-share", "1", "--key-size", "16"],
        &["--rate", "500", "--arrivals", "constant"],
        &["--rate", "500"],
    ] {
        let (status, json) = load(&[&[address.as_str()], arguments].concat());
        let json = json.unwrap_or_else(|| panic!("{arguments:?} gave no JSON"));
        has_measured(status, &json);
        assert_eq!((&json["schema"], &json["target"]["mode"]), (&1.into(), &"single".into()));
        let all = &json["latency_since_due_us"]["all"];
        assert!(0.0 < all["p50"].as_f64().unwrap() && all["p50"].as_f64() <= all["max"].as_f64());
        assert_eq!(all["percentiles"].as_array().unwrap().last().unwrap()[0], 100.0);
    }
}

/// Several servers that know nothing of each other share the keys.
#[test]
fn several_servers_share_the_keys() {
    let (Some(one), Some(other)) = (Server::start(&[]), Server::start(&[])) else { return };
    let (status, json) = load(&[&one.address(), &other.address(), "--concurrency", "8", "--pipeline", "4"]);
    let json = json.unwrap();
    has_measured(status, &json);
    assert_eq!((&json["target"]["mode"], &json["target"]["nodes"]), (&"ring".into(), &2.into()));
    let keys = [one, other].map(|server| match server.ask(&["DBSIZE"]) {
        Value::Integer(keys) => keys,
        other => panic!("{other:?}"),
    });
    assert_eq!(keys.iter().sum::<i64>(), 2000, "every key has one server");
    assert!(keys.iter().all(|&keys| 600 < keys), "{keys:?}");
}

/// A number of operations is exactly that number: new keys in every run, written once and read once.
#[test]
fn a_number_of_operations_is_measured() {
    let Some(server) = Server::start(&[]) else { return };
    for round in 1..=2 {
        let output = run(&[
            &server.address(),
            "--operations",
            "50",
            "-c",
            "7",
            "-P",
            "3",
            "--quiet",
            "--json",
            "-",
            "--hlog",
            "/dev/null",
        ]);
        let json: Json = serde_json::from_slice(&output.stdout).unwrap();
        has_measured(output.status.code().unwrap(), &json);
        assert_eq!((&json["operations"], &json["reads"], &json["writes"]), (&700.into(), &350.into(), &350.into()));
        let (set, get) = (&json["parts"]["set"], &json["parts"]["get"]);
        assert_eq!((&set["operations"], &get["operations"]), (&350.into(), &350.into()));
        let seconds = |part: &Json| part["seconds"].as_f64().unwrap();
        let whole = json["phases"]["measure_s"].as_f64().unwrap();
        assert!(0.0 < seconds(set) && 0.0 < seconds(get) && seconds(set).max(seconds(get)) <= whole, "{json:#}");
        assert_eq!(server.ask(&["DBSIZE"]), Value::Integer(round * 350));
    }
}

/// Wrong values are found and make the result invalid: damaged, missing, and only checked.
#[test]
fn wrong_values_are_found() {
    let Some(server) = Server::start(&[]) else { return };
    let address = server.address();
    let check = ["--keys", "100", "--no-load", "--duration", "0s", "--quiet", "--json", "-"];
    let output = run(&[&address, "--keys", "100", "--duration", "0s", "--quiet"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(run(&[&[address.as_str()], &check[..]].concat()).status.code(), Some(0));

    server.ask(&["SETRANGE", "key:000000000007", "20", "x"]);
    server.ask(&["DEL", "key:000000000008"]);
    let output = run(&[&[address.as_str()], &check[..]].concat());
    assert_eq!(output.status.code(), Some(4));
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["verdict"], "INVALID");
    let kinds = &json["wrong_values_by_kind"];
    assert_eq!((&kinds["damaged"], &kinds["missing"], &json["misses"]), (&1.into(), &1.into(), &1.into()));
}

/// Failures while the keys are read back are in the summary, with the phase and what they were, as are those of the measurement.
#[test]
fn failures_of_every_phase_are_told() {
    let Some(server) = Server::start(&[]) else { return };
    let address = server.address();
    server.ask(&["LPUSH", "key:000000000000", "x"]);
    let arguments = [&address, "--keys", "1", "--no-load", "--read-share", "1", "--warmup", "0s", "--duration"];
    for (duration, phases) in [("0s", &["verifying"][..]), ("50ms", &["verifying", "measuring"])] {
        let output = run(&[&arguments[..], &[duration]].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("verify: 0 of 1 key in ") && said.contains("s, 1 error\n"), "{said}");
        assert!(!said.contains("errors 0") && said.contains(" x WRONGTYPE"), "{said}");
        for phase in phases {
            assert!(said.contains(&format!("requests failed while {phase} (WRONGTYPE")), "{phase}: {said}");
        }
    }
    let output = run(&[&arguments[..], &["0s", "--json", "-"]].concat());
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["errors"]["total"], &json["errors"]["by_phase"]["verify"]), (&1.into(), &1.into()), "{json:#}");
}

/// Ctrl-C ends a measurement, not the summary: it has what was measured until then, and says that there should have been more.
#[test]
fn an_interrupted_measurement_is_told() {
    let Some(server) = Server::start(&[]) else { return };
    let address = server.address();
    let interrupted = |more: &[&str]| {
        let arguments = [&address, "--keys", "100", "--no-load", "--no-verify", "--allow-misses", "--warmup", "0s"];
        let child = Command::new(env!("CARGO_BIN_EXE_trine-load"))
            .args(arguments)
            .args(["--duration", "1000s", "--read-share", "0"])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until(|| server.ask(&["DBSIZE"]) == Value::Integer(100));
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        server.ask(&["FLUSHALL"]);
        output.stdout
    };
    let text = String::from_utf8(interrupted(&[])).unwrap();
    assert!(
        text.starts_with("INTERRUPTED") && text.contains("interrupted after ") && text.contains(" of 1000.0 s"),
        "{text}"
    );
    let json: Json = serde_json::from_slice(&interrupted(&["--json", "-"])).unwrap();
    let (operations, seconds) = (json["operations"].as_f64().unwrap(), json["phases"]["measure_s"].as_f64().unwrap());
    assert!(100.0 <= operations && 0.0 < seconds && seconds < 1000.0, "{json:#}");
    assert_eq!((&json["interrupted"], &json["errors"]["total"]), (&true.into(), &0.into()), "{json:#}");
    let rate = json["ops_per_s"].as_f64().unwrap();
    assert!((rate * seconds / operations - 1.0).abs() < 0.01, "{json:#}");
}

/// A search names a rate that meets its objective, and says so where there is none.
#[test]
fn a_search_finds_a_rate_or_none() {
    let Some(server) = Server::start(&[]) else { return };
    let address = server.address();
    let short = [&address, "--keys", "100", "--warmup", "0s", "--duration", "50ms", "--quiet", "--json", "-", "--slo"];
    let output = run(&[&short[..], &["max<1ns"]].concat());
    assert_eq!(output.status.code(), Some(4));
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["slo"]["met"], false);
    let output = run(&[&short[..], &["p50<10s"]].concat());
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["slo"]["met"], &json["slo"]["expression"]), (&true.into(), &"p50<10s".into()));
    assert!(json["slo"]["tried"].as_array().unwrap().iter().any(|tried| tried["met"] == true));
}

/// Exit statuses: usage, and nothing to measure.
#[test]
fn exit_statuses_mean_something() {
    let nobody = format!("127.0.0.1:{}", free_port());
    assert_eq!(run(&[&nobody]).status.code(), Some(1));
    assert_eq!(run(&["--nonsense"]).status.code(), Some(2));
    assert_eq!(run(&["--keys", "100000", "--key-size", "5"]).status.code(), Some(2));
    assert_eq!(run(&["--cpus", "99999"]).status.code(), Some(2));
    assert_eq!(run(&["http://a:1", "b:1"]).status.code(), Some(2));
    assert_eq!(run(&[&format!("http://{nobody}")]).status.code(), Some(1));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}
