//! Replies as a client reads them: RESP2 and RESP3, cut out of bytes without a copy.
//!
//! The [`Decoder`] finds where a reply ends and remembers how far it came, so that a value of a megabyte that arrives in
//! a hundred pieces is walked once. A [`Reply`] is a view of the bytes; its [`Elements`] are walked when asked for. Who
//! wants to keep a reply makes a [`Value`] of it.

use crate::resp::parse_i64;
use std::fmt;

/// Replies nest at most this deep: twice what Redis itself sends. The stack of a client is not the server's to fill.
pub const DEPTH_MAX: usize = 32;
/// The longest bulk string that a server may announce: Redis's own limit.
const BULK_BYTES_MAX: i64 = 512 << 20;
/// The most elements of one aggregate, Redis's own limit for requests being a thousandth of it.
const ELEMENTS_MAX: i64 = 1 << 30;
/// A line (a status, an error, a number) is at most this long.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Why bytes are no reply. Where the next one begins is unknown: close the connection, and see who is listening there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplyError {
    /// No reply begins with this byte. The other end may not speak the Redis protocol at all.
    Sign(u8),
    /// A length or a number is none, or over its limit.
    Number,
    /// A line goes on and on.
    LineTooLong,
    /// Deeper than [`DEPTH_MAX`].
    TooDeep,
    /// A bulk string is not followed by a line end.
    LineEnd,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sign(byte) => {
                write!(formatter, "no reply of the Redis protocol begins with '{}'", byte.escape_ascii())
            }
            Self::Number => formatter.write_str("a reply has an invalid length or number"),
            Self::LineTooLong => formatter.write_str("a line of a reply is too long"),
            Self::TooDeep => formatter.write_str("a reply is nested too deep"),
            Self::LineEnd => formatter.write_str("a string in a reply is longer than announced"),
        }
    }
}

impl std::error::Error for ReplyError {}

/// A whole reply, in the bytes it arrived in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reply<'a> {
    /// `+OK`.
    Simple(&'a [u8]),
    /// `-ERR what happened`, or RESP3's longer form of it.
    Error(&'a [u8]),
    /// `:1`.
    Integer(i64),
    /// A string of any bytes; a verbatim string without its format.
    Bulk(&'a [u8]),
    /// There is no value.
    Null,
    /// `#t` or `#f`.
    Boolean(bool),
    /// `,1.5`.
    Double(f64),
    /// A number too big for anything else, in decimal.
    BigNumber(&'a [u8]),
    /// An array or a set.
    Array(Elements<'a>),
    /// A map: its elements are keys and values by turns.
    Map(Elements<'a>),
    /// Something that nobody asked for (RESP3): it answers no request.
    Push(Elements<'a>),
}

/// The elements of an aggregate, walked one by one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elements<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Reply<'a>;

    fn next(&mut self) -> Option<Reply<'a>> {
        if self.count == 0 {
            return None;
        }
        self.count -= 1;
        let (reply, used) = view(self.bytes);
        self.bytes = &self.bytes[used..];
        Some(reply)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Elements<'_> {}

/// A reply to keep.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// There is no value.
    Null,
    /// A status, such as `OK`.
    Simple(String),
    /// An error inside an aggregate (EXEC has these), or in the place of a reply in a pipeline.
    Error(String),
    /// A number.
    Integer(i64),
    /// A string of any bytes.
    Bulk(Vec<u8>),
    /// True or false.
    Boolean(bool),
    /// A number with a fraction.
    Double(f64),
    /// A number too big for anything else, in decimal.
    BigNumber(String),
    /// An array, a set or a push.
    Array(Vec<Value>),
    /// A map, in the server's order.
    Map(Vec<(Value, Value)>),
}

impl Reply<'_> {
    /// Copies the reply out of its bytes.
    pub fn to_value(self) -> Value {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match self {
            Self::Simple(bytes) => Value::Simple(text(bytes)),
            Self::Error(bytes) => Value::Error(text(bytes)),
            Self::Integer(number) => Value::Integer(number),
            Self::Bulk(bytes) => Value::Bulk(bytes.to_vec()),
            Self::Null => Value::Null,
            Self::Boolean(value) => Value::Boolean(value),
            Self::Double(number) => Value::Double(number),
            Self::BigNumber(digits) => Value::BigNumber(text(digits)),
            Self::Array(elements) | Self::Push(elements) => Value::Array(elements.map(Reply::to_value).collect()),
            Self::Map(mut elements) => {
                let mut pairs = Vec::new();
                while let (Some(key), Some(value)) = (elements.next(), elements.next()) {
                    pairs.push((key.to_value(), value.to_value()));
                }
                Value::Map(pairs)
            }
        }
    }
}

/// Finds whole replies at the start of bytes, one at a time.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The position to go on from in a reply whose end has not arrived.
    position: usize,
    /// The number of elements that each open aggregate still waits for, the outermost first.
    open: Vec<usize>,
}

impl Decoder {
    /// Looks for a reply at the start of `bytes`, and returns it with its length; `None` where its end has not arrived:
    /// call again with the same bytes and more behind them.
    ///
    /// # Errors
    /// [`ReplyError`] where the bytes can't become a reply, whatever follows.
    #[inline]
    pub fn decode<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Reply<'a>, usize)>, ReplyError> {
        // What a key-value store sends nearly always.
        if self.position == 0
            && let Some(found) = short(bytes)
        {
            return Ok(Some(found));
        }
        self.decode_slow(bytes)
    }

    fn decode_slow<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Reply<'a>, usize)>, ReplyError> {
        loop {
            let Some(found) = item(bytes, self.position)? else { return Ok(None) };
            let mut elements = match found {
                Item::Leaf { end } => {
                    self.position = end;
                    0
                }
                Item::Aggregate { elements, start, .. } => {
                    self.position = start;
                    elements
                }
            };
            if 0 < elements {
                if self.open.len() == DEPTH_MAX {
                    return Err(ReplyError::TooDeep);
                }
                self.open.push(elements);
                continue;
            }
            // One element has ended, and with it every aggregate that it was the last of.
            while elements == 0 {
                let Some(remaining) = self.open.last_mut() else {
                    let end = std::mem::take(&mut self.position);
                    return Ok(Some((view(&bytes[..end]).0, end)));
                };
                *remaining -= 1;
                elements = *remaining;
                if elements == 0 {
                    self.open.pop();
                }
            }
        }
    }
}

/// A whole reply of the two commonest kinds: `+OK` and a bulk string.
#[inline]
fn short(bytes: &[u8]) -> Option<(Reply<'_>, usize)> {
    if bytes.starts_with(b"+OK\r\n") {
        return Some((Reply::Simple(&bytes[1..3]), 5));
    }
    if *bytes.first()? != b'$' {
        return None;
    }
    let mut length = 0;
    let mut at = 1;
    while at < 9 {
        let digit = bytes.get(at)?.wrapping_sub(b'0');
        if 9 < digit {
            break;
        }
        length = length * 10 + usize::from(digit);
        at += 1;
    }
    let start = at + 2;
    let end = start + length + 2;
    let is_whole = 1 < at && bytes[at] == b'\r' && end <= bytes.len() && bytes[end - 2..end] == *b"\r\n";
    is_whole.then(|| (Reply::Bulk(&bytes[start..end - 2]), end))
}

/// One reply's outermost part.
enum Item {
    /// Ends here, or is an aggregate without elements.
    Leaf { end: usize },
    /// Its elements begin at `start`. An attribute is an aggregate whose last element is the reply it belongs to.
    Aggregate { sign: u8, elements: usize, start: usize },
}

/// Looks at the item at `at`: `None` where its header, or a leaf's end, has not arrived.
fn item(bytes: &[u8], at: usize) -> Result<Option<Item>, ReplyError> {
    let Some(&sign) = bytes.get(at) else { return Ok(None) };
    if !b"+-:$*_#,(!=%~>|".contains(&sign) {
        return Err(ReplyError::Sign(sign));
    }
    let Some(line) = line(bytes, at + 1)? else { return Ok(None) };
    let start = at + 1 + line.len() + 2;
    match sign {
        b'+' | b'-' | b'(' => Ok(Some(Item::Leaf { end: start })),
        b'_' if line.is_empty() => Ok(Some(Item::Leaf { end: start })),
        b'#' if line == b"t" || line == b"f" => Ok(Some(Item::Leaf { end: start })),
        b':' if parse_number(line).is_some() => Ok(Some(Item::Leaf { end: start })),
        b',' if parse_double(line).is_some() => Ok(Some(Item::Leaf { end: start })),
        b'$' | b'!' | b'=' => {
            let length = parse_number(line).filter(|length| (-1..=BULK_BYTES_MAX).contains(length));
            let length = length.ok_or(ReplyError::Number)?;
            let Ok(length) = usize::try_from(length) else { return Ok(Some(Item::Leaf { end: start })) };
            let end = start + length + 2;
            match bytes.get(start + length..end) {
                None => Ok(None),
                Some(b"\r\n") => Ok(Some(Item::Leaf { end })),
                Some(_) => Err(ReplyError::LineEnd),
            }
        }
        b'*' | b'~' | b'>' | b'%' | b'|' => {
            let count = parse_number(line).filter(|count| (-1..=ELEMENTS_MAX).contains(count));
            let count = count.ok_or(ReplyError::Number)?.max(0) as usize;
            let elements = match sign {
                b'%' => count * 2,
                b'|' => count * 2 + 1,
                _ => count,
            };
            Ok(Some(if elements == 0 { Item::Leaf { end: start } } else { Item::Aggregate { sign, elements, start } }))
        }
        _ => Err(ReplyError::Number),
    }
}

/// The bytes from `start` to the line end.
#[inline]
fn line(bytes: &[u8], start: usize) -> Result<Option<&[u8]>, ReplyError> {
    let window = &bytes[start..bytes.len().min(start + LINE_BYTES_MAX)];
    match window.iter().position(|&byte| byte == b'\r') {
        Some(length) if start + length + 1 < bytes.len() => {
            if bytes[start + length + 1] == b'\n' {
                Ok(Some(&window[..length]))
            } else {
                Err(ReplyError::LineEnd)
            }
        }
        None if window.len() == LINE_BYTES_MAX => Err(ReplyError::LineTooLong),
        _ => Ok(None),
    }
}

fn parse_number(text: &[u8]) -> Option<i64> {
    parse_i64(text.strip_prefix(b"+").unwrap_or(text))
}

fn parse_double(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Shows the reply at the start of bytes that [`Decoder`] has found to hold a whole one, and returns its length.
fn view(bytes: &[u8]) -> (Reply<'_>, usize) {
    const WHOLE: &str = "the decoder has found a whole reply here";
    let found = item(bytes, 0).ok().flatten().expect(WHOLE);
    let header = line(bytes, 1).ok().flatten().expect(WHOLE);
    let body = 1 + header.len() + 2;
    match found {
        Item::Aggregate { sign, elements, start } => {
            let mut walk = Elements { bytes: &bytes[start..], count: elements };
            if sign == b'|' {
                // What it says of the reply behind it is of no use to anyone yet.
                let reply = walk.by_ref().last().expect(WHOLE);
                return (reply, bytes.len() - walk.bytes.len());
            }
            let reply = aggregate(sign, walk);
            walk.by_ref().for_each(drop);
            (reply, bytes.len() - walk.bytes.len())
        }
        Item::Leaf { end } => (leaf(bytes[0], header, bytes.get(body..end - 2).unwrap_or_default()), end),
    }
}

fn aggregate(sign: u8, elements: Elements<'_>) -> Reply<'_> {
    match sign {
        b'%' => Reply::Map(elements),
        b'>' => Reply::Push(elements),
        _ => Reply::Array(elements),
    }
}

fn leaf<'a>(sign: u8, header: &'a [u8], body: &'a [u8]) -> Reply<'a> {
    match sign {
        b'+' => Reply::Simple(header),
        b'-' => Reply::Error(header),
        b'(' => Reply::BigNumber(header),
        b'#' => Reply::Boolean(header == b"t"),
        b':' => parse_number(header).map_or(Reply::Null, Reply::Integer),
        b',' => parse_double(header).map_or(Reply::Null, Reply::Double),
        b'$' | b'!' | b'=' | b'*' if header == b"-1" => Reply::Null,
        b'$' => Reply::Bulk(body),
        b'!' => Reply::Error(body),
        b'=' => Reply::Bulk(body.get(4..).unwrap_or_default()),
        b'*' | b'~' | b'%' | b'>' => aggregate(sign, Elements { bytes: &[], count: 0 }),
        _ => Reply::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `bytes` as they would arrive in pieces that end at `cuts`, and returns all replies.
    fn decode_in_pieces(bytes: &[u8], mut cuts: Vec<usize>) -> Result<Vec<Value>, ReplyError> {
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let (mut decoder, mut start, mut values) = (Decoder::default(), 0, Vec::new());
        for end in cuts {
            while start < end {
                let Some((reply, used)) = decoder.decode(&bytes[start..end])? else { break };
                values.push(reply.to_value());
                start += used;
            }
        }
        Ok(values)
    }

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.as_bytes().to_vec())
    }

    /// Every kind of reply, RESP2 and RESP3, reads as what it is.
    #[test]
    fn replies_read_as_what_they_are() {
        let array = |values: &[Value]| Value::Array(values.to_vec());
        for (bytes, expected) in [
            ("+OK\r\n", Value::Simple("OK".into())),
            ("-ERR no\r\n", Value::Error("ERR no".into())),
            (":-7\r\n", Value::Integer(-7)),
            ("$3\r\nabc\r\n", bulk("abc")),
            ("$0\r\n\r\n", bulk("")),
            ("$-1\r\n", Value::Null),
            ("*-1\r\n", Value::Null),
            ("_\r\n", Value::Null),
            ("#t\r\n", Value::Boolean(true)),
            (",1.5\r\n", Value::Double(1.5)),
            (",-inf\r\n", Value::Double(f64::NEG_INFINITY)),
            ("(12345678901234567890\r\n", Value::BigNumber("12345678901234567890".into())),
            ("!5\r\nERR x\r\n", Value::Error("ERR x".into())),
            ("=8\r\ntxt:text\r\n", bulk("text")),
            ("*0\r\n", array(&[])),
            ("*2\r\n*1\r\n:1\r\n$1\r\na\r\n", array(&[array(&[Value::Integer(1)]), bulk("a")])),
            ("%1\r\n+k\r\n:1\r\n", Value::Map(vec![(Value::Simple("k".into()), Value::Integer(1))])),
            ("~1\r\n:1\r\n", array(&[Value::Integer(1)])),
            (">1\r\n+invalidate\r\n", array(&[Value::Simple("invalidate".into())])),
            ("|1\r\n+ttl\r\n:9\r\n$1\r\nv\r\n", bulk("v")),
            ("*2\r\n|1\r\n+ttl\r\n*1\r\n:9\r\n:1\r\n:2\r\n", array(&[Value::Integer(1), Value::Integer(2)])),
        ] {
            assert_eq!(decode_in_pieces(bytes.as_bytes(), vec![]), Ok(vec![expected]), "{bytes:?}");
        }
    }

    /// Bytes that can't become a reply are refused, and nothing is allocated for what a header merely promises.
    #[test]
    fn what_is_no_reply_is_refused() {
        for (bytes, expected) in [
            ("HTTP/1.1 400\r\n", ReplyError::Sign(b'H')),
            ("$x\r\n", ReplyError::Number),
            ("$-2\r\n", ReplyError::Number),
            ("$99999999999\r\n", ReplyError::Number),
            ("*99999999999\r\n", ReplyError::Number),
            ("$1\r\nabc\r\n", ReplyError::LineEnd),
            ("#x\r\n", ReplyError::Number),
            ("+OK\rx", ReplyError::LineEnd),
        ] {
            assert_eq!(decode_in_pieces(bytes.as_bytes(), vec![]), Err(expected), "{bytes:?}");
        }
        assert_eq!(decode_in_pieces("*1\r\n".repeat(DEPTH_MAX + 1).as_bytes(), vec![]), Err(ReplyError::TooDeep));
        assert_eq!(decode_in_pieces(&vec![b'+'; LINE_BYTES_MAX + 2], vec![]), Err(ReplyError::LineTooLong));
    }

    fn reply() -> impl Strategy<Value = Vec<u8>> {
        let line = |sign: &'static str| move |text: String| format!("{sign}{text}\r\n").into_bytes();
        let leaf = prop_oneof![
            "[a-zA-Z ]{0,9}".prop_map(line("+")),
            "[A-Z]{3} [a-z]{0,9}".prop_map(line("-")),
            any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
            Just(b"_\r\n".to_vec()),
            Just(b"$-1\r\n".to_vec()),
            Just(b"#f\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| {
                let mut reply = format!("${}\r\n", bytes.len()).into_bytes();
                reply.extend(bytes);
                reply.extend(b"\r\n");
                reply
            }),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            (prop_oneof![Just('*'), Just('~'), Just('>')], proptest::collection::vec(inner, 0..6)).prop_map(
                |(sign, elements)| {
                    let mut reply = format!("{sign}{}\r\n", elements.len()).into_bytes();
                    elements.iter().for_each(|element| reply.extend(element));
                    reply
                },
            )
        })
    }

    proptest! {
        /// However the bytes are cut up, the same replies come out.
        #[test]
        fn any_split_gives_the_same_replies(
            replies in proptest::collection::vec(reply(), 1..8),
            cuts in proptest::collection::vec(0_usize..400, 0..12),
        ) {
            let bytes = replies.concat();
            let whole = decode_in_pieces(&bytes, vec![]).unwrap();
            prop_assert_eq!(whole.len(), replies.len());
            let cuts = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            prop_assert_eq!(decode_in_pieces(&bytes, cuts).unwrap(), whole);
        }

        /// Garbage gives replies, an error or a wait, never a panic, and the same whether it comes at once or by bytes.
        #[test]
        fn garbage_is_survived(bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(b"+-:$*_#,(!=%~>|0123\r\n".to_vec())], 0..60,
        )) {
            let whole = decode_in_pieces(&bytes, vec![]);
            let by_byte = decode_in_pieces(&bytes, (0..bytes.len()).collect());
            prop_assert_eq!(whole.is_err(), by_byte.is_err());
        }
    }
}
