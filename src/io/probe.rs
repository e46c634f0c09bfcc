//! Whether io_uring can be had, and what is known of the machine where it can't; [`crate::doctor::ring`] says why.

use super::ring::Ring;
use crate::doctor::ring::{Cause, Facts, diagnose, too_old};
use std::fs;

/// Tries to make a ring and gives the reason in one line where that fails.
///
/// # Errors
/// The line: what is in the way, and what to do.
pub fn check(kernel: &str) -> Result<(), String> {
    match refusal(kernel) {
        Some(facts) => Err(diagnose(&facts).line()),
        None => too_old(kernel).as_ref().map(Cause::line).map_or(Ok(()), Err),
    }
}

/// Tries to make a ring, and gathers what there is to know where that fails.
pub fn refusal(kernel: &str) -> Option<Facts> {
    let error = Ring::probe().err()?;
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok().map(|text| text.trim().to_owned());
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    let memlock = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let code = error.raw_os_error().unwrap_or_default();
    Some(Facts { code, kernel: kernel.to_owned(), sysctl, seccomp: field("Seccomp:"), memlock })
}
