//! Directed links that change one bit of a part of their datagrams and leave the checksum as it was: the receiver's kernel drops them, as
//! it drops what a cable damaged. Needs datagrams with checksums of their own, and so hosts.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Behaviour, Described, Drawn, Fault, Needs, draw_links, on_links_of};
use crate::NodeId;
use crate::net::{Counters, Direction, Link, LinkCounters, Rule};

/// Garbles datagrams; heals by removing the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Garble {
    /// Chance of each datagram, percent.
    pub percent: u8,
    /// Which links, seen from the victims.
    pub direction: Direction,
}

impl Behaviour for Garble {
    fn rules(&self, victims: &[NodeId], nodes: u32) -> Vec<(Link, Rule)> {
        on_links_of(victims, nodes, self.direction, Rule::Garble { percent: self.percent })
    }

    fn bit(&self, counters: &Counters, seen: &LinkCounters) -> bool {
        counters.corrupted > 0 && seen.changed > 0 && seen.bad_checksum > 0
    }
}

impl Described for Garble {
    const SUMMARY: &'static str = "changes a bit of 10-60 % of the datagrams on links of the victims and leaves their checksum, for the receiver's kernel to drop; evidence: wrong checksums that the kernels of the receivers counted";
    const NEEDS: Needs = Needs::Hosts;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let (target, direction) = draw_links(rng, dealt);
        let fault = Garble { percent: rng.random_range(if dealt { 30..=60 } else { 10..=60 }), direction };
        Drawn { fault: Fault::Garble(fault), target, duration_ms: (500, 3_000) }
    }
}
