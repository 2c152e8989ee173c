//! One node after the other stopped in order and started again, as an upgrade does it.
//! Stopping and starting is done by [`crate::cluster`].

use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Acted, Behaviour, Described, Drawn, Fault, INSTALLED, Needs, Ongoing, ProcessFault, SKIPPED};
use crate::NodeId;
use crate::cluster::Cluster;
use crate::target::Target;

/// Restarts the victims in their order; heals by restarting no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollingRestart {
    /// From the start of one node to the stop of the next, milliseconds.
    pub pause_ms: u32,
}

impl Behaviour for RollingRestart {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for RollingRestart {
    fn inject(&self, _cluster: &Cluster, victims: &[NodeId]) -> Acted {
        let outcome = if victims.is_empty() { SKIPPED } else { INSTALLED };
        Acted { nodes: victims.to_vec(), outcome, evidence: Map::new() }
    }

    fn tick(&self, cluster: &Cluster, ongoing: &mut Ongoing) {
        let Some(&node) = ongoing.nodes.get(ongoing.steps as usize) else { return };
        ongoing.steps += 1;
        ongoing.due = Instant::now() + Duration::from_millis(self.pause_ms.into());
        // A node that something else holds down meanwhile is left out.
        let Ok(stopped) = cluster.stop(node) else { return };
        if cluster.start(node).is_ok_and(|started| stopped.confirmed && started.pid != stopped.pid) {
            ongoing.worked += 1;
        }
    }

    fn heal(&self, _cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        (ongoing.worked > 0, Map::from_iter([("restarted".to_owned(), json!(ongoing.worked))]))
    }
}

impl Described for RollingRestart {
    const SUMMARY: &'static str = "SIGTERM and a start of one node after the other, 0.1-0.6 s between; evidence: nodes restarted";
    const NEEDS: Needs = Needs::Nothing;

    fn draw(rng: &mut ChaCha8Rng, nodes: u32, _dealt: bool) -> Drawn {
        let fault = RollingRestart { pause_ms: rng.random_range(100..=600) };
        let all_ms = u64::from(fault.pause_ms) * u64::from(nodes);
        Drawn { fault: Fault::RollingRestart(fault), target: Target::All, duration_ms: (all_ms, all_ms + 200) }
    }
}
