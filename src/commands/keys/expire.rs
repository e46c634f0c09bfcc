//! The commands that set and read a key's time of expiry.

use crate::{
    commands::{Call, Outcome, errors},
    resp::parse_i64,
    store::UnixMillis,
};

/// The conditions on which a new expiry is set. A key without an expiry counts as one that lives longer than any other.
#[derive(Clone, Copy, Default)]
struct Conditions {
    /// `NX`: the key has no expiry.
    absent: bool,
    /// `XX`: the key has an expiry.
    present: bool,
    /// `GT`: the new expiry is later.
    later: bool,
    /// `LT`: the new expiry is earlier.
    earlier: bool,
}

impl Conditions {
    fn parse<'a>(words: impl Iterator<Item = &'a [u8]>) -> Result<Self, String> {
        let mut conditions = Self::default();
        for word in words {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            let condition = match () {
                () if is("nx") => &mut conditions.absent,
                () if is("xx") => &mut conditions.present,
                () if is("gt") => &mut conditions.later,
                () if is("lt") => &mut conditions.earlier,
                () => return Err(format!("ERR Unsupported option {}", String::from_utf8_lossy(word))),
            };
            *condition = true;
        }
        let Self { absent, present, later, earlier } = conditions;
        if absent && (present || later || earlier) {
            return Err("ERR NX and XX, GT or LT options at the same time are not compatible".into());
        }
        if later && earlier {
            return Err("ERR GT and LT options at the same time are not compatible".into());
        }
        Ok(conditions)
    }

    fn allow(self, before: Option<UnixMillis>, at: i64) -> bool {
        let before = before.map(|before| before.0 as i64);
        !(self.absent && before.is_some()
            || self.present && before.is_none()
            || self.later && before.is_none_or(|before| at <= before)
            || self.earlier && before.is_some_and(|before| before <= at))
    }
}

pub(super) fn expire(call: &mut Call<'_>) -> Outcome {
    set_expiry(call, 1000, call.millis().0 as i64)
}

pub(super) fn pexpire(call: &mut Call<'_>) -> Outcome {
    set_expiry(call, 1, call.millis().0 as i64)
}

pub(super) fn expireat(call: &mut Call<'_>) -> Outcome {
    set_expiry(call, 1000, 0)
}

pub(super) fn pexpireat(call: &mut Call<'_>) -> Outcome {
    set_expiry(call, 1, 0)
}

/// Sets an expiry that is given in units of `scale` milliseconds from `start` on. A time that has passed removes the
/// key.
fn set_expiry(call: &mut Call<'_>, scale: i64, start: i64) -> Outcome {
    let conditions = match Conditions::parse(call.request.args_from(3)) {
        Ok(conditions) => conditions,
        Err(error) => return call.fail(&error),
    };
    let Some(number) = parse_i64(call.request.arg(2)) else { return call.fail(errors::NOT_AN_INTEGER) };
    let Some(at) = number.checked_mul(scale).and_then(|duration| duration.checked_add(start)) else {
        return call.fail(&errors::invalid_expire_time(call));
    };
    let (key, now) = (call.key(), call.millis());
    let is_set = call.store.peek(key, now).is_some_and(|entry| conditions.allow(entry.expires_at(), at));
    if is_set {
        match u64::try_from(at) {
            Ok(at) if now < UnixMillis(at) => {
                call.store.set_expiry(key, Some(UnixMillis(at)), now);
            }
            _ => {
                call.store.remove(key, now);
            }
        }
    } else {
        call.note_use(key);
    }
    call.reply.integer(i64::from(is_set));
    Outcome::Done
}

pub(super) fn persist(call: &mut Call<'_>) -> Outcome {
    let (key, now) = (call.key(), call.millis());
    let expires = call.store.peek(key, now).is_some_and(|entry| entry.expires_at().is_some());
    if expires {
        call.store.set_expiry(key, None, now);
    } else {
        call.note_use(key);
    }
    call.reply.integer(i64::from(expires));
    Outcome::Done
}

pub(super) fn ttl(call: &mut Call<'_>) -> Outcome {
    let now = call.millis().0;
    reply_expiry(call, |at| to_seconds(at - now))
}

pub(super) fn pttl(call: &mut Call<'_>) -> Outcome {
    let now = call.millis().0;
    reply_expiry(call, |at| at - now)
}

pub(super) fn expiretime(call: &mut Call<'_>) -> Outcome {
    reply_expiry(call, to_seconds)
}

pub(super) fn pexpiretime(call: &mut Call<'_>) -> Outcome {
    reply_expiry(call, |at| at)
}

/// Returns milliseconds as seconds, rounded to the nearest, as in Redis.
fn to_seconds(milliseconds: u64) -> u64 {
    (milliseconds + 500) / 1000
}

/// Replies with a key's expiry, converted by `shown`; -1 if it has none, -2 if there is no such key.
fn reply_expiry(call: &mut Call<'_>, shown: impl Fn(u64) -> u64) -> Outcome {
    let found = call.store.look(call.key(), call.millis());
    let expiry = found.map(|entry| entry.expires_at());
    call.reply.integer(match expiry {
        None => -2,
        Some(None) => -1,
        Some(Some(UnixMillis(at))) => shown(at) as i64,
    });
    Outcome::Done
}

#[cfg(test)]
mod tests {
    use crate::commands::tests::check;

    #[test]
    fn keys_expire_when_they_should() {
        check(
            "
            SET k v -> +OK
            TTL k -> :-1
            PTTL nothing -> :-2
            EXPIRETIME k -> :-1
            PEXPIRETIME nothing -> :-2
            EXPIRE k 10 -> :1
            TTL k -> :10
            PTTL k -> :10000
            EXPIRETIME k -> :1000000010
            PEXPIRETIME k -> :1000000010000
            PEXPIRE k 1499 -> :1
            TTL k -> :1
            PEXPIRE k 1500 -> :1
            TTL k -> :2
            EXPIREAT k 1000000020 -> :1
            TTL k -> :20
            PEXPIREAT k 1000000000030 -> :1
            wait 29
            PTTL k -> :1
            wait 1
            GET k -> $-1
            EXPIRE k 10 -> :0
            ",
        );
    }

    #[test]
    fn a_time_that_has_passed_removes_the_key() {
        for command in ["EXPIRE k 0", "EXPIRE k -1", "PEXPIRE k -9223372036854775808", "EXPIREAT k 1", "PEXPIREAT k -5"]
        {
            check(&format!("SET k v -> +OK\n {command} -> :1\n EXISTS k -> :0\n {command} -> :0"));
        }
    }

    #[test]
    fn expire_keeps_its_conditions() {
        check(
            "
            SET k v -> +OK
            EXPIRE k 10 XX -> :0
            EXPIRE k 10 GT -> :0
            EXPIRE k 10 NX -> :1
            EXPIRE k 20 NX -> :0
            EXPIRE k 10 GT -> :0
            EXPIRE k 20 gt xx -> :1
            EXPIRE k 20 LT -> :0
            EXPIRE k 15 XX LT -> :1
            TTL k -> :15
            PERSIST k -> :1
            PERSIST k -> :0
            PERSIST nothing -> :0
            EXPIRE k 10 XX LT -> :0
            EXPIRE k 10 LT -> :1
            EXPIRE k 10 NX XX -> -ERR NX and XX, GT or LT options at the same time are not compatible
            EXPIRE k 10 GT NX -> -ERR NX and XX, GT or LT options at the same time are not compatible
            EXPIRE k 10 GT LT -> -ERR GT and LT options at the same time are not compatible
            EXPIRE k x bogus -> -ERR Unsupported option bogus
            EXPIRE k x -> -ERR value is not an integer or out of range
            EXPIRE k 9223372036854775 -> -ERR invalid expire time in 'expire' command
            EXPIREAT k 9223372036854776 -> -ERR invalid expire time in 'expireat' command
            EXPIREAT k -9223372036854776 -> -ERR invalid expire time in 'expireat' command
            PEXPIRE k 9223372036854775807 -> -ERR invalid expire time in 'pexpire' command
            PEXPIREAT k 9223372036854775807 -> :1
            PEXPIRETIME k -> :9223372036854775807
            ",
        );
    }
}
