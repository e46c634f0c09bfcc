//! The executor of a core: a thread, pinned by default, with glommio's reactor, set up in the one way that was found to work.

use futures_lite::future::or;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, PoolPlacement, timer::sleep};
use std::{cell::Cell, future::Future, io, num::NonZeroUsize, sync::mpsc, time::Duration};

/// How often every executor wakes, whatever happens. glommio can go to sleep with a runnable task where its preempt timer
/// fires just before the first task runs; a timer that is always armed ends that sleep. It also bounds how late a core
/// notices what is only looked at in passing.
pub const HEARTBEAT: Duration = Duration::from_millis(5);
/// ... and how often one that is [idle](set_idle): so late may a forgotten task be where nothing has come for a while. Four
/// wake-ups a second cost next to nothing.
const IDLE_HEARTBEAT: Duration = Duration::from_millis(250);
/// After how long without the reactor glommio interrupts its tasks. Where a thread loses its CPU for that long at the wrong
/// moment, its executor goes to sleep with runnable tasks, at its very start even before there is a heartbeat; with 2 ms that
/// was seen on a busy machine, so it is long, and a loop that is busy visits the reactor by itself (`Ring::visit_reactor`).
const PREEMPT_TIMER: Duration = Duration::from_millis(200);
/// Submissions of glommio's rings; 128, its default, makes a log's segments wait.
const RING_DEPTH: usize = 1024;
/// Memory for direct I/O, per core, counted against RLIMIT_MEMLOCK; glommio's default of 10 MiB is over the usual limit.
const IO_MEMORY: usize = 1 << 20;

/// Returns the CPUs that this process may run on: those of its cpuset and affinity, in ascending order. glommio's own list
/// has CPUs that pinning is then refused.
///
/// # Errors
/// What the kernel says; not seen in practice.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Returns the number of CPUs that this process can keep busy, no more than [`allowed_cpus`]: a CPU quota of its control groups
/// counts by whole CPUs. Of 1.5 CPUs two cores would use up each period's time together, and then both stand still.
pub fn usable_cpu_count() -> usize {
    std::thread::available_parallelism().map_or(usize::MAX, NonZeroUsize::get)
}

/// Starts a thread with an executor that runs `main` to its end, on `cpu` or, without one, wherever the kernel likes, and returns
/// when that has begun.
///
/// # Errors
/// Where the thread can't be made or pinned, or io_uring can't be had; [`probe::way_out`](super::probe::way_out) has more to say.
pub fn start<G, F, T>(name: &str, cpu: impl Into<Option<usize>>, main: G) -> io::Result<ExecutorJoinHandle<T>>
where
    G: FnOnce() -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    start_with(name, cpu.into(), PREEMPT_TIMER, main)
}

thread_local! {
    /// Whether this thread's executor has nothing to do for the time being.
    static IS_IDLE: Cell<bool> = const { Cell::new(false) };
}

/// Has this core's executor beat slowly, or as it usually does from the next beat on.
pub fn set_idle(is_idle: bool) {
    IS_IDLE.set(is_idle);
}

/// Waits for a [`HEARTBEAT`], or an [`IDLE_HEARTBEAT`]. The task that is forgotten may be this one, and its timer is spent by then; so there are later
/// ones, which fire only where beats are missing.
async fn beat() {
    let beat = if IS_IDLE.get() { IDLE_HEARTBEAT } else { HEARTBEAT };
    let later = or(sleep(beat * 4), or(sleep(beat * 20), sleep(beat * 200)));
    or(sleep(beat), later).await;
}

/// As [`start`], with another preempt timer: the test that shows why there is a heartbeat wants a very short one.
///
/// # Errors
/// As [`start`].
pub fn start_with<G, F, T>(
    name: &str,
    cpu: impl Into<Option<usize>>,
    preempt: Duration,
    main: G,
) -> io::Result<ExecutorJoinHandle<T>>
where
    G: FnOnce() -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let failed = |error: glommio::GlommioError<()>| io::Error::other(error.to_string());
    // An executor without memory for its rings ends without a word, and what waits for news of it would do so for ever.
    let (begin, begun) = mpsc::sync_channel(1);
    let executor = LocalExecutorBuilder::new(cpu.into().map_or(Placement::Unbound, Placement::Fixed))
        .name(name)
        .ring_depth(RING_DEPTH)
        .io_memory(IO_MEMORY)
        .preempt_timer(preempt)
        // The default pins the blocking thread to the same core, where it would wait for us.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .spawn(move || async move {
            let _ = begin.send(());
            let heartbeat = glommio::spawn_local(async {
                loop {
                    beat().await;
                }
            });
            let output = main().await;
            heartbeat.cancel().await;
            output
        })
        .map_err(failed)?;
    match begun.recv() {
        Ok(()) => Ok(executor),
        Err(_) => Err(executor.join().err().map_or_else(|| io::Error::other("it ended before it began"), failed)),
    }
}
