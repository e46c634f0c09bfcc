//! `trine up` and `trine plan`: servers that form a cluster.

use crate::{
    harness::{Cluster, Process, eventually, free_ports, is_running, program},
    wire::Wire,
};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Command, Stdio};

/// It says who listens where and when all are ready, and stops all when it is told to.
#[test]
fn up_says_when_all_are_ready_and_stops_all_on_ctrl_c() {
    let mut cluster = Cluster::start(3, 2, &[]);
    let children = cluster.children();
    assert_eq!(children.len(), 3);
    for server in 0..3 {
        assert!(cluster.table.contains(&format!("127.0.0.1:{}", cluster.gateway(server))), "{}", cluster.table);
    }
    let ports = cluster.core_ports();
    assert!(cluster.table.contains(&format!("try: redis-cli -c -p {}", ports[0])), "{}", cluster.table);
    for &port in &ports {
        assert_eq!(Wire::connect(port).ask("PING"), "+PONG");
    }
    cluster.process.signal(Signal::INT);
    assert_eq!(cluster.process.end().code(), Some(0));
    assert!(children.iter().all(|&child| !is_running(child)));
    // The kernel closes what a process had in its rings when that has ended, and not before.
    eventually("ports are closed", || ports.iter().all(|&port| Wire::try_connect(port).is_err()).then_some(()));
}

/// A cluster with a hole in it is of no use to anybody.
#[test]
fn when_one_server_dies_all_are_stopped() {
    let mut cluster = Cluster::start(3, 1, &[]);
    let children = cluster.children();
    kill_process(Pid::from_raw(children[1] as i32).unwrap(), Signal::KILL).unwrap();
    assert_eq!(cluster.process.end().code(), Some(1));
    assert!(cluster.process.said().contains("server s2 ended"), "{}", cluster.process.said());
    assert!(children.iter().all(|&child| !is_running(child)));
}

/// No server outlives the command that started it, even where that is killed.
#[test]
fn servers_end_when_up_is_killed() {
    let cluster = Cluster::start(2, 1, &[]);
    let children = cluster.children();
    cluster.process.signal(Signal::KILL);
    eventually("servers end", || children.iter().all(|&child| !is_running(child)).then_some(()));
}

/// Every core and every gateway sends a client to the core that owns the key, spelled the same everywhere.
#[test]
fn moved_names_the_owner_wherever_one_asks() {
    let cluster = Cluster::start(3, 2, &[]);
    let ports = cluster.core_ports();
    for number in 0..200 {
        let key = format!("key:{number}");
        let answers: Vec<_> =
            ports.iter().map(|&port| Wire::connect(port).ask(&format!("SET {key} {number}"))).collect();
        let moved: Vec<_> = answers.iter().filter(|answer| *answer != "+OK").collect();
        assert_eq!(moved.len(), ports.len() - 1, "{key} has one owner: {answers:?}");
        let owner = ports[answers.iter().position(|answer| answer == "+OK").unwrap()];
        for answer in moved {
            assert!(answer.starts_with("-MOVED ") && answer.ends_with(&format!(" 127.0.0.1:{owner}")), "{answer}");
        }
        for server in 0..3 {
            let answer = Wire::connect(cluster.gateway(server)).ask(&format!("GET {key}"));
            let is_there = cluster.gateway(server) < owner && owner < cluster.gateway(server) + 100;
            assert_eq!(answer == number.to_string(), is_there, "gateway {server}: {answer}");
        }
    }
}

/// Keys of one slot go together, others are refused in Redis's words, on a core and on a gateway.
#[test]
fn keys_of_several_slots_are_refused() {
    let cluster = Cluster::start(1, 2, &[]);
    let refused = "-CROSSSLOT Keys in request don't hash to the same slot";
    for port in [cluster.gateway(0), cluster.core_ports()[0]] {
        let mut wire = Wire::connect(port);
        wire.check(&format!(
            "MSET {{b}}1 x {{b}}2 y -> +OK
             MGET {{b}}1 {{b}}2 {{b}}3 -> [x y nil]
             MGET {{b}}1 foo -> {refused}
             MSET foo 1 bar 2 -> {refused}
             DEL {{b}}1 bar -> {refused}
             DEL {{b}}1 {{b}}2 -> :2"
        ));
    }
}

/// A topology that `trine plan` writes is taken by `trine serve --topology`.
#[test]
fn a_planned_topology_can_be_served() {
    let port = free_ports(&[0, 1, 2, 100, 101, 102]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topology.toml");
    let servers = [("one", port), ("two", port + 100)];
    let mut plan = Command::new(program("trine"));
    plan.arg("plan").arg("--out").arg(&file);
    plan.args(servers.map(|(name, port)| format!("--server={name}=127.0.0.1:{port}/2")));
    let planned = plan.output().unwrap();
    assert!(planned.status.success(), "{}", String::from_utf8_lossy(&planned.stderr));
    let _servers = servers.map(|(name, _)| {
        let mut command = Command::new(program("trine"));
        command.args(["serve", "--name", name, "--parent", &std::process::id().to_string(), "--topology"]).arg(&file);
        Process::start(command.stdout(Stdio::null()))
    });
    for port in [port + 1, port + 2, port + 101, port + 102] {
        eventually("a server answers", || Wire::try_connect(port).ok()?.try_ask("PING").ok());
    }
    let moved = Wire::connect(port + 1).ask("SET foo 1"); // slot 12182, in the third quarter
    assert_eq!(moved, format!("-MOVED 12182 127.0.0.1:{}", port + 101));
    assert_eq!(Wire::connect(port + 101).ask("SET foo 1"), "+OK");
}

/// The port that is in the way is named before anything is started.
#[test]
fn up_names_the_port_that_is_taken() {
    let cluster = Cluster::start(1, 1, &[]);
    let taken = cluster.gateway(0) + 1;
    let second = Command::new(program("trine"))
        .args(["up", "--servers", "1", "--port", &cluster.gateway(0).to_string()])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&format!("port {} ", taken - 1)) && said.contains("is taken"), "{said}");
}

/// Settings behind `--` reach every server.
#[test]
fn settings_reach_every_server() {
    let cluster = Cluster::start(2, 1, &["--requirepass", "secret"]);
    for port in cluster.core_ports() {
        Wire::connect(port).check("GET foo -> -NOAUTH Authentication required.\nAUTH secret -> +OK\nPING -> +PONG");
    }
}

/// Senseless settings are refused before anything is started.
#[test]
fn up_refuses_settings_that_make_no_sense() {
    let mut process =
        Process::start(Command::new(program("trine")).args(["up", "--", "--no-such-setting"]).stdout(Stdio::null()));
    assert_eq!(process.end().code(), Some(2));
    eventually("it says why", || process.said().contains("no-such-setting").then_some(()));
}
