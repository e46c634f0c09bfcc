//! Quantities as people write them.

use std::time::Duration;

/// Reads `500us`, `20ms`, `1.5s`, `2m`; a number alone is in seconds.
///
/// # Errors
/// The forms that there are.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    const FORMS: &str = "a duration is a number and ns, us, ms, s or m, as in 500ms";
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..split].parse().map_err(|_| FORMS)?;
    let unit = match &text[split..] {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        _ => return Err(FORMS.into()),
    };
    Duration::try_from_secs_f64(number * unit).ok().filter(|d| d.as_secs() < 1 << 24).ok_or_else(|| FORMS.into())
}

/// Returns a time in a unit that fits: `85.3 µs`, `12.40 ms`, `1.48 s`.
pub(crate) fn time(ns: f64) -> String {
    match ns {
        ..999_950.0 => format!("{:.1} µs", ns / 1e3),
        ..999_995_000.0 => format!("{:.2} ms", ns / 1e6),
        _ => format!("{:.2} s", ns / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Durations have units.
    #[test]
    fn durations_have_units() {
        for (text, nanos) in
            [("500us", 500_000), ("1.5ms", 1_500_000), ("2", 2_000_000_000), ("1m", 60_000_000_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text).map(|duration| duration.as_nanos()), Ok(nanos), "{text}");
        }
        for text in ["", "s", "1h", "-1s", "1 s"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    /// Times have a unit that fits.
    #[test]
    fn times_have_a_unit_that_fits() {
        for (ns, expected) in [
            (850.0, "0.8 µs"),
            (85_300.0, "85.3 µs"),
            (999_960.0, "1.00 ms"),
            (12_400_000.0, "12.40 ms"),
            (1_475_346_400.0, "1.48 s"),
        ] {
            assert_eq!(time(ns), expected, "{ns}");
        }
    }
}
