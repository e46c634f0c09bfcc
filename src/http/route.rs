//! Routes: the Redis request that an HTTP request becomes.

use super::{
    Limits, Refusal, body, form,
    head::{Framing, Head, Method},
    json,
    response::Kind,
};
use crate::resp::Words;

/// The meaning of a request's head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ask<'a> {
    /// `/health`: whether this core answers.
    Health,
    /// `/ready`: whether the server has its data and takes writes.
    Ready,
    /// `/metrics`.
    Metrics,
    /// `/get/{key}` and `/retrieve?key=`.
    Get(KeyText<'a>),
    /// `/set/{key}`: set if absent.
    Set(KeyText<'a>),
    /// `/remove?key=`.
    Remove(KeyText<'a>),
    /// `/store`.
    Store,
}

/// A key as it is written in a target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyText<'a> {
    text: &'a [u8],
    /// It is part of a query, where `+` is a space.
    is_query: bool,
}

const SHOW: &str = "Allow: GET, HEAD";
const PUT: &str = "Allow: PUT";
const DELETE: &str = "Allow: DELETE";

/// Finds the resource that a request means.
///
/// # Errors
/// [`Refusal`] where there is none, or it can't be asked this.
#[inline]
pub fn find<'a>(head: &Head<'a>) -> Result<Ask<'a>, Refusal> {
    let in_path = |prefix: &str| {
        let text = head.path.strip_prefix(prefix.as_bytes())?;
        Some(KeyText { text, is_query: false })
    };
    let (ask, allowed) = if let Some(key) = in_path("/get/") {
        (Ask::Get(key), SHOW)
    } else if let Some(key) = in_path("/set/") {
        (Ask::Set(key), PUT)
    } else {
        match head.path {
            b"/store" => (Ask::Store, PUT),
            b"/retrieve" => (Ask::Get(KeyText { text: b"", is_query: true }), SHOW),
            b"/remove" => (Ask::Remove(KeyText { text: b"", is_query: true }), DELETE),
            b"/health" => (Ask::Health, SHOW),
            b"/ready" => (Ask::Ready, SHOW),
            b"/metrics" => (Ask::Metrics, SHOW),
            _ => {
                return Err(Refusal::new(
                    404,
                    "there is no such resource, but /set/{key}, /get/{key}, /store, /retrieve, /remove, /health, /ready, \
                     /metrics",
                ));
            }
        }
    };
    let is_allowed = match head.method {
        Method::Get | Method::Head => allowed == SHOW,
        Method::Put => allowed == PUT,
        Method::Delete => allowed == DELETE,
        Method::Other => false,
        Method::Unknown => return Err(Refusal::new(501, "this server knows GET, HEAD, PUT and DELETE")),
    };
    if !is_allowed {
        return Err(Refusal::new(405, "this resource has other methods: see Allow").with(allowed));
    }
    Ok(match ask {
        Ask::Get(key) if key.is_query => Ask::Get(key_of_query(head)?),
        Ask::Remove(_) => Ask::Remove(key_of_query(head)?),
        _ => ask,
    })
}

fn key_of_query<'a>(head: &Head<'a>) -> Result<KeyText<'a>, Refusal> {
    form::field(head.query.unwrap_or_default(), "key").map(|text| KeyText { text, is_query: true })
}

impl Ask<'_> {
    /// Returns true if anybody may ask this, without the password.
    pub fn is_public(&self) -> bool {
        matches!(self, Self::Health | Self::Ready)
    }

    /// Returns true if a body belongs to it.
    pub fn takes_body(&self) -> bool {
        matches!(self, Self::Set(_) | Self::Store)
    }

    /// Begins the Redis request, with all that the head tells: the body may still be on its way.
    ///
    /// # Errors
    /// [`Refusal`] where the key or what the head says of the body won't do.
    #[inline]
    pub fn begin(&self, head: &Head<'_>, limits: &Limits, words: &mut Words) -> Result<(), Refusal> {
        if self.takes_body() {
            self.check_body(head, limits)?;
        }
        let (name, key) = match self {
            Self::Health => return Ok(()),
            Self::Ready => (&b"READY"[..], None),
            Self::Metrics => (&b"METRICS"[..], None),
            Self::Get(key) => (&b"GET"[..], Some(key)),
            Self::Set(key) => (&b"SETNX"[..], Some(key)),
            Self::Remove(key) => (&b"DEL"[..], Some(key)),
            Self::Store => (&b"MSET"[..], None),
        };
        words.begin(name);
        let Some(key) = key else { return Ok(()) };
        words.write(|output| form::decode(key.text, key.is_query, output))?;
        match words.request().arg(1).len() {
            0 => Err(Refusal::new(400, "the key is empty")),
            length if limits.key_bytes_max < length => {
                Err(Refusal::new(414, format!("the key is longer than {} bytes (max-key-bytes)", limits.key_bytes_max)))
            }
            _ => Ok(()),
        }
    }

    fn check_body(&self, head: &Head<'_>, limits: &Limits) -> Result<(), Refusal> {
        match head.framing {
            Framing::None => return Err(Refusal::new(411, "a body belongs to this, with its Content-Length")),
            Framing::Length(length) if limits.request_bytes_max < length => {
                return Err(Refusal::new(413, format!("a request may have {} bytes here", limits.request_bytes_max)));
            }
            _ => {}
        }
        if head.is_encoded {
            return Err(Refusal::new(415, "the body may have no Content-Encoding"));
        }
        match (self, BodyType::of(head)) {
            (Self::Store, Some(BodyType::Json)) | (Self::Set(_), Some(BodyType::Form | BodyType::Parts)) => Ok(()),
            (Self::Store, _) => Err(Refusal::new(415, "the Content-Type is to be application/json")),
            _ => Err(Refusal::new(
                415,
                "the Content-Type is to be application/x-www-form-urlencoded or multipart/form-data, with a field 'value'",
            )),
        }
    }

    /// Ends the Redis request with what the body holds. Returns how the reply becomes a response.
    ///
    /// # Errors
    /// [`Refusal`] where the body is not what the request needs.
    #[inline]
    pub fn finish(&self, head: &Head<'_>, body: &[u8], limits: &Limits, words: &mut Words) -> Result<Kind, Refusal> {
        Ok(match self {
            Self::Health => Kind::Health,
            Self::Ready => Kind::Ready,
            Self::Metrics => Kind::Metrics,
            Self::Get(_) => Kind::Value,
            Self::Remove(_) => Kind::Removed,
            Self::Store => Kind::StoredAll(json::read(body, limits, words)? as u32),
            Self::Set(_) => {
                match BodyType::of(head) {
                    Some(BodyType::Parts) => {
                        let parameters = body::media_type(head).unwrap_or_default().1;
                        words.push(form::part(body, parameters, "value")?);
                    }
                    _ => {
                        let value = form::field(body, "value")?;
                        words.write(|output| form::decode(value, true, output))?;
                    }
                }
                if limits.value_bytes_max < words.request().arg(2).len() {
                    let most = limits.value_bytes_max;
                    return Err(Refusal::new(
                        413,
                        format!("the value is longer than {most} bytes (proto-max-bulk-len)"),
                    ));
                }
                Kind::Stored
            }
        })
    }
}

/// The type of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum BodyType {
    Form,
    Parts,
    Json,
}

impl BodyType {
    #[inline]
    fn of(head: &Head<'_>) -> Option<Self> {
        let name = body::media_type(head)?.0;
        let types = [
            ("application/x-www-form-urlencoded", Self::Form),
            ("multipart/form-data", Self::Parts),
            ("application/json", Self::Json),
        ];
        types.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(_, body)| body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head;

    fn limits() -> Limits {
        Limits::new(20, 30, 10, 1000)
    }

    /// The Redis request that a request becomes, or the status that refuses it.
    fn words(request: &str) -> Result<String, u16> {
        let head = head::parse(request.as_bytes(), &mut 0, &limits()).unwrap().expect("it is whole");
        let mut words = Words::default();
        let refused = |refusal: Refusal| refusal.status;
        let ask = find(&head).map_err(refused)?;
        ask.begin(&head, &limits(), &mut words).map_err(refused)?;
        ask.finish(&head, &request.as_bytes()[head.length..], &limits(), &mut words).map_err(refused)?;
        let words: Vec<_> = words.request().args_from(0).map(|word| word.escape_ascii().to_string()).collect();
        Ok(words.join(" "))
    }

    fn put(path: &str, content_type: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    }

    #[test]
    fn requests_become_redis_requests() {
        const FORM: &str = "application/x-www-form-urlencoded";
        for (line, expected) in [
            ("GET /get/k", Ok("GET k")),
            ("HEAD /get/a%20b+c/d", Ok("GET a b+c/d")),
            ("GET /get/k?ignored=1", Ok("GET k")),
            ("GET /retrieve?key=a+b%2B", Ok("GET a b+")),
            ("GET /retrieve?x=1&key=k", Ok("GET k")),
            ("DELETE /remove?key=k", Ok("DEL k")),
            ("GET /metrics", Ok("METRICS")),
            ("GET /ready", Ok("READY")),
            ("GET /retrieve", Err(400)),
            ("GET /retrieve?key=", Err(400)),
            ("GET /retrieve?key=a&key=b", Err(400)),
            ("GET /get/", Err(400)),
            ("GET /get/%", Err(400)),
            ("GET /get/123456789012345678901", Err(414)),
            ("GET /", Err(404)),
            ("GET /get", Err(404)),
            ("GET /stores", Err(404)),
            ("POST /get/k", Err(405)),
            ("DELETE /get/k", Err(405)),
            ("GET /set/k", Err(405)),
            ("GET /remove?key=k", Err(405)),
            ("OPTIONS /store", Err(405)),
            ("TRACE /get/k", Err(501)),
            ("PUT /set/k", Err(411)),
        ] {
            let found = words(&format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(found.as_deref(), expected.as_ref().copied(), "{line}");
        }
        for (path, content_type, body, expected) in [
            ("/set/k", FORM, "value=a+%ff", Ok("SETNX k a \\xff")),
            ("/set/k", "Application/X-WWW-form-urlencoded; charset=utf-8", "value=", Ok("SETNX k ")),
            (
                "/set/k",
                "multipart/form-data; boundary=b",
                "--b\r\nContent-Disposition: form-data; name=value\r\n\r\na+b\r\n--b--",
                Ok("SETNX k a+b"),
            ),
            ("/set/k", FORM, "val=1", Err(400)),
            ("/set/k", FORM, "value=1234567890123456789012345678901", Err(413)),
            ("/set/k", "text/plain", "value=1", Err(415)),
            ("/set/k", "application/json", "{}", Err(415)),
            ("/set/", FORM, "value=1", Err(400)),
            ("/store", "application/json;charset=utf-8", "{\"a\":\"1\",\"b\":\"2\"}", Ok("MSET a 1 b 2")),
            ("/store", FORM, "{\"a\":\"1\"}", Err(415)),
            ("/store", "application/json", "[]", Err(400)),
        ] {
            assert_eq!(words(&put(path, content_type, body)).as_deref(), expected.as_ref().copied(), "{path} {body}");
        }
        let encoded = put("/store", "application/json\r\nContent-Encoding: gzip", "x");
        assert_eq!(words(&encoded), Err(415));
    }
}
