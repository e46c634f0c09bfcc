//! When keys expire: setting it, asking for it.

use crate::{
    commands::{Call, Outcome, errors},
    resp::parse_i64,
    store::UnixMillis,
};

/// When a new expiry is set, by what there is. A key that doesn't expire lives longer than any that does.
#[derive(Clone, Copy, Default)]
struct Conditions {
    /// `NX`: only where there is none.
    absent: bool,
    /// `XX`: only where there is one.
    present: bool,
    /// `GT`: only to a later time.
    later: bool,
    /// `LT`: only to an earlier time.
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

/// Sets an expiry given in units of `scale` milliseconds from `start` on. A time that has passed removes the key.
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
    }
    call.reply.integer(i64::from(is_set));
    Outcome::Done
}

pub(super) fn persist(call: &mut Call<'_>) -> Outcome {
    let (key, now) = (call.key(), call.millis());
    let expires = call.store.peek(key, now).is_some_and(|entry| entry.expires_at().is_some());
    if expires {
        call.store.set_expiry(key, None, now);
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

/// To the nearest second, as in Redis.
fn to_seconds(milliseconds: u64) -> u64 {
    (milliseconds + 500) / 1000
}

/// Answers with a live key's expiry as `shown`; -1 where it has none, -2 where there is no key.
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
