//! The proxies between nodes and the one thread that moves datagrams through them.
//! What happens to a datagram is decided in [`super::rules`].

use std::collections::BTreeMap;
use std::io;

use super::{Counters, Link, Rule};
use crate::cluster::Addresses;

/// What passed a directed link since the start, in datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Handed to the receiver's socket, copies included.
    pub forwarded: u64,
    /// Dropped because they did not come from the link's sender.
    pub foreign: u64,
    /// Dropped because too many datagrams were being held back.
    pub overflow: u64,
    /// Refused by the kernel when they were to be sent.
    pub refused: u64,
}

/// The network of a running cluster. Dropping it stops the thread and closes the sockets.
#[derive(Debug)]
pub struct Fabric {}

impl Fabric {
    /// Binds every proxy and starts forwarding. `seed` decides the fate of datagrams.
    ///
    /// # Errors
    /// When a socket cannot be bound or the thread not started.
    pub fn start(addresses: &Addresses, seed: u64) -> io::Result<Fabric> {
        let _ = (addresses, seed);
        Ok(Fabric {})
    }

    /// Makes a fault active.
    pub fn install(&self, fault: u32, rules: Vec<(Link, Rule)>) {
        let _ = (fault, rules);
    }

    /// Heals a fault: its evidence.
    pub fn remove(&self, fault: u32) -> Counters {
        let _ = fault;
        Counters::default()
    }

    /// The evidence so far of an active fault; `None` if it is not active.
    pub fn counters(&self, fault: u32) -> Option<Counters> {
        let _ = fault;
        None
    }

    /// What passed each link.
    pub fn links(&self) -> BTreeMap<Link, LinkCounters> {
        BTreeMap::new()
    }

    /// The longest time that a datagram left after its deadline, in milliseconds: how much the harness itself lagged.
    pub fn lag_ms_max(&self) -> f64 {
        0.0
    }
}
