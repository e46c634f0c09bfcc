//! Values that say what they are, so that a reader can tell whether it got what somebody wrote for this key.
//!
//! ```text
//! 16 bytes and more:   version (8 bytes, little-endian) | words, each computed from key, version, length and position
//! less:                the words alone, without a version
//! ```
//!
//! Over HTTP a value is made of letters, which no form and no JSON has to escape: 24 bytes and more begin with the version as
//! 16 letters from a to p (four bits each), and each word's upper half is 8 of them.
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
/// The difference between one word and the next: odd, so that no two words of a value are equal.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The form of values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    /// Bytes of any sort.
    Bytes,
    /// The letters from a to p.
    Letters,
}

impl Form {
    /// Appends the value of `length` bytes for this key and version.
    #[inline]
    pub(crate) fn write(self, output: &mut Vec<u8>, key: u64, version: Version, length: usize) {
        match self {
            Self::Bytes => write(output, key, version, length),
            Self::Letters => write_letters(output, key, version, length),
        }
    }

    /// Returns whether a value adds up in the other form: then a run in the other protocol wrote it for this key. What is
    /// shorter than a word adds up by chance too often, and tells nothing.
    #[cold]
    pub(crate) fn is_others(self, value: &[u8], key: u64) -> bool {
        let other = if self == Self::Bytes { Self::Letters } else { Self::Bytes };
        8 <= value.len() && other.check(value, key).is_some()
    }

    /// Returns true if a value of this length has a version.
    #[inline]
    pub(crate) fn has_version(self, length: usize) -> bool {
        match self {
            Self::Bytes => VERSIONED_BYTES <= length,
            Self::Letters => VERSIONED_LETTERS <= length,
        }
    }

    /// Returns the version of a value that somebody wrote for this key; `None` where it does not add up. A value that is
    /// too short for a version has version 0.
    #[inline]
    pub(crate) fn check(self, value: &[u8], key: u64) -> Option<Version> {
        match self {
            Self::Bytes => check(value, key),
            Self::Letters => check_letters(value, key),
        }
    }
}

#[inline]
fn write(output: &mut Vec<u8>, key: u64, version: Version, length: usize) {
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

#[inline]
fn check(value: &[u8], key: u64) -> Option<Version> {
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

/// The letters of a version.
const VERSION_LETTERS: usize = 16;
/// Below this length a value of letters has no version.
const VERSIONED_LETTERS: usize = 24;

#[inline]
fn write_letters(output: &mut Vec<u8>, key: u64, version: Version, length: usize) {
    let start = output.len();
    output.resize(start + length, 0);
    let (version, words) = if length < VERSIONED_LETTERS {
        (0, &mut output[start..])
    } else {
        let (head, words) = output[start..].split_at_mut(VERSION_LETTERS);
        head[..8].copy_from_slice(&letters(version.0 as u32));
        head[8..].copy_from_slice(&letters((version.0 >> 32) as u32));
        (version.0, words)
    };
    let mut word = first_word(key, version, length);
    let (chunks, rest) = words.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = letters((word >> 32) as u32);
        word = word.wrapping_add(STEP);
    }
    rest.copy_from_slice(&letters((word >> 32) as u32)[..rest.len()]);
}

#[inline]
fn check_letters(value: &[u8], key: u64) -> Option<Version> {
    let (version, words) = match value.split_first_chunk::<VERSION_LETTERS>() {
        Some((version, words)) if VERSIONED_LETTERS <= value.len() => (of_letters(version)?, words),
        _ => (0, value),
    };
    let mut word = first_word(key, version, value.len());
    let (chunks, rest) = words.as_chunks::<8>();
    let mut difference = 0;
    for chunk in chunks {
        difference |= u64::from_le_bytes(*chunk) ^ u64::from_le_bytes(letters((word >> 32) as u32));
        word = word.wrapping_add(STEP);
    }
    let is_right = difference == 0 && *rest == letters((word >> 32) as u32)[..rest.len()];
    is_right.then_some(Version(version))
}

/// Eight letters from a to p, four bits each.
#[inline]
fn letters(bits: u32) -> [u8; 8] {
    let mut spread = u64::from(bits);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    (spread + 0x6161_6161_6161_6161).to_le_bytes()
}

/// The number that 16 such letters stand for; `None` where they are others.
#[inline]
fn of_letters(letters: &[u8; VERSION_LETTERS]) -> Option<u64> {
    let (halves, _) = letters.as_chunks::<8>();
    let half = |half: &[u8; 8]| {
        let mut bits = u64::from_le_bytes(*half).wrapping_sub(0x6161_6161_6161_6161);
        if bits & 0xf0f0_f0f0_f0f0_f0f0 != 0 {
            return None;
        }
        bits = (bits | bits >> 4) & 0x00ff_00ff_00ff_00ff;
        bits = (bits | bits >> 8) & 0x0000_ffff_0000_ffff;
        Some((bits | bits >> 16) & 0xffff_ffff)
    };
    Some(half(&halves[0])? | half(&halves[1])? << 32)
}

#[inline]
fn first_word(key: u64, version: u64, length: usize) -> u64 {
    mix(mix(key).wrapping_add(version).wrapping_add((length as u64) << 40))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(form: Form, key: u64, version: u64, length: usize) -> Vec<u8> {
        let mut output = Vec::new();
        form.write(&mut output, key, Version(version), length);
        assert_eq!(output.len(), length);
        output
    }

    fn form() -> impl Strategy<Value = Form> {
        prop_oneof![Just(Form::Bytes), Just(Form::Letters)]
    }

    fn versioned(form: Form) -> usize {
        if form == Form::Bytes { VERSIONED_BYTES } else { VERSIONED_LETTERS }
    }

    proptest! {
        /// A value that was written is accepted, with its version.
        #[test]
        fn what_was_written_is_accepted(form in form(), key: u64, version: u64, length in 0_usize..300) {
            let expected = if length < versioned(form) { 0 } else { version };
            prop_assert_eq!(form.check(&value(form, key, version, length), key), Some(Version(expected)));
        }

        /// Letters are letters, which no form and no JSON escapes.
        #[test]
        fn letters_need_no_escape(key: u64, version: u64, length in 0_usize..300) {
            let value = value(Form::Letters, key, version, length);
            prop_assert!(value.iter().all(|letter| (b'a'..=b'p').contains(letter)));
        }

        /// A value of a run in the other protocol is told from damage, and damage is attributed to no run.
        #[test]
        fn what_another_run_wrote_is_told(form in form(), key: u64, version: u64, length in 8_usize..300, at: proptest::sample::Index) {
            let other = if form == Form::Bytes { Form::Letters } else { Form::Bytes };
            let mut value = value(other, key, version, length);
            prop_assert_eq!(form.check(&value, key), None);
            prop_assert!(form.is_others(&value, key) && !other.is_others(&value, key));
            value[at.index(length)] ^= 1;
            prop_assert!(!form.is_others(&value, key));
        }

        /// One flipped bit, another key, a cut and a tear are all noticed, from four bytes or eight letters on (what a
        /// shorter value can show is limited: one byte is right by chance once in 256, one letter once in 16).
        #[test]
        fn damage_is_noticed(
            form in form(), key: u64, other: u64, version: u64, length in 8_usize..300, at: proptest::sample::Index,
            bit in 0_u32..8,
        ) {
            prop_assume!(key != other);
            let whole = value(form, key, version, length);
            prop_assert_eq!(form.check(&whole, other), None);
            let mut flipped = whole.clone();
            flipped[at.index(length)] ^= 1_u8 << bit;
            prop_assert_eq!(form.check(&flipped, key), None);
            if versioned(form) <= length {
                prop_assert_eq!(form.check(&whole[..length - 1], key), None);
                let torn = [&whole[..length / 2], &value(form, key, version ^ 1, length)[length / 2..]].concat();
                prop_assert_eq!(form.check(&torn, key), None);
            }
        }
    }
}
