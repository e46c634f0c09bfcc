//! Overload and abuse: clients that send too much, too little, too slowly or nonsense, and clients that don't read.
//!
//! What they get costs the server little, and the others nothing.

use crate::{
    harness::{PATIENCE, Server, eventually, random},
    wire::{Reply, Wire, encode},
};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddrV4},
    thread,
    time::{Duration, Instant},
};

const MIB: usize = 1 << 20;

/// Raises this process's limit of descriptors as far as the system allows, and returns it.
fn raise_descriptor_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the maximum anybody may go");
    limit.maximum.map_or(usize::MAX, |maximum| maximum as usize)
}

/// A client that hangs up in the middle of a request leaves nothing behind.
#[test]
fn half_requests_leave_nothing_behind() {
    let server = Server::start(1, &[]);
    let mut witness = server.connect();
    assert_eq!(witness.ask("PING"), "+PONG");
    let descriptors = server.process.descriptors();
    let whole = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n";
    for length in 1..whole.len() {
        for finish in [false, true] {
            let mut wire = server.connect();
            wire.send(&whole[..length]);
            if finish {
                wire.finish();
                assert!(wire.is_closed(), "after {length} bytes");
            }
        }
    }
    eventually("connections are closed", || (server.process.descriptors() <= descriptors).then_some(()));
    assert_eq!(witness.ask("EXISTS k"), ":0");
}

/// A web page can have a browser send a request to any port, with commands in its body: none is executed, the connection ends, and the
/// log has a line.
#[test]
fn a_web_page_can_run_no_command() {
    let server = Server::start(1, &[]);
    let body = "Host: 127.0.0.1\r\nContent-Length: 17\r\n\r\nFLUSHALL\r\nSET x 1\r\n";
    for (port, line) in [
        (server.core(0), "POST / HTTP/1.1"),
        (server.core(0), "GET / HTTP/1.1"),
        (server.port, "PROPFIND / HTTP/1.1"),
        (server.port, "SET /a HTTP/1.1"),
    ] {
        let mut wire = Wire::connect(port);
        wire.send(format!("{line}\r\n{body}").as_bytes());
        let answer = wire.reply().to_string();
        assert_eq!(answer, "-ERR Protocol error: an HTTP request where the Redis protocol is spoken", "{line}");
        assert!(wire.is_closed(), "{line}");
    }
    assert_eq!(server.connect().ask("DBSIZE"), ":0");
    eventually("the log has it", || server.process.said().contains("an HTTP request came").then_some(()));
}

/// Memory is taken as bytes arrive, never because a header promised them.
#[test]
fn a_promise_takes_no_memory() {
    let server = Server::start(1, &[]);
    let mut witness = server.connect();
    assert_eq!(witness.ask("SET k v"), "+OK");
    let before = server.process.resident_bytes();
    let promises: Vec<_> = (0..200)
        .map(|_| {
            let mut wire = server.connect();
            wire.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nab");
            let mut other = server.connect();
            other.send(b"*1048576\r\n$1\r\na\r\n$536870912\r\n");
            (wire, other)
        })
        .collect();
    assert_eq!(witness.ask("GET k"), "v");
    let after = server.process.resident_bytes();
    assert!(after < before + 4 * MIB, "{before} bytes before, {after} after {} promises", 2 * promises.len());
    for (promise, answer) in [
        (&b"*1048577\r\n"[..], "-ERR Protocol error: invalid multibulk length"),
        (b"*99999999999999999999\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"*2\r\n$3\r\nGET\r\n$536870913\r\n", "-ERR Protocol error: invalid bulk length"),
        (b"*2\r\n$3\r\nGET\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length"),
        (b"*1\r\n!3\r\n", "-ERR Protocol error: expected '$', got '!'"),
    ] {
        let mut wire = server.connect();
        wire.send(promise);
        assert_eq!(wire.reply().to_string(), answer);
        assert!(wire.is_closed(), "{answer}");
    }
}

/// A million requests in one pipeline are answered, each in its place, and cost no memory for each.
#[test]
fn a_million_tiny_commands_are_answered_in_order() {
    const COUNT: usize = 1_000_000;
    let server = Server::start(2, &[]);
    let before = server.process.resident_bytes();
    for port in [server.port, server.core(0)] {
        let mut wire = Wire::connect(port);
        let mut socket = wire.socket().try_clone().unwrap();
        let sender = thread::spawn(move || {
            let mut bytes = Vec::new();
            for number in 0..COUNT / 2 {
                bytes.extend_from_slice(format!("PING {number}\r\nINCR {{b}}\r\n").as_bytes());
                if MIB < bytes.len() {
                    socket.write_all(&bytes).unwrap();
                    bytes.clear();
                }
            }
            socket.write_all(&bytes).unwrap();
        });
        let mut last = None;
        for number in 0..COUNT / 2 {
            assert_eq!(wire.reply(), Reply::Bulk(number.to_string().into_bytes()));
            let Reply::Integer(count) = wire.reply() else { panic!("an integer") };
            assert!(last.is_none_or(|last| count == last + 1), "{count} after {last:?}");
            last = Some(count);
        }
        sender.join().unwrap();
    }
    let after = server.process.resident_bytes();
    assert!(after < before + 24 * MIB, "{before} bytes before, {after} after");
}

/// Ten thousand idle connections take 20 MB, the server's own memory included, and slow nobody down.
#[test]
fn ten_thousand_idle_connections_are_cheap() {
    const WANTED: usize = 10_000;
    let allowed = raise_descriptor_limit().saturating_sub(500);
    let count = WANTED.min(allowed);
    if count < WANTED {
        eprintln!("{count} connections instead of {WANTED}: this process may not open more files (ulimit -Hn)");
    }
    let server = Server::start(1, &[]);
    let mut witness = Wire::connect(server.core(0));
    assert_eq!(witness.ask("PING"), "+PONG");
    let before = server.process.resident_bytes();
    let idle: Vec<_> = (0..count)
        .map(|number| {
            // The kernel has 28,000 ports for a client address, and gives none back for a minute.
            let source = Ipv4Addr::new(127, 0, 1, (number / 5000) as u8 + 1);
            let socket = connect_from(source, if number % 2 == 0 { server.port } else { server.core(0) });
            (&socket).write_all(b"PING\r\n").unwrap();
            socket
        })
        .collect();
    // Each has been served, and is idle now.
    for socket in &idle {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reply = [0; 7];
        std::io::Read::read_exact(&mut &*socket, &mut reply).unwrap();
        assert_eq!(&reply, b"+PONG\r\n");
    }
    let resident = server.process.resident_bytes();
    eprintln!("{count} idle connections: {before} bytes before, {resident} after");
    // A debug build's allocator fills all that it hands out, buffers that are never used among it.
    let limit = if cfg!(debug_assertions) { before + 15_000_000 } else { 20_000_000 };
    assert!(resident <= limit, "{count} idle connections take {resident} bytes, {before} without them");
    let began = Instant::now();
    (0..1000).for_each(|_| assert_eq!(witness.ask("SET k v"), "+OK"));
    assert!(began.elapsed() < Duration::from_secs(5), "1000 round trips take {:?}", began.elapsed());
}

/// A connection from an address of this machine's own.
fn connect_from(source: Ipv4Addr, port: u16) -> std::net::TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a connection");
    bind(&socket, &SocketAddrV4::new(source, 0)).expect("a connection");
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).expect("a connection");
    socket.into()
}

/// A client that sends and never reads is not read from: what it sends stays with it, and others don't notice.
#[test]
fn a_client_that_never_reads_is_not_read_from() {
    let server = Server::start(2, &[]);
    let mut witness = server.connect();
    assert_eq!(witness.request(&[b"SET", b"{b}", &vec![b'x'; 10_000]]).to_string(), "+OK");
    let (before, descriptors) = (server.process.resident_bytes(), server.process.descriptors());
    let mut bytes = Vec::new();
    (0..100_000).for_each(|_| encode(&mut bytes, &[b"GET", b"{b}"])); // a gigabyte of replies
    let deaf: Vec<_> = [server.port, server.port, server.core(0)].map(Wire::connect).into_iter().collect();
    for wire in &deaf {
        wire.socket().set_nonblocking(true).unwrap();
    }
    let mut sent = vec![0; deaf.len()];
    let (mut most, mut still_since) = (before, Instant::now());
    // Until none of them gets rid of any more, for a while in which others are served.
    while still_since.elapsed() < Duration::from_millis(500) {
        for (wire, sent) in deaf.iter().zip(&mut sent) {
            if let Ok(count) = wire.socket().write(&bytes[*sent % bytes.len()..]) {
                *sent += count;
                still_since = Instant::now();
            }
        }
        assert_eq!(witness.ask("PING"), "+PONG");
        most = most.max(server.process.resident_bytes());
        assert!(sent.iter().all(|&sent| sent < 64 * MIB), "what it sends is taken: {sent:?} bytes");
    }
    assert!(most < before + 96 * MIB, "{before} bytes before, {most} at most");
    drop(deaf);
    eventually("their connections are closed", || (server.process.descriptors() <= descriptors).then_some(()));
    assert_eq!(witness.ask("PING"), "+PONG");
}

/// Connections that come and go leave neither descriptors nor memory behind.
#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    const COUNT: usize = 20_000;
    let server = Server::start(2, &[]);
    let mut witness = server.connect();
    assert_eq!(witness.ask("PING"), "+PONG");
    let churn = |from: usize, count: usize| {
        for number in from..from + count {
            let source = Ipv4Addr::new(127, 0, 2, (number / 4000) as u8 + 1);
            let socket = connect_from(source, server.port + (number % 3) as u16);
            match number % 4 {
                // Gone before it is accepted, maybe.
                0 => {}
                // In the middle of a request.
                1 => (&socket).write_all(b"*2\r\n$3\r\nGET\r\n$5\r\nab").unwrap(),
                // With a reply on its way.
                2 => (&socket).write_all(b"PING\r\nPING\r\n").unwrap(),
                // In good order.
                _ => {
                    (&socket).write_all(b"QUIT\r\n").unwrap();
                    let mut reply = Vec::new();
                    std::io::Read::read_to_end(&mut &socket, &mut reply).unwrap();
                    assert_eq!(reply, b"+OK\r\n");
                }
            }
        }
    };
    let settled = |descriptors: usize| {
        eventually("connections are closed", || (server.process.descriptors() <= descriptors).then_some(()));
    };
    let descriptors = server.process.descriptors();
    churn(0, COUNT / 10);
    settled(descriptors);
    let before = server.process.resident_bytes();
    churn(COUNT / 10, COUNT - COUNT / 10);
    settled(descriptors);
    let after = server.process.resident_bytes();
    assert!(after < before + 4 * MIB, "{before} bytes after a tenth of them, {after} after all");
    assert_eq!(witness.ask("PING"), "+PONG");
}

/// Bytes of every kind: each connection ends with an error or is answered, the server goes on, and forgets it all.
#[test]
fn garbage_does_no_harm() {
    let server = Server::start(2, &[]);
    let mut random = random();
    let mut witness = server.connect();
    assert_eq!(witness.ask("PING"), "+PONG");
    let descriptors = server.process.descriptors();
    let alphabet = b"*$+-:_#,%~>=\r\n\r\n\r\n0123456789 \"'\\x abcGETSETMSETSCANINFOHELLO\0\xff";
    for number in 0..2000 {
        let mut wire = Wire::connect(server.port + number % 3);
        let mut bytes = Vec::new();
        for _ in 0..random.usize(1..6) {
            match random.u32(..6) {
                0 => bytes.extend((0..random.usize(..200)).map(|_| random.u8(..))),
                1 | 2 => bytes.extend((0..random.usize(..100)).map(|_| alphabet[random.usize(..alphabet.len())])),
                // A request with some bytes changed.
                3 | 4 => {
                    let words = [&b"SET"[..], b"MGET", b"SCAN", b"GET", b"HELLO", b"CLIENT", b"0", b"key", b"3"];
                    let words: Vec<_> = (0..random.usize(1..5)).map(|_| words[random.usize(..words.len())]).collect();
                    let start = bytes.len();
                    encode(&mut bytes, &words);
                    for _ in 0..random.usize(..3) {
                        let position = random.usize(start..bytes.len());
                        bytes[position] = alphabet[random.usize(..alphabet.len())];
                    }
                }
                _ => encode(&mut bytes, &[b"SET", b"key", b"value"]),
            }
        }
        // The server may close before all is sent.
        if wire.try_send(&bytes).is_ok() {
            wire.finish();
        }
        // It says what it has to say, and closes.
        while let Ok(reply) = wire.try_reply() {
            let _ = reply;
        }
        assert!(wire.is_closed(), "{}", bytes.escape_ascii());
    }
    assert_eq!(witness.ask("PING"), "+PONG");
    eventually("connections are closed", || (server.process.descriptors() <= descriptors).then_some(()));
}

/// A protocol error behind a request that several cores answer is told, after that reply.
#[test]
fn an_error_behind_a_spread_request_is_told_after_its_reply() {
    let server = Server::start(3, &[]);
    for _ in 0..6 {
        let mut wire = server.connect();
        wire.send(b"MSET a 1 b 2 c 3 d 4\r\nSCAN 0\r\nMGET a b c d\r\n*1\r\n:5\r\n");
        assert_eq!(wire.reply().to_string(), "+OK");
        assert!(matches!(wire.reply(), Reply::Array(_)));
        assert_eq!(wire.reply().to_string(), "[1 2 3 4]");
        assert_eq!(wire.reply().to_string(), "-ERR Protocol error: expected '$', got ':'");
        assert!(wire.is_closed());
    }
}

/// A large request that comes a byte at a time is a request, and costs no more than its bytes.
#[test]
fn a_request_may_come_a_byte_at_a_time() {
    let server = Server::start(1, &[]);
    let mut bytes = Vec::new();
    let keys: Vec<_> = (0..1000).map(|number| format!("key:{number}")).collect();
    let words: Vec<_> = ["MGET"].into_iter().chain(keys.iter().map(String::as_str)).map(str::as_bytes).collect();
    encode(&mut bytes, &words);
    let mut slow = server.connect();
    let mut witness = server.connect();
    let before = server.process.resident_bytes();
    for (position, byte) in bytes.iter().enumerate() {
        slow.send(&[*byte]);
        if position % 500 == 0 {
            assert_eq!(witness.ask("PING"), "+PONG");
        }
    }
    assert_eq!(slow.reply(), Reply::Array(vec![Reply::Null; 1000]));
    let after = server.process.resident_bytes();
    assert!(after < before + 4 * MIB, "{before} bytes before, {after} after");
}

/// A request that grows beyond the limit closes its connection; it doesn't take all memory.
#[test]
fn a_request_that_is_too_big_is_refused() {
    let server = Server::start(1, &["--max-request-bytes", "2mb", "--proto-max-bulk-len", "1mb"]);
    let before = server.process.resident_bytes();
    let mut wire = server.connect();
    wire.send(b"*1000000\r\n");
    let argument = [&b"$100000\r\n"[..], &[b'x'; 100_000], b"\r\n"].concat();
    // Sending fails when the server has closed.
    let sent = (0..1000).take_while(|_| wire.try_send(&argument).is_ok()).count();
    assert!(sent < 200, "{sent} arguments of 100 KB were taken");
    let after = server.process.resident_bytes();
    assert!(after < before + 16 * MIB, "{before} bytes before, {after} after");
    assert_eq!(server.connect().ask("PING"), "+PONG");
}

/// One client more than `maxclients` is told so and closed; when one has gone, another gets in.
#[test]
fn one_client_too_many_is_told_so() {
    let server = Server::start(1, &["--maxclients", "5"]);
    let mut clients = Vec::new();
    // Those who asked whether it was ready may still be leaving.
    eventually("five clients are in", || {
        let mut client = server.connect();
        if client.try_ask("PING").is_ok_and(|answer| answer == "+PONG") {
            clients.push(client);
        }
        (clients.len() == 5).then_some(())
    });
    let mut refused = server.connect();
    assert_eq!(refused.reply().to_string(), "-ERR max number of clients reached");
    assert!(refused.is_closed());
    assert_eq!(clients.pop().unwrap().ask("QUIT"), "+OK");
    eventually("there is room again", || server.connect().try_ask("PING").ok().filter(|answer| answer == "+PONG"));
}

/// CLIENT KILL cuts off who does not read what it is owed, and takes its memory back.
#[test]
fn who_does_not_read_can_be_killed() {
    let server = Server::start(1, &[]);
    let mut witness = server.connect();
    assert_eq!(witness.request(&[b"SET", b"k", &vec![b'v'; 20 * MIB]]).to_string(), "+OK");
    let mut idle = server.connect();
    let id = idle.ask("CLIENT ID").trim_start_matches(':').to_owned();
    let descriptors = server.process.descriptors();
    idle.send(&b"GET k\r\n".repeat(3));
    eventually("it is owed something", || {
        witness.ask(&format!("CLIENT LIST ID {id}")).contains("cmd=get").then_some(())
    });
    assert_eq!(witness.ask(&format!("CLIENT KILL ID {id}")), ":1");
    eventually("it is gone", || (server.process.descriptors() < descriptors).then_some(()));
    assert!(!witness.ask("CLIENT LIST").contains(&format!("id={id} ")));
}
