//! HTTP/1.1 on the gateway's port: requests cut out of bytes, what each asks of the shards, and replies as responses.
//!
//! An HTTP request becomes a Redis request ([`route`]), which is executed as any other; its reply becomes the response
//! ([`response`]). So order, durability and the way to other cores are what they are for Redis clients. `session/http.rs`
//! drives this. `http/README.md` has the table of what is answered.

pub mod body;
pub mod form;
pub mod head;
pub mod host;
pub mod json;
pub mod response;
pub mod route;
mod tell;

pub use tell::{Told, tell};

use std::borrow::Cow;

/// Limits of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The longest key.
    pub key_bytes_max: usize,
    /// The longest value.
    pub value_bytes_max: usize,
    /// The most words of the Redis request that an HTTP request becomes.
    pub words_max: usize,
    /// The most bytes of a request, its head included.
    pub request_bytes_max: usize,
    /// The longest target of a request: a path and a query.
    pub target_bytes_max: usize,
    /// The most bytes of a head.
    pub head_bytes_max: usize,
}

/// The most bytes of a head beside its target; what browsers send is below 2 KiB, with large cookies below 16.
const HEADERS_BYTES_MAX: usize = 32 * 1024;
/// The most header fields of a request.
pub(crate) const HEADERS_MAX: usize = 64;
/// A target's room beside the key: the path, and other parts of the query.
const TARGET_BYTES_BESIDE_KEY: usize = 1024;
/// The longest body that is read only to be forgotten, so that the connection can go on.
const IGNORED_BODY_BYTES_MAX: usize = 16 * 1024;

impl Limits {
    /// Returns the limits that follow from a server's own. A key may be three times as long in a target, each byte as `%XX`.
    pub fn new(key_bytes_max: usize, value_bytes_max: usize, words_max: usize, request_bytes_max: usize) -> Self {
        let target_bytes_max = 3 * key_bytes_max + TARGET_BYTES_BESIDE_KEY;
        let head_bytes_max = target_bytes_max + HEADERS_BYTES_MAX;
        Self { key_bytes_max, value_bytes_max, words_max, request_bytes_max, target_bytes_max, head_bytes_max }
    }

    /// The same for a client that nobody knows yet, whose heads are no longer than this.
    #[must_use]
    pub fn unauthenticated(self, head_bytes_max: usize) -> Self {
        Self { head_bytes_max, target_bytes_max: head_bytes_max, ..self }
    }

    /// Returns the length of a body that is read only to be forgotten: no more than a head may have, which is little for a client
    /// that nobody knows.
    pub fn ignored_body_bytes_max(&self) -> usize {
        IGNORED_BODY_BYTES_MAX.min(self.head_bytes_max)
    }
}

/// Why a request is not executed, as its sender is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The status code.
    pub status: u16,
    /// The problem, and what would be right.
    pub reason: Cow<'static, str>,
    /// A header that belongs to it, without its line end; empty where there is none.
    pub header: Cow<'static, str>,
}

impl Refusal {
    /// A refusal without a header of its own.
    #[cold]
    pub fn new(status: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { status, reason: reason.into(), header: "".into() }
    }

    /// The same with a header.
    #[must_use]
    pub fn with(self, header: impl Into<Cow<'static, str>>) -> Self {
        Self { header: header.into(), ..self }
    }
}
