//! Actions: the instructions of a core to its driver.

use super::{ConnectionId, Message};
use crate::wal::{Aligned, Damage, Desk, FileInfo, Job};
use std::io;

/// An instruction to the driver. It owns its buffers.
#[derive(Debug)]
pub enum Action {
    /// Send these bytes; [`Event::Sent`](super::Event::Sent) follows, or [`Event::Failed`](super::Event::Failed). At most one
    /// is in flight a connection.
    Send(ConnectionId, Vec<u8>),
    /// Stop receiving. What is on its way may still be shown.
    Pause(ConnectionId),
    /// Receive again.
    Resume(ConnectionId),
    /// Tell the peer that nothing more will be sent; it may still send.
    ShutDownWrites(ConnectionId),
    /// Close the connection; no event of it follows.
    Close(ConnectionId),
    /// Close the connection with a reset, so that a peer which is still sending learns of it at once.
    Reset(ConnectionId),
    /// Accept connections again by this listener.
    AcceptAgain(usize),
    /// Accept no more connections.
    StopListening,
    /// Write a frame to a segment that a [`Job::Prepare`] has made, and have it on disk; [`Event::Written`](super::Event::Written)
    /// gives the buffer back. At most one is in flight.
    Write {
        /// The segment's number.
        segment: u64,
        /// The frame's place in the segment, in bytes.
        offset: u64,
        /// The frame is at its beginning.
        buffer: Aligned,
        /// Bytes of the frame.
        length: usize,
    },
    /// Read from a segment; [`Event::Read`](super::Event::Read) gives the buffer back, under the same token. Any number may be in
    /// flight.
    Read {
        /// The segment's number.
        segment: u32,
        /// The place in the segment, in bytes.
        offset: u64,
        /// The memory to read to.
        buffer: Aligned,
        /// Bytes to read.
        length: usize,
        /// Names the read.
        token: u64,
    },
    /// Close a segment that was read from.
    CloseSegment(u32),
    /// Work that may block; [`Event::JobDone`](super::Event::JobDone) follows with the same desk. Jobs are done one after the other,
    /// in the order in which they were begun.
    Start(Desk, Job),
    /// Deliver a message to another core of this server.
    Post(usize, Message),
    /// Find out how much memory and processor time the process has; [`Event::Measured`](super::Event::Measured) follows.
    MeasureProcess,
    /// This core has read its files. [`Event::Ready`](super::Event::Ready) follows once every core has.
    Loaded,
    /// Tell every core of the server to stop; [`Event::Stop`](super::Event::Stop) follows.
    StopServer,
    /// This core has let its last connection go. [`Event::Drained`](super::Event::Drained) follows once every core has.
    Drained,
    /// End the core; nothing is done after this.
    End(End),
}

/// The reasons for a core's end.
#[derive(Debug)]
pub enum End {
    /// It was told to stop, and has nothing left to do.
    Finished,
    /// A file can't be read.
    Unreadable(FileInfo, io::Error),
    /// The files can be read, and can't be believed.
    Damaged(Damage),
    /// The log can't go on in the core's directory.
    Unusable(io::Error),
    /// The log could not be written to its end when the core stopped: what is not on disk is lost.
    Unwritten,
    /// The log can't be written. No core of this server may acknowledge anything more: the process ends at once.
    LogFailed(io::Error),
}

/// The actions of a turn, in order.
pub type Actions = Vec<Action>;
