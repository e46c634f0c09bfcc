//! A shard: one core and all it owns. It executes requests with the command table, the store and the topology.

mod resolved;
mod roles;
mod succession;
mod transactions;
mod waiting;

#[cfg(test)]
use crate::witness;
use crate::{
    client::{Client, Port, ReplyMode},
    commands::{
        Call, Command, Core, Flags, Found, Keys, Merge, Now, Outcome, Relief, Route, Table,
        errors::{LOADING, NO_ROOM, OUT_OF_MEMORY},
        needed_keys, record_bytes_max, relief,
    },
    glance,
    refusals::Refusals,
    resp::{Reply, Request},
    slot::Slot,
    statistics::CommandStatistics,
    store::{Cold, Key, Store},
    transaction,
    wait::{Committed, Wait},
    wal::{Lsn, room::Grow},
};
use resolved::Fault;
pub use resolved::Resolved;
pub use roles::{Owner, Roles};
use std::collections::BTreeSet;
pub use succession::Succession;

/// The destination of a request that this core can't answer alone: another core of this server, or several.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Away {
    /// The choice of cores, and the way in which their replies are merged.
    pub route: Route,
    /// The core that owns its keys, for the routes that go to one core.
    pub core: u16,
    /// The positions of the keys in the request, for [`Route::Split`].
    pub keys: Keys,
    /// The number of the command's row.
    pub row: u16,
}

impl Away {
    /// Returns the one core that gets the request unchanged and whose reply is the client's; `None` if the request has
    /// parts.
    #[inline]
    pub fn whole(self) -> Option<u16> {
        matches!(self.route, Route::Here | Route::Keys | Route::SlotAt(_)).then_some(self.core)
    }
}

/// A core's share of a client's request. The request is counted once in every statistic: with its first part, and as a
/// failure by the core that merges the replies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Share {
    /// All of it.
    Whole,
    /// The first of several parts.
    FirstPart,
    /// One of the other parts.
    OtherPart,
}

impl Share {
    /// Returns the share that is the part with this number; `None` stands for a request that has no parts.
    #[inline]
    pub fn of(part: Option<usize>) -> Self {
        match part {
            None => Self::Whole,
            Some(0) => Self::FirstPart,
            Some(_) => Self::OtherPart,
        }
    }
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Execution {
    /// It has been executed; the reply, if the client wants one, is in the output.
    Done(Outcome),
    /// It is to be executed by another core of this server, or by several.
    Away(Away),
    /// It has not been executed: an EXEC that waits for the versions of watched slots from another core. It is to be
    /// executed again later.
    Wait,
}

const TOO_MUCH_TO_FETCH: &str =
    "ERR the values that it needs from the disk are larger than output-hard-limit together: ask for fewer at a time";

/// A command that has just run.
#[derive(Clone, Copy)]
pub struct Ran {
    /// The command's row.
    pub found: Found,
    /// The slot of the first key; slot 0 without keys.
    pub slot: Slot,
    /// True if the command was sampled for the statistics of slots and keys.
    pub was_picked: bool,
    /// The share of the client's request.
    pub share: Share,
}

/// One core's keys, and all that it needs to serve them.
pub struct Shard {
    table: Table,
    /// The keys and their values.
    pub store: Store,
    /// The rest of the core's state: settings, clients, statistics, topology.
    pub core: Core,
    /// The command that ran last, until its time is accounted for.
    pub ran: Option<Ran>,
    /// The commits that the reply to the last request waits for.
    pub told: Wait,
    /// Allocates files for a write that the log's files have no room for; if it is `None`, the write is refused.
    pub grow: Option<Box<dyn Grow>>,
    /// The encoded transaction that is sent instead of an EXEC for which [`Execution::Away`] was returned; empty for
    /// any other request.
    pub forwarded: Vec<u8>,
    /// Returns the microseconds since the server began, to measure the commands of a transaction; if it is `None`, they
    /// are counted with no time.
    pub clock: Option<Box<dyn Fn() -> u64>>,
    /// The owner of each slot.
    pub roles: Roles,
    /// The slots that went while the core read its files.
    lost_while_loading: BTreeSet<Slot>,
    /// The refusals that each other core of this server has sent last; this core's own element is not used.
    pub remote_refusals: Box<[Refusals]>,
}

impl Shard {
    /// Returns a shard with the given keys and state, and with the owners of slots by `core`'s topology.
    pub fn new(store: Store, mut core: Core) -> Self {
        let table = Table::default();
        core.statistics.commands = table.rows().iter().map(|row| CommandStatistics::of(row.name)).collect();
        let roles = Roles::new(&core.topology, core.me);
        let remote_refusals = vec![Refusals::default(); core.cores().into()].into();
        Self {
            table,
            store,
            ran: None,
            told: Wait::NONE,
            grow: None,
            forwarded: Vec::new(),
            clock: None,
            roles,
            lost_while_loading: BTreeSet::new(),
            remote_refusals,
            core,
        }
    }

    /// Returns a row of the command table, by its number.
    pub fn row(&self, number: u16) -> &'static Command {
        self.table.rows()[usize::from(number)]
    }

    /// Returns the core of this server that owns a slot; `None` if none does.
    pub fn local_owner(&self, slot: Slot) -> Option<u16> {
        self.roles.local(slot)
    }

    /// Returns the host and port of the other server that owns a key's slot; `None` if no other server owns it.
    pub fn elsewhere(&self, key: &[u8]) -> Option<(&str, u16)> {
        let core = &self.core;
        // Without a topology there is no other server.
        let slot = core.has_topology.then(|| Slot::of(key))?;
        if self.roles.of(slot) != Owner::Server {
            return None;
        }
        let owner = &core.topology.servers()[usize::from(core.topology.owner(slot).server)];
        Some((&owner.host, owner.port))
    }

    /// Returns true if so much of the log waits for the disk that no request may be executed.
    #[inline]
    pub fn is_stalled(&self) -> bool {
        self.store.log.as_ref().is_some_and(|log| self.core.config.log_backlog_bytes < log.pending_bytes())
    }

    /// Returns the effects that are committed: a reply whose wait is met by them may leave.
    #[inline]
    pub fn committed(&self) -> Committed {
        let log = self.store.log.as_ref();
        log.map_or(Committed::EVERYTHING, |log| Committed { persisted: log.committed() })
    }

    /// Notes the first key of a request that will be executed soon, so that its entry can be prefetched.
    #[inline]
    pub fn foresee(&mut self, request: Request<'_>, resolved: &Resolved) {
        if let Some(key) = resolved.key(request).filter(|key| key.len() <= FORESEEN_KEY_BYTES_MAX) {
            self.store.foresee(Key { bytes: key, slot: resolved.slot });
        }
    }

    /// Notes the key of bytes that have arrived and are not decoded yet, like [`foresee`](Self::foresee).
    #[inline]
    pub fn foresee_arrival(&mut self, bytes: &[u8]) {
        if let Some(key) = glance::only_key(bytes).filter(|key| key.len() <= FORESEEN_KEY_BYTES_MAX) {
            self.store.foresee(Key::of(key));
        }
    }

    /// Returns the values that a request needs and that have to be fetched from the disk first.
    ///
    /// # Errors
    /// Together they are larger than the replies that a client may be owed; the error is the request's reply. Fetched
    /// values stay in memory until the request is executed, however short its reply is.
    pub fn cold_values(
        &self,
        request: Request<'_>,
        resolved: &Resolved,
        client: &Client,
        now: Now,
    ) -> Result<Vec<Cold>, &'static str> {
        if !self.store.has_values_on_disk() {
            return Ok(Vec::new());
        }
        let cold = self.find_cold(request, resolved, client, now);
        let bytes: usize = cold.iter().map(|cold| cold.length).sum();
        // The limit of values bounds a single one.
        let is_too_much = 1 < cold.len() && self.core.config.output_hard_limit < bytes;
        if is_too_much { Err(TOO_MUCH_TO_FETCH) } else { Ok(cold) }
    }

    fn find_cold(&self, request: Request<'_>, resolved: &Resolved, client: &Client, now: Now) -> Vec<Cold> {
        if let Some(requests) = transactions::queue_of(request, client) {
            return self.find_cold_of_queue(requests, now);
        }
        let Some(found) = resolved.found.filter(|_| resolved.key_count != 0) else { return Vec::new() };
        if !client.authenticated || self.core.persistence.is_loading {
            return Vec::new();
        }
        let key = |index| {
            let bytes = request.arg(index);
            if resolved.is_one_slot { Key { bytes, slot: resolved.slot } } else { Key::of(bytes) }
        };
        let keys = needed_keys(found.command, request).map(key);
        keys.filter_map(|key| self.store.cold(key, now.unix_millis())).collect()
    }

    /// Executes a client's request, or returns the cores that have to.
    pub fn execute(&mut self, request: Request<'_>, client: &mut Client, now: Now, output: &mut Vec<u8>) -> Execution {
        self.execute_resolved(request, self.resolve(request), client, now, output)
    }

    /// Executes a client's request that was resolved before; see [`execute`](Self::execute).
    #[inline]
    pub fn execute_resolved(
        &mut self,
        request: Request<'_>,
        resolved: Resolved,
        client: &mut Client,
        now: Now,
        output: &mut Vec<u8>,
    ) -> Execution {
        let start = output.len();
        #[cfg(test)]
        let before = self.log_end();
        let execution = self.answer(request, &resolved, client, now, output);
        #[cfg(test)]
        if let Execution::Done(_) = execution {
            witness::note(|| {
                let executed = self.executed(request, &output[start..], now, before);
                witness::Note::Answered(client.place, executed)
            });
        }
        if client.reply_mode != ReplyMode::On && execution != Execution::Wait {
            silence(client, start, output);
        }
        execution
    }

    #[inline]
    fn answer(
        &mut self,
        request: Request<'_>,
        resolved: &Resolved,
        client: &mut Client,
        now: Now,
        output: &mut Vec<u8>,
    ) -> Execution {
        let mut reply = Reply { output, version: client.version };
        self.told = Wait::NONE;
        let found = match self.admit(request, resolved, client, Share::Whole) {
            Ok(found) => found,
            Err(text) => {
                reply.error(&transactions::refused(request, client, text));
                return Execution::Done(Outcome::Done);
            }
        };
        let mut place = match client.port {
            Port::Core => self.place_on_core(found, resolved),
            Port::Gateway => self.place_on_gateway(found, request, resolved, client.speaks_http),
        };
        if client.transaction.is_some()
            && let Some(execution) =
                self.answer_in_transaction(found, request, resolved, &mut place, client, now, &mut reply)
        {
            return execution;
        }
        let refusal = match place {
            Ok(None) => {
                return Execution::Done(self.run(found, request, resolved, Share::Whole, client, now, reply));
            }
            Ok(Some(away)) => match self.refusal_of_parts(away, found, request) {
                None => {
                    client.last_command = found.command.name;
                    return Execution::Away(away);
                }
                Some(text) => text.to_owned(),
            },
            Err(text) => text,
        };
        reply.error(&refusal);
        self.core.statistics.reject(found.index, &refusal);
        Execution::Done(Outcome::Done)
    }

    /// Returns the requests that this core refuses now.
    #[inline]
    pub fn refusals(&self) -> Refusals {
        let persistence = &self.core.persistence;
        Refusals { writes: persistence.refusal, growth: self.store.is_full() }
    }

    /// Returns the error of a write of several parts, if one of these would be refused, as far as this core knows: no
    /// part is executed then. A read that fails leaves nothing half done, and is refused by the cores that it goes to.
    fn refusal_of_parts(&self, away: Away, found: Found, request: Request<'_>) -> Option<&'static str> {
        let flags = found.command.flags;
        if !flags.has(Flags::WRITE) || away.whole().is_some() {
            return None;
        }
        let refusal = |core: u16| {
            let is_mine = core == self.core.me.core;
            let refusals = if is_mine { self.refusals() } else { self.remote_refusals[usize::from(core)] };
            // These make room on a full disk.
            let writes = refusals.writes.filter(|_| relief(found.command) == Relief::None);
            Refusals { writes, ..refusals }.of(flags)
        };
        match away.route {
            Route::Split(_) => away.keys.indices(request.len()).find_map(|index| {
                let owner = self.local_owner(Slot::of(request.arg(index)));
                owner.and_then(refusal)
            }),
            _ => (0..self.core.cores()).find_map(refusal),
        }
    }

    /// Counts a request of several parts whose merged reply is an error. `row`: the number of the command's row.
    #[cold]
    pub fn note_failure(&mut self, row: u16, text: &[u8]) {
        self.core.statistics.commands[usize::from(row)].failed += 1;
        self.core.statistics.errors.note(text);
    }

    /// Executes a request that another core of this server has forwarded, or a part of a request that was spread. If
    /// this core does not own its slots any more, the reply is an error that names the owner.
    pub fn execute_passed(
        &mut self,
        request: Request<'_>,
        resolved: &Resolved,
        share: Share,
        client: &mut Client,
        now: Now,
        output: &mut Vec<u8>,
    ) -> Outcome {
        #[cfg(test)]
        let (start, before) = (output.len(), self.log_end());
        let outcome = self.execute_as_passed(request, resolved, share, client, now, output);
        #[cfg(test)]
        witness::note(|| witness::Note::Passed(self.executed(request, &output[start..], now, before)));
        outcome
    }

    fn execute_as_passed(
        &mut self,
        request: Request<'_>,
        resolved: &Resolved,
        share: Share,
        client: &mut Client,
        now: Now,
        output: &mut Vec<u8>,
    ) -> Outcome {
        let mut reply = Reply { output, version: client.version };
        self.told = Wait::NONE;
        if let Some((watches, requests)) = transaction::forwarded(request) {
            return self.run_forwarded(&watches, requests, client, now, &mut reply);
        }
        let text = match self.admit(request, resolved, client, share) {
            Ok(found) => match self.find_foreign(found, request, resolved) {
                None => return self.run(found, request, resolved, share, client, now, reply),
                Some(slot) => {
                    let text = self.not_here(slot, client.speaks_http);
                    self.reject(found, &text, share);
                    text
                }
            },
            Err(text) => text,
        };
        reply.error(&text);
        Outcome::Done
    }

    #[cfg(test)]
    fn log_end(&self) -> Lsn {
        self.store.log.as_ref().map_or(Lsn(0), |log| log.end())
    }

    #[cfg(test)]
    fn executed(&self, request: Request<'_>, reply: &[u8], now: Now, before: Lsn) -> witness::Executed {
        witness::Executed {
            words: request.args_from(0).map(<[u8]>::to_vec).collect(),
            reply: reply.to_vec(),
            unix_millis: now.unix_millis().0,
            log: (before.0, self.log_end().0),
        }
    }

    /// Returns the row of a request that may be executed: the command exists, the arguments are right, and the client
    /// and the core allow it. Else returns the error.
    #[inline]
    fn admit(
        &mut self,
        request: Request<'_>,
        resolved: &Resolved,
        client: &Client,
        share: Share,
    ) -> Result<Found, String> {
        let Some(found) = resolved.found else { return Err(self.note_unknown(request)) };
        let is_unusual = !client.authenticated | self.core.persistence.is_loading;
        let is_in_the_way = resolved.key_count == 0 && self.slot_in_the_way(found.command).is_some();
        if (is_unusual || is_in_the_way || resolved.fault.is_some())
            && let Some(text) = self.refuse(found, resolved.fault, request, client)
        {
            self.reject(found, &text, share);
            return Err(text);
        }
        Ok(found)
    }

    /// Counts a request that names no command, and returns its error.
    #[cold]
    fn note_unknown(&mut self, request: Request<'_>) -> String {
        let text = self.table.find_for(request).err().map_or_else(String::new, |unknown| unknown.text(request));
        self.core.statistics.errors.note(text.as_bytes());
        text
    }

    /// Returns the error of a request, if it must not be executed: it is wrong by itself, or the client or the core
    /// does not allow it.
    #[cold]
    fn refuse(&self, found: Found, fault: Option<Fault>, request: Request<'_>, client: &Client) -> Option<String> {
        let command = found.command;
        let is_queued = client.transaction.as_ref().is_some_and(|transaction| transaction.is_open);
        // The error of a missing value comes at EXEC, as in Redis.
        if fault == Some(Fault::Arity) && !(is_queued && resolved::takes(command, request.len())) {
            return Some(format!("ERR wrong number of arguments for '{}' command", command.name));
        }
        if !client.authenticated && !command.flags.has(Flags::NO_AUTH) {
            return Some(NO_AUTH.to_owned());
        }
        if self.core.persistence.is_loading && !command.flags.has(Flags::LOADING) {
            return Some(LOADING.to_owned());
        }
        if let Some(slot) = self.slot_in_the_way(command).filter(|_| !is_queued) {
            return Some(self.not_here(slot, client.speaks_http));
        }
        // Keys have a limit of their own, far below that of values: keys always stay in memory.
        let max = self.core.config.max_key_bytes;
        (fault == Some(Fault::LongKey)).then(|| format!("ERR key is longer than {max} bytes (max-key-bytes)"))
    }

    /// Counts a request that is refused before it runs. A part of a request is counted by the core that merges the
    /// replies.
    #[cold]
    fn reject(&mut self, found: Found, text: &str, share: Share) {
        if share == Share::Whole {
            self.core.statistics.reject(found.index, text);
        }
    }

    /// Returns the first of a request's slots that this core does not own.
    #[inline]
    fn find_foreign(&self, found: Found, request: Request<'_>, resolved: &Resolved) -> Option<Slot> {
        let is_foreign = |&slot: &Slot| self.roles.of(slot) != Owner::Here;
        if resolved.is_one_slot {
            return (resolved.key_count != 0).then_some(resolved.slot).filter(is_foreign);
        }
        let keys = found.command.keys.indices(request.len());
        keys.map(|index| Slot::of(request.arg(index))).find(is_foreign)
    }

    /// Returns the error for a request that needs a slot which this core does not own.
    #[cold]
    fn not_here(&self, slot: Slot, speaks_http: bool) -> String {
        match self.roles.of(slot) {
            Owner::NotNow => format!("TRYAGAIN slot {slot} is changing hands: ask again"),
            Owner::Down => {
                format!("CLUSTERDOWN Hash slot {slot} is not served: it has been changing hands for too long")
            }
            // A redirected HTTP client needs the gateway: cores' ports do not speak HTTP.
            Owner::Here | Owner::Core(_) | Owner::Server if speaks_http => self.core.topology.moved_to_gateway(slot),
            Owner::Here | Owner::Core(_) | Owner::Server => self.core.topology.moved(slot),
        }
    }

    /// Routes a request that came in by a core's port: the core executes requests for its own slots and sends clients
    /// to the owners of the others. Changes of settings go to all cores of the server. `None`: it is executed here.
    #[inline]
    fn place_on_core(&self, found: Found, resolved: &Resolved) -> Result<Option<Away>, String> {
        if resolved.key_count == 0 {
            return Ok(self.everybodys(found));
        }
        if !resolved.is_one_slot {
            return Err(CROSSSLOT.to_owned());
        }
        if self.roles.of(resolved.slot) == Owner::Here { Ok(None) } else { Err(self.not_here(resolved.slot, false)) }
    }

    /// Returns the destination of a command without keys that came in by a core's port; `None`: it is executed here.
    fn everybodys(&self, found: Found) -> Option<Away> {
        let (route, keys) = (found.command.route, found.command.keys);
        let is_everybodys = route == Route::Everywhere(Merge::Here) && 1 < self.core.cores();
        is_everybodys.then_some(Away { route, core: self.core.me.core, keys, row: found.index })
    }

    /// Routes a request that came in by the gateway. With a topology the rules of a cluster hold, except for clients
    /// that speak HTTP, which know nothing of slots. `None`: it is executed here.
    #[inline]
    fn place_on_gateway(
        &self,
        found: Found,
        request: Request<'_>,
        resolved: &Resolved,
        speaks_http: bool,
    ) -> Result<Option<Away>, String> {
        let (route, keys, slot) = (found.command.route, found.command.keys, resolved.slot);
        let row = found.index;
        let is_alone = self.core.cores() == 1;
        match route {
            Route::Here => Ok(None),
            Route::Keys | Route::Split(_) | Route::Watch if resolved.is_one_slot => match self.roles.of(slot) {
                Owner::Here => Ok(None),
                Owner::Core(core) => Ok(Some(Away { route: route.to_one_core(), core, keys, row })),
                Owner::Server | Owner::NotNow | Owner::Down => Err(self.not_here(slot, speaks_http)),
            },
            Route::Keys | Route::Split(_) | Route::Watch if self.core.has_topology && !speaks_http => {
                Err(CROSSSLOT.to_owned())
            }
            Route::Keys | Route::Split(_) | Route::Watch if is_alone && !self.core.has_topology => Ok(None),
            Route::Keys | Route::Split(_) | Route::Watch => self.place_slots(found, request, slot, speaks_http),
            Route::SlotAt(index) => {
                let number = request.get(usize::from(index)).and_then(crate::resp::parse_i64);
                let slot = number.and_then(|number| u16::try_from(number).ok()).and_then(Slot::new);
                // This core returns the error for a number that is no slot. A slot of another server has no keys here.
                match slot.map(|slot| self.roles.of(slot)) {
                    Some(Owner::Core(core)) => Ok(Some(Away { route, core, keys, row })),
                    _ => Ok(None),
                }
            }
            Route::CursorAt(_) | Route::Everywhere(_) if is_alone => Ok(None),
            Route::CursorAt(_) | Route::Everywhere(_) => Ok(Some(Away { route, core: self.core.me.core, keys, row })),
        }
    }

    /// Routes a request with keys of several slots, if this server owns all of them: to one core, or split.
    fn place_slots(
        &self,
        found: Found,
        request: Request<'_>,
        first: Slot,
        speaks_http: bool,
    ) -> Result<Option<Away>, String> {
        let (route, keys) = (found.command.route, found.command.keys);
        let mut owners = keys.indices(request.len()).map(|index| self.roles.local(Slot::of(request.arg(index))));
        let Some(core) = self.roles.local(first) else { return Err(self.not_here(first, speaks_http)) };
        let mut is_one_core = true;
        if !owners.all(|owner| owner.inspect(|&owner| is_one_core &= owner == core).is_some()) {
            return Err(CROSSSLOT.to_owned());
        }
        match route {
            _ if is_one_core && core == self.core.me.core => Ok(None),
            _ if is_one_core => Ok(Some(Away { route: route.to_one_core(), core, keys, row: found.index })),
            Route::Split(_) => Ok(Some(Away { route, core, keys, row: found.index })),
            _ => Err(CROSSSLOT.to_owned()),
        }
    }

    #[inline]
    #[expect(clippy::too_many_arguments, reason = "it is one function with its callers, and copies nothing")]
    fn run(
        &mut self,
        found: Found,
        request: Request<'_>,
        resolved: &Resolved,
        share: Share,
        client: &mut Client,
        now: Now,
        mut reply: Reply<'_>,
    ) -> Outcome {
        let command = found.command;
        let is_write = command.flags.has(Flags::WRITE);
        if is_write && let Some(reason) = self.refuse_write(found, request, share) {
            reply.error(reason);
            return Outcome::Done;
        }
        let recorded = self.store.log.as_ref().map(|log| log.end());
        if (is_write || command.flags.has(Flags::DENYOOM))
            && self.store.is_over()
            && let Some(reason) = self.make_room(found, request, share, now)
        {
            reply.error(reason);
            // It may have evicted some keys, and not enough.
            self.told = recorded.map_or(Wait::NONE, |recorded| self.note_recorded(found, request, resolved, recorded));
            return Outcome::Done;
        }
        let outcome = self.call(found, request, resolved, share, recorded, client, now, reply);
        if command.flags.has(Flags::DENYOOM) {
            self.store.demote_excess(now.unix_millis());
        }
        outcome
    }

    /// Calls the function of a command for which there is room, and counts the call. `recorded`: the end of the log
    /// before it.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "it is one function with its callers, and copies nothing")]
    fn call(
        &mut self,
        found: Found,
        request: Request<'_>,
        resolved: &Resolved,
        share: Share,
        recorded: Option<Lsn>,
        client: &mut Client,
        now: Now,
        reply: Reply<'_>,
    ) -> Outcome {
        let command = found.command;
        client.last_command = command.name;
        let (store, core) = (&mut self.store, &mut self.core);
        let start = reply.output.len();
        let slot = resolved.slot;
        let mut call = Call { request, command, slot, now, reply, client, store, core };
        let outcome = (command.run)(&mut call);
        let error = call.reply.output.get(start..).and_then(|reply| reply.strip_prefix(b"-"));
        let statistics = &mut call.core.statistics;
        let count = u64::from(share != Share::OtherPart);
        statistics.requests += count;
        let was_picked = statistics.sampler.is_due();
        if was_picked {
            let output_bytes = call.reply.output.len().saturating_sub(start);
            statistics.note_sample(command.keys, resolved.key_count as usize, request, slot, output_bytes);
        }
        self.ran = Some(Ran { found, slot, was_picked: was_picked && command.keys != Keys::NONE, share });
        let counted = &mut statistics.commands[usize::from(found.index)];
        counted.calls += count;
        if let Some(text) = error
            && share == Share::Whole
        {
            counted.failed += 1;
            statistics.errors.note(text);
        }
        if let Some(recorded) = recorded {
            self.told = self.note_recorded(found, request, resolved, recorded);
        }
        outcome
    }
}

impl Shard {
    /// Returns the error of a write, if it is refused: its records have no room in the log's files, or no write is
    /// accepted.
    #[inline]
    fn refuse_write(&mut self, found: Found, request: Request<'_>, share: Share) -> Option<&'static str> {
        let persistence = &self.core.persistence;
        let Some(log) = self.store.log.as_ref().filter(|_| persistence.admission.is_some()) else {
            return persistence.refusal.inspect(|reason| self.reject(found, reason, share));
        };
        let (end, bytes) = (log.end(), self.record_bytes_max(found, request));
        let is_admitted = persistence.admission.is_some_and(|admission| admission.admits(end, bytes));
        if (!is_admitted || persistence.refusal.is_some())
            && let Some(reason) = self.look_for_room(relief(found.command), end, bytes)
        {
            self.reject(found, reason, share);
            return Some(reason);
        }
        self.keep_room(bytes);
        None
    }

    /// Returns a bound of the bytes of records that a write appends to the log.
    #[inline]
    fn record_bytes_max(&self, found: Found, request: Request<'_>) -> u64 {
        let value_len = |key: &[u8]| self.store.value_len(Key::of(key));
        record_bytes_max(found.command, request, self.core.config.proto_max_bulk_len, value_len)
    }

    /// Keeps the room in the log's files that a write needs free of the records of evictions and expiries, until the
    /// next check for room.
    #[inline]
    fn keep_room(&mut self, bytes: u64) {
        let end = self.core.persistence.admission.map_or(u64::MAX, |admission| admission.end().0.saturating_sub(bytes));
        self.store.removes_until = Lsn(end);
    }

    /// Makes room in memory for a command, by evictions. Returns the error if there is not enough, or if the records of
    /// the evictions have taken the command's room in the log's files.
    #[cold]
    fn make_room(&mut self, found: Found, request: Request<'_>, share: Share, now: Now) -> Option<&'static str> {
        let flags = found.command.flags;
        let end = |store: &Store| store.log.as_ref().map(|log| log.end());
        let before = end(&self.store);
        if flags.has(Flags::DENYOOM) && self.store.make_room(now.unix_millis()).is_err() {
            self.reject(found, OUT_OF_MEMORY, share);
            return Some(OUT_OF_MEMORY);
        }
        let has_evicted = before != end(&self.store);
        if flags.has(Flags::WRITE) && has_evicted { self.refuse_write(found, request, share) } else { None }
    }

    /// Finds room for a write that the log's files have none for: the reserve if the command frees, else new files.
    /// Returns the error if there is none.
    #[cold]
    fn look_for_room(&mut self, relief: Relief, end: Lsn, bytes: u64) -> Option<&'static str> {
        let persistence = &mut self.core.persistence;
        let admission = persistence.admission?;
        let fits = match relief {
            Relief::None => false,
            Relief::SomeKeys => admission.admits_with_reserve(end, bytes),
            Relief::AllKeys => admission.admits_with_reserve(end, bytes) || admission.admits_to_the_last(end, bytes),
        };
        if fits {
            return None;
        }
        if persistence.refusal.is_none() {
            let missing = admission.missing_segments(end, bytes);
            if self.grow.as_mut().is_some_and(|grow| grow.grow(missing)) {
                persistence.admission = Some(admission.grown(missing));
                return None;
            }
        }
        Some(persistence.refusal.unwrap_or(NO_ROOM))
    }

    /// Ends a command's records, and returns the commits that its reply waits for: those of its own records, or of
    /// uncommitted records of the keys that the reply depends on. `recorded`: the end of the log before the command.
    #[inline]
    fn note_recorded(&mut self, found: Found, request: Request<'_>, resolved: &Resolved, recorded: Lsn) -> Wait {
        let Some(log) = &mut self.store.log else { return Wait::NONE };
        log.end_command();
        if !log.has_uncommitted() {
            return Wait::NONE;
        }
        let (end, command) = (log.end(), found.command);
        if recorded < end {
            return Wait::persisted(end);
        }
        if resolved.key_count == 0 {
            // The reply may depend on any key.
            let tells = command.flags.has(Flags::READONLY) || matches!(command.route, Route::SlotAt(_));
            return if tells { Wait::persisted(end) } else { Wait::NONE };
        }
        let keys = command.keys.indices(request.len());
        let ends = keys.filter_map(|index| self.store.uncommitted(request.arg(index)));
        ends.max().map_or(Wait::NONE, Wait::persisted)
    }
}

/// The longest key that is prefetched: a longer argument is no common key, and hashing it twice would cost more than a
/// miss.
const FORESEEN_KEY_BYTES_MAX: usize = 256;
const NO_AUTH: &str = "NOAUTH Authentication required.";
const CROSSSLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

/// Removes a reply that the client does not want (`CLIENT REPLY`) from the output.
#[cold]
pub(crate) fn silence(client: &mut Client, start: usize, output: &mut Vec<u8>) {
    match client.reply_mode {
        ReplyMode::On => {}
        ReplyMode::Off => output.truncate(start),
        ReplyMode::SkipNext => {
            output.truncate(start);
            client.reply_mode = ReplyMode::Skip;
        }
        ReplyMode::Skip => {
            output.truncate(start);
            client.reply_mode = ReplyMode::On;
        }
    }
}

#[cfg(test)]
mod tests;
