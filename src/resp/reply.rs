//! Replies, as they are written.

use super::decimal::{decimal, decimal_signed};

/// The version of the protocol for replies: `HELLO 2` (as every connection begins) or `HELLO 3`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Version {
    /// RESP2: nulls are empty bulks, maps are flat arrays.
    #[default]
    Two,
    /// RESP3: its own null, maps, sets, booleans and doubles.
    Three,
}

/// Writes replies behind what is already in `output`, in the client's version of the protocol.
pub struct Reply<'a> {
    /// The buffer that replies are written to.
    pub output: &'a mut Vec<u8>,
    /// The client's version of the protocol.
    pub version: Version,
}

impl Reply<'_> {
    /// `+text`: a status. `text` must have no line end.
    #[inline]
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.output.extend_from_slice(b"+OK\r\n");
    }

    /// `-text`: an error; its first word is its code (`ERR`, `WRONGTYPE`, …). Line ends in `text` become spaces.
    pub fn error(&mut self, text: &str) {
        self.output.push(b'-');
        self.output.extend(text.bytes().map(|byte| if byte == b'\r' || byte == b'\n' { b' ' } else { byte }));
        self.output.extend_from_slice(b"\r\n");
    }

    /// `:number`.
    #[inline]
    pub fn integer(&mut self, number: i64) {
        self.output.push(b':');
        decimal_signed(self.output, number);
        self.output.extend_from_slice(b"\r\n");
    }

    /// `$length bytes`: a string of any bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.output.reserve(bytes.len() + 16);
        self.header(b'$', bytes.len());
        self.output.extend_from_slice(bytes);
        self.output.extend_from_slice(b"\r\n");
    }

    /// A null: `_` in RESP3, `$-1` in RESP2.
    #[inline]
    pub fn null(&mut self) {
        self.output.extend_from_slice(match self.version {
            Version::Two => b"$-1\r\n",
            Version::Three => b"_\r\n",
        });
    }

    /// A null where an array was expected: `_` in RESP3, `*-1` in RESP2.
    pub fn null_array(&mut self) {
        self.output.extend_from_slice(match self.version {
            Version::Two => b"*-1\r\n",
            Version::Three => b"_\r\n",
        });
    }

    /// The start of an array; `length` replies follow.
    #[inline]
    pub fn array(&mut self, length: usize) {
        self.header(b'*', length);
    }

    /// The start of a map; `length` pairs of replies follow. A flat array in RESP2.
    pub fn map(&mut self, length: usize) {
        match self.version {
            Version::Two => self.header(b'*', length * 2),
            Version::Three => self.header(b'%', length),
        }
    }

    /// The start of a set; `length` replies follow. An array in RESP2.
    pub fn set(&mut self, length: usize) {
        self.header(if self.version == Version::Three { b'~' } else { b'*' }, length);
    }

    /// `#t` or `#f`; 1 or 0 in RESP2.
    pub fn boolean(&mut self, value: bool) {
        match self.version {
            Version::Two => self.integer(i64::from(value)),
            Version::Three => self.output.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" }),
        }
    }

    /// `,number`; its text as a bulk string in RESP2.
    pub fn double(&mut self, value: f64) {
        let text = format!("{value}");
        match self.version {
            Version::Two => self.bulk(text.as_bytes()),
            Version::Three => self.line(b',', text.as_bytes()),
        }
    }

    /// A text for people (INFO): a verbatim string in RESP3, a bulk string in RESP2.
    pub fn verbatim(&mut self, text: &[u8]) {
        match self.version {
            Version::Two => self.bulk(text),
            Version::Three => {
                self.header(b'=', text.len() + 4);
                self.output.extend_from_slice(b"txt:");
                self.output.extend_from_slice(text);
                self.output.extend_from_slice(b"\r\n");
            }
        }
    }

    #[inline]
    fn line(&mut self, sign: u8, text: &[u8]) {
        self.output.push(sign);
        self.output.extend_from_slice(text);
        self.output.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn header(&mut self, sign: u8, number: usize) {
        self.output.push(sign);
        decimal(self.output, number as u64);
        self.output.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One value in both versions of the protocol.
    #[test]
    fn replies_speak_both_versions() {
        let render = |version| {
            let mut output = Vec::new();
            let mut reply = Reply { output: &mut output, version };
            reply.ok();
            reply.error("ERR a\r\nb");
            reply.integer(-7);
            reply.bulk(b"a\0b");
            reply.null();
            reply.null_array();
            reply.map(1);
            reply.set(2);
            reply.boolean(true);
            reply.double(1.5);
            reply.verbatim(b"hi");
            output.escape_ascii().to_string()
        };
        assert_eq!(
            render(Version::Two),
            r"+OK\r\n-ERR a  b\r\n:-7\r\n$3\r\na\x00b\r\n$-1\r\n*-1\r\n*2\r\n*2\r\n:1\r\n$3\r\n1.5\r\n$2\r\nhi\r\n"
        );
        assert_eq!(
            render(Version::Three),
            r"+OK\r\n-ERR a  b\r\n:-7\r\n$3\r\na\x00b\r\n_\r\n_\r\n%1\r\n~2\r\n#t\r\n,1.5\r\n=6\r\ntxt:hi\r\n"
        );
    }
}
