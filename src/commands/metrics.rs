//! `METRICS`: the metrics of a core for Prometheus; [`crate::metrics`] has the table. On the gateway, those of all
//! cores.

use super::{Call, Command, Flags, Keys, Merge, Outcome, Route};
use crate::metrics::{Source, render};

/// The family's rows.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    Command::new("metrics", 1, Flags::LOADING.and(Flags::STALE), Keys::NONE, Route::Everywhere(Merge::Metrics), metrics)
        .doc("server", "7.2.4", "Returns metrics of the server in Prometheus's text format."),
];

fn metrics(call: &mut Call<'_>) -> Outcome {
    let clients = call.core.clients.len() + usize::from(call.is_local_client());
    let text = render(&Source { core: call.core, store: call.store, now: call.now, clients });
    call.reply.bulk(text.as_bytes());
    Outcome::Done
}
