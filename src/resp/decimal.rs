//! Numbers as the wire has them, in decimal.

/// Parses a signed decimal as Redis does: no leading `+`, no spaces, no leading zeros, the whole text, in range.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_canonical = match digits {
        [] => false,
        [b'0'] => digits.len() == text.len(),
        [first, rest @ ..] => (b'1'..=b'9').contains(first) && rest.iter().all(u8::is_ascii_digit),
    };
    if !is_canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Appends a number in decimal.
#[inline]
pub fn decimal(output: &mut Vec<u8>, mut number: u64) {
    if number < 10 {
        output.push(b'0' + number as u8);
        return;
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    while 0 < number {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    output.extend_from_slice(&digits[at..]);
}

/// Appends a signed number in decimal.
#[inline]
pub fn decimal_signed(output: &mut Vec<u8>, number: i64) {
    if number < 0 {
        output.push(b'-');
    }
    decimal(output, number.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decimals_are_those_of_the_standard_library(number in any::<i64>()) {
            let mut output = Vec::new();
            decimal_signed(&mut output, number);
            prop_assert_eq!(output, number.to_string().into_bytes());
            prop_assert_eq!(parse_i64(number.to_string().as_bytes()), Some(number));
        }
    }
}
