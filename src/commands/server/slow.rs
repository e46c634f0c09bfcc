//! What was slow: `SLOWLOG` and `LATENCY`.

use crate::{
    commands::{Call, Command, Flags, Keys, Merge, Outcome, Route, Run},
    resp::parse_i64,
};

const PLAIN: Flags = Flags::LOADING.and(Flags::STALE);
const ADMIN: Flags = PLAIN.and(Flags::ADMIN);

const fn row(name: &'static str, arity: i16, flags: Flags, route: Route, run: Run) -> Command {
    Command::new(name, arity, flags, Keys::NONE, route, run)
}

const fn latency(name: &'static str, arity: i16, run: Run) -> Command {
    row(name, arity, ADMIN.and(Flags::NOSCRIPT), Route::Here, run)
}

/// The subcommands of `SLOWLOG`. On the gateway the log is that of each core, one behind the other.
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

/// The subcommands of `LATENCY`. No events are sampled, as in a Redis whose `latency-monitor-threshold` is 0.
#[rustfmt::skip]
pub(super) static LATENCY: &[Command] = &[
    latency("latency|doctor", 2, doctor).doc("server", "2.8.13",
        "Returns a human-readable latency analysis report."),
    row("latency|help", 2, PLAIN, Route::Here, latency_help).doc("server", "2.8.13",
        "Returns helpful text about the different subcommands."),
    latency("latency|histogram", -2, histogram).doc("server", "7.0.0",
        "Returns the cumulative distribution of latencies of a subset or all commands."),
    latency("latency|history", 3, no_samples).doc("server", "2.8.13",
        "Returns timestamp-latency samples for an event."),
    latency("latency|latest", 2, no_samples).doc("server", "2.8.13",
        "Returns the latest latency samples for all events."),
    latency("latency|reset", -2, latency_reset).doc("server", "2.8.13",
        "Resets the latency data for one or more events."),
];

/// What `SLOWLOG GET` shows if it is not told, as in Redis.
const SHOWN: usize = 10;

fn slowlog_get(call: &mut Call<'_>) -> Outcome {
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

fn no_samples(call: &mut Call<'_>) -> Outcome {
    call.reply.array(0);
    Outcome::Done
}

fn latency_reset(call: &mut Call<'_>) -> Outcome {
    call.reply.integer(0);
    Outcome::Done
}

fn doctor(call: &mut Call<'_>) -> Outcome {
    call.reply.verbatim(
        b"No events are sampled. LATENCY HISTOGRAM and INFO latencystats say how long commands take, SLOWLOG GET which \
          took long.\n",
    );
    Outcome::Done
}

/// Of each command, how many calls took at most so many microseconds; on the gateway at the core that has the
/// connection.
fn histogram(call: &mut Call<'_>) -> Outcome {
    let core = &*call.core;
    let is_asked = |name: &str| {
        let container = name.split('|').next().unwrap_or_default();
        let mut asked = call.request.args_from(2);
        let is_meant = |word: &[u8]| [name, container].iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()));
        asked.len() == 0 || asked.any(is_meant)
    };
    let mut found = Vec::new();
    for (row, counted) in core.rows.iter().zip(&core.statistics.commands) {
        // Redis counts whole microseconds: what took less stands with the first.
        let mut steps: Vec<(u64, u64)> = Vec::new();
        for (us, count) in counted.times.steps() {
            let us = us.ceil() as u64;
            match steps.last_mut() {
                Some(last) if last.0 == us => last.1 = count,
                _ => steps.push((us, count)),
            }
        }
        if !steps.is_empty() && is_asked(row.name) {
            found.push((row.name, counted.calls, steps));
        }
    }
    let reply = &mut call.reply;
    reply.map(found.len());
    for (name, calls, steps) in found {
        reply.bulk(name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.integer(calls as i64);
        reply.bulk(b"histogram_usec");
        reply.map(steps.len());
        for (us, count) in steps {
            reply.integer(us as i64);
            reply.integer(count as i64);
        }
    }
    Outcome::Done
}

fn latency_help(call: &mut Call<'_>) -> Outcome {
    call.help(&[
        "DOCTOR",
        "    Return a human readable latency analysis report.",
        "HISTORY <event>",
        "    Return time-latency samples for the <event> class.",
        "LATEST",
        "    Return the latest latency samples for all events.",
        "RESET [<event> ...]",
        "    Reset latency data of one or more <event> classes.",
        "    (default: reset all data for all event classes)",
        "HISTOGRAM [COMMAND ...]",
        "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
        "    If no commands are specified then all histograms are replied.",
    ])
}
