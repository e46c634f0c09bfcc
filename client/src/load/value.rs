//! Values that say what they are, so that a reader can tell whether it got what somebody wrote for this key.
//!
//! ```text
//! 16 bytes and more:   version (8 bytes, little-endian) | words, each computed from key, version, length and position
//! less:                the words alone, without a version
//! ```
//!
//! Every byte behind the version follows from the key, the version and the length. So a value that was cut short, mixed
//! from two, changed in one bit or written for another key does not add up. All of it is checked on every read: a word
//! costs an addition and a comparison, less than the copy that brought it here.

use super::random::mix;

/// A value's version. Says which run and executor wrote it, and as its how-manieth request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Version(pub(crate) u64);

/// Below this length a value has no version.
const VERSIONED_BYTES: usize = 16;
/// What one word and the next differ by: odd, so that no two words of a value are equal.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Appends the value of `length` bytes for this key and version.
#[inline]
pub(crate) fn write(output: &mut Vec<u8>, key: u64, version: Version, length: usize) {
    let start = output.len();
    output.resize(start + length, 0);
    let (version, words) = if length < VERSIONED_BYTES {
        (0, &mut output[start..])
    } else {
        output[start..start + 8].copy_from_slice(&version.0.to_le_bytes());
        (version.0, &mut output[start + 8..])
    };
    let mut word = first_word(key, version, length);
    let (chunks, rest) = words.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = word.to_le_bytes();
        word = word.wrapping_add(STEP);
    }
    rest.copy_from_slice(&word.to_le_bytes()[..rest.len()]);
}

/// Returns the version of a value that somebody wrote for this key; `None` where it does not add up. A value that is too
/// short for a version has version 0.
#[inline]
pub(crate) fn check(value: &[u8], key: u64) -> Option<Version> {
    let (version, words) = match value.split_first_chunk::<8>() {
        Some((version, words)) if VERSIONED_BYTES <= value.len() => (u64::from_le_bytes(*version), words),
        _ => (0, value),
    };
    let mut word = first_word(key, version, value.len());
    let (chunks, rest) = words.as_chunks::<8>();
    let mut difference = 0;
    for chunk in chunks {
        difference |= u64::from_le_bytes(*chunk) ^ word;
        word = word.wrapping_add(STEP);
    }
    let is_right = difference == 0 && *rest == word.to_le_bytes()[..rest.len()];
    is_right.then_some(Version(version))
}

#[inline]
fn first_word(key: u64, version: u64, length: usize) -> u64 {
    mix(mix(key).wrapping_add(version).wrapping_add((length as u64) << 40))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(key: u64, version: u64, length: usize) -> Vec<u8> {
        let mut output = Vec::new();
        write(&mut output, key, Version(version), length);
        assert_eq!(output.len(), length);
        output
    }

    proptest! {
        /// What was written is accepted, with its version.
        #[test]
        fn what_was_written_is_accepted(key: u64, version: u64, length in 0_usize..300) {
            let expected = if length < VERSIONED_BYTES { 0 } else { version };
            prop_assert_eq!(check(&value(key, version, length), key), Some(Version(expected)));
        }

        /// One flipped bit, another key, a cut and a tear are all noticed, from four bytes on (what a shorter value can
        /// show is limited: one byte is right by chance once in 256).
        #[test]
        fn damage_is_noticed(
            key: u64, other: u64, version: u64, length in 4_usize..300, at: proptest::sample::Index, bit in 0_u32..8,
        ) {
            prop_assume!(key != other);
            let whole = value(key, version, length);
            prop_assert_eq!(check(&whole, other), None);
            let mut flipped = whole.clone();
            flipped[at.index(length)] ^= 1_u8 << bit;
            prop_assert_eq!(check(&flipped, key), None);
            if VERSIONED_BYTES <= length {
                prop_assert_eq!(check(&whole[..length - 1], key), None);
                let torn = [&whole[..length / 2], &value(key, version ^ 1, length)[length / 2..]].concat();
                prop_assert_eq!(check(&torn, key), None);
            }
        }
    }
}
