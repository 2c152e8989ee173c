//! SIGTERM, then a start on the same data: what an operator does, and the only fault that lets a node say goodbye.
//! Sending the signal, reaping and starting again is done by [`crate::cluster`].

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Acted, Behaviour, Described, Drawn, Fault, INSTALLED, Needs, Ongoing, ProcessFault, act};
use crate::NodeId;
use crate::cluster::Cluster;
use crate::target::Target;

/// Stops the victims in order; heals by starting them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {}

impl Behaviour for Restart {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for Restart {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        act(victims, |node| cluster.stop(node))
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        let started = act(&ongoing.nodes, |node| cluster.start(node));
        (ongoing.confirmed && started.outcome == INSTALLED, started.evidence)
    }
}

impl Described for Restart {
    const SUMMARY: &'static str = "SIGTERM, started again on the same data after 0.3-1 s; evidence: an exit by itself or by signal 15, the new pid";
    const NEEDS: Needs = Needs::Nothing;
    const DEPOSES_LEADER: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let leader = dealt || rng.random_ratio(1, 2);
        let target = if leader { Target::Leader } else { Target::One };
        Drawn { fault: Fault::Restart(Restart {}), target, duration_ms: (300, 1_000) }
    }
}
