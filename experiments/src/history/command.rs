//! The commands of histories, and their effect on a store that does one thing after the other.

use super::Reply;
use std::{collections::BTreeMap, fmt};

/// The keys that exist, with their values.
pub type State = BTreeMap<String, String>;

/// A command that a history may have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// GET, or MGET (`is_list`).
    Get { keys: Vec<String>, is_list: bool },
    /// SET or MSET: keys and values.
    Set(Vec<(String, String)>),
    /// SETNX.
    SetIfAbsent(String, String),
    /// GETSET.
    Exchange(String, String),
    /// APPEND.
    Append(String, String),
    /// INCR, INCRBY, DECR, DECRBY.
    Add(String, i64),
    /// DEL, UNLINK.
    Delete(Vec<String>),
    /// EXISTS.
    Exists(Vec<String>),
}

/// Why words are no command of a history.
#[derive(Debug)]
pub struct CommandError(String);

impl fmt::Display for CommandError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:?} can't be checked: write GET, SET key value, INCR, INCRBY, DECR, DECRBY, DEL, UNLINK, EXISTS, APPEND, SETNX, GETSET, \
             MGET or MSET",
            self.0
        )
    }
}

impl Command {
    /// Parses the words of a command.
    ///
    /// # Errors
    /// The command, or this form of it, is none of those that can be checked.
    pub fn parse(words: &[String]) -> Result<Self, CommandError> {
        let error = || CommandError(words.join(" "));
        let (name, arguments) = words.split_first().ok_or_else(error)?;
        let keys = || arguments.to_vec();
        let number = |text: &String| text.parse::<i64>().ok();
        let command = match (name.to_ascii_uppercase().as_str(), arguments) {
            ("GET", [_]) => Some(Self::Get { keys: keys(), is_list: false }),
            ("MGET", [_, ..]) => Some(Self::Get { keys: keys(), is_list: true }),
            ("SET", [key, value]) => Some(Self::Set(vec![(key.clone(), value.clone())])),
            ("MSET", [_, _, ..]) if arguments.len().is_multiple_of(2) => {
                Some(Self::Set(arguments.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()))
            }
            ("SETNX", [key, value]) => Some(Self::SetIfAbsent(key.clone(), value.clone())),
            ("GETSET", [key, value]) => Some(Self::Exchange(key.clone(), value.clone())),
            ("APPEND", [key, value]) => Some(Self::Append(key.clone(), value.clone())),
            ("INCR", [key]) => Some(Self::Add(key.clone(), 1)),
            ("DECR", [key]) => Some(Self::Add(key.clone(), -1)),
            ("INCRBY", [key, by]) => number(by).map(|by| Self::Add(key.clone(), by)),
            ("DECRBY", [key, by]) => number(by).and_then(i64::checked_neg).map(|by| Self::Add(key.clone(), by)),
            ("DEL" | "UNLINK", [_, ..]) => Some(Self::Delete(keys())),
            ("EXISTS", [_, ..]) => Some(Self::Exists(keys())),
            _ => None,
        };
        command.ok_or_else(error)
    }

    /// Returns the keys that it names.
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Self::Get { keys, .. } | Self::Delete(keys) | Self::Exists(keys) => {
                keys.iter().map(String::as_str).collect()
            }
            Self::Set(pairs) => pairs.iter().map(|(key, _)| key.as_str()).collect(),
            Self::SetIfAbsent(key, _) | Self::Exchange(key, _) | Self::Append(key, _) | Self::Add(key, _) => vec![key],
        }
    }

    /// Returns true if it changes nothing, whatever there is.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Get { .. } | Self::Exists(_))
    }

    /// Executes it, and returns its reply.
    pub fn execute(&self, state: &mut State) -> Reply {
        let text = |value: Option<&String>| value.map_or(Reply::Nil, |value| Reply::Text(value.clone()));
        let count = |count: usize| Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX));
        match self {
            Self::Get { keys, is_list: true } => Reply::List(keys.iter().map(|key| text(state.get(key))).collect()),
            Self::Get { keys, .. } => text(keys.first().and_then(|key| state.get(key))),
            Self::Set(pairs) => {
                state.extend(pairs.iter().cloned());
                Reply::Text("OK".into())
            }
            Self::SetIfAbsent(key, _) if state.contains_key(key) => Reply::Integer(0),
            Self::SetIfAbsent(key, value) => {
                state.insert(key.clone(), value.clone());
                Reply::Integer(1)
            }
            Self::Exchange(key, value) => text(state.insert(key.clone(), value.clone()).as_ref()),
            Self::Append(key, value) => {
                let whole = state.entry(key.clone()).or_default();
                whole.push_str(value);
                count(whole.len())
            }
            Self::Add(key, by) => {
                let sum = state
                    .get(key)
                    .map_or(Some(0), |value| value.parse::<i64>().ok())
                    .and_then(|old| old.checked_add(*by));
                let Some(sum) = sum else {
                    return Reply::Error { error: "ERR value is not an integer or out of range".into() };
                };
                state.insert(key.clone(), sum.to_string());
                Reply::Integer(sum)
            }
            Self::Delete(keys) => count(keys.iter().filter(|key| state.remove(*key).is_some()).count()),
            Self::Exists(keys) => count(keys.iter().filter(|key| state.contains_key(*key)).count()),
        }
    }
}

/// Returns true if a store that would answer `expected` may have answered `told`.
pub fn agree(expected: &Reply, told: &Reply) -> bool {
    match (expected, told) {
        (Reply::Error { .. }, Reply::Error { .. }) => true,
        (expected, told) => expected == told,
    }
}
