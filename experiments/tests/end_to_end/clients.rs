//! A stock client, the `redis` crate, plain and cluster.

use crate::harness::{Cluster, Server};
use redis::{Client, Commands as _, Connection, ConnectionLike as _, ProtocolVersion, cluster::ClusterClientBuilder};
use std::collections::HashMap;

fn connect(port: u16, protocol: &str) -> Connection {
    let client = Client::open(format!("redis://127.0.0.1:{port}/?protocol={protocol}")).expect("an address");
    client.get_connection().expect("it is let in")
}

/// A client that knows nothing of clusters finds a plain Redis on the gateway, in both versions of the protocol.
#[test]
fn a_plain_client_speaks_to_the_gateway_in_both_versions() {
    let server = Server::start(2, &[]);
    for protocol in ["resp2", "resp3"] {
        let mut redis = connect(server.port, protocol);
        assert!(redis.check_connection());
        let keys: Vec<_> = (0..100).map(|number| format!("{protocol}:{number}")).collect();
        for (number, key) in keys.iter().enumerate() {
            redis.set::<_, _, ()>(key, number).unwrap();
        }
        let values: Vec<usize> = redis.mget(&keys).unwrap();
        assert_eq!(values, (0..100).collect::<Vec<_>>());
        let missing: Option<String> = redis.get("missing").unwrap();
        assert_eq!(missing, None);
        assert_eq!(redis.incr::<_, _, i64>(&keys[7], 5).unwrap(), 12);
        assert!(redis.expire::<_, bool>(&keys[8], 100).unwrap());
        assert!((99..=100).contains(&redis.ttl::<_, i64>(&keys[8]).unwrap()));
        let mut scanned: Vec<String> =
            redis.scan_match(format!("{protocol}:*")).unwrap().collect::<Result<_, _>>().unwrap();
        scanned.sort();
        let mut sorted = keys.clone();
        sorted.sort();
        assert_eq!(scanned, sorted, "every key once");
        let mut pipe = redis::pipe();
        for key in &keys {
            pipe.strlen(key);
        }
        let lengths: Vec<usize> = pipe.query(&mut redis).unwrap();
        assert_eq!(lengths.len(), 100);
        assert_eq!(redis.del::<_, usize>(&keys).unwrap(), 100);
        let error = redis
            .set_options::<_, _, ()>("k", "v", redis::SetOptions::default())
            .and_then(|()| redis.incr::<_, _, i64>("k", 1));
        assert!(error.unwrap_err().to_string().contains("not an integer"));
    }
}

/// On a core's port the plain client gets what the core owns, and MOVED for the rest.
#[test]
fn a_plain_client_on_a_core_is_sent_to_the_others() {
    let server = Server::start(2, &[]);
    for protocol in ["resp2", "resp3"] {
        let mut redis = connect(server.core(0), protocol);
        redis.set::<_, _, ()>("{b}", 1).unwrap(); // slot 3300
        let moved = redis.set::<_, _, ()>("foo", 1).unwrap_err(); // slot 12182
        let address = format!("127.0.0.1:{}", server.core(1));
        assert_eq!(moved.redirect_node(), Some((address.as_str(), 12182)));
    }
}

/// A cluster client that is told one address finds every core and sets and reads keys of all of them.
#[test]
fn a_cluster_client_finds_every_core() {
    for cores in [1, 2] {
        let cluster = Cluster::start(3, cores, &[]);
        for (protocol, first) in
            [(ProtocolVersion::RESP2, cluster.core_ports()[0]), (ProtocolVersion::RESP3, cluster.gateway(2))]
        {
            let addresses = vec![format!("redis://127.0.0.1:{first}/")];
            let client = ClusterClientBuilder::new(addresses).use_protocol(protocol).build().unwrap();
            let mut redis = client.get_connection().unwrap();
            let pairs: HashMap<_, _> = (0..600).map(|number| (format!("key:{number}"), number)).collect();
            for (key, value) in &pairs {
                redis.set::<_, _, ()>(key, value).unwrap();
            }
            for (key, value) in &pairs {
                assert_eq!(redis.get::<_, i32>(key).unwrap(), *value, "{key}");
            }
            redis.mset::<_, _, ()>(&[("{tag}a", "1"), ("{tag}b", "2")]).unwrap();
            assert_eq!(redis.mget::<_, Vec<i32>>(&["{tag}a", "{tag}b"]).unwrap(), [1, 2]);
            let mut pipe = redis::cluster::cluster_pipe();
            for number in 0..600 {
                pipe.get(format!("key:{number}"));
            }
            assert_eq!(pipe.query::<Vec<i32>>(&mut redis).unwrap(), (0..600).collect::<Vec<_>>());
        }
        // Each core has its share, so none of them was served by another.
        for port in cluster.core_ports() {
            let keys: usize = redis::cmd("DBSIZE").query(&mut connect(port, "resp2")).unwrap();
            assert!(600 / 6 / 2 < keys, "core {port} has {keys} keys");
        }
    }
}

/// Our own client is told one address: on a gateway it finds a plain server, in a cluster every core.
#[test]
fn our_client_finds_its_way() {
    let (alone, cluster) = (Server::start(2, &[]), Cluster::start(3, 2, &[]));
    for (port, nodes) in [(alone.port, 1), (alone.core(1), 2), (cluster.port, 6), (cluster.core_ports()[3], 6)] {
        let mut client = trine_client::blocking::Client::connect(&format!("127.0.0.1:{port}")).unwrap();
        assert_eq!(client.nodes().len(), nodes, "by port {port}");
        let keys: Vec<_> = (0..300).map(|number| format!("{port}:{number}")).collect();
        for key in &keys {
            client.set(key, format!("value of {key}")).unwrap();
        }
        for key in &keys {
            assert_eq!(client.get(key).unwrap(), Some(format!("value of {key}").into_bytes()));
        }
        let requests: Vec<_> = keys.iter().map(|key| ["STRLEN", key]).collect();
        let requests: Vec<_> = requests.iter().map(|words| &words[..]).collect();
        let lengths = client.pipeline(&requests).unwrap();
        for (key, length) in keys.iter().zip(lengths) {
            assert_eq!(length, trine_client::reply::Value::Integer((9 + key.len()) as i64), "{key}");
        }
        assert!(client.del(&keys[0]).unwrap());
        assert_eq!(client.get(&keys[0]).unwrap(), None);
    }
}
