//! A node that loses its data directory and comes back empty: a disk that was replaced.
//! Only one at a time, only where a majority remembers, and only for a system that says that it survives it: a node that forgets its
//! vote may vote twice (§5.2).

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::disks::{note_beyond, one_too_many, to_damage};
use super::{Acted, Behaviour, Described, Drawn, Fault, INSTALLED, Needs, Ongoing, ProcessFault, act};
use crate::NodeId;
use crate::cluster::Cluster;
use crate::run_dir::node_name;
use crate::target::Target;

/// Kills the victim and removes its data; heals by starting it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wipe {}

impl Behaviour for Wipe {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for Wipe {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        // One, however many the target means: with two of three empty, a majority remembers nothing.
        let victims = to_damage(cluster, victims);
        if let Some(refused) = one_too_many(cluster, victims) {
            return refused;
        }
        let mut acted = act(victims, |node| cluster.kill(node));
        for node in acted.nodes.clone() {
            match cluster.wipe(node) {
                Ok(removed) => {
                    acted.evidence.insert(format!("{}_removed", node_name(node)), json!(removed.saw));
                    if !removed.confirmed {
                        acted.outcome = super::INDETERMINATE;
                    }
                }
                Err(error) => {
                    acted.outcome = super::INDETERMINATE;
                    acted.evidence.insert(format!("{}_removed", node_name(node)), json!(error.to_string()));
                }
            }
        }
        note_beyond(cluster, &mut acted.evidence);
        // A single one is too much for a system that does not survive it.
        if !cluster.system().survives_wipe() && !acted.nodes.is_empty() {
            let nodes: Vec<_> = acted.nodes.iter().copied().map(node_name).collect();
            acted.evidence.entry("beyond").or_insert_with(|| json!(nodes));
        }
        acted
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        let started = act(&ongoing.nodes, |node| cluster.start(node));
        ongoing.nodes.iter().for_each(|node| cluster.expect_repair(*node));
        (ongoing.confirmed && started.outcome == INSTALLED, started.evidence)
    }
}

impl Described for Wipe {
    const SUMMARY: &'static str = "one node is killed, loses its data directory, and is restarted after 0.5-3 s; evidence: exit status signal 9, files removed";
    const NEEDS: Needs = Needs::Wipe;
    const DEPOSES_LEADER: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let target = if !dealt && rng.random_ratio(1, 3) { Target::Leader } else { Target::One };
        Drawn { fault: Fault::Wipe(Wipe {}), target, duration_ms: (500, 3_000) }
    }
}
