//! A histogram of durations, with powers of two as bounds.

/// A histogram of durations: a count for each power of two, from a sixteenth of a microsecond to two minutes, and the
/// sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// The number of durations of at most 2^position sixteenths of a microsecond, and more than half of that.
    buckets: [u64; BUCKETS],
    /// The sum of all durations, in microseconds.
    pub sum_us: u64,
}

const BUCKETS: usize = 32;

impl Times {
    /// Adds `count` durations that are `us` microseconds together.
    #[inline]
    pub fn note(&mut self, us: u64, count: u64) {
        let Some(sixteenths) = us.saturating_mul(16).checked_div(count) else { return };
        self.buckets[bucket(sixteenths)] += count;
        self.sum_us += us;
    }

    /// Adds `count` durations of `us` microseconds each.
    #[inline]
    pub fn note_each(&mut self, us: u64, count: u64) {
        self.buckets[bucket(us.saturating_mul(16))] += count;
        self.sum_us = self.sum_us.saturating_add(us.saturating_mul(count));
    }

    /// Returns the number of durations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Iterates over the buckets: the upper bound of each in microseconds, and the number of durations up to it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        self.buckets.iter().zip(0..).scan(0, |sum, (&count, position)| {
            *sum += count;
            Some((2f64.powi(position) / 16.0, *sum))
        })
    }

    /// Iterates like [`cumulative`](Self::cumulative), without the empty buckets.
    pub fn steps(&self) -> impl Iterator<Item = (f64, u64)> {
        self.cumulative().zip(&self.buckets).filter(|(_, count)| 0 < **count).map(|(step, _)| step)
    }

    /// Returns a percentile in microseconds: never below the truth, and at most twice as much.
    pub fn percentile(&self, percent: f64) -> f64 {
        let needed = self.count() as f64 * percent / 100.0;
        self.steps().find(|&(_, sum)| needed <= sum as f64).map_or(0.0, |(us, _)| us)
    }
}

#[inline]
fn bucket(sixteenths: u64) -> usize {
    let position = u64::BITS - sixteenths.saturating_sub(1).leading_zeros();
    (position as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A percentile is never below the truth, and less than twice as much.
    #[test]
    fn percentiles_are_powers_of_two() {
        let mut times = Times::default();
        assert_eq!((times.percentile(50.0), times.count()), (0.0, 0));
        for (us, count) in [(0, 10), (3, 3), (30, 10), (1000, 1), (200_000_000, 1), (1, 0)] {
            times.note(us, count);
        }
        let steps: Vec<_> = times.steps().collect();
        assert_eq!(steps, [(0.0625, 10), (1.0, 13), (4.0, 23), (1024.0, 24), (134_217_728.0, 25)]);
        for (percent, us) in [(1.0, 0.0625), (40.0, 0.0625), (50.0, 1.0), (92.0, 4.0), (96.0, 1024.0)] {
            assert_eq!(times.percentile(percent), us, "{percent}");
        }
        assert_eq!((times.sum_us, times.count()), (200_001_033, 25));
        assert_eq!(times.cumulative().last(), Some((134_217_728.0, 25)));
    }

    /// Durations that are all the same make one bucket and a sum.
    #[test]
    fn each_counts_for_itself() {
        let mut times = Times::default();
        times.note_each(3, 10);
        times.note_each(0, 2);
        assert_eq!(times.steps().collect::<Vec<_>>(), [(0.0625, 2), (4.0, 12)]);
        assert_eq!(times.sum_us, 30);
    }
}
