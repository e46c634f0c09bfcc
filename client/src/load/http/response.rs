//! HTTP responses, cut out of bytes as they arrive.

use std::{fmt, mem::MaybeUninit};

/// More headers than any answer of a key-value store has.
const HEADERS_MAX: usize = 64;
/// A response's head is at most this long.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// A body is at most this long: a value of the store's own limit, and what stands around it.
const BODY_BYTES_MAX: usize = (512 << 20) + 4096;

/// Why bytes are no response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ResponseError {
    /// It does not begin, or go on, like one.
    NotHttp(httparse::Error),
    /// Its head has no end.
    HeadTooLong,
    /// Its length can't be read, is two different ones, or is over the limit.
    Length,
    /// Only the end of the connection would end it.
    NoLength,
    /// Nobody asked for it.
    Unasked,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttp(error) => write!(formatter, "no HTTP response: {error}"),
            Self::HeadTooLong => formatter.write_str("an HTTP response with an endless head"),
            Self::Length => formatter.write_str("an HTTP response with an invalid length"),
            Self::NoLength => formatter.write_str("an HTTP response without a length"),
            Self::Unasked => formatter.write_str("an HTTP response that nobody asked for"),
        }
    }
}

/// A whole response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    /// The address to ask instead.
    pub(crate) location: Option<&'a [u8]>,
    /// The name of the server's software.
    pub(crate) server: Option<&'a [u8]>,
}

/// Finds where responses end.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// So many bytes are needed at least, as far as is known from the beginning.
    needed: usize,
    /// A body that came in several chunks, put together.
    body: Vec<u8>,
    /// The server has said that this response is its last here.
    is_over: bool,
}

/// A parsed head.
struct Head<'a> {
    bytes: usize,
    status: u16,
    length: Option<usize>,
    is_chunked: bool,
    is_last: bool,
    location: Option<&'a [u8]>,
    server: Option<&'a [u8]>,
}

/// The position of a body.
enum Body {
    Whole(std::ops::Range<usize>),
    /// In `Decoder::body`.
    Chunks,
}

impl Decoder {
    /// Returns true if no response will follow.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Cuts the first response, and says how many bytes it took; `None` where its end has not arrived.
    ///
    /// # Errors
    /// [`ResponseError`]: the connection is of no more use.
    pub(crate) fn decode<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Option<(Response<'a>, usize)>, ResponseError> {
        if bytes.len() < self.needed {
            return Ok(None);
        }
        let mut start = 0;
        let head = loop {
            match parse_head(&bytes[start..])? {
                None => return Ok(None),
                // More is to come before the response proper.
                Some(head) if (100..200).contains(&head.status) => start += head.bytes,
                Some(head) => break head,
            }
        };
        let begin = start + head.bytes;
        let has_none = matches!(head.status, 204 | 304);
        let found = match head.length {
            _ if has_none => Some((Body::Whole(begin..begin), begin)),
            _ if head.is_chunked => self.dechunk(bytes, begin)?,
            Some(length) if begin + length <= bytes.len() => Some((Body::Whole(begin..begin + length), begin + length)),
            Some(length) => {
                self.needed = begin + length;
                None
            }
            None => return Err(ResponseError::NoLength),
        };
        let Some((body, used)) = found else { return Ok(None) };
        self.needed = 0;
        self.is_over = head.is_last;
        let body = match body {
            Body::Whole(range) => &bytes[range],
            Body::Chunks => &self.body[..],
        };
        let response = Response { status: head.status, body, location: head.location, server: head.server };
        Ok(Some((response, used)))
    }

    /// Finds a chunked body's end. One chunk, the usual number, stays where it is.
    #[cold]
    fn dechunk(&mut self, bytes: &[u8], begin: usize) -> Result<Option<(Body, usize)>, ResponseError> {
        let mut chunks = Vec::new();
        let (mut at, mut total) = (begin, 0_usize);
        loop {
            let parsed = httparse::parse_chunk_size(&bytes[at..]).map_err(|_| ResponseError::Length)?;
            let httparse::Status::Complete((line, size)) = parsed else { return Ok(None) };
            let size = usize::try_from(size).map_err(|_| ResponseError::Length)?;
            total = total.checked_add(size).filter(|total| *total <= BODY_BYTES_MAX).ok_or(ResponseError::Length)?;
            at += line;
            if size == 0 {
                break;
            }
            if bytes.len() < at + size + 2 {
                self.needed = at + size + 2;
                return Ok(None);
            }
            if &bytes[at + size..at + size + 2] != b"\r\n" {
                return Err(ResponseError::Length);
            }
            chunks.push(at..at + size);
            at += size + 2;
        }
        // Trailers, up to an empty line.
        loop {
            let Some(line) = bytes[at..].windows(2).position(|pair| pair == b"\r\n") else {
                let is_endless = HEAD_BYTES_MAX < bytes.len() - at;
                return if is_endless { Err(ResponseError::HeadTooLong) } else { Ok(None) };
            };
            at += line + 2;
            if line == 0 {
                break;
            }
        }
        if let [chunk] = &chunks[..] {
            return Ok(Some((Body::Whole(chunk.clone()), at)));
        }
        self.body.clear();
        chunks.into_iter().for_each(|chunk| self.body.extend_from_slice(&bytes[chunk]));
        Ok(Some((Body::Chunks, at)))
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<Head<'_>>, ResponseError> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, bytes, &mut headers)
        .map_err(ResponseError::NotHttp)?;
    let httparse::Status::Complete(length) = status else {
        return if HEAD_BYTES_MAX < bytes.len() { Err(ResponseError::HeadTooLong) } else { Ok(None) };
    };
    let mut head = Head {
        bytes: length,
        status: parsed.code.unwrap_or(0),
        length: None,
        is_chunked: false,
        is_last: parsed.version == Some(0),
        location: None,
        server: None,
    };
    for header in &*parsed.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match header.name.len() {
            6 if is("server") => head.server = Some(header.value),
            8 if is("location") => head.location = Some(header.value),
            10 if is("connection") => {
                if has_word(header.value, b"close") {
                    head.is_last = true;
                } else if has_word(header.value, b"keep-alive") {
                    head.is_last = false;
                }
            }
            14 if is("content-length") => {
                let length = parse_length(header.value).ok_or(ResponseError::Length)?;
                if head.length.is_some_and(|other| other != length) {
                    return Err(ResponseError::Length);
                }
                head.length = Some(length);
            }
            17 if is("transfer-encoding") => head.is_chunked = has_word(header.value, b"chunked"),
            _ => {}
        }
    }
    Ok(Some(head))
}

/// Returns true if a list of words, separated by commas, contains this one.
fn has_word(list: &[u8], word: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(word))
}

fn parse_length(digits: &[u8]) -> Option<usize> {
    let digits = digits.trim_ascii();
    if digits.is_empty() || 10 < digits.len() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length = digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    (length <= BODY_BYTES_MAX).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything that a response says, apart from the bytes it lies in.
    type Seen = (u16, Vec<u8>, Option<Vec<u8>>);

    /// Feeds bytes in pieces that end at these places, and returns the responses and whether the last was the last.
    fn decode(bytes: &[u8], cuts: &[usize]) -> Result<(Vec<Seen>, bool), ResponseError> {
        let mut decoder = Decoder::default();
        let (mut seen, mut start) = (Vec::new(), 0);
        for end in cuts.iter().copied().chain([bytes.len()]) {
            while start < end && !decoder.is_over() {
                let Some((response, used)) = decoder.decode(&bytes[start..end])? else { break };
                seen.push((response.status, response.body.to_vec(), response.location.map(<[u8]>::to_vec)));
                start += used;
            }
        }
        Ok((seen, decoder.is_over()))
    }

    const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nServer: x\r\n\r\nhello\
        HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n\
        HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n\
        HTTP/1.1 307 Temporary Redirect\r\nLocation: http://b:7100/get/k\r\nContent-Length: 2\r\n\r\n\r\n\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n0\r\n\r\n\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n4;a=b\r\nwiki\r\n5\r\npedia\r\n0\r\nTrailer: 1\r\n\r\n\
        HTTP/1.1 409 Conflict\r\nConnection: Close\r\nContent-Length: 1\r\n\r\n!";

    fn expected() -> Vec<Seen> {
        vec![
            (200, b"hello".to_vec(), None),
            (404, Vec::new(), None),
            (204, Vec::new(), None),
            (307, b"\r\n".to_vec(), Some(b"http://b:7100/get/k".to_vec())),
            (200, b"wiki".to_vec(), None),
            (200, b"wikipedia".to_vec(), None),
            (409, b"!".to_vec(), None),
        ]
    }

    proptest! {
        /// Responses are the same however their bytes are cut up.
        #[test]
        fn any_split_gives_the_same(mut cuts in proptest::collection::vec(0..STREAM.len(), 0..20)) {
            cuts.sort_unstable();
            prop_assert_eq!(decode(STREAM, &cuts), Ok((expected(), true)));
        }

        /// No bytes make it panic.
        #[test]
        fn noise_is_harmless(noise in proptest::collection::vec(any::<u8>(), 0..100), at in 0..STREAM.len()) {
            let _ = decode(&noise, &[at.min(noise.len())]);
            let _ = decode(&[&STREAM[..at], &noise, &STREAM[at..]].concat(), &[at]);
        }
    }

    /// Byte by byte, too.
    #[test]
    fn byte_by_byte_gives_the_same() {
        assert_eq!(decode(STREAM, &(0..STREAM.len()).collect::<Vec<_>>()), Ok((expected(), true)));
    }

    /// A connection ends after `Connection: close`, and after HTTP/1.0 unless it says otherwise.
    #[test]
    fn the_last_response_is_known() {
        for (head, is_last) in [
            ("HTTP/1.1 200 OK\r\n", false),
            ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", false),
            ("HTTP/1.1 200 OK\r\nConnection: upgrade, close\r\n", true),
            ("HTTP/1.0 200 OK\r\n", true),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", false),
        ] {
            let bytes = format!("{head}Content-Length: 0\r\n\r\n");
            assert_eq!(decode(bytes.as_bytes(), &[]), Ok((vec![(200, Vec::new(), None)], is_last)), "{head}");
        }
    }

    /// A malformed response, or one without an end, is an error at once.
    #[test]
    fn nonsense_is_refused() {
        let response = |headers: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n");
        for (bytes, error) in [
            ("-ERR unknown command\r\n".into(), ResponseError::NotHttp(httparse::Error::Version)),
            (response("A: b"), ResponseError::NoLength),
            (response("Content-Length: 1x"), ResponseError::Length),
            (response("Content-Length: 99999999999"), ResponseError::Length),
            (response("Content-Length: 1\r\nContent-Length: 2"), ResponseError::Length),
            (response("Transfer-Encoding: chunked") + "zz\r\n", ResponseError::Length),
            (response("Transfer-Encoding: chunked") + "1\r\nabc", ResponseError::Length),
            (format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(HEAD_BYTES_MAX)), ResponseError::HeadTooLong),
        ] {
            assert_eq!(decode(bytes.as_bytes(), &[]), Err(error), "{bytes:.60}");
        }
    }

    /// A big body that arrives in pieces is looked at when it is whole, not with every piece.
    #[test]
    fn a_big_body_is_waited_for() {
        let bytes = [&b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"[..], &[b'x'; 100_000]].concat();
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&bytes[..100]), Ok(None));
        assert_eq!(decoder.needed, bytes.len());
        assert_eq!(decoder.decode(&bytes[..bytes.len() - 1]), Ok(None));
        let (response, used) = decoder.decode(&bytes).unwrap().unwrap();
        assert_eq!((response.body.len(), used), (100_000, bytes.len()));
    }
}
