//! A client as its shard knows it: who it is, how it wants its replies, and what it may do.

use crate::{brake::Brake, resp::Version, transaction::Transaction};

/// Which kind of port a client came in by. One port has one role.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Port {
    /// The server's own port: any core takes the request and passes it to the core that owns the key.
    Gateway,
    /// A core's port: speaks cluster, and answers for its own slots alone.
    Core,
}

/// Whether a client wants replies at all (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ReplyMode {
    /// Every request is answered.
    #[default]
    On,
    /// None is, until it is switched on again.
    Off,
    /// The reply to this request and to the next is left out.
    SkipNext,
    /// The reply to this request is left out.
    Skip,
}

/// One connection's client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Unique in its server over time.
    pub id: u64,
    /// Its place among its core's connections (`CLIENT LIST`: `fd`).
    pub place: usize,
    /// Its address, `host:port`.
    pub address: Box<str>,
    /// The address that it connected to.
    pub local_address: Box<str>,
    /// The kind of port that it came in by.
    pub port: Port,
    /// When it connected, in microseconds since the server began: wall time jumps.
    pub connected_us: u64,
    /// When it last sent a request, by the same clock.
    pub active_us: u64,
    /// How it wants its replies.
    pub version: Version,
    /// Whether it has given the password, or needs none.
    pub authenticated: bool,
    /// Whether it wants replies.
    pub reply_mode: ReplyMode,
    /// `CLIENT SETNAME`.
    pub name: Box<str>,
    /// `CLIENT SETINFO LIB-NAME`.
    pub library_name: Box<str>,
    /// `CLIENT SETINFO LIB-VER`.
    pub library_version: Box<str>,
    /// The last command, as the table names it; empty before the first.
    pub last_command: &'static str,
    /// `CLIENT NO-EVICT`.
    pub no_evict: bool,
    /// `CLIENT NO-TOUCH`: its reads leave no trace in an entry's use.
    pub no_touch: bool,
    /// It speaks HTTP: it knows nothing of slots, and keys of several may go together.
    pub speaks_http: bool,
    /// `READONLY`: remembered, since clients ask; every shard owns what it serves.
    pub read_only: bool,
    /// Its transaction, from MULTI or WATCH on.
    pub transaction: Option<Box<Transaction>>,
    /// Set by `CLIENT KILL` and `QUIT`: close it once what it is owed has been sent.
    pub closing: bool,
    /// Requests so far.
    pub requests: u64,
    /// Bytes that it has sent of a request whose end has not arrived (`CLIENT LIST`: `qbuf`).
    pub input_bytes: usize,
    /// Bytes that it is owed (`CLIENT LIST`: `obl` and `omem`).
    pub output_bytes: usize,
}

impl Client {
    /// A client that has just connected, at this time since the server began.
    pub fn new(id: u64, address: &str, local_address: &str, port: Port, authenticated: bool, now_us: u64) -> Self {
        Self {
            id,
            place: 0,
            address: address.into(),
            local_address: local_address.into(),
            port,
            connected_us: now_us,
            active_us: now_us,
            version: Version::Two,
            authenticated,
            reply_mode: ReplyMode::On,
            name: "".into(),
            library_name: "".into(),
            library_version: "".into(),
            last_command: "",
            no_evict: false,
            no_touch: false,
            speaks_http: false,
            read_only: false,
            transaction: None,
            closing: false,
            requests: 0,
            input_bytes: 0,
            output_bytes: 0,
        }
    }
}

/// Whether a password is the expected one. Compares in a time that depends on the length of what was given, and not on how
/// much of it is right.
pub fn is_password(given: &[u8], expected: &[u8]) -> bool {
    let mut difference = given.len() ^ expected.len();
    for (position, &byte) in given.iter().enumerate() {
        let other = expected.get(position % expected.len().max(1)).copied().unwrap_or(0);
        difference |= usize::from(byte ^ other);
    }
    std::hint::black_box(difference) == 0
}

/// All clients of a shard but the one that is being served, which whoever serves it has taken out.
#[derive(Debug, Default)]
pub struct Clients {
    places: Vec<Option<Box<Client>>>,
    count: usize,
    /// The places of clients that were told to close ([`close_if`](Self::close_if)). The driver takes them after each
    /// turn, and closes those that are still there and still [`closing`](Client::closing).
    pub closed: Vec<usize>,
    /// Who has sent wrong passwords, and waits before the next is looked at.
    pub brake: Brake,
}

impl Clients {
    /// Puts a client in its place: the place of its connection in the ring.
    pub fn put(&mut self, place: usize, mut client: Box<Client>) {
        client.place = place;
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        assert!(self.places[place].is_none(), "a place holds one client");
        self.places[place] = Some(client);
        self.count += 1;
    }

    /// Takes a client out, to serve it or for good.
    pub fn take(&mut self, place: usize) -> Option<Box<Client>> {
        let client = self.places.get_mut(place)?.take();
        self.count -= usize::from(client.is_some());
        client
    }

    /// The client in this place, if it is there.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut Client> {
        self.places.get_mut(place)?.as_deref_mut()
    }

    /// Whether there is a client in this place that is to be closed.
    pub fn is_closing(&self, place: usize) -> bool {
        self.places.get(place).and_then(Option::as_ref).is_some_and(|client| client.closing)
    }

    /// How many are in their places.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is in its place.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Marks the clients that are meant as closing, notes their places in [`closed`](Self::closed), and returns how many
    /// they are.
    pub fn close_if(&mut self, is_meant: impl Fn(&Client) -> bool) -> i64 {
        let mut closed = Vec::new();
        for (place, client) in self.iter_mut().filter(|(_, client)| !client.closing && is_meant(client)) {
            client.closing = true;
            closed.push(place);
        }
        self.closed.extend_from_slice(&closed);
        closed.len() as i64
    }

    /// The clients and their places.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Client)> {
        self.places.iter().enumerate().filter_map(|(place, client)| Some((place, &**client.as_ref()?)))
    }

    /// As [`iter`](Self::iter), to mark those that are to be closed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Client)> {
        self.places.iter_mut().enumerate().filter_map(|(place, client)| Some((place, &mut **client.as_mut()?)))
    }
}
