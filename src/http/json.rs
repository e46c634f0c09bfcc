//! The body of `PUT /store`: one JSON object of keys and values, both of them texts.

use super::{Limits, Refusal};
use crate::resp::Words;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use std::fmt;

/// Appends the object's keys and values to a request, in turn. Returns how many keys there are. Of a key that stands there
/// twice the last value comes last.
///
/// # Errors
/// [`Refusal`] where the text is anything else, or beyond the limits.
pub fn read(text: &[u8], limits: &Limits, words: &mut Words) -> Result<usize, Refusal> {
    let mut reader = Reader { limits, words, count: 0, too_large: None };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let outcome = deserializer.deserialize_map(&mut reader).and_then(|()| deserializer.end());
    match (outcome, reader.too_large, reader.count) {
        (_, Some(refusal), _) => Err(refusal),
        (Err(error), None, _) => Err(Refusal::new(400, broken(&error))),
        (Ok(()), None, 0) => Err(Refusal::new(400, "the object has no keys")),
        (Ok(()), None, count) => Ok(count),
    }
}

/// Says what is wrong; of what it quotes, only the beginning.
fn broken(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let shortened = if end < text.len() { "…" } else { "" };
    format!("the body is no JSON object of texts: {}{shortened}", &text[..end])
}

/// A reason quotes what it found, which may be as long as the body.
const REASON_BYTES_MAX: usize = 300;

struct Reader<'a> {
    limits: &'a Limits,
    words: &'a mut Words,
    count: usize,
    too_large: Option<Refusal>,
}

impl<'de> Visitor<'de> for &mut Reader<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object of keys and texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (key_max, value_max) = (self.limits.key_bytes_max, self.limits.value_bytes_max);
        while map.next_key_seed(Text { reader: self, what: "a key", max: key_max, min: 1 })?.is_some() {
            map.next_value_seed(Text { reader: self, what: "a value", max: value_max, min: 0 })?;
            self.count += 1;
            if self.limits.words_max < 1 + 2 * self.count {
                let most = (self.limits.words_max - 1) / 2;
                self.too_large = Some(Refusal::new(413, format!("there are more than {most} keys")));
                return Err(A::Error::custom("too many keys"));
            }
        }
        Ok(())
    }
}

/// One text, which becomes the next word.
struct Text<'r, 'a> {
    reader: &'r mut Reader<'a>,
    what: &'static str,
    max: usize,
    min: usize,
}

impl<'de> DeserializeSeed<'de> for Text<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a text in double quotes as {}", self.what)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if self.max < text.len() {
            self.reader.too_large = Some(Refusal::new(413, format!("{} is longer than {} bytes", self.what, self.max)));
            return Err(E::custom("too long"));
        }
        if text.len() < self.min {
            return Err(E::custom("a key is empty"));
        }
        self.reader.words.push(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        key_bytes_max: 4,
        value_bytes_max: 6,
        words_max: 7,
        request_bytes_max: 1000,
        target_bytes_max: 100,
        head_bytes_max: 100,
    };

    fn words(text: &[u8]) -> Result<Vec<String>, (u16, String)> {
        let mut words = Words::default();
        words.begin(b"MSET");
        let count = read(text, &LIMITS, &mut words).map_err(|refusal| (refusal.status, refusal.reason.into_owned()))?;
        let words: Vec<_> =
            words.request().args_from(1).map(|word| String::from_utf8(word.to_vec()).unwrap()).collect();
        assert_eq!(words.len(), 2 * count);
        Ok(words)
    }

    #[test]
    fn an_object_becomes_keys_and_values() {
        for (text, expected) in [
            (r#"{"a":"1"}"#, &["a", "1"][..]),
            (r#" { "a" : "" , "é" : "\u00e9\n\"" } "#, &["a", "", "é", "é\n\""]),
            (r#"{"a":"1","a":"2"}"#, &["a", "1", "a", "2"]),
        ] {
            assert_eq!(words(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }

    /// A value that is no text is refused with the reason: 1 and "1" and 1.0 would be the same afterwards.
    #[test]
    fn anything_else_is_refused_with_the_reason() {
        for (text, status, reason) in [
            (r#"{"a":1}"#, 400, "a text in double quotes as a value"),
            (r#"{"a":1.5}"#, 400, "floating point"),
            (r#"{"a":true}"#, 400, "boolean"),
            (r#"{"a":null}"#, 400, "null"),
            (r#"{"a":["1"]}"#, 400, "sequence"),
            (r#"{"a":{"b":"c"}}"#, 400, "map"),
            (r#"["a","1"]"#, 400, "an object of keys and texts"),
            (r#""a""#, 400, "an object of keys and texts"),
            ("", 400, "EOF"),
            ("{", 400, "EOF"),
            (r#"{"a":"1"} x"#, 400, "trailing"),
            (r#"{"":"1"}"#, 400, "a key is empty"),
            ("{}", 400, "no keys"),
            (r#"{"abcde":"1"}"#, 413, "a key is longer than 4 bytes"),
            (r#"{"a":"1234567"}"#, 413, "a value is longer than 6 bytes"),
            (r#"{"a":"1","b":"1","c":"1","d":"1"}"#, 413, "more than 3 keys"),
        ] {
            let (found, text_found) = words(text.as_bytes()).expect_err("it is refused");
            assert!(found == status && text_found.contains(reason), "{text}: {found} {text_found}");
        }
        let long = format!("\"{}\"", "é".repeat(10_000));
        assert!(words(long.as_bytes()).expect_err("no object").1.len() < 400);
        assert_eq!(words(b"{\"a\":\"\xff\"}").expect_err("no UTF-8").0, 400);
    }

    proptest! {
        /// Nothing that anybody sends is a panic, deep nesting included.
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[{}\"a:,1.e-]{0,30}", depth in 0..2000_usize) {
            let _ = words(text.as_bytes());
            let _ = words(["{\"a\":", &"[".repeat(depth), &text].concat().as_bytes());
        }
    }
}
