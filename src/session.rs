//! A session: the requests and replies of one client's connection. It executes the requests in order, and holds the
//! replies in order until they may be sent.
//!
//! A request is executed as soon as it is complete. Its reply goes straight into [`Session::output`], unless an earlier
//! reply still has to come from another core: then it queues behind that one, and becomes output with it.

mod http;

use crate::{
    http::Limits as HttpLimits,
    resp::{Decoder, Limits, ProtocolError, Request},
    wait::{Committed, Wait},
};
use http::Exchange;
use std::collections::VecDeque;

/// The number of a reply that comes later. Unique within its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket(pub u64);

/// The outcome of a request, as far as a session needs it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The reply is in the output, or there is none.
    Here,
    /// The reply is in the output, and may not be sent until this is committed.
    Held(Wait),
    /// The reply comes later, under the request's ticket: see [`Session::complete`].
    Later,
    /// The reply is in the output, and is the last: no request behind this one is executed. It may not be sent until this is
    /// committed.
    Last(Wait),
    /// The reply comes later, under the request's ticket, and is the last: no request behind this one is executed.
    LastLater,
    /// The request was not executed, since it has to wait: for example for values that have to be fetched from the
    /// disk. It is executed again after [`Session::resume`].
    NotYet,
}

/// Returns true if the request's password is the one in the argument.
pub type HasPassword<'a> = &'a dyn Fn(&[u8]) -> bool;

/// Executes a session's requests.
pub trait Executor {
    /// The facts about a request that follow from its arguments alone, found once.
    type Resolved: Copy;

    /// Returns the limits of the next request.
    fn limits(&self) -> Limits;
    /// Finds the facts that follow from a request's arguments alone.
    fn resolve(&self, request: Request<'_>) -> Self::Resolved;
    /// Notes what a request that will be executed soon needs, so that it can be prefetched.
    fn foresee(&mut self, request: Request<'_>, resolved: &Self::Resolved);
    /// Prefetches what the noted requests need; called once all of a batch have been noted.
    fn fetch_foreseen(&mut self);
    /// Returns true if no request may be executed for the time being: the log or another core is too far behind.
    fn is_stalled(&self) -> bool;
    /// Executes a request. Its reply is appended to `output`, or passed to [`Session::complete`] later, with this
    /// ticket.
    fn execute(
        &mut self,
        request: Request<'_>,
        resolved: Self::Resolved,
        output: &mut Vec<u8>,
        ticket: Ticket,
    ) -> Answer;

    /// Returns the limits of the next HTTP request. This function and those below are called only in HTTP sessions.
    fn http_limits(&self) -> HttpLimits {
        let limits = self.limits();
        HttpLimits::new(limits.argument_bytes_max, limits.argument_bytes_max, limits.arguments_max, usize::MAX >> 2)
    }
    /// Returns the seconds since 1970, for the `Date` header.
    fn unix_seconds(&self) -> u64 {
        0
    }
    /// Returns true if the password of the next request may not be checked yet, since the client has sent wrong ones.
    /// The request is processed again after [`Session::resume`].
    fn must_wait(&mut self) -> bool {
        false
    }
    /// Authenticates the client for its next request: each HTTP request has its own password. `has_password` compares
    /// it with another; `None` if the request has none. Returns true if the client is authenticated.
    fn authenticate(&mut self, _has_password: Option<HasPassword<'_>>) -> bool {
        true
    }
    /// Returns true if a request to this host, with or without a port, may be for this server.
    fn is_own_host(&self, _authority: &[u8]) -> bool {
        true
    }
    /// Returns the host and port of the other server that owns a key; `None` if no other server owns it.
    fn elsewhere(&self, _key: &[u8]) -> Option<(&str, u16)> {
        None
    }
    /// Notes that the client speaks HTTP, and its name (`User-Agent`).
    fn introduce(&mut self, _agent: &[u8]) {}
    /// Notes that a request was refused before anything was executed.
    fn note_refusal(&mut self) {}
}

/// The protocol of a connection.
#[derive(Debug, Default)]
enum Protocol {
    /// The Redis protocol.
    #[default]
    Resp,
    /// The Redis protocol or HTTP: too little of the first line has arrived to tell.
    Undecided,
    /// HTTP.
    Http(Box<Exchange>),
}

/// The limits of what a session owes its client. At a limit it stops executing requests until some replies have left.
#[derive(Clone, Copy, Debug)]
pub struct Backpressure {
    /// The most bytes of replies that have not been taken from the session.
    pub output_bytes_max: usize,
    /// The most replies that have not come yet, for example from other cores.
    pub waiting_max: usize,
}

/// An element of the queue of replies: one that has not come, or several in a row that have.
#[derive(Debug)]
enum Part {
    /// A reply that has not come.
    Waiting,
    /// Replies that have come, and the commits that they wait for.
    Done(Vec<u8>, Wait),
}

/// A hold on the output: its bytes from `start` on may not be sent until `wait` is met.
#[derive(Clone, Copy, Debug)]
struct Gate {
    start: usize,
    wait: Wait,
}

/// Received bytes that were not executed: a request is not complete, or may not be executed yet.
#[derive(Debug, Default)]
struct Unread {
    bytes: Vec<u8>,
    /// The number of bytes at the beginning of `bytes` that have been executed.
    used: usize,
    decoder: Decoder,
}

impl Unread {
    /// Moves the bytes that are left to the front once they are fewer than those before them, so that each byte is
    /// moved about once.
    fn compact(&mut self) {
        if self.bytes.len() < self.used * 2 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
    }
}

/// The number of requests that are decoded before the first of them is executed, so that the memory which they need is
/// prefetched for all of them at once instead of for one after the other.
const AHEAD: usize = 32;

/// The most unexecuted bytes of a session whose requests wait; above it the connection is not read any more. The limit
/// is twice the output limit if that is less, as before AUTH.
const UNREAD_MAX: usize = 64 * 1024;

/// The capacity for gates and for parts that is kept while there are none: enough for a common pipeline, some 2 KiB.
const QUEUE_KEPT: usize = 64;

/// The most replies that may be waited for before the first of them has come: until then their size is not known.
const WINDOW_AT_FIRST: usize = 32;

/// One connection's requests and replies. Idle, it holds no buffer.
#[derive(Debug, Default)]
pub struct Session {
    protocol: Protocol,
    unread: Option<Box<Unread>>,
    /// Replies that have come, in order. Those behind a gate may not be sent yet.
    pub output: Vec<u8>,
    /// The holds on the output; `start` and `wait` ascend.
    gates: VecDeque<Gate>,
    /// Replies from the first on that has not come; so the first part is always [`Part::Waiting`].
    parts: VecDeque<Part>,
    /// The ticket of the first of `parts`, or of the next reply if there is none.
    first_ticket: u64,
    /// The number of parts that are [`Part::Waiting`].
    waiting: usize,
    /// The number of bytes in `parts`.
    queued: usize,
    /// The size of recent late replies: that of the last one, or its mean with the sizes before if that is larger.
    reply_bytes: usize,
    /// The number of late replies that have come; see [`window`](Self::window).
    opened: usize,
    /// True if received bytes were left unexecuted because the session was blocked or the executor stalled. The caller
    /// has them executed by `receive` of no bytes once neither is the case any more.
    pub has_waited: bool,
    /// The next request waits ([`Answer::NotYet`]), for example for values that are being fetched.
    is_suspended: bool,
    /// The peer will send no more.
    pub ended: bool,
    /// No more requests are executed; the connection is closed once all replies have left.
    pub closing: bool,
}

impl Session {
    /// Returns a session whose protocol is the Redis protocol or HTTP.
    pub fn undecided() -> Self {
        Self { protocol: Protocol::Undecided, ..Self::default() }
    }

    /// Returns true if the peer may still be sending bytes that will not be read: if the connection is closed at once,
    /// the last reply may be lost on the way.
    pub fn lingers(&self) -> bool {
        matches!(&self.protocol, Protocol::Http(exchange) if exchange.lingers) && !self.ended
    }

    /// Returns true if no request is executed for now: the next one waits, or too many replies are owed.
    pub fn is_blocked(&self, limit: &Backpressure) -> bool {
        self.is_suspended || self.is_full(limit)
    }

    /// Returns true if the replies that are owed are at a limit.
    fn is_full(&self, limit: &Backpressure) -> bool {
        limit.output_bytes_max <= self.output.len() + self.queued
            || (self.waiting != 0 && self.window(limit) <= self.waiting)
    }

    /// Returns true if the next request waits, for example for values that are being fetched. That is not for long, so
    /// that more may be received meanwhile.
    pub fn is_suspended(&self) -> bool {
        self.is_suspended
    }

    /// Returns true if the connection should not be read from: the replies that are owed are at a limit, or requests
    /// wait and the unexecuted bytes are above theirs.
    pub fn has_enough(&self, limit: &Backpressure) -> bool {
        let waits = self.is_suspended || self.has_waited;
        self.is_full(limit) || (waits && UNREAD_MAX.min(limit.output_bytes_max.saturating_mul(2)) < self.unread_bytes())
    }

    /// Ends the wait of the next request: for example, its values are there. Call `receive` with no bytes to execute
    /// it.
    pub fn resume(&mut self) {
        self.is_suspended = false;
        self.has_waited = false;
    }

    /// Returns true if replies are still to come later.
    pub fn is_waiting(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Returns true if nothing more will be sent: no more requests are executed, and all replies have been taken.
    pub fn is_finished(&self) -> bool {
        self.closing && self.output.is_empty() && self.parts.is_empty()
    }

    /// Returns true if there are unexecuted bytes, which may hold complete requests.
    pub fn has_unread(&self) -> bool {
        self.unread.as_ref().is_some_and(|unread| unread.used < unread.bytes.len())
    }

    /// Returns the most replies that may be waited for: as many as would fit into the output if they were as large as
    /// recent ones, so that a client which doesn't read replies of another core costs little more than one that doesn't
    /// read this core's. At first it is [`WINDOW_AT_FIRST`] at most, and one more with each reply that comes.
    fn window(&self, limit: &Backpressure) -> usize {
        let opened = (WINDOW_AT_FIRST + self.opened).min(limit.waiting_max).max(1);
        (limit.output_bytes_max / self.reply_bytes.max(1)).clamp(1, opened)
    }

    /// Returns the number of bytes of replies that have come and have not been taken.
    pub fn owed_bytes(&self) -> usize {
        self.output.len() + self.queued
    }

    /// Returns the number of bytes that were received and not executed.
    pub fn unread_bytes(&self) -> usize {
        self.unread.as_ref().map_or(0, |unread| unread.bytes.len() - unread.used)
    }

    /// Executes every complete request in the bytes that were kept and in `bytes`, and keeps the rest: a request that
    /// is not complete, or everything from the point on at which the session was blocked. `scratch` is any decoder that
    /// is not in the middle of a request.
    ///
    /// # Errors
    /// [`ProtocolError`]: the session is closing, and the caller sends the error to the client.
    #[inline]
    pub fn receive(
        &mut self,
        bytes: &[u8],
        scratch: &mut Decoder,
        backpressure: &Backpressure,
        executor: &mut impl Executor,
    ) -> Result<(), ProtocolError> {
        if self.closing {
            return Ok(());
        }
        if !matches!(self.protocol, Protocol::Resp) {
            return self.receive_other(bytes, scratch, backpressure, executor);
        }
        if self.unread.is_none() {
            let used = self.execute_all(bytes, scratch, backpressure, executor)?;
            if used < bytes.len() && !self.closing {
                let decoder = std::mem::take(scratch);
                self.unread = Some(Box::new(Unread { bytes: bytes[used..].to_vec(), used: 0, decoder }));
            }
            return Ok(());
        }
        self.receive_more(bytes, backpressure, executor)
    }

    fn receive_more(
        &mut self,
        bytes: &[u8],
        backpressure: &Backpressure,
        executor: &mut impl Executor,
    ) -> Result<(), ProtocolError> {
        let Some(mut unread) = self.unread.take() else { return Ok(()) };
        unread.bytes.extend_from_slice(bytes);
        let Unread { bytes, used, decoder } = &mut *unread;
        *used += self.execute_all(&bytes[*used..], decoder, backpressure, executor)?;
        if *used == bytes.len() || self.closing {
            return Ok(());
        }
        unread.compact();
        self.unread = Some(unread);
        Ok(())
    }

    /// Executes complete requests; returns the number of bytes that they took.
    #[inline]
    fn execute_all<E: Executor>(
        &mut self,
        bytes: &[u8],
        decoder: &mut Decoder,
        backpressure: &Backpressure,
        executor: &mut E,
    ) -> Result<usize, ProtocolError> {
        let mut used = 0;
        let mut resolved: [Option<E::Resolved>; AHEAD] = [None; AHEAD];
        let gates = self.gates.len();
        while used < bytes.len() && !self.closing && !self.is_blocked(backpressure) && !executor.is_stalled() {
            let rest = &bytes[used..];
            let limits = executor.limits();
            let count = decoder.decode_ahead(rest, &limits, AHEAD).inspect_err(|_| self.closing = true)?;
            if count == 0 {
                break;
            }
            for (position, resolved) in resolved[..count].iter_mut().enumerate() {
                *resolved = decoder.request_at(rest, position).0.map(|request| {
                    let resolved = executor.resolve(request);
                    if 1 < count {
                        executor.foresee(request, &resolved);
                    }
                    resolved
                });
            }
            if 1 < count {
                executor.fetch_foreseen();
            }
            let mut end = 0;
            for position in 0..count {
                let (request, next) = decoder.request_at(rest, position);
                let begin = std::mem::replace(&mut end, next);
                let Some((request, resolved)) = request.zip(resolved[position]) else { continue };
                let (output, ticket) = self.tail();
                let length = output.len();
                let answer = executor.execute(request, resolved, output, ticket);
                if self.is_waiting() {
                    self.queue_grew(length);
                }
                match answer {
                    Answer::Here => {}
                    Answer::Held(wait) => self.hold(length, wait, gates),
                    Answer::Later => self.defer(ticket),
                    Answer::Last(wait) => {
                        if !wait.is_none() {
                            self.hold(length, wait, gates);
                        }
                        self.closing = true;
                    }
                    Answer::LastLater => {
                        self.defer(ticket);
                        self.closing = true;
                    }
                    Answer::NotYet => {
                        self.is_suspended = true;
                        end = begin;
                    }
                }
                // The requests behind were decoded within limits that AUTH may just have changed.
                if self.closing || self.is_blocked(backpressure) || executor.is_stalled() || executor.limits() != limits
                {
                    break;
                }
            }
            used += end;
        }
        let is_blocked = self.is_blocked(backpressure) || executor.is_stalled();
        self.has_waited |= used < bytes.len() && !self.closing && is_blocked;
        Ok(used)
    }

    /// Returns the buffer that the next reply is appended to, and the ticket for the reply if it comes later.
    #[inline]
    pub fn tail(&mut self) -> (&mut Vec<u8>, Ticket) {
        if self.parts.is_empty() {
            return (&mut self.output, Ticket(self.first_ticket));
        }
        self.tail_part()
    }

    fn tail_part(&mut self) -> (&mut Vec<u8>, Ticket) {
        if !matches!(self.parts.back(), Some(Part::Done(..))) {
            self.parts.push_back(Part::Done(Vec::new(), Wait::NONE));
        }
        let ticket = Ticket(self.first_ticket + self.parts.len() as u64);
        match self.parts.back_mut() {
            Some(Part::Done(bytes, _)) => (bytes, ticket),
            _ => unreachable!("it was just pushed"),
        }
    }

    /// Counts the bytes that were appended to the last part behind its first `length` bytes.
    fn queue_grew(&mut self, length: usize) {
        if let Some(Part::Done(bytes, _)) = self.parts.back() {
            self.queued += bytes.len() - length;
        }
    }

    fn defer(&mut self, ticket: Ticket) {
        assert_eq!(ticket.0, self.first_ticket + self.parts.len() as u64, "a ticket is for the next reply");
        self.parts.push_back(Part::Waiting);
        self.waiting += 1;
    }

    /// Notes that the last reply, which begins at `start` of its buffer, waits for commits. `gates`: the number of
    /// gates when this batch of requests began. The log records of one batch become durable together, so that one gate
    /// serves for all of it.
    #[inline]
    fn hold(&mut self, start: usize, wait: Wait, gates: usize) {
        match self.parts.back_mut() {
            None if gates < self.gates.len() => {
                if let Some(gate) = self.gates.back_mut() {
                    gate.wait = gate.wait.merge(wait);
                }
            }
            None => self.push_gate(start, wait),
            Some(Part::Done(_, held)) => *held = held.merge(wait),
            Some(Part::Waiting) => unreachable!("a reply was just put behind it"),
        }
    }

    fn push_gate(&mut self, start: usize, wait: Wait) {
        // A gate behind one that covers it would never hold anything.
        if self.gates.back().is_none_or(|gate| !gate.wait.covers(wait)) {
            self.gates.push_back(Gate { start, wait });
        }
    }

    /// Returns the commits that the last of the held replies waits for, if any. Call [`take_output`](Self::take_output)
    /// again when these are done.
    #[inline]
    pub fn held_until(&self) -> Option<Wait> {
        self.gates.back().map(|gate| gate.wait)
    }

    /// Takes the output that may be sent now that `committed` is; `None` if there is none.
    #[inline]
    pub fn take_output(&mut self, committed: Committed) -> Option<Vec<u8>> {
        if !self.gates.is_empty() {
            return self.take_behind_gates(committed);
        }
        if self.output.is_empty() { None } else { Some(std::mem::take(&mut self.output)) }
    }

    fn take_behind_gates(&mut self, committed: Committed) -> Option<Vec<u8>> {
        while self.gates.front().is_some_and(|gate| gate.wait.is_met(committed)) {
            self.gates.pop_front();
        }
        let Some(&Gate { start, .. }) = self.gates.front() else {
            give_back(&mut self.gates);
            return self.take_output(committed);
        };
        if start == 0 {
            return None;
        }
        let held = self.output.split_off(start);
        self.gates.iter_mut().for_each(|gate| gate.start -= start);
        Some(std::mem::replace(&mut self.output, held))
    }

    /// Takes the reply for a ticket, and the commits that it waits for. The reply and those queued behind it become
    /// output, once all replies before it have come.
    ///
    /// # Panics
    /// If the ticket is not of this session, or was completed before.
    pub fn complete(&mut self, ticket: Ticket, mut reply: Vec<u8>, held: Wait) {
        if let Protocol::Http(exchange) = &mut self.protocol {
            exchange.finish(ticket, &mut reply);
        }
        let position = ticket.0.checked_sub(self.first_ticket).expect("a ticket is answered once") as usize;
        assert!(matches!(self.parts.get(position), Some(Part::Waiting)), "a ticket is answered once");
        self.reply_bytes = reply.len().max(self.reply_bytes.midpoint(reply.len()));
        self.queued += reply.len();
        self.opened = self.opened.saturating_add(1);
        self.parts[position] = Part::Done(reply, held);
        self.waiting -= 1;
        while let Some(Part::Done(..)) = self.parts.front() {
            if let Some(Part::Done(bytes, held)) = self.parts.pop_front() {
                if !held.is_none() {
                    self.push_gate(self.output.len(), held);
                }
                // A protocol error's text is not counted.
                self.queued = self.queued.saturating_sub(bytes.len());
                if self.output.is_empty() {
                    self.output = bytes;
                } else {
                    self.output.extend_from_slice(&bytes);
                }
            }
            self.first_ticket += 1;
        }
        give_back(&mut self.parts);
    }
}

/// Frees the memory of an empty queue that has been long.
#[inline]
fn give_back<T>(queue: &mut VecDeque<T>) {
    if QUEUE_KEPT < queue.capacity() && queue.is_empty() {
        *queue = VecDeque::new();
    }
}

#[cfg(test)]
mod tests;
