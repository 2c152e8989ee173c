//! A node that gets less memory than it uses: the kernel takes back what it can, such as files that it keeps for the node, which makes it
//! slow, and kills it if that is not enough. To be killed so is no fault of the node's.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Acted, Behaviour, Described, Drawn, Fault, Needs, Ongoing, ProcessFault, act, release};
use crate::NodeId;
use crate::cluster::Cluster;
use crate::target::Target;

/// Limits the memory of the victims; heals by taking the limit away, and by starting whoever was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryLimit {
    /// To so much of what they use, percent. Version 1 of control groups stops at what it cannot take back.
    pub percent: u32,
}

impl Behaviour for MemoryLimit {
    fn process(&self) -> Option<&dyn ProcessFault> {
        Some(self)
    }
}

impl ProcessFault for MemoryLimit {
    fn inject(&self, cluster: &Cluster, victims: &[NodeId]) -> Acted {
        act(victims, |node| {
            cluster.excuse_killed(node);
            cluster.limit_memory(node, self.percent.into()).inspect_err(|_| drop(cluster.release(node)))
        })
    }

    fn heal(&self, cluster: &Cluster, ongoing: &Ongoing) -> (bool, Map<String, Value>) {
        let (mut hits, mut killed) = (0, 0);
        for &node in &ongoing.nodes {
            let counts = cluster.memory_counts_since(node);
            hits += counts.hits;
            killed += counts.kills;
            cluster.unlimit_memory(node);
            // Of a node of several processes the kernel may have killed one that the others do not miss.
            if counts.kills > 0 && cluster.kill(node).is_ok() {
                let _ = cluster.start(node);
            }
        }
        let mut evidence =
            Map::from_iter([("hits".to_owned(), json!(hits)), ("killed".to_owned(), json!(killed))]);
        release(cluster, ongoing, &mut evidence);
        (ongoing.confirmed && hits + killed > 0, evidence)
    }
}

impl Described for MemoryLimit {
    const SUMMARY: &'static str = "victims get 40-90 % of the memory that they use for 0.5-3 s, by a control group each; evidence: the kernel counts what it had no room for and whom it killed; who was killed is started again";
    const NEEDS: Needs = Needs::Memory;
    const DEPOSES_LEADER: bool = true;

    fn draw(rng: &mut ChaCha8Rng, _nodes: u32, dealt: bool) -> Drawn {
        let fault = MemoryLimit { percent: rng.random_range(40..=90) };
        let target = match rng.random_range(0..6) {
            _ if dealt => Target::Leader,
            0..3 => Target::Leader,
            3..5 => Target::One,
            _ => Target::Minority,
        };
        Drawn { fault: Fault::MemoryLimit(fault), target, duration_ms: (500, 3_000) }
    }
}
