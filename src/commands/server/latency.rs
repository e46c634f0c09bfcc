//! `LATENCY`: the events that took long.

use crate::{
    commands::{Call, Command, Flags, Keys, Merge, Outcome, Route, Run},
    statistics::{Delay, Delayed},
};

const PLAIN: Flags = Flags::LOADING.and(Flags::STALE);
const ADMIN: Flags = PLAIN.and(Flags::ADMIN).and(Flags::NOSCRIPT);

const fn row(name: &'static str, arity: i16, merge: Merge, run: Run) -> Command {
    Command::new(name, arity, ADMIN, Keys::NONE, Route::Everywhere(merge), run)
}

/// The subcommands of `LATENCY`. On the gateway, events are those of each core, one core's behind the other's, and
/// histograms are the sums over all cores.
#[rustfmt::skip]
pub(super) static LATENCY: &[Command] = &[
    row("latency|doctor", 2, Merge::Lines, doctor).doc("server", "2.8.13",
        "Returns a human-readable latency analysis report."),
    Command::new("latency|help", 2, PLAIN, Keys::NONE, Route::Here, help).doc("server", "2.8.13",
        "Returns helpful text about the different subcommands."),
    row("latency|histogram", -2, Merge::Histograms, histogram).doc("server", "7.0.0",
        "Returns the cumulative distribution of latencies of a subset or all commands."),
    row("latency|history", 3, Merge::Elements, history).doc("server", "2.8.13",
        "Returns timestamp-latency samples for an event."),
    row("latency|latest", 2, Merge::Elements, latest).doc("server", "2.8.13",
        "Returns the latest latency samples for all events."),
    row("latency|reset", -2, Merge::Sum, reset).doc("server", "2.8.13",
        "Resets the latency data for one or more events."),
];

/// Returns the kind of event that an argument names.
fn named(name: &[u8]) -> Option<Delay> {
    Delay::ALL.into_iter().find(|event| event.name().as_bytes().eq_ignore_ascii_case(name))
}

/// Returns the kinds of events of which at least one took long, with those events.
fn slow_events<'a>(call: &'a Call<'_>) -> Vec<(Delay, &'a Delayed)> {
    let events = &call.core.statistics.delays;
    Delay::ALL.into_iter().map(|event| (event, events.of(event))).filter(|(_, delays)| 0 < delays.count).collect()
}

fn latest(call: &mut Call<'_>) -> Outcome {
    let found: Vec<_> = slow_events(call)
        .into_iter()
        .filter_map(|(event, delays)| Some((event.name(), *delays.recent.back()?, delays.ms_max)))
        .collect();
    call.reply.array(found.len());
    for (name, (unix_seconds, ms), ms_max) in found {
        call.reply.array(4);
        call.reply.bulk(name.as_bytes());
        [unix_seconds, ms, ms_max].into_iter().for_each(|number| call.reply.integer(number as i64));
    }
    Outcome::Done
}

fn history(call: &mut Call<'_>) -> Outcome {
    let event = named(call.request.arg(2));
    let recent = event.map(|event| &call.core.statistics.delays.of(event).recent);
    call.reply.array(recent.map_or(0, |recent| recent.len()));
    for &(unix_seconds, ms) in recent.into_iter().flatten() {
        call.reply.array(2);
        call.reply.integer(unix_seconds as i64);
        call.reply.integer(ms as i64);
    }
    Outcome::Done
}

fn reset(call: &mut Call<'_>) -> Outcome {
    let asked: Vec<_> = if call.request.len() == 2 {
        Delay::ALL.to_vec()
    } else {
        call.request.args_from(2).filter_map(named).collect()
    };
    let count = asked.into_iter().filter(|&event| call.core.statistics.delays.forget(event)).count();
    call.reply.integer(count as i64);
    Outcome::Done
}

fn doctor(call: &mut Call<'_>) -> Outcome {
    let core = call.core.me.core;
    let mut text = match call.core.config.latency_monitor_threshold {
        None => format!(
            "core {core}: events are not recorded (CONFIG SET latency-monitor-threshold 10 records those of 10 ms and more)\n"
        ),
        Some(_) if slow_events(call).is_empty() => format!("core {core}: nothing took long\n"),
        Some(_) => String::new(),
    };
    for (event, delays) in slow_events(call) {
        let (count, mean, ms_max) = (delays.count, delays.ms_sum / delays.count, delays.ms_max);
        let advice = event.advice();
        text += &format!(
            "core {core}: {} {count} times, {mean} ms on average, {ms_max} ms at most: {advice}\n",
            event.name()
        );
    }
    call.reply.verbatim(text.as_bytes());
    Outcome::Done
}

/// Replies with a histogram for each command: the number of calls that took no longer than each of its steps, in
/// microseconds.
fn histogram(call: &mut Call<'_>) -> Outcome {
    let core = &*call.core;
    let is_asked = |name: &str| {
        let container = name.split('|').next().unwrap_or_default();
        let mut asked = call.request.args_from(2);
        let is_meant = |word: &[u8]| [name, container].iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()));
        asked.len() == 0 || asked.any(is_meant)
    };
    let mut found = Vec::new();
    for counted in &core.statistics.commands {
        // Redis counts whole microseconds: shorter calls are in the first step.
        let mut steps: Vec<(u64, u64)> = Vec::new();
        for (us, count) in counted.times.steps() {
            let us = us.ceil() as u64;
            match steps.last_mut() {
                Some(last) if last.0 == us => last.1 = count,
                _ => steps.push((us, count)),
            }
        }
        if !steps.is_empty() && is_asked(counted.name) {
            found.push((counted.name, counted.calls, steps));
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

fn help(call: &mut Call<'_>) -> Outcome {
    call.help(&[
        "DOCTOR",
        "    Return a human readable latency analysis report.",
        "HISTORY <event>",
        "    Return time-latency samples for the <event> class: command, turn or log-sync.",
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
