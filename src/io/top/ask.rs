//! Asks nodes what they have to say, each from a thread of its own: one that does not answer keeps nobody waiting.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use crate::{
    printable::printable,
    reply::{Decoder, Reply},
    resp::encode_request,
    top::{
        Address,
        members::{Member, join, members, split},
        reading::{Reading, histograms, slots},
    },
};

use super::Event;

/// The longest time for a connection to be made, and for an answer to come.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The time between two requests for the list of nodes.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The time until the next one if no node could be asked.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The most bytes that an answer may have: that of a cluster with each slot on its own has some megabytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The number of slots that are asked for. They are ordered by all their time so far; the hottest of an interval is among the
/// first of these unless it was cold until now.
const SLOTS: &str = "64";

/// The name and password for servers that want them.
#[derive(Clone, Debug, Default)]
pub(super) struct Credentials {
    pub(super) user: Option<String>,
    pub(super) password: Option<Vec<u8>>,
}

/// Something that is asked again and again, until this value is dropped.
pub(super) struct Asking {
    _stop: Sender<()>,
}

impl Asking {
    /// Asks a node every `interval` how it is.
    pub(super) fn node(address: Address, credentials: Credentials, interval: Duration, events: Sender<Event>) -> Self {
        let mut connection = None;
        let mut order = Some("CPU-USEC");
        Self::again(move || {
            let (at, answer) = match reading(&address, &credentials, &mut connection, &mut order) {
                Ok((at, reading)) => (at, Ok(reading)),
                Err(reason) => (Instant::now(), Err(reason)),
            };
            let is_wanted =
                events.send(Event::Heard { address: address.clone(), at, answer: Box::new(answer) }).is_ok();
            is_wanted.then_some(interval)
        })
    }

    /// Asks, from time to time, which nodes stand behind an address.
    pub(super) fn members(address: Address, credentials: Credentials, events: Sender<Event>) -> Self {
        let mut known: Vec<Address> = Vec::new();
        Self::again(move || {
            // Where the address itself does not answer any more, the others know.
            let found = std::iter::once(&address).chain(&known).find_map(|asked| found(asked, &credentials).ok());
            // Where nobody does, the address is asked how it is all the same, and that says why.
            let members = found.unwrap_or_default();
            let next = if members.is_empty() { LOOK_AGAIN } else { LOOK_EVERY };
            if !members.is_empty() {
                known = members.iter().map(|member| member.address.clone()).collect();
            }
            events.send(Event::Found { address: address.clone(), members }).is_ok().then_some(next)
        })
    }

    /// Runs `ask` at once, and then again whenever the time has passed that it returns; from one beginning to the next.
    fn again(mut ask: impl FnMut() -> Option<Duration> + Send + 'static) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        thread::spawn(move || {
            let mut next = Instant::now();
            while let Some(pause) = ask() {
                next = (next + pause).max(Instant::now());
                match stopped.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        Self { _stop: stop }
    }
}

/// A connection that has introduced itself.
struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Connection {
    fn open(address: &str, credentials: &Credentials) -> io::Result<Self> {
        let (host, port) = split(address).map_err(io::Error::other)?;
        let mut problem = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for candidate in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&candidate, ANSWER_WITHIN) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
                    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
                    stream.set_nodelay(true)?;
                    let mut connection = Self { stream, bytes: Vec::new() };
                    connection.introduce(credentials)?;
                    return Ok(connection);
                }
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    fn introduce(&mut self, credentials: &Credentials) -> io::Result<()> {
        let user = credentials.user.as_deref().map(str::as_bytes);
        if let Some(password) = &credentials.password {
            let words: Vec<&[u8]> = [&b"AUTH"[..]].into_iter().chain(user).chain([password.as_slice()]).collect();
            self.ask(&words, |reply| refusal(reply).map_or(Ok(()), Err))?.map_err(io::Error::other)?;
        }
        // For CLIENT LIST; a server that knows no names is as good.
        self.ask(&["CLIENT", "SETNAME", "trine-top"], |_| ())
    }

    /// Asks one thing, and shows the answer.
    fn ask<T>(&mut self, words: &[impl AsRef<[u8]>], show: impl FnOnce(&Reply<'_>) -> T) -> io::Result<T> {
        let mut request = Vec::new();
        encode_request(&mut request, words.iter().map(AsRef::as_ref));
        self.stream.write_all(&request)?;
        self.bytes.clear();
        let mut decoder = Decoder::default();
        let mut piece = [0; 16 << 10];
        loop {
            let length = match self.stream.read(&mut piece) {
                Ok(length) => length,
                // Nothing has happened but a signal, or a thread that began.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 2 s"));
                }
                Err(error) => return Err(error),
            };
            if length == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed"));
            }
            self.bytes.extend_from_slice(&piece[..length]);
            if let Some((reply, _)) = decoder.decode(&self.bytes).map_err(io::Error::other)? {
                return Ok(show(&reply));
            }
            if ANSWER_BYTES_MAX < self.bytes.len() {
                return Err(io::Error::other("the answer has no end"));
            }
        }
    }

    fn info(&mut self) -> io::Result<Reading> {
        let reading = self.ask(&["INFO", "all"], |reply| match *reply {
            Reply::Bulk(text) => Ok(Reading::of(&String::from_utf8_lossy(text))),
            ref other => Err(refusal(other).unwrap_or_else(|| "INFO is answered with something else".into())),
        })?;
        reading.map_err(io::Error::other)
    }
}

/// Returns the text of an error reply, with advice where there is some.
fn refusal(reply: &Reply<'_>) -> Option<String> {
    let Reply::Error(text) = reply else { return None };
    let text = String::from_utf8_lossy(text);
    let text = printable(&text);
    Some(match text.split(' ').next() {
        Some("NOAUTH") => "it wants a password: --password, or TRINE_PASSWORD".into(),
        Some("WRONGPASS") => "the password is wrong".into(),
        _ => text.into_owned(),
    })
}

/// Asks a node how it is, on the connection that there is, or on a new one. Returns when INFO was answered, which rates are
/// computed with, and what it and the commands behind it said. `order` is what its slots can be ordered by.
fn reading(
    address: &str,
    credentials: &Credentials,
    connection: &mut Option<Connection>,
    order: &mut Option<&'static str>,
) -> Result<(Instant, Reading), String> {
    let mut ask = || {
        let mut open = match connection.take() {
            Some(open) => open,
            None => Connection::open(address, credentials)?,
        };
        let mut reading = open.info()?;
        let at = Instant::now();
        // Redis answers it from 7.0 on; what does not know it has no percentiles.
        let counted = open.ask(&["LATENCY", "HISTOGRAM"], histograms)?;
        for (name, times) in counted.unwrap_or_default() {
            reading.commands.entry(name).or_default().times = times;
        }
        while let (true, Some(metric)) = (reading.is_cluster, *order) {
            let words = ["CLUSTER", "SLOT-STATS", "ORDERBY", metric, "LIMIT", SLOTS, "DESC"];
            let found = open.ask(&words, |reply| match reply {
                Reply::Error(_) => None,
                reply => Some(slots(reply)),
            })?;
            match found {
                Some(slots) => {
                    reading.slots = slots;
                    break;
                }
                // An older server counts keys alone, or nothing by slot.
                None => *order = (metric == "CPU-USEC").then_some("KEY-COUNT"),
            }
        }
        *connection = Some(open);
        io::Result::Ok((at, reading))
    };
    ask().map_err(|error| error.to_string())
}

/// Returns the nodes behind an address: those of its cluster, the cores of its server, or it alone.
fn found(address: &str, credentials: &Credentials) -> io::Result<Vec<Member>> {
    let (host, port) = split(address).map_err(io::Error::other)?;
    let mut connection = Connection::open(address, credentials)?;
    let reading = connection.info()?;
    let alone = vec![Member { address: address.to_owned(), slots: 0 }];
    let slots = |connection: &mut Connection| connection.ask(&["CLUSTER", "SLOTS"], |reply| members(reply, host));
    if reading.is_cluster {
        return Ok(slots(&mut connection)?.unwrap_or(alone));
    }
    if reading.server.is_empty() {
        return Ok(alone);
    }
    // The gateway of a server that stands alone: its cores are nodes of a cluster all the same.
    let core_port = connection.ask(&["CONFIG", "GET", "core-port"], |reply| match reply {
        Reply::Array(elements) | Reply::Map(elements) => match elements.last() {
            Some(Reply::Bulk(text)) => std::str::from_utf8(text).ok()?.parse::<u16>().ok(),
            _ => None,
        },
        _ => None,
    })?;
    let core_port = core_port.filter(|&port| port != 0).or(port.checked_add(1));
    let core = core_port.and_then(|port| Connection::open(&join(host, port), credentials).ok());
    Ok(core.and_then(|mut core| slots(&mut core).ok().flatten()).unwrap_or(alone))
}
