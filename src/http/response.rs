//! Replies of the shards as responses.

use super::{Refusal, Told, tell};
use crate::resp::{decimal, parse_i64};
use httpdate::HttpDate;
use std::{
    io::Write as _,
    time::{Duration, UNIX_EPOCH},
};

/// The kind of the request that a reply answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `/health`: there is no reply, this core answers.
    Health,
    /// `OK` where the server has its data and takes writes.
    Ready,
    /// A text for Prometheus.
    Metrics,
    /// A key's value, or a null.
    Value,
    /// Set if absent: the reply says if the key was free.
    Stored,
    /// `OK`: so many keys.
    StoredAll(u32),
    /// The number of keys that were removed.
    Removed,
}

/// The framing of a response, apart from its status and body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Manner {
    /// Without its body (HEAD).
    pub is_bodiless: bool,
    /// The connection goes on.
    pub persists: bool,
    /// The client speaks HTTP/1.0, and is to be told where the connection goes on.
    pub is_old: bool,
}

/// The way to turn a reply into a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shape {
    /// The kind of request.
    pub kind: Kind,
    /// The framing.
    pub manner: Manner,
}

/// The time of a response, as its `Date` header says it: made once a second.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Date {
    seconds: u64,
    text: [u8; 29],
}

impl Date {
    /// Moves on to this second since 1970.
    #[inline]
    pub fn set(&mut self, seconds: u64) {
        if self.seconds != seconds || self.text[0] == 0 {
            self.seconds = seconds;
            // Years of five digits do not fit, and are not written.
            let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799)));
            let _ = write!(&mut self.text[..], "{date}");
        }
    }
}

const TEXT: &[u8] = b"text/plain; version=0.0.4; charset=utf-8";
const JSON: &[u8] = b"application/json";
/// Values are any bytes; nothing is said of what they mean.
const BYTES: &[u8] = b"application/octet-stream";
/// A client should ask again then: a server that loads, or whose disk was full, may be there.
const RETRY: &str = "Retry-After: 1";
/// No head without headers of its own is longer: it has a fixed number of short lines.
const HEAD_BYTES_MAX: usize = 256;

/// Replaces the reply that stands behind the first `start` bytes of `output` by its response.
///
/// # Panics
/// Where there is no whole reply: only our own cores answer here.
#[inline]
pub fn render(output: &mut Vec<u8>, start: usize, shape: Shape, date: &Date) {
    let Shape { kind, manner } = shape;
    match (kind, output.get(start)) {
        (Kind::Value, Some(b'$')) if output[start + 1] != b'-' => bulk(output, start, BYTES, manner, date),
        (Kind::Metrics, Some(b'$')) => bulk(output, start, TEXT, manner, date),
        (_, Some(b'-')) => error(output, start, kind, manner, date),
        _ => status(output, start, kind, manner, date),
    }
}

/// Puts a head before a string in the place of what stands there.
#[inline]
fn bulk(output: &mut Vec<u8>, start: usize, content_type: &[u8], manner: Manner, date: &Date) {
    let line = memchr::memchr(b'\n', &output[start..]).expect("a string begins with its length");
    let body = start + line + 1;
    // Behind it is a line end that is no part of it.
    let end = output.len() - 2;
    output.truncate(end);
    head(output, 200, "", content_type, end - body, manner, date);
    let length = output.len() - end;
    let mut copy = [0; HEAD_BYTES_MAX];
    copy[..length].copy_from_slice(&output[end..]);
    let shown = if manner.is_bodiless { 0 } else { end - body };
    output.copy_within(body..body + shown, start + length);
    output[start..start + length].copy_from_slice(&copy[..length]);
    output.truncate(start + length + shown);
}

/// Writes a response that is a status and little else.
fn status(output: &mut Vec<u8>, start: usize, kind: Kind, manner: Manner, date: &Date) {
    let number = output.get(start + 1..).and_then(|rest| parse_i64(rest.strip_suffix(b"\r\n")?));
    output.truncate(start);
    match (kind, number) {
        (Kind::Stored, Some(1)) => whole(output, 200, b"{\"stored\":1}", manner, date),
        (Kind::Stored, Some(0)) => refuse(output, &Refusal::new(409, "the key exists"), manner, date),
        (Kind::Removed, Some(1)) => whole(output, 200, b"{\"removed\":1}", manner, date),
        (Kind::Removed, Some(0)) | (Kind::Value, _) => {
            refuse(output, &Refusal::new(404, "there is no such key"), manner, date);
        }
        (Kind::StoredAll(count), _) => {
            let mut body = [0; 32];
            let mut rest = &mut body[..];
            let _ = write!(rest, "{{\"stored\":{count}}}");
            let length = 32 - rest.len();
            whole(output, 200, &body[..length], manner, date);
        }
        (Kind::Health, _) => whole(output, 200, b"{\"status\":\"ok\"}", manner, date),
        (Kind::Ready, _) => whole(output, 200, b"{\"status\":\"ready\"}", manner, date),
        (Kind::Metrics | Kind::Stored | Kind::Removed, _) => {
            refuse(output, &Refusal::new(500, "the server does not understand its own reply"), manner, date);
        }
    }
}

/// Says in HTTP's terms why a request failed, with the error's own words.
#[cold]
fn error(output: &mut Vec<u8>, start: usize, kind: Kind, manner: Manner, date: &Date) {
    let text = String::from_utf8_lossy(&output[start + 1..]).trim_end().to_owned();
    output.truncate(start);
    let code = text.split(' ').next().unwrap_or_default();
    let refusal = match code {
        _ if kind == Kind::Ready => Refusal::new(503, text).with(RETRY),
        "LOADING" | "MISCONF" | "CLUSTERDOWN" | "TRYAGAIN" => Refusal::new(503, text).with(RETRY),
        "OOM" => Refusal::new(507, text),
        "WRONGTYPE" => Refusal::new(409, text),
        _ if kind == Kind::Metrics && text.starts_with("ERR unknown command") => {
            Refusal::new(404, "this server has no metrics")
        }
        _ => Refusal::new(500, text),
    };
    refuse(output, &refusal, manner, date);
}

/// Appends a refusal.
#[cold]
pub fn refuse(output: &mut Vec<u8>, refusal: &Refusal, manner: Manner, date: &Date) {
    let reason = serde_json::to_string(&refusal.reason).unwrap_or_default();
    let body = format!("{{\"error\":{reason}}}");
    head(output, refusal.status, &refusal.header, JSON, body.len(), manner, date);
    if !manner.is_bodiless {
        output.extend_from_slice(body.as_bytes());
    }
}

/// Returns what a client over `maxclients` is told, in the protocol that its first bytes speak; none, of a core's port or of a
/// client that has said nothing yet, count as Redis's.
pub fn too_many_clients(bytes: &[u8], unix_seconds: u64) -> Vec<u8> {
    const REASON: &str = "max number of clients reached";
    if tell(bytes, bytes.len() + 1) != Told::Http {
        return format!("-ERR {REASON}\r\n").into_bytes();
    }
    let (mut output, mut date) = (Vec::new(), Date::default());
    date.set(unix_seconds);
    let manner = Manner { is_bodiless: bytes.trim_ascii_start().starts_with(b"HEAD"), persists: false, is_old: false };
    refuse(&mut output, &Refusal::new(503, REASON).with(RETRY), manner, &date);
    output
}

/// Appends a response without headers of its own.
#[inline]
fn whole(output: &mut Vec<u8>, status: u16, body: &[u8], manner: Manner, date: &Date) {
    head(output, status, "", JSON, body.len(), manner, date);
    if !manner.is_bodiless {
        output.extend_from_slice(body);
    }
}

#[inline]
fn head(
    output: &mut Vec<u8>,
    status: u16,
    header: &str,
    content_type: &[u8],
    length: usize,
    manner: Manner,
    date: &Date,
) {
    output.reserve(HEAD_BYTES_MAX + header.len());
    output.extend_from_slice(b"HTTP/1.1 ");
    output.extend_from_slice(status_line(status));
    output.extend_from_slice(b"\r\nDate: ");
    output.extend_from_slice(&date.text);
    output.extend_from_slice(b"\r\nContent-Type: ");
    output.extend_from_slice(content_type);
    output.extend_from_slice(b"\r\nContent-Length: ");
    decimal(output, length as u64);
    if !header.is_empty() {
        output.extend_from_slice(b"\r\n");
        output.extend_from_slice(header.as_bytes());
    }
    output.extend_from_slice(match (manner.persists, manner.is_old) {
        (true, false) => b"\r\n\r\n",
        (true, true) => b"\r\nConnection: keep-alive\r\n\r\n",
        (false, _) => b"\r\nConnection: close\r\n\r\n",
    });
}

fn status_line(status: u16) -> &'static [u8] {
    match status {
        200 => b"200 OK",
        307 => b"307 Temporary Redirect",
        400 => b"400 Bad Request",
        401 => b"401 Unauthorized",
        404 => b"404 Not Found",
        405 => b"405 Method Not Allowed",
        409 => b"409 Conflict",
        411 => b"411 Length Required",
        413 => b"413 Content Too Large",
        414 => b"414 URI Too Long",
        415 => b"415 Unsupported Media Type",
        417 => b"417 Expectation Failed",
        421 => b"421 Misdirected Request",
        422 => b"422 Unprocessable Content",
        431 => b"431 Request Header Fields Too Large",
        501 => b"501 Not Implemented",
        503 => b"503 Service Unavailable",
        505 => b"505 HTTP Version Not Supported",
        507 => b"507 Insufficient Storage",
        _ => b"500 Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const PLAIN: Manner = Manner { is_bodiless: false, persists: true, is_old: false };

    fn rendered(kind: Kind, manner: Manner, reply: &[u8]) -> String {
        let mut date = Date::default();
        date.set(1_000_000_000);
        let mut output = [b"before", reply].concat();
        render(&mut output, 6, Shape { kind, manner }, &date);
        let text = String::from_utf8(output).expect("text");
        text.strip_prefix("before").expect("what stood there stays").replace('\r', "")
    }

    #[test]
    fn a_response_has_a_date_a_type_and_a_length() {
        expect![[r#"
            HTTP/1.1 200 OK
            Date: Sun, 09 Sep 2001 01:46:40 GMT
            Content-Type: application/octet-stream
            Content-Length: 5

            hello"#]]
        .assert_eq(&rendered(Kind::Value, PLAIN, b"$5\r\nhello\r\n"));
        expect![[r#"
            HTTP/1.1 404 Not Found
            Date: Sun, 09 Sep 2001 01:46:40 GMT
            Content-Type: application/json
            Content-Length: 32
            Connection: close

            {"error":"there is no such key"}"#]]
        .assert_eq(&rendered(Kind::Value, Manner { persists: false, ..PLAIN }, b"$-1\r\n"));
        expect![[r#"
            HTTP/1.1 200 OK
            Date: Sun, 09 Sep 2001 01:46:40 GMT
            Content-Type: application/octet-stream
            Content-Length: 1000
            Connection: keep-alive

        "#]]
        .assert_eq(&rendered(
            Kind::Value,
            Manner { is_bodiless: true, is_old: true, persists: true },
            &[b"$1000\r\n", &[b'x'; 1000][..], b"\r\n"].concat(),
        ));
    }

    /// One client too many is told so in what it speaks.
    #[test]
    fn too_many_clients_are_told_in_their_protocol() {
        for bytes in [&b""[..], b"*1\r\n$4\r\nPING\r\n", b"PING\r\n", b"GET "] {
            assert_eq!(too_many_clients(bytes, 0), b"-ERR max number of clients reached\r\n");
        }
        let text = String::from_utf8(too_many_clients(b"GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n", 0)).unwrap();
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n\r\n{\"error\":\"max number of clients reached\"}"), "{text}");
        let text = String::from_utf8(too_many_clients(b"HEAD /get/k HTTP/1.1\r\n\r\n", 0)).unwrap();
        assert!(text.starts_with("HTTP/1.1 503 ") && text.ends_with("\r\n\r\n"), "{text}");
    }

    /// Every reply that a shard gives has its status and its body.
    #[test]
    fn replies_become_statuses() {
        for (kind, reply, status, body) in [
            (Kind::Value, &b"$0\r\n\r\n"[..], 200, ""),
            (Kind::Stored, b":1\r\n", 200, r#"{"stored":1}"#),
            (Kind::Stored, b":0\r\n", 409, r#"{"error":"the key exists"}"#),
            (Kind::StoredAll(17), b"+OK\r\n", 200, r#"{"stored":17}"#),
            (Kind::Removed, b":1\r\n", 200, r#"{"removed":1}"#),
            (Kind::Removed, b":0\r\n", 404, r#"{"error":"there is no such key"}"#),
            (Kind::Ready, b"+OK\r\n", 200, r#"{"status":"ready"}"#),
            (Kind::Health, b"", 200, r#"{"status":"ok"}"#),
            (Kind::Ready, b"-LOADING x\r\n", 503, r#"{"error":"LOADING x"}"#),
            (Kind::Ready, b"-OOM x\r\n", 503, r#"{"error":"OOM x"}"#),
            (Kind::Value, b"-LOADING x\r\n", 503, r#"{"error":"LOADING x"}"#),
            (Kind::Stored, b"-MISCONF disk full\r\n", 503, r#"{"error":"MISCONF disk full"}"#),
            (Kind::Stored, b"-OOM \"x\"\r\n", 507, r#"{"error":"OOM \"x\""}"#),
            (Kind::Value, b"-WRONGTYPE x\r\n", 409, r#"{"error":"WRONGTYPE x"}"#),
            (Kind::Value, b"-ERR the value can't be read\r\n", 500, r#"{"error":"ERR the value can't be read"}"#),
            (Kind::Metrics, b"-ERR unknown command 'METRICS'\r\n", 404, r#"{"error":"this server has no metrics"}"#),
            (Kind::Metrics, b"$3\r\na 1\r\n", 200, "a 1"),
        ] {
            let text = rendered(kind, PLAIN, reply);
            let (head, found) = text.split_once("\n\n").expect("a head");
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{kind:?}: {head}");
            assert_eq!(found, body, "{kind:?}");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
            assert_eq!(status == 503, head.contains("Retry-After"), "{head}");
        }
    }

    /// The longest head of a value fits into the room that there is for it.
    #[test]
    fn the_longest_head_fits() {
        let mut output = Vec::new();
        let manner = Manner { is_bodiless: false, persists: true, is_old: true };
        head(&mut output, 431, "", TEXT, usize::MAX, manner, &Date::default());
        assert!(output.len() <= HEAD_BYTES_MAX, "{}", output.len());
    }
}
