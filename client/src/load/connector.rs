//! Makes connections beside the measurement: connecting blocks, and an executor that blocks measures itself.

use super::target::Protocol;
use std::{
    io,
    net::TcpStream,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};
use trine::io::ring::Bell;
use trine_client::{
    Error, Options,
    blocking::{Connection, connect_socket},
    pipeline::Backoff,
};

/// Connects, and says what this protocol says first.
///
/// # Errors
/// [`Error`], for whom [`explain`](super::target::explain) has a way out.
pub(crate) fn connect(address: &str, options: &Options, protocol: Protocol) -> Result<TcpStream, Error> {
    match protocol {
        Protocol::Resp => Connection::connect(address, options).map(Connection::into_socket),
        Protocol::Http => connect_socket(address, options.timeout)
            .map_err(|source| Error::Unreachable { address: address.into(), source }),
    }
}

/// A connection that is wanted.
struct Job {
    link: usize,
    address: String,
    delay: Duration,
}

/// A thread that connects, one after the other.
pub(crate) struct Connector {
    jobs: mpsc::Sender<Job>,
    made: mpsc::Receiver<(usize, Option<TcpStream>)>,
    /// By link: how long to wait before the next attempt, and whether one is under way.
    attempts: Vec<(Backoff, bool)>,
    under_way: usize,
}

impl Connector {
    /// Starts the thread. It rings `bell` when a connection has been made or not.
    pub(crate) fn start(options: Options, protocol: Protocol, bell: Arc<Bell>) -> io::Result<Self> {
        let (jobs, wanted) = mpsc::channel::<Job>();
        let (send, made) = mpsc::channel();
        thread::Builder::new().name("connector".into()).spawn(move || {
            for job in wanted {
                thread::sleep(job.delay);
                let socket = connect(&job.address, &options, protocol).ok();
                if send.send((job.link, socket)).is_err() {
                    return;
                }
                bell.ring();
            }
        })?;
        Ok(Self { jobs, made, attempts: Vec::new(), under_way: 0 })
    }

    /// Wants a connection for a link, unless it is being made already.
    pub(crate) fn want(&mut self, link: usize, address: &str) {
        if self.attempts.len() <= link {
            self.attempts.resize(link + 1, Default::default());
        }
        let (backoff, is_under_way) = &mut self.attempts[link];
        if !*is_under_way {
            *is_under_way = true;
            self.under_way += 1;
            // Each link counts its own failures: the first attempt comes at once.
            let delay = if *backoff == Backoff::default() { Duration::ZERO } else { backoff.clone().failed() };
            let _ = self.jobs.send(Job { link, address: address.into(), delay });
        }
    }

    /// The next connection that has been made, or attempt that has failed.
    pub(crate) fn next(&mut self) -> Option<(usize, Option<TcpStream>)> {
        if self.under_way == 0 {
            return None;
        }
        let (link, socket) = self.made.try_recv().ok()?;
        self.under_way -= 1;
        let (backoff, is_under_way) = &mut self.attempts[link];
        *is_under_way = false;
        match socket {
            Some(_) => backoff.succeeded(),
            None => drop(backoff.failed()),
        }
        Some((link, socket))
    }
}
