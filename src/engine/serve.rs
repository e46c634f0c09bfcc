//! Executing what a client has sent.

use super::{
    Action, Actions, ConnectionId, Engine, clock::Clock, connection::State, forward::Gathering, remote::Remote,
    saving::Saver, stopwatch::Stopwatch,
};
use crate::{
    client::{Client, Port, ReplyMode},
    commands::{Now, Outcome},
    http,
    resp::{Limits, ProtocolError, Reply, Request},
    session::{Answer, Executor, HasPassword, Ticket},
    shard::{Execution, Resolved, Shard, silence},
    store::Cold,
    wait::Wait,
};

/// Bytes that a client may have sent ahead of what is executed before it has given the password. Until it is paused some arrive.
const STRANGER_UNREAD_MAX: usize = 1 << 20;
/// The time between two warnings of HTTP requests: whoever sends many must not fill the log.
const HTTP_WARNING_EVERY_US: u64 = 1_000_000;

/// Executes the requests of one connection.
pub(super) struct Serving<'a> {
    pub(super) shard: &'a mut Shard,
    pub(super) remote: &'a mut Remote,
    pub(super) client: &'a mut Client,
    pub(super) actions: &'a mut Actions,
    pub(super) random: &'a mut fastrand::Rng,
    pub(super) clock: Clock,
    pub(super) gathers: &'a mut Vec<Gathering>,
    pub(super) unfinished: Unfinished,
    pub(super) connection: ConnectionId,
    pub(super) now: Now,
    pub(super) stopwatch: Stopwatch,
    /// The reason for which the values that the next request needs can't be had, if so.
    pub(super) failure: Option<String>,
    /// The time of the next look at a password, if that waits.
    pub(super) password_at: &'a mut Option<u64>,
}

/// The things that are to be done once the requests have been executed.
#[derive(Default)]
pub(super) struct Unfinished {
    /// Replies that were whole before the session knew that it has to wait.
    pub(super) early: Vec<(Ticket, Vec<u8>, Wait)>,
    /// Tickets of replies that wait for a snapshot, and the number of the part, for a reply in several.
    pub(super) saves: Vec<(Ticket, Option<usize>)>,
    /// Values that requests will need which come after the one at hand.
    foreseen: Vec<Cold>,
    /// Values that the request at hand waits for.
    awaited: Vec<Cold>,
    /// The request at hand waits for a slot that is changing hands.
    awaits_slot: bool,
}

impl Executor for Serving<'_> {
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
            let cold = self.shard.cold_values(request, resolved, self.client, self.now).unwrap_or_default();
            let bytes = self.unfinished.foreseen.iter().chain(&cold).map(|cold| cold.length).sum::<usize>();
            if bytes <= self.shard.core.config.output_hard_limit {
                self.unfinished.foreseen.extend(cold);
            }
        }
    }

    #[inline]
    fn is_stalled(&self) -> bool {
        self.shard.is_stalled() || (self.client.port == Port::Gateway && self.remote.is_behind())
    }

    #[inline]
    fn execute(&mut self, request: Request<'_>, resolved: Resolved, output: &mut Vec<u8>, ticket: Ticket) -> Answer {
        let is_unwanted = self.client.reply_mode != ReplyMode::On;
        if self.shard.awaits_slot(request, &resolved, self.client) {
            self.unfinished.awaits_slot = true;
            return Answer::NotYet;
        }
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
            Execution::Done(Outcome::Done) if self.client.closing => Answer::Last(self.shard.told),
            Execution::Done(Outcome::Done) if self.shard.told.is_none() => Answer::Here,
            Execution::Done(Outcome::Done) => Answer::Held(self.shard.told),
            Execution::Done(outcome) => self.after(outcome, ticket),
            Execution::Away(away) => {
                self.forward(request, away, ticket, is_unwanted);
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

/// Bytes of a client's `User-Agent` that are shown in CLIENT LIST.
const AGENT_BYTES_MAX: usize = 64;

impl Serving<'_> {
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
        let mut failure = self.failure.take();
        if failure.is_none() {
            match self.shard.cold_values(request, resolved, self.client, self.now) {
                Ok(awaited) => self.unfinished.awaited = awaited,
                Err(text) => failure = Some(text.to_owned()),
            }
        }
        // Where the slot has gone meanwhile, that is the answer.
        if let Some(mut text) = failure.filter(|_| !self.shard.needs_foreign_slot(request, resolved, self.client)) {
            if self.client.transaction.take_if(|transaction| transaction.is_open).is_some() {
                // It was EXEC that waited for the values of its queue.
                text = crate::transaction::discarded(&text);
            }
            self.shard.core.statistics.errors.note(text.as_bytes());
            #[cfg(test)]
            crate::witness::note(|| crate::witness::Note::Failed(Some(self.connection.place())));
            let start = output.len();
            Reply { output, version: self.client.version }.error(&text);
            silence(self.client, start, output);
            return Some(Answer::Here);
        }
        (!self.unfinished.awaited.is_empty()).then_some(Answer::NotYet)
    }

    #[cold]
    fn after(&mut self, outcome: Outcome, ticket: Ticket) -> Answer {
        match outcome {
            Outcome::Done => Answer::Here,
            Outcome::Stall(time) => {
                self.clock.sleep(time);
                if self.shard.told.is_none() { Answer::Here } else { Answer::Held(self.shard.told) }
            }
            Outcome::Shutdown => {
                self.actions.push(Action::StopServer);
                Answer::Last(self.shard.told)
            }
            Outcome::Save => {
                self.unfinished.saves.push((ticket, None));
                Answer::Later
            }
        }
    }
}

impl Engine {
    /// Executes what has arrived on a connection, and what had to wait before it.
    #[inline]
    pub(super) fn receive(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(mut client) = self.shard.core.clients.take(id.place()) else { return };
        if connection.session.output.capacity() == 0 {
            connection.session.output = self.scratch.buffers.take();
        }
        client.active_us = self.now.monotonic_us;
        self.shard.core.statistics.input_bytes += bytes.len() as u64;
        let stopwatch = Stopwatch::new(self.clock, &self.shard);
        let mut serving = Serving {
            shard: &mut self.shard,
            remote: &mut self.remote,
            client: &mut client,
            actions: &mut self.actions,
            random: &mut self.random,
            clock: self.clock,
            gathers: &mut connection.gathers,
            unfinished: Unfinished::default(),
            connection: id,
            now: self.now,
            stopwatch,
            failure: connection.fetching.failure.take(),
            password_at: &mut connection.password_at,
        };
        let password_at = *serving.password_at;
        connection.backpressure.output_bytes_max = output_bytes_max(serving.shard, serving.client.authenticated);
        // A client that was killed earlier in this turn, and is not closed yet, executes no more.
        connection.session.closing |= serving.client.closing;
        connection.backpressure.waiting_max = serving.shard.core.config.gateway_in_flight;
        let received =
            connection.session.receive(bytes, &mut self.scratch.decoder, &connection.backpressure, &mut serving);
        serving.stopwatch.finish(serving.shard, self.now);
        let braked_until = serving.password_at.filter(|&at| password_at != Some(at));
        // It is about a request that still waits for other values, if it has not been told yet.
        connection.fetching.failure = serving.failure;
        let Unfinished { early, saves, foreseen, awaited, awaits_slot } = serving.unfinished;
        early.into_iter().for_each(|(ticket, reply, held)| connection.session.complete(ticket, reply, held));
        if let Err(error) = received {
            if error == ProtocolError::Http && self.ticks.warned_of_http_us <= self.now.monotonic_us {
                self.ticks.warned_of_http_us = self.now.monotonic_us + HTTP_WARNING_EVERY_US;
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
        let has_enough = is_too_big && !connection.session.is_blocked(&connection.backpressure);
        if has_enough || (!client.authenticated && STRANGER_UNREAD_MAX < client.input_bytes) {
            connection.state = State::Failed;
        }
        if connection.session.output.is_empty() && connection.session.output.capacity() != 0 {
            self.scratch.buffers.keep(std::mem::take(&mut connection.session.output));
        }
        self.shard.core.clients.put(id.place(), client);
        self.connections.touch(id);
        if let Some(at) = braked_until {
            self.connections.braked.push((id, at));
        }
        if awaits_slot {
            self.slots.suspend(id);
        }
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
        for (id, _) in self.connections.braked.extract_if(.., |(_, at)| *at <= now_us).collect::<Vec<_>>() {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.session.resume();
            self.receive(id, &[]);
        }
    }
}

/// Bytes of replies that a client may be owed before no more of its requests are executed.
fn output_bytes_max(shard: &Shard, is_authenticated: bool) -> usize {
    let config = &shard.core.config;
    if is_authenticated { config.output_soft_limit } else { config.unauthenticated_max_owed_bytes }
}
