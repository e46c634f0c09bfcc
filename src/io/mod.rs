//! What does: the only code that knows glommio, io_uring, sockets, clocks and threads.

pub mod executor;
pub mod ring;
