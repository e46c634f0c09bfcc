//! Commands about the server as a whole. On a core's port they are about that core.

mod latency;
mod slow;

use super::{Call, Command, Flags, Keys, Merge, Outcome, Route, Run, errors};
use crate::{resp::parse_i64, store::Policy};
use std::time::Duration;

const PLAIN: Flags = Flags::LOADING.and(Flags::STALE);
const ADMIN: Flags = PLAIN.and(Flags::ADMIN).and(Flags::NOSCRIPT);

const fn row(name: &'static str, arity: i16, flags: Flags, route: Route, run: Run) -> Command {
    Command::new(name, arity, flags, Keys::NONE, route, run)
}

/// The family's rows.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    Command::container("config", &[
        row("config|get", -3, ADMIN, Route::Here, config_get).doc("server", "2.0.0",
            "Returns the effective values of configuration parameters."),
        row("config|help", 2, PLAIN, Route::Here, config_help).doc("server", "5.0.0",
            "Returns helpful text about the different subcommands."),
        row("config|resetstat", 2, ADMIN, Route::Everywhere(Merge::Ok), config_resetstat).doc("server", "2.0.0",
            "Resets the server's statistics."),
        row("config|rewrite", 2, ADMIN, Route::Here, config_rewrite).doc("server", "2.8.0",
            "Persists the effective configuration to file."),
        row("config|set", -4, ADMIN, Route::Everywhere(Merge::Here), config_set).doc("server", "2.0.0",
            "Sets configuration parameters in-flight."),
    ]).doc("server", "2.0.0", "A container for server configuration commands."),
    row("dbsize", 1, Flags::READONLY.and(Flags::FAST), Route::Everywhere(Merge::Sum), dbsize).doc("server", "1.0.0",
        "Returns the number of keys in the database."),
    row("debug", -2, ADMIN, Route::Everywhere(Merge::Ok), debug).doc("server", "1.0.0",
        "A container for debugging commands."),
    row("flushall", -1, Flags::WRITE, Route::Everywhere(Merge::Ok), flush).doc("server", "1.0.0",
        "Removes all keys from all databases."),
    row("flushdb", -1, Flags::WRITE, Route::Everywhere(Merge::Ok), flush).doc("server", "1.0.0",
        "Remove all keys from the current database."),
    Command::container("function", &[
        row("function|flush", -2, Flags::WRITE.and(Flags::NOSCRIPT), Route::Here, function_flush).doc("scripting",
            "7.0.0", "Deletes all libraries and functions."),
    ]).doc("scripting", "7.0.0", "A container for function commands."),
    Command::container("latency", latency::LATENCY).doc("server", "2.8.13",
        "A container for latency diagnostics commands."),
    row("role", 1, PLAIN.and(Flags::NOSCRIPT).and(Flags::FAST), Route::Here, role).doc("server", "2.8.12",
        "Returns the replication role."),
    row("shutdown", -1, ADMIN.and(Flags::ALLOW_BUSY).and(Flags::NO_MULTI), Route::Here, shutdown).doc("server", "1.0.0",
        "Synchronously saves the database(s) to disk and shuts down the Redis server."),
    Command::container("slowlog", slow::SLOWLOG).doc("server", "2.2.12",
        "A container for slow log commands."),
    row("time", 1, PLAIN.and(Flags::FAST), Route::Here, time).doc("server", "2.6.0",
        "Returns the server time."),
    row("wait", 3, Flags::NOSCRIPT, Route::Here, wait).doc("generic", "3.0.0",
        "Blocks until the asynchronous replication of all preceding write commands sent by the connection is completed."),
];

fn config_get(call: &mut Call<'_>) -> Outcome {
    let patterns: Vec<_> = call.request.args_from(2).collect();
    let found = call.core.config.matching(&patterns);
    call.reply.map(found.len());
    for (name, value) in found {
        call.reply.bulk(name.as_bytes());
        call.reply.bulk(&value);
    }
    Outcome::Done
}

/// Changes the core's copy of the settings. Every core does so, by whichever port the command came, and the core that
/// has the connection replies.
fn config_set(call: &mut Call<'_>) -> Outcome {
    let args: Vec<_> = call.request.args_from(2).collect();
    if !args.len().is_multiple_of(2) {
        return call.fail(errors::SYNTAX);
    }
    let pairs: Vec<_> = args.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    if let Err(text) = call.core.config.change(&pairs) {
        return call.fail(&text);
    }
    call.store.set_policy(Policy::new(&call.core.config, call.core.cores()));
    call.core.statistics.slow_log.shorten(call.core.config.slowlog_max_len);
    call.reply.ok();
    Outcome::Done
}

fn config_resetstat(call: &mut Call<'_>) -> Outcome {
    call.core.statistics.reset(call.now.monotonic_us);
    call.store.counters = Default::default();
    call.reply.ok();
    Outcome::Done
}

fn config_rewrite(call: &mut Call<'_>) -> Outcome {
    match call.core.config.config {
        None => call.fail("ERR The server is running without a config file"),
        Some(_) => call.fail("ERR CONFIG REWRITE is not supported: the configuration file is only read; edit it"),
    }
}

fn config_help(call: &mut Call<'_>) -> Outcome {
    call.help(&[
        "GET <pattern>",
        "    Return parameters matching the glob-like <pattern> and their values.",
        "SET <directive> <value>",
        "    Set the configuration <directive> to <value>.",
        "RESETSTAT",
        "    Reset statistics reported by the INFO command.",
        "REWRITE",
        "    Rewrite the configuration file.",
    ])
}

fn dbsize(call: &mut Call<'_>) -> Outcome {
    call.reply.integer(call.store.len() as i64);
    Outcome::Done
}

/// Returns true if the argument at `index`, which is optional and the last, is `ASYNC` or `SYNC`. Both mean the same
/// here.
fn is_flush_mode(call: &Call<'_>, index: usize) -> bool {
    let is_mode = call.is(index, "ASYNC") || call.is(index, "SYNC");
    call.request.len() <= index || (call.request.len() == index + 1 && is_mode)
}

fn flush(call: &mut Call<'_>) -> Outcome {
    if !is_flush_mode(call, 1) {
        return call.fail(errors::SYNTAX);
    }
    call.store.clear();
    call.reply.ok();
    Outcome::Done
}

/// Does nothing, since there are no functions: test suites begin with this command.
fn function_flush(call: &mut Call<'_>) -> Outcome {
    if !is_flush_mode(call, 2) {
        return call.fail("ERR FUNCTION FLUSH only supports SYNC|ASYNC option");
    }
    call.reply.ok();
    Outcome::Done
}

fn time(call: &mut Call<'_>) -> Outcome {
    let us = call.now.unix_us;
    call.reply.array(2);
    call.reply.bulk((us / 1_000_000).to_string().as_bytes());
    call.reply.bulk((us % 1_000_000).to_string().as_bytes());
    Outcome::Done
}

fn role(call: &mut Call<'_>) -> Outcome {
    call.reply.array(3);
    call.reply.bulk(b"master");
    call.reply.integer(0);
    call.reply.array(0);
    Outcome::Done
}

/// Replies with 0 at once: there are no replicas, so no wait would change that.
fn wait(call: &mut Call<'_>) -> Outcome {
    if parse_i64(call.request.arg(1)).is_none() {
        return call.fail(errors::NOT_AN_INTEGER);
    }
    match parse_i64(call.request.arg(2)) {
        None => call.fail("ERR timeout is not an integer or out of range"),
        Some(..0) => call.fail("ERR timeout is negative"),
        Some(_) => {
            call.reply.integer(0);
            Outcome::Done
        }
    }
}

fn shutdown(call: &mut Call<'_>) -> Outcome {
    let mut aborts = false;
    for index in 1..call.request.len() {
        aborts |= call.is(index, "ABORT");
        if !["NOSAVE", "SAVE", "NOW", "FORCE", "ABORT"].iter().any(|word| call.is(index, word)) {
            return call.fail(errors::SYNTAX);
        }
    }
    match (aborts, call.request.len()) {
        (true, 2) => call.fail("ERR No shutdown in progress."),
        (true, _) => call.fail(errors::SYNTAX),
        // As in Redis, the end of the connection is the reply.
        (false, _) => Outcome::Shutdown,
    }
}

const NO_DEBUG: &str = "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.";

fn debug(call: &mut Call<'_>) -> Outcome {
    if !call.core.config.debug_commands {
        return call.fail(NO_DEBUG);
    }
    if call.is(1, "SLEEP") && call.request.len() == 3 {
        // Like `strtod` in Redis: a text that is not a number counts as 0.
        let seconds = call.text(2).parse().unwrap_or(0.0);
        call.reply.ok();
        return Outcome::Stall(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    }
    if call.is(1, "SET-ACTIVE-EXPIRE") && call.request.len() == 3 {
        call.store.sweeps = call.request.arg(2) != b"0";
        call.reply.ok();
        return Outcome::Done;
    }
    if call.is(1, "HELP") {
        return call.help(&[
            "SET-ACTIVE-EXPIRE <0|1>",
            "    Setting it to 0 disables expiring keys (and hash-fields) in background",
            "    when they are not accessed (otherwise the Redis behavior).",
            "SLEEP <seconds>",
            "    Stop the server for <seconds>. Decimals allowed.",
        ]);
    }
    let name = call.text(1);
    call.fail(&format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try DEBUG HELP."))
}

#[cfg(test)]
mod tests;
