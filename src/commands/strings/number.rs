//! Numbers in strings: `INCR` and what is like it.

use super::long_double::LongDouble;
use crate::{
    commands::{Call, Outcome, errors},
    resp::{decimal_signed, parse_i64},
};

const NOT_A_FLOAT: &str = "ERR value is not a valid float";

pub(super) fn incr(call: &mut Call<'_>) -> Outcome {
    add(call, 1)
}

pub(super) fn decr(call: &mut Call<'_>) -> Outcome {
    add(call, -1)
}

pub(super) fn incrby(call: &mut Call<'_>) -> Outcome {
    match parse_i64(call.request.arg(2)) {
        Some(change) => add(call, change),
        None => call.fail(errors::NOT_AN_INTEGER),
    }
}

pub(super) fn decrby(call: &mut Call<'_>) -> Outcome {
    let Some(change) = parse_i64(call.request.arg(2)) else { return call.fail(errors::NOT_AN_INTEGER) };
    match change.checked_neg() {
        Some(change) => add(call, change),
        None => call.fail("ERR decrement would overflow"),
    }
}

fn add(call: &mut Call<'_>, change: i64) -> Outcome {
    let (key, now) = (call.key(), call.millis());
    let (value, expires_at) = match call.store.peek(key, now) {
        Some(entry) => (parse_i64(entry.value()), entry.expires_at()),
        None => (Some(0), None),
    };
    let Some(value) = value else { return call.fail(errors::NOT_AN_INTEGER) };
    let Some(sum) = value.checked_add(change) else {
        return call.fail("ERR increment or decrement would overflow");
    };
    // The reply is the value behind a colon, so its digits are made once.
    let start = call.reply.output.len() + 1;
    call.reply.output.push(b':');
    decimal_signed(call.reply.output, sum);
    call.store.put(key, &call.reply.output[start..], expires_at, now);
    call.reply.output.extend_from_slice(b"\r\n");
    Outcome::Done
}

pub(super) fn incrbyfloat(call: &mut Call<'_>) -> Outcome {
    let (key, now) = (call.key(), call.millis());
    let (value, expires_at) = match call.store.peek(key, now) {
        Some(entry) => (LongDouble::parse(entry.value()), entry.expires_at()),
        None => (Some(LongDouble::ZERO), None),
    };
    let (Some(value), Some(change)) = (value, LongDouble::parse(call.request.arg(2))) else {
        return call.fail(NOT_A_FLOAT);
    };
    let Some(sum) = value.add(change) else { return call.fail("ERR increment would produce NaN or Infinity") };
    let text = sum.to_string();
    call.store.put(key, text.as_bytes(), expires_at, now);
    call.reply.bulk(text.as_bytes());
    Outcome::Done
}
