//! Replies that wait for the log.

use super::{
    Action, Engine,
    connection::ConnectionId,
    message::{Batch, Message},
};
use crate::wait::Wait;
use std::collections::VecDeque;

/// Replies that may not leave before what they wait for is committed; both queues are in the order of the log.
#[derive(Default)]
pub(super) struct Holds {
    /// Connections with such replies.
    connections: VecDeque<(Wait, ConnectionId)>,
    /// Replies for other cores.
    batches: VecDeque<(Wait, usize, Box<Batch>)>,
    /// So much of the log waited for the disk that no request was executed.
    pub(super) was_stalled: bool,
}

impl Engine {
    /// Notes that a connection has replies which wait for this.
    pub(super) fn hold(&mut self, id: ConnectionId, wait: Wait) {
        if let Some(durability) = &mut self.durability {
            let held = &mut durability.holds.connections;
            // Nearly always the last: a read may wait for an earlier write than those that came before it.
            let earlier = |(other, _): &(Wait, ConnectionId)| other.position() <= wait.position();
            let position = held.iter().rposition(earlier).map_or(0, |before| before + 1);
            held.insert(position, (wait, id));
        }
    }

    /// Sends replies to another core when what they wait for is committed.
    pub(super) fn post_replies(&mut self, wait: Wait, core: usize, batch: Box<Batch>) {
        match &mut self.durability {
            Some(durability) if !wait.is_none() => {
                let held = &mut durability.holds.batches;
                let earlier = |(other, ..): &(Wait, usize, Box<Batch>)| other.position() <= wait.position();
                let position = held.iter().rposition(earlier).map_or(0, |before| before + 1);
                held.insert(position, (wait, core, batch));
            }
            _ => self.actions.push(Action::Post(core, Message::Replies(batch))),
        }
    }

    /// Releases the replies that waited for what is committed now, and goes on with what waited for the log to catch up.
    pub(super) fn release_held_replies(&mut self) {
        let committed = self.shard.committed();
        let Some(durability) = &mut self.durability else { return };
        let holds = &mut durability.holds;
        while let Some((_, id)) = holds.connections.pop_front_if(|(wait, _)| wait.is_met(committed)) {
            self.connections.touch(id);
        }
        while let Some((_, core, batch)) = holds.batches.pop_front_if(|(wait, ..)| wait.is_met(committed)) {
            self.actions.push(Action::Post(core, Message::Replies(batch)));
        }
        if holds.was_stalled && !self.shard.is_stalled() {
            holds.was_stalled = false;
            self.connections.touch_waiting();
            self.resume_cores();
        }
    }
}
