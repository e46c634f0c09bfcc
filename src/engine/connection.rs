//! A connection, as the core that serves it sees it.

use super::{forward::Gathering, values::Fetching};
use crate::{
    client::Port,
    session::{Backpressure, Session},
    wait::Wait,
};

/// One connection of a core: the number of its place, and how often that place has been used. What is told of a connection that
/// has gone is not believed of the next one in its place.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ConnectionId {
    pub(crate) place: u32,
    pub(crate) generation: u32,
}

impl ConnectionId {
    /// The connection of a place, by how often that has been used.
    pub const fn new(place: u32, generation: u32) -> Self {
        Self { place, generation }
    }

    /// The number of the place, small and reused: an index for what is kept of the connection.
    #[inline]
    pub fn place(self) -> usize {
        self.place as usize
    }
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// It is served.
    Open,
    /// Everything was sent, and the peer was told so; it has not ended yet.
    Lingering,
    /// It is to be closed at once.
    Failed,
}

/// The receiving of requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reception {
    /// Requests are received.
    Running,
    /// They are not, for the time being: the session has enough.
    Paused,
}

/// A client's connection.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) session: Session,
    /// Replies that several cores give.
    pub(super) gathers: Vec<Gathering>,
    pub(super) backpressure: Backpressure,
    pub(super) state: State,
    pub(super) reception: Reception,
    /// It will be looked at when the turn ends.
    pub(super) is_touched: bool,
    /// Bytes were given to the driver that have not left.
    pub(super) is_sending: bool,
    pub(super) port: Port,
    /// The commits that its last held reply waits for, as far as that was noted.
    pub(super) held_until: Wait,
    /// The values that its next request waits for.
    pub(super) fetching: Fetching,
    /// The time of the next look at a password, if that waits after wrong ones.
    pub(super) password_at: Option<u64>,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, port: Port, waiting_max: usize) -> Self {
        Self {
            id,
            session: match port {
                Port::Gateway => Session::undecided(),
                Port::Core => Session::default(),
            },
            gathers: Vec::new(),
            backpressure: Backpressure { output_bytes_max: usize::MAX, waiting_max },
            state: State::Open,
            reception: Reception::Running,
            is_touched: false,
            is_sending: false,
            port,
            held_until: Wait::NONE,
            fetching: Fetching::default(),
            password_at: None,
        }
    }
}
