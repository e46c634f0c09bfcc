//! Messages between the cores of a server.

use super::ConnectionId;
use crate::{refusals::Refusals, resp::Version, session::Ticket};

/// A message from one core of a server to another. The driver delivers messages in the order in which they were posted.
#[derive(Debug)]
pub enum Message {
    /// A connection that came in by the gateway's port has left the sender.
    Left,
    /// The sender refuses this from now on.
    Refusals(Refusals),
    /// Requests for keys of the receiver.
    Requests(Box<Batch>),
    /// The same box, with the replies.
    Replies(Box<Batch>),
}

/// Requests that go to a core together, and then their replies.
#[derive(Debug, Default)]
pub struct Batch {
    /// One item a request, in the order of the requests.
    pub items: Vec<Item>,
    /// The requests as a client would send them, one behind the other.
    pub requests: Vec<u8>,
    /// The replies, one behind the other.
    pub replies: Vec<u8>,
    /// The number of keys of the core that gives the replies.
    pub keys: u64,
}

/// One request of a batch.
#[derive(Debug)]
pub struct Item {
    /// The connection that asked.
    pub connection: ConnectionId,
    /// Its ticket for the reply.
    pub ticket: Ticket,
    /// The number of this part of the reply, where several cores give one.
    pub part: Option<u16>,
    /// The version of the protocol that the reply is to be in.
    pub version: Version,
    /// True if the client speaks HTTP, and is sent to gateways.
    pub speaks_http: bool,
    /// True if reads leave no trace (`CLIENT NO-TOUCH`).
    pub no_touch: bool,
    /// True if nobody waits for the reply (`CLIENT REPLY OFF`).
    pub is_unwanted: bool,
    /// Bytes of the request.
    pub request_bytes: usize,
    /// True if the client is to be closed behind the reply: it has asked for more than it may be owed.
    pub closes: bool,
    /// The end of its reply in [`Batch::replies`].
    pub reply_end: usize,
}

impl Batch {
    /// Returns the bytes of memory that the box holds on to.
    pub(super) fn memory(&self) -> usize {
        self.requests.capacity() + self.replies.capacity() + self.items.capacity() * size_of::<Item>()
    }
}
