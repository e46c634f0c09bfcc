//! What a core refuses for the time being, as the other cores of its server are told of it.

use crate::commands::{Flags, errors::OUT_OF_MEMORY};

/// What a core refuses for the time being. A core tells the others when this changes, so that none of them begins a request of
/// several parts one of which would be refused. The word is on its way for some microseconds: a part can still be refused
/// after others have run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Refusals {
    /// Writes, with this error.
    pub writes: Option<&'static str>,
    /// Commands that may need memory.
    pub growth: bool,
}

impl Refusals {
    /// Returns the error that a command with these flags would get.
    pub fn of(self, flags: Flags) -> Option<&'static str> {
        if flags.has(Flags::WRITE) && self.writes.is_some() {
            return self.writes;
        }
        (self.growth && flags.has(Flags::DENYOOM)).then_some(OUT_OF_MEMORY)
    }
}
