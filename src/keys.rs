//! The arguments of a request that are keys.

/// The arguments of a command that are keys, as `COMMAND` tells clients: first, last (negative from the end), step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keys {
    /// The first key's index; 0 for a command without keys.
    pub first: i16,
    /// The last key's index; negative counts from the last argument, which is -1.
    pub last: i16,
    /// From one key to the next.
    pub step: i16,
}

impl Keys {
    /// No argument is a key.
    pub const NONE: Self = Self { first: 0, last: 0, step: 0 };
    /// The first argument is the key.
    pub const ONE: Self = Self { first: 1, last: 1, step: 1 };
    /// The first two arguments are keys.
    pub const TWO: Self = Self { first: 1, last: 2, step: 1 };
    /// All arguments are keys.
    pub const ALL: Self = Self { first: 1, last: -1, step: 1 };
    /// Every other argument is a key.
    pub const PAIRS: Self = Self { first: 1, last: -1, step: 2 };
    /// The second argument is the key, behind a subcommand.
    pub const SECOND: Self = Self { first: 2, last: 2, step: 1 };

    /// The indices of the keys in a request of `length` arguments.
    #[inline]
    pub fn indices(self, length: usize) -> impl Iterator<Item = usize> {
        let last = if self.last < 0 { length as isize + self.last as isize } else { self.last as isize };
        let end = if self.first == 0 { 0 } else { (last + 1).max(0) as usize };
        (self.first as usize..end.min(length)).step_by((self.step as usize).max(1))
    }
}
