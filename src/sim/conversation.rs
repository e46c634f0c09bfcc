//! A conversation: what a connection's client has asked and is owed, and what each reply must be.

use super::{
    merge,
    model::{Model, Told, Watched},
    plan::{Plan, Target},
    tally::Tally,
    trace::{self, trace},
};
use crate::{
    client::Port,
    resp::{Decoded, Decoder, Limits, encode_request},
    slot::Slot,
    store::UnixMillis,
    transaction,
    wal::Lsn,
    witness::{Executed, Words},
};
use std::collections::VecDeque;

/// A request that a client has sent, and has no reply to.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) words: Words,
    fate: Fate,
}

/// The fate of a request.
#[derive(Debug)]
enum Fate {
    /// Nothing yet.
    Sent,
    /// It goes to other cores under this ticket; for EXEC, with what it is about.
    Away { ticket: u64, transaction: u64, watched: Vec<Watched>, parts: Vec<Part> },
    /// It was answered by this core, its connection's.
    Told(usize, Told),
    /// Its values could not be read.
    Unreadable,
}

/// A part of a request that was executed.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) core: usize,
    pub(super) words: Words,
    pub(super) told: Told,
}

impl Request {
    pub(super) fn new(words: Words) -> Self {
        Self { words, fate: Fate::Sent }
    }
}

/// A transaction as its client knows it.
#[derive(Debug, Default)]
struct Transaction {
    /// Its number: what is told of an earlier one does not count.
    number: u64,
    watched: Vec<Watched>,
    /// Some key is watched that another core has yet to tell of.
    watches_elsewhere: bool,
    queued: Option<Vec<Words>>,
    is_aborted: bool,
}

impl Transaction {
    /// Ends it: what comes next is another.
    fn end(&mut self) -> Self {
        let number = self.number + 1;
        std::mem::replace(self, Self { number, ..Self::default() })
    }
}

/// The reasons that a core has to refuse something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Excuses {
    /// It is reading its files.
    pub(super) is_loading: bool,
    /// Its disk may be full or fail.
    pub(super) may_lack_room: bool,
    /// Its memory may be full.
    pub(super) may_lack_memory: bool,
}

/// The things that a request is executed with: the core's number, its keys as they must be, and what it may refuse.
pub(super) struct At<'a> {
    pub(super) plan: &'a Plan,
    pub(super) target: Target,
    pub(super) core: usize,
    pub(super) model: &'a mut Model,
    pub(super) excuses: Excuses,
    pub(super) tally: &'a mut Tally,
}

/// A connection's client's requests, and the replies that it is owed.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) owed: VecDeque<Request>,
    transaction: Transaction,
}

impl Conversation {
    pub(super) fn unanswered(&self) -> usize {
        self.owed.len()
    }

    fn next(&mut self) -> usize {
        let next = self.owed.iter().position(|request| matches!(request.fate, Fate::Sent));
        next.expect("a request is executed once")
    }

    /// The request's values can't be read.
    pub(super) fn failed(&mut self) {
        let next = self.next();
        self.owed[next].fate = Fate::Unreadable;
        let transaction = &mut self.transaction;
        match &self.owed[next].words[..] {
            [name] if name == b"EXEC" => drop(transaction.end()),
            _ => {}
        }
    }

    /// The values of a part of the request with this ticket can't be read.
    pub(super) fn failed_part(&mut self, ticket: u64) {
        let is_it =
            |request: &&mut Request| matches!(request.fate, Fate::Away { ticket: other, .. } if other == ticket);
        let request = self.owed.iter_mut().find(is_it).expect("who is answered has asked");
        request.fate = Fate::Unreadable;
    }

    /// The connection's core has answered the next request.
    pub(super) fn answered(&mut self, executed: &Executed, at: &mut At<'_>) {
        let next = self.next();
        assert_eq!(executed.words, self.owed[next].words, "requests are executed in their order");
        let told = self.tell(executed, at);
        trace_executed(at, executed);
        check(executed, &told);
        self.owed[next].fate = Fate::Told(at.core, told);
    }

    /// The next request goes to other cores.
    pub(super) fn passed_on(&mut self, ticket: u64) {
        let next = self.next();
        let is_exec = self.owed[next].words == [b"EXEC"];
        self.transaction.watches_elsewhere |= self.owed[next].words[0] == b"WATCH";
        let transaction = self.transaction.number;
        let watched = if is_exec { self.transaction.end().watched } else { Vec::new() };
        self.owed[next].fate = Fate::Away { ticket, transaction, watched, parts: Vec::new() };
    }

    /// A part of the request with this ticket was executed.
    pub(super) fn executed_part(&mut self, ticket: u64, executed: &Executed, at: &mut At<'_>) {
        let is_it =
            |request: &&mut Request| matches!(request.fate, Fate::Away { ticket: other, .. } if other == ticket);
        let request = self.owed.iter_mut().find(is_it).expect("who is answered has asked");
        let Fate::Away { transaction, watched, parts, .. } = &mut request.fate else { unreachable!("it was found so") };
        trace_executed(at, executed);
        let told = execute_part(executed, watched, at);
        if let [name, key] = &executed.words[..]
            && name == b"WATCH"
            && !is_error(&executed.reply)
            && *transaction == self.transaction.number
        {
            let now = UnixMillis(executed.unix_millis);
            self.transaction.watched.push(at.model.watch(key, now));
        }
        parts.push(Part { core: at.core, words: executed.words.clone(), told });
    }

    /// Returns the reply to a request that was executed here. Panics if it can't be right.
    fn tell(&mut self, executed: &Executed, at: &mut At<'_>) -> Told {
        let Executed { words, reply, unix_millis, log } = executed;
        let (now, end) = (UnixMillis(*unix_millis), (log.0 < log.1).then_some(Lsn(log.1)));
        let as_it_is = || Told { reply: reply.clone(), tells: 0 };
        let transaction = &mut self.transaction;
        let name = words[0].as_slice();
        if name == b"EXEC" {
            return self.tell_exec(executed, at);
        }
        if is_error(reply) && is_refusal(reply, words, transaction.queued.is_some(), at) {
            // WATCH removes a key that it finds expired.
            let may_record = at.excuses.may_lack_memory || words[0] == b"WATCH";
            assert!(end.is_none() || may_record, "what is refused is not recorded");
            at.tally.note("refusals");
            if transaction.queued.is_some() {
                transaction.is_aborted = true;
            }
            return as_it_is();
        }
        match (&words[..], &mut transaction.queued) {
            (words, Some(queued)) => {
                queued.push(words.to_vec());
                Told { reply: b"+QUEUED\r\n".to_vec(), tells: 0 }
            }
            ([_], queued) if name == b"MULTI" => {
                *queued = Some(Vec::new());
                Told { reply: b"+OK\r\n".to_vec(), tells: 0 }
            }
            ([_, key], _) if name == b"WATCH" => {
                transaction.watched.push(at.model.watch(key, now));
                Told { reply: b"+OK\r\n".to_vec(), tells: 0 }
            }
            ([_], _) if name == b"BGSAVE" => as_it_is(),
            _ => {
                check_owner(words, at);
                at.model.execute(std::slice::from_ref(words), false, now, end)
            }
        }
    }

    fn tell_exec(&mut self, executed: &Executed, at: &mut At<'_>) -> Told {
        let transaction = self.transaction.end();
        let reply = &executed.reply;
        let Some(queued) = transaction.queued else {
            assert!(reply.starts_with(b"-"), "EXEC comes behind MULTI: {}", reply.escape_ascii());
            return Told { reply: reply.clone(), tells: 0 };
        };
        if transaction.is_aborted {
            assert!(reply.starts_with(b"-EXECABORT "), "a queue that lacks a command is not executed");
            return Told { reply: reply.clone(), tells: 0 };
        }
        let watches = !transaction.watched.is_empty() || transaction.watches_elsewhere;
        tell_queue(&queued, &transaction.watched, watches, executed, at)
    }

    /// Takes replies that leave: from here on, the client knows.
    pub(super) fn take(&mut self, mut output: &[u8], models: &mut [Model], tally: &mut Tally) {
        while !output.is_empty() {
            let length = merge::reply_bytes(output).expect("replies leave whole");
            let (reply, rest) = output.split_at(length);
            output = rest;
            let request = self.owed.pop_front().expect("a request has one reply");
            trace!("      reply {} to {}", trace::short(reply), trace::words(&request.words));
            tally.note("replies");
            request.take(reply, models, tally);
        }
    }
}

impl Request {
    fn take(self, reply: &[u8], models: &mut [Model], tally: &mut Tally) {
        let Self { words, fate } = self;
        let is = |expected: &[u8]| {
            let (is, expected) = (trace::short(reply), trace::short(expected));
            format!("{} is answered with {is}, not {expected}", trace::words(&words))
        };
        match fate {
            Fate::Sent => panic!("{} is answered and was not executed", trace::words(&words)),
            Fate::Unreadable => {
                tally.note("values that could not be read");
                assert!(is_error(reply), "{}", is(b"an error"));
            }
            Fate::Told(core, told) => {
                assert!(reply == told.reply, "{}", is(&told.reply));
                tally.note_if(0 < told.tells, "replies that wait for the disk");
                models[core].acknowledged(told.tells);
            }
            Fate::Away { parts, .. } => {
                tally.note("replies of other cores");
                tally.note_if(1 < parts.len(), "replies in parts");
                let expected = merge::expected(&words, &parts);
                assert!(expected.is_none_or(|expected| expected == reply), "{}", is(b"what its parts say"));
                for part in parts {
                    models[part.core].acknowledged(part.told.tells);
                }
            }
        }
    }
}

fn is_error(reply: &[u8]) -> bool {
    reply.starts_with(b"-")
}

fn trace_executed(at: &At<'_>, executed: &Executed) {
    let Executed { words, reply, log, .. } = executed;
    trace!(
        "      core {} executes {} -> {} log {}..{}",
        at.core,
        trace::words(words),
        trace::short(reply),
        log.0,
        log.1
    );
}

#[track_caller]
fn check(executed: &Executed, told: &Told) {
    let (reply, expected) = (trace::short(&executed.reply), trace::short(&told.reply));
    assert!(executed.reply == told.reply, "{} is answered with {reply}, not {expected}", trace::words(&executed.words));
}

/// Checks that a core executes nothing for a slot that is another's.
fn check_owner(words: &Words, at: &At<'_>) {
    for key in merge::keys(words) {
        let owner = at.plan.owner(key);
        let is_mine = (usize::from(owner.server), usize::from(owner.core)) == (at.target.server, at.core);
        assert!(is_mine, "core {} executes {} for another's slot", at.core, trace::words(words));
    }
}

/// Returns the reply to a part of a request, for another core or for this one.
fn execute_part(executed: &Executed, watched: &[Watched], at: &mut At<'_>) -> Told {
    let Executed { words, reply, unix_millis, log } = executed;
    let (now, end) = (UnixMillis(*unix_millis), (log.0 < log.1).then_some(Lsn(log.1)));
    if let Some(queue) = queue_of(words) {
        // Those that it watches are in what was forwarded.
        return tell_queue(&queue, watched, true, executed, at);
    }
    let as_it_is = matches!(&words[0][..], b"WATCH" | b"BGSAVE");
    if as_it_is || (is_error(reply) && is_refusal(reply, words, false, at)) {
        // WATCH removes a key that it finds expired.
        let may_record = at.excuses.may_lack_memory || words[0] == b"WATCH";
        assert!(end.is_none() || may_record, "what is refused is not recorded");
        return Told { reply: reply.clone(), tells: 0 };
    }
    check_owner(words, at);
    let told = at.model.execute(std::slice::from_ref(words), false, now, end);
    check(executed, &told);
    told
}

/// Executes a part of a request whose client has gone.
pub(super) fn execute_for_nobody(executed: &Executed, at: &mut At<'_>) {
    trace_executed(at, executed);
    if queue_of(&executed.words).is_some() && executed.reply.starts_with(b"*-1") {
        return;
    }
    execute_part(executed, &[], at);
}

/// Returns the queue of a transaction that another core has sent.
fn queue_of(words: &Words) -> Option<Vec<Words>> {
    let mut bytes = Vec::new();
    encode_request(&mut bytes, words.iter().map(Vec::as_slice));
    let limits = Limits { arguments_max: 1 << 20, argument_bytes_max: 1 << 30, is_authenticated: true };
    let mut decoder = Decoder::default();
    let Ok(Decoded::Request(_)) = decoder.decode(&bytes, &limits) else { return None };
    let (_, requests) = transaction::forwarded(decoder.request(&bytes))?;
    let mut queue = Vec::new();
    transaction::each(requests, |request| queue.push(request.args_from(0).map(<[u8]>::to_vec).collect()));
    Some(queue)
}

/// Returns the reply to a queue that is executed, or is not for a reason.
fn tell_queue(queue: &[Words], watched: &[Watched], watches: bool, executed: &Executed, at: &mut At<'_>) -> Told {
    let Executed { reply, unix_millis, log, .. } = executed;
    let (now, end) = (UnixMillis(*unix_millis), (log.0 < log.1).then_some(Lsn(log.1)));
    if reply == b"*-1\r\n" {
        assert!(watches, "a transaction without WATCH is executed");
        at.tally.note("transactions that a watched key stopped");
        return Told { reply: reply.clone(), tells: 0 };
    }
    if let Some(reason) = reply.strip_prefix(b"-EXECABORT Transaction discarded because of: ") {
        let Excuses { is_loading, may_lack_room, may_lack_memory } = at.excuses;
        let is_right = (is_loading && reason.starts_with(b"LOADING"))
            || (may_lack_room && reason.starts_with(b"MISCONF"))
            || (may_lack_memory && reason.starts_with(b"OOM"));
        assert!(is_right, "a transaction is refused: {}", reply.escape_ascii());
        assert!(end.is_none() || may_lack_memory, "what is refused is not recorded");
        return Told { reply: reply.clone(), tells: 0 };
    }
    let is_stopped = watched.iter().any(|watched| at.model.has_changed(watched, now));
    assert!(!is_stopped, "a transaction was executed though a watched key has changed");
    at.tally.note_if(!watched.is_empty(), "transactions that no watched key stopped");
    at.tally.note_if(end.is_some(), "transactions that wrote");
    queue.iter().for_each(|words| check_owner(words, at));
    let told = at.model.execute(queue, true, now, end);
    check(executed, &told);
    told
}

/// Returns true if a request is rightly refused with this error; false for errors of its own, such as INCR's.
fn is_refusal(reply: &[u8], words: &[Vec<u8>], is_queued: bool, at: &At<'_>) -> bool {
    let At { plan, target, core, excuses, .. } = at;
    let starts = |text: &str| reply.starts_with(text.as_bytes());
    let port = if target.core.is_some() { Port::Core } else { Port::Gateway };
    let keys: Vec<_> = merge::keys(words).collect();
    let is_right = match () {
        () if starts("-LOADING") => excuses.is_loading,
        () if starts("-MISCONF") => excuses.may_lack_room,
        () if starts("-OOM") => excuses.may_lack_memory,
        () if starts("-MOVED") => keys.iter().any(|key| {
            let (owner, slot) = (plan.owner(key), Slot::of(key));
            let is_mine = usize::from(owner.server) == target.server
                && (port == Port::Gateway || usize::from(owner.core) == *core);
            let (host, port) = plan.topology.address(owner);
            let text = format!("-MOVED {} {host}:{port}\r\n", slot.number());
            !is_mine && reply == text.as_bytes()
        }),
        () if starts("-CROSSSLOT") => {
            let is_spread = keys.iter().any(|key| Slot::of(key) != Slot::of(keys[0]));
            is_spread || is_queued || words[0] == b"WATCH"
        }
        () if starts("-ERR") && is_queued => true,
        () => return false,
    };
    let request = trace::words(words);
    assert!(is_right, "{request} is refused with {} by core {core}: {excuses:?}", reply.escape_ascii());
    true
}
