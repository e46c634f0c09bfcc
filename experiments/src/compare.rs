//! Compares two folders of results: by how much they differ, and whether by more than chance.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::point::{Dimension, Point, varying};
use crate::result::{Figures, Results, Verdict};
use crate::statistics::{CONFIDENCE, REPEATS_TO_COMPARE, Ratio, compare, geometric_mean, holm};
use crate::summary::{Percentile, Summary, summarise};

/// A compared quantity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Metric {
    Throughput,
    Latency(Percentile),
}

impl Metric {
    const ALL: [Self; 4] = [
        Self::Throughput,
        Self::Latency(Percentile::P50),
        Self::Latency(Percentile::P99),
        Self::Latency(Percentile::P999),
    ];

    fn of(self, figures: &Figures) -> Option<f64> {
        match self {
            Self::Throughput => Some(figures.ops_per_s),
            Self::Latency(percentile) => percentile.of(figures),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency(percentile) => percentile.name(),
        }
    }

    fn is_better(self, ratio: f64) -> bool {
        match self {
            Self::Throughput => 1.0 < ratio,
            Self::Latency(_) => ratio < 1.0,
        }
    }
}

/// A change that is not to happen, such as `throughput<-5%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    metric: Metric,
    below: bool,
    /// The change that it begins at, as a ratio of B to A.
    ratio: f64,
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no condition; write for example 'throughput<-5%' or 'p99>10%' (also p50 and p999)");
        let (name, below, change) = match (text.split_once('<'), text.split_once('>')) {
            (Some((name, change)), None) => (name, true, change),
            (None, Some((name, change))) => (name, false, change),
            _ => return Err(wrong()),
        };
        let metric = match name.trim() {
            "throughput" => Metric::Throughput,
            "p50" => Metric::Latency(Percentile::P50),
            "p99" => Metric::Latency(Percentile::P99),
            "p999" | "p99.9" => Metric::Latency(Percentile::P999),
            _ => return Err(wrong()),
        };
        let percent: f64 = change.trim().strip_suffix('%').ok_or_else(wrong)?.trim().parse().map_err(|_| wrong())?;
        // A ratio of 0 or less cannot be reached, so the condition could never be met.
        if !percent.is_finite() || percent <= -100.0 {
            return Err(wrong());
        }
        Ok(Self { metric, below, ratio: 1.0 + percent / 100.0 })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.below { '<' } else { '>' };
        write!(formatter, "{}{sign}{}", self.metric.name(), percent(self.ratio))
    }
}

impl Condition {
    /// Returns whether a change is beyond the condition's, and more than chance.
    fn is_met(&self, ratio: &Ratio, p: f64) -> bool {
        let beyond = if self.below { ratio.ratio < self.ratio } else { self.ratio < ratio.ratio };
        beyond && p < 1.0 - CONFIDENCE
    }
}

/// One point that both folders have.
struct Matched {
    point: Point,
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
        let mut matched: Vec<Matched> =
            pairs.iter().map(|(a, _)| Matched { point: a.point.clone(), changes: Vec::new() }).collect();
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
        Self { matched, overall, lost, unmatched, invalid }
    }

    /// Applies the conditions. A point that fails in B, where A could measure it, meets any condition; and where
    /// nothing can be judged, that is an error: a check that cannot fail would be worse than none.
    pub fn judge(&self, conditions: &[Condition]) -> Judgement {
        let mut met = Vec::new();
        if self.matched.is_empty() {
            let what = "the folders have no point in common: compare results of the same experiment".to_owned();
            return Judgement { met, cannot_judge: Some(what) };
        }
        for condition in conditions {
            let index = Metric::ALL.iter().position(|metric| *metric == condition.metric).unwrap_or(0);
            if let Some(overall) = self.overall[index].filter(|overall| condition.is_met(overall, overall.p)) {
                met.push(format!("{condition} overall: {}", change_text(&overall)));
            }
            for matched in &self.matched {
                if let Some(change) = matched.changes[index].filter(|change| condition.is_met(&change.ratio, change.p))
                {
                    met.push(format!("{condition} at {}: {}", matched.point.id(), change_text(&change.ratio)));
                }
            }
        }
        if !conditions.is_empty() {
            met.extend(self.lost.iter().map(|point| format!("no valid measurement in B of {}", point.id())));
        }
        let judged = self.overall.iter().any(Option::is_some);
        let cannot_judge = (!conditions.is_empty() && met.is_empty() && !judged).then(|| {
            format!(
                "no point has {REPEATS_TO_COMPARE} valid repeats on both sides, so no difference can be told from \
                 chance: set `repeats = {REPEATS_TO_COMPARE}` or more in the experiment and measure again"
            )
        });
        Judgement { met, cannot_judge }
    }

    /// Returns header and rows: each point with its changes.
    pub fn table(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let dimensions = self.dimensions();
        let mut header = vec!["point".to_owned()];
        header.extend(Metric::ALL.iter().map(|metric| metric.name().to_owned()));
        let cell = |change: &Option<Change>, metric: Metric| match change {
            None => "too few repeats".to_owned(),
            Some(change) => format!("{} {}", change_text(&change.ratio), verdict(metric, &change.ratio, change.p)),
        };
        let row = |matched: &Matched| {
            let mut row = vec![matched.point.describe(&dimensions)];
            row.extend(matched.changes.iter().zip(Metric::ALL).map(|(change, metric)| cell(change, metric)));
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
            json!({"point": matched.point, "changes": changes.collect::<serde_json::Map<_, _>>()})
        });
        let overall = Metric::ALL.iter().zip(&self.overall).map(|(metric, ratio)| {
            (metric.name().to_owned(), ratio.map(|ratio| change(*metric, &ratio, ratio.p)).unwrap_or_default())
        });
        json!({
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

fn percent(ratio: f64) -> String {
    format!("{:+.1}%", (ratio - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Run;
    use crate::sample;

    fn results(runs: Vec<Run>) -> Results {
        Results { runs }
    }

    fn conditions(texts: &[&str]) -> Vec<Condition> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn conditions_are_read() {
        for (text, metric, below, ratio) in [
            ("throughput<-5%", Metric::Throughput, true, 0.95),
            (" p99 > 10 % ", Metric::Latency(Percentile::P99), false, 1.1),
            ("p999>+2.5%", Metric::Latency(Percentile::P999), false, 1.025),
            ("p50<0%", Metric::Latency(Percentile::P50), true, 1.0),
        ] {
            let condition: Condition = text.parse().unwrap();
            assert_eq!((condition.metric, condition.below), (metric, below), "{text}");
            assert!((condition.ratio - ratio).abs() < 1e-12, "{text}");
            assert_eq!(condition.to_string().parse::<Condition>().unwrap().ratio, condition.ratio, "{text}");
        }
        for text in ["throughput<-5", "speed<-5%", "throughput", "p99>x%", "p99<1%>2%", "p99<-100%", "p99>nan%", ""] {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
    }

    /// A tenth less is found, overall and at each point, and meets only the conditions it should.
    #[test]
    fn a_regression_is_found() {
        let (a, b) = (results(sample::sweep(5, 1.0)), results(sample::sweep(5, 0.9)));
        let comparison = Comparison::new(&a, &b);
        let judge = |text| comparison.judge(&conditions(&[text])).met.len();
        assert_eq!(judge("throughput<-5%"), 1 + 10, "overall and ten points");
        assert_eq!(judge("p99>5%"), 1 + 10);
        for unmet in ["throughput<-15%", "throughput>0%", "p99>15%", "p50<-1%"] {
            assert_eq!(judge(unmet), 0, "{unmet}");
        }
        let overall = comparison.overall[0].unwrap();
        assert!((overall.ratio - 0.9).abs() < 0.001, "{overall:?}");
        assert!(comparison.table().1[0][1].contains("worse"), "{:?}", comparison.table());
    }

    /// The same again is no difference, whatever the condition asks.
    #[test]
    fn equal_results_meet_no_condition() {
        let a = results(sample::sweep(5, 1.0));
        let comparison = Comparison::new(&a, &a);
        let judgement = comparison.judge(&conditions(&["throughput<0%", "throughput<5%", "p99>0%", "p999>-1%"]));
        assert!(judgement.met.is_empty() && judgement.cannot_judge.is_none(), "{:?}", judgement.met);
        assert!(comparison.table().1.iter().all(|row| row[1].contains("no difference shown")));
    }

    /// With two repeats nothing can be said, and a condition on nothing is an error rather than a pass.
    #[test]
    fn too_few_repeats_cannot_be_judged() {
        let (a, b) = (results(sample::sweep(2, 1.0)), results(sample::sweep(5, 0.5)));
        let comparison = Comparison::new(&a, &b);
        assert!(comparison.judge(&conditions(&["throughput<-5%"])).cannot_judge.is_some());
        assert!(comparison.judge(&[]).cannot_judge.is_none(), "without a condition there is nothing to judge");
        assert!(comparison.table().1[0][1].contains("too few repeats"));
        let other = results(vec![sample::run(sample::point(999, 0.0), 1, 1.0)]);
        assert!(Comparison::new(&a, &other).judge(&[]).cannot_judge.is_some(), "no point in common");
    }

    /// A point that can no longer be measured, or not validly, does not slip through.
    #[test]
    fn lost_points_meet_every_condition() {
        let a = results(sample::sweep(3, 1.0));
        let mut b = a.clone();
        let point = sample::point(64, 0.0);
        for run in b.runs.iter_mut().filter(|run| run.point == point) {
            *run = sample::failed(point.clone(), run.repeat);
        }
        let met = Comparison::new(&a, &b).judge(&conditions(&["throughput<-5%"])).met;
        assert!(met.len() == 1 && met[0].contains("concurrency=64"), "{met:?}");
        for run in b.runs.iter_mut().filter(|run| run.point == point) {
            *run = sample::measured(point.clone(), run.repeat, 1.0, "INVALID");
        }
        let comparison = Comparison::new(&a, &b);
        assert_eq!((comparison.lost.len(), comparison.invalid), (1, 3));
    }
}
