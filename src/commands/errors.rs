//! Error texts that several commands share. They are Redis's own, to the letter: clients match on them.

use super::Call;

/// Options are unknown, contradict each other, or lack their argument.
pub const SYNTAX: &str = "ERR syntax error";
/// An argument or a value is not an `i64` in Redis's notation.
pub const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
/// A number is not an `i32`, where Redis stores it in one.
pub const NOT_A_32_BIT_INTEGER: &str = "ERR value is out of range, value must between -2147483648 and 2147483647";
/// A key that the command needs does not exist.
pub const NO_SUCH_KEY: &str = "ERR no such key";

/// Returns the error for a time to live that is not positive where it must be, or is beyond an `i64` of milliseconds.
pub fn invalid_expire_time(call: &Call<'_>) -> String {
    format!("ERR invalid expire time in '{}' command", call.command.name)
}

/// Returns the error for a wrong number of arguments that the command's arity cannot express.
pub fn wrong_number_of_arguments(call: &Call<'_>) -> String {
    format!("ERR wrong number of arguments for '{}' command", call.command.name)
}
/// The shard still reads its files, and executes few commands until it has.
pub const LOADING: &str = "LOADING Redis is loading the dataset in memory";
/// The memory limit is reached, and nothing can be evicted.
pub const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";
/// There is no room for this write in the log's files, nor on the disk for more of them.
pub const NO_ROOM: &str = "MISCONF the disk has no room for this write: make room on the disk, or delete keys";
