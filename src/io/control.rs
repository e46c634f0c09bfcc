//! The control of a server: what its cores share. It goes on, is stopped, has failed; and the newest topology.

use super::{logging, newest::Newest, ring::Bell};
use crate::topology::{Topology, Unfit};
use std::{
    fmt::Display,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The state that the cores of a server share. Nothing of it is touched to serve a request.
pub struct Control {
    /// Set once: stop accepting, finish, end.
    pub stopping: AtomicBool,
    /// A core's log could not be written: the server ends, and no core acknowledges anything more. One device's failure may be
    /// told to one core alone.
    pub failed: AtomicBool,
    /// Cores that have no connection left.
    drained: AtomicUsize,
    /// Cores that have read their files.
    loaded: AtomicUsize,
    /// The newest topology.
    pub topology: Newest,
    /// The line that is said once all have.
    announcement: String,
    /// A bell for each core, as they come up.
    bells: Mutex<Vec<Option<Arc<Bell>>>>,
}

impl Control {
    pub(super) fn new(cores: usize, topology: Newest, announcement: String) -> Self {
        Self {
            stopping: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            drained: AtomicUsize::new(0),
            loaded: AtomicUsize::new(0),
            topology,
            announcement,
            bells: Mutex::new(vec![None; cores]),
        }
    }

    /// Offers a topology: if it is newer and fits, every core acts by it from its next turn on. Returns false if it is known already.
    /// May wait for the disk, so it is not for a core to call.
    ///
    /// # Errors
    /// [`Unfit`]: the server goes on by the topology that it has.
    pub fn offer(&self, topology: Topology) -> Result<bool, Unfit> {
        let is_taken = self.topology.offer(topology)?;
        if is_taken {
            self.wake_all();
        }
        Ok(is_taken)
    }

    /// Offers a topology, and says what came of it. `source`: where it was found.
    pub(super) fn offer_from(&self, topology: Topology, source: &dyn Display) {
        let epoch = topology.epoch.number();
        match self.offer(topology) {
            Ok(true) => tracing::info!(%source, epoch, "a new topology is taken"),
            Ok(false) => {}
            Err(unfit) => tracing::error!(
                %source,
                epoch,
                "the topology is not taken, and the server goes on by the one that it has: {unfit}"
            ),
        }
    }

    /// Tells every core to stop.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    /// Notes that a core has no connection left. With the last of them all may end.
    pub fn core_is_drained(&self, cores: usize) {
        if self.drained.fetch_add(1, Ordering::SeqCst) + 1 == cores {
            self.wake_all();
        }
    }

    /// Returns true if none of so many cores has a connection left.
    pub fn are_drained(&self, cores: usize) -> bool {
        self.drained.load(Ordering::SeqCst) == cores
    }

    fn wake_all(&self) {
        let bells = self.bells.lock().expect("nobody panics with the bells in hand");
        bells.iter().flatten().for_each(|bell| bell.ring());
    }

    /// Notes that a core has read its files, or has none. With the last of them the server is ready, and says so.
    pub fn core_is_loaded(&self) {
        let bells = self.bells.lock().expect("nobody panics with the bells in hand");
        let is_ready = self.loaded.fetch_add(1, Ordering::SeqCst) + 1 == bells.len();
        if is_ready {
            logging::say(&self.announcement);
            bells.iter().flatten().for_each(|bell| bell.ring());
        }
    }

    /// Returns true once every one of so many cores has read its files: until then none of them serves, so that a request by the
    /// gateway does not depend on where its key is.
    pub fn is_ready(&self, cores: usize) -> bool {
        self.loaded.load(Ordering::SeqCst) == cores
    }

    /// Puts a core's bell where the others find it, and waits until all have done so.
    pub(super) async fn exchange_bells(&self, core: usize, bell: Arc<Bell>) -> Vec<Arc<Bell>> {
        self.bells.lock().expect("nobody panics with the bells in hand")[core] = Some(bell);
        loop {
            let bells: Option<Vec<_>> =
                self.bells.lock().expect("nobody panics with the bells in hand").iter().cloned().collect();
            match bells {
                Some(bells) => return bells,
                None => glommio::timer::sleep(Duration::from_millis(1)).await,
            }
        }
    }
}
