//! `SET` and what is like it: a value with conditions and a time to live.

use crate::{
    commands::{Call, Outcome, errors},
    resp::parse_i64,
    store::UnixMillis,
};
use std::borrow::Cow;

/// What `SET` and `GETEX` may be told behind their key and value.
#[derive(Default)]
struct Options<'a> {
    condition: Condition<'a>,
    /// Whether the reply is the value that was there.
    get: bool,
    lifetime: Option<Lifetime<'a>>,
}

/// When `SET` sets.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Condition<'a> {
    #[default]
    Always,
    /// `NX`: if there is no such key.
    Absent,
    /// `XX`: if there is.
    Present,
    /// `IFEQ`: if it has this value.
    Equal(&'a [u8]),
}

/// How long a key lives, as the client wrote it.
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

/// Which of the two commands the options are for.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Of {
    Set,
    GetEx,
}

impl<'a> Options<'a> {
    /// Reads options. One may be repeated, and its last argument counts, but may not stand beside another of its kind.
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

    /// Whether both are the same option, whatever their arguments.
    fn is_like(self, other: Lifetime<'_>) -> bool {
        match (self, other) {
            (Self::For(unit, _), Lifetime::For(other, _)) | (Self::Until(unit, _), Lifetime::Until(other, _)) => {
                unit == other
            }
            _ => std::mem::discriminant(&self) == std::mem::discriminant(&other),
        }
    }

    /// The time that a client named, absolute; `None` where it leaves or takes away what there is.
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
    }
    match (options.get, sets) {
        (true, _) => {}
        (false, true) => call.reply.ok(),
        (false, false) => call.reply.null(),
    }
    Ok(Outcome::Done)
}

/// Gives the call's key this value. Where its time has come already, it is gone.
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
    let is_free = call.store.peek(key, now).is_none();
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
    // The time is looked at only where there is a key, as in Redis.
    let deadline = match options.lifetime {
        Some(lifetime) if call.store.peek(key, now).is_some() => lifetime.deadline(call)?,
        _ => None,
    };
    super::get(call);
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
