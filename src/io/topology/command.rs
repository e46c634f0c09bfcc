//! `trine topology`: shows, checks and makes the document of a cluster, and accepts losses.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::open;
use crate::{
    io::{
        cli::{Failure, print_result},
        plan,
    },
    topology::{
        Server, Topology,
        document::{DOCUMENT_VERSION, Document, DocumentError, Revision, SlotRange},
        loss::{self, Left, Loss},
        report::Report,
        store::{DocumentStore, Outcome, Settled, StoreError, StoreUrl, settle},
    },
};

/// The longest time to find out whether a change was stored whose answer was lost.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// The time between two looks at a store that has not decided yet.
const SETTLE_EVERY: Duration = Duration::from_millis(100);
/// The most bytes of a file with a password.
const PASSWORD_BYTES_MAX: usize = 4096;

/// Returns the command line of `trine topology`.
pub(in crate::io) fn command() -> Command {
    Command::new("topology")
        .about("Show, check or make the document of a cluster's topology")
        .long_about(
            "Show, check or make the document of a cluster's topology: its servers, and the copies of every slot. It lives in a \
             topology store, which is a file or etcd, and is changed there while the cluster runs.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(show_command())
        .subcommand(validate_command())
        .subcommand(init_command())
        .subcommand(accept_loss_command())
        .after_help(
            "Examples:\n  \
             trine topology init --cluster file:cluster.toml --server a=10.0.0.1:7000/4 --server b=10.0.0.2:7000/4\n  \
             trine topology show --cluster etcd://10.0.0.9:2379/prod\n  \
             trine topology validate cluster.toml\n  \
             trine topology accept-loss --cluster file:cluster.toml --lost b\n\n\
             Exit status: 0 all went well, 1 the store does not answer, or the document is not as it ought to be, 2 what was asked \
             makes no sense.",
        )
}

fn show_command() -> Command {
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON, for programs");
    Command::new("show")
        .about("Show the servers, the copies of every slot, and what is under way")
        .long_about(
            "Show the servers, the copies of every slot, and what is under way and waits for what. Each server that was ever \
             started counts as running: a document does not say who is alive.",
        )
        .args(place())
        .arg(json)
        .after_help(
            "Examples:\n  \
             trine topology show cluster.toml\n  \
             trine topology show --cluster etcd://10.0.0.9:2379,10.0.0.10:2379/prod --json",
        )
}

fn validate_command() -> Command {
    Command::new("validate").about("Say what is wrong with a document, and where").args(place()).after_help(
        "Examples:\n  \
             trine topology validate cluster.toml\n  \
             trine topology validate --cluster file:/var/lib/trine/cluster.toml\n\n\
             Exit status: 0 the document is valid, 1 it is not, 2 it can't be read.",
    )
}

fn init_command() -> Command {
    let server = Arg::new("server")
        .long("server")
        .visible_alias("servers")
        .value_name("NAME=HOST:PORT/CORES")
        .action(ArgAction::Append)
        .value_delimiter(',')
        .required(true)
        .value_parser(plan::server)
        .help("A server: its name, the host clients reach it at, the gateway's port, and how many cores it uses");
    let copies = Arg::new("copies").long("copies").value_name("COUNT").value_parser(value_parser!(u16)).help(
        "The number of servers that have each slot, so that one fewer may be lost [default: 2, or 1 where there is one server]",
    );
    Command::new("init")
        .about("Make the first document of a cluster")
        .long_about(
            "Make the first document of a cluster: slots are shared evenly, and the backups of each core's slots are spread over \
             all other servers. A store that has another document keeps it.",
        )
        .args(store(true))
        .arg(server)
        .arg(copies)
        .after_help(
            "Examples:\n  \
             trine topology init --cluster file:cluster.toml --servers a=10.0.0.1:7000/4,b=10.0.0.2:7000/4\n  \
             trine topology init --cluster etcd://10.0.0.9:2379/prod --server a=10.0.0.1:7000/4 --copies 1",
        )
}

fn accept_loss_command() -> Command {
    let lost = Arg::new("lost")
        .long("lost")
        .value_name("NAME")
        .action(ArgAction::Append)
        .value_delimiter(',')
        .help("A server that will not return with its data");
    let slots = Arg::new("slots")
        .long("slots")
        .value_name("RANGE")
        .value_parser(|text: &str| SlotRange::parse(text).ok_or("write 0-5460 or 77, below 16384"))
        .help("Only these slots [default: all that nobody can serve]");
    let yes = Arg::new("yes").long("yes").action(ArgAction::SetTrue).help("Do it; without, it is only told");
    Command::new("accept-loss")
        .about("Give up acknowledged writes, so that slots are served again that nobody can serve")
        .long_about(
            "Give up acknowledged writes, so that slots are served again that nobody can serve: all their copies in sync are on \
             servers that lost their data, or that --lost says will not return with it. Slots that have a copy in sync elsewhere \
             are left alone. It is told first, done with --yes, and written down in the document. A server that returns after \
             all is filled from the others, and what it alone had is gone.",
        )
        .args(place())
        .arg(lost)
        .arg(slots)
        .arg(yes)
        .after_help(
            "Examples:\n  \
             trine topology accept-loss --cluster file:cluster.toml --lost b         says what is given up\n  \
             trine topology accept-loss --cluster file:cluster.toml --lost b --yes   gives it up\n\n\
             Exit status: 0 it was done, 1 it was not, 2 --yes is missing, or what was asked makes no sense.",
        )
}

/// Returns the arguments that name a store.
fn store(is_required: bool) -> [Arg; 2] {
    [
        Arg::new("cluster")
            .long("cluster")
            .value_name("URL")
            .env("TRINE_CLUSTER")
            .hide_env_values(true)
            .required(is_required)
            .help("The topology store: file:PATH, or etcd://[USER@]HOST:PORT,…/NAME (etcds:// for TLS, ?ca=FILE)"),
        Arg::new("password-file")
            .long("password-file")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("The file with the password of etcd's USER, in one line [or TRINE_CLUSTER_PASSWORD has it]"),
    ]
}

/// Returns the arguments that name a store, or a file.
fn place() -> Vec<Arg> {
    let file = Arg::new("file")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("The document's file, like --cluster file:FILE");
    [file].into_iter().chain(store(false)).collect()
}

/// Runs the subcommand that the command line names.
pub(in crate::io) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("show", matches)) => show(matches),
        Some(("validate", matches)) => validate(matches),
        Some(("init", matches)) => init(matches),
        Some(("accept-loss", matches)) => accept_loss(matches),
        _ => unreachable!("clap insists on a subcommand that it knows"),
    }
}

/// Returns the address that the command line names. A file goes before a variable.
fn url(matches: &ArgMatches) -> Result<StoreUrl, Failure> {
    let file = matches.try_get_one::<PathBuf>("file").ok().flatten();
    let is_flag = matches.value_source("cluster") == Some(clap::parser::ValueSource::CommandLine);
    match (file, matches.get_one::<String>("cluster")) {
        (Some(_), Some(_)) if is_flag => Err(Failure::Usage("FILE and --cluster: name one of them".into())),
        (Some(file), _) => Ok(StoreUrl::File(file.clone())),
        // Read here and not by clap, which would repeat a password that stands in it.
        (None, Some(url)) => url.parse().map_err(|error| Failure::Usage(format!("--cluster: {error}"))),
        (None, None) => Err(Failure::Usage("which document? name a FILE, or a store by --cluster URL".into())),
    }
}

/// Opens a store, with the password that the command line or a variable has.
fn opened(matches: &ArgMatches, url: &StoreUrl) -> Result<Box<dyn DocumentStore>, Failure> {
    let password = match matches.get_one::<PathBuf>("password-file") {
        Some(path) => Some(password_of(path)?),
        None => std::env::var("TRINE_CLUSTER_PASSWORD").ok(),
    };
    open(url, password).map_err(failed)
}

/// Reads a password from a file.
fn password_of(path: &Path) -> Result<String, Failure> {
    let problem = |problem: String| Failure::Usage(format!("--password-file {}: {problem}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() || PASSWORD_BYTES_MAX < password.len() || password.contains('\n') {
        return Err(problem("it ought to hold a password, in one line".into()));
    }
    Ok(password.to_owned())
}

fn failed(error: StoreError) -> Failure {
    Failure::Failed(error.to_string())
}

fn no_document(url: &StoreUrl) -> Failure {
    Failure::Failed(format!("topology store {url}: there is no document yet: make the first with trine topology init"))
}

fn show(matches: &ArgMatches) -> Result<(), Failure> {
    let url = url(matches)?;
    let document = match fixed(&url) {
        Some(topology) => Document::of_topology(&topology),
        None => opened(matches, &url)?.read().map_err(failed)?.ok_or_else(|| no_document(&url))?,
    };
    let report = Report::new(&document);
    if !matches.get_flag("json") {
        return print_result(&report.to_text());
    }
    let json = serde_json::to_string_pretty(&report).expect("strings and numbers have a form in JSON");
    print_result(&(json + "\n"))
}

/// Returns the fixed topology that a file holds, if it does: the file of `trine plan`.
fn fixed(url: &StoreUrl) -> Option<Topology> {
    let StoreUrl::File(path) = url else { return None };
    Topology::from_toml(&fs::read_to_string(path).ok()?).ok()
}

fn validate(matches: &ArgMatches) -> Result<(), Failure> {
    let url = url(matches)?;
    let document = match &url {
        StoreUrl::File(path) => {
            let text = fs::read_to_string(path);
            let text = text.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
            parsed(&text).map_err(|problem| Failure::Failed(format!("{}: {problem}", path.display())))?
        }
        StoreUrl::Etcd(_) => match opened(matches, &url).map_err(Failure::into_usage)?.read() {
            Ok(document) => document.ok_or_else(|| no_document(&url).into_usage())?,
            Err(error @ StoreError::Damaged { .. }) => return Err(failed(error)),
            Err(error) => return Err(failed(error).into_usage()),
        },
    };
    let (revision, servers, ranges) = (document.revision(), document.members().len(), document.ranges().len());
    let slots = |is_counted: &dyn Fn(usize) -> bool| -> u32 {
        let ranges = document.ranges().iter().filter(|range| is_counted(document.servers_in_sync(&range.copies)));
        ranges.map(|range| u32::from(range.slots.len())).sum()
    };
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let (servers, ranges) = (count(servers, "server"), count(ranges, "range"));
    let mut text = format!("valid: revision {revision}, {servers}, {ranges}\n");
    let copies = usize::from(document.copies());
    let (fewer, none) = (slots(&|in_sync| in_sync < copies), slots(&|in_sync| in_sync == 0));
    if 0 < fewer {
        text += &format!(
            "{fewer} slots have fewer than {copies} copies in sync: trine topology show says what they wait for\n"
        );
    }
    if 0 < none {
        text += &format!("{none} of these have none: nobody may serve them\n");
    }
    print_result(&text).map_err(Failure::into_usage)
}

/// Reads a document, or a fixed topology. The error has the line, as far as there is one.
fn parsed(text: &str) -> Result<Document, String> {
    if let Err(DocumentError::Version { found: Some(found) }) = Document::revision_of(text)
        && found < DOCUMENT_VERSION
    {
        return Topology::from_toml(text)
            .map(|topology| Document::of_topology(&topology))
            .map_err(|error| error.to_string());
    }
    Document::from_toml(text).map_err(|error| match error.line_in(text) {
        Some(line) => format!("line {line}: {error}"),
        None => error.to_string(),
    })
}

fn init(matches: &ArgMatches) -> Result<(), Failure> {
    let url = url(matches)?;
    let servers: Vec<Server> = matches.get_many("server").unwrap_or_default().cloned().collect();
    let usual = if servers.len() == 1 { 1 } else { 2 };
    let copies = matches.get_one::<u16>("copies").copied().unwrap_or(usual);
    let document = Document::plan(servers, copies).map_err(|error| Failure::Usage(error.to_string()))?;
    let mut store = opened(matches, &url)?;
    match change(&mut *store, None, &document, &url)? {
        None => print_result(&format!("{url}: made, revision {}\n", document.revision())),
        Some(held) => {
            let names: Vec<&str> = held.members().iter().map(|member| &*member.server.name).collect();
            let (revision, servers) = (held.revision(), names.join(", "));
            Err(Failure::Failed(format!(
                "{url} has another document already, revision {revision}, servers {servers}: it stays as it is"
            )))
        }
    }
}

fn accept_loss(matches: &ArgMatches) -> Result<(), Failure> {
    let url = url(matches)?;
    let mut store = opened(matches, &url)?;
    let document = store.read().map_err(failed)?.ok_or_else(|| no_document(&url))?;
    let lost: BTreeSet<Arc<str>> =
        matches.get_many::<String>("lost").unwrap_or_default().map(|name| name.as_str().into()).collect();
    let within = matches.get_one("slots").copied().unwrap_or(SlotRange::ALL);
    let losses = loss::losses(&document, &lost, within).map_err(|error| Failure::Failed(error.to_string()))?;
    let steps: Vec<_> = losses.iter().map(|loss| loss::step(loss, &lost)).collect();
    let next = document.with_all(&steps).map_err(|error| Failure::Failed(error.to_string()))?;
    print_result(&told(&losses))?;
    if !matches.get_flag("yes") {
        return Err(Failure::Usage("nothing was changed: to give these writes up for good, add --yes".into()));
    }
    match change(&mut *store, Some(document.revision()), &next, &url)? {
        None => print_result(&format!("{url}: accepted, revision {}\n", next.revision())),
        Some(newer) => Err(Failure::Failed(format!(
            "{url}: the document was changed meanwhile, to revision {}, and nothing was given up: look at it with trine topology \
             show, and repeat this if it is still wanted",
            newer.revision()
        ))),
    }
}

/// Returns what losses give up, in words.
fn told(losses: &[Loss]) -> String {
    let slots: u32 = losses.iter().map(|loss| u32::from(loss.slots.len())).sum();
    let mut text = format!("gives up, for good, the acknowledged writes of {slots} slots that are in no other copy:\n");
    for loss in losses {
        let left = match loss.left {
            Left::Part => "the part of them that it was given",
            Left::Nothing => "them empty",
        };
        let (slots, copies, primary) = (loss.slots, loss.copies.join(", "), &loss.primary);
        text += &format!("  slots {slots}: {copies} had them in sync; {primary} will serve {left}\n");
    }
    text
}

/// Replaces the document of a revision, and finds out the outcome. Returns `None` if it was stored, else the document that the
/// store holds.
fn change(
    store: &mut dyn DocumentStore,
    expected: Option<Revision>,
    next: &Document,
    url: &StoreUrl,
) -> Result<Option<Document>, Failure> {
    let error = match store.compare_and_set(expected, next).map_err(failed)? {
        Outcome::Stored => return Ok(None),
        Outcome::Conflict(held) => return Ok(Some(*held)),
        Outcome::Unknown(error) => error,
    };
    let since = Instant::now();
    while since.elapsed() < SETTLE_WITHIN {
        let held = store.read().ok().flatten();
        match settle(next, held.as_ref()) {
            Some(Settled::Stored) => return Ok(None),
            Some(Settled::Overtaken) => return Ok(held),
            None => thread::sleep(SETTLE_EVERY),
        }
    }
    let revision = next.revision();
    Err(Failure::Failed(format!(
        "{error}. The change may be stored or not: once trine topology show --cluster {url} shows revision {revision} or above, that \
         is decided"
    )))
}
