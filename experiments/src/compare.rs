//! Compares two folders of results: by how much they differ, and whether by more than chance.

mod condition;

pub use condition::{Condition, Metric};

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::point::{Dimension, Point, varying};
use crate::result::{Results, Run, Verdict};
use crate::statistics::{CONFIDENCE, REPEATS_TO_COMPARE, Ratio, compare, geometric_mean, holm};
use crate::summary::{Summary, summarise};
use condition::percent;

/// One point that both folders have.
struct Matched {
    point: Point,
    /// True for A and for B if the runs that are compared are SUSPECT there.
    suspect: [bool; 2],
    changes: Vec<Option<Change>>,
}

/// The change of one metric at one point.
#[derive(Clone, Copy)]
struct Change {
    ratio: Ratio,
    /// Adjusted for there being many points.
    p: f64,
}

/// The points that two folders have in common, and the differences between their conditions.
pub struct Comparison {
    matched: Vec<Matched>,
    overall: Vec<Option<Ratio>>,
    /// Measured in A, not measured or not valid in B.
    lost: Vec<Point>,
    /// In one folder only.
    unmatched: usize,
    /// Runs that were left out because their figures are not valid.
    invalid: usize,
    /// The commits that were measured on both sides, where they are the same.
    same_commits: Option<String>,
}

/// The effect of the conditions on a comparison.
pub struct Judgement {
    /// A line for each condition and place where it was met.
    pub met: Vec<String>,
    /// Why conditions could not be judged at all.
    pub cannot_judge: Option<String>,
}

impl Comparison {
    pub fn new(a: &Results, b: &Results) -> Self {
        let (a, b) = (summarise(&a.runs), summarise(&b.runs));
        let partner = |summary: &Summary| b.iter().find(|other| other.point == summary.point);
        let pairs: Vec<(&Summary, &Summary)> = a.iter().filter_map(|one| Some((one, partner(one)?))).collect();
        let lost = pairs
            .iter()
            .filter(|(a, b)| !values(a, Metric::Throughput).is_empty() && values(b, Metric::Throughput).is_empty());
        let lost = lost.map(|(a, _)| a.point.clone()).collect();
        let matched = pairs.iter().map(|(a, b)| Matched {
            point: a.point.clone(),
            suspect: [is_suspect(a), is_suspect(b)],
            changes: Vec::new(),
        });
        let mut matched: Vec<Matched> = matched.collect();
        let mut overall = Vec::new();
        for metric in Metric::ALL {
            let ratios: Vec<Option<Ratio>> =
                pairs.iter().map(|(a, b)| compare(&values(a, metric), &values(b, metric))).collect();
            let known: Vec<Ratio> = ratios.iter().copied().flatten().collect();
            let mut adjusted = holm(&known.iter().map(|ratio| ratio.p).collect::<Vec<_>>()).into_iter();
            for (matched, ratio) in matched.iter_mut().zip(&ratios) {
                matched.changes.push(ratio.map(|ratio| Change { ratio, p: adjusted.next().unwrap_or(1.0) }));
            }
            overall.push(geometric_mean(&known));
        }
        let unmatched = a.len() + b.len() - 2 * pairs.len();
        let runs = pairs.iter().flat_map(|(a, b)| a.runs.iter().chain(&b.runs));
        let invalid = runs.filter(|run| run.verdict() == Some(Verdict::Invalid)).count();
        let commits = |side: &[&Summary]| -> BTreeSet<String> {
            side.iter().flat_map(|summary| summary.runs.iter().map(|run| run.commit.clone())).collect()
        };
        let (of_a, of_b): (Vec<&Summary>, Vec<&Summary>) = pairs.iter().copied().unzip();
        let (in_a, in_b) = (commits(&of_a), commits(&of_b));
        let is_same = in_a == in_b && !in_a.is_empty() && !in_a.contains("");
        let same_commits = is_same.then(|| in_a.into_iter().collect::<Vec<_>>().join(", "));
        Self { matched, overall, lost, unmatched, invalid, same_commits }
    }

    /// Applies the conditions. A point that fails in B, where A could measure it, meets any condition; and where
    /// nothing can be judged, that is an error: a check that cannot fail would be worse than none.
    pub fn judge(&self, conditions: &[Condition]) -> Judgement {
        let mut met = Vec::new();
        if self.matched.is_empty() {
            let what = "the folders have no point in common: compare results of the same experiment".to_owned();
            return Judgement { met, cannot_judge: Some(what) };
        }
        // Found at a point that is not SUSPECT, or over all points.
        let mut is_sound = !self.lost.is_empty();
        for condition in conditions {
            if let Some(overall) = self.overall_of(condition).filter(|overall| condition.is_met(overall, overall.p)) {
                is_sound = true;
                met.push(format!("{condition} overall: {}{}", change_text(&overall), self.doubt()));
            }
            for matched in &self.matched {
                let change = matched.changes[condition.metric.index()];
                if let Some(change) = change.filter(|change| condition.is_met(&change.ratio, change.p)) {
                    is_sound |= !matched.is_suspect();
                    let (point, change) = (matched.point.id(), change_text(&change.ratio));
                    met.push(format!("{condition} at {point}: {change}{}", matched.doubt()));
                }
            }
        }
        if !conditions.is_empty() {
            met.extend(self.lost.iter().map(|point| format!("no valid measurement in B of {}", point.id())));
        }
        let cannot_judge = if conditions.is_empty() { None } else { self.cannot_judge(conditions, &met, is_sound) };
        Judgement { met, cannot_judge }
    }

    /// Returns the reason for which these conditions cannot be judged, if there is one.
    fn cannot_judge(&self, conditions: &[Condition], met: &[String], is_sound: bool) -> Option<String> {
        if met.is_empty() && self.overall.iter().all(Option::is_none) {
            return Some(format!(
                "no point has {REPEATS_TO_COMPARE} valid repeats on both sides, so no difference can be told from \
                 chance: set `repeats = {REPEATS_TO_COMPARE}` or more in the experiment and measure again"
            ));
        }
        let smallest = |condition: &Condition, overall: &Ratio| {
            let smallest = percent(condition.smallest_change(overall));
            format!(
                "{condition}: the smallest change of {} that could have been told is {smallest}",
                condition.metric.name()
            )
        };
        if self.lost.is_empty() && self.matched.iter().all(Matched::is_suspect) {
            let told =
                conditions.iter().filter_map(|condition| Some(smallest(condition, &self.overall_of(condition)?)));
            let reason = "every point is SUSPECT in A or B: see the reasons with `trine-lab chart`, and measure again"
                .to_owned();
            let lines: Vec<String> = std::iter::once(reason).chain(told).collect();
            return Some(lines.join("; "));
        }
        let undecided = conditions.iter().filter_map(|condition| {
            let overall = self.overall_of(condition).filter(|overall| condition.is_undecided(overall))?;
            let (low, high) = overall.interval;
            let interval = format!("[{} to {}]", percent(low), percent(high));
            Some(format!("{}; the interval is {interval}", smallest(condition, &overall)))
        });
        let lines: Vec<String> = undecided.collect();
        let reason = "the repeats differ too much to meet a condition or to exclude it";
        (!is_sound && !lines.is_empty()).then(|| format!("{reason}: {}", lines.join("; ")))
    }

    fn overall_of(&self, condition: &Condition) -> Option<Ratio> {
        self.overall[condition.metric.index()]
    }

    /// Returns a remark on how many points are SUSPECT, to follow a statement on all; empty if none is.
    fn doubt(&self) -> String {
        match self.matched.iter().filter(|matched| matched.is_suspect()).count() {
            0 => String::new(),
            suspect => format!(" ({suspect} of {} points are SUSPECT)", self.matched.len()),
        }
    }

    /// Returns header and rows: each point with its changes.
    pub fn table(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let dimensions = self.dimensions();
        let mut header = vec!["point".to_owned()];
        header.extend(Metric::ALL.iter().map(|metric| metric.name().to_owned()));
        let has_suspects = self.matched.iter().any(Matched::is_suspect);
        header.extend(has_suspects.then(|| "SUSPECT in".to_owned()));
        let cell = |change: &Option<Change>, metric: Metric| match change {
            None => "too few repeats".to_owned(),
            Some(change) => format!("{} {}", change_text(&change.ratio), verdict(metric, &change.ratio, change.p)),
        };
        let row = |matched: &Matched| {
            let mut row = vec![matched.point.describe(&dimensions)];
            row.extend(matched.changes.iter().zip(Metric::ALL).map(|(change, metric)| cell(change, metric)));
            row.extend(has_suspects.then(|| matched.suspect_in()));
            row
        };
        (header, self.matched.iter().map(row).collect())
    }

    /// Says how B differs over all points, and how to read the verdicts.
    pub fn overall_lines(&self) -> Vec<String> {
        let say = |(metric, overall): (&Metric, &Option<Ratio>)| match overall {
            Some(ratio) => {
                let verdict = verdict(*metric, ratio, ratio.p);
                format!("overall {}: {} {verdict} (geometric mean)", metric.name(), change_text(ratio))
            }
            None => format!("overall {}: too few repeats", metric.name()),
        };
        let mut lines: Vec<String> = Metric::ALL.iter().zip(&self.overall).map(say).collect();
        lines.push(format!(
            "Changes from A to B with 95 % intervals. Verdicts at points allow for there being {} of them (Holm), so an \
             interval may exclude 0 where no difference is shown.",
            self.matched.len()
        ));
        lines
    }

    /// Says how many points are in doubt on each side, and if both sides measured the same commit.
    pub fn caveats(&self) -> Vec<String> {
        let mut caveats = Vec::new();
        let [in_a, in_b] = self.suspects();
        if 0 < in_a + in_b {
            let all = self.matched.len();
            caveats.push(format!("SUSPECT: {in_a} of {all} points in A, {in_b} of {all} in B"));
        }
        if let Some(commits) = &self.same_commits {
            caveats.push(format!("A and B are of the same commit ({commits}): differences are not of the code"));
        }
        caveats
    }

    /// Returns the number of points that are SUSPECT in A, and in B.
    fn suspects(&self) -> [usize; 2] {
        [0, 1].map(|side| self.matched.iter().filter(|matched| matched.suspect[side]).count())
    }

    /// Says what was left out.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if 0 < self.unmatched {
            notes.push(format!("{} points are in one folder only and were left out", self.unmatched));
        }
        if 0 < self.invalid {
            notes.push(format!("{} INVALID runs were left out", self.invalid));
        }
        notes.extend(self.lost.iter().map(|point| format!("no valid measurement in B of {}", point.id())));
        notes
    }

    pub fn json(&self, judgement: &Judgement) -> Value {
        let change = |metric: Metric, ratio: &Ratio, p: f64| {
            let (low, high) = ratio.interval;
            json!({"ratio": ratio.ratio, "low": low, "high": high, "p_adjusted": p, "verdict": verdict(metric, ratio, p)})
        };
        let points = self.matched.iter().map(|matched| {
            let changes = matched.changes.iter().zip(Metric::ALL).map(|(found, metric)| {
                (metric.name().to_owned(), found.map(|found| change(metric, &found.ratio, found.p)).unwrap_or_default())
            });
            let [a, b] = matched.suspect;
            let suspect = json!({"a": a, "b": b});
            json!({"point": matched.point, "suspect": suspect, "changes": changes.collect::<serde_json::Map<_, _>>()})
        });
        let overall = Metric::ALL.iter().zip(&self.overall).map(|(metric, ratio)| {
            (metric.name().to_owned(), ratio.map(|ratio| change(*metric, &ratio, ratio.p)).unwrap_or_default())
        });
        let [a, b] = self.suspects();
        json!({
            "suspect": {"a": a, "b": b},
            "same_commit": self.same_commits,
            "points": points.collect::<Vec<_>>(),
            "overall": overall.collect::<serde_json::Map<_, _>>(),
            "lost": self.lost,
            "met": judgement.met,
            "cannot_judge": judgement.cannot_judge,
        })
    }

    fn dimensions(&self) -> Vec<Dimension> {
        varying(self.matched.iter().map(|matched| &matched.point))
    }
}

impl Matched {
    fn is_suspect(&self) -> bool {
        self.suspect.contains(&true)
    }

    /// Returns the sides on which it is SUSPECT: `A`, `B`, `A, B` or nothing.
    fn suspect_in(&self) -> String {
        let sides =
            ["A", "B"].into_iter().zip(self.suspect).filter_map(|(side, is_suspect)| is_suspect.then_some(side));
        sides.collect::<Vec<_>>().join(", ")
    }

    /// Returns a remark to follow a statement on this point; empty if nothing is in doubt.
    fn doubt(&self) -> String {
        if self.is_suspect() { format!(" (SUSPECT in {})", self.suspect_in()) } else { String::new() }
    }
}

/// Returns true if the runs that are compared leave a point in doubt. INVALID runs are no part of a comparison.
fn is_suspect(summary: &Summary) -> bool {
    let is_valid = |run: &&Run| run.verdict().is_some_and(|verdict| verdict < Verdict::Invalid);
    let runs = summary.runs.iter().filter(is_valid).cloned().collect();
    Summary { point: summary.point.clone(), runs }.verdict() == Some(Verdict::Suspect)
}

/// Returns a metric of all repeats that are valid.
fn values(summary: &Summary, metric: Metric) -> Vec<f64> {
    let valid = summary.runs.iter().filter(|run| run.verdict().is_some_and(|verdict| verdict < Verdict::Invalid));
    valid.filter_map(|run| metric.of(run.figures()?)).collect()
}

fn verdict(metric: Metric, ratio: &Ratio, p: f64) -> &'static str {
    match (p < 1.0 - CONFIDENCE, metric.is_better(ratio.ratio)) {
        (false, _) => "no difference shown",
        (true, true) => "better",
        (true, false) => "worse",
    }
}

fn change_text(ratio: &Ratio) -> String {
    let (low, high) = ratio.interval;
    format!("{} [{} to {}]", percent(ratio.ratio), percent(low), percent(high))
}

#[cfg(test)]
mod tests;
