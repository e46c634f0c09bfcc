//! `COMMAND DOCS`: documentation that a row does not have. [`table`] lists it; clients such as redis-cli make hints of
//! it.

mod table;

use crate::{commands::Command, resp::Reply};
use table::TABLE;

/// The documentation of a command, besides its row.
pub(super) struct Doc {
    name: &'static str,
    complexity: &'static str,
    arguments: &'static [Argument],
    /// The versions of Redis in which the command changed, and the change.
    history: &'static [(&'static str, &'static str)],
    /// The version of Redis since which the command is deprecated, and its replacement.
    deprecated: Option<(&'static str, &'static str)>,
    /// True if the command is not meant for applications.
    is_internal: bool,
}

/// The type of an argument.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Key,
    String,
    Integer,
    Double,
    UnixTime,
    Pattern,
    /// A literal word.
    PureToken,
    /// One of the argument's parts.
    OneOf,
    /// All of the argument's parts.
    Block,
}

/// An argument, or several that belong together.
#[derive(Clone, Copy)]
struct Argument {
    name: &'static str,
    kind: Kind,
    /// The text that people see instead of the name; empty if that is the name.
    shown: &'static str,
    /// The index of the key specification that finds the argument, if it is a key.
    key_spec: Option<i64>,
    /// The literal word before the argument, or instead of it.
    token: Option<&'static str>,
    since: &'static str,
    deprecated_since: &'static str,
    is_optional: bool,
    is_multiple: bool,
    parts: &'static [Argument],
}

impl Argument {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            kind,
            shown: "",
            key_spec: None,
            token: None,
            since: "",
            deprecated_since: "",
            is_optional: false,
            is_multiple: false,
            parts: &[],
        }
    }

    const fn of(name: &'static str, kind: Kind, parts: &'static [Self]) -> Self {
        Self { parts, ..Self::new(name, kind) }
    }

    const fn shown(self, shown: &'static str) -> Self {
        Self { shown, ..self }
    }

    const fn token(self, token: &'static str) -> Self {
        Self { token: Some(token), ..self }
    }

    const fn since(self, since: &'static str) -> Self {
        Self { since, ..self }
    }

    const fn deprecated(self, deprecated_since: &'static str) -> Self {
        Self { deprecated_since, ..self }
    }

    const fn optional(self) -> Self {
        Self { is_optional: true, ..self }
    }

    const fn multiple(self) -> Self {
        Self { is_multiple: true, ..self }
    }

    /// Appends the argument in the form of Redis 7.2.
    fn write(&self, reply: &mut Reply<'_>) {
        let has_parts = !self.parts.is_empty();
        let texts = [("token", self.token.unwrap_or_default()), ("since", self.since)];
        let texts = texts.into_iter().chain([("deprecated_since", self.deprecated_since)]);
        let texts: Vec<_> = texts.filter(|(_, text)| !text.is_empty()).collect();
        let flags: Vec<_> = [(self.is_optional, "optional"), (self.is_multiple, "multiple")]
            .into_iter()
            .filter_map(|(is_set, name)| is_set.then_some(name))
            .collect();
        // The name, the type, and either the shown text or the parts.
        reply.map(3 + usize::from(self.key_spec.is_some()) + texts.len() + usize::from(!flags.is_empty()));
        field(reply, "name", self.name);
        field(reply, "type", self.kind.name());
        if !has_parts {
            field(reply, "display_text", if self.shown.is_empty() { self.name } else { self.shown });
        }
        if let Some(key_spec) = self.key_spec {
            reply.bulk(b"key_spec_index");
            reply.integer(key_spec);
        }
        texts.iter().for_each(|(name, text)| field(reply, name, text));
        if !flags.is_empty() {
            reply.bulk(b"flags");
            super::words(reply, &flags);
        }
        if has_parts {
            reply.bulk(b"arguments");
            write_all(self.parts, reply);
        }
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::UnixTime => "unix-time",
            Self::Pattern => "pattern",
            Self::PureToken => "pure-token",
            Self::OneOf => "oneof",
            Self::Block => "block",
        }
    }
}

fn write_all(arguments: &[Argument], reply: &mut Reply<'_>) {
    reply.array(arguments.len());
    arguments.iter().for_each(|argument| argument.write(reply));
}

fn field(reply: &mut Reply<'_>, name: &str, value: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(value.as_bytes());
}

/// Appends a row's name and its documentation, including that of its subcommands, in the form of Redis 7.2.
pub(super) fn document(reply: &mut Reply<'_>, row: &Command) {
    let doc = TABLE.iter().find(|doc| doc.name == row.name);
    let deprecated = doc.and_then(|doc| doc.deprecated);
    let flag = match doc {
        Some(Doc { is_internal: true, .. }) => Some("syscmd"),
        _ => deprecated.map(|_| "deprecated"),
    };
    let history = doc.map_or(&[][..], |doc| doc.history);
    let arguments = doc.map_or(&[][..], |doc| doc.arguments);
    let has = |is_there: bool| usize::from(is_there);
    reply.bulk(row.name.as_bytes());
    reply.map(
        3 + has(doc.is_some())
            + has(flag.is_some())
            + 2 * has(deprecated.is_some())
            + has(!history.is_empty())
            + has(!arguments.is_empty())
            + has(!row.subcommands.is_empty()),
    );
    field(reply, "summary", row.summary);
    field(reply, "since", row.since);
    field(reply, "group", row.group);
    if let Some(doc) = doc {
        field(reply, "complexity", doc.complexity);
    }
    if let Some(flag) = flag {
        reply.bulk(b"doc_flags");
        super::words(reply, &[flag]);
    }
    if let Some((since, by)) = deprecated {
        field(reply, "deprecated_since", since);
        field(reply, "replaced_by", by);
    }
    if !history.is_empty() {
        reply.bulk(b"history");
        reply.set(history.len());
        for (version, change) in history {
            reply.array(2);
            reply.bulk(version.as_bytes());
            reply.bulk(change.as_bytes());
        }
    }
    if !arguments.is_empty() {
        reply.bulk(b"arguments");
        write_all(arguments, reply);
    }
    if !row.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(super::listed(row.subcommands).count());
        super::listed(row.subcommands).for_each(|row| document(reply, row));
    }
}

#[cfg(test)]
mod tests;
