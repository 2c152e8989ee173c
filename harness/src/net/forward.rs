//! The thread that moves datagrams: it takes them from a wire, asks the rules what becomes of each, and hands them on when they are due.
//! What a wire is, sockets or devices, is in [`super::proxies`] and [`super::switch`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc;
use rand_chacha::ChaCha8Rng;

use super::Link;
use super::fabric::Shared;
use super::rules::{Change, Decision, Done, Sending, Tally, bump};
use crate::random::{Purpose, stream};

/// Datagrams taken from one source before the next has its turn.
const BATCH_MAX: usize = 64;
/// Datagrams held back at a time, over all links; what comes on top is dropped and counted.
const HELD_MAX: usize = 1 << 16;
/// How long the thread sleeps at most, and so how long a stop takes.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// Largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// One datagram of so many is remembered for a replay, so that memory reaches back further.
const REMEMBERED_EVERY: u64 = 16;
/// So many are remembered of each link.
const REMEMBERED_MAX: usize = 64;
/// What leaves so long after it came is late: below the shortest delay of any fault, and above what this thread needs.
pub(super) const LATE: Duration = Duration::from_millis(20);
/// A datagram of this age is old: later than any delay or retry of an idle link brings it.
pub(super) const OLD: Duration = Duration::from_millis(300);

/// What datagrams come from and go to.
pub(super) trait Wire {
    /// Sleeps until something came, or so long; the sources with something to read.
    fn wait(&mut self, timeout: Duration) -> Vec<usize>;

    /// The next datagram of a source.
    fn read(&mut self, source: usize, buffer: &mut [u8]) -> Arrival;

    /// Hands a datagram to the receiver of a link.
    fn write(&mut self, link: Link, bytes: &[u8]) -> io::Result<()>;

    /// Changes one bit by a draw, so that the receiver's application sees it or its kernel drops it.
    fn change(&self, bytes: &mut [u8], change: Change);

    /// Resets the connection that it belongs to; false if it belongs to none.
    fn reset(&mut self, _link: Link, _bytes: &[u8]) -> bool {
        false
    }
}

/// What came of a look at a source.
pub(super) enum Arrival {
    /// So many bytes, on a link.
    Came(Link, usize),
    /// Something that is none of a link's sender.
    Foreign(Link),
    /// Something that is no concern of any fault, and was handed on.
    Passed,
    /// There is nothing left.
    Nothing,
}

/// What is known of a directed link.
struct Lane {
    rng: ChaCha8Rng,
    /// Datagrams received so far: the rank of the newest.
    received: u64,
    /// Highest rank sent so far: a datagram of lower rank was overtaken.
    newest_sent: u64,
    /// Some of the datagrams of the last seconds, oldest first.
    remembered: VecDeque<(Instant, Box<[u8]>)>,
}

impl Lane {
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
pub(super) fn change(bytes: &mut [u8], draw: u32) {
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
    link: Link,
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

/// Lets the calling thread run before all that is no thread of this kind, where this process may ask for it: what waits for it has been
/// sent, and a link that is slow because the machine is busy is a fault that nobody asked for. It needs little, and the kernel keeps a
/// part of each second for the others.
fn come_first() {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: it reads one `sched_param`. Refused without privilege, and then all is as it was.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const lowest) };
}

/// The forwarding thread.
pub(super) struct Forwarder<W> {
    shared: Arc<Shared>,
    wire: W,
    lanes: BTreeMap<Link, Lane>,
    held: BinaryHeap<Reverse<Held>>,
    /// What waits for faults to be healed, and for which, in the order of arrival.
    kept: Vec<(Vec<Arc<Tally>>, Held)>,
    next_rank: u64,
}

impl<W: Wire> Forwarder<W> {
    /// Over every link that `shared` knows. `seed` decides the fate of datagrams.
    pub(super) fn new(shared: Arc<Shared>, wire: W, seed: u64) -> Forwarder<W> {
        let lane = |link: &Link| Lane {
            rng: stream(seed, Purpose::Link, link.from << 16 | link.to),
            received: 0,
            newest_sent: 0,
            remembered: VecDeque::new(),
        };
        let lanes = shared.links.keys().map(|link| (*link, lane(link))).collect();
        Forwarder { shared, wire, lanes, held: BinaryHeap::new(), kept: Vec::new(), next_rank: 0 }
    }

    pub(super) fn run(mut self) {
        come_first();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        while !self.shared.stopped() {
            self.release();
            self.send_due();
            let until_due =
                self.held.peek().map(|Reverse(held)| held.deadline.saturating_duration_since(Instant::now()));
            for source in self.wire.wait(until_due.unwrap_or(SLEEP_MAX).min(SLEEP_MAX)) {
                self.receive(source, &mut buffer);
            }
        }
    }

    fn receive(&mut self, source: usize, buffer: &mut [u8]) {
        let shared = Arc::clone(&self.shared);
        for _ in 0..BATCH_MAX {
            let (link, len) = match self.wire.read(source, buffer) {
                Arrival::Came(link, len) => (link, len),
                Arrival::Foreign(link) => {
                    bump(&shared.links[&link].foreign);
                    continue;
                }
                Arrival::Passed => continue,
                // The next look tells whether more came.
                Arrival::Nothing => return,
            };
            let (Some(lane), Some(tally)) = (self.lanes.get_mut(&link), shared.link(link)) else { continue };
            bump(&tally.received);
            lane.received += 1;
            let (rank, now) = (lane.received, Instant::now());
            let (Decision { sendings, claims }, reset) = {
                let mut rules = shared.rules();
                if rules.are_none() {
                    drop(rules);
                    lane.remember(now, &buffer[..len]);
                    self.send(
                        link,
                        Sent { rank, came: now, sum: 0, first: true },
                        &buffer[..len],
                        false,
                        None,
                    );
                    continue;
                }
                (rules.decide(link, len, now, &mut lane.rng), rules.resets(link).cloned())
            };
            lane.remember(now, &buffer[..len]);
            if let Some(fault) = reset
                && self.wire.reset(link, &buffer[..len])
            {
                bump(&fault.reset);
                bump(&tally.reset);
                continue;
            }
            if sendings.is_empty() {
                bump(&tally.lost);
            }
            let mut done = Done::default();
            for (nth, Sending { delay, held_by, kept_by, changes, old }) in sendings.into_iter().enumerate() {
                // What passes untouched is not looked at.
                let plain = Sent { rank, came: now, sum: 0, first: nth == 0 };
                done.sent += usize::from(old.is_none());
                if nth == 0 {
                    done.delay = delay;
                }
                if delay.is_zero() && kept_by.is_empty() && changes.is_empty() && old.is_none() {
                    self.send(link, plain, &buffer[..len], false, held_by.as_deref());
                    continue;
                }
                let (came, mut bytes): (Instant, Box<[u8]>) = match &old {
                    None => (now, buffer[..len].into()),
                    Some((draw, fault)) => {
                        let Some((came, bytes)) = self.lanes[&link].old(now, *draw) else { continue };
                        bump(&fault.replayed);
                        (came, bytes.into())
                    }
                };
                let what = Sent { came, sum: sum(&bytes), ..plain };
                for how in changes {
                    let before = sum(&bytes);
                    self.wire.change(&mut bytes, how);
                    done.changed += usize::from(sum(&bytes) != before);
                }
                if self.held.len() + self.kept.len() >= HELD_MAX {
                    bump(&tally.overflow);
                    continue;
                }
                self.next_rank += 1;
                let (deadline, arrival) = (now + delay, self.next_rank);
                let held = Held { deadline, arrival, link, what, bytes, held_by };
                if !kept_by.is_empty() {
                    bump(&tally.kept);
                    done.kept = kept_by.len();
                    self.kept.push((kept_by, held));
                    continue;
                }
                if delay >= LATE {
                    bump(&tally.aside);
                }
                self.held.push(Reverse(held));
            }
            claims.check(done);
        }
    }

    /// Lets go on what faults kept that are healed, but what others delay not before its time.
    fn release(&mut self) {
        let now = Instant::now();
        for (_, held) in self.kept.extract_if(.., |(faults, _)| faults.iter().all(|fault| fault.is_healed()))
        {
            self.held.push(Reverse(Held { deadline: held.deadline.max(now), ..held }));
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
                self.send(held.link, held.what, &held.bytes, changed, held.held_by.as_deref());
            }
        }
    }

    fn send(&mut self, link: Link, what: Sent, bytes: &[u8], changed: bool, held_by: Option<&Tally>) {
        let (Some(lane), Some(tally)) = (self.lanes.get_mut(&link), self.shared.link(link)) else { return };
        match self.wire.write(link, bytes) {
            Ok(()) => {
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
        if what.rank > lane.newest_sent {
            lane.newest_sent = what.rank;
        } else if what.first && what.rank < lane.newest_sent {
            bump(&tally.overtaken);
            if let Some(fault) = held_by {
                bump(&fault.reordered);
            }
        }
    }
}
