//! Events: what happens to a core.

use super::{ConnectionId, Message};
use crate::{
    commands::CpuTimes,
    topology::Topology,
    wal::{Aligned, Desk, Done},
};
use std::{io, sync::Arc, time::Duration};

/// An event that the driver tells the engine of.
#[derive(Debug)]
pub enum Event<'a> {
    /// These bytes are about to be [`Received`](Self::Received). Those of several connections are shown before the first of
    /// them is, so that the keys that they ask for can be fetched from memory for all at once.
    Coming(&'a [u8]),
    /// Bytes have arrived.
    Received(ConnectionId, &'a [u8]),
    /// The bytes of an [`Action::Send`](super::Action::Send) have left.
    Sent(ConnectionId),
    /// The peer will send no more, but may still read.
    Ended(ConnectionId),
    /// The connection has failed; nothing more comes of it.
    Failed(ConnectionId),
    /// A listener can't accept.
    AcceptFailed(usize, io::Error),
    /// An [`Action::Write`](super::Action::Write) has ended: the frame is on disk, or it is not known what is.
    Written(Aligned, io::Result<()>),
    /// An [`Action::Read`](super::Action::Read) has ended: its token, its buffer, and the number of bytes that were read.
    Read(u64, Aligned, io::Result<usize>),
    /// A job has ended that an [`Action::Start`](super::Action::Start) began.
    JobDone(Desk, io::Result<Done>),
    /// Another core of this server has sent a message.
    Message(usize, Message),
    /// Every core of the server has read its files.
    Ready,
    /// A topology is offered: it takes the place of the present one if it is newer and fits.
    Topology(Arc<Topology>),
    /// The server is to stop.
    Stop,
    /// Every core of the server has let its last connection go, after [`Stop`](Self::Stop).
    Drained,
    /// The answer to [`Action::MeasureProcess`](super::Action::MeasureProcess).
    Measured {
        /// Bytes of the process in memory.
        resident_bytes: u64,
        /// The processor time that it has had.
        cpu: CpuTimes,
    },
}

/// The answer to a connection that has come in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// This core serves it: the driver takes it, with TCP keep-alive after this time unless that is zero, and tells the
    /// engine its id by [`Engine::connected`](super::Engine::connected).
    Serve {
        /// The setting `tcp-keepalive`.
        keepalive: Duration,
    },
    /// Another core of this server serves it.
    HandOver(usize),
    /// There are as many connections as may be: the client is told so.
    Refuse,
}
