//! Each node has its turn to lead, and tells what it holds: a state that went another way shows when its node leads, and not before. In
//! small clusters one after the other steps aside, in larger ones all others hear that node alone, so that nobody else has a majority.
//! For systems whose nodes do not tell what they themselves hold; whether the answers are right is the checker's business.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use checker::history::EventType;
use serde_json::{Value, json};

use crate::NodeId;
use crate::cluster::Cluster;
use crate::net::{Fabric, Link, Rule, Traffic};
use crate::run_dir::node_name;
use crate::settle::{FINAL_ATTEMPTS, Pinned, silent};
use crate::workload::{Action, Operation, Workload};

/// More nodes than these need no turn: their states are majorities of each other.
const TURNS_MAX: usize = 5;
/// Of so many nodes two are no majority: who is heard by one node alone cannot lead.
const HUB_NODES: usize = 4;
/// The id of what cuts the others off from each other: no fault of a schedule has it.
const HUB_FAULT: u32 = u32::MAX - 1;
/// How long the others may take to serve. Longer waits are the business of those that a verdict hangs on.
const SERVE_WITHIN: Duration = Duration::from_secs(10);
/// The reads of one turn of a very long run end here.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// How long it is looked who leads, where nobody tells.
const LOOK: Duration = Duration::from_millis(300);

/// A turn: whose it was, and what was read meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The node.
    pub node: NodeId,
    /// Whether it was the only one that the others heard, rather than the only one that was paused.
    pub hub: bool,
    /// Whether it, or if it was paused one of the others, served in time.
    pub served: bool,
    /// Keys that were read through that one.
    pub keys: usize,
}

impl Turn {
    /// The value of its line in the history.
    pub fn to_json(&self) -> Value {
        json!({"node": node_name(self.node), "hub": self.hub, "served": self.served, "keys": self.keys})
    }
}

/// Gives each node its turn, first whoever leads: lets the others hear it alone where `links` can be cut and they are many enough, else
/// pauses it; and reads every key through it, or else through another. Ends early if nobody serves.
pub fn take_turns(
    cluster: &Cluster,
    fabric: &Fabric,
    pinned: &mut [Pinned<'_>],
    workload: &mut Workload,
    links: bool,
) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    let mut left: Vec<NodeId> = pinned.iter().map(|node| node.id).collect();
    let probe = workload.probe_key();
    let keys = workload.keys();
    let hub = links && pinned.len() >= HUB_NODES;
    while turns.len() < TURNS_MAX
        && let Some(node) = leader_of(cluster, fabric, &left)
    {
        left.retain(|other| *other != node);
        let teller = if hub {
            fabric.install(HUB_FAULT, between_others(node, cluster.places()));
            pinned.iter().position(|other| other.id == node)
        } else if cluster.pause(node).is_ok_and(|seen| seen.confirmed) {
            // The next in the circle: each has its turn to be asked, too.
            let after = pinned.iter().position(|other| other.id > node).unwrap_or_default();
            Some(after).filter(|after| pinned[*after].id != node)
        } else {
            break;
        };
        let mut turn = Turn { node, hub, served: false, keys: 0 };
        if let Some(teller) = teller.and_then(|place| pinned.get_mut(place)) {
            (turn.served, turn.keys) = tell(teller, workload, &probe, &keys);
        }
        fabric.remove(HUB_FAULT);
        let resumed = hub || cluster.resume(node).is_ok();
        let served = turn.served;
        turns.push(turn);
        if !resumed || !served {
            break;
        }
    }
    turns
}

/// Nothing passes between any two nodes but this one.
fn between_others(node: NodeId, nodes: u32) -> Vec<(Link, Rule)> {
    let others = Link::all(nodes).filter(|link| link.from != node && link.to != node);
    others.map(|link| (link, Rule::Drop)).collect()
}

/// Who leads of `nodes`: as they say, or as their links do; the first if neither tells.
fn leader_of(cluster: &Cluster, fabric: &Fabric, nodes: &[NodeId]) -> Option<NodeId> {
    if cluster.system().tells_leader() {
        let leader = cluster.leader().map(|leader| leader.node).filter(|node| nodes.contains(node));
        return leader.or(nodes.first().copied());
    }
    let mut traffic = Traffic::default();
    traffic.look(Instant::now(), || fabric.links());
    std::thread::sleep(LOOK);
    traffic.busiest(&fabric.links(), nodes).or(nodes.first().copied())
}

/// Whether a node serves in time, and how many keys were read through it.
fn tell(teller: &mut Pinned<'_>, workload: &mut Workload, probe: &str, keys: &[String]) -> (bool, usize) {
    let deadline = Instant::now() + SERVE_WITHIN;
    if !silent(vec![&mut *teller], &Mutex::new(workload), probe, deadline).is_empty() {
        return (false, 0);
    }
    let deadline = Instant::now() + READ_WITHIN;
    let mut read = |key: &String| {
        let read = Operation { key: key.clone(), action: Action::Read };
        (0..FINAL_ATTEMPTS).any(|_| teller.worker.perform(&read, 0).kind == EventType::Ok)
    };
    // The newest first: what is left out in the end was read for longest.
    let keys = keys.iter().rev().take_while(|_| Instant::now() < deadline);
    (true, keys.filter(|key| read(key)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_is_heard_by_all_and_the_others_by_nobody_else() {
        let cut = |node, nodes| {
            let rules = between_others(node, nodes);
            let links = rules.iter().map(|(link, _)| format!("{}>{}", link.from, link.to));
            links.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(cut(2, 4), "1>3 1>4 3>1 3>4 4>1 4>3");
        assert_eq!(cut(1, 2), "");
    }
}
