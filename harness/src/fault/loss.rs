//! Directed links that drop a part of their datagrams, each by its own draw.
//! Dropping and counting is done by [`crate::net`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Behaviour, Described, Needs, Drawn, Fault, draw_links, on_links_of};
use crate::NodeId;
use crate::net::{Counters, Direction, Link, LinkCounters, Rule};

/// One line for `harness list`.
const SUMMARY: &str =
    "drops 10-60 % of the datagrams on links of the victims, one way or both; evidence: datagrams lost, or pieces of streams late by a retransmission";

/// Loses datagrams; heals by removing the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// Chance of each datagram, percent.
    pub percent: u8,
    /// Which links, seen from the victims.
    pub direction: Direction,
}

impl Behaviour for Loss {
    fn rules(&self, victims: &[NodeId], nodes: u32) -> Vec<(Link, Rule)> {
        on_links_of(victims, nodes, self.direction, Rule::Lose { percent: self.percent })
    }

    fn bit(&self, counters: &Counters, seen: &LinkCounters) -> bool {
        (counters.dropped > 0 && seen.lost > 0) || (counters.stalled > 0 && seen.is_late())
    }
}

impl Described for Loss {
    const SUMMARY: &'static str = SUMMARY;
    const NEEDS: Needs = Needs::Links;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        draw(rng, dealt)
    }
}

fn draw(rng: &mut ChaCha8Rng, dealt: bool) -> Drawn {
    let (target, direction) = draw_links(rng, dealt);
    let fault = Loss { percent: rng.random_range(if dealt { 30 } else { 10 }..=60), direction };
    Drawn { fault: Fault::Loss(fault), target, duration_ms: (500, 3_000) }
}
