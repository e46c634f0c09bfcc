//! A command: a row of the table, which says what it takes, where it goes and what it needs, and the function that runs it.
//!
//! [`crate::commands`] has the rows, a file for each family, and the table that finds them by name.

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

/// A row of the command table: what `COMMAND` tells clients, and the function that runs it.
pub struct Command {
    /// In lower case; a subcommand's is `container|subcommand`.
    pub name: &'static str,
    /// The number of arguments, the name included; negative for "at least".
    pub arity: i16,
    /// What it does and needs.
    pub flags: Flags,
    /// Which arguments are keys.
    pub keys: Keys,
    /// Where it goes on a gateway.
    pub route: Route,
    /// What it does, in Redis's words of one line (`COMMAND DOCS`).
    pub summary: &'static str,
    /// The version of Redis that brought it.
    pub since: &'static str,
    /// Its family, as Redis names it: `string`, `generic`, `connection`, `server`, `cluster`.
    pub group: &'static str,
    /// The function.
    pub run: Run,
    /// Its subcommands, where it is a container.
    pub subcommands: &'static [Command],
}

/// A command's function. Arity is checked; for a command with keys, so is that this shard owns them.
pub type Run = fn(&mut Call<'_>) -> Outcome;

/// What a command does and needs. Names and meanings are those of Redis's command flags.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flags(pub u16);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Changes keys.
    pub const WRITE: Self = Self(1);
    /// Reads keys.
    pub const READONLY: Self = Self(2);
    /// May need memory: refused at the limit.
    pub const DENYOOM: Self = Self(4);
    /// For operators.
    pub const ADMIN: Self = Self(8);
    /// Constant or logarithmic time.
    pub const FAST: Self = Self(16);
    /// Before AUTH too.
    pub const NO_AUTH: Self = Self(32);
    /// Answered while a server reads its data.
    pub const LOADING: Self = Self(64);
    /// Answered by a replica with old data.
    pub const STALE: Self = Self(128);
    /// Not from a script.
    pub const NOSCRIPT: Self = Self(256);
    /// Answered while a script runs, were there scripts.
    pub const ALLOW_BUSY: Self = Self(512);
    /// Not in a transaction.
    pub const NO_MULTI: Self = Self(2048);
    /// Not while a server reads its data from another.
    pub const NO_ASYNC_LOADING: Self = Self(4096);
    /// Does not need the values that its keys have: those on disk are not read for it. Without it they are read first; see
    /// [`needed_keys`].
    pub const NO_VALUES: Self = Self(8192);
    /// Not in the slow log.
    pub const SKIP_SLOWLOG: Self = Self(16384);
    /// Not here: answered with an error that says what to use instead. `COMMAND` does not list it.
    pub const REFUSED: Self = Self(1024);

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in it.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The keys whose values a request needs, by their indices.
pub fn needed_keys(command: &Command, request: Request<'_>) -> impl Iterator<Item = usize> {
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    // SET needs what was there only where it is told so.
    let needs = !command.flags.has(Flags::NO_VALUES)
        && (command.name != "set"
            || (3 < request.len() && request.args_from(3).any(|word| is(word, "get") || is(word, "ifeq"))));
    let keys = match command.name {
        _ if !needs => Keys::NONE,
        // What is overwritten is not needed.
        "copy" | "rename" | "renamenx" => Keys::ONE,
        _ => command.keys,
    };
    keys.indices(request.len())
}

/// The keys that a command takes away, and adds none: such a command is the way out of a full disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Relief {
    /// It may add.
    None,
    /// Some keys go.
    SomeKeys,
    /// All keys go: nothing else makes room for certain.
    AllKeys,
}

/// Returns the keys that a command takes away.
pub fn relief(command: &Command) -> Relief {
    match command.name {
        "flushall" | "flushdb" => Relief::AllKeys,
        "del" | "delifeq" | "getdel" | "unlink" => Relief::SomeKeys,
        _ => Relief::None,
    }
}

/// Bytes of a record beside what the request gives of it, for each argument; at most one record is made of each.
const RECORD_OVERHEAD_MAX: usize = 32;

/// Returns a bound of the bytes of records that a write appends to the log, its evictions left out. `value_len`: the length of
/// a key's value. `value_bytes_max`: the longest value that there may be.
#[inline]
pub fn record_bytes_max(
    command: &Command,
    request: Request<'_>,
    value_bytes_max: usize,
    value_len: impl Fn(&[u8]) -> usize,
) -> u64 {
    let given = request.encoded_bytes() + RECORD_OVERHEAD_MAX * request.len();
    let rewritten = match command.name {
        // A record has the whole value, whatever part of it has changed.
        "append" | "copy" | "rename" | "renamenx" => value_len(request.arg(1)),
        "setrange" => {
            let offset = crate::resp::parse_i64(request.arg(2)).and_then(|offset| usize::try_from(offset).ok());
            value_len(request.arg(1)).max(offset.unwrap_or_default().min(value_bytes_max))
        }
        // The set of slots.
        "flushall" | "flushdb" => SLOT_SET_BYTES,
        // All digits of a long double.
        "incrbyfloat" => 5 * 1024,
        _ => 0,
    };
    (given + rewritten) as u64
}

/// Where a command goes that came in by the gateway. On a core's port every command stays where it is, but what changes the
/// server's settings ([`Merge::Here`]): a server has one password, whichever port it was set by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// Any core can answer: the one that has the connection does.
    Here,
    /// To the core that owns its keys. All must be on one core.
    Keys,
    /// As [`Keys`](Self::Keys), and the core that has the connection keeps the reply of another core (`WATCH`).
    Watch,
    /// To the core that owns the slot named by this argument (`CLUSTER COUNTKEYSINSLOT 5`).
    SlotAt(u8),
    /// Split by key over the cores; the replies are put together so.
    Split(Merge),
    /// To every core; the replies are put together so.
    Everywhere(Merge),
    /// To the core that the cursor in this argument names, and on to the next when that one is done (`SCAN`).
    CursorAt(u8),
}

impl Route {
    /// Returns the route of a request all of whose keys turn out to be on one core.
    #[inline]
    pub fn to_one_core(self) -> Self {
        if self == Self::Watch { self } else { Self::Keys }
    }
}

/// How the replies of several cores become one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Merge {
    /// All are `+OK`, or the first error.
    Ok,
    /// The sum of integers.
    Sum,
    /// The least of integers (`LASTSAVE`: all have been saved since).
    Least,
    /// A map of names and integers, the same on all: each integer is the sum (`MEMORY STATS`).
    Sums,
    /// One array (or set) of all elements; for [`Route::Split`], in the order of the keys.
    Elements,
    /// Texts of whole lines, one behind the other (`CLIENT LIST`).
    Lines,
    /// `INFO`: fields that add up are added.
    Info,
    /// `LATENCY HISTOGRAM`: for each command the sums of all.
    Histograms,
    /// `METRICS`: of each family the samples of all, one core's behind the other's.
    Metrics,
    /// Arrays of things that have numbers: the first of all, by one of their numbers, in the order that the request asks for
    /// (`CLUSTER SLOT-STATS`, `HOTKEYS`).
    Ranked,
    /// A random one that is no null (`RANDOMKEY`), each as likely as its core has keys.
    First,
    /// The reply of the core that has the connection; the others' are for their effect (`CONFIG SET`).
    Here,
}

/// What came of a command. Its reply is in the output either way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The reply may leave.
    Done,
    /// `DEBUG SLEEP`: the core stops for this long, for tests that need a slow core.
    Stall(std::time::Duration),
    /// `SHUTDOWN`: the server stops as it does at a signal. There is no reply.
    Shutdown,
    /// `SAVE`: the reply comes when the snapshot that the core was asked for is there.
    Save,
}

/// One call of a command: what was asked, who asked, and what it works on.
pub struct Call<'a> {
    /// The command's name and arguments.
    pub request: Request<'a>,
    /// The row that was found for it.
    pub command: &'static Command,
    /// The slot of its first key; [`Slot`] 0 where it has none.
    pub slot: Slot,
    /// The time.
    pub now: Now,
    /// Where the reply goes.
    pub reply: Reply<'a>,
    /// Who asked.
    pub client: &'a mut Client,
    /// The shard's keys.
    pub store: &'a mut Store,
    /// What the shard knows besides its keys.
    pub core: &'a mut Core,
}

impl<'a> Call<'a> {
    /// The command's first argument as a key, its slot known.
    #[inline]
    pub fn key(&self) -> Key<'a> {
        Key { bytes: self.request.arg(self.command.keys.first as usize), slot: self.slot }
    }

    /// Wall-clock time in the store's unit.
    #[inline]
    pub fn millis(&self) -> UnixMillis {
        self.now.unix_millis()
    }

    /// What a read of a key finds, and where the reply to it goes. The read of a client that asked for it (`CLIENT
    /// NO-TOUCH`) leaves no trace in the entry's use.
    #[inline]
    pub fn read(&mut self, key: Key<'_>) -> (Option<&Entry>, &mut Reply<'a>) {
        let now = self.millis();
        let found = if self.client.no_touch { self.store.look(key, now) } else { self.store.get(key, now) };
        (found, &mut self.reply)
    }

    /// Notes a use of a key that a write finds and leaves as it is, and returns true if it is there. A client that asked for it
    /// (`CLIENT NO-TOUCH`) leaves no trace.
    pub fn note_use(&mut self, key: Key<'_>) -> bool {
        let now = self.millis();
        if self.client.no_touch { self.store.probe(key, now).is_some() } else { self.store.note_use(key, now) }
    }

    /// Answers with an error and is done.
    pub fn fail(&mut self, text: &str) -> Outcome {
        self.reply.error(text);
        Outcome::Done
    }

    /// Whether the client was told that this is a cluster: a core's port always is one, a gateway with a topology.
    pub fn is_cluster(&self) -> bool {
        self.client.port == Port::Core || self.core.has_topology
    }

    /// Answers with the lines of a container's `HELP`.
    pub fn help(&mut self, lines: &[&str]) -> Outcome {
        let container = self.command.name.split('|').next().unwrap_or_default().to_ascii_uppercase();
        self.reply.array(lines.len() + 3);
        self.reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
        lines.iter().chain(&["HELP", "    Prints this help."]).for_each(|line| self.reply.simple(line));
        Outcome::Done
    }

    /// Whether an argument is this word, in any case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.request.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Whether the client is at this core. For a part of a request that came by another core, [`client`](Self::client) is a
    /// stand-in, whose id is 0.
    pub fn is_at_home(&self) -> bool {
        self.client.id != 0
    }

    /// An argument, to be shown in an error.
    pub fn text(&self, index: usize) -> String {
        String::from_utf8_lossy(self.request.arg(index)).into_owned()
    }

    /// Whether the client speaks RESP3.
    pub fn is_resp3(&self) -> bool {
        self.reply.version == Version::Three
    }
}

impl Command {
    /// A row without documentation or subcommands; see [`doc`](Self::doc) and [`with`](Self::with).
    pub const fn new(name: &'static str, arity: i16, flags: Flags, keys: Keys, route: Route, run: Run) -> Self {
        Self { name, arity, flags, keys, route, summary: "", since: "", group: "", run, subcommands: &[] }
    }

    /// The row of a container. Its arity asks for a subcommand, so that one of these is called instead of it.
    pub const fn container(name: &'static str, subcommands: &'static [Command]) -> Self {
        let never: Run = |call| call.fail("ERR syntax error");
        Self::new(name, -2, Flags::NONE, Keys::NONE, Route::Here, never).with(subcommands)
    }

    /// The row with its documentation.
    pub const fn doc(self, group: &'static str, since: &'static str, summary: &'static str) -> Self {
        Self { group, since, summary, ..self }
    }

    /// The row of a container, with its subcommands.
    pub const fn with(self, subcommands: &'static [Command]) -> Self {
        Self { subcommands, ..self }
    }

    /// A subcommand's name without its container's.
    pub fn short_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, name)| name)
    }
}
