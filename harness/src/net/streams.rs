//! Streams between nodes: each connection that one node makes to another passes here, both ways by the rules of their links.
//! Bytes are held, delayed, and connections reset, but no byte is ever dropped, doubled, moved or changed: TCP never does that.
//!
//! A node is known to the others under one address, its front, because systems hand one address to everybody. Which node dialled is
//! therefore seen from the process that holds the other end; which way bytes flow decides over the link, not who dialled.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use rand_chacha::ChaCha8Rng;

use super::Link;
use super::counters::LinkTally;
use super::fabric::Shared;
use super::forward::LATE;
use super::rules::{Passage, bump};
use crate::NodeId;
use crate::cluster::{Roster, group_of};
use crate::random::{Purpose, stream};

/// Bytes of one direction of a connection that are held back at a time; what comes on top stays with its sender.
const HELD_BYTES_MAX: usize = 1 << 20;
/// Bytes taken from one connection before the next has its turn.
const PIECE_BYTES: usize = 64 << 10;
/// Connections at a time; what comes on top is closed at once.
const CONNECTIONS_MAX: usize = 4_096;
/// How long a node may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// How long the thread sleeps at most, and so how long a stop takes. A heal is noticed as late.
const SLEEP_MAX: Duration = Duration::from_millis(5);

/// What a new connection is handed over in: by the threads that look who dialled.
type Arrivals = Arc<Mutex<Vec<Connection>>>;

/// The thread that passes streams on.
pub(super) struct Streams {
    shared: Arc<Shared>,
    fronts: Vec<Front>,
    roster: Roster,
    connections: Vec<Connection>,
    arrivals: Arrivals,
    /// A byte on it says that there are arrivals.
    wake: (UnixStream, UnixStream),
    seed: u64,
    accepted: u32,
}

/// Where others take a node to be.
struct Front {
    node: NodeId,
    listener: TcpListener,
    target: SocketAddr,
}

/// One direction of a connection.
struct Flow {
    /// `None` if a stranger dialled.
    link: Option<Link>,
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// The sender will send no more.
    ended: bool,
    /// The receiver was told so.
    told: bool,
    /// The receiver takes nothing at the moment.
    full: bool,
    /// A fault holds it.
    held: bool,
    rng: ChaCha8Rng,
}

/// What was read at once.
struct Piece {
    came: Instant,
    /// When it may leave.
    due: Instant,
    /// Whether a fault delays it: how late it leaves is then looked at.
    delayed: bool,
    /// Whether it was seen to stay although it was due.
    kept: bool,
    bytes: Vec<u8>,
}

/// A connection: the dialling end, the accepting end, and the flow from each to the other.
struct Connection {
    ends: [TcpStream; 2],
    flows: [Flow; 2],
    dead: bool,
}

impl Streams {
    pub(super) fn new(
        shared: Arc<Shared>,
        fronts: &[(NodeId, SocketAddr, SocketAddr)],
        roster: Roster,
        seed: u64,
    ) -> io::Result<Streams> {
        let bind = |&(node, addr, target): &(NodeId, SocketAddr, SocketAddr)| {
            let listener = TcpListener::bind(addr).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot bind front {addr}: {error}"))
            })?;
            listener.set_nonblocking(true)?;
            Ok(Front { node, listener, target })
        };
        let fronts = fronts.iter().map(bind).collect::<io::Result<Vec<_>>>()?;
        let wake = UnixStream::pair()?;
        wake.0.set_nonblocking(true)?;
        wake.1.set_nonblocking(true)?;
        let (connections, arrivals) = (Vec::new(), Arrivals::default());
        Ok(Streams { shared, fronts, roster, connections, arrivals, wake, seed, accepted: 0 })
    }

    pub(super) fn run(mut self) {
        let mut buffer = vec![0; PIECE_BYTES];
        while !self.shared.stopped() {
            let readable = self.wait();
            self.accept();
            for (rank, side) in readable {
                self.receive(rank, side, &mut buffer);
            }
            self.send_due();
            self.connections.retain(|connection| !connection.dead && !connection.is_over());
            self.connections.append(&mut lock(&self.arrivals));
        }
    }

    /// Sleeps until something can be read or written, a piece is due or somebody dials; the ends that can be read.
    fn wait(&mut self) -> Vec<(usize, usize)> {
        let now = Instant::now();
        let mut timeout = SLEEP_MAX;
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(self.fronts.len() + 2 * self.connections.len() + 1);
        let poll_in = |fd: BorrowedFd<'_>| PollFd::new(unbind(fd), PollFlags::POLLIN);
        fds.push(poll_in(self.wake.1.as_fd()));
        fds.extend(self.fronts.iter().map(|front| poll_in(front.listener.as_fd())));
        let first = fds.len();
        let mut ends = Vec::new();
        for (rank, connection) in self.connections.iter().enumerate() {
            for side in [0, 1] {
                let (out, back) = (&connection.flows[side], &connection.flows[1 - side]);
                let mut flags = PollFlags::empty();
                if !out.ended && out.bytes < HELD_BYTES_MAX {
                    flags |= PollFlags::POLLIN;
                }
                if back.full {
                    flags |= PollFlags::POLLOUT;
                } else if let Some(piece) = back.pieces.front().filter(|_| !back.held) {
                    timeout = timeout.min(piece.due.saturating_duration_since(now));
                }
                if !flags.is_empty() {
                    fds.push(PollFd::new(unbind(connection.ends[side].as_fd()), flags));
                    ends.push((rank, side));
                }
            }
        }
        if ppoll(&mut fds, Some(TimeSpec::from_duration(timeout)), None).is_err() {
            std::thread::sleep(Duration::from_millis(1));
            return Vec::new();
        }
        let flagged = |fd: &PollFd<'_>| fd.revents().unwrap_or(PollFlags::empty());
        let readable = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
        let found: Vec<_> = fds[first..].iter().map(|fd| flagged(fd).intersects(readable)).collect();
        let writable: Vec<_> =
            fds[first..].iter().map(|fd| flagged(fd).contains(PollFlags::POLLOUT)).collect();
        drop(fds);
        for (&(rank, side), _) in ends.iter().zip(writable).filter(|(_, writable)| *writable) {
            self.connections[rank].flows[1 - side].full = false;
        }
        let mut byte = [0; 64];
        // Only there to end the sleep.
        while self.wake.1.read(&mut byte).is_ok_and(|count| count > 0) {}
        ends.into_iter().zip(found).filter(|(_, found)| *found).map(|(end, _)| end).collect()
    }

    fn accept(&mut self) {
        for front in &self.fronts {
            while let Ok((dialler, _)) = front.listener.accept() {
                self.accepted += 1;
                if self.connections.len() >= CONNECTIONS_MAX {
                    continue;
                }
                let (node, target, accepted) = (front.node, front.target, self.accepted);
                let (roster, arrivals, seed) = (self.roster.clone(), self.arrivals.clone(), self.seed);
                let Ok(mut wake) = self.wake.0.try_clone() else { continue };
                // A thread of its own: looking who dialled reads a few hundred files.
                std::thread::spawn(move || {
                    let from = dialled_by(&dialler, &roster);
                    // The node is not there: the dialler sees its connection end.
                    let Ok(node_end) = TcpStream::connect_timeout(&target, CONNECT_WITHIN) else { return };
                    let ends = [dialler, node_end];
                    if ends.iter().any(|end| end.set_nonblocking(true).and(end.set_nodelay(true)).is_err()) {
                        return;
                    }
                    let link =
                        |from, to| Some(Link { from: from?, to: to? }).filter(|link| link.from != link.to);
                    let flow =
                        |side: u32, link| Flow::new(link, stream(seed, Purpose::Stream, accepted * 2 + side));
                    let flows = [flow(0, link(from, Some(node))), flow(1, link(Some(node), from))];
                    lock(&arrivals).push(Connection { ends, flows, dead: false });
                    // A full pipe wakes as well.
                    let _ = wake.write(&[0]);
                });
            }
        }
    }

    fn receive(&mut self, rank: usize, side: usize, buffer: &mut [u8]) {
        let connection = &mut self.connections[rank];
        let flow = &mut connection.flows[side];
        if flow.ended || connection.dead {
            return;
        }
        match connection.ends[side].read(buffer) {
            // A lost peer is told like one that went: by the end of the stream, behind what it sent.
            Ok(0) => flow.ended = true,
            Ok(count) => {
                let now = Instant::now();
                if let Some(tally) = flow.link.and_then(|link| self.shared.link(link)) {
                    bump(&tally.received);
                }
                let passage = match flow.link {
                    Some(link) => self.shared.rules().passage(link, count, now, &mut flow.rng),
                    None => Passage::After(Duration::ZERO),
                };
                match passage {
                    Passage::Reset(tally) => {
                        bump(&tally.reset);
                        connection.reset(&self.shared);
                    }
                    Passage::After(delay) => {
                        let before = flow.pieces.back().map_or(now, |piece| piece.due);
                        let (due, delayed) = ((now + delay).max(before), !delay.is_zero());
                        if let Some(tally) =
                            flow.link.and_then(|link| self.shared.link(link)).filter(|_| delay >= LATE)
                        {
                            bump(&tally.aside);
                        }
                        flow.bytes += count;
                        flow.pieces.push_back(Piece {
                            came: now,
                            due,
                            delayed,
                            kept: false,
                            bytes: buffer[..count].to_vec(),
                        });
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::Interrupted => {
            }
            Err(_) => flow.ended = true,
        }
    }

    /// Sends every piece that is due and not held.
    fn send_due(&mut self) {
        for connection in &mut self.connections {
            for side in [0, 1] {
                let Some(link) = connection.flows[side].link else {
                    connection.send(side, &self.shared);
                    continue;
                };
                let (holds, resets) = {
                    let rules = self.shared.rules();
                    (rules.holds(link), rules.resets(link).cloned())
                };
                if let Some(tally) = resets.filter(|_| !connection.dead) {
                    bump(&tally.reset);
                    connection.reset(&self.shared);
                }
                connection.flows[side].held = holds;
                if !holds {
                    connection.send(side, &self.shared);
                } else if let Some(tally) = self.shared.link(link) {
                    connection.keep(side, tally);
                }
            }
        }
    }
}

impl Flow {
    fn new(link: Option<Link>, rng: ChaCha8Rng) -> Flow {
        Flow {
            link,
            pieces: VecDeque::new(),
            bytes: 0,
            ended: false,
            told: false,
            full: false,
            held: false,
            rng,
        }
    }
}

impl Connection {
    /// Sends what is due of the flow from `side`, and its end behind it.
    fn send(&mut self, side: usize, shared: &Shared) {
        let flow = &mut self.flows[side];
        let receiver = &mut self.ends[1 - side];
        while let Some(piece) = flow.pieces.front_mut() {
            let now = Instant::now();
            if self.dead || flow.full || piece.due > now {
                return;
            }
            match receiver.write(&piece.bytes) {
                Ok(count) => {
                    if piece.delayed {
                        shared.lagged(now - piece.due);
                        piece.delayed = false;
                    }
                    flow.bytes -= count;
                    if count < piece.bytes.len() {
                        piece.bytes.drain(..count);
                        flow.full = true;
                        return;
                    }
                    if let Some(tally) = flow.link.and_then(|link| shared.link(link)) {
                        bump(&tally.passed);
                        if now - piece.came >= LATE {
                            bump(&tally.late);
                        }
                    }
                    flow.pieces.pop_front();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    flow.full = true;
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The receiver is gone: the sender learns it from its own end.
                Err(_) => {
                    self.dead = true;
                    return;
                }
            }
        }
        if flow.ended && !flow.told {
            flow.told = true;
            // It may be gone already.
            let _ = receiver.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Counts what is due of the flow from `side` and stays.
    fn keep(&mut self, side: usize, tally: &LinkTally) {
        let now = Instant::now();
        for piece in self.flows[side].pieces.iter_mut().filter(|piece| !piece.kept && piece.due <= now) {
            piece.kept = true;
            bump(&tally.kept);
        }
    }

    /// Both ways ended and told.
    fn is_over(&self) -> bool {
        self.flows.iter().all(|flow| flow.told)
    }

    /// Ends both ends with RST: what was under way is lost with them, as it is in life.
    fn reset(&mut self, shared: &Shared) {
        for tally in self.flows.iter().filter_map(|flow| shared.link(flow.link?)) {
            bump(&tally.reset);
        }
        for end in &self.ends {
            // Without it the end is closed in order, which a node takes no better.
            let _ = socket2::SockRef::from(end).set_linger(Some(Duration::ZERO));
        }
        self.dead = true;
    }
}

/// The borrow of a descriptor that outlives the list that it is polled in: no connection is closed while the list is alive.
fn unbind<'a>(fd: BorrowedFd<'_>) -> BorrowedFd<'a> {
    use std::os::fd::AsRawFd;
    // SAFETY: the lists of `wait` are dropped before it changes anything, and it owns what they point to.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A vector that is pushed to is whole after a panic, too.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The node whose process holds the other end of an accepted connection.
fn dialled_by(stream: &TcpStream, roster: &Roster) -> Option<NodeId> {
    let inode = inode(&stream.peer_addr().ok()?, &stream.local_addr().ok()?)?;
    let wanted = format!("socket:[{inode}]");
    let holds = |pid: u32| {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
            .any(|link| link.as_os_str() == wanted.as_str())
    };
    let all = roster.all();
    // The process itself, or one of its group: systems start through scripts.
    let found = all.iter().find(|(_, pid)| holds(**pid));
    let found = found.or_else(|| all.iter().find(|(_, pid)| group_of(**pid).into_iter().any(holds)));
    found.map(|(node, _)| *node)
}

/// The inode of the socket with these ends, as /proc/net/tcp lists it.
fn inode(local: &SocketAddr, remote: &SocketAddr) -> Option<u64> {
    let hex = |addr: &SocketAddr| match addr {
        SocketAddr::V4(addr) => {
            Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(addr.ip().octets()), addr.port()))
        }
        SocketAddr::V6(_) => None,
    };
    let (local, remote) = (hex(local)?, hex(remote)?);
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(1) == Some(&local.as_str()) && words.get(2) == Some(&remote.as_str()))
            .then(|| words.get(9)?.parse().ok())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Addresses;
    use crate::net::{Counters, Fabric, Rule};

    /// How long anything may take before a test gives up; never waited for when all is well.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Two nodes, both of them this process: n1 dials n2, who takes what it accepts.
    struct Net {
        fabric: Fabric,
        listener: TcpListener,
        front: SocketAddr,
    }

    impl Net {
        fn new() -> Net {
            let addresses = Addresses::claim(2).unwrap();
            addresses.roster().note(1, std::process::id());
            let (front, target) = (addresses.front(2, 0), addresses.port(2, 0));
            let listener = TcpListener::bind(target).unwrap();
            let fabric = Fabric::start_streams(&addresses, &[(2, front, target)], 1).unwrap();
            Net { fabric, listener, front }
        }

        /// A connection: n1's end and n2's.
        fn dial(&self) -> (TcpStream, TcpStream) {
            let dialler = TcpStream::connect(self.front).unwrap();
            let (accepted, _) = self.listener.accept().unwrap();
            for end in [&dialler, &accepted] {
                end.set_read_timeout(Some(PATIENCE)).unwrap();
                end.set_nodelay(true).unwrap();
            }
            (dialler, accepted)
        }

        fn install(&self, from: NodeId, to: NodeId, rule: Rule) {
            self.fabric.install(1, vec![(Link { from, to }, rule)]);
        }

        fn wait(&self, condition: impl Fn(Counters) -> bool) {
            let started = Instant::now();
            while !condition(self.fabric.counters(1).unwrap()) {
                assert!(started.elapsed() < PATIENCE, "{:?}", self.fabric.counters(1));
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn expect(end: &mut TcpStream, text: &str) {
        let mut buffer = vec![0; text.len()];
        end.read_exact(&mut buffer).unwrap();
        assert_eq!(String::from_utf8(buffer).unwrap(), text);
    }

    fn is_silent(end: &mut TcpStream) -> bool {
        end.set_nonblocking(true).unwrap();
        let read = end.read(&mut [0; 1]);
        end.set_nonblocking(false).unwrap();
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    #[test]
    fn bytes_pass_both_ways_in_order_and_ends_are_passed_on() {
        let net = Net::new();
        let (mut dialler, mut accepted) = net.dial();
        dialler.write_all(b"hello").unwrap();
        expect(&mut accepted, "hello");
        accepted.write_all(b"there").unwrap();
        expect(&mut dialler, "there");
        // More than is held back at a time.
        let long = vec![7_u8; 3 * HELD_BYTES_MAX];
        let sent = long.clone();
        let writer = std::thread::spawn(move || dialler.write_all(&sent).map(|()| drop(dialler)));
        let mut read = Vec::new();
        accepted.read_to_end(&mut read).unwrap();
        assert!(read == long, "{} bytes of {}", read.len(), long.len());
        writer.join().unwrap().unwrap();
    }

    #[test]
    fn a_partition_holds_one_direction_and_heals_without_a_lost_byte() {
        let net = Net::new();
        let (mut dialler, mut accepted) = net.dial();
        net.install(1, 2, Rule::Drop);
        dialler.write_all(b"held").unwrap();
        accepted.write_all(b"free").unwrap();
        expect(&mut dialler, "free");
        net.wait(|counters| counters.held > 0);
        std::thread::sleep(Duration::from_millis(30));
        assert!(is_silent(&mut accepted), "n2 hears nothing");
        // A connection made meanwhile is as silent.
        let (mut late, mut accepted_late) = net.dial();
        late.write_all(b"late").unwrap();
        net.wait(|counters| counters.held > 1);
        assert!(is_silent(&mut accepted_late));
        net.fabric.remove(1);
        expect(&mut accepted, "held");
        expect(&mut accepted_late, "late");
    }

    #[test]
    fn a_delay_is_as_long_as_asked_and_a_reset_ends_connections() {
        let net = Net::new();
        let (mut dialler, mut accepted) = net.dial();
        net.install(2, 1, Rule::Delay { delay_ms: 80, jitter_ms: 0 });
        let sent = Instant::now();
        accepted.write_all(b"slow").unwrap();
        expect(&mut dialler, "slow");
        assert!(sent.elapsed() >= Duration::from_millis(80), "{:?}", sent.elapsed());
        net.fabric.remove(1);

        net.install(2, 1, Rule::Reset);
        net.wait(|counters| counters.reset > 0);
        let kinds = [&mut dialler, &mut accepted].map(|end| end.read(&mut [0; 1]).unwrap_err().kind());
        assert_eq!(kinds, [ErrorKind::ConnectionReset; 2]);
        net.fabric.remove(1);
        let (mut dialler, mut accepted) = net.dial();
        dialler.write_all(b"again").unwrap();
        expect(&mut accepted, "again");
    }

    #[test]
    fn a_stranger_is_no_node_and_is_passed_on_untouched() {
        let addresses = Addresses::claim(2).unwrap();
        let (front, target) = (addresses.front(2, 0), addresses.port(2, 0));
        let listener = TcpListener::bind(target).unwrap();
        let fabric = Fabric::start_streams(&addresses, &[(2, front, target)], 1).unwrap();
        let all = [Link { from: 1, to: 2 }, Link { from: 2, to: 1 }].map(|link| (link, Rule::Drop));
        fabric.install(1, all.to_vec());
        let mut dialler = TcpStream::connect(front).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.set_read_timeout(Some(PATIENCE)).unwrap();
        dialler.write_all(b"x").unwrap();
        expect(&mut accepted, "x");
        assert_eq!(fabric.remove(1).matched, 0);
    }
}
