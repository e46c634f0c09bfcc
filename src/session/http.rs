//! A session that speaks HTTP: its requests are executed as Redis requests, and the replies are sent as responses.
//!
//! Everything else is as in any session: the order, the gates, and the limits of replies that are waited for and owed.

use super::{Answer, Backpressure, Executor, Protocol, Session, Ticket, Unread};
use crate::{
    http::{
        Limits, Refusal, Told,
        body::{self, Chunks, Cut},
        head::{self, Framing, Head},
        response::{self, Date, Kind, Manner, Shape},
        route::{self, Ask},
        tell,
    },
    resp::{Decoder, ProtocolError, Words},
    slot::Slot,
};
use base64::Engine as _;
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use std::collections::VecDeque;

/// The state of an HTTP session between two calls of `receive`.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    date: Date,
    /// The progress of the first request that is not complete or waits.
    begun: Begun,
    /// The shapes of the responses whose replies come later, with the targets of their requests, in the order of their
    /// tickets.
    shapes: VecDeque<(Ticket, Shape, Box<[u8]>)>,
    /// True once [`Executor::introduce`] has been called.
    is_introduced: bool,
    /// True if the session ended while the client may have been sending: the connection should be closed after a
    /// moment, or the reason may be lost on the way.
    pub(super) lingers: bool,
}

/// The progress of a request that is not complete or waits.
#[derive(Debug, Default)]
struct Begun {
    /// The number of bytes of the head that were searched for its end.
    searched: usize,
    /// The number of bytes below which looking at the request again would find nothing new.
    needs: usize,
    chunks: Chunks,
    /// True if `100 Continue` was sent.
    is_continued: bool,
    /// True if the client is authenticated; `None` if that was not checked yet. It is checked once for each request,
    /// also if the request is processed several times.
    is_known: Option<bool>,
}

/// The outcome of the first unexecuted bytes.
enum Step {
    /// Their request is not complete, or may not be executed yet.
    Wait,
    /// A request of this many bytes was executed or refused.
    Done(usize),
}

/// The bytes of a target that are escaped in a `Location`. `%` is not among them: what a client has escaped stays as it
/// is.
const TARGET: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

impl Exchange {
    /// Replaces a reply that has come late by its response.
    pub(super) fn finish(&mut self, ticket: Ticket, reply: &mut Vec<u8>) {
        let position = self.shapes.binary_search_by_key(&ticket.0, |(other, ..)| other.0);
        let position = position.expect("each late reply has a shape");
        let Some((_, shape, target)) = self.shapes.remove(position) else { return };
        super::give_back(&mut self.shapes);
        render(reply, 0, shape, &target, &self.date);
    }
}

/// The buffer in which a request's words are put together, and the limits of HTTP requests.
struct Desk<'a> {
    words: &'a mut Words,
    limits: Limits,
}

impl Session {
    /// Does the work of [`receive`](Self::receive) for a session that speaks HTTP, or whose protocol is not known yet.
    #[inline(never)]
    pub(super) fn receive_other(
        &mut self,
        bytes: &[u8],
        scratch: &mut Decoder,
        backpressure: &Backpressure,
        executor: &mut impl Executor,
    ) -> Result<(), ProtocolError> {
        let mut unread = self.unread.take();
        if let Some(unread) = &mut unread {
            unread.bytes.extend_from_slice(bytes);
        }
        let all = unread.as_ref().map_or(bytes, |unread| &unread.bytes[unread.used..]);
        if matches!(self.protocol, Protocol::Undecided) {
            match tell(all, executor.limits().line_bytes_max()) {
                Told::Unknown => {
                    self.keep(unread, bytes, 0);
                    return Ok(());
                }
                Told::Http => self.protocol = Protocol::Http(Box::default()),
                Told::Resp => {
                    self.protocol = Protocol::Resp;
                    let new = if unread.is_some() { &[] } else { bytes };
                    self.unread = unread;
                    return self.receive(new, scratch, backpressure, executor);
                }
            }
        }
        let used = self.serve_all(all, &mut scratch.words, backpressure, executor);
        self.keep(unread, bytes, used);
        Ok(())
    }

    /// Keeps the unexecuted bytes behind the first `used` of them: of `unread` if there is one, which ends with
    /// `bytes`, else of `bytes`.
    fn keep(&mut self, unread: Option<Box<Unread>>, bytes: &[u8], used: usize) {
        let mut unread = match unread {
            Some(unread) => unread,
            None if used < bytes.len() => Box::new(Unread { bytes: bytes.to_vec(), ..Unread::default() }),
            None => return,
        };
        unread.used += used;
        if unread.used == unread.bytes.len() || self.closing {
            return;
        }
        unread.compact();
        self.unread = Some(unread);
    }

    /// Serves complete requests; returns the number of bytes that they took.
    fn serve_all(
        &mut self,
        bytes: &[u8],
        words: &mut Words,
        backpressure: &Backpressure,
        executor: &mut impl Executor,
    ) -> usize {
        let Protocol::Http(mut exchange) = std::mem::take(&mut self.protocol) else {
            unreachable!("a session that speaks HTTP has an exchange")
        };
        exchange.date.set(executor.unix_seconds());
        let (mut used, gates) = (0, self.gates.len());
        while used < bytes.len() && !self.closing && !self.is_blocked(backpressure) && !executor.is_stalled() {
            let mut desk = Desk { words, limits: executor.http_limits() };
            match self.serve(&bytes[used..], &mut exchange, &mut desk, gates, executor) {
                Step::Wait => break,
                Step::Done(length) => {
                    used += length;
                    exchange.begun = Begun::default();
                }
            }
        }
        words.give_back();
        self.protocol = Protocol::Http(exchange);
        let is_blocked = self.is_blocked(backpressure) || executor.is_stalled();
        self.has_waited |= used < bytes.len() && !self.closing && is_blocked;
        used
    }

    /// Serves the request that `bytes` begin with.
    fn serve(
        &mut self,
        bytes: &[u8],
        exchange: &mut Exchange,
        desk: &mut Desk<'_>,
        gates: usize,
        executor: &mut impl Executor,
    ) -> Step {
        let begun = &mut exchange.begun;
        if bytes.len() < begun.needs {
            return Step::Wait;
        }
        let head = match head::parse(bytes, &mut begun.searched, &desk.limits) {
            Ok(Some(head)) => head,
            Ok(None) => return Step::Wait,
            Err(refusal) => return self.refuse_and_end(&refusal, false, exchange, executor),
        };
        if !exchange.is_introduced {
            exchange.is_introduced = true;
            executor.introduce(head.agent.unwrap_or_default());
        }
        if exchange.begun.is_known.is_none() && head.authorization.is_some() && executor.must_wait() {
            self.is_suspended = true;
            return Step::Wait;
        }
        // A refusal for which the head suffices comes before the body is read.
        let asked = begin(&head, &mut exchange.begun.is_known, desk, executor);
        let takes_body = asked.as_ref().is_ok_and(Ask::takes_body);
        let bytes_max = body::bytes_max(&head, takes_body, &desk.limits);
        let is_head = head.method == head::Method::Head;
        let (body, end) = match body::cut(&head, bytes, &mut exchange.begun.chunks, bytes_max) {
            Ok(Cut::Whole(body, end)) => (body, end),
            Ok(Cut::Needs(needs)) => {
                if let Err(refusal) = &asked
                    && !is_worth_reading(&head, &desk.limits)
                {
                    return self.refuse_and_end(refusal, is_head, exchange, executor);
                }
                exchange.begun.needs = needs;
                if head.expects_continue && !std::mem::replace(&mut exchange.begun.is_continued, true) {
                    self.append(|output| output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
                }
                return Step::Wait;
            }
            Err(refusal) => {
                let refusal = asked.err().unwrap_or(refusal);
                return self.refuse_and_end(&refusal, is_head, exchange, executor);
            }
        };
        let manner = Manner { is_bodiless: is_head, persists: head.persists, is_old: head.is_old };
        let kind = asked.and_then(|ask| finish(&ask, &head, &body, desk, executor));
        match kind {
            Err(refusal) => {
                executor.note_refusal();
                let date = &exchange.date;
                self.append(|output| response::refuse(output, &refusal, manner, date));
            }
            Ok(Kind::Health) => {
                let shape = Shape { kind: Kind::Health, manner };
                let date = &exchange.date;
                self.append(|output| response::render(output, output.len(), shape, date));
            }
            Ok(kind) => {
                let shape = Shape { kind, manner };
                if !self.execute_one(desk.words, (shape, head.target), exchange, gates, executor) {
                    return Step::Wait;
                }
            }
        }
        self.closing |= !manner.persists;
        Step::Done(end)
    }

    /// Executes a request that was put together. Returns false if it has to wait ([`Answer::NotYet`]).
    fn execute_one(
        &mut self,
        words: &Words,
        (shape, target): (Shape, &[u8]),
        exchange: &mut Exchange,
        gates: usize,
        executor: &mut impl Executor,
    ) -> bool {
        let (output, ticket) = self.tail();
        let start = output.len();
        let request = words.request();
        let resolved = executor.resolve(request);
        let answer = executor.execute(request, resolved, output, ticket);
        match answer {
            Answer::NotYet => {
                self.is_suspended = true;
                return false;
            }
            Answer::Later | Answer::LastLater => {
                exchange.shapes.push_back((ticket, shape, target.into()));
                self.defer(ticket);
                self.closing |= answer == Answer::LastLater;
                return true;
            }
            Answer::Here | Answer::Held(_) | Answer::Last(_) => {
                render(output, start, shape, target, &exchange.date);
                if self.is_waiting() {
                    self.queue_grew(start);
                }
            }
        }
        match answer {
            Answer::Held(wait) => self.hold(start, wait, gates),
            Answer::Last(wait) => {
                if !wait.is_none() {
                    self.hold(start, wait, gates);
                }
                self.closing = true;
            }
            _ => {}
        }
        true
    }

    /// Appends a response that needs no shard to the replies.
    fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let output = self.tail().0;
        let start = output.len();
        write(output);
        if self.is_waiting() {
            self.queue_grew(start);
        }
    }

    /// Refuses a request whose end is not known, or not worth waiting for, and ends the session.
    #[cold]
    fn refuse_and_end(
        &mut self,
        refusal: &Refusal,
        is_bodiless: bool,
        exchange: &mut Exchange,
        executor: &mut impl Executor,
    ) -> Step {
        executor.note_refusal();
        let manner = Manner { is_bodiless, persists: false, is_old: false };
        let date = &exchange.date;
        self.append(|output| response::refuse(output, refusal, manner, date));
        self.closing = true;
        exchange.lingers = true;
        Step::Done(0)
    }
}

/// Returns true if the body of a refused request is read, so that the connection can be kept.
fn is_worth_reading(head: &Head<'_>, limits: &Limits) -> bool {
    let is_short = matches!(head.framing, Framing::Length(length) if length <= limits.ignored_body_bytes_max());
    is_short && head.persists && !head.expects_continue
}

/// Checks a request's head before its body has come: the host, the password, the route, and the owner of a single key.
/// Returns the route.
#[inline]
fn begin<'a>(
    head: &Head<'a>,
    is_known: &mut Option<bool>,
    desk: &mut Desk<'_>,
    executor: &mut impl Executor,
) -> Result<Ask<'a>, Refusal> {
    if head.authority.is_some_and(|authority| !executor.is_own_host(authority)) {
        let reason = "this server is not known by that name, and has no password: ask for it by an address, as localhost, or by a \
                      name of http-hosts";
        return Err(Refusal::new(421, reason));
    }
    let is_known = *is_known.get_or_insert_with(|| match head.authorization {
        Some(text) => executor.authenticate(Some(&|expected| has_password(text, expected))),
        None => executor.authenticate(None),
    });
    let found = route::find(head);
    if !is_known && !found.as_ref().is_ok_and(Ask::is_public) {
        let challenge = "WWW-Authenticate: Basic realm=\"trine\", charset=\"UTF-8\"";
        return Err(Refusal::new(401, "the password of requirepass is needed, with any user").with(challenge));
    }
    let ask = found?;
    ask.begin(head, &desk.limits, desk.words)?;
    if let Ask::Get(_) | Ask::Set(_) | Ask::Remove(_) = ask
        && let Some(server) = executor.elsewhere(desk.words.request().arg(1))
    {
        return Err(redirect(head.target, server));
    }
    Ok(ask)
}

/// Completes the request's words with the body; returns the kind of its response. Keys that the body names are checked
/// to have one owner.
#[inline]
fn finish(
    ask: &Ask<'_>,
    head: &Head<'_>,
    body: &[u8],
    desk: &mut Desk<'_>,
    executor: &mut impl Executor,
) -> Result<Kind, Refusal> {
    let kind = ask.finish(head, body, &desk.limits, desk.words)?;
    if let Kind::StoredAll(_) = kind {
        check_owner(head, desk.words, executor)?;
    }
    Ok(kind)
}

/// Checks that this server owns all keys of a request that stores several. The error is a redirection if another server
/// owns all of them, else a refusal.
fn check_owner(head: &Head<'_>, words: &Words, executor: &impl Executor) -> Result<(), Refusal> {
    let mut keys = words.request().args_from(1).step_by(2);
    let Some(first) = keys.next() else { return Ok(()) };
    let server = executor.elsewhere(first);
    if let Some(other) = keys.find(|key| executor.elsewhere(key) != server) {
        let name = |key: &[u8]| {
            let server = executor
                .elsewhere(key)
                .map_or("this server's".into(), |(host, port)| format!("{}'s", base(host, port)));
            let key = String::from_utf8_lossy(&key[..key.len().min(100)]).into_owned();
            format!("'{key}' is {server}")
        };
        let reason = format!(
            "keys of several servers can't be stored at once: {} (slot {}), and {} (slot {}); nothing was stored: send each \
             server its own",
            name(first),
            Slot::of(first),
            name(other),
            Slot::of(other),
        );
        return Err(Refusal::new(422, reason));
    }
    server.map_or(Ok(()), |server| Err(redirect(head.target, server)))
}

/// Returns the redirection to another server, which owns the key.
#[cold]
fn redirect(target: &[u8], (host, port): (&str, u16)) -> Refusal {
    let location = format!("Location: {}{}", base(host, port), percent_encode(target, TARGET));
    Refusal::new(307, "another server owns the key: see Location").with(location)
}

/// Replaces the reply behind the first `start` bytes of `output` by its response. The owner of a key may have changed
/// since the request was routed: then the response is a redirection to the new owner.
#[inline]
fn render(output: &mut Vec<u8>, start: usize, shape: Shape, target: &[u8], date: &Date) {
    if output.get(start) == Some(&b'-')
        && let Some(refusal) = moved(&output[start..], target)
    {
        output.truncate(start);
        return response::refuse(output, &refusal, shape.manner, date);
    }
    response::render(output, start, shape, date);
}

/// Returns the redirection to the gateway that an error names: `-MOVED 3999 10.0.0.2:7000`.
#[cold]
fn moved(error: &[u8], target: &[u8]) -> Option<Refusal> {
    let text = std::str::from_utf8(error.strip_prefix(b"-MOVED ")?).ok()?;
    let (host, port) = text.trim_end().split_once(' ')?.1.rsplit_once(':')?;
    Some(redirect(target, (host, port.parse().ok()?)))
}

fn base(host: &str, port: u16) -> String {
    if host.contains(':') { format!("http://[{host}]:{port}") } else { format!("http://{host}:{port}") }
}

/// Returns true if an `Authorization` header has this password, with any user. The time that the comparison takes does
/// not depend on the password.
fn has_password(authorization: &[u8], expected: &[u8]) -> bool {
    let Some((scheme, text)) = authorization.split_at_checked(6) else { return false };
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return false;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(text.trim_ascii());
    let Ok(decoded) = decoded else { return false };
    let colon = decoded.iter().position(|&byte| byte == b':');
    colon.is_some_and(|at| crate::client::is_password(&decoded[at + 1..], expected))
}

#[cfg(test)]
mod tests;
