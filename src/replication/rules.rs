//! The rules of the protocol that tests remove, one at a time, to see that each is needed.

/// A rule. `replication/README.md` says what each is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rule {
    /// Committed means durable on the primary too.
    LocalSync,
    /// A copy acknowledges what is durable.
    AcknowledgeDurable,
    /// Replies wait until what they show is committed.
    CommitBeforeReply,
    /// Replies need a lease.
    Lease,
    /// The lease has to be held after the request has arrived.
    #[cfg(test)] // The driver keeps it.
    LeaseAfterArrival,
    /// A lease runs from when the heartbeat was sent.
    LeaseFromSent,
    /// A backup waits for longer than a lease lasts.
    LongGrace,
    /// A backup that knows a newer document does not grant.
    GrantToNewest,
    /// While a change is pending, the copies of both documents are needed to commit.
    UnionCommit,
    /// While a change is pending, the promises of both are needed.
    UnionLease,
    /// A compare-and-set without an answer is pending.
    PendingUntilKnown,
    /// A backup that deposes a primary takes nothing of it, and grants nothing.
    FreezeDeposed,
    /// A primary that restarts takes a new epoch.
    NewEpochAtBoot,
    /// A server that has restarted waits for as long as its promises last.
    BootWait,
    /// A new primary executes nothing until what it has is committed.
    Barrier,
    /// Copies belong to an incarnation.
    Incarnations,
    /// A copy takes effects only from the primary.
    FromPrimaryOnly,
    /// An item that is refused is not acknowledged, nor anything behind it.
    RefuseAndClose,
    /// Versions are compared.
    Compare,
    /// That a version is unknown is in the log.
    #[cfg(test)] // The store keeps it.
    UnknownIsLogged,
    /// Versions have an epoch.
    VersionHasEpoch,
    /// A primary whose copy is of unknown version begins a version of its own.
    ReignHasVersion,
    /// A copy is not emptied before it is repaired.
    RepairInPlace,
    /// A key that is written while its slot is repaired stays.
    SeenLive,
    /// A joining copy becomes a backup once it has everything.
    JoinComplete,
    /// A primary stops executing before it hands over.
    FreezeHandedOver,
    /// A primary hands over to a copy that has acknowledged everything.
    Drain,
}

/// All rules.
#[cfg(test)]
pub(super) const ALL: [Rule; 27] = [
    Rule::LocalSync,
    Rule::AcknowledgeDurable,
    Rule::CommitBeforeReply,
    Rule::Lease,
    Rule::LeaseAfterArrival,
    Rule::LeaseFromSent,
    Rule::LongGrace,
    Rule::GrantToNewest,
    Rule::UnionCommit,
    Rule::UnionLease,
    Rule::PendingUntilKnown,
    Rule::FreezeDeposed,
    Rule::NewEpochAtBoot,
    Rule::BootWait,
    Rule::Barrier,
    Rule::Incarnations,
    Rule::FromPrimaryOnly,
    Rule::RefuseAndClose,
    Rule::Compare,
    Rule::UnknownIsLogged,
    Rule::VersionHasEpoch,
    Rule::ReignHasVersion,
    Rule::RepairInPlace,
    Rule::SeenLive,
    Rule::JoinComplete,
    Rule::FreezeHandedOver,
    Rule::Drain,
];

#[cfg(test)]
std::thread_local! {
    static REMOVED: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// Removes a rule in this thread, or none.
#[cfg(test)]
pub(super) fn remove(rule: Option<Rule>) {
    REMOVED.with(|removed| removed.set(rule));
}

/// Returns the rule that is written so in this file.
#[cfg(test)]
pub(super) fn named(name: &str) -> Option<Rule> {
    ALL.into_iter().find(|rule| format!("{rule:?}") == name)
}

/// Returns true, unless a test has removed the rule.
#[inline]
pub(super) fn holds(rule: Rule) -> bool {
    #[cfg(test)]
    return REMOVED.with(std::cell::Cell::get) != Some(rule);
    #[cfg(not(test))]
    {
        let _ = rule;
        true
    }
}
