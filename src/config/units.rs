//! Sizes, switches and lists as people write them, and back. What is wrong with one is said in the words that CONFIG SET
//! has in Redis, where it has some.

use std::time::Duration;

/// Reads a size in bytes: `1048576`, `1mb`, `1MiB`. As in Redis `k`, `m` and `g` are powers of 1000 and `kb`, `mb` and
/// `gb` powers of 1024, as are `KiB`, `MiB` and `GiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let problem = || "argument must be a memory value, such as 100mb or 2GiB".to_owned();
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "kb" | "kib" => 1 << 10,
        "mb" | "mib" => 1 << 20,
        "gb" | "gib" => 1 << 30,
        _ => return Err(problem()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(problem)
}

/// Writes a number of bytes with the largest unit that divides it: `512 MiB`.
pub(super) fn size_for_people(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Reads a whole number within bounds.
pub(super) fn number<T>(text: &str, least: T, most: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    if text.trim().parse::<i128>().is_err() {
        return Err("argument couldn't be parsed into an integer".into());
    }
    let within = text.trim().parse().ok().filter(|number| (&least..=&most).contains(&number));
    within.ok_or_else(|| format!("argument must be between {least} and {most} inclusive"))
}

/// Reads a size within bounds, for what is counted in `usize`.
pub(super) fn size_within(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let bytes = usize::try_from(size(text)?).ok();
    bytes.filter(|bytes| (least..=most).contains(bytes)).ok_or_else(|| {
        let [least, most] = [least, most].map(|bytes| size_for_people(bytes as u64));
        format!("argument must be between {least} and {most} inclusive")
    })
}

/// Reads whole seconds, up to a year.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    number(text, 0, 31_536_000).map(Duration::from_secs)
}

/// Reads `yes` or `no`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err("argument must be 'yes' or 'no'".into()),
    }
}

/// Writes a switch as Redis does.
pub(super) fn yes_no(value: bool) -> String {
    if value { "yes".into() } else { "no".into() }
}

/// Reads a list of host names, each of which may be a pattern: in lower case, without the dot that may end one.
pub(super) fn hosts(text: &str) -> Result<Vec<String>, String> {
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_*?".contains(&b));
    let is_name = |name: &str| name.split('.').all(is_label);
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names = names.map(|name| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase());
    let problem =
        "argument must be host names, such as db.example.org or *.internal, without ports, and commas between them";
    names.map(|name| if is_name(&name) { Ok(name) } else { Err(problem.to_owned()) }).collect()
}

/// Reads a list of CPUs as the kernel and taskset write it: `0-3,6`. A CPU may come twice; then shards share it.
pub(super) fn cpus(text: &str) -> Result<Vec<usize>, String> {
    let problem = || format!("{text:?} is not a list of CPUs: write their numbers, such as 0-3,6");
    let cpu = |text: &str| text.trim().parse::<usize>().ok().filter(|&cpu| cpu < CPUS_MAX);
    let mut all = Vec::new();
    for range in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (cpu(first).ok_or_else(problem)?, cpu(last).ok_or_else(problem)?);
        if last < first {
            return Err(problem());
        }
        all.extend(first..=last);
    }
    Ok(all)
}

/// No kernel is built for more CPUs than this (`CONFIG_NR_CPUS`).
const CPUS_MAX: usize = 8192;

/// Writes a list of CPUs as `cpus` reads it.
pub fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
