//! What has to wait for the disk and nobody waits for: done by the core's blocking thread while the core goes on.

use super::ring::Bell;
use std::{cell::RefCell, rc::Rc, sync::Arc};

#[cfg(test)]
type Waiting = std::collections::VecDeque<Box<dyn FnOnce()>>;

#[cfg(test)]
thread_local! {
    /// The jobs of a test that does them itself, in order.
    pub(super) static QUEUE: RefCell<Option<Waiting>> = const { RefCell::new(None) };
}

/// A place for one job at a time, and for what came of it.
pub struct Blocking<T> {
    outcome: Rc<RefCell<Option<T>>>,
    is_running: bool,
    bell: Arc<Bell>,
}

impl<T: Send + 'static> Blocking<T> {
    /// `bell`: wakes the core when a job is done.
    pub fn new(bell: Arc<Bell>) -> Self {
        Self { outcome: Rc::default(), is_running: false, bell }
    }

    /// Has a job done.
    ///
    /// # Panics
    /// Where one is running, or what came of the last has not been taken.
    pub fn begin(&mut self, job: impl FnOnce() -> T + Send + 'static) {
        assert!(!self.is_running, "one job at a time");
        self.is_running = true;
        let (outcome, bell) = (Rc::clone(&self.outcome), Arc::clone(&self.bell));
        #[cfg(test)]
        if QUEUE.with_borrow(Option::is_some) {
            let job = Box::new(move || drop(outcome.replace(Some(job()))));
            return QUEUE.with_borrow_mut(|queue| queue.as_mut().expect("it is there").push_back(job));
        }
        glommio::spawn_local(async move {
            let done = glommio::executor().spawn_blocking(job).await;
            outcome.replace(Some(done));
            bell.ring();
        })
        .detach();
    }

    /// Takes what came of the job, once it is done.
    pub fn take(&mut self) -> Option<T> {
        let outcome = self.outcome.take();
        self.is_running &= outcome.is_none();
        outcome
    }

    /// Whether a job is running, or has not been taken.
    pub fn is_running(&self) -> bool {
        self.is_running
    }
}
