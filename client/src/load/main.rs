//! The load generator `trine-load`.
fn main() {}
