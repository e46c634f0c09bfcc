//! A thread that watches a topology store.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crate::topology::{
    document::{Document, Revision},
    store::DocumentStore,
};

/// The longest time that the thread waits in the store before it looks whether it is to stop, and before it asks anew. A store
/// that went away without a word, or an etcd that was cut off from the others, is noticed then.
const WAIT_FOR: Duration = Duration::from_secs(2);
/// The time between two tries while the store does not answer.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// A thread that calls a function with each newer document of a store. Stops when dropped: from then on the function is not
/// called any more. The thread itself ends within some seconds.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// True once the watch was dropped. Locked while the function runs.
    is_stopped: Mutex<bool>,
    stopped: Condvar,
}

impl Watch {
    /// Starts a thread that calls `seen` with each document whose revision is above `known`, and above that of the document
    /// before; documents that were replaced quickly may be left out. It goes on while the store does not answer, and logs
    /// once that it does not, and once that it does again.
    ///
    /// `seen` must not drop the watch.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        store: Box<dyn DocumentStore>,
        known: Option<Revision>,
        seen: impl FnMut(Document) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        thread::Builder::new().name("trine-topology".into()).spawn(move || watch(&own, store, known, seen))?;
        Ok(Self { shared })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        *self.shared.lock() = true;
        self.shared.stopped.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, bool> {
        // A function that panicked was the last to be called: its thread is gone.
        self.is_stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watch(
    shared: &Shared,
    mut store: Box<dyn DocumentStore>,
    mut known: Option<Revision>,
    mut seen: impl FnMut(Document),
) {
    let mut has_failed = false;
    loop {
        let found = store.wait_for_newer(known, WAIT_FOR);
        let is_stopped = shared.lock();
        if *is_stopped {
            return;
        }
        match found {
            Ok(document) => {
                if std::mem::take(&mut has_failed) {
                    tracing::info!("the topology store answers again");
                }
                if let Some(document) = document {
                    known = Some(document.revision());
                    seen(document);
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::warn!("{error}; until then the topology stays as it is");
                }
                let waited = shared.stopped.wait_timeout(is_stopped, RETRY_AFTER);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            }
        }
    }
}

#[cfg(test)]
mod tests;
