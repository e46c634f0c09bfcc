//! Replies of both protocols, in the few words that a load generator has for them.

use super::http::response::{self, Response, ResponseError};
use std::fmt;
use trine::printable::printable;
use trine_client::{
    pipeline::Cut,
    reply::{self, ReplyError},
};

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reply<'a> {
    /// The write is done.
    Stored,
    /// The key has this value.
    Value(&'a [u8]),
    /// HTTP says that it worked: a value for a read, and nothing to look at for a write.
    Success(&'a [u8]),
    /// There is no such key.
    Missing,
    /// The key has a value, and keeps it.
    Exists,
    /// Another server has the key: this is where.
    Elsewhere(&'a [u8]),
    /// An error of the Redis protocol.
    Error(&'a [u8]),
    /// An error of HTTP: status and body.
    Status(u16, &'a [u8]),
    /// The Redis protocol has it, but not in answer to what was asked.
    Strange,
    /// Nobody asked.
    Push,
}

impl Reply<'_> {
    /// Returns why the reply is no answer to the request.
    #[cold]
    pub(crate) fn complaint(&self) -> String {
        let text = |bytes: &[u8]| printable(String::from_utf8_lossy(bytes).trim()).into_owned();
        match self {
            Self::Error(error) => text(error),
            Self::Status(status, body) => format!("HTTP {status} {}", text(body)).trim_end().into(),
            Self::Elsewhere(location) => match authority(location) {
                Some(_) => "redirected once too often".into(),
                None => format!("redirected to nowhere: `{}`", text(location)),
            },
            Self::Exists => "the key exists already, though it should be new".into(),
            _ => "a reply of an unexpected type".into(),
        }
    }
}

/// The decoder of a connection's replies.
#[derive(Debug)]
pub(crate) enum Codec {
    Resp(reply::Decoder),
    Http(response::Decoder),
}

impl Default for Codec {
    fn default() -> Self {
        Self::Resp(reply::Decoder::default())
    }
}

/// Why bytes are no reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CodecError {
    Resp(ReplyError),
    Http(ResponseError),
}

impl fmt::Display for CodecError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resp(error) => error.fmt(formatter),
            Self::Http(error) => error.fmt(formatter),
        }
    }
}

impl Cut for Codec {
    type Reply<'a> = Reply<'a>;
    type Error = CodecError;

    #[inline]
    fn cut<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Option<(Reply<'a>, usize)>, CodecError> {
        Ok(match self {
            Self::Resp(decoder) => {
                decoder.decode(bytes).map_err(CodecError::Resp)?.map(|(reply, used)| (of_resp(reply), used))
            }
            Self::Http(decoder) => {
                decoder.decode(bytes).map_err(CodecError::Http)?.map(|(response, used)| (of_http(response), used))
            }
        })
    }

    #[inline]
    fn is_answer(reply: &Reply<'_>) -> bool {
        *reply != Reply::Push
    }

    fn unasked(first: u8) -> CodecError {
        match first {
            b'H' => CodecError::Http(ResponseError::Unasked),
            first => CodecError::Resp(ReplyError::Sign(first)),
        }
    }

    #[inline]
    fn is_over(&self) -> bool {
        matches!(self, Self::Http(decoder) if decoder.is_over())
    }

    fn renewed(&self) -> Self {
        match self {
            Self::Resp(_) => Self::default(),
            Self::Http(_) => Self::Http(response::Decoder::default()),
        }
    }
}

#[inline]
fn of_resp(reply: reply::Reply<'_>) -> Reply<'_> {
    match reply {
        reply::Reply::Simple(_) => Reply::Stored,
        reply::Reply::Bulk(value) => Reply::Value(value),
        reply::Reply::Null => Reply::Missing,
        reply::Reply::Error(text) => Reply::Error(text),
        reply::Reply::Push(_) => Reply::Push,
        _ => Reply::Strange,
    }
}

#[inline]
fn of_http(response: Response<'_>) -> Reply<'_> {
    match response.status {
        200..=299 => Reply::Success(response.body),
        404 => Reply::Missing,
        409 => Reply::Exists,
        301 | 302 | 307 | 308 => response.location.map_or(Reply::Status(response.status, b""), Reply::Elsewhere),
        status => Reply::Status(status, response.body),
    }
}

/// The server that a Location names, as host:port.
pub(crate) fn authority(location: &[u8]) -> Option<&str> {
    let rest = std::str::from_utf8(location).ok()?.strip_prefix("http://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (host, port) = authority.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok()).then_some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Location names a server by its host and port; anything else names none.
    #[test]
    fn a_location_names_a_server() {
        for (location, expected) in [
            ("http://10.0.0.2:7100/get/key:1", Some("10.0.0.2:7100")),
            ("http://[::1]:7100?x", Some("[::1]:7100")),
            ("http://h:1", Some("h:1")),
            ("/get/key:1", None),
            ("https://h:1/", None),
            ("http://h/", None),
            ("http://:7000/", None),
        ] {
            assert_eq!(authority(location.as_bytes()), expected, "{location}");
        }
    }
}
