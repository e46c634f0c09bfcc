//! Any bytes, cut anywhere: the same requests and the same error as in one piece, and never a panic.
//!
//! The first byte says how many of those behind it are cuts; the rest is what a client sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trine::resp::{Decoded, Decoder, Limits, ProtocolError};

const LIMITS: Limits = Limits { arguments_max: 1024, argument_bytes_max: 4096, is_authenticated: true };

fuzz_target!(|input: &[u8]| {
    let Some((&count, rest)) = input.split_first() else { return };
    let (cuts, bytes) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let mut ends: Vec<_> = cuts.iter().map(|&cut| usize::from(cut) * (bytes.len() + 1) / 256).collect();
    ends.sort_unstable();
    ends.push(bytes.len());
    let _ = trine::glance::only_key(bytes);
    let whole = requests(bytes, &[bytes.len()]);
    assert_eq!(requests(bytes, &ends), whole);
    assert_eq!(requests_ahead(bytes), whole);
});

/// Returns the requests that a session which gets the bytes in pieces would execute, and the error that ends them.
fn requests(bytes: &[u8], ends: &[usize]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let (mut decoder, mut start, mut requests) = (Decoder::default(), 0, Vec::new());
    for &end in ends {
        loop {
            match decoder.decode(&bytes[start..end], &LIMITS) {
                Err(error) => return (requests, Some(error)),
                Ok(Decoded::Incomplete) => break,
                Ok(Decoded::Empty(used)) => start += used,
                Ok(Decoded::Request(used)) => {
                    let request = decoder.request(&bytes[start..end]);
                    requests.push(request.args_from(0).map(<[u8]>::to_vec).collect());
                    start += used;
                }
            }
        }
    }
    (requests, None)
}

/// The same, many cut ahead at once.
fn requests_ahead(bytes: &[u8]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let (mut decoder, mut start, mut requests) = (Decoder::default(), 0, Vec::new());
    loop {
        let rest = &bytes[start..];
        match decoder.decode_ahead(rest, &LIMITS, 7) {
            Err(error) => return (requests, Some(error)),
            Ok(0) => return (requests, None),
            Ok(count) => {
                for position in 0..count {
                    let (request, next) = decoder.request_at(rest, position);
                    requests.extend(request.map(|r| r.args_from(0).map(<[u8]>::to_vec).collect()));
                    if position + 1 == count {
                        start += next;
                    }
                }
            }
        }
    }
}
