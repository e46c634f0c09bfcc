//! The search for the highest rate that meets an objective.

use super::units::parse_duration;
use hdrhistogram::Histogram;
use std::{fmt, str::FromStr, time::Duration};

/// A limit of a latency percentile, such as `p99<1ms`.
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
    /// Returns the latency in question, in microseconds; `None` where no request was answered.
    pub(crate) fn value_us(&self, latencies: &Histogram<u64>) -> Option<f64> {
        (!latencies.is_empty()).then(|| match self.metric {
            Metric::Mean => latencies.mean() / 1e3,
            Metric::Quantile(quantile) => latencies.value_at_quantile(quantile) as f64 / 1e3,
            Metric::Max => latencies.max() as f64 / 1e3,
        })
    }

    /// Returns the fewest requests that have such a latency: of 99 requests none is the slowest hundredth.
    pub(crate) fn requests_min(&self) -> u64 {
        match self.metric {
            Metric::Quantile(quantile) => (1.0 / (1.0 - quantile)).round() as u64,
            Metric::Mean | Metric::Max => 1,
        }
    }

    /// Judges one try that did not fail. `is_sound`: all requests could be sent.
    pub(crate) fn outcome(&self, latencies: &Histogram<u64>, is_sound: bool) -> Outcome {
        let is_met = self.value_us(latencies).is_some_and(|value_us| value_us < self.limit.as_secs_f64() * 1e6);
        match (is_sound, latencies.len() < self.requests_min()) {
            (false, _) => Outcome::NotMet,
            (true, true) => Outcome::TooFew,
            (true, false) if is_met => Outcome::Met,
            (true, false) => Outcome::NotMet,
        }
    }
}

/// A rate that was tried.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tried {
    pub(crate) rate: f64,
    /// Requests that were due in the measurement and answered.
    pub(crate) requests: u64,
    /// `None` where there were none.
    pub(crate) value_us: Option<f64>,
    pub(crate) outcome: Outcome,
    /// The reasons for which nothing was met whatever the latency, if there are any.
    pub(crate) reasons: Vec<String>,
}

/// The answer that one try gives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Met,
    NotMet,
    /// Requests failed, or none was answered: that says nothing of the rate, and ends the search.
    Failed,
    /// Too few requests were answered to know the latency in question.
    TooFew,
}

impl Outcome {
    /// Returns whether the objective was met, as far as is known.
    pub(crate) fn met(self) -> Option<bool> {
        match self {
            Self::Met => Some(true),
            Self::NotMet => Some(false),
            Self::Failed | Self::TooFew => None,
        }
    }
}

/// The first rate of a search, by default.
pub(crate) const FIRST_RATE: f64 = 10_000.0;
/// Below this there is nothing to find.
const RATE_MIN: f64 = 1.0;
/// It is narrow enough when the bounds are this close together: 3 %.
const PRECISION: f64 = 1.03;
/// The most rates that are tried.
const TRIES_MAX: usize = 24;

/// Doubles or halves the rate until it has one that meets the objective and one that does not, then halves the distance.
/// A rate with too few requests is a lower bound too: at lower rates there would be fewer still.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    next: f64,
    met: Option<f64>,
    /// The highest rate that did not fail.
    low: Option<f64>,
    failed: Option<f64>,
    tried: Vec<Tried>,
}

impl Search {
    pub(crate) fn new(first: f64) -> Self {
        Self { next: first, met: None, low: None, failed: None, tried: Vec::new() }
    }

    /// The rate to try next, or `None` where the search has ended.
    pub(crate) fn next(&self) -> Option<f64> {
        let is_narrow = matches!((self.low, self.failed), (Some(low), Some(failed)) if failed / low < PRECISION);
        let is_over = is_narrow || self.tried.len() == TRIES_MAX || self.next < RATE_MIN || self.failure().is_some();
        (!is_over).then_some(self.next)
    }

    /// The rate has been tried.
    pub(crate) fn tried(&mut self, tried: Tried) {
        let bound = if tried.outcome == Outcome::NotMet { &mut self.failed } else { &mut self.low };
        *bound = Some(tried.rate);
        if tried.outcome == Outcome::Met {
            self.met = Some(tried.rate);
        }
        self.tried.push(tried);
        self.next = match (self.low, self.failed) {
            (Some(low), Some(failed)) => f64::midpoint(low, failed),
            (Some(low), None) => low * 2.0,
            (None, Some(failed)) => failed / 2.0,
            (None, None) => self.next,
        };
    }

    /// The highest rate found, if any. A search that a failure has ended found none: it has not seen the rates above.
    pub(crate) fn found(&self) -> Option<f64> {
        self.met.filter(|_| self.failure().is_none())
    }

    /// Returns the highest rate that met the objective, however the search ended.
    pub(crate) fn met(&self) -> Option<f64> {
        self.met
    }

    /// Returns the try that failed, if one has ended the search.
    pub(crate) fn failure(&self) -> Option<&Tried> {
        self.tried.last().filter(|tried| tried.outcome == Outcome::Failed)
    }

    /// Returns why the search can't tell whether a rate meets `objective`: of the rates with too few requests the highest,
    /// where none met it.
    pub(crate) fn too_few(&self, objective: &Objective) -> Option<String> {
        let few = self.tried.iter().filter(|tried| self.met.is_none() && tried.outcome == Outcome::TooFew);
        let Tried { rate, requests, .. } = few.max_by(|a, b| a.rate.total_cmp(&b.rate))?;
        let min = objective.requests_min();
        Some(format!(
            "at {rate:.0} requests/s too few requests were answered to tell whether {objective} is met: {requests}, and it \
             takes {min}. Measure longer (--duration), or take a lower percentile"
        ))
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
            let outcome = if value_us < 1000.0 { Outcome::Met } else { Outcome::NotMet };
            search.tried(Tried { rate, requests: 1000, value_us: Some(value_us), outcome, reasons: Vec::new() });
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

    /// The search ends even if no rate meets the objective, or every one does.
    #[test]
    fn the_search_ends() {
        assert_eq!(search(1000.0, 0.5).found(), None);
        assert_eq!(search(1000.0, 1e300).all_tried().len(), TRIES_MAX);
    }

    /// A server that is gone is not asked again, and what was met until then is no answer.
    #[test]
    fn a_failure_ends_the_search() {
        let mut search = Search::new(1000.0);
        for outcome in [Outcome::Met, Outcome::Failed] {
            let rate = search.next().unwrap();
            let reasons = vec!["12 requests failed".to_owned()];
            search.tried(Tried { rate, requests: 1000, value_us: Some(1.0), outcome, reasons });
        }
        assert_eq!((search.next(), search.found(), search.met()), (None, None, Some(1000.0)));
        assert_eq!(search.failure().unwrap().rate, 2000.0);
    }

    /// Objectives read as they are written, and what is none is refused.
    #[test]
    fn objectives_are_read() {
        let objective: Objective = "p99<1ms".parse().unwrap();
        assert_eq!(objective.to_string(), "p99<1ms");
        let mut latencies = super::super::tally::histogram();
        (1..=100).for_each(|us| latencies.record(us * 1000).unwrap());
        assert!((objective.value_us(&latencies).unwrap() - 99.0).abs() < 0.1);
        for text in ["p99", "p98<1ms", "p99<", "p99<0ms", "max>1s"] {
            assert!(text.parse::<Objective>().is_err(), "{text:?}");
        }
    }

    /// A percentile is known from enough requests on; with fewer a try says neither, unless requests failed.
    #[test]
    fn a_percentile_takes_enough_requests() {
        for (text, min) in [("p50<1ms", 2), ("p99<1ms", 100), ("p99.99<1ms", 10_000), ("mean<1ms", 1), ("max<1ms", 1)] {
            let objective: Objective = text.parse().unwrap();
            assert_eq!(objective.requests_min(), min, "{text}");
            for (count, us, is_sound, expected) in [
                (min, 900, true, Outcome::Met),
                (min, 1100, true, Outcome::NotMet),
                (min - 1, 900, true, Outcome::TooFew),
                (min - 1, 1100, true, Outcome::TooFew),
                (0, 0, false, Outcome::NotMet),
                (min, 900, false, Outcome::NotMet),
            ] {
                let mut latencies = super::super::tally::histogram();
                latencies.record_n(us * 1000, count).unwrap();
                assert_eq!(objective.outcome(&latencies, is_sound), expected, "{text}: {count} of {us} µs, {is_sound}");
                assert_eq!(objective.value_us(&latencies).is_none(), count == 0);
            }
        }
    }

    /// A search looks above a rate with too few requests, not below it; where no rate met the objective, it says so.
    #[test]
    fn a_search_with_too_few_requests_says_so() {
        for (capacity, found) in [(50.0, false), (1000.0, true)] {
            let (objective, mut search) = ("p99<2ms".parse().unwrap(), Search::new(10.0));
            while let Some(rate) = search.next() {
                let outcome = match rate {
                    _ if capacity < rate => Outcome::NotMet,
                    _ if rate < 100.0 => Outcome::TooFew,
                    _ => Outcome::Met,
                };
                let reasons = Vec::new();
                search.tried(Tried { rate, requests: rate as u64, value_us: Some(1.0), outcome, reasons });
            }
            assert_eq!(search.found().is_some(), found);
            assert!(search.all_tried().iter().all(|tried| 10.0 <= tried.rate) && search.all_tried().len() < TRIES_MAX);
            let said = search.too_few(&objective);
            assert_eq!(said.is_none(), found);
            assert!(said.is_none_or(|said| said.contains("it takes 100") && said.contains("--duration")));
        }
    }
}
