//! The requests that a core refuses at the moment, as it tells the other cores of its server.

use crate::commands::{Flags, errors::OUT_OF_MEMORY};

/// The requests that a core refuses at the moment. It tells the other cores when this changes, so that none of them
/// begins a request of several parts of which one would be refused. The message takes some microseconds: a part can
/// still be refused after others have run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Refusals {
    /// The error that writes get, if they are refused.
    pub writes: Option<&'static str>,
    /// True if commands that may need memory are refused.
    pub growth: bool,
}

impl Refusals {
    /// Returns the error that a command with these flags would get, if it is refused.
    pub fn of(self, flags: Flags) -> Option<&'static str> {
        if flags.has(Flags::WRITE) && self.writes.is_some() {
            return self.writes;
        }
        (self.growth && flags.has(Flags::DENYOOM)).then_some(OUT_OF_MEMORY)
    }
}
