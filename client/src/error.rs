//! Errors between a client and its servers, each with what to do about it.

use crate::{reply::ReplyError, routing::RoutingError};
use std::{fmt, io, time::Duration};
use trine::printable::printable;

/// Why a command has no reply.
#[derive(Debug)]
pub enum Error {
    /// Nobody could be reached: nothing was executed. Is the server running, and is this its address?
    Unreachable {
        /// The address that the connection was for.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// The connection broke with requests in flight: they may have been executed or not. Repeat what may be repeated.
    Lost {
        /// The address of the connection.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// No reply in time: the request may have been executed or will be. Repeat what may be repeated.
    TimedOut {
        /// The address of the connection.
        address: String,
        /// The time that was waited.
        after: Duration,
    },
    /// The server wants a password, or another one, or more rights. Repeating is of no use.
    Denied(String),
    /// The server is not ready (`LOADING`, `BUSY`, `CLUSTERDOWN`, `TRYAGAIN`): nothing was executed. Repeat later.
    NotReady(String),
    /// The server refused the command: nothing was executed. The text begins with a code, such as `ERR` or `OOM`.
    Refused(String),
    /// The other end does not speak the Redis protocol, or has lost its place in it.
    Protocol {
        /// The address of the connection.
        address: String,
        /// The rule that the reply breaks.
        source: ReplyError,
    },
    /// The servers do not agree on who owns a slot. Repeat later; look at their topology if it stays.
    TooManyRedirections(String),
    /// The servers' topology can't be used.
    Topology(RoutingError),
    /// A command has no words, so there is nothing to send.
    EmptyCommand,
}

impl Error {
    /// Sorts an error reply.
    pub(crate) fn from_reply(text: &[u8]) -> Self {
        let text = printable(&String::from_utf8_lossy(text)).into_owned();
        match text.split(' ').next().unwrap_or_default() {
            "NOAUTH" | "WRONGPASS" | "NOPERM" => Self::Denied(text),
            "LOADING" | "BUSY" | "CLUSTERDOWN" | "TRYAGAIN" | "MASTERDOWN" => Self::NotReady(text),
            "MOVED" => Self::TooManyRedirections(text),
            _ => Self::Refused(text),
        }
    }

    /// Returns true if the command was certainly not executed, so that repeating it later does no harm.
    pub fn was_not_executed(&self) -> bool {
        !matches!(self, Self::Lost { .. } | Self::TimedOut { .. } | Self::Protocol { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { address, source } => {
                write!(formatter, "no server can be reached at {address}: {source}")
            }
            Self::Lost { address, source } => write!(formatter, "the connection to {address} broke: {source}"),
            Self::TimedOut { address, after } => write!(formatter, "no reply from {address} within {after:?}"),
            Self::Denied(text) | Self::NotReady(text) | Self::Refused(text) => {
                write!(formatter, "the server said: {text}")
            }
            Self::Protocol { address, source } => {
                write!(formatter, "{address} does not speak the Redis protocol: {source}")
            }
            Self::TooManyRedirections(text) => write!(formatter, "sent from server to server, last with: {text}"),
            Self::Topology(source) => source.fmt(formatter),
            Self::EmptyCommand => formatter.write_str("a command has at least one word"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable { source, .. } | Self::Lost { source, .. } => Some(source),
            Self::Protocol { source, .. } => Some(source),
            Self::Topology(source) => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's text is shown, and moves no terminal's cursor.
    #[test]
    fn a_terminal_does_not_obey_a_servers_errors() {
        let shown = Error::from_reply(b"ERR \x1b[2J gone").to_string();
        assert_eq!(shown, "the server said: ERR \\u001b[2J gone");
    }
}
