//! A client's transaction: the requests that MULTI queues, their bounds, and the slots that WATCH watches.
//!
//! The queue holds requests as a client sends them, so that EXEC can be sent to the core that owns the keys as one request
//! ([`Transaction::encode`]), whose effects that core keeps together.

use crate::{
    resp::{Decoded, Decoder, Limits, Request, encode_request},
    slot::{Slot, Version},
    time::UnixMillis,
};

/// A client that has sent MULTI or WATCH.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// MULTI has been executed: requests are queued until EXEC or DISCARD. Before, there are only watches.
    pub is_open: bool,
    /// A request was refused while it was to be queued: EXEC discards the transaction.
    is_aborted: bool,
    /// The slot and the core of its keys, watched or queued, once there is one.
    pub home: Option<Home>,
    /// The queued requests, encoded, one behind the other.
    requests: Vec<u8>,
    count: usize,
    arguments: usize,
    watches: Watches,
    /// Tickets of WATCH requests whose versions another core has not sent yet.
    awaited: Vec<u64>,
    /// Another core has refused a WATCH: what it should have watched may have changed.
    has_lost_watch: bool,
    /// EXEC waits for the versions in `awaited`.
    pub is_waiting: bool,
}

/// The place of a transaction's keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Home {
    /// The slot of the first key.
    pub slot: Slot,
    /// The core of this server that owns it.
    pub core: u16,
}

/// The most that a queue may hold. A transaction is executed in one go, like a request, and has the limits of one.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most arguments of all queued requests (`max-request-args`).
    pub arguments_max: usize,
    /// The most bytes of all queued requests (`max-request-bytes`).
    pub bytes_max: usize,
}

/// A slot as it was when WATCH saw it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Watch {
    /// The slot of a watched key.
    pub slot: Slot,
    /// Its version; see [`Store::version`](crate::store::Store::version).
    pub version: Version,
    /// The time at which the first of the slot's watched keys expires. A key whose time has come counts as changed.
    pub expires_at: Option<UnixMillis>,
}

/// Watched slots, each once, in their order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Watches(Vec<Watch>);

/// The name of a request by which a core has another execute a transaction. No row has it, so that no client can send it.
const FORWARDED: &[u8] = b"\0exec";

/// No limits: what is queued was within them when it arrived.
const NO_LIMITS: Limits =
    Limits { arguments_max: usize::MAX >> 1, argument_bytes_max: usize::MAX >> 1, is_authenticated: true };

/// Bytes of an encoded [`Watch`].
const WATCH_BYTES: usize = 26;

impl Transaction {
    /// Queues a request.
    ///
    /// # Errors
    /// The queue would be larger than it may be. The error is to be told the client, and [`abort`](Self::abort) called.
    pub fn queue(&mut self, request: Request<'_>, bounds: Bounds) -> Result<(), String> {
        if self.is_aborted {
            // EXEC will discard it.
            return Ok(());
        }
        let before = self.requests.len();
        let arguments = self.arguments + request.len();
        if bounds.arguments_max < arguments {
            let max = bounds.arguments_max;
            return Err(format!("ERR the transaction has more than {max} arguments (max-request-args)"));
        }
        if bounds.bytes_max < before + request.encoded_bytes() {
            let max = bounds.bytes_max;
            return Err(format!("ERR the transaction is longer than {max} bytes (max-request-bytes)"));
        }
        encode_request(&mut self.requests, request.args_from(0));
        self.arguments = arguments;
        self.count += 1;
        Ok(())
    }

    /// Has EXEC discard the transaction. The memory of the queue is given back at once.
    pub fn abort(&mut self) {
        if self.is_open {
            self.is_aborted = true;
            self.requests = Vec::new();
        }
    }

    /// Returns true if EXEC is to discard the transaction.
    pub fn is_aborted(&self) -> bool {
        self.is_aborted
    }

    /// The number of queued requests.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns true if no request is queued.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The queued requests, encoded.
    pub fn requests(&self) -> &[u8] {
        &self.requests
    }

    /// The slots that are watched.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Returns true if a WATCH has failed on another core, so that EXEC must not execute anything.
    pub fn has_lost_watch(&self) -> bool {
        self.has_lost_watch
    }

    /// Bytes of memory besides those of the value itself.
    pub fn memory(&self) -> usize {
        self.requests.capacity() + self.watches.0.capacity() * size_of::<Watch>() + self.awaited.capacity() * 8
    }

    /// Watches a slot.
    pub fn watch(&mut self, watch: Watch) {
        self.watches.add(watch);
    }

    /// Notes that another core will send the versions of watched keys, as the reply to this ticket.
    pub fn await_watches(&mut self, ticket: u64) {
        self.awaited.push(ticket);
    }

    /// Returns true if versions of watched keys have not come yet.
    pub fn awaits_watches(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Takes the versions of watched keys, which another core has sent; `None` stands for an error. Does nothing where the keys
    /// are not watched any more. Returns true if EXEC waited for them and may go on.
    pub fn take_watches(&mut self, ticket: u64, watches: Option<Watches>) -> bool {
        let Some(position) = self.awaited.iter().position(|&awaited| awaited == ticket) else { return false };
        self.awaited.swap_remove(position);
        match watches {
            Some(watches) => watches.0.into_iter().for_each(|watch| self.watches.add(watch)),
            None => self.has_lost_watch = true,
        }
        self.awaited.is_empty() && std::mem::take(&mut self.is_waiting)
    }

    /// Encodes the transaction as a request to the core that owns its keys.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.requests.len() + 64);
        encode_request(&mut bytes, [FORWARDED, &self.watches.encode(), &self.requests].into_iter());
        bytes
    }
}

/// Returns the error of an EXEC that is not executed because of another error.
pub fn discarded(error: &str) -> String {
    format!("EXECABORT Transaction discarded because of: {}", error.strip_prefix("ERR ").unwrap_or(error))
}

/// Returns the watches and the queue of a transaction that another core has sent; `None` for any other request.
#[inline]
pub fn forwarded(request: Request<'_>) -> Option<(Watches, &[u8])> {
    if request.arg(0) == FORWARDED { Some((Watches::decode(request.arg(1))?, request.arg(2))) } else { None }
}

/// Shows each request of a queue.
pub fn each(mut requests: &[u8], mut visit: impl FnMut(Request<'_>)) {
    let mut decoder = Decoder::default();
    while let Ok(Decoded::Request(length)) = decoder.decode(requests, &NO_LIMITS) {
        visit(decoder.request(requests));
        requests = &requests[length..];
    }
    assert!(requests.is_empty(), "whole requests are queued");
}

impl Watches {
    /// Watches a slot. What was seen first of a slot counts.
    pub fn add(&mut self, watch: Watch) {
        match self.0.binary_search_by_key(&watch.slot, |watch| watch.slot) {
            Err(position) => self.0.insert(position, watch),
            Ok(position) => {
                let known = &mut self.0[position].expires_at;
                *known = known.iter().chain(&watch.expires_at).min().copied();
            }
        }
    }

    /// The number of watched slots.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each watched slot.
    pub fn iter(&self) -> impl Iterator<Item = &Watch> {
        self.0.iter()
    }

    /// Encodes them for another core.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * WATCH_BYTES);
        for Watch { slot, version, expires_at } in &self.0 {
            bytes.extend(slot.number().to_le_bytes());
            bytes.extend(version.epoch.to_le_bytes());
            bytes.extend(version.effects.to_le_bytes());
            bytes.extend(expires_at.map_or(u64::MAX, |at| at.0).to_le_bytes());
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) has written; `None` where it has not.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (watches, rest) = bytes.as_chunks::<WATCH_BYTES>();
        let watch = |bytes: &[u8; WATCH_BYTES]| {
            let (slot, numbers) = bytes.split_first_chunk()?;
            let (epoch, numbers) = numbers.split_first_chunk()?;
            let (effects, time) = numbers.split_first_chunk()?;
            let time = u64::from_le_bytes(*time.first_chunk()?);
            Some(Watch {
                slot: Slot::new(u16::from_le_bytes(*slot))?,
                version: Version { epoch: u64::from_le_bytes(*epoch), effects: u64::from_le_bytes(*effects) },
                expires_at: (time != u64::MAX).then_some(UnixMillis(time)),
            })
        };
        let watches = watches.iter().map(watch).collect::<Option<Vec<_>>>()?;
        rest.is_empty().then_some(Self(watches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Words;

    const BOUNDS: Bounds = Bounds { arguments_max: 10, bytes_max: 1000 };

    fn queue(transaction: &mut Transaction, line: &str) -> Result<(), String> {
        let (mut words, mut parts) = (Words::default(), line.split(' '));
        words.begin(parts.next().expect("a name").as_bytes());
        parts.for_each(|part| words.push(part.as_bytes()));
        transaction.queue(words.request(), BOUNDS)
    }

    fn version(effects: u64) -> Version {
        Version { epoch: 3, effects }
    }

    fn slot(number: u16) -> Slot {
        Slot::new(number).expect("a slot")
    }

    /// A queue comes out as it went in, also by way of another core.
    #[test]
    fn a_transaction_is_read_as_it_was_encoded() {
        let mut transaction = Transaction { is_open: true, ..Transaction::default() };
        let watch = Watch { slot: slot(7), version: version(u64::MAX - 1), expires_at: Some(UnixMillis(5)) };
        transaction.watch(watch);
        transaction.watch(Watch { slot: slot(3), version: version(1), expires_at: None });
        queue(&mut transaction, "SET k v").unwrap();
        queue(&mut transaction, "GET k").unwrap();
        let bytes = transaction.encode();
        let mut decoder = Decoder::default();
        decoder.decode(&bytes, &NO_LIMITS).unwrap();
        let (watches, requests) = forwarded(decoder.request(&bytes)).expect("a transaction");
        assert_eq!(watches, *transaction.watches());
        assert_eq!(watches.iter().copied().last(), Some(watch));
        let mut seen = Vec::new();
        each(requests, |request| seen.push(format!("{request:?}")));
        assert_eq!(seen, [r#"["SET", "k", "v"]"#, r#"["GET", "k"]"#]);
        assert_eq!(Watches::decode(&[0; 25]), None);
        assert_eq!(Watches::decode(&[255; 26]), None, "no slot has this number");
    }

    /// A queue has the limits of one request, in bytes and in arguments; one that is aborted holds no memory.
    #[test]
    fn a_queue_is_bounded() {
        let mut transaction = Transaction { is_open: true, ..Transaction::default() };
        (0..3).for_each(|_| queue(&mut transaction, "SET k v").unwrap());
        let error = queue(&mut transaction, "GET k").unwrap_err();
        assert_eq!(error, "ERR the transaction has more than 10 arguments (max-request-args)");
        transaction.abort();
        assert_eq!((transaction.is_aborted(), transaction.memory(), transaction.len()), (true, 0, 3));
        queue(&mut transaction, "GET k").unwrap();
        assert_eq!(transaction.memory(), 0);
        let mut transaction = Transaction { is_open: true, ..Transaction::default() };
        queue(&mut transaction, &format!("SET k {}", "v".repeat(900))).unwrap();
        let error = queue(&mut transaction, &format!("SET k {}", "v".repeat(90))).unwrap_err();
        assert_eq!(error, "ERR the transaction is longer than 1000 bytes (max-request-bytes)");
    }

    /// Of a slot that is watched twice, what was seen first counts, and the earliest expiry.
    #[test]
    fn what_was_seen_first_of_a_slot_counts() {
        let mut watches = Watches::default();
        for (changes, expires_at) in [(1, None), (2, Some(UnixMillis(9))), (3, Some(UnixMillis(4))), (4, None)] {
            watches.add(Watch { slot: slot(5), version: version(changes), expires_at });
        }
        assert_eq!(watches.0, [Watch { slot: slot(5), version: version(1), expires_at: Some(UnixMillis(4)) }]);
    }

    /// Versions that come after UNWATCH are nobody's; those that never come keep EXEC from executing anything.
    #[test]
    fn versions_belong_to_the_watch_that_asked() {
        let versions = |changes| {
            let mut watches = Watches::default();
            watches.add(Watch { slot: slot(1), version: version(changes), expires_at: None });
            Some(watches)
        };
        let mut transaction = Transaction::default();
        transaction.await_watches(7);
        transaction.await_watches(8);
        assert!(!transaction.take_watches(6, versions(1)));
        assert!(transaction.awaits_watches() && transaction.watches().is_empty());
        transaction.is_waiting = true;
        assert!(!transaction.take_watches(7, versions(2)), "one is missing");
        assert!(transaction.take_watches(8, None));
        assert!(transaction.has_lost_watch() && !transaction.awaits_watches());
        assert_eq!(transaction.watches().len(), 1);
    }
}
