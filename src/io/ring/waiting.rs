//! The two ways in which a core without work waits: naps in its own ring, then sleep in glommio.

use super::{ConnectionId, DisableEventfd as _, Operation, Ring, alarm};
use io_uring::{opcode, types};
use std::{io, time::Duration};

impl Ring {
    /// Waits in the ring itself until a completion arrives or the [`Bell`](super::Bell) is rung; no other task of the
    /// core runs meanwhile. Returns `false` at once if nothing has happened for two milliseconds, or at most twice
    /// that: the core is to sleep then. A nap is one system call, where [`wait`](Self::wait) costs glommio eight: it is
    /// for a core whose next request comes soon.
    ///
    /// # Errors
    /// Fails only if the ring itself is broken.
    pub fn nap(&mut self, has_work: impl FnOnce() -> bool) -> io::Result<bool> {
        if 0 < self.queued {
            return Ok(true);
        }
        if self.alarm.take_expired() {
            return Ok(false);
        }
        if self.alarm.set() {
            let timeout = opcode::Timeout::new(&raw const alarm::NAP).build();
            self.push(&timeout.user_data(Operation::Alarm.tag(ConnectionId { place: 0, generation: 0 })));
        }
        self.wait_in_ring(None, has_work)?;
        Ok(true)
    }

    /// Naps like [`nap`](Self::nap), but for no longer than `longest`: for a core that has to wake at a certain time,
    /// which costs a timer for each nap.
    ///
    /// # Errors
    /// Fails only if the ring itself is broken.
    pub fn nap_for(&mut self, longest: Duration) -> io::Result<()> {
        if self.queued == 0 { self.wait_in_ring(Some(longest), || false) } else { Ok(()) }
    }

    fn wait_in_ring(&mut self, longest: Option<Duration>, has_work: impl FnOnce() -> bool) -> io::Result<()> {
        self.sleeper.begin_nap();
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
        self.sleeper.end_wait();
        Ok(())
    }

    /// Lets the core's other tasks run, and glommio handle files and timers, which it does not do while a task runs.
    ///
    /// # Errors
    /// Fails only if the executor's own ring is broken.
    pub async fn visit_reactor(&mut self) -> io::Result<()> {
        self.sleeper.visit().await
    }

    /// Sleeps until a completion arrives or the [`Bell`](super::Bell) is rung; other tasks of the core run meanwhile.
    /// Returns at once if a completion has arrived, an operation is queued, or `has_work` returns true. It is called
    /// once the bell would end the sleep, so no work can be missed.
    ///
    /// # Errors
    /// Fails only if the executor's own ring is broken.
    pub async fn wait(&mut self, has_work: impl FnOnce() -> bool) -> io::Result<()> {
        if 0 < self.queued {
            return Ok(());
        }
        // The kernel, too, adds a completion first, and then reads whether to write to the eventfd.
        self.uring.completion().enable_eventfd();
        self.sleeper.begin_sleep();
        let slept = if self.has_arrivals() || has_work() { Ok(()) } else { self.sleeper.sleep().await };
        self.uring.completion_disable_eventfd();
        self.sleeper.end_wait();
        slept
    }

    #[inline]
    fn has_arrivals(&mut self) -> bool {
        !self.uring.completion().is_empty() || self.has_deferred()
    }
}
