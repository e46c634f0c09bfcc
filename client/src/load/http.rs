//! The HTTP API of Trine and of its predecessor, as a client sees it.
//!
//! ```text
//! set:    PUT /set/{key}   form field `value`: 200, or 409 if the key exists     GET /get/{key}       200 or 404
//! store:  PUT /store       JSON object of keys and values: 200                   GET /retrieve?key=   200 or 404
//! ```

pub(crate) mod request;
pub(crate) mod response;

/// The pair of HTTP requests that reads and writes a key.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Api {
    /// PUT /set/{key}, which leaves a key alone that exists, and GET /get/{key}
    #[default]
    Set,
    /// PUT /store, which overwrites, and GET /retrieve?key=
    Store,
}
