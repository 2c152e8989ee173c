//! Directed links that deliver a part of their datagrams twice, the copy at once or later.
//! Copying and counting is done by [`crate::net`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Behaviour, Described, Needs, Drawn, Fault, draw_links, on_links_of};
use crate::NodeId;
use crate::net::{Counters, Direction, Link, LinkCounters, Rule};

/// One line for `harness list`.
const SUMMARY: &str = "sends 10-100 % of the datagrams on links of the victims again within 200 ms; evidence: copies sent";

/// Duplicates datagrams; heals by removing the rule (copies under way still arrive).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duplicate {
    /// Chance of each datagram, percent.
    pub percent: u8,
    /// The copy follows after 0 to so many milliseconds, uniformly.
    pub within_ms: u32,
    /// Which links, seen from the victims.
    pub direction: Direction,
}

impl Behaviour for Duplicate {
    fn rules(&self, victims: &[NodeId], nodes: u32) -> Vec<(Link, Rule)> {
        let rule = Rule::Duplicate { percent: self.percent, within_ms: self.within_ms };
        on_links_of(victims, nodes, self.direction, rule)
    }

    fn bit(&self, counters: &Counters, seen: &LinkCounters) -> bool {
        counters.duplicated > 0 && seen.copied > 0
    }
}

impl Described for Duplicate {
    const SUMMARY: &'static str = SUMMARY;
    const NEEDS: Needs = Needs::Datagrams;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        draw(rng, dealt)
    }
}

fn draw(rng: &mut ChaCha8Rng, dealt: bool) -> Drawn {
    let (target, direction) = draw_links(rng, dealt);
    let fault = Duplicate {
        percent: rng.random_range(if dealt { 30 } else { 10 }..=100),
        within_ms: rng.random_range(0..=200),
        direction,
    };
    Drawn { fault: Fault::Duplicate(fault), target, duration_ms: (500, 3_000) }
}
