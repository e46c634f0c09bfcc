//! `OBJECT`: questions about one key.

use crate::{
    commands::{Call, Command, Flags, Keys, Outcome, Route, errors},
    resp::parse_i64,
    store::{Entry, frequency, idle_seconds},
};

const HELP: Flags = Flags::LOADING.and(Flags::STALE);

/// The subcommands of `OBJECT`.
#[rustfmt::skip]
pub(super) static OBJECT: &[Command] = &[
    Command::new("object|encoding", 3, Flags::READONLY, Keys::SECOND, Route::Keys, encoding).doc("generic", "2.2.3",
        "Returns the internal encoding of a Redis object."),
    Command::new("object|freq", 3, Flags::READONLY.and(Flags::NO_VALUES), Keys::SECOND, Route::Keys, freq).doc("generic", "4.0.0",
        "Returns the logarithmic access frequency counter of a Redis object."),
    Command::new("object|help", 2, HELP, Keys::NONE, Route::Here, help).doc("generic", "6.2.0",
        "Returns helpful text about the different subcommands."),
    Command::new("object|idletime", 3, Flags::READONLY.and(Flags::NO_VALUES), Keys::SECOND, Route::Keys, idletime).doc("generic", "2.2.3",
        "Returns the time since the last access to a Redis object."),
    Command::new("object|refcount", 3, Flags::READONLY.and(Flags::NO_VALUES), Keys::SECOND, Route::Keys, refcount).doc("generic", "2.2.3",
        "Returns the reference count of a value of a key."),
];

/// The longest string that Redis stores directly behind the object's header (`OBJ_ENCODING_EMBSTR_SIZE_LIMIT`).
const EMBEDDED_BYTES_MAX: usize = 44;

const LFU_IS_ON: &str = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";
const LFU_IS_OFF: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";

/// A container's own function. Its arity demands a subcommand, which is then called instead.
pub(super) fn container(call: &mut Call<'_>) -> Outcome {
    call.fail(errors::SYNTAX)
}

/// Replies with the encoding that Redis would have for a string that was set, or written into, in the same way. Here
/// all strings are stored in one way.
fn encoding(call: &mut Call<'_>) -> Outcome {
    let found = call.store.look(call.key(), call.millis());
    let is_edited = found.is_some_and(Entry::is_edited);
    match found.map(Entry::value) {
        None => call.reply.null(),
        Some(_) if is_edited => call.reply.bulk(b"raw"),
        Some(value) if parse_i64(value).is_some() => call.reply.bulk(b"int"),
        Some(value) if value.len() <= EMBEDDED_BYTES_MAX => call.reply.bulk(b"embstr"),
        Some(_) => call.reply.bulk(b"raw"),
    }
    Outcome::Done
}

fn idletime(call: &mut Call<'_>) -> Outcome {
    let (now, counts_uses) = (call.millis(), call.store.policy.counts_uses);
    let found = call.store.look(call.key(), now);
    match (found, counts_uses) {
        (None, _) => call.reply.null(),
        (Some(_), true) => call.reply.error(LFU_IS_ON),
        (Some(entry), false) => call.reply.integer(idle_seconds(entry.access(), now) as i64),
    }
    Outcome::Done
}

fn freq(call: &mut Call<'_>) -> Outcome {
    let (now, policy) = (call.millis(), call.store.policy);
    let found = call.store.look(call.key(), now);
    match (found, policy.counts_uses) {
        (None, _) => call.reply.null(),
        (Some(_), false) => call.reply.error(LFU_IS_OFF),
        (Some(entry), true) => call.reply.integer(i64::from(frequency(entry.access(), &policy, now))),
    }
    Outcome::Done
}

/// Replies with 1: values are not shared.
fn refcount(call: &mut Call<'_>) -> Outcome {
    match call.store.look(call.key(), call.millis()) {
        None => call.reply.null(),
        Some(_) => call.reply.integer(1),
    }
    Outcome::Done
}

fn help(call: &mut Call<'_>) -> Outcome {
    call.help(&[
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
    ])
}

#[cfg(test)]
mod tests {
    use crate::{
        commands::tests::{Bench, check, check_on},
        config::Eviction,
        store::{Policy, UnixMillis},
    };

    #[test]
    fn object_tells_what_redis_would() {
        let (embedded, raw) = ("x".repeat(44), "x".repeat(45));
        check(&format!(
            "
            MSET i -123 j 9223372036854775808 e {embedded} r {raw} -> +OK
            OBJECT ENCODING i -> $3 int
            OBJECT ENCODING j -> $6 embstr
            OBJECT ENCODING e -> $6 embstr
            OBJECT ENCODING r -> $3 raw
            OBJECT ENCODING nothing -> $-1
            OBJECT REFCOUNT r -> :1
            OBJECT REFCOUNT nothing -> $-1
            wait 3000
            OBJECT IDLETIME r -> :3
            OBJECT IDLETIME nothing -> $-1
            OBJECT FREQ r -> {}
            OBJECT FREQ nothing -> $-1
            OBJECT bogus r -> -ERR unknown subcommand 'bogus'. Try OBJECT HELP.
            OBJECT ENCODING -> -ERR wrong number of arguments for 'object|encoding' command
            OBJECT -> -ERR wrong number of arguments for 'object' command
            ",
            super::LFU_IS_OFF.replacen("ERR", "-ERR", 1)
        ));
    }

    #[test]
    fn object_tells_of_use_under_lfu() {
        let policy = Policy { eviction: Eviction::Lfu, counts_uses: true, ..Policy::default() };
        let mut bench = Bench::at(UnixMillis(1_000_000_000_000), policy);
        let refused = super::LFU_IS_ON.replacen("ERR", "-ERR", 1);
        check_on(
            &mut bench,
            &format!(
                "SET k v -> +OK\n OBJECT FREQ k -> :5\n OBJECT IDLETIME k -> {refused}\n wait 120000\n OBJECT FREQ k -> :3"
            ),
        );
    }

    #[test]
    fn help_is_a_list_of_lines() {
        let mut bench = Bench::new();
        assert!(bench.line("OBJECT HELP").starts_with("*15 +OBJECT <subcommand> [<arg> [value] [opt] ...]."));
    }
}
