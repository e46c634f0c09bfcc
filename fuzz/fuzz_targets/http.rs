//! Any bytes as what a client of the gateway sends, cut anywhere: never a panic, whole responses, and no more is executed than of
//! the same bytes in one piece.
//!
//! The first byte says how many of those behind it are cuts; the rest is what the client sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use trine::{
    resp::{Decoder, Limits, Reply, Request, Version},
    session::{Answer, Backpressure, Executor, Session, Ticket},
    wait::{Committed, Wait},
};

const BACKPRESSURE: Backpressure = Backpressure { output_bytes_max: usize::MAX, waiting_max: 8 };

/// Keys and values. Requests for keys that begin with `f` are answered late.
#[derive(Default)]
struct Shelf {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    pending: Vec<(Ticket, Vec<u8>)>,
    executed: Vec<Vec<Vec<u8>>>,
}

impl Executor for Shelf {
    type Resolved = ();

    fn limits(&self) -> Limits {
        Limits { arguments_max: 64, argument_bytes_max: 512, is_authenticated: true }
    }

    fn resolve(&self, _: Request<'_>) {}

    fn foresee(&mut self, _: Request<'_>, (): &()) {}

    fn fetch_foreseen(&mut self) {}

    fn is_stalled(&self) -> bool {
        false
    }

    fn execute(&mut self, request: Request<'_>, (): (), output: &mut Vec<u8>, ticket: Ticket) -> Answer {
        let words: Vec<_> = request.args_from(0).map(<[u8]>::to_vec).collect();
        let mut bytes = Vec::new();
        let mut reply = Reply { output: &mut bytes, version: Version::Two };
        match (words[0].as_slice(), &words[1..]) {
            (b"GET", [key]) => match self.values.get(key) {
                Some(value) => reply.bulk(value),
                None => reply.null(),
            },
            (b"SETNX", [key, value]) => {
                let is_free = !self.values.contains_key(key);
                self.values.entry(key.clone()).or_insert_with(|| value.clone());
                reply.integer(is_free.into());
            }
            (b"MSET", pairs) => {
                self.values.extend(pairs.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())));
                reply.ok();
            }
            (b"DEL", [key]) => reply.integer(self.values.remove(key).is_some().into()),
            _ => reply.error("ERR no"),
        }
        let is_late = words.get(1).is_some_and(|key| key.starts_with(b"f"));
        self.executed.push(words);
        if is_late {
            self.pending.push((ticket, bytes));
            return Answer::Later;
        }
        output.extend_from_slice(&bytes);
        Answer::Here
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&count, rest)) = input.split_first() else { return };
    let (cuts, bytes) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let mut ends: Vec<_> = cuts.iter().map(|&cut| usize::from(cut) * (bytes.len() + 1) / 256).collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    let whole = executed(bytes, &[bytes.len()]);
    assert!(whole.starts_with(&executed(bytes, &ends)));
});

/// Returns the requests that a session which gets the bytes in pieces executes.
fn executed(bytes: &[u8], ends: &[usize]) -> Vec<Vec<Vec<u8>>> {
    let (mut session, mut decoder, mut shelf) = (Session::undecided(), Decoder::default(), Shelf::default());
    let mut start = 0;
    for &end in ends {
        let mut piece = &bytes[start..end];
        loop {
            if session.receive(piece, &mut decoder, &BACKPRESSURE, &mut shelf).is_err() {
                return shelf.executed;
            }
            let Some((ticket, reply)) = shelf.pending.pop() else { break };
            session.complete(ticket, reply, Wait::NONE);
            piece = &[];
        }
        start = end;
        if let Some(output) = session.take_output(Committed::EVERYTHING) {
            assert!(output.starts_with(b"HTTP/1.1 ") || b"+-:$*".contains(&output[0]));
        }
    }
    shelf.executed
}
