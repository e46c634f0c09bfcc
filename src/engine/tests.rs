//! The engine, event by event.

use super::*;
use crate::{
    commands::tests::shard,
    config::{Config, Durability},
    store::{Key, Policy, UnixMillis},
    wal::{Aligned, Desk, Done, Job, LogBegun, Report, Segment, frame::BLOCK_BYTES, frame::FileId, room::Grow},
};
use expect_test::{Expect, expect};
use std::{cell::Cell, fmt::Write as _, io, mem};

thread_local! {
    static NOW_US: Cell<u64> = const { Cell::new(0) };
}

const CLOCK: Clock = Clock::new(|| NOW_US.get(), |_| unreachable!("nobody asks for a pause"));

/// A disk with room for ever.
struct Roomy;

impl Grow for Roomy {
    fn spares(&self) -> u64 {
        2
    }
    fn allocated(&self) -> u64 {
        2
    }
    fn note_delivered(&mut self) {}
    fn try_again(&mut self) {}
    fn grow(&mut self, _: u64) -> bool {
        true
    }
}

/// An engine, and the frame that is being written.
struct Core {
    engine: Engine,
    frame: Option<Aligned>,
}

impl Core {
    /// A core of so many, with a log or without.
    fn new(cores: u16, core: u16, has_log: bool, configure: impl FnOnce(&mut Config)) -> Self {
        let mut shard = shard(cores, core, Policy::default());
        shard.core.config.durability = Some(Durability::Always);
        configure(&mut shard.core.config);
        let files =
            CoreFiles { path: "d".into(), directory: 7, shard: core, listed: Vec::new(), reserve: Box::new(Roomy) };
        let engine = Engine::new(shard, CLOCK, now(), 1, has_log.then_some(files));
        let mut core = Self { engine, frame: None };
        if has_log {
            core.begin_log();
        }
        core.engine.handle(Event::Ready);
        core.turn();
        core
    }

    /// Plays the start of a log without files.
    fn begin_log(&mut self) {
        self.engine.load(|_, _, _, _| unreachable!("there are no files"));
        let asked = self.turn();
        assert!(asked.contains("BeginLog"), "{asked}");
        let active = Segment { id: FileId(1), number: 1, bytes: 64 << 20 };
        let (report, offset) = (Report::default(), BLOCK_BYTES as u64);
        let begun = LogBegun { report, active, offset, is_sealed: true, next_number: 2, is_fresh: true };
        self.engine.handle(Event::JobDone(Desk::Opening, Ok(Done::LogBegun(Box::new(begun)))));
        self.turn();
        self.turn();
    }

    fn connect(&mut self, place: u32, port: Port) -> ConnectionId {
        let id = ConnectionId::new(place, 0);
        assert_eq!(
            self.engine.accept(port, true),
            Admission::Serve { keepalive: self.engine.shard.core.config.tcp_keepalive }
        );
        self.engine.connected(id, port, "127.0.0.1:5", "127.0.0.1:6");
        id
    }

    fn receive(&mut self, id: ConnectionId, line: &str) {
        self.engine.handle(Event::Received(id, format!("{line}\r\n").as_bytes()));
    }

    /// Ends a turn. Returns its actions, but for those that every second has.
    fn turn(&mut self) -> String {
        self.engine.end_turn(false);
        let mut text = String::new();
        for action in mem::take(&mut self.engine.actions) {
            match action {
                Action::MeasureProcess | Action::Start(Desk::Segment | Desk::Release, _) => continue,
                Action::Send(id, bytes) => write!(text, "send {} {}", id.place(), bytes.escape_ascii()),
                Action::Write { segment, offset, buffer, length } => {
                    self.frame = Some(buffer);
                    write!(text, "write {length} bytes to segment {segment} at {offset}")
                }
                Action::Start(desk, job) => write!(text, "start {desk:?} {}", name(&job)),
                Action::Post(core, message) => write!(text, "post {core} {}", kind(&message)),
                other => write!(text, "{other:?}"),
            }
            .expect("strings take any text");
            text.push('\n');
        }
        self.engine.begin_turn(now());
        text
    }

    /// The frame is on disk, or the disk has failed.
    fn written(&mut self, outcome: io::Result<()>) {
        let frame = self.frame.take().expect("a frame is being written");
        self.engine.handle(Event::Written(frame, outcome));
    }

    /// Takes the one message of a turn for another core.
    fn message(&mut self) -> (usize, Message) {
        self.engine.end_turn(false);
        let actions = mem::take(&mut self.engine.actions).into_iter();
        let mut messages = actions.filter_map(|action| match action {
            Action::Post(core, message) => Some((core, message)),
            _ => None,
        });
        let message = messages.next().expect("a message");
        assert!(messages.next().is_none(), "one message");
        message
    }
}

fn now() -> Now {
    let monotonic_us = NOW_US.replace(NOW_US.get() + 1);
    Now { unix_us: 1_700_000_000_000_000 + monotonic_us, monotonic_us }
}

fn name(job: &Job) -> String {
    let text = format!("{job:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

fn kind(message: &Message) -> String {
    match message {
        Message::Requests(batch) => format!("requests {}", batch.requests.escape_ascii()),
        Message::Replies(batch) => format!("replies {}", batch.replies.escape_ascii()),
        other => format!("{other:?}"),
    }
}

#[track_caller]
fn check(text: &str, expected: Expect) {
    expected.assert_eq(text);
}

/// Requests are answered when the turn ends, all of a connection's replies at once; the next when they have left.
#[test]
fn replies_leave_at_the_end_of_a_turn() {
    let mut core = Core::new(1, 0, false, |_| ());
    let id = core.connect(0, Port::Core);
    core.receive(id, "SET a 1");
    core.receive(id, "GET a");
    check(
        &core.turn(),
        expect![[r"
        send 0 +OK\r\n$1\r\n1\r\n
    "]],
    );
    core.receive(id, "GET a");
    check(&core.turn(), expect![""]);
    core.engine.handle(Event::Sent(id));
    check(
        &core.turn(),
        expect![[r"
        send 0 $1\r\n1\r\n
    "]],
    );
}

/// A reply to a write, and to a read of that write, waits for the frame that has it; a reply about another key does not.
#[test]
fn replies_wait_for_the_log() {
    let mut core = Core::new(1, 0, true, |_| ());
    let [one, two, three] = [0, 1, 2].map(|place| core.connect(place, Port::Core));
    core.receive(one, "SET a 1");
    core.receive(two, "GET a");
    core.receive(three, "GET b");
    check(
        &core.turn(),
        expect![[r"
        send 2 $-1\r\n
        write 4096 bytes to segment 1 at 4096
    "]],
    );
    check(&core.turn(), expect![""]);
    core.written(Ok(()));
    check(
        &core.turn(),
        expect![[r"
        send 0 +OK\r\n
        send 1 $1\r\n1\r\n
    "]],
    );
}

/// A client that finds a key expired is told when its removal is on disk, as is one that asks again in the meantime, or sees nothing
/// of it among all keys.
#[test]
fn replies_wait_for_the_removal_of_what_has_expired() {
    for line in
        ["GET a", "KEYS *", "SCAN 0", "RANDOMKEY", "EXISTS a", "TTL a", "EXPIRE a 9", "GETEX a PX 9", "SET a 1 XX"]
    {
        let mut core = Core::new(1, 0, true, |_| ());
        let [one, two, three] = [0, 1, 2].map(|place| core.connect(place, Port::Core));
        core.receive(one, "SET a 1 PX 5");
        core.turn();
        core.written(Ok(()));
        core.turn();
        core.engine.handle(Event::Sent(one));
        NOW_US.set(NOW_US.get() + 6_000);
        core.engine.begin_turn(now());
        core.receive(two, line);
        core.receive(one, "GET a");
        core.receive(three, "GET b");
        assert_eq!(core.turn(), "send 2 $-1\\r\\n\nwrite 4096 bytes to segment 1 at 8192\n", "{line}");
        core.written(Ok(()));
        let text = core.turn();
        assert!(text.contains("send 0 $-1") && text.contains("send 1 "), "{line}: {text}");
    }
}

/// While a frame is written the next one piles up; its replies wait for it.
#[test]
fn one_frame_is_written_at_a_time() {
    let mut core = Core::new(1, 0, true, |_| ());
    let [one, two] = [0, 1].map(|place| core.connect(place, Port::Core));
    core.receive(one, "SET a 1");
    core.turn();
    core.receive(two, "SET b 2");
    check(&core.turn(), expect![""]);
    core.written(Ok(()));
    check(
        &core.turn(),
        expect![[r"
        send 0 +OK\r\n
        write 4096 bytes to segment 1 at 8192
    "]],
    );
    core.written(Ok(()));
    check(
        &core.turn(),
        expect![[r"
        send 1 +OK\r\n
    "]],
    );
}

/// After a write that failed nothing leaves any more, and nothing is done.
#[test]
fn nothing_is_acknowledged_after_a_write_that_failed() {
    let mut core = Core::new(1, 0, true, |_| ());
    let [one, two] = [0, 1].map(|place| core.connect(place, Port::Core));
    core.receive(one, "SET a 1");
    core.turn();
    core.receive(two, "GET b");
    core.written(Err(io::Error::other("broken")));
    check(
        &core.turn(),
        expect![[r#"
        End(LogFailed(Custom { kind: Other, error: "broken" }))
    "#]],
    );
    core.receive(one, "PING");
    check(&core.turn(), expect![""]);
}

/// So much waits for the disk that no request may be executed: every connection is paused, and goes on where it was.
#[test]
fn a_log_that_is_behind_pauses_everybody() {
    let mut core = Core::new(1, 0, true, |config| config.log_backlog_bytes = 100);
    let [one, two] = [0, 1].map(|place| core.connect(place, Port::Core));
    core.receive(one, "SET a 1");
    core.turn();
    core.receive(one, &format!("SET a {}", "x".repeat(200)));
    core.receive(two, "SET b 2");
    check(
        &core.turn(),
        expect![[r"
        Pause(ConnectionId { place: 0, generation: 0 })
        Pause(ConnectionId { place: 1, generation: 0 })
    "]],
    );
    core.written(Ok(()));
    let text = core.turn();
    check(
        &text,
        expect![[r"
        send 0 +OK\r\n
        write 4096 bytes to segment 1 at 8192
    "]],
    );
    core.written(Ok(()));
    core.engine.handle(Event::Sent(one));
    check(
        &core.turn(),
        expect![[r"
        send 0 +OK\r\n
        Resume(ConnectionId { place: 0, generation: 0 })
        Resume(ConnectionId { place: 1, generation: 0 })
        write 4096 bytes to segment 1 at 12288
    "]],
    );
}

/// A request for a key of another core goes there, and its reply comes back; what follows it waits for its place.
#[test]
fn a_request_is_forwarded_to_the_core_that_has_the_key() {
    let mut cores = [0, 1].map(|core| Core::new(2, core, true, |_| ()));
    let id = cores[0].connect(0, Port::Gateway);
    // `foo` is in the second half of the slots.
    cores[0].receive(id, "SET foo 1");
    cores[0].receive(id, "PING");
    let (1, asked) = cores[0].message() else { panic!("it goes to core 1") };
    check(&kind(&asked), expect![[r"requests *3\r\n$3\r\nSET\r\n$3\r\nfoo\r\n$1\r\n1\r\n"]]);
    cores[1].engine.handle(Event::Message(0, asked));
    // The other core holds its reply until its own log is on disk.
    check(
        &cores[1].turn(),
        expect![[r"
        post 0 replies 
        write 4096 bytes to segment 1 at 4096
    "]],
    );
    cores[1].written(Ok(()));
    let (0, reply) = cores[1].message() else { panic!("it goes to core 0") };
    check(&kind(&reply), expect![[r"replies +OK\r\n"]]);
    cores[0].engine.handle(Event::Message(1, reply));
    check(
        &cores[0].turn(),
        expect![[r"
        send 0 +OK\r\n+PONG\r\n
    "]],
    );
}

/// A client that has asked another core for more than it may be owed is closed, and nobody else is.
#[test]
fn a_client_that_asks_another_core_for_too_much_is_closed() {
    let mut cores = [0, 1].map(|core| Core::new(2, core, false, |config| config.output_hard_limit = 1000));
    let [greedy, modest] = [0, 1].map(|place| cores[0].connect(place, Port::Gateway));
    cores[0].engine.connections.by_core[0] = 2;
    cores[1].engine.shard.store.put(Key::of(b"foo"), &[b'x'; 600], None, UnixMillis(0));
    for line in ["MULTI", "GET foo", "GET foo", "EXEC"] {
        cores[0].receive(greedy, line);
    }
    cores[0].receive(modest, "EXISTS foo");
    let (1, asked) = cores[0].message() else { panic!("it goes to core 1") };
    cores[1].engine.handle(Event::Message(0, asked));
    let (0, reply) = cores[1].message() else { panic!("it goes to core 0") };
    cores[0].engine.handle(Event::Message(1, reply));
    check(
        &cores[0].turn(),
        expect![[r#"
        send 1 :1\r\n
    "#]],
    );
    cores[0].engine.handle(Event::Sent(greedy));
    cores[0].engine.handle(Event::Sent(modest));
    check(
        &cores[0].turn(),
        expect![[r#"
        send 0 -ERR the transaction was executed, and its reply is larger than output-hard-limit: ask for fewer values at a time\r\n
    "#]],
    );
    cores[0].engine.handle(Event::Sent(greedy));
    cores[0].engine.handle(Event::Sent(modest));
    check(
        &cores[0].turn(),
        expect![[r#"
        Close(ConnectionId { place: 0, generation: 0 })
    "#]],
    );
}

/// The last reply of a client that is closed waits for its effects like any other.
#[test]
fn a_last_reply_waits_for_the_log() {
    let mut core = Core::new(1, 0, true, |config| config.output_hard_limit = 1000);
    let value = "x".repeat(600);
    for (place, lines) in [
        (0, vec!["MULTI".to_owned(), format!("SET a {value}"), "GET a".into(), "GET a".into(), "EXEC".into()]),
        (1, vec!["MULTI".to_owned(), "SET b 1".into(), "CLIENT KILL SKIPME no".into(), "EXEC".into()]),
    ] {
        let id = core.connect(place, Port::Core);
        lines.iter().for_each(|line| core.receive(id, line));
        let before = core.turn();
        assert!(before.contains("write 4096 bytes"), "{before}");
        assert!(!before.contains("executed") && !before.contains("*2"), "{before}");
        core.engine.handle(Event::Sent(id));
        let waits = core.turn();
        assert!(!waits.contains("executed") && !waits.contains("*2") && !waits.contains("Close"), "{waits}");
        core.written(Ok(()));
        let after = core.turn();
        assert!(after.contains("executed") || after.contains("*2"), "{after}");
        core.engine.handle(Event::Sent(id));
        let closed = core.turn();
        assert!(closed.contains("Close"), "{closed}");
    }
}

/// The gateway hands each connection to the core with the fewest, and refuses who comes when there are as many as may be.
#[test]
fn connections_go_to_the_core_with_the_fewest() {
    let mut core = Core::new(3, 0, false, |config| config.maxclients = 2);
    let mut accept = |port| match core.engine.accept(port, false) {
        Admission::Serve { .. } => {
            core.connect_next(port);
            "here".to_owned()
        }
        Admission::HandOver(core) => core.to_string(),
        Admission::Refuse => "refused".into(),
    };
    let answers: Vec<_> = (0..5).map(|_| accept(Port::Gateway)).collect();
    assert_eq!(answers, ["here", "1", "2", "here", "1"]);
    assert_eq!(accept(Port::Core), "refused");
    core.engine.handle(Event::Message(2, Message::Left));
    assert_eq!(core.engine.accept(Port::Gateway, false), Admission::HandOver(2), "it has none again");
}

impl Core {
    fn connect_next(&mut self, port: Port) {
        let place = self.engine.connections.len() as u32;
        self.engine.connected(ConnectionId::new(place, 0), port, "127.0.0.1:5", "127.0.0.1:6");
    }
}

/// A core that is told to stop answers what it has read, writes and seals its log, and ends when every core has let its last
/// connection go.
#[test]
fn a_core_stops_in_order() {
    let mut core = Core::new(1, 0, true, |_| ());
    let id = core.connect(0, Port::Core);
    core.receive(id, "SET a 1");
    core.turn();
    core.engine.handle(Event::Stop);
    NOW_US.set(NOW_US.get() + 20_000);
    core.engine.begin_turn(now());
    check(
        &core.turn(),
        expect![[r"
        StopListening
    "]],
    );
    core.written(Ok(()));
    check(
        &core.turn(),
        expect![[r"
        send 0 +OK\r\n
        write 4096 bytes to segment 1 at 8192
    "]],
    );
    core.engine.handle(Event::Sent(id));
    check(
        &core.turn(),
        expect![[r"
        Close(ConnectionId { place: 0, generation: 0 })
    "]],
    );
    core.written(Ok(()));
    NOW_US.set(NOW_US.get() + 20_000);
    core.engine.begin_turn(now());
    check(
        &core.turn(),
        expect![[r"
        Drained
    "]],
    );
    core.engine.handle(Event::Drained);
    check(
        &core.turn(),
        expect![[r"
        End(Finished)
    "]],
    );
}

mod slots;
mod topology;
