//! Probe of io_uring, and facts about the machine if it can't be had; [`crate::doctor::ring`] says why.

use super::ring::Ring;
use crate::doctor::ring::{Cause, Facts, diagnose, too_old};
use std::{fs, io};

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

/// Returns advice for a core that has failed. One ring was to be had, but each core has some, and so have the other processes
/// and containers of the same user: they all count against one limit.
pub fn way_out(error: &io::Error) -> String {
    // glommio gives text alone, the second one where it looks at the limit by itself.
    let says = |text: &str| error.to_string().contains(text);
    let is_memory = error.raw_os_error() == Some(libc::ENOMEM) || says("(os error 12)") || says("MemLockLimit");
    match rustix::process::getrlimit(rustix::process::Resource::Memlock).current {
        Some(bytes) if is_memory => format!(
            "; perhaps io_uring gets no more: locked memory is limited to {} KiB for all processes of this user, in whichever \
             container; raise it (ulimit -l unlimited, ulimits: memlock: -1), or use fewer cores",
            bytes / 1024
        ),
        _ => String::new(),
    }
}
