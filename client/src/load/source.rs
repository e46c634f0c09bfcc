//! The source of an executor's requests in each phase.

use super::{
    random::Random,
    workload::{Kind, ValueSize, Workload},
};

/// With a hundred nodes of equal share one draw in 23,000 ends here.
const TRIES: u32 = 1000;

/// A generator of one executor's requests: kind, key number and length of the value.
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
    /// Each worker writes keys of its own, and then reads them.
    Rounds(Rounds),
}

/// So many keys for each worker, written one after the other and, when every write has its answer, read in the same order.
pub(crate) struct Rounds {
    count: u64,
    /// The number of the first worker among all workers of the run.
    first: u64,
    workers: Vec<Round>,
    sizes: ValueSize,
    random: Random,
}

#[derive(Clone, Copy, Default)]
struct Round {
    asked: u64,
    answered: u64,
    /// Requests that could have been asked, but for writes without an answer.
    parked: usize,
}

impl Rounds {
    /// For `workers` workers, `first` being the number of the first one in the whole run, of `count` keys each.
    pub(crate) fn new(count: u64, first: u64, workers: usize, sizes: ValueSize, random: Random) -> Self {
        Self { count, first, workers: vec![Round::default(); workers], sizes, random }
    }

    #[inline]
    fn next(&mut self, worker: u32) -> Option<(Kind, u64, u32)> {
        let round = &mut self.workers[worker as usize];
        if round.asked == self.count && round.answered < self.count {
            round.parked += 1;
            return None;
        }
        if round.asked == 2 * self.count {
            return None;
        }
        let (asked, first_key) = (round.asked, (self.first + u64::from(worker)) * self.count);
        round.asked += 1;
        Some(match asked.checked_sub(self.count) {
            None => (Kind::Set, first_key + asked, self.sizes.draw(&mut self.random)),
            Some(read) => (Kind::Get, first_key + read, 0),
        })
    }

    #[inline]
    fn answered(&mut self, worker: u32) -> usize {
        let round = &mut self.workers[worker as usize];
        round.answered += 1;
        if round.answered == self.count { 1 + std::mem::take(&mut round.parked) } else { 1 }
    }
}

impl Source {
    /// Returns a worker's next request, or `None` if it has to wait or nothing is left.
    #[inline]
    pub(crate) fn next(&mut self, worker: u32) -> Option<(Kind, u64, u32)> {
        match self {
            Self::Rounds(rounds) => rounds.next(worker),
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

    /// Returns a worker's next request, with a key that `is_wanted`, drawn with the popularity that it has among those. If
    /// [`TRIES`] draws find none, the key is one that is not wanted.
    #[inline]
    pub(crate) fn next_where(
        &mut self,
        worker: u32,
        mut is_wanted: impl FnMut(u64) -> bool,
    ) -> Option<(Kind, u64, u32)> {
        let (kind, mut key, length) = self.next(worker)?;
        if let Self::Draw { workload, .. } = self {
            let mut tries = 1;
            while tries < TRIES && !is_wanted(key) {
                key = workload.draw_key(kind);
                tries += 1;
            }
        }
        Some((kind, key, length))
    }

    /// A request of a worker is over and done with. Returns how many it may ask in its place: none of them waits for others
    /// any more.
    #[inline]
    pub(crate) fn answered(&mut self, worker: u32) -> usize {
        match self {
            Self::Rounds(rounds) => rounds.answered(worker),
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// At any depth, and in any order of answers, each worker writes its own keys once, then reads them once, and no read
        /// is asked before all writes of its worker are answered. Nobody is forgotten.
        #[test]
        fn rounds_write_all_then_read_all(
            count in 1_u64..20, depth in 1_usize..30, workers in 1_u32..4, picks in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let sizes = ValueSize::Fixed(8);
            let rounds = Rounds::new(count, 10, workers as usize, sizes, Random::new(1, 1));
            let mut source = Source::Rounds(rounds);
            let mut in_flight: Vec<VecDeque<(Kind, u64)>> = vec![VecDeque::new(); workers as usize];
            let mut done = vec![Vec::new(); workers as usize];
            for worker in 0..workers {
                let asked = (0..depth).filter_map(|_| source.next(worker));
                in_flight[worker as usize].extend(asked.map(|(kind, key, _)| (kind, key)));
            }
            let mut picks = picks.into_iter().chain(std::iter::repeat(0));
            while let busy @ [_, ..] = &(0..workers).filter(|worker| !in_flight[*worker as usize].is_empty()).collect::<Vec<_>>()[..] {
                let worker = busy[usize::from(picks.next().unwrap()) % busy.len()];
                let lane = &mut in_flight[worker as usize];
                let (kind, key) = lane.pop_front().unwrap();
                done[worker as usize].push((kind, key));
                for _ in 0..source.answered(worker) {
                    if let Some((kind, key, _)) = source.next(worker) {
                        let are_written = done[worker as usize].len() as u64 >= count;
                        prop_assert!(kind == Kind::Set || are_written, "a read among writes");
                        lane.push_back((kind, key));
                    }
                }
                prop_assert!(lane.len() <= depth);
            }
            for worker in 0..u64::from(workers) {
                let keys = (10 + worker) * count..(11 + worker) * count;
                let writes = keys.clone().map(|key| (Kind::Set, key));
                let expected: Vec<_> = writes.chain(keys.map(|key| (Kind::Get, key))).collect();
                prop_assert_eq!(&done[worker as usize], &expected);
            }
        }
    }
}
