//! The binary `trine`.

use std::process::ExitCode;

/// A heap per thread, as there is a shard per thread.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before much memory has been touched; --huge-pages allows them again.
    trine::io::server::allow_huge_pages(false);
    trine::io::cli::run(trine::io::server::run)
}
