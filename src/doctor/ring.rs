//! Why io_uring can't be had: an old kernel, a sysctl, seccomp or too little lockable memory, each told apart.

use std::io;

/// The oldest kernel that has what the ring needs (DEFER_TASKRUN, multishot receive into a ring of buffers).
const KERNEL_MIN: (u32, u32) = (6, 1);

// The numbers of errno(3) on the processors that Linux runs servers on.
const EPERM: i32 = 1;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const ENOSYS: i32 = 38;

/// Facts about this machine when io_uring was refused.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The error's number.
    pub code: i32,
    /// `uname -r`.
    pub kernel: String,
    /// `kernel.io_uring_disabled`, where the kernel has it.
    pub sysctl: Option<String>,
    /// `Seccomp:` of /proc/self/status: 0 off, 2 filtered.
    pub seccomp: Option<String>,
    /// The limit of locked memory in bytes; `None` where there is none.
    pub memlock: Option<u64>,
}

/// The cause of a refusal, and the way out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cause {
    /// The cause.
    pub reason: String,
    /// The fix.
    pub fix: String,
}

impl Cause {
    fn new(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { reason: reason.into(), fix: fix.into() }
    }

    /// Both in a line.
    pub fn line(&self) -> String {
        format!("{}: {}", self.reason, self.fix)
    }
}

/// The version's first two numbers.
fn version(kernel: &str) -> Option<(u32, u32)> {
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Says so where the kernel is too old; `None` where it is new enough, or does not say what it is.
pub fn too_old(kernel: &str) -> Option<Cause> {
    version(kernel).filter(|&version| version < KERNEL_MIN).map(|_| {
        let (major, minor) = KERNEL_MIN;
        let fix = format!("Trine needs Linux {major}.{minor} or newer for io_uring; update the kernel");
        Cause::new(format!("kernel {kernel} is too old"), fix)
    })
}

/// Says what the facts amount to.
pub fn diagnose(facts: &Facts) -> Cause {
    if let Some(cause) = too_old(&facts.kernel) {
        return cause;
    }
    let error = io::Error::from_raw_os_error(facts.code);
    let is_refusal = facts.code == EPERM || facts.code == EACCES;
    match facts.sysctl.as_deref() {
        Some("2") if is_refusal => Cause::new(
            "io_uring is switched off on this host (kernel.io_uring_disabled = 2)",
            "sysctl -w kernel.io_uring_disabled=0",
        ),
        Some("1") if is_refusal => Cause::new(
            "io_uring is kept for privileged processes (kernel.io_uring_disabled = 1)",
            "sysctl -w kernel.io_uring_disabled=0, or put this user's group into kernel.io_uring_group",
        ),
        _ if (is_refusal || facts.code == ENOSYS) && facts.seccomp.as_deref() == Some("2") => Cause::new(
            format!("io_uring is filtered by seccomp ({error}), as container engines do by default"),
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile",
        ),
        _ if facts.code == ENOMEM => {
            let limit = facts.memlock.map_or("unlimited".into(), |bytes| format!("{} KiB", bytes / 1024));
            let reason = format!("io_uring gets no memory: the limit of locked memory is {limit}");
            Cause::new(reason, "raise it (ulimit -l unlimited)")
        }
        _ if facts.code == ENOSYS => {
            Cause::new(format!("kernel {} has no io_uring (CONFIG_IO_URING)", facts.kernel), "use one that has")
        }
        _ => Cause::new(
            format!("io_uring can't be had on kernel {}", facts.kernel),
            format!("{error}; `strace -e io_uring_setup trine serve` shows what was refused"),
        ),
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
            (facts(22, "5.15.0-91-generic", None, "0"), "5.15.0-91-generic is too old"),
            (facts(ENOSYS, "4.19.0", None, "0"), "too old"),
            (facts(EPERM, "6.8.0", Some("2"), "0"), "io_uring_disabled = 2"),
            (facts(EPERM, "6.8.0", Some("1"), "0"), "io_uring_group"),
            (facts(EPERM, "6.8.0", Some("0"), "2"), "seccomp"),
            (facts(ENOSYS, "6.8.0", Some("0"), "2"), "seccomp"),
            (facts(ENOMEM, "6.1.0", None, "0"), "locked memory is 64 KiB"),
            (facts(ENOSYS, "6.1.0", None, "0"), "CONFIG_IO_URING"),
        ] {
            let line = diagnose(&facts).line();
            assert!(line.contains(says), "{facts:?}: {line}");
            assert!(!line.contains('\n'), "one line: {line}");
        }
    }
}
