//! Requests, as they are cut out of bytes.
//!
//! Nothing is copied: a [`Request`] points into the bytes it was cut from. The decoder remembers how far it came, so that
//! a request of a million arguments that arrives in a thousand pieces costs what one in a single piece costs.

use super::{
    decimal::parse_i64,
    inline::{is_http, split_words},
    request::{Request, Span, Words},
};
use std::fmt;

/// Limits of a request. A request over a limit is a [`ProtocolError`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The most arguments of a request, its command included.
    pub arguments_max: usize,
    /// The most bytes of one argument.
    pub argument_bytes_max: usize,
    /// True if these are the limits of a client that has authenticated; the error of the others says so.
    pub is_authenticated: bool,
}

/// An inline command is at most this long, as in Redis: who sends more without a line end is not typing. Before AUTH it is as long
/// as all the arguments together that such a client may send: see [`Limits::line_bytes_max`].
const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Arguments whose room is kept for the next request: 128 KiB of it.
const SPANS_KEPT: usize = 16 * 1024;
/// The header of an array or a bulk string is at most this long: a sign, 19 digits, and room for zeros in front.
const HEADER_BYTES_MAX: usize = 32;

/// Why a connection's bytes are not the Redis protocol. The connection is told and closed: where the next request would
/// begin is unknown. The texts are Redis's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProtocolError {
    /// The array header is no number, or over [`Limits::arguments_max`].
    MultibulkLength,
    /// Too many arguments like [`Self::MultibulkLength`], before the client has authenticated.
    UnauthenticatedMultibulkLength,
    /// A bulk header is no number, negative, or over [`Limits::argument_bytes_max`].
    BulkLength,
    /// Too long an argument like [`Self::BulkLength`], before the client has authenticated.
    UnauthenticatedBulkLength,
    /// Something other than a bulk string stands in a request.
    ExpectedBulk(u8),
    /// Too long an inline line: the most bytes of a line, and no end.
    InlineTooLong,
    /// An array header without a line end.
    MultibulkHeaderTooLong,
    /// A bulk header without a line end.
    BulkHeaderTooLong,
    /// An inline command whose quotes do not close.
    UnbalancedQuotes,
    /// A line of an HTTP request. A web page can make a browser send one to any port, with commands in the body: nothing that
    /// follows may be executed.
    Http,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Protocol error: ")?;
        match self {
            Self::MultibulkLength => formatter.write_str("invalid multibulk length"),
            Self::UnauthenticatedMultibulkLength => formatter.write_str("unauthenticated multibulk length"),
            Self::BulkLength => formatter.write_str("invalid bulk length"),
            Self::UnauthenticatedBulkLength => formatter.write_str("unauthenticated bulk length"),
            Self::ExpectedBulk(byte) => write!(formatter, "expected '$', got '{}'", char::from(*byte)),
            Self::InlineTooLong => formatter.write_str("too big inline request"),
            Self::MultibulkHeaderTooLong => formatter.write_str("too big mbulk count string"),
            Self::BulkHeaderTooLong => formatter.write_str("too big bulk count string"),
            Self::UnbalancedQuotes => formatter.write_str("unbalanced quotes in request"),
            Self::Http => formatter.write_str("an HTTP request where the Redis protocol is spoken"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// The result of decoding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decoded {
    /// A request; the next one begins this many bytes after its start. [`Decoder::request`] shows it.
    Request(usize),
    /// Nothing to execute (an empty line or an empty array); the next request begins this many bytes on.
    Empty(usize),
    /// The end of the request has not arrived. Call again with the same bytes and more behind them.
    Incomplete,
}

/// Cuts requests out of bytes: one at a time, or several ahead of their execution.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The arguments of all requests that were cut, and of the one that is being cut.
    spans: Vec<Span>,
    /// The requests that were cut by the last call.
    cuts: Vec<Cut>,
    /// Arguments of an inline command, whose quotes are taken off.
    inline: Vec<u8>,
    is_inline: bool,
    /// The position to go on from in a request whose end has not arrived; 0 where none has begun.
    position: usize,
    /// Arguments that have not been seen yet, once the array header has been.
    remaining: usize,
    /// Room for a request that is put together from another protocol's.
    pub words: Words,
}

/// A request among several.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Its arguments among all.
    first_span: u32,
    end_span: u32,
    /// The position of the next request.
    end: usize,
}

impl Decoder {
    /// Looks for a request at the start of `bytes`. After [`Decoded::Incomplete`], `bytes` must begin with what it began
    /// with before.
    ///
    /// # Errors
    /// [`ProtocolError`] where the bytes can't become a request, whatever follows.
    pub fn decode(&mut self, bytes: &[u8], limits: &Limits) -> Result<Decoded, ProtocolError> {
        let count = self.decode_ahead(bytes, limits, 1)?;
        if count == 0 {
            return Ok(Decoded::Incomplete);
        }
        let cut = self.cuts[0];
        Ok(if cut.first_span == cut.end_span { Decoded::Empty(cut.end) } else { Decoded::Request(cut.end) })
    }

    /// Cuts all whole requests at the start of `bytes`, `max` (at least 1) at most, and returns how many there are; among
    /// them are those that ask nothing (an empty line or array). [`request_at`](Self::request_at) shows them. After 0,
    /// `bytes` must begin with what it began with before.
    ///
    /// # Errors
    /// [`ProtocolError`] where the bytes can't become a request, whatever follows. What stands before them is cut first.
    #[inline]
    pub fn decode_ahead(&mut self, bytes: &[u8], limits: &Limits, max: usize) -> Result<usize, ProtocolError> {
        self.cuts.clear();
        if self.position == 0 {
            self.spans.clear();
            if SPANS_KEPT < self.spans.capacity() {
                self.spans = Vec::new();
            }
        }
        let mut start = 0;
        while self.cuts.len() < max {
            let is_first = self.cuts.is_empty();
            // One inline command at a time: they share the memory that their quotes are taken off in.
            if !is_first && bytes.get(start) != Some(&b'*') {
                break;
            }
            let first_span = if is_first { 0 } else { self.spans.len() };
            match self.cut(bytes, start, limits) {
                Ok(Some(end)) => {
                    let (first_span, end_span) = (first_span as u32, self.spans.len() as u32);
                    self.cuts.push(Cut { first_span, end_span, end });
                    start = end;
                    if self.is_inline {
                        break;
                    }
                }
                Err(error) if is_first => {
                    // What it has seen of this client's request is none of the next one's.
                    self.position = 0;
                    self.remaining = 0;
                    return Err(error);
                }
                Ok(None) if is_first => break,
                Ok(None) | Err(_) => {
                    // It will be the first next time, and is then begun anew.
                    self.spans.truncate(first_span);
                    self.position = 0;
                    self.remaining = 0;
                    break;
                }
            }
        }
        Ok(self.cuts.len())
    }

    /// Cuts one request at `start`, or goes on where the last call stopped. Returns where it ends.
    #[inline]
    fn cut(&mut self, bytes: &[u8], start: usize, limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        if self.position == 0 {
            match bytes.get(start) {
                None => return Ok(None),
                Some(b'*') => {
                    let Some((count, at)) = header(bytes, start + 1, ProtocolError::MultibulkHeaderTooLong)? else {
                        return Ok(None);
                    };
                    let count = count.ok_or(ProtocolError::MultibulkLength)?;
                    if (limits.arguments_max as i64) < count {
                        return Err(limits.multibulk_error());
                    }
                    self.is_inline = false;
                    if count <= 0 {
                        return Ok(Some(at));
                    }
                    self.remaining = count as usize;
                    self.position = at;
                }
                Some(_) => return self.cut_inline(bytes, limits),
            }
        }
        while 0 < self.remaining {
            let Some(&sign) = bytes.get(self.position) else { return Ok(None) };
            if sign != b'$' {
                return Err(ProtocolError::ExpectedBulk(sign));
            }
            let Some((length, at)) = header(bytes, self.position + 1, ProtocolError::BulkHeaderTooLong)? else {
                return Ok(None);
            };
            let length = length.filter(|&length| 0 <= length).ok_or(ProtocolError::BulkLength)?;
            if (limits.argument_bytes_max as i64) < length {
                return Err(limits.bulk_error());
            }
            let length = length as usize;
            // The two bytes after it are a line end, which nobody checks, as in Redis.
            if bytes.len() < at + length + 2 {
                return Ok(None);
            }
            let (Ok(start), Ok(length)) = (u32::try_from(at), u32::try_from(length)) else {
                return Err(ProtocolError::BulkLength);
            };
            self.spans.push(Span { start, length });
            self.position = at + length as usize + 2;
            self.remaining -= 1;
        }
        let end = self.position;
        self.position = 0;
        Ok(Some(end))
    }

    /// The request that [`decode`](Self::decode) just found in `bytes`.
    #[inline]
    pub fn request<'a>(&'a self, bytes: &'a [u8]) -> Request<'a> {
        Request { bytes: if self.is_inline { &self.inline } else { bytes }, spans: &self.spans }
    }

    /// The request at this position among those that [`decode_ahead`](Self::decode_ahead) just cut from `bytes`, unless it
    /// asks nothing; and where the next one begins.
    #[inline]
    pub fn request_at<'a>(&'a self, bytes: &'a [u8], position: usize) -> (Option<Request<'a>>, usize) {
        let cut = self.cuts[position];
        let spans = &self.spans[cut.first_span as usize..cut.end_span as usize];
        let bytes = if self.is_inline { &self.inline } else { bytes };
        ((!spans.is_empty()).then_some(Request { bytes, spans }), cut.end)
    }

    /// Bytes of memory that the decoder holds on to.
    pub fn memory(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.cuts.capacity() * size_of::<Cut>() + self.inline.capacity()
    }

    #[cold]
    fn cut_inline(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        let bytes_max = limits.line_bytes_max();
        let window = &bytes[..bytes.len().min(bytes_max)];
        let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
            return if window.len() < bytes_max { Ok(None) } else { Err(ProtocolError::InlineTooLong) };
        };
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        if is_http(line) {
            return Err(ProtocolError::Http);
        }
        self.inline.clear();
        self.is_inline = true;
        split_words(line, &mut self.inline, &mut self.spans)?;
        if !limits.is_authenticated {
            limits.check_words(&self.spans)?;
        }
        Ok(Some(end + 1))
    }
}

impl Limits {
    /// Limits of a client before it has authenticated, as in Redis: eight arguments, with room for a long password.
    pub const UNAUTHENTICATED: Self = Self { arguments_max: 8, argument_bytes_max: 1024, is_authenticated: false };

    /// Returns the length that a line may have, its end included.
    pub fn line_bytes_max(&self) -> usize {
        let arguments = self.arguments_max.saturating_mul(self.argument_bytes_max);
        if self.is_authenticated { INLINE_BYTES_MAX } else { INLINE_BYTES_MAX.min(arguments) }
    }

    /// Checks the words of an inline command.
    fn check_words(&self, words: &[Span]) -> Result<(), ProtocolError> {
        if self.arguments_max < words.len() {
            return Err(self.multibulk_error());
        }
        let is_short = |word: &Span| word.length as usize <= self.argument_bytes_max;
        if words.iter().all(is_short) { Ok(()) } else { Err(self.bulk_error()) }
    }

    fn multibulk_error(&self) -> ProtocolError {
        if self.is_authenticated {
            ProtocolError::MultibulkLength
        } else {
            ProtocolError::UnauthenticatedMultibulkLength
        }
    }

    fn bulk_error(&self) -> ProtocolError {
        if self.is_authenticated { ProtocolError::BulkLength } else { ProtocolError::UnauthenticatedBulkLength }
    }
}

/// Reads the number from `start` to the line end: `None` where the line end has not arrived; else the number (`None`
/// where it is none, or no `i64`) and the position behind the line end.
#[inline]
fn header(bytes: &[u8], start: usize, too_long: ProtocolError) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
    // Nearly every header is a few digits and a line end.
    let mut value: i64 = 0;
    let mut at = start;
    while at < start + 18 {
        let Some(&byte) = bytes.get(at) else { return Ok(None) };
        let digit = byte.wrapping_sub(b'0');
        if 9 < digit {
            break;
        }
        value = value * 10 + i64::from(digit);
        at += 1;
    }
    if start < at && bytes.get(at) == Some(&b'\r') {
        return Ok((at + 1 < bytes.len()).then_some((Some(value), at + 2)));
    }
    header_slow(bytes, start, too_long)
}

#[cold]
fn header_slow(
    bytes: &[u8],
    start: usize,
    too_long: ProtocolError,
) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
    let window = &bytes[start..bytes.len().min(start + HEADER_BYTES_MAX)];
    let Some(length) = window.iter().position(|&byte| byte == b'\r') else {
        return if window.len() < HEADER_BYTES_MAX { Ok(None) } else { Err(too_long) };
    };
    let at = start + length + 2;
    Ok((at <= bytes.len()).then(|| (parse_i64(&bytes[start..start + length]), at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::encode_request;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { arguments_max: 1 << 20, argument_bytes_max: 512 << 20, is_authenticated: true };

    type Words = Vec<Vec<u8>>;

    /// Feeds `bytes` in pieces that end at `cuts`, as a session does, and returns all requests.
    fn decode_in_pieces(bytes: &[u8], mut cuts: Vec<usize>, limits: &Limits) -> Result<Vec<Words>, ProtocolError> {
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let (mut decoder, mut start, mut requests) = (Decoder::default(), 0, Vec::new());
        for end in cuts {
            loop {
                match decoder.decode(&bytes[start..end], limits)? {
                    Decoded::Incomplete => break,
                    Decoded::Empty(used) => start += used,
                    Decoded::Request(used) => {
                        let request = decoder.request(&bytes[start..end]);
                        requests.push(request.args_from(0).map(<[u8]>::to_vec).collect());
                        start += used;
                    }
                }
            }
        }
        Ok(requests)
    }

    fn decode(bytes: &str) -> Result<Vec<Words>, ProtocolError> {
        decode_in_pieces(bytes.as_bytes(), Vec::new(), &LIMITS)
    }

    proptest! {
        /// However the network cuts the bytes, the requests are the same.
        #[test]
        fn any_split_of_the_bytes_gives_the_same_requests(
            requests in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let mut bytes = Vec::new();
            for request in &requests {
                encode_request(&mut bytes, request.iter().map(Vec::as_slice));
                bytes.extend_from_slice(b"*0\r\n\r\n");
            }
            let cuts = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            prop_assert_eq!(decode_in_pieces(&bytes, cuts, &LIMITS), Ok(requests));
        }

        /// Garbage is an error or incomplete, never a panic, and the same however it is cut.
        #[test]
        fn any_split_of_garbage_gives_the_same_answer(
            bytes in prop::collection::vec(prop_oneof![
                Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'"'), Just(b'-'), b'0'..=b'9', any::<u8>()], 0..80),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
        ) {
            let cuts = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            let limits = Limits { arguments_max: 64, argument_bytes_max: 64, is_authenticated: true };
            prop_assert_eq!(decode_in_pieces(&bytes, cuts, &limits), decode_in_pieces(&bytes, vec![], &limits));
        }
    }

    /// Redis's own texts for what is not its protocol.
    #[test]
    fn what_cannot_become_a_request_is_refused_in_the_words_of_redis() {
        for (bytes, text) in [
            ("*abc\r\n", "invalid multibulk length"),
            ("*1048577\r\n", "invalid multibulk length"),
            ("*99999999999999999999\r\n", "invalid multibulk length"),
            ("*1\r\n$-1\r\n", "invalid bulk length"),
            ("*1\r\n$536870913\r\n", "invalid bulk length"),
            ("*1\r\n$18446744073709551615\r\n", "invalid bulk length"),
            ("*1\r\n:5\r\n", "expected '$', got ':'"),
            (&format!("*{}", "1".repeat(40)), "too big mbulk count string"),
            (&format!("*1\r\n${}", "1".repeat(40)), "too big bulk count string"),
            (&"a".repeat(70_000), "too big inline request"),
        ] {
            let error = decode(bytes).expect_err("it is no request");
            assert_eq!(error.to_string(), format!("Protocol error: {text}"));
        }
    }

    /// A core has one decoder for all clients: what one of them has begun is not taken for the next one's.
    #[test]
    fn an_error_leaves_a_decoder_as_new() {
        for bytes in ["*2\r\n$3\r\nGET\r\n:5\r\n", "*2\r\n!", "*3\r\n$1\r\na\r\n$-1\r\n", "set k 'a\n", "*x\r\n"] {
            let mut decoder = Decoder::default();
            decoder.decode(bytes.as_bytes(), &LIMITS).expect_err("it is no request");
            let whole = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
            assert_eq!(decoder.decode(whole, &LIMITS), Ok(Decoded::Request(whole.len())), "{bytes:?}");
            assert_eq!(decoder.request(whole).args_from(0).collect::<Vec<_>>(), [&b"GET"[..], b"k"], "{bytes:?}");
        }
    }

    /// The memory of a large request is freed before the next one.
    #[test]
    fn a_large_request_leaves_no_memory_behind() {
        let limits = Limits { arguments_max: 1 << 20, argument_bytes_max: 100, is_authenticated: true };
        let mut decoder = Decoder::default();
        let large = [b"*100000\r\n".to_vec(), b"$1\r\na\r\n".repeat(100_000)].concat();
        assert_eq!(decoder.decode(&large, &limits), Ok(Decoded::Request(large.len())));
        assert!(100_000 < decoder.memory());
        assert_eq!(decoder.decode(b"PING\r\n", &limits), Ok(Decoded::Request(6)));
        assert!(decoder.memory() < 2000, "{} bytes", decoder.memory());
        decoder.words.begin(b"SET");
        decoder.words.push(&vec![b'v'; 1 << 20]);
        decoder.words.give_back();
        assert_eq!(decoder.words.memory(), 0);
    }

    /// A header that promises half a gigabyte reserves nothing.
    #[test]
    fn a_promise_takes_no_memory() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(b"*1048576\r\n$536870912\r\nab", &LIMITS), Ok(Decoded::Incomplete));
        assert_eq!(decoder.memory(), 0);
    }

    #[test]
    fn who_has_not_authenticated_may_send_little() {
        for (bytes, text) in [
            ("*9\r\n", "unauthenticated multibulk length"),
            ("*2\r\n$4\r\nAUTH\r\n$1025\r\n", "unauthenticated bulk length"),
            ("AUTH 1 2 3 4 5 6 7 8\n", "unauthenticated multibulk length"),
            (&format!("AUTH {}\n", "a".repeat(1025)), "unauthenticated bulk length"),
            (&"a".repeat(8192), "too big inline request"),
            (&format!("{}\n", " ".repeat(8192)), "too big inline request"),
        ] {
            let error = decode_in_pieces(bytes.as_bytes(), vec![], &Limits::UNAUTHENTICATED).expect_err("too much");
            assert_eq!(error.to_string(), format!("Protocol error: {text}"));
        }
        let longest = format!("AUTH{}{}\n", " ".repeat(8 * 1024 - 1024 - 5), "a".repeat(1024));
        assert_eq!(longest.len(), Limits::UNAUTHENTICATED.line_bytes_max());
        let found = decode_in_pieces(longest.as_bytes(), vec![], &Limits::UNAUTHENTICATED);
        assert_eq!(found.expect("it is within the limits").len(), 1);
    }
}
