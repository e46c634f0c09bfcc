//! The Redis protocol on the wire: requests in (RESP arrays and inline commands), replies out (RESP2 and RESP3).

mod decimal;
mod decoder;
mod inline;
mod reply;
mod request;

pub use decimal::{decimal, decimal_signed, parse_i64};
pub use decoder::{Decoded, Decoder, Limits, ProtocolError};
pub use reply::{Reply, Version};
pub use request::{Request, Words, encode_request};
