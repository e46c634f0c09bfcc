//! `COMMAND`: the commands, described for clients. redis-py cannot call a command that is not listed here, and cluster
//! clients find the keys of a request by it.

mod docs;

use super::{Call, Command, Flags, Keys, Merge, Outcome, Route, Run, errors, table::rows};
use crate::{glob, resp::Reply};

const PLAIN: Flags = Flags::LOADING.and(Flags::STALE);

const fn row(name: &'static str, arity: i16, run: Run) -> Command {
    Command::new(name, arity, PLAIN, Keys::NONE, Route::Here, run)
}

/// The family's rows.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    row("command", -1, command).doc("server", "2.8.13",
        "Returns detailed information about all commands.").with(&[
        row("command|count", 2, count).doc("server", "2.8.13",
            "Returns a count of commands."),
        row("command|docs", -2, docs_of).doc("server", "7.0.0",
            "Returns documentary information about one, multiple or all commands."),
        row("command|getkeys", -3, getkeys).doc("server", "2.8.13",
            "Extracts the key names from an arbitrary command."),
        row("command|getkeysandflags", -3, getkeysandflags).doc("server", "7.0.0",
            "Extracts the key names and access flags for an arbitrary command."),
        row("command|help", 2, help).doc("server", "5.0.0",
            "Returns helpful text about the different subcommands."),
        row("command|info", -2, info).doc("server", "2.8.13",
            "Returns information about one, multiple or all commands."),
        row("command|list", -2, list).doc("server", "7.0.0",
            "Returns a list of command names."),
    ]),
];

/// Returns the rows that clients see.
fn listed(rows: &'static [Command]) -> impl Iterator<Item = &'static Command> {
    rows.iter().filter(|row| is_listed(row))
}

fn is_listed(row: &Command) -> bool {
    !row.flags.has(Flags::REFUSED)
}

/// Returns the commands that are not subcommands.
fn top() -> Vec<&'static Command> {
    rows().filter(|row| is_listed(row) && !row.name.contains('|')).collect()
}

/// Returns the row with this name: a command's, or `container|subcommand`.
fn named(name: &[u8]) -> Option<&'static Command> {
    rows().filter(|row| is_listed(row)).find(|row| row.name.as_bytes().eq_ignore_ascii_case(name))
}

fn command(call: &mut Call<'_>) -> Outcome {
    let rows = top();
    call.reply.array(rows.len());
    rows.iter().for_each(|row| describe(&mut call.reply, row));
    Outcome::Done
}

fn count(call: &mut Call<'_>) -> Outcome {
    let count = top().len();
    call.reply.integer(count as i64);
    Outcome::Done
}

fn info(call: &mut Call<'_>) -> Outcome {
    if call.request.len() == 2 {
        return command(call);
    }
    call.reply.array(call.request.len() - 2);
    for name in call.request.args_from(2) {
        match named(name) {
            Some(row) => describe(&mut call.reply, row),
            None => call.reply.null(),
        }
    }
    Outcome::Done
}

fn docs_of(call: &mut Call<'_>) -> Outcome {
    let rows = if call.request.len() == 2 {
        top()
    } else {
        call.request.args_from(2).filter_map(|name| named(name)).collect()
    };
    call.reply.map(rows.len());
    rows.iter().for_each(|row| docs::document(&mut call.reply, row));
    Outcome::Done
}

fn list(call: &mut Call<'_>) -> Outcome {
    let mut rows: Vec<_> = rows().filter(|row| is_listed(row)).collect();
    if call.request.len() == 5 && call.is(2, "FILTERBY") {
        let value = call.request.arg(4).to_ascii_lowercase();
        if call.is(3, "PATTERN") {
            rows.retain(|row| glob::matches(&value, row.name.as_bytes()));
        } else if call.is(3, "ACLCAT") {
            rows.retain(|row| categories(row).iter().any(|category| category.as_bytes() == value));
        } else if call.is(3, "MODULE") {
            rows.clear();
        } else {
            return call.fail(errors::SYNTAX);
        }
    } else if call.request.len() != 2 {
        return call.fail(errors::SYNTAX);
    }
    call.reply.array(rows.len());
    rows.iter().for_each(|row| call.reply.bulk(row.name.as_bytes()));
    Outcome::Done
}

/// Returns the row and the keys of the command behind `COMMAND GETKEYS`.
fn keys_of<'a>(call: &Call<'a>) -> Result<(&'static Command, Vec<&'a [u8]>), &'static str> {
    let invalid = "ERR Invalid command specified";
    let mut row = named(call.request.arg(2)).filter(|row| !row.name.contains('|')).ok_or(invalid)?;
    if !row.subcommands.is_empty()
        && let Some(name) = call.request.get(3)
    {
        let is_meant = |row: &&Command| row.short_name().as_bytes().eq_ignore_ascii_case(name);
        row = row.subcommands.iter().find(is_meant).ok_or(invalid)?;
    }
    if row.keys == Keys::NONE {
        return Err("ERR The command has no key arguments");
    }
    let (length, arity) = (call.request.len() as i64 - 2, i64::from(row.arity));
    if (0 < arity && length != arity) || length < -arity {
        return Err("ERR Invalid number of arguments specified for command");
    }
    let keys = row.keys.indices(call.request.len() - 2).map(|index| call.request.arg(index + 2));
    Ok((row, keys.collect()))
}

fn getkeys(call: &mut Call<'_>) -> Outcome {
    match keys_of(call) {
        Err(text) => call.reply.error(text),
        Ok((_, keys)) => {
            call.reply.array(keys.len());
            keys.iter().for_each(|key| call.reply.bulk(key));
        }
    }
    Outcome::Done
}

fn getkeysandflags(call: &mut Call<'_>) -> Outcome {
    match keys_of(call) {
        Err(text) => call.reply.error(text),
        Ok((row, keys)) => {
            // The old value is read only with one of these options.
            let mut options = call.request.args_from(5.min(call.request.len()));
            let reads = |word: &[u8]| word.eq_ignore_ascii_case(b"get") || word.eq_ignore_ascii_case(b"ifeq");
            let is_set = row.name == "set";
            let is_plain_set = is_set && !options.any(reads);
            call.reply.array(keys.len());
            for (position, key) in keys.iter().enumerate() {
                call.reply.array(2);
                call.reply.bulk(key);
                let specs = key_specs(row);
                let flags = match (is_set, is_plain_set) {
                    (true, true) => OVERWRITES,
                    (true, false) => READS_AND_WRITES,
                    (false, _) => specs[position.min(specs.len() - 1)].flags,
                };
                words(&mut call.reply, flags);
            }
        }
    }
    Outcome::Done
}

fn help(call: &mut Call<'_>) -> Outcome {
    call.help(&[
        "(no subcommand)",
        "    Return details about all Redis commands.",
        "COUNT",
        "    Return the total number of commands in this Redis server.",
        "LIST",
        "    Return a list of all commands in this Redis server.",
        "INFO [<command-name> ...]",
        "    Return details about multiple Redis commands.",
        "    If no command names are given, documentation details for all",
        "    commands are returned.",
        "DOCS [<command-name> ...]",
        "    Return documentation details about multiple Redis commands.",
        "    If no command names are given, documentation details for all",
        "    commands are returned.",
        "GETKEYS <full-command>",
        "    Return the keys from a full Redis command.",
        "GETKEYSANDFLAGS <full-command>",
        "    Return the keys and the access flags from a full Redis command.",
    ])
}

/// Writes a row as the ten elements that `COMMAND` has had since Redis 7.
fn describe(reply: &mut Reply<'_>, row: &Command) {
    reply.array(10);
    reply.bulk(row.name.as_bytes());
    reply.integer(row.arity.into());
    words(reply, &flags(row.flags));
    for number in [row.keys.first, row.keys.last, row.keys.step] {
        reply.integer(number.into());
    }
    let categories: Vec<_> = categories(row).iter().map(|category| format!("@{category}")).collect();
    reply.set(categories.len());
    categories.iter().for_each(|category| reply.simple(category));
    let tips = tips(row);
    reply.set(tips.len());
    tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    let specs = key_specs(row);
    reply.set(specs.len());
    specs.iter().for_each(|spec| spec.write(reply));
    match listed(row.subcommands).count() {
        0 => reply.set(0),
        count => reply.array(count),
    }
    listed(row.subcommands).for_each(|row| describe(reply, row));
}

fn words(reply: &mut Reply<'_>, words: &[&str]) {
    reply.set(words.len());
    words.iter().for_each(|word| reply.simple(word));
}

/// Returns the names of flags, in Redis's words and order.
fn flags(flags: Flags) -> Vec<&'static str> {
    let names = [
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::NOSCRIPT, "noscript"),
        (Flags::LOADING, "loading"),
        (Flags::STALE, "stale"),
        (Flags::SKIP_SLOWLOG, "skip_slowlog"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::NO_ASYNC_LOADING, "no_async_loading"),
        (Flags::NO_MULTI, "no_multi"),
        (Flags::ALLOW_BUSY, "allow_busy"),
    ];
    names.into_iter().filter(|(flag, _)| flags.has(*flag)).map(|(_, name)| name).collect()
}

/// Returns the categories of Redis's access control, in Redis's order. As in Redis, they follow from the flags and from
/// the family.
fn categories(row: &Command) -> Vec<&'static str> {
    let is_container = !row.subcommands.is_empty() && row.arity == -2;
    let container = row.name.split('|').next().unwrap_or_default();
    let (is_admin, name) = (row.flags.has(Flags::ADMIN), row.name);
    let is_keyspace = matches!(name, "dbsize" | "flushall" | "flushdb") || (row.group == "generic" && name != "wait");
    let is_about_connections = matches!(container, "asking" | "command" | "readonly" | "readwrite" | "wait");
    let is_dangerous = is_admin || matches!(name, "flushall" | "flushdb" | "info" | "keys" | "lastsave" | "role");
    let categories = [
        ("keyspace", is_keyspace && !is_container),
        ("read", row.flags.has(Flags::READONLY)),
        ("write", row.flags.has(Flags::WRITE)),
        ("string", row.group == "string"),
        ("admin", is_admin || matches!(name, "lastsave" | "role")),
        ("fast", row.flags.has(Flags::FAST)),
        ("slow", !row.flags.has(Flags::FAST)),
        ("dangerous", is_dangerous),
        ("connection", (row.group == "connection" && !is_container) || is_about_connections),
        ("transaction", row.group == "transactions"),
        ("scripting", row.group == "scripting" && !is_container),
    ];
    categories.into_iter().filter(|(_, is_in)| *is_in).map(|(name, _)| name).collect()
}

/// Returns the tips for clients of a cluster, in Valkey's words: where to send a command that concerns several nodes,
/// and how to merge the replies. Both follow from the row's route on the gateway.
fn tips(row: &Command) -> Vec<&'static str> {
    let request = request_policy(row);
    let policies = [request, request.and(response_policy(row))].into_iter().flatten();
    let hint = nondeterminism(row.name);
    // The order is Redis's, so that descriptions are equal to the byte.
    let is_hint_last = matches!(row.name, "keys" | "randomkey" | "slowlog|get" | "slowlog|len");
    let (first, last) = if is_hint_last { (None, hint) } else { (hint, None) };
    first.into_iter().chain(policies).chain(last).collect()
}

fn request_policy(row: &Command) -> Option<&'static str> {
    match (row.route, row.name) {
        (Route::Split(_), _) => Some("request_policy:multi_shard"),
        (Route::CursorAt(_), _) => Some("request_policy:special"),
        // The gateway asks every core for these, since all cores are one node to its clients; cluster clients ask one
        // node.
        (Route::Everywhere(_), "bgsave" | "client|kill" | "client|list" | "debug" | "lastsave" | "save") => None,
        (Route::Everywhere(_), _) if row.flags.has(Flags::ADMIN) => Some("request_policy:all_nodes"),
        (Route::Everywhere(_), _) => Some("request_policy:all_shards"),
        // Any core of a server answers for the whole server, but not for other servers.
        (_, "client|setinfo" | "client|setname" | "config|rewrite") => Some("request_policy:all_nodes"),
        (_, "function|flush" | "memory|malloc-stats" | "memory|purge" | "ping" | "wait") => {
            Some("request_policy:all_shards")
        }
        (Route::Here | Route::Keys | Route::SlotAt(_) | Route::Watch, _) => None,
    }
}

fn response_policy(row: &Command) -> Option<&'static str> {
    match row.route {
        Route::Here if row.name == "wait" => Some("response_policy:agg_min"),
        Route::Here if row.name == "memory|malloc-stats" => Some("response_policy:special"),
        Route::Here | Route::Keys | Route::SlotAt(_) | Route::Watch => Some("response_policy:all_succeeded"),
        Route::CursorAt(_) => Some("response_policy:special"),
        Route::Split(merge) | Route::Everywhere(merge) => match merge {
            Merge::Ok | Merge::Here => Some("response_policy:all_succeeded"),
            Merge::Sum => Some("response_policy:agg_sum"),
            Merge::Least => Some("response_policy:agg_min"),
            // Clients concatenate arrays unless told otherwise, except those of LATENCY.
            Merge::Elements if row.name.starts_with("latency|") => Some("response_policy:special"),
            Merge::Elements | Merge::Ranked => None,
            Merge::First | Merge::Histograms | Merge::Info | Merge::Lines | Merge::Metrics | Merge::Sums => {
                Some("response_policy:special")
            }
        },
    }
}

fn nondeterminism(name: &str) -> Option<&'static str> {
    match name {
        "client|info"
        | "client|list"
        | "cluster|getkeysinslot"
        | "cluster|info"
        | "cluster|myshardid"
        | "cluster|nodes"
        | "cluster|replicas"
        | "cluster|shards"
        | "cluster|slaves"
        | "cluster|slot-stats"
        | "cluster|slots"
        | "hotkeys"
        | "info"
        | "lastsave"
        | "latency|doctor"
        | "latency|histogram"
        | "latency|history"
        | "latency|latest"
        | "memory|doctor"
        | "memory|malloc-stats"
        | "memory|stats"
        | "metrics"
        | "object|encoding"
        | "object|freq"
        | "object|idletime"
        | "object|refcount"
        | "pttl"
        | "randomkey"
        | "scan"
        | "slowlog|get"
        | "slowlog|len"
        | "time"
        | "ttl" => Some("nondeterministic_output"),
        "command" | "command|docs" | "command|info" | "command|list" | "keys" => Some("nondeterministic_output_order"),
        _ => None,
    }
}

/// A key specification: the positions of some of a command's keys, and what the command does with them.
struct KeySpec {
    flags: &'static [&'static str],
    first: i16,
    /// The last key's index, relative to the first; negative counts from the end.
    last: i16,
    step: i16,
}

impl KeySpec {
    fn write(&self, reply: &mut Reply<'_>) {
        let name = |reply: &mut Reply<'_>, name: &str| reply.bulk(name.as_bytes());
        reply.map(3);
        name(reply, "flags");
        words(reply, self.flags);
        name(reply, "begin_search");
        reply.map(2);
        name(reply, "type");
        name(reply, "index");
        name(reply, "spec");
        reply.map(1);
        name(reply, "index");
        reply.integer(self.first.into());
        name(reply, "find_keys");
        reply.map(2);
        name(reply, "type");
        name(reply, "range");
        name(reply, "spec");
        reply.map(3);
        for (field, number) in [("lastkey", self.last), ("keystep", self.step), ("limit", 0)] {
            name(reply, field);
            reply.integer(number.into());
        }
    }
}

fn key_specs(row: &Command) -> Vec<KeySpec> {
    let Keys { first, last, step } = row.keys;
    if row.keys == Keys::NONE {
        return Vec::new();
    }
    let one = |first, flags| KeySpec { flags, first, last: 0, step: 1 };
    match row.name {
        "copy" => vec![one(1, &["RO", "access"]), one(2, &["OW", "update"])],
        "rename" => vec![one(1, &["RW", "access", "delete"]), one(2, &["OW", "update"])],
        "renamenx" => vec![one(1, &["RW", "access", "delete"]), one(2, &["OW", "insert"])],
        name => {
            let last = if 0 < last { last - first } else { last };
            vec![KeySpec { flags: key_flags(name, row.flags), first, last, step }]
        }
    }
}

/// The key flags of a SET that reads nothing.
const OVERWRITES: &[&str] = &["OW", "update"];
/// The key flags of a SET with GET or IFEQ.
const READS_AND_WRITES: &[&str] = &["RW", "access", "update"];

/// Returns the flags of a command's keys, in Redis's words: `RO`, `RW`, `OW` and `RM` say whether it reads, overwrites
/// or removes them.
fn key_flags(name: &str, flags: Flags) -> &'static [&'static str] {
    match name {
        "append" => &["RW", "insert"],
        "del" | "delifeq" | "unlink" => &["RM", "delete"],
        "exists" | "memory|usage" | "object|encoding" | "object|freq" | "object|idletime" | "object|refcount"
        | "strlen" | "touch" | "type" | "watch" => &["RO"],
        "expire" | "expireat" | "persist" | "pexpire" | "pexpireat" | "setrange" => &["RW", "update"],
        "getdel" => &["RW", "access", "delete"],
        "mset" | "psetex" | "setex" => &["OW", "update"],
        "msetnx" | "setnx" => &["OW", "insert"],
        "set" => &["RW", "access", "update", "variable_flags"],
        _ if flags.has(Flags::WRITE) => &["RW", "access", "update"],
        _ => &["RO", "access"],
    }
}

#[cfg(test)]
mod tests;
