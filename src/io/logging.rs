//! The log on standard error: best effort, so that a core is never kept waiting by it, and never ended.
//!
//! A core formats its line and puts it into a queue; a thread of its own, on no core, writes it. Where the queue is full, or
//! the write fails (a full disk, a reader that has gone), the line is dropped and counted, and the next line that can be
//! written is followed by one that tells how many were.

use std::{
    env,
    io::{self, ErrorKind, IsTerminal as _, Write},
    panic,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Lines that wait for the thread. With [`LINE_BYTES_MAX`] they take 8 MiB at most.
const QUEUE_LINES: usize = 1024;
/// A longer line is cut.
const LINE_BYTES_MAX: usize = 8 << 10;
/// The longest time that a process which ends waits for its last lines to be written.
const FLUSH_WITHIN: Duration = Duration::from_millis(500);
/// Between two tries of a standard error that does not block and has no room.
const TRY_EVERY: Duration = Duration::from_millis(10);

/// The process's log, once there is one.
static LOG: OnceLock<Log> = OnceLock::new();

/// Begins to log to standard error, with colours where that is a terminal.
///
/// # Errors
/// Where there can be no thread.
pub fn start(filter: EnvFilter) -> io::Result<()> {
    let log = Log::new(io::stderr())?;
    let has_colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(has_colours);
    // It would tell of its own failures by a macro that panics.
    let subscriber = subscriber.log_internal_errors(false).with_writer(log.clone());
    // Fails where there is one already, which then stays.
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
    let _ = LOG.set(log);
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |information| {
        flush();
        told(information);
    }));
    Ok(())
}

/// Writes a line for people, whatever the filter is, as everything else that is logged: never waiting. Before there is a log it
/// goes to standard error.
pub fn say(line: &str) {
    match LOG.get() {
        Some(log) => log.put(format!("{line}\n").as_bytes()),
        None => eprintln!("{line}"),
    }
}

/// Waits until what was logged so far is written, though not for long: to be called before the process ends.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.flush(FLUSH_WITHIN);
    }
}

/// A queue of lines and the thread that writes them.
#[derive(Clone, Debug)]
struct Log {
    lines: SyncSender<Vec<u8>>,
    count: Arc<Count>,
}

#[derive(Debug, Default)]
struct Count {
    /// Lines that are in the queue, or are being written.
    waiting: AtomicUsize,
    /// Lines that were dropped since that was last told.
    dropped: AtomicUsize,
}

impl Log {
    /// Begins with an empty queue.
    fn new(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, queue) = sync_channel(QUEUE_LINES);
        let log = Self { lines, count: Arc::default() };
        let count = Arc::clone(&log.count);
        thread::Builder::new().name("log".into()).spawn(move || write_lines(sink, &queue, &count))?;
        Ok(log)
    }

    /// Takes a line, or drops it. Never waits.
    fn put(&self, line: &[u8]) {
        let mut bytes = line[..line.len().min(LINE_BYTES_MAX)].to_vec();
        if bytes.len() < line.len() {
            bytes.extend_from_slice(b"...\n");
        }
        self.count.waiting.fetch_add(1, Ordering::SeqCst);
        if self.lines.try_send(bytes).is_err() {
            self.count.dropped.fetch_add(1, Ordering::SeqCst);
            self.count.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn flush(&self, within: Duration) {
        let began = Instant::now();
        while self.count.waiting.load(Ordering::SeqCst) != 0 && began.elapsed() < within {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Writes lines as long as there is somebody to log.
fn write_lines(mut sink: impl Write, queue: &Receiver<Vec<u8>>, count: &Count) {
    let mut is_torn = false;
    for line in queue {
        if write_line(&mut sink, &line, &mut is_torn) {
            let dropped = count.dropped.swap(0, Ordering::SeqCst);
            let notice =
                format!("trine: {dropped} lines of the log before this one could not be written and are lost\n");
            if dropped != 0 && !write_line(&mut sink, notice.as_bytes(), &mut is_torn) {
                count.dropped.fetch_add(dropped, Ordering::SeqCst);
            }
        } else {
            count.dropped.fetch_add(1, Ordering::SeqCst);
        }
        count.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Writes a line, on a line of its own where the last one was `torn`: written in part. Returns whether it is written.
fn write_line(sink: &mut impl Write, line: &[u8], is_torn: &mut bool) -> bool {
    let start: &[u8] = if *is_torn { b"\n" } else { b"" };
    for mut rest in [start, line] {
        while !rest.is_empty() {
            match sink.write(rest) {
                Ok(0) => return false,
                Ok(written) => {
                    rest = &rest[written..];
                    *is_torn = true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(TRY_EVERY),
                Err(_) => return false,
            }
        }
    }
    *is_torn = false;
    true
}

/// Makes a line of what is written to it; it never fails.
impl Write for &Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    type Written = Arc<Mutex<Vec<u8>>>;

    /// A standard error that fails when it is told to, and otherwise passes on what it gets.
    struct Sink {
        outcomes: mpsc::Receiver<io::Result<usize>>,
        written: Written,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Without an outcome it is a pipe that nobody reads.
            let length = self.outcomes.recv().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
            self.written.lock().unwrap().extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A log, what decides the outcome of each of its writes, and what was written.
    fn log() -> (Log, mpsc::Sender<io::Result<usize>>, Written) {
        let (outcome, outcomes) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        (Log::new(Sink { outcomes, written: Arc::clone(&written) }).unwrap(), outcome, written)
    }

    fn text(written: &Mutex<Vec<u8>>) -> String {
        String::from_utf8(written.lock().unwrap().clone()).unwrap()
    }

    /// A full disk, and a reader that has gone: lines are lost, and how many is told as soon as something can be told.
    #[test]
    fn lines_that_can_not_be_written_are_counted() {
        let (log, outcome, written) = log();
        let full = || Err(io::Error::from(ErrorKind::StorageFull));
        for result in [Ok(99), full(), Err(ErrorKind::BrokenPipe.into()), Ok(2), full()] {
            outcome.send(result).unwrap();
        }
        drop(outcome);
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "six\n"] {
            log.put(line.as_bytes());
        }
        log.flush(Duration::from_secs(60));
        let lost = "trine: 3 lines of the log before this one could not be written and are lost\n";
        assert_eq!(text(&written), format!("one\nfo\nfive\n{lost}six\n"));
    }

    /// A pipe that nobody reads stops the thread that writes, never who logs.
    #[test]
    fn who_logs_does_not_wait() {
        let (log, outcome, written) = log();
        let lines = QUEUE_LINES + 50;
        (0..lines).for_each(|_| log.put(b"line\n"));
        log.flush(Duration::from_millis(1));
        drop(outcome);
        log.flush(Duration::from_secs(60));
        let text = text(&written);
        let kept = text.lines().filter(|line| *line == "line").count();
        // One may have been on its way already.
        assert!(kept == QUEUE_LINES || kept == QUEUE_LINES + 1, "{kept}");
        let lost = lines - kept;
        assert!(text.contains(&format!("\ntrine: {lost} lines of the log before this one")), "{text}");
    }

    #[test]
    fn long_lines_are_cut() {
        let (log, outcome, written) = log();
        drop(outcome);
        log.put(&[b'x'; 2 * LINE_BYTES_MAX]);
        log.flush(Duration::from_secs(60));
        assert_eq!(text(&written).len(), LINE_BYTES_MAX + 4);
    }
}
