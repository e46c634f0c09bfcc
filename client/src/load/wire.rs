//! Requests as bytes: reads and writes of numbered keys, written straight into a connection's output, in the Redis
//! protocol or in HTTP.

use super::{
    http::{self, request::Requests},
    keys::Keys,
    reply::Codec,
    value::{Form, Version},
};
use trine::resp::decimal;

/// Writes requests in one protocol.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    /// GET and SET of the Redis protocol.
    Resp(Commands),
    /// GET and PUT of HTTP.
    Http(Requests),
}

impl Wire {
    /// Returns the form of values on this wire.
    pub(crate) fn form(&self) -> Form {
        match self {
            Self::Resp(_) => Form::Bytes,
            Self::Http(_) => Form::Letters,
        }
    }

    /// Returns the decoder for the replies of a new connection.
    pub(crate) fn codec(&self) -> Codec {
        match self {
            Self::Resp(_) => Codec::default(),
            Self::Http(_) => Codec::Http(http::response::Decoder::default()),
        }
    }

    /// Returns true if the first value of a key stays.
    pub(crate) fn keeps_first(&self) -> bool {
        matches!(self, Self::Http(requests) if requests.api() == http::Api::Set)
    }

    /// Knows all nodes that requests will go to.
    pub(crate) fn know(&mut self, nodes: &[String]) {
        if let Self::Http(requests) = self {
            requests.know(nodes);
        }
    }

    /// The key with this number.
    #[inline]
    pub(crate) fn key(&mut self, number: u64) -> &[u8] {
        match self {
            Self::Resp(commands) => commands.keys.text(number),
            Self::Http(requests) => requests.key(number),
        }
    }

    /// Appends a read that goes to this node.
    #[inline]
    pub(crate) fn get(&mut self, output: &mut Vec<u8>, node: usize, key: u64) {
        match self {
            Self::Resp(commands) => commands.get(output, key),
            Self::Http(requests) => requests.get(output, node, key),
        }
    }

    /// Appends a write, to this node, of the key's value of this version and length.
    #[inline]
    pub(crate) fn set(&mut self, output: &mut Vec<u8>, node: usize, key: u64, version: Version, length: usize) {
        match self {
            Self::Resp(commands) => commands.set(output, key, version, length),
            Self::Http(requests) => requests.set(output, node, key, version, length),
        }
    }
}

/// Writes commands of the Redis protocol.
#[derive(Clone, Debug)]
pub(crate) struct Commands {
    get: Vec<u8>,
    set: Vec<u8>,
    keys: Keys,
}

impl Commands {
    pub(crate) fn new(keys: Keys) -> Self {
        let size = keys.size();
        Self {
            get: format!("*2\r\n$3\r\nGET\r\n${size}\r\n").into_bytes(),
            set: format!("*3\r\n$3\r\nSET\r\n${size}\r\n").into_bytes(),
            keys,
        }
    }

    #[inline]
    fn get(&mut self, output: &mut Vec<u8>, key: u64) {
        output.extend_from_slice(&self.get);
        output.extend_from_slice(self.keys.text(key));
        output.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn set(&mut self, output: &mut Vec<u8>, key: u64, version: Version, length: usize) {
        output.reserve(self.set.len() + self.keys.size() + length + 32);
        output.extend_from_slice(&self.set);
        output.extend_from_slice(self.keys.text(key));
        output.extend_from_slice(b"\r\n$");
        decimal(output, length as u64);
        output.extend_from_slice(b"\r\n");
        Form::Bytes.write(output, key, version, length);
        output.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trine::resp::{Decoded, Decoder, Limits};

    /// A server reads what was meant.
    #[test]
    fn requests_are_whole() {
        let mut wire = Wire::Resp(Commands::new(Keys::shared(16, 100_000).unwrap()));
        let mut output = Vec::new();
        wire.set(&mut output, 0, 42, Version(1), 20);
        wire.get(&mut output, 0, 42);
        let limits = Limits { arguments_max: 10, argument_bytes_max: 1000, is_authenticated: true };
        let mut decoder = Decoder::default();
        let Ok(Decoded::Request(used)) = decoder.decode(&output, &limits) else { panic!("no request") };
        let request = decoder.request(&output);
        assert_eq!((request.arg(0), request.arg(1)), (&b"SET"[..], &b"key:000000000042"[..]));
        assert_eq!(Form::Bytes.check(request.arg(2), 42), Some(Version(1)));
        assert_eq!(&output[used..], b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000042\r\n");
    }
}
