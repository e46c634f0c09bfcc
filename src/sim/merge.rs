//! The reply to a request that several cores have executed, made of what each has answered.

use super::conversation::Part;

/// The keys of a request.
pub(super) fn keys(words: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    let (skip, step, max) = match &words[0][..] {
        b"MSET" => (1, 2, usize::MAX),
        b"MGET" | b"DEL" | b"RENAME" => (1, 1, usize::MAX),
        b"PING" | b"FLUSHALL" | b"MULTI" | b"EXEC" | b"BGSAVE" | b"KEYS" => (1, 1, 0),
        _ => (1, 1, 1),
    };
    words.iter().skip(skip).step_by(step).take(max).map(Vec::as_slice)
}

/// Returns the bytes of the reply that stands first; `None` where it is not whole.
pub(super) fn reply_bytes(bytes: &[u8]) -> Option<usize> {
    let line = memchr::memchr(b'\n', bytes)? + 1;
    let number = || str::from_utf8(&bytes[1..line - 2]).ok()?.parse::<i64>().ok();
    let end = match bytes.first()? {
        b'$' => line + usize::try_from(number()?).map_or(0, |length| length + 2),
        b'*' => {
            let mut end = line;
            for _ in 0..number()?.max(0) {
                end += reply_bytes(bytes.get(end..)?)?;
            }
            end
        }
        _ => line,
    };
    (end <= bytes.len()).then_some(end)
}

/// Returns the reply that these parts make; `None` where it may be any.
pub(super) fn expected(words: &[Vec<u8>], parts: &[Part]) -> Option<Vec<u8>> {
    let replies = || parts.iter().map(|part| part.told.reply.as_slice());
    if let Some(error) = replies().find(|reply| reply.starts_with(b"-")) {
        // Which of several is told does not matter.
        return (replies().filter(|reply| reply.starts_with(b"-")).count() == 1).then(|| error.to_vec());
    }
    let ok = || b"+OK\r\n".to_vec();
    match &words[0][..] {
        b"WATCH" | b"MSET" | b"FLUSHALL" => Some(ok()),
        b"BGSAVE" => None,
        b"DEL" if 1 < parts.len() => {
            let sum = replies().filter_map(|reply| str::from_utf8(reply).ok()?[1..].trim_end().parse::<i64>().ok());
            Some(format!(":{}\r\n", sum.sum::<i64>()).into_bytes())
        }
        b"KEYS" => {
            let found = replies().filter(|reply| *reply != b"*0\r\n").collect::<Vec<_>>();
            assert!(found.len() <= 1, "one core has a key");
            Some(found.first().map_or_else(|| b"*0\r\n".to_vec(), |reply| reply.to_vec()))
        }
        b"MGET" if 1 < parts.len() => Some(elements(words, parts)),
        _ => {
            assert_eq!(parts.len(), 1, "one core executes {}", words[0].escape_ascii());
            Some(parts[0].told.reply.clone())
        }
    }
}

/// The values of an MGET, each from the part that has its key.
fn elements(words: &[Vec<u8>], parts: &[Part]) -> Vec<u8> {
    let mut values: Vec<(&[u8], &[u8])> = Vec::new();
    for part in parts {
        let mut rest = &part.told.reply[..];
        rest = &rest[memchr::memchr(b'\n', rest).map_or(0, |at| at + 1)..];
        for key in &part.words[1..] {
            let (value, others) = rest.split_at(reply_bytes(rest).expect("a value a key"));
            values.push((key, value));
            rest = others;
        }
    }
    let mut reply = format!("*{}\r\n", words.len() - 1).into_bytes();
    for key in &words[1..] {
        let found = values.iter().position(|(other, _)| other == key).expect("every key is some part's");
        reply.extend_from_slice(values.remove(found).1);
    }
    reply
}
