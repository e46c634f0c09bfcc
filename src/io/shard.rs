//! The main loop of a core: ring events in, session and shard, bytes out.

use super::{
    clock::Clock,
    ring::{ConnectionId, Event, Ring},
};
use crate::{
    client::{Client, Port},
    commands::{Now, Outcome},
    resp::{Decoder, Limits, Reply, Version},
    session::{Answer, Backpressure, Session},
    shard::{Execution, Shard},
};
use std::{io, net::TcpStream};

/// A core's sessions and what they work on. The ring is beside it, since it lends out the bytes that the state works on.
struct State {
    shard: Shard,
    clock: Clock,
    now: Now,
    connections: Vec<Option<Box<Connection>>>,
    /// Connections that have something to be sent, closed or resumed at the end of this turn.
    touched: Vec<ConnectionId>,
    /// Connections that were accepted in this turn, and the listener's position.
    accepted: Vec<(usize, TcpStream)>,
    decoder: Decoder,
    limits: Limits,
    backpressure: Backpressure,
    next_client_id: u64,
}

struct Connection {
    id: ConnectionId,
    session: Session,
    is_touched: bool,
    is_paused: bool,
    has_failed: bool,
}

/// Runs a core until it is told to stop.
///
/// # Errors
/// Where the ring breaks.
pub async fn run(mut ring: Ring, shard: Shard, clock: Clock) -> io::Result<()> {
    let mut state = State {
        shard,
        clock,
        now: clock.now(),
        connections: Vec::new(),
        touched: Vec::new(),
        accepted: Vec::new(),
        decoder: Decoder::default(),
        limits: Limits { arguments_max: 1 << 20, argument_bytes_max: 512 << 20 },
        backpressure: Backpressure { output_bytes_max: 1 << 20, waiting_max: 1024 },
        next_client_id: 1,
    };
    loop {
        // Everything that has arrived, executed; replies pile up in their sessions.
        state.now = state.clock.now();
        let completions = ring.turn(|event| state.handle(event))?;
        state.settle(&mut ring);
        if completions == 0 {
            // Nothing to do: sleep, and let glommio's files and timers have the core.
            ring.wait(|| false).await?;
        } else {
            // Busy: files and timers get their turn when the preempt timer says so.
            glommio::executor().yield_if_needed().await;
        }
    }
}

impl State {
    #[inline]
    fn handle(&mut self, event: Event<'_>) {
        match event {
            Event::Received(id, bytes) => self.receive(id, bytes),
            Event::Sent(id) => {
                if let Some(connection) = self.connections[id.place()].as_ref() {
                    let session = &connection.session;
                    if !session.output.is_empty() || session.has_unread() || session.closing || session.ended {
                        self.touch(id);
                    }
                }
            }
            Event::Accepted(listener, socket) => self.accepted.push((listener, socket)),
            Event::AcceptFailed(..) => {}
            Event::Ended(id) => {
                if let Some(connection) = self.connections[id.place()].as_mut() {
                    connection.session.ended = true;
                    self.touch(id);
                }
            }
            Event::Failed(id, _) => {
                if let Some(connection) = self.connections[id.place()].as_mut() {
                    connection.has_failed = true;
                    self.touch(id);
                }
            }
        }
    }

    #[inline]
    fn touch(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections[id.place()].as_mut()
            && !connection.is_touched
        {
            connection.is_touched = true;
            self.touched.push(id);
        }
    }

    #[inline]
    fn receive(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections[id.place()].as_mut() else { return };
        let Some(mut client) = self.shard.core.clients.take(id.place()) else { return };
        let (shard, now, limits) = (&mut self.shard, self.now, self.limits);
        client.active_at = now.unix_millis();
        let authenticated = client.authenticated;
        let received = connection.session.receive(
            bytes,
            &mut self.decoder,
            &self.backpressure,
            || if authenticated { limits } else { Limits::UNAUTHENTICATED },
            |request, output, _ticket| match shard.execute(request, &mut client, now, output) {
                Execution::Done(Outcome::Done) if client.closing => Answer::Last,
                Execution::Done(_) => Answer::Here,
                Execution::Away(_) => Answer::Here,
            },
        );
        if let Err(error) = received {
            let (output, _) = connection.session.tail();
            Reply { output, version: Version::Two }.error(&format!("ERR {error}"));
        }
        if !connection.is_touched {
            connection.is_touched = true;
            self.touched.push(id);
        }
        self.shard.core.clients.put(id.place(), client);
    }

    /// Hands over what this turn has made: replies to the ring, connections to their places or their end.
    fn settle(&mut self, ring: &mut Ring) {
        for (listener, socket) in std::mem::take(&mut self.accepted) {
            self.adopt(ring, listener, socket);
        }
        let mut touched = std::mem::take(&mut self.touched);
        for id in touched.drain(..) {
            self.settle_one(ring, id);
        }
        self.touched.append(&mut touched);
    }

    fn adopt(&mut self, ring: &mut Ring, _listener: usize, socket: TcpStream) {
        let address =
            |address: io::Result<std::net::SocketAddr>| address.map_or_else(|_| "?:0".into(), |a| a.to_string());
        let (peer, local) = (address(socket.peer_addr()), address(socket.local_addr()));
        let id = ring.adopt(socket);
        let client = Client::new(self.next_client_id, &peer, &local, Port::Gateway, true, self.now.unix_millis());
        self.next_client_id += 1;
        self.shard.core.clients.put(id.place(), Box::new(client));
        if self.connections.len() <= id.place() {
            self.connections.resize_with(id.place() + 1, || None);
        }
        self.connections[id.place()] = Some(Box::new(Connection {
            id,
            session: Session::default(),
            is_touched: false,
            is_paused: false,
            has_failed: false,
        }));
    }

    #[inline]
    fn settle_one(&mut self, ring: &mut Ring, id: ConnectionId) {
        let Some(connection) = self.connections[id.place()].as_mut() else { return };
        assert_eq!(connection.id, id, "a place has one connection at a time");
        connection.is_touched = false;
        if connection.has_failed {
            self.drop_connection(ring, id);
            return;
        }
        if ring.is_sending(id) {
            return;
        }
        if !connection.session.output.is_empty() {
            let output = std::mem::replace(&mut connection.session.output, ring.buffer());
            ring.send(id, output);
        }
        if connection.session.is_finished() && !ring.is_sending(id) {
            self.drop_connection(ring, id);
        }
    }

    fn drop_connection(&mut self, ring: &mut Ring, id: ConnectionId) {
        ring.close(id);
        self.shard.core.clients.take(id.place());
        self.connections[id.place()] = None;
    }
}
