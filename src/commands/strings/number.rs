//! Numbers in strings: `INCR` and its variants.

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
    let Some(value) = value else {
        call.note_use(key);
        return call.fail(errors::NOT_AN_INTEGER);
    };
    let Some(sum) = value.checked_add(change) else {
        call.note_use(key);
        return call.fail("ERR increment or decrement would overflow");
    };
    // The reply is a colon and the value, so the digits are written once.
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
        call.note_use(key);
        return call.fail(NOT_A_FLOAT);
    };
    let Some(sum) = value.add(change) else {
        call.note_use(key);
        return call.fail("ERR increment would produce NaN or Infinity");
    };
    let text = sum.to_string();
    call.store.put(key, text.as_bytes(), expires_at, now);
    call.reply.bulk(text.as_bytes());
    Outcome::Done
}

#[cfg(test)]
mod tests {
    use crate::commands::tests::check;

    #[test]
    fn numbers_are_counted_up_and_down() {
        check(
            r#"
            INCR n -> :1
            INCRBY n 41 -> :42
            DECR n -> :41
            DECRBY n -9 -> :50
            GET n -> $2 50
            EXPIRE n 10 -> :1
            DECRBY n 60 -> :-10
            TTL n -> :10
            INCRBY n x -> -ERR value is not an integer or out of range
            INCRBY n 01 -> -ERR value is not an integer or out of range
            INCRBY n " 1" -> -ERR value is not an integer or out of range
            SET s "10 " -> +OK
            INCR s -> -ERR value is not an integer or out of range
            SET s "" -> +OK
            INCR s -> -ERR value is not an integer or out of range
            "#,
        );
    }

    #[test]
    fn numbers_do_not_overflow() {
        check(
            "
            SET n 9223372036854775807 -> +OK
            INCR n -> -ERR increment or decrement would overflow
            DECRBY n -1 -> -ERR increment or decrement would overflow
            GET n -> $19 9223372036854775807
            DECRBY n -9223372036854775808 -> -ERR decrement would overflow
            INCRBY n -9223372036854775808 -> :-1
            INCRBY n -9223372036854775808 -> -ERR increment or decrement would overflow
            INCRBY n -9223372036854775807 -> :-9223372036854775808
            DECR n -> -ERR increment or decrement would overflow
            SET n 9223372036854775808 -> +OK
            INCR n -> -ERR value is not an integer or out of range
            ",
        );
    }

    #[test]
    fn floats_are_added() {
        check(
            "
            SET f 10.50 -> +OK
            INCRBYFLOAT f 0.1 -> $4 10.6
            INCRBYFLOAT f -5 -> $3 5.6
            SET f 5.0e3 EX 10 -> +OK
            INCRBYFLOAT f 2.0e2 -> $4 5200
            TTL f -> :10
            INCRBYFLOAT g -1.5 -> $4 -1.5
            INCRBYFLOAT f x -> -ERR value is not a valid float
            INCRBYFLOAT f nan -> -ERR value is not a valid float
            INCRBYFLOAT f +inf -> -ERR increment would produce NaN or Infinity
            SET s x -> +OK
            INCRBYFLOAT s 1 -> -ERR value is not a valid float
            ",
        );
    }
}
