//! The one timer that ends naps. A timer for each nap, set and cancelled again, cost 5 to 10 % of the throughput of
//! three servers on one CPU, so one timer runs on while naps come and go.

use io_uring::types::Timespec;

/// The time without events after which a core that naps in its ring must sleep in glommio instead. Meanwhile glommio's
/// timers and files wait, for twice that time at most. With 500 µs the timer's interrupts cost 3 to 4 % of the
/// throughput of three servers on one CPU.
pub(super) static NAP: Timespec = Timespec::new().nsec(2_000_000);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Alarm {
    Off,
    /// The kernel has the timer, and nothing has happened since it was set.
    Quiet,
    /// The kernel has the timer, and something has happened since it was set.
    Disturbed,
    /// The timer has fired, and nothing had happened since it was set.
    Expired,
}

impl Alarm {
    /// Notes the completions of a turn: `has_fired` if the timer's was among them, `has_happened` if there were
    /// others.
    #[inline]
    pub(super) fn note(&mut self, has_fired: bool, has_happened: bool) {
        *self = match (*self, has_fired) {
            (Self::Quiet, false) if has_happened => Self::Disturbed,
            (Self::Quiet, true) if !has_happened => Self::Expired,
            (Self::Quiet | Self::Disturbed, true) => Self::Off,
            (Self::Expired, _) if has_happened => Self::Off,
            (state, _) => state,
        };
    }

    /// Returns true if nothing has happened for as long as a nap lasts. The state is `Off` then, and the next nap sets
    /// the timer again.
    pub(super) fn take_expired(&mut self) -> bool {
        let is_expired = *self == Self::Expired;
        if is_expired {
            *self = Self::Off;
        }
        is_expired
    }

    /// Notes that a nap begins. Returns true if a timer must be submitted for it: not if the kernel has one already.
    pub(super) fn set(&mut self) -> bool {
        let is_off = *self == Self::Off;
        if is_off {
            *self = Self::Quiet;
        }
        is_off
    }
}
