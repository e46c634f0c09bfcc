//! Input and output: the only code that knows glommio, io_uring, sockets, clocks and threads.

#[macro_use]
pub mod output;

pub mod aligned;
pub mod blocking;
mod check;
pub mod cli;
pub mod clock;
pub mod compaction;
pub mod directory;
mod doctor;
mod dump;
pub mod executor;
mod frames;
mod health;
pub mod hints;
pub mod logging;
pub mod manual;
pub mod mesh;
mod plan;
pub mod probe;
pub mod recover;
pub mod ring;
pub mod server;
pub mod shard;
pub mod snapshot;
mod top;
pub mod topology;
mod up;
pub mod values;
pub mod wal;
