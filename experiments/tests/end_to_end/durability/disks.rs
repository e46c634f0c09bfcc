//! Disks that are full, slow, broken or not ours.

use super::{
    ledger::{Door, HABITS, Habits, Ledger},
    machine::{Device, Mount, Skip, image},
    modes::{info, kill, stop},
};
use crate::{
    harness::{Process, Server, eventually, free_ports, program, random},
    http::Http,
    wire::{Reply, Wire, encode},
};
use std::{
    fs,
    io::ErrorKind,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// Small values, one request at a time or a few: any of them may be refused.
const CAREFUL: Habits = Habits { pipeline: 1..2, value_bytes: 20_000..60_000, large_in: 0 };

/// On a full disk writes are refused and reads go on; as soon as there is room, writes are taken again. A restart finds
/// everything that was acknowledged before, meanwhile and after.
#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk");
    type Make<'a> = &'a dyn Fn() -> Result<Mount, Skip>;
    let small: [(&str, Make<'_>); 2] =
        [("tmpfs", &|| Mount::tmpfs(96)), ("ext4", &|| image(&file, 112).and_then(|()| Mount::ext4(&file)))];
    for (name, mount) in small {
        match mount() {
            Ok(mount) => fill_up(mount),
            Err(reason) => reason.about(name).report(),
        }
    }
}

fn fill_up(mount: Mount) {
    let (directory, ballast, reserve) = (mount.join("data"), mount.join("ballast"), mount.join("reserve"));
    // Room for what all three write when it is gone, three times 100 values of 60,000 bytes at most, and for the segments that
    // two cores have begun or made ready then: whoever is first must not take what another needs.
    fs::write(&ballast, vec![b'b'; 40 << 20]).unwrap();
    fs::write(&reserve, vec![b'b'; 16 << 20]).unwrap();
    let settings = ["--dir", &directory, "--log-segment-bytes", "4mb", "--snapshot-log-bytes", "0"];
    let server = Server::start(2, &settings);
    let mut random = random();
    let doors = [("a", Door::Gateway), ("b", Door::Core(0)), ("c", Door::Core(1))];
    let ledger = |(name, door): (&str, Door)| Ledger::new(name, 30, door, &server, CAREFUL, random.u64(..));
    let mut ledgers = doors.map(ledger);
    // Each goes on until its own core refuses.
    for ledger in &mut ledgers {
        let mut wire = Wire::connect(ledger.door.port(&server));
        let before = ledger.refused;
        eventually("the disk is full", || {
            ledger.write_batch(&mut wire).unwrap();
            (before + 20 < ledger.refused).then_some(())
        });
    }
    let mut wire = Wire::connect(server.core(0));
    let answer = wire.ask("SET foo refused");
    assert!(answer.starts_with("-MISCONF") || answer.starts_with("-MOVED"), "{answer}");
    assert_eq!(info(&mut server.connect(), "aof_last_write_status").unwrap(), "err");
    let mut http = Http::connect(server.port);
    let ready = [server.connect().ask("READY"), http.ask("GET /ready")];
    assert!(ready[0].starts_with("-MISCONF ") && ready[1].starts_with("503 {\"error\":\"MISCONF "), "{ready:?}");
    assert_eq!(http.ask("GET /health"), r#"200 {"status":"ok"}"#, "it lives");
    ledgers.iter_mut().for_each(|ledger| ledger.check(&server));
    fs::remove_file(&ballast).unwrap();
    for ledger in &mut ledgers {
        let mut wire = Wire::connect(ledger.door.port(&server));
        let refused = ledger.refused;
        let before = ledger.acknowledged;
        eventually("writes are taken again", || {
            ledger.write_batch(&mut wire).unwrap();
            (before + 100 < ledger.acknowledged).then_some(())
        });
        eprintln!("{refused} refused until there was room, then {}", ledger.refused - refused);
    }
    assert_eq!([server.connect().ask("READY"), http.ask("GET /ready")], ["+OK", r#"200 {"status":"ready"}"#]);
    // A crash while it is full again: a start has the reserve for its segment.
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        for ledger in &mut ledgers {
            let (port, stopped) = (ledger.door.port(&server), &stopped);
            scope.spawn(move || drop(ledger.write(port, stopped)));
        }
        eventually("the disk is full again", || {
            let status = info(&mut server.connect(), "aof_last_write_status").unwrap();
            (status == "err").then_some(())
        });
        stopped.store(true, Ordering::Relaxed);
    });
    kill(server);
    let server = Server::start(2, &settings);
    ledgers.iter_mut().for_each(|ledger| ledger.check(&server));
    kill(server);
    fs::remove_file(&reserve).unwrap();
    let server = Server::start(2, &settings);
    ledgers.iter_mut().for_each(|ledger| ledger.check(&server));
    stop(server);
    mount.unmount();
}

/// Starts a server that may not come up. Returns its first port too.
pub fn try_serve(settings: &[&str]) -> (Process, u16) {
    let port = free_ports(&[0, 1, 2, 3]);
    let mut command = Command::new(program("trine"));
    command.args(["serve", "--log", "info", "--port", &port.to_string()]).args(settings);
    command.args(["--parent", &std::process::id().to_string()]);
    (Process::start(command.stdout(Stdio::null())), port)
}

/// A write or a sync that fails ends the server: a line says what happened, the status is not 0, and nothing is acknowledged
/// after it. On the healed disk everything is found that was.
#[test]
fn a_disk_that_fails_ends_the_server() {
    let fails = ["error-pwrite-rate=100%", "error-file=FOLDERfails"];
    // Under a cache it is not the write that fails, but the sync.
    let disks = [(&["error"][..], &fails[..]), (&["cache", "error"], &[&fails[..], &["cache=writeback"]].concat())];
    for (filters, parameters) in disks {
        if let Err(reason) = fail(filters, parameters) {
            reason.about(&format!("{filters:?}")).report();
        }
    }
}

fn fail(filters: &[&str], parameters: &[&str]) -> Result<(), Skip> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk");
    image(&file, 256)?;
    let mut random = random();
    let mut ledgers = Vec::new();
    for _life in 0..3 {
        let device = Device::new(&file, filters, parameters)?;
        let mount = Mount::ext4(&device.path)?;
        let directory = mount.join("data");
        let settings = ["--dir", &directory, "--log-segment-bytes", "4mb", "--snapshot-log-bytes", "8mb"];
        let mut server = Server::start(2, &settings);
        if ledgers.is_empty() {
            for (name, door) in [("a", Door::Gateway), ("b", Door::Core(0)), ("c", Door::Core(1))] {
                ledgers.push(Ledger::new(name, 30, door, &server, HABITS, random.u64(..)));
            }
        }
        ledgers.iter_mut().for_each(|ledger| ledger.check(&server));
        let life = Duration::from_millis(random.u64(300..1000));
        thread::scope(|scope| {
            for ledger in &mut ledgers {
                let port = ledger.door.port(&server);
                scope.spawn(move || drop(ledger.write(port, &AtomicBool::new(false))));
            }
            thread::sleep(life);
            fs::write(device.file("fails"), []).unwrap();
            let status = server.process.end();
            assert_eq!(status.code(), Some(1), "{status} {}", server.process.said());
        });
        let said = server.process.said();
        assert!(said.contains("the log can't be written") && said.contains("shard-"), "{said}");
        // Healed: what the file system still wants to write, it may.
        fs::remove_file(device.file("fails")).unwrap();
        mount.unmount();
    }
    let mount = Mount::ext4(&file)?;
    let server = Server::start(2, &["--dir", &mount.join("data"), "--log-segment-bytes", "4mb"]);
    ledgers.iter_mut().for_each(|ledger| ledger.check(&server));
    let acknowledged: u64 = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
    assert!(200 < acknowledged, "{acknowledged} writes");
    stop(server);
    Ok(())
}

/// While the disk stands still, neither a write nor a read of it is answered; other keys are, and the order is kept.
#[test]
fn nothing_is_told_before_it_is_on_disk() {
    if let Err(reason) = stand_still() {
        reason.report();
    }
}

fn stand_still() -> Result<(), Skip> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk");
    image(&file, 256)?;
    let (mount, device) = Device::pausing(&file)?;
    let server = Server::start(2, &["--dir", &mount.join("data"), "--log-segment-bytes", "4mb"]);
    let mut others = [server.connect(), Wire::connect(server.core(0)), Wire::connect(server.core(1))];
    // Written long ago, and on disk.
    server.connect().check("MSET foo old {b} old bar old {a} old -> +OK");
    let doors = [server.port, server.port, server.core(0), server.core(1)];
    for (key, other) in [("foo", "{b}"), ("{b}", "foo")] {
        let owner =
            doors.into_iter().skip(2).find(|&port| !Wire::connect(port).ask(&format!("GET {key}")).starts_with('-'));
        let owner = owner.expect("some core has it");
        let pause = device.pause();
        let mut writer = Wire::connect(owner);
        writer.send(
            format!("SET {key} new\r\nGET unwritten{{{key}}}\r\n").replace("{{", "{").replace("}}", "}").as_bytes(),
        );
        // By the same door, so that it comes behind: the owner has executed the write when it answers here.
        assert_eq!(Wire::connect(owner).ask("PING"), "+PONG");
        let mut readers: Vec<_> = doors[..2].iter().chain([&owner]).map(|&port| Wire::connect(port)).collect();
        readers.iter_mut().for_each(|reader| reader.send(format!("GET {key}\r\n").as_bytes()));
        for other_wire in &mut others {
            // Each core turns many times, and answers for what is not on its way to the disk.
            for _ in 0..50 {
                assert_eq!(other_wire.ask("PING"), "+PONG");
            }
        }
        assert_eq!(server.connect().ask(&format!("GET {other}")), "old");
        for waiting in readers.iter().chain([&writer]) {
            waiting.socket().set_nonblocking(true).unwrap();
            let answered = waiting.socket().peek(&mut [0]);
            assert_eq!(answered.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock), "{key}");
            waiting.socket().set_nonblocking(false).unwrap();
        }
        drop(pause);
        assert_eq!(writer.reply().to_string(), "+OK");
        assert_eq!(writer.reply().to_string(), "nil");
        readers.iter_mut().for_each(|reader| assert_eq!(reader.reply().to_string(), "new", "{key}"));
        server.connect().check(&format!("SET {key} old -> +OK"));
    }
    stop(server);
    mount.unmount();
    drop(device);
    Ok(())
}

/// A directory that cannot be used is refused: a line names it and says what to do, and the status is not 0.
#[test]
fn a_directory_that_cannot_be_used_is_refused_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let directory = path("data");
    let owner = Server::start(2, &["--dir", &directory]);
    assert_eq!(owner.connect().ask("SET k v"), "+OK");
    refused(&["--dir", &directory, "--cores", "2"], &["in use by process", &owner.process.id().to_string()]);
    stop(owner);
    refused(&["--dir", &directory, "--cores", "1"], &["start with --cores 2"]);
    refused(&["--dir", &directory, "--cores", "2", "--name", "other"], &["start with --name trine"]);
    fs::write(path("file"), "no directory").unwrap();
    refused(&["--dir", &path("file")], &["a file is in the way"]);
    refused(&["--dir", &path("file/below")], &["a file is in the way"]);
    let newer = path("newer");
    fs::create_dir(&newer).unwrap();
    fs::write(path("newer/trine.toml"), "version = 2\n").unwrap();
    refused(&["--dir", &newer], &["written by a newer Trine"]);
    // A segment of a newer version in a directory of this one.
    let segment = path("data/shard-1/log-0000000000000001");
    let mut bytes = fs::read(&segment).unwrap();
    let known = std::mem::replace(&mut bytes[8], 9);
    fs::write(&segment, &bytes).unwrap();
    refused(&["--dir", &directory, "--cores", "2"], &["log-0000000000000001", "format 9", "newer"]);
    bytes[8] = known;
    fs::write(&segment, &bytes).unwrap();
    match Mount::tmpfs(8) {
        Err(reason) => reason.about("a read-only file system").report(),
        Ok(mount) => {
            super::machine::run("mount", &["-o", "remount,ro", mount.path().to_str().unwrap()]).unwrap();
            refused(&["--dir", &mount.join("data")], &["the file system is read-only"]);
            refused(&["--dir", mount.path().to_str().unwrap()], &["the file system is read-only"]);
        }
    }
    Server::start(2, &["--dir", &directory]).connect().check("GET k -> v");
}

#[track_caller]
fn refused(settings: &[&str], expected: &[&str]) {
    let (mut process, _) = try_serve(settings);
    let status = process.end();
    assert!(status.code().is_some_and(|code| code != 0), "{settings:?}: {status}");
    // The pipe is read by another thread.
    eventually("it says why", || {
        let said = process.said();
        let lines: Vec<_> = said.lines().filter(|line| line.starts_with("trine: ")).collect();
        let is_told = lines.len() == 1 && expected.iter().all(|words| lines[0].contains(words));
        assert!(lines.len() < 2 && (lines.is_empty() || is_told), "{settings:?}: {said}");
        is_told.then_some(())
    });
}

/// A segment that has changed on disk, and has more behind the change, stops the start with its name and where; with
/// `--accept-loss` the server starts without what is damaged and writes down what that is.
#[test]
fn a_damaged_segment_is_refused_or_its_loss_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    let server = Server::start(2, &["--dir", directory]);
    let mut wire = server.connect();
    for number in 0..100 {
        assert_eq!(wire.ask(&format!("SET {number} v")), "+OK");
    }
    stop(server);
    let segment = folder.path().join("shard-0/log-0000000000000001");
    let mut bytes = fs::read(&segment).unwrap();
    // In the record, which begins behind the frame's header; the padding behind it may change unseen.
    bytes[10 * 4096 + 50] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    refused(&["--dir", directory, "--cores", "2"], &["shard-0/log-0000000000000001", "offset 40960", "--accept-loss"]);
    let server = Server::start(2, &["--dir", directory, "--accept-loss"]);
    let mut wire = server.connect();
    assert_eq!(wire.ask("DBSIZE"), ":99");
    let lost = || fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).find(|path| is_lost(path));
    let lost = fs::read_to_string(lost().expect("it is written down")).unwrap();
    assert!(lost.contains("log-0000000000000001"), "{lost}");
    // The next start finds nothing damaged, once the snapshot is there that was begun at once.
    eventually("a snapshot is taken", || (info(&mut wire, "rdb_bgsave_in_progress").unwrap() == "0").then_some(()));
    assert_eq!(wire.ask("SET more v"), "+OK");
    kill(server);
    let server = Server::start(2, &["--dir", directory]);
    assert_eq!(server.connect().ask("DBSIZE"), ":100");
}

fn is_lost(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_str().unwrap().starts_with("lost-"))
}

/// Bytes of the log that may wait for the disk.
const BACKLOG: usize = 4 << 20;

/// A client that asks for more than the disk can take is slowed down, not dropped, and the server's memory stays bounded.
#[test]
fn a_disk_that_stands_still_bounds_memory() {
    if let Err(reason) = pile_up() {
        reason.report();
    }
}

fn pile_up() -> Result<(), Skip> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("disk");
    image(&file, 512)?;
    let (mount, device) = Device::pausing(&file)?;
    let backlog = BACKLOG.to_string();
    let server = Server::start(2, &["--dir", &mount.join("data"), "--log-backlog-bytes", &backlog]);
    let mut wire = server.connect();
    wire.check("SET foo v -> +OK");
    // For keys of both cores, from a client of one of them.
    let bytes = requests(5_000, 10_000, |number| format!("k{number}"));
    pile_up_requests(&server, &device, &mut [server.connect()], &bytes, 5_000);
    // For keys of one core, from a client of each, and larger ones: as many as a client may have at the other core are 200 MB.
    let bytes = requests(300, 200_000, |number| format!("{{b}}{number}"));
    let mut clients = [server.connect(), server.connect()];
    for client in &mut clients {
        // A client may have the more under way the more it was answered.
        client.send(&b"GET {b}\r\n".repeat(1000));
        (0..1000).for_each(|_| assert_eq!(client.reply(), Reply::Null));
    }
    pile_up_requests(&server, &device, &mut clients, &bytes, 300);
    assert_eq!(server.connect().ask("DBSIZE"), ":201");
    stop(server);
    mount.unmount();
    drop(device);
    Ok(())
}

/// SETs of a hundred keys.
fn requests(count: usize, length: usize, key: impl Fn(usize) -> String) -> Vec<u8> {
    let (mut bytes, value) = (Vec::new(), vec![b'v'; length]);
    (0..count).for_each(|number| encode(&mut bytes, &[b"SET", key(number % 100).as_bytes(), &value]));
    bytes
}

/// Has each of the clients send these requests, `count` of them and more than fit into a backlog, while the disk stands still.
fn pile_up_requests(server: &Server, device: &Device, clients: &mut [Wire], bytes: &[u8], count: usize) {
    let before = server.process.resident_bytes();
    let pause = device.pause();
    let sent = &AtomicBool::new(false);
    thread::scope(|scope| {
        for client in &mut *clients {
            let mut socket = client.socket().try_clone().unwrap();
            scope.spawn(move || {
                std::io::Write::write_all(&mut socket, bytes).unwrap();
                sent.store(true, Ordering::Relaxed);
            });
        }
        // Its memory has stopped growing when it is the same many looks long.
        let (mut last, mut same) = (0, 0);
        eventually("the backlog is full", || {
            let now = server.process.resident_bytes();
            same = if now == last { same + 1 } else { 0 };
            last = now;
            (200 < same).then_some(())
        });
        let after = server.process.resident_bytes();
        assert!(after < before + 10 * BACKLOG, "{before} bytes before, {after} after");
        assert!(!sent.load(Ordering::Relaxed), "{} bytes don't fit into a backlog of {BACKLOG}", bytes.len());
        drop(pause);
        for client in &mut *clients {
            (0..count).for_each(|_| assert_eq!(client.reply().to_string(), "+OK"));
        }
    });
}
