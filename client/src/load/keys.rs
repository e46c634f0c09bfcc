//! Keys: a number of fixed length behind a prefix.

/// Two digits each.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// The letters of a run's name.
const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// So many of them tell runs apart: among a thousand runs of one server two agree once in 150,000 times.
const RUN_LETTERS: usize = 7;

/// Writes the keys of a run. They need no escape in a path, a query, a form or JSON.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// The prefix, and as many digits as there is room for.
    text: Vec<u8>,
    prefix: usize,
}

impl Keys {
    /// `count` keys of `size` bytes that are the same in every run: `key:` and digits.
    ///
    /// # Errors
    /// Says how long keys have to be, where so few digits can't tell them apart.
    pub(crate) fn shared(size: usize, count: u64) -> Result<Self, String> {
        Self::new(b"key:", size, count)
    }

    /// `count` keys of `size` bytes that no other run has.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub(crate) fn fresh(run: u64, size: usize, count: u64) -> Result<Self, String> {
        let mut rest = run;
        let mut prefix: Vec<u8> = Vec::with_capacity(RUN_LETTERS + 1);
        for _ in 0..RUN_LETTERS {
            prefix.push(LETTERS[(rest % 36) as usize]);
            rest /= 36;
        }
        prefix.push(b':');
        Self::new(&prefix, size, count)
    }

    fn new(prefix: &[u8], size: usize, count: u64) -> Result<Self, String> {
        let digits = count.saturating_sub(1).checked_ilog10().unwrap_or(0) as usize + 1;
        let needed = prefix.len() + digits;
        if size < needed {
            return Err(format!("keys of {size} bytes can't tell {count} apart: use --key-size {needed} or more"));
        }
        let mut text = prefix.to_vec();
        text.resize(size, b'0');
        Ok(Self { text, prefix: prefix.len() })
    }

    /// The length of every key.
    pub(crate) fn size(&self) -> usize {
        self.text.len()
    }

    /// The key with this number.
    #[inline]
    pub(crate) fn text(&mut self, mut number: u64) -> &[u8] {
        let (pairs, first) = (&PAIRS, self.prefix);
        let mut at = self.text.len();
        while first + 2 <= at && 0 < number {
            at -= 2;
            self.text[at..at + 2].copy_from_slice(&pairs[(number % 100) as usize]);
            number /= 100;
        }
        if at == first + 1 && 0 < number {
            at -= 1;
            self.text[at] = b'0' + number as u8;
        }
        self.text[first..at].fill(b'0');
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys are their numbers with zeros in front, whatever was written before.
    #[test]
    fn keys_are_numbers() {
        let mut keys = Keys::shared(9, 100_000).unwrap();
        for (number, key) in [(99_999, "key:99999"), (0, "key:00000"), (7, "key:00007"), (12_345, "key:12345")] {
            assert_eq!(keys.text(number), key.as_bytes());
        }
        assert_eq!(Keys::shared(16, 100_000).unwrap().text(42), b"key:000000000042");
        assert_eq!(Keys::shared(5, 10).unwrap().text(9), b"key:9");
        assert!(Keys::shared(8, 100_000).is_err());
        assert!(Keys::shared(5, 1).is_ok());
    }

    /// Keys of one run are not those of another, and say so with as many digits as they need.
    #[test]
    fn fresh_keys_are_of_one_run() {
        let mut one = Keys::fresh(1, 16, 1000).unwrap();
        assert_eq!(one.text(42), b"1000000:00000042");
        assert_ne!(one.text(42), Keys::fresh(36, 16, 1000).unwrap().text(42));
        assert!(Keys::fresh(u64::MAX, 16, 100_000_000).is_ok());
        assert!(Keys::fresh(u64::MAX, 16, 100_000_001).unwrap_err().contains("--key-size 17"));
    }
}
