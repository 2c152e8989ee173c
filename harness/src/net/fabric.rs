//! The network of a cluster: the thread that moves bytes, the rules it obeys, and what is counted.
//! What happens to a datagram is decided in [`super::rules`]; how bytes come and go is in [`super::proxies`], [`super::switch`] and
//! [`super::streams`].

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::counters::LinkTally;
use super::forward::{Forwarder, Wire};
use super::proxies::Proxies;
use super::rules::Rules;
use super::streams::Streams;
use super::switch::{self, Switch};
use super::{CLIENTS, Counters, Link, LinkCounters, Rule};
use crate::NodeId;
use crate::cluster::{Addresses, Hosts, Inside};

/// What the forwarding thread shares with those who command it.
#[derive(Debug)]
pub(super) struct Shared {
    rules: Mutex<Rules>,
    pub(super) links: BTreeMap<Link, LinkTally>,
    lag_ns_max: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    fn new(links: impl Iterator<Item = Link>) -> Arc<Shared> {
        Arc::new(Shared {
            rules: Mutex::default(),
            links: links.map(|link| (link, LinkTally::default())).collect(),
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
    hosts: Option<Hosts>,
}

impl Fabric {
    /// Binds every proxy and starts forwarding. `seed` decides the fate of datagrams.
    ///
    /// # Errors
    /// When a socket cannot be bound or the thread not started.
    pub fn start(addresses: &Addresses, seed: u64) -> io::Result<Fabric> {
        let shared = Shared::new(Link::all(addresses.nodes()));
        Fabric::forward("fabric", shared, Proxies::bind(addresses)?, seed, None)
    }

    /// Gives every node a host of its own, to which `addresses` move, and starts to switch the datagrams between them.
    ///
    /// # Errors
    /// The kernel refuses namespaces or devices, or the thread is not started.
    pub fn start_switch(addresses: &mut Addresses, seed: u64) -> io::Result<Fabric> {
        let (hosts, devices) = Hosts::create(addresses.subnet(), addresses.nodes())?;
        addresses.move_to(hosts.clone());
        let shared = Shared::new(switch::links(addresses.nodes()));
        Fabric::forward("switch", shared, Switch::new(hosts.clone(), devices), seed, Some(hosts))
    }

    fn forward(
        name: &str,
        shared: Arc<Shared>,
        wire: impl Wire + Send + 'static,
        seed: u64,
        hosts: Option<Hosts>,
    ) -> io::Result<Fabric> {
        let forwarder = Forwarder::new(Arc::clone(&shared), wire, seed);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || forwarder.run())?;
        Ok(Fabric { shared, thread: Some(thread), hosts })
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
        let shared = Shared::new(Link::all(addresses.nodes()));
        let streams = Streams::new(shared.clone(), fronts, addresses.roster(), seed)?;
        let thread = std::thread::Builder::new().name("streams".to_owned()).spawn(move || streams.run())?;
        Ok(Fabric { shared, thread: Some(thread), hosts: None })
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
        self.shared.links.iter().map(|(link, tally)| (*link, tally.read())).collect()
    }

    /// Datagrams with a wrong checksum that the kernels of these nodes dropped; 0 where nodes have no kernel counters of their own.
    pub fn bad_checksums(&self, nodes: impl Iterator<Item = NodeId>) -> u64 {
        let Some(hosts) = &self.hosts else { return 0 };
        nodes.map(|node| hosts.bad_checksums(node)).sum()
    }

    /// Datagrams that were dropped because the harness was too slow or held too many: no fault asked for it.
    pub fn overflow(&self) -> u64 {
        let held = self.links().values().map(|link| link.overflow).sum::<u64>();
        held + self.hosts.as_ref().map_or(0, Hosts::overflow)
    }

    /// Brings the calling thread to where the harness asks nodes from, if nodes have hosts of their own.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enter(&self) -> io::Result<Option<Inside>> {
        self.hosts.as_ref().map(|hosts| hosts.enter(hosts.control())).transpose()
    }

    /// Brings the calling thread to where clients are, whose links can be hurt, if nodes have hosts of their own.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enter_clients(&self) -> io::Result<Option<Inside>> {
        self.hosts.as_ref().map(|hosts| hosts.enter(CLIENTS)).transpose()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Instant;

    use crate::dud;
    use crate::fault::FaultKind;
    use crate::net::Direction;
    use crate::net::forward::OLD;

    /// How long a datagram may take before a test gives up; never waited for when all is well.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Plain sockets in the places of nodes, and the fabric between them.
    struct Net {
        addresses: Addresses,
        nodes: Vec<UdpSocket>,
        fabric: Fabric,
    }

    /// One over proxies and one over a switch, where there can be one: what holds of one holds of the other.
    fn both(nodes: u32) -> impl Iterator<Item = Net> {
        let switched = move || {
            let refused = Hosts::probe().err().inspect(|error| println!("skipped over a switch: {error}"));
            refused.is_none().then(|| Net::switched(nodes))
        };
        std::iter::once_with(move || Some(Net::new(nodes))).chain(std::iter::once_with(switched)).flatten()
    }

    impl Net {
        fn new(nodes: u32) -> Net {
            let addresses = Addresses::claim(nodes).unwrap();
            let fabric = Fabric::start(&addresses, 1).unwrap();
            Net::with(nodes, addresses, fabric)
        }

        fn switched(nodes: u32) -> Net {
            let mut addresses = Addresses::claim(nodes).unwrap();
            let fabric = Fabric::start_switch(&mut addresses, 1).unwrap();
            Net::with(nodes, addresses, fabric)
        }

        fn with(nodes: u32, addresses: Addresses, fabric: Fabric) -> Net {
            let mut net = Net { addresses, nodes: Vec::new(), fabric };
            net.nodes = (1..=nodes).map(|node| net.bind(node)).collect();
            net
        }

        fn bind(&self, node: u32) -> UdpSocket {
            let _there = self.addresses.hosts().map(|hosts| hosts.enter(node).unwrap());
            let socket = UdpSocket::bind(self.addresses.node(node)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
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
        for net in both(4) {
            for link in Link::all(4) {
                net.send(link.from, link.to, &format!("{link:?}"));
                assert_eq!(net.receive(link.from, link.to), format!("{link:?}"));
            }
            // A datagram is counted after it was sent, so the last one may arrive before its count.
            let once = LinkCounters { received: 1, passed: 1, ..LinkCounters::default() };
            let started = Instant::now();
            let links = || Link::all(4).map(|link| net.fabric.links()[&link]);
            while links().any(|counters| counters != once) {
                assert!(started.elapsed() < PATIENCE, "{:?}", net.fabric.links());
            }
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
        for net in both(3) {
            net.install(Direction::Out, &[1], Rule::Drop);
            net.send(1, 2, "lost");
            net.send(2, 1, "back");
            net.send(3, 2, "others");
            assert_eq!(net.receive(2, 1), "back");
            assert_eq!(net.receive(3, 2), "others");
            net.wait(|counters| counters.confirmed == 1);
            let once = Counters { matched: 1, dropped: 1, confirmed: 1, ..Counters::default() };
            assert_eq!(net.fabric.remove(1), once);
            assert_eq!(net.fabric.counters(1), None);
            net.send(1, 2, "healed");
            assert_eq!(net.receive(1, 2), "healed");
        }
    }

    /// By what bytes come and go nothing happens, whatever the fault counts.
    #[test]
    fn nothing_comes_of_a_dud_and_who_moves_bytes_says_so() {
        for net in both(2) {
            for rule in [
                Rule::Drop,
                Rule::Keep,
                Rule::Lose { percent: 100 },
                Rule::Delay { delay_ms: 500, jitter_ms: 0 },
                Rule::Duplicate { percent: 100, within_ms: 0 },
                Rule::Hold { percent: 100, hold_ms: 500 },
                Rule::Corrupt { percent: 100 },
                Rule::Garble { percent: 100 },
            ] {
                let before = net.fabric.links()[&Link { from: 1, to: 2 }];
                dud::tests::with(FaultKind::Loss, || {
                    dud::during(FaultKind::Loss, || net.install(Direction::Out, &[1], rule));
                });
                for number in 0..10 {
                    net.send(1, 2, &number.to_string());
                    assert_eq!(net.receive(1, 2), number.to_string(), "{rule:?}");
                }
                let counters = net.wait(|counters| counters.denied == 10);
                let Counters { dropped, held, delayed, duplicated, corrupted, .. } = counters;
                assert_eq!(
                    dropped + held + delayed + duplicated + corrupted,
                    10,
                    "it counts all the same: {rule:?}"
                );
                assert!(net.fabric.remove(1).are_disproved());
                let seen = net.fabric.links()[&Link { from: 1, to: 2 }].since(before);
                assert_eq!((seen.lost, seen.copied, seen.changed, seen.aside), (0, 0, 0, 0), "{rule:?}");
            }
        }
    }

    #[test]
    fn a_constant_delay_delays_and_keeps_the_order() {
        for net in both(2) {
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
    }

    #[test]
    fn what_is_kept_comes_at_once_and_in_order_when_it_is_healed() {
        for net in both(2) {
            net.install(Direction::Out, &[1], Rule::Keep);
            (0..20).for_each(|number| net.send(1, 2, &number.to_string()));
            net.send(2, 1, "back");
            assert_eq!(net.receive(2, 1), "back");
            assert_eq!(net.wait(|counters| counters.confirmed == 20).held, 20);
            assert_eq!(net.fabric.links()[&Link { from: 1, to: 2 }].passed, 0);
            net.fabric.remove(1);
            for number in 0..20 {
                assert_eq!(net.receive(1, 2), number.to_string());
            }
        }
    }

    #[test]
    fn a_duplicate_arrives_twice() {
        for net in both(2) {
            net.install(Direction::Both, &[1], Rule::Duplicate { percent: 100, within_ms: 5 });
            net.send(2, 1, "twice");
            assert_eq!([net.receive(2, 1), net.receive(2, 1)], ["twice", "twice"]);
            assert_eq!(net.fabric.remove(1).duplicated, 1);
        }
    }

    #[test]
    fn held_datagrams_are_overtaken_and_that_is_counted() {
        for net in both(2) {
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
    }

    #[test]
    fn an_endpoint_that_is_gone_and_comes_back_is_reached_again() {
        for mut net in both(2) {
            net.nodes.pop();
            for _ in 0..10 {
                net.send(1, 2, "nobody listens");
            }
            net.nodes.push(net.bind(2));
            net.send(1, 2, "restarted");
            while net.receive(1, 2) != "restarted" {}
        }
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
        for net in both(2) {
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
    }

    #[test]
    fn an_old_datagram_comes_again_and_a_young_one_does_not() {
        for net in both(2) {
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
    }

    #[test]
    fn a_link_of_little_bandwidth_makes_wait_and_drops_what_would_wait_too_long() {
        for net in both(2) {
            net.install(Direction::Out, &[1], Rule::Rate { kbytes_per_s: 1 });
            let sent = Instant::now();
            // 50 bytes take 50 ms each, and 78 with their headers; half a second of them fits into the queue.
            let text = "x".repeat(50);
            for _ in 0..20 {
                net.send(1, 2, &text);
            }
            net.wait(|counters| counters.matched == 20);
            let counters = net.fabric.counters(1).unwrap();
            assert!(counters.dropped >= 5 && counters.delayed >= 5, "{counters:?}");
            for _ in 0..5 {
                assert_eq!(net.receive(1, 2), text);
            }
            assert!(sent.elapsed() >= Duration::from_millis(200), "{:?}", sent.elapsed());
            wait_seen(&net, |seen| seen.lost == counters.dropped && seen.aside >= 5 && seen.late >= 3);
        }
    }
}
