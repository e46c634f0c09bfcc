//! What does: the only code that knows glommio, io_uring, sockets, clocks and threads.

pub mod cli;
pub mod clock;
pub mod executor;
mod plan;
pub mod ring;
pub mod shard;
pub mod topology;
mod up;
