//! When and how often an entry was used: what three bytes of it mean.

use super::{Access, Entry, Policy, UnixMillis};

/// An entry's counter when it is made: not the first to go (Redis: `LFU_INIT_VAL`).
pub(super) const LFU_INITIAL: u8 = 5;

/// The use of an entry that has just been made.
#[inline]
pub(super) fn fresh_access(policy: &Policy, now: UnixMillis) -> Access {
    if policy.counts_uses { minutes(now, LFU_INITIAL) } else { seconds(now) }
}

/// Notes a use: the time, or a counter that grows the more slowly the larger it is.
#[inline]
pub(super) fn touch(entry: &mut Entry, policy: &Policy, random: &mut fastrand::Rng, now: UnixMillis) {
    if !policy.counts_uses {
        return entry.set_access(seconds(now));
    }
    let counter = frequency(entry.access(), policy, now);
    let base = u32::from(counter.saturating_sub(LFU_INITIAL));
    let odds = base.saturating_mul(policy.lfu_log_factor).saturating_add(1);
    let counter = if random.u32(..odds) == 0 { counter.saturating_add(1) } else { counter };
    entry.set_access(minutes(now, counter));
}

fn seconds(now: UnixMillis) -> Access {
    let [low, middle, high, ..] = (now.0 / 1000).to_le_bytes();
    Access([low, middle, high])
}

pub(super) fn minutes(now: UnixMillis, counter: u8) -> Access {
    let [low, high, ..] = (now.0 / 60_000).to_le_bytes();
    Access([low, high, counter])
}

/// How often an entry was used, on a logarithmic scale and lowered for the time that it was not (`OBJECT FREQ`). Means
/// something where [`Policy::counts_uses`] only.
pub fn frequency(access: Access, policy: &Policy, now: UnixMillis) -> u8 {
    let Access([low, high, counter]) = access;
    let elapsed = ((now.0 / 60_000) as u16).wrapping_sub(u16::from_le_bytes([low, high]));
    match u32::from(elapsed).checked_div(policy.lfu_decay_minutes) {
        Some(periods) => counter.saturating_sub(u8::try_from(periods).unwrap_or(u8::MAX)),
        None => counter,
    }
}

/// Seconds since an entry was used (`OBJECT IDLETIME`), modulo 194 days. Means nothing where [`Policy::counts_uses`].
pub fn idle_seconds(access: Access, now: UnixMillis) -> u64 {
    let Access([low, middle, high]) = access;
    let then = u64::from(u32::from_le_bytes([low, middle, high, 0]));
    (now.0 / 1000).wrapping_sub(then) & 0xff_ffff
}
