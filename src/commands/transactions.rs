//! Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH. The shard queues and executes commands
//! (`shard/transactions.rs`), since any command may be in a transaction; these rows do the rest.

use super::{Call, Command, Flags, Keys, Outcome, Route, Run};
use crate::{
    store::Key,
    transaction::{Home, Watches},
};

const FLAGS: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const FAST: Flags = FLAGS.and(Flags::FAST).and(Flags::ALLOW_BUSY);

const fn row(name: &'static str, flags: Flags, run: Run) -> Command {
    Command::new(name, 1, flags, Keys::NONE, Route::Here, run)
}

/// The family's rows.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    row("discard", FAST, discard).doc("transactions", "2.0.0",
        "Discards a transaction."),
    row("exec", FLAGS.and(Flags::SKIP_SLOWLOG), exec).doc("transactions", "1.2.0",
        "Executes all commands in a transaction."),
    row("multi", FAST, multi).doc("transactions", "1.2.0",
        "Starts a transaction."),
    row("unwatch", FAST, unwatch).doc("transactions", "2.2.0",
        "Forgets about watched keys of a transaction."),
    Command::new("watch", -2, FAST.and(Flags::NO_VALUES), Keys::ALL, Route::Watch, watch).doc("transactions", "2.2.0",
        "Monitors changes to keys to determine the execution of a transaction."),
];

fn is_open(call: &Call<'_>) -> bool {
    call.client.transaction.as_ref().is_some_and(|transaction| transaction.is_open)
}

fn multi(call: &mut Call<'_>) -> Outcome {
    if is_open(call) {
        return call.fail("ERR MULTI calls can not be nested");
    }
    call.client.transaction.get_or_insert_default().is_open = true;
    call.reply.ok();
    Outcome::Done
}

/// Executes EXEC without a transaction; with one, the shard executes it.
fn exec(call: &mut Call<'_>) -> Outcome {
    call.fail("ERR EXEC without MULTI")
}

fn discard(call: &mut Call<'_>) -> Outcome {
    if !is_open(call) {
        return call.fail("ERR DISCARD without MULTI");
    }
    call.client.transaction = None;
    call.reply.ok();
    Outcome::Done
}

fn unwatch(call: &mut Call<'_>) -> Outcome {
    // If it was queued, there is no transaction any more: EXEC has taken it, with its watches.
    call.client.transaction = None;
    call.reply.ok();
    Outcome::Done
}

/// Watches keys of this core. If the client's connection is on another core, the reply is the watches, which that core
/// keeps.
fn watch(call: &mut Call<'_>) -> Outcome {
    if is_open(call) {
        return call.fail("ERR WATCH inside MULTI is not allowed");
    }
    let (mut watches, now) = (Watches::default(), call.millis());
    for key in call.request.args_from(1) {
        watches.add(call.store.watch(Key::of(key), now));
    }
    if !call.is_local_client() {
        call.reply.bulk(&watches.encode());
        return Outcome::Done;
    }
    let home = Home { slot: call.slot, core: call.core.me.core };
    let transaction = call.client.transaction.get_or_insert_default();
    transaction.home.get_or_insert(home);
    watches.iter().for_each(|&watch| transaction.watch(watch));
    call.reply.ok();
    Outcome::Done
}

#[cfg(test)]
mod tests;
