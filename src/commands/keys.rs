//! Commands on keys, for values of any type. Expiry, scans of all keys, and questions about one key have files of their
//! own.

mod expire;
mod memory;
mod object;
mod scan;

use super::{Call, Command, Flags, Keys, Merge, Outcome, Route, errors};
use crate::{
    resp::parse_i64,
    store::{Key, UnixMillis},
};

const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE;
const WRITE_FAST: Flags = Flags::WRITE.and(Flags::FAST);
const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);

/// Creates a row for a command whose only key is its first argument, and which does not need the key's value.
const fn row(name: &'static str, arity: i16, flags: Flags, run: super::Run) -> Command {
    Command::new(name, arity, flags.and(Flags::NO_VALUES), Keys::ONE, Route::Keys, run)
}

/// Creates a row for a command that does the same to each of its keys and counts, and which does not need their values.
const fn counting_row(name: &'static str, flags: Flags, run: super::Run) -> Command {
    Command::new(name, -2, flags.and(Flags::NO_VALUES), Keys::ALL, Route::Split(Merge::Sum), run)
}

/// The family's rows.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    Command::new("copy", -3, GROW, Keys::TWO, Route::Keys, copy).doc("generic", "6.2.0",
        "Copies the value of a key to a new key."),
    counting_row("del", WRITE, del).doc("generic", "1.0.0",
        "Deletes one or more keys."),
    counting_row("exists", READ_FAST, exists).doc("generic", "1.0.0",
        "Determines whether one or more keys exist."),
    row("expire", -3, WRITE_FAST, expire::expire).doc("generic", "1.0.0",
        "Sets the expiration time of a key in seconds."),
    row("expireat", -3, WRITE_FAST, expire::expireat).doc("generic", "1.2.0",
        "Sets the expiration time of a key to a Unix timestamp."),
    row("expiretime", 2, READ_FAST, expire::expiretime).doc("generic", "7.0.0",
        "Returns the expiration time of a key as a Unix timestamp."),
    Command::new("keys", 2, READ, Keys::NONE, Route::Everywhere(Merge::Elements), scan::keys).doc("generic", "1.0.0",
        "Returns all key names that match a pattern."),
    Command::new("memory", -2, Flags::NONE, Keys::NONE, Route::Here, object::container).doc("server", "4.0.0",
        "A container for memory diagnostics commands.").with(memory::MEMORY),
    Command::new("object", -2, Flags::NONE, Keys::NONE, Route::Here, object::container).doc("generic", "2.2.3",
        "A container for object introspection commands.").with(object::OBJECT),
    row("persist", 2, WRITE_FAST, expire::persist).doc("generic", "2.2.0",
        "Removes the expiration time of a key."),
    row("pexpire", -3, WRITE_FAST, expire::pexpire).doc("generic", "2.6.0",
        "Sets the expiration time of a key in milliseconds."),
    row("pexpireat", -3, WRITE_FAST, expire::pexpireat).doc("generic", "2.6.0",
        "Sets the expiration time of a key to a Unix milliseconds timestamp."),
    row("pexpiretime", 2, READ_FAST, expire::pexpiretime).doc("generic", "7.0.0",
        "Returns the expiration time of a key as a Unix milliseconds timestamp."),
    row("pttl", 2, READ_FAST, expire::pttl).doc("generic", "2.6.0",
        "Returns the expiration time in milliseconds of a key."),
    Command::new("randomkey", 1, READ, Keys::NONE, Route::Everywhere(Merge::First), scan::randomkey).doc("generic", "1.0.0",
        "Returns a random key name from the database."),
    Command::new("rename", 3, WRITE, Keys::TWO, Route::Keys, rename).doc("generic", "1.0.0",
        "Renames a key and overwrites the destination."),
    Command::new("renamenx", 3, WRITE_FAST, Keys::TWO, Route::Keys, renamenx).doc("generic", "1.0.0",
        "Renames a key only when the target key name doesn't exist."),
    Command::new("scan", -2, READ, Keys::NONE, Route::CursorAt(1), scan::scan).doc("generic", "2.8.0",
        "Iterates over the key names in the database."),
    counting_row("touch", READ_FAST, touch).doc("generic", "3.2.1",
        "Returns the number of existing keys out of those specified after updating the time they were last accessed."),
    row("ttl", 2, READ_FAST, expire::ttl).doc("generic", "1.0.0",
        "Returns the expiration time in seconds of a key."),
    row("type", 2, READ_FAST, type_of).doc("generic", "1.0.0",
        "Determines the type of value stored at a key."),
    counting_row("unlink", WRITE_FAST, del).doc("generic", "4.0.0",
        "Asynchronously deletes one or more keys."),
];

/// Replies with the number of keys for which `is_counted` returns true. A key that is named twice counts twice.
fn count(call: &mut Call<'_>, is_counted: impl Fn(&mut Call<'_>, Key<'_>, UnixMillis) -> bool) -> Outcome {
    let now = call.millis();
    let keys = call.request.args_from(1);
    let count = keys.filter(|key| is_counted(call, Key::of(key), now)).count();
    call.reply.integer(count as i64);
    Outcome::Done
}

fn del(call: &mut Call<'_>) -> Outcome {
    count(call, |call, key, now| call.store.remove(key, now).is_some())
}

fn exists(call: &mut Call<'_>) -> Outcome {
    count(call, |call, key, now| call.store.look(key, now).is_some())
}

/// Counts a use of each key, for a client with CLIENT NO-TOUCH too: that is the purpose of the command.
fn touch(call: &mut Call<'_>) -> Outcome {
    count(call, |call, key, now| call.store.get(key, now).is_some())
}

fn type_of(call: &mut Call<'_>) -> Outcome {
    let is_there = call.store.look(call.key(), call.millis()).is_some();
    call.reply.simple(if is_there { "string" } else { "none" });
    Outcome::Done
}

fn copy(call: &mut Call<'_>) -> Outcome {
    let is_replacing = match copy_options(call.request.args_from(3)) {
        Ok(is_replacing) => is_replacing,
        Err(error) => return call.fail(error),
    };
    let (from, to, now) = (call.key(), Key::of(call.request.arg(2)), call.millis());
    if from.bytes == to.bytes {
        return call.fail("ERR source and destination objects are the same");
    }
    let (found, _) = call.read(from);
    let copied = found.map(|entry| (entry.value().to_vec(), entry.expires_at(), entry.is_edited()));
    let Some((value, expires_at, is_edited)) = copied.filter(|_| is_replacing || !call.note_use(to)) else {
        call.reply.integer(0);
        return Outcome::Done;
    };
    call.store.put(to, &value, expires_at, now);
    call.store.set_access(to, None, now);
    if is_edited {
        call.store.note_edit(to, now);
    }
    call.reply.integer(1);
    Outcome::Done
}

/// Returns true if `REPLACE` is among the options. `DB` may name the only database that there is.
fn copy_options<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<bool, &'static str> {
    let mut is_replacing = false;
    while let Some(word) = words.next() {
        if word.eq_ignore_ascii_case(b"replace") {
            is_replacing = true;
            continue;
        }
        if !word.eq_ignore_ascii_case(b"db") {
            return Err(errors::SYNTAX);
        }
        let number = parse_i64(words.next().ok_or(errors::SYNTAX)?).ok_or(errors::NOT_AN_INTEGER)?;
        if i32::try_from(number).is_err() {
            return Err(errors::NOT_A_32_BIT_INTEGER);
        }
        if number != 0 {
            return Err("ERR DB index is out of range");
        }
    }
    Ok(is_replacing)
}

fn rename(call: &mut Call<'_>) -> Outcome {
    let Some(is_done) = rename_if(call, |_| true) else { return call.fail(errors::NO_SUCH_KEY) };
    assert!(is_done, "nothing stands in the way of RENAME");
    call.reply.ok();
    Outcome::Done
}

fn renamenx(call: &mut Call<'_>) -> Outcome {
    let Some(is_done) = rename_if(call, |is_taken| !is_taken) else { return call.fail(errors::NO_SUCH_KEY) };
    call.reply.integer(i64::from(is_done));
    Outcome::Done
}

/// Moves a key's entry to another key if `may` returns true; its argument is true if that key exists. `None` if there
/// is no entry to move.
fn rename_if(call: &mut Call<'_>, may: impl Fn(bool) -> bool) -> Option<bool> {
    let (from, to, now) = (call.key(), Key::of(call.request.arg(2)), call.millis());
    if !call.note_use(from) {
        return None;
    }
    if from.bytes == to.bytes {
        return Some(may(true));
    }
    if !may(call.store.peek(to, now).is_some()) {
        call.note_use(to);
        return Some(false);
    }
    let entry = call.store.remove(from, now)?;
    call.store.put(to, entry.value(), entry.expires_at(), now);
    call.store.set_access(to, Some(entry.access()), now);
    if entry.is_edited() {
        call.store.note_edit(to, now);
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use crate::commands::tests::check;

    #[test]
    fn keys_are_counted_as_often_as_they_are_named() {
        check(
            "
            MSET a 1 b 2 c 3 -> +OK
            EXISTS a b a nothing -> :3
            TOUCH a a nothing -> :2
            DEL a a nothing -> :1
            UNLINK b c -> :2
            EXISTS a b c -> :0
            SET k v PX 10 -> +OK
            wait 10
            EXISTS k -> :0
            DEL k -> :0
            ",
        );
    }

    #[test]
    fn every_value_is_a_string() {
        check("SET k v -> +OK\n TYPE k -> +string\n TYPE nothing -> +none");
    }

    #[test]
    fn a_copy_has_the_value_and_the_expiry() {
        check(
            "
            SET a 1 EX 10 -> +OK
            COPY a b -> :1
            MGET a b -> *2 $1 1 $1 1
            TTL b -> :10
            SET c 3 -> +OK
            COPY a c -> :0
            GET c -> $1 3
            COPY a c REPLACE -> :1
            TTL c -> :10
            COPY nothing c REPLACE -> :0
            GET c -> $1 1
            COPY a d DB 0 REPLACE -> :1
            COPY a d DB 1 -> -ERR DB index is out of range
            COPY a d DB x -> -ERR value is not an integer or out of range
            COPY a d DB -> -ERR syntax error
            COPY a d bogus -> -ERR syntax error
            COPY a a -> -ERR source and destination objects are the same
            ",
        );
    }

    #[test]
    fn a_renamed_key_keeps_its_value_and_expiry() {
        check(
            "
            SET a 1 EX 10 -> +OK
            SET b 2 -> +OK
            RENAME a b -> +OK
            GET a -> $-1
            GET b -> $1 1
            TTL b -> :10
            RENAME b b -> +OK
            RENAME nothing b -> -ERR no such key
            RENAME nothing nothing -> -ERR no such key
            SET c 3 -> +OK
            RENAMENX b c -> :0
            RENAMENX b b -> :0
            RENAMENX b d -> :1
            RENAMENX b d -> -ERR no such key
            TTL d -> :10
            RENAME c d -> +OK
            TTL d -> :-1
            ",
        );
    }
}
