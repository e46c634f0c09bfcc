//! The other cores of this server: the requests that are on their way to them, and those of theirs that wait here.

use super::{
    Action, Actions,
    message::{Batch, Item, Message},
};
use crate::{
    client::{Client, Port},
    refusals::Refusals,
};
use std::collections::VecDeque;

/// Boxes that a core keeps for its next turns.
const SPARE_MAX: usize = 64;
/// A box that has grown beyond this is not kept.
const SPARE_BYTES_MAX: usize = 256 * 1024;

/// The other cores of a server, as one of its cores sees them.
///
/// The requests that a turn has for a remote core go as one message; the box comes back with the replies in it, so that memory is
/// freed where it was allocated.
pub(super) struct Remote {
    pub(super) me: usize,
    /// This turn's requests for each core.
    building: Vec<Option<Box<Batch>>>,
    /// Bytes of the requests that each core has not answered.
    unanswered: Vec<usize>,
    /// The limit of these: beyond it nothing more is asked of any core.
    unanswered_bytes_max: usize,
    is_behind: bool,
    /// Boxes that have come back.
    #[expect(clippy::vec_box, reason = "the box itself travels, and is to be the same when it does so again")]
    spare: Vec<Box<Batch>>,
    /// Requests of other cores, by core, that wait for values or for the disk, in their order.
    pub(super) parked: Vec<VecDeque<Box<Batch>>>,
    /// The client in whose name requests of other cores are executed.
    pub(super) client: Client,
    /// The refusals of this core that the others know of.
    pub(super) told_refusals: Refusals,
}

impl Remote {
    /// The cores beside core `me`, of so many in all.
    pub(super) fn new(me: usize, cores: usize, unanswered_bytes_max: usize, now_us: u64) -> Self {
        Self {
            me,
            building: (0..cores).map(|_| None).collect(),
            unanswered: vec![0; cores],
            unanswered_bytes_max,
            is_behind: false,
            spare: Vec::new(),
            parked: (0..cores).map(|_| VecDeque::new()).collect(),
            client: Client::new(0, "", "", Port::Gateway, true, now_us),
            told_refusals: Refusals::default(),
        }
    }

    /// Puts a request into this turn's box for a core: `write` appends its bytes.
    #[inline]
    pub(super) fn ask(&mut self, core: usize, item: Item, write: impl FnOnce(&mut Vec<u8>)) {
        assert_ne!(core, self.me, "a core does not send to itself");
        let spare = &mut self.spare;
        let batch = self.building[core].get_or_insert_with(|| spare.pop().unwrap_or_default());
        let before = batch.requests.len();
        write(&mut batch.requests);
        let request_bytes = batch.requests.len() - before;
        batch.items.push(Item { request_bytes, ..item });
        self.unanswered[core] += request_bytes;
        self.is_behind |= self.unanswered_bytes_max < self.unanswered[core];
    }

    /// Notes that a core has answered requests of so many bytes. Returns true if that ends a time in which a core
    /// [was behind](Self::is_behind).
    pub(super) fn note_answer(&mut self, core: usize, request_bytes: usize) -> bool {
        self.unanswered[core] -= request_bytes;
        let max = self.unanswered_bytes_max / 2;
        let was_behind = self.is_behind;
        self.is_behind &= self.unanswered.iter().any(|&bytes| max < bytes);
        was_behind && !self.is_behind
    }

    /// Returns true if some core, for its disk or its work, is so far behind with what it was asked that nothing more should be
    /// asked of any: it would be kept in memory until it is answered.
    #[inline]
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Takes a box back once its replies have been handed out.
    pub(super) fn recycle(&mut self, mut batch: Box<Batch>) {
        if self.spare.len() < SPARE_MAX && batch.memory() < SPARE_BYTES_MAX {
            batch.items.clear();
            batch.requests.clear();
            batch.replies.clear();
            self.spare.push(batch);
        }
    }

    /// Sends this turn's requests.
    #[inline]
    pub(super) fn flush(&mut self, actions: &mut Actions) {
        for (core, building) in self.building.iter_mut().enumerate() {
            if let Some(batch) = building.take() {
                actions.push(Action::Post(core, Message::Requests(batch)));
            }
        }
    }

    /// Returns true if requests of other cores wait here.
    pub(super) fn has_parked(&self) -> bool {
        self.parked.iter().any(|parked| !parked.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::ConnectionId, resp::Version, session::Ticket};

    fn remote(cores: usize, unanswered_bytes_max: usize) -> Remote {
        Remote::new(0, cores, unanswered_bytes_max, 0)
    }

    fn item(number: usize) -> Item {
        Item {
            connection: ConnectionId::new(0, 0),
            ticket: Ticket(number as u64),
            part: None,
            version: Version::Two,
            speaks_http: false,
            no_touch: false,
            is_unwanted: false,
            request_bytes: 0,
            closes: false,
            reply_end: 0,
        }
    }

    /// A turn's requests for a core go as one message; its box comes back and is used again.
    #[test]
    fn a_turns_requests_go_as_one_message_whose_box_returns() {
        let (mut remote, mut actions) = (remote(2, usize::MAX), Actions::new());
        remote.ask(1, item(1), |requests| requests.extend_from_slice(b"first "));
        remote.ask(1, item(2), |requests| requests.extend_from_slice(b"second"));
        remote.flush(&mut actions);
        let Some(Action::Post(1, Message::Requests(mut batch))) = actions.pop() else { panic!("requests for core 1") };
        assert!(actions.is_empty());
        assert_eq!(batch.requests, b"first second");
        assert_eq!(batch.items.iter().map(|item| item.request_bytes).collect::<Vec<_>>(), [6, 6]);
        let address = std::ptr::from_ref(&*batch);
        batch.replies.extend_from_slice(b"reply");
        remote.recycle(batch);
        remote.ask(1, item(3), |requests| requests.extend_from_slice(b"third"));
        let again = remote.building[1].as_deref().expect("a box for core 1");
        assert!(std::ptr::eq(address, again), "the box is used again");
        assert!(again.requests == b"third" && again.replies.is_empty() && again.items.len() == 1);
    }

    /// Boxes that come back do not pile up, neither many nor large ones, whatever of them is large.
    #[test]
    fn the_boxes_that_are_kept_are_bounded() {
        let mut remote = remote(2, usize::MAX);
        for number in 0..1000 {
            let large = || Vec::with_capacity(SPARE_BYTES_MAX);
            remote.recycle(Box::new(match number % 4 {
                0 => Batch { requests: large(), ..Batch::default() },
                1 => Batch { replies: large(), ..Batch::default() },
                2 => Batch {
                    items: (0..SPARE_BYTES_MAX / size_of::<Item>() + 1).map(item).collect(),
                    ..Batch::default()
                },
                _ => Batch { replies: vec![0; SPARE_BYTES_MAX / 2], ..Batch::default() },
            }));
        }
        assert_eq!(remote.spare.len(), SPARE_MAX);
        assert!(remote.spare.iter().all(|batch| batch.memory() < SPARE_BYTES_MAX));
    }

    /// Nothing more is asked while a core has not answered more than it may have, nor until it has answered half of it.
    #[test]
    fn a_core_that_does_not_answer_is_not_asked_for_ever() {
        let mut remote = remote(3, 100);
        let ask =
            |remote: &mut Remote, core, bytes| remote.ask(core, item(0), |requests| requests.extend(vec![0; bytes]));
        ask(&mut remote, 1, 100);
        ask(&mut remote, 2, 90);
        assert!(!remote.is_behind(), "no core has more than it may have");
        ask(&mut remote, 1, 1);
        assert!(remote.is_behind());
        assert!(!remote.note_answer(1, 51) && remote.is_behind(), "core 2 still has more than half");
        assert!(remote.note_answer(2, 40) && !remote.is_behind());
        assert!(!remote.note_answer(1, 50) && !remote.note_answer(2, 50), "it has ended already");
    }
}
