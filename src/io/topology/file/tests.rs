use std::{collections::BTreeSet, env, process, thread};

use super::*;
use crate::topology::{
    document::strategies::{names, started},
    steps::Step,
};

/// A folder of a test, removed with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        let path = env::temp_dir().join(format!("trine-topology-{}-{test}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.join("cluster.toml")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the next document, in which a server has this weight.
pub(crate) fn with_weight(document: &Document, weight: u16) -> Document {
    let server = names(document).into_iter().next().unwrap();
    document.with(&Step::SetWeight { server, weight }).unwrap()
}

/// The first document of a cluster.
pub(crate) fn first() -> Document {
    let servers = started(&[1, 2], 2).members().iter().map(|member| member.server.clone()).collect();
    Document::plan(servers, 2).unwrap()
}

fn revision(number: u64) -> Option<Revision> {
    Some(Revision::new(number))
}

/// A document is created once, replaced by the next, and refused where the store has another.
#[test]
fn a_document_is_stored_and_read_back() {
    let folder = Folder::new("stored");
    let mut store = FileStore::new(&folder.path());
    let one = first();
    let two = with_weight(&one, 50);
    assert_eq!(store.read(), Ok(None));
    assert_eq!(store.compare_and_set(revision(1), &two), Err(StoreError::Gone { at: store.url.clone() }));
    assert_eq!(store.compare_and_set(None, &one), Ok(Outcome::Stored));
    assert_eq!(store.compare_and_set(None, &with_first_weight()), Ok(Outcome::Conflict(Box::new(one.clone()))));
    assert_eq!(store.compare_and_set(revision(1), &two), Ok(Outcome::Stored));
    assert_eq!(store.compare_and_set(revision(1), &two), Ok(Outcome::Stored), "the same again");
    let other = with_weight(&one, 60);
    assert_eq!(store.compare_and_set(revision(1), &other), Ok(Outcome::Conflict(Box::new(two.clone()))));
    assert_eq!(store.read(), Ok(Some(two)));
}

/// Another first document.
fn with_first_weight() -> Document {
    let servers = started(&[1, 1, 1], 2).members().iter().map(|member| member.server.clone()).collect();
    Document::plan(servers, 2).unwrap()
}

/// Of writers that write at once exactly one wins each revision, and readers see whole documents, one after the other.
#[test]
fn one_of_many_writers_wins_each_revision() {
    const WRITERS: u16 = 4;
    const REVISIONS: u64 = 60;
    let folder = Folder::new("writers");
    let path = folder.path();
    FileStore::new(&path).compare_and_set(None, &first()).unwrap();
    let won: Vec<BTreeSet<u64>> = thread::scope(|scope| {
        let writer = |number: u16| {
            let path = &path;
            move || {
                let (mut store, mut won) = (FileStore::new(path), BTreeSet::new());
                let mut document = store.read().unwrap().unwrap();
                while document.revision().number() < REVISIONS {
                    let next = with_weight(&document, 1 + number);
                    match store.compare_and_set(Some(document.revision()), &next).unwrap() {
                        Outcome::Stored => {
                            won.insert(next.revision().number());
                            document = next;
                        }
                        Outcome::Conflict(newer) => {
                            assert!(document.revision() < newer.revision());
                            document = *newer;
                        }
                        Outcome::Unknown(error) => panic!("{error}"),
                    }
                }
                won
            }
        };
        let writers: Vec<_> = (0..WRITERS).map(|number| scope.spawn(writer(number))).collect();
        let (mut store, mut seen) = (FileStore::new(&path), Revision::FIRST);
        while seen.number() < REVISIONS {
            let document = store.read().unwrap().expect("a reader finds a document at any instant");
            assert!(seen <= document.revision());
            seen = document.revision();
        }
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let all: Vec<u64> = won.iter().flatten().copied().collect();
    let distinct: BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!(distinct.len(), all.len(), "{won:?}");
    assert_eq!(distinct, (2..=REVISIONS).collect(), "each revision was stored by one");
}

/// A file that is no whole document is refused with its line, and is not overwritten.
#[test]
fn a_damaged_file_is_refused_and_kept() {
    let folder = Folder::new("damaged");
    let (path, one) = (folder.path(), first());
    let whole = one.to_toml();
    let cut = whole.rfind("slots =").unwrap() + 3;
    let named = whole.replacen("primary = \"s0/0\"", "primary = \"s9/0\"", 1);
    for (text, said) in [
        (String::new(), "does not say its version"),
        (whole[..cut].to_owned(), "line"),
        (named, "line 27: slots 0-5460: s9/0 is on a server that is not in the document"),
        ("\u{fffd}\u{0}".to_owned(), "line 1"),
    ] {
        fs::write(&path, &text).unwrap();
        let mut store = FileStore::new(&path);
        let error = store.read().unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }) && error.to_string().contains(said), "{said}: {error}");
        assert_eq!(store.compare_and_set(Some(one.revision()), &with_weight(&one, 9)), Err(error.clone()));
        assert_eq!(store.wait_for_newer(None, Duration::ZERO), Err(error));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, b"\xff\xfe").unwrap();
    assert!(matches!(FileStore::new(&path).read(), Err(StoreError::Damaged { .. })));
}

/// The rest of a write that was interrupted is overwritten, and the file's permissions stay.
#[test]
fn an_interrupted_write_is_of_no_consequence() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new("interrupted");
    let mut store = FileStore::new(&folder.path());
    fs::write(store.beside(".new"), "half a doc").unwrap();
    store.compare_and_set(None, &first()).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o600)).unwrap();
    let next = with_weight(&first(), 7);
    assert_eq!(store.compare_and_set(revision(1), &next), Ok(Outcome::Stored));
    assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!store.beside(".new").exists());
}

/// A folder that is not there is told with its path; nothing is made.
#[test]
fn a_missing_folder_is_told() {
    let mut store = FileStore::new(Path::new("/nonexistent/trine/cluster.toml"));
    assert_eq!(store.read(), Ok(None));
    let error = store.compare_and_set(None, &first()).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/trine/cluster.toml.lock can't be opened"), "{error}");
}

/// A wait ends with a document that is newer than the known one, and with an error if that went back or is gone.
#[test]
fn a_newer_document_ends_a_wait() {
    let folder = Folder::new("wait");
    let mut store = FileStore::new(&folder.path());
    let (one, two) = (first(), with_weight(&first(), 3));
    assert_eq!(store.wait_for_newer(None, Duration::ZERO), Ok(None));
    store.compare_and_set(None, &one).unwrap();
    for _ in 0..2 {
        assert_eq!(store.wait_for_newer(None, Duration::ZERO), Ok(Some(one.clone())));
        assert_eq!(store.wait_for_newer(revision(1), Duration::ZERO), Ok(None));
    }
    store.compare_and_set(revision(1), &two).unwrap();
    assert_eq!(store.wait_for_newer(revision(1), Duration::ZERO), Ok(Some(two)));
    let (at, known, found) = (store.url.clone(), Revision::new(3), Revision::new(2));
    assert_eq!(store.wait_for_newer(Some(known), Duration::ZERO), Err(StoreError::WentBack { at, known, found }));
    fs::remove_file(folder.path()).unwrap();
    assert!(matches!(store.wait_for_newer(revision(2), Duration::ZERO), Err(StoreError::Gone { .. })));
}
