//! The key of bytes that have just arrived, guessed before they are decoded, so that it can be prefetched.
//!
//! The guess serves the processor's cache alone: nothing depends on it being right, so only the common forms of a
//! request that arrives alone are recognized. Keys of requests that arrive together are prefetched by the session after
//! it has decoded them (`Executor::fetch_foreseen`). The decoders decide what the bytes mean.

/// The most digits of a length: no argument of a greater one arrives whole.
const DIGITS_MAX: usize = 9;
/// The most bytes of a path that are searched for the end of a key.
const PATH_KEY_BYTES_MAX: usize = 256;

/// Returns the key of bytes that are one whole request: in the Redis protocol the first argument, in HTTP the rest of
/// the path behind `GET /get/` or `PUT /set/`. `None` if the request has no key or is not complete, or if another
/// follows it in the Redis protocol.
#[inline]
pub fn only_key(bytes: &[u8]) -> Option<&[u8]> {
    match bytes.first()? {
        b'*' => only_first_argument(bytes),
        b'G' | b'P' => path_key(bytes),
        _ => None,
    }
}

#[inline]
fn only_first_argument(bytes: &[u8]) -> Option<&[u8]> {
    let (count, mut rest) = number(bytes, b'*')?;
    let mut found = None;
    for position in 0..count {
        let (length, behind) = number(rest, b'$')?;
        let (argument, behind) = behind.split_at_checked(length)?;
        if position == 1 {
            found = Some(argument);
        }
        rest = behind.get(2..)?;
    }
    found.filter(|_| rest.is_empty())
}

/// Returns the number between `sign` and the end of the line, and the bytes behind that line.
#[inline]
fn number(bytes: &[u8], sign: u8) -> Option<(usize, &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    if *first != sign {
        return None;
    }
    let mut number = 0_usize;
    for _ in 0..=DIGITS_MAX {
        let (&byte, behind) = rest.split_first()?;
        rest = behind;
        if byte == b'\r' {
            return Some((number, rest.get(1..)?));
        }
        number = number * 10 + usize::from(byte.wrapping_sub(b'0') & 15);
    }
    None
}

fn path_key(bytes: &[u8]) -> Option<&[u8]> {
    let text = bytes.strip_prefix(b"GET /get/").or_else(|| bytes.strip_prefix(b"PUT /set/"))?;
    let end = text.iter().take(PATH_KEY_BYTES_MAX).position(|&byte| byte == b' ')?;
    Some(&text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The key of a common request that arrives alone is found; of other bytes none is.
    #[test]
    fn a_glance_sees_what_common_requests_ask_for() {
        let get = "*2\r\n$3\r\nGET\r\n$3\r\nfoo\r\n";
        let set = "*3\r\n$3\r\nSET\r\n$12\r\nabcdefghijkl\r\n$0\r\n\r\n";
        for (bytes, key) in [
            (get, Some("foo")),
            (set, Some("abcdefghijkl")),
            (&get.repeat(2), None),
            (&get[..get.len() - 1], None),
            ("*1\r\n$4\r\nPING\r\n", None),
            ("GET /get/foo HTTP/1.1\r\n\r\n", Some("foo")),
            ("PUT /set/foo?x=1 HTTP/1.1\r\n", Some("foo?x=1")),
            ("GET /get/foo", None),
            ("GET /health HTTP/1.1\r\n\r\n", None),
            ("PING\r\n", None),
            ("", None),
            ("*2\r\n$3\r\nGET\r\n$9999999999\r\nfoo\r\n", None),
            ("*999999999\r\n", None),
            ("*2\r\n+3\r\nGET\r\n", None),
        ] {
            assert_eq!(only_key(bytes.as_bytes()), key.map(str::as_bytes), "{bytes:?}");
        }
    }

    /// The end of a key is not searched for beyond [`PATH_KEY_BYTES_MAX`].
    #[test]
    fn a_long_path_is_not_searched() {
        let path = |length: usize| format!("GET /get/{} HTTP/1.1\r\n", "x".repeat(length)).into_bytes();
        assert!(only_key(&path(PATH_KEY_BYTES_MAX - 1)).is_some());
        assert!(only_key(&path(PATH_KEY_BYTES_MAX)).is_none());
    }

    fn request(args: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend(format!("${}\r\n", arg.len()).into_bytes());
            bytes.extend(arg);
            bytes.extend(b"\r\n");
        }
        bytes
    }

    proptest! {
        /// The key of a well-formed request is found, whatever its arguments are. Of a part of the request none is
        /// found, nor where more bytes follow.
        #[test]
        fn well_formed_requests_are_seen_whole(args in prop::collection::vec(any::<Vec<u8>>(), 1..5), end: prop::sample::Index) {
            let bytes = request(&args);
            prop_assert_eq!(only_key(&bytes), args.get(1).map(Vec::as_slice));
            prop_assert_eq!(only_key(&bytes[..end.index(bytes.len())]), None);
            let more = [bytes.as_slice(), b"*"].concat();
            prop_assert_eq!(only_key(&more), None);
        }

        /// Random bytes, some of which begin like a request, cause no panic.
        #[test]
        fn random_bytes_are_looked_at(
            begin in prop::sample::select(vec!["", "*", "*2\r\n$", "*2\r\n$3\r\nGET\r\n$", "GET /get/", "PUT /set/"]),
            rest: Vec<u8>,
        ) {
            let bytes = [begin.as_bytes(), &rest].concat();
            prop_assert!(only_key(&bytes).is_none_or(|key| key.len() < bytes.len()));
        }
    }
}
