//! Error texts that several commands share. They are Redis's own, to the letter: clients match on them.

use super::Call;

/// Options that are unknown, contradict each other, or lack their argument.
pub const SYNTAX: &str = "ERR syntax error";
/// An argument or a value that is no `i64` as Redis writes one.
pub const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
/// A number that is no `i32` where Redis keeps it in one.
pub const NOT_A_32_BIT_INTEGER: &str = "ERR value is out of range, value must between -2147483648 and 2147483647";
/// A key that had to be there.
pub const NO_SUCH_KEY: &str = "ERR no such key";

/// A time to live that is not positive where it must be, or beyond what an `i64` of milliseconds holds.
pub fn invalid_expire_time(call: &Call<'_>) -> String {
    format!("ERR invalid expire time in '{}' command", call.command.name)
}

/// More or fewer arguments than a command takes, where its arity can't say so.
pub fn wrong_number_of_arguments(call: &Call<'_>) -> String {
    format!("ERR wrong number of arguments for '{}' command", call.command.name)
}
/// A shard reads its files, and answers little until it has.
pub const LOADING: &str = "LOADING Redis is loading the dataset in memory";
/// The memory limit is reached, and nothing can be evicted.
pub const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";
/// The log's files have no room for this write, and the disk has none for more of them.
pub const NO_ROOM: &str = "MISCONF the disk has no room for this write: make room on the disk, or delete keys";
