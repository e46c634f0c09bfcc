//! The Redis protocol over a plain socket, for tests that care for the bytes.

use crate::harness::PATIENCE;
use std::{
    fmt::{self, Write as _},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
};

/// A reply, of whichever version of the protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
    Map(Vec<Reply>),
    /// `#` and `,`, as they stand in the line.
    Other(String),
}

/// Writes a reply on a line: `+OK`, `-ERR …`, `:1`, a bulk string as it is, `nil`, `[a b]`, `{k v}`.
impl fmt::Display for Reply {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = |open: char, close: char, elements: &[Self]| {
            out.write_char(open)?;
            for (position, element) in elements.iter().enumerate() {
                write!(out, "{}{element}", if position == 0 { "" } else { " " })?;
            }
            out.write_char(close)
        };
        match self {
            Self::Array(elements) => list('[', ']', elements),
            Self::Map(elements) => list('{', '}', elements),
            Self::Simple(text) => write!(out, "+{text}"),
            Self::Error(text) => write!(out, "-{text}"),
            Self::Integer(number) => write!(out, ":{number}"),
            Self::Bulk(bytes) => out.write_str(&String::from_utf8_lossy(bytes)),
            Self::Null => out.write_str("nil"),
            Self::Other(text) => out.write_str(text),
        }
    }
}

/// Appends a request.
pub fn encode(output: &mut Vec<u8>, words: &[&[u8]]) {
    output.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        output.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        output.extend_from_slice(word);
        output.extend_from_slice(b"\r\n");
    }
}

/// A connection.
pub struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    #[track_caller]
    pub fn connect(port: u16) -> Self {
        Self::try_connect(port).unwrap_or_else(|error| panic!("port {port}: {error}"))
    }

    pub fn try_connect(port: u16) -> io::Result<Self> {
        Self::try_connect_to("127.0.0.1", port)
    }

    pub fn try_connect_to(host: &str, port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((host, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("it can be sent");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Says that no more will be sent.
    pub fn finish(&mut self) {
        // Fails where the server has closed, which a read will tell.
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Sends a line, its words separated by blanks, as a request, and returns the reply as [`Reply`] displays it.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        self.try_ask(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    pub fn try_ask(&mut self, line: &str) -> io::Result<String> {
        let words: Vec<_> = line.split(' ').map(str::as_bytes).collect();
        Ok(self.try_request(&words)?.to_string())
    }

    #[track_caller]
    pub fn request(&mut self, words: &[&[u8]]) -> Reply {
        self.try_request(words).expect("a reply")
    }

    pub fn try_request(&mut self, words: &[&[u8]]) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        encode(&mut bytes, words);
        self.try_send(&bytes)?;
        self.try_reply()
    }

    /// Checks a transcript: each line a request, `->`, and the reply.
    #[track_caller]
    pub fn check(&mut self, transcript: &str) {
        for line in transcript.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (request, expected) = line.split_once(" -> ").expect("a request, an arrow, a reply");
            assert_eq!(self.ask(request), expected, "{request}");
        }
    }

    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        self.try_reply().expect("a reply")
    }

    /// Reads the next reply. An end of the connection between two replies is [`io::ErrorKind::UnexpectedEof`].
    pub fn try_reply(&mut self) -> io::Result<Reply> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') || line.pop() != Some(b'\r') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        let (sign, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().map_err(|_| io::Error::other(format!("no number: {line:?}")));
        Ok(match sign {
            "+" => Reply::Simple(rest.into()),
            "-" => Reply::Error(rest.into()),
            ":" => Reply::Integer(number()?),
            "_" => Reply::Null,
            "#" | "," => Reply::Other(line),
            "$" | "=" => match usize::try_from(number()?) {
                Err(_) => Reply::Null,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Reply::Bulk(if sign == "=" { bytes.split_off(4) } else { bytes })
                }
            },
            "*" | "~" | ">" | "%" => match usize::try_from(number()?) {
                Err(_) => Reply::Null,
                Ok(length) => {
                    let count = if sign == "%" { 2 * length } else { length };
                    let elements = (0..count).map(|_| self.try_reply()).collect::<io::Result<_>>()?;
                    if sign == "%" { Reply::Map(elements) } else { Reply::Array(elements) }
                }
            },
            _ => return Err(io::Error::other(format!("no reply: {line:?}"))),
        })
    }

    /// Returns true if the server closes, with nothing more to say.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
