//! Messages of a link: what a primary's core and the core of a copy say to each other, and their bytes.
//!
//! ```text
//! frame     length of the payload u32 | kind u8 | protocol u8 | zero u16 | CRC-32C of all the rest u32 | payload
//! ```
//!
//! All numbers are little-endian. Frames with a stream's items ([`Message::Items`]) are numbered: each item has a position, and a
//! copy acknowledges positions. All others are not, and are not sent again when a connection has broken.

use crate::{
    replication::{
        items::{Items, ItemsError},
        version::Version,
    },
    topology::document::{Incarnation, Revision, SlotRange},
};

/// The version of the protocol. A peer of another one is told so, and nothing else is believed of it.
pub const PROTOCOL: u8 = 1;

/// Bytes of a frame before its payload.
pub const HEADER_BYTES: usize = 12;

/// The longest payload: room for an item of the longest value that a server takes (512 MiB, as in Redis) and its key. Memory is
/// taken as bytes arrive, never because a header promised them.
pub const PAYLOAD_BYTES_MAX: usize = 576 << 20;

/// The longest payload of a peer that has not proved that it belongs to the cluster: nonces, names and proofs.
pub const STRANGER_BYTES_MAX: usize = 512;

/// The longest name of a server that a peer may send. Names stand in file names, which have no more room.
pub const NAME_BYTES_MAX: usize = 255;

/// A core that introduces itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer<'a> {
    /// The name of its server.
    pub server: &'a str,
    /// The core's number.
    pub core: u16,
    /// The life of its server's data.
    pub incarnation: Incarnation,
    /// The revision of the newest document that it knows.
    pub revision: Revision,
}

/// The result of comparing the version of a slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Comparison {
    /// The copy has the same.
    Equal,
    /// The copy has another one, and has marked its own as unknown: it is to be repaired.
    Differs,
    /// The core has no copy of this slot from this primary.
    Refused,
}

/// The reason for closing a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloseReason {
    /// An item was for a slot that the peer does not take from this primary. Neither it nor anything behind it is acknowledged.
    Refused,
    /// The copy's server is about to depose the primary's.
    Frozen,
    /// The bytes make no sense, or not here.
    Protocol,
    /// The peer is not who was expected: another server, core or incarnation.
    Stranger,
    /// The server stops.
    Stopping,
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// The first step of the mutual proof: a random number, and who says so.
    Challenge {
        /// Drawn for this connection.
        nonce: [u8; 32],
        /// The server's name.
        server: &'a str,
        /// The core's number.
        core: u16,
    },
    /// The second: the proof of knowing the cluster's secret.
    Proof([u8; 32]),
    /// A primary's core introduces itself and its stream.
    Hello {
        /// The sender.
        peer: Peer<'a>,
        /// The name of the stream of items, drawn when it began.
        stream: u64,
    },
    /// A copy's core introduces itself.
    Welcome {
        /// The sender.
        peer: Peer<'a>,
        /// The position up to which it has taken the items of the stream that was named, if it knows the stream.
        received: Option<u64>,
    },
    /// The items of a stream follow, from this position on.
    Start {
        /// The stream.
        stream: u64,
        /// The position of its next item.
        next: u64,
    },
    /// Items of the stream, in order.
    Items(Items<'a>),
    /// The primary is alive.
    Heartbeat {
        /// Its clock when it sent this. Comes back in a grant, unchanged.
        sent_us: u64,
        /// The revision that it acts by.
        revision: Revision,
        /// Its wall clock, which entries expire by.
        unix_millis: u64,
    },
    /// Everything up to a position is durable, and a promise.
    Acknowledge {
        /// The life of the data that has it.
        incarnation: Incarnation,
        /// The position.
        position: u64,
        /// The time that the newest heartbeat was sent at, by the primary's clock, if the copy promises not to take over for a
        /// while.
        grant_us: Option<u64>,
    },
    /// Versions have been compared.
    Compared {
        /// The position of the item that asked for it.
        position: u64,
        /// The slots, all with the same result.
        slots: SlotRange,
        /// The result.
        comparison: Comparison,
    },
    /// The text of the newest document that the sender knows.
    Document(&'a str),
    /// The link is closed by the sender.
    Close(CloseReason),
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WireError {
    /// The peer speaks another version of the protocol: start the same version of the server there.
    Protocol(u8),
    /// The frame is longer than is allowed.
    TooLong(usize),
    /// The checksum is wrong: the bytes have changed on their way.
    Checksum,
    /// The checksum is right, and the payload is none that this version writes.
    Malformed,
}

impl std::fmt::Display for WireError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Protocol(found) => {
                write!(out, "a peer speaks version {found} of the links' protocol, not {PROTOCOL}")
            }
            Self::TooLong(length) => write!(out, "a frame of {length} bytes is longer than a link allows"),
            Self::Checksum => write!(out, "a frame's checksum is wrong"),
            Self::Malformed => write!(out, "a frame makes no sense"),
        }
    }
}

impl std::error::Error for WireError {}

impl From<ItemsError> for WireError {
    fn from(ItemsError: ItemsError) -> Self {
        Self::Malformed
    }
}

const CHALLENGE: u8 = 1;
const PROOF: u8 = 2;
const HELLO: u8 = 3;
const WELCOME: u8 = 4;
const START: u8 = 5;
const ITEMS: u8 = 6;
const HEARTBEAT: u8 = 7;
const ACKNOWLEDGE: u8 = 8;
const COMPARED: u8 = 9;
const DOCUMENT: u8 = 10;
const CLOSE: u8 = 11;

impl<'a> Message<'a> {
    /// Appends the message's frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        let kind = self.encode_payload(out);
        seal(&mut out[start..], kind);
    }

    fn encode_payload(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Challenge { nonce, server, core } => {
                out.extend_from_slice(nonce);
                out.extend_from_slice(&core.to_le_bytes());
                put_text(out, server);
                CHALLENGE
            }
            Self::Proof(proof) => {
                out.extend_from_slice(proof);
                PROOF
            }
            Self::Hello { peer, stream } => {
                put_u64(out, *stream);
                put_peer(out, peer);
                HELLO
            }
            Self::Welcome { peer, received } => {
                put_option(out, *received);
                put_peer(out, peer);
                WELCOME
            }
            Self::Start { stream, next } => {
                put_u64(out, *stream);
                put_u64(out, *next);
                START
            }
            Self::Items(items) => {
                items.encode(out);
                ITEMS
            }
            Self::Heartbeat { sent_us, revision, unix_millis } => {
                put_u64(out, *sent_us);
                put_u64(out, revision.number());
                put_u64(out, *unix_millis);
                HEARTBEAT
            }
            Self::Acknowledge { incarnation, position, grant_us } => {
                put_u64(out, incarnation.number());
                put_u64(out, *position);
                put_option(out, *grant_us);
                ACKNOWLEDGE
            }
            Self::Compared { position, slots, comparison } => {
                put_u64(out, *position);
                out.extend_from_slice(&slots.first().to_le_bytes());
                out.extend_from_slice(&slots.last().to_le_bytes());
                out.push(*comparison as u8);
                COMPARED
            }
            Self::Document(text) => {
                put_text(out, text);
                DOCUMENT
            }
            Self::Close(reason) => {
                out.push(*reason as u8);
                CLOSE
            }
        }
    }

    fn decode(kind: u8, payload: &'a [u8]) -> Result<Self, WireError> {
        let mut rest = Reader(payload);
        let message = match kind {
            CHALLENGE => {
                let (nonce, core) = (rest.array()?, rest.u16()?);
                Self::Challenge { nonce, core, server: rest.text(NAME_BYTES_MAX)? }
            }
            PROOF => Self::Proof(rest.array()?),
            HELLO => Self::Hello { stream: rest.u64()?, peer: rest.peer()? },
            WELCOME => Self::Welcome { received: rest.option()?, peer: rest.peer()? },
            START => Self::Start { stream: rest.u64()?, next: rest.u64()? },
            ITEMS => Self::Items(Items::decode(std::mem::take(&mut rest.0))?),
            HEARTBEAT => {
                Self::Heartbeat { sent_us: rest.u64()?, revision: Revision::new(rest.u64()?), unix_millis: rest.u64()? }
            }
            ACKNOWLEDGE => Self::Acknowledge {
                incarnation: Incarnation::new(rest.u64()?),
                position: rest.u64()?,
                grant_us: rest.option()?,
            },
            COMPARED => {
                let (position, slots) = (rest.u64()?, rest.slots()?);
                let comparison = match rest.u8()? {
                    0 => Comparison::Equal,
                    1 => Comparison::Differs,
                    2 => Comparison::Refused,
                    _ => return Err(WireError::Malformed),
                };
                Self::Compared { position, slots, comparison }
            }
            DOCUMENT => Self::Document(rest.text(PAYLOAD_BYTES_MAX)?),
            CLOSE => Self::Close(match rest.u8()? {
                0 => CloseReason::Refused,
                1 => CloseReason::Frozen,
                2 => CloseReason::Protocol,
                3 => CloseReason::Stranger,
                4 => CloseReason::Stopping,
                _ => return Err(WireError::Malformed),
            }),
            _ => return Err(WireError::Malformed),
        };
        if rest.0.is_empty() { Ok(message) } else { Err(WireError::Malformed) }
    }
}

/// Fills in the header of a frame whose payload stands behind it.
fn seal(frame: &mut [u8], kind: u8) {
    let length = u32::try_from(frame.len() - HEADER_BYTES).expect("a payload is shorter than 4 GiB");
    frame[..4].copy_from_slice(&length.to_le_bytes());
    (frame[4], frame[5]) = (kind, PROTOCOL);
    let sum = checksum(frame);
    frame[8..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..8]), &frame[HEADER_BYTES..])
}

/// The messages in the bytes that a peer has sent, cut anywhere.
#[derive(Debug)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Bytes of messages that have been taken already.
    taken: usize,
    payload_max: usize,
}

impl Default for Decoder {
    /// Returns the decoder of a connection whose peer has not proved anything yet.
    fn default() -> Self {
        Self { bytes: Vec::new(), taken: 0, payload_max: STRANGER_BYTES_MAX }
    }
}

impl Decoder {
    /// Allows frames of any size from now on: the peer belongs to the cluster.
    pub fn trust(&mut self) {
        self.payload_max = PAYLOAD_BYTES_MAX;
    }

    /// Takes bytes as they have arrived. The caller takes all messages before it gives more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.taken));
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the next message, or `None` if its end has not arrived.
    ///
    /// # Errors
    /// [`WireError`]. The connection is to be closed: nothing behind it can be believed.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>, WireError> {
        let rest = &self.bytes[self.taken..];
        let Some(header) = rest.get(..HEADER_BYTES) else { return Ok(None) };
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if header[5] != PROTOCOL {
            return Err(WireError::Protocol(header[5]));
        }
        if self.payload_max < length {
            return Err(WireError::TooLong(length));
        }
        let Some(frame) = rest.get(..HEADER_BYTES + length) else { return Ok(None) };
        let sum = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
        if checksum(frame) != sum {
            return Err(WireError::Checksum);
        }
        if (header[6], header[7]) != (0, 0) {
            return Err(WireError::Malformed);
        }
        self.taken += frame.len();
        Message::decode(header[4], &frame[HEADER_BYTES..]).map(Some)
    }
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_option(out: &mut Vec<u8>, number: Option<u64>) {
    out.push(number.is_some().into());
    put_u64(out, number.unwrap_or_default());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).expect("a text is shorter than 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_peer(out: &mut Vec<u8>, peer: &Peer<'_>) {
    out.extend_from_slice(&peer.core.to_le_bytes());
    put_u64(out, peer.incarnation.number());
    put_u64(out, peer.revision.number());
    put_text(out, peer.server);
}

/// Bytes that are read from their beginning, and not believed.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(WireError::Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.bytes(N)?.try_into().map_err(|_| WireError::Malformed)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn option(&mut self) -> Result<Option<u64>, WireError> {
        match (self.u8()?, self.u64()?) {
            (0, 0) => Ok(None),
            (1, number) => Ok(Some(number)),
            _ => Err(WireError::Malformed),
        }
    }

    pub(super) fn slots(&mut self) -> Result<SlotRange, WireError> {
        SlotRange::new(self.u16()?, self.u16()?).ok_or(WireError::Malformed)
    }

    pub(super) fn version(&mut self) -> Result<Version, WireError> {
        Ok(Version { epoch: self.u64()?, count: self.u64()? })
    }

    fn text(&mut self, length_max: usize) -> Result<&'a str, WireError> {
        let length = self.u32()? as usize;
        if length_max < length {
            return Err(WireError::Malformed);
        }
        std::str::from_utf8(self.bytes(length)?).map_err(|_| WireError::Malformed)
    }

    fn peer(&mut self) -> Result<Peer<'a>, WireError> {
        Ok(Peer {
            core: self.u16()?,
            incarnation: Incarnation::new(self.u64()?),
            revision: Revision::new(self.u64()?),
            server: self.text(NAME_BYTES_MAX)?,
        })
    }
}

#[cfg(test)]
mod tests;
