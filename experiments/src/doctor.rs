//! The findings of `trine doctor` on the machine that measures.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// The output of `trine doctor --json`. Fields that a later version adds are ignored.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Doctor {
    /// `ok`, `warn` or `fail`.
    pub state: String,
    pub findings: Vec<Finding>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Finding {
    pub name: String,
    pub state: String,
    pub value: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub fix: String,
}

impl Doctor {
    /// Asks the program, also about the disk under `folder`. An older one has no doctor, and then nothing is known.
    pub fn ask(trine: &Path, folder: &Path) -> Option<Self> {
        let mut command = Command::new(trine);
        command.args(["doctor", "--json", "--dir"]).arg(folder).stdin(Stdio::null()).stderr(Stdio::null());
        // Its status is 1 where something is in the way, and it says what all the same.
        Self::parse(&command.output().ok()?.stdout)
    }

    fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// Returns a line with the findings that are not well.
    pub fn summary(&self) -> String {
        let remarkable = self.findings.iter().filter(|finding| finding.state != "ok");
        let said: Vec<_> = remarkable.map(|finding| format!("{}: {}", finding.name, finding.value)).collect();
        if said.is_empty() { "all is well".to_owned() } else { format!("{}: {}", self.state, said.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The summary leaves out what is well and what a later version adds.
    #[test]
    fn the_summary_says_what_is_not_well() {
        let json = r#"{"version": 1, "state": "warn", "new": 1, "findings": [
            {"name": "kernel", "state": "ok", "value": "6.8", "reason": "", "fix": ""},
            {"name": "swap", "state": "warn", "value": "2G", "reason": "slow", "fix": "swapoff -a", "also": []}]}"#;
        let doctor = Doctor::parse(json.as_bytes()).unwrap();
        assert_eq!(doctor.summary(), "warn: swap: 2G");
        let well = Doctor { state: "ok".into(), findings: doctor.findings[..1].to_vec() };
        assert_eq!(well.summary(), "all is well");
    }

    /// A program that knows no doctor leaves a gap, not an error; so does one that isn't there.
    #[test]
    fn an_older_program_has_no_doctor() {
        assert_eq!(Doctor::parse(b""), None);
        assert_eq!(Doctor::ask(Path::new("/bin/true"), Path::new(".")), None);
        assert_eq!(Doctor::ask(Path::new("/does/not/exist"), Path::new(".")), None);
    }
}
