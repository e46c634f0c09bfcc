//! Tells the compiler which commit it compiles, for `--version`, INFO and the results of experiments: `TRINE_COMMIT` where that
//! is set, for builds without a repository such as an image's; else what git says of this folder; else nothing is known.

use std::path::Path;
use std::process::Command;

/// The program's sources: changes elsewhere do not make it dirty.
const SOURCES: [&str; 4] = ["src", "build.rs", "Cargo.toml", "Cargo.lock"];
/// The number of digits of a commit's hash, enough to tell commits apart for good.
const DIGITS: usize = 12;

fn main() {
    println!("cargo::rerun-if-env-changed=TRINE_COMMIT");
    let commit = given().or_else(of_repository).unwrap_or_default();
    let (hash, is_dirty) = match commit.strip_suffix("-dirty") {
        Some(hash) => (hash, true),
        None => (commit.as_str(), false),
    };
    let hash = if hash.is_empty() { "unknown" } else { &hash[..hash.len().min(DIGITS)] };
    let dirty = if is_dirty { ", with local changes" } else { "" };
    println!("cargo::rustc-env=TRINE_BUILT_COMMIT={hash}");
    println!("cargo::rustc-env=TRINE_BUILT_DIRTY={}", u8::from(is_dirty));
    println!("cargo::rustc-env=TRINE_BUILT_VERSION={} (commit {hash}{dirty})", env!("CARGO_PKG_VERSION"));
}

/// The commit that whoever builds has named: its digits, with `-dirty` behind them where files differ from it.
fn given() -> Option<String> {
    let given = std::env::var("TRINE_COMMIT").ok().filter(|given| !given.is_empty())?;
    let digits = given.strip_suffix("-dirty").unwrap_or(&given);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        println!(
            "cargo::warning=TRINE_COMMIT is no commit (hexadecimal digits, and -dirty where files differ): left out"
        );
        return None;
    }
    Some(given)
}

/// The commit that is checked out here, where this folder is a repository of its own and not merely inside one.
fn of_repository() -> Option<String> {
    let here = env!("CARGO_MANIFEST_DIR");
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&top).canonicalize().ok()? != Path::new(here).canonicalize().ok()? {
        return None;
    }
    // One of these changes with every commit and every checkout. A file that is not there would run this every time.
    let heads = ["logs/HEAD", "HEAD"].into_iter().filter_map(|name| git(&["rev-parse", "--git-path", name]));
    let mut heads = heads.map(|path| Path::new(here).join(path)).filter(|path| path.is_file());
    println!("cargo::rerun-if-changed={}", heads.next()?.display());
    SOURCES.iter().for_each(|source| println!("cargo::rerun-if-changed={source}"));
    let commit = git(&["rev-parse", "HEAD"])?;
    let changes = git(&[&["status", "--porcelain", "--"][..], &SOURCES].concat())?;
    Some(if changes.is_empty() { commit } else { format!("{commit}-dirty") })
}

/// Returns git's output, if there is a git and it has no complaint.
fn git(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // Looking must not write: another git may be at work here.
    command.args(["--no-optional-locks"]).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
