use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::resp::Version::{Three, Two};

fn server(name: &str, port: u16, cores: u16) -> Server {
    Server { name: name.into(), host: "127.0.0.1".into(), port, core_port: port + 1, cores }
}

fn three() -> Topology {
    Topology::plan(vec![server("one", 7000, 1), server("two", 7100, 1), server("three", 7200, 1)]).unwrap()
}

/// A line per shard: its server and core, how many slots it owns, and which.
fn picture(topology: &Topology) -> String {
    let line = |(shard, ranges): (ShardId, Vec<RangeInclusive<u16>>)| {
        let load: usize = ranges.iter().map(ExactSizeIterator::len).sum();
        let ranges: Vec<_> = ranges.iter().map(|range| file::written(*range.start(), *range.end())).collect();
        let name = &topology.servers()[usize::from(shard.server)].name;
        format!("{name}/{} {load} {}\n", shard.core, ranges.join(" "))
    };
    topology.ranges_by_shard().into_iter().map(line).collect()
}

/// Three servers share the slots where redis-cli --cluster create would cut them.
#[test]
fn a_plan_is_contiguous_and_even() {
    expect![[r#"
        one/0 5461 0-5460
        two/0 5462 5461-10922
        three/0 5461 10923-16383
    "#]]
    .assert_eq(&picture(&three()));
}

/// A server more takes a quarter from each, and pieces of neighbours join at their border; a server less gives its
/// slots back to those beside them.
#[test]
fn going_from_three_servers_to_four_and_back_moves_a_quarter() {
    let four = three().extend(server("four", 7300, 1)).unwrap();
    expect![[r#"
        one/0 4096 0-4095
        two/0 4096 6827-10922
        three/0 4096 10923-15018
        four/0 4096 4096-6826 15019-16383
    "#]]
    .assert_eq(&picture(&four));
    expect![[r#"
        one/0 5462 0-5461
        two/0 5461 5462-10922
        three/0 5461 10923-16383
    "#]]
    .assert_eq(&picture(&four.remove("four").unwrap()));
    assert_eq!(four.epoch, Epoch::FIRST.next());
}

/// A new plan for the same servers gives the topology that there is; any change is a new epoch, though no slot moves.
#[test]
fn an_epoch_is_for_a_change() {
    let four = three().extend(server("four", 7300, 1)).unwrap();
    assert_eq!(four.replan(four.servers().to_vec()).unwrap(), four);
    let mut servers = four.servers().to_vec();
    servers[0].host = "elsewhere".into();
    let next = four.replan(servers).unwrap();
    assert_eq!((next.epoch, moved(&four, &next)), (four.epoch.next(), 0));
}

#[test]
fn addresses_ids_and_redirects_name_the_core() {
    let topology = Topology::plan(vec![server("one", 7000, 2), server("two", 7100, 2)]).unwrap();
    let shard = ShardId { server: 1, core: 1 };
    assert_eq!(topology.address(shard), ("127.0.0.1", 7102));
    assert_eq!(topology.owner(Slot::of(b"foo")), ShardId { server: 1, core: 0 });
    assert_eq!(topology.moved(Slot::of(b"foo")), "MOVED 12182 127.0.0.1:7101");
    assert_eq!(topology.shard_of_node(&topology.node_id(shard)), Some(shard));
    assert_eq!(topology.shard_of_node(b"abc"), None);
    assert_eq!(topology.ranges(shard), [12288..=16383]);
    // Written down, because data and dashboards outlive this code.
    let id = String::from_utf8(topology.node_id(shard).to_vec()).unwrap();
    expect!["bc00d6db9354dbcd0c9e0f6e52e9e71e739350d0"].assert_eq(&id);
    assert_ne!(topology.node_id(shard), topology.shard_id(shard));
}

#[test]
fn ids_outlive_a_change_of_address_and_of_neighbours() {
    let before = three();
    let mut servers = before.servers().to_vec();
    servers[0].host = "10.0.0.9".into();
    servers.rotate_left(1);
    let after = before.replan(servers).unwrap();
    let [old, new] = [0, 2].map(|server| ShardId { server, core: 0 });
    assert_eq!(before.node_id(old), after.node_id(new));
    assert_eq!(before.ranges(old), after.ranges(new));
}

#[test]
fn the_file_is_what_a_person_would_write() {
    let topology = three().extend(server("four", 7300, 1)).unwrap();
    expect![[r#"
        # Which core owns which of the 16384 slots. Written by `trine plan`.
        version = 1
        epoch = 2

        [[server]]
        name = "one"
        host = "127.0.0.1"
        port = 7000
        core-port = 7001

        [[server.core]]
        slots = ["0-4095"]

        [[server]]
        name = "two"
        host = "127.0.0.1"
        port = 7100
        core-port = 7101

        [[server.core]]
        slots = ["6827-10922"]

        [[server]]
        name = "three"
        host = "127.0.0.1"
        port = 7200
        core-port = 7201

        [[server.core]]
        slots = ["10923-15018"]

        [[server]]
        name = "four"
        host = "127.0.0.1"
        port = 7300
        core-port = 7301

        [[server.core]]
        slots = ["4096-6826", "15019-16383"]
    "#]]
    .assert_eq(&topology.to_toml());
}

/// Each mistake in a file is told with its place and the way out.
#[test]
fn a_file_with_a_mistake_is_refused() {
    let good = Topology::plan(vec![server("one", 7000, 1), server("two", 7100, 1)]).unwrap().to_toml();
    let mut answers = String::new();
    for (from, to) in [
        ("version = 1\n", ""),
        ("version = 1", "version = 2"),
        ("version = 1", "version 1"),
        ("core-port = 7101", "coreport = 7101"),
        ("\"0-8191\"", "\"0-8190\""),
        ("\"0-8191\"", "\"0-8000\""),
        ("\"0-8191\"", "\"0-8192\""),
        ("\"0-8191\"", "\"0-8191\", \"7\""),
        ("\"0-8191\"", "\"0-x\""),
        ("\"8192-16383\"", "\"8192-16384\""),
        ("name = \"two\"", "name = \"one\""),
        ("name = \"two\"", "name = \"t w o\""),
        ("host = \"127.0.0.1\"", "host = \"\""),
        ("host = \"127.0.0.1\"", "host = \"0.0.0.0\""),
        ("core-port = 7101", "core-port = 7001"),
        ("core-port = 7101", "core-port = 55536"),
        ("core-port = 7101", "core-port = 0"),
        ("[[server.core]]\nslots = [\"0-8191\"]\n", ""),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Topology::from_toml(&good.replacen(from, to, 1)).unwrap_err();
        answers += &format!("{error}\n");
    }
    answers += &Topology::from_toml("version = 1\nepoch = 1").unwrap_err().to_string();
    expect![[r#"
        the topology file does not say its version: begin it with `version = 1`
        version 2 of the topology file is not the version known here, 1: start the version of trine that wrote it, or write it anew with trine plan
        not a topology file: TOML parse error at line 2, column 9
          |
        2 | version 1
          |         ^
        key with no value, expected `=`
        not a topology file: TOML parse error at line 18, column 1
           |
        18 | coreport = 7101
           | ^^^^^^^^
        unknown field `coreport`, expected one of `name`, `host`, `port`, `core-port`, `core`
        slot 8191 belongs to no core: give it to one
        191 slots from 8001 on belong to no core: give each of them to one
        slot 8192 belongs to server "one", core 0, and to server "two", core 0: take it from one of them
        server "one", core 0: slot 7 is listed twice: take it out once
        server "one", core 0: "0-x" is not a range of slots: write "0-5460" or "77", below 16384
        server "two", core 0: "8192-16384" is not a range of slots: write "0-5460" or "77", below 16384
        two servers are called "one": rename one of them
        server "t w o": use letters, digits, `-`, `_` and `.` for a server's name
        server "one": "" is not a host that clients can connect to: write the server's own address or host name, without a port
        server "one": "0.0.0.0" is not a host that clients can connect to: write the server's own address or host name, without a port
        port 7001 on 127.0.0.1 is used twice, by server "one" and by server "two": move the port or the core port of one of them
        server "two": 1 core ports from 55536 on: ports start at 1 and core ports end below 55536 (cluster clients add 10000): choose a lower core port
        server "two": 1 core ports from 0 on: ports start at 1 and core ports end below 55536 (cluster clients add 10000): choose a lower core port
        server "one" has no core: give it at least one
        there is no server: a topology needs at least one"#]].assert_eq(&answers);
}

#[test]
fn a_core_port_follows_the_gateway_unless_said_otherwise() {
    let text = Topology::single(server("one", 7000, 1)).unwrap().to_toml().replace("core-port = 7001\n", "");
    let topology = Topology::from_toml(&text).unwrap();
    assert_eq!(topology.address(ShardId { server: 0, core: 0 }).1, 7001);
}

/// Compared with redis-server 7.0.15, which has the same form (and 7.2, which adds MYSHARDID).
#[test]
fn clients_are_told_what_redis_would_tell_them() {
    let topology = Topology::plan(vec![server("one", 7000, 1), server("two", 7100, 1)]).unwrap();
    let rendered = topology.render(ShardId { server: 1, core: 0 });
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace('\r', "");
    let line = |bytes: &[u8]| text(bytes).replace('\n', " ") + "\n";
    let Rendered { slots, shards, nodes, info, .. } = &rendered;
    let all = [slots.bytes(Two), slots.bytes(Three), shards.bytes(Two), shards.bytes(Three)].map(line).concat()
        + &text(nodes.bytes(Two))
        + &text(nodes.bytes(Three))
        + &text(info.bytes(Two))
        + &line(&rendered.my_id)
        + &line(&rendered.my_shard_id);
    expect![[r#"
        *2 *3 :0 :8191 *4 $9 127.0.0.1 :7001 $40 ec6b1a7edfd0d8c01f8ac2a793286958f53a98a0 *0 *3 :8192 :16383 *4 $9 127.0.0.1 :7101 $40 d1c7d48ded8ee9807b85a809298e91fca1ff277d *0 
        *2 *3 :0 :8191 *4 $9 127.0.0.1 :7001 $40 ec6b1a7edfd0d8c01f8ac2a793286958f53a98a0 %0 *3 :8192 :16383 *4 $9 127.0.0.1 :7101 $40 d1c7d48ded8ee9807b85a809298e91fca1ff277d %0 
        *2 *4 $5 slots *2 :0 :8191 $5 nodes *1 *14 $2 id $40 ec6b1a7edfd0d8c01f8ac2a793286958f53a98a0 $4 port :7001 $2 ip $9 127.0.0.1 $8 endpoint $9 127.0.0.1 $4 role $6 master $18 replication-offset :0 $6 health $6 online *4 $5 slots *2 :8192 :16383 $5 nodes *1 *14 $2 id $40 d1c7d48ded8ee9807b85a809298e91fca1ff277d $4 port :7101 $2 ip $9 127.0.0.1 $8 endpoint $9 127.0.0.1 $4 role $6 master $18 replication-offset :0 $6 health $6 online 
        *2 %2 $5 slots *2 :0 :8191 $5 nodes *1 %7 $2 id $40 ec6b1a7edfd0d8c01f8ac2a793286958f53a98a0 $4 port :7001 $2 ip $9 127.0.0.1 $8 endpoint $9 127.0.0.1 $4 role $6 master $18 replication-offset :0 $6 health $6 online %2 $5 slots *2 :8192 :16383 $5 nodes *1 %7 $2 id $40 d1c7d48ded8ee9807b85a809298e91fca1ff277d $4 port :7101 $2 ip $9 127.0.0.1 $8 endpoint $9 127.0.0.1 $4 role $6 master $18 replication-offset :0 $6 health $6 online 
        $199
        ec6b1a7edfd0d8c01f8ac2a793286958f53a98a0 127.0.0.1:7001@17001 master - 0 0 1 connected 0-8191
        d1c7d48ded8ee9807b85a809298e91fca1ff277d 127.0.0.1:7101@17101 myself,master - 0 0 1 connected 8192-16383

        =203
        txt:ec6b1a7edfd0d8c01f8ac2a793286958f53a98a0 127.0.0.1:7001@17001 master - 0 0 1 connected 0-8191
        d1c7d48ded8ee9807b85a809298e91fca1ff277d 127.0.0.1:7101@17101 myself,master - 0 0 1 connected 8192-16383

        $312
        cluster_state:ok
        cluster_slots_assigned:16384
        cluster_slots_ok:16384
        cluster_slots_pfail:0
        cluster_slots_fail:0
        cluster_known_nodes:2
        cluster_size:2
        cluster_current_epoch:1
        cluster_my_epoch:1
        cluster_stats_messages_sent:0
        cluster_stats_messages_received:0
        total_cluster_links_buffer_limit_exceeded:0

        $40 d1c7d48ded8ee9807b85a809298e91fca1ff277d 
        $40 84167f110f77ad74fb80ffbe3b9ccce511fb23a5 
    "#]].assert_eq(&all);
    assert!(info.bytes(Three).starts_with(b"=316\r\ntxt:cluster_state:ok\r\n"), "{}", text(info.bytes(Three)));
}

/// A shard without slots is still a node, but does not count as part of the cluster's size.
#[test]
fn a_shard_may_own_nothing() {
    let text = three().to_toml().replace("\"5461-10922\"", "").replace("\"0-5460\"", "\"0-10922\"");
    let topology = Topology::from_toml(&text).unwrap();
    let rendered = topology.render(ShardId { server: 1, core: 0 });
    let nodes = String::from_utf8(rendered.nodes.bytes(Two).to_vec()).unwrap();
    assert!(nodes.contains("myself,master - 0 0 1 connected\n"), "{nodes}");
    let info = String::from_utf8(rendered.info.bytes(Two).to_vec()).unwrap();
    assert!(info.contains("cluster_known_nodes:3\r\ncluster_size:2\r\n"), "{info}");
    assert_eq!(rendered.slots.bytes(Two)[..4], *b"*2\r\n");
}

/// Returns the number of slots that have another owner, by the names of servers and the numbers of cores.
fn moved(old: &Topology, new: &Topology) -> usize {
    fn owner(topology: &Topology, slot: Slot) -> (&str, u16) {
        let ShardId { server, core } = topology.owner(slot);
        (&topology.servers()[usize::from(server)].name, core)
    }
    Slot::all().filter(|&slot| owner(old, slot) != owner(new, slot)).count()
}

fn load(topology: &Topology, shard: ShardId) -> usize {
    topology.ranges(shard).iter().map(ExactSizeIterator::len).sum()
}

fn assert_even(topology: &Topology) {
    let loads: Vec<_> = topology.shards().map(|shard| load(topology, shard)).collect();
    assert!(loads.iter().max() <= loads.iter().min().map(|least| least + 1).as_ref(), "{loads:?}");
}

/// Returns the number of slots that the shards of a server own together.
fn load_of(topology: &Topology, name: &str) -> usize {
    let number = topology.server_named(name).unwrap();
    topology.shards().filter(|shard| shard.server == number).map(|shard| load(topology, shard)).sum()
}

fn cluster(cores: &[u16]) -> Vec<Server> {
    let numbered = cores.iter().enumerate();
    numbered.map(|(number, &cores)| server(&format!("s{number}"), 7000 + 100 * position(number), cores)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// From even loads, through any number of servers more and less: what moves is what the new server gets, or what
    /// the old one had, and loads stay even.
    #[test]
    fn a_server_more_or_less_moves_no_more_than_it_must(
        cores in prop::collection::vec(1u16..9, 1..7),
        steps in prop::collection::vec((any::<bool>(), 1u16..9, any::<prop::sample::Index>()), 1..8),
    ) {
        let mut topology = Topology::plan(cluster(&cores)).unwrap();
        assert_even(&topology);
        prop_assert_eq!(topology.owned_ranges().len(), topology.shards().len());
        for (number, (more, cores, which)) in (20..).zip(steps) {
            let next = if more || topology.servers().len() == 1 {
                let name = format!("s{number}");
                let next = topology.extend(server(&name, 7000 + 100 * number, cores)).unwrap();
                prop_assert_eq!(moved(&topology, &next), load_of(&next, &name));
                next
            } else {
                let name = topology.servers()[which.index(topology.servers().len())].name.clone();
                let next = topology.remove(&name).unwrap();
                prop_assert_eq!(moved(&topology, &next), load_of(&topology, &name));
                next
            };
            assert_even(&next);
            prop_assert_eq!(next.epoch, topology.epoch.next());
            prop_assert_eq!(&Topology::from_toml(&next.to_toml()).unwrap(), &next);
            topology = next;
        }
    }

    /// From any loads to any servers: no assignment with even loads keeps more slots where they are.
    #[test]
    fn any_change_of_servers_moves_the_least(
        cuts in prop::collection::btree_set(1u16..SLOT_COUNT, 4),
        old in prop::sample::subsequence(vec![0, 1, 2, 3, 4], 5),
        new in prop::sample::subsequence(vec![0u16, 1, 2, 3, 4, 5, 6], 1..7),
    ) {
        let cuts: Vec<u16> = [0].into_iter().chain(cuts).chain([SLOT_COUNT]).collect();
        let mut topology = Topology::plan(cluster(&[1; 5])).unwrap();
        for (slot, owner) in (0..SLOT_COUNT).zip(topology.owners.iter_mut()) {
            *owner = old[cuts[1..].partition_point(|&cut| cut <= slot)];
        }
        let all = cluster(&[1; 7]);
        let servers: Vec<_> = new.iter().map(|&number| all[usize::from(number)].clone()).collect();
        let next = topology.replan(servers).unwrap();
        assert_even(&next);

        let (share, larger) = (usize::from(SLOT_COUNT) / new.len(), usize::from(SLOT_COUNT) % new.len());
        let loads = new.iter().map(|&server| topology.owners.iter().filter(|&&owner| owner == server).count());
        let over = loads.clone().filter(|&load| share < load).count().min(larger);
        let kept = loads.map(|load| load.min(share)).sum::<usize>() + over;
        prop_assert_eq!(moved(&topology, &next), usize::from(SLOT_COUNT) - kept);
    }
}
