//! One node that stays away until the others are far ahead: it has to be brought up to date while clients go on.
//! Killing and starting is done by [`crate::cluster`].

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Acted, Behaviour, Described, Drawn, Fault, Needs, Ongoing, ProcessFault, act};
use crate::NodeId;
use crate::cluster::Cluster;
use crate::target::Target;

/// Kills the victim; heals by starting it, long after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartLate {}

impl Behaviour for StartLate {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for StartLate {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        act(victims, |node| cluster.kill(node))
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        (ongoing.confirmed, act(&ongoing.nodes, |node| cluster.start(node)).evidence)
    }
}

impl Described for StartLate {
    const SUMMARY: &'static str = "one node is killed and started only 4-8 s later, when the others are far ahead; evidence: exit status signal 9, the new pid";
    const NEEDS: Needs = Needs::Majority;

    fn draw(_rng: &mut ChaCha8Rng, _nodes: u32, _dealt: bool) -> Drawn {
        Drawn { fault: Fault::StartLate(StartLate {}), target: Target::One, duration_ms: (4_000, 8_000) }
    }
}
