//! `SLOWLOG`: the last commands that took long.

use crate::{
    commands::{Call, Command, Flags, Keys, Merge, Outcome, Route, Run},
    resp::parse_i64,
};

const PLAIN: Flags = Flags::LOADING.and(Flags::STALE);
const ADMIN: Flags = PLAIN.and(Flags::ADMIN);

const fn row(name: &'static str, arity: i16, flags: Flags, route: Route, run: Run) -> Command {
    Command::new(name, arity, flags, Keys::NONE, route, run)
}

/// The subcommands of `SLOWLOG`. On the gateway, the slow log is that of each core, one core's behind the other's.
#[rustfmt::skip]
pub(super) static SLOWLOG: &[Command] = &[
    row("slowlog|get", -2, ADMIN, Route::Everywhere(Merge::Elements), slowlog_get).doc("server", "2.2.12",
        "Returns the slow log's entries."),
    row("slowlog|help", 2, PLAIN, Route::Here, slowlog_help).doc("server", "6.2.0",
        "Show helpful text about the different subcommands"),
    row("slowlog|len", 2, ADMIN, Route::Everywhere(Merge::Sum), slowlog_len).doc("server", "2.2.12",
        "Returns the number of entries in the slow log."),
    row("slowlog|reset", 2, ADMIN, Route::Everywhere(Merge::Ok), slowlog_reset).doc("server", "2.2.12",
        "Clears all entries from the slow log."),
];

/// The entries that `SLOWLOG GET` shows without a count, as in Redis.
const SHOWN: usize = 10;

fn slowlog_get(call: &mut Call<'_>) -> Outcome {
    if 3 < call.request.len() {
        let name = call.text(1);
        return call
            .fail(&format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try SLOWLOG HELP."));
    }
    let count = match call.request.get(2).map(parse_i64) {
        None => SHOWN,
        Some(Some(-1)) => usize::MAX,
        Some(Some(count @ 0..)) => count as usize,
        Some(_) => return call.fail("ERR count should be greater than or equal to -1"),
    };
    let (core, cores) = (u64::from(call.core.me.core), u64::from(call.core.cores()));
    let log = &call.core.statistics.slow_log;
    let reply = &mut call.reply;
    reply.array(log.iter().len().min(count));
    for slow in log.iter().take(count) {
        reply.array(6);
        // Unique in the server.
        reply.integer((slow.id * cores + core) as i64);
        reply.integer(slow.unix_seconds as i64);
        reply.integer(slow.us as i64);
        reply.array(slow.args.len());
        slow.args.iter().for_each(|arg| reply.bulk(arg));
        reply.bulk(slow.client_address.as_bytes());
        reply.bulk(slow.client_name.as_bytes());
    }
    Outcome::Done
}

fn slowlog_len(call: &mut Call<'_>) -> Outcome {
    call.reply.integer(call.core.statistics.slow_log.iter().len() as i64);
    Outcome::Done
}

fn slowlog_reset(call: &mut Call<'_>) -> Outcome {
    call.core.statistics.slow_log.clear();
    call.reply.ok();
    Outcome::Done
}

fn slowlog_help(call: &mut Call<'_>) -> Outcome {
    call.help(&[
        "GET [<count>]",
        "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
        "    Entries are made of:",
        "    id, timestamp, time in microseconds, arguments array, client IP and port,",
        "    client name",
        "LEN",
        "    Return the length of the slowlog.",
        "RESET",
        "    Reset the slowlog.",
    ])
}
