//! The complexity, arguments and history of every command. The names, types and versions are those of Redis 7.2.

use super::{Argument, Doc, Kind};

const fn doc(name: &'static str, complexity: &'static str, arguments: &'static [Argument]) -> Doc {
    Doc { name, complexity, arguments, history: &[], deprecated: None, is_internal: false }
}

impl Doc {
    const fn history(self, history: &'static [(&'static str, &'static str)]) -> Self {
        Self { history, ..self }
    }

    const fn deprecated(self, since: &'static str, by: &'static str) -> Self {
        Self { deprecated: Some((since, by)), ..self }
    }

    const fn internal(self) -> Self {
        Self { is_internal: true, ..self }
    }
}

const fn key(name: &'static str, key_spec: i64) -> Argument {
    Argument { key_spec: Some(key_spec), ..Argument::new(name, Kind::Key) }
}

const fn string(name: &'static str) -> Argument {
    Argument::new(name, Kind::String)
}

const fn integer(name: &'static str) -> Argument {
    Argument::new(name, Kind::Integer)
}

const fn time(name: &'static str) -> Argument {
    Argument::new(name, Kind::UnixTime)
}

/// Creates a literal word.
const fn word(name: &'static str, token: &'static str) -> Argument {
    Argument::new(name, Kind::PureToken).token(token)
}

const fn one_of(name: &'static str, parts: &'static [Argument]) -> Argument {
    Argument::of(name, Kind::OneOf, parts)
}

const fn block(name: &'static str, parts: &'static [Argument]) -> Argument {
    Argument::of(name, Kind::Block, parts)
}

const NONE: &[Argument] = &[];
const KEY: Argument = key("key", 0);
const KEYS: &[Argument] = &[KEY.multiple()];
const PAIRS: &[Argument] = &[block("data", &[KEY, string("value")]).multiple()];
const ON_OFF: &[Argument] = &[one_of("enabled", &[word("on", "ON"), word("off", "OFF")])];
const CONDITION: Argument =
    one_of("condition", &[word("nx", "NX"), word("xx", "XX"), word("gt", "GT"), word("lt", "LT")])
        .since("7.0.0")
        .optional();
const FLUSH_TYPE: &[Argument] =
    &[one_of("flush-type", &[word("async", "ASYNC").since("4.0.0"), word("sync", "SYNC").since("6.2.0")]).optional()];
const COMMAND_NAMES: &[Argument] = &[string("command-name").optional().multiple()];
const WHOLE_COMMAND: &[Argument] = &[string("command"), string("arg").optional().multiple()];
const NODE: &[Argument] = &[string("node-id")];
const SLICE: &[Argument] = &[KEY, integer("start"), integer("end")];

const ONE: &str = "O(1)";
const SUBCOMMAND: &str = "That of the subcommand.";
const PER_KEY: &str = "O(N), N being the number of keys.";
const PER_PART: &str = "O(N), N being the length of the reply.";
const PER_CORE: &str = "O(N), N being the number of cores.";
const PER_COMMAND: &str = "O(N), N being the number of commands.";
const ALL_KEYS: &str = "O(N), N being the number of all keys.";

const EXPIRE: &[(&str, &str)] = &[("7.0.0", "The options `NX`, `XX`, `GT` and `LT`.")];
const TTL: &[(&str, &str)] = &[("2.8.0", "-2 says that there is no such key.")];
const FLUSH: &[(&str, &str)] = &[("4.0.0", "The option `ASYNC`."), ("6.2.0", "The option `SYNC`.")];

/// The documentation of every listed command and subcommand, in the order of their names.
#[rustfmt::skip]
pub(super) static TABLE: &[Doc] = &[
    doc("append", "O(N), N being the length of the appended string, or of the whole value if it has to be moved.", &[KEY, string("value")]),
    doc("asking", ONE, NONE),
    doc("auth", ONE, &[string("username").since("6.0.0").optional(), string("password")])
        .history(&[("6.0.0", "A user name may stand in front of the password.")]),
    doc("bgsave", "O(1), and O(N) in the background, N being the number of all keys.", &[word("schedule", "SCHEDULE").since("3.2.2").optional()])
        .history(&[("3.2.2", "The option `SCHEDULE`.")]),
    doc("client", SUBCOMMAND, NONE),
    doc("client|getname", ONE, NONE),
    doc("client|help", ONE, NONE),
    doc("client|id", ONE, NONE),
    doc("client|info", ONE, NONE),
    doc("client|kill", "O(N), N being the number of clients.", &[one_of("filter", &[
        string("old-format").shown("ip:port").deprecated("2.8.12"),
        one_of("new-format", &[
            integer("client-id").token("ID").since("2.8.12").optional(),
            one_of("client-type", &[
                word("normal", "NORMAL"),
                word("master", "MASTER").since("3.2.0"),
                word("slave", "SLAVE"),
                word("replica", "REPLICA").since("5.0.0"),
                word("pubsub", "PUBSUB"),
            ]).token("TYPE").since("2.8.12").optional(),
            string("username").token("USER").optional(),
            string("addr").shown("ip:port").token("ADDR").optional(),
            string("laddr").shown("ip:port").token("LADDR").since("6.2.0").optional(),
            one_of("skipme", &[word("yes", "YES"), word("no", "NO")]).token("SKIPME").optional(),
        ]).multiple(),
    ])]).history(&[
        ("2.8.12", "Filters with names."),
        ("2.8.12", "The filter `ID`."),
        ("3.2.0", "The type `master`."),
        ("5.0.0", "The type `replica`, which `slave` still stands for."),
        ("6.2.0", "The filter `LADDR`."),
    ]),
    doc("client|list", "O(N), N being the number of clients.", &[
        one_of("client-type", &[word("normal", "NORMAL"), word("master", "MASTER"), word("replica", "REPLICA"), word("pubsub", "PUBSUB")])
            .token("TYPE").since("5.0.0").optional(),
        integer("client-id").token("ID").since("6.2.0").optional().multiple(),
    ]).history(&[
        ("2.8.12", "The field `id`."),
        ("5.0.0", "The filter `TYPE`."),
        ("6.0.0", "The field `user`."),
        ("6.2.0", "The fields `argv-mem`, `tot-mem`, `laddr` and `redir`, and the filter `ID`."),
        ("7.0.0", "The fields `resp`, `multi-mem`, `rbs` and `rbp`."),
        ("7.0.3", "The field `ssub`."),
        ("7.2.0", "The fields `lib-name` and `lib-ver`."),
    ]),
    doc("client|no-evict", ONE, ON_OFF),
    doc("client|no-touch", ONE, ON_OFF),
    doc("client|reply", ONE, &[one_of("action", &[word("on", "ON"), word("off", "OFF"), word("skip", "SKIP")])]),
    doc("client|setinfo", ONE, &[one_of("attr", &[string("libname").token("LIB-NAME"), string("libver").token("LIB-VER")])]),
    doc("client|setname", ONE, &[string("connection-name")]),
    doc("cluster", SUBCOMMAND, NONE),
    doc("cluster|countkeysinslot", ONE, &[integer("slot")]),
    doc("cluster|getkeysinslot", "O(N), N being the number of keys in the reply.", &[integer("slot"), integer("count")]),
    doc("cluster|help", ONE, NONE),
    doc("cluster|info", ONE, NONE),
    doc("cluster|keyslot", "O(N), N being the length of the key.", &[string("key")]),
    doc("cluster|myid", ONE, NONE),
    doc("cluster|myshardid", ONE, NONE),
    doc("cluster|nodes", "O(N), N being the number of nodes.", NONE),
    doc("cluster|replicas", ONE, NODE),
    doc("cluster|shards", "O(N), N being the number of nodes.", NONE),
    doc("cluster|slaves", ONE, NODE).deprecated("5.0.0", "`CLUSTER REPLICAS`"),
    doc("cluster|slot-stats", "O(N log N), N being the number of slots.", &[one_of("filter", &[
        block("slotsrange", &[integer("start-slot"), integer("end-slot")]).token("SLOTSRANGE"),
        block("orderby", &[
            string("metric"),
            integer("limit").token("LIMIT").optional(),
            one_of("order", &[word("asc", "ASC"), word("desc", "DESC")]).optional(),
        ]).token("ORDERBY"),
    ])]),
    doc("cluster|slots", "O(N), N being the number of nodes.", NONE)
        .deprecated("7.0.0", "`CLUSTER SHARDS`")
        .history(&[("4.0.0", "The nodes' ids."), ("7.0.0", "More about how each node is reached.")]),
    doc("command", PER_COMMAND, NONE),
    doc("command|count", ONE, NONE),
    doc("command|docs", PER_COMMAND, COMMAND_NAMES),
    doc("command|getkeys", "O(N), N being the number of arguments.", WHOLE_COMMAND),
    doc("command|getkeysandflags", "O(N), N being the number of arguments.", WHOLE_COMMAND),
    doc("command|help", ONE, NONE),
    doc("command|info", PER_COMMAND, COMMAND_NAMES)
        .history(&[("7.0.0", "Without a name it tells of all commands.")]),
    doc("command|list", PER_COMMAND, &[one_of("filterby", &[
        string("module-name").token("MODULE"),
        string("category").token("ACLCAT"),
        Argument::new("pattern", Kind::Pattern).token("PATTERN"),
    ]).token("FILTERBY").optional()]),
    doc("config", SUBCOMMAND, NONE),
    doc("config|get", "O(N), N being the number of settings.", &[string("parameter").multiple()])
        .history(&[("7.0.0", "Several patterns at once.")]),
    doc("config|help", ONE, NONE),
    doc("config|resetstat", ONE, NONE),
    doc("config|rewrite", ONE, NONE),
    doc("config|set", "O(N), N being the number of settings.", &[block("data", &[string("parameter"), string("value")]).multiple()])
        .history(&[("7.0.0", "Several settings at once.")]),
    doc("copy", "O(N), N being the length of the value.", &[
        key("source", 0),
        key("destination", 1),
        integer("destination-db").token("DB").optional(),
        word("replace", "REPLACE").optional(),
    ]),
    doc("dbsize", ONE, NONE),
    doc("debug", SUBCOMMAND, NONE).internal(),
    doc("decr", ONE, &[KEY]),
    doc("decrby", ONE, &[KEY, integer("decrement")]),
    doc("del", PER_KEY, KEYS),
    doc("delifeq", "O(N), N being the length of the value.", &[KEY, string("value")]),
    doc("discard", "O(N), N being the number of queued commands.", NONE),
    doc("echo", ONE, &[string("message")]),
    doc("exec", "That of the commands in the transaction.", NONE),
    doc("exists", PER_KEY, KEYS).history(&[("3.0.3", "Several keys at once.")]),
    doc("expire", ONE, &[KEY, integer("seconds"), CONDITION]).history(EXPIRE),
    doc("expireat", ONE, &[KEY, time("unix-time-seconds"), CONDITION]).history(EXPIRE),
    doc("expiretime", ONE, &[KEY]),
    doc("flushall", "O(1), and O(N) in the background, N being the number of all keys.", FLUSH_TYPE).history(FLUSH),
    doc("flushdb", "O(1), and O(N) in the background, N being the number of all keys.", FLUSH_TYPE).history(FLUSH),
    doc("function", SUBCOMMAND, NONE),
    doc("function|flush", ONE, &[one_of("flush-type", &[word("async", "ASYNC"), word("sync", "SYNC")]).optional()]),
    doc("get", ONE, &[KEY]),
    doc("getdel", ONE, &[KEY]),
    doc("getex", ONE, &[KEY, one_of("expiration", &[
        integer("seconds").token("EX"),
        integer("milliseconds").token("PX"),
        time("unix-time-seconds").token("EXAT"),
        time("unix-time-milliseconds").token("PXAT"),
        word("persist", "PERSIST"),
    ]).optional()]),
    doc("getrange", PER_PART, SLICE),
    doc("getset", ONE, &[KEY, string("value")]).deprecated("6.2.0", "`SET` with the `!GET` argument"),
    doc("hello", ONE, &[block("arguments", &[
        integer("protover"),
        block("auth", &[string("username"), string("password")]).token("AUTH").optional(),
        string("clientname").token("SETNAME").optional(),
    ]).optional()]).history(&[("6.2.0", "Without a version it tells of the connection and leaves it as it is.")]),
    doc("hotkeys", PER_CORE, &[one_of("action", &[integer("count").token("COUNT"), word("reset", "RESET")]).optional()]),
    doc("incr", ONE, &[KEY]),
    doc("incrby", ONE, &[KEY, integer("increment")]),
    doc("incrbyfloat", ONE, &[KEY, Argument::new("increment", Kind::Double)]),
    doc("info", PER_CORE, &[string("section").optional().multiple()])
        .history(&[("7.0.0", "Several sections at once.")]),
    doc("keys", ALL_KEYS, &[Argument::new("pattern", Kind::Pattern)]),
    doc("lastsave", ONE, NONE),
    doc("latency", SUBCOMMAND, NONE),
    doc("latency|doctor", ONE, NONE),
    doc("latency|help", ONE, NONE),
    doc("latency|histogram", PER_COMMAND, &[string("command").optional().multiple()]),
    doc("latency|history", ONE, &[string("event")]),
    doc("latency|latest", ONE, NONE),
    doc("latency|reset", ONE, &[string("event").optional().multiple()]),
    doc("lcs", "O(N*M), N and M being the lengths of the values.", &[
        key("key1", 0),
        key("key2", 0),
        word("len", "LEN").optional(),
        word("idx", "IDX").optional(),
        integer("min-match-len").token("MINMATCHLEN").optional(),
        word("withmatchlen", "WITHMATCHLEN").optional(),
    ]),
    doc("memory", SUBCOMMAND, NONE),
    doc("memory|doctor", ONE, NONE),
    doc("memory|help", ONE, NONE),
    doc("memory|malloc-stats", ONE, NONE),
    doc("memory|purge", ONE, NONE),
    doc("memory|stats", "O(N), N being the number of clients.", NONE),
    doc("memory|usage", ONE, &[KEY, integer("count").token("SAMPLES").optional()]),
    doc("metrics", PER_CORE, NONE),
    doc("mget", PER_KEY, KEYS),
    doc("mset", PER_KEY, PAIRS),
    doc("msetnx", PER_KEY, PAIRS),
    doc("multi", ONE, NONE),
    doc("object", SUBCOMMAND, NONE),
    doc("object|encoding", ONE, &[KEY]),
    doc("object|freq", ONE, &[KEY]),
    doc("object|help", ONE, NONE),
    doc("object|idletime", ONE, &[KEY]),
    doc("object|refcount", ONE, &[KEY]),
    doc("persist", ONE, &[KEY]),
    doc("pexpire", ONE, &[KEY, integer("milliseconds"), CONDITION]).history(EXPIRE),
    doc("pexpireat", ONE, &[KEY, time("unix-time-milliseconds"), CONDITION]).history(EXPIRE),
    doc("pexpiretime", ONE, &[KEY]),
    doc("ping", ONE, &[string("message").optional()]),
    doc("psetex", ONE, &[KEY, integer("milliseconds"), string("value")]).deprecated("2.6.12", "`SET` with the `PX` argument"),
    doc("pttl", ONE, &[KEY]).history(TTL),
    doc("quit", ONE, NONE).deprecated("7.2.0", "just closing the connection"),
    doc("randomkey", ONE, NONE),
    doc("readonly", ONE, NONE),
    doc("readwrite", ONE, NONE),
    doc("ready", PER_CORE, NONE),
    doc("rename", "O(N), N being the length of the value.", &[KEY, key("newkey", 1)]),
    doc("renamenx", "O(N), N being the length of the value.", &[KEY, key("newkey", 1)])
        .history(&[("3.2.0", "To rename a key to itself is no error.")]),
    doc("reset", ONE, NONE),
    doc("role", ONE, NONE),
    doc("save", ALL_KEYS, NONE),
    doc("scan", "O(1) for each call, O(N) for a complete iteration, N being the number of all keys.", &[
        integer("cursor"),
        Argument::new("pattern", Kind::Pattern).token("MATCH").optional(),
        integer("count").token("COUNT").optional(),
        string("type").token("TYPE").since("6.0.0").optional(),
    ]).history(&[("6.0.0", "The option `TYPE`.")]),
    doc("select", ONE, &[integer("index")]),
    doc("set", "O(N), N being the length of the value.", &[
        KEY,
        string("value"),
        // IFEQ is not in Redis 7.2; Valkey has it at this position.
        one_of("condition", &[
            word("nx", "NX"),
            word("xx", "XX"),
            string("comparison-value").token("IFEQ"),
        ]).since("2.6.12").optional(),
        word("get", "GET").since("6.2.0").optional(),
        one_of("expiration", &[
            integer("seconds").token("EX").since("2.6.12"),
            integer("milliseconds").token("PX").since("2.6.12"),
            time("unix-time-seconds").token("EXAT").since("6.2.0"),
            time("unix-time-milliseconds").token("PXAT").since("6.2.0"),
            word("keepttl", "KEEPTTL").since("6.0.0"),
        ]).optional(),
    ]).history(&[
        ("2.6.12", "The options `EX`, `PX`, `NX` and `XX`."),
        ("6.0.0", "The option `KEEPTTL`."),
        ("6.2.0", "The options `GET`, `EXAT` and `PXAT`."),
        ("7.0.0", "`NX` and `GET` may stand together."),
    ]),
    doc("setex", ONE, &[KEY, integer("seconds"), string("value")]).deprecated("2.6.12", "`SET` with the `EX` argument"),
    doc("setnx", ONE, &[KEY, string("value")]).deprecated("2.6.12", "`SET` with the `NX` argument"),
    doc("setrange", "O(N), N being the length of the written string, or of the whole value if it has to be moved.",
        &[KEY, integer("offset"), string("value")]),
    doc("shutdown", "O(1)", &[
        one_of("save-selector", &[word("nosave", "NOSAVE"), word("save", "SAVE")]).optional(),
        word("now", "NOW").since("7.0.0").optional(),
        word("force", "FORCE").since("7.0.0").optional(),
        word("abort", "ABORT").since("7.0.0").optional(),
    ]).history(&[("7.0.0", "The options `NOW`, `FORCE` and `ABORT`.")]),
    doc("slowlog", SUBCOMMAND, NONE),
    doc("slowlog|get", "O(N), N being the number of entries.", &[integer("count").optional()])
        .history(&[("4.0.0", "The client's address and name.")]),
    doc("slowlog|help", ONE, NONE),
    doc("slowlog|len", ONE, NONE),
    doc("slowlog|reset", "O(N), N being the number of entries.", NONE),
    doc("strlen", ONE, &[KEY]),
    doc("substr", PER_PART, SLICE).deprecated("2.0.0", "`GETRANGE`"),
    doc("time", ONE, NONE),
    doc("touch", PER_KEY, KEYS),
    doc("ttl", ONE, &[KEY]).history(TTL),
    doc("type", ONE, &[KEY]),
    doc("unlink", PER_KEY, KEYS),
    doc("unwatch", ONE, NONE),
    doc("wait", ONE, &[integer("numreplicas"), integer("timeout")]),
    doc("watch", PER_KEY, KEYS),
];
