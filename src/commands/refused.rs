//! What is refused on purpose, with a word on what to use instead. `COMMAND` does not list these.

use super::{Call, Command, Flags, Keys, Outcome, Route, Run};

const fn row(name: &'static str, run: Run) -> Command {
    Command::new(name, -1, Flags::REFUSED, Keys::NONE, Route::Here, run)
}

const fn transaction(name: &'static str, since: &'static str) -> Command {
    row(name, in_one_command).doc("transactions", since, "Refused: use a command that does it all in one.")
}

const fn replication(name: &'static str, since: &'static str) -> Command {
    row(name, by_topology).doc("server", since, "Refused: which server holds what is written in the topology file.")
}

const fn database(name: &'static str, since: &'static str) -> Command {
    row(name, one_database).doc("generic", since, "Refused: there is one database.")
}

/// The family's rows.
pub static COMMANDS: &[Command] = &[
    row("discard", discard).doc("transactions", "2.0.0", "Ends what a refused MULTI began."),
    row("exec", exec).doc("transactions", "1.2.0", "Refused: use a command that does it all in one."),
    row("migrate", by_topology).doc("generic", "2.6.0", "Refused: slots move with the topology."),
    database("move", "1.0.0"),
    row("multi", multi).doc("transactions", "1.2.0", "Refused: use a command that does it all in one."),
    replication("psync", "2.8.0"),
    replication("replicaof", "5.0.0"),
    replication("slaveof", "1.0.0"),
    database("swapdb", "4.0.0"),
    replication("sync", "1.0.0"),
    transaction("unwatch", "2.2.0"),
    transaction("watch", "2.2.0"),
];

fn refuse(call: &mut Call<'_>, instead: &str) -> Outcome {
    let name = call.command.name.to_ascii_uppercase();
    call.fail(&format!("ERR {name} is not supported: {instead}"))
}

fn in_one_command(call: &mut Call<'_>) -> Outcome {
    refuse(call, "use a command that does it all in one, such as SET with IFEQ, GETEX, MSETNX or INCRBY")
}

/// What a client sends behind MULTI is meant to run together or not at all, and it may have sent it already. None of it does.
fn multi(call: &mut Call<'_>) -> Outcome {
    if call.client.refused_multi {
        return call.fail("ERR MULTI calls can not be nested");
    }
    call.client.refused_multi = true;
    in_one_command(call)
}

fn exec(call: &mut Call<'_>) -> Outcome {
    match std::mem::take(&mut call.client.refused_multi) {
        true => call.fail("EXECABORT Transaction discarded because of previous errors."),
        false => call.fail("ERR EXEC without MULTI"),
    }
}

fn discard(call: &mut Call<'_>) -> Outcome {
    if !std::mem::take(&mut call.client.refused_multi) {
        return call.fail("ERR DISCARD without MULTI");
    }
    call.reply.ok();
    Outcome::Done
}

fn by_topology(call: &mut Call<'_>) -> Outcome {
    refuse(call, "which server holds which slots is written in the topology file (trine plan)")
}

fn one_database(call: &mut Call<'_>) -> Outcome {
    refuse(call, "there is one database, 0; use a prefix, or another server")
}

#[cfg(test)]
mod tests {
    use crate::commands::tests::check;

    #[test]
    fn who_is_refused_is_told_what_to_use_instead() {
        check(
            "MULTI -> -ERR MULTI is not supported: use a command that does it all in one, such as SET with IFEQ, GETEX, MSETNX or INCRBY
             EXEC -> -EXECABORT Transaction discarded because of previous errors.
             WATCH a -> -ERR WATCH is not supported: use a command that does it all in one, such as SET with IFEQ, GETEX, MSETNX or INCRBY
             REPLICAOF no one -> -ERR REPLICAOF is not supported: which server holds which slots is written in the topology file (trine plan)
             MOVE a 1 -> -ERR MOVE is not supported: there is one database, 0; use a prefix, or another server
             COMMAND INFO multi cluster|meet -> *2 $-1 $-1
             COMMAND LIST FILTERBY PATTERN [ms][ul][la]t* -> *0",
        );
    }

    /// Nothing runs that was meant to run in a transaction, whoever sends it without waiting for the reply to MULTI; then
    /// everything does again.
    #[test]
    fn nothing_runs_behind_a_refused_multi() {
        let refused = "-ERR MULTI is not supported: use a command that does it all in one, such as SET with IFEQ, GETEX, \
                       MSETNX or INCRBY";
        let behind =
            "-ERR MULTI was refused, so that this command was not executed: EXEC or DISCARD ends what it began";
        check(&format!(
            "EXEC -> -ERR EXEC without MULTI
             DISCARD -> -ERR DISCARD without MULTI
             MULTI -> {refused}
             MULTI -> -ERR MULTI calls can not be nested
             SET k v -> {behind}
             GET k -> {behind}
             PING -> {behind}
             GET -> -ERR wrong number of arguments for 'get' command
             WATCH k -> {behind}
             EXEC -> -EXECABORT Transaction discarded because of previous errors.
             GET k -> $-1
             EXEC -> -ERR EXEC without MULTI
             MULTI -> {refused}
             SET k v -> {behind}
             DISCARD -> +OK
             EXISTS k -> :0
             MULTI -> {refused}
             RESET -> +RESET
             SET k v -> +OK"
        ));
    }
}
