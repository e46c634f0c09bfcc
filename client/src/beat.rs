//! A beat that wakes a ring's core, also where glommio forgets that it has something to run.

use futures_lite::future::or;
use glommio::timer::sleep;
use std::{sync::Arc, time::Duration};
use trine::io::ring::Bell;

/// Rings the bell every `period`, for ever: a task that sleeps on the ring looks around so often at least.
///
/// glommio (glommio-ng 0.12.0) goes to sleep with runnable tasks where its thread loses the CPU for longer than the preempt
/// timer just before the first of them would have run: `run_task_queues` sees the preemption and says that nothing ran. The
/// timer that woke the forgotten task is spent by then, so one timer that is armed again by its own task is no way out.
/// There must be a later one: each beat arms three, and they fire only where beats are missing.
pub async fn beat(bell: Arc<Bell>, period: Duration) {
    loop {
        let later = or(sleep(period * 2), or(sleep(period * 20), sleep(period * 2000)));
        or(sleep(period), later).await;
        bell.ring();
    }
}
