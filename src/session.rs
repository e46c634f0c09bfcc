//! A client's connection as the server sees it: what it sent, what it is owed, in order, and what of that may leave.
//!
//! A request is executed as soon as it is whole. Its reply goes straight into [`Session::output`], unless an earlier
//! reply has to wait for another core: then it queues behind that one, and leaves with it.

use crate::resp::{Decoder, Limits, ProtocolError, Request};
use std::collections::VecDeque;

/// Numbers a reply that has to wait. Unique within its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket(pub u64);

/// What came of a request, as a session needs to know it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The reply is in the output, or there is none.
    Here,
    /// The reply will come under the ticket that the request was given.
    Later,
    /// The reply is in the output, and is the last.
    Last,
}

/// Executes a session's requests.
pub trait Executor {
    /// What the next request may cost.
    fn limits(&self) -> Limits;
    /// Looks at a request that will be executed soon, to have at hand what it needs.
    fn foresee(&self, request: Request<'_>);
    /// Executes a request. Its reply goes to `output`, or will be given to [`Session::complete`] with this ticket.
    fn execute(&mut self, request: Request<'_>, output: &mut Vec<u8>, ticket: Ticket) -> Answer;
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
    Done(Vec<u8>),
}

/// What is there only while a request is not whole, or may not be executed yet.
#[derive(Debug, Default)]
struct Unread {
    bytes: Vec<u8>,
    /// How much of `bytes` has been executed.
    used: usize,
    decoder: Decoder,
}

/// Requests that are cut before the first of them is executed, so that the memory which they need is fetched for all of them
/// at once instead of for one after the other.
const AHEAD: usize = 32;

/// One connection's requests and replies. Idle, it holds no buffer.
#[derive(Debug, Default)]
pub struct Session {
    unread: Option<Box<Unread>>,
    /// Replies that may leave, in order.
    pub output: Vec<u8>,
    /// Replies behind one that has not come; the first is always waiting.
    parts: VecDeque<Part>,
    /// The ticket of the first of `parts`.
    first_ticket: u64,
    waiting: usize,
    /// The size of the replies that came of late: the last, or the mean with those before where that is larger.
    reply_bytes: usize,
    /// The peer will send no more.
    pub ended: bool,
    /// No more requests are executed; it is closed when what it is owed has left.
    pub closing: bool,
}

impl Session {
    /// Whether requests wait for replies to leave before they are executed. Who feeds the session should stop.
    pub fn is_blocked(&self, limit: &Backpressure) -> bool {
        limit.output_bytes_max <= self.output.len() || self.window(limit) <= self.waiting
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
    fn window(&self, limit: &Backpressure) -> usize {
        (limit.output_bytes_max / self.reply_bytes.max(1)).clamp(1, limit.waiting_max)
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
        // Moves what is left to the front once it is the smaller part, so that each byte is moved about once.
        if bytes.len() < *used * 2 {
            bytes.drain(..*used);
            *used = 0;
        }
        self.unread = Some(unread);
        Ok(())
    }

    /// Returns how many bytes were used.
    #[inline]
    fn execute_all(
        &mut self,
        bytes: &[u8],
        decoder: &mut Decoder,
        backpressure: &Backpressure,
        executor: &mut impl Executor,
    ) -> Result<usize, ProtocolError> {
        let mut used = 0;
        while used < bytes.len() && !self.closing && !self.is_blocked(backpressure) {
            let rest = &bytes[used..];
            let limits = executor.limits();
            let count = decoder.decode_ahead(rest, &limits, AHEAD).inspect_err(|_| self.closing = true)?;
            if count == 0 {
                break;
            }
            if 1 < count {
                (0..count)
                    .filter_map(|position| decoder.request_at(rest, position).0)
                    .for_each(|r| executor.foresee(r));
            }
            let mut end = 0;
            for position in 0..count {
                let (request, next) = decoder.request_at(rest, position);
                end = next;
                let Some(request) = request else { continue };
                let (output, ticket) = self.tail();
                match executor.execute(request, output, ticket) {
                    Answer::Here => {}
                    Answer::Later => self.defer(ticket),
                    Answer::Last => self.closing = true,
                }
                // What follows was cut within limits that AUTH may just have changed.
                if self.closing || self.is_blocked(backpressure) || executor.limits() != limits {
                    break;
                }
            }
            used += end;
        }
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
        if !matches!(self.parts.back(), Some(Part::Done(_))) {
            self.parts.push_back(Part::Done(Vec::new()));
        }
        let ticket = Ticket(self.first_ticket + self.parts.len() as u64);
        match self.parts.back_mut() {
            Some(Part::Done(bytes)) => (bytes, ticket),
            _ => unreachable!("it was just pushed"),
        }
    }

    fn defer(&mut self, ticket: Ticket) {
        assert_eq!(ticket.0, self.first_ticket + self.parts.len() as u64, "a ticket is for the next reply");
        self.parts.push_back(Part::Waiting);
        self.waiting += 1;
    }

    /// Takes the reply that a ticket stands for; it and what queued behind it may leave now.
    ///
    /// # Panics
    /// Where the ticket was not given by this session, or was answered before.
    pub fn complete(&mut self, ticket: Ticket, reply: Vec<u8>) {
        let position = ticket.0.checked_sub(self.first_ticket).expect("a ticket is answered once") as usize;
        assert!(matches!(self.parts.get(position), Some(Part::Waiting)), "a ticket is answered once");
        self.reply_bytes = reply.len().max(self.reply_bytes.midpoint(reply.len()));
        self.parts[position] = Part::Done(reply);
        self.waiting -= 1;
        while let Some(Part::Done(_)) = self.parts.front() {
            if let Some(Part::Done(bytes)) = self.parts.pop_front() {
                if self.output.is_empty() {
                    self.output = bytes;
                } else {
                    self.output.extend_from_slice(&bytes);
                }
            }
            self.first_ticket += 1;
        }
    }
}
