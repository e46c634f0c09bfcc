//! Merges the cores' ranked lists: `[[name, {field: number, …}], …]` (`CLUSTER SLOT-STATS`, `HOTKEYS`).

use super::{bulk, head, length};
use crate::{
    commands::{cluster::SlotQuery, hot_keys},
    resp::{Request, parse_i64},
};

/// The order of the elements of all cores, and their number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rank {
    by: By,
    ascending: bool,
    limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    /// The number that an element begins with.
    Name,
    /// The field of this name.
    Field(&'static str),
}

impl Rank {
    /// Returns the order that a request asks for. If the request is wrong, each core returns the error itself.
    pub(super) fn of(request: Request<'_>) -> Self {
        if request.arg(0).eq_ignore_ascii_case(b"HOTKEYS") {
            let count = request.get(2).and_then(parse_i64).and_then(|count| usize::try_from(count).ok());
            let limit = count.unwrap_or(hot_keys::SHOWN);
            return Self { by: By::Field(hot_keys::RANKED_BY), ascending: false, limit };
        }
        match SlotQuery::read(request) {
            Ok(SlotQuery::Ordered { by, ascending, limit }) => Self { by: By::Field(by), ascending, limit },
            _ => Self { by: By::Name, ascending: true, limit: usize::MAX },
        }
    }

    /// Returns one array with the first elements of all replies.
    pub(super) fn first_of(self, replies: &[Vec<u8>]) -> Vec<u8> {
        let mut elements: Vec<(f64, i64, &[u8])> = Vec::new();
        for reply in replies {
            let (count, mut at) = head(reply);
            for _ in 0..count {
                let element = &reply[at..at + length(&reply[at..])];
                at += element.len();
                elements.push((self.number(element), name(element), element));
            }
        }
        let turn = if self.ascending { 1.0 } else { -1.0 };
        // Elements with the same number are in the order of their names, as on a core.
        elements.sort_by(|left, right| (turn * left.0).total_cmp(&(turn * right.0)).then(left.1.cmp(&right.1)));
        elements.truncate(self.limit);
        let mut joined = format!("*{}\r\n", elements.len()).into_bytes();
        elements.iter().for_each(|(_, _, element)| joined.extend_from_slice(element));
        joined
    }

    /// Returns the number that an element is ranked by.
    fn number(self, element: &[u8]) -> f64 {
        let By::Field(field) = self.by else { return name(element) as f64 };
        let map = &element[name_end(element)..];
        let (_, mut at) = head(map);
        while at < map.len() {
            let name = &map[at..at + length(&map[at..])];
            let value = &map[at + name.len()..];
            let value = &value[..length(value)];
            if bulk(name).1 == field.as_bytes() {
                let text = if value[0] == b':' { &value[1..value.len() - 2] } else { bulk(value).1 };
                return std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0);
            }
            at += name.len() + value.len();
        }
        0.0
    }
}

/// Returns the offset of the end of an element's name, which is the first of its two parts.
fn name_end(element: &[u8]) -> usize {
    let start = head(element).1;
    start + length(&element[start..])
}

/// Returns an element's name as a number; 0 if it is a text.
fn name(element: &[u8]) -> i64 {
    let name = &element[head(element).1..];
    if name[0] == b':' { head(name).0 } else { 0 }
}
