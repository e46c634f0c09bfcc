//! The text of a document: version 2 of the topology file, TOML that people can read.
//!
//! ```toml
//! version = 2
//! revision = 17
//! copies = 2
//!
//! [[server]]
//! name = "one"
//! host = "10.0.0.1"
//! port = 7000                            # the gateway
//! core-port = 7001                       # core 0; core 1 has the next, and so on
//! cores = 2
//! incarnation = "5f3a09c15f3a09c1"       # left out: never started
//! former = ["0c7be1a2f0d94e11"]          # earlier ones that copies still name
//! state = "serving"                      # or "leaving"
//! weight = 100
//!
//! [[range]]
//! slots = "0-2730"
//! primary = "one/0"                      # a copy of the server's present incarnation
//! backups = ["two/1@0c7be1a2f0d94e11"]   # ... and of an earlier one: it is lost
//! joining = ["three/0"]
//! epoch = 3
//! handed-over = true
//! ```

use serde::{Deserialize, Serialize};

use super::{
    Copies, CopyId, CoreId, Document, DocumentError, Incarnation, Loss, Member, Range, Revision, ServerState, SlotRange,
};
use crate::{
    slot::SLOT_COUNT,
    topology::{Epoch, Server, Topology, TopologyError},
};

/// The version of the text of a document. Version 1 is the file of a fixed topology ([`Topology::from_toml`]).
pub const DOCUMENT_VERSION: i64 = 2;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: i64,
    revision: u64,
    copies: u16,
    #[serde(default)]
    server: Vec<FileServer>,
    #[serde(default)]
    range: Vec<FileRange>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    loss: Vec<FileLoss>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileServer {
    name: String,
    host: String,
    port: u16,
    /// The port after the gateway's, if left out.
    core_port: Option<u16>,
    cores: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    incarnation: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<String>,
    #[serde(default)]
    state: FileState,
    #[serde(default = "usual_weight")]
    weight: u16,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum FileState {
    #[default]
    Serving,
    Leaving,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileRange {
    slots: String,
    primary: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    backups: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    joining: Vec<String>,
    epoch: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    handed_over: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct FileLoss {
    revision: u64,
    slots: String,
    copies: Vec<String>,
}

/// The part of a document's text that a store needs.
#[derive(Deserialize)]
struct Head {
    version: Option<i64>,
    revision: Option<u64>,
}

fn usual_weight() -> u16 {
    Member::WEIGHT
}

impl Document {
    /// Returns the document's text. [`Document::from_toml`] reads it back as an equal document.
    pub fn to_toml(&self) -> String {
        let copies = |copies: &[CopyId]| copies.iter().map(|copy| self.written(copy)).collect();
        let server = |member: &Member| FileServer {
            name: member.server.name.clone(),
            host: member.server.host.clone(),
            port: member.server.port,
            core_port: Some(member.server.core_port),
            cores: member.server.cores,
            incarnation: member.incarnation.map(|incarnation| incarnation.to_string()),
            former: member.former.iter().map(ToString::to_string).collect(),
            state: match member.state {
                ServerState::Serving => FileState::Serving,
                ServerState::Leaving => FileState::Leaving,
            },
            weight: member.weight,
        };
        let range = |range: &Range| FileRange {
            slots: range.slots.to_string(),
            primary: self.written(&range.copies.primary),
            backups: copies(&range.copies.backups),
            joining: copies(&range.copies.joining),
            epoch: range.copies.epoch.number(),
            handed_over: range.copies.handed_over,
        };
        let loss = |loss: &Loss| FileLoss {
            revision: loss.revision.number(),
            slots: loss.slots.to_string(),
            copies: loss.copies.clone(),
        };
        let file = File {
            version: DOCUMENT_VERSION,
            revision: self.revision.number(),
            copies: self.copies,
            server: self.members.iter().map(server).collect(),
            range: self.ranges.iter().map(range).collect(),
            loss: self.losses.iter().map(loss).collect(),
        };
        let body = toml::to_string(&file).expect("strings and numbers have a form in TOML");
        format!(
            "# The servers of a cluster, and the copies of its {SLOT_COUNT} slots. Changed while it runs: look at it with `trine topology \
             show`,\n# and do not edit it.\n{body}"
        )
    }

    /// Reads a document's text and checks all that is promised of a [`Document`].
    ///
    /// # Errors
    /// The first thing that is wrong, with its place and the way out.
    pub fn from_toml(text: &str) -> Result<Self, DocumentError> {
        let syntax = |error: toml::de::Error| DocumentError::Syntax { message: error.to_string() };
        // The version first: a later one may have fields that are unknown here.
        let head: Head = toml::from_str(text).map_err(syntax)?;
        if head.version != Some(DOCUMENT_VERSION) {
            return Err(DocumentError::Version { found: head.version });
        }
        let file: File = toml::from_str(text).map_err(syntax)?;
        let members = file.server.into_iter().map(member).collect::<Result<Vec<_>, _>>()?;
        let ranges = file.range.iter().map(|range| read_range(&members, range)).collect::<Result<Vec<_>, _>>()?;
        let losses = file.loss.into_iter().map(read_loss).collect::<Result<Vec<_>, _>>()?;
        let mut document =
            Self { revision: Revision::new(file.revision), copies: file.copies, members, ranges, losses };
        document.ranges.sort_by_key(|range| range.slots);
        document.validate()?;
        document.tidy();
        Ok(document)
    }

    /// Returns the revision of a document's text, which is not checked otherwise.
    ///
    /// # Errors
    /// The text is not a document of this version.
    pub fn revision_of(text: &str) -> Result<Revision, DocumentError> {
        let head: Head = toml::from_str(text).map_err(|error| DocumentError::Syntax { message: error.to_string() })?;
        match (head.version, head.revision) {
            (Some(DOCUMENT_VERSION), Some(revision)) => Ok(Revision::new(revision)),
            (Some(DOCUMENT_VERSION), None) => Err(DocumentError::NoRevision),
            (found, _) => Err(DocumentError::Version { found }),
        }
    }

    /// Returns the document's equal in numbers and roles of a fixed topology: one copy of each slot, of servers that have
    /// never been started. For showing both in one form.
    pub fn of_topology(topology: &Topology) -> Self {
        let members: Vec<_> = topology.servers().iter().cloned().map(Member::new).collect();
        let range = |(shard, slots): (crate::topology::ShardId, std::ops::RangeInclusive<u16>)| {
            let server = &topology.servers()[usize::from(shard.server)].name;
            let primary = CopyId { core: CoreId::new(server, shard.core), incarnation: None };
            let slots = SlotRange::new(*slots.start(), *slots.end()).expect("a topology's ranges are of slots");
            let (backups, joining) = (Vec::new(), Vec::new());
            Range { slots, copies: Copies { primary, backups, joining, epoch: topology.epoch, handed_over: false } }
        };
        let ranges = topology.owned_ranges().into_iter().map(range).collect();
        let revision = Revision::new(topology.epoch.number());
        Self { revision, copies: 1, members, ranges, losses: Vec::new() }
    }

    /// Returns a copy as it is written: with its incarnation only where that is not its server's present one.
    pub fn written(&self, copy: &CopyId) -> String {
        if self.is_current(copy) { copy.core.to_string() } else { copy.to_string() }
    }
}

fn member(server: FileServer) -> Result<Member, DocumentError> {
    let FileServer { name, host, port, core_port, cores, incarnation, former, state, weight } = server;
    let ports = || TopologyError::BadPorts { name: name.clone(), first: port, cores };
    let core_port = core_port.or(port.checked_add(1)).ok_or_else(ports)?;
    let read = |text: String| {
        let incarnation = Incarnation::parse(&text);
        incarnation.ok_or_else(|| DocumentError::BadIncarnation { name: name.clone(), text })
    };
    let incarnation = incarnation.map(read).transpose()?;
    let former = former.into_iter().map(read).collect::<Result<_, _>>()?;
    let state = match state {
        FileState::Serving => ServerState::Serving,
        FileState::Leaving => ServerState::Leaving,
    };
    Ok(Member { server: Server { name, host, port, core_port, cores }, incarnation, former, state, weight })
}

fn read_range(members: &[Member], range: &FileRange) -> Result<Range, DocumentError> {
    let slots = read_slots(&range.slots)?;
    let copies = |texts: &[String]| texts.iter().map(|text| copy(members, slots, text)).collect::<Result<_, _>>();
    let copies = Copies {
        primary: copy(members, slots, &range.primary)?,
        backups: copies(&range.backups)?,
        joining: copies(&range.joining)?,
        epoch: Epoch::new(range.epoch),
        handed_over: range.handed_over,
    };
    Ok(Range { slots, copies })
}

fn read_loss(loss: FileLoss) -> Result<Loss, DocumentError> {
    let slots = read_slots(&loss.slots)?;
    Ok(Loss { revision: Revision::new(loss.revision), slots, copies: loss.copies })
}

fn read_slots(text: &str) -> Result<SlotRange, DocumentError> {
    SlotRange::parse(text).ok_or_else(|| DocumentError::BadRange { text: text.into() })
}

/// Reads a copy as [`Document::written`] writes it. A server that there is not is for [`Document::validate`] to refuse.
fn copy(members: &[Member], slots: SlotRange, text: &str) -> Result<CopyId, DocumentError> {
    let bad = || DocumentError::BadCopy { slots, text: text.into() };
    let (core, incarnation) = match text.split_once('@') {
        Some((core, incarnation)) => (core, Some(Incarnation::parse(incarnation).ok_or_else(bad)?)),
        None => (text, None),
    };
    let core = CoreId::parse(core).ok_or_else(bad)?;
    let present = || members.iter().find(|member| member.server.name == *core.server)?.incarnation;
    let incarnation = incarnation.or_else(present);
    Ok(CopyId { core, incarnation })
}
