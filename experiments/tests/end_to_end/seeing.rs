//! Tools that show servers and machines to people: `trine top`, `trine doctor`, the manual and completions.

use crate::{
    harness::{Cluster, Process, Server, eventually, free_ports, program},
    skip::skip,
    wire::Wire,
};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
    thread,
};

/// Runs `trine` to its end.
fn trine(arguments: &[&str]) -> Output {
    Command::new(program("trine")).args(arguments).stdin(Stdio::null()).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// From the gateway of one server all cores of all servers are found, and what they hold is added up.
#[test]
fn top_finds_a_cluster_and_adds_it_up() {
    let cluster = Cluster::start(2, 2, &[]);
    for port in cluster.core_ports() {
        let mut wire = Wire::connect(port);
        (0..40).for_each(|number| drop(wire.ask(&format!("SET key:{number} v"))));
    }
    let address = format!("127.0.0.1:{}", cluster.port);
    let output = trine(&["top", &address, "--json", "--once", "--interval", "0.2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let rows = lines(&output.stdout);
    let kinds: Vec<_> = rows.iter().map(|row| row["kind"].as_str().unwrap_or_default()).collect();
    assert_eq!(kinds, ["total", "server", "node", "node", "server", "node", "node"], "{}", text(&output.stdout));
    assert_eq!(rows[0]["keys"], 40);
    assert_eq!(rows[0]["slots"], 16_384);
    assert!(rows.iter().all(|row| row["state"] == "up" && row["operations_per_second"].is_number()), "{rows:?}");
    let ports: Vec<_> =
        rows.iter().filter_map(|row| row["address"].as_str()?.rsplit_once(':')?.1.parse::<u16>().ok()).collect();
    assert_eq!(ports, cluster.core_ports());
    let table = text(&trine(&["top", &address, "--once", "--interval", "0.2"]).stdout);
    for port in cluster.core_ports() {
        assert!(table.contains(&format!("127.0.0.1:{port}")), "{table}");
    }
}

/// A server without a topology, found through its gateway, is shown core by core.
#[test]
fn top_shows_the_cores_of_a_server_that_stands_alone() {
    let server = Server::start(2, &[]);
    let output = trine(&["top", &format!("127.0.0.1:{}", server.port), "--json", "--once", "--interval", "0.2"]);
    let rows = lines(&output.stdout);
    assert_eq!(rows.iter().filter(|row| row["kind"] == "node").count(), 2, "{}", text(&output.stdout));
}

/// Any server that speaks the Redis protocol can be watched.
#[test]
fn top_watches_redis_server() {
    let port = free_ports(&[0]);
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"]).stdout(Stdio::null());
    if Command::new("redis-server").arg("--version").output().is_err() {
        return skip("redis-server is not installed");
    }
    let _redis = Process::start(&mut command);
    let mut wire = eventually("redis-server answers", || Wire::try_connect(port).ok());
    assert_eq!(wire.ask("SET a 1"), "+OK");
    let output = trine(&["top", &format!("127.0.0.1:{port}"), "--json", "--once", "--interval", "0.2"]);
    let rows = lines(&output.stdout);
    let node = rows.iter().find(|row| row["kind"] == "node").expect("one node");
    assert_eq!((&node["keys"], &node["state"]), (&Value::from(1), &Value::from("up")));
    assert!(node["program"].as_str().is_some_and(|program| program.starts_with("redis 7")), "{node}");
}

/// Servers that do not answer are named, and so is the missing information.
#[test]
fn top_says_why_nobody_answers() {
    let port = free_ports(&[0]);
    let output = trine(&["top", &format!("127.0.0.1:{port}"), "--once", "--interval", "0.1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains(&format!("127.0.0.1:{port}: Connection refused")),
        "{}",
        text(&output.stderr)
    );
    let server = Server::start(1, &["--requirepass", "secret"]);
    // A port alone is one of this machine.
    let address = server.port.to_string();
    let arguments = ["top", &address, "--once", "--interval", "0.1"];
    let output = trine(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("TRINE_PASSWORD"), "{}", text(&output.stderr));
    let output =
        Command::new(program("trine")).args(arguments).env("TRINE_PASSWORD", "secret").output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(trine(&["top", "lab-1:"]).status.code(), Some(2));
}

/// Ends with the test.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that goes away is shown as down, and as up again when it comes back; the other is shown all the while.
#[test]
fn top_shows_servers_go_and_come_back() {
    let stays = Server::start(1, &[]);
    let goes = Server::start(1, &[]);
    let (port, core) = (goes.port, goes.core(0));
    let mut child = Command::new(program("trine"))
        .args([
            "top",
            &format!("127.0.0.1:{}", stays.port),
            &format!("127.0.0.1:{port}"),
            "--json",
            "--interval",
            "0.1",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut output = BufReader::new(child.stdout.take().expect("it is a pipe"));
    let _watching = Watching(child);
    let mut wait_for = |port: u16, state: &str| {
        let address = format!("127.0.0.1:{port}");
        eventually(&format!("{port} is {state}"), || {
            let mut line = String::new();
            assert!(0 < output.read_line(&mut line).expect("it can be read"), "it goes on while servers come and go");
            let row: Value = serde_json::from_str(&line).expect("a line is JSON");
            (row["address"] == address.as_str() && row["state"] == state).then_some(())
        });
    };
    wait_for(core, "up");
    drop(goes);
    wait_for(core, "down");
    wait_for(stays.core(0), "up");
    let mut again = Command::new(program("trine"));
    again.args(["serve", "--cores", "1", "--port", &port.to_string()]).stdout(Stdio::null());
    let _again = Process::start(&mut again);
    wait_for(core, "up");
}

/// On a terminal it draws, obeys keys, leaves the terminal as it was, and ends well.
#[test]
fn top_runs_on_a_terminal() {
    let server = Server::start(1, &[]);
    let top = format!("stty rows 24 cols 80; {} top 127.0.0.1:{}", program("trine").display(), server.port);
    let mut child = Command::new("script")
        .args(["-qefc", &top, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script, of util-linux, starts");
    let mut keys = child.stdin.take().expect("it is a pipe");
    let mut screen = BufReader::new(child.stdout.take().expect("it is a pipe"));
    let (shows, shown) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut piece = Vec::new();
        // A part of the screen ends with each escape.
        while screen.read_until(0x1b, &mut piece).is_ok_and(|length| 0 < length) {
            if shows.send(String::from_utf8_lossy(&std::mem::take(&mut piece)).into_owned()).is_err() {
                return;
            }
        }
    });
    let mut child = Watching(child);
    let mut seen = String::new();
    let mut wait_for = |what: &str| {
        eventually(what, || {
            seen.extend(shown.try_iter());
            seen.contains(what).then_some(())
        });
        seen.clear();
    };
    wait_for("trine top");
    keys.write_all(b" ").expect("it reads keys");
    wait_for("PAUSED");
    keys.write_all(b"q").expect("it reads keys");
    wait_for("[?1049l");
    let status = eventually("it ends", || child.0.try_wait().expect("a child can be waited for"));
    assert_eq!(status.code(), Some(0));
}

/// The doctor's report is JSON of a form that stays, its exit status says if anything is in the way, and the disk is measured
/// and left as it was.
#[test]
fn the_doctor_looks_at_this_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let path = folder.path().to_str().expect("a path of letters");
    for (ports, state) in [(&[][..], "ok"), (&["--port", &port][..], "fail")] {
        let output = trine(&[&["doctor", "--json", "--dir", path], ports].concat());
        let diagnosis: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let findings = diagnosis["findings"].as_array().expect("findings");
        let of =
            |name: &str| findings.iter().find(|finding| finding["name"] == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(diagnosis["version"], 1);
        assert_eq!(of("io-uring")["state"], "ok", "these tests run servers, so it can be had: {}", of("io-uring"));
        assert!(
            of("sync-latency")["value"].as_str().is_some_and(|value| value.contains("p99")),
            "{}",
            of("sync-latency")
        );
        if state == "fail" {
            assert_eq!(of("ports")["state"], "fail", "{}", of("ports"));
            let this = format!("process {} ", std::process::id());
            let named = |reason: &str| reason.contains(&this) && reason.contains(&port);
            assert!(of("ports")["reason"].as_str().is_some_and(named), "{}", of("ports"));
            assert_eq!(output.status.code(), Some(1));
            assert!(text(&output.stderr).contains("ports"), "{}", text(&output.stderr));
        }
        let is_failed = diagnosis["state"] == "fail";
        assert_eq!(output.status.code(), Some(i32::from(is_failed)), "{diagnosis}");
        for finding in findings.iter().filter(|finding| finding["state"] != "ok") {
            assert!(finding["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{finding}");
        }
    }
    assert_eq!(fs::read_dir(path).expect("it is there").count(), 0);
    let table = trine(&["doctor"]);
    assert!(!table.stdout.contains(&0x1b), "no colours in a pipe");
    assert!(text(&table.stdout).contains("io-uring"));
}

/// bash takes the completions of all three programs, and completes with them.
#[test]
fn bash_completes_the_command_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, arguments, words, expected) in [
        ("trine", &["completions", "bash"][..], "trine do", "doctor"),
        ("trine-lab", &["completions", "bash"], "trine-lab comp", "compare"),
        ("trine-load", &["--completions", "bash"], "trine-load --pipe", "--pipeline"),
    ] {
        let script = Command::new(program(name)).args(arguments).output().expect("it starts");
        assert_eq!(script.status.code(), Some(0), "{name}: {}", text(&script.stderr));
        let path = folder.path().join(name);
        fs::write(&path, script.stdout).expect("it can be written");
        // What the shell does when the tab key is pressed.
        let (before, current) = words.rsplit_once(' ').expect("two words");
        let press = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=1; $(complete -p {name} | sed 's/.*-F \\([^ ]*\\) .*/\\1/') {name} '{current}' \
             {before}; echo \"${{COMPREPLY[@]}}\"",
            path.display()
        );
        let output = Command::new("bash").args(["-euc", &press]).output().expect("bash starts");
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        assert!(
            text(&output.stdout).split_whitespace().any(|word| word == expected),
            "{name}: {}",
            text(&output.stdout)
        );
    }
}

/// Every page has the sections of a page, and where there is a reader of manuals it finds nothing wrong.
#[test]
fn the_manual_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a path of letters");
    assert!(trine(&["man", "--out", path]).status.success());
    assert!(
        Command::new(program("trine-lab")).args(["man", "--out", path]).output().expect("it starts").status.success()
    );
    let load = Command::new(program("trine-load")).arg("--man").output().expect("it starts");
    fs::write(folder.path().join("trine-load.1"), load.stdout).expect("it can be written");
    let has_mandoc = Command::new("mandoc").arg("-T").arg("lint").stdin(Stdio::null()).output().is_ok();
    if !has_mandoc {
        skip("mandoc is not installed, so only the sections are looked at");
    }
    let mut pages = 0;
    for entry in fs::read_dir(path).expect("it is there") {
        let path = entry.expect("an entry").path();
        let (page, name) =
            (fs::read_to_string(&path).expect("a page"), path.file_stem().unwrap().to_string_lossy().into_owned());
        let is_for_a_subcommand = name.matches('-').count() == usize::from(name.starts_with("trine-l")) + 1;
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"] {
            assert!(page.contains(&format!(".SH {section}\n")), "{name}: {section}");
        }
        assert!(!is_for_a_subcommand || page.contains(".SH EXAMPLES\n"), "{name}: {page}");
        if has_mandoc {
            let output =
                Command::new("mandoc").args(["-T", "lint", "-W", "error"]).arg(&path).output().expect("it starts");
            assert!(output.status.success(), "{}", text(&output.stdout));
        }
        pages += 1;
    }
    assert!(15 <= pages, "{pages} pages");
}
