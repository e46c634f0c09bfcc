//! Programs whose standard output or standard error is gone, full or not read.

use crate::{
    harness::{Process, Server, eventually, free_ports, program},
    wire::Wire,
};
use rustix::process::Signal;
use std::{
    fs::File,
    io::{PipeWriter, Write as _, pipe},
    process::{Command, Stdio},
};

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("Linux has it").into()
}

/// A pipe whose reader has gone.
fn gone() -> PipeWriter {
    pipe().expect("a pipe").1
}

/// A log on a full disk, into a pipe whose reader has gone, or into one that nobody reads, stops no server and delays no
/// reply; and the server ends as it should.
#[test]
fn a_server_serves_on_where_its_log_can_not_be_written() {
    let (_unread, mut stuck) = pipe().unwrap();
    stuck.write_all(&[b'x'; 64 << 10]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, stderr) in [("full", full()), ("gone", gone().into()), ("stuck", stuck.into())] {
        let port = free_ports(&[0, 1]);
        let mut command = Command::new(program("trine"));
        // A variable that is none of its settings is told too, before the log has begun.
        command.env("TRINE_NOTHING", "1");
        command.args(["serve", "--cores", "1", "--log", "trace", "--dir"]).arg(folder.path().join(name));
        command.args(["--parent", &std::process::id().to_string(), "--port", &port.to_string()]);
        let mut process = Process::start_unheard(command.stdout(Stdio::null()).stderr(stderr));
        let mut wire = eventually("it accepts", || Wire::try_connect(port).ok());
        eventually("it has read its files", || (wire.ask("SET k v") == "+OK").then_some(()));
        assert_eq!(process.has_ended(), None, "{name}");
        process.signal(Signal::TERM);
        assert_eq!(process.end().code(), Some(0), "{name}");
    }
}

/// Each program ends with the status that it would have had, if what it prints is not wanted any more: `trine check DIR | true`
/// does not say that DIR is damaged. If what it prints can't be printed, that is a failure, and no verdict.
#[test]
fn what_can_not_be_printed_changes_no_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data").display().to_string();
    drop(Server::start(1, &["--dir", &dir]));
    let doctor = Command::new(program("trine")).args(["doctor"]).output().unwrap().status.code().unwrap();
    for (words, wanted, lost) in [
        (&["trine", "check", &dir][..], 0, 2),
        (&["trine", "check", "/nowhere"], 2, 2),
        (&["trine", "doctor"], doctor, 2),
        (&["trine", "serve", "--settings"], 0, 1),
        (&["trine", "plan", "--server", "one=h:7000/1"], 0, 1),
        (&["trine", "plan", "--server", "one=h:7000/0"], 2, 2),
        (&["trine", "man"], 0, 1),
        (&["trine", "completions", "bash"], 0, 1),
        (&["trine", "health", "1"], 1, 1),
        (&["trine", "nonsense"], 2, 2),
        (&["trine-load", "--man"], 0, 1),
        (&["trine-load", "127.0.0.1:1"], 1, 1),
        (&["trine-lab", "completions", "bash"], 0, 2),
        (&["trine-lab", "list", "/nowhere"], 2, 2),
    ] {
        let mut command = Command::new(program(words[0]));
        command.args(&words[1..]);
        let status = |command: &mut Command| command.status().unwrap().code();
        assert_eq!(status(command.stdout(gone()).stderr(gone())), Some(wanted), "nobody reads {words:?}");
        assert_eq!(status(command.stdout(full()).stderr(full())), Some(lost), "the disk is full for {words:?}");
    }
}
