use std::{fs, sync::mpsc};

use super::*;
use crate::{
    io::topology::file::{
        FileStore,
        tests::{Folder, first, with_weight},
    },
    topology::store::StoreError,
};

/// The longest time for anything that takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Each newer document is told once, in order; what can't be read is passed over until it can be again.
#[test]
fn newer_documents_are_told_in_order() {
    let folder = Folder::new("watch");
    let mut store = FileStore::new(&folder.path());
    let (sender, seen) = mpsc::channel();
    let watched = Box::new(FileStore::new(&folder.path()));
    let watch = Watch::start(watched, None, move |document| sender.send(document).unwrap()).unwrap();
    let next = |seen: &mpsc::Receiver<Document>| seen.recv_timeout(PATIENCE).expect("a document is seen");
    let one = first();
    store.compare_and_set(None, &one).unwrap();
    assert_eq!(next(&seen), one);
    let two = with_weight(&one, 2);
    store.compare_and_set(Some(one.revision()), &two).unwrap();
    assert_eq!(next(&seen), two);
    fs::write(folder.path(), "no document").unwrap();
    let three = with_weight(&two, 3);
    fs::write(folder.path(), three.to_toml()).unwrap();
    assert_eq!(next(&seen), three);
    drop(watch);
    let four = with_weight(&three, 4);
    store.compare_and_set(Some(three.revision()), &four).unwrap();
    // The function is dropped with the thread, and was not called again.
    assert_eq!(seen.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
}

/// A store whose answers a test gives.
struct Scripted(mpsc::Receiver<Result<Option<Document>, StoreError>>, Vec<Option<Revision>>);

impl DocumentStore for Scripted {
    fn read(&mut self) -> Result<Option<Document>, StoreError> {
        unreachable!("a watch only waits")
    }

    fn compare_and_set(
        &mut self,
        _: Option<Revision>,
        _: &Document,
    ) -> Result<crate::topology::store::Outcome, StoreError> {
        unreachable!("a watch changes nothing")
    }

    fn wait_for_newer(&mut self, known: Option<Revision>, _: Duration) -> Result<Option<Document>, StoreError> {
        self.1.push(known);
        let at = "file:x".parse().unwrap();
        self.0.recv().unwrap_or_else(|_| Err(StoreError::NoAnswer { at, problem: format!("{:?}", self.1) }))
    }
}

/// After an error the watch goes on from the revision that it knows.
#[test]
fn an_error_does_not_end_a_watch() {
    let (answers, script) = mpsc::channel();
    let (sender, seen) = mpsc::channel();
    let one = first();
    let two = with_weight(&one, 2);
    let lost = StoreError::NoAnswer { at: "file:x".parse().unwrap(), problem: "no".into() };
    for answer in [Err(lost.clone()), Ok(Some(one.clone())), Err(lost), Ok(None), Ok(Some(two.clone()))] {
        answers.send(answer).unwrap();
    }
    let watch = Watch::start(Box::new(Scripted(script, Vec::new())), None, move |document| {
        sender.send(document).unwrap();
    });
    assert_eq!(seen.recv_timeout(PATIENCE), Ok(one));
    assert_eq!(seen.recv_timeout(PATIENCE), Ok(two));
    drop(watch);
}
