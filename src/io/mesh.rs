//! The gateway's hop to another core, and the way back.
//!
//! Between any two cores runs one queue each way: a ring of boxed parcels with one writer and one reader, which is all that
//! two cores ever share. What a core has for another in a turn goes as one parcel; the box comes back with the replies in
//! it, so that memory is freed where it was allocated. A core that is asleep is woken by its [`Bell`].
//!
//! Nobody ever waits here: a parcel that finds its queue full stays in an outbox, and every core takes what comes in
//! whatever it has going out, so two cores can't block each other. Outboxes are bounded because the requests that a
//! connection may have under way are (`gateway-in-flight`), and the bytes of all that a core has at another
//! ([`Mesh::is_behind`]).

use super::ring::{Bell, ConnectionId};
use crate::{refusals::Refusals, resp::Version, session::Ticket};
use rtrb::{Consumer, Producer, RingBuffer};
use std::{collections::VecDeque, net::TcpStream, sync::Arc};

/// What goes from one core to another.
pub enum Parcel {
    /// A connection that the gateway accepted, for this core to serve.
    Connection(TcpStream),
    /// A connection of the gateway's has left this core.
    Left,
    /// What the sender refuses from now on.
    Refusals(Refusals),
    /// Requests for keys of this core.
    Requests(Box<Batch>),
    /// The same box, with the replies.
    Replies(Box<Batch>),
}

/// Requests that go to a core together, and then their replies.
#[derive(Default)]
pub struct Batch {
    /// Who waits for what, in the order of the requests.
    pub items: Vec<Item>,
    /// The requests as a client would send them, one behind the other.
    pub requests: Vec<u8>,
    /// The replies, one behind the other.
    pub replies: Vec<u8>,
    /// How many keys the core has that gives them.
    pub keys: u64,
}

/// One request of a batch.
pub struct Item {
    /// The connection that asked.
    pub connection: ConnectionId,
    /// Its ticket for the reply.
    pub ticket: Ticket,
    /// Which part of the reply this is, where several cores give one.
    pub part: Option<u16>,
    /// The version of the protocol that the reply is to be in.
    pub version: Version,
    /// Whether reads leave no trace (`CLIENT NO-TOUCH`).
    pub no_touch: bool,
    /// Whether nobody waits for the reply (`CLIENT REPLY OFF`).
    pub is_unwanted: bool,
    /// Bytes of the request. Counted by [`Mesh::ask`].
    pub request_bytes: usize,
    /// Where its reply ends in [`Batch::replies`].
    pub reply_end: usize,
}

/// A core's ends of the mesh.
pub struct Mesh {
    me: usize,
    /// The core whose parcels were taken last.
    next: usize,
    outgoing: Vec<Option<Producer<Parcel>>>,
    incoming: Vec<Option<Consumer<Parcel>>>,
    bells: Vec<Option<Arc<Bell>>>,
    /// Parcels that found their queue full, or have not been tried.
    outboxes: Vec<VecDeque<Parcel>>,
    /// What this turn has for each core.
    building: Vec<Option<Box<Batch>>>,
    /// Bytes of the requests that each core has not answered.
    unanswered: Vec<usize>,
    /// Some core has been asked for more than [`unanswered_bytes_max`](Self::unanswered_bytes_max), and for more than half as
    /// much ever since.
    is_behind: bool,
    /// How many bytes of requests another core may have before no more is asked of any.
    pub unanswered_bytes_max: usize,
    /// Boxes that have come back.
    #[expect(clippy::vec_box, reason = "the box itself travels, and is to be the same when it does so again")]
    spare: Vec<Box<Batch>>,
}

/// Boxes that a core keeps for its next turns.
const SPARE_MAX: usize = 64;
/// A box that has grown beyond this is not kept.
const SPARE_BYTES_MAX: usize = 256 * 1024;

impl Batch {
    /// Bytes of memory that the box holds on to.
    fn memory(&self) -> usize {
        self.requests.capacity() + self.replies.capacity() + self.items.capacity() * size_of::<Item>()
    }
}

impl Mesh {
    /// Makes the ends for `cores` cores, with room for `capacity` parcels in each queue.
    pub fn new(cores: usize, capacity: usize) -> Vec<Self> {
        let mut ends: Vec<Self> = (0..cores)
            .map(|me| Self {
                me,
                next: me,
                outgoing: (0..cores).map(|_| None).collect(),
                incoming: (0..cores).map(|_| None).collect(),
                bells: vec![None; cores],
                outboxes: (0..cores).map(|_| VecDeque::new()).collect(),
                building: (0..cores).map(|_| None).collect(),
                unanswered: vec![0; cores],
                is_behind: false,
                unanswered_bytes_max: usize::MAX,
                spare: Vec::new(),
            })
            .collect();
        for from in 0..cores {
            for to in (0..cores).filter(|&to| to != from) {
                let (producer, consumer) = RingBuffer::new(capacity);
                ends[from].outgoing[to] = Some(producer);
                ends[to].incoming[from] = Some(consumer);
            }
        }
        ends
    }

    /// Tells this core how to wake the others. Nothing may be sent before.
    pub fn set_bells(&mut self, bells: Vec<Arc<Bell>>) {
        assert_eq!(bells.len(), self.bells.len(), "a bell for each core");
        self.bells = bells.into_iter().map(Some).collect();
    }

    /// Puts a request into this turn's box for a core: `write` appends its bytes.
    #[inline]
    pub fn ask(&mut self, core: usize, item: Item, write: impl FnOnce(&mut Vec<u8>)) {
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

    /// Notes that a core has answered requests of so many bytes. Returns whether that ends a time in which a core
    /// [was behind](Self::is_behind).
    pub fn answered(&mut self, core: usize, request_bytes: usize) -> bool {
        self.unanswered[core] -= request_bytes;
        let max = self.unanswered_bytes_max / 2;
        let was_behind = self.is_behind;
        self.is_behind &= self.unanswered.iter().any(|&bytes| max < bytes);
        was_behind && !self.is_behind
    }

    /// Whether some core, for its disk or its work, is so far behind with what it was asked that nothing more should be asked of
    /// any: it would be kept in memory until it is answered.
    #[inline]
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Puts a parcel into the outbox for a core; [`flush`](Self::flush) sends it.
    pub fn post(&mut self, core: usize, parcel: Parcel) {
        self.outboxes[core].push_back(parcel);
    }

    /// Takes the next parcel that has come in, and who it is from.
    pub fn receive(&mut self) -> Option<(usize, Parcel)> {
        let cores = self.incoming.len();
        (0..cores).find_map(|_| {
            // Each core in its turn, so that a busy one can't keep the others waiting.
            self.next = (self.next + 1) % cores;
            Some((self.next, self.incoming[self.next].as_mut()?.pop().ok()?))
        })
    }

    /// Whether a parcel has come in.
    pub fn has_arrivals(&self) -> bool {
        self.incoming.iter().flatten().any(|queue| !queue.is_empty())
    }

    /// Whether something waits for room in a queue.
    pub fn has_backlog(&self) -> bool {
        self.outboxes.iter().any(|outbox| !outbox.is_empty())
    }

    /// Takes a box back once its replies have been handed out.
    pub fn recycle(&mut self, mut batch: Box<Batch>) {
        if self.spare.len() < SPARE_MAX && batch.memory() < SPARE_BYTES_MAX {
            batch.items.clear();
            batch.requests.clear();
            batch.replies.clear();
            self.spare.push(batch);
        }
    }

    /// Sends what has room, and wakes who gets something.
    pub fn flush(&mut self) {
        for core in 0..self.outboxes.len() {
            if let Some(batch) = self.building[core].take() {
                self.outboxes[core].push_back(Parcel::Requests(batch));
            }
            let outbox = &mut self.outboxes[core];
            let Some(queue) = self.outgoing[core].as_mut().filter(|_| !outbox.is_empty()) else { continue };
            let mut has_sent = false;
            while let Some(parcel) = outbox.pop_front() {
                match queue.push(parcel) {
                    Ok(()) => has_sent = true,
                    Err(rtrb::PushError::Full(parcel)) => {
                        outbox.push_front(parcel);
                        break;
                    }
                }
            }
            if let Some(bell) = self.bells[core].as_ref().filter(|_| has_sent) {
                bell.ring();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two cores, with room for this many parcels between them, and nobody to wake.
    fn pair(capacity: usize) -> (Mesh, Mesh) {
        let mut ends = Mesh::new(2, capacity).into_iter();
        (ends.next().expect("two ends"), ends.next().expect("two ends"))
    }

    /// Replies whose number shows in their length.
    fn numbered(number: usize) -> Parcel {
        Parcel::Replies(Box::new(Batch { replies: vec![0; number], ..Batch::default() }))
    }

    fn item(number: usize) -> Item {
        Item {
            connection: ConnectionId::nobody(),
            ticket: Ticket(number as u64),
            part: None,
            version: Version::Two,
            no_touch: false,
            is_unwanted: false,
            request_bytes: 0,
            reply_end: 0,
        }
    }

    fn number((from, parcel): (usize, Parcel)) -> (usize, usize) {
        let Parcel::Replies(batch) = parcel else { panic!("replies") };
        (from, batch.replies.len())
    }

    /// What finds its queue full waits in the outbox, and nothing overtakes anything.
    #[test]
    fn parcels_arrive_in_order_though_the_queue_is_full() {
        let (mut one, mut two) = pair(4);
        (0..10).for_each(|number| one.post(1, numbered(number)));
        let mut arrived = Vec::new();
        for next in 10..30 {
            one.flush();
            assert!(one.has_backlog(), "six of ten had no room");
            // Somebody who asks for a little at a time, while more is sent.
            arrived.extend(two.receive().map(number));
            one.post(1, numbered(next));
        }
        while one.has_backlog() || two.has_arrivals() {
            one.flush();
            arrived.extend(std::iter::from_fn(|| two.receive()).map(number));
        }
        assert_eq!(arrived, (0..30).map(|number| (0, number)).collect::<Vec<_>>());
    }

    /// Two cores that have filled each other's queues both go on: each takes what comes in, whatever it has going out.
    #[test]
    fn two_full_queues_do_not_block_each_other() {
        let (mut one, mut two) = pair(2);
        for number in 0..100 {
            one.post(1, numbered(number));
            two.post(0, numbered(number));
        }
        let (mut at_one, mut at_two) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            one.flush();
            two.flush();
            at_one.extend(one.receive().map(number));
            at_two.extend(two.receive().map(number));
        }
        assert_eq!(at_one, (0..100).map(|number| (1, number)).collect::<Vec<_>>());
        assert_eq!(at_two, (0..100).map(|number| (0, number)).collect::<Vec<_>>());
    }

    /// What a turn has for a core goes as one parcel, behind what was posted before; its box comes back and is used again.
    #[test]
    fn a_turns_requests_go_as_one_parcel_whose_box_returns() {
        let (mut one, mut two) = pair(4);
        one.ask(1, item(1), |requests| requests.extend_from_slice(b"first "));
        one.ask(1, item(2), |requests| requests.extend_from_slice(b"second"));
        one.flush();
        let Some((0, Parcel::Requests(mut batch))) = two.receive() else { panic!("requests of core 0") };
        assert_eq!(batch.requests, b"first second");
        assert_eq!(batch.items.iter().map(|item| item.request_bytes).collect::<Vec<_>>(), [6, 6]);
        assert!(!two.has_arrivals());
        let address = std::ptr::from_ref(&*batch);
        batch.replies.extend_from_slice(b"reply");
        two.post(0, Parcel::Replies(batch));
        two.flush();
        let Some((1, Parcel::Replies(batch))) = one.receive() else { panic!("replies of core 1") };
        assert_eq!(batch.replies, b"reply");
        one.recycle(batch);
        one.ask(1, item(3), |requests| requests.extend_from_slice(b"third"));
        let again = one.building[1].as_deref().expect("a box for core 1");
        assert!(std::ptr::eq(address, again), "the box is used again");
        assert!(again.requests == b"third" && again.replies.is_empty() && again.items.len() == 1);
    }

    /// Boxes that come back do not pile up, neither many nor large ones, whatever of them is large.
    #[test]
    fn the_boxes_that_are_kept_are_bounded() {
        let (mut one, _) = pair(4);
        for number in 0..1000 {
            let large = || Vec::with_capacity(SPARE_BYTES_MAX);
            one.recycle(Box::new(match number % 4 {
                0 => Batch { requests: large(), ..Batch::default() },
                1 => Batch { replies: large(), ..Batch::default() },
                2 => Batch {
                    items: (0..SPARE_BYTES_MAX / size_of::<Item>() + 1).map(item).collect(),
                    ..Batch::default()
                },
                _ => Batch { replies: vec![0; SPARE_BYTES_MAX / 2], ..Batch::default() },
            }));
        }
        assert_eq!(one.spare.len(), SPARE_MAX);
        assert!(one.spare.iter().all(|batch| batch.memory() < SPARE_BYTES_MAX));
    }

    /// Nothing more is asked while a core has not answered more than it may have, nor until it has answered half of it.
    #[test]
    fn a_core_that_does_not_answer_is_not_asked_for_ever() {
        let mut mesh = Mesh::new(3, 4).remove(0);
        mesh.unanswered_bytes_max = 100;
        let ask = |mesh: &mut Mesh, core, bytes| mesh.ask(core, item(0), |requests| requests.extend(vec![0; bytes]));
        ask(&mut mesh, 1, 100);
        ask(&mut mesh, 2, 90);
        assert!(!mesh.is_behind(), "no core has more than it may have");
        ask(&mut mesh, 1, 1);
        assert!(mesh.is_behind());
        assert!(!mesh.answered(1, 51) && mesh.is_behind(), "core 2 still has more than half");
        assert!(mesh.answered(2, 40) && !mesh.is_behind());
        assert!(!mesh.answered(1, 50) && !mesh.answered(2, 50), "it has ended already");
    }

    /// Between threads nothing is lost, doubled or overtaken.
    #[test]
    fn nothing_is_lost_between_threads() {
        const COUNT: usize = 20_000;
        let (mut one, mut two) = pair(16);
        let receiver = std::thread::spawn(move || {
            let mut expected = 0;
            while expected < COUNT {
                if let Some(arrived) = two.receive() {
                    assert_eq!(number(arrived), (0, expected % 100));
                    expected += 1;
                } else {
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..COUNT {
            one.post(1, numbered(number % 100));
            one.flush();
            while 100 < one.outboxes[1].len() {
                std::thread::yield_now();
                one.flush();
            }
        }
        while one.has_backlog() {
            std::thread::yield_now();
            one.flush();
        }
        receiver.join().expect("it saw all of them, in order");
    }
}
