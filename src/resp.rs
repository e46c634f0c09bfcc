//! The Redis protocol on the wire: requests in (RESP arrays and inline commands), replies out (RESP2 and RESP3).
//!
//! The decoder copies nothing: a [`Request`] points into the bytes it was cut from. It remembers how far it came, so
//! that a request of a million arguments that arrives in a thousand pieces costs what one in a single piece costs.

use std::fmt;

/// How a client wants its replies: `HELLO 2` (as every connection begins) or `HELLO 3`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Version {
    /// RESP2: nulls are empty bulks, maps are flat arrays.
    #[default]
    Two,
    /// RESP3: its own null, maps, sets, booleans and doubles.
    Three,
}

/// What a request may cost before its sender is trusted. A request over a limit is a [`ProtocolError`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The most arguments of a request, its command included.
    pub arguments_max: usize,
    /// The most bytes of one argument.
    pub argument_bytes_max: usize,
    /// Whether these are the limits of a client that has authenticated; the others are told so.
    pub is_authenticated: bool,
}

/// An inline command is at most this long, as in Redis: who sends more without a line end is not typing.
const INLINE_BYTES_MAX: usize = 64 * 1024;
/// The header of an array or a bulk string is at most this long: a sign, 19 digits, and room for zeros in front.
const HEADER_BYTES_MAX: usize = 32;

/// Why a connection's bytes are not the Redis protocol. The connection is told and closed: where the next request would
/// begin is unknown. The texts are Redis's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProtocolError {
    /// The array header is no number, or over [`Limits::arguments_max`].
    MultibulkLength,
    /// As [`Self::MultibulkLength`], before the client has authenticated.
    UnauthenticatedMultibulkLength,
    /// A bulk header is no number, negative, or over [`Limits::argument_bytes_max`].
    BulkLength,
    /// As [`Self::BulkLength`], before the client has authenticated.
    UnauthenticatedBulkLength,
    /// Something other than a bulk string stands in a request.
    ExpectedBulk(u8),
    /// 64 KiB and no line end.
    InlineTooLong,
    /// An array header without a line end.
    MultibulkHeaderTooLong,
    /// A bulk header without a line end.
    BulkHeaderTooLong,
    /// An inline command whose quotes do not close.
    UnbalancedQuotes,
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
        }
    }
}

impl std::error::Error for ProtocolError {}

/// One argument's place in the bytes of its request. A request is at most 2^32 bytes behind its start; the decoder
/// refuses what goes beyond.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Span {
    start: u32,
    length: u32,
}

/// A whole request: the command's name and its arguments, in the bytes they arrived in.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Request<'a> {
    /// The number of arguments, the command's name included. At least 1.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a request has a name, so it is never empty")]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// The argument at `index`; 0 is the command's name.
    ///
    /// # Panics
    /// From [`len`](Self::len) on. Arity is checked before a command runs.
    #[inline]
    pub fn arg(&self, index: usize) -> &'a [u8] {
        let span = self.spans[index];
        &self.bytes[span.start as usize..][..span.length as usize]
    }

    /// The argument at `index`, or `None` past the last.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        (index < self.len()).then(|| self.arg(index))
    }

    /// The arguments from `first` on.
    #[inline]
    pub fn args_from(&self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let bytes = self.bytes;
        let spans = self.spans.get(first..).unwrap_or_default();
        spans.iter().map(move |span| &bytes[span.start as usize..][..span.length as usize])
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.args_from(0).map(|arg| arg.escape_ascii().to_string())).finish()
    }
}

/// What the decoder found.
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
    /// Where to go on in a request whose end has not arrived; 0 where none has begun.
    position: usize,
    /// Arguments that have not been seen yet, once the array header has been.
    remaining: usize,
}

/// A request among several.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Its arguments among all.
    first_span: u32,
    end_span: u32,
    /// Where the next request begins.
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
                Some(_) => return self.cut_inline(bytes),
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
    fn cut_inline(&mut self, bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let window = &bytes[..bytes.len().min(INLINE_BYTES_MAX)];
        let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
            return if window.len() < INLINE_BYTES_MAX { Ok(None) } else { Err(ProtocolError::InlineTooLong) };
        };
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        self.inline.clear();
        self.is_inline = true;
        split_words(line, &mut self.inline, &mut self.spans)?;
        Ok(Some(end + 1))
    }
}

impl Limits {
    /// What a client may send before it has authenticated, as in Redis: eight arguments, with room for a long password.
    pub const UNAUTHENTICATED: Self = Self { arguments_max: 8, argument_bytes_max: 1024, is_authenticated: false };

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

/// Parses a signed decimal as Redis does: no leading `+`, no spaces, no leading zeros, the whole text, in range.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_canonical = match digits {
        [] => false,
        [b'0'] => digits.len() == text.len(),
        [first, rest @ ..] => (b'1'..=b'9').contains(first) && rest.iter().all(u8::is_ascii_digit),
    };
    if !is_canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Splits a line into words as a shell would, with Redis's escapes: "…" knows \n \r \t \b \a \xHH, '…' knows \' alone.
fn split_words(line: &[u8], text: &mut Vec<u8>, spans: &mut Vec<Span>) -> Result<(), ProtocolError> {
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        if at == line.len() {
            return Ok(());
        }
        let start = text.len();
        at = split_word(line, at, text)?;
        // An inline command is below 64 KiB, so both fit.
        spans.push(Span { start: start as u32, length: (text.len() - start) as u32 });
    }
}

/// Appends the word at `at` without its quotes; returns the position behind it.
fn split_word(line: &[u8], mut at: usize, text: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    let mut quote = None;
    loop {
        let Some(&byte) = line.get(at) else {
            return if quote.is_none() { Ok(at) } else { Err(ProtocolError::UnbalancedQuotes) };
        };
        at += 1;
        match quote {
            None if byte.is_ascii_whitespace() || byte == 0 => return Ok(at),
            None if byte == b'"' || byte == b'\'' => quote = Some(byte),
            Some(b'"') if byte == b'\\' && at < line.len() => at = unescape(line, at, text),
            Some(b'\'') if byte == b'\\' && line.get(at) == Some(&b'\'') => {
                text.push(b'\'');
                at += 1;
            }
            Some(open) if byte == open => {
                if line.get(at).is_some_and(|next| !next.is_ascii_whitespace()) {
                    return Err(ProtocolError::UnbalancedQuotes);
                }
                quote = None;
            }
            _ => text.push(byte),
        }
    }
}

/// Appends what the escape at `at` (behind its backslash) stands for; returns the position behind it.
fn unescape(line: &[u8], at: usize, text: &mut Vec<u8>) -> usize {
    let hex = |index: usize| line.get(index).and_then(|&digit| char::from(digit).to_digit(16));
    match line[at] {
        b'x' if let (Some(high), Some(low)) = (hex(at + 1), hex(at + 2)) => {
            text.push((high * 16 + low) as u8);
            return at + 3;
        }
        b'n' => text.push(b'\n'),
        b'r' => text.push(b'\r'),
        b't' => text.push(b'\t'),
        b'b' => text.push(8),
        b'a' => text.push(7),
        other => text.push(other),
    }
    at + 1
}

/// Writes replies behind what is already in `output`, in the client's version of the protocol.
pub struct Reply<'a> {
    /// Where replies go.
    pub output: &'a mut Vec<u8>,
    /// The client's version of the protocol.
    pub version: Version,
}

impl Reply<'_> {
    /// `+text`: a status. `text` must have no line end.
    #[inline]
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.output.extend_from_slice(b"+OK\r\n");
    }

    /// `-text`: an error; its first word is its code (`ERR`, `WRONGTYPE`, …). Line ends in `text` become spaces.
    pub fn error(&mut self, text: &str) {
        self.output.push(b'-');
        self.output.extend(text.bytes().map(|byte| if byte == b'\r' || byte == b'\n' { b' ' } else { byte }));
        self.output.extend_from_slice(b"\r\n");
    }

    /// `:number`.
    #[inline]
    pub fn integer(&mut self, number: i64) {
        self.output.push(b':');
        decimal_signed(self.output, number);
        self.output.extend_from_slice(b"\r\n");
    }

    /// `$length bytes`: a string of any bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.output.reserve(bytes.len() + 16);
        self.header(b'$', bytes.len());
        self.output.extend_from_slice(bytes);
        self.output.extend_from_slice(b"\r\n");
    }

    /// A null: `_` in RESP3, `$-1` in RESP2.
    #[inline]
    pub fn null(&mut self) {
        self.output.extend_from_slice(match self.version {
            Version::Two => b"$-1\r\n",
            Version::Three => b"_\r\n",
        });
    }

    /// A null where an array was expected: `_` in RESP3, `*-1` in RESP2.
    pub fn null_array(&mut self) {
        self.output.extend_from_slice(match self.version {
            Version::Two => b"*-1\r\n",
            Version::Three => b"_\r\n",
        });
    }

    /// The start of an array; `length` replies follow.
    #[inline]
    pub fn array(&mut self, length: usize) {
        self.header(b'*', length);
    }

    /// The start of a map; `length` pairs of replies follow. A flat array in RESP2.
    pub fn map(&mut self, length: usize) {
        match self.version {
            Version::Two => self.header(b'*', length * 2),
            Version::Three => self.header(b'%', length),
        }
    }

    /// The start of a set; `length` replies follow. An array in RESP2.
    pub fn set(&mut self, length: usize) {
        self.header(if self.version == Version::Three { b'~' } else { b'*' }, length);
    }

    /// `#t` or `#f`; 1 or 0 in RESP2.
    pub fn boolean(&mut self, value: bool) {
        match self.version {
            Version::Two => self.integer(i64::from(value)),
            Version::Three => self.output.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" }),
        }
    }

    /// `,number`; its text as a bulk string in RESP2.
    pub fn double(&mut self, value: f64) {
        let text = format!("{value}");
        match self.version {
            Version::Two => self.bulk(text.as_bytes()),
            Version::Three => self.line(b',', text.as_bytes()),
        }
    }

    /// A text for people (INFO): a verbatim string in RESP3, a bulk string in RESP2.
    pub fn verbatim(&mut self, text: &[u8]) {
        match self.version {
            Version::Two => self.bulk(text),
            Version::Three => {
                self.header(b'=', text.len() + 4);
                self.output.extend_from_slice(b"txt:");
                self.output.extend_from_slice(text);
                self.output.extend_from_slice(b"\r\n");
            }
        }
    }

    #[inline]
    fn line(&mut self, sign: u8, text: &[u8]) {
        self.output.push(sign);
        self.output.extend_from_slice(text);
        self.output.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn header(&mut self, sign: u8, number: usize) {
        self.output.push(sign);
        decimal(self.output, number as u64);
        self.output.extend_from_slice(b"\r\n");
    }
}

/// Appends a request in the form that clients send: an array of bulk strings.
pub fn encode_request<'a>(output: &mut Vec<u8>, args: impl ExactSizeIterator<Item = &'a [u8]>) {
    let mut reply = Reply { output, version: Version::Two };
    reply.array(args.len());
    args.for_each(|arg| reply.bulk(arg));
}

/// Appends a number in decimal.
#[inline]
pub fn decimal(output: &mut Vec<u8>, mut number: u64) {
    if number < 10 {
        output.push(b'0' + number as u8);
        return;
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    while 0 < number {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    output.extend_from_slice(&digits[at..]);
}

/// Appends a signed number in decimal.
#[inline]
pub fn decimal_signed(output: &mut Vec<u8>, number: i64) {
    if number < 0 {
        output.push(b'-');
    }
    decimal(output, number.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn words(words: &[&str]) -> Words {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
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

        #[test]
        fn decimals_are_those_of_the_standard_library(number in any::<i64>()) {
            let mut output = Vec::new();
            decimal_signed(&mut output, number);
            prop_assert_eq!(output, number.to_string().into_bytes());
            prop_assert_eq!(parse_i64(number.to_string().as_bytes()), Some(number));
        }
    }

    /// The words of redis-server's `sdssplitargs`.
    #[test]
    fn inline_commands_are_split_as_redis_splits_them() {
        for (line, expected) in [
            ("PING\r\n", words(&["PING"])),
            ("  set  a\tb \n", words(&["set", "a", "b"])),
            ("set k \"a b\\n\\x41\\q\"\r\n", words(&["set", "k", "a b\nAq"])),
            ("set k 'it\\'s \\n'\r\n", words(&["set", "k", "it's \\n"])),
            ("set k \"\"\r\n", words(&["set", "k", ""])),
        ] {
            assert_eq!(decode(line), Ok(vec![expected]), "{line:?}");
        }
        for line in ["set k \"a\r\n", "set k 'a\r\n", "set k \"a\"b\r\n"] {
            assert_eq!(decode(line), Err(ProtocolError::UnbalancedQuotes), "{line:?}");
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
        ] {
            let error = decode_in_pieces(bytes.as_bytes(), vec![], &Limits::UNAUTHENTICATED).expect_err("too much");
            assert_eq!(error.to_string(), format!("Protocol error: {text}"));
        }
    }

    /// One value in both versions of the protocol.
    #[test]
    fn replies_speak_both_versions() {
        let render = |version| {
            let mut output = Vec::new();
            let mut reply = Reply { output: &mut output, version };
            reply.ok();
            reply.error("ERR a\r\nb");
            reply.integer(-7);
            reply.bulk(b"a\0b");
            reply.null();
            reply.null_array();
            reply.map(1);
            reply.set(2);
            reply.boolean(true);
            reply.double(1.5);
            reply.verbatim(b"hi");
            output.escape_ascii().to_string()
        };
        assert_eq!(
            render(Version::Two),
            r"+OK\r\n-ERR a  b\r\n:-7\r\n$3\r\na\x00b\r\n$-1\r\n*-1\r\n*2\r\n*2\r\n:1\r\n$3\r\n1.5\r\n$2\r\nhi\r\n"
        );
        assert_eq!(
            render(Version::Three),
            r"+OK\r\n-ERR a  b\r\n:-7\r\n$3\r\na\x00b\r\n_\r\n_\r\n%1\r\n~2\r\n#t\r\n,1.5\r\n=6\r\ntxt:hi\r\n"
        );
    }
}
