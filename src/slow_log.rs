//! The commands that took longest, lately (`SLOWLOG`).

use crate::{client::Client, commands::Now, resp::Request};
use std::collections::VecDeque;

/// A command that took long.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlowCommand {
    /// Counted up from 0 on its core.
    pub id: u64,
    /// When it had run, in seconds since 1970-01-01 UTC.
    pub unix_seconds: u64,
    /// How long it took, in microseconds.
    pub us: u64,
    /// Its name and arguments, trimmed.
    pub args: Vec<Box<[u8]>>,
    /// Whose it was.
    pub client_address: Box<str>,
    /// `CLIENT SETNAME`.
    pub client_name: Box<str>,
}

/// A bounded list of them, the newest first.
#[derive(Clone, Debug, Default)]
pub struct SlowLog {
    commands: VecDeque<SlowCommand>,
    next_id: u64,
}

/// Arguments that are kept of a command, as in Redis: the last says how many more there were.
const ARGS_MAX: usize = 32;
/// Bytes that are kept of an argument, as in Redis.
const ARG_BYTES_MAX: usize = 128;

impl SlowLog {
    /// Notes a command that took so long, and forgets the oldest beyond `length_max`.
    pub fn note(&mut self, request: Request<'_>, client: &Client, us: u64, now: Now, length_max: usize) {
        let kept = if request.len() <= ARGS_MAX { request.len() } else { ARGS_MAX - 1 };
        let mut args: Vec<Box<[u8]>> = request.args_from(0).take(kept).map(trimmed).collect();
        if kept < request.len() {
            args.push(format!("... ({} more arguments)", request.len() - kept).into_bytes().into());
        }
        self.commands.push_front(SlowCommand {
            id: self.next_id,
            unix_seconds: now.unix_us / 1_000_000,
            us,
            args,
            client_address: client.address.clone(),
            client_name: client.name.clone(),
        });
        self.next_id += 1;
        self.shorten(length_max);
    }

    /// Forgets the oldest beyond `length_max`.
    pub fn shorten(&mut self, length_max: usize) {
        self.commands.truncate(length_max);
    }

    /// The commands, the newest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &SlowCommand> {
        self.commands.iter()
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.commands.clear();
    }
}

fn trimmed(arg: &[u8]) -> Box<[u8]> {
    match arg.split_at_checked(ARG_BYTES_MAX) {
        Some((start, rest)) if !rest.is_empty() => {
            [start, format!("... ({} more bytes)", rest.len()).as_bytes()].concat().into()
        }
        _ => arg.into(),
    }
}
