//! Whom we measure: one server or a cluster, of which kind and version.

use std::io::ErrorKind;
use trine_client::{
    Error, Options,
    blocking::Connection,
    reply::{Reply, Value},
    routing::Routing,
};

/// What a server says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) routing: Routing,
    pub(crate) is_cluster: bool,
    /// Its name and version, as far as it tells.
    pub(crate) server: String,
}

/// Whether requests go to the owners of their keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Ask,
    Cluster,
    Single,
}

/// Asks a server who it is.
///
/// # Errors
/// What to do about it, for people.
pub(crate) fn probe(address: &str, options: &Options, mode: Mode) -> Result<Target, String> {
    let explain = |error: Error| explain(&error, address);
    let mut connection = Connection::connect(address, options).map_err(explain)?;
    let info = match connection.command(&["INFO"]).map_err(explain)? {
        Value::Bulk(info) => String::from_utf8_lossy(&info).into_owned(),
        Value::Error(text) if ["NOAUTH", "NOPERM", "LOADING"].iter().any(|code| text.starts_with(code)) => {
            return Err(hint(&text, address));
        }
        _ => String::new(),
    };
    if field(&info, "loading") == Some("1") {
        return Err(hint("LOADING", address));
    }
    let says_cluster = field(&info, "cluster_enabled") == Some("1");
    let is_cluster = mode == Mode::Cluster || (mode == Mode::Ask && says_cluster);
    let routing = if is_cluster {
        let slots = ["CLUSTER", "SLOTS"];
        let learned = connection.command_with(&slots, |reply: Reply<'_>| Routing::from_slots(reply, address));
        learned.map_err(explain)?.map_err(|error| {
            format!("{address} can't be used as a cluster: {error}\nTry --single, or look at: redis-cli -p PORT cluster slots")
        })?
    } else {
        Routing::single(address)
    };
    Ok(Target { address: address.into(), routing, is_cluster, server: name(&info) })
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn name(info: &str) -> String {
    let known = [("trine", "trine_version"), ("valkey", "valkey_version"), ("redis", "redis_version")];
    let found = known.iter().find_map(|(name, key)| Some(format!("{name} {}", field(info, key)?)));
    found.unwrap_or_else(|| "unknown".into())
}

/// What happened, and what to do.
pub(crate) fn explain(error: &Error, address: &str) -> String {
    match error {
        Error::Unreachable { source, address } => {
            let advice = match source.kind() {
                ErrorKind::ConnectionRefused => {
                    "Nobody listens there. Is the server running, and on this port? (trine up starts one.)"
                }
                ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                    "Nobody answers. Is the host right, and does a firewall let us through?"
                }
                _ => "Is this the address you meant?",
            };
            format!("{error}\n{advice} The address is the first argument: trine-load {address}")
        }
        Error::Denied(text) | Error::NotReady(text) | Error::Refused(text) => hint(text, address),
        Error::Protocol { .. } => format!("{error}\nIs it another kind of server, or one that wants TLS?"),
        Error::TimedOut { .. } => format!("{error}\nIs the server busy or stopped? --timeout waits longer."),
        _ => error.to_string(),
    }
}

/// What an error reply means for who starts a measurement.
fn hint(text: &str, address: &str) -> String {
    let advice = match text.split(' ').next().unwrap_or_default() {
        "NOAUTH" => "The server wants a password: --password or TRINE_PASSWORD.",
        "WRONGPASS" => "The server has another password: --password or TRINE_PASSWORD.",
        "NOPERM" => "This user may not do what a load generator does.",
        "LOADING" => "The server is still loading its data. Try again when it is done.",
        "ERR" if text.contains("AUTH") => "The server has no password: leave out --password and TRINE_PASSWORD.",
        "DENIED" => "The server accepts connections from its own host only (protected mode).",
        "OOM" => "The server is full: fewer --keys, smaller --value-size, or more memory for the server.",
        "MISCONF" | "READONLY" => "The server takes no writes.",
        "MOVED" => "The server is part of a cluster: leave out --single.",
        _ => "",
    };
    format!("{address} said: {text}\n{advice}").trim_end().into()
}

/// What an error reply while loading means.
pub(crate) fn explain_reply(text: &str, address: &str) -> String {
    hint(text, address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server's own name is preferred to the version of Redis that it imitates.
    #[test]
    fn a_server_is_called_by_its_own_name() {
        assert_eq!(name("# Server\r\nredis_version:7.2.4\r\ntrine_version:0.1.0\r\n"), "trine 0.1.0");
        assert_eq!(name("redis_version:7.0.15\r\n"), "redis 7.0.15");
        assert_eq!(name(""), "unknown");
    }
}
