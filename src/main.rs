//! The binary `trine`.

use std::process::ExitCode;

/// A heap per thread, as there is a shard per thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    trine::io::cli::run(trine::io::server::run)
}
