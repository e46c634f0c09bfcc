//! The use of an entry: the encoding of when and how often it was used, in three bytes.

use super::{Access, Entry, Policy, UnixMillis};

/// The use counter of a new entry: high enough that it is not evicted first (Redis: `LFU_INIT_VAL`).
pub(super) const LFU_INITIAL: u8 = 5;

/// Returns the access data of a new entry.
#[inline]
pub(super) fn fresh_access(policy: &Policy, now: UnixMillis) -> Access {
    if policy.counts_uses { minutes(now, LFU_INITIAL) } else { seconds(now) }
}

/// Notes a use of an entry: sets the time, or increments the counter with a probability that is lower the larger it is.
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

/// Returns access data with a time in seconds.
fn seconds(now: UnixMillis) -> Access {
    let [low, middle, high, ..] = (now.0 / 1000).to_le_bytes();
    Access([low, middle, high])
}

/// Returns access data with a time in minutes and a counter.
pub(super) fn minutes(now: UnixMillis, counter: u8) -> Access {
    let [low, high, ..] = (now.0 / 60_000).to_le_bytes();
    Access([low, high, counter])
}

/// Returns an entry's use counter, which is logarithmic and decays while the entry is not used (`OBJECT FREQ`). Only meaningful
/// with [`Policy::counts_uses`].
pub fn frequency(access: Access, policy: &Policy, now: UnixMillis) -> u8 {
    let Access([low, high, counter]) = access;
    let elapsed = ((now.0 / 60_000) as u16).wrapping_sub(u16::from_le_bytes([low, high]));
    match u32::from(elapsed).checked_div(policy.lfu_decay_minutes) {
        Some(periods) => counter.saturating_sub(u8::try_from(periods).unwrap_or(u8::MAX)),
        None => counter,
    }
}

/// Returns the seconds since an entry was used (`OBJECT IDLETIME`), modulo 194 days. Only meaningful without
/// [`Policy::counts_uses`].
pub fn idle_seconds(access: Access, now: UnixMillis) -> u64 {
    let Access([low, middle, high]) = access;
    let then = u64::from(u32::from_le_bytes([low, middle, high, 0]));
    (now.0 / 1000).wrapping_sub(then) & 0xff_ffff
}
