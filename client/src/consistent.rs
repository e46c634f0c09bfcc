//! Consistent hashing: which of several servers a key belongs to, where clients alone decide it.
//!
//! Every node has [`POINTS`] points on a circle of 64-bit numbers, and a key belongs to the node of the next point from its
//! own number on. So nodes get about equal shares, and when one is added or removed only its own keys change hands. Servers
//! know nothing of it: Trine's predecessor was used like this, and so can be any servers that take every key.

use crate::routing::Node;

/// Points that a node has: as many as the clients of Trine's predecessor gave it. Shares then differ by some 9 %.
pub const POINTS: usize = 120;

/// A circle of points.
///
/// ```
/// use trine_client::consistent::Circle;
///
/// let circle = Circle::new(&["a:7000", "b:7100", "c:7200"]);
/// assert_eq!(circle.node_of(b"foo"), circle.node_of(b"foo"));
/// ```
#[derive(Clone, Debug)]
pub struct Circle {
    /// In order.
    points: Vec<(u64, Node)>,
}

impl Circle {
    /// A circle of these nodes. What a node is called decides where its points are, and nothing else: the order of the names
    /// does not matter, nor who else is there.
    ///
    /// # Panics
    /// Where there is no node, or there are more than 65,536.
    pub fn new(names: &[impl AsRef<str>]) -> Self {
        assert!(!names.is_empty() && names.len() <= 1 << 16, "a circle has a node, and at most 65,536");
        let mut points = Vec::with_capacity(names.len() * POINTS);
        for (index, name) in names.iter().enumerate() {
            let seed = hash(name.as_ref().as_bytes());
            points.extend((0..POINTS as u64).map(|number| (mix(seed.wrapping_add(number)), Node(index as u16))));
        }
        // Where two points meet, names decide, not their order.
        points.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| names[a.1.index()].as_ref().cmp(names[b.1.index()].as_ref())));
        Self { points }
    }

    /// The node that a key belongs to.
    #[inline]
    pub fn node_of(&self, key: &[u8]) -> Node {
        let place = hash(key);
        let next = self.points.partition_point(|(point, _)| *point < place);
        self.points[if next == self.points.len() { 0 } else { next }].1
    }
}

/// Hashes bytes, eight at a time. The same for ever: keys are found again by it.
#[inline]
fn hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut state = bytes.len() as u64;
    for word in words {
        state = mix(state ^ u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(state ^ u64::from_le_bytes(last))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every bit of the result depends on every bit given.
#[inline]
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(count: usize, salt: u16) -> Vec<String> {
        (0..count).map(|index| format!("10.{}.{}.{index}:7000", salt >> 8, salt & 255)).collect()
    }

    fn keys() -> impl Iterator<Item = Vec<u8>> {
        (0..5000).map(|number| format!("key:{number:012}").into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Nodes get about equal shares: between six and fifteen tenths of it.
        #[test]
        fn shares_are_about_equal(count in 1_usize..9, salt: u16) {
            let circle = Circle::new(&names(count, salt));
            let mut shares = vec![0_f64; count];
            keys().for_each(|key| shares[circle.node_of(&key).index()] += count as f64 / 5000.0);
            prop_assert!(shares.iter().all(|share| (0.6..1.5).contains(share)), "{shares:?}");
        }

        /// Without a node its keys, and no others, belong to somebody else; in another order nothing changes.
        #[test]
        fn removing_a_node_moves_only_its_keys(count in 2_usize..9, gone: proptest::sample::Index, salt: u16) {
            let all = names(count, salt);
            let mut rest = all.clone();
            let gone = rest.remove(gone.index(count));
            rest.reverse();
            let (before, after) = (Circle::new(&all), Circle::new(&rest));
            for key in keys() {
                let owner = &all[before.node_of(&key).index()];
                let now = &rest[after.node_of(&key).index()];
                prop_assert!(owner == now || *owner == gone, "{owner} gave a key to {now}");
            }
        }
    }

    /// Places never change: keys that were written once are looked for where they are.
    #[test]
    fn places_never_change() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf, "as published");
        let circle = Circle::new(&["a:7000", "b:7100", "c:7200"]);
        let owners: Vec<u16> = (0..12).map(|number| circle.node_of(format!("key:{number}").as_bytes()).0).collect();
        assert_eq!(owners, [1, 1, 0, 0, 1, 0, 0, 0, 2, 0, 0, 1]);
    }
}
