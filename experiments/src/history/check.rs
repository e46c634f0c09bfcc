//! Linearizability: is there an order of the operations, each at some instant between its call and its return, in which a store
//! that does one thing after the other gives these very replies?
//!
//! The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with the memory of Lowe ("Testing for
//! linearizability", 2017): what was executed and what it led to is looked at once. Keys that no operation names together are
//! looked at apart. Operations without a reply stay open: they may be executed at any time since their call, or never.

use super::{
    Operation,
    command::{Command, State, agree},
};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

/// Looks at so many situations of one group of keys at most: some gigabytes. A history that needs more is not decided.
pub const SITUATIONS_MAX: usize = 10_000_000;
/// Shows so many operations of a violation.
const SHOWN: usize = 12;

/// The answer to the question.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none.
    Violation(Violation),
    /// The search was given up: too many operations without a reply, or too many at once.
    Undecided {
        /// The keys.
        keys: Vec<String>,
    },
}

/// Operations that no order explains.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The keys that they are about.
    pub keys: Vec<String>,
    /// The number of operations that an order was found for, in the longest attempt.
    pub explained: usize,
    /// The keys with their values after them.
    pub state: State,
    /// The operations one of which ought to be next, and can't be, as the file has them.
    pub stuck: Vec<Operation>,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.join(", ");
        writeln!(out, "no order of the operations on {keys} explains their replies.")?;
        writeln!(
            out,
            "After {} of them the store has {:?}, and none of these can come next:",
            self.explained, self.state
        )?;
        for operation in self.stuck.iter().take(SHOWN) {
            writeln!(out, "  {operation}")?;
        }
        if SHOWN < self.stuck.len() {
            writeln!(out, "  and {} more", self.stuck.len() - SHOWN)?;
        }
        Ok(())
    }
}

/// The numbers of what was looked at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Operations.
    pub operations: usize,
    /// Those without a reply.
    pub open: usize,
    /// Groups of keys that no operation names together.
    pub groups: usize,
}

/// Looks for an order of a history's operations. The first group of keys that has none decides.
///
/// # Panics
/// An operation does not parse: [`super::read`] refuses such.
pub fn check(history: &[Operation], situations_max: usize) -> (Verdict, Counts) {
    let groups = groups(history);
    let open = history.iter().filter(|operation| operation.returned_ns.is_none()).count();
    let counts = Counts { operations: history.len(), open, groups: groups.len() };
    let mut undecided = None;
    for (keys, members) in groups {
        match Search::new(&members).run(situations_max) {
            Ok(()) => {}
            Err(Stop::TooMany) => undecided = undecided.or(Some(Verdict::Undecided { keys })),
            Err(Stop::Stuck { explained, state, stuck }) => {
                let stuck = stuck.into_iter().map(|index| history[members[index].index].clone()).collect();
                return (Verdict::Violation(Violation { keys, explained, state, stuck }), counts);
            }
        }
    }
    (undecided.unwrap_or(Verdict::Linearizable), counts)
}

/// An operation of one group.
struct Member<'a> {
    /// Its position in the history.
    index: usize,
    operation: &'a Operation,
    commands: Vec<Command>,
    is_read: bool,
}

/// Returns the operations by groups of keys that are named together, each in the order of their calls.
fn groups(history: &[Operation]) -> Vec<(Vec<String>, Vec<Member<'_>>)> {
    let members = history.iter().enumerate().map(|(index, operation)| {
        let commands = operation.parse().expect("a history that was read parses");
        let is_read = commands.iter().all(Command::is_read);
        Member { index, operation, commands, is_read }
    });
    // Nobody can tell whether an open read was executed.
    let members: Vec<_> = members.filter(|member| !member.is_read || member.operation.returned_ns.is_some()).collect();
    let mut numbers = BTreeMap::<&str, usize>::new();
    let mut parents = Vec::new();
    for key in members.iter().flat_map(|member| &member.commands).flat_map(Command::keys) {
        numbers.entry(key).or_insert_with(|| {
            parents.push(parents.len());
            parents.len() - 1
        });
    }
    for member in &members {
        let mut keys = member.commands.iter().flat_map(Command::keys).map(|key| numbers[key]);
        let Some(first) = keys.next() else { continue };
        for key in keys {
            let (one, other) = (root(&mut parents, first), root(&mut parents, key));
            parents[one] = other;
        }
    }
    let mut keys_of = BTreeMap::<usize, Vec<String>>::new();
    for (key, &number) in &numbers {
        keys_of.entry(root(&mut parents, number)).or_default().push((*key).to_owned());
    }
    let first_key = |member: &Member<'_>| member.commands.iter().flat_map(Command::keys).next().map(|key| numbers[key]);
    let placed: Vec<_> =
        members.iter().map(|member| first_key(member).map(|number| root(&mut parents, number))).collect();
    let mut found: BTreeMap<usize, Vec<Member<'_>>> = BTreeMap::new();
    for (member, place) in members.into_iter().zip(placed) {
        found.entry(place.expect("a command has a key")).or_default().push(member);
    }
    let mut found: Vec<_> =
        found.into_iter().map(|(root, members)| (keys_of.remove(&root).unwrap_or_default(), members)).collect();
    found.iter_mut().for_each(|(_, members)| members.sort_by_key(|member| member.operation.called_ns));
    found
}

fn root(parents: &mut [usize], mut number: usize) -> usize {
    while parents[number] != number {
        parents[number] = parents[parents[number]];
        number = parents[number];
    }
    number
}

/// The end of a search without an order.
enum Stop {
    TooMany,
    Stuck { explained: usize, state: State, stuck: Vec<usize> },
}

/// A situation: what was executed, and what it led to. Operations are positions in the order of their calls.
#[derive(Clone, Debug)]
struct Situation {
    /// Every closed operation before this position was executed.
    low: usize,
    /// The closed operations from `low` on that were executed, in order.
    ahead: Vec<usize>,
    /// The open operations that were executed, in order.
    opened: Vec<usize>,
    state: State,
}

/// The situations that were looked at.
///
/// With the same closed operations executed and the same state, whoever has executed fewer of the open ones can do all that
/// others can: so that open operations which nobody has seen do not double the work each.
#[derive(Default)]
struct Seen {
    opened: HashMap<(usize, Vec<usize>, State), Vec<Vec<usize>>>,
    count: usize,
}

impl Seen {
    /// Notes a situation. Returns false if it leads nowhere that one before does not.
    fn is_new(&mut self, situation: &Situation) -> bool {
        let Situation { low, ahead, opened, state } = situation;
        let known = self.opened.entry((*low, ahead.clone(), state.clone())).or_default();
        let is_within = |few: &[usize], many: &[usize]| few.iter().all(|index| many.binary_search(index).is_ok());
        if known.iter().any(|other| is_within(other, opened)) {
            return false;
        }
        known.retain(|other| !is_within(opened, other));
        known.push(opened.clone());
        self.count += 1;
        true
    }
}

/// A situation on the way, and what may come next.
struct Step {
    situation: Situation,
    candidates: Vec<usize>,
}

struct Search<'a> {
    members: &'a [Member<'a>],
    /// Operations without a reply.
    open: Vec<usize>,
    closed: usize,
}

impl<'a> Search<'a> {
    fn new(members: &'a [Member<'a>]) -> Self {
        let is_open = |&index: &usize| members[index].operation.returned_ns.is_none();
        let open: Vec<_> = (0..members.len()).filter(is_open).collect();
        Self { members, closed: members.len() - open.len(), open }
    }

    fn run(&self, situations_max: usize) -> Result<(), Stop> {
        let first = self.settled(Situation { low: 0, ahead: Vec::new(), opened: Vec::new(), state: State::new() });
        let mut seen = Seen::default();
        seen.is_new(&first);
        let mut furthest = (self.explained(&first), first.clone());
        let mut way = vec![self.step(first)];
        while let Some(step) = way.last_mut() {
            if self.explained(&step.situation) == self.closed {
                return Ok(());
            }
            let Some(index) = step.candidates.pop() else {
                way.pop();
                continue;
            };
            let Some(next) = self.execute(&step.situation, index) else { continue };
            let next = self.settled(next);
            if !seen.is_new(&next) {
                continue;
            }
            if situations_max < seen.count {
                return Err(Stop::TooMany);
            }
            let explained = self.explained(&next);
            if furthest.0 < explained {
                furthest = (explained, next.clone());
            }
            way.push(self.step(next));
        }
        let (explained, situation) = furthest;
        let mut stuck = self.candidates(&situation);
        stuck.sort_unstable();
        Err(Stop::Stuck { explained, state: situation.state, stuck })
    }

    /// Returns the number of closed operations that were executed.
    fn explained(&self, situation: &Situation) -> usize {
        let open = self.open.partition_point(|&index| index < situation.low);
        situation.low - open + situation.ahead.len()
    }

    fn step(&self, situation: Situation) -> Step {
        let candidates = self.candidates(&situation);
        Step { situation, candidates }
    }

    /// Returns the operations that may come next: those that were called before every other that is left has returned. The last is
    /// to be tried first: those without a reply come last of all.
    fn candidates(&self, situation: &Situation) -> Vec<usize> {
        let mut until = u64::MAX;
        let mut closed = Vec::new();
        for (index, member) in self.members.iter().enumerate().skip(situation.low) {
            if until < member.operation.called_ns {
                break;
            }
            let Some(returned) = member.operation.returned_ns else { continue };
            if situation.ahead.binary_search(&index).is_err() {
                until = until.min(returned);
                closed.push(index);
            }
        }
        closed.retain(|&index| self.members[index].operation.called_ns <= until);
        closed.sort_by_key(|&index| std::cmp::Reverse(self.members[index].operation.returned_ns));
        let is_free = |index: &usize| situation.opened.binary_search(index).is_err();
        let called = |index: &usize| self.members[*index].operation.called_ns <= until;
        let mut found: Vec<_> = self.open.iter().copied().take_while(called).filter(is_free).collect();
        found.append(&mut closed);
        found
    }

    /// Executes what only reads and fits: that takes nothing from anybody.
    fn settled(&self, mut situation: Situation) -> Situation {
        loop {
            let reads = self.candidates(&situation).into_iter().filter(|&index| self.members[index].is_read);
            let Some(next) = reads.into_iter().find_map(|index| self.execute(&situation, index)) else {
                return situation;
            };
            situation = next;
        }
    }

    /// Returns the situation after an operation; `None` if it would have had other replies.
    fn execute(&self, situation: &Situation, index: usize) -> Option<Situation> {
        let member = &self.members[index];
        let mut next = situation.clone();
        for (position, command) in member.commands.iter().enumerate() {
            let reply = command.execute(&mut next.state);
            if let Some(told) = member.operation.replies.get(position)
                && !agree(&reply, told)
            {
                return None;
            }
        }
        let list = if member.operation.returned_ns.is_none() { &mut next.opened } else { &mut next.ahead };
        let place = list.partition_point(|&other| other < index);
        list.insert(place, index);
        self.advance(&mut next);
        Some(next)
    }

    /// Moves `low` past what was executed.
    fn advance(&self, situation: &mut Situation) {
        let mut taken = 0;
        while let Some(member) = self.members.get(situation.low) {
            let is_next = situation.ahead.get(taken) == Some(&situation.low);
            if !is_next && member.operation.returned_ns.is_some() {
                break;
            }
            taken += usize::from(is_next);
            situation.low += 1;
        }
        situation.ahead.drain(..taken);
    }
}

#[cfg(test)]
mod tests;
