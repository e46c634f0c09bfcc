//! Makes a history of a running store: clients that ask for the same few keys, on purpose at the same time.
//!
//! Each client is a thread with one request under way. It follows MOVED, and goes on with another server where one is gone; a
//! request whose reply did not come stays open in the history. What a server refused (it is loading, has no majority, is over a
//! limit) had no effect, and is no part of it.

use super::{Operation, Reply, command::Command};
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use trine::{
    reply::{Decoder, Value},
    resp::encode_request,
    slot::Slot,
};

/// A reply that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time between two attempts where nobody answers.
const RETRY_AFTER: Duration = Duration::from_millis(10);
/// The first reads are tried so long.
const FIRST_READS_WITHIN: Duration = Duration::from_secs(5);
/// The last reads are tried so long: what was acknowledged ought to be there when faults are over.
const LAST_READS_WITHIN: Duration = Duration::from_secs(60);

/// The way in which a history is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Servers to begin with, as HOST:PORT.
    pub addresses: Vec<String>,
    /// Clients at the same time.
    pub clients: u64,
    /// Groups of three keys, each in a slot of its own.
    pub groups: u64,
    /// The time that it takes.
    pub time: Duration,
    /// Of the random choices.
    pub seed: u64,
}

/// The operations of a history, and the number of requests that are no part of it.
#[derive(Debug)]
pub struct Recording {
    /// The operations, in no order.
    pub operations: Vec<Operation>,
    /// Requests that a server refused.
    pub refused: u64,
    /// The keys that nobody answered for in the end: what became of their last writes is not in the history.
    pub unread: Vec<String>,
}

/// Has clients ask for the time given, or until it is to stop, then reads every key.
///
/// # Errors
/// No server answers at all, or keys of this seed are there already.
pub fn record(options: &Options, stop: &AtomicBool) -> io::Result<Recording> {
    let (began, next_client) = (Instant::now(), AtomicU64::new(0));
    let found = Mutex::new(Recording { operations: Vec::new(), refused: 0, unread: Vec::new() });
    let shared = Shared { options, began, next_client: &next_client, found: &found, stop };
    Client::new(shared, options.seed).find_nothing(Instant::now() + FIRST_READS_WITHIN)?;
    thread::scope(|scope| {
        for client in 0..options.clients {
            scope.spawn(move || Client::new(shared, options.seed.wrapping_add(client)).ask_until(began + options.time));
        }
    });
    let unread = Client::new(shared, options.seed).read_all(Instant::now() + LAST_READS_WITHIN);
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Recording { unread, ..found })
}

#[derive(Clone, Copy)]
struct Shared<'a> {
    options: &'a Options,
    began: Instant,
    next_client: &'a AtomicU64,
    found: &'a Mutex<Recording>,
    stop: &'a AtomicBool,
}

impl Shared<'_> {
    fn now_ns(self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The outcome of one attempt.
enum Answer {
    Told,
    /// It was not executed.
    Refused,
    /// Nobody knows.
    Unknown,
}

struct Client<'a> {
    shared: Shared<'a>,
    number: u64,
    random: fastrand::Rng,
    connections: BTreeMap<String, TcpStream>,
    /// Servers that slots were said to be on.
    homes: BTreeMap<Slot, String>,
    /// Every server heard of.
    known: Vec<String>,
    values: u64,
    operations: Vec<Operation>,
    refused: u64,
}

impl<'a> Client<'a> {
    fn new(shared: Shared<'a>, seed: u64) -> Self {
        Self {
            shared,
            number: shared.next_client.fetch_add(1, Ordering::Relaxed),
            random: fastrand::Rng::with_seed(seed),
            connections: BTreeMap::new(),
            homes: BTreeMap::new(),
            known: shared.options.addresses.clone(),
            values: 0,
            operations: Vec::new(),
            refused: 0,
        }
    }

    fn ask_until(mut self, end: Instant) {
        while Instant::now() < end && !self.shared.stop.load(Ordering::Relaxed) {
            let commands = self.choose();
            if matches!(self.ask(commands), Answer::Refused) {
                thread::sleep(RETRY_AFTER);
            }
        }
        self.hand_in();
    }

    fn hand_in(mut self) {
        let mut found = self.shared.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.operations.append(&mut self.operations);
        found.refused += self.refused;
    }

    /// Checks that somebody answers, and has none of the keys.
    fn find_nothing(mut self, end: Instant) -> io::Result<()> {
        let keys = self.keys(0);
        let command = vec![[vec!["MGET".to_owned()], keys.to_vec()].concat()];
        while !matches!(self.ask(command.clone()), Answer::Told) {
            if end < Instant::now() {
                return Err(io::Error::new(ErrorKind::TimedOut, "nobody answers"));
            }
            thread::sleep(RETRY_AFTER);
        }
        let told = self.operations.last().map(|operation| &operation.replies[..]);
        if told == Some(&[Reply::List(vec![Reply::Nil; keys.len()])]) {
            return Ok(());
        }
        Err(io::Error::new(
            ErrorKind::AlreadyExists,
            format!("{} is there already: choose another --seed", keys.join(" or ")),
        ))
    }

    /// Reads every key, each until it is told. Returns those of which it is not.
    fn read_all(mut self, end: Instant) -> Vec<String> {
        let mut unread = Vec::new();
        for group in 0..self.shared.options.groups {
            let keys = self.keys(group);
            let command = vec![[vec!["MGET".to_owned()], keys.to_vec()].concat()];
            while !matches!(self.ask(command.clone()), Answer::Told) {
                if end < Instant::now() {
                    unread.extend(keys);
                    break;
                }
                thread::sleep(RETRY_AFTER);
            }
        }
        self.hand_in();
        unread
    }

    fn keys(&self, group: u64) -> [String; 3] {
        ["set", "count", "text"].map(|kind| format!("{{history:{:x}:{group}}}:{kind}", self.shared.options.seed))
    }

    fn choose(&mut self) -> Vec<Vec<String>> {
        let group = self.random.u64(..self.shared.options.groups);
        let [set, count, text] = self.keys(group);
        self.values += 1;
        let value = format!("{}-{}", self.number, self.values);
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        match self.random.u8(..16) {
            0..4 => vec![words(&["GET", &set])],
            4..7 => vec![words(&["SET", &set, &value])],
            7..9 => vec![words(&["INCR", &count])],
            9 => vec![words(&["GET", &count])],
            10 => vec![words(&["DEL", &set, &text])],
            11 => vec![words(&["APPEND", &text, &format!("{value};")])],
            12 => vec![words(&["SETNX", &set, &value])],
            13 => vec![words(&["MGET", &set, &count, &text])],
            14 => vec![words(&["SET", &set, &value]), words(&["INCR", &count]), words(&["GET", &set])],
            _ => vec![words(&["GETSET", &set, &value])],
        }
    }

    /// Sends an operation to the server that has its keys, and notes how it went.
    fn ask(&mut self, commands: Vec<Vec<String>>) -> Answer {
        let parsed: Vec<_> = commands.iter().map(|words| Command::parse(words).expect("it is one of ours")).collect();
        let slot = parsed[0].keys().first().map(|key| Slot::of(key.as_bytes())).expect("a command has a key");
        // Twice as many servers as can be in the way; then somebody else may have the slot by now.
        for _ in 0..8 {
            let home = self.homes.get(&slot).cloned();
            let address = home.unwrap_or_else(|| self.known[self.random.usize(..self.known.len())].clone());
            let called_ns = self.shared.now_ns();
            let outcome = self.connection(&address).and_then(|socket| exchange(socket, &commands).map_err(|_| true));
            match outcome {
                // It was never sent.
                Err(false) => {
                    self.homes.remove(&slot);
                    thread::sleep(RETRY_AFTER);
                }
                Err(true) => {
                    self.connections.remove(&address);
                    self.homes.remove(&slot);
                    self.note(called_ns, None, commands, Vec::new());
                    // Whoever waits for a reply asks for nothing else.
                    self.number = self.shared.next_client.fetch_add(1, Ordering::Relaxed);
                    return Answer::Unknown;
                }
                Ok(values) => match understood(&values) {
                    Understood::Moved(to) => {
                        if !self.known.contains(&to) {
                            self.known.push(to.clone());
                        }
                        self.homes.insert(slot, to);
                    }
                    Understood::Refused => {
                        self.refused += 1;
                        return Answer::Refused;
                    }
                    Understood::Replies(replies) => {
                        let returned_ns = self.shared.now_ns();
                        self.note(called_ns, Some(returned_ns), commands, replies);
                        return Answer::Told;
                    }
                },
            }
        }
        Answer::Refused
    }

    fn note(&mut self, called_ns: u64, returned_ns: Option<u64>, commands: Vec<Vec<String>>, replies: Vec<Reply>) {
        self.operations.push(Operation { client: self.number, called_ns, returned_ns, commands, replies });
    }

    /// Returns the connection to a server; false where there is none to be had.
    fn connection(&mut self, address: &str) -> Result<&mut TcpStream, bool> {
        if !self.connections.contains_key(address) {
            let socket = connect(address).map_err(|_| false)?;
            self.connections.insert(address.to_owned(), socket);
        }
        self.connections.get_mut(address).ok_or(false)
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let resolved = address.to_socket_addrs()?.next().ok_or(ErrorKind::AddrNotAvailable)?;
    let socket = TcpStream::connect_timeout(&resolved, PATIENCE)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends commands, as a transaction where they are several, and reads all replies.
fn exchange(socket: &mut TcpStream, commands: &[Vec<String>]) -> io::Result<Vec<Value>> {
    let mut bytes = Vec::new();
    let is_transaction = 1 < commands.len();
    let mut put = |words: &[String]| encode_request(&mut bytes, words.iter().map(String::as_bytes));
    if is_transaction {
        put(&["MULTI".to_owned()]);
    }
    commands.iter().for_each(|words| put(words));
    if is_transaction {
        put(&["EXEC".to_owned()]);
    }
    let expected = commands.len() + if is_transaction { 2 } else { 0 };
    socket.write_all(&bytes)?;
    let (mut arrived, mut decoder, mut values) = (Vec::new(), Decoder::default(), Vec::new());
    let mut buffer = [0; 16 << 10];
    loop {
        while let Some((reply, used)) =
            decoder.decode(&arrived).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?
        {
            values.push(reply.to_value());
            arrived.drain(..used);
            if values.len() == expected {
                return Ok(values);
            }
        }
        match socket.read(&mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => arrived.extend_from_slice(&buffer[..count]),
        }
    }
}

enum Understood {
    Replies(Vec<Reply>),
    Moved(String),
    Refused,
}

/// Finds out what replies mean: those of a transaction are in the last.
fn understood(values: &[Value]) -> Understood {
    let moved = values.iter().find_map(|value| match value {
        Value::Error(text) => text.strip_prefix("MOVED ").and_then(|rest| rest.split(' ').nth(1)),
        _ => None,
    });
    match (moved, values) {
        (Some(to), _) => Understood::Moved(to.to_owned()),
        (None, [value]) => match reply(value) {
            // A command on a value of the wrong kind is the store's answer; anything else is that it did not execute it.
            Reply::Error { error } if !error.starts_with("ERR value is not") => Understood::Refused,
            reply => Understood::Replies(vec![reply]),
        },
        (None, [.., Value::Array(replies)]) => Understood::Replies(replies.iter().map(reply).collect()),
        (None, _) => Understood::Refused,
    }
}

fn reply(value: &Value) -> Reply {
    match value {
        Value::Null => Reply::Nil,
        Value::Simple(text) => Reply::Text(text.clone()),
        Value::Bulk(bytes) => Reply::Text(String::from_utf8_lossy(bytes).into_owned()),
        Value::Integer(number) => Reply::Integer(*number),
        Value::Array(values) => Reply::List(values.iter().map(reply).collect()),
        Value::Error(text) => Reply::Error { error: text.clone() },
        other => Reply::Text(format!("{other:?}")),
    }
}
