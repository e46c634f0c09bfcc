//! The binary `trine`.

use std::process::ExitCode;

/// A heap per thread, as there is a shard per thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before much memory has been touched; a shard that has grown takes it back.
    trine::io::server::allow_huge_pages(false);
    trine::io::cli::run(trine::io::server::run)
}
