//! Connections to other servers, opened without blocking.

use super::{ConnectionId, Event, Operation, Ring};
use io_uring::{opcode, types};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
};

impl Ring {
    /// Begins to connect to an address. [`Event::Connected`] or [`Event::Failed`] follows; until then nothing may be sent.
    ///
    /// # Errors
    /// Fails if the kernel refuses at once: there is no file descriptor left, or no route to the address. No event
    /// follows then.
    pub fn connect(&mut self, address: SocketAddr) -> io::Result<ConnectionId> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        match net::connect(&socket, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let id = self.take_place(TcpStream::from(socket), true);
        // The socket becomes writable once the attempt has ended, with or without success.
        let descriptor = types::Fd(self.get(id).expect("it has just come").socket.as_raw_fd());
        let poll = opcode::PollAdd::new(descriptor, libc::POLLOUT as u32).build();
        self.push(&poll.user_data(Operation::Connect.tag(id)));
        Ok(id)
    }

    /// Reports the end of an attempt to connect.
    pub(super) fn has_connected(&mut self, id: ConnectionId, result: i32, on_event: &mut impl FnMut(Event<'_>)) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.connecting = false;
        if connection.closing {
            self.release(id);
            return;
        }
        let socket = &connection.socket;
        let outcome = match sockopt::socket_error(socket) {
            _ if result < 0 => Err(io::Error::from_raw_os_error(-result)),
            // The kernel must let the ring's receives and sends wait, which it does not for a socket that never blocks.
            Ok(Ok(())) => socket.set_nonblocking(false),
            Ok(Err(error)) | Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(()) => {
                self.arm(id);
                on_event(Event::Connected(id));
            }
            Err(error) => on_event(Event::Failed(id, error)),
        }
    }

    /// Cancels an attempt to connect, if one is in flight.
    pub(super) fn stop_connecting(&mut self, id: ConnectionId) {
        if self.get(id).is_some_and(|connection| connection.connecting) {
            let cancel = opcode::AsyncCancel::new(Operation::Connect.tag(id)).build();
            self.push(&cancel.user_data(Operation::Cancel.tag(id)));
        }
    }
}
