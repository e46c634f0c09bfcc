//! Sessions whose requests are answered at once, later, or not yet.

use super::*;
use crate::{resp::encode_request, wal::Lsn};
use proptest::prelude::*;

fn wait(lsn: u64) -> Wait {
    Wait::persisted(Lsn(lsn))
}

const LIMIT: Backpressure = Backpressure { output_bytes_max: 64, waiting_max: 3 };

/// An executor whose reply is the request's argument. The command's name says how: `held` once committed, `later` when
/// the test completes it, `last` as the last reply, `last-later` as both, any other at once.
#[derive(Default)]
struct Echo {
    pending: Vec<(Ticket, Vec<u8>)>,
    executed: usize,
    is_stalled: bool,
    /// True if requests with the name `cold` have to wait.
    is_cold: bool,
}

impl Executor for Echo {
    type Resolved = ();

    fn limits(&self) -> Limits {
        Limits { arguments_max: 4, argument_bytes_max: 100, is_authenticated: true }
    }

    fn resolve(&self, _: Request<'_>) {}

    fn foresee(&mut self, _: Request<'_>, (): &()) {}

    fn fetch_foreseen(&mut self) {}

    fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    fn execute(&mut self, request: Request<'_>, (): (), output: &mut Vec<u8>, ticket: Ticket) -> Answer {
        if self.is_cold && request.arg(0) == b"cold" {
            return Answer::NotYet;
        }
        self.executed += 1;
        match request.arg(0) {
            // Waits for the log up to the position in the argument.
            b"held" => {
                output.extend_from_slice(request.arg(1));
                return Answer::Held(wait(std::str::from_utf8(request.arg(1)).unwrap().parse().unwrap()));
            }
            b"later" => {
                self.pending.push((ticket, request.arg(1).to_vec()));
                return Answer::Later;
            }
            b"last-later" => {
                self.pending.push((ticket, request.arg(1).to_vec()));
                return Answer::LastLater;
            }
            _ => output.extend_from_slice(request.arg(1)),
        }
        if request.arg(0) == b"last" { Answer::Last(Wait::NONE) } else { Answer::Here }
    }
}

/// A request that waits for its values is executed before any that came after it, and none is lost or executed twice.
#[test]
fn a_suspended_session_goes_on_where_it_stopped() {
    let mut bench = Bench::default();
    let mut bytes = Vec::new();
    for words in [["echo", "a"], ["cold", "b"], ["later", "c"], ["cold", "d"], ["echo", "e"]] {
        encode_request(&mut bytes, words.iter().map(|word| word.as_bytes()));
    }
    bench.echo.is_cold = true;
    // The last request comes in two pieces.
    let (first, rest) = bytes.split_at(bytes.len() - 5);
    bench.receive(first).unwrap();
    assert!(bench.session.is_suspended() && bench.session.is_blocked(&LIMIT) && bench.session.has_waited);
    assert_eq!((bench.session.output.as_slice(), bench.echo.executed), (&b"a"[..], 1));
    bench.receive(rest).unwrap();
    assert_eq!(bench.echo.executed, 1, "what comes meanwhile waits");
    bench.session.resume();
    bench.receive(b"").unwrap();
    assert!(bench.session.is_suspended(), "the values have gone again");
    bench.echo.is_cold = false;
    bench.session.resume();
    bench.receive(b"").unwrap();
    assert_eq!(bench.echo.executed, 5);
    let (ticket, reply) = bench.echo.pending.pop().unwrap();
    bench.session.complete(ticket, reply, Wait::NONE);
    assert_eq!(bench.session.output, b"abcde");
    assert!(!bench.session.is_suspended() && !bench.session.has_unread());
}

/// Behind a request whose reply is the last and comes later, nothing is executed; the reply still leaves.
#[test]
fn nothing_is_executed_behind_a_last_reply_that_comes_later() {
    let mut bench = Bench::default();
    let bytes = requests(&[("echo", "a"), ("last-later", "b"), ("echo", "c"), ("later", "d")]);
    bench.receive(&bytes).unwrap();
    bench.receive(&requests(&[("echo", "e")])).unwrap();
    assert_eq!(bench.echo.executed, 2);
    assert!(bench.session.closing && !bench.session.is_finished());
    bench.complete(0);
    assert_eq!(bench.session.output, b"ab");
}

/// A session, its executor, and the bytes that its client has got.
#[derive(Default)]
struct Bench {
    session: Session,
    scratch: Decoder,
    echo: Echo,
    got: Vec<u8>,
}

impl Bench {
    fn receive(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.session.receive(bytes, &mut self.scratch, &LIMIT, &mut self.echo)
    }

    fn send(&mut self) {
        self.got.append(&mut self.session.output);
    }

    fn complete(&mut self, position: usize) {
        let (ticket, reply) = self.echo.pending.remove(position);
        self.session.complete(ticket, reply, Wait::NONE);
    }

    /// Returns the number of bytes of replies that the session has.
    fn owed(&self) -> usize {
        let length = |part: &Part| if let Part::Done(bytes, _) = part { bytes.len() } else { 0 };
        self.session.output.len() + self.session.parts.iter().map(length).sum::<usize>()
    }
}

fn requests(words: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, argument) in words {
        encode_request(&mut bytes, [name.as_bytes(), argument.as_bytes()].into_iter());
    }
    bytes
}

proptest! {
    /// The client gets every reply once, in the order of its requests, for any cuts of the bytes, any times and order
    /// of the late replies, and any speed of the client. The session never owes much more than its limits, and never
    /// gets stuck.
    #[test]
    fn replies_leave_in_the_order_of_the_requests(
        kinds in prop::collection::vec((any::<bool>(), 0..50_usize), 0..60),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        chances in prop::collection::vec((0..4_u8, any::<prop::sample::Index>()), 200),
    ) {
        let arguments: Vec<_> = kinds.iter().enumerate().map(|(n, &(_, length))| format!("{n}{}.", "x".repeat(length))).collect();
        let words: Vec<_> = kinds.iter().zip(&arguments)
            .map(|(&(is_here, _), argument)| (if is_here { "here" } else { "later" }, argument.as_str())).collect();
        let bytes = requests(&words);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let (mut bench, mut start, mut chances) = (Bench::default(), 0, chances.into_iter().cycle());
        for end in cuts {
            bench.receive(&bytes[start..end]).unwrap();
            start = end;
            for _ in 0..3 {
                match chances.next() {
                    Some((0, _)) => bench.send(),
                    Some((1, index)) if !bench.echo.pending.is_empty() => bench.complete(index.index(bench.echo.pending.len())),
                    Some((2, _)) => bench.receive(&[]).unwrap(),
                    _ => {}
                }
                prop_assert!(bench.session.waiting <= LIMIT.waiting_max);
                prop_assert!(bench.owed() < LIMIT.output_bytes_max + (1 + LIMIT.waiting_max) * 60, "{}", bench.owed());
            }
        }
        while bench.echo.executed < words.len() || bench.session.is_waiting() || !bench.session.output.is_empty() {
            let before = (bench.got.len(), bench.echo.pending.len(), bench.echo.executed);
            bench.send();
            if !bench.session.is_blocked(&LIMIT) {
                bench.receive(&[]).unwrap();
            }
            if !bench.echo.pending.is_empty() {
                let index = chances.next().map_or(0, |(_, index)| index.index(bench.echo.pending.len()));
                bench.complete(index);
            }
            prop_assert_ne!(before, (bench.got.len(), bench.echo.pending.len(), bench.echo.executed), "it got further");
        }
        prop_assert_eq!(String::from_utf8(bench.got).unwrap(), arguments.concat());
        prop_assert!(!bench.session.has_unread());
        prop_assert_eq!(bench.session.queued, 0);
    }
}

/// Replies that are queued behind one that has not come count against the limit, too.
#[test]
fn replies_behind_one_that_has_not_come_are_bounded() {
    let mut bench = Bench::default();
    let mut words = vec![("later", "first")];
    words.resize(100, ("here", "0123456789"));
    bench.receive(&requests(&words)).unwrap();
    assert!(bench.session.is_blocked(&LIMIT));
    assert!(bench.owed() < 80, "{} bytes", bench.owed());
    assert!(bench.session.output.is_empty() && bench.session.has_unread());
    bench.complete(0);
    bench.send();
    assert!(!bench.session.is_blocked(&LIMIT), "it goes on");
    assert!(bench.got.starts_with(b"first0123456789"));
}

/// A reply that depends on uncommitted effects waits, and with it all behind it; those before it leave.
#[test]
fn replies_wait_until_what_they_tell_is_committed() {
    let mut bench = Bench::default();
    let take = |bench: &mut Bench, committed: u64| {
        bench
            .session
            .take_output(Committed { persisted: Lsn(committed) })
            .map(|bytes| String::from_utf8(bytes).unwrap())
    };
    bench.receive(&requests(&[("here", "a"), ("held", "5"), ("here", "b"), ("held", "7"), ("here", "c")])).unwrap();
    assert_eq!(bench.session.held_until(), Some(wait(7)));
    assert_eq!(take(&mut bench, 4), Some("a".into()));
    assert_eq!(take(&mut bench, 4), None);
    bench.receive(&requests(&[("here", "d"), ("held", "9"), ("held", "8")])).unwrap();
    assert!(!bench.session.output.is_empty() && !bench.session.is_finished());
    assert_eq!(take(&mut bench, 7), Some("5b7cd".into()));
    assert_eq!(take(&mut bench, 8), None);
    assert_eq!(take(&mut bench, 9), Some("98".into()));
    assert_eq!(bench.session.held_until(), None);
    // Held replies behind a reply of another core, which is held as well.
    bench.receive(&requests(&[("later", "x"), ("held", "20"), ("here", "e")])).unwrap();
    let (ticket, reply) = bench.echo.pending.remove(0);
    bench.session.complete(ticket, reply, wait(15));
    assert_eq!(take(&mut bench, 14), None);
    assert_eq!(take(&mut bench, 15), Some("x".into()));
    assert_eq!(take(&mut bench, 20), Some("20e".into()));
}

/// While the executor is stalled, nothing is executed; then everything is.
#[test]
fn a_stalled_session_goes_on_later() {
    let mut bench = Bench::default();
    bench.echo.is_stalled = true;
    bench.receive(&requests(&[("here", "a"), ("here", "b")])).unwrap();
    assert!(bench.echo.executed == 0 && bench.session.has_waited && bench.session.has_unread());
    bench.echo.is_stalled = false;
    bench.receive(&[]).unwrap();
    assert_eq!((bench.session.output.as_slice(), bench.session.has_unread()), (&b"ab"[..], false));
}

/// After the last reply nothing is executed, and the replies that are owed still leave.
#[test]
fn nothing_is_executed_behind_the_last() {
    let mut bench = Bench::default();
    bench.receive(&requests(&[("later", "a"), ("last", "b"), ("here", "c")])).unwrap();
    bench.receive(&requests(&[("here", "d")])).unwrap();
    assert_eq!(bench.echo.executed, 2);
    assert!(bench.session.closing && !bench.session.is_finished());
    bench.complete(0);
    bench.send();
    assert_eq!((bench.got.as_slice(), bench.session.is_finished()), (&b"ab"[..], true));
}

/// Requests before a protocol error are executed, the error ends the session, and the scratch decoder is as new for the
/// next one.
#[test]
fn an_error_ends_the_session_and_no_other() {
    let mut bench = Bench::default();
    let bytes = [&requests(&[("here", "a")])[..], b"*2\r\n$4\r\nhere\r\n!"].concat();
    assert_eq!(bench.receive(&bytes), Err(ProtocolError::ExpectedBulk(b'!')));
    assert!(bench.session.closing);
    assert_eq!(bench.session.output, b"a");
    let mut other = Bench { scratch: bench.scratch, ..Bench::default() };
    other.receive(&requests(&[("here", "b")])).unwrap();
    assert_eq!(other.session.output, b"b");
}

/// No line of an HTTP request is executed as a command: a web page can have a browser send one to any port. That holds
/// for methods that are not known on a port that speaks HTTP, and for all methods on one that speaks the Redis protocol
/// alone.
#[test]
fn no_line_of_an_http_request_is_a_command() {
    let body = "Host: 127.0.0.1\r\nContent-Length: 20\r\n\r\nhere a\r\nhere b\r\n";
    for line in ["PROPFIND / HTTP/1.1", "here /a HTTP/1.1", "post / HTTP/1.1", "host: here"] {
        for session in [Session::default(), Session::undecided()] {
            let mut bench = Bench { session, ..Bench::default() };
            let bytes = format!("{line}\r\n{body}");
            assert_eq!(bench.receive(bytes.as_bytes()), Err(ProtocolError::Http), "{line}");
            assert!(bench.session.closing && bench.echo.executed == 0, "{line}");
            bench.receive(b"here a\r\n").unwrap();
            assert_eq!(bench.echo.executed, 0, "{line}");
        }
    }
    let mut bench = Bench::default();
    assert_eq!(bench.receive(format!("POST / HTTP/1.1\r\n{body}").as_bytes()), Err(ProtocolError::Http));
    assert_eq!(bench.echo.executed, 0);
}

/// An idle session holds no buffer.
#[test]
fn an_idle_session_holds_no_buffer() {
    let mut bench = Bench::default();
    let bytes = requests(&[("here", "a"), ("later", "b")]);
    let (first, second) = bytes.split_at(bytes.len() - 3);
    bench.receive(first).unwrap();
    assert!(bench.session.unread.is_some());
    assert_eq!(bench.session.unread_bytes(), requests(&[("later", "b")]).len() - 3);
    bench.receive(second).unwrap();
    bench.complete(0);
    assert!(bench.session.unread.is_none() && !bench.session.is_waiting());
}

/// The memory that a long pipeline took, for late replies and for held ones, is freed at its end.
#[test]
fn a_long_pipeline_leaves_no_memory_behind() {
    let limit = Backpressure { output_bytes_max: 1 << 20, waiting_max: 10_000 };
    let (mut session, mut echo) = (Session::default(), Echo::default());
    for round in 1..=60_u64 {
        let later = requests(&vec![("later", "a"); 10 * round as usize]);
        session.receive(&later, &mut Decoder::default(), &limit, &mut echo).unwrap();
        for (ticket, reply) in std::mem::take(&mut echo.pending) {
            session.complete(ticket, reply, Wait::NONE);
        }
        assert!(!session.is_waiting() && session.parts.capacity() <= QUEUE_KEPT, "{} parts", session.parts.capacity());
        for number in 0..200 {
            let held = requests(&[("held", &(round * 1000 + number).to_string())]);
            session.receive(&held, &mut Decoder::default(), &limit, &mut echo).unwrap();
        }
        assert!(session.take_output(Committed::EVERYTHING).is_some());
        assert!(session.gates.capacity() <= QUEUE_KEPT, "{} gates", session.gates.capacity());
    }
}

/// A client whose replies are large may wait for fewer of them.
#[test]
fn large_replies_narrow_the_window() {
    let mut bench = Bench::default();
    let large = "x".repeat(60);
    let words: Vec<_> = (0..10).map(|_| ("later", large.as_str())).collect();
    bench.receive(&requests(&words)).unwrap();
    assert_eq!(bench.session.waiting, LIMIT.waiting_max);
    (0..LIMIT.waiting_max).for_each(|_| bench.complete(0));
    bench.send();
    bench.receive(&[]).unwrap();
    assert_eq!(bench.session.waiting, 1);
}
