//! Directed links that deliver datagrams of the past again, behind the new ones: 0.3 s old and older.
//! Remembering, sending and counting is done by [`crate::net`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Behaviour, Described, Drawn, Fault, Needs, draw_links, on_links_of};
use crate::NodeId;
use crate::net::{Counters, Direction, Link, LinkCounters, Rule};

/// Replays datagrams; heals by removing the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// Chance that an old one follows a datagram, percent.
    pub percent: u8,
    /// Which links, seen from the victims.
    pub direction: Direction,
}

impl Behaviour for Replay {
    fn rules(&self, victims: &[NodeId], nodes: u32) -> Vec<(Link, Rule)> {
        on_links_of(victims, nodes, self.direction, Rule::Replay { percent: self.percent })
    }

    fn bit(&self, counters: &Counters, seen: &LinkCounters) -> bool {
        counters.replayed > 0 && seen.old > 0
    }
}

impl Described for Replay {
    const SUMMARY: &'static str = "sends a datagram that is 0.3 s old or older behind 5-40 % of those on links of the victims; evidence: old datagrams sent";
    const NEEDS: Needs = Needs::Datagrams;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let (target, direction) = draw_links(rng, dealt);
        let fault = Replay { percent: rng.random_range(if dealt { 20..=40 } else { 5..=40 }), direction };
        Drawn { fault: Fault::Replay(fault), target, duration_ms: (500, 3_000) }
    }
}
