//! A topology that takes the place of another while requests are under way.

use super::*;
use crate::{
    store::{Key, Store},
    topology::{Epoch, Server, Topology},
    wal::Record,
    wal::frame::{FileId as Id, FrameHeader},
};
use std::sync::Arc;

fn server(name: &str, port: u16, cores: u16) -> Server {
    Server { name: name.into(), host: "127.0.0.1".into(), port, core_port: port + 1, cores }
}

/// A topology of these servers.
fn planned(epoch: u64, servers: &[Server]) -> Topology {
    let mut topology = Topology::plan(servers.to_vec()).expect("they fit");
    topology.epoch = Epoch::new(epoch);
    topology
}

/// Server `a`, which the cores of these tests are of, stands behind a server that has the first half of the slots: `{b}`.
pub(super) fn second_half(epoch: u64, cores: u16) -> Event<'static> {
    Event::Topology(Arc::new(planned(epoch, &[server("b", 7100, 1), server("a", 7000, cores)])))
}

/// Server `a` has everything.
fn everything(epoch: u64, cores: u16) -> Event<'static> {
    Event::Topology(Arc::new(planned(epoch, &[server("a", 7000, cores)])))
}

/// The store that comes back from a frame.
fn recovered(frame: &Aligned) -> Store {
    let bytes = frame.bytes();
    let file = Id(u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes")));
    let (_, mut records) = FrameHeader::decode(bytes, file).expect("a frame");
    let mut store = Store::new(1, Policy::default());
    while let Ok(Some((record, length))) = Record::decode(records) {
        store.apply(record, now().unix_millis());
        records = &records[length..];
    }
    store.end_loading();
    store
}

impl Core {
    /// The replies to a line, now.
    fn replies(&mut self, id: ConnectionId, line: &str) -> String {
        self.receive(id, line);
        let text = self.turn();
        self.engine.handle(Event::Sent(id));
        text
    }
}

/// From the change on, what a connection that is open asks for another's slots is answered with MOVED, in order; what was
/// executed before has its reply.
#[test]
fn a_slot_that_has_gone_is_moved_in_order_on_open_connections() {
    for port in [Port::Core, Port::Gateway] {
        let mut core = Core::new(1, 0, false, |_| ());
        let id = core.connect(0, port);
        core.receive(id, "SET {b} 1\r\nSET foo 1");
        core.engine.handle(second_half(2, 1));
        core.receive(id, "GET {b}\r\nGET foo\r\nSET {b} 2\r\nPING");
        check(
            &core.turn(),
            expect![[r"
            send 0 +OK\r\n+OK\r\n-MOVED 3300 127.0.0.1:7101\r\n$1\r\n1\r\n-MOVED 3300 127.0.0.1:7101\r\n+PONG\r\n
        "]],
        );
        core.engine.handle(Event::Sent(id));
        let seen = [core.replies(id, "DBSIZE"), core.replies(id, "KEYS *"), core.replies(id, "CLUSTER KEYSLOT {b}")];
        assert_eq!(seen, ["send 0 :1\\r\\n\n", "send 0 *1\\r\\n$3\\r\\nfoo\\r\\n\n", "send 0 :3300\\r\\n\n"]);
        // It comes back empty: the other may have changed it meanwhile.
        core.engine.handle(everything(3, 1));
        assert_eq!(core.replies(id, "GET {b}"), "send 0 $-1\\r\\n\n");
        assert_eq!(core.replies(id, "GET foo"), "send 0 $1\\r\\n1\\r\\n\n");
    }
}

/// An older topology is passed over, and one that does not fit is refused: the present one goes on.
#[test]
fn what_is_older_or_does_not_fit_changes_nothing() {
    let mut core = Core::new(1, 0, false, |_| ());
    let id = core.connect(0, Port::Core);
    core.engine.handle(second_half(7, 1));
    let stranger = Event::Topology(Arc::new(planned(9, &[server("c", 7000, 1)])));
    for event in [everything(6, 1), everything(7, 1), everything(8, 2), stranger] {
        core.engine.handle(event);
        assert_eq!(core.replies(id, "SET {b} 1"), "send 0 -MOVED 3300 127.0.0.1:7101\\r\\n\n");
    }
    core.engine.handle(everything(8, 1));
    assert_eq!(core.replies(id, "SET {b} 1"), "send 0 +OK\\r\\n\n");
}

/// Requests that are on their way to another core when its slots go are not executed there, and their replies keep their places;
/// the parts of others neither.
#[test]
fn what_was_forwarded_is_moved_by_the_core_that_got_it() {
    let mut cores = [0, 1].map(|core| Core::new(2, core, false, |_| ()));
    let id = cores[0].connect(0, Port::Gateway);
    // `foo` is in the second half of the slots.
    cores[0].receive(id, "SET foo 1\r\nPING\r\nMULTI\r\nSET foo 2\r\nEXEC\r\nWATCH foo");
    let (1, asked) = cores[0].message() else { panic!("it goes to core 1") };
    let first_half = Arc::new(planned(2, &[server("a", 7000, 2), server("b", 7100, 1)]));
    cores[1].engine.handle(Event::Topology(Arc::clone(&first_half)));
    cores[1].engine.handle(Event::Message(0, asked));
    let (0, reply) = cores[1].message() else { panic!("it goes to core 0") };
    assert_eq!(cores[1].engine.shard.store.len(), 0, "nothing was executed");
    cores[0].engine.handle(Event::Message(1, reply));
    check(
        &cores[0].turn(),
        expect![[r"
        send 0 -MOVED 12182 127.0.0.1:7101\r\n+PONG\r\n+OK\r\n+QUEUED\r\n-MOVED 12182 127.0.0.1:7101\r\n-MOVED 12182 127.0.0.1:7101\r\n
    "]],
    );
    // This core does not know of it yet; once it does, it does not ask any more.
    cores[0].engine.handle(Event::Sent(id));
    cores[0].engine.handle(Event::Topology(first_half));
    assert_eq!(cores[0].replies(id, "GET foo"), "send 0 -MOVED 12182 127.0.0.1:7101\\r\\n\n");
}

/// A transaction whose slot goes while it is queued executes nothing: a command that comes then has it discarded, and EXEC itself
/// is answered with MOVED, as by a Redis Cluster.
#[test]
fn a_transaction_whose_slot_has_gone_is_not_executed() {
    let mut core = Core::new(1, 0, false, |_| ());
    let [one, two] = [0, 1].map(|place| core.connect(place, Port::Core));
    for id in [one, two] {
        core.receive(id, "MULTI\r\nSET {b} 1");
    }
    core.turn();
    core.engine.handle(Event::Sent(one));
    core.engine.handle(Event::Sent(two));
    core.engine.handle(second_half(2, 1));
    core.receive(one, "EXEC");
    core.receive(two, "SET {b} 2\r\nEXEC\r\nGET foo");
    check(
        &core.turn(),
        expect![[r"
        send 0 -MOVED 3300 127.0.0.1:7101\r\n
        send 1 -MOVED 3300 127.0.0.1:7101\r\n-EXECABORT Transaction discarded because of previous errors.\r\n$-1\r\n
    "]],
    );
}

/// A watched key whose slot has been elsewhere meanwhile counts as changed, though nothing of it is there.
#[test]
fn a_slot_that_comes_back_fails_the_watches_from_before() {
    let mut core = Core::new(1, 0, false, |_| ());
    let id = core.connect(0, Port::Core);
    core.receive(id, "WATCH {b}\r\nWATCH {b}2\r\nMULTI\r\nSET {b} 1");
    core.turn();
    core.engine.handle(Event::Sent(id));
    core.engine.handle(second_half(2, 1));
    core.engine.handle(everything(3, 1));
    assert_eq!(core.replies(id, "EXEC"), "send 0 *-1\\r\\n\n");
}

/// The keys of a slot that has gone are removed in the log as well: after a crash they are not there, wherever the slot is by then.
/// A reply that shows that they are gone waits until this is on disk.
#[test]
fn the_keys_of_a_slot_that_has_gone_are_removed_in_the_log() {
    let mut core = Core::new(1, 0, true, |_| ());
    let id = core.connect(0, Port::Core);
    core.receive(id, "SET {b} 1\r\nSET foo 1");
    core.engine.handle(second_half(2, 1));
    core.engine.handle(everything(3, 1));
    core.receive(id, "GET {b}");
    check(
        &core.turn(),
        expect![[r"
        write 12288 bytes to segment 1 at 4096
    "]],
    );
    let mut store = recovered(core.frame.as_ref().expect("a frame"));
    let keys = ["{b}", "foo"].map(|key| store.get(Key::of(key.as_bytes()), now().unix_millis()).is_some());
    assert_eq!(keys, [false, true]);
    core.written(Ok(()));
    check(
        &core.turn(),
        expect![[r"
        send 0 +OK\r\n+OK\r\n$-1\r\n
    "]],
    );
}

/// Files may have keys of slots that have gone since they were written: they are removed when the core has read them.
#[test]
fn keys_of_others_do_not_come_back_from_files() {
    let mut core = Core::new(1, 0, false, |_| ());
    core.engine.shard.core.persistence.is_loading = true;
    for key in [&b"{b}"[..], b"foo"] {
        core.engine.shard.store.put(Key::of(key), b"1", None, now().unix_millis());
    }
    core.engine.handle(second_half(2, 1));
    core.engine.handle(Event::Ready);
    assert_eq!(core.engine.shard.store.len(), 1);
}

/// A slot that goes and comes back while the core reads its files is empty, and not what it was.
#[test]
fn a_slot_that_went_while_files_were_read_is_empty() {
    let mut core = Core::new(1, 0, false, |_| ());
    core.engine.shard.core.persistence.is_loading = true;
    let put = |core: &mut Core, key: &[u8]| {
        core.engine.shard.store.put(Key::of(key), b"1", None, now().unix_millis());
    };
    put(&mut core, b"{b}");
    put(&mut core, b"foo");
    core.engine.handle(second_half(2, 1));
    core.engine.handle(everything(3, 1));
    // Records that are read behind that are no newer.
    put(&mut core, b"{b}2");
    core.engine.handle(Event::Ready);
    let store = &core.engine.shard.store;
    assert_eq!((store.len(), store.slot_len(crate::slot::Slot::of(b"b"))), (1, 0));
    assert_eq!(store.version(crate::slot::Slot::of(b"b")).epoch, 3);
}

/// A value that could not be read is no answer to a request whose slot has gone meanwhile.
#[test]
fn a_value_that_cannot_be_read_is_nobodys_where_its_slot_has_gone() {
    let failure = || Some("ERR the value can't be read: the disk is broken".to_owned());
    for (epoch, expected) in
        [(1, "-ERR the value can't be read: the disk is broken"), (2, "-MOVED 3300 127.0.0.1:7101")]
    {
        let mut core = Core::new(1, 0, false, |_| ());
        core.engine.shard.store.keep_values_on_disk();
        core.engine.handle(second_half(epoch, 1));
        let id = core.connect(0, Port::Core);
        core.engine.connections.get_mut(id).expect("it is there").fetching.failure = failure();
        let expected = expected.as_bytes().escape_ascii().to_string();
        assert_eq!(core.replies(id, "GET {b}"), format!("send 0 {expected}\\r\\n\n"));
        let mut gateway = Core::new(2, 0, false, |_| ());
        let id = gateway.connect(0, Port::Gateway);
        gateway.receive(id, "GET foo");
        let (1, Message::Requests(batch)) = gateway.message() else { panic!("it goes to core 1") };
        let mut other = Core::new(2, 1, false, |_| ());
        other.engine.shard.store.keep_values_on_disk();
        other.engine.handle(Event::Topology(Arc::new(planned(epoch, &[server("a", 7000, 2), server("b", 7100, 1)]))));
        assert!(other.engine.execute_batch(0, batch, failure()).is_none());
        let expected = expected.replace("3300", "12182");
        assert_eq!(other.turn(), format!("post 0 replies {expected}\\r\\n\n"));
    }
}

/// A client that speaks HTTP is sent to the gateway of the owner, by this core and by another that the request was sent to; it is
/// looked at again when a slot that was changing hands is another's.
#[test]
fn http_is_redirected_to_the_gateway_of_the_owner() {
    let mut cores = [0, 1].map(|core| Core::new(2, core, false, |_| ()));
    let id = cores[0].connect(0, Port::Gateway);
    let get = |core: &mut Core, key: &str| {
        let text = format!("GET /get/{key} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        core.engine.handle(Event::Received(id, text.as_bytes()));
    };
    let is_sent_away = |core: &mut Core, key: &str| {
        let text = core.turn();
        core.engine.handle(Event::Sent(id));
        text.contains("307 Temporary Redirect")
            && text.contains(&format!("Location: http://127.0.0.1:7100/get/{key}\\r"))
    };
    get(&mut cores[0], "foo");
    let (1, asked) = cores[0].message() else { panic!("it goes to core 1") };
    let first_half = Arc::new(planned(2, &[server("a", 7000, 2), server("b", 7100, 1)]));
    cores[1].engine.handle(Event::Topology(Arc::clone(&first_half)));
    cores[1].engine.handle(Event::Message(0, asked));
    let (0, reply) = cores[1].message() else { panic!("it goes to core 0") };
    cores[0].engine.handle(Event::Message(1, reply));
    assert!(is_sent_away(&mut cores[0], "foo"));
    let slot = crate::slot::Slot::of(b"foo");
    cores[0].engine.set_owner([slot], crate::shard::Owner::NotNow);
    get(&mut cores[0], "foo");
    assert_eq!(cores[0].turn(), "");
    cores[0].engine.handle(Event::Topology(first_half));
    assert!(is_sent_away(&mut cores[0], "foo"));
    get(&mut cores[0], "foo");
    assert!(is_sent_away(&mut cores[0], "foo"));
}
