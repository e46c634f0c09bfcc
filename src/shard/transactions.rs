//! Transactions: the queuing of requests, and EXEC, which executes a queue with nothing in between and its records as
//! one.

use super::{Away, CROSSSLOT, Execution, Owner, Ran, Resolved, Shard, Share};
use crate::{
    client::{Client, Port},
    commands::{
        Flags, Found, Keys, Now, Outcome, Relief, Route,
        errors::{LOADING, OUT_OF_MEMORY},
        record_bytes_max, relief, value_len_max,
    },
    refusals::Refusals,
    resp::{Reply, Request},
    slot::Slot,
    statistics::Delay,
    store::{Cold, Key},
    transaction::{self, Bounds, Home, Transaction, Watch, Watches},
    wait::Wait,
    wal::Lsn,
};
use std::{collections::BTreeMap, time::Duration};

const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";
const NOT_IN_A_TRANSACTION: &str = "ERR Command not allowed inside a transaction";
const SEVERAL_CORES: &str = "CROSSSLOT the keys of a transaction must be on one core of this server: give them one hash tag, \
                             such as {user7}, or start the server with --cores 1";
const TOO_MANY_RECORDS: &str = "ERR the values that the transaction would write are longer than max-request-bytes together: \
                                send it in parts";
const TOO_LARGE_A_REPLY: &str = "ERR the transaction was executed, and its reply is larger than output-hard-limit: ask for \
                                 fewer values at a time";

/// The needs of a queue, which are checked before any of it is executed.
#[derive(Default)]
struct Needs {
    commands: usize,
    /// The first slot that this core does not own.
    foreign: Option<Slot>,
    /// True if some command writes.
    writes: bool,
    /// True if some write does more than remove keys.
    adds: bool,
    /// True if some command may need memory.
    grows: bool,
    /// A bound of the bytes of the records.
    record_bytes: u64,
}

/// Returns the reply to a request that is refused before it is routed; `text` is its error. The client's transaction is
/// discarded: at once if the request is EXEC, else by the EXEC to come.
#[cold]
pub(super) fn refused(request: Request<'_>, client: &mut Client, text: String) -> String {
    if request.arg(0).eq_ignore_ascii_case(b"exec") {
        client.transaction = None;
        return transaction::discarded(&text);
    }
    if let Some(transaction) = &mut client.transaction {
        transaction.abort();
    }
    text
}

/// Returns the queue that a request executes; it is empty for a request that is itself queued. `None`: the request does
/// not belong to a transaction.
pub(super) fn queue_of<'a>(request: Request<'a>, client: &'a Client) -> Option<&'a [u8]> {
    if let Some((_, requests)) = transaction::forwarded(request) {
        return Some(requests);
    }
    let transaction = client.transaction.as_ref().filter(|transaction| transaction.is_open)?;
    let is_here = request.arg(0).eq_ignore_ascii_case(b"exec") && !transaction.is_aborted();
    Some(if is_here { transaction.requests() } else { b"" })
}

/// Returns true for commands about their own connection, which another core does not have.
fn is_about_connection(name: &str) -> bool {
    matches!(name.split('|').next(), Some("asking" | "auth" | "client" | "hello" | "readonly" | "readwrite"))
}

impl Shard {
    /// Answers a request of a client that has a transaction; `None`: the request is executed like any other.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "what is known of a request, and who asks")]
    pub(super) fn answer_in_transaction(
        &mut self,
        found: Found,
        request: Request<'_>,
        resolved: &Resolved,
        place: &mut Result<Option<Away>, String>,
        client: &mut Client,
        now: Now,
        reply: &mut Reply<'_>,
    ) -> Option<Execution> {
        let transaction = client.transaction.as_deref()?;
        let name = found.command.name;
        match (transaction.is_open, name) {
            (false, "watch") => {
                if let Ok(away) = *place
                    && let Err(text) = self.check_home(transaction, client.port, resolved.slot, away)
                {
                    *place = Err(text);
                }
                return None;
            }
            (false, _) | (true, "discard" | "multi" | "quit" | "reset") => return None,
            (true, "watch") => {
                // It is refused, and the owner of its keys does not matter.
                *place = Ok(None);
                return None;
            }
            (true, "exec") => return Some(self.exec(found, client, now, reply)),
            (true, _) => {}
        }
        let refusal = match place {
            Err(text) => Err(std::mem::take(text)),
            Ok(away) => self.place_in_transaction(found, resolved, *away, client),
        };
        let config = &self.core.config;
        let bounds = Bounds { arguments_max: config.max_request_args, bytes_max: config.max_request_bytes };
        let transaction = client.transaction.as_deref_mut()?;
        match refusal.and_then(|home| transaction.queue(request, bounds).map(|()| home)) {
            Ok(home) => {
                transaction.home = transaction.home.or(home);
                reply.simple("QUEUED");
            }
            Err(text) => {
                transaction.abort();
                reply.error(&text);
                self.core.statistics.reject(found.index, &text);
            }
        }
        Some(Execution::Done(Outcome::Done))
    }

    /// Returns the place of the keys of a command that is to be queued, if it has any, or the error if it is refused.
    fn place_in_transaction(
        &self,
        found: Found,
        resolved: &Resolved,
        away: Option<Away>,
        client: &Client,
    ) -> Result<Option<Home>, String> {
        let command = found.command;
        let name = || command.name.replace('|', " ").to_ascii_uppercase();
        // CLIENT REPLY would leave parts out of the reply to EXEC.
        if command.flags.has(Flags::NO_MULTI) || command.name == "client|reply" {
            return Err(NOT_IN_A_TRANSACTION.to_owned());
        }
        let Some(transaction) = client.transaction.as_deref() else { return Ok(None) };
        let mut home = None;
        let shares_gateway = client.port == Port::Gateway && 1 < self.core.cores();
        if resolved.key_count != 0 {
            home = Some(self.check_home(transaction, client.port, resolved.slot, away)?);
        } else if away.is_some() || (shares_gateway && command.keys == Keys::NONE && command.route != Route::Here) {
            let name = name();
            return Err(format!("ERR {name} asks several cores of this server and can't be part of a transaction"));
        } else if shares_gateway && is_about_connection(command.name) {
            let name = name();
            return Err(format!(
                "ERR {name} is about the connection and can't be part of a transaction that another core may execute: \
                 send it before MULTI"
            ));
        }
        let core = home.map_or(self.core.me.core, |home| home.core);
        let is_mine = core == self.core.me.core;
        let refusals = if is_mine { self.refusals() } else { self.remote_refusals[usize::from(core)] };
        // These make room on a full disk.
        let writes = refusals.writes.filter(|_| relief(command) == Relief::None);
        if let Some(text) = (Refusals { writes, ..refusals }).of(command.flags) {
            return Err(text.to_owned());
        }
        // The queue itself takes memory.
        if self.store.is_full() { Err(OUT_OF_MEMORY.to_owned()) } else { Ok(home) }
    }

    /// Returns the place of a request's keys, or an error: in a cluster all keys of a transaction must be in one slot,
    /// else on one core.
    fn check_home(
        &self,
        transaction: &Transaction,
        port: Port,
        slot: Slot,
        away: Option<Away>,
    ) -> Result<Home, String> {
        if matches!(away, Some(Away { route: Route::Split(_), .. })) {
            return Err(SEVERAL_CORES.to_owned());
        }
        let home = Home { slot, core: away.map_or(self.core.me.core, |away| away.core) };
        let known = transaction.home.unwrap_or(home);
        let is_cluster = port == Port::Core || self.core.has_topology;
        match () {
            () if is_cluster && known.slot != slot => Err(CROSSSLOT.to_owned()),
            () if known.core != home.core => Err(SEVERAL_CORES.to_owned()),
            () => Ok(home),
        }
    }

    /// Executes a client's transaction, or has it forwarded to the core that owns its keys.
    fn exec(&mut self, found: Found, client: &mut Client, now: Now, reply: &mut Reply<'_>) -> Execution {
        if let Some(transaction) = client.transaction.as_deref_mut()
            && !transaction.is_aborted()
            && transaction.awaits_watches()
        {
            transaction.is_waiting = true;
            return Execution::Wait;
        }
        let Some(transaction) = client.transaction.take() else { return Execution::Done(Outcome::Done) };
        let me = self.core.me.core;
        if transaction.is_aborted() {
            return Execution::Done(self.fail_exec(found, ABORTED, client, reply));
        }
        if transaction.has_lost_watch() {
            reply.null_array();
            self.note_exec(found, client);
            return Execution::Done(Outcome::Done);
        }
        let core = match transaction.home.map(|home| (home.slot, self.roles.of(home.slot))) {
            None | Some((_, Owner::Here)) => me,
            Some((_, Owner::Core(core))) => core,
            Some((slot, Owner::Server | Owner::NotNow | Owner::Down)) => {
                let text = self.not_here(slot, client.speaks_http);
                return Execution::Done(self.fail_exec(found, &text, client, reply));
            }
        };
        if core == me {
            let (watches, requests) = (transaction.watches(), transaction.requests());
            return Execution::Done(self.run_transaction(found, watches, requests, client, now, reply));
        }
        self.forwarded = transaction.encode();
        client.last_command = found.command.name;
        Execution::Away(Away { route: Route::Keys, core, keys: Keys::NONE, row: found.index })
    }

    /// Executes a transaction that another core has forwarded.
    pub(super) fn run_forwarded(
        &mut self,
        watches: &Watches,
        requests: &[u8],
        client: &mut Client,
        now: Now,
        reply: &mut Reply<'_>,
    ) -> Outcome {
        let found = self.table.find(b"exec").expect("it is in the table");
        self.run_transaction(found, watches, requests, client, now, reply)
    }

    /// Executes a queue on this core if no watched slot has changed: all of it, with nothing in between, its records as
    /// one.
    fn run_transaction(
        &mut self,
        found: Found,
        watches: &Watches,
        requests: &[u8],
        client: &mut Client,
        now: Now,
        reply: &mut Reply<'_>,
    ) -> Outcome {
        let recorded = self.store.log.as_ref().map(|log| log.end());
        let needs = self.needs_of(requests);
        let watched = watches.iter().map(|watch| watch.slot).find(|&slot| self.roles.of(slot) != Owner::Here);
        if let Some(slot) = needs.foreign.or(watched) {
            let text = self.not_here(slot, client.speaks_http);
            return self.fail_exec(found, &text, client, reply);
        }
        if self.is_stopped(watches, now) {
            return self.stop_exec(found, client, reply);
        }
        if let Some(text) = self.refuse_transaction(&needs, now) {
            let outcome = self.fail_exec(found, &transaction::discarded(text), client, reply);
            self.told = self.told_since(recorded, Wait::NONE);
            return outcome;
        }
        // Evictions that have made room for it may have taken a key that is watched.
        if self.is_stopped(watches, now) {
            return self.stop_exec(found, client, reply);
        }
        if let Some(log) = &mut self.store.log {
            log.begin_together();
        }
        let (start, reply_bytes_max) = (reply.output.len(), self.core.config.output_hard_limit);
        reply.array(needs.commands);
        let (mut told, mut stall, mut is_too_large) = (Wait::NONE, Duration::ZERO, false);
        transaction::each(requests, |request| {
            if let Outcome::Stall(time) = self.run_queued(request, client, now, reply) {
                stall += time;
            }
            told = told.merge(self.told);
            // The rest still runs, since it may write; only the reply is dropped. A small queue may ask for a large
            // value many times.
            is_too_large |= reply_bytes_max < reply.output.len() - start;
            if is_too_large {
                reply.output.truncate(start);
            }
        });
        if let Some(log) = &mut self.store.log {
            log.end_together();
        }
        self.told = self.told_since(recorded, told);
        if needs.grows {
            self.store.demote_excess(now.unix_millis());
        }
        if is_too_large {
            client.closing = true;
            self.fail_exec(found, TOO_LARGE_A_REPLY, client, reply);
        } else {
            self.note_exec(found, client);
        }
        if stall == Duration::ZERO { Outcome::Done } else { Outcome::Stall(stall) }
    }

    /// Returns true if some watched slot may have changed.
    fn is_stopped(&self, watches: &Watches, now: Now) -> bool {
        watches.iter().any(|watch| self.has_changed(watch, now))
    }

    /// Answers an EXEC whose queue is not executed, since a watched slot has changed.
    fn stop_exec(&mut self, found: Found, client: &mut Client, reply: &mut Reply<'_>) -> Outcome {
        reply.null_array();
        // The reply depends on a change that may not be on disk yet.
        let log = self.store.log.as_ref().filter(|log| log.has_uncommitted());
        self.told = log.map_or(Wait::NONE, |log| Wait::persisted(log.end()));
        self.note_exec(found, client);
        Outcome::Done
    }

    /// Executes one command of a queue.
    fn run_queued(&mut self, request: Request<'_>, client: &mut Client, now: Now, reply: &mut Reply<'_>) -> Outcome {
        let Ok(found) = self.table.find_for(request) else { unreachable!("commands are queued") };
        let resolved = self.resolve(request);
        if let Some(text) = resolved.fault.and_then(|fault| self.refuse(found, Some(fault), request, client)) {
            reply.error(&text);
            self.reject(found, &text, Share::Whole);
            return Outcome::Done;
        }
        let recorded = self.store.log.as_ref().map(|log| log.end());
        let began_us = self.clock.as_ref().map_or(0, |clock| clock());
        // HELLO may have changed it.
        let reply = Reply { output: &mut *reply.output, version: client.version };
        let outcome = self.call(found, request, &resolved, Share::Whole, recorded, client, now, reply);
        let us = self.clock.as_ref().map_or(0, |clock| clock()).saturating_sub(began_us);
        if let Some(ran) = self.ran.take() {
            self.account(ran, us, request, client, now);
        }
        outcome
    }

    /// Returns the wait of a reply: for the records since `recorded`, if there are any, else `read`.
    fn told_since(&self, recorded: Option<Lsn>, read: Wait) -> Wait {
        match (&self.store.log, recorded) {
            (Some(log), Some(recorded)) if log.has_uncommitted() && recorded < log.end() => Wait::persisted(log.end()),
            _ => read,
        }
    }

    /// Returns true if a key of a watched slot may have changed, or has expired.
    fn has_changed(&self, watch: &Watch, now: Now) -> bool {
        self.store.version(watch.slot) != watch.version || watch.expires_at.is_some_and(|at| at <= now.unix_millis())
    }

    fn needs_of(&self, requests: &[u8]) -> Needs {
        let mut needs = Needs::default();
        // Upper bounds of the lengths of values that the queue has changed so far.
        let mut lengths = BTreeMap::<Vec<u8>, usize>::new();
        let value_bytes_max = self.core.config.proto_max_bulk_len;
        let has_log = self.store.log.is_some();
        transaction::each(requests, |request| {
            let Ok(found) = self.table.find_for(request) else { unreachable!("commands are queued") };
            let command = found.command;
            needs.commands += 1;
            needs.foreign = needs.foreign.or_else(|| self.find_foreign(found, request, &self.resolve(request)));
            needs.foreign = needs.foreign.or_else(|| self.slot_in_the_way(command));
            needs.grows |= command.flags.has(Flags::DENYOOM);
            if !command.flags.has(Flags::WRITE) {
                return;
            }
            needs.writes = true;
            needs.adds |= relief(command) == Relief::None;
            if !has_log {
                return;
            }
            let length = |key: &[u8]| lengths.get(key).copied().unwrap_or_else(|| self.store.value_len(Key::of(key)));
            let bytes = record_bytes_max(command, request, value_bytes_max, length);
            needs.record_bytes = needs.record_bytes.saturating_add(bytes);
            let longest = value_len_max(command, request, value_bytes_max, length);
            let keys: Vec<_> = command.keys.indices(request.len()).map(|index| request.arg(index)).collect();
            lengths.extend(keys.into_iter().map(|key| (key.to_vec(), longest)));
        });
        needs
    }

    /// Returns the error of a queue, if none of it is executed. The needs are met for the whole queue or for none of
    /// it.
    fn refuse_transaction(&mut self, needs: &Needs, now: Now) -> Option<&'static str> {
        if self.core.persistence.is_loading {
            return Some(LOADING);
        }
        // The log keeps a queue's records in memory until they are on disk, and recovery reads them as a whole.
        if self.core.config.max_request_bytes as u64 <= needs.record_bytes {
            return Some(TOO_MANY_RECORDS);
        }
        if needs.writes {
            if let Some(reason) = self.refuse_records(needs) {
                return Some(reason);
            }
            self.keep_room(needs.record_bytes);
        }
        let recorded = self.store.log.as_ref().map(|log| log.end());
        if needs.grows && self.store.make_room(now.unix_millis()).is_err() {
            return Some(OUT_OF_MEMORY);
        }
        // The records of evictions may have taken the room in the log's files.
        let has_evicted = recorded != self.store.log.as_ref().map(|log| log.end());
        if needs.writes && has_evicted { self.refuse_records(needs) } else { None }
    }

    /// Returns the error of a queue's writes, if they are refused: their records have no room in the log's files, or no
    /// write is accepted.
    fn refuse_records(&mut self, needs: &Needs) -> Option<&'static str> {
        let persistence = &self.core.persistence;
        let (Some(admission), Some(log)) = (&persistence.admission, &self.store.log) else {
            return persistence.refusal;
        };
        let end = log.end();
        if persistence.refusal.is_none() && admission.admits(end, needs.record_bytes) {
            return None;
        }
        let relief = if needs.adds { Relief::None } else { Relief::SomeKeys };
        self.look_for_room(relief, end, needs.record_bytes)
    }

    /// Returns the values that a queue needs and that have to be fetched from the disk before any of it is executed.
    pub(super) fn find_cold_of_queue(&self, requests: &[u8], now: Now) -> Vec<Cold> {
        let mut cold = Vec::new();
        transaction::each(requests, |request| {
            let Ok(found) = self.table.find_for(request) else { return };
            let keys = crate::commands::needed_keys(found.command, request).map(|index| Key::of(request.arg(index)));
            cold.extend(keys.filter_map(|key| self.store.cold(key, now.unix_millis())));
        });
        cold
    }

    /// Answers EXEC with an error.
    fn fail_exec(&mut self, found: Found, text: &str, client: &mut Client, reply: &mut Reply<'_>) -> Outcome {
        reply.error(text);
        self.core.statistics.commands[usize::from(found.index)].failed += 1;
        self.core.statistics.errors.note(text.as_bytes());
        self.note_exec(found, client);
        Outcome::Done
    }

    /// Counts an EXEC.
    fn note_exec(&mut self, found: Found, client: &mut Client) {
        client.last_command = found.command.name;
        self.core.statistics.requests += 1;
        self.core.statistics.commands[usize::from(found.index)].calls += 1;
        self.ran = Some(Ran { found, slot: Slot::default(), was_picked: false, share: Share::Whole });
    }

    /// Accounts for a command whose time was measured by itself; `us` is that time.
    pub fn account(&mut self, ran: Ran, us: u64, request: Request<'_>, client: &Client, now: Now) {
        let (core, command) = (&mut self.core, ran.found.command);
        let is_counted = ran.share != Share::OtherPart;
        if is_counted {
            core.statistics.note(ran.found.index, us, 1);
        } else {
            core.statistics.note_more(ran.found.index, us);
        }
        if command.keys != Keys::NONE {
            core.statistics.slots.measured(ran.slot, us, ran.was_picked);
        }
        core.note_delay(Delay::Command, us, now.unix_us);
        // With a threshold of 0 each request is logged once, by its first part.
        let limit_us = core.config.slowlog_log_slower_than.map(|limit| limit.as_micros() as u64);
        let is_slow = limit_us.is_some_and(|limit| limit <= us && (is_counted || limit != 0));
        if is_slow && !command.flags.has(Flags::SKIP_SLOWLOG) {
            let length_max = core.config.slowlog_max_len;
            core.statistics.slow_log.note(request, client, us, now, length_max);
        }
    }
}
