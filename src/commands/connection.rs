//! Commands about the client's own connection. `CLIENT` has a file of its own.

mod clients;

use super::{Call, Command, Flags, Keys, Outcome, Route, cluster::NO_CLUSTER, errors};
use crate::{
    built::REDIS_VERSION,
    client::{ReplyMode, is_password},
    resp::{Version, parse_i64},
};

const NOSCRIPT: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const BEFORE_AUTH: Flags = NOSCRIPT.and(Flags::FAST).and(Flags::NO_AUTH).and(Flags::ALLOW_BUSY);
const ALWAYS: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);

const fn row(name: &'static str, arity: i16, flags: Flags, run: super::Run) -> Command {
    Command::new(name, arity, flags, Keys::NONE, Route::Here, run)
}

/// The family's rows.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    row("asking", 1, Flags::FAST, asking).doc("cluster", "3.0.0",
        "Signals that a cluster client is following an -ASK redirect."),
    row("auth", -2, BEFORE_AUTH, auth).doc("connection", "1.0.0",
        "Authenticates the connection."),
    Command::container("client", clients::SUBCOMMANDS).doc("connection", "2.4.0",
        "A container for client connection commands."),
    row("echo", 2, ALWAYS, echo).doc("connection", "1.0.0",
        "Returns the given string."),
    row("hello", -1, BEFORE_AUTH, hello).doc("connection", "6.0.0",
        "Handshakes with the Redis server."),
    row("ping", -1, Flags::FAST, ping).doc("connection", "1.0.0",
        "Returns the server's liveliness response."),
    row("quit", -1, BEFORE_AUTH, quit).doc("connection", "1.0.0",
        "Closes the connection."),
    row("readonly", 1, ALWAYS, readonly).doc("cluster", "3.0.0",
        "Enables read-only queries for a connection to a Redis Cluster replica node."),
    row("readwrite", 1, ALWAYS, readwrite).doc("cluster", "3.0.0",
        "Enables read-write queries for a connection to a Redis Cluster replica node."),
    row("reset", 1, BEFORE_AUTH, reset).doc("connection", "6.2.0",
        "Resets the connection."),
    row("select", 2, ALWAYS, select).doc("connection", "1.0.0",
        "Changes the selected database."),
];

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";
const HELLO_WITHOUT_AUTH: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";

fn auth(call: &mut Call<'_>) -> Outcome {
    let (user, password) = match call.request.len() {
        2 if call.core.config.requirepass.0.is_empty() => return call.fail(NO_PASSWORD),
        2 => (&b"default"[..], call.request.arg(1)),
        3 => (call.request.arg(1), call.request.arg(2)),
        _ => return call.fail(errors::SYNTAX),
    };
    if !is_right(call, user, password) {
        return call.fail(WRONG_PASSWORD);
    }
    call.client.authenticated = true;
    call.reply.ok();
    Outcome::Done
}

/// Returns true if the user and the password are right. There is one user, `default`; without a configured password any
/// will do, as in Redis. A wrong one of an unauthenticated client is noted, and delays the next from its address.
fn is_right(call: &mut Call<'_>, user: &[u8], password: &[u8]) -> bool {
    let expected = call.core.config.requirepass.0.as_slice();
    let is_right = user == b"default" && (expected.is_empty() || is_password(password, expected));
    if !is_right && !expected.is_empty() && !call.client.authenticated {
        call.core.clients.brake.note_failure(&call.client.address, call.now.monotonic_us);
    }
    is_right
}

fn hello(call: &mut Call<'_>) -> Outcome {
    let version = match call.request.get(1).map(parse_i64) {
        None => None,
        Some(None) => return call.fail("ERR Protocol version is not an integer or out of range"),
        Some(Some(2)) => Some(Version::Two),
        Some(Some(3)) => Some(Version::Three),
        Some(Some(_)) => return call.fail("NOPROTO unsupported protocol version"),
    };
    let (mut login, mut name) = (None, None);
    let mut at = 2;
    while at < call.request.len() {
        let left = call.request.len() - 1 - at;
        if call.is(at, "AUTH") && 2 <= left {
            login = Some((call.request.arg(at + 1), call.request.arg(at + 2)));
            at += 3;
        } else if call.is(at, "SETNAME") && 1 <= left {
            let Some(given) = clients::attribute(call.request.arg(at + 1)) else {
                return call.fail(clients::BAD_NAME);
            };
            name = Some(given);
            at += 2;
        } else {
            let text = format!("ERR Syntax error in HELLO option '{}'", call.text(at));
            return call.fail(&text);
        }
    }
    if let Some((user, password)) = login {
        if !is_right(call, user, password) {
            return call.fail(WRONG_PASSWORD);
        }
        call.client.authenticated = true;
    }
    if !call.client.authenticated {
        return call.fail(HELLO_WITHOUT_AUTH);
    }
    if let Some(name) = name {
        call.client.name = name.into();
    }
    if let Some(version) = version {
        call.client.version = version;
        call.reply.version = version;
    }
    let mode = if call.is_cluster() { "cluster" } else { "standalone" };
    let (protocol, id) = (if call.is_resp3() { 3 } else { 2 }, call.client.id);
    let reply = &mut call.reply;
    reply.map(7);
    let text = |reply: &mut crate::resp::Reply<'_>, name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    text(reply, "server", "redis");
    text(reply, "version", REDIS_VERSION);
    reply.bulk(b"proto");
    reply.integer(protocol);
    reply.bulk(b"id");
    reply.integer(id as i64);
    text(reply, "mode", mode);
    text(reply, "role", "master");
    reply.bulk(b"modules");
    reply.array(0);
    Outcome::Done
}

fn ping(call: &mut Call<'_>) -> Outcome {
    match call.request.len() {
        1 => call.reply.simple("PONG"),
        2 => call.reply.bulk(call.request.arg(1)),
        _ => {
            let text = errors::wrong_number_of_arguments(call);
            return call.fail(&text);
        }
    }
    Outcome::Done
}

fn echo(call: &mut Call<'_>) -> Outcome {
    call.reply.bulk(call.request.arg(1));
    Outcome::Done
}

fn quit(call: &mut Call<'_>) -> Outcome {
    call.client.closing = true;
    call.reply.ok();
    Outcome::Done
}

fn reset(call: &mut Call<'_>) -> Outcome {
    let client = &mut *call.client;
    client.authenticated = call.core.config.requirepass.0.is_empty();
    client.version = Version::Two;
    client.reply_mode = ReplyMode::On;
    client.name = "".into();
    (client.no_evict, client.no_touch, client.read_only) = (false, false, false);
    client.transaction = None;
    call.reply.version = Version::Two;
    call.reply.simple("RESET");
    Outcome::Done
}

fn select(call: &mut Call<'_>) -> Outcome {
    let Some(number) = parse_i64(call.request.arg(1)) else { return call.fail(errors::NOT_AN_INTEGER) };
    if i32::try_from(number).is_err() {
        return call.fail(errors::NOT_A_32_BIT_INTEGER);
    }
    match number {
        0 => call.reply.ok(),
        _ if call.is_cluster() => call.reply.error("ERR SELECT is not allowed in cluster mode"),
        _ => call.reply.error("ERR DB index is out of range"),
    }
    Outcome::Done
}

/// Executes `READONLY`, `READWRITE` and `ASKING`. They change nothing: there are no replicas to read from, and no `ASK`
/// is ever sent.
fn cluster_mode(call: &mut Call<'_>, read_only: bool) -> Outcome {
    if !call.is_cluster() {
        return call.fail(NO_CLUSTER);
    }
    call.client.read_only = read_only;
    call.reply.ok();
    Outcome::Done
}

fn readonly(call: &mut Call<'_>) -> Outcome {
    cluster_mode(call, true)
}

fn readwrite(call: &mut Call<'_>) -> Outcome {
    cluster_mode(call, false)
}

fn asking(call: &mut Call<'_>) -> Outcome {
    let read_only = call.client.read_only;
    cluster_mode(call, read_only)
}

#[cfg(test)]
mod tests;
