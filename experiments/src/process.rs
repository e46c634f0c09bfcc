//! Processes that this program starts, and that never outlive it.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use trine::printable::printable;

use crate::settings::cpu_list;

/// Set once by Ctrl-C or SIGTERM; whoever waits looks at it.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes over Ctrl-C and SIGTERM. A second one, while the first is still being obeyed, ends the program at once.
    pub fn install() -> std::io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))?;
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The time between two looks of a wait.
pub const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The longest time for a process to end by itself. A server that flushes to disk needs some of it.
const PATIENCE: Duration = Duration::from_secs(8);

/// A command line and its CPUs.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub words: Vec<String>,
    /// The CPUs it may use; all, where there is no list.
    pub cpus: Option<Vec<usize>>,
}

impl Invocation {
    /// Returns what is really executed: with `taskset` for its CPUs, and with `setpriv`, where there is one, so that
    /// the kernel ends it when this program dies without having done so.
    pub fn command_line(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(setpriv) = find_program("setpriv") {
            words.extend([setpriv.display().to_string(), "--pdeathsig".to_owned(), "TERM".to_owned()]);
        }
        if let Some(cpus) = &self.cpus {
            words.extend(["taskset".to_owned(), "-c".to_owned(), cpu_list(cpus)]);
        }
        words.extend(self.words.iter().cloned());
        words
    }
}

/// A process and all it started: one process group, which ends when this value is dropped.
#[derive(Debug)]
pub struct Group {
    child: Child,
    pub log: PathBuf,
}

impl Group {
    /// Starts a process in a group of its own, so that Ctrl-C reaches this program only and the rest ends in order.
    /// What it prints goes to the file `log`.
    pub fn start(invocation: &Invocation, log: &Path) -> Result<Self, ProcessError> {
        use std::os::unix::process::CommandExt;
        let words = invocation.command_line();
        let failed = |error| ProcessError::NotStarted { program: invocation.words.join(" "), error };
        let output = File::create(log).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().map_err(failed)?;
        Ok(Self { child, log: log.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns how it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Returns the last lines it printed, for an error message.
    pub fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_default();
        let text = printable(&text);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(3)..].join(" | ")
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // It fails when nobody is left in the group, which is what was wanted.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Asks the group to end, and insists after a while.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let asked = Instant::now();
        while self.ended().is_none() && asked.elapsed() < PATIENCE {
            std::thread::sleep(LOOK_EVERY);
        }
        // Also when the leader has ended: it may have left others behind.
        self.signal(Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns where a program is: the path itself, or a file in one of the folders of PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[derive(Debug)]
pub enum ProcessError {
    /// The program is not there or may not be executed.
    NotStarted { program: String, error: std::io::Error },
}

impl std::error::Error for ProcessError {}

impl fmt::Display for ProcessError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted { program, error } => write!(formatter, "cannot start `{program}`: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dropping a group ends what it started and what that started in turn.
    #[test]
    fn nothing_outlives_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let words = ["sh", "-c", "sleep 600 & echo $!; wait"].map(str::to_owned).to_vec();
        let group = Group::start(&Invocation { words, cpus: None }, &folder.path().join("log")).unwrap();
        let began = Instant::now();
        let grandchild: i32 = loop {
            assert!(began.elapsed() < Duration::from_secs(10), "the shell says nothing");
            match std::fs::read_to_string(&group.log).unwrap().trim().parse() {
                Ok(pid) => break pid,
                Err(_) => std::thread::sleep(LOOK_EVERY),
            }
        };
        let alive = |pid: i32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !status.is_empty() && !status.contains(") Z ")
        };
        let leader = i32::try_from(group.pid()).unwrap();
        assert!(alive(leader) && alive(grandchild));
        drop(group);
        std::thread::sleep(Duration::from_millis(50));
        assert!(!alive(leader) && !alive(grandchild));
    }
}
