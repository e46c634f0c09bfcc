//! A line that a person types: its words.

use super::{ProtocolError, request::Span};

/// Splits a line into words as a shell would, with Redis's escapes: "…" knows \n \r \t \b \a \xHH, '…' knows \' alone.
pub(super) fn split_words(line: &[u8], text: &mut Vec<u8>, spans: &mut Vec<Span>) -> Result<(), ProtocolError> {
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        if at == line.len() {
            return Ok(());
        }
        let start = text.len();
        at = split_word(line, at, text)?;
        // An inline command is below 64 KiB, so both fit.
        spans.push(Span { start: start as u32, length: (text.len() - start) as u32 });
    }
}

/// Returns true for a line of an HTTP request: one that ends in a word `HTTP/…`, whatever the method, or begins with `POST` or
/// `Host:`, as Redis checks too. In any case of letters. An argument that looks so can be sent in quotes, or in an array.
pub(super) fn is_http(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let begins =
        |word: &[u8], with: &[u8]| word.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    let mut words = line.split(u8::is_ascii_whitespace);
    let (first, last) = (words.next().unwrap_or_default(), words.next_back().unwrap_or_default());
    begins(line, b"host:") || first.eq_ignore_ascii_case(b"post") || begins(last, b"http/")
}

/// Appends the word at `at` without its quotes; returns the position behind it.
fn split_word(line: &[u8], mut at: usize, text: &mut Vec<u8>) -> Result<usize, ProtocolError> {
    let mut quote = None;
    loop {
        let Some(&byte) = line.get(at) else {
            return if quote.is_none() { Ok(at) } else { Err(ProtocolError::UnbalancedQuotes) };
        };
        at += 1;
        match quote {
            None if byte.is_ascii_whitespace() || byte == 0 => return Ok(at),
            None if byte == b'"' || byte == b'\'' => quote = Some(byte),
            Some(b'"') if byte == b'\\' && at < line.len() => at = unescape(line, at, text),
            Some(b'\'') if byte == b'\\' && line.get(at) == Some(&b'\'') => {
                text.push(b'\'');
                at += 1;
            }
            Some(open) if byte == open => {
                if line.get(at).is_some_and(|next| !next.is_ascii_whitespace()) {
                    return Err(ProtocolError::UnbalancedQuotes);
                }
                quote = None;
            }
            _ => text.push(byte),
        }
    }
}

/// Appends what the escape at `at` (behind its backslash) stands for; returns the position behind it.
fn unescape(line: &[u8], at: usize, text: &mut Vec<u8>) -> usize {
    let hex = |index: usize| line.get(index).and_then(|&digit| char::from(digit).to_digit(16));
    match line[at] {
        b'x' if let (Some(high), Some(low)) = (hex(at + 1), hex(at + 2)) => {
            text.push((high * 16 + low) as u8);
            return at + 3;
        }
        b'n' => text.push(b'\n'),
        b'r' => text.push(b'\r'),
        b't' => text.push(b'\t'),
        b'b' => text.push(8),
        b'a' => text.push(7),
        other => text.push(other),
    }
    at + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{Decoded, Decoder, Limits};

    /// The words of a line, its end included.
    fn words(line: &str) -> Result<Vec<String>, ProtocolError> {
        let limits = Limits { arguments_max: 10, argument_bytes_max: 100, is_authenticated: true };
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(line.as_bytes(), &limits)?, Decoded::Request(line.len()), "{line:?}");
        let text = |word: &[u8]| String::from_utf8(word.to_vec()).expect("text");
        Ok(decoder.request(line.as_bytes()).args_from(0).map(text).collect())
    }

    /// The words of redis-server's `sdssplitargs`.
    #[test]
    fn inline_commands_are_split_as_redis_splits_them() {
        for (line, expected) in [
            ("PING\r\n", &["PING"][..]),
            ("  set  a\tb \n", &["set", "a", "b"]),
            ("set k \"a b\\n\\x41\\q\"\r\n", &["set", "k", "a b\nAq"]),
            ("set k 'it\\'s \\n'\r\n", &["set", "k", "it's \\n"]),
            ("set k \"\"\r\n", &["set", "k", ""]),
        ] {
            assert_eq!(words(line), Ok(expected.iter().map(|&word| word.to_owned()).collect()), "{line:?}");
        }
        for line in [
            "POST / HTTP/1.1\r\n",
            "post\n",
            " Post a b\r\n",
            "Host: a\r\n",
            "HOST:a\n",
            "PROPFIND / HTTP/1.1\r\n",
            "SET /a http/1.0 \n",
            "FLUSHALL HTTP/\r\n",
            "GET /\"a HTTP/1.1\r\n",
        ] {
            assert_eq!(words(line), Err(ProtocolError::Http), "{line:?}");
        }
        for line in ["set k HTTP/1.1 x\r\n", "set k \"HTTP/1.1\"\n", "set post host:\n", "HTTP/1.1\r\n", "hosts: a\n"] {
            assert!(words(line).is_ok(), "{line:?}");
        }
        for line in ["set k \"a\r\n", "set k 'a\r\n", "set k \"a\"b\r\n"] {
            assert_eq!(words(line), Err(ProtocolError::UnbalancedQuotes), "{line:?}");
        }
    }
}
