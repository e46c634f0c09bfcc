//! A connection's client: its identity, its protocol and reply settings, and its permissions.

use crate::{brake::Brake, resp::Version, transaction::Transaction};

/// The kind of port that a client connected to. A port has one kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Port {
    /// The server's own port: any core takes the request and forwards it to the core that owns the key.
    Gateway,
    /// A core's port: it is a node of a Redis cluster, and answers only for its own slots.
    Core,
}

/// The reply mode of a client (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ReplyMode {
    /// Every request is answered.
    #[default]
    On,
    /// No request is answered until the mode is set to [`On`](Self::On).
    Off,
    /// The replies to this request and to the next one are left out.
    SkipNext,
    /// The reply to this request is left out.
    Skip,
}

/// One connection's client.
#[derive(Clone, Debug)]
pub struct Client {
    /// The client's id, never used twice by a server (`CLIENT ID`).
    pub id: u64,
    /// The index of its connection among its core's connections (`CLIENT LIST`: `fd`).
    pub place: usize,
    /// The client's address, `host:port`.
    pub address: Box<str>,
    /// The server's address that it connected to, `host:port`.
    pub local_address: Box<str>,
    /// The kind of port that it connected to.
    pub port: Port,
    /// The time at which it connected, in microseconds since the server began: wall-clock time may jump.
    pub connected_us: u64,
    /// The time of its last request, by the same clock.
    pub active_us: u64,
    /// The version of the Redis protocol in which it gets its replies (`HELLO`).
    pub version: Version,
    /// True once it has sent the password; always true where none is required.
    pub authenticated: bool,
    /// The requests that are answered.
    pub reply_mode: ReplyMode,
    /// The name that it has given itself (`CLIENT SETNAME`).
    pub name: Box<str>,
    /// The name of its library (`CLIENT SETINFO LIB-NAME`).
    pub library_name: Box<str>,
    /// The version of its library (`CLIENT SETINFO LIB-VER`).
    pub library_version: Box<str>,
    /// The name of its last command, as in the command table; empty before the first.
    pub last_command: &'static str,
    /// The state of `CLIENT NO-EVICT`.
    pub no_evict: bool,
    /// True after `CLIENT NO-TOUCH on`: its reads do not change when, or how often, a key was used.
    pub no_touch: bool,
    /// True if the connection speaks HTTP: such a client knows nothing of slots, so its requests may have keys of
    /// several.
    pub speaks_http: bool,
    /// True after `READONLY`: kept because clients ask for it; it changes nothing, since a shard owns all that it
    /// serves.
    pub read_only: bool,
    /// Its transaction, from `MULTI` or `WATCH` on.
    pub transaction: Option<Box<Transaction>>,
    /// True if the connection is to be closed, after `QUIT` or `CLIENT KILL`. Its own request is answered first; a
    /// client that another one has killed is cut off.
    pub closing: bool,
    /// The number of its requests so far.
    pub requests: u64,
    /// Bytes received of a request that is not complete yet (`CLIENT LIST`: `qbuf`).
    pub input_bytes: usize,
    /// Bytes of replies that have not been sent yet (`CLIENT LIST`: `obl` and `omem`).
    pub output_bytes: usize,
}

impl Client {
    /// Creates a client that connected at `now_us`, in microseconds since the server began.
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

/// Returns true if a password is the expected one. The time that this takes depends on the length of the given
/// password, and not on how much of it is right.
pub fn is_password(given: &[u8], expected: &[u8]) -> bool {
    let mut difference = given.len() ^ expected.len();
    for (position, &byte) in given.iter().enumerate() {
        let other = expected.get(position % expected.len().max(1)).copied().unwrap_or(0);
        difference |= usize::from(byte ^ other);
    }
    std::hint::black_box(difference) == 0
}

/// The clients of a shard, except the one whose request is being executed: that one is taken out meanwhile.
#[derive(Debug, Default)]
pub struct Clients {
    places: Vec<Option<Box<Client>>>,
    count: usize,
    /// The places of clients that [`close_if`](Self::close_if) has marked. The engine takes them out of here after each
    /// turn, and closes the connections of those that are still there and still [`closing`](Client::closing).
    pub closed: Vec<usize>,
    /// The delays of addresses that have sent wrong passwords.
    pub brake: Brake,
}

impl Clients {
    /// Puts a client into a place: the index of its connection in the ring.
    pub fn put(&mut self, place: usize, mut client: Box<Client>) {
        client.place = place;
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        assert!(self.places[place].is_none(), "a place holds one client");
        self.places[place] = Some(client);
        self.count += 1;
    }

    /// Takes a client out of its place, to execute its request or because it has disconnected.
    pub fn take(&mut self, place: usize) -> Option<Box<Client>> {
        let client = self.places.get_mut(place)?.take();
        self.count -= usize::from(client.is_some());
        client
    }

    /// Returns the client in a place, if there is one.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut Client> {
        self.places.get_mut(place)?.as_deref_mut()
    }

    /// Returns true if there is a client in this place and it is to be closed.
    pub fn is_closing(&self, place: usize) -> bool {
        self.places.get(place).and_then(Option::as_ref).is_some_and(|client| client.closing)
    }

    /// Returns the number of clients.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns true if there is no client.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Marks the clients that match as closing, adds their places to [`closed`](Self::closed), and returns their
    /// number. Clients that are closing already do not count.
    pub fn close_if(&mut self, is_meant: impl Fn(&Client) -> bool) -> i64 {
        let mut closed = Vec::new();
        for (place, client) in self.iter_mut().filter(|(_, client)| !client.closing && is_meant(client)) {
            client.closing = true;
            closed.push(place);
        }
        self.closed.extend_from_slice(&closed);
        closed.len() as i64
    }

    /// Iterates over the clients, each with its place.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Client)> {
        self.places.iter().enumerate().filter_map(|(place, client)| Some((place, &**client.as_ref()?)))
    }

    /// Iterates over the clients, each with its place, so that they can be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Client)> {
        self.places.iter_mut().enumerate().filter_map(|(place, client)| Some((place, &mut **client.as_mut()?)))
    }
}
