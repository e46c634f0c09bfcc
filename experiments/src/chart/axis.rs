//! Axes: where a value stands between the two ends, and which values are named.

/// One axis. Values are placed between 0 and 1, so that whoever draws need not know about scales.
#[derive(Clone, Debug)]
pub struct Axis {
    pub title: String,
    scale: Scale,
    low: f64,
    high: f64,
    /// Value and label, rising.
    pub ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scale {
    Linear,
    Logarithmic,
    /// Each nine takes the same room: 90 %, 99 %, 99.9 % (the x axis of HdrHistogram's plots).
    Nines,
}

impl Scale {
    fn apply(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Logarithmic => value.ln(),
            Self::Nines => -(1.0 - value / 100.0).ln(),
        }
    }
}

impl Axis {
    /// Returns where a value stands: 0 at the low end, 1 at the high end. `None` for what the scale cannot show.
    pub fn position(&self, value: f64) -> Option<f64> {
        let [value, low, high] = [value, self.low, self.high].map(|value| self.scale.apply(value));
        let position = (value - low) / (high - low);
        position.is_finite().then_some(position)
    }

    /// Returns the [`Axis::position`], moved to the nearer end if it lies beyond the axis.
    pub fn clamped(&self, value: f64) -> Option<f64> {
        Some(self.position(value)?.clamp(0.0, 1.0))
    }

    /// An axis of operations per second from 0.
    pub fn throughput(high: f64) -> Self {
        let (unit, divisor) = match high {
            high if 2e6 <= high => ("million ops/s", 1e6),
            high if 2e3 <= high => ("thousand ops/s", 1e3),
            _ => ("ops/s", 1.0),
        };
        // A little air above the highest point, for its marker and interval.
        let high = if 0.0 < high && high.is_finite() { high * 1.08 } else { 1.0 };
        let step = round_step(high / 5.0);
        let ticks = (0..).map(|index| f64::from(index) * step).take_while(|value| *value <= high);
        let ticks = ticks.map(|value| (value, number(value / divisor))).collect();
        Self { title: format!("throughput ({unit})"), scale: Scale::Linear, low: 0.0, high, ticks }
    }

    /// A logarithmic axis of microseconds that holds all these values.
    pub fn latency(title: String, values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.filter(|value| 0.0 < *value && value.is_finite()).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(0.0, f64::max);
        let (low, high) = if values.is_empty() { (10.0, 1000.0) } else { (low / 1.25, high * 1.25) };
        // At least a factor of five, or a hair's difference would look like a cliff.
        let spread = (5.0 / (high / low)).max(1.0).sqrt();
        let (low, high) = (low / spread, high * spread);
        let leading: &[f64] = match (high / low).log10() {
            decades if decades < 1.2 => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
            decades if decades < 2.5 => &[1.0, 2.0, 5.0],
            decades if decades < 4.0 => &[1.0, 3.0],
            _ => &[1.0],
        };
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let ticks = decades.flat_map(|decade| leading.iter().map(move |leading| leading * 10f64.powi(decade)));
        let ticks = ticks.filter(|value| (low..=high).contains(value)).map(|value| (value, duration(value))).collect();
        Self { title, scale: Scale::Logarithmic, low, high, ticks }
    }

    /// An axis of percentiles from 50 % to 99.99 %.
    pub fn percentiles() -> Self {
        let ticks = [50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99];
        let ticks = ticks.map(|value| (value, format!("{value}%"))).to_vec();
        Self { title: logarithmic("percentile of requests"), scale: Scale::Nines, low: 50.0, high: 99.99, ticks }
    }

    /// An axis of exactly these values, rising: by their logarithms where they span a wide range.
    pub fn of_values(title: &str, values: &[(f64, String)]) -> Self {
        let low = values.first().map_or(0.0, |(value, _)| *value);
        let high = values.last().map_or(1.0, |(value, _)| *value);
        let ticks = values.to_vec();
        let title = title.to_owned();
        if 0.0 < low && 8.0 * low <= high {
            let margin = (high / low).powf(0.05);
            let title = logarithmic(&title);
            return Self { title, scale: Scale::Logarithmic, low: low / margin, high: high * margin, ticks };
        }
        let margin = if low < high { (high - low) * 0.06 } else { low.abs().max(1.0) / 2.0 };
        Self { title, scale: Scale::Linear, low: low - margin, high: high + margin, ticks }
    }

    /// Removes labels that would touch the one before them on an axis of this many pixels.
    pub fn thin_out(&mut self, pixels: f64) {
        let mut free_from = f64::NEG_INFINITY;
        let positions: Vec<Option<f64>> = self.ticks.iter().map(|(value, _)| self.position(*value)).collect();
        for (tick, position) in self.ticks.iter_mut().zip(positions) {
            let half = super::text_width(&tick.1, super::SMALL) / 2.0;
            let center = position.unwrap_or(0.0) * pixels;
            match center - half < free_from {
                true => tick.1.clear(),
                false => free_from = center + half + super::SMALL * 0.6,
            }
        }
    }
}

/// Says in an axis's title that its scale is logarithmic, beside the unit where there is one.
fn logarithmic(title: &str) -> String {
    match title.strip_suffix(')') {
        Some(title) => format!("{title}, log scale)"),
        None => format!("{title} (log scale)"),
    }
}

/// Returns the nearest of 1, 2, 2.5, 5 and 10 times a power of ten, from above.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let leading = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|leading| least <= leading * power * 1.000_001);
    leading.unwrap_or(10.0) * power
}

/// Writes a number with as many digits as it needs, and no more than three after the point.
fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Writes microseconds in the unit that keeps them short.
pub fn duration(us: f64) -> String {
    let digits = |value: f64| match value {
        value if 99.5 <= value => format!("{value:.0}"),
        value => number((value * 10f64.powi(2)).round() / 10f64.powi(2)),
    };
    match us {
        us if 999_500.0 <= us => format!("{} s", digits(us / 1e6)),
        us if 999.5 <= us => format!("{} ms", digits(us / 1e3)),
        us => format!("{} µs", digits(us)),
    }
}

/// Writes a number without a fraction, in groups of three digits.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if 0 < index && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_short() {
        for (us, text) in [
            (0.5, "0.5 µs"),
            (85.0, "85 µs"),
            (999.4, "999 µs"),
            (999.6, "1 ms"),
            (1234.0, "1.23 ms"),
            (20_000.0, "20 ms"),
            (999_400.0, "999 ms"),
            (1_500_000.0, "1.5 s"),
        ] {
            assert_eq!(duration(us), text);
        }
        for (least, step) in [(0.9, 1.0), (1.1, 2.0), (2.1, 2.5), (26_000.0, 50_000.0), (1.0, 1.0)] {
            assert!((round_step(least) / step - 1.0).abs() < 1e-9, "{least}: {}", round_step(least));
        }
    }

    /// Every nine takes the same room.
    #[test]
    fn nines_are_evenly_spaced() {
        let axis = Axis::percentiles();
        let [ninety, two, three, four] = [90.0, 99.0, 99.9, 99.99].map(|value| axis.position(value).unwrap());
        assert!((two - ninety - (three - two)).abs() < 1e-9 && (three - two - (four - three)).abs() < 1e-6);
        assert_eq!(axis.position(100.0), None, "the slowest request of all has no place on it");
    }

    /// A logarithmic axis says so; a linear one does not.
    #[test]
    fn log_axes_say_so() {
        let axis = |title, high: u32| {
            Axis::of_values(title, &[1, high].map(|value| (f64::from(value), value.to_string()))).title
        };
        assert_eq!(axis("concurrency (connections)", 256), "concurrency (connections, log scale)");
        assert_eq!(axis("servers", 64), "servers (log scale)");
        assert_eq!(axis("servers", 3), "servers");
        assert_eq!(Axis::percentiles().title, "percentile of requests (log scale)");
    }

    #[test]
    fn numbers_are_grouped() {
        for (value, text) in [(0.4, "0"), (999.0, "999"), (1000.0, "1,000"), (-1234567.0, "-1,234,567")] {
            assert_eq!(grouped(value), text);
        }
    }

    /// Labels that remain do not touch.
    #[test]
    fn labels_keep_their_distance() {
        let values: Vec<(f64, String)> = (1..=200).map(|value| (f64::from(value), value.to_string())).collect();
        let mut axis = Axis::of_values("x", &values);
        axis.thin_out(300.0);
        let shown: Vec<f64> = axis.ticks.iter().filter(|tick| !tick.1.is_empty()).map(|tick| tick.0).collect();
        assert!(3 < shown.len() && shown.len() < 40, "{shown:?}");
    }

    proptest! {
        /// Every value stands within the axis made for it, and some ticks are named.
        #[test]
        fn values_stand_within_their_axis(values in prop::collection::vec(1e-3..1e9f64, 1..20)) {
            let axis = Axis::latency("p99".to_owned(), values.iter().copied());
            let highest = values.iter().copied().fold(0.0, f64::max);
            let throughput = Axis::throughput(highest);
            for value in &values {
                prop_assert!((0.0..=1.0).contains(&axis.position(*value).unwrap()));
                prop_assert!((0.0..=1.0).contains(&throughput.position(*value).unwrap()));
            }
            prop_assert!(!axis.ticks.is_empty());
            prop_assert!((2..=12).contains(&throughput.ticks.len()), "{:?}", throughput.ticks);
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            sorted.dedup();
            let axis = Axis::of_values("x", &sorted.iter().map(|value| (*value, String::new())).collect::<Vec<_>>());
            prop_assert!(sorted.iter().all(|value| (0.0..=1.0).contains(&axis.position(*value).unwrap())));
        }
    }
}
