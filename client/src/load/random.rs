//! Random numbers from a seed: fast, repeatable, and good enough to draw keys, sizes and arrivals from.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Random(fastrand::Rng);

impl Random {
    /// A stream of its own for each pair of seed and number.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self(fastrand::Rng::with_seed(mix(seed ^ mix(stream.wrapping_add(0x9e37_79b9_7f4a_7c15)))))
    }

    /// Draws a number below `limit`, each as likely as the others.
    #[inline]
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0.u64(..limit)
    }

    /// Draws a number from 0 to below 1.
    #[inline]
    pub(crate) fn fraction(&mut self) -> f64 {
        self.0.f64()
    }

    /// Draws from the exponential distribution with mean 1.
    #[inline]
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.fraction()).ln()
    }

    /// Draws from the normal distribution with mean 0 and deviation 1 (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.fraction()).cos()
    }
}

/// Spreads a number over all 64 bits (the finalizer of SplitMix64).
#[inline]
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Draws ranks from 0 to below n where rank k has a weight of 1 / (k + 1)^theta: rejection-inversion (Hörmann and
/// Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions", 1996). Needs no table and
/// no sum over all keys, whatever their number, and any theta above 0.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    count: f64,
    theta: f64,
    /// The integral of the weight at 1.5, less 1.
    integral_first: f64,
    /// The integral at count + 0.5.
    integral_last: f64,
    shortcut: f64,
}

impl Zipf {
    pub(crate) fn new(count: u64, theta: f64) -> Self {
        assert!(0 < count && 0.0 < theta, "there is a rank to draw");
        let count = count as f64;
        let mut zipf = Self { count, theta, integral_first: 0.0, integral_last: 0.0, shortcut: 0.0 };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(count + 0.5);
        zipf.shortcut = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    #[inline]
    pub(crate) fn draw(&self, random: &mut Random) -> u64 {
        loop {
            let area = self.integral_last + random.fraction() * (self.integral_first - self.integral_last);
            let position = self.inverse(area);
            let rank = position.round().clamp(1.0, self.count);
            if rank - position <= self.shortcut || self.integral(rank + 0.5) - self.weight(rank) <= area {
                return rank as u64 - 1;
            }
        }
    }

    fn weight(&self, position: f64) -> f64 {
        (-self.theta * position.ln()).exp()
    }

    /// The integral of the weight from 1 to `position`: (position^(1 - theta) - 1) / (1 - theta), also where theta is 1.
    fn integral(&self, position: f64) -> f64 {
        let log = position.ln();
        let exponent = (1.0 - self.theta) * log;
        if exponent.abs() < 1e-8 { log * (1.0 + exponent / 2.0) } else { exponent.exp_m1() / (1.0 - self.theta) }
    }

    fn inverse(&self, area: f64) -> f64 {
        let scaled = (area * (1.0 - self.theta)).max(-1.0);
        let log = if scaled.abs() < 1e-8 { area * (1.0 - scaled / 2.0) } else { scaled.ln_1p() / (1.0 - self.theta) };
        log.exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same seed gives the same numbers; another stream gives others.
    #[test]
    fn a_seed_decides() {
        let draw = |seed, stream| {
            let mut random = Random::new(seed, stream);
            [(); 3].map(|()| random.below(u64::MAX))
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_ne!(draw(1, 0), draw(2, 0));
    }

    /// Means and deviations are those of the distributions.
    #[test]
    fn moments_are_right() {
        let mut random = Random::new(7, 0);
        let mean = |mut draw: Box<dyn FnMut() -> f64>| (0..200_000).map(|_| draw()).sum::<f64>() / 200_000.0;
        let mut other = random.clone();
        assert!((mean(Box::new(move || other.fraction())) - 0.5).abs() < 0.005);
        let mut other = random.clone();
        assert!((mean(Box::new(move || other.exponential())) - 1.0).abs() < 0.01);
        let mut other = random.clone();
        assert!(mean(Box::new(move || other.normal())).abs() < 0.01);
        assert!((mean(Box::new(move || random.normal().powi(2))) - 1.0).abs() < 0.02);
    }

    /// Each rank is drawn in proportion to 1 / (rank + 1)^theta, below, at and above theta 1.
    #[test]
    fn zipf_follows_its_weights() {
        for theta in [0.5, 0.99, 1.0, 1.4] {
            let (zipf, mut random) = (Zipf::new(100, theta), Random::new(3, 0));
            let mut counts = [0_u32; 100];
            for _ in 0..400_000 {
                counts[zipf.draw(&mut random) as usize] += 1;
            }
            let weight = |rank: usize| ((rank + 1) as f64).powf(-theta);
            let sum: f64 = (0..100).map(weight).sum();
            for rank in [0, 1, 2, 9, 49, 99] {
                let expected = 400_000.0 * weight(rank) / sum;
                let difference = (f64::from(counts[rank]) - expected).abs();
                assert!(
                    difference < 5.0 * expected.sqrt(),
                    "theta {theta}, rank {rank}: {} for {expected}",
                    counts[rank]
                );
            }
        }
        assert_eq!(Zipf::new(1, 0.99).draw(&mut Random::new(1, 1)), 0);
    }
}
