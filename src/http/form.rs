//! Forms, as browsers and old clients send them: `application/x-www-form-urlencoded` and `multipart/form-data`.
//!
//! The crates for these make texts of what is bytes here, or need a runtime; both are a page.

use super::Refusal;
use memchr::memmem;

/// The most header fields of a part.
const PART_FIELDS_MAX: usize = 8;

/// Appends what a text stands for whose bytes may be written as `%XX`, and a space as `+` where `plus_is_space`.
///
/// # Errors
/// [`Refusal`] where a percent sign is not followed by two digits.
#[inline]
pub fn decode(text: &[u8], plus_is_space: bool, output: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%' || (plus_is_space && byte == b'+')) {
        output.extend_from_slice(&rest[..at]);
        if rest[at] == b'+' {
            output.push(b' ');
            rest = &rest[at + 1..];
            continue;
        }
        let digit = |at: usize| rest.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else {
            return Err(Refusal::new(400, "a percent sign is not followed by two hexadecimal digits: write it as %25"));
        };
        output.push((high * 16 + low) as u8);
        rest = &rest[at + 3..];
    }
    output.extend_from_slice(rest);
    Ok(())
}

/// Finds a field's value in a form or a query, still encoded.
///
/// # Errors
/// [`Refusal`] where there is no such field, or more than one.
pub fn field<'a>(form: &'a [u8], name: &'static str) -> Result<&'a [u8], Refusal> {
    let mut found = None;
    for pair in form.split(|&byte| byte == b'&') {
        let (key, value) = memchr::memchr(b'=', pair).map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
        if is_name(key, name) && found.replace(value).is_some() {
            return Err(twice(name));
        }
    }
    found.ok_or_else(|| missing(name))
}

/// Returns true if a field's name, in the form's encoding, stands for this one.
fn is_name(written: &[u8], name: &str) -> bool {
    if memchr::memchr2(b'%', b'+', written).is_none() || 3 * name.len() < written.len() {
        return written == name.as_bytes();
    }
    let mut decoded = Vec::new();
    decode(written, true, &mut decoded).is_ok() && decoded == name.as_bytes()
}

fn missing(name: &str) -> Refusal {
    Refusal::new(400, format!("there is no field '{name}'"))
}

fn twice(name: &str) -> Refusal {
    Refusal::new(400, format!("there is more than one field '{name}'"))
}

/// Finds a field's value in a form that is sent in parts. `parameters` are those of its type, the boundary among them.
///
/// # Errors
/// [`Refusal`] where this is no such form, or has not exactly one such field.
pub fn part<'a>(body: &'a [u8], parameters: &[u8], name: &'static str) -> Result<&'a [u8], Refusal> {
    let boundary = parameter(parameters, "boundary").filter(|boundary| (1..=70).contains(&boundary.len()));
    let Some(boundary) = boundary else {
        return Err(Refusal::new(400, "multipart/form-data has a boundary of 1 to 70 characters"));
    };
    let broken = || Refusal::new(400, "the parts of the form can't be told apart");
    let delimiter = [b"\r\n--", &boundary[..]].concat();
    let finder = memmem::Finder::new(&delimiter);
    // The first delimiter has no line before it, or a preamble that nobody reads.
    let mut rest = match body.strip_prefix(&delimiter[2..]) {
        Some(rest) => rest,
        None => &body[finder.find(body).ok_or_else(broken)? + delimiter.len()..],
    };
    let mut found = None;
    while !rest.starts_with(b"--") {
        let line_end = memmem::find(rest, b"\r\n").ok_or_else(broken)?;
        if !rest[..line_end].trim_ascii().is_empty() {
            return Err(broken());
        }
        let part = &rest[line_end + 2..];
        let mut fields = [httparse::EMPTY_HEADER; PART_FIELDS_MAX];
        let parsed = httparse::parse_headers(part, &mut fields).map_err(|_| broken())?;
        let httparse::Status::Complete((start, fields)) = parsed else { return Err(broken()) };
        // A part may be empty: then the delimiter's line end is the one that ends the fields.
        let from = start.saturating_sub(2);
        let end = from + finder.find(&part[from..]).ok_or_else(broken)?;
        let value = part.get(start..end).unwrap_or_default();
        let disposition = fields.iter().find(|field| field.name.eq_ignore_ascii_case("content-disposition"));
        let is_meant =
            disposition.and_then(|field| parameter(field.value, "name")).is_some_and(|n| n == name.as_bytes());
        if is_meant && found.replace(value).is_some() {
            return Err(twice(name));
        }
        rest = &part[end + delimiter.len()..];
    }
    found.ok_or_else(|| missing(name))
}

/// Finds a parameter among those of a header's value: `form-data; name="value"`.
fn parameter(text: &[u8], wanted: &str) -> Option<Vec<u8>> {
    let mut rest = &text[memchr::memchr(b';', text)? + 1..];
    loop {
        let (name, behind) = rest.split_at(memchr::memchr(b'=', rest)?);
        let (value, end) = parameter_value(&behind[1..]);
        if name.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()) {
            return Some(value);
        }
        rest = behind[1 + end..].trim_ascii_start().strip_prefix(b";")?;
    }
}

/// A parameter's value, without its quotes, and where it ends.
fn parameter_value(text: &[u8]) -> (Vec<u8>, usize) {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = memchr::memchr(b';', text).unwrap_or(text.len());
        return (text[..end].trim_ascii().to_vec(), end);
    };
    let (mut value, mut at) = (Vec::new(), 0);
    while let Some(&byte) = quoted.get(at).filter(|&&byte| byte != b'"') {
        at += 1;
        match quoted.get(at) {
            Some(&escaped) if byte == b'\\' => {
                value.push(escaped);
                at += 1;
            }
            _ => value.push(byte),
        }
    }
    (value, (at + 2).min(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(text: &str, plus_is_space: bool) -> Result<Vec<u8>, u16> {
        let mut output = Vec::new();
        decode(text.as_bytes(), plus_is_space, &mut output).map(|()| output).map_err(|refusal| refusal.status)
    }

    #[test]
    fn escapes_stand_for_bytes() {
        for (text, plain, form) in [
            ("", &b""[..], &b""[..]),
            ("a+b", b"a+b", b"a b"),
            ("%00%ff%2B", b"\0\xff+", b"\0\xff+"),
            ("caf%C3%a9", "café".as_bytes(), "café".as_bytes()),
        ] {
            assert_eq!((decoded(text, false), decoded(text, true)), (Ok(plain.to_vec()), Ok(form.to_vec())), "{text}");
        }
        for text in ["%", "%1", "a%zz", "%+1", "100%"] {
            assert_eq!(decoded(text, true), Err(400), "{text}");
        }
    }

    #[test]
    fn a_field_stands_there_once() {
        for (form, expected) in [
            ("value=", Ok("")),
            ("value", Ok("")),
            ("x=1&value=a+b=c&y=", Ok("a+b=c")),
            ("v%61lue=1", Ok("1")),
            ("", Err("there is no field 'value'")),
            ("valu=1&values=2&Value=3", Err("there is no field 'value'")),
            ("value=1&value=1", Err("there is more than one field 'value'")),
        ] {
            let found = field(form.as_bytes(), "value").map_err(|refusal| refusal.reason.into_owned());
            assert_eq!(found, expected.map(str::as_bytes).map_err(str::to_owned), "{form}");
        }
    }

    #[test]
    fn a_form_may_come_in_parts() {
        let form = |parts: &[(&str, &str)]| {
            let part = |(fields, value): &(&str, &str)| format!("--b\r\n{fields}\r\n\r\n{value}\r\n");
            parts.iter().map(part).collect::<String>() + "--b--\r\n"
        };
        let value = "Content-Disposition: form-data; name=\"value\"";
        let file = "content-disposition: form-data; filename=\"a;name=b\"; name=value\r\nContent-Type: text/plain";
        let other = "Content-Disposition: form-data; name=\"other\"";
        for (body, expected) in [
            (form(&[(value, "v")]), Ok("v")),
            (form(&[(value, "")]), Ok("")),
            (form(&[(other, "x"), (file, "a\r\n--c\r\n")]), Ok("a\r\n--c\r\n")),
            (format!("preamble\r\n{}epilogue", form(&[(value, "v")])), Ok("v")),
            (form(&[(other, "x")]), Err(400)),
            (form(&[(value, "x"), (value, "x")]), Err(400)),
            ("--b\r\nContent-Disposition: form-data; name=\"value\"\r\n\r\nv".into(), Err(400)),
            ("--b--".into(), Err(400)),
            ("".into(), Err(400)),
        ] {
            let found =
                part(body.as_bytes(), b"; charset=x; boundary=\"b\"", "value").map_err(|refusal| refusal.status);
            assert_eq!(found, expected.map(str::as_bytes), "{body:?}");
        }
        for parameters in ["", "; boundary=", "; boundary=\"\"", "; charset=b"] {
            assert!(part(b"--b--", parameters.as_bytes(), "value").is_err(), "{parameters}");
        }
    }

    proptest! {
        /// Nothing that anybody sends is a panic.
        #[test]
        fn any_form_is_read_or_refused(body in "(--b|\r\n|name=value|Content-Disposition: x; |\"|[a-z%+&=:;-]){0,20}", parameters in "(; |boundary|=|b|\"|\\\\){0,8}") {
            let _ = part(body.as_bytes(), parameters.as_bytes(), "value");
            let _ = part(body.as_bytes(), b";boundary=b", "value");
            let _ = field(body.as_bytes(), "value").map(|value| decode(value, true, &mut Vec::new()));
        }

        /// A field that a client encodes is read as it was.
        #[test]
        fn what_was_encoded_is_decoded(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = percent_encoding::percent_encode(&bytes, percent_encoding::NON_ALPHANUMERIC).to_string();
            prop_assert_eq!(decoded(&text, true), Ok(bytes.clone()));
            prop_assert_eq!(decoded(&text, false), Ok(bytes));
        }
    }
}
