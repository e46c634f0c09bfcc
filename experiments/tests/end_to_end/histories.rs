//! Histories of servers that are killed while many clients ask for the same keys.

use crate::{
    harness::{Process, eventually, free_ports, program},
    wire::Wire,
};
use rustix::process::Signal;
use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

const KILLS: usize = 3;

fn serve(port: u16, settings: &[&str]) -> Process {
    let mut command = Command::new(program("trine"));
    command.args(["serve", "--cores", "2", "--cpus", "any", "--parent", &std::process::id().to_string()]);
    Process::start(command.args(["--port", &port.to_string()]).args(settings).stdout(Stdio::null()))
}

/// Records a history of a server that is killed and started again meanwhile, and has it checked.
fn history_over_kills(file: &Path, settings: &[&str]) -> (String, Output) {
    let port = free_ports(&[0, 1, 2]);
    let mut server = serve(port, settings);
    eventually("it serves", || Wire::try_connect(port).ok());
    let mut recorder = Process::start(
        Command::new(program("trine-lab"))
            .args([
                "record",
                &format!("127.0.0.1:{}", port + 1),
                "--time",
                "4s",
                "--groups",
                "4",
                "--seed",
                "7",
                "--out",
            ])
            .arg(file)
            .stdout(Stdio::null()),
    );
    for _ in 0..KILLS {
        // Enough for acknowledged writes to be lost, if any are.
        eventually("clients write", || {
            let mut wire = Wire::try_connect(port).ok()?;
            let count = wire.try_ask("GET {history:7:1}:count").ok()?.parse::<u64>().ok()?;
            (20 < count).then_some(())
        });
        server.signal(Signal::KILL);
        server.end();
        server = serve(port, settings);
    }
    assert_eq!(recorder.end().code(), Some(0), "{}", recorder.said());
    let checked = Command::new(program("trine-lab")).arg("check").arg(file).output().expect("trine-lab runs");
    (fs::read_to_string(file).expect("it was written"), checked)
}

/// One store that does one thing after the other could have told what many clients are told over kills.
#[test]
fn a_history_over_kills_is_linearizable() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("data").display().to_string();
    let (history, checked) =
        history_over_kills(&folder.path().join("history"), &["--durability", "always", "--dir", &dir]);
    assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stdout));
    assert!(history.lines().any(|line| !line.contains("returned_ns")), "some requests had no reply");
    assert!(history.lines().any(|line| line.contains("[\"DEL\"")) && 1000 < history.lines().count());
}

/// A server that keeps nothing loses acknowledged writes, and the check says so.
#[test]
fn a_history_with_lost_writes_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, checked) = history_over_kills(&folder.path().join("history"), &[]);
    let told = String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{told}");
    assert!(told.contains("NOT linearizable") && told.contains("no order of the operations on {history:7:"), "{told}");
}

/// A second history of the same store is judged by itself; where nobody answers none is written, and none is no good one.
#[test]
fn histories_of_one_store_do_not_meet() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_ports(&[0, 1, 2]);
    let server = serve(port, &[]);
    eventually("it serves", || Wire::try_connect(port).ok());
    let record = |port: u16, file: &Path, more: &[&str]| {
        let mut command = Command::new(program("trine-lab"));
        command.args(["record", &format!("127.0.0.1:{port}"), "--time", "300ms"]).args(more);
        command.arg("--out").arg(file).output().expect("trine-lab runs")
    };
    let check =
        |file: &Path| Command::new(program("trine-lab")).arg("check").arg(file).output().expect("trine-lab runs");
    for name in ["one", "two"] {
        let file = folder.path().join(name);
        assert_eq!(record(port + 1, &file, &[]).status.code(), Some(0));
        assert_eq!(check(&file).status.code(), Some(0));
    }
    let file = folder.path().join("again");
    assert_eq!(record(port + 1, &file, &["--seed", "5"]).status.code(), Some(0));
    let told = record(port + 1, &folder.path().join("none"), &["--seed", "5"]);
    let error = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.code() == Some(2) && error.contains("choose another --seed"), "{error}");
    drop(server);
    assert_eq!(record(free_ports(&[0]), &folder.path().join("none"), &[]).status.code(), Some(2));
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 3, "nothing else was written");
    let empty = folder.path().join("empty");
    fs::write(&empty, "").expect("a file");
    assert_eq!(check(&empty).status.code(), Some(2));
}
