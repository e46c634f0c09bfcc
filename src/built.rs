//! The commit and version that this program was built from; `build.rs` finds out.

/// The first digits of the commit; "unknown" where neither git nor `TRINE_COMMIT` told the build.
pub const COMMIT: &str = env!("TRINE_BUILT_COMMIT");

/// True if the sources differed from that commit.
pub const IS_DIRTY: bool = matches!(env!("TRINE_BUILT_DIRTY").as_bytes(), b"1");

/// The version with the commit, as `--version` prints it: `0.1.0 (commit 0123456789ab, with local changes)`.
pub const VERSION: &str = env!("TRINE_BUILT_VERSION");

/// The version of Redis whose commands these are. Clients and test suites choose what they do by it.
pub const REDIS_VERSION: &str = "7.2.4";

/// The commit as INFO tells it: zeros where it is unknown, as Redis does.
pub fn git_sha1() -> &'static str {
    if COMMIT == "unknown" { "00000000" } else { COMMIT }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The version has the commit, and says so where the sources differ from it.
    #[test]
    fn the_version_has_the_commit() {
        let dirty = if IS_DIRTY { ", with local changes" } else { "" };
        assert_eq!(VERSION, format!("{} (commit {COMMIT}{dirty})", env!("CARGO_PKG_VERSION")));
        assert!(COMMIT == "unknown" || COMMIT.bytes().all(|digit| digit.is_ascii_hexdigit()), "{COMMIT}");
        assert!(git_sha1().bytes().all(|digit| digit.is_ascii_hexdigit()), "INFO has digits alone");
    }
}
