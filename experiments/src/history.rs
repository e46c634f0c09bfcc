//! Histories: what clients asked a store for at the same time, and what they were told.
//!
//! A history is JSON lines, an [`Operation`] each, in any order. [`record`] makes one of a running store, [`check`] says whether a
//! store that does one thing after the other could have given these replies: if not, it has lost a write, shown one that was
//! older than what somebody had been told, or run one twice.

pub mod check;
pub mod command;
pub mod record;

use command::{Command, CommandError};
use serde::{Deserialize, Serialize};
use std::{
    fmt, fs,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

/// A reply, as far as a history knows any.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// A number.
    Integer(i64),
    /// A string, or a status such as `OK`.
    Text(String),
    /// Several.
    List(Vec<Reply>),
    /// An error: the command had no effect. Its text is not compared.
    Error {
        /// The text.
        error: String,
    },
    /// No value.
    Nil,
}

/// A request of one command, or a transaction of several, as its client saw it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// The client: it has one request under way at a time. After a request without a reply it goes on as another.
    pub client: u64,
    /// The time at which the request was sent, in nanoseconds since the history began.
    pub called_ns: u64,
    /// The time at which the reply was there. `None`: no reply came, and the request may have been executed at any time since, or
    /// never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned_ns: Option<u64>,
    /// The commands with their arguments: one, or those of a transaction.
    pub commands: Vec<Vec<String>>,
    /// The reply to each command; empty where none came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replies: Vec<Reply>,
}

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |ns: u64| format!("{}.{:06}", ns / 1_000_000, ns % 1_000_000);
        let commands: Vec<_> = self.commands.iter().map(|words| words.join(" ")).collect();
        let returned = self.returned_ns.map_or("never".into(), milliseconds);
        write!(
            out,
            "client {}, {} to {returned} ms: {}",
            self.client,
            milliseconds(self.called_ns),
            commands.join("; ")
        )?;
        if self.replies.is_empty() {
            return out.write_str(" -> (no reply)");
        }
        let replies: Vec<_> =
            self.replies.iter().map(|reply| serde_json::to_string(reply).unwrap_or_default()).collect();
        write!(out, " -> {}", replies.join("; "))
    }
}

/// Why a history can't be read.
#[derive(Debug)]
pub enum HistoryError {
    /// The file can't be read.
    Io(io::Error),
    /// A line is no operation.
    Line(usize, String),
}

impl fmt::Display for HistoryError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(out),
            Self::Line(number, problem) => write!(out, "line {number}: {problem}"),
        }
    }
}

impl std::error::Error for HistoryError {}

impl From<io::Error> for HistoryError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Operation {
    /// Parses the commands.
    ///
    /// # Errors
    /// A command is not known here, or the operation contradicts itself.
    pub fn parse(&self) -> Result<Vec<Command>, String> {
        let problem = |error: CommandError| error.to_string();
        let commands: Vec<_> =
            self.commands.iter().map(|words| Command::parse(words)).collect::<Result<_, _>>().map_err(problem)?;
        match self.returned_ns {
            _ if commands.is_empty() => Err("an operation has a command".into()),
            None if !self.replies.is_empty() => Err("an operation that never returned has no replies".into()),
            Some(at) if at < self.called_ns => Err("it returned before it was called".into()),
            Some(_) if self.replies.len() != commands.len() => {
                Err("an operation that returned has a reply to each command".into())
            }
            _ => Ok(commands),
        }
    }
}

/// Reads a file of JSON lines.
///
/// # Errors
/// The file can't be read, or a line is no operation.
pub fn read(path: &Path) -> Result<Vec<Operation>, HistoryError> {
    let mut operations = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(fs::File::open(path)?).lines()) {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let operation: Operation =
            serde_json::from_str(&line).map_err(|error| HistoryError::Line(number, error.to_string()))?;
        operation.parse().map_err(|problem| HistoryError::Line(number, problem))?;
        operations.push(operation);
    }
    Ok(operations)
}
