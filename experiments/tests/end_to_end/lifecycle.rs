//! The start and the end of a server.

use crate::{
    harness::{Process, Server, eventually, free_ports, program},
    http::Http,
    wire::{Wire, encode},
};
use rustix::process::Signal;
use std::{
    io,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// The longest time for a server to end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// SIGTERM under load: a client gets the replies to a prefix of its requests, each whole and in order, and then the
/// connection's end. The server ends with status 0, within five seconds.
#[test]
fn a_server_that_is_told_to_stop_under_load_sends_what_it_owes() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start(2, &[]);
        let answered = AtomicUsize::new(0);
        thread::scope(|scope| {
            let ports = [server.port, server.port, server.core(0), server.core(1)];
            let clients = ports.map(|port| {
                let answered = &answered;
                scope.spawn(move || {
                    let mut wire = Wire::connect(port);
                    for round in 0_u64.. {
                        let mut bytes = Vec::new();
                        (0..50)
                            .for_each(|number| encode(&mut bytes, &[b"ECHO", format!("{round}:{number}").as_bytes()]));
                        if wire.try_send(&bytes).is_err() {
                            return;
                        }
                        for number in 0..50 {
                            match wire.try_reply() {
                                Ok(reply) => assert_eq!(reply.to_string(), format!("{round}:{number}")),
                                Err(error) => {
                                    let kind = error.kind();
                                    let is_end =
                                        matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
                                    return assert!(is_end, "{error}");
                                }
                            }
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            });
            eventually("load", || (2000 < answered.load(Ordering::Relaxed)).then_some(()));
            let began = Instant::now();
            server.process.signal(signal);
            let status = server.process.end();
            assert_eq!(status.code(), Some(0), "{status}");
            assert!(began.elapsed() < END_WITHIN, "{:?}", began.elapsed());
            clients.into_iter().for_each(|client| client.join().unwrap());
        });
    }
}

/// Requests that were read are finished: replies that wait for another core, or for the client to read, are sent before the
/// end.
#[test]
fn a_server_that_stops_finishes_what_it_has_read() {
    let mut server = Server::start(2, &["--debug-commands"]);
    assert_eq!(server.connect().ask("MSET {b} one foo two"), "+OK");
    let mut clients: Vec<_> = (0..2).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("PING"), "+PONG"));
    let mut sleeper = Wire::connect(server.core(0));
    sleeper.send(b"DEBUG SLEEP 1\r\n");
    // The second core has taken these when it answers what came behind them.
    for client in &mut clients {
        client.send(b"MGET {b} foo\r\n");
    }
    let mut witness = Wire::connect(server.core(1));
    (0..3).for_each(|_| assert_eq!(witness.ask("PING"), "+PONG"));
    let began = Instant::now();
    server.process.signal(Signal::TERM);
    // Both were read before the signal, or lie unread in the kernel of a core that sleeps: that one may be cut off.
    let replies: Vec<_> = clients.iter_mut().map(|client| client.try_reply().map(|reply| reply.to_string())).collect();
    assert!(replies.iter().any(|reply| matches!(reply, Ok(reply) if reply == "[one two]")), "{replies:?}");
    assert!(clients.iter_mut().all(Wire::is_closed));
    assert_eq!(sleeper.reply().to_string(), "+OK");
    assert_eq!(server.process.end().code(), Some(0));
    assert!(began.elapsed() < END_WITHIN, "{:?}", began.elapsed());
}

/// A client that never reads does not keep a server from ending.
#[test]
fn a_server_ends_though_a_client_does_not_read() {
    let mut server = Server::start(1, &["--shutdown-timeout", "1"]);
    let mut wire = server.connect();
    assert_eq!(wire.request(&[b"SET", b"k", &vec![b'x'; 8 << 20]]).to_string(), "+OK");
    wire.send(b"GET k\r\nGET k\r\nGET k\r\n");
    let mut witness = server.connect();
    assert_eq!(witness.ask("PING"), "+PONG");
    let began = Instant::now();
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.end().code(), Some(0));
    assert!(began.elapsed() < END_WITHIN, "{:?}", began.elapsed());
}

/// A second server on a taken port ends at once and names the port, be it a gateway's or a core's.
#[test]
fn a_second_server_on_a_taken_port_names_it() {
    let first = Server::start(1, &[]);
    for (port, taken) in [(first.port, first.port), (first.port - 1, first.port), (free_ports(&[0]), first.core(0))] {
        let mut command = Command::new(program("trine"));
        command.args(["serve", "--cores", "1", "--port", &port.to_string()]);
        if taken == first.core(0) {
            command.args(["--core-port", &taken.to_string()]);
        }
        let began = Instant::now();
        let mut second = Process::start(command.stdout(Stdio::null()));
        assert_eq!(second.end().code(), Some(1));
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        eventually("it says why", || second.said().contains(&format!("port {taken} is taken")).then_some(()));
    }
    assert_eq!(first.connect().ask("PING"), "+PONG");
}

/// Nobody is let in from elsewhere without a password, unless that was asked for.
#[test]
fn a_wide_bind_without_a_password_is_refused() {
    let start = |settings: &[&str]| {
        let port = free_ports(&[0, 1]);
        let mut command = Command::new(program("trine"));
        command.args(["serve", "--bind", "0.0.0.0", "--announce", "localhost", "--cores", "1"]);
        command.args(["--port", &port.to_string()]).args(settings);
        (Process::start(command.stdout(Stdio::null())), port)
    };
    let (mut refused, _) = start(&[]);
    assert_eq!(refused.end().code(), Some(2));
    eventually("it says why", || {
        let said = refused.said();
        (said.contains("0.0.0.0") && said.contains("password") && said.contains("allow-wide-bind")).then_some(())
    });
    for settings in [&["--allow-wide-bind"][..], &["--requirepass", "secret"]] {
        let (_server, port) = start(settings);
        eventually("it answers", || Wire::try_connect(port).ok()?.try_ask("QUIT").ok());
    }
}

/// SIGTERM before anybody has connected, and right after the start.
#[test]
fn an_idle_server_ends_at_once() {
    let mut server = Server::start(2, &[]);
    let began = Instant::now();
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.end().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

/// If there is locked memory for one core and not for two, the server says so and ends, instead of going on without a core.
#[test]
fn a_core_without_locked_memory_ends_the_server() {
    // Root may lock what it likes, as long as it has the capability.
    let drop = ["setpriv", "--bounding-set", "-ipc_lock"];
    let drop = if rustix::process::geteuid().is_root() { &drop[..] } else { &[] };
    let (trine, port) = (program("trine"), free_ports(&[0, 1, 2]).to_string());
    let output = Command::new("timeout")
        .args(["--kill-after=1", "60", "prlimit", "--memlock=614400"])
        .args(drop)
        .arg(trine)
        .args(["serve", "--bind", "127.0.0.1", "--port", &port, "--cores", "2"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("locked memory"), "{output:?}");
    assert!(!said.contains("ready"), "{said}");
}

/// SIGHUP and its like end no server: a terminal that closes sends it, and `interval` would lose writes.
#[test]
fn signals_that_mean_nothing_here_do_not_end_a_server() {
    let mut server = Server::start(1, &["--log", "info"]);
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::XFSZ] {
        server.process.signal(signal);
        let noted = format!("ignored signal={}", signal.as_raw());
        eventually("it is noted", || server.process.said().contains(&noted).then_some(()));
    }
    assert_eq!(server.connect().ask("PING"), "+PONG");
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.end().code(), Some(0));
}

/// With few descriptors there are fewer clients, and files find theirs whatever clients do. One client too many is told so in
/// what it speaks, and none hangs.
#[test]
fn descriptors_for_files_are_kept_back() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_ports(&[0, 1]);
    let mut command = Command::new("prlimit");
    command.arg("--nofile=64").arg(program("trine")).args(["serve", "--cores", "1", "--port", &port.to_string()]);
    command.args(["--parent", &std::process::id().to_string(), "--dir"]).arg(folder.path().join("data"));
    let process = Process::start(command.stdout(Stdio::null()));
    let mut first = eventually("it accepts", || Wire::try_connect(port).ok());
    eventually("it has read its files", || (first.ask("PING") == "+PONG").then_some(()));
    assert!(process.said().contains("maxclients is lowered from 100000 to "), "{}", process.said());
    let shown = first.ask("CONFIG GET maxclients");
    let most: usize = shown.trim_matches(['[', ']']).rsplit(' ').next().unwrap().parse().unwrap();
    assert!((5..60).contains(&most), "{shown}");
    let refused = first.ask(&format!("CONFIG SET maxclients {}", most + 1));
    assert!(refused.contains(&format!("try with {most}")), "{refused}");

    let clients: Vec<_> = (1..80).map(|_| Wire::connect(port)).collect();
    first.check("SET k v -> +OK\nSAVE -> +OK\nSET k w -> +OK\nGET k -> w");
    let mut served = 1;
    for mut client in clients {
        match client.try_ask("GET k").unwrap().as_str() {
            "w" => served += 1,
            "-ERR max number of clients reached" => {}
            other => panic!("{other}"),
        }
        // Those that were served stay.
        std::mem::forget(client);
    }
    assert_eq!(served, most);
    let mut http = Http::connect(port);
    let answer = http.ask("GET /get/k");
    assert!(answer.starts_with("503 ") && answer.contains("max number of clients reached"), "{answer}");
    assert_eq!(first.ask("GET k"), "w");
}

/// Variables that Kubernetes and `docker --link` set for a service called `trine` are no settings of any subcommand, and a flag
/// goes before a variable that makes no sense.
#[test]
fn variables_of_a_service_called_trine_are_ignored() {
    let port = free_ports(&[0, 1]).to_string();
    let mut server = Command::new(program("trine"));
    server.args(["serve", "--cores", "1", "--port", &port, "--parent", &std::process::id().to_string()]);
    server.env("TRINE_PORT", "tcp://10.96.0.7:7000").env("TRINE_CORES", "nonsense");
    let server = Process::start(server.stdout(Stdio::null()));
    let health = |arguments: &[&str], value: &str| {
        let mut command = Command::new(program("trine"));
        command.arg("health").args(arguments).env("TRINE_PORT", value).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().code()
    };
    assert_eq!(health(&[&port, "--wait", "30"], "nonsense"), Some(0));
    assert_eq!(health(&[&port], "tcp://10.96.0.7:7000"), Some(0));
    assert_eq!(health(&[], "nonsense"), Some(2));
    drop(server);
    let doctor =
        Command::new(program("trine")).arg("doctor").env("TRINE_PORT", "tcp://10.96.0.7:7000").output().unwrap();
    assert_ne!(doctor.status.code(), Some(2), "{doctor:?}");
}

/// Cores without a CPU of their own serve too, and say that they have none.
#[test]
fn cores_may_run_on_any_cpu() {
    let port = free_ports(&[0, 1, 2]);
    let mut command = Command::new(program("trine"));
    command.args(["serve", "--cores", "2", "--cpus", "any", "--port", &port.to_string()]);
    let process = Process::start(command.args(["--parent", &std::process::id().to_string()]).stdout(Stdio::null()));
    eventually("it is ready", || process.said().contains("2 cores (ports ").then_some(()));
    assert!(process.said().contains(") on any CPU; "), "{}", process.said());
    let mut wire = Wire::connect(port);
    wire.check("MSET foo 1 {b} 2 -> +OK\nMGET foo {b} -> [1 2]\nCONFIG GET cpus -> [cpus any]");
    let all = rustix::thread::sched_getaffinity(None).unwrap();
    for task in std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap() {
        let id = task.unwrap().file_name().into_string().unwrap().parse().unwrap();
        let of_thread = rustix::thread::sched_getaffinity(rustix::process::Pid::from_raw(id)).unwrap();
        assert!((0..1024).all(|cpu| of_thread.is_set(cpu) == all.is_set(cpu)));
    }
}

/// A server to which nothing comes, and whose keys do not expire, hardly wakes: its cores do ten times a second at most. The
/// measure is what the kernel counts in the time that passes, however long that is.
#[test]
fn an_idle_server_hardly_wakes() {
    let server = Server::start(2, &[]);
    server.connect().check("SET foo 1 -> +OK\nSET {b} 1 -> +OK");
    let folder = format!("/proc/{}/task", server.process.id());
    let waits = || -> u64 {
        let tasks = std::fs::read_dir(&folder).unwrap().map(|task| task.unwrap().path().join("status"));
        let waits = tasks.filter_map(|status| {
            let text = std::fs::read_to_string(status).ok()?;
            text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse::<u64>().ok()
        });
        waits.sum()
    };
    // A core is idle after a second.
    eventually("it hardly wakes", || {
        let (before, began) = (waits(), Instant::now());
        thread::sleep(Duration::from_secs(1));
        let most = 2.0 * 10.0 * began.elapsed().as_secs_f64();
        ((waits() - before) as f64 <= most).then_some(())
    });
    // And a request wakes it.
    assert_eq!(server.connect().ask("GET {b}"), "1");
    let keys_go = server.connect().ask("SET foo 2 PX 20");
    assert_eq!(keys_go, "+OK");
    let mut wire = server.connect();
    eventually("a key is swept", || (wire.ask("DBSIZE") == ":1").then_some(()));
}
