//! Placement: the copies that slots ought to have, and the steps that lead there.
//!
//! [`wanted`] is a function of the document and of who is alive, [`next_steps`] of the document and of what is wanted. Both
//! are asked again after each change, by every primary for itself, and each walks its own ranges a safe step at a time. So
//! nothing has to be remembered: after any crash, and whoever made the last step, they lead on from what is there.
//!
//! - Primaries are shared out by weight. They stay where they are while no core is further from its share than
//!   [`TOLERANCE`]; then no more of them move than that needs, to cores that have a copy if there are such.
//! - The backups of each core's slots are spread over all other servers by weight, so that when a server dies each of the
//!   others takes over its part. Copies that there are stay, within the same tolerance.

mod steps;

use std::{collections::BTreeSet, ops::Range, sync::Arc};

pub use self::steps::next_steps;
use super::{
    Server, Topology, balance,
    document::{COPIES_MAX, Copies, CopyId, CoreId, Document, DocumentError, Member, Revision, ServerState, SlotRange},
    position,
};
use crate::slot::SLOT_COUNT;

/// A core may be this part of its share, a sixteenth, above or below it before anything moves: a few slots are not worth
/// copying them, and what is worth it should not flap.
pub const TOLERANCE: f64 = 1.0 / 16.0;

/// The copies that the slots of a range ought to have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// The slots.
    pub slots: SlotRange,
    /// The core that ought to be primary.
    pub primary: CoreId,
    /// The cores that ought to have a backup, in order; on different servers.
    pub backups: Vec<CoreId>,
}

/// Returns the copies that slots ought to have while these servers are alive, in the order of slots. Slots whose primary is
/// not alive, or has lost its data, are left out: nobody may move them before a backup has taken over.
pub fn wanted(document: &Document, alive: &BTreeSet<Arc<str>>) -> Vec<Wanted> {
    let is_eligible = |member: &Member| {
        member.state == ServerState::Serving && member.incarnation.is_some() && alive.contains(&*member.server.name)
    };
    let cores = Cores::new(document.members(), is_eligible);
    if cores.eligible.is_empty() {
        return Vec::new();
    }
    let holdings = holdings(document, &cores, alive);
    let primaries = primaries(&cores, &holdings);
    Spread::new(&cores, &holdings, primaries, document.copies()).wanted()
}

impl Document {
    /// Returns the first document of a cluster: servers that have never been started, slots shared evenly, and the backups of
    /// each core's slots spread over all other servers.
    ///
    /// # Errors
    /// The servers are not those of a topology, or too few for so many copies.
    pub fn plan(servers: Vec<Server>, copies: u16) -> Result<Self, PlanError> {
        if COPIES_MAX < copies || copies == 0 {
            return Err(PlanError::Document(DocumentError::BadCopies { copies }));
        }
        if servers.len() < usize::from(copies) {
            return Err(PlanError::TooFewServers { copies, servers: servers.len() });
        }
        let topology = Topology::plan(servers).map_err(|error| PlanError::Document(error.into()))?;
        let mut document = Self::of_topology(&topology);
        (document.copies, document.revision) = (copies, Revision::FIRST);
        let cores = Cores::new(document.members(), |_| true);
        let holdings = document.ranges().iter().map(|range| Holding {
            slots: slots(range.slots),
            primary: cores.find(&range.copies.primary.core),
            backups: Vec::new(),
            joining: Vec::new(),
        });
        let holdings: Vec<Holding> = holdings.collect();
        let primaries = holdings.iter().flat_map(|holding| holding.slots.clone().map(|_| holding.primary)).collect();
        let planned = Spread::new(&cores, &holdings, primaries, copies).wanted();
        let copy = |core: CoreId| CopyId { core, incarnation: None };
        let ranges = planned.into_iter().map(|Wanted { slots, primary, backups }| {
            let backups = backups.into_iter().map(copy).collect();
            let epoch = Revision::FIRST.epoch();
            let copies = Copies { primary: copy(primary), backups, joining: Vec::new(), epoch, handed_over: false };
            super::document::Range { slots, copies }
        });
        document.ranges = ranges.collect();
        document.tidy();
        document.validate().map_err(PlanError::Document)?;
        Ok(document)
    }
}

/// Why there is no plan for these servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlanError {
    /// It would not be a document.
    Document(DocumentError),
    /// Copies are on different servers, and there are fewer servers than copies.
    TooFewServers {
        /// The copies that were asked for.
        copies: u16,
        /// The number of servers.
        servers: usize,
    },
}

impl std::error::Error for PlanError {}

impl std::fmt::Display for PlanError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Document(error) => error.fmt(out),
            Self::TooFewServers { copies, servers } => {
                write!(out, "{copies} copies of a slot are on {copies} different servers, and there are {servers}: ")?;
                write!(out, "add servers, or ask for fewer copies")
            }
        }
    }
}

/// All cores of a document, by numbers that are valid within one call.
struct Cores {
    all: Vec<CoreId>,
    /// Of each core, the number of its server.
    server: Vec<usize>,
    /// Of each core, its weight.
    weight: Vec<u64>,
    /// The cores that may get copies, in order.
    eligible: Vec<usize>,
    /// Of each server, the weight of its eligible cores together; 0 if it may get none.
    server_weight: Vec<u64>,
}

impl Cores {
    fn new(members: &[Member], is_eligible: impl Fn(&Member) -> bool) -> Self {
        let (mut all, mut server, mut weight) = (Vec::new(), Vec::new(), Vec::new());
        let (mut eligible, mut server_weight) = (Vec::new(), Vec::new());
        for (number, member) in members.iter().enumerate() {
            let name: Arc<str> = member.server.name.as_str().into();
            let may = is_eligible(member);
            for core in 0..member.server.cores {
                if may {
                    eligible.push(all.len());
                }
                all.push(CoreId { server: name.clone(), core });
                server.push(number);
                weight.push(u64::from(member.weight));
            }
            server_weight.push(if may { u64::from(member.weight) * u64::from(member.server.cores) } else { 0 });
        }
        Self { all, server, weight, eligible, server_weight }
    }

    fn find(&self, core: &CoreId) -> usize {
        self.all.iter().position(|other| other == core).expect("a document's copies are on its cores")
    }

    fn is_eligible(&self, core: usize) -> bool {
        self.server_weight[self.server[core]] != 0
    }
}

/// A range of slots that may move, and the cores that have copies which are not lost.
struct Holding {
    slots: Range<usize>,
    primary: usize,
    backups: Vec<usize>,
    joining: Vec<usize>,
}

/// Returns the ranges whose primary is alive.
fn holdings(document: &Document, cores: &Cores, alive: &BTreeSet<Arc<str>>) -> Vec<Holding> {
    let movable = document.ranges().iter().filter(|range| {
        let primary = &range.copies.primary;
        primary.incarnation.is_some() && document.is_current(primary) && alive.contains(&primary.core.server)
    });
    let find = |copies: &[CopyId]| {
        let current = copies.iter().filter(|copy| document.is_current(copy));
        current.map(|copy| cores.find(&copy.core)).collect()
    };
    movable
        .map(|range| Holding {
            slots: slots(range.slots),
            primary: cores.find(&range.copies.primary.core),
            backups: find(&range.copies.backups),
            joining: find(&range.copies.joining),
        })
        .collect()
}

/// Returns the core that ought to be primary of each slot that may move, in the order of slots.
fn primaries(cores: &Cores, holdings: &[Holding]) -> Vec<usize> {
    // From here on eligible cores have numbers of their own: places in `cores.eligible`.
    let place = |core: usize| cores.eligible.binary_search(&core).ok().map(position);
    let mut owners: Vec<Option<u16>> =
        holdings.iter().flat_map(|holding| holding.slots.clone().map(|_| place(holding.primary))).collect();
    let weights: Vec<u64> = cores.eligible.iter().map(|&core| cores.weight[core]).collect();
    let loads = balance::loads(&owners, weights.len());
    let targets = balance::targets(&loads, &weights, owners.len());
    let is_near = |(&load, &target): (&usize, &usize)| load.abs_diff(target) as f64 <= tolerated(target as f64);
    if owners.iter().all(Option::is_some) && loads.iter().zip(&targets).all(is_near) {
        return owners.iter().flatten().map(|&place| cores.eligible[usize::from(place)]).collect();
    }
    let mut loads = loads;
    // First to cores that have the data, then to those that are getting it.
    for role in [|holding: &Holding| holding.backups.clone(), |holding: &Holding| holding.joining.clone()] {
        let mut first = 0;
        for holding in holdings {
            let run = first..first + holding.slots.len();
            first = run.end;
            for taker in role(holding).into_iter().filter_map(place) {
                hand_to(taker, &mut owners[run.clone()], &mut loads, &targets);
            }
        }
    }
    let owners = balance::give_out(&mut owners, &targets);
    owners.iter().map(|&place| cores.eligible[usize::from(place)]).collect()
}

/// Gives slots of a range to a core that wants some, from its end: those without an owner, and those whose owner has too many.
fn hand_to(taker: u16, owners: &mut [Option<u16>], loads: &mut [usize], targets: &[usize]) {
    let taker = usize::from(taker);
    for owner in owners.iter_mut().rev() {
        if targets[taker] <= loads[taker] {
            return;
        }
        let has_too_many = |place: u16| targets[usize::from(place)] < loads[usize::from(place)];
        if owner.is_none_or(has_too_many) {
            if let Some(giver) = *owner {
                loads[usize::from(giver)] -= 1;
            }
            loads[taker] += 1;
            *owner = Some(position(taker));
        }
    }
}

fn tolerated(target: f64) -> f64 {
    (target * TOLERANCE).max(1.0)
}

/// Consecutive slots with one primary that is wanted, and the same copies.
#[derive(Clone)]
struct Run {
    slots: Range<usize>,
    primary: usize,
    /// The cores that have a copy, none on the primary's server, and one on each server; those in sync first.
    holders: Vec<usize>,
    /// The cores that are to have a backup.
    chosen: Vec<usize>,
}

/// The spreading of backups: for each primary core, how many of its slots each server backs and ought to back.
struct Spread<'a> {
    cores: &'a Cores,
    runs: Vec<Run>,
    /// The number of backups of a slot.
    backups: usize,
    /// By primary core, the number of slots of which it is primary.
    primaries: Vec<usize>,
    /// By primary core and server, the number of slots that are backed.
    backed: Vec<Vec<usize>>,
    /// By core, the number of slots that it backs.
    loads: Vec<usize>,
}

impl<'a> Spread<'a> {
    fn new(cores: &'a Cores, holdings: &[Holding], primaries: Vec<usize>, copies: u16) -> Self {
        let servers = cores.server_weight.len();
        let mut spread = Self {
            cores,
            runs: Vec::new(),
            backups: usize::from(copies) - 1,
            primaries: vec![0; cores.all.len()],
            backed: vec![vec![0; servers]; cores.all.len()],
            loads: vec![0; cores.all.len()],
        };
        let mut rest = primaries.as_slice();
        for holding in holdings {
            let (here, after) = rest.split_at(holding.slots.len());
            rest = after;
            let mut first = holding.slots.start;
            for chunk in here.chunk_by(|left, right| left == right) {
                let (slots, primary) = (first..first + chunk.len(), chunk[0]);
                first = slots.end;
                spread.primaries[primary] += chunk.len();
                spread.runs.push(Run { slots, primary, holders: cores.holders(holding, primary), chosen: Vec::new() });
            }
        }
        spread
    }

    fn wanted(mut self) -> Vec<Wanted> {
        // Where there is no choice first, so that what is chosen makes up for it.
        self.each_run(|spread, run| if run.holders.len() <= spread.backups { spread.keep(run) } else { vec![run] });
        self.each_run(|spread, run| if run.chosen.is_empty() { spread.choose(run) } else { vec![run] });
        self.each_run(Self::fill);
        self.even_out();
        let mut wanted: Vec<Wanted> = Vec::new();
        for run in self.runs {
            let slots =
                SlotRange::new(position(run.slots.start), position(run.slots.end - 1)).expect("a run has slots");
            let mut backups: Vec<CoreId> = run.chosen.iter().map(|&core| self.cores.all[core].clone()).collect();
            backups.sort_unstable();
            let primary = self.cores.all[run.primary].clone();
            match wanted.last_mut() {
                Some(last)
                    if (&last.primary, &last.backups) == (&primary, &backups)
                        && last.slots.last() + 1 == slots.first() =>
                {
                    last.slots = SlotRange::new(last.slots.first(), slots.last()).expect("both have slots");
                }
                _ => wanted.push(Wanted { slots, primary, backups }),
            }
        }
        wanted
    }

    fn each_run(&mut self, mut change: impl FnMut(&mut Self, Run) -> Vec<Run>) {
        for run in std::mem::take(&mut self.runs) {
            let runs = change(self, run);
            self.runs.extend(runs);
        }
    }

    /// Returns the number of a core's slots that a server ought to back.
    fn target(&self, primary: usize, server: usize) -> f64 {
        let weights = &self.cores.server_weight;
        let home = self.cores.server[primary];
        let others: u64 =
            weights.iter().enumerate().filter(|&(other, _)| other != home).map(|(_, weight)| weight).sum();
        if others == 0 || server == home {
            return 0.0;
        }
        let share = weights[server] as f64 / others as f64;
        self.primaries[primary] as f64 * (share * self.backups as f64).min(1.0)
    }

    /// Returns how many more of a core's slots a server ought to back.
    fn deficit(&self, primary: usize, server: usize) -> f64 {
        self.target(primary, server) - self.backed[primary][server] as f64
    }

    /// Chooses these cores for a run, beside those that are chosen.
    fn take(&mut self, run: &mut Run, chosen: &[usize]) {
        for &core in chosen {
            self.backed[run.primary][self.cores.server[core]] += run.slots.len();
            self.loads[core] += run.slots.len();
            run.chosen.push(core);
        }
    }

    /// Keeps all holders.
    fn keep(&mut self, mut run: Run) -> Vec<Run> {
        let holders = run.holders.clone();
        self.take(&mut run, &holders);
        vec![run]
    }

    /// Keeps as many holders as there ought to be backups: those whose servers lack most.
    fn choose(&mut self, run: Run) -> Vec<Run> {
        let candidates = run.holders.clone();
        self.share_out(run, self.backups, |_, _| candidates.clone())
    }

    /// Chooses cores for the backups that a run still lacks, on the servers that lack most, and on each of them the core that
    /// has the least.
    fn fill(&mut self, run: Run) -> Vec<Run> {
        let lacking = self.backups.saturating_sub(run.chosen.len());
        self.share_out(run, lacking, |spread, run| {
            let home = spread.cores.server[run.primary];
            let is_free = |&server: &usize| {
                server != home
                    && spread.cores.server_weight[server] != 0
                    && run.chosen.iter().all(|&core| spread.cores.server[core] != server)
            };
            let servers = (0..spread.cores.server_weight.len()).filter(is_free);
            servers.map(|server| spread.least_loaded(server, run.primary)).collect()
        })
    }

    /// Returns the core of a server that backs least; among equals the one whose number is the primary's, or follows it.
    fn least_loaded(&self, server: usize, primary: usize) -> usize {
        let cores = self.cores;
        let of_server: Vec<usize> =
            cores.eligible.iter().copied().filter(|&core| cores.server[core] == server).collect();
        let number = usize::from(cores.all[primary].core);
        let after = |core: usize| {
            (usize::from(cores.all[core].core) + of_server.len() - number % of_server.len()) % of_server.len()
        };
        let least = of_server.iter().copied().min_by_key(|&core| (self.loads[core], after(core)));
        least.expect("an eligible server has a core")
    }

    /// Cuts a run into pieces and gives each to the `count` candidates whose servers lack most.
    fn share_out(&mut self, run: Run, count: usize, candidates: impl Fn(&Self, &Run) -> Vec<usize>) -> Vec<Run> {
        let mut pieces = Vec::new();
        let mut rest = run;
        // As many pieces as there are candidates: any number of them can then be in balance.
        let mut longest = None;
        while !rest.slots.is_empty() {
            let mut best = candidates(self, &rest);
            let count = count.min(best.len());
            if count == 0 {
                pieces.push(rest);
                break;
            }
            let longest = *longest.get_or_insert(rest.slots.len().div_ceil(best.len()));
            let lack = |core: &usize| self.deficit(rest.primary, self.cores.server[*core]);
            // Stable: among equals those in sync come first.
            best.sort_by(|left, right| lack(right).total_cmp(&lack(left)));
            let is_any_choice = count < best.len();
            let lacking: f64 = best.iter().map(|core| lack(core).max(0.0)).sum();
            let most = lack(&best[0]);
            best.truncate(count);
            let length = match (is_any_choice, count) {
                (false, _) => rest.slots.len(),
                // In proportion to what is lacking; where nothing is, one candidate is as good as another.
                (true, 1) if 1.0 <= most => {
                    let length = rest.slots.len() as f64 * most / lacking;
                    (length.round() as usize).clamp(1, rest.slots.len())
                }
                (true, 1) => rest.slots.len(),
                (true, _) => longest.min(rest.slots.len()),
            };
            let mut piece = rest.clone();
            piece.slots.end = piece.slots.start + length;
            rest.slots.start = piece.slots.end;
            self.take(&mut piece, &best);
            pieces.push(piece);
        }
        pieces
    }

    /// Moves backups from servers that back too much of a core's slots to those that back too little, where they are further
    /// from their share than is tolerated.
    fn even_out(&mut self) {
        for primary in 0..self.primaries.len() {
            let servers = 0..self.cores.server_weight.len();
            let is_far = |server: usize| tolerated(self.target(primary, server)) < self.deficit(primary, server).abs();
            if !servers.clone().any(is_far) {
                continue;
            }
            for (from, to) in servers.clone().flat_map(|from| servers.clone().map(move |to| (from, to))) {
                if self.cores.server_weight[to] == 0 || self.movable(primary, from, to) == 0 {
                    continue;
                }
                // Where the other has a copy first.
                for has_copy in [true, false] {
                    self.each_run(|spread, run| spread.move_backup(run, primary, from, to, has_copy));
                }
            }
        }
    }

    /// Returns the number of a core's slots whose backup would be better on the one server than on the other.
    fn movable(&self, primary: usize, from: usize, to: usize) -> usize {
        (-self.deficit(primary, from)).min(self.deficit(primary, to)).floor().max(0.0) as usize
    }

    /// Moves as much of a run from one server to another as brings both nearer to their share.
    fn move_backup(&mut self, run: Run, primary: usize, from: usize, to: usize, has_copy: bool) -> Vec<Run> {
        let cores = self.cores;
        let movable = self.movable(primary, from, to);
        let given_up = run.chosen.iter().position(|&core| cores.server[core] == from);
        let is_held = run.holders.iter().copied().find(|&core| cores.server[core] == to);
        let is_chosen = run.chosen.iter().any(|&core| cores.server[core] == to);
        let Some(given_up) =
            given_up.filter(|_| run.primary == primary && 0 < movable && !is_chosen && is_held.is_some() == has_copy)
        else {
            return vec![run];
        };
        let length = run.slots.len().min(movable);
        let (mut left, mut moved) = (run.clone(), run);
        left.slots.end -= length;
        moved.slots.start = left.slots.end;
        let old = moved.chosen.remove(given_up);
        self.backed[primary][from] -= length;
        self.loads[old] -= length;
        let new = is_held.unwrap_or_else(|| self.least_loaded(to, primary));
        self.take(&mut moved, &[new]);
        [left, moved].into_iter().filter(|run| !run.slots.is_empty()).collect()
    }
}

impl Cores {
    /// Returns the cores that may go on having a copy if this one is primary: those in sync first.
    fn holders(&self, holding: &Holding, primary: usize) -> Vec<usize> {
        let mut holders: Vec<usize> = Vec::new();
        for &core in [&holding.primary].into_iter().chain(&holding.backups).chain(&holding.joining) {
            let is_elsewhere = |other: usize| self.server[other] != self.server[core];
            if self.is_eligible(core) && is_elsewhere(primary) && holders.iter().all(|&other| is_elsewhere(other)) {
                holders.push(core);
            }
        }
        holders
    }
}

fn slots(range: SlotRange) -> Range<usize> {
    usize::from(range.first())..usize::from(range.last()) + 1
}

const _: () = assert!(SLOT_COUNT as usize <= u16::MAX as usize, "a slot's number and the end of a range fit");

#[cfg(test)]
mod tests;
