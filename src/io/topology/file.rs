//! A topology store that is a file, on one machine or on a volume that all servers share.
//!
//! A change locks the file beside it (`PATH.lock`), compares the revision, writes `PATH.new`, syncs it, renames it to `PATH` and
//! syncs the folder. So a reader sees the old document or the new one, whatever happens, and of two writers one is told of the
//! other's document. Readers take no lock.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::topology::{
    document::{Document, Revision},
    store::{self, DOCUMENT_BYTES_MAX, DocumentStore, Outcome, StoreError, StoreUrl},
};

/// The time between two looks at the file by who waits for a newer document. A file is looked at, and not watched by inotify: a
/// shared volume tells nothing of changes by other machines. It is opened each time, since that is when NFS asks its server;
/// attributes alone may be seconds old. It takes some 20 µs.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest time to wait for the lock, which is held for a few syncs: more than a disk needs that is very busy.
const LOCK_WITHIN: Duration = Duration::from_secs(5);
/// The time between two tries to lock.
const LOCK_EVERY: Duration = Duration::from_millis(2);

/// A topology store that is a file.
#[derive(Debug)]
pub struct FileStore {
    url: StoreUrl,
    path: PathBuf,
    /// The text that was read last, and the revision that it has: a text that has not changed need not be read as a document.
    last: Option<(String, Revision)>,
}

impl FileStore {
    /// Returns the store of this path. Nothing is opened yet.
    pub fn new(path: &Path) -> Self {
        Self { url: StoreUrl::File(path.to_owned()), path: path.to_owned(), last: None }
    }

    /// Returns the file's text, or `None` if there is no file.
    fn text(&self) -> Result<Option<String>, StoreError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("it can't be opened", &error)),
        };
        let mut bytes = Vec::new();
        let read = file.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| self.failed("it can't be read", &error))?;
        if DOCUMENT_BYTES_MAX < bytes.len() {
            return Err(StoreError::TooLarge { at: self.url.clone(), bytes: bytes.len() });
        }
        // What is not UTF-8 is no document; it is refused as such, with the line.
        Ok(Some(
            String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        ))
    }

    fn document(&self) -> Result<Option<Document>, StoreError> {
        self.text()?.map(|text| store::document_of(&text, &self.url)).transpose()
    }

    fn failed(&self, doing: &str, error: &io::Error) -> StoreError {
        StoreError::File { at: self.url.clone(), problem: format!("{doing}: {error}") }
    }

    /// Returns a path beside the file's.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(ending);
        path.into()
    }

    /// Returns the folder of the file.
    fn folder(&self) -> &Path {
        self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Locks out all other writers until the lock is dropped. The lock's file stays: whoever removed it could let in two.
    fn lock(&self) -> Result<File, StoreError> {
        let path = self.beside(".lock");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|error| self.failed(&format!("{} can't be opened", path.display()), &error))?;
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if since.elapsed() < LOCK_WITHIN => thread::sleep(LOCK_EVERY),
                Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { at: self.url.clone() }),
                Err(TryLockError::Error(error)) => {
                    return Err(self.failed(&format!("{} can't be locked", path.display()), &error));
                }
            }
        }
    }

    /// Puts a text in the file's place. The writer has the lock.
    fn replace(&self, text: &str) -> Result<Outcome, StoreError> {
        let new = self.beside(".new");
        let written = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            if let Ok(old) = fs::metadata(&self.path) {
                file.set_permissions(old.permissions())?;
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        written().map_err(|error| self.failed(&format!("{} can't be written", new.display()), &error))?;
        if let Err(error) = fs::rename(&new, &self.path) {
            let hint = match error.kind() {
                ErrorKind::ResourceBusy => " (share its folder with a container, not the file alone)",
                _ => "",
            };
            let failed = self.failed(&format!("the new document can't be put in its place{hint}"), &error);
            // Other errors may be a network's, whose other end has renamed it.
            return match error.kind() {
                ErrorKind::ResourceBusy
                | ErrorKind::PermissionDenied
                | ErrorKind::ReadOnlyFilesystem
                | ErrorKind::IsADirectory
                | ErrorKind::NotFound => Err(failed),
                _ => Ok(Outcome::Unknown(failed)),
            };
        }
        // Readers see it, and a power failure may still take it back: no one knows which until it is read again.
        let synced = File::open(self.folder()).and_then(|folder| folder.sync_all());
        Ok(synced.map_or_else(
            |error| Outcome::Unknown(self.failed("the folder can't be synced", &error)),
            |()| Outcome::Stored,
        ))
    }
}

impl DocumentStore for FileStore {
    fn read(&mut self) -> Result<Option<Document>, StoreError> {
        self.document()
    }

    fn compare_and_set(&mut self, expected: Option<Revision>, next: &Document) -> Result<Outcome, StoreError> {
        let text = store::text_of(next, &self.url)?;
        let _lock = self.lock()?;
        match store::refuse(self.document()?, expected, next, &self.url) {
            Some(end) => end,
            None => self.replace(&text),
        }
    }

    fn wait_for_newer(&mut self, known: Option<Revision>, patience: Duration) -> Result<Option<Document>, StoreError> {
        let since = Instant::now();
        loop {
            let found = match self.text()? {
                None if known.is_some() => return Err(StoreError::Gone { at: self.url.clone() }),
                None => None,
                // Nothing but the whole text tells safely that it is the same: two changes may fall into one tick of the clock
                // that files are dated with.
                Some(text) => match &self.last {
                    Some((last, revision)) if *last == text => Some((text, *revision)),
                    _ => {
                        let revision = store::document_of(&text, &self.url)?.revision();
                        self.last = Some((text.clone(), revision));
                        Some((text, revision))
                    }
                },
            };
            match (found, known) {
                (Some((_, found)), Some(known)) if found < known => {
                    return Err(StoreError::WentBack { at: self.url.clone(), known, found });
                }
                (Some((text, found)), known) if known < Some(found) => {
                    return store::document_of(&text, &self.url).map(Some);
                }
                _ => {}
            }
            if patience <= since.elapsed() {
                return Ok(None);
            }
            thread::sleep(LOOK_EVERY.min(patience.saturating_sub(since.elapsed())));
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
