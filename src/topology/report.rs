//! A document as a report: servers, ranges, and the work that is under way, for people and as JSON.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use serde::Serialize;

use super::{
    document::{CopyId, Document, Member, Range, ServerState, SlotRange},
    placement::{next_steps, wanted},
    steps::Step,
};
use crate::slot::SLOT_COUNT;

/// The width of a terminal that lines keep to, if names are not too long for it.
const WIDTH: usize = 80;
/// The most tasks that are shown as text: those that follow say the same of other slots.
const TASKS_SHOWN: usize = 12;

/// A report on a document.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Report {
    /// The document's number.
    pub revision: u64,
    /// The number of copies that each slot ought to have in sync.
    pub copies: u16,
    /// The servers, in the document's order.
    pub servers: Vec<ServerReport>,
    /// The ranges, in the order of slots.
    pub ranges: Vec<RangeReport>,
    /// The work that is under way or waits, the most urgent first.
    pub tasks: Vec<Task>,
    /// The losses that were accepted, the oldest first.
    pub losses: Vec<LossReport>,
}

/// A server of a report.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ServerReport {
    /// Its name.
    pub name: String,
    /// The host that clients reach it at.
    pub host: String,
    /// The gateway's port.
    pub port: u16,
    /// The port of core 0.
    pub core_port: u16,
    /// The number of its cores.
    pub cores: u16,
    /// `serving`, `leaving`, or `new`: never started.
    pub state: &'static str,
    /// The share of each of its cores.
    pub weight: u16,
    /// The present life of its data.
    pub incarnation: Option<String>,
    /// The number of slots of which it has the primary.
    pub primary: u32,
    /// The number of slots of which it has a backup.
    pub backup: u32,
    /// The number of slots of which it has a joining copy.
    pub joining: u32,
    /// The number of slots of which it had a copy in sync in an earlier life of its data.
    pub lost: u32,
}

/// A range of a report. Copies are `NAME/CORE`, with `@INCARNATION` if they belong to an earlier life of their server's data.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RangeReport {
    /// The slots, as `0-5460`.
    pub slots: String,
    /// The primary.
    pub primary: String,
    /// The backups.
    pub backups: Vec<String>,
    /// The copies that are being filled.
    pub joining: Vec<String>,
    /// The revision at which the primary was last named.
    pub epoch: u64,
    /// The number of servers that have the slots in sync.
    pub in_sync: usize,
}

/// Something that is to happen, and what it waits for.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Task {
    /// The event that is to come.
    pub task: String,
    /// The condition that it waits for, or its meaning.
    pub waits_for: String,
}

/// A loss that was accepted.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct LossReport {
    /// The revision that accepted it.
    pub revision: u64,
    /// The slots.
    pub slots: String,
    /// The copies in sync that were given up.
    pub copies: Vec<String>,
}

impl Report {
    /// Returns the report on a document. It knows of servers only what the document says: each that was ever started counts as
    /// running.
    pub fn new(document: &Document) -> Self {
        let range = |range: &Range| RangeReport {
            slots: range.slots.to_string(),
            primary: document.written(&range.copies.primary),
            backups: range.copies.backups.iter().map(|copy| document.written(copy)).collect(),
            joining: range.copies.joining.iter().map(|copy| document.written(copy)).collect(),
            epoch: range.copies.epoch.number(),
            in_sync: document.servers_in_sync(&range.copies),
        };
        let loss = |loss: &super::document::Loss| LossReport {
            revision: loss.revision.number(),
            slots: loss.slots.to_string(),
            copies: loss.copies.clone(),
        };
        Self {
            revision: document.revision().number(),
            copies: document.copies(),
            servers: document.members().iter().map(|member| server(document, member)).collect(),
            ranges: document.ranges().iter().map(range).collect(),
            tasks: tasks(document),
            losses: document.losses().iter().map(loss).collect(),
        }
    }

    /// Returns the report as text of lines that fit a terminal.
    pub fn to_text(&self) -> String {
        let copies = if self.copies == 1 { "1 copy".into() } else { format!("{} copies", self.copies) };
        let mut text = format!("revision {}, {copies} of each of {SLOT_COUNT} slots\n\n", self.revision);
        let header = ["SERVER", "ADDRESS", "CORES", "STATE", "PRIMARY", "BACKUP", "JOINING", "LOST"];
        let mut rows = vec![header.map(|cell| vec![cell.to_owned()]).to_vec()];
        for server in &self.servers {
            let host = if server.host.contains(':') { format!("[{}]", server.host) } else { server.host.clone() };
            let state = if server.weight == Member::WEIGHT {
                server.state.to_owned()
            } else {
                format!("{} ({})", server.state, server.weight)
            };
            let numbers = [server.primary, server.backup, server.joining, server.lost].map(|number| number.to_string());
            let [primary, backup, joining, lost] = numbers;
            let cells = [
                server.name.clone(),
                format!("{host}:{}", server.port),
                server.cores.to_string(),
                state,
                primary,
                backup,
            ];
            rows.push(cells.into_iter().chain([joining, lost]).map(|cell| vec![cell]).collect());
        }
        text += &table(&rows, &[2, 4, 5, 6, 7]);
        let header = ["SLOTS", "PRIMARY", "BACKUPS", "JOINING", "EPOCH"];
        let mut rows = vec![header.map(|cell| vec![cell.to_owned()]).to_vec()];
        for range in &self.ranges {
            let primary = vec![range.primary.clone()];
            let epoch = vec![range.epoch.to_string()];
            rows.push(vec![vec![range.slots.clone()], primary, range.backups.clone(), range.joining.clone(), epoch]);
        }
        text += "\n";
        text += &table(&rows, &[4]);
        text += if self.tasks.is_empty() { "\nAll copies are where they ought to be.\n" } else { "\nTO DO\n" };
        for task in self.tasks.iter().take(TASKS_SHOWN) {
            text += &wrapped(&task.task, "  ");
            text += &wrapped(&task.waits_for, "      ");
        }
        if TASKS_SHOWN < self.tasks.len() {
            text += &format!("  … and {} more, which --json lists\n", self.tasks.len() - TASKS_SHOWN);
        }
        for (number, loss) in self.losses.iter().enumerate() {
            text += if number == 0 { "\nLOSSES ACCEPTED\n" } else { "" };
            let (revision, slots, copies) = (loss.revision, &loss.slots, loss.copies.join(", "));
            text += &wrapped(&format!("revision {revision}: slots {slots}, which {copies} had in sync"), "  ");
        }
        text
    }
}

fn server(document: &Document, member: &Member) -> ServerReport {
    let is_here = |copy: &&CopyId| *copy.core.server == *member.server.name;
    let slots =
        |range: &Range, copies: &mut dyn Iterator<Item = &CopyId>| u32::from(range.slots.len()) * copies.count() as u32;
    let (mut primary, mut backup, mut joining, mut lost) = (0, 0, 0, 0);
    for range in document.ranges() {
        let is_lost = |copy: &&CopyId| !document.is_current(copy);
        primary += slots(range, &mut [&range.copies.primary].into_iter().filter(is_here));
        backup += slots(range, &mut range.copies.backups.iter().filter(is_here));
        joining += slots(range, &mut range.copies.joining.iter().filter(is_here));
        lost += slots(range, &mut range.copies.in_sync().filter(is_here).filter(is_lost));
    }
    let server = member.server.clone();
    ServerReport {
        name: server.name,
        host: server.host,
        port: server.port,
        core_port: server.core_port,
        cores: server.cores,
        state: match (member.state, member.incarnation) {
            (ServerState::Leaving, _) => "leaving",
            (ServerState::Serving, None) => "new",
            (ServerState::Serving, Some(_)) => "serving",
        },
        weight: member.weight,
        incarnation: member.incarnation.map(|incarnation| incarnation.to_string()),
        primary,
        backup,
        joining,
        lost,
    }
}

/// Returns what is to happen, the most urgent first.
fn tasks(document: &Document) -> Vec<Task> {
    let mut tasks = Vec::new();
    for range in document.lost() {
        let servers: BTreeSet<&str> = range.copies.in_sync().map(|copy| &*copy.core.server).collect();
        let servers = servers.into_iter().collect::<Vec<_>>().join(", ");
        tasks.push(Task {
            task: format!("slots {}: nobody may serve them: no copy in sync is left", range.slots),
            waits_for: format!(
                "the data that {servers} had before; if it will not return: trine topology accept-loss --slots {}",
                range.slots
            ),
        });
    }
    for range in document.ranges() {
        let copies = &range.copies;
        let backups: Vec<&CopyId> = copies.backups.iter().filter(|copy| document.is_current(copy)).collect();
        if document.is_current(&copies.primary) || backups.is_empty() {
            continue;
        }
        let servers: BTreeSet<&str> = backups.iter().map(|copy| &*copy.core.server).collect();
        let servers = servers.into_iter().collect::<Vec<_>>().join(" or ");
        tasks.push(Task {
            task: format!("slots {}: a backup takes over: the primary's data is lost", range.slots),
            waits_for: format!("waits until {servers} proposes it"),
        });
    }
    for member in document.members().iter().filter(|member| member.incarnation.is_none()) {
        tasks.push(Task {
            task: format!("server {} takes its seats", member.server.name),
            waits_for: "waits for its first start".into(),
        });
    }
    let started: BTreeSet<Arc<str>> = document
        .members()
        .iter()
        .filter(|member| member.incarnation.is_some())
        .map(|member| member.server.name.as_str().into())
        .collect();
    for step in next_steps(document, &wanted(document, &started)) {
        let waits_for = waits_for(document, &step);
        tasks.push(Task { task: step.to_string(), waits_for });
    }
    for member in document.members().iter().filter(|member| member.state == ServerState::Leaving) {
        let own = server(document, member);
        let left = own.primary + own.backup + own.joining;
        let waits_for = match left {
            0 => "nothing is left on it: it can be removed".into(),
            _ => format!("waits until others have its copies: {left} are left"),
        };
        tasks.push(Task { task: format!("server {} leaves", member.server.name), waits_for });
    }
    tasks
}

/// Returns what a step of placement waits for.
fn waits_for(document: &Document, step: &Step) -> String {
    let primaries = |slots: SlotRange| {
        let ranges = document.ranges().iter().filter(|range| range.slots.intersection(slots).is_some());
        let primaries: BTreeSet<&str> = ranges.map(|range| &*range.copies.primary.core.server).collect();
        primaries.into_iter().collect::<Vec<_>>().join(", ")
    };
    match step {
        Step::AddJoining { slots, .. } => format!("next; {} proposes it", primaries(*slots)),
        Step::MakeBackup { slots, core } => {
            format!("under way: waits until {} has filled {core} with the slots' keys", primaries(*slots))
        }
        Step::NamePrimary { slots, core } => {
            format!("next: {} stops, and waits until {core} has everything", primaries(*slots))
        }
        Step::DropCopy { slots, .. } => format!("next; {} proposes it", primaries(*slots)),
        other => format!("{other}"),
    }
}

/// Returns rows of cells as lines. A cell is a list, which stands in one line if that fits the width, else in as many as it has
/// items. `right` names the columns of numbers.
fn table(rows: &[Vec<Vec<String>>], right: &[usize]) -> String {
    let joined: Vec<Vec<Vec<String>>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| vec![if cell.is_empty() { "-".into() } else { cell.join(" ") }]).collect())
        .collect();
    let text = lines(&joined, right);
    if text.lines().all(|line| line.chars().count() <= WIDTH) { text } else { lines(rows, right) }
}

fn lines(rows: &[Vec<Vec<String>>], right: &[usize]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().flat_map(|row| &row[column]).map(|item| item.chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let height = row.iter().map(Vec::len).max().unwrap_or_default();
        for number in 0..height {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let item = match cell.get(number) {
                    Some(item) => item,
                    None if number == 0 => "-",
                    None => "",
                };
                // Writing to a String can't fail.
                let _ = if right.contains(&column) {
                    write!(line, "{item:>width$}  ")
                } else {
                    write!(line, "{item:<width$}  ")
                };
            }
            text += line.trim_end();
            text.push('\n');
        }
    }
    text
}

/// Returns a text as lines of at most [`WIDTH`], each behind an indent; those after the first two deeper.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = vec![indent.to_owned()];
    for word in text.split(' ') {
        let line = lines.last().expect("there is one");
        let is_first_word = line.trim().is_empty();
        if !is_first_word && WIDTH < line.chars().count() + 1 + word.chars().count() {
            lines.push(format!("{indent}  "));
        }
        let line = lines.last_mut().expect("there is one");
        if !line.trim().is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::topology::document::{CoreId, Incarnation, strategies};

    /// A server that lost its data, one that leaves, one that was never started, and a copy that is being filled.
    fn example() -> Document {
        let document = strategies::started(&[2, 1, 1], 2);
        let slots = SlotRange::parse("0-2047").unwrap();
        let steps = [
            Step::AddJoining { slots, core: CoreId::new("s2", 0) },
            Step::AddServer(strategies::server(9, 1)),
            Step::Start { server: "s1".into(), incarnation: Incarnation::new(0x5f3a_09c1) },
            Step::SetState { server: "s1".into(), state: ServerState::Leaving },
        ];
        document.with_all(&steps).unwrap()
    }

    #[test]
    fn the_report_is_what_a_person_can_read() {
        expect![[r#"
            revision 5, 2 copies of each of 16384 slots

            SERVER  ADDRESS         CORES  STATE    PRIMARY  BACKUP  JOINING  LOST
            s0      127.0.0.1:7000      2  serving     8192    5462        0     0
            s1      127.0.0.1:7100      1  leaving     4096    5461        0  9557
            s2      127.0.0.1:7200      1  serving     4096    5461     2048     0
            s9      127.0.0.1:7900      1  new            0       0        0     0

            SLOTS        PRIMARY                BACKUPS                JOINING  EPOCH
            0-2047       s0/0                   s1/0@0000000000000002  s2/0         1
            2048-4095    s0/0                   s2/0                   -            1
            4096-6143    s0/1                   s1/0@0000000000000002  -            1
            6144-8191    s0/1                   s2/0                   -            1
            8192-10922   s1/0@0000000000000002  s0/0                   -            1
            10923-12287  s1/0@0000000000000002  s2/0                   -            1
            12288-15018  s2/0                   s0/1                   -            1
            15019-16383  s2/0                   s1/0@0000000000000002  -            1

            TO DO
              slots 8192-10922: a backup takes over: the primary's data is lost
                  waits until s0 proposes it
              slots 10923-12287: a backup takes over: the primary's data is lost
                  waits until s2 proposes it
              server s9 takes its seats
                  waits for its first start
              slots 0-2047: s1/0 gives up its copy
                  next; s0 proposes it
              slots 4096-6143: s1/0 gives up its copy
                  next; s0 proposes it
              slots 15019-16383: s1/0 gives up its copy
                  next; s2 proposes it
              slots 15019-16383: s0/0 joins
                  next; s2 proposes it
              slots 4096-6143: s2/0 joins
                  next; s0 proposes it
              slots 0-2047: s2/0, which joins, becomes a backup
                  under way: waits until s0 has filled s2/0 with the slots' keys
              server s1 leaves
                  waits until others have its copies: 9557 are left
        "#]]
        .assert_eq(&Report::new(&example()).to_text());
    }

    /// Nothing is to do where all copies are where they ought to be.
    #[test]
    fn a_cluster_in_rest_has_no_tasks() {
        let text = Report::new(&strategies::started(&[1, 1, 1], 2)).to_text();
        assert!(text.ends_with("\nAll copies are where they ought to be.\n"), "{text}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Lines fit a terminal, whatever there is to tell, and the numbers of slots add up.
        #[test]
        fn lines_fit_a_terminal(document in strategies::document()) {
            let report = Report::new(&document);
            let text = report.to_text();
            prop_assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{}", text);
            prop_assert_eq!(report.servers.iter().map(|server| server.primary).sum::<u32>(), u32::from(SLOT_COUNT));
        }
    }
}
