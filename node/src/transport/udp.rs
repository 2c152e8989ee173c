//! A UDP socket that takes and gives datagrams in batches: one recvmmsg(2) and one sendmmsg(2) where there would be a system
//! call for each. Neighbours of one length to one address travel the kernel as one (UDP_SEGMENT, UDP_GRO); on the wire, and
//! to whoever does not ask for that, they are the same datagrams. What is in them is [`super::frame`]'s business.

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc;
use socket2::{SockAddr, SockAddrStorage};

/// Messages of one system call. A message is one datagram, or a run of them that travels as one.
const MESSAGES_PER_CALL: usize = 32;
/// The largest message: what one UDP length field can say.
const MESSAGE_BYTES_MAX: usize = 65_536;
/// Most bytes of a run: below [`MESSAGE_BYTES_MAX`] by more than any header.
const RUN_BYTES_MAX: usize = 65_000;
/// Most datagrams of a run: what every kernel with UDP_SEGMENT takes.
const RUN_MAX: usize = 64;

/// Room for one control message with an integer, aligned as the kernel wants it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 64]);

/// A socket that never blocks.
#[derive(Debug)]
pub struct BatchSocket {
    socket: UdpSocket,
    /// Whether runs travel as one: until the kernel or a device refuses.
    runs: bool,
    buffers: Vec<u8>,
}

impl BatchSocket {
    /// Takes a bound socket.
    ///
    /// # Errors
    /// When it cannot be set to not block.
    pub fn new(socket: UdpSocket) -> io::Result<BatchSocket> {
        socket.set_nonblocking(true)?;
        let on: libc::c_int = 1;
        // A kernel that does not know the option delivers every datagram by itself, which is as good: the result is not looked at.
        // SAFETY: the option's value is a living c_int, and its length is told.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_UDP,
                libc::UDP_GRO,
                (&raw const on).cast(),
                mem::size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
        Ok(BatchSocket { socket, runs: true, buffers: vec![0; MESSAGES_PER_CALL * MESSAGE_BYTES_MAX] })
    }

    /// Datagrams that found no room in the receive buffer, since the socket was made.
    pub fn lost(&self) -> u64 {
        /// Where the kernel's answer has the number (linux/sock_diag.h).
        const SK_MEMINFO_DROPS: usize = 8;
        let mut numbers = [0_u32; SK_MEMINFO_DROPS + 1];
        let mut length = mem::size_of_val(&numbers) as libc::socklen_t;
        // A kernel that does not know the option leaves the zeros.
        // SAFETY: the kernel writes no more than `length` bytes into the array, which lives.
        unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                numbers.as_mut_ptr().cast(),
                &raw mut length,
            );
        }
        u64::from(numbers[SK_MEMINFO_DROPS])
    }

    /// Takes what is there and hands every datagram over, until nothing is left or `enough` were taken. A system call's worth is never
    /// cut, so that a few more may come.
    pub fn receive(&mut self, enough: usize, mut take: impl FnMut(SocketAddr, &[u8])) {
        let mut taken = 0;
        let mut counted = |source, datagram: &[u8]| {
            taken += 1;
            take(source, datagram);
            taken < enough
        };
        while self.receive_once(&mut counted) {}
    }

    /// One recvmmsg. Returns whether there may be more, and it is wanted.
    fn receive_once(&mut self, take: &mut impl FnMut(SocketAddr, &[u8]) -> bool) -> bool {
        let mut slices = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MESSAGES_PER_CALL];
        let mut controls = [Control([0; 64]); MESSAGES_PER_CALL];
        let mut names: [SockAddrStorage; MESSAGES_PER_CALL] =
            std::array::from_fn(|_| SockAddrStorage::zeroed());
        // SAFETY: all-zero is a valid value of this plain C structure.
        let mut headers: [libc::mmsghdr; MESSAGES_PER_CALL] = unsafe { mem::zeroed() };
        let buffers = self.buffers.chunks_exact_mut(MESSAGE_BYTES_MAX);
        for (i, buffer) in buffers.enumerate().take(MESSAGES_PER_CALL) {
            slices[i] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            let header = &mut headers[i].msg_hdr;
            header.msg_name = (&raw mut names[i]).cast();
            header.msg_namelen = mem::size_of::<SockAddrStorage>() as libc::socklen_t;
            header.msg_iov = &raw mut slices[i];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut controls[i]).cast();
            header.msg_controllen = mem::size_of::<Control>() as _;
        }
        // SAFETY: every pointer in `headers` is to an array above that outlives the call, with its true length.
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                MESSAGES_PER_CALL as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        // Nothing is there; or an ICMP error of an earlier send, which says nothing about us; or a signal came first.
        let Ok(received) = usize::try_from(received) else {
            return io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        };
        let mut wanted = true;
        for (i, (header, name)) in headers.iter().zip(names).enumerate().take(received) {
            // SAFETY: the kernel wrote an address of this length there.
            let name = unsafe { SockAddr::new(name, header.msg_hdr.msg_namelen) };
            let Some(source) = name.as_socket() else { continue };
            let bytes = &self.buffers[i * MESSAGE_BYTES_MAX..][..header.msg_len as usize];
            let length = run_length(&header.msg_hdr).unwrap_or(bytes.len());
            if bytes.is_empty() {
                wanted = take(source, bytes);
            }
            for datagram in bytes.chunks(length.max(1)) {
                wanted = take(source, datagram);
            }
        }
        wanted && received == MESSAGES_PER_CALL
    }

    /// Sends what can be sent at once. What cannot is lost, like any datagram: whoever needs it asks again.
    pub fn send<B: AsRef<[u8]>>(&mut self, datagrams: &[(SocketAddr, B)]) {
        let mut rest = datagrams;
        while !rest.is_empty() {
            let mut ends = [0; MESSAGES_PER_CALL];
            let mut count = 0;
            let mut end = 0;
            while count < MESSAGES_PER_CALL && end < rest.len() {
                end += if self.runs { run(&rest[end..]) } else { 1 };
                ends[count] = end;
                count += 1;
            }
            let sent = self.send_messages(&rest[..end], &ends[..count]);
            let done = if sent > 0 { ends[sent - 1] } else { 0 };
            if sent < count {
                // The kernel stopped before this message: the others shall not suffer for it.
                self.send_alone(&rest[done..ends[sent]]);
                rest = &rest[ends[sent]..];
            } else {
                rest = &rest[done..];
            }
        }
    }

    /// Sends a message that was refused, once more, and a run datagram by datagram after that.
    fn send_alone<B: AsRef<[u8]>>(&mut self, message: &[(SocketAddr, B)]) {
        if self.send_messages(message, &[message.len()]) > 0 || message.len() == 1 {
            return;
        }
        let full = io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock;
        let sent = message.iter().filter(|(to, one)| self.socket.send_to(one.as_ref(), to).is_ok()).count();
        // Refused only as a run: the device computes no checksums, or the path's MTU is smaller than its datagrams.
        if sent > 0 && !full {
            self.runs = false;
        }
    }

    /// One sendmmsg of messages that end before these positions. Returns how many of them left.
    fn send_messages<B: AsRef<[u8]>>(&self, datagrams: &[(SocketAddr, B)], ends: &[usize]) -> usize {
        let mut slices: Vec<libc::iovec> = datagrams
            .iter()
            .map(|(_, datagram)| {
                let bytes = datagram.as_ref();
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
            })
            .collect();
        let mut controls = [Control([0; 64]); MESSAGES_PER_CALL];
        // SAFETY: all-zero is a valid value of this plain C structure.
        let mut headers: [libc::mmsghdr; MESSAGES_PER_CALL] = unsafe { mem::zeroed() };
        let mut starts = 0;
        let mut names: Vec<SockAddr> = Vec::with_capacity(ends.len());
        for (i, end) in ends.iter().enumerate() {
            let message = &datagrams[starts..*end];
            names.push(SockAddr::from(message[0].0));
            let header = &mut headers[i].msg_hdr;
            header.msg_iov = &raw mut slices[starts];
            header.msg_iovlen = message.len() as _;
            if message.len() > 1 {
                write_run_length(header, &mut controls[i], message[0].1.as_ref().len());
            }
            starts = *end;
        }
        for (name, header) in names.iter().zip(&mut headers) {
            header.msg_hdr.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = name.len();
        }
        // SAFETY: every pointer in `headers` is to something above that outlives the call, with its true length; the kernel
        // only reads it.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                ends.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(sent).unwrap_or(0)
    }
}

impl AsFd for BatchSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How many of the first datagrams may travel as one: to one address, and all of one length but the last, which may be shorter.
fn run<B: AsRef<[u8]>>(datagrams: &[(SocketAddr, B)]) -> usize {
    let Some((to, first)) = datagrams.first() else { return 0 };
    let length = first.as_ref().len();
    let mut bytes = length;
    let mut count = 1;
    while let Some((other, next)) = datagrams.get(count) {
        let next = next.as_ref().len();
        bytes += next;
        if other != to || next > length || next == 0 || bytes > RUN_BYTES_MAX || count == RUN_MAX {
            break;
        }
        count += 1;
        if next < length {
            break;
        }
    }
    count
}

fn write_run_length(header: &mut libc::msghdr, control: &mut Control, length: usize) {
    // SAFETY: a pure computation.
    let (space, head) = unsafe {
        (libc::CMSG_SPACE(mem::size_of::<u16>() as u32), libc::CMSG_LEN(mem::size_of::<u16>() as u32))
    };
    header.msg_control = (&raw mut *control).cast();
    header.msg_controllen = space as _;
    // SAFETY: `control` is larger than the space of one control message with a u16, and aligned for its header.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = libc::SOL_UDP;
        (*message).cmsg_type = libc::UDP_SEGMENT;
        (*message).cmsg_len = head as _;
        libc::CMSG_DATA(message).cast::<u16>().write_unaligned(length as u16);
    }
}

/// The length of each datagram of a received run but the last; `None` if the message is one datagram.
fn run_length(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel wrote the control messages and their total length into a buffer that still lives.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_UDP && (*message).cmsg_type == libc::UDP_GRO {
                let length = libc::CMSG_DATA(message).cast::<libc::c_int>().read_unaligned();
                return usize::try_from(length).ok().filter(|length| *length > 0);
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn socket() -> (BatchSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (BatchSocket::new(socket).unwrap(), address)
    }

    fn receive(socket: &mut BatchSocket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let (started, mut received) = (Instant::now(), Vec::new());
        while received.len() < count {
            assert!(started.elapsed() < Duration::from_secs(10), "{} of {count}", received.len());
            socket.receive(1, |source, datagram| received.push((source, datagram.to_vec())));
        }
        received
    }

    /// Datagrams of these lengths, each of another byte.
    fn datagrams(to: SocketAddr, lengths: impl IntoIterator<Item = usize>) -> Vec<(SocketAddr, Vec<u8>)> {
        (0_u8..).zip(lengths).map(|(i, length)| (to, vec![i; length])).collect()
    }

    #[test]
    fn runs_arrive_as_the_datagrams_that_were_sent_in_their_order() {
        let ((mut a, from), (mut b, to)) = (socket(), socket());
        // One length; a shorter one at the end, a longer one behind it, an empty one; more than fits into one call.
        for lengths in
            [vec![100; 10], vec![100, 100, 40, 100, 1408, 7, 0, 0, 9], vec![1408; 60], vec![1, 2, 3, 4]]
        {
            let sent = datagrams(to, lengths);
            a.send(&sent);
            let received = receive(&mut b, sent.len());
            let expected: Vec<_> = sent.into_iter().map(|(_, datagram)| (from, datagram)).collect();
            assert_eq!(received, expected);
        }
        assert!(a.runs, "loopback refuses no runs");
    }

    #[test]
    fn a_plain_socket_gets_plain_datagrams() {
        let (mut a, _) = socket();
        let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
        plain.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        a.send(&datagrams(plain.local_addr().unwrap(), [50; 5]));
        let mut buffer = [0; 2000];
        for i in 0..5 {
            assert_eq!(plain.recv(&mut buffer).unwrap(), 50);
            assert_eq!(buffer[..50], [i; 50]);
        }
    }

    #[test]
    fn an_address_that_cannot_be_reached_costs_its_own_datagrams_alone() {
        let ((mut a, _), (mut b, to)) = (socket(), socket());
        // A port of 0 is refused by every kernel.
        let nowhere = SocketAddr::new(to.ip(), 0);
        let mut sent = datagrams(to, [10; 3]);
        sent.extend(datagrams(nowhere, [10; 3]));
        sent.extend(datagrams(to, [20; 3]));
        a.send(&sent);
        let lengths: Vec<usize> = receive(&mut b, 6).iter().map(|(_, datagram)| datagram.len()).collect();
        assert_eq!(lengths, [10, 10, 10, 20, 20, 20]);
        assert!(a.runs, "it was the address, not the run, that was refused");
    }

    #[test]
    fn only_neighbours_of_one_length_to_one_address_are_a_run() {
        let (to, other) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        assert_eq!(run(&datagrams(to, [9, 9, 9])), 3);
        assert_eq!(run(&datagrams(to, [9, 9, 5, 5])), 3, "a shorter one ends it");
        assert_eq!(run(&datagrams(to, [5, 9])), 1, "a longer one is the next");
        assert_eq!(run(&datagrams(to, [9, 0])), 1, "an empty one cannot be part of one");
        assert_eq!(run(&[datagrams(to, [9]), datagrams(other, [9])].concat()), 1);
        assert_eq!(run(&datagrams(to, vec![9; 200])), RUN_MAX);
        assert_eq!(run(&datagrams(to, vec![1408; 200])), RUN_BYTES_MAX / 1408);
        assert_eq!(run::<Vec<u8>>(&[]), 0);
    }
}
