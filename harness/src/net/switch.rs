//! The wire below whole network namespaces: one device for each host, and one thread that reads IP datagrams from all of them, so that any
//! system runs as it is, whatever it sends. Whose datagrams they are is seen from their addresses.

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use super::forward::{Arrival, Wire};
use super::proxies::readable;
use super::rules::Change;
use super::{CLIENTS, Link, ip};
use crate::NodeId;
use crate::cluster::Hosts;

/// The devices of all hosts.
pub(super) struct Switch {
    hosts: Hosts,
    /// In the order of [`Hosts::all`].
    devices: Vec<File>,
}

impl Switch {
    pub(super) fn new(hosts: Hosts, devices: Vec<File>) -> Switch {
        Switch { hosts, devices }
    }

    fn device(&self, host: NodeId) -> io::Result<&File> {
        self.devices.get(host as usize).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Wire for Switch {
    fn wait(&mut self, timeout: Duration) -> Vec<usize> {
        readable(self.devices.iter(), timeout)
    }

    fn read(&mut self, source: usize, buffer: &mut [u8]) -> Arrival {
        let Ok(len) = (&self.devices[source]).read(buffer) else { return Arrival::Nothing };
        let Some((from, to)) = ip::ends(&buffer[..len]) else { return Arrival::Passed };
        // A host sends in nobody else's name, and what is for no host (a broadcast) is for nobody.
        let (Some(from), Some(to)) = (self.hosts.rank(from), self.hosts.rank(to)) else {
            return Arrival::Passed;
        };
        if from as usize != source || from == to {
            return Arrival::Passed;
        }
        if [from, to].contains(&self.hosts.control()) {
            // What the harness itself asks and is told is no concern of any fault; a full device drops it as any does.
            let _ = self.write(Link { from, to }, &buffer[..len]);
            return Arrival::Passed;
        }
        Arrival::Came(Link { from, to }, len)
    }

    fn write(&mut self, link: Link, bytes: &[u8]) -> io::Result<()> {
        self.device(link.to)?.write(bytes).map(drop)
    }

    fn change(&self, bytes: &mut [u8], change: Change) {
        ip::change(bytes, change);
    }

    fn reset(&mut self, link: Link, bytes: &[u8]) -> bool {
        let Some([there, back]) = ip::resets(bytes) else { return false };
        let back_link = Link { from: link.to, to: link.from };
        self.write(link, &there).is_ok() & self.write(back_link, &back).is_ok()
    }
}

/// Every directed link of a switch: between nodes, and between each of them and the clients.
pub(super) fn links(nodes: u32) -> impl Iterator<Item = Link> {
    let clients =
        (1..=nodes).flat_map(|node| [Link { from: CLIENTS, to: node }, Link { from: node, to: CLIENTS }]);
    Link::all(nodes).chain(clients)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Addresses;
    use crate::net::{Counters, Fabric, Rule};
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::time::Instant;

    /// How long anything may take before a test gives up; never waited for when all is well.
    const PATIENCE: Duration = Duration::from_secs(20);

    struct Net {
        addresses: Addresses,
        fabric: Fabric,
    }

    /// Two nodes on hosts of their own; `None` where this process can make none.
    fn net() -> Option<Net> {
        if let Err(error) = Hosts::probe() {
            println!("skipped: {error}");
            return None;
        }
        let mut addresses = Addresses::claim(2).unwrap();
        let fabric = Fabric::start_switch(&mut addresses, 1).unwrap();
        Some(Net { addresses, fabric })
    }

    impl Net {
        /// Something made at the host of this rank.
        fn at<T>(&self, rank: NodeId, make: impl FnOnce() -> T) -> T {
            let _there = self.addresses.hosts().unwrap().enter(rank).unwrap();
            make()
        }

        fn udp(&self, rank: NodeId, addr: impl Into<SocketAddr>) -> UdpSocket {
            let socket = self.at(rank, || UdpSocket::bind(addr.into()).unwrap());
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        }

        fn node(&self, node: NodeId) -> UdpSocket {
            self.udp(node, self.addresses.node(node))
        }

        /// A connection from the host of this rank to node 2: its ends.
        fn connect(&self, from: NodeId) -> (TcpStream, TcpStream) {
            let addr = self.addresses.node(2);
            let listener = self.at(2, || TcpListener::bind(addr).unwrap());
            let dialler = self.at(from, || TcpStream::connect_timeout(&addr, PATIENCE).unwrap());
            let (node, _) = listener.accept().unwrap();
            for end in [&dialler, &node] {
                end.set_read_timeout(Some(PATIENCE)).unwrap();
            }
            (dialler, node)
        }

        fn wait(&self, fault: u32, condition: impl Fn(Counters) -> bool) {
            let started = Instant::now();
            while !condition(self.fabric.counters(fault).unwrap()) {
                assert!(started.elapsed() < PATIENCE, "{:?}", self.fabric.counters(fault));
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn receive(socket: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 2_000];
        let (len, _) = socket.recv_from(&mut buffer).unwrap();
        buffer[..len].to_vec()
    }

    const ANY: ([u8; 4], u16) = ([0, 0, 0, 0], 0);

    #[test]
    fn clients_are_cut_off_while_the_harness_still_asks() {
        let Some(net) = net() else { return };
        let node = net.node(1);
        let (client, control) = (net.udp(CLIENTS, ANY), net.udp(3, ANY));
        net.fabric.install(1, vec![(Link { from: CLIENTS, to: 1 }, Rule::Drop)]);
        client.send_to(b"client", net.addresses.node(1)).unwrap();
        control.send_to(b"control", net.addresses.node(1)).unwrap();
        assert_eq!(receive(&node), b"control");
        net.wait(1, |counters| counters.dropped == 1);
        assert_eq!(net.fabric.links()[&Link { from: CLIENTS, to: 1 }].lost, 1);
        net.fabric.remove(1);
        client.send_to(b"healed", net.addresses.node(1)).unwrap();
        assert_eq!(receive(&node), b"healed");
    }

    #[test]
    fn a_wrong_checksum_is_found_by_the_kernel_and_a_right_one_by_nobody() {
        let Some(net) = net() else { return };
        let (sender, receiver) = (net.node(1), net.node(2));
        let link = Link { from: 1, to: 2 };
        // An odd length: the last byte of the sum stands alone.
        let text = [0x55; 41];
        net.fabric.install(1, vec![(link, Rule::Garble { percent: 100 })]);
        for _ in 0..5 {
            sender.send_to(&text, net.addresses.node(2)).unwrap();
        }
        net.wait(1, |counters| counters.corrupted == 5);
        let started = Instant::now();
        while net.fabric.bad_checksums([2].into_iter()) < 5 {
            assert!(started.elapsed() < PATIENCE);
        }
        net.fabric.remove(1);
        net.fabric.install(2, vec![(link, Rule::Corrupt { percent: 100 })]);
        for _ in 0..50 {
            sender.send_to(&text, net.addresses.node(2)).unwrap();
            let wrong: u32 = receive(&receiver).iter().map(|byte| (byte ^ 0x55).count_ones()).sum();
            assert_eq!(wrong, 1, "one bit, and none of the datagrams before");
        }
        assert_eq!(net.fabric.bad_checksums([2].into_iter()), 5, "the others were right");
        net.fabric.remove(2);
        sender.send_to(&text, net.addresses.node(2)).unwrap();
        assert_eq!(receive(&receiver), text);
    }

    #[test]
    fn a_stream_is_whole_over_a_link_that_loses_doubles_garbles_and_reorders() {
        let Some(net) = net() else { return };
        let (mut dialler, mut node) = net.connect(1);
        let both = |rule| vec![(Link { from: 1, to: 2 }, rule), (Link { from: 2, to: 1 }, rule)];
        net.fabric.install(1, both(Rule::Lose { percent: 10 }));
        net.fabric.install(2, both(Rule::Duplicate { percent: 20, within_ms: 2 }));
        net.fabric.install(3, both(Rule::Garble { percent: 10 }));
        net.fabric.install(4, both(Rule::Hold { percent: 20, hold_ms: 5 }));
        // What an application would see of a stream is not for the harness to change.
        net.fabric.install(5, both(Rule::Corrupt { percent: 50 }));
        let sent: Vec<u8> = (0..60_000_u32).map(|at| (at % 251) as u8).collect();
        let text = sent.clone();
        let writer = std::thread::spawn(move || dialler.write_all(&text).map(|()| dialler));
        let mut received = vec![0; sent.len()];
        node.read_exact(&mut received).unwrap();
        assert!(received == sent, "every byte, once, in order, unchanged");
        drop(writer.join().unwrap().unwrap());
        let counted: Vec<_> = (1..=4).map(|fault| net.fabric.remove(fault)).collect();
        assert!(counted[0].dropped > 0 && counted[1].duplicated > 0, "{counted:?}");
        assert!(counted[2].corrupted > 0 && counted[3].delayed > 0, "{counted:?}");
        assert!(net.fabric.bad_checksums([1, 2].into_iter()) > 0);
    }

    #[test]
    fn a_reset_ends_a_connection_for_both_and_is_over_when_it_is_healed() {
        let Some(net) = net() else { return };
        let (mut dialler, mut node) = net.connect(1);
        let link = Link { from: 1, to: 2 };
        net.fabric.install(1, vec![(link, Rule::Reset)]);
        dialler.write_all(b"never arrives").unwrap();
        let mut buffer = [0; 32];
        for end in [&mut dialler, &mut node] {
            assert_eq!(end.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
        let counters = net.fabric.remove(1);
        assert!(counters.reset > 0 && net.fabric.links()[&link].reset > 0, "{counters:?}");
        let (mut dialler, mut node) = net.connect(1);
        dialler.write_all(b"again").unwrap();
        let read = node.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..read], b"again");
    }

    #[test]
    fn a_host_runs_programs_and_is_gone_with_what_held_it() {
        let Some(net) = net() else { return };
        let hosts = net.addresses.hosts().unwrap().clone();
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", "cat /proc/net/dev"]);
        hosts.place(1, &mut command).unwrap();
        let seen = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert!(seen.contains("tun0:") && !seen.contains("eth"), "{seen}");
        let own = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let before = own();
        let there = net.at(1, own);
        assert_ne!(before, there);
        assert_eq!(own(), before, "the thread is back");
        assert_eq!(hosts.rank([10, 0, 0, 1].into()), None, "no host of this run");
    }
}
