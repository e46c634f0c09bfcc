//! The server processes of `trine up`: started, watched, stopped.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::io::{cli::Failure, server::READY};

/// The longest time for a server to end after SIGTERM: its own 5 s (`shutdown-timeout`) and some more.
const STOP_WITHIN: Duration = Duration::from_secs(7);
/// The number of a server's last lines that are repeated when it has ended.
const LAST_LINES: usize = 5;

/// The processes. They end with this one, whatever ends it.
#[derive(Default)]
pub(super) struct Servers {
    running: Vec<Server>,
}

struct Server {
    name: String,
    process: Child,
    /// Passes on what the server says on standard error, and ends with its last lines.
    reader: Option<JoinHandle<VecDeque<String>>>,
}

impl Servers {
    /// Starts a server.
    pub(super) fn start(&mut self, name: &str, mut command: Command) -> Result<(), Failure> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Ctrl-C goes to all of a terminal's process group; servers are stopped by us, in order.
        command.process_group(0);
        let mut process = command.spawn().map_err(|error| Failure::Failed(format!("server {name}: {error}")))?;
        let stderr = process.stderr.take().expect("standard error is a pipe");
        let label = name.to_owned();
        let reader = Some(spawn(move || pass_on(&label, stderr)));
        self.running.push(Server { name: name.into(), process, reader });
        Ok(())
    }

    /// Returns an error that names the first server that has ended, with its last lines.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        for server in &mut self.running {
            if let Some(status) = server.has_ended() {
                let lines = server.reader.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
                let mut message = format!("server {} ended: {status}", server.name);
                for line in lines {
                    message += &format!("\n  {line}");
                }
                return Err(Failure::Failed(message));
            }
        }
        Ok(())
    }

    /// Stops all that still run: SIGTERM, and SIGKILL to those that take too long.
    pub(super) fn stop(&mut self) {
        for server in &mut self.running {
            server.signal(Signal::TERM);
        }
        let since = Instant::now();
        while self.running.iter_mut().any(|server| server.has_ended().is_none()) {
            if STOP_WITHIN < since.elapsed() {
                for server in &mut self.running {
                    if server.has_ended().is_none() {
                        eprintln!("trine: server {} does not stop; killed", server.name);
                        server.signal(Signal::KILL);
                    }
                }
                break;
            }
            sleep(Duration::from_millis(5));
        }
        for mut server in self.running.drain(..) {
            // Nothing is left to do about an error: it was told to end, and is waited for.
            let _ = server.process.wait();
        }
    }
}

impl Server {
    fn has_ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("a child that was not waited for can be")
    }

    /// Sends a signal if the process has not ended. Its number cannot be another's: it has not been waited for.
    fn signal(&mut self, signal: Signal) {
        if self.has_ended().is_none()
            && let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw)
        {
            // It may end at this very moment, which is as well.
            let _ = kill_process(pid, signal);
        }
    }
}

/// Passes on a server's lines with its name in front, until it closes its standard error.
fn pass_on(name: &str, stderr: ChildStderr) -> VecDeque<String> {
    let mut last = VecDeque::new();
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        // All of them together are told of by one line.
        if line.starts_with(READY) {
            continue;
        }
        eprintln!("{name}: {line}");
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    last
}
