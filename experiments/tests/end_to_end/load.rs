//! The load generator, against servers of ours.

use crate::{
    harness::{Cluster, Server, eventually, free_ports, program},
    wire::Wire,
};
use rustix::process::Signal;
use serde_json::Value;
use std::process::{Command, Stdio};

/// Runs `trine-load` for half a second and returns what it reports.
fn load(port: u16, more: &[&str]) -> Value {
    let address = format!("127.0.0.1:{port}");
    report(&[&[&address, "--duration", "500ms", "--warmup", "100ms", "--keys", "2000"], more].concat())
}

/// Runs `trine-load` and returns what it reports.
fn report(arguments: &[&str]) -> Value {
    let mut command = Command::new(program("trine-load"));
    let output = command.args(arguments).args(["--json", "-"]).output().expect("it starts");
    let (said, reported) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    // SUSPECT is all right: a machine that runs tests is no machine to measure on.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{:?}: {said}{reported}", output.status);
    serde_json::from_slice(&output.stdout).expect("a report is JSON")
}

/// Every reply is what it should be, whoever serves: one core, a gateway in front of several, or a cluster.
#[test]
fn a_short_load_finds_no_errors_and_no_wrong_values() {
    let (alone, cluster) = (Server::start(2, &[]), Cluster::start(3, 1, &[]));
    for (port, more) in [
        (alone.port, &["--concurrency", "8", "--single"][..]),
        (alone.port, &["--concurrency", "8", "--pipeline", "16", "--value-size", "10..5000", "--single"]),
        (alone.core(0), &["--concurrency", "8", "--cluster"]),
        (cluster.port, &["--concurrency", "9", "--read-share", "0.9"]),
    ] {
        let report = load(port, more);
        assert_eq!(report["errors"]["total"], 0, "{more:?}");
        assert_eq!(report["wrong_values"], 0, "{more:?}");
        assert!(100 < report["operations"].as_u64().expect("a number"), "{more:?}: {}", report["operations"]);
    }
    let keys = Wire::connect(alone.port).ask("DBSIZE");
    assert_eq!(keys, ":2000");
}

/// Over HTTP, too: through a gateway of two cores, with both pairs of requests.
#[test]
fn a_short_load_over_http_finds_nothing_wrong() {
    let server = Server::start(2, &[]);
    let url = format!("http://127.0.0.1:{}", server.port);
    let short = ["--duration", "500ms", "--warmup", "100ms", "--keys", "2000", "--concurrency", "8"];
    for more in [&["--api", "set"][..], &["--api", "store", "--pipeline", "16", "--value-size", "10..5000"]] {
        let report = report(&[&[url.as_str()], &short[..], more].concat());
        assert_eq!((&report["errors"]["total"], &report["wrong_values"]), (&0.into(), &0.into()), "{more:?}");
        assert!(100 < report["operations"].as_u64().expect("a number"), "{more:?}: {}", report["operations"]);
    }
    assert_eq!(server.connect().ask("DBSIZE"), ":2000");
}

/// The benchmark of the predecessor: servers that know nothing of each other, and keys where the clients put them. And the
/// same where the servers do know, and send a client that knows only one of them to the right one.
#[test]
fn clients_place_keys_or_are_sent_to_them() {
    let servers = [(); 3].map(|()| Server::start(1, &[]));
    let urls: Vec<String> = servers.iter().map(|server| format!("http://127.0.0.1:{}", server.port)).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let cluster = Cluster::start(3, 1, &[]);
    let url = format!("http://127.0.0.1:{}", cluster.port);
    for (urls, mode) in [(&urls[..], "ring"), (&[url.as_str()][..], "single")] {
        let report = report(&[urls, &["--operations", "100", "--concurrency", "10"]].concat());
        assert_eq!((&report["errors"]["total"], &report["wrong_values"]), (&0.into(), &0.into()), "{mode}");
        assert_eq!((&report["operations"], &report["target"]["mode"]), (&2000.into(), &mode.into()));
    }
    for ports in [servers.each_ref().map(|server| server.port).to_vec(), cluster.core_ports()] {
        let keys: Vec<u64> = ports
            .iter()
            .map(|&port| Wire::connect(port).ask("DBSIZE").trim_start_matches(':').parse().expect("a number"))
            .collect();
        assert_eq!(keys.iter().sum::<u64>(), 1000, "{keys:?}");
        assert!(keys.iter().all(|&keys| 150 < keys), "{keys:?}");
    }
}

/// A server that goes away is an error in the report and in the exit status, not a fast one.
#[test]
fn a_server_that_is_gone_is_an_error() {
    let port = free_ports(&[0]);
    let mut command = Command::new(program("trine-load"));
    let output = command.args([&format!("127.0.0.1:{port}"), "--duration", "500ms"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&port.to_string()), "{said}");
}

/// A search whose server is killed ends with that: the rates that are left would be those of a dead server.
#[test]
fn a_search_ends_with_its_server() {
    let server = Server::start(1, &[]);
    let mut command = Command::new(program("trine-load"));
    command.args([&format!("127.0.0.1:{}", server.port), "--slo", "p99<10s", "--duration", "200ms", "--warmup", "0s"]);
    command.args(["--keys", "100", "--timeout", "2s", "--json", "-"]).stdout(Stdio::piped());
    let child = command.spawn().expect("it starts");
    let mut wire = server.connect();
    // Loading and verifying take 200 commands: from here on it searches.
    eventually("the search", || {
        let info = wire.ask("INFO stats");
        let (_, rest) = info.split_once("total_commands_processed:")?;
        rest.split_whitespace().next()?.parse().ok().filter(|&commands: &u64| 1000 < commands)
    });
    server.process.signal(Signal::KILL);
    let output = child.wait_with_output().expect("it ends");
    let json: Value = serde_json::from_slice(&output.stdout).expect("a report is JSON");
    assert_eq!(output.status.code(), Some(4), "{json:#}");
    assert_eq!((&json["verdict"], &json["slo"]["met"]), (&"INVALID".into(), &false.into()), "{json:#}");
    let tried = json["slo"]["tried"].as_array().expect("a list");
    let has_reasons = |tried: &Value| tried["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty());
    let (last, before) = tried.split_last().expect("it tried a rate");
    assert!(last["met"].is_null() && has_reasons(last), "{json:#}");
    assert!(before.iter().all(|tried| tried["met"] == true || has_reasons(tried)), "{json:#}");
    assert!(json["reasons"].to_string().contains("the search ended"), "{json:#}");
}

/// Over HTTP `PUT /set` leaves alone what a run in the Redis protocol has written. Reading that is told from damage, with the
/// way out, which is one: a run that overwrites finds nothing wrong.
#[test]
fn keys_of_another_run_are_told_from_damage() {
    let server = Server::start(1, &[]);
    let url = format!("http://127.0.0.1:{}", server.port);
    let short = ["--duration", "100ms", "--warmup", "0s", "--keys", "100", "--concurrency", "2", "--json", "-"];
    report(&[&[format!("127.0.0.1:{}", server.port).as_str()], &short[..8]].concat());
    let output = Command::new(program("trine-load")).arg(&url).args(short).output().expect("it starts");
    assert_eq!(output.status.code(), Some(4));
    let told: Value = serde_json::from_slice(&output.stdout).expect("a report is JSON");
    let kinds = &told["wrong_values_by_kind"];
    assert!(100 <= kinds["foreign"].as_u64().expect("a number"), "{kinds}");
    assert_eq!((&kinds["damaged"], &kinds["stale"]), (&0.into(), &0.into()));
    assert!(told["reasons"][0].as_str().is_some_and(|reason| reason.contains("--api store")), "{}", told["reasons"]);
    report(&[&[url.as_str(), "--api", "store"], &short[..8]].concat());
}

/// An experiment of something that should run and does not ends before its first point, with one error, and leaves nothing.
#[test]
fn an_experiment_of_an_address_where_nobody_is_ends_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, out) = (free_ports(&[0]), folder.path().join("out"));
    let mut command = Command::new(program("trine-lab"));
    command.arg("run").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/quick.toml"));
    let output = command.arg("--address").arg(format!("127.0.0.1:{port}")).arg("--out").arg(&out).output();
    let output = output.expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains(&port.to_string()) && said.contains("start a server there"), "{said}");
    assert!(!out.exists());
}
