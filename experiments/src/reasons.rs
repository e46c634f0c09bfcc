//! Reasons of several runs in one line: the same sentence once, with the range of its figures and the number of runs.

use std::collections::BTreeSet;

/// So many processes are named; the runs have all.
const NAMES_MAX: usize = 3;

/// A sentence that several runs share, but for the percentages in it.
struct Sentence {
    /// Its text, with `\0` in place of each number before ` %`.
    text: String,
    /// The numbers of each run, as they were written.
    numbers: Vec<Vec<String>>,
    runs: BTreeSet<usize>,
}

/// CPU time that others took at one place, in several runs.
struct Taken {
    place: String,
    percents: Vec<String>,
}

/// Returns the reasons of runs, each once. `runs` has the reasons of each run.
pub fn merge(runs: &[Vec<String>]) -> Vec<String> {
    let (mut sentences, mut taken): (Vec<Sentence>, Vec<Taken>) = (Vec::new(), Vec::new());
    let (mut names, mut taken_in): (Vec<(String, usize)>, BTreeSet<usize>) = (Vec::new(), BTreeSet::new());
    for (run, reason) in runs.iter().enumerate().flat_map(|(run, reasons)| reasons.iter().map(move |one| (run, one))) {
        let Some((place, percent, by)) = parse_taken(reason) else {
            add(&mut sentences, run, reason);
            continue;
        };
        taken_in.insert(run);
        match taken.iter_mut().find(|known| known.place == place) {
            Some(known) => known.percents.push(percent),
            None => taken.push(Taken { place, percents: vec![percent] }),
        }
        for name in by {
            match names.iter_mut().find(|(known, _)| *known == name) {
                Some((_, times)) => *times += 1,
                None => names.push((name, 1)),
            }
        }
    }
    let count =
        |times: usize| if runs.len() == 1 { String::new() } else { format!(" ({times} of {} runs)", runs.len()) };
    let mut merged = Vec::new();
    if !taken.is_empty() {
        names.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        let others = names.len().saturating_sub(NAMES_MAX);
        let mut by: Vec<String> = names.into_iter().take(NAMES_MAX).map(|(name, _)| name).collect();
        by.extend((0 < others).then(|| format!("{others} more")));
        let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
        let places = taken.iter().enumerate().map(|(index, taken)| {
            let verb = if index == 0 { " taken" } else { "" };
            format!("{}{verb} {} %", taken.place, range(&taken.percents))
        });
        merged.push(format!("{}{by}{}", places.collect::<Vec<_>>().join(", "), count(taken_in.len())));
    }
    merged.extend(sentences.iter().map(|sentence| format!("{}{}", sentence.fill(), count(sentence.runs.len()))));
    merged
}

fn add(sentences: &mut Vec<Sentence>, run: usize, reason: &str) {
    let (text, numbers) = template(reason);
    match sentences.iter_mut().find(|known| known.text == text) {
        Some(known) => {
            known.numbers.push(numbers);
            known.runs.insert(run);
        }
        None => sentences.push(Sentence { text, numbers: vec![numbers], runs: [run].into() }),
    }
}

impl Sentence {
    fn fill(&self) -> String {
        let mut filled = String::new();
        for (index, part) in self.text.split('\0').enumerate() {
            if 0 < index {
                let numbers: Vec<String> = self.numbers.iter().map(|numbers| numbers[index - 1].clone()).collect();
                filled += &range(&numbers);
            }
            filled += part;
        }
        filled
    }
}

/// Returns a sentence without its percentages, and these.
fn template(reason: &str) -> (String, Vec<String>) {
    let (mut text, mut numbers) = (String::new(), Vec::new());
    let mut parts = reason.split(" %").peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            text += part;
            break;
        }
        let begin = part.rfind(|letter: char| !(letter.is_ascii_digit() || "+-.".contains(letter)));
        let begin = begin.map_or(0, |at| at + part[at..].chars().next().map_or(0, char::len_utf8));
        if part[begin..].parse::<f64>().is_ok() {
            text += &format!("{}\0 %", &part[..begin]);
            numbers.push(part[begin..].to_owned());
        } else {
            text += &format!("{part} %");
        }
    }
    (text, numbers)
}

/// Returns the smallest and the largest of some numbers.
fn range(numbers: &[String]) -> String {
    let value = |text: &&String| text.parse::<f64>().unwrap_or(0.0);
    let low = numbers.iter().min_by(|a, b| value(a).total_cmp(&value(b)));
    let high = numbers.iter().max_by(|a, b| value(a).total_cmp(&value(b)));
    match (low, high) {
        (Some(low), Some(high)) if low == high => low.clone(),
        (Some(low), Some(high)) if low.starts_with(['+', '-']) => format!("{low} to {high}"),
        (Some(low), Some(high)) => format!("{low}–{high}"),
        _ => String::new(),
    }
}

/// Reads a reason such as `load CPU 1 was taken for 18 % by process 7 (cc), which latencies include`: the place, the
/// percentage, and who took it.
fn parse_taken(reason: &str) -> Option<(String, String, Vec<String>)> {
    let reason = reason.replace(" taken by others for ", " taken for ");
    let (before, after) = reason.split_once(" taken for ")?;
    let (percent, rest) = after.split_once(" %")?;
    let place = before.split_once(" was").or_else(|| before.split_once(" were")).map_or(before, |(place, _)| place);
    let place = match place.strip_suffix(" of the servers") {
        Some(cpu) => format!("server {cpu}"),
        None => place.to_owned(),
    };
    let by = rest.strip_prefix(" by ").unwrap_or_default();
    let by = by.strip_suffix(", which latencies include").unwrap_or(by);
    let by = by.strip_suffix(": the server may be faster than this shows").unwrap_or(by);
    let names = by.split(", ").filter(|name| !name.is_empty() && *name != "others").map(str::to_owned);
    Some((place, percent.to_owned(), names.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(runs: &[&[&str]]) -> Vec<String> {
        merge(&runs.iter().map(|reasons| reasons.iter().map(|&reason| reason.to_owned()).collect()).collect::<Vec<_>>())
    }

    /// CPU time that others took is one statement, with the range over the runs and who took it in most of them.
    #[test]
    fn taken_cpus_are_told_in_one_statement() {
        let load =
            |percent: u32, who: &str| format!("load CPU 1 was taken for {percent} % by {who}, which latencies include");
        let server = |percent: u32, who: &str| format!("CPU 0 of the servers was taken for {percent} % by {who}");
        let runs = [
            vec![load(18, "process 7 (cargo test)"), server(46, "process 8 (rustc), process 9 (rustc)")],
            vec![load(49, "others"), server(73, "process 8 (rustc)")],
            vec![load(20, "process 7 (cargo test)"), server(50, "process 8 (rustc), process 5 (cc1)")],
        ];
        assert_eq!(
            merge(&runs),
            ["load CPU 1 taken 18–49 %, server CPU 0 46–73 % by process 8 (rustc), process 7 (cargo test), \
              process 9 (rustc), 1 more (3 of 3 runs)"]
        );
        let one = ["the CPUs were taken for 6 % by cron"];
        assert_eq!(merged(&[&one]), ["the CPUs taken 6 % by cron"]);
        let older = ["load CPU 1 was taken by others for 18 %, which latencies include"];
        assert_eq!(merged(&[&older, &[]]), ["load CPU 1 taken 18 % (1 of 2 runs)"]);
    }

    /// Other sentences that differ by their percentages alone are one, and words are left as they are.
    #[test]
    fn sentences_are_told_once() {
        let runs: [&[&str]; 3] = [
            &["throughput drifted by +12 % while it was measured", "load CPU 1 was 97 % busy: slow"],
            &["throughput drifted by -30 % while it was measured", "10 % of é: all"],
            &["load CPU 1 was 99 % busy: slow"],
        ];
        assert_eq!(
            merged(&runs),
            [
                "throughput drifted by -30 to +12 % while it was measured (2 of 3 runs)",
                "load CPU 1 was 97–99 % busy: slow (2 of 3 runs)",
                "10 % of é: all (1 of 3 runs)",
            ]
        );
        for odd in ["", " %", "é %", "a % b", "taken for", "x taken for 3"] {
            assert_eq!(merged(&[&[odd]]), [odd]);
        }
    }
}
