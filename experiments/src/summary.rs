//! Summaries of the repeats of each point.

use std::cmp::Ordering;

use crate::point::{Dimension, Point};
use crate::reasons;
use crate::result::{Figures, Run, Verdict};
use crate::statistics::{Estimate, compare, estimate, median};

/// A mean whose 95 % interval is wider than this share of it does not tell one point from another.
const INTERVAL_MAX: f64 = 0.5;

/// One point over all its repeats.
#[derive(Clone, Debug)]
pub struct Summary {
    pub point: Point,
    pub runs: Vec<Run>,
}

/// A latency that charts show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Percentile {
    P50,
    P99,
    P999,
}

impl Percentile {
    pub const ALL: [Self; 3] = [Self::P50, Self::P99, Self::P999];

    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
        }
    }

    /// Returns this latency since requests were due, in microseconds; `None` where no request was answered.
    pub fn of(self, figures: &Figures) -> Option<f64> {
        let latency = &figures.latency_since_due_us.all;
        match self {
            Self::P50 => latency.p50,
            Self::P99 => latency.p99,
            Self::P999 => latency.p999,
        }
    }
}

/// Groups runs by point, in an order that a reader expects: by every dimension in turn, concurrency last.
pub fn summarise(runs: &[Run]) -> Vec<Summary> {
    let mut summaries: Vec<Summary> = Vec::new();
    for run in runs {
        match summaries.iter_mut().find(|summary| summary.point == run.point) {
            Some(summary) => summary.runs.push(run.clone()),
            None => summaries.push(Summary { point: run.point.clone(), runs: vec![run.clone()] }),
        }
    }
    for summary in &mut summaries {
        summary.runs.sort_by_key(|run| run.repeat);
    }
    summaries.sort_by(|a, b| {
        let orders = Dimension::ALL.into_iter().map(|dimension| order(&a.point, &b.point, dimension));
        orders.fold(Ordering::Equal, Ordering::then)
    });
    summaries
}

/// Compares two points in one dimension: numbers by size, and all before text.
pub fn order(a: &Point, b: &Point, dimension: Dimension) -> Ordering {
    match (a.number(dimension), b.number(dimension)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.value(dimension).cmp(&b.value(dimension)),
    }
}

impl Summary {
    /// Returns the figures of all repeats that were measured.
    pub fn figures(&self) -> impl Iterator<Item = &Figures> {
        self.runs.iter().filter_map(Run::figures)
    }

    /// Returns mean and interval of the operations per second; `None` where every repeat failed.
    pub fn throughput(&self) -> Option<Estimate> {
        estimate(&self.figures().map(|figures| figures.ops_per_s).collect::<Vec<_>>())
    }

    /// Returns the median over the repeats of a latency in microseconds. One slow repeat in five does not move it.
    pub fn latency_us(&self, percentile: Percentile) -> Option<f64> {
        median(&self.figures().filter_map(|figures| percentile.of(figures)).collect::<Vec<_>>())
    }

    /// Returns the worst verdict of all repeats, made worse where these agree so little that their mean says nothing;
    /// `None` where every repeat failed.
    pub fn verdict(&self) -> Option<Verdict> {
        let worst = self.runs.iter().filter_map(Run::verdict).max()?;
        Some(if self.spread().is_some() { worst.max(Verdict::Suspect) } else { worst })
    }

    /// Returns why the mean of the throughput is in doubt, where it is.
    fn spread(&self) -> Option<String> {
        let throughput = self.throughput()?;
        let (low, high) = throughput.interval?;
        let width = (high - low) / throughput.mean;
        (INTERVAL_MAX < width).then(|| {
            format!("the repeats differ: the 95 % interval of throughput is {:.0} % of its mean wide", width * 100.0)
        })
    }

    /// Returns whether its throughput is above another's by more than chance, at 95 %. It takes three repeats of each.
    pub fn is_above(&self, other: &Self) -> bool {
        let rates = |summary: &Self| summary.figures().map(|figures| figures.ops_per_s).collect::<Vec<_>>();
        compare(&rates(other), &rates(self)).is_some_and(|ratio| 1.0 < ratio.interval.0)
    }

    /// Returns whether every repeat was measured, and nothing speaks against what they say.
    pub fn is_beyond_doubt(&self) -> bool {
        self.verdict() == Some(Verdict::Ok) && self.failures() == 0
    }

    pub fn failures(&self) -> usize {
        self.runs.iter().filter(|run| run.figures().is_none()).count()
    }

    /// Returns every doubt and failure, each once, with the number of runs that it befell.
    pub fn reasons(&self) -> Vec<String> {
        let runs: Vec<Vec<String>> = self.runs.iter().map(Run::reasons).collect();
        reasons::merge(&runs).into_iter().chain(self.spread()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;

    fn sized(size: &str) -> Point {
        let value_size = serde_json::from_value(size.into()).unwrap();
        Point { value_size, ..sample::point(1, 0.5) }
    }

    /// Repeats of a point come together in order, whatever the order they were measured in; a failure is one of them.
    #[test]
    fn repeats_come_together() {
        let mut runs = sample::sweep(3, 1.0);
        runs.reverse();
        runs[0] = sample::failed(runs[0].point.clone(), runs[0].repeat);
        let summaries = summarise(&runs);
        assert_eq!(summaries.len(), 10);
        for summary in &summaries {
            assert_eq!(summary.runs.iter().map(|run| run.repeat).collect::<Vec<_>>(), [1, 2, 3]);
        }
        assert_eq!(summaries.iter().map(Summary::failures).sum::<usize>(), 1);
        let order: Vec<(f64, u32)> =
            summaries.iter().map(|summary| (summary.point.read_share, summary.point.concurrency)).collect();
        assert!(order.is_sorted(), "{order:?}");
    }

    /// The verdict of a point is its worst, and each reason is said once.
    #[test]
    fn doubts_add_up() {
        let run = |repeat, verdict: &str| sample::measured(sample::point(1, 0.0), repeat, 1000.0, verdict);
        let summary = |verdicts: [&str; 3]| {
            let runs = [run(1, verdicts[0]), run(2, verdicts[1]), run(3, verdicts[2])];
            summarise(&runs).remove(0)
        };
        assert_eq!(summary(["OK", "OK", "OK"]).verdict(), Some(Verdict::Ok));
        let doubtful = summary(["SUSPECT", "OK", "SUSPECT"]);
        assert_eq!(doubtful.verdict(), Some(Verdict::Suspect));
        assert_eq!(doubtful.reasons(), ["the load generator was busy (2 of 3 runs)"]);
        assert_eq!(summary(["SUSPECT", "INVALID", "OK"]).verdict(), Some(Verdict::Invalid));
    }

    /// Repeats that agree so little that the interval is wider than half of the mean are in doubt, however sure each is.
    #[test]
    fn repeats_that_disagree_are_in_doubt() {
        for (rates, expected) in [
            ([9_000.0, 9_300.0, 9_500.0], Verdict::Ok),
            ([1_000.0, 9_000.0, 17_834.0], Verdict::Suspect),
            ([9_278.0; 3], Verdict::Ok),
        ] {
            let runs =
                (1..).zip(rates).map(|(repeat, rate)| sample::measured(sample::point(1, 0.0), repeat, rate, "OK"));
            let summary = summarise(&runs.collect::<Vec<_>>()).remove(0);
            assert_eq!(summary.verdict(), Some(expected), "{rates:?}");
            assert_eq!(
                summary.reasons().iter().any(|reason| reason.contains("repeats differ")),
                expected != Verdict::Ok
            );
        }
    }

    proptest! {
        /// The order of points is a total one, also where numbers and text meet.
        #[test]
        fn points_have_one_order(sizes in prop::collection::vec("[0-9]{1,3}|[0-9]{1,2}x|[a-z]", 3)) {
            let points: Vec<Point> = sizes.iter().map(|size| sized(size)).collect();
            let before = |a: usize, b: usize| order(&points[a], &points[b], Dimension::ValueSize) != Ordering::Greater;
            if before(0, 1) && before(1, 2) {
                prop_assert!(before(0, 2), "{sizes:?}");
            }
            prop_assert!(before(0, 1) || before(1, 0));
        }
    }
}
