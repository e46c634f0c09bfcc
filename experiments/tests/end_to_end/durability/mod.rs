//! What survives the end of a server, and what a server makes of its disk.

mod disks;
mod kills;
mod ledger;
mod machine;
mod modes;
mod power;
