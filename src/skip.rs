//! Tests that skip: one function for all packages, which compile this file into their tests.

/// Reports that a test, or a part of it, skips for want of something that `.ci/run` installs. With `TRINE_REQUIRE_ALL=1`, as
/// `.ci/run` sets it, the test fails instead: there a skip would hide that something is not tested.
#[track_caller]
pub(crate) fn skip(missing: &str) {
    let is_required = std::env::var_os("TRINE_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!is_required, "TRINE_REQUIRE_ALL=1, and {missing}");
    eprintln!("SKIPPED: {missing}");
}
