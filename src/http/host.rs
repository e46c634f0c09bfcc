//! The hosts that a request may be for.
//!
//! A web page whose name is made to point at this server's address (DNS rebinding) sends requests here that its browser takes for
//! requests to the page's own server: it may read what is answered. Only the `Host` that the browser sends tells them apart, and it
//! has the page's name. So a server without a password answers for the names that it is known by, and for addresses: a page that was
//! loaded from an address of this server is none that somebody else has made.

use crate::glob;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The host of an authority (`host`, `host:port`, `[address]:port`).
enum Host<'a> {
    Address,
    Name(&'a [u8]),
}

/// Returns true if a request to this authority may be for this server: its host is an address, `localhost`, one of `names`, or
/// matches one of `patterns`, which are in lower case and have no dot at the end. The port is of no interest: a proxy may listen on another.
pub fn is_own<'a>(authority: &[u8], names: impl IntoIterator<Item = &'a str>, patterns: &[String]) -> bool {
    let name = match host_of(authority) {
        None => return false,
        Some(Host::Address) => return true,
        Some(Host::Name(name)) => name,
    };
    let is = |known: &str| without_root(known.as_bytes()).eq_ignore_ascii_case(name);
    if is("localhost") || names.into_iter().any(is) {
        return true;
    }
    let name = name.to_ascii_lowercase();
    patterns.iter().any(|pattern| glob::matches(pattern.as_bytes(), &name))
}

fn host_of(authority: &[u8]) -> Option<Host<'_>> {
    if let Some(rest) = authority.strip_prefix(b"[") {
        let end = rest.iter().position(|&byte| byte == b']')?;
        let is_address = is_ipv6(&rest[..end]) && is_port(&rest[end + 1..]);
        return is_address.then_some(Host::Address);
    }
    // Some clients leave the brackets out.
    if is_ipv6(authority) {
        return Some(Host::Address);
    }
    let (name, port) = authority.split_at(authority.iter().position(|&byte| byte == b':').unwrap_or(authority.len()));
    let name = without_root(name);
    if name.is_empty() || !is_port(port) {
        return None;
    }
    let is_ipv4 = std::str::from_utf8(name).is_ok_and(|text| text.parse::<Ipv4Addr>().is_ok());
    Some(if is_ipv4 { Host::Address } else { Host::Name(name) })
}

/// Returns a name without the dot at its end, which stands for the root of all names.
fn without_root(name: &[u8]) -> &[u8] {
    name.strip_suffix(b".").unwrap_or(name)
}

/// Returns true for nothing, and for a colon with digits or none.
fn is_port(text: &[u8]) -> bool {
    text.is_empty() || (text[0] == b':' && text[1..].iter().all(u8::is_ascii_digit))
}

/// Returns true for an IPv6 address, with a zone or without (RFC 6874).
fn is_ipv6(text: &[u8]) -> bool {
    let address = text.split(|&byte| byte == b'%').next().unwrap_or_default();
    std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server answers for addresses, for its own names and for those that it was told, in whatever way they are written.
    #[test]
    fn a_server_knows_its_own_names() {
        let patterns = ["cache.example.org".to_owned(), "*.internal".to_owned()];
        let is_own = |authority: &str| is_own(authority.as_bytes(), ["node-7", "db.example.com."], &patterns);
        for authority in [
            "localhost",
            "localhost:7000",
            "LocalHost.:7000",
            "127.0.0.1",
            "127.0.0.1:7000",
            "127.0.0.1.:7000",
            "10.0.0.7:",
            "[::1]",
            "[::1]:7000",
            "[FE80::1%25eth0]:7000",
            "::1",
            "node-7:7000",
            "NODE-7.",
            "db.example.com",
            "db.example.com.:80",
            "cache.Example.org",
            "a.b.internal:7000",
        ] {
            assert!(is_own(authority), "{authority}");
        }
        for authority in [
            "",
            ":7000",
            ".",
            "evil.example",
            "evil.example:7000",
            "localhost.evil.example",
            "evil.localhost",
            "node-7.evil.example",
            "127.0.0.1.evil.example",
            "evil.example@localhost",
            "localhost@evil.example",
            "localhost:7000@evil.example",
            "localhost:x",
            "localhost,evil.example",
            "localhost evil.example",
            "[::1]evil.example",
            "[::1",
            "[evil.example]:7000",
            "[127.0.0.1]",
            "2130706433",
            "internal",
            "node-7..",
            "\u{e9}",
        ] {
            assert!(!is_own(authority), "{authority}");
        }
    }
}
