//! The choice of the requests that are sampled: all where there are few, one in many under load.

/// Picks requests to be sampled, a bounded number in each tick. Each stands for as many requests as [`Sampler::take`]
/// returns. The gaps between them are random: with equal gaps, requests that arrive in a fixed order might always be
/// missed.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// The requests until the next that is picked.
    left: u32,
    /// The mean number of requests for each that is picked.
    period: u32,
    /// The requests picked since the last tick, or since the period was last changed.
    taken: u32,
    random: fastrand::Rng,
}

/// The number of requests picked within a tick at which the period is doubled: some 6,400 a second, 0.1 % of a core.
const TAKEN_MAX: u32 = 64;
/// The longest period: with it a core would execute 400 million requests a second.
const PERIOD_MAX: u32 = 1 << 16;

impl Default for Sampler {
    fn default() -> Self {
        Self { left: 1, period: 1, taken: 0, random: fastrand::Rng::with_seed(1) }
    }
}

impl Sampler {
    /// Returns true if this request is picked. To be called once for each request; if it is picked,
    /// [`take`](Self::take) must follow.
    #[inline]
    pub fn is_due(&mut self) -> bool {
        self.left -= 1;
        self.left == 0
    }

    /// Returns the number of requests that the picked one stands for, itself included, and chooses the next.
    pub fn take(&mut self) -> u32 {
        let weight = self.period;
        self.taken += 1;
        if self.taken == TAKEN_MAX {
            self.taken = 0;
            self.period = (self.period * 2).min(PERIOD_MAX);
        }
        // The mean is the period.
        self.left = self.random.u32(1..self.period * 2);
        weight
    }

    /// Ends a tick: if few requests were picked in it, the period is halved.
    pub fn tick(&mut self) {
        if self.taken < TAKEN_MAX / 4 && 1 < self.period {
            self.period /= 2;
            self.left = self.left.min(self.random.u32(1..self.period * 2));
        }
        self.taken = 0;
    }

    /// Returns a random number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.random.usize(..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `requests` requests in each of `ticks` ticks. Returns the number of those picked, and the number that they
    /// stand for.
    fn run(sampler: &mut Sampler, ticks: u32, requests: u32) -> (u32, u64) {
        let (mut picked, mut weight) = (0, 0);
        for _ in 0..ticks {
            for _ in 0..requests {
                if sampler.is_due() {
                    picked += 1;
                    weight += u64::from(sampler.take());
                }
            }
            sampler.tick();
        }
        (picked, weight)
    }

    /// Few requests are all picked, so that counts are exact where a person tries things out.
    #[test]
    fn few_requests_are_all_picked() {
        let mut sampler = Sampler::default();
        assert_eq!(run(&mut sampler, 100, TAKEN_MAX - 1), (6300, 6300));
    }

    /// Of many requests no more are picked than of few, and they stand for all within what chance allows. Once few come
    /// again, each is picked.
    #[test]
    fn many_requests_are_sampled() {
        for requests in [1000, 20_000] {
            let mut sampler = Sampler::default();
            run(&mut sampler, 20, requests);
            let (picked, weight) = run(&mut sampler, 200, requests);
            assert!(picked < 200 * 2 * TAKEN_MAX, "{picked}");
            let truth = 200.0 * f64::from(requests);
            assert!((weight as f64 - truth).abs() < 0.05 * truth, "{weight} of {truth}");
            run(&mut sampler, 40, 1);
            assert_eq!(run(&mut sampler, 50, 1), (50, 50));
        }
    }
}
