//! Directed links that drop a part of their datagrams, each by its own draw.
//! Dropping and counting is done by [`crate::net`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Drawn, Fault, draw_links, on_links_of};
use crate::NodeId;
use crate::net::{Direction, Link, Rule};

/// One line for `harness list`.
pub(super) const SUMMARY: &str =
    "drops 10-60 % of the datagrams on links of the victims, one way or both; evidence: datagrams dropped";

/// Loses datagrams; heals by removing the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// Chance of each datagram, percent.
    pub percent: u8,
    /// Which links, seen from the victims.
    pub direction: Direction,
}

impl Loss {
    pub(super) fn rules(&self, victims: &[NodeId], nodes: u32) -> Vec<(Link, Rule)> {
        on_links_of(victims, nodes, self.direction, Rule::Lose { percent: self.percent })
    }
}

pub(super) fn draw(rng: &mut ChaCha8Rng, dealt: bool) -> Drawn {
    let (target, direction) = draw_links(rng, dealt);
    let fault = Loss { percent: rng.random_range(if dealt { 30 } else { 10 }..=60), direction };
    Drawn { fault: Fault::Loss(fault), target, duration_ms: (500, 3_000) }
}
