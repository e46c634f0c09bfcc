//! A request's row, keys and slot, found once.

use super::Shard;
use crate::{
    commands::{Command, Found, Keys},
    resp::Request,
    slot::Slot,
};

/// A request's row and the facts that follow from its arguments. Nothing in it depends on the client, the owner of the
/// slot or the core's refusals: these are checked when the request is executed, which may be some requests later.
#[derive(Clone, Copy)]
pub struct Resolved {
    /// The command's row; `None` if the table has none.
    pub(super) found: Option<Found>,
    /// The reason for which it can't be executed, by any client.
    pub(super) fault: Option<Fault>,
    /// The slot of its first key; slot 0 without keys.
    pub slot: Slot,
    /// The number of its keys.
    pub(super) key_count: u32,
    /// True if all its keys are in [`slot`](Self::slot).
    pub(super) is_one_slot: bool,
}

/// An error of a request that follows from its arguments alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// It has more or fewer arguments than its command takes, or a key lacks its value (MSET).
    Arity,
    /// A key is longer than `max-key-bytes`.
    LongKey,
}

impl Resolved {
    /// Returns the facts about a request without keys, or with a fault.
    #[inline]
    fn without_keys(found: Option<Found>, fault: Option<Fault>) -> Self {
        Self { found, fault, slot: Slot::default(), key_count: 0, is_one_slot: true }
    }

    /// Returns the first key.
    #[inline]
    pub(super) fn key<'a>(&self, request: Request<'a>) -> Option<&'a [u8]> {
        let found = self.found.filter(|_| self.key_count != 0)?;
        Some(request.arg(found.command.keys.first as usize))
    }
}

impl Shard {
    /// Finds a request's row, keys and slot.
    #[inline]
    pub fn resolve(&self, request: Request<'_>) -> Resolved {
        let Ok(found) = self.table.find_for(request) else { return Resolved::without_keys(None, None) };
        if !takes(found.command, request.len()) {
            return Resolved::without_keys(Some(found), Some(Fault::Arity));
        }
        let resolved = Resolved::without_keys(Some(found), None);
        match found.command.keys {
            Keys::NONE => resolved,
            Keys::ONE => self.resolve_key(resolved, request.arg(1)),
            keys => self.resolve_keys(resolved, keys, request),
        }
    }

    #[inline]
    fn resolve_key(&self, resolved: Resolved, key: &[u8]) -> Resolved {
        if self.core.config.max_key_bytes < key.len() {
            return Resolved { fault: Some(Fault::LongKey), ..resolved };
        }
        Resolved { slot: Slot::of(key), key_count: 1, ..resolved }
    }

    #[inline(never)]
    fn resolve_keys(&self, resolved: Resolved, keys: Keys, request: Request<'_>) -> Resolved {
        // Each key is followed by the same number of arguments: MSET's values.
        if keys.last < 0 && !(request.len() - keys.first as usize).is_multiple_of(keys.step as usize) {
            return Resolved { fault: Some(Fault::Arity), ..resolved };
        }
        let all = || keys.indices(request.len()).map(|index| request.arg(index));
        let max = self.core.config.max_key_bytes;
        if all().any(|key| max < key.len()) {
            return Resolved { fault: Some(Fault::LongKey), ..resolved };
        }
        let Some(first) = all().next() else { return resolved };
        let (slot, key_count) = (Slot::of(first), all().count() as u32);
        let is_one_slot = all().skip(1).all(|key| Slot::of(key) == slot);
        Resolved { slot, key_count, is_one_slot, ..resolved }
    }
}

/// Returns true if a command takes so many arguments.
#[inline]
pub(super) fn takes(command: &Command, length: usize) -> bool {
    let arity = i64::from(command.arity);
    if arity < 0 { -arity <= length as i64 } else { arity == length as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        commands::tests::Bench,
        resp::{Decoder, Limits},
    };

    /// All keys of a request are counted and checked; errors that follow from its arguments alone are found.
    #[test]
    fn a_request_is_resolved_by_its_row_and_its_keys() {
        let mut bench = Bench::new();
        bench.shard.core.config.max_key_bytes = 8;
        // The name of the row, the first key, the number of keys, whether all are in one slot.
        for (line, expected) in [
            ("get foo", Some(("get", Some("foo"), 1, true))),
            ("SET foo 1 EX 10", Some(("set", Some("foo"), 1, true))),
            ("PING", Some(("ping", None, 0, true))),
            ("MGET foo", Some(("mget", Some("foo"), 1, true))),
            ("MGET {a}1 {a}2 {a}3", Some(("mget", Some("{a}1"), 3, true))),
            ("MSET foo 1 {foo}2 2", Some(("mset", Some("foo"), 2, true))),
            ("MSET foo 1 bar 2", Some(("mset", Some("foo"), 2, false))),
            ("RENAME a {a}", Some(("rename", Some("a"), 2, true))),
            ("OBJECT ENCODING foo", Some(("object|encoding", Some("foo"), 1, true))),
            ("CLUSTER COUNTKEYSINSLOT 5", Some(("cluster|countkeysinslot", None, 0, true))),
            ("NOSUCH foo", None),
            ("CLUSTER NOSUCH", None),
        ] {
            let (found, fault) = resolve(&bench, line, expected);
            assert_eq!((found, fault), (expected.is_some(), None), "{line}");
        }
        for (line, fault) in [
            ("GET", Fault::Arity),
            ("GET a b", Fault::Arity),
            ("MGET", Fault::Arity),
            ("MSET a 1 b", Fault::Arity),
            ("GET 123456789", Fault::LongKey),
            ("MSET a 123456789 123456789 1", Fault::LongKey),
        ] {
            assert_eq!(resolve(&bench, line, None), (true, Some(fault)), "{line}");
        }
    }

    /// Resolves a line, and checks what was found.
    fn resolve(bench: &Bench, line: &str, expected: Option<(&str, Option<&str>, u32, bool)>) -> (bool, Option<Fault>) {
        let bytes = format!("{line}\n");
        let limits = Limits { arguments_max: 99, argument_bytes_max: 99, is_authenticated: true };
        let mut decoder = Decoder::default();
        decoder.decode(bytes.as_bytes(), &limits).expect("a request");
        let request = decoder.request(bytes.as_bytes());
        let resolved = bench.shard.resolve(request);
        if let (Some(found), Some((name, key, key_count, is_one_slot))) = (resolved.found, expected) {
            let key = key.map(str::as_bytes);
            let actual = (found.command.name, resolved.key(request), resolved.key_count, resolved.is_one_slot);
            assert_eq!(actual, (name, key, key_count, is_one_slot), "{line}");
            assert_eq!(resolved.slot, key.map(Slot::of).unwrap_or_default(), "{line}");
        }
        (resolved.found.is_some(), resolved.fault)
    }
}
