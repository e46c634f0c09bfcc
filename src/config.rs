//! Settings, and every limit with its reason.
//!
//! One table, [`SETTINGS`], stands behind the flags of `trine serve`, the `TRINE_…` variables, the configuration file,
//! CONFIG GET and SET, and the documentation. A flag goes before a variable, a variable before the file, the file before
//! the default: whoever reads them applies them the other way round.

mod foreign;
mod settings;
mod units;

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

pub use self::{settings::SETTINGS, units::list};
use crate::glob;

/// The settings of a server, each with its default in [`Config::default`]. Rows of [`SETTINGS`] say what they mean.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each field is documented by its row in SETTINGS")]
pub struct Config {
    pub name: String,
    pub topology: Option<PathBuf>,
    pub bind: IpAddr,
    pub announce: Option<String>,
    pub port: u16,
    pub core_port: Option<u16>,
    pub cores: Option<u16>,
    pub cpus: Vec<usize>,
    /// Each core stays on its CPU; otherwise the kernel moves it as it likes.
    pub is_pinned: bool,
    pub requirepass: Password,
    pub http_hosts: Vec<String>,
    pub allow_wide_bind: bool,
    pub max_memory: u64,
    pub eviction: Eviction,
    pub values: Values,
    pub cold_reads: usize,
    pub dir: Option<PathBuf>,
    /// `None`: as [`Config::durability`] says.
    pub durability: Option<Durability>,
    pub accept_loss: bool,
    pub log_segment_bytes: usize,
    pub log_backlog_bytes: usize,
    pub snapshot_log_bytes: u64,
    pub log_live_percent: u32,
    pub lfu_log_factor: u32,
    pub lfu_decay_time: u32,
    pub maxclients: u32,
    /// The largest `maxclients` that there are descriptors for.
    maxclients_limit: u32,
    /// Zero: never.
    pub timeout: Duration,
    /// Zero: never.
    pub tcp_keepalive: Duration,
    pub tcp_backlog: u32,
    pub shutdown_timeout: Duration,
    /// The time that requests wait for a slot that is changing hands.
    pub slot_timeout: Duration,
    pub max_key_bytes: usize,
    pub proto_max_bulk_len: usize,
    pub max_request_args: usize,
    pub max_request_bytes: usize,
    pub unauthenticated_max_args: usize,
    pub unauthenticated_max_arg_bytes: usize,
    pub unauthenticated_max_owed_bytes: usize,
    pub output_soft_limit: usize,
    pub output_hard_limit: usize,
    pub gateway_in_flight: usize,
    pub mesh_queue: usize,
    pub receive_buffers: u16,
    pub receive_buffer_bytes: usize,
    /// `None`: nothing is logged.
    pub slowlog_log_slower_than: Option<Duration>,
    pub slowlog_max_len: usize,
    /// `None`: nothing is noted.
    pub latency_monitor_threshold: Option<Duration>,
    pub log: String,
    pub huge_pages: bool,
    pub debug_commands: bool,
    /// `None`: drawn when the server starts.
    pub seed: Option<u64>,
    pub config: Option<PathBuf>,
    /// The names of the settings that were applied, whatever their values.
    given: Vec<&'static str>,
}

/// A secret that does not show in logs. Any bytes: AUTH sends it as such.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Password(pub Vec<u8>);

impl fmt::Debug for Password {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

/// The policy when a shard has used up its share of memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Eviction {
    /// Commands that need memory are answered with OOM.
    #[default]
    None,
    /// The least frequently used of a few sampled keys make room.
    Lfu,
}

/// The place of values.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Values {
    /// In memory.
    #[default]
    Memory,
    /// In the log's files; those that are used often in memory too.
    Disk,
}

/// The moment at which a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// At once, and nothing is written: a restart forgets it, unless a snapshot was asked for since.
    #[default]
    None,
    /// At once; it is on disk within some two seconds.
    Interval,
    /// On disk: written and synced.
    Always,
}

/// A row of the table: one setting, everywhere it appears.
pub struct Setting {
    /// In kebab case: the flag `--max-memory`, the variable `TRINE_MAX_MEMORY`, the file's `max-memory`, CONFIG GET.
    pub name: &'static str,
    /// Redis's name for it, where that differs; CONFIG GET and SET know both names.
    pub redis: Option<Alias>,
    /// The form of its value.
    pub kind: Kind,
    /// A line of help.
    pub help: &'static str,
    /// Why there is such a limit, and why its default is what it is; empty where it is no limit.
    pub reason: &'static str,
    /// True if CONFIG SET may change it.
    pub at_run_time: bool,
    /// Returns its value as CONFIG GET shows it: sizes in bytes, times in the unit its help names.
    pub get: fn(&Config) -> String,
    /// Reads and sets its value, or says what is wrong with it.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
    /// Its value as bytes, where that need not be text; `get` and `set` are for those that are.
    pub bytes: Option<Bytes>,
    /// True if its value is not shown: not in errors, not in the slow log.
    pub is_secret: bool,
}

/// Access to a setting whose value may be any bytes.
pub struct Bytes {
    /// Returns its value.
    pub get: fn(&Config) -> Vec<u8>,
    /// Sets its value.
    pub set: fn(&mut Config, Vec<u8>),
}

/// Redis's name for a setting, and its value in Redis's words.
pub struct Alias {
    /// The name.
    pub name: &'static str,
    /// Returns the value as Redis would.
    pub get: fn(&Config) -> String,
}

/// The form of a setting's value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Text; the word stands for it in help.
    Text(&'static str),
    /// A whole number.
    Number,
    /// Bytes, or a number with a unit.
    Size,
    /// Whole seconds.
    Seconds,
    /// `yes` or `no`.
    Switch,
    /// One of these words, which stand between bars: `none|lfu`.
    Choice(&'static str),
}

/// Why a configuration is refused. Each says which setting, and what to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConfigError {
    /// There is no such setting. `place` is the flag, the variable or the line.
    Unknown {
        /// The place of the line.
        place: String,
        /// The setting that was probably meant.
        similar: Option<&'static str>,
    },
    /// A value cannot be read or is out of bounds.
    Value {
        /// The place of the value.
        place: String,
        /// The problem, and what to write.
        problem: String,
    },
    /// Settings that do not go together, in a sentence that says what would.
    Conflict(String),
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { place, similar: Some(similar) } => {
                write!(out, "{place}: there is no such setting; is {similar} meant?")
            }
            Self::Unknown { place, similar: None } => {
                write!(out, "{place}: there is no such setting (trine serve --help lists all)")
            }
            Self::Value { place, problem } => write!(out, "{place}: {problem}"),
            Self::Conflict(message) => out.write_str(message),
        }
    }
}

impl Config {
    /// Applies one setting by its name. `place` says where the value stands, for the error.
    pub fn apply(&mut self, name: &str, value: impl AsRef<[u8]>, place: &str) -> Result<(), ConfigError> {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            return Err(ConfigError::Unknown { place: place.into(), similar: similar(name) });
        };
        setting.change(self, value.as_ref()).map_err(|problem| ConfigError::Value { place: place.into(), problem })?;
        self.given.push(setting.name);
        Ok(())
    }

    /// Applies the text of a configuration file: TOML, a line per setting. Lists may be arrays.
    pub fn apply_file(&mut self, text: &str, path: &str) -> Result<(), ConfigError> {
        let table: toml::Table = toml::from_str(text).map_err(|error| not_toml(text, path, error.span()))?;
        for (name, value) in &table {
            let place = match line_of(text, name) {
                Some(line) => format!("{path}: line {line}: {name}"),
                None => format!("{path}: {name}"),
            };
            if name == "config" {
                let problem = "a configuration file cannot name another: put all settings into one".into();
                return Err(ConfigError::Value { place, problem });
            }
            let Some(text) = plain(value) else {
                let problem = "write a text, a number, true or false, or a list of these".into();
                return Err(ConfigError::Value { place, problem });
            };
            // What is no setting may still be a secret, of a setting that was misspelt.
            let is_shown = setting(name).is_some_and(|setting| !setting.is_secret);
            let place = if is_shown { format!("{place} = {value}") } else { place };
            self.apply(name, &text, &place)?;
        }
        Ok(())
    }

    /// Applies an environment's `TRINE_…` variables and returns the names of those that are no setting, for a warning:
    /// Kubernetes puts some of its own (`TRINE_SERVICE_HOST`) beside a service called `trine`, and so does `docker --link`. Some
    /// have a setting's name and are told by their value.
    pub fn apply_environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, impl AsRef<[u8]>)>,
    ) -> Result<Vec<String>, ConfigError> {
        let mut unknown = Vec::new();
        for (variable, value) in variables {
            let value = value.as_ref();
            match SETTINGS.iter().find(|setting| setting.variable() == variable) {
                Some(setting) if is_of_a_link(setting.name, value) => {
                    unknown.push(format!("{variable}={} (of Kubernetes or docker --link)", value.escape_ascii()));
                }
                Some(setting) => self.apply(setting.name, value, &setting.place(&variable, "=", value))?,
                None if variable.starts_with("TRINE_") => unknown.push(variable),
                None => {}
            }
        }
        Ok(unknown)
    }

    /// Returns the durability: as configured, else as safe as can be: `always` with a directory.
    pub fn durability(&self) -> Durability {
        let default = if self.dir.is_some() { Durability::Always } else { Durability::None };
        self.durability.unwrap_or(default)
    }

    /// Returns true if a setting was applied at all, be it to its default.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains(&name)
    }

    /// Returns the port of core 0: `core-port`, or the one after the gateway's.
    pub fn first_core_port(&self) -> u16 {
        self.core_port.unwrap_or(self.port.saturating_add(1))
    }

    /// Returns the host that clients are told: `announce`, or the address that is bound.
    pub fn host(&self) -> String {
        self.announce.clone().unwrap_or_else(|| self.bind.to_string())
    }

    /// Returns one CPU per core, of those the process may use (never none): as configured, else one core per CPU.
    /// Where there are more cores than CPUs, cores share.
    pub fn placement(&self, available: &[usize]) -> Vec<usize> {
        let cpus = if self.cpus.is_empty() { available } else { &self.cpus };
        let cores = self.cores.map_or(cpus.len(), usize::from);
        cpus.iter().copied().cycle().take(cores).collect()
    }

    /// Returns what is to be said of the [`placement`](Self::placement): cores that share a CPU, or CPUs that are not used.
    pub fn doubt_of_placement(&self, available: &[usize]) -> Option<String> {
        let placement = self.placement(available);
        let mut used = placement.clone();
        used.sort_unstable();
        used.dedup();
        let unused: Vec<_> = self.cpus.iter().copied().filter(|cpu| !used.contains(cpu)).collect();
        let (cores, count) = (placement.len(), used.len());
        if count < cores {
            let some = if count == 1 { "1 CPU".into() } else { format!("{count} CPUs") };
            return Some(format!("{cores} cores share {some}: they wait for each other; --cores {count} is faster"));
        }
        let are_unused = |cpus: &[usize]| format!("--cpus: {} will not be used, since --cores is {cores}", list(cpus));
        (!unused.is_empty()).then(|| are_unused(&unused))
    }

    /// Lowers `maxclients` to what there are descriptors for, now and whenever it is set. Returns whether it had to.
    pub fn limit_maxclients(&mut self, limit: u32) -> bool {
        self.maxclients_limit = limit;
        let is_lower = limit < self.maxclients;
        self.maxclients = self.maxclients.min(limit);
        is_lower
    }

    /// Checks what no single setting can see.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let conflict = |message: String| Err(ConfigError::Conflict(message));
        let bind = self.bind;
        if !bind.is_loopback() && self.requirepass.0.is_empty() && !self.allow_wide_bind {
            return conflict(format!(
                "--bind {bind} lets anyone who reaches this address read and change every key: set a password with \
                 --requirepass, or say --allow-wide-bind where the network itself is trusted"
            ));
        }
        if bind.is_unspecified() && self.announce.is_none() && self.topology.is_none() {
            return conflict(format!(
                "--bind {bind} is no address that clients can be sent to: also give --announce HOST, the address or \
                 name they reach this server at, or a --topology"
            ));
        }
        self.validate_ports()?;
        if self.dir.is_none() && self.durability() != Durability::None {
            return conflict("durability needs a place to write to: also give --dir DIR".into());
        }
        if self.values == Values::Disk && self.dir.is_none() {
            return conflict("--values disk needs a place for them: also give --dir DIR".into());
        }
        if self.values == Values::Disk && self.durability() == Durability::None {
            return conflict(
                "--values disk keeps values in the log, and --durability none writes none: choose always or interval"
                    .into(),
            );
        }
        if self.maxclients_limit < self.maxclients {
            return conflict(format!(
                "The operating system is not able to handle the specified number of clients, try with {}",
                self.maxclients_limit
            ));
        }
        if self.output_hard_limit <= self.output_soft_limit {
            return conflict("output-hard-limit must be above output-soft-limit: raise it".into());
        }
        if self.max_request_bytes < self.proto_max_bulk_len {
            return conflict("max-request-bytes must hold one argument of proto-max-bulk-len: raise it".into());
        }
        if !self.receive_buffers.is_power_of_two() {
            let count = self.receive_buffers;
            return conflict(format!("receive-buffers {count}: io_uring wants a power of two, such as 256"));
        }
        Ok(())
    }

    /// Checks the ports as far as they are known: with a topology they come from there, and its own check covers them.
    fn validate_ports(&self) -> Result<(), ConfigError> {
        if self.topology.is_some() {
            return Ok(());
        }
        let cores = self.cores.unwrap_or(1).max(u16::try_from(self.cpus.len()).unwrap_or(u16::MAX));
        let first = self.first_core_port();
        let end = u32::from(first) + u32::from(cores);
        if u32::from(CORE_PORT_END) < end {
            return Err(ConfigError::Conflict(format!(
                "{cores} core ports from {first} on reach {}: core ports end below {CORE_PORT_END}, because cluster \
                 clients add 10000 to them: choose a lower --port or --core-port",
                end - 1
            )));
        }
        if (u32::from(first)..end).contains(&u32::from(self.port)) {
            return Err(ConfigError::Conflict(format!(
                "port {} is the gateway's and a core's, of {cores} from {first} on: move --core-port",
                self.port
            )));
        }
        Ok(())
    }

    /// Returns what CONFIG GET answers: names and values that match any of the patterns, whatever their case; Redis's
    /// names beside our own.
    pub fn matching(&self, patterns: &[&[u8]]) -> Vec<(&'static str, Vec<u8>)> {
        let patterns: Vec<_> = patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
        let is_asked = |name: &str| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
        let mut found = Vec::new();
        for setting in SETTINGS {
            found.extend(is_asked(setting.name).then(|| (setting.name, setting.value(self))));
            let alias = setting.redis.as_ref().filter(|alias| is_asked(alias.name));
            found.extend(alias.map(|alias| (alias.name, (alias.get)(self).into_bytes())));
        }
        let foreign = foreign::FOREIGN.iter().filter(|foreign| is_asked(foreign.name));
        found.extend(foreign.map(|foreign| (foreign.name, foreign.value(self).into_bytes())));
        found
    }

    /// Changes settings at run time, all or none (CONFIG SET). The error is the reply's text, in Redis's words.
    pub fn change(&mut self, pairs: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) -> Result<(), String> {
        let mut changed = self.clone();
        for (position, (given, value)) in pairs.iter().enumerate() {
            let (name, value) = (String::from_utf8_lossy(given.as_ref()), value.as_ref());
            let failed = |problem: &str| {
                Err(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {problem}"))
            };
            let lower = name.to_ascii_lowercase();
            if pairs[..position].iter().any(|(earlier, _)| earlier.as_ref().eq_ignore_ascii_case(given.as_ref())) {
                return failed("duplicate parameter");
            }
            if let Some(setting) = SETTINGS.iter().find(|setting| setting.is_called(&lower)) {
                if !setting.at_run_time {
                    return failed("can't set immutable config");
                }
                if let Err(problem) = setting.change(&mut changed, value) {
                    return failed(&problem);
                }
                if let Err(error) = changed.validate() {
                    return failed(&error.to_string());
                }
            } else if let Some(foreign) = foreign::find(&lower) {
                let only = foreign.value(self);
                if value != only.as_bytes() {
                    return failed(&format!("this server only knows '{only}': {}", foreign.why));
                }
            } else {
                return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
            }
        }
        *self = changed;
        Ok(())
    }
}

/// Returns true if a variable of a setting's name was set by Kubernetes or `docker --link` for a service called `trine`: the
/// address it listens on (`TRINE_PORT=tcp://10.96.0.7:7000`), or the names of the two containers (`TRINE_NAME=/web/trine`).
fn is_of_a_link(name: &str, value: &[u8]) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme.as_bytes()));
    (name == "port" && is_address) || (name == "name" && value.starts_with(b"/"))
}

/// Returns a setting.
///
/// # Panics
/// Where there is none of that name.
pub fn setting_named(name: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.name == name).expect("the table has every setting that code names")
}

/// Entries that are looked at before one of them is evicted. Redis takes 5 and keeps a pool of 16 between evictions.
pub const EVICTION_SAMPLES: usize = 12;

/// The first port that no core may use: `topology::CORE_PORT_END`.
const CORE_PORT_END: u16 = 55_536;

impl Setting {
    /// Returns the environment variable: `TRINE_MAX_MEMORY` for `max-memory`.
    pub fn variable(&self) -> String {
        format!("TRINE_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// Returns its value as CONFIG GET shows it.
    pub fn value(&self, config: &Config) -> Vec<u8> {
        self.bytes.as_ref().map_or_else(|| (self.get)(config).into_bytes(), |bytes| (bytes.get)(config))
    }

    /// Sets its value, or says what is wrong with it. No value is changed into another that happens to be text.
    pub fn change(&self, config: &mut Config, value: &[u8]) -> Result<(), String> {
        if let Some(bytes) = &self.bytes {
            (bytes.set)(config, value.to_vec());
            return Ok(());
        }
        let text = std::str::from_utf8(value).map_err(|_| "argument must be text in UTF-8")?;
        (self.set)(config, text)
    }

    /// Returns a value's place for an error, the value behind it where that may be shown.
    pub fn place(&self, place: &str, equals: &str, value: &[u8]) -> String {
        if self.is_secret { place.into() } else { format!("{place}{equals}{}", String::from_utf8_lossy(value)) }
    }

    /// Returns the default as people would write it; empty where there is none.
    pub fn default_for_people(&self) -> String {
        let value = (self.get)(&Config::default());
        match (self.kind, value.parse()) {
            (Kind::Size, Ok(bytes)) => units::size_for_people(bytes),
            _ => value,
        }
    }

    /// Returns the word that stands for the value in help.
    pub fn placeholder(&self) -> &'static str {
        match self.kind {
            Kind::Text(word) => word,
            Kind::Number => "N",
            Kind::Size => "SIZE",
            Kind::Seconds => "SECONDS",
            Kind::Switch => "yes|no",
            Kind::Choice(words) => words,
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.redis.as_ref().is_some_and(|alias| alias.name == name)
    }
}

/// Returns the table as Markdown, for the documentation.
pub fn settings_as_markdown() -> String {
    let mut text = String::from("| setting | default | what it does |\n| --- | --- | --- |\n");
    for setting in SETTINGS {
        let default = setting.default_for_people();
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let redis = setting.redis.as_ref().map_or(String::new(), |alias| format!(" (Redis: `{}`)", alias.name));
        let at_run_time = if setting.at_run_time { " Can be changed at run time." } else { "" };
        let reason = if setting.reason.is_empty() { String::new() } else { format!(" *{}*", setting.reason) };
        let help = setting.help.replace('|', "\\|");
        text += &format!("| `{}`{redis} | {default} | {help}.{reason}{at_run_time} |\n", setting.name);
    }
    text
}

/// Returns the setting of this name, its own or Redis's, in any case.
fn setting(name: &str) -> Option<&'static Setting> {
    let lower = name.to_ascii_lowercase();
    SETTINGS.iter().find(|setting| setting.is_called(&lower))
}

/// Returns true if what is set by this name should not be shown: a secret, or what is no setting and may be a misspelt one.
pub fn may_be_secret(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    foreign::find(&name).is_none() && setting(&name).is_none_or(|setting| setting.is_secret)
}

/// Says that a file is not TOML, by the number of the line and the setting on it. The line itself may have a password in it.
fn not_toml(text: &str, path: &str, span: Option<std::ops::Range<usize>>) -> ConfigError {
    let before = text.get(..span.map_or(0, |span| span.start)).unwrap_or_default();
    let line = before.matches('\n').count();
    let name = text.lines().nth(line).unwrap_or_default().split(['=', ' ']).find(|word| !word.is_empty());
    let name = name.and_then(setting).map_or(String::new(), |setting| format!("{}: ", setting.name));
    ConfigError::Value {
        place: format!("{path}: line {}", line + 1),
        problem: format!("{name}not TOML: write NAME = VALUE, each name once, and texts in quotes"),
    }
}

/// Returns the number of the line on which a setting stands, counted from 1.
fn line_of(text: &str, name: &str) -> Option<usize> {
    let table = toml::de::DeTable::parse(text).ok()?;
    let start = table.get_ref().keys().find(|key| key.get_ref() == name)?.span().start;
    Some(1 + text.get(..start)?.matches('\n').count())
}

/// Returns a TOML value as the text that a flag would have.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(value) => Some(units::yes_no(*value)),
        toml::Value::Array(values) => Some(values.iter().map(plain).collect::<Option<Vec<_>>>()?.join(",")),
        _ => None,
    }
}

/// Returns the setting that was probably meant: the one with the same letters, or whose name begins or ends alike.
fn similar(name: &str) -> Option<&'static str> {
    let letters = |name: &str| name.to_ascii_lowercase().replace(['-', '_'], "");
    let meant = letters(name);
    let alike = |known: &str| letters(known) == meant || (4 < meant.len() && letters(known).contains(&meant));
    let found = SETTINGS.iter().find(|setting| {
        alike(setting.name) || setting.redis.as_ref().is_some_and(|alias| letters(alias.name) == meant)
    });
    found.map(|setting| setting.name)
}

#[cfg(test)]
mod tests;
