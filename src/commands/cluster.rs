//! `CLUSTER`: the owners of slots, and the keys in slots. Replies that depend on the topology alone were rendered with
//! it.

use super::{Call, Command, Flags, Keys, Merge, Outcome, Route, Run, errors};
use crate::{
    resp::{Request, parse_i64},
    slot::{SLOT_COUNT, Slot},
    statistics::SlotUse,
    topology::Both,
};

const ADMIN: Flags = Flags::ADMIN.and(Flags::STALE);

const fn row(name: &'static str, arity: i16, flags: Flags, run: Run) -> Command {
    Command::new(name, arity, flags, Keys::NONE, Route::Here, run)
}

const fn slot_row(name: &'static str, arity: i16, run: Run) -> Command {
    Command::new(name, arity, Flags::STALE, Keys::NONE, Route::SlotAt(2), run)
}

const fn refused(name: &'static str) -> Command {
    row(name, -2, ADMIN.and(Flags::REFUSED), refuse).doc(
        "cluster",
        "3.0.0",
        "Refused: the topology file assigns the slots to servers.",
    )
}

/// The family's rows.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    Command::container("cluster", &[
        slot_row("cluster|countkeysinslot", 3, countkeysinslot).doc("cluster", "3.0.0",
            "Returns the number of keys in a hash slot."),
        slot_row("cluster|getkeysinslot", 4, getkeysinslot).doc("cluster", "3.0.0",
            "Returns the key names in a hash slot."),
        row("cluster|help", 2, Flags::LOADING.and(Flags::STALE), help).doc("cluster", "5.0.0",
            "Returns helpful text about the different subcommands."),
        row("cluster|info", 2, Flags::STALE, info).doc("cluster", "3.0.0",
            "Returns information about the state of a node."),
        row("cluster|keyslot", 3, Flags::STALE, keyslot).doc("cluster", "3.0.0",
            "Returns the hash slot for a key."),
        row("cluster|myid", 2, Flags::STALE, myid).doc("cluster", "3.0.0",
            "Returns the ID of a node."),
        row("cluster|myshardid", 2, Flags::STALE, myshardid).doc("cluster", "7.2.0",
            "Returns the shard ID of a node."),
        row("cluster|nodes", 2, Flags::STALE, nodes).doc("cluster", "3.0.0",
            "Returns the cluster configuration for a node."),
        row("cluster|replicas", 3, ADMIN, replicas).doc("cluster", "5.0.0",
            "Lists the replica nodes of a master node."),
        row("cluster|shards", 2, Flags::STALE, shards).doc("cluster", "7.0.0",
            "Returns the mapping of cluster slots to shards."),
        row("cluster|slaves", 3, ADMIN, replicas).doc("cluster", "3.0.0",
            "Lists the replica nodes of a master node."),
        Command::new("cluster|slot-stats", -4, Flags::STALE.and(Flags::LOADING), Keys::NONE,
            Route::Everywhere(Merge::Ranked), slot_stats).doc("cluster", "8.2.0",
            "Return an array of slot usage statistics for slots assigned to the current node."),
        row("cluster|slots", 2, Flags::STALE, slots).doc("cluster", "3.0.0",
            "Returns the mapping of cluster slots to nodes."),
        refused("cluster|addslots"),
        refused("cluster|addslotsrange"),
        refused("cluster|bumpepoch"),
        refused("cluster|delslots"),
        refused("cluster|delslotsrange"),
        refused("cluster|failover"),
        refused("cluster|flushslots"),
        refused("cluster|forget"),
        refused("cluster|meet"),
        refused("cluster|replicate"),
        refused("cluster|reset"),
        refused("cluster|saveconfig"),
        refused("cluster|set-config-epoch"),
        refused("cluster|setslot"),
    ]).doc("cluster", "3.0.0", "A container for Redis Cluster commands."),
];

/// The reply of every subcommand to a client that does not see a cluster, as from a plain Redis.
pub(super) const NO_CLUSTER: &str = "ERR This instance has cluster support disabled";

/// Runs `answer` if the client sees a cluster.
fn in_cluster(call: &mut Call<'_>, answer: impl FnOnce(&mut Call<'_>)) -> Outcome {
    if !call.is_cluster() {
        return call.fail(NO_CLUSTER);
    }
    answer(call);
    Outcome::Done
}

fn rendered(call: &mut Call<'_>, reply: impl FnOnce(&crate::topology::Rendered) -> &Both) -> Outcome {
    in_cluster(call, |call| {
        let bytes = reply(&call.core.rendered).bytes(call.reply.version);
        call.reply.output.extend_from_slice(bytes);
    })
}

fn slots(call: &mut Call<'_>) -> Outcome {
    rendered(call, |rendered| &rendered.slots)
}

fn shards(call: &mut Call<'_>) -> Outcome {
    rendered(call, |rendered| &rendered.shards)
}

fn nodes(call: &mut Call<'_>) -> Outcome {
    rendered(call, |rendered| &rendered.nodes)
}

fn info(call: &mut Call<'_>) -> Outcome {
    rendered(call, |rendered| &rendered.info)
}

fn myid(call: &mut Call<'_>) -> Outcome {
    in_cluster(call, |call| call.reply.output.extend_from_slice(&call.core.rendered.my_id))
}

fn myshardid(call: &mut Call<'_>) -> Outcome {
    in_cluster(call, |call| call.reply.output.extend_from_slice(&call.core.rendered.my_shard_id))
}

fn keyslot(call: &mut Call<'_>) -> Outcome {
    in_cluster(call, |call| call.reply.integer(Slot::of(call.request.arg(2)).number().into()))
}

/// Returns the slot with this number.
fn slot(number: i64) -> Option<Slot> {
    u16::try_from(number).ok().and_then(Slot::new)
}

fn countkeysinslot(call: &mut Call<'_>) -> Outcome {
    in_cluster(call, |call| match parse_i64(call.request.arg(2)).map(slot) {
        None => call.reply.error(errors::NOT_AN_INTEGER),
        Some(None) => call.reply.error("ERR Invalid slot"),
        Some(Some(slot)) => call.reply.integer(call.store.slot_len(slot) as i64),
    })
}

fn getkeysinslot(call: &mut Call<'_>) -> Outcome {
    in_cluster(call, |call| {
        let (Some(number), Some(count)) = (parse_i64(call.request.arg(2)), parse_i64(call.request.arg(3))) else {
            return call.reply.error(errors::NOT_AN_INTEGER);
        };
        let (Some(slot), Ok(count)) = (slot(number), usize::try_from(count)) else {
            return call.reply.error("ERR Invalid slot or number of keys");
        };
        let keys = call.store.slot_keys(slot, call.now.unix_millis(), count);
        call.reply.array(keys.len());
        keys.iter().for_each(|key| call.reply.bulk(key));
    })
}

/// Replies with an empty list for a known node: there are no replicas yet.
fn replicas(call: &mut Call<'_>) -> Outcome {
    in_cluster(call, |call| match call.core.topology.shard_of_node(call.request.arg(2)) {
        Some(_) => call.reply.array(0),
        None => {
            let text = format!("ERR Unknown node {}", call.text(2));
            call.reply.error(&text);
        }
    })
}

/// Executes `CLUSTER SLOT-STATS` of Redis 8.2 and Valkey 8. Time and bytes are estimated from sampled requests.
fn slot_stats(call: &mut Call<'_>) -> Outcome {
    in_cluster(call, |call| {
        let chosen = SlotQuery::read(call.request).map(|query| {
            let (mine, uses) =
                (|slot: &Slot| call.core.topology.owner(*slot) == call.core.me, &call.core.statistics.slots);
            let counts =
                Slot::all().filter(mine).map(|slot| (slot, slot_counts(call.store.slot_len(slot), uses.of(slot))));
            query.choose(counts.collect())
        });
        match chosen {
            Err(text) => call.reply.error(&text),
            Ok(chosen) => {
                call.reply.array(chosen.len());
                for (slot, counts) in chosen {
                    call.reply.array(2);
                    call.reply.integer(slot.number().into());
                    call.reply.map(SLOT_METRICS.len());
                    for (name, count) in SLOT_METRICS.iter().zip(counts) {
                        call.reply.bulk(name.as_bytes());
                        call.reply.integer(count as i64);
                    }
                }
            }
        }
    })
}

/// The names of a slot's metrics.
const SLOT_METRICS: [&str; 4] = ["key-count", "cpu-usec", "network-bytes-in", "network-bytes-out"];

fn slot_counts(keys: usize, uses: SlotUse) -> [u64; SLOT_METRICS.len()] {
    [keys as u64, uses.cpu_ns / 1000, uses.input_bytes, uses.output_bytes]
}

/// The slots that `CLUSTER SLOT-STATS` asks for, and their order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SlotQuery {
    /// The slots from the first to the last, both included.
    Range(Slot, Slot),
    /// The first slots when sorted by one of their metrics.
    Ordered {
        /// The name of the metric.
        by: &'static str,
        /// True if the smallest come first.
        ascending: bool,
        /// The number of slots.
        limit: usize,
    },
}

impl SlotQuery {
    /// Parses the arguments behind the subcommand.
    ///
    /// # Errors
    /// Fails with an error reply if they are invalid.
    pub fn read(request: Request<'_>) -> Result<Self, String> {
        let is = |index: usize, word: &str| {
            request.get(index).is_some_and(|arg: &[u8]| arg.eq_ignore_ascii_case(word.as_bytes()))
        };
        let length = request.len();
        if is(2, "SLOTSRANGE") && length == 5 {
            let slot_at = |index| parse_i64(request.arg(index)).and_then(slot);
            let (Some(first), Some(last)) = (slot_at(3), slot_at(4)) else {
                return Err("ERR Invalid or out of range slot".into());
            };
            if last < first {
                return Err(format!("ERR Start slot number {first} is greater than end slot number {last}"));
            }
            return Ok(Self::Range(first, last));
        }
        if !is(2, "ORDERBY") {
            return Err(
                "ERR unknown subcommand or wrong number of arguments for 'SLOT-STATS'. Try CLUSTER HELP.".into()
            );
        }
        let by =
            SLOT_METRICS.into_iter().find(|name| is(3, name)).ok_or("ERR Unrecognized sort metric for ORDERBY.")?;
        let (mut limit, mut ascending) = (None, None);
        let mut at = 4;
        while at < length {
            if is(at, "LIMIT") && limit.is_none() && at + 1 < length {
                let number = parse_i64(request.arg(at + 1)).filter(|number| (1..=SLOT_COUNT.into()).contains(number));
                limit = Some(number.ok_or("ERR Limit has to lie in between 1 and 16384 (maximum number of slots).")?);
                at += 2;
            } else if (is(at, "ASC") || is(at, "DESC")) && ascending.is_none() {
                ascending = Some(is(at, "ASC"));
                at += 1;
            } else {
                return Err(errors::SYNTAX.into());
            }
        }
        let limit = limit.unwrap_or_else(|| SLOT_COUNT.into()) as usize;
        Ok(Self::Ordered { by, ascending: ascending == Some(true), limit })
    }

    fn choose(self, mut counts: Vec<(Slot, [u64; SLOT_METRICS.len()])>) -> Vec<(Slot, [u64; SLOT_METRICS.len()])> {
        match self {
            Self::Range(first, last) => counts.retain(|(slot, _)| (first..=last).contains(slot)),
            Self::Ordered { by, ascending, limit } => {
                let metric = SLOT_METRICS.iter().position(|name| *name == by).expect("it was found there");
                // A stable sort: slots with equal metrics stay in their order.
                if ascending {
                    counts.sort_by_key(|(_, counts)| counts[metric]);
                } else {
                    counts.sort_by_key(|(_, counts)| std::cmp::Reverse(counts[metric]));
                }
                counts.truncate(limit);
            }
        }
        counts
    }
}

fn refuse(call: &mut Call<'_>) -> Outcome {
    in_cluster(call, |call| {
        let name = call.command.name.replace('|', " ").to_ascii_uppercase();
        let instead = "the topology file assigns the slots to servers (trine plan)";
        call.reply.error(&format!("ERR {name} is not supported: {instead}"));
    })
}

fn help(call: &mut Call<'_>) -> Outcome {
    if !call.is_cluster() {
        return call.fail(NO_CLUSTER);
    }
    call.help(&[
        "COUNTKEYSINSLOT <slot>",
        "    Return the number of keys in <slot>.",
        "GETKEYSINSLOT <slot> <count>",
        "    Return key names stored by current node in a slot.",
        "INFO",
        "    Return information about the cluster.",
        "KEYSLOT <key>",
        "    Return the hash slot for <key>.",
        "MYID",
        "    Return the node id.",
        "MYSHARDID",
        "    Return the node's shard id.",
        "NODES",
        "    Return cluster configuration seen by node. Output format:",
        "    <id> <ip:port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
        "REPLICAS <node-id>",
        "    Return <node-id> replicas.",
        "SHARDS",
        "    Return information about slot range mappings and the nodes associated with them.",
        "SLOTS",
        "    Return information about slots range mappings. Each range is made of:",
        "    start, end, master and replicas IP addresses, ports and ids",
        "SLOT-STATS SLOTSRANGE <start> <end>|ORDERBY <metric> [LIMIT <limit>] [ASC|DESC]",
        "    Return an array of slot usage statistics for slots assigned to the current node.",
        "    Metrics are KEY-COUNT, CPU-USEC, NETWORK-BYTES-IN and NETWORK-BYTES-OUT; all but the",
        "    first are estimates from sampled requests.",
    ])
}

#[cfg(test)]
mod tests {
    use crate::{
        client::Port,
        commands::tests::{Bench, check, check_on},
    };

    /// A client of a server without a topology gets the replies of a plain Redis.
    #[test]
    fn a_plain_gateway_knows_no_cluster() {
        check(
            "CLUSTER SLOTS -> -ERR This instance has cluster support disabled
             CLUSTER INFO -> -ERR This instance has cluster support disabled
             CLUSTER COUNTKEYSINSLOT 1 -> -ERR This instance has cluster support disabled
             CLUSTER MEET a 1 -> -ERR This instance has cluster support disabled
             CLUSTER HELP -> -ERR This instance has cluster support disabled
             CLUSTER foo -> -ERR unknown subcommand 'foo'. Try CLUSTER HELP.",
        );
    }

    #[test]
    fn a_core_tells_of_its_slots_and_of_what_is_in_them() {
        let mut bench = Bench::new();
        bench.client.port = Port::Core;
        let id = String::from_utf8(bench.shard.core.rendered.my_id.clone()).expect("digits");
        let id = id.lines().nth(1).expect("an id").to_owned();
        check_on(
            &mut bench,
            &"SET {a}1 x -> +OK
             SET {a}2 x -> +OK
             SET foo x -> +OK
             CLUSTER KEYSLOT a -> :15495
             CLUSTER COUNTKEYSINSLOT 15495 -> :2
             CLUSTER COUNTKEYSINSLOT 0 -> :0
             CLUSTER COUNTKEYSINSLOT a -> -ERR value is not an integer or out of range
             CLUSTER COUNTKEYSINSLOT 16384 -> -ERR Invalid slot
             CLUSTER GETKEYSINSLOT 12182 9 -> *1 $3 foo
             CLUSTER GETKEYSINSLOT 15495 0 -> *0
             CLUSTER GETKEYSINSLOT 1 a -> -ERR value is not an integer or out of range
             CLUSTER GETKEYSINSLOT 1 -1 -> -ERR Invalid slot or number of keys
             CLUSTER GETKEYSINSLOT 99999 1 -> -ERR Invalid slot or number of keys
             CLUSTER SLOTS -> *1 *3 :0 :16383 *4 $9 127.0.0.1 :7001 $40 ID *0
             CLUSTER SLOTS x -> -ERR wrong number of arguments for 'cluster|slots' command
             CLUSTER MYID -> $40 ID
             CLUSTER REPLICAS ID -> *0
             CLUSTER SLAVES ID -> *0
             CLUSTER REPLICAS abc -> -ERR Unknown node abc
             CLUSTER SLOT-STATS SLOTSRANGE 12182 12183 -> *2 *2 :12182 *8 $9 key-count :1 $8 cpu-usec :0 $16 network-bytes-in :17 $17 network-bytes-out :5 *2 :12183 *8 $9 key-count :0 $8 cpu-usec :0 $16 network-bytes-in :0 $17 network-bytes-out :0
             CLUSTER SLOT-STATS SLOTSRANGE 2 1 -> -ERR Start slot number 2 is greater than end slot number 1
             CLUSTER SLOT-STATS SLOTSRANGE 0 16384 -> -ERR Invalid or out of range slot
             CLUSTER SLOT-STATS ORDERBY key-count LIMIT 3 -> *3 *2 :15495 *8 $9 key-count :2 $8 cpu-usec :0 $16 network-bytes-in :36 $17 network-bytes-out :10 *2 :12182 *8 $9 key-count :1 $8 cpu-usec :0 $16 network-bytes-in :17 $17 network-bytes-out :5 *2 :0 *8 $9 key-count :0 $8 cpu-usec :0 $16 network-bytes-in :0 $17 network-bytes-out :0
             CLUSTER SLOT-STATS ORDERBY key-count ASC LIMIT 1 -> *1 *2 :0 *8 $9 key-count :0 $8 cpu-usec :0 $16 network-bytes-in :0 $17 network-bytes-out :0
             CLUSTER SLOT-STATS ORDERBY network-bytes-in LIMIT 1 -> *1 *2 :15495 *8 $9 key-count :2 $8 cpu-usec :0 $16 network-bytes-in :36 $17 network-bytes-out :10
             CLUSTER SLOT-STATS ORDERBY cpu-usec LIMIT 1 -> *1 *2 :0 *8 $9 key-count :0 $8 cpu-usec :0 $16 network-bytes-in :0 $17 network-bytes-out :0
             CLUSTER SLOT-STATS ORDERBY key-count LIMIT 0 -> -ERR Limit has to lie in between 1 and 16384 (maximum number of slots).
             CLUSTER SLOT-STATS ORDERBY key-count ASC DESC -> -ERR syntax error
             CLUSTER SLOT-STATS ORDERBY foo -> -ERR Unrecognized sort metric for ORDERBY.
             CLUSTER SETSLOT 1 NODE x -> -ERR CLUSTER SETSLOT is not supported: the topology file assigns the slots to servers (trine plan)
             HELLO 3
             CLUSTER SLOT-STATS SLOTSRANGE 0 0 -> *1 *2 :0 %4 $9 key-count :0 $8 cpu-usec :0 $16 network-bytes-in :0 $17 network-bytes-out :0"
                .replace("ID", &id)
                .replace(&format!("MY{id}"), "MYID"),
        );
        assert!(bench.line("CLUSTER INFO").contains("cluster_state:ok"));
        assert!(bench.line("CLUSTER NODES").contains("myself,master - 0 0 1 connected 0-16383"));
        assert!(bench.line("CLUSTER SHARDS").starts_with("*1 %2 $5 slots *2 :0 :16383 "));
        assert!(bench.line("CLUSTER MYSHARDID").starts_with("$40 "));
    }
}
