//! Commands about snapshots, and `READY`: the server has its data and accepts writes.

use super::{Call, Command, Flags, Keys, Merge, Outcome, Route, Run, errors};

const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::NO_ASYNC_LOADING);
const LASTSAVE: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);

const READY: Flags = LASTSAVE.and(Flags::NO_AUTH).and(Flags::NOSCRIPT);

const fn row(name: &'static str, arity: i16, flags: Flags, route: Route, run: Run) -> Command {
    Command::new(name, arity, flags, Keys::NONE, route, run)
}

/// The family's rows.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    row("bgsave", -1, ADMIN, Route::Everywhere(Merge::Ok), bgsave).doc("server", "1.0.0",
        "Asynchronously saves the database(s) to disk."),
    row("lastsave", 1, LASTSAVE, Route::Everywhere(Merge::Least), lastsave).doc("server", "1.0.0",
        "Returns the Unix timestamp of the last successful save to disk."),
    row("ready", 1, READY, Route::Everywhere(Merge::Ok), ready).doc("server", "7.2.4",
        "Returns OK if the server has loaded its data and accepts writes, or else the error of a write. Trine's own."),
    row("save", 1, ADMIN.and(Flags::NO_MULTI), Route::Everywhere(Merge::Ok), save).doc("server", "1.0.0",
        "Synchronously saves the database(s) to disk."),
];

const NO_DIRECTORY: &str = "ERR there is no data directory to save to: start the server with --dir DIR";
const IN_PROGRESS: &str = "ERR Background save already in progress";

fn bgsave(call: &mut Call<'_>) -> Outcome {
    let schedule = call.is(1, "SCHEDULE");
    if 2 < call.request.len() || (call.request.len() == 2 && !schedule) {
        return call.fail(errors::SYNTAX);
    }
    match refusal(call) {
        Some(text) if !(schedule && text == IN_PROGRESS) => return call.fail(text),
        Some(_) => call.reply.simple("Background saving scheduled"),
        None => call.reply.simple("Background saving started"),
    }
    call.core.persistence.wants_snapshot = true;
    Outcome::Done
}

/// Asks for a snapshot; the reply follows when it is finished. Unlike in Redis, other clients are served meanwhile.
fn save(call: &mut Call<'_>) -> Outcome {
    if let Some(text) = refusal(call) {
        return call.fail(text);
    }
    call.core.persistence.wants_snapshot = true;
    Outcome::Save
}

fn refusal(call: &Call<'_>) -> Option<&'static str> {
    let persistence = &call.core.persistence;
    if !persistence.has_directory {
        return Some(NO_DIRECTORY);
    }
    (persistence.wants_snapshot || persistence.snapshot_since.is_some()).then_some(IN_PROGRESS)
}

/// Replies with the time of the last save; before the first, as in Redis, with that of the start.
fn lastsave(call: &mut Call<'_>) -> Outcome {
    call.reply.integer((call.core.last_save().0 / 1000) as i64);
    Outcome::Done
}

/// Replies with the error that a write would get, or `OK`: for load balancers and orchestrators.
fn ready(call: &mut Call<'_>) -> Outcome {
    let persistence = &call.core.persistence;
    if persistence.is_loading {
        return call.fail(errors::LOADING);
    }
    if let Some(reason) = persistence.refusal {
        return call.fail(reason);
    }
    if call.store.is_full() {
        return call.fail(errors::OUT_OF_MEMORY);
    }
    call.reply.ok();
    Outcome::Done
}
