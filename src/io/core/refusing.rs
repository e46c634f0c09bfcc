//! Clients over `maxclients`: told so in what they speak, and closed.
//!
//! What a client of the gateway speaks is known with its first bytes, which need not be there when it is accepted. So it waits
//! for them for a moment, with a few others. Nothing that it sends is executed.

use crate::{
    client::Port,
    commands::Now,
    http::{Told, response::too_many_clients, tell},
};
use std::{
    collections::VecDeque,
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
};

/// Such clients at once: each has a descriptor, which is kept back for it. One more has the first of them closed.
pub const REFUSED_MAX: usize = 8;
/// The time that a client may take to say its first words, and then to hear the answer and end.
const PATIENCE_US: u64 = 500_000;
/// Time between two looks at them.
const LOOK_EVERY_US: u64 = 10_000;
/// Bytes of the first words that show what they are; longer ones speak Redis's protocol.
const FIRST_BYTES: usize = 4096;

/// The clients that are being refused.
#[derive(Debug, Default)]
pub(super) struct Refusing {
    clients: VecDeque<Refused>,
    /// The time from which they are looked at again.
    next_us: u64,
}

#[derive(Debug)]
struct Refused {
    socket: TcpStream,
    port: Port,
    /// The time at which it came, or was told.
    since_us: u64,
    is_told: bool,
}

impl Refusing {
    /// Refuses a client that has just been accepted.
    pub(super) fn add(&mut self, port: Port, socket: TcpStream, now: Now) {
        if self.clients.len() == REFUSED_MAX
            && let Some(mut first) = self.clients.pop_front()
        {
            first.tell(true, now);
        }
        // Where it fails the socket blocks, and could block the core: the client is cut off.
        if socket.set_nonblocking(true).is_ok() {
            self.clients.push_back(Refused { socket, port, since_us: now.monotonic_us, is_told: false });
            self.tend_at_once(now);
        }
    }

    /// Does what is due for them, from time to time: each look is a system call.
    pub(super) fn tend(&mut self, now: Now) {
        if !self.clients.is_empty() && self.next_us <= now.monotonic_us {
            self.tend_at_once(now);
        }
    }

    /// Tells those whose first words have come, or who were silent for too long, and closes those who have heard it.
    fn tend_at_once(&mut self, now: Now) {
        self.next_us = now.monotonic_us + LOOK_EVERY_US;
        self.clients.retain_mut(|client| {
            let is_late = client.since_us + PATIENCE_US <= now.monotonic_us;
            if client.is_told { !is_late && client.is_open() } else { client.tell(is_late, now) }
        });
    }

    /// Returns true if nobody is being refused.
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }
}

impl Refused {
    /// Tells the client once it is known what it speaks, or `at_once`. Returns false if it has gone.
    fn tell(&mut self, at_once: bool, now: Now) -> bool {
        if self.is_told {
            return true;
        }
        let mut bytes = [0; FIRST_BYTES];
        let mut length = 0;
        if self.port == Port::Gateway {
            match self.socket.peek(&mut bytes) {
                Ok(0) => return false,
                Ok(read) => length = read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
            if tell(&bytes[..length], FIRST_BYTES) == Told::Unknown && length < FIRST_BYTES && !at_once {
                return true;
            }
        }
        let answer = too_many_clients(&bytes[..length], now.unix_us / 1_000_000);
        // As far as it fits into the socket, and it does: nothing else was sent.
        let told = self.socket.write_all(&answer).and_then(|()| self.socket.shutdown(Shutdown::Write));
        (self.is_told, self.since_us) = (true, now.monotonic_us);
        told.is_ok() && self.is_open()
    }

    /// Reads what the client still sends: closed with that unread, it would be reset, and might never see the answer. Returns
    /// false once it has ended.
    fn is_open(&mut self) -> bool {
        let mut bytes = [0; FIRST_BYTES];
        match self.socket.read(&mut bytes) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io, net::TcpListener};

    /// A client that has been accepted, and its own end.
    fn client(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    fn at(milliseconds: u64) -> Now {
        Now { unix_us: 0, monotonic_us: milliseconds * 1000 }
    }

    fn heard(mut client: TcpStream) -> io::Result<String> {
        let mut text = String::new();
        client.read_to_string(&mut text)?;
        Ok(text)
    }

    /// A client of a core's port is told at once; one of the gateway's when it has said what it speaks, or was silent for long.
    #[test]
    fn clients_are_told_in_what_they_speak() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut refusing = Refusing::default();
        let (core, by_core) = client(&listener);
        refusing.add(Port::Core, core, at(0));
        let (silent, by_silent) = client(&listener);
        refusing.add(Port::Gateway, silent, at(0));
        let (http, mut by_http) = client(&listener);
        refusing.add(Port::Gateway, http, at(0));
        assert_eq!(heard(by_core).unwrap(), "-ERR max number of clients reached\r\n");
        by_http.write_all(b"GET /get/k HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        // Loopback: what was sent is there.
        refusing.tend(at(10));
        by_http.write_all(b"more").unwrap();
        refusing.tend(at(20));
        assert!(heard(by_http).unwrap().starts_with("HTTP/1.1 503 "));
        refusing.tend(at(500));
        assert_eq!(heard(by_silent).unwrap(), "-ERR max number of clients reached\r\n");
        refusing.tend(at(1100));
        assert!(refusing.is_empty());
    }

    /// However many come, few are waited for; the others are told Redis's error at once.
    #[test]
    fn few_are_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut refusing = Refusing::default();
        let clients: Vec<_> = (0..2 * REFUSED_MAX)
            .map(|_| {
                let (accepted, client) = client(&listener);
                refusing.add(Port::Gateway, accepted, at(0));
                client
            })
            .collect();
        assert_eq!(refusing.clients.len(), REFUSED_MAX);
        for client in clients.into_iter().take(REFUSED_MAX) {
            assert_eq!(heard(client).unwrap(), "-ERR max number of clients reached\r\n");
        }
    }
}
