//! Commands on strings.

use super::{Call, Command, Flags, Keys, Outcome, Route};

/// The family's rows.
pub static COMMANDS: &[Command] = &[
    Command::new("get", 2, Flags::READONLY.and(Flags::FAST), Keys::ONE, Route::Keys, get).doc(
        "string",
        "1.0.0",
        "Returns the string value of a key.",
    ),
    Command::new("set", -3, Flags::WRITE.and(Flags::DENYOOM), Keys::ONE, Route::Keys, set).doc(
        "string",
        "1.0.0",
        "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.",
    ),
];

fn get(call: &mut Call<'_>) -> Outcome {
    match call.store.get(call.key(), call.millis()) {
        Some(entry) => call.reply.bulk(entry.value()),
        None => call.reply.null(),
    }
    Outcome::Done
}

fn set(call: &mut Call<'_>) -> Outcome {
    call.store.put(call.key(), call.request.arg(2), None, call.millis());
    call.reply.ok();
    Outcome::Done
}
