//! Durability: the data that survives the end of a server, and its handling of the disk.
#![expect(clippy::unwrap_used, reason = "what fails in here fails the test, and says where")]

mod disks;
mod formats;
mod kills;
pub mod ledger;
mod loss;
pub mod machine;
mod modes;
mod power;
mod room;
