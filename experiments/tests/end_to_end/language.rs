//! The language of doc comments: their first sentence names the item, or says what it returns or does.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Words that no first sentence opens with: the reader would have to decode it before its subject is found.
const OPENINGS: [&str; 12] =
    ["What", "Whatever", "Whether", "How", "When", "Where", "Who", "Whoever", "Whom", "Whose", "Which", "As"];

/// No first sentence of a doc comment has to be decoded.
#[test]
fn doc_comments_begin_with_their_subject() {
    let root = fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).expect("the workspace");
    let mut files = Vec::new();
    walk(&root, &mut files);
    assert!(200 < files.len(), "only {} files were found", files.len());
    let mut mistakes = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        let found = decoded(&text);
        mistakes.extend(found.iter().map(|(line, text)| format!("{}:{line}: {text}", file.display())));
    }
    assert!(mistakes.is_empty(), "begin with the subject, or with a verb:\n{}", mistakes.join("\n"));
}

/// First lines of comments are looked at, wherever they stand, and no others.
#[test]
fn first_sentences_are_found() {
    let text = "//! What it is.\n\n/// The size.\n/// What follows does not open a comment.\nfn a() {}\n    /// … and more.\n\
                // What is no doc comment.\n/// Asks.\nfn b() {}\n/// As [`a`].\n//// What\n/// When.\n//! How.\n";
    let lines: Vec<_> = decoded(text).into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, [1, 6, 10, 12, 13]);
}

/// Returns the first lines of doc comments that have to be decoded, each with its number.
fn decoded(text: &str) -> Vec<(usize, &str)> {
    let (mut found, mut previous) = (Vec::new(), None);
    for (number, line) in (1..).zip(text.lines().map(str::trim_start)) {
        let marker = ["//!", "///"].into_iter().find(|marker| line.starts_with(marker) && !line.starts_with("////"));
        if let Some(marker) = marker.filter(|marker| previous != Some(*marker)) {
            let sentence = line[marker.len()..].trim_start();
            let first = sentence.split(|char: char| !char.is_alphanumeric()).next().unwrap_or_default();
            if OPENINGS.contains(&first) || sentence.starts_with(['…', '.']) {
                found.push((number, line));
            }
        }
        previous = marker;
    }
    found
}

/// Adds the files of Rust code below a folder.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                walk(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
