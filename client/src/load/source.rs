//! Where an executor's requests come from in each phase.

use super::{
    random::Random,
    workload::{Kind, ValueSize, Workload},
};

/// What one executor asks for next: what it does, the key's number, and a value's length.
pub(crate) enum Source {
    /// Nothing more.
    Nothing,
    /// Writes every key from `next` to below `end`.
    Load {
        /// The first that was not written yet.
        next: u64,
        /// The first that is another executor's.
        end: u64,
        sizes: ValueSize,
        random: Random,
    },
    /// Reads every key from `next` to below `end`.
    Verify {
        /// The first that was not read yet.
        next: u64,
        /// The first that is another executor's.
        end: u64,
    },
    /// Draws from a workload.
    Draw { workload: Workload, sizes: ValueSize, random: Random },
}

impl Source {
    #[inline]
    pub(crate) fn next(&mut self) -> Option<(Kind, u64, u32)> {
        match self {
            Self::Draw { workload, sizes, random } => {
                let (kind, key) = workload.draw();
                let length = if kind == Kind::Set { sizes.draw(random) } else { 0 };
                Some((kind, key, length))
            }
            Self::Load { next, end, sizes, random } => {
                let key = (*next < *end).then_some(*next)?;
                *next += 1;
                Some((Kind::Set, key, sizes.draw(random)))
            }
            Self::Verify { next, end } => {
                let key = (*next < *end).then_some(*next)?;
                *next += 1;
                Some((Kind::Get, key, 0))
            }
            Self::Nothing => None,
        }
    }
}
