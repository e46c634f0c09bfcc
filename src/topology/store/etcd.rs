//! Requests and answers of etcd's JSON gateway, as texts: `/v3/kv/range`, `/v3/kv/txn`, `/v3/watch` and
//! `/v3/auth/authenticate`. Keys and values are in base64; 64-bit numbers are strings.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::json;

/// The path of [`range`].
pub const RANGE: &str = "/v3/kv/range";
/// The path of [`put_if`].
pub const TXN: &str = "/v3/kv/txn";
/// The path of [`watch`].
pub const WATCH: &str = "/v3/watch";
/// The path of [`authenticate`].
pub const AUTHENTICATE: &str = "/v3/auth/authenticate";

/// A value that etcd holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    /// etcd's revision at which it was put. Grows with each change of anything in etcd.
    pub mod_revision: i64,
    /// The value.
    pub text: String,
}

/// The answer to [`range`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RangeAnswer {
    /// etcd's revision now.
    pub revision: i64,
    /// The key's value, if it has one.
    pub held: Option<Held>,
}

/// The answer to [`put_if`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PutAnswer {
    /// The value was put.
    Put,
    /// The key had been changed before, and has this value.
    Changed(Option<Held>),
}

/// A line of the answer to [`watch`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WatchLine {
    /// The watch has begun, or is still there.
    Nothing,
    /// The key's value was changed, the last time to this.
    Put(Held),
    /// The key was removed.
    Removed,
    /// The watch has ended; read the key and begin another.
    Ended(String),
}

/// An answer that is an error.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Problem {
    /// The request may have been carried out, or may be later.
    Undecided(String),
    /// The request was not carried out: authenticate, and ask again.
    NotAuthenticated(String),
    /// The request was not carried out, and will not be.
    Refused(String),
}

/// Returns the request for a key's value.
pub fn range(key: &str) -> String {
    json!({ "key": encoded(key) }).to_string()
}

/// Returns the request that puts a value if the key's was put at this revision; 0: if it has none. If not, the answer has the
/// key's value.
pub fn put_if(key: &str, mod_revision: i64, value: &str) -> String {
    let key = encoded(key);
    json!({
        "compare": [{ "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": mod_revision.to_string() }],
        "success": [{ "request_put": { "key": key, "value": encoded(value) } }],
        "failure": [{ "request_range": { "key": key } }],
    })
    .to_string()
}

/// Returns the request for all changes of a key from a revision of etcd on.
pub fn watch(key: &str, from: i64) -> String {
    json!({ "create_request": { "key": encoded(key), "start_revision": from.to_string() } }).to_string()
}

/// Returns the request for a token.
pub fn authenticate(user: &str, password: &str) -> String {
    json!({ "name": user, "password": password }).to_string()
}

/// Reads the answer to [`range`].
///
/// # Errors
/// It is none.
pub fn range_answer(text: &str) -> Result<RangeAnswer, String> {
    let answer: Range = read(text)?;
    Ok(RangeAnswer { revision: number(&answer.header.revision)?, held: held(answer.kvs)? })
}

/// Reads the answer to [`put_if`].
///
/// # Errors
/// It is none.
pub fn put_answer(text: &str) -> Result<PutAnswer, String> {
    let answer: Txn = read(text)?;
    if answer.succeeded {
        return Ok(PutAnswer::Put);
    }
    let range = answer.responses.into_iter().next().and_then(|response| response.response_range);
    Ok(PutAnswer::Changed(held(range.ok_or("an answer to a transaction without its range")?.kvs)?))
}

/// Reads a line of the answer to [`watch`].
///
/// # Errors
/// It is none.
pub fn watch_line(text: &str) -> Result<WatchLine, String> {
    let line: Line = read(text)?;
    let Some(result) = line.result else {
        let error = line.error.unwrap_or_default();
        return Ok(WatchLine::Ended(error.message.or(error.error).unwrap_or_else(|| "ended".into())));
    };
    if result.canceled {
        return Ok(WatchLine::Ended(result.cancel_reason.unwrap_or_else(|| "cancelled".into())));
    }
    match result.events.into_iter().next_back() {
        None => Ok(WatchLine::Nothing),
        Some(event) if event.kind.as_deref() == Some("DELETE") => Ok(WatchLine::Removed),
        Some(event) => Ok(held(event.kv.into_iter().collect())?.map_or(WatchLine::Nothing, WatchLine::Put)),
    }
}

/// Reads the answer to [`authenticate`]: the token.
///
/// # Errors
/// It is none.
pub fn token(text: &str) -> Result<String, String> {
    read::<Token>(text).map(|answer| answer.token)
}

/// Reads an answer whose HTTP status is not 200.
pub fn problem(status: u16, text: &str) -> Problem {
    let error: Error = serde_json::from_str(text).unwrap_or_default();
    let message = error.message.or(error.error).unwrap_or_else(|| format!("HTTP status {status}"));
    // Codes of gRPC: 1 cancelled, 2 unknown, 4 deadline exceeded, 13 internal, 14 unavailable; 16 unauthenticated.
    match error.code {
        Some(16) => Problem::NotAuthenticated(message),
        _ if message.contains("revision of auth store is old") => Problem::NotAuthenticated(message),
        Some(1 | 2 | 4 | 13 | 14) => Problem::Undecided(message),
        Some(_) => Problem::Refused(message),
        None if (400..500).contains(&status) => Problem::Refused(message),
        None => Problem::Undecided(message),
    }
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("not an answer of etcd: {error}"))
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("not an answer of etcd: revision {text:?}"))
}

fn held(kvs: Vec<KeyValue>) -> Result<Option<Held>, String> {
    let Some(kv) = kvs.into_iter().next() else { return Ok(None) };
    let bytes = STANDARD.decode(&kv.value).map_err(|error| format!("a value that is not base64: {error}"))?;
    // What is not UTF-8 is no document: it shall be told as such, with the place.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Some(Held { mod_revision: number(&kv.mod_revision)?, text }))
}

#[derive(Deserialize)]
struct Range {
    header: Header,
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

#[derive(Default, Deserialize)]
struct Header {
    #[serde(default)]
    revision: String,
}

#[derive(Deserialize)]
struct KeyValue {
    #[serde(default)]
    mod_revision: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Txn {
    #[serde(default)]
    succeeded: bool,
    #[serde(default)]
    responses: Vec<TxnResponse>,
}

#[derive(Deserialize)]
struct TxnResponse {
    response_range: Option<TxnRange>,
}

#[derive(Deserialize)]
struct TxnRange {
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

#[derive(Deserialize)]
struct Line {
    result: Option<LineResult>,
    error: Option<Error>,
}

#[derive(Deserialize)]
struct LineResult {
    #[serde(default)]
    canceled: bool,
    cancel_reason: Option<String>,
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    /// Left out: PUT.
    #[serde(rename = "type")]
    kind: Option<String>,
    kv: Option<KeyValue>,
}

#[derive(Default, Deserialize)]
struct Error {
    error: Option<String>,
    message: Option<String>,
    code: Option<i64>,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}
