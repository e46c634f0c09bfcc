//! Slots, the parts that the key space is divided into.

mod version;

pub use version::Version;

/// The number of slots in a cluster, fixed by the Redis Cluster specification.
pub const SLOT_COUNT: u16 = 16_384;

/// One of the [`SLOT_COUNT`] parts that the key space is divided into.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Slot(u16);

impl Slot {
    /// Returns the slot of a key. If the key has a hash tag, only the tag counts, so that clients
    /// can keep related keys together: `{user7}.name` and `{user7}.email` share a slot.
    #[inline]
    pub fn of(key: &[u8]) -> Self {
        Self(crc16(hash_tag(key)) % SLOT_COUNT)
    }

    /// Returns the slot with this number, or `None` from [`SLOT_COUNT`] on.
    pub fn new(number: u16) -> Option<Self> {
        (number < SLOT_COUNT).then_some(Self(number))
    }

    /// Returns all slots in the order of their numbers.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..SLOT_COUNT).map(Self)
    }

    /// Returns the slot's number, below [`SLOT_COUNT`].
    #[inline]
    pub fn number(self) -> u16 {
        self.0
    }

    /// Returns the slot's number as an index into a table of [`SLOT_COUNT`] elements.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Returns what lies between the first `{` and the first `}` after it, if that is not empty; else the whole key
/// (Redis Cluster specification, "Hash tags").
#[inline]
fn hash_tag(key: &[u8]) -> &[u8] {
    if has_brace(key) { find_hash_tag(key) } else { key }
}

/// Returns true if there is a `{` in a key. Eight bytes a step: most keys have none, and are searched to their end.
#[inline]
fn has_brace(key: &[u8]) -> bool {
    const LOW_BITS: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    let (steps, rest) = key.as_chunks::<8>();
    steps.iter().any(|step| {
        // A byte is zero where there is a brace. Subtracting one from each borrows from the highest bit of such a byte first.
        let difference = u64::from_ne_bytes(*step) ^ u64::from_ne_bytes([b'{'; 8]);
        difference.wrapping_sub(LOW_BITS) & !difference & HIGH_BITS != 0
    }) || rest.contains(&b'{')
}

#[cold]
fn find_hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let rest = &key[open + 1..];
    match rest.iter().position(|&byte| byte == b'}') {
        Some(length) if 0 < length => &rest[..length],
        _ => key,
    }
}

/// CRC-16/XMODEM: polynomial 0x1021, no reflection, starts at zero (Redis Cluster specification, appendix A).
///
/// Eight bytes a step: their contributions do not depend on each other, so the loads overlap where a byte a step would
/// wait for the one before.
#[inline]
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0;
    let (steps, rest) = bytes.as_chunks::<8>();
    for step in steps {
        let [high, low] = u16::to_be_bytes(crc);
        crc = TABLES[7][usize::from(step[0] ^ high)]
            ^ TABLES[6][usize::from(step[1] ^ low)]
            ^ TABLES[5][usize::from(step[2])]
            ^ TABLES[4][usize::from(step[3])]
            ^ TABLES[3][usize::from(step[4])]
            ^ TABLES[2][usize::from(step[5])]
            ^ TABLES[1][usize::from(step[6])]
            ^ TABLES[0][usize::from(step[7])];
    }
    for &byte in rest {
        crc = (crc << 8) ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)];
    }
    crc
}

/// `TABLES[n][byte]` is the CRC of `byte` followed by `n` zeros.
static TABLES: [[u16; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[zeros - 1][byte];
            tables[zeros][byte] = (before << 8) ^ tables[0][(before >> 8) as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Keys and slots as Redis gives them (CLUSTER KEYSLOT of redis-server 7.0.15).
    #[test]
    fn slots_are_those_of_redis_cluster() {
        for (key, slot) in [
            ("foo", 12182),
            ("bar", 5061),
            ("", 0),
            ("123456789", 12739),
            ("{user}.a", 5474),
            ("user", 5474),
            ("{}key", 14961),
            ("a{b}{c}", 3300),
            ("a{b", 13340),
        ] {
            assert_eq!(Slot::of(key.as_bytes()).number(), slot, "{key}");
        }
    }

    proptest! {
        /// Eight bytes a step give what a bit a step gives.
        #[test]
        fn the_tables_agree_with_the_polynomial(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut slow: u16 = 0;
            for &byte in &bytes {
                slow ^= u16::from(byte) << 8;
                for _ in 0..8 {
                    slow = if slow & 0x8000 == 0 { slow << 1 } else { (slow << 1) ^ 0x1021 };
                }
            }
            prop_assert_eq!(crc16(&bytes), slow);
        }
    }
}
