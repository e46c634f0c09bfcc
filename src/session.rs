//! A client's connection as the server sees it: what it sent, what it is owed, in order, and what of that may leave.
//!
//! A request is executed as soon as it is whole. Its reply goes straight into [`Session::output`], unless an earlier
//! reply has to wait for another core: then it queues behind that one, and leaves with it.

mod http;

use crate::{
    http::Limits as HttpLimits,
    resp::{Decoder, Limits, ProtocolError, Request},
    wait::{Committed, Wait},
};
use http::Exchange;
use std::collections::VecDeque;

/// Numbers a reply that has to wait. Unique within its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket(pub u64);

/// What came of a request, as a session needs to know it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The reply is in the output, or there is none.
    Here,
    /// As [`Here`](Self::Here), but it waits until this is committed.
    Held(Wait),
    /// The reply will come under the ticket that the request was given.
    Later,
    /// The reply is in the output and waits for this, if for anything; it is the last.
    Last(Wait),
    /// As [`Later`](Self::Later), and the reply is the last: no request behind this one is executed.
    LastLater,
    /// The request was not executed: it needs values that have to be fetched first. It is shown again after
    /// [`Session::resume`].
    NotYet,
}

/// Returns true if a request names the password that it is shown.
pub type HasPassword<'a> = &'a dyn Fn(&[u8]) -> bool;

/// Executes a session's requests.
pub trait Executor {
    /// What the arguments of a request say by themselves, found once.
    type Resolved: Copy;

    /// What the next request may cost.
    fn limits(&self) -> Limits;
    /// Finds what a request's arguments say by themselves.
    fn resolve(&self, request: Request<'_>) -> Self::Resolved;
    /// Looks at a request that will be executed soon, to have at hand what it needs.
    fn foresee(&mut self, request: Request<'_>, resolved: &Self::Resolved);
    /// All have been shown that will be executed soon.
    fn fetch_foreseen(&mut self);
    /// Whether no request may be executed for the time being, whoever sent it: the log is too far behind.
    fn is_stalled(&self) -> bool;
    /// Executes a request. Its reply goes to `output`, or will be given to [`Session::complete`] with this ticket.
    fn execute(
        &mut self,
        request: Request<'_>,
        resolved: Self::Resolved,
        output: &mut Vec<u8>,
        ticket: Ticket,
    ) -> Answer;

    /// What the next HTTP request may cost. This and what follows is asked for HTTP sessions alone.
    fn http_limits(&self) -> HttpLimits {
        let limits = self.limits();
        HttpLimits::new(limits.argument_bytes_max, limits.argument_bytes_max, limits.arguments_max, usize::MAX >> 2)
    }
    /// Seconds since 1970, for the `Date` header.
    fn unix_seconds(&self) -> u64 {
        0
    }
    /// Returns true if the password that the next request names is not to be looked at yet: the client has sent wrong ones. The
    /// request is shown again after [`Session::resume`].
    fn must_wait(&mut self) -> bool {
        false
    }
    /// Lets the client in for its next request, or not: each names its password. `has_password` says whether it names the one
    /// that it is shown; `None` where it names none. Returns whether the client is in.
    fn authenticate(&mut self, _has_password: Option<HasPassword<'_>>) -> bool {
        true
    }
    /// Returns true if a request to this host, with a port or without, may be for this server.
    fn is_own_host(&self, _authority: &[u8]) -> bool {
        true
    }
    /// Host and port of the other server that owns a key; `None` where this one does.
    fn elsewhere(&self, _key: &[u8]) -> Option<(&str, u16)> {
        None
    }
    /// The client speaks HTTP, and calls itself so (`User-Agent`).
    fn introduce(&mut self, _agent: &[u8]) {}
    /// A request was refused before anything was executed.
    fn note_refusal(&mut self) {}
}

/// What a connection speaks.
#[derive(Debug, Default)]
enum Protocol {
    /// The Redis protocol.
    #[default]
    Resp,
    /// That or HTTP: its first line has not come.
    Undecided,
    /// HTTP.
    Http(Box<Exchange>),
}

/// When a session stops executing what it has received, until it has been rid of some of what it owes.
#[derive(Clone, Copy, Debug)]
pub struct Backpressure {
    /// Bytes of replies that nobody has taken.
    pub output_bytes_max: usize,
    /// Replies that others have not given yet.
    pub waiting_max: usize,
}

/// A reply, or several in a row, that can't leave yet.
#[derive(Debug)]
enum Part {
    Waiting,
    /// Replies, and what the last of them that is held waits for.
    Done(Vec<u8>, Wait),
}

/// Bytes of the output from `start` on wait for this.
#[derive(Clone, Copy, Debug)]
struct Gate {
    start: usize,
    wait: Wait,
}

/// What is there only while a request is not whole, or may not be executed yet.
#[derive(Debug, Default)]
struct Unread {
    bytes: Vec<u8>,
    /// How much of `bytes` has been executed.
    used: usize,
    decoder: Decoder,
}

impl Unread {
    /// Moves what is left to the front once it is the smaller part, so that each byte is moved about once.
    fn compact(&mut self) {
        if self.bytes.len() < self.used * 2 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
    }
}

/// Requests that are cut before the first of them is executed, so that the memory which they need is fetched for all of them
/// at once instead of for one after the other.
const AHEAD: usize = 32;

/// Bytes that a session may have received while it is suspended before it is not read from any more: these, or twice what it may
/// be owed where that is less, as before AUTH.
const UNREAD_MAX: usize = 64 * 1024;

/// Room for so many gates or parts is kept once there are none: what a common pipeline needs, some 2 KiB.
const QUEUE_KEPT: usize = 64;

/// Replies that may be waited for before the first of them has come, of whatever size it will be.
const WINDOW_AT_FIRST: usize = 32;

/// One connection's requests and replies. Idle, it holds no buffer.
#[derive(Debug, Default)]
pub struct Session {
    protocol: Protocol,
    unread: Option<Box<Unread>>,
    /// Replies that may leave, in order, but for those behind a gate.
    pub output: Vec<u8>,
    /// What parts of the output wait for; both ascend.
    gates: VecDeque<Gate>,
    /// Replies behind one that has not come; the first is always waiting.
    parts: VecDeque<Part>,
    /// The ticket of the first of `parts`.
    first_ticket: u64,
    waiting: usize,
    /// Bytes in `parts`.
    queued: usize,
    /// The size of the replies that came of late: the last, or the mean with those before where that is larger.
    reply_bytes: usize,
    /// How many replies have come, up to what may be waited for: see [`window`](Self::window).
    opened: usize,
    /// Requests were left that could have been executed, because the session was blocked. Who has read this gives it what
    /// is left (`receive` of no bytes) once it is not blocked any more.
    pub has_waited: bool,
    /// The next request waits for values that are being fetched.
    is_suspended: bool,
    /// The peer will send no more.
    pub ended: bool,
    /// No more requests are executed; it is closed when what it is owed has left.
    pub closing: bool,
}

impl Session {
    /// A session that may turn out to speak HTTP.
    pub fn undecided() -> Self {
        Self { protocol: Protocol::Undecided, ..Self::default() }
    }

    /// Whether the peer may still be sending what nobody will read: to close at once could cost it the last reply.
    pub fn lingers(&self) -> bool {
        matches!(&self.protocol, Protocol::Http(exchange) if exchange.lingers) && !self.ended
    }

    /// Whether requests wait for replies to leave before they are executed. Who feeds the session should stop.
    pub fn is_blocked(&self, limit: &Backpressure) -> bool {
        self.is_suspended || self.is_full(limit)
    }

    /// Whether as much is owed as may be.
    fn is_full(&self, limit: &Backpressure) -> bool {
        limit.output_bytes_max <= self.output.len() + self.queued
            || (self.waiting != 0 && self.window(limit) <= self.waiting)
    }

    /// Whether the next request waits for values that are being fetched: not for long, so that more may be received until
    /// then.
    pub fn is_suspended(&self) -> bool {
        self.is_suspended
    }

    /// Returns true if the session should be given no more: more is owed than may be, or more waits to be executed than a session
    /// should have that can't execute it at once.
    pub fn has_enough(&self, limit: &Backpressure) -> bool {
        let waits = self.is_suspended || self.has_waited;
        self.is_full(limit) || (waits && UNREAD_MAX.min(limit.output_bytes_max.saturating_mul(2)) < self.unread_bytes())
    }

    /// The values are there: the next request may be executed, by `receive` of no bytes.
    pub fn resume(&mut self) {
        self.is_suspended = false;
        self.has_waited = false;
    }

    /// Whether replies are still to come from elsewhere.
    pub fn is_waiting(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Whether nothing more will leave: no more is executed, and all replies have left.
    pub fn is_finished(&self) -> bool {
        self.closing && self.output.is_empty() && self.parts.is_empty()
    }

    /// Whether whole requests may be left to execute.
    pub fn has_unread(&self) -> bool {
        self.unread.as_ref().is_some_and(|unread| unread.used < unread.bytes.len())
    }

    /// How many replies may be waited for: as many as would fit into the output if they were as large as the last ones,
    /// so that a client which doesn't read what it asked for from another core costs little more than one that asks here.
    /// Before any has come, few; with each that comes, one more.
    fn window(&self, limit: &Backpressure) -> usize {
        let opened = (WINDOW_AT_FIRST + self.opened).min(limit.waiting_max).max(1);
        (limit.output_bytes_max / self.reply_bytes.max(1)).clamp(1, opened)
    }

    /// Bytes of replies that have not left.
    pub fn owed_bytes(&self) -> usize {
        self.output.len() + self.queued
    }

    /// Bytes that were received and not executed.
    pub fn unread_bytes(&self) -> usize {
        self.unread.as_ref().map_or(0, |unread| unread.bytes.len() - unread.used)
    }

    /// Executes every whole request in what was kept and in `bytes`, and keeps the rest: a request that is not whole, or
    /// all that is behind the one that blocked the session. `scratch` is any decoder between requests.
    ///
    /// # Errors
    /// [`ProtocolError`], after which the session is closing; the error is to be told the client.
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

    /// Returns how many bytes were used.
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
                // What follows was cut within limits that AUTH may just have changed.
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

    /// Where the next reply goes, and the ticket for it should it have to wait.
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

    /// Counts what was appended to the last part behind its first `length` bytes.
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

    /// Notes that the reply which begins at `start` of the last part is held. `gates`: how many there were when this batch of
    /// requests began. What one batch wrote is on disk at once, so that one gate serves for all of it.
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
        // Behind a gate that opens later, another is none.
        if self.gates.back().is_none_or(|gate| !gate.wait.covers(wait)) {
            self.gates.push_back(Gate { start, wait });
        }
    }

    /// Returns what the last replies wait for, if anything: call [`take_output`](Self::take_output) again when that is committed.
    #[inline]
    pub fn held_until(&self) -> Option<Wait> {
        self.gates.back().map(|gate| gate.wait)
    }

    /// Takes what may leave now that so much is committed; `None` where there is nothing.
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

    /// Takes the reply that a ticket stands for, and what it waits for; it and what queued behind it may leave then.
    ///
    /// # Panics
    /// Where the ticket was not given by this session, or was answered before.
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

/// Gives back the room of a queue that has been long and is empty.
#[inline]
fn give_back<T>(queue: &mut VecDeque<T>) {
    if QUEUE_KEPT < queue.capacity() && queue.is_empty() {
        *queue = VecDeque::new();
    }
}

#[cfg(test)]
mod tests;
