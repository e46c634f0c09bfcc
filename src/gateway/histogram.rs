//! Merges the histograms of cores: `{command: {calls, histogram_usec: {microseconds: calls that took no more}}}`.

use super::{bulk, head, length};

/// The execution times of one command's calls.
struct Histogram<'a> {
    name: &'a [u8],
    calls: i64,
    /// For each core that had calls: its steps, which are microseconds and the number of calls that took no more.
    steps: Vec<Vec<(i64, i64)>>,
}

/// Returns one map of all commands with the sums of all cores. Commands stand in the order in which the replies, read
/// one after the other, first have them.
pub(super) fn add(replies: &[Vec<u8>]) -> Vec<u8> {
    let mut histograms: Vec<Histogram<'_>> = Vec::new();
    for histogram in replies.iter().flat_map(|reply| read(reply)) {
        match histograms.iter_mut().find(|known| known.name == histogram.name) {
            Some(known) => {
                known.calls += histogram.calls;
                known.steps.extend(histogram.steps);
            }
            None => histograms.push(histogram),
        }
    }
    let is_map = replies[0][0] == b'%';
    let map = |pairs: usize| if is_map { format!("%{pairs}\r\n") } else { format!("*{}\r\n", 2 * pairs) };
    let mut text = map(histograms.len()).into_bytes();
    for Histogram { name, calls, steps } in &histograms {
        let mut bounds: Vec<i64> = steps.iter().flatten().map(|(us, _)| *us).collect();
        bounds.sort_unstable();
        bounds.dedup();
        text.extend_from_slice(format!("${}\r\n", name.len()).as_bytes());
        text.extend_from_slice(name);
        let (outer, inner) = (map(2), map(bounds.len()));
        text.extend_from_slice(
            format!("\r\n{outer}$5\r\ncalls\r\n:{calls}\r\n$14\r\nhistogram_usec\r\n{inner}").as_bytes(),
        );
        for bound in bounds {
            // Each core adds the calls of its last step that is not above the bound.
            let no_more =
                |steps: &Vec<(i64, i64)>| steps.iter().rfind(|(us, _)| *us <= bound).map_or(0, |(_, sum)| *sum);
            let sum: i64 = steps.iter().map(no_more).sum();
            text.extend_from_slice(format!(":{bound}\r\n:{sum}\r\n").as_bytes());
        }
    }
    text
}

fn read(reply: &[u8]) -> Vec<Histogram<'_>> {
    let mut rest = reply;
    let mut histograms = Vec::new();
    for _ in 0..pairs(&mut rest) {
        let name = bulk(next(&mut rest)).1;
        pairs(&mut rest);
        next(&mut rest);
        let calls = head(next(&mut rest)).0;
        next(&mut rest);
        let count = pairs(&mut rest);
        let steps = (0..count).map(|_| (head(next(&mut rest)).0, head(next(&mut rest)).0)).collect();
        histograms.push(Histogram { name, calls, steps: vec![steps] });
    }
    histograms
}

/// Takes a map's head from `rest`; returns the number of pairs that follow.
fn pairs(rest: &mut &[u8]) -> i64 {
    let (count, end) = head(rest);
    let pairs = if rest[0] == b'%' { count } else { count / 2 };
    *rest = &rest[end..];
    pairs
}

/// Takes the next element from `rest`.
fn next<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (element, behind) = rest.split_at(length(rest));
    *rest = behind;
    element
}
