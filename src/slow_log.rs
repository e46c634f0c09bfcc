//! The slow log: the last commands that took longer than a limit (`SLOWLOG`).

use crate::{client::Client, config::may_be_secret, resp::Request, time::Now};
use std::collections::VecDeque;

/// An entry of the slow log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SlowCommand {
    /// The number of the entry, counted from 0 on its core.
    pub id: u64,
    /// The time at which the command had run, in seconds since 1970-01-01 UTC.
    pub unix_seconds: u64,
    /// The time that it took, in microseconds.
    pub us: u64,
    /// Its name and arguments: long ones are cut off, and secrets left out.
    pub args: Vec<Box<[u8]>>,
    /// The address of the client that sent it.
    pub client_address: Box<str>,
    /// The name of that client (`CLIENT SETNAME`).
    pub client_name: Box<str>,
}

/// The slow log of a core: a bounded list of commands, the newest first.
#[derive(Clone, Debug, Default)]
pub struct SlowLog {
    commands: VecDeque<SlowCommand>,
    next_id: u64,
}

/// The most arguments that are kept of a command, as in Redis. If there are more, the last one kept says how many.
const ARGS_MAX: usize = 32;
/// The most bytes that are kept of an argument, as in Redis.
const ARG_BYTES_MAX: usize = 128;

impl SlowLog {
    /// Adds a command that took `us` microseconds, and removes the oldest entries beyond `length_max`.
    pub fn note(&mut self, request: Request<'_>, client: &Client, us: u64, now: Now, length_max: usize) {
        let kept = if request.len() <= ARGS_MAX { request.len() } else { ARGS_MAX - 1 };
        let shown = |index| if is_secret(request, index) { REDACTED.into() } else { trimmed(request.arg(index)) };
        let mut args: Vec<Box<[u8]>> = (0..kept).map(shown).collect();
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

    /// Removes the oldest entries beyond `length_max`.
    pub fn shorten(&mut self, length_max: usize) {
        self.commands.truncate(length_max);
    }

    /// Iterates over the entries, the newest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &SlowCommand> {
        self.commands.iter()
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.commands.clear();
    }
}

/// The text that replaces a secret, as in Redis.
const REDACTED: &[u8] = b"(redacted)";

/// Returns true if the argument at `index` may be a password or a user's name: of AUTH, of the AUTH in a HELLO (or a MIGRATE), of ACL
/// SETUSER, and of CONFIG SET where the setting is secret or unknown, since that may be a secret one misspelt.
fn is_secret(request: Request<'_>, index: usize) -> bool {
    let is = |at: usize, word: &str| request.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
    let is_behind = |word: &str, first: usize| (first..index).rev().take(2).any(|at| is(at, word));
    if is(0, "auth") {
        return 1 <= index;
    }
    if is(0, "config") && is(1, "set") {
        // Where a value is missing, names and values behind it have changed places.
        let is_value = index % 2 == 1 || request.len() % 2 == 1;
        return 3 <= index && is_value && request.get(index - 1).is_some_and(may_be_secret);
    }
    (is(0, "hello") && is_behind("auth", 2))
        || (is(0, "migrate") && (is_behind("auth", 6) || is_behind("auth2", 6)))
        || (is(0, "acl") && is(1, "setuser") && 2 <= index)
}

fn trimmed(arg: &[u8]) -> Box<[u8]> {
    match arg.split_at_checked(ARG_BYTES_MAX) {
        Some((start, rest)) if !rest.is_empty() => {
            [start, format!("... ({} more bytes)", rest.len()).as_bytes()].concat().into()
        }
        _ => arg.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::Port, resp::Words};

    /// Returns the words of a line as the slow log shows them.
    fn shown(line: &str) -> String {
        let mut words = Words::default();
        let mut rest = line.split(' ');
        words.begin(rest.next().expect("a name").as_bytes());
        rest.for_each(|word| words.push(word.as_bytes()));
        let client = Client::new(1, "", "", Port::Core, true, 0);
        let mut log = SlowLog::default();
        log.note(words.request(), &client, 1, Now::default(), 10);
        let args = log.iter().next().expect("it was noted").args.iter();
        args.map(|arg| String::from_utf8_lossy(arg).into_owned()).collect::<Vec<_>>().join(" ")
    }

    /// Arguments that may be secret are not shown, in any spelling of the command; all others are.
    #[test]
    fn secrets_are_not_shown() {
        for (line, expected) in [
            ("AUTH hunter2", "AUTH (redacted)"),
            ("auth default hunter2", "auth (redacted) (redacted)"),
            ("AUTH default hunter2 hunter2", "AUTH (redacted) (redacted) (redacted)"),
            ("HELLO 3 AUTH default hunter2 SETNAME a", "HELLO 3 AUTH (redacted) (redacted) SETNAME a"),
            ("HELLO 3 SETNAME a auth default hunter2", "HELLO 3 SETNAME a auth (redacted) (redacted)"),
            ("HELLO 3 AUTH hunter2", "HELLO 3 AUTH (redacted)"),
            ("CONFIG SET requirepass hunter2", "CONFIG SET requirepass (redacted)"),
            ("config set TIMEOUT 1 RequirePass hunter2", "config set TIMEOUT 1 RequirePass (redacted)"),
            ("CONFIG SET requirepas hunter2 timeout 1", "CONFIG SET requirepas (redacted) timeout 1"),
            ("CONFIG SET timeout requirepass hunter2", "CONFIG SET timeout requirepass (redacted)"),
            ("CONFIG SET save hunter2", "CONFIG SET save hunter2"),
            ("CONFIG SET maxmemory 1gb", "CONFIG SET maxmemory 1gb"),
            ("CONFIG GET requirepass", "CONFIG GET requirepass"),
            ("MIGRATE h 1 k 0 5 AUTH hunter2 KEYS a", "MIGRATE h 1 k 0 5 AUTH (redacted) (redacted) a"),
            ("ACL SETUSER a on >hunter2", "ACL SETUSER (redacted) (redacted) (redacted)"),
            ("SET auth hunter2", "SET auth hunter2"),
        ] {
            assert_eq!(shown(line), expected);
        }
        assert_eq!(shown(&format!("AUTH {}", "x".repeat(4096))), "AUTH (redacted)");
    }
}
