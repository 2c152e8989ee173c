//! Directed links that are slow: a constant and a jitter, up to longer than an election timeout.
//! Holding datagrams until their deadline is done by [`crate::net`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Behaviour, Described, Needs, Drawn, Fault, draw_links, on_links_of};
use crate::NodeId;
use crate::net::{Counters, Direction, Link, LinkCounters, Rule};
use crate::target::Target;

/// One line for `harness list`.
const SUMMARY: &str =
    "delays datagrams on links of the victims by 50 ms-1.5 s, one way or both; evidence: what was put aside or came late";

/// Delays datagrams; heals by removing the rule (those under way still arrive late).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// Every datagram waits at least so long, milliseconds.
    pub delay_ms: u32,
    /// And up to so much longer, uniformly, milliseconds.
    pub jitter_ms: u32,
    /// Which links, seen from the victims.
    pub direction: Direction,
}

impl Behaviour for Delay {
    fn rules(&self, victims: &[NodeId], nodes: u32) -> Vec<(Link, Rule)> {
        let rule = Rule::Delay { delay_ms: self.delay_ms, jitter_ms: self.jitter_ms };
        on_links_of(victims, nodes, self.direction, rule)
    }

    fn bit(&self, counters: &Counters, seen: &LinkCounters) -> bool {
        counters.delayed > 0 && seen.is_late()
    }
}

impl Described for Delay {
    const SUMMARY: &'static str = SUMMARY;
    const NEEDS: Needs = Needs::Links;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        draw(rng, dealt)
    }
}

fn draw(rng: &mut ChaCha8Rng, dealt: bool) -> Drawn {
    // The dealt one leaves the leader in office: a follower that hears it late, and others on which other faults can be seen.
    let (target, direction) =
        if dealt { (Target::Leader, Direction::OneLink) } else { draw_links(rng, false) };
    // Two regimes: slow but in time, and beyond the election timeout (200-400 ms), where answers come from a past term.
    let delay_ms =
        if rng.random_range(0..2) == 0 { rng.random_range(50..300) } else { rng.random_range(300..=1_500) };
    let jitter_ms = if rng.random_range(0..2) == 0 { 0 } else { rng.random_range(1..=delay_ms / 2) };
    let fault = Delay { delay_ms, jitter_ms, direction };
    Drawn { fault: Fault::Delay(fault), target, duration_ms: (800, 3_000) }
}
