//! Conditions of a comparison: a metric, and the change of it that is not to happen.

use std::fmt;
use std::str::FromStr;

use crate::result::Figures;
use crate::statistics::{CONFIDENCE, Ratio};
use crate::summary::Percentile;

/// A compared quantity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Metric {
    Throughput,
    Latency(Percentile),
}

impl Metric {
    pub(super) const ALL: [Self; 4] = [
        Self::Throughput,
        Self::Latency(Percentile::P50),
        Self::Latency(Percentile::P99),
        Self::Latency(Percentile::P999),
    ];

    /// Returns its place in [`Metric::ALL`].
    pub(super) fn index(self) -> usize {
        Self::ALL.iter().position(|metric| *metric == self).expect("every metric is in the list")
    }

    pub(super) fn of(self, figures: &Figures) -> Option<f64> {
        match self {
            Self::Throughput => Some(figures.ops_per_s),
            Self::Latency(percentile) => percentile.of(figures),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency(percentile) => percentile.name(),
        }
    }

    pub(super) fn is_better(self, ratio: f64) -> bool {
        match self {
            Self::Throughput => 1.0 < ratio,
            Self::Latency(_) => ratio < 1.0,
        }
    }
}

/// A change that is not to happen, such as `throughput<-5%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    pub(super) metric: Metric,
    pub(super) below: bool,
    /// The change that it begins at, as a ratio of B to A.
    pub(super) ratio: f64,
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
    /// Returns true if a change is beyond the condition's, and significant.
    pub(super) fn is_met(&self, ratio: &Ratio, p: f64) -> bool {
        let beyond = if self.below { ratio.ratio < self.ratio } else { self.ratio < ratio.ratio };
        beyond && p < 1.0 - CONFIDENCE
    }

    /// Returns true if the interval is so wide that the condition is neither met nor excluded. A condition at 0 % asks for
    /// any significant change, which no interval excludes.
    pub(super) fn is_undecided(&self, overall: &Ratio) -> bool {
        let (low, high) = overall.interval;
        let is_in_reach = low <= self.ratio && self.ratio <= high;
        let is_too_wide = self.ratio != 1.0 && self.ratio.ln().abs() < half_width(overall);
        is_in_reach && is_too_wide && !self.is_met(overall, overall.p)
    }

    /// Returns the smallest change in this condition's direction that would have been significant with such an interval,
    /// as a ratio.
    pub(super) fn smallest_change(&self, overall: &Ratio) -> f64 {
        let half = half_width(overall);
        if self.below { (-half).exp() } else { half.exp() }
    }
}

/// Returns half the width of an interval, as the logarithm of a ratio.
fn half_width(ratio: &Ratio) -> f64 {
    let (low, high) = ratio.interval;
    (high / low).ln() / 2.0
}

/// Returns a ratio as a change in percent.
pub(super) fn percent(ratio: f64) -> String {
    format!("{:+.1}%", (ratio - 1.0) * 100.0)
}
