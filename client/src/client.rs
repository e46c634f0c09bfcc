//! An asynchronous client on the server's own network ring, for programs that run in a glommio executor.
//!
//! One task drives the ring for all clones of a [`Client`]. Commands that are asked for before it runs again leave together,
//! one send for each node, so that many tasks with one client pipeline by themselves.
//!
//! ```no_run
//! use trine_client::{Options, client::Client};
//!
//! let executor = trine::io::executor::start("example", 0, || async {
//!     let client = Client::connect("127.0.0.1:7000", Options::default()).await?;
//!     client.set("greeting", "hello").await?;
//!     client.get("greeting").await
//! });
//! ```

use crate::{
    Error, Options, REDIRECTIONS_MAX,
    beat::beat,
    blocking::{self, Connection},
    pipeline::{Backoff, Nanos, Pending, Pipeline},
    reply::{Reply, Value},
    routing::{Node, Routing, moved_address, parse_moved},
};
use glommio::timer::sleep;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    net::TcpStream,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};
use trine::{
    io::ring::{Bell, ConnectionId, Event, Ring},
    resp::encode_request,
};

/// Receive buffers of a client's ring: it is one of many things that a core does.
const RECEIVE_BUFFERS: u16 = 64;
const RECEIVE_BYTES: usize = 16 * 1024;
/// The time between two searches for overdue requests.
const CHORES: Duration = Duration::from_millis(5);

/// A client of one server or a whole cluster. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    handle: Rc<Handle>,
}

/// Tells the driver when the last clone has gone.
struct Handle {
    shared: Rc<Shared>,
    bell: Arc<Bell>,
}

/// State that clients and the driver share. They run in one thread, by turns.
#[derive(Default)]
struct Shared {
    orders: RefCell<Vec<Order>>,
    /// Connections that were made for the driver, or could not be.
    made: RefCell<Vec<(usize, Result<TcpStream, Error>)>>,
    has_ended: Cell<bool>,
}

/// A command on its way.
struct Order {
    bytes: Vec<u8>,
    /// The bytes that select the node, usually the first key; empty for commands without a second word.
    key: Vec<u8>,
    redirections: usize,
    answer: Rc<Answer>,
}

/// The place for a command's result, with the task that waits for it.
#[derive(Default)]
struct Answer {
    result: Cell<Option<Result<Value, Error>>>,
    waker: Cell<Option<Waker>>,
}

impl Order {
    fn finish(self, result: Result<Value, Error>) {
        self.answer.result.set(Some(result));
        if let Some(waker) = self.answer.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.has_ended.set(true);
        self.bell.ring();
    }
}

impl Client {
    /// Connects to a server, and learns from it where everything is.
    ///
    /// # Errors
    /// Where the server can't be reached, its topology can't be used, or io_uring can't be had ([`Error::Lost`]).
    ///
    /// # Panics
    /// Outside a glommio executor.
    pub async fn connect(address: &str, options: Options) -> Result<Self, Error> {
        let (asked, first) = (address.to_string(), options.clone());
        let connecting = glommio::executor().spawn_blocking(move || {
            let mut connection = Connection::connect(&asked, &first)?;
            Ok((blocking::learn(&mut connection)?, connection.into_socket()))
        });
        let (routing, socket) = connecting.await?;
        let ring = Ring::new(RECEIVE_BUFFERS, RECEIVE_BYTES)
            .map_err(|source| Error::Lost { address: address.into(), source })?;
        let (shared, bell) = (Rc::new(Shared::default()), ring.bell());
        let mut driver = Driver::new(ring, routing, options, Rc::clone(&shared));
        if let Some(position) = driver.routing.nodes().iter().position(|node| node == address) {
            driver.adopt(position, socket);
        }
        let beat = glommio::spawn_local(beat(Arc::clone(&bell), CHORES));
        glommio::spawn_local(async move {
            driver.run().await;
            beat.cancel().await;
        })
        .detach();
        Ok(Self { handle: Rc::new(Handle { shared, bell }) })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error`], whose variants say what to do.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        match self.command(&[b"GET", key.as_ref()]).await? {
            Value::Bulk(bytes) => Ok(Some(bytes)),
            _ => Ok(None),
        }
    }

    /// Sets a key to a value.
    ///
    /// # Errors
    /// [`Error`], whose variants say what to do.
    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        self.command(&[b"SET", key.as_ref(), value.as_ref()]).await.map(drop)
    }

    /// Deletes a key. Returns whether it was there.
    ///
    /// # Errors
    /// [`Error`], whose variants say what to do.
    pub async fn del(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        Ok(self.command(&[b"DEL", key.as_ref()]).await? == Value::Integer(1))
    }

    /// Any command. Its second word decides who is asked; where that is not its key, the server says who is. Who wants to
    /// pipeline makes several of these futures and awaits them together. One that is dropped is executed all the same.
    ///
    /// # Errors
    /// [`Error`], whose variants say what to do; an error reply among them.
    pub async fn command<A: AsRef<[u8]>>(&self, args: &[A]) -> Result<Value, Error> {
        if args.is_empty() {
            return Err(Error::EmptyCommand);
        }
        let mut bytes = Vec::new();
        encode_request(&mut bytes, args.iter().map(AsRef::as_ref));
        let key = args.get(1).map(|key| key.as_ref().to_vec()).unwrap_or_default();
        let answer = Rc::new(Answer::default());
        let order = Order { bytes, key, redirections: 0, answer: Rc::clone(&answer) };
        self.handle.shared.orders.borrow_mut().push(order);
        self.handle.bell.ring();
        poll_fn(|context| match answer.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                answer.waker.set(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

/// A node's connection, or the place where one will be.
#[derive(Default)]
struct Link {
    pipeline: Pipeline<Order>,
    connection: Option<ConnectionId>,
    is_connecting: bool,
    backoff: Backoff,
}

/// Drives the ring for all clones of a client.
struct Driver {
    ring: Ring,
    shared: Rc<Shared>,
    options: Options,
    routing: Routing,
    /// By node.
    links: Vec<Link>,
    begun: Instant,
}

impl Driver {
    fn new(ring: Ring, routing: Routing, options: Options, shared: Rc<Shared>) -> Self {
        let mut links = Vec::new();
        links.resize_with(routing.nodes().len(), Link::default);
        Self { ring, shared, options, routing, links, begun: Instant::now() }
    }

    fn now(&self) -> Nanos {
        Nanos(0).after(self.begun.elapsed())
    }

    /// Ends when nobody is left who could ask for anything, and everything has its answer.
    async fn run(mut self) {
        loop {
            let orders = std::mem::take(&mut *self.shared.orders.borrow_mut());
            let is_idle = orders.is_empty() && self.links.iter().all(|link| link.pipeline.is_empty());
            if is_idle && self.shared.has_ended.get() {
                return;
            }
            let now = self.now();
            orders.into_iter().for_each(|order| {
                let node = if order.key.is_empty() { Node(0) } else { self.routing.node_of(&order.key) };
                self.queue(node, order, now);
            });
            self.adopt_made();
            self.send(now);
            let turned = self.turn();
            let shared = Rc::clone(&self.shared);
            let has_work = || !shared.orders.borrow().is_empty() || !shared.made.borrow().is_empty();
            let result = match turned {
                Ok(0) => self.ring.wait(has_work).await,
                Ok(_) => {
                    // Whoever waits for what has just arrived goes on.
                    futures_lite::future::yield_now().await;
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                (0..self.links.len()).for_each(|link| self.lose(link, &error));
            }
            self.expire();
        }
    }

    fn queue(&mut self, node: Node, order: Order, now: Nanos) {
        let pipeline = &mut self.links[node.index()].pipeline;
        // The bytes travel with the order too, for the case that they have to be sent elsewhere.
        let bytes = order.bytes.clone();
        pipeline.request(order, now).extend_from_slice(&bytes);
    }

    fn send(&mut self, now: Nanos) {
        for index in 0..self.links.len() {
            let link = &mut self.links[index];
            match link.connection {
                _ if !link.pipeline.has_output() => {}
                Some(id) if !self.ring.is_sending(id) => {
                    let empty = self.ring.buffer();
                    let bytes = link.pipeline.output(now, empty);
                    self.ring.send(id, bytes);
                }
                Some(_) => {}
                None => self.connect(index),
            }
        }
    }

    /// Has a connection made beside the executor, after a pause where the last one failed.
    fn connect(&mut self, index: usize) {
        let link = &mut self.links[index];
        if std::mem::replace(&mut link.is_connecting, true) {
            return;
        }
        let delay = if link.backoff == Backoff::default() { Duration::ZERO } else { link.backoff.clone().failed() };
        let (address, options) = (self.routing.nodes()[index].clone(), self.options.clone());
        let (shared, bell) = (Rc::clone(&self.shared), self.ring.bell());
        glommio::spawn_local(async move {
            sleep(delay).await;
            let connecting = move || Connection::connect(&address, &options).map(Connection::into_socket);
            let made = glommio::executor().spawn_blocking(connecting).await;
            shared.made.borrow_mut().push((index, made));
            bell.ring();
        })
        .detach();
    }

    fn adopt_made(&mut self) {
        let made = std::mem::take(&mut *self.shared.made.borrow_mut());
        for (index, result) in made {
            self.links[index].is_connecting = false;
            match result {
                Ok(socket) => self.adopt(index, socket),
                Err(error) => {
                    self.links[index].backoff.failed();
                    self.fail(index, &|| copy_of(&error));
                }
            }
        }
    }

    fn adopt(&mut self, index: usize, socket: TcpStream) {
        self.links[index].backoff.succeeded();
        self.links[index].connection = Some(self.ring.adopt(socket));
    }

    fn turn(&mut self) -> io::Result<usize> {
        let (links, routing) = (&mut self.links, &mut self.routing);
        let (mut broken, mut moved) = (Vec::new(), Vec::new());
        let count = self.ring.turn(|event| {
            let position = |id| links.iter().position(|link: &Link| link.connection == Some(id));
            match event {
                Event::Received(id, bytes) => {
                    let Some(index) = position(id) else { return };
                    let received = links[index].pipeline.receive(bytes, |pending, reply| {
                        moved.extend(answer(routing, index, pending, reply));
                    });
                    if let Err(error) = received {
                        broken.push((index, io::Error::new(io::ErrorKind::InvalidData, error)));
                    }
                }
                Event::Ended(id) => {
                    let closed = || io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server");
                    broken.extend(position(id).map(|index| (index, closed())));
                }
                Event::Failed(id, error) => broken.extend(position(id).map(|index| (index, error))),
                Event::Coming(_)
                | Event::Connected(_)
                | Event::Sent(_)
                | Event::Accepted(..)
                | Event::AcceptFailed(..)
                | Event::Written(..)
                | Event::Read(..) => {}
            }
        })?;
        broken.into_iter().for_each(|(index, error)| self.lose(index, &error));
        self.links.resize_with(self.routing.nodes().len(), Link::default);
        let now = self.now();
        moved.into_iter().for_each(|(node, order)| self.queue(node, order, now));
        Ok(count)
    }

    /// Gives a connection up, with all that waits on it.
    fn lose(&mut self, index: usize, error: &io::Error) {
        if let Some(id) = self.links[index].connection.take() {
            self.ring.close(id);
        }
        let address = self.routing.nodes()[index].clone();
        let lost = || Error::Lost { address: address.clone(), source: io::Error::new(error.kind(), error.to_string()) };
        self.fail(index, &lost);
    }

    fn fail(&mut self, index: usize, error: &dyn Fn() -> Error) {
        self.links[index].pipeline.fail().for_each(|pending| pending.tag.finish(Err(error())));
    }

    fn expire(&mut self) {
        let (now, timeout) = (self.now(), self.options.timeout);
        for index in 0..self.links.len() {
            if self.links[index].pipeline.is_overdue(now, timeout) {
                if let Some(id) = self.links[index].connection.take() {
                    self.ring.close(id);
                }
                let address = self.routing.nodes()[index].clone();
                self.fail(index, &|| Error::TimedOut { address: address.clone(), after: timeout });
            }
        }
    }
}

/// Finishes a command, or returns where it has to be sent instead.
fn answer(routing: &mut Routing, index: usize, pending: Pending<Order>, reply: Reply<'_>) -> Option<(Node, Order)> {
    let mut order = pending.tag;
    let Reply::Error(text) = reply else {
        order.finish(Ok(reply.to_value()));
        return None;
    };
    let asked = &routing.nodes()[index];
    let target = parse_moved(text).and_then(|(slot, address)| Some((slot, moved_address(address, asked)?)));
    let node = target.and_then(|(slot, address)| routing.moved(slot, address));
    match node {
        Some(node) if order.redirections < REDIRECTIONS_MAX => {
            order.redirections += 1;
            Some((node, order))
        }
        _ => {
            order.finish(Err(Error::from_reply(text)));
            None
        }
    }
}

/// An error for each of those who waited for the same connection.
fn copy_of(error: &Error) -> Error {
    match error {
        Error::Denied(text) => Error::Denied(text.clone()),
        Error::NotReady(text) => Error::NotReady(text.clone()),
        Error::Refused(text) => Error::Refused(text.clone()),
        Error::TimedOut { address, after } => Error::TimedOut { address: address.clone(), after: *after },
        Error::Unreachable { address, source } | Error::Lost { address, source } => {
            let source = io::Error::new(source.kind(), source.to_string());
            Error::Unreachable { address: address.clone(), source }
        }
        other => Error::Refused(other.to_string()),
    }
}
