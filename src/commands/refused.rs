//! Commands that are refused on purpose, with an error that says what to use instead. `COMMAND` does not list them.

use super::{Call, Command, Flags, Keys, Outcome, Route, Run};

const fn row(name: &'static str, run: Run) -> Command {
    Command::new(name, -1, Flags::REFUSED, Keys::NONE, Route::Here, run)
}

const fn replication(name: &'static str, since: &'static str) -> Command {
    row(name, by_topology).doc("server", since, "Refused: the topology file assigns the slots to servers.")
}

const fn database(name: &'static str, since: &'static str) -> Command {
    row(name, one_database).doc("generic", since, "Refused: there is one database.")
}

/// The family's rows.
pub static COMMANDS: &[Command] = &[
    row("migrate", by_topology).doc("generic", "2.6.0", "Refused: slots move with the topology."),
    database("move", "1.0.0"),
    replication("psync", "2.8.0"),
    replication("replicaof", "5.0.0"),
    replication("slaveof", "1.0.0"),
    database("swapdb", "4.0.0"),
    replication("sync", "1.0.0"),
];

fn refuse(call: &mut Call<'_>, instead: &str) -> Outcome {
    let name = call.command.name.to_ascii_uppercase();
    call.fail(&format!("ERR {name} is not supported: {instead}"))
}

fn by_topology(call: &mut Call<'_>) -> Outcome {
    refuse(call, "the topology file assigns the slots to servers (trine plan)")
}

fn one_database(call: &mut Call<'_>) -> Outcome {
    refuse(call, "there is only database 0: use a prefix, or another server")
}

#[cfg(test)]
mod tests {
    use crate::commands::tests::check;

    #[test]
    fn refusals_say_what_to_use_instead() {
        check(
            "REPLICAOF no one -> -ERR REPLICAOF is not supported: the topology file assigns the slots to servers (trine plan)
             MOVE a 1 -> -ERR MOVE is not supported: there is only database 0: use a prefix, or another server
             COMMAND INFO move cluster|meet -> *2 $-1 $-1
             COMMAND LIST FILTERBY PATTERN [mrs][opl][la][vi]* -> *0",
        );
    }
}
