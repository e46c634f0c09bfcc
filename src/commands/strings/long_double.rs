//! The arithmetic of `INCRBYFLOAT`: x86's 80-bit `long double`, with which Redis computes.
//!
//! Neither `f64` nor decimal arithmetic gives the replies of Redis: it rounds every number to 64 binary digits, which
//! shows in the last of the 17 decimals that it prints. So numbers are parsed, added and printed here like in the C
//! library on x86: each step exact, then rounded once, ties to even. (A Redis on a machine with another `long double`,
//! such as ARM's, rounds otherwise.)

use std::fmt;

/// The length from which numerals are refused (Redis: `MAX_LONG_DOUBLE_CHARS`).
const NUMERAL_BYTES_MAX: usize = 5 * 1024;
/// The exponent of the last binary digit of the smallest number.
const EXPONENT_MIN: i32 = -16_445;
/// The power of two from which numbers are infinite.
const TOP_MAX: i32 = 16_384;
/// The most decimals that are printed.
const DECIMALS: u32 = 17;

/// A number of 64 binary digits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LongDouble {
    /// `mantissa * 2^exponent`; the mantissa's highest bit is set, or the number is zero.
    Finite { negative: bool, mantissa: u64, exponent: i32 },
    /// Infinity. It can be parsed, but a sum cannot be infinite.
    Infinite,
}

impl LongDouble {
    /// Zero.
    pub(super) const ZERO: Self = Self::Finite { negative: false, mantissa: 0, exponent: 0 };

    /// Parses a numeral, like C's `strtold` but all of the text: decimal or hexadecimal, with or without a fraction and
    /// an exponent, or `inf`. `None` for any other text, for a number that is too large or too small, and for `nan`.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if NUMERAL_BYTES_MAX <= text.len() {
            return None;
        }
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") {
            return Some(Self::Infinite);
        }
        let (numeral, bits_per_power) = match text {
            [b'0', b'x' | b'X', rest @ ..] => (Numeral::parse(rest, 16)?, 1.0),
            _ => (Numeral::parse(text, 10)?, std::f64::consts::LOG2_10),
        };
        if numeral.digits.bits() == 0 {
            return Some(Self::ZERO);
        }
        // For a number that is far out of range, thousands of digits need not be computed.
        let top = numeral.digits.bits() as f64 + numeral.power as f64 * bits_per_power;
        if !(-17_000.0..17_000.0).contains(&top) {
            return None;
        }
        let power = numeral.power as i32;
        let (mut above, mut below) = (numeral.digits, Big::from(1));
        if bits_per_power != 1.0 {
            // Ten to a power is five to that power times two to that power.
            above.multiply_by_power_of_5(power.max(0) as u32);
            below.multiply_by_power_of_5((-power).max(0) as u32);
        }
        Self::divide(negative, above, below, power).filter(|&number| number != Self::ZERO)
    }

    /// Returns the number nearest to `above / below * 2^power`, neither being zero; `None` if it would be infinite.
    fn divide(negative: bool, mut above: Big, mut below: Big, power: i32) -> Option<Self> {
        // Shifted so that the quotient has 66 or 67 binary digits: two or three more than are kept.
        let shift = 66 - (above.bits() as i32 - below.bits() as i32);
        above.shift_left(shift.max(0) as usize);
        below.shift_left((-shift).max(0) as usize + 66);
        let mut quotient = 0;
        for _ in 0..67 {
            quotient = (quotient << 1) | u128::from(above.subtract(&below));
            above.shift_left(1);
        }
        Self::round(negative, quotient, above.bits() != 0, power - shift)
    }

    /// Returns the number nearest to `digits * 2^exponent`, or to a little more if there is a `rest`; `None` if it
    /// would be infinite. With a rest, there must be more than 64 digits.
    fn round(negative: bool, digits: u128, rest: bool, exponent: i32) -> Option<Self> {
        let length = 128 - digits.leading_zeros() as i32;
        let dropped = (length - 64).max(EXPONENT_MIN - exponent).max(0);
        let kept = round_shift(digits, dropped as u32, rest);
        if kept == 0 {
            return Some(Self::ZERO);
        }
        // Negative if rounding has carried into a 65th digit; the digit that is then cut off is a zero.
        let up = kept.leading_zeros() as i32 - 64;
        let mantissa = if up < 0 { kept >> 1 } else { kept << up } as u64;
        let exponent = exponent + dropped - up;
        (exponent + 64 <= TOP_MAX).then_some(Self::Finite { negative, mantissa, exponent })
    }

    /// Returns the sum; `None` if it is infinite or not a number.
    pub(super) fn add(self, other: Self) -> Option<Self> {
        let (Self::Finite { exponent: a, .. }, Self::Finite { exponent: b, .. }) = (self, other) else { return None };
        let (large, small) = if a < b { (other, self) } else { (self, other) };
        let Self::Finite { negative, mantissa, exponent } = large else { return None };
        let Self::Finite { negative: small_negative, mantissa: small_mantissa, exponent: small_exponent } = small
        else {
            return None;
        };
        if mantissa == 0 || small_mantissa == 0 {
            return Some(if mantissa == 0 { small } else { large });
        }
        // 63 digits behind those of the larger, and a bit above them for the carry.
        let distance = (exponent - small_exponent) as u32;
        let (large, small) = (u128::from(mantissa) << 63, u128::from(small_mantissa) << 63);
        let aligned = small.checked_shr(distance).unwrap_or(0);
        let rest = aligned.checked_shl(distance) != Some(small);
        let exponent = exponent - 63;
        if negative == small_negative {
            return Self::round(negative, large + aligned, rest, exponent);
        }
        if large < aligned {
            return Self::round(small_negative, aligned - large, false, exponent);
        }
        // With a rest, the number to be subtracted is a little more than `aligned`.
        Self::round(negative, large - aligned - u128::from(rest), rest, exponent)
    }
}

/// Returns `digits / 2^shift`, rounded to the nearest, ties to even. The true dividend is a little more than `digits`
/// if there is a `rest`.
fn round_shift(digits: u128, shift: u32, rest: bool) -> u128 {
    if shift == 0 {
        return digits;
    }
    let kept = digits.checked_shr(shift).unwrap_or(0);
    let Some(half) = 1_u128.checked_shl(shift - 1).filter(|_| shift < 128) else { return kept };
    let dropped = digits - (kept << shift);
    let is_up = half < dropped || (dropped == half && (rest || kept % 2 == 1));
    kept + u128::from(is_up)
}

/// Prints like C's `%.17Lf`, without the zeros at the end.
impl fmt::Display for LongDouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Finite { negative, mantissa, exponent } = *self else { return formatter.write_str("inf") };
        let scale = 10_u128.pow(DECIMALS);
        let (mut whole, mut decimals) = (String::new(), 0);
        if 0 < exponent {
            let mut digits = Big::from(mantissa);
            digits.shift_left(exponent as usize);
            whole = digits.into_decimal();
        } else {
            // 64 binary digits and 17 decimal ones fit into 121.
            let scaled = round_shift(u128::from(mantissa) * scale, exponent.unsigned_abs(), false);
            whole.push_str(&(scaled / scale).to_string());
            decimals = scaled % scale;
        }
        let is_zero = whole == "0" && decimals == 0;
        formatter.write_str(if negative && !is_zero { "-" } else { "" })?;
        formatter.write_str(&whole)?;
        if decimals == 0 {
            return Ok(());
        }
        let decimals = format!("{decimals:0width$}", width = DECIMALS as usize);
        write!(formatter, ".{}", decimals.trim_end_matches('0'))
    }
}

/// A numeral without its sign: `digits * base^power`, where base 16 counts its powers in twos.
struct Numeral {
    digits: Big,
    power: i64,
}

impl Numeral {
    fn parse(text: &[u8], base: u32) -> Option<Self> {
        let (mark, powers_per_digit) = if base == 16 { (b'p', 4) } else { (b'e', 1) };
        let is_mark = |byte: &u8| byte.to_ascii_lowercase() == mark;
        let (mantissa, exponent) = match text.iter().position(is_mark) {
            Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let point = mantissa.iter().position(|&byte| byte == b'.');
        let (whole, fraction) = match point {
            Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
            None => (mantissa, &mantissa[..0]),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut digits = Big::from(0);
        // Digits are added in chunks of as many as a limb holds.
        let (mut chunk, mut scale) = (0, 1);
        for &byte in whole.iter().chain(fraction) {
            let digit = char::from(byte).to_digit(base)?;
            (chunk, scale) = (chunk * base + digit, scale * base);
            if u32::MAX / base < scale {
                digits.multiply_add(scale, chunk);
                (chunk, scale) = (0, 1);
            }
        }
        digits.multiply_add(scale, chunk);
        let power = exponent - powers_per_digit * fraction.len() as i64;
        Some(Self { digits, power })
    }
}

/// Parses an exponent; one of many digits becomes one that is certainly out of range.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    if digits.is_empty() {
        return None;
    }
    digits
        .iter()
        .try_fold(0, |sum: i64, &byte| {
            let digit = char::from(byte).to_digit(10)?;
            Some((sum * 10 + i64::from(digit)).min(1_000_000_000))
        })
        .map(|size| sign * size)
}

/// A natural number of any length: digits to the base of 2^32, the lowest first, the highest not zero.
struct Big(Vec<u32>);

impl Big {
    fn from(number: u64) -> Self {
        let mut big = Self(vec![number as u32, (number >> 32) as u32]);
        big.trim();
        big
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    /// Returns the number of binary digits; zero has none.
    fn bits(&self) -> usize {
        self.0.last().map_or(0, |limb| self.0.len() * 32 - limb.leading_zeros() as usize)
    }

    fn multiply_add(&mut self, factor: u32, summand: u32) {
        let mut carry = u64::from(summand);
        for limb in &mut self.0 {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry != 0 {
            self.0.push(carry as u32);
        }
    }

    fn multiply_by_power_of_5(&mut self, power: u32) {
        // 5^13 is the largest below 2^32.
        (0..power / 13).for_each(|_| self.multiply_add(5_u32.pow(13), 0));
        self.multiply_add(5_u32.pow(power % 13), 0);
    }

    fn shift_left(&mut self, bits: usize) {
        self.multiply_add(1 << (bits % 32), 0);
        if !self.0.is_empty() {
            self.0.splice(0..0, std::iter::repeat_n(0, bits / 32));
        }
    }

    /// Subtracts `other` if it is not larger. Returns true if it did.
    fn subtract(&mut self, other: &Self) -> bool {
        if self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev())).is_lt() {
            return false;
        }
        let mut borrow = 0;
        for (index, limb) in self.0.iter_mut().enumerate() {
            let difference = i64::from(*limb) - i64::from(other.0.get(index).copied().unwrap_or(0)) + borrow;
            *limb = difference as u32;
            borrow = difference >> 32;
        }
        self.trim();
        true
    }

    /// Returns the number in decimal.
    fn into_decimal(mut self) -> String {
        const CHUNK: u64 = 1_000_000_000;
        let mut chunks = Vec::new();
        while !self.0.is_empty() {
            let mut rest = 0;
            for limb in self.0.iter_mut().rev() {
                rest = (rest << 32) | u64::from(*limb);
                *limb = (rest / CHUNK) as u32;
                rest %= CHUNK;
            }
            self.trim();
            chunks.push(rest);
        }
        let mut text = chunks.pop().unwrap_or(0).to_string();
        chunks.iter().rev().for_each(|chunk| text.push_str(&format!("{chunk:09}")));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(left: &str, right: &str) -> Option<String> {
        Some(LongDouble::parse(left.as_bytes())?.add(LongDouble::parse(right.as_bytes())?)?.to_string())
    }

    /// Sums are the replies of redis-server 7.0.15 on x86-64.
    #[test]
    fn sums_are_those_of_redis() {
        for (left, right, expected) in [
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("0.1", "0.2", "0.3"),
            ("1", "-1", "0"),
            ("-0.0000000000000000001", "0", "0"),
            ("0x10p-1", ".5", "8.5"),
            ("+1.", "1e0", "2"),
        ] {
            assert_eq!(sum(left, right).as_deref(), Some(expected), "{left} + {right}");
        }
    }

    /// Texts that `strtold` parses only in part, or not at all, or not as a number are refused.
    #[test]
    fn what_is_no_numeral_is_refused() {
        for text in ["", " 1", "1 ", "1e", "1e+", "e1", ".", "0x", "0x.", "0x1p", "--1", "+-1", "nan", "1,5", "1e5000"]
        {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(LongDouble::parse(b"1e-5000"), None);
        assert_eq!(LongDouble::parse("1".repeat(NUMERAL_BYTES_MAX).as_bytes()), None);
    }

    #[test]
    fn what_is_beyond_all_numbers_is_no_sum() {
        for (left, right) in [("inf", "1"), ("inf", "-inf"), ("1.1e4932", "1.1e4932")] {
            assert_eq!(sum(left, right), None, "{left} + {right}");
        }
    }
}
