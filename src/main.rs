//! The binary `trine`.

use std::process::ExitCode;

fn main() -> ExitCode {
    trine::io::cli::run(|_config| Err("the server is not there yet".into()))
}
