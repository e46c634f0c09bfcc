//! The one timer that ends naps. To set one for each nap and to put it off again cost 5 to 10 % of the throughput of three
//! servers on one CPU, so one goes on while naps come and go.

use io_uring::types::Timespec;

/// After how long without anything a core that waits in its ring has to sleep in glommio: twice so long are glommio's timers
/// late, and files, at most. With 500 µs its interrupts were 3 to 4 % of the throughput of three servers on one CPU.
pub(super) static NAP: Timespec = Timespec::new().nsec(2_000_000);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Alarm {
    Off,
    /// The kernel has it, and nothing has happened since.
    Quiet,
    /// The kernel has it, and something has happened since.
    Disturbed,
    /// It went off, and nothing had happened since it was set.
    Over,
}

impl Alarm {
    /// Notes what a turn has found: that it went off, or that something else has happened.
    #[inline]
    pub(super) fn note(&mut self, has_gone_off: bool, has_happened: bool) {
        *self = match (*self, has_gone_off) {
            (Self::Quiet, false) if has_happened => Self::Disturbed,
            (Self::Quiet, true) if !has_happened => Self::Over,
            (Self::Quiet | Self::Disturbed, true) => Self::Off,
            (Self::Over, _) if has_happened => Self::Off,
            (state, _) => state,
        };
    }

    /// Whether there was silence for as long as a nap; asked once, the next nap sets it again.
    pub(super) fn take_over(&mut self) -> bool {
        let is_over = *self == Self::Over;
        if is_over {
            *self = Self::Off;
        }
        is_over
    }

    /// Has it set for a nap. Returns whether the kernel is to be told: not where it has it already.
    pub(super) fn set(&mut self) -> bool {
        let is_off = *self == Self::Off;
        if is_off {
            *self = Self::Quiet;
        }
        is_off
    }
}
