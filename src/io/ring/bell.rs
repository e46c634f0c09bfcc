//! How a sleeping core is woken: an eventfd that the kernel writes to when something arrived on the ring, and that other
//! cores write to when they have put something into its mailbox.

use glommio::io::PollableFd;
use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Wakes a core from any thread.
#[derive(Debug)]
pub struct Bell {
    eventfd: File,
    /// Set by the sleeper before it looks for work for the last time; taken by whoever rings.
    is_asleep: AtomicBool,
}

impl Bell {
    /// Wakes the core if it sleeps. To be called after the work was put where the core looks for it.
    #[inline]
    pub fn ring(&self) {
        // Orders the work before the look at the sleeper; `lie_down` is followed by the fence that pairs with it.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.is_asleep.load(Ordering::Relaxed) && self.is_asleep.swap(false, Ordering::Relaxed) {
            // Fails only where the counter is full, and then the bell is ringing.
            let _ = (&self.eventfd).write(&1_u64.to_ne_bytes());
        }
    }
}

/// The side that sleeps.
pub(super) struct Sleeper {
    bell: Arc<Bell>,
    pollable: PollableFd<OwnedFd>,
}

impl Sleeper {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: a call without pointers.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `eventfd` has just returned it, and nobody else knows of it.
        let eventfd = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let pollable = PollableFd::new(eventfd.try_clone()?).map_err(|error| io::Error::other(error.to_string()))?;
        let bell = Arc::new(Bell { eventfd: File::from(eventfd), is_asleep: AtomicBool::new(false) });
        Ok(Self { bell, pollable })
    }

    pub(super) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.bell.eventfd.as_raw_fd()
    }

    /// From now on the bell rings. Look for work once more, behind a fence, before you sleep.
    pub(super) fn lie_down(&self) {
        self.bell.is_asleep.store(true, Ordering::Relaxed);
    }

    pub(super) fn get_up(&self) {
        self.bell.is_asleep.store(false, Ordering::Relaxed);
    }

    /// Returns when the bell has rung, and silences it.
    pub(super) async fn sleep(&self) -> io::Result<()> {
        self.pollable.readable().await.map_err(|error| io::Error::other(error.to_string()))?;
        // Read before the ring is entered, never after: what comes between rings again. Empty where we were woken by
        // something else, which is no harm.
        let _ = (&self.bell.eventfd).read(&mut [0; 8]);
        Ok(())
    }
}
