//! The nodes of a cluster, from CLUSTER SLOTS.

use super::Address;
use crate::{printable::printable, reply::Reply, slot::SLOT_COUNT};
use std::net::Ipv6Addr;

/// More nodes than a cluster can have slots for, with a copy of each.
const MEMBERS_MAX: usize = SLOT_COUNT as usize * 2;

/// A node of a cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// The node's address.
    pub address: Address,
    /// The number of slots that it owns; 0 for a node that copies another.
    pub slots: u32,
}

/// Reads CLUSTER SLOTS: every node once, in the order of the slots. `asked` is the host that was asked: a server that does not
/// know its own name means that one. Nothing where the reply is an error, or of another form.
pub fn members(reply: &Reply<'_>, asked: &str) -> Option<Vec<Member>> {
    let Reply::Array(ranges) = reply else { return None };
    let mut members: Vec<Member> = Vec::new();
    for range in *ranges {
        let Reply::Array(mut parts) = range else { return None };
        let (Some(Reply::Integer(first)), Some(Reply::Integer(last))) = (parts.next(), parts.next()) else {
            return None;
        };
        let slots = u32::try_from(last - first + 1).ok().filter(|&slots| slots <= SLOT_COUNT.into())?;
        for (position, node) in parts.enumerate() {
            let Reply::Array(mut parts) = node else { return None };
            let (host, Some(Reply::Integer(port))) = (parts.next()?, parts.next()) else { return None };
            let host = match host {
                Reply::Bulk(host) if !host.is_empty() && host != b"?" => {
                    printable(&String::from_utf8_lossy(host)).into_owned()
                }
                _ => asked.to_owned(),
            };
            let address = join(&host, u16::try_from(port).ok()?);
            let owned = if position == 0 { slots } else { 0 };
            let has_room = members.len() < MEMBERS_MAX;
            match members.iter_mut().find(|member| member.address == address) {
                Some(member) => member.slots += owned,
                None if has_room => members.push(Member { address, slots: owned }),
                None => return None,
            }
        }
    }
    (!members.is_empty()).then_some(members)
}

/// `host:port`, with brackets around an IPv6 host.
pub fn join(host: &str, port: u16) -> Address {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The port of a server where an address has none.
const PORT: u16 = 7000;

/// Returns the address that a person wrote as `host:port`: a port alone is one of this machine, a host alone has port 7000.
///
/// # Errors
/// The forms of an address.
pub fn completed(text: &str) -> Result<Address, String> {
    if let Ok(port @ 1..) = text.parse::<u16>() {
        return Ok(join("127.0.0.1", port));
    }
    let is_host = |host: &str| !host.is_empty() && !host.contains(['/', ' ', '[', ']']);
    let literal = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let is_ipv6 = literal.parse::<Ipv6Addr>().is_ok();
    let is_name = is_host(text) && !text.contains(':') && !text.bytes().all(|byte| byte.is_ascii_digit());
    if is_ipv6 || is_name {
        return Ok(join(literal, PORT));
    }
    let (host, port) = split(text)?;
    let has_brackets = [text.starts_with('['), text.contains("]:"), host.contains(':')];
    if is_host(host) && has_brackets.iter().all(|has| *has == has_brackets[0]) {
        Ok(join(host, port))
    } else {
        Err(FORMS.into())
    }
}

const FORMS: &str = "an address is PORT, HOST or HOST:PORT, as in 7000, lab-1, 127.0.0.1:7000 or [::1]:7000";

/// Splits `host:port`; brackets are taken off.
///
/// # Errors
/// What an address looks like.
pub fn split(address: &str) -> Result<(&str, u16), String> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    match parts.map(|(host, port)| (host.trim_start_matches('[').trim_end_matches(']'), port)) {
        Some((host, port)) if !host.is_empty() && port != 0 => Ok((host, port)),
        _ => Err(FORMS.into()),
    }
}
