//! The clock of the world: it stands still but for who looks at it, and is moved on to the next event.

use crate::{commands::Now, engine::Clock};
use std::cell::Cell;

/// 2001-09-09 01:46:40 UTC: when the world begins.
const BEGINNING_US: u64 = 1_000_000_000_000_000;

thread_local! {
    static NOW_US: Cell<u64> = const { Cell::new(0) };
    /// The time at which the process began that is looked at.
    static BEGAN_US: Cell<u64> = const { Cell::new(0) };
    static LOOK_US: Cell<u64> = const { Cell::new(1) };
}

/// The clock of the core that is having its turn.
pub(super) const CLOCK: Clock = Clock::new(look, |_| unreachable!("nobody asks for a pause"));

/// Begins anew. `look_us`: the time that passes with each look.
pub(super) fn reset(look_us: u64) {
    NOW_US.set(0);
    BEGAN_US.set(0);
    LOOK_US.set(look_us);
}

/// The time since the world began, in microseconds.
pub(super) fn now_us() -> u64 {
    NOW_US.get()
}

/// Goes on to this time, if it has not come.
pub(super) fn move_to(us: u64) {
    NOW_US.set(NOW_US.get().max(us));
}

/// The time, for a process that began then.
pub(super) fn now(began_us: u64) -> Now {
    BEGAN_US.set(began_us);
    Now { unix_us: BEGINNING_US + NOW_US.get(), monotonic_us: NOW_US.get() - began_us }
}

fn look() -> u64 {
    NOW_US.set(NOW_US.get() + LOOK_US.get());
    NOW_US.get() - BEGAN_US.get()
}
