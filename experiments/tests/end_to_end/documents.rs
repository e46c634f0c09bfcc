//! The pages keep their promises: their commands, flags, files and links work; and the workspace is built once.

use crate::harness::program;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The programs of the workspace, with the packages that cargo knows them by.
const PROGRAMS: [(&str, &str); 3] = [("trine", "trine"), ("trine-load", "trine-client"), ("trine-lab", "trine-lab")];

/// Programs of others that the pages use. What is not here, and no file of the repository, is a mistake.
const OTHERS: [&str; 13] = [
    "$EDITOR",
    "ansible-playbook",
    "apt-get",
    "bash",
    "cd",
    "curl",
    "docker",
    "git",
    "redis-benchmark",
    "redis-cli",
    "source",
    "sudo",
    "xdg-open",
];

/// Folders that the commands make.
const MADE: [&str; 3] = ["target", "results", "data"];

fn root() -> PathBuf {
    fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).expect("the workspace")
}

/// All pages of the repository, as far as git or a copy of it has them.
fn pages() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if !name.starts_with('.') && !MADE.contains(&name.as_ref()) {
                    walk(&path, found);
                }
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.sort();
    assert!(found.contains(&root().join("README.md")) && 8 <= found.len(), "{found:?}");
    found
}

/// A page's lines outside of blocks of code, and those within blocks that are for a shell.
fn parts(page: &str) -> (Vec<&str>, Vec<Vec<&str>>) {
    let (mut text, mut blocks, mut kind) = (Vec::new(), Vec::new(), None);
    for line in page.lines() {
        match (line.trim_start().strip_prefix("```"), kind) {
            (Some(_), Some(_)) => kind = None,
            (Some(name), None) => {
                kind = Some(name);
                if name == "sh" {
                    blocks.push(Vec::new());
                }
            }
            (None, None) => text.push(line),
            (None, Some("sh")) => blocks.last_mut().expect("it has begun").push(line),
            (None, Some(_)) => {}
        }
    }
    assert_eq!(kind, None, "a block of code has no end");
    (text, blocks)
}

/// The commands of a line: what stands between `|`, `&&` and `;`, as words. A comment has none.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut lexer = shlex::Shlex::new(line);
    let mut commands = vec![Vec::new()];
    for word in lexer.by_ref() {
        match word.as_str() {
            "|" | "&&" | ";" => commands.push(Vec::new()),
            _ => commands.last_mut().expect("there is one").push(word),
        }
    }
    assert!(!lexer.had_error, "a shell would not take: {line}");
    commands.retain(|words| !words.is_empty());
    commands
}

/// Says what is wrong with a command, in the folder that `cd` has led to.
fn check(mut words: &[String], folder: &mut PathBuf) -> Result<(), String> {
    // Variables in front of a command, and `>` with its file behind it.
    while words.first().is_some_and(|word| word.split_once('=').is_some_and(|(name, _)| is_variable(name))) {
        words = &words[1..];
    }
    let end = words.iter().position(|word| word.starts_with('>')).unwrap_or(words.len());
    let Some((first, arguments)) = words[..end].split_first() else { return Ok(()) };
    if first == "sudo" {
        return check(arguments, folder);
    }
    let name = first.strip_prefix("target/release/").unwrap_or(first);
    if PROGRAMS.iter().any(|(program, _)| *program == name) {
        return parses(name, arguments).and_then(|()| files_exist(arguments, folder));
    }
    match name {
        "cargo" => cargo(arguments, folder),
        "cd" => {
            *folder = folder.join(arguments.first().ok_or("cd to where?")?);
            if folder.is_dir() { Ok(()) } else { Err(format!("there is no folder {}", folder.display())) }
        }
        name if OTHERS.contains(&name) => files_exist(arguments, folder),
        name if folder.join(name).is_file() => files_exist(arguments, folder),
        name => Err(format!("nobody knows the program {name}")),
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// Checks that one of our programs takes these arguments. It is asked for help behind them, which it gives where it had nothing
/// to complain of before.
fn parses(name: &str, arguments: &[String]) -> Result<(), String> {
    let behind = arguments.iter().position(|word| word == "--").unwrap_or(arguments.len());
    let (own, passed) = arguments.split_at(behind);
    let output = Command::new(program(name))
        .args(own)
        .arg("--help")
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    match passed.split_first() {
        // `trine up -- --durability interval`: settings of a server.
        Some((_, settings)) => parses(name, &[&["serve".to_owned()], settings].concat()),
        None => Ok(()),
    }
}

/// A command of cargo: packages, binaries, tests and paths are there; what it runs takes what stands behind `--`.
fn cargo(arguments: &[String], folder: &Path) -> Result<(), String> {
    let behind = arguments.iter().position(|word| word == "--").unwrap_or(arguments.len());
    let (own, passed) = arguments.split_at(behind);
    let passed = passed.get(1..).unwrap_or_default();
    let own: Vec<&str> = own.iter().map(String::as_str).filter(|word| !word.starts_with('+')).collect();
    let value = |flag: &str| own.iter().position(|word| *word == flag).and_then(|at| own.get(at + 1)).copied();
    let [subcommand, rest @ ..] = own.as_slice() else { return Err("cargo what?".into()) };
    const FLAGS: [&str; 12] = [
        "--release",
        "--workspace",
        "--locked",
        "--all",
        "--check",
        "--all-targets",
        "--no-default-features",
        "--lib",
        "-p",
        "--test",
        "--path",
        "--profile",
    ];
    if let Some(flag) = rest.iter().find(|word| word.starts_with('-') && !FLAGS.contains(word)) {
        return Err(format!("cargo {subcommand} {flag}: teach this test what that is"));
    }
    if let Some(package) = value("-p").filter(|package| PROGRAMS.iter().all(|(_, known)| known != package)) {
        return Err(format!("there is no package {package}"));
    }
    if let Some(path) = value("--path").filter(|path| !folder.join(path).join("Cargo.toml").is_file()) {
        return Err(format!("there is no package in {path}"));
    }
    match *subcommand {
        "run" => {
            let package = value("-p").unwrap_or("trine");
            let (name, _) = PROGRAMS.iter().find(|(_, known)| *known == package).expect("it was looked for");
            parses(name, passed)
        }
        "build" | "test" | "install" | "fmt" | "clippy" | "miri" | "fuzz" => Ok(()),
        other => Err(format!("cargo has no {other}")),
    }
}

/// Checks that words that name files of the repository name some that are there.
fn files_exist(words: &[String], folder: &Path) -> Result<(), String> {
    for word in words {
        let path = word.rsplit_once('=').map_or(word.as_str(), |(_, value)| value);
        let is_pattern = path.contains(['*', '$', ':', '<', '{', '/', '%']) && !is_ours(path, folder);
        let is_file = ["toml", "yml", "yaml", "json"].iter().any(|kind| path.ends_with(&format!(".{kind}")));
        if is_pattern || !(is_file || is_ours(path, folder)) {
            continue;
        }
        if !folder.join(path).exists() {
            return Err(format!("there is no file {path}"));
        }
    }
    Ok(())
}

/// Returns true if a word is a path into the repository: into a folder that is there and is not made by a command.
fn is_ours(path: &str, folder: &Path) -> bool {
    let mut parts = path.split('/').skip_while(|part| *part == "..");
    let first = parts.next().unwrap_or_default();
    let up = path.split('/').take_while(|part| *part == "..").count();
    let base = (0..up).fold(folder.to_owned(), |folder, _| folder.join(".."));
    parts.next().is_some()
        && !path.contains(['*', '$'])
        && !MADE.contains(&first)
        && !first.is_empty()
        && base.join(first).is_dir()
}

/// Every command of every page works as it stands, as far as can be told without running it: the program is there and takes the
/// flags, the files are there.
#[test]
fn the_commands_of_all_pages_are_taken() {
    let mut mistakes = Vec::new();
    let mut count = 0;
    for path in pages() {
        let page = fs::read_to_string(&path).expect("a page");
        let (text, blocks) = parts(&page);
        let shown = path.strip_prefix(root()).expect("it is within").display().to_string();
        for block in blocks {
            let mut folder = root();
            for line in block {
                for words in commands(line) {
                    count += 1;
                    if let Err(mistake) = check(&words, &mut folder) {
                        mistakes.push(format!("{shown}: {line}\n    {mistake}"));
                    }
                }
            }
        }
        for span in text.join("\n").split('`').skip(1).step_by(2) {
            let span = span.replace('\n', " ");
            // Names in capitals and dots stand for something else.
            let is_whole = !span.contains(['…', '<', '(']) && !span.contains("...");
            let is_command = PROGRAMS.iter().any(|(name, _)| span.starts_with(&format!("{name} ")))
                || span.starts_with("target/release/")
                || span.starts_with("cargo ");
            if !is_command || !is_whole {
                continue;
            }
            for words in commands(&span) {
                count += 1;
                if let Err(mistake) = check(&words, &mut root()) {
                    mistakes.push(format!("{shown}: `{span}`\n    {mistake}"));
                }
            }
        }
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    assert!(50 <= count, "only {count} commands were found");
}

/// A heading as GitHub makes an anchor of it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter));
    kept.collect::<String>().replace(' ', "-")
}

/// Every relative link of every page leads to a file, and to a heading in it where it names one.
#[test]
fn the_links_of_all_pages_lead_somewhere() {
    let (mut mistakes, mut count) = (Vec::new(), 0);
    for path in pages() {
        let page = fs::read_to_string(&path).expect("a page");
        let (text, _) = parts(&page);
        for link in text.join("\n").split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http://") || link.starts_with("https://") {
                continue;
            }
            count += 1;
            let (file, heading) = link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
            let target = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            let has_heading = |heading: &str| {
                let page = fs::read_to_string(&target).unwrap_or_default();
                page.lines().any(|line| line.starts_with('#') && anchor(line.trim_start_matches('#')) == heading)
            };
            if !target.exists() || heading.is_some_and(|heading| !has_heading(heading)) {
                mistakes.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    assert!(20 <= count, "only {count} links were found");
}

/// Dependencies have the same features whatever package is selected, and whether programs or tests are built, so that nothing is
/// built twice: `cargo install --path .` uses what `cargo build --workspace` has built, and `cargo test -p trine` what
/// `cargo test --workspace` has. If this fails, ask for the missing features in the Cargo.toml of the package, beside those that are
/// "not used here".
#[test]
fn features_do_not_depend_on_what_is_built() {
    let features = |selection: &[&str], edges: &str| -> BTreeSet<String> {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--prefix", "none", "--no-dedupe", "--format", "{p} [{f}]", "--edges", edges])
            .args(selection)
            .current_dir(root())
            .output()
            .expect("cargo starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().filter(|line| line.contains('[')).map(str::to_owned).collect()
    };
    const TESTS: &str = "normal,build,dev";
    let all = features(&["--workspace"], TESTS);
    let packages = PROGRAMS.map(|(_, package)| vec!["--package", package]);
    for selection in packages.into_iter().chain([vec!["--workspace"]]) {
        for edges in ["normal,build", TESTS] {
            let own = features(&selection, edges);
            let missing: Vec<_> = own.difference(&all).collect();
            assert!(50 < own.len() && missing.is_empty(), "{selection:?} ({edges}), unlike all tests: {missing:#?}");
        }
    }
}
