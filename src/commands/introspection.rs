//! `COMMAND`: what clients learn of the commands. redis-py can't call one that is not listed here, cluster clients find
//! the keys by it.

use super::{Call, Command, Flags, Keys, Outcome, Route, Run, errors};
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
        row("command|docs", -2, docs).doc("server", "7.0.0",
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

/// The rows that clients are told of.
fn listed(rows: &'static [Command]) -> impl Iterator<Item = &'static Command> {
    rows.iter().filter(|row| is_listed(row))
}

fn is_listed(row: &Command) -> bool {
    !row.flags.has(Flags::REFUSED)
}

/// The commands that are no subcommands.
fn top(call: &Call<'_>) -> Vec<&'static Command> {
    call.core.rows.iter().copied().filter(|row| is_listed(row) && !row.name.contains('|')).collect()
}

/// The row with this name: a command's, or `container|subcommand`.
fn named(call: &Call<'_>, name: &[u8]) -> Option<&'static Command> {
    let mut rows = call.core.rows.iter().copied().filter(|row| is_listed(row));
    rows.find(|row| row.name.as_bytes().eq_ignore_ascii_case(name))
}

fn command(call: &mut Call<'_>) -> Outcome {
    let rows = top(call);
    call.reply.array(rows.len());
    rows.iter().for_each(|row| describe(&mut call.reply, row));
    Outcome::Done
}

fn count(call: &mut Call<'_>) -> Outcome {
    let count = top(call).len();
    call.reply.integer(count as i64);
    Outcome::Done
}

fn info(call: &mut Call<'_>) -> Outcome {
    if call.request.len() == 2 {
        return command(call);
    }
    call.reply.array(call.request.len() - 2);
    for name in call.request.args_from(2) {
        match named(call, name) {
            Some(row) => describe(&mut call.reply, row),
            None => call.reply.null(),
        }
    }
    Outcome::Done
}

fn docs(call: &mut Call<'_>) -> Outcome {
    let rows = if call.request.len() == 2 {
        top(call)
    } else {
        call.request.args_from(2).filter_map(|name| named(call, name)).collect()
    };
    call.reply.map(rows.len());
    rows.iter().for_each(|row| document(&mut call.reply, row));
    Outcome::Done
}

fn list(call: &mut Call<'_>) -> Outcome {
    let mut rows = call.core.rows.clone();
    rows.retain(|row| is_listed(row));
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

/// The keys of the command that stands behind `COMMAND GETKEYS`, and its row.
fn keys_of<'a>(call: &Call<'a>) -> Result<(&'static Command, Vec<&'a [u8]>), &'static str> {
    let invalid = "ERR Invalid command specified";
    let mut row = named(call, call.request.arg(2)).filter(|row| !row.name.contains('|')).ok_or(invalid)?;
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
            call.reply.array(keys.len());
            for (position, key) in keys.iter().enumerate() {
                call.reply.array(2);
                call.reply.bulk(key);
                let specs = key_specs(row);
                words(&mut call.reply, specs[position.min(specs.len() - 1)].flags);
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

/// Ten elements, as `COMMAND` has them since Redis 7.
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
    let tips = tips(row.name);
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

fn document(reply: &mut Reply<'_>, row: &Command) {
    reply.bulk(row.name.as_bytes());
    reply.map(if row.subcommands.is_empty() { 3 } else { 4 });
    for (name, value) in [("summary", row.summary), ("since", row.since), ("group", row.group)] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    if !row.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(listed(row.subcommands).count());
        listed(row.subcommands).for_each(|row| document(reply, row));
    }
}

fn words(reply: &mut Reply<'_>, words: &[&str]) {
    reply.set(words.len());
    words.iter().for_each(|word| reply.simple(word));
}

/// The flags in Redis's words and order.
fn flags(flags: Flags) -> Vec<&'static str> {
    let names = [
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::NOSCRIPT, "noscript"),
        (Flags::LOADING, "loading"),
        (Flags::STALE, "stale"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::NO_ASYNC_LOADING, "no_async_loading"),
        (Flags::NO_MULTI, "no_multi"),
        (Flags::ALLOW_BUSY, "allow_busy"),
    ];
    names.into_iter().filter(|(flag, _)| flags.has(*flag)).map(|(_, name)| name).collect()
}

/// The categories of Redis's access control, in Redis's order: from the flags, as Redis does it, and from the family.
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

/// What Redis tells proxies and cluster clients of commands that touch more than one node.
fn tips(name: &str) -> &'static [&'static str] {
    match name {
        "client|info"
        | "client|list"
        | "cluster|getkeysinslot"
        | "cluster|info"
        | "cluster|nodes"
        | "cluster|replicas"
        | "cluster|shards"
        | "cluster|slaves"
        | "cluster|slots"
        | "lastsave"
        | "object|encoding"
        | "object|freq"
        | "object|idletime"
        | "object|refcount"
        | "pttl"
        | "time"
        | "ttl" => &["nondeterministic_output"],
        "command" | "command|docs" | "command|info" | "command|list" => &["nondeterministic_output_order"],
        "config|set" | "latency|reset" | "slowlog|reset" => {
            &["request_policy:all_nodes", "response_policy:all_succeeded"]
        }
        "dbsize" => &["request_policy:all_shards", "response_policy:agg_sum"],
        "del" | "exists" | "touch" | "unlink" => &["request_policy:multi_shard", "response_policy:agg_sum"],
        "flushall" | "flushdb" | "function|flush" | "memory|purge" | "ping" => {
            &["request_policy:all_shards", "response_policy:all_succeeded"]
        }
        "info" | "memory|doctor" | "memory|malloc-stats" | "memory|stats" => {
            &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]
        }
        "keys" => &["request_policy:all_shards", "nondeterministic_output_order"],
        "latency|doctor" | "latency|histogram" | "latency|history" | "latency|latest" => {
            &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"]
        }
        "mget" => &["request_policy:multi_shard"],
        "mset" | "msetnx" => &["request_policy:multi_shard", "response_policy:all_succeeded"],
        "randomkey" => &["request_policy:all_shards", "response_policy:special", "nondeterministic_output"],
        "scan" => &["nondeterministic_output", "request_policy:special"],
        "slowlog|get" => &["request_policy:all_nodes", "nondeterministic_output"],
        "slowlog|len" => &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"],
        "wait" => &["request_policy:all_shards", "response_policy:agg_min"],
        _ => &[],
    }
}

/// Where some of a command's keys stand, and what it does with them.
struct KeySpec {
    flags: &'static [&'static str],
    first: i16,
    /// Relative to the first, or negative from the end.
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

/// What a command does with its keys, in Redis's words: `RO`, `RW`, `OW` and `RM` say whether it reads, overwrites or
/// removes them.
fn key_flags(name: &str, flags: Flags) -> &'static [&'static str] {
    match name {
        "append" => &["RW", "insert"],
        "del" | "delifeq" | "unlink" => &["RM", "delete"],
        "exists" | "memory|usage" | "object|encoding" | "object|freq" | "object|idletime" | "object|refcount"
        | "strlen" | "touch" | "type" => &["RO"],
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
