//! Evens out who owns how many slots, moving as few as possible.

use std::ops::Range;

/// Gives every slot an owner below `shards` so that loads differ by at most one. Of the slots that have an owner, no
/// more move than that needs; those that have none go next to their new owner's others where there is room.
pub(super) fn even_out(owners: &mut [Option<u16>], shards: usize) -> Vec<u16> {
    let weights = vec![1; shards];
    let targets = targets(&loads(owners, shards), &weights, owners.len());
    give_out(owners, &targets)
}

/// Gives every slot an owner so that each shard owns as many as its target says; the targets add up to all slots. Of the
/// slots that have an owner, no more move than that needs.
pub(super) fn give_out(owners: &mut [Option<u16>], targets: &[usize]) -> Vec<u16> {
    let loads = loads(owners, targets.len());
    let mut wanting: Vec<usize> =
        targets.iter().zip(&loads).map(|(target, load)| target.saturating_sub(*load)).collect();
    let mut surplus: Vec<usize> =
        targets.iter().zip(&loads).map(|(target, load)| load.saturating_sub(*target)).collect();
    // In the order of slots, so that what two neighbours release meets at their border and makes one range.
    let mut givers: Vec<u16> = owners.iter().flatten().copied().collect();
    givers.dedup();
    for giver in givers {
        let surplus = std::mem::take(&mut surplus[usize::from(giver)]);
        release(owners, giver, surplus);
    }
    give_to_neighbours(owners, &mut wanting);
    give_in_order(owners, &mut wanting);
    owners.iter().map(|owner| owner.expect("the shares add up to all slots")).collect()
}

/// Returns the number of slots that each shard ought to own, in proportion to its weight. What cannot be divided goes to
/// those that lose most by rounding, and among equals to those that own most already: each of them then keeps one slot more.
pub(super) fn targets(loads: &[usize], weights: &[u64], slots: usize) -> Vec<usize> {
    let total: u64 = weights.iter().sum();
    let quota = |weight: u64| (weight * slots as u64 / total, weight * slots as u64 % total);
    let mut targets: Vec<usize> = weights.iter().map(|&weight| quota(weight).0 as usize).collect();
    let left = slots - targets.iter().sum::<usize>();
    let mut by_need: Vec<usize> = (0..loads.len()).collect();
    by_need.sort_by_key(|&shard| std::cmp::Reverse((quota(weights[shard]).1, loads[shard])));
    for &shard in &by_need[..left] {
        targets[shard] += 1;
    }
    targets
}

pub(super) fn loads(owners: &[Option<u16>], shards: usize) -> Vec<usize> {
    let mut loads = vec![0; shards];
    for &owner in owners.iter().flatten() {
        loads[usize::from(owner)] += 1;
    }
    loads
}

/// Takes `surplus` slots from a shard: whole ranges while one fits, since a cut leaves a piece behind; then from an end
/// that touches free slots, so that the piece joins them.
fn release(owners: &mut [Option<u16>], giver: u16, mut surplus: usize) {
    while 0 < surplus {
        let ranges = ranges(owners, Some(giver));
        let is_free = |slot: Option<usize>| slot.and_then(|slot| owners.get(slot)).is_some_and(Option::is_none);
        let whole = ranges.iter().filter(|range| range.len() <= surplus).max_by_key(|range| range.len());
        let piece = if let Some(whole) = whole {
            whole.clone()
        } else if let Some(range) = ranges.iter().find(|range| is_free(range.start.checked_sub(1))) {
            range.start..range.start + surplus
        } else {
            let touching = ranges.iter().find(|range| is_free(Some(range.end)));
            let range = touching.or(ranges.last()).expect("who has a surplus has a range");
            range.end - surplus..range.end
        };
        surplus -= piece.len();
        owners[piece].fill(None);
    }
}

/// Gives free slots to the shards on either side, as far as these want any.
fn give_to_neighbours(owners: &mut [Option<u16>], wanting: &mut [usize]) {
    for mut free in ranges(owners, None) {
        if let Some(owner) = free.start.checked_sub(1).and_then(|slot| owners[slot]) {
            let share = free.len().min(wanting[usize::from(owner)]);
            owners[free.start..free.start + share].fill(Some(owner));
            wanting[usize::from(owner)] -= share;
            free.start += share;
        }
        if let Some(owner) = owners.get(free.end).copied().flatten() {
            let share = free.len().min(wanting[usize::from(owner)]);
            owners[free.end - share..free.end].fill(Some(owner));
            wanting[usize::from(owner)] -= share;
        }
    }
}

/// Gives the free slots that are left to the shards that still want some, both in order.
fn give_in_order(owners: &mut [Option<u16>], wanting: &mut [usize]) {
    let mut shard = 0;
    for owner in owners.iter_mut().filter(|owner| owner.is_none()) {
        while wanting[shard] == 0 {
            shard += 1;
        }
        wanting[shard] -= 1;
        *owner = Some(u16::try_from(shard).expect("there are no more shards than slots"));
    }
}

/// Returns the ranges of slots with this owner, or with none.
fn ranges(owners: &[Option<u16>], of: Option<u16>) -> Vec<Range<usize>> {
    let mut start = 0;
    let chunks = owners.chunk_by(|left, right| left == right);
    chunks
        .filter_map(|chunk| {
            let range = start..start + chunk.len();
            start = range.end;
            (chunk[0] == of).then_some(range)
        })
        .collect()
}
