//! An entry: a key, its value, and their metadata, in one allocation behind one pointer.
//!
//! ```text
//! | flags 1 | access 3 | key length 1, 2 or 4 | value length 1, 2 or 4 | expiry 8, if any | place 12, if any
//!     | key | value, unless it is away | slack |
//! ```
//!
//! With `--values disk` an entry has a [`Place`], and its value may be away: on disk only. The entry of a 16-byte key takes 48
//! bytes then, whatever the length of its value.
//!
//! Most of a server's memory is small entries: with ten million of them, a byte here is ten megabytes there. Two boxed slices
//! take 32 bytes of a table's bucket and two allocations; this takes 8 bytes and one. Lengths take as many bytes as they need.
//!
//! This is one of the two modules that may be `unsafe` (the other is the network ring). It is sound because an entry
//! owns exactly one allocation of [`allocation`]`(total)` bytes, `total` follows from the header alone, the header is
//! written in full before the pointer is used, and everything else is reached through the slices that
//! [`Entry::bytes`] and [`Entry::bytes_mut`] make. Miri runs the tests (`MIRIFLAGS=-Zmiri-disable-isolation`
//! `cargo +nightly miri test -p trine --no-default-features --lib store::entry`).
#![expect(unsafe_code, reason = "one pointer to one allocation of varying length has no safe type that is as small")]

use crate::store::{At, UnixMillis};
use std::{alloc, fmt, ptr::NonNull};

const HAS_EXPIRY: u8 = 1;
const HAS_PLACE: u8 = 32;
const IS_AWAY: u8 = 64;
const IS_EDITED: u8 = 128;
const KEY_WIDTH_SHIFT: u8 = 1;
const VALUE_WIDTH_SHIFT: u8 = 3;
const ACCESS: usize = 1;
const LENGTHS: usize = 4;
const PLACE_BYTES: usize = 12;

/// The access data of an entry: when and how often it was used. 24 bits, whose meaning depends on the eviction policy.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Access(pub [u8; 3]);

/// The place of an entry's value on disk, now or once it is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// The position.
    pub at: At,
    /// The CRC-32C of the value, computed when it was set, and compared with that of the bytes that are read.
    pub checksum: u32,
}

impl Place {
    fn encode(self) -> [u8; PLACE_BYTES] {
        let mut bytes = [0; PLACE_BYTES];
        bytes[..8].copy_from_slice(&self.at.to_bits().to_le_bytes());
        bytes[8..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }
}

/// A key with its value.
pub struct Entry {
    /// Owned: [`allocation`] of the header's total bytes, aligned to 1.
    memory: NonNull<u8>,
}

/// The offsets of an entry's parts. All of them follow from the first bytes of the header.
#[derive(Clone, Copy)]
struct Layout {
    expiry: usize,
    place: usize,
    key: usize,
    value: usize,
    end: usize,
    /// The value's length, also if it is away.
    length: usize,
}

/// Returns the number of bytes that an entry of `total` bytes allocates. Sizes are rounded up to the allocator's size classes,
/// so that a value that grows by a byte at a time moves only when it crosses into the next class.
fn allocation(total: usize) -> usize {
    if total <= 128 {
        return total.next_multiple_of(16);
    }
    // Four classes for each doubling.
    let step = (total - 1).ilog2() - 2;
    total.next_multiple_of(1 << step)
}

/// Returns the binary logarithm of the bytes that a length is stored in: 0, 1 or 2.
fn width_code(length: usize) -> u8 {
    match length {
        0..0x100 => 0,
        0x100..0x1_0000 => 1,
        _ => 2,
    }
}

impl Layout {
    #[inline]
    fn new(flags: u8, key_length: usize, value_length: usize) -> Self {
        let key_width = 1 << ((flags >> KEY_WIDTH_SHIFT) & 3);
        let value_width = 1 << ((flags >> VALUE_WIDTH_SHIFT) & 3);
        let expiry = LENGTHS + key_width + value_width;
        let place = expiry + if flags & HAS_EXPIRY == 0 { 0 } else { 8 };
        let key = place + if flags & HAS_PLACE == 0 { 0 } else { PLACE_BYTES };
        let value = key + key_length;
        let end = value + if flags & IS_AWAY == 0 { value_length } else { 0 };
        Self { expiry, place, key, value, end, length: value_length }
    }
}

impl Entry {
    /// Allocates an entry.
    ///
    /// # Panics
    /// If the key or the value has 4 GiB or more; the protocol's limits are far below.
    pub fn new(key: &[u8], value: &[u8], expires_at: Option<UnixMillis>, access: Access, place: Option<Place>) -> Self {
        let mut entry = Self::allocate(key.len(), value.len(), expires_at, access, place, false);
        let layout = entry.layout();
        let bytes = entry.bytes_mut(layout.end);
        bytes[layout.key..layout.value].copy_from_slice(key);
        bytes[layout.value..].copy_from_slice(value);
        entry
    }

    /// Allocates an entry whose value, of this length, is away.
    ///
    /// # Panics
    /// Like [`new`](Self::new).
    pub fn new_away(
        key: &[u8],
        value_length: usize,
        expires_at: Option<UnixMillis>,
        access: Access,
        place: Place,
    ) -> Self {
        let mut entry = Self::allocate(key.len(), value_length, expires_at, access, Some(place), true);
        let layout = entry.layout();
        entry.bytes_mut(layout.end)[layout.key..].copy_from_slice(key);
        entry
    }

    /// Allocates an entry that does not expire and whose value is zeros.
    ///
    /// # Panics
    /// Like [`new`](Self::new).
    pub fn zeroed(key: &[u8], value_length: usize, access: Access, place: Option<Place>) -> Self {
        let mut entry = Self::allocate(key.len(), value_length, None, access, place, false);
        let layout = entry.layout();
        entry.bytes_mut(layout.value)[layout.key..].copy_from_slice(key);
        entry
    }

    /// Allocates an entry whose header is whole and whose key and value are zeros.
    fn allocate(
        key_length: usize,
        value_length: usize,
        expires_at: Option<UnixMillis>,
        access: Access,
        place: Option<Place>,
        is_away: bool,
    ) -> Self {
        assert!(u32::try_from(key_length.max(value_length)).is_ok(), "keys and values are below 4 GiB");
        let (key_code, value_code) = (width_code(key_length), width_code(value_length));
        let mut flags =
            u8::from(expires_at.is_some()) | (key_code << KEY_WIDTH_SHIFT) | (value_code << VALUE_WIDTH_SHIFT);
        if place.is_some() {
            flags |= if is_away { HAS_PLACE | IS_AWAY } else { HAS_PLACE };
        }
        let layout = Layout::new(flags, key_length, value_length);
        let size = alloc::Layout::array::<u8>(allocation(layout.end)).expect("below the limits of an allocation");
        // SAFETY: the size is never zero: the header alone takes six bytes. Zeroed, so that every byte is initialised.
        let memory = unsafe { if layout.end < 4096 { alloc::alloc(size) } else { alloc::alloc_zeroed(size) } };
        let Some(memory) = NonNull::new(memory) else { alloc::handle_alloc_error(size) };
        if layout.end < 4096 {
            // SAFETY: `size` bytes were just allocated.
            unsafe { memory.write_bytes(0, layout.end) };
        }
        let mut entry = Self { memory };
        let header = entry.bytes_mut(layout.key);
        header[0] = flags;
        header[ACCESS..LENGTHS].copy_from_slice(&access.0);
        let (key_width, value_width) = (1 << key_code, 1 << value_code);
        header[LENGTHS..][..key_width].copy_from_slice(&(key_length as u32).to_le_bytes()[..key_width]);
        header[LENGTHS + key_width..][..value_width]
            .copy_from_slice(&(value_length as u32).to_le_bytes()[..value_width]);
        if let Some(at) = expires_at {
            header[layout.expiry..layout.place].copy_from_slice(&at.0.to_le_bytes());
        }
        if let Some(place) = place {
            header[layout.place..].copy_from_slice(&place.encode());
        }
        entry
    }

    /// Returns the first `length` bytes, at most [`Layout::end`]: those are initialised.
    #[inline]
    fn bytes(&self, length: usize) -> &[u8] {
        // SAFETY: this entry owns at least `length` initialised bytes behind its pointer.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), length) }
    }

    #[inline]
    fn bytes_mut(&mut self, length: usize) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes it the only way to them.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), length) }
    }

    #[inline]
    fn layout(&self) -> Layout {
        // The fixed header and both lengths at their narrowest are six bytes, which every entry has.
        let header = self.bytes(LENGTHS + 2);
        let flags = header[0];
        // The usual case: both lengths take one byte, and the entry has no place.
        if flags & !(HAS_EXPIRY | IS_EDITED) == 0 {
            return Layout::new(flags, usize::from(header[LENGTHS]), usize::from(header[LENGTHS + 1]));
        }
        let key_width = 1 << ((flags >> KEY_WIDTH_SHIFT) & 3);
        let value_width = 1 << ((flags >> VALUE_WIDTH_SHIFT) & 3);
        let lengths = &self.bytes(LENGTHS + key_width + value_width)[LENGTHS..];
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, &byte| (sum << 8) | usize::from(byte));
        Layout::new(flags, number(&lengths[..key_width]), number(&lengths[key_width..]))
    }

    /// Returns the key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        let layout = self.layout();
        &self.bytes(layout.end)[layout.key..layout.value]
    }

    /// Returns the value.
    ///
    /// # Panics
    /// If it is away.
    #[inline]
    pub fn value(&self) -> &[u8] {
        let layout = self.layout();
        let value = &self.bytes(layout.end)[layout.value..];
        assert!(value.len() == layout.length, "a value that is away is fetched before a command needs it");
        value
    }

    /// Returns the value's length, also if it is away.
    #[inline]
    pub fn value_len(&self) -> usize {
        self.layout().length
    }

    /// Returns true if the value is away: on disk only.
    #[inline]
    pub fn is_away(&self) -> bool {
        self.bytes(1)[0] & IS_AWAY != 0
    }

    /// Returns true if the value was edited in place since it was set. Redis encodes such a string differently, and
    /// `OBJECT ENCODING` shows that.
    pub fn is_edited(&self) -> bool {
        self.bytes(1)[0] & IS_EDITED != 0
    }

    /// Sets or clears the mark of a value that was edited in place.
    #[inline]
    pub fn set_edited(&mut self, is_edited: bool) {
        let flags = &mut self.bytes_mut(1)[0];
        *flags = if is_edited { *flags | IS_EDITED } else { *flags & !IS_EDITED };
    }

    /// Returns the value's place on disk, now or once it is written; `None` if values live in memory.
    #[inline]
    pub fn place(&self) -> Option<Place> {
        if self.bytes(1)[0] & HAS_PLACE == 0 {
            return None;
        }
        let layout = self.layout();
        let (at, checksum) = self.bytes(layout.key)[layout.place..].split_at(8);
        let at = At::from_bits(u64::from_le_bytes(at.try_into().expect("eight bytes")));
        Some(Place { at, checksum: u32::from_le_bytes(checksum.try_into().expect("four bytes")) })
    }

    /// Sets the value's place.
    ///
    /// # Panics
    /// If the entry was made without a place.
    pub fn set_place(&mut self, place: Place) {
        assert!(self.bytes(1)[0] & HAS_PLACE != 0, "only what was made with a place has one");
        let layout = self.layout();
        self.bytes_mut(layout.key)[layout.place..].copy_from_slice(&place.encode());
    }

    /// Returns the bytes of memory that would be freed if the value went away; 0 if it is away.
    #[inline]
    pub fn savings(&self) -> usize {
        let layout = self.layout();
        allocation(layout.end) - allocation(layout.value)
    }

    /// Discards the value from memory: it is on disk.
    ///
    /// # Panics
    /// If the entry has no place.
    pub fn send_away(&mut self) {
        let place = self.place().expect("what is sent away has a place to come back from");
        let is_edited = self.is_edited();
        *self = Self::new_away(self.key(), self.value_len(), self.expires_at(), self.access(), place);
        self.set_edited(is_edited);
    }

    /// Puts the value that was read from disk back into the entry.
    ///
    /// # Panics
    /// If it has another length than the value that went away.
    pub fn bring_back(&mut self, value: &[u8]) {
        assert_eq!(value.len(), self.value_len(), "what comes back is what went away");
        let is_edited = self.is_edited();
        *self = Self::new(self.key(), value, self.expires_at(), self.access(), self.place());
        self.set_edited(is_edited);
    }

    /// Returns the value, to be edited in place; its length stays.
    ///
    /// # Panics
    /// If it is away.
    #[inline]
    pub fn value_mut(&mut self) -> &mut [u8] {
        let layout = self.layout();
        assert!(layout.end - layout.value == layout.length, "a value that is away is not changed");
        &mut self.bytes_mut(layout.end)[layout.value..]
    }

    /// Returns the time at which the entry expires. Absolute, because a replica may apply it much later.
    #[inline]
    pub fn expires_at(&self) -> Option<UnixMillis> {
        if self.bytes(1)[0] & HAS_EXPIRY == 0 {
            return None;
        }
        let layout = self.layout();
        let bytes = self.bytes(layout.place)[layout.expiry..].try_into().expect("an expiry is eight bytes");
        Some(UnixMillis(u64::from_le_bytes(bytes)))
    }

    /// Returns the access data: when and how often the entry was used.
    #[inline]
    pub fn access(&self) -> Access {
        let header = self.bytes(LENGTHS);
        Access([header[1], header[2], header[3]])
    }

    /// Sets the access data.
    #[inline]
    pub fn set_access(&mut self, access: Access) {
        self.bytes_mut(LENGTHS)[ACCESS..].copy_from_slice(&access.0);
    }

    /// Replaces the value, the expiry and the place. Reuses the allocation if all parts keep their sizes, as they nearly always
    /// do.
    #[inline]
    pub fn replace(&mut self, value: &[u8], expires_at: Option<UnixMillis>, place: Option<Place>) {
        let (layout, flags) = (self.layout(), self.bytes(1)[0]);
        let shape = u8::from(expires_at.is_some()) | if place.is_some() { HAS_PLACE } else { 0 };
        let is_same = flags & (HAS_EXPIRY | HAS_PLACE | IS_AWAY) == shape;
        if layout.end - layout.value == value.len() && is_same {
            self.set_edited(false);
            let bytes = self.bytes_mut(layout.end);
            bytes[layout.value..].copy_from_slice(value);
            if let Some(at) = expires_at {
                bytes[layout.expiry..layout.place].copy_from_slice(&at.0.to_le_bytes());
            }
            if let Some(place) = place {
                bytes[layout.place..layout.key].copy_from_slice(&place.encode());
            }
            return;
        }
        *self = Self::new(self.key(), value, expires_at, self.access(), place);
    }

    /// Sets or removes the expiry. Reuses the allocation if the entry has one before and after.
    pub fn set_expiry(&mut self, expires_at: Option<UnixMillis>) {
        let (layout, is_edited) = (self.layout(), self.is_edited());
        match expires_at {
            Some(at) if self.expires_at().is_some() => {
                self.bytes_mut(layout.place)[layout.expiry..].copy_from_slice(&at.0.to_le_bytes());
            }
            _ => {
                *self = match self.place().filter(|_| self.is_away()) {
                    Some(place) => Self::new_away(self.key(), layout.length, expires_at, self.access(), place),
                    None => Self::new(self.key(), self.value(), expires_at, self.access(), self.place()),
                };
                self.set_edited(is_edited);
            }
        }
    }

    /// Changes the value's length. New bytes are zero. Within one size class nothing moves.
    ///
    /// # Panics
    /// If the value is away.
    pub fn resize_value(&mut self, length: usize) {
        let layout = self.layout();
        let old_length = layout.end - layout.value;
        assert!(old_length == layout.length, "a value that is away is not changed");
        let end = layout.value + length;
        let in_place = allocation(end) == allocation(layout.end) && width_code(length) == width_code(old_length);
        if !in_place {
            let (expires_at, access) = (self.expires_at(), self.access());
            let mut other = Self::allocate(layout.value - layout.key, length, expires_at, access, self.place(), false);
            let other_layout = other.layout();
            let kept = length.min(old_length);
            let bytes = other.bytes_mut(other_layout.end);
            bytes[other_layout.key..other_layout.value].copy_from_slice(self.key());
            bytes[other_layout.value..][..kept].copy_from_slice(&self.value()[..kept]);
            *self = other;
            return;
        }
        if layout.end < end {
            // SAFETY: `end` is within the allocation, whose class is that of `end`.
            unsafe { self.memory.add(layout.end).write_bytes(0, end - layout.end) };
        }
        let flags = self.bytes(1)[0];
        let value_width = 1 << ((flags >> VALUE_WIDTH_SHIFT) & 3);
        let at = layout.expiry - value_width;
        self.bytes_mut(layout.expiry)[at..].copy_from_slice(&(length as u32).to_le_bytes()[..value_width]);
    }

    /// Prefetches the header, the key and the start of the value.
    #[inline]
    pub fn prefetch(&self) {
        let start = self.memory.as_ptr().addr();
        prefetch(start);
        prefetch(start + 64);
    }

    /// Returns the bytes of memory that the entry takes, as requested from the allocator.
    #[inline]
    pub fn memory(&self) -> usize {
        allocation(self.layout().end)
    }
}

/// Prefetches the memory at this address: has it loaded into the processor's cache, without waiting for that. Any address is
/// valid.
#[inline]
pub(super) fn prefetch(address: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch has no visible effect and faults at no address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

impl Drop for Entry {
    fn drop(&mut self) {
        let size = alloc::Layout::array::<u8>(self.memory()).expect("it was allocated with this size");
        // SAFETY: allocated by `allocate` with this very layout, and dropped once.
        unsafe { alloc::dealloc(self.memory.as_ptr(), size) };
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} = ", self.key().escape_ascii())?;
        if self.is_away() {
            write!(formatter, "{} bytes, away", self.value_len())?;
        } else {
            write!(formatter, "{}", self.value().escape_ascii())?;
        }
        self.expires_at().map_or(Ok(()), |at| write!(formatter, " until {}", at.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lengths on both sides of every width and class.
    fn length() -> impl Strategy<Value = usize> {
        prop_oneof![0..40_usize, 100..140_usize, 240..270_usize, 65_500..65_600_usize]
    }

    #[derive(Clone, Debug)]
    enum Change {
        Replace(usize, Option<u64>),
        Resize(usize),
        Expire(Option<u64>),
        Access([u8; 3]),
        Place(u64),
        /// The value goes away, and is read back before it is resized.
        GoAway,
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (length(), any::<Option<u64>>()).prop_map(|(length, expiry)| Change::Replace(length, expiry)),
            length().prop_map(Change::Resize),
            any::<Option<u64>>().prop_map(Change::Expire),
            any::<[u8; 3]>().prop_map(Change::Access),
            any::<u64>().prop_map(Change::Place),
            Just(Change::GoAway),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
        /// After any sequence of changes, an entry equals the five variables that the same changes were made to: key, value,
        /// expiry, access data and place.
        #[test]
        fn an_entry_is_its_five_parts(
            key in length(),
            has_place in any::<bool>(),
            changes in prop::collection::vec(change(), 1..12),
        ) {
            let key = vec![b'k'; key];
            let mut place = has_place.then_some(Place { at: At::from_bits(7), checksum: 9 });
            let mut entry = Entry::zeroed(&key, 3, Access::default(), place);
            let (mut value, mut expiry, mut access) = (vec![0; 3], None, Access::default());
            prop_assert_eq!((entry.key(), entry.value()), (&key[..], &value[..]));
            for (index, change) in changes.into_iter().enumerate() {
                match change {
                    Change::Replace(length, at) => {
                        value = vec![index as u8; length];
                        expiry = at.map(UnixMillis);
                        entry.replace(&value, expiry, place);
                    }
                    Change::Place(at) => {
                        if let Some(place) = &mut place {
                            *place = Place { at: At::from_bits(at), checksum: at as u32 };
                            entry.set_place(*place);
                        }
                    }
                    Change::GoAway => {
                        if has_place && !entry.is_away() {
                            entry.send_away();
                        }
                    }
                    Change::Resize(length) => {
                        if entry.is_away() {
                            entry.bring_back(&value);
                        }
                        value.resize(length, 0);
                        entry.resize_value(length);
                    }
                    Change::Expire(at) => {
                        expiry = at.map(UnixMillis);
                        entry.set_expiry(expiry);
                    }
                    Change::Access(bytes) => {
                        access = Access(bytes);
                        entry.set_access(access);
                    }
                }
                prop_assert_eq!(entry.key(), &key);
                prop_assert_eq!(entry.value_len(), value.len());
                prop_assert_eq!(entry.expires_at(), expiry);
                prop_assert_eq!(entry.access(), access);
                prop_assert_eq!(entry.place(), place);
                let is_away = entry.is_away();
                prop_assert!(is_away || key.len() + value.len() < entry.memory());
                if is_away {
                    prop_assert!(entry.memory() <= allocation(key.len() + 4 + 8 + 8 + PLACE_BYTES));
                    let place = place.expect("only with a place");
                    let mut other = Entry::new_away(&key, value.len(), expiry, access, place);
                    other.bring_back(&value);
                    prop_assert_eq!(other.value(), &value);
                } else {
                    prop_assert_eq!(entry.value(), &value);
                }
            }
        }
    }

    /// A 16-byte key with a 64-byte value takes 96 bytes: their own, the 6 of the header, and 10 of rounding.
    #[test]
    fn a_small_entry_takes_96_bytes() {
        let entry = Entry::new(&[b'k'; 16], &[b'v'; 64], None, Access::default(), None);
        assert_eq!(entry.memory(), 96);
        assert_eq!(size_of::<Option<Entry>>(), 8);
    }

    /// The memory of a key whose value is away does not depend on the value's length; with an expiry it is the same.
    #[test]
    fn a_key_whose_value_is_away_takes_48_bytes() {
        let place = Place { at: At::from_bits(1), checksum: 2 };
        for length in [64, 1000, 100_000] {
            let mut entry = Entry::new(&[b'k'; 16], &vec![b'v'; length], None, Access::default(), Some(place));
            entry.send_away();
            assert_eq!((entry.memory(), entry.value_len()), (48, length));
            entry.set_expiry(Some(UnixMillis(1)));
            assert!(entry.is_away() && entry.memory() == 48);
        }
    }

    /// A read of a value that is away panics: no byte of it is ever invented.
    #[test]
    #[should_panic(expected = "a value that is away is fetched")]
    fn a_value_that_is_away_is_not_read() {
        let place = Place { at: At::from_bits(1), checksum: 2 };
        Entry::new_away(b"k", 3, None, Access::default(), place).value();
    }

    /// A value that grows by a byte at a time is copied a few times per doubling, not each time.
    #[test]
    fn growing_moves_an_entry_seldom() {
        let mut entry = Entry::new(b"k", b"", None, Access::default(), None);
        let mut moves = 0;
        for length in 0..if cfg!(miri) { 2_000 } else { 100_000 } {
            let before = entry.memory;
            entry.resize_value(length);
            moves += u32::from(before != entry.memory);
        }
        assert!(moves <= 60, "{moves} moves");
    }
}
