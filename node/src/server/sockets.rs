//! The sockets of a node: one for its peers and one for clients, at the same address, so that each has a queue of its own in the
//! kernel. However many requests wait, a heartbeat does not wait behind them, and is not lost because there is no room.
//!
//! Who is who the kernel tells by a filter of four instructions (SO_ATTACH_REUSEPORT_CBPF): the sender's id in the frame, which
//! is 0 for a client. Where that is not to be had, one socket serves all.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use crate::config::{DATAGRAMS_PER_TURN_MAX, RECEIVE_BUFFER_BYTES};
use crate::transport::frame::FROM_AT;
use crate::transport::udp::BatchSocket;

pub(super) struct Sockets {
    /// Everybody's, if there is no other.
    peers: BatchSocket,
    clients: Option<BatchSocket>,
}

impl Sockets {
    /// Listens at `address`, which nobody else may have.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Sockets> {
        // Those who share an address do not notice each other, so first one that would not share it.
        let alone = socket(address, false)?;
        if address.port() != 0 {
            drop(alone);
            if let Ok(sockets) = Sockets::bind_two(address) {
                return Ok(sockets);
            }
            return Ok(Sockets { peers: BatchSocket::new(socket(address, false)?.into())?, clients: None });
        }
        Ok(Sockets { peers: BatchSocket::new(alone.into())?, clients: None })
    }

    fn bind_two(address: SocketAddr) -> io::Result<Sockets> {
        // The filter counts in the order in which they are bound.
        let (clients, peers) = (socket(address, true)?, socket(address, true)?);
        let step = |code: u32, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
        let mut filter = [
            // A datagram that is too short for it goes to the first socket.
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, FROM_AT as u32),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0),
            step(libc::BPF_RET | libc::BPF_K, 0, 0),
            step(libc::BPF_RET | libc::BPF_K, 0, 1),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        setsockopt(&clients, sockopt::AttachReusePortCbpf, &program)?;
        Ok(Sockets {
            peers: BatchSocket::new(peers.into())?,
            clients: Some(BatchSocket::new(clients.into())?),
        })
    }

    /// Takes what there is of peers, then of clients, no more than a turn's worth of each.
    pub(super) fn receive(&mut self, mut take: impl FnMut(SocketAddr, &[u8])) {
        self.peers.receive(DATAGRAMS_PER_TURN_MAX, &mut take);
        if let Some(clients) = &mut self.clients {
            clients.receive(DATAGRAMS_PER_TURN_MAX, &mut take);
        }
    }

    pub(super) fn send(&mut self, datagrams: &[(SocketAddr, Vec<u8>)]) {
        self.peers.send(datagrams);
    }

    /// Datagrams that the kernel had no room for, since the start.
    pub(super) fn lost(&self) -> u64 {
        self.peers.lost() + self.clients.as_ref().map_or(0, BatchSocket::lost)
    }

    /// What becomes readable when something arrives.
    pub(super) fn as_fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.peers.as_fd(), self.clients.as_ref().unwrap_or(&self.peers).as_fd()]
    }
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    // The kernel clamps the wish to net.core.rmem_max without an error.
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    if shared {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::raft::types::ProcessId;
    use crate::transport::frame::{Frame, Kind};

    fn datagram(from: u32, message_id: u64) -> Vec<u8> {
        let process = ProcessId { directory: u64::from(from), incarnation: 1 };
        let kind = if from == 0 { Kind::Request } else { Kind::Peer };
        Frame { kind, cluster_id: 1, from, to: 0, process, term: 1, message_id, payload: &[7; 200] }.encode()
    }

    /// A free port of a loopback address that nothing else here uses.
    fn address() -> SocketAddr {
        UdpSocket::bind("127.83.7.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn a_heartbeat_arrives_behind_more_requests_than_there_is_room_for() {
        let address = address();
        let mut sockets = Sockets::bind(address).unwrap();
        assert!(sockets.clients.is_some(), "this kernel has the filter");
        let sender = UdpSocket::bind("127.83.7.1:0").unwrap();
        let mut sent = 0;
        while sockets.lost() == 0 {
            assert!(sent < 200_000, "the receive buffer has no end");
            for _ in 0..100 {
                sender.send_to(&datagram(0, 1), address).unwrap();
                sent += 1;
            }
        }
        sender.send_to(b"short", address).unwrap();
        sender.send_to(&datagram(3, 77), address).unwrap();
        let (mut taken, began) = (Vec::new(), Instant::now());
        while taken.is_empty() {
            sockets.receive(|_, bytes| {
                taken.extend(Frame::decode(bytes).map(|frame| (frame.from, frame.message_id)));
            });
            assert!(began.elapsed() < Duration::from_secs(20), "nothing arrived");
        }
        assert_eq!(taken[0], (3, 77), "the peer first, behind {sent} requests");
        assert!(taken.len() > 1 && taken[1..].iter().all(|(from, _)| *from == 0), "and clients after it");
    }

    #[test]
    fn two_nodes_do_not_share_an_address() {
        let address = address();
        let sockets = Sockets::bind(address).unwrap();
        let second = Sockets::bind(address).err().map(|error| error.kind());
        assert_eq!(second, Some(io::ErrorKind::AddrInUse));
        drop(sockets);
        assert!(Sockets::bind(address).is_ok());
    }
}
