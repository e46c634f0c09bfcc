//! The queues between the cores of a server.
//!
//! Between any two cores runs one queue each way: a ring of parcels with one writer and one reader, which is all that two cores
//! ever share. A core that is asleep is woken by its [`Bell`].
//!
//! Nobody ever waits here: a parcel that finds its queue full stays in an outbox, and every core takes what comes in
//! whatever it has going out, so two cores can't block each other. Outboxes are bounded because the requests that a
//! connection may have under way are (`gateway-in-flight`), and the bytes of all that a core has at another.

use super::ring::Bell;
use crate::engine::Message;
use rtrb::{Consumer, Producer, RingBuffer};
use std::{collections::VecDeque, net::TcpStream, sync::Arc};

/// A thing that goes from one core to another.
pub enum Parcel {
    /// A connection that the gateway accepted, for this core to serve.
    Connection(TcpStream),
    /// A message from one engine to another.
    Message(Message),
}

/// A core's ends of the mesh.
pub struct Mesh {
    /// The core whose parcels were taken last.
    next: usize,
    outgoing: Vec<Option<Producer<Parcel>>>,
    incoming: Vec<Option<Consumer<Parcel>>>,
    bells: Vec<Option<Arc<Bell>>>,
    /// Parcels that found their queue full, or have not been tried.
    outboxes: Vec<VecDeque<Parcel>>,
}

impl Mesh {
    /// Makes the ends for `cores` cores, with room for `capacity` parcels in each queue.
    pub fn new(cores: usize, capacity: usize) -> Vec<Self> {
        let mut ends: Vec<Self> = (0..cores)
            .map(|me| Self {
                next: me,
                outgoing: (0..cores).map(|_| None).collect(),
                incoming: (0..cores).map(|_| None).collect(),
                bells: vec![None; cores],
                outboxes: (0..cores).map(|_| VecDeque::new()).collect(),
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

    /// Returns true if a parcel has come in.
    pub fn has_arrivals(&self) -> bool {
        self.incoming.iter().flatten().any(|queue| !queue.is_empty())
    }

    /// Returns true if something waits for room in a queue.
    pub fn has_backlog(&self) -> bool {
        self.outboxes.iter().any(|outbox| !outbox.is_empty())
    }

    /// Sends what has room, and wakes who gets something.
    pub fn flush(&mut self) {
        for core in 0..self.outboxes.len() {
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
    use crate::engine::Batch;

    /// Two cores, with room for this many parcels between them, and nobody to wake.
    fn pair(capacity: usize) -> (Mesh, Mesh) {
        let mut ends = Mesh::new(2, capacity).into_iter();
        (ends.next().expect("two ends"), ends.next().expect("two ends"))
    }

    /// Replies whose number shows in their length.
    fn numbered(number: usize) -> Parcel {
        Parcel::Message(Message::Replies(Box::new(Batch { replies: vec![0; number], ..Batch::default() })))
    }

    fn number((from, parcel): (usize, Parcel)) -> (usize, usize) {
        let Parcel::Message(Message::Replies(batch)) = parcel else { panic!("replies") };
        (from, batch.replies.len())
    }

    /// A parcel that finds its queue full waits in the outbox, and nothing overtakes anything.
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
