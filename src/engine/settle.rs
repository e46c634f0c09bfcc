//! The end of a turn: replies leave, connections are paused, resumed and closed.

use super::{
    Action, Engine,
    connection::{ConnectionId, Reception, State},
};

impl Engine {
    /// Has leave what this turn has made.
    #[inline]
    pub(super) fn settle(&mut self) {
        self.close_killed();
        let mut touched = std::mem::take(&mut self.connections.touched);
        for id in touched.drain(..) {
            self.settle_one(id);
        }
        // Executing what had waited may have touched others.
        touched.append(&mut self.connections.touched);
        self.connections.touched = touched;
    }

    #[inline]
    pub(super) fn settle_one(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.is_touched = false;
        let is_owed_too_much = self.shard.core.config.output_hard_limit < connection.session.owed_bytes();
        if connection.state == State::Failed || is_owed_too_much {
            self.drop_connection(id, Action::Reset(id));
            return;
        }
        if !connection.is_sending
            && let Some(output) = connection.session.take_output(self.shard.committed())
        {
            self.shard.core.statistics.output_bytes += output.len() as u64;
            connection.is_sending = true;
            self.actions.push(Action::Send(id, output));
        }
        let port = connection.port;
        if let Some(wait) = connection.session.held_until().filter(|&wait| wait != connection.held_until) {
            connection.held_until = wait;
            self.hold(id, wait);
        }
        let is_stalled = self.is_stalled_for(port);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let is_blocked = is_stalled || connection.session.is_blocked(&connection.backpressure);
        // Values are fetched in a moment: to stop receiving until then would cost more than what comes meanwhile.
        let has_enough = is_stalled || connection.session.has_enough(&connection.backpressure);
        match (connection.reception, has_enough) {
            (Reception::Running, true) => {
                connection.reception = Reception::Paused;
                self.actions.push(Action::Pause(id));
            }
            (Reception::Paused, false) => {
                connection.reception = Reception::Running;
                self.actions.push(Action::Resume(id));
            }
            (Reception::Running, false) | (Reception::Paused, true) => {}
        }
        if !is_blocked && connection.session.has_unread() && connection.session.has_waited {
            // It was blocked and is not any more: what it sent meanwhile gets its turn, and the next.
            connection.session.has_waited = false;
            self.receive(id, &[]);
            return;
        }
        if connection.session.ended && !is_blocked {
            // What is left is the beginning of a request whose end will never come.
            connection.session.closing = true;
        }
        if connection.session.is_finished() && !connection.is_sending {
            let lingers = connection.session.lingers() && !self.stopping.is_begun();
            if lingers { self.linger(id) } else { self.drop_connection(id, Action::Close(id)) }
        }
    }

    /// Tells a peer that nothing more will come, and waits a while for it to say the same. What it sends meanwhile is lost.
    #[cold]
    fn linger(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id).filter(|connection| connection.state == State::Open) else {
            return;
        };
        connection.state = State::Lingering;
        self.connections.lingering.push((id, self.now.monotonic_us));
        self.actions.push(Action::ShutDownWrites(id));
    }

    /// Drops a connection, by closing it in this way.
    pub(super) fn drop_connection(&mut self, id: ConnectionId, how: Action) {
        self.actions.push(how);
        self.shard.core.clients.take(id.place());
        if let Some(connection) = self.connections.remove(id) {
            self.release_values(connection.fetching);
            self.left(connection.port);
        }
    }

    /// Cuts off clients that others have killed, whatever they are owed: they may be killed because they don't read it.
    #[inline]
    pub(super) fn close_killed(&mut self) {
        if !self.shard.core.clients.closed.is_empty() {
            self.close_those_killed();
        }
    }

    #[cold]
    fn close_those_killed(&mut self) {
        for place in std::mem::take(&mut self.shard.core.clients.closed) {
            if self.shard.core.clients.is_closing(place)
                && let Some(id) = self.connections.at(place).map(|connection| connection.id)
            {
                self.drop_connection(id, Action::Close(id));
            }
        }
    }
}
