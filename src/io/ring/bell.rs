//! How a core that waits is woken by another: with an eventfd, and which one depends on how it waits.
//!
//! A core that sleeps in glommio waits for the eventfd that the kernel writes to when something has arrived on the ring;
//! others write to the same. A core that naps in its ring waits for completions, so the ring polls a second eventfd. One for
//! both can't be had: the completion of such a poll would have to announce itself from within a write to an eventfd. On
//! Linux 6.18 such announcements were seen to get lost: a core slept on though its bell had been rung.

use glommio::io::PollableFd;
use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering, fence},
    },
};

const AWAKE: u8 = 0;
const NAPPING: u8 = 1;
const SLEEPING: u8 = 2;

/// Wakes a core from any thread.
#[derive(Debug)]
pub struct Bell {
    /// Written to for a core that naps.
    nap: File,
    /// Written to for a core that sleeps.
    sleep: File,
    /// How the core waits: set by it before it looks for work for the last time; taken by whoever rings.
    state: AtomicU8,
}

impl Bell {
    /// Wakes the core if it waits. To be called after the work was put where the core looks for it.
    #[inline]
    pub fn ring(&self) {
        // Orders the work before the look at the core; the fence in `lie_down` is the other half.
        fence(Ordering::SeqCst);
        let state = self.state.load(Ordering::Relaxed);
        if state != AWAKE && self.state.compare_exchange(state, AWAKE, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let eventfd = if state == NAPPING { &self.nap } else { &self.sleep };
            // Fails only where the counter is full, and then the bell is ringing.
            let _ = (&*eventfd).write(&1_u64.to_ne_bytes());
        }
    }
}

fn eventfd() -> io::Result<File> {
    // SAFETY: a call without pointers.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `eventfd` has just returned it, and nobody else knows of it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Takes what was written to an eventfd, if anything was.
fn silence(mut eventfd: &File) {
    let _ = eventfd.read(&mut [0; 8]);
}

/// The side that waits.
pub(super) struct Sleeper {
    bell: Arc<Bell>,
    sleep: PollableFd<File>,
}

impl Sleeper {
    pub(super) fn new() -> io::Result<Self> {
        let sleep = eventfd()?;
        let watched = PollableFd::new(sleep.try_clone()?).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { bell: Arc::new(Bell { nap: eventfd()?, sleep, state: AtomicU8::new(AWAKE) }), sleep: watched })
    }

    pub(super) fn bell(&self) -> Arc<Bell> {
        Arc::clone(&self.bell)
    }

    /// What the kernel is to write to when there is a completion.
    pub(super) fn for_sleep(&self) -> RawFd {
        self.bell.sleep.as_raw_fd()
    }

    /// What the ring is to poll.
    pub(super) fn for_nap(&self) -> RawFd {
        self.bell.nap.as_raw_fd()
    }

    /// From now on the bell ends a nap. Look for work once more before you take it.
    pub(super) fn lie_down_to_nap(&self) {
        self.lie_down(NAPPING);
    }

    /// From now on the bell ends a sleep. Look for work once more before it.
    pub(super) fn lie_down_to_sleep(&self) {
        self.lie_down(SLEEPING);
    }

    fn lie_down(&self, state: u8) {
        self.bell.state.store(state, Ordering::Relaxed);
        // Whoever has work puts it down and then looks at our state; we have set it and then look for work.
        fence(Ordering::SeqCst);
    }

    pub(super) fn get_up(&self) {
        self.bell.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Silences the bell that ended a nap.
    pub(super) fn silence(&self) {
        silence(&self.bell.nap);
    }

    /// Sleeps for no longer than it takes glommio to see that it need not.
    pub(super) async fn visit(&self) -> io::Result<()> {
        let _ = (&self.bell.sleep).write(&1_u64.to_ne_bytes());
        self.sleep().await
    }

    /// Returns when the bell has rung or the kernel has announced a completion.
    pub(super) async fn sleep(&self) -> io::Result<()> {
        self.sleep.readable().await.map_err(|error| io::Error::other(error.to_string()))?;
        // Read before the ring is entered, never after: what comes between rings again.
        silence(self.sleep.get_ref());
        Ok(())
    }
}
