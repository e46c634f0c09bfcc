//! The distribution of latency over all requests of a point's repeats.

use crate::result::Latency;
use crate::summary::Summary;

/// The number of points of a curve for each nine.
const STEPS_PER_NINE: i32 = 12;

/// Returns percentile and latency in microseconds from 50 % to 99.99 %, of the requests of all repeats together. It never
/// falls, and ends where fewer than one request was slower. A percentile for each repeat and their median would fall where
/// a repeat with fewer requests ends, and would be the percentile of no requests at all.
pub fn curve(summary: &Summary) -> Vec<(f64, f64)> {
    let repeats: Vec<&Latency> = summary.figures().map(|figures| &figures.latency_since_due_us.all).collect();
    let requests: f64 = repeats.iter().map(|latency| latency.count as f64).sum();
    let merged = merge(&repeats, requests);
    let first = (-(0.5f64.log10()) * f64::from(STEPS_PER_NINE)).round() as i32;
    let steps = (first..=4 * STEPS_PER_NINE).map(|step| match step {
        step if step == first => 0.5,
        step => 10f64.powf(-f64::from(step) / f64::from(STEPS_PER_NINE)),
    });
    steps.filter_map(|beyond| Some((100.0 * (1.0 - beyond), at(&merged, requests, beyond)?))).collect()
}

/// Returns every latency that some repeat recorded, rising, each with the share of all requests that surely took no longer.
fn merge(repeats: &[&Latency], requests: f64) -> Vec<(f64, f64)> {
    // Each recorded point of a repeat adds the requests between it and the point before it.
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for latency in repeats {
        let (mut covered, mut slowest) = (0.0, 0.0_f64);
        for &(percentile, us) in &latency.percentiles {
            slowest = slowest.max(us);
            steps.push((slowest, (percentile - covered).max(0.0) / 100.0 * latency.count as f64));
            covered = percentile.max(covered);
        }
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut sum = 0.0;
    steps
        .into_iter()
        .map(|(us, more)| {
            sum += more;
            (us, sum / requests)
        })
        .collect()
}

/// Returns the latency that a share of the requests went beyond; `None` where that is less than one request.
fn at(merged: &[(f64, f64)], requests: f64, beyond: f64) -> Option<f64> {
    if requests * beyond < 1.0 {
        return None;
    }
    // The first that is known to cover it: never too good.
    merged.iter().find(|(_, share)| 1.0 - beyond <= share + 1e-9).map(|(us, _)| *us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{LoadReport, Outcome, Run};
    use crate::sample;
    use crate::summary::summarise;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn run(repeat: u32, count: u64, percentiles: &[(f64, f64)]) -> Run {
        let mut run = sample::measured(sample::point(1, 0.5), repeat, 1000.0, "OK");
        if let Outcome::Measured { load, .. } = &mut run.outcome {
            let mut full = Value::from((**load).clone());
            full["latency_since_due_us"]["all"] =
                json!({"count": count, "p50": 1.0, "p99": 1.0, "p999": 1.0, "percentiles": percentiles});
            **load = LoadReport::try_from(full).unwrap();
        }
        run
    }

    fn curve_of(runs: &[Run]) -> Vec<(f64, f64)> {
        curve(&summarise(runs).remove(0))
    }

    fn value(curve: &[(f64, f64)], percentile: f64) -> Option<f64> {
        curve.iter().find(|(known, _)| (known - percentile).abs() < 1e-6).map(|(_, us)| *us)
    }

    /// A percentile is never flattered, and one that no request stands for is not shown.
    #[test]
    fn percentiles_are_covered_or_left_out() {
        let curve = curve_of(&[run(1, 1000, &[(50.0, 10.0), (90.0, 20.0), (99.0, 40.0), (100.0, 90.0)])]);
        for (percentile, expected) in
            [(50.0, Some(10.0)), (90.0, Some(20.0)), (99.0, Some(40.0)), (99.9, Some(90.0)), (99.99, None)]
        {
            assert_eq!(value(&curve, percentile), expected, "{percentile}");
        }
        assert_eq!(curve[1].1, 20.0, "between two that are known, the upper one");
    }

    /// Percentiles are those of all requests: a slow repeat of a hundredth of them is the slowest hundredth, and where it
    /// has no request any more the line goes on upwards, though a median of the repeats would fall.
    #[test]
    fn repeats_are_merged_by_their_requests() {
        let fast = [(0.0, 10.0), (50.0, 10.0), (99.99, 10.0), (100.0, 20.0)];
        let slow = [(0.0, 5000.0), (50.0, 5000.0), (100.0, 6000.0)];
        let curve = curve_of(&[run(1, 49_500, &fast), run(2, 49_500, &fast), run(3, 1000, &slow)]);
        assert_eq!(value(&curve, 90.0), Some(10.0));
        assert_eq!(value(&curve, 99.9), Some(6000.0));
        assert!(curve.is_sorted_by(|a, b| a.1 <= b.1), "{curve:?}");
    }

    proptest! {
        /// No curve falls, whatever repeats come together.
        #[test]
        fn no_curve_falls(
            repeats in prop::collection::vec((1..100_000_u64, prop::collection::vec(1.0..1e6f64, 1..20)), 1..6),
        ) {
            let runs: Vec<Run> = (1..).zip(&repeats).map(|(repeat, (count, latencies))| {
                let mut latencies = latencies.clone();
                latencies.sort_by(f64::total_cmp);
                let last = latencies.len();
                let percentile = |index: usize| 100.0 * (1.0 - 0.5_f64.powi(index as i32 + 1));
                let percentiles: Vec<_> = latencies.iter().enumerate()
                    .map(|(index, us)| (if index + 1 == last { 100.0 } else { percentile(index) }, *us)).collect();
                run(repeat, *count, &percentiles)
            }).collect();
            let curve = curve_of(&runs);
            prop_assert!(curve.is_sorted_by(|a, b| a.1 <= b.1), "{curve:?}");
            let slowest = repeats.iter().flat_map(|(_, latencies)| latencies).copied().fold(0.0, f64::max);
            prop_assert!(curve.iter().all(|(_, us)| *us <= slowest));
        }
    }
}
