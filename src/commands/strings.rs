//! Commands on strings. The variants of `SET`, numbers, and the longest common subsequence have files of their own.

mod lcs;
mod long_double;
mod number;
mod set;

use super::{Call, Command, Flags, Keys, Merge, Outcome, Route, errors};
use crate::{resp::parse_i64, store::Key};

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE_FAST: Flags = Flags::WRITE.and(Flags::FAST);
const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
const GROW_FAST: Flags = GROW.and(Flags::FAST);

/// Creates a row for a command whose only key is its first argument, as with nearly all.
const fn row(name: &'static str, arity: i16, flags: Flags, run: super::Run) -> Command {
    Command::new(name, arity, flags, Keys::ONE, Route::Keys, run)
}

/// The family's rows.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    row("append", 3, GROW_FAST, append).doc("string", "2.0.0",
        "Appends a string to the value of a key. Creates the key if it doesn't exist."),
    row("decr", 2, GROW_FAST, number::decr).doc("string", "1.0.0",
        "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist."),
    row("decrby", 3, GROW_FAST, number::decrby).doc("string", "1.0.0",
        "Decrements a number from the integer value of a key. Uses 0 as initial value if the key doesn't exist."),
    row("delifeq", 3, WRITE_FAST, delifeq).doc("string", "9.0.0",
        "Deletes a key if its value is equal to the given string."),
    row("get", 2, READ_FAST, get).doc("string", "1.0.0",
        "Returns the string value of a key."),
    row("getdel", 2, WRITE_FAST, getdel).doc("string", "6.2.0",
        "Returns the string value of a key after deleting the key."),
    row("getex", -2, WRITE_FAST, set::getex).doc("string", "6.2.0",
        "Returns the string value of a key after setting its expiration time."),
    row("getrange", 4, READ, getrange).doc("string", "2.4.0",
        "Returns a substring of the string stored at a key."),
    row("getset", 3, GROW_FAST, set::getset).doc("string", "1.0.0",
        "Returns the previous string value of a key after setting it to a new value."),
    row("incr", 2, GROW_FAST, number::incr).doc("string", "1.0.0",
        "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist."),
    row("incrby", 3, GROW_FAST, number::incrby).doc("string", "1.0.0",
        "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist."),
    row("incrbyfloat", 3, GROW_FAST, number::incrbyfloat).doc("string", "2.6.0",
        "Increments the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist."),
    Command::new("lcs", -3, READ, Keys::TWO, Route::Keys, lcs::lcs).doc("string", "7.0.0",
        "Finds the longest common substring."),
    Command::new("mget", -2, READ_FAST, Keys::ALL, Route::Split(Merge::Elements), mget).doc("string", "1.0.0",
        "Returns the string values of one or more keys; atomically if one core owns them all."),
    Command::new("mset", -3, GROW.and(Flags::NO_VALUES), Keys::PAIRS, Route::Split(Merge::Ok), mset).doc("string", "1.0.1",
        "Creates or modifies the string values of one or more keys; atomically if one core owns them all."),
    Command::new("msetnx", -3, GROW.and(Flags::NO_VALUES), Keys::PAIRS, Route::Keys, msetnx).doc("string", "1.0.1",
        "Atomically modifies the string values of one or more keys only when all keys don't exist."),
    row("psetex", 4, GROW.and(Flags::NO_VALUES), set::psetex).doc("string", "2.6.0",
        "Sets both string value and expiration time in milliseconds of a key. The key is created if it doesn't exist."),
    row("set", -3, GROW, set::set).doc("string", "1.0.0",
        "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist."),
    row("setex", 4, GROW.and(Flags::NO_VALUES), set::setex).doc("string", "2.0.0",
        "Sets the string value and expiration time of a key. Creates the key if it doesn't exist."),
    row("setnx", 3, GROW_FAST.and(Flags::NO_VALUES), set::setnx).doc("string", "1.0.0",
        "Set the string value of a key only when the key doesn't exist."),
    row("setrange", 4, GROW, setrange).doc("string", "2.2.0",
        "Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist."),
    row("strlen", 2, READ_FAST.and(Flags::NO_VALUES), strlen).doc("string", "2.2.0",
        "Returns the length of a string value."),
    row("substr", 4, READ, getrange).doc("string", "1.0.0",
        "Returns a substring from a string value."),
];

/// The value would be longer than `proto-max-bulk-len` bytes.
const VALUE_TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

fn get(call: &mut Call<'_>) -> Outcome {
    let key = call.key();
    match call.read(key) {
        (Some(entry), reply) => reply.bulk(entry.value()),
        (None, reply) => reply.null(),
    }
    Outcome::Done
}

fn getdel(call: &mut Call<'_>) -> Outcome {
    let (key, now) = (call.key(), call.millis());
    get(call);
    call.store.remove(key, now);
    Outcome::Done
}

fn delifeq(call: &mut Call<'_>) -> Outcome {
    let (key, now) = (call.key(), call.millis());
    let is_equal = call.store.peek(key, now).is_some_and(|entry| entry.value() == call.request.arg(2));
    if is_equal {
        call.store.remove(key, now);
    } else {
        call.note_use(key);
    }
    call.reply.integer(i64::from(is_equal));
    Outcome::Done
}

fn mget(call: &mut Call<'_>) -> Outcome {
    let keys = call.request.args_from(1);
    let start = call.reply.output.len();
    call.reply.array(keys.len());
    for key in keys {
        match call.read(Key::of(key)) {
            (Some(entry), reply) => reply.bulk(entry.value()),
            (None, reply) => reply.null(),
        }
        // A small request may name a large value a thousand times.
        if call.core.config.output_hard_limit < call.reply.output.len() {
            call.reply.output.truncate(start);
            call.client.closing = true;
            return call.fail("ERR the reply is larger than output-hard-limit: ask for fewer values at a time");
        }
    }
    Outcome::Done
}

fn mset(call: &mut Call<'_>) -> Outcome {
    if call.request.len().is_multiple_of(2) {
        return call.fail(&errors::wrong_number_of_arguments(call));
    }
    put_pairs(call);
    call.reply.ok();
    Outcome::Done
}

fn msetnx(call: &mut Call<'_>) -> Outcome {
    if call.request.len().is_multiple_of(2) {
        return call.fail(&errors::wrong_number_of_arguments(call));
    }
    // The first key that exists counts as used.
    let is_free = !call.request.args_from(1).step_by(2).any(|key| call.note_use(Key::of(key)));
    if is_free {
        put_pairs(call);
    }
    call.reply.integer(i64::from(is_free));
    Outcome::Done
}

/// Puts the pairs of keys and values.
fn put_pairs(call: &mut Call<'_>) {
    let now = call.millis();
    let mut words = call.request.args_from(1);
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        call.store.put(Key::of(key), value, None, now);
    }
}

fn strlen(call: &mut Call<'_>) -> Outcome {
    let key = call.key();
    let (found, reply) = call.read(key);
    reply.integer(found.map_or(0, |entry| entry.value_len() as i64));
    Outcome::Done
}

fn append(call: &mut Call<'_>) -> Outcome {
    let (key, now, tail) = (call.key(), call.millis(), call.request.arg(2));
    let length = call.store.peek(key, now).map_or(0, |entry| entry.value_len());
    let total = length + tail.len();
    if call.core.config.proto_max_bulk_len < total {
        call.note_use(key);
        return call.fail(VALUE_TOO_LONG);
    }
    call.store.resize(key, total, now, |value| value[length..].copy_from_slice(tail));
    call.reply.integer(total as i64);
    Outcome::Done
}

fn setrange(call: &mut Call<'_>) -> Outcome {
    let (key, now, part) = (call.key(), call.millis(), call.request.arg(3));
    let Some(offset) = parse_i64(call.request.arg(2)) else { return call.fail(errors::NOT_AN_INTEGER) };
    let Ok(offset) = u64::try_from(offset) else { return call.fail("ERR offset is out of range") };
    let length = call.store.peek(key, now).map_or(0, |entry| entry.value_len());
    if part.is_empty() {
        call.note_use(key);
        call.reply.integer(length as i64);
        return Outcome::Done;
    }
    let end = offset.saturating_add(part.len() as u64);
    if (call.core.config.proto_max_bulk_len as u64) < end {
        call.note_use(key);
        return call.fail(VALUE_TOO_LONG);
    }
    let (offset, end) = (offset as usize, end as usize);
    let total = length.max(end);
    call.store.resize(key, total, now, |value| value[offset..end].copy_from_slice(part));
    call.store.note_edit(key, now);
    call.reply.integer(total as i64);
    Outcome::Done
}

fn getrange(call: &mut Call<'_>) -> Outcome {
    let key = call.key();
    let (Some(start), Some(end)) = (parse_i64(call.request.arg(2)), parse_i64(call.request.arg(3))) else {
        return call.fail(errors::NOT_AN_INTEGER);
    };
    let (found, reply) = call.read(key);
    reply.bulk(found.map_or(b"", |entry| part(entry.value(), start, end)));
    Outcome::Done
}

/// Returns the bytes from `start` to `end`, both included. As in Redis, negative positions count from the end, and
/// positions out of range are moved to the nearest in range, so that -100 to -50 of a short string is its first byte.
fn part(value: &[u8], start: i64, end: i64) -> &[u8] {
    if start < 0 && end < 0 && end < start {
        return b"";
    }
    let length = value.len() as i64;
    let position = |at: i64| if at < 0 { at.saturating_add(length).max(0) } else { at };
    let (start, end) = (position(start), position(end).min(length - 1));
    if end < start { b"" } else { &value[start as usize..=end as usize] }
}

#[cfg(test)]
mod tests {
    use crate::commands::tests::{Bench, check, check_on};

    #[test]
    fn what_was_set_can_be_read() {
        check(
            r#"
            GET k -> $-1
            SET k v -> +OK
            GET k -> $1 v
            SET k "a\x00b" -> +OK
            GET k -> $3 a\x00b
            SET "" "" -> +OK
            GET "" -> $0
            HELLO 3
            GET nothing -> _
            MGET k nothing -> *2 $3 a\x00b _
            "#,
        );
    }

    #[test]
    fn several_keys_are_set_and_read_at_once() {
        check(
            "
            MSET a 1 b 2 a 3 -> +OK
            MGET a b c a -> *4 $1 3 $1 2 $-1 $1 3
            MSET a 1 b -> -ERR wrong number of arguments for 'mset' command
            MSETNX c 1 a 2 -> :0
            EXISTS c -> :0
            MSETNX c 1 d 2 c 3 -> :1
            MGET c d -> *2 $1 3 $1 2
            MSETNX e -> -ERR wrong number of arguments for 'msetnx' command
            MSETNX e 1 f -> -ERR wrong number of arguments for 'msetnx' command
            SET t v EX 10 -> +OK
            MSET t w -> +OK
            TTL t -> :-1
            ",
        );
    }

    #[test]
    fn a_value_grows_at_its_end() {
        check(
            "
            APPEND k ab -> :2
            APPEND k cd -> :4
            GET k -> $4 abcd
            STRLEN k -> :4
            STRLEN nothing -> :0
            PEXPIRE k 100 -> :1
            APPEND k e -> :5
            PTTL k -> :100
            wait 100
            APPEND k x -> :1
            PTTL k -> :-1
            ",
        );
    }

    #[test]
    fn a_part_of_a_value_is_read_and_overwritten() {
        check(
            r#"
            SETRANGE k 3 ab -> :5
            GET k -> $5 \x00\x00\x00ab
            SET k "Hello World" EX 100 -> +OK
            SETRANGE k 6 Redis -> :11
            GET k -> $11 Hello Redis
            TTL k -> :100
            SETRANGE k 2 "" -> :11
            SETRANGE nothing 2 "" -> :0
            EXISTS nothing -> :0
            SETRANGE k -1 x -> -ERR offset is out of range
            SETRANGE k x x -> -ERR value is not an integer or out of range
            GETRANGE k 0 4 -> $5 Hello
            GETRANGE k -5 -1 -> $5 Redis
            GETRANGE k 0 -1 -> $11 Hello Redis
            GETRANGE k -100 -50 -> $1 H
            GETRANGE k -1 -5 -> $0
            GETRANGE k 11 20 -> $0
            GETRANGE k 5 -9223372036854775808 -> $0
            GETRANGE k 0 x -> -ERR value is not an integer or out of range
            SUBSTR k 0 1 -> $2 He
            GETRANGE nothing 0 -1 -> $0
            "#,
        );
    }

    /// The limit is that of the settings, and it is checked before anything is allocated.
    #[test]
    fn a_value_has_a_greatest_length() {
        let mut bench = Bench::new();
        bench.shard.core.config.proto_max_bulk_len = 1000;
        check_on(
            &mut bench,
            "
            SETRANGE k 1000 x -> -ERR string exceeds maximum allowed size (proto-max-bulk-len)
            SETRANGE k 9223372036854775807 x -> -ERR string exceeds maximum allowed size (proto-max-bulk-len)
            EXISTS k -> :0
            SETRANGE k 999 x -> :1000
            APPEND k x -> -ERR string exceeds maximum allowed size (proto-max-bulk-len)
            SETRANGE k 999 xy -> -ERR string exceeds maximum allowed size (proto-max-bulk-len)
            STRLEN k -> :1000
            ",
        );
    }

    /// A request of a few bytes may ask for any number of copies of a large value. Its client gets an error and none of
    /// them, and is disconnected.
    #[test]
    fn mget_shows_no_more_than_a_reply_may_hold() {
        let mut bench = Bench::new();
        bench.shard.core.config.output_hard_limit = 1000;
        let value = "x".repeat(400);
        check_on(&mut bench, &format!("SET k {value} -> +OK\n MGET k nothing k -> *3 $400 {value} $-1 $400 {value}"));
        assert!(!bench.client.closing);
        check_on(
            &mut bench,
            "MGET k k k -> -ERR the reply is larger than output-hard-limit: ask for fewer values at a time",
        );
        assert!(bench.client.closing);
    }

    #[test]
    fn a_value_is_taken() {
        check(
            "
            SET k v -> +OK
            GETDEL k -> $1 v
            GETDEL k -> $-1
            SET k v -> +OK
            DELIFEQ k w -> :0
            DELIFEQ k v -> :1
            DELIFEQ k v -> :0
            EXISTS k -> :0
            ",
        );
    }

    /// A write that finds a key and leaves it unchanged counts as a use of it, except for a client with CLIENT
    /// NO-TOUCH.
    #[test]
    fn a_write_that_changes_nothing_is_a_use() {
        for line in
            ["SETNX k 1", "SET k 1 NX", "MSETNX k 1 l 2", "PERSIST k", "EXPIRE k 10 XX", "SETRANGE k 0 \"\"", "INCR k"]
        {
            let mut bench = Bench::new();
            bench.line("SET k v");
            bench.wait(5000);
            bench.client.no_touch = true;
            bench.line(line);
            assert_eq!(bench.line("OBJECT IDLETIME k"), ":5", "{line}");
            bench.client.no_touch = false;
            bench.line(line);
            assert_eq!(bench.line("OBJECT IDLETIME k"), ":0", "{line}");
        }
    }

    /// Reads count as hits or misses, and as in Redis those of writes do not; reads of a client with CLIENT NO-TOUCH do
    /// not count as uses.
    #[test]
    fn reads_are_hits_or_misses() {
        let mut bench = Bench::new();
        check_on(
            &mut bench,
            "
            SET k v -> +OK
            INCR n -> :1
            SETNX k v -> :0
            GET k -> $1 v
            GET nothing -> $-1
            MGET k nothing k -> *3 $1 v $-1 $1 v
            EXISTS k nothing -> :1
            TTL k -> :-1
            wait 5000
            ",
        );
        assert_eq!((bench.shard.store.counters.hits, bench.shard.store.counters.misses), (5, 3));
        bench.client.no_touch = true;
        check_on(&mut bench, "GET k -> $1 v\n OBJECT IDLETIME k -> :5\n TOUCH k -> :1\n OBJECT IDLETIME k -> :0");
        bench.client.no_touch = false;
        check_on(&mut bench, "wait 3000\n OBJECT IDLETIME k -> :3\n GET k -> $1 v\n OBJECT IDLETIME k -> :0");
    }
}
