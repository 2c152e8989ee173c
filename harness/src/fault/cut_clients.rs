//! Nodes that clients cannot reach, or only slowly, while nodes hear each other as ever: a leader that nobody can ask still leads.
//! Needs links of clients that pass the harness, and so hosts.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Behaviour, Described, Drawn, Fault, Needs, draw_slow};
use crate::NodeId;
use crate::net::{CLIENTS, Counters, Link, LinkCounters, Rule};
use crate::target::Target;

/// Cuts links to clients; heals by removing the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutClients {
    /// Which way nothing passes.
    pub way: Way,
    /// Slow by so many milliseconds rather than cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_ms: Option<u32>,
}

/// A direction, seen from the victims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Neither requests nor answers.
    Both,
    /// No requests.
    Requests,
    /// No answers: what was asked is done, and nobody learns it.
    Answers,
}

impl Behaviour for CutClients {
    fn rules(&self, victims: &[NodeId], _nodes: u32) -> Vec<(Link, Rule)> {
        let requests = |&node: &NodeId| Link { from: CLIENTS, to: node };
        let answers = |&node: &NodeId| Link { from: node, to: CLIENTS };
        let links: Vec<Link> = match self.way {
            Way::Both => victims.iter().flat_map(|node| [requests(node), answers(node)]).collect(),
            Way::Requests => victims.iter().map(requests).collect(),
            Way::Answers => victims.iter().map(answers).collect(),
        };
        links.into_iter().map(|link| (link, Rule::cut(self.slow_ms))).collect()
    }

    fn bit(&self, counters: &Counters, seen: &LinkCounters) -> bool {
        (counters.dropped > 0 && seen.lost > 0) || (counters.delayed > 0 && seen.is_late())
    }
}

impl Described for CutClients {
    const SUMMARY: &'static str = "cuts clients off from the leader, a minority or a majority, both ways, requests or answers, or makes those links slow; evidence: datagrams lost, or put aside or late";
    const NEEDS: Needs = Needs::ClientLinks;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let target = match rng.random_range(0..4) {
            _ if dealt => Target::Leader,
            0 => Target::Leader,
            1 => Target::One,
            2 => Target::Minority,
            _ => Target::Majority,
        };
        let way = [Way::Both, Way::Requests, Way::Answers][rng.random_range(0..3)];
        let fault = CutClients { way, slow_ms: draw_slow(rng, dealt) };
        Drawn { fault: Fault::CutClients(fault), target, duration_ms: (500, 2_000) }
    }
}
