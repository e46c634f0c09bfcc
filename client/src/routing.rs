//! The node to ask for a key: learned from CLUSTER SLOTS, corrected by MOVED.

use crate::reply::Reply;
use std::fmt;
use trine::{
    printable::printable,
    slot::{SLOT_COUNT, Slot},
};

/// A server's port, as `host:port`. An IPv6 host stands in brackets.
pub type Address = String;

/// A node, by its position in [`Routing::nodes`]. A position is never reused: what was kept beside it stays right.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Node(pub u16);

impl Node {
    /// The position as an index.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// More nodes than a cluster can have slots for.
const NODES_MAX: usize = SLOT_COUNT as usize * 2;

/// Why a CLUSTER SLOTS reply can't be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RoutingError {
    /// The server answered with an error. One that says that cluster support is disabled means a single server.
    Refused(String),
    /// The reply is not what the Redis Cluster specification says.
    Malformed,
    /// No node owns this slot: the cluster is not ready. Try again later.
    Unassigned(Slot),
}

impl fmt::Display for RoutingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => write!(formatter, "CLUSTER SLOTS was answered with: {error}"),
            Self::Malformed => formatter.write_str("the reply to CLUSTER SLOTS has an unknown form"),
            Self::Unassigned(slot) => write!(formatter, "no node owns slot {slot}: the cluster is not complete"),
        }
    }
}

impl std::error::Error for RoutingError {}

/// The owner of each slot, as far as this client knows.
///
/// ```
/// use trine_client::routing::{Routing, parse_moved};
///
/// let mut routing = Routing::single("10.0.0.1:7000");
/// let (slot, address) = parse_moved(b"MOVED 12182 10.0.0.2:7000").unwrap();
/// routing.moved(slot, address.to_string());
/// assert_eq!(routing.address(routing.node_of(b"foo")), "10.0.0.2:7000");
/// assert_eq!(routing.address(routing.node_of(b"bar")), "10.0.0.1:7000");
/// ```
#[derive(Clone, Debug)]
pub struct Routing {
    nodes: Vec<Address>,
    /// The owner of each slot; a slot's number is the index.
    owners: Box<[Node]>,
    /// True if slots have been seen to move since the last whole reply.
    is_stale: bool,
}

impl Routing {
    /// One server that owns everything.
    pub fn single(address: impl Into<Address>) -> Self {
        Self {
            nodes: vec![address.into()],
            owners: vec![Node(0); usize::from(SLOT_COUNT)].into_boxed_slice(),
            is_stale: false,
        }
    }

    /// Several servers. The first owns every slot, as far as is known.
    ///
    /// # Panics
    /// Where there are none, or more than there can be.
    pub fn several(addresses: Vec<Address>) -> Self {
        assert!(!addresses.is_empty() && addresses.len() <= NODES_MAX, "there is a server, and not too many");
        Self { nodes: addresses, ..Self::single("") }
    }

    /// Reads a CLUSTER SLOTS reply that `asked` gave. An empty host in it means the host that was asked.
    ///
    /// # Errors
    /// [`RoutingError`], whose variants say what to do.
    pub fn from_slots(reply: Reply<'_>, asked: &str) -> Result<Self, RoutingError> {
        let mut routing = Self { nodes: Vec::new(), owners: Box::new([]), is_stale: false };
        routing.learn(reply, asked)?;
        Ok(routing)
    }

    /// Takes a newer CLUSTER SLOTS reply. Nodes keep their positions, also those that own nothing any more.
    ///
    /// # Errors
    /// As [`from_slots`](Self::from_slots); what was known before stays.
    pub fn learn(&mut self, reply: Reply<'_>, asked: &str) -> Result<(), RoutingError> {
        let ranges = match reply {
            Reply::Array(ranges) => ranges,
            Reply::Error(text) => {
                return Err(RoutingError::Refused(printable(&String::from_utf8_lossy(text)).into_owned()));
            }
            _ => return Err(RoutingError::Malformed),
        };
        let mut owners = vec![None; usize::from(SLOT_COUNT)];
        for range in ranges {
            let (first, last, address) = parse_range(range, asked).ok_or(RoutingError::Malformed)?;
            let node = self.node(address).ok_or(RoutingError::Malformed)?;
            owners[first.index()..=last.index()].fill(Some(node));
        }
        if let Some(slot) = Slot::all().find(|slot| owners[slot.index()].is_none()) {
            return Err(RoutingError::Unassigned(slot));
        }
        self.owners = owners.into_iter().flatten().collect();
        self.is_stale = false;
        Ok(())
    }

    /// The addresses of all nodes ever heard of, by position.
    pub fn nodes(&self) -> &[Address] {
        &self.nodes
    }

    /// A node's address.
    ///
    /// # Panics
    /// Where the node is another routing's.
    pub fn address(&self, node: Node) -> &str {
        &self.nodes[node.index()]
    }

    /// The node that owns a key.
    #[inline]
    pub fn node_of(&self, key: &[u8]) -> Node {
        self.owner(Slot::of(key))
    }

    /// The node that owns a slot.
    #[inline]
    pub fn owner(&self, slot: Slot) -> Node {
        self.owners[slot.index()]
    }

    /// A node has said that another owns the slot. Returns that node.
    pub fn moved(&mut self, slot: Slot, address: Address) -> Option<Node> {
        let node = self.node(address)?;
        self.owners[slot.index()] = node;
        self.is_stale = true;
        Some(node)
    }

    /// Returns true if slots have moved since the last CLUSTER SLOTS: a slot seldom moves alone, so ask again, soon but not for
    /// each. Following MOVED alone is right, too, and only costs a hop per slot.
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Finds a node or makes one.
    fn node(&mut self, address: Address) -> Option<Node> {
        let position = self.nodes.iter().position(|known| *known == address).or_else(|| {
            (self.nodes.len() < NODES_MAX).then(|| {
                self.nodes.push(address);
                self.nodes.len() - 1
            })
        })?;
        u16::try_from(position).ok().map(Node)
    }
}

fn parse_range(range: Reply<'_>, asked: &str) -> Option<(Slot, Slot, Address)> {
    let Reply::Array(mut parts) = range else { return None };
    let mut slot = || match parts.next() {
        Some(Reply::Integer(number)) => Slot::new(u16::try_from(number).ok()?),
        _ => None,
    };
    let (first, last) = (slot()?, slot()?);
    // The first is the owner; replicas follow.
    let Some(Reply::Array(mut owner)) = parts.next() else { return None };
    let host = match owner.next()? {
        Reply::Bulk(host) | Reply::Simple(host) => std::str::from_utf8(host).ok()?,
        Reply::Null => "",
        _ => return None,
    };
    let Some(Reply::Integer(port)) = owner.next() else { return None };
    let port = u16::try_from(port).ok()?;
    (first <= last).then(|| (first, last, join(host, port, asked)))
}

/// An address from its parts; an empty host means the one that was asked.
fn join(host: &str, port: u16, asked: &str) -> Address {
    match host {
        "" => format!("{}:{port}", asked.rsplit_once(':').map_or(asked, |(host, _)| host)),
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

/// Reads `MOVED slot host:port`, the text of an error reply. The host is empty where it is the one that was asked.
pub fn parse_moved(error: &[u8]) -> Option<(Slot, &str)> {
    let text = std::str::from_utf8(error).ok()?.strip_prefix("MOVED ")?;
    let (slot, address) = text.split_once(' ')?;
    let (_, port) = address.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    Some((Slot::new(slot.parse().ok()?)?, address))
}

/// The address in a MOVED, where `asked` is who said it.
pub fn moved_address(address: &str, asked: &str) -> Option<Address> {
    let (host, port) = address.rsplit_once(':')?;
    Some(join(host, port.parse().ok()?, asked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::Decoder;

    fn learn(text: &str) -> Result<Routing, RoutingError> {
        let (reply, used) = Decoder::default().decode(text.as_bytes()).unwrap().unwrap();
        assert_eq!(used, text.len());
        Routing::from_slots(reply, "10.0.0.9:7000")
    }

    /// Ranges, with replicas and ids as Redis sends them, become a table; an empty host is the one that was asked.
    #[test]
    fn cluster_slots_becomes_a_table() {
        let routing = learn(
            "*2\r\n*4\r\n:0\r\n:8191\r\n*3\r\n$8\r\n10.0.0.1\r\n:7001\r\n$2\r\nid\r\n*3\r\n$8\r\n10.0.0.2\r\n:1\r\n$2\r\nid\r\n\
             *3\r\n:8192\r\n:16383\r\n*2\r\n$0\r\n\r\n:7002\r\n",
        )
        .unwrap();
        assert_eq!(routing.nodes(), ["10.0.0.1:7001", "10.0.0.9:7002"]);
        assert_eq!(routing.owner(Slot::new(8191).unwrap()), Node(0));
        assert_eq!(routing.owner(Slot::new(8192).unwrap()), Node(1));
        assert_eq!(routing.address(routing.node_of(b"foo")), "10.0.0.9:7002");
    }

    /// The error for an unusable reply says why.
    #[test]
    fn an_unusable_reply_says_why() {
        let hole = "*1\r\n*3\r\n:0\r\n:9\r\n*2\r\n$1\r\na\r\n:1\r\n";
        assert_eq!(learn(hole).unwrap_err(), RoutingError::Unassigned(Slot::new(10).unwrap()));
        let disabled = "ERR This instance has cluster support disabled";
        assert_eq!(learn(&format!("-{disabled}\r\n")).unwrap_err(), RoutingError::Refused(disabled.into()));
        for malformed in ["+OK\r\n", "*1\r\n:1\r\n", "*1\r\n*3\r\n:9\r\n:0\r\n*2\r\n$1\r\na\r\n:1\r\n"] {
            assert_eq!(learn(malformed).unwrap_err(), RoutingError::Malformed, "{malformed:?}");
        }
    }

    /// MOVED names a slot and an address, also an IPv6 one, and nothing else is mistaken for it.
    #[test]
    fn moved_is_read_and_followed() {
        assert_eq!(parse_moved(b"MOVED 3999 127.0.0.1:6381"), Some((Slot::new(3999).unwrap(), "127.0.0.1:6381")));
        for other in [&b"ASK 1 a:1"[..], b"MOVED 16384 a:1", b"MOVED 1", b"MOVED 1 a", b"MOVED 1 a:x", b"ERR"] {
            assert_eq!(parse_moved(other), None, "{:?}", other.escape_ascii().to_string());
        }
        assert_eq!(moved_address(":7001", "h:7000").as_deref(), Some("h:7001"));
        assert_eq!(moved_address("::1:7001", "h:7000").as_deref(), Some("[::1]:7001"));

        let mut routing = Routing::single("a:1");
        let slot = Slot::of(b"foo");
        assert_eq!(routing.moved(slot, "b:1".into()), Some(Node(1)));
        assert_eq!(routing.moved(slot, "a:1".into()), Some(Node(0)));
        assert!(routing.is_stale());
        assert_eq!(routing.nodes(), ["a:1", "b:1"]);
    }
}
