//! The calendar: what is to happen, in the order of its time.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Events to come. Those of one time happen in the order in which they were put.
pub(super) struct Calendar<T> {
    heap: BinaryHeap<Reverse<(u64, u64, Entry<T>)>>,
    count: u64,
}

/// An event, which has no order of its own.
struct Entry<T>(T);

impl<T> PartialEq for Entry<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<T> Eq for Entry<T> {}
impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Entry<T> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl<T> Calendar<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), count: 0 }
    }

    pub(super) fn put(&mut self, at_us: u64, event: T) {
        self.count += 1;
        self.heap.push(Reverse((at_us, self.count, Entry(event))));
    }

    /// Takes the next event, with its time.
    pub(super) fn take(&mut self) -> Option<(u64, T)> {
        self.heap.pop().map(|Reverse((at_us, _, Entry(event)))| (at_us, event))
    }
}
