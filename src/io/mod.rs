//! Input and output: the only code that knows glommio, io_uring, sockets, clocks and threads.

#[macro_use]
pub mod output;

mod check;
pub mod cli;
pub mod clock;
pub mod control;
pub mod core;
pub mod directory;
mod doctor;
mod dump;
pub mod executor;
pub mod files;
mod frames;
mod health;
pub mod hints;
mod jobs;
pub mod logging;
pub mod manual;
pub mod mesh;
pub mod newest;
mod plan;
pub mod probe;
pub mod processes;
pub mod recover;
pub mod ring;
pub mod server;
mod top;
pub mod topology;
mod up;
mod watch;
