//! The point up to which effects of a slot are committed, and what a reply has to name to wait for it.
//!
//! A reply names a [`Point`]: the position in this core's own log of the last effect that it tells of, the slot, and the reign in
//! which it was executed. That is all, 16 bytes to copy: **acknowledgements of all links are counted in positions of this core's own
//! log** ([`Outgoing::acknowledged`](super::outgoing::Outgoing::acknowledged): everything before the oldest effect that the copy
//! has not acknowledged), so one number is compared with what is on this disk and with every link. Which links count is asked
//! when the reply is about to leave, not when the request is executed: a document may have changed meanwhile, or be pending, and
//! then the copies of both are needed. A reply of a reign that has ended never leaves.
//!
//! A reply about several slots (a transaction, a part of a gateway's request) waits for several points: the session queues an empty
//! reply for each but the last in front of it, since replies leave in order.
//!
//! Held replies need no search: a session looks at its first one when [`Replication::progress`](super::Replication::progress) has
//! changed.

use crate::{slot::Slot, wal::Lsn};

/// A condition that a reply waits for. A read of a slot without effects in flight names position 0: it needs only the lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Point {
    /// The end of the last effect that the reply tells of, in this core's log.
    pub lsn: Lsn,
    /// The reign in which the request was executed.
    pub(super) reign: u32,
    /// The slot.
    pub slot: Slot,
}

const _: () = assert!(size_of::<Point>() == 16, "every held reply has one");

/// The decision about a held reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is held.
    Waits,
    /// It may leave.
    Leaves,
    /// It may never leave: this core is no longer primary, or is so anew. Nobody can say whether the effect will be kept. The
    /// connection is closed, as if the server had died.
    Fails,
}

/// The answer to whether a request may be executed now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gate {
    /// It may.
    Open,
    /// Not now: the session waits, for a bounded time.
    NotNow(Obstacle),
    /// This core is not the slot's primary.
    Elsewhere,
}

/// The reason for which a slot executes nothing now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Obstacle {
    /// It is being handed over.
    Frozen,
    /// The promises that this core has made to the last primary have not ended.
    Promises,
    /// The effects that this core had when it became primary are not committed, or a copy in sync has not been compared.
    Barrier,
    /// A copy in sync is too far behind.
    Backlog,
}
