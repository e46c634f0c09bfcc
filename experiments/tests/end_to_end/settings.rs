//! Settings of an operator, seen from outside.

use crate::{
    harness::{Server, eventually, program},
    wire::{Reply, Wire, encode},
};
use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    process::Command,
    time::{Duration, Instant},
};

/// With a password set, nothing is told before AUTH.
#[test]
fn nothing_is_served_before_the_password() {
    let server = Server::start(2, &["--requirepass", "secret"]);
    for port in [server.port, server.core(0), server.core(1)] {
        Wire::connect(port).check(
            "PING -> -NOAUTH Authentication required.
             GET {b} -> -NOAUTH Authentication required.
             CONFIG GET requirepass -> -NOAUTH Authentication required.
             AUTH wrong -> -WRONGPASS invalid username-password pair or user is disabled.
             AUTH secret -> +OK
             PING -> +PONG",
        );
        let hello = Wire::connect(port).ask("HELLO 3 AUTH default secret");
        assert!(hello.starts_with("{server redis") && hello.contains("proto :3"), "{hello}");
    }
}

/// A password that is set by one core's port holds for all of them, and for the gateway, when it is acknowledged. It may be any bytes.
#[test]
fn a_password_holds_for_the_whole_server_at_once() {
    let server = Server::start(2, &[]);
    let password = b"\xff\xfe \x00\r\n";
    let mut wire = Wire::connect(server.core(1));
    assert_eq!(wire.request(&[b"CONFIG", b"SET", b"requirepass", password]).to_string(), "+OK");
    for port in server.ports() {
        let mut wire = Wire::connect(port);
        assert_eq!(wire.ask("PING"), "-NOAUTH Authentication required.", "{port}");
        let wrong = wire.request(&[b"AUTH", "\u{fffd}\u{fffd} \0\r\n".as_bytes()]).to_string();
        assert_eq!(wrong, "-WRONGPASS invalid username-password pair or user is disabled.", "{port}");
        assert_eq!(wire.request(&[b"AUTH", password]).to_string(), "+OK", "{port}");
        let shown = wire.request(&[b"CONFIG", b"GET", b"requirepass"]);
        let Reply::Array(shown) = shown else { panic!("{shown:?}") };
        assert!(matches!(&shown[1], Reply::Bulk(shown) if shown == password), "{shown:?}");
    }
}

/// Guesses of a password wait, longer with each guess; the right password is taken from the same address after that, and
/// clients that are in notice nothing.
#[test]
fn passwords_are_guessed_slowly() {
    let server = Server::start(1, &["--requirepass", "secret"]);
    let mut witness = Wire::connect(server.core(0));
    assert_eq!(witness.ask("AUTH secret"), "+OK");
    let mut guesser = Wire::connect(server.core(0));
    let began = Instant::now();
    for _ in 0..6 {
        assert!(guesser.ask("AUTH wrong").starts_with("-WRONGPASS"));
    }
    // 10, 20, 40, 80 and 160 ms, whatever the machine does beside.
    assert!(Duration::from_millis(310) <= began.elapsed(), "{:?}", began.elapsed());
    // Its next is not looked at yet, and what is behind it waits; others don't.
    let mut request = Vec::new();
    encode(&mut request, &[b"AUTH", b"secret"]);
    encode(&mut request, &[b"PING"]);
    guesser.send(&request);
    assert_eq!(witness.ask("PING"), "+PONG");
    assert_eq!(witness.ask("AUTH wrong"), "-WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(guesser.reply().to_string(), "+OK");
    assert_eq!(guesser.reply().to_string(), "+PONG");
}

/// A value that is no text is taken as it is, or refused by the name of its variable: it is not passed over.
#[test]
fn variables_that_are_no_text_are_not_passed_over() {
    for variable in ["TRINE_DIR", "TRINE_MAX_MEMORY", "TRINE_CONFIG"] {
        let mut command = Command::new(program("trine"));
        let output = command.arg("serve").env(variable, OsStr::from_bytes(b"p\xffss")).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.starts_with(&format!("trine: {variable}")), "{said}");
    }
}

/// A stranger gets eight arguments of a kilobyte, and no more of the server's memory.
#[test]
fn before_the_password_requests_are_small() {
    let server = Server::start(1, &["--requirepass", "secret"]);
    for (bytes, answer) in [
        (&b"*9\r\n"[..], "-ERR Protocol error: unauthenticated multibulk length"),
        (b"*2\r\n$4\r\nAUTH\r\n$1025\r\n", "-ERR Protocol error: unauthenticated bulk length"),
        (&[b'a'; 8192], "-ERR Protocol error: too big inline request"),
    ] {
        let mut wire = server.connect();
        wire.send(bytes);
        assert_eq!(wire.reply().to_string(), answer);
        assert!(wire.is_closed());
    }
    let mut wire = server.connect();
    assert_eq!(wire.ask("AUTH secret"), "+OK");
    assert_eq!(wire.request(&[b"SET", b"k", &vec![b'x'; 5000]]).to_string(), "+OK");
}

/// A setting that CONFIG SET sets is shown by CONFIG GET, in Redis's name for it and in ours, on every core.
#[test]
fn settings_can_be_changed_at_run_time() {
    let server = Server::start(2, &["--max-memory", "100mb"]);
    server.connect().check(
        "CONFIG GET maxmemory -> [maxmemory 104857600]
         CONFIG SET maxmemory 64mb timeout 100 -> +OK
         CONFIG GET max-memory -> [max-memory 67108864]
         CONFIG SET maxmemory-policy allkeys-lfu -> +OK
         CONFIG GET eviction -> [eviction lfu]",
    );
    for core in 0..2 {
        Wire::connect(server.core(core)).check("CONFIG GET timeout -> [timeout 100]");
    }
    let answer = server.connect().ask("CONFIG SET maxmemory nonsense");
    assert!(answer.starts_with("-ERR CONFIG SET failed"), "{answer}");
    let answer = server.connect().ask("CONFIG SET port 1");
    assert!(answer.starts_with("-ERR CONFIG SET failed"), "{answer}");
}

/// A key is gone when its time is up, whether somebody asks for it or not.
#[test]
fn keys_expire() {
    let server = Server::start(2, &[]);
    let mut wire = server.connect();
    for number in 0..100 {
        assert_eq!(wire.ask(&format!("SET key:{number} v PX {}", 50 + number)), "+OK");
    }
    assert_eq!(wire.ask("SET stays v"), "+OK");
    // Nobody asks for them: they are swept.
    eventually("keys are swept", || (wire.ask("DBSIZE") == ":1").then_some(()));
    assert_eq!(wire.ask("SET k v PX 20"), "+OK");
    eventually("a key expires", || (wire.ask("GET k") == "nil").then_some(()));
    assert_eq!(wire.ask("GET stays"), "v");
}

/// Fills a server until a value is refused or `most` of them are in.
fn fill(wire: &mut Wire, most: usize) -> Option<String> {
    let value = vec![b'v'; 1000];
    (0..most).find_map(|number| {
        let key = format!("key:{number}");
        let reply = wire.request(&[b"SET", key.as_bytes(), &value]);
        (reply != Reply::Simple("OK".into())).then(|| reply.to_string())
    })
}

/// At the limit, commands that need memory are refused, and those that don't go on.
#[test]
fn without_eviction_a_full_server_says_so() {
    let server = Server::start(1, &["--max-memory", "2mb"]);
    let mut wire = server.connect();
    let refused = fill(&mut wire, 10_000).expect("two megabytes are full");
    assert_eq!(refused, "-OOM command not allowed when used memory > 'maxmemory'.");
    assert_eq!(wire.ask("STRLEN key:0"), ":1000");
    for number in 0..100 {
        assert_eq!(wire.ask(&format!("DEL key:{number}")), ":1");
    }
    assert_eq!(wire.ask("SET k v"), "+OK");
}

/// At the limit, what is least used makes room; what is used stays.
#[test]
fn with_eviction_a_full_server_makes_room() {
    let server = Server::start(1, &["--max-memory", "4mb", "--eviction", "lfu"]);
    let mut wire = server.connect();
    assert_eq!(wire.ask("SET used v"), "+OK");
    for _ in 0..1000 {
        assert_eq!(wire.ask("GET used"), "v");
    }
    assert_eq!(fill(&mut wire, 20_000), None);
    let keys: usize = wire.ask("DBSIZE").trim_start_matches(':').parse().unwrap();
    assert!((1000..4200).contains(&keys), "{keys} keys of a kilobyte");
    assert_eq!(wire.ask("GET used"), "v");
    let resident = server.process.resident_bytes();
    assert!(resident < 40 << 20, "{resident} bytes");
}
