//! The keys with the most accesses (`HOTKEYS`), from the requests that [`Sampler`](super::Sampler) picks.
//!
//! Space-Saving (Metwally, Agrawal and El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data
//! Streams", ICDT 2005): a fixed number of keys is counted. A key that is not among them replaces the one with the
//! lowest count, and takes over that count as its possible error. A key with more than one in [`KEYS_MAX`] of all
//! accesses is always among them. Counts decay, so that the report is about the last half a minute.

use foldhash::fast::FixedState;
use std::hash::BuildHasher;

/// The keys that are counted.
#[derive(Clone, Debug)]
pub struct HotKeys {
    keys: Vec<HotKey>,
    /// Accesses of all keys, decayed like the counts of each.
    total: f64,
    /// The seconds that the counts cover, decayed like the counts.
    seconds: f64,
    faded_at_us: u64,
    hasher: FixedState,
}

/// A key and its counts.
#[derive(Clone, Debug)]
pub struct HotKey {
    hash: u64,
    /// The key.
    pub key: Box<[u8]>,
    count: f64,
    /// The part of the count that may belong to keys that this one has replaced.
    error: f64,
    bytes: f64,
}

/// The use of a key, as it is reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heat {
    /// Recent accesses per second. They may include accesses of keys that this one has replaced.
    pub per_second: f64,
    /// Recent accesses per second that are certainly this key's.
    pub per_second_min: f64,
    /// The key's share of all accesses on this core, in percent.
    pub percent: f64,
    /// Recent bytes of requests and replies per second.
    pub bytes_per_second: f64,
}

/// The number of keys that are counted. A search of all of them takes 0.1 µs, for each sampled request.
const KEYS_MAX: usize = 128;
/// Longer keys are not counted, so that a core keeps 128 KiB of them at most.
const KEY_BYTES_MAX: usize = 1024;
/// The part of a count that is left after a second: half of it is left after 21 seconds, about a third after 30.
const KEPT: f64 = 1.0 - 1.0 / 30.0;
/// The lowest count that is kept: a key whose count has decayed to less is removed.
const COUNT_MIN: f64 = 0.05;

impl Default for HotKeys {
    fn default() -> Self {
        let hasher = FixedState::with_seed(1);
        Self { keys: Vec::new(), total: 0.0, seconds: 0.0, faded_at_us: 0, hasher }
    }
}

impl HotKeys {
    /// Counts accesses of a key. `bytes`: the requests and replies of all these accesses.
    pub fn note(&mut self, key: &[u8], accesses: u64, bytes: u64) {
        let (accesses, bytes) = (accesses as f64, bytes as f64);
        self.total += accesses;
        if KEY_BYTES_MAX < key.len() {
            return;
        }
        let hash = self.hasher.hash_one(key);
        if let Some(known) = self.keys.iter_mut().find(|known| known.hash == hash && *known.key == *key) {
            known.count += accesses;
            known.bytes += bytes;
            return;
        }
        let new = |count: f64, error: f64| HotKey { hash, key: key.into(), count, error, bytes };
        if self.keys.len() < KEYS_MAX {
            self.keys.push(new(accesses, 0.0));
            return;
        }
        let least = self.keys.iter_mut().min_by(|left, right| left.count.total_cmp(&right.count));
        let least = least.expect("as many as fit are there");
        *least = new(least.count + accesses, least.count);
    }

    /// Decays the counts. To be called once a second.
    pub fn fade(&mut self, monotonic_us: u64) {
        self.seconds = self.seconds * KEPT + seconds_between(self.faded_at_us, monotonic_us).min(2.0);
        self.faded_at_us = monotonic_us;
        self.total *= KEPT;
        for key in &mut self.keys {
            key.count *= KEPT;
            key.error *= KEPT;
            key.bytes *= KEPT;
        }
        self.keys.retain(|key| COUNT_MIN <= key.count);
    }

    /// Returns the counted keys, those with the most certain accesses first.
    pub fn hottest(&self, monotonic_us: u64) -> Vec<(&HotKey, Heat)> {
        let seconds = (self.seconds + seconds_between(self.faded_at_us, monotonic_us)).max(1.0);
        let heat = |key: &HotKey| Heat {
            per_second: key.count / seconds,
            per_second_min: (key.count - key.error).max(0.0) / seconds,
            percent: 100.0 * key.count / self.total.max(key.count),
            bytes_per_second: key.bytes / seconds,
        };
        let mut found: Vec<_> = self.keys.iter().map(|key| (key, heat(key))).collect();
        // Among many keys that are all alike, those that came last have inherited large counts. The certain accesses
        // tell them apart.
        found.sort_by(|(left_key, left), (right_key, right)| {
            right.per_second_min.total_cmp(&left.per_second_min).then_with(|| left_key.key.cmp(&right_key.key))
        });
        found
    }

    /// Removes all keys and counts.
    pub fn clear(&mut self, monotonic_us: u64) {
        *self = Self { faded_at_us: monotonic_us, ..Self::default() };
    }
}

fn seconds_between(from_us: u64, to_us: u64) -> f64 {
    to_us.saturating_sub(from_us) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(hot: &HotKeys, at_us: u64, count: usize) -> Vec<String> {
        let hottest = hot.hottest(at_us);
        hottest.iter().take(count).map(|(key, _)| String::from_utf8_lossy(&key.key).into_owned()).collect()
    }

    /// The few keys with many accesses are found among a hundred thousand others, in their order, and no count is more
    /// wrong than it says.
    #[test]
    fn hot_keys_are_found_among_many_others() {
        let mut hot = HotKeys::default();
        let mut random = fastrand::Rng::with_seed(7);
        let mut truth = [0u32; 3];
        for _ in 0..200_000 {
            let which = match random.u32(..100) {
                0..10 => 0,
                10..15 => 1,
                15..18 => 2,
                _ => {
                    hot.note(format!("other:{}", random.u32(..100_000)).as_bytes(), 1, 1);
                    continue;
                }
            };
            truth[which] += 1;
            hot.note(format!("hot:{which}").as_bytes(), 1, 100);
        }
        assert_eq!(names(&hot, 0, 3), ["hot:0", "hot:1", "hot:2"]);
        for ((_, heat), truth) in hot.hottest(0).iter().zip(truth) {
            let truth = f64::from(truth);
            assert!(heat.per_second_min <= truth && truth <= heat.per_second, "{heat:?} of {truth}");
            assert!((heat.percent - truth / 2_000.0).abs() < 1.0, "{heat:?}");
        }
        assert_eq!(hot.hottest(0).len(), KEYS_MAX);
    }

    /// A key that was used a minute ago is reported behind those that are used now, and is removed in the end.
    #[test]
    fn what_was_hot_fades() {
        let mut hot = HotKeys::default();
        hot.clear(5_000_000);
        for second in 6..=65 {
            hot.note(b"old", 100, 100);
            hot.fade(second * 1_000_000);
        }
        let (_, heat) = hot.hottest(65_000_000)[0];
        assert!((90.0..110.0).contains(&heat.per_second), "a hundred a second: {heat:?}");
        for second in 66..=125 {
            hot.note(b"new", 20, 20);
            hot.fade(second * 1_000_000);
        }
        assert_eq!(names(&hot, 125_000_000, 9), ["new", "old"]);
        for second in 126..=400 {
            hot.fade(second * 1_000_000);
        }
        assert!(hot.hottest(400_000_000).is_empty());
    }

    /// Three accesses within a moment are reported as three a second, not three thousand.
    #[test]
    fn a_moment_is_taken_for_a_second() {
        let mut hot = HotKeys::default();
        hot.note(b"a", 3, 30);
        let expected = Heat { per_second: 3.0, per_second_min: 3.0, percent: 100.0, bytes_per_second: 30.0 };
        assert_eq!(hot.hottest(1000)[0].1, expected);
    }

    /// Accesses of a key of any length count in the total; a long key is not kept.
    #[test]
    fn long_keys_are_not_kept() {
        let mut hot = HotKeys::default();
        hot.note(&[b'x'; KEY_BYTES_MAX + 1], 3, 3);
        hot.note(b"a", 1, 1);
        assert_eq!(names(&hot, 0, 9), ["a"]);
        assert_eq!(hot.hottest(0)[0].1.percent, 25.0);
    }
}
