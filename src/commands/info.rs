//! INFO.

/// Bytes as Redis writes them for people: `512B`, `1.50K`, `3.00M`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["K", "M", "G", "T"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let power = (bytes.ilog2() / 10).min(UNITS.len() as u32);
    format!("{:.2}{}", bytes as f64 / f64::from(1 << 10).powi(power as i32), UNITS[power as usize - 1])
}

/// A quotient with two decimals, 0 where there is nothing to divide by.
pub fn ratio(dividend: u64, divisor: u64) -> String {
    format!("{:.2}", if divisor == 0 { 0.0 } else { dividend as f64 / divisor as f64 })
}
