//! A core's ring: all its sockets, and the reads and writes of its log's files, on one io_uring, driven by one glommio
//! task.
//!
//! glommio's own TCP stream needs a system call for each receive and each send, and is interrupted for each completion;
//! this ring takes everything that has arrived in one call, and submits all replies of a turn in the next. There is one
//! multishot accept per listener and one multishot receive per connection, into buffers that all connections share: an
//! idle connection owns none. At most one send per connection is in flight.
//!
//! The log's writes are here because replies wait for them: a write is submitted, and its completion taken, in the same
//! system calls as everything else, whereas glommio would look at its own ring some time later.
//!
//! A turn, as [`io::core`](super::core) drives it:
//!
//! ```text
//! loop {
//!     ring.turn(|event| …);      submits queued operations, takes completions, shows them as events
//!     ring.send(connection, …);  queues replies; nothing is copied, and nothing is sent yet
//!     ring.wait(…).await;        if there was no completion: sleeps until one arrives or the bell is rung
//! }
//! ```
//!
//! `unsafe` is used only here and in the submodules. It is sound because: the kernel reads the bytes of a send until
//! its completion, and until then they stay where they are, in `Connection::in_flight` (a file's in `Ring::writing` and
//! `Ring::readings`), whatever the caller does; a received buffer is returned to the kernel only after the event that
//! showed it has been handled; and dropping the ring first cancels everything in flight.
#![expect(unsafe_code, reason = "io_uring's submissions are pointers; see the invariants above")]

mod alarm;
mod bell;
mod buffers;
mod connecting;
mod files;
mod waiting;

pub use crate::engine::{ConnectionId, Spare};
pub use bell::Bell;
pub use files::Syncing;

use crate::wal::Aligned;
use alarm::Alarm;
use bell::Sleeper;
use buffers::Buffers;
use files::{Reading, Writing};
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::net::sockopt;
use std::{
    io,
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

/// The submissions that fit into the queue before a system call must take them.
const SUBMISSIONS: u32 = 2048;
/// The completions that fit into the queue before the kernel must store them elsewhere.
const COMPLETIONS: u32 = 8192;
/// The number of completions whose bytes are shown before the first of them is handled: enough to be prefetched from
/// memory together, and no more than the processor's first cache holds until they are used.
const COMING: usize = 32;

/// An event on a socket or a file.
#[derive(Debug)]
pub enum Event<'a> {
    /// A listener, named by its position, has a new connection. [`Ring::adopt`] it, or hand it over to another core.
    Accepted(usize, TcpStream),
    /// A listener cannot accept, most likely for lack of file descriptors. Call [`Ring::accept_again`] later.
    AcceptFailed(usize, io::Error),
    /// These bytes are about to be [`Received`](Self::Received). Those of several connections are shown before the
    /// first of them is received, so that the keys that they ask for can be prefetched together.
    Coming(&'a [u8]),
    /// The attempt that [`Ring::connect`] began has succeeded: the connection is open.
    Connected(ConnectionId),
    /// Bytes have arrived.
    Received(ConnectionId, &'a [u8]),
    /// The bytes given to [`Ring::send`] have been sent; the next send may be queued.
    Sent(ConnectionId),
    /// The peer will send no more, but may still read.
    Ended(ConnectionId),
    /// The connection has failed and has no further events: [`Ring::close`] it.
    Failed(ConnectionId, io::Error),
    /// The write given to [`Ring::write`] has ended, and here is its buffer. Either all bytes are on disk, or, after an
    /// error, it is unknown how many are.
    Written(Aligned, io::Result<()>),
    /// The read with this token has ended: its buffer, and the number of bytes read.
    Read(u64, Aligned, io::Result<usize>),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Receiving {
    /// The kernel has a multishot receive.
    Armed,
    /// The receive is being cancelled; bytes that arrive until then are still shown. `true`: receiving begins again
    /// afterwards.
    Stopping(bool),
    /// The kernel has no receive.
    Off,
}

struct Connection {
    socket: TcpStream,
    /// The bytes of the send, which the kernel may be reading: not touched while `sending`.
    in_flight: Vec<u8>,
    /// The number of these bytes that have been sent.
    sent: usize,
    sending: bool,
    receiving: Receiving,
    /// True while an attempt to connect is in flight ([`Ring::connect`]).
    connecting: bool,
    /// True once the caller has closed it; it is freed when nothing of it is in flight.
    closing: bool,
    /// True if bytes have arrived since it was closed.
    has_discarded: bool,
}

#[derive(Default)]
struct Place {
    generation: u32,
    connection: Option<Box<Connection>>,
}

/// A core's ring: its sockets, and the reads and writes of its log's files.
pub struct Ring {
    uring: IoUring,
    buffers: Buffers,
    sleeper: Sleeper,
    listeners: Vec<TcpListener>,
    places: Vec<Place>,
    writing: Option<Writing>,
    readings: Vec<Option<Reading>>,
    free_readings: Vec<u32>,
    free: Vec<u32>,
    spare: Spare,
    completions: Vec<(u64, i32, u32)>,
    alarm: Alarm,
    connections: usize,
    /// The submissions that no system call has taken yet.
    queued: usize,
}

/// The kind of operation that a completion belongs to: the top four bits of its tag, followed by 28 bits of generation
/// and 32 of place.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Operation {
    Accept = 1,
    Receive = 2,
    Send = 3,
    Cancel = 4,
    Bell = 5,
    Write = 6,
    Sync = 7,
    Read = 8,
    Alarm = 9,
    Connect = 10,
}

const GENERATIONS: u32 = 1 << 28;

/// Returns the connection that a completion's tag names.
#[inline]
fn connection_of(tag: u64) -> ConnectionId {
    ConnectionId { place: tag as u32, generation: (tag >> 32) as u32 & (GENERATIONS - 1) }
}

impl Operation {
    fn tag(self, id: ConnectionId) -> u64 {
        ((self as u64) << 60) | (u64::from(id.generation) << 32) | u64::from(id.place)
    }
}

impl Ring {
    /// Creates a ring for this thread, inside its glommio executor. `buffer_count` buffers (a power of two) of
    /// `buffer_size` bytes are shared by all connections; the kernel provides their memory when they are first used.
    ///
    /// # Errors
    /// Fails if io_uring is not available; [`io::probe`](super::probe) explains the error.
    pub fn new(buffer_count: u16, buffer_size: usize) -> io::Result<Self> {
        let uring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let buffers = Buffers::register(&uring, buffer_count, buffer_size)?;
        let sleeper = Sleeper::new()?;
        uring.submitter().register_eventfd(sleeper.for_sleep())?;
        uring.completion_disable_eventfd();
        let mut ring = Self {
            uring,
            buffers,
            sleeper,
            listeners: Vec::new(),
            places: Vec::new(),
            writing: None,
            readings: Vec::new(),
            free_readings: Vec::new(),
            free: Vec::new(),
            spare: Spare::default(),
            completions: Vec::new(),
            alarm: Alarm::Off,
            connections: 0,
            queued: 0,
        };
        ring.poll_bell();
        Ok(ring)
    }

    /// Polls the eventfd that the bell writes to during a nap: a ring of the bell is then a completion.
    fn poll_bell(&mut self) {
        let poll = opcode::PollAdd::new(types::Fd(self.sleeper.for_nap()), libc::POLLIN as u32).multi(true).build();
        self.push(&poll.user_data(Operation::Bell.tag(ConnectionId { place: 0, generation: 0 })));
    }

    /// Checks that the kernel provides what [`new`](Self::new) needs, with a small ring and without an executor.
    ///
    /// # Errors
    /// Fails like [`new`](Self::new).
    pub fn probe() -> io::Result<()> {
        let uring: IoUring =
            IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().build(8)?;
        Buffers::register(&uring, 2, 4096).map(drop)
    }

    /// Returns the bell that wakes this ring's core from another thread.
    pub fn bell(&self) -> Arc<Bell> {
        self.sleeper.bell()
    }

    /// Begins to accept connections. Returns the listener's position.
    pub fn listen(&mut self, listener: TcpListener) -> usize {
        self.listeners.push(listener);
        let position = self.listeners.len() - 1;
        self.accept_again(position);
        position
    }

    /// Accepts again after [`Event::AcceptFailed`].
    pub fn accept_again(&mut self, listener: usize) {
        let id = ConnectionId { place: listener as u32, generation: 0 };
        let accept =
            opcode::AcceptMulti::new(types::Fd(self.listeners[listener].as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
        self.push(&accept.user_data(Operation::Accept.tag(id)));
    }

    /// Stops accepting: connections that the kernel has queued are refused when the listeners are dropped.
    pub fn stop_listening(&mut self) {
        for listener in 0..self.listeners.len() {
            let id = ConnectionId { place: listener as u32, generation: 0 };
            let cancel = opcode::AsyncCancel::new(Operation::Accept.tag(id)).build();
            self.push(&cancel.user_data(Operation::Cancel.tag(id)));
        }
    }

    /// Takes a connected socket and begins to receive from it.
    pub fn adopt(&mut self, socket: TcpStream) -> ConnectionId {
        let id = self.take_place(socket, false);
        self.arm(id);
        id
    }

    /// Puts a socket into a free place.
    fn take_place(&mut self, socket: TcpStream, connecting: bool) -> ConnectionId {
        // Replies are to be sent at once, not when they fill a packet. A failure costs latency only.
        let _ = socket.set_nodelay(true);
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            u32::try_from(self.places.len() - 1).expect("fewer connections than 2^32")
        });
        let slot = &mut self.places[place as usize];
        slot.connection = Some(Box::new(Connection {
            socket,
            in_flight: Vec::new(),
            sent: 0,
            sending: false,
            receiving: Receiving::Off,
            connecting,
            closing: false,
            has_discarded: false,
        }));
        self.connections += 1;
        ConnectionId { place, generation: slot.generation }
    }

    /// Returns the number of connections, including those that are closing.
    pub fn len(&self) -> usize {
        self.connections
    }

    /// Returns true if there is no connection.
    pub fn is_empty(&self) -> bool {
        self.connections == 0
    }

    /// Returns true if the connection exists and is not closing.
    pub fn is_open(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| !connection.closing)
    }

    /// Returns true if a send is in flight, so that the next has to wait for [`Event::Sent`].
    #[inline]
    pub fn is_sending(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| connection.sending)
    }

    /// Returns the connection's socket, for its addresses and options.
    pub fn socket(&self, id: ConnectionId) -> Option<&TcpStream> {
        self.get(id).map(|connection| &connection.socket)
    }

    /// Returns an empty buffer for replies, with capacity from earlier use if there is a spare one.
    #[inline]
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.take()
    }

    /// Moves spare buffers into `stock`, as many as it may hold, for use while the ring shows its events.
    #[inline]
    pub fn stock_up(&mut self, stock: &mut Spare) {
        stock.take_from(&mut self.spare);
    }

    /// Takes back a buffer that was not sent.
    #[inline]
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.spare.keep(buffer);
    }

    /// Queues bytes to be sent with the next turn. They are dropped if the connection is closed.
    ///
    /// # Panics
    /// Panics if a send is in flight ([`is_sending`](Self::is_sending)), or if `bytes` is empty.
    #[inline]
    pub fn send(&mut self, id: ConnectionId, bytes: Vec<u8>) {
        assert!(!bytes.is_empty(), "a send has something to send");
        let Some(connection) = self.get_mut(id).filter(|connection| !connection.closing) else { return };
        assert!(!connection.sending, "one send in flight a connection");
        connection.in_flight = bytes;
        connection.sent = 0;
        connection.sending = true;
        self.push_send(id);
    }

    /// Stops receiving: new bytes wait in the kernel, and soon at the sender. Bytes that the kernel has handed over by
    /// then are still shown.
    pub fn pause(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        match connection.receiving {
            Receiving::Armed => {
                connection.receiving = Receiving::Stopping(false);
                let cancel = opcode::AsyncCancel::new(Operation::Receive.tag(id)).build();
                self.push(&cancel.user_data(Operation::Cancel.tag(id)));
            }
            Receiving::Stopping(_) => connection.receiving = Receiving::Stopping(false),
            Receiving::Off => {}
        }
    }

    /// Receives again after [`pause`](Self::pause).
    pub fn resume(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id).filter(|connection| !connection.closing) else { return };
        match connection.receiving {
            Receiving::Armed => {}
            Receiving::Stopping(_) => connection.receiving = Receiving::Stopping(true),
            Receiving::Off => self.arm(id),
        }
    }

    /// Closes a connection. A send in flight is cut off, and there are no further events. A peer that is still sending
    /// gets a reset.
    pub fn close(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.closing = true;
        // Ends the operations in flight; their completions free the place. Fails if the peer has gone already.
        let _ = connection.socket.shutdown(Shutdown::Both);
        self.stop_connecting(id);
        self.release(id);
    }

    /// Submits queued operations, takes the completions, and shows them as events. Never waits. Returns the number of
    /// completions.
    ///
    /// # Errors
    /// Fails only if the ring itself is broken.
    pub fn turn(&mut self, mut on_event: impl FnMut(Event<'_>)) -> io::Result<usize> {
        if 0 < self.queued || self.has_deferred() {
            self.enter()?;
        }
        let mut completions = std::mem::take(&mut self.completions);
        completions.extend(self.uring.completion().map(|c| (c.user_data(), c.result(), c.flags())));
        let mut alarms = 0;
        for group in completions.chunks(COMING) {
            for &(tag, result, flags) in group {
                self.show_coming(tag, result, flags, &mut on_event);
            }
            for &(tag, result, flags) in group {
                if tag >> 60 == Operation::Alarm as u64 {
                    alarms += 1;
                } else {
                    self.handle(tag, result, flags, &mut on_event);
                }
            }
        }
        let count = completions.len() - alarms;
        self.alarm.note(0 < alarms, 0 < count);
        completions.clear();
        self.completions = completions;
        Ok(count)
    }

    /// Returns true if the kernel has completions that it only hands over in a system call.
    #[inline]
    fn has_deferred(&mut self) -> bool {
        let submission = self.uring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    /// Enters the kernel once: submits everything, and runs work that the kernel has deferred to this thread.
    fn enter(&mut self) -> io::Result<()> {
        loop {
            let queued = self.uring.submission().len() as u32;
            // SAFETY: no argument is passed, so none can dangle.
            let entered = unsafe { self.uring.submitter().enter::<()>(queued, 0, GET_EVENTS, None) };
            match entered {
                Ok(_) => break,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                // The completion queue is full, or the kernel is short of memory: take the completions first, and try
                // again.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::ENOMEM)) => break,
                Err(error) => return Err(error),
            }
        }
        self.queued = self.uring.submission().len();
        Ok(())
    }

    #[inline]
    fn show_coming(&self, tag: u64, result: i32, flags: u32, on_event: &mut impl FnMut(Event<'_>)) {
        if tag >> 60 == Operation::Receive as u64
            && 0 < result
            && let Some(buffer) = cqueue::buffer_select(flags)
            && self.is_open(connection_of(tag))
        {
            on_event(Event::Coming(self.buffers.get(buffer, result as usize)));
        }
    }

    fn handle(&mut self, tag: u64, result: i32, flags: u32, on_event: &mut impl FnMut(Event<'_>)) {
        let id = connection_of(tag);
        match tag >> 60 {
            kind if kind == Operation::Accept as u64 => self.accepted(id.place(), result, flags, on_event),
            kind if kind == Operation::Receive as u64 => self.received(id, result, flags, on_event),
            kind if kind == Operation::Send as u64 => self.sent(id, result, on_event),
            kind if kind == Operation::Connect as u64 => self.has_connected(id, result, on_event),
            kind if kind == Operation::Write as u64 => {
                let Some(writing) = &mut self.writing else { return };
                writing.written = Some(result);
                if writing.how == Syncing::Itself {
                    self.synced(result, on_event);
                }
            }
            kind if kind == Operation::Sync as u64 => self.synced(result, on_event),
            kind if kind == Operation::Read as u64 => self.has_read(id, result, on_event),
            kind if kind == Operation::Bell as u64 => {
                self.sleeper.reset_nap();
                if !cqueue::more(flags) {
                    self.poll_bell();
                }
            }
            _ => {}
        }
    }

    fn accepted(&mut self, listener: usize, result: i32, flags: u32, on_event: &mut impl FnMut(Event<'_>)) {
        if result < 0 {
            match -result {
                libc::ECANCELED => {}
                // The peer gave up while it waited in the queue.
                libc::ECONNABORTED | libc::EINTR | libc::EAGAIN => self.accept_again(listener),
                code => on_event(Event::AcceptFailed(listener, io::Error::from_raw_os_error(code))),
            }
            return;
        }
        // SAFETY: the kernel has just made this descriptor for this ring, and nothing else uses it.
        let socket = unsafe { OwnedFd::from_raw_fd(result) };
        on_event(Event::Accepted(listener, TcpStream::from(socket)));
        if !cqueue::more(flags) {
            self.accept_again(listener);
        }
    }

    fn received(&mut self, id: ConnectionId, result: i32, flags: u32, on_event: &mut impl FnMut(Event<'_>)) {
        let is_open = self.is_open(id);
        if let Some(buffer) = cqueue::buffer_select(flags) {
            if 0 < result && is_open {
                on_event(Event::Received(id, self.buffers.get(buffer, result as usize)));
            } else if let Some(connection) = self.get_mut(id) {
                connection.has_discarded |= 0 < result;
            }
            self.buffers.give_back(buffer);
        }
        if cqueue::more(flags) {
            return;
        }
        let Some(connection) = self.get_mut(id) else { return };
        let wanted = connection.receiving;
        connection.receiving = Receiving::Off;
        if connection.closing {
            self.release(id);
            return;
        }
        match result {
            0 => on_event(Event::Ended(id)),
            // The kernel has ended the multishot for a reason of its own, or there was no free buffer; there are free
            // ones by now.
            _ if 0 < result || -result == libc::ENOBUFS || -result == libc::EINTR || -result == libc::ECANCELED => {
                if wanted != Receiving::Stopping(false) {
                    self.arm(id);
                }
            }
            code => on_event(Event::Failed(id, io::Error::from_raw_os_error(-code))),
        }
    }

    fn sent(&mut self, id: ConnectionId, result: i32, on_event: &mut impl FnMut(Event<'_>)) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.sent += result.max(0) as usize;
        let is_retry = result == -libc::EINTR || result == -libc::EAGAIN;
        if connection.closing || (result < 0 && !is_retry) {
            connection.sending = false;
            connection.in_flight = Vec::new();
            if connection.closing {
                self.release(id);
            } else {
                on_event(Event::Failed(id, io::Error::from_raw_os_error(-result)));
            }
        } else if connection.sent < connection.in_flight.len() {
            self.push_send(id);
        } else {
            connection.sending = false;
            let buffer = std::mem::take(&mut connection.in_flight);
            self.recycle(buffer);
            on_event(Event::Sent(id));
        }
    }

    /// Frees the place of a closing connection, unless an operation of it is in flight.
    fn release(&mut self, id: ConnectionId) {
        let Some(connection) = self.get(id) else { return };
        let is_in_use = connection.sending || connection.connecting || connection.receiving != Receiving::Off;
        if connection.closing && !is_in_use {
            if connection.has_discarded {
                // A reset, as the kernel sends when a socket is closed with unread bytes. Here the bytes have been
                // read, and the peer may not have been told since that there is room again: without a reset it would
                // wait for that until the kernel forgets the connection, a minute. Fails if the peer has gone.
                let _ = sockopt::set_socket_linger(&connection.socket, Some(Duration::ZERO));
            }
            let place = &mut self.places[id.place()];
            place.connection = None;
            place.generation = (place.generation + 1) % GENERATIONS;
            self.free.push(id.place);
            self.connections -= 1;
        }
    }

    fn arm(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.receiving = Receiving::Armed;
        let descriptor = types::Fd(connection.socket.as_raw_fd());
        let receive = opcode::RecvMulti::new(descriptor, buffers::GROUP).build();
        self.push(&receive.user_data(Operation::Receive.tag(id)));
    }

    fn push_send(&mut self, id: ConnectionId) {
        let Some(connection) = self.get(id) else { return };
        let bytes = &connection.in_flight[connection.sent..];
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let send = opcode::Send::new(types::Fd(connection.socket.as_raw_fd()), bytes.as_ptr(), length).build();
        self.push(&send.user_data(Operation::Send.tag(id)));
    }

    #[inline]
    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: an entry points to a constant, to a connection's `in_flight`, or to a buffer in `writing` or
        // `readings`, all of which stay until its completion has been taken; and the descriptor's socket or file stays
        // open until then, too.
        while unsafe { self.uring.submission().push(entry) }.is_err() {
            self.enter().expect("a ring whose submissions the kernel refuses can't go on");
        }
        self.queued += 1;
    }

    #[inline]
    fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let place = self.places.get(id.place()).filter(|place| place.generation == id.generation)?;
        place.connection.as_deref()
    }

    #[inline]
    fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let place = self.places.get_mut(id.place()).filter(|place| place.generation == id.generation)?;
        place.connection.as_deref_mut()
    }
}

/// `IORING_ENTER_GETEVENTS`: also run deferred work, which a ring with DEFER_TASKRUN does at no other time.
const GET_EVENTS: u32 = 1;

trait DisableEventfd {
    fn completion_disable_eventfd(&self);
}

impl DisableEventfd for IoUring {
    /// Stops the kernel from writing to the eventfd for each completion: a core that is awake looks for itself, and
    /// each write would cost a system call to take it back.
    fn completion_disable_eventfd(&self) {
        // SAFETY: the queue is used by this thread alone, and no other view of it is alive.
        unsafe { self.completion_shared() }.disable_eventfd();
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let everything = types::CancelBuilder::any();
        if self.uring.submitter().register_sync_cancel(None, everything).is_err_and(|error| {
            // Nothing was in flight.
            error.raw_os_error() != Some(libc::ENOENT)
        }) {
            // The kernel may still read or write this memory, so it is never freed.
            std::mem::forget(std::mem::take(&mut self.places));
            std::mem::forget(self.writing.take());
            std::mem::forget(std::mem::take(&mut self.readings));
            self.buffers.leak();
        }
    }
}

#[cfg(test)]
mod tests;
