//! Clients on the network: they connect, ask, go away; what they send arrives in parts.

use super::{
    client::State as Link,
    core::Arrival,
    server::State,
    trace::trace,
    world::{Event, World},
};
use crate::{
    client::Port,
    engine::{Admission, ConnectionId},
};

/// The time that bytes are on their way, and that a send takes, at most.
const WAY_US: u64 = 500;
const SEND_US: u64 = 2_000;

impl World {
    /// A client thinks of something: it asks, connects, or goes away.
    pub(super) fn ask(&mut self, client: usize) {
        let server = self.clients[client].target.server;
        let think_us = 2 * self.plan.think_us;
        if self.servers[server].state != State::Up {
            self.clients[client].is_parked = true;
            return;
        }
        let us = self.delay(think_us);
        self.after(server, us, Event::Ask(client));
        // Most wait until a server is ready.
        if !self.servers[server].is_ready() && self.random.u8(..16) != 0 {
            return;
        }
        match self.clients[client].state {
            Link::Away => self.connect(client),
            Link::Connecting => {}
            Link::Connected(core, id) => match self.random.u8(..100) {
                0 if !self.clients[client].has_ended => self.vanish(client, core, id),
                1 if !self.clients[client].has_ended => {
                    self.clients[client].has_ended = true;
                    if !self.clients[client].is_arriving && !self.clients[client].has_sent_something() {
                        self.arrive(server, core, Arrival::Ended(id));
                    }
                }
                _ => {
                    let Self { clients, plan, random, .. } = self;
                    clients[client].ask(plan, random);
                    self.send(client);
                }
            },
        }
    }

    fn connect(&mut self, client: usize) {
        let server = self.clients[client].target.server;
        let target = self.plan.target(server, &mut self.random);
        self.clients[client].connect(target);
        let core = target.core.unwrap_or(0);
        let us = self.delay(WAY_US);
        let number = self.clients[client].connection;
        self.after(server, us, Event::Arrive(core, Arrival::Connection(client, number, false)));
    }

    /// The connection fails; what is on its way is lost.
    fn vanish(&mut self, client: usize, core: usize, id: ConnectionId) {
        trace!("client {client} is gone");
        self.tally.note("connections that failed");
        let server = self.clients[client].target.server;
        self.clients[client].vanish();
        self.arrive(server, core, Arrival::Failed(id));
    }

    /// Has arrive, a little later, what a client has sent.
    pub(super) fn send(&mut self, client: usize) {
        let one = &mut self.clients[client];
        if one.is_arriving || !one.has_sent_something() {
            return;
        }
        one.is_arriving = true;
        let (server, connection) = (one.target.server, one.connection);
        let us = self.delay(WAY_US);
        self.after(server, us, Event::Readable(client, connection));
    }

    /// Some of what a client has sent arrives, if its core receives.
    pub(super) fn readable(&mut self, client: usize, connection: u32) {
        let one = &mut self.clients[client];
        if one.connection != connection {
            return;
        }
        one.is_arriving = false;
        let Link::Connected(core, id) = one.state else { return };
        let server = one.target.server;
        if self.servers[server].cores[core].life().places[id.place()].is_paused || !one.has_sent_something() {
            return;
        }
        let bytes = one.arrived(&mut self.random);
        self.arrive(server, core, Arrival::Received(id, bytes));
        if self.clients[client].has_sent_something() {
            self.send(client);
        } else if self.clients[client].has_ended {
            self.arrive(server, core, Arrival::Ended(id));
        }
    }

    /// A core decides about a connection that has come in.
    pub(super) fn accept(&mut self, server: usize, core: usize, (client, number): (usize, u32), is_handed_over: bool) {
        if self.clients[client].connection != number {
            return;
        }
        if self.servers[server].state == State::Stopping {
            return self.clients[client].disconnect();
        }
        let port = self.clients[client].port();
        let life = self.servers[server].cores[core].life();
        match life.engine.accept(port, is_handed_over) {
            Admission::Refuse => self.clients[client].disconnect(),
            Admission::HandOver(to) => {
                self.tally.note("connections handed over");
                self.put_arrival(server, core, to, Arrival::Connection(client, number, true));
            }
            Admission::Serve { .. } => {
                let id = life.connect(client, port);
                trace!("      client {client} is served by core {core} as {}.{} ({port:?})", id.place, id.generation);
                self.clients[client].state = Link::Connected(core, id);
                self.tally.note(if port == Port::Core { "connections to cores" } else { "connections to gateways" });
                self.send(client);
            }
        }
    }

    /// Replies leave: the client is told.
    pub(super) fn leave(&mut self, server: usize, core: usize, id: ConnectionId, bytes: &[u8]) {
        let us = self.delay(SEND_US);
        self.after(server, us, Event::Arrive(core, Arrival::Sent(id)));
        let life = self.servers[server].cores[core].life();
        let Some(client) = life.client(id) else { return };
        let models = &mut self.servers[server].models;
        self.clients[client].conversation.take(bytes, models, &mut self.tally);
    }

    /// A core has closed a connection.
    pub(super) fn closed(&mut self, server: usize, core: usize, id: ConnectionId) {
        let life = self.servers[server].cores[core].life();
        if let Some(client) = life.close(id) {
            self.clients[client].disconnect();
        }
    }
}
