//! SIGKILL of every node at once: what no majority remembers is gone, whatever it acknowledged.
//! Sending the signals, reaping and starting again is done by [`crate::cluster`].

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Acted, Behaviour, Described, Drawn, Fault, Needs, Ongoing, ProcessFault, act};
use crate::NodeId;
use crate::cluster::Cluster;
use crate::target::Target;

/// Kills every node that is up; heals by starting them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillAll {}

impl Behaviour for KillAll {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for KillAll {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        act(victims, |node| cluster.kill(node))
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        (ongoing.confirmed, act(&ongoing.nodes, |node| cluster.start(node)).evidence)
    }
}

impl Described for KillAll {
    const SUMMARY: &'static str = "SIGKILL of every node at once, all restarted after 0.3-0.8 s; evidence: exit status signal 9 of each, the new pids";
    const NEEDS: Needs = Needs::Nothing;
    const DEPOSES_LEADER: bool = true;

    fn draw(_rng: &mut ChaCha8Rng, _nodes: u32, _dealt: bool) -> Drawn {
        Drawn { fault: Fault::KillAll(KillAll {}), target: Target::All, duration_ms: (300, 800) }
    }
}
