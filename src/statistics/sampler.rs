//! Which requests are looked at more closely: all of them where there are few, one in many under load.

/// Picks requests, so many in a tick at most, each of which stands for as many as [`Sampler::take`] says. The gaps between
/// them are random, so that what comes in turns is not always passed over.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// Requests until the next that is picked.
    left: u32,
    /// One in so many is picked.
    period: u32,
    /// Picked since the last tick, or since the period was last changed.
    taken: u32,
    random: fastrand::Rng,
}

/// Requests that are picked between two ticks before only half as many are from then on: some 6,400 a second, 0.1 % of a core.
const TAKEN_MAX: u32 = 64;
/// The longest period: with it a core would execute 400 million requests a second.
const PERIOD_MAX: u32 = 1 << 16;

impl Default for Sampler {
    fn default() -> Self {
        Self { left: 1, period: 1, taken: 0, random: fastrand::Rng::with_seed(1) }
    }
}

impl Sampler {
    /// Whether this request is picked. Asked once for each; then [`take`](Self::take) says what it stands for.
    #[inline]
    pub fn is_due(&mut self) -> bool {
        self.left -= 1;
        self.left == 0
    }

    /// How many requests the one that is picked stands for, itself included. Chooses the next.
    pub fn take(&mut self) -> u32 {
        let weight = self.period;
        self.taken += 1;
        if self.taken == TAKEN_MAX {
            self.taken = 0;
            self.period = (self.period * 2).min(PERIOD_MAX);
        }
        // On average the period.
        self.left = self.random.u32(1..self.period * 2);
        weight
    }

    /// Time has passed: where few were picked in it, more are from now on.
    pub fn tick(&mut self) {
        if self.taken < TAKEN_MAX / 4 && 1 < self.period {
            self.period /= 2;
            self.left = self.left.min(self.random.u32(1..self.period * 2));
        }
        self.taken = 0;
    }

    /// A number below this one.
    pub fn below(&mut self, end: usize) -> usize {
        self.random.usize(..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets so many requests come in each of so many ticks; returns how many were picked, and what these stood for.
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

    /// Few requests are all looked at, so that counts are exact where a person tries things out.
    #[test]
    fn few_requests_are_all_picked() {
        let mut sampler = Sampler::default();
        assert_eq!(run(&mut sampler, 100, TAKEN_MAX - 1), (6300, 6300));
    }

    /// Many cost no more than few, and stand for all of them within what chance allows; when they have gone, each counts
    /// again.
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
