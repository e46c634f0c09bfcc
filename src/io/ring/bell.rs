//! The bell: another thread wakes a waiting core by a write to an eventfd, which depends on how the core waits.
//!
//! A core that sleeps in glommio waits for the eventfd that the kernel writes to when a completion has arrived on the
//! ring; other threads write to the same. A core that naps in its ring waits for completions, so the ring polls a
//! second eventfd. One eventfd cannot serve both: the completion of such a poll would have to be announced from within
//! a write to an eventfd. On Linux 6.18 such announcements were seen to get lost: a core slept on though its bell had
//! been rung.

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
    /// The way in which the core waits. The core sets it before it looks for work for the last time; the thread that
    /// rings resets it.
    state: AtomicU8,
}

impl Bell {
    /// Wakes the core if it waits. To be called after the work was put where the core looks for it.
    #[inline]
    pub fn ring(&self) {
        // Orders the work before the load of the state; the fence in `begin_wait` is the other half.
        fence(Ordering::SeqCst);
        let state = self.state.load(Ordering::Relaxed);
        if state != AWAKE && self.state.compare_exchange(state, AWAKE, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let eventfd = if state == NAPPING { &self.nap } else { &self.sleep };
            // Fails only if the counter is full, and then the eventfd is readable already.
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
    // SAFETY: `eventfd` has just returned it, and nothing else uses it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Resets an eventfd.
fn reset(mut eventfd: &File) {
    let _ = eventfd.read(&mut [0; 8]);
}

/// The core's side of the bell: it waits.
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

    /// Returns the eventfd that the kernel must write to when there is a completion.
    pub(super) fn for_sleep(&self) -> RawFd {
        self.bell.sleep.as_raw_fd()
    }

    /// Returns the eventfd that the ring must poll.
    pub(super) fn for_nap(&self) -> RawFd {
        self.bell.nap.as_raw_fd()
    }

    /// Makes the bell end a nap from now on. The caller must look for work once more before it naps.
    pub(super) fn begin_nap(&self) {
        self.begin_wait(NAPPING);
    }

    /// Makes the bell end a sleep from now on. The caller must look for work once more before it sleeps.
    pub(super) fn begin_sleep(&self) {
        self.begin_wait(SLEEPING);
    }

    fn begin_wait(&self, state: u8) {
        self.bell.state.store(state, Ordering::Relaxed);
        // A thread with work first puts it where the core looks for it, then reads the state; the core sets the state
        // first, then looks for work.
        fence(Ordering::SeqCst);
    }

    pub(super) fn end_wait(&self) {
        self.bell.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Resets the eventfd whose write has ended a nap.
    pub(super) fn reset_nap(&self) {
        reset(&self.bell.nap);
    }

    /// Sleeps until glommio's reactor has run once: the eventfd is written to beforehand.
    pub(super) async fn visit(&self) -> io::Result<()> {
        let _ = (&self.bell.sleep).write(&1_u64.to_ne_bytes());
        self.sleep().await
    }

    /// Sleeps until the bell has rung or the kernel has announced a completion.
    pub(super) async fn sleep(&self) -> io::Result<()> {
        self.sleep.readable().await.map_err(|error| io::Error::other(error.to_string()))?;
        // Read before the ring is entered, never after: a completion in between must write to it again.
        reset(self.sleep.get_ref());
        Ok(())
    }
}
