//! What does: the only code that knows glommio, io_uring, sockets, clocks and threads.

pub mod clock;
pub mod executor;
pub mod ring;
pub mod shard;
