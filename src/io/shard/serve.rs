//! Executing what has arrived: from a client, or from another core in a client's name.

use super::{ConnectionId, State, durable::Saver, stopwatch::Stopwatch};
use crate::{
    client::{Client, Port, ReplyMode},
    commands::{Now, Outcome, Route},
    gateway::{self, Gather},
    http,
    io::{
        mesh::{Batch, Item, Mesh, Parcel},
        server::Control,
    },
    resp::{Decoded, Decoder, Limits, ProtocolError, Reply, Request},
    session::{Answer, Executor, HasPassword, Ticket},
    shard::{Away, Execution, Resolved, Shard, Share, silence},
    slot::Slot,
    store::Cold,
    transaction::{Home, Watches},
    wal::Lsn,
};
/// Parcels of a turn at most, so that connections get theirs.
const PARCELS_PER_TURN: usize = 64;
/// Bytes that a client may have sent ahead of what is executed before it has given the password. Until it is paused some arrive.
const STRANGER_UNREAD_MAX: usize = 1 << 20;
/// The time between two warnings of HTTP requests: whoever sends many must not fill the log.
const HTTP_WARNING_EVERY_US: u64 = 1_000_000;
/// Room for so many gathers is kept by a connection that has none under way: some 8 KiB.
const GATHERS_KEPT: usize = 64;
/// What comes from another core has been through the limits already.
const NO_LIMITS: Limits =
    Limits { arguments_max: usize::MAX >> 1, argument_bytes_max: usize::MAX >> 1, is_authenticated: true };

/// A reply that several cores give, as far as it has come.
pub(super) struct Gathering {
    ticket: Ticket,
    gather: Gather,
    /// What the parts that this core gave wait for.
    held: Lsn,
    /// Whether nobody waits for the reply (`CLIENT REPLY OFF`).
    is_unwanted: bool,
    /// The number of the command's row.
    row: u16,
}

/// Executes the requests of one connection.
struct Turn<'a> {
    shard: &'a mut Shard,
    mesh: &'a mut Mesh,
    client: &'a mut Client,
    control: &'a Control,
    gathers: &'a mut Vec<Gathering>,
    /// Replies that were whole before the session knew that it has to wait.
    early: Vec<(Ticket, Vec<u8>, Lsn)>,
    /// Tickets of replies that wait for a snapshot, and which part of the reply, where it is one of several.
    saves: Vec<(Ticket, Option<usize>)>,
    connection: ConnectionId,
    now: Now,
    stopwatch: Stopwatch,
    /// Values that requests will need which come after the one at hand, and those that this one waits for.
    foreseen: Vec<Cold>,
    awaited: Vec<Cold>,
    /// Why the values that the next request needs can't be had.
    failure: Option<String>,
    /// When the next password is looked at, where it waits.
    password_at: &'a mut Option<u64>,
}

impl Executor for Turn<'_> {
    type Resolved = Resolved;

    #[inline]
    fn limits(&self) -> Limits {
        let config = &self.shard.core.config;
        if self.client.authenticated {
            Limits {
                arguments_max: config.max_request_args,
                argument_bytes_max: config.proto_max_bulk_len,
                is_authenticated: true,
            }
        } else {
            Limits {
                arguments_max: config.unauthenticated_max_args,
                argument_bytes_max: config.unauthenticated_max_arg_bytes,
                is_authenticated: false,
            }
        }
    }

    #[inline]
    fn fetch_foreseen(&mut self) {
        self.shard.store.fetch_foreseen();
    }

    #[inline]
    fn resolve(&self, request: Request<'_>) -> Resolved {
        self.shard.resolve(request)
    }

    #[inline]
    fn foresee(&mut self, request: Request<'_>, resolved: &Resolved) {
        self.shard.foresee(request, resolved);
        if self.shard.store.has_values_on_disk() {
            self.foreseen.extend(self.shard.cold_values(request, resolved, self.client, self.now));
        }
    }

    #[inline]
    fn is_stalled(&self) -> bool {
        self.shard.is_stalled() || (self.client.port == Port::Gateway && self.mesh.is_behind())
    }

    #[inline]
    fn execute(&mut self, request: Request<'_>, resolved: Resolved, output: &mut Vec<u8>, ticket: Ticket) -> Answer {
        let is_unwanted = self.client.reply_mode != ReplyMode::On;
        if self.shard.store.has_values_on_disk()
            && let Some(answer) = self.fetch(request, &resolved, output)
        {
            return answer;
        }
        if !self.client.authenticated && names_password(request) && self.is_braked() {
            return Answer::NotYet;
        }
        let start = output.len();
        self.stopwatch.prepare(self.shard, request);
        let execution = self.shard.execute_resolved(request, resolved, self.client, self.now, output);
        self.stopwatch.note(self.shard, request, self.client, self.now, output.len().saturating_sub(start));
        match execution {
            Execution::Done(Outcome::Done) if self.client.closing => Answer::Last,
            Execution::Done(Outcome::Done) if self.shard.told == Lsn(0) => Answer::Here,
            Execution::Done(Outcome::Done) => Answer::Held(self.shard.told),
            Execution::Done(outcome) => self.after(outcome, ticket),
            Execution::Away(away) => {
                self.pass_on(request, away, ticket, is_unwanted);
                // CLIENT KILL on every core may have meant this client, by the part that was executed here.
                if self.client.closing { Answer::LastLater } else { Answer::Later }
            }
            Execution::Wait => Answer::NotYet,
        }
    }

    fn http_limits(&self) -> http::Limits {
        let config = &self.shard.core.config;
        let (key_max, value_max) = (config.max_key_bytes, config.proto_max_bulk_len);
        let limits = http::Limits::new(key_max, value_max, config.max_request_args, config.max_request_bytes);
        if self.client.authenticated {
            return limits;
        }
        limits.unauthenticated(config.unauthenticated_max_args * config.unauthenticated_max_arg_bytes)
    }

    fn unix_seconds(&self) -> u64 {
        self.now.unix_us / 1_000_000
    }

    fn must_wait(&mut self) -> bool {
        self.is_braked()
    }

    fn authenticate(&mut self, has_password: Option<HasPassword<'_>>) -> bool {
        let core = &mut self.shard.core;
        let expected = core.config.requirepass.0.as_slice();
        self.client.authenticated = expected.is_empty() || has_password.is_some_and(|is_right| is_right(expected));
        if !self.client.authenticated && has_password.is_some() {
            core.clients.brake.note_failure(&self.client.address, self.now.monotonic_us);
        }
        self.client.authenticated
    }

    fn is_own_host(&self, authority: &[u8]) -> bool {
        let core = &self.shard.core;
        let config = &core.config;
        if !config.requirepass.0.is_empty() {
            return true;
        }
        let machine = core.process.host_name.as_str();
        let short = machine.split('.').next().unwrap_or_default();
        let server = &core.topology.servers()[usize::from(core.me.server)];
        let names = [&config.name, &server.host].map(String::as_str);
        let names = names.into_iter().chain([machine, short]).chain(config.announce.as_deref());
        http::host::is_own(authority, names, &config.http_hosts)
    }

    fn elsewhere(&self, key: &[u8]) -> Option<(&str, u16)> {
        self.shard.elsewhere(key)
    }

    fn introduce(&mut self, agent: &[u8]) {
        let is_plain = |byte: &&u8| (b'!'..=b'~').contains(*byte);
        let product = agent.iter().take_while(is_plain).take(AGENT_BYTES_MAX).copied().map(char::from);
        self.client.library_version = product.collect::<String>().into();
        self.client.library_name = "http".into();
        self.client.speaks_http = true;
    }

    #[cold]
    fn note_refusal(&mut self) {
        self.shard.core.statistics.errors.note(b"HTTP");
    }
}

/// Returns true for AUTH, and for a HELLO that may have one.
fn names_password(request: Request<'_>) -> bool {
    let name = request.arg(0);
    name.eq_ignore_ascii_case(b"auth") || (2 < request.len() && name.eq_ignore_ascii_case(b"hello"))
}

/// What of a client's `User-Agent` is shown in CLIENT LIST.
const AGENT_BYTES_MAX: usize = 64;

impl Turn<'_> {
    /// Returns true if a stranger's password is not to be looked at yet. The connection is shown it again when it is.
    #[cold]
    fn is_braked(&mut self) -> bool {
        let brake = &self.shard.core.clients.brake;
        if self.client.authenticated || brake.is_empty() {
            return false;
        }
        let now_us = self.now.monotonic_us;
        match self.password_at.take() {
            Some(at) if at <= now_us => return false,
            Some(at) => *self.password_at = Some(at),
            None => match brake.delay_us(&self.client.address, now_us) {
                0 => return false,
                delay => *self.password_at = Some(now_us + delay),
            },
        }
        true
    }

    /// Answers a request whose values have to be fetched first, or could not be.
    fn fetch(&mut self, request: Request<'_>, resolved: &Resolved, output: &mut Vec<u8>) -> Option<Answer> {
        if let Some(mut text) = self.failure.take() {
            if self.client.transaction.take_if(|transaction| transaction.is_open).is_some() {
                // It was EXEC that waited for the values of its queue.
                text = text.replacen("ERR", "EXECABORT Transaction discarded because of:", 1);
            }
            self.shard.core.statistics.errors.note(text.as_bytes());
            let start = output.len();
            Reply { output, version: self.client.version }.error(&text);
            silence(self.client, start, output);
            return Some(Answer::Here);
        }
        self.awaited = self.shard.cold_values(request, resolved, self.client, self.now);
        (!self.awaited.is_empty()).then_some(Answer::NotYet)
    }

    #[cold]
    fn after(&mut self, outcome: Outcome, ticket: Ticket) -> Answer {
        match outcome {
            Outcome::Done => Answer::Here,
            Outcome::Stall(time) => {
                std::thread::sleep(time);
                if self.shard.told == Lsn(0) { Answer::Here } else { Answer::Held(self.shard.told) }
            }
            Outcome::Shutdown => {
                self.control.stop();
                Answer::Last
            }
            Outcome::Save => {
                self.saves.push((ticket, None));
                Answer::Later
            }
        }
    }

    /// Notes that another core will say what there is to watch: see [`State::keep_watches`].
    #[cold]
    fn await_watches(&mut self, request: Request<'_>, core: u16, ticket: Ticket) {
        let transaction = self.client.transaction.get_or_insert_default();
        transaction.home.get_or_insert(Home { slot: Slot::of(request.arg(1)), core });
        transaction.await_watches(ticket.0);
    }

    /// Sends a request to the core that owns its keys, or its parts to several.
    fn pass_on(&mut self, request: Request<'_>, away: Away, ticket: Ticket, is_unwanted: bool) {
        self.shard.core.statistics.passed_on += 1;
        let (connection, version, no_touch) = (self.connection, self.client.version, self.client.no_touch);
        let item =
            |part| Item { connection, ticket, part, version, no_touch, is_unwanted, request_bytes: 0, reply_end: 0 };
        let me = self.shard.core.me.core;
        if let Some(core) = away.whole().filter(|&core| core != me) {
            let forwarded = std::mem::take(&mut self.shard.forwarded);
            self.mesh.ask(core.into(), item(None), |bytes| match &*forwarded {
                [] => crate::resp::encode_request(bytes, request.args_from(0)),
                forwarded => bytes.extend_from_slice(forwarded),
            });
            return;
        }
        if away.route == Route::Watch {
            self.await_watches(request, away.core, ticket);
        }
        let shard = &mut *self.shard;
        let random = fastrand::u64(..);
        let spread = gateway::spread(request, away, shard.core.cores(), |slot| shard.local_owner(slot), random);
        let mut gather = spread.gather;
        let (mut whole, mut held) = (None, Lsn(0));
        for (position, part) in spread.parts.into_iter().enumerate() {
            if part.core == me {
                // In the client's own name: CLIENT LIST names it, and CLIENT KILL may mean it.
                let reply = execute_part(shard, self.client, self.now, position, &part.bytes);
                self.stopwatch.note(shard, request, self.client, self.now, reply.as_ref().map_or(0, Vec::len));
                gather.note_keys(position, shard.store.len() as u64);
                match reply {
                    Some(reply) => whole = gather.put(position, reply),
                    None => self.saves.push((ticket, Some(position))),
                }
                held = held.max(shard.told);
            } else {
                let item = item(Some(position as u16));
                self.mesh.ask(part.core.into(), item, |bytes| bytes.extend_from_slice(&part.bytes));
            }
        }
        match whole {
            Some(reply) => {
                note_failure(shard, away.row, &reply);
                self.early.push((ticket, if is_unwanted { Vec::new() } else { reply }, held));
            }
            None => self.gathers.push(Gathering { ticket, gather, held, is_unwanted, row: away.row }),
        }
    }
}

/// Executes this core's own part of a spread request. There is no reply yet where that waits for a snapshot.
fn execute_part(shard: &mut Shard, client: &mut Client, now: Now, position: usize, bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut decoder, mut reply) = (Decoder::default(), Vec::new());
    let decoded = decoder.decode(bytes, &NO_LIMITS);
    assert!(matches!(decoded, Ok(Decoded::Request(_))), "a core sends whole requests");
    let request = decoder.request(bytes);
    let resolved = shard.resolve(request);
    match shard.execute_passed(request, &resolved, Share::of(Some(position)), client, now, &mut reply) {
        Outcome::Stall(time) => std::thread::sleep(time),
        Outcome::Save => return None,
        Outcome::Done | Outcome::Shutdown => {}
    }
    Some(reply)
}

/// Counts a reply that several cores gave together and that is an error.
fn note_failure(shard: &mut Shard, row: u16, reply: &[u8]) {
    if let Some(text) = reply.strip_prefix(b"-") {
        shard.note_failure(row, text);
    }
}

/// Makes the client in whose name others' requests are executed want what this one's wants.
fn lend(passed: &mut Client, item: &Item) {
    passed.version = item.version;
    passed.no_touch = item.no_touch;
}

impl State {
    /// Executes what has arrived on a connection, and what had to wait before it.
    #[inline]
    pub(super) fn receive(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.note_ready();
        let Some(connection) = self.connections[id.place()].as_mut() else { return };
        let Some(mut client) = self.shard.core.clients.take(id.place()) else { return };
        let connection = &mut **connection;
        if connection.session.output.capacity() == 0 {
            connection.session.output = self.buffers.take();
        }
        client.active_us = self.now.monotonic_us;
        self.shard.core.statistics.input_bytes += bytes.len() as u64;
        let stopwatch = Stopwatch::new(self.clock, &self.shard);
        let mut turn = Turn {
            shard: &mut self.shard,
            mesh: &mut self.mesh,
            client: &mut client,
            control: &self.control,
            gathers: &mut connection.gathers,
            early: Vec::new(),
            saves: Vec::new(),
            connection: id,
            now: self.now,
            stopwatch,
            foreseen: Vec::new(),
            awaited: Vec::new(),
            failure: connection.fetching.failure.take(),
            password_at: &mut connection.password_at,
        };
        let password_at = *turn.password_at;
        connection.backpressure.output_bytes_max = output_bytes_max(turn.shard, turn.client.authenticated);
        // A client that was killed earlier in this turn, and is not closed yet, executes no more.
        connection.session.closing |= turn.client.closing;
        connection.backpressure.waiting_max = turn.shard.core.config.gateway_in_flight;
        let received = connection.session.receive(bytes, &mut self.decoder, &connection.backpressure, &mut turn);
        turn.stopwatch.finish(turn.shard, self.now);
        if let Some(at) = *turn.password_at
            && password_at != Some(at)
        {
            self.braked.push((id, at));
        }
        let (early, saves, foreseen, awaited) = (turn.early, turn.saves, turn.foreseen, turn.awaited);
        early.into_iter().for_each(|(ticket, reply, held)| connection.session.complete(ticket, reply, held));
        if let Err(error) = received {
            if error == ProtocolError::Http && self.warned_of_http_us <= self.now.monotonic_us {
                self.warned_of_http_us = self.now.monotonic_us + HTTP_WARNING_EVERY_US;
                tracing::warn!(
                    client = &*client.address,
                    "an HTTP request came where the Redis protocol is spoken, maybe from a web page that tries to run \
                     commands: nothing of it was executed, and the connection is closed"
                );
            }
            let output = connection.session.tail().0;
            let text = format!("ERR {error}");
            Reply { output, version: client.version }.error(&text);
            self.shard.core.statistics.errors.note(text.as_bytes());
        }
        self.shard.core.statistics.note_memory(self.shard.store.memory());
        // CLIENT KILL may have meant who sent it; its answer still leaves.
        connection.session.closing |= client.closing;
        client.input_bytes = connection.session.unread_bytes();
        client.output_bytes = connection.session.owed_bytes();
        // Of a blocked session these are whole requests, which a pause bounds.
        let is_too_big = self.shard.core.config.max_request_bytes < client.input_bytes;
        connection.has_failed |= is_too_big && !connection.session.is_blocked(&connection.backpressure);
        connection.has_failed |= !client.authenticated && STRANGER_UNREAD_MAX < client.input_bytes;
        if connection.session.output.is_empty() && connection.session.output.capacity() != 0 {
            self.buffers.keep(std::mem::take(&mut connection.session.output));
        }
        self.shard.core.clients.put(id.place(), client);
        self.touch(id);
        if !foreseen.is_empty() || !awaited.is_empty() {
            self.fetch_for_client(id, foreseen, awaited);
        }
        for (ticket, part) in saves {
            let saver = part.map_or(Saver::Client(id, ticket), |part| Saver::Part(id, ticket, part));
            self.wait_for_snapshot(saver);
        }
    }

    /// Goes on with the sessions whose passwords have waited for long enough.
    pub(super) fn resume_braked(&mut self) {
        let now_us = self.now.monotonic_us;
        for (id, _) in self.braked.extract_if(.., |(_, at)| *at <= now_us).collect::<Vec<_>>() {
            let connection = self.connections[id.place()].as_mut().filter(|connection| connection.id == id);
            let Some(connection) = connection else { continue };
            connection.session.resume();
            self.receive(id, &[]);
        }
    }

    /// Executes what other cores have sent, and takes the replies that they give. Returns how many parcels there were.
    pub(super) fn take_parcels(&mut self) -> usize {
        for count in 0..PARCELS_PER_TURN {
            let Some((from, parcel)) = self.mesh.receive() else { return count };
            self.note_ready();
            match parcel {
                Parcel::Connection(socket) => self.accepted.push((crate::client::Port::Gateway, socket)),
                Parcel::Left => self.gateway_connections[from] -= 1,
                Parcel::Refusals(refusals) => self.shard.remote_refusals[from] = refusals,
                Parcel::Requests(batch) => self.take_batch(from, batch),
                Parcel::Replies(batch) => self.hand_out(from, batch),
            }
        }
        PARCELS_PER_TURN
    }

    /// Tells the other cores what this one refuses, where that has changed.
    pub(super) fn tell_refusals(&mut self) {
        let refusals = self.shard.refusals();
        if std::mem::replace(&mut self.told_refusals, refusals) == refusals {
            return;
        }
        let me = self.me();
        for core in (0..usize::from(self.shard.core.cores())).filter(|&core| core != me) {
            self.mesh.post(core, Parcel::Refusals(refusals));
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
        let (mut held, mut held_until) = (None::<Box<Batch>>, Lsn(0));
        // One of its own: what clients send is in another's state.
        let mut decoder = Decoder::default();
        for mut item in items.by_ref() {
            if failure.is_none() && self.is_stalled() {
                waiting = Some(item);
                break;
            }
            let rest = &requests[used..];
            let decoded = decoder.decode(rest, &NO_LIMITS);
            let Ok(Decoded::Request(length)) = decoded else { unreachable!("a core sends whole requests") };
            lend(&mut self.passed, &item);
            let request = decoder.request(rest);
            let resolved = self.shard.resolve(request);
            if failure.is_none() && self.shard.store.has_values_on_disk() {
                let cold = self.shard.cold_values(request, &resolved, &self.passed, self.now);
                if !cold.is_empty() {
                    self.fetch_for_core(from, cold);
                    waiting = Some(item);
                    break;
                }
            }
            used += length;
            let start = batch.replies.len();
            if let Some(text) = failure.take() {
                self.shard.core.statistics.errors.note(text.as_bytes());
                Reply { output: &mut batch.replies, version: item.version }.error(&text);
                item.reply_end = batch.replies.len();
                batch.items.push(item);
                continue;
            }
            stopwatch.prepare(&mut self.shard, request);
            let share = Share::of(item.part.map(usize::from));
            let (passed, now) = (&mut self.passed, self.now);
            let outcome = self.shard.execute_passed(request, &resolved, share, passed, now, &mut batch.replies);
            let output_bytes = batch.replies.len().saturating_sub(start);
            stopwatch.note(&mut self.shard, request, &self.passed, self.now, output_bytes);
            match outcome {
                Outcome::Stall(time) => std::thread::sleep(time),
                Outcome::Save => {
                    let waiting = Batch { items: vec![item], ..Batch::default() };
                    self.wait_for_snapshot(Saver::Core(from, Box::new(waiting)));
                    continue;
                }
                Outcome::Done | Outcome::Shutdown => {}
            }
            let told = self.shard.told;
            let place = if told == Lsn(0) {
                &mut batch
            } else {
                held_until = held_until.max(told);
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
        self.mesh.post(from, Parcel::Replies(batch));
        if let Some(mut held) = held {
            held.keys = self.shard.store.len() as u64;
            self.post_replies(held_until, from, held);
        }
        waiting
    }

    /// The values that a batch's requests need and that have to be fetched.
    pub(super) fn cold_values_of(&mut self, batch: &Batch) -> Vec<Cold> {
        let (mut used, mut decoder, mut found) = (0, Decoder::default(), Vec::new());
        for _ in &batch.items {
            let rest = &batch.requests[used..];
            let Ok(Decoded::Request(length)) = decoder.decode(rest, &NO_LIMITS) else { break };
            used += length;
            let request = decoder.request(rest);
            let resolved = self.shard.resolve(request);
            found.extend(self.shard.cold_values(request, &resolved, &self.passed, self.now));
        }
        found
    }

    fn hand_out(&mut self, from: usize, batch: Box<Batch>) {
        let (mut start, mut is_relieved) = (0, false);
        for item in &batch.items {
            is_relieved |= self.mesh.answered(from, item.request_bytes);
            let reply = batch.replies[start..item.reply_end].to_vec();
            start = item.reply_end;
            match item.part {
                Some(part) => {
                    self.note_keys(item, part.into(), batch.keys);
                    self.complete_part(item.connection, item.ticket, part.into(), reply, Lsn(0));
                }
                None => {
                    let reply = if item.is_unwanted { Vec::new() } else { reply };
                    self.complete(item.connection, item.ticket, reply, Lsn(0));
                }
            }
        }
        self.mesh.recycle(batch);
        if is_relieved {
            self.touch_waiting();
        }
    }

    /// Gives a connection a reply that it waited for, if it is still there.
    pub(super) fn complete(&mut self, id: ConnectionId, ticket: Ticket, reply: Vec<u8>, held: Lsn) {
        let Some(connection) = self.connections[id.place()].as_mut().filter(|connection| connection.id == id) else {
            return;
        };
        connection.session.complete(ticket, reply, held);
        self.touch(id);
    }

    /// Notes how many keys the core has that has answered a part of a request.
    fn note_keys(&mut self, item: &Item, part: usize, keys: u64) {
        let Some(connection) = self.connections[item.connection.place()].as_mut() else { return };
        let is_it = |gathering: &&mut Gathering| gathering.ticket == item.ticket;
        if let Some(gathering) = connection.gathers.iter_mut().find(is_it).filter(|_| connection.id == item.connection)
        {
            gathering.gather.note_keys(part, keys);
        }
    }

    /// Gives a connection a part of a reply; with the last part, the reply is whole.
    pub(super) fn complete_part(&mut self, id: ConnectionId, ticket: Ticket, part: usize, reply: Vec<u8>, held: Lsn) {
        let Some(connection) = self.connections[id.place()].as_mut().filter(|connection| connection.id == id) else {
            return;
        };
        let position = connection.gathers.iter().position(|gathering| gathering.ticket == ticket);
        let position = position.expect("a spread request is gathered");
        let gathering = &mut connection.gathers[position];
        gathering.held = gathering.held.max(held);
        let Some(reply) = gathering.gather.put(part, reply) else { return };
        let Gathering { held, is_unwanted, row, .. } = connection.gathers.swap_remove(position);
        let is_watch = self.shard.core.rows[usize::from(row)].route == Route::Watch;
        note_failure(&mut self.shard, row, &reply);
        if connection.gathers.is_empty() && GATHERS_KEPT < connection.gathers.capacity() {
            connection.gathers = Vec::new();
        }
        let (reply, goes_on) = if is_watch { self.keep_watches(id, ticket, reply) } else { (reply, false) };
        self.complete(id, ticket, if is_unwanted { Vec::new() } else { reply }, held);
        if goes_on && let Some(connection) = self.connections[id.place()].as_mut() {
            connection.session.resume();
            self.receive(id, &[]);
        }
    }

    /// Keeps what another core has seen of the keys that a client watches. Returns the reply to the client, and whether its EXEC
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

/// Bytes of replies that a client may be owed before no more of its requests are executed.
fn output_bytes_max(shard: &Shard, is_authenticated: bool) -> usize {
    let config = &shard.core.config;
    if is_authenticated { config.output_soft_limit } else { config.unauthenticated_max_owed_bytes }
}
