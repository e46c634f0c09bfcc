//! Requests as bytes: GET and SET of numbered keys, written straight into a connection's output.

use super::value::{self, Version};
use trine::resp::decimal;

/// Keys begin with this.
const PREFIX: &[u8] = b"key:";

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

/// Writes requests for keys of one length.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    get: Vec<u8>,
    set: Vec<u8>,
    /// `key:` and as many digits as there is room for.
    key: Vec<u8>,
}

impl Wire {
    /// For keys of `key_size` bytes.
    ///
    /// # Errors
    /// Says how long keys have to be, where so few digits can't tell `keys` keys apart.
    pub(crate) fn new(key_size: usize, keys: u64) -> Result<Self, String> {
        let digits = (keys - 1).checked_ilog10().unwrap_or(0) as usize + 1;
        let needed = PREFIX.len() + digits;
        if key_size < needed {
            return Err(format!("keys of {key_size} bytes can't tell {keys} apart: use --key-size {needed} or more"));
        }
        let mut key = PREFIX.to_vec();
        key.resize(key_size, b'0');
        Ok(Self {
            get: format!("*2\r\n$3\r\nGET\r\n${key_size}\r\n").into_bytes(),
            set: format!("*3\r\n$3\r\nSET\r\n${key_size}\r\n").into_bytes(),
            key,
        })
    }

    /// The key with this number.
    #[inline]
    pub(crate) fn key(&mut self, mut number: u64) -> &[u8] {
        let (pairs, first) = (&PAIRS, PREFIX.len());
        let mut at = self.key.len();
        while first + 2 <= at && 0 < number {
            at -= 2;
            self.key[at..at + 2].copy_from_slice(&pairs[(number % 100) as usize]);
            number /= 100;
        }
        if at == first + 1 && 0 < number {
            at -= 1;
            self.key[at] = b'0' + number as u8;
        }
        self.key[first..at].fill(b'0');
        &self.key
    }

    /// Appends a GET.
    #[inline]
    pub(crate) fn get(&mut self, output: &mut Vec<u8>, key: u64) {
        output.extend_from_slice(&self.get);
        output.extend_from_slice(self.key(key));
        output.extend_from_slice(b"\r\n");
    }

    /// Appends a SET of the key to its value of this version and length.
    #[inline]
    pub(crate) fn set(&mut self, output: &mut Vec<u8>, key: u64, version: Version, length: usize) {
        output.reserve(self.set.len() + self.key.len() + length + 32);
        output.extend_from_slice(&self.set);
        output.extend_from_slice(self.key(key));
        output.extend_from_slice(b"\r\n$");
        decimal(output, length as u64);
        output.extend_from_slice(b"\r\n");
        value::write(output, key, version, length);
        output.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trine::resp::{Decoded, Decoder, Limits};

    /// Keys are their numbers with zeros in front, whatever was written before.
    #[test]
    fn keys_are_numbers() {
        let mut wire = Wire::new(9, 100_000).unwrap();
        for (number, key) in [(99_999, "key:99999"), (0, "key:00000"), (7, "key:00007"), (12_345, "key:12345")] {
            assert_eq!(wire.key(number), key.as_bytes());
        }
        assert_eq!(Wire::new(16, 100_000).unwrap().key(42), b"key:000000000042");
        assert_eq!(Wire::new(5, 10).unwrap().key(9), b"key:9");
        assert!(Wire::new(8, 100_000).is_err());
        assert!(Wire::new(5, 1).is_ok());
    }

    /// A server reads what was meant.
    #[test]
    fn requests_are_whole() {
        let mut wire = Wire::new(16, 100_000).unwrap();
        let mut output = Vec::new();
        wire.set(&mut output, 42, Version(1), 20);
        wire.get(&mut output, 42);
        let limits = Limits { arguments_max: 10, argument_bytes_max: 1000, is_authenticated: true };
        let mut decoder = Decoder::default();
        let Ok(Decoded::Request(used)) = decoder.decode(&output, &limits) else { panic!("no request") };
        let request = decoder.request(&output);
        assert_eq!((request.arg(0), request.arg(1)), (&b"SET"[..], &b"key:000000000042"[..]));
        assert_eq!(value::check(request.arg(2), 42), Some(Version(1)));
        assert_eq!(&output[used..], b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000042\r\n");
    }
}
