//! Statistics of a few repeats: means with intervals, steadiness of a run, and significance of a difference.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// The confidence of every interval here.
pub const CONFIDENCE: f64 = 0.95;

/// A mean, and where the true mean lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub mean: f64,
    /// Lower and upper end; `None` when there was one value, which says nothing about how far values spread.
    pub interval: Option<(f64, f64)>,
}

/// Estimates a mean by Student's t. Returns `None` for no values.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let moments = Moments::of(values)?;
    let interval = (1 < values.len()).then(|| {
        let half = t_quantile(moments.count - 1.0) * moments.error_of_mean();
        (moments.mean - half, moments.mean + half)
    });
    Some(Estimate { mean: moments.mean, interval })
}

/// Returns the middle value, or the mean of the two middle ones; `None` for no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => None,
        (count, middle) if count % 2 == 1 => Some(sorted[middle]),
        (_, middle) => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The number of values, their mean and their variance (over n - 1).
struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        Some(Self { count, mean, variance: squares / (count - 1.0).max(1.0) })
    }

    fn error_of_mean(&self) -> f64 {
        (self.variance / self.count).sqrt()
    }
}

/// Returns how many standard errors a two-sided 95 % interval reaches to each side.
fn t_quantile(freedom: f64) -> f64 {
    students_t(freedom).inverse_cdf(0.5 + CONFIDENCE / 2.0)
}

/// Returns how likely a t at least this far from 0, on either side, is by chance.
fn two_sided_p(t: f64, freedom: f64) -> f64 {
    (2.0 * students_t(freedom).sf(t.abs())).min(1.0)
}

fn students_t(freedom: f64) -> StudentsT {
    // The Welch-Satterthwaite formula never falls below 1 for two values or more; rounding may.
    StudentsT::new(0.0, 1.0, freedom.max(1.0)).expect("the degrees of freedom are a positive number")
}

/// The steadiness of throughput during a measurement.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Steadiness {
    Steady,
    /// Fewer than [`SECONDS_TO_JUDGE`] whole seconds were measured.
    TooShortToJudge,
    /// From its first second to its last, throughput changed by this share of its mean, and not by chance.
    Drifted(f64),
    /// The seconds differ by this coefficient of variation.
    Unsteady(f64),
}

impl Steadiness {
    pub fn is_steady(self) -> bool {
        !matches!(self, Self::Drifted(_) | Self::Unsteady(_))
    }

    /// Returns what a reader should know, if anything.
    pub fn reason(self) -> Option<String> {
        match self {
            Self::Steady | Self::TooShortToJudge => None,
            Self::Drifted(share) => {
                Some(format!("throughput drifted by {:+.0} % while it was measured", share * 100.0))
            }
            Self::Unsteady(share) => Some(format!("throughput varied by {:.0} % from second to second", share * 100.0)),
        }
    }
}

/// A line through three points has one degree of freedom left and proves nothing.
const SECONDS_TO_JUDGE: usize = 4;
/// A smaller drift is there but changes no conclusion.
const DRIFT_MAX: f64 = 0.05;
/// Seconds that differ by more than this have no common throughput. Virtual machines with neighbours reach 5 %.
const VARIATION_MAX: f64 = 0.15;

/// Judges whether the operations of successive seconds come from a steady state: the least-squares line through them
/// must be flat (drift below 5 % of the mean, or not significant), and what is left around it small (below 15 %).
pub fn steadiness(operations_per_second: &[f64]) -> Steadiness {
    let seconds = operations_per_second.len();
    let Some(moments) = Moments::of(operations_per_second).filter(|_| SECONDS_TO_JUDGE <= seconds) else {
        return Steadiness::TooShortToJudge;
    };
    if moments.mean <= 0.0 {
        return Steadiness::Unsteady(1.0);
    }
    let middle = (seconds as f64 - 1.0) / 2.0;
    let offsets = (0..seconds).map(|second| second as f64 - middle);
    let spread: f64 = offsets.clone().map(|offset| offset * offset).sum();
    let slope = offsets.clone().zip(operations_per_second).map(|(offset, rate)| offset * rate).sum::<f64>() / spread;
    let rest: f64 = offsets
        .zip(operations_per_second)
        .map(|(offset, rate)| (rate - moments.mean - slope * offset).powi(2))
        .sum::<f64>();
    let freedom = seconds as f64 - 2.0;
    let variance = rest / freedom;
    let drift = slope * (seconds as f64 - 1.0) / moments.mean;
    let p = if variance == 0.0 { 0.0 } else { two_sided_p(slope / (variance / spread).sqrt(), freedom) };
    if DRIFT_MAX < drift.abs() && p < 1.0 - CONFIDENCE {
        return Steadiness::Drifted(drift);
    }
    match variance.sqrt() / moments.mean {
        variation if VARIATION_MAX < variation => Steadiness::Unsteady(variation),
        _ => Steadiness::Steady,
    }
}

/// The fewest repeats on each side from which a difference is judged. With two, Welch's test has as little as one
/// degree of freedom, and its interval spans a factor of a hundred.
pub const REPEATS_TO_COMPARE: usize = 3;

/// The ratio of B to A, of geometric means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub ratio: f64,
    pub interval: (f64, f64),
    /// The probability of so large a difference by chance, were there none.
    pub p: f64,
    /// The standard error of the ratio's logarithm, and its degrees of freedom.
    error: f64,
    freedom: f64,
}

impl Ratio {
    fn new(difference: f64, error: f64, freedom: f64) -> Self {
        let half = t_quantile(freedom) * error;
        let p = match (error == 0.0, difference == 0.0) {
            (true, true) => 1.0,
            (true, false) => 0.0,
            (false, _) => two_sided_p(difference / error, freedom),
        };
        let interval = ((difference - half).exp(), (difference + half).exp());
        Self { ratio: difference.exp(), interval, p, error, freedom }
    }
}

/// Compares two sets of repeats by Welch's t-test on logarithms: effects on throughput and latency are factors, and a
/// faster side also spreads wider. Returns `None` with fewer than [`REPEATS_TO_COMPARE`] positive values on a side.
pub fn compare(a: &[f64], b: &[f64]) -> Option<Ratio> {
    let logs = |values: &[f64]| values.iter().filter(|value| 0.0 < **value).map(|value| value.ln()).collect::<Vec<_>>();
    let (a, b) = (logs(a), logs(b));
    if a.len() < REPEATS_TO_COMPARE || b.len() < REPEATS_TO_COMPARE {
        return None;
    }
    let (a, b) = (Moments::of(&a)?, Moments::of(&b)?);
    let (in_a, in_b) = (a.variance / a.count, b.variance / b.count);
    let freedom = match in_a.powi(2) / (a.count - 1.0) + in_b.powi(2) / (b.count - 1.0) {
        0.0 => a.count + b.count - 2.0,
        weight => (in_a + in_b).powi(2) / weight,
    };
    Some(Ratio::new(b.mean - a.mean, (in_a + in_b).sqrt(), freedom))
}

/// Returns the geometric mean of ratios, with the interval that follows from theirs (errors add up as independent
/// ones; degrees of freedom by Welch and Satterthwaite). It speaks of these points, not of points nobody measured.
pub fn geometric_mean(ratios: &[Ratio]) -> Option<Ratio> {
    if ratios.is_empty() {
        return None;
    }
    let count = ratios.len() as f64;
    let difference = ratios.iter().map(|ratio| ratio.ratio.ln()).sum::<f64>() / count;
    let variance: f64 = ratios.iter().map(|ratio| ratio.error.powi(2)).sum();
    let freedom = match ratios.iter().map(|ratio| ratio.error.powi(4) / ratio.freedom).sum::<f64>() {
        0.0 => ratios.iter().map(|ratio| ratio.freedom).sum(),
        weight => variance.powi(2) / weight,
    };
    Some(Ratio::new(difference, variance.sqrt() / count, freedom))
}

/// Adjusts p-values for having asked many questions at once (Holm, 1979), in the order given. Without it, one in
/// twenty points of two equal builds would differ.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut so_far: f64 = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        so_far = so_far.max(p_values[index] * (p_values.len() - rank) as f64).min(1.0);
        adjusted[index] = so_far;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() <= 1e-3 * right.abs().max(1.0)
    }

    /// The interval of a mean is the textbook's: for 1, 2, 3, 4, 5 it is 3 ± 2.776 × 0.7071.
    #[test]
    fn means_have_the_intervals_of_the_textbook() {
        let estimate = estimate(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let (low, high) = estimate.interval.unwrap();
        assert!(close(estimate.mean, 3.0) && close(low, 1.0368) && close(high, 4.9632), "{estimate:?}");
        assert_eq!(super::estimate(&[7.0]), Some(Estimate { mean: 7.0, interval: None }));
        assert_eq!(super::estimate(&[]), None);
    }

    /// Quantiles and tails of Student's t agree with the printed tables.
    #[test]
    fn students_t_agrees_with_the_tables() {
        for (freedom, quantile) in [(1.0, 12.706), (2.0, 4.3027), (4.0, 2.7764), (10.0, 2.2281), (1000.0, 1.9623)] {
            assert!(close(t_quantile(freedom), quantile), "{freedom}: {}", t_quantile(freedom));
            assert!(close(two_sided_p(quantile, freedom), 0.05), "{freedom}: {}", two_sided_p(quantile, freedom));
        }
    }

    /// Welch's test, against an example computed by hand: logs 0, 0.1, 0.2 and 0.3, 0.5, 0.7 differ by 0.4, with a
    /// standard error of √(0.01/3 + 0.04/3) and 2.94 degrees of freedom.
    #[test]
    fn a_ratio_is_welchs() {
        let a: Vec<f64> = [0.0, 0.1, 0.2].iter().map(|log: &f64| log.exp()).collect();
        let b: Vec<f64> = [0.3, 0.5, 0.7].iter().map(|log: &f64| log.exp()).collect();
        let ratio = compare(&a, &b).unwrap();
        assert!(
            close(ratio.ratio.ln(), 0.4) && close(ratio.error, 0.12910) && close(ratio.freedom, 2.9412),
            "{ratio:?}"
        );
        assert!(0.05 < ratio.p && ratio.p < 0.06, "{ratio:?}");
        assert!(ratio.interval.0 < 1.0 && 1.0 < ratio.interval.1, "{ratio:?}");
    }

    /// Two repeats on either side are too few to call a difference one.
    #[test]
    fn two_repeats_are_no_comparison() {
        assert_eq!(compare(&[1.0, 2.0], &[1.0, 2.0, 3.0]), None);
        assert_eq!(compare(&[1.0, 2.0, 3.0], &[0.0, 2.0, 3.0]), None);
    }

    /// Holm's example: the smallest of four is multiplied by four, the next by three, and none overtakes another.
    #[test]
    fn many_questions_need_smaller_p_values() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (left, right) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!(close(*left, right), "{adjusted:?}");
        }
    }

    /// Flat throughput is steady, climbing or jumping throughput is not, and a second or three prove nothing.
    #[test]
    fn steadiness_sees_drift_and_noise() {
        assert_eq!(steadiness(&[100.0, 50.0, 100.0]), Steadiness::TooShortToJudge);
        assert_eq!(steadiness(&[100.0; 5]), Steadiness::Steady);
        assert_eq!(steadiness(&[100.0, 103.0, 98.0, 101.0, 99.0]), Steadiness::Steady);
        assert_eq!(steadiness(&[100.0, 101.0, 102.0, 103.0]), Steadiness::Steady, "a drift of 3 % changes nothing");
        assert!(matches!(steadiness(&[60.0, 71.0, 80.0, 91.0, 100.0]), Steadiness::Drifted(drift) if 0.4 < drift));
        assert!(matches!(steadiness(&[100.0, 89.0, 80.0, 70.0]), Steadiness::Drifted(drift) if drift < -0.3));
        assert!(matches!(steadiness(&[100.0, 40.0, 120.0, 30.0, 100.0]), Steadiness::Unsteady(_)));
        assert!(!steadiness(&[0.0; 6]).is_steady());
    }

    #[test]
    fn the_median_is_the_middle() {
        for (values, expected) in [(vec![], None), (vec![3.0, 1.0, 2.0], Some(2.0)), (vec![4.0, 1.0], Some(2.5))] {
            assert_eq!(median(&values), expected);
        }
    }

    proptest! {
        /// A against B says the opposite of B against A, and scaling both sides says the same.
        #[test]
        fn comparisons_are_symmetric(
            a in prop::collection::vec(1.0..1e6f64, 3..8), b in prop::collection::vec(1.0..1e6f64, 3..8),
            scale in 0.001..1000.0f64,
        ) {
            let (forth, back) = (compare(&a, &b).unwrap(), compare(&b, &a).unwrap());
            prop_assert!(close(forth.ratio.ln(), -back.ratio.ln()) && close(forth.p, back.p));
            let scaled: Vec<f64> = a.iter().map(|value| value * scale).collect();
            let same = compare(&scaled, &b.iter().map(|value| value * scale).collect::<Vec<_>>()).unwrap();
            prop_assert!(close(forth.ratio.ln(), same.ratio.ln()) && close(forth.error, same.error));
            prop_assert!(forth.interval.0 <= forth.ratio && forth.ratio <= forth.interval.1);
        }

        /// The p-value is below 5 % exactly when the interval excludes "no difference".
        #[test]
        fn p_values_and_intervals_agree(
            a in prop::collection::vec(1.0..2.0f64, 3..6), b in prop::collection::vec(1.0..2.0f64, 3..6),
        ) {
            let ratio = compare(&a, &b).unwrap();
            prop_assume!(1e-6 < (ratio.p - 0.05).abs());
            prop_assert_eq!(ratio.p < 0.05, 1.0 < ratio.interval.0 || ratio.interval.1 < 1.0);
        }

        /// The geometric mean of several comparisons is at least as sure as the least sure of them.
        #[test]
        fn more_points_make_the_mean_surer(ratios in prop::collection::vec((0.5..2.0f64, 0.01..0.5f64), 1..20)) {
            let ratios: Vec<Ratio> = ratios.iter().map(|&(ratio, error)| Ratio::new(ratio.ln(), error, 4.0)).collect();
            let mean = geometric_mean(&ratios).unwrap();
            let worst = ratios.iter().map(|ratio| ratio.error).fold(0.0, f64::max);
            prop_assert!(mean.error <= worst * 1.000_001);
            prop_assert!(mean.interval.0 <= mean.ratio && mean.ratio <= mean.interval.1);
        }
    }
}
