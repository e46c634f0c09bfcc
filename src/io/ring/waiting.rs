//! How a core waits that has nothing to do: naps in its own ring, then sleep in glommio.

use super::{ConnectionId, DisableEventfd as _, Operation, Ring, alarm};
use io_uring::{opcode, types};
use std::{io, time::Duration};

impl Ring {
    /// Waits in the ring itself until something has arrived or the [`Bell`](super::Bell) is rung; no other task of the core runs
    /// meanwhile. Returns `false` at once where nothing has happened for two milliseconds, or at most twice that. One system
    /// call, where [`wait`](Self::wait) costs glommio eight: for a core whose next request is a moment away.
    ///
    /// # Errors
    /// Only where the ring itself is broken.
    pub fn nap(&mut self, has_work: impl FnOnce() -> bool) -> io::Result<bool> {
        if 0 < self.queued {
            return Ok(true);
        }
        if self.alarm.take_over() {
            return Ok(false);
        }
        if self.alarm.set() {
            let timeout = opcode::Timeout::new(&raw const alarm::NAP).build();
            self.push(&timeout.user_data(Operation::Alarm.tag(ConnectionId { place: 0, generation: 0 })));
        }
        self.doze(None, has_work)?;
        Ok(true)
    }

    /// As [`nap`](Self::nap), but for as long as this and no longer: for who has to wake at a moment, and pays for a timer.
    ///
    /// # Errors
    /// Only where the ring itself is broken.
    pub fn nap_for(&mut self, longest: Duration) -> io::Result<()> {
        if self.queued == 0 { self.doze(Some(longest), || false) } else { Ok(()) }
    }

    fn doze(&mut self, longest: Option<Duration>, has_work: impl FnOnce() -> bool) -> io::Result<()> {
        self.sleeper.lie_down_to_nap();
        if !self.has_arrivals() && !has_work() {
            let waited = match longest.map(types::Timespec::from) {
                None => self.uring.submit_and_wait(1),
                Some(longest) => {
                    self.uring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&longest))
                }
            };
            let is_over = |code| matches!(code, libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN);
            if let Err(error) = waited
                && !error.raw_os_error().is_some_and(is_over)
            {
                return Err(error);
            }
            self.queued = self.uring.submission().len();
        }
        self.sleeper.get_up();
        Ok(())
    }

    /// Lets the core's other tasks run, and glommio look after files and timers, which it does not while a task goes on.
    ///
    /// # Errors
    /// Only where the executor's own ring is broken.
    pub async fn visit_reactor(&mut self) -> io::Result<()> {
        self.sleeper.visit().await
    }

    /// Sleeps until something has arrived or the [`Bell`](super::Bell) is rung; other tasks of the core run meanwhile. Returns at
    /// once where something has arrived, something is queued, or `has_work` says so, which is asked when a bell would be heard.
    ///
    /// # Errors
    /// Only where the executor's own ring is broken.
    pub async fn wait(&mut self, has_work: impl FnOnce() -> bool) -> io::Result<()> {
        if 0 < self.queued {
            return Ok(());
        }
        // The kernel, too, announces work and then looks whether to ring.
        self.uring.completion().enable_eventfd();
        self.sleeper.lie_down_to_sleep();
        let slept = if self.has_arrivals() || has_work() { Ok(()) } else { self.sleeper.sleep().await };
        self.uring.completion_disable_eventfd();
        self.sleeper.get_up();
        slept
    }

    #[inline]
    fn has_arrivals(&mut self) -> bool {
        !self.uring.completion().is_empty() || self.has_deferred()
    }
}
