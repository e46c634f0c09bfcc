//! The target of a measurement: one server or a cluster, of which kind and version.

use super::http::{
    request::authorization,
    response::{Decoder, ResponseError},
};
use clap::ValueEnum;
use std::{
    io::{ErrorKind, Read, Write},
    time::Instant,
};
use trine::printable::printable;
use trine_client::{
    Error, Options,
    blocking::{Connection, connect_socket},
    consistent::Circle,
    reply::{Reply, ReplyError, Value},
    routing::Routing,
};

/// The protocol of a target.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Protocol {
    /// The Redis protocol
    Resp,
    /// The HTTP API of Trine and of its predecessor
    Http,
}

/// The placement of keys on nodes.
#[derive(Clone, Debug)]
pub(crate) enum Placement {
    /// The first server's, who may know better.
    First,
    /// Slots have owners, as far as is known.
    Slots,
    /// The client decides, and the servers know nothing of it.
    Circle(Circle),
}

/// A server's description of itself.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) addresses: Vec<String>,
    pub(crate) protocol: Protocol,
    pub(crate) routing: Routing,
    pub(crate) placement: Placement,
    /// Its name and version, as far as it tells.
    pub(crate) server: String,
    /// The commit that it says it was built from.
    pub(crate) commit: Option<String>,
}

impl Target {
    /// Returns true if MOVED and 307 are followed.
    pub(crate) fn follows(&self) -> bool {
        self.protocol == Protocol::Http || matches!(self.placement, Placement::Slots)
    }

    /// Returns the name of the placement.
    pub(crate) fn mode(&self) -> &'static str {
        match self.placement {
            Placement::First => "single",
            Placement::Slots => "cluster",
            Placement::Circle(_) => "ring",
        }
    }

    /// The addresses, for people.
    pub(crate) fn name(&self) -> String {
        self.addresses.join(" ")
    }
}

/// The way to send requests: all to the owners of their keys, or to one server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Ask,
    Cluster,
    Single,
}

/// Asks all servers who they are.
///
/// # Errors
/// What to do about it, for people.
pub(crate) fn probe(addresses: &[String], protocol: Protocol, options: &Options, mode: Mode) -> Result<Target, String> {
    let ask = |address: &String, mode| match protocol {
        Protocol::Resp => probe_resp(address, options, mode),
        Protocol::Http => probe_http(address, options),
    };
    let (first, others) = addresses.split_first().ok_or("there is no address")?;
    if others.is_empty() {
        return ask(first, mode);
    }
    let first = ask(first, Mode::Single)?;
    others.iter().try_for_each(|address| ask(address, Mode::Single).map(drop))?;
    let placement = Placement::Circle(Circle::new(addresses));
    Ok(Target { addresses: addresses.to_vec(), routing: Routing::several(addresses.to_vec()), placement, ..first })
}

fn probe_resp(address: &str, options: &Options, mode: Mode) -> Result<Target, String> {
    let explain = |error: Error| explain(&error, address);
    let mut connection = Connection::connect(address, options).map_err(explain)?;
    let info = match connection.command(&["INFO"]).map_err(explain)? {
        Value::Bulk(info) => printable(&String::from_utf8_lossy(&info)).into_owned(),
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
    let placement = if is_cluster { Placement::Slots } else { Placement::First };
    let (addresses, protocol, server) = (vec![address.into()], Protocol::Resp, name(&info));
    Ok(Target { addresses, protocol, routing, placement, server, commit: commit(&info) })
}

/// Asks for a key that is not there: whoever answers with an HTTP response is a server.
fn probe_http(address: &str, options: &Options) -> Result<Target, String> {
    let server = exchange(address, options)?.unwrap_or_else(|| "unknown".into());
    let (addresses, protocol, routing) = (vec![address.into()], Protocol::Http, Routing::single(address));
    Ok(Target { addresses, protocol, routing, placement: Placement::First, server, commit: None })
}

/// Returns what the server calls itself, if anything.
fn exchange(address: &str, options: &Options) -> Result<Option<String>, String> {
    let (timeout, authorization) = (options.timeout, authorization(options.password.as_deref()));
    let unreachable = |source| explain(&Error::Unreachable { address: address.into(), source }, address);
    let lost = |source: std::io::Error| match source.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            explain(&Error::TimedOut { address: address.into(), after: timeout }, address)
        }
        _ => explain(&Error::Lost { address: address.into(), source }, address),
    };
    let mut socket = connect_socket(address, timeout).map_err(unreachable)?;
    let request =
        format!("GET /get/trine-load HTTP/1.1\r\nHost: {address}\r\n{authorization}Connection: close\r\n\r\n");
    socket.set_read_timeout(Some(timeout)).and_then(|()| socket.write_all(request.as_bytes())).map_err(lost)?;
    let (mut bytes, begun) = (Vec::new(), Instant::now());
    let mut decoder = Decoder::default();
    loop {
        let mut piece = [0; 4096];
        let count = match socket.read(&mut piece) {
            // Nothing has happened but a signal, or a thread that began.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.map_err(lost)?,
        };
        if count == 0 || timeout < begun.elapsed() {
            return Err(format!("{address} has closed the connection without a whole response. Is it an HTTP server?"));
        }
        bytes.extend_from_slice(&piece[..count]);
        match decoder.decode(&bytes) {
            Ok(None) => {}
            Ok(Some((response, _))) if matches!(response.status, 401 | 403) => {
                let wants = if options.password.is_some() { "another password" } else { "a password" };
                return Err(format!(
                    "{address} wants {wants} (HTTP {}): --password or TRINE_PASSWORD",
                    response.status
                ));
            }
            Ok(Some((response, _))) => {
                return Ok(response.server.map(|server| printable(&String::from_utf8_lossy(server)).into_owned()));
            }
            Err(error @ ResponseError::NotHttp(_)) => {
                return Err(format!(
                    "{address} does not speak HTTP: {error}\nIs it a server of the Redis protocol? Then write {address} without http://"
                ));
            }
            Err(error) => return Err(format!("{address} answered with {error}")),
        }
    }
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn name(info: &str) -> String {
    let known = [("trine", "trine_version"), ("valkey", "valkey_version"), ("redis", "redis_version")];
    let found = known.iter().find_map(|(name, key)| Some(format!("{name} {}", field(info, key)?)));
    found.unwrap_or_else(|| "unknown".into())
}

/// The commit of a server of ours, as far as it knows.
fn commit(info: &str) -> Option<String> {
    let commit = field(info, "trine_git_sha1").filter(|commit| commit.chars().any(|digit| digit != '0'))?;
    let is_dirty = field(info, "trine_git_dirty") == Some("1");
    Some(if is_dirty { format!("{commit} with local changes") } else { commit.to_owned() })
}

/// Returns an explanation of an error, with what to do.
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
        Error::Protocol { source: ReplyError::Sign(b'H'), .. } => {
            format!("{error}\nIs it an HTTP server? Then write http://{address}")
        }
        Error::Protocol { .. } => format!("{error}\nIs it another kind of server, or one that wants TLS?"),
        Error::TimedOut { .. } => format!("{error}\nIs the server busy or stopped? --timeout waits longer."),
        _ => error.to_string(),
    }
}

/// Returns advice for an error reply at the start of a measurement.
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

/// Returns an explanation of an error reply while loading.
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

    /// A server's commit is told with a mark where it had local changes; a server that does not know it tells none.
    #[test]
    fn a_server_tells_its_commit() {
        for (info, expected) in [
            ("trine_git_sha1:0123456789ab\r\ntrine_git_dirty:0\r\n", Some("0123456789ab")),
            ("trine_git_sha1:0123456789ab\r\ntrine_git_dirty:1\r\n", Some("0123456789ab with local changes")),
            ("trine_git_sha1:00000000\r\ntrine_git_dirty:0\r\n", None),
            ("redis_git_sha1:00000000\r\n", None),
        ] {
            assert_eq!(commit(info).as_deref(), expected, "{info}");
        }
    }
}
