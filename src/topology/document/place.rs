//! Places of errors in a document's text.

use serde::Deserialize;
use toml::Spanned;

use super::DocumentError;
use crate::topology::TopologyError;

/// The parts of a document's text that errors name, with their places. Reads less strictly than a document is read.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    server: Vec<Spanned<Named>>,
    #[serde(default)]
    range: Vec<Spanned<Ranged>>,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Ranged {
    slots: Option<String>,
}

/// The thing that an error is about.
enum Subject {
    /// A line with this key at the top of the document.
    Key(&'static str),
    /// The server of this name, and a word of its lines that is wrong, if one is.
    Server(String, Option<String>),
    /// The ranges that have this slot, the last of them; and a word of its lines that is wrong.
    Slot(u16, Option<String>),
    /// Any line with this text.
    Text(String),
}

impl DocumentError {
    /// Returns the number of the line of a document's text that the error is about, from 1. `None` if no line is, or if the
    /// error's own text has it.
    pub fn line_in(&self, text: &str) -> Option<usize> {
        let line_at = |offset: usize| text.get(..offset).map(|before| before.matches('\n').count() + 1);
        let parts = || toml::from_str::<Parts>(text).ok();
        let within = |start: usize, end: usize, word: Option<&String>| {
            let part = text.get(start..end)?;
            let offset = word.and_then(|word| part.find(&format!("\"{word}"))).unwrap_or(0);
            line_at(start + offset)
        };
        // The place of a table is its header; its lines go on to the next header.
        let end_of = |start: usize| {
            let next = text.get(start + 1..).and_then(|rest| rest.find("\n[["));
            next.map_or(text.len(), |next| start + 1 + next)
        };
        match self.subject()? {
            Subject::Key(key) => {
                let is_it = |line: &str| line.split_once('=').is_some_and(|(found, _)| found.trim() == key);
                text.lines().position(is_it).map(|before| before + 1)
            }
            Subject::Text(word) => text.find(&word).and_then(line_at),
            Subject::Server(name, word) => {
                let parts = parts()?;
                let is_it = |server: &&Spanned<Named>| server.get_ref().name.as_ref() == Some(&name);
                let start = parts.server.iter().rfind(is_it)?.span().start;
                within(start, end_of(start), word.as_ref())
            }
            Subject::Slot(slot, word) => {
                let parts = parts()?;
                let is_it = |range: &&Spanned<Ranged>| {
                    let slots = range.get_ref().slots.as_deref().and_then(super::SlotRange::parse);
                    slots.is_some_and(|slots| slots.contains(slot))
                };
                let start = parts.range.iter().rfind(is_it)?.span().start;
                within(start, end_of(start), word.as_ref())
            }
        }
    }

    fn subject(&self) -> Option<Subject> {
        let server = |name: &String| Some(Subject::Server(name.clone(), None));
        match self {
            Self::Topology(error) => topology_subject(error),
            // Its text has the line.
            Self::Syntax { .. } => None,
            Self::Version { .. } => Some(Subject::Key("version")),
            Self::NoRevision => Some(Subject::Key("revision")),
            Self::BadCopies { .. } => Some(Subject::Key("copies")),
            Self::NoWeight { name } => server(name),
            Self::IncarnationTwice { name, twice } => Some(Subject::Server(name.clone(), Some(twice.to_string()))),
            Self::BadIncarnation { name, text } => Some(Subject::Server(name.clone(), Some(text.clone()))),
            Self::BadRange { text } => Some(Subject::Text(format!("slots = {text:?}"))),
            Self::BadCopy { slots, text } => Some(Subject::Slot(slots.first(), Some(text.clone()))),
            Self::SlotTwice { slot } => Some(Subject::Slot(*slot, None)),
            Self::EpochAbove { slots, .. } | Self::TooManyCopies { slots } => Some(Subject::Slot(slots.first(), None)),
            Self::NoSuchServer { slots, core, .. }
            | Self::NoSuchCore { slots, core, .. }
            | Self::CopyTwice { slots, core } => Some(Subject::Slot(slots.first(), Some(core.to_string()))),
            Self::NoSuchIncarnation { slots, copy } => Some(Subject::Slot(slots.first(), Some(copy.to_string()))),
            Self::ThreeOnOneServer { slots, name } => Some(Subject::Slot(slots.first(), Some(format!("{name}/")))),
        }
    }
}

fn topology_subject(error: &TopologyError) -> Option<Subject> {
    match error {
        TopologyError::BadName { name }
        | TopologyError::NameTwice { name }
        | TopologyError::BadHost { name, .. }
        | TopologyError::NoCores { name }
        | TopologyError::BadPorts { name, .. }
        | TopologyError::BadRange { name, .. }
        | TopologyError::PortTwice { other: name, .. } => Some(Subject::Server(name.clone(), None)),
        // The range in front of the gap is where one would look.
        TopologyError::SlotsUnowned { first, .. } => first.checked_sub(1).map(|slot| Subject::Slot(slot, None)),
        TopologyError::SlotTwice { slot, .. } => Some(Subject::Slot(*slot, None)),
        TopologyError::Syntax { .. }
        | TopologyError::Version { .. }
        | TopologyError::NoServers
        | TopologyError::TooManyCores { .. }
        | TopologyError::NoSuchServer { .. } => None,
    }
}
