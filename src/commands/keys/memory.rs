//! `MEMORY`: the use of memory. As in `INFO`, it is that of keys and values, by the store's own count.

use crate::{
    commands::{Call, Command, Flags, Keys, Merge, Outcome, Route, Run, errors},
    resp::parse_i64,
    store::Entry,
};

const fn row(name: &'static str, flags: Flags, route: Route, run: Run) -> Command {
    Command::new(name, 2, flags, Keys::NONE, route, run)
}

/// The subcommands of `MEMORY`.
#[rustfmt::skip]
pub(super) static MEMORY: &[Command] = &[
    row("memory|doctor", Flags::NONE, Route::Everywhere(Merge::Lines), doctor).doc("server", "4.0.0",
        "Outputs a memory problems report."),
    row("memory|help", Flags::LOADING.and(Flags::STALE), Route::Here, help).doc("server", "4.0.0",
        "Returns helpful text about the different subcommands."),
    row("memory|malloc-stats", Flags::NONE, Route::Here, malloc_stats).doc("server", "4.0.0",
        "Returns the allocator statistics."),
    row("memory|purge", Flags::NONE, Route::Here, purge).doc("server", "4.0.0",
        "Asks the allocator to release memory."),
    row("memory|stats", Flags::NONE, Route::Everywhere(Merge::Sums), stats).doc("server", "4.0.0",
        "Returns details about memory usage."),
    Command::new("memory|usage", -3, Flags::READONLY.and(Flags::NO_VALUES), Keys::SECOND, Route::Keys, usage).doc("server", "4.0.0",
        "Estimates the memory usage of a key."),
];

/// The least memory of a core that is judged, as in Redis.
const JUDGED_BYTES_MIN: usize = 5 << 20;

/// Replies with one line for each core, which the gateway can concatenate.
fn doctor(call: &mut Call<'_>) -> Outcome {
    let (used, peak) = used_and_peak(call);
    let finding = if used < JUDGED_BYTES_MIN {
        "too little memory is used to find anything"
    } else if used + used / 2 < peak {
        "the peak of used memory is more than 1.5 times the present use; resident memory beyond the present use is left \
         from the peak, and will be used again"
    } else {
        "no issue was found"
    };
    call.reply.verbatim(format!("core {}: {finding}\n", call.core.me.core).as_bytes());
    Outcome::Done
}

/// Replies in Redis's words for an allocator without statistics.
fn malloc_stats(call: &mut Call<'_>) -> Outcome {
    call.reply.bulk(b"Stats not supported for the current allocator");
    Outcome::Done
}

/// Does nothing: freed memory goes back to the allocator with the next ticks anyway, and from there to the system if it
/// stays free.
fn purge(call: &mut Call<'_>) -> Outcome {
    call.reply.ok();
    Outcome::Done
}

/// Replies with those of Redis's fields that can be added up over cores.
fn stats(call: &mut Call<'_>) -> Outcome {
    let (used, peak) = used_and_peak(call);
    let owed = |client: &crate::client::Client| client.input_bytes + client.output_bytes;
    let buffers: usize = call.core.clients.iter().map(|(_, client)| owed(client)).sum();
    let fields = [
        ("peak.allocated", peak),
        ("total.allocated", used),
        ("clients.normal", buffers),
        ("keys.count", call.store.len()),
    ];
    call.reply.map(fields.len());
    for (name, number) in fields {
        call.reply.bulk(name.as_bytes());
        call.reply.integer(number as i64);
    }
    Outcome::Done
}

fn used_and_peak(call: &Call<'_>) -> (usize, usize) {
    let used = call.store.memory();
    (used, call.core.statistics.memory_peak.max(used))
}

/// Replies with the bytes of the entry and of its place in the table. `SAMPLES` is for values of several elements, and
/// has no effect on a string.
fn usage(call: &mut Call<'_>) -> Outcome {
    let mut words = call.request.args_from(3);
    while let Some(word) = words.next() {
        let (true, Some(samples)) = (word.eq_ignore_ascii_case(b"samples"), words.next()) else {
            return call.fail(errors::SYNTAX);
        };
        match parse_i64(samples) {
            None => return call.fail(errors::NOT_AN_INTEGER),
            Some(..0) => return call.fail(errors::SYNTAX),
            Some(_) => {}
        }
    }
    match call.store.probe(call.key(), call.millis()) {
        None => call.reply.null(),
        Some(entry) => call.reply.integer((entry.memory() + size_of::<Entry>()) as i64),
    }
    Outcome::Done
}

fn help(call: &mut Call<'_>) -> Outcome {
    call.help(&[
        "DOCTOR",
        "    Return memory problems reports.",
        "MALLOC-STATS",
        "    Return internal statistics report from the memory allocator.",
        "PURGE",
        "    Attempt to purge dirty pages for reclamation by the allocator.",
        "STATS",
        "    Return information about the memory usage of the server.",
        "USAGE <key> [SAMPLES <count>]",
        "    Return memory in bytes used by <key> and its value. Nested values are",
        "    sampled up to <count> times (default: 5, 0 means sample all).",
    ])
}

#[cfg(test)]
mod tests {
    use crate::commands::tests::{Bench, check, check_on};

    #[test]
    fn memory_usage_is_that_of_the_entry() {
        check(
            "
            SET k v -> +OK
            MEMORY USAGE k -> :24
            MEMORY USAGE k SAMPLES 5 -> :24
            MEMORY USAGE k SAMPLES -1 -> -ERR syntax error
            MEMORY USAGE k SAMPLES x -> -ERR value is not an integer or out of range
            MEMORY USAGE k SAMPLES -> -ERR syntax error
            MEMORY USAGE k bogus -> -ERR syntax error
            MEMORY USAGE nothing -> $-1
            MEMORY bogus -> -ERR unknown subcommand 'bogus'. Try MEMORY HELP.
            ",
        );
    }

    #[test]
    fn help_is_a_list_of_lines() {
        let help = Bench::new().line("MEMORY HELP");
        assert!(help.starts_with("*14 +MEMORY <subcommand> [<arg> [value] [opt] ...]."), "{help}");
    }

    /// Tools that ask about the allocator get a reply in the form of Redis, with nothing in it that is untrue.
    #[test]
    fn the_allocator_is_not_asked() {
        check(
            "
            MEMORY PURGE -> +OK
            MEMORY PURGE x -> -ERR wrong number of arguments for 'memory|purge' command
            MEMORY MALLOC-STATS -> $45 Stats not supported for the current allocator
            ",
        );
    }

    /// The memory in use is that of INFO.
    #[test]
    fn statistics_are_those_of_the_store() {
        let mut bench = Bench::new();
        bench.line("SET k v");
        let used = bench.shard.store.memory();
        let peak = used + 1000;
        bench.shard.core.statistics.note_memory(peak);
        let fields =
            format!("$14 peak.allocated :{peak} $15 total.allocated :{used} $14 clients.normal :0 $10 keys.count :1");
        check_on(&mut bench, &format!("MEMORY STATS -> *8 {fields}\n HELLO 3\n MEMORY STATS -> %4 {fields}"));
    }

    #[test]
    fn the_doctor_sees_what_was_used_before() {
        let mut bench = Bench::new();
        assert!(bench.line("MEMORY DOCTOR").contains(" core 0: too little memory is used"));
        bench.line("SETRANGE k 6000000 x");
        assert!(bench.line("MEMORY DOCTOR").contains(" core 0: no issue was found"));
        bench.shard.core.statistics.note_memory(16 << 20);
        assert!(bench.line("MEMORY DOCTOR").contains(" core 0: the peak of used memory is more than 1.5 times"));
    }
}
