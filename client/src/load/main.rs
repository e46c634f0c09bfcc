//! The load generator `trine-load`: how many requests a second, and how fast, from any server that speaks the Redis
//! protocol or the HTTP API.
//!
//! ```text
//! options ─▶ target ─▶ conductor ─▶ engine (one executor per CPU) ─▶ crew ─▶ verdict ─▶ report
//!            who is it?  phases       ring and clock                   decides
//! ```

mod conductor;
mod connector;
mod crew;
mod engine;
mod first;
mod freshness;
mod hlog;
mod http;
mod keys;
mod options;
mod owners;
mod progress;
mod random;
mod reply;
mod report;
mod schedule;
mod slo;
mod source;
mod tally;
mod target;
mod units;
mod value;
mod verdict;
mod wire;
mod workload;

use clap::{CommandFactory, Parser, error::ErrorKind};
use conductor::{Conductor, Measured, Plan};
use hdrhistogram::Histogram;
use http::request::Requests;
use keys::Keys;
use options::Arguments;
use progress::Progress;
use report::Report;
use schedule::Arrivals;
use slo::{Objective, Outcome, Search, Tried};
use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::Path,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use target::{Mode, Protocol, Target};
use trine::{io::output, manual, printable::printable};
use trine_client::Options;
use verdict::{Facts, Failed, Verdict};
use wire::{Commands, Wire};

/// Nothing could be measured.
const EXIT_FAILED: u8 = 1;
/// Ctrl-C or SIGTERM: what was measured until then has been told.
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    glommio::early_init();
    let arguments = Arguments::parse();
    if let Some(text) = reference(&arguments) {
        return match print(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        };
    }
    match run(&arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => fail(&error),
    }
}

/// Says why nothing could be measured, or shown.
fn fail(error: &str) -> ExitCode {
    output::say(format_args!("trine-load: {}\n", printable(error)));
    ExitCode::from(EXIT_FAILED)
}

/// Writes to standard output. A reader that has gone has seen enough.
fn print(text: &[u8]) -> Result<(), String> {
    output::result(text).map(|_| ()).map_err(|error| format!("standard output: {error}"))
}

/// Returns the completions or the manual page, if the arguments ask for one.
fn reference(arguments: &Arguments) -> Option<Vec<u8>> {
    if let Some(shell) = arguments.completions {
        return Some(manual::completions(Arguments::command(), shell));
    }
    let page = |page: manual::Page| page.text.into_bytes();
    arguments.man.then(|| manual::pages(Arguments::command()).into_iter().flat_map(page).collect())
}

fn run(arguments: &Arguments) -> Result<u8, String> {
    let (addresses, protocol) = arguments.whom().unwrap_or_else(|error| usage(error));
    let plan = plan(arguments, protocol)?;
    let mode = match (arguments.cluster, arguments.single) {
        (true, _) => Mode::Cluster,
        (_, true) => Mode::Single,
        _ => Mode::Ask,
    };
    let target = target::probe(&addresses, protocol, &plan.options, mode)?;
    allow_descriptors(plan.concurrency * target.routing.nodes().len());
    let interrupt = interrupt().map_err(|error| format!("signals can't be taken: {error}"))?;
    let mut conductor = Conductor::start(plan, &target, Progress::new(arguments.quiet), interrupt)?;
    let has_keys = arguments.operations.is_none();
    let load = if has_keys && !arguments.no_load { Some(load(&mut conductor, &target)?) } else { None };
    let is_verified = has_keys && !arguments.no_verify && !conductor.is_interrupted();
    let verify = if is_verified { Some(conductor.verify()?) } else { None };
    let arrivals = arguments.arrivals.unwrap_or(Arrivals::Poisson);
    let (rate, measured, search) = match conductor.is_interrupted() {
        true => (arguments.rate, Measured::default(), None),
        false => measure(arguments, &mut conductor, arrivals)?,
    };
    let is_interrupted = conductor.is_interrupted();
    let (verdict, reasons) =
        judge(arguments, rate, [load.as_ref(), verify.as_ref()], &measured, search.as_ref(), is_interrupted);
    let report = Report {
        arguments,
        arrivals: arrivals.name(),
        rate,
        target: &target,
        load: load.as_ref(),
        verify: verify.as_ref(),
        measured: &measured,
        search: search.as_ref(),
        is_interrupted,
        verdict,
        reasons: &reasons,
    };
    publish(arguments, &report)?;
    Ok(if is_interrupted { EXIT_INTERRUPTED } else { verdict.exit_status() })
}

/// Takes over Ctrl-C and SIGTERM: the first ends the measurement, a second one the program.
fn interrupt() -> std::io::Result<Arc<AtomicBool>> {
    use signal_hook::{consts, flag};
    let interrupt = Arc::new(AtomicBool::new(false));
    for signal in [consts::SIGINT, consts::SIGTERM] {
        flag::register_conditional_shutdown(signal, EXIT_INTERRUPTED.into(), Arc::clone(&interrupt))?;
        flag::register(signal, Arc::clone(&interrupt))?;
    }
    Ok(interrupt)
}

/// Ends the program over an argument that is not right.
fn usage(error: String) -> ! {
    Arguments::command().error(ErrorKind::ValueValidation, error).exit()
}

fn plan(arguments: &Arguments, protocol: Protocol) -> Result<Plan, String> {
    let allowed = trine::io::executor::allowed_cpus().map_err(|error| format!("no CPUs can be had: {error}"))?;
    let last = *allowed.last().ok_or("this process may run on no CPU")?;
    let cpus = arguments.cpus.as_deref().map_or(Ok(vec![last]), |text| options::parse_cpus(text, &allowed));
    let size = arguments.key_size as usize;
    let (keys, count) = match arguments.operations {
        None => (Keys::shared(size, arguments.keys), arguments.keys),
        Some(operations) => {
            let count = operations * u64::from(arguments.concurrency);
            (Keys::fresh(conductor::rand_run(), size, count), count)
        }
    };
    let keys = keys.unwrap_or_else(|error| usage(error));
    let wire = match protocol {
        Protocol::Resp => Wire::Resp(Commands::new(keys)),
        Protocol::Http => Wire::Http(Requests::new(
            arguments.api,
            keys,
            arguments.password.as_deref().map(|password| password.as_bytes()),
        )),
    };
    Ok(Plan {
        cpus: cpus.unwrap_or_else(|error| usage(error)),
        concurrency: arguments.concurrency as usize,
        pipeline: arguments.pipeline as usize,
        keys: count,
        read_share: arguments.read_share,
        distribution: arguments.distribution,
        batch: arguments.batch,
        sizes: arguments.value_size.clone(),
        seed: arguments.seed,
        warmup: if arguments.operations.is_some() { Duration::ZERO } else { arguments.warmup },
        duration: arguments.duration,
        operations: arguments.operations,
        allow_misses: arguments.allow_misses,
        options: Options { password: arguments.password.clone().map(OsString::into_vec), timeout: arguments.timeout },
        wire,
        wants_hlog: arguments.hlog.is_some(),
    })
}

/// Raises the limit of open files as far as this process may, if it needs more. Where that is not enough, connecting fails
/// and says so.
fn allow_descriptors(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = connections as u64 + 100;
    if limit.current.is_some_and(|current| current < wanted) {
        let current = Some(limit.maximum.map_or(wanted, |maximum| wanted.min(maximum)));
        let _ = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
}

fn load(conductor: &mut Conductor, target: &Target) -> Result<Measured, String> {
    let loaded = conductor.load()?;
    match loaded.tally.errors.keys().next() {
        Some(error) => Err(format!("the keys can't be written: {}", target::explain_reply(error, &target.name()))),
        None => Ok(loaded),
    }
}

/// Measures once, or as often as a search takes. Returns the rate and result of the measurement that counts.
fn measure(
    arguments: &Arguments,
    conductor: &mut Conductor,
    arrivals: Arrivals,
) -> Result<(Option<f64>, Measured, Option<Search>), String> {
    if let Some(operations) = arguments.operations {
        return Ok((None, conductor.rounds(operations)?, None));
    }
    let Some(objective) = &arguments.slo else {
        let open = arguments.rate.map(|rate| (rate, arrivals));
        let is_wanted = !arguments.duration.is_zero();
        let measured = if is_wanted { conductor.measure(open)? } else { Measured::default() };
        return Ok((arguments.rate, measured, None));
    };
    let mut search = Search::new(slo::FIRST_RATE);
    let mut best: Option<(f64, Measured, bool)> = None;
    while let Some(rate) = search.next() {
        let measured = conductor.measure(Some((rate, arrivals)))?;
        if conductor.is_interrupted() {
            best.get_or_insert((rate, measured, false));
            break;
        }
        let latencies = tally::both(&measured.tally.since_due);
        let (outcome, reasons) = outcome(arguments, objective, rate, &measured, &latencies);
        let value_us = objective.value_us(&latencies);
        search.tried(Tried { rate, requests: latencies.len(), value_us, outcome, reasons });
        let met = outcome == Outcome::Met;
        // A failure is the answer, whatever was met before.
        let is_better = outcome == Outcome::Failed || best.as_ref().is_none_or(|(_, _, best_met)| met || !*best_met);
        if is_better {
            best = Some((rate, measured, met));
        }
    }
    let (rate, measured, _) = best.ok_or("no rate was tried")?;
    Ok((Some(rate), measured, Some(search)))
}

/// Judges one try of a search, and says why it fell short whatever its latency.
fn outcome(
    arguments: &Arguments,
    objective: &Objective,
    rate: f64,
    measured: &Measured,
    latencies: &Histogram<u64>,
) -> (Outcome, Vec<String>) {
    let facts = facts(arguments, Some(rate), measured);
    // With nothing due, too few answers are the objective's affair; a generator that was busy is the verdict's.
    let operations = facts.operations.filter(|_| 0 < measured.due.all);
    let (verdict, reasons) = verdict::judge(&Facts { due: None, cpus: Vec::new(), operations, ..facts.clone() });
    if verdict == Verdict::Invalid {
        return (Outcome::Failed, reasons);
    }
    // What could not even be sent meets nothing.
    let (verdict, reasons) = verdict::judge(&Facts { cpus: Vec::new(), operations: None, ..facts });
    (objective.outcome(latencies, verdict == Verdict::Ok), reasons)
}

fn facts(arguments: &Arguments, rate: Option<f64>, measured: &Measured) -> Facts {
    let duration = measured.took.as_secs_f64();
    let has_measured = 0.0 < duration || arguments.operations.is_some();
    Facts {
        operations: has_measured.then(|| measured.tally.operations.iter().sum()),
        errors: failed("measuring", measured).into_iter().collect(),
        wrong_values: measured.tally.wrong.total(),
        foreign_values: measured.tally.wrong.foreign,
        due: rate.map(|_| measured.due),
        cpus: measured.cpus.clone(),
        unmet_objective: None,
        failed_at: None,
        too_few: None,
        interrupted: None,
    }
}

/// Returns the failure of a phase, if anything failed.
fn failed(phase: &'static str, measured: &Measured) -> Option<Failed> {
    let errors = &measured.tally.errors;
    let (most, _) = errors.iter().max_by_key(|(_, count)| **count)?;
    Some(Failed { phase, count: measured.tally.errors_total(), most: most.clone() })
}

fn judge(
    arguments: &Arguments,
    rate: Option<f64>,
    before: [Option<&Measured>; 2],
    measured: &Measured,
    search: Option<&Search>,
    is_interrupted: bool,
) -> (Verdict, Vec<String>) {
    let mut facts = facts(arguments, rate, measured);
    for before in before.into_iter().flatten() {
        facts.wrong_values += before.tally.wrong.total();
        facts.foreign_values += before.tally.wrong.foreign;
    }
    let phases = ["loading", "verifying", "measuring"].into_iter().zip(before.into_iter().chain([Some(measured)]));
    facts.errors = phases.filter_map(|(phase, measured)| failed(phase, measured?)).collect();
    let failure = search.and_then(Search::failure);
    facts.failed_at = failure.map(|tried| tried.rate);
    let is_unmet = failure.is_none() && search.is_some_and(|search| search.found().is_none());
    facts.unmet_objective = arguments.slo.as_ref().filter(|_| is_unmet && !is_interrupted).map(ToString::to_string);
    let objective = arguments.slo.as_ref().filter(|_| !is_interrupted && failure.is_none());
    facts.too_few = objective.and_then(|objective| search?.too_few(objective));
    facts.interrupted = is_interrupted.then(|| match measured.took.as_secs_f64() {
        0.0 => "before anything was measured".into(),
        took if arguments.operations.is_some() => format!("after {took:.1} s"),
        took => format!("after {took:.1} s of {:.1} s", arguments.duration.as_secs_f64()),
    });
    verdict::judge(&facts)
}

fn publish(arguments: &Arguments, report: &Report<'_>) -> Result<(), String> {
    let write = |path: &Path, bytes: &[u8]| {
        fs::write(path, bytes).map_err(|error| format!("{} can't be written: {error}", path.display()))
    };
    if let Some(path) = &arguments.hlog {
        write(path, &report.measured.hlog)?;
    }
    let is_json_out = arguments.json.as_deref() == Some(Path::new("-"));
    if let Some(path) = &arguments.json {
        let json = format!("{:#}\n", report.to_json());
        if is_json_out {
            print(json.as_bytes())?;
        } else {
            write(path, json.as_bytes())?;
        }
    }
    if !is_json_out && !arguments.quiet {
        print(report.to_text().as_bytes())?;
    }
    Ok(())
}
