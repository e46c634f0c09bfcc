//! Requests for slots that are changing hands: they wait until that is over, and are then executed or redirected.

use super::{Owner, Resolved, Shard};
use crate::{
    client::Client,
    commands::{Command, Flags, Keys},
    resp::Request,
    slot::Slot,
    transaction,
};

impl Shard {
    /// Returns true if a request has to wait, since it needs a slot that is changing hands. Call it right before the
    /// request would be executed.
    #[inline]
    pub fn awaits_slot(&self, request: Request<'_>, resolved: &Resolved, client: &Client) -> bool {
        self.roles.has_not_now() && self.needs_slot_that(request, resolved, client, |owner| owner == Owner::NotNow)
    }

    /// Returns true if a request needs a slot that this core does not own.
    #[cold]
    pub fn needs_foreign_slot(&self, request: Request<'_>, resolved: &Resolved, client: &Client) -> bool {
        self.needs_slot_that(request, resolved, client, |owner| owner != Owner::Here)
    }

    /// Returns true if a request that may be executed needs a slot for whose owner `is_meant` returns true.
    #[cold]
    fn needs_slot_that(
        &self,
        request: Request<'_>,
        resolved: &Resolved,
        client: &Client,
        is_meant: impl Fn(Owner) -> bool + Copy,
    ) -> bool {
        let is_meant = |slot: Slot| is_meant(self.roles.of(slot));
        if let Some((watches, requests)) = transaction::forwarded(request) {
            return watches.iter().any(|watch| is_meant(watch.slot)) || self.queue_needs(requests, is_meant);
        }
        let Some(found) = resolved.found.filter(|_| resolved.fault.is_none()) else { return false };
        if !client.authenticated || self.core.persistence.is_loading {
            return false;
        }
        match client.transaction.as_deref().filter(|transaction| transaction.is_open) {
            Some(transaction) if found.command.name == "exec" => {
                !transaction.is_aborted()
                    && (transaction.watches().iter().any(|watch| is_meant(watch.slot))
                        || self.queue_needs(transaction.requests(), is_meant))
            }
            // It is only queued: it changes nothing yet.
            Some(_) if resolved.key_count == 0 => false,
            _ => needs(found.command, request, resolved, is_meant),
        }
    }

    fn queue_needs(&self, requests: &[u8], is_meant: impl Fn(Slot) -> bool + Copy) -> bool {
        let mut is_needed = false;
        transaction::each(requests, |request| {
            let resolved = self.resolve(request);
            is_needed |= resolved.found.is_some_and(|found| needs(found.command, request, &resolved, is_meant));
        });
        is_needed
    }

    /// Returns a slot without an owner if a command would change the keys of all slots.
    pub(super) fn slot_in_the_way(&self, command: &Command) -> Option<Slot> {
        if changes_all(command) { self.roles.first_without_owner() } else { None }
    }
}

/// Returns true for a command that changes keys which it does not name: FLUSHALL.
fn changes_all(command: &Command) -> bool {
    command.keys == Keys::NONE && command.flags.has(Flags::WRITE)
}

fn needs(command: &Command, request: Request<'_>, resolved: &Resolved, is_meant: impl Fn(Slot) -> bool) -> bool {
    if changes_all(command) {
        return Slot::all().any(is_meant);
    }
    if resolved.is_one_slot {
        return resolved.key_count != 0 && is_meant(resolved.slot);
    }
    command.keys.indices(request.len()).any(|index| is_meant(Slot::of(request.arg(index))))
}
