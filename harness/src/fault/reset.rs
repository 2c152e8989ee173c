//! Connections that are reset: those there are, and those that are made while the fault lasts.
//! Ending and counting is done by [`crate::net`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Behaviour, Described, Drawn, Fault, Needs, on_links_of};
use crate::NodeId;
use crate::net::{Counters, Direction, Link, LinkCounters, Rule};
use crate::target::Target;

/// Resets connections; heals by removing the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {}

impl Behaviour for Reset {
    fn rules(&self, victims: &[NodeId], nodes: u32) -> Vec<(Link, Rule)> {
        on_links_of(victims, nodes, Direction::Both, Rule::Reset)
    }

    fn bit(&self, counters: &Counters, seen: &LinkCounters) -> bool {
        counters.reset > 0 && seen.reset > 0
    }
}

impl Described for Reset {
    const SUMMARY: &'static str = "resets the connections on links of the victims, and those made meanwhile; evidence: connections reset";
    const NEEDS: Needs = Needs::Streams;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let target = match rng.random_range(0..3) {
            _ if dealt => Target::Leader,
            0 => Target::Leader,
            1 => Target::One,
            _ => Target::All,
        };
        Drawn { fault: Fault::Reset(Reset {}), target, duration_ms: (250, 1_000) }
    }
}
