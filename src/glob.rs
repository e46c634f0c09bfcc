//! Redis's patterns: `h?llo`, `user:*`, `[a-c]`, `[^a]`, `\*`.

/// Returns true if all of `text` matches `pattern`, byte by byte, as `stringmatchlen` of Redis has it: `*` is any number of
/// bytes, `?` one, `[…]` one of a set with ranges (`^` first: one that is not in it), `\` takes the next byte literally.
///
/// Takes time in proportion to the product of both lengths at most: only the last `*` is ever tried again, because what
/// an earlier one could take instead, the last one can take too.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut done) = (0, 0);
    // Behind the last star: where the pattern goes on, and where the text does if the star takes one byte more.
    let mut retry = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, done + 1));
        } else if done == text.len() {
            return at == pattern.len();
        } else if let Some(length) = element(&pattern[at..], text[done]) {
            at += length;
            done += 1;
        } else if let Some((behind_star, next)) = retry {
            (at, done) = (behind_star, next);
            retry = Some((behind_star, next + 1));
        } else {
            return false;
        }
    }
}

/// Returns the length of the pattern's first element if that is there and the byte matches it.
fn element(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ref set @ ..] => {
            let (matched, length) = set_contains(set, byte);
            matched.then_some(1 + length)
        }
        [b'\\', literal, ..] => (literal == byte).then_some(2),
        [literal, ..] => (literal == byte).then_some(1),
    }
}

/// Returns whether the set holds the byte, and the set's length with its closing bracket. A set that does not close
/// ends with the pattern; a range goes both ways (`[z-a]`), and its end may be a bracket (`[+-]]`), all as in Redis.
fn set_contains(set: &[u8], byte: u8) -> (bool, usize) {
    let negated = set.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match set[at..] {
            [] => return (found != negated, at),
            [b']', ..] => return (found != negated, at + 1),
            [b'\\', literal, ..] => {
                found |= literal == byte;
                at += 2;
            }
            [first, b'-', last, ..] => {
                found |= (first.min(last)..=first.max(last)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= literal == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Answers of redis-server 7.0.15 (KEYS).
    #[test]
    fn patterns_match_what_they_match_in_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h*llo", "hllo", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h\\*llo", "h*llo", true),
            ("h\\*llo", "hello", false),
            ("a[\\]]b", "a]b", true),
            ("a[b", "ab", true),
            ("a[+-]]b", "aCb", true),
            ("a\\", "a\\", true),
            ("*a*b", "xaxbxab", true),
            ("*a*b", "xaxbxa", false),
            ("user:*:name", "user:7:8:name", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    /// A pattern with many stars takes no more time than one (CVE-2022-36021 and its kin).
    #[test]
    fn many_stars_do_not_stall_the_core() {
        let pattern = [b"*a".repeat(2_000), b"b".to_vec()].concat();
        assert!(!matches(&pattern, &b"a".repeat(10_000)));
    }

    /// The meaning of a pattern, written as simply as it can be.
    fn matches_slowly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| matches_slowly(rest, &text[taken..])),
            (_, []) => pattern.is_empty(),
            (_, [byte, rest @ ..]) => {
                element(pattern, *byte).is_some_and(|length| matches_slowly(&pattern[length..], rest))
            }
        }
    }

    proptest! {
        #[test]
        fn trying_the_last_star_again_is_enough(pattern in r"[ab*?\[\]\\^-]{0,8}", text in r"[ab\]]{0,8}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), matches_slowly(pattern, text));
        }
    }
}
