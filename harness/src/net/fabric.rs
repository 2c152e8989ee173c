//! The proxies between nodes and the one thread that moves datagrams through them.
//! What happens to a datagram is decided in [`super::rules`].
//!
//! A socket for each directed link: S(i→j) is what node i takes for node j. What node i sends there leaves to node j from S(j→i),
//! the address that node j takes for node i: senders keep their identity, and payloads are never looked at.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use rand_chacha::ChaCha8Rng;

use super::rules::{Rules, Sending, Tally, bump};
use super::streams::Streams;
use super::{Counters, Link, Rule};
use crate::NodeId;
use crate::cluster::Addresses;
use crate::random::{Purpose, stream};

/// Receive buffer of each proxy, bytes: a burst that arrives while this thread has no CPU is held, not lost uncounted.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Datagrams taken from one link before the next has its turn.
const BATCH_MAX: usize = 64;
/// Datagrams held back at a time, over all links; what comes on top is dropped and counted.
const HELD_MAX: usize = 1 << 16;
/// How long the thread sleeps at most, and so how long a stop takes.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// Largest UDP datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// One datagram of so many is remembered for a replay, so that memory reaches back further.
const REMEMBERED_EVERY: u64 = 16;
/// So many are remembered of each link.
const REMEMBERED_MAX: usize = 64;
/// What leaves so long after it came is late: below the shortest delay of any fault, and above what this thread needs.
pub(super) const LATE: Duration = Duration::from_millis(20);
/// A datagram of this age is old: later than any delay or retry of an idle link brings it.
const OLD: Duration = Duration::from_millis(300);

/// What was seen on a directed link since the start, in datagrams or pieces of streams. Counted where bytes come in and leave, by code
/// that knows nothing of faults: the evidence that is held against what a fault itself counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Taken from the sender.
    pub received: u64,
    /// Handed to the receiver, each for the first time.
    pub passed: u64,
    /// Handed to nobody.
    pub lost: u64,
    /// Put aside, to be handed to the receiver 20 ms later or more.
    pub aside: u64,
    /// Pieces of streams that were due and stayed.
    pub kept: u64,
    /// Handed to the receiver 20 ms or more after they came.
    pub late: u64,
    /// Handed to the receiver once more.
    pub copied: u64,
    /// Handed to the receiver after one that came later.
    pub overtaken: u64,
    /// Handed to the receiver with other bytes than came.
    pub changed: u64,
    /// Handed to the receiver long after they were for the first time.
    pub old: u64,
    /// Connections that were ended by a reset.
    pub reset: u64,
    /// Dropped because they did not come from the link's sender.
    pub foreign: u64,
    /// Dropped because too many datagrams were being held back.
    pub overflow: u64,
    /// Refused by the kernel when they were to be sent.
    pub refused: u64,
}

impl LinkCounters {
    /// Whether something came late, or will.
    pub fn is_late(&self) -> bool {
        self.late > 0 || self.aside > 0
    }

    /// The counters that are not zero, by name.
    pub fn to_json(&self) -> serde_json::Value {
        let all = [
            ("received", self.received),
            ("passed", self.passed),
            ("lost", self.lost),
            ("aside", self.aside),
            ("kept", self.kept),
            ("late", self.late),
            ("copied", self.copied),
            ("overtaken", self.overtaken),
            ("changed", self.changed),
            ("old", self.old),
            ("reset", self.reset),
            ("foreign", self.foreign),
            ("overflow", self.overflow),
            ("refused", self.refused),
        ];
        all.into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name.to_owned(), serde_json::Value::from(count)))
            .collect()
    }

    /// Each counter with that of another combined by `f`.
    fn each(self, other: LinkCounters, f: impl Fn(u64, u64) -> u64) -> LinkCounters {
        LinkCounters {
            received: f(self.received, other.received),
            passed: f(self.passed, other.passed),
            lost: f(self.lost, other.lost),
            aside: f(self.aside, other.aside),
            kept: f(self.kept, other.kept),
            late: f(self.late, other.late),
            copied: f(self.copied, other.copied),
            overtaken: f(self.overtaken, other.overtaken),
            changed: f(self.changed, other.changed),
            old: f(self.old, other.old),
            reset: f(self.reset, other.reset),
            foreign: f(self.foreign, other.foreign),
            overflow: f(self.overflow, other.overflow),
            refused: f(self.refused, other.refused),
        }
    }

    /// What came on top of `before`.
    pub fn since(self, before: LinkCounters) -> LinkCounters {
        self.each(before, u64::saturating_sub)
    }

    /// Both together.
    pub fn plus(self, other: LinkCounters) -> LinkCounters {
        self.each(other, u64::saturating_add)
    }
}

/// [`LinkCounters`] that the thread which moves bytes writes and others read.
#[derive(Debug, Default)]
pub(super) struct LinkTally {
    pub(super) received: AtomicU64,
    pub(super) passed: AtomicU64,
    lost: AtomicU64,
    pub(super) aside: AtomicU64,
    pub(super) kept: AtomicU64,
    pub(super) late: AtomicU64,
    copied: AtomicU64,
    overtaken: AtomicU64,
    changed: AtomicU64,
    old: AtomicU64,
    pub(super) reset: AtomicU64,
    foreign: AtomicU64,
    overflow: AtomicU64,
    refused: AtomicU64,
}

/// What the forwarding thread shares with those who command it.
#[derive(Debug)]
pub(super) struct Shared {
    rules: Mutex<Rules>,
    links: BTreeMap<Link, LinkTally>,
    lag_ns_max: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    fn new(nodes: u32) -> Arc<Shared> {
        Arc::new(Shared {
            rules: Mutex::default(),
            links: Link::all(nodes).map(|link| (link, LinkTally::default())).collect(),
            lag_ns_max: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        })
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Where what is seen on a link is counted.
    pub(super) fn link(&self, link: Link) -> Option<&LinkTally> {
        self.links.get(&link)
    }

    /// Notes that something left `late` after its deadline.
    pub(super) fn lagged(&self, late: Duration) {
        self.lag_ns_max.fetch_max(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A poisoned lock is taken all the same: rules are changed by single map operations, which leave no half-made state.
    pub(super) fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The network of a running cluster. Dropping it stops the thread and closes the sockets.
#[derive(Debug)]
pub struct Fabric {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Fabric {
    /// Binds every proxy and starts forwarding. `seed` decides the fate of datagrams.
    ///
    /// # Errors
    /// When a socket cannot be bound or the thread not started.
    pub fn start(addresses: &Addresses, seed: u64) -> io::Result<Fabric> {
        let nodes = addresses.nodes();
        let mut sockets = Vec::new();
        let mut ports = Vec::new();
        for link in Link::all(nodes) {
            sockets.push(bind(addresses.proxy(link.from, link.to))?);
            ports.push(Port {
                link,
                sender: addresses.node(link.from),
                receiver: addresses.node(link.to),
                // The index of a link in `Link::all`: a row of `nodes - 1` for each sender, without itself.
                reverse: ((link.to - 1) * (nodes - 1) + link.from - 1 - u32::from(link.from > link.to))
                    as usize,
                rng: stream(seed, Purpose::Link, link.from << 16 | link.to),
                received: 0,
                newest_sent: 0,
                remembered: VecDeque::new(),
            });
        }
        let shared = Shared::new(nodes);
        let forwarder =
            Forwarder { shared: Arc::clone(&shared), sockets, ports, held: BinaryHeap::new(), next_rank: 0 };
        let thread = std::thread::Builder::new().name("fabric".to_owned()).spawn(move || forwarder.run())?;
        Ok(Fabric { shared, thread: Some(thread) })
    }

    /// Passes streams on: `fronts` are, of each node, addresses at which the others take it to be, and those at which it is. Who dials
    /// is found out by who lives at `addresses`.
    ///
    /// # Errors
    /// When an address cannot be bound or the thread not started.
    pub fn start_streams(
        addresses: &Addresses,
        fronts: &[(NodeId, SocketAddr, SocketAddr)],
        seed: u64,
    ) -> io::Result<Fabric> {
        let shared = Shared::new(addresses.nodes());
        let streams = Streams::new(shared.clone(), fronts, addresses.roster(), seed)?;
        let thread = std::thread::Builder::new().name("streams".to_owned()).spawn(move || streams.run())?;
        Ok(Fabric { shared, thread: Some(thread) })
    }

    /// Makes a fault active.
    pub fn install(&self, fault: u32, rules: Vec<(Link, Rule)>) {
        self.shared.rules().install(fault, rules);
    }

    /// Heals a fault: its evidence. Datagrams that it holds back still arrive when their time comes.
    pub fn remove(&self, fault: u32) -> Counters {
        self.shared.rules().remove(fault).map(|tally| tally.read()).unwrap_or_default()
    }

    /// The evidence so far of an active fault; `None` if it is not active.
    pub fn counters(&self, fault: u32) -> Option<Counters> {
        self.shared.rules().tally(fault).map(|tally| tally.read())
    }

    /// What passed each link.
    pub fn links(&self) -> BTreeMap<Link, LinkCounters> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let read = |tally: &LinkTally| LinkCounters {
            received: load(&tally.received),
            passed: load(&tally.passed),
            lost: load(&tally.lost),
            aside: load(&tally.aside),
            kept: load(&tally.kept),
            late: load(&tally.late),
            copied: load(&tally.copied),
            overtaken: load(&tally.overtaken),
            changed: load(&tally.changed),
            old: load(&tally.old),
            reset: load(&tally.reset),
            foreign: load(&tally.foreign),
            overflow: load(&tally.overflow),
            refused: load(&tally.refused),
        };
        self.shared.links.iter().map(|(link, tally)| (*link, read(tally))).collect()
    }

    /// The longest time that a datagram left after its deadline, in milliseconds: how much the harness itself lagged.
    pub fn lag_ms_max(&self) -> f64 {
        self.shared.lag_ns_max.load(Ordering::Relaxed) as f64 / 1e6
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panicked, or it ended: either way no datagram moves any more, which is all that a drop promises.
            let _ = thread.join();
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

/// One directed link.
struct Port {
    link: Link,
    sender: SocketAddr,
    receiver: SocketAddr,
    /// Index of the socket that the receiver takes for the sender.
    reverse: usize,
    rng: ChaCha8Rng,
    /// Datagrams received so far: the rank of the newest.
    received: u64,
    /// Highest rank sent so far: a datagram of lower rank was overtaken.
    newest_sent: u64,
    /// Some of the datagrams of the last seconds, oldest first.
    remembered: VecDeque<(Instant, Box<[u8]>)>,
}

impl Port {
    fn remember(&mut self, now: Instant, bytes: &[u8]) {
        if self.received.is_multiple_of(REMEMBERED_EVERY) {
            if self.remembered.len() >= REMEMBERED_MAX {
                self.remembered.pop_front();
            }
            self.remembered.push_back((now, bytes.into()));
        }
    }

    /// An old datagram, by a draw.
    fn old(&self, now: Instant, draw: u32) -> Option<(Instant, &[u8])> {
        let old = self.remembered.iter().take_while(|(at, _)| now - *at >= OLD).count();
        let (came, bytes) = self.remembered.get(draw as usize % old.max(1)).filter(|_| old > 0)?;
        Some((*came, bytes))
    }
}

/// Changes one bit by a draw.
fn change(bytes: &mut [u8], draw: u32) {
    let bits = bytes.len() * 8;
    if bits > 0 {
        let bit = draw as usize % bits;
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// A datagram that is held back. Ordered by deadline, ties in the order of arrival: equal delays do not reorder.
struct Held {
    deadline: Instant,
    arrival: u64,
    port: usize,
    what: Sent,
    bytes: Box<[u8]>,
    held_by: Option<Arc<Tally>>,
}

/// What a datagram that leaves is, seen from when it came.
#[derive(Clone, Copy)]
struct Sent {
    rank: u64,
    /// When it came; of an old one, when it came for the first time.
    came: Instant,
    /// Of the bytes that came.
    sum: u64,
    /// Whether it leaves for the first time.
    first: bool,
}

/// Tells changed bytes: position and value of each count.
fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Held {
    fn key(&self) -> (Instant, u64) {
        (self.deadline, self.arrival)
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// The forwarding thread.
struct Forwarder {
    shared: Arc<Shared>,
    sockets: Vec<UdpSocket>,
    ports: Vec<Port>,
    held: BinaryHeap<Reverse<Held>>,
    next_rank: u64,
}

impl Forwarder {
    fn run(mut self) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        while !self.shared.stopped() {
            self.send_due();
            for port in self.readable() {
                self.receive(port, &mut buffer);
            }
        }
    }

    /// Sleeps until a datagram arrives or the next deadline; the links with something to read.
    fn readable(&self) -> Vec<usize> {
        let until_due =
            self.held.peek().map(|Reverse(held)| held.deadline.saturating_duration_since(Instant::now()));
        let timeout = until_due.unwrap_or(SLEEP_MAX).min(SLEEP_MAX);
        let mut fds = self
            .sockets
            .iter()
            .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect::<Vec<_>>();
        match ppoll(&mut fds, Some(TimeSpec::from_duration(timeout)), None) {
            Ok(0) => Vec::new(),
            Ok(_) => (0..fds.len()).filter(|&port| fds[port].any().unwrap_or(false)).collect(),
            // Interrupted by a signal, or the kernel is out of memory: look again, but do not spin.
            Err(_) => {
                std::thread::sleep(Duration::from_millis(1));
                Vec::new()
            }
        }
    }

    fn receive(&mut self, port: usize, buffer: &mut [u8]) {
        let shared = Arc::clone(&self.shared);
        for _ in 0..BATCH_MAX {
            // Nothing left, or an error that concerns one datagram alone: the next poll tells.
            let Ok((len, source)) = self.sockets[port].recv_from(buffer) else { return };
            let state = &mut self.ports[port];
            let tally = &shared.links[&state.link];
            if source != state.sender {
                bump(&tally.foreign);
                continue;
            }
            bump(&tally.received);
            state.received += 1;
            let (rank, now) = (state.received, Instant::now());
            let sendings = shared.rules().decide(state.link, len, now, &mut state.rng);
            state.remember(now, &buffer[..len]);
            if sendings.is_empty() {
                bump(&tally.lost);
            }
            for (nth, Sending { delay, held_by, changes, old }) in sendings.into_iter().enumerate() {
                // What passes untouched is not looked at.
                let plain = Sent { rank, came: now, sum: 0, first: nth == 0 };
                if delay.is_zero() && changes.is_empty() && old.is_none() {
                    self.send(port, plain, &buffer[..len], false, held_by.as_deref());
                    continue;
                }
                let (came, mut bytes): (Instant, Box<[u8]>) = match &old {
                    None => (now, buffer[..len].into()),
                    Some((draw, fault)) => {
                        let Some((came, bytes)) = self.ports[port].old(now, *draw) else { continue };
                        bump(&fault.replayed);
                        (came, bytes.into())
                    }
                };
                let what = Sent { came, sum: sum(&bytes), ..plain };
                changes.iter().for_each(|draw| change(&mut bytes, *draw));
                if self.held.len() >= HELD_MAX {
                    bump(&tally.overflow);
                } else {
                    if delay >= LATE {
                        bump(&tally.aside);
                    }
                    self.next_rank += 1;
                    let (deadline, arrival) = (now + delay, self.next_rank);
                    self.held.push(Reverse(Held { deadline, arrival, port, what, bytes, held_by }));
                }
            }
        }
    }

    fn send_due(&mut self) {
        while let Some(Reverse(held)) = self.held.peek() {
            let now = Instant::now();
            if held.deadline > now {
                return;
            }
            self.shared.lagged(now - held.deadline);
            if let Some(Reverse(held)) = self.held.pop() {
                let changed = sum(&held.bytes) != held.what.sum;
                self.send(held.port, held.what, &held.bytes, changed, held.held_by.as_deref());
            }
        }
    }

    fn send(&mut self, port: usize, what: Sent, bytes: &[u8], changed: bool, held_by: Option<&Tally>) {
        let state = &mut self.ports[port];
        let tally = &self.shared.links[&state.link];
        match self.sockets[state.reverse].send_to(bytes, state.receiver) {
            Ok(_) => {
                let age = what.came.elapsed();
                bump(if what.first { &tally.passed } else { &tally.copied });
                if what.first && age >= LATE {
                    bump(&tally.late);
                }
                if !what.first && age >= OLD {
                    bump(&tally.old);
                }
                if changed {
                    bump(&tally.changed);
                }
            }
            Err(_) => bump(&tally.refused),
        }
        if what.rank > state.newest_sent {
            state.newest_sent = what.rank;
        } else if what.first && what.rank < state.newest_sent {
            bump(&tally.overtaken);
            if let Some(fault) = held_by {
                bump(&fault.reordered);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Direction;

    /// How long a datagram may take before a test gives up; never waited for when all is well.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Plain sockets in the places of nodes, and the fabric between them.
    struct Net {
        addresses: Addresses,
        nodes: Vec<UdpSocket>,
        fabric: Fabric,
    }

    impl Net {
        fn new(nodes: u32) -> Net {
            let addresses = Addresses::claim(nodes).unwrap();
            let sockets = (1..=nodes)
                .map(|node| {
                    let socket = UdpSocket::bind(addresses.node(node)).unwrap();
                    socket.set_read_timeout(Some(PATIENCE)).unwrap();
                    socket
                })
                .collect();
            let fabric = Fabric::start(&addresses, 1).unwrap();
            Net { addresses, nodes: sockets, fabric }
        }

        fn send(&self, from: u32, to: u32, text: &str) {
            self.nodes[from as usize - 1].send_to(text.as_bytes(), self.addresses.proxy(from, to)).unwrap();
        }

        /// The next datagram at `to`, which must come from the address that `to` takes for `from`.
        fn receive(&self, from: u32, to: u32) -> String {
            let mut buffer = [0; 64];
            let (len, source) = self.nodes[to as usize - 1].recv_from(&mut buffer).unwrap();
            assert_eq!(
                source,
                self.addresses.proxy(to, from),
                "n{to} must see n{from} under its proxy's address"
            );
            String::from_utf8(buffer[..len].to_vec()).unwrap()
        }

        fn install(&self, direction: Direction, victims: &[u32], rule: Rule) {
            let links = direction.links(victims, self.nodes.len() as u32);
            self.fabric.install(1, links.into_iter().map(|link| (link, rule)).collect());
        }

        /// Waits until the counters of fault 1 satisfy a condition.
        fn wait(&self, condition: impl Fn(Counters) -> bool) -> Counters {
            let started = Instant::now();
            loop {
                let counters = self.fabric.counters(1).unwrap();
                if condition(counters) {
                    return counters;
                }
                assert!(started.elapsed() < PATIENCE, "{counters:?}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn every_link_delivers_and_keeps_the_senders_identity() {
        let net = Net::new(4);
        for link in Link::all(4) {
            net.send(link.from, link.to, &format!("{link:?}"));
            assert_eq!(net.receive(link.from, link.to), format!("{link:?}"));
        }
        // A datagram is counted after it was sent, so the last one may arrive before its count.
        let once = LinkCounters { received: 1, passed: 1, ..LinkCounters::default() };
        let started = Instant::now();
        while net.fabric.links().values().any(|counters| *counters != once) {
            assert!(started.elapsed() < PATIENCE, "{:?}", net.fabric.links());
        }
    }

    #[test]
    fn what_does_not_come_from_the_links_sender_is_dropped_and_counted() {
        let net = Net::new(3);
        // Node 3 uses the proxy that belongs to node 1.
        net.nodes[2].send_to(b"forged", net.addresses.proxy(1, 2)).unwrap();
        net.send(1, 2, "genuine");
        assert_eq!(net.receive(1, 2), "genuine");
        assert_eq!(net.fabric.links()[&Link { from: 1, to: 2 }].foreign, 1);
    }

    #[test]
    fn a_drop_hits_one_direction_is_counted_and_heals() {
        let net = Net::new(3);
        net.install(Direction::Out, &[1], Rule::Drop);
        net.send(1, 2, "lost");
        net.send(2, 1, "back");
        net.send(3, 2, "others");
        assert_eq!(net.receive(2, 1), "back");
        assert_eq!(net.receive(3, 2), "others");
        net.wait(|counters| counters.dropped == 1);
        assert_eq!(net.fabric.remove(1), Counters { matched: 1, dropped: 1, ..Counters::default() });
        assert_eq!(net.fabric.counters(1), None);
        net.send(1, 2, "healed");
        assert_eq!(net.receive(1, 2), "healed");
    }

    #[test]
    fn a_constant_delay_delays_and_keeps_the_order() {
        let net = Net::new(2);
        net.install(Direction::Out, &[1], Rule::Delay { delay_ms: 50, jitter_ms: 0 });
        let started = Instant::now();
        for number in 0..20 {
            net.send(1, 2, &number.to_string());
        }
        for number in 0..20 {
            assert_eq!(net.receive(1, 2), number.to_string());
        }
        assert!(started.elapsed() >= Duration::from_millis(50));
        let counters = net.fabric.remove(1);
        assert_eq!((counters.delayed, counters.reordered), (20, 0));
    }

    #[test]
    fn a_duplicate_arrives_twice() {
        let net = Net::new(2);
        net.install(Direction::Both, &[1], Rule::Duplicate { percent: 100, within_ms: 5 });
        net.send(2, 1, "twice");
        assert_eq!([net.receive(2, 1), net.receive(2, 1)], ["twice", "twice"]);
        assert_eq!(net.fabric.remove(1).duplicated, 1);
    }

    #[test]
    fn held_datagrams_are_overtaken_and_that_is_counted() {
        let net = Net::new(2);
        net.install(Direction::In, &[2], Rule::Hold { percent: 50, hold_ms: 100 });
        let mut numbers = (0..200).map(|number| format!("{number:03}")).collect::<Vec<_>>();
        for number in &numbers {
            net.send(1, 2, number);
        }
        let mut arrived = numbers.iter().map(|_| net.receive(1, 2)).collect::<Vec<_>>();
        assert_ne!(arrived, numbers);
        arrived.sort();
        numbers.sort();
        assert_eq!(arrived, numbers, "none lost, none doubled");
        assert!(net.wait(|counters| counters.reordered > 0).delayed >= 50);
    }

    #[test]
    fn an_endpoint_that_is_gone_and_comes_back_is_reached_again() {
        let mut net = Net::new(2);
        net.nodes.pop();
        for _ in 0..10 {
            net.send(1, 2, "nobody listens");
        }
        net.nodes.push(UdpSocket::bind(net.addresses.node(2)).unwrap());
        net.nodes[1].set_read_timeout(Some(PATIENCE)).unwrap();
        net.send(1, 2, "restarted");
        while net.receive(1, 2) != "restarted" {}
    }

    /// Waits until what was seen on the link from 1 to 2 satisfies a condition.
    fn wait_seen(net: &Net, condition: impl Fn(LinkCounters) -> bool) {
        let started = Instant::now();
        while !condition(net.fabric.links()[&Link { from: 1, to: 2 }]) {
            assert!(started.elapsed() < PATIENCE, "{:?}", net.fabric.links());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_corrupt_datagram_differs_in_one_bit_until_it_is_healed() {
        let net = Net::new(2);
        net.install(Direction::Out, &[1], Rule::Corrupt { percent: 100 });
        net.nodes[0].send_to(&[0; 40], net.addresses.proxy(1, 2)).unwrap();
        let mut buffer = [0; 64];
        let (len, _) = net.nodes[1].recv_from(&mut buffer).unwrap();
        let bits: u32 = buffer[..len].iter().map(|byte| byte.count_ones()).sum();
        assert_eq!((len, bits), (40, 1));
        wait_seen(&net, |seen| seen.changed == 1 && seen.passed == 1);
        net.fabric.remove(1);
        net.send(1, 2, "whole");
        assert_eq!(net.receive(1, 2), "whole");
    }

    #[test]
    fn an_old_datagram_comes_again_and_a_young_one_does_not() {
        let net = Net::new(2);
        // One in sixteen is remembered.
        for _ in 0..16 {
            net.send(1, 2, "old");
            assert_eq!(net.receive(1, 2), "old");
        }
        net.install(Direction::Out, &[1], Rule::Replay { percent: 100 });
        net.send(1, 2, "new");
        assert_eq!(net.receive(1, 2), "new");
        net.wait(|counters| counters.matched == 1);
        assert_eq!(net.fabric.counters(1).unwrap().replayed, 0, "nothing is old yet");
        std::thread::sleep(OLD);
        net.send(1, 2, "new");
        assert_eq!([net.receive(1, 2), net.receive(1, 2)], ["new", "old"]);
        wait_seen(&net, |seen| seen.old == 1);
        assert_eq!(net.fabric.remove(1).replayed, 1);
    }

    #[test]
    fn a_link_of_little_bandwidth_makes_wait_and_drops_what_would_wait_too_long() {
        let net = Net::new(2);
        net.install(Direction::Out, &[1], Rule::Rate { kbytes_per_s: 1 });
        let sent = Instant::now();
        // 50 bytes take 50 ms each; half a second of them fits into the queue.
        let text = "x".repeat(50);
        for _ in 0..20 {
            net.send(1, 2, &text);
        }
        net.wait(|counters| counters.matched == 20);
        let counters = net.fabric.counters(1).unwrap();
        assert!(counters.dropped >= 5 && counters.delayed >= 8, "{counters:?}");
        for _ in 0..5 {
            assert_eq!(net.receive(1, 2), text);
        }
        assert!(sent.elapsed() >= Duration::from_millis(200), "{:?}", sent.elapsed());
        wait_seen(&net, |seen| seen.lost == counters.dropped && seen.aside >= 8 && seen.late >= 3);
    }
}
