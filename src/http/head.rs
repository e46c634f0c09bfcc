//! The head of a request: its first line and its header fields.

use super::{HEADERS_MAX, Limits, Refusal};
use std::mem::MaybeUninit;

/// The method of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// Show.
    Get,
    /// Show without the body.
    Head,
    /// Store.
    Put,
    /// Remove.
    Delete,
    /// Known, and not allowed for any resource here.
    Other,
    /// Unknown, or for proxies alone.
    Unknown,
}

/// The way to find the end of a request's body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// There is none.
    None,
    /// It has this many bytes.
    Length(usize),
    /// It comes in chunks, each with its length.
    Chunked,
}

/// A whole head, in the bytes that it arrived in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head<'a> {
    /// The method.
    pub method: Method,
    /// Path and query, as they were sent.
    pub target: &'a [u8],
    /// The target up to its query.
    pub path: &'a [u8],
    /// The query, where there is one.
    pub query: Option<&'a [u8]>,
    /// The host, and maybe the port, that the request is for: that of the target where it names one, else `Host`. `None` for
    /// HTTP/1.0 without either, which no browser speaks.
    pub authority: Option<&'a [u8]>,
    /// True if the client speaks HTTP/1.0.
    pub is_old: bool,
    /// True if it wants to send more by this connection.
    pub persists: bool,
    /// The framing of its body.
    pub framing: Framing,
    /// True if it waits for a response before it sends the body (`Expect: 100-continue`).
    pub expects_continue: bool,
    /// True if the body is compressed or the like.
    pub is_encoded: bool,
    /// `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// `User-Agent`.
    pub agent: Option<&'a [u8]>,
    /// The position of the body.
    pub length: usize,
}

/// A first line's room for a method and a version.
const LINE_BYTES_BESIDE_TARGET: usize = 64;

/// Looks for a whole head at the start of `bytes`. `searched` is 0 with the first bytes of a request; what it becomes is to be
/// given back with more of them, so that an end which does not come is not looked for in all of them each time.
///
/// # Errors
/// [`Refusal`], after which nothing is known of what follows: the connection ends.
#[inline]
pub fn parse<'a>(bytes: &'a [u8], searched: &mut usize, limits: &Limits) -> Result<Option<Head<'a>>, Refusal> {
    if *searched != 0 && !may_have_end(bytes, searched) {
        return too_long(bytes, limits).map_or(Ok(None), Err);
    }
    let mut fields = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut fields).map_err(refusal)? {
        httparse::Status::Complete(length) if length <= limits.head_bytes_max => {
            // It is found anew when more of the body is there.
            *searched = 0;
            head(&request, length, limits).map(Some)
        }
        httparse::Status::Complete(_) => Err(too_long(bytes, limits).unwrap_or_else(too_large)),
        httparse::Status::Partial => {
            *searched = bytes.len();
            too_long(bytes, limits).map_or(Ok(None), Err)
        }
    }
}

/// Returns true if there is an empty line in the bytes that have not been searched.
fn may_have_end(bytes: &[u8], searched: &mut usize) -> bool {
    // The end may have begun in what was searched.
    let new = &bytes[(*searched).min(bytes.len()).saturating_sub(3)..];
    *searched = bytes.len();
    memchr::memchr_iter(b'\n', new).any(|at| matches!(new[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

fn too_long(bytes: &[u8], limits: &Limits) -> Option<Refusal> {
    let line = memchr::memchr(b'\n', bytes);
    match line {
        None if limits.target_bytes_max + LINE_BYTES_BESIDE_TARGET < bytes.len() => Some(target_too_long(limits)),
        _ if limits.head_bytes_max < bytes.len() => Some(too_large()),
        _ => None,
    }
}

fn target_too_long(limits: &Limits) -> Refusal {
    Refusal::new(414, format!("the target is longer than {} bytes", limits.target_bytes_max))
}

fn too_large() -> Refusal {
    Refusal::new(431, "the header fields are too many or too long")
}

#[cold]
fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => too_large(),
        httparse::Error::Version => Refusal::new(505, "this is not HTTP/1.1 or HTTP/1.0"),
        _ => Refusal::new(400, format!("this is not HTTP: {error}")),
    }
}

/// The fields of a request that matter here.
#[derive(Default)]
struct Fields<'a> {
    hosts: usize,
    host: Option<&'a [u8]>,
    length: Option<usize>,
    is_chunked: bool,
    closes: bool,
    keeps_alive: bool,
    expects_continue: bool,
    is_encoded: bool,
    content_type: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    agent: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    #[inline]
    fn take(&mut self, name: &str, value: &'a [u8]) -> Result<(), Refusal> {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        // Most fields are of no interest, and are known by their length.
        match name.len() {
            4 if is("host") => (self.hosts, self.host) = (self.hosts + 1, Some(value)),
            6 if is("expect") => self.take_expectation(value)?,
            10 if is("connection") => self.take_connection(value),
            10 if is("user-agent") => self.agent = Some(value),
            12 if is("content-type") => self.content_type = Some(value),
            13 if is("authorization") => self.authorization = Some(value),
            14 if is("content-length") => self.take_length(value)?,
            16 if is("content-encoding") => self.is_encoded |= !value.eq_ignore_ascii_case(b"identity"),
            17 if is("transfer-encoding") => self.take_transfer(value)?,
            _ => {}
        }
        Ok(())
    }

    fn take_connection(&mut self, value: &[u8]) {
        for word in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.closes |= word.eq_ignore_ascii_case(b"close");
            self.keeps_alive |= word.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn take_expectation(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Refusal::new(417, "only 100-continue can be expected"));
        }
        self.expects_continue = true;
        Ok(())
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        // A body that nobody could hold is told so by the limits.
        let text = std::str::from_utf8(value).ok().filter(|_| is_number);
        let length = text.map(|text| text.parse().unwrap_or(usize::MAX >> 1).min(usize::MAX >> 1));
        match (length, self.length) {
            (Some(_), None) => self.length = length,
            _ => return Err(Refusal::new(400, "Content-Length is no number, or stands there twice")),
        }
        Ok(())
    }

    fn take_transfer(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::new(501, "of the transfer encodings only chunked is understood"));
        }
        self.is_chunked = true;
        Ok(())
    }

    /// Returns the framing of the body. A head that could be understood in two ways is refused: another program may understand
    /// it in the other.
    fn framing(&self, is_old: bool) -> Result<Framing, Refusal> {
        match (self.length, self.is_chunked) {
            (Some(_), true) => Err(Refusal::new(400, "Content-Length and Transfer-Encoding contradict each other")),
            (None, true) if is_old => Err(Refusal::new(400, "HTTP/1.0 has no Transfer-Encoding")),
            (None, true) => Ok(Framing::Chunked),
            (None | Some(0), false) => Ok(if self.length.is_none() { Framing::None } else { Framing::Length(0) }),
            (Some(length), false) => Ok(Framing::Length(length)),
        }
    }
}

#[inline]
fn head<'a>(request: &httparse::Request<'_, 'a>, length: usize, limits: &Limits) -> Result<Head<'a>, Refusal> {
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default().as_bytes());
    let is_old = request.version == Some(0);
    let mut fields = Fields::default();
    for field in request.headers.iter() {
        fields.take(field.name, field.value)?;
    }
    if limits.target_bytes_max < target.len() {
        return Err(target_too_long(limits));
    }
    if 1 < fields.hosts || (fields.hosts == 0 && !is_old) {
        return Err(Refusal::new(400, "one Host header belongs to a request of HTTP/1.1"));
    }
    let (authority, target) = split_authority(target);
    let target = memchr::memchr(b'#', target).map_or(target, |at| &target[..at]);
    let query = memchr::memchr(b'?', target);
    let (path, query) = query.map_or((target, None), |at| (&target[..at], Some(&target[at + 1..])));
    Ok(Head {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "POST" | "PATCH" | "OPTIONS" => Method::Other,
            _ => Method::Unknown,
        },
        target,
        path,
        query,
        // RFC 9112, 3.2.2: the target's counts.
        authority: authority.or(fields.host),
        is_old,
        persists: if is_old { fields.keeps_alive && !fields.closes } else { !fields.closes },
        framing: fields.framing(is_old)?,
        expects_continue: fields.expects_continue && !is_old,
        is_encoded: fields.is_encoded,
        content_type: fields.content_type,
        authorization: fields.authorization,
        agent: fields.agent,
        length,
    })
}

/// Splits a target as proxies are sent it, `http://host/path`, into the authority and a target as others are. The authority has
/// the user in it where there is one.
fn split_authority(target: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let scheme_end = match target {
        [b'/', ..] => return (None, target),
        _ => target.windows(3).position(|window| window == b"://"),
    };
    let Some(start) = scheme_end.map(|at| at + 3) else { return (None, target) };
    let rest = &target[start..];
    let path = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    (Some(&rest[..path]), if path == rest.len() { b"/" } else { &rest[path..] })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        key_bytes_max: 100,
        value_bytes_max: 1000,
        words_max: 10,
        request_bytes_max: 2000,
        target_bytes_max: 200,
        head_bytes_max: 600,
    };

    fn parse_whole(text: &str) -> Result<Option<Head<'_>>, Refusal> {
        parse(text.as_bytes(), &mut 0, &LIMITS)
    }

    fn status(text: &str) -> u16 {
        parse_whole(text).expect_err("it is refused").status
    }

    #[test]
    fn a_head_says_how_its_request_goes_on() {
        let text = "PUT /set/a%20b?x=1 HTTP/1.1\r\nHost: h\r\nCONNECTION: Keep-Alive, close\r\n\
                    content-length: 12\r\nExpect: 100-Continue\r\nContent-Type: text/plain\r\n\r\nbody";
        let head = parse_whole(text).unwrap().expect("it is whole");
        assert_eq!((head.method, head.path, head.query), (Method::Put, &b"/set/a%20b"[..], Some(&b"x=1"[..])));
        assert_eq!((head.framing, head.persists, head.expects_continue), (Framing::Length(12), false, true));
        assert_eq!(&text[head.length..], "body");
        let old = parse_whole("GET / HTTP/1.0\r\n\r\n").unwrap().expect("it is whole");
        assert!(old.is_old && !old.persists);
        let old = parse_whole("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap().expect("it is whole");
        assert!(old.persists);
        for (target, path) in
            [("http://h:1/a?b", "/a"), ("http://h", "/"), ("HTTP://h?b", ""), ("*", "*"), ("/a#b", "/a")]
        {
            let text = format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n");
            assert_eq!(parse_whole(&text).unwrap().expect("it is whole").path, path.as_bytes(), "{target}");
        }
    }

    /// The host that a request is for is the target's, else that of the `Host` header, else none.
    #[test]
    fn a_head_says_which_host_it_is_for() {
        for (text, authority) in [
            ("GET /a HTTP/1.1\r\nHost: b:1\r\n\r\n", Some("b:1")),
            ("GET http://c:2/a HTTP/1.1\r\nHost: b\r\n\r\n", Some("c:2")),
            ("GET http://c?a HTTP/1.1\r\nHost: b\r\n\r\n", Some("c")),
            ("GET http://c#a HTTP/1.1\r\nHost: b\r\n\r\n", Some("c")),
            ("GET http:///a HTTP/1.1\r\nHost: b\r\n\r\n", Some("")),
            ("GET http://b@c HTTP/1.0\r\n\r\n", Some("b@c")),
            ("GET /http://c/a HTTP/1.1\r\nHost:\r\n\r\n", Some("")),
            ("GET /a HTTP/1.0\r\n\r\n", None),
            ("GET /a HTTP/1.0\r\nHost: b\r\n\r\n", Some("b")),
        ] {
            let head = parse_whole(text).unwrap().expect("it is whole");
            assert_eq!(head.authority, authority.map(str::as_bytes), "{text}");
        }
    }

    /// A head that is unclear, too large or of another time is refused with the status that says so.
    #[test]
    fn what_a_head_may_not_say_is_refused() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
            ("GET /\u{1} HTTP/1.1\r\n\r\n", 400),
            ("G\0T / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\n\r\n", 505),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400),
            ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            ("PUT / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", 417),
            (&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(200)), 414),
            (&format!("GET /{}", "a".repeat(700)), 414),
            (&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(600)), 431),
            (&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(600)), 431),
            (&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X:a\r\n".repeat(65)), 431),
        ] {
            assert_eq!(status(text), expected, "{text:?}");
        }
        let huge = parse_whole("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n");
        assert_eq!(huge.unwrap().expect("it is whole").framing, Framing::Length(usize::MAX >> 1));
    }

    /// A head that comes a byte at a time is found when its last byte is there, whichever line ends it uses.
    #[test]
    fn a_head_may_come_a_byte_at_a_time() {
        for text in ["GET /get/k HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n", "GET /get/k HTTP/1.1\nHost: a\nX: y\n\n"] {
            let mut searched = 0;
            for end in 1..=text.len() {
                let head = parse(&text.as_bytes()[..end], &mut searched, &LIMITS).expect("it is fine");
                assert_eq!(head.is_some(), end == text.len(), "{end}");
            }
        }
    }
}
