//! Each node steps aside once while the others tell what they hold: a state that went another way shows when its node leads, and not
//! before. For systems whose nodes do not tell what they themselves hold; whether the answers are right is the checker's business.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use checker::history::EventType;
use serde_json::{Value, json};

use crate::NodeId;
use crate::cluster::Cluster;
use crate::net::{Fabric, Traffic};
use crate::run_dir::node_name;
use crate::settle::{FINAL_ATTEMPTS, Pinned, silent};
use crate::workload::Workload;

/// More nodes than these need not step aside: their states are majorities of each other.
const TURNS_MAX: usize = 5;
/// How long the others may take to serve. Longer waits are the business of those that a verdict hangs on.
const SERVE_WITHIN: Duration = Duration::from_secs(10);
/// The reads of one turn of a very long run end here.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// How long it is looked who leads, where nobody tells.
const LOOK: Duration = Duration::from_millis(300);

/// A turn: who stepped aside, and what was read meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The node.
    pub node: NodeId,
    /// Whether one of the others served in time.
    pub served: bool,
    /// Keys that were read through it.
    pub keys: usize,
}

impl Turn {
    /// The value of its line in the history.
    pub fn to_json(&self) -> Value {
        json!({"node": node_name(self.node), "served": self.served, "keys": self.keys})
    }
}

/// Pauses each node once, first whoever leads, and reads every key through another meanwhile. Ends early if the others do not serve.
pub fn step_aside(
    cluster: &Cluster,
    fabric: &Fabric,
    pinned: &mut [Pinned<'_>],
    workload: &mut Workload,
) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    let mut left: Vec<NodeId> = pinned.iter().map(|node| node.id).collect();
    let probe = workload.probe_key();
    let keys = workload.keys();
    while turns.len() < TURNS_MAX
        && let Some(node) = leader_of(cluster, fabric, &left)
    {
        left.retain(|other| *other != node);
        if !cluster.pause(node).is_ok_and(|seen| seen.confirmed) {
            break;
        }
        let turn = turn(node, pinned, workload, &probe, &keys);
        let served = turn.served;
        turns.push(turn);
        if cluster.resume(node).is_err() || !served {
            break;
        }
    }
    turns
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

fn turn(
    aside: NodeId,
    pinned: &mut [Pinned<'_>],
    workload: &mut Workload,
    probe: &str,
    keys: &[String],
) -> Turn {
    let mut turn = Turn { node: aside, served: false, keys: 0 };
    // The next in the circle: each has its turn to be asked, too.
    let after = pinned.iter().position(|node| node.id > aside).unwrap_or_default();
    let Some(other) = pinned.get_mut(after).filter(|node| node.id != aside) else { return turn };
    let deadline = Instant::now() + SERVE_WITHIN;
    turn.served = silent(vec![&mut *other], &Mutex::new(workload), probe, deadline).is_empty();
    let deadline = Instant::now() + READ_WITHIN;
    if turn.served {
        for read in Workload::final_reads(keys) {
            if Instant::now() >= deadline {
                break;
            }
            let ok = (0..FINAL_ATTEMPTS).any(|_| other.worker.perform(&read, 0).kind == EventType::Ok);
            turn.keys += usize::from(ok);
        }
    }
    turn
}
