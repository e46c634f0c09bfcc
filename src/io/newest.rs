//! The newest topology that a server knows, as its cores share it.
//!
//! Whoever finds a topology offers it ([`Control::offer`](super::control::Control::offer)). Each core compares one number in each turn,
//! and looks further only where that has changed: nothing here is on the path of a request.

use super::directory::{Directory, Owner};
use crate::topology::{Epoch, Topology, Unfit};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// The most topologies that are kept for cores that have not seen them: more than change within a core's turn.
const KEPT_MAX: usize = 64;

/// The newest topologies that a server has taken.
pub struct Newest {
    /// The server's name.
    name: String,
    /// The last of them, in the order of their epochs. A core takes one after the other: a slot that has gone and come back is not
    /// what it was.
    topologies: Mutex<VecDeque<Arc<Topology>>>,
    /// The newest topology's epoch.
    epoch: AtomicU64,
    /// Held by whoever offers: the disk may take its time, and cores do not wait for that.
    offering: Mutex<()>,
    directory: Option<Arc<Directory>>,
}

impl Newest {
    /// Begins with the topology that the server of this name starts with.
    pub fn new(topology: Topology, name: &str, directory: Option<Arc<Directory>>) -> Self {
        let epoch = AtomicU64::new(topology.epoch.number());
        let topologies = Mutex::new([Arc::new(topology)].into());
        Self { name: name.to_owned(), topologies, epoch, offering: Mutex::new(()), directory }
    }

    /// Takes a topology if it is newer and fits. Returns false if it is the one that is known. The data directory says whose data it
    /// holds before any core acts by it, so that the next start finds it so.
    ///
    /// # Errors
    /// [`Unfit`]: the server goes on by the topology that it has.
    pub(super) fn offer(&self, next: Topology) -> Result<bool, Unfit> {
        let _offering = self.offering.lock().expect("nobody panics while offering");
        let known = self.get();
        if !known.is_succeeded_by(&next, &self.name)? {
            return Ok(false);
        }
        let (before, epoch) = (known.epoch.number(), next.epoch.number());
        if before + 1 < epoch {
            tracing::warn!(
                epoch,
                before,
                "this server has not seen the topologies in between: keys of slots that were another server's meanwhile are as they \
                 were before"
            );
        }
        if let Some(directory) = &self.directory {
            let position = next.server_named(&self.name).expect("it fits");
            // To go on by the old one would be worse: two servers would act for one slot.
            if let Err(error) = directory.change_owner(&Owner::new(&next, position, true)) {
                tracing::error!(
                    %error,
                    "the data directory can't be told of the new topology: the next start will refuse it, until it is written anew"
                );
            }
        }
        let mut topologies = self.topologies.lock().expect("nobody panics with the topologies in hand");
        topologies.push_back(Arc::new(next));
        if KEPT_MAX < topologies.len() {
            topologies.pop_front();
        }
        self.epoch.store(epoch, Ordering::Release);
        Ok(true)
    }

    /// Returns the first topology that is newer than this epoch, if there is one.
    #[inline]
    pub fn newer_than(&self, epoch: Epoch) -> Option<Arc<Topology>> {
        (epoch.number() < self.epoch.load(Ordering::Acquire)).then(|| self.next_after(epoch)).flatten()
    }

    #[cold]
    fn next_after(&self, epoch: Epoch) -> Option<Arc<Topology>> {
        let topologies = self.topologies.lock().expect("nobody panics with the topologies in hand");
        topologies.iter().find(|topology| epoch < topology.epoch).map(Arc::clone)
    }

    /// Returns the newest topology.
    #[cold]
    pub fn get(&self) -> Arc<Topology> {
        let topologies = self.topologies.lock().expect("nobody panics with the topologies in hand");
        Arc::clone(topologies.back().expect("there is always one"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Server;
    use std::thread;

    fn plan(epoch: u64, others: u16) -> Topology {
        let server = |number: u16| Server {
            name: format!("s{number}"),
            host: "h".into(),
            port: 7000 + 100 * number,
            core_port: 7001 + 100 * number,
            cores: 1,
        };
        let mut topology = Topology::plan((0..=others).map(server).collect()).expect("they fit");
        topology.epoch = Epoch::new(epoch);
        topology
    }

    /// Cores see what was taken, and that it is newer; what is refused they do not see.
    #[test]
    fn cores_are_told_of_what_is_newer() {
        let newest = Newest::new(plan(3, 0), "s0", None);
        assert_eq!(newest.newer_than(Epoch::new(3)), None);
        assert_eq!(newest.offer(plan(5, 1)), Ok(true));
        assert_eq!(newest.newer_than(Epoch::new(3)).as_deref(), Some(&plan(5, 1)));
        assert_eq!(newest.newer_than(Epoch::new(5)), None);
        assert_eq!(newest.offer(plan(5, 1)), Ok(false));
        assert_eq!(newest.offer(plan(4, 2)), Err(Unfit::Older { epoch: 4, known: 5 }));
        assert_eq!(*newest.get(), plan(5, 1));
    }

    /// A core that was busy takes all that were offered meanwhile, one after the other.
    #[test]
    fn a_core_misses_no_topology() {
        let newest = Newest::new(plan(1, 0), "s0", None);
        for epoch in 2..5 {
            assert_eq!(newest.offer(plan(epoch, (epoch % 2) as u16)), Ok(true));
        }
        let (mut known, mut taken) = (Epoch::FIRST, Vec::new());
        while let Some(topology) = newest.newer_than(known) {
            known = topology.epoch;
            taken.push(known.number());
        }
        assert_eq!(taken, [2, 3, 4]);
    }

    /// Of several that are offered at once the newest stays, and no core sees an older one behind it.
    #[test]
    fn the_newest_of_all_that_are_offered_stays() {
        let newest = Newest::new(plan(1, 0), "s0", None);
        thread::scope(|scope| {
            for first in 2..6 {
                let newest = &newest;
                scope.spawn(move || (first..400).step_by(4).for_each(|epoch| drop(newest.offer(plan(epoch, 1)))));
            }
            let mut known = Epoch::FIRST;
            while known < Epoch::new(399) {
                if let Some(topology) = newest.newer_than(known) {
                    assert!(known < topology.epoch);
                    known = topology.epoch;
                }
                thread::yield_now();
            }
        });
    }
}
