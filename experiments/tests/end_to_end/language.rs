//! The language of doc comments: their first sentence names the item, or says what it returns or does.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Words that no first sentence opens with: the reader would have to decode it before its subject is found.
const OPENINGS: [&str; 12] =
    ["What", "Whatever", "Whether", "How", "When", "Where", "Who", "Whoever", "Whom", "Whose", "Which", "As"];

/// Modules (a file, a folder, or both) that still have such sentences. The list may only shrink.
const NOT_DONE: &[&str] = &["src/gateway", "src/io/directory", "src/io/server", "src/session", "src/shard"];

/// No first sentence of a doc comment has to be decoded. A module that has none left is taken off the list.
#[test]
fn doc_comments_begin_with_their_subject() {
    let root = fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).expect("the workspace");
    let mut files = Vec::new();
    walk(&root, &mut files);
    assert!(200 < files.len(), "only {} files were found", files.len());
    let (mut mistakes, mut left) = (Vec::new(), NOT_DONE.to_vec());
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        let path = file.strip_prefix(&root).expect("it is within").with_extension("");
        let found = decoded(&text);
        match NOT_DONE.iter().find(|module| path.starts_with(module)) {
            Some(module) if !found.is_empty() => left.retain(|other| other != module),
            Some(_) => {}
            None => mistakes.extend(found.iter().map(|(line, text)| format!("{}:{line}: {text}", file.display()))),
        }
    }
    assert!(mistakes.is_empty(), "begin with the subject, or with a verb:\n{}", mistakes.join("\n"));
    assert!(left.is_empty(), "these are done, take them off the list: {left:?}");
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
