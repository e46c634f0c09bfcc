//! What survives the end of a server, and what a server makes of its disk.

mod kills;
mod ledger;
mod modes;
