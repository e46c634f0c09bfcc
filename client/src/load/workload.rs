//! The workload: the popularity of keys, the share of reads, and the sizes of values.

use super::random::{Random, Zipf};
use std::{fmt, str::FromStr};

/// A popularity that most published benchmarks take.
const THETA: f64 = 0.99;
/// The largest value that is drawn from a distribution without an end.
const VALUE_BYTES_MAX: u32 = 16 << 20;

/// The popularity of keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Distribution {
    /// All alike.
    Uniform,
    /// The k-th most popular in proportion to 1 / k^theta; the popular ones are scattered over all keys.
    Zipf { theta: f64 },
    /// One after the other, round and round.
    Sequential,
    /// A share of the keys gets a share of the requests.
    Hotspot { keys: f64, requests: f64 },
    /// Writes go through the keys in order; reads want mostly what was written last (Zipf 0.99 over age).
    Latest,
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let mut number = |default: f64| match parts.next() {
            None => Ok(default),
            Some(text) => text.parse::<f64>().map_err(|_| format!("{text:?} is no number")),
        };
        let distribution = match name {
            "uniform" => Self::Uniform,
            "zipf" => Self::Zipf { theta: number(THETA)? },
            "sequential" => Self::Sequential,
            "hotspot" => Self::Hotspot { keys: number(0.2)?, requests: number(0.8)? },
            "latest" => Self::Latest,
            _ => return Err("one of uniform, zipf[:0.99], sequential, hotspot[:0.2:0.8], latest".into()),
        };
        let is_sound = match distribution {
            Self::Zipf { theta } => 0.0 < theta && theta <= 10.0,
            Self::Hotspot { keys, requests } => (0.0..=1.0).contains(&requests) && 0.0 < keys && keys <= 1.0,
            _ => true,
        };
        if parts.next().is_some() || !is_sound {
            return Err("zipf takes a number above 0 and up to 10; hotspot takes two shares between 0 and 1".into());
        }
        Ok(distribution)
    }
}

impl Distribution {
    /// Returns true if each key is drawn by itself, so that one can be passed over.
    pub(crate) fn is_drawn(self) -> bool {
        !matches!(self, Self::Sequential | Self::Latest)
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => formatter.write_str("uniform"),
            Self::Zipf { theta } => write!(formatter, "zipf:{theta}"),
            Self::Sequential => formatter.write_str("sequential"),
            Self::Hotspot { keys, requests } => write!(formatter, "hotspot:{keys}:{requests}"),
            Self::Latest => formatter.write_str("latest"),
        }
    }
}

/// The keys of a client's pipeline.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Batch {
    /// Any: each request goes to the owner of its key, so that a pipeline is split over the nodes as cluster clients split it.
    #[default]
    Any,
    /// Those of one node, another one each time: the pipeline goes there whole, as redis-benchmark --cluster sends it.
    Node,
}

impl Batch {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Node => "node",
        }
    }
}

/// The length of values, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ValueSize {
    /// Always so long.
    Fixed(u32),
    /// From one to the other, both included.
    Range(u32, u32),
    /// One of these.
    List(Vec<u32>),
    /// exp of a normal distribution: `mu` is the logarithm of the median.
    LogNormal { mu: f64, sigma: f64 },
}

impl FromStr for ValueSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORMS: &str = "one of 64, 10..1000, 64,128,256 (bytes, up to 512 MiB), lognormal:5.0:0.5";
        let size = |text: &str| text.trim().parse().ok().filter(|&size: &u32| size <= 512 << 20).ok_or(FORMS);
        if let Some(parameters) = text.strip_prefix("lognormal:") {
            let (mu, sigma) = parameters.split_once(':').ok_or(FORMS)?;
            let (mu, sigma) = (mu.parse().map_err(|_| FORMS)?, sigma.parse().map_err(|_| FORMS)?);
            return if (0.0..=16.0).contains(&mu) && (0.0..=5.0).contains(&sigma) {
                Ok(Self::LogNormal { mu, sigma })
            } else {
                Err("lognormal takes mu from 0 to 16 (the logarithm of the median) and sigma from 0 to 5".into())
            };
        }
        if let Some((low, high)) = text.split_once("..") {
            let (low, high) = (size(low)?, size(high)?);
            return if low <= high {
                Ok(Self::Range(low, high))
            } else {
                Err("a range begins with its smaller end".into())
            };
        }
        let sizes = text.split(',').map(size).collect::<Result<Vec<_>, _>>()?;
        Ok(if let [one] = sizes[..] { Self::Fixed(one) } else { Self::List(sizes) })
    }
}

impl fmt::Display for ValueSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => size.fmt(formatter),
            Self::Range(low, high) => write!(formatter, "{low}..{high}"),
            Self::List(sizes) => formatter.write_str(&sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
            Self::LogNormal { mu, sigma } => write!(formatter, "lognormal:{mu}:{sigma}"),
        }
    }
}

impl ValueSize {
    /// A length that few values exceed.
    pub(crate) fn typical(&self) -> u32 {
        match self {
            Self::Fixed(size) | Self::Range(_, size) => *size,
            Self::List(sizes) => sizes.iter().copied().max().unwrap_or(0),
            Self::LogNormal { mu, sigma } => (mu + 2.0 * sigma).exp() as u32,
        }
    }

    /// Draws the length of one value.
    #[inline]
    pub(crate) fn draw(&self, random: &mut Random) -> u32 {
        match self {
            Self::Fixed(size) => *size,
            Self::Range(low, high) => low + random.below(u64::from(high - low) + 1) as u32,
            Self::List(sizes) => sizes[random.below(sizes.len() as u64) as usize],
            Self::LogNormal { mu, sigma } => {
                ((mu + sigma * random.normal()).exp().round() as u32).clamp(1, VALUE_BYTES_MAX)
            }
        }
    }
}

/// The kind of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Get = 0,
    Set = 1,
}

/// Draws one executor's requests. Executors share no state: what goes through keys in order does so in each executor's
/// own part of them.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    keys: u64,
    read_share: f64,
    distribution: Distribution,
    zipf: Option<Zipf>,
    /// Rank k is key `k * scatter mod keys`: a permutation, so that no two ranks meet in one key, as hashes would.
    scatter: u64,
    /// This executor's part of the keys: `part`, `part + parts`, … where one after the other is asked for.
    part: u64,
    parts: u64,
    /// The next key in order.
    next: u64,
    random: Random,
}

impl Workload {
    pub(crate) fn new(
        keys: u64,
        read_share: f64,
        distribution: Distribution,
        (part, parts): (u64, u64),
        random: Random,
    ) -> Self {
        assert!(0 < keys && part < parts, "there is a key to draw");
        let mut workload = Self {
            keys,
            read_share,
            distribution,
            zipf: None,
            scatter: coprime_near(keys, (keys as f64 * 0.618_034) as u64),
            part: part.min(keys - 1),
            parts: parts.min(keys),
            next: 0,
            random,
        };
        workload.zipf = match distribution {
            Distribution::Zipf { theta } => Some(Zipf::new(keys, theta)),
            Distribution::Latest => Some(Zipf::new(workload.own_keys(), THETA)),
            _ => None,
        };
        workload
    }

    /// The next request: what it does, and its key's number.
    #[inline]
    pub(crate) fn draw(&mut self) -> (Kind, u64) {
        let kind = if self.random.fraction() < self.read_share { Kind::Get } else { Kind::Set };
        (kind, self.draw_key(kind))
    }

    /// Another key for a request of this kind, as popular as any other.
    #[inline]
    pub(crate) fn draw_key(&mut self, kind: Kind) -> u64 {
        match self.distribution {
            Distribution::Uniform => self.random.below(self.keys),
            Distribution::Zipf { .. } => {
                let rank = self.zipf.as_ref().expect("made with the workload").draw(&mut self.random);
                (u128::from(rank) * u128::from(self.scatter) % u128::from(self.keys)) as u64
            }
            Distribution::Sequential => self.advance(),
            Distribution::Hotspot { keys, requests } => {
                let hot = ((self.keys as f64 * keys) as u64).clamp(1, self.keys);
                if hot == self.keys || self.random.fraction() < requests {
                    self.random.below(hot)
                } else {
                    hot + self.random.below(self.keys - hot)
                }
            }
            Distribution::Latest if kind == Kind::Set => self.advance(),
            Distribution::Latest => {
                let own = self.own_keys();
                let age = 1 + self.zipf.as_ref().expect("made with the workload").draw(&mut self.random);
                self.part + (self.next + own - age) % own * self.parts
            }
        }
    }

    /// The next of this executor's keys in order.
    #[inline]
    fn advance(&mut self) -> u64 {
        let key = self.part + self.next * self.parts;
        self.next = (self.next + 1) % self.own_keys();
        key
    }

    fn own_keys(&self) -> u64 {
        (self.keys - self.part).div_ceil(self.parts)
    }
}

/// The smallest number from `start` on that has no divisor in common with `number`.
fn coprime_near(number: u64, start: u64) -> u64 {
    fn divisor(a: u64, b: u64) -> u64 {
        if b == 0 { a } else { divisor(b, a % b) }
    }
    (start.max(1)..).find(|&candidate| divisor(number, candidate) == 1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(distribution: &str, read_share: f64, keys: u64, count: usize) -> Vec<(Kind, u64)> {
        let distribution = distribution.parse().unwrap();
        let mut workload = Workload::new(keys, read_share, distribution, (0, 1), Random::new(11, 0));
        std::iter::repeat_with(|| workload.draw()).take(count).collect()
    }

    fn counts(drawn: &[(Kind, u64)], keys: usize) -> Vec<u32> {
        let mut counts = vec![0; keys];
        drawn.iter().for_each(|(_, key)| counts[*key as usize] += 1);
        counts
    }

    /// Uniform: every key about as often as the others.
    #[test]
    fn uniform_is_even() {
        let counts = counts(&draw("uniform", 0.5, 50, 100_000), 50);
        assert!(counts.iter().all(|count| (1750..2250).contains(count)), "{counts:?}");
    }

    /// Zipf: the most popular key gets its share, and it is not the neighbour of the second.
    #[test]
    fn zipf_is_skewed_and_scattered() {
        let counts = counts(&draw("zipf", 0.5, 1000, 200_000), 1000);
        let mut ranked: Vec<usize> = (0..1000).collect();
        ranked.sort_by_key(|&key| std::cmp::Reverse(counts[key]));
        let share = f64::from(counts[ranked[0]]) / 200_000.0;
        assert!((share - 0.131).abs() < 0.01, "{share}"); // 1 / the sum of k^-0.99 for k up to 1000
        assert!(20 < ranked[0].abs_diff(ranked[1]));
        assert!(counts.iter().filter(|&&count| 0 < count).count() > 990, "every rank has a key of its own");
    }

    /// Hotspot: a fifth of the keys gets four fifths of the requests.
    #[test]
    fn hotspot_is_hot() {
        let counts = counts(&draw("hotspot", 0.5, 100, 100_000), 100);
        let hot: u32 = counts[..20].iter().sum();
        assert!((79_000..81_000).contains(&hot), "{hot}");
        assert!(counts.iter().all(|&count| 0 < count));
    }

    /// Sequential: each key once a round, over the parts of all executors together.
    #[test]
    fn sequential_goes_round() {
        let keys: Vec<u64> = draw("sequential", 0.5, 5, 12).iter().map(|(_, key)| *key).collect();
        assert_eq!(keys, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]);
        let mut seen: Vec<u64> = (0..3)
            .flat_map(|part| {
                let mut workload = Workload::new(10, 0.0, Distribution::Sequential, (part, 3), Random::new(1, part));
                let own = workload.own_keys() as usize;
                std::iter::repeat_with(move || workload.draw().1).take(own)
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    }

    /// Latest: reads want what was written a moment ago.
    #[test]
    fn latest_reads_what_was_just_written() {
        let (mut written, mut young, mut reads) = (0_u64, 0, 0);
        for (kind, key) in draw("latest", 0.5, 1000, 50_000) {
            if kind == Kind::Set {
                assert_eq!(key, written % 1000);
                written += 1;
            } else if 1000 < written {
                reads += 1;
                young += u32::from((written - 1 - key) % 1000 < 10);
            }
        }
        let share = f64::from(young) / f64::from(reads);
        assert!((0.33..0.45).contains(&share), "{share}"); // the first ten ranks' share of Zipf 0.99 over 1000: 0.39
    }

    /// The read share is kept.
    #[test]
    fn the_read_share_is_kept() {
        for (share, low, high) in [(0.0, 0, 0), (0.9, 89_000, 91_000), (1.0, 100_000, 100_000)] {
            let reads = draw("uniform", share, 9, 100_000).iter().filter(|(kind, _)| *kind == Kind::Get).count();
            assert!((low..=high).contains(&reads), "{share}: {reads}");
        }
    }

    /// Sizes are as asked for, and what can't be read is refused.
    #[test]
    fn sizes_are_as_asked_for() {
        let mut random = Random::new(2, 0);
        let mut draw = |text: &str| -> Vec<u32> {
            let size: ValueSize = text.parse().unwrap();
            assert_eq!(size.to_string(), text);
            (0..20_000).map(|_| size.draw(&mut random)).collect()
        };
        assert!(draw("64").iter().all(|&size| size == 64));
        let range = draw("10..12");
        assert!((10..=12).all(|size| range.contains(&size)) && range.iter().all(|size| (10..=12).contains(size)));
        assert!(draw("64,128").iter().all(|size| [64, 128].contains(size)));
        let mut sizes = draw("lognormal:5:0.5");
        sizes.sort_unstable();
        assert!((144..153).contains(&sizes[10_000]), "the median is exp(5): {}", sizes[10_000]);
        for text in ["", "x", "9..1", "1,", "lognormal:5", "lognormal:99:1", "-1", "600000000"] {
            assert!(text.parse::<ValueSize>().is_err(), "{text:?}");
        }
        for text in ["", "zip", "zipf:x", "zipf:0", "zipf:1:2", "hotspot:2:1", "uniform:1"] {
            assert!(text.parse::<Distribution>().is_err(), "{text:?}");
        }
    }
}
