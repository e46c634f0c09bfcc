//! Clients: what they ask, in pipelines, and what they make of the replies.

use super::{
    conversation::{Conversation, Request},
    plan::{Plan, Target},
};
use crate::{client::Port, engine::ConnectionId, resp::encode_request};

/// Requests that a client has under way at most.
const PIPELINE_MAX: usize = 16;

/// A client, and its connection.
pub(super) struct Client {
    pub(super) target: Target,
    pub(super) state: State,
    pub(super) conversation: Conversation,
    /// Sent by the client and not received yet.
    on_the_way: Vec<u8>,
    /// The number of its connection, over all lives.
    pub(super) connection: u32,
    /// It will send no more by this connection.
    pub(super) has_ended: bool,
    /// It waits for its server to be started.
    pub(super) is_parked: bool,
    /// Something that it has sent is about to be received.
    pub(super) is_arriving: bool,
}

/// The state of a client's connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// There is none.
    Away,
    /// It is on its way to a core.
    Connecting,
    /// This core serves it.
    Connected(usize, ConnectionId),
}

impl Client {
    pub(super) fn new(server: usize) -> Self {
        Self {
            target: Target { server, core: None },
            state: State::Away,
            conversation: Conversation::default(),
            on_the_way: Vec::new(),
            connection: 0,
            has_ended: false,
            is_parked: false,
            is_arriving: false,
        }
    }

    /// Begins a connection.
    pub(super) fn connect(&mut self, target: Target) {
        let connection = self.connection + 1;
        *self = Self { target, state: State::Connecting, connection, ..Self::new(target.server) };
    }

    /// Has no connection any more.
    pub(super) fn disconnect(&mut self) {
        let connection = self.connection + 1;
        *self = Self { connection, is_parked: self.is_parked, ..Self::new(self.target.server) };
    }

    /// Is gone, and its core will hear of it: what it has sent and has not arrived is lost.
    pub(super) fn vanish(&mut self) {
        self.on_the_way.clear();
        self.has_ended = true;
    }

    pub(super) fn port(&self) -> Port {
        if self.target.core.is_some() { Port::Core } else { Port::Gateway }
    }

    /// Sends a few requests.
    pub(super) fn ask(&mut self, plan: &Plan, random: &mut fastrand::Rng) {
        if PIPELINE_MAX <= self.conversation.unanswered() || self.has_ended {
            return;
        }
        for _ in 0..[1, 1, 2, 5][random.usize(..4)] {
            for words in plan.requests(self.target, random) {
                encode_request(&mut self.on_the_way, words.iter().map(Vec::as_slice));
                self.conversation.owed.push_back(Request::new(words));
            }
        }
    }

    pub(super) fn has_sent_something(&self) -> bool {
        !self.on_the_way.is_empty()
    }

    /// Returns what arrives next: all that is on its way, or a part.
    pub(super) fn arrived(&mut self, random: &mut fastrand::Rng) -> Vec<u8> {
        let whole = self.on_the_way.len();
        let length = if random.u8(..4) != 0 { whole } else { random.usize(1..=whole) };
        let rest = self.on_the_way.split_off(length);
        std::mem::replace(&mut self.on_the_way, rest)
    }
}
