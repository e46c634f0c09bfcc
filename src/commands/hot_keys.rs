//! `HOTKEYS`: the keys with the most accesses. Each core counts its own; the gateway merges the lists of all cores.

use super::{Call, Command, Flags, Keys, Merge, Outcome, Route, errors};
use crate::{resp::parse_i64, slot::Slot};

/// The family's rows.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    Command::new("hotkeys", -1, Flags::ADMIN.and(Flags::LOADING).and(Flags::STALE), Keys::NONE,
        Route::Everywhere(Merge::Ranked), hot_keys).doc("server", "7.2.4",
        "Returns the keys with the most accesses in the last half a minute, from sampled requests."),
];

/// The number of keys in a reply without `COUNT`.
pub const SHOWN: usize = 10;
/// The field that keys are ranked by. It counts only accesses that are certain: otherwise the last of many keys that
/// are alike would be first.
pub const RANKED_BY: &str = "ops-per-sec-min";

fn hot_keys(call: &mut Call<'_>) -> Outcome {
    if call.request.len() == 2 && call.is(1, "RESET") {
        call.core.statistics.hot_keys.clear(call.now.monotonic_us);
        call.reply.array(0);
        return Outcome::Done;
    }
    let count = match (call.request.len(), call.request.get(2).map(parse_i64)) {
        (1, _) => SHOWN,
        (3, Some(Some(count @ 1..))) if call.is(1, "COUNT") => usize::try_from(count).unwrap_or(usize::MAX),
        (3, Some(_)) if call.is(1, "COUNT") => return call.fail("ERR COUNT should be greater than 0"),
        _ => return call.fail(errors::SYNTAX),
    };
    let found = call.core.statistics.hot_keys.hottest(call.now.monotonic_us);
    let reply = &mut call.reply;
    reply.array(found.len().min(count));
    for (key, heat) in found.into_iter().take(count) {
        reply.array(2);
        reply.bulk(&key.key);
        reply.map(5);
        reply.bulk(b"slot");
        reply.integer(Slot::of(&key.key).number().into());
        for (name, value) in [
            ("ops-per-sec", heat.per_second),
            (RANKED_BY, heat.per_second_min),
            ("percent", heat.percent),
            ("bytes-per-sec", heat.bytes_per_second),
        ] {
            reply.bulk(name.as_bytes());
            reply.bulk(format!("{value:.1}").as_bytes());
        }
    }
    Outcome::Done
}

#[cfg(test)]
mod tests {
    use crate::commands::tests::{Bench, check, check_on};

    /// Each key is shown with its slot, its recent accesses per second and the certain part of them, its share of all
    /// accesses on its core, and the bytes of its requests and replies.
    #[test]
    fn hot_keys_are_told_in_their_order() {
        check(
            "HOTKEYS -> *0
             SET b 1 -> +OK
             MSET a 1 a 2 a 3 -> +OK
             PING -> +PONG
             HOTKEYS COUNT 1 -> *1 *2 $1 a *10 $4 slot :15495 $11 ops-per-sec $3 3.0 $15 ops-per-sec-min $3 3.0 $7 percent $4 75.0 $13 bytes-per-sec $4 25.0
             HOTKEYS COUNT 0 -> -ERR COUNT should be greater than 0
             HOTKEYS COUNT -> -ERR syntax error
             HOTKEYS x -> -ERR syntax error
             HOTKEYS RESET -> *0
             HOTKEYS -> *0
             GET b -> $1 1
             HELLO 3
             HOTKEYS -> *1 *2 $1 b %5 $4 slot :3300 $11 ops-per-sec $3 1.0 $15 ops-per-sec-min $3 1.0 $7 percent $5 100.0 $13 bytes-per-sec $4 21.0",
        );
    }

    /// Hot keys are reset with the other statistics.
    #[test]
    fn hot_keys_are_reset_with_the_statistics() {
        let mut bench = Bench::new();
        check_on(&mut bench, "SET b 1 -> +OK\nCONFIG RESETSTAT -> +OK\nHOTKEYS -> *0");
    }
}
