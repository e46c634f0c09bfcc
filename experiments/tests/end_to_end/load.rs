//! The load generator, against servers of ours.

use crate::{
    harness::{Cluster, Server, free_ports, program},
    wire::Wire,
};
use serde_json::Value;
use std::process::Command;

/// Runs `trine-load` for half a second and returns what it reports.
fn load(port: u16, more: &[&str]) -> Value {
    let mut command = Command::new(program("trine-load"));
    command.arg(format!("127.0.0.1:{port}"));
    command.args(["--duration", "500ms", "--warmup", "100ms", "--keys", "2000", "--json", "-"]).args(more);
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    // SUSPECT is all right: a machine that runs tests is no machine to measure on.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{:?}: {said}", output.status);
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
