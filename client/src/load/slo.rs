//! The search for the highest rate that meets an objective.

use super::units::parse_duration;
use hdrhistogram::Histogram;
use std::{fmt, str::FromStr, time::Duration};

/// What a latency shall stay below, such as `p99<1ms`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Objective {
    text: String,
    metric: Metric,
    limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    Mean,
    Quantile(f64),
    Max,
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (metric, limit) =
            text.split_once('<').ok_or("an objective is a metric, < and a duration, as in 'p99<1ms'")?;
        let metric = match metric.trim() {
            "mean" => Metric::Mean,
            "max" => Metric::Max,
            "p50" => Metric::Quantile(0.5),
            "p90" => Metric::Quantile(0.9),
            "p95" => Metric::Quantile(0.95),
            "p99" => Metric::Quantile(0.99),
            "p999" | "p99.9" => Metric::Quantile(0.999),
            "p9999" | "p99.99" => Metric::Quantile(0.9999),
            _ => return Err("the metric is one of mean, p50, p90, p95, p99, p999, p9999, max".into()),
        };
        let limit = parse_duration(limit.trim_start_matches('=').trim())?;
        if limit.is_zero() {
            return Err("no latency is below 0".into());
        }
        Ok(Self { text: text.into(), metric, limit })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Objective {
    /// The latency in question, in microseconds.
    pub(crate) fn value_us(&self, latencies: &Histogram<u64>) -> f64 {
        match self.metric {
            Metric::Mean => latencies.mean() / 1e3,
            Metric::Quantile(quantile) => latencies.value_at_quantile(quantile) as f64 / 1e3,
            Metric::Max => latencies.max() as f64 / 1e3,
        }
    }

    /// Whether that is low enough.
    pub(crate) fn is_met(&self, value_us: f64) -> bool {
        value_us < self.limit.as_secs_f64() * 1e6
    }
}

/// A rate that was tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tried {
    pub(crate) rate: f64,
    pub(crate) value_us: f64,
    pub(crate) met: bool,
}

/// Where the search begins, unless told.
pub(crate) const FIRST_RATE: f64 = 10_000.0;
/// Below this there is nothing to find.
const RATE_MIN: f64 = 1.0;
/// It is narrow enough when the bounds are this close together: 3 %.
const PRECISION: f64 = 1.03;
/// The most rates that are tried.
const TRIES_MAX: usize = 24;

/// Doubles or halves the rate until it has one that meets the objective and one that does not, then halves the distance.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    next: f64,
    met: Option<f64>,
    failed: Option<f64>,
    tried: Vec<Tried>,
}

impl Search {
    pub(crate) fn new(first: f64) -> Self {
        Self { next: first, met: None, failed: None, tried: Vec::new() }
    }

    /// The rate to try next, or `None` where the search has ended.
    pub(crate) fn next(&self) -> Option<f64> {
        let is_narrow = matches!((self.met, self.failed), (Some(met), Some(failed)) if failed / met < PRECISION);
        let is_over = is_narrow || self.tried.len() == TRIES_MAX || self.next < RATE_MIN;
        (!is_over).then_some(self.next)
    }

    /// The rate has been tried.
    pub(crate) fn tried(&mut self, tried: Tried) {
        self.tried.push(tried);
        let bound = if tried.met { &mut self.met } else { &mut self.failed };
        *bound = Some(tried.rate);
        self.next = match (self.met, self.failed) {
            (Some(met), Some(failed)) => f64::midpoint(met, failed),
            (Some(met), None) => met * 2.0,
            (None, Some(failed)) => failed / 2.0,
            (None, None) => self.next,
        };
    }

    /// The highest rate found, if any.
    pub(crate) fn found(&self) -> Option<f64> {
        self.met
    }

    /// All rates tried, in order.
    pub(crate) fn all_tried(&self) -> &[Tried] {
        &self.tried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(first: f64, capacity: f64) -> Search {
        let mut search = Search::new(first);
        while let Some(rate) = search.next() {
            let value_us = if rate < capacity { 100.0 / (1.0 - rate / capacity) } else { f64::INFINITY };
            search.tried(Tried { rate, value_us, met: value_us < 1000.0 });
        }
        search
    }

    /// On a queue's curve the search ends within 3 % below the rate where the objective fails, wherever it begins.
    #[test]
    fn the_highest_rate_is_found() {
        for first in [10.0, 10_000.0, 5_000_000.0] {
            let search = search(first, 200_000.0);
            let found = search.found().unwrap();
            assert!((174_000.0..180_000.0).contains(&found), "from {first}: {found}");
            assert!(search.all_tried().len() < TRIES_MAX);
        }
    }

    /// Where no rate meets the objective, or every one does, the search ends all the same.
    #[test]
    fn the_search_ends() {
        assert_eq!(search(1000.0, 0.5).found(), None);
        assert_eq!(search(1000.0, 1e300).all_tried().len(), TRIES_MAX);
    }

    /// Objectives read as they are written, and what is none is refused.
    #[test]
    fn objectives_are_read() {
        let objective: Objective = "p99<1ms".parse().unwrap();
        assert!(objective.is_met(999.0) && !objective.is_met(1000.0));
        assert_eq!(objective.to_string(), "p99<1ms");
        let mut latencies = super::super::tally::histogram();
        (1..=100).for_each(|us| latencies.record(us * 1000).unwrap());
        assert!((objective.value_us(&latencies) - 99.0).abs() < 0.1);
        for text in ["p99", "p98<1ms", "p99<", "p99<0ms", "max>1s"] {
            assert!(text.parse::<Objective>().is_err(), "{text:?}");
        }
    }
}
