//! Directed links that hold back a part of their datagrams so that later ones overtake them.
//! Holding, and counting those that were overtaken, is done by [`crate::net`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Behaviour, Described, Needs, Drawn, Fault, draw_links, on_links_of};
use crate::NodeId;
use crate::net::{Counters, Direction, Link, LinkCounters, Rule};

/// One line for `harness list`.
const SUMMARY: &str =
    "holds 10-60 % of the datagrams on links of the victims for up to 200 ms; evidence: datagrams overtaken";

/// Reorders datagrams; heals by removing the rule (those held still arrive).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reorder {
    /// Chance of each datagram to be held, percent.
    pub percent: u8,
    /// How long at most, milliseconds.
    pub hold_ms: u32,
    /// Which links, seen from the victims.
    pub direction: Direction,
}

impl Behaviour for Reorder {
    fn rules(&self, victims: &[NodeId], nodes: u32) -> Vec<(Link, Rule)> {
        let rule = Rule::Hold { percent: self.percent, hold_ms: self.hold_ms };
        on_links_of(victims, nodes, self.direction, rule)
    }

    fn bit(&self, counters: &Counters, seen: &LinkCounters) -> bool {
        counters.reordered > 0 && seen.overtaken > 0
    }
}

impl Described for Reorder {
    const SUMMARY: &'static str = SUMMARY;
    const NEEDS: Needs = Needs::Datagrams;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        draw(rng, dealt)
    }
}

fn draw(rng: &mut ChaCha8Rng, dealt: bool) -> Drawn {
    let (target, direction) = draw_links(rng, dealt);
    let fault = Reorder {
        percent: rng.random_range(if dealt { 30 } else { 10 }..=60),
        hold_ms: rng.random_range(20..=200),
        direction,
    };
    Drawn { fault: Fault::Reorder(fault), target, duration_ms: (500, 3_000) }
}
