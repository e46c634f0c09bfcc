//! A command: a row of the command table, which states its arguments, its route and its needs, and the function that
//! runs it.
//!
//! [`crate::commands`] has the rows, a file for each family of commands, and the table that finds a row by its name.

pub use crate::keys::Keys;
use crate::{
    client::{Client, Port},
    core::Core,
    resp::{Reply, Request, Version},
    slot::Slot,
    store::{Entry, Key, Store},
    time::{Now, UnixMillis},
    wal::SLOT_SET_BYTES,
};

/// A row of the command table: the facts that `COMMAND` tells clients, and the function that runs the command.
pub struct Command {
    /// The name in lower case; a subcommand's is `container|subcommand`.
    pub name: &'static str,
    /// The number of arguments, the name included; a negative number stands for "at least".
    pub arity: i16,
    /// The command's properties.
    pub flags: Flags,
    /// The arguments that are keys.
    pub keys: Keys,
    /// The cores that execute it if it came by the gateway.
    pub route: Route,
    /// One line of documentation, in Redis's words (`COMMAND DOCS`).
    pub summary: &'static str,
    /// The version of Redis that introduced it.
    pub since: &'static str,
    /// The family that Redis puts it in: `string`, `generic`, `connection`, `server`, `cluster`.
    pub group: &'static str,
    /// The function that runs it.
    pub run: Run,
    /// The subcommands of a container; empty for other commands.
    pub subcommands: &'static [Command],
}

/// A command's function. It is called with the right number of arguments, and, for a command with keys, on the shard
/// that owns them.
pub type Run = fn(&mut Call<'_>) -> Outcome;

/// A set of properties of a command. Names and meanings are those of Redis's command flags, except for
/// [`NO_VALUES`](Self::NO_VALUES) and [`REFUSED`](Self::REFUSED), which Redis does not have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flags(pub u16);

impl Flags {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// The command may change keys.
    pub const WRITE: Self = Self(1);
    /// It reads keys.
    pub const READONLY: Self = Self(2);
    /// It may need memory, and is refused where `max-memory` is used up.
    pub const DENYOOM: Self = Self(4);
    /// It is for operators.
    pub const ADMIN: Self = Self(8);
    /// It takes constant or logarithmic time.
    pub const FAST: Self = Self(16);
    /// It is also executed before AUTH.
    pub const NO_AUTH: Self = Self(32);
    /// It is executed while the server loads its data.
    pub const LOADING: Self = Self(64);
    /// It is executed by a replica whose data is old.
    pub const STALE: Self = Self(128);
    /// It is not allowed in a script.
    pub const NOSCRIPT: Self = Self(256);
    /// It is executed while a script runs. There are no scripts here; `COMMAND` reports the flag.
    pub const ALLOW_BUSY: Self = Self(512);
    /// It is not allowed in a transaction.
    pub const NO_MULTI: Self = Self(2048);
    /// It is not executed while a replica loads its data from another server.
    pub const NO_ASYNC_LOADING: Self = Self(4096);
    /// It does not need the values of its keys: those on disk are not read for it. Without this flag they are read
    /// before it is executed; see [`needed_keys`].
    pub const NO_VALUES: Self = Self(8192);
    /// It does not appear in the slow log.
    pub const SKIP_SLOWLOG: Self = Self(16384);
    /// It is not supported: the reply is an error that says what to use instead. `COMMAND` does not list it.
    pub const REFUSED: Self = Self(1024);

    /// Returns the flags of both sets.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns true if all flags of `other` are set.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Returns the indices of the keys whose values a request needs.
pub fn needed_keys(command: &Command, request: Request<'_>) -> impl Iterator<Item = usize> {
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    // SET needs the old value only with one of these options.
    let needs = !command.flags.has(Flags::NO_VALUES)
        && (command.name != "set"
            || (3 < request.len() && request.args_from(3).any(|word| is(word, "get") || is(word, "ifeq"))));
    let keys = match command.name {
        _ if !needs => Keys::NONE,
        // The value that is overwritten is not needed.
        "copy" | "rename" | "renamenx" => Keys::ONE,
        _ => command.keys,
    };
    keys.indices(request.len())
}

/// The keys that a command removes without adding any: such a command can make room on a full disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Relief {
    /// The command may add keys or bytes.
    None,
    /// It removes some keys.
    SomeKeys,
    /// It removes all keys: only this is certain to make room.
    AllKeys,
}

/// Returns the keys that a command removes.
pub fn relief(command: &Command) -> Relief {
    match command.name {
        "flushall" | "flushdb" => Relief::AllKeys,
        "del" | "delifeq" | "getdel" | "unlink" => Relief::SomeKeys,
        _ => Relief::None,
    }
}

/// The most bytes that a record has besides those of the request, for each argument: an argument makes one record at
/// most.
const RECORD_OVERHEAD_MAX: usize = 32;

/// Returns the most bytes of records that a write can append to the log, evictions not included. `value_len`: returns
/// the length of a key's value. `value_bytes_max`: the longest value that is allowed.
#[inline]
pub fn record_bytes_max(
    command: &Command,
    request: Request<'_>,
    value_bytes_max: usize,
    value_len: impl Fn(&[u8]) -> usize,
) -> u64 {
    let given = request.encoded_bytes() + RECORD_OVERHEAD_MAX * request.len();
    let rewritten = match command.name {
        // A record holds the whole value, even if only a part has changed.
        "append" | "copy" | "rename" | "renamenx" => value_len(request.arg(1)),
        "setrange" => value_len(request.arg(1)).max(offset_of(request).min(value_bytes_max)),
        // The set of slots.
        "flushall" | "flushdb" => SLOT_SET_BYTES,
        "incrbyfloat" => FLOAT_BYTES_MAX,
        _ => 0,
    };
    (given + rewritten) as u64
}

/// The most digits of a number that INCRBYFLOAT can make: all those of the largest long double.
const FLOAT_BYTES_MAX: usize = 5 * 1024;

/// Returns the offset of SETRANGE; 0 if it is none.
fn offset_of(request: Request<'_>) -> usize {
    let offset = crate::resp::parse_i64(request.arg(2)).and_then(|offset| usize::try_from(offset).ok());
    offset.unwrap_or_default()
}

/// Returns a bound of the length of the values that a write leaves under its keys. `value_len`, `value_bytes_max`: as for
/// [`record_bytes_max`].
pub fn value_len_max(
    command: &Command,
    request: Request<'_>,
    value_bytes_max: usize,
    value_len: impl Fn(&[u8]) -> usize,
) -> usize {
    let argument = |index: usize| if index < request.len() { request.arg(index).len() } else { 0 };
    let (longest, value_bytes_max) = match command.name {
        "append" => (value_len(request.arg(1)).saturating_add(argument(2)), value_bytes_max),
        "setrange" => {
            let written = offset_of(request).saturating_add(argument(3));
            (value_len(request.arg(1)).max(written), value_bytes_max)
        }
        "incrbyfloat" => (value_len(request.arg(1)).max(FLOAT_BYTES_MAX), usize::MAX),
        _ => {
            let kept = command.keys.indices(request.len()).map(|index| value_len(request.arg(index))).max();
            let given = (0..request.len()).map(argument).max();
            // INCR makes a number of its own.
            (kept.max(given).unwrap_or_default().max(20), usize::MAX)
        }
    };
    longest.min(value_bytes_max)
}

/// The cores that execute a command that came by the gateway. On a core's port every command is executed by that core,
/// except those that change the server's settings ([`Merge::Here`]): a server has one password, by whichever port it
/// was set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// The core that has the connection: any core could answer.
    Here,
    /// The core that owns the keys. All must be on one core.
    Keys,
    /// The core that owns the keys, as with [`Keys`](Self::Keys); the core that has the connection keeps the reply too
    /// (`WATCH`).
    Watch,
    /// The core that owns the slot which this argument names (`CLUSTER COUNTKEYSINSLOT 5`).
    SlotAt(u8),
    /// Each core that owns some of the keys, with a part of the request; the replies are merged.
    Split(Merge),
    /// Every core; the replies are merged.
    Everywhere(Merge),
    /// The core that the cursor in this argument names, and the next one once that is done (`SCAN`).
    CursorAt(u8),
}

impl Route {
    /// Returns the route of a request whose keys are all on one core.
    #[inline]
    pub fn to_one_core(self) -> Self {
        if self == Self::Watch { self } else { Self::Keys }
    }
}

/// The way in which the replies of several cores become one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Merge {
    /// `+OK` if all are, or else the first error.
    Ok,
    /// The sum of integers.
    Sum,
    /// The smallest of integers (`LASTSAVE`: every core has saved since then).
    Least,
    /// A map from names to integers, with the same names on all cores: each integer is the sum (`MEMORY STATS`).
    Sums,
    /// An array (or a set) of all elements; for [`Route::Split`], in the order of the keys.
    Elements,
    /// All texts, one behind the other; each is made of whole lines (`CLIENT LIST`).
    Lines,
    /// The text of `INFO`, in which fields that can be added are added.
    Info,
    /// The sums for each command (`LATENCY HISTOGRAM`).
    Histograms,
    /// The samples of each family, one core's behind the other's (`METRICS`).
    Metrics,
    /// The first elements of all arrays, sorted by one of their numbers, in the order that the request asks for
    /// (`CLUSTER SLOT-STATS`, `HOTKEYS`).
    Ranked,
    /// A random reply that is not null; the chance of each is its core's share of the keys (`RANDOMKEY`).
    First,
    /// The reply of the core that has the connection; the others run for their effect (`CONFIG SET`).
    Here,
}

/// The outcome of a command: what its caller must do next. The reply, if any, is in the output already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The reply may be sent.
    Done,
    /// The core must block for this long (`DEBUG SLEEP`), for tests that need a slow core.
    Stall(std::time::Duration),
    /// The server must stop, as after a signal (`SHUTDOWN`). There is no reply.
    Shutdown,
    /// The core must take a snapshot, and the reply follows when that is finished (`SAVE`).
    Save,
}

/// One call of a command: the request, its client, and the state that it works on.
pub struct Call<'a> {
    /// The command's name and arguments.
    pub request: Request<'a>,
    /// The command's row.
    pub command: &'static Command,
    /// The slot of its first key; slot 0 if it has none.
    pub slot: Slot,
    /// The time.
    pub now: Now,
    /// The reply, to be written to.
    pub reply: Reply<'a>,
    /// The client that sent the request.
    pub client: &'a mut Client,
    /// The shard's keys.
    pub store: &'a mut Store,
    /// The shard's state besides its keys.
    pub core: &'a mut Core,
}

impl<'a> Call<'a> {
    /// Returns the request's first key, with the slot that is known already.
    #[inline]
    pub fn key(&self) -> Key<'a> {
        Key { bytes: self.request.arg(self.command.keys.first as usize), slot: self.slot }
    }

    /// Returns the wall-clock time in the store's unit.
    #[inline]
    pub fn millis(&self) -> UnixMillis {
        self.now.unix_millis()
    }

    /// Reads a key. Returns its entry, and the reply to write to. The read of a client with `CLIENT NO-TOUCH` changes
    /// neither when nor how often the key was used.
    #[inline]
    pub fn read(&mut self, key: Key<'_>) -> (Option<&Entry>, &mut Reply<'a>) {
        let now = self.millis();
        let found = if self.client.no_touch { self.store.look(key, now) } else { self.store.get(key, now) };
        (found, &mut self.reply)
    }

    /// Counts a use of a key that a write finds and leaves unchanged, and returns true if the key exists. For a client
    /// with `CLIENT NO-TOUCH` no use is counted.
    pub fn note_use(&mut self, key: Key<'_>) -> bool {
        let now = self.millis();
        if self.client.no_touch { self.store.probe(key, now).is_some() } else { self.store.note_use(key, now) }
    }

    /// Replies with an error.
    pub fn fail(&mut self, text: &str) -> Outcome {
        self.reply.error(text);
        Outcome::Done
    }

    /// Returns true if the client sees a Redis cluster: on a core's port always, on a gateway if there is a topology.
    pub fn is_cluster(&self) -> bool {
        self.client.port == Port::Core || self.core.has_topology
    }

    /// Replies with the lines of a container's `HELP`.
    pub fn help(&mut self, lines: &[&str]) -> Outcome {
        let container = self.command.name.split('|').next().unwrap_or_default().to_ascii_uppercase();
        self.reply.array(lines.len() + 3);
        self.reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
        lines.iter().chain(&["HELP", "    Prints this help."]).for_each(|line| self.reply.simple(line));
        Outcome::Done
    }

    /// Returns true if an argument is this word, in any case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.request.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Returns true if the client's connection is on this core. For a request that another core has forwarded,
    /// [`client`](Self::client) is a stand-in whose id is 0.
    pub fn is_local_client(&self) -> bool {
        self.client.id != 0
    }

    /// Returns an argument as text for an error.
    pub fn text(&self, index: usize) -> String {
        String::from_utf8_lossy(self.request.arg(index)).into_owned()
    }

    /// Returns true if the client speaks RESP3.
    pub fn is_resp3(&self) -> bool {
        self.reply.version == Version::Three
    }
}

impl Command {
    /// Creates a row without documentation or subcommands; see [`doc`](Self::doc) and [`with`](Self::with).
    pub const fn new(name: &'static str, arity: i16, flags: Flags, keys: Keys, route: Route, run: Run) -> Self {
        Self { name, arity, flags, keys, route, summary: "", since: "", group: "", run, subcommands: &[] }
    }

    /// Creates the row of a container. Its arity demands a subcommand, which is then called instead of it.
    pub const fn container(name: &'static str, subcommands: &'static [Command]) -> Self {
        let never: Run = |call| call.fail("ERR syntax error");
        Self::new(name, -2, Flags::NONE, Keys::NONE, Route::Here, never).with(subcommands)
    }

    /// Returns the row with documentation.
    pub const fn doc(self, group: &'static str, since: &'static str, summary: &'static str) -> Self {
        Self { group, since, summary, ..self }
    }

    /// Returns the row of a container with subcommands.
    pub const fn with(self, subcommands: &'static [Command]) -> Self {
        Self { subcommands, ..self }
    }

    /// Returns the name without the container's.
    pub fn short_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, name)| name)
    }
}
