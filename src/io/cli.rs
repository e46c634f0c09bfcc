//! The command line: `trine serve | up | plan | topology | health | check | dump | top | doctor | completions | man`.
//!
//! Results go to standard output, everything else to standard error. The exit status is 0 when all went well, 1 when
//! something failed, 2 when what was asked makes no sense, and 3 when a running server has the directory open.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    process::ExitCode,
};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    error::{ContextKind, ContextValue},
    parser::ValueSource,
    value_parser,
};
use rustix::process::{Pid, Signal};

use super::{check, doctor, dump, health, logging, manual, output, plan, server, top, topology, up};
use crate::{
    config::{Config, Kind, SETTINGS, Setting, settings_as_markdown},
    printable::printable,
};

/// Why a subcommand did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command makes no sense; change it. Exit status 2.
    Usage(String),
    /// It was tried and failed. Exit status 1.
    Failed(String),
    /// A running server has the directory open. Exit status 3.
    InUse(String),
}

impl Failure {
    /// The same with exit status 2, where 1 would be a verdict on what was looked at.
    pub(super) fn into_usage(self) -> Self {
        let (Self::Usage(message) | Self::Failed(message) | Self::InUse(message)) = self;
        Self::Usage(message)
    }
}

/// Runs what the command line asks for. `serve` runs a server until it is told to stop.
pub fn run(serve: fn(Config) -> Result<(), String>) -> ExitCode {
    let matches = command().try_get_matches().unwrap_or_else(|error| without_value(error, names_password()).exit());
    let outcome = match matches.subcommand() {
        Some(("serve", matches)) if matches.get_flag("settings") => print_result(&settings_as_markdown()),
        Some(("serve", matches)) if matches.get_flag("metrics") => print_result(&crate::metrics::as_markdown()),
        Some(("serve", matches)) => start_serving(matches, serve),
        Some(("up", matches)) => up::run(matches),
        Some(("plan", matches)) => plan::run(matches),
        Some(("topology", matches)) => topology::command::run(matches),
        Some(("health", matches)) => health::run(matches),
        Some(("check", matches)) => check::run(matches),
        Some(("dump", matches)) => dump::run(matches),
        Some(("top", matches)) => top::run(matches),
        Some(("doctor", matches)) => doctor::run(matches),
        Some(("completions", matches)) => manual::run_completions(matches),
        Some(("man", matches)) => manual::run_man(matches),
        _ => unreachable!("clap insists on a subcommand that it knows"),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            eprintln!("trine: {}", printable(&message));
            ExitCode::from(2)
        }
        Err(Failure::Failed(message)) => {
            eprintln!("trine: {}", printable(&message));
            ExitCode::FAILURE
        }
        Err(Failure::InUse(message)) => {
            eprintln!("trine: {message}");
            ExitCode::from(3)
        }
    }
}

/// Writes a result to standard output. A reader that has gone has seen enough. What others have written in it, servers and files,
/// no terminal obeys.
pub(super) fn print_result(text: &str) -> Result<(), Failure> {
    print_coloured(&printable(text))
}

/// Writes a result that has colours. Whoever makes it sees to what others have written.
pub(super) fn print_coloured(text: &str) -> Result<(), Failure> {
    print_while_read(text).map(|_| ())
}

/// Prints like [`print_result`]. Returns false if nobody reads any more.
pub(super) fn print_while_read(text: &str) -> Result<bool, Failure> {
    output::result(text.as_bytes()).map_err(|error| Failure::Failed(format!("standard output: {error}")))
}

/// Checks flags that are meant for `trine serve`, as far as that can be done without starting it. Returns what they and the
/// environment say, but for the variables of settings that are `unheeded`.
pub(super) fn check_settings(flags: &[&String], unheeded: &[&str]) -> Result<Config, Failure> {
    let matches = serve_command().no_binary_name(true).disable_help_flag(true).try_get_matches_from(flags);
    let matches = matches.map_err(|error| {
        let error = without_value(error, names_password());
        // The first line says what is wrong; the others, how to call `trine serve`.
        let text = error.to_string();
        let problem = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Failure::Usage(format!("behind --: {problem} (trine serve --help lists all settings)"))
    })?;
    validated(assembled(&matches, unheeded)?)
}

/// Takes out of an error what stands where no value belongs: with a password in the command line it may be the rest of it, behind a
/// blank.
fn without_value(mut error: clap::Error, has_password: bool) -> clap::Error {
    if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg)
        && has_password
        && !word.starts_with('-')
    {
        error.insert(ContextKind::InvalidArg, ContextValue::String("…".into()));
    }
    error
}

/// Returns true if a password is among the arguments.
fn names_password() -> bool {
    let is_password = |word: &[u8]| word.starts_with(b"--requirepass") || word.starts_with(b"--password");
    env::args_os().any(|word| is_password(word.as_bytes()))
}

/// Returns the whole command line.
pub fn command() -> Command {
    Command::new("trine")
        .about("A thread-per-core, shared-nothing key-value store that speaks the Redis protocol")
        .version(crate::built::VERSION)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve_command())
        .subcommand(up::command())
        .subcommand(plan::command())
        .subcommand(topology::command::command())
        .subcommand(health::command())
        .subcommand(check::command())
        .subcommand(dump::command())
        .subcommand(top::command())
        .subcommand(doctor::command())
        .subcommand(manual::completions_command())
        .subcommand(manual::man_command())
        .after_help(
            "Exit status: 0 all went well, 1 something failed, 2 what was asked makes no sense, 3 a running server has the directory open.\n\n\
             To begin: trine up, then redis-cli -c -p 7001",
        )
}

fn serve_command() -> Command {
    let parent = Arg::new("parent").long("parent").value_name("PID").hide(true).value_parser(value_parser!(i32));
    Command::new("serve")
        .about("Run one server until SIGTERM or Ctrl-C")
        .long_about(
            "Run one server: a gateway port for any client, and a port per core for cluster clients. It ends with \
             status 0 on SIGTERM or Ctrl-C, when what it owes has been sent. SIGHUP, SIGUSR1 and SIGUSR2 are ignored.\n\n\
             Each setting is also a TRINE_… variable and a line of the --config file, and CONFIG GET shows it. A flag \
             goes before a variable, a variable before the file.",
        )
        .args(SETTINGS.iter().map(flag))
        .arg(Arg::new("settings").long("settings").action(ArgAction::SetTrue).help("Print all settings as Markdown"))
        .arg(Arg::new("metrics").long("metrics").action(ArgAction::SetTrue).help("Print all metrics as Markdown"))
        .arg(parent)
        .after_help(
            "Examples:\n  \
             trine serve                                  all CPUs, ports 7000 (gateway) and 7001…\n  \
             trine serve --port 8000 --cpus 2-5           four cores: ports 8000 and 8001 to 8004\n  \
             trine serve --max-memory 4GiB --eviction lfu a cache\n  \
             TRINE_REQUIREPASS=secret trine serve --bind 10.0.0.7\n  \
             trine serve --name one --topology cluster.toml",
        )
}

/// Returns the flag of a setting.
fn flag(setting: &'static Setting) -> Arg {
    let mut help = setting.help.to_owned();
    let default = setting.default_for_people();
    if !default.is_empty() {
        help += &format!(" [default: {default}]");
    }
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .value_name(setting.placeholder())
        .help(format!("{help} [{}]", setting.variable()))
        .long_help(match setting.reason {
            "" => format!("{help} [{}]", setting.variable()),
            reason => format!("{help} [{}]\n({reason})", setting.variable()),
        })
        .allow_negative_numbers(true);
    let arg = if setting.bytes.is_some() { arg.value_parser(value_parser!(OsString)) } else { arg };
    match setting.kind {
        Kind::Switch => arg.num_args(0..=1).default_missing_value("yes"),
        _ => arg,
    }
}

fn start_serving(matches: &ArgMatches, serve: fn(Config) -> Result<(), String>) -> Result<(), Failure> {
    if let Some(&parent) = matches.get_one::<i32>("parent") {
        end_with(parent)?;
    }
    let (config, unknown) = assemble(matches, &[])?;
    let config = validated(config)?;
    // Before the log has its thread, which a signal would otherwise end, and with it the server.
    server::block_signals().map_err(|error| Failure::Failed(format!("signals can't be blocked: {error}")))?;
    log_to_stderr(&config.log)?;
    // By the log's thread: nobody may be reading, and a server starts nevertheless.
    unknown.iter().for_each(|name| logging::say(&unheeded_variable(name)));
    let served = serve(config).map_err(Failure::Failed);
    logging::flush();
    served
}

/// Returns what the environment and the file that it names say to `trine serve`, but for the variables of settings that are
/// `unheeded`. Flags may say more, so that this need not be all that a server needs.
pub(super) fn configuration_without_flags(unheeded: &[&str]) -> Result<Config, Failure> {
    let matches = serve_command().no_binary_name(true).try_get_matches_from([""; 0]);
    assembled(&matches.expect("no flag is needed"), unheeded)
}

/// Returns the configuration, if it makes sense as a whole.
#[cfg(test)]
fn configuration(matches: &ArgMatches) -> Result<Config, Failure> {
    validated(assembled(matches, &[])?)
}

/// Returns the configuration, and says which variables are none of it.
fn assembled(matches: &ArgMatches, unheeded: &[&str]) -> Result<Config, Failure> {
    let (config, unknown) = assemble(matches, unheeded)?;
    unknown.iter().for_each(|name| eprintln!("{}", unheeded_variable(name)));
    Ok(config)
}

fn unheeded_variable(name: &str) -> String {
    format!("trine: {} is no setting; ignored", printable(name))
}

fn validated(config: Config) -> Result<Config, Failure> {
    config.validate().map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(config)
}

/// Puts the configuration together: the file, over it the environment, over that the flags. A variable whose setting has a flag,
/// or is `unheeded`, is not even judged. The names are those of variables that look like settings and are none.
fn assemble(matches: &ArgMatches, unheeded: &[&str]) -> Result<(Config, Vec<String>), Failure> {
    let usage = |error: crate::config::ConfigError| Failure::Usage(error.to_string());
    let mut config = Config::default();
    let path = match matches.get_one::<String>("config") {
        Some(path) => Some(path.clone()),
        None => variable("TRINE_CONFIG")?,
    };
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        let text = fs::read_to_string(&path).map_err(|error| Failure::Usage(format!("--config {path}: {error}")))?;
        config.apply_file(&text, &path).map_err(usage)?;
    }
    // A name that is no text is none of ours. A value that is none is a setting's business, and not passed over.
    let variables = env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.into_vec()));
    let unknown = config.apply_environment(wanted(variables, matches, unheeded)).map_err(usage)?;
    for setting in SETTINGS {
        if matches.value_source(setting.name) == Some(ValueSource::CommandLine)
            && let Some(value) = matches.get_raw(setting.name).and_then(|mut values| values.next_back())
        {
            let value = value.as_bytes();
            let place = setting.place(&format!("--{}", setting.name), " ", value);
            config.apply(setting.name, value, &place).map_err(usage)?;
        }
    }
    Ok((config, unknown))
}

/// Returns a variable's value as text; `None` where it is not set.
fn variable(name: &str) -> Result<Option<String>, Failure> {
    let problem = |_| Failure::Usage(format!("{name}: its value must be text in UTF-8"));
    env::var_os(name).map(|value| value.into_string().map_err(problem)).transpose()
}

fn log_to_stderr(filter: &str) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|error| Failure::Usage(format!("--log {filter}: {error}; write a level such as info")))?;
    logging::start(filter).map_err(|error| Failure::Failed(format!("a thread for the log: {error}")))
}

/// Leaves out the variables of settings that are `unheeded` or that a flag says.
fn wanted(
    variables: impl Iterator<Item = (String, Vec<u8>)>,
    matches: &ArgMatches,
    unheeded: &[&str],
) -> impl Iterator<Item = (String, Vec<u8>)> {
    let is_heeded = |name| matches.value_source(name) != Some(ValueSource::CommandLine) && !unheeded.contains(&name);
    variables.filter(move |(variable, _)| {
        SETTINGS.iter().all(|setting| setting.variable() != *variable || is_heeded(setting.name))
    })
}

/// Has the kernel stop this process when the one that started it ends, however that ends.
fn end_with(parent: i32) -> Result<(), Failure> {
    let set = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    set.map_err(|error| Failure::Failed(format!("--parent: {error}")))?;
    // It may have ended before that.
    if rustix::process::getppid() != Pid::from_raw(parent) {
        return Err(Failure::Failed(format!("process {parent}, which started this one, is gone")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(arguments: &[&str]) -> Result<Config, String> {
        let command = Command::new("serve").args(SETTINGS.iter().map(flag));
        let arguments = ["serve"].iter().chain(arguments);
        let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
        configuration(&matches).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    /// The help of every subcommand shows an example.
    #[test]
    fn every_subcommand_has_an_example() {
        fn look(command: &Command, name: &str) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.starts_with("Examples:\n") && after.contains(&format!("\n  {name}")), "{name}: {after}");
            command
                .get_subcommands()
                .for_each(|subcommand| look(subcommand, &format!("{name} {}", subcommand.get_name())));
        }
        for subcommand in command().get_subcommands() {
            look(subcommand, &format!("trine {}", subcommand.get_name()));
        }
    }

    /// A password with a blank in it, without quotes, is not shown where its rest is refused.
    #[test]
    fn the_rest_of_a_password_is_not_shown() {
        let words = ["trine", "serve", "--requirepass", "my", "hunter2"];
        let error = command().try_get_matches_from(words).expect_err("there is a word too much");
        assert!(error.to_string().contains("hunter2"));
        let error = without_value(error, true).to_string();
        assert!(error.contains("unexpected argument '…' found") && !error.contains("hunter2"), "{error}");
        let error = command().try_get_matches_from(["trine", "serve", "--prot", "1"]).expect_err("no such flag");
        assert!(without_value(error, true).to_string().contains("'--prot'"));
    }

    /// Passwords of any bytes come by flags too; what must be text is refused.
    #[test]
    fn flags_may_be_no_text() {
        let configured = |flag: &str| {
            let command = Command::new("serve").args(SETTINGS.iter().map(super::flag));
            let words = [OsString::from("serve"), OsString::from(flag), OsString::from_vec(b"p\xffss".to_vec())];
            command
                .try_get_matches_from(words)
                .map_err(|_| ())
                .and_then(|matches| configuration(&matches).map_err(|_| ()))
        };
        assert_eq!(configured("--requirepass").map(|config| config.requirepass.0), Ok(b"p\xffss".to_vec()));
        assert!(configured("--name").is_err() && configured("--port").is_err());
    }

    #[test]
    fn flags_are_settings() {
        let arguments = ["--port", "8000", "--allow-wide-bind", "--cores=2", "--slowlog-log-slower-than", "-1"];
        let config = configured(&arguments).unwrap();
        assert_eq!((config.port, config.allow_wide_bind, config.cores), (8000, true, Some(2)));
        assert_eq!(config.slowlog_log_slower_than, None);
        let problem = configured(&["--port", "x"]).unwrap_err();
        assert!(problem.contains("--port x: argument couldn't be parsed"), "{problem}");
    }

    /// A variable that a flag goes before may say what it likes.
    #[test]
    fn a_flag_goes_before_a_variable_is_judged() {
        let matches = serve_command().no_binary_name(true).try_get_matches_from(["--port", "8000"]).unwrap();
        let variables =
            || ["TRINE_PORT", "TRINE_CORES"].map(|name| (name.to_owned(), b"nonsense".to_vec())).into_iter();
        let wanted =
            |unheeded: &[&str]| wanted(variables(), &matches, unheeded).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(wanted(&[]), ["TRINE_CORES"]);
        assert_eq!(wanted(&["cores"]), [""; 0]);
    }

    #[test]
    fn a_flag_goes_before_the_file() {
        let path = env::temp_dir().join(format!("trine-test-{}.toml", std::process::id()));
        fs::write(&path, "port = 9000\nmaxclients = 7\n").unwrap();
        let config = configured(&["--config", path.to_str().unwrap(), "--port", "8000"]);
        fs::remove_file(&path).unwrap();
        let config = config.unwrap();
        assert_eq!((config.port, config.maxclients), (8000, 7));
    }
}
