//! Any bytes of a peer, cut anywhere: the same messages and the same error as in one piece, and never a panic.
//!
//! The first byte says how many of those behind it are cuts, and whether the peer has proved itself; the rest is what it sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trine::replication::message::{Decoder, Message, WireError};

fuzz_target!(|input: &[u8]| {
    let Some((&count, rest)) = input.split_first() else { return };
    let (cuts, bytes) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let mut ends: Vec<_> = cuts.iter().map(|&cut| usize::from(cut) * (bytes.len() + 1) / 256).collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    let is_trusted = 16 <= count;
    assert_eq!(messages(bytes, &ends, is_trusted), messages(bytes, &[bytes.len()], is_trusted));
});

/// Returns the messages that come in these pieces, written again, and the error that ends them.
fn messages(bytes: &[u8], ends: &[usize], is_trusted: bool) -> (Vec<Vec<u8>>, Option<WireError>) {
    let (mut decoder, mut start, mut messages) = (Decoder::default(), 0, Vec::new());
    if is_trusted {
        decoder.trust();
    }
    for &end in ends {
        decoder.push(&bytes[start..end]);
        start = end;
        loop {
            match decoder.next_message() {
                Err(error) => return (messages, Some(error)),
                Ok(None) => break,
                Ok(Some(message)) => {
                    if let Message::Items(items) = message {
                        assert_eq!(
                            items.each().map(|(position, _)| position).next().unwrap_or(items.first),
                            items.first
                        );
                    }
                    let mut frame = Vec::new();
                    message.encode(&mut frame);
                    messages.push(frame);
                }
            }
        }
    }
    (messages, None)
}
