//! A process that cleans up when this program has ended, even if it was killed.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::problem;
use crate::cluster_error::ClusterError;

/// A shell that waits for its input: a line `done` when this value is dropped, or the end of it when this program is gone.
#[derive(Debug)]
pub(super) struct Guard(Child);

impl Guard {
    /// `words` are the script's arguments.
    pub(super) fn start(
        script: &str,
        words: &[String],
        folder: &Path,
        variables: &[(String, String)],
    ) -> Result<Self, ClusterError> {
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "guard"])
            .args(words)
            .current_dir(folder)
            .envs(variables.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for this program alone.
            .process_group(0);
        command.spawn().map(Self).map_err(|error| problem(format!("sh: {error}")))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Where this can't be written the guard does its part all the same.
        if let Some(mut stdin) = self.0.stdin.take() {
            let _ = stdin.write_all(b"done\n");
        }
        let _ = self.0.wait();
    }
}
