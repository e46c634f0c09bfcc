//! `CLIENT`: the connected clients and their settings.
//!
//! On a core's port these commands are about the clients of that core, on the gateway about those of the whole server.

use crate::{
    client::{Client, ReplyMode},
    commands::{Call, Command, Flags, Keys, Merge, Outcome, Route, Run, errors},
    resp::{Version, parse_i64},
    transaction::Transaction,
};

const NOSCRIPT: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const ADMIN: Flags = NOSCRIPT.and(Flags::ADMIN);

const fn row(name: &'static str, arity: i16, flags: Flags, run: Run) -> Command {
    Command::new(name, arity, flags, Keys::NONE, Route::Here, run)
}

const fn everywhere(name: &'static str, arity: i16, merge: Merge, run: Run) -> Command {
    Command::new(name, arity, ADMIN, Keys::NONE, Route::Everywhere(merge), run)
}

/// The subcommands of `CLIENT`.
#[rustfmt::skip]
pub(super) static SUBCOMMANDS: &[Command] = &[
    row("client|getname", 2, NOSCRIPT, getname).doc("connection", "2.6.9",
        "Returns the name of the connection."),
    row("client|help", 2, Flags::LOADING.and(Flags::STALE), help).doc("connection", "5.0.0",
        "Returns helpful text about the different subcommands."),
    row("client|id", 2, NOSCRIPT, id).doc("connection", "5.0.0",
        "Returns the unique client ID of the connection."),
    row("client|info", 2, NOSCRIPT, info).doc("connection", "6.2.0",
        "Returns information about the connection."),
    everywhere("client|kill", -3, Merge::Sum, kill).doc("connection", "2.4.0",
        "Terminates open connections."),
    everywhere("client|list", -2, Merge::Lines, list).doc("connection", "2.4.0",
        "Lists open connections."),
    row("client|no-evict", 3, ADMIN, no_evict).doc("connection", "7.0.0",
        "Sets the client eviction mode of the connection."),
    row("client|no-touch", 3, NOSCRIPT, no_touch).doc("connection", "7.2.0",
        "Controls whether commands sent by the client affect the LRU/LFU of accessed keys."),
    row("client|reply", 3, NOSCRIPT, reply).doc("connection", "3.2.0",
        "Instructs the server whether to reply to commands."),
    row("client|setinfo", 4, NOSCRIPT, setinfo).doc("connection", "7.2.0",
        "Sets information specific to the client or connection."),
    row("client|setname", 3, NOSCRIPT, setname).doc("connection", "2.6.9",
        "Sets the connection name."),
];

pub(super) const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// Returns a text if a client may have it as a name: it must not break the lines of `CLIENT LIST`.
pub(super) fn attribute(text: &[u8]) -> Option<&str> {
    let is_plain = text.iter().all(|byte| (b'!'..=b'~').contains(byte));
    std::str::from_utf8(text).ok().filter(|_| is_plain)
}

fn getname(call: &mut Call<'_>) -> Outcome {
    if call.client.name.is_empty() {
        call.reply.null();
    } else {
        call.reply.bulk(call.client.name.as_bytes());
    }
    Outcome::Done
}

fn setname(call: &mut Call<'_>) -> Outcome {
    let Some(name) = attribute(call.request.arg(2)) else { return call.fail(BAD_NAME) };
    call.client.name = name.into();
    call.reply.ok();
    Outcome::Done
}

fn setinfo(call: &mut Call<'_>) -> Outcome {
    let (is_name, is_version) = (call.is(2, "lib-name"), call.is(2, "lib-ver"));
    let option = call.text(2);
    if !is_name && !is_version {
        return call.fail(&format!("ERR Unrecognized option '{option}'"));
    }
    let Some(value) = attribute(call.request.arg(3)) else {
        return call.fail(&format!("ERR {option} cannot contain spaces, newlines or special characters."));
    };
    let field = if is_name { &mut call.client.library_name } else { &mut call.client.library_version };
    *field = value.into();
    call.reply.ok();
    Outcome::Done
}

fn id(call: &mut Call<'_>) -> Outcome {
    call.reply.integer(call.client.id as i64);
    Outcome::Done
}

fn switch(call: &mut Call<'_>, set: impl FnOnce(&mut Client, bool)) -> Outcome {
    let is_on = call.is(2, "on");
    if !is_on && !call.is(2, "off") {
        return call.fail(errors::SYNTAX);
    }
    set(call.client, is_on);
    call.reply.ok();
    Outcome::Done
}

fn no_evict(call: &mut Call<'_>) -> Outcome {
    switch(call, |client, is_on| client.no_evict = is_on)
}

fn no_touch(call: &mut Call<'_>) -> Outcome {
    switch(call, |client, is_on| client.no_touch = is_on)
}

fn reply(call: &mut Call<'_>) -> Outcome {
    if call.is(2, "on") {
        call.client.reply_mode = ReplyMode::On;
        call.reply.ok();
    } else if call.is(2, "off") {
        call.client.reply_mode = ReplyMode::Off;
    } else if !call.is(2, "skip") {
        return call.fail(errors::SYNTAX);
    } else if call.client.reply_mode != ReplyMode::Off {
        call.client.reply_mode = ReplyMode::SkipNext;
    }
    Outcome::Done
}

fn info(call: &mut Call<'_>) -> Outcome {
    let line = line(call.client, call.now.monotonic_us);
    call.reply.verbatim(line.as_bytes());
    Outcome::Done
}

/// The kind of a client, as in Redis. Here all clients are normal.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Normal,
    Other,
}

/// Parses a kind of client. Fails with Redis's error reply for any other text.
fn kind(text: &[u8]) -> Result<Kind, String> {
    match text.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(Kind::Normal),
        b"master" | b"replica" | b"slave" | b"pubsub" => Ok(Kind::Other),
        _ => Err(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(text))),
    }
}

fn list(call: &mut Call<'_>) -> Outcome {
    let (mut is_asked, mut ids) = (Kind::Normal, None);
    if call.request.len() == 4 && call.is(2, "TYPE") {
        match kind(call.request.arg(3)) {
            Ok(kind) => is_asked = kind,
            Err(text) => return call.fail(&text),
        }
    } else if 3 < call.request.len() && call.is(2, "ID") {
        let Some(asked) = call.request.args_from(3).map(parse_i64).collect::<Option<Vec<_>>>() else {
            return call.fail("ERR Invalid client ID");
        };
        ids = Some(asked);
    } else if call.request.len() != 2 {
        return call.fail(errors::SYNTAX);
    }
    let shown =
        |client: &Client| is_asked == Kind::Normal && ids.as_ref().is_none_or(|ids| ids.contains(&(client.id as i64)));
    let mut text = String::new();
    if call.is_local_client() && shown(call.client) {
        text += &line(call.client, call.now.monotonic_us);
    }
    for (_, client) in call.core.clients.iter().filter(|(_, client)| shown(client)) {
        text += &line(client, call.now.monotonic_us);
    }
    call.reply.verbatim(text.as_bytes());
    Outcome::Done
}

/// The bytes of one of Redis's buffers for replies.
const REPLY_BUFFER_BYTES: usize = 16 * 1024;

/// Returns the line of a client in `CLIENT LIST`. Fields that have no meaning here have the values of an idle client in
/// Redis.
fn line(client: &Client, now_us: u64) -> String {
    let seconds = |since_us: u64| now_us.saturating_sub(since_us) / 1_000_000;
    let transaction = client.transaction.as_deref();
    let is_open = transaction.is_some_and(|transaction| transaction.is_open);
    let queued = if is_open { transaction.map_or(0, Transaction::len) as i64 } else { -1 };
    let watched = transaction.map_or(0, |transaction| transaction.watches().len());
    let queue_bytes = transaction.map_or(0, Transaction::memory);
    let mut flags = String::new();
    for (is_set, flag) in
        [(client.read_only, 'r'), (is_open, 'x'), (client.no_evict, 'e'), (client.no_touch, 'T'), (client.closing, 'c')]
    {
        flags.extend(is_set.then_some(flag));
    }
    if flags.is_empty() {
        flags.push('N');
    }
    // Redis has one buffer for every client, and keeps further replies in a list of such buffers.
    let buffered = client.output_bytes.min(REPLY_BUFFER_BYTES);
    let listed = client.output_bytes - buffered;
    format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db=0 sub=0 psub=0 ssub=0 multi={queued} \
         watch={watched} qbuf={} qbuf-free=0 argv-mem=0 multi-mem={queue_bytes} rbs=0 rbp=0 obl={buffered} oll={} omem={listed} tot-mem={} events=r cmd={} user=default \
         redir=-1 resp={} lib-name={} lib-ver={}\n",
        client.id,
        client.address,
        client.local_address,
        client.place,
        client.name,
        seconds(client.connected_us),
        seconds(client.active_us),
        client.input_bytes,
        listed.div_ceil(REPLY_BUFFER_BYTES),
        client.input_bytes + client.output_bytes + queue_bytes + size_of::<Client>(),
        if client.last_command.is_empty() { "NULL" } else { client.last_command },
        if client.version == Version::Three { 3 } else { 2 },
        client.library_name,
        client.library_version,
    )
}

/// The clients that `CLIENT KILL` closes.
#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    address: Option<&'a [u8]>,
    local_address: Option<&'a [u8]>,
    kind: Option<Kind>,
    skips_self: bool,
}

impl<'a> Filter<'a> {
    /// Parses the options of `CLIENT KILL`. Fails with Redis's error reply if they are invalid.
    fn read(call: &Call<'a>) -> Result<Self, String> {
        let mut filter = Self { skips_self: true, ..Self::default() };
        for at in (2..call.request.len()).step_by(2) {
            let Some(value) = call.request.get(at + 1) else { return Err(errors::SYNTAX.into()) };
            if call.is(at, "ID") {
                let id = parse_i64(value).and_then(|id| u64::try_from(id).ok()).filter(|&id| 0 < id);
                filter.id = Some(id.ok_or("ERR client-id should be greater than 0")?);
            } else if call.is(at, "TYPE") {
                filter.kind = Some(kind(value)?);
            } else if call.is(at, "ADDR") {
                filter.address = Some(value);
            } else if call.is(at, "LADDR") {
                filter.local_address = Some(value);
            } else if call.is(at, "USER") {
                if value != b"default" {
                    return Err(format!("ERR No such user '{}'", String::from_utf8_lossy(value)));
                }
            } else if call.is(at, "SKIPME") && (call.is(at + 1, "yes") || call.is(at + 1, "no")) {
                filter.skips_self = call.is(at + 1, "yes");
            } else {
                return Err(errors::SYNTAX.into());
            }
        }
        Ok(filter)
    }

    fn matches(&self, client: &Client) -> bool {
        self.id.is_none_or(|id| id == client.id)
            && self.address.is_none_or(|address| address == client.address.as_bytes())
            && self.local_address.is_none_or(|address| address == client.local_address.as_bytes())
            && self.kind.is_none_or(|kind| kind == Kind::Normal)
    }
}

fn kill(call: &mut Call<'_>) -> Outcome {
    let is_old = call.request.len() == 3;
    let filter = if is_old {
        Filter { address: Some(call.request.arg(2)), ..Filter::default() }
    } else {
        match Filter::read(call) {
            Ok(filter) => filter,
            Err(text) => return call.fail(&text),
        }
    };
    let mut count = call.core.clients.close_if(|client| filter.matches(client));
    if call.is_local_client() && !filter.skips_self && filter.matches(call.client) {
        call.client.closing = true;
        count += 1;
    }
    match (is_old, count) {
        (true, 0) => call.reply.error("ERR No such client"),
        (true, _) => call.reply.ok(),
        (false, count) => call.reply.integer(count),
    }
    Outcome::Done
}

fn help(call: &mut Call<'_>) -> Outcome {
    call.help(&[
        "GETNAME",
        "    Return the name of the current connection.",
        "ID",
        "    Return the ID of the current connection.",
        "INFO",
        "    Return information about the current client connection.",
        "KILL <ip:port>",
        "    Kill connection made from <ip:port>.",
        "KILL <option> <value> [<option> <value> [...]]",
        "    Kill connections. Options are:",
        "    * ADDR (<ip:port>|<unixsocket>:0)",
        "      Kill connections made from the specified address",
        "    * LADDR (<ip:port>|<unixsocket>:0)",
        "      Kill connections made to specified local address",
        "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
        "      Kill connections by type.",
        "    * USER <username>",
        "      Kill connections authenticated by <username>.",
        "    * SKIPME (YES|NO)",
        "      Skip killing current connection (default: yes).",
        "LIST [options ...]",
        "    Return information about client connections. Options:",
        "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
        "      Return clients of specified type.",
        "NO-EVICT (ON|OFF)",
        "    Protect current client connection from eviction.",
        "NO-TOUCH (ON|OFF)",
        "    Will not touch LRU/LFU stats when this mode is on.",
        "REPLY (ON|OFF|SKIP)",
        "    Control the replies sent to the current connection.",
        "SETINFO <option> <value>",
        "    Set client meta attr. Options are:",
        "    * LIB-NAME: the client lib name.",
        "    * LIB-VER: the client lib version.",
        "SETNAME <name>",
        "    Assign the name <name> to the current connection.",
    ])
}
