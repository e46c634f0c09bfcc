//! The distribution of latency over the repeats of a point.

use crate::result::Latency;
use crate::statistics::median;
use crate::summary::Summary;

/// How many points a curve has for each nine.
const STEPS_PER_NINE: i32 = 12;

/// Returns percentile and latency in microseconds from 50 % to 99.99 %: at each percentile the median of the repeats
/// that had requests beyond it.
pub fn curve(summary: &Summary) -> Vec<(f64, f64)> {
    let latencies: Vec<&Latency> = summary.figures().map(|figures| &figures.latency_since_due_us.all).collect();
    let mut curve = Vec::new();
    let first = (-(0.5f64.log10()) * f64::from(STEPS_PER_NINE)).round() as i32;
    for step in first..=4 * STEPS_PER_NINE {
        let beyond = if step == first { 0.5 } else { 10f64.powf(-f64::from(step) / f64::from(STEPS_PER_NINE)) };
        let values: Vec<f64> = latencies.iter().filter_map(|latency| at(latency, beyond)).collect();
        if let Some(us) = median(&values) {
            curve.push((100.0 * (1.0 - beyond), us));
        }
    }
    curve
}

/// Returns the latency that a share of the requests went beyond; `None` where that is less than one request.
fn at(latency: &Latency, beyond: f64) -> Option<f64> {
    if latency.count as f64 * beyond < 1.0 {
        return None;
    }
    let percentile = 100.0 * (1.0 - beyond);
    // The first that is known to cover it: never too good.
    latency.percentiles.iter().find(|(known, _)| percentile <= known + 1e-9).map(|(_, us)| *us)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A percentile is never flattered, and one that no request stands for is not shown.
    #[test]
    fn percentiles_are_covered_or_left_out() {
        let percentiles = vec![(50.0, 10.0), (90.0, 20.0), (99.0, 40.0), (100.0, 90.0)];
        let latency = Latency { count: 1000, mean: 12.0, p50: 10.0, p99: 40.0, p999: 90.0, percentiles };
        for (beyond, expected) in
            [(0.5, Some(10.0)), (0.4, Some(20.0)), (0.01, Some(40.0)), (0.001, Some(90.0)), (0.0005, None)]
        {
            assert_eq!(at(&latency, beyond), expected, "{beyond}");
        }
    }
}
