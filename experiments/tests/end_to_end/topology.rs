//! `trine topology`: the document of a cluster, in a file.

use crate::harness::program;
use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

/// Three servers, of which `two` was started again without its data, and slots that it alone had.
const DOCUMENT: &str = r#"version = 2
revision = 7
copies = 2

[[server]]
name = "one"
host = "10.0.0.1"
port = 7000
cores = 1
incarnation = "0000000000000001"

[[server]]
name = "two"
host = "10.0.0.2"
port = 7000
cores = 1
incarnation = "0000000000000003"
former = ["0000000000000002"]

[[range]]
slots = "0-8191"
primary = "one/0"
backups = ["two/0@0000000000000002"]
epoch = 1

[[range]]
slots = "8192-16383"
primary = "two/0@0000000000000002"
joining = ["one/0"]
epoch = 1
"#;

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(program("trine"));
    command.arg("topology").args(words).stdin(Stdio::null());
    command.env_remove("TRINE_REQUIRE_ALL").env_remove("TRINE_CLUSTER").env_remove("TRINE_CLUSTER_PASSWORD");
    command
}

fn trine(words: &[&str]) -> Output {
    command(words).output().expect("it starts")
}

/// The status, and both outputs.
fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn written(folder: &Path, text: &str) -> String {
    let path = folder.join("cluster.toml");
    fs::write(&path, text).expect("a file can be written");
    path.display().to_string()
}

/// A document is made, shown and valid; it is made once.
#[test]
fn a_document_is_made_and_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cluster.toml").display().to_string();
    let url = format!("file:{path}");
    let (status, _, error) = told(&trine(&["show", &path]));
    assert!(status == Some(1) && error.contains("trine topology init"), "{error}");
    let init = ["init", "--cluster", &url, "--servers", "one=10.0.0.1:7000/2,two=10.0.0.2:7000/2"];
    assert_eq!(told(&trine(&init)), (Some(0), format!("{url}: made, revision 1\n"), String::new()));
    let (status, text, _) = told(&trine(&["show", "--cluster", &url]));
    assert!(status == Some(0) && text.starts_with("revision 1, 2 copies of each of 16384 slots\n"), "{text}");
    assert!(text.contains("\n0-4095       one/0    two/0    -            1\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let (status, json, _) = told(&trine(&["show", &path, "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(status == Some(0) && json["ranges"][0]["backups"][0] == "two/0", "{json}");
    let (status, text, _) = told(&trine(&["validate", &path]));
    assert_eq!((status, text.as_str()), (Some(0), "valid: revision 1, 2 servers, 4 ranges\n"));
    assert_eq!(told(&trine(&init)).0, Some(0), "the same again is there already");
    let (status, _, error) = told(&trine(&["init", "--cluster", &url, "--server", "one=10.0.0.1:7000/2"]));
    assert!(status == Some(1) && error.contains("it stays as it is"), "{error}");
    // The file of a fixed topology is shown in the same form.
    let plan = Command::new(program("trine")).args(["plan", "--server", "a=h:7000/2"]).output().expect("it starts");
    let fixed = written(folder.path(), &String::from_utf8(plan.stdout).expect("text"));
    let (status, text, _) = told(&trine(&["show", &fixed]));
    assert!(status == Some(0) && text.contains("0-8191      a/0      -        -            1"), "{text}");
    assert_eq!(told(&trine(&["validate", &fixed])).0, Some(0));
}

/// The line of a mistake is told; a file that is no document, or is none, has a status of its own.
#[test]
fn a_mistake_is_told_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    for (from, to, said) in [
        ("primary = \"one/0\"", "primary = \"one/1\"", "cluster.toml: line 22: slots 0-8191: there is no core one/1"),
        ("slots = \"8192-16383\"", "slots = \"8191-16383\"", "cluster.toml: line 26: slot 8191 is in two ranges"),
        ("copies = 2", "copies = two", "TOML parse error at line 3"),
        ("version = 2", "version = 3", "cluster.toml: line 1: version 3 of the topology document"),
        ("version = 2", "version = 1", "not a topology file"),
    ] {
        let path = written(folder.path(), &DOCUMENT.replacen(from, to, 1));
        let (status, _, error) = told(&trine(&["validate", &path]));
        assert!(status == Some(1) && error.contains(said), "{said}: {error}");
    }
    let (status, _, error) = told(&trine(&["validate", "/nowhere/cluster.toml"]));
    assert!(status == Some(2) && error.contains("/nowhere/cluster.toml"), "{error}");
    assert_eq!(told(&trine(&["show"])).0, Some(2));
    assert_eq!(told(&trine(&["show", "/x", "--cluster", "file:/x"])).0, Some(2));
    // Damage is not repaired by making a document in its place.
    let path = written(folder.path(), &DOCUMENT[..DOCUMENT.len() / 2]);
    let (status, _, error) = told(&trine(&["init", "--cluster", &format!("file:{path}"), "--server", "a=h:7000/1"]));
    assert!(status == Some(1) && error.contains("holds no whole document"), "{error}");
}

/// A loss is told, and accepted only with `--yes`; slots that a server still has are not given up.
#[test]
fn a_loss_is_accepted_and_written_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = written(folder.path(), DOCUMENT);
    let (_, text, _) = told(&trine(&["show", &path]));
    assert!(text.contains("slots 8192-16383: nobody may serve them"), "{text}");
    let (status, text, _) = told(&trine(&["validate", &path]));
    assert!(status == Some(0) && text.contains("8192 of these have none: nobody may serve them"), "{text}");
    let (status, text, error) = told(&trine(&["accept-loss", &path]));
    assert!(
        status == Some(2) && error.contains("nothing was changed: to give these writes up for good, add --yes"),
        "{error}"
    );
    let expected = "gives up, for good, the acknowledged writes of 8192 slots that are in no other copy:\n  slots 8192-16383: \
                    two/0@0000000000000002 had them in sync; one/0 will serve the part of them that it was given\n";
    assert_eq!(text, expected);
    assert_eq!(fs::read_to_string(&path).expect("it is there"), DOCUMENT);
    let (status, text, _) = told(&trine(&["accept-loss", &path, "--yes"]));
    assert!(status == Some(0) && text.ends_with(": accepted, revision 8\n"), "{text}");
    let (_, text, _) = told(&trine(&["show", &path]));
    assert!(text.contains("revision 8: slots 8192-16383, which two/0@0000000000000002 had in sync"), "{text}");
    let (status, _, error) = told(&trine(&["accept-loss", &path, "--yes"]));
    assert!(status == Some(1) && error.contains("there is nothing to give up") && error.contains("on one"), "{error}");
    let (status, _, error) = told(&trine(&["accept-loss", &path, "--lost", "three"]));
    assert!(status == Some(1) && error.contains("no server \"three\": the cluster has one, two"), "{error}");
}

/// Of processes that write at once exactly one wins, and the others are told of its document.
#[test]
fn one_of_many_processes_wins() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("file:{}", folder.path().join("cluster.toml").display());
    let start = |words: &[&str]| {
        let mut command = command(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    let wins = |words: &dyn Fn(usize) -> Vec<String>, otherwise: &[&str]| {
        let children: Vec<_> =
            (0..8).map(|number| start(&words(number).iter().map(String::as_str).collect::<Vec<_>>())).collect();
        let outputs: Vec<Output> =
            children.into_iter().map(|child| child.wait_with_output().expect("it ends")).collect();
        let (won, lost): (Vec<_>, Vec<_>) = outputs.iter().map(told).partition(|(status, ..)| *status == Some(0));
        for (status, _, error) in &lost {
            assert!(*status == Some(1) && otherwise.iter().any(|said| error.contains(said)), "{status:?} {error}");
        }
        assert_eq!(won.len(), 1, "{outputs:?}");
    };
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let init = |number: usize| {
        let server = format!("s{number}=10.0.0.1:7000/1");
        owned(&["init", "--cluster", &url, "--server", &server])
    };
    wins(&init, &["it stays as it is"]);
    written(folder.path(), DOCUMENT);
    // Who reads before the winner has written is overtaken; who reads behind it finds nothing to give up.
    let accept = |_| owned(&["accept-loss", "--cluster", &url, "--yes"]);
    // All of them want the same document, so that those that are overtaken by it may say that theirs is stored.
    let (mut children, mut won) = (Vec::new(), 0);
    for number in 0..4 {
        children.push(start(&accept(number).iter().map(String::as_str).collect::<Vec<_>>()));
    }
    for child in children {
        won += usize::from(child.wait_with_output().expect("it ends").status.success());
    }
    let text = fs::read_to_string(folder.path().join("cluster.toml")).expect("it is there");
    assert!(0 < won && text.contains("revision = 8"), "{won} of 4: {text}");
}

/// A password in an address is refused, and nobody sees it; a store that nobody serves is told with its endpoint.
#[test]
fn addresses_of_etcd_are_told_without_secrets() {
    let (status, out, error) = told(&trine(&["show", "--cluster", "etcd://me:hunter2@10.0.0.9/prod"]));
    assert!(status == Some(2) && error.contains("TRINE_CLUSTER_PASSWORD"), "{error}");
    assert!(!(out + &error).contains("hunter2"), "{error}");
    let (status, _, error) = told(&trine(&["show", "--cluster", "etcd://me@127.0.0.1:1/prod"]));
    assert!(status == Some(1) && error.contains("user me has no password"), "{error}");
    let mut command = command(&["show"]);
    command.env("TRINE_CLUSTER", "etcd://me@127.0.0.1:1/prod").env("TRINE_CLUSTER_PASSWORD", "hunter2");
    let (status, _, error) = told(&command.output().expect("it starts"));
    assert!(status == Some(1) && error.contains("127.0.0.1:1: ") && !error.contains("hunter2"), "{error}");
}
