//! The hop of a request to the core that has its keys, and the way back.

use super::{
    Action, Engine,
    clock::Clock,
    connection::ConnectionId,
    message::{Batch, Item, Message},
    saving::Saver,
    serve::Serving,
    stopwatch::Stopwatch,
};
#[cfg(test)]
use crate::witness;
use crate::{
    client::Client,
    commands::{Now, Outcome, Route},
    gateway::{self, Gather},
    resp::{Decoded, Decoder, Limits, Reply, Request},
    session::Ticket,
    shard::{Away, Shard, Share},
    slot::Slot,
    store::Cold,
    transaction::{self, Home, Watches},
    wait::Wait,
};

/// Room for so many gathers is kept by a connection that has none under way: some 8 KiB.
const GATHERS_KEPT: usize = 64;
/// No limits: requests of another core have been through them already.
const NO_LIMITS: Limits =
    Limits { arguments_max: usize::MAX >> 1, argument_bytes_max: usize::MAX >> 1, is_authenticated: true };

/// A reply that several cores give, as far as it has come.
pub(super) struct Gathering {
    pub(super) ticket: Ticket,
    pub(super) gather: Gather,
    /// The commits that the parts of this core wait for.
    pub(super) held: Wait,
    /// True if nobody waits for the reply (`CLIENT REPLY OFF`).
    pub(super) is_unwanted: bool,
    /// The number of the command's row.
    pub(super) row: u16,
}

impl Serving<'_> {
    /// Notes that another core will say what there is to watch: see [`Engine::keep_watches`].
    #[cold]
    fn await_watches(&mut self, request: Request<'_>, core: u16, ticket: Ticket) {
        let transaction = self.client.transaction.get_or_insert_default();
        transaction.home.get_or_insert(Home { slot: Slot::of(request.arg(1)), core });
        transaction.await_watches(ticket.0);
    }

    /// Sends a request to the core that owns its keys, or its parts to several.
    pub(super) fn forward(&mut self, request: Request<'_>, away: Away, ticket: Ticket, is_unwanted: bool) {
        self.shard.core.statistics.passed_on += 1;
        #[cfg(test)]
        witness::note(|| witness::Note::Away(self.connection.place(), ticket.0));
        let (connection, version, no_touch) = (self.connection, self.client.version, self.client.no_touch);
        let speaks_http = self.client.speaks_http;
        let item = |part| Item {
            connection,
            ticket,
            part,
            version,
            speaks_http,
            no_touch,
            is_unwanted,
            request_bytes: 0,
            closes: false,
            reply_end: 0,
        };
        let me = self.shard.core.me.core;
        if let Some(core) = away.whole().filter(|&core| core != me) {
            let forwarded = std::mem::take(&mut self.shard.forwarded);
            self.remote.ask(core.into(), item(None), |bytes| match &*forwarded {
                [] => crate::resp::encode_request(bytes, request.args_from(0)),
                forwarded => bytes.extend_from_slice(forwarded),
            });
            return;
        }
        if away.route == Route::Watch {
            self.await_watches(request, away.core, ticket);
        }
        let shard = &mut *self.shard;
        let random = self.random.u64(..);
        let spread = gateway::spread(request, away, shard.core.cores(), |slot| shard.local_owner(slot), random);
        let mut gather = spread.gather;
        let (mut whole, mut held) = (None, Wait::NONE);
        for (position, part) in spread.parts.into_iter().enumerate() {
            if part.core == me {
                // In the client's own name: CLIENT LIST names it, and CLIENT KILL may mean it.
                let reply = execute_part(shard, self.client, (self.now, self.clock), position, &part.bytes);
                self.stopwatch.note(shard, request, self.client, self.now, reply.as_ref().map_or(0, Vec::len));
                gather.note_keys(position, shard.store.len() as u64);
                match reply {
                    Some(reply) => whole = gather.put(position, reply),
                    None => self.unfinished.saves.push((ticket, Some(position))),
                }
                held = held.merge(shard.told);
            } else {
                let item = item(Some(position as u16));
                self.remote.ask(part.core.into(), item, |bytes| bytes.extend_from_slice(&part.bytes));
            }
        }
        match whole {
            Some(reply) => {
                note_failure(shard, away.row, &reply);
                self.unfinished.early.push((ticket, if is_unwanted { Vec::new() } else { reply }, held));
            }
            None => self.gathers.push(Gathering { ticket, gather, held, is_unwanted, row: away.row }),
        }
    }
}

/// Executes this core's own part of a spread request. There is no reply yet where that waits for a snapshot.
fn execute_part(
    shard: &mut Shard,
    client: &mut Client,
    (now, clock): (Now, Clock),
    position: usize,
    bytes: &[u8],
) -> Option<Vec<u8>> {
    let (mut decoder, mut reply) = (Decoder::default(), Vec::new());
    let decoded = decoder.decode(bytes, &NO_LIMITS);
    assert!(matches!(decoded, Ok(Decoded::Request(_))), "a core sends whole requests");
    let request = decoder.request(bytes);
    let resolved = shard.resolve(request);
    match shard.execute_passed(request, &resolved, Share::of(Some(position)), client, now, &mut reply) {
        Outcome::Stall(time) => clock.sleep(time),
        Outcome::Save => return None,
        Outcome::Done | Outcome::Shutdown => {}
    }
    Some(reply)
}

/// Counts a reply that several cores gave together and that is an error.
pub(super) fn note_failure(shard: &mut Shard, row: u16, reply: &[u8]) {
    if let Some(text) = reply.strip_prefix(b"-") {
        shard.note_failure(row, text);
    }
}

/// Makes the client in whose name others' requests are executed want what this one's wants.
fn lend(passed: &mut Client, item: &Item) {
    passed.version = item.version;
    passed.speaks_http = item.speaks_http;
    passed.no_touch = item.no_touch;
    passed.closing = false;
}

impl Engine {
    /// Tells the other cores what this one refuses, where that has changed.
    pub(super) fn tell_refusals(&mut self) {
        let refusals = self.shard.refusals();
        if std::mem::replace(&mut self.remote.told_refusals, refusals) == refusals {
            return;
        }
        let me = self.remote.me;
        for core in (0..usize::from(self.shard.core.cores())).filter(|&core| core != me) {
            self.actions.push(Action::Post(core, Message::Refusals(refusals)));
        }
    }

    /// Executes requests of another core. Returns those that wait for values or for the disk, and all behind them.
    #[must_use]
    pub(super) fn execute_batch(
        &mut self,
        from: usize,
        mut batch: Box<Batch>,
        mut failure: Option<String>,
    ) -> Option<Box<Batch>> {
        let (items, mut requests) = (std::mem::take(&mut batch.items), std::mem::take(&mut batch.requests));
        let (mut used, mut waiting) = (0, None);
        let mut items = items.into_iter();
        let mut stopwatch = Stopwatch::new(self.clock, &self.shard);
        // Replies that tell of what is not on disk go later, in a box of their own, so that the others need not wait.
        let (mut held, mut held_until) = (None::<Box<Batch>>, Wait::NONE);
        // One of its own: what clients send is in another's state.
        let mut decoder = Decoder::default();
        for mut item in items.by_ref() {
            if failure.is_none() && self.shard.is_stalled() {
                waiting = Some(item);
                break;
            }
            let rest = &requests[used..];
            let decoded = decoder.decode(rest, &NO_LIMITS);
            let Ok(Decoded::Request(length)) = decoded else { unreachable!("a core sends whole requests") };
            lend(&mut self.remote.client, &item);
            let request = decoder.request(rest);
            let resolved = self.shard.resolve(request);
            if self.awaits_slot(from, &item, request, &resolved) {
                self.await_slot(from, item, &rest[..length]);
                used += length;
                failure = None;
                continue;
            }
            if failure.is_some() && self.shard.needs_foreign_slot(request, &resolved, &self.remote.client) {
                // That is the answer.
                failure = None;
            }
            if failure.is_none() && self.shard.store.has_values_on_disk() {
                match self.shard.cold_values(request, &resolved, &self.remote.client, self.now) {
                    Err(text) => failure = Some(text.to_owned()),
                    Ok(cold) if !cold.is_empty() => {
                        self.fetch_for_core(from, cold);
                        waiting = Some(item);
                        break;
                    }
                    Ok(_) => {}
                }
            }
            used += length;
            let start = batch.replies.len();
            #[cfg(test)]
            witness::note(|| {
                let ConnectionId { place, generation } = item.connection;
                witness::Note::For(from, (place, generation), item.ticket.0)
            });
            if let Some(mut text) = failure.take() {
                if transaction::forwarded(request).is_some() {
                    text = transaction::discarded(&text);
                }
                self.shard.core.statistics.errors.note(text.as_bytes());
                #[cfg(test)]
                witness::note(|| witness::Note::Failed(None));
                Reply { output: &mut batch.replies, version: item.version }.error(&text);
                item.reply_end = batch.replies.len();
                batch.items.push(item);
                continue;
            }
            stopwatch.prepare(&mut self.shard, request);
            let share = Share::of(item.part.map(usize::from));
            let (client, now) = (&mut self.remote.client, self.now);
            let outcome = self.shard.execute_passed(request, &resolved, share, client, now, &mut batch.replies);
            item.closes = self.remote.client.closing;
            let output_bytes = batch.replies.len().saturating_sub(start);
            stopwatch.note(&mut self.shard, request, &self.remote.client, self.now, output_bytes);
            match outcome {
                Outcome::Stall(time) => self.clock.sleep(time),
                Outcome::Save => {
                    let waiting = Batch { items: vec![item], ..Batch::default() };
                    self.wait_for_snapshot(Saver::Core(from, Box::new(waiting)));
                    continue;
                }
                Outcome::Done | Outcome::Shutdown => {}
            }
            let told = self.shard.told;
            let place = if told.is_none() {
                &mut batch
            } else {
                held_until = held_until.merge(told);
                let held = held.get_or_insert_default();
                held.replies.extend_from_slice(&batch.replies[start..]);
                batch.replies.truncate(start);
                held
            };
            item.reply_end = place.replies.len();
            place.items.push(item);
        }
        stopwatch.finish(&mut self.shard, self.now);
        let waiting = waiting.map(|first| {
            let items = std::iter::once(first).chain(items).collect();
            let rest = if used == 0 { std::mem::take(&mut requests) } else { requests.split_off(used) };
            Box::new(Batch { items, requests: rest, ..Batch::default() })
        });
        batch.requests = requests;
        batch.keys = self.shard.store.len() as u64;
        self.actions.push(Action::Post(from, Message::Replies(batch)));
        if let Some(mut held) = held {
            held.keys = self.shard.store.len() as u64;
            self.post_replies(held_until, from, held);
        }
        waiting
    }

    /// The values that a batch's requests need and that have to be fetched.
    pub(super) fn cold_values_of(&mut self, batch: &Batch) -> Vec<Cold> {
        let (mut used, mut decoder, mut found, mut bytes) = (0, Decoder::default(), Vec::new(), 0);
        for _ in &batch.items {
            let rest = &batch.requests[used..];
            let Ok(Decoded::Request(length)) = decoder.decode(rest, &NO_LIMITS) else { break };
            used += length;
            let request = decoder.request(rest);
            let resolved = self.shard.resolve(request);
            let cold = self.shard.cold_values(request, &resolved, &self.remote.client, self.now).unwrap_or_default();
            bytes += cold.iter().map(|cold| cold.length).sum::<usize>();
            if self.shard.core.config.output_hard_limit < bytes {
                break;
            }
            found.extend(cold);
        }
        found
    }

    pub(super) fn hand_out(&mut self, from: usize, batch: Box<Batch>) {
        let (mut start, mut is_relieved) = (0, false);
        for item in &batch.items {
            is_relieved |= self.remote.note_answer(from, item.request_bytes);
            let reply = batch.replies[start..item.reply_end].to_vec();
            start = item.reply_end;
            if item.closes
                && let Some(connection) = self.connections.get_mut(item.connection)
            {
                connection.session.closing = true;
            }
            match item.part {
                Some(part) => {
                    self.note_keys(item, part.into(), batch.keys);
                    self.complete_part(item.connection, item.ticket, part.into(), reply, Wait::NONE);
                }
                None => {
                    let reply = if item.is_unwanted { Vec::new() } else { reply };
                    self.complete(item.connection, item.ticket, reply, Wait::NONE);
                }
            }
        }
        self.remote.recycle(batch);
        if is_relieved {
            self.connections.touch_waiting();
        }
    }

    /// Gives a connection a reply that it waited for, if it is still there.
    pub(super) fn complete(&mut self, id: ConnectionId, ticket: Ticket, reply: Vec<u8>, held: Wait) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.session.complete(ticket, reply, held);
        self.connections.touch(id);
    }

    /// Notes how many keys the core has that has answered a part of a request.
    fn note_keys(&mut self, item: &Item, part: usize, keys: u64) {
        let Some(connection) = self.connections.get_mut(item.connection) else { return };
        let is_it = |gathering: &&mut Gathering| gathering.ticket == item.ticket;
        if let Some(gathering) = connection.gathers.iter_mut().find(is_it) {
            gathering.gather.note_keys(part, keys);
        }
    }

    /// Gives a connection a part of a reply; with the last part, the reply is whole.
    pub(super) fn complete_part(&mut self, id: ConnectionId, ticket: Ticket, part: usize, reply: Vec<u8>, held: Wait) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let position = connection.gathers.iter().position(|gathering| gathering.ticket == ticket);
        let position = position.expect("a spread request is gathered");
        let gathering = &mut connection.gathers[position];
        gathering.held = gathering.held.merge(held);
        let Some(reply) = gathering.gather.put(part, reply) else { return };
        let Gathering { held, is_unwanted, row, .. } = connection.gathers.swap_remove(position);
        let is_watch = self.shard.row(row).route == Route::Watch;
        note_failure(&mut self.shard, row, &reply);
        if connection.gathers.is_empty() && GATHERS_KEPT < connection.gathers.capacity() {
            connection.gathers = Vec::new();
        }
        let (reply, goes_on) = if is_watch { self.keep_watches(id, ticket, reply) } else { (reply, false) };
        self.complete(id, ticket, if is_unwanted { Vec::new() } else { reply }, held);
        if goes_on && let Some(connection) = self.connections.get_mut(id) {
            connection.session.resume();
            self.receive(id, &[]);
        }
    }

    /// Keeps what another core has seen of the keys that a client watches. Returns the reply to the client, and true if its EXEC
    /// has waited for this.
    #[cold]
    fn keep_watches(&mut self, id: ConnectionId, ticket: Ticket, reply: Vec<u8>) -> (Vec<u8>, bool) {
        let encoded = reply.strip_prefix(b"$").and_then(|rest| rest.splitn(2, |&byte| byte == b'\n').nth(1));
        let watches = encoded.and_then(|encoded| Watches::decode(encoded.strip_suffix(b"\r\n")?));
        let answer = if watches.is_some() { b"+OK\r\n".to_vec() } else { reply };
        let client = self.shard.core.clients.get_mut(id.place());
        let transaction = client.and_then(|client| client.transaction.as_mut());
        (answer, transaction.is_some_and(|transaction| transaction.take_watches(ticket.0, watches)))
    }
}
