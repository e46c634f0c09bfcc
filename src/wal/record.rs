//! Records, and their encoding.
//!
//! Records are effects on the store: applying one twice changes nothing, so that a log can be replayed over a snapshot that was
//! taken while the log was written.

use super::slots::{SLOT_SET_BYTES, SlotSet, Versions};
use crate::time::UnixMillis;

/// One effect on the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Record<'a> {
    /// The key has this value and this expiry, and no others.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its whole value.
        value: &'a [u8],
        /// The time at which it expires.
        expires_at: Option<UnixMillis>,
    },
    /// The key, if it is there, has this expiry or none.
    Expire {
        /// The key.
        key: &'a [u8],
        /// The time at which it expires.
        expires_at: Option<UnixMillis>,
    },
    /// The key is removed.
    Remove {
        /// The key.
        key: &'a [u8],
    },
    /// The key has this value and this expiry, as an earlier record says: a copy, written so that the earlier one is not
    /// needed. It is not an effect of its own and does not count in the slot's version.
    Again {
        /// The key.
        key: &'a [u8],
        /// Its whole value.
        value: &'a [u8],
        /// The time at which it expires.
        expires_at: Option<UnixMillis>,
    },
    /// Every key is removed: an effect on each slot that has one. Only version 1 of the format writes it.
    Clear,
    /// Every key of these slots is removed: an effect on each of them.
    ClearSlots(SlotSet<'a>),
    /// These slots have these versions at this position, and not those counted so far.
    Versions(Versions<'a>),
    /// The records of one command, in order: all of them or none.
    Together(Together<'a>),
}

/// Several records that count as one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Together<'a>(&'a [u8]);

impl<'a> Together<'a> {
    /// Returns the records, in order.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not records, or end inside one.
    pub fn each(self) -> impl Iterator<Item = Result<Record<'a>, Malformed>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            match Record::decode(rest) {
                Ok(Some((Record::Together(_), _)) | None) | Err(Malformed) => {
                    rest = &[];
                    Some(Err(Malformed))
                }
                Ok(Some((record, length))) => {
                    rest = &rest[length..];
                    Some(Ok(record))
                }
            }
        })
    }
}

/// The error of bytes whose checksum is right but that are no record of any version: a bug.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

const PUT: u8 = 1;
const PUT_UNTIL: u8 = 2;
const REMOVE: u8 = 3;
const EXPIRE: u8 = 4;
const PERSIST: u8 = 5;
const CLEAR: u8 = 6;
const TOGETHER: u8 = 7;
// The numbers up to 15 are those of lines of hints; see `hint`.
const AGAIN: u8 = 16;
const AGAIN_UNTIL: u8 = 17;
const CLEAR_SLOTS: u8 = 18;
const VERSIONS: u8 = 19;

/// The most bytes of the record of a removal without its key, including those that combine it with other records of its
/// command.
pub const REMOVAL_BYTES: usize = 5 + TOGETHER_HEADER;

/// Bytes of [`Record::Together`] before its records: the kind and their length.
const TOGETHER_HEADER: usize = 9;

impl<'a> Record<'a> {
    /// Appends the record's bytes.
    #[inline]
    pub fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Put { key, value, expires_at } => {
                encode_put([PUT, PUT_UNTIL], key, value, expires_at, out);
            }
            Self::Again { key, value, expires_at } => {
                encode_put([AGAIN, AGAIN_UNTIL], key, value, expires_at, out);
            }
            Self::Expire { key, expires_at } => {
                out.push(if expires_at.is_some() { EXPIRE } else { PERSIST });
                put_length(out, key.len());
                put_expiry(out, expires_at);
                out.extend_from_slice(key);
            }
            Self::Remove { key } => {
                out.push(REMOVE);
                put_length(out, key.len());
                out.extend_from_slice(key);
            }
            Self::Clear => out.push(CLEAR),
            Self::ClearSlots(slots) => {
                out.push(CLEAR_SLOTS);
                out.extend_from_slice(slots.bits());
            }
            Self::Versions(Versions { first, count, epoch, effects }) => {
                out.push(VERSIONS);
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
                out.extend_from_slice(&epoch.to_le_bytes());
                put_length(out, effects.len());
                out.extend_from_slice(effects);
            }
            Self::Together(Together(records)) => {
                out.extend_from_slice(&together_header(records.len()));
                out.extend_from_slice(records);
            }
        }
    }

    /// Decodes the record that `bytes` begin with. Returns it with its length; `None` if the bytes end inside it.
    ///
    /// # Errors
    /// [`Malformed`] if no record begins like this.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let mut rest = Cursor { bytes, at: 0 };
        let record = match rest.record() {
            Some(Ok(record)) => record,
            Some(Err(malformed)) => return Err(malformed),
            None => return Ok(None),
        };
        Ok(Some((record, rest.at)))
    }
}

/// Appends the bytes of a key with its value. `kinds`: without an expiry, and with one.
#[inline]
fn encode_put(kinds: [u8; 2], key: &[u8], value: &[u8], expires_at: Option<UnixMillis>, out: &mut Vec<u8>) {
    out.reserve(17 + key.len() + value.len());
    out.push(kinds[usize::from(expires_at.is_some())]);
    put_length(out, key.len());
    put_length(out, value.len());
    put_expiry(out, expires_at);
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

/// Returns the bytes of a [`Record::Together`] before its records, which take `length` bytes.
pub(super) fn together_header(length: usize) -> [u8; TOGETHER_HEADER] {
    let mut header = [TOGETHER; TOGETHER_HEADER];
    header[1..].copy_from_slice(&(length as u64).to_le_bytes());
    header
}

#[inline]
pub(super) fn put_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("keys and values are below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
}

#[inline]
pub(super) fn put_expiry(out: &mut Vec<u8>, expires_at: Option<UnixMillis>) {
    if let Some(at) = expires_at {
        out.extend_from_slice(&at.0.to_le_bytes());
    }
}

/// A reader of bytes that may end too soon: its methods return `None` then.
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    fn record(&mut self) -> Option<Result<Record<'a>, Malformed>> {
        let kind = self.take(1)?[0];
        Some(Ok(match kind {
            PUT | PUT_UNTIL => {
                let (key, value) = (self.length()?, self.length()?);
                let expires_at = self.expiry(kind == PUT_UNTIL)?;
                Record::Put { key: self.take(key)?, value: self.take(value)?, expires_at }
            }
            EXPIRE | PERSIST => {
                let key = self.length()?;
                let expires_at = self.expiry(kind == EXPIRE)?;
                Record::Expire { key: self.take(key)?, expires_at }
            }
            REMOVE => {
                let key = self.length()?;
                Record::Remove { key: self.take(key)? }
            }
            AGAIN | AGAIN_UNTIL => {
                let (key, value) = (self.length()?, self.length()?);
                let expires_at = self.expiry(kind == AGAIN_UNTIL)?;
                Record::Again { key: self.take(key)?, value: self.take(value)?, expires_at }
            }
            CLEAR => Record::Clear,
            CLEAR_SLOTS => {
                let bits = self.take(SLOT_SET_BYTES)?.first_chunk().expect("as many as were asked for");
                Record::ClearSlots(SlotSet::new(bits))
            }
            VERSIONS => match Versions::decode(self)? {
                Ok(versions) => Record::Versions(versions),
                Err(malformed) => return Some(Err(malformed)),
            },
            TOGETHER => {
                let length = self.number()?;
                Record::Together(Together(self.take(usize::try_from(length).unwrap_or(usize::MAX))?))
            }
            _ => return Some(Err(Malformed)),
        }))
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub(super) fn length(&mut self) -> Option<usize> {
        let bytes = self.take(4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes) as usize)
    }

    pub(super) fn short(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn expiry(&mut self, is_there: bool) -> Option<Option<UnixMillis>> {
        if is_there { Some(Some(UnixMillis(self.number()?))) } else { Some(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..300)
    }

    /// Checks that a record is decoded as it was encoded, and that a part of its bytes is reported as incomplete.
    fn check(record: Record<'_>) {
        let mut encoded = Vec::new();
        record.encode(&mut encoded);
        for end in 0..encoded.len() {
            assert_eq!(Record::decode(&encoded[..end]), Ok(None));
        }
        let length = encoded.len();
        encoded.push(0);
        assert_eq!(Record::decode(&encoded), Ok(Some((record, length))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(key in bytes(), value in bytes(), at in any::<Option<u64>>()) {
            let (key, value, expires_at) = (&key[..], &value[..], at.map(UnixMillis));
            check(Record::Put { key, value, expires_at });
            check(Record::Expire { key, expires_at });
            check(Record::Remove { key });
            check(Record::Again { key, value, expires_at });
            check(Record::Clear);
            let mut bits = [0; SLOT_SET_BYTES];
            value.iter().zip(&mut bits).for_each(|(&from, to)| *to = from);
            check(Record::ClearSlots(SlotSet::new(&bits)));
            let mut several = Vec::new();
            Record::Remove { key }.encode(&mut several);
            Record::Put { key, value, expires_at }.encode(&mut several);
            let together = Together(&several);
            check(Record::Together(together));
            let each: Result<Vec<_>, _> = together.each().collect();
            prop_assert_eq!(each, Ok(vec![Record::Remove { key }, Record::Put { key, value, expires_at }]));
        }

        /// Decoding any bytes ends, and reads no more than there are.
        #[test]
        fn random_bytes_are_read_or_refused(bytes in bytes()) {
            if let Ok(Some((record, length))) = Record::decode(&bytes) {
                prop_assert!(length <= bytes.len());
                if let Record::Together(together) = record {
                    prop_assert!(together.each().count() <= bytes.len());
                }
            }
        }
    }
}
