//! Fan-out of a request that came in by the gateway over this server's cores, and the merge of their replies into one.
//!
//! [`spread`] makes a request for each core that takes part. The caller sends these requests to the cores and passes
//! every reply to [`Gather::put`], in any order, until that returns the one reply for the client. A request that goes
//! to one core unchanged ([`Away::whole`]) needs neither.

mod histogram;
mod info;
mod metrics;
mod rank;

use crate::{
    commands::{Merge, Route},
    resp::{self, Request},
    shard::Away,
    slot::Slot,
    store::Cursor,
};

/// One core's part of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part {
    /// The core that executes the part. It may be the one that has the connection.
    pub core: u16,
    /// The request, as a client would send it.
    pub bytes: Vec<u8>,
}

/// A request that was spread over cores.
#[derive(Debug)]
pub struct Spread {
    /// The parts; never empty, and at most one for each core.
    pub parts: Vec<Part>,
    /// Takes the replies to the parts, each by the position of its part in `parts`.
    pub gather: Gather,
}

/// Collects the replies of several cores, and merges them.
#[derive(Debug)]
pub struct Gather {
    how: How,
    replies: Vec<Option<Vec<u8>>>,
    /// For each part, the number of keys that its core has; 1 if it is not known.
    keys: Vec<u64>,
    missing: usize,
}

/// The method of merging replies.
#[derive(Debug)]
enum How {
    /// There is one reply, and it is not changed.
    AsIs,
    /// The command's own way of merging. `first` is the position of the part whose reply is preferred: for a request to
    /// every core, that of the core that has the connection.
    Merge { merge: Merge, first: usize },
    /// The reply of one core that has keys, drawn with a probability in proportion to its number of keys. Holds a
    /// random number.
    Drawn(u64),
    /// One array with an element for each key. Holds, for each key in order, the position of the part that has it.
    ByKey(Vec<u16>),
    /// A scan's reply, whose cursor is replaced by the gateway's; see [`Walk`].
    Cursor(Walk),
    /// One array of the first elements of all replies, in one order.
    Ranked(rank::Rank),
}

/// The position of a scan, which walks one core after the other, each from its first slot to its last. The client's
/// cursor is the core's own cursor with the core's number in the bits above it. So it holds the whole state of the
/// scan, whichever core owns which slots.
#[derive(Clone, Copy, Debug)]
struct Walk {
    core: u16,
    /// The last slot that the core owns: the core has no keys in the slots behind it.
    last_slot: u16,
    /// The client's next cursor once this core is done; 0 if this is the last core.
    next: u64,
}

/// The number of bits of a core's own cursor: these are below 2^54. With 512 cores above that, a cursor still fits into
/// a signed 64-bit number.
const CORE_SHIFT: u32 = 54;

/// Spreads a request over the cores. `owner` returns the core of this server that owns a slot, `random` is any number.
///
/// # Panics
/// If the request is to be split and one of its keys belongs to another server: the shard refuses such a request.
pub fn spread(
    request: Request<'_>,
    away: Away,
    cores: u16,
    owner: impl Fn(Slot) -> Option<u16>,
    random: u64,
) -> Spread {
    match away.route {
        Route::Here | Route::Keys | Route::SlotAt(_) | Route::Watch => as_is(request, away.core),
        Route::Split(merge) => split(request, away, merge, owner),
        Route::CursorAt(index) => cursor_at(request, away, usize::from(index), cores, owner),
        Route::Everywhere(merge) => {
            let bytes = encode(request.args_from(0));
            let parts: Vec<_> = (0..cores).map(|core| Part { core, bytes: bytes.clone() }).collect();
            let how = match merge {
                Merge::Ranked => How::Ranked(rank::Rank::of(request)),
                Merge::First => How::Drawn(random),
                _ => How::Merge { merge, first: usize::from(away.core) },
            };
            Spread { gather: Gather::new(how, parts.len()), parts }
        }
    }
}

fn as_is(request: Request<'_>, core: u16) -> Spread {
    let parts = vec![Part { core, bytes: encode(request.args_from(0)) }];
    Spread { parts, gather: Gather::new(How::AsIs, 1) }
}

/// Gives each core the keys that it owns, in their order, each with the arguments that belong to it (MSET's values).
fn split(request: Request<'_>, away: Away, merge: Merge, owner: impl Fn(Slot) -> Option<u16>) -> Spread {
    let (first, step) = (away.keys.first as usize, away.keys.step as usize);
    if !(request.len() - first).is_multiple_of(step) {
        // A value is missing. One core returns the error, before any core has executed its part.
        return as_is(request, away.core);
    }
    let mut shares: Vec<(u16, Vec<&[u8]>)> = Vec::new();
    let mut order = Vec::new();
    for index in away.keys.indices(request.len()) {
        let core = owner(Slot::of(request.arg(index))).expect("only a request whose keys are all here is split");
        let share = shares.iter().position(|(other, _)| *other == core).unwrap_or_else(|| {
            shares.push((core, request.args_from(0).take(first).collect()));
            shares.len() - 1
        });
        shares[share].1.extend(request.args_from(index).take(step));
        order.push(share as u16);
    }
    let parts: Vec<_> =
        shares.into_iter().map(|(core, args)| Part { core, bytes: encode(args.iter().copied()) }).collect();
    let how = match merge {
        Merge::Elements => How::ByKey(order),
        _ => How::Merge { merge, first: 0 },
    };
    Spread { gather: Gather::new(how, parts.len()), parts }
}

/// Sends a scan to the core that its cursor names.
fn cursor_at(
    request: Request<'_>,
    away: Away,
    index: usize,
    cores: u16,
    owner: impl Fn(Slot) -> Option<u16>,
) -> Spread {
    let text = request.get(index).and_then(|text| std::str::from_utf8(text).ok());
    let Some(number) = text.and_then(|text| text.parse::<u64>().ok()) else {
        return as_is(request, away.core); // That core returns the error.
    };
    let slots = |core: u16| Slot::all().filter(move |_| core < cores).map(Slot::number);
    let owned = |core: u16, slot: &u16| Slot::new(*slot).and_then(&owner) == Some(core);
    let first_slot = |core: u16| slots(core).find(|slot| owned(core, slot));
    let start = |core: u16, slot: u16| (u64::from(core) << CORE_SHIFT) | (u64::from(slot) << 40);
    // A core without slots has no keys.
    let next_after = |core: u16| (core + 1..cores).find_map(|core| first_slot(core).map(|slot| start(core, slot)));
    let core = ((number >> CORE_SHIFT) % u64::from(cores)) as u16;
    let inner = number & ((1 << CORE_SHIFT) - 1);
    // Only cores that own slots are walked. If none does, the core that has the connection is asked, which has no key.
    let (core, inner) = match first_slot(core) {
        Some(slot) if inner == 0 => (core, start(0, slot)),
        Some(_) => (core, inner),
        None => next_after(core)
            .map_or((away.core, 0), |next| ((next >> CORE_SHIFT) as u16, next & ((1 << CORE_SHIFT) - 1))),
    };
    let last_slot = (0..crate::slot::SLOT_COUNT).rev().find(|slot| owned(core, slot)).unwrap_or(0);
    let walk = Walk { core, last_slot, next: next_after(core).unwrap_or(0) };
    let inner = inner.to_string();
    let args: Vec<&[u8]> = request
        .args_from(0)
        .enumerate()
        .map(|(position, arg)| if position == index { inner.as_bytes() } else { arg })
        .collect();
    let parts = vec![Part { core, bytes: encode(args.into_iter()) }];
    Spread { parts, gather: Gather::new(How::Cursor(walk), 1) }
}

fn encode<'a>(args: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    resp::encode_request(&mut bytes, args);
    bytes
}

impl Gather {
    fn new(how: How, parts: usize) -> Self {
        assert_ne!(parts, 0, "some core has a part in every request");
        Self { how, replies: vec![None; parts], keys: vec![1; parts], missing: parts }
    }

    /// Notes the number of keys that a part's core had when it replied. Call it before [`put`](Self::put).
    pub fn note_keys(&mut self, part: usize, keys: u64) {
        self.keys[part] = keys;
    }

    /// Takes the reply to a part. Returns the reply for the client with the last part's.
    ///
    /// # Panics
    /// If the part was answered before, or if the bytes are not a reply: only this server's own cores answer here.
    pub fn put(&mut self, part: usize, reply: Vec<u8>) -> Option<Vec<u8>> {
        assert!(self.replies[part].is_none(), "a part is answered once");
        self.replies[part] = Some(reply);
        self.missing -= 1;
        if 0 < self.missing {
            return None;
        }
        let replies: Vec<_> = std::mem::take(&mut self.replies).into_iter().flatten().collect();
        Some(self.join(replies))
    }

    fn join(&self, mut replies: Vec<Vec<u8>>) -> Vec<u8> {
        let merge = match &self.how {
            How::AsIs => return replies.swap_remove(0),
            How::Cursor(walk) => return walk.go_on(&replies[0]),
            How::Ranked(rank) => return first_error(&mut replies).unwrap_or_else(|| rank.first_of(&replies)),
            How::ByKey(order) => return first_error(&mut replies).unwrap_or_else(|| by_key(order, &replies)),
            How::Drawn(random) => return replies.swap_remove(self.draw(&replies, *random)),
            How::Merge { merge: Merge::Here, first } => return replies.swap_remove(*first),
            How::Merge { merge, first } => {
                // `CLIENT KILL address`: one core has closed the client, and the others have replied that they have no
                // such client.
                if *merge == Merge::Sum && replies.iter().any(|reply| reply == b"+OK\r\n") {
                    return b"+OK\r\n".to_vec();
                }
                if let Some(error) = first_error(&mut replies) {
                    return error;
                }
                match merge {
                    Merge::Info => return info::add(replies, *first),
                    Merge::Histograms => return histogram::add(&replies),
                    Merge::Metrics => return metrics::join(&replies, *first),
                    merge => *merge,
                }
            }
        };
        match merge {
            Merge::Sum => sum(&replies),
            Merge::Least => {
                let least = replies.iter().enumerate().min_by_key(|(_, reply)| head(reply).0);
                let part = least.expect("some core has answered").0;
                replies.swap_remove(part)
            }
            Merge::Sums => sums(&replies),
            Merge::Elements => concatenate(&replies),
            Merge::Lines => lines(&replies),
            // The match above has merged these.
            Merge::Ok
            | Merge::First
            | Merge::Here
            | Merge::Histograms
            | Merge::Info
            | Merge::Metrics
            | Merge::Ranked => replies.swap_remove(0),
        }
    }
}

impl Gather {
    /// Returns the position of the part whose random key is taken: one of a core that has keys, drawn with a
    /// probability in proportion to the core's number of keys.
    fn draw(&self, replies: &[Vec<u8>], random: u64) -> usize {
        let keys = |part: usize| if is_null(&replies[part]) { 0 } else { self.keys[part].max(1) };
        let all: u64 = (0..replies.len()).map(keys).sum();
        let mut left = random.checked_rem(all).unwrap_or(0);
        let drawn = (0..replies.len()).find(|&part| {
            let is_here = left < keys(part);
            left -= if is_here { 0 } else { keys(part) };
            is_here
        });
        drawn.unwrap_or(0)
    }
}

impl Walk {
    /// Returns a scan's reply, `[cursor, [keys]]`, with the core's cursor replaced by the gateway's.
    fn go_on(&self, reply: &[u8]) -> Vec<u8> {
        let Some(rest) = reply.strip_prefix(b"*2\r\n") else { return reply.to_vec() };
        let length = length(rest);
        let (_, text) = bulk(&rest[..length]);
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        let inner = Cursor::from_number(number.expect("a scan's reply begins with its cursor"));
        let number = if inner == Cursor::START || self.last_slot < inner.slot {
            self.next
        } else {
            (u64::from(self.core) << CORE_SHIFT) | inner.to_number()
        };
        let number = number.to_string();
        [format!("*2\r\n${}\r\n{number}\r\n", number.len()).as_bytes(), &rest[length..]].concat()
    }
}

fn first_error(replies: &mut Vec<Vec<u8>>) -> Option<Vec<u8>> {
    let position = replies.iter().position(|reply| reply.first() == Some(&b'-'))?;
    Some(replies.swap_remove(position))
}

fn is_null(reply: &[u8]) -> bool {
    matches!(reply, b"_\r\n" | b"$-1\r\n" | b"*-1\r\n")
}

fn sum(replies: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let number = |reply: &[u8]| {
        assert_eq!(reply[0], b':', "integers are added up");
        head(reply).0
    };
    format!(":{}\r\n", replies.iter().map(|reply| number(reply.as_ref())).sum::<i64>()).into_bytes()
}

/// Returns the first map, with each integer replaced by the sum of that of all maps.
fn sums(replies: &[Vec<u8>]) -> Vec<u8> {
    let start = head(&replies[0]).1;
    let mut joined = replies[0][..start].to_vec();
    let mut rests: Vec<&[u8]> = replies.iter().map(|reply| &reply[start..]).collect();
    while !rests[0].is_empty() {
        let elements: Vec<_> = rests.iter().map(|rest| &rest[..length(rest)]).collect();
        match elements[0][0] {
            b':' => joined.extend(sum(&elements)),
            _ => joined.extend_from_slice(elements[0]),
        }
        rests.iter_mut().for_each(|rest| *rest = &rest[length(rest)..]);
    }
    joined
}

/// Returns one array (or set) with the elements of all replies.
fn concatenate(replies: &[Vec<u8>]) -> Vec<u8> {
    let arrays = || replies.iter().filter(|reply| !is_null(reply));
    let Some(sign) = arrays().map(|reply| reply[0]).next() else { return replies[0].clone() };
    let count: i64 = arrays().map(|reply| head(reply).0).sum();
    let mut joined = format!("{}{count}\r\n", char::from(sign)).into_bytes();
    arrays().for_each(|reply| joined.extend_from_slice(&reply[head(reply).1..]));
    joined
}

/// Returns one array with the elements of all replies, in the order of the keys that they belong to.
fn by_key(order: &[u16], replies: &[Vec<u8>]) -> Vec<u8> {
    let mut rests: Vec<&[u8]> = replies.iter().map(|reply| &reply[head(reply).1..]).collect();
    let mut joined = format!("*{}\r\n", order.len()).into_bytes();
    joined.reserve(replies.iter().map(Vec::len).sum());
    for &part in order {
        let rest = &mut rests[usize::from(part)];
        let (element, behind) = rest.split_at(length(rest));
        joined.extend_from_slice(element);
        *rest = behind;
    }
    joined
}

/// Returns one text: those of all replies, one behind the other.
fn lines(replies: &[Vec<u8>]) -> Vec<u8> {
    let text: Vec<u8> = replies.iter().flat_map(|reply| bulk(reply).1).copied().collect();
    text_like(&replies[0], &text)
}

/// Returns a text as a reply of the same kind as `model`: a bulk or a verbatim string.
fn text_like(model: &[u8], text: &[u8]) -> Vec<u8> {
    let (kind, _) = bulk(model);
    let header = format!("{}{}\r\n", char::from(model[0]), kind.len() + text.len());
    [header.as_bytes(), kind, text, b"\r\n"].concat()
}

/// Returns the kind of a bulk or verbatim string (`txt:`; empty for a bulk string) and its text.
fn bulk(reply: &[u8]) -> (&[u8], &[u8]) {
    let (length, start) = head(reply);
    let text = &reply[start..start + length as usize];
    match reply[0] {
        b'$' => (b"", text),
        b'=' => text.split_at(4),
        other => panic!("a text was expected, and a reply that begins with {:?} came", char::from(other)),
    }
}

/// Returns the number in a reply's first line, and the offset of the next line.
fn head(reply: &[u8]) -> (i64, usize) {
    let end = reply.iter().position(|&byte| byte == b'\r').expect("a core's reply is whole");
    (resp::parse_i64(&reply[1..end]).expect("a number stands behind the sign"), end + 2)
}

/// Returns the length of the first reply in `bytes`, RESP2 or RESP3, of any kind.
fn length(bytes: &[u8]) -> usize {
    let (mut at, mut remaining) = (0, 1);
    while 0 < remaining {
        remaining -= 1;
        let line = bytes[at..].iter().position(|&byte| byte == b'\n').expect("a core's reply is whole") + 1;
        let sign = bytes[at];
        let count = match sign {
            b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' => head(&bytes[at..]).0.max(-1),
            _ => 0,
        };
        at += line;
        match sign {
            b'$' | b'=' | b'!' if 0 <= count => at += count as usize + 2,
            b'*' | b'~' | b'>' => remaining += count.max(0),
            b'%' => remaining += 2 * count.max(0),
            _ => {}
        }
    }
    at
}

#[cfg(test)]
mod tests;
