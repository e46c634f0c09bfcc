//! Why io_uring can't be had: an old kernel, a sysctl, seccomp or too little lockable memory, each told apart.

use super::ring::Ring;
use std::{fs, io};

/// The oldest kernel that has what the ring needs (DEFER_TASKRUN, multishot receive into a ring of buffers).
const KERNEL_MIN: (u32, u32) = (6, 1);

/// What is known of this machine when io_uring was refused.
#[derive(Clone, Debug, Default)]
struct Facts {
    /// The error's number.
    code: i32,
    /// `uname -r`.
    kernel: String,
    /// `kernel.io_uring_disabled`, where the kernel has it.
    sysctl: Option<String>,
    /// `Seccomp:` of /proc/self/status: 0 off, 2 filtered.
    seccomp: Option<String>,
    /// The limit of locked memory in bytes; `None` where there is none.
    memlock: Option<u64>,
}

/// Tries to make a ring and gives the reason in one line where that fails.
///
/// # Errors
/// The line: what is in the way, and what to do.
pub fn check(kernel: &str) -> Result<(), String> {
    let Err(error) = Ring::probe() else {
        return too_old(kernel).map_or(Ok(()), Err);
    };
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok().map(|text| text.trim().to_owned());
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    let memlock = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let seccomp = field("Seccomp:");
    Err(diagnose(&Facts { code: code_of(&error), kernel: kernel.to_owned(), sysctl, seccomp, memlock }))
}

/// What else to say where a core has failed. One ring was to be had, but each core has some, and so have the other processes and
/// containers of the same user: they all count against one limit.
pub fn way_out(error: &io::Error) -> String {
    let is_memory = error.raw_os_error() == Some(libc::ENOMEM) || error.to_string().contains("(os error 12)");
    match rustix::process::getrlimit(rustix::process::Resource::Memlock).current {
        Some(bytes) if is_memory => format!(
            "; perhaps io_uring gets no more: locked memory is limited to {} KiB for all processes of this user, in whichever \
             container; raise it (ulimit -l unlimited, ulimits: memlock: -1), or use fewer cores",
            bytes / 1024
        ),
        _ => String::new(),
    }
}

fn code_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or_default()
}

/// The version's first two numbers.
fn version(kernel: &str) -> Option<(u32, u32)> {
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn too_old(kernel: &str) -> Option<String> {
    version(kernel).filter(|&version| version < KERNEL_MIN).map(|_| {
        let (major, minor) = KERNEL_MIN;
        format!(
            "kernel {kernel} is too old: Trine needs Linux {major}.{minor} or newer for io_uring; update the kernel"
        )
    })
}

/// Says what the facts amount to.
fn diagnose(facts: &Facts) -> String {
    if let Some(line) = too_old(&facts.kernel) {
        return line;
    }
    let error = io::Error::from_raw_os_error(facts.code);
    let is_refusal = facts.code == libc::EPERM || facts.code == libc::EACCES;
    match facts.sysctl.as_deref() {
        Some("2") if is_refusal => {
            "io_uring is switched off on this host (kernel.io_uring_disabled = 2): sysctl -w kernel.io_uring_disabled=0"
                .into()
        }
        Some("1") if is_refusal => "io_uring is kept for privileged processes (kernel.io_uring_disabled = 1): \
             sysctl -w kernel.io_uring_disabled=0, or put this user's group into kernel.io_uring_group"
            .into(),
        _ if (is_refusal || facts.code == libc::ENOSYS) && facts.seccomp.as_deref() == Some("2") => format!(
            "io_uring is filtered by seccomp ({error}), as container engines do by default: allow io_uring_setup, \
             io_uring_enter and io_uring_register in the container's seccomp profile"
        ),
        _ if facts.code == libc::ENOMEM => {
            let limit = facts.memlock.map_or("unlimited".into(), |bytes| format!("{} KiB", bytes / 1024));
            format!("io_uring gets no memory: the limit of locked memory is {limit}; raise it (ulimit -l unlimited)")
        }
        _ if facts.code == libc::ENOSYS => {
            format!("kernel {} has no io_uring (CONFIG_IO_URING): use one that has", facts.kernel)
        }
        _ => format!("io_uring can't be had on kernel {}: {error}", facts.kernel),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each cause is told apart from the others.
    #[test]
    fn each_cause_has_its_own_line() {
        let facts = |code, kernel: &str, sysctl: Option<&str>, seccomp: &str| Facts {
            code,
            kernel: kernel.into(),
            sysctl: sysctl.map(Into::into),
            seccomp: Some(seccomp.into()),
            memlock: Some(64 * 1024),
        };
        for (facts, says) in [
            (facts(libc::EINVAL, "5.15.0-91-generic", None, "0"), "5.15.0-91-generic is too old"),
            (facts(libc::ENOSYS, "4.19.0", None, "0"), "too old"),
            (facts(libc::EPERM, "6.8.0", Some("2"), "0"), "io_uring_disabled = 2"),
            (facts(libc::EPERM, "6.8.0", Some("1"), "0"), "io_uring_group"),
            (facts(libc::EPERM, "6.8.0", Some("0"), "2"), "seccomp"),
            (facts(libc::ENOSYS, "6.8.0", Some("0"), "2"), "seccomp"),
            (facts(libc::ENOMEM, "6.1.0", None, "0"), "locked memory is 64 KiB"),
            (facts(libc::ENOSYS, "6.1.0", None, "0"), "CONFIG_IO_URING"),
        ] {
            let line = diagnose(&facts);
            assert!(line.contains(says), "{facts:?}: {line}");
            assert!(!line.contains('\n'), "one line: {line}");
        }
    }
}
