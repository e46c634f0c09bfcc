//! A client over std's sockets: for tools, tests and scripts, where one thread waits for its replies.
//!
//! ```no_run
//! use trine_client::blocking::Client;
//!
//! let mut client = Client::connect("127.0.0.1:7000")?;
//! client.set("greeting", "hello")?;
//! assert_eq!(client.get("greeting")?.as_deref(), Some(&b"hello"[..]));
//! let replies = client.pipeline(&[&["SET", "a", "1"][..], &["INCR", "a"][..]])?;
//! # Ok::<(), trine_client::Error>(())
//! ```

use crate::{
    Error, Options, REDIRECTIONS_MAX,
    pipeline::{Backoff, Nanos, Pipeline},
    reply::{Reply, Value},
    routing::{Address, Node, Routing, RoutingError, moved_address, parse_moved},
};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    thread,
    time::{Duration, Instant},
};
use trine::resp::encode_request;

/// The most bytes that one read takes.
const READ_BYTES: usize = 16 * 1024;
/// Requests that are sent before their replies are read. Both ends would wait for each other for ever if a client wrote
/// without reading while its server does the same; so much fits into the sockets' buffers in any case.
const WINDOW_REQUESTS: usize = 512;
const WINDOW_BYTES: usize = 64 * 1024;
/// A connection that was not used for so long is looked at before it is used.
const IDLE: Duration = Duration::from_millis(500);
/// The number of times that a broken connection is made again before an error is returned.
const ATTEMPTS: usize = 3;

/// One connection to one server. It follows no MOVED and makes no second attempt; [`Client`] does.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    address: Address,
    timeout: Duration,
    pipeline: Pipeline<usize>,
    buffer: Vec<u8>,
    used: Instant,
}

impl Connection {
    /// Connects and authenticates.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Denied`], [`Error::TimedOut`] and what else a first exchange may end with.
    pub fn connect(address: &str, options: &Options) -> Result<Self, Error> {
        let socket = connect_socket(address, options.timeout)
            .map_err(|source| Error::Unreachable { address: address.into(), source })?;
        let mut connection = Self {
            socket,
            address: address.into(),
            timeout: options.timeout,
            pipeline: Pipeline::default(),
            buffer: vec![0; READ_BYTES],
            used: Instant::now(),
        };
        if let Some(password) = &options.password
            && let Value::Error(text) = connection.command(&[&b"AUTH"[..], password])?
        {
            return Err(Error::from_reply(text.as_bytes()));
        }
        Ok(connection)
    }

    /// Sends a command and waits for its reply. An error reply is a [`Value::Error`].
    ///
    /// # Errors
    /// Where there is no reply; the connection is of no more use then.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Value, Error> {
        self.queue(0, args)?;
        let mut value = Value::Null;
        self.exchange(|_, reply| value = reply.to_value())?;
        Ok(value)
    }

    /// Executes [`command`](Self::command) and shows the reply where it lies, without a copy.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub fn command_with<A: AsRef<[u8]>, T>(
        &mut self,
        args: &[A],
        show: impl FnOnce(Reply<'_>) -> T,
    ) -> Result<T, Error> {
        self.queue(0, args)?;
        let (mut show, mut shown) = (Some(show), None);
        self.exchange(|_, reply| shown = show.take().map(|show| show(reply)))?;
        Ok(shown.expect("an exchange ends when every request has its reply"))
    }

    /// The socket, for an asynchronous driver to go on with. Nothing is in flight: every exchange ends before it returns.
    pub fn into_socket(self) -> TcpStream {
        self.socket
    }

    fn queue<A: AsRef<[u8]>>(&mut self, tag: usize, args: &[A]) -> Result<(), Error> {
        if args.is_empty() {
            return Err(Error::EmptyCommand);
        }
        encode_request(self.pipeline.request(tag, Nanos(0)), args.iter().map(AsRef::as_ref));
        Ok(())
    }

    /// Sends what is queued and waits for all replies to it.
    fn exchange(&mut self, mut on_reply: impl FnMut(usize, Reply<'_>)) -> Result<(), Error> {
        let result = self.try_exchange(&mut on_reply);
        if result.is_err() {
            self.pipeline.fail().for_each(drop);
        }
        result
    }

    fn try_exchange(&mut self, on_reply: &mut impl FnMut(usize, Reply<'_>)) -> Result<(), Error> {
        let output = self.pipeline.output(Nanos(0), Vec::new());
        let begun = Instant::now();
        self.used = begun;
        self.set_timeout(self.timeout)?;
        self.socket.write_all(&output).map_err(|error| self.broken(error))?;
        while !self.pipeline.is_empty() {
            let left = self.timeout.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
            self.set_timeout(left.ok_or_else(|| self.timed_out())?)?;
            let count = match self.socket.read(&mut self.buffer) {
                Ok(0) => return Err(self.broken(io::Error::new(ErrorKind::UnexpectedEof, "closed by the server"))),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.broken(error)),
            };
            self.pipeline
                .receive(&self.buffer[..count], |pending, reply| on_reply(pending.tag, reply))
                .map_err(|source| Error::Protocol { address: self.address.clone(), source })?;
        }
        Ok(())
    }

    /// Returns true if the server has closed the connection while it was idle. Only looks where it may have had the time: a
    /// request that a closed connection takes is lost, and nobody knows whether it was executed.
    fn has_ended(&mut self) -> bool {
        if self.used.elapsed() < IDLE {
            return false;
        }
        let peeked = self.socket.set_nonblocking(true).and_then(|()| self.socket.peek(&mut [0]));
        let is_open = matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock);
        !is_open || self.socket.set_nonblocking(false).is_err()
    }

    fn set_timeout(&self, timeout: Duration) -> Result<(), Error> {
        let set =
            self.socket.set_read_timeout(Some(timeout)).and_then(|()| self.socket.set_write_timeout(Some(timeout)));
        set.map_err(|error| self.broken(error))
    }

    fn broken(&self, source: io::Error) -> Error {
        match source.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.timed_out(),
            _ => Error::Lost { address: self.address.clone(), source },
        }
    }

    fn timed_out(&self) -> Error {
        Error::TimedOut { address: self.address.clone(), after: self.timeout }
    }
}

/// Connects to the first of the address's meanings (a name may have several) that answers.
///
/// # Errors
/// What the system says of the last that was tried.
pub fn connect_socket(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name stands for no address");
    for meaning in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&meaning, timeout) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A client of one server or a whole cluster: asks whom it is talking to, sends each command to the owner of its key,
/// follows MOVED, and connects again where a connection broke.
#[derive(Debug)]
pub struct Client {
    options: Options,
    routing: Routing,
    /// By node; made when first needed.
    connections: Vec<Option<Connection>>,
}

impl Client {
    /// Connects to a server, and learns from it where everything is.
    ///
    /// # Errors
    /// Where the server can't be reached, or its topology can't be used.
    pub fn connect(address: &str) -> Result<Self, Error> {
        Self::connect_with(address, Options::default())
    }

    /// Connects like [`connect`](Self::connect), with a password or another timeout.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with(address: &str, options: Options) -> Result<Self, Error> {
        let mut connection = Connection::connect(address, &options)?;
        let routing = learn(&mut connection)?;
        let mut connections: Vec<Option<Connection>> = routing.nodes().iter().map(|_| None).collect();
        if let Some(position) = routing.nodes().iter().position(|node| node == address) {
            connections[position] = Some(connection);
        }
        Ok(Self { options, routing, connections })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error`], whose variants say what to do.
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        match self.command(&[b"GET", key.as_ref()])? {
            Value::Bulk(bytes) => Ok(Some(bytes)),
            _ => Ok(None),
        }
    }

    /// Sets a key to a value.
    ///
    /// # Errors
    /// [`Error`], whose variants say what to do.
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.command(&[b"SET", key.as_ref(), value.as_ref()]).map(drop)
    }

    /// Deletes a key. Returns whether it was there.
    ///
    /// # Errors
    /// [`Error`], whose variants say what to do.
    pub fn del(&mut self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        Ok(self.command(&[b"DEL", key.as_ref()])? == Value::Integer(1))
    }

    /// Any command. Its second word decides who is asked; where that is not its key, the server says who is.
    ///
    /// A connection that the server closed while it was idle is made again first. Where it breaks under a command, the
    /// error says so, as the command may have been executed; the next command connects again.
    ///
    /// # Errors
    /// [`Error`], whose variants say what to do; an error reply among them.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Value, Error> {
        let mut node = self.node_of(args);
        for _ in 0..=REDIRECTIONS_MAX {
            match self.connection(node)?.command(args) {
                Ok(Value::Error(text)) => node = self.moved(node, &text)?,
                Ok(value) => return Ok(value),
                Err(error) => {
                    self.connections[node.index()] = None;
                    return Err(error);
                }
            }
        }
        Err(Error::TooManyRedirections(format!("MOVED to {}", self.routing.address(node))))
    }

    /// Sends all commands before it waits for the replies, and returns them in order; an error reply is a
    /// [`Value::Error`] in its place. Commands for different nodes may be executed in any order.
    ///
    /// # Errors
    /// Where a command has no reply. Others may have been executed.
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, commands: &[&[A]]) -> Result<Vec<Value>, Error> {
        let mut values = vec![Value::Null; commands.len()];
        let mut by_node: Vec<Vec<usize>> = Vec::new();
        for (index, args) in commands.iter().enumerate() {
            let node = self.node_of(args).index();
            by_node.resize_with(by_node.len().max(node + 1), Vec::new);
            by_node[node].push(index);
        }
        for (node, indexes) in by_node.iter().enumerate() {
            let node = Node(u16::try_from(node).expect("a node's index is a u16"));
            if !indexes.is_empty()
                && let Err(error) = self.connection(node)?.windows(commands, indexes, &mut values)
            {
                self.connections[node.index()] = None;
                return Err(error);
            }
        }
        for (args, value) in commands.iter().zip(&mut values) {
            if matches!(value, Value::Error(text) if parse_moved(text.as_bytes()).is_some()) {
                *value = match self.command(args) {
                    Err(Error::Denied(text) | Error::NotReady(text) | Error::Refused(text)) => Value::Error(text),
                    other => other?,
                };
            }
        }
        Ok(values)
    }

    /// The addresses of the nodes that this client knows.
    pub fn nodes(&self) -> &[Address] {
        self.routing.nodes()
    }

    fn node_of<A: AsRef<[u8]>>(&self, args: &[A]) -> Node {
        args.get(1).map_or(Node(0), |key| self.routing.node_of(key.as_ref()))
    }

    /// The connection to a node. Made again, with pauses, where it has gone.
    fn connection(&mut self, node: Node) -> Result<&mut Connection, Error> {
        self.connections.resize_with(self.routing.nodes().len(), || None);
        let place = &mut self.connections[node.index()];
        if place.as_mut().is_some_and(Connection::has_ended) {
            *place = None;
        }
        let mut backoff = Backoff::default();
        for attempt in 1.. {
            if place.is_some() {
                break;
            }
            match Connection::connect(self.routing.address(node), &self.options) {
                Ok(connection) => *place = Some(connection),
                Err(error) if attempt == ATTEMPTS || !matches!(error, Error::Unreachable { .. }) => return Err(error),
                Err(_) => thread::sleep(backoff.failed()),
            }
        }
        Ok(place.as_mut().expect("the loop ends with a connection"))
    }

    /// Returns the node that an error reply redirects to; any other error is returned as one.
    fn moved(&mut self, node: Node, text: &str) -> Result<Node, Error> {
        let asked = self.routing.address(node).to_string();
        let target = parse_moved(text.as_bytes()).and_then(|(slot, to)| Some((slot, moved_address(to, &asked)?)));
        let Some((slot, address)) = target else { return Err(Error::from_reply(text.as_bytes())) };
        let target = self.routing.moved(slot, address).ok_or(Error::Topology(RoutingError::Malformed))?;
        // A slot seldom moves alone. Where the new owner can't tell, following MOVED is right, too.
        if let Ok(connection) = self.connection(target) {
            let address = connection.address.clone();
            if let Some(connection) = self.connections[target.index()].as_mut() {
                let routing = &mut self.routing;
                let _ = connection.command_with(&["CLUSTER", "SLOTS"], |reply| routing.learn(reply, &address));
            }
        }
        Ok(target)
    }
}

impl Connection {
    /// Sends the commands at `indexes` in windows, and puts the replies in their places.
    fn windows<A: AsRef<[u8]>>(
        &mut self,
        commands: &[&[A]],
        indexes: &[usize],
        values: &mut [Value],
    ) -> Result<(), Error> {
        let (mut requests, mut bytes) = (0, 0);
        for &index in indexes {
            let size: usize = commands[index].iter().map(|arg| arg.as_ref().len()).sum();
            if 0 < requests && (requests == WINDOW_REQUESTS || WINDOW_BYTES < bytes + size) {
                self.exchange(|index, reply| values[index] = reply.to_value())?;
                (requests, bytes) = (0, 0);
            }
            self.queue(index, commands[index])?;
            (requests, bytes) = (requests + 1, bytes + size);
        }
        self.exchange(|index, reply| values[index] = reply.to_value())
    }
}

/// Asks a server for the topology. One that knows of none owns everything.
pub(crate) fn learn(connection: &mut Connection) -> Result<Routing, Error> {
    let address = connection.address.clone();
    let learned = connection.command_with(&["CLUSTER", "SLOTS"], |reply| match reply {
        Reply::Error(text) => Err(Error::from_reply(text)),
        reply => Ok(Routing::from_slots(reply, &address)),
    })?;
    match learned {
        Ok(Ok(routing)) => Ok(routing),
        Ok(Err(error)) => Err(Error::Topology(error)),
        // "ERR This instance has cluster support disabled", or "ERR unknown command".
        Err(Error::Refused(_)) => Ok(Routing::single(address)),
        Err(error) => Err(error),
    }
}
