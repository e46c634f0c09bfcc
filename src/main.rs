//! The binary `trine`.
fn main() {}
