use crate::{
    client::{Client, Port},
    commands::tests::{Bench, check, check_on},
    config::Password,
};

/// Replies and errors are those of redis-server 7.
#[test]
fn connections_are_talked_about_in_the_words_of_redis() {
    check(
        r#"
        PING -> +PONG
        PING hi -> $2 hi
        PING a b -> -ERR wrong number of arguments for 'ping' command
        ECHO "a b" -> $3 a b
        SELECT 0 -> +OK
        SELECT 1 -> -ERR DB index is out of range
        SELECT -1 -> -ERR DB index is out of range
        SELECT 2147483648 -> -ERR value is out of range, value must between -2147483648 and 2147483647
        SELECT 9223372036854775807 -> -ERR value is out of range, value must between -2147483648 and 2147483647
        SELECT 9223372036854775808 -> -ERR value is not an integer or out of range
        SELECT abc -> -ERR value is not an integer or out of range
        READONLY -> -ERR This instance has cluster support disabled
        READWRITE -> -ERR This instance has cluster support disabled
        ASKING -> -ERR This instance has cluster support disabled
        AUTH a -> -ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?
        AUTH default a -> +OK
        AUTH other a -> -WRONGPASS invalid username-password pair or user is disabled.
        AUTH a b c -> -ERR syntax error
        CLIENT -> -ERR wrong number of arguments for 'client' command
        CLIENT FOO -> -ERR unknown subcommand 'FOO'. Try CLIENT HELP.
        CLIENT ID -> :1
        CLIENT GETNAME -> $-1
        CLIENT SETNAME "a b" -> -ERR Client names cannot contain spaces, newlines or special characters.
        CLIENT SETNAME me -> +OK
        CLIENT GETNAME -> $2 me
        CLIENT SETINFO LIB-NAME "a b" -> -ERR LIB-NAME cannot contain spaces, newlines or special characters.
        CLIENT SETINFO LIB-NAME redis-py(a_v1) -> +OK
        CLIENT SETINFO lib-ver 1.2 -> +OK
        CLIENT SETINFO foo a -> -ERR Unrecognized option 'foo'
        CLIENT NO-EVICT on -> +OK
        CLIENT NO-EVICT x -> -ERR syntax error
        CLIENT NO-TOUCH ON -> +OK
        CLIENT INFO -> $299 id=1 addr=127.0.0.1:50000 laddr=127.0.0.1:7000 fd=0 name=me age=0 idle=0 flags=eT db=0 sub=0 psub=0 ssub=0 multi=-1 watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=SIZE events=r cmd=client|info user=default redir=-1 resp=2 lib-name=redis-py(a_v1) lib-ver=1.2\n
        RESET -> +RESET
        CLIENT GETNAME -> $-1
        "#
        .replace("SIZE", &size_of::<Client>().to_string())
        .as_str(),
    );
}

/// The reply to HELLO, with which every client library begins, describes the server.
#[test]
fn hello_tells_who_answers() {
    let mut bench = Bench::new();
    for (line, reply) in [
        (
            "HELLO",
            "*14 $6 server $5 redis $7 version $5 7.2.4 $5 proto :2 $2 id :1 $4 mode $10 standalone $4 role $6 master $7 modules *0",
        ),
        (
            "HELLO 3 SETNAME me",
            "%7 $6 server $5 redis $7 version $5 7.2.4 $5 proto :3 $2 id :1 $4 mode $10 standalone $4 role $6 master $7 modules *0",
        ),
        ("CLIENT GETNAME", "$2 me"),
        ("HELLO 4", "-NOPROTO unsupported protocol version"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range"),
        ("HELLO 2 foo", "-ERR Syntax error in HELLO option 'foo'"),
        ("HELLO 2 auth a", "-ERR Syntax error in HELLO option 'auth'"),
        ("HELLO 2 auth a b", "-WRONGPASS invalid username-password pair or user is disabled."),
        ("HELLO 2 setname 'a b'", "-ERR Client names cannot contain spaces, newlines or special characters."),
        ("RESET", "+RESET"),
        ("GET a", "$-1"),
    ] {
        assert_eq!(bench.line(line), reply, "{line}");
    }
    bench.client.port = Port::Core;
    assert!(bench.line("HELLO").contains(" $4 mode $7 cluster "));
    check_on(
        &mut bench,
        "SELECT 1 -> -ERR SELECT is not allowed in cluster mode
         SELECT 0 -> +OK
         READONLY -> +OK
         READWRITE -> +OK
         ASKING -> +OK",
    );
}

/// A client that has not sent the password learns nothing and changes nothing.
#[test]
fn strangers_can_only_say_who_they_are() {
    let mut bench = Bench::new();
    bench.shard.core.config.requirepass = Password("secret".into());
    bench.client.authenticated = false;
    let hello = bench.line("HELLO 3");
    assert!(hello.starts_with("-NOAUTH HELLO must be called with the client already authenticated"), "{hello}");
    check_on(
        &mut bench,
        "PING -> -NOAUTH Authentication required.
         CLIENT ID -> -NOAUTH Authentication required.
         AUTH secre -> -WRONGPASS invalid username-password pair or user is disabled.
         AUTH secretsecret -> -WRONGPASS invalid username-password pair or user is disabled.
         AUTH '' -> -WRONGPASS invalid username-password pair or user is disabled.
         AUTH other secret -> -WRONGPASS invalid username-password pair or user is disabled.
         GET a -> -NOAUTH Authentication required.
         AUTH secret -> +OK
         PING -> +PONG
         AUTH wrong -> -WRONGPASS invalid username-password pair or user is disabled.
         PING -> +PONG
         RESET -> +RESET
         PING -> -NOAUTH Authentication required.
         AUTH default secret -> +OK
         RESET -> +RESET",
    );
    assert!(bench.line("HELLO 3 AUTH default secret").starts_with("%7 "));
    assert!(bench.client.authenticated);
    assert_eq!(bench.line("QUIT"), "+OK");
    assert!(bench.client.closing);
}

/// Creates a core with two more clients.
fn bench_of_three() -> Bench {
    let mut bench = Bench::new();
    for (place, id) in [(3, 7), (5, 9)] {
        let address = format!("127.0.0.1:600{id}");
        let client = Client::new(id, &address, "127.0.0.1:7000", Port::Gateway, true, 0);
        bench.shard.core.clients.put(place, Box::new(client));
    }
    bench
}

/// A jump of the wall clock by a day, forward or back, changes neither the idle time of a client nor the age of the
/// server.
#[test]
fn durations_do_not_follow_the_wall_clock() {
    const DAY_US: u64 = 86_400_000_000;
    for is_forward in [true, false] {
        let mut bench = Bench::new();
        bench.wait(7_000);
        bench.now.unix_us = if is_forward { bench.now.unix_us + DAY_US } else { bench.now.unix_us - DAY_US };
        let list = bench.line("CLIENT LIST");
        assert!(list.contains(" age=7 idle=7 "), "{list}");
        let info = bench.line("INFO server");
        assert!(info.contains("uptime_in_seconds:7 "), "{info}");
        bench.shard.core.persistence.snapshot_since = Some(3_000_000);
        let info = bench.line("INFO persistence");
        assert!(info.contains("rdb_current_bgsave_time_sec:4 "), "{info}");
    }
}

/// Each form of `CLIENT KILL` closes the clients that it names, and their places are noted for the engine.
#[test]
fn clients_are_killed_by_address_id_and_kind() {
    for (line, reply, places, me) in [
        ("CLIENT KILL 127.0.0.1:6009", "+OK", vec![5], false),
        ("CLIENT KILL 127.0.0.1:50000", "+OK", vec![], true),
        ("CLIENT KILL 127.0.0.1:1", "-ERR No such client", vec![], false),
        ("CLIENT KILL ID 7", ":1", vec![3], false),
        ("CLIENT KILL ID 1", ":0", vec![], false),
        ("CLIENT KILL ID 1 SKIPME no", ":1", vec![], true),
        ("CLIENT KILL ID 99", ":0", vec![], false),
        ("CLIENT KILL ID abc", "-ERR client-id should be greater than 0", vec![], false),
        ("CLIENT KILL ADDR 127.0.0.1:6007 LADDR 127.0.0.1:7000", ":1", vec![3], false),
        ("CLIENT KILL TYPE normal", ":2", vec![3, 5], false),
        ("CLIENT KILL TYPE normal SKIPME no", ":3", vec![3, 5], true),
        ("CLIENT KILL TYPE replica", ":0", vec![], false),
        ("CLIENT KILL TYPE foo", "-ERR Unknown client type 'foo'", vec![], false),
        ("CLIENT KILL USER default", ":2", vec![3, 5], false),
        ("CLIENT KILL USER foo SKIPME yes", "-ERR No such user 'foo'", vec![], false),
        ("CLIENT KILL SKIPME maybe", "-ERR syntax error", vec![], false),
        ("CLIENT KILL foo bar", "-ERR syntax error", vec![], false),
        ("CLIENT KILL ID 7 ADDR", "-ERR syntax error", vec![], false),
    ] {
        let mut bench = bench_of_three();
        assert_eq!(bench.line(line), reply, "{line}");
        assert_eq!(bench.shard.core.clients.closed, places, "{line}");
        assert_eq!(bench.client.closing, me, "{line}");
    }
}

/// A core that executes a part of another core's request lists only its own clients.
#[test]
fn clients_are_listed_where_they_are() {
    let mut bench = bench_of_three();
    let ids = |reply: String| -> Vec<u64> {
        let lines = reply.split("id=").skip(1);
        lines.filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
    };
    assert_eq!(ids(bench.line("CLIENT LIST")), [1, 7, 9]);
    assert_eq!(ids(bench.line("CLIENT LIST ID 9 1 4")), [1, 9]);
    assert_eq!(ids(bench.line("CLIENT LIST TYPE normal")), [1, 7, 9]);
    check_on(
        &mut bench,
        "CLIENT LIST TYPE pubsub -> $0
         CLIENT LIST TYPE foo -> -ERR Unknown client type 'foo'
         CLIENT LIST ID x -> -ERR Invalid client ID
         CLIENT LIST ID -> -ERR syntax error
         CLIENT LIST foo -> -ERR syntax error",
    );
    bench.client.id = 0;
    assert_eq!(ids(bench.line("CLIENT LIST")), [7, 9]);
}

/// `CLIENT REPLY` leaves out this reply, the next one, or all.
#[test]
fn replies_are_left_out_on_demand() {
    let mut bench = Bench::new();
    let words = |line: &str| line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    for (line, reply) in [
        ("CLIENT REPLY x", "-ERR syntax error\r\n"),
        ("CLIENT REPLY SKIP", ""),
        ("PING", ""),
        ("PING", "+PONG\r\n"),
        ("CLIENT REPLY OFF", ""),
        ("PING", ""),
        ("CLIENT REPLY SKIP", ""),
        ("PING", ""),
        ("PING", ""),
        ("CLIENT REPLY ON", "+OK\r\n"),
        ("PING", "+PONG\r\n"),
    ] {
        assert_eq!(String::from_utf8_lossy(&bench.execute(&words(line))), reply, "{line}");
    }
}
