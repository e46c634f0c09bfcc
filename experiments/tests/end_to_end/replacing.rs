//! Topologies that take the place of others while servers run.

use crate::{
    harness::{Process, eventually, free_ports, next_cpus, program, wait_until_ready},
    http::{Http, request},
    wire::Wire,
};
use rustix::process::Signal;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

/// `foo` is in slot 12182, `{b}` in 3300.
const ALL: &str = "0-16383";
const WITHOUT_B: &str = "0-3299\", \"3301-16383";

/// Two servers: the first with two cores, one of which has nothing, and the second with one.
struct Pair {
    folder: tempfile::TempDir,
    port: u16,
    one: Process,
    _two: Process,
}

impl Pair {
    fn start() -> Self {
        loop {
            let port = free_ports(&[0, 1, 2, 100, 101]);
            let folder = tempfile::tempdir().expect("a folder");
            write(folder.path(), port, 1, [ALL, "", ""]);
            let mut one = serve(folder.path(), "one");
            let mut two = serve(folder.path(), "two");
            if wait_until_ready(&mut one, port..=port + 2) && wait_until_ready(&mut two, port + 100..=port + 101) {
                return Self { folder, port, one, _two: two };
            }
        }
    }

    /// Changes the topology.
    fn change(&self, epoch: u64, slots: [&str; 3]) {
        write(self.folder.path(), self.port, epoch, slots);
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("topology.toml")
}

/// Replaces the topology file in one step.
fn write(folder: &Path, port: u16, epoch: u64, slots: [&str; 3]) {
    let core = |slots: &str| {
        let slots = if slots.is_empty() { String::new() } else { format!("\"{slots}\"") };
        format!("[[server.core]]\nslots = [{slots}]\n")
    };
    let server = |name: &str, port: u16, cores: &[&str]| {
        let cores: String = cores.iter().map(|slots| core(slots)).collect();
        format!("[[server]]\nname = \"{name}\"\nhost = \"127.0.0.1\"\nport = {port}\n{cores}")
    };
    let (one, two) = (server("one", port, &slots[..2]), server("two", port + 100, &slots[2..]));
    let beside = folder.join("beside");
    fs::write(&beside, format!("version = 1\nepoch = {epoch}\n{one}{two}")).expect("a file");
    fs::rename(beside, file(folder)).expect("it takes its place");
}

fn serve(folder: &Path, name: &str) -> Process {
    let cores = if name == "one" { 2 } else { 1 };
    let mut command = Command::new(program("trine"));
    command.args(["serve", "--name", name, "--parent", &std::process::id().to_string(), "--log", "info"]);
    command.args(["--cpus", &next_cpus(cores), "--topology"]).arg(file(folder)).arg("--dir").arg(folder.join(name));
    Process::start(command.stdout(Stdio::null()))
}

/// Sets a key again and again until the slot has gone, and then some times more. Every reply before is OK, every one behind sends it
/// to the other server. Returns the number of writes that were acknowledged.
fn write_until_moved(port: u16, moved: &str, tag: &str, progress: &AtomicUsize) -> usize {
    let mut wire = Wire::connect(port);
    let mut written = 0;
    loop {
        let reply = wire.ask(&format!("SET {{b}}{tag} {written}"));
        if reply == moved {
            break;
        }
        assert_eq!(reply, "+OK");
        written += 1;
        progress.fetch_add(1, Ordering::Relaxed);
    }
    for _ in 0..100 {
        assert_eq!(wire.ask(&format!("SET {{b}}{tag} late")), moved);
        assert_eq!(wire.ask(&format!("GET {{b}}{tag}")), moved);
        let queued = [wire.ask("MULTI"), wire.ask(&format!("SET {{b}}{tag} late")), wire.ask("EXEC")];
        assert_eq!(queued[..2], ["+OK", moved]);
        assert!(queued[2].starts_with("-EXECABORT"), "{queued:?}");
        assert_eq!(wire.ask(&format!("SET foo{tag} 1")).split(' ').next(), Some("+OK"));
    }
    written
}

/// A file that is replaced under load takes effect on connections that are open, by a core's port, the gateway and HTTP: from the
/// first reply that says so on, nothing is executed for a slot that has gone. Its keys are gone, also after a crash.
#[test]
fn a_changed_file_takes_effect_under_load() {
    let mut pair = Pair::start();
    let (port, progress, has_changed) = (pair.port, AtomicUsize::new(0), AtomicBool::new(false));
    let moved = format!("-MOVED 3300 127.0.0.1:{}", port + 101);
    thread::scope(|scope| {
        let (progress, moved, has_changed) = (&progress, &moved, &has_changed);
        let writers = [(port + 1, "core"), (port, "gateway"), (port, "gateway2"), (port, "gateway3")];
        let writers = writers.map(|(port, tag)| scope.spawn(move || write_until_moved(port, moved, tag, progress)));
        let reader = scope.spawn(move || {
            let mut http = Http::connect(port);
            loop {
                let is_late = has_changed.load(Ordering::Relaxed);
                http.send(request("GET /get/%7Bb%7Dcore"));
                let response = http.response();
                match response.status {
                    200 | 404 => {}
                    307 => {
                        let location = format!("http://127.0.0.1:{}/get/%7Bb%7Dcore", port + 100);
                        assert_eq!(response.field("location"), Some(&*location));
                        return is_late;
                    }
                    other => panic!("{other}"),
                }
            }
        });
        eventually("writers write", || (1_000 < progress.load(Ordering::Relaxed)).then_some(()));
        has_changed.store(true, Ordering::Relaxed);
        pair.change(2, [WITHOUT_B, "", "3300"]);
        for writer in writers {
            assert!(0 < writer.join().expect("every reply is as it should be"));
        }
        assert!(reader.join().expect("every response is as it should be"), "nobody is sent away before");
    });
    let mut two = Wire::connect(port + 101);
    eventually("the other server takes it", || (two.ask("SET {b}core 1") == "+OK").then_some(()));
    let left = |port: u16| Wire::connect(port).ask("DBSIZE");
    assert_eq!(left(port), ":4", "what is left are the keys of another slot");
    pair.one.signal(Signal::KILL);
    pair.one.end();
    pair.one = serve(pair.folder.path(), "one");
    assert!(wait_until_ready(&mut pair.one, port..=port + 2));
    assert_eq!(left(port), ":4");
    assert_eq!(Wire::connect(port).ask("GET {b}core"), moved);
    // It comes back empty, to the core that had nothing.
    pair.change(3, [WITHOUT_B, "3300", ""]);
    let mut core = Wire::connect(port + 2);
    eventually("it comes back", || (core.ask("GET {b}core") == "nil").then_some(()));
    assert_eq!(core.ask("SET {b}core 2"), "+OK");
    eventually("the gateway knows", || (Wire::connect(port).ask("GET {b}core") == "2").then_some(()));
    assert!(pair.one.said().contains("acts by a new topology"), "{}", pair.one.said());
}

/// A text that does not fit is refused in words, and the server goes on by what it has, until the file is right again.
#[test]
fn a_file_that_does_not_fit_is_refused() {
    let pair = Pair::start();
    let (folder, port) = (pair.folder.path(), pair.port);
    let right = fs::read_to_string(file(folder)).expect("text");
    let mut wire = Wire::connect(port + 1);
    let other_port = right.replace(&format!("port = {}", port + 100), &format!("port = {}", port + 200));
    for (text, reason) in [
        (right.replace("epoch = 1", "epoch = ?"), "TOML"),
        (other_port.clone(), "it has changed, and its epoch is 1 as before"),
        (right.replace("name = \"one\"", "name = \"other\"").replace("epoch = 1", "epoch = 7"), "it has no server one"),
        (
            right.replace(&format!("port = {port}"), &format!("port = {}", port + 5)).replace("epoch = 1", "epoch = 7"),
            "ports",
        ),
    ] {
        fs::write(file(folder), &text).expect("a file");
        eventually(reason, || pair.one.said().contains(reason).then_some(()));
        assert_eq!(wire.ask("SET {b} 1"), "+OK");
    }
    pair.change(8, [WITHOUT_B, "3300", ""]);
    let moved = format!("-MOVED 3300 127.0.0.1:{}", port + 2);
    eventually("it is taken", || (wire.ask("SET {b} 1") == moved).then_some(()));
}
