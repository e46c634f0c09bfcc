//! The experiment harness `trine-lab`.
fn main() {}
