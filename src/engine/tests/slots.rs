//! Slots that are changing hands: what needs them waits, bounded in time and in memory.

use super::{topology::second_half, *};
use crate::{shard::Owner, slot::Slot};

/// `{b}`, in the first half of the slots.
fn slot() -> Slot {
    Slot::of(b"b")
}

impl Core {
    fn wait_ms(&mut self, milliseconds: u64) -> String {
        NOW_US.set(NOW_US.get() + milliseconds * 1000);
        self.engine.begin_turn(now());
        self.turn()
    }
}

/// A request for such a slot waits, and with it what its connection sent behind it; others go on. When the slot is back, all of it
/// is executed in the same turn, in order; when it is another's, it is moved.
#[test]
fn a_request_waits_while_its_slot_changes_hands() {
    for port in [Port::Core, Port::Gateway] {
        let mut core = Core::new(1, 0, false, |_| ());
        let [one, two] = [0, 1].map(|place| core.connect(place, port));
        core.engine.set_owner([slot()], Owner::NotNow);
        core.receive(one, "PING\r\nSET {b} 1\r\nGET {b}\r\nGET foo");
        core.receive(two, "GET foo");
        check(
            &core.turn(),
            expect![[r"
            send 0 +PONG\r\n
            send 1 $-1\r\n
        "]],
        );
        core.engine.handle(Event::Sent(one));
        core.receive(one, "ECHO more");
        check(&core.wait_ms(2_000), expect![""]);
        core.engine.set_owner([slot()], Owner::Here);
        check(
            &core.turn(),
            expect![[r"
            send 0 +OK\r\n$1\r\n1\r\n$-1\r\n$4\r\nmore\r\n
        "]],
        );
        core.engine.handle(Event::Sent(one));
        core.engine.set_owner([slot()], Owner::NotNow);
        core.receive(one, "SET {b} 2\r\nGET foo");
        check(&core.turn(), expect![""]);
        core.engine.handle(second_half(2, 1));
        check(
            &core.turn(),
            expect![[r"
            send 0 -MOVED 3300 127.0.0.1:7101\r\n$-1\r\n
        "]],
        );
        assert!(core.engine.slots.is_quiet());
    }
}

/// The wait is counted from when the slot lost its owner, whoever asks when. Then all are told, until the slot has an owner again.
#[test]
fn the_wait_for_a_slot_is_bounded() {
    let mut core = Core::new(1, 0, false, |_| ());
    let [one, two] = [0, 1].map(|place| core.connect(place, Port::Core));
    let http = core.connect(2, Port::Gateway);
    core.engine.set_owner([slot()], Owner::NotNow);
    core.receive(one, "SET {b} 1\r\nPING");
    check(&core.wait_ms(4_900), expect![""]);
    core.engine.set_owner([slot()], Owner::NotNow);
    core.receive(two, "FLUSHALL");
    core.engine.handle(Event::Received(http, b"GET /get/%7Bb%7D HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    check(&core.wait_ms(10), expect![""]);
    let told = core.wait_ms(100);
    let down = r"-CLUSTERDOWN Hash slot 3300 is not served: it has been changing hands for too long\r\n";
    assert!(told.contains(&format!("send 0 {down}+PONG\\r\\n\n")), "{told}");
    assert!(told.contains(&format!("send 1 {down}\n")), "{told}");
    assert!(told.contains("send 2 HTTP/1.1 503 Service Unavailable") && told.contains("Retry-After: 1"), "{told}");
    core.engine.handle(Event::Sent(one));
    core.receive(one, "GET {b}");
    assert_eq!(core.turn(), format!("send 0 {down}\n"));
    core.engine.handle(Event::Sent(one));
    core.engine.set_owner([slot()], Owner::Here);
    core.receive(one, "SET {b} 1");
    check(
        &core.turn(),
        expect![[r"
        send 0 +OK\r\n
    "]],
    );
}

/// Of another core's requests those wait that need the slot, and what the same connection asked behind them; the rest is answered.
#[test]
fn requests_of_other_cores_wait_without_the_rest() {
    let mut cores = [0, 1].map(|core| Core::new(2, core, false, |_| ()));
    let [one, two] = [0, 1].map(|place| cores[0].connect(place, Port::Gateway));
    let foo = Slot::of(b"foo");
    cores[1].engine.set_owner([foo], Owner::NotNow);
    // `foo` and `{x}` are in the second half of the slots.
    cores[0].receive(one, "SET foo 1\r\nGET foo\r\nSET {x} 1");
    cores[0].receive(two, "GET {x}");
    let (1, asked) = cores[0].message() else { panic!("it goes to core 1") };
    cores[1].engine.handle(Event::Message(0, asked));
    let (0, reply) = cores[1].message() else { panic!("it goes to core 0") };
    check(&kind(&reply), expect![[r"replies $-1\r\n"]]);
    cores[0].engine.handle(Event::Message(1, reply));
    check(
        &cores[0].turn(),
        expect![[r"
        send 1 $-1\r\n
    "]],
    );
    cores[0].receive(one, "GET {x}");
    let (1, asked) = cores[0].message() else { panic!("it goes to core 1") };
    cores[1].engine.handle(Event::Message(0, asked));
    assert_eq!(cores[1].turn(), "post 0 replies \n", "it is behind one that waits");
    check(&cores[1].wait_ms(1_000), expect![""]);
    cores[1].engine.set_owner([foo], Owner::Here);
    let (0, reply) = cores[1].message() else { panic!("it goes to core 0") };
    check(&kind(&reply), expect![[r"replies +OK\r\n$1\r\n1\r\n+OK\r\n$1\r\n1\r\n"]]);
    cores[0].engine.handle(Event::Message(1, reply));
    check(
        &cores[0].turn(),
        expect![[r"
        send 0 +OK\r\n$1\r\n1\r\n+OK\r\n$1\r\n1\r\n
    "]],
    );
    assert!(cores[1].engine.slots.is_quiet());
}

/// A transaction waits as a whole, at EXEC; and FLUSHALL, which changes all slots.
#[test]
fn a_transaction_waits_as_a_whole() {
    let mut core = Core::new(1, 0, false, |_| ());
    let [one, two] = [0, 1].map(|place| core.connect(place, Port::Core));
    core.receive(one, "MULTI\r\nSET {b} 1\r\nINCR {b}");
    core.turn();
    core.engine.handle(Event::Sent(one));
    core.engine.set_owner([slot()], Owner::NotNow);
    core.receive(one, "EXEC");
    core.receive(two, "FLUSHALL");
    check(&core.turn(), expect![""]);
    core.engine.set_owner([slot()], Owner::Here);
    check(
        &core.turn(),
        expect![[r"
        send 0 *2\r\n+OK\r\n:2\r\n
        send 1 +OK\r\n
    "]],
    );
    assert_eq!(core.engine.shard.store.len(), 0);
}

/// A connection that waits is not read from any more once it has sent its fill, until its slot is back.
#[test]
fn what_is_sent_meanwhile_is_bounded() {
    let mut core = Core::new(1, 0, false, |_| ());
    let id = core.connect(0, Port::Core);
    core.engine.set_owner([slot()], Owner::NotNow);
    core.receive(id, &format!("SET {{b}} {}", "x".repeat(60_000)));
    check(&core.turn(), expect![""]);
    core.receive(id, &format!("SET foo {}", "x".repeat(60_000)));
    check(
        &core.turn(),
        expect![[r"
        Pause(ConnectionId { place: 0, generation: 0 })
    "]],
    );
    core.engine.set_owner([slot()], Owner::Here);
    check(
        &core.turn(),
        expect![[r"
        send 0 +OK\r\n+OK\r\n
        Resume(ConnectionId { place: 0, generation: 0 })
    "]],
    );
}

/// A core with such a slot looks at its clock, though nothing comes; a connection that goes meanwhile is not waited for.
#[test]
fn a_core_is_not_idle_while_a_slot_changes_hands() {
    let mut core = Core::new(1, 0, false, |_| ());
    let id = core.connect(0, Port::Core);
    for _ in 0..3 {
        NOW_US.set(NOW_US.get() + 1_000_000);
        core.engine.begin_turn(now());
        core.engine.end_turn(true);
    }
    assert_eq!(core.engine.rest(true), Rest::Idle);
    core.engine.set_owner([slot()], Owner::NotNow);
    assert_eq!(core.engine.rest(true), Rest::Nap);
    core.receive(id, "GET {b}");
    core.turn();
    core.engine.handle(Event::Failed(id));
    core.turn();
    core.wait_ms(6_000);
    assert!(core.engine.slots.is_quiet());
}

/// A topology that leaves the slot where it is does not end the wait: whoever took the slot out of service puts it back.
#[test]
fn a_slot_goes_on_changing_hands_in_a_topology_that_leaves_it_here() {
    let mut core = Core::new(1, 0, false, |_| ());
    let id = core.connect(0, Port::Core);
    // `foo` stays in the half that this server keeps.
    let foo = Slot::of(b"foo");
    core.engine.set_owner([foo], Owner::NotNow);
    core.receive(id, "SET foo 1");
    core.engine.handle(second_half(2, 1));
    check(&core.wait_ms(1_000), expect![""]);
    core.engine.set_owner([foo], Owner::Here);
    check(
        &core.turn(),
        expect![[r"
        send 0 +OK\r\n
    "]],
    );
}
