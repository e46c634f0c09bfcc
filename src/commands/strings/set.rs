//! `SET` and its variants: a value with conditions and a time to live.

use crate::{
    commands::{Call, Outcome, errors},
    resp::parse_i64,
    store::UnixMillis,
};
use std::borrow::Cow;

/// The options of `SET` and `GETEX`.
#[derive(Default)]
struct Options<'a> {
    condition: Condition<'a>,
    /// True if the reply is the old value.
    get: bool,
    lifetime: Option<Lifetime<'a>>,
}

/// The condition on which `SET` sets the value.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Condition<'a> {
    #[default]
    Always,
    /// `NX`: the key does not exist.
    Absent,
    /// `XX`: the key exists.
    Present,
    /// `IFEQ`: the key has this value.
    Equal(&'a [u8]),
}

/// A key's time to live, as the client wrote it.
#[derive(Clone, Copy)]
enum Lifetime<'a> {
    Keep,
    Persist,
    /// From now on (`EX`, `PX`).
    For(Unit, &'a [u8]),
    /// Until this Unix time (`EXAT`, `PXAT`).
    Until(Unit, &'a [u8]),
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// The command that the options belong to.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Of {
    Set,
    GetEx,
}

impl<'a> Options<'a> {
    /// Parses the options. An option may be repeated, and then its last argument counts; it may not be combined with
    /// another of its kind.
    fn parse(of: Of, mut words: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if of == Of::Set && (is("nx") || is("xx")) {
                let condition = if is("nx") { Condition::Absent } else { Condition::Present };
                if options.condition != Condition::Always && options.condition != condition {
                    return None;
                }
                options.condition = condition;
            } else if of == Of::Set && is("ifeq") && options.condition == Condition::Always {
                options.condition = Condition::Equal(words.next()?);
            } else if of == Of::Set && is("get") {
                options.get = true;
            } else {
                let lifetime = Lifetime::parse(of, word, &mut words)?;
                if options.lifetime.is_some_and(|other| !other.is_like(lifetime)) {
                    return None;
                }
                options.lifetime = Some(lifetime);
            }
        }
        Some(options)
    }
}

impl<'a> Lifetime<'a> {
    fn parse(of: Of, word: &[u8], words: &mut impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        Some(match of {
            Of::Set if is("keepttl") => Self::Keep,
            Of::GetEx if is("persist") => Self::Persist,
            _ if is("ex") => Self::For(Unit::Seconds, words.next()?),
            _ if is("px") => Self::For(Unit::Milliseconds, words.next()?),
            _ if is("exat") => Self::Until(Unit::Seconds, words.next()?),
            _ if is("pxat") => Self::Until(Unit::Milliseconds, words.next()?),
            _ => return None,
        })
    }

    /// Returns true if both are the same option, with any arguments.
    fn is_like(self, other: Lifetime<'_>) -> bool {
        match (self, other) {
            (Self::For(unit, _), Lifetime::For(other, _)) | (Self::Until(unit, _), Lifetime::Until(other, _)) => {
                unit == other
            }
            _ => std::mem::discriminant(&self) == std::mem::discriminant(&other),
        }
    }

    /// Returns the absolute time of expiry that the client asks for; `None` if the key is to keep its time or to have
    /// none.
    fn deadline(self, call: &Call<'_>) -> Result<Option<UnixMillis>, Cow<'static, str>> {
        let (unit, text, from) = match self {
            Self::Keep | Self::Persist => return Ok(None),
            Self::For(unit, text) => (unit, text, call.millis().0 as i64),
            Self::Until(unit, text) => (unit, text, 0),
        };
        let number = parse_i64(text).ok_or(errors::NOT_AN_INTEGER)?;
        let scale = if unit == Unit::Seconds { 1000 } else { 1 };
        let at = number.checked_mul(scale).and_then(|duration| duration.checked_add(from));
        match at {
            Some(at) if 0 < number => Ok(Some(UnixMillis(at as u64))),
            _ => Err(errors::invalid_expire_time(call).into()),
        }
    }
}

pub(super) fn set(call: &mut Call<'_>) -> Outcome {
    if call.request.len() == 3 {
        call.store.put(call.key(), call.request.arg(2), None, call.millis());
        call.reply.ok();
        return Outcome::Done;
    }
    set_with_options(call).unwrap_or_else(|error| call.fail(&error))
}

fn set_with_options(call: &mut Call<'_>) -> Result<Outcome, Cow<'static, str>> {
    let options = Options::parse(Of::Set, call.request.args_from(3)).ok_or(errors::SYNTAX)?;
    let deadline = options.lifetime.map_or(Ok(None), |lifetime| lifetime.deadline(call))?;
    let (key, now) = (call.key(), call.millis());
    if options.get {
        super::get(call);
    }
    let before = call.store.peek(key, now);
    let sets = match options.condition {
        Condition::Always => true,
        Condition::Absent => before.is_none(),
        Condition::Present => before.is_some(),
        Condition::Equal(value) => before.is_some_and(|entry| entry.value() == value),
    };
    if sets {
        let expires_at = match options.lifetime {
            Some(Lifetime::Keep) => before.and_then(|entry| entry.expires_at()),
            _ => deadline,
        };
        put_until(call, call.request.arg(2), expires_at);
    } else {
        call.note_use(key);
    }
    match (options.get, sets) {
        (true, _) => {}
        (false, true) => call.reply.ok(),
        (false, false) => call.reply.null(),
    }
    Ok(Outcome::Done)
}

/// Puts the value of the call's key, or removes the key if the time of expiry has passed.
fn put_until(call: &mut Call<'_>, value: &[u8], expires_at: Option<UnixMillis>) {
    let (key, now) = (call.key(), call.millis());
    if expires_at.is_some_and(|at| at <= now) {
        call.store.remove(key, now);
    } else {
        call.store.put(key, value, expires_at, now);
    }
}

pub(super) fn setex(call: &mut Call<'_>) -> Outcome {
    set_for(call, Lifetime::For(Unit::Seconds, call.request.arg(2)))
}

pub(super) fn psetex(call: &mut Call<'_>) -> Outcome {
    set_for(call, Lifetime::For(Unit::Milliseconds, call.request.arg(2)))
}

fn set_for(call: &mut Call<'_>, lifetime: Lifetime<'_>) -> Outcome {
    match lifetime.deadline(call) {
        Ok(deadline) => {
            put_until(call, call.request.arg(3), deadline);
            call.reply.ok();
            Outcome::Done
        }
        Err(error) => call.fail(&error),
    }
}

pub(super) fn setnx(call: &mut Call<'_>) -> Outcome {
    let (key, now) = (call.key(), call.millis());
    let is_free = !call.note_use(key);
    if is_free {
        call.store.put(key, call.request.arg(2), None, now);
    }
    call.reply.integer(i64::from(is_free));
    Outcome::Done
}

pub(super) fn getset(call: &mut Call<'_>) -> Outcome {
    super::get(call);
    call.store.put(call.key(), call.request.arg(2), None, call.millis());
    Outcome::Done
}

pub(super) fn getex(call: &mut Call<'_>) -> Outcome {
    getex_with_options(call).unwrap_or_else(|error| call.fail(&error))
}

fn getex_with_options(call: &mut Call<'_>) -> Result<Outcome, Cow<'static, str>> {
    let options = Options::parse(Of::GetEx, call.request.args_from(2)).ok_or(errors::SYNTAX)?;
    let (key, now) = (call.key(), call.millis());
    // The time is only parsed if the key exists, as in Redis.
    let deadline = match options.lifetime {
        Some(lifetime) if call.store.peek(key, now).is_some() => match lifetime.deadline(call) {
            Ok(deadline) => deadline,
            Err(error) => {
                call.read(key);
                return Err(error);
            }
        },
        _ => None,
    };
    if options.lifetime.is_none() {
        super::get(call);
    } else {
        // The change of the expiry counts as the use.
        match call.store.look(key, now) {
            Some(entry) => call.reply.bulk(entry.value()),
            None => call.reply.null(),
        }
    }
    match (options.lifetime, deadline) {
        (None, _) => {}
        (Some(_), Some(at)) if at <= now => {
            call.store.remove(key, now);
        }
        (Some(_), deadline) => {
            call.store.set_expiry(key, deadline, now);
        }
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use crate::commands::tests::check;

    #[test]
    fn set_keeps_its_conditions() {
        check(
            "
            SET k 1 XX -> $-1
            SET k 1 NX -> +OK
            SET k 2 nx -> $-1
            SET k 2 XX -> +OK
            SET k 3 NX XX -> -ERR syntax error
            SET k 3 NX NX -> $-1
            SET k 3 IFEQ 1 -> $-1
            SET k 3 IFEQ 2 -> +OK
            SET nothing 3 IFEQ 2 -> $-1
            EXISTS nothing -> :0
            SET k 3 IFEQ -> -ERR syntax error
            SET k 3 IFEQ 3 NX -> -ERR syntax error
            SET k 3 XX IFEQ 3 -> -ERR syntax error
            SET k 3 bogus -> -ERR syntax error
            SET k 3 PERSIST -> -ERR syntax error
            GET k -> $1 3
            HELLO 3
            SET k 1 NX -> _
            ",
        );
    }

    #[test]
    fn set_gives_what_was_there() {
        check(
            "
            SET k 1 GET -> $-1
            SET k 2 GET -> $1 1
            SET k 3 NX GET -> $1 2
            SET nothing 3 XX GET -> $-1
            SET k 3 GET XX -> $1 2
            SET k 4 IFEQ 9 GET -> $1 3
            SET k 4 GET IFEQ 3 -> $1 3
            GET k -> $1 4
            GETSET k 5 -> $1 4
            GETSET new 1 -> $-1
            SET k 5 EX 10 -> +OK
            GETSET k 6 -> $1 5
            TTL k -> :-1
            SETNX k 7 -> :0
            SETNX other 7 -> :1
            ",
        );
    }

    #[test]
    fn a_value_lives_as_long_as_set_says() {
        check(
            "
            SET k v EX 10 -> +OK
            PTTL k -> :10000
            SET k v PX 10 -> +OK
            PTTL k -> :10
            SET k v EXAT 1000000010 -> +OK
            TTL k -> :10
            SET k v PXAT 1000000000020 -> +OK
            PTTL k -> :20
            SET k w KEEPTTL -> +OK
            PTTL k -> :20
            wait 19
            GET k -> $1 w
            wait 1
            GET k -> $-1
            SET k v KEEPTTL -> +OK
            TTL k -> :-1
            SET k v EX 10 -> +OK
            SET k v -> +OK
            TTL k -> :-1
            SET k v EX 1 EX 20 -> +OK
            TTL k -> :20
            SETEX k 10 v -> +OK
            PTTL k -> :10000
            PSETEX k 10 v -> +OK
            PTTL k -> :10
            ",
        );
    }

    #[test]
    fn a_time_that_is_none_is_refused() {
        check(
            "
            SET k v EX 0 -> -ERR invalid expire time in 'set' command
            SET k v PX -1 -> -ERR invalid expire time in 'set' command
            SET k v EX 9223372036854775807 -> -ERR invalid expire time in 'set' command
            SET k v PX 9223372036854775807 -> -ERR invalid expire time in 'set' command
            SET k v EX 1.5 -> -ERR value is not an integer or out of range
            SET k v EX -> -ERR syntax error
            SET k v EX 10 PX 10 -> -ERR syntax error
            SET k v EX 10 EXAT 10 -> -ERR syntax error
            SET k v EX 10 KEEPTTL -> -ERR syntax error
            SET k v KEEPTTL PXAT 10 -> -ERR syntax error
            SETEX k 0 v -> -ERR invalid expire time in 'setex' command
            PSETEX k x v -> -ERR value is not an integer or out of range
            EXISTS k -> :0
            ",
        );
    }

    /// A key that is set with a time of expiry in the past does not exist afterwards, even if it did before.
    #[test]
    fn a_time_that_has_passed_leaves_nothing() {
        check(
            "
            SET k v -> +OK
            SET k w EXAT 1 -> +OK
            GET k -> $-1
            SET k v -> +OK
            GETEX k PXAT 1000 -> $1 v
            GET k -> $-1
            RANDOMKEY -> $-1
            ",
        );
    }

    #[test]
    fn getex_changes_the_time_alone() {
        check(
            "
            SET k v -> +OK
            GETEX k -> $1 v
            TTL k -> :-1
            GETEX k EX 10 -> $1 v
            GETEX k -> $1 v
            TTL k -> :10
            GETEX k PERSIST -> $1 v
            TTL k -> :-1
            GETEX k PXAT 1000000000020 -> $1 v
            PTTL k -> :20
            GETEX k EX 0 -> -ERR invalid expire time in 'getex' command
            GETEX k EX x -> -ERR value is not an integer or out of range
            GETEX k PERSIST EX 10 -> -ERR syntax error
            GETEX k KEEPTTL -> -ERR syntax error
            GETEX k NX -> -ERR syntax error
            GETEX nothing EX 0 -> $-1
            GETEX nothing bogus -> -ERR syntax error
            ",
        );
    }
}
