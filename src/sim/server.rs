//! A server: its cores, what each must have of keys, and where its life stands.

use super::{
    core::Core,
    model::{Model, Promise},
    plan::Plan,
};
use crate::{
    config::{Durability, Values},
    topology::ShardId,
    wal::Desk,
};

/// A server, from life to life.
pub(super) struct Server {
    pub(super) cores: Vec<Core>,
    /// The keys that each core must have.
    pub(super) models: Vec<Model>,
    /// Names its present life or death: what was to happen in an earlier one does not.
    pub(super) life: usize,
    /// Lives that have begun.
    pub(super) lives: usize,
    pub(super) state: State,
    /// The time at which its present life began.
    pub(super) began_us: u64,
    /// The kind of job in which its process ends, and how many of that kind come before.
    pub(super) doom: Option<(Desk, u32)>,
    /// Cores that have read their files, and those that have let their last connection go.
    pub(super) loaded: usize,
    pub(super) drained: usize,
    /// A log of it could not be written: what its disks say is not believed any more.
    pub(super) has_failed: bool,
}

/// The state of a server's life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// It has no process.
    Down,
    /// It reads its files, or serves.
    Up,
    /// Nobody asks any more; it is to stop when everybody is answered.
    Quiet,
    /// It was told to stop.
    Stopping,
    /// It has ended in good order, and is only to be started once more.
    Stopped,
    /// It has been.
    Over,
}

impl Server {
    pub(super) fn new(number: u16, plan: &Plan, random: &mut fastrand::Rng) -> Self {
        let promise = match plan.durability {
            Durability::Always => Promise::Told,
            Durability::Interval => Promise::Beginning,
            Durability::None => Promise::Nothing,
        };
        let has_moves = plan.values == Values::Disk;
        let cores = 0..plan.cores() as u16;
        let core = |core| Core::new(ShardId { server: number, core }, plan, random);
        Self {
            models: cores.clone().map(|_| Model::new(plan.value_bytes_max, promise, has_moves)).collect(),
            cores: cores.map(core).collect(),
            life: 0,
            lives: 0,
            state: State::Down,
            began_us: 0,
            doom: None,
            loaded: 0,
            drained: 0,
            has_failed: false,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.loaded == self.cores.len()
    }
}
