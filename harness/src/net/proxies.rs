//! The wire that needs no privilege: a socket for each directed link. S(i→j) is what node i takes for node j. What node i sends there
//! leaves to node j from S(j→i), the address that node j takes for node i: senders keep their identity, and payloads are never
//! looked at.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use super::Link;
use super::forward::{Arrival, Wire, change};
use super::rules::Change;
use crate::cluster::Addresses;

/// Receive buffer of each proxy, bytes: a burst that arrives while this thread has no CPU is held, not lost uncounted.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// The sockets of every link, in the order of [`Link::all`].
pub(super) struct Proxies {
    sockets: Vec<UdpSocket>,
    ports: Vec<Port>,
    nodes: u32,
}

/// One directed link.
struct Port {
    link: Link,
    sender: SocketAddr,
    receiver: SocketAddr,
}

impl Proxies {
    /// Binds every proxy.
    pub(super) fn bind(addresses: &Addresses) -> io::Result<Proxies> {
        let nodes = addresses.nodes();
        let (mut sockets, mut ports) = (Vec::new(), Vec::new());
        for link in Link::all(nodes) {
            sockets.push(bind(addresses.proxy(link.from, link.to))?);
            ports.push(Port { link, sender: addresses.node(link.from), receiver: addresses.node(link.to) });
        }
        Ok(Proxies { sockets, ports, nodes })
    }

    /// The index of a link in [`Link::all`]: a row of `nodes - 1` for each sender, without itself.
    fn index(&self, from: u32, to: u32) -> usize {
        ((from - 1) * (self.nodes - 1) + to - 1 - u32::from(to > from)) as usize
    }
}

impl Wire for Proxies {
    fn wait(&mut self, timeout: Duration) -> Vec<usize> {
        readable(self.sockets.iter(), timeout)
    }

    fn read(&mut self, source: usize, buffer: &mut [u8]) -> Arrival {
        let port = &self.ports[source];
        match self.sockets[source].recv_from(buffer) {
            Ok((len, sender)) if sender == port.sender => Arrival::Came(port.link, len),
            Ok(_) => Arrival::Foreign(port.link),
            // Nothing left, or an error that concerns one datagram alone.
            Err(_) => Arrival::Nothing,
        }
    }

    fn write(&mut self, link: Link, bytes: &[u8]) -> io::Result<()> {
        let receiver = self.ports[self.index(link.from, link.to)].receiver;
        self.sockets[self.index(link.to, link.from)].send_to(bytes, receiver).map(drop)
    }

    /// The kernel makes a new checksum for what it sends: a wrong one cannot be sent from here.
    fn change(&self, bytes: &mut [u8], how: Change) {
        if let Change::Seen(draw) = how {
            change(bytes, draw);
        }
    }
}

/// Sleeps until something can be read, or so long; which of them have something to read.
pub(super) fn readable<'a, F: AsFd + 'a>(
    sources: impl Iterator<Item = &'a F>,
    timeout: Duration,
) -> Vec<usize> {
    let mut fds: Vec<_> = sources.map(|source| PollFd::new(source.as_fd(), PollFlags::POLLIN)).collect();
    match ppoll(&mut fds, Some(TimeSpec::from_duration(timeout)), None) {
        Ok(0) => Vec::new(),
        Ok(_) => (0..fds.len()).filter(|&source| fds[source].any().unwrap_or(false)).collect(),
        // Interrupted by a signal, or the kernel is out of memory: look again, but do not spin.
        Err(_) => {
            std::thread::sleep(Duration::from_millis(1));
            Vec::new()
        }
    }
}

fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(addr)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot bind proxy {addr}: {error}")))?;
    socket.set_nonblocking(true)?;
    // Root may exceed the system's limit; everyone else gets what the limit allows.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    }
    Ok(socket)
}
