//! Telling HTTP from the Redis protocol by the first line.

/// The protocol of a connection, told by its first bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Told {
    /// Redis's, as arrays or as lines.
    Resp,
    /// HTTP.
    Http,
    /// Either, as far as they go.
    Unknown,
}

/// The methods by which HTTP is known. None is a Redis command but GET, which with three words is none either, so that no
/// line that Redis would execute is lost. PRI is how HTTP/2 begins.
const METHODS: [&[u8]; 10] =
    [b"GET", b"HEAD", b"PUT", b"DELETE", b"POST", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT", b"PRI"];

/// Says what a connection speaks that begins with these bytes. It is HTTP if its first line is a method, a target and a
/// version. A client that has sent `bytes_max` bytes and no line end does not type a Redis command.
pub fn tell(bytes: &[u8], bytes_max: usize) -> Told {
    // Both protocols pass over empty lines.
    let Some(start) = bytes.iter().position(|&byte| byte != b'\r' && byte != b'\n') else {
        return if bytes.len() < bytes_max { Told::Unknown } else { Told::Resp };
    };
    let line = &bytes[start..];
    let Some(space) = line.iter().take(8).position(|&byte| byte == b' ') else {
        return if METHODS.iter().any(|method| method.starts_with(line)) { Told::Unknown } else { Told::Resp };
    };
    let (method, target) = (&line[..space], &line[space + 1..]);
    if !METHODS.contains(&method) {
        return Told::Resp;
    }
    match target.first() {
        None => return Told::Unknown,
        Some(b'/' | b'*' | b'h' | b'H') => {}
        Some(_) if method == b"CONNECT" => {}
        Some(_) => return Told::Resp,
    }
    match memchr::memchr(b'\n', target) {
        Some(end) if ends_with_version(&target[..end]) => Told::Http,
        Some(_) => Told::Resp,
        None if bytes.len() < bytes_max => Told::Unknown,
        None => Told::Http,
    }
}

fn ends_with_version(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    matches!(line, [.., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE_BYTES_MAX: usize = 64 * 1024;

    /// Inline commands stay RESP; a request line of HTTP is HTTP.
    #[test]
    fn the_first_line_tells() {
        for (bytes, told) in [
            ("*1\r\n$4\r\nPING\r\n", Told::Resp),
            ("PING\r\n", Told::Resp),
            ("GET key\r\n", Told::Resp),
            ("GET /key\r\n", Told::Resp),
            ("GET http\r\n", Told::Resp),
            ("get /key HTTP/1.1\r\n", Told::Resp),
            ("SET a b\r\n", Told::Resp),
            ("SET /a HTTP/1.1\r\n", Told::Resp),
            ("GET\r\n", Told::Resp),
            ("", Told::Unknown),
            ("\r\n", Told::Unknown),
            ("\r\nGET /", Told::Unknown),
            ("G", Told::Unknown),
            ("GET", Told::Unknown),
            ("GET ", Told::Unknown),
            ("GET k", Told::Resp),
            ("GET /k", Told::Unknown),
            ("GET /k HTTP/1.1", Told::Unknown),
            ("GET /k HTTP/1.1\n", Told::Http),
            ("GET /k HTTP/1.1\r\n", Told::Http),
            ("\r\nPUT /set/k HTTP/1.0\r\n", Told::Http),
            ("GET http://host/get/k HTTP/1.1\r\n", Told::Http),
            ("OPTIONS * HTTP/1.1\r\n", Told::Http),
            ("CONNECT host:80 HTTP/1.1\r\n", Told::Http),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Told::Http),
        ] {
            assert_eq!(tell(bytes.as_bytes(), LINE_BYTES_MAX), told, "{bytes:?}");
        }
        assert_eq!(tell(b"\r\n\r\nGET /abc", 13), Told::Unknown);
        assert_eq!(tell(b"\r\n\r\nGET /abc", 12), Told::Http);
        let endless = [&b"GET /"[..], &[b'a'; LINE_BYTES_MAX]].concat();
        assert_eq!(tell(&endless, LINE_BYTES_MAX), Told::Http);
        assert_eq!(tell(&b"\r\n".repeat(LINE_BYTES_MAX), LINE_BYTES_MAX), Told::Resp);
    }

    proptest! {
        /// A protocol that was told by the first bytes stays with more bytes behind them.
        #[test]
        fn more_bytes_change_no_mind(
            line in prop_oneof!["(GET|PUT|SET|PING|HEAD) ?[/*hk]?[a-z]{0,4}( HTTP/1.[01])?\r?\n?", "[A-Z /.*\r\n0-9]{0,12}"],
            more in ".{0,10}",
        ) {
            let all = format!("{line}{more}");
            let told = tell(line.as_bytes(), LINE_BYTES_MAX);
            prop_assert!(told == Told::Unknown || tell(all.as_bytes(), LINE_BYTES_MAX) == told, "{:?}: {:?}", all, told);
        }
    }
}
