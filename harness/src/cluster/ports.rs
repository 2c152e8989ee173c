//! The addresses of one run: loopback addresses 127.a.b.* of its own, claimed against every other run on this machine.
//! Needs no root: all of 127.0.0.0/8 is local on Linux.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Hosts;
use crate::NodeId;

/// How many subnets are tried. One is free at the first or second try unless thousands of runs are alive.
const ATTEMPTS_MAX: u32 = 100;
/// The host that stands guard: while it is bound no other run takes the subnet.
const GUARD_HOST: u8 = 254;
/// Ports of described systems come behind those of the links.
const FIRST_PORT: u16 = 64;
/// Fronts are hosts behind the nodes.
const FIRST_FRONT: u8 = 100;
/// Largest cluster: nodes are hosts 1.. of one subnet, and the guard is a host too.
pub const NODES_MAX: u32 = 63;

/// Node i listens on 127.a.b.i:P and reaches node j through 127.a.b.i:P+j; a node of a described system
/// listens at 127.a.b.i:P+64+k, and is reached at 127.a.b.(100+i):P+64+k. The port is fixed too, so that a node has the same
/// address after a restart. The subnet is free again when this is dropped.
///
/// Where nodes have hosts of their own, node i is at 10.a.b.i with the same ports, for itself and for everybody else.
#[derive(Debug)]
pub struct Addresses {
    founders: u32,
    nodes: u32,
    subnet: (u8, u8),
    port: u16,
    roster: Roster,
    hosts: Option<Hosts>,
    _guard: UdpSocket,
}

/// Which process is a node at the moment: the cluster writes it, and who sees a connection looks who made it.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<Mutex<BTreeMap<NodeId, u32>>>);

impl Roster {
    /// Notes that a node is this process, the leader of its group.
    pub fn note(&self, node: NodeId, pid: u32) {
        self.lock().insert(node, pid);
    }

    /// Every node that was ever started, with its newest process.
    pub fn all(&self) -> BTreeMap<NodeId, u32> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, u32>> {
        // Single insertions leave no half-made map behind a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Addresses {
    /// Claims a subnet for `nodes` nodes.
    ///
    /// # Errors
    /// When none is free, or `nodes` is not 1 to [`NODES_MAX`].
    pub fn claim(nodes: u32) -> io::Result<Addresses> {
        Addresses::claim_with_spares(nodes, 0)
    }

    /// Claims a subnet for `founders` nodes and `spares` that may join them later, which have the ids behind theirs.
    ///
    /// # Errors
    /// When none is free, there are no founders, or more than [`NODES_MAX`] nodes altogether.
    pub fn claim_with_spares(founders: u32, spares: u32) -> io::Result<Addresses> {
        let nodes = founders.saturating_add(spares);
        if founders == 0 || nodes > NODES_MAX {
            let message = format!("a cluster has 1 to {NODES_MAX} nodes, not {nodes}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        // Which subnet has no influence on a run: it is drawn from what tells processes apart, not from the seed.
        static CLAIMS: AtomicU32 = AtomicU32::new(0);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        let claim = CLAIMS.fetch_add(1, Ordering::Relaxed);
        let mut rng = ChaCha8Rng::seed_from_u64(
            u64::from(std::process::id()) << 32 | u64::from(nanos) ^ u64::from(claim),
        );
        let mut refusal = io::ErrorKind::AddrInUse.into();
        for _ in 0..ATTEMPTS_MAX {
            // Not 127.0.*, where everyone else is; ports below the ephemeral range, where nobody is put by chance.
            let subnet = (rng.random_range(1..=254), rng.random_range(0..=255));
            let port = rng.random_range(100..300) * 100;
            match UdpSocket::bind(address(subnet, GUARD_HOST, port)) {
                Ok(guard) => {
                    let roster = Roster::default();
                    let addresses =
                        Addresses { founders, nodes, subnet, port, roster, hosts: None, _guard: guard };
                    match addresses.check_free() {
                        Ok(()) => return Ok(addresses),
                        Err(error) => refusal = error,
                    }
                }
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// A program that listens on every address (0.0.0.0) of one of our ports is in nobody's subnet, yet in the way.
    fn check_free(&self) -> io::Result<()> {
        (1..=self.nodes).try_for_each(|node| UdpSocket::bind(self.node(node)).map(drop))
    }

    /// Nodes that have an address: founders and spares.
    pub fn nodes(&self) -> u32 {
        self.nodes
    }

    /// Nodes that found the cluster: the first ones.
    pub fn founders(&self) -> u32 {
        self.founders
    }

    /// Who lives here.
    pub fn roster(&self) -> Roster {
        self.roster.clone()
    }

    /// The numbers a and b.
    pub(crate) fn subnet(&self) -> (u8, u8) {
        self.subnet
    }

    /// From now on nodes are at hosts of their own.
    pub(crate) fn move_to(&mut self, hosts: Hosts) {
        self.hosts = Some(hosts);
    }

    /// Those hosts, if they have them.
    pub(crate) fn hosts(&self) -> Option<&Hosts> {
        self.hosts.as_ref()
    }

    /// Where a node listens, for peers' proxies and for clients.
    pub fn node(&self, node: NodeId) -> SocketAddr {
        self.at(node, self.port)
    }

    fn at(&self, node: NodeId, port: u16) -> SocketAddr {
        match &self.hosts {
            Some(hosts) => SocketAddr::from((hosts.address(node), port)),
            None => address(self.subnet, node as u8, port),
        }
    }

    /// What node `from` takes for the address of node `to`.
    pub fn proxy(&self, from: NodeId, to: NodeId) -> SocketAddr {
        if self.hosts.is_some() {
            return self.node(to);
        }
        address(self.subnet, from as u8, self.port + to as u16)
    }

    /// Where a node of a described system listens with its port of this rank, 0 to 15.
    pub fn port(&self, node: NodeId, rank: u16) -> SocketAddr {
        self.at(node, self.port + FIRST_PORT + rank)
    }

    /// What the others take for that address, if it is reached through the harness: the same port of another host, because systems
    /// hand out one address for everybody.
    pub fn front(&self, node: NodeId, rank: u16) -> SocketAddr {
        if self.hosts.is_some() {
            return self.port(node, rank);
        }
        address(self.subnet, FIRST_FRONT + node as u8, self.port + FIRST_PORT + rank)
    }

    /// The peer list for a node, in order of ids, with itself at its own position.
    pub fn peers(&self, node: NodeId, proxied: bool) -> Vec<SocketAddr> {
        (1..=self.nodes)
            .map(|peer| if proxied && peer != node { self.proxy(node, peer) } else { self.node(peer) })
            .collect()
    }
}

fn address((a, b): (u8, u8), host: u8, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, a, b, host), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn runs_at_the_same_time_never_share_an_address() {
        let claims = (0..20).map(|_| Addresses::claim(3).unwrap()).collect::<Vec<_>>();
        let mut seen = BTreeSet::new();
        for addresses in &claims {
            for node in 1..=3 {
                assert!(seen.insert(addresses.node(node)));
                for peer in (1..=3).filter(|&peer| peer != node) {
                    assert!(seen.insert(addresses.proxy(node, peer)));
                    assert_eq!(addresses.peers(node, true)[peer as usize - 1], addresses.proxy(node, peer));
                    assert_eq!(addresses.peers(node, false)[peer as usize - 1], addresses.node(peer));
                }
                assert_eq!(addresses.peers(node, true)[node as usize - 1], addresses.node(node));
            }
        }
    }

    #[test]
    fn the_guard_holds_the_subnet_until_it_is_dropped() {
        let addresses = Addresses::claim(1).unwrap();
        let guard = address(addresses.subnet, GUARD_HOST, addresses.port);
        assert_eq!(UdpSocket::bind(guard).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(addresses);
        assert!(UdpSocket::bind(guard).is_ok());
    }

    #[test]
    fn sizes_out_of_bounds_are_refused() {
        for nodes in [0, 64] {
            let error = Addresses::claim(nodes).unwrap_err().to_string();
            assert!(error.contains("1 to 63") && error.contains(&nodes.to_string()), "{error}");
        }
    }
}
