//! The times at which requests are due in an open loop, whatever becomes of the earlier ones.

use super::random::Random;
use trine_client::pipeline::Nanos;

/// The distribution of arrivals over time.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Arrivals {
    /// One after the other at equal distances.
    Constant,
    /// Independent of each other, as those of many users: sometimes several at once, sometimes none for a while.
    Poisson,
}

impl Arrivals {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
        }
    }
}

/// The number of due times of a backlog that are drawn: a rate that no server takes, such as 1e9, leaves billions, and the report
/// would wait for them.
const DRAWN_MAX: usize = 1_000_000;

/// The due times of one executor's requests, in order. There is no queue: a request that can't be sent yet is simply the
/// next, and its due time stands.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    arrivals: Arrivals,
    begin: Nanos,
    /// Nanoseconds from one arrival to the next, on average.
    distance: f64,
    /// In distances, since the beginning.
    position: f64,
    random: Random,
}

impl Schedule {
    /// `rate` requests a second from `begin` on. Constant arrivals begin `phase` (0 to below 1) of a distance later, so that
    /// those of several executors interleave.
    pub(crate) fn new(arrivals: Arrivals, rate: f64, begin: Nanos, phase: f64, mut random: Random) -> Self {
        assert!(0.0 < rate, "a rate is positive");
        let position = match arrivals {
            Arrivals::Constant => phase,
            Arrivals::Poisson => random.exponential(),
        };
        Self { arrivals, begin, distance: 1e9 / rate, position, random }
    }

    /// Returns the time at which the next request is due.
    #[inline]
    pub(crate) fn due(&self) -> Nanos {
        // Computed from the beginning each time: rounding does not add up to a drift.
        Nanos(self.begin.0 + (self.position * self.distance) as u64)
    }

    /// The next request is being taken care of.
    #[inline]
    pub(crate) fn take(&mut self) {
        self.position += match self.arrivals {
            Arrivals::Constant => 1.0,
            Arrivals::Poisson => self.random.exponential(),
        };
    }

    /// Returns the number of requests that are due from `from` to before `until` and not taken yet. Looks ahead without
    /// taking them. Only the first [`DRAWN_MAX`] are drawn, the others follow from the rate.
    pub(crate) fn backlog(&self, from: Nanos, until: Nanos) -> u64 {
        let mut ahead = self.clone();
        let mut count = 0;
        for _ in 0..DRAWN_MAX {
            if until <= ahead.due() {
                return count;
            }
            count += u64::from(from <= ahead.due());
            ahead.take();
        }
        let left = until.0.saturating_sub(from.0.max(ahead.due().0));
        count + (left as f64 / self.distance) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(arrivals: Arrivals, rate: f64, phase: f64, count: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(arrivals, rate, Nanos(1000), phase, Random::new(5, 0));
        std::iter::repeat_with(|| (schedule.due().0, schedule.take()).0).take(count).collect()
    }

    /// Constant arrivals are equally far apart and do not drift, also where the distance is no whole number of nanoseconds.
    #[test]
    fn constant_arrivals_do_not_drift() {
        assert_eq!(dues(Arrivals::Constant, 1e8, 0.0, 3), [1000, 1010, 1020]);
        assert_eq!(dues(Arrivals::Constant, 1e8, 0.5, 2), [1005, 1015]);
        let third = dues(Arrivals::Constant, 3.0, 0.0, 3_000_001);
        assert_eq!(third[3_000_000], 1000 + 1_000_000 * 1_000_000_000);
    }

    /// Poisson arrivals keep the rate, and their distances vary as much as they are long.
    #[test]
    fn poisson_arrivals_keep_the_rate() {
        let dues = dues(Arrivals::Poisson, 1e6, 0.0, 200_001);
        let distances: Vec<f64> = dues.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = distances.iter().sum::<f64>() / distances.len() as f64;
        let variance = distances.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / distances.len() as f64;
        assert!((mean - 1000.0).abs() < 10.0, "{mean}");
        assert!((variance.sqrt() - 1000.0).abs() < 20.0, "{variance}");
    }

    /// A request that can't be sent keeps its due time, and the backlog counts it.
    #[test]
    fn due_times_stand() {
        let mut schedule = Schedule::new(Arrivals::Constant, 1e9, Nanos(0), 0.0, Random::new(1, 0));
        schedule.take();
        assert_eq!(schedule.due(), Nanos(1));
        assert_eq!(schedule.backlog(Nanos(0), Nanos(11)), 10);
        assert_eq!(schedule.backlog(Nanos(6), Nanos(11)), 5, "those due before the measurement are not counted");
        assert_eq!(schedule.backlog(Nanos(0), Nanos(1)), 0);
        assert_eq!(schedule.due(), Nanos(1));
    }

    /// The backlog of a rate that no server takes is counted without drawing all of it.
    #[test]
    fn a_long_backlog_is_estimated() {
        for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
            let schedule = Schedule::new(arrivals, 1e9, Nanos(0), 0.0, Random::new(1, 0));
            for from in [0, 1_000_000_000] {
                let expected = (10_000_000_000_000 - from) as f64;
                let share = schedule.backlog(Nanos(from), Nanos(10_000_000_000_000)) as f64 / expected;
                assert!((0.999..1.001).contains(&share), "{arrivals:?} from {from}: {share}");
            }
        }
    }
}
