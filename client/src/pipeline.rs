//! Requests in flight on a connection: asked for, handed over, and answered, in this order.
//!
//! No socket and no clock: the driver takes [`Pipeline::output`] to its socket and brings what arrived to
//! [`Pipeline::receive`]. A tag of the caller's own travels with each request and comes back with its reply.

use crate::reply::{Decoder, Reply, ReplyError};
use std::{collections::VecDeque, time::Duration};

/// Nanoseconds since a moment of the caller's choosing.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Returns the time from `earlier` until this; 0 if this is not later.
    #[inline]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This moment and a while.
    #[inline]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A request that waits for its reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pending<T> {
    /// The caller's name for it.
    pub tag: T,
    /// The time at which it was asked for.
    pub asked: Nanos,
    /// The time at which it was handed to the socket; `asked` until then.
    pub sent: Nanos,
}

/// Cuts replies out of the bytes of one connection: what a protocol is to a [`Pipeline`].
pub trait Cut {
    /// A whole reply, in the bytes it arrived in.
    type Reply<'a>;
    /// Why bytes are no reply. The connection is of no more use.
    type Error;

    /// Cuts the first reply, and says how many bytes it took; `None` where its end has not arrived. The same bytes come
    /// again then, with more behind them.
    ///
    /// # Errors
    /// Where no reply begins like this.
    fn cut<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Option<(Self::Reply<'a>, usize)>, Self::Error>;

    /// Returns true if this answers a request: some protocols send replies that nobody asked for.
    fn is_answer(reply: &Self::Reply<'_>) -> bool;

    /// The error where a reply that begins with this byte answers no request.
    fn unasked(first: u8) -> Self::Error;

    /// Returns true if the peer has said, with the last reply, that no other will come on this connection.
    fn is_over(&self) -> bool {
        false
    }

    /// The same for a new connection.
    #[must_use]
    fn renewed(&self) -> Self;
}

impl Cut for Decoder {
    type Reply<'a> = Reply<'a>;
    type Error = ReplyError;

    #[inline]
    fn cut<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Option<(Reply<'a>, usize)>, ReplyError> {
        self.decode(bytes)
    }

    #[inline]
    fn is_answer(reply: &Reply<'_>) -> bool {
        !matches!(reply, Reply::Push(_))
    }

    fn unasked(first: u8) -> ReplyError {
        ReplyError::Sign(first)
    }

    fn renewed(&self) -> Self {
        Self::default()
    }
}

/// One connection's requests and replies. Replies come in the order of their requests.
#[derive(Debug)]
pub struct Pipeline<T, C = Decoder> {
    output: Vec<u8>,
    /// The start of a reply whose end has not arrived.
    input: Vec<u8>,
    decoder: C,
    pending: VecDeque<Pending<T>>,
    /// The number of requests at the end of `pending` that are still in `output`.
    unsent: usize,
}

impl<T> Default for Pipeline<T> {
    fn default() -> Self {
        Self::new(Decoder::default())
    }
}

/// An input buffer that one big reply has grown beyond this is given back.
const INPUT_BYTES_KEPT: usize = 64 * 1024;

impl<T, C: Cut> Pipeline<T, C> {
    /// A connection whose replies are cut like this.
    pub fn new(decoder: C) -> Self {
        Self { output: Vec::new(), input: Vec::new(), decoder, pending: VecDeque::new(), unsent: 0 }
    }

    /// Asks for something: append exactly one request to the buffer that this returns.
    #[inline]
    pub fn request(&mut self, tag: T, now: Nanos) -> &mut Vec<u8> {
        self.pending.push_back(Pending { tag, asked: now, sent: now });
        self.unsent += 1;
        &mut self.output
    }

    /// Returns true if there is something to send.
    #[inline]
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Takes what is to be sent, and leaves `empty` for what comes next.
    #[inline]
    pub fn output(&mut self, now: Nanos, empty: Vec<u8>) -> Vec<u8> {
        let first = self.pending.len() - self.unsent;
        self.pending.range_mut(first..).for_each(|pending| pending.sent = now);
        self.unsent = 0;
        std::mem::replace(&mut self.output, empty)
    }

    /// The number of requests that wait for a reply, whether sent or not.
    #[inline]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Returns true if no request waits for a reply.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes what has arrived, and shows every whole reply with its request. What nobody asked for (a RESP3 push) is
    /// passed over, and so is what comes when the connection [is over](Self::is_over).
    ///
    /// # Errors
    /// [`Cut::Error`] where the bytes are no replies: the connection is of no more use. A reply without a request counts
    /// as such.
    #[inline]
    pub fn receive(
        &mut self,
        bytes: &[u8],
        mut on_reply: impl FnMut(Pending<T>, C::Reply<'_>),
    ) -> Result<(), C::Error> {
        if !self.input.is_empty() {
            return self.receive_rest(bytes, on_reply);
        }
        let used = self.answer_all(bytes, &mut on_reply)?;
        self.input.extend_from_slice(&bytes[used..]);
        Ok(())
    }

    /// Receives bytes like `receive`, if a reply has begun in earlier ones.
    fn receive_rest(
        &mut self,
        bytes: &[u8],
        mut on_reply: impl FnMut(Pending<T>, C::Reply<'_>),
    ) -> Result<(), C::Error> {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let used = self.answer_all(&input, &mut on_reply)?;
        input.drain(..used);
        if input.is_empty() && INPUT_BYTES_KEPT < input.capacity() {
            input = Vec::new();
        }
        self.input = input;
        Ok(())
    }

    /// Shows every whole reply, and returns how many bytes they took.
    #[inline]
    fn answer_all(
        &mut self,
        bytes: &[u8],
        on_reply: &mut impl FnMut(Pending<T>, C::Reply<'_>),
    ) -> Result<usize, C::Error> {
        let mut used = 0;
        while used < bytes.len() && !self.decoder.is_over() {
            let Some((reply, length)) = self.decoder.cut(&bytes[used..])? else { return Ok(used) };
            if C::is_answer(&reply) {
                if self.pending.len() == self.unsent {
                    return Err(C::unasked(bytes[used]));
                }
                on_reply(self.pending.pop_front().expect("more pending than unsent"), reply);
            }
            used += length;
        }
        Ok(if self.decoder.is_over() { bytes.len() } else { used })
    }

    /// Returns true if the peer has said that no more replies will come here: what is not answered yet needs another
    /// connection.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.decoder.is_over()
    }

    /// Returns true if the oldest request has waited longer than `timeout`. Replies are in order, so that nothing behind it can
    /// have been answered: the connection is stuck as a whole.
    #[inline]
    pub fn is_overdue(&self, now: Nanos, timeout: Duration) -> bool {
        self.pending.front().is_some_and(|oldest| oldest.asked.after(timeout) < now)
    }

    /// Forgets the connection: returns the requests that will not be answered, and is as new.
    pub fn fail(&mut self) -> impl Iterator<Item = Pending<T>> + use<T, C> {
        let failed = std::mem::replace(self, Self::new(self.decoder.renewed()));
        failed.pending.into_iter()
    }
}

/// The delay before the next attempt to connect: twice as long after each failure, from 10 ms to a second.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(1);

    /// An attempt has failed: how long to wait before the next.
    pub fn failed(&mut self) -> Duration {
        let delay = Self::FIRST.saturating_mul(1 << self.failures.min(16)).min(Self::LONGEST);
        self.failures += 1;
        delay
    }

    /// The connection works.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Replies find their requests, in order, however they are cut up.
        #[test]
        fn replies_find_their_requests(values in proptest::collection::vec(0_i64..1_000_000, 1..50), cut in 1_usize..20) {
            let mut pipeline = Pipeline::default();
            let mut bytes = Vec::new();
            for value in &values {
                pipeline.request(*value, Nanos(1)).extend_from_slice(b"GET");
                bytes.extend_from_slice(format!(":{value}\r\n").as_bytes());
            }
            prop_assert_eq!(pipeline.output(Nanos(2), Vec::new()).len(), values.len() * 3);
            let mut answered = Vec::new();
            for piece in bytes.chunks(cut) {
                pipeline.receive(piece, |pending, reply| {
                    assert_eq!(reply, Reply::Integer(pending.tag));
                    assert_eq!((pending.asked, pending.sent), (Nanos(1), Nanos(2)));
                    answered.push(pending.tag);
                }).unwrap();
            }
            prop_assert_eq!(answered, values);
            prop_assert!(pipeline.is_empty() && !pipeline.has_output());
        }
    }

    /// A reply far bigger than what arrives at once is whole in the end, and its buffer is given back.
    #[test]
    fn a_big_reply_comes_in_pieces() {
        let mut pipeline = Pipeline::default();
        let length = 3 * INPUT_BYTES_KEPT;
        let mut bytes = format!("${length}\r\n").into_bytes();
        bytes.resize(bytes.len() + length, b'x');
        bytes.extend_from_slice(b"\r\n");
        pipeline.request((), Nanos(0)).push(b'x');
        pipeline.output(Nanos(0), Vec::new());
        let mut answers = 0;
        for piece in bytes.chunks(16 * 1024) {
            let count = |_, reply: Reply<'_>| {
                assert!(matches!(reply, Reply::Bulk(value) if value.len() == length));
                answers += 1;
            };
            pipeline.receive(piece, count).unwrap();
        }
        assert_eq!((answers, pipeline.input.capacity()), (1, 0));
    }

    /// A reply that nobody waits for means that the connection is confused; a push does not.
    #[test]
    fn a_reply_needs_a_request() {
        let mut pipeline = Pipeline::<()>::default();
        assert!(pipeline.receive(b">1\r\n+invalidate\r\n", |_, _| unreachable!()).is_ok());
        pipeline.request((), Nanos(0)).push(b'x');
        assert!(pipeline.receive(b"+OK\r\n", |_, _| ()).is_err(), "it has not been sent yet");
    }

    /// The oldest request decides whether a connection is stuck, and a failure returns all that will not be answered.
    #[test]
    fn the_oldest_request_decides() {
        let mut pipeline = Pipeline::default();
        let timeout = Duration::from_nanos(10);
        assert!(!pipeline.is_overdue(Nanos(100), timeout));
        pipeline.request('a', Nanos(5)).push(b'a');
        pipeline.request('b', Nanos(50)).push(b'b');
        assert!(!pipeline.is_overdue(Nanos(15), timeout));
        assert!(pipeline.is_overdue(Nanos(16), timeout));
        assert_eq!(pipeline.fail().map(|pending| pending.tag).collect::<String>(), "ab");
        assert!(pipeline.is_empty() && !pipeline.has_output());
    }

    /// Waiting times double up to a second and begin again after a success.
    #[test]
    fn backoff_doubles_up_to_a_second() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..9).map(|_| backoff.failed().as_millis()).collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.succeeded();
        assert_eq!(backoff.failed().as_millis(), 10);
    }
}
