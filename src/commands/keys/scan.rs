//! Scans of all keys of a shard.

use crate::{
    commands::{Call, Outcome, errors},
    glob,
    resp::parse_i64,
    store::{Cursor, Entry},
};

/// The keys that `SCAN` visits without `COUNT`.
const COUNT_DEFAULT: usize = 10;
/// The most keys that `SCAN` visits, so that it blocks the core for about a millisecond at most. The client goes on
/// with the cursor, as it must be prepared to do anyway.
const COUNT_MAX: usize = 10_000;

/// The options of `SCAN`: the number of keys to visit, and the keys to show.
struct Options<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    /// True if the client asks for a type that no key has.
    is_empty: bool,
}

impl<'a> Options<'a> {
    fn parse(mut words: impl Iterator<Item = &'a [u8]>) -> Result<Self, &'static str> {
        let mut options = Self { count: COUNT_DEFAULT, pattern: None, is_empty: false };
        while let Some(word) = words.next() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if !is("count") && !is("match") && !is("type") {
                return Err(errors::SYNTAX);
            }
            let value = words.next().ok_or(errors::SYNTAX)?;
            if is("match") {
                options.pattern = Some(value).filter(|&pattern| pattern != b"*");
            } else if is("type") {
                options.is_empty = !value.eq_ignore_ascii_case(b"string");
            } else {
                let count = parse_i64(value).ok_or(errors::NOT_AN_INTEGER)?;
                if count < 1 {
                    return Err(errors::SYNTAX);
                }
                options.count = (count as usize).min(COUNT_MAX);
            }
        }
        Ok(options)
    }

    fn shows(&self, entry: &Entry) -> bool {
        !self.is_empty && self.pattern.is_none_or(|pattern| glob::matches(pattern, entry.key()))
    }
}

pub(super) fn scan(call: &mut Call<'_>) -> Outcome {
    let Some(cursor) = parse_cursor(call.request.arg(1)) else { return call.fail("ERR invalid cursor") };
    let options = match Options::parse(call.request.args_from(2)) {
        Ok(options) => options,
        Err(error) => return call.fail(error),
    };
    let (mut keys, mut gone, now) = (Vec::new(), Vec::new(), call.millis());
    let next = call.store.scan_all(cursor, options.count, now, &mut gone, |entry| {
        if options.shows(entry) {
            keys.push(entry.key());
        }
    });
    call.reply.array(2);
    call.reply.bulk(next.to_number().to_string().as_bytes());
    call.reply.array(keys.len());
    keys.iter().for_each(|key| call.reply.bulk(key));
    call.store.expire_all(&gone, now);
    Outcome::Done
}

/// Parses a cursor: a decimal number, with any number of leading zeros.
fn parse_cursor(text: &[u8]) -> Option<Cursor> {
    if text.is_empty() {
        return None;
    }
    let number = text.iter().try_fold(0_u64, |sum, &byte| {
        let digit = char::from(byte).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    });
    number.map(Cursor::from_number)
}

/// Replies with all keys at once, and so blocks the core for as long as that takes; `SCAN` does not.
pub(super) fn keys(call: &mut Call<'_>) -> Outcome {
    let (pattern, limit) = (call.request.arg(1), call.core.config.output_hard_limit);
    let (mut keys, mut gone, mut bytes, now) = (Vec::new(), Vec::new(), 0, call.millis());
    call.store.scan_all(Cursor::START, usize::MAX, now, &mut gone, |entry| {
        if bytes <= limit && (pattern == b"*" || glob::matches(pattern, entry.key())) {
            bytes += entry.key().len() + BULK_BYTES;
            keys.push(entry.key());
        }
    });
    if limit < bytes {
        return call.fail("ERR the reply is larger than output-hard-limit: use SCAN");
    }
    call.reply.array(keys.len());
    keys.iter().for_each(|key| call.reply.bulk(key));
    call.store.expire_all(&gone, now);
    Outcome::Done
}

/// The bytes of a short bulk string in a reply, besides its own.
const BULK_BYTES: usize = 8;

pub(super) fn randomkey(call: &mut Call<'_>) -> Outcome {
    match call.store.random_key(call.millis()) {
        Some(key) => call.reply.bulk(key),
        None => call.reply.null(),
    }
    Outcome::Done
}

#[cfg(test)]
mod tests {
    use super::COUNT_MAX;
    use crate::commands::tests::{Bench, check, check_on};

    #[test]
    fn a_scan_shows_what_it_is_asked_for() {
        check(
            "
            SCAN 0 -> *2 $1 0 *0
            SET key v -> +OK
            SCAN 0 -> *2 $1 0 *1 $3 key
            SCAN 0 MATCH k* COUNT 5 -> *2 $1 0 *1 $3 key
            SCAN 0 MATCH x* -> *2 $1 0 *0
            SCAN 0 TYPE String -> *2 $1 0 *1 $3 key
            SCAN 0 TYPE hash -> *2 $1 0 *0
            SCAN x -> -ERR invalid cursor
            SCAN 0 COUNT 0 -> -ERR syntax error
            SCAN 0 COUNT x -> -ERR value is not an integer or out of range
            SCAN 0 COUNT -> -ERR syntax error
            SCAN 0 bogus 1 -> -ERR syntax error
            PEXPIRE key 10 -> :1
            wait 10
            SCAN 0 -> *2 $1 0 *0
            KEYS * -> *0
            RANDOMKEY -> $-1
            ",
        );
    }

    #[test]
    fn keys_shows_all_that_match() {
        check(
            "
            MSET {k}1 a {k}2 b -> +OK
            KEYS {k}1 -> *1 $4 {k}1
            KEYS *2 -> *1 $4 {k}2
            KEYS x -> *0
            DEL {k}1 -> :1
            KEYS * -> *1 $4 {k}2
            RANDOMKEY -> $4 {k}2
            ",
        );
    }

    /// A call visits a bounded number of keys for any COUNT; its cursor leads to the others.
    #[test]
    fn one_call_does_not_stop_the_core() {
        let mut bench = Bench::new();
        for number in 0..COUNT_MAX + 1 {
            bench.line(&format!("SET {number} v"));
        }
        let reply = bench.line("SCAN 0 COUNT 1000000");
        let (cursor, rest) = reply.strip_prefix("*2 $").and_then(|reply| reply.split_once(" *")).expect("two elements");
        assert!(rest.starts_with(&COUNT_MAX.to_string()));
        let cursor = cursor.split_once(' ').expect("a length and a cursor").1;
        assert!(bench.line(&format!("SCAN {cursor}")).starts_with("*2 $1 0 *1 "));
    }
    /// If there are more keys than a reply may hold, the client gets an error that says what to use instead, and stays
    /// connected.
    #[test]
    fn keys_shows_no_more_than_a_reply_may_hold() {
        let mut bench = Bench::new();
        bench.shard.core.config.output_hard_limit = 99;
        check_on(
            &mut bench,
            "
            MSET ant 1 bee 1 cat 1 dog 1 elk 1 fox 1 gnu 1 hen 1 ibis 1 -> +OK
            KEYS * -> -ERR the reply is larger than output-hard-limit: use SCAN
            KEYS b* -> *1 $3 bee
            DEL ibis -> :1
            ",
        );
        assert!(bench.line("KEYS *").starts_with("*8 $3 "));
        assert!(!bench.client.closing);
    }
}
