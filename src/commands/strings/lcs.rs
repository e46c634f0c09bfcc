//! `LCS`: the longest common subsequence of two strings.

use crate::{
    commands::{Call, Outcome, errors},
    resp::{Reply, parse_i64},
    store::Key,
};

/// The largest product of the strings' lengths, plus one each: that of two strings of 1 KiB. The table takes two bytes
/// for each cell, and the core 2 ms. Redis allows a table of `proto-max-bulk-len` bytes, and blocks for as long as that
/// takes.
const CELLS_MAX: usize = 1025 * 1025;

/// The form of the reply: the subsequence itself, unless an option says otherwise.
#[derive(Default)]
struct Options {
    /// `LEN`: only its length.
    length: bool,
    /// `IDX`: its positions in both strings.
    matches: bool,
    /// `MINMATCHLEN`: only matches of at least this length.
    match_length_min: i64,
    /// `WITHMATCHLEN`: each match with its length.
    with_match_length: bool,
}

impl Options {
    fn parse<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<Self, &'static str> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if is("idx") {
                options.matches = true;
            } else if is("len") {
                options.length = true;
            } else if is("withmatchlen") {
                options.with_match_length = true;
            } else if is("minmatchlen") {
                let number = words.next().ok_or(errors::SYNTAX)?;
                options.match_length_min = parse_i64(number).ok_or(errors::NOT_AN_INTEGER)?;
            } else {
                return Err(errors::SYNTAX);
            }
        }
        if options.matches && options.length {
            return Err("ERR If you want both the length and indexes, please just use IDX.");
        }
        Ok(options)
    }
}

/// A range of bytes that both strings have in common: its start in each, and its length.
struct Match {
    left: usize,
    right: usize,
    length: usize,
}

/// The lengths of the longest common subsequences of all pairs of prefixes.
struct Table<'a> {
    left: &'a [u8],
    right: &'a [u8],
    /// The rows, one for each prefix of `left`. A length is below 2^16: it is at most that of the shorter string, whose
    /// square is below [`CELLS_MAX`].
    lengths: Vec<u16>,
}

impl<'a> Table<'a> {
    fn new(left: &'a [u8], right: &'a [u8]) -> Self {
        let width = right.len() + 1;
        let mut lengths = vec![0; (left.len() + 1) * width];
        for (index, byte) in left.iter().enumerate() {
            let (above, row) = lengths[index * width..].split_at_mut(width);
            let mut before = 0;
            for (at, other) in right.iter().enumerate() {
                before = if byte == other { above[at] + 1 } else { above[at + 1].max(before) };
                row[at + 1] = before;
            }
        }
        Self { left, right, lengths }
    }

    fn length(&self, left: usize, right: usize) -> u16 {
        self.lengths[left * (self.right.len() + 1) + right]
    }

    /// Iterates over the positions of one of the longest subsequences in both strings, from the last byte to the first.
    /// Of several it is the one that Redis finds.
    fn path(&self) -> impl Iterator<Item = (usize, usize)> {
        let (mut left, mut right) = (self.left.len(), self.right.len());
        std::iter::from_fn(move || {
            while 0 < left && 0 < right {
                if self.left[left - 1] == self.right[right - 1] {
                    (left, right) = (left - 1, right - 1);
                    return Some((left, right));
                }
                if self.length(left, right - 1) < self.length(left - 1, right) {
                    left -= 1;
                } else {
                    right -= 1;
                }
            }
            None
        })
    }

    fn subsequence(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.path().map(|(left, _)| self.left[left]).collect();
        bytes.reverse();
        bytes
    }

    /// Returns the contiguous ranges of the path, from the last to the first.
    fn matches(&self) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        for (left, right) in self.path() {
            match matches.last_mut() {
                Some(last) if last.left == left + 1 && last.right == right + 1 => {
                    *last = Match { left, right, length: last.length + 1 };
                }
                _ => matches.push(Match { left, right, length: 1 }),
            }
        }
        matches
    }
}

pub(super) fn lcs(call: &mut Call<'_>) -> Outcome {
    let now = call.millis();
    let keys = [call.key(), Key::of(call.request.arg(2))];
    for key in keys {
        call.read(key);
    }
    let options = match Options::parse(call.request.args_from(3)) {
        Ok(options) => options,
        Err(error) => return call.fail(error),
    };
    let [left, right] = keys.map(|key| call.store.peek(key, now).map_or(&b""[..], |entry| entry.value()));
    if CELLS_MAX < (left.len() + 1).saturating_mul(right.len() + 1) {
        return call.fail("ERR String too long for LCS");
    }
    let table = Table::new(left, right);
    let length = table.length(left.len(), right.len());
    if options.matches {
        reply_matches(&mut call.reply, &options, &table.matches(), length);
    } else if options.length {
        call.reply.integer(i64::from(length));
    } else {
        call.reply.bulk(&table.subsequence());
    }
    Outcome::Done
}

fn reply_matches(reply: &mut Reply<'_>, options: &Options, matches: &[Match], length: u16) {
    let is_shown = |found: &&Match| options.match_length_min <= found.length as i64;
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(matches.iter().filter(is_shown).count());
    for found in matches.iter().filter(is_shown) {
        reply.array(2 + usize::from(options.with_match_length));
        for start in [found.left, found.right] {
            reply.array(2);
            reply.integer(start as i64);
            reply.integer((start + found.length - 1) as i64);
        }
        if options.with_match_length {
            reply.integer(found.length as i64);
        }
    }
    reply.bulk(b"len");
    reply.integer(i64::from(length));
}

#[cfg(test)]
mod tests {
    use super::CELLS_MAX;
    use crate::commands::tests::{Bench, check};

    /// Replies are those of the example in Redis's documentation.
    #[test]
    fn the_longest_common_subsequence_is_shown_as_asked() {
        check(
            "
            MSET a ohmytext b mynewtext -> +OK
            LCS a b -> $6 mytext
            LCS a b LEN -> :6
            LCS a b IDX -> *4 $7 matches *2 *2 *2 :4 :7 *2 :5 :8 *2 *2 :2 :3 *2 :0 :1 $3 len :6
            LCS a b IDX MINMATCHLEN 4 -> *4 $7 matches *1 *2 *2 :4 :7 *2 :5 :8 $3 len :6
            LCS a b IDX WITHMATCHLEN MINMATCHLEN 4 -> *4 $7 matches *1 *3 *2 :4 :7 *2 :5 :8 :4 $3 len :6
            LCS a nothing -> $0
            LCS a a LEN -> :8
            LCS a b LEN IDX -> -ERR If you want both the length and indexes, please just use IDX.
            LCS a b MINMATCHLEN -> -ERR syntax error
            LCS a b MINMATCHLEN x -> -ERR value is not an integer or out of range
            LCS a b bogus -> -ERR syntax error
            HELLO 3
            LCS a nothing IDX -> %2 $7 matches *0 $3 len :0
            ",
        );
    }

    #[test]
    fn strings_that_would_stall_the_core_are_refused() {
        let mut bench = Bench::new();
        let length = CELLS_MAX.isqrt() - 1;
        assert_eq!(bench.line(&format!("SETRANGE a {} x", length - 1)), format!(":{length}"));
        assert_eq!(bench.line("LCS a a LEN"), format!(":{length}"));
        bench.line("APPEND a x");
        assert_eq!(bench.line("LCS a a LEN"), "-ERR String too long for LCS");
    }
}
