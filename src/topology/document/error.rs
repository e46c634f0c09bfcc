//! Errors in a document.

use std::fmt;

use super::{COPIES_MAX, CopyId, CoreId, DOCUMENT_VERSION, Incarnation, Revision, SlotRange};
use crate::topology::{Epoch, TopologyError};

/// Why a document is refused. Each says what is wrong where, and the way out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DocumentError {
    /// The servers are not those of a topology, or slots are without a primary.
    Topology(TopologyError),
    /// The text is not TOML, or not what a document holds. The message has line and column.
    Syntax {
        /// The message of the TOML parser.
        message: String,
    },
    /// The text is another version's. Use that version of trine.
    Version {
        /// The text's version, if it has one.
        found: Option<i64>,
    },
    /// The revision is 0. Revisions begin with 1.
    NoRevision,
    /// The number of copies is 0, or too large.
    BadCopies {
        /// The number.
        copies: u16,
    },
    /// A server's weight is 0. To empty a server, say that it is leaving.
    NoWeight {
        /// The server.
        name: String,
    },
    /// A server lists an incarnation twice. Take it out once.
    IncarnationTwice {
        /// The server.
        name: String,
        /// The incarnation.
        twice: Incarnation,
    },
    /// An incarnation is not 16 hexadecimal digits.
    BadIncarnation {
        /// The server.
        name: String,
        /// The text as it stands.
        text: String,
    },
    /// A range of slots cannot be read. Write `0-5460` or `77`.
    BadRange {
        /// The text as it stands.
        text: String,
    },
    /// A copy cannot be read. Write `one/0` or `one/0@5f3a09c15f3a09c1`.
    BadCopy {
        /// The slots.
        slots: SlotRange,
        /// The text as it stands.
        text: String,
    },
    /// A slot is in two ranges. Take it from one.
    SlotTwice {
        /// The slot.
        slot: u16,
    },
    /// A range's epoch is above the document's revision. It is the revision at which the primary was named.
    EpochAbove {
        /// The slots.
        slots: SlotRange,
        /// The epoch.
        epoch: Epoch,
        /// The document's revision.
        revision: Revision,
    },
    /// A range has too many copies in one role.
    TooManyCopies {
        /// The slots.
        slots: SlotRange,
    },
    /// A copy names a server that is not in the document.
    NoSuchServer {
        /// The slots.
        slots: SlotRange,
        /// The core that is named.
        core: CoreId,
        /// The servers there are.
        names: Vec<String>,
    },
    /// A copy names a core that its server does not have.
    NoSuchCore {
        /// The slots.
        slots: SlotRange,
        /// The core that is named.
        core: CoreId,
        /// The number of cores of its server.
        cores: u16,
    },
    /// A copy names an incarnation that its server never had.
    NoSuchIncarnation {
        /// The slots.
        slots: SlotRange,
        /// The copy.
        copy: CopyId,
    },
    /// A core has two copies of a slot.
    CopyTwice {
        /// The slots.
        slots: SlotRange,
        /// The core.
        core: CoreId,
    },
    /// A server has three copies of a slot.
    ThreeOnOneServer {
        /// The slots.
        slots: SlotRange,
        /// The server.
        name: String,
    },
}

impl std::error::Error for DocumentError {}

impl From<TopologyError> for DocumentError {
    fn from(error: TopologyError) -> Self {
        Self::Topology(error)
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topology(error) => error.fmt(out),
            Self::Syntax { message } => write!(out, "not a topology document: {}", message.trim_end()),
            Self::Version { found: Some(found) } => {
                write!(out, "version {found} of the topology document is not the version known here, ")?;
                write!(out, "{DOCUMENT_VERSION}: use the version of trine that wrote it")
            }
            Self::Version { found: None } => {
                write!(out, "the topology document does not say its version: begin it with ")?;
                write!(out, "`version = {DOCUMENT_VERSION}`")
            }
            Self::NoRevision => write!(out, "revision 0: revisions begin with 1"),
            Self::BadCopies { copies } => {
                write!(out, "copies = {copies}: ask for at least 1 and at most {COPIES_MAX} copies of each slot")
            }
            Self::NoWeight { name } => {
                write!(out, "server {name:?} has weight 0: give it at least 1, or state = \"leaving\" to empty it")
            }
            Self::IncarnationTwice { name, twice } => {
                write!(out, "server {name:?} lists incarnation {twice} twice: take it out once")
            }
            Self::BadIncarnation { name, text } => {
                write!(out, "server {name:?}: {text:?} is not an incarnation: write 16 hexadecimal digits")
            }
            Self::BadRange { text } => {
                write!(out, "{text:?} is not a range of slots: write \"0-5460\" or \"77\", below 16384")
            }
            Self::BadCopy { slots, text } => {
                write!(
                    out,
                    "slots {slots}: {text:?} is not a copy: write \"one/0\", a server's name and the number of "
                )?;
                write!(out, "a core, and \"one/0@5f3a09c15f3a09c1\" for one of an earlier incarnation")
            }
            Self::SlotTwice { slot } => write!(out, "slot {slot} is in two ranges: take it from one of them"),
            Self::EpochAbove { slots, epoch, revision } => {
                write!(out, "slots {slots}: epoch {} is above revision {revision}: an epoch is ", epoch.number())?;
                write!(out, "the revision at which the primary was named; raise the revision or lower the epoch")
            }
            Self::TooManyCopies { slots } => {
                write!(out, "slots {slots}: more than {COPIES_MAX} backups, or as many joining copies: take some out")
            }
            Self::NoSuchServer { slots, core, names } => {
                write!(
                    out,
                    "slots {slots}: {core} is on a server that is not in the document, which has {}: ",
                    names.join(", ")
                )?;
                write!(out, "name one of those, or add the server")
            }
            Self::NoSuchCore { slots, core, cores } => {
                write!(out, "slots {slots}: there is no core {core}: server {:?} has {cores}, ", core.server)?;
                write!(out, "numbered from 0; name one of those")
            }
            Self::NoSuchIncarnation { slots, copy } => {
                write!(
                    out,
                    "slots {slots}: {copy} names an incarnation that server {:?} never had: ",
                    copy.core.server
                )?;
                write!(out, "take the copy out, or list the incarnation as `former`")
            }
            Self::CopyTwice { slots, core } => {
                write!(out, "slots {slots}: {core} has two copies of them: let it have one, as primary, backup or ")?;
                write!(out, "joining copy")
            }
            Self::ThreeOnOneServer { slots, name } => {
                write!(out, "slots {slots}: server {name:?} has three copies of them: copies protect on different ")?;
                write!(out, "servers, and two on one are only for moving between its cores; take one out")
            }
        }
    }
}
