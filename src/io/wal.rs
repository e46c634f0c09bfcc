//! The files of a shard's log.

pub mod segment;
