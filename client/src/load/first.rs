//! Checks of keys whose first value stays: set if absent, and never removed.
//!
//! Such a key has one value for ever, so there is no need to know what came before what: the version that a write was
//! acknowledged with (200), or else the first one that was read, is the only one that anybody may see from then on. A write
//! that is refused because the key exists (409) says nothing of whose value it has. A second write of a key that is
//! acknowledged says that the first has been lost or overwritten.

/// With more keys than this nobody keeps count: it would cost more memory and cache than it may.
const KEYS_MAX: u64 = 16 << 20;
/// No version: nothing is known.
const UNKNOWN: u64 = 0;

/// By key: the version that it has for ever.
#[derive(Debug, Default)]
pub(crate) struct FirstValues {
    versions: Vec<u64>,
}

impl FirstValues {
    /// For keys below `keys`.
    pub(crate) fn new(keys: u64) -> Self {
        Self { versions: vec![UNKNOWN; if keys <= KEYS_MAX { keys as usize } else { 0 }] }
    }

    /// Somebody saw the key with this version, or was told that it has it now. Returns whether that can be.
    #[inline]
    pub(crate) fn seen(&mut self, key: u64, version: u64) -> bool {
        match self.versions.get_mut(key as usize) {
            Some(known) if *known == UNKNOWN => {
                *known = version;
                true
            }
            Some(known) => *known == version || version == UNKNOWN,
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first version that is known stays, and every other is noticed; what has no version is not judged.
    #[test]
    fn the_first_value_stays() {
        let mut first = FirstValues::new(3);
        assert!(first.seen(0, 7) && first.seen(0, 7) && first.seen(1, 8), "each key has its own");
        assert!(!first.seen(0, 9) && !first.seen(1, 7));
        assert!(first.seen(0, 7), "what was wrong once changes nothing");
        assert!(first.seen(0, UNKNOWN) && first.seen(2, UNKNOWN) && first.seen(2, 5));
        assert!(first.seen(3, 1) && first.seen(3, 2), "beyond the keys that are kept nothing is known");
    }
}
