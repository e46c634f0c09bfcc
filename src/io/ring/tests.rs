//! Tests of the ring on a real core, with clients on threads.

use super::*;
use crate::io::executor;
use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// The longest wait for anything. All of it takes milliseconds; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `main` on a core of its own, with a ring that listens, while `clients` runs on this thread.
fn with_ring<F: Future<Output = ()> + 'static, T>(
    (buffers, size): (u16, usize),
    preempt: Duration,
    main: impl FnOnce(Ring) -> F + Send + 'static,
    clients: impl FnOnce(SocketAddr) -> T,
) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let cpu = *executor::allowed_cpus().unwrap().last().unwrap();
    let (done, is_done) = mpsc::channel();
    let core = executor::start_with("test", cpu, preempt, move || async move {
        let mut ring = Ring::new(buffers, size).unwrap();
        ring.listen(listener);
        main(ring).await;
        done.send(()).unwrap();
    });
    let result = clients(address);
    is_done.recv_timeout(PATIENCE).expect("the core ends");
    core.unwrap().join().unwrap();
    result
}

const PREEMPT: Duration = Duration::from_millis(2);

/// Sends received bytes back, until `count` clients have connected and disconnected. Sleeps if nothing has arrived.
async fn echo(mut ring: Ring, count: usize) {
    let (mut owed, mut gone): (BTreeMap<usize, (ConnectionId, Vec<u8>)>, _) = (BTreeMap::new(), 0);
    let (mut ended, mut coming) = (Vec::new(), VecDeque::new());
    while gone < count || !ring.is_empty() {
        let mut accepted = Vec::new();
        let completions = ring
            .turn(|event| match event {
                Event::Accepted(_, socket) => accepted.push(socket),
                Event::Coming(bytes) => coming.push_back(bytes.to_vec()),
                Event::Received(id, bytes) => {
                    assert_eq!(coming.pop_front().as_deref(), Some(bytes), "it was shown before");
                    owed.entry(id.place()).or_insert((id, Vec::new())).1.extend_from_slice(bytes)
                }
                Event::Ended(id) => ended.push(id),
                Event::Sent(_) => {}
                other => panic!("{other:?}"),
            })
            .unwrap();
        assert_eq!(coming, [] as [Vec<u8>; 0], "what was shown has come");
        for socket in accepted {
            ring.adopt(socket);
        }
        for (id, bytes) in owed.values_mut().filter(|(_, bytes)| !bytes.is_empty()) {
            if !ring.is_sending(*id) {
                ring.send(*id, std::mem::take(bytes));
            }
        }
        ended.retain(|&id| {
            let is_owed = owed.get(&id.place()).is_some_and(|(_, bytes)| !bytes.is_empty());
            if is_owed || ring.is_sending(id) {
                return true;
            }
            owed.remove(&id.place());
            ring.close(id);
            gone += 1;
            false
        });
        if completions == 0 {
            ring.wait(|| false).await.unwrap();
        }
    }
}

/// Turns the ring until `is_over` returns true for an event.
async fn turn_until(ring: &mut Ring, mut is_over: impl FnMut(Event<'_>) -> bool) {
    let mut is_done = false;
    while !is_done {
        if ring.turn(|event| is_done |= is_over(event)).unwrap() == 0 && !is_done {
            ring.wait(|| false).await.unwrap();
        }
    }
}

/// Accepts clients one at a time, though several may arrive in one turn.
#[derive(Default)]
struct Door {
    waiting: VecDeque<TcpStream>,
}

impl Door {
    async fn accept(&mut self, ring: &mut Ring) -> ConnectionId {
        if self.waiting.is_empty() {
            turn_until(ring, |event| {
                let Event::Accepted(_, socket) = event else { return false };
                self.waiting.push_back(socket);
                true
            })
            .await;
        }
        ring.adopt(self.waiting.pop_front().expect("one was just seen"))
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// With fewer buffers than clients all are served, again and again: every buffer goes back.
#[test]
fn few_buffers_serve_many_clients() {
    const CLIENTS: usize = 40;
    with_ring(
        (2, 1024),
        PREEMPT,
        |ring| echo(ring, CLIENTS),
        |address| {
            let clients = (0..CLIENTS).map(|number| {
                thread::spawn(move || {
                    let mut socket = connect(address);
                    let bytes: Vec<u8> = (0..100_000).map(|position| (position * 31 + number) as u8).collect();
                    let mut writer = socket.try_clone().unwrap();
                    let sent = bytes.clone();
                    let sender = thread::spawn(move || {
                        writer.write_all(&sent).unwrap();
                        writer.shutdown(Shutdown::Write).unwrap();
                    });
                    let mut received = Vec::new();
                    socket.read_to_end(&mut received).unwrap();
                    assert!(received == bytes, "client {number} gets back what it sent");
                    sender.join().unwrap();
                })
            });
            clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().unwrap());
        },
    );
}

/// An executor with a runnable task does not stay asleep. Without the heartbeat of [`executor`] this test hangs: with a
/// preempt timer that is due before the first task runs, glommio goes to sleep with the task still waiting. Two runs of
/// three then stood still, after 783 and 1246 round trips, for as long as the client waited.
#[test]
fn an_executor_does_not_sleep_with_work_to_do() {
    // While idle, each forgotten task waits for a longer heartbeat.
    for (is_idle, round_trips) in [(false, 20_000_u32), (true, 3_000)] {
        let main = async move |ring| {
            executor::set_idle(is_idle);
            echo(ring, 1).await;
        };
        with_ring((8, 4096), Duration::from_micros(50), main, |address| {
            let (mut socket, began) = (connect(address), Instant::now());
            socket.set_nodelay(true).unwrap();
            for number in 0..round_trips {
                socket.write_all(&number.to_le_bytes()).unwrap();
                let mut bytes = [0; 4];
                let read = socket.read_exact(&mut bytes);
                read.unwrap_or_else(|error| panic!("round trip {number} after {:?}: {error}", began.elapsed()));
                assert_eq!(u32::from_le_bytes(bytes), number);
            }
        });
    }
}

/// A connection may be closed with a send in flight. Its place is used again, and no event of the old connection is
/// taken for one of the new.
#[test]
fn a_connection_may_be_closed_with_a_send_in_flight() {
    let main = async |mut ring: Ring| {
        let mut door = Door::default();
        let first = door.accept(&mut ring).await;
        ring.send(first, vec![b'x'; 16 << 20]);
        // The send has begun before this arrives.
        turn_until(&mut ring, |event| matches!(event, Event::Received(..))).await;
        assert!(ring.is_sending(first));
        ring.close(first);
        assert!(!ring.is_open(first));
        let second = loop {
            let id = door.accept(&mut ring).await;
            if id.place() == first.place() {
                break id;
            }
            // It connected before the first one's place was free.
            ring.close(id);
        };
        assert_ne!(first, second);
        ring.send(first, b"lost".to_vec());
        ring.close(first);
        assert!(ring.is_open(second) && !ring.is_sending(second));
        ring.send(second, b"found".to_vec());
        turn_until(&mut ring, |event| matches!(event, Event::Ended(id) if id == second)).await;
    };
    with_ring((8, 4096), PREEMPT, main, |address| {
        let mut first = connect(address);
        first.write_all(b"go").unwrap();
        loop {
            let mut second = connect(address);
            let mut bytes = [0; 5];
            if second.read_exact(&mut bytes).is_ok() {
                assert_eq!(&bytes, b"found");
                break;
            }
        }
        let mut rest = Vec::new();
        // The bytes that were sent, and then the end or a reset.
        let _ = first.read_to_end(&mut rest);
        assert!(rest.len() < 16 << 20);
    });
}

/// A client that is sending when its connection is closed gets an error. Without a reset one in five waited for as long
/// as the kernel remembers a connection.
#[test]
fn who_is_sending_learns_of_the_end() {
    const CLIENTS: usize = 40;
    let main = async |mut ring: Ring| {
        let mut door = Door::default();
        for number in 0..CLIENTS {
            let id = door.accept(&mut ring).await;
            let mut left = 4_000_000 + number * 10_007;
            turn_until(&mut ring, |event| {
                let Event::Received(_, bytes) = event else { return false };
                left = left.saturating_sub(bytes.len());
                left == 0
            })
            .await;
            ring.close(id);
        }
        turn_until(&mut ring, |event| matches!(event, Event::Accepted(..))).await;
    };
    with_ring((1024, 16384), PREEMPT, main, |address| {
        for number in 0..CLIENTS {
            let mut client = connect(address);
            let error = (0..).find_map(|_| client.write_all(&[b'x'; 1_000_000]).err()).expect("it has an end");
            let is_told = matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
            assert!(is_told, "client {number}: {error}");
        }
        connect(address);
    });
}

/// Bytes that arrive while a connection is paused are shown after it was resumed: all of them, in order. Meanwhile few
/// are.
#[test]
fn a_pause_loses_nothing() {
    const LENGTH: usize = 8 << 20;
    let main = async |mut ring: Ring| {
        let id = Door::default().accept(&mut ring).await;
        let mut received = 0;
        while received < LENGTH {
            ring.pause(id);
            let before = received;
            let mut has_ended = false;
            let mut take = |event: Event<'_>| match event {
                Event::Received(_, bytes) => {
                    for &byte in bytes {
                        assert_eq!(byte, (received % 251) as u8, "at {received}");
                        received += 1;
                    }
                }
                Event::Ended(_) => has_ended = true,
                Event::Coming(_) => {}
                other => panic!("{other:?}"),
            };
            // Bytes on their way are shown; then nothing is, however much the client sends.
            let mut silent = 0;
            while silent < 3 {
                silent = if ring.turn(&mut take).unwrap() == 0 { silent + 1 } else { 0 };
                glommio::timer::sleep(Duration::from_micros(200)).await;
            }
            ring.resume(id);
            // Pause and resume again, and resume twice, as a busy session may.
            ring.pause(id);
            ring.resume(id);
            ring.resume(id);
            let shown = received_of(&mut ring, &mut take).await;
            assert!(shown || has_ended, "it goes on after {before} bytes");
        }
        assert_eq!(received, LENGTH);
    };
    with_ring((8, 4096), PREEMPT, main, |address| {
        let mut socket = connect(address);
        let bytes: Vec<u8> = (0..LENGTH).map(|position| (position % 251) as u8).collect();
        socket.write_all(&bytes).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let _ = socket.read(&mut [0]);
    });
}

/// Turns the ring until something was received or the connection has ended.
async fn received_of(ring: &mut Ring, take: &mut impl FnMut(Event<'_>)) -> bool {
    let mut shown = false;
    turn_until(ring, |event| {
        shown |= matches!(event, Event::Received(..));
        let is_over = matches!(event, Event::Received(..) | Event::Ended(_));
        take(event);
        is_over
    })
    .await;
    shown
}

/// A ring may be dropped with everything in flight: its clients' connections end, and the kernel writes to its memory
/// no more.
#[test]
fn a_ring_may_be_dropped_with_everything_in_flight() {
    let (tell, told) = mpsc::channel();
    let main = async move |mut ring: Ring| {
        let mut door = Door::default();
        for _ in 0..10 {
            let id = door.accept(&mut ring).await;
            ring.send(id, vec![b'x'; 16 << 20]);
        }
        turn_until(&mut ring, |event| matches!(event, Event::Received(..))).await;
        drop(ring);
        tell.send(()).unwrap();
    };
    with_ring((8, 4096), PREEMPT, main, |address| {
        let mut clients: Vec<_> = (0..10).map(|_| connect(address)).collect();
        for client in &mut clients {
            client.write_all(b"go").unwrap();
        }
        told.recv_timeout(PATIENCE).unwrap();
        for mut client in clients {
            let mut received = Vec::new();
            let _ = client.read_to_end(&mut received);
            assert!(received.len() < 16 << 20 && received.iter().all(|&byte| byte == b'x'));
        }
    });
}

/// A bell that is rung just before the core sleeps, after it looked for work, still wakes it.
#[test]
fn a_bell_is_never_missed() {
    let (give, take) = mpsc::sync_channel::<u32>(1);
    let (tell, told) = mpsc::channel();
    let main = async move |mut ring: Ring| {
        tell.send(ring.bell()).unwrap();
        let mut expected = 0;
        while expected < 20_000 {
            match take.try_recv() {
                Ok(number) => {
                    assert_eq!(number, expected);
                    expected += 1;
                }
                Err(_) => ring.wait(|| false).await.unwrap(),
            }
        }
    };
    let began = Instant::now();
    with_ring((8, 4096), PREEMPT, main, |_| {
        let bell = told.recv().unwrap();
        for number in 0..20_000 {
            give.send(number).unwrap();
            bell.ring();
        }
    });
    assert!(began.elapsed() < PATIENCE);
}

/// Bytes of several connections are shown before the first of them is received, so that they can be prefetched
/// together.
#[test]
fn all_that_has_arrived_is_shown_first() {
    const CLIENTS: usize = COMING + 3;
    let (ask, asked) = mpsc::channel();
    let main = async move |mut ring: Ring| {
        let mut door = Door::default();
        let mut connections = Vec::new();
        for _ in 0..CLIENTS {
            connections.push(door.accept(&mut ring).await);
        }
        ask.send(()).unwrap();
        for &id in &connections {
            ring.socket(id).unwrap().peek(&mut [0]).unwrap();
        }
        let (mut shown, mut served, mut order) = (Vec::new(), Vec::new(), String::new());
        ring.turn(|event| match event {
            Event::Coming(bytes) => {
                shown.push(bytes.to_vec());
                order.push('c');
            }
            Event::Received(_, bytes) => {
                served.push(bytes.to_vec());
                order.push('r');
            }
            other => panic!("{other:?}"),
        })
        .unwrap();
        assert_eq!(shown, served);
        let group = |count| "c".repeat(count) + &"r".repeat(count);
        assert_eq!(order, group(COMING) + &group(CLIENTS - COMING));
    };
    with_ring((64, 4096), PREEMPT, main, |address| {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| connect(address)).collect();
        asked.recv_timeout(PATIENCE).unwrap();
        for (number, client) in clients.iter_mut().enumerate() {
            write!(client, "{number}").unwrap();
        }
        clients
    });
}

/// Naps end if nothing more arrives, even if something arrived together with the alarm that ends them; while something
/// arrives now and then, they go on.
#[test]
fn naps_end_in_silence_alone() {
    let (ask, asked) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let main = async move |mut ring: Ring| {
        let id = Door::default().accept(&mut ring).await;
        // It is unknown yet if the kernel still has the timer of an earlier nap.
        while ring.turn(|_| {}).unwrap() != 0 || ring.nap(|| false).unwrap() {}
        for _ in 0..20 {
            // Only the alarm can end this nap. The next bytes are received in the same turn as the alarm.
            assert!(ring.nap(|| false).unwrap());
            ask.send(()).unwrap();
            told.recv_timeout(PATIENCE).unwrap();
            let mut received = 0;
            let mut take = |event: Event<'_>| received += usize::from(matches!(event, Event::Received(..)));
            ring.turn(&mut take).unwrap();
            assert!(ring.nap(|| false).unwrap(), "something came, so the next may");
            while ring.turn(&mut take).unwrap() != 0 || ring.nap(|| false).unwrap() {}
            assert_eq!(received, 1);
        }
        drop(ask);
        turn_until(&mut ring, |event| matches!(event, Event::Ended(other) if other == id)).await;
    };
    with_ring((8, 4096), PREEMPT, main, |address| {
        let mut client = connect(address);
        while asked.recv_timeout(PATIENCE).is_ok() {
            client.write_all(b"x").unwrap();
            tell.send(()).unwrap();
        }
    });
}

/// A bell that is rung for a core that naps ends the nap before the alarm does.
#[test]
fn a_bell_ends_a_nap() {
    let main = async |mut ring: Ring| {
        let (bell, mut heard) = (ring.bell(), 0);
        while heard < 1000 {
            let mut is_rung = false;
            // Called only if the alarm has not fired yet.
            let is_napping = ring.nap(|| {
                bell.ring();
                is_rung = true;
                false
            });
            is_napping.unwrap();
            let completions = ring.turn(|event| panic!("{event:?}")).unwrap();
            assert_eq!(completions, usize::from(is_rung), "the bell, and not the alarm, has ended it");
            heard += completions;
        }
    };
    with_ring((8, 4096), PREEMPT, main, |_| {});
}

/// Turns the ring until its last connection, which is closing, is gone. There must be no event.
async fn empty(ring: &mut Ring) {
    while !ring.is_empty() {
        if ring.turn(|event| panic!("{event:?}")).unwrap() == 0 {
            ring.wait(|| false).await.unwrap();
        }
    }
}

/// A ring connects to a listener, and both sides can send.
#[test]
fn a_ring_connects() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let main = async move |mut ring: Ring| {
        let id = ring.connect(address).unwrap();
        turn_until(&mut ring, |event| matches!(event, Event::Connected(other) if other == id)).await;
        ring.send(id, b"ping".to_vec());
        turn_until(&mut ring, |event| matches!(event, Event::Received(other, b"pong") if other == id)).await;
        ring.close(id);
        empty(&mut ring).await;
    };
    with_ring((8, 4096), PREEMPT, main, |_| {
        let (mut socket, _) = listener.accept().unwrap();
        let mut bytes = [0; 4];
        socket.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"ping");
        socket.write_all(b"pong").unwrap();
        assert_eq!(socket.read(&mut bytes).unwrap(), 0, "it is closed");
    });
}

/// Without a listener the attempt fails, and its place is free once it is closed.
#[test]
fn a_ring_learns_that_nobody_listens() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let main = async move |mut ring: Ring| {
        for _ in 0..3 {
            let Ok(id) = ring.connect(address) else { continue };
            let mut kind = None;
            turn_until(&mut ring, |event| {
                let Event::Failed(other, error) = event else { return false };
                kind = Some(error.kind());
                other == id
            })
            .await;
            assert_eq!(kind, Some(io::ErrorKind::ConnectionRefused));
            ring.close(id);
            assert!(ring.is_empty());
        }
    };
    with_ring((8, 4096), PREEMPT, main, |_| {});
}

/// An attempt without an answer can be cancelled by closing it, and has no further events.
#[test]
fn an_attempt_to_connect_can_be_given_up() {
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let family = rustix::net::AddressFamily::INET;
    let listener = rustix::net::socket_with(family, rustix::net::SocketType::STREAM, flags, None).unwrap();
    rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let listener = TcpListener::from(listener);
    let address = listener.local_addr().unwrap();
    // Its queue has room for one.
    let _first = TcpStream::connect(address).unwrap();
    let main = async move |mut ring: Ring| {
        let id = ring.connect(address).unwrap();
        ring.turn(|event| panic!("{event:?}")).unwrap();
        assert!(!ring.is_empty(), "it waits for its place in the queue");
        ring.close(id);
        empty(&mut ring).await;
    };
    with_ring((8, 4096), PREEMPT, main, |_| {});
    drop(listener);
}
