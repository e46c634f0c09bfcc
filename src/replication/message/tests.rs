use proptest::prelude::*;

use super::*;
use crate::{
    replication::items::{Item, Part},
    slot::Slot,
};

/// Returns frames of every kind of message, one after another, and how each reads.
fn everything() -> (Vec<Vec<u8>>, Vec<String>) {
    let peer = Peer { server: "one", core: 3, incarnation: Incarnation::new(7), revision: Revision::new(9) };
    let slots = SlotRange::new(5, 77).unwrap();
    let (slot, version) = (Slot::new(77).unwrap(), Version { epoch: 3, count: 12 });
    let mut items = Vec::new();
    for item in [
        Item::Cover { slots, version },
        Item::Effect { slot, before: version, epoch: 4, continues: true, record: b"first" },
        Item::Skip { continues: true },
        Item::Effect { slot, before: version, epoch: 4, continues: false, record: b"" },
        Item::Begin { slot, part: Part { number: 1, count: 2, seed: 5 } },
        Item::Key { slot, record: b"key and value" },
        Item::Skip { continues: false },
        Item::End { slot, version: None },
        Item::End { slot, version: Some(version) },
    ] {
        item.encode(&mut items);
    }
    let messages = [
        Message::Challenge { nonce: [3; 32], server: "one", core: 3 },
        Message::Proof([9; 32]),
        Message::Hello { peer, stream: 4 },
        Message::Welcome { peer, received: None },
        Message::Welcome { peer, received: Some(44) },
        Message::Start { stream: 4, next: 45 },
        Message::Items(Items::new(45, &items)),
        Message::Heartbeat { sent_us: 1, revision: Revision::new(2), unix_millis: 3 },
        Message::Acknowledge { incarnation: Incarnation::new(7), position: 8, grant_us: Some(0) },
        Message::Acknowledge { incarnation: Incarnation::new(7), position: 8, grant_us: None },
        Message::Compared { position: 1, slots, comparison: Comparison::Differs },
        Message::Document("revision = 12"),
        Message::Close(CloseReason::Frozen),
    ];
    let frame = |message: &Message<'_>| {
        let mut frame = Vec::new();
        message.encode(&mut frame);
        frame
    };
    (messages.iter().map(frame).collect(), messages.iter().map(|message| format!("{message:?}")).collect())
}

/// Returns the messages of bytes that arrive in pieces, and the error that ends them.
fn read(pieces: &[&[u8]]) -> (Vec<String>, Option<WireError>) {
    let mut decoder = Decoder::default();
    decoder.trust();
    let mut messages = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => {
                    if let Message::Items(items) = message {
                        assert!(items.each().all(|(position, _)| items.first <= position));
                    }
                    messages.push(format!("{message:?}"));
                }
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

proptest! {
    /// Messages are read as they were written, wherever their bytes are cut.
    #[test]
    fn messages_survive_any_cut(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let (frames, expected) = everything();
        let bytes = frames.concat();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([bytes.len()]).collect();
        ends.sort_unstable();
        let starts = [0].into_iter().chain(ends.iter().copied());
        let pieces: Vec<&[u8]> = starts.zip(&ends).map(|(start, &end)| &bytes[start..end]).collect();
        prop_assert_eq!(read(&pieces), (expected, None));
    }

    /// A changed bit is noticed: what was before it is read, and nothing from it on.
    #[test]
    fn changed_bits_are_refused(place in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (frames, expected) = everything();
        let mut bytes = frames.concat();
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        let (mut start, mut before) = (0, 0);
        while start + frames[before].len() <= place {
            (start, before) = (start + frames[before].len(), before + 1);
        }
        let (messages, _) = read(&[&bytes]);
        prop_assert_eq!(&messages, &expected[..before]);
    }

    /// Any bytes at all, with a checksum that is right: a message or an error, and never a panic.
    #[test]
    fn any_payload_is_read_or_refused(kind in 0u8..14, payload in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut frame = vec![0; HEADER_BYTES];
        frame.extend_from_slice(&payload);
        seal(&mut frame, kind);
        let (messages, error) = read(&[&frame]);
        prop_assert_eq!(messages.len() + usize::from(error.is_some()), 1);
    }

    /// Any bytes at all never panic.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&[&bytes]);
    }
}

/// A header promises more than is allowed: refused before any of it has arrived.
#[test]
fn long_frames_are_refused_by_their_header() {
    let mut frame = vec![0; HEADER_BYTES];
    (frame[4], frame[5]) = (DOCUMENT, PROTOCOL);
    frame[..4].copy_from_slice(&(STRANGER_BYTES_MAX as u32 + 1).to_le_bytes());
    let mut decoder = Decoder::default();
    decoder.push(&frame);
    assert_eq!(decoder.next_message(), Err(WireError::TooLong(STRANGER_BYTES_MAX + 1)), "of a stranger");
    decoder.trust();
    assert_eq!(decoder.next_message(), Ok(None));
    frame[..4].copy_from_slice(&(PAYLOAD_BYTES_MAX as u32 + 1).to_le_bytes());
    assert_eq!(read(&[&frame]).1, Some(WireError::TooLong(PAYLOAD_BYTES_MAX + 1)));
}

/// A peer of another version is told apart from garbage.
#[test]
fn another_protocol_is_named() {
    let (mut frames, _) = everything();
    frames[0][5] = PROTOCOL + 1;
    assert_eq!(read(&[&frames[0]]).1, Some(WireError::Protocol(PROTOCOL + 1)));
}

/// A command's effects end within their frame, and positions begin at 1 and have an end.
#[test]
fn items_that_cannot_be_are_refused() {
    let slot = Slot::new(0).unwrap();
    let open = Item::Effect { slot, before: Version::FIRST, epoch: 1, continues: true, record: b"" };
    for (first, items) in [
        (1, vec![open]),
        (1, vec![open, Item::Key { slot, record: b"" }]),
        (0, vec![Item::Skip { continues: false }]),
        (u64::MAX, vec![Item::Skip { continues: false }]),
    ] {
        let mut bytes = Vec::new();
        items.iter().for_each(|item| item.encode(&mut bytes));
        let mut frame = Vec::new();
        Message::Items(Items::new(first, &bytes)).encode(&mut frame);
        assert_eq!(read(&[&frame]), (vec![], Some(WireError::Malformed)), "{first} {items:?}");
    }
}

/// Every key is in one part, whatever the seed, and large slots are cut evenly.
#[test]
fn parts_are_even() {
    for seed in [0, 1, u64::MAX] {
        let mut counts = [0; 7];
        for key in 0..7000u32 {
            let parts =
                (0..7).filter(|&number| Part { number, count: 7, seed }.contains(format!("key:{key}").as_bytes()));
            let parts: Vec<u16> = parts.collect();
            assert_eq!(parts.len(), 1);
            counts[usize::from(parts[0])] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
