//! Directed links of little bandwidth: what comes on top waits, and what waits too long is dropped.
//! Queueing and counting is done by [`crate::net`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Behaviour, Described, Drawn, Fault, Needs, draw_links, on_links_of};
use crate::NodeId;
use crate::net::{Counters, Direction, Link, LinkCounters, Rule};

/// Limits the rate; heals by removing the rule (what waits still arrives).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Kilobytes (1,000 bytes) a second.
    pub kbytes_per_s: u32,
    /// Which links, seen from the victims.
    pub direction: Direction,
}

impl Behaviour for Rate {
    fn rules(&self, victims: &[NodeId], nodes: u32) -> Vec<(Link, Rule)> {
        on_links_of(victims, nodes, self.direction, Rule::Rate { kbytes_per_s: self.kbytes_per_s })
    }

    fn bit(&self, counters: &Counters, seen: &LinkCounters) -> bool {
        (counters.delayed > 0 && seen.is_late()) || (counters.dropped > 0 && seen.lost > 0)
    }
}

impl Described for Rate {
    const SUMMARY: &'static str = "lets 2-50 kB/s pass on links of the victims, one way or both; evidence: what had to wait or was dropped";
    const NEEDS: Needs = Needs::Links;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let (target, direction) = draw_links(rng, dealt);
        let fault = Rate { kbytes_per_s: rng.random_range(if dealt { 2..=10 } else { 2..=50 }), direction };
        Drawn { fault: Fault::Rate(fault), target, duration_ms: (500, 3_000) }
    }
}
