//! Conducts the executors through the phases, and adds up what they count.

use super::{
    crew::{Due, Orders},
    engine::{self, Clock, Done, News, Phase, Setup},
    hlog::HistogramLog,
    progress::{Progress, Second},
    random::Random,
    schedule::{Arrivals, Schedule},
    source::{Rounds, Source},
    tally::{Tally, both},
    target::Target,
    verdict::{LoadCpu, STARVED_MAX},
    wire::Wire,
    workload::{Batch, Distribution, ValueSize, Workload},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};
use trine::io::{probe, processes::Snapshot};
use trine_client::{Options, pipeline::Nanos};

/// Executors begin a phase so much after they were told: all of them together.
const LEAD: Duration = Duration::from_millis(2);
/// Loading and verifying keep at least so many requests in flight per client.
const BULK_DEPTH: usize = 32;
/// The number of requests in flight altogether while writing or reading all keys, where clients are few: a single client with a
/// short pipeline would spend its time waiting.
const BULK_IN_FLIGHT: usize = 512;
/// The bytes of values in flight while writing or reading all keys, which limit [`BULK_IN_FLIGHT`].
const BULK_BYTES: usize = 1 << 20;
/// A process that used less of one of our CPUs is not named.
const OTHER_MIN: f64 = 0.02;
/// So many processes are named.
const OTHERS_MAX: usize = 3;
/// The time between two drawings of the progress line.
const PROGRESS: Duration = Duration::from_millis(200);
/// The bits of a writer's number that tell executors of a run apart; sixteen more tell runs apart.
const EXECUTOR_BITS: u32 = 8;

/// The measurement to make.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cpus: Vec<usize>,
    pub(crate) concurrency: usize,
    pub(crate) pipeline: usize,
    pub(crate) keys: u64,
    pub(crate) read_share: f64,
    pub(crate) distribution: Distribution,
    pub(crate) batch: Batch,
    pub(crate) sizes: ValueSize,
    pub(crate) seed: u64,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// Instead of a duration: so many operations of each kind for every client, on keys of its own.
    pub(crate) operations: Option<u64>,
    pub(crate) allow_misses: bool,
    pub(crate) options: Options,
    pub(crate) wire: Wire,
    pub(crate) wants_hlog: bool,
}

impl Plan {
    /// Returns the number of requests that each client keeps in flight while it writes or reads all keys.
    fn bulk_depth(&self) -> usize {
        let together = BULK_IN_FLIGHT.min(BULK_BYTES / self.sizes.typical().max(1) as usize);
        self.pipeline.max(BULK_DEPTH).max(together / self.concurrency.max(1))
    }
}

/// The outcome of a phase.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) tally: Tally,
    pub(crate) seconds: Vec<Second>,
    pub(crate) cpus: Vec<LoadCpu>,
    /// Requests of an open loop that were due while measuring.
    pub(crate) due: Due,
    /// The whole phase, for loading and verifying.
    pub(crate) took: Duration,
    /// The time at which it was cut short, if it was.
    cut: Option<Nanos>,
    pub(crate) hlog: Vec<u8>,
}

impl Measured {
    /// Names the processes that used our CPUs too, since a snapshot from before the phase.
    fn name_others(&mut self, before: &Snapshot) {
        if self.cpus.iter().all(|cpu| cpu.starved <= STARVED_MAX) {
            return;
        }
        let now = Snapshot::take();
        for cpu in &mut self.cpus {
            let users = now.since(before, Some(cpu.cpu)).into_iter().filter(|user| OTHER_MIN < user.share);
            cpu.others = users.take(OTHERS_MAX).map(|user| format!("process {} ({})", user.pid, user.name)).collect();
        }
    }
}

struct Executor {
    phases: mpsc::Sender<Phase>,
    spares: mpsc::Sender<Box<Tally>>,
    answered: Arc<AtomicU64>,
}

/// All executors of a run.
pub(crate) struct Conductor {
    plan: Plan,
    executors: Vec<Executor>,
    news: mpsc::Receiver<(usize, News)>,
    clock: Clock,
    progress: Progress,
    interrupt: Arc<AtomicBool>,
}

impl Conductor {
    /// Starts the executors and waits until all are connected. Once `interrupt` is set phases are cut short.
    ///
    /// # Errors
    /// What is in the way, for people.
    pub(crate) fn start(
        mut plan: Plan,
        target: &Target,
        progress: Progress,
        interrupt: Arc<AtomicBool>,
    ) -> Result<Self, String> {
        // An executor without a client would have nothing to do.
        plan.cpus.truncate(plan.concurrency);
        let (send, news) = mpsc::channel();
        let clock = Clock(Instant::now());
        let run = (rand_run() & 0xffff) << EXECUTOR_BITS;
        let mut conductor = Self { executors: Vec::new(), news, clock, progress, plan, interrupt };
        for (index, &cpu) in conductor.plan.cpus.iter().enumerate() {
            let plan = &conductor.plan;
            let (phases_out, phases) = mpsc::channel();
            let (spares_out, spares) = mpsc::channel();
            let answered = Arc::new(AtomicU64::new(0));
            let orders = Orders {
                workers: share(plan.concurrency, index, plan.cpus.len()),
                placement: target.placement.clone(),
                follow: target.follows(),
                is_fresh: plan.operations.is_some(),
                timeout: plan.options.timeout,
                batch: plan.batch,
                allow_misses: plan.allow_misses,
                writer: run | (index as u64 & ((1 << EXECUTOR_BITS) - 1)),
            };
            let (news, setup) = (
                send.clone(),
                Setup {
                    cpu,
                    clock,
                    orders,
                    options: plan.options.clone(),
                    protocol: target.protocol,
                    routing: target.routing.clone(),
                    wire: plan.wire.clone(),
                    keys: plan.keys,
                    phases,
                    spares,
                    answered: Arc::clone(&answered),
                    interrupt: Arc::clone(&conductor.interrupt),
                },
            );
            let main = move || engine::run(setup, move |told| news.send((index, told)).is_ok());
            trine::io::executor::start(&format!("load-{cpu}"), cpu, main).map_err(|error| {
                format!("no executor can be started on CPU {cpu}: {error}{}", probe::way_out(&error))
            })?;
            conductor.executors.push(Executor { phases: phases_out, spares: spares_out, answered });
        }
        drop(send);
        for _ in 0..conductor.executors.len() {
            match conductor.news.recv() {
                Ok((_, News::Ready)) => {}
                Ok((_, News::Failed(error))) => return Err(error),
                _ => return Err("an executor ended before it began".into()),
            }
        }
        Ok(conductor)
    }

    /// Returns true if phases are cut short from now on.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// Writes every key once.
    pub(crate) fn load(&mut self) -> Result<Measured, String> {
        let (plan, count) = (self.plan.clone(), self.executors.len() as u64);
        self.conduct("load", Some(plan.keys), false, |index| {
            let (next, end) = (plan.keys * index / count, plan.keys * (index + 1) / count);
            let random = Random::new(plan.seed, 1000 + index);
            let source = Source::Load { next, end, sizes: plan.sizes.clone(), random };
            (source, plan.bulk_depth(), None, None)
        })
    }

    /// Reads every key back.
    pub(crate) fn verify(&mut self) -> Result<Measured, String> {
        let (plan, count) = (self.plan.clone(), self.executors.len() as u64);
        self.conduct("verify", Some(plan.keys), false, |index| {
            let source = Source::Verify { next: plan.keys * index / count, end: plan.keys * (index + 1) / count };
            (source, plan.bulk_depth(), None, None)
        })
    }

    /// Warms up and measures: a closed loop, or an open one with a rate.
    pub(crate) fn measure(&mut self, open: Option<(f64, Arrivals)>) -> Result<Measured, String> {
        let (plan, count) = (self.plan.clone(), self.executors.len() as u64);
        let before = Snapshot::take();
        let begin = self.clock.now().after(LEAD);
        let start = begin.after(plan.warmup);
        let window = (start, start.after(plan.duration));
        let label = open.map_or("measure".into(), |(rate, _)| format!("measure at {rate:.0}/s"));
        let mut measured = self.conduct(&label, None, true, |index| {
            let random = |stream: u64| Random::new(plan.seed, stream * 1000 + index);
            let workload = Workload::new(plan.keys, plan.read_share, plan.distribution, (index, count), random(2));
            let schedule = open.map(|(rate, arrivals)| {
                let share = rate / count as f64;
                Schedule::new(arrivals, share, begin, index as f64 / count as f64, random(3))
            });
            let source = Source::Draw { workload, sizes: plan.sizes.clone(), random: random(4) };
            (source, plan.pipeline, schedule, Some((begin, window)))
        })?;
        measured.name_others(&before);
        measured.took = measured.cut.map_or(plan.duration, |cut| {
            // During the warm-up nothing has been measured yet.
            Duration::from_nanos(cut.since(start)).min(plan.duration)
        });
        Ok(measured)
    }

    /// Measures a number of operations: each client writes so many keys of its own and then reads each of them.
    pub(crate) fn rounds(&mut self, operations: u64) -> Result<Measured, String> {
        let (plan, count) = (self.plan.clone(), self.executors.len());
        let before = Snapshot::take();
        let begin = self.clock.now().after(LEAD);
        let workers: Vec<usize> = (0..count).map(|index| share(plan.concurrency, index, count)).collect();
        let expected = 2 * operations * plan.concurrency as u64;
        let mut measured = self.conduct("measure", Some(expected), true, |index| {
            let first: usize = workers[..index as usize].iter().sum();
            let random = Random::new(plan.seed, 4000 + index);
            let rounds = Rounds::new(operations, first as u64, workers[index as usize], plan.sizes.clone(), random);
            (Source::Rounds(rounds), plan.pipeline, None, Some((begin, (begin, Nanos(u64::MAX)))))
        })?;
        measured.name_others(&before);
        let [reads, writes] = measured.tally.spans;
        measured.took = reads.and(writes).length();
        Ok(measured)
    }

    fn conduct(
        &mut self,
        label: &str,
        expected: Option<u64>,
        is_measured: bool,
        part: impl Fn(u64) -> (Source, usize, Option<Schedule>, Option<(Nanos, (Nanos, Nanos))>),
    ) -> Result<Measured, String> {
        let begun = Instant::now();
        let before = self.answered();
        let soon = self.clock.now().after(LEAD);
        let mut start = soon;
        for (index, executor) in self.executors.iter().enumerate() {
            let (source, depth, schedule, times) = part(index as u64);
            let (begin, window) = times.map_or((soon, None), |(begin, window)| (begin, Some(window)));
            start = window.map_or(begin, |window| window.0);
            let _ = executor.phases.send(Phase { source, depth, schedule, begin, window });
        }
        let mut sum = Sum::new(self.executors.len(), is_measured && self.plan.wants_hlog, &self.plan);
        while sum.done < self.executors.len() {
            match self.news.recv_timeout(PROGRESS) {
                Ok((_, News::Ready)) => {}
                Ok((_, News::Failed(error))) => return Err(error),
                Ok((index, News::Second(tally))) => {
                    sum.second(&tally);
                    let mut spare = tally;
                    spare.clear();
                    let _ = self.executors[index].spares.send(spare);
                }
                Ok((_, News::Done(done))) => sum.finish(*done),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let answered = self.answered() - before;
                    let state = if is_measured && self.clock.now() < start { "warm-up" } else { label };
                    self.progress.show(state, answered, expected, begun.elapsed(), sum.last_second());
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err("an executor has ended early".into()),
            }
        }
        self.progress.clear();
        // A number of operations takes as long as it takes, and what was cut short as long as it took.
        let whole = match sum.measured.cut {
            _ if self.plan.operations.is_some() => Duration::MAX,
            Some(cut) => Duration::from_nanos(cut.since(start)).min(self.plan.duration),
            None => self.plan.duration,
        };
        Ok(sum.end(begun.elapsed(), whole))
    }

    fn answered(&self) -> u64 {
        self.executors.iter().map(|executor| executor.answered.load(Ordering::Relaxed)).sum()
    }
}

/// Adds up what executors tell.
struct Sum {
    executors: usize,
    done: usize,
    measured: Measured,
    /// Seconds that some executors have told of, and how many.
    open: BTreeMap<u64, (usize, Tally)>,
    hlog: Option<HistogramLog>,
}

impl Sum {
    fn new(executors: usize, wants_hlog: bool, plan: &Plan) -> Self {
        let hlog = wants_hlog.then(|| HistogramLog::begin(plan.warmup));
        Self { executors, done: 0, measured: Measured::default(), open: BTreeMap::new(), hlog }
    }

    fn second(&mut self, tally: &Tally) {
        let (told, sum) = self.open.entry(tally.second).or_default();
        sum.add(tally);
        *told += 1;
        if *told == self.executors {
            self.close(tally.second);
        }
    }

    fn close(&mut self, second: u64) {
        let Some((_, tally)) = self.open.remove(&second) else { return };
        let latencies = both(&tally.since_due);
        let at = |quantile| (!latencies.is_empty()).then(|| latencies.value_at_quantile(quantile) as f64 / 1e3);
        self.measured.seconds.push(Second { ops: tally.operations.iter().sum(), p50_us: at(0.5), p99_us: at(0.99) });
        if let Some(hlog) = &mut self.hlog {
            hlog.write(second, &tally);
        }
        self.measured.tally.add(&tally);
    }

    fn last_second(&self) -> Option<Second> {
        self.measured.seconds.last().copied()
    }

    fn finish(&mut self, done: Done) {
        self.second(&done.tally);
        self.measured.cpus.push(LoadCpu { cpu: done.cpu, busy: done.busy, starved: done.starved, others: Vec::new() });
        self.measured.due.all += done.due.all;
        self.measured.due.unsent += done.due.unsent;
        self.measured.cut = self.measured.cut.max(done.cut);
        self.done += 1;
    }

    fn end(mut self, took: Duration, duration: Duration) -> Measured {
        let whole = self.measured.seconds.len();
        while let Some((&second, _)) = self.open.first_key_value() {
            self.close(second);
        }
        // The last second has what came after the end; the rest of a second that was none is no point of a series.
        let seconds = if duration == Duration::MAX { whole } else { duration.as_secs() as usize };
        self.measured.seconds.truncate(seconds);
        self.measured.cpus.sort_by_key(|cpu| cpu.cpu);
        self.measured.took = took;
        self.measured.hlog = self.hlog.map(HistogramLog::end).unwrap_or_default();
        self.measured
    }
}

/// The part of `total` that falls to one of `count`.
fn share(total: usize, index: usize, count: usize) -> usize {
    total / count + usize::from(index < total % count)
}

/// Something that no other run has, to tell its values from ours.
pub(crate) fn rand_run() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    super::random::mix(since.as_nanos() as u64 ^ u64::from(std::process::id()))
}
