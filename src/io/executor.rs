//! The executor of a core: a thread, pinned by default, with glommio's reactor, in the one configuration that was found
//! to work.

use futures_lite::future::or;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement, PoolPlacement, timer::sleep};
use std::{cell::Cell, future::Future, io, num::NonZeroUsize, sync::mpsc, time::Duration};

/// The interval at which every executor wakes, even without work. glommio can go to sleep with a runnable task if its
/// preempt timer fires just before the first task runs; a timer that is always armed ends that sleep. It also bounds
/// the delay of things that a core only looks at while it does something else.
pub const HEARTBEAT: Duration = Duration::from_millis(5);
/// The interval at which an [idle](set_idle) executor wakes: the longest delay of a task that glommio has forgotten,
/// where nothing has arrived for a while. Four wake-ups a second cost next to nothing.
const IDLE_HEARTBEAT: Duration = Duration::from_millis(250);
/// The time after which glommio interrupts its tasks for the reactor. If a thread loses its CPU for that long at the
/// wrong moment, its executor goes to sleep with runnable tasks; at its very start there is not even a heartbeat. That
/// was seen with 2 ms on a busy machine, so the timer is long, and a busy loop visits the reactor by itself
/// (`Ring::visit_reactor`).
const PREEMPT_TIMER: Duration = Duration::from_millis(200);
/// The submissions that glommio's rings hold. Its default of 128 makes the log's segments wait.
const RING_DEPTH: usize = 1024;
/// The bytes of memory for direct I/O, per core. They count against RLIMIT_MEMLOCK; glommio's default of 10 MiB is
/// above the usual limit.
const IO_MEMORY: usize = 1 << 20;

/// Returns the CPUs that this process may run on: those of its cpuset and affinity, in ascending order. glommio's own
/// list has CPUs that a thread cannot be pinned to.
///
/// # Errors
/// Fails if the kernel does not report the affinity; not seen in practice.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Returns the number of CPUs that this process can keep busy, no more than [`allowed_cpus`]. A CPU quota of its
/// control groups counts in whole CPUs: with 1.5 CPUs, two cores would use up the quota of each period together, and
/// then both stand still.
pub fn usable_cpu_count() -> usize {
    std::thread::available_parallelism().map_or(usize::MAX, NonZeroUsize::get)
}

/// Starts a thread with an executor that runs `main` to its end, pinned to `cpu` if there is one, and returns when the
/// executor has begun.
///
/// # Errors
/// Fails if the thread cannot be created or pinned, or if io_uring is not available;
/// [`probe::way_out`](super::probe::way_out) says what to do about it.
pub fn start<G, F, T>(name: &str, cpu: impl Into<Option<usize>>, main: G) -> io::Result<ExecutorJoinHandle<T>>
where
    G: FnOnce() -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    start_with(name, cpu.into(), PREEMPT_TIMER, main)
}

thread_local! {
    /// True while this thread's executor has nothing to do.
    static IS_IDLE: Cell<bool> = const { Cell::new(false) };
}

/// Sets whether this core's executor is idle, and so the interval of its heartbeat, from the next beat on.
pub fn set_idle(is_idle: bool) {
    IS_IDLE.set(is_idle);
}

/// Waits for a [`HEARTBEAT`], or an [`IDLE_HEARTBEAT`]. The task that glommio forgets may be this one, whose timer has
/// fired by then; so there are later timers too, which fire only if beats are missing.
async fn beat() {
    let beat = if IS_IDLE.get() { IDLE_HEARTBEAT } else { HEARTBEAT };
    let later = or(sleep(beat * 4), or(sleep(beat * 20), sleep(beat * 200)));
    or(sleep(beat), later).await;
}

/// Starts an executor like [`start`], with another preempt timer: the test that shows why there is a heartbeat needs a
/// very short one.
///
/// # Errors
/// Fails like [`start`].
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
    // An executor without memory for its rings ends without an error, and whoever waits for its first message would
    // wait for ever.
    let (begin, begun) = mpsc::sync_channel(1);
    let executor = LocalExecutorBuilder::new(cpu.into().map_or(Placement::Unbound, Placement::Fixed))
        .name(name)
        .ring_depth(RING_DEPTH)
        .io_memory(IO_MEMORY)
        .preempt_timer(preempt)
        // The default pins the blocking thread to the same core, where it would wait for the executor.
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
        Err(_) => {
            Err(executor.join().err().map_or_else(|| io::Error::other("the executor ended before it began"), failed))
        }
    }
}
