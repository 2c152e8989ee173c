//! Directed links that change one bit of a part of their datagrams: what a receiver must notice by itself.
//! Changing and counting is done by [`crate::net`]; under proxies the kernel's checksum is made anew, so the bit arrives.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Behaviour, Described, Drawn, Fault, Needs, draw_links, on_links_of};
use crate::NodeId;
use crate::net::{Counters, Direction, Link, LinkCounters, Rule};

/// Corrupts datagrams; heals by removing the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corrupt {
    /// Chance of each datagram, percent.
    pub percent: u8,
    /// Which links, seen from the victims.
    pub direction: Direction,
}

impl Behaviour for Corrupt {
    fn rules(&self, victims: &[NodeId], nodes: u32) -> Vec<(Link, Rule)> {
        on_links_of(victims, nodes, self.direction, Rule::Corrupt { percent: self.percent })
    }

    fn bit(&self, counters: &Counters, seen: &LinkCounters) -> bool {
        counters.corrupted > 0 && seen.changed > 0
    }
}

impl Described for Corrupt {
    const SUMMARY: &'static str = "changes a bit of 5-40 % of the datagrams on links of the victims, which the application sees; evidence: datagrams changed";
    const NEEDS: Needs = Needs::Payloads;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let (target, direction) = draw_links(rng, dealt);
        let fault = Corrupt { percent: rng.random_range(if dealt { 20..=40 } else { 5..=40 }), direction };
        Drawn { fault: Fault::Corrupt(fault), target, duration_ms: (500, 3_000) }
    }
}
