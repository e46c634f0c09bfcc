//! The body of a request: where it ends, and what it is without its framing.

use super::{
    Limits, Refusal,
    head::{Framing, Head},
};
use std::borrow::Cow;

/// The longest line with a chunk's length, its extensions included.
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// The most bytes of fields behind the last chunk; nobody reads them.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// The progress of a decoder of chunks. Positions count from the body's start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Chunks {
    /// The position of the next chunk, or of the next line of the trailer.
    at: usize,
    /// The position of the trailer, once the last chunk has been seen.
    trailer: Option<usize>,
}

/// The part of a body that has arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cut<'a> {
    /// All of it, and where the next request begins.
    Whole(Cow<'a, [u8]>, usize),
    /// Not before this many bytes, the head's among them, is there more to see.
    Needs(usize),
}

/// Cuts a request's body out of `bytes`, which begin with its head. `bytes_max` is for head and body together.
///
/// # Errors
/// [`Refusal`] where it is too long, or no body. The connection ends then.
pub fn cut<'a>(head: &Head<'_>, bytes: &'a [u8], chunks: &mut Chunks, bytes_max: usize) -> Result<Cut<'a>, Refusal> {
    match head.framing {
        Framing::None => Ok(Cut::Whole(Cow::Borrowed(&[]), head.length)),
        Framing::Length(length) => {
            // Less than 2^63 each.
            let end = head.length + length;
            check_size(end, bytes_max)?;
            let body = bytes.get(head.length..end);
            Ok(body.map_or(Cut::Needs(end), |body| Cut::Whole(Cow::Borrowed(body), end)))
        }
        Framing::Chunked => {
            let body = &bytes[head.length..];
            match chunks.follow(body, bytes_max.saturating_sub(head.length))? {
                None => Ok(Cut::Needs(bytes.len().max(head.length + chunks.at) + 1)),
                Some(end) => Ok(Cut::Whole(Cow::Owned(join(&body[..end])), head.length + end)),
            }
        }
    }
}

fn check_size(bytes: usize, bytes_max: usize) -> Result<(), Refusal> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(Refusal::new(413, format!("a request may have {bytes_max} bytes here")))
}

impl Chunks {
    /// Goes on along the chunks of `body`. Returns where the body ends, trailer included, once that is there.
    fn follow(&mut self, body: &[u8], bytes_max: usize) -> Result<Option<usize>, Refusal> {
        check_size(body.len().min(bytes_max + 1), bytes_max)?;
        while self.trailer.is_none() {
            let rest = body.get(self.at..).unwrap_or_default();
            let line = &rest[..rest.len().min(CHUNK_LINE_BYTES_MAX)];
            let bad = || Refusal::new(400, "a chunk has no proper length");
            let Some((start, length)) = chunk_length(line).map_err(|BadChunk| bad())? else {
                return if line.len() < CHUNK_LINE_BYTES_MAX { Ok(None) } else { Err(bad()) };
            };
            if length == 0 {
                self.at += start;
                self.trailer = Some(self.at);
                break;
            }
            check_size(length, bytes_max)?;
            let end = start + length;
            check_size(self.at + end, bytes_max)?;
            match rest.get(end..end + 2) {
                Some(b"\r\n") => self.at += end + 2,
                Some(_) => return Err(Refusal::new(400, "a chunk is longer than it says")),
                None => return Ok(None),
            }
        }
        self.end_of_trailer(body)
    }

    /// The trailer's fields are passed over, up to an empty line.
    fn end_of_trailer(&mut self, body: &[u8]) -> Result<Option<usize>, Refusal> {
        let Some(trailer) = self.trailer else { return Ok(None) };
        while let Some(length) = memchr::memchr(b'\n', &body[self.at..]) {
            let line = &body[self.at..self.at + length];
            // Somebody else may take a line to end elsewhere, and the next request to begin there.
            let Some(line) = line.strip_suffix(b"\r").filter(|line| !line.contains(&b'\r')) else {
                return Err(Refusal::new(400, "a field behind the body has no proper line end"));
            };
            self.at += length + 1;
            if line.is_empty() {
                return Ok(Some(self.at));
            }
        }
        if TRAILER_BYTES_MAX < body.len() - trailer {
            return Err(Refusal::new(431, "the fields behind the body are too long"));
        }
        Ok(None)
    }
}

/// The most digits of a chunk's length: as many as a number of 64 bits has.
const CHUNK_DIGITS_MAX: usize = 16;

/// A line that is not a chunk's length.
struct BadChunk;

/// Reads the line before a chunk: hexadecimal digits, extensions behind a semicolon, CR and LF (RFC 9112, 7.1). Returns the line's
/// length and the chunk's, or `None` if the line's end is missing.
///
/// A bare CR or LF within is refused, and so are a line without a digit and what stands behind the digits otherwise: somebody else
/// may read another length there, and take for a request what here is part of a body.
fn chunk_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, BadChunk> {
    let end = bytes.iter().position(|&byte| byte == b'\r' || byte == b'\n');
    let line = &bytes[..end.unwrap_or(bytes.len())];
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let is_ended = end.is_some();
    let behind = line[digits..].trim_ascii_start();
    let is_first_digit_missing = digits == 0 && (is_ended || !line.is_empty());
    let is_extended = digits < line.len() && (is_ended || !behind.is_empty());
    if is_first_digit_missing || CHUNK_DIGITS_MAX < digits || (is_extended && behind.first() != Some(&b';')) {
        return Err(BadChunk);
    }
    if line.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(BadChunk);
    }
    let Some(end) = end else { return Ok(None) };
    match bytes[end..] {
        [b'\r', b'\n', ..] => {
            let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or_default() as usize;
            Ok(Some((end + 2, line[..digits].iter().fold(0, |length, byte| length << 4 | digit(byte)))))
        }
        [b'\r'] => Ok(None),
        _ => Err(BadChunk),
    }
}

/// The bytes of chunks that have been followed to their end.
fn join(body: &[u8]) -> Vec<u8> {
    let (mut joined, mut rest) = (Vec::new(), body);
    while let Ok(Some((start, length))) = chunk_length(rest) {
        if length == 0 {
            break;
        }
        joined.extend_from_slice(&rest[start..start + length]);
        rest = &rest[start + length + 2..];
    }
    joined
}

/// The type of a body without its parameters, and these.
pub fn media_type<'a>(head: &Head<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let text = head.content_type?;
    let (name, parameters) = text.split_at(memchr::memchr(b';', text).unwrap_or(text.len()));
    Some((name.trim_ascii(), parameters))
}

/// The most bytes that a request with this head may have, if what it asks for takes a body or not.
pub fn bytes_max(head: &Head<'_>, takes_body: bool, limits: &Limits) -> usize {
    if takes_body { limits.request_bytes_max } else { head.length + limits.ignored_body_bytes_max() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head;
    use proptest::prelude::*;

    const HEAD: &str = "PUT /store HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn head_of(bytes: &[u8]) -> Head<'_> {
        let limits = Limits::new(100, 100, 10, 1000);
        head::parse(bytes, &mut 0, &limits).expect("it is fine").expect("it is whole")
    }

    /// Follows a body in pieces that end at these places.
    fn follow(bytes: &[u8], mut ends: Vec<usize>, bytes_max: usize) -> Result<Option<(Vec<u8>, usize)>, u16> {
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut chunks = Chunks::default();
        for end in ends.into_iter().filter(|&end| HEAD.len() <= end) {
            let cut = cut(&head_of(bytes), &bytes[..end], &mut chunks, bytes_max);
            match cut.map_err(|refusal| refusal.status)? {
                Cut::Whole(body, end) => return Ok(Some((body.into_owned(), end))),
                Cut::Needs(needed) => assert!(end < needed, "{needed} bytes are there"),
            }
        }
        Ok(None)
    }

    #[test]
    fn chunks_are_joined() {
        for (body, expected) in [
            ("0\r\n\r\n", Ok(Some(""))),
            ("3\r\nabc\r\n0\r\n\r\n", Ok(Some("abc"))),
            ("3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n", Ok(Some("abc0123456789"))),
            ("3\r\nabc\r\n0\r\nTrailer: x\r\n", Ok(None)),
            ("3\r\nab", Ok(None)),
            ("3\r\nabcd\r\n0\r\n\r\n", Err(400)),
            ("x\r\n", Err(400)),
            ("-1\r\n", Err(400)),
            ("ffffffffffffffff\r\n", Err(413)),
            ("0000000000000003\r\nabc\r\n0\r\n\r\n", Ok(Some("abc"))),
            ("3 \t;x\r\nabc\r\n0\r\n\r\n", Ok(Some("abc"))),
            ("\r\nabc", Err(400)),
            (";x\r\nabc", Err(400)),
            (" \r\n", Err(400)),
            (" 3\r\n", Err(400)),
            ("3 x\r\n", Err(400)),
            ("3x\r\n", Err(400)),
            ("3 \r\n", Err(400)),
            ("3;\0\r\n", Err(400)),
            ("0x3\r\n", Err(400)),
            ("3\nabc\r\n", Err(400)),
            ("3;x\ny\r\nabc\r\n", Err(400)),
            ("3;x\ry\r\nabc\r\n", Err(400)),
            ("3;x", Ok(None)),
            ("3\r", Ok(None)),
            ("0\r\nTrailer: x\n\r\n", Err(400)),
            ("0\r\n\n", Err(400)),
            ("0\r\nTrailer: x\ry\r\n\r\n", Err(400)),
            ("11111111111111111\r\n", Err(400)),
            ("400\r\n", Err(413)),
        ] {
            let bytes = [HEAD, body].concat();
            let found = follow(bytes.as_bytes(), Vec::new(), 1000);
            let found = found.map(|found| found.map(|(body, end)| (String::from_utf8(body).unwrap(), end)));
            assert_eq!(found, expected.map(|body| body.map(|body| (body.to_owned(), bytes.len()))), "{body:?}");
        }
        let endless = [HEAD, "1;", &"x".repeat(300)].concat();
        assert_eq!(follow(endless.as_bytes(), Vec::new(), 1000), Err(400));
        let endless = [HEAD, "0\r\n", &"x: y\r\n".repeat(2000)].concat();
        assert_eq!(follow(endless.as_bytes(), Vec::new(), 100_000), Err(431));
        let many = [HEAD, &"1\r\nx\r\n".repeat(1000)].concat();
        assert_eq!(follow(many.as_bytes(), Vec::new(), 1000), Err(413));
    }

    proptest! {
        /// However the network cuts a body, it is the same body, or the same refusal.
        #[test]
        fn any_split_of_chunks_gives_the_same_body(
            body in prop_oneof![
                "((1\r\nx|2;a=b\r\nyz|3\r\n\r\n\r)\r\n){0,6}0\r\n(T: x\r\n)?\r\n",
                "[0-3]{0,2}[;a\r]{0,2}\r?\n?[a-f]{0,5}(\r\n)?[0-9]{0,3}\r\n\r\n",
            ],
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let bytes = [HEAD, &body].concat();
            let cuts = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            prop_assert_eq!(follow(bytes.as_bytes(), cuts, 1000), follow(bytes.as_bytes(), Vec::new(), 1000));
        }
    }
}
